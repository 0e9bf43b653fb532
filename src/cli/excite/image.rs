//! `sedet excite --image`: the SE units of a model on one image.

use std::path::Path;
use std::process::ExitCode;

use image::RgbImage;
use serde_json::{Value, json};

use super::ExciteArgs;
use crate::cli::hints::usage;
use crate::cli::terminal::{fitted, width, wrapped};
use crate::cli::{output_directory, print_out};
use sedet_core::excitation::ChannelMap;
use sedet_core::excitation::selection::choose_blocks;
use sedet_core::model::{BlockRecording, Model, Recording, Task};
use sedet_core::render::feature_maps::{Tile, grid, overlay, tile_sized};
use sedet_core::render::{save_gates, save_image};
use sedet_core::report::write_text;
use sedet_data::boxes::BoxXyxy;
use sedet_data::eval::confusion::DEFAULT_SCORE;
use sedet_data::eval::table::Side;
use sedet_data::loading::decode::decode_image;
use sedet_nn::nn::recording::Depth;

/// Default number of channels per block.
const TOP: usize = 8;
/// Largest number of channels per block: few programs open larger images.
const MOST: usize = 100;
/// Tiles per row: two channels, each before and after scaling.
const COLUMNS: usize = 4;
/// Opacity of the feature map over the image.
const OPACITY: f32 = 0.6;
/// Number of channels that the table names.
const NAMED: usize = 3;

pub(super) fn run(args: &ExciteArgs, checkpoint: &Path, file: &Path) -> anyhow::Result<ExitCode> {
    let top = args.top.unwrap_or(TOP);
    if !(1..=MOST).contains(&top) {
        return Err(usage(format!(
            "--top {top}: a number from 1 to {MOST} is required"
        )));
    }
    let image = decode_image(file)?;
    let (network, _) = args.model.load(checkpoint)?;
    let blocks = network.se_blocks()?;
    let shown = choose_blocks(&blocks, &args.blocks)?;
    let recording = network.record(&image, Depth::GatesAndFeatureMaps)?;

    let output = &args.output;
    output_directory(output)?;
    write_text(&output.join("gates.csv"), &recording.gates_csv())?;
    for name in ["gates.png", "gates.svg"] {
        save_gates(&recording.gate_rows(), &output.join(name))?;
    }
    for block in shown {
        let block = &recording.blocks[block];
        let path = output.join(format!("channels-{}.png", block.block.name));
        save_image(&channels(&image, recording.seen, block, top), &path)?;
    }
    if args.model.json {
        let json = to_json(file, &network, &recording);
        print_out(&serde_json::to_string_pretty(&json)?)?;
    } else {
        print_out(&to_table(&network, &recording))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Draws the most active channels over the image, before and after scaling.
fn channels(image: &RgbImage, seen: BoxXyxy, block: &BlockRecording, top: usize) -> RgbImage {
    let small = tile_sized(image);
    let shrink = |small: u32, large: u32| small as f32 / large as f32;
    let seen = seen.scale(
        shrink(small.width(), image.width()),
        shrink(small.height(), image.height()),
    );
    let channels = block.most_active(top).into_iter();
    let maps: Vec<(usize, ChannelMap, ChannelMap)> = channels
        .filter_map(|channel| {
            let (before, after) = block.channel(channel)?;
            Some((channel, before, after))
        })
        .collect();
    let both = maps.iter().flat_map(|(_, before, after)| [before, after]);
    let range = ChannelMap::common_range(both);
    let tiles = maps.iter().flat_map(|(channel, before, after)| {
        let gate = block.gates[*channel];
        [("before", before), ("after", after)].map(|(side, map)| Tile {
            image: overlay(&small, map, seen, range, OPACITY),
            caption: format!("channel {channel}, gate {gate:.3}, {side}"),
        })
    });
    grid(&tiles.collect::<Vec<_>>(), COLUMNS)
}

/// Returns the detections with at least the default score of `sedet predict`.
fn found(network: &Model, recording: &Recording) -> Vec<Value> {
    let categories = &network.spec.categories;
    let found = recording
        .prediction
        .detections()
        .iter()
        .filter(|d| d.score >= DEFAULT_SCORE);
    let found = found.map(|d| {
        json!({
            "category_id": categories[d.label].id,
            "category_name": categories[d.label].name,
            "bbox": d.box_in_image.to_xywh(),
            "score": d.score,
        })
    });
    found.collect()
}

fn to_json(file: &Path, network: &Model, recording: &Recording) -> Value {
    let BoxXyxy { x1, y1, x2, y2 } = recording.seen;
    let blocks = recording.blocks.iter().map(|unit| {
        json!({
            "block": unit.block.name,
            "path": unit.block.path,
            "gates": unit.gates,
        })
    });
    json!({
        "file_name": file.display().to_string(),
        "seen": [x1, y1, x2, y2],
        "detections": found(network, recording),
        "classes": recording.prediction.classes(),
        "blocks": blocks.collect::<Vec<_>>(),
    })
}

fn to_table(network: &Model, recording: &Recording) -> String {
    let seen = match network.task() {
        Task::Detection => {
            let found = recording
                .prediction
                .detections()
                .iter()
                .filter(|d| d.score >= DEFAULT_SCORE);
            let names = network.spec.class_names();
            let found = found.map(|d| format!("{} {:.2}", names[d.label], d.score));
            found.collect::<Vec<_>>()
        }
        Task::Classification => {
            let classes = recording.prediction.classes().iter();
            let classes = classes.map(|c| format!("{} {:.2}", c.name, c.probability));
            classes.collect()
        }
    };
    let seen = if seen.is_empty() {
        format!("no detections above {DEFAULT_SCORE}")
    } else {
        seen.join(", ")
    };
    let mut rows = vec![
        ["block", "channels", "mean", "min", "max", "most active"]
            .map(String::from)
            .to_vec(),
    ];
    rows.extend(recording.blocks.iter().map(|recording| {
        let gates = &recording.gates;
        let sum: f64 = gates.iter().copied().map(f64::from).sum();
        let least = gates.iter().copied().fold(f32::INFINITY, f32::min);
        let largest = gates.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let open = recording.most_active(NAMED).into_iter();
        let open: Vec<String> = open.map(|channel| channel.to_string()).collect();
        vec![
            recording.block.name.clone(),
            gates.len().to_string(),
            format!("{:.3}", sum / gates.len().max(1) as f64),
            format!("{least:.3}"),
            format!("{largest:.3}"),
            open.join(", "),
        ]
    }));
    let mut sides = [Side::Right; 6];
    (sides[0], sides[5]) = (Side::Left, Side::Left);
    let width = width();
    format!(
        "{}{}",
        wrapped(&seen, 0, width),
        fitted(&rows, &sides, width)
    )
}
