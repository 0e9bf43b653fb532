//! The beginning of a run: recipe, weights and data are checked, and its directory is created.

use std::path::{Path, PathBuf};

use super::error::RunError;
use super::initial_weights::check_backbone;
use super::kind::{AdoptError, Adoption, Opened, RunKind};
use super::request::{RecipeOptions, TrainRequest};
use crate::config::training::EngineConfig;
use crate::config::{ChosenRecipe, ConfigError, Recipe, is_set, replaced_settings};
use crate::distributed::Ranks;
use crate::train::observer::{Notice, Observer as _};
use crate::train::run_dir::{CONFIG, Launch, RunDir};
use crate::train::run_log::LogObserver;
use crate::train::schedule::scaled_learning_rate;
use crate::train::summary::{RecipeFacts, ScaledFrom};
use crate::weights::load::{LoadedWeights, weights_file};
use sedet_data::datasets::registry::AnyDatasetName;

/// Begins a new run. Everything that can be wrong is checked before the directory is created, so
/// that a mistake leaves nothing behind that blocks the next attempt.
pub(super) fn create<K: RunKind>(
    kind: &K,
    request: &TrainRequest,
    seed: Option<u64>,
    output: &Path,
    launch: Launch,
    log: &mut LogObserver<'_>,
) -> Result<Opened<K>, RunError> {
    let (options, ranks) = (&request.recipe, &request.ranks);
    options.check(seed)?;
    let settings = options.new_settings(seed);
    let load = |name: &str| K::Config::load(name, &settings);
    // Mistakes in a given recipe are reported before weights are read.
    let requested = options.recipe.as_deref().map(load).transpose()?;
    let weights = read_weights(options, ranks, log)?;
    let spec = weights.as_ref().map(|(_, weights)| &weights.spec);
    let chosen = ChosenRecipe::new(options.recipe.as_deref(), kind.default_recipe(spec));
    let mut config = match requested {
        Some(config) => config,
        None => load(&chosen.name)?,
    };
    let accumulate = config.training().accumulate;
    config.training_mut().accumulate =
        accumulate
            .checked_mul(ranks.size())
            .ok_or_else(|| ConfigError::Invalid {
                origin: format!("train.accumulate {accumulate}"),
                message: format!("too large for {} processes", ranks.size()),
            })?;
    let scaled_from = set_learning_rate(&mut config, options.learning_rate);
    let mut warnings = match &weights {
        Some(weights) => adopt(
            kind,
            &mut config,
            weights,
            options,
            &settings,
            launch.pretrained,
        )?,
        None => {
            kind.check(&config, launch.pretrained)?;
            Vec::new()
        }
    };
    check_sync_norms(config.training(), ranks)?;
    let data = kind.open(launch.data_dir.as_deref(), config.loader().1)?;
    let fitted = if options.recipe.is_none() && !AnyDatasetName::is_named(&launch.dataset) {
        kind.fit(&mut config, &data, spec, &settings)?
    } else {
        None
    };
    K::resolve(&mut config, launch.pretrained)?;
    let launch = Launch {
        fingerprint: Some(K::fingerprint(&data)),
        ..launch
    };
    let run = if ranks.is_first() {
        RunDir::create(output)?
    } else {
        RunDir::of_another_rank(output)
    };
    launch.write(&run)?;
    run.write(CONFIG, &config.to_toml()?)?;
    log.open(&run);
    let mut given = options.settings.clone();
    let rate = options.learning_rate;
    given.extend(rate.map(|rate| format!("train.learning_rate={rate}")));
    warnings.extend(config.warnings(&given));
    for warning in warnings {
        log.notice(&Notice::SettingWarning(warning));
    }
    let reason = match fitted {
        Some(fitted) => format!("{}; {fitted}", chosen.reason),
        None => chosen.reason.to_string(),
    };
    Ok(Opened {
        run,
        launch,
        recipe: RecipeFacts {
            name: chosen.name,
            reason,
            scaled_from,
        },
        config,
        data,
        weights,
    })
}

/// Checks that the batches that are normalized together are those of all processes. With fewer or more processes the
/// numbers would differ.
pub(super) fn check_sync_norms(config: &EngineConfig, ranks: &Ranks) -> Result<(), RunError> {
    match config.sync_norms {
        Some(wanted) if wanted != ranks.size() => Err(RunError::SyncNorms {
            wanted,
            processes: ranks.size(),
        }),
        _ => Ok(()),
    }
}

/// Reads the initial weights, if there are any.
fn read_weights(
    options: &RecipeOptions,
    ranks: &Ranks,
    log: &mut LogObserver<'_>,
) -> Result<Option<(PathBuf, LoadedWeights)>, RunError> {
    let Some(file) = &options.weights else {
        return Ok(None);
    };
    // Rank 0 downloads what is not there yet.
    if !ranks.is_first() {
        ranks.gather(())?;
    }
    let path = weights_file(&file.path)?;
    let loaded = file.load(&mut |report| log.notice(&Notice::Imported(report.clone())))?;
    if ranks.is_first() {
        ranks.gather(())?;
    }
    Ok(Some((path, loaded)))
}

/// Sets the learning rate to the given one, or scales that of the recipe to the images per step. Returns what it
/// was scaled from, if it was.
fn set_learning_rate<C: Recipe>(config: &mut C, given: Option<f64>) -> Option<ScaledFrom> {
    let from = ScaledFrom {
        learning_rate: config.training().learning_rate,
        batch_size: config.batch_sizes().1,
    };
    let per_step = config.batch_sizes().0 * config.training().accumulate;
    config.training_mut().learning_rate = given
        .unwrap_or_else(|| scaled_learning_rate(from.learning_rate, from.batch_size, per_step));
    // The file of the run holds what is really used.
    config.set_base_batch_size(per_step);
    (given.is_none() && from.batch_size != per_step).then_some(from)
}

/// Adapts the configuration to initial weights and checks that they are those of its backbone. Returns warnings
/// about settings that have no effect.
fn adopt<K: RunKind>(
    kind: &K,
    config: &mut K::Config,
    (path, weights): &(PathBuf, LoadedWeights),
    options: &RecipeOptions,
    settings: &[String],
    pretrained: bool,
) -> Result<Vec<String>, RunError> {
    let requested = config.clone();
    let adoption = Adoption {
        whole: !is_set(settings, "model.backbone"),
        is_default_recipe: options.recipe.is_none(),
        settings,
    };
    K::adopt(config, &weights.spec, &adoption).map_err(|error| match error {
        AdoptError::Config(error) => RunError::Config(error),
        AdoptError::Unusable(reason) => RunError::UnusableWeights {
            path: path.clone(),
            reason: reason.to_string(),
        },
    })?;
    let replaced = replaced_settings(&requested, config, settings)?.into_iter();
    let warnings = replaced.map(|(setting, value)| {
        format!("the setting {setting} has no effect: the value is {value}, that of the weights")
    });
    let warnings = warnings.collect();
    kind.check(config, pretrained)?;
    let backbone = K::backbone(config, pretrained)?;
    // A file that lacks tensors of its own network was reported when it was read.
    let missing: &[String] = if adoption.whole {
        &[]
    } else {
        &weights.spec.missing
    };
    let allows_other = options.weights.as_ref().is_some_and(|w| w.allow_unused);
    check_backbone(&backbone, weights, missing, path, allows_other)?;
    Ok(warnings)
}
