//! The annotations a detector is measured against.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde::Deserialize;

use super::error::EvalError;
use super::json::{Limited, read_json};
use crate::annotations::AnnotationStore;
use crate::annotations::lenient::{Flag, Id};

/// One image of the ground truth.
#[derive(Debug, Clone, PartialEq)]
pub struct GtImage {
    /// The dataset's own id.
    pub id: u64,
    /// As written in the dataset; empty when it gives none.
    pub file_name: String,
    /// Pixels from left to right; 0 when unknown (the metrics do not need it).
    pub width: u32,
    /// Pixels from top to bottom; 0 when unknown.
    pub height: u32,
}

/// One class of objects.
#[derive(Debug, Clone, PartialEq)]
pub struct GtCategory {
    /// The dataset's own id (COCO's have gaps: 1 to 90 for 80 classes).
    pub id: u64,
    /// The name shown to people.
    pub name: String,
}

/// One annotated object.
#[derive(Debug, Clone, PartialEq)]
pub struct GtAnnotation {
    /// The dataset's own id. Only named in messages: the metrics do not depend on it.
    pub id: u64,
    /// The image it is in.
    pub image_id: u64,
    /// Its class.
    pub category_id: u64,
    /// `[x, y, width, height]` in pixels of the image.
    pub bbox: [f64; 4],
    /// Pixels: the mask's area where there is a mask, else the box's. Decides small, medium, large.
    pub area: f64,
    /// A group of objects: detections inside it count neither for nor against.
    pub iscrowd: bool,
}

/// Images, classes and objects, checked: ids are unique and every object has its image and class.
#[derive(Debug, Clone)]
pub struct GroundTruth {
    images: Vec<GtImage>,
    categories: Vec<GtCategory>,
    annotations: Vec<GtAnnotation>,
    image_positions: HashMap<u64, usize>,
    category_positions: HashMap<u64, usize>,
    warnings: Vec<String>,
}

impl GroundTruth {
    /// From lists, in the dataset's order (the order decides ties between objects, as in
    /// pycocotools).
    ///
    /// Objects whose image or class is not listed are left out with a warning, as pycocotools
    /// leaves them out silently. Annotation ids may repeat or be 0: objects are told apart by
    /// position. (pycocotools counts a match with an object of id 0 as a false positive, and of
    /// objects with one id it sees only the last; such ids are named in a warning.)
    ///
    /// # Errors
    /// No image; no category; an image or category id given twice with different contents; a box
    /// or area that is not finite.
    pub fn new(
        images: Vec<GtImage>,
        categories: Vec<GtCategory>,
        annotations: Vec<GtAnnotation>,
    ) -> Result<Self, EvalError> {
        let images = unique(images, "image", |image| image.id)?;
        let mut categories = unique(categories, "category", |category| category.id)?;
        if images.is_empty() {
            return Err(EvalError::GroundTruth("it lists no images".into()));
        }
        if categories.is_empty() {
            return Err(EvalError::GroundTruth("it lists no categories".into()));
        }
        categories.sort_by_key(|category| category.id);
        for annotation in &annotations {
            let finite = annotation.bbox.iter().all(|v| v.is_finite());
            if !finite || !annotation.area.is_finite() {
                return Err(EvalError::GroundTruth(format!(
                    "annotation {} on image {} has bbox {:?} and area {}, which must be finite",
                    annotation.id, annotation.image_id, annotation.bbox, annotation.area
                )));
            }
        }

        let image_positions = positions(images.iter().map(|image| image.id));
        let category_positions = positions(categories.iter().map(|category| category.id));
        let mut warnings = Vec::new();
        let all = annotations.len();
        let mut without_image = Vec::new();
        let mut without_category = Vec::new();
        let annotations: Vec<_> = annotations
            .into_iter()
            .filter(|annotation| {
                if !image_positions.contains_key(&annotation.image_id) {
                    without_image.push(annotation.image_id);
                } else if !category_positions.contains_key(&annotation.category_id) {
                    without_category.push(annotation.category_id);
                } else {
                    return true;
                }
                false
            })
            .collect();
        if let Some(first) = without_image.first() {
            warnings.push(format!(
                "{} of {all} annotations left out: their images are not in the list of images \
                 (first: image_id {first})",
                without_image.len()
            ));
        }
        if let Some(first) = without_category.first() {
            warnings.push(format!(
                "{} of {all} annotations left out: their categories are not in the list of \
                 categories (first: category_id {first})",
                without_category.len()
            ));
        }
        let mut seen = HashSet::with_capacity(annotations.len());
        let odd_ids = annotations
            .iter()
            .filter(|annotation| annotation.id == 0 || !seen.insert(annotation.id))
            .count();
        if odd_ids > 0 {
            warnings.push(format!(
                "{odd_ids} annotations have id 0 or an id used before: counted here as objects of \
                 their own, but pycocotools would miscount them"
            ));
        }
        Ok(Self {
            images,
            categories,
            annotations,
            image_positions,
            category_positions,
            warnings,
        })
    }

    /// From a COCO annotation file (`instances_*.json`).
    ///
    /// An object without `area` gets its box's, with a warning; without `iscrowd` it is no crowd.
    ///
    /// # Errors
    /// The file cannot be read, is not JSON, lacks `images`, `categories` or `annotations`, an
    /// object lacks its `bbox`, or [`GroundTruth::new`] refuses it.
    pub fn from_file(path: &Path) -> Result<Self, EvalError> {
        const EXPECTED: &str = "a COCO annotation file";
        let malformed = |reason: String| EvalError::Malformed {
            path: path.into(),
            expected: EXPECTED,
            reason,
        };
        let file: CocoFile = read_json(path, EXPECTED, |start| match start.first() {
            Some(b'[') => Err(
                "it is a JSON list, as results are; annotations are an object with `images`, \
                 `categories` and `annotations`"
                    .into(),
            ),
            _ => Ok(()),
        })?;

        let images = file
            .images
            .0
            .into_iter()
            .map(|image| GtImage {
                id: image.id.0,
                file_name: image.file_name,
                width: image.width.map_or(0, pixels),
                height: image.height.map_or(0, pixels),
            })
            .collect();
        let categories = file
            .categories
            .0
            .into_iter()
            .map(|category| GtCategory {
                id: category.id.0,
                name: category
                    .name
                    .unwrap_or_else(|| format!("category {}", category.id.0)),
            })
            .collect();
        let mut without_area = 0;
        let annotations = file
            .annotations
            .0
            .into_iter()
            .enumerate()
            .map(|(position, annotation)| {
                let id = annotation.id.map_or(position as u64 + 1, |id| id.0);
                let bbox = annotation
                    .bbox
                    .ok_or_else(|| malformed(format!("annotation {id} has no `bbox`")))?;
                let area = annotation.area.unwrap_or_else(|| {
                    without_area += 1;
                    bbox[2] * bbox[3]
                });
                Ok(GtAnnotation {
                    id,
                    image_id: annotation.image_id.0,
                    category_id: annotation.category_id.0,
                    bbox,
                    area,
                    iscrowd: annotation.iscrowd.0,
                })
            })
            .collect::<Result<Vec<_>, EvalError>>()?;
        let mut ground_truth = Self::new(images, categories, annotations)
            .map_err(|error| malformed(error.to_string()))?;
        if without_area > 0 {
            ground_truth.warnings.push(format!(
                "{without_area} annotations have no `area`: the area of their box is used, so \
                 APs, APm and APl may differ from those of a file with mask areas"
            ));
        }
        Ok(ground_truth)
    }

    /// The annotations of some images of a dataset, by position.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of_images(
        store: &AnnotationStore,
        indices: impl IntoIterator<Item = usize>,
    ) -> Result<Self, EvalError> {
        let categories = store.categories();
        let (mut images, mut annotations) = (Vec::new(), Vec::new());
        for index in indices {
            let image = store.image(index);
            images.push(GtImage {
                id: image.id,
                file_name: image.file_name.to_string(),
                width: image.size.width as u32,
                height: image.size.height as u32,
            });
            annotations.extend(store.annotations(index).map(|a| GtAnnotation {
                id: a.id,
                image_id: image.id,
                category_id: categories[a.class].id,
                bbox: a.box_in_image.to_xywh().map(f64::from),
                area: f64::from(a.area),
                iscrowd: a.is_crowd,
            }));
        }
        let categories = categories.iter().map(|c| GtCategory {
            id: c.id,
            name: c.name.clone(),
        });
        Self::new(images, categories.collect(), annotations)
    }

    /// The same ground truth on fewer images, to measure on a part. Classes stay; ids that are not
    /// there are passed over.
    ///
    /// # Errors
    /// None of the ids is an image of this ground truth.
    pub fn restricted_to(&self, image_ids: &HashSet<u64>) -> Result<Self, EvalError> {
        Self::new(
            self.images
                .iter()
                .filter(|image| image_ids.contains(&image.id))
                .cloned()
                .collect(),
            self.categories.clone(),
            self.annotations
                .iter()
                .filter(|annotation| image_ids.contains(&annotation.image_id))
                .cloned()
                .collect(),
        )
    }

    /// In the dataset's order.
    pub fn images(&self) -> &[GtImage] {
        &self.images
    }

    /// By ascending id.
    pub fn categories(&self) -> &[GtCategory] {
        &self.categories
    }

    /// In the dataset's order, without those of unknown images or classes.
    pub fn annotations(&self) -> &[GtAnnotation] {
        &self.annotations
    }

    /// What was odd about the data, one sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The image with this id.
    pub fn image(&self, id: u64) -> Option<&GtImage> {
        self.image_positions.get(&id).map(|&at| &self.images[at])
    }

    /// The class with this id.
    pub fn category(&self, id: u64) -> Option<&GtCategory> {
        self.category_positions
            .get(&id)
            .map(|&at| &self.categories[at])
    }

    /// Position of the class in [`Self::categories`].
    pub fn category_position(&self, id: u64) -> Option<usize> {
        self.category_positions.get(&id).copied()
    }
}

fn positions(ids: impl Iterator<Item = u64>) -> HashMap<u64, usize> {
    ids.enumerate().map(|(at, id)| (id, at)).collect()
}

/// Drops exact repetitions; the same id with other contents is an error.
fn unique<T: PartialEq + std::fmt::Debug>(
    items: Vec<T>,
    what: &str,
    id_of: impl Fn(&T) -> u64,
) -> Result<Vec<T>, EvalError> {
    let mut kept: Vec<T> = Vec::with_capacity(items.len());
    let mut at = HashMap::with_capacity(items.len());
    for item in items {
        match at.get(&id_of(&item)) {
            None => {
                at.insert(id_of(&item), kept.len());
                kept.push(item);
            }
            Some(&first) if kept[first] == item => {}
            Some(&first) => {
                return Err(EvalError::GroundTruth(format!(
                    "{what} id {} is given twice: {:?} and {item:?}",
                    id_of(&item),
                    kept[first]
                )));
            }
        }
    }
    Ok(kept)
}

fn pixels(value: Id) -> u32 {
    u32::try_from(value.0).unwrap_or(u32::MAX)
}

#[derive(Deserialize)]
struct CocoFile {
    images: Limited<FileImage>,
    categories: Limited<FileCategory>,
    annotations: Limited<FileAnnotation>,
}

#[derive(Deserialize)]
struct FileImage {
    id: Id,
    #[serde(default)]
    file_name: String,
    width: Option<Id>,
    height: Option<Id>,
}

#[derive(Deserialize)]
struct FileCategory {
    id: Id,
    name: Option<String>,
}

#[derive(Deserialize)]
struct FileAnnotation {
    id: Option<Id>,
    image_id: Id,
    category_id: Id,
    bbox: Option<[f64; 4]>,
    area: Option<f64>,
    #[serde(default)]
    iscrowd: Flag,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: u64) -> GtImage {
        GtImage {
            id,
            file_name: format!("{id}.jpg"),
            width: 640,
            height: 480,
        }
    }

    fn category(id: u64, name: &str) -> GtCategory {
        GtCategory {
            id,
            name: name.into(),
        }
    }

    fn annotation(id: u64, image_id: u64, category_id: u64) -> GtAnnotation {
        GtAnnotation {
            id,
            image_id,
            category_id,
            bbox: [1.0, 2.0, 30.0, 40.0],
            area: 1200.0,
            iscrowd: false,
        }
    }

    fn from_text(text: &str) -> Result<GroundTruth, EvalError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        GroundTruth::from_file(file.path())
    }

    #[test]
    fn a_coco_file_is_read_with_its_own_ids() {
        let gt = from_text(
            r#"{"info": {}, "images": [{"id": 9, "width": 64, "height": 48, "file_name": "a.jpg"}],
                "categories": [{"id": 90, "name": "toothbrush"}, {"id": 1}],
                "annotations": [{"id": 5, "image_id": 9.0, "category_id": 90, "iscrowd": 1,
                    "bbox": [1, 2, 3.5, 4], "area": 7.25, "segmentation": [[1, 2]]}]}"#,
        )
        .unwrap();
        assert_eq!(gt.image(9).unwrap().width, 64);
        assert_eq!(gt.category(90).unwrap().name, "toothbrush");
        assert_eq!(gt.category(1).unwrap().name, "category 1");
        assert_eq!(gt.categories()[0].id, 1);
        let object = &gt.annotations()[0];
        assert_eq!(object.bbox, [1.0, 2.0, 3.5, 4.0]);
        assert_eq!(object.area, 7.25);
        assert!(object.iscrowd);
        assert!(gt.warnings().is_empty());
    }

    #[test]
    fn a_missing_area_is_the_boxs_area_and_said() {
        let gt = from_text(
            r#"{"images": [{"id": 1}], "categories": [{"id": 1, "name": "a"}],
                "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 3, 5]}]}"#,
        )
        .unwrap();
        assert_eq!(gt.annotations()[0].area, 15.0);
        assert!(gt.warnings()[0].starts_with("1 annotations have no `area`"));
    }

    #[test]
    fn broken_files_are_named_with_the_reason() {
        let cases = [
            ("[]", "it is a JSON list, as results are"),
            ("{\"images\": []", "EOF"),
            (r#"{"images": [], "annotations": []}"#, "categories"),
            (
                r#"{"images": [], "categories": [], "annotations": []}"#,
                "no images",
            ),
            (
                r#"{"images": [{"id": 1}], "categories": [{"id": 1}],
                    "annotations": [{"id": 31, "image_id": 1, "category_id": 1}]}"#,
                "annotation 31 has no `bbox`",
            ),
            (
                r#"{"images": [{"id": 1}], "categories": [{"id": 1}],
                    "annotations": [{"image_id": 1, "category_id": 1, "bbox": [NaN, 1, 1, 1]}]}"#,
                "NaN",
            ),
        ];
        for (text, part) in cases {
            let message = from_text(text).unwrap_err().to_string();
            assert!(
                message.contains("is not a COCO annotation file") && message.contains(part),
                "{message}"
            );
        }
        let message = GroundTruth::from_file(Path::new("/nowhere/gt.json"))
            .unwrap_err()
            .to_string();
        assert!(message.starts_with("cannot read /nowhere/gt.json"));
    }

    #[test]
    fn objects_without_image_or_class_are_left_out_with_a_count() {
        let gt = GroundTruth::new(
            vec![image(1)],
            vec![category(3, "cat")],
            vec![
                annotation(1, 1, 3),
                annotation(2, 7, 3),
                annotation(3, 1, 4),
            ],
        )
        .unwrap();
        assert_eq!(gt.annotations().len(), 1);
        assert_eq!(gt.warnings().len(), 2);
        assert!(gt.warnings()[0].starts_with("1 of 3"));
    }

    #[test]
    fn one_id_with_two_meanings_is_an_error_and_a_repetition_is_not() {
        let two = |second: &str| {
            GroundTruth::new(
                vec![image(1), image(1)],
                vec![category(3, "cat"), category(3, second)],
                vec![],
            )
        };
        assert_eq!(two("cat").unwrap().images().len(), 1);
        let message = two("dog").unwrap_err().to_string();
        assert!(
            message.contains("category id 3 is given twice"),
            "{message}"
        );
    }

    #[test]
    fn ids_that_pycocotools_miscounts_are_said() {
        let gt = GroundTruth::new(
            vec![image(1)],
            vec![category(3, "cat")],
            vec![
                annotation(0, 1, 3),
                annotation(5, 1, 3),
                annotation(5, 1, 3),
            ],
        )
        .unwrap();
        assert_eq!(gt.annotations().len(), 3);
        assert!(gt.warnings()[0].starts_with("2 annotations"));
    }

    #[test]
    fn a_part_keeps_the_classes() {
        let gt = GroundTruth::new(
            vec![image(1), image(2)],
            vec![category(3, "cat"), category(4, "dog")],
            vec![annotation(1, 1, 3), annotation(2, 2, 4)],
        )
        .unwrap();
        let part = gt.restricted_to(&HashSet::from([2])).unwrap();
        assert_eq!(part.images().len(), 1);
        assert_eq!(part.categories().len(), 2);
        assert_eq!(part.annotations()[0].id, 2);
        assert!(gt.restricted_to(&HashSet::new()).is_err());
    }
}
