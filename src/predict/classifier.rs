//! Using a trained classifier.

use std::path::{Path, PathBuf};

use burn::module::Module as _;
use burn::tensor::Device;
use image::RgbImage;
use serde_json::json;

use crate::classification::classifier::Classifier;
use crate::data::batch::pad_images;
use crate::data::transforms::{PreparedImage, Preprocess, prepare};
use crate::weights::any::{AnyWeights, LoadError, load_any};
use crate::weights::layouts::Network;
use crate::weights::parameters::{ParameterError, load_named_tensors};

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

/// A classifier ready for use.
#[derive(Debug)]
pub struct LoadedClassifier {
    /// The network, in evaluation mode.
    pub model: Classifier,
    /// Number of its classes.
    pub num_classes: usize,
    /// From pixels to its input.
    pub preprocess: Preprocess,
    device: Device,
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
        let described = json!({
            "task": metadata["task"],
            "model": metadata["model"],
            "preprocess": metadata["preprocess"],
        });
        let network = serde_json::from_value(described).map_err(|e| no(e.to_string()))?;
        let Network::Classification { model, preprocess } = network else {
            return Err(no("it is a detector".into()));
        };
        model.backbone.validate().map_err(|e| no(e.to_string()))?;
        let loaded =
            load_named_tensors(model.init(device).valid(), &weights).map_err(|source| {
                ClassifierError::Parameters {
                    path: path.to_path_buf(),
                    source,
                }
            })?;
        Ok(Self {
            model: loaded,
            num_classes: model.num_classes,
            preprocess,
            device: device.clone(),
        })
    }

    /// The scores of all classes for each picture; all pictures of one size.
    pub fn logits(&self, images: &[RgbImage]) -> Vec<Vec<f32>> {
        let prepared: Vec<PreparedImage> = images
            .iter()
            .map(|image| prepare(image, &self.preprocess))
            .collect();
        // No padding: the mean over the map would take it in.
        let (pixels, shape) = pad_images(&prepared, 1);
        let scores = self
            .model
            .forward(super::to_device(pixels, shape, &self.device));
        let values: Vec<f32> = scores.into_data().iter::<f32>().collect();
        values
            .chunks(self.num_classes.max(1))
            .map(<[f32]>::to_vec)
            .collect()
    }
}
