//! Residual networks with full pre-activation for images of 32x32: ResNet-164 (He et al. 2016,
//! "Identity Mappings in Deep Residual Networks") and wide residual networks (Zagoruyko and
//! Komodakis 2016), with and without SE units.
//!
//! A block is norm, ReLU, convolution for each of its convolutions, and a sum without a ReLU after
//! it; the network ends with a norm and a ReLU. Where a block changes the number of channels, its
//! first norm and ReLU serve branch and shortcut, and a strided 1x1 convolution is the shortcut: as
//! in the authors' own code. An SE unit is at the end of the branch, before the sum (SENet paper,
//! section 3.3), which here is after the last convolution.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scaled;
use super::summary::Tracer;
use super::validation::{BackboneConfigError, check_common, check_counts};
use super::zoo::Published;
use super::{Backbone, BackboneFamily, Part};
use sedet_nn::nn::conv::{Conv2d, Conv2dConfig};
use sedet_nn::nn::norm::{Norm, NormConfig, NormKind};
use sedet_nn::nn::se::{SeConfig, SeUnit};

/// The types of branches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PreactBlockKind {
    /// Two 3x3 convolutions, the first of them strided (WRN).
    Basic,
    /// 1x1 reduce, strided as in the authors' code, 3x3, 1x1 expand by 4 (ResNet-164).
    Bottleneck,
}

impl PreactBlockKind {
    /// Returns the ratio of output channels to inner channels.
    pub(crate) const fn expansion(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Bottleneck => 4,
        }
    }
}

/// Configuration of a [`PreactResNet`]; complete enough to be stored in a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PreactResNetConfig {
    /// The type of the branch.
    pub block: PreactBlockKind,
    /// Blocks in each of the three stages.
    pub layers: [usize; 3],
    /// Channels of the stem, and planes of the first stage at `widen` 1; each stage doubles them.
    pub base_channels: usize,
    /// Multiplies the planes of all stages, not the stem: the k of WRN-d-k.
    pub widen: usize,
    /// Multiplies all channel counts, the stem's too; 1 is the published network.
    #[serde(default = "super::full_width")]
    pub width_multiplier: f64,
    /// Dropout probability in training, before each convolution of a branch except the first. The
    /// masks come from the device's random numbers: seed them with
    /// [`Device::seed`](burn::tensor::Device::seed) for a repeatable step.
    #[serde(default)]
    pub dropout: f64,
    /// The SE units of the blocks; none in the plain network.
    #[serde(default)]
    pub se: Option<SeConfig>,
    /// Norm layers: trained, or frozen.
    pub norm: NormConfig,
    /// Number of leading parts that keep their weights: the stem, then stages 1 to 3.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    #[schemars(!skip_serializing_if)]
    pub frozen_stages: usize,
}

impl PreactResNetConfig {
    /// Returns ResNet-164: 18 bottlenecks per stage, 1.7 million parameters.
    pub const fn resnet164() -> Self {
        Self {
            block: PreactBlockKind::Bottleneck,
            layers: [18; 3],
            base_channels: 16,
            widen: 1,
            width_multiplier: super::full_width(),
            dropout: 0.0,
            se: None,
            norm: NormConfig::new(NormKind::Batch),
            frozen_stages: 0,
        }
    }

    /// Returns WRN-16-8: 11.0 million parameters.
    pub(crate) const fn wrn_16_8() -> Self {
        Self::wrn(2, 8)
    }

    /// Returns WRN-28-10: 36.5 million parameters.
    pub(crate) const fn wrn_28_10() -> Self {
        Self::wrn(4, 10)
    }

    /// Returns WRN-d-k with d = 6 `blocks` + 4 and k = `widen`.
    const fn wrn(blocks: usize, widen: usize) -> Self {
        Self {
            block: PreactBlockKind::Basic,
            layers: [blocks; 3],
            widen,
            ..Self::resnet164()
        }
    }

    fn stem_channels(&self) -> usize {
        scaled(self.base_channels, self.width_multiplier)
    }

    fn planes(&self, stage: usize) -> usize {
        let published = (self.base_channels * self.widen) << stage;
        scaled(published, self.width_multiplier)
    }

    fn channels(&self, stage: usize) -> usize {
        self.planes(stage) * self.block.expansion()
    }

    fn init_block(
        &self,
        channels_in: usize,
        stage: usize,
        stride: usize,
        device: &Device,
    ) -> PreactBlock {
        let planes = self.planes(stage);
        let channels_out = self.channels(stage);
        let convs = match self.block {
            PreactBlockKind::Basic => vec![
                Conv2dConfig::new(channels_in, planes, 3).with_stride(stride),
                Conv2dConfig::new(planes, planes, 3),
            ],
            PreactBlockKind::Bottleneck => vec![
                Conv2dConfig::new(channels_in, planes, 1).with_stride(stride),
                Conv2dConfig::new(planes, planes, 3),
                Conv2dConfig::new(planes, channels_out, 1),
            ],
        };
        let projection = Conv2dConfig::new(channels_in, channels_out, 1).with_stride(stride);
        // A published network is not strided without new channels; a very narrow one may be.
        let projects = stride != 1 || channels_in != channels_out;
        PreactBlock {
            norms: convs
                .iter()
                .map(|conv| self.norm.init(conv.channels_in, device))
                .collect(),
            convs: convs.iter().map(|conv| conv.init(device)).collect(),
            se: self
                .se
                .filter(|se| se.stages[stage])
                .map(|se| se.init(channels_out, device)),
            projection: projects.then(|| projection.init(device)),
            dropout: (self.dropout > 0.0).then(|| DropoutConfig::new(self.dropout).init()),
        }
    }
}

impl BackboneFamily for PreactResNetConfig {
    type Network = PreactResNet;

    const PUBLISHED: &'static [Published<Self>] = &[
        Published::cifar10("resnet164", |se| Self {
            se,
            ..Self::resnet164()
        }),
        Published::cifar10("wrn-16-8", |se| Self {
            se,
            ..Self::wrn_16_8()
        }),
        Published::cifar10("wrn-28-10", |se| Self {
            se,
            ..Self::wrn_28_10()
        }),
    ];

    fn validate(&self) -> Result<(), BackboneConfigError> {
        let (width, se) = (self.width_multiplier, self.se.as_ref());
        check_common(width, se, SeConfig::validate_fixed_position)?;
        check_counts("layers", self.layers)?;
        check_counts("base_channels", [self.base_channels])?;
        check_counts("widen", [self.widen])?;
        check_counts("channels of a stage", [self.channels(2)])?;
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(BackboneConfigError::Dropout(self.dropout));
        }
        Ok(())
    }

    fn parts(&self) -> Vec<Part> {
        vec![
            Part::new("stem", self.stem_channels(), 1),
            Part::new("layer1", self.channels(0), 1),
            Part::new("layer2", self.channels(1), 2),
            Part::new("layer3", self.channels(2), 4),
        ]
    }

    fn init(&self, device: &Device) -> PreactResNet {
        let mut channels_in = self.stem_channels();
        let mut stage = |index: usize| {
            (0..self.layers[index])
                .map(|block| {
                    let stride = if index > 0 && block == 0 { 2 } else { 1 };
                    let built = self.init_block(channels_in, index, stride, device);
                    channels_in = self.channels(index);
                    built
                })
                .collect::<Vec<_>>()
        };
        PreactResNet {
            conv1: Conv2dConfig::new(3, self.stem_channels(), 3).init(device),
            layer1: stage(0),
            layer2: stage(1),
            layer3: stage(2),
            norm: self.norm.init(self.channels(2), device),
        }
    }

    fn se_position(&self) -> &'static str {
        "end of each residual branch"
    }
}

/// A residual block with full pre-activation.
#[derive(Module, Debug)]
pub struct PreactBlock {
    /// One norm before each convolution.
    pub norms: Vec<Norm>,
    /// The branch's convolutions in order: two (basic) or three (bottleneck).
    pub convs: Vec<Conv2d>,
    /// The SE unit, in SE networks.
    pub se: Option<SeUnit>,
    /// The shortcut's 1x1 convolution, where the shape changes.
    pub projection: Option<Conv2d>,
    dropout: Option<Dropout>,
}

impl PreactBlock {
    /// Computes `[batch, channels_out, h / stride, w / stride]` from `[batch, channels_in, h, w]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let activated = self.norms[0].forward(x.clone(), None, true);
        let shortcut = match &self.projection {
            Some(projection) => projection.forward(activated.clone()),
            None => x,
        };
        let first = self.convs[0].forward(activated);
        let branch = self
            .convs
            .iter()
            .zip(&self.norms)
            .skip(1)
            .fold(first, |x, (conv, norm)| {
                let x = norm.forward(x, None, true);
                conv.forward(match &self.dropout {
                    Some(dropout) => dropout.forward(x),
                    None => x,
                })
            });
        shortcut
            + match &self.se {
                Some(se) => se.forward(branch),
                None => branch,
            }
    }

    fn trace<'a>(&'a self, tracer: &mut Tracer<'a>) {
        let mut shortcut = tracer.current();
        for (index, (norm, conv)) in self.norms.iter().zip(&self.convs).enumerate() {
            tracer.norm(format_args!("norms.{index}"), norm);
            tracer.relu(format_args!("norms.{index}"));
            if index == 0 && self.projection.is_some() {
                shortcut = tracer.current();
            }
            tracer.conv(format_args!("convs.{index}"), conv);
        }
        tracer.se(self.se.as_ref());
        let branch = tracer.current();
        if let Some(projection) = &self.projection {
            tracer.resume(shortcut);
            tracer.conv("projection", projection);
            shortcut = tracer.current();
        }
        tracer.sum("sum", &[branch, shortcut]);
    }
}

/// A residual network with full pre-activation, without its classifier. The last feature map has
/// stride 4, sizes rounded up.
#[derive(Module, Debug)]
pub struct PreactResNet {
    /// The stem, 3x3; its norm is in the first block.
    pub conv1: Conv2d,
    /// Stage 1, stride 1.
    pub layer1: Vec<PreactBlock>,
    /// Stage 2, stride 2.
    pub layer2: Vec<PreactBlock>,
    /// Stage 3, stride 4.
    pub layer3: Vec<PreactBlock>,
    /// The norm after the last sum.
    pub norm: Norm,
}

impl PreactResNet {
    fn stages(&self) -> [&[PreactBlock]; 3] {
        [&self.layer1, &self.layer2, &self.layer3]
    }
}

impl Backbone for PreactResNet {
    const PARTS: usize = 4;

    fn forward_part(&self, part: usize, x: Tensor<4>) -> Tensor<4> {
        if part == 0 {
            return self.conv1.forward(x);
        }
        let blocks = self.stages()[part - 1].iter();
        let x = blocks.fold(x, |x, block| block.forward(x));
        if part == Self::PARTS - 1 {
            self.norm.forward(x, None, true)
        } else {
            x
        }
    }

    fn trace_part<'a>(&'a self, part: usize, tracer: &mut Tracer<'a>) {
        if part == 0 {
            return tracer.conv("conv1", &self.conv1);
        }
        for (index, block) in self.stages()[part - 1].iter().enumerate() {
            tracer.within(format!("layer{part}.{index}"), |tracer| block.trace(tracer));
        }
        if part == Self::PARTS - 1 {
            tracer.norm("norm", &self.norm);
            tracer.relu("norm");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_configurations_are_refused() {
        let published = PreactResNetConfig::wrn_28_10();
        assert_eq!(published.validate(), Ok(()));
        for dropout in [-0.1, 1.0, f64::NAN] {
            let config = PreactResNetConfig {
                dropout,
                ..published.clone()
            };
            assert!(config.validate().is_err(), "{dropout}");
        }
        let empty = PreactResNetConfig {
            layers: [1, 0, 1],
            ..published.clone()
        };
        let field = "layers";
        let expected = BackboneConfigError::Count { field, count: 0 };
        assert_eq!(empty.validate(), Err(expected));
        let zero = PreactResNetConfig {
            se: Some(SeConfig::new(0)),
            ..published
        };
        assert!(zero.validate().is_err());
    }

    #[test]
    fn a_configuration_is_read_back_as_it_was_written() {
        let config = PreactResNetConfig {
            dropout: 0.3,
            se: Some(SeConfig::default()),
            ..PreactResNetConfig::resnet164()
        };
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(
            serde_json::from_str::<PreactResNetConfig>(&text).unwrap(),
            config
        );
        let without_width = text.replace("\"width_multiplier\":1.0,", "");
        assert_ne!(without_width, text);
        assert_eq!(
            serde_json::from_str::<PreactResNetConfig>(&without_width).unwrap(),
            config
        );
    }
}
