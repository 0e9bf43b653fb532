//! Lists of image files, and directory listings.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use image::RgbImage;

use crate::annotations::layout::Split;
use crate::images::ImageSource;
use crate::images::decode::{
    decode_image, has_image_extension, has_unsupported_image_extension, unsupported_images,
};
use crate::{DataError, Remedy};

/// Paths of images. Each takes about 30 bytes, regardless of the length of the directory names: the
/// largest datasets have eight million images.
#[derive(Debug, Clone, Default)]
pub(crate) struct ImageFiles {
    directories: Vec<PathBuf>,
    known_directories: HashMap<PathBuf, u32>,
    /// Index of the directory of each image.
    directory_of: Vec<u32>,
    /// All file names, concatenated.
    names: String,
    /// End of each name.
    ends: Vec<usize>,
}

impl ImageFiles {
    /// Adds an image.
    pub fn push(&mut self, directory: &Path, name: &str) {
        let index = match self.known_directories.get(directory) {
            Some(index) => *index,
            None => {
                let index = self.directories.len() as u32;
                self.directories.push(directory.to_owned());
                self.known_directories.insert(directory.to_owned(), index);
                index
            }
        };
        self.directory_of.push(index);
        self.names.push_str(name);
        self.ends.push(self.names.len());
    }

    /// Returns the number of images.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Reports whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns the same images with paths relative to a directory.
    pub fn within(mut self, root: &Path) -> Self {
        for directory in &mut self.directories {
            *directory = root.join(&directory);
        }
        self.known_directories.clear();
        self
    }

    /// Returns the path of an image.
    ///
    /// # Panics
    /// The position is out of range.
    pub fn path(&self, index: usize) -> PathBuf {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.directories[self.directory_of[index] as usize]
            .join(&self.names[start..self.ends[index]])
    }
}

impl ImageSource for ImageFiles {
    fn load(&self, index: usize) -> Result<RgbImage, DataError> {
        Ok(decode_image(&self.path(index))?)
    }

    fn describe(&self, index: usize) -> String {
        self.path(index).display().to_string()
    }
}

/// The most lists or tables that a directory has; one with more files has a text for each image.
pub(crate) const MOST_LISTS: usize = 50;

/// The names in a directory without hidden ones and those that are not Unicode, sorted; empty if the
/// directory cannot be read. For recognition, which must not fail.
#[derive(Debug)]
pub(crate) struct DirectoryListing {
    path: PathBuf,
    /// Names of directories and of links to directories.
    pub(crate) directories: Vec<String>,
    /// Names of files.
    pub(crate) files: Vec<String>,
}

impl DirectoryListing {
    /// Lists a directory.
    pub(crate) fn of(path: &Path) -> Self {
        let mut listing = Self {
            path: path.to_owned(),
            directories: Vec::new(),
            files: Vec::new(),
        };
        let listed = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        for entry in std::fs::read_dir(listed).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if is_no_part(name.as_ref()) {
                continue;
            }
            if kind.is_dir() || (kind.is_symlink() && entry.path().is_dir()) {
                listing.directories.push(name);
            } else {
                listing.files.push(name);
            }
        }
        listing.directories.sort();
        listing.files.sort();
        listing
    }

    /// Returns the subdirectory with the first of these names that exists, in any capitals.
    pub(crate) fn directory(&self, names: &[&str]) -> Option<PathBuf> {
        let find = |wanted: &&str| {
            let mut directories = self.directories.iter();
            directories.find(|name| name.eq_ignore_ascii_case(wanted))
        };
        names.iter().find_map(find).map(|name| self.path.join(name))
    }

    /// Returns the subdirectory of a split, in any capitals.
    pub(crate) fn split_directory(&self, split: Split) -> Option<PathBuf> {
        self.directory(split.names())
    }

    /// Describes directories of one split that both have images and differ in capitals only: one would be followed, and nothing
    /// says which.
    pub(crate) fn twins_of_splits(&self) -> Option<String> {
        Split::ALL.into_iter().find_map(|split| {
            let is_meant = |name: &&String, of: &str| name.eq_ignore_ascii_case(of);
            split.names().iter().find_map(|of| {
                let named = self.directories.iter().filter(|name| is_meant(name, of));
                let named: Vec<&String> = named.collect();
                // Nearly always there is one, and nothing is searched.
                let are_twins = named.len() > 1
                    && named
                        .iter()
                        .filter(|name| holds_images(&self.path.join(name)))
                        .count()
                        > 1;
                let names = named.iter().map(|name| name.as_str());
                are_twins.then(|| {
                    let names = names.collect::<Vec<_>>().join(" and ");
                    format!("{names} differ in capitals only, and both are directories of {split}")
                })
            })
        })
    }

    /// Returns the paths of the files with an extension, in any capitals.
    pub(crate) fn files_with<'f>(
        &'f self,
        extension: &'f str,
    ) -> impl Iterator<Item = PathBuf> + 'f {
        let files = self.files.iter();
        let files = files.filter(move |name| has_extension(Path::new(name), extension));
        files.map(|name| self.path.join(name))
    }

    /// Returns the paths of the files with these extensions that may be lists or tables: none of more than [`MOST_LISTS`].
    pub(crate) fn lists_with(&self, extensions: &[&str]) -> Vec<PathBuf> {
        let files = extensions
            .iter()
            .flat_map(|extension| self.files_with(extension));
        let files: Vec<PathBuf> = files.take(MOST_LISTS + 1).collect();
        if files.len() > MOST_LISTS {
            Vec::new()
        } else {
            files
        }
    }

    /// Returns the names of the images.
    pub(crate) fn images(&self) -> impl Iterator<Item = &String> {
        let files = self.files.iter();
        files.filter(|name| has_image_extension(Path::new(name)))
    }
}

/// Returns whether a file or directory is no part of a dataset: it is hidden, or macOS adds it to archives.
fn is_no_part(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".") || name == "__MACOSX"
}

/// Returns whether a file has an extension, in any capitals.
pub(crate) fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension()
        .is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

/// The contents of a directory without hidden entries (names that begin with a dot) and those that macOS adds.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Names of directories and of links to directories, sorted.
    pub(crate) directories: Vec<String>,
    /// Names of images, sorted.
    pub(crate) images: Vec<String>,
    /// Names of images in formats that are not decoded, sorted.
    pub(crate) unsupported: Vec<String>,
}

/// Lists a directory.
///
/// # Errors
/// It cannot be read, or contains a directory or image whose name is not Unicode.
pub(crate) fn list(directory: &Path) -> Result<Listing, DataError> {
    let io = |source| DataError::io(directory, source);
    let mut listing = Listing::default();
    for entry in std::fs::read_dir(directory).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name();
        if is_no_part(&name) {
            continue;
        }
        let kind = entry.file_type().map_err(io)?;
        let is_directory = kind.is_dir() || (kind.is_symlink() && entry.path().is_dir());
        let list = if is_directory {
            &mut listing.directories
        } else if has_image_extension(Path::new(&name)) {
            &mut listing.images
        } else if has_unsupported_image_extension(Path::new(&name)) {
            &mut listing.unsupported
        } else {
            continue;
        };
        list.push(name.into_string().map_err(|name| {
            let path = directory.join(name);
            DataError::labels(&path, "its name is not Unicode (UTF-8)").with(Remedy::RenameFile)
        })?);
    }
    listing.directories.sort();
    listing.images.sort();
    listing.unsupported.sort();
    Ok(listing)
}

/// Limit of nested directories; links can lead in circles.
pub(crate) const MAX_DEPTH: usize = 16;

/// A file below a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Found {
    /// Its directory, relative, with `/` between the parts; empty for the directory itself.
    pub(crate) within: String,
    /// Its file name.
    pub(crate) name: String,
}

impl Found {
    /// Returns the path relative to the directory, with `/` between the parts.
    pub(crate) fn path(&self) -> String {
        match self.within.as_str() {
            "" => self.name.clone(),
            within => format!("{within}/{}", self.name),
        }
    }
}

/// Returns all images below a directory by directory and then by name: the order of torchvision's
/// `make_dataset`.
///
/// # Errors
/// A directory cannot be read, or directories are nested too deeply.
pub(crate) fn images_within(directory: &Path) -> Result<Vec<Found>, DataError> {
    files_within(directory, |path| {
        list(path).map(|listing| (listing.directories, listing.images))
    })
}

/// Returns all files with an extension below a directory, by directory and then by name.
///
/// # Errors
/// Directories are nested too deeply.
pub(crate) fn files_with_extension(
    directory: &Path,
    extension: &str,
) -> Result<Vec<Found>, DataError> {
    files_within(directory, |path| {
        let mut listing = DirectoryListing::of(path);
        let is_wanted = |name: &String| has_extension(Path::new(name), extension);
        listing.files.retain(is_wanted);
        Ok((listing.directories, listing.files))
    })
}

/// Collects files below a directory; `list` returns the names of the directories and of the wanted
/// files in a directory.
fn files_within(
    directory: &Path,
    list: impl Fn(&Path) -> Result<(Vec<String>, Vec<String>), DataError>,
) -> Result<Vec<Found>, DataError> {
    let mut found = Vec::new();
    let mut open = vec![(String::new(), 0)];
    while let Some((within, depth)) = open.pop() {
        let path = directory.join(&within);
        if depth > MAX_DEPTH {
            let problem = format!("directories are nested more than {MAX_DEPTH} deep");
            return Err(DataError::labels(&path, problem).with(Remedy::RemoveLinks));
        }
        let (directories, files) = list(&path)?;
        open.extend(directories.into_iter().map(|name| match within.as_str() {
            "" => (name, depth + 1),
            _ => (format!("{within}/{name}"), depth + 1),
        }));
        found.extend(files.into_iter().map(|name| Found {
            within: within.clone(),
            name,
        }));
    }
    found.sort();
    Ok(found)
}

/// Returns the paths of the images below a directory whose formats are not decoded; directories that cannot
/// be read are skipped.
pub(crate) fn unsupported_within(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![(directory.to_owned(), 0)];
    while let Some((path, depth)) = open.pop() {
        let listing = list(&path).unwrap_or_default();
        if depth < MAX_DEPTH {
            let directories = listing.directories.iter();
            open.extend(directories.map(|name| (path.join(name), depth + 1)));
        }
        found.extend(listing.unsupported.iter().map(|name| path.join(name)));
    }
    found.sort();
    found
}

/// Describes the images in the directories of listed images that are not listed themselves, because their
/// formats are not decoded. `names` are relative to `root`. Directories in `seen` are skipped, and those that
/// were listed are added to it: several splits can have their images in one directory.
pub(crate) fn unsupported_beside<'a>(
    root: &Path,
    names: impl IntoIterator<Item = &'a str>,
    seen: &mut BTreeSet<PathBuf>,
) -> Option<String> {
    let mut listed = HashSet::new();
    let mut directories = BTreeSet::new();
    let mut last = None;
    for name in names {
        let path = Path::new(name);
        if has_unsupported_image_extension(path) {
            listed.insert(root.join(path));
        }
        let directory = path.parent();
        if last != Some(directory) {
            last = Some(directory);
            directories.insert(directory.map_or_else(|| root.to_owned(), |d| root.join(d)));
        }
    }
    let mut found = Vec::new();
    for directory in directories {
        if seen.insert(directory.clone()) {
            // Images in a directory that cannot be read are reported where they are loaded.
            let names = list(&directory).unwrap_or_default().unsupported;
            found.extend(names.into_iter().map(|name| directory.join(name)));
        }
    }
    found.retain(|path| !listed.contains(path));
    unsupported_images(found.iter().map(PathBuf::as_path))
}

/// Reports whether there is an image below a directory; stops at the first.
pub(crate) fn holds_images(directory: &Path) -> bool {
    holds_images_in(directory, usize::MAX) == Some(true)
}

/// Searches the first directories only, as [`holds_images`] does all: one that is no part of a dataset may have any number.
/// None if there are more, and no image was found.
pub(crate) fn holds_images_in(directory: &Path, directories: usize) -> Option<bool> {
    let mut open = vec![(directory.to_owned(), 0)];
    let mut searched = 0;
    while let Some((path, depth)) = open.pop() {
        if searched == directories {
            return None;
        }
        searched += 1;
        for entry in std::fs::read_dir(&path).into_iter().flatten().flatten() {
            let path = entry.path();
            if is_no_part(&entry.file_name()) {
                continue;
            }
            if path.is_dir() {
                if depth < MAX_DEPTH {
                    open.push((path, depth + 1));
                }
            } else if has_image_extension(&path) {
                return Some(true);
            }
        }
    }
    Some(false)
}

/// Reports whether there are images in the directory itself.
pub(crate) fn holds_images_directly(directory: &Path) -> bool {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .any(|path| has_image_extension(&path) && !is_hidden(&path) && path.is_file())
}

fn is_hidden(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// Formats the first few of many names, for a message.
pub(crate) fn first_few<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 5;
    let names: Vec<&str> = names.into_iter().collect();
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
