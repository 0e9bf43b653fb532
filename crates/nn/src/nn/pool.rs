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
        }
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
}
