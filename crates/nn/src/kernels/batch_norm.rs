//! Batch norm on the statistics of the batch: the training form (Ioffe and Szegedy, 2015).
//!
//! Forward is two passes over memory, one for the statistics and one for the result; backward is
//! two passes as well. The frozen form is [`affine`](super::affine::affine).

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch};
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::cpu::{
    Contiguous, ELEMENTS_PER_TASK, dims, map_planes, sum, sum_of, sum_planes, tensor,
};
use super::{Kernels, Operations, needs_gradient, tracked};

/// What [`batch_norm_train`] returns.
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

/// `(x - mean) / sqrt(variance + epsilon) * weight + bias` with the mean and biased variance of
/// each channel of this batch.
///
/// `x` is `[batch, channels, height, width]`, `weight` and `bias` `[channels]`. Differentiable in
/// all three, through the statistics too. Running averages are the caller's; mind that they take
/// the unbiased variance, `n / (n - 1)` times this one with `n = batch * height * width`.
///
/// # Panics
/// When the shapes do not fit each other.
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
    let statistics = <Dispatch as Operations>::batch_statistics(x.clone());
    let y = <Dispatch as Operations>::batch_norm(
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

/// The gradients of batch norm.
pub struct BatchNormGradients<B: Backend> {
    /// For the input, if it was asked for.
    pub input: Option<FloatTensor<B>>,
    /// For the weight, `[channels]`.
    pub weight: FloatTensor<B>,
    /// For the bias, `[channels]`.
    pub bias: FloatTensor<B>,
}

// ---------------------------------------------------------------------------------------------
// Gradient recording
// ---------------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
pub(super) struct BatchNormState<B: Backend> {
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    statistics: FloatTensor<B>,
    epsilon: f64,
    input_needs_gradient: bool,
}

#[derive(Debug)]
struct BatchNorm;

impl<B: Kernels> Backward<B, 3> for BatchNorm {
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
        if let (Some(node), Some(gradient)) = (x, gradients.input) {
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

pub(super) fn recorded<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    bias: FloatTensor<Autodiff<B, C>>,
    statistics: FloatTensor<Autodiff<B, C>>,
    epsilon: f64,
) -> FloatTensor<Autodiff<B, C>> {
    let input_needs_gradient = needs_gradient::<B, C>(&x);
    let statistics = statistics.into_primitive();
    let (x, x_node) = x.into_parts();
    let (weight, weight_node) = weight.into_parts();
    let (bias, bias_node) = bias.into_parts();
    let output =
        B::batch_norm_forward(x.clone(), weight.clone(), bias, statistics.clone(), epsilon);
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

// ---------------------------------------------------------------------------------------------
// CPU kernels
// ---------------------------------------------------------------------------------------------

/// Elements whose mean and squared standard deviations are taken while they are in the first-level cache.
const STATISTICS_CHUNK: usize = 4096;

/// Count, mean and sum of squared standard deviations; two parts merge into those of the whole (Chan, Golub
/// and LeVeque, 1979), which keeps the variance accurate in one pass over memory.
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

pub(super) fn cpu_statistics(x: FlexTensor) -> FlexTensor {
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

/// `1 / sqrt(variance + epsilon)` of each channel.
fn inverse_deviations(variances: &[f32], epsilon: f64) -> Vec<f32> {
    variances
        .iter()
        .map(|variance| (1.0 / (f64::from(*variance) + epsilon).sqrt()) as f32)
        .collect()
}

pub(super) fn cpu_forward(
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

pub(super) fn cpu_gradients(
    x: FlexTensor,
    weight: FlexTensor,
    statistics: FlexTensor,
    output_gradient: FlexTensor,
    epsilon: f64,
    input: bool,
) -> BatchNormGradients<burn::backend::Flex> {
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
        input,
        weight: tensor(weight_gradient, [channels]),
        bias: tensor(bias_gradient, [channels]),
    }
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
    fn the_variance_survives_a_large_mean() {
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
    fn portable_kernels_equal_the_fast_ones() {
        let device = Device::flex();
        let flat =
            |seed| FlexTensor::from_data(noise::<4>(seed, [2, 3, 6, 5], &device).into_data());
        let flat_1 = |seed| FlexTensor::from_data(noise::<1>(seed, [3], &device).into_data());
        let (x, dy, weight, bias) = (flat(1), flat(2), flat_1(3), flat_1(4));
        let check = |name: &str, portable: FlexTensor, fast: FlexTensor| {
            let values = |tensor: FlexTensor| tensor.into_data().try_to_vec::<f32>().unwrap();
            assert_close(name, &values(portable), &values(fast));
        };
        let statistics = cpu_statistics(x.clone());
        check(
            "statistics",
            portable::batch_statistics::<Flex>(x.clone()),
            statistics.clone(),
        );
        check(
            "forward",
            portable::batch_norm::<Flex>(
                x.clone(),
                weight.clone(),
                bias.clone(),
                statistics.clone(),
                1e-5,
            ),
            cpu_forward(x.clone(), weight.clone(), bias, statistics.clone(), 1e-5),
        );
        let portable = portable::batch_norm_gradients::<Flex>(
            x.clone(),
            weight.clone(),
            statistics.clone(),
            dy.clone(),
            1e-5,
            true,
        );
        let fast = cpu_gradients(x, weight, statistics, dy, 1e-5, true);
        check("dx", portable.input.unwrap(), fast.input.unwrap());
        check("dweight", portable.weight, fast.weight);
        check("dbias", portable.bias, fast.bias);
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
