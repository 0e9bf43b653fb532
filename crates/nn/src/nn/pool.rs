//! Pooling by configuration, whose output sizes are known without running the network.

use burn::tensor::Tensor;
use burn::tensor::module::avg_pool2d;
use burn::tensor::ops::{AvgPoolOptions, PadMode};

use crate::kernels::max_pool::{MaxPoolOptions, max_pool2d};

/// The function of the pixels in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolKind {
    /// The largest value.
    Max,
    /// The mean, including the zeros of the border (PyTorch's default, Caffe).
    Average,
    /// The mean without the border (TensorFlow; PyTorch's `count_include_pad=False`).
    AverageInside,
    /// The mean weighted by a binomial filter, `[1, 2, 1] / 4` in both directions for a window of 3; the
    /// border reflects the input. This is blur pooling (Zhang 2019, section 3.2; timm's `BlurPool2d`),
    /// which subsamples without aliasing.
    Blur,
}

/// Rounding of the number of windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// Whole windows only.
    Down,
    /// The last window may reach beyond the border (Caffe; PyTorch's `ceil_mode`).
    Up,
    /// As many windows as a strided convolution with padding `kernel / 2` has outputs, for branches that
    /// are concatenated with one: as `Up`, and one more window for an odd size.
    Convolution,
}

/// Pooling over square windows; every field has PyTorch's meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool2d {
    /// The function of the pixels in a window.
    pub kind: PoolKind,
    /// Side of the window in pixels.
    pub kernel: usize,
    /// Pixels from one window to the next.
    pub stride: usize,
    /// Border on every side, less than half the window.
    pub padding: usize,
    /// Rounding of the number of windows.
    pub rounding: Rounding,
}

impl Pool2d {
    /// Pooling without a border and with sizes rounded down.
    pub const fn new(kind: PoolKind, kernel: usize, stride: usize) -> Self {
        Self {
            kind,
            kernel,
            stride,
            padding: 0,
            rounding: Rounding::Down,
        }
    }

    /// Blur pooling of stride 2 with the filter `[1, 2, 1] / 4`: sizes are halved, rounded up.
    pub const fn blur() -> Self {
        Self::new(PoolKind::Blur, 3, 2).with_padding(1)
    }

    /// Sets the border.
    pub const fn with_padding(mut self, padding: usize) -> Self {
        self.padding = padding;
        self
    }

    /// Sets the rounding of sizes.
    pub const fn with_rounding(mut self, rounding: Rounding) -> Self {
        self.rounding = rounding;
        self
    }

    /// Computes the pooling.
    ///
    /// # Shapes
    /// - `x`: `[batch, channels, height, width]`
    /// - result: `[batch, channels, height_out, width_out]`, sizes by
    ///   [`output_size`](Self::output_size)
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = x.dims();
        let x = match self.extension([height, width]) {
            [0, 0] => x,
            // The smallest number is never the maximum.
            [below, right] => x.pad((0, right, 0, below), PadMode::Constant(f32::MIN)),
        };
        let ceil_mode = self.rounding != Rounding::Down;
        let (kernel, stride) = ([self.kernel; 2], [self.stride; 2]);
        let padding = [self.padding; 2];
        match self.kind {
            PoolKind::Max => max_pool2d(
                x,
                MaxPoolOptions {
                    kernel: self.kernel,
                    stride: self.stride,
                    padding: self.padding,
                    ceil_mode,
                },
            ),
            PoolKind::Average | PoolKind::AverageInside => avg_pool2d(
                x,
                AvgPoolOptions::new(kernel)
                    .with_stride(stride)
                    .with_padding(padding)
                    .with_count_include_pad(self.kind == PoolKind::Average)
                    .with_ceil_mode(ceil_mode),
            ),
            PoolKind::Blur => self.blurred(x),
        }
    }

    /// Computes [`PoolKind::Blur`]: averaging pairs of neighbors `kernel - 1` times gives the binomial
    /// filter.
    fn blurred(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = x.dims();
        let border = self.padding;
        // A single row or column has no neighbors that could be reflected.
        let mode = if height.min(width) > border {
            PadMode::Reflect
        } else {
            PadMode::Edge
        };
        let padded = x.pad((border, border, border, border), mode);
        (1..self.kernel).fold(padded, |x, pass| {
            let is_last = pass + 1 == self.kernel;
            let stride = if is_last { self.stride } else { 1 };
            avg_pool2d(x, AvgPoolOptions::new([2, 2]).with_stride([stride; 2]))
        })
    }

    /// Returns the rows and columns to add below and to the right for the number of windows of
    /// [`Rounding::Convolution`].
    fn extension(&self, size: [usize; 2]) -> [usize; 2] {
        match self.rounding {
            Rounding::Down | Rounding::Up => [0, 0],
            Rounding::Convolution => size.map(|size| {
                // All windows but the last fit, and one pixel beyond them makes another.
                let windows = size.div_ceil(self.stride);
                let all_but_last = windows.saturating_sub(2) * self.stride + self.kernel;
                let beyond = usize::from(windows > 1);
                (all_but_last + beyond).saturating_sub(size)
            }),
        }
    }

    /// Returns height and width after pooling, or `None` if the window is larger than the padded input.
    pub fn output_size(&self, input: [usize; 2]) -> Option<[usize; 2]> {
        let size = |input: usize| {
            let positions = (input + 2 * self.padding).checked_sub(self.kernel);
            match self.rounding {
                Rounding::Down => Some(positions? / self.stride + 1),
                // PyTorch drops a last window that starts in the border behind the input.
                Rounding::Up => {
                    let windows = positions?.div_ceil(self.stride) + 1;
                    Some(windows.min((input + self.padding).div_ceil(self.stride)))
                }
                Rounding::Convolution => Some(input.div_ceil(self.stride)),
            }
        };
        Some([size(input[0])?, size(input[1])?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn output_sizes_equal_those_of_the_pooled_tensors() {
        let pools = [
            Pool2d::new(PoolKind::Max, 2, 2),
            Pool2d::new(PoolKind::Max, 3, 2).with_rounding(Rounding::Up),
            Pool2d::new(PoolKind::Max, 3, 2).with_rounding(Rounding::Convolution),
            Pool2d::new(PoolKind::Max, 3, 2).with_padding(1),
            Pool2d::new(PoolKind::Average, 3, 2).with_padding(1),
            Pool2d::new(PoolKind::AverageInside, 3, 1).with_padding(1),
            Pool2d::blur(),
        ];
        for pool in pools {
            for (height, width) in [(3, 4), (5, 6), (7, 8), (9, 13)] {
                let x = Tensor::<4>::zeros([1, 1, height, width], &Device::flex());
                let [_, _, h, w] = pool.forward(x).dims();
                assert_eq!(pool.output_size([height, width]), Some([h, w]), "{pool:?}");
            }
        }
        let beside_a_convolution =
            Pool2d::new(PoolKind::Max, 3, 2).with_rounding(Rounding::Convolution);
        for size in 1..12_usize {
            let x = Tensor::<4>::full([1, 1, size, size], -3.0, &Device::flex());
            let y = beside_a_convolution.forward(x);
            let expected = size.div_ceil(2);
            assert_eq!(y.dims(), [1, 1, expected, expected]);
            assert!(y.into_data().iter::<f32>().all(|value| value == -3.0));
        }
        assert_eq!(
            Pool2d::new(PoolKind::Max, 3, 2).output_size([2, 9]),
            None,
            "no window fits"
        );
    }

    #[test]
    fn blur_pooling_weights_the_neighbors_by_one_two_one_and_reflects_the_border() {
        let device = Device::flex();
        // By hand: (b + 2a + b) / 4, (b + 2c + d) / 4, ... of each row, with rows that are all the same.
        let row = |n: usize| (0..n).map(|i| ((i * i) % 7) as f32).collect::<Vec<_>>();
        for (height, width) in [(4, 5), (2, 6), (5, 3)] {
            let values = row(width);
            let rows: Vec<f32> = (0..height).flat_map(|_| values.clone()).collect();
            let x = Tensor::<1>::from_floats(rows.as_slice(), &device);
            let y = Pool2d::blur().forward(x.reshape([1, 1, height, width]));
            let at = |i: isize| {
                let last = width as isize - 1;
                let reflected = if i > last { 2 * last - i } else { i.abs() };
                values[reflected as usize]
            };
            let blurred = (0..width.div_ceil(2) as isize)
                .map(|i| (at(2 * i - 1) + 2.0 * at(2 * i) + at(2 * i + 1)) / 4.0);
            let expected: Vec<f32> = blurred.collect();
            let found: Vec<f32> = y.into_data().iter::<f32>().collect();
            for row in found.chunks(expected.len()) {
                for (found, expected) in row.iter().zip(&expected) {
                    assert!((found - expected).abs() < 1e-6, "{height}x{width}: {row:?}");
                }
            }
        }
        // A constant remains, even where nothing can be reflected.
        let y = Pool2d::blur().forward(Tensor::full([1, 2, 1, 3], 2.5, &device));
        assert_eq!(y.dims(), [1, 2, 1, 2]);
        assert!(y.into_data().iter::<f32>().all(|v| (v - 2.5).abs() < 1e-6));
    }
}
