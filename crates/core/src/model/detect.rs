//! Detection in single images and in datasets.

use image::RgbImage;

use super::{Model, ModelError, ProgressFn, to_device};
use crate::detection::ImageBatch;
use crate::detection::faster_rcnn::FasterRcnn;
use crate::distributed::{DistributedError, Ranks, SharedWork};
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
        let (rank, size) = (self.ranks.rank(), self.ranks.size());
        let own: Vec<usize> = (rank..total).step_by(size).collect();
        let load = |at: usize| dataset.load_image(own[at]);
        let mut found = DatasetDetections::default();
        let mut rows: Vec<(usize, ResultRow)> = Vec::new();
        let mut work = SharedWork::new(&self.ranks, total.div_ceil(size));
        let goes_on = with_prefetch(
            own.len(),
            PrefetchLimits::AHEAD_OF_NETWORK,
            load,
            |images| -> Result<bool, ModelError> {
                for (at, image) in images.enumerate() {
                    let index = own[at];
                    match image {
                        Ok(image) => {
                            let image_id = dataset.store().image(index).id;
                            let detections = self.detect_with(network, &image);
                            rows.extend(detections.into_iter().filter_map(|d| {
                                let category = wanted[classes[d.label]?].id;
                                let row =
                                    ResultRow::new(image_id, category, d.box_in_image, d.score);
                                Some((index, row))
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
                        Err(error) => return Err(error.into()),
                    }
                    let is_stopped = progress((size * (at + 1)).min(total), total).is_break();
                    if !work.goes_on(is_stopped)? {
                        return Ok(false);
                    }
                }
                Ok(work.finish()?)
            },
        )??;
        if !goes_on {
            return Ok(None);
        }
        found.rows = all_rows(&self.ranks, rows, |index| dataset.store().image(index).id)?;
        found.skipped = all_skipped(&self.ranks, found.skipped)?;
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
        Ok(Some(found))
    }
}

/// Numbers that a row is sent as.
const ROW: usize = 7;

/// Returns the rows of all ranks, in the order of the images. Each row has the index of its image in the dataset.
fn all_rows(
    ranks: &Ranks,
    own: Vec<(usize, ResultRow)>,
    image_id: impl Fn(usize) -> u64,
) -> Result<Vec<ResultRow>, DistributedError> {
    if ranks.is_alone() {
        return Ok(own.into_iter().map(|(_, row)| row).collect());
    }
    let numbers = own.iter().flat_map(|(index, row)| {
        let [x, y, width, height] = row.bbox.map(f64::to_bits);
        let score = row.score.to_bits();
        [*index as u64, row.category_id, x, y, width, height, score]
    });
    let numbers: Vec<u64> = numbers.collect();
    let all = ranks.gather_bytes(bytemuck::cast_slice(&numbers))?;
    let mut rows: Vec<(usize, ResultRow)> = Vec::new();
    for bytes in all {
        let numbers = bytemuck::pod_collect_to_vec::<u8, u64>(&bytes);
        let (found, _) = numbers.as_chunks::<ROW>();
        rows.extend(
            found
                .iter()
                .map(|&[index, category_id, x, y, w, h, score]| {
                    let row = ResultRow {
                        image_id: image_id(index as usize),
                        category_id,
                        bbox: [x, y, w, h].map(f64::from_bits),
                        score: f64::from_bits(score),
                    };
                    (index as usize, row)
                }),
        );
    }
    // Stable: those of one image stay in their order.
    rows.sort_by_key(|(index, _)| *index);
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

/// Returns the skipped images of all ranks, in the order of the dataset.
pub(crate) fn all_skipped(
    ranks: &Ranks,
    own: Vec<SkippedImage>,
) -> Result<Vec<SkippedImage>, DistributedError> {
    let mut all = ranks.gather(own)?.concat();
    all.sort();
    Ok(all)
}
