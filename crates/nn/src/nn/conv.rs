//! 2-D convolution and the linear layer, with the initialization chosen by name.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};

use super::init::WeightInit;
use crate::kernels;
use crate::kernels::conv2d::{Conv2dOptions, Filters, conv2d, conv2d_fused};

/// Configuration of a [`Conv2d`] with PyTorch's meaning of every field. The pairs are (vertical,
/// horizontal).
#[derive(Debug, Clone, Copy)]
pub struct Conv2dConfig {
    /// Channels of the input.
    pub channels_in: usize,
    /// Channels of the output.
    pub channels_out: usize,
    /// Sides of the kernel.
    pub kernel: [usize; 2],
    /// Step in both directions.
    pub stride: usize,
    /// Zeros added on either side; `kernel / 2` keeps the size at stride 1.
    pub padding: [usize; 2],
    /// Channel groups (ResNeXt: 32).
    pub groups: usize,
    /// Whether a bias is added.
    pub bias: bool,
    /// How weight and bias start.
    pub init: WeightInit,
}

impl Conv2dConfig {
    /// A square kernel, stride 1, size-keeping padding, one group, no bias, He initialization: a
    /// backbone's convolution.
    pub const fn new(channels_in: usize, channels_out: usize, kernel: usize) -> Self {
        Self::rectangular(channels_in, channels_out, [kernel; 2])
    }

    /// The same with a kernel of this height and width.
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

    /// With another stride.
    pub const fn with_stride(mut self, stride: usize) -> Self {
        self.stride = stride;
        self
    }

    /// Without padding: the map shrinks by the kernel's reach.
    pub const fn without_padding(mut self) -> Self {
        self.padding = [0; 2];
        self
    }

    /// With channel groups.
    pub const fn with_groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// With a bias and the initialization that goes with it: heads and the FPN.
    pub const fn with_bias(mut self, init: WeightInit) -> Self {
        self.bias = true;
        self.init = init;
        self
    }

    /// The layer on a device, with fresh weights.
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
}

impl Conv2d {
    /// Channels, height and width of the output for a map of this height and width; none when the
    /// kernel reaches over the padded map. Draws no initial values.
    pub fn output_shape(&self, [height, width]: [usize; 2]) -> Option<[usize; 3]> {
        let shape = self.weight.lazy_shape();
        let size = |axis: usize, input: usize| {
            let room = (input + 2 * self.padding[axis]).checked_sub(shape[2 + axis])?;
            Some(room / self.stride + 1)
        };
        Some([shape[0], size(0, height)?, size(1, width)?])
    }

    /// `[batch, channels_in, height, width]` to `[batch, channels_out, height', width']`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        conv2d(
            x,
            self.weight.val(),
            self.bias.as_ref().map(|bias| bias.val()),
            self.options(),
        )
    }

    /// The same, clamped at zero.
    pub fn forward_relu(&self, x: Tensor<4>) -> Tensor<4> {
        let weight = self.weight.val();
        let bias = match &self.bias {
            Some(bias) => bias.val(),
            None => Tensor::zeros([weight.dims()[0]], &x.device()),
        };
        conv2d_fused(x, Filters::new(weight, bias), None, true, self.options())
    }

    /// The same plus `residual`, of the output's shape.
    pub fn forward_onto(&self, x: Tensor<4>, residual: Tensor<4>) -> Tensor<4> {
        match &self.bias {
            Some(bias) => {
                let (weight, bias) = (self.weight.val(), bias.val());
                {
                    let filters = Filters::new(weight, bias);
                    conv2d_fused(x, filters, Some(residual), false, self.options())
                }
            }
            None => self.forward(x) + residual,
        }
    }

    /// Whether every output pixel comes from the input pixel in its place.
    pub(super) fn is_pointwise(&self) -> bool {
        let [_, _, height, width] = self.weight.lazy_shape().dims();
        let options = self.options();
        [height, width] == [1, 1]
            && options.stride == [1, 1]
            && options.padding == [0, 0]
            && options.groups == 1
    }

    /// How the kernel moves over the input.
    pub fn options(&self) -> Conv2dOptions {
        Conv2dOptions {
            stride: [self.stride; 2],
            padding: self.padding,
            dilation: [1; 2],
            groups: self.groups,
        }
    }
}

/// A linear layer `[*, d_in]` to `[*, d_out]` with a bias, started as `init` says.
pub fn linear(d_in: usize, d_out: usize, init: WeightInit, device: &Device) -> Linear {
    Linear {
        // burn keeps the weight as `[d_in, d_out]`, the transpose of PyTorch's.
        weight: init.weight([d_in, d_out], d_in, d_out, device),
        bias: Some(init.bias(d_out, d_in, device)),
    }
}

/// `[rows, d_in]` to `[rows, d_out]` by our own kernels.
pub fn forward_linear(layer: &Linear, x: Tensor<2>) -> Tensor<2> {
    match &layer.bias {
        Some(bias) => kernels::linear::linear(x, layer.weight.val(), bias.val()),
        None => layer.forward(x),
    }
}
