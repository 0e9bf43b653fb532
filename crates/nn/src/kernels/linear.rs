//! Fully connected layers.
//!
//! The forward product in 32-bit floats is burn's. The CPU gradients are not: burn zeroes a buffer, writes the
//! product and copies it into an aligned buffer, which for the first weight of a box head costs
//! 51 MB at the memory peak of a training step.

use std::borrow::Cow;
use std::ops::Range;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::ops::ModuleOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::autodiff::{needs_gradient, tracked};
use super::bf16::{Bf16Cpu, Pair, PairPanels, ROWS};
use super::conv2d::PackedWeights;
use super::cpu::{Contiguous, Matrix, Output, all_f32, dims, multiply, tensor, with_scratch};
use super::panels::{Add, PANEL};

/// Computes `x * weight + bias`. Differentiable in all tensors.
///
/// # Shapes
/// - `x`: `[rows, d_in]`
/// - `weight`: `[d_in, d_out]`, burn's order and the transpose of PyTorch's
/// - `bias`: `[d_out]`
/// - result: `[rows, d_out]`
///
/// # Panics
/// If the shapes do not match.
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    let ([_, d_in], shape) = (x.dims(), weight.dims());
    assert!(
        shape[0] == d_in && bias.dims() == [shape[1]],
        "linear: weight {shape:?} and bias do not fit {d_in} inputs"
    );
    Tensor::from_dispatch(<Dispatch as LinearOps>::linear(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
    ))
}

/// Computes [`linear`] in the precision of `packed`, which keeps the weight in the order of the CPU kernel. Not
/// differentiable in bf16.
///
/// # Panics
/// If the shapes do not match.
pub(crate) fn packed_linear(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    packed: PackedWeights,
) -> Tensor<2> {
    if packed.bf16().is_none() {
        return linear(x, weight, bias);
    }
    let ([_, d_in], shape) = (x.dims(), weight.dims());
    assert!(
        shape[0] == d_in && bias.dims() == [shape[1]],
        "linear: weight {shape:?} and bias do not fit {d_in} inputs"
    );
    Tensor::from_dispatch(<Dispatch as LinearOps>::packed_linear(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        packed,
    ))
}

/// The operation of this module and its gradients.
#[backend_extension(Autodiff, Flex, Cube: cfg(any(feature = "wgpu", feature = "cuda")))]
pub(super) trait LinearOps: Backend {
    /// See [`linear`].
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        <Self as ModuleOps<Self>>::linear(x, weight, Some(bias))
    }

    /// See [`packed_linear`].
    fn packed_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        _packed: PackedWeights,
    ) -> FloatTensor<Self> {
        <Self as LinearOps>::linear(x, weight, bias)
    }

    /// The gradient of [`linear`] for its input.
    fn linear_input_gradient(
        output_gradient: FloatTensor<Self>,
        weight: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::linear_x_backward(weight, output_gradient)
    }

    /// The gradient of [`linear`] for its weight.
    fn linear_weight_gradient(
        x: FloatTensor<Self>,
        output_gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::linear_weight_backward(x, output_gradient)
    }
}

impl LinearOps for Flex {
    fn packed_linear(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        packed: PackedWeights,
    ) -> FlexTensor {
        match packed.bf16() {
            Some(cpu) if all_f32([&x, &weight, &bias]) => {
                cpu_bf16_forward(x, weight, bias, cpu, &packed)
            }
            _ => <Self as LinearOps>::linear(x, weight, bias),
        }
    }

    fn linear_input_gradient(output_gradient: FlexTensor, weight: FlexTensor) -> FlexTensor {
        if all_f32([&output_gradient, &weight]) {
            cpu_input_gradient(output_gradient, weight)
        } else {
            Self::linear_x_backward(weight, output_gradient)
        }
    }

    fn linear_weight_gradient(x: FlexTensor, output_gradient: FlexTensor) -> FlexTensor {
        if all_f32([&x, &output_gradient]) {
            cpu_weight_gradient(x, output_gradient)
        } else {
            Self::linear_weight_backward(x, output_gradient)
        }
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl LinearOps for burn::backend::Cube {}

/// The inputs of the backward pass; those that no gradient depends on are not kept.
#[derive(Clone, Debug)]
struct LinearState<B: Backend> {
    x: Option<FloatTensor<B>>,
    weight: Option<FloatTensor<B>>,
}

/// The parents are `x`, weight and bias.
#[derive(Debug)]
struct Linear;

impl<B: LinearOps> Backward<B, 3> for Linear {
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

impl<B: LinearOps, C: CheckpointStrategy> LinearOps for Autodiff<B, C> {
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let state = LinearState {
            x: needs_gradient::<B, C>(&weight).then(|| x.primitive().clone()),
            weight: needs_gradient::<B, C>(&x).then(|| weight.primitive().clone()),
        };
        let (x, x_node) = x.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let (bias, bias_node) = bias.into_parts();
        let output = <B as LinearOps>::linear(x, weight, bias);
        tracked::<B, C, _, _>(Linear, state, output, [x_node, weight_node, bias_node])
    }
}

/// Inputs of a layer whose gradients are one task. Fixed instead of derived from the number of
/// threads, on which results must not depend. A box head's first layer (12,544 inputs) is 25 tasks,
/// and a product of 512 columns is wide enough for `gemm` to reach its full rate.
const INPUTS_PER_TASK: usize = 512;

/// Returns the ranges of inputs that are one task each.
fn parts_of(d_in: usize) -> impl IndexedParallelIterator<Item = Range<usize>> {
    (0..d_in.div_ceil(INPUTS_PER_TASK))
        .into_par_iter()
        .map(move |part| part * INPUTS_PER_TASK..((part + 1) * INPUTS_PER_TASK).min(d_in))
}

/// Computes `output_gradient * weight^T`.
fn cpu_input_gradient(output_gradient: FlexTensor, weight: FlexTensor) -> FlexTensor {
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

/// Computes `x^T * output_gradient`.
fn cpu_weight_gradient(x: FlexTensor, output_gradient: FlexTensor) -> FlexTensor {
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

/// Pairs of inputs that are multiplied at a time: a panel of the weight then has 96 KiB, which stay in the
/// second-level cache while all rows read them.
const PAIRS_PER_PART: usize = 512;

/// Computes the layer in bf16, with sums of 32 bits.
fn cpu_bf16_forward(
    x: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    cpu: Bf16Cpu,
    packed: &PackedWeights,
) -> FlexTensor {
    let ([rows, d_in], [_, d_out]): ([usize; 2], [usize; 2]) = (dims(&x), dims(&weight));
    let (x, elements, bias) = (
        Contiguous::new(x),
        Contiguous::new(weight.clone()),
        Contiguous::new(bias),
    );
    let depth = d_in.div_ceil(2);
    let of_part = PAIRS_PER_PART * PANEL;
    let compute = || pack_weight_pairs(cpu, elements.data(), [d_in, d_out]);
    let kept = packed.pairs(&weight, compute);
    let panels = kept.map_or_else(|| Cow::Owned(compute()), Cow::Borrowed);
    let left = cpu.pack(x.data(), rows, d_in);
    let mut output = Output::new(rows * d_out);
    let shared = output.shared();
    let panels_of_weight = panels.par_chunks((depth * PANEL).max(1));
    panels_of_weight.enumerate().for_each(|(index, panel)| {
        let first = index * PANEL;
        let columns = PANEL.min(d_out - first);
        with_scratch([rows * PANEL], |[sums]| {
            for sums in sums.chunks_exact_mut(PANEL) {
                sums[..columns].copy_from_slice(&bias.data()[first..first + columns]);
                sums[columns..].fill(0.0);
            }
            let mut sink = Add {
                matrix: sums,
                columns: PANEL,
            };
            for (part, panel) in panel.chunks(of_part).enumerate() {
                let right = PairPanels {
                    data: panel,
                    depth: panel.len() / PANEL,
                    columns,
                };
                let left = &left[part * PAIRS_PER_PART * ROWS..];
                cpu.multiply((left, depth * ROWS), rows, right, &mut sink);
            }
            for (row, sums) in sums.chunks_exact(PANEL).enumerate() {
                // SAFETY: no other task has these columns.
                unsafe { shared.write(row * d_out + first, &sums[..columns]) };
            }
        });
    });
    // SAFETY: the tasks have all columns, and each wrote them in every row.
    unsafe { output.into_tensor([rows, d_out]) }
}

/// Copies a weight `[d_in, d_out]` to panels of pairs.
fn pack_weight_pairs(cpu: Bf16Cpu, weight: &[f32], [d_in, d_out]: [usize; 2]) -> Vec<Pair> {
    let depth = d_in.div_ceil(2);
    let mut panels = vec![0; d_out.div_ceil(PANEL) * depth * PANEL];
    let of_panel = panels.par_chunks_mut((depth * PANEL).max(1));
    of_panel.enumerate().for_each(|(index, panel)| {
        let columns = index * PANEL..((index + 1) * PANEL).min(d_out);
        let rows = weight.chunks((2 * d_out).max(1));
        for (line, rows) in panel.chunks_exact_mut(PANEL).zip(rows) {
            let (even, odd) = rows.split_at(d_out);
            let odd = (!odd.is_empty()).then(|| &odd[columns.clone()]);
            cpu.pair(&even[columns.clone()], odd, &mut line[..columns.len()]);
        }
    });
    panels
}

#[cfg(test)]
mod tests {
    use super::super::bf16::ComputePrecision;
    use super::super::fixture::{
        assert_close, assert_same_bits_on_any_thread_count, noise, values,
    };
    use super::*;
    use burn::tensor::{Device, TensorData};

    #[test]
    fn the_layer_and_its_gradients_equal_those_of_burn_s_operation() {
        let device = Device::flex().autodiff();
        for (rows, d_in, d_out) in [(1, 1, 1), (7, 1100, 50), (130, 33, 97), (0, 5, 4)] {
            let all = |native: bool| {
                let x = noise::<2>(1, [rows, d_in], &device).require_grad();
                let weight = noise::<2>(2, [d_in, d_out], &device).require_grad();
                let bias = noise::<1>(3, [d_out], &device).require_grad();
                let y = if native {
                    linear(x.clone(), weight.clone(), bias.clone())
                } else {
                    x.clone().matmul(weight.clone()) + bias.clone().unsqueeze()
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
            for ((name, native), burn) in names.into_iter().zip(all(true)).zip(all(false)) {
                assert_close(name, &native, &burn);
            }
        }
    }

    /// Sums over more than one part of the depth, of products that bf16 and 32-bit floats hold exactly.
    #[test]
    fn a_layer_in_bf16_is_exact_on_small_whole_numbers() {
        let device = Device::flex();
        for [rows, d_in, d_out] in [
            [1, 1, 1],
            [7, 1030, 50],
            [19, 33, 97],
            [8, 2050, 48],
            [0, 4, 3],
        ] {
            let numbers = |count: usize, step: usize| -> Vec<f32> {
                let whole = |i: usize| ((i * step) % 23) as f32 - 11.0;
                (0..count).map(whole).collect()
            };
            let matrix = |shape: [usize; 2], step| {
                let elements = numbers(shape[0] * shape[1], step);
                Tensor::<2>::from_data(TensorData::new(elements, shape), &device)
            };
            let (x, weight) = (matrix([rows, d_in], 7), matrix([d_in, d_out], 5));
            let bias = Tensor::from_data(TensorData::new(numbers(d_out, 3), [d_out]), &device);
            let expected = linear(x.clone(), weight.clone(), bias.clone());
            let packed = PackedWeights::new(ComputePrecision::Bf16);
            for _ in 0..2 {
                let packed = packed.clone();
                let actual = packed_linear(x.clone(), weight.clone(), bias.clone(), packed);
                assert_eq!(values(actual), values(expected.clone()));
            }
            // The kept order belongs to the first weight.
            let other = matrix([d_in, d_out], 11);
            let expected = linear(x.clone(), other.clone(), bias.clone());
            assert_eq!(
                values(packed_linear(x, other, bias, packed)),
                values(expected)
            );
        }
    }

    #[test]
    fn a_layer_in_bf16_does_not_depend_on_the_number_of_threads() {
        assert_same_bits_on_any_thread_count(|| {
            let device = Device::flex();
            let packed = PackedWeights::new(ComputePrecision::Bf16);
            let weight = noise(2, [1300, 90], &device);
            values(packed_linear(
                noise(1, [37, 1300], &device),
                weight,
                noise(3, [90], &device),
                packed,
            ))
        });
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
