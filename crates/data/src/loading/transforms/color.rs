//! Adjustment of brightness, contrast, saturation and hue, with the semantics and the 8-bit
//! rounding of torchvision's `ColorJitter` and `adjust_*` functions on tensors.

use image::RgbImage;
use rand::{Rng, RngExt, seq::SliceRandom};

use crate::DataError;

/// Color jitter, as in torchvision. Brightness, contrast and saturation each draw a factor from
/// `[max(0, 1 - value), 1 + value]`, the hue a shift from `[-hue, hue]` of the color circle. The
/// order of the four is drawn, too. Zero disables an adjustment.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Default,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(default, deny_unknown_fields)]
pub struct ColorJitter {
    /// Brightness, at least 0.
    pub brightness: f32,
    /// Contrast, at least 0.
    pub contrast: f32,
    /// Saturation, at least 0.
    pub saturation: f32,
    /// Hue, between 0 and 0.5.
    pub hue: f32,
}

impl ColorJitter {
    /// Validates the ranges.
    ///
    /// # Errors
    /// A value is negative, not a number, or the hue is above 0.5.
    pub fn validate(&self) -> Result<(), DataError> {
        for (setting, value, limit) in [
            ("color_jitter.brightness", self.brightness, f32::MAX),
            ("color_jitter.contrast", self.contrast, f32::MAX),
            ("color_jitter.saturation", self.saturation, f32::MAX),
            ("color_jitter.hue", self.hue, 0.5),
        ] {
            if !(0.0..=limit).contains(&value) {
                return Err(DataError::Setting {
                    setting,
                    problem: if limit == 0.5 {
                        format!("{value} is not between 0 and 0.5")
                    } else {
                        format!("{value} is not a number of 0 or more")
                    },
                });
            }
        }
        Ok(())
    }

    /// Draws the factors and their order and applies them.
    pub fn apply(&self, image: &mut RgbImage, rng: &mut impl Rng) {
        #[derive(Clone, Copy)]
        enum Change {
            Brightness,
            Contrast,
            Saturation,
            Hue,
        }
        let mut order = [
            Change::Brightness,
            Change::Contrast,
            Change::Saturation,
            Change::Hue,
        ];
        order.shuffle(rng);
        for change in order {
            let (strength, adjust, center): (f32, fn(&mut RgbImage, f32), f32) = match change {
                Change::Brightness => (self.brightness, adjust_brightness, 1.0),
                Change::Contrast => (self.contrast, adjust_contrast, 1.0),
                Change::Saturation => (self.saturation, adjust_saturation, 1.0),
                Change::Hue => (self.hue, adjust_hue, 0.0),
            };
            if strength > 0.0 {
                let lowest = match change {
                    Change::Hue => -strength,
                    _ => (center - strength).max(0.0),
                };
                adjust(image, rng.random_range(lowest..=center + strength));
            }
        }
    }
}

/// Multiplies all values: 0 is black, 1 the original.
pub(crate) fn adjust_brightness(image: &mut RgbImage, factor: f32) {
    for value in image.iter_mut() {
        *value = to_level(f32::from(*value) * factor);
    }
}

/// Moves all values away from (above 1) or towards (below 1) the image's mean gray level.
pub(crate) fn adjust_contrast(image: &mut RgbImage, factor: f32) {
    let sum: u64 = image.pixels().map(|pixel| u64::from(gray(pixel.0))).sum();
    let pixels = u64::from(image.width()) * u64::from(image.height());
    let mean = (sum as f64 / pixels.max(1) as f64) as f32;
    for value in image.iter_mut() {
        *value = blend(f32::from(*value), mean, factor);
    }
}

/// Moves each pixel away from (above 1) or towards (below 1) its own gray level.
pub(crate) fn adjust_saturation(image: &mut RgbImage, factor: f32) {
    for pixel in image.pixels_mut() {
        let level = f32::from(gray(pixel.0));
        pixel.0 = pixel.0.map(|value| blend(f32::from(value), level, factor));
    }
}

/// Rotates the hue; a `shift` of 1 is a full turn of the color circle.
pub(crate) fn adjust_hue(image: &mut RgbImage, shift: f32) {
    for pixel in image.pixels_mut() {
        let [hue, saturation, value] = rgb_to_hsv(pixel.0.map(|v| f32::from(v) / 255.0));
        let shifted = (hue + shift).rem_euclid(1.0);
        // the factor of torchvision's conversion to 8 bits, which does not favor 255
        pixel.0 = hsv_to_rgb([shifted, saturation, value]).map(|v| (v * (256.0 - 1e-3)) as u8);
    }
}

fn blend(value: f32, other: f32, ratio: f32) -> u8 {
    to_level(ratio * value + (1.0 - ratio) * other)
}

/// Clamps and truncates to 8 bits, as torchvision.
fn to_level(value: f32) -> u8 {
    value.clamp(0.0, 255.0) as u8
}

fn gray([r, g, b]: [u8; 3]) -> u8 {
    to_level(0.2989 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b))
}

fn rgb_to_hsv([r, g, b]: [f32; 3]) -> [f32; 3] {
    let (max, min) = (r.max(g).max(b), r.min(g).min(b));
    let range = max - min;
    if range == 0.0 {
        return [0.0, 0.0, max];
    }
    let (rc, gc, bc) = ((max - r) / range, (max - g) / range, (max - b) / range);
    let sixths = if max == r {
        bc - gc
    } else if max == g {
        2.0 + rc - bc
    } else {
        4.0 + gc - rc
    };
    [(sixths / 6.0 + 1.0) % 1.0, range / max, max]
}

fn hsv_to_rgb([h, s, v]: [f32; 3]) -> [f32; 3] {
    let sector = (h * 6.0).floor();
    let f = h * 6.0 - sector;
    let p = (v * (1.0 - s)).clamp(0.0, 1.0);
    let q = (v * (1.0 - s * f)).clamp(0.0, 1.0);
    let t = (v * (1.0 - s * (1.0 - f))).clamp(0.0, 1.0);
    match sector as i32 % 6 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use safetensors::SafeTensors;

    /// Fixture generated by `tests/oracle/color_jitter.py` with torchvision.
    const FIXTURE: &[u8] = include_bytes!("../../../../../tests/fixtures/color_jitter.safetensors");

    fn planar_to_image(planes: &[u8], height: usize, width: usize) -> RgbImage {
        RgbImage::from_fn(width as u32, height as u32, |x, y| {
            let at = y as usize * width + x as usize;
            image::Rgb([0, 1, 2].map(|c| planes[c * height * width + at]))
        })
    }

    #[test]
    fn each_change_equals_torchvision_within_one_level() {
        let fixture = SafeTensors::deserialize(FIXTURE).unwrap();
        let original = fixture.tensor("image").unwrap();
        let (height, width) = (original.shape()[1], original.shape()[2]);
        let image = planar_to_image(original.data(), height, width);
        let mut compared = 0;
        for (kind, adjust) in [
            ("brightness", adjust_brightness as fn(&mut RgbImage, f32)),
            ("contrast", adjust_contrast),
            ("saturation", adjust_saturation),
            ("hue", adjust_hue),
        ] {
            for name in fixture.names().into_iter().filter(|n| n.starts_with(kind)) {
                let factor: f32 = name.split('=').nth(1).unwrap().parse().unwrap();
                let expected = planar_to_image(fixture.tensor(name).unwrap().data(), height, width);
                let mut actual = image.clone();
                adjust(&mut actual, factor);
                let differences = actual
                    .iter()
                    .zip(expected.iter())
                    .map(|(a, b)| a.abs_diff(*b));
                // f32 rounding rarely changes the result of a truncation
                let (off, worst) = differences.fold((0, 0), |(off, worst), d| {
                    (off + usize::from(d > 0), worst.max(d))
                });
                assert!(
                    worst <= 1 && off * 100 <= actual.len(),
                    "{name}: {off} differ, by {worst}"
                );
                compared += 1;
            }
        }
        assert_eq!(compared, 11);
    }

    #[test]
    fn no_strength_changes_nothing_and_wrong_strengths_are_named() {
        let image = RgbImage::from_fn(5, 5, |x, y| image::Rgb([x as u8 * 9, y as u8, 7]));
        let mut same = image.clone();
        ColorJitter::default().apply(&mut same, &mut ChaCha8Rng::seed_from_u64(1));
        assert_eq!(same, image);
        let hue = ColorJitter {
            hue: 0.6,
            ..ColorJitter::default()
        };
        assert_eq!(
            hue.validate().unwrap_err().to_string(),
            "color_jitter.hue: 0.6 is not between 0 and 0.5"
        );
        let contrast = ColorJitter {
            contrast: f32::NAN,
            ..ColorJitter::default()
        };
        assert!(contrast.validate().is_err());
    }

    #[test]
    fn jitter_is_reproducible_and_does_something() {
        let image = RgbImage::from_fn(8, 8, |x, y| image::Rgb([x as u8 * 30, y as u8 * 30, 99]));
        let jitter = ColorJitter {
            brightness: 0.4,
            contrast: 0.4,
            saturation: 0.4,
            hue: 0.1,
        };
        let run = |seed| {
            let mut copy = image.clone();
            jitter.apply(&mut copy, &mut ChaCha8Rng::seed_from_u64(seed));
            copy
        };
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
        assert_ne!(run(3), image);
    }

    proptest! {
        #[test]
        fn no_hue_shift_gives_every_color_back_within_one_level(rgb in any::<[u8; 3]>()) {
            let mut image = RgbImage::from_pixel(1, 1, image::Rgb(rgb));
            adjust_hue(&mut image, 0.0);
            let back = image.get_pixel(0, 0).0;
            prop_assert!((0..3).all(|c| back[c].abs_diff(rgb[c]) <= 1), "{rgb:?} {back:?}");
        }
    }
}
