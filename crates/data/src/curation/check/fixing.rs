//! The corrected copy of an annotation file.

use std::fs::File;
use std::io;
use std::path::Path;

use serde_json::{Map, Value};

use crate::annotations::box_convention::BoxFit;
use crate::annotations::coco::copy::{Copied, copy_coco};
use crate::annotations::coco::entry::ATTRIBUTES;
use crate::annotations::coco::{List, read_coco};
use crate::annotations::coco_directory::CocoFormat;
use crate::annotations::format::SplitFiles;
use crate::annotations::store::BoxNumbers;
use crate::annotations::{AnnotatedImage, AnnotationStore};
use crate::atomic::write_atomically;
use crate::box_conventions::BoxConvention;
use crate::curation::check::{CheckedSplit, RawAnnotation, RawCategory, RawImage, Verdict};
use crate::curation::image_names::{joined, paths_to};
use crate::{ChangedMeanwhile, DataError};

/// The contents of a corrected copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct FixSummary {
    /// Images in the copy.
    pub images: usize,
    /// Images that were dropped.
    pub images_dropped: usize,
    /// Images in the copy whose entry was changed.
    pub images_changed: usize,
    /// Annotations in the copy.
    pub annotations: usize,
    /// Annotations that were dropped.
    pub annotations_dropped: usize,
    /// Annotations in the copy whose entry was changed.
    pub annotations_changed: usize,
    /// Categories that were dropped.
    pub categories_dropped: usize,
    /// Whether the image names were changed to lead from the copy to the images.
    pub names_changed: bool,
}

impl CheckedSplit {
    /// Writes a corrected copy of the annotations. Correct entries are copied byte by byte with all
    /// their fields, and so is everything outside of the three lists. Where the images would not be found from
    /// the copy by their names, these become relative to the copy, or else absolute.
    ///
    /// # Errors
    /// The file exists already (nothing is overwritten), can't be written, is not read back as it should be, the
    /// annotations could not be read to their end, or there is an [obstacle](Self::obstacle).
    pub fn write_fixed(&self, path: &Path) -> Result<FixSummary, DataError> {
        let refused = |problem: &str| {
            let error = io::Error::new(io::ErrorKind::AlreadyExists, problem);
            Err(DataError::io(path, error))
        };
        if path.symlink_metadata().is_ok() {
            return refused("already exists and is not overwritten");
        }
        if !self.is_whole {
            let problem = "cannot be read to its end, so it cannot be corrected";
            let error = io::Error::new(io::ErrorKind::InvalidData, problem);
            return Err(DataError::io(&self.annotations, error));
        }
        if let Some(obstacle) = self.obstacle {
            let problem = format!("cannot be corrected while {obstacle}");
            let error = io::Error::new(io::ErrorKind::InvalidData, problem);
            return Err(DataError::io(&self.annotations, error));
        }
        let input = File::open(&self.annotations)
            .map_err(|source| DataError::io(&self.annotations, source))?;
        let names = self.names_from(path);
        write_atomically(path, |out| {
            copy_coco(input, out, &mut |entry, position, bytes| {
                self.copied(entry.list(), position, bytes, names.prefix.as_deref())
            })
        })
        .map_err(|source| DataError::io(path, source))?;
        // What remains for the user makes a strict read fail; only the rest can be compared.
        if let Ok(expected) = self.sound_part()
            && BoxFit::of(&expected, BoxConvention::SIZES)
                .check(path)
                .is_ok()
            && let Some(difference) = names.difference(&expected, path)?
        {
            // The comparison is the error to report; the copy is of no use.
            let _ = std::fs::remove_file(path);
            let problem = format!("{difference} after reading what was written; nothing is kept");
            let error = io::Error::new(io::ErrorKind::InvalidData, problem);
            return Err(DataError::io(path, error));
        }
        Ok(FixSummary {
            names_changed: names.prefix.is_some(),
            ..self.summary()
        })
    }

    /// Determines the names by which the images are found from a copy at `path`.
    fn names_from(&self, path: &Path) -> NamesFrom {
        let Some(images) = &self.image_directory else {
            return NamesFrom::default();
        };
        let names = self.images.kept();
        let names: Vec<&str> = names
            .filter_map(|(_, image)| image.file_name.as_deref())
            .collect();
        let others = paths_to(path.parent().unwrap_or(Path::new("")), images);
        let prefixes = std::iter::once(None).chain(others.into_iter().map(Some));
        for prefix in prefixes {
            let is_found = true;
            let from = NamesFrom { prefix, is_found };
            if from.lead_to(path, images, &names) {
                return from;
            }
        }
        NamesFrom::default()
    }

    /// Returns what [`Self::write_fixed`] drops and changes.
    pub fn summary(&self) -> FixSummary {
        let count = |verdicts: &[Verdict], verdict| {
            verdicts.iter().filter(|found| **found == verdict).count()
        };
        let (images, objects) = (&self.images.verdicts, &self.objects.verdicts);
        let (images_dropped, objects_dropped) =
            (count(images, Verdict::Drop), count(objects, Verdict::Drop));
        FixSummary {
            images: images.len() - images_dropped,
            images_dropped,
            images_changed: count(images, Verdict::Change),
            annotations: objects.len() - objects_dropped + self.added.len(),
            annotations_dropped: objects_dropped,
            annotations_changed: count(objects, Verdict::Change),
            categories_dropped: count(&self.categories.verdicts, Verdict::Drop),
            names_changed: false,
        }
    }

    /// Returns the outcome of an entry, with annotations that are added after the first one; `prefix` is that of image
    /// names.
    fn copied(
        &self,
        list: List,
        at: usize,
        bytes: &[u8],
        prefix: Option<&str>,
    ) -> io::Result<Copied> {
        let outcome = self.corrected(list, at, bytes, prefix)?;
        if list != List::Annotations || at != 0 || self.added.is_empty() {
            return Ok(outcome);
        }
        let mut entries = match outcome {
            Copied::Keep => vec![bytes.to_vec()],
            Copied::Drop => Vec::new(),
            Copied::Replace(bytes) => vec![bytes],
        };
        for object in &self.added {
            let mut fields = Map::new();
            write_object(object, &mut fields);
            entries.push(serde_json::to_vec(&fields)?);
        }
        Ok(Copied::Replace(entries.join(&b',')))
    }

    fn corrected(
        &self,
        list: List,
        at: usize,
        bytes: &[u8],
        prefix: Option<&str>,
    ) -> io::Result<Copied> {
        let verdicts = match list {
            List::Images => &self.images.verdicts,
            List::Annotations => &self.objects.verdicts,
            List::Categories => &self.categories.verdicts,
        };
        let prefix = prefix.filter(|_| list == List::Images);
        match verdicts.get(at).ok_or(ChangedMeanwhile)? {
            Verdict::Drop => Ok(Copied::Drop),
            Verdict::Keep if prefix.is_none() => Ok(Copied::Keep),
            verdict => {
                let mut fields: Map<String, Value> =
                    serde_json::from_slice(bytes).map_err(|_| ChangedMeanwhile)?;
                match list {
                    _ if *verdict == Verdict::Keep => {}
                    List::Images => write_image(&self.images.entries[at], &mut fields),
                    List::Annotations => write_object(&self.objects.entries[at], &mut fields),
                    List::Categories => write_category(&self.categories.entries[at], &mut fields),
                }
                if let Some(prefix) = prefix
                    && let Some(name) = &self.images.entries[at].file_name
                {
                    let name = joined(prefix, name);
                    fields.insert("file_name".to_owned(), name.into());
                }
                Ok(Copied::Replace(serde_json::to_vec(&fields)?))
            }
        }
    }
}

/// The names by which images are found from a copy.
#[derive(Debug, Default)]
struct NamesFrom {
    /// The path before each name; None if the names are as in the original.
    prefix: Option<String>,
    /// Whether the images are found from the copy at all.
    is_found: bool,
}

impl NamesFrom {
    fn name(&self, name: &str) -> String {
        match &self.prefix {
            None => name.to_owned(),
            Some(prefix) => joined(prefix, name),
        }
    }

    /// Returns whether the reader finds the same images from a file at `path` by these names; `names` are relative to
    /// `images`.
    fn lead_to(&self, path: &Path, images: &Path, names: &[&str]) -> bool {
        let read: Vec<String> = names.iter().map(|name| self.name(name)).collect();
        let files = SplitFiles::of_file(&CocoFormat, path, None);
        let Ok(Some(found)) = files.find_images(&read) else {
            return false;
        };
        let mut pairs = names.iter().zip(&found.matched.names);
        found.matched.names == read
            && pairs.all(|(name, read)| {
                // What is missing is missing from anywhere.
                let original = images.join(name).canonicalize().ok();
                original.is_none_or(|original| {
                    let found = found.directory.join(read).canonicalize();
                    found.is_ok_and(|found| found == original)
                })
            })
    }

    /// Returns how a written copy differs from what should be in it.
    fn difference(
        &self,
        expected: &AnnotationStore,
        path: &Path,
    ) -> Result<Option<String>, DataError> {
        /// Tolerance of box coordinates in pixels: numbers are rounded.
        const TOLERANCE: f64 = 1e-3;
        let read = if self.is_found {
            // As training reads it.
            SplitFiles::of_file(&CocoFormat, path, None)
                .read()
                .map(|read| read.store)
        } else {
            read_coco(path)
        };
        let found = match read {
            Ok(found) => found,
            Err(error @ DataError::Io { .. }) => return Err(error),
            Err(error) => return Ok(Some(error.to_string())),
        };
        if found.categories() != expected.categories() {
            return Ok(Some("other categories".to_owned()));
        }
        if found.image_count() != expected.image_count() {
            return Ok(Some(crate::text::count(found.image_count(), "image")));
        }
        for index in 0..expected.image_count() {
            let image = expected.image(index);
            let name = self.name(image.file_name);
            let expected_image = AnnotatedImage {
                file_name: &name,
                ..image
            };
            let is_same_image = found.image(index) == expected_image;
            let mut pairs = found.numbers(index).zip(expected.numbers(index));
            let is_same_box = |(a, b): (BoxNumbers, BoxNumbers)| {
                let ((a, _), (b, _)) = (a.as_f64(), b.as_f64());
                a.iter().zip(b).all(|(a, b)| (a - b).abs() <= TOLERANCE)
            };
            let classes = |store: &AnnotationStore| -> Vec<(u64, usize)> {
                let objects = store.annotations(index);
                objects.map(|object| (object.id, object.class)).collect()
            };
            let is_same = is_same_image && classes(&found) == classes(expected);
            if !is_same || !pairs.all(is_same_box) {
                return Ok(Some(format!("{} differs", image.file_name)));
            }
        }
        Ok(None)
    }
}

fn set(fields: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        fields.insert(name.to_owned(), value.into());
    }
}

fn write_image(image: &RawImage, fields: &mut Map<String, Value>) {
    set(fields, "id", image.id);
    set(fields, "file_name", image.file_name.as_deref());
    set(fields, "width", image.width);
    set(fields, "height", image.height);
}

fn write_object(object: &RawAnnotation, fields: &mut Map<String, Value>) {
    set(fields, "id", object.id);
    set(fields, "image_id", object.image_id);
    set(fields, "category_id", object.category_id);
    let bbox = object.xywh.map(|xywh| xywh.map(tidy).map(Value::from));
    set(fields, "bbox", bbox.map(|bbox| bbox.to_vec()));
    set(fields, "area", object.area.map(tidy));
    set(fields, "iscrowd", Some(u8::from(object.is_crowd)));
    // The box is the upright one around a rotated box.
    if let Some(Value::Object(attributes)) = fields.get_mut(ATTRIBUTES) {
        attributes.remove("rotation");
    }
    if object.without_outline {
        fields.remove("segmentation");
    }
}

fn write_category(category: &RawCategory, fields: &mut Map<String, Value>) {
    set(fields, "id", category.id);
    set(fields, "name", category.name.as_deref());
}

/// Rounds off the digits that a subtraction leaves: `38.65` instead of `38.650000000000034`.
fn tidy(value: f64) -> f64 {
    const DIGITS: f64 = 1e6;
    (value * DIGITS).round() / DIGITS
}
