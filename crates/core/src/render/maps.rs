//! Maps of channels over an image.

use image::imageops;
use image::{Rgb as Pixel, RgbImage};

use super::canvas::{Lettering, PixelRect};
use super::palette::DARK;
pub use super::palette::map_color;
use crate::excitation::ChannelMap;
use sedet_data::boxes::{BoxXyxy, ImageSize};

/// Longest side in pixels of an image in a [`grid`] of many.
pub const TILE_SIDE: u32 = 320;
/// Height of a caption's letters, in pixels.
const LETTERS: f32 = 13.0;
const GAP: u32 = 10;

/// The image with a map mixed over it, `opacity` from 0 to 1. Each cell has one color, without
/// smoothing: that of its value between the ends of `range`. `seen` is the part of the image that
/// the map is of, in its pixels; outside of it, and where a value is no number, the image stays.
pub fn overlay(
    image: &RgbImage,
    map: &ChannelMap,
    seen: BoxXyxy,
    range: [f32; 2],
    opacity: f32,
) -> RgbImage {
    let mut mixed = image.clone();
    let size = ImageSize::new(image.height() as usize, image.width() as usize);
    let (visible, opacity) = (seen.clip(size), opacity.clamp(0.0, 1.0));
    let BoxXyxy { x1, y1, x2, y2 } = map.box_in_seen.scale(seen.width(), seen.height());
    let columns = cells([seen.x1 + x1, seen.x1 + x2], map.width);
    let rows = cells([seen.y1 + y1, seen.y1 + y2], map.height);
    let columns: Vec<Option<usize>> = (0..image.width())
        .map(|x| columns(x, [visible.x1, visible.x2]))
        .collect();
    for (y, line) in mixed.enumerate_rows_mut() {
        let Some(row) = rows(y, [visible.y1, visible.y2]) else {
            continue;
        };
        for ((.., pixel), column) in line.zip(&columns) {
            let value = column.and_then(|column| map.values.get(row * map.width + column));
            let Some(share) = value.and_then(|value| share(*value, range)) else {
                continue;
            };
            for (channel, new) in pixel.0.iter_mut().zip(map_color(share)) {
                let mixed = f32::from(*channel) * (1.0 - opacity) + f32::from(new) * opacity;
                *channel = mixed.round() as u8;
            }
        }
    }
    mixed
}

/// Which of `count` cells between `start` and `end` the middle of a pixel lies in, if it lies
/// between the given ends.
fn cells([start, end]: [f32; 2], count: usize) -> impl Fn(u32, [f32; 2]) -> Option<usize> {
    move |pixel, [from, to]| {
        let middle = pixel as f32 + 0.5;
        let cell = ((middle - start) / (end - start) * count as f32).floor();
        // A pixel at the end may be rounded out of the last cell.
        (middle >= from && middle < to && cell >= 0.0)
            .then(|| (cell as usize).min(count.saturating_sub(1)))
    }
}

/// Where a value lies in the range; none for no number.
fn share(value: f32, [low, high]: [f32; 2]) -> Option<f32> {
    let share = match high > low {
        true => (value - low) / (high - low),
        false => 0.0,
    };
    (!value.is_nan()).then(|| share.clamp(0.0, 1.0))
}

/// A small copy for a [`grid`]: no side is longer than [`TILE_SIDE`].
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
    /// As large as it is drawn.
    pub image: RgbImage,
    /// Stands above it, cut to its width.
    pub caption: String,
}

/// Images with captions on white, row by row with so many columns (at least one).
pub fn grid(tiles: &[Tile], columns: usize) -> RgbImage {
    let letters = Lettering::new(LETTERS);
    let columns = columns.clamp(1, tiles.len().max(1));
    let largest = |side: fn(&RgbImage) -> u32| tiles.iter().map(|t| side(&t.image)).max();
    let (width, height) = (
        largest(RgbImage::width).unwrap_or(0),
        largest(RgbImage::height).unwrap_or(0),
    );
    let caption = letters.line_height() as u32 + GAP / 2;
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
        let text = letters.fitted(&tile.caption, width.into());
        let line = PixelRect::with_size(left.into(), top.into(), width.into(), caption.into());
        letters.write(&mut page, line, 0, &text, DARK);
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
    fn each_cell_has_the_color_of_its_value_and_the_rest_stays() {
        let seen = BoxXyxy::new(2.0, 0.0, 6.0, 4.0);
        let values = [0.0, 1.0, 2.0, f32::NAN];
        let mixed = overlay(&black(8, 4), &map(2, 2, &values), seen, [0.0, 2.0], 1.0);
        let expected = [
            ((1, 1), [0; 3]),
            ((2, 0), map_color(0.0)),
            ((4, 1), map_color(0.5)),
            ((3, 2), map_color(1.0)),
            ((5, 3), [0; 3]),
            ((6, 1), [0; 3]),
        ];
        for ((x, y), color) in expected {
            assert_eq!(mixed.get_pixel(x, y).0, color, "{x},{y}");
        }
        let half = overlay(&black(8, 4), &map(2, 2, &values), seen, [0.0, 2.0], 0.5);
        let expected = map_color(1.0).map(|channel| (f32::from(channel) / 2.0).round() as u8);
        assert_eq!(half.get_pixel(3, 2).0, expected);
    }

    #[test]
    fn cells_that_stick_out_keep_their_size() {
        // Two columns of 8 pixels over an image of 12.
        let mut wide = map(1, 2, &[0.0, 1.0]);
        wide.box_in_seen.x2 = 16.0 / 12.0;
        let seen = BoxXyxy::new(0.0, 0.0, 12.0, 1.0);
        let mixed = overlay(&black(12, 1), &wide, seen, [0.0, 1.0], 1.0);
        let second = (0..12).filter(|&x| mixed.get_pixel(x, 0).0 == map_color(1.0));
        assert_eq!(second.collect::<Vec<_>>(), [8, 9, 10, 11]);
    }

    #[test]
    fn a_grid_holds_every_image_under_its_caption() {
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
        assert!(dark > 20, "the captions are written: {dark}");
        assert!(grid(&[], 0).width() < 50);
    }

    #[test]
    fn large_images_shrink_to_tiles_and_small_ones_stay() {
        let small = tile_sized(&black(3200, 10));
        assert_eq!(small.dimensions(), (TILE_SIDE, 1));
        assert_eq!(tile_sized(&black(90, 40)), black(90, 40));
    }

    proptest! {
        #[test]
        fn any_map_lies_over_any_image(
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
