//! Anchor recall: whether anchors can match the boxes of a dataset.

use super::anchors::AnchorConfig;
use sedet_data::boxes::{BoxXyxy, ImageSize};

/// Stride of P2 in input pixels; each further level doubles it.
const FINEST_STRIDE: usize = 4;

/// Returns the best IoU of any anchor of a padded input with a box.
///
/// It does not search the grid: at each level and shape, the best anchor is the one whose center is
/// nearest to the center of the box in each direction, because moving away never increases the IoU.
pub fn best_iou(anchors: &AnchorConfig, padded: ImageSize, box_in_input: BoxXyxy) -> f32 {
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
        ) {
            let anchors = AnchorConfig {
                rounded,
                strides: fixed.then(|| vec![4, 8, 16, 32, 64]),
                ..AnchorConfig::default()
            };
            let padded = ImageSize::new(32 * rows, 32 * columns);
            let target = BoxXyxy::from_xywh([x, y, w, h]);
            let (fast, slow) = (best_iou(&anchors, padded, target), by_search(&anchors, padded, target));
            prop_assert!((fast - slow).abs() < 1e-5, "{} {}", fast, slow);
        }
    }
}
