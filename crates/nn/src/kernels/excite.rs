//! The end of a residual block with an SE unit: channels times gates, residual sum and ReLU in one
//! pass.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::affine::{AffineOps, positive};
use super::autodiff::tracked;
use super::cpu::{Contiguous, ELEMENTS_PER_TASK, Output, all_f32, dims, sum_of, tensor};

/// Computes `max(x * gates + residual, 0)`. Differentiable in all tensors.
///
/// # Shapes
/// - `x`, `residual` and the result: `[batch, channels, height, width]`
/// - `gates`: `[batch, channels, 1, 1]`
///
/// # Panics
/// If the shapes do not match.
pub fn excite_add_relu(x: Tensor<4>, gates: Tensor<4>, residual: Tensor<4>) -> Tensor<4> {
    let [batch, channels, ..] = x.dims();
    assert_eq!(gates.dims(), [batch, channels, 1, 1], "excite: the gates");
    assert_eq!(residual.dims(), x.dims(), "excite: the residual");
    Tensor::from_dispatch(<Dispatch as ExciteOps>::excite_add_relu(
        x.into_dispatch(),
        gates.into_dispatch(),
        residual.into_dispatch(),
    ))
}

/// The operation of this module and its gradients.
#[backend_extension(Autodiff, Flex, Cube: cfg(any(feature = "wgpu", feature = "cuda")))]
pub(super) trait ExciteOps: AffineOps {
    /// See [`excite_add_relu`].
    fn excite_add_relu(
        x: FloatTensor<Self>,
        gates: FloatTensor<Self>,
        residual: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::add_relu(Self::float_mul(x, gates), residual)
    }

    /// The sum of `a * b` over each plane: `[batch, channels, 1, 1]`.
    fn dot_per_plane(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        portable_dot_per_plane::<Self>(a, b)
    }
}

fn portable_dot_per_plane<B: Backend>(a: FloatTensor<B>, b: FloatTensor<B>) -> FloatTensor<B> {
    B::float_sum_dims(B::float_mul(a, b), &[2, 3])
}

impl ExciteOps for Flex {
    fn excite_add_relu(x: FlexTensor, gates: FlexTensor, residual: FlexTensor) -> FlexTensor {
        if all_f32([&x, &gates, &residual]) {
            cpu_excite_add_relu(x, gates, residual)
        } else {
            use burn::backend::ops::FloatTensorOps;
            Self::add_relu(Self::float_mul(x, gates), residual)
        }
    }

    fn dot_per_plane(a: FlexTensor, b: FlexTensor) -> FlexTensor {
        if all_f32([&a, &b]) {
            cpu_dot_per_plane(a, b)
        } else {
            portable_dot_per_plane::<Self>(a, b)
        }
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl ExciteOps for burn::backend::Cube {
    fn excite_add_relu(
        x: FloatTensor<Self>,
        gates: FloatTensor<Self>,
        residual: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        use burn::backend::ops::FloatTensorOps;
        super::cube::elementwise::excite_add_relu(&x, &gates, &residual)
            .unwrap_or_else(|| Self::add_relu(Self::float_mul(x, gates), residual))
    }
}

/// The inputs of the backward pass.
#[derive(Clone, Debug)]
struct ExciteState<B: Backend> {
    x: FloatTensor<B>,
    gates: FloatTensor<B>,
    output: FloatTensor<B>,
}

/// The parents are `x`, gates and residual.
#[derive(Debug)]
struct Excite;

impl<B: ExciteOps> Backward<B, 3> for Excite {
    type State = ExciteState<B>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let output_gradient = grads.consume::<B>(&ops.node);
        let ExciteState { x, gates, output } = ops.state;
        let gradient = B::relu_gradient(output, output_gradient);
        let [x_node, gates_node, residual_node] = ops.parents;
        if let Some(node) = gates_node {
            let gates_gradient = B::dot_per_plane(x, gradient.clone());
            grads.register::<B>(node.id, gates_gradient);
        }
        if let Some(node) = x_node {
            grads.register::<B>(node.id, B::float_mul(gradient.clone(), gates));
        }
        if let Some(node) = residual_node {
            grads.register::<B>(node.id, gradient);
        }
    }
}

impl<B: ExciteOps, C: CheckpointStrategy> ExciteOps for Autodiff<B, C> {
    fn excite_add_relu(
        x: FloatTensor<Self>,
        gates: FloatTensor<Self>,
        residual: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (gates, gates_node) = gates.into_parts();
        let (residual, residual_node) = residual.into_parts();
        let output = B::excite_add_relu(x.clone(), gates.clone(), residual);
        let state = ExciteState {
            x,
            gates,
            output: output.clone(),
        };
        tracked::<B, C, _, _>(Excite, state, output, [x_node, gates_node, residual_node])
    }
}

fn cpu_excite_add_relu(x: FlexTensor, gates: FlexTensor, residual: FlexTensor) -> FlexTensor {
    let shape: [usize; 4] = dims(&x);
    let (x, gates) = (Contiguous::new(x), Contiguous::new(gates));
    let residual = Contiguous::new(residual);
    let pixels = (shape[2] * shape[3]).max(1);
    let mut output = Output::new(shape.iter().product());
    output
        .slots()
        .par_chunks_mut(pixels)
        .with_min_len(ELEMENTS_PER_TASK.div_ceil(pixels))
        .enumerate()
        .for_each(|(plane, slots)| {
            let gate = gates.data()[plane];
            let x = &x.data()[plane * pixels..][..pixels];
            let residual = &residual.data()[plane * pixels..][..pixels];
            for ((slot, x), residual) in slots.iter_mut().zip(x).zip(residual) {
                slot.write(positive(x * gate + residual));
            }
        });
    // SAFETY: the planes cover the buffer, and every slot is written.
    unsafe { output.into_tensor(shape) }
}

fn cpu_dot_per_plane(a: FlexTensor, b: FlexTensor) -> FlexTensor {
    let [batch, channels, height, width]: [usize; 4] = dims(&a);
    let (a, b) = (Contiguous::new(a), Contiguous::new(b));
    let (a, b) = (a.data(), b.data());
    let pixels = height * width;
    let sums: Vec<f32> = (0..batch * channels)
        .into_par_iter()
        .with_min_len(ELEMENTS_PER_TASK.div_ceil(pixels.max(1)))
        .map(|plane| {
            let of_plane = plane * pixels..(plane + 1) * pixels;
            sum_of(&a[of_plane.clone()], &b[of_plane], |a, b| a * b) as f32
        })
        .collect();
    tensor(sums, [batch, channels, 1, 1])
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{
        assert_close, assert_same_bits_on_any_thread_count, noise, values,
    };
    use super::*;
    use burn::tensor::Device;
    use burn::tensor::activation::relu;

    /// The output of the kernel, or of burn's operations, and its gradients for `x`, gates and residual.
    fn output_and_gradients(shape: [usize; 4], fused: bool) -> [Vec<f32>; 4] {
        let device = Device::flex().autodiff();
        let [batch, channels, ..] = shape;
        let x = noise::<4>(1, shape, &device).require_grad();
        let gates = noise::<4>(2, [batch, channels, 1, 1], &device).require_grad();
        let residual = noise::<4>(3, shape, &device).require_grad();
        let y = if fused {
            excite_add_relu(x.clone(), gates.clone(), residual.clone())
        } else {
            relu(x.clone() * gates.clone() + residual.clone())
        };
        let gradients = (y.clone() * noise(4, shape, &device)).sum().backward();
        [
            values(y),
            values(x.grad(&gradients).unwrap()),
            values(gates.grad(&gradients).unwrap()),
            values(residual.grad(&gradients).unwrap()),
        ]
    }

    #[test]
    fn excite_add_relu_and_its_gradients_equal_those_of_burn_s_operations() {
        let [fused, composed] =
            [true, false].map(|fused| output_and_gradients([2, 3, 5, 7], fused));
        let names = ["y", "dx", "dgates", "dresidual"];
        for ((name, fused), composed) in names.into_iter().zip(fused).zip(composed) {
            assert_close(name, &fused, &composed);
        }
    }

    #[test]
    fn the_bits_do_not_depend_on_the_number_of_threads() {
        // Several tasks.
        assert_same_bits_on_any_thread_count(|| {
            output_and_gradients([2, 8, 60, 70], true).concat()
        });
    }
}
