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

impl EpochReport<'_> {
    /// Formats what fits into a terminal of 80 columns: all but the learning rate and the speed, which the
    /// reports on steps have.
    pub fn short(&self) -> String {
        let mut parts = self.result();
        if self.images > 0 {
            parts.push(duration(self.seconds));
        }
        parts.join("  ")
    }

    /// Returns the epoch, its loss and its evaluation.
    fn result(&self) -> Vec<String> {
        let mut parts = vec![format!("epoch {}/{}", self.epoch + 1, self.epochs)];
        let loss = self.losses.first();
        parts.extend(loss.map(|(name, value)| format!("{name} {value:.3}")));
        if let Some((evaluation, is_best)) = self.evaluation {
            parts.push(evaluation.to_string());
            parts.extend(is_best.then(|| "best".to_string()));
        }
        parts
    }
}

impl fmt::Display for EpochReport<'_> {
    /// Formats everything, for a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = self.result();
        if self.images > 0 {
            let speed = self.images as f64 / self.seconds.max(1e-9);
            parts.push(format!("lr {:.2e}", self.learning_rate));
            parts.push(format!("{speed:.1} images/s"));
            parts.push(duration(self.seconds));
        }
        f.write_str(&parts.join("  "))
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
    /// Formats the metrics that fit into a line.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(metrics: &[(&str, f64)]) -> EpochEvaluation {
        let metrics = metrics.iter();
        EpochEvaluation {
            score: 0.5,
            loss: None,
            metrics: metrics
                .map(|(name, value)| (name.to_string(), *value))
                .collect(),
        }
    }

    #[test]
    fn the_line_of_an_epoch_fits_80_columns_and_the_log_has_the_rest() {
        let report = |evaluation, images| EpochReport {
            epoch: 299,
            epochs: 300,
            losses: vec![("loss".into(), 12.3456)],
            learning_rate: 0.0025,
            seconds: 750.0,
            images,
            evaluation,
        };
        let boxes = metrics(&[("AP", 0.375), ("AP50", 0.5), ("AP75", 0.4375), ("APs", 0.2)]);
        let detector = report(Some((&boxes, true)), 90_000);
        let start = "epoch 300/300  loss 12.346  AP 0.375  AP50 0.500  AP75 0.438  best";
        assert_eq!(detector.short(), format!("{start}  12 min 30 s"));
        assert!(detector.short().len() <= 80, "{}", detector.short());
        let log = format!("{start}  lr 2.50e-3  120.0 images/s  12 min 30 s");
        assert_eq!(detector.to_string(), log);
        let classes = metrics(&[("top1", 93.25)]);
        assert_eq!(
            report(Some((&classes, false)), 0).short(),
            "epoch 300/300  loss 12.346  top-1 93.25 %"
        );
        assert_eq!(
            report(None, 90_000).short(),
            "epoch 300/300  loss 12.346  12 min 30 s"
        );
    }
}
