//! From a picture to the network's input: normalise, then resize, as torchvision's
//! `GeneralizedRCNNTransform` does. Shared by training, evaluation and prediction, and stored in
//! every checkpoint.

use fast_image_resize as fir;
use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::boxes::{BoxXyxy, ImageSize};

/// The order of the colour planes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelOrder {
    /// torchvision, timm.
    Rgb,
    /// Caffe and detectron2.
    Bgr,
}

/// How pixels are resampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResizeMethod {
    /// `F.interpolate(mode="bilinear")` on floats, without antialiasing: torchvision's R-CNNs.
    Interpolate,
    /// Bilinear with a support that grows when shrinking, on bytes: Pillow, detectron2.
    Antialias,
}

/// Everything between decoded pixels and the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// Order of the planes.
    pub channel_order: ChannelOrder,
    /// Multiplies the byte values before the mean is taken off.
    pub scale: f32,
    /// Subtracted from each plane, in plane order.
    pub mean: [f32; 3],
    /// Divides each plane.
    pub std: [f32; 3],
    /// Target of the shorter side, in pixels.
    pub min_size: usize,
    /// Limit of the longer side.
    pub max_size: usize,
    /// How to resample.
    pub resize: ResizeMethod,
    /// Padded sizes are multiples of this: the pyramid's coarsest backbone stride.
    pub size_divisor: usize,
}

impl Preprocess {
    /// torchvision: RGB in 0..1, ImageNet mean and deviation, 800/1333.
    pub fn torchvision() -> Self {
        Self {
            channel_order: ChannelOrder::Rgb,
            scale: 1.0 / 255.0,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            min_size: 800,
            max_size: 1333,
            resize: ResizeMethod::Interpolate,
            size_divisor: 32,
        }
    }

    /// detectron2 with the Caffe-born weights: BGR in 0..255, mean only, 800/1333.
    pub fn detectron2() -> Self {
        Self {
            channel_order: ChannelOrder::Bgr,
            scale: 1.0,
            mean: [103.53, 116.28, 123.675],
            std: [1.0; 3],
            resize: ResizeMethod::Antialias,
            ..Self::torchvision()
        }
    }

    /// The size that an image is resized to: the shorter side becomes `min_size` unless the longer
    /// one would pass `max_size`; torchvision's arithmetic (a factor in `f32`, then floor).
    pub fn input_size(&self, image: ImageSize) -> ImageSize {
        let (short, long) = (
            image.height.min(image.width) as f32,
            image.height.max(image.width) as f32,
        );
        let factor = (self.min_size as f32 / short).min(self.max_size as f32 / long);
        let scaled = |side: usize| ((side as f64 * f64::from(factor)).floor() as usize).max(1);
        ImageSize::new(scaled(image.height), scaled(image.width))
    }

    /// Planes `[3, height, width]`, normalised and resized.
    pub fn prepare(&self, image: &RgbImage) -> Prepared {
        let image_size = ImageSize::new(image.height() as usize, image.width() as usize);
        let input_size = self.input_size(image_size);
        let pixels = match self.resize {
            ResizeMethod::Interpolate => interpolate(
                &self.normalised(image.as_raw(), image_size),
                image_size,
                input_size,
            ),
            ResizeMethod::Antialias => self.normalised(&antialias(image, input_size), input_size),
        };
        Prepared {
            pixels,
            image_size,
            input_size,
        }
    }

    /// Interleaved bytes to normalised planes.
    fn normalised(&self, bytes: &[u8], size: ImageSize) -> Vec<f32> {
        let area = size.height * size.width;
        let mut planes = Vec::with_capacity(3 * area);
        for plane in 0..3 {
            let channel = match self.channel_order {
                ChannelOrder::Rgb => plane,
                ChannelOrder::Bgr => 2 - plane,
            };
            // 256 possible values a plane: a table is exact and faster than arithmetic.
            let table: [f32; 256] = std::array::from_fn(|value| {
                (value as f32 * self.scale - self.mean[plane]) / self.std[plane]
            });
            planes.extend(
                bytes
                    .iter()
                    .skip(channel)
                    .step_by(3)
                    .map(|b| table[*b as usize]),
            );
        }
        planes
    }
}

/// A network input with the sizes needed to come back.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// `[3, height, width]`.
    pub pixels: Vec<f32>,
    /// Before.
    pub image_size: ImageSize,
    /// After.
    pub input_size: ImageSize,
}

/// A box from image pixels to input pixels; each axis by its exact ratio, as torchvision.
pub fn box_to_input(box_in_image: BoxXyxy, image: ImageSize, input: ImageSize) -> BoxXyxy {
    box_in_image.scale(
        input.width as f32 / image.width as f32,
        input.height as f32 / image.height as f32,
    )
}

/// A box from input pixels back to image pixels: the ONE place where detections come back.
pub fn box_to_image(box_in_input: BoxXyxy, image: ImageSize, input: ImageSize) -> BoxXyxy {
    box_in_input.scale(
        image.width as f32 / input.width as f32,
        image.height as f32 / input.height as f32,
    )
}

/// For every output position: the two source positions and the weight of the second.
fn bilinear_axis(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    let scale = from as f32 / to as f32;
    (0..to)
        .map(|i| {
            let at = (scale * (i as f32 + 0.5) - 0.5).max(0.0);
            let low = (at as usize).min(from - 1);
            (low, (low + 1).min(from - 1), at - low as f32)
        })
        .collect()
}

/// `F.interpolate(mode="bilinear", align_corners=False)` over planes. Written by hand: the resize
/// library's float path rounds its weights and differed from torch by 2e-3.
fn interpolate(planes: &[f32], from: ImageSize, to: ImageSize) -> Vec<f32> {
    if from == to {
        return planes.to_vec();
    }
    let columns = bilinear_axis(from.width, to.width);
    let rows = bilinear_axis(from.height, to.height);
    let mut out =
        Vec::with_capacity(planes.len() / (from.height * from.width) * to.height * to.width);
    for plane in planes.chunks_exact(from.height * from.width) {
        for &(y0, y1, wy) in &rows {
            let above = &plane[y0 * from.width..(y0 + 1) * from.width];
            let below = &plane[y1 * from.width..(y1 + 1) * from.width];
            out.extend(columns.iter().map(|&(x0, x1, wx)| {
                let top = (1.0 - wx) * above[x0] + wx * above[x1];
                let bottom = (1.0 - wx) * below[x0] + wx * below[x1];
                (1.0 - wy) * top + wy * bottom
            }));
        }
    }
    out
}

/// Bytes resized as Pillow does, within one level.
fn antialias(image: &RgbImage, to: ImageSize) -> Vec<u8> {
    let (width, height) = (to.width as u32, to.height as u32);
    let mut out = fir::images::Image::new(width, height, fir::PixelType::U8x3);
    let resized = fir::images::ImageRef::new(
        image.width(),
        image.height(),
        image.as_raw(),
        fir::PixelType::U8x3,
    )
    .map_err(|e| e.to_string())
    .and_then(|source| {
        let options = fir::ResizeOptions::new()
            .resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::Bilinear));
        fir::Resizer::new()
            .resize(&source, &mut out, &options)
            .map_err(|e| e.to_string())
    });
    resized.expect("both buffers are RGB bytes of the sizes given");
    out.into_vec()
}
