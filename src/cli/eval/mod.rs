//! `sedet eval`.

mod classification;

pub(super) use classification::write_classification_report;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use indicatif::ProgressBar;

use super::train::report_unread;
use super::weights::ForeignArgs;
use super::{DeviceArgs, print_out};
use sedet_core::model::{DatasetDetections, Model, ground_truth, without_skipped};
use sedet_core::render::save_precision_recall;
use sedet_core::status;
use sedet_data::annotations::layout::Split;
use sedet_data::datasets::registry::{AnyDatasetName, DatasetName};
use sedet_data::eval::confusion::{
    Confusion, DEFAULT_IOU, DEFAULT_SCORE, boxes_by_image, verdicts_csv,
};
use sedet_data::eval::{
    CocoEvaluation, GroundTruth, ResultRow, diagnose, evaluate, read_results, write_results,
};
use sedet_data::loading::OnBadImage;

#[derive(Debug, clap::Args)]
pub(super) struct EvalArgs {
    /// What to measure: a sedet checkpoint, or a file from torchvision, detectron2 or mmdetection
    #[arg(
        long,
        visible_alias = "weights",
        value_name = "FILE",
        required_unless_present = "results"
    )]
    checkpoint: Option<PathBuf>,
    /// shapes, blood-cells, coco, or a directory with COCO-format annotations; for a classifier imagenet,
    /// places365, places365-challenge, cifar10, cifar100, or a directory with a directory for each class
    #[arg(long, required_unless_present = "results")]
    dataset: Option<String>,
    /// Directory that holds the named datasets [default: $SEDET_DATA]
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Which split: val, train, or test where there is one
    #[arg(long, default_value = "val", value_parser = parse_split)]
    split: Split,
    /// A COCO results file to measure instead of a checkpoint
    #[arg(long, value_name = "FILE", requires = "annotations", conflicts_with_all = ["checkpoint", "dataset"])]
    results: Option<PathBuf>,
    /// The ground truth of --results
    #[arg(long, value_name = "FILE", requires = "results")]
    annotations: Option<PathBuf>,
    /// Directory for metrics.json, and of a detector detections.json, precision-recall.png, confusion.csv
    /// and boxes.csv (every box with its verdict)
    #[arg(long)]
    output: Option<PathBuf>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Of a classifier: average over ten crops of each image (corners and center, and mirrored)
    #[arg(long, requires = "checkpoint")]
    ten_crop: bool,
    /// What to do with images that can't be read: stop, or measure on the others
    #[arg(long, default_value = "error", value_parser = super::on_bad_image())]
    on_bad_image: OnBadImage,
    #[command(flatten)]
    foreign: ForeignArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

pub(super) fn parse_split(text: &str) -> Result<Split, String> {
    [Split::Train, Split::Val, Split::Test]
        .into_iter()
        .find(|split| split.to_string() == text)
        .ok_or_else(|| "choose train, val or test".to_string())
}

pub(super) fn run(args: EvalArgs) -> anyhow::Result<ExitCode> {
    args.foreign
        .need("--checkpoint", args.checkpoint.is_some())?;
    if let (Some(checkpoint), Some(dataset)) = (&args.checkpoint, &args.dataset)
        && let AnyDatasetName::Classification(dataset) = AnyDatasetName::parse(dataset)?
    {
        return classification::run(&args, checkpoint, &dataset);
    }
    if args.ten_crop {
        bail!("--ten-crop is for classifiers; this dataset has boxes");
    }
    let (truth, rows) = match (&args.results, &args.annotations) {
        (Some(results), Some(annotations)) => {
            (GroundTruth::from_file(annotations)?, read_results(results)?)
        }
        _ => detect_all(&args)?,
    };
    let evaluated = evaluate(&truth, &rows);
    let evaluation = match evaluated {
        Ok(evaluation) => evaluation,
        Err(error) => {
            explain(&truth, &rows);
            return Err(error.into());
        }
    };
    for warning in truth.warnings().iter().chain(&evaluation.warnings) {
        status!("warning: {warning}");
    }
    if let Some(output) = &args.output {
        std::fs::create_dir_all(output).with_context(|| output.display().to_string())?;
        write_results(&output.join("detections.json"), &rows)?;
        write_report(&evaluation, output)?;
        write_verdicts(&truth, &rows, output)?;
    }
    if args.json {
        print_out(&evaluation.to_json())?;
    } else {
        print_out(&evaluation.summary_table())?;
        print_out(&evaluation.class_table())?;
    }
    if evaluation.is_near_zero() {
        explain(&truth, &rows);
    }
    Ok(ExitCode::SUCCESS)
}

fn explain(truth: &GroundTruth, rows: &[ResultRow]) {
    for diagnostic in diagnose(truth, rows) {
        status!("why: {diagnostic}");
    }
}

/// Metrics as JSON and the curves as an image.
pub(super) fn write_report(evaluation: &CocoEvaluation, output: &Path) -> anyhow::Result<()> {
    let path = output.join("metrics.json");
    sedet_data::atomic::write_atomically(&path, |out| {
        out.write_all(evaluation.to_json().as_bytes())
    })
    .with_context(|| path.display().to_string())?;
    if evaluation.curves.is_some() {
        save_precision_recall(evaluation, &output.join("precision-recall.png"))?;
    }
    Ok(())
}

/// What is confused with what, and every box with its verdict, at the usual score and overlap.
fn write_verdicts(truth: &GroundTruth, rows: &[ResultRow], output: &Path) -> anyhow::Result<()> {
    let boxes = boxes_by_image(truth, rows, DEFAULT_SCORE);
    let confusion = Confusion::of(boxes.len(), DEFAULT_IOU, |at| Some(boxes[at].clone()));
    let names: Vec<String> = truth.categories().iter().map(|c| c.name.clone()).collect();
    for (name, text) in [
        ("confusion.csv", confusion.to_csv(&names)),
        ("boxes.csv", verdicts_csv(truth, &boxes, DEFAULT_IOU)),
    ] {
        let path = output.join(name);
        sedet_data::atomic::write_atomically(&path, |out| out.write_all(text.as_bytes()))
            .with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn detect_all(args: &EvalArgs) -> anyhow::Result<(GroundTruth, Vec<ResultRow>)> {
    let (Some(checkpoint), Some(dataset)) = (&args.checkpoint, &args.dataset) else {
        bail!("give --checkpoint and --dataset, or --results and --annotations");
    };
    let device = args.device.resolve()?;
    let weights = args.foreign.load(checkpoint)?;
    let detector = Model::from_weights(weights, checkpoint, &device.device)?;
    let split = DatasetName::parse(dataset)?.open_split(args.split, args.data_dir.as_deref())?;
    let dataset = &split.dataset;
    status!("{} images on {}", dataset.len(), device.name);
    let bar = ProgressBar::new(dataset.len() as u64);
    let found = detector.detect_dataset(dataset, args.on_bad_image, &mut |done, _| {
        bar.set_position(done as u64);
        ControlFlow::Continue(())
    })?;
    bar.finish_and_clear();
    let Some(DatasetDetections { rows, skipped }) = found else {
        bail!("stopped before all was measured");
    };
    report_unread(&skipped);
    let truth = without_skipped(ground_truth(&split)?, &skipped, dataset.store())?;
    Ok((truth, rows))
}
