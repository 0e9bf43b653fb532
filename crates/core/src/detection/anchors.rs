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
    /// Detectron's anchors: whole pixels for an anchor as large as the stride, multiplied by the
    /// quotient of size and stride. With size 32, stride 4 and ratio 0.5 the anchor is 48 x 24 instead of
    /// 45.3 x 22.6. Requires `strides`.
    #[serde(default, skip_serializing_if = "is_false")]
    #[schemars(!skip_serializing_if)]
    pub quantized: bool,
    /// Distance from the corner of a grid cell to the center of its anchors, in strides: 0 is
    /// torchvision's and detectron2's, 0.5 Detectron's (detectron2's `ANCHOR_GENERATOR.OFFSET`). Requires
    /// `strides`.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(!skip_serializing_if)]
    pub offset: f32,
}

fn is_false(value: &bool) -> bool {
    !*value
}

fn is_zero(value: &f32) -> bool {
    *value == 0.0
}

impl Default for AnchorConfig {
    /// torchvision's `fasterrcnn_resnet50_fpn`: 32..512 on P2..P6, ratios 0.5, 1, 2.
    fn default() -> Self {
        Self {
            sizes: vec![32.0, 64.0, 128.0, 256.0, 512.0],
            aspect_ratios: vec![0.5, 1.0, 2.0],
            rounded: true,
            strides: None,
            quantized: false,
            offset: 0.0,
        }
    }
}

impl std::fmt::Display for AnchorConfig {
    /// Writes the anchors as they are said: `sizes 32, 64 and ratios 0.5, 1, 2`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |numbers: &[f32]| {
            let numbers = numbers.iter().map(f32::to_string);
            numbers.collect::<Vec<_>>().join(", ")
        };
        let (sizes, ratios) = (list(&self.sizes), list(&self.aspect_ratios));
        write!(f, "sizes {sizes} and ratios {ratios}")
    }
}

impl AnchorConfig {
    /// Returns the number of anchors per grid location.
    pub(crate) fn per_location(&self) -> usize {
        self.aspect_ratios.len()
    }

    /// Returns the anchors of the first grid cell of a level, in the order of the ratios.
    pub fn cell_anchors(&self, level: usize) -> Vec<BoxXyxy> {
        let stride = self.stride(level);
        let center = stride.map_or(0.0, |stride| self.offset * stride);
        self.aspect_ratios
            .iter()
            .map(|ratio| {
                let [width, height] = match stride {
                    Some(stride) if self.quantized => {
                        // Half to even, as numpy.round does.
                        let width = (stride / ratio.sqrt()).round_ties_even();
                        let height = (width * ratio).round_ties_even();
                        [width, height].map(|side| side * (self.sizes[level] / stride))
                    }
                    _ => {
                        let height_ratio = ratio.sqrt();
                        [1.0 / height_ratio, height_ratio].map(|side| side * self.sizes[level])
                    }
                };
                let corners = [-width / 2.0, -height / 2.0, width / 2.0, height / 2.0];
                let corners = corners.map(|corner| corner + center);
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

    /// Returns the fixed distance between the anchors of a level, in input pixels.
    fn stride(&self, level: usize) -> Option<f32> {
        let stride = self.strides.as_ref()?.get(level)?;
        Some(*stride as f32)
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
                let fixed = self.stride(level);
                let stride =
                    |padded: usize, grid: usize| fixed.unwrap_or_else(|| (padded / grid) as f32);
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
