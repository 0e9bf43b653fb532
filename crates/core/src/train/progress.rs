//! What a person sees of a run, on stderr: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::engine::{Evaluation, Observer, StepReport};
use crate::status;
use crate::weights::checkpoint::CheckpointError;

/// Prints the progress of a run.
#[derive(Debug)]
pub struct ConsoleProgress {
    bar: Option<ProgressBar>,
    start: Instant,
    /// Steps done before this session.
    first: Option<usize>,
    last_line: Instant,
}

/// Between lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(15);

impl Default for ConsoleProgress {
    fn default() -> Self {
        Self {
            bar: std::io::stderr().is_terminal().then(|| {
                let style = ProgressStyle::with_template("{msg}\n{wide_bar} {pos}/{len}");
                ProgressBar::new(0)
                    .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            }),
            start: Instant::now(),
            first: None,
            last_line: Instant::now(),
        }
    }
}

impl ConsoleProgress {
    fn status(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => status!("{line}"),
        }
    }

    /// Take the bar away; the run is over.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn remaining(&self, report: &StepReport<'_>) -> String {
        let first = self.first.unwrap_or(0);
        let done = report.iteration.saturating_sub(first).max(1);
        let left = report.iterations.saturating_sub(report.iteration);
        let seconds = self.start.elapsed().as_secs_f64() / done as f64 * left as f64;
        duration(seconds)
    }
}

/// `1 h 05 min`, `12 min 30 s`, `40 s`.
pub fn duration(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {:02} s", s / 60, s % 60),
        _ => format!("{} h {:02} min", s / 3600, s % 3600 / 60),
    }
}

impl Observer for ConsoleProgress {
    fn step(&mut self, report: &StepReport<'_>) {
        self.first.get_or_insert(report.iteration.saturating_sub(1));
        let due = report.iteration == 1 || self.last_line.elapsed() >= LINE_INTERVAL;
        if self.bar.is_none() && !due {
            return;
        }
        let losses: Vec<String> = report
            .losses
            .iter()
            .map(|(name, value)| format!("{name} {value:.3}"))
            .collect();
        let line = format!(
            "epoch {} iteration {}/{}  {}  lr {:.2e}  {:.1} images/s  data wait {:.0} %  {} left",
            report.epoch + 1,
            report.iteration,
            report.iterations,
            losses.join("  "),
            report.learning_rate,
            report.images_per_second,
            report.data_wait * 100.0,
            self.remaining(report),
        );
        match &self.bar {
            Some(bar) => {
                bar.set_length(report.iterations as u64);
                bar.set_position(report.iteration as u64);
                bar.set_message(line);
            }
            None => status!("{line}"),
        }
        if due {
            self.last_line = Instant::now();
        }
    }

    fn evaluating(&mut self, epoch: usize) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("epoch {}: evaluating", epoch + 1));
        }
    }

    fn went_back(&mut self, damage: &CheckpointError, to: &Path) {
        self.status(&format!("{damage}; going on from {}", to.display()));
    }

    fn evaluated(&mut self, epoch: usize, evaluation: &Evaluation, is_best: bool) {
        let numbers: Vec<String> = evaluation
            .metrics
            .iter()
            .filter(|(name, _)| ["AP", "AP50", "AP75", "top1"].contains(&name.as_str()))
            .map(|(name, value)| format!("{name} {value:.3}"))
            .collect();
        let best = if is_best { "  (best so far)" } else { "" };
        self.status(&format!(
            "epoch {}: {}{best}",
            epoch + 1,
            numbers.join("  ")
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_told_in_two_units_at_most() {
        assert_eq!(duration(39.6), "40 s");
        assert_eq!(duration(750.0), "12 min 30 s");
        assert_eq!(duration(3900.0), "1 h 05 min");
    }
}
