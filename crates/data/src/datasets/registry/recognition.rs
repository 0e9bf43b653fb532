//! What was found behind the name of a dataset.

use std::fmt;
use std::path::Path;

use crate::annotations::format::{DatasetFiles, SplitAnnotations};
use crate::annotations::layout::Split;
use crate::datasets::registry::{AnyDatasetName, DatasetName, LabeledName, RegistryError};
use crate::text::{count, printable};

/// The task that a dataset is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecognizedTask {
    /// Images with boxes.
    Detection,
    /// Images with a class each.
    Classification,
}

impl fmt::Display for RecognizedTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Detection => "detection",
            Self::Classification => "classification",
        })
    }
}

/// A split of a recognized dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecognizedSplit {
    /// The split's role.
    pub split: Split,
    /// Number of images; None before the annotations are read.
    pub images: Option<usize>,
    /// Number of boxes; None for a classification dataset and before the annotations are read.
    pub boxes: Option<usize>,
}

/// The dataset found behind a name, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recognition {
    /// The task.
    pub task: RecognizedTask,
    /// The name of the format: `Pascal VOC`, `class directories`.
    pub format: String,
    /// The splits on disk; empty for a classification dataset before it is read.
    pub splits: Vec<RecognizedSplit>,
    /// The class names; empty before the annotations are read.
    pub classes: Vec<String>,
    /// The files by which the dataset was recognized.
    pub reason: String,
}

impl AnyDatasetName {
    /// Recognizes a dataset by its files, in no time: no annotation is read.
    ///
    /// # Errors
    /// See [`RegistryError`]; no data directory, an unknown format, an incomplete directory.
    pub fn recognize(&self, data_dir: Option<&Path>) -> Result<Recognition, RegistryError> {
        Ok(match self {
            Self::Detection(DatasetName::Shapes) => Recognition {
                task: RecognizedTask::Detection,
                format: "generated scenes".to_owned(),
                splits: [Split::Train, Split::Val]
                    .map(RecognizedSplit::unread)
                    .to_vec(),
                classes: Vec::new(),
                reason: "the name shapes".to_owned(),
            },
            Self::Detection(name) => Recognition::of_files(&name.files(data_dir)?),
            Self::Classification(name) => Recognition {
                task: RecognizedTask::Classification,
                format: name.format(),
                splits: Vec::new(),
                classes: Vec::new(),
                reason: match name {
                    LabeledName::List(_) => name.label(),
                    _ => name.directory(data_dir)?.display().to_string(),
                },
            },
        })
    }
}

impl LabeledName {
    /// Returns the name of the layout of the files.
    fn format(&self) -> String {
        let format = match self {
            Self::Cifar10 | Self::Cifar100 | Self::CifarDirectory(_) => "CIFAR",
            Self::ImageNet | Self::ImageNetDirectory(_) => "ImageNet",
            Self::Places365 | Self::Places365Challenge | Self::Places365Directory(_) => "Places365",
            Self::ImageFolder(_) => "a directory for each class",
            Self::List(parts) => {
                let mut formats: Vec<String> = parts.iter().map(Self::format).collect();
                formats.dedup();
                return formats.join(" and ");
            }
        };
        format.to_owned()
    }
}

impl RecognizedSplit {
    fn unread(split: Split) -> Self {
        Self {
            split,
            images: None,
            boxes: None,
        }
    }
}

impl Recognition {
    /// Describes one dataset, or several that are joined, before the annotations are read.
    pub fn of_files(files: &[DatasetFiles]) -> Self {
        let exists = |split: &Split| {
            files
                .iter()
                .any(|files| files.split_names().contains(split))
        };
        let splits = Split::ALL.into_iter().filter(exists);
        let mut formats: Vec<&str> = files.iter().map(|files| files.format.name()).collect();
        formats.dedup();
        let reasons = files.iter().map(|found| match files {
            [_] => found.explanation(),
            _ => format!("{}: {}", found.root.display(), found.explanation()),
        });
        Self {
            task: RecognizedTask::Detection,
            format: formats.join(" and "),
            splits: splits.map(RecognizedSplit::unread).collect(),
            classes: Vec::new(),
            reason: reasons.collect::<Vec<_>>().join("; "),
        }
    }

    /// Adds the contents of detection splits.
    pub fn with_annotations(mut self, splits: &[SplitAnnotations]) -> Self {
        self.splits = splits
            .iter()
            .map(|read| RecognizedSplit {
                split: read.split,
                images: Some(read.store.image_count()),
                boxes: Some(read.store.annotation_count()),
            })
            .collect();
        let categories = splits.first().map(|read| read.store.categories());
        let categories = categories.unwrap_or_default().iter();
        self.classes = categories.map(|category| category.name.clone()).collect();
        self
    }

    /// Formats the task, the format and the reason in one line.
    pub fn kind(&self) -> String {
        format!("{} dataset, {} ({})", self.task, self.format, self.reason)
    }

    /// Formats the splits and classes in one line.
    pub fn contents(&self) -> String {
        const SHOWN: usize = 10;
        let splits = self.splits.iter().map(|found| {
            let images = found.images.map(|images| count(images, "image"));
            let boxes = found.boxes.map(|boxes| count(boxes, "box"));
            let counts: Vec<String> = images.into_iter().chain(boxes).collect();
            if counts.is_empty() {
                found.split.to_string()
            } else {
                format!("{}: {}", found.split, counts.join(", "))
            }
        });
        let mut parts: Vec<String> = splits.collect();
        if !self.classes.is_empty() {
            let names = self
                .classes
                .iter()
                .take(SHOWN)
                .map(|name| printable(name).into_owned());
            let mut names = names.collect::<Vec<_>>().join(", ");
            if self.classes.len() > SHOWN {
                names += ", ...";
            }
            parts.push(format!("{}: {names}", count(self.classes.len(), "class")));
        }
        parts.join("; ")
    }
}

impl fmt::Display for Recognition {
    /// Writes one line with the kind and one with the contents.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.kind(), self.contents())
    }
}
