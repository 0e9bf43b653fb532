//! Measuring a classifier.

use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use indicatif::ProgressBar;

use super::EvalArgs;
use crate::cli::print_out;
use crate::cli::train::report_unread;
use sedet_core::model::Model;
use sedet_core::render::{save_confusion, save_reliability};
use sedet_core::status;
use sedet_data::datasets::registry::LabeledName;
use sedet_data::eval::classification::ClassificationEvaluation;
use sedet_data::loading::{LoaderOptions, Views};

/// Images in a batch.
const BATCH: usize = 100;

pub(super) fn run(
    args: &EvalArgs,
    checkpoint: &Path,
    dataset: &LabeledName,
) -> anyhow::Result<ExitCode> {
    let device = args.device.resolve()?;
    let weights = args.foreign.load(checkpoint)?;
    let classifier = Model::from_weights(weights, checkpoint, &device.device)?;
    let images = Arc::new(dataset.open_split(args.split, args.data_dir.as_deref())?);
    for note in images.notes() {
        status!("note: {note}");
    }
    status!("{} images on {}", images.len(), device.name);
    let bar = ProgressBar::new(images.len() as u64);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let options = LoaderOptions {
        batch_size: BATCH,
        threads,
        prefetch: threads + 1,
        on_bad_image: args.on_bad_image,
        ..LoaderOptions::default()
    };
    let found = classifier.classify_dataset(
        &images,
        match args.ten_crop {
            true => Views::TenCrops,
            false => Views::One,
        },
        &options,
        &mut |done, _| {
            bar.set_position(done as u64);
            ControlFlow::Continue(())
        },
    )?;
    bar.finish_and_clear();
    let Some((evaluation, unread)) = found else {
        bail!("stopped before all was measured");
    };
    report_unread(&unread);
    if let Some(output) = &args.output {
        std::fs::create_dir_all(output).with_context(|| output.display().to_string())?;
        write_classification_report(&evaluation, output)?;
    }
    if args.json {
        print_out(&evaluation.to_json())?;
    } else {
        print_out(&evaluation.summary())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The numbers as JSON, the confusion matrix as CSV and as an image, the reliability as an image.
pub(in crate::cli) fn write_classification_report(
    evaluation: &ClassificationEvaluation,
    output: &Path,
) -> anyhow::Result<()> {
    for (name, text) in [
        ("metrics.json", evaluation.to_json()),
        ("confusion.csv", evaluation.confusion_csv()),
    ] {
        let path = output.join(name);
        sedet_data::atomic::write_atomically(&path, |out| out.write_all(text.as_bytes()))
            .with_context(|| path.display().to_string())?;
    }
    save_confusion(evaluation, &output.join("confusion.png"))?;
    save_reliability(evaluation, &output.join("reliability.png"))?;
    Ok(())
}
