//! The feature pyramid network (Lin et al. 2016) as in torchvision: P2..P5 and a subsampled P6.

use burn::module::Module;
use burn::tensor::module::{interpolate, max_pool2d};
use burn::tensor::ops::{InterpolateMode, InterpolateOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use sedet_nn::kernels::bf16::ComputePrecision;
use sedet_nn::nn::conv::{Conv2d, Conv2dConfig};
use sedet_nn::nn::conv_norm::{fold_all, forward_normed};
use sedet_nn::nn::init::WeightInit;
use sedet_nn::nn::norm::{Norm, NormConfig};

/// Configuration of an [`Fpn`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FpnConfig {
    /// Channels of every level.
    pub channels: usize,
    /// Batch norm after every convolution, which then has no bias (torchvision's
    /// `fasterrcnn_resnet50_fpn_v2`). Without it, there are no norms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub norm: Option<NormConfig>,
}

impl Default for FpnConfig {
    fn default() -> Self {
        Self {
            channels: 256,
            norm: None,
        }
    }
}

impl FpnConfig {
    /// Builds the pyramid over feature maps with these channels (C2..C5).
    pub fn init(&self, channels_in: &[usize], device: &Device) -> Fpn {
        let conv = |channels_in: usize, kernel: usize| {
            let conv = Conv2dConfig {
                bias: self.norm.is_none(),
                init: WeightInit::KaimingUniformA1,
                ..Conv2dConfig::new(channels_in, self.channels, kernel)
            };
            conv.init(device)
        };
        let norms = || -> Vec<Norm> {
            let norm = |norm: NormConfig| norm.init(self.channels, device);
            channels_in
                .iter()
                .filter_map(|_| self.norm.map(norm))
                .collect()
        };
        Fpn {
            inner_blocks: channels_in.iter().map(|c| conv(*c, 1)).collect(),
            inner_norms: norms(),
            layer_blocks: channels_in.iter().map(|_| conv(self.channels, 3)).collect(),
            layer_norms: norms(),
        }
    }
}

/// A feature pyramid: lateral 1x1 convolutions, a top-down sum, a 3x3 convolution on every level.
#[derive(Module, Debug)]
pub struct Fpn {
    /// Lateral convolutions, finest first.
    pub inner_blocks: Vec<Conv2d>,
    /// Batch norms of the lateral convolutions; empty without norms.
    pub inner_norms: Vec<Norm>,
    /// Output convolutions, finest first.
    pub layer_blocks: Vec<Conv2d>,
    /// Batch norms of the output convolutions; empty without norms.
    pub layer_norms: Vec<Norm>,
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
        for (level, ((map, inner), layer)) in maps
            .into_iter()
            .zip(&self.inner_blocks)
            .zip(&self.layer_blocks)
            .enumerate()
            .rev()
        {
            let coarser = top_down.map(|coarser| {
                let [_, _, height, width] = map.dims();
                let options = InterpolateOptions::new(InterpolateMode::Nearest)
                    .with_output_size([height, width]);
                interpolate(coarser, options)
            });
            let merged = normed(inner, self.inner_norms.get(level), map, coarser);
            let norm = self.layer_norms.get(level);
            levels.push(normed(layer, norm, merged.clone(), None));
            top_down = Some(merged);
        }
        levels.reverse();
        // P6: torchvision's `LastLevelMaxPool`.
        levels.extend(levels.last().cloned().map(every_second));
        levels
    }

    /// Returns the pyramid for inference, with the norms folded into the convolutions.
    #[must_use]
    pub fn folded(self, precision: ComputePrecision) -> Self {
        let (inner_blocks, inner_norms) = fold_all(self.inner_blocks, self.inner_norms, precision);
        let (layer_blocks, layer_norms) = fold_all(self.layer_blocks, self.layer_norms, precision);
        Self {
            inner_blocks,
            inner_norms,
            layer_blocks,
            layer_norms,
        }
    }
}

/// Computes `norm(conv(x)) + residual` with what there is of norm and residual.
fn normed(
    conv: &Conv2d,
    norm: Option<&Norm>,
    x: Tensor<4>,
    residual: Option<Tensor<4>>,
) -> Tensor<4> {
    match (norm, residual) {
        (Some(norm), residual) => forward_normed(conv, norm, x, residual, false),
        (None, Some(residual)) => conv.forward_onto(x, residual),
        (None, None) => conv.forward(x),
    }
}

/// Returns rows and columns 0, 2, 4, ... of `[batch, channels, height, width]`.
fn every_second(x: Tensor<4>) -> Tensor<4> {
    max_pool2d(x, MaxPoolOptions::new([1, 1]).with_stride([2, 2]))
}
