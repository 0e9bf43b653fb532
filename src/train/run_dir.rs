//! The folder of a run: configuration, logs, checkpoints, results.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::atomic::write_atomically;

/// Why a run's folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// Something is there already.
    #[error(
        "{}: holds a run already; continue it with --resume, or give another --output", path.display()
    )]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// Nothing to resume.
    #[error("{}: no run to resume here (checkpoints/last.safetensors is missing)", path.display())]
    NothingToResume {
        /// The folder.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// The paths of a run.
#[derive(Debug, Clone)]
pub struct RunDir {
    /// The folder itself.
    pub path: PathBuf,
}

impl RunDir {
    /// A new folder.
    ///
    /// # Errors
    /// A run is there already, or the system refuses.
    pub fn create(path: &Path) -> Result<Self, RunDirError> {
        let run = Self {
            path: path.to_path_buf(),
        };
        if run.config().exists() {
            return Err(RunDirError::Exists {
                path: path.to_path_buf(),
            });
        }
        for folder in ["checkpoints", "results"] {
            let folder = path.join(folder);
            fs::create_dir_all(&folder).map_err(|source| RunDirError::Io {
                path: folder,
                source,
            })?;
        }
        Ok(run)
    }

    /// The folder of a run that was interrupted.
    ///
    /// # Errors
    /// There is no checkpoint to continue from.
    pub fn open(path: &Path) -> Result<Self, RunDirError> {
        let run = Self {
            path: path.to_path_buf(),
        };
        if run.last_checkpoint().is_file() {
            Ok(run)
        } else {
            Err(RunDirError::NothingToResume {
                path: path.to_path_buf(),
            })
        }
    }

    /// The resolved configuration.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// Where training stands, with the optimiser's state.
    pub fn last_checkpoint(&self) -> PathBuf {
        self.path.join("checkpoints/last.safetensors")
    }

    /// The best weights so far, for use.
    pub fn best_checkpoint(&self) -> PathBuf {
        self.path.join("checkpoints/best.safetensors")
    }

    /// Detections, metrics and pictures of evaluations.
    pub fn results(&self) -> PathBuf {
        self.path.join("results")
    }

    /// Write a small file of the run.
    ///
    /// # Errors
    /// The system's, with the path.
    pub fn write(&self, name: &str, text: &str) -> Result<(), RunDirError> {
        let path = self.path.join(name);
        write_atomically(&path, |out| out.write_all(text.as_bytes()))
            .map_err(|source| RunDirError::Io { path, source })
    }
}

/// What somebody needs to know to make the same run again.
pub fn environment(device: &str, data: &Value) -> Value {
    json!({
        "sedet": env!("CARGO_PKG_VERSION"),
        "os": std::env::consts::OS,
        "architecture": std::env::consts::ARCH,
        "threads": rayon::current_num_threads(),
        "device": device,
        "command": std::env::args().collect::<Vec<_>>(),
        "data": data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_run_has_its_folders_and_a_second_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runs/first");
        let run = RunDir::create(&path).unwrap();
        assert!(run.results().is_dir() && path.join("checkpoints").is_dir());
        run.write("config.toml", "[train]\n").unwrap();
        assert_eq!(fs::read_to_string(run.config()).unwrap(), "[train]\n");
        let refused = RunDir::create(&path).unwrap_err().to_string();
        for part in ["runs/first", "--resume", "--output"] {
            assert!(refused.contains(part), "{part}: {refused}");
        }
    }

    #[test]
    fn only_a_run_with_a_checkpoint_can_be_opened() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("none");
        let message = RunDir::open(&missing).unwrap_err().to_string();
        assert!(message.contains("none: no run to resume"), "{message}");
        let run = RunDir::create(dir.path()).unwrap();
        assert!(RunDir::open(dir.path()).is_err());
        fs::write(run.last_checkpoint(), "").unwrap();
        assert_eq!(RunDir::open(dir.path()).unwrap().path, dir.path());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let message = RunDir::create(&file.join("run")).unwrap_err().to_string();
        assert!(message.contains("file/run/checkpoints"), "{message}");
    }

    #[test]
    fn the_environment_says_what_it_takes_to_repeat_the_run() {
        let found = environment("cpu (2 threads)", &json!({"images": 3}));
        assert_eq!(found["sedet"], env!("CARGO_PKG_VERSION"));
        assert_eq!(found["data"]["images"], 3);
        assert!(found["threads"].as_u64() >= Some(1));
    }
}
