//! VGG (Simonyan and Zisserman 2014) with batch norm, plain and with SE units.
//!
//! The layout is torchvision's `vgg16_bn`: 3x3 convolutions with biases, each followed by batch
//! norm and ReLU, and 2x2 max pooling after every stage. The classifier's two hidden layers of 4096
//! units belong to the head; see [`BackboneConfig::head`](super::BackboneConfig::head). An SE unit
//! follows the non-linearity of each convolution (SENet paper, section 5.1).

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::scaled;
use super::summary::Tracer;
use super::validation::{BackboneConfigError, check_common, check_counts};
use sedet_nn::nn::conv::Conv2dConfig;
use sedet_nn::nn::conv_norm::{ConvNorm, ConvNormConfig};
use sedet_nn::nn::init::WeightInit;
use sedet_nn::nn::norm::NormConfig;
use sedet_nn::nn::pool::{Pool2d, PoolKind};
use sedet_nn::nn::se::{SeConfig, SeUnit};

/// Output channels of the five stages at width 1.
const STAGE_CHANNELS: [usize; 5] = [64, 128, 256, 512, 512];

/// Units of each of the two hidden layers before the classes at width 1.
const HIDDEN_UNITS: usize = 4096;

/// After every stage.
const POOL: Pool2d = Pool2d::new(PoolKind::Max, 2, 2);

/// Configuration of a [`Vgg`]; complete enough to be stored in a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VggConfig {
    /// Convolutions in each of the five stages.
    pub layers: [usize; 5],
    /// Multiplies all channel counts; 1 is the published network.
    #[serde(default = "super::full_width")]
    pub width_multiplier: f64,
    /// The SE unit after every convolution; none makes the plain network.
    #[serde(default)]
    pub se: Option<SeConfig>,
    /// Norm layers, trained or frozen.
    #[serde(default)]
    pub norm: NormConfig,
}

impl VggConfig {
    /// Check what no type excludes.
    ///
    /// # Errors
    /// See [`BackboneConfigError`].
    pub fn validate(&self) -> Result<(), BackboneConfigError> {
        check_common(
            self.width_multiplier,
            self.se.as_ref(),
            SeConfig::validate_throughout,
        )?;
        check_counts("layers", self.layers)
    }

    /// VGG-16 (configuration D of the paper) without SE units, norms frozen.
    pub fn vgg16() -> Self {
        Self {
            layers: [2, 2, 3, 3, 3],
            width_multiplier: super::full_width(),
            se: None,
            norm: NormConfig::default(),
        }
    }

    /// Channels of the last map.
    pub fn channels(&self) -> usize {
        scaled(STAGE_CHANNELS[4], self.width_multiplier)
    }

    /// Units of the classifier's two hidden layers.
    pub fn hidden_units(&self) -> usize {
        scaled(HIDDEN_UNITS, self.width_multiplier)
    }

    /// The network with He-initialized convolutions on a device.
    pub fn init(&self, device: &Device) -> Vgg {
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
}

/// A convolution with norm and ReLU, and in SE networks its unit.
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

/// A VGG without its classifier.
#[derive(Module, Debug)]
pub struct Vgg {
    /// The five stages; each halves the map at its end.
    pub stages: Vec<VggStage>,
}

impl Vgg {
    /// The network with every norm inside its convolution, for inference.
    pub(super) fn folded(self) -> Self {
        let layer = |layer: VggLayer| VggLayer {
            conv_norm: layer.conv_norm.folded(),
            se: layer.se,
        };
        let stages = self.stages.into_iter().map(|stage| VggStage {
            layers: stage.layers.into_iter().map(layer).collect(),
        });
        Self {
            stages: stages.collect(),
        }
    }

    /// Pixels `[batch, 3, height, width]` to `[batch, channels, height / 32, width / 32]`, sizes
    /// rounded down.
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<4> {
        self.stages.iter().fold(pixels, |x, stage| {
            let x = stage.layers.iter().fold(x, |x, layer| layer.forward(x));
            POOL.forward(x)
        })
    }

    pub(super) fn trace(&self, tracer: &mut Tracer) {
        for (index, stage) in self.stages.iter().enumerate() {
            tracer.within(format!("stages.{index}"), |tracer| {
                for (index, layer) in stage.layers.iter().enumerate() {
                    tracer.within(format!("layers.{index}"), |tracer| {
                        tracer.conv_norm("conv_norm", &layer.conv_norm);
                        tracer.se(layer.se.as_ref());
                    });
                }
                tracer.pool("pool", POOL);
            });
        }
    }
}
