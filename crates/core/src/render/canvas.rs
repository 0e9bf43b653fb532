//! Filling and writing on an RGB image, always inside it.

use ab_glyph::{Font, FontRef, PxScale, ScaleFont};
use image::{Rgb as Pixel, RgbImage};

use super::palette::Rgb;

/// A rectangle of whole pixels; the right and bottom edges are outside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PixelRect {
    pub left: i64,
    pub top: i64,
    pub right: i64,
    pub bottom: i64,
}

impl PixelRect {
    pub fn of_image(image: &RgbImage) -> Self {
        Self {
            left: 0,
            top: 0,
            right: image.width().into(),
            bottom: image.height().into(),
        }
    }

    pub fn with_size(left: i64, top: i64, width: i64, height: i64) -> Self {
        Self {
            left,
            top,
            right: left + width,
            bottom: top + height,
        }
    }

    pub fn width(self) -> i64 {
        self.right - self.left
    }

    pub fn height(self) -> i64 {
        self.bottom - self.top
    }

    /// Smaller by this on every side.
    pub fn shrunk(self, by: i64) -> Self {
        Self {
            left: self.left + by,
            top: self.top + by,
            right: self.right - by,
            bottom: self.bottom - by,
        }
    }

    pub fn overlap(self, other: Self) -> Self {
        Self {
            left: self.left.max(other.left),
            top: self.top.max(other.top),
            right: self.right.min(other.right),
            bottom: self.bottom.min(other.bottom),
        }
    }

    /// Zero when a side is negative.
    pub fn area(self) -> i64 {
        self.width().max(0) * self.height().max(0)
    }

    #[cfg(test)]
    pub fn contains(self, other: Self) -> bool {
        self.overlap(other) == other
    }

    /// Moved as little as possible so that it lies inside; at the top left when it does not fit.
    pub fn moved_into(self, outer: Self) -> Self {
        let shift = |low: i64, high: i64, outer_low: i64, outer_high: i64| {
            let back = (high - outer_high).max(0);
            (outer_low - (low - back)).max(0) - back
        };
        let dx = shift(self.left, self.right, outer.left, outer.right);
        let dy = shift(self.top, self.bottom, outer.top, outer.bottom);
        Self::with_size(self.left + dx, self.top + dy, self.width(), self.height())
    }
}

/// Mix a color over a rectangle, `opacity` from 0 to 1; what is outside the image is left away.
pub(super) fn fill(image: &mut RgbImage, rect: PixelRect, color: Rgb, opacity: f32) {
    let rect = rect.overlap(PixelRect::of_image(image));
    for y in rect.top..rect.bottom {
        for x in rect.left..rect.right {
            mix(image.get_pixel_mut(x as u32, y as u32), color, opacity);
        }
    }
}

/// A frame of this thickness inside the rectangle's edge.
pub(super) fn frame(
    image: &mut RgbImage,
    rect: PixelRect,
    thickness: i64,
    color: Rgb,
    opacity: f32,
) {
    for strip in frame_strips(rect, thickness) {
        fill(image, strip, color, opacity);
    }
}

/// Top, bottom, left, right; no pixel twice, so that they can be mixed over.
fn frame_strips(rect: PixelRect, thickness: i64) -> [PixelRect; 4] {
    let PixelRect {
        left,
        top,
        right,
        bottom,
    } = rect;
    let inner_top = (top + thickness).min(bottom);
    let inner_bottom = (bottom - thickness).max(inner_top);
    let inner_left = (left + thickness).min(right);
    let inner_right = (right - thickness).max(inner_left);
    let part = |left, top, right, bottom| PixelRect {
        left,
        top,
        right,
        bottom,
    };
    [
        part(left, top, right, inner_top),
        part(left, inner_bottom, right, bottom),
        part(left, inner_top, inner_left, inner_bottom),
        part(inner_right, inner_top, right, inner_bottom),
    ]
}

/// A frame in dashes that begin and end at the corners, so that these stay visible.
pub(super) fn dashed_frame(
    image: &mut RgbImage,
    rect: PixelRect,
    thickness: i64,
    dash: i64,
    color: Rgb,
) {
    for drawn in dashes(rect, thickness, dash) {
        fill(image, drawn, color, 1.0);
    }
}

/// The dashes of a [`dashed_frame`].
pub(super) fn dashes(rect: PixelRect, thickness: i64, dash: i64) -> Vec<PixelRect> {
    let mut dashes = Vec::new();
    for strip in frame_strips(rect, thickness) {
        // The upright strips of the frame start below the corners; dash them over the whole side.
        let horizontal = strip.width() > strip.height();
        let (start, end) = if horizontal {
            (rect.left, rect.right)
        } else {
            (rect.top, rect.bottom)
        };
        let length = end - start;
        // An odd number of equal pieces, every second one drawn.
        let pieces = (length / dash.max(1)).max(1);
        let pieces = pieces + 1 - pieces % 2;
        for piece in (0..pieces).step_by(2) {
            let from = start + length * piece / pieces;
            let to = start + length * (piece + 1) / pieces;
            let drawn = if horizontal {
                PixelRect {
                    left: from,
                    right: to,
                    ..strip
                }
            } else {
                PixelRect {
                    top: from.max(strip.top),
                    bottom: to.min(strip.bottom),
                    ..strip
                }
            };
            dashes.push(drawn);
        }
    }
    dashes
}

fn mix(pixel: &mut Pixel<u8>, color: Rgb, opacity: f32) {
    for (channel, new) in pixel.0.iter_mut().zip(color) {
        let value = f32::from(*channel) * (1.0 - opacity) + f32::from(new) * opacity;
        *channel = value.round() as u8;
    }
}

/// The font of all images, at one size.
#[derive(Clone)]
pub(super) struct Lettering {
    font: FontRef<'static>,
    scale: PxScale,
}

impl Lettering {
    /// `height` is from the top of the highest to the bottom of the lowest letter, in pixels.
    pub fn new(height: f32) -> Self {
        Self {
            font: FontRef::try_from_slice(dejavu::sans::bold())
                .expect("the font is part of the program and is read in a test"),
            scale: PxScale::from(height),
        }
    }

    /// Pixels from left to right.
    pub fn width(&self, text: &str) -> i64 {
        i64::from(imageproc::drawing::text_size(self.scale, &self.font, text).0)
    }

    /// Pixels from the top of a line to its bottom.
    pub fn line_height(&self) -> i64 {
        self.font.as_scaled(self.scale).height().ceil() as i64
    }

    /// The side of the square that letters are designed in, in pixels: the size of a font in CSS.
    pub fn em(&self) -> f32 {
        let units = self.font.units_per_em().unwrap_or(1.0);
        self.scale.y * units / self.font.height_unscaled()
    }

    /// Where letters stand that [`write`](Self::write) writes into this rectangle.
    pub fn baseline(&self, rect: PixelRect) -> f32 {
        self.top_of_line(rect) + self.font.as_scaled(self.scale).ascent()
    }

    fn top_of_line(&self, rect: PixelRect) -> f32 {
        let middle = (rect.top + rect.bottom) as f32 / 2.0;
        (middle - self.middle()).round()
    }

    /// How far the middle of a capital letter lies below the top of its line.
    fn middle(&self) -> f32 {
        const CAPITAL_TO_ASCENT: f32 = 0.78;
        let ascent = self.font.as_scaled(self.scale).ascent();
        ascent * (1.0 - CAPITAL_TO_ASCENT / 2.0)
    }

    /// The longest beginning that fits the width, with an ellipsis when it is not all.
    pub fn fitted(&self, text: &str, width: i64) -> String {
        if self.width(text) <= width {
            return text.to_owned();
        }
        let mut shorter: Vec<char> = text.chars().collect();
        while shorter.pop().is_some() {
            let candidate: String = shorter.iter().collect();
            let candidate = format!("{}…", candidate.trim_end());
            if self.width(&candidate) <= width {
                return candidate;
            }
        }
        String::new()
    }

    /// Write one line with its capitals upright in the middle of the rectangle.
    pub fn write(
        &self,
        image: &mut RgbImage,
        rect: PixelRect,
        margin: i64,
        text: &str,
        color: Rgb,
    ) {
        imageproc::drawing::draw_text_mut(
            image,
            Pixel(color),
            (rect.left + margin) as i32,
            self.top_of_line(rect) as i32,
            self.scale,
            &self.font,
            text,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rect(left: i64, top: i64, right: i64, bottom: i64) -> PixelRect {
        PixelRect {
            left,
            top,
            right,
            bottom,
        }
    }

    #[test]
    fn a_frame_mixes_every_pixel_once() {
        let mut image = RgbImage::new(9, 7);
        frame(&mut image, rect(1, 1, 8, 6), 2, [200; 3], 0.5);
        for (x, y, pixel) in image.enumerate_pixels() {
            let outside = !(1..8).contains(&x) || !(1..6).contains(&y);
            let inside = (3..6).contains(&x) && (3..4).contains(&y);
            let wanted = if outside || inside { 0 } else { 100 };
            assert_eq!(pixel.0, [wanted; 3], "{x},{y}");
        }
    }

    #[test]
    fn dashes_touch_all_corners_and_leave_gaps() {
        let mut image = RgbImage::new(40, 30);
        dashed_frame(&mut image, rect(0, 0, 40, 30), 1, 4, [255; 3]);
        for (x, y) in [(0, 0), (39, 0), (0, 29), (39, 29)] {
            assert_eq!(image.get_pixel(x, y).0, [255; 3]);
        }
        let top = (0..40)
            .filter(|&x| image.get_pixel(x, 0).0 == [255; 3])
            .count();
        assert!((16..=26).contains(&top), "{top} of 40 pixels are drawn");
    }

    #[test]
    fn text_is_cut_to_its_width() {
        let letters = Lettering::new(14.0);
        let text = "a rather long class name 0.93";
        assert_eq!(letters.fitted(text, 1000), text);
        let cut = letters.fitted(text, 60);
        assert!(cut.ends_with('…') && letters.width(&cut) <= 60, "{cut}");
        assert_eq!(letters.fitted(text, 2), "");
    }

    proptest! {
        #[test]
        fn a_moved_rectangle_lies_inside_when_it_fits(
            left in -500i64..500, top in -500i64..500, width in 0i64..100, height in 0i64..80,
        ) {
            let outer = rect(0, 0, 100, 80);
            let moved = PixelRect::with_size(left, top, width, height).moved_into(outer);
            prop_assert!(outer.contains(moved) || moved.area() == 0);
            prop_assert!(moved.left >= 0 && moved.right <= 100);
            prop_assert!(moved.top >= 0 && moved.bottom <= 80);
        }

        #[test]
        fn drawing_outside_the_image_never_crashes(
            left in -90i64..90, top in -90i64..90, right in -90i64..90, bottom in -90i64..90,
            thickness in 0i64..9,
        ) {
            let mut image = RgbImage::new(20, 20);
            frame(&mut image, rect(left, top, right, bottom), thickness, [9; 3], 1.0);
            dashed_frame(&mut image, rect(left, top, right, bottom), thickness, 3, [9; 3]);
        }
    }
}
