//! The exports of the image panel.

use std::path::Path;
use std::sync::Arc;

use egui::{Rect, pos2};

use super::rendered_view::compose;
use crate::drawing::layer::{Layer, Overlay};
use crate::panels::corrections;
use crate::state::export::{Export, ExportFiles};
use crate::state::{Compare, Inference, MapStage, Pane, ViewerState, top_channels};
use crate::textures::{color_image, map_image, rgb_image};
use sedet_core::explanation::effects_csv;
use sedet_core::model::gates_csv;
use sedet_core::render::feature_maps::{Tile, grid, tile_sized};
use sedet_core::render::{save_drawing, save_gates, save_image};
use sedet_data::boxes::BoxXyxy;

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
            if state.unreadable.contains(&state.current) {
                return Err("the image cannot be read".to_owned());
            }
            let stem = image_stem(state);
            let csv = state.boxes(Pane::First).to_csv(&state.classes);
            files.text(&format!("{stem}-boxes.csv"), &csv)?;
            if state.compare == Compare::Off {
                return Ok(());
            }
            let csv = state.boxes(Pane::Second).to_csv(&state.classes);
            files.text(&format!("{stem}-boxes-second.csv"), &csv)
        },
    },
    corrections::EXPORT,
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
        name: "Effects of the explanation (CSV)",
        write: |state, files| {
            let explained = state.current_explanation();
            let explained = explained.ok_or("select a detection or a class and press W first")?;
            let csv = effects_csv(&explained.explanation.units, &explained.effects);
            files.text(&format!("{}-effects.csv", image_stem(state)), &csv)
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

/// Writes the view as the window shows it: with the colors and labels of its boxes, the feature map, both panes
/// of a comparison and the zoom.
fn boxes(state: &ViewerState, files: &mut ExportFiles, extension: &str) -> Result<(), String> {
    let as_shapes = extension == "svg";
    let rendered = compose(state, as_shapes)?;
    let name = format!("{}.{extension}", image_stem(state));
    files.image(&name, |path| {
        if as_shapes {
            save_drawing(&rendered.image, &rendered.shapes, path)
        } else {
            save_image(&rendered.image, path)
        }
    })
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
    let small = tile_sized(image);
    let scale = [
        small.width() as f32 / image.width() as f32,
        small.height() as f32 / image.height() as f32,
    ];
    let on_tile = |of: BoxXyxy| {
        let BoxXyxy { x1, y1, x2, y2 } = of.scale(scale[0], scale[1]);
        Rect::from_min_max(pos2(x1, y1), pos2(x2, y2))
    };
    let cells = maps.box_in_image(inference.input_region);
    let cells = cells.ok_or("no channel is selected")?;
    let tile = Arc::new(color_image(&small));
    // The channels that the panel shows, whatever else has been computed.
    let shown: Vec<usize> = if state.gates.show_grid {
        top_channels(&block.gates, state.gates.top)
    } else {
        state.gates.channel.into_iter().collect()
    };
    let known = |channel: usize| maps.channels.iter().find(|(known, ..)| *known == channel);
    let tiles = shown.into_iter().filter_map(known);
    let tiles = tiles.flat_map(|(channel, before, after)| {
        let gate = block.gates.get(*channel).copied().unwrap_or_default();
        let range = maps.range(*channel);
        [(MapStage::Before, before), (MapStage::After, after)].map(|(stage, map)| {
            let overlay = Overlay {
                image: Arc::new(map_image(map, range)),
                rect: on_tile(cells),
                clip: on_tile(inference.input_region),
                opacity: state.gates.opacity,
            };
            Tile {
                image: rgb_image(&Layer::tile(tile.clone(), overlay)),
                caption: format!("{}: {} {channel}, gate {gate:.3}", stage.name(), block.name),
            }
        })
    });
    let page = grid(&tiles.collect::<Vec<_>>(), 2);
    let name = format!("{}-channels-{}.png", image_stem(state), block.name);
    files.image(&name, |path| save_image(&page, path))
}
