//! The clean copy of an annotation file.

use std::fs::File;
use std::io;
use std::path::Path;

use serde_json::{Map, Value};

use crate::DataError;
use crate::annotations::coco::List;
use crate::annotations::coco_copy::{Copied, copy_coco};
use crate::annotations::json_guard::{GuardedJson, NotFinite};
use crate::atomic::write_atomically;
use crate::curation::check::{CheckedSplit, RawAnnotation, RawCategory, RawImage, Verdict};

/// What a clean copy holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct FixSummary {
    /// Images that stayed.
    pub images: usize,
    /// Images left out.
    pub images_dropped: usize,
    /// Images whose entry was written anew.
    pub images_changed: usize,
    /// Annotations that stayed.
    pub annotations: usize,
    /// Annotations left out.
    pub annotations_dropped: usize,
    /// Annotations whose entry was written anew.
    pub annotations_changed: usize,
    /// Categories left out.
    pub categories_dropped: usize,
}

impl CheckedSplit {
    /// Writes the annotations without what is wrong with them. Entries that are sound stay byte by
    /// byte, with all their fields; so does everything that is in no list.
    ///
    /// # Errors
    /// The file exists already (the annotations themselves do), can't be written, or the annotations
    /// could not be read to their end.
    pub fn write_fixed(&self, path: &Path) -> Result<FixSummary, DataError> {
        let refused = |problem: &str| {
            let error = io::Error::new(io::ErrorKind::AlreadyExists, problem);
            Err(DataError::io(path, error))
        };
        if path.symlink_metadata().is_ok() {
            return refused("it is there already and nothing is overwritten; give another name");
        }
        if !self.is_whole {
            let problem = "can't be read to its end, so there is no clean copy of it";
            let error = io::Error::new(io::ErrorKind::InvalidData, problem);
            return Err(DataError::io(&self.annotations, error));
        }
        let input = File::open(&self.annotations)
            .map_err(|source| DataError::io(&self.annotations, source))?;
        let input = GuardedJson::new(input, NotFinite::AsNull);
        write_atomically(path, |out| {
            copy_coco(input, out, &mut |list, at, entry| {
                self.copied(list, at, entry)
            })
        })
        .map_err(|source| DataError::io(path, source))?;
        Ok(self.summary())
    }

    /// What [`Self::write_fixed`] leaves out and changes.
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
            annotations: objects.len() - objects_dropped,
            annotations_dropped: objects_dropped,
            annotations_changed: count(objects, Verdict::Change),
            categories_dropped: count(&self.categories.verdicts, Verdict::Drop),
        }
    }

    fn copied(&self, list: List, at: usize, entry: &[u8]) -> io::Result<Copied> {
        let changed_meanwhile = || {
            let message = "the annotations have changed since they were read; start again";
            io::Error::new(io::ErrorKind::InvalidData, message)
        };
        let verdicts = match list {
            List::Images => &self.images.verdicts,
            List::Annotations => &self.objects.verdicts,
            List::Categories => &self.categories.verdicts,
        };
        match verdicts.get(at).ok_or_else(changed_meanwhile)? {
            Verdict::Keep => Ok(Copied::Keep),
            Verdict::Drop => Ok(Copied::Drop),
            Verdict::Change => {
                let mut fields: Map<String, Value> =
                    serde_json::from_slice(entry).map_err(|_| changed_meanwhile())?;
                match list {
                    List::Images => write_image(&self.images.entries[at], &mut fields),
                    List::Annotations => write_object(&self.objects.entries[at], &mut fields),
                    List::Categories => write_category(&self.categories.entries[at], &mut fields),
                }
                Ok(Copied::Replace(serde_json::to_vec(&fields)?))
            }
        }
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
    if object.without_outline {
        fields.remove("segmentation");
    }
}

fn write_category(category: &RawCategory, fields: &mut Map<String, Value>) {
    set(fields, "id", category.id);
    set(fields, "name", category.name.as_deref());
}

/// Without the last digits that subtracting leaves: `38.65` instead of `38.650000000000034`.
fn tidy(value: f64) -> f64 {
    const DIGITS: f64 = 1e6;
    (value * DIGITS).round() / DIGITS
}
