//! A split of a dataset of either task.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use image::RgbImage;

use sedet_data::DataError;
use sedet_data::annotations::AnnotationStore;
use sedet_data::annotations::layout::Split;
use sedet_data::datasets::labeled::LabeledDataset;
use sedet_data::datasets::registry::{AnyDatasetName, OpenedSplit, RegistryError};
use sedet_data::eval::{EvalError, GroundTruth};
use sedet_data::images::OnBadImage;
use sedet_data::loading::SkippedImage;

/// One split of a detection or classification dataset.
#[derive(Debug, Clone)]
pub enum Dataset {
    /// Images with one class each.
    Classification(Arc<LabeledDataset>),
    /// Images with boxes. An image has the classes of its boxes: several, one or none.
    Detection(OpenedSplit),
}

impl Dataset {
    /// Opens one split of a dataset.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub fn open(
        name: &AnyDatasetName,
        split: Split,
        data_dir: Option<&Path>,
    ) -> Result<Self, RegistryError> {
        Self::open_with(name, split, data_dir, OnBadImage::Error)
    }

    /// Opens one split as [`Self::open`]; images with boxes that cannot be used are errors, or are skipped with a note
    /// if that is known from reading the annotations.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub fn open_with(
        name: &AnyDatasetName,
        split: Split,
        data_dir: Option<&Path>,
        on_bad_image: OnBadImage,
    ) -> Result<Self, RegistryError> {
        Ok(match name {
            AnyDatasetName::Classification(name) => {
                let opened = name.open_split_with(split, data_dir, on_bad_image)?;
                Self::Classification(Arc::new(opened))
            }
            AnyDatasetName::Detection(name) => {
                Self::Detection(name.open_split_with(split, data_dir, on_bad_image)?)
            }
        })
    }

    /// Returns the number of images.
    pub fn len(&self) -> usize {
        match self {
            Self::Classification(dataset) => dataset.len(),
            Self::Detection(split) => split.dataset.len(),
        }
    }

    /// Returns whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns a text that differs between datasets with other images or annotations.
    pub fn fingerprint(&self) -> String {
        match self {
            Self::Classification(dataset) => dataset.fingerprint(),
            Self::Detection(split) => split.dataset.store().fingerprint(),
        }
    }

    /// Returns the names of the classes in the order of the labels.
    pub fn class_names(&self) -> Vec<String> {
        match self {
            Self::Classification(dataset) => dataset.class_names().to_vec(),
            Self::Detection(split) => {
                let categories = split.dataset.store().categories().iter();
                categories.map(|category| category.name.clone()).collect()
            }
        }
    }

    /// Returns notes on the dataset that the user should read.
    pub fn notes(&self) -> &[String] {
        match self {
            Self::Classification(dataset) => dataset.notes(),
            Self::Detection(split) => split.dataset.notes(),
        }
    }

    /// Returns the labels of an image, each once.
    pub(super) fn labels(&self, index: usize) -> Vec<usize> {
        match self {
            Self::Classification(dataset) => vec![dataset.label(index)],
            Self::Detection(split) => {
                let annotations = split.dataset.store().annotations(index);
                let mut labels: Vec<usize> = annotations.map(|a| a.class).collect();
                labels.sort_unstable();
                labels.dedup();
                labels
            }
        }
    }

    pub(super) fn load_image(&self, index: usize) -> Result<RgbImage, DataError> {
        match self {
            Self::Classification(dataset) => dataset.load_image(index),
            Self::Detection(split) => split.dataset.load_image(index),
        }
    }

    /// Returns the positions of `limit` images, evenly spaced: datasets are often sorted by class.
    pub(super) fn spread(&self, limit: Option<usize>) -> Vec<usize> {
        let count = limit.unwrap_or(usize::MAX).min(self.len());
        let position = |n: usize| (n as u128 * self.len() as u128 / count as u128) as usize;
        (0..count).map(position).collect()
    }
}

/// Returns the annotations of a split for evaluation. The store has the numbers of the file in full
/// precision, so that the file is read once.
///
/// # Errors
/// The split has no images.
pub fn ground_truth(split: &OpenedSplit) -> Result<GroundTruth, EvalError> {
    GroundTruth::of_store(split.dataset.store())
}

/// Returns the ground truth without the images that were skipped.
///
/// # Errors
/// All images were skipped.
pub fn without_skipped(
    truth: GroundTruth,
    skipped: &[SkippedImage],
    store: &AnnotationStore,
) -> Result<GroundTruth, EvalError> {
    if skipped.is_empty() {
        return Ok(truth);
    }
    let skipped: HashSet<u64> = skipped
        .iter()
        .map(|image| store.image(image.dataset_index).id)
        .collect();
    let evaluated = truth.images().iter().map(|image| image.id);
    truth.restricted_to(&evaluated.filter(|id| !skipped.contains(id)).collect())
}
