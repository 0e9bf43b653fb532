//! MobileNet v1 (Howard et al. 2017), plain and with SE units.
//!
//! Table 1 of the paper with a width multiplier (its alpha). Convolutions of stride 2 are padded by
//! one pixel on every side, as in ports to PyTorch and Caffe; TensorFlow pads below and to the
//! right only. The last depthwise convolution has stride 1: the stride 2 in the table does not go
//! with the sizes there. An SE unit follows the ReLU of each pointwise convolution.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::scaled;
use super::summary::Tracer;
use super::validation::{BackboneConfigError, check_common};
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

/// Configuration of a [`Mobilenet`]; complete enough to be stored in a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MobilenetConfig {
    /// Multiplies all channel counts; 1 is the published network.
    #[serde(default = "super::full_width")]
    pub width_multiplier: f64,
    /// The SE unit of every block; none makes the plain network.
    #[serde(default)]
    pub se: Option<SeConfig>,
    /// Norm layers, trained or frozen.
    #[serde(default)]
    pub norm: NormConfig,
}

impl Default for MobilenetConfig {
    /// 1.0 MobileNet without SE units, norms frozen.
    fn default() -> Self {
        Self {
            width_multiplier: super::full_width(),
            se: None,
            norm: NormConfig::default(),
        }
    }
}

impl MobilenetConfig {
    /// Check what no type excludes.
    ///
    /// # Errors
    /// See [`BackboneConfigError`].
    pub fn validate(&self) -> Result<(), BackboneConfigError> {
        check_common(
            self.width_multiplier,
            self.se.as_ref(),
            SeConfig::validate_throughout,
        )
    }

    /// Channels of the last map.
    pub fn channels(&self) -> usize {
        let [.., (channels, _)] = BLOCKS;
        scaled(channels, self.width_multiplier)
    }

    /// The network with He-initialized convolutions on a device.
    pub fn init(&self, device: &Device) -> Mobilenet {
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
}

/// A depthwise separable convolution: 3x3 in every channel, then 1x1 over the channels.
#[derive(Module, Debug)]
pub struct SeparableBlock {
    /// 3x3, one group a channel.
    pub depthwise: ConvNorm,
    /// 1x1.
    pub pointwise: ConvNorm,
    /// The SE unit behind it, in SE networks.
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
}

/// A MobileNet without its classifier.
#[derive(Module, Debug)]
pub struct Mobilenet {
    /// 3x3 of stride 2.
    pub stem: ConvNorm,
    /// The 13 blocks.
    pub blocks: Vec<SeparableBlock>,
}

impl Mobilenet {
    /// The network with every norm inside its convolution, for inference.
    pub(super) fn folded(self) -> Self {
        let blocks = self.blocks.into_iter().map(|block| SeparableBlock {
            depthwise: block.depthwise.folded(),
            pointwise: block.pointwise.folded(),
            ..block
        });
        Self {
            stem: self.stem.folded(),
            blocks: blocks.collect(),
        }
    }

    /// Pixels `[batch, 3, height, width]` to `[batch, channels, height / 32, width / 32]`, sizes
    /// rounded up.
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<4> {
        let stem = self.stem.forward(pixels);
        self.blocks.iter().fold(stem, |x, block| block.forward(x))
    }

    pub(super) fn trace(&self, tracer: &mut Tracer) {
        tracer.conv_norm("stem", &self.stem);
        for (index, block) in self.blocks.iter().enumerate() {
            tracer.within(format!("blocks.{index}"), |tracer| {
                tracer.conv_norm("depthwise", &block.depthwise);
                tracer.conv_norm("pointwise", &block.pointwise);
                tracer.se(block.se.as_ref());
            });
        }
    }
}
