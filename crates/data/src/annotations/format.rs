//! The trait that each annotation format implements, and the types that it takes and returns.
//!
//! A format is a type in a file of its own that implements [`AnnotationFormat`], and one line in
//! [`FORMATS`](super::formats::FORMATS). Everything else loops over this table: datasets by directory, the
//! checker, the converter, the viewer and the messages that list the expected files.
//!
//! A format whose annotations are COCO JSON names the files and leaves the reading to the shared
//! reader ([`Reader::CocoJson`]). Any other format collects the contents of a split as
//! [`SplitEntries`], including its problems ([`Reader::Entries`]). A strict read fails with the
//! first problem; the checker reports all of them.
//!
//! This module is below the formats and knows none of them. `locations` finds the files of a split, and
//! `reading` reads what formats collected.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::DataError;
use crate::annotations::layout::{LayoutError, Split, not_used};
use crate::annotations::{AnnotationStore, ObjectFlags};
use crate::box_conventions::BoxConvention;
use crate::boxes::ImageSize;
use crate::directory::create_directory;
use crate::text::count;

/// An annotation format, as an entry of [`FORMATS`](super::formats::FORMATS).
pub type Format = &'static dyn AnnotationFormat;

/// An annotation format: how a directory stores the annotations of a detection dataset.
pub trait AnnotationFormat: fmt::Debug + Sync {
    /// Returns the name in options and in code, in lower case: `coco`.
    fn key(&self) -> &'static str;

    /// Returns the name in messages: `COCO`.
    fn name(&self) -> &'static str;

    /// Returns the files by which a directory is recognized, for messages.
    fn files(&self) -> String;

    /// Finds the splits of a directory, or of one annotation file, in this format; None if it is
    /// not in this format. No annotation is read.
    ///
    /// # Errors
    /// The directory is in this format, and its description is wrong.
    fn find(&self, path: &Path) -> Result<Option<FoundSplits>, DataError>;

    /// Returns the splits of a file that no format [finds](Self::find) anything in, and whose problems the reader
    /// of this format reports; None if it reports on no such file.
    ///
    /// An extension alone is sufficient here: a damaged `*.json` gets the messages of the COCO reader.
    fn damaged_file(&self, _path: &Path) -> Option<FoundSplits> {
        None
    }

    /// Returns whether splits that were [found](Self::find) have annotations, as far as that is seen without reading all:
    /// a list of class names is none.
    fn has_annotations(&self, _found: &FoundSplits) -> bool {
        true
    }

    /// Describes annotated images of a dataset that its lists of images do not name.
    fn unlisted(&self, _files: &DatasetFiles) -> Option<String> {
        None
    }

    /// Returns whether the images in a directory have annotations of their own, although the description of the dataset,
    /// such as a list of classes, is elsewhere. `root` is the directory of the dataset.
    fn has_own_annotations(&self, _root: &Path, _directory: &Path) -> bool {
        false
    }

    /// Returns whether a directory of a dataset contains annotations, one file for each image, and no image belongs to
    /// them.
    fn has_annotations_without_images(&self, _root: &Path, _directory: &Path) -> bool {
        false
    }

    /// Returns whether text files with the images of the splits are a part of the format: it reads them, or names those that
    /// are not used.
    fn has_lists(&self) -> bool {
        false
    }

    /// Returns whether all images in the directories of a split are of it, with or without annotations.
    fn takes_all_images(&self) -> bool {
        false
    }

    /// Returns the extension of the files that contain annotations: `xml`.
    fn annotation_extension(&self) -> &'static str;

    /// Returns the extensions by which a file is a dataset in this format, whatever it contains.
    ///
    /// JSON is none of them: results are JSON files, too.
    fn dataset_extensions(&self) -> &'static [&'static str] {
        &[]
    }

    /// Returns whether a directory contains what may be annotations in this format although [`Self::find`] does
    /// not find any. Such a directory is no directory of classes.
    fn may_be_in(&self, _directory: &Path) -> bool {
        false
    }

    /// Describes a file that looks like annotations in this format and is not read; None for any other file.
    fn describe_unread(&self, _path: &Path) -> Option<String> {
        None
    }

    /// Returns the images that an annotation file lists; None if the format has no such files, or this one cannot be read.
    fn images_listed_in(&self, _annotations: &Path) -> Option<Vec<ListedImage>> {
        None
    }

    /// Returns how the annotations of a split are read.
    fn reader(&self) -> Reader;

    /// Returns what the four numbers of a box in the format's files mean.
    fn box_numbers(&self) -> BoxConvention {
        BoxConvention::CORNERS
    }

    /// Returns a box as the format stores it, `[x, y, width, height]` in pixels, or the reason why
    /// it can't store it.
    ///
    /// # Errors
    /// The format has no such boxes.
    fn stored_box(&self, found: &StoredBox) -> Result<[f64; 4], &'static str>;

    /// Returns the path of an image in a written directory, relative to the directory.
    ///
    /// `file_name` is relative, separated by `/`, and contains no `..`.
    fn image_path(&self, split: Split, file_name: &str) -> String;

    /// Returns the part of [`Self::image_path`] that no two images of a dataset may share.
    fn image_key<'p>(&self, image_path: &'p str) -> &'p str {
        image_path
    }

    /// Returns a class name as the format stores it.
    fn stored_name<'n>(&self, name: &'n str) -> Cow<'n, str> {
        Cow::Borrowed(name)
    }

    /// Returns whether the format lists classes without a box.
    fn lists_classes(&self) -> bool;

    /// Returns whether the names of images in the annotations may lead to any directory.
    fn names_lead_anywhere(&self) -> bool {
        false
    }

    /// Returns whether the format stores the [flags](ObjectFlags) of objects.
    fn stores_flags(&self) -> bool {
        false
    }

    /// Writes the annotations of all splits; the images are already placed.
    ///
    /// # Errors
    /// A file cannot be written.
    fn write(&self, splits: &[PlacedSplit], output: &Output) -> Result<(), DataError>;

    /// Copies from the annotations of a dataset in this format what [`Self::write`] drops, after it wrote parts of
    /// the dataset. Returns the counts of what is kept so.
    ///
    /// # Errors
    /// A file cannot be read or written.
    fn keep_dropped(
        &self,
        _files: &DatasetFiles,
        _splits: &[PlacedSplit],
        _output: &Output,
    ) -> Result<Dropped, DataError> {
        Ok(Dropped::default())
    }
}

impl dyn AnnotationFormat {
    /// Returns the error about a directory or file that is not in this format.
    pub(crate) fn not_found_in(&self, root: &Path) -> LayoutError {
        LayoutError::NotInFormat {
            root: root.to_owned(),
            format: self.name(),
            files: self.files(),
        }
    }

    /// Returns the boxes of each image that the format can store, and counts the others and what it
    /// drops of a box.
    pub(crate) fn stored_boxes(&self, split: &SplitAnnotations) -> (Vec<Vec<PlacedBox>>, Dropped) {
        let mut dropped = Dropped::default();
        let mut drop_object = |what: &str| dropped.add(what, "object", 1);
        let mut images = Vec::new();
        for index in 0..split.store.image_count() {
            let size = split.store.image(index).size;
            let mut boxes = Vec::new();
            for (annotation, numbers) in split
                .store
                .annotations(index)
                .zip(split.store.numbers(index))
            {
                let (xywh, area) = numbers.as_f64();
                let is_crowd = annotation.is_crowd;
                match self.stored_box(&StoredBox {
                    xywh,
                    size,
                    is_crowd,
                }) {
                    Ok(stored) => {
                        let of_box = xywh[2] * xywh[3];
                        if !matches!(self.reader(), Reader::CocoJson)
                            && (area - of_box).abs() > 1e-3 * of_box.abs()
                        {
                            drop_object("areas that differ from the box");
                        }
                        if stored != xywh && is_beyond(xywh, size) {
                            drop_object("parts of boxes outside the image");
                        }
                        boxes.push(PlacedBox {
                            class: annotation.class,
                            xywh: stored,
                            flags: split.store.flags(annotation.id),
                        });
                    }
                    Err(reason) => drop_object(reason),
                }
            }
            images.push(boxes);
        }
        (images, dropped)
    }
}

impl PartialEq for dyn AnnotationFormat {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for dyn AnnotationFormat {}

impl fmt::Display for dyn AnnotationFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The way in which the annotations of a split are read.
#[derive(Debug, Clone, Copy)]
pub enum Reader {
    /// [`SplitFiles::annotations`] is a COCO JSON file, which the shared reader reads.
    CocoJson,
    /// A function of the format collects the contents of some splits of a dataset. It reads each
    /// annotation file once.
    Entries(fn(&DatasetFiles, &[Split]) -> Result<Vec<SplitEntries>, DataError>),
}

/// Annotations and image directories of one split; nothing has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitFiles {
    /// The format of the annotations.
    pub format: Format,
    /// The split's role.
    pub split: Split,
    /// The annotation file; for formats with a file per image, the directory of the dataset.
    pub annotations: PathBuf,
    /// Directories that may contain the images, most likely first.
    pub image_directories: Vec<PathBuf>,
    /// Whether the annotation file has the images of several splits; those of this one have its directory in their names.
    pub is_part: bool,
}

impl SplitFiles {
    /// Returns the annotation file if it is COCO JSON of this split only.
    pub fn coco_json(&self) -> Option<&Path> {
        let is_json = matches!(self.format.reader(), Reader::CocoJson) && !self.is_part;
        is_json.then_some(&*self.annotations)
    }
}

/// An image that an annotation file lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListedImage {
    /// The file name in the file.
    pub name: String,
    /// The id, where the format has any.
    pub id: Option<u64>,
    /// The split that the file names for this image.
    pub split: Option<Split>,
}

/// Fields of images in which converters write the split; COCO has none.
pub(crate) const DIVISIONS: [&str; 11] = [
    "split",
    "subset",
    "partition",
    "set",
    "phase",
    "purpose",
    "is_train",
    "is_val",
    "is_valid",
    "is_test",
    "fold",
];

/// The splits that a format found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundSplits {
    /// The splits that exist, in the order train, val, test; at least one.
    pub splits: Vec<SplitFiles>,
    /// The files by which the format was recognized, for a message: `data.yaml`.
    pub reason: String,
    /// Descriptions of annotations that are not used.
    pub unused: Vec<String>,
    /// The lists of images that are read, or described already.
    pub lists: Vec<PathBuf>,
}

/// The splits of a directory or annotation file; no annotation has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetFiles {
    /// The format of the annotations.
    pub format: Format,
    /// The directory, or the annotation file.
    pub root: PathBuf,
    /// The splits that exist, in the order train, val, test.
    pub splits: Vec<SplitFiles>,
    /// The files by which the format was recognized, for a message.
    pub reason: String,
    /// Descriptions of annotations that are not used: `train_new.json`.
    pub unused: Vec<String>,
}

impl DatasetFiles {
    /// Finds the splits of a directory or annotation file in a known format.
    ///
    /// # Errors
    /// The path is not in this format, or its description is wrong.
    pub fn of_format(format: Format, root: &Path) -> Result<Self, DataError> {
        if !root.exists() {
            return Err(LayoutError::NoDirectory { root: root.into() }.into());
        }
        let found = format.find(root)?;
        match found.or_else(|| format.damaged_file(root)) {
            Some(found) => Self::of_found(format, root, found),
            None => Err(format.not_found_in(root).into()),
        }
    }

    /// Describes what a format found.
    ///
    /// # Errors
    /// The only annotation file has images of several splits and of none.
    pub(super) fn of_found(
        format: Format,
        root: &Path,
        found: FoundSplits,
    ) -> Result<Self, DataError> {
        let found = found.divided_by_names(root)?;
        Ok(Self {
            format,
            root: root.to_owned(),
            splits: found.splits,
            reason: found.reason,
            unused: found.unused,
        })
    }

    /// Returns why the dataset was recognized as what it is, and what of it is not used.
    pub fn explanation(&self) -> String {
        self.reason.clone() + &not_used(&self.unused)
    }

    /// Describes one split on its own.
    pub(crate) fn of_split(files: SplitFiles) -> Self {
        Self {
            format: files.format,
            root: files.annotations.clone(),
            reason: files.annotations.display().to_string(),
            unused: Vec::new(),
            splits: vec![files],
        }
    }

    /// Looks for the images of all splits in one directory only.
    #[must_use]
    pub fn with_image_directory(mut self, directory: &Path) -> Self {
        for files in &mut self.splits {
            files.image_directories = vec![directory.to_owned()];
        }
        self
    }

    /// Returns the directories and lists of images of all splits.
    pub(crate) fn image_directories(&self) -> impl Iterator<Item = &PathBuf> + Clone {
        let splits = self.splits.iter();
        splits.flat_map(|split| &split.image_directories)
    }

    /// Returns the splits that exist.
    pub fn split_names(&self) -> Vec<Split> {
        self.splits.iter().map(|files| files.split).collect()
    }

    /// Returns the files of a split.
    ///
    /// # Errors
    /// The dataset has no such split.
    pub fn split(&self, split: Split) -> Result<&SplitFiles, LayoutError> {
        let found = self.splits.iter().find(|files| files.split == split);
        found.ok_or_else(|| LayoutError::NoSplit {
            root: self.root.clone(),
            format: self.format.name(),
            split,
            found: self.split_names(),
            unused: self.unused.clone(),
        })
    }
}

/// The contents of a split, valid or not, in the order of its files.
#[derive(Debug, Default)]
pub struct SplitEntries {
    /// The directory that file names are relative to.
    pub image_root: PathBuf,
    /// The list that names the images, if there is one.
    pub list: Option<PathBuf>,
    /// Class names. The category id of a class is its position plus one.
    pub categories: Vec<String>,
    /// The images. The id of an image is its position plus one.
    pub images: Vec<SplitImage>,
    /// Problems in the order of the images. A strict read fails with the first.
    pub problems: Vec<EntryProblem>,
    /// Counts of what the format expresses and an [`AnnotationStore`] does not.
    pub dropped: Dropped,
    /// How files were found where it is not evident, one line each.
    pub notes: Vec<String>,
    /// Images that the notes describe as left out.
    pub left_out: Vec<PathBuf>,
}

/// An image of [`SplitEntries`].
#[derive(Debug)]
pub struct SplitImage {
    /// The path, relative to [`SplitEntries::image_root`] and separated by `/`.
    pub file_name: String,
    /// The size stated by the annotations, else that of the file. None if neither is known; a
    /// problem is then reported, too.
    pub size: Option<ImageSize>,
    /// The boxes.
    pub boxes: Vec<BoxEntry>,
}

/// A box of a [`SplitImage`].
#[derive(Debug)]
pub struct BoxEntry {
    /// Position in [`SplitEntries::categories`].
    pub class: usize,
    /// `[x, y, width, height]` in pixels. None for a box in fractions of an image of unknown size.
    pub xywh: Option<[f32; 4]>,
    /// The flags of the object.
    pub flags: ObjectFlags,
}

/// A problem in a split.
#[derive(Debug)]
pub struct EntryProblem {
    /// Position of the image that is affected.
    pub image: usize,
    /// The problem.
    pub error: DataError,
}

/// A dataset read from any format.
#[derive(Debug)]
pub struct AnnotatedDataset {
    /// The format of the source.
    pub format: Format,
    /// The splits.
    pub splits: Vec<SplitAnnotations>,
}

/// A split read from any format.
#[derive(Debug)]
pub struct SplitAnnotations {
    /// The split's role.
    pub split: Split,
    /// Categories, images and boxes.
    pub store: AnnotationStore,
    /// The directory that file names are relative to.
    pub image_root: PathBuf,
    /// Counts of what the format expresses and the store does not.
    pub dropped: Dropped,
    /// Counts of what annotations have besides a box, which training does not need.
    pub besides_boxes: Dropped,
    /// How files were found where it is not evident, one line each.
    pub notes: Vec<String>,
}

impl SplitAnnotations {
    /// Returns the paths of the images.
    pub(crate) fn image_paths(&self) -> Vec<PathBuf> {
        let names = (0..self.store.image_count()).map(|index| self.store.image(index).file_name);
        names.map(|name| self.image_root.join(name)).collect()
    }

    /// Returns the notes and the counts of what was dropped, one line each.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let dropped = self.dropped.lines();
        let dropped = dropped.map(|line| format!("not used: {line}"));
        self.notes.iter().cloned().chain(dropped)
    }
}

/// Returns whether a box exceeds its image by more than the rounding of numbers, in pixels.
fn is_beyond([x, y, w, h]: [f64; 4], size: ImageSize) -> bool {
    const ROUNDING: f64 = 1e-3;
    let right = x + w - size.width as f64;
    let bottom = y + h - size.height as f64;
    (-x).max(-y).max(right).max(bottom) > ROUNDING
}

/// A box to be stored in a format.
#[derive(Debug, Clone, Copy)]
pub struct StoredBox {
    /// `[x, y, width, height]` in pixels.
    pub xywh: [f64; 4],
    /// The size of the image.
    pub size: ImageSize,
    /// COCO's `iscrowd`.
    pub is_crowd: bool,
}

impl StoredBox {
    /// Returns the box if it is a single object with an area, which is all that formats other than
    /// COCO store.
    ///
    /// # Errors
    /// The reason why it is not.
    pub(crate) fn of_one_object(&self) -> Result<[f64; 4], &'static str> {
        let [_, _, width, height] = self.xywh;
        if self.is_crowd {
            Err("crowd annotations")
        } else if !(width > 0.0 && height > 0.0) {
            Err("boxes without area")
        } else {
            Ok(self.xywh)
        }
    }
}

/// Counts of items that a format cannot express.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dropped(BTreeMap<(String, &'static str), usize>);

impl Dropped {
    /// Adds `number` items of a kind; `noun` is the counted noun in the singular.
    pub fn add(&mut self, what: impl Into<String>, noun: &'static str, number: usize) {
        if number > 0 {
            *self.0.entry((what.into(), noun)).or_default() += number;
        }
    }

    /// Removes `number` items of a kind.
    pub(crate) fn remove(&mut self, what: &str, noun: &'static str, number: usize) {
        let key = (what.to_owned(), noun);
        if let Some(count) = self.0.get_mut(&key) {
            *count = count.saturating_sub(number);
            if *count == 0 {
                self.0.remove(&key);
            }
        }
    }

    /// Removes the counts of another instance.
    pub(crate) fn subtract(&mut self, other: &Self) {
        for ((what, noun), number) in &other.0 {
            self.remove(what, noun, *number);
        }
    }

    /// Adds the flags of an object.
    pub(crate) fn add_flags(&mut self, flags: ObjectFlags) {
        for name in flags.names() {
            self.add(described_flag(name), "object", 1);
        }
    }

    /// Removes the flags of all objects of a store, which a writer kept.
    pub(crate) fn remove_flags(&mut self, store: &AnnotationStore) {
        for name in store.all_flags().flat_map(ObjectFlags::names) {
            self.remove(&described_flag(name), "object", 1);
        }
    }

    /// Adds the counts of another instance.
    pub fn merge(&mut self, other: &Self) {
        for ((what, noun), number) in &other.0 {
            self.add(what, noun, *number);
        }
    }

    /// Formats a line for each kind: `crowd annotations (3 objects)`.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let kinds = self.0.iter();
        kinds.map(|((what, noun), number)| format!("{what} ({})", count(*number, noun)))
    }
}

/// Describes a flag in counts of what is not used.
fn described_flag(name: &str) -> String {
    format!("`{name}` flags")
}

/// A split with the locations of its images in a written directory.
#[derive(Debug)]
pub struct PlacedSplit<'a> {
    /// The split.
    pub annotations: &'a SplitAnnotations,
    /// The [path](AnnotationFormat::image_path) of each image.
    pub image_paths: Vec<String>,
    /// The boxes of each image that the format stores.
    pub boxes: Vec<Vec<PlacedBox>>,
}

/// A box that a format stores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlacedBox {
    /// Class, a position in the categories of the store.
    pub class: usize,
    /// `[x, y, width, height]` in pixels.
    pub xywh: [f64; 4],
    /// The flags of the object.
    pub flags: ObjectFlags,
}

/// A written dataset.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Written {
    /// The splits.
    pub splits: Vec<WrittenSplit>,
    /// Counts of what the format cannot express.
    pub dropped: Dropped,
    /// Where the images belong, if they were left and the annotations do not lead to them.
    pub left_images: Option<LeftImages>,
    /// Number of images that were to be linked and had to be copied.
    pub copied_instead: usize,
}

/// Where the images of a dataset belong that was written without them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeftImages {
    /// All images of a directory belong into another one, under their names.
    Directory {
        /// The directory of the images.
        from: PathBuf,
        /// The directory below the written one.
        to: String,
    },
    /// Images of several directories, or that get other names.
    List {
        /// The name of the CSV file in the written directory that lists the path and the destination of each.
        file: String,
        /// The first image, and its destination below the written directory.
        first: (PathBuf, String),
    },
}

/// A written split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenSplit {
    /// The split's role.
    pub split: Split,
    /// Number of images.
    pub images: usize,
    /// Number of boxes.
    pub boxes: usize,
}

/// The directory that a format writes to.
#[derive(Debug, Clone, Copy)]
pub struct Output<'a> {
    root: &'a Path,
}

impl<'a> Output<'a> {
    /// Writes to a directory.
    pub fn new(root: &'a Path) -> Self {
        Self { root }
    }

    /// Returns the directory.
    pub(crate) fn root(&self) -> &'a Path {
        self.root
    }

    /// Returns the path of a file and creates its directory.
    ///
    /// # Errors
    /// The directory cannot be created.
    pub fn path(&self, name: &str) -> Result<PathBuf, DataError> {
        let path = self.root.join(name);
        if let Some(directory) = path.parent() {
            create_directory(directory).map_err(|source| DataError::io(directory, source))?;
        }
        Ok(path)
    }

    /// Writes a file with a function. It is not synced to the disk: the directory appears when it is complete, and a
    /// sync would also wait for the images that were copied before.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(
        &self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), DataError> {
        let path = self.path(name)?;
        let written = File::create(&path).and_then(|file| {
            let mut out = BufWriter::new(file);
            write(&mut out)?;
            out.flush()
        });
        written.map_err(|source| DataError::io(&path, source))
    }

    /// Writes a file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn file(&self, name: &str, content: &str) -> Result<(), DataError> {
        let path = self.path(name)?;
        fs::write(&path, content).map_err(|source| DataError::io(&path, source))
    }
}

/// Returns the part of a path after the last `/`.
pub(crate) fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Returns a path without the extension of its last part.
pub(crate) fn without_extension(path: &str) -> &str {
    let start = path.len() - last_part(path).len();
    match path[start..].rfind('.') {
        Some(at) if at > 0 => &path[..start + at],
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_cut_from_the_last_part_alone() {
        for (path, expected) in [
            ("a.b/c.jpg", "a.b/c"),
            ("a.b/c", "a.b/c"),
            ("a/.hidden", "a/.hidden"),
        ] {
            assert_eq!(without_extension(path), expected);
        }
    }
}
