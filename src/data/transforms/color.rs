//! Colour jitter with torchvision's meaning of the four strengths.

use image::RgbImage;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// How far colours may move; 0 switches a change off.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct ColorJitter {
    /// Factor drawn from `1 - b ..= 1 + b`.
    pub brightness: f32,
    /// Likewise, towards the mean grey of the picture.
    pub contrast: f32,
    /// Likewise, towards the grey of each pixel.
    pub saturation: f32,
    /// Turn of the colour circle, at most 0.5.
    pub hue: f32,
}

/// ITU-R 601 luma, as Pillow and torchvision weigh it.
fn luma([r, g, b]: [f32; 3]) -> f32 {
    0.299 * r + 0.587 * g + 0.114 * b
}

impl ColorJitter {
    /// Change the colours in place: brightness, contrast, saturation, hue, in this order
    /// (torchvision shuffles the order; the effect on training is the same).
    pub fn apply(&self, image: &mut RgbImage, rng: &mut ChaCha8Rng) {
        let mut factor = |strength: f32| -> f32 {
            if strength > 0.0 {
                rng.random_range((1.0 - strength).max(0.0)..=1.0 + strength)
            } else {
                1.0
            }
        };
        let (brightness, contrast, saturation) = (
            factor(self.brightness),
            factor(self.contrast),
            factor(self.saturation),
        );
        let hue = if self.hue > 0.0 {
            rng.random_range(-self.hue..=self.hue)
        } else {
            0.0
        };
        if brightness == 1.0 && contrast == 1.0 && saturation == 1.0 && hue == 0.0 {
            return;
        }
        let count = (image.width() * image.height()).max(1) as f32;
        let mean = image
            .pixels()
            .map(|p| luma(p.0.map(f32::from)))
            .sum::<f32>()
            * brightness
            / count;
        let turn = hue_matrix(hue);
        for pixel in image.pixels_mut() {
            let mut c = pixel.0.map(|v| f32::from(v) * brightness);
            c = c.map(|v| mean + (v - mean) * contrast);
            let grey = luma(c);
            c = c.map(|v| grey + (v - grey) * saturation);
            if hue != 0.0 {
                c = turn.map(|row| row[0] * c[0] + row[1] * c[1] + row[2] * c[2]);
            }
            pixel.0 = c.map(|v| v.round().clamp(0.0, 255.0) as u8);
        }
    }
}

/// A turn around the grey axis of the colour cube: torchvision's hue shift without the way
/// through HSV, and smooth where HSV has corners.
fn hue_matrix(turn: f32) -> [[f32; 3]; 3] {
    let (sin, cos) = (turn * std::f32::consts::TAU).sin_cos();
    let third = (1.0 - cos) / 3.0;
    let root = sin / 3.0f32.sqrt();
    [
        [cos + third, third - root, third + root],
        [third + root, cos + third, third - root],
        [third - root, third + root, cos + third],
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;
    use rand::SeedableRng;

    #[test]
    fn without_strength_nothing_changes() {
        let mut image = RgbImage::from_fn(8, 8, |x, y| Rgb([x as u8 * 9, y as u8 * 7, 40]));
        let before = image.clone();
        ColorJitter::default().apply(&mut image, &mut ChaCha8Rng::seed_from_u64(1));
        assert_eq!(image, before);
    }

    #[test]
    fn a_third_of_a_turn_makes_red_green() {
        let m = hue_matrix(1.0 / 3.0);
        let green = m.map(|row| row[0]);
        for (got, wanted) in green.iter().zip([0.0, 1.0, 0.0]) {
            assert!((got - wanted).abs() < 1e-6, "{green:?}");
        }
    }

    #[test]
    fn grey_stays_grey_under_saturation_and_hue() {
        let mut image = RgbImage::from_pixel(4, 4, Rgb([90; 3]));
        let jitter = ColorJitter {
            saturation: 0.9,
            hue: 0.5,
            ..ColorJitter::default()
        };
        jitter.apply(&mut image, &mut ChaCha8Rng::seed_from_u64(3));
        assert!(image.pixels().all(|p| p.0 == [90; 3]));
    }
}
