//! The typed configuration of a run: a recipe in TOML, changed by `--set a.b=c`.
//!
//! Recipes are in `configs/` and are part of the binary; `--config` accepts a recipe name or a
//! file. Every field of a recipe is used, and an unknown field is an error. The top-level key
//! `task` selects detection (the default) or classification, and so the valid fields.

mod adoption;
mod classification;
mod commented;
mod detection;
mod problem;
mod recipes;
pub mod reference;
pub mod training;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub use classification::{ClassificationConfig, ClassifierInput, ClassifierSection};
pub use commented::{commented, table_of};
pub(crate) use detection::IMPORTED;
pub use detection::{DetectionConfig, DetectorHeads, InputConfig, LoaderSection, ModelConfig};
pub(crate) use recipes::{ChosenRecipe, default_classification, default_detection};
pub use recipes::{RECIPES, recipe_for};

pub use crate::spec::Task;

use self::problem::{Problem, invalid_toml};
use crate::backbones::BackboneConfig;
use crate::backbones::zoo::ZooError;
use sedet_data::DataError;
use sedet_data::images::OnBadImage;
use sedet_data::loading::LoaderOptions;
use sedet_data::loading::transforms::preprocess::ChannelOrder;
use sedet_data::text::did_you_mean;
use sedet_data::text_file::read_text;
use training::EngineConfig;

/// An error in a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The name is neither a recipe nor a file.
    #[error("no recipe and no file '{name}'{}; recipes: {}", did_you_mean(name, recipes), recipes.join(", "))]
    Unknown {
        /// The given name.
        name: String,
        /// The known recipes.
        recipes: Vec<&'static str>,
    },
    /// The file.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system error.
        source: std::io::Error,
    },
    /// The file is in another encoding, or is too large.
    #[error(transparent)]
    Text(Box<DataError>),
    /// Invalid TOML, or invalid fields.
    #[error("{origin}: {message}")]
    Invalid {
        /// The recipe, file or option.
        origin: String,
        /// The reason.
        message: String,
    },
    /// A setting without a value.
    #[error("setting '{0}': expected KEY=VALUE, such as train.epochs=12")]
    Set(String),
    /// The recipe is for another task than the dataset.
    #[error("{origin} is for {found}, but the dataset needs {wanted}; recipes for {wanted}: {}", recipes.join(", "))]
    OtherTask {
        /// The recipe or file.
        origin: String,
        /// The task of the recipe.
        found: &'static str,
        /// The requested task.
        wanted: &'static str,
        /// The known recipes.
        recipes: Vec<&'static str>,
    },
    /// The backbone's name.
    #[error(transparent)]
    Backbone(#[from] ZooError),
}

/// The scaling of pixels: `(value * scale - mean) / std` for values of 0 to 255, with mean and std
/// in channel order.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PixelConfig {
    /// The channel order.
    pub channel_order: ChannelOrder,
    /// The factor that is applied first.
    pub scale: f32,
    /// The mean of each channel, which is subtracted.
    pub mean: [f32; 3],
    /// The standard deviation of each channel, the divisor.
    pub std: [f32; 3],
}

/// The configuration of a training run for one task.
pub trait Recipe: Clone + Serialize + DeserializeOwned {
    /// The task of the recipe.
    const TASK: Task;

    /// Checks what the types do not exclude.
    ///
    /// # Errors
    /// A message of one line that names the field.
    fn validate(&self) -> Result<(), String>;

    /// Changes values of the recipe that contradict a setting, so that a setting works alone.
    fn fit_settings(&mut self, _settings: &[String]) {}

    /// Returns the settings of the training loop.
    fn training(&self) -> &EngineConfig;

    /// Returns the settings of the training loop, to change them.
    fn training_mut(&mut self) -> &mut EngineConfig;

    /// Returns the images per batch, and the images per step that the learning rate refers to.
    fn batch_sizes(&self) -> (usize, usize);

    /// Sets the number of images per step that the learning rate refers to.
    fn set_base_batch_size(&mut self, images: usize);

    /// Returns the number of loader threads and the handling of images that cannot be read.
    fn loader(&self) -> (usize, OnBadImage);

    /// Returns the options of the loader of training batches.
    fn loader_options(&self) -> LoaderOptions {
        let (threads, on_bad_image) = self.loader();
        LoaderOptions {
            batch_size: self.batch_sizes().0,
            threads,
            prefetch: 2 * threads,
            seed: self.training().seed,
            on_bad_image,
        }
    }

    /// Loads a recipe by name, or a TOML file, and applies `KEY=VALUE` settings.
    ///
    /// # Errors
    /// Unknown names, unreadable files, recipes of another task, unknown or ill-typed fields. Every
    /// message names the cause.
    fn load(name: &str, settings: &[String]) -> Result<Self, ConfigError> {
        let (origin, recipe) = read_recipe(name)?;
        let mut table = recipe.clone();
        for setting in settings {
            apply_setting(&mut table, setting)?;
        }
        drop_replaced_fields(&mut table, &recipe, "", settings);
        let found = take_task(&mut table, &origin)?;
        if found != Self::TASK {
            return Err(ConfigError::OtherTask {
                origin,
                found: found.name(),
                wanted: Self::TASK.name(),
                recipes: recipes::names_for(Self::TASK),
            });
        }
        let read: Result<Self, toml::de::Error> = table.clone().try_into();
        let mut config =
            read.map_err(|e| invalid_key(Problem::of(&e, &table, ""), &origin, settings))?;
        config.fit_settings(settings);
        config.validate().map_err(|message| ConfigError::Invalid {
            origin: match settings {
                [] => origin,
                _ => format!("{origin} with {}", settings.join(", ")),
            },
            message,
        })?;
        Ok(config)
    }

    /// Returns warnings about settings that do not have the effect that their names suggest.
    fn warnings(&self, settings: &[String]) -> Vec<String> {
        optimizer_warning(self.training(), settings)
            .into_iter()
            .collect()
    }

    /// Formats the configuration as TOML that [`Recipe::load`] can read.
    ///
    /// # Errors
    /// A value cannot be represented in TOML.
    fn to_toml(&self) -> Result<String, ConfigError> {
        let text = toml::to_string(self).map_err(|e| ConfigError::Invalid {
            origin: "the run's configuration".to_string(),
            message: e.to_string(),
        })?;
        Ok(format!("task = \"{}\"\n{text}", Self::TASK.name()))
    }
}

/// The key that selects the variant of a table, such as the optimizer.
const KIND: &str = "kind";

/// Removes the recipe's fields of a table in which a setting selects another `kind`. What the recipe chose for one
/// optimizer is no choice for another, so the other one gets its defaults.
fn drop_replaced_fields(table: &mut Table, recipe: &Table, path: &str, settings: &[String]) {
    let at = |name: &str| match path {
        "" => name.to_string(),
        path => format!("{path}.{name}"),
    };
    if let (Some(new), Some(old)) = (table.get(KIND), recipe.get(KIND))
        && new != old
    {
        table.retain(|name, _| name == KIND || is_set(settings, &at(name)));
        return;
    }
    for (name, value) in table {
        if let (Value::Table(inner), Some(Value::Table(recipe))) = (value, recipe.get(name)) {
            drop_replaced_fields(inner, recipe, &at(name), settings);
        }
    }
}

/// Returns a warning if a setting selects another optimizer and the learning rate remains the recipe's.
fn optimizer_warning(train: &EngineConfig, settings: &[String]) -> Option<String> {
    let is_new = is_set(settings, "train.optimizer.kind");
    (is_new && !is_set(settings, "train.learning_rate")).then(|| {
        format!(
            "train.learning_rate is {}, as the recipe has it for its own optimizer; {} may need another one",
            train.learning_rate,
            train.optimizer.name()
        )
    })
}

/// Returns the error about a key of a recipe: it names the setting that contains the key, or else the
/// recipe.
fn invalid_key(problem: Problem, origin: &str, settings: &[String]) -> ConfigError {
    let Problem { path, text } = problem;
    // The last one counts where several set the same key.
    let setting = settings.iter().rev().find_map(|setting| {
        let key = key_of(setting)?;
        let is_cause = !path.is_empty() && (is_within(key, &path) || is_within(&path, key));
        is_cause.then_some((key, setting))
    });
    let (origin, message) = match setting {
        Some((key, setting)) if key == path => (format!("setting '{setting}'"), text),
        Some((_, setting)) => (format!("setting '{setting}'"), format!("{path}: {text}")),
        None if path.is_empty() => (origin.to_string(), text),
        None => (origin.to_string(), format!("{path}: {text}")),
    };
    ConfigError::Invalid { origin, message }
}

/// Returns whether a key is another one, or within its table.
fn is_within(inner: &str, outer: &str) -> bool {
    let rest = inner.strip_prefix(outer);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Returns whether one of the settings sets a key, a key within it, or the table that it is in.
pub fn is_set(settings: &[String], key: &str) -> bool {
    let mut keys = settings.iter().filter_map(|setting| key_of(setting));
    keys.any(|set| is_within(set, key) || is_within(key, set))
}

/// Returns the settings whose values are not those of the configuration, each with the value that it has. Tables are
/// not compared.
///
/// # Errors
/// A value cannot be represented in TOML.
pub(crate) fn replaced_settings<C: Recipe>(
    before: &C,
    after: &C,
    settings: &[String],
) -> Result<Vec<(String, String)>, ConfigError> {
    let (before, after) = (table_of(before)?, table_of(after)?);
    let value_of = |table: &Table, key: &str| {
        let mut keys = key.split('.').map(str::trim);
        let first = table.get(keys.next()?)?.clone();
        let found = keys.try_fold(first, |value, key| value.get(key).cloned())?;
        (!found.is_table()).then_some(found)
    };
    let replaced = settings.iter().filter_map(|setting| {
        let key = key_of(setting)?;
        let (old, new) = (value_of(&before, key)?, value_of(&after, key)?);
        (old != new).then(|| (setting.clone(), new.to_string()))
    });
    Ok(replaced.collect())
}

/// Returns the key of a `KEY=VALUE` setting.
fn key_of(setting: &str) -> Option<&str> {
    setting.split_once('=').map(|(key, _)| key.trim())
}

/// Returns the task of a recipe or a TOML file.
///
/// # Errors
/// Unknown names, unreadable files, another value of the key `task`.
pub fn task_of(name: &str) -> Result<Task, ConfigError> {
    let (origin, mut table) = read_recipe(name)?;
    take_task(&mut table, &origin)
}

fn take_task(table: &mut Table, origin: &str) -> Result<Task, ConfigError> {
    let Some(task) = table.remove("task") else {
        return Ok(Task::Detection);
    };
    task.try_into().map_err(|_| ConfigError::Invalid {
        origin: origin.to_string(),
        message: "task must be \"detection\" or \"classification\"".to_string(),
    })
}

/// Returns a recipe or a file as a table, and its name for messages.
fn read_recipe(name: &str) -> Result<(String, Table), ConfigError> {
    let known = RECIPES.iter().find(|(known, ..)| *known == name);
    let (origin, text) = match known {
        Some((known, _, text)) => (format!("recipe {known}"), (*text).to_string()),
        None if Path::new(name).is_file() => {
            let path = PathBuf::from(name);
            let text = read_text(&path).map_err(|error| match error {
                DataError::Io { path, source } => ConfigError::Read { path, source },
                error => ConfigError::Text(Box::new(error)),
            })?;
            (name.to_string(), text)
        }
        None => {
            return Err(ConfigError::Unknown {
                name: name.to_string(),
                recipes: RECIPES.iter().map(|(known, ..)| *known).collect(),
            });
        }
    };
    let table = toml::from_str(&text).map_err(|e| ConfigError::Invalid {
        origin: origin.clone(),
        message: invalid_toml(&e, &text),
    })?;
    Ok((origin, table))
}

/// Checks that no count is 0.
fn check_at_least_one(fields: &[(&str, usize)]) -> Result<(), String> {
    match fields.iter().find(|(_, value)| *value == 0) {
        Some((name, _)) => Err(format!("{name} must be at least 1")),
        None => Ok(()),
    }
}

/// Checks the settings of the training loop.
fn check_training(train: &EngineConfig) -> Result<(), String> {
    check_at_least_one(&[
        ("train.epochs", train.epochs),
        ("train.accumulate", train.accumulate),
        ("train.evaluate_every", train.evaluate_every),
        (
            "train.keep_checkpoints",
            train.keep_checkpoints.unwrap_or(1),
        ),
        ("train.log_every", train.log_every),
    ])?;
    let rate = train.learning_rate;
    if !(rate.is_finite() && rate > 0.0) {
        return Err(format!("train.learning_rate is {rate}; it must be above 0"));
    }
    let factor = train.bias_learning_rate_factor;
    if factor.is_finite() && factor >= 0.0 {
        Ok(())
    } else {
        Err(format!(
            "train.bias_learning_rate_factor is {factor}; it must be at least 0"
        ))
    }
}

fn check_width(width: f64) -> Result<(), String> {
    if width > 0.0 && width <= 8.0 {
        Ok(())
    } else {
        Err(format!(
            "model.width is {width}; it must be above 0 and at most 8"
        ))
    }
}

/// Returns a configuration whose fields are overridden by `changes`, which are the table `origin` of a recipe.
fn changed<T: Serialize + DeserializeOwned>(
    value: T,
    changes: &Table,
    origin: &str,
) -> Result<T, ConfigError> {
    if changes.is_empty() {
        return Ok(value);
    }
    let mut table = Table::try_from(&value).map_err(|e| ConfigError::Invalid {
        origin: origin.to_string(),
        message: e.to_string(),
    })?;
    merge(&mut table, changes);
    let read: Result<T, toml::de::Error> = table.clone().try_into();
    read.map_err(|e| {
        let Problem { path, text } = Problem::of(&e, &table, origin);
        ConfigError::Invalid {
            origin: if path.is_empty() {
                origin.to_string()
            } else {
                format!("{origin}.{path}")
            },
            message: text,
        }
    })
}

/// Returns the error about a backbone that cannot be built, or None for a valid one. Named backbones are
/// valid at their published width.
fn invalid_backbone(backbone: &BackboneConfig, name: &str) -> Option<ConfigError> {
    let error = backbone.validate().err()?;
    let width = backbone.width_multiplier();
    Some(ConfigError::Invalid {
        origin: if width == 1.0 {
            format!("backbone {name}")
        } else {
            format!("backbone {name} with model.width={width}")
        },
        message: error.to_string(),
    })
}

/// Merges `changes` into `table`, recursively.
fn merge(table: &mut Table, changes: &Table) {
    for (key, value) in changes {
        match (table.get_mut(key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            _ => {
                table.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Parses `a.b=c`. The value is TOML if it is valid TOML, else a string.
fn apply_setting(table: &mut Table, setting: &str) -> Result<(), ConfigError> {
    let wrong = || ConfigError::Set(setting.to_string());
    let (key, value) = setting.split_once('=').ok_or_else(wrong)?;
    let value = format!("v = {value}")
        .parse::<Table>()
        .ok()
        .and_then(|mut parsed| parsed.remove("v"))
        .unwrap_or_else(|| Value::String(value.to_string()));
    let mut at = table;
    let mut keys: Vec<&str> = key.split('.').map(str::trim).collect();
    let last = keys.pop().filter(|k| !k.is_empty()).ok_or_else(wrong)?;
    for key in keys {
        at = at
            .entry(key)
            .or_insert_with(|| Value::Table(Table::new()))
            .as_table_mut()
            .ok_or_else(|| ConfigError::Invalid {
                origin: format!("setting '{setting}'"),
                message: format!("{key} is a value, not a table"),
            })?;
    }
    // An integer such as 16 is accepted for a float field, although TOML distinguishes the types.
    let value = match (at.get(last), &value) {
        (Some(Value::Float(_)), Value::Integer(i)) => Value::Float(*i as f64),
        _ => value,
    };
    at.insert(last.to_string(), value);
    Ok(())
}
