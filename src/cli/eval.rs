//! `sedet eval`.

use std::collections::HashSet;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::hints::{cause_hint, hint_for, usage_with_hint};
use super::model::ModelArgs;
use super::progress::{Unit, with_bar, with_bar_of};
use super::ranks::{self, ranks};
use super::report::{metrics_text, report_skipped};
use super::{check_data_dir, output_directory, print_out, problem, status, whole_number_within};
use sedet_core::model::{
    ClassifiedDataset, DatasetDetections, Task, ground_truth, without_skipped,
};
use sedet_core::report::{Evaluation, write_text};
use sedet_data::annotations::layout::Split;
use sedet_data::datasets::registry::{AnyDatasetName, DatasetName, LabeledName};
use sedet_data::eval::classification::{PredictedImage, predictions_csv};
use sedet_data::eval::confusion::{
    Confusion, DEFAULT_IOU, DEFAULT_SCORE, boxes_by_image, verdicts_csv,
};
use sedet_data::eval::{
    Bootstrap, BootstrapConfig, Cause, CocoEvaluation, GroundTruth, ResultRow, crossed_sizes,
    diagnose, evaluate, read_results, repeated_rows, write_results,
};
use sedet_data::images::OnBadImage;
use sedet_data::loading::{LoaderOptions, SkippedImage, Views};
use sedet_data::text::count;

const EXAMPLES: &str = "\
Examples:
  sedet eval --checkpoint best.safetensors --dataset photos/ --output results/
  sedet eval --results detections.json --annotations instances_val2017.json
  sedet eval --results b.json --against a.json --annotations val.json
  sedet eval --checkpoint seresnet50.pth --dataset imagenet --ten-crop";

/// The usual line would join both forms.
const USAGE: &str = "sedet eval [OPTIONS] --checkpoint <FILE> --dataset <DATASET>
       sedet eval [OPTIONS] --results <FILE> --annotations <FILE>";

#[derive(Debug, clap::Args)]
#[command(
    after_help = EXAMPLES,
    override_usage = USAGE,
    mut_arg("json", |json| json.help("Print JSON instead of tables"))
)]
pub(super) struct EvalArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Dataset of --checkpoint. Detection: shapes, blood-cells, coco or a directory with annotations;
    /// classification: imagenet, places365, places365-challenge, cifar10, cifar100 or a directory of
    /// class directories
    #[arg(long)]
    dataset: Option<String>,
    /// Directory of the named datasets [default: $SEDET_DATA]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Split of --dataset: val, train or, if it exists, test [default: val]
    #[arg(long)]
    split: Option<Split>,
    /// COCO results file to evaluate instead of a checkpoint
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// Ground truth for --results (COCO JSON)
    #[arg(long, value_name = "FILE")]
    annotations: Option<PathBuf>,
    /// Add 95 % confidence intervals from N bootstrap samples of the images [default: 1000 with --against]
    #[arg(long, value_name = "N", value_parser = whole_number_within(100..=100_000_usize))]
    bootstrap: Option<usize>,
    /// COCO results file of another detector on the same images; prints the differences with their intervals
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Directory for metrics.json, confusion.csv and figures; for detectors also detections.json and boxes.csv
    /// (every box with its match), for classifiers predictions.csv (every image with its classes)
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Classifiers: images per batch [default: depends on the input size]
    #[arg(long, value_name = "N", value_parser = whole_number_within(1..=4096_u16))]
    batch_size: Option<u16>,
    /// Classifiers: average over ten crops per image (corners and center, each also flipped)
    #[arg(long)]
    ten_crop: bool,
    /// What to do with unreadable images: stop (error), or skip them [default: error]
    #[arg(long, value_parser = super::on_bad_image())]
    on_bad_image: Option<OnBadImage>,
}

/// The subject of an evaluation.
enum Subject<'a> {
    /// A model on a dataset.
    Model {
        checkpoint: &'a Path,
        dataset: &'a str,
    },
    /// Detections of any program.
    Results {
        results: &'a Path,
        annotations: &'a Path,
    },
}

pub(super) fn run(args: EvalArgs) -> anyhow::Result<ExitCode> {
    let subject = args.subject()?;
    if let Subject::Model {
        checkpoint,
        dataset,
    } = subject
    {
        check_data_dir(dataset, args.data_dir.as_deref())?;
        if let AnyDatasetName::Classification(dataset) = AnyDatasetName::parse(dataset)? {
            if args.against.is_some() {
                return Err(usage_with_hint(
                    "--against compares detectors, but this is a classification dataset",
                    "omit --against",
                ));
            }
            return classify(&args, checkpoint, &dataset);
        }
    }
    if args.ten_crop {
        return Err(usage_with_hint(
            "--ten-crop requires a classification dataset",
            "omit --ten-crop",
        ));
    }
    if args.batch_size.is_some() {
        return Err(usage_with_hint(
            "--batch-size requires a classification dataset: detectors compute one image at a time",
            "omit --batch-size",
        ));
    }
    let is_results_file = matches!(subject, Subject::Results { .. });
    let (truth, rows) = match subject {
        Subject::Results {
            results,
            annotations,
        } => {
            ranks::need_one()?;
            check_is_file("--results", results)?;
            check_is_file("--annotations", annotations)?;
            let truth = GroundTruth::from_file(annotations)?;
            let rows = read_rows(results, &truth)?;
            (truth, rows)
        }
        Subject::Model {
            checkpoint,
            dataset,
        } => detect(&args, checkpoint, dataset)?,
    };
    if !ranks().is_first() {
        return Ok(ExitCode::SUCCESS);
    }
    let evaluation = evaluate_or_explain(&truth, &rows, is_results_file)?;
    // They include those about the ground truth.
    for warning in &evaluation.warnings {
        problem!("warning: {warning}");
    }
    let is_suspicious = evaluation.is_near_zero() || is_results_file && evaluation.is_low();
    let (ap, warnings) = (evaluation.metrics.ap, evaluation.warnings.clone());
    let bootstrap = bootstrap(&args, &truth, &rows)?;
    report(&args, &Evaluation::Detection(evaluation), bootstrap)?;
    if let Some(output) = &args.output {
        write_results(&output.join("detections.json"), &rows)?;
        write_matches(&truth, &rows, output)?;
    }
    if is_suspicious {
        let why = Explained {
            is_results_file,
            ap,
            said: &warnings,
        };
        explain(&truth, &rows, why);
    } else if is_results_file && let Some(found) = crossed_sizes(&truth, &rows) {
        problem!("warning: {found}");
        if let Some(hint) = cause_hint(Cause::BoxFormat) {
            problem!("hint: {hint}");
        }
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
    /// Returns what is evaluated. Options that do not fit together, or that would have no effect, are refused.
    fn subject(&self) -> anyhow::Result<Subject<'_>> {
        let model = (&self.model.checkpoint, &self.dataset);
        let results = (&self.results, &self.annotations);
        match (model, results) {
            ((Some(checkpoint), Some(dataset)), (None, None)) => Ok(Subject::Model {
                checkpoint,
                dataset,
            }),
            ((None, None), (Some(results), Some(annotations))) => {
                self.check_results_only()?;
                Ok(Subject::Results {
                    results,
                    annotations,
                })
            }
            ((None, None), (None, None)) => Err(usage_with_hint(
                "nothing to evaluate is given",
                format!("{MODEL_FORM}, or {RESULTS_FORM}"),
            )),
            ((None, None), (Some(_), None)) => {
                Err(missing("--results", "--annotations", RESULTS_FORM))
            }
            ((None, None), (None, Some(_))) => {
                Err(missing("--annotations", "--results", RESULTS_FORM))
            }
            ((Some(_), None), (None, None)) => {
                Err(missing("--checkpoint", "--dataset", MODEL_FORM))
            }
            ((None, Some(_)), (None, None)) => {
                Err(missing("--dataset", "--checkpoint", MODEL_FORM))
            }
            ((checkpoint, _), (results, _)) => {
                let own = if checkpoint.is_some() {
                    "--checkpoint"
                } else {
                    "--dataset"
                };
                let other = if results.is_some() {
                    "--results"
                } else {
                    "--annotations"
                };
                Err(usage_with_hint(
                    format!(
                        "{own} and {other} cannot be used together: either a model or a results file is evaluated"
                    ),
                    format!("{MODEL_FORM}, or {RESULTS_FORM}"),
                ))
            }
        }
    }

    /// Refuses the options of a model where a results file is evaluated.
    fn check_results_only(&self) -> anyhow::Result<()> {
        self.model.third_party.need("--checkpoint", false)?;
        let given = [
            ("--data-dir", self.data_dir.is_some()),
            ("--split", self.split.is_some()),
            ("--on-bad-image", self.on_bad_image.is_some()),
            ("--batch-size", self.batch_size.is_some()),
            ("--ten-crop", self.ten_crop),
            ("--device", self.model.device.device.is_some()),
            ("--precision", self.model.precision.is_given()),
        ];
        match given.into_iter().find(|(_, is_given)| *is_given) {
            Some((option, _)) => Err(usage_with_hint(
                format!("{option} has no effect on --results: no model is run"),
                format!("omit {option}"),
            )),
            None => Ok(()),
        }
    }

    fn split(&self) -> Split {
        self.split.unwrap_or(Split::Val)
    }

    fn on_bad_image(&self) -> OnBadImage {
        self.on_bad_image.unwrap_or(OnBadImage::Error)
    }

    /// Returns the bootstrap that was asked for.
    fn bootstrap_config(&self) -> Option<BootstrapConfig> {
        let compared = self.against.as_ref().map(|_| BootstrapConfig::SAMPLES);
        let samples = self.bootstrap.or(compared)?;
        Some(BootstrapConfig { samples, seed: 0 })
    }
}

/// The options that evaluate a model.
const MODEL_FORM: &str = "for a model: --checkpoint FILE --dataset DATASET";
/// The options that evaluate the detections of any program.
const RESULTS_FORM: &str = "for a results file: --results FILE --annotations FILE";

/// Returns the error about an option that lacks another.
fn missing(given: &str, missing: &str, form: &str) -> anyhow::Error {
    usage_with_hint(format!("{given} requires {missing}"), form)
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
    let found = with_bar_of(Unit::Samples, "bootstrap", |progress| {
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
    let rows = read_rows(path, truth)?;
    let evaluation =
        evaluate_or_explain(truth, &rows, true).with_context(|| path.display().to_string())?;
    let own = evaluation.warnings.iter();
    for warning in own.filter(|warning| !truth.warnings().contains(warning)) {
        problem!("warning: {}: {warning}", path.display());
    }
    let ap = evaluation.metrics.ap;
    if evaluation.is_near_zero() {
        problem!("warning: {}: the AP is near zero", path.display());
    }
    if evaluation.is_low() {
        let why = Explained {
            is_results_file: true,
            ap,
            said: &evaluation.warnings,
        };
        explain(truth, &rows, why);
    }
    Ok(rows)
}

/// Reads a results file, and prints how many images it has no detection in: it may be of another split, or incomplete.
fn read_rows(path: &Path, truth: &GroundTruth) -> anyhow::Result<Vec<ResultRow>> {
    let rows = read_results(path)?;
    if rows.is_empty() {
        problem!("warning: {}: an empty list: no detections", path.display());
        return Ok(rows);
    }
    let repeated = repeated_rows(&rows);
    if repeated > 0 {
        let verb = if repeated == 1 { "repeats" } else { "repeat" };
        problem!(
            "warning: {}: {repeated} of {} {verb} another row, and such detections count as false",
            path.display(),
            count(rows.len(), "row")
        );
    }
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
    Ok(rows)
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
        return print_out(&if args.model.json {
            evaluation.to_json()
        } else {
            metrics_text(evaluation)
        });
    };
    if args.model.json {
        let report = WithIntervals {
            evaluation,
            bootstrap,
        };
        return print_out(&serde_json::to_string_pretty(&report)?);
    }
    let digits = match evaluation {
        Evaluation::Detection(_) => 3,
        Evaluation::Classification(_) => 2,
    };
    print_out(&format!(
        "{}\n{}",
        metrics_text(evaluation).trim_end(),
        bootstrap.to_text(digits)
    ))
}

/// The metrics with their intervals, as one JSON object.
#[derive(Serialize)]
struct WithIntervals<'a> {
    #[serde(flatten)]
    evaluation: &'a Evaluation,
    bootstrap: Bootstrap,
}

/// Evaluates result rows; where they cannot be evaluated, prints the likely causes before the error.
fn evaluate_or_explain(
    truth: &GroundTruth,
    rows: &[ResultRow],
    is_results_file: bool,
) -> anyhow::Result<CocoEvaluation> {
    evaluate(truth, rows).map_err(|error| {
        let message = error.to_string();
        let error = anyhow::Error::from(error);
        let said: Vec<String> = iter::once(message).chain(hint_for(&error)).collect();
        let why = Explained {
            is_results_file,
            ap: 0.0,
            said: &said,
        };
        explain(truth, rows, why);
        error
    })
}

/// An evaluation to explain.
struct Explained<'a> {
    /// Whether the rows were read from a file: ids and box formats can be wrong there only. For detections of this
    /// process such an explanation would be a coincidence: weak detectors score higher with some other meaning.
    is_results_file: bool,
    /// The average precision; 0 if there is none.
    ap: f64,
    /// Lines that are printed elsewhere.
    said: &'a [String],
}

/// AP of a results file below which the detector itself is named as the cause if there is no other.
const WEAK_AP: f64 = 0.1;

/// Prints the likely causes of a low average precision, and what to do about those in a results file.
fn explain(truth: &GroundTruth, rows: &[ResultRow], why: Explained<'_>) {
    // An empty file was named when it was read.
    if why.is_results_file && rows.is_empty() {
        return;
    }
    let is_said = |text: &str| why.said.iter().any(|line| line.contains(text));
    let mut hints = Vec::new();
    for diagnostic in diagnose(truth, rows) {
        let is_about_a_file = matches!(
            diagnostic.cause,
            Cause::ImageIds
                | Cause::BoxFormat
                | Cause::NegativeSides
                | Cause::Normalized
                | Cause::Resized
                | Cause::CategoryIds
        );
        let is_weak = diagnostic.cause == Cause::Detector && why.ap >= WEAK_AP;
        if is_said(&diagnostic.sentence) || is_weak || is_about_a_file && !why.is_results_file {
            continue;
        }
        // A checkpoint has none of these.
        let others = match diagnostic.cause {
            Cause::Detector if why.is_results_file => {
                "; none of the other box formats, scales and meanings of the ids that were tried explains it"
            }
            _ => "",
        };
        problem!("why: {diagnostic}{others}");
        let hint = cause_hint(diagnostic.cause).filter(|_| why.is_results_file);
        hints.extend(hint.filter(|hint| !is_said(hint) && !hints.contains(hint)));
    }
    for hint in hints {
        problem!("hint: {hint}");
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
fn detect(
    args: &EvalArgs,
    checkpoint: &Path,
    dataset: &str,
) -> anyhow::Result<(GroundTruth, Vec<ResultRow>)> {
    let (model, device) = args.model.load(checkpoint)?;
    // Before the dataset is read or generated.
    model.check_task(Task::Detection)?;
    let dataset = DatasetName::parse(dataset)?;
    let split =
        dataset.open_split_with(args.split(), args.data_dir.as_deref(), args.on_bad_image())?;
    let dataset = &split.dataset;
    let categories = dataset.store().categories().iter();
    let classes: Vec<String> = categories.map(|class| class.name.clone()).collect();
    let matched = model.match_classes(&classes)?;
    for note in dataset.notes().iter().chain(&matched.note()) {
        status!("note: {note}");
    }
    status!("{} on {}", count(dataset.len(), "image"), device.name);
    ranks::check_same_inputs(checkpoint, &dataset.store().fingerprint())?;
    let model = model.on_ranks(ranks());
    let found = with_bar("evaluating", |progress| {
        model.detect_dataset(dataset, args.on_bad_image(), progress)
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
    let (model, device) = args.model.load(checkpoint)?;
    model.check_task(Task::Classification)?;
    let data_dir = args.data_dir.as_deref();
    let images = dataset.open_split_with(args.split(), data_dir, args.on_bad_image())?;
    let images = Arc::new(images);
    let matched = model.match_classes(images.class_names())?;
    for note in images.notes().iter().chain(&matched.note()) {
        status!("note: {note}");
    }
    status!("{} on {}", count(images.len(), "image"), device.name);
    let threads = rayon::current_num_threads();
    let options = LoaderOptions {
        batch_size: args
            .batch_size
            .map_or_else(|| model.batch_size(device.backend), usize::from),
        threads,
        prefetch: threads + 1,
        on_bad_image: args.on_bad_image(),
        ..LoaderOptions::default()
    };
    let views = if args.ten_crop {
        Views::TenCrops
    } else {
        Views::One
    };
    ranks::check_same_inputs(checkpoint, &images.fingerprint())?;
    let model = model.on_ranks(ranks());
    let found = with_bar("evaluating", |progress| {
        model.classify_dataset(&images, views, &options, progress)
    })??;
    let Some(ClassifiedDataset {
        evaluation,
        top,
        skipped,
    }) = found
    else {
        bail!("interrupted before all images were evaluated");
    };
    if !ranks().is_first() {
        return Ok(ExitCode::SUCCESS);
    }
    report_not_evaluated(&skipped);
    let bootstrap = args.bootstrap_config().map(|config| {
        let diagonal = evaluation.confusion.iter().enumerate();
        let right: u32 = diagonal.map(|(label, row)| row[label]).sum();
        Bootstrap::of_share("top1", right as usize, evaluation.images, config)
    });
    let predictions = args.output.as_ref().map(|_| {
        let name = |class: usize| evaluation.classes[class].name.clone();
        let images = top.iter().map(|(index, top)| PredictedImage {
            image: images.describe(*index),
            truth: Some(name(images.label(*index))),
            top: top.iter().map(|&(class, p)| (name(class), p)).collect(),
        });
        predictions_csv(images)
    });
    report(args, &Evaluation::Classification(evaluation), bootstrap)?;
    if let (Some(output), Some(predictions)) = (&args.output, predictions) {
        write_text(&output.join("predictions.csv"), &predictions)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn report_not_evaluated(skipped: &[SkippedImage]) {
    let reasons: Vec<String> = skipped.iter().map(|image| image.reason.clone()).collect();
    report_skipped("skipped in evaluation", &reasons, None);
}
