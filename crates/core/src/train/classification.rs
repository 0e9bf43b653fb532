//! The task of training a classifier.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use burn::tensor::{Device, Tensor};
use serde_json::Value;

use super::engine::{Batches, Evaluation, Losses, OpenedEpoch, TrainTask, goes_on};
use crate::classification::classifier::Classifier;
use crate::classification::losses::{soft_cross_entropy, soft_targets};
use crate::predict::classifier::{Classified, ClassifierDescription, classify_dataset};
use crate::predict::to_device;
use sedet_data::DataError;
use sedet_data::datasets::labeled::LabeledDataset;
use sedet_data::loading::{
    EpochBatches, LabeledBatch, LabeledLoader, LoaderOptions, SkippedImage, Views,
};

/// A classifier, its data and how it is measured.
#[derive(Debug)]
pub struct ClassificationTask {
    /// What is learnt from.
    pub train: LabeledLoader,
    /// What is measured on.
    pub val: Arc<LabeledDataset>,
    /// The network and its classes.
    pub description: ClassifierDescription,
    /// Share of the target that is spread over all classes.
    pub label_smoothing: f64,
    /// How images are read for evaluation.
    pub evaluation: LoaderOptions,
    /// Of the tensors.
    pub device: Device,
}

impl ClassificationTask {
    /// Classify all images that are measured on; nothing if `stop` was set meanwhile.
    ///
    /// # Errors
    /// The first image that can't be read, unless such are left out.
    pub fn measure(
        &self,
        model: &Classifier,
        stop: &AtomicBool,
    ) -> Result<Option<Classified>, DataError> {
        classify_dataset(
            model,
            &self.description,
            &self.val,
            Views::One,
            &self.evaluation,
            &self.device,
            &mut |_, _| goes_on(stop),
        )
    }
}

/// The loader's batches.
struct LoaderBatches(EpochBatches<LabeledBatch>);

impl Iterator for LoaderBatches {
    type Item = Result<LabeledBatch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

impl Batches<LabeledBatch, DataError> for LoaderBatches {
    fn waited(&self) -> Duration {
        self.0.wait_time()
    }

    fn next_batch(&self) -> usize {
        self.0.next_batch()
    }
}

impl TrainTask for ClassificationTask {
    type Model = Classifier;
    type Batch = LabeledBatch;
    type Error = DataError;

    fn batches_per_epoch(&self) -> usize {
        self.train.batches_per_epoch()
    }

    fn batches(&self, epoch: usize, first: usize) -> OpenedEpoch<LabeledBatch, DataError> {
        let batches = self.train.epoch(epoch as u64, first)?;
        Ok(Box::new(LoaderBatches(batches)))
    }

    fn batch_len(&self, batch: &LabeledBatch) -> usize {
        batch.labels.len()
    }

    fn describe(&self, batch: &LabeledBatch) -> Vec<String> {
        batch.names.clone()
    }

    fn losses(&self, model: &Classifier, batch: LabeledBatch, seed: u64) -> Losses {
        // Dropout and Shake-Shake draw from the device's random numbers.
        self.device.seed(seed);
        let labels: Vec<_> = batch.labels.iter().map(|l| (l.label, l.other)).collect();
        let classes = self.description.model.num_classes;
        let targets = soft_targets(&labels, classes, self.label_smoothing, &self.device);
        let pixels = to_device(batch.pixels, batch.shape, &self.device);
        let logits = model.forward(Tensor::from_inner(pixels));
        Losses {
            total: soft_cross_entropy(logits, Tensor::from_inner(targets)),
            parts: Vec::new(),
        }
    }

    fn evaluate(
        &self,
        model: &Classifier,
        stop: &AtomicBool,
    ) -> Result<Option<Evaluation>, DataError> {
        let Some((found, _)) = self.measure(model, stop)? else {
            return Ok(None);
        };
        Ok(Some(Evaluation {
            score: found.top1,
            loss: Some(found.loss),
            metrics: vec![
                ("top1".into(), found.top1),
                ("top5".into(), found.top5),
                ("val_loss".into(), found.loss),
            ],
        }))
    }

    fn skipped(&self) -> Vec<SkippedImage> {
        self.train.skipped()
    }

    fn is_about_one_image(error: &DataError) -> bool {
        error.is_about_one_image()
    }

    fn metadata(&self) -> Value {
        self.description.to_metadata()
    }
}
