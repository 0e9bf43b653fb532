//! BN-Inception (Ioffe and Szegedy 2015, figure 5), plain and with SE units.
//!
//! Channels, pooling and the place of the strides are those of the authors' SE-BN-Inception for
//! Caffe: convolutions have no biases (other ports keep biases, which the norms make redundant),
//! max pooling of stride 2 has no border and rounds sizes up, the last module pools by maximum. An
//! SE unit acts on the concatenated output of every module (SENet paper, figure 2).

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::scaled;
use super::summary::Tracer;
use super::validation::{BackboneConfigError, check_common};
use sedet_nn::nn::branches::{Branch, BranchConfig, channels_of, concatenated};
use sedet_nn::nn::conv::Conv2dConfig;
use sedet_nn::nn::conv_norm::{ConvNorm, ConvNormConfig};
use sedet_nn::nn::norm::NormConfig;
use sedet_nn::nn::pool::{Pool2d, PoolKind, Rounding};
use sedet_nn::nn::se::{SeConfig, SeUnit};

/// After the stem's first and last convolution.
const STEM_POOL: Pool2d = Pool2d::new(PoolKind::Max, 3, 2).with_rounding(Rounding::Up);

/// Inside the modules that halve the map. The same for even maps; of odd ones Caffe's would give
/// fewer pixels than the convolutions beside it.
const HALVING_POOL: Pool2d = Pool2d::new(PoolKind::Max, 3, 2).with_rounding(Rounding::Convolution);

/// Channels of one module at width 1, named as in the paper's table.
struct ModuleTable {
    /// Of the 1x1 convolution; a module without one halves the map.
    conv_1x1: Option<usize>,
    /// Of the 1x1 before the 3x3, and of the 3x3.
    conv_3x3: [usize; 2],
    /// Of the 1x1 before two 3x3, and of those.
    double_3x3: [usize; 3],
    /// What pools, and the channels of the 1x1 behind it; a module that halves the map hands the
    /// pooled input on.
    pool: (PoolKind, usize),
}

const fn keeping(
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

const fn halving(conv_3x3: [usize; 2], double_3x3: [usize; 3]) -> ModuleTable {
    ModuleTable {
        conv_1x1: None,
        conv_3x3,
        double_3x3,
        pool: (PoolKind::Max, 0),
    }
}

use PoolKind::{Average, Max};

/// 3a, 3b, 3c, 4a, ... 4e, 5a, 5b.
const MODULES: [ModuleTable; 10] = [
    keeping(64, [64, 64], [64, 96, 96], (Average, 32)),
    keeping(64, [64, 96], [64, 96, 96], (Average, 64)),
    halving([128, 160], [64, 96, 96]),
    keeping(224, [64, 96], [96, 128, 128], (Average, 128)),
    keeping(192, [96, 128], [96, 128, 128], (Average, 128)),
    keeping(160, [128, 160], [128, 160, 160], (Average, 128)),
    keeping(96, [128, 192], [160, 192, 192], (Average, 128)),
    halving([128, 192], [192, 256, 256]),
    keeping(352, [192, 320], [160, 224, 224], (Average, 128)),
    keeping(352, [192, 320], [192, 224, 224], (Max, 128)),
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BnInceptionConfig {
    /// Multiplies all channel counts; 1 is the published network.
    #[serde(default = "super::full_width")]
    pub width_multiplier: f64,
    /// The SE unit of every module; none makes the plain network.
    #[serde(default)]
    pub se: Option<SeConfig>,
    /// Norm layers, trained or frozen.
    #[serde(default)]
    pub norm: NormConfig,
}

impl Default for BnInceptionConfig {
    /// The published network without SE units, norms frozen.
    fn default() -> Self {
        Self {
            width_multiplier: super::full_width(),
            se: None,
            norm: NormConfig::default(),
        }
    }
}

impl BnInceptionConfig {
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

    /// The branches of all modules, and the channels of the last map.
    fn modules(&self) -> (Vec<Vec<BranchConfig>>, usize) {
        let mut channels = scaled(192, self.width_multiplier);
        let modules = MODULES
            .iter()
            .map(|table| {
                let branches = table.branches(channels, self.width_multiplier);
                channels = channels_of(&branches, channels);
                branches
            })
            .collect();
        (modules, channels)
    }

    /// Channels of the last map.
    pub fn channels(&self) -> usize {
        self.modules().1
    }

    /// The network with He-initialized convolutions on a device.
    pub fn init(&self, device: &Device) -> BnInception {
        let [narrow, wide] = [64, 192].map(|channels| scaled(channels, self.width_multiplier));
        let stem = [
            Conv2dConfig::new(3, narrow, 7).with_stride(2),
            Conv2dConfig::new(narrow, narrow, 1),
            Conv2dConfig::new(narrow, wide, 3),
        ];
        let mut channels = wide;
        BnInception {
            stem: stem
                .map(|conv| ConvNormConfig::new(conv, self.norm).init(device))
                .into(),
            modules: self
                .modules()
                .0
                .iter()
                .map(|branches| {
                    channels = channels_of(branches, channels);
                    InceptionModule {
                        branches: branches
                            .iter()
                            .map(|branch| branch.init(self.norm, device))
                            .collect(),
                        se: self.se.map(|se| se.init(channels, device)),
                    }
                })
                .collect(),
        }
    }
}

/// Convolutions of several sizes side by side.
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

/// A BN-Inception without its classifier.
#[derive(Module, Debug)]
pub struct BnInception {
    /// 7x7 of stride 2, 1x1, 3x3; pooling after the first and the last.
    pub stem: Vec<ConvNorm>,
    /// 3a to 5b.
    pub modules: Vec<InceptionModule>,
}

impl BnInception {
    /// Pixels `[batch, 3, height, width]` to `[batch, channels, height / 32, width / 32]`, for
    /// sizes that 32 does not divide about as many.
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<4> {
        let last = self.stem.len() - 1;
        let x = self.stem.iter().enumerate().fold(pixels, |x, (at, conv)| {
            let x = conv.forward(x);
            match at {
                at if at == 0 || at == last => STEM_POOL.forward(x),
                _ => x,
            }
        });
        self.modules.iter().fold(x, |x, module| module.forward(x))
    }

    pub(super) fn trace(&self, tracer: &mut Tracer) {
        let last = self.stem.len() - 1;
        for (at, conv) in self.stem.iter().enumerate() {
            tracer.conv_norm(format!("stem.{at}"), conv);
            if at == 0 || at == last {
                tracer.pool(format!("stem.{at}.pool"), STEM_POOL);
            }
        }
        for (index, module) in self.modules.iter().enumerate() {
            tracer.within(format!("modules.{index}"), |tracer| {
                tracer.branches("branches", &module.branches);
                tracer.se(module.se.as_ref());
            });
        }
    }
}
