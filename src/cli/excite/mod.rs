//! `sedet excite`.

mod image;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use clap::ArgGroup;
use serde_json::json;

use super::hints::{usage, usage_with_hint};
use super::model::ModelArgs;
use super::progress::with_bar;
use super::ranks::{self, ranks};
use super::report::report_skipped;
use super::terminal::{fitted, width};
use super::{
    check_data_dir, check_on_bad_image, on_bad_image, output_directory, print_out, status,
    whole_number,
};
use sedet_core::excitation::selection::{
    DEFAULT_CLASSES, choose_blocks, choose_classes, default_classes,
};
use sedet_core::excitation::{BlockSummary, Excitation, Selection};
use sedet_core::model::{Dataset, ImageChoice, MeasuredGates};
use sedet_core::render::{MAX_PANELS, save_excitation_figures};
use sedet_core::report::write_text;
use sedet_data::annotations::layout::Split;
use sedet_data::datasets::registry::AnyDatasetName;
use sedet_data::eval::table::Side;
use sedet_data::images::OnBadImage;
use sedet_data::text::count;

const EXAMPLES: &str = "\
Examples:
  sedet excite --checkpoint best.safetensors --dataset shapes --output gates/
  sedet excite --checkpoint best.safetensors --image photo.jpg --output gates/";

/// The usual line would not fit a small terminal.
const USAGE: &str = "sedet excite [OPTIONS] --checkpoint <FILE> --output <DIR>
                    <--dataset <DATASET>|--image <FILE>>";

const JSON_HELP: &str = "Print summary.json, or with --image the gates as JSON, instead of a table";

#[derive(Debug, clap::Args)]
#[command(
    after_help = EXAMPLES,
    group = ArgGroup::new("subject").required(true),
    override_usage = USAGE,
    mut_arg("json", |json| json.help(JSON_HELP))
)]
pub(super) struct ExciteArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Dataset to analyze (see `sedet train --help`)
    #[arg(long, group = "subject")]
    dataset: Option<String>,
    /// Single image to analyze: its gates and the feature maps of the most active channels
    #[arg(
        long,
        value_name = "FILE",
        group = "subject",
        conflicts_with_all = ["data_dir", "split", "classes", "channels", "limit", "on_bad_image"]
    )]
    image: Option<PathBuf>,
    /// With --image: most active channels to show per block [default: 8]
    #[arg(
        long,
        value_name = "K",
        conflicts_with = "dataset",
        value_parser = whole_number::<usize>
    )]
    top: Option<usize>,
    /// Directory of the named datasets [default: $SEDET_DATA]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Split: val, train or, if it exists, test
    #[arg(long, default_value_t = Split::Val)]
    split: Split,
    /// Classes in the figures, by name or label: a,b,... [default: the four with the most images]
    #[arg(long, value_delimiter = ',', value_name = "a,b,...")]
    classes: Vec<String>,
    /// Blocks in the figures: SE_2_3,... [default: the last of each stage and all of the last stage]
    #[arg(long, value_delimiter = ',', value_name = "SE_2_3,...")]
    blocks: Vec<String>,
    /// Channels per block in the figures, evenly spaced
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = whole_number::<usize>)]
    channels: usize,
    /// Number of images, evenly spaced in the split [default: all]
    #[arg(long, value_name = "N", value_parser = whole_number::<usize>)]
    limit: Option<usize>,
    /// What to do with unreadable images: stop (error), or skip them [default: error]
    #[arg(long, value_parser = on_bad_image())]
    on_bad_image: Option<OnBadImage>,
    /// Directory for excitation.safetensors, statistics.csv, summary.json and the figures; with --image
    /// for gates.csv and the figures
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

pub(super) fn run(args: ExciteArgs) -> anyhow::Result<ExitCode> {
    let Some(checkpoint) = &args.model.checkpoint else {
        return Err(usage_with_hint(
            "no model is given",
            "--checkpoint runs/NAME for a model of your own; `sedet weights list` lists published weights",
        ));
    };
    match (&args.dataset, &args.image) {
        (Some(dataset), None) => measure(&args, checkpoint, dataset),
        (None, Some(image)) => {
            ranks::need_one()?;
            image::run(&args, checkpoint, image)
        }
        _ => Err(usage("either --dataset or --image is required")),
    }
}

/// Measures the gates over the images of a dataset.
fn measure(args: &ExciteArgs, checkpoint: &Path, dataset_name: &str) -> anyhow::Result<ExitCode> {
    if args.limit == Some(0) {
        return Err(usage("--limit 0: at least 1 image is required"));
    }
    if args.channels == 0 {
        return Err(usage("--channels 0: at least 1 channel is required"));
    }
    check_data_dir(dataset_name, args.data_dir.as_deref())?;
    check_on_bad_image(dataset_name, args.on_bad_image)?;
    let policy = args.on_bad_image.unwrap_or(OnBadImage::Error);
    let dataset = AnyDatasetName::parse(dataset_name)?;
    let (network, device) = args.model.load(checkpoint)?;
    let blocks = network.se_blocks()?;
    let blocks = choose_blocks(&blocks, &args.blocks)?;
    let images = Dataset::open_with(&dataset, args.split, args.data_dir.as_deref(), policy)?;
    for note in images.notes() {
        status!("note: {note}");
    }
    let classes = choose_classes(&images.class_names(), &args.classes)?;
    let most_classes = match classes.len() {
        0 => DEFAULT_CLASSES,
        chosen => chosen,
    };
    // Checked here rather than after hours of measuring.
    if blocks.len() * most_classes > MAX_PANELS {
        return Err(usage(format!(
            "{} --blocks for {most_classes} classes are more than {MAX_PANELS} plots in a figure; \
             choose fewer of either (the tables have all blocks, the file all classes)",
            blocks.len()
        )));
    }
    output_directory(&args.output)?;

    let number = args.limit.unwrap_or(usize::MAX).min(images.len());
    status!("{} on {}", count(number, "image"), device.name);
    ranks::check_same_inputs(checkpoint, &images.fingerprint())?;
    let network = network.on_ranks(ranks());
    let choice = ImageChoice {
        dataset: dataset_name.to_string(),
        split: args.split,
        limit: args.limit,
        on_bad_image: policy,
    };
    let measured = with_bar("measuring gates", |progress| {
        network.record_excitation(&images, &choice, progress)
    })??;
    let Some(MeasuredGates {
        excitation,
        skipped,
    }) = measured
    else {
        bail!("interrupted before all images were measured");
    };
    if !ranks().is_first() {
        return Ok(ExitCode::SUCCESS);
    }
    let reasons: Vec<String> = skipped.into_iter().map(|image| image.reason).collect();
    report_skipped("skipped", &reasons, None);

    let selection = Selection {
        blocks,
        classes: classes_with_images(&excitation, classes, args.classes.is_empty())?,
        channels: args.channels,
    };
    write_results(&excitation, &selection, &args.output)?;
    if args.model.json {
        print_out(&to_json(&excitation)?)?;
    } else {
        print_out(&to_table(&excitation))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the classes of the figures, without those that none of the measured images shows.
fn classes_with_images(
    excitation: &Excitation,
    chosen: Vec<usize>,
    by_default: bool,
) -> anyhow::Result<Vec<usize>> {
    let counts = excitation.class_counts();
    if by_default {
        return Ok(default_classes(counts));
    }
    let (present, absent): (Vec<usize>, Vec<usize>) =
        chosen.into_iter().partition(|&label| counts[label] > 0);
    let names: Vec<&str> = absent
        .iter()
        .map(|&label| excitation.origin.classes[label].as_str())
        .collect();
    let images = count(excitation.origin.images as usize, "image");
    if present.is_empty() {
        bail!(
            "{images} measured, none shows {}; raise --limit or choose other --classes",
            names.join(", ")
        );
    }
    for name in names {
        status!("note: {images} measured, none shows {name}; it is omitted from the figures");
    }
    Ok(present)
}

fn write_results(
    excitation: &Excitation,
    selection: &Selection,
    output: &Path,
) -> anyhow::Result<()> {
    excitation.save(&output.join("excitation.safetensors"))?;
    for (name, text) in [
        ("statistics.csv", excitation.to_csv()),
        ("summary.json", to_json(excitation)?),
    ] {
        write_text(&output.join(name), &text)?;
    }
    save_excitation_figures(excitation, selection, output, 1)?;
    if selection.classes.is_empty() {
        status!("note: none of the images has a class, so class-std is not written");
    }
    Ok(())
}

fn to_json(excitation: &Excitation) -> anyhow::Result<String> {
    let document = json!({
        "dataset": excitation.origin.dataset,
        "split": excitation.origin.split,
        "images": excitation.origin.images,
        "thresholds": excitation.thresholds,
        "blocks": excitation.summaries(),
    });
    Ok(serde_json::to_string_pretty(&document)?)
}

const HEAD: [&str; 9] = [
    "block",
    "channels",
    "mean",
    "std",
    "dead",
    "saturated",
    "low var.",
    "selectivity",
    "weak",
];

fn to_table(excitation: &Excitation) -> String {
    let saturation = excitation.saturation();
    let undefined = || "-".to_string();
    let row = |block: BlockSummary| {
        vec![
            block.block,
            block.channels.to_string(),
            format!("{:.3}", block.mean),
            block.std.map_or_else(undefined, |std| format!("{std:.3}")),
            block.dead.to_string(),
            match saturation {
                Some(_) => block.saturated.to_string(),
                None => undefined(),
            },
            block
                .low_variance
                .map_or_else(undefined, |channels| channels.to_string()),
            block
                .selectivity
                .map_or_else(undefined, |s| format!("{s:.3}")),
            format!("{:.1} %", 100.0 * block.weak_share),
        ]
    };
    let mut rows = vec![HEAD.map(String::from).to_vec()];
    rows.extend(excitation.summaries().into_iter().map(row));
    let mut sides = [Side::Right; HEAD.len()];
    sides[0] = Side::Left;
    let limits = &excitation.thresholds;
    format!(
        "{}dead: always at most {}; saturated: always at least {};\n\
         low var.: {}; weak: mean below {}\n",
        fitted(&rows, &sides, width()),
        limits.dead,
        saturation.unwrap_or(limits.saturated),
        if excitation.has_std() {
            format!("std below {}", limits.low_std)
        } else {
            "std of more than one image".to_string()
        },
        limits.weak
    )
}
