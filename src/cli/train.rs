//! `sedet train`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, bail};
use burn::module::Module as _;
use burn::tensor::Device;
use serde_json::json;

use super::DeviceArgs;
use super::weights::ForeignArgs;
use crate::backbones::BackboneConfig;
use crate::config::{RunConfig, recipe_for};
use crate::data::dataset::TargetFilter;
use crate::data::loader::{DetectionLoader, LoaderOptions};
use crate::data::registry::DatasetName;
use crate::data::transforms::Preprocess;
use crate::detection::faster_rcnn::FasterRcnn;
use crate::predict::{Detector, DetectorDescription};
use crate::train::detection::{DetectionTask, ground_truth};
use crate::train::engine::{Engine, Outcome};
use crate::train::progress::{ConsoleProgress, duration};
use crate::train::run_dir::{RunDir, environment};
use crate::train::schedule::scaled_learning_rate;
use crate::weights::any::AnyWeights;
use crate::weights::parameters::{NamedTensors, load_named_tensors, named_tensors};

#[derive(Debug, clap::Args)]
pub(super) struct TrainArgs {
    /// shapes, blood-cells, coco, or a folder with COCO-format annotations
    #[arg(long, required_unless_present = "resume")]
    dataset: Option<String>,
    /// Folder that holds the named data sets [default: $SEDET_DATA]
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Recipe name or TOML file [default: chosen by the data set]
    #[arg(long)]
    config: Option<String>,
    /// Change one value of the recipe, such as train.epochs=12; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Backbone, such as se-resnet50 or resnet18 [default: the recipe's]
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
    /// Seed of weights, order, augmentation and sampling [default: the recipe's]
    #[arg(long)]
    seed: Option<u64>,
    /// Folder of the run [default: runs/DATASET]
    #[arg(long)]
    output: Option<PathBuf>,
    /// Continue the run in this folder
    #[arg(long, value_name = "RUN", conflicts_with_all = [
        "dataset", "config", "set", "backbone", "weights", "lr", "batch_size", "seed", "output"
    ])]
    resume: Option<PathBuf>,
    #[command(flatten)]
    foreign: ForeignArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

/// What a run was started with, kept beside its configuration so that `--resume RUN` is enough.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Launch {
    dataset: String,
    data_dir: Option<PathBuf>,
    pretrained: bool,
}

pub(super) fn run(args: TrainArgs) -> anyhow::Result<ExitCode> {
    args.foreign.need("--weights", args.weights.is_some())?;
    let device = args.device.resolve()?;
    let Start {
        run,
        config,
        launch,
        weights,
    } = match &args.resume {
        Some(path) => reopen(path, args.epochs)?,
        None => start(&args)?,
    };
    let dataset = DatasetName::parse(&launch.dataset)?;
    let (train, val) = dataset.open(launch.data_dir.as_deref())?;
    let store = train.dataset.store().clone();
    let description = DetectorDescription {
        model: config.detector(store.class_count(), launch.pretrained)?,
        preprocess: config.preprocess(),
        categories: store.categories().to_vec(),
    };
    let loader = DetectionLoader::training(
        train.dataset.clone(),
        description.preprocess,
        config.augment.clone(),
        LoaderOptions {
            batch_size: config.loader.batch_size,
            threads: config.loader.threads,
            prefetch: 2 * config.loader.threads,
            seed: config.train.seed,
            on_bad_image: config.loader.on_bad_image,
            filter: TargetFilter {
                keep_empty: config.loader.keep_empty,
                ..TargetFilter::default()
            },
            ..LoaderOptions::default()
        },
    )?;
    eprintln!(
        "{}: {} images to train on ({} boxes), {} to evaluate on; {} classes: {}",
        launch.dataset,
        loader.images_per_epoch(),
        store.annotation_count(),
        val.dataset.len(),
        description.categories.len(),
        first_names(&description),
    );
    let left_out = loader.filtered();
    if left_out.crowd_boxes + left_out.degenerate_boxes > 0 {
        eprintln!(
            "not trained on: {} crowd regions, {} boxes under a pixel",
            left_out.crowd_boxes, left_out.degenerate_boxes
        );
    }
    let training_device = device.device.clone().autodiff();
    let model = fresh_model(&description, config.train.seed, &training_device);
    eprintln!(
        "{} with {:.1} M parameters on {}",
        match config.has_adopted_backbone() {
            true => "the backbone of the weights",
            false => &config.model.backbone,
        },
        model.num_params() as f64 / 1e6,
        device.name
    );
    let task = DetectionTask {
        train: loader,
        ground_truth: ground_truth(&val)?,
        val,
        description,
        dataset_name: launch.dataset.clone(),
        results: run.results(),
        device: device.device.clone(),
    };
    let stop = stop_on_ctrl_c()?;
    if args.resume.is_none() {
        let data = json!({
            "dataset": launch.dataset,
            "train_images": store.image_count(),
            "train_boxes": store.annotation_count(),
        });
        let environment = environment(&device.name, &data);
        run.write("environment.json", &format!("{environment:#}\n"))?;
    }
    let engine = Engine {
        task: &task,
        config: config.train.clone(),
        run: run.clone(),
        device: training_device,
        stop: &stop,
    };
    let mut progress = ConsoleProgress::default();
    let outcome = if args.resume.is_some() {
        engine.resume(model, &mut progress)
    } else {
        let model = match (weights, &args.weights) {
            (Some(weights), Some(path)) => with_weights(model, &task.description, weights)
                .with_context(|| path.display().to_string())?,
            _ => model,
        };
        engine.train(model, &mut progress)
    };
    progress.finish();
    match outcome? {
        Outcome::Interrupted => {
            eprintln!(
                "stopped; everything is saved. Continue with: sedet train --resume {}",
                run.path.display()
            );
            Ok(ExitCode::FAILURE)
        }
        ended => {
            let skipped = task.train.skipped();
            for image in &skipped {
                eprintln!("left out: {image:?}");
            }
            if ended == Outcome::TimeUp {
                eprintln!(
                    "the time is up; continue with: sedet train --resume {}",
                    run.path.display()
                );
            }
            if ended == Outcome::StoppedEarly {
                eprintln!("stopped early: no better AP for long enough");
            }
            conclude(&run, &task)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// What a run begins with.
struct Start {
    run: RunDir,
    config: RunConfig,
    launch: Launch,
    /// Those of `--weights`.
    weights: Option<AnyWeights>,
}

/// A new run.
fn start(args: &TrainArgs) -> anyhow::Result<Start> {
    let name = args.dataset.clone().unwrap_or_default();
    let dataset = DatasetName::parse(&name)?;
    let recipe = args.config.as_deref().unwrap_or(recipe_for(&dataset));
    let mut set = args.set.clone();
    if let Some(backbone) = &args.backbone {
        set.push(format!("model.backbone={backbone}"));
    }
    if let Some(batch_size) = args.batch_size {
        set.push(format!("loader.batch_size={batch_size}"));
    }
    if let Some(epochs) = args.epochs {
        set.push(format!("train.epochs={epochs}"));
    }
    if let Some(seed) = args.seed {
        set.push(format!("train.seed={seed}"));
    }
    let mut config = RunConfig::load(recipe, &set)?;
    let recipe_rate = config.train.learning_rate;
    let per_step = config.loader.batch_size * config.train.accumulate;
    config.train.learning_rate = args.lr.unwrap_or_else(|| {
        scaled_learning_rate(recipe_rate, config.loader.base_batch_size, per_step)
    });
    // The file of the run holds what is really used.
    config.loader.base_batch_size = per_step;
    // Everything that can be wrong is tried before the folder is made, so that a mistake leaves
    // nothing behind that would be in the way of the next try.
    let weights = match &args.weights {
        None => None,
        Some(path) => {
            let weights = args.foreign.load(path)?;
            adopt(&mut config, &weights, args.backbone.is_none())
                .with_context(|| path.display().to_string())?;
            Some(weights)
        }
    };
    config.detector(1, args.weights.is_some())?;
    dataset.open(args.data_dir.as_deref())?;
    let shown = Path::new(&name).file_name().unwrap_or("run".as_ref());
    let path = args
        .output
        .clone()
        .unwrap_or_else(|| Path::new("runs").join(shown));
    let run = RunDir::create(&path)?;
    let launch = Launch {
        dataset: match &dataset {
            DatasetName::Folder(folder) => absolute(folder)?.display().to_string(),
            _ => name,
        },
        data_dir: args.data_dir.as_deref().map(absolute).transpose()?,
        pretrained: args.weights.is_some(),
    };
    let text = toml::to_string(&config).context("the configuration cannot be written as TOML")?;
    run.write("launch.json", &format!("{:#}\n", json!(launch)))?;
    run.write("config.toml", &text)?;
    eprintln!(
        "recipe {recipe} -> {}; learning rate {:.4} ({recipe_rate} for {} images a step, {per_step} here)",
        path.display(),
        config.train.learning_rate,
        RunConfig::load(recipe, &set)?.loader.base_batch_size,
    );
    if !launch.pretrained {
        eprintln!("random weights: all layers are trained, with live batch norm");
    }
    Ok(Start {
        run,
        config,
        launch,
        weights,
    })
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| path.display().to_string())
}

/// An interrupted run.
fn reopen(path: &Path, epochs: Option<usize>) -> anyhow::Result<Start> {
    let run = RunDir::open(path)?;
    let config_path = run.config().display().to_string();
    let set: Vec<String> = epochs
        .map(|e| format!("train.epochs={e}"))
        .into_iter()
        .collect();
    let config = RunConfig::load(&config_path, &set)?;
    let launch_path = run.path.join("launch.json");
    let text =
        std::fs::read_to_string(&launch_path).with_context(|| launch_path.display().to_string())?;
    let launch = serde_json::from_str(&text).with_context(|| launch_path.display().to_string())?;
    eprintln!("resuming {}", path.display());
    Ok(Start {
        run,
        config,
        launch,
        weights: None,
    })
}

fn first_names(description: &DetectorDescription) -> String {
    let names: Vec<&str> = description
        .categories
        .iter()
        .map(|c| c.name.as_str())
        .collect();
    match names.len() {
        0..=10 => names.join(", "),
        _ => format!("{}, ...", names[..8].join(", ")),
    }
}

/// Random weights from a seed. Parameters are made when first touched, so all are touched here, in
/// the order of the structure.
fn fresh_model(description: &DetectorDescription, seed: u64, device: &Device) -> FasterRcnn {
    device.seed(seed);
    let model = description.model.init(device);
    drop(named_tensors(&model));
    model
}

/// Make the configuration fit given weights; see [`RunConfig::adopt`].
fn adopt(config: &mut RunConfig, weights: &AnyWeights, whole: bool) -> anyhow::Result<()> {
    let backbone: BackboneConfig =
        serde_json::from_value(weights.metadata["model"]["backbone"].clone())
            .context("its description of the backbone is not understood")?;
    let preprocess: Preprocess = serde_json::from_value(weights.metadata["preprocess"].clone())
        .context("its description of the input is not understood")?;
    let backbone = match backbone {
        BackboneConfig::Resnet(config) if !config.layers.contains(&0) => config,
        _ => bail!("its backbone has no four stages, which the pyramid of a detector is made of"),
    };
    config.adopt(&backbone, &preprocess, whole)?;
    Ok(())
}

/// The given weights wherever name and shape agree. What does not fit starts fresh, and is named.
fn with_weights(
    model: FasterRcnn,
    description: &DetectorDescription,
    mut given: AnyWeights,
) -> anyhow::Result<FasterRcnn> {
    let mut tensors: NamedTensors = named_tensors(&model);
    let (mut loaded, mut fresh) = (0, Vec::new());
    for (name, mine) in &mut tensors {
        match given.weights.remove(name) {
            Some(theirs) if theirs.shape() == mine.shape() => {
                *mine = theirs;
                loaded += 1;
            }
            _ => fresh.push(name.clone()),
        }
    }
    if loaded == 0 {
        bail!("none of its tensors fits this network");
    }
    eprintln!("weights: {loaded} tensors loaded");
    let theirs = given.metadata["model"]["num_classes"].as_u64();
    let ours = description.model.num_classes;
    if given.metadata["task"] == "classification" {
        eprintln!("weights: they are a classifier's; its last layer is dropped");
    } else if theirs != Some(ours as u64) {
        eprintln!(
            "weights: made for {} classes, here are {ours}: the layers that name classes start fresh",
            theirs.unwrap_or(0)
        );
    }
    if !fresh.is_empty() {
        eprintln!("weights: start fresh: {}", fresh.join(", "));
    }
    Ok(load_named_tensors(model, &tensors)?)
}

/// A flag that Ctrl-C sets; a second Ctrl-C ends at once.
fn stop_on_ctrl_c() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("stopping after this step; press Ctrl-C again to stop without saving");
    })
    .context("Ctrl-C cannot be caught")?;
    Ok(stop)
}

/// Pictures that are drawn at the end of a run.
const SAMPLE_PICTURES: usize = 12;

/// Measure the best checkpoint, draw samples, say what can be done next.
fn conclude(run: &RunDir, task: &DetectionTask) -> anyhow::Result<()> {
    let best = run.best_checkpoint();
    let detector = Detector::load(&best, &task.device)?;
    let evaluation = task.measure(&detector.model)?;
    super::eval::write_report(&evaluation, &run.results())?;
    let pictures = run.results().join("pictures");
    std::fs::create_dir_all(&pictures).with_context(|| pictures.display().to_string())?;
    let val = &task.val.dataset;
    let shown = SAMPLE_PICTURES.min(val.len());
    for index in 0..shown {
        let mut image = val.load_image(index)?;
        let found = detector.detect(&image);
        let name = Path::new(val.store().image(index).file_name).with_extension("jpg");
        super::predict::draw(&mut image, &found, &detector.description.categories);
        let name = name.file_name().unwrap_or("picture.jpg".as_ref());
        crate::render::save_picture(&image, &pictures.join(name))?;
    }
    super::print_out(&evaluation.summary_table())?;
    super::print_out(&evaluation.class_table())?;
    let seconds = detector.metadata["trained"]["seconds"]
        .as_f64()
        .unwrap_or(0.0);
    eprintln!(
        "\nbest checkpoint ({} of training): {}\n{shown} validation pictures: {}\n\nnext:\n  \
         sedet predict --checkpoint {} PICTURE... --output found/\n  \
         sedet eval --checkpoint {} --dataset {}",
        duration(seconds),
        best.display(),
        pictures.display(),
        best.display(),
        best.display(),
        task.dataset_name,
    );
    Ok(())
}
