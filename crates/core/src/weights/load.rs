//! Loading of weights from a sedet checkpoint or a third-party file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::import::{self, ImportError, ImportOptions, ImportReport, is_variance};
use super::layouts::Layout;
use super::parameters::NamedTensors;
use super::third_party::shards;
use sedet_data::text::count;

pub use super::import::LoadedWeights;

/// The best weights of a run, relative to its directory.
pub(crate) const BEST_CHECKPOINT: &str = "checkpoints/best.safetensors";
/// The checkpoint that a run resumes from, relative to its directory.
pub(crate) const LAST_CHECKPOINT: &str = "checkpoints/last.safetensors";

/// Returns the weights file that a path denotes: for the directory of a run, or that of its
/// checkpoints, the best checkpoint, or before the first evaluation the last one; for anything else the
/// path itself.
///
/// # Errors
/// A directory without either checkpoint.
pub fn weights_file(path: &Path) -> Result<PathBuf, LoadError> {
    if !path.is_dir() {
        return Ok(path.to_path_buf());
    }
    let names = [BEST_CHECKPOINT, LAST_CHECKPOINT].map(Path::new);
    let of_run = names.map(|name| path.join(name));
    let within = names.map(|name| path.join(name.file_name().unwrap_or_default()));
    of_run
        .into_iter()
        .chain(within)
        .find(|file| file.is_file())
        .ok_or_else(|| LoadError::NoCheckpoint {
            path: path.to_path_buf(),
        })
}

/// Returns the files that weights consist of: the file itself, and all that an index lists.
///
/// # Errors
/// A directory without a checkpoint, or an index that cannot be read.
pub fn all_files(path: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let path = weights_file(path)?;
    let Some(index) = shards::index_of(&path) else {
        return Ok(vec![path]);
    };
    let listed = shards::listed(&index).map_err(ImportError::from)?;
    let files: BTreeSet<PathBuf> = listed.into_values().chain([index]).collect();
    Ok(files.into_iter().collect())
}

/// The error of reading weights; every message names the file.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A sedet checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A third-party file.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A directory without a checkpoint of a run.
    #[error("{}: a directory without a checkpoint (no {BEST_CHECKPOINT})", path.display())]
    NoCheckpoint {
        /// The directory.
        path: PathBuf,
    },
    /// A checkpoint with values that no network can compute with.
    #[error("{}: tensor {tensor} has {problem}", path.display())]
    Values {
        /// The file.
        path: PathBuf,
        /// The name of the tensor.
        tensor: String,
        /// The problem of its values.
        problem: String,
    },
    /// A layout, or one of several networks, was given for a sedet checkpoint.
    #[error("{}: a layout or a network was given, but this is a sedet checkpoint", path.display())]
    LayoutOfCheckpoint {
        /// The file.
        path: PathBuf,
    },
    /// Strict loading, and not every tensor was matched.
    #[error("{}: not every tensor was matched: {missing} missing, {mismatched} of another shape, {unused} unused", path.display())]
    NotStrict {
        /// The file.
        path: PathBuf,
        /// Tensors of the network that the file lacks.
        missing: usize,
        /// Tensors of another shape.
        mismatched: usize,
        /// Tensors of the file that the network does not use.
        unused: usize,
    },
}

/// A weights file and how to read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightsFile {
    /// The file, or the directory of a run (see [`weights_file`]).
    pub path: PathBuf,
    /// The layout of a third-party file; none detects it from the tensor names.
    pub layout: Option<Layout>,
    /// Whether a third-party file with missing, mismatched or unused tensors is an error.
    pub strict: bool,
    /// Whether tensors inside the network that sedet has no layer for are skipped, and whether weights of
    /// another backbone than the one to train initialize what fits.
    pub allow_unused: bool,
    /// Which of several networks in a third-party file; see [`ImportOptions::network`].
    pub network: Option<String>,
}

impl WeightsFile {
    /// Describes a file whose layout is detected.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            layout: None,
            strict: false,
            allow_unused: false,
            network: None,
        }
    }

    /// Reads the weights. `report` receives the report on a third-party file, even if strict
    /// loading then fails.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(&self, report: &mut dyn FnMut(&ImportReport)) -> Result<LoadedWeights, LoadError> {
        let path = weights_file(&self.path)?;
        let options = ImportOptions {
            layout: self.layout,
            network: self.network.clone(),
            allow_unused: self.allow_unused,
        };
        let loaded = load_weights(&path, options)?;
        match &loaded.report {
            Some(found) => {
                report(found);
                if self.strict && !found.is_complete() {
                    return Err(LoadError::NotStrict {
                        path,
                        missing: found.missing.len(),
                        mismatched: found.mismatched.len(),
                        unused: found.skipped.len(),
                    });
                }
            }
            None if self.layout.is_some() || self.network.is_some() => {
                return Err(LoadError::LayoutOfCheckpoint { path });
            }
            None => {}
        }
        Ok(loaded)
    }
}

impl From<Checkpoint> for LoadedWeights {
    /// Replaces the weights by the EMA weights, if there are any.
    fn from(checkpoint: Checkpoint) -> Self {
        let Checkpoint {
            spec, weights, ema, ..
        } = checkpoint;
        Self {
            spec,
            weights: if ema.is_empty() { weights } else { ema },
            report: None,
        }
    }
}

/// Reads a sedet checkpoint or imports a third-party file. The directory of a run denotes its best
/// checkpoint; see [`weights_file`].
///
/// `options` tell how a third-party file is read, such as `None` for a layout that is detected. They are
/// ignored for a sedet checkpoint.
///
/// # Errors
/// See [`LoadError`].
pub fn load_weights(
    path: &Path,
    options: impl Into<ImportOptions>,
) -> Result<LoadedWeights, LoadError> {
    let path = weights_file(path)?;
    if !Checkpoint::is_native(&path)? {
        return Ok(import::import(&path, options)?);
    }
    let loaded = LoadedWeights::from(Checkpoint::load(&path)?);
    check_values(&loaded.weights).map_err(|(tensor, problem)| LoadError::Values {
        path,
        tensor,
        problem,
    })?;
    Ok(loaded)
}

/// Checks that [`load_weights`] can read a file, as far as that shows without reading its tensors.
///
/// # Errors
/// See [`LoadError`].
pub fn check_weights(path: &Path) -> Result<(), LoadError> {
    let path = weights_file(path)?;
    if Checkpoint::is_native(&path)? {
        Ok(Checkpoint::check(&path)?)
    } else {
        Ok(import::check(&path)?)
    }
}

/// Checks that all values are finite and variances are not negative. The error is the name of the first
/// tensor with other values, and the problem.
fn check_values(weights: &NamedTensors) -> Result<(), (String, String)> {
    for (name, data) in weights {
        let Ok(values) = data.as_slice::<f32>() else {
            continue;
        };
        let not_finite = values.iter().filter(|v| !v.is_finite()).count();
        if not_finite > 0 {
            return Err((name.clone(), count(not_finite, "NaN or infinite value")));
        }
        let negative = values.iter().filter(|v| **v < 0.0).count();
        if negative > 0 && is_variance(name) {
            let values = count(negative, "negative value");
            let problem = format!("{values}; a variance is at least 0");
            return Err((name.clone(), problem));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_in_several_files_are_all_of_them_and_their_index() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let index = path("model.safetensors.index.json");
        let files = [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
        ];
        let text = format!(
            r#"{{"weight_map": {{"a": "{}", "b": "{}", "c": "{}"}}}}"#,
            files[1], files[0], files[1]
        );
        std::fs::write(&index, text).unwrap();
        let expected = [path(files[0]), path(files[1]), index.clone()];
        for given in [&index, &path(files[1])] {
            assert_eq!(all_files(given).unwrap(), expected);
        }
        let alone = path("best.safetensors");
        assert_eq!(all_files(&alone).unwrap(), [alone]);
    }

    #[test]
    fn the_directory_of_a_run_denotes_its_best_checkpoint() {
        let run = tempfile::tempdir().unwrap();
        let path = run.path();
        let message = weights_file(path).unwrap_err().to_string();
        assert!(
            message.ends_with("(no checkpoints/best.safetensors)"),
            "{message}"
        );
        std::fs::create_dir(path.join("checkpoints")).unwrap();
        for name in [LAST_CHECKPOINT, BEST_CHECKPOINT] {
            std::fs::write(path.join(name), "").unwrap();
            assert_eq!(weights_file(path).unwrap(), path.join(name));
        }
        let within = weights_file(&path.join("checkpoints")).unwrap();
        assert_eq!(within, path.join(BEST_CHECKPOINT));
        let file = path.join(LAST_CHECKPOINT);
        assert_eq!(weights_file(&file).unwrap(), file);
        let missing = path.join("gone.pth");
        assert_eq!(weights_file(&missing).unwrap(), missing);
    }
}
