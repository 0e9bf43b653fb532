//! RoIAlign over a feature pyramid: every box is pooled from the level that fits its size.

use burn::tensor::{Device, Int, Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use sedet_data::boxes::BoxXyxy;
use sedet_nn::kernels::roi_align::{RoiAlignOptions, roi_align};

/// Position of the small constant that assigns boxes at a boundary to the coarser level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LevelEpsilon {
    /// Added to the level: `floor(k0 + log2(sqrt(area) / s0) + e)`; torchvision, 1e-6.
    OnLevel(f32),
    /// Added inside the logarithm: `floor(k0 + log2(sqrt(area) / s0 + e))`; detectron2, 1e-8.
    InLog(f32),
}

/// Configuration of pooling; the field names follow torchvision's `MultiScaleRoIAlign`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoiPooler {
    /// Height and width of the output.
    pub output_size: usize,
    /// Sampling points per bin and axis; 0 adapts to the size of the bin.
    pub sampling_ratio: usize,
    /// Shift by half a pixel (detectron2's `ROIAlignV2`).
    pub aligned: bool,
    /// Side of a square box that is pooled from the canonical level (FPN paper, equation 1).
    pub canonical_scale: f32,
    /// The canonical level: 4 is P4.
    pub canonical_level: usize,
    /// Treatment of boxes at a boundary between levels.
    pub level_epsilon: LevelEpsilon,
}

/// The finest level that RoIs are pooled from: P2, stride 4. P6 only feeds the RPN.
const FINEST_LEVEL: usize = 2;

impl RoiPooler {
    /// Returns the index of the level (0 is P2) that a box is pooled from, given `levels` levels.
    pub fn level_of(&self, box_in_input: BoxXyxy, levels: usize) -> usize {
        let ratio = box_in_input.area().max(0.0).sqrt() / self.canonical_scale;
        self.level_of_ratio(ratio, levels)
    }

    /// Returns the level of a box by the side of a square of its area, divided by the canonical scale.
    fn level_of_ratio(&self, ratio: f32, levels: usize) -> usize {
        let k0 = self.canonical_level as f32;
        let level = match self.level_epsilon {
            LevelEpsilon::OnLevel(e) => (k0 + ratio.log2() + e).floor(),
            LevelEpsilon::InLog(e) => (k0 + (ratio + e).log2()).floor(),
        };
        let finest = FINEST_LEVEL as f32;
        // An empty box has log2(0) = -inf and is assigned to the finest level.
        (level.clamp(finest, finest + levels as f32 - 1.0) - finest) as usize
    }

    /// Returns the smallest ratio, as [`level_of`](Self::level_of) computes it from a box, of each level
    /// after the finest: `sqrt(area) / canonical_scale` at or above it is pooled from this level or a
    /// coarser one. Comparing with these numbers needs no logarithm, whose rounding differs between
    /// libraries.
    pub(crate) fn level_thresholds(&self, levels: usize) -> Vec<f32> {
        let smallest = |level| {
            // Floats of 0 and more are in the order of their bits.
            let (mut below, mut reached) = (0, f32::MAX.to_bits());
            while reached - below > 1 {
                let middle = below + (reached - below) / 2;
                if self.level_of_ratio(f32::from_bits(middle), levels) >= level {
                    reached = middle;
                } else {
                    below = middle;
                }
            }
            f32::from_bits(reached)
        };
        (1..levels).map(smallest).collect()
    }

    /// Pools every box of every image, in the order of the images.
    ///
    /// # Shapes
    /// `features` are P2, P3, ..., each `[batch, channels, height, width]`, with strides 4, 8, ...;
    /// `boxes` has one list per image. The output is `[total boxes, channels, output_size,
    /// output_size]`.
    pub fn forward(&self, features: &[Tensor<4>], boxes: &[Vec<BoxXyxy>]) -> Tensor<4> {
        let [_, channels, _, _] = features[0].dims();
        let size = self.output_size;
        let pooled = self.by_level(features, boxes);
        pooled.joined([0, channels, size, size], |pooled| pooled)
    }

    /// Pools every box of every image, grouped by level.
    pub(crate) fn by_level(&self, features: &[Tensor<4>], boxes: &[Vec<BoxXyxy>]) -> PooledLevels {
        let device = features[0].device();
        let total: usize = boxes.iter().map(Vec::len).sum();
        let mut rois_of_level = vec![Vec::new(); features.len()];
        let mut rows_of_level = vec![Vec::new(); features.len()];
        let in_order = boxes
            .iter()
            .enumerate()
            .flat_map(|(image, boxes)| boxes.iter().map(move |b| (image, *b)));
        for (row, (image, b)) in in_order.enumerate() {
            let level = self.level_of(b, features.len());
            rois_of_level[level].extend([image as f32, b.x1, b.y1, b.x2, b.y2]);
            rows_of_level[level].push(row);
        }
        let mut pooled = Vec::new();
        let mut rows = Vec::with_capacity(total);
        for (level, (rois, level_rows)) in rois_of_level.into_iter().zip(rows_of_level).enumerate()
        {
            if level_rows.is_empty() {
                continue;
            }
            let count = level_rows.len();
            rows.extend(level_rows);
            pooled.push(roi_align(
                features[level].clone(),
                Tensor::from_data(TensorData::new(rois, [count, 5]), &plain(&device)),
                RoiAlignOptions {
                    output_size: self.output_size,
                    spatial_scale: 0.25 / (1 << level) as f32,
                    sampling_ratio: self.sampling_ratio,
                    aligned: self.aligned,
                },
            ));
        }
        let mut places = vec![0i64; total];
        for (place, row) in rows.into_iter().enumerate() {
            places[row] = place as i64;
        }
        PooledLevels {
            pooled,
            places,
            device,
        }
    }
}

/// Pooled boxes, grouped by level.
#[derive(Debug)]
pub(crate) struct PooledLevels {
    /// `[boxes, channels, output_size, output_size]` of each level that has boxes.
    pooled: Vec<Tensor<4>>,
    /// Position of each box in the concatenated levels.
    places: Vec<i64>,
    device: Device,
}

impl PooledLevels {
    /// Concatenates the levels, so that [`joined`](Self::joined) maps all boxes at once.
    #[must_use]
    pub(crate) fn merged(mut self) -> Self {
        if self.pooled.len() > 1 {
            self.pooled = vec![Tensor::cat(self.pooled, 0)];
        }
        self
    }

    /// Applies `map` to each level and concatenates the results in the order of the boxes; `empty` is
    /// the shape without boxes. The pooled feature maps of 1000 boxes take 50 MB, so `map` should
    /// reduce them.
    pub fn joined<const D: usize>(
        self,
        empty: [usize; D],
        map: impl Fn(Tensor<4>) -> Tensor<D>,
    ) -> Tensor<D> {
        let count = self.places.len();
        if count == 0 {
            return Tensor::zeros(empty, &self.device);
        }
        let levels: Vec<_> = self.pooled.into_iter().map(map).collect();
        let places = TensorData::new(self.places, [count]);
        let places = Tensor::<1, Int>::from_data(places, &self.device);
        Tensor::cat(levels, 0).select(0, places)
    }
}

/// Returns the device without autodiff; constants created on it are not part of the graph.
fn plain(device: &Device) -> Device {
    if device.is_autodiff() {
        device.clone().inner()
    } else {
        device.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparing_with_the_thresholds_gives_the_level_of_every_box() {
        for (level_epsilon, first) in [
            // Half of the canonical scale, less what the epsilon adds.
            (LevelEpsilon::OnLevel(1e-6), 0.5 * (1.0 - 1e-6)),
            (LevelEpsilon::InLog(1e-8), 0.5),
        ] {
            let pooler = RoiPooler {
                output_size: 7,
                sampling_ratio: 2,
                aligned: false,
                canonical_scale: 224.0,
                canonical_level: 4,
                level_epsilon,
            };
            let thresholds = pooler.level_thresholds(4);
            assert_eq!(thresholds.len(), 3);
            assert!((thresholds[0] - first).abs() < 5e-7, "{thresholds:?}");
            let near = [0.5f32, 1.0, 2.0].map(|ratio| 224.0 * ratio);
            let sides = near
                .into_iter()
                .flat_map(|side| {
                    (-20..=20).map(move |n| f32::from_bits((side.to_bits() as i32 + n) as u32))
                })
                .chain((0..900).map(|n| n as f32 * 0.7));
            for side in sides {
                let found = BoxXyxy::new(0.0, 0.0, side, side);
                let ratio = found.area().sqrt() / 224.0;
                let above = thresholds.iter().filter(|t| ratio >= **t).count();
                assert_eq!(above, pooler.level_of(found, 4), "{side}");
            }
        }
    }
}
