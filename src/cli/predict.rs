//! `sedet predict`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use image::RgbImage;

use super::weights::ForeignArgs;
use super::{DeviceArgs, print_out};
use crate::data::annotations::Category;
use crate::data::decode::{PICTURE_EXTENSIONS, decode_image, has_picture_extension};
use crate::eval::{NamedResultRow, ResultRow, write_results};
use crate::predict::{Detector, ImageDetection};
use crate::render::{DrawnBox, draw_boxes, save_picture};

#[derive(Debug, clap::Args)]
pub(super) struct PredictArgs {
    /// A trained detector: a sedet checkpoint, or a file from torchvision, detectron2 or mmdetection
    #[arg(long, visible_alias = "weights", value_name = "FILE")]
    checkpoint: PathBuf,
    /// Pictures, folders of pictures, or patterns such as 'photos/*.jpg'
    #[arg(required = true)]
    inputs: Vec<String>,
    /// Folder for the annotated pictures and predictions.json
    #[arg(long)]
    output: Option<PathBuf>,
    /// Leave out detections below this score
    #[arg(long, default_value_t = 0.5)]
    score: f32,
    /// Print the list of detections as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    foreign: ForeignArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

pub(super) fn run(args: PredictArgs) -> anyhow::Result<ExitCode> {
    if !(0.0..=1.0).contains(&args.score) {
        bail!("--score {}: a score lies between 0 and 1", args.score);
    }
    let files = find_pictures(&args.inputs)?;
    let device = args.device.resolve()?;
    let weights = args.foreign.load(&args.checkpoint)?;
    let detector = Detector::from_weights(weights, &args.checkpoint, &device.device)?;
    let categories = &detector.description.categories;
    if let Some(output) = &args.output {
        std::fs::create_dir_all(output).with_context(|| output.display().to_string())?;
    }
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
        let mut image = match decode_image(file) {
            Ok(image) => image,
            Err(error) => {
                // One bad picture does not cost the others their result.
                eprintln!("error: {error}");
                failed += 1;
                continue;
            }
        };
        let mut found = detector.detect(&image);
        found.retain(|d| d.score >= args.score);
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
                args.score
            ))?;
        }
        if let Some(output) = &args.output {
            draw(&mut image, &found, categories);
            save_picture(&image, &output.join(free_name(file, &mut names)))?;
        }
    }
    if let Some(output) = &args.output {
        write_results(&output.join("predictions.json"), &rows)?;
        eprintln!(
            "{} pictures and predictions.json in {}",
            files.len() - failed,
            output.display()
        );
    }
    if args.json {
        print_out(&serde_json::to_string(&rows)?)?;
    }
    if failed > 0 {
        eprintln!("{failed} of {} files could not be read", files.len());
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Boxes with class and score on a picture.
pub(super) fn draw(image: &mut RgbImage, found: &[ImageDetection], categories: &[Category]) {
    let boxes: Vec<DrawnBox> = found
        .iter()
        .filter(|d| d.score >= 0.5)
        .map(|d| DrawnBox {
            box_in_image: d.box_in_image,
            label: categories[d.label].name.clone(),
            class_index: d.label,
            score: Some(d.score),
            dashed: false,
        })
        .collect();
    draw_boxes(image, &boxes);
}

/// A PNG name that no earlier picture of this call has: two folders may hold `a.jpg` each.
fn free_name(file: &Path, taken: &mut HashSet<String>) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let mut name = format!("{stem}.png");
    let mut number = 2;
    while !taken.insert(name.clone()) {
        name = format!("{stem}-{number}.png");
        number += 1;
    }
    name
}

/// Files as they are, folders by their pictures, patterns by what they match; sorted, each once.
fn find_pictures(inputs: &[String]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for input in inputs {
        let path = Path::new(input);
        let before = files.len();
        if path.is_dir() {
            let entries = std::fs::read_dir(path).with_context(|| input.clone())?;
            for entry in entries {
                let entry = entry.with_context(|| input.clone())?.path();
                if has_picture_extension(&entry) {
                    files.push(entry);
                }
            }
            if files.len() == before {
                bail!(
                    "{input}: no picture in this folder ({})",
                    PICTURE_EXTENSIONS.join(", ")
                );
            }
        } else if path.exists() {
            files.push(path.to_path_buf());
        } else if input.contains(['*', '?', '[']) {
            for found in glob::glob(input).with_context(|| input.clone())? {
                files.push(found?);
            }
            if files.len() == before {
                bail!("{input}: no file matches");
            }
        } else {
            bail!("{input}: no such file or folder");
        }
    }
    files.sort();
    files.dedup();
    Ok(files)
}
