//! Using a trained classifier.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::module::Module as _;
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};
use image::RgbImage;
use serde_json::{Value, json};

use crate::classification::classifier::{Classifier, ClassifierConfig};
use crate::weights::any::{AnyWeights, LoadError, load_any, metadata_of};
use crate::weights::layouts::Network;
use crate::weights::parameters::{ParameterError, fill_with_tensors};
use sedet_data::DataError;
use sedet_data::annotations::Category;
use sedet_data::datasets::labeled::LabeledDataset;
use sedet_data::eval::classification::{ClassificationEvaluation, ClassificationScores};
use sedet_data::loading::batch::pad_images;
use sedet_data::loading::transforms::{PreparedImage, Preprocess, prepare};
use sedet_data::loading::{LabeledViews, LoaderOptions, SkippedImage, Views, evaluation_batches};

/// So many of the likeliest classes are shown unless a person asks for others.
pub const BEST_CLASSES: usize = 5;

/// Why a file gives no classifier.
#[derive(Debug, thiserror::Error)]
pub enum ClassifierError {
    /// The file.
    #[error(transparent)]
    File(#[from] LoadError),
    /// Weights of something else, or a description that is not understood.
    #[error("{}: not a classifier: {reason}", path.display())]
    NotAClassifier {
        /// The file.
        path: PathBuf,
        /// What it is.
        reason: String,
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

/// Everything beside the weights that makes a classifier: stored in every checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassifierDescription {
    /// The network.
    pub model: ClassifierConfig,
    /// From pixels to its input.
    pub preprocess: Preprocess,
    /// By label; empty where nobody knows them.
    pub class_names: Vec<String>,
}

impl ClassifierDescription {
    /// As a checkpoint's metadata. The classes are categories with their labels for ids.
    pub fn to_metadata(&self) -> Value {
        let network = Network::Classification {
            model: self.model.clone(),
            preprocess: self.preprocess,
        };
        let mut metadata = metadata_of(&network);
        if !self.class_names.is_empty() {
            let categories = self.class_names.iter().enumerate();
            let categories: Vec<Category> = categories
                .map(|(label, name)| Category {
                    id: label as u64,
                    name: name.clone(),
                })
                .collect();
            metadata["categories"] = json!(categories);
        }
        metadata
    }

    /// Out of a checkpoint's metadata, with a backbone that can be built and an input that is large
    /// enough for it.
    ///
    /// # Errors
    /// What is not understood or can't be, or that it describes a detector.
    pub fn from_metadata(metadata: &Value) -> Result<Self, String> {
        let described = json!({
            "task": metadata["task"],
            "model": metadata["model"],
            "preprocess": metadata["preprocess"],
        });
        let network = serde_json::from_value(described).map_err(|e| e.to_string())?;
        let Network::Classification { model, preprocess } = network else {
            return Err("it is a detector".to_string());
        };
        model.backbone.validate().map_err(|e| e.to_string())?;
        preprocess.validate().map_err(|e| e.to_string())?;
        let side = preprocess.input_side();
        model.summary([side; 2]).map_err(|e| e.to_string())?;
        let class_names: Vec<String> = match &metadata["categories"] {
            Value::Null => Vec::new(),
            list => {
                let categories: Vec<Category> =
                    serde_json::from_value(list.clone()).map_err(|e| e.to_string())?;
                categories.into_iter().map(|c| c.name).collect()
            }
        };
        if !class_names.is_empty() && class_names.len() != model.num_classes {
            return Err(format!(
                "it names {} classes and has {}",
                class_names.len(),
                model.num_classes
            ));
        }
        Ok(Self {
            model,
            preprocess,
            class_names,
        })
    }

    /// What a person calls a class.
    pub fn class_name(&self, label: usize) -> String {
        let name = self.class_names.get(label);
        name.cloned().unwrap_or_else(|| format!("class {label}"))
    }
}

/// A classifier ready for use.
#[derive(Debug)]
pub struct LoadedClassifier {
    /// The network, in evaluation mode.
    pub model: Classifier,
    /// What it is.
    pub description: ClassifierDescription,
    /// The whole metadata of the checkpoint.
    pub metadata: Value,
    device: Device,
}

/// A class that an image may be of.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct RankedClass {
    /// Index of the class.
    pub label: usize,
    /// Its name.
    pub name: String,
    /// Softmax of the logits.
    pub probability: f32,
}

impl LoadedClassifier {
    /// From a checkpoint of this program, or a file of another one.
    ///
    /// # Errors
    /// Each names the file.
    pub fn load(path: &Path, device: &Device) -> Result<Self, ClassifierError> {
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
    ) -> Result<Self, ClassifierError> {
        let fresh = loaded.fresh_count();
        let AnyWeights {
            metadata, weights, ..
        } = loaded;
        let no = |reason: String| ClassifierError::NotAClassifier {
            path: path.to_path_buf(),
            reason,
        };
        if fresh > 0 {
            return Err(no(format!(
                "{fresh} of its tensors are missing or of another shape"
            )));
        }
        let description = ClassifierDescription::from_metadata(&metadata).map_err(no)?;
        let model = fill_with_tensors(description.model.init(device).valid(), weights).map_err(
            |source| ClassifierError::Parameters {
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

    /// The scores of all classes for each image.
    pub fn logits(&self, images: &[RgbImage]) -> Vec<Vec<f32>> {
        let prepared: Vec<PreparedImage> = images
            .iter()
            .map(|image| prepare(image, &self.description.preprocess))
            .collect();
        forward_each(&self.model, &prepared, &self.device)
    }

    /// The `count` likeliest classes of an image, best first.
    pub fn classify(&self, image: &RgbImage, count: usize) -> Vec<RankedClass> {
        let logits = self.logits(std::slice::from_ref(image)).concat();
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
                name: self.description.class_name(label),
                probability,
            })
            .collect();
        // Stable: of equal probabilities the first class.
        ranked.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        ranked.truncate(count);
        ranked
    }
}

/// The logits of each image. Neighbors of one size go through the network together; nothing is
/// padded, because the mean over the last map would take the padding in.
fn forward_each(model: &Classifier, images: &[PreparedImage], device: &Device) -> Vec<Vec<f32>> {
    let mut logits = Vec::with_capacity(images.len());
    for group in images.chunk_by(|a, b| a.input_size == b.input_size) {
        let (pixels, shape) = pad_images(group, 1);
        let scores = model.forward(super::to_device(pixels, shape, device));
        let [_, classes] = scores.dims();
        let values: Vec<f32> = scores.into_data().iter::<f32>().collect();
        logits.extend(values.chunks(classes.max(1)).map(<[f32]>::to_vec));
    }
    logits
}

/// What was measured, and the images that can't be read, where the options leave such out; they
/// are not counted.
pub type Classified = (ClassificationEvaluation, Vec<SkippedImage>);

/// Classify every image of a dataset and compare with its label. The logits of several views of
/// an image are averaged. Nothing if `progress`, which hears the images done and all of them,
/// broke it off.
///
/// # Errors
/// The first image that can't be read (or that none can), or a setting that makes no sense.
pub fn classify_dataset(
    model: &Classifier,
    description: &ClassifierDescription,
    dataset: &Arc<LabeledDataset>,
    views: Views,
    options: &LoaderOptions,
    device: &Device,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Option<Classified>, DataError> {
    let total = dataset.len();
    let mut scores = ClassificationScores::new(description.model.num_classes);
    let mut batches = evaluation_batches(dataset.clone(), description.preprocess, views, options)?;
    for batch in batches.by_ref() {
        let batch: Vec<LabeledViews> = batch?;
        let images: Vec<PreparedImage> = batch.iter().flat_map(|p| p.views.clone()).collect();
        let logits = forward_each(model, &images, device);
        let mut logits = logits.into_iter();
        for picture in &batch {
            let views: Vec<Vec<f32>> = logits.by_ref().take(picture.views.len()).collect();
            scores.add(&mean(&views), picture.label);
        }
        if progress(scores.images(), total).is_break() {
            return Ok(None);
        }
    }
    let unread = batches.skipped();
    if scores.images() == 0
        && let Some(first) = unread.first()
    {
        return Err(DataError::Labels {
            origin: first.reason.clone(),
            problem: format!("and no other of the {total} images can be read either"),
        });
    }
    Ok(Some((scores.evaluation(dataset.class_names()), unread)))
}

/// The mean of equally long rows.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbones::zoo::network;

    fn description(name: &str, side: usize) -> ClassifierDescription {
        ClassifierDescription {
            model: ClassifierConfig::new(network(name).unwrap().backbone, 3),
            preprocess: Preprocess {
                center_crop: Some(side),
                ..Preprocess::imagenet_eval()
            },
            class_names: ["a", "b", "c"].map(str::to_string).to_vec(),
        }
    }

    #[test]
    fn a_description_survives_the_header_of_a_checkpoint() {
        let written = description("se-mobilenet-v1", 128);
        let read = ClassifierDescription::from_metadata(&written.to_metadata());
        assert_eq!(read, Ok(written.clone()));
        assert_eq!(written.class_name(1), "b");
        let nameless = ClassifierDescription {
            class_names: Vec::new(),
            ..written
        };
        let read = ClassifierDescription::from_metadata(&nameless.to_metadata()).unwrap();
        assert_eq!(read.class_name(1), "class 1");
    }

    #[test]
    fn what_can_t_be_is_refused_with_the_reason() {
        let mut few = description("resnet20", 32).to_metadata();
        few["categories"].as_array_mut().unwrap().pop();
        let small = description("inception-resnet-v2", 32).to_metadata();
        for (metadata, part) in [
            (few, "it names 2 classes and has 3"),
            (small, "32x32 pixels (height x width) is too small"),
        ] {
            let message = ClassifierDescription::from_metadata(&metadata).unwrap_err();
            assert!(message.contains(part), "{message}");
        }
    }
}
