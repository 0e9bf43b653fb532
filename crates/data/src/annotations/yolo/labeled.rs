//! Which images have label files, before any is read.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use super::images::SplitImages;
use super::label_files::LabelPlace;
use crate::annotations::format::{DatasetFiles, SplitFiles};
use crate::annotations::image_files::{DirectoryListing, images_within};
use crate::text::count;

/// The first images of a directory are inspected: not every image has objects.
const TRIED: usize = 200;

/// Returns the label files of an image, wherever they may be.
fn labels_of(root: &Path, image: &Path) -> impl Iterator<Item = PathBuf> {
    let places = LabelPlace::ALL.into_iter();
    let labels = places.map(move |place| place.path(root, image));
    labels.filter(|label| label.is_file())
}

/// Describes the labeled images in the directories of listed ones that no list names.
pub(super) fn unlisted_images(files: &DatasetFiles) -> Option<String> {
    if files.image_directories().all(|place| place.is_dir()) {
        return None;
    }
    let mut named: HashSet<PathBuf> = HashSet::new();
    for split in &files.splits {
        // What is wrong with a list is reported when it is read.
        named.extend(SplitImages::of(&files.root, split).ok()?.paths);
    }
    let directories: BTreeSet<&Path> = named.iter().filter_map(|path| path.parent()).collect();
    let images = directories.into_iter().flat_map(images_in);
    let is_unlisted =
        |image: &PathBuf| !named.contains(image) && labels_of(&files.root, image).next().is_some();
    let unlisted: Vec<PathBuf> = images.filter(is_unlisted).collect();
    let first = unlisted.first()?;
    let first = first.strip_prefix(&files.root).unwrap_or(first).display();
    let images = count(unlisted.len(), "labeled image");
    Some(format!("{images} that no list names, such as {first}"))
}

fn images_in(directory: &Path) -> Vec<PathBuf> {
    let listing = DirectoryListing::of(directory);
    listing.images().map(|name| directory.join(name)).collect()
}

/// Returns whether one of the first images in a directory has a label file beside it, or in a directory that corresponds
/// to this one only: thumbnails and masks beside `images` have the names of the images in `labels`.
pub(super) fn has_own_labels(root: &Path, directory: &Path) -> bool {
    let is_images = directory
        .file_name()
        .is_some_and(|name| name.eq_ignore_ascii_case("images"));
    let is_own = |label: PathBuf| {
        let around = label.parent().unwrap_or(root);
        around == directory
            || around.file_name() == directory.file_name()
            || is_images && around.parent() == directory.parent()
    };
    let images = images_in(directory);
    let mut images = images.iter().take(TRIED);
    images.any(|image| labels_of(root, image).any(is_own))
}

/// Returns whether one of the first images of a split has a label file, or the images are not in directories.
pub(super) fn has_label_file(split: &SplitFiles) -> bool {
    let root = if split.annotations.is_file() {
        split.annotations.parent().unwrap_or(Path::new(""))
    } else {
        &split.annotations
    };
    split.image_directories.iter().any(|directory| {
        let Ok(found) = images_within(directory) else {
            return true;
        };
        let mut images = found.iter().take(TRIED);
        !directory.is_dir()
            || images.any(|image| {
                let image = directory.join(image.path());
                labels_of(root, &image).next().is_some()
            })
    })
}
