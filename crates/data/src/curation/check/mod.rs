//! What is wrong with a dataset, before a training finds it after hours.
//!
//! The loader refuses a file at its first mistake. This room reads what the loader refuses, goes on
//! behind each mistake, and lists them all as [`Diagnostics`]: errors, with which training or evaluation
//! would fail or be wrong, and warnings. What can be repaired without guessing is repaired in memory;
//! [`CheckedSplit::write_fixed`] writes it as a new file.
//!
//! - [`diagnostics`]: the kinds of problems and the list of them. - `reading`: COCO files without
//!   trusting them. - `labels`: YOLO's. - `lists`: ids, names, boxes. - `pictures`: the files. - `between`: splits against
//!   each other. - `fixing`: the clean copy.

mod between;
pub mod diagnostics;
mod fixing;
mod images;
mod labels;
mod lists;
mod reading;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::boxes::ImageSize;

use crate::DataError;
use crate::annotations::layout::{Split, SplitFiles};
use crate::annotations::yolo::YoloDirectory;
use crate::annotations::{AnnotationError, AnnotationStore, AnnotationStoreBuilder, NewAnnotation};

pub use between::compare_splits;
pub use diagnostics::{Diagnostic, Diagnostics, Kind, Severity};
pub use fixing::FixSummary;

/// An entry of `images`, as far as it could be understood.
#[derive(Debug, Clone, Default)]
struct RawImage {
    id: Option<u64>,
    file_name: Option<Box<str>>,
    width: Option<u64>,
    height: Option<u64>,
}

impl RawImage {
    /// The size, if both sides are at least one pixel.
    fn size(&self) -> Option<ImageSize> {
        match (self.width, self.height) {
            (Some(width @ 1..), Some(height @ 1..)) => {
                Some(ImageSize::new(height as usize, width as usize))
            }
            _ => None,
        }
    }
}

/// An entry of `annotations`, as far as it could be understood.
#[derive(Debug, Clone, Default)]
struct RawAnnotation {
    id: Option<u64>,
    image_id: Option<u64>,
    category_id: Option<u64>,
    xywh: Option<[f64; 4]>,
    area: Option<f64>,
    is_crowd: bool,
    /// Its outline no longer fits and has to go.
    without_outline: bool,
}

/// An entry of `categories`, as far as it could be understood.
#[derive(Debug, Clone, Default)]
struct RawCategory {
    id: Option<u64>,
    name: Option<Box<str>>,
}

/// What becomes of an entry in the clean copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Verdict {
    /// It stays byte by byte.
    #[default]
    Keep,
    /// Its fields are written anew.
    Change,
    /// It is left out.
    Drop,
}

impl Verdict {
    fn change(&mut self) {
        if *self == Self::Keep {
            *self = Self::Change;
        }
    }
}

/// Entries, and what becomes of each.
#[derive(Debug)]
struct Entries<T> {
    entries: Vec<T>,
    verdicts: Vec<Verdict>,
}

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            verdicts: Vec::new(),
        }
    }
}

impl<T> Entries<T> {
    fn push(&mut self, entry: T, verdict: Verdict) {
        self.entries.push(entry);
        self.verdicts.push(verdict);
    }

    fn len(&self) -> usize {
        self.entries.len()
    }

    fn drop(&mut self, at: usize) {
        self.verdicts[at] = Verdict::Drop;
    }

    /// The entry, to change it; it will be written anew.
    fn change(&mut self, at: usize) -> &mut T {
        self.verdicts[at].change();
        &mut self.entries[at]
    }

    fn is_kept(&self, at: usize) -> bool {
        self.verdicts[at] != Verdict::Drop
    }

    /// Positions and entries of those that are not dropped.
    fn kept(&self) -> impl Iterator<Item = (usize, &T)> {
        self.entries
            .iter()
            .enumerate()
            .filter(|(at, _)| self.is_kept(*at))
    }
}

/// What a check does beside reading the lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckOptions {
    /// Open and decode every image.
    pub images: bool,
}

/// A split that was checked, with everything repaired that can be.
#[derive(Debug)]
pub struct CheckedSplit {
    /// Its name: train, val, test, or that of the file.
    pub name: String,
    /// The file of its annotations; YOLO's directory.
    pub annotations: PathBuf,
    /// The directory of its images, if any image was found.
    pub image_directory: Option<PathBuf>,
    /// Whether it is a COCO file that could be read to its end; only then can a clean copy be written.
    pub is_whole: bool,
    /// Whether sizes are those of the images and can't be missing from the annotations.
    has_image_sizes: bool,
    images: Entries<RawImage>,
    objects: Entries<RawAnnotation>,
    categories: Entries<RawCategory>,
    /// Of each image, in the order of the file; empty where images were not looked at.
    image_facts: Vec<images::ImageFacts>,
    /// Image ids that became another, because the image was listed twice.
    image_moves: HashMap<u64, u64>,
    /// Category ids that became another, because the class was listed twice.
    category_moves: HashMap<u64, u64>,
}

/// What is checked.
#[derive(Debug, Clone)]
pub enum Source {
    /// A COCO file and its images.
    Coco(SplitFiles),
    /// A split of a directory in YOLO's layout.
    Yolo(YoloDirectory, Split),
}

/// How far a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Bytes of the annotation file, of so many.
    Reading(u64, u64),
    /// Images looked at, of so many.
    Images(u64, u64),
}

/// Checks one split on its own. `name` is how diagnostics call it.
///
/// # Errors
/// The annotations can't be opened, or have more entries than fit. Whatever is wrong inside is a
/// diagnostic, no error.
pub fn check_split(
    name: &str,
    source: &Source,
    options: CheckOptions,
    diagnostics: &mut Diagnostics,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<CheckedSplit, DataError> {
    let mut split = match source {
        Source::Coco(files) => reading::read(name, files, diagnostics, progress)?,
        Source::Yolo(directory, part) => labels::read(name, directory, *part, diagnostics)?,
    };
    lists::check_categories(&mut split, diagnostics);
    lists::check_images(&mut split, diagnostics);
    if let Source::Coco(files) = source {
        let names = split.images.entries.iter();
        let names = names.filter_map(|image| image.file_name.as_deref());
        split.image_directory = files.directory_of(names).map(Path::to_owned);
    }
    if options.images {
        let first_guess = match source {
            Source::Coco(files) => files.image_directories.first(),
            Source::Yolo(..) => None,
        };
        images::check(
            &mut split,
            first_guess.map(PathBuf::as_path),
            diagnostics,
            progress,
        );
    }
    lists::drop_images_without_size(&mut split);
    lists::check_objects(&mut split, diagnostics);
    Ok(split)
}

impl CheckedSplit {
    /// Images of the file, whatever is wrong with them.
    pub fn image_count(&self) -> usize {
        self.images.len()
    }

    /// Annotations of the file, whatever is wrong with them.
    pub fn annotation_count(&self) -> usize {
        self.objects.len()
    }

    /// Categories of the file, whatever is wrong with them.
    pub fn category_count(&self) -> usize {
        self.categories.len()
    }

    /// What is sound, or was repaired: the data that the clean copy holds.
    ///
    /// # Errors
    /// Nothing is left, or what could not be repaired contradicts itself.
    pub fn sound_part(&self) -> Result<AnnotationStore, AnnotationError> {
        let mut builder = AnnotationStoreBuilder::new();
        for (_, category) in self.categories.kept() {
            if let (Some(id), Some(name)) = (category.id, &category.name) {
                builder.add_category(id, name.to_string());
            }
        }
        for (_, image) in self.images.kept() {
            if let (Some(id), Some(name), Some(size)) = (image.id, &image.file_name, image.size()) {
                builder.add_image(id, name, size);
            }
        }
        for (_, object) in self.objects.kept() {
            if let (Some(id), Some(image_id), Some(category_id), Some(xywh)) =
                (object.id, object.image_id, object.category_id, object.xywh)
            {
                builder.add_annotation(NewAnnotation {
                    id,
                    image_id,
                    category_id,
                    xywh: xywh.map(|value| value as f32),
                    area: object.area.map(|area| area as f32),
                    is_crowd: object.is_crowd,
                });
            }
        }
        builder.build()
    }

    /// How diagnostics name an image.
    fn diagnostic_on_image(&self, at: usize, detail: impl Into<String>) -> Diagnostic {
        let image = &self.images.entries[at];
        Diagnostic {
            split: self.name.clone(),
            file: image.file_name.as_deref().map(str::to_owned),
            image_id: image.id,
            annotation_id: None,
            detail: detail.into(),
        }
    }
}
