//! The directory of a run: configuration, logs, checkpoints, results.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::events::EVENTS;
use crate::weights::checkpoint::Checkpoint;
use crate::weights::load::{BEST_CHECKPOINT, LAST_CHECKPOINT};
use sedet_data::atomic::{keep_as, remove_unfinished, write_atomically};
use sedet_data::directory::create_directory;

/// An error of a run's directory.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// The directory already contains a run.
    #[error(
        "{}: already contains a run", path.display()
    )]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// The directory contains other files than those of a run.
    #[error("{}: not empty: contains {entry}, which is not part of a run", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// The name of one of the files.
        entry: String,
    },
    /// A file from which no run can be resumed.
    #[error("{}: a run is resumed from its directory or its {LAST_CHECKPOINT}", path.display())]
    NotARun {
        /// The file.
        path: PathBuf,
    },
    /// There is no run to resume.
    #[error("{}: no run to resume here (checkpoints/last.safetensors is missing)", path.display())]
    NothingToResume {
        /// The directory.
        path: PathBuf,
    },
    /// Another process trains in the directory.
    #[error(
        "{}: another sedet{owner} is training in this directory", path.display()
    )]
    Busy {
        /// The directory.
        path: PathBuf,
        /// ` (process N)` if the process is known.
        owner: String,
    },
    /// The directory of a new run cannot be created.
    #[error("{}: {source}", path.display())]
    NotCreated {
        /// The directory.
        path: PathBuf,
        /// The problem.
        source: std::io::Error,
    },
    /// A file operation failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system error.
        source: std::io::Error,
    },
}

/// The options that a run was started with. It is stored beside the configuration, so that the directory of a run is
/// enough to resume it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The name of the dataset, or its absolute path.
    pub dataset: String,
    /// The directory of the named datasets, where one was given.
    pub data_dir: Option<PathBuf>,
    /// Whether training started from weights.
    pub pretrained: bool,
    /// The fingerprint of the annotations or labels; runs of earlier versions lack it.
    #[serde(default)]
    pub fingerprint: Option<String>,
}

/// The paths of a run.
#[derive(Debug, Clone)]
pub struct RunDir {
    /// The directory.
    pub path: PathBuf,
    /// The lock of the process that trains here. The system releases it when the process ends.
    lock: Option<Arc<File>>,
    /// Whether another process writes here, so that this one does not.
    is_of_another: bool,
}

/// The directory of the weights of a run.
const CHECKPOINTS: &str = "checkpoints";

/// The subdirectories of a run.
const SUBDIRECTORIES: [&str; 2] = [CHECKPOINTS, "results"];

/// The beginning of the names of weights that evaluations keep.
const KEPT: &str = "iteration-";

/// The file that a process locks.
const LOCK: &str = "lock";

/// The record of how a run was started. It marks a directory as one of a run.
pub(super) const LAUNCH: &str = "launch.json";

/// The resolved configuration of the run.
pub(super) const CONFIG: &str = "config.toml";

impl RunDir {
    /// Returns the paths in a directory without checking its contents.
    pub fn at(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            lock: None,
            is_of_another: false,
        }
    }

    /// Returns the paths in a directory in which only another process of this run writes.
    pub(crate) fn of_another_rank(path: &Path) -> Self {
        Self {
            is_of_another: true,
            ..Self::at(path)
        }
    }

    /// Returns whether this process writes in the directory.
    pub(crate) fn is_writable(&self) -> bool {
        !self.is_of_another
    }

    /// Returns whether a directory is that of a run, which may not have a checkpoint yet.
    pub fn is_run(path: &Path) -> bool {
        [LAUNCH, EVENTS]
            .iter()
            .any(|name| path.join(name).is_file())
    }

    /// Reads what the run was started with.
    ///
    /// # Errors
    /// The record is missing or damaged.
    pub fn launch(&self) -> Result<Launch, RunDirError> {
        let path = self.path.join(LAUNCH);
        fs::read_to_string(&path)
            .and_then(|text| Ok(serde_json::from_str(&text)?))
            .map_err(|source| RunDirError::Io { path, source })
    }

    /// Creates a directory and locks it for this process. A directory in which a process was killed
    /// before its first checkpoint is reused.
    ///
    /// # Errors
    /// The directory already contains a run, or a file operation failed.
    pub fn create(path: &Path) -> Result<Self, RunDirError> {
        let mut run = Self::at(path);
        run.must_be_new()?;
        for directory in SUBDIRECTORIES {
            let directory = path.join(directory);
            create_directory(&directory).map_err(|source| RunDirError::NotCreated {
                path: directory,
                source,
            })?;
        }
        run.lock()?;
        // Another process may have started a run here since the first check.
        run.must_be_new()?;
        run.remove_unfinished();
        Ok(run)
    }

    /// Checks that a run can begin in a directory, without creating it.
    ///
    /// # Errors
    /// It contains a run, or other files.
    pub(crate) fn check_new(path: &Path) -> Result<(), RunDirError> {
        Self::at(path).must_be_new()
    }

    /// A directory in which a run was killed before its first checkpoint counts as empty. Any other file
    /// belongs to the user, and a run would overwrite it or hide among it.
    fn must_be_new(&self) -> Result<(), RunDirError> {
        let of_a_run = [
            self.last_checkpoint(),
            self.previous_checkpoint(),
            self.best_checkpoint(),
        ];
        if of_a_run.iter().any(|path| path.exists()) {
            return Err(RunDirError::Exists {
                path: self.path.clone(),
            });
        }
        match self.first_entry() {
            Some(entry) if !self.path.join(LAUNCH).is_file() => Err(RunDirError::NotEmpty {
                path: self.path.clone(),
                entry,
            }),
            _ => Ok(()),
        }
    }

    /// Returns the first entry of the directory, by name, that a run does not have before its launch is
    /// recorded. Hidden files do not count: systems and version control create them.
    fn first_entry(&self) -> Option<String> {
        let is_empty = |name: &str| {
            let mut entries = fs::read_dir(self.path.join(name)).into_iter().flatten();
            entries.next().is_none()
        };
        let of_a_new_run =
            |name: &str| name == LOCK || SUBDIRECTORIES.contains(&name) && is_empty(name);
        fs::read_dir(&self.path)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| !name.starts_with('.') && !of_a_new_run(name))
            .min()
    }

    /// Returns the directory of the run that a path denotes: the directory itself, or that of a last
    /// checkpoint.
    ///
    /// # Errors
    /// Any other file.
    pub fn of_path(path: &Path) -> Result<PathBuf, RunDirError> {
        if !path.is_file() {
            return Ok(path.to_path_buf());
        }
        let directory = path.ancestors().nth(2);
        directory
            .filter(|directory| path.ends_with(LAST_CHECKPOINT) && directory.join(LAUNCH).is_file())
            .map(|directory| {
                if directory.as_os_str().is_empty() {
                    PathBuf::from(".")
                } else {
                    directory.to_path_buf()
                }
            })
            .ok_or_else(|| RunDirError::NotARun {
                path: path.to_path_buf(),
            })
    }

    /// Opens the directory of an interrupted run for reading.
    ///
    /// # Errors
    /// The directory does not exist, or there is no checkpoint to resume from.
    pub fn open(path: &Path) -> Result<Self, RunDirError> {
        let run = Self::at(path);
        if run.last_checkpoint().is_file() || run.previous_checkpoint().is_file() {
            Ok(run)
        } else {
            let path = path.to_path_buf();
            Err(match fs::metadata(&path) {
                Ok(_) => RunDirError::NothingToResume { path },
                Err(source) => RunDirError::Io { path, source },
            })
        }
    }

    /// Opens the directory of an interrupted run and locks it for this process. Partly written
    /// files of a killed process are removed.
    ///
    /// # Errors
    /// There is no checkpoint to resume from, or another process trains there.
    pub fn reopen(path: &Path) -> Result<Self, RunDirError> {
        let mut run = Self::open(path)?;
        run.lock()?;
        run.remove_unfinished();
        Ok(run)
    }

    /// No other process writes here while this process has the lock.
    fn remove_unfinished(&self) {
        remove_unfinished(&self.path);
        for directory in SUBDIRECTORIES {
            remove_unfinished(&self.path.join(directory));
        }
    }

    /// Locks the directory for this process.
    fn lock(&mut self) -> Result<(), RunDirError> {
        let path = self.path.join(LOCK);
        let io = |source| RunDirError::Io {
            path: path.clone(),
            source,
        };
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {
                // The process number is for the message of another process.
                let _ = fs::write(&path, std::process::id().to_string());
                self.lock = Some(Arc::new(file));
                Ok(())
            }
            Err(TryLockError::WouldBlock) => Err(RunDirError::Busy {
                path: self.path.clone(),
                owner: fs::read_to_string(&path)
                    .ok()
                    .filter(|owner| !owner.is_empty())
                    .map(|owner| format!(" (process {owner})"))
                    .unwrap_or_default(),
            }),
            // Some network file systems do not support locks. The run continues without a lock.
            Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => Ok(()),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }

    /// Returns the path of the resolved configuration.
    pub fn config(&self) -> PathBuf {
        self.path.join(CONFIG)
    }

    /// Returns the path of the log, the lines that were shown to the user.
    pub fn log(&self) -> PathBuf {
        self.path.join("log.txt")
    }

    /// Returns the checkpoint that training resumes from.
    pub fn last_checkpoint(&self) -> PathBuf {
        self.path.join(LAST_CHECKPOINT)
    }

    /// Returns the previous [`last_checkpoint`](Self::last_checkpoint), for the case that the last
    /// one is damaged.
    pub(crate) fn previous_checkpoint(&self) -> PathBuf {
        self.path.join("checkpoints/previous.safetensors")
    }

    /// Returns the number of epochs that are finished in the last checkpoint that is not damaged; 0 if there is none.
    pub(crate) fn finished_epochs(&self) -> usize {
        let checkpoints = [self.last_checkpoint(), self.previous_checkpoint()];
        let mut progress = checkpoints
            .iter()
            .filter_map(|path| Checkpoint::progress_in(path).ok().flatten());
        progress.next().map_or(0, |progress| progress.epoch)
    }

    /// Keeps the last checkpoint, if there is one, as the previous one.
    ///
    /// # Errors
    /// The system error, with the path.
    pub(crate) fn keep_last_checkpoint(&self) -> Result<(), RunDirError> {
        let (last, previous) = (self.last_checkpoint(), self.previous_checkpoint());
        if !last.exists() {
            return Ok(());
        }
        keep_as(&last, &previous).map_err(|source| RunDirError::Io {
            path: previous,
            source,
        })
    }

    /// Returns the path of the best weights so far.
    pub fn best_checkpoint(&self) -> PathBuf {
        self.path.join(BEST_CHECKPOINT)
    }

    /// Keeps the best weights as those of the evaluation at an iteration: one file with two names, where the file
    /// system has that.
    ///
    /// # Errors
    /// The system error, with the path.
    pub(crate) fn keep_best_checkpoint(&self, iteration: usize) -> Result<(), RunDirError> {
        let path = self.kept_checkpoint(iteration);
        keep_as(&self.best_checkpoint(), &path).map_err(|source| RunDirError::Io { path, source })
    }

    /// Returns the path of the weights that the evaluation at an iteration keeps.
    pub fn kept_checkpoint(&self, iteration: usize) -> PathBuf {
        // Names are in the order of the iterations.
        let name = format!("{KEPT}{iteration:08}.safetensors");
        self.path.join(CHECKPOINTS).join(name)
    }

    /// Returns the weights that evaluations have kept, with their iterations, ascending.
    pub fn kept_checkpoints(&self) -> Vec<(usize, PathBuf)> {
        let entries = fs::read_dir(self.path.join(CHECKPOINTS));
        let entries = entries.into_iter().flatten().flatten();
        let kept = entries.filter_map(|entry| {
            let name = entry.file_name();
            let name = name.to_str()?.strip_prefix(KEPT)?;
            let iteration = name.strip_suffix(".safetensors")?.parse().ok()?;
            Some((iteration, entry.path()))
        });
        let mut kept: Vec<_> = kept.collect();
        kept.sort_unstable();
        kept
    }

    /// Returns the directory for detections, metrics and images of evaluations.
    pub fn results(&self) -> PathBuf {
        self.path.join("results")
    }

    /// Writes a record of the run as JSON.
    ///
    /// # Errors
    /// The system error, with the path; a path in the record that is not Unicode.
    pub(super) fn write_json(
        &self,
        name: &str,
        record: &impl Serialize,
    ) -> Result<(), RunDirError> {
        let text = serde_json::to_string_pretty(record).map_err(|error| RunDirError::Io {
            path: self.path.join(name),
            source: error.into(),
        })?;
        self.write(name, &format!("{text}\n"))
    }

    /// Writes a small file of the run, unless another process writes here.
    ///
    /// # Errors
    /// The system error, with the path.
    pub fn write(&self, name: &str, text: &str) -> Result<(), RunDirError> {
        if self.is_of_another {
            return Ok(());
        }
        let path = self.path.join(name);
        write_atomically(&path, |out| out.write_all(text.as_bytes()))
            .map_err(|source| RunDirError::Io { path, source })
    }
}

/// The file with the [`Environment`] of a run.
pub(super) const ENVIRONMENT: &str = "environment.json";

/// What is needed to reproduce a run, besides its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Environment {
    /// The version of sedet.
    pub sedet: String,
    /// The operating system.
    pub os: String,
    /// The CPU architecture.
    pub architecture: String,
    /// The number of threads.
    pub threads: usize,
    /// The name of the device.
    pub device: String,
    /// The arguments of the process.
    pub command: Vec<String>,
    /// The dataset and the network.
    pub data: TrainedOn,
}

/// The dataset of a run, and the size of its network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TrainedOn {
    /// The name of the dataset, or its absolute path.
    pub dataset: String,
    /// The number of training images.
    pub train_images: usize,
    /// The number of their boxes, for a detector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_boxes: Option<usize>,
    /// The number of parameters of the network.
    pub parameters: u64,
}

impl Environment {
    /// Describes this process.
    pub fn now(device: &str, data: TrainedOn) -> Self {
        let arguments = std::env::args_os();
        Self {
            sedet: env!("CARGO_PKG_VERSION").into(),
            os: std::env::consts::OS.into(),
            architecture: std::env::consts::ARCH.into(),
            threads: rayon::current_num_threads(),
            device: device.into(),
            command: arguments
                .map(|argument| argument.to_string_lossy().into_owned())
                .collect(),
            data,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_run_has_its_directories_and_a_second_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runs/first");
        let run = RunDir::create(&path).unwrap();
        assert!(run.results().is_dir() && path.join("checkpoints").is_dir());
        run.write("config.toml", "[train]\n").unwrap();
        assert_eq!(fs::read_to_string(run.config()).unwrap(), "[train]\n");
        run.write(LAUNCH, "{}").unwrap();
        drop(run);
        // The process was killed while the first checkpoint was written.
        let half = path.join("checkpoints/.last.safetensors.unfinished-7-0");
        fs::write(&half, "half").unwrap();
        let run = RunDir::create(&path).unwrap();
        assert!(!half.exists());
        fs::write(run.last_checkpoint(), "").unwrap();
        let refused = RunDir::create(&path).unwrap_err().to_string();
        for part in ["runs/first", "already contains a run"] {
            assert!(refused.contains(part), "{part}: {refused}");
        }
    }

    #[test]
    fn a_directory_with_other_files_is_refused_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".gitignore"), "").unwrap();
        RunDir::create(dir.path()).unwrap();
        // The process was killed before it recorded its launch.
        RunDir::create(dir.path()).unwrap();
        for name in ["config.toml", "results/mine.csv", "notes.txt"] {
            let file = dir.path().join(name);
            fs::write(&file, "mine").unwrap();
            let message = RunDir::create(dir.path()).unwrap_err().to_string();
            let entry = name.split('/').next().unwrap();
            assert!(message.contains(&format!("contains {entry},")), "{message}");
            assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
            fs::remove_file(&file).unwrap();
        }
        RunDir::create(dir.path()).unwrap();
    }

    #[test]
    fn a_run_is_found_by_its_directory_or_its_last_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(dir.path()).unwrap();
        run.write(LAUNCH, "{}").unwrap();
        for file in [run.last_checkpoint(), run.best_checkpoint()] {
            fs::write(file, "").unwrap();
        }
        assert_eq!(RunDir::of_path(dir.path()).unwrap(), dir.path());
        assert_eq!(RunDir::of_path(&run.last_checkpoint()).unwrap(), dir.path());
        let message = RunDir::of_path(&run.best_checkpoint())
            .unwrap_err()
            .to_string();
        assert!(message.contains("last.safetensors"), "{message}");
        let missing = dir.path().join("gone");
        assert_eq!(RunDir::of_path(&missing).unwrap(), missing);
    }

    #[test]
    fn only_a_run_with_a_checkpoint_can_be_opened() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("none");
        let message = RunDir::open(&missing).unwrap_err().to_string();
        assert!(message.contains("none: No such file"), "{message}");
        let run = RunDir::create(dir.path()).unwrap();
        assert!(RunDir::open(dir.path()).is_err());
        fs::write(run.last_checkpoint(), "").unwrap();
        assert_eq!(RunDir::open(dir.path()).unwrap().path, dir.path());
    }

    #[test]
    fn a_directory_in_which_another_process_trains_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = RunDir::create(dir.path()).unwrap();
        fs::write(first.last_checkpoint(), "").unwrap();
        let message = RunDir::create(dir.path()).unwrap_err().to_string();
        assert!(message.contains("already contains a run"), "{message}");
        fs::remove_file(first.last_checkpoint()).unwrap();
        let new = RunDir::create(dir.path());
        fs::write(first.last_checkpoint(), "").unwrap();
        for second in [new, RunDir::reopen(dir.path())] {
            let message = second.unwrap_err().to_string();
            let owner = format!("another sedet (process {})", std::process::id());
            assert!(message.contains(&owner), "{message}");
        }
        drop(first);
        let leftover = dir.path().join("checkpoints/.last.unfinished-1-0");
        fs::write(&leftover, "half").unwrap();
        RunDir::reopen(dir.path()).unwrap();
        assert!(!leftover.exists());
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let message = RunDir::create(&file.join("run")).unwrap_err().to_string();
        for part in [
            "file/run/checkpoints: cannot create the directory",
            "is a file",
        ] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn the_environment_has_what_it_takes_to_repeat_the_run() {
        let data = TrainedOn {
            dataset: "shapes".into(),
            train_images: 3,
            train_boxes: None,
            parameters: 7,
        };
        let found = Environment::now("cpu (2 threads)", data);
        let text = serde_json::to_string(&found).unwrap();
        assert!(text.contains(r#""data":{"dataset":"shapes","train_images":3,"parameters":7}"#));
        assert_eq!(found.sedet, env!("CARGO_PKG_VERSION"));
        assert!(found.threads >= 1 && !found.command.is_empty());
    }
}
