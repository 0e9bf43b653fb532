//! Per-channel scale and shift, the residual sum and ReLU, fused.
//!
//! A frozen batch norm is `x * scale + shift` per channel. Together with the sum over the shortcut
//! and the ReLU that follow it in a residual network it is one pass over memory instead of four.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch};
use burn::tensor::Tensor;

use super::cpu::{Contiguous, dims, map_planes, sum, sum_of, sum_planes, tensor};
use super::{Kernels, Operations, needs_gradient, tracked};

/// `x * scale + shift + residual`, then ReLU when `relu`.
///
/// `x` and `residual` are `[batch, channels, height, width]`, `scale` and `shift` `[channels]`.
/// Differentiable in all of them; gradients that nobody asks for are not computed.
///
/// # Panics
/// When the shapes do not fit each other.
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
    let (x, scale, shift) = (
        x.into_dispatch(),
        scale.into_dispatch(),
        shift.into_dispatch(),
    );
    Tensor::from_dispatch(match residual {
        None => <Dispatch as Operations>::affine(x, scale, shift, relu),
        Some(residual) => {
            assert_eq!(
                residual.dims(),
                shape,
                "affine: the residual has another shape"
            );
            let residual = residual.into_dispatch();
            <Dispatch as Operations>::affine_with_residual(x, scale, shift, residual, relu)
        }
    })
}

/// `max(x, 0)` in one pass each way. `x` is `[batch, channels, height, width]`; differentiable.
pub fn relu(x: Tensor<4>) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as Operations>::relu(x.into_dispatch()))
}

/// `max(a + b, 0)` in one pass: the end of a residual block. Both are
/// `[batch, channels, height, width]`; differentiable in both.
///
/// # Panics
/// When the shapes differ.
pub fn add_relu(a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
    assert_eq!(a.dims(), b.dims(), "add_relu: the shapes differ");
    let (a, b) = (a.into_dispatch(), b.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Operations>::add_relu(a, b))
}

// ---------------------------------------------------------------------------------------------
// Gradient recording
// ---------------------------------------------------------------------------------------------

/// What the backward pass needs; inputs that no gradient asks for are not kept.
#[derive(Clone, Debug)]
pub(super) struct AffineState<B: Backend> {
    /// For the gradient of the scale.
    x: Option<FloatTensor<B>>,
    /// For the gradient of `x`.
    scale: Option<FloatTensor<B>>,
    /// With ReLU.
    output: Option<FloatTensor<B>>,
}

impl<B: Kernels> AffineState<B> {
    fn new<C: CheckpointStrategy>(
        x: &FloatTensor<Autodiff<B, C>>,
        scale: &FloatTensor<Autodiff<B, C>>,
    ) -> Self {
        Self {
            x: needs_gradient::<B, C>(scale).then(|| x.primitive().clone()),
            scale: needs_gradient::<B, C>(x).then(|| scale.primitive().clone()),
            output: None,
        }
    }

    fn with_output(mut self, output: &FloatTensor<B>, relu: bool) -> Self {
        self.output = relu.then(|| output.clone());
        self
    }

    fn register(
        mut self,
        mut output_gradient: FloatTensor<B>,
        [x, scale, shift, residual]: [Option<NodeId>; 4],
        grads: &mut Gradients,
    ) {
        // Only the gradient of `x` can pass the ReLU on its way; the others need it passed.
        if (scale.is_some() || shift.is_some() || residual.is_some())
            && let Some(output) = self.output.take()
        {
            output_gradient = B::relu_gradient(output, output_gradient);
        }
        if let Some(node) = shift {
            let gradient = B::sum_per_channel(output_gradient.clone());
            grads.register::<B>(node, gradient);
        }
        if let (Some(node), Some(x)) = (scale, self.x) {
            let gradient = B::dot_per_channel(x, output_gradient.clone());
            grads.register::<B>(node, gradient);
        }
        if let (Some(node), Some(scale)) = (x, self.scale) {
            let gradient = B::affine_input_gradient(self.output, output_gradient.clone(), scale);
            grads.register::<B>(node, gradient);
        }
        if let Some(node) = residual {
            grads.register::<B>(node, output_gradient);
        }
    }
}

#[derive(Debug)]
struct Affine;

impl<B: Kernels> Backward<B, 3> for Affine {
    type State = AffineState<B>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let output_gradient = grads.consume::<B>(&ops.node);
        let [x, scale, shift] = ops.parents.map(|parent| parent.map(|node| node.id));
        ops.state
            .register(output_gradient, [x, scale, shift, None], grads);
    }
}

impl<B: Kernels> Backward<B, 4> for Affine {
    type State = AffineState<B>;

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let output_gradient = grads.consume::<B>(&ops.node);
        let parents = ops.parents.map(|parent| parent.map(|node| node.id));
        ops.state.register(output_gradient, parents, grads);
    }
}

pub(super) fn recorded<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    scale: FloatTensor<Autodiff<B, C>>,
    shift: FloatTensor<Autodiff<B, C>>,
    relu: bool,
) -> FloatTensor<Autodiff<B, C>> {
    let state = AffineState::new::<C>(&x, &scale);
    let (x, x_node) = x.into_parts();
    let (scale, scale_node) = scale.into_parts();
    let (shift, shift_node) = shift.into_parts();
    let output = B::affine_forward(x, scale, shift, None, relu);
    tracked::<B, C, _, _>(
        Affine,
        state.with_output(&output, relu),
        output,
        [x_node, scale_node, shift_node],
    )
}

pub(super) fn recorded_with_residual<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    scale: FloatTensor<Autodiff<B, C>>,
    shift: FloatTensor<Autodiff<B, C>>,
    residual: FloatTensor<Autodiff<B, C>>,
    relu: bool,
) -> FloatTensor<Autodiff<B, C>> {
    let state = AffineState::new::<C>(&x, &scale);
    let (x, x_node) = x.into_parts();
    let (scale, scale_node) = scale.into_parts();
    let (shift, shift_node) = shift.into_parts();
    let (residual, residual_node) = residual.into_parts();
    let output = B::affine_forward(x, scale, shift, Some(residual), relu);
    let nodes = [x_node, scale_node, shift_node, residual_node];
    tracked::<B, C, _, _>(Affine, state.with_output(&output, relu), output, nodes)
}

/// The ReLU of one tensor or of the sum of two; its state is its output.
#[derive(Debug)]
struct Relu;

impl<B: Kernels, const N: usize> Backward<B, N> for Relu {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let output_gradient = grads.consume::<B>(&ops.node);
        let gradient = B::relu_gradient(ops.state, output_gradient);
        for node in ops.parents.into_iter().flatten() {
            grads.register::<B>(node.id, gradient.clone());
        }
    }
}

pub(super) fn recorded_relu<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let (x, x_node) = x.into_parts();
    let output = B::relu_forward(x);
    tracked::<B, C, _, _>(Relu, output.clone(), output, [x_node])
}

pub(super) fn recorded_add_relu<B: Kernels, C: CheckpointStrategy>(
    a: FloatTensor<Autodiff<B, C>>,
    b: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let (a, a_node) = a.into_parts();
    let (b, b_node) = b.into_parts();
    let output = B::add_relu_forward(a, b);
    tracked::<B, C, _, _>(Relu, output.clone(), output, [a_node, b_node])
}

// ---------------------------------------------------------------------------------------------
// CPU kernels
// ---------------------------------------------------------------------------------------------

/// `max(value, 0)`, which keeps NaN: a diverged run must show.
pub(super) fn positive(value: f32) -> f32 {
    if value < 0.0 { 0.0 } else { value }
}

pub(super) fn cpu_affine(
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

pub(super) fn cpu_input_gradient(
    output: Option<FlexTensor>,
    output_gradient: FlexTensor,
    scale: FlexTensor,
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

pub(super) fn cpu_relu(x: FlexTensor) -> FlexTensor {
    let shape = dims(&x);
    map_planes(shape, [Contiguous::new(x).data()], |_| {
        |[x]: [f32; 1]| positive(x)
    })
}

pub(super) fn cpu_add_relu(a: FlexTensor, b: FlexTensor) -> FlexTensor {
    let shape = dims(&a);
    let (a, b) = (Contiguous::new(a), Contiguous::new(b));
    map_planes(shape, [a.data(), b.data()], |_| {
        |[a, b]: [f32; 2]| positive(a + b)
    })
}

pub(super) fn cpu_relu_gradient(output: FlexTensor, output_gradient: FlexTensor) -> FlexTensor {
    let shape = dims(&output);
    let (output, gradient) = (Contiguous::new(output), Contiguous::new(output_gradient));
    map_planes(shape, [output.data(), gradient.data()], |_| {
        |[output, gradient]: [f32; 2]| if output > 0.0 { gradient } else { 0.0 }
    })
}

pub(super) fn cpu_sum_per_channel(x: FlexTensor) -> FlexTensor {
    let shape: [usize; 4] = dims(&x);
    let x = Contiguous::new(x);
    let sums = sum_planes(shape, |plane| sum(&x.data()[plane]));
    tensor(sums, [shape[1]])
}

pub(super) fn cpu_dot_per_channel(a: FlexTensor, b: FlexTensor) -> FlexTensor {
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
    use super::super::portable;
    use super::*;
    use burn::backend::Flex;
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
    fn portable_kernels_equal_the_fast_ones() {
        let device = Device::flex();
        let shape = [2, 3, 6, 5];
        let flat = |seed| FlexTensor::from_data(noise::<4>(seed, shape, &device).into_data());
        let flat_1 = |seed| FlexTensor::from_data(noise::<1>(seed, [3], &device).into_data());
        let check = |name: &str, portable: FlexTensor, fast: FlexTensor| {
            let values = |tensor: FlexTensor| tensor.into_data().try_to_vec::<f32>().unwrap();
            assert_close(name, &values(portable), &values(fast));
        };
        let (x, residual, scale, shift) = (flat(1), flat(2), flat_1(3), flat_1(4));
        for relu in [false, true] {
            for residual in [None, Some(residual.clone())] {
                let (x, scale, shift) = (x.clone(), scale.clone(), shift.clone());
                check(
                    "affine",
                    portable::affine::<Flex>(
                        x.clone(),
                        scale.clone(),
                        shift.clone(),
                        residual.clone(),
                        relu,
                    ),
                    cpu_affine(x, scale, shift, residual, relu),
                );
            }
        }
        for output in [None, Some(residual.clone())] {
            check(
                "input gradient",
                portable::affine_input_gradient::<Flex>(output.clone(), x.clone(), scale.clone()),
                cpu_input_gradient(output, x.clone(), scale.clone()),
            );
        }
        check(
            "sum",
            portable::sum_per_channel::<Flex>(x.clone()),
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
