//! Shake-Shake networks for images of 32x32 (Gastaldi 2017, "Shake-Shake regularization"), with
//! and without SE units.
//!
//! A block has two branches and mixes them: `shortcut + a * first + (1 - a) * second`. In training,
//! `a` is drawn for every image and block, and the gradient is computed with another coefficient
//! (drawn separately, or one half); in inference both are one half.
//!
//! Blocks, stems, shortcuts and the coefficients of Even are those of the author's Torch code
//! (xgastaldi/shake-shake, both datasets).
//!
//! The SE unit acts on the mixture. The SENet paper has no figure of this network; its rule (section
//! 3.3) is that the unit acts on the non-identity part of a residual module, before the sum with the
//! identity. Here that part is the mixture of the branches, so there is one unit per block.

use burn::module::Module;
use burn::tensor::ops::PadMode;
use burn::tensor::{Device, Distribution, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scaled;
use super::summary::Tracer;
use super::validation::{BackboneConfigError, check_common, check_counts};
use super::zoo::Published;
use super::{Backbone, BackboneFamily, Part};
use sedet_nn::kernels::affine::{add_relu, relu};
use sedet_nn::nn::conv::{Conv2d, Conv2dConfig};
use sedet_nn::nn::conv_norm::forward_normed;
use sedet_nn::nn::norm::{Norm, NormConfig, NormKind};
use sedet_nn::nn::se::{SeConfig, SeUnit};

/// The types of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum ShakeBlockKind {
    /// The CIFAR-10 network's blocks: branches of ReLU, 3x3, norm, ReLU, 3x3, norm. Where the number of
    /// channels changes, the shortcut is ReLU, two 1x1 convolutions side by side, each for half of
    /// the channels, the second on the input shifted by one pixel, and a norm.
    Preact,
    /// The CIFAR-100 network's blocks, after ResNeXt (Xie et al. 2016): branches of 1x1, grouped 3x3 and
    /// 1x1 expand by 4, each with its norm; shortcuts of one 1x1 convolution and a norm; a ReLU
    /// after the sum.
    Resnext {
        /// Groups of the 3x3.
        groups: usize,
        /// Its channels per 64 planes and group.
        width_per_group: usize,
    },
}

/// The mixing coefficients of the gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackwardMix {
    /// Drawn separately ("Shake-Shake").
    Shake,
    /// One half ("Shake-Even").
    Even,
}

/// Configuration of a [`ShakeShake`]; complete enough to be stored in a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShakeShakeConfig {
    /// The type of the blocks.
    pub block: ShakeBlockKind,
    /// Blocks in each of the three stages.
    pub layers: [usize; 3],
    /// Channels of the stem.
    pub stem_channels: usize,
    /// Planes of the first stage; each stage doubles them.
    pub base_channels: usize,
    /// Multiplies all channel counts; 1 is the published network.
    #[serde(default = "super::full_width")]
    pub width_multiplier: f64,
    /// The mixing coefficients of the gradient.
    pub backward: BackwardMix,
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

impl ShakeShakeConfig {
    /// Returns Shake-Shake 26 2x96d: 26.2 million parameters.
    pub const fn shake_shake_26_2x96d() -> Self {
        Self {
            block: ShakeBlockKind::Preact,
            layers: [4; 3],
            stem_channels: 16,
            base_channels: 96,
            width_multiplier: super::full_width(),
            backward: BackwardMix::Shake,
            se: None,
            norm: NormConfig::new(NormKind::Batch),
            frozen_stages: 0,
        }
    }

    /// Returns Shake-Even 29 2x4x64d: 34.4 million parameters with ten classes (34.5 with CIFAR-100's),
    /// as the ResNeXt-29 8x64d that it is derived from.
    pub const fn shake_even_29_2x4x64d() -> Self {
        Self {
            block: ShakeBlockKind::Resnext {
                groups: 4,
                width_per_group: 64,
            },
            layers: [3; 3],
            stem_channels: 64,
            base_channels: 64,
            width_multiplier: super::full_width(),
            backward: BackwardMix::Even,
            se: None,
            norm: NormConfig::new(NormKind::Batch),
            frozen_stages: 0,
        }
    }

    fn scaled(&self, channels: usize) -> usize {
        scaled(channels, self.width_multiplier)
    }

    fn planes(&self, stage: usize) -> usize {
        self.scaled(self.base_channels << stage)
    }

    fn stage_channels(&self, stage: usize) -> usize {
        let expansion = match self.block {
            ShakeBlockKind::Preact => 1,
            ShakeBlockKind::Resnext { .. } => 4,
        };
        self.planes(stage) * expansion
    }

    fn is_preact(&self) -> bool {
        self.block == ShakeBlockKind::Preact
    }

    fn init_block(
        &self,
        channels_in: usize,
        stage: usize,
        stride: usize,
        device: &Device,
    ) -> ShakeBlock {
        let channels_out = self.stage_channels(stage);
        let branch = || {
            let convs = self.branch(channels_in, stage, stride);
            ShakeBranch {
                norms: convs
                    .iter()
                    .map(|conv| self.norm.init(conv.channels_out, device))
                    .collect(),
                convs: convs.iter().map(|conv| conv.init(device)).collect(),
            }
        };
        let shortcut = || {
            let paths = if self.is_preact() { 2 } else { 1 };
            let conv = Conv2dConfig::new(channels_in, channels_out / paths, 1).with_stride(stride);
            ShakeShortcut {
                convs: (0..paths).map(|_| conv.init(device)).collect(),
                norm: self.norm.init(channels_out, device),
            }
        };
        // A published network is not strided without new channels; a very narrow one may be.
        let reshapes = stride != 1 || channels_in != channels_out;
        ShakeBlock {
            branches: vec![branch(), branch()],
            shortcut: reshapes.then(shortcut),
            se: self
                .se
                .filter(|se| se.stages[stage])
                .map(|se| se.init(channels_out, device)),
            is_preact: self.is_preact(),
        }
    }

    fn branch(&self, channels_in: usize, stage: usize, stride: usize) -> Vec<Conv2dConfig> {
        let planes = self.planes(stage);
        match self.block {
            ShakeBlockKind::Preact => vec![
                Conv2dConfig::new(channels_in, planes, 3).with_stride(stride),
                Conv2dConfig::new(planes, planes, 3),
            ],
            ShakeBlockKind::Resnext {
                groups,
                width_per_group,
            } => {
                let inner = inner_channels(planes, groups, width_per_group);
                vec![
                    Conv2dConfig::new(channels_in, inner, 1),
                    Conv2dConfig::new(inner, inner, 3)
                        .with_stride(stride)
                        .with_groups(groups),
                    Conv2dConfig::new(inner, self.stage_channels(stage), 1),
                ]
            }
        }
    }
}

impl BackboneFamily for ShakeShakeConfig {
    type Network = ShakeShake;

    const PUBLISHED: &'static [Published<Self>] = &[
        Published::cifar10("shake-shake-26-2x96d", |se| Self {
            se,
            ..Self::shake_shake_26_2x96d()
        }),
        Published::cifar100("shake-even-29-2x4x64d", |se| Self {
            se,
            ..Self::shake_even_29_2x4x64d()
        }),
    ];

    fn validate(&self) -> Result<(), BackboneConfigError> {
        let (width, se) = (self.width_multiplier, self.se.as_ref());
        check_common(width, se, SeConfig::validate_fixed_position)?;
        check_counts("layers", self.layers)?;
        check_counts("stem_channels", [self.stem_channels])?;
        check_counts("base_channels", [self.base_channels])?;
        let channels = [0, 1, 2].map(|stage| self.stage_channels(stage));
        check_counts("channels of a stage", channels)?;
        match self.block {
            ShakeBlockKind::Preact => match channels.into_iter().find(|count| count % 2 != 0) {
                Some(odd) => Err(BackboneConfigError::Odd(odd)),
                None => Ok(()),
            },
            ShakeBlockKind::Resnext {
                groups,
                width_per_group,
            } => {
                check_counts("groups", [groups])?;
                check_counts("width_per_group", [width_per_group])?;
                let inner = |stage| inner_channels(self.planes(stage), groups, width_per_group);
                check_counts("inner channels of a block", [0, 1, 2].map(inner))
            }
        }
    }

    fn parts(&self) -> Vec<Part> {
        vec![
            Part::new("stem", self.scaled(self.stem_channels), 1),
            Part::new("layer1", self.stage_channels(0), 1),
            Part::new("layer2", self.stage_channels(1), 2),
            Part::new("layer3", self.stage_channels(2), 4),
        ]
    }

    fn init(&self, device: &Device) -> ShakeShake {
        let stem_channels = self.scaled(self.stem_channels);
        let mut channels_in = stem_channels;
        let mut stage = |index: usize| {
            (0..self.layers[index])
                .map(|block| {
                    let stride = if index > 0 && block == 0 { 2 } else { 1 };
                    let built = self.init_block(channels_in, index, stride, device);
                    channels_in = self.stage_channels(index);
                    built
                })
                .collect::<Vec<_>>()
        };
        ShakeShake {
            layer1: stage(0),
            layer2: stage(1),
            layer3: stage(2),
            conv1: Conv2dConfig::new(3, stem_channels, 3).init(device),
            bn1: self.norm.init(stem_channels, device),
            backward: self.backward,
            is_preact: self.is_preact(),
        }
    }

    fn se_position(&self) -> &'static str {
        "mixture of each block's two branches"
    }
}

/// Returns the channels of the grouped 3x3 in a branch with this number of planes.
fn inner_channels(planes: usize, groups: usize, width_per_group: usize) -> usize {
    planes * width_per_group / 64 * groups
}

/// The first branch's coefficient in the mixture of one block, for every image; the second branch has
/// one minus it.
#[derive(Debug, Clone)]
pub struct Mixing {
    /// `[batch]`, of the output.
    pub forward: Tensor<1>,
    /// `[batch]`, of the gradient.
    pub backward: Tensor<1>,
}

impl Mixing {
    /// Mixes the branches' outputs, both `[batch, channels, height, width]`.
    pub fn mix(&self, first: Tensor<4>, second: Tensor<4>) -> Tensor<4> {
        let [batch, ..] = first.dims();
        let per_image = |coefficient: &Tensor<1>| coefficient.clone().reshape([batch, 1, 1, 1]);
        let (forward, backward) = (per_image(&self.forward), per_image(&self.backward));
        // For autodiff this is second + backward * (first - second).
        let difference = first - second.clone();
        let correction = difference.clone().detach() * (forward - backward.clone());
        second + difference * backward + correction
    }
}

/// A branch of a block.
#[derive(Module, Debug)]
pub struct ShakeBranch {
    /// Two or three convolutions in order.
    pub convs: Vec<Conv2d>,
    /// One norm after each.
    pub norms: Vec<Norm>,
}

impl ShakeBranch {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let last = self.convs.len() - 1;
        self.convs
            .iter()
            .zip(&self.norms)
            .enumerate()
            .fold(x, |x, (index, (conv, norm))| {
                forward_normed(conv, norm, x, None, index < last)
            })
    }

    fn trace<'a>(&'a self, tracer: &mut Tracer<'a>) {
        for (index, (conv, norm)) in self.convs.iter().zip(&self.norms).enumerate() {
            tracer.conv(format_args!("convs.{index}"), conv);
            tracer.norm(format_args!("norms.{index}"), norm);
            if index + 1 < self.convs.len() {
                tracer.relu(format_args!("norms.{index}"));
            }
        }
    }
}

/// A shortcut that changes the shape.
#[derive(Module, Debug)]
pub struct ShakeShortcut {
    /// Strided 1x1: one, or two that give half of the channels each.
    pub convs: Vec<Conv2d>,
    /// The norm over all channels.
    pub norm: Norm,
}

impl ShakeShortcut {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let paths = self.convs.iter().enumerate().map(|(index, conv)| {
            // The paper's average pooling of 1x1 is the stride of the convolution.
            conv.forward(shifted(x.clone(), index))
        });
        self.norm
            .forward(Tensor::cat(paths.collect(), 1), None, false)
    }

    fn trace<'a>(&'a self, tracer: &mut Tracer<'a>) {
        let input = tracer.current();
        let mut paths = Vec::with_capacity(self.convs.len());
        for (index, conv) in self.convs.iter().enumerate() {
            tracer.resume(input);
            if index > 0 {
                tracer.shift(format_args!("shifted.{index}"), index);
            }
            tracer.conv(format_args!("convs.{index}"), conv);
            paths.push(tracer.current());
        }
        tracer.concat("concat", &paths);
        tracer.norm("norm", &self.norm);
    }
}

/// Shifts a feature map right and down by a number of pixels and fills with zeros.
fn shifted(x: Tensor<4>, by: usize) -> Tensor<4> {
    if by == 0 {
        return x;
    }
    let [_, _, height, width] = x.dims();
    x.pad((by, 0, by, 0), PadMode::Constant(0.0))
        .slice(burn::tensor::s![.., .., 0..height, 0..width])
}

/// A residual block of two branches.
#[derive(Module, Debug)]
pub struct ShakeBlock {
    /// The two branches.
    pub branches: Vec<ShakeBranch>,
    /// The shortcut's layers, where the shape changes.
    pub shortcut: Option<ShakeShortcut>,
    /// The SE unit on the mixture, in SE networks.
    pub se: Option<SeUnit>,
    /// Whether the block begins with a ReLU.
    is_preact: bool,
}

impl ShakeBlock {
    /// Computes `[batch, channels_out, h / stride, w / stride]` from `[batch, channels_in, h, w]`;
    /// without coefficients both branches have one half.
    fn forward(&self, x: Tensor<4>, mixing: Option<&Mixing>) -> Tensor<4> {
        let input = if self.is_preact {
            relu(x.clone())
        } else {
            x.clone()
        };
        let shortcut = match &self.shortcut {
            Some(shortcut) => shortcut.forward(input.clone()),
            None => x,
        };
        let first = self.branches[0].forward(input.clone());
        let second = self.branches[1].forward(input);
        let mixture = match mixing {
            Some(mixing) => mixing.mix(first, second),
            None => (first + second) * 0.5,
        };
        let mixture = match &self.se {
            Some(se) => se.forward(mixture),
            None => mixture,
        };
        if self.is_preact {
            shortcut + mixture
        } else {
            add_relu(mixture, shortcut)
        }
    }

    fn trace<'a>(&'a self, tracer: &mut Tracer<'a>) {
        let mut shortcut = tracer.current();
        if self.is_preact {
            tracer.relu("input");
        }
        let input = tracer.current();
        if let Some(layers) = &self.shortcut {
            tracer.within("shortcut", |tracer| layers.trace(tracer));
            shortcut = tracer.current();
        }
        let mut outputs = Vec::with_capacity(self.branches.len());
        for (index, branch) in self.branches.iter().enumerate() {
            tracer.resume(input);
            tracer.within(format!("branches.{index}"), |tracer| branch.trace(tracer));
            outputs.push(tracer.current());
        }
        tracer.sum("branches", &outputs);
        tracer.scale("mixture", 0.5);
        tracer.se(self.se.as_ref());
        tracer.sum("sum", &[tracer.current(), shortcut]);
        if !self.is_preact {
            tracer.last_relu();
        }
    }
}

/// A Shake-Shake network without its classifier. The last feature map has stride 4, sizes rounded up,
/// and ends with a ReLU.
#[derive(Module, Debug)]
pub struct ShakeShake {
    /// The stem, 3x3.
    pub conv1: Conv2d,
    /// Its norm.
    pub bn1: Norm,
    /// Stage 1, stride 1.
    pub layer1: Vec<ShakeBlock>,
    /// Stage 2, stride 2.
    pub layer2: Vec<ShakeBlock>,
    /// Stage 3, stride 4.
    pub layer3: Vec<ShakeBlock>,
    #[module(skip)]
    backward: BackwardMix,
    /// Whether blocks begin with a ReLU.
    is_preact: bool,
}

impl ShakeShake {
    /// Computes the last feature map with these mixing coefficients, one entry per block in order.
    /// Blocks beyond the list mix their branches equally.
    pub fn forward_mixed(&self, pixels: Tensor<4>, mixings: &[Mixing]) -> Tensor<4> {
        let mut first = 0;
        (0..Self::PARTS).fold(pixels, |x, part| {
            let blocks = self.blocks(part).len();
            let own = mixings.iter().skip(first).take(blocks);
            first += blocks;
            self.forward_part_mixed(part, x, own.collect())
        })
    }

    /// Computes one part; `mixings` belong to its blocks.
    fn forward_part_mixed(&self, part: usize, x: Tensor<4>, mixings: Vec<&Mixing>) -> Tensor<4> {
        if part == 0 {
            // Where blocks begin with a ReLU, the stem needs none.
            let with_relu = !self.is_preact;
            return self.bn1.forward(self.conv1.forward(x), None, with_relu);
        }
        let blocks = self.blocks(part).iter().enumerate();
        let x = blocks.fold(x, |x, (index, block)| {
            block.forward(x, mixings.get(index).copied())
        });
        if part == Self::PARTS - 1 && self.is_preact {
            relu(x)
        } else {
            x
        }
    }

    /// Draws the mixing coefficients of one part's blocks for a training step.
    fn draw(&self, part: usize, batch: usize, device: &Device) -> Vec<Mixing> {
        let drawn = || Tensor::random([batch], Distribution::Uniform(0.0, 1.0), device);
        let mixing = |_| Mixing {
            forward: drawn(),
            backward: match self.backward {
                BackwardMix::Shake => drawn(),
                BackwardMix::Even => Tensor::full([batch], 0.5, device),
            },
        };
        self.blocks(part).iter().map(mixing).collect()
    }

    /// Returns the blocks of a part; none in the stem.
    fn blocks(&self, part: usize) -> &[ShakeBlock] {
        match part {
            1 => &self.layer1,
            2 => &self.layer2,
            3 => &self.layer3,
            _ => &[],
        }
    }
}

/// In training, where input and parameters are on an autodiff device, the mixing coefficients are drawn from the device's random numbers: seed them
/// with [`Device::seed`](burn::tensor::Device::seed) for a repeatable step.
impl Backbone for ShakeShake {
    const PARTS: usize = 4;

    fn forward_part(&self, part: usize, x: Tensor<4>) -> Tensor<4> {
        let device = x.device();
        // Parameters of a network in evaluation mode are not on an autodiff device, whatever `x` is.
        let is_training = device.is_autodiff() && self.conv1.weight.val().device().is_autodiff();
        let mixings = if is_training {
            self.draw(part, x.dims()[0], &device)
        } else {
            Vec::new()
        };
        self.forward_part_mixed(part, x, mixings.iter().collect())
    }

    fn trace_part<'a>(&'a self, part: usize, tracer: &mut Tracer<'a>) {
        if part == 0 {
            tracer.conv("conv1", &self.conv1);
            tracer.norm("bn1", &self.bn1);
            // Where blocks begin with a ReLU, the stem needs none.
            if !self.is_preact {
                tracer.relu("bn1");
            }
        }
        for (index, block) in self.blocks(part).iter().enumerate() {
            tracer.within(format!("layer{part}.{index}"), |tracer| block.trace(tracer));
        }
        if part == Self::PARTS - 1 && self.is_preact {
            tracer.last_relu();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_configurations_are_refused() {
        let published = ShakeShakeConfig::shake_even_29_2x4x64d();
        assert_eq!(published.validate(), Ok(()));
        let kind = |groups, width_per_group| ShakeBlockKind::Resnext {
            groups,
            width_per_group,
        };
        for (block, field) in [
            (kind(0, 64), "groups"),
            (kind(4, 0), "width_per_group"),
            (kind(4, usize::MAX), "width_per_group"),
        ] {
            let config = ShakeShakeConfig {
                block,
                ..published.clone()
            };
            let error = config.validate().unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
        let odd = ShakeShakeConfig {
            base_channels: 7,
            ..ShakeShakeConfig::shake_shake_26_2x96d()
        };
        assert_eq!(odd.validate(), Err(BackboneConfigError::Odd(7)));
    }

    #[test]
    fn a_configuration_is_read_back_as_it_was_written() {
        let config = ShakeShakeConfig {
            se: Some(SeConfig::default()),
            ..ShakeShakeConfig::shake_even_29_2x4x64d()
        };
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(
            serde_json::from_str::<ShakeShakeConfig>(&text).unwrap(),
            config
        );
        let without_width = text.replace("\"width_multiplier\":1.0,", "");
        assert_ne!(without_width, text);
        assert_eq!(
            serde_json::from_str::<ShakeShakeConfig>(&without_width).unwrap(),
            config
        );
    }

    #[test]
    fn shifting_moves_values_one_pixel_right_and_down() {
        let device = Device::flex();
        let x = Tensor::<4>::from_floats([[[[1.0, 2.0], [3.0, 4.0]]]], &device);
        let moved = shifted(x, 1).try_into_vec_as::<f32>().unwrap();
        assert_eq!(moved, [0.0, 0.0, 0.0, 1.0]);
    }
}
