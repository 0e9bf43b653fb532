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

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::DataError;
use crate::annotations::coco::read_coco;
use crate::annotations::coco_directory::CocoFormat;
use crate::annotations::layout::{LayoutError, Split, SplitFiles};
use crate::annotations::voc_directory::VocFormat;
use crate::annotations::yolo::YoloFormat;
use crate::annotations::{AnnotationStore, AnnotationStoreBuilder, NewAnnotation};
use crate::boxes::ImageSize;
use crate::directory::create_directory;
use crate::text::count;

/// All annotation formats. A directory that several recognize belongs to the first of them.
pub const FORMATS: &[Format] = &[
    &CocoFormat, // a JSON file per split
    &VocFormat,  // an XML file per image
    &YoloFormat, // a text file per image
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

    /// Reports whether a directory is in this format. No annotation is read.
    ///
    /// # Errors
    /// The directory is in this format, and its description is wrong.
    fn recognize(&self, root: &Path) -> Result<bool, DataError>;

    /// Finds the splits of a directory in this format, in the order train, val, test.
    ///
    /// # Errors
    /// The directory is not in this format, or its description is wrong.
    fn splits(&self, root: &Path) -> Result<Vec<SplitFiles>, DataError>;

    /// Returns how the annotations of a split are read.
    fn reader(&self) -> Reader;

    /// Returns the path of an image in a written directory, relative to the directory.
    ///
    /// `file_name` is relative, separated by `/`, and contains no `..`.
    fn image_path(&self, split: Split, file_name: &str) -> String;

    /// Returns the part of [`Self::image_path`] that no two images of a dataset may share.
    fn image_key<'p>(&self, image_path: &'p str) -> &'p str {
        image_path
    }

    /// Writes the annotations of all splits; the images are already placed.
    ///
    /// # Errors
    /// A file cannot be written.
    fn write(&self, splits: &[PlacedSplit], output: &Output) -> Result<Written, DataError>;
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
    /// A function of the format collects the contents of the split.
    Entries(fn(&SplitFiles) -> Result<SplitEntries, DataError>),
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
        if format.recognize(root)? {
            return Ok(Some(format));
        }
    }
    Ok(None)
}

/// The splits of a directory; no annotation has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetFiles {
    /// The format of the directory.
    pub format: Format,
    /// The directory.
    pub root: PathBuf,
    /// The splits that exist, in the order train, val, test.
    pub splits: Vec<SplitFiles>,
}

impl DatasetFiles {
    /// Recognizes the format of a directory and finds its splits.
    ///
    /// # Errors
    /// The directory does not exist, no format recognizes it, or the format's description of it is wrong.
    pub fn find(root: &Path) -> Result<Self, DataError> {
        if !root.is_dir() {
            return Err(LayoutError::NoDirectory { root: root.into() }.into());
        }
        match recognize(root)? {
            Some(format) => Self::of_format(format, root),
            None => Err(LayoutError::Unrecognized { root: root.into() }.into()),
        }
    }

    /// Finds the splits of a directory in a known format.
    ///
    /// # Errors
    /// The directory is not in this format, or its description is wrong.
    pub fn of_format(format: Format, root: &Path) -> Result<Self, DataError> {
        Ok(Self {
            format,
            root: root.to_owned(),
            splits: format.splits(root)?,
        })
    }

    /// Returns the files of a split.
    ///
    /// # Errors
    /// The directory has no such split.
    pub fn split(&self, split: Split) -> Result<&SplitFiles, LayoutError> {
        let found = self.splits.iter().find(|files| files.split == split);
        found.ok_or_else(|| LayoutError::NoSplit {
            root: self.root.clone(),
            format: self.format,
            split,
            found: self.splits.iter().map(|files| files.split).collect(),
        })
    }

    /// Reads all splits.
    ///
    /// # Errors
    /// A file is wrong; the error names it.
    pub fn read(&self) -> Result<AnnotatedDataset, DataError> {
        Ok(AnnotatedDataset {
            format: self.format,
            splits: self
                .splits
                .iter()
                .map(SplitFiles::read)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl SplitFiles {
    /// Reads the annotations strictly and finds the directory of the images.
    ///
    /// # Errors
    /// An annotation is wrong, or the images are not found.
    pub fn read(&self) -> Result<SplitAnnotations, DataError> {
        match self.format.reader() {
            Reader::CocoJson => {
                let store = read_coco(&self.annotations)?;
                let image_root = self.image_directory(&store)?;
                Ok(SplitAnnotations {
                    split: self.split,
                    store,
                    image_root,
                    dropped: Dropped::default(),
                })
            }
            Reader::Entries(collect) => collect(self)?.into_annotations(self),
        }
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
    /// Builds the store of a strict read; boxes without area are dropped and counted.
    fn into_annotations(mut self, files: &SplitFiles) -> Result<SplitAnnotations, DataError> {
        if !self.problems.is_empty() {
            return Err(self.problems.swap_remove(0).error);
        }
        let mut builder = AnnotationStoreBuilder::new();
        for (id, name) in (1..).zip(self.categories) {
            builder.add_category(id, name);
        }
        let mut id = 0;
        for (image_id, image) in (1..).zip(self.images) {
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
        Ok(SplitAnnotations {
            split: files.split,
            store,
            image_root: self.image_root,
            dropped: self.dropped,
        })
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
}

impl SplitAnnotations {
    /// Counts what formats with only boxes drop: crowd annotations, areas and outlines.
    pub fn beyond_boxes(&self) -> Dropped {
        let mut dropped = Dropped::default();
        for index in 0..self.store.image_count() {
            let boxes = self.store.boxes_xywh(index);
            for (annotation, [_, _, width, height]) in self.store.annotations(index).zip(boxes) {
                let of_box = width * height;
                if annotation.is_crowd {
                    dropped.add("crowd annotations", "object", 1);
                } else if (annotation.area - of_box).abs() > 1e-3 * of_box.abs() {
                    dropped.add("areas and outlines that differ from the box", "object", 1);
                }
            }
        }
        dropped
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

/// A split with the locations of its images in a written directory.
#[derive(Debug)]
pub struct PlacedSplit<'a> {
    /// The split.
    pub annotations: &'a SplitAnnotations,
    /// The [path](AnnotationFormat::image_path) of each image.
    pub image_paths: Vec<String>,
}

/// A written dataset.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Written {
    /// The splits.
    pub splits: Vec<WrittenSplit>,
    /// Counts of what the format cannot express.
    pub dropped: Dropped,
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
}
