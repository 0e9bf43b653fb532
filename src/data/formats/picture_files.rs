//! Lists of picture files, and what lies in a folder.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use image::RgbImage;

use crate::data::DataError;
use crate::data::dataset::ImageSource;
use crate::data::decode::{decode_image, has_picture_extension};

/// Paths of pictures: about 30 bytes for each, whatever the folders are called, since the largest
/// data sets have eight million.
#[derive(Debug, Clone, Default)]
pub struct PictureFiles {
    folders: Vec<PathBuf>,
    known_folders: HashMap<PathBuf, u32>,
    /// Of each picture, an index of the folders.
    folder_of: Vec<u32>,
    /// All file names, one after the other.
    names: String,
    /// Where each name ends.
    ends: Vec<usize>,
}

impl PictureFiles {
    /// Adds a picture.
    pub fn push(&mut self, folder: &Path, name: &str) {
        let index = match self.known_folders.get(folder) {
            Some(index) => *index,
            None => {
                let index = self.folders.len() as u32;
                self.folders.push(folder.to_owned());
                self.known_folders.insert(folder.to_owned(), index);
                index
            }
        };
        self.folder_of.push(index);
        self.names.push_str(name);
        self.ends.push(self.names.len());
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The same pictures, their paths taken as relative to a folder.
    pub fn within(mut self, root: &Path) -> Self {
        for folder in &mut self.folders {
            *folder = root.join(&folder);
        }
        self.known_folders.clear();
        self
    }

    /// The path of a picture.
    ///
    /// # Panics
    /// The position is out of range.
    pub fn path(&self, index: usize) -> PathBuf {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.folders[self.folder_of[index] as usize].join(&self.names[start..self.ends[index]])
    }
}

impl ImageSource for PictureFiles {
    fn load(&self, index: usize) -> Result<RgbImage, DataError> {
        Ok(decode_image(&self.path(index))?)
    }

    fn describe(&self, index: usize) -> String {
        self.path(index).display().to_string()
    }
}

/// What lies in a folder, without hidden entries (names that begin with a point).
#[derive(Debug, Default)]
pub(in crate::data) struct Listing {
    /// Names of folders and of links to folders, sorted.
    pub(in crate::data) folders: Vec<String>,
    /// Names of pictures, sorted.
    pub(in crate::data) pictures: Vec<String>,
}

/// Lists a folder.
///
/// # Errors
/// It can't be read, or holds a folder or picture whose name is not Unicode.
pub(in crate::data) fn list(folder: &Path) -> Result<Listing, DataError> {
    let io = |source| DataError::io(folder, source);
    let mut listing = Listing::default();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let kind = entry.file_type().map_err(io)?;
        let is_folder = kind.is_dir() || (kind.is_symlink() && entry.path().is_dir());
        let list = if is_folder {
            &mut listing.folders
        } else if has_picture_extension(Path::new(&name)) {
            &mut listing.pictures
        } else {
            continue;
        };
        list.push(name.into_string().map_err(|name| {
            let path = folder.join(name);
            DataError::labels(&path, "its name is not Unicode (UTF-8); rename it")
        })?);
    }
    listing.folders.sort();
    listing.pictures.sort();
    Ok(listing)
}

/// Folders inside each other; links can lead in circles.
const MAX_DEPTH: usize = 16;

/// A picture somewhere inside a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    /// Its folder, relative, with `/` between the parts; empty for the folder itself.
    pub(super) within: String,
    /// Its file name.
    pub(super) name: String,
}

/// All pictures in a folder and in the folders inside it, by folder and then by name: the order of
/// torchvision's `make_dataset`.
///
/// # Errors
/// A folder can't be read, or folders are nested too deeply.
pub(super) fn pictures_within(folder: &Path) -> Result<Vec<Found>, DataError> {
    let mut found = Vec::new();
    let mut open = vec![(String::new(), 0)];
    while let Some((within, depth)) = open.pop() {
        let path = folder.join(&within);
        if depth > MAX_DEPTH {
            let problem = format!(
                "folders are nested more than {MAX_DEPTH} deep; remove links that lead in a circle"
            );
            return Err(DataError::labels(&path, problem));
        }
        let listing = list(&path)?;
        open.extend(
            listing
                .folders
                .into_iter()
                .map(|name| match within.as_str() {
                    "" => (name, depth + 1),
                    _ => (format!("{within}/{name}"), depth + 1),
                }),
        );
        found.extend(listing.pictures.into_iter().map(|name| Found {
            within: within.clone(),
            name,
        }));
    }
    found.sort();
    Ok(found)
}

/// Whether there is a picture in a folder or in the folders inside it; stops at the first.
pub(super) fn holds_pictures(folder: &Path) -> bool {
    let mut open = vec![(folder.to_owned(), 0)];
    while let Some((path, depth)) = open.pop() {
        for entry in std::fs::read_dir(&path).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if path.is_dir() {
                if depth < MAX_DEPTH {
                    open.push((path, depth + 1));
                }
            } else if has_picture_extension(&path) {
                return true;
            }
        }
    }
    false
}

/// Whether pictures lie in the folder itself.
pub(super) fn holds_pictures_directly(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .any(|path| has_picture_extension(&path) && !is_hidden(&path) && path.is_file())
}

fn is_hidden(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// The first few of many names, for a message.
pub(super) fn first_few<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 5;
    let names: Vec<&str> = names.into_iter().collect();
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
