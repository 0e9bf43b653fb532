//! What the four numbers of boxes mean: some programs write corners, fractions or other points than those of the
//! format.
//!
//! Training, evaluation and the checker decide with the same rule.

use std::path::Path;

use crate::DataError;
use crate::annotations::AnnotationStore;
use crate::boxes::{BoxConvention, EDGE_TOLERANCE, ImageSize};

/// From fewer boxes, the meaning of their numbers cannot be inferred.
pub(crate) const FEWEST_BOXES: usize = 10;

/// The numbers of boxes of a file that fit their images in each convention.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BoxFit {
    /// The convention of the format.
    expected: BoxConvention,
    boxes: usize,
    /// Boxes that exceed their image as the format has them, by far more than annotators do.
    far_beyond: usize,
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
}

impl BoxFit {
    /// No boxes yet. `expected` is the convention of the format. Corners instead of sizes are recognized; sizes
    /// instead of corners are not.
    pub(crate) fn new(expected: BoxConvention) -> Self {
        Self {
            expected,
            boxes: 0,
            far_beyond: 0,
            with_area_of_corners: 0,
            as_corners: 0,
            as_sizes: 0,
            at_most_one: 0,
            parts_of_one: 0,
            fractions_as: [0; 3],
            examples: [None; 3],
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
        let is_at_most_one = xywh.iter().all(|value| (0.0..=1.0).contains(value));
        self.boxes += 1;
        self.far_beyond += usize::from(is_far_beyond);
        self.with_area_of_corners += usize::from(has_area_of_corners);
        self.as_corners += usize::from(is_as_corners);
        self.as_sizes += usize::from(is_as_sizes);
        self.at_most_one += usize::from(is_at_most_one);
        if is_at_most_one {
            let is_whole = xywh.iter().all(|value| value.fract() == 0.0);
            self.parts_of_one += usize::from(!is_whole);
            let [edge_x, edge_y] = [width, height].map(|side| EDGE_TOLERANCE / side);
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

    /// Returns the convention that the boxes are in.
    pub(crate) fn convention(&self) -> BoxConvention {
        // The others are mistakes of their own.
        let nearly_all = |count: usize| count * 10 >= self.boxes * 9;
        // Of corners all over their images, seven of ten exceed them as sizes and as centers. Upper left points that are
        // read as centers exceed them only where boxes are large; others look like centers.
        let is_far_beyond = self.far_beyond * 10 >= self.boxes * 3;
        if self.boxes < FEWEST_BOXES {
            return self.expected;
        }
        if nearly_all(self.at_most_one) && self.parts_of_one * 2 >= self.at_most_one {
            return match self.expected {
                BoxConvention::Sizes if self.fractions_are_sizes() => BoxConvention::SizeFractions,
                _ => BoxConvention::Fractions,
            };
        }
        match self.expected {
            BoxConvention::Sizes
                if nearly_all(self.as_corners)
                    && (is_far_beyond || nearly_all(self.with_area_of_corners)) =>
            {
                BoxConvention::Corners
            }
            BoxConvention::CenterFractions if is_far_beyond && nearly_all(self.as_corners) => {
                BoxConvention::CornerFractions
            }
            BoxConvention::CenterFractions if is_far_beyond && nearly_all(self.as_sizes) => {
                BoxConvention::SizeFractions
            }
            expected => expected,
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

    /// Returns the number of boxes that fit their images in a convention other than that of the format, and one that
    /// shows it, with the numbers of the file.
    pub(crate) fn evidence(&self, convention: BoxConvention) -> (usize, Option<[f64; 4]>) {
        let [corners, sizes, fractions] = self.examples;
        match convention {
            BoxConvention::Corners | BoxConvention::CornerFractions => (self.as_corners, corners),
            BoxConvention::SizeFractions if self.expected == BoxConvention::CenterFractions => {
                (self.as_sizes, sizes)
            }
            BoxConvention::SizeFractions | BoxConvention::Fractions => {
                (self.at_most_one, fractions)
            }
            BoxConvention::Sizes | BoxConvention::CenterFractions => {
                (self.boxes - self.far_beyond, None)
            }
        }
    }

    /// Checks that the boxes are in the convention of the format; `path` is the file in the error.
    ///
    /// # Errors
    /// Nearly all fit their images in another convention only.
    pub(crate) fn check(&self, path: &Path) -> Result<(), DataError> {
        let (convention, expected) = (self.convention(), self.expected);
        if convention == expected {
            return Ok(());
        }
        let (fitting, example) = self.evidence(convention);
        Err(DataError::BoxConvention {
            path: path.to_owned(),
            convention,
            expected,
            fitting,
            boxes: self.boxes,
            example: example.unwrap_or_default(),
        })
    }
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

/// Checks that the boxes of a store are in the convention of its format; `path` is the file in the error.
///
/// # Errors
/// Nearly all fit their images in another convention only.
pub(crate) fn check_box_convention(
    store: &AnnotationStore,
    path: &Path,
    expected: BoxConvention,
) -> Result<(), DataError> {
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

    fn checked(boxes: impl Iterator<Item = [f64; 4]>) -> Result<(), String> {
        checked_with_areas(boxes.map(|numbers| (numbers, None)))
    }

    fn checked_with_areas(
        boxes: impl Iterator<Item = ([f64; 4], Option<f64>)>,
    ) -> Result<(), String> {
        checked_in(BoxConvention::Sizes, boxes)
    }

    fn checked_in(
        expected: BoxConvention,
        boxes: impl Iterator<Item = ([f64; 4], Option<f64>)>,
    ) -> Result<(), String> {
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
        assert_eq!(checked(boxes(2.0)), Ok(()));
        // Three of ten by far.
        let some = (0..20).map(|i| [2.0, 2.0, if i % 4 == 0 { 66.0 } else { 60.0 }, 44.0]);
        assert_eq!(checked(some), Ok(()));
        // Boxes of a pixel in the corner of their image are no fractions.
        assert_eq!(checked((0..20).map(|_| [0.0, 0.0, 1.0, 1.0])), Ok(()));
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
        assert_eq!(checked_in(BoxConvention::Corners, boxes()), Ok(()));
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
        assert_eq!(check(centers.clone()), Ok(()));
        // Annotators exceed the image a little, and some boxes are wrong.
        let moved = centers.iter().map(|[x, y, w, h]| [x - 2.0, *y, *w, *h]);
        assert_eq!(check(moved.collect()), Ok(()));
        let wrong = (0..).zip(&centers);
        let wrong = wrong.map(|(at, numbers)| {
            if at % 4 == 0 {
                [-30.0, 0.0, 60.0, 40.0]
            } else {
                *numbers
            }
        });
        assert_eq!(check(wrong.collect()), Ok(()));
        let message = check(read_as_centers(|x, y, w, h| [x, y, x + w, y + h])).unwrap_err();
        assert!(
            message.starts_with(
                "a.json: 40 of 40 boxes fit their images as [x1, y1, x2, y2] in fractions of the image size, not as \
                 [center x, center y, width, height] in fractions of the image size, such as [0"
            ),
            "{message}"
        );
        // Of small boxes, too few exceed their image; they are not recognized.
        assert_eq!(check(read_as_centers(|x, y, w, h| [x, y, w, h])), Ok(()));
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
            match fit.convention() {
                BoxConvention::SizeFractions => true,
                BoxConvention::Fractions => false,
                other => panic!("{other}"),
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
        assert!(message.ends_with("such as [0, 2, 10, 22]"), "{message}");
        // The area of the sizes, and that of an outline.
        assert_eq!(checked_with_areas(boxes(|i| (i + 10.0) * 22.0)), Ok(()));
        assert_eq!(checked_with_areas(boxes(|_| 123.0)), Ok(()));
    }

    #[test]
    fn corners_and_fractions_are_refused_with_their_number_and_an_example() {
        let corners = |count: u32| (0..count).map(|i| [f64::from(i), 20.0, 40.0, 45.0]);
        assert_eq!(
            checked(corners(20)).unwrap_err(),
            "a.json: 20 of 20 boxes fit their images as [x1, y1, x2, y2] in pixels, not as \
             [x, y, width, height] in pixels, such as [0, 20, 40, 45]"
        );
        let fractions = (0..10).map(|i| [0.1, 0.2, 0.3, f64::from(i) / 20.0]);
        assert_eq!(
            checked(fractions).unwrap_err(),
            "a.json: 10 of 10 boxes fit their images as [x, y, width, height] in fractions of the image size, not as \
             [x, y, width, height] in pixels, such as [0.1, 0.2, 0.3, 0]"
        );
        // Too few boxes, and boxes that fit both ways.
        assert_eq!(checked(corners(9)), Ok(()));
        assert_eq!(
            checked((0..20).map(|i| [f64::from(i), 2.0, 30.0, 40.0])),
            Ok(())
        );
    }
}
