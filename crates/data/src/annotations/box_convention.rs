//! What the four numbers of boxes mean: some programs write corners, fractions, another order or other points than
//! those of the format.
//!
//! Training, evaluation and the checker decide with the same rule.

use std::path::Path;

use crate::DataError;
use crate::annotations::AnnotationStore;
use crate::boxes::{BoxConvention, ConventionMismatch, EDGE_TOLERANCE, ImageSize};

/// From fewer boxes, the meaning of their numbers cannot be inferred.
const FEWEST_BOXES: usize = 10;

/// The conventions that are compared with that of a format. Of two that fit equally well, the first is meant.
const IN_PIXELS: [BoxConvention; 6] = [
    BoxConvention::Corners,
    BoxConvention::SwappedCorners,
    BoxConvention::Centers,
    BoxConvention::SwappedSizes,
    BoxConvention::Sizes,
    BoxConvention::OppositeCorners,
];

/// The conventions among them that may replace `[x, y, width, height]`.
const INSTEAD_OF_SIZES: usize = 4;

/// How boxes fit their images in one convention.
#[derive(Debug, Clone, Copy, Default)]
struct Reading {
    /// Boxes with a part outside of their image, or with corners in another order.
    misfits: usize,
    /// The first box that fits, and not in the convention of the format.
    example: Option<[f64; 4]>,
}

/// The numbers of boxes of a file that fit their images in each convention.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BoxFit {
    /// The convention of the format.
    expected: BoxConvention,
    boxes: usize,
    /// Boxes that exceed their image as the format has them, by far more than annotators do.
    far_beyond: usize,
    /// Boxes that exceed their image on the right or below by a fifth of their own side.
    beyond: usize,
    /// Boxes whose second corner is before the first.
    reversed: usize,
    /// Boxes whose area is that of corners, and not that of sizes.
    with_area_of_corners: usize,
    as_corners: usize,
    /// Boxes that fit as `[x, y, width, height]` where the format stores centers.
    as_sizes: usize,
    at_most_one: usize,
    /// Those of them that are no whole numbers.
    parts_of_one: usize,
    /// Those of them that fit as sizes, as corners and as centers.
    fractions_as: [usize; 3],
    /// The first box that shows that the numbers are corners, sizes and fractions.
    examples: [Option<[f64; 4]>; 3],
    /// In the order of [`IN_PIXELS`].
    readings: [Reading; IN_PIXELS.len()],
    percentages: Percentages,
}

/// Boxes without a number above 100 on images that are larger.
#[derive(Debug, Clone, Copy, Default)]
struct Percentages {
    boxes: usize,
    /// Boxes with a number that is not whole.
    fractional: usize,
    /// Boxes that begin in the first third of 100, on each axis.
    first: [usize; 2],
    /// Boxes that end in the last third.
    last: [usize; 2],
    /// Boxes that end near 100.
    at_end: [usize; 2],
    example: Option<[f64; 4]>,
}

impl Percentages {
    /// Adds a box with the numbers of the file, which end at `ends`.
    fn add(&mut self, size: ImageSize, numbers: [f64; 4], ends: [f64; 2]) {
        /// On smaller images, objects in the upper left are no rarity.
        const SMALLEST_IMAGE: usize = 200;
        let is_within = numbers.iter().all(|value| (0.0..=100.0).contains(value));
        if !is_within || size.width.min(size.height) < SMALLEST_IMAGE {
            return;
        }
        self.boxes += 1;
        self.fractional += usize::from(numbers.iter().any(|value| value.fract() != 0.0));
        self.example.get_or_insert(numbers);
        for axis in 0..2 {
            self.first[axis] += usize::from(numbers[axis] < 33.0);
            self.last[axis] += usize::from(ends[axis] > 67.0);
            self.at_end[axis] += usize::from(ends[axis] > 90.0);
        }
    }

    /// Returns whether boxes are all over a square of 100 and not drawn in whole pixels, so that they cannot be in the
    /// upper left by chance, or because the camera looks there.
    fn is_certain(&self) -> bool {
        const FEWEST: usize = 30;
        let is_spread = |axis: usize| {
            let tenth = |count: usize| count * 10 >= self.boxes;
            tenth(self.first[axis]) && tenth(self.last[axis]) && self.at_end[axis] > 0
        };
        let is_fractional = self.fractional * 2 >= self.boxes;
        self.boxes >= FEWEST && is_fractional && is_spread(0) && is_spread(1)
    }
}

impl BoxFit {
    /// No boxes yet. `expected` is the convention of the format.
    pub(crate) fn new(expected: BoxConvention) -> Self {
        Self {
            expected,
            boxes: 0,
            far_beyond: 0,
            beyond: 0,
            reversed: 0,
            with_area_of_corners: 0,
            as_corners: 0,
            as_sizes: 0,
            at_most_one: 0,
            parts_of_one: 0,
            fractions_as: [0; 3],
            examples: [None; 3],
            readings: Default::default(),
            percentages: Percentages::default(),
        }
    }

    /// Adds a box on an image of a size, `[x, y, width, height]` in pixels as the reader of the format understands it;
    /// `area` is that in the annotations, if there is one.
    pub(crate) fn add(&mut self, size: ImageSize, xywh: [f64; 4], area: Option<f64>) {
        /// Boxes of annotators exceed an image by less than this share of its side, and so do corners of objects at the
        /// edge; corners that are read as sizes exceed it by more, unless they are in the upper left.
        const FAR: f64 = 0.05;
        let has_centers = self.expected == BoxConvention::CenterFractions;
        let [x, y, w, h] = xywh;
        let (width, height) = (size.width as f64, size.height as f64);
        let [beyond_x, beyond_y] = [width, height].map(|side| EDGE_TOLERANCE + FAR * side);
        let exceeds = |x: f64, y: f64| x + w > width + beyond_x || y + h > height + beyond_y;
        let is_before = has_centers && (x < -beyond_x || y < -beyond_y);
        let is_far_beyond = exceeds(x, y) || is_before;
        // Fractions of centers are compared in pixels, too.
        let [a, b, c, d] = if has_centers {
            [x + w / 2.0, y + h / 2.0, w, h]
        } else {
            xywh
        };
        // A box without area has equal corners.
        let is_as_corners = a >= -beyond_x
            && b >= -beyond_y
            && (a..=width + beyond_x).contains(&c)
            && (b..=height + beyond_y).contains(&d);
        let is_as_sizes = !exceeds(a, b);
        let has_area = |expected: f64| area.is_some_and(|area| is_near(area, expected));
        let has_area_of_corners = has_area((c - a) * (d - b)) && !has_area(c * d);
        self.boxes += 1;
        self.far_beyond += usize::from(is_far_beyond);
        self.with_area_of_corners += usize::from(has_area_of_corners);
        self.as_corners += usize::from(is_as_corners);
        self.as_sizes += usize::from(is_as_sizes);
        let is_at_most_one = self.add_fractions(size, xywh);
        if !has_centers {
            self.add_readings(size, xywh);
        }
        let shows = [
            is_as_corners && (is_far_beyond || has_area_of_corners),
            is_as_sizes && is_far_beyond,
            is_at_most_one,
        ];
        for (example, shows) in self.examples.iter_mut().zip(shows) {
            if shows {
                example.get_or_insert_with(|| in_file(self.expected, size, xywh));
            }
        }
    }

    /// Counts a box if its numbers are at most 1, and returns whether they are.
    fn add_fractions(&mut self, size: ImageSize, xywh @ [x, y, w, h]: [f64; 4]) -> bool {
        if !xywh.iter().all(|value| (0.0..=1.0).contains(value)) {
            return false;
        }
        self.at_most_one += 1;
        let is_whole = xywh.iter().all(|value| value.fract() == 0.0);
        self.parts_of_one += usize::from(!is_whole);
        let [edge_x, edge_y] = [size.width, size.height].map(|side| EDGE_TOLERANCE / side as f64);
        let is_inside = |x: f64, y: f64| {
            x >= -edge_x && y >= -edge_y && x + w <= 1.0 + edge_x && y + h <= 1.0 + edge_y
        };
        let fits = [
            is_inside(x, y),
            w >= x && h >= y,
            is_inside(x - w / 2.0, y - h / 2.0),
        ];
        for (count, fits) in self.fractions_as.iter_mut().zip(fits) {
            *count += usize::from(fits);
        }
        true
    }

    /// Compares the numbers of the file with the image in each convention in pixels.
    fn add_readings(&mut self, size: ImageSize, [x, y, w, h]: [f64; 4]) {
        /// The share of its side by which a box of an annotator does not exceed the image. A center in the place of
        /// the left edge moves a box by half of its side.
        const OF_SIDE: f64 = 0.2;
        let exceeds = |start: f64, side: f64, image: usize| {
            start + side - image as f64 > (OF_SIDE * side).max(EDGE_TOLERANCE)
        };
        let is_beyond = exceeds(x, w, size.width) || exceeds(y, h, size.height);
        let is_reversed = w < 0.0 || h < 0.0;
        self.beyond += usize::from(is_beyond);
        self.reversed += usize::from(is_reversed);
        let in_file = in_file(self.expected, size, [x, y, w, h]);
        for (reading, convention) in self.readings.iter_mut().zip(IN_PIXELS) {
            if !convention
                .to_xywh(in_file)
                .is_some_and(|xywh| is_inside(size, xywh))
            {
                reading.misfits += 1;
            } else if is_beyond || is_reversed {
                reading.example.get_or_insert(in_file);
            }
        }
        self.percentages.add(size, in_file, [x + w, y + h]);
    }

    /// Returns how the boxes are in another convention than that of the format, if they are.
    pub(crate) fn mismatch(&self) -> Option<ConventionMismatch> {
        if self.boxes < FEWEST_BOXES {
            return None;
        }
        if self.nearly_all(self.at_most_one) && self.parts_of_one * 2 >= self.at_most_one {
            let convention = match self.expected {
                BoxConvention::Sizes if self.fractions_are_sizes() => BoxConvention::SizeFractions,
                _ => BoxConvention::Fractions,
            };
            return Some(self.found(convention, self.at_most_one, self.examples[2]));
        }
        let percentages = self.as_percentages();
        if percentages.is_some_and(|found| found.is_certain) {
            return percentages;
        }
        let found = match self.expected {
            BoxConvention::Sizes => self.instead_of_sizes(),
            BoxConvention::Corners => self.instead_of_corners(),
            _ => self.instead_of_centers(),
        };
        found.or(percentages)
    }

    /// Returns whether a count is that of nearly all boxes. The others are mistakes of their own.
    fn nearly_all(&self, count: usize) -> bool {
        count * 10 >= self.boxes * 9
    }

    /// Returns whether too many boxes exceed their images by far to be mistakes of annotators.
    ///
    /// Of corners all over their images, seven of ten exceed them as sizes and as centers. Upper left points that are
    /// read as centers exceed them only where boxes are large; others look like centers.
    fn is_far_beyond(&self) -> bool {
        self.far_beyond * 10 >= self.boxes * 3
    }

    /// Returns a certain mismatch.
    fn found(
        &self,
        convention: BoxConvention,
        fitting: usize,
        example: Option<[f64; 4]>,
    ) -> ConventionMismatch {
        ConventionMismatch {
            convention,
            alternative: None,
            expected: self.expected,
            fitting,
            beyond: self.beyond,
            boxes: self.boxes,
            example: example.unwrap_or_default(),
            is_certain: true,
        }
    }

    fn as_percentages(&self) -> Option<ConventionMismatch> {
        let Percentages { boxes, example, .. } = self.percentages;
        let is_possible =
            self.expected != BoxConvention::CenterFractions && boxes * 100 >= self.boxes * 99;
        is_possible.then(|| ConventionMismatch {
            is_certain: self.percentages.is_certain(),
            ..self.found(BoxConvention::Percentages, boxes, example)
        })
    }

    /// Returns the convention of boxes in the place of `[x, y, width, height]`.
    fn instead_of_sizes(&self) -> Option<ConventionMismatch> {
        let others = self.readings.iter().zip(IN_PIXELS).take(INSTEAD_OF_SIZES);
        let (best, convention) = others.clone().min_by_key(|(reading, _)| reading.misfits)?;
        let equal = others.filter(|(reading, _)| reading.misfits == best.misfits);
        let alternative = equal.map(|(_, convention)| convention).nth(1);
        // Right boxes touch the left and the upper edge as often as the others, and so would not fit otherwise.
        let is_better_than = |misfits: usize| best.misfits * 10 <= misfits;
        let corners = self.readings[0].misfits;
        let has_corners = self.nearly_all(self.as_corners)
            && (self.is_far_beyond() || self.nearly_all(self.with_area_of_corners));
        if has_corners && !(corners >= 5 && is_better_than(corners)) {
            let alternative = alternative.filter(|_| best.misfits == corners);
            return Some(ConventionMismatch {
                alternative,
                ..self.found(BoxConvention::Corners, self.as_corners, self.examples[0])
            });
        }
        let is_share = |fewest: usize, parts: usize| {
            self.beyond >= fewest && self.beyond * parts >= self.boxes
        };
        let is_certain = is_share(5, 20);
        let is_other = convention != BoxConvention::Corners
            && best.misfits * 50 <= self.boxes
            && is_better_than(self.beyond)
            && (is_certain || is_share(10, 50));
        is_other.then(|| ConventionMismatch {
            alternative,
            is_certain,
            ..self.found(convention, self.boxes - best.misfits, best.example)
        })
    }

    /// Returns the convention of boxes in the place of `[x1, y1, x2, y2]`.
    fn instead_of_corners(&self) -> Option<ConventionMismatch> {
        // Of widths and heights of objects all over their images, most are smaller than x or y.
        if self.reversed * 3 < self.boxes {
            return None;
        }
        let others = self.readings.iter().zip(IN_PIXELS).skip(INSTEAD_OF_SIZES);
        let (best, convention) = others.min_by_key(|(reading, _)| reading.misfits)?;
        Some(self.found(convention, self.boxes - best.misfits, best.example))
    }

    /// Returns the convention of boxes in the place of `[center x, center y, width, height]`.
    fn instead_of_centers(&self) -> Option<ConventionMismatch> {
        if !self.is_far_beyond() {
            return None;
        }
        let [corners, sizes, _] = self.examples;
        if self.nearly_all(self.as_corners) {
            Some(self.found(BoxConvention::CornerFractions, self.as_corners, corners))
        } else if self.nearly_all(self.as_sizes) {
            Some(self.found(BoxConvention::SizeFractions, self.as_sizes, sizes))
        } else {
            None
        }
    }

    /// Returns whether boxes that are fractions can only be `[x, y, width, height]`.
    ///
    /// Small boxes in the middle of their images may be centers, too, and those in the upper left corners.
    fn fractions_are_sizes(&self) -> bool {
        let nearly_all = |count: usize| count * 10 >= self.at_most_one * 9;
        let [sizes, corners, centers] = self.fractions_as;
        nearly_all(sizes) && !nearly_all(corners) && !nearly_all(centers)
    }

    /// Checks that the boxes are in the convention of the format; `path` is the file in the error. Returns a note
    /// if they may be in another.
    ///
    /// # Errors
    /// Nearly all fit their images in another convention only.
    pub(crate) fn check(&self, path: &Path) -> Result<Option<String>, DataError> {
        match self.mismatch() {
            None => Ok(None),
            Some(mismatch) if mismatch.is_certain => Err(DataError::BoxConvention {
                path: path.to_owned(),
                mismatch,
            }),
            Some(mismatch) => Ok(Some(mismatch.to_string())),
        }
    }
}

/// Returns whether a box is in its image and has no negative side.
fn is_inside(size: ImageSize, [x, y, w, h]: [f64; 4]) -> bool {
    let is_between = |start: f64, side: f64, image: usize| {
        side >= 0.0 && start >= -EDGE_TOLERANCE && start + side <= image as f64 + EDGE_TOLERANCE
    };
    is_between(x, w, size.width) && is_between(y, h, size.height)
}

/// Returns the numbers from which a reader computed `[x, y, width, height]`.
fn in_file(format: BoxConvention, size: ImageSize, [x, y, w, h]: [f64; 4]) -> [f64; 4] {
    // Six digits: the boxes of these formats are in single precision.
    let rounded = |value: f64| format!("{value:.5e}").parse().unwrap_or(value);
    let (width, height) = (size.width as f64, size.height as f64);
    match format {
        BoxConvention::Corners => [x, y, x + w, y + h].map(rounded),
        BoxConvention::CenterFractions => [
            (x + w / 2.0) / width,
            (y + h / 2.0) / height,
            w / width,
            h / height,
        ]
        .map(rounded),
        _ => [x, y, w, h],
    }
}

/// Returns whether two areas are equal but for rounding.
pub(crate) fn is_near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-3 * a.abs()
}

/// Checks that the boxes of a store are in the convention of its format; `path` is the file in the error. Returns a
/// note if they may be in another.
///
/// # Errors
/// Nearly all fit their images in another convention only.
pub(crate) fn check_box_convention(
    store: &AnnotationStore,
    path: &Path,
    expected: BoxConvention,
) -> Result<Option<String>, DataError> {
    let mut fit = BoxFit::new(expected);
    for index in 0..store.image_count() {
        let size = store.image(index).size;
        for numbers in store.numbers(index) {
            let (numbers, area) = numbers.as_f64();
            fit.add(size, numbers, Some(area));
        }
    }
    fit.check(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(boxes: impl Iterator<Item = [f64; 4]>) -> Result<Option<String>, String> {
        checked_with_areas(boxes.map(|numbers| (numbers, None)))
    }

    fn checked_with_areas(
        boxes: impl Iterator<Item = ([f64; 4], Option<f64>)>,
    ) -> Result<Option<String>, String> {
        checked_in(BoxConvention::Sizes, boxes)
    }

    fn checked_in(
        expected: BoxConvention,
        boxes: impl Iterator<Item = ([f64; 4], Option<f64>)>,
    ) -> Result<Option<String>, String> {
        let mut fit = BoxFit::new(expected);
        for (numbers, area) in boxes {
            fit.add(ImageSize::new(48, 64), numbers, area);
        }
        let checked = fit.check(Path::new("a.json"));
        checked.map_err(|error| error.to_string())
    }

    #[test]
    fn large_boxes_that_exceed_their_images_a_little_are_sizes() {
        // As corners, each of them fits its image, too.
        let boxes =
            |beyond: f64| (0..20).map(move |i| [f64::from(i % 3), 2.0, 62.0 + beyond, 44.0]);
        assert_eq!(checked(boxes(2.0)), Ok(None));
        // Three of ten by far.
        let some = (0..20).map(|i| [2.0, 2.0, if i % 4 == 0 { 66.0 } else { 60.0 }, 44.0]);
        assert_eq!(checked(some), Ok(None));
        // Boxes of a pixel in the corner of their image are no fractions.
        assert_eq!(checked((0..20).map(|_| [0.0, 0.0, 1.0, 1.0])), Ok(None));
    }

    #[test]
    fn a_few_other_boxes_do_not_hide_corners_and_fractions() {
        let corners = (0..18).map(|i| [f64::from(i), 20.0, 40.0, 45.0]);
        let without_area = [[9.0, 9.0, 9.0, 9.0], [50.0, 20.0, 20.0, 20.0]];
        let message = checked(corners.chain(without_area)).unwrap_err();
        assert!(message.contains("19 of 20 boxes fit"), "{message}");
        let fractions = (0..18).map(|i| [0.1, 0.2, 0.3, f64::from(i) / 20.0]);
        let message = checked(fractions.chain([[3.0, 4.0, 5.0, 6.0]; 2])).unwrap_err();
        assert!(message.contains("18 of 20 boxes fit"), "{message}");
    }

    #[test]
    fn boxes_of_formats_that_store_corners_are_not_examined_for_corners() {
        let boxes = || (0..20).map(|i| ([f64::from(i), 20.0, 40.0, 45.0], None));
        assert!(checked_in(BoxConvention::Sizes, boxes()).is_err());
        assert_eq!(checked_in(BoxConvention::Corners, boxes()), Ok(None));
        // With the corners of the file, not the differences that were computed from them.
        let third = 0.4 - 0.1;
        let fractions = (0..20).map(|_| ([0.1, 0.2, third, 0.3], None));
        assert_eq!(
            checked_in(BoxConvention::Corners, fractions).unwrap_err(),
            "a.json: 20 of 20 boxes fit their images as fractions of the image size, not as [x1, y1, x2, y2] in \
             pixels, such as [0.1, 0.2, 0.4, 0.5]"
        );
    }

    /// Returns boxes all over the image as a reader of centers in fractions understands four numbers.
    fn read_as_centers(numbers: impl Fn(f64, f64, f64, f64) -> [f64; 4]) -> Vec<[f64; 4]> {
        let boxes = (0..40).map(|i| {
            let (w, h) = (0.1 + 0.1 * f64::from(i % 5), 0.1 + 0.15 * f64::from(i % 3));
            let (x, y) = (
                (1.0 - w) * f64::from(i % 7) / 6.0,
                (1.0 - h) * f64::from(i % 4) / 3.0,
            );
            let [cx, cy, w, h] = numbers(x, y, w, h);
            [
                (cx - w / 2.0) * 64.0,
                (cy - h / 2.0) * 48.0,
                w * 64.0,
                h * 48.0,
            ]
        });
        boxes.collect()
    }

    #[test]
    fn corners_and_upper_left_points_in_the_place_of_centers_are_refused() {
        let check = |boxes: Vec<[f64; 4]>| {
            let boxes = boxes.into_iter().map(|numbers| (numbers, None));
            checked_in(BoxConvention::CenterFractions, boxes)
        };
        let centers = read_as_centers(|x, y, w, h| [x + w / 2.0, y + h / 2.0, w, h]);
        assert_eq!(check(centers.clone()), Ok(None));
        // Annotators exceed the image a little, and some boxes are wrong.
        let moved = centers.iter().map(|[x, y, w, h]| [x - 2.0, *y, *w, *h]);
        assert_eq!(check(moved.collect()), Ok(None));
        let wrong = (0..).zip(&centers);
        let wrong = wrong.map(|(at, numbers)| {
            if at % 4 == 0 {
                [-30.0, 0.0, 60.0, 40.0]
            } else {
                *numbers
            }
        });
        assert_eq!(check(wrong.collect()), Ok(None));
        let message = check(read_as_centers(|x, y, w, h| [x, y, x + w, y + h])).unwrap_err();
        assert!(
            message.starts_with(
                "a.json: 40 of 40 boxes fit their images as [x1, y1, x2, y2] in fractions of the image size, not as \
                 [center x, center y, width, height] in fractions of the image size, such as [0"
            ),
            "{message}"
        );
        // Of small boxes, too few exceed their image; they are not recognized.
        assert_eq!(check(read_as_centers(|x, y, w, h| [x, y, w, h])), Ok(None));
        let larger = |start: f64, side: f64| start * (1.0 - 1.6 * side) / (1.0 - side);
        let boxes = read_as_centers(|x, y, w, h| [larger(x, w), larger(y, h), 1.6 * w, 1.6 * h]);
        let message = check(boxes).unwrap_err();
        assert!(
            message.starts_with(
                "a.json: 40 of 40 boxes fit their images as [x, y, width, height] in fractions of the image size"
            ),
            "{message}"
        );
    }

    #[test]
    fn fractions_are_sizes_if_they_fit_as_nothing_else() {
        let are_sizes = |numbers: &dyn Fn([f64; 4]) -> [f64; 4]| {
            let mut fit = BoxFit::new(BoxConvention::Sizes);
            for i in 0..40 {
                let (w, h) = (0.1 + 0.1 * f64::from(i % 5), 0.1 + 0.15 * f64::from(i % 3));
                let x = (1.0 - w) * f64::from(i % 7) / 6.0;
                let y = (1.0 - h) * f64::from(i % 4) / 3.0;
                fit.add(ImageSize::new(48, 64), numbers([x, y, w, h]), None);
            }
            match fit.mismatch().map(|found| found.convention) {
                Some(BoxConvention::SizeFractions) => true,
                Some(BoxConvention::Fractions) => false,
                other => panic!("{other:?}"),
            }
        };
        assert!(are_sizes(&|numbers| numbers));
        assert!(!are_sizes(&|[x, y, w, h]| [x, y, x + w, y + h]));
        assert!(!are_sizes(&|[x, y, w, h]| [x + w / 2.0, y + h / 2.0, w, h]));
        // Small boxes in the middle may be both.
        assert!(!are_sizes(&|[x, y, w, h]| [
            0.3 + x / 3.0,
            0.3 + y / 3.0,
            w / 4.0,
            h / 4.0
        ]));
    }

    #[test]
    fn corners_in_the_upper_left_are_recognized_by_their_areas() {
        // As sizes, these boxes are in their images, too.
        let boxes = |area: fn(f64) -> f64| {
            let boxes = (0..20).map(f64::from);
            boxes.map(move |i| ([i, 2.0, i + 10.0, 22.0], Some(area(i))))
        };
        let message = checked_with_areas(boxes(|_| 200.0)).unwrap_err();
        assert!(message.contains("20 of 20 boxes fit"), "{message}");
        assert!(message.contains("such as [0, 2, 10, 22]"), "{message}");
        // The area of the sizes, and that of an outline.
        assert_eq!(checked_with_areas(boxes(|i| (i + 10.0) * 22.0)), Ok(None));
        assert_eq!(checked_with_areas(boxes(|_| 123.0)), Ok(None));
    }

    #[test]
    fn corners_and_fractions_are_refused_with_their_number_and_an_example() {
        let corners = |count: u32| (0..count).map(|i| [f64::from(i), 20.0, 40.0, 45.0]);
        assert_eq!(
            checked(corners(20)).unwrap_err(),
            "a.json: 20 of 20 boxes fit their images as [x1, y1, x2, y2] in pixels, not as \
             [x, y, width, height] in pixels, such as [0, 20, 40, 45]; they fit as [y1, x1, y2, x2] in pixels, too"
        );
        let fractions = (0..10).map(|i| [0.1, 0.2, 0.3, f64::from(i) / 20.0]);
        assert_eq!(
            checked(fractions).unwrap_err(),
            "a.json: 10 of 10 boxes fit their images as [x, y, width, height] in fractions of the image size, not as \
             [x, y, width, height] in pixels, such as [0.1, 0.2, 0.3, 0]"
        );
        // Too few boxes, and boxes that fit both ways.
        assert_eq!(checked(corners(9)), Ok(None));
        assert_eq!(
            checked((0..20).map(|i| [f64::from(i), 2.0, 30.0, 40.0])),
            Ok(None)
        );
    }

    /// Returns right boxes all over an image of 64x48; many touch its edges.
    fn all_over(count: u32) -> Vec<[f64; 4]> {
        let boxes = (0..count).map(|i| {
            let (w, h) = (f64::from(6 + i * 7 % 30), f64::from(5 + i * 5 % 25));
            let [x, y] = [f64::from(i * 13 % 11) / 10.0, f64::from(i * 17 % 7) / 6.0];
            [x * (64.0 - w), y * (48.0 - h), w, h]
        });
        boxes.collect()
    }

    fn written_as(convention: BoxConvention, [x, y, w, h]: [f64; 4]) -> [f64; 4] {
        match convention {
            BoxConvention::Corners => [x, y, x + w, y + h],
            BoxConvention::SwappedCorners => [y, x, y + h, x + w],
            BoxConvention::Centers => [x + w / 2.0, y + h / 2.0, w, h],
            BoxConvention::SwappedSizes => [y, x, h, w],
            BoxConvention::OppositeCorners => [x + w, y + h, x, y],
            _ => [x, y, w, h],
        }
    }

    #[test]
    fn every_convention_is_read_as_it_is_written() {
        for convention in IN_PIXELS {
            let numbers = written_as(convention, [3.0, 5.0, 8.0, 6.0]);
            assert_eq!(convention.to_xywh(numbers), Some([3.0, 5.0, 8.0, 6.0]));
        }
    }

    #[test]
    fn centers_and_swapped_numbers_in_pixels_are_named() {
        for convention in IN_PIXELS.into_iter().take(INSTEAD_OF_SIZES) {
            let written = |numbers| written_as(convention, numbers);
            let message = checked(all_over(80).into_iter().map(written)).unwrap_err();
            let expected = format!(
                "a.json: 80 of 80 boxes fit their images as {convention}, not as [x, y, width, height] in pixels"
            );
            assert!(message.starts_with(&expected), "{message}");
            // One wrong box of eighty.
            let boxes = all_over(79).into_iter().map(written);
            let message = checked(boxes.chain([[60.0, 40.0, 200.0, 1.0]])).unwrap_err();
            assert!(message.contains(&format!("79 of 80 boxes fit their images as {convention}")));
        }
    }

    #[test]
    fn right_boxes_raise_no_suspicion_whatever_they_touch() {
        assert_eq!(checked(all_over(80).into_iter()), Ok(None));
        // Annotators exceed the edges.
        let moved = |by: f64| {
            let boxes = all_over(80).into_iter();
            boxes.map(move |[x, y, w, h]| [x + by, y + by, w, h])
        };
        assert_eq!(checked(moved(3.0)), Ok(None));
        // A fifth of the boxes is that of another image.
        let wrong = (0..20).map(|i| [40.0 + f64::from(i), 30.0, 50.0, 40.0]);
        assert_eq!(checked(all_over(80).into_iter().chain(wrong)), Ok(None));
        // Objects in the middle that fit in every convention, and whole images.
        assert_eq!(checked((0..40).map(|_| [28.0, 20.0, 8.0, 8.0])), Ok(None));
        assert_eq!(checked((0..40).map(|_| [0.0, 0.0, 64.0, 48.0])), Ok(None));
        // Boxes that include hidden parts, on all sides.
        let hidden = all_over(80).into_iter();
        let hidden = hidden.map(|[x, y, w, h]| [x - w * 0.3, y - h * 0.3, w * 1.6, h * 1.6]);
        assert_eq!(checked(hidden), Ok(None));
    }

    #[test]
    fn centers_of_small_boxes_are_noted() {
        // Of these, few are at an edge.
        let small = (0..400).map(|i| {
            let [x, y] = [f64::from(i * 7 % 43), f64::from(i * 11 % 31)];
            [2.0 + x * 1.4, 2.0 + y * 1.4, 4.0, 4.0]
        });
        let at_edge = (0..12).map(|i| [62.0, f64::from(2 + i), 4.0, 4.0]);
        assert_eq!(
            checked(small.chain(at_edge)).unwrap().unwrap(),
            "12 of 412 boxes exceed their images far, and 412 fit as [center x, center y, width, height] in pixels, \
             such as [62, 2, 4, 4]"
        );
    }

    #[test]
    fn corners_that_fit_in_both_orders_say_so() {
        let square = |numbers: [f64; 4]| (ImageSize::new(48, 48), numbers);
        let mut fit = BoxFit::new(BoxConvention::Sizes);
        for [x, y, w, h] in all_over(40) {
            let (size, numbers) = square([x * 0.7, y, x * 0.7 + w * 0.7, y + h]);
            fit.add(size, numbers, None);
        }
        let found = fit.mismatch().unwrap();
        assert_eq!(found.convention, BoxConvention::Corners);
        assert_eq!(found.alternative, Some(BoxConvention::SwappedCorners));
        let text = found.to_string();
        assert!(
            text.ends_with("; they fit as [y1, x1, y2, x2] in pixels, too"),
            "{text}"
        );
    }

    #[test]
    fn percentages_are_refused_if_they_are_all_over_and_noted_otherwise() {
        let fit_on = |size: ImageSize, expected, scale: f64, of: fn(&[f64; 4]) -> bool| {
            let mut fit = BoxFit::new(expected);
            for [x, y, w, h] in all_over(60).into_iter().filter(of) {
                let [x, w] = [x, w].map(|value| value * scale / 64.0);
                let [y, h] = [y, h].map(|value| value * scale / 48.0);
                fit.add(size, [x, y, w, h], None);
            }
            fit.check(Path::new("a.json"))
                .map_err(|error| error.to_string())
        };
        let all: fn(&[f64; 4]) -> bool = |_| true;
        let large = ImageSize::new(480, 640);
        for expected in [BoxConvention::Sizes, BoxConvention::Corners] {
            let message = fit_on(large, expected, 100.0, all).unwrap_err();
            assert!(
                message.starts_with(
                    "a.json: 60 of 60 boxes fit their images as percentages of the image size, not as ["
                ),
                "{message}"
            );
            // All in the upper left of what percentages would be.
            let note = fit_on(large, expected, 100.0, |[x, _, w, _]| x + w < 40.0).unwrap();
            let note = note.unwrap();
            assert!(note.ends_with(']') && note.contains("so they may be percentages"));
        }
        // Boxes that were drawn in whole pixels, in the upper left.
        let mut whole = BoxFit::new(BoxConvention::Sizes);
        for numbers in all_over(60) {
            whole.add(large, numbers.map(f64::round), None);
        }
        assert!(whole.mismatch().is_none_or(|found| !found.is_certain));
        // Small images, and boxes that are larger.
        let small = ImageSize::new(120, 120);
        assert_eq!(fit_on(small, BoxConvention::Sizes, 100.0, all), Ok(None));
        assert_eq!(fit_on(large, BoxConvention::Sizes, 300.0, all), Ok(None));
    }

    #[test]
    fn sizes_and_the_opposite_corner_in_the_place_of_corners_are_named() {
        for convention in [BoxConvention::Sizes, BoxConvention::OppositeCorners] {
            // As a reader of corners understands them.
            let boxes = all_over(60).into_iter().map(|numbers| {
                let [a, b, c, d] = written_as(convention, numbers);
                ([a, b, c - a, d - b], None)
            });
            let message = checked_in(BoxConvention::Corners, boxes).unwrap_err();
            let expected = format!(
                "a.json: 60 of 60 boxes fit their images as {convention}, not as [x1, y1, x2, y2] in pixels, such as ["
            );
            assert!(message.starts_with(&expected), "{message}");
        }
    }
}
