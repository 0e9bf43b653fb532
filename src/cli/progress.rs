//! Progress on stderr: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::report::report_skipped;
use super::status;
use sedet_core::train::engine::{EpochEvaluation, EpochReport, StepReport};
use sedet_core::train::observer::{Notice, Observer};
use sedet_core::train::run_dir::RunDir;
use sedet_data::text::duration;

/// Prints the progress of a training run.
#[derive(Debug)]
pub(super) struct ConsoleProgress {
    bar: Option<ProgressBar>,
    start: Instant,
    /// The first step of this session.
    first: Option<usize>,
    last_line: Instant,
}

/// Time between lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(15);

impl Default for ConsoleProgress {
    fn default() -> Self {
        Self {
            bar: None,
            start: Instant::now(),
            first: None,
            last_line: Instant::now(),
        }
    }
}

impl Drop for ConsoleProgress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl ConsoleProgress {
    fn line(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => status!("{line}"),
        }
    }

    /// Formats the time that is left, once there is a step after the first to measure it with.
    fn remaining(&self, report: &StepReport<'_>) -> String {
        let done = report.iteration.saturating_sub(self.first.unwrap_or(0));
        if done == 0 {
            return String::new();
        }
        let left = report.iterations.saturating_sub(report.iteration);
        let seconds = self.start.elapsed().as_secs_f64() / done as f64 * left as f64;
        format!("  {} left", duration(seconds))
    }

    /// Begins at the first step: reading data and weights is not part of the speed.
    fn begin(&mut self, report: &StepReport<'_>) {
        if self.first.is_some() {
            return;
        }
        self.first = Some(report.iteration);
        self.start = Instant::now();
        if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{msg}\n{wide_bar} {pos}/{len}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            self.bar = Some(ProgressBar::new(0).with_style(style));
        }
    }

    /// Removes the bar, so that lines can be printed.
    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Observer for ConsoleProgress {
    fn step(&mut self, report: &StepReport<'_>) {
        self.begin(report);
        let due = report.iteration == 1 || self.last_line.elapsed() >= LINE_INTERVAL;
        if self.bar.is_none() && !due {
            return;
        }
        let line = format!("{report}{}", self.remaining(report));
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

    fn evaluated(&mut self, _epoch: usize, _evaluation: &EpochEvaluation, _is_best: bool) {}

    fn epoch(&mut self, report: &EpochReport<'_>) {
        self.line(&report.to_string());
    }

    fn notice(&mut self, notice: &Notice) {
        match notice {
            Notice::SkippedInTraining { reasons, file } => {
                self.end();
                report_skipped("skipped in training", reasons, Some(file));
            }
            Notice::SkippedInEvaluation { reasons } => {
                self.end();
                report_skipped("skipped in evaluation", reasons, None);
            }
            Notice::AlreadyTrained { run, epochs } => {
                let best = RunDir::at(run).best_checkpoint();
                self.line(&notice.to_string());
                self.line(&format!(
                    "hint: to train longer: sedet train --resume {} --epochs N with N above {epochs}; for a new \
                     run: sedet train --weights {} --dataset DATASET --output NEW",
                    run.display(),
                    best.display()
                ));
            }
            Notice::StoppedEarly | Notice::TimeLimit => {
                self.end();
                status!("{notice}");
            }
            _ => self.line(&notice.to_string()),
        }
    }
}
