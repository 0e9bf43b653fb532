//! Feature maps of single channels over an image.

use image::imageops;
use image::{Rgb as Pixel, RgbImage};

use super::canvas::{LabelFont, PixelRect, Surface as _, blend};
use super::palette::{DARK, viridis};
use crate::excitation::ChannelMap;
use sedet_data::boxes::{BoxXyxy, ImageSize};

/// Maximum width and height of an image in a [`grid`], in pixels.
pub const TILE_SIDE: u32 = 320;
/// Font height of captions in pixels.
const CAPTION_HEIGHT: f32 = 13.0;
/// Gap between the tiles of a grid in pixels.
const GAP: u32 = 10;

/// Returns the image with a feature map blended over it, `opacity` from 0 to 1.
///
/// Each cell has one color, without interpolation: its value within `range`. `input_region` is the part of the
/// image that the network receives, in pixels; outside of it and where a value is NaN, the image is unchanged.
pub fn overlay(
    image: &RgbImage,
    map: &ChannelMap,
    input_region: BoxXyxy,
    range: [f32; 2],
    opacity: f32,
) -> RgbImage {
    let mut blended = image.clone();
    let size = ImageSize::new(image.height() as usize, image.width() as usize);
    let (visible, opacity) = (input_region.clip(size), opacity.clamp(0.0, 1.0));
    let BoxXyxy { x1, y1, x2, y2 } = map
        .box_in_seen
        .scale(input_region.width(), input_region.height());
    let columns = cells([input_region.x1 + x1, input_region.x1 + x2], map.width);
    let rows = cells([input_region.y1 + y1, input_region.y1 + y2], map.height);
    let columns: Vec<Option<usize>> = (0..image.width())
        .map(|x| columns(x, [visible.x1, visible.x2]))
        .collect();
    for (y, line) in blended.enumerate_rows_mut() {
        let Some(row) = rows(y, [visible.y1, visible.y2]) else {
            continue;
        };
        for ((.., pixel), column) in line.zip(&columns) {
            let value = column.and_then(|column| map.values.get(row * map.width + column));
            let Some(share) = value.and_then(|value| share(*value, range)) else {
                continue;
            };
            blend(pixel, viridis(share), opacity);
        }
    }
    blended
}

/// Returns a function from a pixel and the visible range to the cell that contains the center of the pixel, given
/// `count` cells between `start` and `end`.
fn cells([start, end]: [f32; 2], count: usize) -> impl Fn(u32, [f32; 2]) -> Option<usize> {
    move |pixel, [from, to]| {
        let middle = pixel as f32 + 0.5;
        let cell = ((middle - start) / (end - start) * count as f32).floor();
        // Rounding may move the last pixel beyond the last cell.
        (middle >= from && middle < to && cell >= 0.0)
            .then(|| (cell as usize).min(count.saturating_sub(1)))
    }
}

/// Returns the position of a value in the range, 0 to 1; `None` for NaN.
fn share(value: f32, [low, high]: [f32; 2]) -> Option<f32> {
    let share = if high > low {
        (value - low) / (high - low)
    } else {
        0.0
    };
    (!value.is_nan()).then(|| share.clamp(0.0, 1.0))
}

/// Returns a copy for a [`grid`], reduced to at most [`TILE_SIDE`] pixels.
pub fn tile_sized(image: &RgbImage) -> RgbImage {
    let longest = image.width().max(image.height());
    if longest <= TILE_SIDE {
        return image.clone();
    }
    let side = |side: u32| (u64::from(side) * u64::from(TILE_SIDE) / u64::from(longest)).max(1);
    imageops::thumbnail(
        image,
        side(image.width()) as u32,
        side(image.height()) as u32,
    )
}

/// An image in a [`grid`].
#[derive(Debug, Clone, PartialEq)]
pub struct Tile {
    /// The image.
    pub image: RgbImage,
    /// The caption above it, truncated to its width.
    pub caption: String,
}

/// Arranges images with captions on white, row by row with this many columns (at least one).
pub fn grid(tiles: &[Tile], columns: usize) -> RgbImage {
    let font = LabelFont::new(CAPTION_HEIGHT);
    let columns = columns.clamp(1, tiles.len().max(1));
    let largest = |side: fn(&RgbImage) -> u32| tiles.iter().map(|t| side(&t.image)).max();
    let (width, height) = (
        largest(RgbImage::width).unwrap_or(0),
        largest(RgbImage::height).unwrap_or(0),
    );
    let caption = font.line_height() as u32 + GAP / 2;
    let (step_x, step_y) = (width + GAP, height + caption + GAP);
    let rows = tiles.len().div_ceil(columns) as u32;
    let mut page = RgbImage::from_pixel(
        GAP + columns as u32 * step_x,
        GAP + rows * step_y,
        Pixel([255; 3]),
    );
    for (place, tile) in tiles.iter().enumerate() {
        let left = GAP + (place % columns) as u32 * step_x;
        let top = GAP + (place / columns) as u32 * step_y;
        let text = font.fitted(&tile.caption, width.into());
        let line = PixelRect::with_size(left.into(), top.into(), width.into(), caption.into());
        page.text(&font, line, 0, &text, DARK);
        imageops::replace(&mut page, &tile.image, left.into(), (top + caption).into());
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: BoxXyxy = BoxXyxy::new(0.0, 0.0, 1.0, 1.0);

    fn map(height: usize, width: usize, values: &[f32]) -> ChannelMap {
        ChannelMap {
            height,
            width,
            values: values.to_vec(),
            box_in_seen: ALL,
        }
    }

    fn black(width: u32, height: u32) -> RgbImage {
        RgbImage::new(width, height)
    }

    #[test]
    fn each_cell_has_the_color_of_its_value_and_other_pixels_are_unchanged() {
        let seen = BoxXyxy::new(2.0, 0.0, 6.0, 4.0);
        let values = [0.0, 1.0, 2.0, f32::NAN];
        let mixed = overlay(&black(8, 4), &map(2, 2, &values), seen, [0.0, 2.0], 1.0);
        let expected = [
            ((1, 1), [0; 3]),
            ((2, 0), viridis(0.0)),
            ((4, 1), viridis(0.5)),
            ((3, 2), viridis(1.0)),
            ((5, 3), [0; 3]),
            ((6, 1), [0; 3]),
        ];
        for ((x, y), color) in expected {
            assert_eq!(mixed.get_pixel(x, y).0, color, "{x},{y}");
        }
        let half = overlay(&black(8, 4), &map(2, 2, &values), seen, [0.0, 2.0], 0.5);
        let expected = viridis(1.0).map(|channel| (f32::from(channel) / 2.0).round() as u8);
        assert_eq!(half.get_pixel(3, 2).0, expected);
    }

    #[test]
    fn cells_that_exceed_the_image_keep_their_size() {
        // Two columns of 8 pixels over an image of 12.
        let mut wide = map(1, 2, &[0.0, 1.0]);
        wide.box_in_seen.x2 = 16.0 / 12.0;
        let seen = BoxXyxy::new(0.0, 0.0, 12.0, 1.0);
        let mixed = overlay(&black(12, 1), &wide, seen, [0.0, 1.0], 1.0);
        let second = (0..12).filter(|&x| mixed.get_pixel(x, 0).0 == viridis(1.0));
        assert_eq!(second.collect::<Vec<_>>(), [8, 9, 10, 11]);
    }

    #[test]
    fn a_grid_contains_every_image_below_its_caption() {
        let tile = |width, height, caption: &str| Tile {
            image: RgbImage::from_pixel(width, height, Pixel([200, 10, 10])),
            caption: caption.into(),
        };
        let tiles = [
            tile(90, 40, "one"),
            tile(60, 50, "a rather long caption"),
            tile(90, 50, ""),
        ];
        let page = grid(&tiles, 2);
        let red = page.pixels().filter(|pixel| pixel.0 == [200, 10, 10]);
        assert_eq!(red.count(), 90 * 40 + 60 * 50 + 90 * 50);
        assert_eq!(page.width(), 3 * GAP + 2 * 90);
        let dark = page.pixels().filter(|pixel| pixel.0 == DARK).count();
        assert!(dark > 20, "captions are drawn: {dark}");
        assert!(grid(&[], 0).width() < 50);
    }

    #[test]
    fn large_images_are_reduced_to_tiles_and_small_ones_are_kept() {
        let small = tile_sized(&black(3200, 10));
        assert_eq!(small.dimensions(), (TILE_SIDE, 1));
        assert_eq!(tile_sized(&black(90, 40)), black(90, 40));
    }

    proptest! {
        #[test]
        fn any_map_can_be_drawn_over_any_image(
            width in 1u32..40, height in 1u32..40, rows in 0usize..5, columns in 0usize..5,
            seen in prop::array::uniform4(-50.0f32..90.0), range in prop::array::uniform2(-1.0f32..1.0),
        ) {
            let [x1, y1, x2, y2] = seen;
            let map = map(rows, columns, &vec![0.3; rows * columns]);
            let seen = BoxXyxy::new(x1, y1, x2, y2);
            let mixed = overlay(&black(width, height), &map, seen, range, 2.0);
            prop_assert_eq!(mixed.dimensions(), (width, height));
        }
    }
}
