//! 2-D convolution and linear layers with configurable initialization.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};

use super::init::WeightInit;
use crate::kernels;
use crate::kernels::bf16::ComputePrecision;
use crate::kernels::conv2d::{
    Conv2dOptions, Filters, PackedWeights, conv2d, conv2d_fused, reduce_to_pairs,
};

/// Configuration of a [`Conv2d`]; every field has PyTorch's meaning. The pairs are (vertical,
/// horizontal).
#[derive(Debug, Clone, Copy)]
pub struct Conv2dConfig {
    /// Number of input channels.
    pub channels_in: usize,
    /// Number of output channels.
    pub channels_out: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Stride in both directions.
    pub stride: usize,
    /// Zeros added on either side; `kernel / 2` of an odd kernel keeps the size at stride 1.
    pub padding: [usize; 2],
    /// Number of channel groups (ResNeXt: 32).
    pub groups: usize,
    /// Whether the layer has a bias.
    pub bias: bool,
    /// Initialization of weight and bias.
    pub init: WeightInit,
}

impl Conv2dConfig {
    /// A backbone's convolution: square kernel, stride 1, padding `kernel / 2`, one group, no bias, He
    /// initialization.
    pub const fn new(channels_in: usize, channels_out: usize, kernel: usize) -> Self {
        Self::rectangular(channels_in, channels_out, [kernel; 2])
    }

    /// [`new`](Self::new) with a kernel of this height and width.
    pub const fn rectangular(channels_in: usize, channels_out: usize, kernel: [usize; 2]) -> Self {
        Self {
            channels_in,
            channels_out,
            kernel,
            stride: 1,
            padding: [kernel[0] / 2, kernel[1] / 2],
            groups: 1,
            bias: false,
            init: WeightInit::HeFanOut,
        }
    }

    /// Sets the stride.
    pub const fn with_stride(mut self, stride: usize) -> Self {
        self.stride = stride;
        self
    }

    /// Removes the padding: the output is `kernel - 1` pixels smaller at stride 1.
    pub const fn without_padding(mut self) -> Self {
        self.padding = [0; 2];
        self
    }

    /// Sets the number of channel groups.
    pub const fn with_groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// Adds a bias and sets the initialization, as in heads and the FPN.
    pub const fn with_bias(mut self, init: WeightInit) -> Self {
        self.bias = true;
        self.init = init;
        self
    }

    /// Initializes the layer on a device.
    pub fn init(&self, device: &Device) -> Conv2d {
        let [height, width] = self.kernel;
        let area = height * width;
        let per_group = self.channels_in / self.groups;
        let (fan_in, fan_out) = (per_group * area, self.channels_out * area);
        Conv2d {
            weight: self.init.weight(
                [self.channels_out, per_group, height, width],
                fan_in,
                fan_out,
                device,
            ),
            bias: self
                .bias
                .then(|| self.init.bias(self.channels_out, fan_in, device)),
            stride: self.stride,
            padding: self.padding,
            groups: self.groups,
            packed: None,
        }
    }
}

/// A 2-D convolution.
#[derive(Module, Debug)]
pub struct Conv2d {
    /// `[channels_out, channels_in / groups, kernel height, kernel width]`.
    pub weight: Param<Tensor<4>>,
    /// `[channels_out]`.
    pub bias: Option<Param<Tensor<1>>>,
    stride: usize,
    #[module(skip)]
    padding: [usize; 2],
    groups: usize,
    /// Where the weights are kept in the orders of the CPU kernels; see [`for_inference`](Self::for_inference).
    #[module(skip)]
    packed: Option<PackedWeights>,
}

impl Conv2d {
    /// Returns the layer for inference: the weights are brought into the orders of the CPU kernels once, by
    /// the first forward passes, and kept. `precision` is that of its multiplications. Weights that are only multiplied as
    /// pairs of bf16 are reduced to them at once; such a layer stays as it is.
    #[must_use]
    pub(crate) fn for_inference(mut self, precision: ComputePrecision) -> Self {
        if self.packed.as_ref().is_some_and(PackedWeights::are_reduced) {
            return self;
        }
        let packed = PackedWeights::new(precision);
        // Without a bias, calls do not use the orders.
        if self.bias.is_some() && packed.are_bf16() {
            let weight = reduce_to_pairs(self.weight.val(), &packed, self.options());
            self.weight = Param::from_tensor(weight);
        }
        self.packed = Some(packed);
        self
    }

    /// Returns weight and bias for the convolution operations, if the layer has a bias.
    pub(super) fn filters(&self) -> Option<Filters> {
        let bias = self.bias.as_ref()?.val();
        Some(Filters {
            packed: self.packed.clone(),
            ..Filters::new(self.weight.val(), bias)
        })
    }

    /// Returns channels, height and width of the output for an input of this height and width, or `None`
    /// if the kernel is larger than the padded input.
    ///
    /// Does not initialize a lazy weight.
    pub fn output_shape(&self, [height, width]: [usize; 2]) -> Option<[usize; 3]> {
        let shape = self.weight.lazy_shape();
        let size = |axis: usize, input: usize| {
            let positions = (input + 2 * self.padding[axis]).checked_sub(shape[2 + axis])?;
            Some(positions / self.stride + 1)
        };
        Some([shape[0], size(0, height)?, size(1, width)?])
    }

    /// Computes the convolution.
    ///
    /// # Shapes
    /// - `x`: `[batch, channels_in, height, width]`
    /// - result: `[batch, channels_out, height_out, width_out]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self.filters() {
            Some(filters) => conv2d_fused(x, filters, None, false, self.options()),
            None => conv2d(x, self.weight.val(), None, self.options()),
        }
    }

    /// Computes the convolution, then ReLU.
    ///
    /// # Shapes
    /// As [`forward`](Self::forward).
    pub fn forward_relu(&self, x: Tensor<4>) -> Tensor<4> {
        let filters = self.filters().unwrap_or_else(|| {
            let weight = self.weight.val();
            let bias = Tensor::zeros([weight.dims()[0]], &x.device());
            Filters::new(weight, bias)
        });
        conv2d_fused(x, filters, None, true, self.options())
    }

    /// Computes the convolution plus `residual`.
    ///
    /// # Shapes
    /// As [`forward`](Self::forward); `residual` has the shape of the result.
    pub fn forward_onto(&self, x: Tensor<4>, residual: Tensor<4>) -> Tensor<4> {
        match self.filters() {
            Some(filters) => conv2d_fused(x, filters, Some(residual), false, self.options()),
            None => self.forward(x) + residual,
        }
    }

    /// Returns whether each output pixel depends on the input pixel at the same position only.
    pub(super) fn is_pointwise(&self) -> bool {
        let [_, _, height, width] = self.weight.lazy_shape().dims();
        let options = self.options();
        [height, width] == [1, 1]
            && options.stride == [1, 1]
            && options.padding == [0, 0]
            && options.groups == 1
    }

    /// Returns the options of the convolution operation.
    pub fn options(&self) -> Conv2dOptions {
        Conv2dOptions {
            stride: [self.stride; 2],
            padding: self.padding,
            dilation: [1; 2],
            groups: self.groups,
        }
    }
}

/// Initializes a linear layer with a bias.
///
/// # Shapes
/// The layer maps `[*, d_in]` to `[*, d_out]`.
pub fn linear(d_in: usize, d_out: usize, init: WeightInit, device: &Device) -> Linear {
    Linear {
        // burn keeps the weight as `[d_in, d_out]`, the transpose of PyTorch's.
        weight: init.weight([d_in, d_out], d_in, d_out, device),
        bias: Some(init.bias(d_out, d_in, device)),
    }
}

/// Returns a linear layer for inference in a precision, and where its weight is kept: in bf16 it is reduced to pairs.
pub fn pack_linear(layer: Linear, precision: ComputePrecision) -> (Linear, PackedWeights) {
    let packed = PackedWeights::new(precision);
    if layer.bias.is_none() || !packed.are_bf16() {
        return (layer, packed);
    }
    let weight = kernels::linear::reduce_to_pairs(layer.weight.val(), &packed);
    let weight = Param::from_tensor(weight);
    (Linear { weight, ..layer }, packed)
}

/// A linear layer for inference in a precision. The weight is brought into the order of the CPU kernel once, by the
/// first forward pass, and kept.
pub fn forward_packed_linear(
    layer: &Linear,
    packed: Option<&PackedWeights>,
    x: Tensor<2>,
) -> Tensor<2> {
    match (&layer.bias, packed) {
        (Some(bias), Some(packed)) => {
            kernels::linear::packed_linear(x, layer.weight.val(), bias.val(), packed.clone())
        }
        _ => forward_linear(layer, x),
    }
}

/// Applies a linear layer by [`kernels::linear`].
///
/// # Shapes
/// - `x`: `[rows, d_in]`
/// - result: `[rows, d_out]`
pub fn forward_linear(layer: &Linear, x: Tensor<2>) -> Tensor<2> {
    match &layer.bias {
        Some(bias) => kernels::linear::linear(x, layer.weight.val(), bias.val()),
        None => layer.forward(x),
    }
}
