//! Figures of an explanation: class activation maps with a color bar, and the feature maps of channels in a box.

use image::{Rgb as Pixel, RgbImage, imageops};

use super::boxes::{DrawnBox, draw_boxes};
use super::canvas::{LabelFont, PixelRect, Surface as _};
use super::feature_maps::{Tile, grid, overlay, tile_sized};
use super::palette::{DARK, viridis};
use crate::excitation::ChannelMap;
use sedet_data::boxes::BoxXyxy;

/// Opacity of a map over the image.
const OPACITY: f32 = 0.6;
/// Height of the text at a color bar in pixels.
const TEXT_HEIGHT: f32 = 13.0;
/// Width of a color bar in pixels.
const BAR: i64 = 14;
/// Gap between image, color bar and text in pixels.
const GAP: i64 = 8;
/// Width of the numbers at a color bar in pixels: `-1.23e-4`.
const NUMBERS: i64 = 72;
/// Maps per row of a summary: those of the backbone above those of the pyramid.
const SUMMARY_COLUMNS: usize = 4;
/// Channels per row of a figure, those for above those against.
const CHANNEL_COLUMNS: usize = 5;
/// The part of a box's longer side that is shown around it.
const MARGIN: f32 = 0.15;
/// Width and height of a cut-out in pixels.
const CUT_SIDE: u32 = 160;

/// A map over the image that a network receives.
#[derive(Debug, Clone)]
pub struct ShownMap<'a> {
    /// The map.
    pub map: &'a ChannelMap,
    /// The caption in a figure of several maps.
    pub caption: String,
}

/// Returns the image with a map over it, the box, and a color bar from 0 to the largest value.
///
/// `seen` is the part of the image that the network receives, in pixels.
pub fn map_figure(
    image: &RgbImage,
    map: &ChannelMap,
    seen: BoxXyxy,
    drawn: Option<&DrawnBox>,
) -> RgbImage {
    let range = ChannelMap::common_range([map]);
    let mut figure = overlay(image, map, seen, range, OPACITY);
    if let Some(drawn) = drawn {
        draw_boxes(&mut figure, std::slice::from_ref(drawn));
    }
    with_color_bar(&figure, range)
}

/// Returns all maps of an explanation in one figure, each with its own color bar.
pub fn map_summary(
    image: &RgbImage,
    maps: &[ShownMap<'_>],
    seen: BoxXyxy,
    drawn: Option<&DrawnBox>,
) -> RgbImage {
    let small = tile_sized(image);
    let (x, y) = shrink(&small, image);
    let drawn = drawn.map(|drawn| DrawnBox {
        box_in_image: drawn.box_in_image.scale(x, y),
        ..drawn.clone()
    });
    let tiles = maps.iter().map(|shown| Tile {
        image: map_figure(&small, shown.map, seen.scale(x, y), drawn.as_ref()),
        caption: shown.caption.clone(),
    });
    grid(&tiles.collect::<Vec<_>>(), SUMMARY_COLUMNS)
}

/// Returns feature maps cut out around a box, in rows of five, each with its own color bar. Without a box, each shows the
/// part of the image that the network receives.
pub fn channel_figure(
    image: &RgbImage,
    maps: &[ShownMap<'_>],
    seen: BoxXyxy,
    box_in_image: Option<BoxXyxy>,
) -> RgbImage {
    let tiles = maps.iter().map(|shown| {
        let range = ChannelMap::common_range([shown.map]);
        let whole = overlay(image, shown.map, seen, range, OPACITY);
        Tile {
            image: with_color_bar(&cut_out(&whole, box_in_image.unwrap_or(seen)), range),
            caption: shown.caption.clone(),
        }
    });
    grid(&tiles.collect::<Vec<_>>(), CHANNEL_COLUMNS)
}

/// Returns the factors from the pixels of an image to those of a smaller copy.
fn shrink(small: &RgbImage, large: &RgbImage) -> (f32, f32) {
    (
        small.width() as f32 / large.width().max(1) as f32,
        small.height() as f32 / large.height().max(1) as f32,
    )
}

/// Returns the part of an image around a box, enlarged or reduced to at most [`CUT_SIDE`] pixels.
fn cut_out(image: &RgbImage, box_in_image: BoxXyxy) -> RgbImage {
    let BoxXyxy { x1, y1, x2, y2 } = box_in_image;
    let around = (x2 - x1).max(y2 - y1).max(1.0) * MARGIN;
    // The casts saturate: numbers outside of the image become its edges.
    let place = |value: f32, side: u32| (value.max(0.0) as u32).min(side.saturating_sub(1));
    let (left, top) = (
        place(x1 - around, image.width()),
        place(y1 - around, image.height()),
    );
    let right = place((x2 + around).ceil(), image.width()).max(left);
    let bottom = place((y2 + around).ceil(), image.height()).max(top);
    let (width, height) = (right - left + 1, bottom - top + 1);
    let cut = imageops::crop_imm(image, left, top, width, height).to_image();
    let side = |own: u32| {
        let scaled = u64::from(own) * u64::from(CUT_SIDE) / u64::from(width.max(height));
        (scaled as u32).max(1)
    };
    imageops::resize(
        &cut,
        side(width),
        side(height),
        imageops::FilterType::Triangle,
    )
}

/// Returns the image on white with a color bar at its right side and the limits of the range.
fn with_color_bar(image: &RgbImage, range: [f32; 2]) -> RgbImage {
    let font = LabelFont::new(TEXT_HEIGHT);
    let (width, height) = (i64::from(image.width()), i64::from(image.height()));
    let full = (width + 3 * GAP + BAR + NUMBERS) as u32;
    let mut page = RgbImage::from_pixel(full, image.height(), Pixel([255; 3]));
    imageops::replace(&mut page, image, 0, 0);
    let left = width + GAP;
    for row in 0..height {
        let share = 1.0 - row as f32 / (height - 1).max(1) as f32;
        let line = PixelRect::with_size(left, row, BAR, 1);
        page.fill(line, viridis(share), 1.0);
    }
    let line = font.line_height();
    for (value, top) in [(range[1], 0), (range[0], height - line)] {
        let place = PixelRect::with_size(left + BAR + GAP, top, NUMBERS, line);
        page.text(&font, place, 0, &limit_text(value), DARK);
    }
    page
}

/// Formats the limit of the range of a color bar in few characters.
pub fn limit_text(value: f32) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        // The range of a map without positive values.
        size if size <= f32::MIN_POSITIVE => "0".to_owned(),
        size if (0.01..1000.0).contains(&size) => {
            let digits = (2 - size.log10().floor() as i32).clamp(0, 4) as usize;
            format!("{value:.digits$}")
        }
        _ => format!("{value:.1e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(values: &[f32], width: usize) -> ChannelMap {
        ChannelMap {
            height: values.len() / width,
            width,
            values: values.to_vec(),
            box_in_seen: BoxXyxy::new(0.0, 0.0, 1.0, 1.0),
        }
    }

    #[test]
    fn a_figure_has_a_color_bar_from_the_least_to_the_largest_value() {
        let image = RgbImage::new(60, 40);
        let seen = BoxXyxy::new(0.0, 0.0, 60.0, 40.0);
        let figure = map_figure(&image, &map(&[0.0, 2.0], 2), seen, None);
        assert_eq!(figure.height(), 40);
        let bar = 60 + GAP as u32 + 3;
        assert_eq!(figure.get_pixel(bar, 0).0, viridis(1.0));
        assert_eq!(figure.get_pixel(bar, 39).0, viridis(0.0));
        let numbers = imageops::crop_imm(&figure, bar + 14, 0, 60, 40).to_image();
        let dark = |rows: std::ops::Range<u32>| {
            let pixels = numbers.enumerate_pixels();
            pixels
                .filter(|(_, y, pixel)| rows.contains(y) && pixel.0[0] < 100)
                .count()
        };
        assert!(dark(0..16) > 5 && dark(24..40) > 5 && dark(17..23) == 0);
        let brighter = figure.get_pixel(45, 20).0[1] > figure.get_pixel(15, 20).0[1];
        assert!(brighter, "the larger value");
    }

    #[test]
    fn a_cut_out_shows_the_box_with_a_margin_inside_the_image() {
        let image = RgbImage::from_fn(100, 100, |x, y| {
            let inside = (20..60).contains(&x) && (40..60).contains(&y);
            Pixel(if inside { [255; 3] } else { [0; 3] })
        });
        let cut = cut_out(&image, BoxXyxy::new(20.0, 40.0, 60.0, 60.0));
        // 53 x 33 pixels enlarged.
        assert_eq!(cut.width(), CUT_SIDE);
        assert!((98..=102).contains(&cut.height()), "{}", cut.height());
        assert_eq!(cut.get_pixel(80, 50).0, [255; 3]);
        assert_eq!(cut.get_pixel(2, 2).0, [0; 3]);
        for outside in [
            BoxXyxy::new(-50.0, -9.0, 500.0, 4.0),
            BoxXyxy::new(200.0, 200.0, 300.0, 300.0),
            BoxXyxy::new(f32::NAN, 0.0, 1.0, f32::INFINITY),
        ] {
            assert!(cut_out(&image, outside).width() <= CUT_SIDE);
        }
    }

    #[test]
    fn limits_have_three_digits() {
        let texts = [0.0, f32::MIN_POSITIVE, 0.5, 0.01234, 12.345, 1234.5, 2.5e-5].map(limit_text);
        assert_eq!(
            texts,
            ["0", "0", "0.500", "0.0123", "12.3", "1.2e3", "2.5e-5"]
        );
    }

    #[test]
    fn figures_of_several_maps_have_a_tile_for_each() {
        let image = RgbImage::new(600, 300);
        let seen = BoxXyxy::new(0.0, 0.0, 600.0, 300.0);
        let values = map(&[0.0, 1.0, 2.0, 3.0], 2);
        let maps = vec![
            ShownMap {
                map: &values,
                caption: "C2".into(),
            };
            8
        ];
        let drawn = DrawnBox {
            box_in_image: BoxXyxy::new(100.0, 50.0, 300.0, 200.0),
            label: "disk".into(),
            class_index: 0,
            score: Some(0.5),
            dashed: false,
        };
        let summary = map_summary(&image, &maps, seen, Some(&drawn));
        let cuts = channel_figure(&image, &maps, seen, Some(drawn.box_in_image));
        assert!(summary.width() > 4 * 320 && summary.height() > 2 * 160);
        assert!(cuts.width() > 5 * CUT_SIDE && cuts.height() < summary.height() * 2);
    }
}
