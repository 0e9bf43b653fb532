//! Where an image lies on the screen.

/// The place of an image in its frame, in points of the screen. Without widgets: a frame has a
/// width and a height, and positions are relative to its corner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Zoom {
    /// Points for each pixel; nothing: as large as fits.
    pub scale: Option<f32>,
    /// The pixel in the middle of the frame, as a share of the image.
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

/// The smallest and largest scale, in points for each pixel.
const SCALES: [f32; 2] = [0.02, 64.0];

impl Zoom {
    /// Points for each pixel in this frame.
    pub fn scale_in(&self, frame: [f32; 2], image: [f32; 2]) -> f32 {
        let fit = (frame[0] / image[0]).min(frame[1] / image[1]);
        self.scale.unwrap_or(fit.max(f32::MIN_POSITIVE))
    }

    /// The image's left top corner in the frame.
    pub fn corner(&self, frame: [f32; 2], image: [f32; 2]) -> [f32; 2] {
        let scale = self.scale_in(frame, image);
        let center = match self.scale {
            Some(_) => self.center,
            None => [0.5, 0.5],
        };
        [0, 1].map(|axis| frame[axis] / 2.0 - center[axis] * image[axis] * scale)
    }

    /// Enlarge around a position in the frame, which keeps its pixel.
    pub fn zoom_at(&mut self, at: [f32; 2], factor: f32, frame: [f32; 2], image: [f32; 2]) {
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

    /// Move the image by so many points.
    pub fn pan(&mut self, by: [f32; 2], frame: [f32; 2], image: [f32; 2]) {
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

    /// All of the image.
    pub fn fit(&mut self) {
        *self = Self::default();
    }

    /// One pixel of the image on one of the screen.
    pub fn true_size(&mut self, points_per_pixel: f32) {
        self.scale = Some(1.0 / points_per_pixel);
    }

    /// The middle of the frame shows some of the image.
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
    fn a_image_fits_at_first_and_lies_in_the_middle() {
        let zoom = Zoom::default();
        assert_eq!(zoom.scale_in(FRAME, IMAGE), 0.25);
        assert_eq!(zoom.corner(FRAME, IMAGE), [50.0, 0.0]);
    }

    #[test]
    fn the_pixel_under_the_pointer_stays_there() {
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
    fn a_image_cannot_be_lost_out_of_sight() {
        let mut zoom = Zoom::default();
        zoom.pan([1e6, -1e6], FRAME, IMAGE);
        assert_eq!(zoom.center, [0.0, 1.0]);
    }
}
