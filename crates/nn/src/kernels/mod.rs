//! Our own differentiable operations.
//!
//! burn composes some operations out of several passes over memory, and its CPU convolution has no
//! gradient of its own. The operations here are single passes with hand-written gradients:
//!
//! - [`conv2d`](conv2d::conv2d): two-dimensional convolution;
//! - [`batch_norm_train`](batch_norm::batch_norm_train): batch norm on the statistics of the batch;
//! - [`affine`](affine::affine): frozen batch norm, the residual sum and ReLU in one pass, with its
//!   relatives [`relu`](affine::relu) and [`add_relu`](affine::add_relu);
//! - [`excite_add_relu`](excite::excite_add_relu): gates, residual sum and ReLU of an SE block;
//! - [`linear`](linear::linear): fully connected layers;
//! - [`max_pool2d`](max_pool::max_pool2d): max pooling;
//! - [`roi_align`](roi_align::roi_align): crops of a feature map.
//!
//! Each operation has a fast kernel for the CPU backend (flex, 32-bit floats) and a portable form
//! made of burn's own tensor operations (or, for RoIAlign, of host memory) for every other backend.
//! CPU kernels give the same bits whatever the number of threads: each task owns what it writes,
//! and every sum has one fixed order.
//!
//! Two traits hold it together. [`Kernels`] has the forward and backward kernels of a backend.
//! [`Operations`] is what a tensor can reach: the forward operations, which on an autodiff backend
//! also record the gradient.

pub mod affine;
pub mod batch_norm;
pub mod conv2d;
mod cpu;
pub mod excite;
#[cfg(test)]
mod fixture;
pub mod linear;
pub mod max_pool;
mod panels;
mod portable;
pub mod roi_align;
pub mod vectorized;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, backend_extension};
use burn::tensor::DType;

use batch_norm::BatchNormGradients;
use conv2d::Conv2dOptions;
use max_pool::MaxPoolOptions;
use roi_align::RoiAlignOptions;

/// Forward and backward kernels of a backend without autodiff.
///
/// The default bodies are portable; a backend overrides what it does faster.
pub trait Kernels: Backend {
    /// See [`conv2d::conv2d_fused`].
    fn conv2d_forward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
        residual: Option<FloatTensor<Self>>,
        relu: bool,
        options: Conv2dOptions,
    ) -> FloatTensor<Self> {
        portable::conv2d::<Self>(x, weight, bias, residual, relu, options)
    }

    /// The gradient of [`Kernels::conv2d_forward`] for its input, which has the shape `input_shape`.
    fn conv2d_input_gradient(
        output_gradient: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        input_shape: [usize; 4],
        options: Conv2dOptions,
    ) -> FloatTensor<Self> {
        portable::conv2d_input_gradient::<Self>(output_gradient, weight, input_shape, options)
    }

    /// The gradient of [`Kernels::conv2d_forward`] for its weight, which has the shape `weight_shape`.
    fn conv2d_weight_gradient(
        x: FloatTensor<Self>,
        output_gradient: FloatTensor<Self>,
        weight_shape: [usize; 4],
        options: Conv2dOptions,
    ) -> FloatTensor<Self> {
        portable::conv2d_weight_gradient::<Self>(x, output_gradient, weight_shape, options)
    }

    /// The sum of `[batch, channels, height, width]` over all but the channels: `[channels]`.
    fn sum_per_channel(x: FloatTensor<Self>) -> FloatTensor<Self> {
        portable::sum_per_channel::<Self>(x)
    }

    /// Mean and biased variance of every channel: `[2, channels]`.
    fn batch_statistics(x: FloatTensor<Self>) -> FloatTensor<Self> {
        portable::batch_statistics::<Self>(x)
    }

    /// `(x - mean) / sqrt(variance + epsilon) * weight + bias`; `statistics` is `[2, channels]`.
    fn batch_norm_forward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        portable::batch_norm::<Self>(x, weight, bias, statistics, epsilon)
    }

    /// The gradients of batch norm when `statistics` are those of `x`. The gradient of the input
    /// is left out when `input` is false.
    fn batch_norm_gradients(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        output_gradient: FloatTensor<Self>,
        epsilon: f64,
        input: bool,
    ) -> BatchNormGradients<Self> {
        portable::batch_norm_gradients::<Self>(
            x,
            weight,
            statistics,
            output_gradient,
            epsilon,
            input,
        )
    }

    /// See [`affine::affine`].
    fn affine_forward(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        residual: Option<FloatTensor<Self>>,
        relu: bool,
    ) -> FloatTensor<Self> {
        portable::affine::<Self>(x, scale, shift, residual, relu)
    }

    /// The gradient of [`Kernels::affine_forward`] for `x`: `output_gradient * scale`, and zero where the
    /// `output` of its ReLU (if it has one) is zero.
    fn affine_input_gradient(
        output: Option<FloatTensor<Self>>,
        output_gradient: FloatTensor<Self>,
        scale: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        portable::affine_input_gradient::<Self>(output, output_gradient, scale)
    }

    /// The sum of `a * b` over all but the channels: `[channels]`.
    fn dot_per_channel(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::sum_per_channel(Self::float_mul(a, b))
    }

    /// `max(x, 0)`.
    fn relu_forward(x: FloatTensor<Self>) -> FloatTensor<Self> {
        <Self as burn::backend::ops::ActivationOps<Self>>::relu(x)
    }

    /// `max(a + b, 0)`.
    fn add_relu_forward(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        <Self as burn::backend::ops::ActivationOps<Self>>::relu(Self::float_add(a, b))
    }

    /// The gradient where the ReLU's `output` is positive, zero elsewhere.
    fn relu_gradient(
        output: FloatTensor<Self>,
        output_gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        <Self as burn::backend::ops::ActivationOps<Self>>::relu_backward(output, output_gradient)
    }

    /// See [`conv2d::conv2d_gated`].
    fn conv2d_gated_forward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gates: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        options: Conv2dOptions,
    ) -> FloatTensor<Self> {
        let x = Self::conv2d_forward(x, weight, Some(bias), None, false, options);
        Self::excite_add_relu_forward(x, gates, residual)
    }

    /// See [`linear::linear`].
    fn linear_forward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::linear(x, weight, Some(bias))
    }

    /// The gradient of [`Kernels::linear_forward`] for its input.
    fn linear_input_gradient(
        output_gradient: FloatTensor<Self>,
        weight: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::linear_x_backward(weight, output_gradient)
    }

    /// The gradient of [`Kernels::linear_forward`] for its weight.
    fn linear_weight_gradient(
        x: FloatTensor<Self>,
        output_gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::linear_weight_backward(x, output_gradient)
    }

    /// See [`excite::excite_add_relu`].
    fn excite_add_relu_forward(
        x: FloatTensor<Self>,
        gates: FloatTensor<Self>,
        residual: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::add_relu_forward(Self::float_mul(x, gates), residual)
    }

    /// The sum of `a * b` over each plane: `[batch, channels, 1, 1]`.
    fn dot_per_plane(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_sum_dims(Self::float_mul(a, b), &[2, 3])
    }

    /// See [`max_pool::max_pool2d`].
    fn max_pool2d_forward(x: FloatTensor<Self>, options: MaxPoolOptions) -> FloatTensor<Self> {
        portable::max_pool2d::<Self>(x, options)
    }

    /// The gradient of [`Kernels::max_pool2d_forward`], whose result was `output`.
    fn max_pool2d_gradient(
        x: FloatTensor<Self>,
        _output: FloatTensor<Self>,
        output_gradient: FloatTensor<Self>,
        options: MaxPoolOptions,
    ) -> FloatTensor<Self> {
        portable::max_pool2d_gradient::<Self>(x, output_gradient, options)
    }

    /// See [`roi_align::roi_align`].
    fn roi_align_forward(
        features: FloatTensor<Self>,
        rois: FloatTensor<Self>,
        options: RoiAlignOptions,
    ) -> FloatTensor<Self> {
        portable::roi_align::<Self>(features, rois, options)
    }

    /// The gradient of [`Kernels::roi_align_forward`] for the features, of shape `features_shape`.
    fn roi_align_gradient(
        rois: FloatTensor<Self>,
        output_gradient: FloatTensor<Self>,
        features_shape: [usize; 4],
        options: RoiAlignOptions,
    ) -> FloatTensor<Self> {
        portable::roi_align_gradient::<Self>(rois, output_gradient, features_shape, options)
    }
}

/// The operations as tensors reach them, through burn's dispatch.
///
/// Optional inputs are separate operations because a backend extension takes plain tensors only.
#[backend_extension(Autodiff, Flex, Cube: cfg(any(feature = "wgpu", feature = "cuda")))]
pub trait Operations: Backend {
    /// See [`conv2d::conv2d`].
    fn conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        options: Conv2dOptions,
    ) -> FloatTensor<Self>;

    /// See [`conv2d::conv2d_fused`].
    fn conv2d_with_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        relu: bool,
        options: Conv2dOptions,
    ) -> FloatTensor<Self>;

    /// See [`conv2d::conv2d_fused`].
    fn conv2d_with_residual(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        relu: bool,
        options: Conv2dOptions,
    ) -> FloatTensor<Self>;

    /// See [`conv2d::conv2d_fused`].
    fn conv2d_scaled(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        relu: bool,
        options: Conv2dOptions,
    ) -> FloatTensor<Self>;

    /// See [`conv2d::conv2d_fused`].
    fn conv2d_scaled_with_residual(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        relu: bool,
        options: Conv2dOptions,
    ) -> FloatTensor<Self>;

    /// See [`conv2d::conv2d_gated`].
    fn conv2d_scaled_gated(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gates: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        options: Conv2dOptions,
    ) -> FloatTensor<Self>;

    /// See [`linear::linear`].
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// See [`Kernels::batch_statistics`]; not differentiable.
    fn batch_statistics(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`Kernels::batch_norm_forward`]; the gradient takes `statistics` as functions of `x`.
    fn batch_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self>;

    /// See [`affine::affine`].
    fn affine(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self>;

    /// See [`affine::affine`].
    fn affine_with_residual(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self>;

    /// See [`affine::relu`].
    fn relu(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`affine::add_relu`].
    fn add_relu(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`conv2d::conv2d_gated`].
    fn conv2d_gated(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gates: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        options: Conv2dOptions,
    ) -> FloatTensor<Self>;

    /// See [`excite::excite_add_relu`].
    fn excite_add_relu(
        x: FloatTensor<Self>,
        gates: FloatTensor<Self>,
        residual: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// See [`max_pool::max_pool2d`].
    fn max_pool2d(x: FloatTensor<Self>, options: MaxPoolOptions) -> FloatTensor<Self>;

    /// See [`roi_align::roi_align`].
    fn roi_align(
        features: FloatTensor<Self>,
        rois: FloatTensor<Self>,
        options: RoiAlignOptions,
    ) -> FloatTensor<Self>;
}

/// The operations of a backend without autodiff are its forward kernels.
macro_rules! operations_without_gradient {
    ($backend:ty) => {
        impl Operations for $backend {
            fn conv2d(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                options: Conv2dOptions,
            ) -> FloatTensor<Self> {
                <Self as Kernels>::conv2d_forward(x, weight, None, None, false, options)
            }

            fn conv2d_with_bias(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: FloatTensor<Self>,
                relu: bool,
                options: Conv2dOptions,
            ) -> FloatTensor<Self> {
                <Self as Kernels>::conv2d_forward(x, weight, Some(bias), None, relu, options)
            }

            fn conv2d_with_residual(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: FloatTensor<Self>,
                residual: FloatTensor<Self>,
                relu: bool,
                options: Conv2dOptions,
            ) -> FloatTensor<Self> {
                let (bias, residual) = (Some(bias), Some(residual));
                <Self as Kernels>::conv2d_forward(x, weight, bias, residual, relu, options)
            }

            fn conv2d_scaled(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                scale: FloatTensor<Self>,
                bias: FloatTensor<Self>,
                relu: bool,
                options: Conv2dOptions,
            ) -> FloatTensor<Self> {
                let weight = conv2d::scaled::<Self>(weight, scale);
                <Self as Kernels>::conv2d_forward(x, weight, Some(bias), None, relu, options)
            }

            fn conv2d_scaled_with_residual(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                scale: FloatTensor<Self>,
                bias: FloatTensor<Self>,
                residual: FloatTensor<Self>,
                relu: bool,
                options: Conv2dOptions,
            ) -> FloatTensor<Self> {
                let weight = conv2d::scaled::<Self>(weight, scale);
                let (bias, residual) = (Some(bias), Some(residual));
                <Self as Kernels>::conv2d_forward(x, weight, bias, residual, relu, options)
            }

            fn conv2d_scaled_gated(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                scale: FloatTensor<Self>,
                bias: FloatTensor<Self>,
                gates: FloatTensor<Self>,
                residual: FloatTensor<Self>,
                options: Conv2dOptions,
            ) -> FloatTensor<Self> {
                let weight = conv2d::scaled::<Self>(weight, scale);
                <Self as Kernels>::conv2d_gated_forward(x, weight, bias, gates, residual, options)
            }

            fn linear(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: FloatTensor<Self>,
            ) -> FloatTensor<Self> {
                <Self as Kernels>::linear_forward(x, weight, bias)
            }

            fn batch_statistics(x: FloatTensor<Self>) -> FloatTensor<Self> {
                <Self as Kernels>::batch_statistics(x)
            }

            fn batch_norm(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: FloatTensor<Self>,
                statistics: FloatTensor<Self>,
                epsilon: f64,
            ) -> FloatTensor<Self> {
                <Self as Kernels>::batch_norm_forward(x, weight, bias, statistics, epsilon)
            }

            fn affine(
                x: FloatTensor<Self>,
                scale: FloatTensor<Self>,
                shift: FloatTensor<Self>,
                relu: bool,
            ) -> FloatTensor<Self> {
                <Self as Kernels>::affine_forward(x, scale, shift, None, relu)
            }

            fn affine_with_residual(
                x: FloatTensor<Self>,
                scale: FloatTensor<Self>,
                shift: FloatTensor<Self>,
                residual: FloatTensor<Self>,
                relu: bool,
            ) -> FloatTensor<Self> {
                <Self as Kernels>::affine_forward(x, scale, shift, Some(residual), relu)
            }

            fn relu(x: FloatTensor<Self>) -> FloatTensor<Self> {
                <Self as Kernels>::relu_forward(x)
            }

            fn add_relu(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
                <Self as Kernels>::add_relu_forward(a, b)
            }

            fn conv2d_gated(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: FloatTensor<Self>,
                gates: FloatTensor<Self>,
                residual: FloatTensor<Self>,
                options: Conv2dOptions,
            ) -> FloatTensor<Self> {
                <Self as Kernels>::conv2d_gated_forward(x, weight, bias, gates, residual, options)
            }

            fn excite_add_relu(
                x: FloatTensor<Self>,
                gates: FloatTensor<Self>,
                residual: FloatTensor<Self>,
            ) -> FloatTensor<Self> {
                <Self as Kernels>::excite_add_relu_forward(x, gates, residual)
            }

            fn max_pool2d(x: FloatTensor<Self>, options: MaxPoolOptions) -> FloatTensor<Self> {
                <Self as Kernels>::max_pool2d_forward(x, options)
            }

            fn roi_align(
                features: FloatTensor<Self>,
                rois: FloatTensor<Self>,
                options: RoiAlignOptions,
            ) -> FloatTensor<Self> {
                <Self as Kernels>::roi_align_forward(features, rois, options)
            }
        }
    };
}

operations_without_gradient!(Flex);

// With the `fusion` feature `Cube` is the fusing backend; the portable kernels are ordinary tensor
// operations to it, so it fuses them as it pleases.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
operations_without_gradient!(burn::backend::Cube);
#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl Kernels for burn::backend::Cube {}

impl<B: Kernels, C: CheckpointStrategy> Operations for Autodiff<B, C> {
    fn conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        options: Conv2dOptions,
    ) -> FloatTensor<Self> {
        conv2d::recorded::<B, C>(conv2d::Inputs::new(x, weight), false, options)
    }

    fn conv2d_with_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        relu: bool,
        options: Conv2dOptions,
    ) -> FloatTensor<Self> {
        let inputs = conv2d::Inputs {
            bias: Some(bias),
            ..conv2d::Inputs::new(x, weight)
        };
        conv2d::recorded::<B, C>(inputs, relu, options)
    }

    fn conv2d_with_residual(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        relu: bool,
        options: Conv2dOptions,
    ) -> FloatTensor<Self> {
        let inputs = conv2d::Inputs {
            bias: Some(bias),
            residual: Some(residual),
            ..conv2d::Inputs::new(x, weight)
        };
        conv2d::recorded::<B, C>(inputs, relu, options)
    }

    fn conv2d_scaled(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        relu: bool,
        options: Conv2dOptions,
    ) -> FloatTensor<Self> {
        let inputs = conv2d::Inputs {
            scale: Some(scale),
            bias: Some(bias),
            ..conv2d::Inputs::new(x, weight)
        };
        conv2d::recorded::<B, C>(inputs, relu, options)
    }

    fn conv2d_scaled_with_residual(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        relu: bool,
        options: Conv2dOptions,
    ) -> FloatTensor<Self> {
        let inputs = conv2d::Inputs {
            scale: Some(scale),
            bias: Some(bias),
            residual: Some(residual),
            ..conv2d::Inputs::new(x, weight)
        };
        conv2d::recorded::<B, C>(inputs, relu, options)
    }

    fn conv2d_scaled_gated(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gates: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        options: Conv2dOptions,
    ) -> FloatTensor<Self> {
        let inputs = conv2d::Inputs {
            scale: Some(scale),
            bias: Some(bias),
            residual: Some(residual),
            gates: Some(gates),
            ..conv2d::Inputs::new(x, weight)
        };
        conv2d::recorded::<B, C>(inputs, true, options)
    }

    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        linear::recorded::<B, C>(x, weight, bias)
    }

    fn batch_statistics(x: FloatTensor<Self>) -> FloatTensor<Self> {
        use burn::backend::AutodiffBackend;
        Self::from_inner(B::batch_statistics(x.into_primitive()))
    }

    fn batch_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        batch_norm::recorded::<B, C>(x, weight, bias, statistics, epsilon)
    }

    fn affine(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self> {
        affine::recorded::<B, C>(x, scale, shift, relu)
    }

    fn affine_with_residual(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self> {
        affine::recorded_with_residual::<B, C>(x, scale, shift, residual, relu)
    }

    fn relu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        affine::recorded_relu::<B, C>(x)
    }

    fn add_relu(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        affine::recorded_add_relu::<B, C>(a, b)
    }

    fn conv2d_gated(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gates: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        options: Conv2dOptions,
    ) -> FloatTensor<Self> {
        let inputs = conv2d::Inputs {
            bias: Some(bias),
            residual: Some(residual),
            gates: Some(gates),
            ..conv2d::Inputs::new(x, weight)
        };
        conv2d::recorded::<B, C>(inputs, true, options)
    }

    fn excite_add_relu(
        x: FloatTensor<Self>,
        gates: FloatTensor<Self>,
        residual: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        excite::recorded::<B, C>(x, gates, residual)
    }

    fn max_pool2d(x: FloatTensor<Self>, options: MaxPoolOptions) -> FloatTensor<Self> {
        max_pool::recorded::<B, C>(x, options)
    }

    fn roi_align(
        features: FloatTensor<Self>,
        rois: FloatTensor<Self>,
        options: RoiAlignOptions,
    ) -> FloatTensor<Self> {
        roi_align::recorded::<B, C>(features, rois, options)
    }
}

/// Whether a gradient will be asked of this tensor.
///
/// burn tells only an operation in preparation, so this prepares one and drops it. Operations use
/// it to keep an input alive for the backward pass only when a gradient needs it.
fn needs_gradient<B: Kernels, C: CheckpointStrategy>(tensor: &FloatTensor<Autodiff<B, C>>) -> bool {
    #[derive(Debug)]
    struct Probe;

    impl<B: Backend> Backward<B, 1> for Probe {
        type State = ();

        fn backward(
            self,
            _ops: Ops<(), 1>,
            _grads: &mut Gradients,
            _checkpointer: &mut burn::backend::autodiff::checkpoint::base::Checkpointer,
        ) {
            // Never registered, so never called.
        }
    }

    let preparation = Backward::<B, 1>::prepare::<C>(Probe, [tensor.node()])
        .compute_bound()
        .stateful();
    matches!(preparation, OpsKind::Tracked(_))
}

/// `output` as a tensor whose gradient `operation` makes of `state`, if one of the parents asks for it.
fn tracked<B: Kernels, C: CheckpointStrategy, O: Backward<B, N>, const N: usize>(
    operation: O,
    state: O::State,
    output: FloatTensor<B>,
    parents: [NodeGuard; N],
) -> FloatTensor<Autodiff<B, C>> {
    match operation.prepare::<C>(parents).compute_bound().stateful() {
        OpsKind::Tracked(preparation) => preparation.finish(state, output),
        OpsKind::UnTracked(preparation) => preparation.finish(output),
    }
}

/// Whether the fast kernels can take these tensors; others go the portable way.
fn all_f32(tensors: &[&FlexTensor]) -> bool {
    tensors.iter().all(|tensor| tensor.dtype() == DType::F32)
}

impl Kernels for Flex {
    fn conv2d_forward(
        x: FlexTensor,
        weight: FlexTensor,
        bias: Option<FlexTensor>,
        residual: Option<FlexTensor>,
        relu: bool,
        options: Conv2dOptions,
    ) -> FlexTensor {
        let added = bias.iter().chain(&residual);
        if all_f32(&[&x, &weight]) && added.into_iter().all(|a| a.dtype() == DType::F32) {
            conv2d::cpu_forward(x, weight, bias, None, residual, relu, options)
        } else {
            portable::conv2d::<Self>(x, weight, bias, residual, relu, options)
        }
    }

    fn conv2d_input_gradient(
        output_gradient: FlexTensor,
        weight: FlexTensor,
        input_shape: [usize; 4],
        options: Conv2dOptions,
    ) -> FlexTensor {
        if all_f32(&[&output_gradient, &weight]) {
            conv2d::cpu_input_gradient(output_gradient, weight, input_shape, options)
        } else {
            portable::conv2d_input_gradient::<Self>(output_gradient, weight, input_shape, options)
        }
    }

    fn conv2d_weight_gradient(
        x: FlexTensor,
        output_gradient: FlexTensor,
        weight_shape: [usize; 4],
        options: Conv2dOptions,
    ) -> FlexTensor {
        if all_f32(&[&x, &output_gradient]) {
            conv2d::cpu_weight_gradient(x, output_gradient, weight_shape, options)
        } else {
            portable::conv2d_weight_gradient::<Self>(x, output_gradient, weight_shape, options)
        }
    }

    fn conv2d_gated_forward(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        gates: FlexTensor,
        residual: FlexTensor,
        options: Conv2dOptions,
    ) -> FlexTensor {
        if all_f32(&[&x, &weight, &bias, &gates, &residual]) {
            let (bias, gates, residual) = (Some(bias), Some(gates), Some(residual));
            conv2d::cpu_forward(x, weight, bias, gates, residual, true, options)
        } else {
            let x = portable::conv2d::<Self>(x, weight, Some(bias), None, false, options);
            Self::excite_add_relu_forward(x, gates, residual)
        }
    }

    fn excite_add_relu_forward(
        x: FlexTensor,
        gates: FlexTensor,
        residual: FlexTensor,
    ) -> FlexTensor {
        if all_f32(&[&x, &gates, &residual]) {
            excite::cpu_forward(x, gates, residual)
        } else {
            use burn::backend::ops::FloatTensorOps;
            Self::add_relu_forward(Self::float_mul(x, gates), residual)
        }
    }

    fn dot_per_plane(a: FlexTensor, b: FlexTensor) -> FlexTensor {
        if all_f32(&[&a, &b]) {
            excite::cpu_dot_per_plane(a, b)
        } else {
            use burn::backend::ops::FloatTensorOps;
            Self::float_sum_dims(Self::float_mul(a, b), &[2, 3])
        }
    }

    fn linear_input_gradient(output_gradient: FlexTensor, weight: FlexTensor) -> FlexTensor {
        if all_f32(&[&output_gradient, &weight]) {
            linear::cpu_input_gradient(output_gradient, weight)
        } else {
            use burn::backend::ops::ModuleOps;
            Self::linear_x_backward(weight, output_gradient)
        }
    }

    fn linear_weight_gradient(x: FlexTensor, output_gradient: FlexTensor) -> FlexTensor {
        if all_f32(&[&x, &output_gradient]) {
            linear::cpu_weight_gradient(x, output_gradient)
        } else {
            use burn::backend::ops::ModuleOps;
            Self::linear_weight_backward(x, output_gradient)
        }
    }

    fn sum_per_channel(x: FlexTensor) -> FlexTensor {
        if all_f32(&[&x]) {
            affine::cpu_sum_per_channel(x)
        } else {
            portable::sum_per_channel::<Self>(x)
        }
    }

    fn batch_statistics(x: FlexTensor) -> FlexTensor {
        if all_f32(&[&x]) {
            batch_norm::cpu_statistics(x)
        } else {
            portable::batch_statistics::<Self>(x)
        }
    }

    fn batch_norm_forward(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        statistics: FlexTensor,
        epsilon: f64,
    ) -> FlexTensor {
        if all_f32(&[&x, &weight, &bias, &statistics]) {
            batch_norm::cpu_forward(x, weight, bias, statistics, epsilon)
        } else {
            portable::batch_norm::<Self>(x, weight, bias, statistics, epsilon)
        }
    }

    fn batch_norm_gradients(
        x: FlexTensor,
        weight: FlexTensor,
        statistics: FlexTensor,
        output_gradient: FlexTensor,
        epsilon: f64,
        input: bool,
    ) -> BatchNormGradients<Self> {
        if all_f32(&[&x, &weight, &statistics, &output_gradient]) {
            batch_norm::cpu_gradients(x, weight, statistics, output_gradient, epsilon, input)
        } else {
            portable::batch_norm_gradients::<Self>(
                x,
                weight,
                statistics,
                output_gradient,
                epsilon,
                input,
            )
        }
    }

    fn affine_forward(
        x: FlexTensor,
        scale: FlexTensor,
        shift: FlexTensor,
        residual: Option<FlexTensor>,
        relu: bool,
    ) -> FlexTensor {
        if all_f32(&[&x, &scale, &shift]) && residual.iter().all(|r| r.dtype() == DType::F32) {
            affine::cpu_affine(x, scale, shift, residual, relu)
        } else {
            portable::affine::<Self>(x, scale, shift, residual, relu)
        }
    }

    fn affine_input_gradient(
        output: Option<FlexTensor>,
        output_gradient: FlexTensor,
        scale: FlexTensor,
    ) -> FlexTensor {
        if all_f32(&[&output_gradient, &scale]) {
            affine::cpu_input_gradient(output, output_gradient, scale)
        } else {
            portable::affine_input_gradient::<Self>(output, output_gradient, scale)
        }
    }

    fn dot_per_channel(a: FlexTensor, b: FlexTensor) -> FlexTensor {
        if all_f32(&[&a, &b]) {
            affine::cpu_dot_per_channel(a, b)
        } else {
            use burn::backend::ops::FloatTensorOps;
            portable::sum_per_channel::<Self>(Self::float_mul(a, b))
        }
    }

    fn relu_forward(x: FlexTensor) -> FlexTensor {
        if all_f32(&[&x]) {
            affine::cpu_relu(x)
        } else {
            <Self as burn::backend::ops::ActivationOps<Self>>::relu(x)
        }
    }

    fn add_relu_forward(a: FlexTensor, b: FlexTensor) -> FlexTensor {
        if all_f32(&[&a, &b]) {
            affine::cpu_add_relu(a, b)
        } else {
            use burn::backend::ops::FloatTensorOps;
            <Self as burn::backend::ops::ActivationOps<Self>>::relu(Self::float_add(a, b))
        }
    }

    fn relu_gradient(output: FlexTensor, output_gradient: FlexTensor) -> FlexTensor {
        if all_f32(&[&output, &output_gradient]) {
            affine::cpu_relu_gradient(output, output_gradient)
        } else {
            <Self as burn::backend::ops::ActivationOps<Self>>::relu_backward(
                output,
                output_gradient,
            )
        }
    }

    fn max_pool2d_forward(x: FlexTensor, options: MaxPoolOptions) -> FlexTensor {
        if all_f32(&[&x]) {
            max_pool::cpu_forward(x, options)
        } else {
            portable::max_pool2d::<Self>(x, options)
        }
    }

    fn max_pool2d_gradient(
        x: FlexTensor,
        output: FlexTensor,
        output_gradient: FlexTensor,
        options: MaxPoolOptions,
    ) -> FlexTensor {
        if all_f32(&[&x, &output, &output_gradient]) {
            max_pool::cpu_gradient(x, output, output_gradient, options)
        } else {
            portable::max_pool2d_gradient::<Self>(x, output_gradient, options)
        }
    }

    fn roi_align_forward(
        features: FlexTensor,
        rois: FlexTensor,
        options: RoiAlignOptions,
    ) -> FlexTensor {
        if all_f32(&[&features, &rois]) {
            roi_align::cpu_forward(features, rois, options)
        } else {
            portable::roi_align::<Self>(features, rois, options)
        }
    }

    fn roi_align_gradient(
        rois: FlexTensor,
        output_gradient: FlexTensor,
        features_shape: [usize; 4],
        options: RoiAlignOptions,
    ) -> FlexTensor {
        if all_f32(&[&rois, &output_gradient]) {
            roi_align::cpu_gradient(rois, output_gradient, features_shape, options)
        } else {
            portable::roi_align_gradient::<Self>(rois, output_gradient, features_shape, options)
        }
    }
}
