//! Parameters, multiply-adds and output sizes of a network's layers, without running it.
//!
//! A [`Tracer`] follows the forward pass of a module with the shape of one image's feature map instead
//! of the feature map.

use std::fmt::Display;

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::Tensor;
use serde::Serialize;

use sedet_nn::nn::branches::Branch;
use sedet_nn::nn::conv::Conv2d;
use sedet_nn::nn::conv_norm::ConvNorm;
use sedet_nn::nn::norm::Norm;
use sedet_nn::nn::pool::Pool2d;
use sedet_nn::nn::se::{SeUnit, Squeeze};

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

/// Records the layers of a network.
#[derive(Debug)]
pub struct Tracer {
    size: [usize; 2],
    path: Vec<String>,
    shape: [usize; 3],
    layers: Vec<LayerSummary>,
    stopped_at: Option<String>,
}

impl Tracer {
    /// Starts before the first layer, with an RGB image of this height and width.
    pub fn new(size: [usize; 2]) -> Self {
        Self {
            size,
            path: Vec::new(),
            shape: [3, size[0], size[1]],
            layers: Vec::new(),
            stopped_at: None,
        }
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

    /// Returns channels, height and width of the current feature map.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Continues with a feature map of another shape, such as the input of a shortcut.
    pub fn resume(&mut self, shape: [usize; 3]) {
        self.shape = shape;
    }

    /// Adds channels that are concatenated to the current feature map.
    pub(crate) fn append_channels(&mut self, channels: usize) {
        self.shape[0] += channels;
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

    fn record(&mut self, name: impl Display, kind: LayerKind, parameters: u64, macs: u64) {
        let name = self.full_name(name);
        self.layers.push(LayerSummary {
            name,
            kind,
            output: self.shape,
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
    pub fn conv(&mut self, name: impl Display, conv: &Conv2d) {
        let [_, height, width] = self.shape;
        let Some(shape) = conv.output_shape([height, width]) else {
            return self.stop(name);
        };
        self.shape = shape;
        let weights = count(&conv.weight);
        let parameters = weights + conv.bias.as_ref().map_or(0, count);
        self.record(name, LayerKind::Conv, parameters, weights * self.pixels());
    }

    /// Records a norm.
    pub fn norm(&mut self, name: impl Display, norm: &Norm) {
        let parameters = count(&norm.weight) + count(&norm.bias);
        self.record(name, LayerKind::Norm, parameters, 0);
    }

    /// Records a convolution and its norm.
    pub fn conv_norm(&mut self, name: impl Display, layer: &ConvNorm) {
        self.within(name, |tracer| {
            tracer.conv("conv", &layer.conv);
            tracer.norm("norm", &layer.norm);
        });
    }

    /// Records pooling over windows.
    pub fn pool(&mut self, name: impl Display, pool: Pool2d) {
        let [channels, height, width] = self.shape;
        let Some([height, width]) = pool.output_size([height, width]) else {
            return self.stop(name);
        };
        self.pool_to(name, [channels, height, width]);
    }

    /// Records pooling of the whole feature map to a shape.
    pub(crate) fn pool_to(&mut self, name: impl Display, shape: [usize; 3]) {
        self.shape = shape;
        self.record(name, LayerKind::Pool, 0, 0);
    }

    /// Records pooling of the current feature map in a shortcut; returns its shape and keeps the current
    /// one.
    pub(crate) fn aside(&mut self, name: impl Display, pool: Pool2d) -> [usize; 3] {
        let before = self.shape;
        self.pool(name, pool);
        std::mem::replace(&mut self.shape, before)
    }

    /// Records branches whose outputs are concatenated.
    pub fn branches(&mut self, name: impl Display, branches: &[Branch]) {
        let input = self.shape;
        let mut channels = 0;
        for (index, branch) in branches.iter().enumerate() {
            self.shape = input;
            self.within(format!("{name}.{index}"), |tracer| {
                if let Some(pool) = branch.pool() {
                    tracer.pool("pool", pool);
                }
                for (index, conv) in branch.convs.iter().enumerate() {
                    tracer.conv_norm(format!("convs.{index}"), conv);
                }
            });
            channels += self.shape[0];
        }
        self.shape[0] = channels;
    }

    /// Records an SE unit named `se`, if there is one.
    pub fn se(&mut self, unit: Option<&SeUnit>) {
        let Some(unit) = unit else {
            return;
        };
        let (fc1, fc2) = (linear_costs(&unit.fc1), linear_costs(&unit.fc2));
        let scaling = self.shape[0] as u64 * self.pixels();
        // Without a squeeze both layers are applied at every pixel.
        let times = match unit.config().squeeze {
            Squeeze::Average | Squeeze::Max => 1,
            Squeeze::None => self.pixels(),
        };
        self.record(
            "se",
            LayerKind::Se,
            fc1.parameters + fc2.parameters,
            (fc1.macs + fc2.macs) * times + scaling,
        );
    }

    /// Records a linear layer on the flattened feature map.
    pub fn linear(&mut self, name: impl Display, linear: &Linear) {
        let costs = linear_costs(linear);
        self.shape = [costs.outputs, 1, 1];
        self.record(name, LayerKind::Linear, costs.parameters, costs.macs);
    }

    fn pixels(&self) -> u64 {
        (self.shape[1] * self.shape[2]) as u64
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
