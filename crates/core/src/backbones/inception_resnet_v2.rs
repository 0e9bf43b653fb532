//! Inception-ResNet-v2 (Szegedy et al. 2016), plain and with SE units.
//!
//! The layout is the one that the authors published weights for (TensorFlow, timm), which has a
//! smaller stem and fewer channels than the paper's figures 15 to 19. Its input is 299x299 with
//! mean and standard deviation 0.5. An SE unit stands at the end of each residual branch: on the output of
//! the 1x1 convolution that restores the channels, before it is scaled and summed, as in a residual
//! network (SENet paper, section 3.3). The modules without a shortcut have none.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::scaled;
use super::summary::Tracer;
use super::validation::{BackboneConfigError, check_common, check_counts};
use sedet_nn::kernels::affine::add_relu;
use sedet_nn::nn::branches::{Branch, BranchConfig, channels_of, concatenated};
use sedet_nn::nn::conv::{Conv2d, Conv2dConfig};
use sedet_nn::nn::conv_norm::{ConvNorm, ConvNormConfig};
use sedet_nn::nn::init::WeightInit;
use sedet_nn::nn::norm::NormConfig;
use sedet_nn::nn::pool::{Pool2d, PoolKind};
use sedet_nn::nn::se::{SeConfig, SeUnit};

const HALVING_POOL: Pool2d = Pool2d::new(PoolKind::Max, 3, 2);

/// The stem's convolutions after which there is pooling.
const POOLED_STEM: [usize; 2] = [2, 4];

/// Configuration of an [`InceptionResnetV2`]; complete enough to be stored in a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InceptionResnetV2Config {
    /// Residual blocks of each of the three sizes; the very last has neither scale nor ReLU.
    pub blocks: [usize; 3],
    /// What the residual branches of each size are multiplied by before the sum.
    #[serde(default = "published_scales")]
    pub residual_scales: [f64; 3],
    /// Multiplies all channel counts; 1 is the published network.
    #[serde(default = "super::full_width")]
    pub width_multiplier: f64,
    /// The SE unit of every residual branch; none makes the plain network.
    #[serde(default)]
    pub se: Option<SeConfig>,
    /// Norm layers, trained or frozen.
    pub norm: NormConfig,
}

fn published_scales() -> [f64; 3] {
    [0.17, 0.10, 0.20]
}

impl Default for InceptionResnetV2Config {
    /// The published network without SE units, norms frozen, with TensorFlow's epsilon.
    fn default() -> Self {
        Self {
            blocks: [10, 20, 10],
            residual_scales: published_scales(),
            width_multiplier: super::full_width(),
            se: None,
            norm: NormConfig {
                epsilon: 1e-3,
                ..NormConfig::default()
            },
        }
    }
}

impl InceptionResnetV2Config {
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
        check_counts("blocks", self.blocks)
    }

    /// A chain of convolutions, each given by its channels and kernel.
    fn chain(&self, channels_in: usize, convs: &[(usize, [usize; 2])]) -> Vec<Conv2dConfig> {
        let mut from = channels_in;
        convs
            .iter()
            .map(|&(channels, kernel)| {
                let to = scaled(channels, self.width_multiplier);
                let conv = Conv2dConfig::rectangular(from, to, kernel);
                from = to;
                conv
            })
            .collect()
    }

    fn branch(&self, channels_in: usize, convs: &[(usize, [usize; 2])]) -> BranchConfig {
        BranchConfig::new(self.chain(channels_in, convs))
    }

    /// A branch whose last convolution halves the map without padding.
    fn halving_branch(&self, channels_in: usize, convs: &[(usize, [usize; 2])]) -> BranchConfig {
        let mut chain = self.chain(channels_in, convs);
        if let Some(last) = chain.last_mut() {
            *last = last.with_stride(2).without_padding();
        }
        BranchConfig::new(chain)
    }

    fn stem(&self) -> Vec<Conv2dConfig> {
        let mut chain = self.chain(
            3,
            &[
                (32, [3, 3]),
                (32, [3, 3]),
                (64, [3, 3]),
                (80, [1, 1]),
                (192, [3, 3]),
            ],
        );
        chain[0] = chain[0].with_stride(2).without_padding();
        chain[1] = chain[1].without_padding();
        chain[4] = chain[4].without_padding();
        chain
    }

    /// The module between stem and first blocks, and those that halve the map.
    fn transitions(&self) -> [(Vec<BranchConfig>, usize); 3] {
        let mut channels = scaled(192, self.width_multiplier);
        let average = Pool2d::new(PoolKind::AverageInside, 3, 1).with_padding(1);
        let mixed_5b = vec![
            self.branch(channels, &[(96, [1, 1])]),
            self.branch(channels, &[(48, [1, 1]), (64, [5, 5])]),
            self.branch(channels, &[(64, [1, 1]), (96, [3, 3]), (96, [3, 3])]),
            BranchConfig::pooled(average, self.chain(channels, &[(64, [1, 1])])),
        ];
        channels = channels_of(&mixed_5b, channels);
        let of_5b = channels;
        let mixed_6a = vec![
            self.halving_branch(channels, &[(384, [3, 3])]),
            self.halving_branch(channels, &[(256, [1, 1]), (256, [3, 3]), (384, [3, 3])]),
            BranchConfig::pooled(HALVING_POOL, []),
        ];
        channels = channels_of(&mixed_6a, channels);
        let of_6a = channels;
        let mixed_7a = vec![
            self.halving_branch(channels, &[(256, [1, 1]), (384, [3, 3])]),
            self.halving_branch(channels, &[(256, [1, 1]), (288, [3, 3])]),
            self.halving_branch(channels, &[(256, [1, 1]), (288, [3, 3]), (320, [3, 3])]),
            BranchConfig::pooled(HALVING_POOL, []),
        ];
        let of_7a = channels_of(&mixed_7a, channels);
        [(mixed_5b, of_5b), (mixed_6a, of_6a), (mixed_7a, of_7a)]
    }

    /// The branches of a residual block of one of the three sizes.
    fn residual_branches(&self, size: usize, channels: usize) -> Vec<BranchConfig> {
        match size {
            0 => vec![
                self.branch(channels, &[(32, [1, 1])]),
                self.branch(channels, &[(32, [1, 1]), (32, [3, 3])]),
                self.branch(channels, &[(32, [1, 1]), (48, [3, 3]), (64, [3, 3])]),
            ],
            1 => vec![
                self.branch(channels, &[(192, [1, 1])]),
                self.branch(channels, &[(128, [1, 1]), (160, [1, 7]), (192, [7, 1])]),
            ],
            _ => vec![
                self.branch(channels, &[(192, [1, 1])]),
                self.branch(channels, &[(192, [1, 1]), (224, [1, 3]), (256, [3, 1])]),
            ],
        }
    }

    fn init_block(&self, size: usize, channels: usize, is_last: bool, device: &Device) -> Block {
        let branches = self.residual_branches(size, channels);
        let joined = channels_of(&branches, channels);
        Block {
            branches: branches
                .iter()
                .map(|branch| branch.init(self.norm, device))
                .collect(),
            conv: Conv2dConfig::new(joined, channels, 1)
                .with_bias(WeightInit::HeFanOut)
                .init(device),
            se: self.se.map(|se| se.init(channels, device)),
            scale: match is_last {
                true => 1.0,
                false => self.residual_scales[size],
            },
            with_relu: !is_last,
        }
    }

    fn last_conv(&self) -> Conv2dConfig {
        let [.., (_, channels)] = self.transitions();
        Conv2dConfig::new(channels, self.channels(), 1)
    }

    /// Channels of the last map.
    pub fn channels(&self) -> usize {
        scaled(1536, self.width_multiplier)
    }

    /// The network with He-initialized convolutions on a device.
    pub fn init(&self, device: &Device) -> InceptionResnetV2 {
        let conv_norm = |conv| ConvNormConfig::new(conv, self.norm).init(device);
        let stages = self
            .transitions()
            .iter()
            .enumerate()
            .map(|(size, (branches, channels))| {
                let blocks = self.blocks[size];
                Stage {
                    transition: branches
                        .iter()
                        .map(|branch| branch.init(self.norm, device))
                        .collect(),
                    blocks: (0..blocks)
                        .map(|block| {
                            let is_last = size == 2 && block + 1 == blocks;
                            self.init_block(size, *channels, is_last, device)
                        })
                        .collect(),
                }
            })
            .collect();
        InceptionResnetV2 {
            stem: self.stem().into_iter().map(conv_norm).collect(),
            stages,
            last: conv_norm(self.last_conv()),
        }
    }
}

/// One residual unit: `relu(x + scale * se(conv(branches(x))))`; the network's last one is
/// `x + se(conv(branches(x)))`.
#[derive(Module, Debug)]
pub struct Block {
    /// Concatenated.
    pub branches: Vec<Branch>,
    /// 1x1 with a bias, without norm: back to the channels of the shortcut.
    pub conv: Conv2d,
    /// The SE unit on its output, in SE networks.
    pub se: Option<SeUnit>,
    scale: f64,
    with_relu: bool,
}

impl Block {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let branch = self.conv.forward(concatenated(&self.branches, x.clone()));
        let branch = match &self.se {
            Some(se) => se.forward(branch),
            None => branch,
        };
        let scaled = branch * self.scale;
        match self.with_relu {
            true => add_relu(scaled, x),
            false => scaled + x,
        }
    }
}

/// A module that changes the channels, then residual blocks.
#[derive(Module, Debug)]
pub struct Stage {
    /// Mixed-5b, -6a or -7a.
    pub transition: Vec<Branch>,
    /// The residual blocks.
    pub blocks: Vec<Block>,
}

/// An Inception-ResNet-v2 without its classifier.
#[derive(Module, Debug)]
pub struct InceptionResnetV2 {
    /// Five convolutions, pooling after the third and the fifth.
    pub stem: Vec<ConvNorm>,
    /// Strides 8, 16 and 32.
    pub stages: Vec<Stage>,
    /// 1x1 to the last map.
    pub last: ConvNorm,
}

impl InceptionResnetV2 {
    /// Pixels `[batch, 3, height, width]` to `[batch, channels, height', width']`: 8x8 of 299x299.
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<4> {
        let stem = self.stem.iter().enumerate().fold(pixels, |x, (at, conv)| {
            let x = conv.forward(x);
            match POOLED_STEM.contains(&at) {
                true => HALVING_POOL.forward(x),
                false => x,
            }
        });
        let features = self.stages.iter().fold(stem, |x, stage| {
            let x = concatenated(&stage.transition, x);
            stage.blocks.iter().fold(x, |x, block| block.forward(x))
        });
        self.last.forward(features)
    }

    pub(super) fn trace(&self, tracer: &mut Tracer) {
        for (at, conv) in self.stem.iter().enumerate() {
            tracer.conv_norm(format!("stem.{at}"), conv);
            if POOLED_STEM.contains(&at) {
                tracer.pool(format!("stem.{at}.pool"), HALVING_POOL);
            }
        }
        for (index, stage) in self.stages.iter().enumerate() {
            tracer.within(format!("stages.{index}"), |tracer| {
                tracer.branches("transition", &stage.transition);
                for (index, block) in stage.blocks.iter().enumerate() {
                    tracer.within(format!("blocks.{index}"), |tracer| {
                        tracer.branches("branches", &block.branches);
                        tracer.conv("conv", &block.conv);
                        tracer.se(block.se.as_ref());
                    });
                }
            });
        }
        tracer.conv_norm("last", &self.last);
    }
}
