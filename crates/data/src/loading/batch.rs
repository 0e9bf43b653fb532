//! Collation of prepared images into one zero-padded buffer.

use image::RgbImage;

use crate::boxes::{BoxXyxy, ImageSize};
use crate::loading::transforms::preprocess::{Planes, prepare_into};
use crate::loading::transforms::{PreparedImage, Preprocess};

/// A batch for a detector.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectionBatch {
    /// `[batch, 3, height, width]`, normalized; each image is at the top left and the rest is
    /// zero, up to a multiple of the preprocessing's `size_divisor`.
    pub pixels: Vec<f32>,
    /// The shape, `[batch, 3, height, width]`.
    pub shape: [usize; 4],
    /// Metadata of each image, in the order of the batch.
    pub images: Vec<BatchImage>,
}

/// An image of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchImage {
    /// Position in the dataset.
    pub dataset_index: usize,
    /// The id in the dataset.
    pub image_id: u64,
    /// File name in the annotations.
    pub file_name: String,
    /// Size of the image before resizing; in training, the size after augmentation.
    pub image_size: ImageSize,
    /// Size in the batch, without padding.
    pub input_size: ImageSize,
    /// Target boxes, in pixels of the network input.
    pub boxes_in_input: Vec<BoxXyxy>,
    /// Contiguous class of each box.
    pub labels: Vec<usize>,
}

/// An image of a batch before it is resized.
pub(crate) struct UnpreparedImage {
    /// The image, augmented in training.
    pub(crate) image: RgbImage,
    /// Its own preprocessing: in training, the size of the input is drawn for each image.
    pub(crate) preprocess: Preprocess,
    /// Its metadata.
    pub(crate) info: BatchImage,
}

/// Prepares images and collates them with their metadata into a batch. Each image is resized in its place in the batch: through a
/// buffer of its own, as large as the decoded image several times, loading takes a sixth longer.
pub(crate) fn collate(images: Vec<UnpreparedImage>, size_divisor: usize) -> DetectionBatch {
    let sizes: Vec<ImageSize> = images.iter().map(|image| image.info.input_size).collect();
    let (pixels, shape) = padded(&sizes, size_divisor, |at, planes| {
        prepare_into(&images[at].image, &images[at].preprocess, planes);
    });
    DetectionBatch {
        pixels,
        shape,
        images: images.into_iter().map(|image| image.info).collect(),
    }
}

/// Places images at the top left of a common zero-filled tensor, whose sides are the largest height
/// and width, rounded up to a multiple of `size_divisor` (0 counts as 1). Returns `[batch, 3,
/// height, width]` and its shape.
pub fn pad_images(images: &[PreparedImage], size_divisor: usize) -> (Vec<f32>, [usize; 4]) {
    let sizes: Vec<ImageSize> = images.iter().map(|image| image.input_size).collect();
    padded(&sizes, size_divisor, |at, mut planes| {
        planes.copy(&images[at]);
    })
}

/// Returns a zero-filled tensor, and its shape, for images of these sizes, after `fill` has written each.
fn padded(
    sizes: &[ImageSize],
    size_divisor: usize,
    mut fill: impl FnMut(usize, Planes<'_>),
) -> (Vec<f32>, [usize; 4]) {
    let divisor = size_divisor.max(1);
    let longest = |side: fn(&ImageSize) -> usize| {
        let longest = sizes.iter().map(side).max().unwrap_or(0);
        longest.next_multiple_of(divisor)
    };
    let frame = ImageSize::new(longest(|size| size.height), longest(|size| size.width));
    let shape = [sizes.len(), 3, frame.height, frame.width];
    let mut pixels = vec![0.0f32; shape.iter().product()];
    let frames = pixels.chunks_exact_mut((3 * frame.height * frame.width).max(1));
    for (at, values) in frames.enumerate() {
        fill(at, Planes::new(values, frame));
    }
    (pixels, shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(height: usize, width: usize, value: f32) -> PreparedImage {
        PreparedImage {
            pixels: (0..3 * height * width).map(|i| value + i as f32).collect(),
            image_size: ImageSize::new(height, width),
            input_size: ImageSize::new(height, width),
        }
    }

    #[test]
    fn images_are_at_the_top_left_of_a_frame_of_zeros() {
        let (pixels, shape) = pad_images(&[image(2, 3, 100.0), image(5, 1, 200.0)], 4);
        assert_eq!(shape, [2, 3, 8, 4]);
        let at = |n: usize, c: usize, y: usize, x: usize| pixels[((n * 3 + c) * 8 + y) * 4 + x];
        for (n, height, width, value) in [(0, 2, 3, 100.0), (1, 5, 1, 200.0)] {
            for (c, y, x) in
                (0..3).flat_map(|c| (0..8).flat_map(move |y| (0..4).map(move |x| (c, y, x))))
            {
                let expected = if y < height && x < width {
                    value + ((c * height + y) * width + x) as f32
                } else {
                    0.0
                };
                assert_eq!(at(n, c, y, x), expected);
            }
        }
    }

    #[test]
    fn no_images_make_an_empty_batch() {
        assert_eq!(pad_images(&[], 32), (Vec::new(), [0, 3, 0, 0]));
    }
}
