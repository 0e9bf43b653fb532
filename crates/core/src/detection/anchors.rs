//! Anchors: the fixed boxes that the RPN refines.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use sedet_data::boxes::{BoxXyxy, ImageSize};

/// Configuration of the anchors of a feature pyramid: one size per level, the same ratios on each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnchorConfig {
    /// Side of the square anchor of each level, in input pixels, finest first.
    pub sizes: Vec<f32>,
    /// Ratios of height to width.
    pub aspect_ratios: Vec<f32>,
    /// torchvision rounds the corners of the base anchors to whole pixels; detectron2 does not.
    pub rounded: bool,
    /// Distance between anchors on each level in input pixels. Without it, it is torchvision's: the
    /// integer quotient of the sizes of padded input and feature map. They differ on P6, whose size is
    /// rounded up: for an input of 224 pixels it has 4 rows, 56 pixels apart in torchvision, 64 in
    /// detectron2.
    #[serde(default)]
    pub strides: Option<Vec<usize>>,
}

impl Default for AnchorConfig {
    /// torchvision's `fasterrcnn_resnet50_fpn`: 32..512 on P2..P6, ratios 0.5, 1, 2.
    fn default() -> Self {
        Self {
            sizes: vec![32.0, 64.0, 128.0, 256.0, 512.0],
            aspect_ratios: vec![0.5, 1.0, 2.0],
            rounded: true,
            strides: None,
        }
    }
}

impl AnchorConfig {
    /// Returns the number of anchors per grid location.
    pub fn per_location(&self) -> usize {
        self.aspect_ratios.len()
    }

    /// Returns the anchors of one level centered at the origin, in the order of the ratios.
    pub fn cell_anchors(&self, level: usize) -> Vec<BoxXyxy> {
        self.aspect_ratios
            .iter()
            .map(|ratio| {
                let height_ratio = ratio.sqrt();
                let width = (1.0 / height_ratio) * self.sizes[level];
                let height = height_ratio * self.sizes[level];
                let corners = [-width / 2.0, -height / 2.0, width / 2.0, height / 2.0];
                // Half to even, as torch.round does.
                let [x1, y1, x2, y2] = if self.rounded {
                    corners.map(f32::round_ties_even)
                } else {
                    corners
                };
                BoxXyxy::new(x1, y1, x2, y2)
            })
            .collect()
    }

    /// Returns all anchors of a padded input by level; within a level row by row, then by ratio.
    ///
    /// `grid_sizes` are the sizes of the feature maps.
    pub fn grid(&self, padded: ImageSize, grid_sizes: &[ImageSize]) -> Vec<Vec<BoxXyxy>> {
        grid_sizes
            .iter()
            .enumerate()
            .map(|(level, grid)| {
                let cell = self.cell_anchors(level);
                let fixed = self.strides.as_ref().and_then(|strides| strides.get(level));
                let stride = |padded: usize, grid: usize| match fixed {
                    Some(stride) => *stride as f32,
                    None => (padded / grid) as f32,
                };
                let stride_y = stride(padded.height, grid.height);
                let stride_x = stride(padded.width, grid.width);
                let mut anchors = Vec::with_capacity(grid.height * grid.width * cell.len());
                for row in 0..grid.height {
                    for column in 0..grid.width {
                        let (dx, dy) = (column as f32 * stride_x, row as f32 * stride_y);
                        anchors.extend(
                            cell.iter()
                                .map(|a| BoxXyxy::new(a.x1 + dx, a.y1 + dy, a.x2 + dx, a.y2 + dy)),
                        );
                    }
                }
                anchors
            })
            .collect()
    }
}
