//! Crops: the part of a training image that becomes the network's square input.

use image::{RgbImage, imageops};
use rand::{Rng, RngExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::DataError;
use crate::boxes::ImageSize;
use crate::loading::transforms::geometry::Window;
use crate::loading::transforms::preprocess::{NO_LONG_SIDE_LIMIT, Preprocess, center_offset};
use crate::loading::transforms::resize::resize_rgb8;

/// The crop method.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum TrainCrop {
    /// The center of the resized image, as in evaluation.
    // With braces, because serde accepts unknown fields in a unit variant.
    Center {},
    /// A crop of random area and aspect ratio at a random position, resized to the input
    /// (torchvision's `RandomResizedCrop`, from <https://arxiv.org/abs/1409.4842>).
    RandomResized {
        /// Smallest and largest area as a fraction of the image's, above 0, at most 1.
        #[serde(default = "inception_scale")]
        scale: [f32; 2],
        /// Smallest and largest aspect ratio (width over height), above 0.
        #[serde(default = "inception_ratio")]
        ratio: [f32; 2],
    },
    /// A square of the input's size at a random position of the resized image, which is padded with
    /// black (torchvision's `RandomCrop`; with a `padding` of 4 the usual augmentation of CIFAR,
    /// with 0 AlexNet's).
    Padded {
        /// Width of the padding in pixels.
        padding: usize,
    },
}

fn inception_scale() -> [f32; 2] {
    [0.08, 1.0]
}

fn inception_ratio() -> [f32; 2] {
    [3.0 / 4.0, 4.0 / 3.0]
}

impl TrainCrop {
    /// Returns `RandomResizedCrop` with its default area of 8 % to 100 % and ratio of 3/4 to 4/3.
    pub fn inception() -> Self {
        Self::RandomResized {
            scale: inception_scale(),
            ratio: inception_ratio(),
        }
    }

    /// Validates the ranges.
    ///
    /// # Errors
    /// A bound is outside its range, or the lower above the upper.
    pub fn validate(&self) -> Result<(), DataError> {
        let Self::RandomResized { scale, ratio } = *self else {
            return Ok(());
        };
        for (setting, [low, high], limit) in
            [("crop.scale", scale, 1.0), ("crop.ratio", ratio, f32::MAX)]
        {
            if !(low > 0.0 && low <= high && high <= limit) {
                let most = if limit == 1.0 { " <= 1" } else { "" };
                return Err(DataError::Setting {
                    setting,
                    problem: format!("[{low}, {high}]: must be 0 < lower <= upper{most}"),
                });
            }
        }
        Ok(())
    }

    /// Crops and resizes to a square of [`Preprocess::input_side`], with the interpolation of its
    /// resize method.
    pub fn apply(&self, image: &RgbImage, preprocess: &Preprocess, rng: &mut impl Rng) -> RgbImage {
        let side = preprocess.input_side();
        match *self {
            Self::Center {} => {
                let resized = resize_short_side(image, preprocess);
                let (width, height) = resized.dimensions();
                let left = center_offset(width as usize, side) as i64;
                let top = center_offset(height as usize, side) as i64;
                square(&resized, left, top, side)
            }
            Self::RandomResized { scale, ratio } => {
                let size = ImageSize::new(image.height() as usize, image.width() as usize);
                let window = draw_window(size, scale, ratio, rng);
                resized_crop(image, window, preprocess)
            }
            Self::Padded { padding } => {
                let resized = resize_short_side(image, preprocess);
                let mut place = |length: u32| draw_offset(length as usize, padding, side, rng);
                let top = place(resized.height());
                let left = place(resized.width());
                square(&resized, left, top, side)
            }
        }
    }
}

/// Resizes as in evaluation, before the crop. Without a `center_crop` the input of the evaluation
/// is not square; then the long side has no limit, so that the short one equals the square's side.
fn resize_short_side(image: &RgbImage, preprocess: &Preprocess) -> RgbImage {
    let Preprocess {
        min_size, max_size, ..
    } = *preprocess;
    let max_size = match preprocess.center_crop {
        Some(_) => max_size,
        None => min_size.max(NO_LONG_SIDE_LIMIT),
    };
    let size = ImageSize::new(image.height() as usize, image.width() as usize);
    let method = preprocess.resize_method;
    resize_rgb8(image, method.input_size(size, min_size, max_size), method)
}

/// Crops a square whose corner may be outside the image; pixels outside are black.
fn square(image: &RgbImage, left: i64, top: i64, side: usize) -> RgbImage {
    let mut cut = RgbImage::new(side as u32, side as u32);
    imageops::replace(&mut cut, image, -left, -top);
    cut
}

/// Draws the start of a random square along one axis, relative to the image without padding. An
/// image that is smaller than the square in spite of its padding is centered.
fn draw_offset(length: usize, padding: usize, side: usize, rng: &mut impl Rng) -> i64 {
    let padded = length + 2 * padding;
    if padded >= side {
        rng.random_range(0..=padded - side) as i64 - padding as i64
    } else {
        center_offset(length, side) as i64
    }
}

/// Crops a window and resizes it to the input's square (torchvision's `resized_crop`).
///
/// The window must lie inside the image.
pub(crate) fn resized_crop(image: &RgbImage, window: Window, preprocess: &Preprocess) -> RgbImage {
    let Window {
        x,
        y,
        width,
        height,
    } = window;
    let cut = imageops::crop_imm(image, x, y, width, height).to_image();
    let side = preprocess.input_side();
    resize_rgb8(&cut, ImageSize::new(side, side), preprocess.resize_method)
}

/// Returns the size of a window with this fraction of the image's area and this aspect ratio (width
/// over height); `None` if it does not fit into the image. Halves are rounded to even, as in
/// Python.
pub(crate) fn window_size(image: ImageSize, area_fraction: f64, ratio: f64) -> Option<ImageSize> {
    let area = (image.height * image.width) as f64 * area_fraction;
    let width = (area * ratio).sqrt().round_ties_even() as usize;
    let height = (area / ratio).sqrt().round_ties_even() as usize;
    let fits = (1..=image.width).contains(&width) && (1..=image.height).contains(&height);
    fits.then(|| ImageSize::new(height, width))
}

/// Returns the largest centered window whose aspect ratio is within the bounds, for when no drawn
/// window fits.
pub(crate) fn fallback_window(image: ImageSize, [lowest, highest]: [f64; 2]) -> Window {
    let ImageSize { height, width } = image;
    let ratio = width as f64 / height as f64;
    let at_ratio = |side: f64, limit: usize| (side.round_ties_even() as usize).clamp(1, limit);
    let (window_width, window_height) = if ratio < lowest {
        (width, at_ratio(width as f64 / lowest, height))
    } else if ratio > highest {
        (at_ratio(height as f64 * highest, width), height)
    } else {
        (width, height)
    };
    Window {
        x: ((width - window_width) / 2) as u32,
        y: ((height - window_height) / 2) as u32,
        width: window_width as u32,
        height: window_height as u32,
    }
}

/// Draws `RandomResizedCrop`'s window: ten tries with a uniform area and a log-uniform aspect
/// ratio, then [`fallback_window`].
fn draw_window(image: ImageSize, scale: [f32; 2], ratio: [f32; 2], rng: &mut impl Rng) -> Window {
    const TRIES: usize = 10;
    let [lowest, highest] = ratio.map(f64::from);
    for _ in 0..TRIES {
        let area_fraction = f64::from(rng.random_range(scale[0]..=scale[1]));
        let drawn_ratio = rng.random_range(lowest.ln()..=highest.ln()).exp();
        if let Some(ImageSize { height, width }) = window_size(image, area_fraction, drawn_ratio) {
            return Window {
                x: rng.random_range(0..=image.width - width) as u32,
                y: rng.random_range(0..=image.height - height) as u32,
                width: width as u32,
                height: height as u32,
            };
        }
    }
    fallback_window(image, [lowest, highest])
}
