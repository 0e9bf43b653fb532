//! The likeliest classes of images.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::PredictArgs;
use crate::cli::print_out;
use sedet_core::model::{DEFAULT_TOP, Model, RankedClass};
use sedet_core::status;
use sedet_data::loading::decode::decode_image;

/// Characters of a bar for a probability of 1.
const BAR: f32 = 30.0;

/// What one image may show.
#[derive(Debug, Serialize)]
struct Classified {
    file_name: String,
    /// Best first.
    classes: Vec<RankedClass>,
}

/// Classify every image. Returns how many could not be read.
pub(super) fn run(
    args: &PredictArgs,
    classifier: &Model,
    files: &[PathBuf],
) -> anyhow::Result<usize> {
    if args.score.is_some() {
        bail!(
            "--score is for detectors; {} is a classifier",
            args.checkpoint.display()
        );
    }
    if args.images.is_some() {
        bail!(
            "--images is for detectors, which draw boxes; {} is a classifier",
            args.checkpoint.display()
        );
    }
    let count = args.top.unwrap_or(DEFAULT_TOP);
    if count == 0 {
        bail!("--top 0 shows nothing; give at least 1");
    }
    let mut all = Vec::new();
    let mut failed = 0;
    for file in files {
        let image = match decode_image(file) {
            Ok(image) => image,
            Err(error) => {
                // One bad image does not cost the others their result.
                status!("error: {error}");
                failed += 1;
                continue;
            }
        };
        let classes = classifier.classify(&image, count)?;
        if !args.json {
            print_out(&lines(file, &classes))?;
        }
        all.push(Classified {
            file_name: file.display().to_string(),
            classes,
        });
    }
    let json = serde_json::to_string_pretty(&all)?;
    if args.json {
        print_out(&json)?;
    }
    if let Some(output) = &args.output {
        let path = output.join("predictions.json");
        sedet_data::atomic::write_atomically(&path, |out| out.write_all(json.as_bytes()))
            .with_context(|| path.display().to_string())?;
        status!("{} images: {}", all.len(), path.display());
    }
    Ok(failed)
}

/// The image's name, and a line with a bar for each class.
fn lines(file: &Path, classes: &[RankedClass]) -> String {
    let width = classes.iter().map(|c| c.name.chars().count()).max();
    let width = width.unwrap_or(0);
    let rows = classes.iter().map(|class| {
        let bar = "█".repeat((class.probability * BAR).round() as usize);
        format!(
            "  {:<width$}  {:>5.1} %  {bar}",
            class.name,
            100.0 * class.probability
        )
        .trim_end()
        .to_string()
    });
    let rows: Vec<String> = rows.collect();
    format!("{}\n{}", file.display(), rows.join("\n"))
}
