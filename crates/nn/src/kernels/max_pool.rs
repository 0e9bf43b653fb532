//! Max pooling plane by plane, the rows of a window first and then its columns.
//!
//! For 64 planes of 400x544 with windows of 3 and stride 2, burn's CPU kernel takes 180 to 220 ms of
//! CPU time and this one 30 to 35.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::{IntDType, Tensor};
use rayon::prelude::*;

use super::autodiff::tracked;
use super::cpu::{Contiguous, Output, all_f32, dims, tensor, with_scratch};
use super::vectorized::vectorized;

/// Square windows; every field has PyTorch's meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPoolOptions {
    /// Side of a window in pixels; at least 1.
    pub kernel: usize,
    /// Pixels from one window to the next; at least 1.
    pub stride: usize,
    /// Border on every side that is never the maximum; at most half the window.
    pub padding: usize,
    /// Whether the last window may reach beyond the border (Caffe).
    pub ceil_mode: bool,
}

impl MaxPoolOptions {
    /// Returns the number of windows along an axis of this size, or `None` if not even one fits.
    pub fn output_size(&self, input: usize) -> Option<usize> {
        let positions = (input + 2 * self.padding).checked_sub(self.kernel)?;
        Some(if self.ceil_mode {
            // PyTorch drops a last window that starts in the border behind the input.
            let windows = positions.div_ceil(self.stride) + 1;
            windows.min((input + self.padding).div_ceil(self.stride))
        } else {
            positions / self.stride + 1
        })
    }

    /// Returns the input positions of a window, without those in the border.
    fn window(&self, at: usize, input: usize) -> std::ops::Range<usize> {
        let start = at * self.stride;
        let end = (start + self.kernel)
            .saturating_sub(self.padding)
            .min(input);
        start.saturating_sub(self.padding).min(end)..end
    }
}

/// Returns the largest value of each window. Differentiable.
///
/// NaN is larger than any number. The gradient goes to the first of equal values in row-major order,
/// as in PyTorch.
///
/// # Shapes
/// - `x`: `[batch, channels, height, width]`
/// - result: `[batch, channels, height_out, width_out]`, sizes by [`MaxPoolOptions::output_size`]
///
/// # Panics
/// If no window fits.
pub fn max_pool2d(x: Tensor<4>, options: MaxPoolOptions) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    assert!(
        options.output_size(height).is_some() && options.output_size(width).is_some(),
        "max_pool2d: no window of {options:?} fits into {height}x{width}"
    );
    Tensor::from_dispatch(<Dispatch as MaxPoolOps>::max_pool(
        x.into_dispatch(),
        options,
    ))
}

/// The operation of this module and its gradient.
#[backend_extension(Autodiff, Flex, Cube: cfg(any(feature = "wgpu", feature = "cuda")))]
pub(super) trait MaxPoolOps: Backend {
    /// See [`max_pool2d`].
    fn max_pool(x: FloatTensor<Self>, options: MaxPoolOptions) -> FloatTensor<Self> {
        portable_forward::<Self>(x, options)
    }

    /// The gradient of [`max_pool2d`], whose result was `output`.
    fn max_pool_gradient(
        x: FloatTensor<Self>,
        _output: FloatTensor<Self>,
        output_gradient: FloatTensor<Self>,
        options: MaxPoolOptions,
    ) -> FloatTensor<Self> {
        portable_gradient::<Self>(x, output_gradient, options)
    }
}

fn portable_forward<B: Backend>(x: FloatTensor<B>, options: MaxPoolOptions) -> FloatTensor<B> {
    let MaxPoolOptions {
        kernel,
        stride,
        padding,
        ceil_mode,
    } = options;
    B::max_pool2d(x, [kernel; 2], [stride; 2], [padding; 2], [1; 2], ceil_mode)
}

fn portable_gradient<B: Backend>(
    x: FloatTensor<B>,
    output_gradient: FloatTensor<B>,
    options: MaxPoolOptions,
) -> FloatTensor<B> {
    let (kernel, stride) = ([options.kernel; 2], [options.stride; 2]);
    let (padding, ceil_mode) = ([options.padding; 2], options.ceil_mode);
    let pooled = B::max_pool2d_with_indices(
        x.clone(),
        kernel,
        stride,
        padding,
        [1; 2],
        ceil_mode,
        IntDType::I32,
    );
    let indices = pooled.indices;
    let gradient = output_gradient;
    B::max_pool2d_with_indices_backward(
        x, kernel, stride, padding, [1; 2], ceil_mode, gradient, indices,
    )
    .x_grad
}

impl MaxPoolOps for Flex {
    fn max_pool(x: FlexTensor, options: MaxPoolOptions) -> FlexTensor {
        if all_f32([&x]) {
            cpu_forward(x, options)
        } else {
            portable_forward::<Self>(x, options)
        }
    }

    fn max_pool_gradient(
        x: FlexTensor,
        output: FlexTensor,
        output_gradient: FlexTensor,
        options: MaxPoolOptions,
    ) -> FlexTensor {
        if all_f32([&x, &output, &output_gradient]) {
            cpu_gradient(x, output, output_gradient, options)
        } else {
            portable_gradient::<Self>(x, output_gradient, options)
        }
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl MaxPoolOps for burn::backend::Cube {}

/// The inputs of the backward pass.
#[derive(Clone, Debug)]
struct MaxPoolState<B: Backend> {
    x: FloatTensor<B>,
    output: FloatTensor<B>,
    options: MaxPoolOptions,
}

#[derive(Debug)]
struct MaxPool;

impl<B: MaxPoolOps> Backward<B, 1> for MaxPool {
    type State = MaxPoolState<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let output_gradient = grads.consume::<B>(&ops.node);
        let MaxPoolState { x, output, options } = ops.state;
        if let [Some(node)] = ops.parents {
            let gradient = B::max_pool_gradient(x, output, output_gradient, options);
            grads.register::<B>(node.id, gradient);
        }
    }
}

impl<B: MaxPoolOps, C: CheckpointStrategy> MaxPoolOps for Autodiff<B, C> {
    fn max_pool(x: FloatTensor<Self>, options: MaxPoolOptions) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let output = B::max_pool(x.clone(), options);
        let state = MaxPoolState {
            x,
            output: output.clone(),
            options,
        };
        tracked::<B, C, _, _>(MaxPool, state, output, [x_node])
    }
}

/// Returns the larger value. NaN is larger than any number.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}

fn output_shape(shape: [usize; 4], options: MaxPoolOptions) -> [usize; 4] {
    let [batch, channels, height, width] = shape;
    let size = |input| options.output_size(input).unwrap_or(0);
    [batch, channels, size(height), size(width)]
}

/// Copies the elements of a line to one part of `phases` for each remainder of their position divided by the
/// stride. The parts are `columns` elements apart.
#[inline(always)]
fn sort_by_phase(line: &[f32], stride: usize, phases: &mut [f32], columns: usize) {
    if stride == 2 {
        // The usual case, in a form that compiles to vector shuffles. For 64 planes of 112x112, a division
        // for each element took 0.7 of 1.0 ms.
        let (even, odd) = phases.split_at_mut(columns);
        let (pairs, rest) = line.as_chunks::<2>();
        for ((even, odd), pair) in even.iter_mut().zip(odd).zip(pairs) {
            [*even, *odd] = *pair;
        }
        even[pairs.len()..][..rest.len()].copy_from_slice(rest);
        return;
    }
    for phase in 0..stride.min(line.len()) {
        let values = line[phase..].iter().step_by(stride);
        for (to, value) in phases[phase * columns..].iter_mut().zip(values) {
            *to = *value;
        }
    }
}

fn cpu_forward(x: FlexTensor, options: MaxPoolOptions) -> FlexTensor {
    let shape: [usize; 4] = dims(&x);
    let [_, _, height, width] = shape;
    let x = Contiguous::new(x);
    let output_shape = output_shape(shape, options);
    let [batch, channels, height_out, width_out] = output_shape;
    let stride = options.stride;
    // The row with its border, sorted by the remainder of x divided by the stride: what a kernel
    // element reads for all outputs of a row is then contiguous.
    let columns = (width + 2 * options.padding + options.kernel).div_ceil(stride) + 1;
    let columns = columns.max(width_out + options.kernel.div_ceil(stride));
    let mut output = Output::new(output_shape.iter().product());
    let shared = output.shared();
    (0..batch * channels)
        .into_par_iter()
        .with_min_len((8192 / (height * width).max(1)).max(1))
        .for_each(|plane| {
            let source = &x.data()[plane * height * width..][..height * width];
            let pixels = height_out * width_out;
            with_scratch(
                [options.padding + width, stride * columns, pixels],
                |[line, phases, target]| {
                    vectorized(
                        #[inline(always)]
                        || {
                            phases.fill(f32::NEG_INFINITY);
                            for (y, target) in target.chunks_exact_mut(width_out.max(1)).enumerate()
                            {
                                line.fill(f32::NEG_INFINITY);
                                for row in options.window(y, height) {
                                    let source = &source[row * width..][..width];
                                    let inside = &mut line[options.padding..];
                                    for (value, new) in inside.iter_mut().zip(source) {
                                        *value = larger(*value, *new);
                                    }
                                }
                                sort_by_phase(line, stride, phases, columns);
                                target.fill(f32::NEG_INFINITY);
                                for x in 0..options.kernel {
                                    let first = x % stride * columns + x / stride;
                                    let values = &phases[first..][..width_out];
                                    for (value, new) in target.iter_mut().zip(values) {
                                        *value = larger(*value, *new);
                                    }
                                }
                            }
                        },
                    );
                    // SAFETY: no other task has this plane.
                    unsafe { shared.write(plane * pixels, target) };
                },
            );
        });
    // SAFETY: the tasks cover every plane.
    unsafe { output.into_tensor(output_shape) }
}

fn cpu_gradient(
    x: FlexTensor,
    output: FlexTensor,
    output_gradient: FlexTensor,
    options: MaxPoolOptions,
) -> FlexTensor {
    let shape: [usize; 4] = dims(&x);
    let [_, _, height, width] = shape;
    let [_, _, height_out, width_out] = output_shape(shape, options);
    let pixels = height_out * width_out;
    let (x, output) = (Contiguous::new(x), Contiguous::new(output));
    let output_gradient = Contiguous::new(output_gradient);
    let mut gradient = vec![0.0; shape.iter().product()];
    gradient
        .par_chunks_mut((height * width).max(1))
        .enumerate()
        .for_each(|(plane, gradient)| {
            let x = &x.data()[plane * height * width..][..height * width];
            let output = &output.data()[plane * pixels..][..pixels];
            let dy = &output_gradient.data()[plane * pixels..][..pixels];
            for (at, (largest, dy)) in output.iter().zip(dy).enumerate() {
                let (row, column) = (at / width_out, at % width_out);
                let columns = options.window(column, width);
                let first = options.window(row, height).find_map(|y| {
                    let line = &x[y * width..][columns.clone()];
                    let at = line.iter().position(|value| value == largest)?;
                    Some(y * width + columns.start + at)
                });
                // A window with NaN has no gradient; the loss is NaN too.
                if let Some(at) = first {
                    gradient[at] += dy;
                }
            }
        });
    tensor(gradient, shape)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{assert_same_bits_on_any_thread_count, noise, values};
    use super::*;
    use burn::tensor::Device;
    use burn::tensor::ops::MaxPoolOptions as BurnOptions;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pooling_and_its_gradient_equal_burn_s(
            batch in 1usize..3, channels in 1usize..4, height in 1usize..20, width in 1usize..40,
            kernel in 1usize..4, stride in 1usize..4, padding in 0usize..2, ceil_mode in any::<bool>()
        ) {
            let options = MaxPoolOptions { kernel, stride, padding, ceil_mode };
            prop_assume!(padding * 2 <= kernel);
            prop_assume!(height + 2 * padding >= kernel && width + 2 * padding >= kernel);
            let device = Device::flex().autodiff();
            let all = |native: bool| {
                let x = noise::<4>(1, [batch, channels, height, width], &device).require_grad();
                let y = if native {
                    max_pool2d(x.clone(), options)
                } else {
                    let options = BurnOptions::new([kernel; 2])
                        .with_stride([stride; 2])
                        .with_padding([padding; 2])
                        .with_ceil_mode(ceil_mode);
                    burn::tensor::module::max_pool2d(x.clone(), options)
                };
                let gradients = (y.clone() * noise(2, y.dims(), &device)).sum().backward();
                (y.dims(), values(y), values(x.grad(&gradients).unwrap()))
            };
            prop_assert_eq!(all(true), all(false));
        }
    }

    #[test]
    fn nan_stays_nan_and_results_do_not_depend_on_the_number_of_threads() {
        let device = Device::flex();
        let options = MaxPoolOptions {
            kernel: 3,
            stride: 2,
            padding: 1,
            ceil_mode: false,
        };
        let x = Tensor::<4>::from_data([[[[1.0, f32::NAN], [2.0, 3.0]]]], &device);
        assert!(values(max_pool2d(x, options))[0].is_nan());
        assert_same_bits_on_any_thread_count(|| {
            let x = noise::<4>(1, [2, 9, 31, 40], &Device::flex().autodiff()).require_grad();
            let y = max_pool2d(x.clone(), options);
            let gradients = y.clone().sum().backward();
            [values(y), values(x.grad(&gradients).unwrap())].concat()
        });
    }
}
