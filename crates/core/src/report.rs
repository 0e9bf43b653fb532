//! Files that an evaluation leaves in a directory: metrics, tables and figures.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::model::{ImageDetection, Model, ModelError};
use crate::render::{
    DrawnBox, RenderError, save_boxes, save_confusion, save_precision_recall, save_reliability,
};
use sedet_data::annotations::Category;
use sedet_data::atomic::write_atomically;
use sedet_data::datasets::detection::DetectionDataset;
use sedet_data::directory::create_directory;
use sedet_data::eval::CocoEvaluation;
use sedet_data::eval::classification::ClassificationEvaluation;
use sedet_data::eval::confusion::DEFAULT_SCORE;
use sedet_data::loading::SkippedImage;

/// The metrics of a model of either task. Serialized as [`to_json`](Self::to_json) writes them.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
#[allow(clippy::large_enum_variant)] // one of these exists per evaluation
pub enum Evaluation {
    /// COCO metrics of a detector.
    Detection(CocoEvaluation),
    /// Accuracy, loss and calibration of a classifier.
    Classification(ClassificationEvaluation),
}

impl Evaluation {
    /// Formats the metrics as tables.
    pub fn to_text(&self) -> String {
        match self {
            Self::Detection(found) => {
                format!("{}{}", found.summary_table(), found.class_table())
            }
            Self::Classification(found) => found.summary(),
        }
    }

    /// Returns the main metrics by name; none for a metric without objects.
    pub fn metrics(&self) -> Vec<(&'static str, Option<f64>)> {
        match self {
            Self::Detection(found) => {
                let named = found.metrics.named().into_iter();
                let defined = |(name, value)| (name, (value >= 0.0).then_some(value));
                named.map(defined).collect()
            }
            Self::Classification(found) => vec![
                ("top1", Some(found.top1)),
                ("top5", Some(found.top5)),
                ("loss", Some(found.loss)),
            ],
        }
    }

    /// Formats the metrics as JSON.
    pub fn to_json(&self) -> String {
        match self {
            Self::Detection(found) => found.to_json(),
            Self::Classification(found) => found.to_json(),
        }
    }

    /// Writes `metrics.json` and the figures of the task to a directory: `precision-recall.png` for a
    /// detector; `confusion.csv`, `confusion.png` and `reliability.png` for a classifier.
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn write(&self, directory: &Path) -> Result<(), RenderError> {
        write_text(&directory.join("metrics.json"), &self.to_json())?;
        match self {
            Self::Detection(found) if found.curves.is_none() => Ok(()),
            Self::Detection(found) => {
                save_precision_recall(found, &directory.join("precision-recall.png"))
            }
            Self::Classification(found) => {
                write_text(&directory.join("confusion.csv"), &found.confusion_csv())?;
                save_confusion(found, &directory.join("confusion.png"))?;
                save_reliability(found, &directory.join("reliability.png"))
            }
        }
    }
}

/// Writes a text file atomically.
///
/// # Errors
/// The file can't be written.
pub fn write_text(path: &Path, text: &str) -> Result<(), RenderError> {
    write_atomically(path, |out| out.write_all(text.as_bytes())).map_err(|reason| {
        RenderError::Write {
            path: path.to_path_buf(),
            reason,
        }
    })
}

/// Returns the boxes of detections with class and score, to be drawn.
pub fn drawn_detections(found: &[ImageDetection], categories: &[Category]) -> Vec<DrawnBox> {
    let boxes = found.iter().map(|d| DrawnBox {
        box_in_image: d.box_in_image,
        label: categories[d.label].name.clone(),
        class_index: d.label,
        score: Some(d.score),
        dashed: false,
    });
    boxes.collect()
}

/// Error of the annotated samples of a training run.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// Detection, or an image that can't be read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// An image that can't be written.
    #[error(transparent)]
    Render(#[from] RenderError),
}

/// Draws the detections in the first `count` images of a dataset, without those that were skipped,
/// and returns the files.
///
/// # Errors
/// A classifier, an image that can't be read, or a file that can't be written.
pub(crate) fn write_samples(
    model: &Model,
    dataset: &DetectionDataset,
    skipped: &[SkippedImage],
    count: usize,
    directory: &Path,
) -> Result<Vec<PathBuf>, SampleError> {
    create_directory(directory).map_err(|reason| RenderError::Write {
        path: directory.to_path_buf(),
        reason,
    })?;
    let skipped: HashSet<usize> = skipped.iter().map(|image| image.dataset_index).collect();
    let readable = (0..dataset.len()).filter(|index| !skipped.contains(index));
    let (mut files, mut taken) = (Vec::new(), HashSet::new());
    for index in readable.take(count) {
        let image = dataset.load_image(index).map_err(ModelError::from)?;
        let mut found = model.detect(&image)?;
        found.retain(|d| d.score >= DEFAULT_SCORE);
        let boxes = drawn_detections(&found, &model.spec.categories);
        let file_name = Path::new(dataset.store().image(index).file_name);
        let path = directory.join(unique_name(file_name, "jpg", &mut taken));
        save_boxes(&image, &boxes, &path)?;
        files.push(path);
    }
    Ok(files)
}

/// Returns a file name that no earlier image has, and adds it to `taken`: two directories may
/// contain an `a.jpg` each.
pub fn unique_name(file: &Path, extension: &str, taken: &mut HashSet<String>) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let mut name = format!("{stem}.{extension}");
    let mut number = 2;
    while !taken.insert(name.clone()) {
        name = format!("{stem}-{number}.{extension}");
        number += 1;
    }
    name
}
