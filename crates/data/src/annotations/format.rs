//! The table of annotation formats, and the trait that each format implements.
//!
//! A format is a type in a file of its own that implements [`AnnotationFormat`], and one line in
//! [`FORMATS`]. Everything else loops over the table: datasets by directory, the checker, the converter,
//! the viewer and the messages that list the expected files.
//!
//! A format whose annotations are COCO JSON names the files and leaves the reading to the shared
//! reader ([`Reader::CocoJson`]). Any other format collects the contents of a split as
//! [`SplitEntries`], including its problems ([`Reader::Entries`]). A strict read fails with the
//! first problem; the checker reports all of them.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::DataError;
use crate::annotations::box_convention::{FEWEST_BOXES, check_box_convention};
use crate::annotations::coco::read_coco_json;
use crate::annotations::coco_directory::CocoFormat;
use crate::annotations::csv_table::{CsvFormat, unread_table};
use crate::annotations::foreign::foreign_annotations;
use crate::annotations::image_files::{
    Folder, first_few, has_extension, holds_images, holds_images_directly,
};
use crate::annotations::layout::{LayoutError, Split, SplitFiles, image_directories, join};
use crate::annotations::voc_directory::VocFormat;
use crate::annotations::yolo::YoloFormat;
use crate::annotations::{AnnotationStore, AnnotationStoreBuilder, NewAnnotation, ObjectFlags};
use crate::boxes::ImageSize;
use crate::directory::create_directory;
use crate::images::decode::{DecodeError, image_size};
use crate::loading::OnBadImage;
use crate::text::{count, numbers};

/// All annotation formats. A directory that several recognize belongs to the first of them.
pub const FORMATS: &[Format] = &[
    &CocoFormat, // a JSON file per split
    &VocFormat,  // an XML file per image
    &YoloFormat, // a text file per image
    &CsvFormat,  // a table per split
];

/// An entry of [`FORMATS`].
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

    /// Returns how the annotations of a split are read.
    fn reader(&self) -> Reader;

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

/// The splits that a format found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundSplits {
    /// The splits that exist, in the order train, val, test; at least one.
    pub splits: Vec<SplitFiles>,
    /// The files by which the format was recognized, for a message: `data.yaml`.
    pub reason: String,
}

impl FoundSplits {
    /// Returns the splits of a format with one annotation file for each split, or none without files.
    pub(super) fn of_files(
        format: Format,
        root: &Path,
        found: Vec<(Split, PathBuf)>,
    ) -> Option<Self> {
        let names = found.iter().map(|(_, file)| {
            let name = file.strip_prefix(root).unwrap_or(file);
            name.display().to_string()
        });
        let reason = join(names);
        let splits = found.into_iter().map(|(split, annotations)| SplitFiles {
            format,
            split,
            image_directories: image_directories(root, &annotations, split),
            annotations,
        });
        let splits: Vec<SplitFiles> = splits.collect();
        (!splits.is_empty()).then_some(Self { splits, reason })
    }
}

/// Returns the format with the given [key](AnnotationFormat::key).
pub fn format_of_key(key: &str) -> Option<Format> {
    FORMATS.iter().copied().find(|format| format.key() == key)
}

/// Returns the first format that recognizes a directory.
///
/// # Errors
/// A format recognizes the directory, and its description is wrong.
pub fn recognize(root: &Path) -> Result<Option<Format>, DataError> {
    for &format in FORMATS {
        if format.find(root)?.is_some() {
            return Ok(Some(format));
        }
    }
    Ok(None)
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
        for (at, &format) in FORMATS.iter().enumerate() {
            if let Some(found) = format.find(root)? {
                let mut files = Self::of_found(format, root, found);
                // Whoever meant the other annotations has to know.
                for other in &FORMATS[at + 1..] {
                    if let Ok(Some(other_found)) = other.find(root) {
                        let unused = format!(
                            "; {other} annotations ({}) are not used",
                            other_found.reason
                        );
                        files.reason += &unused;
                    }
                }
                if root.is_dir()
                    && let Some(LayoutError::Foreign { file, name, .. }) = foreign_annotations(root)
                {
                    let file = file.strip_prefix(root).unwrap_or(&file).display();
                    files.reason += &format!("; {name} annotations ({file}) are not used");
                }
                return Ok(files);
            }
        }
        if let Some(error) = foreign_annotations(root) {
            return Err(error.into());
        }
        let folder = Folder::of(root);
        let inner = || folder.directories.iter().map(|name| root.join(name));
        if let ([name], true) = (folder.directories.as_slice(), depth > 0)
            && folder.images().next().is_none()
        {
            match Self::find_within(&root.join(name), depth - 1) {
                // The outer directory is the one that was given, and may have other files.
                Err(DataError::Layout(LayoutError::Unrecognized { .. }))
                    if !folder.files.is_empty() => {}
                // Any other error of the inner directory says more than one of the outer.
                inner => {
                    let mut files = inner?;
                    files.reason = format!("in {name}: {}", files.reason);
                    return Ok(files);
                }
            }
        }
        let (datasets, others): (Vec<PathBuf>, Vec<PathBuf>) =
            inner().partition(|path| matches!(recognize(path), Ok(Some(_))));
        let shown = |path: &PathBuf| path.display().to_string();
        match datasets.as_slice() {
            [] => {}
            [only] if depth > 0 => {
                let others: Vec<String> = others
                    .iter()
                    .filter(|path| holds_images(path))
                    .map(shown)
                    .collect();
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
                return Ok(files);
            }
            several => {
                return Err(LayoutError::Several {
                    root: root.to_owned(),
                    datasets: several.iter().map(shown).collect(),
                }
                .into());
            }
        }
        let images = inner().chain([root.to_owned()]);
        let images: Vec<String> = images
            .filter(|path| holds_images_directly(path))
            .map(|path| path.display().to_string())
            .collect();
        let mut found = Vec::new();
        if !images.is_empty() {
            let directories = first_few(images.iter().map(String::as_str));
            found.push(format!("images without annotations in {directories}"));
        }
        found.extend(unread_files(root));
        let found = match found.as_slice() {
            [] => String::new(),
            found => format!(" ({})", found.join("; ")),
        };
        let root = root.to_owned();
        Err(LayoutError::Unrecognized { root, found }.into())
    }

    /// Finds the splits of a directory or annotation file in a known format.
    ///
    /// # Errors
    /// The path is not in this format, or its description is wrong.
    pub fn of_format(format: Format, root: &Path) -> Result<Self, DataError> {
        if !root.exists() {
            return Err(LayoutError::NoDirectory { root: root.into() }.into());
        }
        match format.find(root)? {
            Some(found) => Ok(Self::of_found(format, root, found)),
            None => {
                let root = root.to_owned();
                Err(LayoutError::NotInFormat { root, format }.into())
            }
        }
    }

    fn of_found(format: Format, root: &Path, found: FoundSplits) -> Self {
        Self {
            format,
            root: root.to_owned(),
            splits: found.splits,
            reason: found.reason,
        }
    }

    /// Describes one split on its own.
    pub fn of_split(files: SplitFiles) -> Self {
        Self {
            format: files.format,
            root: files.annotations.clone(),
            reason: files.annotations.display().to_string(),
            splits: vec![files],
        }
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
            format: self.format,
            split,
            found: self.split_names(),
        })
    }

    /// Reads all splits.
    ///
    /// # Errors
    /// A file is wrong; the error names it.
    pub fn read(&self) -> Result<AnnotatedDataset, DataError> {
        Ok(AnnotatedDataset {
            format: self.format,
            splits: self.read_splits(&self.split_names(), OnBadImage::Error)?,
        })
    }

    /// Reads all splits to write their images somewhere else: an image that cannot be read is an error, or is skipped.
    ///
    /// # Errors
    /// As [`Self::read`]; no image can be read.
    pub fn read_with_images(
        &self,
        on_bad_image: OnBadImage,
    ) -> Result<AnnotatedDataset, DataError> {
        let mut splits = self.read_splits(&self.split_names(), on_bad_image)?;
        if on_bad_image == OnBadImage::Skip {
            for split in &mut splits {
                split.skip_unreadable()?;
            }
        }
        Ok(AnnotatedDataset {
            format: self.format,
            splits,
        })
    }

    /// Reads some splits strictly, each annotation file once. Images whose size has to be read from their file, or
    /// differs from the annotated one, are errors or are skipped with a note; no other images are opened.
    ///
    /// # Errors
    /// The dataset has no such split, an annotation is wrong, the images are not found, or none is left.
    pub fn read_splits(
        &self,
        splits: &[Split],
        on_bad_image: OnBadImage,
    ) -> Result<Vec<SplitAnnotations>, DataError> {
        let files: Vec<&SplitFiles> = splits
            .iter()
            .map(|split| self.split(*split))
            .collect::<Result<_, _>>()?;
        match self.format.reader() {
            Reader::CocoJson => files
                .into_iter()
                .map(|files| files.read_json(on_bad_image))
                .collect(),
            Reader::Entries(collect) => collect(self, splits)?
                .into_iter()
                .zip(files)
                .map(|(entries, files)| entries.into_annotations(files, on_bad_image))
                .collect(),
        }
    }

    /// Collects the entries of some splits with their problems; None for COCO JSON.
    ///
    /// # Errors
    /// The description of the dataset is wrong.
    pub(crate) fn entries(&self, splits: &[Split]) -> Result<Option<Vec<SplitEntries>>, DataError> {
        match self.format.reader() {
            Reader::CocoJson => Ok(None),
            Reader::Entries(collect) => collect(self, splits).map(Some),
        }
    }
}

/// Describes the first CSV and text files that are named like annotations, or are tables, and in no format
/// that is read.
fn unread_files(root: &Path) -> Vec<String> {
    /// More would hide the rest of the message.
    const SHOWN: usize = 2;
    if root.is_file() {
        return unread_table(root).into_iter().collect();
    }
    let folder = Folder::of(root);
    let inner = Split::ALL.map(|split| folder.split_directory(split));
    let others = [
        folder.directory(&["annotations"]),
        folder.directory(&["data"]),
    ];
    let inner = inner.into_iter().chain(others).flatten();
    let directories = [root.to_owned()].into_iter().chain(inner);
    let files = directories.flat_map(|directory| {
        let folder = Folder::of(&directory);
        let names = folder.files.into_iter();
        names.map(move |name| directory.join(name))
    });
    let unread = files.filter_map(|path| unread_table(&path).or_else(|| unread_text(&path)));
    unread.take(SHOWN).collect()
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
    let is_text = has_extension(path, "txt") && (is_meant || Split::in_name(&stem).is_some());
    let shown = path.display();
    is_text.then(|| format!("{shown}: not annotations in a format that is read"))
}

impl SplitFiles {
    /// Reads the annotations strictly and finds the directory of the images.
    ///
    /// # Errors
    /// An annotation is wrong, or the images are not found.
    pub fn read(&self) -> Result<SplitAnnotations, DataError> {
        let files = DatasetFiles::of_split(self.clone());
        let mut read = files.read_splits(&[self.split], OnBadImage::Error)?;
        read.pop().ok_or_else(|| {
            let root = self.annotations.clone();
            let (format, split) = (self.format, self.split);
            let found = Vec::new();
            LayoutError::NoSplit {
                root,
                format,
                split,
                found,
            }
            .into()
        })
    }

    /// Reads COCO JSON. A size that the file lacks is that of the image.
    fn read_json(&self, on_bad_image: OnBadImage) -> Result<SplitAnnotations, DataError> {
        let mut json = read_coco_json(&self.annotations)?;
        let names = json.names();
        let Some(first) = names.first() else {
            let annotations = self.annotations.clone();
            return Err(LayoutError::NoImages { annotations }.into());
        };
        let Some(found) = self.find_images(&names) else {
            return Err(self.images_not_found(first).into());
        };
        let mut matched = found.matched;
        if !matched.ambiguous.is_empty() {
            return Err(matched.ambiguous.swap_remove(0).1);
        }
        let directory = found.directory;
        if matched.names != names {
            json.set_names(&matched.names);
        }
        let names = matched.names;
        let unsized_images = json.unsized_images();
        let read: Vec<(usize, Result<ImageSize, DecodeError>)> = unsized_images
            .par_iter()
            .map(|&index| (index, image_size(&directory.join(&names[index]))))
            .collect();
        let mut bad_images = BadImages::default();
        let (mut sizes, mut without_size) = (Vec::new(), Vec::new());
        for (index, size) in read {
            match size {
                Ok(size) => sizes.push((index, size)),
                Err(error) if on_bad_image == OnBadImage::Skip => {
                    bad_images.add(&names[index], error.into());
                    without_size.push(index);
                }
                Err(error) => return Err(error.into()),
            }
        }
        json.set_sizes(&sizes);
        let skipped = json.ids_of_unsized(&without_size);
        // Until they are removed.
        let any_size = without_size.iter().map(|at| (*at, ImageSize::new(1, 1)));
        json.set_sizes(&any_size.collect::<Vec<_>>());
        let mut notes = found.notes;
        if !sizes.is_empty() {
            let images = count(sizes.len(), "image");
            notes.push(format!(
                "{images} without a size in the annotations: that of the file is used"
            ));
        }
        let mut besides_boxes = Dropped::default();
        for (what, number) in json.extras() {
            besides_boxes.add(what, "object", number);
        }
        let mut read = SplitAnnotations {
            split: self.split,
            store: json.build(&self.annotations)?,
            image_root: directory,
            dropped: Dropped::default(),
            besides_boxes,
            notes,
        };
        let skipped = skipped.iter();
        let skipped: HashSet<usize> = skipped
            .filter_map(|id| read.store.index_of_image(*id))
            .collect();
        if !skipped.is_empty() {
            read.skip(&skipped, bad_images)?;
            // The boxes of the others were counted with theirs.
            check_box_convention(&read.store, &self.annotations, true)?;
        }
        Ok(read)
    }

    /// Returns the annotation file if it is COCO JSON.
    pub fn coco_json(&self) -> Option<&Path> {
        matches!(self.format.reader(), Reader::CocoJson).then_some(&*self.annotations)
    }
}

/// The contents of a split, valid or not, in the order of its files.
#[derive(Debug, Default)]
pub struct SplitEntries {
    /// The directory that file names are relative to.
    pub image_root: PathBuf,
    /// Class names. The category id of a class is its position plus one.
    pub categories: Vec<String>,
    /// The images. The id of an image is its position plus one.
    pub images: Vec<ImageEntry>,
    /// Problems in the order of the images. A strict read fails with the first.
    pub problems: Vec<EntryProblem>,
    /// Counts of what the format expresses and an [`AnnotationStore`] does not.
    pub dropped: Dropped,
    /// How files were found where it is not evident, one line each.
    pub notes: Vec<String>,
}

/// An image of [`SplitEntries`].
#[derive(Debug)]
pub struct ImageEntry {
    /// The path, relative to [`SplitEntries::image_root`] and separated by `/`.
    pub file_name: String,
    /// The size stated by the annotations, else that of the file. None if neither is known; a
    /// problem is then reported, too.
    pub size: Option<ImageSize>,
    /// The boxes.
    pub boxes: Vec<BoxEntry>,
}

/// A box of an [`ImageEntry`].
#[derive(Debug)]
pub struct BoxEntry {
    /// Position in [`SplitEntries::categories`].
    pub class: usize,
    /// `[x, y, width, height]` in pixels. None for a box in fractions of an image of unknown size.
    pub xywh: Option<[f32; 4]>,
    /// What is said about the object besides its box.
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

impl SplitEntries {
    /// Checks that the boxes do not have width and height in the place of their second corner.
    fn check_corners(&self, files: &SplitFiles) -> Result<(), DataError> {
        let named = self.images.iter().flat_map(|image| {
            let boxes = image.boxes.iter().filter_map(|found| found.xywh);
            boxes.map(|xywh| (&image.file_name, xywh))
        });
        let is_reversed = |[_, _, width, height]: [f32; 4]| width < 0.0 || height < 0.0;
        let boxes = named.clone().count();
        let mut reversed = named.filter(|(_, xywh)| is_reversed(*xywh));
        let Some((file_name, [x, y, width, height])) = reversed.next() else {
            return Ok(());
        };
        let number = 1 + reversed.count();
        // Of widths and heights of objects all over their images, most are smaller than x or y.
        if boxes < FEWEST_BOXES || number * 3 < boxes {
            return Ok(());
        }
        Err(DataError::labels(
            &files.annotations,
            format!(
                "{number} of {} end before they begin, such as {} of {file_name}: their last two numbers are \
                 probably width and height, not a corner",
                count(boxes, "box"),
                numbers(&[x, y, x + width, y + height].map(f64::from))
            ),
        ))
    }

    /// Builds the store of a strict read; boxes without area are dropped and counted.
    fn into_annotations(
        mut self,
        files: &SplitFiles,
        on_bad_image: OnBadImage,
    ) -> Result<SplitAnnotations, DataError> {
        let all = self.images.len();
        let mut bad_images = BadImages::default();
        let mut skipped: HashSet<usize> = HashSet::new();
        for EntryProblem { image, error } in std::mem::take(&mut self.problems) {
            if on_bad_image == OnBadImage::Error || !error.is_about_one_image() {
                return Err(error);
            }
            if skipped.insert(image) {
                bad_images.add(&self.images[image].file_name, error);
            }
        }
        self.notes.extend(bad_images.finish(all)?);
        self.check_corners(files)?;
        let mut builder = AnnotationStoreBuilder::new();
        for (id, name) in (1..).zip(self.categories) {
            builder.add_category(id, name);
        }
        let mut id = 0;
        for (at, image) in self.images.into_iter().enumerate() {
            if skipped.contains(&at) {
                continue;
            }
            let image_id = at as u64 + 1;
            let Some(size) = image.size else {
                let path = self.image_root.join(image.file_name);
                return Err(DataError::labels(&path, "the size of the image is unknown"));
            };
            builder.add_image(image_id, &image.file_name, size);
            for found in image.boxes {
                let Some(xywh @ [_, _, width, height]) = found.xywh else {
                    continue;
                };
                if !(width > 0.0 && height > 0.0) {
                    self.dropped.add("boxes without area", "object", 1);
                    continue;
                }
                id += 1;
                builder.set_flags(id, found.flags);
                builder.add_annotation(NewAnnotation {
                    id,
                    image_id,
                    category_id: found.class as u64 + 1,
                    xywh,
                    area: None,
                    is_crowd: false,
                });
            }
        }
        let store = builder.build().map_err(|source| DataError::Annotations {
            path: files.annotations.clone(),
            source,
        })?;
        check_box_convention(&store, &files.annotations, false)?;
        Ok(SplitAnnotations {
            split: files.split,
            store,
            image_root: self.image_root,
            dropped: self.dropped,
            besides_boxes: Dropped::default(),
            notes: self.notes,
        })
    }
}

/// The images of a split that cannot be used.
#[derive(Debug, Default)]
struct BadImages {
    names: Vec<String>,
    /// The error of the first of them.
    first: Option<DataError>,
}

impl BadImages {
    fn add(&mut self, name: &str, error: DataError) {
        self.names.push(name.to_owned());
        self.first.get_or_insert(error);
    }

    /// Returns the note on the images that were skipped of `all`, if there are any.
    ///
    /// # Errors
    /// None is left; the error is that of the first.
    fn finish(self, all: usize) -> Result<Option<String>, DataError> {
        let Some(first) = self.first else {
            return Ok(None);
        };
        if self.names.len() == all {
            return Err(first);
        }
        let names = first_few(self.names.iter().map(String::as_str));
        Ok(Some(format!(
            "skipped {} of {} that cannot be used: {names} ({first})",
            self.names.len(),
            count(all, "image")
        )))
    }
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
    /// Removes the images at some positions and notes it.
    fn skip(&mut self, positions: &HashSet<usize>, bad_images: BadImages) -> Result<(), DataError> {
        let images = self.store.image_count();
        self.notes.extend(bad_images.finish(images)?);
        if !positions.is_empty() {
            let kept: Vec<usize> = (0..images).filter(|at| !positions.contains(at)).collect();
            self.store = self.store.select(&kept);
        }
        Ok(())
    }

    /// Removes the images whose files are missing or cannot be read, and notes it.
    ///
    /// # Errors
    /// None is left; the error is that of the first.
    pub fn skip_unreadable(&mut self) -> Result<(), DataError> {
        let read: Vec<Result<ImageSize, DecodeError>> = (0..self.store.image_count())
            .into_par_iter()
            .map(|index| image_size(&self.image_root.join(self.store.image(index).file_name)))
            .collect();
        let mut bad_images = BadImages::default();
        let mut skipped = HashSet::new();
        for (index, size) in read.into_iter().enumerate() {
            if let Err(error) = size {
                bad_images.add(self.store.image(index).file_name, error.into());
                skipped.insert(index);
            }
        }
        self.skip(&skipped, bad_images)
    }

    /// Returns the paths of the images.
    pub fn image_paths(&self) -> Vec<PathBuf> {
        let names = (0..self.store.image_count()).map(|index| self.store.image(index).file_name);
        names.map(|name| self.image_root.join(name)).collect()
    }

    /// Returns the notes and the counts of what was dropped, one line each.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let dropped = self.dropped.lines();
        let dropped = dropped.map(|line| format!("not used: {line}"));
        self.notes.iter().cloned().chain(dropped)
    }

    /// Returns the boxes of each image that a format can store, and counts the others and what the
    /// format drops of a box.
    pub(crate) fn stored_boxes(&self, format: Format) -> (Vec<Vec<PlacedBox>>, Dropped) {
        let mut dropped = Dropped::default();
        let mut drop_object = |what: &str| dropped.add(what, "object", 1);
        let mut images = Vec::new();
        for index in 0..self.store.image_count() {
            let size = self.store.image(index).size;
            let mut boxes = Vec::new();
            for (annotation, numbers) in
                self.store.annotations(index).zip(self.store.numbers(index))
            {
                let (xywh, area) = numbers.as_f64();
                let is_crowd = annotation.is_crowd;
                match format.stored_box(&StoredBox {
                    xywh,
                    size,
                    is_crowd,
                }) {
                    Ok(stored) => {
                        let of_box = xywh[2] * xywh[3];
                        if !matches!(format.reader(), Reader::CocoJson)
                            && (area - of_box).abs() > 1e-3 * of_box.abs()
                        {
                            drop_object("areas that differ from the box");
                        }
                        if stored != xywh && is_beyond(xywh, size) {
                            drop_object("parts of boxes outside of the image");
                        }
                        boxes.push(PlacedBox {
                            class: annotation.class,
                            xywh: stored,
                            flags: self.store.flags(annotation.id),
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
pub(crate) fn described_flag(name: &str) -> String {
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
    /// What is said about the object besides its box.
    pub flags: ObjectFlags,
}

/// A written dataset.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Written {
    /// The splits.
    pub splits: Vec<WrittenSplit>,
    /// Counts of what the format cannot express.
    pub dropped: Dropped,
    /// Where the first image belongs, relative to the directory, if the images were left and the annotations do not
    /// lead to them.
    pub missing_image: Option<String>,
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
pub fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Returns a path without the extension of its last part.
pub fn without_extension(path: &str) -> &str {
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
    fn extensions_are_cut_from_the_last_part_alone() {
        for (path, expected) in [
            ("a.b/c.jpg", "a.b/c"),
            ("a.b/c", "a.b/c"),
            ("a/.hidden", "a/.hidden"),
        ] {
            assert_eq!(without_extension(path), expected);
        }
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
            found.reason,
            "XML files beside the images; YOLO annotations (classes.txt) are not used"
        );
    }
}
