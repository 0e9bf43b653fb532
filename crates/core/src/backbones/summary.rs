//! Parameters, multiply-adds and output sizes of a network's layers, and the graph of its operations, without
//! running it.
//!
//! A [`Tracer`] follows the forward pass of a module with the shape of one image's feature map instead
//! of the feature map.

use std::fmt::Display;

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::activation::relu;
use burn::tensor::module::adaptive_avg_pool2d;
use burn::tensor::ops::PadMode;
use burn::tensor::{Device, Tensor, s};
use serde::Serialize;

use sedet_nn::nn::branches::Branch;
use sedet_nn::nn::conv::{Conv2d, forward_linear};
use sedet_nn::nn::conv_norm::ConvNorm;
use sedet_nn::nn::norm::Norm;
use sedet_nn::nn::pool::Pool2d;
use sedet_nn::nn::se::{SeUnit, Squeeze};

/// Height and width of the image for questions that do not depend on them, such as the names of layers: every network
/// accepts it.
pub(crate) const NOMINAL_SIZE: [usize; 2] = [512; 2];

/// The type of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerKind {
    /// A convolution.
    Conv,
    /// Batch norm, with the ReLU after it.
    Norm,
    /// Pooling, over windows or whole feature maps.
    Pool,
    /// An SE unit, with the scaling of its input.
    Se,
    /// A linear layer.
    Linear,
}

impl LayerKind {
    /// Returns the name for tables and CSV files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Conv => "conv",
            Self::Norm => "norm",
            Self::Pool => "pool",
            Self::Se => "se",
            Self::Linear => "linear",
        }
    }
}

/// One layer with its parameters and multiply-adds for one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerSummary {
    /// Its path in the network, a prefix of the names of its tensors in a checkpoint.
    pub name: String,
    /// Its type.
    pub kind: LayerKind,
    /// Channels, height and width of its output.
    pub output: [usize; 3],
    /// Number of parameters, without running statistics.
    pub parameters: u64,
    /// Multiply-adds of convolutions, linear layers and the SE scaling. Norms count as zero, since they
    /// can be folded into the convolution.
    pub macs: u64,
}

impl LayerSummary {
    /// Returns the size of its output as text: channels, height and width.
    pub fn shape(&self) -> String {
        let [channels, height, width] = self.output;
        format!("{channels}x{height}x{width}")
    }

    /// Returns the number of values of its output.
    pub fn activations(&self) -> u64 {
        self.output.iter().map(|&n| n as u64).product()
    }
}

/// A network's layers in the order of its forward pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Every layer with parameters, and pooling.
    pub layers: Vec<LayerSummary>,
}

impl Summary {
    /// Returns the total number of parameters.
    pub fn parameters(&self) -> u64 {
        self.layers.iter().map(|layer| layer.parameters).sum()
    }

    /// Returns the multiply-adds for one image. This is what the "GFLOPs" of the SENet paper count.
    pub fn macs(&self) -> u64 {
        self.layers.iter().map(|layer| layer.macs).sum()
    }

    /// Returns the bytes of the 32-bit outputs of all layers for one image: what a training step keeps
    /// for the backward pass. Inference needs a few feature maps at a time.
    pub fn activation_bytes(&self) -> u64 {
        4 * self
            .layers
            .iter()
            .map(LayerSummary::activations)
            .sum::<u64>()
    }

    /// Formats the layers as comma-separated values.
    pub fn to_csv(&self) -> String {
        let head = ["name", "kind", "output", "parameters", "macs"].map(String::from);
        let layers = self.layers.iter().map(|layer| {
            [
                layer.name.clone(),
                layer.kind.name().to_owned(),
                layer.shape(),
                layer.parameters.to_string(),
                layer.macs.to_string(),
            ]
        });
        sedet_data::csv::to_csv(std::iter::once(head).chain(layers))
    }

    /// Returns channels, height and width of the last output; none without layers.
    pub fn output(&self) -> Option<[usize; 3]> {
        self.layers.last().map(|layer| layer.output)
    }
}

/// An image that is too small for a layer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "an image of {}x{} pixels (height x width) is too small: nothing is left of it at {layer}", size[0], size[1]
)]
pub struct TooSmall {
    /// Height and width of the image.
    pub size: [usize; 2],
    /// The first layer whose window does not fit.
    pub layer: String,
}

/// An operation of a traced network, in evaluation mode.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Operation<'a> {
    /// A feature map that no traced operation computes; the first is the image.
    Input,
    Conv(&'a Conv2d),
    Norm(&'a Norm),
    Relu,
    /// Pooling over windows.
    Pool(Pool2d),
    /// Average pooling of the whole feature map to this number of rows and columns (PyTorch's
    /// `AdaptiveAvgPool2d`).
    PoolTo(usize),
    Se(&'a SeUnit),
    /// A linear layer on the flattened feature map.
    Linear(&'a Linear),
    /// Every n-th row and column, from the first on.
    Subsample(usize),
    /// Zero channels before and after.
    PadChannels([usize; 2]),
    /// Interleaves the channels of all groups.
    Shuffle {
        channels: usize,
        groups: usize,
    },
    /// Shifts right and down by a number of pixels and fills with zeros.
    Shift(usize),
    /// The product with a number.
    Scale(f64),
    /// The sum of all inputs.
    Sum,
    /// The channels of all inputs.
    Concat,
}

impl Operation<'_> {
    /// Returns the name of its kind.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Conv(_) => LayerKind::Conv.name(),
            Self::Norm(_) => LayerKind::Norm.name(),
            Self::Relu => "relu",
            Self::Pool(_) | Self::PoolTo(_) => LayerKind::Pool.name(),
            Self::Se(_) => LayerKind::Se.name(),
            Self::Linear(_) => LayerKind::Linear.name(),
            Self::Subsample(_) | Self::PadChannels(_) | Self::Shuffle { .. } | Self::Shift(_) => {
                "move"
            }
            Self::Scale(_) => "scale",
            Self::Sum => "sum",
            Self::Concat => "concat",
        }
    }

    /// Computes the output for feature maps `[batch, channels, height, width]`. A linear layer returns its outputs as
    /// channels of one pixel.
    pub(crate) fn compute(&self, mut inputs: Vec<Tensor<4>>) -> Tensor<4> {
        let combined = match *self {
            Self::Sum => inputs.into_iter().reduce(|a, b| a + b),
            Self::Concat => Some(Tensor::cat(inputs, 1)),
            _ => inputs.pop().map(|x| self.compute_one(x)),
        };
        // A trace has no operation without an input.
        combined.unwrap_or_else(|| Tensor::zeros([1; 4], &Device::flex()))
    }

    fn compute_one(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        match *self {
            Self::Input | Self::Sum | Self::Concat => x,
            Self::Conv(conv) => conv.forward(x),
            Self::Norm(norm) => norm.forward(x, None, false),
            Self::Relu => relu(x),
            Self::Pool(pool) => pool.forward(x),
            Self::PoolTo(side) => adaptive_avg_pool2d(x, [side, side]),
            Self::Se(unit) => unit.forward(x),
            Self::Linear(linear) => {
                let y = forward_linear(linear, x.flatten(1, 3));
                let [batch, units] = y.dims();
                y.reshape([batch, units, 1, 1])
            }
            Self::Subsample(stride) => {
                let step = stride as isize;
                x.slice(s![.., .., 0..height as isize;step, 0..width as isize;step])
            }
            Self::PadChannels(zeros) => {
                let device = x.device();
                let [before, after] =
                    zeros.map(|count| Tensor::zeros([batch, count, height, width], &device));
                Tensor::cat(vec![before, x, after], 1)
            }
            Self::Shuffle { channels, groups } => x
                .reshape([batch, groups, channels / groups, height * width])
                .swap_dims(1, 2)
                .reshape([batch, channels, height, width]),
            Self::Shift(by) => x.pad((by, 0, by, 0), PadMode::Constant(0.0)).slice(s![
                0..batch,
                0..channels,
                0..height,
                0..width
            ]),
            Self::Scale(factor) => x * factor,
        }
    }
}

/// A node of a traced network.
#[derive(Debug, Clone)]
pub(crate) struct Node<'a> {
    /// Its path in the network. For a layer with weights, the prefix of their names.
    pub(crate) name: String,
    pub(crate) operation: Operation<'a>,
    /// Positions of the nodes whose outputs it reads.
    pub(crate) inputs: Vec<usize>,
}

/// A feature map in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traced {
    /// Position of the node that computes it.
    pub(crate) node: usize,
    /// Channels, height and width.
    pub shape: [usize; 3],
}

/// Follows the forward pass of a network: each call records an operation on the current feature map, and its output becomes
/// the current one.
#[derive(Debug)]
pub struct Tracer<'a> {
    size: [usize; 2],
    path: Vec<String>,
    current: Traced,
    nodes: Vec<Node<'a>>,
    layers: Vec<LayerSummary>,
    stopped_at: Option<String>,
}

impl<'a> Tracer<'a> {
    /// Starts before the first layer, with an RGB image of this height and width.
    pub fn new(size: [usize; 2]) -> Self {
        let mut tracer = Self {
            size,
            path: Vec::new(),
            current: Traced {
                node: 0,
                shape: [3, size[0], size[1]],
            },
            nodes: Vec::new(),
            layers: Vec::new(),
            stopped_at: None,
        };
        tracer.enter(tracer.current.shape);
        tracer
    }

    /// Continues with a feature map that comes from elsewhere.
    pub(crate) fn enter(&mut self, shape: [usize; 3]) {
        self.apply("", Operation::Input, &[], shape);
    }

    /// Takes the layers recorded so far.
    pub(super) fn take_layers(&mut self) -> Vec<LayerSummary> {
        std::mem::take(&mut self.layers)
    }

    /// Returns the recorded layers.
    ///
    /// # Errors
    /// [`TooSmall`] when a convolution or pooling window did not fit.
    pub fn finish(self) -> Result<Summary, TooSmall> {
        match self.stopped_at {
            None => Ok(Summary {
                layers: self.layers,
            }),
            Some(layer) => Err(TooSmall {
                size: self.size,
                layer,
            }),
        }
    }

    /// Returns the recorded operations.
    pub(crate) fn nodes(&self) -> &[Node<'a>] {
        &self.nodes
    }

    /// Returns the current feature map.
    pub fn current(&self) -> Traced {
        self.current
    }

    /// Continues with another feature map, such as the input of a shortcut.
    pub fn resume(&mut self, at: Traced) {
        self.current = at;
    }

    /// Prefixes the names of all layers that `walk` records.
    pub fn within(&mut self, name: impl Display, walk: impl FnOnce(&mut Self)) {
        self.path.push(name.to_string());
        walk(self);
        self.path.pop();
    }

    fn full_name(&self, name: impl Display) -> String {
        let mut full = self.path.join(".");
        if !full.is_empty() {
            full.push('.');
        }
        full + &name.to_string()
    }

    /// Adds an operation; its output becomes the current feature map.
    fn apply(
        &mut self,
        name: impl Display,
        operation: Operation<'a>,
        inputs: &[Traced],
        shape: [usize; 3],
    ) {
        self.current = Traced {
            node: self.nodes.len(),
            shape,
        };
        self.nodes.push(Node {
            name: self.full_name(name),
            operation,
            inputs: inputs.iter().map(|input| input.node).collect(),
        });
    }

    /// Adds an operation on the current feature map that keeps its shape.
    fn apply_here(&mut self, name: impl Display, operation: Operation<'a>) {
        self.apply(name, operation, &[self.current], self.current.shape);
    }

    /// Lists the last operation as a layer.
    fn list(&mut self, kind: LayerKind, parameters: u64, macs: u64) {
        let name = self.nodes.last().map(|node| node.name.clone());
        self.layers.push(LayerSummary {
            name: name.unwrap_or_default(),
            kind,
            output: self.current.shape,
            parameters,
            macs,
        });
    }

    /// Stores the first layer whose window does not fit; later sizes are meaningless.
    fn stop(&mut self, name: impl Display) {
        let name = self.full_name(name);
        self.stopped_at.get_or_insert(name);
    }

    /// Records a convolution.
    pub fn conv(&mut self, name: impl Display + Copy, conv: &'a Conv2d) {
        let [_, height, width] = self.current.shape;
        let shape = conv.output_shape([height, width]);
        if shape.is_none() {
            self.stop(name);
        }
        let shape = shape.unwrap_or(self.current.shape);
        self.apply(name, Operation::Conv(conv), &[self.current], shape);
        let weights = count(&conv.weight);
        let parameters = weights + conv.bias.as_ref().map_or(0, count);
        self.list(LayerKind::Conv, parameters, weights * self.pixels());
    }

    /// Records a norm.
    pub fn norm(&mut self, name: impl Display, norm: &'a Norm) {
        self.apply_here(name, Operation::Norm(norm));
        let parameters = count(&norm.weight) + count(&norm.bias);
        self.list(LayerKind::Norm, parameters, 0);
    }

    /// Records a ReLU; `name` is that of what comes before.
    pub(crate) fn relu(&mut self, name: impl Display) {
        self.apply_here(format_args!("{name}.relu"), Operation::Relu);
    }

    /// Records a ReLU of the module's output.
    pub(crate) fn last_relu(&mut self) {
        self.apply_here("relu", Operation::Relu);
    }

    /// Records a convolution and its norm.
    pub fn conv_norm(&mut self, name: impl Display, layer: &'a ConvNorm) {
        self.within(name, |tracer| {
            tracer.conv("conv", &layer.conv);
            tracer.norm("norm", &layer.norm);
        });
    }

    /// Records a convolution, its norm and ReLU.
    pub fn conv_norm_relu(&mut self, name: impl Display + Copy, layer: &'a ConvNorm) {
        self.conv_norm(name, layer);
        self.relu(name);
    }

    /// Records pooling over windows.
    pub fn pool(&mut self, name: impl Display + Copy, pool: Pool2d) {
        self.unlisted_pool(name, pool);
        self.list(LayerKind::Pool, 0, 0);
    }

    /// Records pooling that is no layer of its own, as that of a shortcut.
    pub(crate) fn unlisted_pool(&mut self, name: impl Display + Copy, pool: Pool2d) {
        let [channels, height, width] = self.current.shape;
        let size = pool.output_size([height, width]);
        if size.is_none() {
            self.stop(name);
        }
        let [height, width] = size.unwrap_or([height, width]);
        let shape = [channels, height, width];
        self.apply(name, Operation::Pool(pool), &[self.current], shape);
    }

    /// Records average pooling of the whole feature map to this number of rows and columns.
    pub(crate) fn pool_to(&mut self, name: impl Display, side: usize) {
        let shape = [self.current.shape[0], side, side];
        self.apply(name, Operation::PoolTo(side), &[self.current], shape);
        self.list(LayerKind::Pool, 0, 0);
    }

    /// Records that every `stride`-th row and column is kept.
    pub(crate) fn subsample(&mut self, name: impl Display, stride: usize) {
        let [channels, height, width] = self.current.shape;
        let shape = [channels, height.div_ceil(stride), width.div_ceil(stride)];
        self.apply(name, Operation::Subsample(stride), &[self.current], shape);
    }

    /// Records zero channels before and after.
    pub(crate) fn pad_channels(&mut self, name: impl Display, [before, after]: [usize; 2]) {
        let [channels, height, width] = self.current.shape;
        let shape = [before + channels + after, height, width];
        let operation = Operation::PadChannels([before, after]);
        self.apply(name, operation, &[self.current], shape);
    }

    /// Records that the channels of all groups are interleaved.
    pub(crate) fn shuffle(&mut self, name: impl Display, groups: usize) {
        let [channels, ..] = self.current.shape;
        self.apply_here(name, Operation::Shuffle { channels, groups });
    }

    /// Records a shift right and down by a number of pixels.
    pub(crate) fn shift(&mut self, name: impl Display, by: usize) {
        self.apply_here(name, Operation::Shift(by));
    }

    /// Records the product with a number.
    pub(crate) fn scale(&mut self, name: impl Display, factor: f64) {
        self.apply_here(name, Operation::Scale(factor));
    }

    /// Records the sum of feature maps of one shape.
    pub(crate) fn sum(&mut self, name: impl Display, terms: &[Traced]) {
        let shape = terms.first().unwrap_or(&self.current).shape;
        self.apply(name, Operation::Sum, terms, shape);
    }

    /// Records the concatenation of the channels of feature maps.
    pub(crate) fn concat(&mut self, name: impl Display, parts: &[Traced]) {
        let [_, height, width] = parts.last().unwrap_or(&self.current).shape;
        let channels = parts.iter().map(|part| part.shape[0]).sum();
        self.apply(name, Operation::Concat, parts, [channels, height, width]);
    }

    /// Records branches whose outputs are concatenated.
    pub fn branches(&mut self, name: impl Display + Copy, branches: &'a [Branch]) {
        let input = self.current;
        let mut outputs = Vec::with_capacity(branches.len());
        for (index, branch) in branches.iter().enumerate() {
            self.resume(input);
            self.within(format_args!("{name}.{index}"), |tracer| {
                if let Some(pool) = branch.pool() {
                    tracer.pool("pool", pool);
                }
                for (index, conv) in branch.convs.iter().enumerate() {
                    tracer.conv_norm_relu(format_args!("convs.{index}"), conv);
                }
            });
            outputs.push(self.current);
        }
        self.concat(name, &outputs);
    }

    /// Records an SE unit named `se`, if there is one.
    pub fn se(&mut self, unit: Option<&'a SeUnit>) {
        let Some(unit) = unit else {
            return;
        };
        self.apply_here("se", Operation::Se(unit));
        let (fc1, fc2) = (linear_costs(&unit.fc1), linear_costs(&unit.fc2));
        let scaling = self.current.shape[0] as u64 * self.pixels();
        // Without a squeeze both layers are applied at every pixel.
        let times = match unit.config().squeeze {
            Squeeze::Average | Squeeze::Max => 1,
            Squeeze::None => self.pixels(),
        };
        self.list(
            LayerKind::Se,
            fc1.parameters + fc2.parameters,
            (fc1.macs + fc2.macs) * times + scaling,
        );
    }

    /// Records a linear layer on the flattened feature map.
    pub fn linear(&mut self, name: impl Display, linear: &'a Linear) {
        let costs = linear_costs(linear);
        let shape = [costs.outputs, 1, 1];
        self.apply(name, Operation::Linear(linear), &[self.current], shape);
        self.list(LayerKind::Linear, costs.parameters, costs.macs);
    }

    fn pixels(&self) -> u64 {
        let [_, height, width] = self.current.shape;
        (height * width) as u64
    }
}

struct LinearCosts {
    outputs: usize,
    parameters: u64,
    macs: u64,
}

fn linear_costs(linear: &Linear) -> LinearCosts {
    let weights = count(&linear.weight);
    LinearCosts {
        outputs: linear.weight.lazy_shape()[1],
        parameters: weights + linear.bias.as_ref().map_or(0, count),
        macs: weights,
    }
}

/// Returns the number of values of a parameter without initializing it.
fn count<const D: usize>(parameter: &Param<Tensor<D>>) -> u64 {
    parameter.lazy_shape().num_elements() as u64
}

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use burn::tensor::Device;
    use sedet_nn::kernels::bf16::ComputePrecision;
    use sedet_nn::nn::se::SePosition;

    use super::*;
    use crate::backbones::{AnyBackbone, BackboneConfig, zoo};
    use crate::weights::random::RandomNumbers;

    /// Computes the output of each operation.
    fn outputs(nodes: &[Node<'_>], pixels: &Tensor<4>) -> Vec<Tensor<4>> {
        let mut outputs: Vec<Tensor<4>> = Vec::new();
        for node in nodes {
            let inputs = match node.operation {
                Operation::Input => vec![pixels.clone()],
                _ => node.inputs.iter().map(|&at| outputs[at].clone()).collect(),
            };
            outputs.push(node.operation.compute(inputs));
        }
        outputs
    }

    /// Returns a narrow network with random weights and statistics, and an image.
    fn narrow(mut config: BackboneConfig) -> (AnyBackbone, Tensor<4>) {
        for width in [0.0625, 0.125, 0.25, 0.5] {
            *config.common_mut().width_multiplier = width;
            if config.validate().is_ok() {
                break;
            }
        }
        let device = Device::flex();
        let mut random = RandomNumbers::new(3);
        let network = config.init(&device).map(&mut random);
        // The smallest image of Inception-ResNet-v2, and an odd size.
        let pixels = random.tensor([1, 3, 75, 81], -1.0..1.0, &device);
        (network, pixels)
    }

    fn assert_traced_as_computed(name: &str, config: BackboneConfig) {
        let (network, pixels) = narrow(config);
        let [_, _, height, width] = pixels.dims();
        let computed = network.part_outputs(pixels.clone(), 0);
        let mut tracer = Tracer::new([height, width]);
        let mut ends = Vec::new();
        for part in 0..network.parts() {
            network.trace_part(part, &mut tracer);
            ends.push(tracer.current());
        }
        let outputs = outputs(tracer.nodes(), &pixels);
        for (end, computed) in ends.into_iter().zip(computed) {
            let traced = outputs[end.node].clone();
            assert_eq!(traced.dims(), computed.dims(), "{name}");
            assert_eq!(traced.dims()[1..], end.shape, "{name}");
            let largest: f32 = computed.clone().abs().max().into_scalar();
            let difference: f32 = (traced - computed).abs().max().into_scalar();
            assert!(largest > 0.0, "{name}");
            assert!(
                // Rounding: up to 4e-6 of the largest number.
                difference <= 5e-5 * largest,
                "{name}: {difference} of {largest}"
            );
        }
    }

    /// Returns the name and the configuration of every network, and of SE units in other places.
    fn every_network() -> Vec<(String, BackboneConfig)> {
        let known = zoo::known_names().into_iter();
        let mut all: Vec<(String, BackboneConfig)> = known
            .map(|name| {
                let config = zoo::network(&name).unwrap().backbone;
                (name, config)
            })
            .collect();
        use SePosition::{Conv3x3, Identity, Post, Pre};
        for name in ["se-resnet18", "se-resnet50", "se-resnet20"] {
            for position in [Pre, Post, Identity, Conv3x3] {
                let mut config = zoo::network(name).unwrap().backbone;
                config.common_mut().se.as_mut().unwrap().position = position;
                all.push((format!("{name}, {position:?}"), config));
            }
        }
        all
    }

    #[test]
    fn every_network_that_is_folded_for_bf16_computes_nearly_what_it_computes_in_32_bits() {
        for (name, config) in every_network() {
            let (network, pixels) = narrow(config);
            let outputs = |precision| {
                let folded = network.clone().folded(precision);
                // The second pass uses what the first one kept.
                let _ = folded.part_outputs(pixels.clone(), 0);
                folded.part_outputs(pixels.clone(), 0)
            };
            let both = [ComputePrecision::F32, ComputePrecision::Bf16].map(outputs);
            let [exact, rounded] = both.map(|parts| parts.into_iter().last().unwrap());
            let norm = |x: Tensor<4>| x.square().sum().into_scalar::<f32>().sqrt();
            let (difference, length) = (norm(rounded - exact.clone()), norm(exact));
            // Rounding: 0.025 of ResNet-110, 0.01 of others. A part that is wrong differs by all of it.
            assert!(
                length > 0.0 && difference <= 0.08 * length,
                "{name}: {difference} of {length}"
            );
        }
    }

    #[test]
    fn the_traced_operations_of_every_network_compute_what_its_forward_pass_does() {
        for (name, config) in every_network() {
            assert_traced_as_computed(&name, config);
        }
    }
}
