//! `sedet data show`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use super::print_kind;
use crate::cli::hints::usage_with_hint;
use crate::cli::report_other_files;
use crate::cli::terminal::{fitted, width};
use crate::cli::{ImageFormat, check_data_dir, check_on_bad_image, on_bad_image, print_out};
use crate::cli::{problem, status, stop_on_ctrl_c, whole_number, whole_number_within};
use sedet_core::config::{DetectionConfig, Recipe as _, recipe_for};
use sedet_core::render::{DrawnBox, save_boxes};
use sedet_core::train::engine::goes_on;
use sedet_core::train::fit::fit_to_boxes;
use sedet_core::train::training_loader;
use sedet_data::annotations::layout::Split;
use sedet_data::boxes::ImageSize;
use sedet_data::datasets::registry::DatasetName;
use sedet_data::directory::create_directory;
use sedet_data::eval::table::Side;
use sedet_data::images::OnBadImage;
use sedet_data::loading::batch::{BatchImage, DetectionBatch};
use sedet_data::loading::transforms::Augmentation;
use sedet_data::text::count;

const EXAMPLES: &str = "\
Examples:
  sedet data show photos/ --output samples/
  sedet data show photos/ --set augment.vertical_flip=0.5 --output samples/";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ShowArgs {
    /// Dataset: shapes, blood-cells, coco, or a directory with box annotations
    dataset: String,
    /// Output directory for the images
    #[arg(long)]
    output: PathBuf,
    /// Number of images
    #[arg(long, default_value_t = 12, value_parser = whole_number_within(1..=u32::MAX))]
    count: u32,
    /// Epoch to show (order and augmentation depend on it) [default: 0]
    #[arg(long, value_parser = whole_number::<u64>)]
    epoch: Option<u64>,
    /// Recipe name or TOML file [default: depends on the dataset]
    #[arg(long)]
    config: Option<String>,
    /// Override one value of the recipe, such as augment.horizontal_flip=0; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Random seed for image order and augmentation [default: the recipe's]
    #[arg(long, value_parser = whole_number::<u64>)]
    seed: Option<u64>,
    /// Split to show: train, val or test
    #[arg(long, default_value_t = Split::Train)]
    split: Split,
    /// What to do with unreadable images: stop, or skip them [default: the recipe's]
    #[arg(long, value_parser = on_bad_image())]
    on_bad_image: Option<OnBadImage>,
    /// Directory of the named datasets [default: $SEDET_DATA]
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Image format; SVG keeps boxes and labels as vector graphics
    #[arg(long, default_value = "png")]
    image_format: ImageFormat,
}

/// Draws the batches of `sedet train` with the same recipe and seed.
pub(super) fn run(args: &ShowArgs) -> anyhow::Result<ExitCode> {
    check_data_dir(&args.dataset, args.data_dir.as_deref())?;
    check_on_bad_image(&args.dataset, args.on_bad_image)?;
    check_settings(&args.set)?;
    let dataset = DatasetName::parse(&args.dataset)?;
    let recipe = args.config.as_deref().unwrap_or(recipe_for(&dataset));
    let mut settings = args.set.clone();
    settings.extend(args.seed.map(|seed| format!("train.seed={seed}")));
    let mut config = DetectionConfig::load(recipe, &settings)?;
    if let Some(on_bad_image) = args.on_bad_image {
        config.loader.on_bad_image = on_bad_image;
    }
    print_kind(&args.dataset, &dataset, args.data_dir.as_deref())?;
    let opened = dataset.open_split_with(
        args.split,
        args.data_dir.as_deref(),
        config.loader.on_bad_image,
    )?;
    for note in opened.dataset.notes() {
        problem!("{}: {note}", args.dataset);
    }
    if args.config.is_none() && matches!(dataset, DatasetName::Directory(_)) {
        fit_to_boxes(&mut config, opened.dataset.store(), &settings)?;
    }
    if (args.epoch.is_some() || args.seed.is_some()) && config.augment == Augmentation::none() {
        status!("note: the recipe has no augmentation: epoch and seed change the order only");
    }
    let epoch = args.epoch.unwrap_or(0);
    let categories = opened.dataset.store().categories().to_vec();
    let preprocess = config.preprocess();
    let loader = training_loader(&config, opened.dataset, preprocess)?;
    create_directory(&args.output).with_context(|| args.output.display().to_string())?;
    let mut rows = vec![
        ["image", "id", "file", "input", "boxes"]
            .map(String::from)
            .to_vec(),
    ];
    let wanted = args.count as usize;
    let stop = stop_on_ctrl_c()?;
    'batches: for batch in loader.epoch(epoch, 0)? {
        let batch = batch?;
        for (at, image) in batch.images.iter().enumerate() {
            let number = rows.len() - 1;
            if number == wanted || goes_on(&stop).is_break() {
                break 'batches;
            }
            let [_, _, height, width] = batch.shape;
            let input = preprocess.image(
                pixels_of(&batch, at),
                ImageSize::new(height, width),
                image.input_size,
            );
            let name = file_name(number, image, args.image_format);
            let drawn: Vec<DrawnBox> = image
                .boxes_in_input
                .iter()
                .zip(&image.labels)
                .map(|(&box_in_input, &class)| DrawnBox {
                    box_in_image: box_in_input,
                    label: categories[class].name.clone(),
                    class_index: class,
                    score: None,
                    dashed: false,
                })
                .collect();
            save_boxes(&input, &drawn, &args.output.join(&name))?;
            rows.push(vec![
                name,
                image.image_id.to_string(),
                image.file_name.clone(),
                image.input_size.to_string(),
                drawn.len().to_string(),
            ]);
        }
    }
    for skipped in loader.skipped() {
        problem!("skipped: {}", skipped.reason);
    }
    status!(
        "recipe {recipe}, seed {}, epoch {}: wrote {} to {}",
        config.train.seed,
        epoch,
        count(rows.len() - 1, "training image"),
        args.output.display()
    );
    let written = rows.iter().skip(1).map(|row| row[0].clone()).collect();
    report_other_files(&args.output, &written);
    use Side::{Left, Right};
    print_out(&fitted(&rows, &[Left, Right, Left, Right, Right], width()))?;
    if goes_on(&stop).is_break() {
        problem!("interrupted; the images that were written are kept");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses settings that do not change the batches.
fn check_settings(settings: &[String]) -> anyhow::Result<()> {
    /// What of these parts of a recipe decides what a batch contains; the other parts do as a whole.
    const SHOWN: [&str; 2] = ["model.preset", "train.seed"];
    for setting in settings {
        let key = setting.split('=').next().unwrap_or_default().trim();
        let is_other = key.starts_with("model.") || key.starts_with("train.");
        if is_other && !SHOWN.contains(&key) {
            return Err(usage_with_hint(
                format!(
                    "--set {setting} has no effect: the images depend on augment, input, loader, {}",
                    SHOWN.join(" and ")
                ),
                format!("omit --set {setting}"),
            ));
        }
    }
    Ok(())
}

/// Returns the pixels of one image of a batch, `[channels, height, width]`.
fn pixels_of(batch: &DetectionBatch, at: usize) -> &[f32] {
    let [_, channels, height, width] = batch.shape;
    let size = channels * height * width;
    &batch.pixels[at * size..(at + 1) * size]
}

fn file_name(number: usize, image: &BatchImage, format: ImageFormat) -> String {
    let stem = Path::new(&image.file_name).file_stem();
    let stem = stem.unwrap_or("image".as_ref()).to_string_lossy();
    format!("{:03}-{stem}.{}", number + 1, format.extension())
}
