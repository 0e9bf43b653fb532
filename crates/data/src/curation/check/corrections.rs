//! Corrections of labels by a person, which the corrected copy contains.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::{CheckedSplit, RawAnnotation};

/// A correction of the labels of an image. Ids are those of the annotation file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Correction {
    /// The image.
    pub image_id: u64,
    /// What is corrected.
    pub change: LabelChange,
}

/// What a [`Correction`] changes. Boxes are `[x, y, width, height]` in pixels of the image.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelChange {
    /// The object has another class.
    Class {
        /// The annotation of the object.
        annotation_id: u64,
        /// The right class.
        category_id: u64,
    },
    /// The object is at another place. Its outline is dropped, and its area becomes that of the box.
    Place {
        /// The annotation of the object.
        annotation_id: u64,
        /// The right box.
        xywh: [f64; 4],
    },
    /// There is no such object.
    Remove {
        /// The annotation.
        annotation_id: u64,
    },
    /// An object is not annotated.
    Add {
        /// Its class.
        category_id: u64,
        /// Its box.
        xywh: [f64; 4],
    },
}

impl LabelChange {
    /// Returns the annotation that is changed; `None` for a new one.
    pub fn annotation_id(&self) -> Option<u64> {
        match *self {
            Self::Class { annotation_id, .. }
            | Self::Place { annotation_id, .. }
            | Self::Remove { annotation_id } => Some(annotation_id),
            Self::Add { .. } => None,
        }
    }

    fn category_id(&self) -> Option<u64> {
        match *self {
            Self::Class { category_id, .. } | Self::Add { category_id, .. } => Some(category_id),
            Self::Place { .. } | Self::Remove { .. } => None,
        }
    }

    fn xywh(&self) -> Option<[f64; 4]> {
        match *self {
            Self::Place { xywh, .. } | Self::Add { xywh, .. } => Some(xywh),
            Self::Class { .. } | Self::Remove { .. } => None,
        }
    }
}

/// A correction that the annotations have no place for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CorrectionError {
    /// The image is not in the annotations, or cannot be used.
    #[error("there is no image {0} to correct")]
    NoImage(u64),
    /// The annotation is not that of an object in the image, or cannot be used.
    #[error("there is no annotation {annotation} in image {image} to correct")]
    NoAnnotation {
        /// The annotation.
        annotation: u64,
        /// The image.
        image: u64,
    },
    /// The class is not in the annotations.
    #[error("there is no category {0} to correct a label with")]
    NoCategory(u64),
    /// A box has no area inside of its image.
    #[error("the corrected box {xywh} is not inside of image {image}")]
    NoArea {
        /// The box.
        xywh: String,
        /// The image.
        image: u64,
    },
    /// New annotations are written beside the others, and there are none.
    #[error("the annotation file has no annotations, so none can be added")]
    NoAnnotations,
    /// All ids up to the largest number are taken.
    #[error("no annotation id is free")]
    NoId,
}

impl CheckedSplit {
    /// Adds corrections to those of the check, in their order; boxes are clipped to their images. New annotations get ids
    /// above all others.
    ///
    /// # Errors
    /// See [`CorrectionError`]; nothing is corrected then.
    pub fn correct(&mut self, corrections: &[Correction]) -> Result<(), CorrectionError> {
        let images = self.images.kept().filter_map(|(_, image)| {
            let size = image.size()?;
            Some((image.id?, size))
        });
        let images: HashMap<u64, _> = images.collect();
        let objects = self.objects.kept().filter_map(|(at, object)| {
            let place = (object.id?, object.image_id?);
            Some((place, at))
        });
        let objects: HashMap<(u64, u64), usize> = objects.collect();
        let categories = self.categories.kept().filter_map(|(_, known)| known.id);
        let categories: HashSet<u64> = categories.collect();
        let mut planned = Vec::with_capacity(corrections.len());
        for Correction { image_id, change } in corrections {
            let size = images.get(image_id);
            let size = *size.ok_or(CorrectionError::NoImage(*image_id))?;
            if let Some(id) = change.category_id().filter(|id| !categories.contains(id)) {
                return Err(CorrectionError::NoCategory(id));
            }
            let at = match change.annotation_id() {
                None => None,
                Some(annotation) => {
                    let at = objects.get(&(annotation, *image_id));
                    Some(*at.ok_or(CorrectionError::NoAnnotation {
                        annotation,
                        image: *image_id,
                    })?)
                }
            };
            let xywh = match change.xywh() {
                None => None,
                Some(xywh) => Some(clipped(xywh, [size.width, size.height]).ok_or_else(|| {
                    CorrectionError::NoArea {
                        xywh: format!("{xywh:?}"),
                        image: *image_id,
                    }
                })?),
            };
            planned.push((*image_id, change, at, xywh));
        }
        let adds = planned.iter().any(|(_, _, at, _)| at.is_none());
        if adds && self.objects.len() == 0 {
            return Err(CorrectionError::NoAnnotations);
        }
        let ids = self.objects.entries.iter().filter_map(|object| object.id);
        let mut last_id = ids.max().unwrap_or_default();
        let mut added = Vec::new();
        for (image_id, change, at, xywh) in planned {
            match (at, change) {
                (Some(at), LabelChange::Remove { .. }) => self.objects.drop(at),
                (Some(at), _) => {
                    let object = self.objects.change(at);
                    if let Some(category_id) = change.category_id() {
                        object.category_id = Some(category_id);
                    }
                    if let Some(xywh) = xywh {
                        (object.xywh, object.area) = (Some(xywh), Some(xywh[2] * xywh[3]));
                        object.without_outline = true;
                    }
                }
                (None, _) => {
                    last_id = last_id.checked_add(1).ok_or(CorrectionError::NoId)?;
                    added.push(RawAnnotation {
                        id: Some(last_id),
                        image_id: Some(image_id),
                        category_id: change.category_id(),
                        xywh,
                        area: xywh.map(|[_, _, width, height]| width * height),
                        ..RawAnnotation::default()
                    });
                }
            }
        }
        self.added.extend(added);
        Ok(())
    }
}

/// Returns the part of a box inside of an image of this width and height; `None` if it has no area.
fn clipped([x, y, width, height]: [f64; 4], size: [usize; 2]) -> Option<[f64; 4]> {
    let [right, bottom] = [x + width, y + height];
    let [x1, x2] = [x, right].map(|x| x.clamp(0.0, size[0] as f64));
    let [y1, y2] = [y, bottom].map(|y| y.clamp(0.0, size[1] as f64));
    // Unchanged numbers stay exact.
    let length = |whole: f64, from: f64, to: f64, ends: [f64; 2]| {
        if ends == [from, to] { whole } else { to - from }
    };
    let width = length(width, x1, x2, [x, right]);
    let height = length(height, y1, y2, [y, bottom]);
    (width > 0.0 && height > 0.0).then_some([x1, y1, width, height])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::coco::read_coco;
    use crate::annotations::coco_directory::CocoFormat;
    use crate::annotations::format::SplitFiles;
    use crate::curation::check::{CheckOptions, Diagnostics, check_split};
    use serde_json::{Value, json};
    use std::path::Path;

    fn object(id: u64, image_id: u64, bbox: [f64; 4]) -> Value {
        json!({
            "id": id, "image_id": image_id, "category_id": 3, "bbox": bbox, "area": bbox[2] * bbox[3],
            "iscrowd": 0, "segmentation": [[bbox[0], bbox[1], 1.5]], "note": "kept",
        })
    }

    /// Two images with three "round" objects, and the class "flat".
    fn document() -> Value {
        json!({
            "info": {"by": "hand"},
            "images": [
                {"id": 11, "file_name": "a.png", "width": 96, "height": 64, "license": 4},
                {"id": 12, "file_name": "b.png", "width": 96, "height": 64},
            ],
            "annotations": [
                object(7, 11, [1.5, 2.0, 10.0, 10.0]),
                object(8, 11, [20.0, 2.0, 10.0, 10.0]),
                object(9, 12, [40.0, 2.0, 10.0, 10.0]),
            ],
            "categories": [{"id": 3, "name": "round"}, {"id": 5, "name": "flat"}],
        })
    }

    fn checked(directory: &Path, document: &Value) -> CheckedSplit {
        for name in ["a.png", "b.png"] {
            let image = image::RgbImage::new(96, 64);
            image.save(directory.join(name)).unwrap();
        }
        let path = directory.join("val.json");
        std::fs::write(&path, document.to_string()).unwrap();
        let files = SplitFiles::of_file(&CocoFormat, &path, None);
        let options = CheckOptions { images: false };
        check_split("val", &files, options, &mut Diagnostics::default(), &|_| {}).unwrap()
    }

    fn of(image_id: u64, change: LabelChange) -> Correction {
        Correction { image_id, change }
    }

    const ADD: LabelChange = LabelChange::Add {
        category_id: 5,
        xywh: [50.25, 40.0, 100.0, 10.0],
    };

    #[test]
    fn corrections_of_every_kind_are_written_and_other_entries_kept() {
        let directory = tempfile::tempdir().unwrap();
        let mut split = checked(directory.path(), &document());
        let corrections = [
            of(
                11,
                LabelChange::Class {
                    annotation_id: 8,
                    category_id: 5,
                },
            ),
            of(11, LabelChange::Remove { annotation_id: 7 }),
            of(
                12,
                LabelChange::Place {
                    annotation_id: 9,
                    xywh: [42.5, -3.0, 8.0, 13.0],
                },
            ),
            of(12, ADD),
        ];
        split.correct(&corrections).unwrap();
        let path = directory.path().join("corrected_val.json");
        let summary = split.write_fixed(&path).unwrap();
        assert_eq!((summary.annotations, summary.annotations_dropped), (3, 1));
        assert_eq!(
            (summary.annotations_changed, summary.images_changed),
            (2, 0)
        );
        let written: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let mut expected = document();
        let mut changed_class = object(8, 11, [20.0, 2.0, 10.0, 10.0]);
        changed_class["category_id"] = json!(5);
        let mut moved = object(9, 12, [42.5, 0.0, 8.0, 10.0]);
        moved.as_object_mut().unwrap().remove("segmentation");
        let added = json!({
            "id": 10, "image_id": 12, "category_id": 5, "bbox": [50.25, 40.0, 45.75, 10.0], "area": 457.5,
            "iscrowd": 0,
        });
        expected["annotations"] = json!([added, changed_class, moved]);
        assert_eq!(written, expected);
        let store = read_coco(&path).unwrap();
        let in_second: Vec<(u64, usize)> = store.annotations(1).map(|a| (a.id, a.class)).collect();
        assert_eq!(in_second, [(10, 1), (9, 0)]);
        // Nothing is overwritten.
        let again = split.write_fixed(&path).unwrap_err().to_string();
        assert!(again.contains("already exists"), "{again}");
    }

    #[test]
    fn an_object_is_added_beside_the_first_annotation_whatever_its_outcome() {
        let directory = tempfile::tempdir().unwrap();
        let removed = of(11, LabelChange::Remove { annotation_id: 7 });
        let moved = LabelChange::Place {
            annotation_id: 7,
            xywh: [3.0, 3.0, 4.0, 4.0],
        };
        let cases = [(None, 4), (Some(removed), 3), (Some(of(11, moved)), 4)];
        for (at, (first, annotations)) in cases.into_iter().enumerate() {
            let mut split = checked(directory.path(), &document());
            let corrections: Vec<Correction> = first.into_iter().chain([of(11, ADD)]).collect();
            split.correct(&corrections).unwrap();
            let path = directory.path().join(format!("corrected-{at}.json"));
            let summary = split.write_fixed(&path).unwrap();
            assert_eq!(summary.annotations, annotations);
            let store = read_coco(&path).unwrap();
            assert_eq!(store.annotation_count(), annotations);
            assert!(store.annotations(0).any(|added| added.id == 10));
        }
    }

    #[test]
    fn corrections_without_their_image_object_or_class_change_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut split = checked(directory.path(), &document());
        let place = |annotation_id, xywh| LabelChange::Place {
            annotation_id,
            xywh,
        };
        let class = |annotation_id, category_id| LabelChange::Class {
            annotation_id,
            category_id,
        };
        let cases = [
            (of(13, ADD), CorrectionError::NoImage(13)),
            (
                of(12, LabelChange::Remove { annotation_id: 7 }),
                CorrectionError::NoAnnotation {
                    annotation: 7,
                    image: 12,
                },
            ),
            (of(11, class(7, 4)), CorrectionError::NoCategory(4)),
            (
                of(11, place(7, [96.0, 0.0, 5.0, 5.0])),
                CorrectionError::NoArea {
                    xywh: "[96.0, 0.0, 5.0, 5.0]".into(),
                    image: 11,
                },
            ),
        ];
        let right = of(11, class(7, 5));
        for (correction, expected) in cases {
            let error = split.correct(&[right.clone(), correction]).unwrap_err();
            assert_eq!(error, expected);
        }
        let nan = of(11, place(7, [f64::NAN, 0.0, 5.0, 5.0]));
        assert!(split.correct(&[nan]).is_err());
        assert_eq!(split.summary().annotations_changed, 0);
        let mut empty = document();
        empty["annotations"] = json!([]);
        let mut split = checked(directory.path(), &empty);
        let error = split.correct(&[of(11, ADD)]).unwrap_err();
        assert_eq!(error, CorrectionError::NoAnnotations);
    }
}
