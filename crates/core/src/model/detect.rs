//! Detection in single images and in datasets.

use image::RgbImage;

use super::{Model, ModelError, ProgressFn, to_device};
use crate::detection::ImageBatch;
use crate::detection::faster_rcnn::FasterRcnn;
use sedet_data::boxes::BoxXyxy;
use sedet_data::datasets::detection::DetectionDataset;
use sedet_data::eval::ResultRow;
use sedet_data::images::OnBadImage;
use sedet_data::loading::SkippedImage;
use sedet_data::loading::batch::pad_images;
use sedet_data::loading::prefetch::{PrefetchLimits, with_prefetch};
use sedet_data::loading::transforms::prepare;

/// One detected object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImageDetection {
    /// The box in pixels of the image.
    pub box_in_image: BoxXyxy,
    /// The class, an index into the categories.
    pub label: usize,
    /// The probability of the class, 0 to 1.
    pub score: f32,
}

/// The detections in a dataset.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DatasetDetections {
    /// COCO results with the original category ids.
    pub rows: Vec<ResultRow>,
    /// Images that can't be read, where those are skipped.
    pub skipped: Vec<SkippedImage>,
}

impl Model {
    /// Returns the objects in an image, by descending score.
    ///
    /// # Errors
    /// The model is a classifier.
    pub fn detect(&self, image: &RgbImage) -> Result<Vec<ImageDetection>, ModelError> {
        Ok(self.detect_with(self.detector()?, image))
    }

    pub(super) fn detect_with(
        &self,
        network: &FasterRcnn,
        image: &RgbImage,
    ) -> Vec<ImageDetection> {
        let preprocess = &self.spec.preprocess;
        let prepared = [prepare(image, preprocess)];
        let (pixels, shape) = pad_images(&prepared, preprocess.size_divisor);
        let found = network.detect(ImageBatch {
            pixels: to_device(pixels, shape, &self.device),
            input_sizes: vec![prepared[0].input_size],
        });
        found
            .into_iter()
            .flatten()
            .map(|d| ImageDetection {
                box_in_image: prepared[0].to_image(d.box_in_input),
                label: d.label,
                score: d.score,
            })
            .collect()
    }

    /// Detects the objects in every image of a dataset. Returns none if `progress` stopped it.
    ///
    /// Images are processed one at a time, as torchvision's and detectron2's evaluations do: padding
    /// an image to the size of a larger one would change its numbers. The next image is decoded
    /// meanwhile. Classes are matched by name ([`match_classes`](Self::match_classes)). Detections of
    /// categories that the dataset lacks are dropped: torchvision's models have outputs for the gaps
    /// in COCO's ids.
    ///
    /// # Errors
    /// A classifier, a dataset with classes that the model was not trained for, the first image
    /// that can't be read, unless such images are skipped, or no image that can be read.
    pub fn detect_dataset(
        &self,
        dataset: &DetectionDataset,
        on_bad_image: OnBadImage,
        progress: &mut ProgressFn<'_>,
    ) -> Result<Option<DatasetDetections>, ModelError> {
        let network = self.detector()?;
        let wanted = dataset.store().categories();
        let names: Vec<String> = wanted.iter().map(|class| class.name.clone()).collect();
        let classes = self.match_classes(&names)?.classes();
        let total = dataset.len();
        let load = |index| dataset.load_image(index);
        let mut found = DatasetDetections::default();
        let is_finished =
            with_prefetch(total, PrefetchLimits::AHEAD_OF_NETWORK, load, |images| {
                for (index, image) in images.enumerate() {
                    match image {
                        Ok(image) => {
                            let image_id = dataset.store().image(index).id;
                            let detections = self.detect_with(network, &image);
                            found.rows.extend(detections.into_iter().filter_map(|d| {
                                let category = wanted[classes[d.label]?].id;
                                let row =
                                    ResultRow::new(image_id, category, d.box_in_image, d.score);
                                Some(row)
                            }));
                        }
                        Err(error)
                            if on_bad_image == OnBadImage::Skip && error.is_about_one_image() =>
                        {
                            found.skipped.push(SkippedImage {
                                dataset_index: index,
                                reason: error.to_string(),
                            });
                        }
                        Err(error) => return Err(error),
                    }
                    if progress(index + 1, total).is_break() {
                        return Ok(false);
                    }
                }
                Ok(true)
            })??;
        if let Some(first) = found
            .skipped
            .first()
            .filter(|_| found.skipped.len() == total)
        {
            return Err(ModelError::NoUsableImage {
                images: total,
                first: first.reason.clone(),
            });
        }
        Ok(is_finished.then_some(found))
    }
}
