//! Using a trained detector: from images to boxes in their pixels.

pub mod classifier;
pub mod excitation;
pub mod look;

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use image::RgbImage;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::detection::ImageBatch;
use crate::detection::faster_rcnn::{FasterRcnn, FasterRcnnConfig};
use crate::weights::any::{AnyWeights, LoadError, load_any};
use crate::weights::parameters::{ParameterError, fill_with_tensors};
use sedet_data::DataError;
use sedet_data::annotations::{AnnotationStore, Category};
use sedet_data::boxes::BoxXyxy;
use sedet_data::datasets::detection::DetectionDataset;
use sedet_data::eval::{EvalError, GroundTruth, ResultRow};
use sedet_data::loading::batch::pad_images;
use sedet_data::loading::transforms::{Preprocess, prepare, whole_image};
use sedet_data::loading::{OnBadImage, SkippedImage};

/// Why a checkpoint gives no detector.
#[derive(Debug, thiserror::Error)]
pub enum DetectorError {
    /// The file.
    #[error(transparent)]
    File(#[from] LoadError),
    /// Weights of something else.
    #[error("{}: a network for {task}, not a detector", path.display())]
    NotADetector {
        /// The file.
        path: PathBuf,
        /// What it is for.
        task: String,
    },
    /// Another program's file that lacks parts of the network.
    #[error(
        "{}: {fresh} tensors of the network are missing or of another shape; train it first (sedet \
         train --weights)", path.display()
    )]
    Incomplete {
        /// The file.
        path: PathBuf,
        /// How many tensors.
        fresh: usize,
    },
    /// The description in its header.
    #[error("{}: its description of the detector is not understood: {source}", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The tensors.
    #[error("{}: {source}", path.display())]
    Parameters {
        /// The file.
        path: PathBuf,
        /// Which.
        source: ParameterError,
    },
}

/// Everything beside the weights that makes a detector: stored in every checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DetectorDescription {
    /// The network.
    pub model: FasterRcnnConfig,
    /// From pixels to its input.
    #[serde(deserialize_with = "whole_image")]
    pub preprocess: Preprocess,
    /// Its classes in the order of the labels, with their original ids.
    pub categories: Vec<Category>,
}

impl DetectorDescription {
    /// Out of a checkpoint's metadata, with a backbone that can be built.
    fn from_metadata(metadata: &Value) -> Result<Self, serde_json::Error> {
        let description = Self::deserialize(metadata)?;
        let backbone = description.model.backbone.validate();
        backbone.map_err(serde::de::Error::custom)?;
        Ok(description)
    }

    /// As a checkpoint's metadata.
    pub fn to_metadata(&self) -> Value {
        let mut metadata = json!(self);
        metadata["format"] = 1.into();
        metadata["task"] = "detection".into();
        metadata
    }
}

/// One object in an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImageDetection {
    /// In pixels of the image.
    pub box_in_image: BoxXyxy,
    /// Index into the categories.
    pub label: usize,
    /// Probability.
    pub score: f32,
}

/// A detector ready for use.
#[derive(Debug)]
pub struct Detector {
    /// The network, in evaluation mode.
    pub model: FasterRcnn,
    /// What it is.
    pub description: DetectorDescription,
    /// The whole metadata of the checkpoint.
    pub metadata: Value,
    device: Device,
}

impl Detector {
    /// From a checkpoint of this program, or a file of another one.
    ///
    /// # Errors
    /// Each names the file.
    pub fn load(path: &Path, device: &Device) -> Result<Self, DetectorError> {
        Self::from_weights(load_any(path, None)?, path, device)
    }

    /// From weights that were read from this file.
    ///
    /// # Errors
    /// Each names the file.
    pub fn from_weights(
        loaded: AnyWeights,
        path: &Path,
        device: &Device,
    ) -> Result<Self, DetectorError> {
        let fresh = loaded.fresh_count();
        if fresh > 0 {
            return Err(DetectorError::Incomplete {
                path: path.to_path_buf(),
                fresh,
            });
        }
        let AnyWeights {
            metadata, weights, ..
        } = loaded;
        if metadata["task"] != "detection" {
            let task = metadata["task"].as_str().unwrap_or("an unknown task");
            return Err(DetectorError::NotADetector {
                path: path.to_path_buf(),
                task: task.to_string(),
            });
        }
        let description = DetectorDescription::from_metadata(&metadata).map_err(|source| {
            DetectorError::Description {
                path: path.to_path_buf(),
                source,
            }
        })?;
        let model = fill_with_tensors(description.model.init(device).valid(), weights).map_err(
            |source| DetectorError::Parameters {
                path: path.to_path_buf(),
                source,
            },
        )?;
        Ok(Self {
            model: model.folded(),
            description,
            metadata,
            device: device.clone(),
        })
    }

    /// The objects of one image, best first.
    pub fn detect(&self, image: &RgbImage) -> Vec<ImageDetection> {
        detect(
            &self.model,
            &self.description.preprocess,
            image,
            &self.device,
        )
    }
}

/// A batch of the loader as tensors on a device (without autodiff).
pub fn to_device(pixels: Vec<f32>, shape: [usize; 4], device: &Device) -> Tensor<4> {
    let plain = device.clone().inner();
    Tensor::from_data(TensorData::new(pixels, shape), &plain)
}

fn detect(
    model: &FasterRcnn,
    preprocess: &Preprocess,
    image: &RgbImage,
    device: &Device,
) -> Vec<ImageDetection> {
    let prepared = [prepare(image, preprocess)];
    let (pixels, shape) = pad_images(&prepared, preprocess.size_divisor);
    let found = model.detect(ImageBatch {
        pixels: to_device(pixels, shape, device),
        input_sizes: vec![prepared[0].input_size],
    });
    found
        .into_iter()
        .flatten()
        .map(|d| ImageDetection {
            box_in_image: prepared[0].to_image(d.box_in_input),
            label: d.label,
            score: d.score,
        })
        .collect()
}

/// What was found in a dataset.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DatasetDetections {
    /// COCO results with the original ids of the network's classes.
    pub rows: Vec<ResultRow>,
    /// Images that can't be read, where that is no error.
    pub unread: Vec<SkippedImage>,
}

/// The detections of every image of a dataset; nothing if `progress`, which hears the images done
/// and all of them, broke it off.
///
/// One image at a time, as torchvision's and detectron2's evaluations: padding an image to a
/// larger neighbor changes its numbers. The next image is decoded meanwhile.
///
/// # Errors
/// The first image that can't be read, unless such are to be skipped.
pub fn detect_dataset(
    model: &FasterRcnn,
    preprocess: &Preprocess,
    categories: &[Category],
    dataset: &DetectionDataset,
    on_bad_image: OnBadImage,
    device: &Device,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Option<DatasetDetections>, DataError> {
    let total = dataset.len();
    let (sender, receiver) = std::sync::mpsc::sync_channel(2);
    let mut found = DatasetDetections::default();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for index in 0..total {
                // The receiver is gone after an error; there is nobody to tell.
                if sender.send((index, dataset.load_image(index))).is_err() {
                    return;
                }
            }
        });
        for (index, image) in receiver {
            match image {
                Ok(image) => {
                    let image_id = dataset.store().image(index).id;
                    let detections = detect(model, preprocess, &image, device);
                    found.rows.extend(detections.into_iter().map(|d| {
                        let category = categories[d.label].id;
                        ResultRow::new(image_id, category, d.box_in_image, d.score)
                    }));
                }
                Err(error) if on_bad_image == OnBadImage::Skip && error.is_about_one_image() => {
                    found.unread.push(SkippedImage {
                        dataset_index: index,
                        reason: error.to_string(),
                    });
                }
                Err(error) => return Err(error),
            }
            if progress(index + 1, total).is_break() {
                return Ok(None);
            }
        }
        Ok(Some(found))
    })
}

/// The ground truth of what was measured: without the images that can't be read, which the network
/// did not see either.
///
/// # Errors
/// None of the images could be read.
pub fn without_unread(
    truth: GroundTruth,
    unread: &[SkippedImage],
    store: &AnnotationStore,
) -> Result<GroundTruth, EvalError> {
    if unread.is_empty() {
        return Ok(truth);
    }
    let unread: HashSet<u64> = unread
        .iter()
        .map(|image| store.image(image.dataset_index).id)
        .collect();
    let read = truth.images().iter().map(|image| image.id);
    truth.restricted_to(&read.filter(|id| !unread.contains(id)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbones::zoo::backbone;
    use crate::detection::faster_rcnn::Preset;
    use crate::weights::layouts::Network;

    #[test]
    fn a_detector_that_would_see_only_the_center_is_refused() {
        let mut description = DetectorDescription {
            model: FasterRcnnConfig::new(Preset::Torchvision, backbone("resnet18").unwrap(), 1),
            preprocess: Preprocess::torchvision(),
            categories: Vec::new(),
        };
        let read = |description: &DetectorDescription| {
            DetectorDescription::from_metadata(&description.to_metadata())
        };
        assert_eq!(read(&description).unwrap(), description);
        description.preprocess.center_crop = Some(224);
        let message = read(&description).unwrap_err().to_string();
        assert!(
            message.contains("center_crop: 224 is for classifiers only"),
            "{message}"
        );
        let network = json!(Network::Detection {
            model: description.model.clone(),
            preprocess: description.preprocess,
        });
        assert!(serde_json::from_value::<Network>(network).is_err());
    }
}
