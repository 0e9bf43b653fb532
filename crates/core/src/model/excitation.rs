//! Statistics of a model's SE gates over the images of a dataset.

use burn::tensor::Tensor;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Dataset, Model, ModelError, Network, ProgressFn, to_device};
use crate::distributed::{DistributedError, Ranks};
use crate::excitation::blocks::traced_se_blocks;
use crate::excitation::collector::gate_rows;
use crate::excitation::{Collector, Excitation, ExcitationError, Origin, SeBlock, SeenImage};
use crate::spec::Task;
use sedet_data::DataError;
use sedet_data::annotations::layout::Split;
use sedet_data::images::OnBadImage;
use sedet_data::loading::SkippedImage;
use sedet_data::loading::batch::pad_images;
use sedet_data::loading::prefetch::{PrefetchLimits, with_prefetch};
use sedet_data::loading::transforms::{PreparedImage, Preprocess, prepare};
use sedet_nn::nn::recording::{Depth, record};
use sedet_nn::nn::se::{GateFunction, SeConfig};

/// Batch size of a classifier.
const CLASSIFIER_BATCH: usize = 32;

/// The choice of measured images; see [`Origin`].
#[derive(Debug, Clone)]
pub struct ImageChoice {
    /// Name of the dataset as the user gave it.
    pub dataset: String,
    /// The split.
    pub split: Split,
    /// Number of images, evenly spaced in the split; none for all.
    pub limit: Option<usize>,
    /// What to do with images that can't be read.
    pub on_bad_image: OnBadImage,
}

/// The statistics of a model's SE gates, and what they do not include.
#[derive(Debug)]
pub struct MeasuredGates {
    /// The statistics.
    pub excitation: Excitation,
    /// Images that can't be read, where those are skipped.
    pub skipped: Vec<SkippedImage>,
}

impl Model {
    /// Returns the SE units in the order of the forward pass.
    ///
    /// # Errors
    /// The network has none.
    pub fn se_blocks(&self) -> Result<Vec<SeBlock>, ModelError> {
        let blocks = self.se_blocks_or_none()?;
        if blocks.is_empty() {
            return Err(self.excitation_error(ExcitationError::NoBlocks));
        }
        Ok(blocks)
    }

    /// Returns the SE units in the order of the forward pass; an empty list for a plain network.
    pub(super) fn se_blocks_or_none(&self) -> Result<Vec<SeBlock>, ModelError> {
        traced_se_blocks(|tracer| self.trace(tracer)).map_err(|source| ModelError::TooSmall {
            path: self.path.clone(),
            source,
        })
    }

    pub(super) fn excitation_error(&self, source: ExcitationError) -> ModelError {
        ModelError::Excitation {
            path: self.path.clone(),
            source,
        }
    }

    fn gate(&self) -> GateFunction {
        let backbone = self.spec.backbone();
        let units = backbone.se();
        units.map(SeConfig::gate_function).unwrap_or_default()
    }

    /// Detectors process large images one at a time.
    fn excitation_batch_size(&self) -> usize {
        match self.task() {
            Task::Classification => CLASSIFIER_BATCH,
            Task::Detection => 1,
        }
    }

    /// Runs the layers that have SE units.
    ///
    /// # Shapes
    /// `pixels` is `[batch, 3, height, width]`.
    fn run_backbone(&self, pixels: Tensor<4>) {
        let backbone = match &self.network {
            Network::Classifier(network) => &network.backbone,
            Network::Detector(network) => &network.backbone,
        };
        backbone.forward_features(pixels, 0);
    }

    /// Runs the model on images of a dataset and collects statistics of its SE gates, with those of all ranks. Returns
    /// none if `progress` stopped it. The next batch is decoded meanwhile.
    ///
    /// # Errors
    /// A network without SE units, an empty split, the first image that can't be read, unless such images are
    /// skipped, no image that can be read, or gates that are not finite.
    pub fn record_excitation(
        &self,
        dataset: &Dataset,
        choice: &ImageChoice,
        progress: &mut ProgressFn<'_>,
    ) -> Result<Option<MeasuredGates>, ModelError> {
        let classes = dataset.class_names();
        let mut collector = Collector::new(self.se_blocks()?, self.gate(), classes.len())
            .map_err(|e| self.excitation_error(e))?;
        let chosen = dataset.spread(choice.limit);
        if chosen.is_empty() {
            return Err(ModelError::NoImages {
                split: choice.split,
            });
        }
        let batches: Vec<&[usize]> = chosen.chunks(self.excitation_batch_size()).collect();
        let (rank, size) = (self.ranks.rank(), self.ranks.size());
        let own: Vec<&[usize]> = batches.iter().skip(rank).step_by(size).copied().collect();
        let limits = PrefetchLimits {
            threads: 1,
            items: 2,
        };
        let read = |number: usize| {
            let preprocess = &self.spec.preprocess;
            read_batch(dataset, own[number], preprocess, choice.on_bad_image)
        };
        let mut skipped = Vec::new();
        let is_finished = with_prefetch(own.len(), limits, read, |own| {
            let mut is_stopped = false;
            // Ranks without a batch in the last round take part in it.
            for _ in 0..batches.len().div_ceil(size) {
                let recorded = match own.next() {
                    Some(batch) => self.record_batch(batch?),
                    None => RecordedBatch::default(),
                };
                let Some(all) = all_batches(&self.ranks, recorded, is_stopped)? else {
                    return Ok(false);
                };
                for mut batch in all {
                    skipped.append(&mut batch.skipped);
                    if !batch.seen.is_empty() {
                        collector
                            .add_rows(&batch.gates, &batch.seen)
                            .map_err(|e| self.excitation_error(e))?;
                    }
                }
                let done = collector.images() as usize + skipped.len();
                is_stopped = progress(done, chosen.len()).is_break();
                if is_stopped && self.ranks.is_alone() {
                    return Ok(false);
                }
            }
            Ok::<_, ModelError>(!self.ranks.any(is_stopped)?)
        })??;
        if !is_finished {
            return Ok(None);
        }
        if let Some(first) = skipped.first().filter(|_| skipped.len() == chosen.len()) {
            return Err(ModelError::NoUsableImage {
                images: chosen.len(),
                first: first.reason.clone(),
            });
        }
        let excitation = collector.finish(Origin {
            network: Some(self.spec.network.clone()),
            dataset: choice.dataset.clone(),
            split: choice.split.to_string(),
            images: 0,
            classes,
        });
        Ok(Some(MeasuredGates {
            excitation,
            skipped,
        }))
    }

    /// Runs a batch, consecutive images of one size together.
    fn record_batch(&self, batch: Batch) -> RecordedBatch {
        let mut gates: Vec<Vec<f32>> = Vec::new();
        let groups = batch.images.chunk_by(|a, b| a.input_size == b.input_size);
        for group in groups {
            let (pixels, shape) = pad_images(group, self.spec.size_divisor());
            let pixels = to_device(pixels, shape, &self.device);
            let ((), recorded) = record(Depth::Gates, || self.run_backbone(pixels));
            gates.resize(recorded.len(), Vec::new());
            for (rows, unit) in gates.iter_mut().zip(recorded) {
                rows.extend(gate_rows(unit.gates));
            }
        }
        RecordedBatch {
            gates,
            seen: batch.seen,
            skipped: batch.skipped,
        }
    }
}

/// The gates of a batch.
#[derive(Default)]
struct RecordedBatch {
    /// `[images, channels]` of each block; no block if no image could be read.
    gates: Vec<Vec<f32>>,
    seen: Vec<SeenImage>,
    skipped: Vec<SkippedImage>,
}

/// What a rank tells the others about a batch, beside the gates.
#[derive(Serialize, Deserialize)]
struct BatchHead {
    /// Whether this rank is to stop.
    is_stopped: bool,
    seen: Vec<SeenImage>,
    skipped: Vec<SkippedImage>,
    /// The number of gates of each block.
    lengths: Vec<usize>,
}

/// Returns the batches of one round of all ranks, in their order, so that the statistics are those of one process bit
/// for bit; none if a rank is to stop.
fn all_batches(
    ranks: &Ranks,
    own: RecordedBatch,
    is_stopped: bool,
) -> Result<Option<Vec<RecordedBatch>>, DistributedError> {
    if ranks.is_alone() {
        return Ok((!is_stopped).then(|| vec![own]));
    }
    let values = own.gates.concat();
    let heads = ranks.gather(BatchHead {
        is_stopped,
        seen: own.seen,
        skipped: own.skipped,
        lengths: own.gates.iter().map(Vec::len).collect(),
    })?;
    let values = ranks.gather_bytes(bytemuck::cast_slice(&values))?;
    if heads.iter().any(|head| head.is_stopped) {
        return Ok(None);
    }
    let batches = heads.into_iter().zip(values).map(|(head, bytes)| {
        let mut values = bytemuck::pod_collect_to_vec::<u8, f32>(&bytes).into_iter();
        let lengths = head.lengths.into_iter();
        RecordedBatch {
            gates: lengths
                .map(|length| values.by_ref().take(length).collect())
                .collect(),
            seen: head.seen,
            skipped: head.skipped,
        }
    });
    Ok(Some(batches.collect()))
}

/// Prepared images with their positions and classes.
#[derive(Default)]
struct Batch {
    images: Vec<PreparedImage>,
    seen: Vec<SeenImage>,
    skipped: Vec<SkippedImage>,
}

fn read_batch(
    dataset: &Dataset,
    indices: &[usize],
    preprocess: &Preprocess,
    on_bad_image: OnBadImage,
) -> Result<Batch, DataError> {
    let images = indices.par_iter();
    let images = images.map(|&index| Ok(prepare(&dataset.load_image(index)?, preprocess)));
    let images: Vec<Result<PreparedImage, DataError>> = images.collect();
    let mut batch = Batch::default();
    for (&index, image) in indices.iter().zip(images) {
        match image {
            Ok(image) => {
                batch.images.push(image);
                batch.seen.push(SeenImage {
                    position: index as u32,
                    classes: dataset.labels(index),
                });
            }
            Err(error) if on_bad_image == OnBadImage::Skip && error.is_about_one_image() => {
                batch.skipped.push(SkippedImage {
                    dataset_index: index,
                    reason: error.to_string(),
                });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(batch)
}
