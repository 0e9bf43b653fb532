//! Feature pyramid network (Lin et al. 2016), as torchvision's: P2..P5 and a subsampled P6.

use burn::module::Module;
use burn::tensor::module::{interpolate, max_pool2d};
use burn::tensor::ops::{InterpolateMode, InterpolateOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use sedet_nn::nn::conv::{Conv2d, Conv2dConfig};
use sedet_nn::nn::init::WeightInit;

/// Configuration of the pyramid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The pyramid over maps of these channels (C2..C5).
    pub fn init(&self, channels_in: [usize; 4], device: &Device) -> Fpn {
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

/// The pyramid: lateral 1x1 convolutions, a top-down sum, a 3x3 on every level.
#[derive(Module, Debug)]
pub struct Fpn {
    /// Lateral convolutions, finest first.
    pub inner_blocks: Vec<Conv2d>,
    /// Output convolutions, finest first.
    pub layer_blocks: Vec<Conv2d>,
}

impl Fpn {
    /// C2..C5 to P2..P6, each `[batch, channels, h, w]` with strides 4 to 64.
    pub fn forward(&self, maps: [Tensor<4>; 4]) -> Vec<Tensor<4>> {
        let mut levels = Vec::with_capacity(5);
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
        // P6 is every second pixel of P5, torchvision's `LastLevelMaxPool`.
        let p6 = every_second(levels[0].clone());
        levels.reverse();
        levels.push(p6);
        levels
    }
}

/// Rows and columns 0, 2, 4, ... of `[batch, channels, height, width]`.
fn every_second(x: Tensor<4>) -> Tensor<4> {
    max_pool2d(x, MaxPoolOptions::new([1, 1]).with_stride([2, 2]))
}
