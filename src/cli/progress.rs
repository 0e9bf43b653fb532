//! Progress on stderr: a bar on a terminal, a line every ten seconds elsewhere, nothing with `--quiet`.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{DecimalBytes, ProgressBar, ProgressStyle};

use super::console::{debug, problem, shows_status, status};
use super::report::report_skipped;
use super::terminal::{hanging, width};
use super::{quoted, stop_on_ctrl_c};
use sedet_core::train::engine::goes_on;
use sedet_core::train::observer::{Notice, Observer};
use sedet_core::train::progress::{EpochEvaluation, EpochReport, StepReport};
use sedet_core::train::run_dir::RunDir;
use sedet_core::train::summary::LABEL;
use sedet_data::text::duration;

/// Prints the progress of a training run.
#[derive(Debug)]
pub(super) struct ConsoleProgress {
    bar: Option<ProgressBar>,
    start: Instant,
    /// The first step of this session.
    first: Option<usize>,
    last_line: Instant,
    /// The evaluation in progress.
    evaluation: Option<Phase>,
}

/// Time between lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Returns whether progress is shown as a bar.
fn has_bar() -> bool {
    shows_status() && std::io::stderr().is_terminal()
}

/// The unit in which progress is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Images.
    Images,
    /// Runs of a measurement.
    Runs,
    /// Samples of a bootstrap.
    Samples,
    /// Operations of a network.
    Operations,
    /// Channels of SE units.
    Channels,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// Returns the template of a bar.
    fn style(self) -> ProgressStyle {
        let template = match self {
            Self::Images | Self::Runs | Self::Samples | Self::Operations | Self::Channels => {
                "{msg} {wide_bar} {pos}/{len} {eta}"
            }
            Self::Bytes => {
                "{msg} {decimal_bytes} of {decimal_total_bytes}, {decimal_bytes_per_sec} {wide_bar} {eta}"
            }
        };
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
    }

    fn amount(self, number: u64) -> String {
        match self {
            Self::Images | Self::Runs | Self::Samples | Self::Operations | Self::Channels => {
                number.to_string()
            }
            Self::Bytes => DecimalBytes(number).to_string(),
        }
    }
}

/// The progress of one operation after another.
#[derive(Debug)]
pub(super) struct Meter {
    bar: Option<ProgressBar>,
    phase: Mutex<Phase>,
}

/// The operation in progress.
#[derive(Debug)]
struct Phase {
    /// What is being done, such as `evaluating`.
    what: String,
    unit: Unit,
    begun: Instant,
    /// Amount that was done at the start; it does not count for the speed.
    first: u64,
    done: u64,
    last_line: Instant,
}

impl Phase {
    fn new(what: &str, unit: Unit, first: u64, now: Instant) -> Self {
        Self {
            what: what.to_string(),
            unit,
            begun: now,
            first,
            done: first,
            last_line: now,
        }
    }

    /// Returns the line to print at this time, if the last one was long enough ago.
    fn line(&mut self, total: Option<u64>, now: Instant) -> Option<String> {
        if now.duration_since(self.last_line) < LINE_INTERVAL {
            return None;
        }
        self.last_line = now;
        let amount = |number| self.unit.amount(number);
        let done = amount(self.done);
        let noun = match self.unit {
            Unit::Images => " images",
            Unit::Runs => " runs",
            Unit::Samples => " samples",
            Unit::Operations => " operations",
            Unit::Channels => " channels",
            Unit::Bytes => "",
        };
        let Some(total) = total else {
            return Some(format!("{}: {done}{noun}", self.what));
        };
        let per_second = self.done.saturating_sub(self.first) as f64
            / now.duration_since(self.begun).as_secs_f64();
        let left = if per_second > 0.0 {
            let seconds = total.saturating_sub(self.done) as f64 / per_second;
            format!(", {} left", duration(seconds))
        } else {
            String::new()
        };
        Some(format!(
            "{}: {done} of {}{noun} ({:.0} %){left}",
            self.what,
            amount(total),
            100.0 * self.done as f64 / total.max(1) as f64
        ))
    }

    /// Prints the time that the operation took.
    fn report(&self) {
        debug!("{}: {:.3} s", self.what, self.begun.elapsed().as_secs_f64());
    }
}

impl Meter {
    /// Begins an operation.
    pub(super) fn new(what: &str, unit: Unit) -> Self {
        let bar = has_bar().then(|| {
            ProgressBar::no_length()
                .with_style(unit.style())
                .with_message(what.to_string())
        });
        Self {
            bar,
            phase: Mutex::new(Phase::new(what, unit, 0, Instant::now())),
        }
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the next operation if this is not the one in progress, of which `done` is done already.
    pub(super) fn begin(&self, what: &str, unit: Unit, done: u64) {
        let mut phase = self.phase();
        if phase.what == what && done >= phase.done {
            return;
        }
        if phase.what != what {
            phase.report();
        }
        *phase = Phase::new(what, unit, done, Instant::now());
        if let Some(bar) = &self.bar {
            bar.set_style(unit.style());
            bar.set_message(what.to_string());
            bar.reset();
            bar.set_position(done);
            bar.reset_eta();
        }
    }

    /// Shows how much is done.
    pub(super) fn show(&self, done: u64, total: Option<u64>) {
        let mut phase = self.phase();
        phase.done = done;
        match &self.bar {
            Some(bar) => {
                if let Some(total) = total {
                    bar.set_length(total);
                }
                bar.set_position(done);
            }
            None => {
                if let Some(line) = phase.line(total, Instant::now()) {
                    status!("{line}");
                }
            }
        }
    }
}

/// Runs an operation that decodes images and shows how many are decoded.
pub(super) fn while_decoding<T>(work: impl FnOnce(&(dyn Fn(usize, usize) + Sync)) -> T) -> T {
    let meter = Meter::new("decoding images", Unit::Images);
    work(&|done, all| meter.show(done as u64, Some(all as u64)))
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.phase().report();
    }
}

impl Default for ConsoleProgress {
    fn default() -> Self {
        Self {
            bar: None,
            start: Instant::now(),
            first: None,
            last_line: Instant::now(),
            evaluation: None,
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
        if has_bar() {
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
        let what = format!("epoch {}: evaluating", epoch + 1);
        self.evaluation = Some(Phase::new(&what, Unit::Images, 0, Instant::now()));
    }

    fn evaluated_images(&mut self, done: usize, all: usize) {
        // The final evaluation is of no epoch.
        let phase = self.evaluation.get_or_insert_with(|| {
            Phase::new(
                "evaluating the best checkpoint",
                Unit::Images,
                0,
                Instant::now(),
            )
        });
        phase.done = done as u64;
        match &self.bar {
            Some(bar) => bar.set_message(format!("{} {done}/{all}", phase.what)),
            None => {
                if let Some(line) = phase.line(Some(all as u64), Instant::now()) {
                    status!("{line}");
                }
            }
        }
    }

    fn evaluated(&mut self, _epoch: usize, _evaluation: &EpochEvaluation, _is_best: bool) {
        self.evaluation = None;
    }

    fn epoch(&mut self, report: &EpochReport<'_>) {
        self.line(&report.short());
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
            Notice::Summary(summary) => {
                for (label, text) in summary.rows() {
                    let label = format!("{label:<LABEL$}");
                    self.line(hanging(&label, &text, width()).trim_end());
                }
            }
            Notice::AlreadyTrained { run, epochs, .. } => {
                let best = RunDir::at(run).best_checkpoint();
                self.line(&notice.to_string());
                // A run that was shortened before its first evaluation has no best weights yet.
                let new_run = if best.exists() {
                    format!(
                        "; for a new run: sedet train --weights {} --dataset DATASET --output NEW",
                        quoted(best.display())
                    )
                } else {
                    String::new()
                };
                self.line(&format!(
                    "hint: to train longer: sedet train --resume {} --epochs N with N above {epochs}{new_run}",
                    quoted(run.display()),
                ));
            }
            Notice::StoppedEarly | Notice::TimeLimit => {
                self.end();
                status!("{notice}");
            }
            Notice::SettingWarning(_)
            | Notice::OtherShapes { .. }
            | Notice::LowAnchorRecall { .. }
            | Notice::UnverifiedDataset { .. }
            | Notice::Recovered { .. } => {
                self.end();
                problem!("{notice}");
            }
            _ => self.line(&notice.to_string()),
        }
    }
}

/// Runs work on images with progress under the name `what`. The work gets a callback that takes the numbers of
/// finished and of all images, and ends the work after Ctrl-C.
pub(super) fn with_bar<T>(
    what: &str,
    work: impl FnOnce(&mut dyn FnMut(usize, usize) -> ControlFlow<()>) -> T,
) -> anyhow::Result<T> {
    with_bar_of(Unit::Images, what, work)
}

/// Does the same as [`with_bar`] for work on something else than images.
pub(super) fn with_bar_of<T>(
    unit: Unit,
    what: &str,
    work: impl FnOnce(&mut dyn FnMut(usize, usize) -> ControlFlow<()>) -> T,
) -> anyhow::Result<T> {
    let stop = stop_on_ctrl_c()?;
    let meter = Meter::new(what, unit);
    Ok(work(&mut |done, all| {
        meter.show(done as u64, Some(all as u64));
        goes_on(&stop)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_terminal_a_line_appears_every_ten_seconds() {
        let start = Instant::now();
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        let mut phase = Phase::new("evaluating", Unit::Images, 0, start);
        let mut line_at = |seconds: u64, done: u64, total| {
            phase.done = done;
            phase.line(total, after(seconds))
        };
        assert_eq!(line_at(9, 45, Some(200)), None);
        let line = line_at(10, 50, Some(200)).unwrap();
        assert_eq!(line, "evaluating: 50 of 200 images (25 %), 30 s left");
        assert_eq!(line_at(19, 95, Some(200)), None);
        let line = line_at(25, 125, None).unwrap();
        assert_eq!(line, "evaluating: 125 images");
    }

    #[test]
    fn bytes_that_were_there_before_do_not_count_for_the_remaining_time() {
        let start = Instant::now();
        let mut phase = Phase::new("downloading train", Unit::Bytes, 5_000_000, start);
        phase.done = 6_000_000;
        let line = phase.line(Some(10_000_000), start + LINE_INTERVAL).unwrap();
        assert_eq!(
            line,
            "downloading train: 6.00 MB of 10.00 MB (60 %), 40 s left"
        );
    }
}
