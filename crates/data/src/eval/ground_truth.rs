//! The annotations that a detector is evaluated against.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::Path;

use super::error::EvalError;
use crate::DataError;
use crate::annotations::AnnotationStore;
use crate::annotations::box_convention::BoxFit;
use crate::annotations::category_shift::shift_of;
use crate::annotations::coco::Entry;
use crate::annotations::coco::document::{Policy, Sink, read_document};
use crate::annotations::coco::entry::FieldProblem;
use crate::annotations::layout::LayoutError;
use crate::box_conventions::BoxConvention;
use crate::boxes::{ImageSize, described_rotated};
use crate::text::{self, numbers};

/// An image of the ground truth.
#[derive(Debug, Clone, PartialEq)]
pub struct GtImage {
    /// The id in the dataset.
    pub id: u64,
    /// The file name in the dataset; empty when it is unknown.
    pub file_name: String,
    /// The width in pixels; 0 when it is unknown (the metrics do not need it).
    pub width: u32,
    /// The height in pixels; 0 when it is unknown.
    pub height: u32,
}

/// A class of objects.
#[derive(Debug, Clone, PartialEq)]
pub struct GtCategory {
    /// The id in the dataset (COCO's ids have gaps: 1 to 90 for 80 classes).
    pub id: u64,
    /// The name of the class.
    pub name: String,
}

/// An annotated object.
#[derive(Debug, Clone, PartialEq)]
pub struct GtAnnotation {
    /// The id in the dataset. Only messages use it: the metrics do not depend on it.
    pub id: u64,
    /// The id of its image.
    pub image_id: u64,
    /// The id of its class.
    pub category_id: u64,
    /// `[x, y, width, height]` in pixels of the image.
    pub bbox: [f64; 4],
    /// The area of the mask in square pixels, or of the box where there is no mask. It decides which
    /// objects count as small, medium and large.
    pub area: f64,
    /// Whether it is a group of objects; detections inside it are ignored.
    pub iscrowd: bool,
}

/// The images, classes and objects to evaluate against. Ids of images and classes are unique, and
/// every object has an image and a class.
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
    /// Creates the ground truth from lists in the order of the dataset (the order decides ties
    /// between objects of an image, as in pycocotools).
    ///
    /// Objects whose image or class is not listed are dropped with a warning; pycocotools drops them
    /// without one. Annotation ids may repeat or be 0, because objects are distinguished by position.
    /// (pycocotools counts a match with an object of id 0 as a false positive, and of objects with
    /// the same id it uses only the last; a warning counts such ids.)
    ///
    /// # Errors
    /// There is no image or no category, an image or category id appears twice with different
    /// contents, or a box or area is not finite.
    pub fn new(
        images: Vec<GtImage>,
        categories: Vec<GtCategory>,
        annotations: Vec<GtAnnotation>,
    ) -> Result<Self, EvalError> {
        let images = unique(
            images,
            |image| image.id,
            |image| {
                let GtImage {
                    id,
                    file_name,
                    width,
                    height,
                } = image;
                format!("image id {id} ('{file_name}', {width}x{height})")
            },
        )?;
        let mut categories = unique(
            categories,
            |category| category.id,
            |category| format!("category id {} ('{}')", category.id, category.name),
        )?;
        if images.is_empty() {
            return Err(EvalError::GroundTruth("it has no images".into()));
        }
        if categories.is_empty() {
            return Err(EvalError::GroundTruth("it has no categories".into()));
        }
        categories.sort_by_key(|category| category.id);
        for annotation in &annotations {
            let finite = annotation.bbox.iter().all(|v| v.is_finite());
            if !finite || !annotation.area.is_finite() {
                return Err(EvalError::GroundTruth(format!(
                    "annotation {} on image {} has bbox {} and area {}, which must be finite",
                    annotation.id,
                    annotation.image_id,
                    numbers(&annotation.bbox),
                    annotation.area
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
                "dropped {} of {all} annotations: their images are not in `images` \
                 (first: image_id {first})",
                without_image.len()
            ));
        }
        if let Some(first) = without_category.first() {
            let mut used: BTreeSet<u64> = annotations.iter().map(|a| a.category_id).collect();
            used.extend(&without_category);
            let listed = category_positions.keys().copied().collect();
            let shift = shift_of(&used, &listed);
            let shift = shift.map_or_else(String::new, |shift| format!("; of all ids, {shift}"));
            warnings.push(format!(
                "dropped {} of {all} annotations: their categories are not in `categories` \
                 (first: category_id {first}){shift}",
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
                "{} with id 0 or an id used before: evaluated as separate objects, but pycocotools \
                 would miscount them",
                text::count(odd_ids, "annotation")
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

    /// Reads a COCO annotation file (`instances_*.json`) that need not be valid for training.
    ///
    /// Fields that the metrics do not need may be missing or wrong, and a repeated field counts with
    /// its last value; both are counted in [`Self::warnings`]. An object without `area` gets the area
    /// of its box, with a warning; without `iscrowd` it is not a crowd.
    ///
    /// # Errors
    /// The file can't be read, is not JSON, lacks `images`, `categories` or `annotations`, an entry
    /// lacks what the metrics need (ids and `bbox`), [`Self::new`] refuses the lists, or the boxes are corners or
    /// fractions.
    pub fn from_file(path: &Path) -> Result<Self, EvalError> {
        let file = File::open(path).map_err(|source| DataError::io(path, source))?;
        let mut lists = Lists::default();
        let tolerated = read_document(file, path, Policy::Lenient, &mut lists)?;
        if lists.images.is_empty() {
            let annotations = path.to_owned();
            return Err(DataError::from(LayoutError::NoImages { annotations }).into());
        }
        let mut ground_truth = Self::new(lists.images, lists.categories, lists.annotations)
            .map_err(|error| EvalError::Unusable {
                path: path.to_owned(),
                source: Box::new(error),
            })?;
        let objects = ground_truth.annotations.iter();
        let boxes = objects.map(|object| (object.image_id, object.bbox, Some(object.area)));
        let note = ground_truth.box_fit(boxes).check(path)?;
        ground_truth.warnings.extend(note);
        let rotated = described_rotated(lists.rotated_boxes);
        ground_truth.warnings.extend(rotated);
        ground_truth.warn_of_derived_areas(lists.derived_areas);
        ground_truth.warnings.extend(tolerated.sentences());
        Ok(ground_truth)
    }

    /// Returns how boxes on images fit them as `[x, y, width, height]` in pixels, as far as the sizes of the images are
    /// known.
    fn box_fit(&self, boxes: impl Iterator<Item = (u64, [f64; 4], Option<f64>)>) -> BoxFit {
        let mut fit = BoxFit::new(BoxConvention::SIZES);
        for (image_id, bbox, area) in boxes {
            let image = self.image(image_id);
            if let Some(image) = image.filter(|image| image.width > 0 && image.height > 0) {
                let size = ImageSize::new(image.height as usize, image.width as usize);
                fit.add(size, bbox, area);
            }
        }
        fit
    }

    fn warn_of_derived_areas(&mut self, count: usize) {
        if count > 0 {
            self.warnings.push(format!(
                "{} without `area`: the area of the box is used, so APs, APm and APl may differ \
                 from those of a file with mask areas",
                text::count(count, "annotation")
            ));
        }
    }

    /// Creates the ground truth of a dataset that was read for training.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of_store(store: &AnnotationStore) -> Result<Self, EvalError> {
        Self::of_images(store, 0..store.image_count())
    }

    /// Creates the ground truth of some images of a dataset, by position.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of_images(
        store: &AnnotationStore,
        indices: impl IntoIterator<Item = usize>,
    ) -> Result<Self, EvalError> {
        let categories = store.categories();
        let (mut images, mut annotations) = (Vec::new(), Vec::new());
        let mut derived_areas = 0;
        for index in indices {
            let image = store.image(index);
            images.push(GtImage {
                id: image.id,
                file_name: image.file_name.to_string(),
                width: image.size.width as u32,
                height: image.size.height as u32,
            });
            derived_areas += store.derived_areas(index);
            let numbers = store.numbers(index);
            annotations.extend(store.annotations(index).zip(numbers).map(|(a, numbers)| {
                let (bbox, area) = numbers.as_f64();
                GtAnnotation {
                    id: a.id,
                    image_id: image.id,
                    category_id: categories[a.class].id,
                    bbox,
                    area,
                    iscrowd: a.is_crowd,
                }
            }));
        }
        let categories = categories.iter().map(|c| GtCategory {
            id: c.id,
            name: c.name.clone(),
        });
        let mut ground_truth = Self::new(images, categories.collect(), annotations)?;
        ground_truth.warn_of_derived_areas(derived_areas);
        Ok(ground_truth)
    }

    /// Restricts the ground truth to some images, to evaluate on a subset. All classes are kept;
    /// unknown ids are ignored.
    ///
    /// # Errors
    /// None of the ids is that of an image of this ground truth.
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

    /// Returns the images in the order of the dataset.
    pub fn images(&self) -> &[GtImage] {
        &self.images
    }

    /// Returns the categories by ascending id.
    pub fn categories(&self) -> &[GtCategory] {
        &self.categories
    }

    /// Returns the objects in the order of the dataset, without those of unknown images or classes.
    pub fn annotations(&self) -> &[GtAnnotation] {
        &self.annotations
    }

    /// Returns warnings about the data, one sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns the image with an id.
    pub fn image(&self, id: u64) -> Option<&GtImage> {
        self.image_positions.get(&id).map(|&at| &self.images[at])
    }

    /// Returns the class with an id.
    pub fn category(&self, id: u64) -> Option<&GtCategory> {
        self.category_positions
            .get(&id)
            .map(|&at| &self.categories[at])
    }

    /// Returns the position of a class in [`Self::categories`].
    pub(crate) fn category_position(&self, id: u64) -> Option<usize> {
        self.category_positions.get(&id).copied()
    }
}

fn positions(ids: impl Iterator<Item = u64>) -> HashMap<u64, usize> {
    ids.enumerate().map(|(at, id)| (id, at)).collect()
}

/// Drops exact duplicates; the same id with different contents is an error, in which `describe` names both.
fn unique<T: PartialEq>(
    items: Vec<T>,
    id_of: impl Fn(&T) -> u64,
    describe: impl Fn(&T) -> String,
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
                    "the same id is used twice: {} and {}",
                    describe(&kept[first]),
                    describe(&item)
                )));
            }
        }
    }
    Ok(kept)
}

/// A sink of entries that the lenient policy has accepted; they have all fields that the metrics
/// need.
#[derive(Default)]
struct Lists {
    images: Vec<GtImage>,
    categories: Vec<GtCategory>,
    annotations: Vec<GtAnnotation>,
    derived_areas: usize,
    rotated_boxes: usize,
}

impl Sink for Lists {
    fn entry(&mut self, entry: Entry, position: usize, _: &[FieldProblem]) -> io::Result<()> {
        let pixels =
            |side: Option<u64>| side.map_or(0, |side| u32::try_from(side).unwrap_or(u32::MAX));
        match entry {
            Entry::Image(image) => self.images.extend(image.id.map(|id| GtImage {
                id,
                file_name: image.file_name.unwrap_or_default().into(),
                width: pixels(image.width),
                height: pixels(image.height),
            })),
            Entry::Category(category) => {
                self.categories.extend(category.id.map(|id| {
                    GtCategory {
                        id,
                        name: category
                            .name
                            .map_or_else(|| format!("category {id}"), String::from),
                    }
                }));
            }
            Entry::Annotation(annotation) => {
                if let (Some(image_id), Some(category_id), Some(bbox)) =
                    (annotation.image_id, annotation.category_id, annotation.xywh)
                {
                    self.rotated_boxes += usize::from(annotation.is_rotated);
                    self.derived_areas += usize::from(annotation.area.is_none());
                    self.annotations.push(GtAnnotation {
                        id: annotation.id.unwrap_or(position as u64 + 1),
                        image_id,
                        category_id,
                        bbox,
                        area: annotation.area.unwrap_or(bbox[2] * bbox[3]),
                        iscrowd: annotation.is_crowd,
                    });
                }
            }
        }
        Ok(())
    }
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
    fn a_coco_file_is_read_with_the_ids_of_the_dataset() {
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
        assert_eq!(
            gt.warnings(),
            ["1 category with a missing or wrong `name`, which the metrics do not need"]
        );
    }

    #[test]
    fn a_missing_area_is_the_area_of_the_box_with_a_warning() {
        let gt = from_text(
            r#"{"images": [{"id": 1}], "categories": [{"id": 1, "name": "a"}],
                "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 3, 5]}]}"#,
        )
        .unwrap();
        assert_eq!(gt.annotations()[0].area, 15.0);
        assert!(gt.warnings()[0].starts_with("1 annotation without `area`"));
    }

    #[test]
    fn broken_files_are_errors_with_file_and_reason() {
        let cases = [
            ("[]", "it is a list, as results files are"),
            ("{\"images\": []", "EOF"),
            (r#"{"images": [], "annotations": []}"#, "categories"),
            (
                r#"{"images": [], "categories": [], "annotations": []}"#,
                "no images",
            ),
            (
                r#"{"images": [{"id": 1}], "categories": [{"id": 1}],
                    "annotations": [{"id": 31, "image_id": 1, "category_id": 1}]}"#,
                "annotations[0] (id 31): `bbox` is missing",
            ),
            (
                r#"{"images": [{"id": 1}], "categories": [{"id": 1}],
                    "annotations": [{"image_id": 1, "category_id": 1, "bbox": [NaN, 1, 1, 1]}]}"#,
                "`bbox` is [NaN, 1, 1, 1], not four finite numbers",
            ),
            (
                r#"{"images": [{"id": 1}, {"id": "2"}], "categories": [], "annotations": []}"#,
                "images[1] (id 2): `id` is the string \"2\"",
            ),
            (
                r#"{"images": [{"id": 1}], "categories": [{"id": 1}],
                    "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 1, 1], "area": "9"}]}"#,
                "annotations[0]: `area` is the string \"9\"",
            ),
        ];
        for (text, part) in cases {
            let message = from_text(text).unwrap_err().to_string();
            assert!(
                message.starts_with('/') && message.contains(part),
                "{message}"
            );
        }
        let message = GroundTruth::from_file(Path::new("/nowhere/gt.json"))
            .unwrap_err()
            .to_string();
        assert!(message.starts_with("/nowhere/gt.json: "));
    }

    #[test]
    fn objects_without_image_or_class_are_dropped_with_a_count() {
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
        assert!(gt.warnings()[0].starts_with("dropped 1 of 3"));
    }

    #[test]
    fn one_id_with_two_contents_is_an_error_and_a_repetition_is_not() {
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
            message.contains("used twice: category id 3 ('"),
            "{message}"
        );
    }

    #[test]
    fn ids_that_pycocotools_miscounts_have_a_warning() {
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
    fn a_restricted_ground_truth_keeps_the_classes() {
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

    #[test]
    fn what_the_metrics_do_not_need_is_tolerated_and_counted() {
        let gt = from_text(
            r#"{"images": [{"id": 1, "width": "64", "height": 48, "file_name": NaN}],
                "categories": [{"id": 1, "name": "a", "name": "b"}],
                "annotations": [{"id": -3, "image_id": 1, "category_id": 1, "bbox": [0, 0, 3, 5], "area": 9,
                    "score": NaN}]}"#,
        )
        .unwrap();
        assert_eq!(gt.categories()[0].name, "b");
        assert_eq!(gt.annotations()[0].id, 1);
        assert_eq!(
            gt.warnings(),
            [
                "1 image with a missing or wrong `file_name`, which the metrics do not need",
                "1 image with a missing or wrong `width`, which the metrics do not need",
                "1 annotation with a missing or wrong `id`, which the metrics do not need",
                "1 category with a repeated field: its last value is used",
            ]
        );
    }

    /// Areas next to 32 x 32 pixels and boxes with decimals would be rounded in `f32`.
    #[test]
    fn a_store_and_its_file_give_the_same_ground_truth_to_the_last_bit() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let json = r#"{"images": [{"id": 9, "width": 64, "height": 48, "file_name": "a.jpg"}],
            "categories": [{"id": 90, "name": "x"}, {"id": 1, "name": "y"}],
            "annotations": [
                {"id": 5, "image_id": 9, "category_id": 90, "bbox": [473.07, 395.93, 38.65, 28.67], "area": 1024.00001},
                {"id": 6, "image_id": 9, "category_id": 1, "iscrowd": 1, "bbox": [0.1, 0.2, 0.3, 0.7]}]}"#;
        std::fs::write(file.path(), json).unwrap();
        let store = crate::annotations::coco::read_coco(file.path()).unwrap();
        let (of_store, of_file) = (
            GroundTruth::of_store(&store).unwrap(),
            GroundTruth::from_file(file.path()).unwrap(),
        );
        assert_eq!(of_store.images(), of_file.images());
        assert_eq!(of_store.categories(), of_file.categories());
        assert_eq!(of_store.annotations(), of_file.annotations());
        assert_eq!(of_store.annotations()[0].area, 1024.00001);
        assert_eq!(of_store.warnings(), of_file.warnings());
        assert_eq!(of_store.warnings().len(), 1);
    }
}
