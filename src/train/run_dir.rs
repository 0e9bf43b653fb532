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
