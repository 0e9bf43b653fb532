//! One channel of the map that an SE unit scales, laid over the image it is of.

use std::ops::Range;

use sedet_data::boxes::{BoxXyxy, ImageSize};

/// Parts of a cell that rounding may take for a whole one.
const ROUNDING: f64 = 1e-3;

/// One channel of a map: the cells that lie under the image, without those under padding.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelMap {
    /// Cells from top to bottom.
    pub height: usize,
    /// Cells from left to right.
    pub width: usize,
    /// `[height, width]`.
    pub values: Vec<f32>,
    /// Where the cells lie, in shares of the sides of the part of the image that the network
    /// sees: 0, 0, 1, 1, or more than that where the outermost cells lie partly under padding. Such
    /// cells are kept whole.
    pub box_in_seen: BoxXyxy,
}

impl ChannelMap {
    /// From the smallest value of several maps, or 0, to the largest: one range of colors for all
    /// of them.
    pub fn common_range<'a>(maps: impl IntoIterator<Item = &'a Self>) -> [f32; 2] {
        let values = maps.into_iter().flat_map(|map| &map.values);
        values.fold([0.0, f32::MIN_POSITIVE], |[low, high], &value| {
            [low.min(value), high.max(value)]
        })
    }
}

/// Where an image lies in the input of a network: the shares of the input's sides at which it
/// begins and ends. The rest is padding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placement {
    rows: [f64; 2],
    columns: [f64; 2],
}

/// The cells of a map that lie under the image.
#[derive(Debug, Clone, PartialEq)]
pub struct Cells {
    /// From top to bottom.
    pub rows: Range<usize>,
    /// From left to right.
    pub columns: Range<usize>,
    /// See [`ChannelMap::box_in_seen`].
    pub box_in_seen: BoxXyxy,
}

impl Placement {
    /// Of an image whose part `input_box` (in its pixels) became the `input`, padded at the right
    /// and at the bottom to `frame`. The box may stick out of the image.
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

    /// The cells of a map of this size that lie under the image, all or a part of them. A map
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

/// Of so many cells those between two shares, and where they begin and end in shares of what is
/// between.
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
    fn cells_under_padding_are_cut_off_and_those_partly_under_it_kept_whole() {
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
    fn a_crop_s_map_lies_in_the_middle_and_black_around_a_small_image_is_cut_off() {
        let preprocess = Preprocess::imagenet_eval();
        let image = ImageSize::new(512, 1024);
        // 256 x 512, of which the middle 224: in the image 448, 32 from above and 288 from the left.
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
        // 100 x 200 in a square of 140: 20 rows of black above and below.
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
    fn one_cell_is_always_left() {
        let preprocess = Preprocess::torchvision().with_sizes(1, 1);
        let cells = placement(&preprocess, ImageSize::new(9, 9)).cells(ImageSize::new(1, 1));
        assert_eq!((cells.rows, cells.columns), (0..1, 0..1));
        let thin = Preprocess::torchvision().with_sizes(1, 64);
        let cells = placement(&thin, ImageSize::new(1, 64)).cells(ImageSize::new(1, 2));
        assert_eq!((cells.rows, cells.columns), (0..1, 0..2));
    }
}
