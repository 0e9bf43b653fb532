//! Batch norm, trained or frozen.
//!
//! Both are one module, so that a checkpoint has the same tensors for either.

use std::cell::RefCell;
use std::sync::Arc;

use burn::module::{Initializer, Module, Param, ParamId, RunningState};
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kernels::affine::{add_relu, affine, relu};
use crate::kernels::batch_norm::{Processes, batch_norm_train};

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

    /// Returns whether `x` is normalized by the statistics of its batch: the layer is trained, and `x` and its
    /// parameters are on an autodiff device. Parameters of a network in evaluation mode are not, so that a gradient for a
    /// feature map of such a network is that of the function that it computes in evaluation.
    pub(super) fn follows_batch(&self, x: &Tensor<4>) -> bool {
        self.config.kind == NormKind::Batch
            && x.device().is_autodiff()
            && self.weight.val().device().is_autodiff()
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
    /// Batch statistics are used only if the layer is trained, and `x` and the parameters are on an autodiff device.
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
        let out = batch_norm_train(
            x,
            self.weight.val(),
            self.bias.val(),
            self.config.epsilon,
            SHARED.with_borrow(|shared| shared.processes.clone()),
        );
        let unbiased = out.variance * (out.count / (out.count - 1.0).max(1.0));
        self.follow(BatchStatistics {
            norm: self.weight.id,
            momentum: self.config.momentum,
            mean: out.mean,
            variance: unbiased,
        });
        match (residual, with_relu) {
            (None, false) => out.y,
            (None, true) => relu(out.y),
            (Some(residual), false) => out.y + residual,
            (Some(residual), true) => add_relu(out.y, residual),
        }
    }

    /// Adds a batch to the running statistics, or keeps it for [`keeping_statistics`].
    fn follow(&self, batch: BatchStatistics) {
        let batch = SHARED.with_borrow_mut(|shared| match &mut shared.kept {
            Some(kept) => {
                kept.push(batch);
                None
            }
            None => Some(batch),
        });
        let Some(batch) = batch else { return };
        let follow = |running: &RunningState<Tensor<1>>, batch_value| {
            running.update(blend(running.value_sync(), batch_value, batch.momentum));
            // burn keeps an update for its thread and averages those of several threads later. The passes of one
            // network run on the threads of a pool in turn: without this, each would begin at a value that lacks
            // the last batches.
            running.value_sync();
        };
        follow(&self.running_mean, batch.mean);
        follow(&self.running_var, batch.variance);
    }
}

/// Returns running statistics after a batch.
///
/// # Shapes
/// All: `[channels]`
pub fn blend(old: Tensor<1>, batch: Tensor<1>, momentum: f64) -> Tensor<1> {
    (old * (1.0 - momentum) + batch.detach() * momentum).detach()
}

/// The statistics of a batch at one norm, which training adds to the running ones.
#[derive(Debug, Clone)]
pub struct BatchStatistics {
    /// The id of the norm's scale.
    pub norm: ParamId,
    /// The weight of the batch; see [`blend`].
    pub momentum: f64,
    /// The mean, `[channels]`.
    pub mean: Tensor<1>,
    /// The unbiased variance, `[channels]`.
    pub variance: Tensor<1>,
}

/// What several processes share of a pass.
#[derive(Debug, Default)]
pub(super) struct SharedPass {
    /// What the batches of [`keeping_statistics`] would have added.
    kept: Option<Vec<BatchStatistics>>,
    /// The processes whose batches are normalized together.
    processes: Option<Arc<dyn Processes>>,
}

thread_local! {
    static SHARED: RefCell<SharedPass> = RefCell::default();
}

/// Runs a forward pass on this thread that leaves the running statistics as they are, and returns what it would have
/// added to them, in its order. Several processes that each compute some of the batches need it to add all of them
/// in one order.
///
/// With `processes`, each batch is normalized by the statistics of the batches of all of them, which also are what is
/// returned.
pub fn keeping_statistics<T>(
    processes: Option<Arc<dyn Processes>>,
    work: impl FnOnce() -> T,
) -> (T, Vec<BatchStatistics>) {
    let outer = replace_shared(SharedPass {
        kept: Some(Vec::new()),
        processes,
    });
    let result = work();
    (result, replace_shared(outer).kept.unwrap_or_default())
}

/// Replaces what the passes of this thread share, for a pass that goes on on another thread.
pub(super) fn replace_shared(shared: SharedPass) -> SharedPass {
    SHARED.replace(shared)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;

    #[test]
    fn running_statistics_do_not_depend_on_the_threads_of_the_passes() {
        let device = Device::flex().autodiff();
        let pass = |norm: &Norm, batch: usize| {
            let values = (0..24).map(|at| ((at * 7 + batch * 13) as f32).sin());
            let x = TensorData::new(values.collect::<Vec<f32>>(), [2, 3, 2, 2]);
            norm.forward(Tensor::from_data(x, &device), None, false);
        };
        let statistics = |norm: &Norm| {
            let tensors = [&norm.running_mean, &norm.running_var];
            tensors.map(|running| running.value().into_data())
        };
        let [one, several] = [(); 2].map(|()| NormConfig::new(NormKind::Batch).init(3, &device));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build();
        let pool = pool.unwrap();
        for batch in 0..7 {
            pass(&one, batch);
            // Each thread of the pool in turn.
            pool.broadcast(|context| {
                if context.index() == batch % 3 {
                    pass(&several, batch);
                }
            });
        }
        assert_eq!(statistics(&several), statistics(&one));
    }
}
