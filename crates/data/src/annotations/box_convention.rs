//! What the four numbers of boxes mean: some programs write corners or fractions in the place of COCO's
//! `[x, y, width, height]` in pixels.
//!
//! Training, evaluation and the checker decide with the same rule.

use std::path::Path;

use crate::DataError;
use crate::annotations::AnnotationStore;
use crate::boxes::{BoxConvention, EDGE_TOLERANCE, ImageSize};

/// From fewer boxes, the meaning of their numbers cannot be inferred.
pub(crate) const FEWEST_BOXES: usize = 10;

/// How well the boxes of a file fit their images in each convention.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BoxFit {
    /// Whether the format stores `[x, y, width, height]`, so that corners may be in their place.
    stores_sizes: bool,
    boxes: usize,
    /// Boxes that exceed their image as sizes, by far more than annotators do.
    far_beyond: usize,
    /// Boxes whose area is that of corners, and not that of sizes.
    with_area_of_corners: usize,
    as_corners: usize,
    at_most_one: usize,
    /// Those of them that are no whole numbers.
    parts_of_one: usize,
    /// The first box that shows that the numbers are corners, and that they are fractions.
    examples: [Option<[f64; 4]>; 2],
}

impl BoxFit {
    /// No boxes yet. `stores_sizes` is whether the format stores `[x, y, width, height]`; boxes of a format that stores
    /// corners are not examined for corners.
    pub(crate) fn new(stores_sizes: bool) -> Self {
        Self {
            stores_sizes,
            ..Self::default()
        }
    }

    /// Adds a box on an image of a size; `area` is that in the annotations, if there is one.
    pub(crate) fn add(&mut self, size: ImageSize, numbers: [f64; 4], area: Option<f64>) {
        /// Boxes of annotators exceed an image by less than this share of its side, and so do corners of objects at the
        /// edge; corners that are read as sizes exceed it by more, unless they are in the upper left.
        const FAR: f64 = 0.05;
        let [a, b, c, d] = numbers;
        let (width, height) = (size.width as f64, size.height as f64);
        let [beyond_x, beyond_y] = [width, height].map(|side| EDGE_TOLERANCE + FAR * side);
        let is_far_beyond = a + c > width + beyond_x || b + d > height + beyond_y;
        // A box without area has equal corners.
        let is_as_corners = a >= -beyond_x
            && b >= -beyond_y
            && (a..=width + beyond_x).contains(&c)
            && (b..=height + beyond_y).contains(&d);
        let has_area = |expected: f64| area.is_some_and(|area| is_near(area, expected));
        let has_area_of_corners = has_area((c - a) * (d - b)) && !has_area(c * d);
        let is_at_most_one = numbers.iter().all(|value| (0.0..=1.0).contains(value));
        self.boxes += 1;
        self.far_beyond += usize::from(is_far_beyond);
        self.with_area_of_corners += usize::from(has_area_of_corners);
        self.as_corners += usize::from(is_as_corners);
        self.at_most_one += usize::from(is_at_most_one);
        let is_whole = numbers.iter().all(|value| value.fract() == 0.0);
        self.parts_of_one += usize::from(is_at_most_one && !is_whole);
        let shows_corners = is_as_corners && (is_far_beyond || has_area_of_corners);
        let shows = [shows_corners, is_at_most_one];
        for (example, shows) in self.examples.iter_mut().zip(shows) {
            if shows {
                example.get_or_insert(numbers);
            }
        }
    }

    /// Returns the convention that the boxes are in.
    pub(crate) fn convention(&self) -> BoxConvention {
        // The others are mistakes of their own.
        let nearly_all = |count: usize| count * 10 >= self.boxes * 9;
        // Of corners all over their images, seven of ten exceed them as sizes.
        let is_far_beyond = self.far_beyond * 10 >= self.boxes * 3;
        if self.boxes < FEWEST_BOXES {
            BoxConvention::Sizes
        } else if nearly_all(self.at_most_one) && self.parts_of_one * 2 >= self.at_most_one {
            BoxConvention::Fractions
        } else if self.stores_sizes
            && nearly_all(self.as_corners)
            && (is_far_beyond || nearly_all(self.with_area_of_corners))
        {
            BoxConvention::Corners
        } else {
            BoxConvention::Sizes
        }
    }

    /// Returns the number of boxes that fit their images in a convention other than COCO's, and one that shows it.
    pub(crate) fn evidence(&self, convention: BoxConvention) -> (usize, Option<[f64; 4]>) {
        let [corners, fractions] = self.examples;
        match convention {
            BoxConvention::Sizes => (self.boxes - self.far_beyond, None),
            BoxConvention::Corners => (self.as_corners, corners),
            BoxConvention::Fractions => (self.at_most_one, fractions),
        }
    }

    /// Checks that the boxes are `[x, y, width, height]` in pixels; `path` is the file in the error.
    ///
    /// # Errors
    /// Nearly all fit their images in another convention only.
    pub(crate) fn check(&self, path: &Path) -> Result<(), DataError> {
        let convention = self.convention();
        if convention == BoxConvention::Sizes {
            return Ok(());
        }
        let (fitting, example) = self.evidence(convention);
        Err(DataError::BoxConvention {
            path: path.to_owned(),
            convention,
            fitting,
            boxes: self.boxes,
            example: example.unwrap_or_default(),
        })
    }
}

/// Returns whether two areas are equal but for rounding.
pub(crate) fn is_near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-3 * a.abs()
}

/// Checks that the boxes of a store are `[x, y, width, height]` in pixels; `path` is the file in the error, and
/// `stores_sizes` whether its format has such boxes.
///
/// # Errors
/// Nearly all fit their images in another convention only.
pub(crate) fn check_box_convention(
    store: &AnnotationStore,
    path: &Path,
    stores_sizes: bool,
) -> Result<(), DataError> {
    let mut fit = BoxFit::new(stores_sizes);
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
        checked_in(true, boxes)
    }

    fn checked_in(
        stores_sizes: bool,
        boxes: impl Iterator<Item = ([f64; 4], Option<f64>)>,
    ) -> Result<(), String> {
        let mut fit = BoxFit::new(stores_sizes);
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
        assert!(checked_in(true, boxes()).is_err());
        assert_eq!(checked_in(false, boxes()), Ok(()));
        let fractions = || (0..20).map(|i| ([0.1, 0.2, 0.3, f64::from(i) / 20.0], None));
        assert!(checked_in(false, fractions()).is_err());
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
            "a.json: 10 of 10 boxes fit their images as fractions of the image size, not as \
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
