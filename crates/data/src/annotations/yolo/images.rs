//! The images of a split: directories, lists, and paths that were written elsewhere.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::labeled::has_label;
use crate::annotations::file_names::{
    AnyCapitals, FileMatch, file_names, found_in_other_capitals, several_files,
};
use crate::annotations::format::SplitFiles;
use crate::annotations::image_files::images_within;
use crate::annotations::layout::{LayoutError, join};
use crate::annotations::masks::without_masks;
use crate::text::count;
use crate::text_file::{lines, read_text};
use crate::{DataError, Remedy};

/// The images of a split.
#[derive(Default)]
pub(super) struct SplitImages {
    /// Sorted, each once.
    pub(super) paths: Vec<PathBuf>,
    /// How many were found in other capitals, and how many are named several times, one line each.
    pub(super) notes: Vec<String>,
    /// The errors of the paths that several files fit.
    pub(super) ambiguous: HashMap<PathBuf, DataError>,
    /// The masks, which a note describes.
    pub(super) left_out: Vec<PathBuf>,
}

impl SplitImages {
    /// Lists the images of the directories and lists of a split.
    pub(super) fn of(root: &Path, files: &SplitFiles) -> Result<Self, DataError> {
        let mut images = Self::default();
        let mut listed = Vec::new();
        let capitals = AnyCapitals::default();
        for place in &files.image_directories {
            if place.is_dir() {
                let mut found = images_within(place)?;
                // As with classes, a mask that has no label file of its own is no image.
                let is_labeled = |image: &Path| has_label(root, image);
                let (masks, note) = without_masks(place, &mut found, &is_labeled);
                images.left_out.extend(masks);
                images.notes.extend(note);
                let found = found.into_iter().map(|found| place.join(found.path()));
                images.paths.extend(found);
            } else {
                let directory = place.parent().unwrap_or(Path::new(""));
                let lines = lines(&read_text(place)?);
                let found: Vec<ListedImage> = lines
                    .into_par_iter()
                    .map(|line| ListedImage::find(root, directory, line, &capitals))
                    .collect();
                // The labels of images that are not there are not there either.
                if let Some(first) = found.first()
                    && found.iter().all(|image| image.found.is_none())
                {
                    let annotations = place.clone();
                    return Err(images_of_list_not_found(
                        annotations,
                        root,
                        directory,
                        first,
                    ));
                }
                listed.extend(found);
            }
        }
        images.add_listed(root, listed);
        let named = images.paths.len();
        images.paths.sort();
        images.paths.dedup();
        let repeated = named - images.paths.len();
        if repeated > 0 {
            let places = files.image_directories.iter();
            let places =
                join(places.map(|place| place.strip_prefix(root).unwrap_or(place).display()));
            images.notes.push(format!(
                "{} in {places}: each is used once",
                count(repeated, "repeated image")
            ));
        }
        if images.paths.is_empty() {
            let places = files.image_directories.iter();
            let places = join(places.map(|place| place.display()));
            let problem = format!("no images in the {} split ({places})", files.split);
            return Err(DataError::labels(root, problem).with(Remedy::PutImages));
        }
        Ok(images)
    }

    /// Adds the images of lists. One in other capitals is taken if no line names it exactly.
    pub(super) fn add_listed(&mut self, root: &Path, listed: Vec<ListedImage>) {
        let exact = listed.iter().filter_map(|image| image.found.as_ref());
        let exact = exact.filter(|found| found.is_exact);
        let taken: HashSet<PathBuf> = exact.flat_map(|found| found.paths.clone()).collect();
        let mut renamed = BTreeSet::new();
        let mut example = None;
        let place = listed.iter().find_map(ListedImage::place);
        for ListedImage {
            line,
            written,
            found,
        } in listed
        {
            let Some(mut found) = found else {
                // The loader names the missing image, where the others are.
                let place = place.as_ref();
                let there = place.and_then(|(start, parts)| {
                    let parts: Vec<&str> = line_parts(&line).skip(*parts).collect();
                    (!parts.is_empty()).then(|| start.join(parts.join("/")))
                });
                self.paths.push(there.unwrap_or(written));
                continue;
            };
            if found.is_exact {
                self.paths.append(&mut found.paths);
                continue;
            }
            found.paths.retain(|path| !taken.contains(path));
            match found.paths.as_slice() {
                // Another line for the same image.
                [] => {}
                [only] => {
                    let shown = only.strip_prefix(root).unwrap_or(only).display();
                    example.get_or_insert_with(|| (shown.to_string(), line));
                    renamed.insert(only.clone());
                    self.paths.push(only.clone());
                }
                several => {
                    let error = several_files(&written, several);
                    self.ambiguous.insert(written.clone(), error);
                    self.paths.push(written);
                }
            }
        }
        let note =
            example.map(|(found, line)| found_in_other_capitals(renamed.len(), &found, &line));
        self.notes.extend(note);
    }
}

/// A line of a list of images.
pub(super) struct ListedImage {
    pub(super) line: String,
    /// The path as it is written.
    pub(super) written: PathBuf,
    pub(super) found: Option<FoundPath>,
}

impl ListedImage {
    /// Finds the image of a line: beside the list, or else by the end of its path below the dataset.
    pub(super) fn find(
        root: &Path,
        directory: &Path,
        line: String,
        capitals: &AnyCapitals,
    ) -> Self {
        let path = line.replace('\\', "/");
        // On Linux, a backslash can be a part of a name.
        let beside = [&line, &path].map(|path| (directory, directory.join(path)));
        let below = ends_below(root, &path, 1).into_iter();
        let tried = beside.into_iter().chain(below.map(|path| (root, path)));
        let found = FoundPath::first(tried, &|root, path| capitals.file(root, path));
        Self {
            written: root.join(path),
            line,
            found,
        }
    }
}

impl ListedImage {
    /// Returns the directory that the path is relative to, and the number of its first parts that are not in the path of
    /// the image; None if it was not found, or not by its name.
    fn place(&self) -> Option<(PathBuf, usize)> {
        let found = self.found.as_ref().filter(|found| found.is_exact)?;
        let parts: Vec<&str> = line_parts(&self.line).collect();
        let path = found.paths.first()?;
        let skipped = (0..parts.len()).find(|at| path.ends_with(parts[*at..].join("/")))?;
        let start = path.ancestors().nth(parts.len() - skipped)?;
        Some((start.to_owned(), skipped))
    }
}

/// Returns the parts of a path in a list, also of one that was written on Windows.
fn line_parts(line: &str) -> impl Iterator<Item = &str> {
    let parts = line.split(['/', '\\']);
    parts.filter(|part| !matches!(*part, "" | "." | ".."))
}

/// Returns the error about a list of which not one image exists.
pub(super) fn images_of_list_not_found(
    annotations: PathBuf,
    root: &Path,
    directory: &Path,
    first: &ListedImage,
) -> DataError {
    let mut directories = vec![directory.display().to_string()];
    if root != directory {
        directories.push(root.display().to_string());
    }
    LayoutError::NoImageFiles {
        annotations,
        image: first.line.as_str().into(),
        expected_in: directories.join(", ").into(),
        is_renamed: false,
    }
    .into()
}

/// The file found for a path in a description or a list.
pub(super) struct FoundPath {
    /// The path, or those that differ from it in capitals.
    pub(super) paths: Vec<PathBuf>,
    pub(super) is_exact: bool,
}

impl FoundPath {
    /// Looks for the first of some paths that exists, each below a root; if none does, for the first that exists in
    /// other capitals.
    pub(super) fn first<'r>(
        tried: impl IntoIterator<Item = (&'r Path, PathBuf)>,
        look: &dyn Fn(&Path, &Path) -> FileMatch,
    ) -> Option<Self> {
        let mut alike = None;
        for (root, path) in tried {
            match look(root, &path) {
                FileMatch::Exact => {
                    let (paths, is_exact) = (vec![path], true);
                    return Some(Self { paths, is_exact });
                }
                FileMatch::OtherCapitals(paths) => {
                    let is_exact = false;
                    alike.get_or_insert(Self { paths, is_exact });
                }
                FileMatch::Missing => {}
            }
        }
        alike
    }

    /// Looks for the end of a path below a directory; see [`ends_below`].
    pub(super) fn below(
        root: &Path,
        entry: &str,
        parts: usize,
        look: &dyn Fn(&Path, &Path) -> FileMatch,
    ) -> Option<Self> {
        let paths = ends_below(root, entry, parts).into_iter();
        Self::first(paths.map(|path| (root, path)), look)
    }

    /// Returns the only path for a key of a description, and adds to `reason` how it differs from the written one.
    ///
    /// # Errors
    /// There are several; the string names them.
    pub(super) fn only(
        self,
        root: &Path,
        key: &str,
        entry: &str,
        reason: &mut String,
    ) -> Result<PathBuf, String> {
        match <[PathBuf; 1]>::try_from(self.paths) {
            Ok([path]) => {
                if !self.is_exact {
                    let shown = path.strip_prefix(root).unwrap_or(&path).display();
                    *reason += &format!("; its `{key}` ({entry}) is {shown}");
                }
                Ok(path)
            }
            Err(several) => Err(format!(
                "`{key}` is `{entry}`, but {} differ from it in capitals only",
                file_names(&several)
            )),
        }
    }
}

/// Returns the paths below a directory that have at least `parts` parts in common with the end of `entry`, longest
/// first: darknet's paths are relative to the directory that it runs in.
pub(super) fn ends_below(root: &Path, entry: &str, parts: usize) -> Vec<PathBuf> {
    let entry = entry.replace('\\', "/");
    let all: Vec<&str> = entry
        .split('/')
        .filter(|part| !matches!(*part, "" | "." | ".."))
        .collect();
    let starts = 0..(all.len() + 1).saturating_sub(parts);
    starts
        .map(|start| root.join(all[start..].join("/")))
        .collect()
}
