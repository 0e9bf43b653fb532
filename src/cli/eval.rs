//! `sedet eval`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;

use super::hints::{usage, usage_with_hint};
use super::report::{report_skipped, with_bar};
use super::weights::ForeignArgs;
use super::{DeviceArgs, output_directory, print_out, problem, status, whole_number_within};
use sedet_core::model::{DatasetDetections, Model, Task, ground_truth, without_skipped};
use sedet_core::report::{Evaluation, write_text};
use sedet_data::annotations::layout::Split;
use sedet_data::datasets::registry::{AnyDatasetName, DatasetName, LabeledName};
use sedet_data::eval::confusion::{
    Confusion, DEFAULT_IOU, DEFAULT_SCORE, boxes_by_image, verdicts_csv,
};
use sedet_data::eval::{
    Bootstrap, BootstrapConfig, Cause, GroundTruth, ResultRow, diagnose, evaluate, read_results,
    write_results,
};
use sedet_data::loading::{LoaderOptions, OnBadImage, SkippedImage, Views};
use sedet_data::text::count;

/// Batch size of a classifier.
const BATCH: usize = 100;

const EXAMPLES: &str = "\
Examples:
  sedet eval --checkpoint best.safetensors --dataset photos/ --output results/
  sedet eval --results detections.json --annotations instances_val2017.json
  sedet eval --results b.json --against a.json --annotations val.json
  sedet eval --checkpoint seresnet50.pth --dataset imagenet --ten-crop";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct EvalArgs {
    /// Model to evaluate: a sedet checkpoint, a run, a file from torchvision, detectron2 or mmdetection,
    /// or the name of published weights (see `sedet weights list`)
    #[arg(
        long,
        visible_alias = "weights",
        value_name = "FILE",
        required_unless_present = "results"
    )]
    checkpoint: Option<PathBuf>,
    /// Detection: shapes, blood-cells, coco or a directory with annotations; classification: imagenet,
    /// places365, places365-challenge, cifar10, cifar100 or a directory of class directories
    #[arg(long, required_unless_present = "results")]
    dataset: Option<String>,
    /// Directory of the named datasets [default: $SEDET_DATA]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Split: val, train or, where it exists, test
    #[arg(long, default_value_t = Split::Val)]
    split: Split,
    /// COCO results file to evaluate instead of a checkpoint
    #[arg(long, value_name = "FILE", requires = "annotations", conflicts_with_all = ["checkpoint", "dataset", "split", "data_dir", "on_bad_image"])]
    results: Option<PathBuf>,
    /// Ground truth of --results
    #[arg(long, value_name = "FILE", requires = "results")]
    annotations: Option<PathBuf>,
    /// Add 95 % intervals from N bootstrap samples of the images [default: 1000 with --against]
    #[arg(long, value_name = "N", value_parser = whole_number_within(100..=100_000_usize))]
    bootstrap: Option<usize>,
    /// COCO results file of another detector on the same images: prints the differences and their intervals
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Directory for metrics.json and figures; for detectors also detections.json, confusion.csv and
    /// boxes.csv (every box with its match)
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Classifiers: average over ten crops per image (corners and center, each also flipped)
    #[arg(long, requires = "checkpoint")]
    ten_crop: bool,
    /// What to do with unreadable images: stop, or skip them
    #[arg(long, default_value = "error", value_parser = super::on_bad_image())]
    on_bad_image: OnBadImage,
    #[command(flatten)]
    foreign: ForeignArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

pub(super) fn run(args: EvalArgs) -> anyhow::Result<ExitCode> {
    args.foreign
        .need("--checkpoint", args.checkpoint.is_some())?;
    if let (Some(checkpoint), Some(dataset)) = (&args.checkpoint, &args.dataset)
        && let AnyDatasetName::Classification(dataset) = AnyDatasetName::parse(dataset)?
    {
        if args.against.is_some() {
            return Err(usage("--against compares detectors"));
        }
        return classify(&args, checkpoint, &dataset);
    }
    if args.ten_crop {
        return Err(usage_with_hint(
            "--ten-crop requires a classification dataset",
            "omit --ten-crop",
        ));
    }
    let (truth, rows) = match (&args.results, &args.annotations) {
        (Some(results), Some(annotations)) => {
            check_is_file("--results", results)?;
            check_is_file("--annotations", annotations)?;
            let truth = GroundTruth::from_file(annotations)?;
            let rows = read_results(results)?;
            note_images_without_rows(results, &truth, &rows);
            (truth, rows)
        }
        _ => detect(&args)?,
    };
    let evaluation = match evaluate(&truth, &rows) {
        Ok(evaluation) => evaluation,
        Err(error) => {
            explain(&truth, &rows, args.results.is_some());
            return Err(error.into());
        }
    };
    // They include those about the ground truth.
    for warning in &evaluation.warnings {
        problem!("warning: {warning}");
    }
    let is_near_zero = evaluation.is_near_zero();
    let bootstrap = bootstrap(&args, &truth, &rows)?;
    report(&args, &Evaluation::Detection(evaluation), bootstrap)?;
    if let Some(output) = &args.output {
        write_results(&output.join("detections.json"), &rows)?;
        write_matches(&truth, &rows, output)?;
    }
    if is_near_zero {
        explain(&truth, &rows, args.results.is_some());
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses a directory where a file is required.
fn check_is_file(option: &str, path: &Path) -> anyhow::Result<()> {
    if path.is_dir() {
        return Err(usage_with_hint(
            format!("{option} {}: a directory, not a file", path.display()),
            "name the JSON file; the dataset of a directory is evaluated with --checkpoint and --dataset",
        ));
    }
    Ok(())
}

impl EvalArgs {
    /// Returns the bootstrap that was asked for.
    fn bootstrap_config(&self) -> Option<BootstrapConfig> {
        let compared = self.against.as_ref().map(|_| BootstrapConfig::SAMPLES);
        let samples = self.bootstrap.or(compared)?;
        Some(BootstrapConfig { samples, seed: 0 })
    }
}

/// Computes the intervals of a detector's metrics, if they were asked for.
fn bootstrap(
    args: &EvalArgs,
    truth: &GroundTruth,
    rows: &[ResultRow],
) -> anyhow::Result<Option<Bootstrap>> {
    let Some(config) = args.bootstrap_config() else {
        return Ok(None);
    };
    let against = match &args.against {
        Some(path) => Some(comparable_results(path, truth)?),
        None => None,
    };
    let found = with_bar("bootstrap", |progress| {
        Bootstrap::of_detections(truth, rows, against.as_deref(), config, progress)
    })??;
    if found.is_none() {
        bail!("interrupted before all bootstrap samples were evaluated");
    }
    Ok(found)
}

/// Reads the results to compare with, with the warnings and explanations that they would get on their own.
fn comparable_results(path: &Path, truth: &GroundTruth) -> anyhow::Result<Vec<ResultRow>> {
    check_is_file("--against", path)?;
    let rows = read_results(path)?;
    note_images_without_rows(path, truth, &rows);
    let evaluation = match evaluate(truth, &rows) {
        Ok(evaluation) => evaluation,
        Err(error) => {
            explain(truth, &rows, true);
            return Err(anyhow::Error::from(error).context(path.display().to_string()));
        }
    };
    let own = evaluation.warnings.iter();
    for warning in own.filter(|warning| !truth.warnings().contains(warning)) {
        problem!("warning: {}: {warning}", path.display());
    }
    if evaluation.is_near_zero() {
        problem!("warning: {}: the AP is near zero", path.display());
        explain(truth, &rows, true);
    }
    Ok(rows)
}

/// Says how many images a results file has no detection in: it may be of another split, or incomplete.
fn note_images_without_rows(path: &Path, truth: &GroundTruth, rows: &[ResultRow]) {
    let with_rows: HashSet<u64> = rows.iter().map(|row| row.image_id).collect();
    let images = truth.images();
    let without = images.iter().filter(|image| !with_rows.contains(&image.id));
    match without.count() {
        0 => {}
        without => status!(
            "note: {}: no detection in {without} of {}",
            path.display(),
            count(images.len(), "image")
        ),
    }
}

/// Writes and prints the metrics and their intervals.
fn report(
    args: &EvalArgs,
    evaluation: &Evaluation,
    bootstrap: Option<Bootstrap>,
) -> anyhow::Result<()> {
    if let Some(output) = &args.output {
        output_directory(output)?;
        evaluation.write(output)?;
        if let Some(bootstrap) = &bootstrap {
            let text = serde_json::to_string_pretty(bootstrap)?;
            write_text(&output.join("bootstrap.json"), &text)?;
        }
    }
    let Some(bootstrap) = bootstrap else {
        return print_out(&if args.json {
            evaluation.to_json()
        } else {
            evaluation.to_text()
        });
    };
    if args.json {
        let mut json: serde_json::Value = serde_json::from_str(&evaluation.to_json())?;
        json["bootstrap"] = serde_json::to_value(bootstrap)?;
        return print_out(&serde_json::to_string_pretty(&json)?);
    }
    let digits = match evaluation {
        Evaluation::Detection(_) => 3,
        Evaluation::Classification(_) => 2,
    };
    print_out(&format!(
        "{}\n{}",
        evaluation.to_text().trim_end(),
        bootstrap.to_text(digits)
    ))
}

/// Prints the likely causes of an average precision near zero.
///
/// Ids and box formats can be wrong in a results file only. For detections of this process such an
/// explanation would be a coincidence: weak detectors score higher with some other meaning.
fn explain(truth: &GroundTruth, rows: &[ResultRow], is_results_file: bool) {
    for diagnostic in diagnose(truth, rows) {
        let is_about_a_file = matches!(
            diagnostic.cause,
            Cause::ImageIds
                | Cause::BoxFormat
                | Cause::Normalized
                | Cause::Resized
                | Cause::CategoryIds
        );
        if is_results_file || !is_about_a_file {
            problem!("why: {diagnostic}");
        }
    }
}

/// Writes the confusion matrix and every box with its match, at the default score and IoU.
fn write_matches(truth: &GroundTruth, rows: &[ResultRow], output: &Path) -> anyhow::Result<()> {
    let boxes = boxes_by_image(truth, rows, DEFAULT_SCORE);
    let confusion = Confusion::of(boxes.len(), DEFAULT_IOU, |at| Some(boxes[at].clone()));
    let names: Vec<String> = truth.categories().iter().map(|c| c.name.clone()).collect();
    write_text(&output.join("confusion.csv"), &confusion.to_csv(&names))?;
    let verdicts = verdicts_csv(truth, &boxes, DEFAULT_IOU);
    Ok(write_text(&output.join("boxes.csv"), &verdicts)?)
}

/// Runs a detector on a dataset.
fn detect(args: &EvalArgs) -> anyhow::Result<(GroundTruth, Vec<ResultRow>)> {
    let (Some(checkpoint), Some(dataset)) = (&args.checkpoint, &args.dataset) else {
        return Err(usage(
            "--checkpoint and --dataset, or --results and --annotations are required",
        ));
    };
    let device = args.device.resolve()?;
    let weights = args.foreign.load(checkpoint)?;
    let model = Model::from_weights(weights, checkpoint, &device.device)?;
    // Before the dataset is read or generated.
    model.check_task(Task::Detection)?;
    let dataset = DatasetName::parse(dataset)?;
    let split = dataset.open_split_with(args.split, args.data_dir.as_deref(), args.on_bad_image)?;
    let dataset = &split.dataset;
    for note in dataset.notes() {
        status!("note: {note}");
    }
    status!("{} on {}", count(dataset.len(), "image"), device.name);
    let found = with_bar("evaluating", |progress| {
        model.detect_dataset(dataset, args.on_bad_image, progress)
    })??;
    let Some(DatasetDetections { rows, skipped }) = found else {
        bail!("interrupted before all images were evaluated");
    };
    report_not_evaluated(&skipped);
    let truth = without_skipped(ground_truth(&split)?, &skipped, dataset.store())?;
    Ok((truth, rows))
}

/// Evaluates a classifier.
fn classify(args: &EvalArgs, checkpoint: &Path, dataset: &LabeledName) -> anyhow::Result<ExitCode> {
    let device = args.device.resolve()?;
    let weights = args.foreign.load(checkpoint)?;
    let model = Model::from_weights(weights, checkpoint, &device.device)?;
    model.check_task(Task::Classification)?;
    let images = Arc::new(dataset.open_split(args.split, args.data_dir.as_deref())?);
    for note in images.notes() {
        status!("note: {note}");
    }
    status!("{} on {}", count(images.len(), "image"), device.name);
    let threads = rayon::current_num_threads();
    let options = LoaderOptions {
        batch_size: BATCH,
        threads,
        prefetch: threads + 1,
        on_bad_image: args.on_bad_image,
        ..LoaderOptions::default()
    };
    let views = if args.ten_crop {
        Views::TenCrops
    } else {
        Views::One
    };
    let found = with_bar("evaluating", |progress| {
        model.classify_dataset(&images, views, &options, progress)
    })??;
    let Some((evaluation, skipped)) = found else {
        bail!("interrupted before all images were evaluated");
    };
    report_not_evaluated(&skipped);
    let bootstrap = args.bootstrap_config().map(|config| {
        let diagonal = evaluation.confusion.iter().enumerate();
        let right: u32 = diagonal.map(|(label, row)| row[label]).sum();
        Bootstrap::of_share("top1", right as usize, evaluation.images, config)
    });
    report(args, &Evaluation::Classification(evaluation), bootstrap)?;
    Ok(ExitCode::SUCCESS)
}

fn report_not_evaluated(skipped: &[SkippedImage]) {
    let reasons: Vec<String> = skipped.iter().map(|image| image.reason.clone()).collect();
    report_skipped("skipped in evaluation", &reasons, None);
}
