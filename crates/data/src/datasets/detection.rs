//! Detection datasets: annotations with their images.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::{fmt, sync::Arc};

use image::RgbImage;

use crate::boxes::{BoxXyxy, EDGE_TOLERANCE, ImageSize, MIN_TARGET_SIDE};

use crate::DataError;
use crate::annotations::image_files::first_few;
use crate::annotations::{AnnotationStore, category_difference};
use crate::images::ImageSource;
use crate::images::decode::decode_image;
use crate::text::{count, printable};

/// Images in a directory, identified by the file names in the annotations.
#[derive(Debug, Clone)]
pub(crate) struct DirectorySource {
    directory: PathBuf,
    store: Arc<AnnotationStore>,
}

impl DirectorySource {
    /// Creates the source; file names in `store` are relative to `directory`.
    pub fn new(directory: impl Into<PathBuf>, store: Arc<AnnotationStore>) -> Self {
        Self {
            directory: directory.into(),
            store,
        }
    }

    /// Returns the image's path.
    ///
    /// # Panics
    /// The position is out of range.
    pub fn path(&self, index: usize) -> PathBuf {
        self.directory.join(self.store.image(index).file_name)
    }
}

impl ImageSource for DirectorySource {
    fn load(&self, index: usize) -> Result<RgbImage, DataError> {
        Ok(decode_image(&self.path(index))?)
    }

    fn describe(&self, index: usize) -> String {
        self.path(index).display().to_string()
    }
}

/// The filter for training targets.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TargetFilter {
    /// Minimum side in pixels: both sides of a box, clipped to the image, must be larger. The
    /// default of 1 is torchvision's; boxes of zero size make the box coder divide by zero.
    pub min_side: f32,
    /// Whether to keep images without remaining boxes as background. The reference implementations
    /// drop them.
    pub keep_empty: bool,
}

impl Default for TargetFilter {
    fn default() -> Self {
        Self {
            min_side: MIN_TARGET_SIDE,
            keep_empty: false,
        }
    }
}

/// Counts of what a filter removes from a dataset, for logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FilterSummary {
    /// Annotations dropped because they mark a crowd.
    pub crowd_boxes: usize,
    /// Annotations dropped because a coordinate is not finite or implausible, or a side is negative.
    pub invalid_boxes: usize,
    /// Annotations dropped because they are outside of the image.
    pub outside_boxes: usize,
    /// Annotations dropped because a side of the part in the image is too short.
    pub degenerate_boxes: usize,
    /// Images without remaining boxes, dropped unless `keep_empty`.
    pub empty_images: usize,
}

/// Annotations and pixels of one split.
pub struct DetectionDataset {
    store: Arc<AnnotationStore>,
    source: Box<dyn ImageSource>,
    notes: Vec<String>,
}

impl fmt::Debug for DetectionDataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DetectionDataset")
            .field("images", &self.store.image_count())
            .field("annotations", &self.store.annotation_count())
            .finish_non_exhaustive()
    }
}

impl DetectionDataset {
    /// Combines annotations with the source of their images.
    pub fn new(store: Arc<AnnotationStore>, source: impl ImageSource + 'static) -> Self {
        Self {
            store,
            source: Box::new(source),
            notes: Vec::new(),
        }
    }

    /// Adds notes for the user.
    pub(crate) fn with_notes(mut self, notes: impl IntoIterator<Item = String>) -> Self {
        self.notes.extend(notes);
        self
    }

    /// Returns notes for the user about how the dataset was read, one line each: what was dropped, and
    /// where files were found if that is not evident. Usually empty.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Combines annotations with images that are files in a directory.
    pub fn in_directory(store: AnnotationStore, directory: impl Into<PathBuf>) -> Self {
        let store = Arc::new(store);
        Self::new(store.clone(), DirectorySource::new(directory, store))
    }

    /// Returns the annotations.
    pub fn store(&self) -> &Arc<AnnotationStore> {
        &self.store
    }

    /// Returns the number of images.
    pub fn len(&self) -> usize {
        self.store.image_count()
    }

    /// Returns whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the path or description of an image, for messages.
    pub fn describe(&self, index: usize) -> String {
        self.source.describe(index)
    }

    /// Returns the pixels of an image, and checks their size against the annotations.
    ///
    /// # Errors
    /// The image can't be read, or its size is not the annotated one.
    pub fn load_image(&self, index: usize) -> Result<RgbImage, DataError> {
        if index >= self.len() {
            return Err(DataError::NoSuchImage {
                index,
                count: self.len(),
            });
        }
        let image = self.source.load(index)?;
        let decoded = ImageSize::new(image.height() as usize, image.width() as usize);
        let annotated = self.store.image(index).size;
        if decoded != annotated {
            let image = self.describe(index);
            return Err(DataError::size_mismatch(image, decoded, annotated));
        }
        Ok(image)
    }

    /// Returns the boxes (clipped to the image) and contiguous classes that are targets: no crowd, no box
    /// with a side of `min_side` pixels or less.
    pub fn targets(&self, index: usize, min_side: f32) -> (Vec<BoxXyxy>, Vec<usize>) {
        targets(&self.store, index, min_side).unzip()
    }

    /// Returns the positions of the images to train on, ascending, and counts of what the filter removed.
    ///
    /// # Errors
    /// No image is left, or none of them has a box.
    pub fn training_images(
        &self,
        filter: TargetFilter,
    ) -> Result<(Vec<usize>, FilterSummary), DataError> {
        let mut summary = FilterSummary::default();
        let mut kept = Vec::new();
        let mut usable_boxes = 0;
        for index in 0..self.len() {
            let size = self.store.image(index).size;
            let mut usable = 0;
            for annotation in self.store.annotations(index) {
                if annotation.is_crowd {
                    summary.crowd_boxes += 1;
                } else if annotation
                    .box_in_image
                    .clip(size)
                    .exceeds_sides_of(filter.min_side)
                {
                    usable += 1;
                } else if annotation.box_in_image.is_invalid() {
                    summary.invalid_boxes += 1;
                } else if annotation.box_in_image.is_outside(size) {
                    summary.outside_boxes += 1;
                } else {
                    summary.degenerate_boxes += 1;
                }
            }
            usable_boxes += usable;
            if usable == 0 {
                summary.empty_images += 1;
            }
            if usable > 0 || filter.keep_empty {
                kept.push(index);
            }
        }
        // Images without boxes are background, from which alone nothing can be learned.
        if usable_boxes == 0 {
            return Err(DataError::NothingToTrain {
                images: self.len(),
                min_side: filter.min_side,
            });
        }
        Ok((kept, summary))
    }
}

/// Returns the boxes of an image that are targets, clipped to the image, with their contiguous classes; see
/// [`DetectionDataset::targets`].
pub fn targets(
    store: &AnnotationStore,
    index: usize,
    min_side: f32,
) -> impl Iterator<Item = (BoxXyxy, usize)> + '_ {
    let size = store.image(index).size;
    store
        .annotations(index)
        .filter(|annotation| !annotation.is_crowd)
        .map(move |annotation| (annotation.box_in_image.clip(size), annotation.class))
        .filter(move |(box_in_image, _)| box_in_image.exceeds_sides_of(min_side))
}

/// Returns a line for each kind of error in the annotations of a split that training can work around: what a
/// validation of the dataset reports as errors.
///
/// Boxes that are ignored in training are not part of it; see [`FilterSummary`].
pub(crate) fn suspicious(store: &AnnotationStore) -> Vec<String> {
    let (mut twice, mut over_edge, mut wrong_areas) = (0, 0, 0);
    let mut listed = HashSet::with_capacity(store.image_count());
    let mut seen = HashSet::new();
    for index in 0..store.image_count() {
        let image = store.image(index);
        listed.insert(image.file_name);
        seen.clear();
        for annotation in store.annotations(index) {
            let b = annotation.box_in_image;
            let corners = [b.x1, b.y1, b.x2, b.y2];
            let key = (
                corners.map(f32::to_bits),
                annotation.class,
                annotation.is_crowd,
            );
            twice += usize::from(!seen.insert(key));
            let clipped = b.clip(image.size);
            let clipped = [clipped.x1, clipped.y1, clipped.x2, clipped.y2];
            let beyond = corners.iter().zip(clipped).map(|(a, b)| (a - b).abs());
            let is_over = beyond.fold(0.0, f32::max) > EDGE_TOLERANCE as f32;
            over_edge += usize::from(is_over && !b.is_invalid() && !b.is_outside(image.size));
            // The area of a box without one is zero, too.
            wrong_areas += usize::from(annotation.area <= 0.0 && b.x2 > b.x1 && b.y2 > b.y1);
        }
    }
    let twice_listed = store.image_count() - listed.len();
    let lines = [
        (
            twice_listed,
            "is listed under two ids; the objects of one entry are background for the other",
            "are listed under two ids; the objects of one entry are background for the other",
            "image",
        ),
        (
            twice,
            "is a duplicate: same image, class and coordinates as another",
            "are duplicates: same image, class and coordinates as another",
            "box",
        ),
        (
            over_edge,
            "exceeds the image bounds and is clipped",
            "exceed the image bounds and are clipped",
            "box",
        ),
        (
            wrong_areas,
            "is negative or zero: its object counts as small in the metrics",
            "are negative or zero: their objects count as small in the metrics",
            "area",
        ),
    ];
    counted(&lines)
}

/// Returns a line for each kind of box of an evaluated split that no detection can match, so that it counts as
/// missed. In training such boxes are ignored; see [`FilterSummary`].
pub(crate) fn unmatchable(store: &AnnotationStore) -> Vec<String> {
    let (mut outside, mut without_area) = (0, 0);
    for index in 0..store.image_count() {
        let size = store.image(index).size;
        for annotation in store.annotations(index).filter(|a| !a.is_crowd) {
            let b = annotation.box_in_image;
            if b.is_invalid() || b.x1 == b.x2 || b.y1 == b.y2 {
                without_area += 1;
            } else if b.is_outside(size) {
                outside += 1;
            }
        }
    }
    counted(&[
        (
            outside,
            "is outside its image, and counts as missed in every evaluation",
            "are outside their images, and count as missed in every evaluation",
            "box",
        ),
        (
            without_area,
            "has no area or a negative side, and counts as missed in every evaluation",
            "have no area or a negative side, and count as missed in every evaluation",
            "box",
        ),
    ])
}

/// Returns why the scores on a validation split say little, in one line; None if they are reliable. `images` is
/// its number of images, and `missing` are the classes that no image shows.
pub(crate) fn says_little(images: usize, missing: &[&str]) -> Option<String> {
    /// With fewer images, one more correct image changes the score by more than 5 %.
    const FEW: usize = 20;
    let classes = match missing {
        [] => String::new(),
        [class] => format!("the class {class}"),
        several => format!("the classes {}", first_few(several.iter().copied())),
    };
    match (images < FEW, classes.is_empty()) {
        (false, true) => None,
        (true, true) => Some(format!(
            "the scores of {} say little",
            count(images, "image")
        )),
        (true, false) => Some(format!(
            "the scores of {} say little, and nothing about {classes}",
            count(images, "image")
        )),
        (false, false) => Some(format!(
            "the scores say nothing about {classes}: no image shows one"
        )),
    }
}

/// Returns the classes with boxes in one split and none in another.
pub(crate) fn missing_classes<'a>(
    there: &'a AnnotationStore,
    here: &AnnotationStore,
) -> Vec<&'a str> {
    let shown = |store: &AnnotationStore| -> HashSet<usize> {
        let images = 0..store.image_count();
        images
            .flat_map(|image| store.annotations(image).map(|a| a.class))
            .collect()
    };
    let (there_shown, here_shown) = (shown(there), shown(here));
    let categories = there.categories().iter().enumerate();
    categories
        .filter(|(class, _)| there_shown.contains(class) && !here_shown.contains(class))
        .map(|(_, category)| category.name.as_str())
        .collect()
}

/// Returns the note on classes that are evaluated and not trained, if there are any.
pub(crate) fn untrained(train: &AnnotationStore, val: &AnnotationStore) -> Option<String> {
    let classes = missing_classes(val, train);
    let which = match classes.as_slice() {
        [] => return None,
        [class] => format!("the class {class} has boxes"),
        several => format!(
            "the classes {} have boxes",
            first_few(several.iter().copied())
        ),
    };
    Some(format!(
        "{which} in val and none in train: such a class cannot be learned, and its AP will be 0"
    ))
}

/// Returns a class name without the differences that are probably mistakes: capitals and spaces.
pub(crate) fn plain_class_name(name: &str) -> String {
    name.to_lowercase().split_whitespace().collect()
}

/// Returns the note on classes whose names differ only in capitals or spaces, if there are any.
pub(crate) fn alike_class_names<'n>(names: impl IntoIterator<Item = &'n str>) -> Option<String> {
    let mut first_of: HashMap<String, &str> = HashMap::new();
    let pairs = names.into_iter().filter_map(|name| {
        let first = *first_of.entry(plain_class_name(name)).or_insert(name);
        (first != name).then(|| format!("{} and {}", printable(first), printable(name)))
    });
    let pairs: Vec<String> = pairs.collect();
    (!pairs.is_empty()).then(|| {
        format!(
            "class names that differ only in capitals or spaces, and are trained as different classes: {}",
            first_few(pairs.iter().map(String::as_str))
        )
    })
}

/// Formats the counts that are not zero: the number, the words for one and for many, and the noun.
fn counted(lines: &[(usize, &str, &str, &str)]) -> Vec<String> {
    let found = lines.iter().filter(|(number, ..)| *number > 0);
    found
        .map(|(number, one, many, what)| {
            let words = if *number == 1 { one } else { many };
            format!("{} {words}", count(*number, what))
        })
        .collect()
}

/// Returns the number of images of one split that are also in another. Directories are those of the images.
pub(crate) fn shared_images(
    (first_directory, first): (&Path, &AnnotationStore),
    (second_directory, second): (&Path, &AnnotationStore),
) -> usize {
    let resolved = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let paths = |directory: &Path, store: &AnnotationStore| -> HashSet<PathBuf> {
        let directory = resolved(directory);
        let names = (0..store.image_count()).map(|index| store.image(index).file_name);
        names.map(|name| directory.join(name)).collect()
    };
    let first = paths(first_directory, first);
    let second = paths(second_directory, second);
    second.iter().filter(|path| first.contains(*path)).count()
}

/// Checks that no two classes have the same name: they would be learned as two. `name` is that of the dataset.
///
/// # Errors
/// Two classes have the same name.
pub(crate) fn check_class_names(name: &str, store: &AnnotationStore) -> Result<(), DataError> {
    let mut ids = HashMap::new();
    for category in store.categories() {
        if let Some(first) = ids.insert(category.name.as_str(), category.id) {
            return Err(DataError::SameClassName {
                dataset: name.to_owned(),
                class: category.name.clone(),
                first,
                second: category.id,
            });
        }
    }
    Ok(())
}

/// Checks that two splits have the same categories; `first` and `second` name them in the error.
///
/// # Errors
/// The ids or names differ.
pub(crate) fn check_same_categories(
    (first, first_store): (&str, &AnnotationStore),
    (second, second_store): (&str, &AnnotationStore),
) -> Result<(), DataError> {
    match category_difference(first_store.categories(), second_store.categories()) {
        None => Ok(()),
        Some(difference) => Err(DataError::CategoriesDiffer {
            first: first.to_owned(),
            second: second.to_owned(),
            difference,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::{AnnotationStoreBuilder, NewAnnotation};

    fn store(boxes: &[(u64, [f32; 4], bool)]) -> AnnotationStore {
        let mut builder = AnnotationStoreBuilder::new();
        builder.add_category(7, "thing");
        for id in 1..=3 {
            builder.add_image(id, &format!("{id}.png"), ImageSize::new(50, 100));
        }
        for (id, (image_id, xywh, is_crowd)) in boxes.iter().enumerate() {
            builder.add_annotation(NewAnnotation {
                id: id as u64,
                image_id: *image_id,
                category_id: 7,
                xywh: *xywh,
                area: None,
                is_crowd: *is_crowd,
            });
        }
        builder.build().unwrap()
    }

    #[test]
    fn crowds_and_boxes_of_zero_size_are_no_targets() {
        let dataset = DetectionDataset::in_directory(
            store(&[
                (1, [90.0, 40.0, 30.0, 30.0], false), // clipped to 10x10
                (1, [10.0, 10.0, 20.0, 20.0], true),  // crowd
                (2, [10.0, 10.0, 1.0, 20.0], false),  // one pixel wide
                (2, [99.5, 10.0, 20.0, 20.0], false), // half a pixel inside
                (2, [10.0, 10.0, -5.0, 20.0], false), // negative
                (2, [f32::INFINITY, 10.0, f32::NEG_INFINITY, 20.0], false),
                (3, [1e30, 10.0, 20.0, 20.0], false),
                (3, [300.0, 10.0, 20.0, 20.0], false),
            ]),
            "nowhere",
        );
        let (boxes, labels) = dataset.targets(0, 1.0);
        assert_eq!(boxes, [BoxXyxy::new(90.0, 40.0, 100.0, 50.0)]);
        assert_eq!(labels, [0]);
        assert!(dataset.targets(1, 1.0).0.is_empty());

        let (kept, summary) = dataset.training_images(TargetFilter::default()).unwrap();
        assert_eq!(kept, [0]);
        assert_eq!(
            summary,
            FilterSummary {
                crowd_boxes: 1,
                invalid_boxes: 3,
                outside_boxes: 1,
                degenerate_boxes: 2,
                empty_images: 2
            }
        );
        let keep_empty = TargetFilter {
            keep_empty: true,
            ..TargetFilter::default()
        };
        assert_eq!(dataset.training_images(keep_empty).unwrap().0, [0, 1, 2]);
    }

    #[test]
    fn errors_that_training_works_around_are_counted() {
        let sound = store(&[(1, [1.0, 2.0, 30.0, 40.0], false)]);
        assert_eq!(suspicious(&sound), [""; 0]);
        let wrong = store(&[
            (1, [1.0, 2.0, 30.0, 40.0], false),
            (1, [1.0, 2.0, 30.0, 40.0], false),
            (1, [1.0, 2.0, 30.0, 40.0], true), // a crowd is no duplicate
            (2, [1.0, 2.0, 30.0, 40.0], false),
            (2, [90.0, 2.0, 10.9, 40.0], false), // rounded
            (2, [90.0, 2.0, 30.0, 40.0], false),
            (2, [-20.0, 2.0, 30.0, 40.0], false),
            (3, [200.0, 2.0, 30.0, 40.0], false), // outside: ignored in training
        ]);
        assert_eq!(
            suspicious(&wrong),
            [
                "1 box is a duplicate: same image, class and coordinates as another",
                "2 boxes exceed the image bounds and are clipped",
            ]
        );
    }

    #[test]
    fn wrong_areas_and_boxes_that_no_detection_can_match_are_counted() {
        let mut builder = AnnotationStoreBuilder::new();
        builder.add_category(7, "thing");
        builder.add_image(1, "1.png", ImageSize::new(50, 100));
        let boxes = [
            ([1.0, 2.0, 30.0, 40.0], None, false),
            ([2.0, 2.0, 30.0, 40.0], Some(0.0), false),
            ([3.0, 2.0, 30.0, 40.0], Some(-5.0), false),
            ([4.0, 2.0, 0.0, 40.0], None, false),
            ([200.0, 2.0, 30.0, 40.0], None, false),
            ([200.0, 2.0, 30.0, 40.0], None, true),
        ];
        for (id, (xywh, area, is_crowd)) in (0..).zip(boxes) {
            builder.add_annotation(NewAnnotation {
                id,
                image_id: 1,
                category_id: 7,
                xywh,
                area,
                is_crowd,
            });
        }
        let store = builder.build().unwrap();
        assert_eq!(
            suspicious(&store),
            ["2 areas are negative or zero: their objects count as small in the metrics"]
        );
        assert_eq!(
            unmatchable(&store),
            [
                "1 box is outside its image, and counts as missed in every evaluation",
                "1 box has no area or a negative side, and counts as missed in every evaluation",
            ]
        );
    }

    #[test]
    fn the_scores_of_few_images_or_without_a_class_say_little() {
        for (images, missing, expected) in [
            (20, &[][..], None),
            (1, &[], Some("the scores of 1 image say little")),
            (
                19,
                &["dog"],
                Some("the scores of 19 images say little, and nothing about the class dog"),
            ),
            (
                20,
                &["dog", "owl"],
                Some("the scores say nothing about the classes dog, owl: no image shows one"),
            ),
        ] {
            assert_eq!(says_little(images, missing).as_deref(), expected);
        }
        let shown = store(&[(1, [1.0, 2.0, 30.0, 40.0], false)]);
        assert_eq!(missing_classes(&shown, &store(&[])), ["thing"]);
        assert_eq!(missing_classes(&shown, &shown), [""; 0]);
        assert_eq!(missing_classes(&store(&[]), &store(&[])), [""; 0]);
    }

    #[test]
    fn classes_that_are_alike_or_not_trained_are_named() {
        let names = ["Cat", "traffic light", "cat", "TrafficLight", "dog"];
        assert_eq!(
            alike_class_names(names).unwrap(),
            "class names that differ only in capitals or spaces, and are trained as different classes: \
             Cat and cat, traffic light and TrafficLight"
        );
        assert_eq!(alike_class_names(["cat", "dog", "catdog"]), None);
        let shown = store(&[(1, [1.0, 2.0, 30.0, 40.0], false)]);
        assert_eq!(
            untrained(&store(&[]), &shown).unwrap(),
            "the class thing has boxes in val and none in train: such a class cannot be learned, and its AP will be 0"
        );
        assert_eq!(untrained(&shown, &store(&[])), None);
    }

    #[test]
    fn images_of_the_same_path_are_shared_by_two_splits() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::create_dir(&a).unwrap();
        std::fs::create_dir(&b).unwrap();
        let same = dir.path().join("b/../a");
        let store = store(&[]);
        assert_eq!(shared_images((&a, &store), (&same, &store)), 3);
        assert_eq!(shared_images((&a, &store), (&b, &store)), 0);
    }

    #[test]
    fn two_classes_with_one_name_are_an_error_that_names_them() {
        let mut builder = AnnotationStoreBuilder::new();
        for (id, name) in [(1, "cat"), (4, "dog"), (9, "cat")] {
            builder.add_category(id, name);
        }
        builder.add_image(1, "1.png", ImageSize::new(50, 100));
        let error = check_class_names("pets", &builder.build().unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "pets: two classes have the name `cat` (ids 1 and 9)"
        );
        assert!(check_class_names("pets", &store(&[])).is_ok());
    }

    #[test]
    fn a_set_without_any_usable_box_is_an_error() {
        let dataset = DetectionDataset::in_directory(store(&[]), "nowhere");
        for keep_empty in [false, true] {
            let filter = TargetFilter {
                keep_empty,
                ..TargetFilter::default()
            };
            let message = dataset.training_images(filter).unwrap_err().to_string();
            assert!(message.contains("no usable box in 3 images"), "{message}");
        }
    }

    #[test]
    fn an_image_of_another_size_than_annotated_is_an_error_with_both_sizes() {
        let dir = tempfile::tempdir().unwrap();
        RgbImage::new(100, 50)
            .save(dir.path().join("1.png"))
            .unwrap();
        RgbImage::new(50, 100)
            .save(dir.path().join("2.png"))
            .unwrap();
        let dataset = DetectionDataset::in_directory(store(&[]), dir.path());
        assert_eq!(dataset.load_image(0).unwrap().dimensions(), (100, 50));
        let message = dataset.load_image(1).unwrap_err().to_string();
        for part in ["2.png", "50x100", "100x50", "exchanged"] {
            assert!(message.contains(part), "{message}");
        }
        assert!(dataset.load_image(2).unwrap_err().is_about_one_image());
        assert!(matches!(
            dataset.load_image(3),
            Err(DataError::NoSuchImage { index: 3, count: 3 })
        ));
    }
}
