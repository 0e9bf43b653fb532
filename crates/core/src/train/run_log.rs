//! The log file of a run: the lines that an observer shows, kept in its directory.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::time::{Duration, Instant};

use super::observer::{Notice, Observer};
use super::progress::{EpochEvaluation, EpochReport, StepReport};
use super::run_dir::RunDir;
use sedet_data::system_errors::plain;

/// Time between two lines about single steps.
const STEP_INTERVAL: Duration = Duration::from_secs(10);

/// Steps, and time, after which the duration of a run is estimated. The first step is not typical: it
/// fills caches.
const TIMED_STEPS: usize = 20;
const TIMED: Duration = Duration::from_secs(5);

/// The end of a run that is nearer than this is not announced.
const SHORT: Duration = Duration::from_secs(20);

/// Passes everything on to another observer and writes it to `log.txt`. Lines from before the directory
/// of the run exists are written when it is opened.
pub(super) struct LogObserver<'a> {
    inner: &'a mut dyn Observer,
    file: Option<File>,
    waiting: Vec<String>,
    last_step: Option<Instant>,
    timing: Timing,
}

/// The measurement of the time of a step.
enum Timing {
    /// No step is done.
    Waiting,
    /// Since the end of the first step, which had this number.
    Since(Instant, usize),
    /// The estimate was given.
    Done,
}

impl<'a> LogObserver<'a> {
    pub(super) fn new(inner: &'a mut dyn Observer) -> Self {
        Self {
            inner,
            file: None,
            waiting: Vec::new(),
            last_step: None,
            timing: Timing::Waiting,
        }
    }

    /// Begins to write to the directory of a run, after the lines of earlier sessions.
    pub(super) fn open(&mut self, run: &RunDir) {
        if !run.is_writable() {
            return;
        }
        let arguments = std::env::args_os();
        let command: Vec<String> = arguments
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect();
        let opened = OpenOptions::new().append(true).create(true).open(run.log());
        // A run is not worth less without its log, and the same lines are on the console.
        self.file = opened.ok();
        let waiting = std::mem::take(&mut self.waiting);
        self.line(&format!("$ {}", command.join(" ")));
        for line in waiting {
            self.line(&line);
        }
    }

    /// Writes one or more lines.
    pub(super) fn line(&mut self, text: &str) {
        let text = plain(text);
        match &mut self.file {
            Some(file) => {
                let _ = file.write_all(format!("{text}\n").as_bytes());
            }
            None => self.waiting.push(text),
        }
    }

    /// Returns the estimate of the time that a run takes, once there are enough steps.
    fn expected_time(&mut self, report: &StepReport<'_>) -> Option<Notice> {
        match self.timing {
            Timing::Waiting => {
                self.timing = Timing::Since(Instant::now(), report.iteration);
                None
            }
            Timing::Since(start, first) => {
                let steps = report.iteration.saturating_sub(first);
                let elapsed = start.elapsed();
                if steps < TIMED_STEPS && (steps < 2 || elapsed < TIMED) {
                    return None;
                }
                self.timing = Timing::Done;
                let left = report.iterations.saturating_sub(report.iteration);
                let step = elapsed.as_secs_f64() / steps as f64;
                let remaining = step * left as f64;
                (remaining >= SHORT.as_secs_f64()).then_some(Notice::ExpectedTime {
                    step,
                    remaining,
                    steps: left,
                })
            }
            Timing::Done => None,
        }
    }
}

impl Observer for LogObserver<'_> {
    fn step(&mut self, report: &StepReport<'_>) {
        let is_due = self
            .last_step
            .is_none_or(|last| last.elapsed() >= STEP_INTERVAL);
        if is_due {
            self.last_step = Some(Instant::now());
            self.line(&report.to_string());
        }
        self.inner.step(report);
        if let Some(notice) = self.expected_time(report) {
            self.notice(&notice);
        }
    }

    fn evaluating(&mut self, epoch: usize) {
        self.inner.evaluating(epoch);
    }

    fn evaluated_images(&mut self, done: usize, all: usize) {
        self.inner.evaluated_images(done, all);
    }

    fn evaluated(&mut self, epoch: usize, evaluation: &EpochEvaluation, is_best: bool) {
        self.inner.evaluated(epoch, evaluation, is_best);
    }

    fn epoch(&mut self, report: &EpochReport<'_>) {
        self.line(&report.to_string());
        self.inner.epoch(report);
    }

    fn notice(&mut self, notice: &Notice) {
        self.line(&notice.to_string());
        for reason in notice.details() {
            self.line(&format!("  {reason}"));
        }
        self.inner.notice(notice);
    }
}
