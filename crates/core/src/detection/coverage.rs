//! Anchor recall: whether anchors can match the boxes of a dataset.

use rayon::prelude::*;

use super::anchors::AnchorConfig;
use sedet_data::annotations::AnnotationStore;
use sedet_data::boxes::{BoxXyxy, ImageSize};
use sedet_data::datasets::detection::targets;
use sedet_data::loading::transforms::Preprocess;

/// Stride of P2 in input pixels; each further level doubles it.
const FINEST_STRIDE: usize = 4;

/// A box of a dataset as a detector receives it without augmentation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InputBox {
    /// The size of the padded input that the box is in.
    pub padded: ImageSize,
    /// The box in pixels of the input.
    pub box_in_input: BoxXyxy,
}

/// Returns the boxes of a dataset that training uses, in input pixels, in the order of the dataset.
/// `min_side` is that of [`targets`].
pub fn input_boxes(
    store: &AnnotationStore,
    preprocess: &Preprocess,
    min_side: f32,
) -> Vec<InputBox> {
    let boxes = (0..store.image_count())
        .into_par_iter()
        .flat_map_iter(|index| {
            let size = store.image(index).size;
            let input = preprocess.input_size(size);
            let pad = |side: usize| side.next_multiple_of(preprocess.size_divisor);
            let padded = ImageSize::new(pad(input.height), pad(input.width));
            let x = input.width as f32 / size.width as f32;
            let y = input.height as f32 / size.height as f32;
            targets(store, index, min_side).map(move |(found, _)| InputBox {
                padded,
                box_in_input: found.scale(x, y),
            })
        });
    boxes.collect()
}

/// The share of boxes that have an anchor of at least a given IoU.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AnchorRecall {
    /// Number of boxes.
    pub boxes: usize,
    /// Share of the boxes, from 0 to 1, with an anchor of at least IoU 0.5.
    pub at_iou_50: f64,
    /// The same share at IoU 0.7, the RPN's threshold for positive anchors.
    pub at_iou_70: f64,
    /// Mean over the boxes of the IoU with the best anchor.
    pub mean_iou: f64,
}

impl AnchorRecall {
    /// Measures anchors on boxes. Returns none without boxes.
    pub fn of(anchors: &AnchorConfig, boxes: &[InputBox]) -> Option<Self> {
        if boxes.is_empty() {
            return None;
        }
        // Collected first: the order of a parallel sum would change its last bits.
        let ious: Vec<f32> = boxes
            .par_iter()
            .map(|b| best_iou(anchors, b.padded, b.box_in_input))
            .collect();
        let count = ious.len() as f64;
        let share = |least: f32| ious.iter().filter(|iou| **iou >= least).count() as f64 / count;
        Some(Self {
            boxes: ious.len(),
            at_iou_50: share(0.5),
            at_iou_70: share(0.7),
            mean_iou: ious.iter().map(|&iou| f64::from(iou)).sum::<f64>() / count,
        })
    }
}

/// Returns the best IoU of any anchor of a padded input with a box.
///
/// It does not search the grid: at each level and shape, the best anchor is the one whose center is
/// nearest to the center of the box in each direction, because moving away never increases the IoU.
pub(crate) fn best_iou(anchors: &AnchorConfig, padded: ImageSize, box_in_input: BoxXyxy) -> f32 {
    let mut best = 0.0f32;
    for level in 0..anchors.sizes.len() {
        let level_stride = FINEST_STRIDE << level;
        let cells = |side: usize| side.div_ceil(level_stride).max(1);
        let fixed = anchors.strides.as_ref().and_then(|all| all.get(level));
        // As in `AnchorConfig::grid`.
        let stride = |side: usize| fixed.copied().unwrap_or(side / cells(side)) as f32;
        let nearest = |center: f32, side: usize| {
            let last = (cells(side) - 1) as f32;
            let stride = stride(side);
            (center / stride).round().clamp(0.0, last) * stride
        };
        for anchor in anchors.cell_anchors(level) {
            // Rounded corners are not symmetric around the grid location, so use the anchor's center.
            let dx = nearest(
                (box_in_input.x1 + box_in_input.x2 - anchor.x1 - anchor.x2) / 2.0,
                padded.width,
            );
            let dy = nearest(
                (box_in_input.y1 + box_in_input.y2 - anchor.y1 - anchor.y2) / 2.0,
                padded.height,
            );
            let shifted = BoxXyxy::new(
                anchor.x1 + dx,
                anchor.y1 + dy,
                anchor.x2 + dx,
                anchor.y2 + dy,
            );
            best = best.max(shifted.iou(box_in_input));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn by_search(anchors: &AnchorConfig, padded: ImageSize, target: BoxXyxy) -> f32 {
        let grids: Vec<ImageSize> = (0..anchors.sizes.len())
            .map(|level| {
                let stride = 4 << level;
                ImageSize::new(
                    padded.height.div_ceil(stride),
                    padded.width.div_ceil(stride),
                )
            })
            .collect();
        let all = anchors.grid(padded, &grids).into_iter().flatten();
        all.map(|anchor| anchor.iou(target)).fold(0.0, f32::max)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn the_nearest_anchor_is_the_best_of_all(
            (x, y, w, h) in (0.0f32..300.0, 0.0f32..200.0, 0.5f32..260.0, 0.5f32..200.0),
            (rows, columns) in (1usize..8, 1usize..10),
            rounded in any::<bool>(),
            fixed in any::<bool>(),
            quantized in any::<bool>(),
            offset in 0.0f32..1.0,
        ) {
            let anchors = AnchorConfig {
                rounded,
                strides: fixed.then(|| vec![4, 8, 16, 32, 64]),
                quantized,
                offset,
                ..AnchorConfig::default()
            };
            let padded = ImageSize::new(32 * rows, 32 * columns);
            let target = BoxXyxy::from_xywh([x, y, w, h]);
            let (fast, slow) = (best_iou(&anchors, padded, target), by_search(&anchors, padded, target));
            prop_assert!((fast - slow).abs() < 1e-5, "{} {}", fast, slow);
        }
    }
}
