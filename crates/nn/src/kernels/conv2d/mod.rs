//! Two-dimensional convolution with gradients.
//!
//! There are five algorithms, and a shape takes the first in this list that was measured to be
//! faster for it (the measurements are in `docs/speed.md`):
//!
//! - `depthwise`: one channel per filter, plane by plane;
//! - `grouped`: groups of few channels, as a matrix product that reads shifted views of the input;
//! - `winograd`: 3x3 of stride 1, with a quarter of the multiplications;
//! - `few_pixels`: few output pixels, with the filters in the lanes of the vectors;
//! - `forward`: everything else, as a matrix product of the weights and the unfolded input
//!   (im2col), tile by tile. A 1x1 kernel of stride 1 is unfolded by copying.
//!
//! Each of the last three reads the weights in an order of its own. For inference, `packed` keeps these
//! orders from call to call; without it Winograd's algorithm is used for large feature maps only, and
//! `few_pixels` not at all. Kept weights in bf16 are for `forward` only (`arithmetic`), which then takes the shapes of
//! `few_pixels` too.
//!
//! `input_gradient` and `weight_gradient` choose among the same algorithms; `autodiff` records the
//! gradients. Where the product of `forward` is in bf16, so are those of its gradients.

mod arithmetic;
mod autodiff;
mod bordered;
mod depthwise;
mod few_pixels;
mod forward;
mod geometry;
mod grouped;
mod input_gradient;
mod packed;
#[cfg(test)]
mod tests;
mod unfold;
mod weight_gradient;
mod winograd;

use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::ops::{ActivationOps, ConvOptions};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, ExtensionType, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Tensor};

use super::affine::{AffineOps, affine};
use super::bf16::{Bf16Cpu, ComputePrecision};
use super::cpu::{Contiguous, all_f32, dims};
use super::excite::ExciteOps;
use super::optional::OptionalTensor;
use super::saved::{SaveOps, Saved};
use forward::Epilogue;
use geometry::Geometry;
use input_gradient::cpu_input_gradient;
pub use packed::PackedWeights;
use packed::{Order, Weights};
use weight_gradient::{cpu_weight_gradient, cpu_weight_gradient_of_pairs};

/// The geometry of a convolution. The pairs are (vertical, horizontal).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dOptions {
    /// Input pixels from one output pixel to the next; at least 1.
    pub stride: [usize; 2],
    /// Zeros added on either side of the input.
    pub padding: [usize; 2],
    /// Input pixels from one kernel element to the next; at least 1.
    pub dilation: [usize; 2],
    /// Number of independent groups of channels; divides the input and the output channels.
    pub groups: usize,
}

impl Default for Conv2dOptions {
    fn default() -> Self {
        Self {
            stride: [1, 1],
            padding: [0, 0],
            dilation: [1, 1],
            groups: 1,
        }
    }
}

/// The weight and bias of a convolution, and the scale of the batch norm after it.
#[derive(Clone, Debug)]
pub struct Filters {
    /// `[channels_out, channels_in / groups, kernel_height, kernel_width]`.
    pub weight: Tensor<4>,
    /// Factor of each filter, `[channels_out]`. Treated as a constant by the gradient.
    pub scale: Option<Tensor<1>>,
    /// Added to the output of each filter, `[channels_out]`.
    pub bias: Tensor<1>,
    /// Where the weight is kept in the orders of the CPU kernels, for inference. Without effect with a scale.
    pub packed: Option<PackedWeights>,
}

impl Filters {
    /// Filters without a scale.
    pub fn new(weight: Tensor<4>, bias: Tensor<1>) -> Self {
        Self {
            weight,
            scale: None,
            bias,
            packed: None,
        }
    }

    /// Returns weight and bias, with the scale multiplied into the weight.
    pub fn folded(self) -> (Tensor<4>, Tensor<1>) {
        let Some(scale) = self.scale else {
            return (self.weight, self.bias);
        };
        let [filters, channels, height, width] = self.weight.dims();
        let planes = [1, filters, channels * height, width];
        let zeros = Tensor::zeros([filters], &scale.device());
        let scaled = affine(self.weight.reshape(planes), scale, zeros, None, false);
        (
            scaled.reshape([filters, channels, height, width]),
            self.bias,
        )
    }
}

/// Convolves `x` with `weight` (a cross-correlation, as in PyTorch) and adds `bias`. Differentiable
/// in all tensors.
///
/// # Shapes
/// - `x`: `[batch, channels_in, height, width]`
/// - `weight`: `[channels_out, channels_in / groups, kernel_height, kernel_width]`
/// - `bias`: `[channels_out]`
/// - result: `[batch, channels_out, height_out, width_out]` with
///   `height_out = (height + 2 padding - dilation (kernel_height - 1) - 1) / stride + 1`
///
/// # Panics
/// If the shapes do not match each other or the options.
pub fn conv2d(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    options: Conv2dOptions,
) -> Tensor<4> {
    Convolution {
        x,
        weight,
        scale: None,
        bias,
        gates: None,
        residual: None,
        relu: false,
        packed: None,
    }
    .compute(options)
}

/// Computes `filters(x) + residual`, then ReLU if `relu`: a convolution with its batch norm and the
/// end of a residual branch. On the CPU this is one pass over the output.
///
/// Differentiable in all tensors but the scale.
///
/// # Shapes
/// - `x`: `[batch, channels_in, height, width]`
/// - `residual` and the result: `[batch, channels_out, height_out, width_out]`, sizes as for
///   [`conv2d`]
///
/// # Panics
/// If the shapes do not match each other or the options.
pub fn conv2d_fused(
    x: Tensor<4>,
    filters: Filters,
    residual: Option<Tensor<4>>,
    relu: bool,
    options: Conv2dOptions,
) -> Tensor<4> {
    Convolution {
        x,
        weight: filters.weight,
        scale: filters.scale,
        bias: Some(filters.bias),
        gates: None,
        residual,
        relu,
        packed: filters.packed,
    }
    .compute(options)
}

/// Computes `max(gates * filters(x) + residual, 0)`: the end of a residual branch with an SE unit.
///
/// Differentiable in all tensors but the scale of the filters.
///
/// # Shapes
/// - `x`: `[batch, channels_in, height, width]`
/// - `gates`: `[batch, channels_out, 1, 1]`
/// - `residual` and the result: `[batch, channels_out, height_out, width_out]`, sizes as for
///   [`conv2d`]
///
/// # Panics
/// If the shapes do not match each other or the options.
pub fn conv2d_gated(
    x: Tensor<4>,
    filters: Filters,
    gates: Tensor<4>,
    residual: Tensor<4>,
    options: Conv2dOptions,
) -> Tensor<4> {
    Convolution {
        x,
        weight: filters.weight,
        scale: filters.scale,
        bias: Some(filters.bias),
        gates: Some(gates),
        residual: Some(residual),
        relu: true,
        packed: filters.packed,
    }
    .compute(options)
}

/// Reduces weights to the pairs of bf16 that `packed` keeps, if the kernels multiply them in no other way, and returns what
/// stands for them in calls with `packed`; else returns them as they are.
pub(crate) fn reduce_to_pairs(
    weight: Tensor<4>,
    packed: &PackedWeights,
    options: Conv2dOptions,
) -> Tensor<4> {
    if packed.bf16().is_none() {
        return weight;
    }
    Tensor::from_dispatch(<Dispatch as Conv2dOps>::reduce_to_pairs(
        weight.into_dispatch(),
        packed.clone(),
        options,
    ))
}

/// A convolution and everything applied to its output.
struct Convolution {
    x: Tensor<4>,
    weight: Tensor<4>,
    scale: Option<Tensor<1>>,
    bias: Option<Tensor<1>>,
    gates: Option<Tensor<4>>,
    residual: Option<Tensor<4>>,
    relu: bool,
    packed: Option<PackedWeights>,
}

impl Convolution {
    fn compute(self, options: Conv2dOptions) -> Tensor<4> {
        self.check(options);
        let inputs = Conv2dInputs {
            x: self.x.into_dispatch(),
            weight: self.weight.into_dispatch(),
            scale: self.scale.map(Tensor::into_dispatch).into(),
            bias: self.bias.map(Tensor::into_dispatch).into(),
            gates: self.gates.map(Tensor::into_dispatch).into(),
            residual: self.residual.map(Tensor::into_dispatch).into(),
            relu: self.relu,
            packed: self.packed,
            precision: ComputePrecision::of_autocast(),
        };
        Tensor::from_dispatch(<Dispatch as Conv2dOps>::fused_conv2d(inputs, options))
    }

    fn check(&self, options: Conv2dOptions) {
        let geometry = Geometry::new(self.x.dims(), self.weight.dims(), options);
        let shape = geometry.output_shape();
        let mut vectors = self.scale.iter().chain(&self.bias);
        assert!(
            vectors.all(|vector| vector.dims() == [shape[1]]),
            "conv2d: bias and scale need one element per output channel"
        );
        if let Some(gates) = &self.gates {
            assert_eq!(
                gates.dims(),
                [shape[0], shape[1], 1, 1],
                "conv2d: one gate per image and output channel"
            );
        }
        if let Some(residual) = &self.residual {
            assert_eq!(
                residual.dims(),
                shape,
                "conv2d: the residual needs the output's shape"
            );
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Backends
// ---------------------------------------------------------------------------------------------

/// The inputs of `relu((conv2d(x, weight * scale) + bias) * gates + residual)`; see
/// [`conv2d_fused`] and [`conv2d_gated`] for the shapes.
#[derive(ExtensionType)]
pub(super) struct Conv2dInputs<B: Backend> {
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    #[extension_type]
    scale: OptionalTensor<B>,
    #[extension_type]
    bias: OptionalTensor<B>,
    #[extension_type]
    gates: OptionalTensor<B>,
    #[extension_type]
    residual: OptionalTensor<B>,
    relu: bool,
    /// Belongs to the weight without the scale. Other backends than the CPU's have no use for it.
    packed: Option<PackedWeights>,
    /// Of the products and those of the gradients, unless `packed` has another one. Only the CPU's kernels have several.
    precision: ComputePrecision,
}

impl<B: AffineOps> Conv2dInputs<B> {
    /// Multiplies the scale into the weight.
    fn scaled(self) -> Self {
        match self.scale {
            OptionalTensor::Absent => self,
            OptionalTensor::Present(scale) => Self {
                weight: scale_filters::<B>(self.weight, scale),
                scale: OptionalTensor::Absent,
                packed: None,
                ..self
            },
        }
    }
}

/// The operation of this module and its gradients.
#[backend_extension(Autodiff, Flex, Cube: cfg(any(feature = "wgpu", feature = "cuda")))]
pub(super) trait Conv2dOps: ExciteOps {
    /// See [`Conv2dInputs`].
    fn fused_conv2d(
        #[extension_type] inputs: Conv2dInputs<Self>,
        options: Conv2dOptions,
    ) -> FloatTensor<Self> {
        portable_forward::<Self>(inputs, options)
    }

    /// See [`reduce_to_pairs`]. Only the CPU's kernels have pairs.
    fn reduce_to_pairs(
        weight: FloatTensor<Self>,
        _packed: PackedWeights,
        _options: Conv2dOptions,
    ) -> FloatTensor<Self> {
        weight
    }

    /// The gradient of [`conv2d`] for its input, which has the shape `input_shape`.
    fn conv2d_input_gradient(
        output_gradient: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        input_shape: [usize; 4],
        options: Conv2dOptions,
        _precision: ComputePrecision,
    ) -> FloatTensor<Self> {
        portable_input_gradient::<Self>(output_gradient, weight, input_shape, options)
    }

    /// The gradient of [`conv2d`] for its weight, which has the shape `weight_shape`.
    fn conv2d_weight_gradient(
        x: FloatTensor<Self>,
        output_gradient: FloatTensor<Self>,
        weight_shape: [usize; 4],
        options: Conv2dOptions,
        _precision: ComputePrecision,
    ) -> FloatTensor<Self> {
        portable_weight_gradient::<Self>(x, output_gradient, weight_shape, options)
    }
}

/// The gradient of the weight from an input as it was kept.
pub(super) trait SavedConv2dOps: Conv2dOps + SaveOps {
    /// See [`Conv2dOps::conv2d_weight_gradient`].
    fn weight_gradient_of_saved(
        x: Self::Saved,
        output_gradient: FloatTensor<Self>,
        weight_shape: [usize; 4],
        options: Conv2dOptions,
        precision: ComputePrecision,
    ) -> FloatTensor<Self> {
        let x = Self::restore(x);
        Self::conv2d_weight_gradient(x, output_gradient, weight_shape, options, precision)
    }
}

/// Multiplies each filter of `weight` by its `scale`, `[filters]`.
fn scale_filters<B: AffineOps>(weight: FloatTensor<B>, scale: FloatTensor<B>) -> FloatTensor<B> {
    let shape = weight.shape();
    let [filters, channels, height, width] = shape.dims::<4>();
    // Each filter as a plane of one image: burn's product with a broadcast scale is slower.
    let planes = Shape::from([1, filters, channels * height, width]);
    let zeros = B::float_zeros(
        Shape::from([filters]),
        &weight.device(),
        weight.dtype().into(),
    );
    let planes = B::float_reshape(weight, planes);
    let scaled = B::affine(planes, scale, zeros, OptionalTensor::Absent, false);
    B::float_reshape(scaled, shape)
}

fn burn_options(options: Conv2dOptions) -> ConvOptions<2> {
    ConvOptions::new(
        options.stride,
        options.padding,
        options.dilation,
        options.groups,
    )
}

fn portable_forward<B: ExciteOps>(
    inputs: Conv2dInputs<B>,
    options: Conv2dOptions,
) -> FloatTensor<B> {
    let inputs = inputs.scaled();
    let bias = inputs.bias.into_option();
    let mut output = B::conv2d(inputs.x, inputs.weight, bias, burn_options(options));
    if let OptionalTensor::Present(gates) = inputs.gates {
        output = B::float_mul(output, gates);
    }
    if let OptionalTensor::Present(residual) = inputs.residual {
        output = B::float_add(output, residual);
    }
    if inputs.relu {
        <B as ActivationOps<B>>::relu(output)
    } else {
        output
    }
}

fn portable_input_gradient<B: Backend>(
    output_gradient: FloatTensor<B>,
    weight: FloatTensor<B>,
    input_shape: [usize; 4],
    options: Conv2dOptions,
) -> FloatTensor<B> {
    // burn reads only the shape of the input.
    let dtype = output_gradient.dtype().into();
    let x = B::float_empty(Shape::from(input_shape), &output_gradient.device(), dtype);
    B::conv2d_x_backward(x, weight, output_gradient, burn_options(options))
}

fn portable_weight_gradient<B: Backend>(
    x: FloatTensor<B>,
    output_gradient: FloatTensor<B>,
    weight_shape: [usize; 4],
    options: Conv2dOptions,
) -> FloatTensor<B> {
    // burn reads only the shape of the weight.
    let dtype = output_gradient.dtype().into();
    let weight = B::float_empty(Shape::from(weight_shape), &output_gradient.device(), dtype);
    B::conv2d_weight_backward(x, weight, output_gradient, burn_options(options))
}

impl Conv2dOps for Flex {
    fn fused_conv2d(inputs: Conv2dInputs<Self>, options: Conv2dOptions) -> FlexTensor {
        let required = [&inputs.x, &inputs.weight].into_iter();
        let optional = [&inputs.scale, &inputs.bias, &inputs.gates, &inputs.residual];
        if all_f32(required.chain(optional.into_iter().filter_map(OptionalTensor::as_ref))) {
            cpu_forward(inputs.scaled(), options)
        } else {
            portable_forward::<Self>(inputs, options)
        }
    }

    fn reduce_to_pairs(
        weight: FlexTensor,
        packed: PackedWeights,
        options: Conv2dOptions,
    ) -> FlexTensor {
        let reduced = packed.bf16().filter(|_| all_f32([&weight]));
        let reduced = reduced.and_then(|cpu| cpu_reduced(&weight, &packed, options, cpu));
        reduced.unwrap_or(weight)
    }

    fn conv2d_input_gradient(
        output_gradient: FlexTensor,
        weight: FlexTensor,
        input_shape: [usize; 4],
        options: Conv2dOptions,
        precision: ComputePrecision,
    ) -> FlexTensor {
        if all_f32([&output_gradient, &weight]) {
            cpu_input_gradient(output_gradient, weight, input_shape, options, precision)
        } else {
            portable_input_gradient::<Self>(output_gradient, weight, input_shape, options)
        }
    }

    fn conv2d_weight_gradient(
        x: FlexTensor,
        output_gradient: FlexTensor,
        weight_shape: [usize; 4],
        options: Conv2dOptions,
        precision: ComputePrecision,
    ) -> FlexTensor {
        if all_f32([&x, &output_gradient]) {
            cpu_weight_gradient(x, output_gradient, weight_shape, options, precision)
        } else {
            portable_weight_gradient::<Self>(x, output_gradient, weight_shape, options)
        }
    }
}

impl SavedConv2dOps for Flex {
    fn weight_gradient_of_saved(
        x: Saved,
        output_gradient: FlexTensor,
        weight_shape: [usize; 4],
        options: Conv2dOptions,
        precision: ComputePrecision,
    ) -> FlexTensor {
        if let Saved::Rounded(x) = &x
            && all_f32([&output_gradient])
            && let Some(gradient) =
                cpu_weight_gradient_of_pairs(x, output_gradient.clone(), weight_shape, options)
        {
            return gradient;
        }
        let x = Self::restore(x);
        Self::conv2d_weight_gradient(x, output_gradient, weight_shape, options, precision)
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl Conv2dOps for burn::backend::Cube {}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl SavedConv2dOps for burn::backend::Cube {}

// ---------------------------------------------------------------------------------------------
// CPU kernel
// ---------------------------------------------------------------------------------------------

/// Reduces weights to pairs if no algorithm reads them in another order, whatever the size of the feature map.
fn cpu_reduced(
    weight: &FlexTensor,
    packed: &PackedWeights,
    options: Conv2dOptions,
    cpu: Bf16Cpu,
) -> Option<FlexTensor> {
    /// A side of a feature map on which every algorithm is possible.
    const SIDE: usize = 64;
    let shape: [usize; 4] = dims(weight);
    let [_, channels, height, width] = shape;
    let [height, width] = [height, width].map(|side| SIDE * side.max(1));
    let geometry = Geometry::new(
        [1, channels * options.groups, height, width],
        shape,
        options,
    );
    let is_read_otherwise = geometry.groups > 1
        || depthwise::is_possible(&geometry)
        || winograd::is_profitable(&geometry, true);
    if is_read_otherwise {
        return None;
    }
    let elements = Contiguous::new(weight.clone());
    let pairs = cpu.pack(elements.data(), geometry.filters, geometry.rows());
    packed.reduce_to(pairs, shape)
}

/// Computes the convolution of inputs without a scale.
fn cpu_forward(inputs: Conv2dInputs<Flex>, options: Conv2dOptions) -> FlexTensor {
    let geometry = Geometry::new(dims(&inputs.x), dims(&inputs.weight), options);
    let x = Contiguous::new(inputs.x);
    let packed = inputs.packed.as_ref();
    let are_reduced = packed.is_some_and(|packed| packed.are_reduced_from(&inputs.weight));
    let elements = (!are_reduced).then(|| Contiguous::new(inputs.weight.clone()));
    let weight = elements.as_ref().map_or(&[][..], Contiguous::data);
    let pixels = geometry.batch * geometry.output_pixels();
    let weights = Weights::new(weight, inputs.precision, pixels).kept_in(&inputs.weight, packed);
    let [bias, gates, residual] = [inputs.bias, inputs.gates, inputs.residual]
        .map(|tensor| tensor.into_option().map(Contiguous::new));
    let x = x.data();
    let epilogue = Epilogue {
        bias: bias.as_ref().map(Contiguous::data),
        gates: gates.as_ref().map(Contiguous::data),
        channels: geometry.groups * geometry.filters,
        residual: residual.as_ref().map(Contiguous::data),
        relu: inputs.relu,
    };
    let output = if are_reduced {
        forward::convolve_rows(x, &geometry, epilogue, weights)
    } else if depthwise::is_possible(&geometry) {
        depthwise::convolve(x, weight, &geometry, epilogue)
    } else if grouped::is_profitable(&geometry) {
        grouped::convolve(x, weight, &geometry, epilogue)
    } else if winograd::is_profitable(&geometry, weights.are_kept()) {
        let shape = [geometry.filters, geometry.channels];
        let transformed = weights.order(Order::Winograd, |weight| {
            winograd::transform_weights(weight, shape, winograd::Layout::Given)
        });
        winograd::convolve(x, &geometry, epilogue, &transformed)
    } else if weights.are_kept() && weights.bf16().is_none() && few_pixels::is_profitable(&geometry)
    {
        few_pixels::convolve(x, &geometry, epilogue, weights)
    } else {
        forward::convolve_rows(x, &geometry, epilogue, weights)
    };
    // SAFETY: each of the algorithms writes every element.
    unsafe { output.into_tensor(geometry.output_shape()) }
}
