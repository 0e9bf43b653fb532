//! Flips, turns and crops.

use image::imageops;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::Sample;
use crate::boxes::BoxXyxy;

/// Mirror left-right.
pub fn flip_horizontal(sample: Sample) -> Sample {
    let width = sample.image.width() as f32;
    moved(sample, imageops::flip_horizontal, |b| {
        b.flip_horizontal(width)
    })
}

/// Mirror upside-down.
pub fn flip_vertical(sample: Sample) -> Sample {
    let height = sample.image.height() as f32;
    moved(sample, imageops::flip_vertical, |b| {
        BoxXyxy::new(b.x1, height - b.y2, b.x2, height - b.y1)
    })
}

/// A quarter turn clockwise.
pub fn quarter_turn(sample: Sample) -> Sample {
    let height = sample.image.height() as f32;
    moved(sample, imageops::rotate90, |b| {
        BoxXyxy::new(height - b.y2, b.x1, height - b.y1, b.x2)
    })
}

fn moved(
    sample: Sample,
    pixels: impl Fn(&image::RgbImage) -> image::RgbImage,
    coordinates: impl Fn(BoxXyxy) -> BoxXyxy,
) -> Sample {
    Sample {
        image: pixels(&sample.image),
        boxes_in_image: sample.boxes_in_image.into_iter().map(coordinates).collect(),
        labels: sample.labels,
    }
}

/// Cut out a random part whose sides are at least `min_side` of the image's. Boxes are cut with
/// it; one that keeps less than 40 % of its area goes, since what is left of the object no longer
/// shows what it is.
pub fn random_crop(sample: Sample, min_side: f64, rng: &mut ChaCha8Rng) -> Sample {
    let (width, height) = sample.image.dimensions();
    let side = |full: u32, rng: &mut ChaCha8Rng| {
        let share = rng.random_range(min_side.clamp(0.05, 1.0)..=1.0);
        ((f64::from(full) * share) as u32).clamp(1, full)
    };
    let (w, h) = (side(width, rng), side(height, rng));
    let x = rng.random_range(0..=width - w);
    let y = rng.random_range(0..=height - h);
    let (left, top) = (x as f32, y as f32);
    let size = crate::boxes::ImageSize::new(h as usize, w as usize);
    let (boxes_in_image, labels) = sample
        .boxes_in_image
        .iter()
        .zip(&sample.labels)
        .filter_map(|(b, label)| {
            let shifted = BoxXyxy::new(b.x1 - left, b.y1 - top, b.x2 - left, b.y2 - top);
            let cut = shifted.clip(size);
            (cut.area() >= 0.4 * b.area() && cut.has_sides_of(1.0)).then_some((cut, *label))
        })
        .unzip();
    Sample {
        image: imageops::crop_imm(&sample.image, x, y, w, h).to_image(),
        boxes_in_image,
        labels,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Rgb, RgbImage};
    use proptest::prelude::*;
    use rand::SeedableRng;

    /// A black picture with one white rectangle and its box.
    fn marked(x: u32, y: u32, w: u32, h: u32) -> Sample {
        let image = RgbImage::from_fn(40, 30, |px, py| {
            let inside = (x..x + w).contains(&px) && (y..y + h).contains(&py);
            Rgb([if inside { 255 } else { 0 }; 3])
        });
        Sample {
            image,
            boxes_in_image: vec![BoxXyxy::from_xywh([x as f32, y as f32, w as f32, h as f32])],
            labels: vec![3],
        }
    }

    fn box_of_white(image: &RgbImage) -> Option<BoxXyxy> {
        let white: Vec<_> = image.enumerate_pixels().filter(|p| p.2[0] == 255).collect();
        let x1 = white.iter().map(|p| p.0).min()? as f32;
        let y1 = white.iter().map(|p| p.1).min()? as f32;
        let x2 = white.iter().map(|p| p.0).max()? as f32 + 1.0;
        let y2 = white.iter().map(|p| p.1).max()? as f32 + 1.0;
        Some(BoxXyxy::new(x1, y1, x2, y2))
    }

    proptest! {
        #[test]
        fn boxes_stay_on_their_pixels(
            x in 0u32..30, y in 0u32..20, w in 1u32..10, h in 1u32..10, which in 0usize..4, seed in any::<u64>()
        ) {
            let sample = marked(x, y, w, h);
            let moved = match which {
                0 => flip_horizontal(sample),
                1 => flip_vertical(sample),
                2 => quarter_turn(sample),
                _ => random_crop(sample, 0.3, &mut ChaCha8Rng::seed_from_u64(seed)),
            };
            prop_assert_eq!(moved.boxes_in_image.len(), moved.labels.len());
            if let Some(b) = moved.boxes_in_image.first() {
                prop_assert_eq!(Some(*b), box_of_white(&moved.image));
            }
        }
    }
}
