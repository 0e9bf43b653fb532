//! Detection datasets: annotations with their images.

use std::{fmt, path::PathBuf, sync::Arc};

use image::RgbImage;

use crate::boxes::{BoxXyxy, ImageSize};

use crate::DataError;
use crate::annotations::{AnnotationStore, category_difference};
use crate::images::ImageSource;
use crate::images::decode::decode_image;

/// Images in a directory, identified by the file names in the annotations.
#[derive(Debug, Clone)]
pub struct DirectorySource {
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
            min_side: 1.0,
            keep_empty: false,
        }
    }
}

/// Counts of what a filter removes from a dataset, for logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FilterSummary {
    /// Annotations dropped because they mark a crowd.
    pub crowd_boxes: usize,
    /// Annotations dropped because a side is too short or a coordinate is not finite.
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
    pub fn with_notes(mut self, notes: impl IntoIterator<Item = String>) -> Self {
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
            return Err(DataError::SizeMismatch {
                image: self.describe(index),
                decoded,
                annotated,
            });
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
                } else if exceeds_min_side(annotation.box_in_image.clip(size), filter.min_side) {
                    usable += 1;
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
        .filter(move |(box_in_image, _)| exceeds_min_side(*box_in_image, min_side))
}

/// Checks that two splits have the same categories; `first` and `second` name them in the error.
///
/// # Errors
/// The ids or names differ.
pub fn check_same_categories(
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

fn exceeds_min_side(b: BoxXyxy, min_side: f32) -> bool {
    b.is_finite() && b.width() > min_side && b.height() > min_side
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
                degenerate_boxes: 4,
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
        for part in ["2.png", "50x100", "100x50", "EXIF"] {
            assert!(message.contains(part), "{message}");
        }
        assert!(dataset.load_image(2).unwrap_err().is_about_one_image());
        assert!(matches!(
            dataset.load_image(3),
            Err(DataError::NoSuchImage { index: 3, count: 3 })
        ));
    }
}
