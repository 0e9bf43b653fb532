//! `sedet ablate --jobs`: several runs at the same time, each by the same command with `--run`. Runs in threads of one
//! process would share its threads for computation and its random numbers, and would end with the first that panics.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sedet_core::device::DeviceChoice;
use sedet_core::train::ablation::{AblationObserver, AblationReport, RunPosition, Study, StudyRun};
use sedet_data::text::{count, duration};
use sysinfo::{Pid, ProcessesToUpdate, Signal, System};

use crate::cli::console::{problem, status};
use crate::cli::hints::usage_with_hint;
use crate::cli::launch::{DeviceList, threads_of_each};
use crate::cli::ranks::without;

/// Time between two looks at the processes.
const POLL: Duration = Duration::from_millis(50);

/// The options that the processes do not get.
const OWN_OPTIONS: [&str; 3] = ["--jobs", "--devices", "--device"];

/// Runs at the same time: the device of each.
pub(super) struct Jobs(Vec<DeviceChoice>);

impl Jobs {
    /// Returns the jobs that the options ask for; none if the runs are to be trained by this process.
    ///
    /// # Errors
    /// Fewer jobs than devices.
    pub(super) fn of(
        number: Option<u16>,
        devices: Option<&DeviceList>,
        device: Option<DeviceChoice>,
    ) -> anyhow::Result<Option<Self>> {
        let own = [device.unwrap_or_default()];
        let devices = devices.map_or(&own[..], DeviceList::all);
        let number = number.map_or(devices.len(), usize::from);
        if number < devices.len() {
            return Err(usage_with_hint(
                format!(
                    "--jobs {number} trains on {}, but --devices lists {}",
                    count(number, "device"),
                    devices.len()
                ),
                "list fewer devices, or omit --jobs",
            ));
        }
        let devices = devices.iter().cycle().take(number).copied();
        Ok((number > 1).then(|| Self(devices.collect())))
    }

    /// Trains the runs of a study and tabulates them.
    pub(super) fn train(
        self,
        study: &Study,
        stop: &AtomicBool,
        observer: &mut dyn AblationObserver,
    ) -> anyhow::Result<AblationReport> {
        let runs = study.runs();
        let (finished, open): (Vec<_>, Vec<_>) = runs.iter().partition(|run| run.is_finished());
        for run in finished {
            observer.already_finished(run.position(&runs));
        }
        let mut open: VecDeque<&StudyRun> = open.into();
        let arguments = without(&OWN_OPTIONS, std::env::args_os().skip(1));
        let threads = threads_of_each(self.0.len(), &arguments);
        let mut running: Vec<Option<Job>> = self.0.iter().map(|_| None).collect();
        let mut failures = Vec::new();
        loop {
            for (slot, device) in running.iter_mut().zip(&self.0) {
                if let Some(job) = slot
                    && let Some(status) = job.child.try_wait().context("a run")?
                {
                    let ended = slot.take().map(|job| job.end(status));
                    failures.extend(ended.flatten());
                }
                if slot.is_none() && !stop.load(Ordering::Relaxed) {
                    let Some(run) = open.pop_front() else {
                        continue;
                    };
                    let mut own = arguments.clone();
                    own.extend(["--job".into(), "--run".into()]);
                    own.push(run.number.to_string().into());
                    own.extend(["--device".into(), device.to_string().into()]);
                    if let Some(threads) = threads {
                        own.extend(["--threads".into(), threads.to_string().into()]);
                    }
                    match Job::start(run.position(&runs), &own) {
                        Ok(job) => *slot = Some(job),
                        Err(error) => {
                            running.iter_mut().flatten().for_each(Job::stop);
                            return Err(error);
                        }
                    }
                }
            }
            if running.iter().all(Option::is_none) {
                break;
            }
            if stop.load(Ordering::Relaxed) {
                running.iter_mut().flatten().for_each(Job::stop);
            }
            std::thread::sleep(POLL);
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(AblationReport::Interrupted);
        }
        Ok(study.report(
            failures
                .into_iter()
                .map(|failed: RunPosition| failed.number),
        )?)
    }
}

/// Saves the run of this process and ends it when the process that has started it has ended.
pub(super) fn stop_with_parent(stop: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        // Nothing is ever written to it; an error is its end, too.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        stop.store(true, Ordering::Relaxed);
    });
}

/// A run in a process of its own.
struct Job {
    position: RunPosition,
    child: Child,
    /// Prints what the process prints.
    printer: JoinHandle<()>,
    begun: Instant,
    is_stopped: bool,
}

impl Job {
    fn start(position: RunPosition, arguments: &[OsString]) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            // Kept open until this process ends, however it does.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        // Ctrl-C would reach it twice: from the terminal, and as SIGTERM from here.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        status!("{position}");
        let mut child = command.spawn().context("a run cannot be started")?;
        let (number, total) = (position.number, position.total);
        let stderr = child.stderr.take();
        let printer = std::thread::spawn(move || {
            let lines = stderr
                .into_iter()
                .flat_map(|pipe| BufReader::new(pipe).lines());
            for line in lines.map_while(io::Result::ok) {
                problem!("[{number}/{total}] {line}");
            }
        });
        Ok(Self {
            position,
            child,
            printer,
            begun: Instant::now(),
            is_stopped: false,
        })
    }

    /// Asks the process to save its run and to end.
    fn stop(&mut self) {
        if std::mem::replace(&mut self.is_stopped, true) {
            return;
        }
        let pid = Pid::from_u32(self.child.id());
        let mut system = System::new();
        system.refresh_processes(ProcessesToUpdate::Some(&[pid]), false);
        let asked = system
            .process(pid)
            .and_then(|process| process.kill_with(Signal::Term));
        // Where there is no such signal, the last checkpoint remains.
        if asked.is_none() {
            let _ = self.child.kill();
        }
    }

    /// Returns its position if the run failed.
    fn end(self, status: ExitStatus) -> Option<RunPosition> {
        // It ends with the process; if it panicked, only lines are missing.
        let _ = self.printer.join();
        if status.success() {
            let time = duration(self.begun.elapsed().as_secs_f64());
            status!("{}: finished in {time}", self.position);
            return None;
        }
        // An error was printed by the process itself, unless it was killed.
        if status.code().is_none() {
            problem!("{}: {status}", self.position);
        }
        Some(self.position)
    }
}
