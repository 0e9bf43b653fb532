//! Parallel chains of convolutions over one input, with concatenated outputs: the modules of Inception
//! networks.

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
    /// The convolutions in order, each with batch norm and ReLU.
    pub convs: Vec<Conv2dConfig>,
}

impl BranchConfig {
    /// A branch of convolutions only.
    pub fn new(convs: impl Into<Vec<Conv2dConfig>>) -> Self {
        Self {
            pool: None,
            convs: convs.into(),
        }
    }

    /// A branch of pooling followed by convolutions.
    pub fn pooled(pool: Pool2d, convs: impl Into<Vec<Conv2dConfig>>) -> Self {
        Self {
            pool: Some(pool),
            convs: convs.into(),
        }
    }

    /// Returns the number of output channels for a number of input channels.
    fn channels_out(&self, channels_in: usize) -> usize {
        self.convs.last().map_or(channels_in, |c| c.channels_out)
    }

    /// Initializes the branch on a device.
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

/// Returns the number of channels of the concatenated branches for a number of input channels.
pub fn channels_of(branches: &[BranchConfig], channels_in: usize) -> usize {
    branches.iter().map(|b| b.channels_out(channels_in)).sum()
}

/// One chain: optional pooling, then convolutions with batch norm and ReLU.
#[derive(Module, Debug)]
pub struct Branch {
    #[module(skip)]
    pool: Option<Pool2d>,
    /// The convolutions in order.
    pub convs: Vec<ConvNorm>,
}

impl Branch {
    /// Returns the pooling before the convolutions.
    pub fn pool(&self) -> Option<Pool2d> {
        self.pool
    }

    /// Applies pooling and convolutions.
    ///
    /// # Shapes
    /// - `x`: `[batch, channels, height, width]`
    /// - result: `[batch, channels_out, height_out, width_out]` of the last convolution
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = match self.pool {
            Some(pool) => pool.forward(x),
            None => x,
        };
        self.convs.iter().fold(x, |x, conv| conv.forward(x))
    }
}

/// Concatenates the outputs of all branches for `x` over the channels.
///
/// # Shapes
/// - `x`: `[batch, channels, height, width]`
/// - result: `[batch, channels_out, height_out, width_out]` with the sum of the branches' channels
///   ([`channels_of`])
pub fn concatenated(branches: &[Branch], x: Tensor<4>) -> Tensor<4> {
    let outputs = branches.iter().map(|b| b.forward(x.clone())).collect();
    Tensor::cat(outputs, 1)
}
