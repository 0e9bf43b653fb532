//! The task of training a Faster R-CNN.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use burn::tensor::{Device, Tensor};

use sedet_nn::kernels::bf16::ComputePrecision;

use super::batches::LoaderBatches;
use super::engine::{BackwardPass, Losses, OpenedEpoch, TrainTask, goes_on};
use super::progress::EpochEvaluation;
use crate::detection::faster_rcnn::{FasterRcnn, FasterRcnnLosses};
use crate::detection::sampler::SampleOrder;
use crate::detection::{ImageBatch, Target, recompute};
use crate::distributed::Ranks;
use crate::model::{
    DatasetDetections, Model, ModelError, ModelSpec, Network, to_device, without_skipped,
};
use sedet_data::datasets::registry::OpenedSplit;
use sedet_data::eval::{CocoEvaluation, GroundTruth, evaluate, write_results};
use sedet_data::images::OnBadImage;
use sedet_data::loading::batch::DetectionBatch;
use sedet_data::loading::{DetectionLoader, Shard, SkippedImage};

/// A detector with its data and evaluation settings.
#[derive(Debug)]
pub struct DetectionTask {
    /// The training data.
    pub train: DetectionLoader,
    /// The validation data.
    pub val: OpenedSplit,
    /// The annotations of the validation data, for evaluation.
    pub ground_truth: GroundTruth,
    /// The model.
    pub spec: ModelSpec,
    /// The directory for detections and metrics of evaluations.
    pub results: PathBuf,
    /// Handling of images that cannot be read in evaluation.
    pub on_bad_image: OnBadImage,
    /// The device of the tensors.
    pub device: Device,
    /// The processes that train together.
    pub ranks: Ranks,
    /// Whether the backward pass recomputes the backbone instead of keeping its feature maps; see
    /// [`recompute`].
    pub recompute: bool,
}

impl DetectionTask {
    fn to_tensors(&self, batch: DetectionBatch) -> (ImageBatch, Vec<Target>) {
        let input_sizes = batch.images.iter().map(|i| i.input_size).collect();
        let targets = batch.images.into_iter().map(|image| Target {
            boxes_in_input: image.boxes_in_input,
            labels: image.labels,
        });
        let targets = targets.collect();
        let pixels = Tensor::from_inner(to_device(batch.pixels, batch.shape, &self.device));
        let batch = ImageBatch {
            pixels,
            input_sizes,
        };
        (batch, targets)
    }

    /// Detects, evaluates and writes the detections. Also returns the skipped images. Returns
    /// `None` if `stop` was set meanwhile. `progress` receives the numbers of finished and of all
    /// images.
    ///
    /// # Errors
    /// A classifier, an image that cannot be read, or a results file that cannot be written.
    pub fn measure(
        &self,
        model: &Model,
        stop: &AtomicBool,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Option<(CocoEvaluation, Vec<SkippedImage>)>, ModelError> {
        let found =
            model.detect_dataset(&self.val.dataset, self.on_bad_image, &mut |done, all| {
                progress(done, all);
                goes_on(stop)
            })?;
        let Some(DatasetDetections { rows, skipped }) = found else {
            return Ok(None);
        };
        if self.ranks.is_first() {
            write_results(&self.results.join("detections.json"), &rows)?;
        }
        let store = self.val.dataset.store();
        let evaluation = if skipped.is_empty() {
            evaluate(&self.ground_truth, &rows)?
        } else {
            let truth = without_skipped(self.ground_truth.clone(), &skipped, store)?;
            evaluate(&truth, &rows)?
        };
        Ok(Some((evaluation, skipped)))
    }
}

fn by_name(losses: FasterRcnnLosses) -> Losses {
    let parts = losses.parts().into_iter();
    Losses {
        total: losses.total(),
        parts: parts.map(|(name, tensor)| (name, tensor.clone())).collect(),
    }
}

impl TrainTask for DetectionTask {
    type Model = FasterRcnn;
    type Batch = DetectionBatch;
    type Error = ModelError;

    fn batches_per_epoch(&self) -> usize {
        self.train.batches_per_epoch()
    }

    fn batches(
        &self,
        epoch: usize,
        first: usize,
        shard: Shard,
    ) -> OpenedEpoch<DetectionBatch, ModelError> {
        let batches = self.train.share_of_epoch(epoch as u64, first, shard)?;
        Ok(Box::new(LoaderBatches(batches)))
    }

    fn batch_len(&self, batch: &DetectionBatch) -> usize {
        batch.images.len()
    }

    fn describe(&self, batch: &DetectionBatch) -> Vec<String> {
        batch
            .images
            .iter()
            .map(|i| format!("{} ({})", i.image_id, i.file_name))
            .collect()
    }

    fn losses(&self, model: &FasterRcnn, batch: DetectionBatch, seed: u64) -> Losses {
        let (batch, targets) = self.to_tensors(batch);
        let mut order = SampleOrder::shuffled(seed);
        by_name(model.losses(batch, &targets, &mut order))
    }

    fn losses_and_backward<'m>(
        &self,
        model: &'m FasterRcnn,
        batch: DetectionBatch,
        seed: u64,
    ) -> (Losses, BackwardPass<'m>) {
        if !self.recompute {
            let losses = self.losses(model, batch, seed);
            let backward = losses.backward(model);
            return (losses, backward);
        }
        let (batch, targets) = self.to_tensors(batch);
        let mut order = SampleOrder::shuffled(seed);
        let (losses, waiting) = recompute::losses(model, batch, &targets, &mut order);
        let losses = by_name(losses);
        let total = losses.total.clone();
        (losses, Box::new(move || waiting.backward(model, &total)))
    }

    fn evaluate(
        &self,
        model: &FasterRcnn,
        stop: &AtomicBool,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Option<EpochEvaluation>, ModelError> {
        let network = Network::Detector(model.clone().folded(ComputePrecision::F32));
        let model = Model::new(network, self.spec.clone(), &self.results, &self.device)
            .on_ranks(self.ranks.clone());
        let Some((evaluation, _)) = self.measure(&model, stop, progress)? else {
            return Ok(None);
        };
        Ok(Some(EpochEvaluation {
            score: evaluation.metrics.ap,
            loss: None,
            metrics: evaluation
                .metrics
                .named()
                .into_iter()
                .map(|(name, value)| (name.to_string(), value))
                .collect(),
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
