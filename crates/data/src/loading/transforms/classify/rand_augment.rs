//! RandAugment (<https://arxiv.org/abs/1909.13719>): a few of fourteen operations, drawn for each
//! image, with one magnitude; operations and magnitudes of torchvision, computed as in Pillow.

use image::RgbImage;
use rand::{Rng, RngExt};
use rand_distr::StandardNormal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::DataError;
use crate::boxes::ImageSize;
use crate::loading::transforms::augment::happens;

use crate::loading::transforms::classify::affine::{rotate, transform};

/// The largest magnitude.
const MAX_MAGNITUDE: f32 = 30.0;

/// Number and magnitude of the operations. The default is torchvision's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RandAugment {
    /// Number of operations to draw for each image, at least 1, with replacement.
    pub operations: usize,
    /// Magnitude, 0 to 30, as torchvision's (with 31 bins). timm's scale ends at 10: a third of
    /// this value.
    pub magnitude: f32,
    /// Standard deviation of the magnitude, which is drawn for each operation from a normal
    /// distribution and clamped to 0 to 30 (timm's `mstd`, on the scale of 0 to 30); 0: constant.
    pub magnitude_std: f32,
    /// Probability of applying a drawn operation, 0 to 1; timm's is 0.5.
    pub probability: f32,
}

impl Default for RandAugment {
    fn default() -> Self {
        Self {
            operations: 2,
            magnitude: 9.0,
            magnitude_std: 0.0,
            probability: 1.0,
        }
    }
}

impl RandAugment {
    /// Validates the ranges.
    ///
    /// # Errors
    /// A value is outside its range.
    pub fn validate(&self) -> Result<(), DataError> {
        let wrong = |setting, problem: String| Err(DataError::Setting { setting, problem });
        if self.operations == 0 {
            return wrong("rand_augment.operations", "must be at least 1".to_owned());
        }
        for (setting, value, limit) in [
            ("rand_augment.magnitude", self.magnitude, MAX_MAGNITUDE),
            (
                "rand_augment.magnitude_std",
                self.magnitude_std,
                MAX_MAGNITUDE,
            ),
            ("rand_augment.probability", self.probability, 1.0),
        ] {
            if !(0.0..=limit).contains(&value) {
                return wrong(setting, format!("{value} is not between 0 and {limit}"));
            }
        }
        Ok(())
    }

    /// Draws operations and applies them.
    pub fn apply(&self, mut image: RgbImage, rng: &mut impl Rng) -> RgbImage {
        for _ in 0..self.operations {
            let operation = Operation::ALL[rng.random_range(0..Operation::ALL.len())];
            if !happens(self.probability, rng) {
                continue;
            }
            let mut magnitude = self.magnitude;
            if self.magnitude_std > 0.0 {
                magnitude += self.magnitude_std * rng.sample::<f32, _>(StandardNormal);
            }
            let size = ImageSize::new(image.height() as usize, image.width() as usize);
            let mut amount = operation.amount(magnitude.clamp(0.0, MAX_MAGNITUDE), size);
            if operation.has_sign() && rng.random() {
                amount = -amount;
            }
            image = operation.apply(image, amount);
        }
        image
    }
}

/// An operation on an image. Each variant documents the meaning of its amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Leaves the image unchanged.
    Identity,
    /// Shears horizontally: rows move by this fraction of their distance to the top.
    ShearX,
    /// Shears vertically: columns move by this fraction of their distance to the left.
    ShearY,
    /// Translates horizontally by whole pixels.
    TranslateX,
    /// Translates vertically by whole pixels.
    TranslateY,
    /// Rotates by degrees.
    Rotate,
    /// Brightness: -1 is black, 0 the original.
    Brightness,
    /// Saturation: -1 is gray, 0 the original.
    Color,
    /// Contrast: -1 is the mean gray level, 0 the original.
    Contrast,
    /// Sharpness: -1 is smoothed, 0 the original.
    Sharpness,
    /// Keeps this number of the eight bits.
    Posterize,
    /// Inverts this level and those above.
    Solarize,
    /// Stretches each channel to the full range.
    AutoContrast,
    /// Equalizes the histogram of each channel.
    Equalize,
}

impl Operation {
    /// All operations, in torchvision's order.
    pub const ALL: [Self; 14] = [
        Self::Identity,
        Self::ShearX,
        Self::ShearY,
        Self::TranslateX,
        Self::TranslateY,
        Self::Rotate,
        Self::Brightness,
        Self::Color,
        Self::Contrast,
        Self::Sharpness,
        Self::Posterize,
        Self::Solarize,
        Self::AutoContrast,
        Self::Equalize,
    ];

    /// Returns whether the amount may be negated at random.
    pub(crate) fn has_sign(self) -> bool {
        !matches!(
            self,
            Self::Identity | Self::Posterize | Self::Solarize | Self::AutoContrast | Self::Equalize
        )
    }

    /// Returns torchvision's amount for a magnitude of 0 to 30, on images of this size.
    pub fn amount(self, magnitude: f32, size: ImageSize) -> f32 {
        let fraction = f64::from(magnitude / MAX_MAGNITUDE);
        let amount = match self {
            Self::Identity | Self::AutoContrast | Self::Equalize => 0.0,
            Self::ShearX | Self::ShearY => 0.3 * fraction,
            Self::TranslateX => 150.0 / 331.0 * size.width as f64 * fraction,
            Self::TranslateY => 150.0 / 331.0 * size.height as f64 * fraction,
            Self::Rotate => 30.0 * fraction,
            Self::Brightness | Self::Color | Self::Contrast | Self::Sharpness => 0.9 * fraction,
            Self::Posterize => 8.0 - (4.0 * fraction).round_ties_even(),
            Self::Solarize => 255.0 * (1.0 - fraction),
        };
        amount as f32
    }

    /// Applies the operation with an amount.
    pub fn apply(self, image: RgbImage, amount: f32) -> RgbImage {
        let exact = f64::from(amount);
        match self {
            Self::Identity => image,
            Self::ShearX => transform(&image, [1.0, exact, 0.0, 0.0, 1.0, 0.0]),
            Self::ShearY => transform(&image, [1.0, 0.0, 0.0, exact, 1.0, 0.0]),
            Self::TranslateX => transform(&image, [1.0, 0.0, -exact.trunc(), 0.0, 1.0, 0.0]),
            Self::TranslateY => transform(&image, [1.0, 0.0, 0.0, 0.0, 1.0, -exact.trunc()]),
            Self::Rotate => rotate(&image, exact),
            Self::Brightness => blend(image, amount, |_, _| [0; 3]),
            Self::Color => blend(image, amount, |_, pixel| [gray(pixel); 3]),
            Self::Contrast => {
                let mean = mean_gray(&image);
                blend(image, amount, |_, _| [mean; 3])
            }
            Self::Sharpness => {
                let smooth = smoothed(&image);
                blend(image, amount, |index, _| smooth[index])
            }
            Self::Posterize => {
                let dropped = 8 - (amount as u32).clamp(0, 8);
                each_level(image, |_, level| {
                    (u32::from(level) >> dropped << dropped) as u8
                })
            }
            Self::Solarize => each_level(image, |_, level| {
                if f32::from(level) < amount {
                    level
                } else {
                    255 - level
                }
            }),
            Self::AutoContrast => {
                let tables = histograms(&image).map(|counts| stretched(&counts));
                each_level(image, |channel, level| tables[channel][usize::from(level)])
            }
            Self::Equalize => {
                let tables = histograms(&image).map(|counts| equalized(&counts));
                each_level(image, |channel, level| tables[channel][usize::from(level)])
            }
        }
    }
}

/// Computes Pillow's `ImageEnhance`: away from (above zero) or towards (below) the image that
/// `other` returns for each pixel's index and color; truncated to 8 bits.
fn blend(mut image: RgbImage, amount: f32, other: impl Fn(usize, [u8; 3]) -> [u8; 3]) -> RgbImage {
    // torchvision adds the one in f64
    let factor = (1.0 + f64::from(amount)) as f32;
    for (index, pixel) in image.pixels_mut().enumerate() {
        let other = other(index, pixel.0);
        for (value, other) in pixel.0.iter_mut().zip(other) {
            let difference = f32::from(*value) - f32::from(other);
            *value = (f32::from(other) + factor * difference).clamp(0.0, 255.0) as u8;
        }
    }
    image
}

fn each_level(mut image: RgbImage, change: impl Fn(usize, u8) -> u8) -> RgbImage {
    for pixel in image.pixels_mut() {
        for (channel, value) in pixel.0.iter_mut().enumerate() {
            *value = change(channel, *value);
        }
    }
    image
}

/// Computes Pillow's luma: ITU-R 601-2 in 16-bit fixed point, rounded.
fn gray([r, g, b]: [u8; 3]) -> u8 {
    let sum = u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471;
    ((sum + 0x8000) >> 16) as u8
}

fn mean_gray(image: &RgbImage) -> u8 {
    let sum: u64 = image.pixels().map(|pixel| u64::from(gray(pixel.0))).sum();
    let count = image.pixels().len().max(1);
    (sum as f64 / count as f64 + 0.5) as u8
}

/// Computes Pillow's `SMOOTH` in row-major order: the mean of the neighborhood in which the pixel
/// itself has weight five; the border is unchanged.
fn smoothed(image: &RgbImage) -> Vec<[u8; 3]> {
    let (width, height) = image.dimensions();
    let inside = |at: u32, length: u32| at > 0 && at + 1 < length;
    image
        .enumerate_pixels()
        .map(|(x, y, pixel)| {
            if !(inside(x, width) && inside(y, height)) {
                return pixel.0;
            }
            std::array::from_fn(|channel| {
                let mut sum = 4 * u32::from(pixel.0[channel]);
                for row in y - 1..=y + 1 {
                    for column in x - 1..=x + 1 {
                        sum += u32::from(image.get_pixel(column, row).0[channel]);
                    }
                }
                // rounded to nearest; thirteen has no halves
                ((2 * sum + 13) / 26) as u8
            })
        })
        .collect()
}

fn histograms(image: &RgbImage) -> [[usize; 256]; 3] {
    let mut counts = [[0; 256]; 3];
    for pixel in image.pixels() {
        for (counts, value) in counts.iter_mut().zip(pixel.0) {
            counts[usize::from(value)] += 1;
        }
    }
    counts
}

/// Computes `ImageOps.autocontrast` of one channel.
fn stretched(counts: &[usize; 256]) -> [u8; 256] {
    let used = |&level: &usize| counts[level] > 0;
    let lowest = (0..256).find(used).unwrap_or(0);
    let highest = (0..256).rfind(used).unwrap_or(0);
    if highest <= lowest {
        return unchanged();
    }
    let scale = 255.0 / (highest - lowest) as f64;
    let offset = -(lowest as f64) * scale;
    std::array::from_fn(|level| (level as f64 * scale + offset).clamp(0.0, 255.0) as u8)
}

/// Computes `ImageOps.equalize` of one channel.
fn equalized(counts: &[usize; 256]) -> [u8; 256] {
    let used = || counts.iter().filter(|&&count| count > 0);
    let brightest = used().next_back().copied().unwrap_or(0);
    let step = (counts.iter().sum::<usize>() - brightest) / 255;
    if used().count() <= 1 || step == 0 {
        return unchanged();
    }
    let mut sum = step / 2;
    std::array::from_fn(|level| {
        let new = (sum / step).min(255) as u8;
        sum += counts[level];
        new
    })
}

fn unchanged() -> [u8; 256] {
    std::array::from_fn(|level| level as u8)
}
