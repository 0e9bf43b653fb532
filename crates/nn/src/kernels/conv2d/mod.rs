//! Two-dimensional convolution with gradients.
//!
//! Each way to compute it has a module, and a shape takes the one that was measured to be the fastest
//! (the table is in `docs/speed.md`):
//!
//! - `winograd`: 3x3 of stride 1 over maps that are not small, with a quarter of the multiplications;
//! - `depthwise`: one channel for each filter, plane by plane;
//! - `grouped`: groups of few channels, as a product that nothing is unfolded for;
//! - `forward`: everything else, as a product of the weights and the unfolded input, tile by tile. A
//!   1x1 kernel of stride 1 is unfolded by copying.
//!
//! `input_gradient` and `weight_gradient` take the same ways backwards; `recorded` is what autodiff
//! sees.

mod bordered;
mod depthwise;
mod forward;
mod geometry;
mod grouped;
mod input_gradient;
mod recorded;
#[cfg(test)]
mod tests;
mod unfold;
mod weight_gradient;
mod winograd;

use burn::backend::Dispatch;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;

use super::Operations;
use super::affine::affine;
use super::cpu::{Contiguous, dims};
use forward::Finish;
use geometry::Geometry;
pub(super) use input_gradient::cpu_input_gradient;
pub(super) use recorded::{Inputs, recorded, scaled};
pub(super) use weight_gradient::cpu_weight_gradient;

/// How the kernel moves over the input. The pairs are (vertical, horizontal).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dOptions {
    /// Input pixels from one output pixel to the next; at least 1.
    pub stride: [usize; 2],
    /// Zeros added on either side of the input.
    pub padding: [usize; 2],
    /// Input pixels from one kernel element to the next; at least 1.
    pub dilation: [usize; 2],
    /// Number of independent groups of channels; divides the input and the output channels.
    pub groups: usize,
}

impl Default for Conv2dOptions {
    fn default() -> Self {
        Self {
            stride: [1, 1],
            padding: [0, 0],
            dilation: [1, 1],
            groups: 1,
        }
    }
}

/// Convolves `x` (`[batch, channels_in, height, width]`) with `weight`
/// (`[channels_out, channels_in / groups, kernel_height, kernel_width]`) and adds `bias`
/// (`[channels_out]`): a cross-correlation, as in every deep-learning library.
///
/// The result is `[batch, channels_out, height_out, width_out]` with
/// `height_out = (height + 2 padding - dilation (kernel_height - 1) - 1) / stride + 1`.
/// Differentiable in `x`, `weight` and `bias`.
///
/// # Panics
/// When the shapes do not fit each other or the options.
pub fn conv2d(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    options: Conv2dOptions,
) -> Tensor<4> {
    match bias {
        Some(bias) => conv2d_fused(x, Filters::new(weight, bias), None, false, options),
        None => {
            Geometry::new(x.dims(), weight.dims(), options);
            let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
            Tensor::from_dispatch(<Dispatch as Operations>::conv2d(x, weight, options))
        }
    }
}

/// The filters of a convolution with the norm behind it.
#[derive(Clone, Debug)]
pub struct Filters {
    /// `[channels_out, channels_in / groups, kernel_height, kernel_width]`.
    pub weight: Tensor<4>,
    /// What each filter is multiplied by, `[channels_out]`. A constant: no gradient reaches it.
    pub scale: Option<Tensor<1>>,
    /// What is added to each filter's output, `[channels_out]`.
    pub bias: Tensor<1>,
}

impl Filters {
    /// Without a scale.
    pub fn new(weight: Tensor<4>, bias: Tensor<1>) -> Self {
        Self {
            weight,
            scale: None,
            bias,
        }
    }

    /// Weight and bias, with the scale in the weight.
    pub fn folded(self) -> (Tensor<4>, Tensor<1>) {
        let Some(scale) = self.scale else {
            return (self.weight, self.bias);
        };
        let [filters, channels, height, width] = self.weight.dims();
        let planes = [1, filters, channels * height, width];
        let zeros = Tensor::zeros([filters], &scale.device());
        let scaled = affine(self.weight.reshape(planes), scale, zeros, None, false);
        (
            scaled.reshape([filters, channels, height, width]),
            self.bias,
        )
    }

    fn check(&self, geometry: &Geometry) {
        let vector = [geometry.groups * geometry.filters];
        assert!(
            self.bias.dims() == vector && self.scale.iter().all(|scale| scale.dims() == vector),
            "conv2d: bias and scale need one element per output channel"
        );
    }
}

/// [`conv2d`] with these filters, plus `residual` (of the output's shape), clamped at zero when
/// `relu`: the end of a residual branch. On the CPU all of it happens before an output is written.
/// Differentiable in all tensors but the scale.
///
/// # Panics
/// When the shapes do not fit each other or the options.
pub fn conv2d_fused(
    x: Tensor<4>,
    filters: Filters,
    residual: Option<Tensor<4>>,
    relu: bool,
    options: Conv2dOptions,
) -> Tensor<4> {
    let geometry = Geometry::new(x.dims(), filters.weight.dims(), options);
    filters.check(&geometry);
    let (x, weight) = (x.into_dispatch(), filters.weight.into_dispatch());
    let scale = filters.scale.map(Tensor::into_dispatch);
    let bias = filters.bias.into_dispatch();
    let residual = residual.map(|residual| {
        assert_eq!(
            residual.dims(),
            geometry.output_shape(),
            "conv2d: the residual needs the output's shape"
        );
        residual.into_dispatch()
    });
    type D = Dispatch;
    Tensor::from_dispatch(match (scale, residual) {
        (None, None) => D::conv2d_with_bias(x, weight, bias, relu, options),
        (None, Some(r)) => D::conv2d_with_residual(x, weight, bias, r, relu, options),
        (Some(s), None) => D::conv2d_scaled(x, weight, s, bias, relu, options),
        (Some(s), Some(r)) => D::conv2d_scaled_with_residual(x, weight, s, bias, r, relu, options),
    })
}

/// `max(gates * (conv2d(x) + bias) + residual, 0)`: the end of a residual branch with an SE unit.
/// `gates` is `[batch, channels_out, 1, 1]`, `residual` has the output's shape. Differentiable in all
/// tensors but the scale of the filters.
///
/// # Panics
/// When the shapes do not fit each other or the options.
pub fn conv2d_gated(
    x: Tensor<4>,
    filters: Filters,
    gates: Tensor<4>,
    residual: Tensor<4>,
    options: Conv2dOptions,
) -> Tensor<4> {
    let geometry = Geometry::new(x.dims(), filters.weight.dims(), options);
    filters.check(&geometry);
    let shape = geometry.output_shape();
    assert!(
        gates.dims() == [shape[0], shape[1], 1, 1] && residual.dims() == shape,
        "conv2d: gates or residual do not fit the output {shape:?}"
    );
    let (x, weight) = (x.into_dispatch(), filters.weight.into_dispatch());
    let (bias, gates) = (filters.bias.into_dispatch(), gates.into_dispatch());
    let residual = residual.into_dispatch();
    type D = Dispatch;
    Tensor::from_dispatch(match filters.scale {
        None => D::conv2d_gated(x, weight, bias, gates, residual, options),
        Some(scale) => {
            let scale = scale.into_dispatch();
            D::conv2d_scaled_gated(x, weight, scale, bias, gates, residual, options)
        }
    })
}

// ---------------------------------------------------------------------------------------------
// CPU kernel
// ---------------------------------------------------------------------------------------------

pub(super) fn cpu_forward(
    x: FlexTensor,
    weight: FlexTensor,
    bias: Option<FlexTensor>,
    gates: Option<FlexTensor>,
    residual: Option<FlexTensor>,
    relu: bool,
    options: Conv2dOptions,
) -> FlexTensor {
    let geometry = Geometry::new(dims(&x), dims(&weight), options);
    let (x, weight) = (Contiguous::new(x), Contiguous::new(weight));
    let [bias, gates, residual] = [bias, gates, residual].map(|t| t.map(Contiguous::new));
    let (x, weight) = (x.data(), weight.data());
    let finish = Finish {
        bias: bias.as_ref().map(Contiguous::data),
        gates: gates.as_ref().map(Contiguous::data),
        channels: geometry.groups * geometry.filters,
        residual: residual.as_ref().map(Contiguous::data),
        relu,
    };
    let output = if depthwise::is_possible(&geometry) {
        depthwise::convolve(x, weight, &geometry, finish)
    } else if grouped::pays(&geometry) {
        grouped::convolve(x, weight, &geometry, finish)
    } else if winograd::pays(&geometry) {
        let straight = winograd::Weights::Straight;
        winograd::convolve(x, &geometry, finish, weight, straight)
    } else {
        forward::convolve_rows(x, &geometry, finish, weight)
    };
    // SAFETY: each of the ways writes every element.
    unsafe { output.into_tensor(geometry.output_shape()) }
}
