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
//! `input_gradient` and `weight_gradient` take the same ways backwards.

mod bordered;
mod depthwise;
mod forward;
mod geometry;
mod grouped;
mod input_gradient;
#[cfg(test)]
mod tests;
mod unfold;
mod weight_gradient;
mod winograd;

use burn::backend::TensorMetadata;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch};
use burn::tensor::Tensor;

use super::cpu::{Contiguous, dims};
use super::{Kernels, Operations, needs_gradient};
use forward::Finish;
use geometry::Geometry;
pub(super) use input_gradient::cpu_input_gradient;
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
        Some(bias) => conv2d_fused(x, weight, bias, None, false, options),
        None => {
            Geometry::new(x.dims(), weight.dims(), options);
            let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
            Tensor::from_dispatch(<Dispatch as Operations>::conv2d(x, weight, options))
        }
    }
}

/// [`conv2d`] with `bias`, plus `residual` (of the output's shape), clamped at zero when `relu`: what
/// a convolution with a folded norm is at the end of a residual branch. On the CPU all of it happens
/// before an output is written. Differentiable in all tensors.
///
/// # Panics
/// When the shapes do not fit each other or the options.
pub fn conv2d_fused(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    residual: Option<Tensor<4>>,
    relu: bool,
    options: Conv2dOptions,
) -> Tensor<4> {
    let geometry = Geometry::new(x.dims(), weight.dims(), options);
    let [filters] = bias.dims();
    assert_eq!(
        filters,
        geometry.groups * geometry.filters,
        "conv2d: the bias needs one element per output channel"
    );
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    let bias = bias.into_dispatch();
    Tensor::from_dispatch(match residual {
        None => <Dispatch as Operations>::conv2d_with_bias(x, weight, bias, relu, options),
        Some(residual) => {
            assert_eq!(
                residual.dims(),
                geometry.output_shape(),
                "conv2d: the residual needs the output's shape"
            );
            let residual = residual.into_dispatch();
            <Dispatch as Operations>::conv2d_with_residual(x, weight, bias, residual, relu, options)
        }
    })
}

/// `max(gates * (conv2d(x) + bias) + residual, 0)`: the end of a residual branch with an SE unit.
/// `gates` is `[batch, channels_out, 1, 1]`, `residual` has the output's shape. Differentiable in all
/// tensors.
///
/// # Panics
/// When the shapes do not fit each other or the options.
pub fn conv2d_gated(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    gates: Tensor<4>,
    residual: Tensor<4>,
    options: Conv2dOptions,
) -> Tensor<4> {
    let geometry = Geometry::new(x.dims(), weight.dims(), options);
    let shape = geometry.output_shape();
    assert!(
        bias.dims() == [shape[1]]
            && gates.dims() == [shape[0], shape[1], 1, 1]
            && residual.dims() == shape,
        "conv2d: bias, gates or residual do not fit the output {shape:?}"
    );
    Tensor::from_dispatch(<Dispatch as Operations>::conv2d_gated(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        gates.into_dispatch(),
        residual.into_dispatch(),
        options,
    ))
}

// ---------------------------------------------------------------------------------------------
// Gradient recording
// ---------------------------------------------------------------------------------------------

/// What the backward pass needs; inputs that no gradient asks for are not kept.
#[derive(Clone, Debug)]
pub(super) struct Conv2dState<B: Backend> {
    x: Option<FloatTensor<B>>,
    weight: Option<FloatTensor<B>>,
    /// With ReLU.
    output: Option<FloatTensor<B>>,
    input_shape: [usize; 4],
    weight_shape: [usize; 4],
    options: Conv2dOptions,
}

impl<B: Kernels> Conv2dState<B> {
    fn new<C: CheckpointStrategy>(
        x: &FloatTensor<Autodiff<B, C>>,
        weight: &FloatTensor<Autodiff<B, C>>,
        options: Conv2dOptions,
    ) -> Self {
        Self {
            x: needs_gradient::<B, C>(weight).then(|| x.primitive().clone()),
            weight: needs_gradient::<B, C>(x).then(|| weight.primitive().clone()),
            output: None,
            input_shape: x.shape().dims::<4>(),
            weight_shape: weight.shape().dims::<4>(),
            options,
        }
    }

    fn with_output(mut self, output: &FloatTensor<B>, relu: bool) -> Self {
        self.output = relu.then(|| output.clone());
        self
    }

    /// Registers the gradients of all parents that ask for one.
    fn register(
        self,
        mut output_gradient: FloatTensor<B>,
        [x, weight, bias, residual]: [Option<NodeId>; 4],
        grads: &mut Gradients,
    ) {
        if let Some(output) = self.output {
            output_gradient = B::relu_gradient(output, output_gradient);
        }
        if let Some(node) = bias {
            let gradient = B::sum_per_channel(output_gradient.clone());
            grads.register::<B>(node, gradient);
        }
        if let (Some(node), Some(weight)) = (x, self.weight) {
            let gradient = B::conv2d_input_gradient(
                output_gradient.clone(),
                weight,
                self.input_shape,
                self.options,
            );
            grads.register::<B>(node, gradient);
        }
        if let (Some(node), Some(x)) = (weight, self.x) {
            let gradient = B::conv2d_weight_gradient(
                x,
                output_gradient.clone(),
                self.weight_shape,
                self.options,
            );
            grads.register::<B>(node, gradient);
        }
        if let Some(node) = residual {
            grads.register::<B>(node, output_gradient);
        }
    }
}

/// The parents are input, weight, bias and residual, or the first of them.
#[derive(Debug)]
struct Conv2d;

impl<B: Kernels, const N: usize> Backward<B, N> for Conv2d {
    type State = Conv2dState<B>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let output_gradient = grads.consume::<B>(&ops.node);
        let mut parents = ops.parents.into_iter();
        let parents = std::array::from_fn(|_| parents.next().flatten().map(|node| node.id));
        ops.state.register(output_gradient, parents, grads);
    }
}

pub(super) fn recorded<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    options: Conv2dOptions,
) -> FloatTensor<Autodiff<B, C>> {
    let state = Conv2dState::new::<C>(&x, &weight, options);
    let (x, x_node) = x.into_parts();
    let (weight, weight_node) = weight.into_parts();
    let output = B::conv2d_forward(x, weight, None, None, false, options);
    match Backward::<B, 2>::prepare::<C>(Conv2d, [x_node, weight_node])
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(preparation) => preparation.finish(state, output),
        OpsKind::UnTracked(preparation) => preparation.finish(output),
    }
}

pub(super) fn recorded_with_bias<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    bias: FloatTensor<Autodiff<B, C>>,
    relu: bool,
    options: Conv2dOptions,
) -> FloatTensor<Autodiff<B, C>> {
    let state = Conv2dState::new::<C>(&x, &weight, options);
    let (x, x_node) = x.into_parts();
    let (weight, weight_node) = weight.into_parts();
    let (bias, bias_node) = bias.into_parts();
    let output = B::conv2d_forward(x, weight, Some(bias), None, relu, options);
    match Backward::<B, 3>::prepare::<C>(Conv2d, [x_node, weight_node, bias_node])
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(preparation) => {
            preparation.finish(state.with_output(&output, relu), output)
        }
        OpsKind::UnTracked(preparation) => preparation.finish(output),
    }
}

pub(super) fn recorded_with_residual<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    bias: FloatTensor<Autodiff<B, C>>,
    residual: FloatTensor<Autodiff<B, C>>,
    relu: bool,
    options: Conv2dOptions,
) -> FloatTensor<Autodiff<B, C>> {
    let state = Conv2dState::new::<C>(&x, &weight, options);
    let (x, x_node) = x.into_parts();
    let (weight, weight_node) = weight.into_parts();
    let (bias, bias_node) = bias.into_parts();
    let (residual, residual_node) = residual.into_parts();
    let output = B::conv2d_forward(x, weight, Some(bias), Some(residual), relu, options);
    let nodes = [x_node, weight_node, bias_node, residual_node];
    match Backward::<B, 4>::prepare::<C>(Conv2d, nodes)
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(preparation) => {
            preparation.finish(state.with_output(&output, relu), output)
        }
        OpsKind::UnTracked(preparation) => preparation.finish(output),
    }
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
