//! Places365: scenes in 365 categories, with lists of images.
//!
//! ```text
//! categories_places365.txt          /a/airfield 0
//! places365_train_standard.txt      /a/airfield/00000001.jpg 0        data_256/a/airfield/00000001.jpg
//! places365_train_challenge.txt     the same for the challenge's eight million images
//! places365_val.txt                 Places365_val_00000001.jpg 165    val_256/Places365_val_00000001.jpg
//! ```
//!
//! The images are in `data_256/` and `val_256/` (256x256), or else `data_large/` and `val_large/`;
//! torchvision's names for the training directories (`data_256_standard/`, `data_large_challenge/`,
//! ...) are accepted, too. Labels are the numbers of the category file.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Component, Path, PathBuf};

use crate::annotations::image_files::ImageFiles;
use crate::annotations::layout::Split;
use crate::datasets::labeled::LabeledDataset;
use crate::{DataError, Remedy};

/// The list of categories; a directory with this file contains Places365.
pub(crate) const CATEGORIES: &str = "categories_places365.txt";
const VAL_LIST: &str = "places365_val.txt";
/// Upper limit of a line's length; no list has longer lines.
const MAX_LINE: u64 = 4096;
/// Number of images of a list that are tried before their directory is reported as missing.
const TRIED_IMAGES: usize = 100;

/// The two sets of training images; they share the val images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlacesTrain {
    /// The standard set, 1.8 million images.
    Standard,
    /// The challenge set, 8 million images.
    Challenge,
}

impl PlacesTrain {
    fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Challenge => "challenge",
        }
    }

    /// Returns the name of the list file.
    fn list(self) -> String {
        format!("places365_train_{}.txt", self.name())
    }

    /// Returns the standard set, unless the directory contains only the challenge's list.
    pub fn in_directory(directory: &Path) -> Self {
        let has = |set: Self| directory.join(set.list()).is_file();
        if !has(Self::Standard) && has(Self::Challenge) {
            Self::Challenge
        } else {
            Self::Standard
        }
    }
}

/// Opens a split of Places365.
///
/// # Errors
/// A list is missing, or has an invalid line or a label without a category; no directory has the
/// images; the split is test, whose labels are not public.
pub(crate) fn open_places365(
    directory: &Path,
    train: PlacesTrain,
    split: Split,
) -> Result<LabeledDataset, DataError> {
    let (list, image_directories) = match split {
        Split::Train => (
            train.list(),
            ["256", "large"]
                .into_iter()
                .flat_map(|size| {
                    let set = train.name();
                    [format!("data_{size}"), format!("data_{size}_{set}")]
                })
                .collect::<Vec<_>>(),
        ),
        Split::Val => (VAL_LIST.into(), vec!["val_256".into(), "val_large".into()]),
        Split::Test => {
            let problem = "the labels of Places365's test images are not public";
            return Err(DataError::labels(directory, problem).with(Remedy::ValSplit));
        }
    };
    let class_names = read_categories(&directory.join(CATEGORIES))?;
    let list = directory.join(list);
    let mut labels = Vec::new();
    let mut listed = ImageFiles::default();
    each_entry(&list, |path, number| {
        if number >= class_names.len() {
            return Err(format!(
                "the label {number}, but {CATEGORIES} has {} categories",
                class_names.len()
            ));
        }
        labels.push(number as u32);
        let (within, name) = path.rsplit_once('/').unwrap_or(("", path));
        listed.push(Path::new(within), name);
        Ok(())
    })?;
    let root = image_directory(directory, &image_directories, &listed).ok_or_else(|| {
        let problem = format!(
            "none of its images was found; searched {} of {}",
            image_directories.join(", "),
            directory.display()
        );
        DataError::labels(&list, problem).with(Remedy::UnpackImages)
    })?;
    let origin = list.display().to_string();
    LabeledDataset::new(&origin, class_names, labels, listed.within(&root))
}

/// Reads the names of the categories by number; `airfield` for the line `/a/airfield 0`.
fn read_categories(path: &Path) -> Result<Vec<String>, DataError> {
    let mut names: Vec<String> = Vec::new();
    each_entry(path, |category, number| {
        if number != names.len() {
            return Err(format!("the number {number} where {} is next", names.len()));
        }
        // Its first character is a directory.
        let name = category.split_once('/').map_or(category, |(_, name)| name);
        names.push(name.to_owned());
        Ok(())
    })?;
    Ok(names)
}

/// Calls `read` with every line `PATH NUMBER` of a list, the path without its leading `/`.
fn each_entry(
    path: &Path,
    mut read: impl FnMut(&str, usize) -> Result<(), String>,
) -> Result<(), DataError> {
    let io = |source| DataError::io(path, source);
    let mut file = BufReader::new(File::open(path).map_err(io)?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let count = file.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        if count.map_err(io)? == 0 {
            break;
        }
        // The list has millions of lines and is not decoded as a whole; a byte order mark is no part of a path.
        let entry = std::str::from_utf8(&line).ok();
        let entry = entry.map(|line| line.trim_start_matches('\u{feff}').trim());
        if entry == Some("") {
            continue;
        }
        let parts = entry.and_then(|entry| {
            let (image, label) = entry.rsplit_once(char::is_whitespace)?;
            let image = image.trim().trim_start_matches('/');
            (!image.is_empty() && stays_inside(image)).then_some(())?;
            Some((image, label.parse().ok()?))
        });
        let outcome = match parts {
            Some((image, label)) => read(image, label),
            None => Err("not a path and a number".into()),
        };
        outcome.map_err(|problem| {
            let problem = format!("line {number}: {problem}");
            DataError::labels(path, problem).with(Remedy::Original)
        })?;
    }
    Ok(())
}

/// Returns whether a path has no `..` that leads to other directories.
fn stays_inside(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Returns the first directory with one of the first images; any directory for an empty list.
fn image_directory(root: &Path, directories: &[String], listed: &ImageFiles) -> Option<PathBuf> {
    let mut directories = directories.iter().map(|directory| root.join(directory));
    directories.find(|directory| {
        let mut first = (0..listed.len().min(TRIED_IMAGES)).map(|index| listed.path(index));
        listed.is_empty() || first.any(|image| directory.join(image).is_file())
    })
}
