//! The exports of the grid: what it shows.

use std::sync::Arc;

use image::RgbImage;

use super::tiles::Tile;
use crate::drawing::layer::{Background, Layer};
use crate::drawing::offscreen::offscreen;
use crate::panels::cells::Placed;
use crate::panels::image_list::ImageResult;
use crate::state::export::{Export, ExportFiles};
use crate::state::{Collection, ViewerState};
use crate::textures::{color_image, rgb_image};
use sedet_core::render::feature_maps::{self, grid};
use sedet_core::render::save_image;
use sedet_data::csv::to_csv;

/// The number of images that are exported before the grid has been drawn.
const UNSEEN: usize = 24;
/// The number of these in a row.
const UNSEEN_COLUMNS: usize = 6;
/// Pixels per point without a scale of the settings: text stays sharp.
const DENSITY: f32 = 2.0;

pub(super) static EXPORTS: &[Export] = &[
    Export {
        name: "Images in sight (PNG)",
        write: images,
    },
    Export {
        name: "Images of the list (CSV)",
        write: list,
    },
];

fn collection(state: &ViewerState) -> Result<&Collection, &'static str> {
    state.collection.as_deref().ok_or("no images are open")
}

/// Writes the images in sight with their boxes, in the order of the list.
fn images(state: &ViewerState, files: &mut ExportFiles) -> Result<(), String> {
    let collection = collection(state)?;
    // Without a window, none has been drawn.
    let (in_sight, columns) = match state.grid.columns {
        0 => (0..state.order.len().min(UNSEEN), UNSEEN_COLUMNS),
        columns => (state.grid.in_sight.clone(), columns),
    };
    let shown = state.order.get(in_sight).unwrap_or_default();
    if shown.is_empty() {
        return Err("no images are in sight".to_owned());
    }
    let density = state.settings.export_scale.map_or(DENSITY, |s| s as f32);
    let tiles = shown.iter().map(|&image| {
        let image = image as usize;
        let boxes = state.boxes_of(image, state.network_in_focus());
        let tile = Tile {
            state,
            collection,
            image,
            boxes: &boxes,
        };
        let drawn = match collection.load(image) {
            Ok(image) => drawn(&tile, &image, density)?,
            // An image that cannot be read leaves its place empty, as in the viewer.
            Err(_) => RgbImage::new(1, 1),
        };
        Ok(feature_maps::Tile {
            image: drawn,
            caption: tile.caption_of_export(),
        })
    });
    let tiles: Vec<_> = tiles.collect::<Result<_, String>>()?;
    let page = grid(&tiles, columns);
    files.image("grid.png", |path| save_image(&page, path))
}

/// Returns an image with its boxes as the viewer shows it.
fn drawn(tile: &Tile<'_>, image: &RgbImage, density: f32) -> Result<RgbImage, String> {
    let side = match tile.state.grid.side {
        0.0 => tile.state.settings.grid_side,
        side => side,
    };
    let [width, height] = [image.width(), image.height()].map(|side| side as f32);
    let placed = Placed::whole(side, [width, height]);
    let place = placed.place;
    let rendered = offscreen(place.size(), density, |painter| {
        let painter = painter(place);
        let background = Background {
            image: Arc::new(color_image(image)),
            rect: place,
        };
        let outlines = tile.outlines(&painter, &placed);
        Layer::render(&painter, background, None, outlines, false)
    });
    let (_, pixels) = rendered.flatten().ok_or("nothing is shown")?;
    Ok(rgb_image(&pixels))
}

/// Writes the images of the list in its order, with what is known about them.
fn list(state: &ViewerState, files: &mut ExportFiles) -> Result<(), String> {
    let collection = collection(state)?;
    let columns = ["image", "class", "correct", "wrong", "missed"];
    let mut rows = vec![columns.map(str::to_owned).to_vec()];
    rows.extend(state.order.iter().map(|&image| {
        let image = image as usize;
        let mut row = vec![collection.image_title(image)];
        match ImageResult::of(state, image, state.network_in_focus()) {
            Some(ImageResult::Class(name, is_right)) => {
                let number =
                    |of: Option<bool>| of.map_or(String::new(), |of| u8::from(of).to_string());
                let is_wrong = is_right.map(|is_right| !is_right);
                row.extend([
                    name.to_owned(),
                    number(is_right),
                    number(is_wrong),
                    String::new(),
                ]);
            }
            Some(ImageResult::Counts(counts)) => {
                let counts = [counts.correct, counts.wrong, counts.missed];
                row.push(String::new());
                row.extend(counts.map(|count| count.to_string()));
            }
            None => row.extend(vec![String::new(); columns.len() - 1]),
        }
        row
    }));
    files.text("images.csv", &to_csv(&rows))
}
