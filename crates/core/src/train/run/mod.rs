//! One training run from start to end: datasets, model, run directory, training, final evaluation.
//!
//! - [`request`]: the description of a run. - [`error`]: its error. - [`kind`]: what the tasks provide.
//! - [`launch`]: what a run was started with. - [`start`], [`resume`]: the directory of a run.
//! - [`initial_weights`]: given weights in the network. - [`detection`], [`classification`]: the tasks.

mod classification;
mod detection;
mod error;
mod initial_weights;
mod kind;
mod launch;
mod request;
mod resume;
mod start;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use burn::module::Module as _;

pub use detection::training_loader;
pub use error::RunError;
pub(in crate::train) use request::RecipeIdentity;
pub use request::{RecipeOptions, Start, TrainRequest};

use initial_weights::{InitialWeights, SizesOf, initialize};
use kind::{Context, Opened, Prepared, RunKind, TaskFacts};
use resume::reopen;
use start::create;

use super::engine::{Engine, Outcome, TrainTask as _};
use super::memory::free_memory;
use super::observer::{Notice, Observer};
use super::run_dir::{ENVIRONMENT, Environment, Launch, RunDir, RunDirError, TrainedOn};
use super::run_log::LogObserver;
use super::summary::{DatasetFacts, ModelFacts, RecipeFacts, RunSummary, count_parameters};
use crate::config::training::EngineConfig;
use crate::config::{ChosenRecipe, Recipe as _};
use crate::device::{Backend, WorkingDevice};
use crate::distributed::Ranks;
use crate::model::{Model, all_skipped};
use crate::report::Evaluation;
use sedet_data::datasets::registry::AnyDatasetName;
use sedet_data::loading::SkippedImage;
use sedet_nn::kernels::bf16::ComputePrecision;

/// The outcome of a training run.
#[derive(Debug)]
pub struct TrainReport {
    /// The directory of the run.
    pub run: RunDir,
    /// The dataset: a name, or an absolute path.
    pub dataset: String,
    /// The directory of the named datasets, where one was given.
    pub data_dir: Option<PathBuf>,
    /// How training ended.
    pub outcome: Outcome,
    /// The final evaluation; none if training or the evaluation was interrupted.
    pub result: Option<RunResult>,
}

/// The evaluation of a run's best checkpoint.
#[derive(Debug)]
pub struct RunResult {
    /// The metrics.
    pub evaluation: Evaluation,
    /// Seconds of training up to the best checkpoint.
    pub seconds: f64,
    /// Validation images with drawn detections; none for a classifier.
    pub samples: Vec<PathBuf>,
}

/// Trains a model, or continues to, and evaluates its best checkpoint. Everything that `observer`
/// receives is also written to the log of the run.
///
/// # Errors
/// See [`RunError`]. A mistake in the request is found before the directory of a new run is created.
pub fn run(request: &TrainRequest, observer: &mut dyn Observer) -> Result<TrainReport, RunError> {
    let mut log = LogObserver::new(observer);
    let outcome = dispatch(request, &mut log);
    if let Err(error) = &outcome {
        request.ranks.close(&error.failure());
    }
    match &outcome {
        Ok(report) => match &report.result {
            Some(result) => log.line(&result.evaluation.to_text()),
            None => log.line("interrupted; progress is saved"),
        },
        Err(error) => log.line(&format!("error: {error}")),
    }
    outcome
}

fn dispatch(request: &TrainRequest, log: &mut LogObserver<'_>) -> Result<TrainReport, RunError> {
    let launch = match &request.start {
        Start::New {
            dataset, output, ..
        } => {
            let launch = Launch::of_new_run(dataset, &request.recipe)?;
            if request.ranks.is_first() {
                RunDir::check_new(output)?;
            }
            launch
        }
        Start::Resume { run, dataset } => {
            let launch = RunDir::open(&RunDir::of_path(run)?)?.launch()?;
            launch.moved(dataset.as_deref(), request.recipe.data_dir.as_deref())?
        }
    };
    let parsed = AnyDatasetName::parse(&launch.dataset).map_err(|source| match &request.start {
        Start::New { .. } => source.into(),
        Start::Resume { run, .. } => RunError::DatasetMoved {
            run: run.clone(),
            source,
        },
    })?;
    log.notice(&Notice::Opening {
        dataset: launch.dataset.clone(),
    });
    match parsed {
        AnyDatasetName::Classification(dataset) => run_kind(
            &classification::ClassifierRun(dataset),
            request,
            launch,
            log,
        ),
        AnyDatasetName::Detection(dataset) => {
            let name = launch.dataset.clone();
            run_kind(
                &detection::DetectorRun { dataset, name },
                request,
                launch,
                log,
            )
        }
    }
}

/// Checks the recipe and its settings for a dataset as [`run`] does, without reading data or weights.
/// Given weights may replace the network of the recipe, so that it is checked without them only.
pub(super) fn check_recipe(dataset: &str, recipe: &RecipeOptions) -> Result<(), RunError> {
    fn check<K: RunKind>(kind: &K, options: &RecipeOptions) -> Result<(), RunError> {
        options.check(None)?;
        let chosen = ChosenRecipe::new(options.recipe.as_deref(), kind.default_recipe(None));
        let config = K::Config::load(&chosen.name, &options.new_settings(None))?;
        if options.weights.is_none() {
            kind.check(&config, false)?;
        }
        Ok(())
    }
    match AnyDatasetName::parse(dataset)? {
        AnyDatasetName::Classification(dataset) => {
            check(&classification::ClassifierRun(dataset), recipe)
        }
        AnyDatasetName::Detection(parsed) => {
            let name = dataset.to_string();
            let kind = detection::DetectorRun {
                dataset: parsed,
                name,
            };
            check(&kind, recipe)
        }
    }
}

fn run_kind<K: RunKind>(
    kind: &K,
    request: &TrainRequest,
    launch: Launch,
    log: &mut LogObserver<'_>,
) -> Result<TrainReport, RunError> {
    let Opened {
        run,
        launch,
        recipe,
        config,
        data,
        weights,
    } = match &request.start {
        Start::New { seed, output, .. } => create(kind, request, *seed, output, launch, log)?,
        Start::Resume { run, .. } => reopen(kind, request, &RunDir::of_path(run)?, launch, log)?,
    };
    let ranks = &request.ranks;
    check_same_run(ranks, &config.to_toml()?, &K::fingerprint(&data))?;
    let observer: &mut dyn Observer = log;
    check_precision(config.training().precision, &request.device, observer)?;
    let context = Context {
        run: &run,
        launch: &launch,
        is_resumed: matches!(request.start, Start::Resume { .. }),
        device: &request.device,
        stop: &request.stop,
        ranks,
    };
    let prepared = K::prepare(&config, data, &context, observer)?;
    let processes = check_devices(ranks, &request.device)?;
    let memory = check_memory(
        &request.device,
        &prepared.facts,
        config.training(),
        processes,
    )?;
    let recipe_name = recipe.name.clone();
    let origin = weights.as_ref().map(|(path, _)| path.as_path());
    let summary = summarize::<K>(&config, &prepared, recipe, origin, memory, &context);
    observer.notice(&Notice::Summary(Box::new(summary)));
    let Prepared { task, model, facts } = prepared;
    let engine = Engine {
        task: &task,
        config: config.training().clone(),
        run: run.clone(),
        device: request.device.device.clone().autodiff(),
        stop: &request.stop,
        ranks: ranks.clone(),
    };
    let outcome = if context.is_resumed {
        engine.resume(model, observer)
    } else {
        write_environment(&context, &facts, model.num_params())?;
        let model = match weights {
            Some((path, weights)) => {
                let from = InitialWeights {
                    path: &path,
                    strict: request.recipe.weights.as_ref().is_some_and(|w| w.strict),
                    sizes: SizesOf::of(kind, &recipe_name, &weights.spec, &request.recipe),
                };
                initialize(model, weights, &from, task.spec(), observer)?
            }
            None => model,
        };
        engine.train(model, observer)
    };
    // The ranks of a failed run do not hear of each other any more.
    let skipped = match &outcome {
        Ok(_) => all_skipped(ranks, task.skipped())?,
        Err(_) => task.skipped(),
    };
    report_skipped(&run, &skipped, observer)?;
    let outcome = outcome.map_err(|error| RunError::Training {
        dataset: launch.dataset.clone(),
        run: run.path.clone(),
        can_be_resumed: error.can_be_resumed(),
        is_saved: RunDir::open(&run.path).is_ok(),
        is_about_one_image: error.is_about_one_image::<K::Task>(),
        source: error.into(),
    })?;
    match outcome {
        Outcome::StoppedEarly => observer.notice(&Notice::StoppedEarly),
        Outcome::TimeUp => observer.notice(&Notice::TimeLimit),
        Outcome::Finished | Outcome::Interrupted => {}
    }
    let result = if outcome == Outcome::Interrupted {
        None
    } else {
        conclude::<K>(&task, &context, observer)?
    };
    Ok(TrainReport {
        dataset: launch.dataset.clone(),
        data_dir: launch.data_dir.clone(),
        run,
        outcome,
        result,
    })
}

/// Returns the facts of a run that is about to begin or to continue. `weights` is the file of the initial weights.
fn summarize<K: RunKind>(
    config: &K::Config,
    prepared: &Prepared<K::Task>,
    recipe: RecipeFacts,
    weights: Option<&Path>,
    memory: Option<(u64, Option<u64>)>,
    context: &Context<'_>,
) -> RunSummary {
    let Prepared { task, model, facts } = prepared;
    let (parameters, trainable) = count_parameters(model, &frozen_layers(facts));
    RunSummary {
        task: task.spec().task(),
        dataset: DatasetFacts {
            name: context.launch.dataset.clone(),
            train_images: facts.train_images,
            train_boxes: facts.train_boxes,
            val_images: facts.val_images,
            classes: task.spec().class_names(),
        },
        recipe,
        model: ModelFacts {
            name: facts.network.clone(),
            weights: match (weights, context.is_resumed) {
                (Some(path), _) => path.display().to_string(),
                (None, true) => "from the last checkpoint".to_string(),
                (None, false) => "none, trained from scratch".to_string(),
            },
            parameters,
            trainable,
        },
        input: facts.input.clone(),
        anchors: facts.anchors.clone(),
        batch_size: config.batch_sizes().0,
        steps_per_epoch: task
            .batches_per_epoch()
            .div_ceil(config.training().accumulate),
        training: config.training().clone(),
        device: context.device.name.clone(),
        ranks: context.ranks.size(),
        memory,
        run: context.run.path.clone(),
    }
}

/// Records the machine, the dataset and the size of the network in the directory of a new run.
fn write_environment(
    context: &Context<'_>,
    facts: &TaskFacts,
    parameters: usize,
) -> Result<(), RunError> {
    let environment = Environment::now(
        &context.device.name,
        TrainedOn {
            dataset: context.launch.dataset.clone(),
            train_images: facts.train_images,
            train_boxes: facts.train_boxes,
            parameters: parameters as u64,
        },
    );
    Ok(context.run.write_json(ENVIRONMENT, &environment)?)
}

/// Returns the beginnings of the names of the tensors of frozen parts.
fn frozen_layers(facts: &TaskFacts) -> BTreeSet<String> {
    let parts = facts.parts.iter().flatten().take(facts.frozen_parts);
    let names = parts.flatten().map(|layer| layer.name.as_str());
    names
        .map(|name| match name.strip_prefix("backbone.") {
            Some(_) => name.to_string(),
            None => format!("backbone.{name}"),
        })
        .collect()
}

/// Evaluates the best checkpoint. Returns none if it was interrupted.
fn conclude<K: RunKind>(
    task: &K::Task,
    context: &Context<'_>,
    observer: &mut dyn Observer,
) -> Result<Option<RunResult>, RunError> {
    let best = best_model(context)?;
    let mut progress = |done, all| observer.evaluated_images(done, all);
    let Some(concluded) = K::conclude(task, &best, context, &mut progress)? else {
        return Ok(None);
    };
    if !concluded.skipped.is_empty() {
        let reasons = concluded.skipped.into_iter().map(|image| image.reason);
        observer.notice(&Notice::SkippedInEvaluation {
            reasons: reasons.collect(),
        });
    }
    Ok(Some(RunResult {
        evaluation: concluded.evaluation,
        seconds: best.spec.trained.map_or(0.0, |trained| trained.seconds),
        samples: concluded.samples,
    }))
}

/// Loads the best checkpoint of a run. Only rank 0 reads the file, which may appear later elsewhere.
fn best_model(context: &Context<'_>) -> Result<Model, RunError> {
    let path = context.run.best_checkpoint();
    let device = &context.device.device;
    if context.ranks.is_alone() {
        return Ok(Model::load(path, device)?);
    }
    let own = if context.ranks.is_first() {
        std::fs::read(&path).map_err(|source| RunDirError::Io {
            path: path.clone(),
            source,
        })?
    } else {
        Vec::new()
    };
    let bytes = context.ranks.gather_bytes(&own)?.swap_remove(0);
    let model = Model::from_bytes(&bytes, &path.display().to_string(), device)?;
    Ok(model.on_ranks(context.ranks.clone()))
}

/// Checks that all ranks are the same program and have the same configuration and data.
fn check_same_run(ranks: &Ranks, config: &str, fingerprint: &str) -> Result<(), RunError> {
    if ranks.is_alone() {
        return Ok(());
    }
    ranks.check_same_program()?;
    ranks.check_same("configuration", config)?;
    Ok(ranks.check_same("dataset (fingerprint)", fingerprint)?)
}

/// Returns the number of ranks on this machine, and checks that no two of them use one GPU.
fn check_devices(ranks: &Ranks, device: &WorkingDevice) -> Result<usize, RunError> {
    let machine = sysinfo::System::host_name().unwrap_or_default();
    let all = ranks.gather((machine.clone(), device.name.clone()))?;
    if device.backend != Backend::Cpu {
        let own = &all[ranks.rank()];
        if let Some(other) = all.iter().position(|place| place == own)
            && other != ranks.rank()
        {
            return Err(RunError::SharedDevice {
                ranks: [other, ranks.rank()],
                device: device.name.clone(),
            });
        }
    }
    Ok(all.iter().filter(|(other, _)| *other == machine).count())
}

/// Lists the images that were skipped in training in a file, with those of earlier sessions.
fn report_skipped(
    run: &RunDir,
    skipped: &[SkippedImage],
    observer: &mut dyn Observer,
) -> Result<(), RunError> {
    if skipped.is_empty() {
        return Ok(());
    }
    const NAME: &str = "skipped-images.txt";
    let file = run.path.join(NAME);
    let earlier = std::fs::read_to_string(&file).unwrap_or_default();
    let now = skipped.iter().map(|image| image.reason.as_str());
    let all: BTreeSet<&str> = earlier.lines().chain(now).collect();
    let reasons: Vec<String> = all.into_iter().map(str::to_string).collect();
    run.write(NAME, &(reasons.join("\n") + "\n"))?;
    observer.notice(&Notice::SkippedInTraining { reasons, file });
    Ok(())
}

/// Refuses bf16 on other devices than the CPU, and notes that a CPU without it computes in 32-bit floats.
fn check_precision(
    precision: ComputePrecision,
    device: &WorkingDevice,
    observer: &mut dyn Observer,
) -> Result<(), RunError> {
    if precision.is_f32() {
        return Ok(());
    }
    if device.backend != Backend::Cpu {
        return Err(RunError::PrecisionOfDevice {
            precision,
            device: device.name.clone(),
        });
    }
    if !precision.is_available() {
        observer.notice(&Notice::ComputesInF32);
    }
    Ok(())
}

/// Returns the estimated memory of a step with the free memory, and refuses a step on the CPU that would
/// not fit. An input that is too small for the network has no estimate; it is refused where it is used.
fn check_memory(
    device: &WorkingDevice,
    facts: &TaskFacts,
    config: &EngineConfig,
    processes: usize,
) -> Result<Option<(u64, Option<u64>)>, RunError> {
    let Ok(step) = &facts.memory else {
        return Ok(None);
    };
    let is_cpu = device.backend == Backend::Cpu;
    if is_cpu {
        step.check(config, processes)?;
    }
    // The memory of the machine is not that of a GPU.
    Ok(Some((step.bytes(config), free_memory().filter(|_| is_cpu))))
}
