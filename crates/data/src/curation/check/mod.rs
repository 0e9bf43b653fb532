//! Validation of a dataset before training.
//!
//! A strict read fails at the first error. The checker continues after an error and collects all
//! problems as [`Diagnostics`]: errors, which would make training or evaluation fail or give wrong
//! results, and warnings. What can be corrected without guessing is corrected in memory;
//! [`CheckedSplit::write_fixed`] writes it as a new file.
//!
//! - [`diagnostics`]: the kinds of problems, and the collection of those found.
//! - `reading`: COCO JSON. - `entries`: the other formats.
//! - `lists`: ids, names, boxes. - `images`: image files. - `sizes`: their sizes and EXIF rotations.
//! - `exchanged`: width and height in exchanged order.
//! - `between`: checks across splits.
//! - [`corrections`]: those of a person.
//! - `fixing`: the corrected copy.

mod between;
pub mod corrections;
pub mod diagnostics;
mod entries;
mod exchanged;
mod fixing;
#[cfg(test)]
mod format_tests;
mod images;
mod lists;
mod reading;
mod sizes;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use crate::DataError;
use crate::annotations::coco::{CategoryEntry as RawCategory, ImageEntry as RawImage};
use crate::annotations::format::{DatasetFiles, SplitEntries, SplitFiles};
use crate::annotations::layout::Split;
use crate::annotations::{AnnotationError, AnnotationStore, AnnotationStoreBuilder, NewAnnotation};

use crate::box_conventions::BoxConvention;
use crate::images::decode::image_size;

pub use between::{check_hold_out, compare_splits};
pub use corrections::{Correction, CorrectionError, LabelChange};
pub use diagnostics::{Diagnostic, Diagnostics, Kind, Severity};
pub use fixing::FixSummary;

/// An entry of `annotations`, as far as it could be parsed.
#[derive(Debug, Clone, Default)]
struct RawAnnotation {
    id: Option<u64>,
    image_id: Option<u64>,
    category_id: Option<u64>,
    xywh: Option<[f64; 4]>,
    area: Option<f64>,
    is_crowd: bool,
    /// Whether its outline no longer matches the box and is dropped.
    without_outline: bool,
}

/// The outcome of an entry in the corrected copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Verdict {
    /// Copied byte by byte.
    #[default]
    Keep,
    /// Written with changed fields.
    Change,
    /// Dropped.
    Drop,
}

impl Verdict {
    fn change(&mut self) {
        if *self == Self::Keep {
            *self = Self::Change;
        }
    }
}

/// Entries with the outcome of each.
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

    /// Returns the entry for a change.
    fn change(&mut self, at: usize) -> &mut T {
        self.verdicts[at].change();
        &mut self.entries[at]
    }

    fn is_kept(&self, at: usize) -> bool {
        self.verdicts[at] != Verdict::Drop
    }

    /// Returns the positions and entries that are not dropped.
    fn kept(&self) -> impl Iterator<Item = (usize, &T)> {
        self.entries
            .iter()
            .enumerate()
            .filter(|(at, _)| self.is_kept(*at))
    }
}

/// What keeps a corrected copy from being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// A large share of the boxes does not fit the images and no other order of their numbers explains it, or many images
    /// may have been rotated.
    Misfits,
    /// The boxes are not in the convention of the format, and in which one they are is not certain.
    UnclearBoxes,
    /// The category ids may be one too high or too low.
    ShiftedCategories,
    /// No image can be used.
    NoImages,
    /// No box can be used.
    NoBoxes,
    /// The file cannot be read to its end.
    NotWhole,
}

impl std::fmt::Display for Obstacle {
    /// Completes a sentence that begins with `while`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Misfits => "many boxes do not fit their images",
            Self::UnclearBoxes => "the meaning of the numbers of its boxes is not certain",
            Self::ShiftedCategories => "its category ids seem to be shifted by one",
            Self::NoImages => "none of its images can be used",
            Self::NoBoxes => "none of its boxes can be used",
            Self::NotWhole => "the file cannot be read to its end",
        })
    }
}

/// Options of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckOptions {
    /// Whether every image is decoded.
    pub images: bool,
}

/// A split that was checked and corrected where possible.
#[derive(Debug)]
pub struct CheckedSplit {
    /// The name: train, val, test, or that of the file.
    pub name: String,
    /// The annotation file, or the directory of the annotations.
    pub annotations: PathBuf,
    /// The directory of the images, if any image was found.
    pub image_directory: Option<PathBuf>,
    /// Whether the annotations are a COCO JSON file that could be read to its end; only then a corrected copy
    /// can be written.
    pub is_whole: bool,
    /// What keeps a corrected copy from being written, if anything does: it would lack right annotations, or keep wrong
    /// ones.
    pub obstacle: Option<Obstacle>,
    /// Whether the numbers of the boxes have another meaning than that of the format, and could not be converted.
    is_misread: bool,
    /// What the four numbers of boxes mean in the format of the annotations.
    box_numbers: BoxConvention,
    /// Whether sizes that cannot be read are problems of the images, which are reported as such.
    has_image_sizes: bool,
    /// Ids of the images whose annotations have problems of their own, so that their boxes are not known.
    unread_images: HashSet<u64>,
    images: Entries<RawImage>,
    objects: Entries<RawAnnotation>,
    /// Annotations that the file lacks. They are written after its first one.
    added: Vec<RawAnnotation>,
    categories: Entries<RawCategory>,
    /// Whether the sizes of all images were compared with the images.
    are_sizes_known: bool,
    /// The number of images whose EXIF rotation exchanges width and height, as far as they were looked at.
    turned_images: usize,
    /// The number of images with an EXIF rotation by 90 degrees whose sizes are those of the upright images, if their
    /// boxes are not.
    boxes_ignore_exif: usize,
    /// Facts of each image, in the order of the file; empty if images were not decoded.
    image_facts: Vec<images::ImageFacts>,
    /// Positions of images that cannot be used. They are dropped, with their boxes, after all boxes were
    /// checked.
    lost_images: Vec<usize>,
    /// New ids of images that are listed twice.
    image_moves: HashMap<u64, u64>,
    /// Images that are not used, as a note says.
    left_out: Vec<PathBuf>,
    /// New ids of categories that are listed twice.
    category_moves: HashMap<u64, u64>,
}

/// The progress of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckProgress {
    /// Bytes read of the annotation file, and its size.
    Reading(u64, u64),
    /// Images decoded, and their number.
    Images(u64, u64),
}

/// Checks one split on its own. `name` is its name in diagnostics.
///
/// # Errors
/// The annotations cannot be opened, or have too many entries. Problems in their contents are
/// diagnostics, not errors.
pub fn check_split(
    name: &str,
    files: &SplitFiles,
    options: CheckOptions,
    diagnostics: &mut Diagnostics,
    progress: &(dyn Fn(CheckProgress) + Sync),
) -> Result<CheckedSplit, DataError> {
    let dataset = DatasetFiles::of_split(files.clone());
    let entries = dataset
        .entries(&[files.split])?
        .and_then(|mut entries| entries.pop());
    check_entries(name, files, entries, options, diagnostics, progress)
}

/// Checks some splits of a dataset, each on its own; each annotation file is read once. `progress` also
/// receives the split.
///
/// # Errors
/// As [`check_split`].
pub fn check_dataset(
    dataset: &DatasetFiles,
    splits: &[Split],
    options: CheckOptions,
    diagnostics: &mut Diagnostics,
    progress: &(dyn Fn(Split, CheckProgress) + Sync),
) -> Result<Vec<CheckedSplit>, DataError> {
    let mut entries = dataset.entries(splits)?.map(Vec::into_iter);
    splits
        .iter()
        .map(|&split| {
            let files = dataset.split(split)?;
            let entries = entries.as_mut().and_then(Iterator::next);
            let name = split.to_string();
            let progress = |step| progress(split, step);
            check_entries(&name, files, entries, options, diagnostics, &progress)
        })
        .collect()
}

fn check_entries(
    name: &str,
    files: &SplitFiles,
    entries: Option<SplitEntries>,
    options: CheckOptions,
    diagnostics: &mut Diagnostics,
    progress: &(dyn Fn(CheckProgress) + Sync),
) -> Result<CheckedSplit, DataError> {
    let mut split = match entries {
        None => {
            let mut split = reading::read(name, files, diagnostics, progress)?;
            split.locate_images(files, diagnostics)?;
            split
        }
        Some(entries) => entries::read(name, files, entries, diagnostics),
    };
    lists::check_categories(&mut split, diagnostics);
    lists::check_images(&mut split, diagnostics);
    if options.images {
        images::check(&mut split, files, diagnostics, progress);
    } else {
        sizes::check_headers(&mut split, diagnostics);
    }
    lists::drop_images_without_size(&mut split);
    lists::check_objects(&mut split, diagnostics);
    images::check_copies(&split, diagnostics);
    if files.split != Split::Test && !split.is_cut_off() {
        lists::check_any_box(&split, files.split == Split::Train, diagnostics);
    }
    images::drop_lost(&mut split);
    if split.images.len() > 0 && split.images.kept().next().is_none() {
        split.obstacle.get_or_insert(Obstacle::NoImages);
    }
    if split.objects.len() > 0 && split.objects.kept().next().is_none() {
        split.obstacle.get_or_insert(Obstacle::NoBoxes);
    }
    Ok(split)
}

impl CheckedSplit {
    /// Returns whether entries may be missing, because the annotations could not be read to their end.
    fn is_cut_off(&self) -> bool {
        self.obstacle == Some(Obstacle::NotWhole)
    }

    /// Returns the number of images in the annotations, with or without problems.
    pub fn image_count(&self) -> usize {
        self.images.len()
    }

    /// Returns the number of annotations, with or without problems.
    pub fn annotation_count(&self) -> usize {
        self.objects.len()
    }

    /// Returns the number of categories, with or without problems.
    pub fn category_count(&self) -> usize {
        self.categories.len()
    }

    /// Builds the store of the valid and corrected entries: the content of the corrected copy.
    ///
    /// # Errors
    /// No entry is left, or entries that could not be corrected contradict each other.
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
        let first = self.objects.kept().take_while(|(at, _)| *at == 0);
        let others = self.objects.kept().skip_while(|(at, _)| *at == 0);
        let kept = |(_, object)| object;
        let objects = first.map(kept).chain(&self.added).chain(others.map(kept));
        for object in objects {
            if let (Some(id), Some(image_id), Some(category_id), Some(xywh)) =
                (object.id, object.image_id, object.category_id, object.xywh)
            {
                builder.add_exact_annotation(NewAnnotation {
                    id,
                    image_id,
                    category_id,
                    xywh,
                    area: object.area,
                    is_crowd: object.is_crowd,
                });
            }
        }
        builder.build()
    }

    /// Finds the images as a strict read does, and fills in sizes that the annotations lack.
    fn locate_images(
        &mut self,
        files: &SplitFiles,
        diagnostics: &mut Diagnostics,
    ) -> Result<(), DataError> {
        let entries = self.images.entries.iter().enumerate();
        let (positions, names): (Vec<usize>, Vec<Box<str>>) = entries
            .filter_map(|(at, image)| Some((at, image.file_name.clone()?)))
            .unzip();
        let Some(found) = files.find_images(&names)? else {
            // Each image is reported, with the name of its file.
            return Ok(());
        };
        let directory = found.directory;
        let read = found.matched.names.into_iter().zip(&names);
        for (at, (name, written)) in positions.iter().zip(read) {
            if name != **written {
                self.images.change(*at).file_name = Some(name.into());
            }
        }
        let names = found.notes.into_iter();
        let names = names.map(|detail| (Kind::ImageNamesRead, detail));
        let others = found.other_images.into_iter();
        let others = others.map(|detail| (Kind::FoundElsewhere, detail));
        for (kind, detail) in names.chain(others) {
            let file = Some(self.annotations.display().to_string());
            diagnostics.add(kind, self.diagnostic(file, None, None, detail));
        }
        for (at, error) in found.matched.ambiguous {
            self.report_ambiguous(positions[at], &error, diagnostics);
        }
        for at in 0..self.images.len() {
            let image = &self.images.entries[at];
            let (None, Some(name)) = (image.size(), &image.file_name) else {
                continue;
            };
            // An unreadable image is reported when it is decoded.
            if let Ok(size) = image_size(&directory.join(&**name)) {
                let detail = format!("{size} in the file");
                diagnostics.add(Kind::SizeFromImage, self.diagnostic_on_image(at, detail));
                let image = self.images.change(at);
                image.width = Some(size.width as u64);
                image.height = Some(size.height as u64);
            }
        }
        self.image_directory = Some(directory);
        Ok(())
    }

    /// Reports an image whose name several files fit; it cannot be used.
    fn report_ambiguous(&mut self, at: usize, error: &DataError, diagnostics: &mut Diagnostics) {
        let detail = match error {
            DataError::SeveralFiles { found, .. } => {
                format!("{found} differ from it in capitals only")
            }
            error => error.to_string(),
        };
        diagnostics.add(Kind::ImageAmbiguous, self.diagnostic_on_image(at, detail));
        self.lost_images.push(at);
    }

    /// Returns a diagnostic about an image.
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
