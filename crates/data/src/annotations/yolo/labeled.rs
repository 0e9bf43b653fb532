//! Which images have label files, before any is read.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::directory::{is_label, looks_like_labels};
use super::images::SplitImages;
use super::label_files::{IMAGES, LabelPlace};
use crate::annotations::format::{DatasetFiles, SplitFiles};
use crate::annotations::image_files::{DirectoryListing, holds_images_directly, images_within};
use crate::text::count;
use crate::text_file::read_text;

/// The first images of a directory are inspected: not every image has objects.
const TRIED: usize = 200;

/// Returns the label files of an image, wherever they may be.
fn labels_of(root: &Path, image: &Path) -> impl Iterator<Item = PathBuf> {
    let places = LabelPlace::ALL.into_iter();
    let labels = places.map(move |place| place.path(root, image));
    labels.filter(|label| label.is_file() && !is_other_text(label))
}

/// Returns whether a text is no label file, such as the caption of an image. An empty one is that of an image without
/// objects.
pub(super) fn is_other_text(path: &Path) -> bool {
    let text = read_text(path).unwrap_or_default();
    !text.trim().is_empty() && !looks_like_labels(&text)
}

/// Returns whether one of the first images directly in a directory has labels, wherever they may be.
pub(super) fn has_labeled_image(root: &Path, directory: &Path) -> bool {
    first_label_of(root, directory).is_some()
}

/// Returns the first label file of one of the first images directly in a directory, wherever it may be.
pub(super) fn first_label_of(root: &Path, directory: &Path) -> Option<PathBuf> {
    let images = images_in(directory);
    let mut images = images.iter().take(TRIED);
    images.find_map(|image| labels_of(root, image).find(|label| is_label(label)))
}

/// Returns whether an image has a label file, wherever it may be.
pub(super) fn has_label(root: &Path, image: &Path) -> bool {
    labels_of(root, image).next().is_some()
}

/// Describes the labeled images in the directories of listed ones that no list names.
pub(super) fn unlisted_images(files: &DatasetFiles) -> Option<String> {
    if files.image_directories().all(|place| place.is_dir()) {
        return images_beside_splits(files);
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

/// Describes the labeled images directly in the directories around those of the splits.
fn images_beside_splits(files: &DatasetFiles) -> Option<String> {
    let around = files.image_directories().filter_map(|place| place.parent());
    let around = around.filter(|directory| directory.starts_with(&files.root));
    let mut around: BTreeSet<&Path> = around.chain([files.root.as_path()]).collect();
    around.retain(|directory| {
        let mut places = files.image_directories();
        directory.is_dir() && !places.any(|place| directory.starts_with(place))
    });
    let images = around.into_iter().flat_map(images_in);
    let labeled = images.filter(|image| is_label(&image.with_extension("txt")));
    let images: Vec<PathBuf> = labeled.collect();
    let first = images.first()?;
    let first = first.strip_prefix(&files.root).unwrap_or(first).display();
    let images = count(images.len(), "labeled image");
    Some(format!(
        "{images} beside the directories of the splits, such as {first}"
    ))
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
            || around.parent() == Some(directory)
            || is_images && around.parent() == directory.parent()
    };
    let images = images_in(directory);
    let mut images = images.iter().take(TRIED);
    images.any(|image| labels_of(root, image).any(is_own))
}

/// Returns whether a directory contains label files, and there are no images where those of its files would be: another
/// version of the labels, or a split whose images were not copied.
pub(super) fn has_labels_without_images(root: &Path, directory: &Path) -> bool {
    /// The first files are inspected.
    const FILES: usize = 20;
    let listing = DirectoryListing::of(directory);
    let is_label = |path: PathBuf| is_label_of_box(&read_text(&path).unwrap_or_default());
    if !listing.files_with("txt").take(FILES).any(is_label) {
        return false;
    }
    let Ok(within) = directory.strip_prefix(root) else {
        return false;
    };
    // One directory for the labels of all images.
    if within.as_os_str().eq_ignore_ascii_case("labels") {
        return false;
    }
    !image_directories_for(root, within).any(|place| holds_images_directly(&place))
}

/// Returns the directories whose images may have their labels in a directory, which is relative to that of the dataset;
/// the inverse of [`LabelPlace::path`].
fn image_directories_for(root: &Path, labels: &Path) -> impl Iterator<Item = PathBuf> {
    let parts: Vec<&OsStr> = labels.iter().collect();
    let is_labels = |part: &OsStr| part.eq_ignore_ascii_case("labels");
    let mut found = vec![root.join(labels)];
    if parts.first().is_some_and(|first| is_labels(first)) {
        found.push(root.join(parts[1..].iter().collect::<PathBuf>()));
    }
    for (at, _) in parts.iter().enumerate().filter(|(_, part)| is_labels(part)) {
        let above = root.join(parts[..at].iter().collect::<PathBuf>());
        let below: PathBuf = parts[at + 1..].iter().collect();
        let listing = DirectoryListing::of(&above);
        let images = IMAGES.iter().filter_map(|name| listing.directory(&[name]));
        found.extend(images.map(|images| images.join(&below)));
        if below.as_os_str().is_empty() {
            found.push(above);
        }
    }
    found.into_iter()
}

/// Returns whether the first line of a file is a class number and fractions.
fn is_label_of_box(text: &str) -> bool {
    let line = text.lines().find(|line| !line.trim().is_empty());
    let mut words = line.unwrap_or_default().split_whitespace();
    let is_class = words.next().is_some_and(|word| word.parse::<u32>().is_ok());
    let fractions: Option<Vec<f64>> = words.map(|word| word.parse().ok()).collect();
    is_class
        && fractions.is_some_and(|found| {
            let has_area = found.len() >= 4 && found[2] > 0.0 && found[3] > 0.0;
            has_area && found.iter().all(|x| (-0.5..1.5).contains(x))
        })
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
