//! The images of each split where no file describes them.

use std::path::{Path, PathBuf};

use super::directory::{is_label, name_list};
use super::label_files::IMAGES;
use super::labeled::has_labeled_image;
use crate::annotations::image_files::{
    DirectoryListing, first_few, holds_images, holds_images_directly,
};
use crate::annotations::layout::{Split, names_of_split};
use crate::images::decode::has_image_extension;
use crate::text_file::read_text;

/// The directories and lists of images by the usual names, in any capitals.
#[derive(Debug, Default)]
pub(super) struct UsualSplits {
    pub(super) splits: Vec<(Split, Vec<PathBuf>)>,
    /// What was not taken, one line each.
    pub(super) notes: Vec<String>,
}

impl UsualSplits {
    pub(super) fn find(root: &Path, listing: &DirectoryListing) -> Self {
        let images = listing.directory(&IMAGES);
        let in_images = images.as_ref().map(|path| DirectoryListing::of(path));
        let named = [
            by_name(root, listing, in_images.as_ref()),
            by_word(listing, in_images.as_ref()),
        ];
        let mut named = named.map(|splits| Self {
            splits,
            notes: Vec::new(),
        });
        if let Some(found) = named.iter_mut().find(|found| found.has_train()) {
            return std::mem::take(found);
        }
        // Classes have such directories, too, but no labels.
        let labeled = || {
            let below = images.as_ref().map(|images| Self::of_labeled(root, images));
            let below = below.filter(Self::has_train);
            let above = || name_list(root).map(|_| Self::of_labeled(root, root));
            below.or_else(above).filter(Self::has_train)
        };
        let is_any = named.iter().any(|found| !found.splits.is_empty());
        if is_any {
            let first = named.into_iter().find(|found| !found.splits.is_empty());
            return labeled().or(first).unwrap_or_default();
        }
        let list = root.join("images.txt");
        let places = [
            images.clone(),
            is_image_list(&list).then_some(list),
            listing.directory(&["obj_train_data"]),
            listing.directory(&["data"]),
            Some(root.to_owned()),
        ];
        let mut places = places.into_iter().flatten();
        let place = places.find(|path| path.is_file() || holds_images_directly(path));
        match place {
            Some(place) => Self {
                splits: vec![(Split::Train, vec![place])],
                notes: Vec::new(),
            },
            None => labeled().unwrap_or_default(),
        }
    }

    fn has_train(&self) -> bool {
        self.splits.iter().any(|(split, _)| *split == Split::Train)
    }

    /// Finds the directories within one whose images have labels. The split is a word in the names of the directories;
    /// if no name has one, all are of train.
    fn of_labeled(root: &Path, within: &Path) -> Self {
        let mut directories = Vec::new();
        collect(within, 0, &mut directories);
        let (labeled, others): (Vec<PathBuf>, Vec<PathBuf>) = directories
            .into_iter()
            .partition(|directory| has_labeled_image(root, directory));
        if labeled.is_empty() {
            return Self::default();
        }
        let split_of = |directory: &PathBuf| {
            let below = directory.strip_prefix(root).unwrap_or(directory);
            let mut names = below.iter().rev();
            names.find_map(|name| Split::in_name(&name.to_string_lossy()))
        };
        let mut splits = Vec::new();
        for split in Split::ALL {
            let places = labeled.iter().filter(|path| split_of(path) == Some(split));
            let places = outermost(places.cloned().collect());
            if !places.is_empty() {
                splits.push((split, places));
            }
        }
        if splits.is_empty() {
            splits.push((Split::Train, outermost(labeled)));
        }
        let is_used = |directory: &&PathBuf| {
            let mut places = splits.iter().flat_map(|(_, places)| places);
            places.any(|place| directory.starts_with(place))
        };
        let unused = others.iter().filter(|directory| !is_used(directory));
        let unused = unused.map(|path| path.strip_prefix(root).unwrap_or(path).display());
        let unused: Vec<String> = unused.map(|path| path.to_string()).collect();
        let notes = (!unused.is_empty()).then(|| {
            let shown = first_few(unused.iter().map(String::as_str));
            format!("no image in {shown} has a label file: these images are not used")
        });
        Self {
            splits,
            notes: notes.into_iter().collect(),
        }
    }
}

/// Finds `images/SPLIT`, `SPLIT/images`, `SPLIT.txt` and `SPLIT`.
fn by_name(
    root: &Path,
    listing: &DirectoryListing,
    in_images: Option<&DirectoryListing>,
) -> Vec<(Split, Vec<PathBuf>)> {
    let mut splits = Vec::new();
    for split in Split::ALL {
        let own = listing.split_directory(split);
        let inner = own
            .as_ref()
            .and_then(|path| DirectoryListing::of(path).directory(&["images"]));
        let list = split
            .names()
            .iter()
            .map(|name| root.join(format!("{name}.txt")));
        let found = in_images
            .and_then(|images| images.split_directory(split))
            .or(inner)
            .or_else(|| list.into_iter().find(|path| is_image_list(path)))
            .or_else(|| own.filter(|path| holds_images_directly(path)));
        splits.extend(found.map(|path| (split, vec![path])));
    }
    splits
}

/// Finds the images of each split in directories that have the split as a word of their names: `images/train2017`,
/// `train_set/images`.
fn by_word(
    listing: &DirectoryListing,
    in_images: Option<&DirectoryListing>,
) -> Vec<(Split, Vec<PathBuf>)> {
    let of_split = |listing: &DirectoryListing, split| -> Vec<PathBuf> {
        let names = names_of_split(&listing.directories, split);
        names
            .filter_map(|name| listing.directory(&[name]))
            .collect()
    };
    let find = |split| {
        let below = in_images.map(|images| of_split(images, split));
        let mut below = below.unwrap_or_default();
        below.retain(|path| holds_images(path));
        if below.is_empty() {
            let above = of_split(listing, split).into_iter();
            below = above
                .filter_map(|path| DirectoryListing::of(&path).directory(&["images"]))
                .collect();
        }
        below
    };
    let found = Split::ALL.into_iter().map(|split| (split, find(split)));
    found.filter(|(_, places)| !places.is_empty()).collect()
}

/// Returns whether a file lists images: its first line ends as the name of an image does.
fn is_image_list(path: &Path) -> bool {
    let text = path.is_file().then(|| read_text(path).unwrap_or_default());
    let text = text.unwrap_or_default();
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    // An empty list is reported when it is read.
    path.is_file() && line.is_none_or(|line| has_image_extension(Path::new(line)))
}

/// Collects the directories that contain images. Where none of many has labels, they are classes.
fn collect(directory: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    /// Directories of directories of videos have no deeper ones.
    const DEPTH: usize = 5;
    /// A dataset of scenes or videos has fewer, or its first ones have labels.
    const MOST: usize = 2000;
    if found.len() >= MOST {
        return;
    }
    let listing = DirectoryListing::of(directory);
    if listing.images().next().is_some() {
        found.push(directory.to_owned());
    }
    if depth < DEPTH {
        for name in &listing.directories {
            collect(&directory.join(name), depth + 1, found);
        }
    }
}

/// Returns the directories that are in no other of them: their images are found from above.
fn outermost(mut directories: Vec<PathBuf>) -> Vec<PathBuf> {
    directories.sort();
    let mut kept: Vec<PathBuf> = Vec::new();
    for directory in directories {
        if !kept.iter().any(|outer| directory.starts_with(outer)) {
            kept.push(directory);
        }
    }
    kept
}

/// Returns whether the directories that hold the images are named after the classes: a dataset for classification.
pub(super) fn are_classes(names: &[String], root: &Path, splits: &[(Split, Vec<PathBuf>)]) -> bool {
    let listing = DirectoryListing::of(root);
    let of_splits = Split::ALL.map(|split| listing.split_directory(split));
    let places = splits.iter().flat_map(|(_, places)| places.clone());
    let mut around = listing
        .directory(&IMAGES)
        .into_iter()
        .chain(of_splits.into_iter().flatten())
        .chain(places.filter(|place| place.is_dir()));
    around.any(|directory| {
        let inner = DirectoryListing::of(&directory).directories;
        let is_name = |class: &str, name: &String| {
            // A number before the class, which is no index, is a part of the name here.
            let after_number = class.split_once(' ').map_or(class, |(_, rest)| rest);
            name.eq_ignore_ascii_case(class) || name.eq_ignore_ascii_case(after_number)
        };
        let is_class = |name: &String| names.iter().any(|class| is_name(class, name));
        !inner.is_empty() && inner.iter().all(is_class)
    })
}

/// Returns a label file beside an image of a directory.
pub(super) fn label_beside_image(directory: &Path) -> Option<PathBuf> {
    /// The first images of each directory are inspected.
    const TRIED: usize = 20;
    let listing = DirectoryListing::of(directory);
    let images = listing.images().take(TRIED);
    let mut labels = images.map(|name| directory.join(name).with_extension("txt"));
    labels.find(|path| is_label(path))
}
