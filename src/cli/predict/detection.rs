//! Boxes in images.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::bail;

use super::PredictArgs;
use crate::cli::print_out;
use sedet_core::model::{ImageDetection, Model};
use sedet_core::render::{DrawnBox, save_boxes};
use sedet_core::status;
use sedet_data::annotations::Category;
use sedet_data::eval::{NamedResultRow, ResultRow, write_results};
use sedet_data::loading::decode::decode_image;

/// Detections below this score are left out unless another is asked for.
pub(in crate::cli) use sedet_data::eval::confusion::DEFAULT_SCORE as SCORE;

/// Find the objects of every image. Returns how many could not be read.
pub(super) fn run(
    args: &PredictArgs,
    detector: &Model,
    files: &[PathBuf],
) -> anyhow::Result<usize> {
    if args.top.is_some() {
        bail!(
            "--top is for classifiers; {} is a detector",
            args.checkpoint.display()
        );
    }
    let least_score = args.score.unwrap_or(SCORE);
    if !(0.0..=1.0).contains(&least_score) {
        bail!("--score {least_score}: a score lies between 0 and 1");
    }
    let categories = &detector.spec.categories;
    let mut rows = Vec::new();
    let mut failed = 0;
    let mut names = HashSet::new();
    if !args.json {
        print_out(&format!(
            "{:<32} {:<16} {:>6}  box in pixels (x, y, width, height)",
            "file", "class", "score"
        ))?;
    }
    for (number, file) in files.iter().enumerate() {
        let image = match decode_image(file) {
            Ok(image) => image,
            Err(error) => {
                // One bad image does not cost the others their result.
                status!("error: {error}");
                failed += 1;
                continue;
            }
        };
        let mut found = detector.detect(&image)?;
        found.retain(|d| d.score >= least_score);
        let image_id = number as u64 + 1;
        for d in &found {
            let category = &categories[d.label];
            let row = NamedResultRow {
                row: ResultRow::new(image_id, category.id, d.box_in_image, d.score),
                file_name: Some(file.display().to_string()),
                category_name: Some(category.name.clone()),
            };
            if !args.json {
                let [x, y, w, h] = d.box_in_image.to_xywh();
                print_out(&format!(
                    "{:<32} {:<16} {:>6.3}  {x:.1}, {y:.1}, {w:.1}, {h:.1}",
                    file.display().to_string(),
                    category.name,
                    d.score
                ))?;
            }
            rows.push(row);
        }
        if !args.json && found.is_empty() {
            print_out(&format!(
                "{:<32} nothing above {}",
                file.display().to_string(),
                least_score
            ))?;
        }
        if let Some(output) = &args.output {
            let name = free_name(
                file,
                args.images.unwrap_or_default().extension(),
                &mut names,
            );
            save_boxes(&image, &drawn(&found, categories), &output.join(name))?;
        }
    }
    if let Some(output) = &args.output {
        write_results(&output.join("predictions.json"), &rows)?;
        status!(
            "{} images and predictions.json in {}",
            files.len() - failed,
            output.display()
        );
    }
    if args.json {
        print_out(&serde_json::to_string(&rows)?)?;
    }
    Ok(failed)
}

/// Boxes with class and score, to be drawn.
pub(in crate::cli) fn drawn(found: &[ImageDetection], categories: &[Category]) -> Vec<DrawnBox> {
    let boxes = found.iter().map(|d| DrawnBox {
        box_in_image: d.box_in_image,
        label: categories[d.label].name.clone(),
        class_index: d.label,
        score: Some(d.score),
        dashed: false,
    });
    boxes.collect()
}

/// A name that no earlier image of this call has: two directories may hold `a.jpg` each.
fn free_name(file: &Path, extension: &str, taken: &mut HashSet<String>) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let mut name = format!("{stem}.{extension}");
    let mut number = 2;
    while !taken.insert(name.clone()) {
        name = format!("{stem}-{number}.{extension}");
        number += 1;
    }
    name
}
