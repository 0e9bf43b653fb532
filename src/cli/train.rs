//! `sedet train`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::console::shows_status;
use super::hints::usage_with_hint;
use super::launch::DeviceList;
use super::progress::ConsoleProgress;
use super::ranks::ranks;
use super::report::metrics_text;
use super::weights::ThirdPartyArgs;
use super::{
    DeviceArgs, check_data_dir, number, print_out, problem, quoted, status, stop_on_ctrl_c,
    whole_number,
};
use sedet_core::report::Evaluation;
use sedet_core::train::engine::Outcome;
use sedet_core::train::run_dir::RunDir;
use sedet_core::train::{self, RecipeOptions, RunResult, Start, TrainReport, TrainRequest};
use sedet_data::datasets::registry::AnyDatasetName;
use sedet_data::images::OnBadImage;
use sedet_data::text::{count, duration, printable};

const EXAMPLES: &str = "\
Examples:
  sedet train --dataset shapes
  sedet train --dataset photos/
  sedet train --dataset photos/ --weights fasterrcnn-resnet50-fpn-coco
  sedet train --dataset coco --data-dir /data --backbone se-resnet50
  sedet train --resume runs/photos";

/// The usual help does not mention --resume, which `ablate` does not have.
const EPOCHS: &str = "Number of epochs; with --resume, the new total [default: the recipe's]";
const ON_BAD_IMAGE: &str = "What to do with unreadable images: stop, or skip them and list them at the end; also applies to \
                            --resume [default: the recipe's]";

#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = EXAMPLES,
    mut_arg("epochs", |epochs| epochs.help(EPOCHS)),
    mut_arg("on_bad_image", |policy| policy.help(ON_BAD_IMAGE))
)]
pub(super) struct TrainArgs {
    /// Detection: shapes, blood-cells, coco, a directory with annotations, an annotation file (COCO JSON,
    /// data.yaml, CSV), or several of these, separated by commas; classification: imagenet, places365,
    /// places365-challenge, cifar10, cifar100 or a directory of class directories
    #[arg(long, required_unless_present = "resume")]
    dataset: Option<String>,
    /// Random seed for initial weights, image order, augmentation and sampling [default: the recipe's]
    #[arg(long, value_parser = whole_number::<u64>, allow_negative_numbers = true)]
    seed: Option<u64>,
    /// Directory of the run [default: runs/DATASET]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Run to continue: its directory or its checkpoints/last.safetensors; if the dataset has moved, give its
    /// new location with --dataset or --data-dir
    #[arg(long, value_name = "RUN", conflicts_with_all = [
        "config", "set", "backbone", "weights", "lr", "batch_size", "seed", "output"
    ])]
    resume: Option<PathBuf>,
    /// Devices to train on together, such as cuda:0,1,2,3: mpirun starts a process for each. A step has as many times
    /// the batches
    #[arg(
        long,
        value_name = "LIST",
        help_heading = "Device",
        conflicts_with = "device"
    )]
    devices: Option<DeviceList>,
    #[command(flatten)]
    recipe: RecipeArgs,
}

/// The options of every subcommand that trains.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Recipe")]
pub(super) struct RecipeArgs {
    /// Directory of the named datasets [default: $SEDET_DATA]
    #[arg(long, value_name = "DIR", help_heading = None::<&str>)]
    pub(super) data_dir: Option<PathBuf>,
    /// Recipe name or TOML file [default: depends on the dataset]
    #[arg(long)]
    config: Option<String>,
    /// Override one value of the recipe, such as train.epochs=12; repeatable (see `sedet config list`)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Backbone, such as se-resnet50 (see `sedet models`) [default: the recipe's]
    #[arg(long)]
    backbone: Option<String>,
    /// Initial weights: a sedet checkpoint, a run, a file from torchvision, timm, detectron2, ..., or the name
    /// of published weights (see `sedet weights list`); layers after the backbone that do not fit are randomly
    /// initialized
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Learning rate, used as given (no batch-size scaling)
    #[arg(long, value_parser = number::<f64>, allow_negative_numbers = true)]
    lr: Option<f64>,
    /// Images per batch [default: the recipe's]
    #[arg(long, value_parser = whole_number::<usize>, allow_negative_numbers = true)]
    batch_size: Option<usize>,
    /// Number of epochs [default: the recipe's]
    #[arg(long, value_parser = whole_number::<usize>, allow_negative_numbers = true)]
    epochs: Option<usize>,
    /// What to do with unreadable images: stop, or skip them and list them at the end [default: the recipe's]
    #[arg(long, value_parser = super::on_bad_image())]
    on_bad_image: Option<OnBadImage>,
    #[command(flatten)]
    third_party: ThirdPartyArgs,
    #[command(flatten)]
    pub(super) device: DeviceArgs,
}

impl RecipeArgs {
    /// Returns the options for the library.
    pub(super) fn options(&self) -> anyhow::Result<RecipeOptions> {
        self.third_party.need("--weights", self.weights.is_some())?;
        Ok(RecipeOptions {
            data_dir: self.data_dir.clone(),
            recipe: self.config.clone(),
            settings: self.set.clone(),
            backbone: self.backbone.clone(),
            weights: self
                .weights
                .as_deref()
                .map(|path| self.third_party.file(path))
                .transpose()?,
            learning_rate: self.lr,
            batch_size: self.batch_size,
            epochs: self.epochs,
            on_bad_image: self.on_bad_image,
        })
    }
}

pub(super) fn run(args: TrainArgs) -> anyhow::Result<ExitCode> {
    if let (Some(run), Some(option)) = (&args.resume, args.recipe.third_party.given()) {
        return Err(usage_with_hint(
            format!(
                "{option} has no effect: {} continues from its own checkpoint",
                run.display()
            ),
            format!("omit {option}"),
        ));
    }
    let device = match &args.devices {
        Some(devices) => Some(devices.of_this_process()?),
        None => args.recipe.device.device,
    };
    let recipe = args.recipe.options()?;
    let data_dir = args.recipe.data_dir.as_deref();
    let start = match args.resume {
        Some(run) => {
            match &args.dataset {
                Some(dataset) => check_data_dir(dataset, data_dir)?,
                None => check_data_dir_of_run(
                    &run,
                    data_dir,
                    "if it has moved, give its new path: --dataset PATH",
                )?,
            }
            Start::Resume {
                run,
                dataset: args.dataset,
            }
        }
        None => {
            let dataset = args.dataset.unwrap_or_default();
            check_data_dir(&dataset, data_dir)?;
            let recognized = AnyDatasetName::parse(&dataset)?.recognize(data_dir)?;
            status!("{dataset}: {}", recognized.kind());
            let default = Path::new("runs").join(AnyDatasetName::short_name(&dataset));
            Start::New {
                output: args.output.unwrap_or(default),
                seed: args.seed,
                dataset,
            }
        }
    };
    let request = TrainRequest {
        start,
        recipe,
        device: DeviceArgs::open(device.unwrap_or_default())?,
        stop: stop_on_ctrl_c()?,
        ranks: ranks(),
    };
    let mut progress = ConsoleProgress::default();
    let report = train::run(&request, &mut progress);
    drop(progress);
    let report = report?;
    if !ranks().is_first() {
        let is_done = report.result.is_some();
        return Ok(if is_done {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    let resume = format!("sedet train --resume {}", quoted(report.run.path.display()));
    if report.outcome == Outcome::TimeUp {
        status!("resume with: {resume}");
    }
    match &report.result {
        Some(result) if !shows_status() => {
            print_out(&result_line(&report, result))?;
            Ok(ExitCode::SUCCESS)
        }
        Some(result) => {
            print_out(&metrics_text(&result.evaluation))?;
            status!("\n{}", next_steps(&report, result));
            Ok(ExitCode::SUCCESS)
        }
        None if report.outcome == Outcome::Interrupted => {
            problem!("interrupted; progress saved; resume with: {resume}");
            Ok(ExitCode::FAILURE)
        }
        None => {
            problem!("interrupted; training is complete and saved; evaluate it with: {resume}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Refuses a directory of named datasets for a run on a dataset that is not in it. `hint` is what to do about a
/// dataset that is at another path than at the beginning of the run.
pub(super) fn check_data_dir_of_run(
    run: &Path,
    data_dir: Option<&Path>,
    hint: &str,
) -> anyhow::Result<()> {
    // A directory without a run is reported where it is opened.
    let launch = RunDir::of_path(run).and_then(|path| RunDir::at(&path).launch());
    match launch {
        Ok(launch) if data_dir.is_some() && !AnyDatasetName::is_named(&launch.dataset) => {
            Err(usage_with_hint(
                format!(
                    "--data-dir has no effect: the dataset of this run is {}, not a named one",
                    printable(&launch.dataset)
                ),
                hint,
            ))
        }
        Ok(launch) => check_data_dir(&launch.dataset, data_dir),
        Err(_) => Ok(()),
    }
}

/// Formats the result as one line of JSON, for programs that read the output of `--quiet`.
fn result_line(report: &TrainReport, result: &RunResult) -> String {
    let metrics: serde_json::Map<String, serde_json::Value> = result
        .evaluation
        .metrics()
        .into_iter()
        .map(|(name, value)| (name.to_string(), json!(value)))
        .collect();
    json!({
        "run": report.run.path,
        "checkpoint": report.run.best_checkpoint(),
        "seconds": result.seconds,
        "metrics": metrics,
    })
    .to_string()
}

/// Formats where the results are and the commands that use them.
fn next_steps(report: &TrainReport, result: &RunResult) -> String {
    let best = report.run.best_checkpoint();
    let shown = best.display();
    let best = quoted(&shown);
    let mut text = format!(
        "best checkpoint (after {} of training): {shown}\n",
        duration(result.seconds)
    );
    if let Some(directory) = result.samples.first().and_then(|file| file.parent()) {
        let images = count(result.samples.len(), "validation image");
        text += &format!("{images} with detections: {}\n", directory.display());
    }
    let output = match result.evaluation {
        Evaluation::Detection(_) => " --output detections/",
        Evaluation::Classification(_) => "",
    };
    let data_dir = match &report.data_dir {
        Some(directory) => format!(" --data-dir {}", quoted(directory.display())),
        None => String::new(),
    };
    text + &format!(
        "\nnext:\n  sedet predict --checkpoint {best} IMAGE...{output}\n  \
         sedet eval --checkpoint {best} --dataset {}{data_dir}",
        quoted(&report.dataset)
    )
}
