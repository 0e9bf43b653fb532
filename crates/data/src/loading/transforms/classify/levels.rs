//! Color shifts of a whole image, and patches of one color.

use image::RgbImage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::DataError;

/// Adds values to red, green and blue, in levels of 255; the results are rounded and clamped to 0
/// to 255.
pub fn shift(image: &mut RgbImage, levels: [f32; 3]) {
    for pixel in image.pixels_mut() {
        for (value, shift) in pixel.0.iter_mut().zip(levels) {
            *value = (f32::from(*value) + shift).round().clamp(0.0, 255.0) as u8;
        }
    }
}

/// Returns the shift, in levels of 255, of AlexNet's color augmentation: along the principal
/// components of the colors of ImageNet, by the given multiples of their standard deviations
/// (<https://papers.nips.cc/paper/4824>, section 4.1). The components are those of fb.resnet.torch,
/// on a scale of 1.
pub(crate) fn lighting_shift(multiples: [f32; 3]) -> [f32; 3] {
    const EIGENVALUES: [f32; 3] = [0.2175, 0.0188, 0.0045];
    /// The principal components: a row for each of red, green and blue, a column for each
    /// component.
    const EIGENVECTORS: [[f32; 3]; 3] = [
        [-0.5675, 0.7192, 0.4009],
        [-0.5808, -0.0045, -0.8140],
        [-0.5836, -0.6948, 0.4203],
    ];
    EIGENVECTORS.map(|row| {
        let along =
            |component: usize| row[component] * multiples[component] * EIGENVALUES[component];
        255.0 * (along(0) + along(1) + along(2))
    })
}

/// Cutout: masks squares of an image (<https://arxiv.org/abs/1708.04552>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cutout {
    /// Side of a square in pixels of the input, at least 2. An odd one counts as one less, as in the
    /// paper's code.
    pub side: usize,
    /// Number of squares, at least 1.
    #[serde(default = "one")]
    pub count: usize,
}

fn one() -> usize {
    1
}

impl Cutout {
    /// Validates the ranges.
    ///
    /// # Errors
    /// The side is below 2 or the number of squares is 0.
    pub fn validate(&self) -> Result<(), DataError> {
        for (setting, value, least) in [
            ("cutout.side", self.side, 2),
            ("cutout.count", self.count, 1),
        ] {
            if value < least {
                let problem = format!("{value} is below {least}");
                return Err(DataError::Setting { setting, problem });
            }
        }
        Ok(())
    }
}

/// Fills a square around a pixel `(x, y)`, clipped at the image border.
pub(crate) fn fill_square(image: &mut RgbImage, (x, y): (u32, u32), side: usize, color: [u8; 3]) {
    let half = (side / 2).min(u32::MAX as usize) as u32;
    let span = |center: u32, length: u32| {
        center.saturating_sub(half)..center.saturating_add(half).min(length)
    };
    let (columns, rows) = (span(x, image.width()), span(y, image.height()));
    for y in rows {
        for x in columns.clone() {
            image.put_pixel(x, y, image::Rgb(color));
        }
    }
}
