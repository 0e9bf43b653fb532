//! A convolution with the norm behind it: the brick of most networks.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::conv::{Conv2d, Conv2dConfig};
use super::norm::{Norm, NormConfig};

/// Configuration of a [`ConvNorm`].
#[derive(Debug, Clone, Copy)]
pub struct ConvNormConfig {
    /// The convolution.
    pub conv: Conv2dConfig,
    /// The norm over its output.
    pub norm: NormConfig,
}

impl ConvNormConfig {
    /// This convolution with this norm.
    pub const fn new(conv: Conv2dConfig, norm: NormConfig) -> Self {
        Self { conv, norm }
    }

    /// The layers on a device, with fresh weights.
    pub fn init(&self, device: &Device) -> ConvNorm {
        ConvNorm {
            conv: self.conv.init(device),
            norm: self.norm.init(self.conv.channels_out, device),
        }
    }
}

/// A convolution, then batch norm.
#[derive(Module, Debug)]
pub struct ConvNorm {
    /// The convolution.
    pub conv: Conv2d,
    /// The norm over its output.
    pub norm: Norm,
}

impl ConvNorm {
    /// `[batch, channels_in, height, width]` to `[batch, channels_out, height', width']`, clamped
    /// at zero.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.norm.forward(self.conv.forward(x), None, true)
    }

    /// The same without the ReLU.
    pub fn forward_linear(&self, x: Tensor<4>) -> Tensor<4> {
        self.norm.forward(self.conv.forward(x), None, false)
    }
}
