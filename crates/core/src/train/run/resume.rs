//! The continuation of an interrupted run.

use std::path::Path;

use super::error::RunError;
use super::kind::{Opened, RunKind};
use super::request::TrainRequest;
use super::start::check_sync_norms;
use crate::config::{ConfigError, Recipe};
use crate::train::observer::{Notice, Observer as _};
use crate::train::run_dir::{CONFIG, Launch, RunDir};
use crate::train::run_log::LogObserver;
use crate::train::summary::RecipeFacts;

/// Opens an interrupted run.
pub(super) fn reopen<K: RunKind>(
    kind: &K,
    request: &TrainRequest,
    path: &Path,
    launch: Launch,
    log: &mut LogObserver<'_>,
) -> Result<Opened<K>, RunError> {
    let options = &request.recipe;
    // Rank 0 changes files of the run only when all have read them.
    let run = if request.ranks.is_first() {
        RunDir::reopen(path)?
    } else {
        RunDir::open(path)?;
        RunDir::of_another_rank(path)
    };
    log.open(&run);
    let stored = run.config().display().to_string();
    let config =
        K::Config::load(&stored, &options.later_settings()).map_err(|error| match error {
            // The dataset that was given is one of the other task.
            ConfigError::OtherTask { .. } => launch.changed(&run),
            error => error.into(),
        })?;
    check_sync_norms(config.training(), &request.ranks)?;
    if let Some(wanted) = options.epochs {
        let finished = run.finished_epochs();
        if wanted < finished {
            return Err(RunError::FewerEpochs {
                run: path.to_path_buf(),
                wanted,
                finished,
            });
        }
    }
    log.notice(&Notice::Resuming {
        run: path.to_path_buf(),
    });
    let data = kind.open(launch.data_dir.as_deref(), config.loader().1)?;
    // A resumed run equals one that was never interrupted only with the data that it began with.
    let fingerprint = K::fingerprint(&data);
    let before = run.launch()?;
    let has_moved = (&launch.dataset, &launch.data_dir) != (&before.dataset, &before.data_dir);
    match &launch.fingerprint {
        Some(begun_with) if *begun_with != fingerprint => return Err(launch.changed(&run)),
        None if has_moved => log.notice(&Notice::UnverifiedDataset {
            dataset: launch.dataset.clone(),
        }),
        _ => {}
    }
    request.ranks.gather(())?;
    if has_moved {
        launch.write(&run)?;
    }
    if request.ranks.is_first() {
        store_changes(&run, &config)?;
    }
    Ok(Opened {
        run,
        launch,
        recipe: RecipeFacts {
            name: stored,
            reason: "as the run began".to_string(),
            scaled_from: None,
        },
        config,
        data,
        weights: None,
    })
}

/// Stores the configuration of a continued run if options of this session changed it. A process that is killed at any
/// later time then leaves a run that is continued in the same way, such as to the number of epochs it was extended to.
fn store_changes<C: Recipe>(run: &RunDir, config: &C) -> Result<(), RunError> {
    let before = C::load(&run.config().display().to_string(), &[])?;
    let text = config.to_toml()?;
    // A file with the same keys is left as it is, with the comments that it may have.
    if text != before.to_toml()? {
        run.write(CONFIG, &text)?;
    }
    Ok(())
}
