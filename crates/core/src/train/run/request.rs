//! The description of a run: what is trained, and how.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use crate::config::ConfigError;
use crate::device::WorkingDevice;
use crate::distributed::Ranks;
use crate::weights::load::WeightsFile;
use sedet_data::images::OnBadImage;

/// A new run, or one to continue.
#[derive(Debug, Clone)]
pub enum Start {
    /// Begins a run.
    New {
        /// A named dataset or a directory.
        dataset: String,
        /// The seed of weights, order, augmentation and sampling; none for the recipe's.
        seed: Option<u64>,
        /// The directory of the run.
        output: PathBuf,
    },
    /// Continues a run.
    Resume {
        /// The directory of the run, or its last checkpoint.
        run: PathBuf,
        /// The dataset, where it is not at the path where the run began; its contents must be the same.
        dataset: Option<String>,
    },
}

/// Options that determine how a model is trained.
///
/// A resumed run takes only `epochs`, `on_bad_image` and `data_dir` from here, and stores them for later
/// sessions; everything else is stored in its directory.
#[derive(Debug, Clone, Default)]
pub struct RecipeOptions {
    /// The directory of the named datasets; none for the environment variable.
    pub data_dir: Option<PathBuf>,
    /// A recipe's name or a TOML file; none for the dataset's default.
    pub recipe: Option<String>,
    /// Changes of the recipe, `KEY=VALUE` each.
    pub settings: Vec<String>,
    /// The backbone in place of the recipe's or the weights'.
    pub backbone: Option<String>,
    /// The initial weights.
    pub weights: Option<WeightsFile>,
    /// The learning rate, used as given; none scales the recipe's to the batch size.
    pub learning_rate: Option<f64>,
    /// Images per batch.
    pub batch_size: Option<usize>,
    /// Number of epochs.
    pub epochs: Option<usize>,
    /// What to do with images that can't be read.
    pub on_bad_image: Option<OnBadImage>,
}

impl RecipeOptions {
    /// Returns what determines the result of a run, to compare two runs. The handling of unreadable
    /// images is not part of it: an interrupted comparison may continue with another.
    pub(in crate::train) fn identity(&self) -> RecipeIdentity {
        let weights = self.weights.as_ref();
        RecipeIdentity {
            config: self.recipe.clone(),
            set: self.settings.clone(),
            backbone: self.backbone.clone(),
            weights: weights.map(|weights| weights.path.clone()),
            layout: weights.and_then(|weights| Some(weights.layout?.key().to_owned())),
            strict: weights.is_some_and(|weights| weights.strict),
            network: weights.and_then(|weights| weights.network.clone()),
            data_dir: self.data_dir.clone(),
            lr: self.learning_rate,
            batch_size: self.batch_size,
            epochs: self.epochs,
        }
    }

    /// Returns the settings of a new run.
    pub(super) fn new_settings(&self, seed: Option<u64>) -> Vec<String> {
        let mut set = self.settings.clone();
        let values = [
            ("model.backbone", self.backbone.clone()),
            ("loader.batch_size", self.batch_size.map(|n| n.to_string())),
            ("train.seed", seed.map(|n| n.to_string())),
        ];
        for (key, value) in values {
            set.extend(value.map(|value| format!("{key}={value}")));
        }
        set.extend(self.later_settings());
        set
    }

    /// Checks the learning rate, and that no setting contradicts another option, which would decide.
    pub(in crate::train) fn check(&self, seed: Option<u64>) -> Result<(), ConfigError> {
        if let Some(rate) = self.learning_rate
            && !(rate.is_finite() && rate > 0.0)
        {
            return Err(ConfigError::Invalid {
                origin: format!("learning rate {rate}"),
                message: "it must be above 0".to_string(),
            });
        }
        let without_settings = Self {
            settings: Vec::new(),
            ..self.clone()
        };
        let mut options = without_settings.new_settings(seed);
        let rate = self.learning_rate;
        options.extend(rate.map(|rate| format!("train.learning_rate={rate}")));
        let options = options.iter().filter_map(|option| option.split_once('='));
        for (key, value) in options {
            let contradicts = |setting: &&String| {
                let parts = setting.split_once('=');
                parts.is_some_and(|(set, other)| {
                    set.trim() == key && other.trim().trim_matches('"') != value
                })
            };
            if let Some(setting) = self.settings.iter().find(contradicts) {
                return Err(ConfigError::Invalid {
                    origin: format!("setting '{setting}'"),
                    message: format!("{key} is also given as {value}"),
                });
            }
        }
        Ok(())
    }

    /// Returns the keys to which these options give one value, with those that every run has.
    pub(in crate::train) fn fixed_keys(&self) -> BTreeSet<String> {
        let settings = self.new_settings(Some(0));
        let keys = settings
            .iter()
            .filter_map(|setting| setting.split_once('='));
        let rate = self.learning_rate.map(|_| "train.learning_rate");
        keys.map(|(key, _)| key.trim())
            .chain(rate)
            .map(str::to_string)
            .collect()
    }

    /// Returns the settings that a resumed run accepts too.
    pub(super) fn later_settings(&self) -> Vec<String> {
        let epochs = self.epochs.map(|n| format!("train.epochs={n}"));
        let policy = self.on_bad_image.map(|policy| match policy {
            OnBadImage::Error => "loader.on_bad_image=error".to_string(),
            OnBadImage::Skip => "loader.on_bad_image=skip".to_string(),
        });
        epochs.into_iter().chain(policy).collect()
    }
}

/// The options that determine the result of a run, named as on the command line; a part of the `options.json` of
/// an ablation study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::train) struct RecipeIdentity {
    config: Option<String>,
    set: Vec<String>,
    backbone: Option<String>,
    weights: Option<PathBuf>,
    layout: Option<String>,
    strict: bool,
    /// Omitted otherwise, so that studies that were begun earlier can be continued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    network: Option<String>,
    data_dir: Option<PathBuf>,
    lr: Option<f64>,
    batch_size: Option<usize>,
    epochs: Option<usize>,
}

/// The subject of [`run`](super::run).
#[derive(Debug, Clone)]
pub struct TrainRequest {
    /// A new run, or one to continue.
    pub start: Start,
    /// How the model is trained.
    pub recipe: RecipeOptions,
    /// The device.
    pub device: WorkingDevice,
    /// Interrupts the run at the next step when set.
    pub stop: Arc<AtomicBool>,
    /// The processes that train together. Each has the same request; rank 0 writes to the directory of the run. A
    /// new run averages as many batches per step as one process with `train.accumulate` times their number, which its
    /// configuration then holds; a run can be continued by any number of processes, with the same result.
    pub ranks: Ranks,
}
