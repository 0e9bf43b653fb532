//! What a run was started with: its dataset by a name or an absolute path.

use std::path::{Path, PathBuf};

use super::error::RunError;
use super::request::RecipeOptions;
use crate::train::run_dir::{LAUNCH, Launch, RunDir};
use sedet_data::datasets::registry::AnyDatasetName;

impl Launch {
    pub(super) fn of_new_run(dataset: &str, recipe: &RecipeOptions) -> Result<Self, RunError> {
        // An unknown name is reported as the user wrote it, not as an absolute path.
        AnyDatasetName::parse(dataset)?;
        Ok(Self {
            dataset: absolute_dataset(dataset)?,
            data_dir: recipe.data_dir.as_deref().map(absolute).transpose()?,
            pretrained: recipe.weights.is_some(),
            fingerprint: None,
        })
    }

    /// Returns the launch of a resumed run with the dataset where it is now.
    pub(super) fn moved(
        self,
        dataset: Option<&str>,
        data_dir: Option<&Path>,
    ) -> Result<Self, RunError> {
        if let Some(dataset) = dataset {
            AnyDatasetName::parse(dataset)?;
        }
        Ok(Self {
            dataset: dataset
                .map(absolute_dataset)
                .transpose()?
                .unwrap_or(self.dataset),
            data_dir: match data_dir {
                Some(directory) => Some(absolute(directory)?),
                None => self.data_dir,
            },
            ..self
        })
    }

    /// Returns the error about data that is not that of the run.
    pub(super) fn changed(&self, run: &RunDir) -> RunError {
        RunError::DatasetChanged {
            dataset: self.dataset.clone(),
            checkpoint: run.last_checkpoint(),
        }
    }

    pub(super) fn write(&self, run: &RunDir) -> Result<(), RunError> {
        Ok(run.write_json(LAUNCH, self)?)
    }
}

/// Returns a dataset's name, or the absolute path of its directory: the run may be resumed from another
/// directory.
fn absolute_dataset(dataset: &str) -> Result<String, RunError> {
    AnyDatasetName::absolute(dataset).map_err(|source| RunError::Launch {
        path: dataset.into(),
        source,
    })
}

fn absolute(path: &Path) -> Result<PathBuf, RunError> {
    std::path::absolute(path).map_err(|source| RunError::Launch {
        path: path.to_path_buf(),
        source,
    })
}
