//! Scale and shift per channel, residual sum and ReLU in one pass.
//!
//! A frozen batch norm is `x * scale + shift` per channel. With the sum over the shortcut and the
//! ReLU that follow it in a residual network it is one pass over memory instead of four.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::ops::{ActivationOps, FloatTensorOps};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Tensor};

use super::autodiff::{into_optional_parts, needs_gradient, tracked};
use super::cpu::{Contiguous, all_f32, dims, map_planes, sum, sum_of, sum_planes, tensor};
use super::optional::OptionalTensor;

/// Computes `x * scale + shift + residual` per channel, then ReLU if `relu`.
///
/// Differentiable in all tensors. Gradients of constants are not computed.
///
/// # Shapes
/// - `x`, `residual` and the result: `[batch, channels, height, width]`
/// - `scale`, `shift`: `[channels]`
///
/// # Panics
/// If the shapes do not match.
pub fn affine(
    x: Tensor<4>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    residual: Option<Tensor<4>>,
    relu: bool,
) -> Tensor<4> {
    let shape = x.dims();
    assert!(
        scale.dims() == [shape[1]] && shift.dims() == [shape[1]],
        "affine: scale and shift need one element per channel of {shape:?}"
    );
    if let Some(residual) = &residual {
        assert_eq!(
            residual.dims(),
            shape,
            "affine: the residual has another shape"
        );
    }
    Tensor::from_dispatch(<Dispatch as AffineOps>::affine(
        x.into_dispatch(),
        scale.into_dispatch(),
        shift.into_dispatch(),
        residual.map(Tensor::into_dispatch).into(),
        relu,
    ))
}

/// Computes `max(x, 0)`. Differentiable; NaN stays NaN.
///
/// # Shapes
/// `x` and the result: `[batch, channels, height, width]`
pub fn relu(x: Tensor<4>) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as AffineOps>::relu(x.into_dispatch()))
}

/// Computes `max(a + b, 0)`, the end of a residual block. Differentiable in both; NaN stays NaN.
///
/// # Shapes
/// `a`, `b` and the result: `[batch, channels, height, width]`
///
/// # Panics
/// If the shapes differ.
pub fn add_relu(a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
    assert_eq!(a.dims(), b.dims(), "add_relu: the shapes differ");
    Tensor::from_dispatch(<Dispatch as AffineOps>::add_relu(
        a.into_dispatch(),
        b.into_dispatch(),
    ))
}

// ---------------------------------------------------------------------------------------------
// Backends
// ---------------------------------------------------------------------------------------------

/// The operations of this module and their gradients.
#[backend_extension(Autodiff, Flex, Cube: cfg(any(feature = "wgpu", feature = "cuda")))]
pub(super) trait AffineOps: Backend {
    /// See [`affine`].
    fn affine(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        #[extension_type] residual: OptionalTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self> {
        portable_affine::<Self>(x, scale, shift, residual, relu)
    }

    /// The gradient of [`affine`] for `x`: `output_gradient * scale`, and zero where `output`, the
    /// result of its ReLU if it has one, is zero.
    fn affine_input_gradient(
        output_gradient: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        #[extension_type] output: OptionalTensor<Self>,
    ) -> FloatTensor<Self> {
        portable_input_gradient::<Self>(output_gradient, scale, output)
    }

    /// The sum of `[batch, channels, height, width]` over all axes but the channels: `[channels]`.
    fn sum_per_channel(x: FloatTensor<Self>) -> FloatTensor<Self> {
        portable_sum_per_channel::<Self>(x)
    }

    /// The sum of `a * b` over all axes but the channels: `[channels]`.
    fn dot_per_channel(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        portable_sum_per_channel::<Self>(Self::float_mul(a, b))
    }

    /// See [`relu`].
    fn relu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        <Self as ActivationOps<Self>>::relu(x)
    }

    /// See [`add_relu`].
    fn add_relu(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        <Self as ActivationOps<Self>>::relu(Self::float_add(a, b))
    }

    /// `output_gradient` where the `output` of a ReLU is positive, zero elsewhere.
    fn relu_gradient(
        output: FloatTensor<Self>,
        output_gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        <Self as ActivationOps<Self>>::relu_backward(output, output_gradient)
    }
}

/// Views `[channels]` as `[1, channels, 1, 1]`, which broadcasts.
pub(super) fn per_channel<B: Backend>(values: FloatTensor<B>) -> FloatTensor<B> {
    let channels = values.shape()[0];
    B::float_reshape(values, Shape::from([1, channels, 1, 1]))
}

fn portable_affine<B: Backend>(
    x: FloatTensor<B>,
    scale: FloatTensor<B>,
    shift: FloatTensor<B>,
    residual: OptionalTensor<B>,
    relu: bool,
) -> FloatTensor<B> {
    let scaled = B::float_mul(x, per_channel::<B>(scale));
    let mut y = B::float_add(scaled, per_channel::<B>(shift));
    if let OptionalTensor::Present(residual) = residual {
        y = B::float_add(y, residual);
    }
    if relu {
        <B as ActivationOps<B>>::relu(y)
    } else {
        y
    }
}

fn portable_input_gradient<B: Backend>(
    output_gradient: FloatTensor<B>,
    scale: FloatTensor<B>,
    output: OptionalTensor<B>,
) -> FloatTensor<B> {
    let gradient = match output {
        OptionalTensor::Present(output) => B::relu_backward(output, output_gradient),
        OptionalTensor::Absent => output_gradient,
    };
    B::float_mul(gradient, per_channel::<B>(scale))
}

pub(super) fn portable_sum_per_channel<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let channels = x.shape()[1];
    let sum = B::float_sum_dims(x, &[0, 2, 3]);
    B::float_reshape(sum, Shape::from([channels]))
}

impl AffineOps for Flex {
    fn affine(
        x: FlexTensor,
        scale: FlexTensor,
        shift: FlexTensor,
        residual: OptionalTensor<Self>,
        relu: bool,
    ) -> FlexTensor {
        if all_f32([&x, &scale, &shift].into_iter().chain(residual.as_ref())) {
            cpu_affine(x, scale, shift, residual.into_option(), relu)
        } else {
            portable_affine::<Self>(x, scale, shift, residual, relu)
        }
    }

    fn affine_input_gradient(
        output_gradient: FlexTensor,
        scale: FlexTensor,
        output: OptionalTensor<Self>,
    ) -> FlexTensor {
        if all_f32(
            [&output_gradient, &scale]
                .into_iter()
                .chain(output.as_ref()),
        ) {
            cpu_input_gradient(output_gradient, scale, output.into_option())
        } else {
            portable_input_gradient::<Self>(output_gradient, scale, output)
        }
    }

    fn sum_per_channel(x: FlexTensor) -> FlexTensor {
        if all_f32([&x]) {
            cpu_sum_per_channel(x)
        } else {
            portable_sum_per_channel::<Self>(x)
        }
    }

    fn dot_per_channel(a: FlexTensor, b: FlexTensor) -> FlexTensor {
        if all_f32([&a, &b]) {
            cpu_dot_per_channel(a, b)
        } else {
            portable_sum_per_channel::<Self>(Self::float_mul(a, b))
        }
    }

    fn relu(x: FlexTensor) -> FlexTensor {
        if all_f32([&x]) {
            cpu_relu(x)
        } else {
            <Self as ActivationOps<Self>>::relu(x)
        }
    }

    fn add_relu(a: FlexTensor, b: FlexTensor) -> FlexTensor {
        if all_f32([&a, &b]) {
            cpu_add_relu(a, b)
        } else {
            <Self as ActivationOps<Self>>::relu(Self::float_add(a, b))
        }
    }

    fn relu_gradient(output: FlexTensor, output_gradient: FlexTensor) -> FlexTensor {
        if all_f32([&output, &output_gradient]) {
            cpu_relu_gradient(output, output_gradient)
        } else {
            <Self as ActivationOps<Self>>::relu_backward(output, output_gradient)
        }
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl AffineOps for burn::backend::Cube {
    fn affine(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        residual: OptionalTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self> {
        super::cube::elementwise::affine(&x, &scale, &shift, residual.as_ref(), relu)
            .unwrap_or_else(|| portable_affine::<Self>(x, scale, shift, residual, relu))
    }

    fn affine_input_gradient(
        output_gradient: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        output: OptionalTensor<Self>,
    ) -> FloatTensor<Self> {
        let own = super::cube::elementwise::affine_input_gradient;
        own(&output_gradient, &scale, output.as_ref())
            .unwrap_or_else(|| portable_input_gradient::<Self>(output_gradient, scale, output))
    }

    fn add_relu(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        super::cube::elementwise::add_relu(&a, &b)
            .unwrap_or_else(|| <Self as ActivationOps<Self>>::relu(Self::float_add(a, b)))
    }
}

// ---------------------------------------------------------------------------------------------
// Gradients
// ---------------------------------------------------------------------------------------------

/// The inputs of the backward pass; those that no gradient depends on are not kept.
#[derive(Clone, Debug)]
struct AffineState<B: Backend> {
    /// For the gradient of the scale.
    x: Option<FloatTensor<B>>,
    /// For the gradient of `x`.
    scale: Option<FloatTensor<B>>,
    /// With ReLU.
    output: Option<FloatTensor<B>>,
}

/// The parents are `x`, scale, shift and residual.
#[derive(Debug)]
struct Affine;

impl<B: AffineOps> Backward<B, 4> for Affine {
    type State = AffineState<B>;

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let mut output_gradient = grads.consume::<B>(&ops.node);
        let [x_node, scale_node, shift_node, residual_node]: [Option<NodeId>; 4] =
            ops.parents.map(|parent| parent.map(|node| node.id));
        let AffineState {
            x,
            scale,
            mut output,
        } = ops.state;
        // The gradient of `x` alone applies the ReLU in its own pass; the others need it applied.
        if (scale_node.is_some() || shift_node.is_some() || residual_node.is_some())
            && let Some(output) = output.take()
        {
            output_gradient = B::relu_gradient(output, output_gradient);
        }
        if let Some(node) = shift_node {
            let gradient = B::sum_per_channel(output_gradient.clone());
            grads.register::<B>(node, gradient);
        }
        if let (Some(node), Some(x)) = (scale_node, x) {
            let gradient = B::dot_per_channel(x, output_gradient.clone());
            grads.register::<B>(node, gradient);
        }
        if let (Some(node), Some(scale)) = (x_node, scale) {
            let gradient = B::affine_input_gradient(output_gradient.clone(), scale, output.into());
            grads.register::<B>(node, gradient);
        }
        if let Some(node) = residual_node {
            grads.register::<B>(node, output_gradient);
        }
    }
}

/// The ReLU of one tensor or of the sum of two; its state is its output.
#[derive(Debug)]
struct Relu;

impl<B: AffineOps, const N: usize> Backward<B, N> for Relu {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let output_gradient = grads.consume::<B>(&ops.node);
        let gradient = B::relu_gradient(ops.state, output_gradient);
        for node in ops.parents.into_iter().flatten() {
            grads.register::<B>(node.id, gradient.clone());
        }
    }
}

impl<B: AffineOps, C: CheckpointStrategy> AffineOps for Autodiff<B, C> {
    fn affine(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        residual: OptionalTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self> {
        let mut state = AffineState {
            x: needs_gradient::<B, C>(&scale).then(|| x.primitive().clone()),
            scale: needs_gradient::<B, C>(&x).then(|| scale.primitive().clone()),
            output: None,
        };
        let (x, x_node) = x.into_parts();
        let (scale, scale_node) = scale.into_parts();
        let (shift, shift_node) = shift.into_parts();
        let (residual, residual_node) = into_optional_parts::<B, C>(residual, &x);
        let output = B::affine(x, scale, shift, residual.into(), relu);
        state.output = relu.then(|| output.clone());
        let nodes = [x_node, scale_node, shift_node, residual_node];
        tracked::<B, C, _, _>(Affine, state, output, nodes)
    }

    fn relu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let output = <B as AffineOps>::relu(x);
        tracked::<B, C, _, _>(Relu, output.clone(), output, [x_node])
    }

    fn add_relu(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        let (a, a_node) = a.into_parts();
        let (b, b_node) = b.into_parts();
        let output = B::add_relu(a, b);
        tracked::<B, C, _, _>(Relu, output.clone(), output, [a_node, b_node])
    }
}

// ---------------------------------------------------------------------------------------------
// CPU kernels
// ---------------------------------------------------------------------------------------------

/// Returns `max(value, 0)`. NaN stays NaN, so that a diverged run is noticed.
pub(super) fn positive(value: f32) -> f32 {
    if value < 0.0 { 0.0 } else { value }
}

fn cpu_affine(
    x: FlexTensor,
    scale: FlexTensor,
    shift: FlexTensor,
    residual: Option<FlexTensor>,
    relu: bool,
) -> FlexTensor {
    let shape = dims(&x);
    let (x, scale, shift) = (
        Contiguous::new(x),
        Contiguous::new(scale),
        Contiguous::new(shift),
    );
    let (scale, shift) = (scale.data(), shift.data());
    let of_channel = |channel: usize| (scale[channel], shift[channel]);
    match (residual.map(Contiguous::new), relu) {
        (None, false) => map_planes(shape, [x.data()], |channel| {
            let (scale, shift) = of_channel(channel);
            move |[x]| x * scale + shift
        }),
        (None, true) => map_planes(shape, [x.data()], |channel| {
            let (scale, shift) = of_channel(channel);
            move |[x]| positive(x * scale + shift)
        }),
        (Some(residual), false) => map_planes(shape, [x.data(), residual.data()], |channel| {
            let (scale, shift) = of_channel(channel);
            move |[x, residual]| x * scale + shift + residual
        }),
        (Some(residual), true) => map_planes(shape, [x.data(), residual.data()], |channel| {
            let (scale, shift) = of_channel(channel);
            move |[x, residual]| positive(x * scale + shift + residual)
        }),
    }
}

fn cpu_input_gradient(
    output_gradient: FlexTensor,
    scale: FlexTensor,
    output: Option<FlexTensor>,
) -> FlexTensor {
    let shape = dims(&output_gradient);
    let (gradient, scale) = (Contiguous::new(output_gradient), Contiguous::new(scale));
    let scale = scale.data();
    match output.map(Contiguous::new) {
        None => map_planes(shape, [gradient.data()], |channel| {
            let scale = scale[channel];
            move |[gradient]| gradient * scale
        }),
        Some(output) => map_planes(shape, [output.data(), gradient.data()], |channel| {
            let scale = scale[channel];
            move |[output, gradient]| {
                if output > 0.0 { gradient * scale } else { 0.0 }
            }
        }),
    }
}

fn cpu_relu(x: FlexTensor) -> FlexTensor {
    let shape = dims(&x);
    map_planes(shape, [Contiguous::new(x).data()], |_| {
        |[x]: [f32; 1]| positive(x)
    })
}

fn cpu_add_relu(a: FlexTensor, b: FlexTensor) -> FlexTensor {
    let shape = dims(&a);
    let (a, b) = (Contiguous::new(a), Contiguous::new(b));
    map_planes(shape, [a.data(), b.data()], |_| {
        |[a, b]: [f32; 2]| positive(a + b)
    })
}

fn cpu_relu_gradient(output: FlexTensor, output_gradient: FlexTensor) -> FlexTensor {
    let shape = dims(&output);
    let (output, gradient) = (Contiguous::new(output), Contiguous::new(output_gradient));
    map_planes(shape, [output.data(), gradient.data()], |_| {
        |[output, gradient]: [f32; 2]| if output > 0.0 { gradient } else { 0.0 }
    })
}

fn cpu_sum_per_channel(x: FlexTensor) -> FlexTensor {
    let shape: [usize; 4] = dims(&x);
    let x = Contiguous::new(x);
    let sums = sum_planes(shape, |plane| sum(&x.data()[plane]));
    tensor(sums, [shape[1]])
}

fn cpu_dot_per_channel(a: FlexTensor, b: FlexTensor) -> FlexTensor {
    let shape: [usize; 4] = dims(&a);
    let (a, b) = (Contiguous::new(a), Contiguous::new(b));
    let sums = sum_planes(shape, |plane| {
        sum_of(&a.data()[plane.clone()], &b.data()[plane], |a, b| a * b)
    });
    tensor(sums, [shape[1]])
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{
        assert_close, assert_same_bits_on_any_thread_count, cases, noise, values,
    };
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn affine_and_its_gradients_equal_those_of_pytorch() {
        for case in cases("affine") {
            let relu = case.options["relu"].as_bool().unwrap();
            let x = case.input::<4>("x");
            let (scale, shift) = (case.input::<1>("scale"), case.input::<1>("shift"));
            let residual = case.has("residual").then(|| case.input::<4>("residual"));
            let y = affine(
                x.clone(),
                scale.clone(),
                shift.clone(),
                residual.clone(),
                relu,
            );
            case.assert_equals("y", y.clone());
            let gradients = (y * case.constant("dy")).sum().backward();
            case.assert_equals("dx", x.grad(&gradients).unwrap());
            case.assert_equals("dscale", scale.grad(&gradients).unwrap());
            case.assert_equals("dshift", shift.grad(&gradients).unwrap());
            if let Some(residual) = residual {
                case.assert_equals("dresidual", residual.grad(&gradients).unwrap());
            }
        }
    }

    #[test]
    fn a_frozen_affine_gives_the_input_the_same_gradient() {
        for case in cases("affine") {
            let relu = case.options["relu"].as_bool().unwrap();
            let x = case.input::<4>("x");
            let residual = case.has("residual").then(|| case.constant::<4>("residual"));
            let (scale, shift) = (case.constant("scale"), case.constant("shift"));
            let y = affine(x.clone(), scale, shift, residual, relu);
            let gradients = (y * case.constant("dy")).sum().backward();
            case.assert_equals("dx", x.grad(&gradients).unwrap());
        }
    }

    #[test]
    fn relu_and_add_relu_equal_the_sum_and_relu_of_burn() {
        let device = Device::flex().autodiff();
        let shape = [2, 3, 6, 5];
        let [a, b] = [1, 2].map(|seed| noise::<4>(seed, shape, &device).require_grad());
        let dy = noise::<4>(3, shape, &device);
        for sum in [false, true] {
            let (fused, composed) = if sum {
                (
                    add_relu(a.clone(), b.clone()),
                    burn::tensor::activation::relu(a.clone() + b.clone()),
                )
            } else {
                (relu(a.clone()), burn::tensor::activation::relu(a.clone()))
            };
            assert_eq!(values(fused.clone()), values(composed.clone()));
            let fused = (fused * dy.clone()).sum().backward();
            let composed = (composed * dy.clone()).sum().backward();
            for input in [&a, &b] {
                assert_eq!(
                    input.grad(&fused).map(values),
                    input.grad(&composed).map(values)
                );
            }
        }
    }

    #[test]
    fn relu_keeps_not_a_number() {
        let device = Device::flex();
        let x = Tensor::<4>::full([1, 1, 1, 2], f32::NAN, &device);
        assert!(values(relu(x)).iter().all(|value| value.is_nan()));
    }

    #[test]
    fn portable_forms_equal_the_cpu_kernels() {
        let device = Device::flex();
        let shape = [2, 3, 6, 5];
        let flat = |seed| FlexTensor::from_data(noise::<4>(seed, shape, &device).into_data());
        let flat_1 = |seed| FlexTensor::from_data(noise::<1>(seed, [3], &device).into_data());
        let check = |name: &str, portable: FlexTensor, cpu: FlexTensor| {
            let values = |tensor: FlexTensor| tensor.into_data().try_to_vec::<f32>().unwrap();
            assert_close(name, &values(portable), &values(cpu));
        };
        let (x, residual, scale, shift) = (flat(1), flat(2), flat_1(3), flat_1(4));
        for relu in [false, true] {
            for residual in [None, Some(residual.clone())] {
                let (x, scale, shift) = (x.clone(), scale.clone(), shift.clone());
                check(
                    "affine",
                    portable_affine::<Flex>(
                        x.clone(),
                        scale.clone(),
                        shift.clone(),
                        residual.clone().into(),
                        relu,
                    ),
                    cpu_affine(x, scale, shift, residual, relu),
                );
            }
        }
        for output in [None, Some(residual.clone())] {
            check(
                "input gradient",
                portable_input_gradient::<Flex>(x.clone(), scale.clone(), output.clone().into()),
                cpu_input_gradient(x.clone(), scale.clone(), output),
            );
        }
        check(
            "sum",
            portable_sum_per_channel::<Flex>(x.clone()),
            cpu_sum_per_channel(x),
        );
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        assert_same_bits_on_any_thread_count(|| {
            let device = Device::flex().autodiff();
            let shape = [3, 20, 60, 50];
            let [x, residual] = [1, 2].map(|seed| noise::<4>(seed, shape, &device).require_grad());
            let [scale, shift] = [3, 4].map(|seed| noise::<1>(seed, [20], &device).require_grad());
            let y = affine(
                x.clone(),
                scale.clone(),
                shift.clone(),
                Some(residual.clone()),
                true,
            );
            let gradients = (y.clone() * noise(5, shape, &device)).sum().backward();
            [
                values(y),
                values(x.grad(&gradients).unwrap()),
                values(residual.grad(&gradients).unwrap()),
                values(scale.grad(&gradients).unwrap()),
                values(shift.grad(&gradients).unwrap()),
            ]
            .concat()
        });
    }
}
