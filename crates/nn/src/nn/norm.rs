//! Batch norm, trained or frozen.
//!
//! Both are one module, so that a checkpoint has the same tensors for either.

use burn::module::{Initializer, Module, Param, RunningState};
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kernels::affine::{add_relu, affine, relu};
use crate::kernels::batch_norm::batch_norm_train;

/// The mode of batch norm: statistics updated by training, or fixed as loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// Batch statistics in training, running statistics otherwise. Required for random weights: frozen
    /// statistics of 0 and 1 would normalize nothing.
    Batch,
    /// A fixed scale and shift per channel without gradients (torchvision's `FrozenBatchNorm2d`). For
    /// pretrained weights and small batches.
    Frozen,
}

/// Configuration of a [`Norm`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NormConfig {
    /// Trained or frozen.
    pub kind: NormKind,
    /// Value added to the variance.
    #[serde(default = "default_epsilon")]
    pub epsilon: f64,
    /// Weight of the new batch in the running statistics, as in PyTorch.
    #[serde(default = "default_momentum")]
    pub momentum: f64,
}

/// PyTorch's default.
const EPSILON: f64 = 1e-5;

/// PyTorch's default.
const MOMENTUM: f64 = 0.1;

fn default_epsilon() -> f64 {
    EPSILON
}

fn default_momentum() -> f64 {
    MOMENTUM
}

impl Default for NormConfig {
    fn default() -> Self {
        Self::new(NormKind::Frozen)
    }
}

impl NormConfig {
    /// Uses PyTorch's defaults for epsilon (1e-5) and momentum (0.1).
    pub const fn new(kind: NormKind) -> Self {
        Self {
            kind,
            epsilon: EPSILON,
            momentum: MOMENTUM,
        }
    }

    /// Initializes the layer for a number of channels: scale 1, shift 0, mean 0, variance 1.
    pub fn init(&self, channels: usize, device: &Device) -> Norm {
        let trained = self.kind == NormKind::Batch;
        let parameter = |init: Initializer| -> Param<Tensor<1>> {
            init.init([channels], device).set_require_grad(trained)
        };
        Norm {
            weight: parameter(Initializer::Ones),
            bias: parameter(Initializer::Zeros),
            running_mean: RunningState::new(Tensor::zeros([channels], device)),
            running_var: RunningState::new(Tensor::ones([channels], device)),
            config: *self,
            folded: false,
        }
    }
}

/// Batch norm over `[batch, channels, height, width]`.
#[derive(Module, Debug)]
pub struct Norm {
    /// Scale, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// Shift, `[channels]`.
    pub bias: Param<Tensor<1>>,
    /// Running mean, `[channels]`.
    pub running_mean: RunningState<Tensor<1>>,
    /// Running variance (unbiased, as PyTorch keeps it), `[channels]`.
    pub running_var: RunningState<Tensor<1>>,
    #[module(skip)]
    config: NormConfig,
    /// Whether the layer is part of the convolution before it; see [`fold`](super::conv_norm::fold).
    #[module(skip)]
    folded: bool,
}

impl Norm {
    /// Returns the value added to the variance.
    pub fn epsilon(&self) -> f64 {
        self.config.epsilon
    }

    /// Returns whether `x` is normalized by the statistics of its batch: the layer is trained, and `x` is
    /// on an autodiff device.
    pub(super) fn follows_batch(&self, x: &Tensor<4>) -> bool {
        self.config.kind == NormKind::Batch && x.device().is_autodiff()
    }

    /// Returns whether the layer is part of the convolution before it.
    pub(super) fn is_folded(&self) -> bool {
        self.folded
    }

    /// Marks the layer as part of the convolution before it.
    pub(super) fn into_folded(self) -> Self {
        Self {
            folded: true,
            ..self
        }
    }

    /// Returns scale and shift by the running statistics, `[channels]` each, on a device.
    pub(super) fn scale_and_shift(&self, device: &Device) -> [Tensor<1>; 2] {
        let mean = self.running_mean.value().to_device(device);
        let variance = self.running_var.value().to_device(device);
        let scale = self.weight.val() / (variance + self.config.epsilon).sqrt();
        let shift = self.bias.val() - mean * scale.clone();
        [scale, shift]
    }

    /// Computes `norm(x) + residual`, then ReLU if `with_relu`.
    ///
    /// Batch statistics are used only if the layer is trained and `x` is on an autodiff device.
    ///
    /// # Shapes
    /// `x`, `residual` and the result: `[batch, channels, height, width]`
    pub fn forward(&self, x: Tensor<4>, residual: Option<Tensor<4>>, with_relu: bool) -> Tensor<4> {
        if self.follows_batch(&x) {
            return self.forward_batch(x, residual, with_relu);
        }
        let [scale, shift] = self.scale_and_shift(&x.device());
        affine(x, scale, shift, residual, with_relu)
    }

    fn forward_batch(
        &self,
        x: Tensor<4>,
        residual: Option<Tensor<4>>,
        with_relu: bool,
    ) -> Tensor<4> {
        let [batch, _, height, width] = x.dims();
        let count = (batch * height * width) as f64;
        let out = batch_norm_train(x, self.weight.val(), self.bias.val(), self.config.epsilon);
        let unbiased = out.variance * (count / (count - 1.0).max(1.0));
        let blend = |old: Tensor<1>, new: Tensor<1>| {
            (old * (1.0 - self.config.momentum) + new.detach() * self.config.momentum).detach()
        };
        self.running_mean
            .update(blend(self.running_mean.value_sync(), out.mean));
        self.running_var
            .update(blend(self.running_var.value_sync(), unbiased));
        match (residual, with_relu) {
            (None, false) => out.y,
            (None, true) => relu(out.y),
            (Some(residual), false) => out.y + residual,
            (Some(residual), true) => add_relu(out.y, residual),
        }
    }
}
