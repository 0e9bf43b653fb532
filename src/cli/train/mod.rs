//! `sedet train`.

mod classification;
mod detection;

pub(super) use detection::loader as detection_loader;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use burn::module::Module;
use burn::tensor::Device;
use serde_json::{Value, json};

use super::weights::ForeignArgs;
use super::{DeviceArgs, print_out, stop_on_ctrl_c};
use sedet_core::config::Recipe;
use sedet_core::device::WorkingDevice;
use sedet_core::status;
use sedet_core::train::engine::{Engine, Outcome, TrainTask};
use sedet_core::train::progress::ConsoleProgress;
use sedet_core::train::run_dir::{RunDir, environment};
use sedet_core::train::schedule::scaled_learning_rate;
use sedet_core::weights::load::LoadedWeights;
use sedet_core::weights::parameters::{NamedTensors, fill_with_tensors, named_tensors};
use sedet_data::datasets::registry::AnyDatasetName;
use sedet_data::loading::{OnBadImage, SkippedImage};

#[derive(Debug, Clone, clap::Args)]
pub(super) struct TrainArgs {
    /// For a detector shapes, blood-cells, coco, or a directory with COCO-format annotations; for a
    /// classifier imagenet, places365, places365-challenge, cifar10, cifar100, or a directory with a directory
    /// for each class
    #[arg(long, required_unless_present = "resume")]
    pub(super) dataset: Option<String>,
    /// Seed of weights, order, augmentation and sampling [default: the recipe's]
    #[arg(long)]
    pub(super) seed: Option<u64>,
    /// Directory of the run [default: runs/DATASET]
    #[arg(long)]
    pub(super) output: Option<PathBuf>,
    /// Continue the run in this directory
    #[arg(long, value_name = "RUN", conflicts_with_all = [
        "dataset", "config", "set", "backbone", "weights", "lr", "batch_size", "seed", "output"
    ])]
    pub(super) resume: Option<PathBuf>,
    #[command(flatten)]
    pub(super) recipe: RecipeArgs,
}

/// The options that say how to train, for every subcommand that does.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct RecipeArgs {
    /// Directory that holds the named datasets [default: $SEDET_DATA]
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Recipe name or TOML file [default: chosen by the dataset]
    #[arg(long)]
    config: Option<String>,
    /// Change one value of the recipe, such as train.epochs=12; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
    /// Network, such as se-resnet50; `sedet models` lists them [default: the recipe's]
    #[arg(long)]
    backbone: Option<String>,
    /// Start from these weights: a sedet checkpoint or a file from torchvision, timm, detectron2, ...;
    /// layers that do not fit start fresh
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Learning rate as it is, without scaling by the batch size
    #[arg(long)]
    lr: Option<f64>,
    /// Images per batch [default: the recipe's]
    #[arg(long)]
    batch_size: Option<usize>,
    /// Passes over the data [default: the recipe's]
    #[arg(long)]
    epochs: Option<usize>,
    /// What to do with images that can't be read: stop, or leave them out and list them at the end;
    /// also for a run that is continued [default: the recipe's]
    #[arg(long, value_parser = super::on_bad_image())]
    on_bad_image: Option<OnBadImage>,
    #[command(flatten)]
    foreign: ForeignArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

impl RecipeArgs {
    /// What decides the result of a run, to compare two calls. Not what happens to bad images: whoever
    /// stumbles over one may say so and go on.
    pub(super) fn identity(&self) -> Value {
        json!({
            "config": self.config,
            "set": self.set,
            "backbone": self.backbone,
            "weights": self.weights,
            "lr": self.lr,
            "batch_size": self.batch_size,
            "epochs": self.epochs,
        })
    }
}

/// What a run was started with, kept beside its configuration so that `--resume RUN` is enough.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Launch {
    dataset: String,
    data_dir: Option<PathBuf>,
    pretrained: bool,
    /// Of the annotations or labels; runs of earlier versions lack it.
    #[serde(default)]
    fingerprint: Option<String>,
}

impl Launch {
    /// A resumed run equals one that was never interrupted only if it goes on with the same data.
    fn check_data(&self, fingerprint: &str, run: &RunDir) -> anyhow::Result<()> {
        match &self.fingerprint {
            Some(begun_with) if begun_with != fingerprint => bail!(
                "{}: its images or annotations are not those that this run began with; put them back, or begin a \
                 new run from what was learnt: sedet train --dataset {} --weights {} --output NEW",
                self.dataset,
                self.dataset,
                run.last_checkpoint().display()
            ),
            _ => Ok(()),
        }
    }
}

/// What a finished run has to say.
pub(super) struct Report {
    /// For stdout: the measured numbers.
    numbers: String,
    /// For stderr: where the results are and what can be done with them.
    next: String,
}

pub(super) fn run(args: TrainArgs) -> anyhow::Result<ExitCode> {
    match execute(&args)? {
        Some(report) => {
            print_out(&report.numbers)?;
            status!("\n{}", report.next);
            Ok(ExitCode::SUCCESS)
        }
        None => Ok(ExitCode::FAILURE),
    }
}

/// Train, and measure the best checkpoint; nothing when the run was interrupted.
pub(super) fn execute(args: &TrainArgs) -> anyhow::Result<Option<Report>> {
    args.recipe
        .foreign
        .need("--weights", args.recipe.weights.is_some())?;
    let launch = match &args.resume {
        Some(path) => read_launch(path)?,
        None => launch(args)?,
    };
    match AnyDatasetName::parse(&launch.dataset)? {
        AnyDatasetName::Classification(dataset) => classification::run(args, &dataset, launch),
        AnyDatasetName::Detection(dataset) => detection::run(args, &dataset, launch),
    }
}

fn launch(args: &TrainArgs) -> anyhow::Result<Launch> {
    let name = args.dataset.clone().unwrap_or_default();
    // A name that is none is an error with the words of the person.
    AnyDatasetName::parse(&name)?;
    Ok(Launch {
        dataset: match AnyDatasetName::is_named(&name) {
            true => name,
            // The run may be resumed from another directory.
            false => absolute(Path::new(&name))?.display().to_string(),
        },
        data_dir: args.recipe.data_dir.as_deref().map(absolute).transpose()?,
        pretrained: args.recipe.weights.is_some(),
        fingerprint: None,
    })
}

fn read_launch(run: &Path) -> anyhow::Result<Launch> {
    RunDir::open(run)?;
    let path = run.join("launch.json");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| path.display().to_string())
}

/// What a run begins with.
struct Start<C> {
    run: RunDir,
    config: C,
    /// Those of `--weights`.
    weights: Option<LoadedWeights>,
}

/// What of a start depends on what is trained.
trait StartTask<C> {
    /// The recipe unless `--config` names one.
    fn recipe(&self) -> &'static str;
    /// Make the configuration fit given weights; all of their network with `whole`.
    fn adopt(&self, config: &mut C, weights: &LoadedWeights, whole: bool) -> anyhow::Result<()>;
    /// Try everything that can be wrong with the configuration or the data; the data's fingerprint.
    fn check(&self, config: &C) -> anyhow::Result<String>;
}

/// The run that the arguments ask for: a new one, or one that was interrupted.
fn open<C: Recipe>(
    args: &TrainArgs,
    launch: &Launch,
    task: &impl StartTask<C>,
) -> anyhow::Result<Start<C>> {
    match &args.resume {
        Some(path) => reopen(path, &args.recipe),
        None => start(args, launch, task),
    }
}

/// A new run.
fn start<C: Recipe>(
    args: &TrainArgs,
    launch: &Launch,
    task: &impl StartTask<C>,
) -> anyhow::Result<Start<C>> {
    let recipe = args.recipe.config.as_deref().unwrap_or(task.recipe());
    let mut config = C::load(recipe, &settings(args))?;
    let recipe_rate = config.training().learning_rate;
    let (batch_size, base_batch_size) = config.batch_sizes();
    let per_step = batch_size * config.training().accumulate;
    config.training_mut().learning_rate = args
        .recipe
        .lr
        .unwrap_or_else(|| scaled_learning_rate(recipe_rate, base_batch_size, per_step));
    // The file of the run holds what is really used.
    config.set_base_batch_size(per_step);
    // Everything that can be wrong is tried before the directory is made, so that a mistake leaves
    // nothing behind that would be in the way of the next try.
    let weights = match &args.recipe.weights {
        None => None,
        Some(path) => {
            let weights = args.recipe.foreign.load(path)?;
            task.adopt(&mut config, &weights, args.recipe.backbone.is_none())
                .with_context(|| path.display().to_string())?;
            Some(weights)
        }
    };
    let launch = Launch {
        fingerprint: Some(task.check(&config)?),
        ..launch.clone()
    };
    let name = args.dataset.as_deref().unwrap_or("run");
    let shown = Path::new(name).file_name().unwrap_or("run".as_ref());
    let path = args
        .output
        .clone()
        .unwrap_or_else(|| Path::new("runs").join(shown));
    let run = RunDir::create(&path)?;
    run.write("launch.json", &format!("{:#}\n", json!(launch)))?;
    run.write("config.toml", &config.to_toml()?)?;
    status!(
        "recipe {recipe} -> {}; learning rate {:.4} ({recipe_rate} for {base_batch_size} images a step, {per_step} here)",
        path.display(),
        config.training().learning_rate,
    );
    Ok(Start {
        run,
        config,
        weights,
    })
}

/// The options that stand for a value of the recipe.
fn settings(args: &TrainArgs) -> Vec<String> {
    let mut set = args.recipe.set.clone();
    if let Some(backbone) = &args.recipe.backbone {
        set.push(format!("model.backbone={backbone}"));
    }
    for (key, value) in [
        (
            "loader.batch_size",
            args.recipe.batch_size.map(|n| n.to_string()),
        ),
        ("train.seed", args.seed.map(|n| n.to_string())),
    ] {
        set.extend(value.map(|value| format!("{key}={value}")));
    }
    set.extend(later_settings(&args.recipe));
    set
}

/// Those of them that may also be given when a run is continued.
fn later_settings(args: &RecipeArgs) -> impl Iterator<Item = String> {
    let epochs = args.epochs.map(|n| format!("train.epochs={n}"));
    let policy = args.on_bad_image.map(|policy| match policy {
        OnBadImage::Error => "loader.on_bad_image=error".to_string(),
        OnBadImage::Skip => "loader.on_bad_image=skip".to_string(),
    });
    epochs.into_iter().chain(policy)
}

/// An interrupted run.
fn reopen<C: Recipe>(path: &Path, args: &RecipeArgs) -> anyhow::Result<Start<C>> {
    let run = RunDir::reopen(path)?;
    let config_path = run.config().display().to_string();
    let config = C::load(&config_path, &later_settings(args).collect::<Vec<_>>())?;
    status!("resuming {}", path.display());
    Ok(Start {
        run,
        config,
        weights: None,
    })
}

/// Random weights from a seed. Parameters are made when first touched, so all are touched here, in
/// the order of the structure.
fn fresh<M: Module>(init: impl FnOnce(&Device) -> M, seed: u64, device: &Device) -> M {
    device.seed(seed);
    let model = init(device);
    drop(named_tensors(&model));
    model
}

/// Train or go on training. Says how it ended, and whether there is a result to look at.
fn train<T: TrainTask, C: Recipe>(
    args: &TrainArgs,
    task: &T,
    start: Start<C>,
    model: T::Model,
    device: &WorkingDevice,
    data: &Value,
    fill: impl FnOnce(T::Model, LoadedWeights) -> anyhow::Result<T::Model>,
) -> anyhow::Result<Outcome> {
    let Start {
        run,
        config,
        weights,
    } = start;
    if args.resume.is_none() {
        let environment = environment(&device.name, data);
        run.write("environment.json", &format!("{environment:#}\n"))?;
    }
    let stop = stop_on_ctrl_c()?;
    let engine = Engine {
        task,
        config: config.training().clone(),
        run: run.clone(),
        device: device.device.clone().autodiff(),
        stop: &stop,
    };
    let mut progress = ConsoleProgress::default();
    let outcome = if args.resume.is_some() {
        engine.resume(model, &mut progress)
    } else {
        let model = match (weights, &args.recipe.weights) {
            (Some(weights), Some(path)) => {
                fill(model, weights).with_context(|| path.display().to_string())?
            }
            _ => model,
        };
        engine.train(model, &mut progress)
    };
    progress.finish();
    report_left_out(&run, &task.skipped())?;
    let resume = format!("sedet train --resume {}", run.path.display());
    let outcome = match outcome {
        Err(error) if error.can_be_resumed() => {
            let skip = match error.is_about_one_image::<T>() {
                true => " (with --on-bad-image skip to leave such images out)",
                false => "",
            };
            bail!("{error}; what was learnt is saved, continue with: {resume}{skip}")
        }
        outcome => outcome?,
    };
    match outcome {
        Outcome::Interrupted => {
            status!("stopped; everything is saved. Continue with: {resume}");
        }
        Outcome::TimeUp => status!("the time is up; continue with: {resume}"),
        Outcome::StoppedEarly => status!("stopped early: no better score for long enough"),
        Outcome::Finished => {}
    }
    Ok(outcome)
}

/// Name the images that were left out; a file of the run has them all, of earlier sessions too.
fn report_left_out(run: &RunDir, skipped: &[SkippedImage]) -> anyhow::Result<()> {
    if skipped.is_empty() {
        return Ok(());
    }
    const NAME: &str = "left-out.txt";
    let path = run.path.join(NAME);
    let earlier = std::fs::read_to_string(&path).unwrap_or_default();
    let now = skipped.iter().map(|image| image.reason.as_str());
    let all: BTreeSet<&str> = earlier.lines().chain(now).collect();
    let all: Vec<&str> = all.into_iter().collect();
    run.write(NAME, &(all.join("\n") + "\n"))?;
    super::say_left_out("left out of training", &all, Some(&path));
    Ok(())
}

/// Name the images that the best checkpoint was not measured on.
pub(super) fn report_unread(unread: &[SkippedImage]) {
    let reasons: Vec<&str> = unread.iter().map(|image| image.reason.as_str()).collect();
    super::say_left_out("not measured", &reasons, None);
}

/// What is left to do for a run that was stopped while its best checkpoint was measured.
fn say_unmeasured(run: &RunDir) {
    status!(
        "stopped; all is trained and saved. Measure it with: sedet train --resume {}",
        run.path.display()
    );
}

/// Our tensors, those of given weights wherever name and shape agree; how many do, and the names of
/// the others.
fn fitting(model: &impl Module, given: &mut NamedTensors) -> (NamedTensors, usize, Vec<String>) {
    let mut tensors = named_tensors(model);
    let (mut loaded, mut fresh) = (0, Vec::new());
    for (name, mine) in &mut tensors {
        match given.remove(name) {
            Some(theirs) if theirs.shape() == mine.shape() => {
                *mine = theirs;
                loaded += 1;
            }
            _ => fresh.push(name.clone()),
        }
    }
    (tensors, loaded, fresh)
}

/// The given weights in a model wherever name and shape agree. What does not fit starts fresh, and
/// is named.
fn filled<M: Module>(
    model: M,
    given: &mut LoadedWeights,
    say_more: impl FnOnce(),
) -> anyhow::Result<M> {
    let (tensors, loaded, fresh) = fitting(&model, &mut given.weights);
    if loaded == 0 {
        bail!("none of its tensors fits this network");
    }
    status!("weights: {loaded} tensors loaded");
    say_more();
    if !fresh.is_empty() {
        status!("weights: start fresh: {}", fresh.join(", "));
    }
    Ok(fill_with_tensors(model, tensors)?)
}

/// The first names of a list of classes.
fn first_names<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len() > 10;
    let shown: Vec<&str> = names.take(if more { 8 } else { 10 }).collect();
    match more {
        true => format!("{}, ...", shown.join(", ")),
        false => shown.join(", "),
    }
}
