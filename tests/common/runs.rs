//! Small training runs for tests of faults, and the results that must not depend on a fault.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use sedet::weights::checkpoint::Checkpoint;
use serde_json::Value;

use super::command::{sedet, text};
use super::images::write_cifar;

/// Number of steps of a run: three epochs of six batches.
pub const STEPS: usize = 18;

/// A small classifier that saves after every step, and its data.
pub struct Classifier {
    pub dir: tempfile::TempDir,
}

impl Classifier {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_cifar(&dir.path().join("cifar10"), 60, 30);
        Self { dir }
    }

    pub fn run(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn start(&self, run: &Path) -> Vec<String> {
        self.start_with(run, "--batch-size 10")
    }

    pub fn start_with(&self, run: &Path, more: &str) -> Vec<String> {
        let data = text(&self.dir.path().join("cifar10"));
        let words = format!(
            "train --dataset {data} --output {} --backbone se-resnet20 --config cifar-short \
             --epochs 3 {more} --set model.width=0.25 --set loader.threads=1 \
             --set train.save_minutes=0 --set train.log_every=1 --device cpu",
            run.display()
        );
        split(&words)
    }

    /// Starts a run that is stopped, and saved, after about N steps.
    pub fn stopped(&self, name: &str, steps: usize) -> PathBuf {
        let run = self.run(name);
        let mut child = spawn(&self.start(&run));
        wait_for_steps(&mut child, &run, steps);
        signal(&child, "TERM");
        assert_eq!(child.wait().unwrap().code(), Some(1));
        run
    }

    pub fn uninterrupted(&self) -> Ended {
        let run = self.run("uninterrupted");
        succeeds(&self.start(&run));
        Ended::of(&run)
    }
}

pub fn resume(run: &Path) -> Vec<String> {
    ["train", "--resume", &text(run), "--device", "cpu"]
        .map(str::to_string)
        .to_vec()
}

/// Returns the words of a command.
pub fn split(command: &str) -> Vec<String> {
    command.split_whitespace().map(str::to_string).collect()
}

pub fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

pub fn succeeds(arguments: &[String]) -> Output {
    let output = sedet(&words(arguments));
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    output
}

pub fn spawn(arguments: &[String]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_sedet"))
        .args(arguments)
        .env_remove("SEDET_DATA")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

pub fn signal(child: &Child, name: &str) {
    // The builtin of the shell: a minimal system has no program of that name.
    let sent = Command::new("sh")
        .args(["-c", &format!("kill -{name} {}", child.id())])
        .status();
    assert!(sent.unwrap().success());
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).to_string()
}

/// Returns the number of steps in the log of a run.
pub fn steps_logged(run: &Path) -> usize {
    let events = fs::read_to_string(run.join("events.jsonl")).unwrap_or_default();
    events.lines().filter(|l| l.contains("\"train\"")).count()
}

/// Waits until a run has completed N steps. The caller handles a run that ends before.
pub fn wait_for_steps(child: &mut Child, run: &Path, steps: usize) {
    let begun = Instant::now();
    while steps_logged(run) < steps && child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(120), "no progress");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The results that must not depend on interruptions.
#[derive(Debug, PartialEq)]
pub struct Ended {
    pub last: Checkpoint,
    best: Checkpoint,
    events: Vec<Value>,
    metrics: String,
}

impl Ended {
    pub fn of(run: &Path) -> Self {
        let load = |name: &str| {
            let mut checkpoint = Checkpoint::load(&run.join("checkpoints").join(name)).unwrap();
            if let Some(progress) = &mut checkpoint.progress {
                progress.seconds = 0.0;
            }
            if let Some(trained) = &mut checkpoint.spec.trained {
                trained.seconds = 0.0;
            }
            checkpoint
        };
        let events = fs::read_to_string(run.join("events.jsonl")).unwrap();
        let events = events.lines().map(|line| {
            let mut event: Value = serde_json::from_str(line).unwrap();
            for part in ["time", "images_per_second", "data_wait"] {
                event.as_object_mut().unwrap().remove(part);
            }
            event
        });
        let unfinished = fs::read_dir(run.join("checkpoints")).unwrap();
        let mut unfinished = unfinished.map(|entry| entry.unwrap().file_name());
        assert!(unfinished.all(|name| !name.to_string_lossy().starts_with('.')));
        Self {
            last: load("last.safetensors"),
            best: load("best.safetensors"),
            events: events.collect(),
            metrics: fs::read_to_string(run.join("results/metrics.json")).unwrap(),
        }
    }
}

/// Reports the first difference only; a complete comparison fills the screen.
#[track_caller]
pub fn assert_same(found: &Ended, expected: &Ended) {
    assert_eq!(found.events, expected.events);
    assert_eq!(found.metrics, expected.metrics);
    for (found, expected) in [(&found.last, &expected.last), (&found.best, &expected.best)] {
        assert_eq!(found.spec, expected.spec);
        assert_eq!(found.progress, expected.progress);
        for (name, tensor) in &expected.weights {
            assert_eq!(found.weights.get(name), Some(tensor), "{name}");
        }
        assert!(found == expected, "the optimizer differs");
    }
}

/// Scenes on disk, and the options of a small detector.
pub struct Scenes {
    pub dir: tempfile::TempDir,
}

impl Scenes {
    pub fn new() -> Self {
        Self::with_images(6, 3)
    }

    pub fn with_images(train: usize, val: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = text(&dir.path().join("data"));
        let make = format!(
            "data shapes --output {data} --train-images {train} --val-images {val} --long-side 96"
        );
        succeeds(&split(&make));
        Self { dir }
    }

    pub fn images(&self, split: &str) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = walk(&self.dir.path().join("data"))
            .into_iter()
            .filter(|path| path.extension().is_some_and(|e| e == "jpg" || e == "png"))
            .filter(|path| path.to_string_lossy().contains(split))
            .collect();
        found.sort();
        found
    }

    pub fn start(&self, run: &Path, more: &str) -> Vec<String> {
        self.start_with(run, &format!("--batch-size 2 {more}"))
    }

    pub fn start_with(&self, run: &Path, more: &str) -> Vec<String> {
        let layouts = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/layouts");
        let words = format!(
            "train --dataset {} --config shapes --output {} --set train.log_every=1 \
             --weights {layouts}/mmdetection_detector.pth --set input.min_size=64 \
             --set input.max_size=96 --device cpu {more}",
            self.dir.path().join("data").display(),
            run.display(),
        );
        split(&words)
    }
}

pub fn walk(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        } else {
            found.push(path);
        }
    }
    found
}
