//! Boxes in a file for each image within or beside the directories of classes, as the toolkits for Open Images write them
//! (`train/cat/Label/1.txt`): images in directories of classes may be meant for a detector.

use std::path::{Path, PathBuf};

use crate::annotations::image_files::{DirectoryListing, has_extension};
use crate::text_file::beginning;

/// The first files show what all are.
const FILES: usize = 3;
/// The number of bytes by which boxes are recognized.
const BEGINNING: u64 = 1 << 12;
/// The numbers of a box.
const NUMBERS: usize = 4;

/// Returns a directory with boxes of the images of a class: one inside that of the class, or one called after the class in
/// another directory of the dataset.
pub(super) fn labels_of_class(root: &Path, parent: &Path, class: &str) -> Option<PathBuf> {
    let of_class = parent.join(class);
    let images = DirectoryListing::of(&of_class);
    let inside = images.directories.iter().map(|name| of_class.join(name));
    let around = DirectoryListing::of(root).directories;
    let beside = around.iter().map(|name| root.join(name).join(class));
    let mut places = inside.chain(beside).filter(|place| *place != of_class);
    places.find(|place| holds_labels(place, &images))
}

/// Returns whether the texts in a directory without images have boxes, and the names of these images.
fn holds_labels(directory: &Path, images: &DirectoryListing) -> bool {
    let listing = DirectoryListing::of(directory);
    if listing.images().next().is_some() {
        return false;
    }
    let is_text = |name: &&String| {
        let mut extensions = ["txt", "xml"].iter();
        extensions.any(|extension| has_extension(Path::new(name), extension))
    };
    let stems: Vec<_> = images
        .images()
        .map(|name| Path::new(name).file_stem())
        .collect();
    let mut texts = listing.files.iter().filter(is_text).take(FILES);
    texts.any(|name| stems.contains(&Path::new(name).file_stem()) && has_box(&directory.join(name)))
}

/// Returns whether a text has a line with the numbers of a box, or is XML of one.
fn has_box(path: &Path) -> bool {
    let text = beginning(path, BEGINNING).unwrap_or_default();
    let is_box = |line: &str| {
        let words = line.split(|letter: char| letter.is_whitespace() || letter == ',');
        words.filter(|word| word.parse::<f64>().is_ok()).count() >= NUMBERS
    };
    text.contains("<bndbox>") || text.lines().any(is_box)
}
