//! Drawing rectangles and text on a surface: the pixels of an image here, an SVG in [`svg`](super::svg).

use ab_glyph::{Font, FontRef, PxScale, ScaleFont};
use image::{Rgb as Pixel, RgbImage};

use super::palette::Rgb;

/// A rectangle of whole pixels; the right and bottom edges are exclusive.
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

    /// Returns the rectangle reduced on every side.
    pub fn shrunk(self, by: i64) -> Self {
        Self {
            left: self.left + by,
            top: self.top + by,
            right: self.right - by,
            bottom: self.bottom - by,
        }
    }

    pub fn intersection(self, other: Self) -> Self {
        Self {
            left: self.left.max(other.left),
            top: self.top.max(other.top),
            right: self.right.min(other.right),
            bottom: self.bottom.min(other.bottom),
        }
    }

    /// Returns the area; 0 if a side is negative.
    pub fn area(self) -> i64 {
        self.width().max(0) * self.height().max(0)
    }

    #[cfg(test)]
    pub fn contains(self, other: Self) -> bool {
        self.intersection(other) == other
    }

    /// Moves the rectangle as little as possible to be inside `outer`; to its top left corner if it does not fit.
    pub(crate) fn moved_into(self, outer: Self) -> Self {
        let shift = |low: i64, high: i64, outer_low: i64, outer_high: i64| {
            let back = (high - outer_high).max(0);
            (outer_low - (low - back)).max(0) - back
        };
        let dx = shift(self.left, self.right, outer.left, outer.right);
        let dy = shift(self.top, self.bottom, outer.top, outer.bottom);
        Self::with_size(self.left + dx, self.top + dy, self.width(), self.height())
    }
}

/// A target of drawing. Whatever is outside of it is clipped.
pub(super) trait Surface {
    /// Blends a color over a rectangle, `opacity` from 0 to 1.
    fn fill(&mut self, rect: PixelRect, color: Rgb, opacity: f32);

    /// Blends a frame of this thickness inside the edge of a rectangle.
    fn frame(&mut self, rect: PixelRect, thickness: i64, color: Rgb, opacity: f32);

    /// Draws a dashed frame whose dashes begin and end at the corners.
    fn dashed_frame(&mut self, rect: PixelRect, thickness: i64, dash: i64, color: Rgb);

    /// Draws one line of text, vertically centered in a rectangle, at a distance from its left edge.
    fn text(&mut self, font: &LabelFont, rect: PixelRect, margin: i64, text: &str, color: Rgb);
}

impl Surface for RgbImage {
    fn fill(&mut self, rect: PixelRect, color: Rgb, opacity: f32) {
        let rect = rect.intersection(PixelRect::of_image(self));
        for y in rect.top..rect.bottom {
            for x in rect.left..rect.right {
                blend(self.get_pixel_mut(x as u32, y as u32), color, opacity);
            }
        }
    }

    fn frame(&mut self, rect: PixelRect, thickness: i64, color: Rgb, opacity: f32) {
        for strip in frame_strips(rect, thickness) {
            self.fill(strip, color, opacity);
        }
    }

    fn dashed_frame(&mut self, rect: PixelRect, thickness: i64, dash: i64, color: Rgb) {
        for drawn in dashes(rect, thickness, dash) {
            self.fill(drawn, color, 1.0);
        }
    }

    fn text(&mut self, font: &LabelFont, rect: PixelRect, margin: i64, text: &str, color: Rgb) {
        imageproc::drawing::draw_text_mut(
            self,
            Pixel(color),
            (rect.left + margin) as i32,
            font.top_of_line(rect) as i32,
            font.scale,
            &font.font,
            text,
        );
    }
}

/// Returns the top, bottom, left and right strip of a frame. They do not overlap, so that each pixel is blended
/// once.
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

/// Returns the rectangles of a [dashed frame](Surface::dashed_frame).
pub(super) fn dashes(rect: PixelRect, thickness: i64, dash: i64) -> Vec<PixelRect> {
    let mut dashes = Vec::new();
    for strip in frame_strips(rect, thickness) {
        // The vertical strips exclude the corners; their dashes are those of the whole side.
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

/// Blends a color over a pixel, `opacity` from 0 to 1.
pub(super) fn blend(pixel: &mut Pixel<u8>, color: Rgb, opacity: f32) {
    for (channel, new) in pixel.0.iter_mut().zip(color) {
        let value = f32::from(*channel) * (1.0 - opacity) + f32::from(new) * opacity;
        *channel = value.round() as u8;
    }
}

/// The font of labels and captions at one size.
#[derive(Clone)]
pub(super) struct LabelFont {
    font: FontRef<'static>,
    scale: PxScale,
}

impl LabelFont {
    /// Creates the font. `height` is from the ascender to the descender, in pixels.
    pub fn new(height: f32) -> Self {
        Self {
            font: FontRef::try_from_slice(dejavu::sans::bold())
                .expect("the font is part of the program and is read in a test"),
            scale: PxScale::from(height),
        }
    }

    /// Returns the width of a string in pixels.
    pub fn width(&self, text: &str) -> i64 {
        i64::from(imageproc::drawing::text_size(self.scale, &self.font, text).0)
    }

    /// Returns the height of a line in pixels.
    pub(crate) fn line_height(&self) -> i64 {
        self.font.as_scaled(self.scale).height().ceil() as i64
    }

    /// Returns the em size in pixels, which is the font size of CSS.
    pub(crate) fn em(&self) -> f32 {
        let units = self.font.units_per_em().unwrap_or(1.0);
        self.scale.y * units / self.font.height_unscaled()
    }

    /// Returns the y coordinate of the baseline of text that is centered in a rectangle.
    pub(crate) fn baseline(&self, rect: PixelRect) -> f32 {
        self.top_of_line(rect) + self.font.as_scaled(self.scale).ascent()
    }

    fn top_of_line(&self, rect: PixelRect) -> f32 {
        let middle = (rect.top + rect.bottom) as f32 / 2.0;
        (middle - self.middle()).round()
    }

    /// Returns the distance from the top of a line to the middle of a capital letter.
    fn middle(&self) -> f32 {
        const CAPITAL_TO_ASCENT: f32 = 0.78;
        let ascent = self.font.as_scaled(self.scale).ascent();
        ascent * (1.0 - CAPITAL_TO_ASCENT / 2.0)
    }

    /// Truncates a string to a width, with an ellipsis.
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
    fn a_frame_blends_every_pixel_once() {
        let mut image = RgbImage::new(9, 7);
        image.frame(rect(1, 1, 8, 6), 2, [200; 3], 0.5);
        for (x, y, pixel) in image.enumerate_pixels() {
            let outside = !(1..8).contains(&x) || !(1..6).contains(&y);
            let inside = (3..6).contains(&x) && (3..4).contains(&y);
            let wanted = if outside || inside { 0 } else { 100 };
            assert_eq!(pixel.0, [wanted; 3], "{x},{y}");
        }
    }

    #[test]
    fn dashes_include_all_corners_and_leave_gaps() {
        let mut image = RgbImage::new(40, 30);
        image.dashed_frame(rect(0, 0, 40, 30), 1, 4, [255; 3]);
        for (x, y) in [(0, 0), (39, 0), (0, 29), (39, 29)] {
            assert_eq!(image.get_pixel(x, y).0, [255; 3]);
        }
        let top = (0..40)
            .filter(|&x| image.get_pixel(x, 0).0 == [255; 3])
            .count();
        assert!((16..=26).contains(&top), "{top} of 40 pixels are drawn");
    }

    #[test]
    fn text_is_truncated_to_its_width() {
        let font = LabelFont::new(14.0);
        let text = "a rather long class name 0.93";
        assert_eq!(font.fitted(text, 1000), text);
        let cut = font.fitted(text, 60);
        assert!(cut.ends_with('…') && font.width(&cut) <= 60, "{cut}");
        assert_eq!(font.fitted(text, 2), "");
    }

    proptest! {
        #[test]
        fn a_moved_rectangle_is_inside_if_it_fits(
            left in -500i64..500, top in -500i64..500, width in 0i64..100, height in 0i64..80,
        ) {
            let outer = rect(0, 0, 100, 80);
            let moved = PixelRect::with_size(left, top, width, height).moved_into(outer);
            prop_assert!(outer.contains(moved) || moved.area() == 0);
            prop_assert!(moved.left >= 0 && moved.right <= 100);
            prop_assert!(moved.top >= 0 && moved.bottom <= 80);
        }

        #[test]
        fn drawing_outside_the_image_never_panics(
            left in -90i64..90, top in -90i64..90, right in -90i64..90, bottom in -90i64..90,
            thickness in 0i64..9,
        ) {
            let mut image = RgbImage::new(20, 20);
            image.frame(rect(left, top, right, bottom), thickness, [9; 3], 1.0);
            image.dashed_frame(rect(left, top, right, bottom), thickness, 3, [9; 3]);
        }
    }
}
