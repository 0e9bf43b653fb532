//! Training-mode batch norm (Ioffe and Szegedy 2015) in two passes forward and two backward.

use burn::backend::Dispatch;
use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::tensor::{Tensor, module};
use rayon::prelude::*;

use super::{CpuOps, buffer, dims, is_cpu, tensor_of};

/// What [`batch_norm_train`] gives.
#[derive(Debug, Clone)]
pub struct BatchNormOutput {
    /// The normalised input, `[batch, channels, height, width]`.
    pub y: Tensor<4>,
    /// Mean of each channel over batch and space; a constant for autodiff.
    pub mean: Tensor<1>,
    /// Biased variance of each channel; a constant for autodiff.
    pub variance: Tensor<1>,
}

/// Normalise every channel by the statistics of this batch, then scale and shift.
///
/// `x` is `[batch, channels, height, width]`, `weight` and `bias` `[channels]`. Differentiable in
/// all three, through the statistics too.
pub fn batch_norm_train(
    x: Tensor<4>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f64,
) -> BatchNormOutput {
    let [_, channels, _, _] = x.dims();
    if !is_cpu(&x.device()) {
        let out = module::batch_norm_train(x, weight, bias, epsilon);
        return BatchNormOutput {
            y: out.output,
            mean: out.mean.detach(),
            variance: out.variance.detach(),
        };
    }
    let x = x.into_dispatch();
    let moments = <Dispatch as CpuOps>::cpu_moments(x.clone());
    let y = <Dispatch as CpuOps>::cpu_batch_norm(
        x,
        weight.into_dispatch(),
        bias.into_dispatch(),
        moments.clone(),
        epsilon,
    );
    let moments = Tensor::<2>::from_dispatch(moments);
    BatchNormOutput {
        y: Tensor::from_dispatch(y),
        mean: moments.clone().narrow(0, 0, 1).reshape([channels]),
        variance: moments.narrow(0, 1, 1).reshape([channels]),
    }
}

/// Keeps the input, the weight, the moments and epsilon.
#[derive(Debug)]
struct BatchNormBackward;

impl Backward<Flex, 3> for BatchNormBackward {
    type State = (FlexTensor, FlexTensor, FlexTensor, f64);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, weight, moments, epsilon) = ops.state;
        let grad = grads.consume::<Flex>(&ops.node).to_contiguous();
        let out = backward(&x, &weight, &moments, &grad, epsilon);
        for (node, gradient) in ops.parents.into_iter().zip(out) {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, gradient);
            }
        }
    }
}

/// The normalisation, recorded for the backward pass.
pub(super) fn record<C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<Flex, C>>,
    weight: FloatTensor<Autodiff<Flex, C>>,
    bias: FloatTensor<Autodiff<Flex, C>>,
    moments: FloatTensor<Autodiff<Flex, C>>,
    epsilon: f64,
) -> FloatTensor<Autodiff<Flex, C>> {
    let prep = BatchNormBackward
        .prepare::<C>([x.node(), weight.node(), bias.node()])
        .compute_bound();
    let x = x.primitive().to_contiguous();
    let moments = moments.into_primitive();
    let y = forward(&x, weight.primitive(), bias.primitive(), &moments, epsilon);
    match prep.stateful() {
        OpsKind::Tracked(prep) => prep.finish((x, weight.into_primitive(), moments, epsilon), y),
        OpsKind::UnTracked(prep) => prep.finish(y),
    }
}

/// Lanes that add up side by side: lets the compiler vectorise, and is more exact than one chain.
const LANES: usize = 16;

/// Sum of some values, in an order that depends only on their number.
pub(super) fn sum(values: &[f32]) -> f64 {
    sum_of(values, values, |a, _| a)
}

/// Sum of `f(a, b)` over two slices of the same length.
///
/// Lanes of `f32` are emptied into `f64` every 4096 values, so that the error does not grow with
/// the size of the map.
pub(super) fn sum_of(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f64 {
    let mut total = 0.0f64;
    for (a, b) in a.chunks(4096).zip(b.chunks(4096)) {
        let mut lanes = [0.0f32; LANES];
        let (mut a_chunks, mut b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
        for (a, b) in a_chunks.by_ref().zip(b_chunks.by_ref()) {
            for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
                *lane += f(*a, *b);
            }
        }
        total += lanes.iter().map(|l| f64::from(*l)).sum::<f64>();
        let tails = a_chunks.remainder().iter().zip(b_chunks.remainder());
        total += tails.map(|(a, b)| f64::from(f(*a, *b))).sum::<f64>();
    }
    total
}

/// One channel's planes over the batch.
fn planes_of(values: &[f32], channel: usize, channels: usize, size: usize) -> Vec<&[f32]> {
    values
        .chunks_exact(size)
        .skip(channel)
        .step_by(channels)
        .collect()
}

/// Mean and biased variance of every channel, `[2, channels]`.
pub(super) fn moments(x: &FlexTensor) -> FlexTensor {
    let x = x.to_contiguous();
    let [batch, channels, height, width] = dims(&x);
    let values: &[f32] = x.storage();
    let count = (batch * height * width) as f64;
    let per_channel: Vec<(f32, f32)> = (0..channels)
        .into_par_iter()
        .map(|c| {
            let planes = planes_of(values, c, channels, height * width);
            let mean = planes.iter().map(|p| sum(p)).sum::<f64>() / count;
            let m = mean as f32;
            let squares = planes
                .iter()
                .map(|p| sum_of(p, p, |a, _| (a - m) * (a - m)))
                .sum::<f64>();
            (m, (squares / count) as f32)
        })
        .collect();
    let (mean, variance): (Vec<f32>, Vec<f32>) = per_channel.into_iter().unzip();
    tensor_of([mean, variance].concat(), [2, channels])
}

/// `(x - mean) / sqrt(variance + epsilon) * weight + bias`.
pub(super) fn forward(
    x: &FlexTensor,
    weight: &FlexTensor,
    bias: &FlexTensor,
    moments: &FlexTensor,
    epsilon: f64,
) -> FlexTensor {
    let x = x.to_contiguous();
    let shape = dims::<4>(&x);
    let [_, channels, height, width] = shape;
    let (weight, bias) = (weight.to_contiguous(), bias.to_contiguous());
    let moments = moments.to_contiguous();
    let (w, b): (&[f32], &[f32]) = (weight.storage(), bias.storage());
    let (mean, variance) = moments.storage::<f32>().split_at(channels);
    let values: &[f32] = x.storage();
    let mut y = buffer(values.len());
    y.par_chunks_exact_mut(height * width)
        .zip(values.par_chunks_exact(height * width))
        .enumerate()
        .for_each(|(n, (y, x))| {
            let c = n % channels;
            let scale = w[c] * inverse_deviation(variance[c], epsilon);
            let shift = b[c] - mean[c] * scale;
            for (y, x) in y.iter_mut().zip(x) {
                *y = x * scale + shift;
            }
        });
    tensor_of(y, shape)
}

fn inverse_deviation(variance: f32, epsilon: f64) -> f32 {
    (1.0 / (f64::from(variance) + epsilon).sqrt()) as f32
}

/// Gradients of x, weight and bias.
fn backward(
    x: &FlexTensor,
    weight: &FlexTensor,
    moments: &FlexTensor,
    grad: &FlexTensor,
    epsilon: f64,
) -> [FlexTensor; 3] {
    let shape = dims::<4>(x);
    let [batch, channels, height, width] = shape;
    let size = height * width;
    let count = (batch * size) as f64;
    let (weight, moments) = (weight.to_contiguous(), moments.to_contiguous());
    let w: &[f32] = weight.storage();
    let (mean, variance) = moments.storage::<f32>().split_at(channels);
    let (values, dy): (&[f32], &[f32]) = (x.storage(), grad.storage());
    let sums: Vec<(f64, f64)> = (0..channels)
        .into_par_iter()
        .map(|c| {
            let grads = planes_of(dy, c, channels, size);
            let inputs = planes_of(values, c, channels, size);
            let d_bias = grads.iter().map(|g| sum(g)).sum::<f64>();
            let centred = grads
                .iter()
                .zip(&inputs)
                .map(|(g, x)| sum_of(g, x, |g, x| g * (x - mean[c])))
                .sum::<f64>();
            let d_weight = centred * f64::from(inverse_deviation(variance[c], epsilon));
            (d_weight, d_bias)
        })
        .collect();
    let mut dx = buffer(values.len());
    dx.par_chunks_exact_mut(size)
        .zip(dy.par_chunks_exact(size).zip(values.par_chunks_exact(size)))
        .enumerate()
        .for_each(|(n, (dx, (dy, x)))| {
            let c = n % channels;
            let inverse = inverse_deviation(variance[c], epsilon);
            let (d_weight, d_bias) = sums[c];
            let scale = w[c] * inverse;
            // dx = scale * (dy - mean(dy) - x_hat * mean(dy * x_hat))
            let per_x = -(d_weight / count) as f32 * inverse * scale;
            let constant = -(d_bias / count) as f32 * scale - per_x * mean[c];
            for (dx, (dy, x)) in dx.iter_mut().zip(dy.iter().zip(x)) {
                *dx = dy * scale + x * per_x + constant;
            }
        });
    let (d_weight, d_bias): (Vec<f32>, Vec<f32>) =
        sums.iter().map(|(w, b)| (*w as f32, *b as f32)).unzip();
    [
        tensor_of(dx, shape),
        tensor_of(d_weight, [channels]),
        tensor_of(d_bias, [channels]),
    ]
}
