//! The state of a training run that its last checkpoint stores beside the tensors.

use serde::{Deserialize, Serialize};

/// The progress of a training run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainingProgress {
    /// Number of completed optimizer steps.
    pub iteration: usize,
    /// The current epoch, from 0.
    pub epoch: usize,
    /// Number of completed batches of the epoch.
    pub batch: usize,
    /// Best score so far.
    #[serde(with = "super::exact")]
    pub best_score: Option<f64>,
    /// Number of evaluations since the best score.
    pub evaluations_without_gain: usize,
    /// The iteration of the last evaluation.
    pub evaluated_at: Option<usize>,
    /// The state of schedules that depend on the loss.
    #[serde(default)]
    pub plateau: PlateauState,
    /// Number of EMA updates.
    pub ema_updates: u64,
    /// Training time of all sessions in seconds; not part of the result.
    pub seconds: f64,
}

/// The state of a schedule that lowers the learning rate when the loss no longer falls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct PlateauState {
    /// The lowest loss so far.
    #[serde(with = "super::exact")]
    pub(crate) lowest: Option<f64>,
    /// Number of evaluations since the lowest loss, or since the last drop.
    pub(crate) without_gain: usize,
    /// Number of drops of the rate.
    pub drops: usize,
}
