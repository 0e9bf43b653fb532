//! The gates of a network's SE units over the images of a dataset.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use burn::tensor::{Device, Tensor};
use image::RgbImage;
use rayon::prelude::*;

use super::classifier::{ClassifierError, LoadedClassifier};
pub use super::look::{BlockLook, ChannelMap, Look};
use super::{Detector, DetectorError, to_device};
use crate::backbones::BackboneConfig;
use crate::backbones::summary::{TooSmall, Tracer};
use crate::excitation::blocks::traced_se_blocks;
use crate::excitation::{Collector, Excitation, ExcitationError, Origin, SeBlock, SeenImage};
use crate::weights::any::AnyWeights;
use sedet_data::DataError;
use sedet_data::annotations::Category;
use sedet_data::annotations::layout::Split;
use sedet_data::datasets::detection::DetectionDataset;
use sedet_data::datasets::labeled::LabeledDataset;
use sedet_data::datasets::registry::{AnyDatasetName, RegistryError};
use sedet_data::loading::batch::pad_images;
use sedet_data::loading::transforms::{PreparedImage, Preprocess, prepare};
use sedet_nn::nn::recording::{Depth, record};
use sedet_nn::nn::se::Gate;

/// Images that go through a classifier together.
const CLASSIFIER_BATCH: usize = 32;

/// Why gates were not measured.
#[derive(Debug, thiserror::Error)]
pub enum ExamineError {
    /// A checkpoint that gives no detector.
    #[error(transparent)]
    Detector(#[from] DetectorError),
    /// A checkpoint that gives no classifier.
    #[error(transparent)]
    Classifier(#[from] ClassifierError),
    /// An image that can't be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// No SE units, or gates that are no numbers.
    #[error(transparent)]
    Excitation(#[from] ExcitationError),
    /// An empty split.
    #[error("the dataset has no images in {split}")]
    NoImages {
        /// Which.
        split: Split,
    },
    /// Whoever asked wants no more.
    #[error("stopped")]
    Stopped,
    /// A network that takes no ordinary image.
    #[error(transparent)]
    TooSmall(#[from] TooSmall),
}

/// A trained network whose SE units are looked at.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // one of these exists per command
pub enum ExaminedNetwork {
    /// From images to classes.
    Classifier(LoadedClassifier),
    /// From images to boxes; its backbone is what is looked at.
    Detector(Detector),
}

impl ExaminedNetwork {
    /// From weights that were read from this file.
    ///
    /// # Errors
    /// Each names the file.
    pub fn from_weights(
        weights: AnyWeights,
        path: &Path,
        device: &Device,
    ) -> Result<Self, ExamineError> {
        Ok(match weights.metadata["task"] == "detection" {
            true => Self::Detector(Detector::from_weights(weights, path, device)?),
            false => Self::Classifier(LoadedClassifier::from_weights(weights, path, device)?),
        })
    }

    /// True for a detector.
    pub fn is_detector(&self) -> bool {
        matches!(self, Self::Detector(_))
    }

    /// Its classes by label; of a classifier that knows no names `class 0` and so on.
    pub fn class_names(&self) -> Vec<String> {
        match self {
            Self::Classifier(classifier) => {
                let description = &classifier.description;
                let labels = 0..description.model.num_classes;
                labels.map(|label| description.class_name(label)).collect()
            }
            Self::Detector(detector) => {
                let categories = detector.description.categories.iter();
                categories.map(|category| category.name.clone()).collect()
            }
        }
    }

    /// A detector's classes in the order of the labels, with the ids of its dataset.
    pub fn categories(&self) -> Option<&[Category]> {
        match self {
            Self::Classifier(_) => None,
            Self::Detector(detector) => Some(&detector.description.categories),
        }
    }

    /// From pixels to its input.
    pub fn preprocess(&self) -> &Preprocess {
        match self {
            Self::Classifier(classifier) => &classifier.description.preprocess,
            Self::Detector(detector) => &detector.description.preprocess,
        }
    }

    /// Padding changes the means that the units see: a classifier's images have none, a
    /// detector's what it is used with.
    pub(super) fn size_divisor(&self) -> usize {
        match self {
            Self::Classifier(_) => 1,
            Self::Detector(detector) => detector.description.preprocess.size_divisor,
        }
    }

    /// Detectors take large images, one at a time.
    fn batch_size(&self) -> usize {
        match self {
            Self::Classifier(_) => CLASSIFIER_BATCH,
            Self::Detector(_) => 1,
        }
    }

    /// The part that has SE units.
    pub fn backbone(&self) -> BackboneConfig {
        match self {
            Self::Classifier(classifier) => classifier.description.model.backbone.clone(),
            Self::Detector(detector) => {
                BackboneConfig::Resnet(detector.description.model.backbone.clone())
            }
        }
    }

    /// The network as its checkpoint describes it.
    pub fn description(&self) -> serde_json::Value {
        let metadata = match self {
            Self::Classifier(classifier) => &classifier.metadata,
            Self::Detector(detector) => &detector.metadata,
        };
        metadata["model"].clone()
    }

    /// Its SE units in the order of the forward pass.
    ///
    /// # Errors
    /// It has none.
    pub fn blocks(&self) -> Result<Vec<SeBlock>, ExamineError> {
        let blocks = self.units()?;
        match blocks.is_empty() {
            true => Err(ExcitationError::NoUnits.into()),
            false => Ok(blocks),
        }
    }

    /// The same, or none.
    pub(super) fn units(&self) -> Result<Vec<SeBlock>, TooSmall> {
        traced_se_blocks(|tracer| self.trace(tracer))
    }

    /// Note the layers of the part that has SE units.
    pub fn trace(&self, tracer: &mut Tracer) {
        match self {
            Self::Classifier(classifier) => classifier.model.backbone.trace(tracer),
            Self::Detector(detector) => detector.model.backbone.trace(tracer),
        }
    }

    fn gate(&self) -> Gate {
        self.backbone().se().map(|se| se.gate).unwrap_or_default()
    }

    /// `[batch, 3, height, width]` through the layers that have SE units.
    fn run_backbone(&self, pixels: Tensor<4>) {
        match self {
            Self::Classifier(classifier) => {
                classifier.model.backbone.forward_features(pixels);
            }
            Self::Detector(detector) => {
                detector.model.backbone.forward(pixels);
            }
        }
    }
}

/// The images that a network is shown: either kind of dataset, for either kind of network.
#[derive(Debug, Clone)]
pub enum ExaminedImages {
    /// With one class each.
    Labeled(Arc<LabeledDataset>),
    /// With boxes. An image has the classes of its boxes, which may be several or none.
    Boxes(Arc<DetectionDataset>),
}

impl ExaminedImages {
    /// One split of a dataset.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub fn open(
        name: &AnyDatasetName,
        split: Split,
        data_dir: Option<&Path>,
    ) -> Result<Self, RegistryError> {
        Ok(match name {
            AnyDatasetName::Classification(name) => {
                Self::Labeled(Arc::new(name.open_split(split, data_dir)?))
            }
            AnyDatasetName::Detection(name) => {
                Self::Boxes(name.open_split(split, data_dir)?.dataset)
            }
        })
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Labeled(dataset) => dataset.len(),
            Self::Boxes(dataset) => dataset.len(),
        }
    }

    /// True without images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// By label.
    pub fn class_names(&self) -> Vec<String> {
        match self {
            Self::Labeled(dataset) => dataset.class_names().to_vec(),
            Self::Boxes(dataset) => {
                let categories = dataset.store().categories().iter();
                categories.map(|category| category.name.clone()).collect()
            }
        }
    }

    /// What a person should know of the dataset.
    pub fn notes(&self) -> &[String] {
        match self {
            Self::Labeled(dataset) => dataset.notes(),
            Self::Boxes(_) => &[],
        }
    }

    /// Labels of an image, each once.
    fn classes_of(&self, index: usize) -> Vec<usize> {
        match self {
            Self::Labeled(dataset) => vec![dataset.label(index)],
            Self::Boxes(dataset) => {
                let annotations = dataset.store().annotations(index);
                let mut classes: Vec<usize> = annotations.map(|a| a.class).collect();
                classes.sort_unstable();
                classes.dedup();
                classes
            }
        }
    }

    fn load(&self, index: usize) -> Result<RgbImage, DataError> {
        match self {
            Self::Labeled(dataset) => dataset.load_image(index),
            Self::Boxes(dataset) => dataset.load_image(index),
        }
    }

    /// Positions of `limit` images, evenly spread: datasets are often sorted by class.
    fn chosen(&self, limit: Option<usize>) -> Vec<usize> {
        let count = limit.unwrap_or(usize::MAX).min(self.len());
        let place = |n: usize| (n as u128 * self.len() as u128 / count as u128) as usize;
        (0..count).map(place).collect()
    }
}

/// Which images of what are measured; see [`Origin`].
#[derive(Debug, Clone)]
pub struct ImageChoice {
    /// As a person names the dataset.
    pub dataset: String,
    /// Its split.
    pub split: Split,
    /// At most so many images, evenly spread over the split; all without.
    pub limit: Option<usize>,
}

/// Show images to a network and gather the statistics of its gates. `progress` is told how many
/// images are done, of how many, and may stop the work. The next batch is read meanwhile.
///
/// # Errors
/// A network without SE units, no image, the first that can't be read, gates that are no numbers, or
/// [`ExamineError::Stopped`].
pub fn examine(
    network: &ExaminedNetwork,
    images: &ExaminedImages,
    choice: &ImageChoice,
    device: &Device,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Excitation, ExamineError> {
    let classes = images.class_names();
    let mut collector = Collector::new(network.blocks()?, network.gate(), classes.len())?;
    let chosen = images.chosen(choice.limit);
    if chosen.is_empty() {
        return Err(ExamineError::NoImages {
            split: choice.split,
        });
    }
    let (sender, receiver) = sync_channel(1);
    std::thread::scope(|scope| -> Result<(), ExamineError> {
        let chosen = &chosen;
        scope.spawn(move || {
            for batch in chosen.chunks(network.batch_size()) {
                let read = read_batch(images, batch, network.preprocess());
                let failed = read.is_err();
                // The receiver is gone after an error; there is nobody to tell.
                if sender.send(read).is_err() || failed {
                    return;
                }
            }
        });
        for batch in receiver {
            add_batch(&mut collector, network, &batch?, device)?;
            if progress(collector.images() as usize, chosen.len()).is_break() {
                return Err(ExamineError::Stopped);
            }
        }
        Ok(())
    })?;
    Ok(collector.finish(Origin {
        network: network.description(),
        dataset: choice.dataset.clone(),
        split: choice.split.to_string(),
        images: 0,
        classes,
    }))
}

/// Images, and what they are.
type Batch = (Vec<PreparedImage>, Vec<SeenImage>);

fn read_batch(
    source: &ExaminedImages,
    batch: &[usize],
    preprocess: &Preprocess,
) -> Result<Batch, DataError> {
    let images = batch.par_iter();
    let images = images.map(|&index| Ok(prepare(&source.load(index)?, preprocess)));
    let images: Vec<PreparedImage> = images.collect::<Result<_, DataError>>()?;
    let seen = batch.iter().map(|&index| SeenImage {
        position: index as u32,
        classes: source.classes_of(index),
    });
    Ok((images, seen.collect()))
}

/// Neighbors of one size go through the network together.
fn add_batch(
    collector: &mut Collector,
    network: &ExaminedNetwork,
    (images, seen): &Batch,
    device: &Device,
) -> Result<(), ExcitationError> {
    let mut first = 0;
    for group in images.chunk_by(|a, b| a.input_size == b.input_size) {
        let (pixels, shape) = pad_images(group, network.size_divisor());
        let pixels = to_device(pixels, shape, device);
        let ((), recorded) = record(Depth::Gates, || network.run_backbone(pixels));
        collector.add(recorded, &seen[first..first + group.len()])?;
        first += group.len();
    }
    Ok(())
}
