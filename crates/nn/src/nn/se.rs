//! The squeeze-and-excitation unit (Hu et al., "Squeeze-and-Excitation Networks", equations 2 to 4).

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::activation::{relu, sigmoid, tanh};
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::conv::{Conv2d, linear};
use super::conv_norm::{filters, forward_normed};
use super::init::WeightInit;
use super::norm::Norm;
use super::recording;
use crate::kernels::affine::add_relu;
use crate::kernels::bf16::{ComputePrecision, autocast};
use crate::kernels::conv2d::{
    Conv2dOptions, Filters, PackedWeights, conv2d, conv2d_fused, conv2d_gated,
};
use crate::kernels::excite::excite_add_relu;

/// The squeeze operator (SENet paper, tables 11 and 16).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Squeeze {
    /// Global average pooling, the paper's default.
    #[default]
    #[serde(rename = "avg")]
    Average,
    /// Global max pooling.
    Max,
    /// No pooling (the paper's NoSqueeze). The two layers are 1x1 convolutions, with one gate per channel
    /// and pixel.
    None,
}

/// The excitation operator, the activation of the second layer (SENet paper, table 12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// Gates between 0 and 1, the paper's default.
    #[default]
    Sigmoid,
    /// Gates between -1 and 1.
    Tanh,
    /// Gates of 0 or more.
    Relu,
}

/// The initial state of the units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SeStart {
    /// Both layers begin with random weights, so that the gates begin near the middle of their range.
    #[default]
    Paper,
    /// The second layer begins at zero and every gate at 1, so that a unit passes its input on: for units that
    /// are added to a trained network.
    Identity,
}

/// The function from the output of the second layer to the gates.
///
/// | activation | [`SeStart::Paper`] | [`SeStart::Identity`] |
/// |---|---|---|
/// | sigmoid | `sigmoid(x)`, 0 to 1 | `2 * sigmoid(x)`, 0 to 2 |
/// | tanh | `tanh(x)`, -1 to 1 | `1 + tanh(x)`, 0 to 2 |
/// | ReLU | `relu(x)`, 0 or more | `relu(1 + x)`, 0 or more |
///
/// With [`SeStart::Identity`] a gate is 1 at `x = 0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GateFunction {
    /// The excitation operator.
    pub activation: Gate,
    /// The initial state of the units.
    pub start: SeStart,
}

impl From<Gate> for GateFunction {
    /// The paper's function of this activation.
    fn from(activation: Gate) -> Self {
        Self {
            activation,
            start: SeStart::Paper,
        }
    }
}

impl GateFunction {
    /// Returns the smallest and the largest gate; no upper limit for ReLU.
    pub const fn limits(self) -> (f32, Option<f32>) {
        match (self.activation, self.start) {
            (Gate::Sigmoid, SeStart::Paper) => (0.0, Some(1.0)),
            (Gate::Tanh, SeStart::Paper) => (-1.0, Some(1.0)),
            (Gate::Sigmoid | Gate::Tanh, SeStart::Identity) => (0.0, Some(2.0)),
            (Gate::Relu, _) => (0.0, None),
        }
    }

    /// Computes the gates from the output of the second layer, of the same shape.
    pub fn forward(self, x: Tensor<4>) -> Tensor<4> {
        match (self.activation, self.start) {
            (Gate::Sigmoid, SeStart::Paper) => sigmoid(x),
            (Gate::Sigmoid, SeStart::Identity) => sigmoid(x) * 2.0,
            (Gate::Tanh, SeStart::Paper) => tanh(x),
            (Gate::Tanh, SeStart::Identity) => tanh(x) + 1.0,
            (Gate::Relu, SeStart::Paper) => relu(x),
            (Gate::Relu, SeStart::Identity) => relu(x + 1.0),
        }
    }
}

/// The position of the unit in a residual block (SENet paper, figure 5, tables 14 and 15).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SePosition {
    /// At the end of the branch, before the sum.
    #[default]
    Standard,
    /// SE-PRE: on the input of the branch, not of the shortcut.
    Pre,
    /// SE-POST: after the sum and its ReLU.
    Post,
    /// SE-Identity: on the shortcut, after its projection if it has one.
    Identity,
    /// SE_3x3: inside the branch, after batch norm and ReLU of the last convolution but one, which is the
    /// 3x3 of a bottleneck. In a basic block, between its two convolutions.
    Conv3x3,
}

/// Configuration of an [`SeUnit`] and of its position in a network.
///
/// The defaults are those of section 3 of the paper, with r = 16. The ablations of section 6 have no
/// `bias`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SeConfig {
    /// The reduction ratio r: the hidden layer has `channels / reduction` units, at least one.
    pub reduction: usize,
    /// Rounds the hidden layer to a multiple of this number: 1 in the paper, 8 in timm's `seresnet`.
    #[serde(default = "one")]
    pub round_to: usize,
    /// Whether a ReLU is between the last batch norm of the branch and the unit, as in timm's
    /// `legacy_seresnet18` and `legacy_seresnet34`. With the standard position only.
    #[serde(default)]
    pub after_relu: bool,
    /// The squeeze operator.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = "avg"), !skip_serializing_if)]
    pub squeeze: Squeeze,
    /// The excitation operator.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = "sigmoid"), !skip_serializing_if)]
    pub gate: Gate,
    /// The position in a residual block.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = "standard"), !skip_serializing_if)]
    pub position: SePosition,
    /// Which stages of a network have units; the first is stage 2 of the paper (table 13). Entries beyond
    /// the stages of a network are ignored. Networks without stages accept the default only.
    #[serde(default = "all_stages", skip_serializing_if = "is_all_stages")]
    #[schemars(extend("default" = [true, true, true, true]), !skip_serializing_if)]
    pub stages: [bool; 4],
    /// Whether the two layers have biases.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[schemars(extend("default" = true), !skip_serializing_if)]
    pub bias: bool,
    /// The initial state of the units. Units that are added to the weights of a plain network start as
    /// `identity`: the network then computes what it computed without them. The choice stays part of the
    /// network, since the gates of `identity` reach from 0 to 2 (`2 * sigmoid`, `1 + tanh`, `relu(1 + x)`).
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = "paper"), !skip_serializing_if)]
    pub start: SeStart,
}

fn one() -> usize {
    1
}

/// Upper limit of [`SeConfig::round_to`], more than any network's channels.
const LARGEST_MULTIPLE: usize = 1 << 16;

const ALL_STAGES: [bool; 4] = [true; 4];

fn all_stages() -> [bool; 4] {
    ALL_STAGES
}

fn is_all_stages(stages: &[bool; 4]) -> bool {
    *stages == ALL_STAGES
}

fn yes() -> bool {
    true
}

fn is_yes(value: &bool) -> bool {
    *value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// An invalid configuration of an SE unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SeConfigError {
    /// The reduction ratio is zero.
    #[error("se.reduction must be at least 1")]
    Reduction,
    /// `round_to` is larger than any network's channels.
    #[error("se.round_to must be at most {LARGEST_MULTIPLE}")]
    RoundTo,
    /// No stage is selected.
    #[error("se.stages selects no stage: the network would have no SE units")]
    NoStage,
    /// `after_relu` with a position other than the standard one.
    #[error("se.after_relu requires se.position 'standard'")]
    AfterRelu,
    /// A position or `after_relu` in a network with a fixed position.
    #[error("this network supports se.position 'standard' without se.after_relu only")]
    Position,
    /// A selection of stages in a network without the four stages of a residual network.
    #[error("se.stages requires a residual network; this network has SE units throughout")]
    Stages,
}

impl Default for SeConfig {
    /// The paper's unit with r = 16.
    fn default() -> Self {
        Self::new(16)
    }
}

impl SeConfig {
    /// The paper's unit with this reduction ratio.
    pub const fn new(reduction: usize) -> Self {
        Self {
            reduction,
            round_to: 1,
            after_relu: false,
            squeeze: Squeeze::Average,
            gate: Gate::Sigmoid,
            position: SePosition::Standard,
            stages: ALL_STAGES,
            bias: true,
            start: SeStart::Paper,
        }
    }

    /// Returns the function from the output of the second layer to the gates.
    pub const fn gate_function(&self) -> GateFunction {
        GateFunction {
            activation: self.gate,
            start: self.start,
        }
    }

    /// Returns whether this is a unit of the paper's networks, except for the size of its hidden layer and
    /// `after_relu`: one that other frameworks can represent.
    pub fn is_published(&self) -> bool {
        let published = Self {
            round_to: self.round_to,
            after_relu: self.after_relu,
            ..Self::new(self.reduction)
        };
        *self == published
    }

    /// Checks the values.
    ///
    /// # Errors
    /// See [`SeConfigError`].
    pub fn validate(&self) -> Result<(), SeConfigError> {
        if self.reduction == 0 {
            return Err(SeConfigError::Reduction);
        }
        if self.round_to > LARGEST_MULTIPLE {
            return Err(SeConfigError::RoundTo);
        }
        if self.stages == [false; 4] {
            return Err(SeConfigError::NoStage);
        }
        if self.after_relu && self.position != SePosition::Standard {
            return Err(SeConfigError::AfterRelu);
        }
        Ok(())
    }

    /// Checks the values for networks other than residual ones, whose units have one position.
    ///
    /// # Errors
    /// See [`SeConfigError`].
    pub fn validate_fixed_position(&self) -> Result<(), SeConfigError> {
        if self.after_relu || self.position != SePosition::Standard {
            return Err(SeConfigError::Position);
        }
        self.validate()
    }

    /// Checks the values for networks without stages.
    ///
    /// # Errors
    /// See [`SeConfigError`].
    pub fn validate_throughout(&self) -> Result<(), SeConfigError> {
        if self.stages != ALL_STAGES {
            return Err(SeConfigError::Stages);
        }
        self.validate_fixed_position()
    }

    /// Returns the number of hidden units: `channels / reduction` rounded down, at least one. With
    /// `round_to` the nearest multiple, at least one multiple (timm's `SEModule`).
    ///
    /// The paper has no other ratio than 16 for CIFAR. The stages of a CIFAR ResNet have 16, 32 and 64
    /// channels, so their units would have one, two and four hidden units. Narrow networks usually have
    /// a smaller ratio; sedet's small recipes have 4.
    pub fn hidden(&self, channels: usize) -> usize {
        match self.round_to {
            0 | 1 => (channels / self.reduction).max(1),
            step => {
                let exact = channels as f64 / self.reduction as f64;
                ((exact + step as f64 / 2.0) as usize / step * step).max(step)
            }
        }
    }

    /// Initializes the unit for a number of channels.
    pub fn init(&self, channels: usize, device: &Device) -> SeUnit {
        let layer = |d_in, d_out, init| {
            let layer = linear(d_in, d_out, init, device);
            Linear {
                bias: layer.bias.filter(|_| self.bias),
                ..layer
            }
        };
        let hidden = self.hidden(channels);
        let last = match self.start {
            SeStart::Paper => WeightInit::PytorchDefault,
            SeStart::Identity => WeightInit::Zeros,
        };
        SeUnit {
            fc1: layer(channels, hidden, WeightInit::PytorchDefault),
            fc2: layer(hidden, channels, last),
            config: *self,
        }
    }
}

/// A squeeze-and-excitation unit: pooling over space, two fully connected layers, and a product of each
/// channel with its gate.
#[derive(Module, Debug)]
pub struct SeUnit {
    /// The layer from `channels` to the hidden units.
    pub fc1: Linear,
    /// The layer from the hidden units to `channels`.
    pub fc2: Linear,
    #[module(skip)]
    config: SeConfig,
}

impl SeUnit {
    /// Returns the configuration of the unit.
    pub fn config(&self) -> &SeConfig {
        &self.config
    }

    /// Computes the gates.
    ///
    /// # Shapes
    /// - `x`: `[batch, channels, height, width]`
    /// - result: `[batch, channels, 1, 1]`, or the shape of `x` with [`Squeeze::None`]
    pub fn gates(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        let planes = [batch, channels, height * width];
        let squeezed = match self.config.squeeze {
            Squeeze::Average => x.reshape(planes).mean_dim(2),
            Squeeze::Max => x.reshape(planes).max_dim(2),
            Squeeze::None => {
                let excitation = autocast(ComputePrecision::F32, || {
                    pointwise(&self.fc2, relu(pointwise(&self.fc1, x)))
                });
                return self.gate(excitation);
            }
        };
        self.excite(squeezed.reshape([batch, channels]))
    }

    /// Computes the gates, `[batch, channels, 1, 1]`, of the squeezed input, `[batch, channels]`.
    fn excite(&self, squeezed: Tensor<2>) -> Tensor<4> {
        let [batch, channels] = squeezed.dims();
        let hidden = relu(self.fc1.forward(squeezed));
        let excitation = self.fc2.forward(hidden);
        self.gate(excitation.reshape([batch, channels, 1, 1]))
    }

    fn gate(&self, excitation: Tensor<4>) -> Tensor<4> {
        self.config.gate_function().forward(excitation)
    }

    /// Multiplies every channel (with [`Squeeze::None`] every value) of `x` by its gate. Recorded by
    /// [`recording::record`].
    ///
    /// # Shapes
    /// `x` and the result: `[batch, channels, height, width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let gates = recording::edited(self.gates(x.clone()));
        // Cloned for a recording only: without another reference, `x` is scaled in place.
        let before = recording::needs_feature_maps().then(|| x.clone());
        let after = x * gates.clone();
        recording::add(gates, before, Some(&after));
        after
    }

    /// Computes the end of a residual block, `relu(se(norm(conv(x))) + residual)`. Recorded by
    /// [`recording::record`].
    ///
    /// The mean of the output of a 1x1 convolution is the convolution of the mean of its input. So with
    /// average pooling, fixed batch-norm statistics and a 1x1 convolution, the gates are computed before
    /// the feature map, and the convolution writes it once, gated and with the residual added. A
    /// recording that needs the feature map before the gates prevents this.
    ///
    /// # Shapes
    /// - `x`: `[batch, channels_in, height, width]`
    /// - `residual` and the result: `[batch, channels_out, height_out, width_out]`
    pub fn forward_after(
        &self,
        conv: &Conv2d,
        norm: &Norm,
        x: Tensor<4>,
        residual: Tensor<4>,
    ) -> Tensor<4> {
        let is_linear = self.config.squeeze == Squeeze::Average && !self.config.after_relu;
        let is_recorded = recording::needs_feature_maps();
        if is_linear && !is_recorded && conv.is_pointwise() && !norm.follows_batch(&x) {
            let filters = filters(conv, norm, &x.device());
            let gates = recording::edited(self.excite(mean_after(&filters, x.clone())));
            recording::add(gates.clone(), None, None);
            return conv2d_gated(x, filters, gates, residual, conv.options());
        }
        let y = forward_normed(conv, norm, x, None, self.config.after_relu);
        if self.config.squeeze == Squeeze::None || is_recorded {
            return add_relu(self.forward(y), residual);
        }
        let gates = recording::edited(self.gates(y.clone()));
        recording::add(gates.clone(), None, None);
        excite_add_relu(y, gates, residual)
    }
}

/// Computes the mean over space of the output of a 1x1 convolution without the convolution.
///
/// # Shapes
/// - `x`: `[batch, channels, height, width]`
/// - result: `[batch, filters]`
fn mean_after(filters: &Filters, x: Tensor<4>) -> Tensor<2> {
    let [count, channels, _, _] = filters.weight.dims();
    let [batch, _, height, width] = x.dims();
    let mean = x.reshape([batch, channels, height * width]).mean_dim(2);
    if filters
        .packed
        .as_ref()
        .is_some_and(PackedWeights::are_reduced)
    {
        let mean = mean.reshape([batch, channels, 1, 1]);
        let options = Conv2dOptions::default();
        return conv2d_fused(mean, filters.clone(), None, false, options).reshape([batch, count]);
    }
    let weight = filters.weight.clone().reshape([count, channels]);
    let product = mean.reshape([batch, channels]).matmul(weight.transpose());
    let product = match &filters.scale {
        Some(scale) => product * scale.clone().unsqueeze(),
        None => product,
    };
    product + filters.bias.clone().unsqueeze()
}

/// Applies a linear layer at every pixel of `[batch, d_in, height, width]`, as a 1x1 convolution.
fn pointwise(layer: &Linear, x: Tensor<4>) -> Tensor<4> {
    let weight = layer.weight.val();
    let [d_in, d_out] = weight.dims();
    conv2d(
        x,
        weight.transpose().reshape([d_out, d_in, 1, 1]),
        layer.bias.as_ref().map(|bias| bias.val()),
        Conv2dOptions::default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::conv::Conv2dConfig;
    use crate::nn::norm::NormConfig;

    #[test]
    fn the_hidden_size_is_rounded_as_in_the_paper_or_in_timm() {
        let paper = SeConfig::default();
        assert_eq!(
            [8, 16, 32, 64, 256, 2048].map(|c| paper.hidden(c)),
            [1, 1, 2, 4, 16, 128]
        );
        let timm = SeConfig {
            round_to: 8,
            ..paper
        };
        assert_eq!([8, 64, 200, 2048].map(|c| timm.hidden(c)), [8, 8, 16, 128]);
    }

    #[test]
    fn configurations_without_the_newer_fields_are_read_and_written_unchanged() {
        let text = r#"{"reduction":4,"round_to":1,"after_relu":false}"#;
        let config: SeConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config, SeConfig::new(4));
        assert_eq!(serde_json::to_string(&config).unwrap(), text);
        assert_eq!(
            serde_json::from_str::<SeConfig>(r#"{"reduction":4}"#).unwrap(),
            config
        );
    }

    #[test]
    fn every_field_survives_serialization() {
        let config = SeConfig {
            squeeze: Squeeze::None,
            gate: Gate::Tanh,
            position: SePosition::Conv3x3,
            stages: [false, true, true, false],
            bias: false,
            start: SeStart::Identity,
            ..SeConfig::default()
        };
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<SeConfig>(&text).unwrap(), config);
        assert!(!config.is_published() && SeConfig::new(3).is_published());
        let grafted = SeConfig {
            start: SeStart::Identity,
            ..SeConfig::default()
        };
        assert!(!grafted.is_published());
    }

    #[test]
    fn units_that_start_as_identity_pass_their_input_on_and_then_learn() {
        let device = Device::flex().autodiff();
        for gate in [Gate::Sigmoid, Gate::Tanh, Gate::Relu] {
            for (squeeze, bias) in [
                (Squeeze::Average, true),
                (Squeeze::Max, false),
                (Squeeze::None, true),
            ] {
                let config = SeConfig {
                    gate,
                    squeeze,
                    bias,
                    start: SeStart::Identity,
                    ..SeConfig::new(2)
                };
                let mut unit = config.init(6, &device);
                // Positive, so that no hidden unit begins dead.
                unit.fc1.weight = unit
                    .fc1
                    .weight
                    .map(|w| (w.abs() + 0.1).detach().require_grad());
                let x = wave([2, 6, 3, 4], 0.37, &device).abs() + 0.1;
                let y = unit.forward(x.clone());
                assert_eq!(y.clone().into_data(), x.clone().into_data(), "{config:?}");
                let gradients = (y * wave([2, 6, 3, 4], 0.91, &device)).sum().backward();
                let last = unit.fc2.weight.val().grad(&gradients).unwrap();
                let largest: f32 = last.clone().abs().max().into_scalar();
                assert!(largest > 1e-3, "{config:?}: {largest}");
                // After one step the first layer has gradients, too.
                unit.fc2.weight = unit
                    .fc2
                    .weight
                    .map(|w| (w - Tensor::from_inner(last) * 0.1).detach().require_grad());
                let gradients = unit.forward(x).sum().backward();
                let first = unit.fc1.weight.val().grad(&gradients).unwrap();
                let largest: f32 = first.abs().max().into_scalar();
                assert!(largest > 1e-5, "{config:?}: {largest}");
                let (lowest, highest) = config.gate_function().limits();
                assert_eq!((lowest, highest.is_none()), (0.0, gate == Gate::Relu));
            }
        }
    }

    #[test]
    fn invalid_configurations_are_refused() {
        let paper = SeConfig::default();
        let pre = SeConfig {
            position: SePosition::Pre,
            ..paper
        };
        for (config, expected) in [
            (SeConfig::new(0), SeConfigError::Reduction),
            (
                SeConfig {
                    stages: [false; 4],
                    ..paper
                },
                SeConfigError::NoStage,
            ),
            (
                SeConfig {
                    after_relu: true,
                    ..pre
                },
                SeConfigError::AfterRelu,
            ),
        ] {
            assert_eq!(config.validate(), Err(expected));
        }
        assert_eq!(pre.validate(), Ok(()));
        assert_eq!(pre.validate_fixed_position(), Err(SeConfigError::Position));
        assert_eq!(paper.validate_fixed_position(), Ok(()));
        assert_eq!(paper.validate_throughout(), Ok(()));
        let late = SeConfig {
            stages: [false, true, true, true],
            ..paper
        };
        assert_eq!(late.validate_fixed_position(), Ok(()));
        assert_eq!(late.validate_throughout(), Err(SeConfigError::Stages));
    }

    /// Returns a deterministic tensor.
    fn wave<const D: usize>(shape: [usize; D], pitch: f32, device: &Device) -> Tensor<D> {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|i| (i as f32 * pitch).sin()).collect();
        Tensor::from_data(burn::tensor::TensorData::new(values, shape), device)
    }

    #[test]
    fn gates_computed_before_the_feature_map_have_the_gradients_of_gates_computed_from_it() {
        let device = Device::flex().autodiff();
        let conv = Conv2dConfig::new(6, 12, 1).init(&device);
        let mut norm = NormConfig::default().init(12, &device);
        norm.weight = norm.weight.map(|weight| {
            (weight + wave([12], 0.7, &Device::flex()) * 0.5).set_require_grad(false)
        });
        let unit = SeConfig::new(3).init(12, &device);
        for batch in [1, 3] {
            let x = wave([batch, 6, 5, 4], 0.37, &device).require_grad();
            let residual = wave([batch, 12, 5, 4], 0.53, &device).require_grad();
            let all = |depth: Option<recording::Depth>| {
                let work = || unit.forward_after(&conv, &norm, x.clone(), residual.clone());
                let y = match depth {
                    None => work(),
                    // A recording of feature maps computes the feature map first.
                    Some(depth) => recording::record(depth, work).0,
                };
                let dy = wave([batch, 12, 5, 4], 0.91, &device);
                let gradients = (y.clone() * dy).sum().backward();
                let flat =
                    |found: Option<Tensor<4>>| found.unwrap().into_data().try_to_vec::<f32>();
                let mut found = vec![
                    ("y", y.into_data().try_to_vec::<f32>().unwrap()),
                    ("dx", flat(x.grad(&gradients)).unwrap()),
                    ("dresidual", flat(residual.grad(&gradients)).unwrap()),
                    ("dweight", flat(conv.weight.val().grad(&gradients)).unwrap()),
                ];
                for (name, layer) in [("fc1", &unit.fc1), ("fc2", &unit.fc2)] {
                    let gradient = layer.weight.val().grad(&gradients).unwrap();
                    found.push((name, gradient.into_data().try_to_vec().unwrap()));
                }
                found
            };
            let from_feature_map = all(Some(recording::Depth::GatesAndFeatureMaps));
            for ((name, before), (_, after)) in all(None).into_iter().zip(from_feature_map) {
                for (a, b) in before.iter().zip(&after) {
                    assert!(
                        (a - b).abs() < 1e-5 * (1.0 + b.abs()),
                        "{name}: {a} and {b}"
                    );
                }
            }
        }
    }
}
