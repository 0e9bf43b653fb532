//! Places365: scenes in 365 categories, with lists of pictures.
//!
//! ```text
//! categories_places365.txt          /a/airfield 0
//! places365_train_standard.txt      /a/airfield/00000001.jpg 0        data_256/a/airfield/00000001.jpg
//! places365_train_challenge.txt     the same for the challenge's eight million pictures
//! places365_val.txt                 Places365_val_00000001.jpg 165    val_256/Places365_val_00000001.jpg
//! ```
//!
//! The pictures lie in `data_256/` and `val_256/` (256x256), or else `data_large/` and `val_large/`;
//! torchvision's names for the training folders (`data_256_standard/`, `data_large_challenge/`, ...)
//! do as well. Labels are the numbers of the category file.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Component, Path, PathBuf};

use super::layout::Split;
use super::picture_files::PictureFiles;
use crate::data::DataError;
use crate::data::labelled::LabelledDataset;

/// The list of categories; a folder with this file holds Places365.
pub const CATEGORIES: &str = "categories_places365.txt";
const VAL_LIST: &str = "places365_val.txt";
/// Longer lines are in no list.
const MAX_LINE: u64 = 4096;
/// So many pictures of a list may be missing before their folder counts as missing.
const TRIED_PICTURES: usize = 100;

/// The two sets of training pictures; their val pictures are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlacesTrain {
    /// 1.8 million.
    Standard,
    /// 8 million.
    Challenge,
}

impl PlacesTrain {
    fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Challenge => "challenge",
        }
    }

    /// The file with its list.
    fn list(self) -> String {
        format!("places365_train_{}.txt", self.name())
    }

    /// The standard set, unless only the challenge's list is in the folder.
    pub fn in_folder(folder: &Path) -> Self {
        let has = |set: Self| folder.join(set.list()).is_file();
        match !has(Self::Standard) && has(Self::Challenge) {
            true => Self::Challenge,
            false => Self::Standard,
        }
    }
}

/// Opens a split of Places365.
///
/// # Errors
/// A list is missing, has a line of another form or a label without a category; no folder has the
/// pictures; the test split, whose labels are not public.
pub fn open_places365(
    folder: &Path,
    train: PlacesTrain,
    split: Split,
) -> Result<LabelledDataset, DataError> {
    let (list, picture_folders) = match split {
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
            let problem =
                "the labels of Places365's test pictures are not public; use the val split";
            return Err(DataError::labels(folder, problem));
        }
    };
    let class_names = read_categories(&folder.join(CATEGORIES))?;
    let list = folder.join(list);
    let mut labels = Vec::new();
    let mut listed = PictureFiles::default();
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
    let root = picture_folder(folder, &picture_folders, &listed).ok_or_else(|| {
        let problem = format!(
            "none of its pictures is there; looked in {} of {}; unpack the pictures there",
            picture_folders.join(", "),
            folder.display()
        );
        DataError::labels(&list, problem)
    })?;
    let origin = list.display().to_string();
    LabelledDataset::new(&origin, class_names, labels, listed.within(&root))
}

/// The names of the categories, `airfield` for the line `/a/airfield 0`, by number.
fn read_categories(path: &Path) -> Result<Vec<String>, DataError> {
    let mut names: Vec<String> = Vec::new();
    each_entry(path, |category, number| {
        if number != names.len() {
            return Err(format!("the number {number} where {} is next", names.len()));
        }
        // Its first letter is a folder of its own.
        let name = category.split_once('/').map_or(category, |(_, name)| name);
        names.push(name.to_owned());
        Ok(())
    })?;
    Ok(names)
}

/// Hears every line `PATH NUMBER` of a list, the path without its leading `/`.
fn each_entry(
    path: &Path,
    mut hear: impl FnMut(&str, usize) -> Result<(), String>,
) -> Result<(), DataError> {
    let io = |source| DataError::io(path, source);
    let mut file = BufReader::new(File::open(path).map_err(io)?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = file.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        if read.map_err(io)? == 0 {
            break;
        }
        let entry = std::str::from_utf8(&line).ok().map(str::trim);
        if entry == Some("") {
            continue;
        }
        let parts = entry.and_then(|entry| {
            let (picture, label) = entry.rsplit_once(char::is_whitespace)?;
            let picture = picture.trim().trim_start_matches('/');
            (!picture.is_empty() && stays_inside(picture)).then_some(())?;
            Some((picture, label.parse().ok()?))
        });
        let heard = match parts {
            Some((picture, label)) => hear(picture, label),
            None => Err("not a path and a number".into()),
        };
        heard.map_err(|problem| {
            let problem = format!("line {number}: {problem}; put the original file there");
            DataError::labels(path, problem)
        })?;
    }
    Ok(())
}

/// No `..` that leads to other folders.
fn stays_inside(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    parts.all(|part| matches!(part, Component::Normal(_)))
}

/// The first folder with one of the first pictures; any folder for an empty list.
fn picture_folder(root: &Path, folders: &[String], listed: &PictureFiles) -> Option<PathBuf> {
    let mut folders = folders.iter().map(|folder| root.join(folder));
    folders.find(|folder| {
        let mut first = (0..listed.len().min(TRIED_PICTURES)).map(|index| listed.path(index));
        listed.is_empty() || first.any(|picture| folder.join(picture).is_file())
    })
}
