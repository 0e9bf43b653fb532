//! MobileNet v1 (Howard et al. 2017), with and without SE units.
//!
//! Table 1 of the paper with a width multiplier (its alpha). Convolutions of stride 2 are padded by
//! one pixel on every side, as in the ports to PyTorch and Caffe; TensorFlow pads at the bottom and
//! the right only. The last depthwise convolution has stride 1: the stride 2 in the table contradicts
//! the sizes given there. An SE unit follows the ReLU of each pointwise convolution.
//!
//! C2..C5 are the last outputs of each stride: `Conv2d_3`, `_5`, `_11` and `_13` in the names of
//! TensorFlow's object detection API, which builds its MobileNet-v1 FPN on the same layers.

use std::ops::Range;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scaled;
use super::summary::Tracer;
use super::validation::{BackboneConfigError, check_common};
use super::zoo::Published;
use super::{Backbone, BackboneFamily, Part};
use sedet_nn::kernels::bf16::ComputePrecision;
use sedet_nn::nn::conv::Conv2dConfig;
use sedet_nn::nn::conv_norm::{ConvNorm, ConvNormConfig};
use sedet_nn::nn::norm::NormConfig;
use sedet_nn::nn::se::{SeConfig, SeUnit};

/// Channels of the first convolution at width 1.
const STEM_CHANNELS: usize = 32;

/// Output channels at width 1 and stride of each block.
const BLOCKS: [(usize, usize); 13] = [
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
];

/// Name, output stride and blocks of each part; the first also has the stem.
const PARTS: [(&str, usize, Range<usize>); 5] = [
    ("stem", 2, 0..1),
    ("stage1", 4, 1..3),
    ("stage2", 8, 3..5),
    ("stage3", 16, 5..11),
    ("stage4", 32, 11..13),
];

/// Configuration of a [`Mobilenet`]; complete enough to be stored in a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MobilenetConfig {
    /// Multiplies all channel counts; 1 is the published network.
    #[serde(default = "super::full_width")]
    pub width_multiplier: f64,
    /// The SE unit of every block; none in the plain network.
    #[serde(default)]
    pub se: Option<SeConfig>,
    /// Norm layers: trained, or frozen.
    #[serde(default)]
    pub norm: NormConfig,
    /// Number of leading parts that keep their weights: the stem with the first block, then the
    /// stages of strides 4 to 32.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    #[schemars(!skip_serializing_if)]
    pub frozen_stages: usize,
}

impl Default for MobilenetConfig {
    /// Returns MobileNet at width 1.0 without SE units, with frozen norms.
    fn default() -> Self {
        Self {
            width_multiplier: super::full_width(),
            se: None,
            norm: NormConfig::default(),
            frozen_stages: 0,
        }
    }
}

impl BackboneFamily for MobilenetConfig {
    type Network = Mobilenet;

    const PUBLISHED: &'static [Published<Self>] =
        &[Published::imagenet("mobilenet-v1", |se| Self {
            se,
            ..Self::default()
        })];

    fn validate(&self) -> Result<(), BackboneConfigError> {
        check_common(
            self.width_multiplier,
            self.se.as_ref(),
            SeConfig::validate_throughout,
        )
    }

    fn parts(&self) -> Vec<Part> {
        let part = |(name, stride, blocks): (_, _, Range<usize>)| {
            let (channels, _) = BLOCKS[blocks.end - 1];
            Part::new(name, scaled(channels, self.width_multiplier), stride)
        };
        PARTS.map(part).into()
    }

    fn init(&self, device: &Device) -> Mobilenet {
        let conv_norm = |conv| ConvNormConfig::new(conv, self.norm).init(device);
        let mut channels_in = scaled(STEM_CHANNELS, self.width_multiplier);
        Mobilenet {
            stem: conv_norm(Conv2dConfig::new(3, channels_in, 3).with_stride(2)),
            blocks: BLOCKS
                .into_iter()
                .map(|(channels, stride)| {
                    let channels = scaled(channels, self.width_multiplier);
                    let depthwise = Conv2dConfig::new(channels_in, channels_in, 3)
                        .with_stride(stride)
                        .with_groups(channels_in);
                    let pointwise = Conv2dConfig::new(channels_in, channels, 1);
                    channels_in = channels;
                    SeparableBlock {
                        depthwise: conv_norm(depthwise),
                        pointwise: conv_norm(pointwise),
                        se: self.se.map(|se| se.init(channels, device)),
                    }
                })
                .collect(),
        }
    }

    fn se_position(&self) -> &'static str {
        "after each pointwise convolution's ReLU"
    }
}

/// A depthwise separable convolution: 3x3 in every channel, then 1x1 over the channels.
#[derive(Module, Debug)]
pub struct SeparableBlock {
    /// 3x3, one group per channel.
    pub depthwise: ConvNorm,
    /// 1x1.
    pub pointwise: ConvNorm,
    /// The SE unit on its output, in SE networks.
    pub se: Option<SeUnit>,
}

impl SeparableBlock {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.pointwise.forward(self.depthwise.forward(x));
        match &self.se {
            Some(se) => se.forward(x),
            None => x,
        }
    }

    fn trace<'a>(&'a self, tracer: &mut Tracer<'a>) {
        tracer.conv_norm_relu("depthwise", &self.depthwise);
        tracer.conv_norm_relu("pointwise", &self.pointwise);
        tracer.se(self.se.as_ref());
    }
}

/// A MobileNet without its classifier. The last feature map has stride 32, sizes rounded up.
#[derive(Module, Debug)]
pub struct Mobilenet {
    /// 3x3 of stride 2.
    pub stem: ConvNorm,
    /// The 13 blocks.
    pub blocks: Vec<SeparableBlock>,
}

/// Returns the indices of the blocks in a part.
fn blocks_of(part: usize) -> Range<usize> {
    let (.., blocks) = &PARTS[part];
    blocks.clone()
}

impl Backbone for Mobilenet {
    const PARTS: usize = PARTS.len();
    const FOLDS: bool = true;

    fn folded(self, precision: ComputePrecision) -> Self {
        let blocks = self.blocks.into_iter().map(|block| SeparableBlock {
            depthwise: block.depthwise.folded(precision),
            pointwise: block.pointwise.folded(precision),
            ..block
        });
        Self {
            stem: self.stem.folded(precision),
            blocks: blocks.collect(),
        }
    }

    fn forward_part(&self, part: usize, x: Tensor<4>) -> Tensor<4> {
        let x = match part {
            0 => self.stem.forward(x),
            _ => x,
        };
        self.blocks[blocks_of(part)]
            .iter()
            .fold(x, |x, block| block.forward(x))
    }

    fn trace_part<'a>(&'a self, part: usize, tracer: &mut Tracer<'a>) {
        if part == 0 {
            tracer.conv_norm_relu("stem", &self.stem);
        }
        for index in blocks_of(part) {
            tracer.within(format!("blocks.{index}"), |tracer| {
                self.blocks[index].trace(tracer);
            });
        }
    }
}
