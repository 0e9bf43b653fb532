//! The results of weights that were shown before: the slider over the weights of a run leads back to them, without the
//! network being run on all images again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::{Classifications, NetworkInfo, Pane, Predictions, ViewerState};
use sedet_data::eval::CocoEvaluation;
use sedet_data::eval::confusion::Confusion;

/// The number of weights whose results are kept: 5,000 images with 100 detections each need 12 MB.
const MOST: usize = 16;

/// The file of weights as it was when it was loaded. A run replaces its best checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightsFile {
    /// The path.
    pub path: PathBuf,
    /// When it was written.
    pub modified: SystemTime,
    /// The number of bytes.
    pub len: u64,
}

impl WeightsFile {
    /// Returns the file at a path; none if there is no file, or the file system does not know when it was written.
    pub(crate) fn at(path: PathBuf) -> Option<Self> {
        let file = std::fs::metadata(&path)
            .ok()
            .filter(|file| file.is_file())?;
        Some(Self {
            path,
            modified: file.modified().ok()?,
            len: file.len(),
        })
    }
}

/// The results of some weights on the open images.
#[derive(Debug, Clone)]
pub struct KeptResults {
    of: WeightsFile,
    predictions: Predictions,
    classified: Classifications,
    tally: Option<Arc<Confusion>>,
    evaluation: Option<Arc<CocoEvaluation>>,
}

impl ViewerState {
    /// Keeps the results of the first network, which weights of the same training are about to replace.
    pub(super) fn keep_results(&mut self) {
        let known = self.networks[0]
            .as_ref()
            .and_then(|known| known.file.clone());
        let Some(of) = known.filter(|_| !self.from_results) else {
            return;
        };
        self.kept_results.retain(|kept| kept.of.path != of.path);
        if self.processed(Pane::First) == 0 {
            return;
        }
        if self.kept_results.len() == MOST {
            self.kept_results.remove(0);
        }
        self.kept_results.push(KeptResults {
            of,
            predictions: self.predictions[0].clone(),
            classified: self.classified[0].clone(),
            tally: self.tallies[0].clone(),
            evaluation: self.evaluations[0].clone(),
        });
    }

    /// Shows the results of weights that were shown before, if their file is still the same.
    pub(super) fn restore_results(&mut self) {
        let network = self.networks[0].as_ref();
        let file = network.and_then(|network| network.file.as_ref());
        let known = self.kept_results.iter();
        let known = file.and_then(|file| known.into_iter().find(|kept| kept.of == *file));
        if let Some(kept) = known.filter(|_| !self.from_results).cloned() {
            self.predictions[0] = kept.predictions;
            self.classified[0] = kept.classified;
            self.tallies[0] = kept.tally;
            self.evaluations[0] = kept.evaluation;
        }
    }
}

impl NetworkInfo {
    /// Returns whether this network has weights of the same training: it differs in nothing else.
    pub(super) fn is_of_training_of(&self, known: &Self) -> bool {
        known.path.parent() == self.path.parent()
            && known.config == self.config
            && known.categories == self.categories
            && known.class_names == self.class_names
    }
}
