//! The classification challenge of ImageNet (ILSVRC 2012) in its common directory layouts.
//!
//! ```text
//! train/n01440764/*.JPEG          val/n01440764/*.JPEG
//! train/n01440764/*.JPEG          val/ILSVRC2012_val_00000001.JPEG and the labels of val
//! ```
//!
//! in the directory itself or, as on Kaggle, in `ILSVRC/Data/CLS-LOC/`. The labels of a flat `val`
//! are read from the first of these files that exists in the directory, in `devkit/`,
//! `devkit/data/` or `ILSVRC2012_devkit_t12/data/`:
//!
//! 1. `imagenet_2012_validation_synset_labels.txt`: a synset on each line, in the order of the
//!    image numbers (TensorFlow)
//! 2. `LOC_val_solution.csv` (Kaggle)
//! 3. `ILSVRC2012_validation_ground_truth.txt`: a number from 1 to 1000 on each line (the official
//!    development kit; see [`ImageNetClass::devkit_id`](crate::datasets::imagenet_classes::ImageNetClass))
//!
//! Labels are positions in the sorted list of the 1000 synsets, as in torchvision and timm.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::annotations::image_files::{ImageFiles, first_few, holds_images_directly, list};
use crate::annotations::layout::Split;
use crate::datasets::image_folder::ClassImages;
use crate::datasets::imagenet_classes::{devkit_label, imagenet_classes, imagenet_label};
use crate::datasets::labeled::LabeledDataset;
use crate::text_file::text_of;
use crate::{DataError, Remedy};

/// Candidate directories of train and val.
const ROOTS: [&str; 4] = ["", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "CLS-LOC"];
/// Candidate directories of the labels of val.
const LABEL_DIRECTORIES: [&str; 4] = ["", "devkit", "devkit/data", "ILSVRC2012_devkit_t12/data"];

const SYNSET_LIST: &str = "imagenet_2012_validation_synset_labels.txt";
const KAGGLE_TABLE: &str = "LOC_val_solution.csv";
const GROUND_TRUTH: &str = "ILSVRC2012_validation_ground_truth.txt";

/// Upper limit of a label file in bytes; the largest, Kaggle's, has three million.
const MAX_LABEL_FILE: u64 = 256 << 20;

/// A directory with ImageNet, recognized by its subdirectories; no image has been listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageNetDirectory {
    directory: PathBuf,
    /// The parent of train and val.
    root: PathBuf,
}

impl ImageNetDirectory {
    /// Finds train or val in a directory.
    pub fn find(directory: &Path) -> Option<Self> {
        let roots = ROOTS.iter().map(|inside| directory.join(inside));
        let mut roots =
            roots.filter(|root| root.join("train").is_dir() || root.join("val").is_dir());
        Some(Self {
            root: roots.next()?,
            directory: directory.to_owned(),
        })
    }

    /// Finds ImageNet only where its layout is unmistakable: a flat val with the official file
    /// names, or Kaggle's nested directories. Class directories in both splits could be any dataset.
    pub(crate) fn find_official(directory: &Path) -> Option<Self> {
        let found = Self::find(directory)?;
        let is_nested = found.root != found.directory;
        let entries = std::fs::read_dir(found.root.join("val"));
        let is_flat = entries
            .into_iter()
            .flatten()
            .flatten()
            .take(100)
            .any(|entry| {
                let name = entry.file_name();
                name.to_str().and_then(image_number).is_some()
            });
        (is_nested || is_flat).then_some(found)
    }

    /// Opens a split with all 1000 classes, including those without images.
    ///
    /// # Errors
    /// The split is missing, a directory is not a synset of the challenge, or a flat val has no
    /// label file or images that the label file does not cover.
    pub fn open(&self, split: Split) -> Result<LabeledDataset, DataError> {
        if split == Split::Test {
            let problem = "the labels of ImageNet's test images are not public";
            return Err(DataError::labels(&self.directory, problem).with(Remedy::ValSplit));
        }
        let images = self.root.join(split.to_string());
        if !images.is_dir() {
            let problem = format!("no directory {split}");
            return Err(DataError::labels(&self.root, problem).with(Remedy::UnpackImages));
        }
        if split == Split::Val && holds_images_directly(&images) {
            return self.open_flat(&images);
        }
        self.open_directories(&images)
    }

    /// Opens a split with one directory per synset.
    fn open_directories(&self, directory: &Path) -> Result<LabeledDataset, DataError> {
        let present = list(directory)?.directories;
        if present.is_empty() {
            let problem = "no synset directories such as n01440764";
            return Err(DataError::labels(directory, problem).with(Remedy::UnpackSynsets));
        }
        let unknown = present.iter().filter(|name| imagenet_label(name).is_none());
        let unknown = first_few(unknown.map(String::as_str));
        if !unknown.is_empty() {
            let problem =
                format!("these directories are not among ImageNet's 1000 synsets: {unknown}");
            return Err(DataError::labels(directory, problem).with(Remedy::GivePath));
        }
        let synsets: Vec<String> = imagenet_classes()
            .iter()
            .map(|class| class.wnid.to_owned())
            .collect();
        ClassImages::read(&self.directory, directory, &synsets)?
            .into_dataset(class_names(), |_, _| true)
            .map(with_note_of_missing_classes)
    }

    /// Opens a split whose images are numbered files in one directory.
    fn open_flat(&self, directory: &Path) -> Result<LabeledDataset, DataError> {
        let truth = self.ground_truth()?;
        let (mut labels, mut files) = (Vec::new(), ImageFiles::default());
        for name in list(directory)?.images {
            let path = || directory.join(&name);
            let number = image_number(&name).ok_or_else(|| {
                let problem = "expected a name such as ILSVRC2012_val_00000001.JPEG";
                DataError::labels(&path(), problem).with(Remedy::RemoveFile)
            })?;
            let label = truth.labels.get(&number).ok_or_else(|| {
                let problem = format!("no label in {}", truth.file.display());
                DataError::labels(&path(), problem).with(Remedy::Original)
            })?;
            labels.push(*label);
            files.push(directory, &name);
        }
        let origin = directory.display().to_string();
        LabeledDataset::new(&origin, class_names(), labels, files).map(with_note_of_missing_classes)
    }

    /// Reads the first label file of val that exists.
    fn ground_truth(&self) -> Result<GroundTruth, DataError> {
        let directories = LABEL_DIRECTORIES.map(|inside| self.directory.join(inside));
        let find = |name: &str| {
            let mut paths = directories.iter().map(|directory| directory.join(name));
            paths.find(|path| path.is_file())
        };
        let (file, labels) = if let Some(file) = find(SYNSET_LIST) {
            let labels = synset_list(&file)?;
            (file, labels)
        } else if let Some(file) = find(KAGGLE_TABLE) {
            let labels = kaggle_table(&file)?;
            (file, labels)
        } else if let Some(file) = find(GROUND_TRUTH) {
            let labels = devkit_numbers(&file)?;
            (file, labels)
        } else {
            return Err(DataError::NoValidationLabels {
                directory: self.directory.clone(),
                expected: LABEL_FILES.join(", "),
            });
        };
        Ok(GroundTruth { file, labels })
    }
}

/// The names of the label files of val, for messages.
const LABEL_FILES: [&str; 3] = [SYNSET_LIST, KAGGLE_TABLE, GROUND_TRUTH];

/// Labels of val.
struct GroundTruth {
    file: PathBuf,
    /// Labels by the number in the image's name.
    labels: HashMap<u32, u32>,
}

fn class_names() -> Vec<String> {
    imagenet_classes()
        .iter()
        .map(|class| class.name.to_owned())
        .collect()
}

fn with_note_of_missing_classes(dataset: LabeledDataset) -> LabeledDataset {
    let counts = dataset.class_counts();
    let missing = counts.iter().filter(|count| **count == 0).count();
    let note = (missing > 0).then(|| {
        format!(
            "images of {} of ImageNet's {} classes",
            counts.len() - missing,
            counts.len()
        )
    });
    dataset.with_notes(note)
}

/// Returns the number in a name such as `ILSVRC2012_val_00000001.JPEG`.
fn image_number(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("ILSVRC2012_val_")?;
    let digits = digits.split('.').next()?;
    digits.parse().ok()
}

/// Returns the non-blank lines of a text file with their numbers from 1.
fn lines(path: &Path) -> Result<Vec<(usize, String)>, DataError> {
    let io = |source| DataError::io(path, source);
    let size = std::fs::metadata(path).map_err(io)?.len();
    if size > MAX_LABEL_FILE {
        let problem = format!("{size} bytes are too many for a label file");
        return Err(DataError::labels(path, problem).with(Remedy::Original));
    }
    let text = text_of(std::fs::read(path).map_err(io)?, path)?;
    let numbered = text.lines().enumerate();
    Ok(numbered
        .map(|(index, line)| (index + 1, line.trim().to_owned()))
        .filter(|(_, line)| !line.is_empty())
        .collect())
}

fn bad_line(path: &Path, line: usize, problem: &str) -> DataError {
    DataError::labels(path, format!("line {line}: {problem}")).with(Remedy::Original)
}

/// Truncates a string from a file to a length that fits a message.
fn shown(text: &str) -> String {
    text.chars().take(20).collect()
}

fn label_of(path: &Path, line: usize, synset: &str) -> Result<u32, DataError> {
    let label = imagenet_label(synset).map(|label| label as u32);
    label.ok_or_else(|| {
        let problem = format!("'{}' is not one of ImageNet's 1000 synsets", shown(synset));
        bad_line(path, line, &problem)
    })
}

fn synset_list(path: &Path) -> Result<HashMap<u32, u32>, DataError> {
    let numbered = lines(path)?.into_iter();
    numbered
        .map(|(line, synset)| Ok((line as u32, label_of(path, line, &synset)?)))
        .collect()
}

/// Reads rows such as `ILSVRC2012_val_00048981,n03995372 85 1 499 272`: an image, and a synset with
/// each of its boxes. All boxes of an image have the same class.
fn kaggle_table(path: &Path) -> Result<HashMap<u32, u32>, DataError> {
    let mut labels = HashMap::new();
    for (line, row) in lines(path)? {
        if line == 1 && row.starts_with("ImageId") {
            continue;
        }
        let parts = row.split_once(',').and_then(|(image, boxes)| {
            let synset = boxes.split_whitespace().next()?;
            Some((image_number(image)?, synset))
        });
        let Some((number, synset)) = parts else {
            let problem = "not 'ILSVRC2012_val_00000001,n01751748 ...'";
            return Err(bad_line(path, line, problem));
        };
        labels.insert(number, label_of(path, line, synset)?);
    }
    Ok(labels)
}

/// Reads the label numbers of the development kit.
fn devkit_numbers(path: &Path) -> Result<HashMap<u32, u32>, DataError> {
    let numbered = lines(path)?.into_iter();
    numbered
        .map(|(line, text)| {
            let label = text.parse().ok().and_then(devkit_label);
            let label = label.ok_or_else(|| {
                let problem = format!("'{}' is not a number from 1 to 1000", shown(&text));
                bad_line(path, line, &problem)
            })?;
            Ok((line as u32, label as u32))
        })
        .collect()
}
