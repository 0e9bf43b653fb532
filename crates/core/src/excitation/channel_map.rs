//! The feature map of one channel and its position in the image.

use std::ops::Range;

use burn::tensor::Tensor;
use sedet_data::boxes::{BoxXyxy, ImageSize};

/// The tolerance of rounding, in cells.
const ROUNDING: f64 = 1e-3;

/// The feature map of one channel, without the cells that cover only padding.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelMap {
    /// The number of rows.
    pub height: usize,
    /// The number of columns.
    pub width: usize,
    /// `[height, width]`.
    pub values: Vec<f32>,
    /// The box of the cells in fractions of the input region, the part of the image that the network
    /// receives: 0, 0, 1, 1, or larger where the outermost cells partly cover padding. Such cells are kept.
    pub box_in_seen: BoxXyxy,
}

impl ChannelMap {
    /// Returns one value range for several feature maps: from the smallest value, or 0, to the largest.
    pub fn common_range<'a>(maps: impl IntoIterator<Item = &'a Self>) -> [f32; 2] {
        let values = maps.into_iter().flat_map(|map| &map.values);
        values.fold([0.0, f32::MIN_POSITIVE], |[low, high], &value| {
            [low.min(value), high.max(value)]
        })
    }
}

/// The position of an image in the padded input of a network: the fractions of height and width at which it
/// begins and ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placement {
    rows: [f64; 2],
    columns: [f64; 2],
}

/// The cells of a feature map that cover the image.
#[derive(Debug, Clone, PartialEq)]
pub struct Cells {
    /// The rows.
    pub rows: Range<usize>,
    /// The columns.
    pub columns: Range<usize>,
    /// See [`ChannelMap::box_in_seen`].
    pub box_in_seen: BoxXyxy,
}

impl Placement {
    /// Computes the placement of an image whose part `input_box` (in pixels, possibly larger than the image)
    /// was resized to `input` and padded at the right and at the bottom to `frame`.
    pub fn new(image: ImageSize, input_box: BoxXyxy, input: ImageSize, frame: ImageSize) -> Self {
        let seen = input_box.clip(image);
        let shares = |box_side: [f32; 2], seen: [f32; 2], input: usize, frame: usize| {
            let [start, end] = box_side.map(f64::from);
            let share = input as f64 / frame as f64 / (end - start);
            seen.map(|edge| (f64::from(edge) - start) * share)
        };
        Self {
            rows: shares(
                [input_box.y1, input_box.y2],
                [seen.y1, seen.y2],
                input.height,
                frame.height,
            ),
            columns: shares(
                [input_box.x1, input_box.x2],
                [seen.x1, seen.x2],
                input.width,
                frame.width,
            ),
        }
    }

    /// Returns a feature map without the cells in the padding.
    ///
    /// # Shapes
    /// `map` is `[1, 1, height, width]`.
    pub(crate) fn cut(&self, map: Tensor<4>) -> ChannelMap {
        let [_, _, height, width] = map.dims();
        let cells = self.cells(ImageSize::new(height, width));
        let (height, width) = (cells.rows.len(), cells.columns.len());
        let cut = map.slice([0..1, 0..1, cells.rows, cells.columns]);
        ChannelMap {
            height,
            width,
            values: cut.into_data().iter::<f32>().collect(),
            box_in_seen: cells.box_in_seen,
        }
    }

    /// Returns the cells of a feature map of this size that cover the image at least partly. A feature map
    /// divides the input into equal cells.
    pub fn cells(&self, map: ImageSize) -> Cells {
        let (rows, [y1, y2]) = line_of_cells(self.rows, map.height);
        let (columns, [x1, x2]) = line_of_cells(self.columns, map.width);
        Cells {
            rows,
            columns,
            box_in_seen: BoxXyxy::new(x1, y1, x2, y2),
        }
    }
}

/// Returns which of `count` cells overlap the range from `start` to `end` (fractions of all cells), and where
/// they begin and end in fractions of that range.
fn line_of_cells([start, end]: [f64; 2], count: usize) -> (Range<usize>, [f32; 2]) {
    let whole = count as f64;
    let first = ((start * whole + ROUNDING) as usize).min(count.saturating_sub(1));
    let last = (end * whole - ROUNDING).ceil() as usize;
    let last = last.clamp(first + 1, count.max(first + 1));
    let share = |cell: usize| ((cell as f64 / whole - start) / (end - start)) as f32;
    (first..last, [share(first), share(last)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use sedet_data::loading::transforms::Preprocess;

    fn placement(preprocess: &Preprocess, image: ImageSize) -> Placement {
        let input = preprocess.input_size(image);
        let frame = [input.height, input.width].map(|side| {
            // As pad_images does.
            side.next_multiple_of(preprocess.size_divisor)
        });
        let frame = ImageSize::new(frame[0], frame[1]);
        Placement::new(image, preprocess.input_box(image), input, frame)
    }

    fn assert_box(found: BoxXyxy, expected: [f32; 4]) {
        let found = [found.x1, found.y1, found.x2, found.y2];
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        }
    }

    #[test]
    fn cells_over_padding_are_removed_unless_they_partly_cover_the_image() {
        // 100 x 150 becomes 64 x 96: nothing is padded. 100 x 110 becomes 64 x 70, padded to 96.
        let preprocess = Preprocess::torchvision().with_sizes(64, 100);
        let whole = placement(&preprocess, ImageSize::new(100, 150)).cells(ImageSize::new(4, 6));
        assert_eq!((whole.rows, whole.columns), (0..4, 0..6));
        assert_box(whole.box_in_seen, [0.0, 0.0, 1.0, 1.0]);
        let padded = placement(&preprocess, ImageSize::new(100, 110)).cells(ImageSize::new(4, 6));
        assert_eq!((padded.rows, padded.columns), (0..4, 0..5));
        assert_box(padded.box_in_seen, [0.0, 0.0, 80.0 / 70.0, 1.0]);
    }

    #[test]
    fn the_map_of_a_center_crop_is_centered_and_black_borders_are_removed() {
        let preprocess = Preprocess::imagenet_eval();
        let image = ImageSize::new(512, 1024);
        // Resized to 256 x 512 and cropped to 224 x 224: 448 pixels of the image, 32 from the top and 288 from
        // the left.
        assert_box(
            preprocess.input_box(image),
            [288.0, 32.0, 288.0 + 448.0, 32.0 + 448.0],
        );
        let cells = placement(&preprocess, image).cells(ImageSize::new(7, 7));
        assert_eq!((cells.rows, cells.columns), (0..7, 0..7));
        assert_box(cells.box_in_seen, [0.0, 0.0, 1.0, 1.0]);

        let small = Preprocess {
            min_size: 100,
            center_crop: Some(140),
            ..preprocess
        };
        // 100 x 200 in a crop of 140 x 140: 20 black rows above and below.
        let image = ImageSize::new(50, 100);
        assert_box(small.input_box(image), [15.0, -10.0, 85.0, 60.0]);
        let cells = placement(&small, image).cells(ImageSize::new(14, 14));
        assert_eq!((cells.rows, cells.columns), (2..12, 0..14));
        assert_box(cells.box_in_seen, [0.0, 0.0, 1.0, 1.0]);
        let cells = placement(&small, image).cells(ImageSize::new(2, 2));
        assert_eq!(cells.rows, 0..2);
        assert_box(cells.box_in_seen, [0.0, -0.2, 1.0, 1.2]);
    }

    #[test]
    fn at_least_one_cell_is_kept() {
        let preprocess = Preprocess::torchvision().with_sizes(1, 1);
        let cells = placement(&preprocess, ImageSize::new(9, 9)).cells(ImageSize::new(1, 1));
        assert_eq!((cells.rows, cells.columns), (0..1, 0..1));
        let thin = Preprocess::torchvision().with_sizes(1, 64);
        let cells = placement(&thin, ImageSize::new(1, 64)).cells(ImageSize::new(1, 2));
        assert_eq!((cells.rows, cells.columns), (0..1, 0..2));
    }
}
