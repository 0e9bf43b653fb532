//! The squeeze-and-excitation unit (Hu et al., "Squeeze-and-Excitation Networks", equations 2-4).

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::activation::{relu, sigmoid, tanh};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::conv::{Conv2d, linear};
use super::conv_norm::{filters, forward_normed};
use super::init::WeightInit;
use super::norm::Norm;
use super::recording;
use crate::kernels::affine::add_relu;
use crate::kernels::conv2d::{Conv2dOptions, Filters, conv2d, conv2d_gated};
use crate::kernels::excite::excite_add_relu;

/// What the unit looks at (SENet paper, tables 11 and 16).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Squeeze {
    /// The mean of each channel over space: the paper's choice.
    #[default]
    #[serde(rename = "avg")]
    Average,
    /// The largest value of each channel.
    Max,
    /// The paper's NoSqueeze: nothing is pooled. The two layers act at every pixel, as 1x1
    /// convolutions, so that there is a gate for each channel and pixel.
    None,
}

/// What makes gates of the second layer's outputs (SENet paper, table 12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// Between 0 and 1: the paper's choice.
    #[default]
    Sigmoid,
    /// Between -1 and 1.
    Tanh,
    /// From 0 up.
    Relu,
}

/// Where a residual block has its unit (SENet paper, figure 5 and tables 14 and 15).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SePosition {
    /// At the end of the branch, before the sum.
    #[default]
    Standard,
    /// SE-PRE: on the branch's input; the shortcut does without.
    Pre,
    /// SE-POST: after the sum and its ReLU.
    Post,
    /// SE-Identity: on the shortcut, after its projection where it has one.
    Identity,
    /// SE_3x3: inside the branch, after norm and ReLU of the convolution before the last: the 3x3
    /// of a bottleneck, with its channels. A basic block has it between its two convolutions.
    Conv3x3,
}

/// Configuration of an [`SeUnit`], and where a network has them.
///
/// The defaults are the paper's network of section 3 with r = 16. The ablations of its section 6
/// are without `bias`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeConfig {
    /// The bottleneck's ratio r: the hidden layer has `channels / reduction` units, at least one.
    pub reduction: usize,
    /// The hidden layer is rounded to a multiple of this: 1 is the paper, 8 is timm's `seresnet`.
    #[serde(default = "one")]
    pub round_to: usize,
    /// Whether a ReLU stands between the branch's last norm and the unit: timm's
    /// `legacy_seresnet18` and `34`, nowhere else. With the standard position only.
    #[serde(default)]
    pub after_relu: bool,
    /// What the unit looks at.
    #[serde(default, skip_serializing_if = "is_default")]
    pub squeeze: Squeeze,
    /// The last non-linearity.
    #[serde(default, skip_serializing_if = "is_default")]
    pub gate: Gate,
    /// Its place in a residual block.
    #[serde(default, skip_serializing_if = "is_default")]
    pub position: SePosition,
    /// Which of a network's stages have units: the first is the paper's stage 2 (table 13).
    /// Entries beyond a network's stages mean nothing; networks without stages refuse a choice.
    #[serde(default = "all_stages", skip_serializing_if = "is_all_stages")]
    pub stages: [bool; 4],
    /// Whether the two layers add biases.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub bias: bool,
}

fn one() -> usize {
    1
}

/// For [`SeConfig::round_to`].
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

/// An SE unit that can't be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SeConfigError {
    /// Channels divided by zero.
    #[error("se.reduction must be at least 1")]
    Reduction,
    /// A multiple beyond any network's channels.
    #[error("se.round_to must be at most {LARGEST_MULTIPLE}")]
    RoundTo,
    /// No stage left.
    #[error("se.stages names no stage; a network without SE units is its plain form")]
    NoStage,
    /// The legacy ReLU stands at the end of the branch.
    #[error("se.after_relu goes with se.position 'standard' only")]
    AfterRelu,
    /// A network with one place for its units.
    #[error("this network has its SE units at the standard position and not after a ReLU")]
    Position,
    /// A network without the four stages of a residual one.
    #[error("se.stages is for residual networks; this one has SE units throughout")]
    Stages,
}

impl Default for SeConfig {
    /// r = 16, as everywhere in the paper.
    fn default() -> Self {
        Self::new(16)
    }
}

impl SeConfig {
    /// The paper's unit with this ratio.
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
        }
    }

    /// Whether this is a unit as the paper's own network has it, but for its hidden width: what
    /// other frameworks can hold.
    pub fn is_published(&self) -> bool {
        let published = Self {
            round_to: self.round_to,
            after_relu: self.after_relu,
            ..Self::new(self.reduction)
        };
        *self == published
    }

    /// Check what no type excludes.
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

    /// The same for networks that are not a [`ResNet`](sedet_core::backbones::resnet::ResNet): their
    /// units have one place.
    ///
    /// # Errors
    /// See [`SeConfigError`].
    pub fn validate_fixed_position(&self) -> Result<(), SeConfigError> {
        if self.after_relu || self.position != SePosition::Standard {
            return Err(SeConfigError::Position);
        }
        self.validate()
    }

    /// The same for networks that have no stages to choose from.
    ///
    /// # Errors
    /// See [`SeConfigError`].
    pub fn validate_throughout(&self) -> Result<(), SeConfigError> {
        if self.stages != ALL_STAGES {
            return Err(SeConfigError::Stages);
        }
        self.validate_fixed_position()
    }

    /// Units of the hidden layer: `channels / reduction` cut to a whole number, at least one; with
    /// rounding the nearest multiple, at least one multiple (timm's `SEModule`).
    ///
    /// The paper names no other ratio than 16 for CIFAR. The stages of a CIFAR ResNet have 16, 32
    /// and 64 channels: at r = 16 their units have one, two and four hidden units. Others take a
    /// smaller ratio for networks this narrow, and so do sedet's own small recipes (4).
    pub fn hidden(&self, channels: usize) -> usize {
        match self.round_to {
            0 | 1 => (channels / self.reduction).max(1),
            step => {
                let exact = channels as f64 / self.reduction as f64;
                ((exact + step as f64 / 2.0) as usize / step * step).max(step)
            }
        }
    }

    /// The unit for so many channels.
    pub fn init(&self, channels: usize, device: &Device) -> SeUnit {
        let layer = |d_in, d_out| {
            let layer = linear(d_in, d_out, WeightInit::PytorchDefault, device);
            Linear {
                bias: layer.bias.filter(|_| self.bias),
                ..layer
            }
        };
        let hidden = self.hidden(channels);
        SeUnit {
            fc1: layer(channels, hidden),
            fc2: layer(hidden, channels),
            config: *self,
        }
    }
}

/// Squeeze (mean over space), excite (two fully connected layers), scale the channels.
#[derive(Module, Debug)]
pub struct SeUnit {
    /// `channels` to `channels / r`.
    pub fc1: Linear,
    /// `channels / r` to `channels`.
    pub fc2: Linear,
    #[module(skip)]
    config: SeConfig,
}

impl SeUnit {
    /// What the unit was made from.
    pub fn config(&self) -> &SeConfig {
        &self.config
    }

    /// The gates of `[batch, channels, height, width]`: `[batch, channels, 1, 1]`, or a map of the
    /// input's shape with [`Squeeze::None`].
    pub fn gates(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        let planes = [batch, channels, height * width];
        let squeezed = match self.config.squeeze {
            Squeeze::Average => x.reshape(planes).mean_dim(2),
            Squeeze::Max => x.reshape(planes).max_dim(2),
            Squeeze::None => {
                return self.gate(pointwise(&self.fc2, relu(pointwise(&self.fc1, x))));
            }
        };
        self.gates_of(squeezed.reshape([batch, channels]))
    }

    /// The gates, `[batch, channels, 1, 1]`, of what was squeezed to `[batch, channels]`.
    fn gates_of(&self, squeezed: Tensor<2>) -> Tensor<4> {
        let [batch, channels] = squeezed.dims();
        let hidden = relu(self.fc1.forward(squeezed));
        let excitation = self.fc2.forward(hidden);
        self.gate(excitation.reshape([batch, channels, 1, 1]))
    }

    fn gate(&self, excitation: Tensor<4>) -> Tensor<4> {
        match self.config.gate {
            Gate::Sigmoid => sigmoid(excitation),
            Gate::Tanh => tanh(excitation),
            Gate::Relu => relu(excitation),
        }
    }

    /// `x` with every channel (with [`Squeeze::None`] every value) multiplied by its gate. Seen by
    /// [`recording::record`].
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let gates = self.gates(x.clone());
        // Unless somebody wants to keep the map, nobody else holds it, and it is scaled in place.
        let before = recording::wants_maps().then(|| x.clone());
        let after = x * gates.clone();
        recording::note(gates, before, Some(&after));
        after
    }

    /// The end of a residual block: `relu(se(norm(conv(x))) + residual)`. Seen by
    /// [`recording::record`].
    ///
    /// Where the norm does not follow the batch, nobody wants the map before the gates, and the unit
    /// squeezes by the mean behind a 1x1 convolution, the map is written once, finished: the mean of a
    /// 1x1 convolution's output is the convolution of its input's mean, so the gates are there before
    /// the map.
    pub fn forward_after(
        &self,
        conv: &Conv2d,
        norm: &Norm,
        x: Tensor<4>,
        residual: Tensor<4>,
    ) -> Tensor<4> {
        let is_linear = self.config.squeeze == Squeeze::Average && !self.config.after_relu;
        let wants_maps = recording::wants_maps();
        if is_linear && !wants_maps && conv.is_pointwise() && !norm.follows_batch(&x) {
            let filters = filters(conv, norm, &x.device());
            let gates = self.gates_of(mean_after(&filters, x.clone()));
            recording::note(gates.clone(), None, None);
            return conv2d_gated(x, filters, gates, residual, conv.options());
        }
        let map = forward_normed(conv, norm, x, None, self.config.after_relu);
        if self.config.squeeze == Squeeze::None || wants_maps {
            return add_relu(self.forward(map), residual);
        }
        let gates = self.gates(map.clone());
        recording::note(gates.clone(), None, None);
        excite_add_relu(map, gates, residual)
    }
}

/// The mean over space, `[batch, filters]`, of what a 1x1 convolution makes of
/// `[batch, channels, height, width]`, without the convolution.
fn mean_after(filters: &Filters, x: Tensor<4>) -> Tensor<2> {
    let [count, channels, _, _] = filters.weight.dims();
    let [batch, _, height, width] = x.dims();
    let mean = x.reshape([batch, channels, height * width]).mean_dim(2);
    let weight = filters.weight.clone().reshape([count, channels]);
    let product = mean.reshape([batch, channels]).matmul(weight.transpose());
    let product = match &filters.scale {
        Some(scale) => product * scale.clone().unsqueeze(),
        None => product,
    };
    product + filters.bias.clone().unsqueeze()
}

/// A linear layer at every pixel of `[batch, d_in, height, width]`: a 1x1 convolution.
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
    fn the_hidden_layer_is_the_paper_s_or_rounded_as_timm_does() {
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
    fn what_older_checkpoints_say_of_their_units_is_understood_and_stays_short() {
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
    fn every_field_survives_being_written_down() {
        let config = SeConfig {
            squeeze: Squeeze::None,
            gate: Gate::Tanh,
            position: SePosition::Conv3x3,
            stages: [false, true, true, false],
            bias: false,
            ..SeConfig::default()
        };
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<SeConfig>(&text).unwrap(), config);
        assert!(!config.is_published() && SeConfig::new(3).is_published());
    }

    #[test]
    fn units_that_cannot_be_are_refused() {
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

    /// The same numbers every time.
    fn wave<const D: usize>(shape: [usize; D], pitch: f32, device: &Device) -> Tensor<D> {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|i| (i as f32 * pitch).sin()).collect();
        Tensor::from_data(burn::tensor::TensorData::new(values, shape), device)
    }

    #[test]
    fn gates_known_before_the_map_have_the_gradients_of_gates_made_from_it() {
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
                    // With the map asked for, the map is made first.
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
            let through_map = all(Some(recording::Depth::GatesAndMaps));
            for ((name, before), (_, after)) in all(None).into_iter().zip(through_map) {
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
