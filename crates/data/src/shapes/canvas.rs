//! The image being painted: linear light, three floats per pixel.

use crate::shapes::math::Vec3;

/// An image in linear light; values above one are overexposed.
#[derive(Debug, Clone)]
pub(super) struct Canvas {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Row by row.
    pub(super) pixels: Vec<Vec3>,
}

impl Canvas {
    /// Paints every pixel from its center `(x + 0.5, y + 0.5)`.
    pub(super) fn from_fn(
        width: usize,
        height: usize,
        mut color: impl FnMut(f32, f32) -> Vec3,
    ) -> Self {
        let mut pixels = Vec::with_capacity(width * height);
        for y in 0..height {
            for x in 0..width {
                pixels.push(color(x as f32 + 0.5, y as f32 + 0.5));
            }
        }
        Self {
            width,
            height,
            pixels,
        }
    }

    /// Blends a color over one pixel; `alpha` 1 replaces it.
    pub(super) fn blend(&mut self, index: usize, color: Vec3, alpha: f32) {
        self.pixels[index] = self.pixels[index].mix(color, alpha);
    }

    /// Convolves rows, then columns, with a symmetric kernel given from its center outwards. The
    /// border repeats the edge pixel.
    pub(super) fn blur(&mut self, half_kernel: &[f32]) {
        let (w, h, r) = (self.width, self.height, half_kernel.len() - 1);
        // Sums of whole shifted lines, which keeps memory access in order in both directions.
        let mut line = vec![Vec3::default(); w + 2 * r];
        for row in self.pixels.chunks_exact_mut(w) {
            line[..r].fill(row[0]);
            line[r..r + w].copy_from_slice(row);
            line[r + w..].fill(row[w - 1]);
            weigh(row, half_kernel, |k| &line[r.wrapping_add_signed(k)..][..w]);
        }
        let source = self.pixels.clone();
        for (y, row) in self.pixels.chunks_exact_mut(w).enumerate() {
            weigh(row, half_kernel, |k| {
                let y = y.saturating_add_signed(k).min(h - 1);
                &source[y * w..(y + 1) * w]
            });
        }
    }
}

/// Computes the sum of the lines `-r..=r` around a line, weighted by a symmetric kernel.
fn weigh<'a>(out: &mut [Vec3], half_kernel: &[f32], line: impl Fn(isize) -> &'a [Vec3]) {
    for (o, &s) in out.iter_mut().zip(line(0)) {
        *o = s * half_kernel[0];
    }
    for (k, &weight) in (1..).zip(&half_kernel[1..]) {
        for ((o, &a), &b) in out.iter_mut().zip(line(-k)).zip(line(k)) {
            *o = *o + (a + b) * weight;
        }
    }
}

/// Returns the center and right half of a bell-shaped kernel of about this standard deviation, in
/// pixels, summing to one over both halves.
pub(super) fn bell_kernel(sigma: f32) -> Vec<f32> {
    let reach = (2.7 * sigma).max(1.0) as usize + 1;
    // (1 - (x / a)^2)^3 is within a few per cent of a Gaussian and needs no exponential.
    let a = 3.0 * sigma;
    let mut half: Vec<f32> = (0..=reach)
        .map(|i| {
            let q = (i as f32 / a) * (i as f32 / a);
            let base = (1.0 - q).max(0.0);
            base * base * base
        })
        .collect();
    while half.len() > 1 && half.last() == Some(&0.0) {
        half.pop();
    }
    let total = half[0] + 2.0 * half[1..].iter().sum::<f32>();
    half.iter_mut().for_each(|v| *v /= total);
    half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blur_keeps_a_flat_image_and_spreads_a_dot() {
        let kernel = bell_kernel(1.2);
        let total = kernel[0] + 2.0 * kernel[1..].iter().sum::<f32>();
        assert!((total - 1.0).abs() < 1e-5);
        let mut flat = Canvas::from_fn(9, 7, |_, _| Vec3::splat(0.4));
        flat.blur(&kernel);
        assert!(flat.pixels.iter().all(|p| (p.x - 0.4).abs() < 1e-5));
        let mut dot = Canvas::from_fn(21, 21, |x, y| {
            Vec3::splat(f32::from(x == 10.5 && y == 10.5))
        });
        dot.blur(&kernel);
        let sum: f32 = dot.pixels.iter().map(|p| p.x).sum();
        assert!((sum - 1.0).abs() < 1e-4);
        assert!(dot.pixels[10 * 21 + 10].x < 0.3);
        assert!((dot.pixels[10 * 21 + 9].x - dot.pixels[9 * 21 + 10].x).abs() < 1e-6);
    }
}
