//! The exports of the image panel.

use std::path::Path;

use crate::state::export::{Export, ExportFiles};
use crate::state::{BoxRef, Inference, MapStage, Pane, ViewerState};
use sedet_core::model::gates_csv;
use sedet_core::render::feature_maps::{Tile, grid, overlay, tile_sized};
use sedet_core::render::{DrawnBox, save_boxes, save_gates, save_image};

pub static EXPORTS: &[Export] = &[
    Export {
        name: "Image with boxes (PNG)",
        write: |state, files| boxes(state, files, "png"),
    },
    Export {
        name: "Image with boxes (SVG)",
        write: |state, files| boxes(state, files, "svg"),
    },
    Export {
        name: "Boxes and verdicts (CSV)",
        write: |state, files| {
            let csv = state.boxes(Pane::First).to_csv(&state.classes);
            files.text(&format!("{}-boxes.csv", image_stem(state)), &csv)
        },
    },
    Export {
        name: "Gates of this image (CSV)",
        write: |state, files| {
            let csv = gates_csv(&inference(state)?.gate_rows());
            files.text(&format!("{}-gates.csv", image_stem(state)), &csv)
        },
    },
    Export {
        name: "Gates of this image (PNG, SVG)",
        write: |state, files| {
            let rows = inference(state)?.gate_rows();
            let stem = format!("{}-gates", image_stem(state));
            files.figure(&stem, |path| save_gates(&rows, path))
        },
    },
    Export {
        name: "Feature maps of the selected channels (PNG)",
        write: channel_grid,
    },
];

fn inference(state: &ViewerState) -> Result<&Inference, String> {
    let inference = state.inference[0].as_ref();
    inference.ok_or_else(|| "no inference has run on this image yet".to_owned())
}

/// Returns the file name of the image without directories and extension.
fn image_stem(state: &ViewerState) -> String {
    let title = state.collection.as_ref().filter(|c| !c.is_empty());
    let title = title.map_or_else(String::new, |c| c.image_title(state.current));
    let stem = Path::new(&title).file_stem().unwrap_or_default();
    match stem.to_string_lossy() {
        stem if stem.is_empty() => "image".to_owned(),
        stem => stem.into_owned(),
    }
}

fn boxes(state: &ViewerState, files: &mut ExportFiles, extension: &str) -> Result<(), String> {
    let (_, image) = state.pixels[0].as_ref().ok_or("no image is open")?;
    let boxes = drawn_boxes(state);
    let name = format!("{}.{extension}", image_stem(state));
    files.image(&name, |path| save_boxes(image, &boxes, path))
}

/// Returns the boxes that the viewer shows, in the form of the renderer. Annotations are dashed; those
/// that a detection matches are represented by the detection.
fn drawn_boxes(state: &ViewerState) -> Vec<DrawnBox> {
    let filter = state.filter();
    let boxes = state.boxes(Pane::First);
    let visible = state.visible_boxes(&boxes).into_iter();
    visible
        .filter(|of| !boxes.is_matched_annotation(*of))
        .filter_map(|of| {
            let class = boxes.class_of(of)?;
            let label = if filter.show_labels {
                state.classes.name(class).to_owned()
            } else {
                String::new()
            };
            Some(DrawnBox {
                box_in_image: boxes.box_of(of)?,
                label,
                class_index: class,
                score: boxes.score_of(of).filter(|_| filter.show_scores),
                dashed: matches!(of, BoxRef::GroundTruth(_)),
            })
        })
        .collect()
}

/// Writes the feature maps of the selected channels over the image, before and after scaling.
fn channel_grid(state: &ViewerState, files: &mut ExportFiles) -> Result<(), String> {
    let maps = state.maps.as_ref();
    let maps = maps.ok_or("select a channel or show the most active channels first")?;
    let (_, image) = state.pixels[0].as_ref().ok_or("no image is open")?;
    let inference = inference(state)?;
    let block = inference
        .blocks
        .get(maps.block)
        .ok_or("no SE block is selected")?;
    let range = maps.range();
    let small = tile_sized(image);
    let input_region = inference.input_region.scale(
        small.width() as f32 / image.width() as f32,
        small.height() as f32 / image.height() as f32,
    );
    let tiles = maps.channels.iter().flat_map(|(channel, before, after)| {
        let gate = block.gates.get(*channel).copied().unwrap_or_default();
        [(MapStage::Before, before), (MapStage::After, after)].map(|(stage, map)| Tile {
            image: overlay(&small, map, input_region, range, state.gates.opacity),
            caption: format!(
                "{} channel {channel}, gate {gate:.3}, {}",
                block.name,
                stage.name()
            ),
        })
    });
    let page = grid(&tiles.collect::<Vec<_>>(), 2);
    let name = format!("{}-channels-{}.png", image_stem(state), block.name);
    files.image(&name, |path| save_image(&page, path))
}
