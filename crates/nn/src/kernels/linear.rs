//! Fully connected layers.
//!
//! The product of the forward pass is burn's. The gradients are not, on the CPU: burn makes a zeroed
//! buffer and copies it into an aligned one, and for the first weight of a box head that is 51 MB too
//! much at the fullest moment of a step.

use std::ops::Range;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch};
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::cpu::{Contiguous, Matrix, Output, dims, multiply, tensor};
use super::{Kernels, Operations, needs_gradient, tracked};

/// `x * weight + bias`.
///
/// `x` is `[rows, d_in]`, `weight` `[d_in, d_out]` (burn's order), `bias` `[d_out]`. Differentiable in
/// all of them.
///
/// # Panics
/// When the shapes do not fit each other.
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    let ([_, d_in], shape) = (x.dims(), weight.dims());
    assert!(
        shape[0] == d_in && bias.dims() == [shape[1]],
        "linear: weight {shape:?} and bias do not fit {d_in} inputs"
    );
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Operations>::linear(
        x,
        weight,
        bias.into_dispatch(),
    ))
}

/// What the backward pass needs; inputs that no gradient asks for are not kept.
#[derive(Clone, Debug)]
pub(super) struct LinearState<B: Backend> {
    x: Option<FloatTensor<B>>,
    weight: Option<FloatTensor<B>>,
}

#[derive(Debug)]
struct Linear;

impl<B: Kernels> Backward<B, 3> for Linear {
    type State = LinearState<B>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let output_gradient = grads.consume::<B>(&ops.node);
        let [x_node, weight_node, bias_node] = ops.parents;
        if let Some(node) = bias_node {
            let gradient = B::linear_bias_backward(output_gradient.clone());
            grads.register::<B>(node.id, gradient);
        }
        if let (Some(node), Some(weight)) = (x_node, ops.state.weight) {
            let gradient = B::linear_input_gradient(output_gradient.clone(), weight);
            grads.register::<B>(node.id, gradient);
        }
        if let (Some(node), Some(x)) = (weight_node, ops.state.x) {
            let gradient = B::linear_weight_gradient(x, output_gradient);
            grads.register::<B>(node.id, gradient);
        }
    }
}

pub(super) fn recorded<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    bias: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let state = LinearState {
        x: needs_gradient::<B, C>(&weight).then(|| x.primitive().clone()),
        weight: needs_gradient::<B, C>(&x).then(|| weight.primitive().clone()),
    };
    let (x, x_node) = x.into_parts();
    let (weight, weight_node) = weight.into_parts();
    let (bias, bias_node) = bias.into_parts();
    let output = B::linear_forward(x, weight, bias);
    tracked::<B, C, _, _>(Linear, state, output, [x_node, weight_node, bias_node])
}

/// Inputs of a layer whose gradients are one task. Fixed, so that results do not depend on the number
/// of threads.
const INPUTS_PER_TASK: usize = 512;

/// Ranges of the inputs of a layer.
fn parts_of(d_in: usize) -> impl IndexedParallelIterator<Item = Range<usize>> {
    (0..d_in.div_ceil(INPUTS_PER_TASK))
        .into_par_iter()
        .map(move |part| part * INPUTS_PER_TASK..((part + 1) * INPUTS_PER_TASK).min(d_in))
}

/// `output_gradient * weight^T`.
pub(super) fn cpu_input_gradient(output_gradient: FlexTensor, weight: FlexTensor) -> FlexTensor {
    let ([rows, d_out], [d_in, _]): ([usize; 2], [usize; 2]) =
        (dims(&output_gradient), dims(&weight));
    if rows == 0 {
        return tensor(Vec::new(), [0, d_in]);
    }
    let (gradient, weight) = (Contiguous::new(output_gradient), Contiguous::new(weight));
    let (gradient, weight) = (gradient.data(), weight.data());
    let mut output = Output::new(rows * d_in);
    let shared = output.shared();
    parts_of(d_in).for_each(|inputs| {
        let mut out = shared.matrix(inputs.start, rows, inputs.len(), d_in);
        let left = Matrix::rows(gradient, rows, d_out, d_out);
        let weight = &weight[inputs.start * d_out..inputs.end * d_out];
        let right = Matrix::rows(weight, inputs.len(), d_out, d_out);
        // SAFETY: no other task has these columns.
        unsafe { multiply(&mut out, left, right.transposed(), false) };
    });
    // SAFETY: the tasks have all columns, and a product writes every element.
    unsafe { output.into_tensor([rows, d_in]) }
}

/// `x^T * output_gradient`.
pub(super) fn cpu_weight_gradient(x: FlexTensor, output_gradient: FlexTensor) -> FlexTensor {
    let ([rows, d_in], [_, d_out]): ([usize; 2], [usize; 2]) = (dims(&x), dims(&output_gradient));
    let (x, gradient) = (Contiguous::new(x), Contiguous::new(output_gradient));
    let (x, gradient) = (x.data(), gradient.data());
    if rows == 0 {
        return tensor(vec![0.0; d_in * d_out], [d_in, d_out]);
    }
    let mut output = Output::new(d_in * d_out);
    let shared = output.shared();
    parts_of(d_in).for_each(|inputs| {
        let mut out = shared.matrix(inputs.start * d_out, inputs.len(), d_out, d_out);
        let left = Matrix::rows(&x[inputs.start..], rows, inputs.len(), d_in);
        let right = Matrix::rows(gradient, rows, d_out, d_out);
        // SAFETY: no other task has these rows.
        unsafe { multiply(&mut out, left.transposed(), right, false) };
    });
    // SAFETY: the tasks have all rows, and a product writes every element.
    unsafe { output.into_tensor([d_in, d_out]) }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{
        assert_close, assert_same_bits_on_any_thread_count, noise, values,
    };
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn the_layer_and_its_gradients_equal_those_of_burn_s_operation() {
        let device = Device::flex().autodiff();
        for (rows, d_in, d_out) in [(1, 1, 1), (7, 1100, 50), (130, 33, 97), (0, 5, 4)] {
            let all = |ours: bool| {
                let x = noise::<2>(1, [rows, d_in], &device).require_grad();
                let weight = noise::<2>(2, [d_in, d_out], &device).require_grad();
                let bias = noise::<1>(3, [d_out], &device).require_grad();
                let y = match ours {
                    true => linear(x.clone(), weight.clone(), bias.clone()),
                    false => x.clone().matmul(weight.clone()) + bias.clone().unsqueeze(),
                };
                let gradients = (y.clone() * noise(4, [rows, d_out], &device))
                    .sum()
                    .backward();
                [
                    values(y),
                    values(x.grad(&gradients).unwrap()),
                    values(weight.grad(&gradients).unwrap()),
                    values(bias.grad(&gradients).unwrap()),
                ]
            };
            let names = ["y", "dx", "dweight", "dbias"];
            for ((name, ours), burn_s) in names.into_iter().zip(all(true)).zip(all(false)) {
                assert_close(name, &ours, &burn_s);
            }
        }
    }

    #[test]
    fn gradients_do_not_depend_on_the_number_of_threads() {
        let (rows, d_in, d_out) = (37, 1300, 90);
        assert_same_bits_on_any_thread_count(|| {
            let device = Device::flex().autodiff();
            let x = noise::<2>(1, [rows, d_in], &device).require_grad();
            let weight = noise::<2>(2, [d_in, d_out], &device).require_grad();
            let y = linear(x.clone(), weight.clone(), noise(3, [d_out], &device));
            let gradients = (y * noise(4, [rows, d_out], &device)).sum().backward();
            let of_x = values(x.grad(&gradients).unwrap());
            let of_weight = values(weight.grad(&gradients).unwrap());
            of_x.into_iter().chain(of_weight).collect()
        });
    }
}
