//! Zoom and position of an image on the screen.

use sedet_data::boxes::BoxXyxy;

/// Zoom and position of an image in its frame, in points of the screen. A frame is given as width and
/// height; positions are relative to its top left corner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Zoom {
    /// Points per pixel; `None` fits the image into the frame.
    pub scale: Option<f32>,
    /// The image position at the center of the frame, as fractions of width and height.
    pub center: [f32; 2],
}

impl Default for Zoom {
    fn default() -> Self {
        Self {
            scale: None,
            center: [0.5, 0.5],
        }
    }
}

/// The smallest and the largest scale, in points per pixel.
const SCALES: [f32; 2] = [0.02, 64.0];
/// The share of the frame that a box takes when it is shown, and the largest scale for it: the surroundings of a small
/// box say more than its pixels.
const SHOWN_SHARE: f32 = 0.4;
/// See [`SHOWN_SHARE`].
const SHOWN_SCALE: f32 = 12.0;

impl Zoom {
    /// Returns points per pixel in this frame.
    pub(crate) fn scale_in(&self, frame: [f32; 2], image: [f32; 2]) -> f32 {
        let fit = (frame[0] / image[0]).min(frame[1] / image[1]);
        self.scale.unwrap_or(fit.max(f32::MIN_POSITIVE))
    }

    /// Returns the top left corner of the image in the frame.
    pub fn corner(&self, frame: [f32; 2], image: [f32; 2]) -> [f32; 2] {
        let scale = self.scale_in(frame, image);
        let center = match self.scale {
            Some(_) => self.center,
            None => [0.5, 0.5],
        };
        [0, 1].map(|axis| frame[axis] / 2.0 - center[axis] * image[axis] * scale)
    }

    /// Zooms around a position in the frame, which keeps showing the same pixel.
    pub(crate) fn zoom_at(&mut self, at: [f32; 2], factor: f32, frame: [f32; 2], image: [f32; 2]) {
        let before = self.scale_in(frame, image);
        let corner = self.corner(frame, image);
        let scale = (before * factor).clamp(SCALES[0], SCALES[1]);
        self.scale = Some(scale);
        self.center = [0, 1].map(|axis| {
            let pixel = (at[axis] - corner[axis]) / before;
            (pixel + (frame[axis] / 2.0 - at[axis]) / scale) / image[axis]
        });
        self.stay_inside();
    }

    /// Moves the image by this many points.
    pub(crate) fn pan(&mut self, by: [f32; 2], frame: [f32; 2], image: [f32; 2]) {
        let scale = self.scale_in(frame, image);
        if self.scale.is_none() {
            self.center = [0.5, 0.5];
            self.scale = Some(scale);
        }
        for axis in [0, 1] {
            self.center[axis] -= by[axis] / scale / image[axis];
        }
        self.stay_inside();
    }

    /// Shows a box of the image, given in pixels, with its surroundings.
    pub(crate) fn show_box(&mut self, of: BoxXyxy, frame: [f32; 2], image: [f32; 2]) {
        self.fit();
        let fit = self.scale_in(frame, image);
        let sides = [of.width(), of.height()];
        let scales = [0, 1].map(|axis| frame[axis] * SHOWN_SHARE / sides[axis].max(1.0));
        let scale = scales[0].min(scales[1]).min(SHOWN_SCALE);
        // A box that fills the image is shown with it.
        if scale > fit {
            self.scale = Some(scale);
            self.center = [
                (of.x1 + of.x2) / 2.0 / image[0],
                (of.y1 + of.y2) / 2.0 / image[1],
            ];
            self.stay_inside();
        }
    }

    /// Fits the image into the frame.
    pub fn fit(&mut self) {
        *self = Self::default();
    }

    /// Maps one pixel of the image to one pixel of the screen.
    pub(crate) fn true_size(&mut self, points_per_pixel: f32) {
        self.scale = Some(1.0 / points_per_pixel);
    }

    /// Keeps the center of the frame inside the image.
    fn stay_inside(&mut self) {
        self.center = self.center.map(|share| share.clamp(0.0, 1.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: [f32; 2] = [200.0, 100.0];
    const IMAGE: [f32; 2] = [400.0, 400.0];

    fn pixel_at(zoom: &Zoom, at: [f32; 2]) -> [f32; 2] {
        let corner = zoom.corner(FRAME, IMAGE);
        let scale = zoom.scale_in(FRAME, IMAGE);
        [0, 1].map(|axis| (at[axis] - corner[axis]) / scale)
    }

    #[test]
    fn an_image_fits_the_frame_and_is_centered_at_first() {
        let zoom = Zoom::default();
        assert_eq!(zoom.scale_in(FRAME, IMAGE), 0.25);
        assert_eq!(zoom.corner(FRAME, IMAGE), [50.0, 0.0]);
    }

    #[test]
    fn zooming_keeps_the_pixel_under_the_pointer() {
        let mut zoom = Zoom::default();
        let at = [80.0, 60.0];
        let before = pixel_at(&zoom, at);
        for factor in [2.0, 1.5, 0.7] {
            zoom.zoom_at(at, factor, FRAME, IMAGE);
            let after = pixel_at(&zoom, at);
            for axis in [0, 1] {
                assert!((before[axis] - after[axis]).abs() < 1e-3);
            }
        }
        zoom.pan([10.0, -5.0], FRAME, IMAGE);
        let moved = pixel_at(&zoom, [90.0, 55.0]);
        assert!((before[0] - moved[0]).abs() < 1e-3 && (before[1] - moved[1]).abs() < 1e-3);
        zoom.fit();
        assert_eq!(zoom, Zoom::default());
    }

    #[test]
    fn a_box_is_shown_in_the_middle_with_its_surroundings() {
        let mut zoom = Zoom::default();
        zoom.show_box(BoxXyxy::new(100.0, 200.0, 180.0, 210.0), FRAME, IMAGE);
        assert_eq!(zoom.scale, Some(1.0), "40 % of the width");
        let middle = pixel_at(&zoom, [100.0, 50.0]);
        assert!((middle[0] - 140.0).abs() < 1e-3 && (middle[1] - 205.0).abs() < 1e-3);
        zoom.show_box(BoxXyxy::new(1.0, 1.0, 2.0, 2.0), FRAME, IMAGE);
        assert_eq!(zoom.scale, Some(12.0));
        zoom.show_box(BoxXyxy::new(0.0, 0.0, 400.0, 390.0), FRAME, IMAGE);
        assert_eq!(zoom, Zoom::default());
    }

    #[test]
    fn an_image_cannot_be_moved_out_of_the_frame() {
        let mut zoom = Zoom::default();
        zoom.pan([1e6, -1e6], FRAME, IMAGE);
        assert_eq!(zoom.center, [0.0, 1.0]);
    }
}
