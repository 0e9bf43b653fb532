//! The box type and the image size, shared by all modules.
//!
//! The name of a variable states the frame of reference of a box: `box_in_image` (pixels
//! of the image with its EXIF orientation applied) or `box_in_input` (pixels of the resized network
//! input). Coordinates are continuous: a box that covers the whole image is `0, 0, width, height`,
//! without the legacy `+ 1`.

use serde::{Deserialize, Serialize};

use crate::text::count;

/// Height and width in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageSize {
    /// Pixels from top to bottom.
    pub height: usize,
    /// Pixels from left to right.
    pub width: usize,
}

impl ImageSize {
    /// Creates a size; height first, as tensors are laid out.
    pub const fn new(height: usize, width: usize) -> Self {
        Self { height, width }
    }

    /// Returns the size with width and height exchanged.
    pub const fn transposed(self) -> Self {
        Self::new(self.width, self.height)
    }
}

impl std::fmt::Display for ImageSize {
    /// Writes the width first: `640x480`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// Largest plausible coordinate in pixels; the largest image that can be decoded has sides of 18,900.
pub(crate) const LARGEST_COORDINATE: f64 = 1e6;

/// Tolerance in pixels; a box that exceeds its image by no more is rounded, or counts from 1. The hundredth is that of
/// fractions with six digits.
pub(crate) const EDGE_TOLERANCE: f64 = 1.01;

/// The side in pixels that a box of a training image has to exceed; torchvision's limit. Boxes of zero size make the box
/// coder divide by zero.
pub(crate) const MIN_TARGET_SIDE: f32 = 1.0;

/// An axis-aligned box, top-left and bottom-right corner, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct BoxXyxy {
    /// Left edge.
    pub x1: f32,
    /// Top edge.
    pub y1: f32,
    /// Right edge.
    pub x2: f32,
    /// Bottom edge.
    pub y2: f32,
}

/// Returns the upright box around a box, both `[x, y, width, height]`, that is rotated about its center.
pub(crate) fn around_rotated([x, y, w, h]: [f64; 4], degrees: f64) -> [f64; 4] {
    let (sin, cos) = degrees.to_radians().sin_cos();
    let (sin, cos) = (sin.abs(), cos.abs());
    let (width, height) = (w * cos + h * sin, w * sin + h * cos);
    let around = [x + (w - width) / 2.0, y + (h - height) / 2.0, width, height];
    // A ten-thousandth of a pixel, so that messages show no digits without a meaning.
    around.map(|value| (value * 1e4).round() / 1e4)
}

/// Describes boxes that were replaced by the upright ones [around them](around_rotated).
pub(crate) fn described_rotated(boxes: usize) -> Option<String> {
    (boxes > 0).then(|| {
        let boxes = count(boxes, "box");
        format!("{boxes} with a `rotation`, as CVAT writes it: the upright boxes around the rotated ones are used")
    })
}

impl BoxXyxy {
    /// Creates a box from its top-left and bottom-right corners.
    pub const fn new(x1: f32, y1: f32, x2: f32, y2: f32) -> Self {
        Self { x1, y1, x2, y2 }
    }

    /// Converts from COCO's `[x, y, width, height]`.
    pub fn from_xywh([x, y, width, height]: [f32; 4]) -> Self {
        Self::new(x, y, x + width, y + height)
    }

    /// Converts to COCO's `[x, y, width, height]`.
    pub fn to_xywh(self) -> [f32; 4] {
        [self.x1, self.y1, self.width(), self.height()]
    }

    /// Returns the width; negative when the corners are swapped.
    #[inline(always)] // see `iou`
    pub fn width(self) -> f32 {
        self.x2 - self.x1
    }

    /// Returns the height; negative when the corners are swapped.
    #[inline(always)] // see `iou`
    pub fn height(self) -> f32 {
        self.y2 - self.y1
    }

    /// Returns width times height, as torchvision's `box_area`.
    #[inline(always)] // see `iou`
    pub fn area(self) -> f32 {
        self.width() * self.height()
    }

    /// Returns whether both sides are at least `min_side` and all coordinates are finite.
    pub fn has_sides_of(self, min_side: f32) -> bool {
        self.is_finite() && self.width() >= min_side && self.height() >= min_side
    }

    /// Returns whether both sides are larger than `min_side` and all coordinates are finite.
    pub(crate) fn exceeds_sides_of(self, min_side: f32) -> bool {
        self.is_finite() && self.width() > min_side && self.height() > min_side
    }

    /// Returns whether no coordinate is NaN or infinite.
    pub fn is_finite(self) -> bool {
        [self.x1, self.y1, self.x2, self.y2]
            .iter()
            .all(|v| v.is_finite())
    }

    /// Returns whether a coordinate is NaN, infinite or implausible, or a side is negative.
    pub fn is_invalid(self) -> bool {
        let values = self.to_xywh();
        let is_plausible = |value: f32| f64::from(value).abs() <= LARGEST_COORDINATE;
        !values.into_iter().all(is_plausible) || self.width() < 0.0 || self.height() < 0.0
    }

    /// Returns whether no part of the box is in an image.
    pub(crate) fn is_outside(self, size: ImageSize) -> bool {
        let (w, h) = (size.width as f32, size.height as f32);
        self.x1 >= w || self.y1 >= h || self.x2 <= 0.0 || self.y2 <= 0.0
    }

    /// Clips the box to an image, as torchvision's `clip_boxes_to_image`.
    pub fn clip(self, size: ImageSize) -> Self {
        let (w, h) = (size.width as f32, size.height as f32);
        Self::new(
            self.x1.clamp(0.0, w),
            self.y1.clamp(0.0, h),
            self.x2.clamp(0.0, w),
            self.y2.clamp(0.0, h),
        )
    }

    /// Scales the box by one factor per axis.
    pub fn scale(self, x: f32, y: f32) -> Self {
        Self::new(self.x1 * x, self.y1 * y, self.x2 * x, self.y2 * y)
    }

    /// Mirrors the box left-right inside an image of this width.
    pub(crate) fn flip_horizontal(self, image_width: f32) -> Self {
        Self::new(
            image_width - self.x2,
            self.y1,
            image_width - self.x1,
            self.y2,
        )
    }

    /// Returns the area of the intersection, zero when the boxes do not touch.
    #[inline(always)] // see `iou`
    pub fn intersection(self, other: Self) -> f32 {
        let w = (self.x2.min(other.x2) - self.x1.max(other.x1)).max(0.0);
        let h = (self.y2.min(other.y2) - self.y1.max(other.y1)).max(0.0);
        w * h
    }

    /// Returns the intersection over union, with the operations in torchvision's `box_iou` order; zero instead
    /// of NaN when both boxes are empty.
    // Inlined, as the functions that it calls, because a loop is compiled for the vectors of the CPU only with them.
    #[inline(always)]
    pub fn iou(self, other: Self) -> f32 {
        let inter = self.intersection(other);
        let union = self.area() + other.area() - inter;
        if union > 0.0 { inter / union } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_box() -> impl Strategy<Value = BoxXyxy> {
        (0.0f32..900.0, 0.0f32..900.0, 0.1f32..400.0, 0.1f32..400.0)
            .prop_map(|(x, y, w, h)| BoxXyxy::from_xywh([x, y, w, h]))
    }

    proptest! {
        #[test]
        fn iou_is_symmetric_and_between_zero_and_one(a in any_box(), b in any_box()) {
            let (ab, ba) = (a.iou(b), b.iou(a));
            prop_assert!((0.0..=1.0 + 1e-5).contains(&ab));
            prop_assert!((ab - ba).abs() < 1e-6);
        }

        #[test]
        fn a_box_has_an_iou_of_one_with_itself(a in any_box()) {
            prop_assert!((a.iou(a) - 1.0).abs() < 1e-3);
        }

        #[test]
        fn flipping_twice_gives_the_box_back(a in any_box(), width in 1.0f32..2000.0) {
            let back = a.flip_horizontal(width).flip_horizontal(width);
            prop_assert!((back.x1 - a.x1).abs() < 1e-3 && (back.x2 - a.x2).abs() < 1e-3);
        }

        #[test]
        fn clipping_never_leaves_the_image(a in any_box()) {
            let c = a.clip(ImageSize::new(300, 500));
            prop_assert!(c.x1 >= 0.0 && c.x2 <= 500.0 && c.y1 >= 0.0 && c.y2 <= 300.0);
        }

        #[test]
        fn coco_boxes_survive_the_round_trip(a in any_box()) {
            let back = BoxXyxy::from_xywh(a.to_xywh());
            prop_assert!((back.x2 - a.x2).abs() < 1e-3 && (back.y2 - a.y2).abs() < 1e-3);
        }
    }

    #[test]
    fn the_box_around_a_rotated_one_encloses_its_corners_and_has_its_center() {
        let near = |found: [f64; 4], expected: [f64; 4]| {
            let differs = found
                .iter()
                .zip(expected)
                .any(|(a, b)| (a - b).abs() > 1e-4);
            assert!(!differs, "{found:?} instead of {expected:?}");
        };
        let wide = [10.0, 20.0, 40.0, 10.0];
        near(around_rotated(wide, 0.0), wide);
        near(around_rotated(wide, 180.0), wide);
        near(around_rotated(wide, 90.0), [25.0, 5.0, 10.0, 40.0]);
        near(around_rotated(wide, -270.0), [25.0, 5.0, 10.0, 40.0]);
        // 40 sin 30 + 10 cos 30 = 28.66; 40 cos 30 + 10 sin 30 = 39.64
        let [x, y, w, h] = around_rotated(wide, 30.0);
        near(
            [x + w / 2.0, y + h / 2.0, w, h],
            [30.0, 25.0, 39.6410, 28.6603],
        );
        near(around_rotated(wide, 330.0), [x, y, w, h]);
    }

    #[test]
    fn the_iou_of_two_empty_boxes_is_zero_instead_of_nan() {
        let empty = BoxXyxy::new(5.0, 5.0, 5.0, 5.0);
        assert_eq!(empty.iou(empty), 0.0);
    }
}
