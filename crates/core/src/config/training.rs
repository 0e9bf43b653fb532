//! The section `[train]` of a recipe: loop, optimizer and learning rate.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use sedet_nn::kernels::bf16::ComputePrecision;

/// The settings of the training loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EngineConfig {
    /// Number of epochs.
    pub epochs: usize,
    /// Maximum number of optimizer steps; training may stop inside an epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub max_iterations: Option<usize>,
    /// Maximum number of minutes per session, including evaluations. The run is evaluated then and
    /// can be resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub max_minutes: Option<f64>,
    /// Number of batches whose gradients are averaged into one step.
    pub accumulate: usize,
    /// Learning rate at factor 1 of the schedule, for the batch size used.
    pub learning_rate: f64,
    /// The optimizer.
    pub optimizer: OptimizerConfig,
    /// Whether weight decay also applies to norm scales and biases.
    pub decay_norms: bool,
    /// Whether weight decay applies to the biases of convolutions and linear layers, if other than
    /// `decay_norms`. detectron2 decays them and no norms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub decay_biases: Option<bool>,
    /// Factor of the learning rate for the biases of convolutions and linear layers; 2 in Detectron
    /// (detectron2's `BIAS_LR_FACTOR`).
    #[serde(default = "common_rate", skip_serializing_if = "is_common_rate")]
    #[schemars(extend("default" = 1.0), !skip_serializing_if)]
    pub bias_learning_rate_factor: f64,
    /// The learning rate over time.
    pub schedule: ScheduleConfig,
    /// Maximum norm of the gradient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub clip_norm: Option<f64>,
    /// Decay of the EMA weights; without it, EMA is disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub ema_decay: Option<f64>,
    /// Epochs between evaluations; the last epoch is always evaluated.
    pub evaluate_every: usize,
    /// Number of evaluations, evenly over the training and with the last, whose weights are kept as
    /// `checkpoints/iteration-N.safetensors`. Without it, only the best and the last weights are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub keep_checkpoints: Option<usize>,
    /// Number of evaluations without a better score after which training stops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub patience: Option<usize>,
    /// Iterations between log events.
    pub log_every: usize,
    /// Minutes between saves of the last checkpoint inside an epoch.
    pub save_minutes: f64,
    /// Precision of the multiplications of convolutions and hidden linear layers, and of their gradients.
    /// Weights, norms, the optimizer, losses and box arithmetic are 32-bit floats in either, and so are feature maps, but in bf16 they
    /// are kept for the backward pass rounded. bf16 is faster on CPUs with AVX512-BF16; other CPUs compute in f32 instead.
    #[serde(default, skip_serializing_if = "ComputePrecision::is_f32")]
    #[schemars(!skip_serializing_if)]
    pub precision: ComputePrecision,
    /// Number of processes, which must be that of all that train together, whose batches are normalized by their common
    /// statistics (synchronized batch norm). Without it, each batch is normalized by its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub sync_norms: Option<usize>,
    /// Random seed.
    pub seed: u64,
    /// Whether a run that exceeds the available memory is rejected.
    #[serde(default = "checked", skip_serializing_if = "is_checked")]
    #[schemars(extend("default" = true), !skip_serializing_if)]
    pub check_memory: bool,
}

fn checked() -> bool {
    true
}

fn is_checked(check_memory: &bool) -> bool {
    *check_memory
}

fn common_rate() -> f64 {
    1.0
}

fn is_common_rate(factor: &f64) -> bool {
    *factor == 1.0
}

/// The configuration of an optimizer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// Stochastic gradient descent, `torch.optim.SGD` (dampening 0).
    Sgd {
        /// Factor of the old velocity.
        #[serde(default = "default_momentum")]
        momentum: f64,
        /// Weight decay: this factor times the weight is added to the gradient.
        #[serde(default = "default_sgd_decay")]
        weight_decay: f64,
        /// Whether Nesterov momentum is used.
        #[serde(default)]
        nesterov: bool,
    },
    /// `torch.optim.AdamW`: decoupled weight decay.
    Adamw {
        /// Decay rates of the two moments.
        #[serde(default = "default_betas")]
        betas: [f64; 2],
        /// Constant added to the denominator.
        #[serde(default = "default_epsilon")]
        epsilon: f64,
        /// Weight decay: this factor times the learning rate times the weight is subtracted per
        /// step.
        #[serde(default = "default_adamw_decay")]
        weight_decay: f64,
    },
}

impl OptimizerConfig {
    /// Returns the value of the key `kind`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Sgd { .. } => "sgd",
            Self::Adamw { .. } => "adamw",
        }
    }
}

/// The momentum of the detectors of torchvision and detectron2.
fn default_momentum() -> f64 {
    0.9
}

/// The weight decay of the detectors of torchvision and detectron2.
fn default_sgd_decay() -> f64 {
    1e-4
}

/// The weight decay of `torch.optim.AdamW`.
fn default_adamw_decay() -> f64 {
    0.01
}

fn default_betas() -> [f64; 2] {
    [0.9, 0.999]
}

fn default_epsilon() -> f64 {
    1e-8
}

/// The decay after the warm-up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Decay {
    /// No decay.
    Constant,
    /// Multiplies the rate by `gamma` at the start of each of these epochs.
    MultiStep {
        /// Epochs, counted from 0; fractions are allowed.
        milestones: Vec<f64>,
        /// Factor.
        #[serde(default = "default_gamma")]
        gamma: f64,
    },
    /// Multiplies the rate by `gamma` whenever the validation loss (or the score if there is none)
    /// has not improved for more than `patience` evaluations:
    /// `torch.optim.lr_scheduler.ReduceLROnPlateau` with a threshold of 0.
    Plateau {
        /// Factor.
        #[serde(default = "default_gamma")]
        gamma: f64,
        /// Number of tolerated evaluations without improvement.
        #[serde(default = "default_patience")]
        patience: usize,
    },
    /// Half a cosine from 1 to `floor` over the whole run.
    Cosine {
        /// The last factor.
        #[serde(default)]
        floor: f64,
    },
}

/// The factor of `torch.optim.lr_scheduler.MultiStepLR` and `ReduceLROnPlateau`.
fn default_gamma() -> f64 {
    0.1
}

/// The patience of `torch.optim.lr_scheduler.ReduceLROnPlateau`.
fn default_patience() -> usize {
    10
}

/// A linear warm-up, followed by a decay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// Iterations of the warm-up; at most those of the first epoch minus one (torchvision's
    /// detectors).
    #[serde(default)]
    pub warmup_iterations: usize,
    /// Length of the warm-up in epochs, instead of `warmup_iterations`; fractions are allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub warmup_epochs: Option<f64>,
    /// Factor at iteration 0.
    pub warmup_factor: f64,
    /// The decay after the warm-up.
    pub decay: Decay,
}
