//! Batch norm on the statistics of the batch: the training form (Ioffe and Szegedy, 2015).
//!
//! The forward pass reads the input twice, once for the statistics and once for the result; the
//! backward pass reads it twice as well. The frozen form is [`affine`](super::affine::affine).

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, AutodiffBackend, Backend, Dispatch, ExtensionType, TensorMetadata, backend_extension,
};
use burn::tensor::{Shape, Slice, Tensor};
use rayon::prelude::*;

use super::affine::{AffineOps, per_channel, portable_sum_per_channel};
use super::autodiff::{needs_gradient, tracked};
use super::cpu::{
    Contiguous, ELEMENTS_PER_TASK, all_f32, dims, map_planes, sum, sum_of, sum_planes, tensor,
};
use super::optional::OptionalTensor;

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
}

/// Computes `(x - mean) / sqrt(variance + epsilon) * weight + bias` with the mean and the biased
/// variance of each channel of this batch.
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
) -> BatchNormOutput {
    let shape = x.dims();
    let channels = shape[1];
    assert!(
        weight.dims() == [channels] && bias.dims() == [channels],
        "batch_norm_train: weight and bias need one element per channel of {shape:?}"
    );
    let x = x.into_dispatch();
    let statistics = <Dispatch as BatchNormOps>::batch_statistics(x.clone());
    let y = <Dispatch as BatchNormOps>::normalize_batch(
        x,
        weight.into_dispatch(),
        bias.into_dispatch(),
        statistics.clone(),
        epsilon,
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
    }
}

// ---------------------------------------------------------------------------------------------
// Backends
// ---------------------------------------------------------------------------------------------

/// The gradients of batch norm.
#[derive(ExtensionType)]
pub(super) struct BatchNormGradients<B: Backend> {
    /// For the input, if requested.
    #[extension_type]
    input: OptionalTensor<B>,
    /// For the weight, `[channels]`.
    weight: FloatTensor<B>,
    /// For the bias, `[channels]`.
    bias: FloatTensor<B>,
}

/// The operation of this module in two steps, and its gradients.
#[backend_extension(Autodiff, Flex, Cube: cfg(any(feature = "wgpu", feature = "cuda")))]
pub(super) trait BatchNormOps: AffineOps {
    /// Mean and biased variance of every channel: `[2, channels]`. Not differentiable.
    fn batch_statistics(x: FloatTensor<Self>) -> FloatTensor<Self> {
        portable_statistics::<Self>(x)
    }

    /// `(x - mean) / sqrt(variance + epsilon) * weight + bias`. The gradient treats `statistics`
    /// as functions of `x`.
    fn normalize_batch(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        portable_forward::<Self>(x, weight, bias, statistics, epsilon)
    }

    /// The gradients of [`normalize_batch`](Self::normalize_batch) for `statistics` of `x`. The
    /// gradient of the input is computed only if `input`.
    fn batch_norm_gradients(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        output_gradient: FloatTensor<Self>,
        epsilon: f64,
        input: bool,
    ) -> BatchNormGradients<Self> {
        portable_gradients::<Self>(x, weight, statistics, output_gradient, epsilon, input)
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

fn portable_gradients<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    statistics: FloatTensor<B>,
    output_gradient: FloatTensor<B>,
    epsilon: f64,
    input: bool,
) -> BatchNormGradients<B> {
    let share = 1.0 / count::<B>(&x);
    let (normalized, inverse) = normalize::<B>(x, &statistics, epsilon);
    let bias_gradient = portable_sum_per_channel::<B>(output_gradient.clone());
    let weight_gradient =
        portable_sum_per_channel::<B>(B::float_mul(output_gradient.clone(), normalized.clone()));
    let input = input.then(|| {
        let mean =
            |sum: &FloatTensor<B>| per_channel::<B>(B::float_mul_scalar(sum.clone(), share.into()));
        let slope = B::float_mul(normalized, mean(&weight_gradient));
        let centered = B::float_sub(output_gradient, mean(&bias_gradient));
        let scale = B::float_mul(per_channel::<B>(weight), inverse);
        B::float_mul(B::float_sub(centered, slope), scale)
    });
    BatchNormGradients {
        input: input.into(),
        weight: weight_gradient,
        bias: bias_gradient,
    }
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
    ) -> FlexTensor {
        if all_f32([&x, &weight, &bias, &statistics]) {
            cpu_forward(x, weight, bias, statistics, epsilon)
        } else {
            portable_forward::<Self>(x, weight, bias, statistics, epsilon)
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
        let gradients = if all_f32([&x, &weight, &statistics, &output_gradient]) {
            cpu_gradients
        } else {
            portable_gradients::<Self>
        };
        gradients(x, weight, statistics, output_gradient, epsilon, input)
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
        let gradients = B::batch_norm_gradients(
            state.x,
            state.weight,
            state.statistics,
            output_gradient,
            state.epsilon,
            state.input_needs_gradient,
        );
        let [x, weight, bias] = ops.parents;
        if let (Some(node), OptionalTensor::Present(gradient)) = (x, gradients.input) {
            grads.register::<B>(node.id, gradient);
        }
        if let Some(node) = weight {
            grads.register::<B>(node.id, gradients.weight);
        }
        if let Some(node) = bias {
            grads.register::<B>(node.id, gradients.bias);
        }
    }
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
    ) -> FloatTensor<Self> {
        let input_needs_gradient = needs_gradient::<B, C>(&x);
        let statistics = statistics.into_primitive();
        let (x, x_node) = x.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let (bias, bias_node) = bias.into_parts();
        let output =
            B::normalize_batch(x.clone(), weight.clone(), bias, statistics.clone(), epsilon);
        let state = BatchNormState {
            x,
            weight,
            statistics,
            epsilon,
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

fn cpu_gradients(
    x: FlexTensor,
    weight: FlexTensor,
    statistics: FlexTensor,
    output_gradient: FlexTensor,
    epsilon: f64,
    input: bool,
) -> BatchNormGradients<Flex> {
    let shape: [usize; 4] = dims(&x);
    let [batch, channels, height, width] = shape;
    let (x, weight) = (Contiguous::new(x), Contiguous::new(weight));
    let gradient = Contiguous::new(output_gradient);
    let statistics = Contiguous::new(statistics);
    let (x, dy) = (x.data(), gradient.data());
    let (means, variances) = statistics.data().split_at(channels);
    let inverse = inverse_deviations(variances, epsilon);

    let bias_gradient = sum_planes(shape, |plane| sum(&dy[plane]));
    let pixels = height * width;
    let mut weight_gradient = sum_planes(shape, |plane| {
        let mean = means[plane.start / pixels % channels];
        sum_of(&x[plane.clone()], &dy[plane], |x, dy| (x - mean) * dy)
    });
    for (gradient, inverse) in weight_gradient.iter_mut().zip(&inverse) {
        *gradient *= inverse;
    }
    let count = (batch * pixels) as f32;
    let input = input.then(|| {
        map_planes(shape, [x, dy], |channel| {
            let mean = means[channel];
            let scale = weight.data()[channel] * inverse[channel];
            let mean_gradient = bias_gradient[channel] / count;
            let slope = weight_gradient[channel] / count * inverse[channel];
            move |[x, dy]| scale * (dy - mean_gradient - (x - mean) * slope)
        })
    });
    BatchNormGradients {
        input: input.into(),
        weight: tensor(weight_gradient, [channels]),
        bias: tensor(bias_gradient, [channels]),
    }
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
            let output = batch_norm_train(x.clone(), weight.clone(), bias.clone(), epsilon);
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
        let output = batch_norm_train(x, weight, bias, 1e-5);
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
        let portable = portable_gradients::<Flex>(
            x.clone(),
            weight.clone(),
            statistics.clone(),
            dy.clone(),
            1e-5,
            true,
        );
        let cpu = cpu_gradients(x, weight, statistics, dy, 1e-5, true);
        let [portable_dx, cpu_dx] =
            [portable.input, cpu.input].map(|gradient| gradient.into_option().unwrap());
        check("dx", portable_dx, cpu_dx);
        check("dweight", portable.weight, cpu.weight);
        check("dbias", portable.bias, cpu.bias);
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        assert_same_bits_on_any_thread_count(|| {
            let device = Device::flex().autodiff();
            let shape = [3, 7, 90, 70];
            let x = noise::<4>(1, shape, &device).require_grad();
            let weight = noise::<1>(2, [7], &device).require_grad();
            let bias = noise::<1>(3, [7], &device).require_grad();
            let y = batch_norm_train(x.clone(), weight.clone(), bias.clone(), 1e-5).y;
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
