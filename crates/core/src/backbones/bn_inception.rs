//! BN-Inception (Ioffe and Szegedy 2015, figure 5), with and without SE units.
//!
//! Channels, pooling and the positions of the strides are those of the authors' SE-BN-Inception for
//! Caffe: convolutions have no biases (other ports keep biases, which the norms make redundant),
//! max pooling of stride 2 has no padding and rounds sizes up, the last module has max pooling. An
//! SE unit acts on the concatenated output of every module (SENet paper, figure 2).
//!
//! C2..C5 are the last outputs of each stride: the stem's 3x3 convolution (stride 4) and the modules
//! 3b, 4d and 5b (strides 8, 16, 32).

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
use sedet_nn::nn::branches::{Branch, BranchConfig, channels_of, concatenated};
use sedet_nn::nn::conv::Conv2dConfig;
use sedet_nn::nn::conv_norm::{ConvNorm, ConvNormConfig};
use sedet_nn::nn::norm::NormConfig;
use sedet_nn::nn::pool::{Pool2d, PoolKind, Rounding};
use sedet_nn::nn::se::{SeConfig, SeUnit};

/// The pooling after the stem's first and last convolution.
const STEM_POOL: Pool2d = Pool2d::new(PoolKind::Max, 3, 2).with_rounding(Rounding::Up);

/// The pooling in the modules of stride 2. Equal to Caffe's pooling for even sizes; for odd sizes
/// Caffe's would give fewer pixels than the convolutions that its output is concatenated with.
const HALVING_POOL: Pool2d = Pool2d::new(PoolKind::Max, 3, 2).with_rounding(Rounding::Convolution);

/// Channels of one module at width 1; the fields follow the columns of the paper's table.
struct ModuleTable {
    /// The 1x1 convolution; modules without one have stride 2.
    conv_1x1: Option<usize>,
    /// The 1x1 before the 3x3, and the 3x3.
    conv_3x3: [usize; 2],
    /// The 1x1 before two 3x3, and those.
    double_3x3: [usize; 3],
    /// The kind of pooling, and the channels of the 1x1 after it; modules of stride 2 have only the
    /// pooling.
    pool: (PoolKind, usize),
}

const fn stride_1(
    conv_1x1: usize,
    conv_3x3: [usize; 2],
    double_3x3: [usize; 3],
    pool: (PoolKind, usize),
) -> ModuleTable {
    ModuleTable {
        conv_1x1: Some(conv_1x1),
        conv_3x3,
        double_3x3,
        pool,
    }
}

const fn stride_2(conv_3x3: [usize; 2], double_3x3: [usize; 3]) -> ModuleTable {
    ModuleTable {
        conv_1x1: None,
        conv_3x3,
        double_3x3,
        pool: (PoolKind::Max, 0),
    }
}

use PoolKind::{Average, Max};

/// Name, output stride and modules of each part. The stem's layers are in the first three:
/// its first convolution, its first pooling with the two other convolutions, its second pooling.
const PARTS: [(&str, usize, Range<usize>); 5] = [
    ("conv1", 2, 0..0),
    ("conv2", 4, 0..0),
    ("inception3", 8, 0..2),
    ("inception4", 16, 2..7),
    ("inception5", 32, 7..10),
];

/// 3a, 3b, 3c, 4a, ... 4e, 5a, 5b.
const MODULES: [ModuleTable; 10] = [
    stride_1(64, [64, 64], [64, 96, 96], (Average, 32)),
    stride_1(64, [64, 96], [64, 96, 96], (Average, 64)),
    stride_2([128, 160], [64, 96, 96]),
    stride_1(224, [64, 96], [96, 128, 128], (Average, 128)),
    stride_1(192, [96, 128], [96, 128, 128], (Average, 128)),
    stride_1(160, [128, 160], [128, 160, 160], (Average, 128)),
    stride_1(96, [128, 192], [160, 192, 192], (Average, 128)),
    stride_2([128, 192], [192, 256, 256]),
    stride_1(352, [192, 320], [160, 224, 224], (Average, 128)),
    stride_1(352, [192, 320], [192, 224, 224], (Max, 128)),
];

impl ModuleTable {
    fn branches(&self, channels_in: usize, width: f64) -> Vec<BranchConfig> {
        let conv = |from: usize, to: usize, kernel: usize| {
            Conv2dConfig::new(from, scaled(to, width), kernel)
        };
        let inner = |channels: usize| scaled(channels, width);
        let stride = if self.conv_1x1.is_some() { 1 } else { 2 };
        let [reduce, out] = self.conv_3x3;
        let single = BranchConfig::new([
            conv(channels_in, reduce, 1),
            conv(inner(reduce), out, 3).with_stride(stride),
        ]);
        let [reduce, middle, out] = self.double_3x3;
        let double = BranchConfig::new([
            conv(channels_in, reduce, 1),
            conv(inner(reduce), middle, 3),
            conv(inner(middle), out, 3).with_stride(stride),
        ]);
        match (self.conv_1x1, self.pool) {
            (Some(channels), (kind, projected)) => vec![
                BranchConfig::new([conv(channels_in, channels, 1)]),
                single,
                double,
                BranchConfig::pooled(
                    Pool2d::new(kind, 3, 1).with_padding(1),
                    [conv(channels_in, projected, 1)],
                ),
            ],
            (None, _) => vec![single, double, BranchConfig::pooled(HALVING_POOL, [])],
        }
    }
}

/// Configuration of a [`BnInception`]; complete enough to be stored in a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BnInceptionConfig {
    /// Multiplies all channel counts; 1 is the published network.
    #[serde(default = "super::full_width")]
    pub width_multiplier: f64,
    /// The SE unit of every module; none in the plain network.
    #[serde(default)]
    pub se: Option<SeConfig>,
    /// Norm layers: trained, or frozen.
    #[serde(default)]
    pub norm: NormConfig,
    /// Number of leading parts that keep their weights: the first convolution, the other two of the
    /// stem, then the modules at strides 8, 16 and 32.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    #[schemars(!skip_serializing_if)]
    pub frozen_stages: usize,
}

impl Default for BnInceptionConfig {
    /// Returns the published network without SE units, with frozen norms.
    fn default() -> Self {
        Self {
            width_multiplier: super::full_width(),
            se: None,
            norm: NormConfig::default(),
            frozen_stages: 0,
        }
    }
}

impl BnInceptionConfig {
    /// Returns the branches of every module, and the module's output channels.
    fn modules(&self) -> Vec<(Vec<BranchConfig>, usize)> {
        let mut channels = self.stem_channels()[1];
        MODULES
            .iter()
            .map(|table| {
                let branches = table.branches(channels, self.width_multiplier);
                channels = channels_of(&branches, channels);
                (branches, channels)
            })
            .collect()
    }

    /// Returns the channels of the stem's first two convolutions and of its last.
    fn stem_channels(&self) -> [usize; 2] {
        [64, 192].map(|channels| scaled(channels, self.width_multiplier))
    }
}

impl BackboneFamily for BnInceptionConfig {
    type Network = BnInception;

    const PUBLISHED: &'static [Published<Self>] =
        &[Published::imagenet("bn-inception", |se| Self {
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
        let modules = self.modules();
        let [narrow, wide] = self.stem_channels();
        let part = |(name, stride, range): (_, usize, Range<usize>)| {
            let channels = match stride {
                2 => narrow,
                4 => wide,
                _ => modules[range.end - 1].1,
            };
            Part::new(name, channels, stride)
        };
        PARTS.map(part).into()
    }

    fn init(&self, device: &Device) -> BnInception {
        let [narrow, wide] = self.stem_channels();
        let stem = [
            Conv2dConfig::new(3, narrow, 7).with_stride(2),
            Conv2dConfig::new(narrow, narrow, 1),
            Conv2dConfig::new(narrow, wide, 3),
        ];
        BnInception {
            stem: stem
                .map(|conv| ConvNormConfig::new(conv, self.norm).init(device))
                .into(),
            modules: self
                .modules()
                .iter()
                .map(|(branches, channels)| InceptionModule {
                    branches: branches
                        .iter()
                        .map(|branch| branch.init(self.norm, device))
                        .collect(),
                    se: self.se.map(|se| se.init(*channels, device)),
                })
                .collect(),
        }
    }

    fn se_position(&self) -> &'static str {
        "output of each Inception module"
    }
}

/// An Inception module: convolutions of several sizes side by side.
#[derive(Module, Debug)]
pub struct InceptionModule {
    /// In the order of the concatenation: 1x1 (if there is one), 3x3, double 3x3, pooling.
    pub branches: Vec<Branch>,
    /// The SE unit on the concatenated output, in SE networks.
    pub se: Option<SeUnit>,
}

impl InceptionModule {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = concatenated(&self.branches, x);
        match &self.se {
            Some(se) => se.forward(x),
            None => x,
        }
    }
}

/// A BN-Inception without its classifier. The last feature map has stride 32, rounded.
#[derive(Module, Debug)]
pub struct BnInception {
    /// 7x7 of stride 2, 1x1, 3x3; max pooling follows the first and the last.
    pub stem: Vec<ConvNorm>,
    /// 3a to 5b.
    pub modules: Vec<InceptionModule>,
}

/// Returns the indices of the modules in a part.
fn modules_of(part: usize) -> Range<usize> {
    let (.., modules) = &PARTS[part];
    modules.clone()
}

impl Backbone for BnInception {
    const PARTS: usize = PARTS.len();

    fn forward_part(&self, part: usize, x: Tensor<4>) -> Tensor<4> {
        let x = match part {
            0 => self.stem[0].forward(x),
            1 => self.stem[1..]
                .iter()
                .fold(STEM_POOL.forward(x), |x, conv| conv.forward(x)),
            2 => STEM_POOL.forward(x),
            _ => x,
        };
        self.modules[modules_of(part)]
            .iter()
            .fold(x, |x, module| module.forward(x))
    }

    fn trace_part<'a>(&'a self, part: usize, tracer: &mut Tracer<'a>) {
        match part {
            0 => tracer.conv_norm_relu("stem.0", &self.stem[0]),
            1 => {
                tracer.pool("stem.0.pool", STEM_POOL);
                for (index, conv) in self.stem.iter().enumerate().skip(1) {
                    tracer.conv_norm_relu(format_args!("stem.{index}"), conv);
                }
            }
            2 => tracer.pool("stem.2.pool", STEM_POOL),
            _ => {}
        }
        for index in modules_of(part) {
            let module = &self.modules[index];
            tracer.within(format!("modules.{index}"), |tracer| {
                tracer.branches("branches", &module.branches);
                tracer.se(module.se.as_ref());
            });
        }
    }
}
