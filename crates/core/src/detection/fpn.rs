//! The feature pyramid network (Lin et al. 2016) as in torchvision: P2..P5 and a subsampled P6.

use burn::module::Module;
use burn::tensor::module::{interpolate, max_pool2d};
use burn::tensor::ops::{InterpolateMode, InterpolateOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use sedet_nn::nn::conv::{Conv2d, Conv2dConfig};
use sedet_nn::nn::init::WeightInit;

/// Configuration of an [`Fpn`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FpnConfig {
    /// Channels of every level.
    pub channels: usize,
}

impl Default for FpnConfig {
    fn default() -> Self {
        Self { channels: 256 }
    }
}

impl FpnConfig {
    /// Builds the pyramid over feature maps with these channels (C2..C5).
    pub fn init(&self, channels_in: &[usize], device: &Device) -> Fpn {
        let conv = |channels_in: usize, kernel: usize| {
            Conv2dConfig::new(channels_in, self.channels, kernel)
                .with_bias(WeightInit::KaimingUniformA1)
                .init(device)
        };
        Fpn {
            inner_blocks: channels_in.iter().map(|c| conv(*c, 1)).collect(),
            layer_blocks: channels_in.iter().map(|_| conv(self.channels, 3)).collect(),
        }
    }
}

/// A feature pyramid: lateral 1x1 convolutions, a top-down sum, a 3x3 convolution on every level.
#[derive(Module, Debug)]
pub struct Fpn {
    /// Lateral convolutions, finest first.
    pub inner_blocks: Vec<Conv2d>,
    /// Output convolutions, finest first.
    pub layer_blocks: Vec<Conv2d>,
}

impl Fpn {
    /// Computes P2..P6 from C2..C5.
    ///
    /// Coarser levels are upsampled to the exact size of the next finer feature map (nearest
    /// neighbor, torchvision's `F.interpolate(size=...)`), so the sizes need not be multiples of
    /// each other.
    ///
    /// # Shapes
    /// Each level is `[batch, channels, height, width]`; P2..P5 have the sizes of C2..C5, P6 has
    /// every second row and column of P5.
    pub fn forward(&self, maps: Vec<Tensor<4>>) -> Vec<Tensor<4>> {
        let mut levels = Vec::with_capacity(maps.len() + 1);
        let mut top_down: Option<Tensor<4>> = None;
        for ((map, inner), layer) in maps
            .into_iter()
            .zip(&self.inner_blocks)
            .zip(&self.layer_blocks)
            .rev()
        {
            let merged = match top_down {
                None => inner.forward(map),
                Some(coarser) => {
                    let [_, _, height, width] = map.dims();
                    let options = InterpolateOptions::new(InterpolateMode::Nearest)
                        .with_output_size([height, width]);
                    inner.forward_onto(map, interpolate(coarser, options))
                }
            };
            levels.push(layer.forward(merged.clone()));
            top_down = Some(merged);
        }
        levels.reverse();
        // P6: torchvision's `LastLevelMaxPool`.
        levels.extend(levels.last().cloned().map(every_second));
        levels
    }
}

/// Returns rows and columns 0, 2, 4, ... of `[batch, channels, height, width]`.
fn every_second(x: Tensor<4>) -> Tensor<4> {
    max_pool2d(x, MaxPoolOptions::new([1, 1]).with_stride([2, 2]))
}
