//! ResNet (He et al. 2015), ResNeXt (Xie et al. 2016) and their SE forms, by configuration.
//!
//! The layout is torchvision's (stride in the 3x3, padded stem pooling); in the SE forms the unit
//! sits after the last batch norm of the branch, before the sum (SENet paper, section 3.3).

use burn::module::Module;
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::kernels::affine::add_relu;
use crate::nn::conv::{Conv2d, Conv2dConfig};
use crate::nn::norm::{Norm, NormConfig, NormKind};
use crate::nn::se::{SeConfig, SeUnit};

/// The two forms of a residual branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockKind {
    /// Two 3x3 convolutions (ResNet-18, -34).
    Basic,
    /// 1x1 reduce, 3x3, 1x1 expand by 4 (ResNet-50 and deeper).
    Bottleneck,
}

impl BlockKind {
    /// Output channels over inner channels.
    pub const fn expansion(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Bottleneck => 4,
        }
    }
}

/// Which convolution of a bottleneck halves the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StridePlace {
    /// torchvision, timm.
    #[default]
    Conv3x3,
    /// The original Caffe networks: detectron2's `STRIDE_IN_1X1`.
    Conv1x1,
}

/// Configuration of a [`ResNet`]; complete enough to be stored in a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNetConfig {
    /// The form of the residual branch.
    pub block: BlockKind,
    /// Blocks in each of the four stages.
    pub layers: [usize; 4],
    /// The SE unit of every block; none makes the plain network.
    #[serde(default)]
    pub se: Option<SeConfig>,
    /// Groups of the 3x3 in a bottleneck (ResNeXt: 32).
    pub groups: usize,
    /// Inner channels of a bottleneck per 64 planes and group (64 for ResNet, 4 for 32x4d).
    pub width_per_group: usize,
    /// Multiplies all channel counts; 1 is the published network.
    pub width_multiplier: f64,
    /// Where a bottleneck halves the map.
    #[serde(default)]
    pub stride_place: StridePlace,
    /// Norm layers, trained or frozen.
    pub norm: NormConfig,
    /// How many of stem, stage 1, ... stage 4 keep their weights: 2 is detectron2's `FREEZE_AT 2`
    /// and torchvision's `trainable_backbone_layers 3`; 0 trains all.
    pub frozen_stages: usize,
}

impl ResNetConfig {
    /// A plain network of these stages with frozen norms and everything trained.
    pub fn new(block: BlockKind, layers: [usize; 4]) -> Self {
        Self {
            block,
            layers,
            se: None,
            groups: 1,
            width_per_group: 64,
            width_multiplier: 1.0,
            stride_place: StridePlace::default(),
            norm: NormConfig::default(),
            frozen_stages: 0,
        }
    }

    /// Channels of the stem.
    pub fn stem_channels(&self) -> usize {
        self.scaled(64)
    }

    /// Channels of C2, C3, C4, C5.
    pub fn stage_channels(&self) -> [usize; 4] {
        std::array::from_fn(|stage| self.scaled(64 << stage) * self.block.expansion())
    }

    fn scaled(&self, channels: usize) -> usize {
        ((channels as f64 * self.width_multiplier).round() as usize).max(1)
    }

    /// The network with He-initialised convolutions on a device.
    pub fn init(&self, device: &Device) -> ResNet {
        let norm_of = |frozen: bool| NormConfig {
            kind: if frozen {
                NormKind::Frozen
            } else {
                self.norm.kind
            },
            ..self.norm
        };
        let stem = self.stem_channels();
        let mut channels_in = stem;
        let mut stage = |index: usize| {
            let planes = self.scaled(64 << index);
            let norm = norm_of(self.frozen_stages > index + 1);
            (0..self.layers[index])
                .map(|block| {
                    let stride = if index > 0 && block == 0 { 2 } else { 1 };
                    let built = self.init_block(channels_in, planes, stride, norm, device);
                    channels_in = planes * self.block.expansion();
                    built
                })
                .collect::<Vec<_>>()
        };
        let (layer1, layer2, layer3, layer4) = (stage(0), stage(1), stage(2), stage(3));
        let mut network = ResNet {
            conv1: Conv2dConfig {
                padding: 3,
                ..Conv2dConfig::new(3, stem, 7).with_stride(2)
            }
            .init(device),
            bn1: norm_of(self.frozen_stages > 0).init(stem, device),
            layer1,
            layer2,
            layer3,
            layer4,
        };
        if self.frozen_stages > 0 {
            network.conv1 = network.conv1.no_grad();
        }
        for (index, layer) in [
            &mut network.layer1,
            &mut network.layer2,
            &mut network.layer3,
            &mut network.layer4,
        ]
        .into_iter()
        .enumerate()
        {
            if self.frozen_stages > index + 1 {
                *layer = std::mem::take(layer).no_grad();
            }
        }
        network
    }

    fn init_block(
        &self,
        channels_in: usize,
        planes: usize,
        stride: usize,
        norm: NormConfig,
        device: &Device,
    ) -> ResidualBlock {
        let channels_out = planes * self.block.expansion();
        let convs = match self.block {
            BlockKind::Basic => vec![
                Conv2dConfig::new(channels_in, planes, 3).with_stride(stride),
                Conv2dConfig::new(planes, planes, 3),
            ],
            BlockKind::Bottleneck => {
                let inner = planes * self.width_per_group / 64 * self.groups;
                let (stride_1x1, stride_3x3) = match self.stride_place {
                    StridePlace::Conv3x3 => (1, stride),
                    StridePlace::Conv1x1 => (stride, 1),
                };
                vec![
                    Conv2dConfig::new(channels_in, inner, 1).with_stride(stride_1x1),
                    Conv2dConfig::new(inner, inner, 3)
                        .with_stride(stride_3x3)
                        .with_groups(self.groups),
                    Conv2dConfig::new(inner, channels_out, 1),
                ]
            }
        };
        let downsample = (stride != 1 || channels_in != channels_out).then(|| Downsample {
            conv: Conv2dConfig::new(channels_in, channels_out, 1)
                .with_stride(stride)
                .init(device),
            norm: norm.init(channels_out, device),
        });
        ResidualBlock {
            norms: convs
                .iter()
                .map(|conv| norm.init(conv.channels_out, device))
                .collect(),
            convs: convs.iter().map(|conv| conv.init(device)).collect(),
            se: self.se.map(|se| se.init(channels_out, device)),
            downsample,
        }
    }
}

/// The 1x1 convolution on a shortcut whose shape changes.
#[derive(Module, Debug)]
pub struct Downsample {
    /// Strided 1x1.
    pub conv: Conv2d,
    /// Its norm.
    pub norm: Norm,
}

/// One residual unit: `relu(shortcut(x) + se(branch(x)))`.
#[derive(Module, Debug)]
pub struct ResidualBlock {
    /// The branch's convolutions in order: two (basic) or three (bottleneck).
    pub convs: Vec<Conv2d>,
    /// One norm after each.
    pub norms: Vec<Norm>,
    /// The SE unit, in SE networks.
    pub se: Option<SeUnit>,
    /// The shortcut's convolution, where the shape changes.
    pub downsample: Option<Downsample>,
}

impl ResidualBlock {
    /// `[batch, channels_in, h, w]` to `[batch, channels_out, h / stride, w / stride]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let shortcut = match &self.downsample {
            Some(downsample) => {
                let projected = downsample.conv.forward(x.clone());
                downsample.norm.forward(projected, None, false)
            }
            None => x.clone(),
        };
        let last = self.convs.len() - 1;
        let branch = self.convs[..last]
            .iter()
            .zip(&self.norms)
            .fold(x, |x, (conv, norm)| {
                norm.forward(conv.forward(x), None, true)
            });
        let branch = self.convs[last].forward(branch);
        match &self.se {
            None => self.norms[last].forward(branch, Some(shortcut), true),
            Some(se) => {
                let branch = self.norms[last].forward(branch, None, false);
                add_relu(se.forward(branch), shortcut)
            }
        }
    }
}

/// A ResNet without its classifier.
#[derive(Module, Debug)]
pub struct ResNet {
    /// 7x7, stride 2.
    pub conv1: Conv2d,
    /// The stem's norm.
    pub bn1: Norm,
    /// Stage 1, stride 4 (the paper's stage 2).
    pub layer1: Vec<ResidualBlock>,
    /// Stage 2, stride 8.
    pub layer2: Vec<ResidualBlock>,
    /// Stage 3, stride 16.
    pub layer3: Vec<ResidualBlock>,
    /// Stage 4, stride 32.
    pub layer4: Vec<ResidualBlock>,
}

impl ResNet {
    /// Pixels `[batch, 3, height, width]` to C2..C5, each `[batch, channels, h / s, w / s]` with
    /// s = 4, 8, 16, 32.
    pub fn forward(&self, pixels: Tensor<4>) -> [Tensor<4>; 4] {
        let stem = self.bn1.forward(self.conv1.forward(pixels), None, true);
        let pooled = max_pool2d(
            stem,
            MaxPoolOptions::new([3, 3])
                .with_stride([2, 2])
                .with_padding([1, 1]),
        );
        let stage = |layer: &[ResidualBlock], x: Tensor<4>| {
            layer.iter().fold(x, |x, block| block.forward(x))
        };
        let c2 = stage(&self.layer1, pooled);
        let c3 = stage(&self.layer2, c2.clone());
        let c4 = stage(&self.layer3, c3.clone());
        let c5 = stage(&self.layer4, c4.clone());
        [c2, c3, c4, c5]
    }
}
