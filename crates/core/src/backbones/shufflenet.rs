//! ShuffleNet v1 (Zhang et al. 2017), with and without SE units.
//!
//! Units are those of the paper's figure 2: grouped 1x1, batch norm and ReLU, channel shuffle,
//! depthwise 3x3 and batch norm, grouped 1x1 and batch norm; then the sum with the input (b), or,
//! in units of stride 2, the concatenation with the average-pooled input (c). The inner channels are
//! a quarter of the unit's output, and the very first 1x1 is not grouped (section 3.2). An SE unit is
//! at the end of each branch, before the sum or the concatenation: this gives the 2.4 M parameters of
//! the SENet paper's table 3.
//!
//! C2 is the output of the max pooling, C3..C5 are those of the paper's stages 2, 3 and 4: the last
//! outputs of each stride.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::summary::Tracer;
use super::validation::{BackboneConfigError, check_common, check_counts};
use super::zoo::Published;
use super::{Backbone, BackboneFamily, Part};
use sedet_nn::kernels::affine::{add_relu, relu};
use sedet_nn::kernels::bf16::ComputePrecision;
use sedet_nn::nn::conv::Conv2dConfig;
use sedet_nn::nn::conv_norm::{ConvNorm, ConvNormConfig};
use sedet_nn::nn::norm::NormConfig;
use sedet_nn::nn::pool::{Pool2d, PoolKind};
use sedet_nn::nn::se::{SeConfig, SeUnit};

/// Channels of the first convolution at width 1.
const STEM_CHANNELS: usize = 24;

/// Units of the paper's stages 2, 3 and 4; the first of each has stride 2.
const UNITS: [usize; 3] = [4, 8, 4];

/// Output channels of a unit divided by its inner channels.
const EXPANSION: usize = 4;

/// The pooling after the first convolution.
const STEM_POOL: Pool2d = Pool2d::new(PoolKind::Max, 3, 2).with_padding(1);

/// The pooling on the shortcut of a unit of stride 2.
const SHORTCUT_POOL: Pool2d = Pool2d::new(PoolKind::Average, 3, 2).with_padding(1);

/// Configuration of a [`Shufflenet`]; complete enough to be stored in a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShufflenetConfig {
    /// Groups of the 1x1 convolutions (the paper's g).
    pub groups: usize,
    /// Output channels of the paper's stage 2 at width 1; each later stage doubles them. The
    /// paper's table 1 has 240 for three groups.
    pub stage_channels: usize,
    /// Multiplies all channel counts (the paper's s); 1 is the published network. Channel counts are
    /// rounded to a multiple of what the groups need.
    #[serde(default = "super::full_width")]
    pub width_multiplier: f64,
    /// The SE unit of every branch; none in the plain network.
    #[serde(default)]
    pub se: Option<SeConfig>,
    /// Norm layers: trained, or frozen.
    #[serde(default)]
    pub norm: NormConfig,
    /// Number of leading parts that keep their weights: the stem's convolution, its pooling (which
    /// has none), then the paper's stages 2 to 4.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    #[schemars(!skip_serializing_if)]
    pub frozen_stages: usize,
}

impl Default for ShufflenetConfig {
    /// Returns ShuffleNet 1x with three groups, without SE units, with frozen norms.
    fn default() -> Self {
        Self {
            groups: 3,
            stage_channels: 240,
            width_multiplier: super::full_width(),
            se: None,
            norm: NormConfig::default(),
            frozen_stages: 0,
        }
    }
}

impl ShufflenetConfig {
    /// Returns the nearest multiple of `step`, at least one.
    fn scaled(&self, channels: usize, step: usize) -> usize {
        let exact = channels as f64 * self.width_multiplier;
        ((exact / step as f64).round() as usize).max(1) * step
    }

    fn stem_channels(&self) -> usize {
        self.scaled(STEM_CHANNELS, self.groups)
    }

    fn channels_of(&self, stage: usize) -> usize {
        let step = EXPANSION * self.groups;
        // The first unit's branch needs channels beyond those of the shortcut.
        let least = (self.stem_channels() + 1).next_multiple_of(step);
        self.scaled(self.stage_channels, step).max(least) << stage
    }

    fn init_unit(
        &self,
        channels_in: usize,
        channels: usize,
        is_first: bool,
        device: &Device,
    ) -> ShuffleUnit {
        let conv_norm = |conv| ConvNormConfig::new(conv, self.norm).init(device);
        let inner = channels / EXPANSION;
        let halves = channels_in != channels;
        let (stride, branch) = if halves {
            (2, channels - channels_in)
        } else {
            (1, channels)
        };
        let groups_in = if is_first { 1 } else { self.groups };
        ShuffleUnit {
            reduce: conv_norm(Conv2dConfig::new(channels_in, inner, 1).with_groups(groups_in)),
            depthwise: conv_norm(
                Conv2dConfig::new(inner, inner, 3)
                    .with_stride(stride)
                    .with_groups(inner),
            ),
            expand: conv_norm(Conv2dConfig::new(inner, branch, 1).with_groups(self.groups)),
            se: self.se.map(|se| se.init(branch, device)),
            groups: self.groups,
            halves,
        }
    }
}

impl BackboneFamily for ShufflenetConfig {
    type Network = Shufflenet;

    const PUBLISHED: &'static [Published<Self>] =
        &[Published::imagenet("shufflenet-v1-g3", |se| Self {
            se,
            ..Self::default()
        })];

    fn validate(&self) -> Result<(), BackboneConfigError> {
        check_common(
            self.width_multiplier,
            self.se.as_ref(),
            SeConfig::validate_throughout,
        )?;
        check_counts("groups", [self.groups])?;
        check_counts("stage_channels", [self.stage_channels])
    }

    fn parts(&self) -> Vec<Part> {
        vec![
            Part::new("stem", self.stem_channels(), 2),
            Part::new("pool", self.stem_channels(), 4),
            Part::new("stage2", self.channels_of(0), 8),
            Part::new("stage3", self.channels_of(1), 16),
            Part::new("stage4", self.channels_of(2), 32),
        ]
    }

    fn init(&self, device: &Device) -> Shufflenet {
        let stem = Conv2dConfig::new(3, self.stem_channels(), 3).with_stride(2);
        let mut channels_in = self.stem_channels();
        let mut units = Vec::new();
        for (stage, count) in UNITS.into_iter().enumerate() {
            let channels = self.channels_of(stage);
            for _ in 0..count {
                units.push(self.init_unit(channels_in, channels, units.is_empty(), device));
                channels_in = channels;
            }
        }
        Shufflenet {
            stem: ConvNormConfig::new(stem, self.norm).init(device),
            units,
        }
    }

    fn se_position(&self) -> &'static str {
        "end of each unit's branch"
    }
}

/// Interleaves the channels of all groups of `[batch, channels, height, width]`: channel `k` of
/// group `g` moves to position `k * groups + g`.
fn shuffle(x: Tensor<4>, groups: usize) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    x.reshape([batch, groups, channels / groups, height * width])
        .swap_dims(1, 2)
        .reshape([batch, channels, height, width])
}

/// A unit of the paper's figure 2, b or c.
#[derive(Module, Debug)]
pub struct ShuffleUnit {
    /// Grouped 1x1 to a quarter of the channels.
    pub reduce: ConvNorm,
    /// 3x3, one group per channel, without ReLU.
    pub depthwise: ConvNorm,
    /// Grouped 1x1, without ReLU.
    pub expand: ConvNorm,
    /// The SE unit on its output, in SE networks.
    pub se: Option<SeUnit>,
    /// Groups of the 1x1 convolutions.
    groups: usize,
    /// Whether the unit has stride 2.
    halves: bool,
}

impl ShuffleUnit {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let branch = shuffle(self.reduce.forward(x.clone()), self.groups);
        let branch = self.depthwise.forward_linear(branch);
        let branch = self.expand.forward_linear(branch);
        let branch = match &self.se {
            Some(se) => se.forward(branch),
            None => branch,
        };
        if self.halves {
            // The shortcut has no negative values, so this is the ReLU of the concatenation.
            Tensor::cat(vec![SHORTCUT_POOL.forward(x), relu(branch)], 1)
        } else {
            add_relu(branch, x)
        }
    }

    fn trace<'a>(&'a self, tracer: &mut Tracer<'a>) {
        let input = tracer.current();
        if self.halves {
            tracer.pool("pool", SHORTCUT_POOL);
        }
        let shortcut = tracer.current();
        tracer.resume(input);
        tracer.conv_norm_relu("reduce", &self.reduce);
        tracer.shuffle("shuffle", self.groups);
        tracer.conv_norm("depthwise", &self.depthwise);
        tracer.conv_norm("expand", &self.expand);
        tracer.se(self.se.as_ref());
        if self.halves {
            tracer.last_relu();
            tracer.concat("concat", &[shortcut, tracer.current()]);
        } else {
            tracer.sum("sum", &[tracer.current(), shortcut]);
            tracer.last_relu();
        }
    }
}

/// A ShuffleNet without its classifier. The last feature map has stride 32, sizes rounded up.
#[derive(Module, Debug)]
pub struct Shufflenet {
    /// 3x3 of stride 2; max pooling follows.
    pub stem: ConvNorm,
    /// The units of all three stages.
    pub units: Vec<ShuffleUnit>,
}

/// Returns the indices of the units in a part.
fn units_of(part: usize) -> std::ops::Range<usize> {
    let [first, second, third] = UNITS;
    match part {
        2 => 0..first,
        3 => first..first + second,
        4 => first + second..first + second + third,
        _ => 0..0,
    }
}

impl Backbone for Shufflenet {
    const PARTS: usize = 5;
    const FOLDS: bool = true;

    fn folded(self, precision: ComputePrecision) -> Self {
        let units = self.units.into_iter().map(|unit| ShuffleUnit {
            reduce: unit.reduce.folded(precision),
            depthwise: unit.depthwise.folded(precision),
            expand: unit.expand.folded(precision),
            ..unit
        });
        Self {
            stem: self.stem.folded(precision),
            units: units.collect(),
        }
    }

    fn forward_part(&self, part: usize, x: Tensor<4>) -> Tensor<4> {
        match part {
            0 => self.stem.forward(x),
            1 => STEM_POOL.forward(x),
            _ => self.units[units_of(part)]
                .iter()
                .fold(x, |x, unit| unit.forward(x)),
        }
    }

    fn trace_part<'a>(&'a self, part: usize, tracer: &mut Tracer<'a>) {
        match part {
            0 => tracer.conv_norm_relu("stem", &self.stem),
            1 => tracer.pool("stem.pool", STEM_POOL),
            _ => {
                for index in units_of(part) {
                    tracer.within(format!("units.{index}"), |tracer| {
                        self.units[index].trace(tracer);
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_interleaves_the_groups() {
        let x = Tensor::<1>::from_floats([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], &Device::flex());
        let shuffled = shuffle(x.reshape([1, 6, 1, 1]), 3).into_data();
        let order: Vec<f32> = shuffled.iter().collect();
        assert_eq!(order, [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
    }
}
