//! The kernels in terms of burn's own operations, for backends without kernels of their own.
//! RoIAlign goes through host memory.

use burn::backend::flex::FlexTensor;
use burn::backend::ops::ConvOptions;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, IntDType, Shape, Slice, TensorData, read_sync};

use super::batch_norm::BatchNormGradients;
use super::conv2d::Conv2dOptions;
use super::max_pool::MaxPoolOptions;
use super::roi_align::{self, RoiAlignOptions};

fn burn_options(options: Conv2dOptions) -> ConvOptions<2> {
    ConvOptions::new(
        options.stride,
        options.padding,
        options.dilation,
        options.groups,
    )
}

pub(super) fn conv2d<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
    residual: Option<FloatTensor<B>>,
    relu: bool,
    options: Conv2dOptions,
) -> FloatTensor<B> {
    let output = B::conv2d(x, weight, bias, burn_options(options));
    let output = match residual {
        Some(residual) => B::float_add(output, residual),
        None => output,
    };
    if relu { B::relu(output) } else { output }
}

pub(super) fn conv2d_input_gradient<B: Backend>(
    output_gradient: FloatTensor<B>,
    weight: FloatTensor<B>,
    input_shape: [usize; 4],
    options: Conv2dOptions,
) -> FloatTensor<B> {
    // burn asks for the input only to know its shape.
    let dtype = output_gradient.dtype().into();
    let x = B::float_empty(Shape::from(input_shape), &output_gradient.device(), dtype);
    B::conv2d_x_backward(x, weight, output_gradient, burn_options(options))
}

pub(super) fn conv2d_weight_gradient<B: Backend>(
    x: FloatTensor<B>,
    output_gradient: FloatTensor<B>,
    weight_shape: [usize; 4],
    options: Conv2dOptions,
) -> FloatTensor<B> {
    // burn asks for the weight only to know its shape.
    let dtype = output_gradient.dtype().into();
    let weight = B::float_empty(Shape::from(weight_shape), &output_gradient.device(), dtype);
    B::conv2d_weight_backward(x, weight, output_gradient, burn_options(options))
}

pub(super) fn max_pool2d<B: Backend>(x: FloatTensor<B>, options: MaxPoolOptions) -> FloatTensor<B> {
    let MaxPoolOptions {
        kernel,
        stride,
        padding,
        ceil_mode,
    } = options;
    B::max_pool2d(x, [kernel; 2], [stride; 2], [padding; 2], [1; 2], ceil_mode)
}

pub(super) fn max_pool2d_gradient<B: Backend>(
    x: FloatTensor<B>,
    output_gradient: FloatTensor<B>,
    options: MaxPoolOptions,
) -> FloatTensor<B> {
    let (kernel, stride) = ([options.kernel; 2], [options.stride; 2]);
    let (padding, ceil_mode) = ([options.padding; 2], options.ceil_mode);
    let pooled = B::max_pool2d_with_indices(
        x.clone(),
        kernel,
        stride,
        padding,
        [1; 2],
        ceil_mode,
        IntDType::I32,
    );
    let indices = pooled.indices;
    let gradient = output_gradient;
    B::max_pool2d_with_indices_backward(
        x, kernel, stride, padding, [1; 2], ceil_mode, gradient, indices,
    )
    .x_grad
}

/// `[channels]` as `[1, channels, 1, 1]`, which broadcasts.
fn per_channel<B: Backend>(values: FloatTensor<B>) -> FloatTensor<B> {
    let channels = values.shape()[0];
    B::float_reshape(values, Shape::from([1, channels, 1, 1]))
}

pub(super) fn sum_per_channel<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let channels = x.shape()[1];
    let sum = B::float_sum_dims(x, &[0, 2, 3]);
    B::float_reshape(sum, Shape::from([channels]))
}

/// The number of elements of each channel.
fn count<B: Backend>(x: &FloatTensor<B>) -> f64 {
    let [batch, _, height, width] = x.shape().dims::<4>();
    (batch * height * width) as f64
}

pub(super) fn batch_statistics<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let [_, channels, _, _] = x.shape().dims::<4>();
    let share = 1.0 / count::<B>(&x);
    let mean = B::float_mul_scalar(sum_per_channel::<B>(x.clone()), share.into());
    let centerd = B::float_sub(x, per_channel::<B>(mean.clone()));
    let squares = B::float_mul(centerd.clone(), centerd);
    let variance = B::float_mul_scalar(sum_per_channel::<B>(squares), share.into());
    let row = |values| B::float_reshape(values, Shape::from([1, channels]));
    B::float_cat(vec![row(mean), row(variance)], 0)
}

/// Row `index` of the statistics, `[1, channels, 1, 1]`.
fn statistic<B: Backend>(statistics: &FloatTensor<B>, index: usize) -> FloatTensor<B> {
    let channels = statistics.shape()[1];
    let slices = [Slice::from(index..index + 1), Slice::from(0..channels)];
    let row = B::float_slice(statistics.clone(), &slices);
    B::float_reshape(row, Shape::from([1, channels, 1, 1]))
}

/// The normalized input and `1 / sqrt(variance + epsilon)`.
fn normalize<B: Backend>(
    x: FloatTensor<B>,
    statistics: &FloatTensor<B>,
    epsilon: f64,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let variance = B::float_add_scalar(statistic::<B>(statistics, 1), epsilon.into());
    let inverse = B::float_recip(B::float_sqrt(variance));
    let centerd = B::float_sub(x, statistic::<B>(statistics, 0));
    (B::float_mul(centerd, inverse.clone()), inverse)
}

pub(super) fn batch_norm<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    statistics: FloatTensor<B>,
    epsilon: f64,
) -> FloatTensor<B> {
    let (normalized, _) = normalize::<B>(x, &statistics, epsilon);
    affine::<B>(normalized, weight, bias, None, false)
}

pub(super) fn batch_norm_gradients<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    statistics: FloatTensor<B>,
    output_gradient: FloatTensor<B>,
    epsilon: f64,
    input: bool,
) -> BatchNormGradients<B> {
    let share = 1.0 / count::<B>(&x);
    let (normalized, inverse) = normalize::<B>(x, &statistics, epsilon);
    let bias_gradient = sum_per_channel::<B>(output_gradient.clone());
    let weight_gradient =
        sum_per_channel::<B>(B::float_mul(output_gradient.clone(), normalized.clone()));
    let input = input.then(|| {
        let mean =
            |sum: &FloatTensor<B>| per_channel::<B>(B::float_mul_scalar(sum.clone(), share.into()));
        let slope = B::float_mul(normalized, mean(&weight_gradient));
        let centerd = B::float_sub(output_gradient, mean(&bias_gradient));
        let scale = B::float_mul(per_channel::<B>(weight), inverse);
        B::float_mul(B::float_sub(centerd, slope), scale)
    });
    BatchNormGradients {
        input,
        weight: weight_gradient,
        bias: bias_gradient,
    }
}

pub(super) fn affine<B: Backend>(
    x: FloatTensor<B>,
    scale: FloatTensor<B>,
    shift: FloatTensor<B>,
    residual: Option<FloatTensor<B>>,
    relu: bool,
) -> FloatTensor<B> {
    let scaled = B::float_mul(x, per_channel::<B>(scale));
    let mut y = B::float_add(scaled, per_channel::<B>(shift));
    if let Some(residual) = residual {
        y = B::float_add(y, residual);
    }
    if relu { B::relu(y) } else { y }
}

pub(super) fn affine_input_gradient<B: Backend>(
    output: Option<FloatTensor<B>>,
    output_gradient: FloatTensor<B>,
    scale: FloatTensor<B>,
) -> FloatTensor<B> {
    let gradient = match output {
        Some(output) => B::relu_backward(output, output_gradient),
        None => output_gradient,
    };
    B::float_mul(gradient, per_channel::<B>(scale))
}

/// A tensor of any backend as one of 32-bit floats in host memory.
fn on_host<B: Backend>(tensor: FloatTensor<B>) -> FlexTensor {
    let data = read_sync(B::float_into_data(tensor))
        .expect("burn panics on a failed device too, at every read");
    FlexTensor::from_data(data.convert::<f32>())
}

fn on_device<B: Backend>(tensor: FlexTensor, like: &B::Device, dtype: DType) -> FloatTensor<B> {
    let data: TensorData = tensor.into_data().convert_dtype(dtype);
    B::float_from_data(data, like)
}

pub(super) fn roi_align<B: Backend>(
    features: FloatTensor<B>,
    rois: FloatTensor<B>,
    options: RoiAlignOptions,
) -> FloatTensor<B> {
    let (device, dtype) = (features.device(), features.dtype());
    let output = roi_align::cpu_forward(on_host::<B>(features), on_host::<B>(rois), options);
    on_device::<B>(output, &device, dtype)
}

pub(super) fn roi_align_gradient<B: Backend>(
    rois: FloatTensor<B>,
    output_gradient: FloatTensor<B>,
    features_shape: [usize; 4],
    options: RoiAlignOptions,
) -> FloatTensor<B> {
    let (device, dtype) = (output_gradient.device(), output_gradient.dtype());
    let (rois, output_gradient) = (on_host::<B>(rois), on_host::<B>(output_gradient));
    let gradient = roi_align::cpu_gradient(rois, output_gradient, features_shape, options);
    on_device::<B>(gradient, &device, dtype)
}
