//! The layers of each family of backbones as nodes.
//!
//! Each function follows `forward_part` of its family, in evaluation mode.

use super::graph::{GraphBuilder, SPATIAL_AXES, int, ints, window};
use crate::backbones::bn_inception::{self, BnInception};
use crate::backbones::inception_resnet_v2::{self, InceptionResnetV2};
use crate::backbones::mobilenet::{self, Mobilenet};
use crate::backbones::preact_resnet::{PreactBlock, PreactResNet};
use crate::backbones::resnet::{ResNet, Reshape, ResidualBlock};
use crate::backbones::shake_shake::{ShakeBlock, ShakeShake, ShakeShortcut};
use crate::backbones::shufflenet::{self, ShuffleUnit, Shufflenet};
use crate::backbones::vgg::{self, Vgg};
use crate::backbones::{AnyBackbone, Backbone as _};
use sedet_nn::nn::branches::Branch;
use sedet_nn::nn::se::SePosition;

impl GraphBuilder {
    /// Adds a backbone and returns the output of each of its parts.
    pub(super) fn backbone(&mut self, at: &str, network: &AnyBackbone, x: &str) -> Vec<String> {
        let mut outputs = Vec::with_capacity(network.parts());
        let mut x = x.to_owned();
        for part in 0..network.parts() {
            x = match network {
                AnyBackbone::Resnet(network) => self.resnet(at, network, part, x),
                AnyBackbone::Vgg(network) => self.vgg(at, network, part, x),
                AnyBackbone::BnInception(network) => self.bn_inception(at, network, part, x),
                AnyBackbone::InceptionResnetV2(network) => {
                    self.inception_resnet_v2(at, network, part, x)
                }
                AnyBackbone::Mobilenet(network) => self.mobilenet(at, network, part, x),
                AnyBackbone::Shufflenet(network) => self.shufflenet(at, network, part, x),
                AnyBackbone::PreactResnet(network) => self.preact_resnet(at, network, part, x),
                AnyBackbone::ShakeShake(network) => self.shake_shake(at, network, part, x),
            };
            outputs.push(x.clone());
        }
        outputs
    }

    fn resnet(&mut self, at: &str, network: &ResNet, part: usize, x: String) -> String {
        let stages = [
            &network.layer1,
            &network.layer2,
            &network.layer3,
            &network.layer4,
        ];
        let Some(stage) = part.checked_sub(1) else {
            return self.resnet_stem(at, network, &x);
        };
        let blocks = stages[stage].iter().enumerate();
        blocks.fold(x, |x, (n, block)| {
            self.residual_block(&format!("{at}.layer{part}.{n}"), block, &x)
        })
    }

    fn resnet_stem(&mut self, at: &str, network: &ResNet, x: &str) -> String {
        let (conv1, bn1) = (format!("{at}.conv1"), format!("{at}.bn1"));
        let mut x = self.normed([&conv1, &bn1], &network.conv1, &network.bn1, x);
        x = self.relu(&bn1, &x);
        let rest = network.stem_convs.iter().zip(&network.stem_norms);
        for (n, (conv, norm)) in rest.enumerate() {
            let names = [
                format!("{at}.stem_convs.{n}"),
                format!("{at}.stem_norms.{n}"),
            ];
            x = self.normed([&names[0], &names[1]], conv, norm, &x);
            x = self.relu(&names[1], &x);
        }
        for (n, pool) in network.pools().iter().enumerate() {
            let name = match n {
                0 => format!("{at}.pooling"),
                n => format!("{at}.pooling.{n}"),
            };
            x = self.pool(&name, *pool, &x);
        }
        x
    }

    fn residual_block(&mut self, at: &str, block: &ResidualBlock, x: &str) -> String {
        let mut shortcut = self.reshape(&format!("{at}.shortcut"), block.reshape(), x);
        if let Some(downsample) = &block.downsample {
            let names = [
                format!("{at}.downsample.conv"),
                format!("{at}.downsample.norm"),
            ];
            let names = [names[0].as_str(), names[1].as_str()];
            shortcut = self.normed(names, &downsample.conv, &downsample.norm, &shortcut);
        }
        let se_at = |position| {
            let se = block.se.as_ref();
            se.filter(|se| se.config().position == position)
        };
        shortcut = self.optional_se(at, se_at(SePosition::Identity), shortcut);
        let clamped_before_se = block.se.as_ref().is_some_and(|se| se.config().after_relu);
        let last = block.convs.len() - 1;
        let mut branch = self.optional_se(at, se_at(SePosition::Pre), x.to_owned());
        for (n, (conv, norm)) in block.convs.iter().zip(&block.norms).enumerate() {
            if n == last {
                branch = self.optional_se(at, se_at(SePosition::Conv3x3), branch);
            }
            let names = [format!("{at}.convs.{n}"), format!("{at}.norms.{n}")];
            branch = self.normed([&names[0], &names[1]], conv, norm, &branch);
            if n < last || clamped_before_se {
                branch = self.relu(&names[1], &branch);
            }
            if let Some(pool) = block.pool_after(n) {
                branch = self.pool(&format!("{at}.anti_alias"), pool, &branch);
            }
        }
        branch = self.optional_se(at, se_at(SePosition::Standard), branch);
        let sum = self.sum(at, [&branch, &shortcut]);
        let sum = self.relu(at, &sum);
        self.optional_se(at, se_at(SePosition::Post), sum)
    }

    /// Adds the part of a shortcut that has no weights.
    fn reshape(&mut self, at: &str, reshape: Reshape, x: &str) -> String {
        let mut x = x.to_owned();
        if let Some(options) = reshape.pooling() {
            let mut attributes = window(options.kernel_size, options.stride, options.padding);
            attributes.push(int("ceil_mode", options.ceil_mode.into()));
            attributes.push(int("count_include_pad", options.count_include_pad.into()));
            x = self.node(&format!("{at}.pool"), "AveragePool", &[&x], attributes);
        }
        if reshape.stride != 1 {
            let stride = reshape.stride as i64;
            let start = self.constant("slice_start", &[0, 0]);
            // The largest integer is ONNX's "to the end" of an axis of unknown length.
            let end = self.constant("slice_end", &[i64::MAX, i64::MAX]);
            let axes = self.constant(SPATIAL_AXES.0, &SPATIAL_AXES.1);
            let steps = self.constant(&format!("slice_steps_{stride}"), &[stride, stride]);
            let inputs = [x.as_str(), &start, &end, &axes, &steps];
            x = self.node(&format!("{at}.slice"), "Slice", &inputs, vec![]);
        }
        let [before, after] = reshape.zero_channels().map(|count| count as i64);
        if [before, after] != [0, 0] {
            let pads = [0, before, 0, 0, 0, after, 0, 0];
            let pads = self.constant(&format!("pads_{before}_{after}"), &pads);
            x = self.node(&format!("{at}.pad"), "Pad", &[&x, &pads], vec![]);
        }
        x
    }

    fn vgg(&mut self, at: &str, network: &Vgg, part: usize, x: String) -> String {
        let x = match part {
            0 => self.vgg_stage(at, network, 0, x),
            _ => x,
        };
        let pool = format!("{at}.stages.{part}.pool");
        let x = self.pool(&pool, vgg::POOL, &x);
        if part + 1 < network.stages.len() {
            self.vgg_stage(at, network, part + 1, x)
        } else {
            x
        }
    }

    fn vgg_stage(&mut self, at: &str, network: &Vgg, stage: usize, x: String) -> String {
        let layers = network.stages[stage].layers.iter().enumerate();
        layers.fold(x, |x, (n, layer)| {
            let at = format!("{at}.stages.{stage}.layers.{n}");
            let x = self.conv_norm_relu(&format!("{at}.conv_norm"), &layer.conv_norm, &x);
            self.optional_se(&at, layer.se.as_ref(), x)
        })
    }

    fn mobilenet(&mut self, at: &str, network: &Mobilenet, part: usize, x: String) -> String {
        let x = match part {
            0 => self.conv_norm_relu(&format!("{at}.stem"), &network.stem, &x),
            _ => x,
        };
        mobilenet::blocks_of(part).fold(x, |x, n| {
            let (at, block) = (format!("{at}.blocks.{n}"), &network.blocks[n]);
            let x = self.conv_norm_relu(&format!("{at}.depthwise"), &block.depthwise, &x);
            let x = self.conv_norm_relu(&format!("{at}.pointwise"), &block.pointwise, &x);
            self.optional_se(&at, block.se.as_ref(), x)
        })
    }

    fn shufflenet(&mut self, at: &str, network: &Shufflenet, part: usize, x: String) -> String {
        match part {
            0 => self.conv_norm_relu(&format!("{at}.stem"), &network.stem, &x),
            1 => self.pool(&format!("{at}.stem.pool"), shufflenet::STEM_POOL, &x),
            _ => shufflenet::units_of(part).fold(x, |x, n| {
                self.shuffle_unit(&format!("{at}.units.{n}"), &network.units[n], &x)
            }),
        }
    }

    fn shuffle_unit(&mut self, at: &str, unit: &ShuffleUnit, x: &str) -> String {
        let branch = self.conv_norm_relu(&format!("{at}.reduce"), &unit.reduce, x);
        let [channels, _, _, _] = unit.reduce.conv.weight.lazy_shape().dims();
        let branch = self.shuffle(&format!("{at}.shuffle"), channels, unit.groups, &branch);
        let branch = self.conv_norm(&format!("{at}.depthwise"), &unit.depthwise, &branch);
        let branch = self.conv_norm(&format!("{at}.expand"), &unit.expand, &branch);
        let branch = self.optional_se(at, unit.se.as_ref(), branch);
        if unit.halves {
            let pooled = self.pool(&format!("{at}.pool"), shufflenet::SHORTCUT_POOL, x);
            let branch = self.relu(at, &branch);
            self.concat(at, 1, &[pooled, branch])
        } else {
            let sum = self.sum(at, [&branch, x]);
            self.relu(at, &sum)
        }
    }

    /// Interleaves the channels of all groups.
    fn shuffle(&mut self, at: &str, channels: usize, groups: usize, x: &str) -> String {
        let each = channels / groups;
        // A zero keeps the size of the axis.
        let split = [0, groups as i64, each as i64, -1];
        let split = self.constant(&format!("groups_{groups}_{each}"), &split);
        let shape = self.shape(&format!("{at}.shape"), x, 0..4);
        let grouped = format!("{at}.grouped");
        let grouped = self.node(&grouped, "Reshape", &[x, &split], vec![]);
        let swapped = format!("{at}.swapped");
        let perm = vec![ints("perm", &[0, 2, 1, 3])];
        let swapped = self.node(&swapped, "Transpose", &[&grouped], perm);
        self.node(at, "Reshape", &[&swapped, &shape], vec![])
    }

    fn bn_inception(&mut self, at: &str, network: &BnInception, part: usize, x: String) -> String {
        let pool = |graph: &mut Self, conv: usize, x: &str| {
            graph.pool(
                &format!("{at}.stem.{conv}.pool"),
                bn_inception::STEM_POOL,
                x,
            )
        };
        let x = match part {
            0 => self.conv_norm_relu(&format!("{at}.stem.0"), &network.stem[0], &x),
            1 => {
                let pooled = pool(self, 0, &x);
                let rest = network.stem.iter().enumerate().skip(1);
                rest.fold(pooled, |x, (n, conv)| {
                    self.conv_norm_relu(&format!("{at}.stem.{n}"), conv, &x)
                })
            }
            2 => pool(self, 2, &x),
            _ => x,
        };
        bn_inception::modules_of(part).fold(x, |x, n| {
            let (at, module) = (format!("{at}.modules.{n}"), &network.modules[n]);
            let x = self.branches(&format!("{at}.branches"), &module.branches, &x);
            self.optional_se(&at, module.se.as_ref(), x)
        })
    }

    /// Adds parallel branches and the concatenation of their outputs.
    fn branches(&mut self, at: &str, branches: &[Branch], x: &str) -> String {
        let mut outputs = Vec::with_capacity(branches.len());
        for (n, branch) in branches.iter().enumerate() {
            let at = format!("{at}.{n}");
            let mut x = x.to_owned();
            if let Some(pool) = branch.pool() {
                x = self.pool(&format!("{at}.pool"), pool, &x);
            }
            for (n, conv) in branch.convs.iter().enumerate() {
                x = self.conv_norm_relu(&format!("{at}.convs.{n}"), conv, &x);
            }
            outputs.push(x);
        }
        self.concat(at, 1, &outputs)
    }

    fn inception_resnet_v2(
        &mut self,
        at: &str,
        network: &InceptionResnetV2,
        part: usize,
        x: String,
    ) -> String {
        let x = match part {
            1 | 2 => {
                let name = format!("{at}.stem.{}.pool", 2 * part);
                self.pool(&name, network.pool, &x)
            }
            _ => x,
        };
        let x = inception_resnet_v2::stem_of(part).fold(x, |x, n| {
            self.conv_norm_relu(&format!("{at}.stem.{n}"), &network.stem[n], &x)
        });
        let Some(stage) = part.checked_sub(2) else {
            return x;
        };
        let (name, stage) = (format!("{at}.stages.{stage}"), &network.stages[stage]);
        let x = self.branches(&format!("{name}.transition"), &stage.transition, &x);
        let blocks = stage.blocks.iter().enumerate();
        let x = blocks.fold(x, |x, (n, block)| {
            self.inception_residual(&format!("{name}.blocks.{n}"), block, &x)
        });
        if part + 1 == InceptionResnetV2::PARTS {
            self.conv_norm_relu(&format!("{at}.last"), &network.last, &x)
        } else {
            x
        }
    }

    fn inception_residual(
        &mut self,
        at: &str,
        block: &inception_resnet_v2::Block,
        x: &str,
    ) -> String {
        let joined = self.branches(&format!("{at}.branches"), &block.branches, x);
        let conv = format!("{at}.conv");
        let branch = self.conv(&conv, &conv, &block.conv, &joined);
        let branch = self.optional_se(at, block.se.as_ref(), branch);
        let scaled = self.scaled(&format!("{at}.scaled"), block.scale as f32, &branch);
        let sum = self.sum(at, [&scaled, x]);
        if block.with_relu {
            self.relu(at, &sum)
        } else {
            sum
        }
    }

    fn preact_resnet(
        &mut self,
        at: &str,
        network: &PreactResNet,
        part: usize,
        x: String,
    ) -> String {
        let stages = [&network.layer1, &network.layer2, &network.layer3];
        let Some(stage) = part.checked_sub(1) else {
            let conv1 = format!("{at}.conv1");
            return self.conv(&conv1, &conv1, &network.conv1, &x);
        };
        let blocks = stages[stage].iter().enumerate();
        let x = blocks.fold(x, |x, (n, block)| {
            self.preact_block(&format!("{at}.layer{part}.{n}"), block, &x)
        });
        if part == stages.len() {
            let norm = format!("{at}.norm");
            let x = self.norm(&norm, &network.norm, &x);
            self.relu(&norm, &x)
        } else {
            x
        }
    }

    fn preact_block(&mut self, at: &str, block: &PreactBlock, x: &str) -> String {
        let mut branch = x.to_owned();
        let mut shortcut = x.to_owned();
        for (n, (norm, conv)) in block.norms.iter().zip(&block.convs).enumerate() {
            let name = format!("{at}.norms.{n}");
            branch = self.norm(&name, norm, &branch);
            branch = self.relu(&name, &branch);
            if let (0, Some(projection)) = (n, &block.projection) {
                let name = format!("{at}.projection");
                shortcut = self.conv(&name, &name, projection, &branch);
            }
            let name = format!("{at}.convs.{n}");
            branch = self.conv(&name, &name, conv, &branch);
        }
        branch = self.optional_se(at, block.se.as_ref(), branch);
        self.sum(at, [&branch, &shortcut])
    }

    fn shake_shake(&mut self, at: &str, network: &ShakeShake, part: usize, x: String) -> String {
        let stages = [&network.layer1, &network.layer2, &network.layer3];
        let Some(stage) = part.checked_sub(1) else {
            let names = [format!("{at}.conv1"), format!("{at}.bn1")];
            let [conv1, bn1] = [names[0].as_str(), &names[1]];
            let x = self.normed([conv1, bn1], &network.conv1, &network.bn1, &x);
            // Where blocks begin with a ReLU, the stem needs none.
            return if network.is_preact {
                x
            } else {
                self.relu(bn1, &x)
            };
        };
        let blocks = stages[stage].iter().enumerate();
        let x = blocks.fold(x, |x, (n, block)| {
            self.shake_block(&format!("{at}.layer{part}.{n}"), block, &x)
        });
        if part == stages.len() && network.is_preact {
            self.relu(at, &x)
        } else {
            x
        }
    }

    fn shake_block(&mut self, at: &str, block: &ShakeBlock, x: &str) -> String {
        let input = if block.is_preact {
            self.relu(&format!("{at}.input"), x)
        } else {
            x.to_owned()
        };
        let shortcut = match &block.shortcut {
            Some(shortcut) => self.shake_shortcut(&format!("{at}.shortcut"), shortcut, &input),
            None => x.to_owned(),
        };
        let mut outputs = Vec::with_capacity(block.branches.len());
        for (n, branch) in block.branches.iter().enumerate() {
            let at = format!("{at}.branches.{n}");
            let last = branch.convs.len() - 1;
            let mut x = input.clone();
            for (n, (conv, norm)) in branch.convs.iter().zip(&branch.norms).enumerate() {
                let names = [format!("{at}.convs.{n}"), format!("{at}.norms.{n}")];
                x = self.normed([&names[0], &names[1]], conv, norm, &x);
                if n < last {
                    x = self.relu(&names[1], &x);
                }
            }
            outputs.push(x);
        }
        let both = self.node(&format!("{at}.branches"), "Sum", &outputs, vec![]);
        let mixture = self.scaled(&format!("{at}.mixture"), 0.5, &both);
        let mixture = self.optional_se(at, block.se.as_ref(), mixture);
        let sum = self.sum(at, [&mixture, &shortcut]);
        if block.is_preact {
            sum
        } else {
            self.relu(at, &sum)
        }
    }

    fn shake_shortcut(&mut self, at: &str, shortcut: &ShakeShortcut, x: &str) -> String {
        let mut paths = Vec::with_capacity(shortcut.convs.len());
        for (n, conv) in shortcut.convs.iter().enumerate() {
            let name = format!("{at}.convs.{n}");
            let shifted = self.shifted(&format!("{at}.shifted.{n}"), n, x);
            paths.push(self.conv(&name, &name, conv, &shifted));
        }
        let joined = self.concat(&format!("{at}.joined"), 1, &paths);
        self.norm(&format!("{at}.norm"), &shortcut.norm, &joined)
    }

    /// Shifts a feature map right and down by a number of pixels and fills with zeros.
    fn shifted(&mut self, at: &str, by: usize, x: &str) -> String {
        if by == 0 {
            return x.to_owned();
        }
        // Negative padding removes pixels.
        let by = by as i64;
        let pads = [0, 0, by, by, 0, 0, -by, -by];
        let pads = self.constant(&format!("shift_{by}"), &pads);
        self.node(at, "Pad", &[x, &pads], vec![])
    }

    /// Adds the product with a number.
    fn scaled(&mut self, at: &str, factor: f32, x: &str) -> String {
        let factor = self.floats(&format!("{at}.factor"), vec![], &[factor]);
        self.node(at, "Mul", &[x, &factor], vec![])
    }

    fn sum(&mut self, at: &str, terms: [&str; 2]) -> String {
        self.node(&format!("{at}.sum"), "Add", &terms, vec![])
    }
}
