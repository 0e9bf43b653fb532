//! Reports on steps, epochs and evaluations of a training run, for observers and logs.

use std::fmt;

use sedet_data::text::duration;

/// The report on one step, for observers.
#[derive(Debug, Clone)]
pub struct StepReport<'a> {
    /// Number of completed optimizer steps.
    pub iteration: usize,
    /// Total number of steps.
    pub iterations: usize,
    /// The epoch, from 0.
    pub epoch: usize,
    /// The loss and its parts.
    pub losses: &'a [(String, f64)],
    /// The learning rate at this step.
    pub learning_rate: f64,
    /// Images per second since the last report.
    pub images_per_second: f64,
    /// Fraction of the time spent waiting for data, 0 to 1.
    pub data_wait: f64,
}

impl fmt::Display for StepReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "epoch {} iteration {}/{}  {}  lr {:.2e}  {:.1} images/s  data wait {:.0} %",
            self.epoch + 1,
            self.iteration,
            self.iterations,
            listed(self.losses),
            self.learning_rate,
            self.images_per_second,
            self.data_wait * 100.0,
        )
    }
}

/// Formats losses with their names.
fn listed(losses: &[(String, f64)]) -> String {
    let losses = losses.iter();
    let losses = losses.map(|(name, value)| format!("{name} {value:.3}"));
    losses.collect::<Vec<_>>().join("  ")
}

/// The report on an epoch, or on the part of it that this session trained.
#[derive(Debug, Clone)]
pub struct EpochReport<'a> {
    /// The epoch, from 0.
    pub epoch: usize,
    /// Number of epochs of the run.
    pub epochs: usize,
    /// Means of the loss and its parts over the steps; empty without a step.
    pub losses: Vec<(String, f64)>,
    /// The learning rate of the last step.
    pub learning_rate: f64,
    /// Seconds of training, without the evaluation.
    pub seconds: f64,
    /// Number of images.
    pub images: usize,
    /// The evaluation after the epoch, and whether it is the best so far.
    pub evaluation: Option<(&'a EpochEvaluation, bool)>,
}

impl fmt::Display for EpochReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {}/{}", self.epoch + 1, self.epochs)?;
        if let Some((name, value)) = self.losses.first() {
            write!(f, "  {name} {value:.3}")?;
        }
        if let Some((evaluation, is_best)) = self.evaluation {
            let best = if is_best { " (best so far)" } else { "" };
            write!(f, "  {evaluation}{best}")?;
        }
        if self.images > 0 {
            let speed = self.images as f64 / self.seconds.max(1e-9);
            write!(
                f,
                "  lr {:.2e}  {speed:.1} images/s  {}",
                self.learning_rate,
                duration(self.seconds)
            )?;
        }
        Ok(())
    }
}

/// The result of the evaluation after an epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct EpochEvaluation {
    /// The score that selects the best checkpoint; higher is better.
    pub score: f64,
    /// The validation loss, if it is computed.
    pub loss: Option<f64>,
    /// The metrics by name.
    pub metrics: Vec<(String, f64)>,
}

impl fmt::Display for EpochEvaluation {
    /// Formats the metrics that a line has room for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = self
            .metrics
            .iter()
            .filter_map(|(name, value)| match name.as_str() {
                "AP" | "AP50" | "AP75" => Some(format!("{name} {value:.3}")),
                "top1" => Some(format!("top-1 {value:.2} %")),
                _ => None,
            });
        f.write_str(&numbers.collect::<Vec<_>>().join("  "))
    }
}
