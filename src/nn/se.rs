//! The squeeze-and-excitation unit (Hu et al., "Squeeze-and-Excitation Networks", equations 2-4).

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::conv::linear;
use super::init::WeightInit;

/// Configuration of an [`SeUnit`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeConfig {
    /// The bottleneck's ratio r: the hidden layer has `channels / reduction` units, at least one.
    pub reduction: usize,
    /// The hidden layer is rounded to a multiple of this: 1 is the paper, 8 is timm's `seresnet`.
    #[serde(default = "one")]
    pub round_to: usize,
    /// Whether a ReLU stands between the branch's last norm and the unit: timm's
    /// `legacy_seresnet18` and `34`, nowhere else.
    #[serde(default)]
    pub after_relu: bool,
}

fn one() -> usize {
    1
}

impl Default for SeConfig {
    /// r = 16, as everywhere in the paper.
    fn default() -> Self {
        Self::new(16)
    }
}

impl SeConfig {
    /// This ratio, not rounded.
    pub const fn new(reduction: usize) -> Self {
        Self {
            reduction,
            round_to: 1,
            after_relu: false,
        }
    }

    /// Units of the hidden layer: `channels / reduction` cut to a whole number, at least one; with
    /// rounding the nearest multiple, at least one multiple (timm's `SEModule`).
    pub fn hidden(&self, channels: usize) -> usize {
        match self.round_to {
            0 | 1 => (channels / self.reduction).max(1),
            step => {
                let exact = channels as f64 / self.reduction as f64;
                ((exact + step as f64 / 2.0) as usize / step * step).max(step)
            }
        }
    }

    /// The unit for so many channels.
    pub fn init(&self, channels: usize, device: &Device) -> SeUnit {
        let hidden = self.hidden(channels);
        SeUnit {
            fc1: linear(channels, hidden, WeightInit::PytorchDefault, device),
            fc2: linear(hidden, channels, WeightInit::PytorchDefault, device),
            after_relu: self.after_relu,
        }
    }
}

/// Squeeze (mean over space), excite (two fully connected layers), scale the channels.
#[derive(Module, Debug)]
pub struct SeUnit {
    /// `channels` to `channels / r`.
    pub fc1: Linear,
    /// `channels / r` to `channels`.
    pub fc2: Linear,
    after_relu: bool,
}

impl SeUnit {
    /// Whether the unit's input is clamped at zero first; see [`SeConfig::after_relu`].
    pub fn is_after_relu(&self) -> bool {
        self.after_relu
    }

    /// The channel gates `[batch, channels]`, each between 0 and 1, of `[batch, channels, h, w]`.
    pub fn gates(&self, x: Tensor<4>) -> Tensor<2> {
        let [batch, channels, height, width] = x.dims();
        let squeezed = x
            .reshape([batch, channels, height * width])
            .mean_dim(2)
            .reshape([batch, channels]);
        sigmoid(self.fc2.forward(relu(self.fc1.forward(squeezed))))
    }

    /// `x` with every channel multiplied by its gate.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, channels, _, _] = x.dims();
        let gates = self.gates(x.clone()).reshape([batch, channels, 1, 1]);
        x * gates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hidden_layer_is_the_paper_s_or_rounded_as_timm_does() {
        let paper = SeConfig::default();
        assert_eq!([8, 64, 256, 2048].map(|c| paper.hidden(c)), [1, 4, 16, 128]);
        let timm = SeConfig {
            round_to: 8,
            ..paper
        };
        assert_eq!([8, 64, 200, 2048].map(|c| timm.hidden(c)), [8, 8, 16, 128]);
    }
}
