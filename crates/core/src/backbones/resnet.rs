//! ResNet (He et al. 2015), ResNeXt (Xie et al. 2016) and their SE variants, by configuration.
//!
//! The layout is torchvision's (stride in the 3x3, padded stem pooling); in the SE variants the unit
//! is after the last batch norm of the branch, before the sum (SENet paper, section 3.3), or where
//! [`SeConfig`] puts it (section 6). Differences of other frameworks (stem, shortcut, position of the
//! stride) are options, so that imported weights give the same outputs as in their framework.
//!
//! C2..C5 are the outputs of the four stages, as in the FPN paper.

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
use sedet_nn::nn::conv::{Conv2d, Conv2dConfig};
use sedet_nn::nn::conv_norm::{fold, fold_all, forward_normed};
use sedet_nn::nn::norm::{Norm, NormConfig, NormKind};
use sedet_nn::nn::pool::{Pool2d, PoolKind, Rounding};
use sedet_nn::nn::se::{SeConfig, SePosition, SeUnit};

/// The types of residual branches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BlockKind {
    /// Two 3x3 convolutions (ResNet-18, -34).
    Basic,
    /// 1x1 reduce, 3x3, 1x1 expand by 4 (ResNet-50 and deeper).
    Bottleneck,
    /// 1x1 to twice the planes, grouped 3x3 to four times, 1x1 (SENet-154).
    WideBottleneck,
}

impl BlockKind {
    /// Returns the ratio of output channels to inner channels.
    pub(crate) const fn expansion(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Bottleneck | Self::WideBottleneck => 4,
        }
    }
}

/// The convolution of a bottleneck that has the stride.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StridePlace {
    /// torchvision, timm.
    #[default]
    Conv3x3,
    /// The original Caffe networks: detectron2's `STRIDE_IN_1X1`.
    Conv1x1,
}

/// The layers before the first stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Stem {
    /// A 7x7 convolution of stride 2, then pooling.
    #[default]
    Conv7x7,
    /// Three 3x3 convolutions, the first of stride 2, then pooling.
    Deep {
        /// Output channels of each at width 1: 64, 64, 128 in SENet-154; 32, 32, 64 in ResNet-D.
        channels: [usize; 3],
    },
    /// One 3x3 convolution and no pooling: for images of 32x32 (He et al., section 4.2).
    Cifar,
}

/// The stem's 3x3 max pooling of stride 2. For even inputs the outputs have the same size and differ by
/// a shift of one pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StemPooling {
    /// Padded by one pixel: torchvision, timm.
    #[default]
    Padded,
    /// Unpadded, the size rounded up: Caffe, Cadene, timm's `legacy_`.
    CeilMode,
    /// A 3x3 convolution of stride 2 with norm and ReLU in place of the pooling (ResNet-RS, Bello et al.
    /// 2021).
    #[serde(rename = "conv3x3")]
    Conv3x3,
}

/// The pooling that subsamples feature maps in an anti-aliased network (Zhang 2019), in place of strides
/// of the convolutions and of the stem's max pooling. It has no parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AntiAlias {
    /// 2x2 average pooling: timm's `resnetaa`.
    AveragePool,
    /// Blur pooling with the filter `[1, 2, 1] / 4`: timm's `resnetblur`.
    BlurPool,
}

impl AntiAlias {
    /// Returns the pooling after the convolution of a branch that would have the stride. Odd sizes are
    /// rounded up, as by the stride.
    const fn layer(self) -> Pool2d {
        match self {
            Self::AveragePool => {
                Pool2d::new(PoolKind::AverageInside, 2, 2).with_rounding(Rounding::Up)
            }
            Self::BlurPool => Pool2d::blur(),
        }
    }

    /// Returns the layers of the stem in place of max pooling of stride 2. Average pooling rounds odd
    /// sizes down here, as in timm.
    fn stem_layers(self) -> Vec<Pool2d> {
        match self {
            Self::AveragePool => vec![Pool2d::new(PoolKind::AverageInside, 2, 2)],
            Self::BlurPool => vec![
                Pool2d::new(PoolKind::Max, 3, 1).with_padding(1),
                Pool2d::blur(),
            ],
        }
    }
}

/// The operation of a shortcut whose shape changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shortcut {
    /// A strided 1x1 convolution (option B of He et al.).
    #[default]
    Conv1x1,
    /// A 3x3 convolution where the size changes, else 1x1 (SENet-154).
    Conv3x3,
    /// 2x2 average pooling, then a 1x1 convolution (ResNet-D).
    AveragePool,
    /// Every second pixel, with zeros for half of the new channels on either side (option A of
    /// He et al.). No parameters.
    ZeroPad,
}

/// Configuration of a [`ResNet`]; complete enough to be stored in a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResNetConfig {
    /// The type of the residual branch.
    pub block: BlockKind,
    /// Blocks in each of the four stages. A stage without blocks passes its input on: CIFAR networks
    /// have three stages.
    pub layers: [usize; 4],
    /// Planes of the first stage at width 1; each stage doubles them.
    #[serde(default = "default_base_channels")]
    pub base_channels: usize,
    /// The layers before the first stage.
    #[serde(default)]
    pub stem: Stem,
    /// The stem's pooling.
    #[serde(default)]
    pub stem_pooling: StemPooling,
    /// The pooling of an anti-aliased network; none subsamples by strides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub anti_alias: Option<AntiAlias>,
    /// The operation of shortcuts whose shape changes.
    #[serde(default)]
    pub shortcut: Shortcut,
    /// The SE units of the blocks; none in the plain network.
    #[serde(default)]
    pub se: Option<SeConfig>,
    /// Groups of the 3x3 in a bottleneck (ResNeXt: 32).
    pub groups: usize,
    /// Inner channels of a bottleneck per 64 planes and group (64 for ResNet, 4 for 32x4d).
    pub width_per_group: usize,
    /// Multiplies all channel counts; 1 is the published network.
    pub width_multiplier: f64,
    /// The convolution of a bottleneck that has the stride.
    #[serde(default)]
    pub stride_place: StridePlace,
    /// Norm layers: trained, or frozen.
    pub norm: NormConfig,
    /// Number of leading parts that keep their weights, in the order stem, stage 1, ... stage 4: 2 is
    /// detectron2's `FREEZE_AT 2` and torchvision's `trainable_backbone_layers 3`; 0 trains all.
    pub frozen_stages: usize,
}

fn default_base_channels() -> usize {
    64
}

impl ResNetConfig {
    /// Returns a plain network of these stages with frozen norms and no frozen parts.
    pub fn new(block: BlockKind, layers: [usize; 4]) -> Self {
        Self {
            block,
            layers,
            base_channels: default_base_channels(),
            stem: Stem::default(),
            stem_pooling: StemPooling::default(),
            anti_alias: None,
            shortcut: Shortcut::default(),
            se: None,
            groups: 1,
            width_per_group: 64,
            width_multiplier: 1.0,
            stride_place: StridePlace::default(),
            norm: NormConfig::default(),
            frozen_stages: 0,
        }
    }

    /// Returns He et al.'s network for images of 32x32 (section 4.2): three stages of `blocks` basic
    /// blocks with 16, 32 and 64 channels, shortcuts without weights, trained norms. 3, 5, 7, 9 and 18
    /// blocks per stage give ResNet-20, -32, -44, -56 and -110.
    pub fn cifar(blocks: usize) -> Self {
        Self {
            base_channels: 16,
            stem: Stem::Cifar,
            shortcut: Shortcut::ZeroPad,
            norm: NormConfig::new(NormKind::Batch),
            ..Self::new(BlockKind::Basic, [blocks, blocks, blocks, 0])
        }
    }

    /// Returns the channels of the stem.
    pub fn stem_channels(&self) -> usize {
        match self.stem {
            Stem::Conv7x7 | Stem::Cifar => self.scaled(self.base_channels),
            Stem::Deep { channels } => self.scaled(channels[2]),
        }
    }

    /// Returns the channels of C2, C3, C4 and C5.
    pub(crate) fn stage_channels(&self) -> [usize; 4] {
        let mut channels = self.stem_channels();
        std::array::from_fn(|stage| {
            if self.layers[stage] > 0 {
                channels = self.planes(stage) * self.block.expansion();
            }
            channels
        })
    }

    fn planes(&self, stage: usize) -> usize {
        self.scaled(self.base_channels << stage)
    }

    /// Returns the input channels of the grouped convolution in a block with this number of planes, or
    /// none if it has no such convolution.
    fn grouped_channels(&self, planes: usize) -> Option<usize> {
        match self.block {
            BlockKind::Basic => None,
            BlockKind::Bottleneck => Some(self.inner_channels(planes)),
            BlockKind::WideBottleneck => Some(2 * planes),
        }
    }

    /// Returns the channels of the 3x3 in a bottleneck with this number of planes.
    fn inner_channels(&self, planes: usize) -> usize {
        planes * self.width_per_group / 64 * self.groups
    }

    fn scaled(&self, channels: usize) -> usize {
        scaled(channels, self.width_multiplier)
    }

    /// Returns the pooling layers of the stem.
    fn stem_pools(&self) -> Vec<Pool2d> {
        let max = Pool2d::new(PoolKind::Max, 3, 2);
        match (self.stem, self.anti_alias, self.stem_pooling) {
            (Stem::Cifar, ..) | (_, _, StemPooling::Conv3x3) => Vec::new(),
            (_, Some(anti_alias), _) => anti_alias.stem_layers(),
            (_, None, StemPooling::Padded) => vec![max.with_padding(1)],
            (_, None, StemPooling::CeilMode) => vec![max.with_rounding(Rounding::Up)],
        }
    }

    /// Returns the position of the branch's convolution that subsamples.
    const fn strided_conv(&self) -> usize {
        match (self.block, self.stride_place) {
            (BlockKind::Basic, _) | (BlockKind::Bottleneck, StridePlace::Conv1x1) => 0,
            (BlockKind::Bottleneck, StridePlace::Conv3x3) | (BlockKind::WideBottleneck, _) => 1,
        }
    }

    fn init_block(
        &self,
        channels_in: usize,
        planes: usize,
        stride: usize,
        se: Option<SeConfig>,
        device: &Device,
    ) -> ResidualBlock {
        let channels_out = planes * self.block.expansion();
        let mut convs = match self.block {
            BlockKind::Basic => vec![
                Conv2dConfig::new(channels_in, planes, 3),
                Conv2dConfig::new(planes, planes, 3),
            ],
            BlockKind::Bottleneck => {
                let inner = self.inner_channels(planes);
                vec![
                    Conv2dConfig::new(channels_in, inner, 1),
                    Conv2dConfig::new(inner, inner, 3).with_groups(self.groups),
                    Conv2dConfig::new(inner, channels_out, 1),
                ]
            }
            BlockKind::WideBottleneck => vec![
                Conv2dConfig::new(channels_in, 2 * planes, 1),
                Conv2dConfig::new(2 * planes, channels_out, 3).with_groups(self.groups),
                Conv2dConfig::new(channels_out, channels_out, 1),
            ],
        };
        let strided = self.strided_conv();
        let anti_alias = self.anti_alias.filter(|_| stride != 1);
        if anti_alias.is_none() {
            convs[strided] = convs[strided].with_stride(stride);
        }
        let changes = stride != 1 || channels_in != channels_out;
        let (kernel, conv_stride) = match self.shortcut {
            Shortcut::Conv3x3 if stride != 1 => (3, stride),
            Shortcut::AveragePool => (1, 1),
            _ => (1, stride),
        };
        let projects = changes && self.shortcut != Shortcut::ZeroPad;
        let downsample = projects.then(|| Downsample {
            conv: Conv2dConfig::new(channels_in, channels_out, kernel)
                .with_stride(conv_stride)
                .init(device),
            norm: self.norm.init(channels_out, device),
        });
        ResidualBlock {
            branch_pool: anti_alias.map(|kind| BranchPool {
                after: strided,
                layer: kind.layer(),
            }),
            shortcut: Reshape {
                pool: changes && stride != 1 && self.shortcut == Shortcut::AveragePool,
                stride: if projects { 1 } else { stride },
                new_channels: if projects {
                    0
                } else {
                    channels_out - channels_in
                },
            },
            norms: convs
                .iter()
                .map(|conv| self.norm.init(conv.channels_out, device))
                .collect(),
            convs: convs.iter().map(|conv| conv.init(device)).collect(),
            se: se.map(|se| {
                let channels = match se.position {
                    SePosition::Pre => channels_in,
                    SePosition::Conv3x3 => convs[convs.len() - 2].channels_out,
                    SePosition::Standard | SePosition::Post | SePosition::Identity => channels_out,
                };
                se.init(channels, device)
            }),
            downsample,
        }
    }
}

/// Returns ResNeXt with 32 groups of 4 channels.
fn resnext(layers: [usize; 4], se: Option<SeConfig>) -> ResNetConfig {
    ResNetConfig {
        groups: 32,
        width_per_group: 4,
        ..residual(BlockKind::Bottleneck, layers, se)
    }
}

fn residual(block: BlockKind, layers: [usize; 4], se: Option<SeConfig>) -> ResNetConfig {
    ResNetConfig {
        se,
        ..ResNetConfig::new(block, layers)
    }
}

fn cifar(blocks: usize, se: Option<SeConfig>) -> ResNetConfig {
    ResNetConfig {
        se,
        ..ResNetConfig::cifar(blocks)
    }
}

/// Returns SENet-154 (appendix of the SENet paper), with Caffe's stem pooling as its weights need.
fn senet154(se: Option<SeConfig>) -> ResNetConfig {
    ResNetConfig {
        groups: 64,
        stem: Stem::Deep {
            channels: [64, 64, 128],
        },
        stem_pooling: StemPooling::CeilMode,
        shortcut: Shortcut::Conv3x3,
        ..residual(BlockKind::WideBottleneck, [3, 8, 36, 3], se)
    }
}

impl BackboneFamily for ResNetConfig {
    type Network = ResNet;

    const PUBLISHED: &'static [Published<Self>] = &[
        Published::imagenet("resnet18", |se| {
            residual(BlockKind::Basic, [2, 2, 2, 2], se)
        }),
        Published::imagenet("resnet34", |se| {
            residual(BlockKind::Basic, [3, 4, 6, 3], se)
        }),
        Published::imagenet("resnet50", |se| {
            residual(BlockKind::Bottleneck, [3, 4, 6, 3], se)
        }),
        Published::imagenet("resnet101", |se| {
            residual(BlockKind::Bottleneck, [3, 4, 23, 3], se)
        }),
        Published::imagenet("resnet152", |se| {
            residual(BlockKind::Bottleneck, [3, 8, 36, 3], se)
        }),
        Published::imagenet("resnext50-32x4d", |se| resnext([3, 4, 6, 3], se)),
        Published::imagenet("resnext101-32x4d", |se| resnext([3, 4, 23, 3], se)),
        Published::imagenet("senet154", senet154).always_se(),
        Published::cifar10("resnet20", |se| cifar(3, se)),
        Published::cifar10("resnet32", |se| cifar(5, se)),
        Published::cifar10("resnet44", |se| cifar(7, se)),
        Published::cifar10("resnet56", |se| cifar(9, se)),
        Published::cifar10("resnet110", |se| cifar(18, se)),
        // ResNet-152 with another number of classes.
        Published::places365("resnet152-places365", |se| {
            residual(BlockKind::Bottleneck, [3, 8, 36, 3], se)
        }),
    ];

    const WEIGHT_DETAILS: &'static [&'static str] = &[
        "base_channels",
        "stem",
        "stem_pooling",
        "anti_alias",
        "shortcut",
        "stride_place",
    ];

    fn validate(&self) -> Result<(), BackboneConfigError> {
        check_common(self.width_multiplier, self.se.as_ref(), SeConfig::validate)?;
        check_counts("base_channels", [self.base_channels])?;
        check_counts("groups", [self.groups])?;
        check_counts("width_per_group", [self.width_per_group])?;
        // A stage may have no blocks, but not all of them.
        check_counts(
            "layers",
            [self.layers.into_iter().fold(0, usize::saturating_add)],
        )?;
        if let Stem::Deep { channels } = self.stem {
            check_counts("stem.channels", channels)?;
        }
        if self.anti_alias.is_some() && self.stem_pooling != StemPooling::Padded {
            return Err(BackboneConfigError::StemPooling(
                "an anti-aliased network needs 'padded'",
            ));
        }
        if self.stem_pooling == StemPooling::Conv3x3 && self.stem == Stem::Cifar {
            return Err(BackboneConfigError::StemPooling(
                "'conv3x3' replaces the pooling of a stem, and the stem 'cifar' has none",
            ));
        }
        check_counts("channels of a stage", self.stage_channels())?;
        let groups = self.groups;
        for stage in 0..self.layers.len() {
            if let Some(channels) = self.grouped_channels(self.planes(stage)) {
                if channels == 0 || channels % groups != 0 {
                    return Err(BackboneConfigError::Groups { groups, channels });
                }
                check_counts("inner channels of a block", [channels])?;
            }
        }
        if self.shortcut == Shortcut::ZeroPad {
            let mut from = self.stem_channels();
            for to in self.stage_channels() {
                if to < from {
                    return Err(BackboneConfigError::ZeroPad { from, to });
                }
                from = to;
            }
        }
        Ok(())
    }

    fn parts(&self) -> Vec<Part> {
        let mut stride = match self.stem {
            Stem::Cifar => 1,
            Stem::Conv7x7 | Stem::Deep { .. } => 4,
        };
        let mut parts = vec![Part::new("stem", self.stem_channels(), stride)];
        let names = ["layer1", "layer2", "layer3", "layer4"];
        for (stage, (name, channels)) in names.into_iter().zip(self.stage_channels()).enumerate() {
            if stage > 0 && self.layers[stage] > 0 {
                stride *= 2;
            }
            parts.push(Part::new(name, channels, stride));
        }
        parts
    }

    fn init(&self, device: &Device) -> ResNet {
        let mut channels_in = self.stem_channels();
        let mut stage = |index: usize| {
            let planes = self.planes(index);
            let se = self.se.filter(|se| se.stages[index]);
            (0..self.layers[index])
                .map(|block| {
                    let stride = if index > 0 && block == 0 { 2 } else { 1 };
                    let built = self.init_block(channels_in, planes, stride, se, device);
                    channels_in = planes * self.block.expansion();
                    built
                })
                .collect::<Vec<_>>()
        };
        let (layer1, layer2, layer3, layer4) = (stage(0), stage(1), stage(2), stage(3));
        let mut stem: Vec<Conv2dConfig> = match self.stem {
            Stem::Conv7x7 => vec![Conv2dConfig::new(3, self.stem_channels(), 7).with_stride(2)],
            Stem::Cifar => vec![Conv2dConfig::new(3, self.stem_channels(), 3)],
            Stem::Deep { channels } => {
                let [a, b, c] = channels.map(|channels| self.scaled(channels));
                vec![
                    Conv2dConfig::new(3, a, 3).with_stride(2),
                    Conv2dConfig::new(a, b, 3),
                    Conv2dConfig::new(b, c, 3),
                ]
            }
        };
        if self.stem_pooling == StemPooling::Conv3x3 {
            let channels = self.stem_channels();
            stem.push(Conv2dConfig::new(channels, channels, 3).with_stride(2));
        }
        ResNet {
            conv1: stem[0].init(device),
            bn1: self.norm.init(stem[0].channels_out, device),
            stem_convs: stem[1..].iter().map(|conv| conv.init(device)).collect(),
            stem_norms: stem[1..]
                .iter()
                .map(|conv| self.norm.init(conv.channels_out, device))
                .collect(),
            pools: self.stem_pools(),
            layer1,
            layer2,
            layer3,
            layer4,
        }
    }

    fn se_position(&self) -> &'static str {
        let Some(se) = self.se else {
            return "none";
        };
        match (se.position, self.block) {
            (SePosition::Standard, _) if se.after_relu => {
                "end of each residual branch after a ReLU"
            }
            (SePosition::Standard, _) => "end of each residual branch",
            (SePosition::Pre, _) => "start of each residual branch",
            (SePosition::Post, _) => "after the ReLU of each block's sum",
            (SePosition::Identity, _) => "end of each shortcut",
            (SePosition::Conv3x3, BlockKind::Basic) => {
                "between the two convolutions of each residual branch"
            }
            (SePosition::Conv3x3, _) => "after the 3x3 convolution of each residual branch",
        }
    }

    /// SENet-154 has dropout of 0.2 (appendix of the SENet paper), the other networks have none.
    fn head(&self) -> HeadConfig {
        let dropout = match self.block {
            BlockKind::WideBottleneck => 0.2,
            BlockKind::Basic | BlockKind::Bottleneck => 0.0,
        };
        HeadConfig {
            dropout,
            ..HeadConfig::default()
        }
    }
}

/// The convolution on a shortcut whose shape changes.
#[derive(Module, Debug)]
pub struct Downsample {
    /// Strided, mostly 1x1.
    pub conv: Conv2d,
    /// Its norm.
    pub norm: Norm,
}

/// The operations of a shortcut that have no weights.
#[derive(Debug, Clone, Copy)]
pub struct Reshape {
    /// 2x2 average pooling first; see [`Reshape::pooling`].
    pool: bool,
    /// Stride of the subsampling.
    pub stride: usize,
    /// Zero channels to add.
    new_channels: usize,
}

impl Reshape {
    /// Returns the average pooling that comes first, if any. It is timm's: windows at the lower and
    /// right border average the pixels inside the feature map.
    fn pooling(self) -> Option<Pool2d> {
        let pool = || Pool2d::new(PoolKind::AverageInside, 2, 2).with_rounding(Rounding::Up);
        self.pool.then(pool)
    }

    /// Returns the numbers of zero channels to add before and after.
    fn zero_channels(self) -> [usize; 2] {
        let before = self.new_channels / 2;
        [before, self.new_channels - before]
    }

    fn forward(self, x: Tensor<4>) -> Tensor<4> {
        let x = match self.pooling() {
            Some(pool) => pool.forward(x),
            None => x,
        };
        let x = match self.stride {
            1 => x,
            stride => {
                let [_, _, height, width] = x.dims();
                let step = stride as isize;
                let (h, w) = (height as isize, width as isize);
                x.slice(burn::tensor::s![.., .., 0..h;step, 0..w;step])
            }
        };
        match self.zero_channels() {
            [0, 0] => x,
            [before, after] => {
                let [batch, _, height, width] = x.dims();
                let device = x.device();
                let zeros = |count| Tensor::zeros([batch, count, height, width], &device);
                Tensor::cat(vec![zeros(before), x, zeros(after)], 1)
            }
        }
    }

    fn trace(self, tracer: &mut Tracer<'_>) {
        tracer.within("shortcut", |tracer| {
            if let Some(pool) = self.pooling() {
                tracer.unlisted_pool("pool", pool);
            }
            if self.stride != 1 {
                tracer.subsample("slice", self.stride);
            }
            if self.zero_channels() != [0, 0] {
                tracer.pad_channels("pad", self.zero_channels());
            }
        });
    }
}

/// The pooling in the branch of an anti-aliased block that subsamples.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BranchPool {
    /// Position of the convolution whose ReLU comes before it; never the last one.
    pub after: usize,
    /// The pooling.
    pub layer: Pool2d,
}

/// A residual block: `relu(shortcut(x) + se(branch(x)))`, or with the SE unit in another position.
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
    #[module(skip)]
    branch_pool: Option<BranchPool>,
    #[module(skip)]
    shortcut: Reshape,
}

impl ResidualBlock {
    /// Returns the pooling after a convolution of the branch.
    pub(crate) fn pool_after(&self, conv: usize) -> Option<Pool2d> {
        let pool = self.branch_pool.filter(|pool| pool.after == conv)?;
        Some(pool.layer)
    }

    /// Computes `[batch, channels_out, h / stride, w / stride]` from `[batch, channels_in, h, w]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let shortcut = self.shortcut(x.clone());
        let shortcut = self.excited_at(SePosition::Identity, shortcut);
        let last = self.convs.len() - 1;
        let mut branch = self.excited_at(SePosition::Pre, x);
        for (index, (conv, norm)) in self.convs[..last].iter().zip(&self.norms).enumerate() {
            branch = forward_normed(conv, norm, branch, None, true);
            if let Some(pool) = self.pool_after(index) {
                branch = pool.forward(branch);
            }
        }
        let branch = self.excited_at(SePosition::Conv3x3, branch);
        let (conv, norm) = (&self.convs[last], &self.norms[last]);
        match self.se_at(SePosition::Standard) {
            Some(se) => se.forward_after(conv, norm, branch, shortcut),
            None => {
                let sum = forward_normed(conv, norm, branch, Some(shortcut), true);
                self.excited_at(SePosition::Post, sum)
            }
        }
    }

    fn folded(self, precision: ComputePrecision) -> Self {
        let (convs, norms) = fold_all(self.convs, self.norms, precision);
        let downsample = self.downsample.map(|downsample| {
            let (conv, norm) = fold(downsample.conv, downsample.norm, precision);
            Downsample { conv, norm }
        });
        Self {
            convs,
            norms,
            downsample,
            ..self
        }
    }

    fn shortcut(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.shortcut.forward(x);
        match &self.downsample {
            Some(Downsample { conv, norm }) => forward_normed(conv, norm, x, None, false),
            None => x,
        }
    }

    fn trace<'a>(&'a self, tracer: &mut Tracer<'a>) {
        let input = tracer.current();
        tracer.se(self.se_at(SePosition::Pre));
        let last = self.convs.len() - 1;
        let se = self.se.as_ref();
        let clamped_before_se = se.is_some_and(|se| se.config().after_relu);
        for (index, (conv, norm)) in self.convs.iter().zip(&self.norms).enumerate() {
            if index == last {
                tracer.se(self.se_at(SePosition::Conv3x3));
            }
            tracer.conv(format_args!("convs.{index}"), conv);
            tracer.norm(format_args!("norms.{index}"), norm);
            if index < last || clamped_before_se {
                tracer.relu(format_args!("norms.{index}"));
            }
            if let Some(pool) = self.pool_after(index) {
                tracer.pool("anti_alias", pool);
            }
        }
        tracer.se(self.se_at(SePosition::Standard));
        let branch = tracer.current();
        tracer.resume(input);
        self.shortcut.trace(tracer);
        if let Some(downsample) = &self.downsample {
            tracer.within("downsample", |tracer| {
                tracer.conv("conv", &downsample.conv);
                tracer.norm("norm", &downsample.norm);
            });
        }
        tracer.se(self.se_at(SePosition::Identity));
        tracer.sum("sum", &[branch, tracer.current()]);
        tracer.last_relu();
        tracer.se(self.se_at(SePosition::Post));
    }

    /// Returns the SE unit if this is its position.
    fn se_at(&self, position: SePosition) -> Option<&SeUnit> {
        self.se
            .as_ref()
            .filter(|se| se.config().position == position)
    }

    /// Applies the SE unit to `x` if this is its position, else returns `x`.
    fn excited_at(&self, position: SePosition, x: Tensor<4>) -> Tensor<4> {
        match self.se_at(position) {
            Some(se) => se.forward(x),
            None => x,
        }
    }
}

/// A ResNet without its classifier. The outputs of its parts after the stem are C2..C5, of strides 4, 8,
/// 16 and 32 (1, 2, 4, 4 in a CIFAR network).
#[derive(Module, Debug)]
pub struct ResNet {
    /// The stem's first convolution.
    pub conv1: Conv2d,
    /// Its norm.
    pub bn1: Norm,
    /// The stem's other convolutions: two of a deep stem, and that of [`StemPooling::Conv3x3`].
    pub stem_convs: Vec<Conv2d>,
    /// Their norms.
    pub stem_norms: Vec<Norm>,
    #[module(skip)]
    pools: Vec<Pool2d>,
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
    fn forward_stem(&self, pixels: Tensor<4>) -> Tensor<4> {
        let stem = forward_normed(&self.conv1, &self.bn1, pixels, None, true);
        let stem = self
            .stem_convs
            .iter()
            .zip(&self.stem_norms)
            .fold(stem, |x, (conv, norm)| {
                forward_normed(conv, norm, x, None, true)
            });
        self.pools.iter().fold(stem, |x, pool| pool.forward(x))
    }

    /// Returns the stages in order.
    fn stages(&self) -> [&[ResidualBlock]; 4] {
        [&self.layer1, &self.layer2, &self.layer3, &self.layer4]
    }
}

impl Backbone for ResNet {
    const PARTS: usize = 5;
    const FOLDS: bool = true;

    fn forward_part(&self, part: usize, x: Tensor<4>) -> Tensor<4> {
        if part == 0 {
            return self.forward_stem(x);
        }
        let blocks = self.stages()[part - 1];
        blocks.iter().fold(x, |x, block| block.forward(x))
    }

    fn folded(self, precision: ComputePrecision) -> Self {
        let (conv1, bn1) = fold(self.conv1, self.bn1, precision);
        let (stem_convs, stem_norms) = fold_all(self.stem_convs, self.stem_norms, precision);
        let stage = |blocks: Vec<ResidualBlock>| -> Vec<ResidualBlock> {
            blocks
                .into_iter()
                .map(|block| block.folded(precision))
                .collect()
        };
        Self {
            conv1,
            bn1,
            stem_convs,
            stem_norms,
            layer1: stage(self.layer1),
            layer2: stage(self.layer2),
            layer3: stage(self.layer3),
            layer4: stage(self.layer4),
            ..self
        }
    }

    fn trace_part<'a>(&'a self, part: usize, tracer: &mut Tracer<'a>) {
        if part > 0 {
            for (index, block) in self.stages()[part - 1].iter().enumerate() {
                tracer.within(format!("layer{part}.{index}"), |tracer| block.trace(tracer));
            }
            return;
        }
        tracer.conv("conv1", &self.conv1);
        tracer.norm("bn1", &self.bn1);
        tracer.relu("bn1");
        for (index, (conv, norm)) in self.stem_convs.iter().zip(&self.stem_norms).enumerate() {
            tracer.conv(format_args!("stem_convs.{index}"), conv);
            tracer.norm(format_args!("stem_norms.{index}"), norm);
            tracer.relu(format_args!("stem_norms.{index}"));
        }
        for (pool, name) in self.pools.iter().zip(["pool", "anti_alias"]) {
            tracer.pool(name, *pool);
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Param;
    use burn::tensor::Distribution;

    use super::*;

    /// Sets norms to values other than the initial ones.
    fn randomize(norms: &mut [Norm], device: &Device) {
        for norm in norms {
            let shape = norm.weight.val().dims();
            let random =
                |low, high| Tensor::<1>::random(shape, Distribution::Uniform(low, high), device);
            norm.weight = Param::from_tensor(random(0.3, 0.8));
            norm.bias = Param::from_tensor(random(-0.5, 0.5));
            norm.running_mean.update(random(-0.5, 0.5));
            norm.running_var.update(random(0.5, 2.0));
        }
    }

    #[test]
    fn a_folded_network_gives_the_same_outputs() {
        let device = Device::flex();
        let se = |position| SeConfig {
            position,
            ..SeConfig::new(4)
        };
        let kinds = [None, Some(SePosition::Standard), Some(SePosition::Conv3x3)];
        for block in [BlockKind::Basic, BlockKind::Bottleneck] {
            for position in kinds {
                let config = ResNetConfig {
                    width_multiplier: 0.25,
                    se: position.map(se),
                    norm: NormConfig::new(NormKind::Batch),
                    ..ResNetConfig::new(block, [1, 1, 1, 1])
                };
                let mut network = config.init(&device);
                randomize(std::slice::from_mut(&mut network.bn1), &device);
                for layer in [
                    &mut network.layer1,
                    &mut network.layer2,
                    &mut network.layer3,
                    &mut network.layer4,
                ] {
                    for block in layer {
                        randomize(&mut block.norms, &device);
                        if let Some(downsample) = &mut block.downsample {
                            randomize(std::slice::from_mut(&mut downsample.norm), &device);
                        }
                    }
                }
                let x = Tensor::random([2, 3, 70, 90], Distribution::Normal(0.0, 1.0), &device);
                let plain = unfolded(&network, x.clone());
                let folded = network.clone().folded(ComputePrecision::F32);
                assert_close(&folded.forward_features(x.clone(), 0), &plain);
                assert_close(
                    &folded
                        .folded(ComputePrecision::F32)
                        .forward_features(x.clone(), 0),
                    &plain,
                );
                assert_close(&network.forward_features(x, 0), &plain);
            }
        }
    }

    fn assert_close(a: &Tensor<4>, b: &Tensor<4>) {
        let largest: f32 = b.clone().abs().max().into_scalar();
        let difference: f32 = (a.clone() - b.clone()).abs().max().into_scalar();
        assert!(difference <= 1e-5 * largest, "{difference} of {largest}");
    }

    /// The forward pass with every convolution, norm, sum and gate as a separate operation.
    fn unfolded(network: &ResNet, x: Tensor<4>) -> Tensor<4> {
        let x = network.bn1.forward(network.conv1.forward(x), None, true);
        let mut x = network.pools.iter().fold(x, |x, pool| pool.forward(x));
        for block in network.stages().into_iter().flatten() {
            let shortcut = match &block.downsample {
                Some(d) => d.norm.forward(d.conv.forward(x.clone()), None, false),
                None => x.clone(),
            };
            let last = block.convs.len() - 1;
            for (n, (conv, norm)) in block.convs.iter().zip(&block.norms).enumerate() {
                if n == last {
                    x = block.excited_at(SePosition::Conv3x3, x);
                }
                x = norm.forward(conv.forward(x), None, n < last);
            }
            x = block.excited_at(SePosition::Standard, x);
            x = burn::tensor::activation::relu(x + shortcut);
        }
        x
    }
}
