//! Fully connected layers.
//!
//! The forward product in 32-bit floats is burn's. Its CPU gradients are not: burn zeroes a buffer, writes the
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
use super::bf16::{Bf16Cpu, ComputePrecision, Pair, PairLeft, PairPanels, ROWS};
use super::conv2d::PackedWeights;
use super::cpu::{Contiguous, Matrix, Output, all_f32, dims, multiply, tensor, with_scratch};
use super::panels::{Add, PANEL, panels_length};

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
        ComputePrecision::of_autocast(),
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

/// Reduces a weight to the pairs of bf16 that `packed` keeps, if it is for bf16, and returns what stands for it in
/// [`packed_linear`] with `packed`; else returns it as it is.
pub(crate) fn reduce_to_pairs(weight: Tensor<2>, packed: &PackedWeights) -> Tensor<2> {
    if packed.bf16().is_none() {
        return weight;
    }
    Tensor::from_dispatch(<Dispatch as LinearOps>::reduce_to_pairs(
        weight.into_dispatch(),
        packed.clone(),
    ))
}

/// The operation of this module and its gradients.
#[backend_extension(Autodiff, Flex, Cube: cfg(any(feature = "wgpu", feature = "cuda")))]
pub(super) trait LinearOps: Backend {
    /// See [`linear`]. Only the CPU's kernels have several precisions.
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        _precision: ComputePrecision,
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
        <Self as LinearOps>::linear(x, weight, bias, ComputePrecision::F32)
    }

    /// See [`reduce_to_pairs`].
    fn reduce_to_pairs(weight: FloatTensor<Self>, _packed: PackedWeights) -> FloatTensor<Self> {
        weight
    }

    /// The gradient of [`linear`] for its input.
    fn linear_input_gradient(
        output_gradient: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        _precision: ComputePrecision,
    ) -> FloatTensor<Self> {
        Self::linear_x_backward(weight, output_gradient)
    }

    /// The gradient of [`linear`] for its weight.
    fn linear_weight_gradient(
        x: FloatTensor<Self>,
        output_gradient: FloatTensor<Self>,
        _precision: ComputePrecision,
    ) -> FloatTensor<Self> {
        Self::linear_weight_backward(x, output_gradient)
    }
}

impl LinearOps for Flex {
    fn linear(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        precision: ComputePrecision,
    ) -> FlexTensor {
        match precision.bf16() {
            Some(cpu) if all_f32([&x, &weight, &bias]) => {
                cpu_bf16_forward(x, weight, bias, cpu, None)
            }
            _ => <Self as ModuleOps<Self>>::linear(x, weight, Some(bias)),
        }
    }

    fn packed_linear(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        packed: PackedWeights,
    ) -> FlexTensor {
        match packed.bf16() {
            Some(cpu) if all_f32([&x, &weight, &bias]) => {
                cpu_bf16_forward(x, weight, bias, cpu, Some(&packed))
            }
            _ => <Self as LinearOps>::linear(x, weight, bias, ComputePrecision::F32),
        }
    }

    fn reduce_to_pairs(weight: FlexTensor, packed: PackedWeights) -> FlexTensor {
        let reduced = packed.bf16().filter(|_| all_f32([&weight]));
        let reduced = reduced.and_then(|cpu| {
            let shape: [usize; 2] = dims(&weight);
            let elements = Contiguous::new(weight.clone());
            packed.reduce_to(cpu.panels(elements.data(), shape, PANEL), shape)
        });
        reduced.unwrap_or(weight)
    }

    fn linear_input_gradient(
        output_gradient: FlexTensor,
        weight: FlexTensor,
        precision: ComputePrecision,
    ) -> FlexTensor {
        match precision.bf16() {
            _ if !all_f32([&output_gradient, &weight]) => {
                Self::linear_x_backward(weight, output_gradient)
            }
            Some(cpu) => cpu_bf16_input_gradient(output_gradient, weight, cpu),
            None => cpu_input_gradient(output_gradient, weight),
        }
    }

    fn linear_weight_gradient(
        x: FlexTensor,
        output_gradient: FlexTensor,
        precision: ComputePrecision,
    ) -> FlexTensor {
        match precision.bf16() {
            _ if !all_f32([&x, &output_gradient]) => {
                Self::linear_weight_backward(x, output_gradient)
            }
            Some(cpu) => cpu_bf16_weight_gradient(x, output_gradient, cpu),
            None => cpu_weight_gradient(x, output_gradient),
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
    precision: ComputePrecision,
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
            let gradient =
                B::linear_input_gradient(output_gradient.clone(), weight, ops.state.precision);
            grads.register::<B>(node.id, gradient);
        }
        if let (Some(node), Some(x)) = (weight_node, ops.state.x) {
            let gradient = B::linear_weight_gradient(x, output_gradient, ops.state.precision);
            grads.register::<B>(node.id, gradient);
        }
    }
}

impl<B: LinearOps, C: CheckpointStrategy> LinearOps for Autodiff<B, C> {
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        precision: ComputePrecision,
    ) -> FloatTensor<Self> {
        let state = LinearState {
            x: needs_gradient::<B, C>(&weight).then(|| x.primitive().clone()),
            weight: needs_gradient::<B, C>(&x).then(|| weight.primitive().clone()),
            precision,
        };
        let (x, x_node) = x.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let (bias, bias_node) = bias.into_parts();
        let output = <B as LinearOps>::linear(x, weight, bias, precision);
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
    packed: Option<&PackedWeights>,
) -> FlexTensor {
    let ([rows, d_in], [_, d_out]): ([usize; 2], [usize; 2]) = (dims(&x), dims(&weight));
    let (x, bias) = (Contiguous::new(x), Contiguous::new(bias));
    // A weight that was reduced to pairs is not read.
    let compute = || {
        let elements = Contiguous::new(weight.clone());
        cpu.panels(elements.data(), [d_in, d_out], PANEL)
    };
    let kept = packed.and_then(|packed| packed.pairs(&weight, compute));
    let panels = kept.map_or_else(|| Cow::Owned(compute()), Cow::Borrowed);
    let left = cpu.pack(x.data(), rows, d_in);
    bf16_product(cpu, &left, &panels, [rows, d_in, d_out], Some(bias.data()))
}

/// Computes `output_gradient * weight^T` in bf16.
fn cpu_bf16_input_gradient(
    output_gradient: FlexTensor,
    weight: FlexTensor,
    cpu: Bf16Cpu,
) -> FlexTensor {
    let ([rows, d_out], [d_in, _]): ([usize; 2], [usize; 2]) =
        (dims(&output_gradient), dims(&weight));
    let (gradient, weight) = (Contiguous::new(output_gradient), Contiguous::new(weight));
    let depth = d_out.div_ceil(2);
    let mut panels = vec![0; panels_length(depth, d_in)];
    panels
        .par_chunks_mut((depth * PANEL).max(1))
        .zip(weight.data().par_chunks((d_out * PANEL).max(1)))
        .for_each(|(panel, rows)| cpu.transpose(rows.chunks_exact(d_out.max(1)), panel));
    let left = cpu.pack(gradient.data(), rows, d_out);
    bf16_product(cpu, &left, &panels, [rows, d_out, d_in], None)
}

/// Computes `x^T * output_gradient` in bf16.
fn cpu_bf16_weight_gradient(
    x: FlexTensor,
    output_gradient: FlexTensor,
    cpu: Bf16Cpu,
) -> FlexTensor {
    let ([rows, d_in], [_, d_out]): ([usize; 2], [usize; 2]) = (dims(&x), dims(&output_gradient));
    let (x, gradient) = (Contiguous::new(x), Contiguous::new(output_gradient));
    let left = cpu.panels(x.data(), [rows, d_in], ROWS);
    let right = cpu.panels(gradient.data(), [rows, d_out], PANEL);
    bf16_product(cpu, &left, &right, [d_in, rows, d_out], None)
}

/// Multiplies a packed left matrix `[rows, depth]` by a right matrix `[depth, columns]` and adds `bias` to each row.
fn bf16_product(
    cpu: Bf16Cpu,
    left: &[Pair],
    right: &[Pair],
    [rows, depth, columns]: [usize; 3],
    bias: Option<&[f32]>,
) -> FlexTensor {
    if rows == 0 {
        return tensor(Vec::new(), [0, columns]);
    }
    let depth = depth.div_ceil(2);
    let mut output = Output::new(rows * columns);
    let shared = output.shared();
    (0..columns.div_ceil(PANEL))
        .into_par_iter()
        .for_each(|index| {
            let panel = &right[index * depth * PANEL..][..depth * PANEL];
            let first = index * PANEL;
            let width = PANEL.min(columns - first);
            with_scratch([rows * PANEL], |[sums]| {
                for sums in sums.chunks_exact_mut(PANEL) {
                    sums.fill(0.0);
                    if let Some(bias) = bias {
                        sums[..width].copy_from_slice(&bias[first..first + width]);
                    }
                }
                let mut sink = Add {
                    matrix: sums,
                    columns: PANEL,
                };
                for (part, panel) in panel.chunks(PAIRS_PER_PART * PANEL).enumerate() {
                    let right = PairPanels {
                        data: panel,
                        depth: panel.len() / PANEL,
                        columns: width,
                    };
                    let left = PairLeft::Packed {
                        data: &left[part * PAIRS_PER_PART * ROWS..],
                        stride: depth * ROWS,
                    };
                    cpu.multiply(left, rows, right, &mut sink);
                }
                for (row, sums) in sums.chunks_exact(PANEL).enumerate() {
                    // SAFETY: no other task has these columns.
                    unsafe { shared.write(row * columns + first, &sums[..width]) };
                }
            });
        });
    // SAFETY: the tasks have all columns, and each wrote them in every row.
    unsafe { output.into_tensor([rows, columns]) }
}

#[cfg(test)]
mod tests {
    use super::super::bf16::autocast;
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
    fn a_weight_that_is_reduced_to_pairs_gives_the_bits_of_one_that_is_kept() {
        let device = Device::flex();
        let x = noise(1, [9, 1100], &device);
        let (weight, bias) = (noise(2, [1100, 50], &device), noise(3, [50], &device));
        let of = |packed: PackedWeights, weight: &Tensor<2>| {
            values(packed_linear(
                x.clone(),
                weight.clone(),
                bias.clone(),
                packed,
            ))
        };
        let packed = PackedWeights::new(ComputePrecision::Bf16);
        let reduced = reduce_to_pairs(weight.clone(), &packed);
        assert_eq!(packed.are_reduced(), ComputePrecision::Bf16.is_available());
        let kept = PackedWeights::new(ComputePrecision::Bf16);
        assert!(of(packed, &reduced) == of(kept, &weight));
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
        for precision in [ComputePrecision::F32, ComputePrecision::Bf16] {
            assert_same_bits_on_any_thread_count(|| {
                let device = Device::flex().autodiff();
                let x = noise::<2>(1, [rows, d_in], &device).require_grad();
                let weight = noise::<2>(2, [d_in, d_out], &device).require_grad();
                let y = autocast(precision, || {
                    linear(x.clone(), weight.clone(), noise(3, [d_out], &device))
                });
                let gradients = (y * noise(4, [rows, d_out], &device)).sum().backward();
                let of_x = values(x.grad(&gradients).unwrap());
                let of_weight = values(weight.grad(&gradients).unwrap());
                of_x.into_iter().chain(of_weight).collect()
            });
        }
    }

    /// Of products that bf16 and 32-bit floats hold exactly.
    #[test]
    fn gradients_in_bf16_are_exact_on_small_whole_numbers() {
        let device = Device::flex().autodiff();
        for [rows, d_in, d_out] in [
            [1, 1, 1],
            [7, 1030, 50],
            [19, 33, 97],
            [8, 60, 2050],
            [0, 4, 3],
        ] {
            let matrix = |shape: [usize; 2], step| {
                let whole = |i: usize| ((i * step) % 23) as f32 - 11.0;
                let elements: Vec<f32> = (0..shape[0] * shape[1]).map(whole).collect();
                Tensor::<2>::from_data(TensorData::new(elements, shape), &device)
            };
            let x = matrix([rows, d_in], 7).require_grad();
            let weight = matrix([d_in, d_out], 5).require_grad();
            let all = |precision| {
                let bias = Tensor::zeros([d_out], &device);
                let y = autocast(precision, || linear(x.clone(), weight.clone(), bias));
                let gradients = (y.clone() * matrix([rows, d_out], 3)).sum().backward();
                let (dx, dweight) = (x.grad(&gradients), weight.grad(&gradients));
                [y, dx.unwrap(), dweight.unwrap()].map(values)
            };
            assert_eq!(all(ComputePrecision::Bf16), all(ComputePrecision::F32));
        }
    }
}
