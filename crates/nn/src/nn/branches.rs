//! Chains of convolutions side by side over one input, their outputs concatenated: what Inception
//! networks are made of.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::conv::Conv2dConfig;
use super::conv_norm::{ConvNorm, ConvNormConfig};
use super::norm::NormConfig;
use super::pool::Pool2d;

/// Configuration of a [`Branch`].
#[derive(Debug, Clone)]
pub struct BranchConfig {
    /// Pooling before the convolutions.
    pub pool: Option<Pool2d>,
    /// The convolutions in order, each with norm and ReLU.
    pub convs: Vec<Conv2dConfig>,
}

impl BranchConfig {
    /// Convolutions only.
    pub fn new(convs: impl Into<Vec<Conv2dConfig>>) -> Self {
        Self {
            pool: None,
            convs: convs.into(),
        }
    }

    /// Pooling, then convolutions.
    pub fn pooled(pool: Pool2d, convs: impl Into<Vec<Conv2dConfig>>) -> Self {
        Self {
            pool: Some(pool),
            convs: convs.into(),
        }
    }

    /// Channels of its output for so many of the input.
    fn channels_out(&self, channels_in: usize) -> usize {
        self.convs.last().map_or(channels_in, |c| c.channels_out)
    }

    /// The branch on a device.
    pub fn init(&self, norm: NormConfig, device: &Device) -> Branch {
        Branch {
            pool: self.pool,
            convs: self
                .convs
                .iter()
                .map(|&conv| ConvNormConfig::new(conv, norm).init(device))
                .collect(),
        }
    }
}

/// Channels of the concatenated branches for so many of the input.
pub fn channels_of(branches: &[BranchConfig], channels_in: usize) -> usize {
    branches.iter().map(|b| b.channels_out(channels_in)).sum()
}

/// One chain: pooling if there is any, then convolutions with norm and ReLU.
#[derive(Module, Debug)]
pub struct Branch {
    #[module(skip)]
    pool: Option<Pool2d>,
    /// The convolutions in order.
    pub convs: Vec<ConvNorm>,
}

impl Branch {
    /// What stands before the convolutions.
    pub fn pool(&self) -> Option<Pool2d> {
        self.pool
    }

    /// `[batch, channels, height, width]` to the last convolution's output.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = match self.pool {
            Some(pool) => pool.forward(x),
            None => x,
        };
        self.convs.iter().fold(x, |x, conv| conv.forward(x))
    }
}

/// The outputs of all branches for `x`, `[batch, channels, height, width]`, concatenated over the
/// channels.
pub fn concatenated(branches: &[Branch], x: Tensor<4>) -> Tensor<4> {
    let outputs = branches.iter().map(|b| b.forward(x.clone())).collect();
    Tensor::cat(outputs, 1)
}
