//! Batch norm on the statistics of the batch: the training form (Ioffe and Szegedy, 2015).
//!
//! The forward pass reads the input twice, once for the statistics and once for the result; the
//! backward pass reads it twice as well. The frozen form is [`affine`](super::affine::affine).

use std::fmt::Debug;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, AutodiffBackend, Backend, Dispatch, TensorMetadata, backend_extension,
};
use burn::tensor::{Shape, Slice, Tensor, TensorData, read_sync};
use rayon::prelude::*;

use super::affine::{AffineOps, per_channel, portable_sum_per_channel};
use super::autodiff::{needs_gradient, tracked};
use super::cpu::{
    Contiguous, ELEMENTS_PER_TASK, all_f32, dims, map_planes, sum, sum_of, sum_planes, tensor,
};

/// Processes that normalize their batches by the statistics of all of them: synchronized batch norm.
pub trait Processes: Debug + Send + Sync {
    /// Sends numbers to the other processes that have a batch, and returns those of all, also of this one, in one order
    /// for all. They are asked for different numbers in turn: those of the norms in the forward pass, then those of the
    /// backward pass.
    fn gather(&self, own: &[f64]) -> Vec<Vec<f64>>;
}

/// The result of [`batch_norm_train`].
#[derive(Debug, Clone)]
pub struct BatchNormOutput {
    /// The normalized input, `[batch, channels, height, width]`.
    pub y: Tensor<4>,
    /// The mean of each channel, `[channels]`, without gradient.
    pub mean: Tensor<1>,
    /// The biased variance of each channel (divided by the number of elements), `[channels]`,
    /// without gradient.
    pub variance: Tensor<1>,
    /// The number of elements of each channel that they are of.
    pub count: f64,
}

/// Computes `(x - mean) / sqrt(variance + epsilon) * weight + bias` with the mean and the biased
/// variance of each channel of this batch, or of the batches of several processes, if `processes` has them.
///
/// Differentiable in all tensors, through the statistics too. The caller updates running
/// statistics, which contain the unbiased variance: `n / (n - 1)` times the one returned here, with
/// `n = batch * height * width`.
///
/// # Shapes
/// - `x` and `y`: `[batch, channels, height, width]`
/// - `weight`, `bias`, `mean` and `variance`: `[channels]`
///
/// # Panics
/// If the shapes do not match.
pub fn batch_norm_train(
    x: Tensor<4>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f64,
    processes: Option<Arc<dyn Processes>>,
) -> BatchNormOutput {
    let shape = x.dims();
    let channels = shape[1];
    assert!(
        weight.dims() == [channels] && bias.dims() == [channels],
        "batch_norm_train: weight and bias need one element per channel of {shape:?}"
    );
    let x = x.into_dispatch();
    let statistics = <Dispatch as BatchNormOps>::batch_statistics(x.clone());
    let own = (shape[0] * shape[2] * shape[3]) as f64;
    let (statistics, count) = match &processes {
        Some(processes) => of_all(processes.as_ref(), statistics, own),
        None => (statistics, own),
    };
    let y = <Dispatch as BatchNormOps>::normalize_batch(
        x,
        weight.into_dispatch(),
        bias.into_dispatch(),
        statistics.clone(),
        epsilon,
        Population { count, processes },
    );
    let statistics = Tensor::<2>::from_dispatch(statistics);
    let row = |index: usize| {
        statistics
            .clone()
            .slice([index..index + 1, 0..channels])
            .reshape([channels])
    };
    BatchNormOutput {
        y: Tensor::from_dispatch(y),
        mean: row(0),
        variance: row(1),
        count,
    }
}

/// The elements that statistics are of.
#[derive(Debug, Clone)]
pub(super) struct Population {
    /// The number of elements of each channel.
    count: f64,
    /// The processes that have some of them; none if all are of this one.
    processes: Option<Arc<dyn Processes>>,
}

/// Returns the statistics of the batches of all processes, and the number of elements of each channel.
fn of_all(
    processes: &dyn Processes,
    statistics: FloatTensor<Dispatch>,
    count: f64,
) -> (FloatTensor<Dispatch>, f64) {
    let statistics = Tensor::<2>::from_dispatch(statistics);
    let [rows, channels] = statistics.dims();
    let device = statistics.device();
    let values = statistics.into_data();
    let own: Vec<f64> = std::iter::once(count).chain(values.iter::<f64>()).collect();
    let all = processes.gather(&own);
    let moments = |channel: usize| {
        all.iter().fold(Moments::default(), |sum, numbers| {
            let (count, mean) = (numbers[0], numbers[1 + channel]);
            sum.merge(Moments {
                count,
                mean,
                deviations: numbers[1 + channels + channel] * count,
            })
        })
    };
    let merged: Vec<Moments> = (0..channels).map(moments).collect();
    let count = all.iter().map(|numbers| numbers[0]).sum();
    let means = merged.iter().map(|moments| moments.mean as f32);
    let variances = merged
        .iter()
        .map(|moments| (moments.deviations / count) as f32);
    let values: Vec<f32> = means.chain(variances).collect();
    let merged = Tensor::<2>::from_data(TensorData::new(values, [rows, channels]), &device);
    (merged.into_dispatch(), count)
}

// ---------------------------------------------------------------------------------------------
// Backends
// ---------------------------------------------------------------------------------------------

/// The operation of this module in two steps, and its gradients.
#[backend_extension(Autodiff, Flex, Cube: cfg(any(feature = "wgpu", feature = "cuda")))]
pub(super) trait BatchNormOps: AffineOps {
    /// Mean and biased variance of every channel: `[2, channels]`. Not differentiable.
    fn batch_statistics(x: FloatTensor<Self>) -> FloatTensor<Self> {
        portable_statistics::<Self>(x)
    }

    /// `(x - mean) / sqrt(variance + epsilon) * weight + bias`. The gradient treats `statistics`
    /// as functions of `x`, and of what other processes have of the `population`.
    fn normalize_batch(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        epsilon: f64,
        population: Population,
    ) -> FloatTensor<Self> {
        let _ = population;
        portable_forward::<Self>(x, weight, bias, statistics, epsilon)
    }

    /// The gradients of weight and bias of [`normalize_batch`](Self::normalize_batch): `[2, channels]`.
    fn batch_norm_gradient_sums(
        x: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        output_gradient: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        portable_gradient_sums::<Self>(x, statistics, output_gradient, epsilon)
    }

    /// The gradient of the input of [`normalize_batch`](Self::normalize_batch). `sums` are those of
    /// [`batch_norm_gradient_sums`](Self::batch_norm_gradient_sums) over all `count` elements of each channel that the
    /// statistics are of.
    fn batch_norm_input_gradient(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        output_gradient: FloatTensor<Self>,
        sums: FloatTensor<Self>,
        count: f64,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        portable_input_gradient::<Self>(
            x,
            weight,
            statistics,
            output_gradient,
            sums,
            count,
            epsilon,
        )
    }
}

/// Returns the number of elements of each channel.
fn count<B: Backend>(x: &FloatTensor<B>) -> f64 {
    let [batch, _, height, width] = x.shape().dims::<4>();
    (batch * height * width) as f64
}

fn portable_statistics<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let [_, channels, _, _] = x.shape().dims::<4>();
    let share = 1.0 / count::<B>(&x);
    let mean = B::float_mul_scalar(portable_sum_per_channel::<B>(x.clone()), share.into());
    let centered = B::float_sub(x, per_channel::<B>(mean.clone()));
    let squares = B::float_mul(centered.clone(), centered);
    let variance = B::float_mul_scalar(portable_sum_per_channel::<B>(squares), share.into());
    let row = |values| B::float_reshape(values, Shape::from([1, channels]));
    B::float_cat(vec![row(mean), row(variance)], 0)
}

/// Returns row `index` of the statistics as `[1, channels, 1, 1]`.
fn statistic<B: Backend>(statistics: &FloatTensor<B>, index: usize) -> FloatTensor<B> {
    let channels = statistics.shape()[1];
    let slices = [Slice::from(index..index + 1), Slice::from(0..channels)];
    let row = B::float_slice(statistics.clone(), &slices);
    B::float_reshape(row, Shape::from([1, channels, 1, 1]))
}

/// Returns the normalized input and `1 / sqrt(variance + epsilon)`.
fn normalize<B: Backend>(
    x: FloatTensor<B>,
    statistics: &FloatTensor<B>,
    epsilon: f64,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let variance = B::float_add_scalar(statistic::<B>(statistics, 1), epsilon.into());
    let inverse = B::float_recip(B::float_sqrt(variance));
    let centered = B::float_sub(x, statistic::<B>(statistics, 0));
    (B::float_mul(centered, inverse.clone()), inverse)
}

fn portable_forward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    statistics: FloatTensor<B>,
    epsilon: f64,
) -> FloatTensor<B> {
    let (normalized, _) = normalize::<B>(x, &statistics, epsilon);
    let scaled = B::float_mul(normalized, per_channel::<B>(weight));
    B::float_add(scaled, per_channel::<B>(bias))
}

fn portable_gradient_sums<B: Backend>(
    x: FloatTensor<B>,
    statistics: FloatTensor<B>,
    output_gradient: FloatTensor<B>,
    epsilon: f64,
) -> FloatTensor<B> {
    let [_, channels, _, _] = x.shape().dims::<4>();
    let (normalized, _) = normalize::<B>(x, &statistics, epsilon);
    let weight = portable_sum_per_channel::<B>(B::float_mul(output_gradient.clone(), normalized));
    let bias = portable_sum_per_channel::<B>(output_gradient);
    let row = |values| B::float_reshape(values, Shape::from([1, channels]));
    B::float_cat(vec![row(weight), row(bias)], 0)
}

fn portable_input_gradient<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    statistics: FloatTensor<B>,
    output_gradient: FloatTensor<B>,
    sums: FloatTensor<B>,
    count: f64,
    epsilon: f64,
) -> FloatTensor<B> {
    let (normalized, inverse) = normalize::<B>(x, &statistics, epsilon);
    let means = B::float_mul_scalar(sums, (1.0 / count).into());
    let slope = B::float_mul(normalized, statistic::<B>(&means, 0));
    let centered = B::float_sub(output_gradient, statistic::<B>(&means, 1));
    let scale = B::float_mul(per_channel::<B>(weight), inverse);
    B::float_mul(B::float_sub(centered, slope), scale)
}

impl BatchNormOps for Flex {
    fn batch_statistics(x: FlexTensor) -> FlexTensor {
        if all_f32([&x]) {
            cpu_statistics(x)
        } else {
            portable_statistics::<Self>(x)
        }
    }

    fn normalize_batch(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        statistics: FlexTensor,
        epsilon: f64,
        _population: Population,
    ) -> FlexTensor {
        if all_f32([&x, &weight, &bias, &statistics]) {
            cpu_forward(x, weight, bias, statistics, epsilon)
        } else {
            portable_forward::<Self>(x, weight, bias, statistics, epsilon)
        }
    }

    fn batch_norm_gradient_sums(
        x: FlexTensor,
        statistics: FlexTensor,
        output_gradient: FlexTensor,
        epsilon: f64,
    ) -> FlexTensor {
        if all_f32([&x, &statistics, &output_gradient]) {
            cpu_gradient_sums(x, statistics, output_gradient, epsilon)
        } else {
            portable_gradient_sums::<Self>(x, statistics, output_gradient, epsilon)
        }
    }

    fn batch_norm_input_gradient(
        x: FlexTensor,
        weight: FlexTensor,
        statistics: FlexTensor,
        output_gradient: FlexTensor,
        sums: FlexTensor,
        count: f64,
        epsilon: f64,
    ) -> FlexTensor {
        let gradient = if all_f32([&x, &weight, &statistics, &output_gradient, &sums]) {
            cpu_input_gradient
        } else {
            portable_input_gradient::<Self>
        };
        gradient(x, weight, statistics, output_gradient, sums, count, epsilon)
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl BatchNormOps for burn::backend::Cube {}

// ---------------------------------------------------------------------------------------------
// Gradients
// ---------------------------------------------------------------------------------------------

/// The inputs of the backward pass.
#[derive(Clone, Debug)]
struct BatchNormState<B: Backend> {
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    statistics: FloatTensor<B>,
    epsilon: f64,
    population: Population,
    input_needs_gradient: bool,
}

/// The parents are `x`, weight and bias.
#[derive(Debug)]
struct BatchNorm;

impl<B: BatchNormOps> Backward<B, 3> for BatchNorm {
    type State = BatchNormState<B>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let output_gradient = grads.consume::<B>(&ops.node);
        let state = ops.state;
        let own = B::batch_norm_gradient_sums(
            state.x.clone(),
            state.statistics.clone(),
            output_gradient.clone(),
            state.epsilon,
        );
        let row = |index: usize| {
            let row = statistic::<B>(&own, index);
            let channels = own.shape()[1];
            B::float_reshape(row, Shape::from([channels]))
        };
        let [x, weight, bias] = ops.parents;
        if let Some(node) = weight {
            grads.register::<B>(node.id, row(0));
        }
        if let Some(node) = bias {
            grads.register::<B>(node.id, row(1));
        }
        // The other processes wait for the sums of this one even if it does not need theirs.
        let sums = match &state.population.processes {
            Some(processes) => sum_of_all::<B>(processes.as_ref(), own),
            None => own,
        };
        if let Some(node) = x
            && state.input_needs_gradient
        {
            let gradient = B::batch_norm_input_gradient(
                state.x,
                state.weight,
                state.statistics,
                output_gradient,
                sums,
                state.population.count,
                state.epsilon,
            );
            grads.register::<B>(node.id, gradient);
        }
    }
}

/// Returns the sum of a tensor over all processes.
fn sum_of_all<B: Backend>(processes: &dyn Processes, own: FloatTensor<B>) -> FloatTensor<B> {
    let (shape, device) = (own.shape(), own.device());
    let data = read_sync(B::float_into_data(own))
        .expect("burn panics on a failed device too, at every read");
    let values: Vec<f64> = data.iter::<f64>().collect();
    let all = processes.gather(&values);
    let sum = |at: usize| all.iter().map(|values| values[at]).sum::<f64>() as f32;
    let sums: Vec<f32> = (0..values.len()).map(sum).collect();
    B::float_from_data(TensorData::new(sums, shape), &device)
}

impl<B: BatchNormOps, C: CheckpointStrategy> BatchNormOps for Autodiff<B, C> {
    fn batch_statistics(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::from_inner(B::batch_statistics(x.into_primitive()))
    }

    fn normalize_batch(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        epsilon: f64,
        population: Population,
    ) -> FloatTensor<Self> {
        let input_needs_gradient = needs_gradient::<B, C>(&x);
        let statistics = statistics.into_primitive();
        let (x, x_node) = x.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let (bias, bias_node) = bias.into_parts();
        let output = B::normalize_batch(
            x.clone(),
            weight.clone(),
            bias,
            statistics.clone(),
            epsilon,
            population.clone(),
        );
        let state = BatchNormState {
            x,
            weight,
            statistics,
            epsilon,
            population,
            input_needs_gradient,
        };
        let parents = [x_node, weight_node, bias_node];
        tracked::<B, C, _, _>(BatchNorm, state, output, parents)
    }
}

// ---------------------------------------------------------------------------------------------
// CPU kernels
// ---------------------------------------------------------------------------------------------

/// Elements that are summed at a time, first for their mean and then for their squared deviations
/// from it: 16 KiB, which the second of the two reads finds in the first-level cache (32 KiB or
/// more).
const STATISTICS_CHUNK: usize = 4096;

/// Count, mean and sum of squared deviations from the mean. Those of two parts merge into those of
/// the whole (Chan, Golub and LeVeque, 1979), which keeps the variance accurate in one pass over
/// memory.
#[derive(Clone, Copy, Default)]
struct Moments {
    count: f64,
    mean: f64,
    deviations: f64,
}

impl Moments {
    fn of(values: &[f32]) -> Self {
        let count = values.len() as f64;
        let mean = sum(values) / count;
        let pivot = mean as f32;
        let deviations = sum_of(values, values, |value, _| {
            let deviation = value - pivot;
            deviation * deviation
        });
        // The squares were taken around the rounded mean.
        let rounding = mean - f64::from(pivot);
        Self {
            count,
            mean,
            deviations: deviations - count * rounding * rounding,
        }
    }

    fn merge(self, other: Self) -> Self {
        let count = self.count + other.count;
        let shift = other.mean - self.mean;
        Self {
            count,
            mean: self.mean + shift * other.count / count,
            deviations: self.deviations
                + other.deviations
                + shift * shift * self.count * other.count / count,
        }
    }
}

fn cpu_statistics(x: FlexTensor) -> FlexTensor {
    let [batch, channels, height, width] = dims(&x);
    let x = Contiguous::new(x);
    let pixels = height * width;
    let moments: Vec<Moments> = (0..channels)
        .into_par_iter()
        .with_min_len(ELEMENTS_PER_TASK.div_ceil((batch * pixels).max(1)))
        .map(|channel| {
            (0..batch)
                .map(|image| &x.data()[(image * channels + channel) * pixels..][..pixels])
                .flat_map(|plane| plane.chunks(STATISTICS_CHUNK))
                .fold(Moments::default(), |moments, chunk| {
                    moments.merge(Moments::of(chunk))
                })
        })
        .collect();
    let means = moments.iter().map(|moments| moments.mean as f32);
    let variances = moments
        .iter()
        .map(|moments| (moments.deviations / moments.count).max(0.0) as f32);
    tensor(means.chain(variances).collect(), [2, channels])
}

/// Returns `1 / sqrt(variance + epsilon)` of each channel.
fn inverse_deviations(variances: &[f32], epsilon: f64) -> Vec<f32> {
    variances
        .iter()
        .map(|variance| (1.0 / (f64::from(*variance) + epsilon).sqrt()) as f32)
        .collect()
}

fn cpu_forward(
    x: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    statistics: FlexTensor,
    epsilon: f64,
) -> FlexTensor {
    let shape: [usize; 4] = dims(&x);
    let (x, weight, bias) = (
        Contiguous::new(x),
        Contiguous::new(weight),
        Contiguous::new(bias),
    );
    let statistics = Contiguous::new(statistics);
    let (means, variances) = statistics.data().split_at(shape[1]);
    let inverse = inverse_deviations(variances, epsilon);
    map_planes(shape, [x.data()], |channel| {
        let (mean, bias) = (means[channel], bias.data()[channel]);
        let scale = weight.data()[channel] * inverse[channel];
        move |[x]| (x - mean) * scale + bias
    })
}

fn cpu_gradient_sums(
    x: FlexTensor,
    statistics: FlexTensor,
    output_gradient: FlexTensor,
    epsilon: f64,
) -> FlexTensor {
    let shape: [usize; 4] = dims(&x);
    let [_, channels, height, width] = shape;
    let x = Contiguous::new(x);
    let gradient = Contiguous::new(output_gradient);
    let statistics = Contiguous::new(statistics);
    let (x, dy) = (x.data(), gradient.data());
    let (means, variances) = statistics.data().split_at(channels);
    let inverse = inverse_deviations(variances, epsilon);
    let bias = sum_planes(shape, |plane| sum(&dy[plane]));
    let pixels = height * width;
    let mut weight = sum_planes(shape, |plane| {
        let mean = means[plane.start / pixels % channels];
        sum_of(&x[plane.clone()], &dy[plane], |x, dy| (x - mean) * dy)
    });
    for (gradient, inverse) in weight.iter_mut().zip(&inverse) {
        *gradient *= inverse;
    }
    weight.extend(bias);
    tensor(weight, [2, channels])
}

fn cpu_input_gradient(
    x: FlexTensor,
    weight: FlexTensor,
    statistics: FlexTensor,
    output_gradient: FlexTensor,
    sums: FlexTensor,
    count: f64,
    epsilon: f64,
) -> FlexTensor {
    let shape: [usize; 4] = dims(&x);
    let channels = shape[1];
    let (x, weight) = (Contiguous::new(x), Contiguous::new(weight));
    let gradient = Contiguous::new(output_gradient);
    let (statistics, sums) = (Contiguous::new(statistics), Contiguous::new(sums));
    let (means, variances) = statistics.data().split_at(channels);
    let inverse = inverse_deviations(variances, epsilon);
    let (weight_sums, bias_sums) = sums.data().split_at(channels);
    let count = count as f32;
    map_planes(shape, [x.data(), gradient.data()], |channel| {
        let mean = means[channel];
        let scale = weight.data()[channel] * inverse[channel];
        let mean_gradient = bias_sums[channel] / count;
        let slope = weight_sums[channel] / count * inverse[channel];
        move |[x, dy]| scale * (dy - mean_gradient - (x - mean) * slope)
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{
        assert_close, assert_same_bits_on_any_thread_count, cases, noise, values,
    };
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn batch_norm_and_its_gradients_equal_those_of_pytorch() {
        for case in cases("batch_norm") {
            let x = case.input::<4>("x");
            let (weight, bias) = (case.input::<1>("weight"), case.input::<1>("bias"));
            let epsilon = case.options["epsilon"].as_f64().unwrap();
            let output = batch_norm_train(x.clone(), weight.clone(), bias.clone(), epsilon, None);
            case.assert_equals("y", output.y.clone());
            case.assert_equals("mean", output.mean);
            case.assert_equals("variance", output.variance);
            let gradients = (output.y * case.constant("dy")).sum().backward();
            case.assert_equals("dx", x.grad(&gradients).unwrap());
            case.assert_equals("dweight", weight.grad(&gradients).unwrap());
            case.assert_equals("dbias", bias.grad(&gradients).unwrap());
        }
    }

    #[test]
    fn the_variance_is_accurate_with_a_large_mean() {
        let device = Device::flex();
        let ones: Vec<f32> = (0..20_000).map(|i| 4096.0 + (i % 2) as f32).collect();
        let data = burn::tensor::TensorData::new(ones, [2, 1, 100, 100]);
        let x = Tensor::<4>::from_data(data, &device);
        let (weight, bias) = (Tensor::ones([1], &device), Tensor::zeros([1], &device));
        let output = batch_norm_train(x, weight, bias, 1e-5, None);
        assert_close("mean", &values(output.mean), &[4096.5]);
        assert_close("variance", &values(output.variance), &[0.25]);
    }

    #[test]
    fn portable_forms_equal_the_cpu_kernels() {
        let device = Device::flex();
        let flat =
            |seed| FlexTensor::from_data(noise::<4>(seed, [2, 3, 6, 5], &device).into_data());
        let flat_1 = |seed| FlexTensor::from_data(noise::<1>(seed, [3], &device).into_data());
        let (x, dy, weight, bias) = (flat(1), flat(2), flat_1(3), flat_1(4));
        let check = |name: &str, portable: FlexTensor, cpu: FlexTensor| {
            let values = |tensor: FlexTensor| tensor.into_data().try_to_vec::<f32>().unwrap();
            assert_close(name, &values(portable), &values(cpu));
        };
        let statistics = cpu_statistics(x.clone());
        check(
            "statistics",
            portable_statistics::<Flex>(x.clone()),
            statistics.clone(),
        );
        check(
            "forward",
            portable_forward::<Flex>(
                x.clone(),
                weight.clone(),
                bias.clone(),
                statistics.clone(),
                1e-5,
            ),
            cpu_forward(x.clone(), weight.clone(), bias, statistics.clone(), 1e-5),
        );
        let sums = cpu_gradient_sums(x.clone(), statistics.clone(), dy.clone(), 1e-5);
        check(
            "gradients of weight and bias",
            portable_gradient_sums::<Flex>(x.clone(), statistics.clone(), dy.clone(), 1e-5),
            sums.clone(),
        );
        let gradient = |of: fn(_, _, _, _, _, _, _) -> FlexTensor| {
            let (x, weight, statistics) = (x.clone(), weight.clone(), statistics.clone());
            of(x, weight, statistics, dy.clone(), sums.clone(), 60.0, 1e-5)
        };
        let portable = gradient(portable_input_gradient::<Flex>);
        check("dx", portable, gradient(cpu_input_gradient));
    }

    /// Threads that wait for each other.
    #[derive(Debug)]
    struct Threads {
        numbers: std::sync::Mutex<Vec<Vec<f64>>>,
        barrier: std::sync::Barrier,
    }

    #[derive(Debug)]
    struct OneOf(Arc<Threads>, usize);

    impl Processes for OneOf {
        fn gather(&self, own: &[f64]) -> Vec<Vec<f64>> {
            let Self(threads, index) = self;
            threads.numbers.lock().unwrap()[*index] = own.to_vec();
            threads.barrier.wait();
            let all = threads.numbers.lock().unwrap().clone();
            threads.barrier.wait();
            all
        }
    }

    #[test]
    fn parts_of_a_batch_on_several_processes_give_the_numbers_of_the_whole_batch() {
        // Parts of two and three images.
        let parts = [(0, 2), (2, 5)];
        let run = |images: (usize, usize), processes: Option<Arc<dyn Processes>>| {
            let device = Device::flex().autodiff();
            let part = |seed| {
                let whole = noise::<4>(seed, [5, 3, 6, 4], &device) * 3.0 + 2.0;
                whole.slice([images.0..images.1, 0..3, 0..6, 0..4]).detach()
            };
            let x = part(1).require_grad();
            let weight = noise::<1>(2, [3], &device).require_grad();
            let bias = noise::<1>(3, [3], &device).require_grad();
            let out = batch_norm_train(x.clone(), weight.clone(), bias.clone(), 1e-5, processes);
            let gradients = (out.y.clone() * part(4)).sum().backward();
            let of_images = [values(out.y), values(x.grad(&gradients).unwrap())];
            let sums = [weight, bias].map(|tensor| values(tensor.grad(&gradients).unwrap()));
            (
                of_images,
                sums,
                values(out.mean),
                values(out.variance),
                out.count,
            )
        };
        let whole = run((0, 5), None);
        let threads = Arc::new(Threads {
            numbers: std::sync::Mutex::new(vec![Vec::new(); 2]),
            barrier: std::sync::Barrier::new(2),
        });
        let found: Vec<_> = std::thread::scope(|scope| {
            let started = parts.iter().enumerate().map(|(index, images)| {
                let processes = Arc::new(OneOf(threads.clone(), index));
                let run = &run;
                scope.spawn(move || run(*images, Some(processes)))
            });
            let started: Vec<_> = started.collect();
            started
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        for (name, index) in [("y", 0), ("dx", 1)] {
            let joined = [found[0].0[index].clone(), found[1].0[index].clone()].concat();
            assert_close(name, &joined, &whole.0[index]);
        }
        for (name, index) in [("dweight", 0), ("dbias", 1)] {
            let (a, b) = (&found[0].1[index], &found[1].1[index]);
            let sum: Vec<f32> = a.iter().zip(b).map(|(a, b)| a + b).collect();
            assert_close(name, &sum, &whole.1[index]);
        }
        for part in &found {
            assert_close("mean", &part.2, &whole.2);
            assert_close("variance", &part.3, &whole.3);
            assert_eq!(part.4, whole.4);
        }
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        assert_same_bits_on_any_thread_count(|| {
            let device = Device::flex().autodiff();
            let shape = [3, 7, 90, 70];
            let x = noise::<4>(1, shape, &device).require_grad();
            let weight = noise::<1>(2, [7], &device).require_grad();
            let bias = noise::<1>(3, [7], &device).require_grad();
            let y = batch_norm_train(x.clone(), weight.clone(), bias.clone(), 1e-5, None).y;
            let gradients = (y.clone() * noise(4, shape, &device)).sum().backward();
            [
                values(y),
                values(x.grad(&gradients).unwrap()),
                values(weight.grad(&gradients).unwrap()),
                values(bias.grad(&gradients).unwrap()),
            ]
            .concat()
        });
    }
}
