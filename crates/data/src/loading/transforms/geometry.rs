//! Flips, rotations by 90 degrees and crops of an image with its boxes.

use image::{RgbImage, imageops};

use crate::boxes::{BoxXyxy, ImageSize};

/// An image with its boxes, in image coordinates.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// 8-bit pixels.
    pub image: RgbImage,
    /// Boxes inside the image.
    pub boxes_in_image: Vec<BoxXyxy>,
    /// Contiguous class of each box.
    pub labels: Vec<usize>,
}

/// Mirrors left-right.
pub(crate) fn flip_horizontal(mut sample: Sample) -> Sample {
    let width = sample.image.width() as f32;
    imageops::flip_horizontal_in_place(&mut sample.image);
    for b in &mut sample.boxes_in_image {
        *b = b.flip_horizontal(width);
    }
    sample
}

/// Mirrors top-bottom.
pub(crate) fn flip_vertical(mut sample: Sample) -> Sample {
    let height = sample.image.height() as f32;
    imageops::flip_vertical_in_place(&mut sample.image);
    for b in &mut sample.boxes_in_image {
        *b = BoxXyxy::new(b.x1, height - b.y2, b.x2, height - b.y1);
    }
    sample
}

/// Rotates clockwise by 90 degrees; width and height are swapped.
pub(crate) fn turn_clockwise(sample: Sample) -> Sample {
    let height = sample.image.height() as f32;
    Sample {
        image: imageops::rotate90(&sample.image),
        boxes_in_image: sample
            .boxes_in_image
            .iter()
            .map(|b| BoxXyxy::new(height - b.y2, b.x1, height - b.y1, b.x2))
            .collect(),
        labels: sample.labels,
    }
}

/// Rotates counter-clockwise by 90 degrees; width and height are swapped.
pub(crate) fn turn_counter_clockwise(sample: Sample) -> Sample {
    let width = sample.image.width() as f32;
    Sample {
        image: imageops::rotate270(&sample.image),
        boxes_in_image: sample
            .boxes_in_image
            .iter()
            .map(|b| BoxXyxy::new(b.y1, width - b.x2, b.y2, width - b.x1))
            .collect(),
        labels: sample.labels,
    }
}

/// A rectangle of an image, in whole pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Left edge.
    pub x: u32,
    /// Top edge.
    pub y: u32,
    /// Width, at least 1.
    pub width: u32,
    /// Height, at least 1.
    pub height: u32,
}

/// Crops to a window. A box is kept when its center is inside the window (so that no object is
/// labeled by a small part at its edge) and both sides of its visible part are longer than
/// `min_side`; it is clipped to the window.
///
/// The window must be inside the image.
pub fn crop(sample: &Sample, window: Window, min_side: f32) -> Sample {
    let Window {
        x,
        y,
        width,
        height,
    } = window;
    let size = ImageSize::new(height as usize, width as usize);
    let mut boxes_in_image = Vec::new();
    let mut labels = Vec::new();
    for (b, &label) in sample.boxes_in_image.iter().zip(&sample.labels) {
        let moved = BoxXyxy::new(
            b.x1 - x as f32,
            b.y1 - y as f32,
            b.x2 - x as f32,
            b.y2 - y as f32,
        );
        if holds_center(size, moved) {
            let clipped = moved.clip(size);
            if clipped.width() > min_side && clipped.height() > min_side {
                boxes_in_image.push(clipped);
                labels.push(label);
            }
        }
    }
    let image: RgbImage = imageops::crop_imm(&sample.image, x, y, width, height).to_image();
    Sample {
        image,
        boxes_in_image,
        labels,
    }
}

fn holds_center(size: ImageSize, b: BoxXyxy) -> bool {
    let (x, y) = ((b.x1 + b.x2) / 2.0, (b.y1 + b.y2) / 2.0);
    (0.0..size.width as f32).contains(&x) && (0.0..size.height as f32).contains(&y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;
    use proptest::prelude::*;

    /// Returns a black image in which exactly the pixels of the boxes are painted, each with its
    /// color; a transform is correct if the transformed boxes again cover exactly the painted
    /// pixels.
    fn painted(width: u32, height: u32, boxes: Vec<BoxXyxy>) -> Sample {
        let mut image = RgbImage::new(width, height);
        for (i, b) in boxes.iter().enumerate() {
            for y in b.y1 as u32..b.y2 as u32 {
                for x in b.x1 as u32..b.x2 as u32 {
                    image.put_pixel(x, y, Rgb([i as u8 + 1, 0, 0]));
                }
            }
        }
        Sample {
            image,
            labels: (0..boxes.len()).collect(),
            boxes_in_image: boxes,
        }
    }

    fn boxes_cover_their_paint(sample: &Sample) -> bool {
        let repainted = painted(
            sample.image.width(),
            sample.image.height(),
            sample.boxes_in_image.clone(),
        );
        repainted.image == sample.image
    }

    fn one_box_sample() -> impl Strategy<Value = Sample> {
        (2u32..30, 2u32..30)
            .prop_flat_map(|(w, h)| (Just(w), Just(h), 0..w, 0..h))
            .prop_flat_map(|(w, h, x, y)| (Just((w, h, x, y)), x + 1..=w, y + 1..=h))
            .prop_map(|((w, h, x, y), x2, y2)| {
                let b = BoxXyxy::new(x as f32, y as f32, x2 as f32, y2 as f32);
                painted(w, h, vec![b])
            })
    }

    proptest! {
        #[test]
        fn boxes_move_with_their_pixels(sample in one_box_sample()) {
            for transform in [flip_horizontal, flip_vertical, turn_clockwise, turn_counter_clockwise] {
                let moved = transform(sample.clone());
                prop_assert!(boxes_cover_their_paint(&moved), "{moved:?}");
            }
        }

        #[test]
        fn each_transform_is_undone_by_its_opposite(sample in one_box_sample()) {
            prop_assert_eq!(&flip_horizontal(flip_horizontal(sample.clone())), &sample);
            prop_assert_eq!(&flip_vertical(flip_vertical(sample.clone())), &sample);
            prop_assert_eq!(&turn_counter_clockwise(turn_clockwise(sample.clone())), &sample);
        }

        #[test]
        fn a_crop_moves_boxes_with_their_pixels_and_keeps_them_inside(
            sample in one_box_sample(),
            corner in any::<[prop::sample::Index; 4]>(),
        ) {
            let (w, h) = sample.image.dimensions();
            let (x, y) = (corner[0].index(w as usize) as u32, corner[1].index(h as usize) as u32);
            let window = Window {
                x,
                y,
                width: 1 + corner[2].index((w - x) as usize) as u32,
                height: 1 + corner[3].index((h - y) as usize) as u32,
            };
            let cut = crop(&sample, window, 0.0);
            prop_assert_eq!(cut.image.dimensions(), (window.width, window.height));
            prop_assert_eq!(cut.boxes_in_image.len(), cut.labels.len());
            if !cut.boxes_in_image.is_empty() {
                prop_assert!(boxes_cover_their_paint(&cut));
            }
        }
    }

    #[test]
    fn a_crop_drops_boxes_whose_center_is_outside() {
        let sample = painted(
            20,
            10,
            vec![
                BoxXyxy::new(0.0, 0.0, 6.0, 6.0),
                BoxXyxy::new(8.0, 2.0, 14.0, 8.0),
            ],
        );
        let window = Window {
            x: 4,
            y: 0,
            width: 10,
            height: 10,
        };
        let cut = crop(&sample, window, 1.0);
        assert_eq!(cut.boxes_in_image, [BoxXyxy::new(4.0, 2.0, 10.0, 8.0)]);
        assert_eq!(cut.labels, [1]);
    }
}
