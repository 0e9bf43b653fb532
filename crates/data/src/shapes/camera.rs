//! Camera model, from linear light to a JPEG file: blur, exposure, tone, vignette, sensor noise,
//! compression.

use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;

use crate::images::jpeg_pixels;
use crate::shapes::canvas::{Canvas, bell_kernel};
use crate::shapes::math::Vec3;
use crate::shapes::rng::Rng;

/// The settings of one exposure.
#[derive(Debug, Clone)]
pub(super) struct Camera {
    /// Standard deviation of the blur in pixels; 0 is sharp.
    blur: f32,
    /// Length of a horizontal or vertical motion blur in pixels; 0 is none.
    shake: (f32, bool),
    /// Per-channel gain: exposure times white balance.
    gain: Vec3,
    contrast: f32,
    vignette: f32,
    /// Standard deviation of the noise in display levels (of 255), at mid gray.
    noise: f32,
    /// JPEG quality, 1 to 100.
    quality: u8,
}

impl Camera {
    pub(super) fn sample(rng: &mut Rng) -> Self {
        let exposure = rng.range(0.65, 1.55);
        let balance = rng.range(-0.12, 0.12);
        let tint = rng.range(-0.05, 0.05);
        Self {
            blur: if rng.chance(0.45) {
                rng.range(0.4, 1.3)
            } else {
                0.0
            },
            shake: if rng.chance(0.08) {
                (rng.range(2.0, 4.0), rng.chance(0.5))
            } else {
                (0.0, false)
            },
            gain: Vec3::new(1.0 + balance, 1.0 + tint, 1.0 - balance) * exposure,
            contrast: rng.range(-0.1, 0.5),
            vignette: rng.range(0.0, 0.4),
            noise: {
                let strong = rng.unit();
                1.0 + 9.0 * strong * strong
            },
            quality: 40 + rng.below(56) as u8,
        }
    }

    /// Applies the camera model and compresses the image.
    pub(super) fn jpeg(&self, mut canvas: Canvas, rng: &mut Rng) -> Vec<u8> {
        if self.blur > 0.0 {
            canvas.blur(&bell_kernel(self.blur));
        }
        if self.shake.0 > 0.0 {
            self.shake(&mut canvas);
        }
        let image = self.develop(&canvas, rng);
        let mut bytes = Vec::with_capacity(image.len() / 6);
        image
            .write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, self.quality))
            .expect("writing a small RGB image to memory has no way to fail");
        bytes
    }

    /// Averages along a short line.
    fn shake(&self, canvas: &mut Canvas) {
        let (length, vertical) = (self.shake.0 as usize, self.shake.1);
        let stride = if vertical { canvas.width } else { 1 };
        let last = canvas.pixels.len() - 1;
        let scale = 1.0 / (length + 1) as f32;
        // Reads ahead of what it writes, so it can work in place; the far edge is averaged with
        // itself.
        for i in 0..canvas.pixels.len() {
            let mut sum = Vec3::default();
            for k in 0..=length {
                let column_left = canvas.width - 1 - i % canvas.width;
                let step = if vertical { k } else { k.min(column_left) };
                let j = i + step * stride;
                sum = sum + canvas.pixels[if j > last { i } else { j }];
            }
            canvas.pixels[i] = sum * scale;
        }
    }

    fn develop(&self, canvas: &Canvas, rng: &mut Rng) -> RgbImage {
        let (w, h) = (canvas.width, canvas.height);
        let mut bytes = Vec::with_capacity(3 * w * h);
        let corner2 = 0.25 * (w * w + h * h) as f32;
        // One row at a time, in plain loops that the compiler can vectorize.
        let mut row = vec![0.0f32; 3 * w];
        let mut grain = vec![0.0f32; 3 * w];
        let mut random = Vec::new();
        for y in 0..h {
            let dy = y as f32 - 0.5 * h as f32;
            for (x, out) in row.chunks_exact_mut(3).enumerate() {
                let dx = x as f32 - 0.5 * w as f32;
                let dim = 1.0 - self.vignette * (dx * dx + dy * dy) / corner2;
                let light = canvas.pixels[y * w + x].tint(self.gain) * dim;
                (out[0], out[1], out[2]) = (light.x, light.y, light.z);
            }
            rng.fill_normal(&mut grain, &mut random);
            bytes.extend(row.iter().zip(&grain).map(|(&v, &grain)| {
                // A soft shoulder for highlights, then gamma 2.
                let v = v.max(0.0);
                let v = v * (1.0 + 0.15 * v) / (1.0 + v * 0.45);
                let display = v.sqrt().min(1.0);
                // A contrast curve around mid gray.
                let s = display * display * (3.0 - 2.0 * display);
                let display = display + self.contrast * (s - display);
                // Shot noise grows with the light; read noise is constant.
                let sigma = self.noise * (0.5 + display);
                (255.0 * display + sigma * grain + 0.5) as u8
            }));
        }
        RgbImage::from_raw(w as u32, h as u32, bytes)
            .expect("three bytes were pushed for every pixel")
    }
}

/// Decodes the pixels of a file created by [`Camera::jpeg`].
pub(crate) fn decode(jpeg: &[u8]) -> RgbImage {
    jpeg_pixels::decode(jpeg).expect("the encoder above wrote these bytes")
}
