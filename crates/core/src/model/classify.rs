//! Classification of single images and of datasets.

use std::sync::Arc;

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};
use image::RgbImage;

use super::{Model, ModelError, ProgressFn, Task, all_skipped, to_device};
use crate::classification::classifier::Classifier;
use crate::device::Backend;
use crate::distributed::{DistributedError, Ranks, SharedWork};
use sedet_data::datasets::labeled::LabeledDataset;
use sedet_data::eval::classification::{
    ClassificationEvaluation, ClassificationScores, ImageScore, TOP, top_classes,
};
use sedet_data::loading::batch::pad_images;
use sedet_data::loading::transforms::{PreparedImage, prepare};
use sedet_data::loading::{LoaderOptions, Shard, SkippedImage, Views, evaluation_batches};

/// Number of classes that [`Model::predict`] returns.
pub const DEFAULT_TOP: usize = TOP;

/// Pixels of a batch on the CPU: 100 images of CIFAR, 2 of 224x224. A batch of 32 images of 32x32 takes a quarter less
/// time per image than one alone (ResNet-20, one thread of an AMD EPYC); at 224 no batch from 2 to 32 takes less
/// (ResNet-50, SE-ResNet-50, MobileNet), and 100 images cost 1.1 GB (ResNet-50).
const BATCH_PIXELS: usize = 100 * 32 * 32;
/// The most images of a batch, and the number of a GPU, which has more to do at a time with more of them.
const MOST_IMAGES: usize = 100;

/// A class with its probability.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct RankedClass {
    /// Index of the class.
    pub label: usize,
    /// Name of the class.
    pub name: String,
    /// Softmax of the logits.
    pub probability: f32,
}

/// A dataset that a classifier was run on.
#[derive(Debug, Clone)]
pub struct ClassifiedDataset {
    /// The metrics.
    pub evaluation: ClassificationEvaluation,
    /// For each image its index in the dataset and its best classes: positions in the classes of the metrics, with
    /// their probabilities.
    pub top: Vec<(usize, Vec<(usize, f32)>)>,
    /// The images that cannot be read.
    pub skipped: Vec<SkippedImage>,
}

impl Model {
    /// Returns the number of images to compute at a time where there are many: for detectors, whose images are large
    /// and of different sizes, one.
    pub fn batch_size(&self, backend: Backend) -> usize {
        let side = self.spec.preprocess.input_side().max(1);
        match (self.task(), backend) {
            (Task::Detection, _) => 1,
            (Task::Classification, Backend::Cpu) => {
                (BATCH_PIXELS / (side * side)).clamp(1, MOST_IMAGES)
            }
            (Task::Classification, Backend::Wgpu | Backend::Cuda) => MOST_IMAGES,
        }
    }

    /// Returns the logits of all classes for each image.
    ///
    /// # Errors
    /// The model is a detector.
    pub fn logits(&self, images: &[RgbImage]) -> Result<Vec<Vec<f32>>, ModelError> {
        let network = self.classifier()?;
        Ok(self.logits_with(network, images))
    }

    fn logits_with(&self, network: &Classifier, images: &[RgbImage]) -> Vec<Vec<f32>> {
        let prepared: Vec<PreparedImage> = images
            .iter()
            .map(|image| prepare(image, &self.spec.preprocess))
            .collect();
        forward_each(network, &prepared, &self.device)
    }

    /// Returns the `count` most probable classes of an image, by descending probability.
    ///
    /// # Errors
    /// The model is a detector.
    pub fn classify(&self, image: &RgbImage, count: usize) -> Result<Vec<RankedClass>, ModelError> {
        let logits = self.logits_of(self.classifier()?, image);
        Ok(self.ranked(logits, count))
    }

    /// Returns the logits of all classes for one image.
    pub(super) fn logits_of(&self, network: &Classifier, image: &RgbImage) -> Vec<f32> {
        self.logits_with(network, std::slice::from_ref(image))
            .concat()
    }

    /// Returns the `count` most probable classes, by descending probability.
    pub(super) fn ranked(&self, logits: Vec<f32>, count: usize) -> Vec<RankedClass> {
        let classes = logits.len();
        let probabilities: Vec<f32> = softmax(
            Tensor::<1>::from_data(TensorData::new(logits, [classes]), &self.device),
            0,
        )
        .into_data()
        .iter::<f32>()
        .collect();
        let mut ranked: Vec<RankedClass> = probabilities
            .into_iter()
            .enumerate()
            .map(|(label, probability)| RankedClass {
                label,
                name: self.spec.class_name(label),
                probability,
            })
            .collect();
        // Stable: of equal probabilities the first class.
        ranked.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        ranked.truncate(count);
        ranked
    }

    /// Evaluates a classifier on a dataset and returns the metrics, the best classes of each image, and the images that
    /// were skipped because they can't be read. The logits of several views of an image are averaged. Returns
    /// none if `progress` stopped it.
    ///
    /// Classes are matched by name ([`match_classes`](Self::match_classes)); the metrics have the order
    /// of the dataset, followed by the classes that it lacks, which the model can still predict.
    ///
    /// # Errors
    /// A detector, a dataset with classes that the model does not have, the first image that can't be
    /// read (or that none can), or invalid options.
    pub fn classify_dataset(
        &self,
        dataset: &Arc<LabeledDataset>,
        views: Views,
        options: &LoaderOptions,
        progress: &mut ProgressFn<'_>,
    ) -> Result<Option<ClassifiedDataset>, ModelError> {
        let network = self.classifier()?;
        let order = self.match_classes(dataset.class_names())?.order();
        let lacking = order.iter().skip(dataset.class_names().len());
        let mut names = dataset.class_names().to_vec();
        names.extend(lacking.map(|&label| self.spec.class_name(label)));
        let total = dataset.len();
        let mut scores = ClassificationScores::new(self.spec.num_classes());
        let preprocess = self.spec.preprocess;
        let (rank, size) = (self.ranks.rank(), self.ranks.size());
        let shard = Shard {
            rank,
            size,
            group: size,
        };
        let count = total.div_ceil(options.batch_size.max(1)).div_ceil(size);
        let mut work = SharedWork::new(&self.ranks, count);
        let mut own: Vec<(usize, ImageScore, Top)> = Vec::new();
        let mut batches = evaluation_batches(dataset.clone(), preprocess, views, options, shard)?;
        while let Some(batch) = batches.next_or_skipped() {
            let Some(batch) = batch? else {
                if !work.goes_on(false)? {
                    return Ok(None);
                }
                continue;
            };
            let images: Vec<PreparedImage> = batch.iter().flat_map(|p| p.views.clone()).collect();
            let logits = forward_each(network, &images, &self.device);
            let mut logits = logits.into_iter();
            for image in &batch {
                let views: Vec<Vec<f32>> = logits.by_ref().take(image.views.len()).collect();
                let logits = mean(&views);
                let logits: Vec<f32> = order.iter().map(|&label| logits[label]).collect();
                let score = ImageScore::of(&logits, image.label);
                own.push((image.index, score, top_classes(&logits)));
            }
            let is_stopped = progress((size * own.len()).min(total), total).is_break();
            if !work.goes_on(is_stopped)? {
                return Ok(None);
            }
        }
        if !work.finish()? {
            return Ok(None);
        }
        let mut top = Vec::new();
        for (index, score, best) in all_scores(&self.ranks, own)? {
            scores.add(&score);
            top.push((index, best));
        }
        let skipped = all_skipped(&self.ranks, batches.skipped())?;
        if scores.images() == 0
            && let Some(first) = skipped.first()
        {
            return Err(ModelError::NoUsableImage {
                images: total,
                first: first.reason.clone(),
            });
        }
        Ok(Some(ClassifiedDataset {
            evaluation: scores.evaluation(&names),
            top,
            skipped,
        }))
    }
}

/// The best classes of an image with their probabilities.
type Top = Vec<(usize, f32)>;

/// Returns the scores and best classes of all ranks, in the order of the images.
fn all_scores(
    ranks: &Ranks,
    own: Vec<(usize, ImageScore, Top)>,
) -> Result<Vec<(usize, ImageScore, Top)>, DistributedError> {
    let own = own.into_iter().map(|(index, score, top)| {
        // Bits instead of numbers: text would round them.
        let [loss, confidence] = [score.loss, score.confidence].map(f64::to_bits);
        let top = top.into_iter().map(|(class, p)| (class, p.to_bits()));
        (
            index,
            score.label,
            score.predicted,
            score.rank,
            loss,
            confidence,
            top.collect::<Vec<_>>(),
        )
    });
    let mut all = ranks.gather(own.collect::<Vec<_>>())?.concat();
    all.sort();
    let scores = all
        .into_iter()
        .map(|(index, label, predicted, rank, loss, confidence, top)| {
            let score = ImageScore {
                label,
                predicted,
                rank,
                loss: f64::from_bits(loss),
                confidence: f64::from_bits(confidence),
            };
            let top = top.into_iter().map(|(class, p)| (class, f32::from_bits(p)));
            (index, score, top.collect())
        });
    Ok(scores.collect())
}

/// Returns the logits of each image. Consecutive images of one size are batched; nothing is padded,
/// because global pooling would include the padding.
fn forward_each(network: &Classifier, images: &[PreparedImage], device: &Device) -> Vec<Vec<f32>> {
    let mut logits = Vec::with_capacity(images.len());
    for group in images.chunk_by(|a, b| a.input_size == b.input_size) {
        let (pixels, shape) = pad_images(group, 1);
        let scores = network.forward(to_device(pixels, shape, device));
        let [_, classes] = scores.dims();
        let values: Vec<f32> = scores.into_data().iter::<f32>().collect();
        logits.extend(values.chunks(classes.max(1)).map(<[f32]>::to_vec));
    }
    logits
}

/// Returns the mean of equally long rows.
fn mean(rows: &[Vec<f32>]) -> Vec<f32> {
    match rows {
        [one] => one.clone(),
        _ => {
            let length = rows.first().map_or(0, Vec::len);
            let at = |i: usize| rows.iter().map(|row| row[i]).sum::<f32>() / rows.len() as f32;
            (0..length).map(at).collect()
        }
    }
}
