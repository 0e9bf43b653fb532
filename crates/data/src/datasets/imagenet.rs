//! ImageNet's classification challenge (ILSVRC 2012) in the layouts in which people have it.
//!
//! ```text
//! train/n01440764/*.JPEG          val/n01440764/*.JPEG
//! train/n01440764/*.JPEG          val/ILSVRC2012_val_00000001.JPEG and the labels of val
//! ```
//!
//! in the directory itself or, as Kaggle has it, in `ILSVRC/Data/CLS-LOC/`. The labels of a flat `val`
//! are the first of these that is found, in the directory, in `devkit/`, `devkit/data/` or
//! `ILSVRC2012_devkit_t12/data/`:
//!
//! 1. `imagenet_2012_validation_synset_labels.txt`: a synset on each line, in the order of the
//!    images' numbers (TensorFlow's scripts)
//! 2. `LOC_val_solution.csv` (Kaggle)
//! 3. `ILSVRC2012_validation_ground_truth.txt`: a number from 1 to 1000 on each line, which
//!    `meta.mat` beside it translates (the official development kit)
//!
//! Labels are places in the sorted list of the 1000 synsets, as in torchvision and timm.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::DataError;
use crate::annotations::image_files::{ImageFiles, first_few, holds_images_directly, list};
use crate::annotations::layout::Split;
use crate::datasets::image_folder::ClassImages;
use crate::datasets::imagenet_classes::{imagenet_classes, imagenet_label};
use crate::datasets::labeled::LabeledDataset;
use crate::datasets::matlab::{Cell, read_structures};

/// Where train and val may lie in the directory.
const ROOTS: [&str; 4] = ["", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "CLS-LOC"];
/// Where the labels of val may lie in the directory.
const LABEL_DIRECTORYS: [&str; 4] = ["", "devkit", "devkit/data", "ILSVRC2012_devkit_t12/data"];

const SYNSET_LIST: &str = "imagenet_2012_validation_synset_labels.txt";
const KAGGLE_TABLE: &str = "LOC_val_solution.csv";
const GROUND_TRUTH: &str = "ILSVRC2012_validation_ground_truth.txt";
const META: &str = "meta.mat";

/// Files of labels are smaller than this; the largest, Kaggle's, has three million bytes.
const MAX_LABEL_FILE: u64 = 256 << 20;

/// A directory with ImageNet; nothing is read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageNetDirectory {
    directory: PathBuf,
    /// Holds train and val.
    root: PathBuf,
}

impl ImageNetDirectory {
    /// Looks for train or val in a directory.
    pub fn find(directory: &Path) -> Option<Self> {
        let roots = ROOTS.iter().map(|inside| directory.join(inside));
        let mut roots =
            roots.filter(|root| root.join("train").is_dir() || root.join("val").is_dir());
        Some(Self {
            root: roots.next()?,
            directory: directory.to_owned(),
        })
    }

    /// The directory if nothing but ImageNet looks so: a flat val with the official names, or Kaggle's
    /// nested directories. Classes in directories of both splits could be any dataset.
    pub fn find_official(directory: &Path) -> Option<Self> {
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

    /// One split with all 1000 classes, even if some have no images.
    ///
    /// # Errors
    /// No such split, directories that are no synsets of the challenge, a flat val without labels or
    /// with images that the labels do not cover.
    pub fn open(&self, split: Split) -> Result<LabeledDataset, DataError> {
        if split == Split::Test {
            let problem = "the labels of ImageNet's test images are not public; use the val split";
            return Err(DataError::labels(&self.directory, problem));
        }
        let images = self.root.join(split.to_string());
        if !images.is_dir() {
            let problem = format!("no directory {split}; unpack the {split} images into it");
            return Err(DataError::labels(&self.root, problem));
        }
        if split == Split::Val && holds_images_directly(&images) {
            return self.open_flat(&images);
        }
        self.open_directories(&images)
    }

    /// A directory for each synset.
    fn open_directories(&self, directory: &Path) -> Result<LabeledDataset, DataError> {
        let present = list(directory)?.directories;
        if present.is_empty() {
            let problem = "no directories of synsets, such as n01440764; unpack each archive nXXXXXXXX.tar \
                 into a directory of its name";
            return Err(DataError::labels(directory, problem));
        }
        let unknown = present.iter().filter(|name| imagenet_label(name).is_none());
        let unknown = first_few(unknown.map(String::as_str));
        if !unknown.is_empty() {
            let problem = format!(
                "these directories are none of ImageNet's 1000 synsets: {unknown}; to read it as any directory \
                 of classes, give its path instead of the name imagenet"
            );
            return Err(DataError::labels(directory, problem));
        }
        let synsets: Vec<String> = imagenet_classes()
            .iter()
            .map(|class| class.wnid.to_owned())
            .collect();
        ClassImages::read(&self.directory, directory, &synsets)?
            .into_dataset(class_names(), |_, _| true)
            .map(with_note_of_missing_classes)
    }

    /// Images with numbers in their names.
    fn open_flat(&self, directory: &Path) -> Result<LabeledDataset, DataError> {
        let truth = self.ground_truth()?;
        let (mut labels, mut files) = (Vec::new(), ImageFiles::default());
        for name in list(directory)?.images {
            let path = || directory.join(&name);
            let number = image_number(&name).ok_or_else(|| {
                let problem = "not named as ILSVRC2012_val_00000001.JPEG; remove it";
                DataError::labels(&path(), problem)
            })?;
            let label = truth.labels.get(&number).ok_or_else(|| {
                let problem = format!(
                    "{} has no label for it; put the whole file there",
                    truth.file.display()
                );
                DataError::labels(&path(), problem)
            })?;
            labels.push(*label);
            files.push(directory, &name);
        }
        let origin = directory.display().to_string();
        LabeledDataset::new(&origin, class_names(), labels, files).map(with_note_of_missing_classes)
    }

    /// The first labels of val that are there.
    fn ground_truth(&self) -> Result<GroundTruth, DataError> {
        let directories = LABEL_DIRECTORYS.map(|inside| self.directory.join(inside));
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
            let meta = find(META).ok_or_else(|| {
                let problem = format!("its numbers need the development kit's {META} beside it");
                DataError::labels(&file, problem)
            })?;
            let labels = devkit_numbers(&file, &meta)?;
            (file, labels)
        } else {
            let problem = format!(
                "val has no directories of synsets, and no labels are there; put {GROUND_TRUTH} and {META} \
                 (from ILSVRC2012_devkit_t12), {SYNSET_LIST} (`sedet data download \
                 imagenet-val-list` fetches it) or {KAGGLE_TABLE} into it"
            );
            return Err(DataError::labels(&self.directory, problem));
        };
        Ok(GroundTruth { file, labels })
    }
}

/// Labels of val.
struct GroundTruth {
    file: PathBuf,
    /// By the number in the image's name.
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

/// The number in a name such as `ILSVRC2012_val_00000001.JPEG`.
fn image_number(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("ILSVRC2012_val_")?;
    let digits = digits.split('.').next()?;
    digits.parse().ok()
}

fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    let io = |source| DataError::io(path, source);
    let size = std::fs::metadata(path).map_err(io)?.len();
    if size > MAX_LABEL_FILE {
        let problem =
            format!("{size} bytes are too many for a file of labels; put the right one there");
        return Err(DataError::labels(path, problem));
    }
    std::fs::read(path).map_err(io)
}

/// The lines of a text file with their numbers from 1, without blank ones.
fn lines(path: &Path) -> Result<Vec<(usize, String)>, DataError> {
    let bytes = read(path)?;
    let text = String::from_utf8_lossy(&bytes);
    let numbered = text.lines().enumerate();
    Ok(numbered
        .map(|(index, line)| (index + 1, line.trim().to_owned()))
        .filter(|(_, line)| !line.is_empty())
        .collect())
}

fn bad_line(path: &Path, line: usize, problem: &str) -> DataError {
    let problem = format!("line {line}: {problem}; put the original file there");
    DataError::labels(path, problem)
}

fn label_of(path: &Path, line: usize, synset: &str) -> Result<u32, DataError> {
    let label = imagenet_label(synset).map(|label| label as u32);
    label.ok_or_else(|| {
        let shown: String = synset.chars().take(20).collect();
        let problem = format!("'{shown}' is none of ImageNet's 1000 synsets");
        bad_line(path, line, &problem)
    })
}

fn synset_list(path: &Path) -> Result<HashMap<u32, u32>, DataError> {
    let numbered = lines(path)?.into_iter();
    numbered
        .map(|(line, synset)| Ok((line as u32, label_of(path, line, &synset)?)))
        .collect()
}

/// `ILSVRC2012_val_00048981,n03995372 85 1 499 272`: the image, and a synset with each of its
/// boxes. All boxes of an image are of its class.
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

/// Numbers in the development kit's own order.
fn devkit_numbers(path: &Path, meta: &Path) -> Result<HashMap<u32, u32>, DataError> {
    let by_number = devkit_labels(meta)?;
    let numbered = lines(path)?.into_iter();
    numbered
        .map(|(line, text)| {
            let number: Option<u32> = text.parse().ok();
            let label = number.and_then(|number| by_number.get(&number));
            let label = label.ok_or_else(|| {
                let shown: String = text.chars().take(20).collect();
                let problem = format!("'{shown}' is no class of {}", meta.display());
                bad_line(path, line, &problem)
            })?;
            Ok((line as u32, *label))
        })
        .collect()
}

/// The labels of the development kit's numbers, out of `meta.mat`: an array of structures with the
/// challenge's classes and, behind them (numbers above 1000), the synsets above those in WordNet.
fn devkit_labels(meta: &Path) -> Result<HashMap<u32, u32>, DataError> {
    let invalid = |problem: String| {
        let problem = format!("{problem}; put the original {META} there");
        DataError::labels(meta, problem)
    };
    let rows = read_structures(&read(meta)?, "synsets", ["ILSVRC2012_ID", "WNID"])
        .map_err(|error| invalid(error.to_string()))?;
    let mut labels = HashMap::new();
    for row in rows {
        let [Cell::Number(number), Cell::Text(synset)] = row else {
            return Err(invalid("a class without number or synset".into()));
        };
        if !(1.0..=imagenet_classes().len() as f64).contains(&number) {
            continue;
        }
        let label = imagenet_label(&synset).ok_or_else(|| {
            let shown: String = synset.chars().take(20).collect();
            invalid(format!("'{shown}' is none of ImageNet's 1000 synsets"))
        })?;
        labels.insert(number as u32, label as u32);
    }
    Ok(labels)
}
