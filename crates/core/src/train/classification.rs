//! The task of training a classifier.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::tensor::{Device, Tensor};

use super::batches::LoaderBatches;
use super::engine::{Losses, OpenedEpoch, TrainTask, goes_on};
use super::progress::EpochEvaluation;
use crate::classification::classifier::Classifier;
use crate::classification::losses::{soft_cross_entropy, soft_targets};
use crate::distributed::Ranks;
use crate::model::{Model, ModelError, ModelSpec, Network, to_device};
use sedet_data::datasets::labeled::LabeledDataset;
use sedet_data::eval::classification::ClassificationEvaluation;
use sedet_data::loading::{LabeledBatch, LabeledLoader, LoaderOptions, Shard, SkippedImage, Views};

/// A classifier with its data and evaluation settings.
#[derive(Debug)]
pub struct ClassificationTask {
    /// The training data.
    pub train: LabeledLoader,
    /// The validation data.
    pub val: Arc<LabeledDataset>,
    /// The model.
    pub spec: ModelSpec,
    /// Share of the target that is spread over all classes.
    pub label_smoothing: f64,
    /// The directory of evaluation results.
    pub results: PathBuf,
    /// The loader options for evaluation.
    pub evaluation: LoaderOptions,
    /// The device of the tensors.
    pub device: Device,
    /// The processes that train together.
    pub ranks: Ranks,
}

impl ClassificationTask {
    /// Evaluates a model on the validation data. Returns `None` if `stop` was set meanwhile.
    /// `progress` receives the numbers of finished and of all images.
    ///
    /// # Errors
    /// A detector, or the first image that cannot be read, unless such images are skipped.
    pub fn measure(
        &self,
        model: &Model,
        stop: &AtomicBool,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Option<(ClassificationEvaluation, Vec<SkippedImage>)>, ModelError> {
        let mut go_on = |done, all| {
            progress(done, all);
            goes_on(stop)
        };
        let found = model.classify_dataset(&self.val, Views::One, &self.evaluation, &mut go_on)?;
        Ok(found.map(|found| (found.evaluation, found.skipped)))
    }
}

impl TrainTask for ClassificationTask {
    type Model = Classifier;
    type Batch = LabeledBatch;
    type Error = ModelError;

    fn batches_per_epoch(&self) -> usize {
        self.train.batches_per_epoch()
    }

    fn batches(
        &self,
        epoch: usize,
        first: usize,
        shard: Shard,
    ) -> OpenedEpoch<LabeledBatch, ModelError> {
        let batches = self.train.share_of_epoch(epoch as u64, first, shard)?;
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
        let classes = self.spec.num_classes();
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
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Option<EpochEvaluation>, ModelError> {
        let network = Network::Classifier(model.clone());
        let model = Model::new(network, self.spec.clone(), &self.results, &self.device)
            .on_ranks(self.ranks.clone());
        let Some((found, _)) = self.measure(&model, stop, progress)? else {
            return Ok(None);
        };
        Ok(Some(EpochEvaluation {
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

    fn is_about_one_image(error: &ModelError) -> bool {
        error.is_about_one_image()
    }

    fn spec(&self) -> &ModelSpec {
        &self.spec
    }
}
