//! One training run from start to end: datasets, model, run directory, training, final evaluation.

mod classification;
mod detection;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::module::Module;
use burn::tensor::{Device, TensorData};
use serde_json::{Value, json};

pub use detection::training_loader;

use super::engine::{Engine, Outcome, TrainTask};
use super::memory::{NotEnoughMemory, StepMemory, free_memory};
use super::observer::{Notice, Observer};
use super::run_dir::{LAUNCH, Launch, RunDir, RunDirError, environment};
use super::run_log::RunLog;
use super::schedule::scaled_learning_rate;
use super::summary::{
    DatasetFacts, ModelFacts, RecipeFacts, RunSummary, ScaledFrom, count_parameters,
};
use crate::backbones::BackboneConfig;
use crate::backbones::summary::{LayerSummary, TooSmall};
use crate::backbones::zoo::name_of;
use crate::config::training::EngineConfig;
use crate::config::{ChosenRecipe, ConfigError, Recipe, is_set, replaced_settings};
use crate::device::{Backend, WorkingDevice};
use crate::model::{Model, ModelError, ModelSpec, Task};
use crate::render::RenderError;
use crate::report::{Evaluation, SampleError};
use crate::weights::groups::is_of_unit;
use crate::weights::load::{LoadError, LoadedWeights, WeightsFile, weights_file};
use crate::weights::parameters::{NamedTensors, fill_with_tensors, named_shapes, named_tensors};
use sedet_data::DataError;
use sedet_data::annotations::layout::Split;
use sedet_data::classes::{differing_names, positions_by_name};
use sedet_data::datasets::registry::{AnyDatasetName, RegistryError};
use sedet_data::eval::EvalError;
use sedet_data::images::OnBadImage;
use sedet_data::loading::SkippedImage;
use sedet_nn::nn::norm::NormKind;
use sedet_nn::nn::se::{SeConfig, SeStart};

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
        /// The dataset, where it is not at the place where the run began; its contents must be the same.
        dataset: Option<String>,
    },
}

/// Options that determine how a model is trained.
///
/// A resumed run takes only `epochs`, `on_bad_image` and `data_dir` from here; everything else is stored
/// in its directory.
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
    pub(super) fn identity(&self) -> Value {
        let mut identity = json!({
            "config": self.recipe,
            "set": self.settings,
            "backbone": self.backbone,
            "weights": self.weights.as_ref().map(|weights| &weights.path),
            "layout": self.weights.as_ref().and_then(|w| w.layout).map(|layout| layout.key()),
            "strict": self.weights.as_ref().is_some_and(|weights| weights.strict),
            "data_dir": self.data_dir,
            "lr": self.learning_rate,
            "batch_size": self.batch_size,
            "epochs": self.epochs,
        });
        // Omitted otherwise, so that comparisons that were begun earlier can be continued.
        if let Some(network) = self
            .weights
            .as_ref()
            .and_then(|weights| weights.network.as_ref())
        {
            identity["network"] = json!(network);
        }
        identity
    }

    /// Returns the settings of a new run.
    fn new_settings(&self, seed: Option<u64>) -> Vec<String> {
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
    pub(super) fn check(&self, seed: Option<u64>) -> Result<(), ConfigError> {
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
    pub(super) fn fixed_keys(&self) -> BTreeSet<String> {
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
    fn later_settings(&self) -> Vec<String> {
        let epochs = self.epochs.map(|n| format!("train.epochs={n}"));
        let policy = self.on_bad_image.map(|policy| match policy {
            OnBadImage::Error => "loader.on_bad_image=error".to_string(),
            OnBadImage::Skip => "loader.on_bad_image=skip".to_string(),
        });
        epochs.into_iter().chain(policy).collect()
    }
}

/// What [`run`] trains.
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
}

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

/// The error of a training run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The recipe or its settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The dataset.
    #[error(transparent)]
    Dataset(#[from] RegistryError),
    /// Images, or settings of the loader.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The ground truth.
    #[error(transparent)]
    GroundTruth(#[from] EvalError),
    /// The directory of the run.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// The file of initial weights.
    #[error(transparent)]
    Weights(#[from] LoadError),
    /// Initial weights that the model can't use.
    #[error("{}: {reason}", path.display())]
    UnusableWeights {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Initial weights of another backbone.
    #[error(
        "{}: not the weights of {wanted}: the backbone in this file is {given}; {fitting} of {all} tensors fit{}",
        path.display(),
        if *unused > 0 { format!(", and {unused} more are in the file") } else { String::new() }
    )]
    OtherBackbone {
        /// The file.
        path: PathBuf,
        /// The backbone to train.
        wanted: String,
        /// The backbone in the file.
        given: String,
        /// Number of tensors of the backbone to train that the file has in the same shape.
        fitting: usize,
        /// Number of all tensors of the backbone to train, without those of SE units.
        all: usize,
        /// Number of tensors of the backbone in the file that the one to train does not have.
        unused: usize,
    },
    /// Initial weights without any for a backbone that needs them.
    #[error(
        "{}: none of its tensors fits the backbone, whose norm layers are frozen and would normalize \
         nothing",
        path.display()
    )]
    FrozenBackbone {
        /// The file.
        path: PathBuf,
    },
    /// An input that is too small for the network.
    #[error("input.size {size}: {source}")]
    InputTooSmall {
        /// The side of the input in pixels.
        size: usize,
        /// What is wrong.
        source: TooSmall,
    },
    /// A training step that needs more memory than is free.
    #[error(transparent)]
    Memory(#[from] NotEnoughMemory),
    /// A path that cannot be made absolute.
    #[error("{}: {source}", path.display())]
    Launch {
        /// The path.
        path: PathBuf,
        /// What is wrong.
        source: std::io::Error,
    },
    /// A split without a box.
    #[error("{dataset}: {split} has {}, none with a box", sedet_data::text::count(*images, "image"))]
    NoBoxes {
        /// The dataset.
        dataset: String,
        /// The split.
        split: Split,
        /// Number of images.
        images: usize,
    },
    /// The dataset of a resumed run is not where it was.
    #[error("{}: its dataset is not at its place: {source}", run.display())]
    DatasetMoved {
        /// The directory of the run.
        run: PathBuf,
        /// The error of the dataset.
        source: RegistryError,
    },
    /// A resumed run whose data has changed.
    #[error("{dataset}: its images or annotations have changed since this run began")]
    DatasetChanged {
        /// The dataset.
        dataset: String,
        /// The last checkpoint of the run.
        checkpoint: PathBuf,
    },
    /// Training itself.
    #[error("{source}")]
    Training {
        /// What happened.
        source: Box<dyn std::error::Error + Send + Sync>,
        /// The dataset.
        dataset: String,
        /// The directory of the run.
        run: PathBuf,
        /// Whether the run can go on once the cause is removed.
        can_be_resumed: bool,
        /// Whether there is a checkpoint to resume from.
        is_saved: bool,
        /// Whether a single image is the cause.
        is_about_one_image: bool,
    },
    /// The final evaluation.
    #[error(transparent)]
    Evaluation(#[from] ModelError),
    /// A report that can't be written.
    #[error(transparent)]
    Report(#[from] RenderError),
    /// The sample images.
    #[error(transparent)]
    Samples(#[from] SampleError),
}

impl Launch {
    fn of_new_run(dataset: &str, recipe: &RecipeOptions) -> Result<Self, RunError> {
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
    fn moved(self, dataset: Option<&str>, data_dir: Option<&Path>) -> Result<Self, RunError> {
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
    fn changed(&self, run: &RunDir) -> RunError {
        RunError::DatasetChanged {
            dataset: self.dataset.clone(),
            checkpoint: run.last_checkpoint(),
        }
    }

    fn write(&self, run: &RunDir) -> Result<(), RunError> {
        Ok(run.write(LAUNCH, &format!("{:#}\n", json!(self)))?)
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

/// The parts of a run that depend on the task.
trait RunKind {
    /// The recipe.
    type Config: Recipe;
    /// What is trained.
    type Task: TrainTask;
    /// The training and the validation split.
    type Data;

    /// Returns the recipe for the dataset and given weights, and the reason for it.
    fn default_recipe(&self, weights: Option<&ModelSpec>) -> (&'static str, &'static str);

    /// Adapts the configuration to given weights.
    fn adopt(
        config: &mut Self::Config,
        spec: &ModelSpec,
        adoption: &Adoption<'_>,
    ) -> Result<(), AdoptError>;

    /// Checks everything in the configuration that needs no data.
    fn check(&self, config: &Self::Config, pretrained: bool) -> Result<(), RunError>;

    /// Returns the backbone of the network that the configuration describes.
    fn backbone(config: &Self::Config, pretrained: bool) -> Result<BackboneConfig, ConfigError>;

    /// Opens both splits, and checks that there is something to train on and to measure with.
    fn open(
        &self,
        data_dir: Option<&Path>,
        on_bad_image: OnBadImage,
    ) -> Result<Self::Data, RunError>;

    /// Fits a default recipe to own data, except what `settings` set, and returns what was fitted.
    fn fit(
        &self,
        _config: &mut Self::Config,
        _data: &Self::Data,
        _weights: Option<&ModelSpec>,
        _settings: &[String],
    ) -> Result<Option<String>, RunError> {
        Ok(None)
    }

    /// Writes into the configuration what is used in the end.
    fn resolve(_config: &mut Self::Config, _pretrained: bool) -> Result<(), RunError> {
        Ok(())
    }

    /// Returns a fingerprint of the annotations or labels of both splits.
    fn fingerprint(data: &Self::Data) -> String;

    /// Builds the task and the network with random weights.
    fn prepare(
        config: &Self::Config,
        data: Self::Data,
        context: &Context<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Prepared<Self::Task>, RunError>;

    /// Evaluates the best checkpoint and writes the report. `progress` receives the numbers of finished
    /// and of all images. Returns none if it was interrupted.
    fn conclude(
        task: &Self::Task,
        best: &Model,
        context: &Context<'_>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Option<Concluded>, RunError>;
}

/// How a configuration is adapted to given weights.
struct Adoption<'a> {
    /// Whether the network of the weights replaces the recipe's, because no setting names a backbone.
    whole: bool,
    /// Whether the recipe was chosen by default, so that the weights also determine the input size.
    is_default_recipe: bool,
    /// The settings of the user, which stay.
    settings: &'a [String],
}

/// Why weights don't fit a configuration.
enum AdoptError {
    Config(ConfigError),
    Unusable(&'static str),
}

impl From<ConfigError> for AdoptError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// What the tasks need to know about their run.
struct Context<'a> {
    run: &'a RunDir,
    launch: &'a Launch,
    is_resumed: bool,
    device: &'a WorkingDevice,
    stop: &'a AtomicBool,
}

/// A task, its network with random weights, and what the user should know about them.
struct Prepared<T: TrainTask> {
    task: T,
    model: T::Model,
    facts: TaskFacts,
}

/// What only the task knows about a run.
struct TaskFacts {
    train_images: usize,
    train_boxes: Option<usize>,
    val_images: usize,
    /// The name of the network.
    network: String,
    /// The layers of each part of the backbone; an error for inputs that are too small for an estimate.
    parts: Result<Vec<Vec<LayerSummary>>, TooSmall>,
    /// Number of leading parts that are not trained.
    frozen_parts: usize,
    /// The sizes of inputs, in words.
    input: String,
    /// The anchors of a detector, in words.
    anchors: Option<String>,
    /// The memory of a step.
    memory: Result<StepMemory, TooSmall>,
    /// The settings to lower where memory is short.
    advice: String,
}

/// What the final evaluation leaves.
struct Concluded {
    evaluation: Evaluation,
    skipped: Vec<SkippedImage>,
    samples: Vec<PathBuf>,
}

/// A run whose directory and configuration exist.
struct Opened<K: RunKind> {
    run: RunDir,
    launch: Launch,
    recipe: RecipeFacts,
    config: K::Config,
    data: K::Data,
    weights: Option<(PathBuf, LoadedWeights)>,
}

/// Trains a model, or continues to, and evaluates its best checkpoint. Everything that `observer`
/// receives is also written to the log of the run.
///
/// # Errors
/// See [`RunError`]. A mistake in the request is found before the directory of a new run is created.
pub fn run(request: &TrainRequest, observer: &mut dyn Observer) -> Result<TrainReport, RunError> {
    let mut log = RunLog::new(observer);
    let outcome = dispatch(request, &mut log);
    match &outcome {
        Ok(report) => match &report.result {
            Some(result) => log.line(&result.evaluation.to_text()),
            None => log.line("interrupted; progress is saved"),
        },
        Err(error) => log.line(&format!("error: {error}")),
    }
    outcome
}

fn dispatch(request: &TrainRequest, log: &mut RunLog<'_>) -> Result<TrainReport, RunError> {
    let launch = match &request.start {
        Start::New {
            dataset, output, ..
        } => {
            let launch = Launch::of_new_run(dataset, &request.recipe)?;
            RunDir::check_new(output)?;
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
    log: &mut RunLog<'_>,
) -> Result<TrainReport, RunError> {
    let Opened {
        run,
        launch,
        recipe,
        config,
        data,
        weights,
    } = match &request.start {
        Start::New { seed, output, .. } => {
            create(kind, &request.recipe, *seed, output, launch, log)?
        }
        Start::Resume { run, .. } => {
            reopen(kind, &request.recipe, &RunDir::of_path(run)?, launch, log)?
        }
    };
    let observer: &mut dyn Observer = log;
    let context = Context {
        run: &run,
        launch: &launch,
        is_resumed: matches!(request.start, Start::Resume { .. }),
        device: &request.device,
        stop: &request.stop,
    };
    let Prepared { task, model, facts } = K::prepare(&config, data, &context, observer)?;
    let parameters = model.num_params();
    let memory = check_memory(&request.device, &facts, config.training())?;
    let (all, trainable) = count_parameters(&model, &frozen_layers(&facts));
    let origin = weights.as_ref().map(|(path, _)| path.as_path());
    let sizes = SizesOf {
        recipe: recipe.name.clone(),
        keeping: weights.as_ref().and_then(|(_, weights)| {
            let (keeping, _) = kind.default_recipe(Some(&weights.spec));
            let options = &request.recipe;
            let sets_sizes = ["model.backbone", "model.overrides"]
                .iter()
                .any(|key| is_set(&options.settings, key));
            let is_other = keeping != recipe.name && options.backbone.is_none() && !sets_sizes;
            is_other.then_some(keeping)
        }),
    };
    let summary = RunSummary {
        task: task.spec().task(),
        dataset: DatasetFacts {
            name: launch.dataset.clone(),
            train_images: facts.train_images,
            train_boxes: facts.train_boxes,
            val_images: facts.val_images,
            classes: task.spec().class_names(),
        },
        recipe,
        model: ModelFacts {
            name: facts.network.clone(),
            weights: match (origin, context.is_resumed) {
                (Some(path), _) => path.display().to_string(),
                (None, true) => "from the last checkpoint".to_string(),
                (None, false) => "none, trained from scratch".to_string(),
            },
            parameters: all,
            trainable,
        },
        input: facts.input.clone(),
        anchors: facts.anchors.clone(),
        batch_size: config.batch_sizes().0,
        steps_per_epoch: task
            .batches_per_epoch()
            .div_ceil(config.training().accumulate),
        training: config.training().clone(),
        device: request.device.name.clone(),
        memory,
        run: run.path.clone(),
    };
    observer.notice(&Notice::Summary(Box::new(summary)));
    let engine = Engine {
        task: &task,
        config: config.training().clone(),
        run: run.clone(),
        device: request.device.device.clone().autodiff(),
        stop: &request.stop,
    };
    let outcome = if context.is_resumed {
        engine.resume(model, observer)
    } else {
        let mut record = json!({
            "dataset": launch.dataset,
            "train_images": facts.train_images,
            "parameters": parameters,
        });
        if let Some(boxes) = facts.train_boxes {
            record["train_boxes"] = boxes.into();
        }
        let environment = environment(&request.device.name, &record);
        run.write("environment.json", &format!("{environment:#}\n"))?;
        let model = match weights {
            Some((path, weights)) => {
                let strict = request.recipe.weights.as_ref().is_some_and(|w| w.strict);
                let from = InitialWeights {
                    path: &path,
                    strict,
                    sizes,
                };
                initialize(model, weights, &from, task.spec(), observer)?
            }
            None => model,
        };
        engine.train(model, observer)
    };
    report_skipped(&run, &task.skipped(), observer)?;
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

/// Begins a new run. Everything that can be wrong is checked before the directory is created, so
/// that a mistake leaves nothing behind that blocks the next attempt.
fn create<K: RunKind>(
    kind: &K,
    options: &RecipeOptions,
    seed: Option<u64>,
    output: &Path,
    launch: Launch,
    log: &mut RunLog<'_>,
) -> Result<Opened<K>, RunError> {
    options.check(seed)?;
    let settings = options.new_settings(seed);
    let load = |name: &str| K::Config::load(name, &settings);
    // Mistakes in a given recipe are reported before weights are read.
    let requested = options.recipe.as_deref().map(load).transpose()?;
    let weights = match &options.weights {
        None => None,
        Some(file) => Some((
            weights_file(&file.path)?,
            file.load(&mut |report| log.notice(&Notice::Imported(report.clone())))?,
        )),
    };
    let spec = weights.as_ref().map(|(_, weights)| &weights.spec);
    let chosen = ChosenRecipe::new(options.recipe.as_deref(), kind.default_recipe(spec));
    let mut config = match requested {
        Some(config) => config,
        None => load(&chosen.name)?,
    };
    let from = ScaledFrom {
        learning_rate: config.training().learning_rate,
        batch_size: config.batch_sizes().1,
    };
    let per_step = config.batch_sizes().0 * config.training().accumulate;
    config.training_mut().learning_rate = options
        .learning_rate
        .unwrap_or_else(|| scaled_learning_rate(from.learning_rate, from.batch_size, per_step));
    // The file of the run holds what is really used.
    config.set_base_batch_size(per_step);
    let mut warnings = Vec::new();
    if let (Some((path, weights)), Some(file)) = (&weights, &options.weights) {
        let requested = config.clone();
        let adoption = Adoption {
            whole: !is_set(&settings, "model.backbone"),
            is_default_recipe: options.recipe.is_none(),
            settings: &settings,
        };
        K::adopt(&mut config, &weights.spec, &adoption).map_err(|error| match error {
            AdoptError::Config(error) => RunError::Config(error),
            AdoptError::Unusable(reason) => RunError::UnusableWeights {
                path: path.clone(),
                reason: reason.to_string(),
            },
        })?;
        for (setting, value) in replaced_settings(&requested, &config, &settings)? {
            warnings.push(format!(
                "the setting {setting} has no effect: the value is {value}, that of the weights"
            ));
        }
        kind.check(&config, launch.pretrained)?;
        let backbone = K::backbone(&config, launch.pretrained)?;
        // A file that lacks tensors of its own network was reported when it was read.
        let missing: &[String] = if adoption.whole {
            &[]
        } else {
            &weights.spec.missing
        };
        check_backbone(&backbone, weights, missing, path, file.skip_unknown)?;
    } else {
        kind.check(&config, launch.pretrained)?;
    }
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
    let run = RunDir::create(output)?;
    launch.write(&run)?;
    run.write("config.toml", &config.to_toml()?)?;
    log.open(&run);
    let mut given = options.settings.clone();
    let rate = options.learning_rate;
    given.extend(rate.map(|rate| format!("train.learning_rate={rate}")));
    warnings.extend(config.warnings(&given));
    for warning in warnings {
        log.notice(&Notice::SettingWarning(warning));
    }
    let is_scaled = options.learning_rate.is_none() && from.batch_size != per_step;
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
            scaled_from: is_scaled.then_some(from),
        },
        config,
        data,
        weights,
    })
}

/// Opens an interrupted run.
fn reopen<K: RunKind>(
    kind: &K,
    options: &RecipeOptions,
    path: &Path,
    launch: Launch,
    log: &mut RunLog<'_>,
) -> Result<Opened<K>, RunError> {
    let run = RunDir::reopen(path)?;
    log.open(&run);
    let stored = run.config().display().to_string();
    let config =
        K::Config::load(&stored, &options.later_settings()).map_err(|error| match error {
            // The dataset that was given is one of the other task.
            ConfigError::OtherTask { .. } => launch.changed(&run),
            error => error.into(),
        })?;
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
    if has_moved {
        launch.write(&run)?;
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

/// Evaluates the best checkpoint. Returns none if it was interrupted.
fn conclude<K: RunKind>(
    task: &K::Task,
    context: &Context<'_>,
    observer: &mut dyn Observer,
) -> Result<Option<RunResult>, RunError> {
    let best = Model::load(context.run.best_checkpoint(), &context.device.device)?;
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

/// Reports the notes on the splits of a dataset. Both splits have those on their common directory.
fn report_notes<'a>(notes: impl Iterator<Item = &'a String>, observer: &mut dyn Observer) {
    let mut reported = BTreeSet::new();
    for note in notes {
        if reported.insert(note) {
            observer.notice(&Notice::DatasetNote(note.clone()));
        }
    }
}

/// Where initial weights come from, and how they are used.
struct InitialWeights<'a> {
    path: &'a Path,
    /// Whether every tensor has to match.
    strict: bool,
    sizes: SizesOf,
}

/// What gives the layers their sizes.
struct SizesOf {
    /// The recipe, by name or file.
    recipe: String,
    /// The recipe that keeps the sizes of the weights, if it is another one.
    keeping: Option<&'static str>,
}

/// Builds a network with random weights from a seed. Parameters are drawn when they are first used;
/// all are used here, in the order of the structure.
fn random<M: Module>(init: impl FnOnce(&Device) -> M, seed: u64, device: &Device) -> M {
    device.seed(seed);
    let model = init(device);
    drop(named_tensors(&model));
    model
}

/// Copies given weights into a network wherever name and shape agree, but not the prediction layers
/// of other classes.
///
/// With `strict`, the weights must match the network tensor by tensor. Prediction layers that other
/// classes replace are no mismatch, and from a checkpoint of the other task only the backbone counts.
fn initialize<M: Module>(
    model: M,
    mut given: LoadedWeights,
    from: &InitialWeights<'_>,
    spec: &ModelSpec,
    observer: &mut dyn Observer,
) -> Result<M, RunError> {
    let path = from.path;
    let unusable = |reason: String| RunError::UnusableWeights {
        path: path.to_path_buf(),
        reason,
    };
    let (checkpoint, dataset) = (given.spec.num_classes(), spec.num_classes());
    let is_other_task = given.spec.task() != spec.task();
    // Imported files have the numbers of classes only, no names to compare.
    let has_names = given.report.is_none() && given.spec.imported.is_none();
    let order = if is_other_task {
        None
    } else {
        labels_by_name(&given.spec, spec)
    };
    let has_other_names = has_names && !is_other_task && order.is_none();
    let is_reordered = order.as_ref().is_some_and(|order| !order.is_sorted());
    let layers = spec.network.prediction_layers();
    if let Some(order) = order.filter(|_| is_reordered) {
        for (name, tensor) in &mut given.weights {
            if layers.iter().any(|layer| name.starts_with(layer)) {
                *tensor = with_outputs_in(&order, tensor, spec.task());
            }
        }
    }
    if has_other_names {
        given
            .weights
            .retain(|name, _| !layers.iter().any(|layer| name.starts_with(layer)));
    }
    let known: BTreeSet<String> = given.weights.keys().cloned().collect();
    let (tensors, loaded, random) = matching(&model, &mut given.weights);
    if loaded == 0 {
        return Err(unusable("none of its tensors fits this network".into()));
    }
    let is_of_backbone = |name: &&String| name.starts_with("backbone.");
    let replaces_layers = checkpoint != dataset || has_other_names;
    if from.strict {
        let counts = |name: &&String| {
            if is_other_task {
                name.starts_with("backbone.")
            } else {
                !(replaces_layers && layers.iter().any(|layer| name.starts_with(layer)))
            }
        };
        let (mismatched, missing) = random
            .iter()
            .filter(counts)
            .partition::<Vec<_>, _>(|name| known.contains(*name));
        let unused = given.weights.keys().filter(counts).count();
        if mismatched.len() + missing.len() + unused > 0 {
            return Err(LoadError::NotStrict {
                path: path.to_path_buf(),
                missing: missing.len(),
                mismatched: mismatched.len(),
                unused,
            }
            .into());
        }
    }
    observer.notice(&Notice::WeightsLoaded { tensors: loaded });
    if is_other_task {
        observer.notice(&Notice::ClassificationCheckpoint);
    } else if checkpoint != dataset {
        observer.notice(&Notice::OtherClasses {
            checkpoint,
            dataset,
        });
    } else if has_other_names {
        let difference = differing_names(
            ("the checkpoint", &given.spec.class_names()),
            ("the dataset", &spec.class_names()),
        );
        observer.notice(&Notice::OtherClassNames { difference });
    } else if is_reordered {
        observer.notice(&Notice::ReorderedClasses);
    }
    let starts_as_identity = |units: &SeConfig| units.start == SeStart::Identity;
    let random = if given.spec.backbone().se().is_none()
        && spec.backbone().se().is_some_and(starts_as_identity)
    {
        let (units, random): (Vec<_>, Vec<_>) =
            random.into_iter().partition(|name| is_of_unit(name));
        observer.notice(&Notice::GraftedUnits {
            units: units
                .iter()
                .filter(|name| name.ends_with(".fc1.weight"))
                .count(),
            keeps_outputs: !random.iter().any(|name| is_of_backbone(&name)),
        });
        random
    } else {
        random
    };
    // Prediction layers of other classes were named above.
    let has_other_shape = |name: &String| {
        known.contains(name)
            && !(replaces_layers && layers.iter().any(|layer| name.starts_with(layer)))
    };
    let (reshaped, random): (Vec<_>, Vec<_>) = random.into_iter().partition(has_other_shape);
    if !reshaped.is_empty() {
        observer.notice(&Notice::OtherShapes {
            tensors: reshaped,
            recipe: from.sizes.recipe.clone(),
            keeping: from.sizes.keeping,
        });
    }
    if !random.is_empty() {
        observer.notice(&Notice::RandomlyInitialized(random));
    }
    if !given.weights.is_empty() {
        let names = given.weights.into_keys().collect();
        observer.notice(&Notice::UnusedWeights(names));
    }
    fill_with_tensors(model, tensors).map_err(|error| unusable(error.to_string()))
}

/// Returns the label in given weights of each class of a model, if both have the same classes by name.
fn labels_by_name(given: &ModelSpec, wanted: &ModelSpec) -> Option<Vec<usize>> {
    let have_names = !given.categories.is_empty() && !wanted.categories.is_empty();
    if !have_names || given.num_classes() != wanted.num_classes() {
        return None;
    }
    let labels = positions_by_name(&wanted.class_names(), &given.class_names());
    labels.into_iter().collect()
}

/// Returns a tensor of a prediction layer with the outputs of its classes in another order. `order` has the present
/// label of each class.
///
/// # Shapes
/// The last dimension is that of the outputs: one or four for each class, and for a detector as many for the
/// background, which is first. A tensor of another shape is returned as it is.
fn with_outputs_in(order: &[usize], tensor: &TensorData, task: Task) -> TensorData {
    let background = usize::from(task == Task::Detection);
    let groups = order.len() + background;
    let outputs = tensor.shape()[..].last().copied().unwrap_or_default();
    let per_class = outputs / groups;
    if per_class == 0 || !outputs.is_multiple_of(groups) {
        return tensor.clone();
    }
    let moved = order.iter().map(|label| label + background);
    let from: Vec<usize> = (0..background).chain(moved).collect();
    let values: Vec<f32> = tensor.iter::<f32>().collect();
    let rows = values.chunks(outputs).flat_map(|row| {
        let of_group = |&group: &usize| &row[group * per_class..(group + 1) * per_class];
        from.iter().flat_map(of_group).copied()
    });
    TensorData::new(rows.collect::<Vec<f32>>(), tensor.shape().clone())
}

/// Checks that initial weights are those of the backbone to train, tensor by tensor. SE units may be missing: they are
/// added to the weights of a plain network. `missing` tensors of the file are random. With `allows_other`, the tensors that
/// fit are enough.
///
/// A network of another depth shares some names and shapes: of a deeper one a part would be loaded, and of a shallower
/// one all between layers with random weights.
fn check_backbone(
    backbone: &BackboneConfig,
    weights: &LoadedWeights,
    missing: &[String],
    path: &Path,
    allows_other: bool,
) -> Result<(), RunError> {
    /// The side of an input that is large enough for every backbone, in pixels.
    const SIDE: usize = 512;
    let given = weights.spec.backbone();
    let network = backbone.init(&Device::flex());
    // A backbone for images of 32 pixels has another stem than one of a detector, which keeps its own.
    let stem: Vec<String> = if given.pyramid_parts().is_err() && backbone.pyramid_parts().is_ok() {
        let parts = network.layers_of_parts([SIDE; 2]).unwrap_or_default();
        let layers = parts.into_iter().take(1).flatten();
        layers.map(|layer| format!("{}.", layer.name)).collect()
    } else {
        Vec::new()
    };
    let shapes = named_shapes(&network);
    let required = shapes.iter().filter(|(name, _)| {
        !is_of_unit(name) && !stem.iter().any(|layer| name.starts_with(layer.as_str()))
    });
    let fits = |name: &str, shape: &[usize]| {
        let name = format!("backbone.{name}");
        let found = weights.weights.get(&name);
        !missing.contains(&name) && found.is_some_and(|found| found.shape().iter().eq(shape))
    };
    let (mut all, mut fitting) = (0, 0);
    for (name, shape) in required {
        all += 1;
        fitting += usize::from(fits(name, shape));
    }
    let in_file = weights.weights.keys();
    let in_file = in_file.filter_map(|name| name.strip_prefix("backbone."));
    let unused = in_file
        .filter(|name| !is_of_unit(name) && !shapes.contains_key(*name))
        .count();
    if (fitting < all || unused > 0) && !allows_other {
        return Err(RunError::OtherBackbone {
            path: path.to_path_buf(),
            wanted: title_of(backbone),
            given: title_of(&given),
            fitting,
            all,
            unused,
        });
    }
    if fitting == 0 && backbone.norm().kind == NormKind::Frozen {
        return Err(RunError::FrozenBackbone {
            path: path.to_path_buf(),
        });
    }
    Ok(())
}

/// Returns the name of a backbone, with its width if it is not the published one, or else that of its family.
fn title_of(backbone: &BackboneConfig) -> String {
    let mut published = backbone.clone();
    if let Some(units) = published.common_mut().se {
        *units = SeConfig::default();
    }
    let name = name_of(&published).unwrap_or_else(|| match backbone {
        BackboneConfig::Resnet(net) => {
            let blocks = net.layers.map(|blocks| blocks.to_string());
            format!("a ResNet with {} blocks", blocks.join(", "))
        }
        other => format!("a {}", other.family_title()),
    });
    match backbone.width_multiplier() {
        1.0 => name,
        width => format!("{name} (width {width})"),
    }
}

/// Returns the tensors of a model with those of given weights wherever name and shape agree, the
/// number of those, and the names of the others.
fn matching(model: &impl Module, given: &mut NamedTensors) -> (NamedTensors, usize, Vec<String>) {
    let mut tensors = named_tensors(model);
    let (mut loaded, mut random) = (0, Vec::new());
    for (name, tensor) in &mut tensors {
        match given.remove(name) {
            Some(found) if found.shape() == tensor.shape() => {
                *tensor = found;
                loaded += 1;
            }
            _ => random.push(name.clone()),
        }
    }
    (tensors, loaded, random)
}

/// Returns the estimated memory of a step with the free memory, and refuses a step on the CPU that would
/// not fit. An input that is too small for the network has no estimate; it is refused where it is used.
fn check_memory(
    device: &WorkingDevice,
    facts: &TaskFacts,
    config: &EngineConfig,
) -> Result<Option<(u64, Option<u64>)>, RunError> {
    let Ok(step) = &facts.memory else {
        return Ok(None);
    };
    let is_cpu = device.backend == Backend::Cpu;
    if is_cpu {
        step.check(config, || facts.advice.clone())?;
    }
    // The memory of the machine says nothing about that of a GPU.
    Ok(Some((step.bytes(config), free_memory().filter(|_| is_cpu))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbones::zoo::network;
    use crate::classification::classifier::ClassifierConfig;
    use crate::model::Network;
    use sedet_data::loading::transforms::Preprocess;

    #[test]
    fn outputs_of_prediction_layers_are_reordered_by_class() {
        let tensor = |values: Vec<f32>, shape: [usize; 2]| TensorData::new(values, shape);
        let numbers = |data: &TensorData| data.iter::<f32>().collect::<Vec<_>>();
        let order = [2, 0, 1];
        let classifier = tensor(vec![0.0, 1.0, 2.0, 10.0, 11.0, 12.0], [2, 3]);
        let found = with_outputs_in(&order, &classifier, Task::Classification);
        assert_eq!(numbers(&found), [2.0, 0.0, 1.0, 12.0, 10.0, 11.0]);
        // The background is first; its outputs stay.
        let bias = TensorData::new(vec![-1.0_f32, 0.0, 1.0, 2.0], [4]);
        let found = with_outputs_in(&order, &bias, Task::Detection);
        assert_eq!(numbers(&found), [-1.0, 2.0, 0.0, 1.0]);
        let boxes = tensor((0..16).map(|n| n as f32).collect(), [1, 16]);
        let found = with_outputs_in(&order, &boxes, Task::Detection);
        let expected = [0, 1, 2, 3, 12, 13, 14, 15, 4, 5, 6, 7, 8, 9, 10, 11];
        assert_eq!(numbers(&found), expected.map(|n| n as f32));
        let other = tensor(vec![0.0; 5], [1, 5]);
        assert_eq!(with_outputs_in(&order, &other, Task::Detection), other);
    }

    /// Keeps the notices.
    #[derive(Default)]
    struct Notices(Vec<String>);

    impl Observer for Notices {
        fn step(&mut self, _: &crate::train::progress::StepReport<'_>) {}
        fn evaluating(&mut self, _: usize) {}
        fn evaluated(&mut self, _: usize, _: &crate::train::progress::EpochEvaluation, _: bool) {}
        fn notice(&mut self, notice: &Notice) {
            self.0.push(notice.to_string());
        }
    }

    #[test]
    fn weights_with_the_classes_in_another_order_predict_the_same_names() {
        let device = Device::flex();
        let config = ClassifierConfig::new(network("resnet20").unwrap().backbone, 3);
        let spec = |names: [&str; 3]| {
            let preprocess = Preprocess::imagenet_eval();
            ModelSpec::classifier(config.clone(), preprocess, names.map(String::from))
        };
        let (given, wanted) = (spec(["cat", "dog", "cow"]), spec(["cow", "Cat", "dog"]));
        device.seed(4);
        let trained = config.init(&device);
        let loaded = LoadedWeights {
            spec: given.clone(),
            weights: named_tensors(&trained),
            report: None,
        };
        let from = InitialWeights {
            path: Path::new("a.safetensors"),
            strict: true,
            sizes: SizesOf {
                recipe: "small".into(),
                keeping: None,
            },
        };
        let mut notices = Notices::default();
        let fresh = config.init(&device);
        let model = initialize(fresh, loaded, &from, &wanted, &mut notices);
        let model = model.unwrap_or_else(|error| panic!("{error}"));
        let reordered = "weights: the checkpoint has the classes in another order: reordering the prediction \
                         layers by name";
        assert_eq!(notices.0.last().map(String::as_str), Some(reordered));
        let image = image::RgbImage::from_fn(32, 32, |x, y| image::Rgb([x as u8, y as u8, 9]));
        let logits = |network, spec: &ModelSpec| {
            let network = Network::Classifier(network);
            let model = Model::new(network, spec.clone(), Path::new("a"), &device);
            model
                .logits(std::slice::from_ref(&image))
                .unwrap()
                .remove(0)
        };
        let (before, after) = (logits(trained, &given), logits(model, &wanted));
        assert_eq!(after, [before[2], before[0], before[1]]);
    }
}
