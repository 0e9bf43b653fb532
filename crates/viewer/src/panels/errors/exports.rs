//! The exports of the Errors page: what it shows.

use egui::Color32;
use image::{Rgb, RgbImage, imageops};

use super::color;
use crate::state::export::{Export, ExportFiles};
use crate::state::{Collection, ErrorItem, ViewerState};
use crate::style::ANNOTATION;
use sedet_core::render::feature_maps::{TILE_SIDE, Tile, grid};
use sedet_core::render::save_image;
use sedet_data::boxes::BoxXyxy;

/// The number of crops that are exported before the page has been drawn.
const UNSEEN: usize = 48;
/// The number of these in a row.
const UNSEEN_COLUMNS: usize = 8;
/// Width of the outline of a box, in pixels.
const LINE: i64 = 2;
/// Length of a dash of the outline of the nearest annotation, in pixels.
const DASH: i64 = 6;

pub(super) static EXPORTS: &[Export] = &[
    Export {
        name: "Errors (CSV)",
        write: |state, files| {
            if let Some((title, _)) = super::missing(state) {
                return Err(title.to_lowercase());
            }
            let (collection, list) = (state.collection.as_ref(), state.errors.list());
            let (collection, list) = collection.zip(list).ok_or(NOT_LISTED)?;
            let csv = list.to_csv(state.errors.shown(), collection, &state.classes);
            files.text("errors.csv", &csv)
        },
    },
    Export {
        name: "Crops in sight (PNG)",
        write: crops,
    },
];

const NOT_LISTED: &str = "no errors have been listed yet; open a dataset and a detector first";

/// Writes the crops in sight, in the order of the page.
fn crops(state: &ViewerState, files: &mut ExportFiles) -> Result<(), String> {
    let (collection, list) = (state.collection.as_ref(), state.errors.list());
    let (collection, list) = collection.zip(list).ok_or(NOT_LISTED)?;
    let wall = &state.errors;
    // Without a window, none has been drawn.
    let (in_sight, columns) = match wall.columns {
        0 => (0..wall.shown().len().min(UNSEEN), UNSEEN_COLUMNS),
        columns => (wall.in_sight.clone(), columns),
    };
    let in_sight = wall.shown().get(in_sight).unwrap_or_default();
    let items = in_sight
        .iter()
        .filter_map(|at| list.items.get(*at as usize));
    let items: Vec<&ErrorItem> = items.collect();
    if items.is_empty() {
        return Err("no crops are in sight".to_owned());
    }
    // Each image is decoded once.
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|at| items[*at].image);
    let mut tiles: Vec<(usize, Tile)> = Vec::with_capacity(items.len());
    let mut decoded: Option<(u32, RgbImage)> = None;
    for at in order {
        let item = items[at];
        let known = decoded.take().filter(|(of, _)| *of == item.image);
        let (_, image) = match known {
            Some(known) => decoded.insert(known),
            None => decoded.insert((item.image, load(collection, item)?)),
        };
        let tile = Tile {
            image: tile(image, item),
            caption: item.text(&state.classes),
        };
        tiles.push((at, tile));
    }
    tiles.sort_by_key(|(at, _)| *at);
    let tiles: Vec<Tile> = tiles.into_iter().map(|(_, tile)| tile).collect();
    let page = grid(&tiles, columns);
    files.image("errors.png", |path| save_image(&page, path))
}

fn load(collection: &Collection, item: &ErrorItem) -> Result<RgbImage, String> {
    collection.load(item.image as usize)
}

/// Returns the crop of an error with its box.
fn tile(image: &RgbImage, item: &ErrorItem) -> RgbImage {
    let crop = item.crop();
    let [left, top, width, height] = crop.inside([image.width(), image.height()]);
    let part = imageops::crop_imm(image, left, top, width, height).to_image();
    let scale = TILE_SIDE as f32 / width.max(height).max(1) as f32;
    let side = |length: u32| ((length as f32 * scale).round() as u32).max(1);
    let filter = imageops::FilterType::Triangle;
    let mut tile = imageops::resize(&part, side(width), side(height), filter);
    let place = |of: BoxXyxy| {
        let place = |at: f32, from: u32| ((at - from as f32) * scale).round() as i64;
        let [x1, x2] = [of.x1, of.x2].map(|x| place(x, left));
        let [y1, y2] = [of.y1, of.y2].map(|y| place(y, top));
        [x1, y1, x2, y2]
    };
    if let Some((partner, _)) = item.partner {
        outline(&mut tile, place(partner), ANNOTATION, Some(DASH));
    }
    if let Some(of) = item.subject.box_in_image() {
        outline(&mut tile, place(of), color(item.group.kind), None);
    }
    tile
}

/// Draws the outline of a box, with dashes of this length and gaps as long, or solid.
fn outline(tile: &mut RgbImage, [x1, y1, x2, y2]: [i64; 4], color: Color32, dash: Option<i64>) {
    let [r, g, b, _] = color.to_array();
    for (x, y, pixel) in tile.enumerate_pixels_mut() {
        let (x, y) = (i64::from(x), i64::from(y));
        let is_within = |by: i64| x >= x1 + by && x < x2 - by && y >= y1 + by && y < y2 - by;
        // Along the sides at the top and bottom the dashes are columns, along the others rows.
        let along = if y < y1 + LINE || y >= y2 - LINE {
            x
        } else {
            y
        };
        let is_dash = dash.is_none_or(|dash| (along / dash) % 2 == 0);
        if is_within(0) && !is_within(LINE) && is_dash {
            *pixel = Rgb([r, g, b]);
        }
    }
}
