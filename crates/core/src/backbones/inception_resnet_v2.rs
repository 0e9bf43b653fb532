//! Inception-ResNet-v2 (Szegedy et al. 2016), with and without SE units.
//!
//! The layout is the one that the authors published weights for (TensorFlow, timm), which has a
//! smaller stem and fewer channels than the paper's figures 15 to 19. Its input is 299x299 with
//! mean and standard deviation 0.5. An SE unit is at the end of each residual branch: on the output
//! of the 1x1 convolution that restores the channels, before it is scaled and summed, as in a
//! residual network (SENet paper, section 3.3). The modules without a shortcut have none.
//!
//! C2..C5 are the last outputs of each stride: the stem's last convolution (`Conv2d_4a`, stride 4),
//! the last Inception-ResNet-A and -B blocks (strides 8 and 16), and the last convolution
//! (`Conv2d_7b`, stride 32). As a classifier the network has unpadded convolutions and pooling,
//! which shift each feature map against the image by up to two of its pixels. Detectors pad them all
//! ([`align_feature_maps`](InceptionResnetV2Config::align_feature_maps)).

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scaled;
use super::summary::Tracer;
use super::validation::{BackboneConfigError, check_common, check_counts};
use super::zoo::{INCEPTION, Published};
use super::{Backbone, BackboneFamily, HeadConfig, Part};
use sedet_nn::kernels::affine::add_relu;
use sedet_nn::nn::branches::{Branch, BranchConfig, channels_of, concatenated};
use sedet_nn::nn::conv::{Conv2d, Conv2dConfig};
use sedet_nn::nn::conv_norm::{ConvNorm, ConvNormConfig};
use sedet_nn::nn::init::WeightInit;
use sedet_nn::nn::norm::NormConfig;
use sedet_nn::nn::pool::{Pool2d, PoolKind};
use sedet_nn::nn::se::{SeConfig, SeUnit};

/// Published, unaligned max pooling of stride 2.
const POOL: Pool2d = Pool2d::new(PoolKind::Max, 3, 2);

/// Configuration of an [`InceptionResnetV2`]; complete enough to be stored in a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InceptionResnetV2Config {
    /// Residual blocks at strides 8, 16 and 32; the very last has neither scale nor ReLU.
    pub blocks: [usize; 3],
    /// Factors of the residual branches at strides 8, 16 and 32 before the sum.
    #[serde(default = "published_scales")]
    pub residual_scales: [f64; 3],
    /// Multiplies all channel counts; 1 is the published network.
    #[serde(default = "super::full_width")]
    pub width_multiplier: f64,
    /// The SE unit of every residual branch; none in the plain network.
    #[serde(default)]
    pub se: Option<SeConfig>,
    /// Norm layers: trained, or frozen.
    pub norm: NormConfig,
    /// Number of leading parts that keep their weights: the stem's first three convolutions, its
    /// other two, then the blocks at strides 8, 16 and 32.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    #[schemars(!skip_serializing_if)]
    pub frozen_stages: usize,
    /// Pads the convolutions and pooling that the classifier leaves unpadded, by one pixel on every
    /// side of a 3x3, so that feature maps are aligned with the image and any image size is large
    /// enough: the option of this name in TensorFlow's object detection API. The parameters are the
    /// same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schemars(!skip_serializing_if)]
    pub align_feature_maps: bool,
}

fn published_scales() -> [f64; 3] {
    [0.17, 0.10, 0.20]
}

impl Default for InceptionResnetV2Config {
    /// Returns the published network without SE units, with frozen norms and TensorFlow's epsilon.
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
            frozen_stages: 0,
            align_feature_maps: false,
        }
    }
}

impl InceptionResnetV2Config {
    /// Returns a chain of convolutions, each given by its channels and kernel.
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

    /// Returns a convolution that the classifier leaves unpadded.
    fn unpadded(&self, conv: Conv2dConfig) -> Conv2dConfig {
        if self.align_feature_maps {
            conv
        } else {
            conv.without_padding()
        }
    }

    /// Returns max pooling of stride 2.
    fn pool(&self) -> Pool2d {
        if self.align_feature_maps {
            POOL.with_padding(1)
        } else {
            POOL
        }
    }

    /// Returns a branch whose last convolution has stride 2 and is unpadded in the classifier.
    fn strided_branch(&self, channels_in: usize, convs: &[(usize, [usize; 2])]) -> BranchConfig {
        let mut chain = self.chain(channels_in, convs);
        if let Some(last) = chain.last_mut() {
            *last = self.unpadded(last.with_stride(2));
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
        chain[0] = self.unpadded(chain[0].with_stride(2));
        chain[1] = self.unpadded(chain[1]);
        chain[4] = self.unpadded(chain[4]);
        chain
    }

    /// Returns the branches and output channels of the modules before each stage of residual blocks.
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
        let channels_5b = channels;
        let mixed_6a = vec![
            self.strided_branch(channels, &[(384, [3, 3])]),
            self.strided_branch(channels, &[(256, [1, 1]), (256, [3, 3]), (384, [3, 3])]),
            BranchConfig::pooled(self.pool(), []),
        ];
        channels = channels_of(&mixed_6a, channels);
        let channels_6a = channels;
        let mixed_7a = vec![
            self.strided_branch(channels, &[(256, [1, 1]), (384, [3, 3])]),
            self.strided_branch(channels, &[(256, [1, 1]), (288, [3, 3])]),
            self.strided_branch(channels, &[(256, [1, 1]), (288, [3, 3]), (320, [3, 3])]),
            BranchConfig::pooled(self.pool(), []),
        ];
        let channels_7a = channels_of(&mixed_7a, channels);
        [
            (mixed_5b, channels_5b),
            (mixed_6a, channels_6a),
            (mixed_7a, channels_7a),
        ]
    }

    /// Returns the branches of a residual block in one of the three stages.
    fn residual_branches(&self, stage: usize, channels: usize) -> Vec<BranchConfig> {
        match stage {
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

    fn init_block(&self, stage: usize, channels: usize, is_last: bool, device: &Device) -> Block {
        let branches = self.residual_branches(stage, channels);
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
            scale: if is_last {
                1.0
            } else {
                self.residual_scales[stage]
            },
            with_relu: !is_last,
        }
    }

    /// Returns the channels of the last feature map.
    fn last_channels(&self) -> usize {
        scaled(1536, self.width_multiplier)
    }
}

impl BackboneFamily for InceptionResnetV2Config {
    type Network = InceptionResnetV2;

    const PUBLISHED: &'static [Published<Self>] =
        &[Published::imagenet("inception-resnet-v2", |se| Self {
            se,
            ..Self::default()
        })
        .with_input(INCEPTION)];

    const WEIGHT_DETAILS: &'static [&'static str] = &["residual_scales"];

    fn validate(&self) -> Result<(), BackboneConfigError> {
        check_common(
            self.width_multiplier,
            self.se.as_ref(),
            SeConfig::validate_throughout,
        )?;
        check_counts("blocks", self.blocks)
    }

    fn parts(&self) -> Vec<Part> {
        let [a, b, _] = self.transitions().map(|(_, channels)| channels);
        let stem = |channels| scaled(channels, self.width_multiplier);
        vec![
            Part::new("conv2", stem(64), 2),
            Part::new("conv4", stem(192), 4),
            Part::new("inception_a", a, 8),
            Part::new("inception_b", b, 16),
            Part::new("inception_c", self.last_channels(), 32),
        ]
    }

    fn init(&self, device: &Device) -> InceptionResnetV2 {
        let conv_norm = |conv| ConvNormConfig::new(conv, self.norm).init(device);
        let transitions = self.transitions();
        let stages = transitions
            .iter()
            .enumerate()
            .map(|(index, (branches, channels))| {
                let blocks = self.blocks[index];
                Stage {
                    transition: branches
                        .iter()
                        .map(|branch| branch.init(self.norm, device))
                        .collect(),
                    blocks: (0..blocks)
                        .map(|block| {
                            let is_last = index == 2 && block + 1 == blocks;
                            self.init_block(index, *channels, is_last, device)
                        })
                        .collect(),
                }
            })
            .collect();
        let [.., (_, channels)] = transitions;
        InceptionResnetV2 {
            stem: self.stem().into_iter().map(conv_norm).collect(),
            stages,
            last: conv_norm(Conv2dConfig::new(channels, self.last_channels(), 1)),
            pool: self.pool(),
        }
    }

    fn se_position(&self) -> &'static str {
        "end of each residual branch before its scaling"
    }

    /// Global average pooling and dropout that keeps 0.8 (figure 9 of the paper).
    fn head(&self) -> HeadConfig {
        HeadConfig {
            dropout: 0.2,
            ..HeadConfig::default()
        }
    }

    fn for_detection(self) -> Self {
        Self {
            align_feature_maps: true,
            ..self
        }
    }
}

/// A residual block: `relu(x + scale * se(conv(branches(x))))`; the network's last block is
/// `x + se(conv(branches(x)))`.
#[derive(Module, Debug)]
pub struct Block {
    /// The branches, whose outputs are concatenated.
    pub branches: Vec<Branch>,
    /// 1x1 with a bias, without norm: back to the channels of the shortcut.
    pub conv: Conv2d,
    /// The SE unit on its output, in SE networks.
    pub se: Option<SeUnit>,
    /// Factor of the branch before the sum.
    scale: f64,
    /// Whether a ReLU follows the sum.
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
        if self.with_relu {
            add_relu(scaled, x)
        } else {
            scaled + x
        }
    }

    fn trace<'a>(&'a self, tracer: &mut Tracer<'a>) {
        let input = tracer.current();
        tracer.branches("branches", &self.branches);
        tracer.conv("conv", &self.conv);
        tracer.se(self.se.as_ref());
        tracer.scale("scaled", self.scale);
        tracer.sum("sum", &[tracer.current(), input]);
        if self.with_relu {
            tracer.last_relu();
        }
    }
}

/// An Inception module that changes channels or size, then residual blocks.
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
    /// Five convolutions; max pooling follows the third and the fifth.
    pub stem: Vec<ConvNorm>,
    /// The stages at strides 8, 16 and 32.
    pub stages: Vec<Stage>,
    /// 1x1 to the last feature map.
    pub last: ConvNorm,
    /// The max pooling of the stem.
    #[module(skip)]
    pool: Pool2d,
}

/// Returns the indices of the stem's convolutions in a part.
fn stem_of(part: usize) -> std::ops::Range<usize> {
    match part {
        0 => 0..3,
        1 => 3..5,
        _ => 0..0,
    }
}

impl Backbone for InceptionResnetV2 {
    const PARTS: usize = 5;

    fn forward_part(&self, part: usize, x: Tensor<4>) -> Tensor<4> {
        let x = match part {
            1 | 2 => self.pool.forward(x),
            _ => x,
        };
        let x = self.stem[stem_of(part)]
            .iter()
            .fold(x, |x, conv| conv.forward(x));
        if part < 2 {
            return x;
        }
        let Stage { transition, blocks } = &self.stages[part - 2];
        let x = concatenated(transition, x);
        let x = blocks.iter().fold(x, |x, block| block.forward(x));
        if part == Self::PARTS - 1 {
            self.last.forward(x)
        } else {
            x
        }
    }

    fn trace_part<'a>(&'a self, part: usize, tracer: &mut Tracer<'a>) {
        match part {
            1 => tracer.pool("stem.2.pool", self.pool),
            2 => tracer.pool("stem.4.pool", self.pool),
            _ => {}
        }
        for index in stem_of(part) {
            tracer.conv_norm_relu(format_args!("stem.{index}"), &self.stem[index]);
        }
        if part < 2 {
            return;
        }
        let Stage { transition, blocks } = &self.stages[part - 2];
        tracer.within(format!("stages.{}", part - 2), |tracer| {
            tracer.branches("transition", transition);
            for (index, block) in blocks.iter().enumerate() {
                tracer.within(format!("blocks.{index}"), |tracer| block.trace(tracer));
            }
        });
        if part == Self::PARTS - 1 {
            tracer.conv_norm_relu("last", &self.last);
        }
    }
}
