//! VGG (Simonyan and Zisserman 2014) with batch norm, with and without SE units.
//!
//! The layout is torchvision's `vgg16_bn`: 3x3 convolutions with biases, each followed by batch
//! norm and ReLU, and 2x2 max pooling after every stage. The classifier's two hidden layers of 4096
//! units belong to the [head](BackboneFamily::head). An SE unit follows the ReLU of each convolution
//! (SENet paper, section 5.1).
//!
//! C2..C5 are the last outputs of each stride: `conv3_3`, `conv4_3` and `conv5_3` before the pooling
//! that follows them (strides 4, 8, 16), and the last pooling (stride 32).

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scaled;
use super::summary::Tracer;
use super::validation::{BackboneConfigError, check_common, check_counts};
use super::zoo::Published;
use super::{Backbone, BackboneFamily, HeadConfig, Part};
use sedet_nn::kernels::bf16::ComputePrecision;
use sedet_nn::nn::conv::Conv2dConfig;
use sedet_nn::nn::conv_norm::{ConvNorm, ConvNormConfig};
use sedet_nn::nn::init::WeightInit;
use sedet_nn::nn::norm::NormConfig;
use sedet_nn::nn::pool::{Pool2d, PoolKind};
use sedet_nn::nn::se::{SeConfig, SeUnit};

/// Output channels of the five stages at width 1.
const STAGE_CHANNELS: [usize; 5] = [64, 128, 256, 512, 512];

/// Units of each of the two hidden layers of the classifier at width 1.
const HIDDEN_UNITS: usize = 4096;

/// The pooling after every stage.
const POOL: Pool2d = Pool2d::new(PoolKind::Max, 2, 2);

/// Configuration of a [`Vgg`]; complete enough to be stored in a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VggConfig {
    /// Convolutions in each of the five stages.
    pub layers: [usize; 5],
    /// Multiplies all channel counts; 1 is the published network.
    #[serde(default = "super::full_width")]
    pub width_multiplier: f64,
    /// The SE unit after every convolution; none in the plain network.
    #[serde(default)]
    pub se: Option<SeConfig>,
    /// Norm layers: trained, or frozen.
    #[serde(default)]
    pub norm: NormConfig,
    /// Number of leading parts that keep their weights: `conv1` with `conv2`, `conv3`, `conv4`,
    /// `conv5`, and the last pooling (which has none).
    #[serde(default, skip_serializing_if = "super::is_zero")]
    #[schemars(!skip_serializing_if)]
    pub frozen_stages: usize,
}

impl VggConfig {
    /// Returns VGG-16 (configuration D of the paper) without SE units, with frozen norms.
    pub fn vgg16() -> Self {
        Self {
            layers: [2, 2, 3, 3, 3],
            width_multiplier: super::full_width(),
            se: None,
            norm: NormConfig::default(),
            frozen_stages: 0,
        }
    }
}

impl BackboneFamily for VggConfig {
    type Network = Vgg;

    const PUBLISHED: &'static [Published<Self>] = &[Published::imagenet("vgg16-bn", |se| Self {
        se,
        ..Self::vgg16()
    })];

    fn validate(&self) -> Result<(), BackboneConfigError> {
        check_common(
            self.width_multiplier,
            self.se.as_ref(),
            SeConfig::validate_throughout,
        )?;
        check_counts("layers", self.layers)
    }

    fn parts(&self) -> Vec<Part> {
        let part = |name, stage: usize, stride| {
            let channels = scaled(STAGE_CHANNELS[stage], self.width_multiplier);
            Part::new(name, channels, stride)
        };
        vec![
            part("conv2", 1, 2),
            part("conv3", 2, 4),
            part("conv4", 3, 8),
            part("conv5", 4, 16),
            part("pool5", 4, 32),
        ]
    }

    fn init(&self, device: &Device) -> Vgg {
        let mut channels_in = 3;
        let stages = STAGE_CHANNELS
            .into_iter()
            .zip(self.layers)
            .map(|(channels, layers)| VggStage {
                layers: (0..layers)
                    .map(|_| {
                        let channels = scaled(channels, self.width_multiplier);
                        let conv = Conv2dConfig::new(channels_in, channels, 3)
                            .with_bias(WeightInit::HeFanOut);
                        channels_in = channels;
                        VggLayer {
                            conv_norm: ConvNormConfig::new(conv, self.norm).init(device),
                            se: self.se.map(|se| se.init(channels, device)),
                        }
                    })
                    .collect(),
            })
            .collect();
        Vgg { stages }
    }

    fn se_position(&self) -> &'static str {
        "after each convolution's ReLU"
    }

    fn head(&self) -> HeadConfig {
        HeadConfig {
            pooled_size: 7,
            hidden: vec![scaled(HIDDEN_UNITS, self.width_multiplier); 2],
            dropout: 0.5,
        }
    }
}

/// A convolution with norm and ReLU, and an SE unit in SE networks.
#[derive(Module, Debug)]
pub struct VggLayer {
    /// 3x3, with a bias as in torchvision.
    pub conv_norm: ConvNorm,
    /// The SE unit, in SE networks.
    pub se: Option<SeUnit>,
}

impl VggLayer {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.conv_norm.forward(x);
        match &self.se {
            Some(se) => se.forward(x),
            None => x,
        }
    }
}

/// Layers of one size.
#[derive(Module, Debug)]
pub struct VggStage {
    /// The layers in order.
    pub layers: Vec<VggLayer>,
}

/// A VGG without its classifier. The last feature map has stride 32, sizes rounded down.
#[derive(Module, Debug)]
pub struct Vgg {
    /// The five stages; max pooling follows each.
    pub stages: Vec<VggStage>,
}

impl Vgg {
    fn forward_stage(&self, stage: usize, x: Tensor<4>) -> Tensor<4> {
        let layers = &self.stages[stage].layers;
        layers.iter().fold(x, |x, layer| layer.forward(x))
    }

    fn trace_stage<'a>(&'a self, stage: usize, tracer: &mut Tracer<'a>) {
        for (index, layer) in self.stages[stage].layers.iter().enumerate() {
            tracer.within(format!("stages.{stage}.layers.{index}"), |tracer| {
                tracer.conv_norm_relu("conv_norm", &layer.conv_norm);
                tracer.se(layer.se.as_ref());
            });
        }
    }
}

impl Backbone for Vgg {
    const PARTS: usize = 5;
    const FOLDS: bool = true;

    fn folded(self, precision: ComputePrecision) -> Self {
        let layer = |layer: VggLayer| VggLayer {
            conv_norm: layer.conv_norm.folded(precision),
            se: layer.se,
        };
        let stages = self.stages.into_iter().map(|stage| VggStage {
            layers: stage.layers.into_iter().map(layer).collect(),
        });
        Self {
            stages: stages.collect(),
        }
    }

    fn forward_part(&self, part: usize, x: Tensor<4>) -> Tensor<4> {
        match part {
            0 => self.forward_stage(1, POOL.forward(self.forward_stage(0, x))),
            4 => POOL.forward(x),
            _ => self.forward_stage(part + 1, POOL.forward(x)),
        }
    }

    fn trace_part<'a>(&'a self, part: usize, tracer: &mut Tracer<'a>) {
        if part == 0 {
            self.trace_stage(0, tracer);
        }
        tracer.pool(format_args!("stages.{part}.pool"), POOL);
        if part < 4 {
            self.trace_stage(part + 1, tracer);
        }
    }
}
