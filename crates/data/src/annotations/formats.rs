//! The table of annotation formats, and what loops over it: recognition of datasets and of files that may
//! be annotations.
//!
//! This module is above the formats. What a format has to provide is in [`format`](super::format).

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use crate::DataError;
use crate::annotations::coco::read_coco_json;
use crate::annotations::coco_directory::CocoFormat;
use crate::annotations::csv_table::CsvFormat;
use crate::annotations::format::{DatasetFiles, Format, FoundSplits, ListedImage};
use crate::annotations::image_files::{
    DirectoryListing, MOST_LISTS, first_few, has_extension, holds_images, holds_images_directly,
    images_within,
};
use crate::annotations::layout::{LayoutError, Split, join};
use crate::annotations::same_names::images_of_same_names;
use crate::annotations::split_lists::{
    ImageNames, divides_images, divides_numbers, is_list_of_images, is_of_train_or_test,
    is_place_of_lists, words_of,
};
use crate::annotations::unread::{unread_annotations, unread_file};
use crate::annotations::voc_directory::VocFormat;
use crate::annotations::yolo::{YoloFormat, is_class_list};
use crate::directory::dangling_parts;
use crate::images::decode::has_image_extension;
use crate::text_file::{UNMARKED_UTF16, is_unmarked_utf16};

/// All annotation formats. A directory that several recognize belongs to the first of them.
pub const FORMATS: &[Format] = &[
    &CocoFormat, // a JSON file per split
    &VocFormat,  // an XML file per image
    &YoloFormat, // a text file per image
    &CsvFormat,  // a table per split
];

/// Returns the format with the given [key](super::format::AnnotationFormat::key).
pub fn format_of_key(key: &str) -> Option<Format> {
    FORMATS.iter().copied().find(|format| format.key() == key)
}

/// Returns the first format that recognizes a directory, or a file by its content.
///
/// # Errors
/// A format recognizes the path, and its description is wrong.
pub fn recognize(root: &Path) -> Result<Option<Format>, DataError> {
    let found = find_in(FORMATS, root)?;
    Ok(found.map(|(at, _)| FORMATS[at]))
}

/// Returns the position in `formats` of the first that recognizes a path, and the splits it found.
fn find_in(formats: &[Format], root: &Path) -> Result<Option<(usize, FoundSplits)>, DataError> {
    for (at, format) in formats.iter().enumerate() {
        if let Some(found) = format.find(root)? {
            return Ok(Some((at, found)));
        }
    }
    Ok(None)
}

/// As [`find_in`], but where the first format has no annotations of train and another has some, that other: the annotations
/// that the authors of a dataset add for evaluation may be in another format, and a list of classes is none.
fn find_with_train(
    formats: &[Format],
    root: &Path,
) -> Result<Option<(usize, FoundSplits)>, DataError> {
    let splits_of = |found: &FoundSplits| -> BTreeSet<String> {
        let splits = found.splits.iter();
        splits.map(|split| split.split.to_string()).collect()
    };
    let first = find_in(formats, root)?;
    let Some((at, found)) = &first else {
        return Ok(None);
    };
    let (at, of_first, train) = (*at, splits_of(found), Split::Train.to_string());
    let is_empty = !formats[at].has_annotations(found);
    if !root.is_dir() || of_first.contains(&train) && !is_empty {
        return Ok(first);
    }
    let better = (at + 1..formats.len()).find_map(|other| {
        // What is wrong with another format is reported as not used.
        let found = formats[other].find(root).ok()??;
        let splits = splits_of(&found);
        // Images without a split are of train: these may be results.
        let is_more = is_empty || splits.is_superset(&of_first);
        let is_better =
            splits.contains(&train) && is_more && formats[other].has_annotations(&found);
        is_better.then_some((other, found))
    });
    Ok(better.or(first))
}

/// As [`find_with_train`], but where the images of the only COCO file are in the directories of several splits, which the
/// file does not tell apart, another format with annotations of train.
///
/// # Errors
/// As [`find_with_train`]; there is no other format.
fn find_with_images(
    formats: &[Format],
    root: &Path,
) -> Result<Option<(usize, FoundSplits)>, DataError> {
    let first = find_with_train(formats, root)?;
    let Some((at, found)) = &first else {
        return Ok(None);
    };
    let [only] = found.splits.as_slice() else {
        return Ok(first);
    };
    // What is wrong with the file is reported when it is read.
    let scattered = only
        .coco_json()
        .filter(|_| root.is_dir() && only.possible_splits().len() > 1)
        .and_then(|path| read_coco_json(path).ok())
        .and_then(|json| only.scattered_images(&json.names()));
    let Some(error) = scattered else {
        return Ok(first);
    };
    let train = Split::Train;
    let others = (0..formats.len()).filter(|other| other != at);
    let mut complete = others.filter_map(|other| {
        let found = formats[other].find(root).ok()??;
        let has_train = found.splits.iter().any(|split| split.split == train);
        (has_train && formats[other].has_annotations(&found)).then_some((other, found))
    });
    complete.next().map(Some).ok_or(error)
}

/// As [`find_with_images`]; a file that no format recognizes belongs to the first that reports on
/// [damaged files](super::format::AnnotationFormat::damaged_file) like it.
fn find_or_damaged(
    formats: &[Format],
    root: &Path,
) -> Result<Option<(usize, FoundSplits)>, DataError> {
    if let Some(found) = find_with_images(formats, root)? {
        return Ok(Some(found));
    }
    let mut damaged = formats.iter().enumerate();
    Ok(damaged.find_map(|(at, format)| Some((at, format.damaged_file(root)?))))
}

/// Returns whether a file is a dataset by its extension, whatever it contains: `data.yaml`.
pub fn is_dataset_file(path: &Path) -> bool {
    let mut extensions = FORMATS
        .iter()
        .flat_map(|format| format.dataset_extensions());
    extensions.any(|extension| has_extension(path, extension))
}

/// Returns whether a file has the extension of annotations in one of the formats.
pub(crate) fn has_annotation_extension(path: &Path) -> bool {
    let mut formats = FORMATS.iter();
    formats.any(|format| has_extension(path, format.annotation_extension()))
}

fn known_formats() -> String {
    let known = FORMATS.iter();
    join(known.map(|format| format!("{} ({})", format.name(), format.files())))
}

impl DatasetFiles {
    /// Recognizes the format of a directory or annotation file and finds its splits.
    ///
    /// A directory whose only content is another directory, as archives leave it, denotes that one.
    ///
    /// # Errors
    /// The path does not exist, no format recognizes it, or the format's description of it is wrong.
    pub fn find(root: &Path) -> Result<Self, DataError> {
        /// `VOCdevkit/VOC2007` in the directory of an archive.
        const NESTED: usize = 3;
        Self::find_within(root, NESTED)
    }

    fn find_within(root: &Path, depth: usize) -> Result<Self, DataError> {
        if !root.exists() {
            return Err(LayoutError::NoDirectory { root: root.into() }.into());
        }
        if let Some((at, found)) = find_or_damaged(FORMATS, root)? {
            let listing = DirectoryListing::of(root);
            let images = listing.directory(&["images"]);
            let inner = images.map(|path| DirectoryListing::of(&path));
            if let Some(problem) = [Some(listing), inner]
                .iter()
                .flatten()
                .find_map(|of| of.twins_of_splits())
            {
                return Err(DataError::contradiction(root, problem));
            }
            let known_lists = found.lists.clone();
            let mut files = Self::of_found(FORMATS[at], root, found)?;
            let others = unused_annotations(&files);
            files.unused.extend(others);
            files.unused.extend(files.format.unlisted(&files));
            let lists = unused_lists(&files, &known_lists);
            files.unused.extend(lists);
            let below = datasets_below(&files);
            files.unused.extend(below);
            files.unused.extend(splits_without_annotations(&files));
            let same = images_of_same_names(&files);
            files.unused.extend(same);
            files.unused.extend(dangling_parts(root));
            return Ok(files);
        }
        if let Some(error) = unread_annotations(root) {
            return Err(error.into());
        }
        match Self::find_inside(root, depth)? {
            Some(files) => Ok(files),
            None => Err(unrecognized(root)),
        }
    }

    /// Finds the only dataset among the subdirectories of a directory that is in no format itself; None if there
    /// is none.
    fn find_inside(root: &Path, depth: usize) -> Result<Option<Self>, DataError> {
        let listing = DirectoryListing::of(root);
        if let ([name], true) = (listing.directories.as_slice(), depth > 0)
            && listing.images().next().is_none()
        {
            match Self::find_within(&root.join(name), depth - 1) {
                // The outer directory is the one that was given, and may have other files.
                Err(DataError::Layout(LayoutError::Unrecognized { .. }))
                    if !listing.files.is_empty() => {}
                // Any other error of the inner directory is more exact than one of the outer.
                inner => {
                    let mut files = inner?;
                    files.reason = format!("in {name}: {}", files.reason);
                    return Ok(Some(files));
                }
            }
        }
        let inner = listing.directories.iter().map(|name| root.join(name));
        let (mut datasets, others): (Vec<PathBuf>, Vec<PathBuf>) =
            inner.partition(|path| matches!(recognize(path), Ok(Some(_))));
        // `latest` may be a link to `v2`.
        let mut seen = HashSet::new();
        datasets.sort_by_key(|path| path.is_symlink());
        datasets.retain(|path| path.canonicalize().map_or(true, |real| seen.insert(real)));
        datasets.sort();
        let shown = |path: &PathBuf| path.display().to_string();
        match datasets.as_slice() {
            [] => incomplete(root, &others).map_or(Ok(None), |error| Err(error.into())),
            [only] if depth > 0 => {
                let with_images = others.iter().filter(|path| holds_images(path));
                let others: Vec<String> = with_images.map(shown).collect();
                if !others.is_empty() {
                    return Err(LayoutError::OneOfSeveral {
                        root: root.to_owned(),
                        dataset: shown(only),
                        images: first_few(others.iter().map(String::as_str)),
                    }
                    .into());
                }
                let mut files = Self::find_within(only, depth - 1)?;
                let name = only.file_name().unwrap_or_default().display();
                files.reason = format!("in {name}, the only dataset: {}", files.reason);
                Ok(Some(files))
            }
            several => Err(LayoutError::Several {
                root: root.to_owned(),
                datasets: several.iter().map(shown).collect(),
            }
            .into()),
        }
    }
}

/// Returns the error about directories that would be datasets with a further file, which can be beside them.
fn incomplete(root: &Path, directories: &[PathBuf]) -> Option<LayoutError> {
    let mut errors = directories.iter().filter_map(|path| match recognize(path) {
        Err(DataError::Layout(error @ LayoutError::Incomplete { .. })) => Some(error),
        _ => None,
    });
    let mut first = errors.next()?;
    if let LayoutError::Incomplete { root: of_first, .. } = &mut first
        && errors.next().is_some()
    {
        *of_first = root.to_owned();
    }
    Some(first)
}

/// Describes the annotations in other formats beside those that are read: they may be the ones that were meant.
fn unused_annotations(files: &DatasetFiles) -> Vec<String> {
    let root = &files.root;
    let mut unused = Vec::new();
    for other in FORMATS.iter().filter(|other| **other != files.format) {
        match other.find(root) {
            Ok(Some(found)) if other.has_annotations(&found) => {
                unused.push(format!("{other} annotations ({})", found.reason));
            }
            Ok(_) => {}
            Err(error) => unused.push(format!("{other} annotations ({error})")),
        }
    }
    // LabelMe writes its files beside the images, wherever these are.
    let images = files.image_directories().filter(|place| place.is_dir());
    let places: BTreeSet<&PathBuf> = images.filter(|place| *place != root).collect();
    let mut places = [root].into_iter().chain(places);
    if root.is_dir()
        && let Some(LayoutError::UnreadFormat { file, name, .. }) =
            places.find_map(|place| unread_annotations(place))
    {
        let file = file.strip_prefix(root).unwrap_or(&file).display();
        unused.push(format!("{name} annotations ({file})"));
    }
    unused
}

/// Describes the lists of splits that the format of a dataset does not read: `splits.csv`. `known` are those that it reads
/// or describes.
fn unused_lists(files: &DatasetFiles, known: &[PathBuf]) -> Vec<String> {
    if !files.root.is_dir() {
        return Vec::new();
    }
    let listing = DirectoryListing::of(&files.root);
    let in_root = listing.files.iter().map(|name| files.root.join(name));
    let inner = listing.directories.iter().map(|name| files.root.join(name));
    let found = in_root.chain(inner.flat_map(|place| tables_in(&place)));
    // Only a table of names needs the images.
    let names: OnceCell<ImageNames> = OnceCell::new();
    let images = || names.get_or_init(|| image_names(files));
    let is_document = |path: &Path| {
        let mut extensions = ["json", "yaml", "yml"].iter();
        extensions.any(|extension| has_extension(path, extension))
    };
    let is_unread = |path: &PathBuf| {
        let has_text = files.format.has_lists() && has_extension(path, "txt");
        let is_annotations = || {
            let mut formats = FORMATS.iter();
            formats.any(|format| match format.find(path) {
                Ok(found) => found.is_some(),
                // A YAML file of lists has no names of classes.
                Err(_) => !is_dataset_file(path) || has_extension(path, "csv"),
            }) || unread_file(path).is_some()
        };
        let mut used = files.splits.iter();
        let directory = path.parent().unwrap_or(&files.root);
        let is_usual_place = directory == files.root || is_place_of_lists(directory);
        // The directories of several splits divide their images themselves, and VOC's tables of names are compared with
        // its splits.
        let is_whole = files.splits.len() == 1;
        let has_lists = files.format.has_lists();
        let is_table = || {
            !(has_text && (!is_usual_place || images().has_stem_of(path)))
                && ((is_whole || has_lists && is_document(path)) && divides_images(path, &images)
                    || (is_whole || has_lists) && is_usual_place && divides_numbers(path))
        };
        let is_list = || !has_text && is_usual_place && is_list_of_images(path);
        !known.contains(path)
            && (is_list() || is_table())
            && !used.any(|split| split.annotations == *path)
            && !is_annotations()
    };
    let mut unread: Vec<PathBuf> = found.filter(is_unread).collect();
    // A list of numbers needs the one that says which images they are.
    if unread.iter().any(|path| is_of_train_or_test(path)) {
        let mut numberings = image_names(files).add_numbered(&files.root);
        let is_named = |path: &PathBuf| known.contains(path) || unread.contains(path);
        // The ids of COCO are in its annotations.
        numberings.retain(|path| !is_document(path) && !is_named(path));
        unread.extend(numberings);
    }
    let shown = unread.into_iter().map(|path| {
        let below = path.strip_prefix(&files.root).unwrap_or(&path);
        below.display().to_string()
    });
    let is_named = |name: &String| files.unused.iter().any(|unused| unused.contains(name));
    shown.filter(|name| !is_named(name)).collect()
}

/// Returns the files in a directory that may have lists: it has no images and few files. Labels are in a file for each image.
fn tables_in(directory: &Path) -> Vec<PathBuf> {
    let listing = DirectoryListing::of(directory);
    let mut words = words_of(directory).into_iter();
    let is_of_labels = words.any(|word| word == "label" || word == "labels");
    let may_have_lists = listing.files.len() <= MOST_LISTS && listing.images().next().is_none();
    let is_of_lists = is_place_of_lists(directory) || may_have_lists && !is_of_labels;
    let files = listing.files.iter().filter(|_| is_of_lists);
    files.map(|name| directory.join(name)).collect()
}

/// Returns the names of the images of a dataset, in its directories and in its annotation files, and their numbers.
fn image_names(files: &DatasetFiles) -> ImageNames {
    let places: BTreeSet<&PathBuf> = files.image_directories().collect();
    let images = places.into_iter().filter(|place| place.is_dir());
    let images = images.flat_map(|place| images_within(place).unwrap_or_default());
    let splits = files.splits.iter();
    let listed = splits.filter_map(|split| split.format.images_listed_in(&split.annotations));
    let listed: Vec<ListedImage> = listed.flatten().collect();
    let names = listed.iter().map(|image| image.name.clone());
    let mut found = ImageNames::of(names.chain(images.map(|image| image.name)));
    found.add_numbers(listed.iter().filter_map(|image| image.id));
    found.add_numbered(&files.root);
    found
}

/// Describes the directories of images that are called after train or val, where that split has no annotations: their images
/// would be missing without a word. Those of test often have none.
fn splits_without_annotations(files: &DatasetFiles) -> Vec<String> {
    let listing = DirectoryListing::of(&files.root);
    let is_divided =
        files.splits.len() > 1 || files.image_directories().all(|own| *own != files.root);
    let missing = [Split::Train, Split::Val]
        .into_iter()
        .filter(|split| is_divided && !files.splits.iter().any(|known| known.split == *split));
    let directories = missing.filter_map(|split| listing.split_directory(split));
    let unused = directories.filter(|directory| {
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        holds_images(directory)
            && !has_images_in(files, directory)
            && !files.unused.iter().any(|known| known.contains(&*name))
    });
    let described = unused.map(|directory| {
        let name = directory.file_name().unwrap_or_default().display();
        format!("{name} (images without annotations)")
    });
    described.collect()
}

/// Describes the datasets in the directories of a dataset that are no part of it: `v2 (COCO)`. They may be other versions,
/// or the images that were meant.
fn datasets_below(files: &DatasetFiles) -> Vec<String> {
    /// Archives by date, and unpacked twice.
    const DEPTH: usize = 5;
    /// A dataset with a directory for each video has more, and they are alike.
    const DIRECTORIES: usize = 200;
    let inner = |listing: &DirectoryListing, directory: &Path| -> Vec<PathBuf> {
        let names = listing.directories.iter();
        names.map(|name| directory.join(name)).collect()
    };
    // A link may lead to the dataset itself.
    let mut seen: HashSet<PathBuf> = files.root.canonicalize().into_iter().collect();
    let mut unused = Vec::new();
    let mut level = inner(&DirectoryListing::of(&files.root), &files.root);
    for _ in 0..DEPTH {
        let mut next = Vec::new();
        for directory in level.into_iter().take(DIRECTORIES) {
            let real = directory.canonicalize();
            if real.is_ok_and(|real| !seen.insert(real)) {
                continue;
            }
            // Listed once: a directory of COCO has 118,000 images.
            let listing = DirectoryListing::of(&directory);
            let shown = directory.strip_prefix(&files.root).unwrap_or(&directory);
            let shown = shown.display();
            let found = if may_be_dataset(&listing) {
                find_in(FORMATS, &directory)
            } else {
                Ok(None)
            };
            match found {
                Ok(Some((at, found)))
                    if FORMATS[at].has_annotations(&found)
                        && !is_part(files, &directory, &found, FORMATS[at]) =>
                {
                    unused.push(format!("{shown} ({})", FORMATS[at]));
                }
                Ok(None) if let Some(format) = other_labels(files, &directory, &listing) => {
                    unused.push(format!("{shown} ({format})"));
                }
                Ok(None) if let Some(format) = labels_without_images(files, &directory) => {
                    unused.push(format!("{shown} ({format} without images)"));
                }
                _ => next.extend(inner(&listing, &directory)),
            }
        }
        level = next;
    }
    unused
}

/// Returns whether a directory contains anything but images and the text files of labels.
fn may_be_dataset(listing: &DirectoryListing) -> bool {
    let is_other = |name: &String| {
        let path = Path::new(name);
        !has_image_extension(path) && !has_extension(path, "txt") || is_class_list(name)
    };
    !listing.directories.is_empty() || listing.files.iter().any(is_other)
}

/// Returns the format in which the images of a directory have annotations that are without a description of their own, if
/// the directory is no part of a dataset: further YOLO labels.
fn other_labels(
    files: &DatasetFiles,
    directory: &Path,
    listing: &DirectoryListing,
) -> Option<Format> {
    // A list of images may lead anywhere.
    let is_other = files.image_directories().all(|place| place.is_dir())
        && listing.images().next().is_some()
        && !has_images_in(files, directory);
    let mut formats = FORMATS.iter().copied();
    formats.find(|format| is_other && format.has_own_annotations(&files.root, directory))
}

/// Returns the format of annotations in a directory that belong to no image: results of a run of YOLO.
fn labels_without_images(files: &DatasetFiles, directory: &Path) -> Option<Format> {
    let mut formats = FORMATS.iter().copied();
    formats.find(|format| format.has_annotations_without_images(&files.root, directory))
}

/// Returns whether splits that were found in a directory of a dataset are a part of it, or named as not used already.
fn is_part(files: &DatasetFiles, directory: &Path, found: &FoundSplits, format: Format) -> bool {
    let is_known = |annotations: &Path| {
        let name = annotations.strip_prefix(&files.root).unwrap_or(annotations);
        let name = name.display().to_string();
        let mut splits = files.splits.iter();
        splits.any(|split| split.annotations == annotations)
            || files.unused.iter().any(|unused| unused.contains(&name))
    };
    let mut splits = found.splits.iter();
    match found.splits.first() {
        Some(first) if first.annotations.is_file() => {
            splits.all(|split| is_known(&split.annotations))
        }
        // The same images with other annotations, which may have been found from above.
        _ if format != files.format => {
            let start = format!("{format} annotations (");
            let is_end = |character: char| ", ()".contains(character);
            let mut unused = files
                .unused
                .iter()
                .filter_map(|text| text.strip_prefix(&start));
            let directory = directory.strip_prefix(&files.root).unwrap_or(directory);
            let directory = directory.display().to_string();
            unused.any(|places| places.split(is_end).any(|place| place == directory))
        }
        _ => {
            let mut directories = splits.flat_map(|split| &split.image_directories);
            directories.any(|directory| has_images_in(files, directory))
        }
    }
}

/// Returns whether a directory is one of the images of a dataset, or below one.
fn has_images_in(files: &DatasetFiles, directory: &Path) -> bool {
    // A description may have absolute paths, `..` or links, and the dataset be opened by another path.
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let (root, directory) = (real(&files.root), real(directory));
    let own: BTreeSet<PathBuf> = files.image_directories().map(|own| real(own)).collect();
    // Most formats look for images in the whole directory at last.
    let is_only = own.iter().all(|own| *own == root);
    own.iter()
        .any(|own| (is_only || *own != root) && directory.starts_with(own))
}

/// Returns the error about a path in no format, which lists what it contains instead.
fn unrecognized(root: &Path) -> DataError {
    let listing = DirectoryListing::of(root);
    let inner = listing.directories.iter().map(|name| root.join(name));
    let images: Vec<String> = inner
        .chain([root.to_owned()])
        .filter(|path| holds_images_directly(path))
        .map(|path| path.display().to_string())
        .collect();
    // No format recognizes such a file, whatever it contains.
    let mut files = files_of_annotations(root).into_iter();
    if let Some(path) = files.find(|path| is_unmarked(path)) {
        let problem = format!("not UTF-8 text, {UNMARKED_UTF16}");
        return DataError::Encoding { path, problem };
    }
    let mut found = Vec::new();
    if !images.is_empty() {
        let directories = first_few(images.iter().map(String::as_str));
        found.push(format!("images without annotations in {directories}"));
    }
    found.extend(unread_files(root));
    found.extend(dangling_parts(root));
    let found = match found.as_slice() {
        [] => String::new(),
        found => format!(" ({})", found.join("; ")),
    };
    LayoutError::Unrecognized {
        root: root.to_owned(),
        found,
        expected: known_formats(),
    }
    .into()
}

/// Describes the first CSV and text files that are named like annotations, or are tables, and in no format
/// that is read.
fn unread_files(root: &Path) -> Vec<String> {
    /// More would hide the rest of the message.
    const SHOWN: usize = 2;
    if root.is_file() {
        return describe_unread(root).into_iter().collect();
    }
    let files = files_of_annotations(root).into_iter();
    let unread = files.filter_map(|path| describe_unread(&path).or_else(|| unread_text(&path)));
    unread.take(SHOWN).collect()
}

/// Returns the files where annotations may be: a file itself, or those of a directory, of its splits, and of
/// `annotations` and `data`.
fn files_of_annotations(root: &Path) -> Vec<PathBuf> {
    if root.is_file() {
        return vec![root.to_owned()];
    }
    let listing = DirectoryListing::of(root);
    let inner = Split::ALL.map(|split| listing.split_directory(split));
    let others = [
        listing.directory(&["annotations"]),
        listing.directory(&["data"]),
    ];
    let inner = inner.into_iter().chain(others).flatten();
    let directories = [root.to_owned()].into_iter().chain(inner);
    let files = directories.flat_map(|directory| {
        let listing = DirectoryListing::of(&directory);
        let names = listing.files.into_iter();
        names.map(move |name| directory.join(name))
    });
    files.collect()
}

/// Returns whether a file has the extension of annotations and is UTF-16 without a byte order mark.
fn is_unmarked(path: &Path) -> bool {
    let may_be_annotations = FORMATS.iter().any(|format| {
        let extensions = format.dataset_extensions().iter();
        extensions
            .chain(&[format.annotation_extension()])
            .any(|extension| has_extension(path, extension))
    });
    may_be_annotations && is_unmarked_utf16(path)
}

fn describe_unread(path: &Path) -> Option<String> {
    let is_empty = path
        .metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0);
    if is_empty && (has_annotation_extension(path) || is_dataset_file(path)) {
        return Some(format!("{}: the file is empty", path.display()));
    }
    let mut formats = FORMATS.iter();
    formats.find_map(|format| format.describe_unread(path))
}

fn unread_text(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_string_lossy().to_lowercase();
    let mut words = stem.split(|character: char| !character.is_alphanumeric());
    let is_meant = words.any(|word| {
        [
            "annotation",
            "annotations",
            "label",
            "labels",
            "bbox",
            "boxes",
            "gt",
        ]
        .contains(&word)
    });
    let is_split = || Split::in_name(&stem).is_some();
    let is_text = has_extension(path, "txt") && (is_meant || is_split())
        || has_extension(path, "json") && is_meant;
    let shown = path.display();
    is_text.then(|| format!("{shown}: not annotations in a format that is read"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::annotations::format::{
        AnnotationFormat, Output, PlacedSplit, Reader, SplitFiles, StoredBox,
    };

    /// A format of one JSON file, as a new entry at the end of the table.
    #[derive(Debug)]
    struct ToyJson;

    impl AnnotationFormat for ToyJson {
        fn key(&self) -> &'static str {
            "toy"
        }

        fn name(&self) -> &'static str {
            "Toy"
        }

        fn files(&self) -> String {
            "toy.json".into()
        }

        fn find(&self, path: &Path) -> Result<Option<FoundSplits>, DataError> {
            let text = fs::read_to_string(path).unwrap_or_default();
            Ok(text.starts_with(r#"{"toy""#).then(|| FoundSplits {
                splits: vec![SplitFiles::of_file(&Self, path, None)],
                reason: "a toy".into(),
                unused: Vec::new(),
                lists: Vec::new(),
            }))
        }

        fn annotation_extension(&self) -> &'static str {
            "json"
        }

        fn reader(&self) -> Reader {
            Reader::CocoJson
        }

        fn stored_box(&self, found: &StoredBox) -> Result<[f64; 4], &'static str> {
            Ok(found.xywh)
        }

        fn image_path(&self, _: Split, file_name: &str) -> String {
            file_name.into()
        }

        fn lists_classes(&self) -> bool {
            true
        }

        fn write(&self, _: &[PlacedSplit], _: &Output) -> Result<(), DataError> {
            Ok(())
        }
    }

    #[test]
    fn a_json_file_belongs_to_the_format_of_its_content_and_else_to_coco() {
        let dir = tempfile::tempdir().unwrap();
        let formats: Vec<Format> = FORMATS
            .iter()
            .copied()
            .chain([&ToyJson as Format])
            .collect();
        let format_of = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            let found = find_or_damaged(&formats, &path).unwrap();
            found.map(|(at, found)| (formats[at].key(), found.splits.len()))
        };
        for (text, key) in [
            (r#"{"toy": [], "annotations": []}"#, "toy"),
            (r#"{"images": [], "annotations": []}"#, "coco"),
            ("{", "coco"),
            ("", "coco"),
        ] {
            assert_eq!(format_of("a.json", text), Some((key, 1)), "{text}");
        }
        assert_eq!(format_of("a.weights", "{}"), None);
    }

    #[test]
    fn each_format_has_its_own_key_and_name() {
        for (at, format) in FORMATS.iter().enumerate() {
            assert!(format_of_key(format.key()).is_some_and(|found| found == *format));
            for other in &FORMATS[..at] {
                assert_ne!(format.key(), other.key());
                assert_ne!(format.name(), other.name());
            }
        }
    }

    #[test]
    fn utf16_without_a_mark_is_named_where_no_format_is_recognized() {
        let dir = tempfile::tempdir().unwrap();
        let utf16 =
            |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
        for (name, text) in [
            (
                "_annotations.csv",
                "filename,width,height,class,xmin,ymin,xmax,ymax\n",
            ),
            ("a.json", "{\"images\": [], \"annotations\": []}"),
        ] {
            let root = dir.path().join(name.replace('.', "-"));
            fs::create_dir(&root).unwrap();
            image::RgbImage::new(4, 4).save(root.join("a.png")).unwrap();
            let file = root.join(name);
            fs::write(&file, utf16(text)).unwrap();
            let problem = "not UTF-8 text, probably UTF-16 without a byte order mark";
            let expected = format!("{}: {problem}", file.display());
            let error = DatasetFiles::find(&root).unwrap_err();
            assert_eq!(error.to_string(), expected);
            // A JSON file that is given is read, whatever it contains.
            if name.ends_with("csv") {
                let error = DatasetFiles::find(&file).unwrap_err();
                assert_eq!(error.to_string(), expected);
            }
        }
    }

    #[test]
    fn files_are_datasets_or_annotations_by_the_extensions_of_the_formats() {
        for (name, is_dataset, has_annotations) in [
            ("data.yaml", true, false),
            ("A.YML", true, false),
            ("obj.data", true, false),
            ("boxes.csv", true, true),
            ("a.json", false, true),
            ("a.xml", false, true),
            ("a.txt", false, true),
            ("a.jpg", false, false),
        ] {
            let path = Path::new(name);
            assert_eq!(is_dataset_file(path), is_dataset, "{name}");
            assert_eq!(has_annotation_extension(path), has_annotations, "{name}");
        }
    }

    #[test]
    fn an_unknown_directory_lists_the_files_of_every_format() {
        let directory = tempfile::tempdir().unwrap();
        let message = DatasetFiles::find(directory.path())
            .unwrap_err()
            .to_string();
        for format in FORMATS {
            assert!(message.contains(format.name()), "{message}");
            assert!(message.contains(&format.files()), "{message}");
        }
        let missing = DatasetFiles::find(Path::new("no/such")).unwrap_err();
        assert!(missing.to_string().contains("no such directory"));
    }

    #[test]
    fn the_only_directory_is_entered_and_several_datasets_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "<annotation/>").unwrap();
        };
        put("VOCdevkit/VOC2007/Annotations/1.xml");
        put("__MACOSX/x");
        put("README.txt");
        let found = DatasetFiles::find(dir.path()).unwrap();
        assert_eq!(found.format.key(), "voc");
        assert_eq!(
            found.reason,
            "in VOCdevkit: in VOC2007: XML files in Annotations"
        );
        put("VOCdevkit/VOC2012/Annotations/1.xml");
        let message = DatasetFiles::find(dir.path()).unwrap_err().to_string();
        for part in ["VOCdevkit: several datasets", "VOC2007", "VOC2012"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn the_only_dataset_of_several_directories_is_entered_unless_others_have_images() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "<annotation/>").unwrap();
        };
        // The layout of TensorFlow's tutorial.
        put("annotations/label_map.pbtxt");
        put("images/train/1.xml");
        put("images/test/2.xml");
        let found = DatasetFiles::find(dir.path()).unwrap();
        assert_eq!(
            found.reason,
            "in images, the only dataset: XML files in train, test"
        );
        assert_eq!(found.split_names(), [Split::Train, Split::Test]);
        fs::create_dir(dir.path().join("more")).unwrap();
        image::RgbImage::new(8, 8)
            .save(dir.path().join("more/1.png"))
            .unwrap();
        let message = DatasetFiles::find(dir.path()).unwrap_err().to_string();
        assert!(message.contains("images is a dataset"), "{message}");
        assert!(message.ends_with("more"), "{message}");
    }

    #[test]
    fn a_table_or_text_that_is_not_read_is_named_below_the_path_that_was_given() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir(root.join("images")).unwrap();
        image::RgbImage::new(8, 8)
            .save(root.join("images/1.png"))
            .unwrap();
        for (file, content, expected) in [
            (
                "train_labels.csv",
                "image_id,width,height,class,xmin,ymin,xmax,ymax\n",
                "the header lacks `filename`",
            ),
            (
                "boxes.csv",
                "filename,class,x,y,w,h\n",
                "the header lacks `xmin`, `ymin`, `xmax`, `ymax`",
            ),
            ("train.txt", "images/1.png 1,2,3,4,0\n", "not annotations"),
        ] {
            let path = root.join(file);
            fs::write(&path, content).unwrap();
            let message = DatasetFiles::find(root).unwrap_err().to_string();
            let start = format!("{}: no annotations", root.display());
            assert!(message.starts_with(&start), "{message}");
            let named = format!("{}: {expected}", path.display());
            assert!(message.contains(&named), "{message}");
            if file.ends_with("csv") {
                let message = DatasetFiles::find(&path).unwrap_err().to_string();
                assert!(message.contains(expected), "{message}");
            }
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn annotations_beside_images_and_results_below_are_named_as_unused() {
        const COCO: &str =
            r#"{"images": [{"id": 1, "file_name": "1.png"}], "annotations": [], "categories": []}"#;
        const LABELME: &str = r#"{"shapes": [], "imagePath": "1.png"}"#;
        const LABEL: &str = "0 0.5 0.5 0.1 0.1\n";
        for (files, explanation) in [
            (
                &[
                    ("data.yaml", "train: train/images\nnames: [cat]\n"),
                    ("train/labels/1.txt", LABEL),
                    ("train/images/1.json", LABELME),
                ][..],
                "data.yaml; not used: LabelMe annotations (train/images/1.json)",
            ),
            (
                &[
                    ("train.json", COCO),
                    ("runs/detect/exp/labels/1.txt", LABEL),
                ],
                "train.json; not used: runs/detect/exp/labels (YOLO without images)",
            ),
        ] {
            let dir = tempfile::tempdir().unwrap();
            for (name, text) in files.iter().chain(&[("train/images/1.png", "")]) {
                let path = dir.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                if text.is_empty() {
                    image::RgbImage::new(8, 8).save(path).unwrap();
                } else {
                    fs::write(path, text).unwrap();
                }
            }
            let found = DatasetFiles::find(dir.path()).unwrap();
            assert_eq!(found.explanation(), explanation);
        }
    }

    #[test]
    fn annotations_in_another_format_are_one_source_and_lists_of_splits_are_named() {
        const COCO: &str = r#"{"images": [{"id": 17, "file_name": "1.png"}], "annotations": [], "categories": []}"#;
        const VOC: &str = "<annotation/>";
        for (files, explanation) in [
            (
                &[("annotations.json", COCO), ("Annotations/1.xml", VOC)][..],
                "annotations.json; not used: Pascal VOC annotations (XML files in Annotations)",
            ),
            (
                &[
                    ("annotations.json", COCO),
                    ("train/1.xml", VOC),
                    ("val/1.xml", VOC),
                ],
                "annotations.json; not used: Pascal VOC annotations (XML files in train, val)",
            ),
            // Those of other images are another source.
            (
                &[
                    ("annotations.json", COCO),
                    ("Annotations/1.xml", VOC),
                    ("old/Annotations/1.xml", VOC),
                ],
                "annotations.json; not used: Pascal VOC annotations (XML files in Annotations), \
                    old (Pascal VOC)",
            ),
            (
                &[
                    ("train.json", COCO),
                    ("splits.csv", "file,split\n1.png,train\n"),
                    ("splits/val.txt", "1.png\n"),
                    ("labels/val.csv", "1.png\n"),
                    ("val_results.json", "[{\"file\": \"1.png\"}]"),
                    ("notes_on_train.txt", "none yet\n"),
                ],
                "train.json; not used: splits.csv, splits/val.txt",
            ),
            (
                &[
                    ("Annotations/1.xml", VOC),
                    ("split.yaml", "train: [1]\nval: []\n"),
                    ("metadata.csv", "file,split\n1.png,train\n"),
                    ("model.yaml", "train: 3\n"),
                ],
                "XML files in Annotations; not used: metadata.csv, split.yaml",
            ),
            // Names without extensions, and ids.
            (
                &[
                    ("annotations.json", COCO),
                    ("train.txt", "1\n"),
                    ("splits/val.txt", "1\n"),
                    ("test.csv", "image_id,label\n1,x\n"),
                    ("data.csv", "id,split\n1,train\n"),
                    ("train_test_split.txt", "17 1\n"),
                    ("captions.txt", "1 a rose\n"),
                    ("classes.txt", "1\n"),
                ],
                "annotations.json; not used: data.csv, test.csv, train.txt, train_test_split.txt, splits/val.txt",
            ),
            (
                &[
                    ("Annotations/1.xml", VOC),
                    ("folds.csv", "id,fold\n1,0\n"),
                    ("captions_train.txt", "1 a rose\n"),
                ],
                "XML files in Annotations; not used: folds.csv",
            ),
        ] {
            let dir = tempfile::tempdir().unwrap();
            for (name, text) in files {
                let path = dir.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            fs::create_dir(dir.path().join("images")).unwrap();
            let image = dir.path().join("images/1.png");
            image::RgbImage::new(8, 8).save(image).unwrap();
            let found = DatasetFiles::find(dir.path()).unwrap();
            assert_eq!(found.explanation(), explanation);
        }
    }

    #[test]
    fn lists_beside_a_description_of_yolo_are_named_and_its_own_splits_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap().join("set");
        for split in ["train", "val"] {
            let images = root.join("images").join(split);
            fs::create_dir_all(&images).unwrap();
            image::RgbImage::new(8, 8)
                .save(images.join(format!("{split}.png")))
                .unwrap();
            let labels = root.join("labels").join(split);
            fs::create_dir_all(&labels).unwrap();
            fs::write(labels.join(format!("{split}.txt")), "0 0.5 0.5 0.1 0.1\n").unwrap();
        }
        let explained = |yaml: &str, root: &Path| {
            fs::write(root.join("data.yaml"), yaml).unwrap();
            DatasetFiles::find(root).unwrap().explanation()
        };
        let yaml = "train: images/train\nval: images/val\nnames: [cat]\n";
        assert_eq!(explained(yaml, &root), "data.yaml");
        // The same directories by absolute paths and by `..`, and the dataset by another path.
        let outer = root.join("../set");
        for path in [root.display().to_string(), "../set".to_owned()] {
            let yaml = format!("path: {path}\n{yaml}");
            assert_eq!(explained(&yaml, &outer), "data.yaml", "{path}");
        }
        fs::write(root.join("train.txt"), "images/val/val.png\n").unwrap();
        fs::create_dir(root.join("splits")).unwrap();
        fs::write(root.join("splits/val.txt"), "images/train/train.png\n").unwrap();
        fs::write(root.join("test.txt"), "nothing was tested\n").unwrap();
        let named = "data.yaml; not used: train.txt, splits/val.txt";
        assert_eq!(explained(yaml, &root), named);
        // A list that is used, and an empty entry, which is no directory.
        let yaml = "train: train.txt\nval: ''\nnames: [cat]\n";
        let found = explained(yaml, &root);
        assert!(
            !found.contains("train.txt") && found.contains("splits/val.txt"),
            "{found}"
        );
        let files = DatasetFiles::find(&root).unwrap();
        assert_eq!(files.split_names(), [Split::Train]);
    }

    #[test]
    #[cfg(unix)]
    fn splits_without_annotations_and_links_that_lead_nowhere_are_named() {
        use std::os::unix::fs::symlink;
        const COCO: &str =
            r#"{"images": [{"id": 1, "file_name": "1.png"}], "annotations": [], "categories": []}"#;
        let dir = tempfile::tempdir().unwrap();
        for split in ["train", "test", "val"] {
            let directory = dir.path().join(split);
            fs::create_dir(&directory).unwrap();
            image::RgbImage::new(8, 8)
                .save(directory.join("1.png"))
                .unwrap();
            if split != "val" {
                fs::write(directory.join("_annotations.coco.json"), COCO).unwrap();
            }
        }
        let explained = || DatasetFiles::find(dir.path()).unwrap().explanation();
        let found = explained();
        assert!(
            found.ends_with("not used: val (images without annotations)"),
            "{found}"
        );
        fs::remove_dir_all(dir.path().join("val")).unwrap();
        assert!(!explained().contains("not used"));
        symlink("/nowhere/val", dir.path().join("val")).unwrap();
        symlink("/nowhere/2.png", dir.path().join("2.png")).unwrap();
        let found = explained();
        let link = "not used: val (a symbolic link to /nowhere/val, which does not exist)";
        assert!(found.ends_with(link), "{found}");
    }

    #[test]
    fn lists_of_numbers_beside_yolo_are_named_with_the_list_that_numbers_the_images() {
        const LABEL: &str = "0 0.5 0.5 0.1 0.1\n";
        const CUB: &str = "1 000000.png\n2 000002.png\n3 000004.png\n4 000006.png\n";
        const SPLIT: &str = "1 1\n2 1\n3 0\n4 0\n";
        for (files, explanation) in [
            (
                &[("images.txt", CUB), ("train_test_split.txt", SPLIT)][..],
                "; not used: train_test_split.txt, images.txt",
            ),
            (&[("images.txt", CUB)], ""),
            (
                &[("train_test_split.txt", "0 1\n2 1\n4 0\n6 0\n")],
                "; not used: train_test_split.txt",
            ),
            (
                &[("data.csv", "id,split\n0,train\n2,train\n4,val\n6,val\n")],
                "; not used: data.csv",
            ),
            (&[("captions.txt", "000000.png a cat in the train\n")], ""),
            (
                &[(
                    "captions.json",
                    r#"[{"file":"000000.png","caption":"a test of a train"}]"#,
                )],
                "",
            ),
            (&[("counts.csv", "split,images\ntrain,4\nval,2\n")], ""),
            (&[("train_log.txt", "0 0.5\n2 0.4\n4 0.3\n6 0.2\n")], ""),
        ] {
            for images in ["images", "."] {
                let dir = tempfile::tempdir().unwrap();
                fs::write(dir.path().join("classes.txt"), "cat\n").unwrap();
                let labels = dir.path().join(images.replace("images", "labels"));
                let images = dir.path().join(images);
                for directory in [&images, &labels] {
                    fs::create_dir_all(directory).unwrap();
                }
                for number in [0, 2, 4, 6] {
                    let image = images.join(format!("{number:06}.png"));
                    image::RgbImage::new(8, 8).save(image).unwrap();
                    fs::write(labels.join(format!("{number:06}.txt")), LABEL).unwrap();
                }
                for (name, text) in files {
                    fs::write(dir.path().join(name), text).unwrap();
                }
                let found = DatasetFiles::find(dir.path()).unwrap();
                let explanation = format!("classes.txt{explanation}");
                assert_eq!(found.explanation(), explanation, "{files:?}");
                assert_eq!(found.read().unwrap().splits[0].store.image_count(), 4);
            }
        }
    }

    #[test]
    fn tables_whose_numbers_are_those_of_no_image_are_named() {
        const IDS: &str = "id,split\n0,train\n1,train\n2,train\n3,val\n";
        for (file, text, is_named) in [
            ("s.csv", IDS, true),
            ("s.csv", "0,train\n1,train\n2,train\n3,val\n", true),
            ("s.tsv", "frame\tfold\n0\t1\n1\t1\n2\t2\n3\t2\n", true),
            ("train_test_split.txt", "0 1\n1 1\n2 1\n3 0\n", true),
            ("info/s.csv", "file,split\nframe_0001.png,train\n", true),
            // Steps, counts, rows of an image each, classes, and results.
            (
                "s.csv",
                "step,split\n0,train\n1,train\n2,train\n3,val\n",
                false,
            ),
            ("s.csv", "split,images\ntrain,3\nval,1\n", false),
            (
                "s.csv",
                "id,split\n1,train\n1,train\n1,train\n2,val\n",
                false,
            ),
            ("classes.csv", IDS, false),
            ("log.csv", IDS, false),
            ("info/s.csv", "file,split\nother.png,train\n", false),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::create_dir_all(dir.path().join("Annotations")).unwrap();
            fs::write(path, text).unwrap();
            for number in 1..5 {
                let name = format!("frame_{number:04}");
                let image = dir.path().join(format!("{name}.png"));
                image::RgbImage::new(8, 8).save(image).unwrap();
                let xml = dir.path().join(format!("Annotations/{name}.xml"));
                fs::write(xml, "<annotation/>").unwrap();
            }
            let unused = if is_named {
                format!("; not used: {file}")
            } else {
                String::new()
            };
            let found = DatasetFiles::find(dir.path()).unwrap();
            let expected = format!("XML files in Annotations{unused}");
            assert_eq!(found.explanation(), expected, "{file}: {text}");
        }
    }

    #[test]
    fn captions_of_a_split_are_not_named_beside_boxes() {
        const COCO: &str =
            r#"{"images": [{"id": 1, "file_name": "1.png"}], "annotations": [], "categories": []}"#;
        const CAPTIONS: &str = r#"{"images": [{"id": 1, "file_name": "1.png"}],
            "annotations": [{"id": 1, "image_id": 1, "caption": "a train"}]}"#;
        for (file, text, unused) in [
            ("captions_train.json", CAPTIONS, ""),
            ("captions_train2017.json", CAPTIONS, ""),
            ("train_captions.json", CAPTIONS, ""),
            ("texts_train.json", CAPTIONS, ""),
            (
                "train_captions.json",
                r#"[{"image": "1.png", "caption": "x"}]"#,
                "",
            ),
            ("captions_train.txt", "1.png a cat\n", ""),
            // Images and boxes.
            (
                "train_list.json",
                r#"["1.png"]"#,
                "; not used: train_list.json",
            ),
            ("train_more.json", COCO, "; not used: train_more.json"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("train.json"), COCO).unwrap();
            fs::write(dir.path().join(file), text).unwrap();
            image::RgbImage::new(8, 8)
                .save(dir.path().join("1.png"))
                .unwrap();
            let found = DatasetFiles::find(dir.path()).unwrap();
            assert_eq!(found.explanation(), format!("train.json{unused}"), "{file}");
        }
    }

    #[test]
    fn annotations_of_a_second_format_are_named_as_unused() {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in [
            ("1.xml", "<annotation/>"),
            ("1.txt", "0 0.5 0.5 0.1 0.1\n"),
            ("classes.txt", "cat\n"),
        ] {
            fs::write(dir.path().join(name), content).unwrap();
        }
        image::RgbImage::new(8, 8)
            .save(dir.path().join("1.png"))
            .unwrap();
        let found = DatasetFiles::find(dir.path()).unwrap();
        assert_eq!(
            found.explanation(),
            "XML files beside the images; not used: YOLO annotations (classes.txt)"
        );
        // A list of classes is no annotation.
        fs::remove_file(dir.path().join("1.txt")).unwrap();
        let found = DatasetFiles::find(dir.path()).unwrap();
        assert_eq!(found.explanation(), "XML files beside the images");
    }
}
