//! What the four numbers of boxes mean: some programs write corners, fractions, another order or other points than
//! those of the format.
//!
//! Training, evaluation and the checker decide with the same rule.

use std::path::Path;

use crate::DataError;
use crate::annotations::AnnotationStore;
use crate::box_conventions::{BoxConvention, BoxOrder, BoxUnit, ConventionMismatch, MismatchCause};
use crate::boxes::{EDGE_TOLERANCE, ImageSize};

/// From fewer boxes, the order of their numbers cannot be inferred.
const FEWEST_BOXES: usize = 10;

/// The image in the unit of the numbers of a file.
#[derive(Debug, Clone, Copy)]
struct Frame {
    /// The numbers that are the width and the height of the image.
    whole: [f64; 2],
    /// By how much a box that is rounded, or counts from 1, exceeds it.
    tolerance: [f64; 2],
}

impl Frame {
    fn of(size: ImageSize, unit: BoxUnit) -> Self {
        let whole = unit.whole(size);
        let pixels = BoxUnit::Pixels.whole(size);
        Self {
            whole,
            tolerance: [0, 1].map(|axis| EDGE_TOLERANCE * whole[axis] / pixels[axis]),
        }
    }

    fn fit(&self, [x, y, w, h]: [f64; 4]) -> Fit {
        /// The share of its own side by which a box of an annotator does not exceed its image. A center in the place
        /// of the left edge moves a box by half of its side.
        const OF_SIDE: f64 = 0.2;
        /// The share of the side of the image by which a box of an annotator does not exceed it. Corners that are
        /// read as sizes exceed it by more, unless they are in the upper left.
        const OF_IMAGE: f64 = 0.05;
        /// The share of the side of an object that is cut off by the edge of its image, at most.
        const HIDDEN: f64 = 0.5;
        let mut fit = Fit::default();
        let (mut edge, mut edges, mut is_cut) = (None, 0, true);
        for (axis, (start, side)) in [(x, w), (y, h)].into_iter().enumerate() {
            let (whole, tolerance) = (self.whole[axis], self.tolerance[axis]);
            let beyond = [-start, start + side - whole];
            let excess = beyond[0].max(beyond[1]);
            fit.is_reversed |= side < 0.0;
            fit.is_empty |= side <= 0.0;
            fit.exceeds |= excess > tolerance;
            fit.exceeds_by_side |= excess > tolerance.max(OF_SIDE * side);
            for (end, excess) in beyond.into_iter().enumerate() {
                if excess > tolerance.max(OF_SIDE * side) {
                    edge = Some(2 * axis + end);
                    edges += 1;
                    is_cut &= excess <= tolerance + HIDDEN * side;
                }
            }
            fit.exceeds_by_image |= excess > tolerance + OF_IMAGE * whole;
            fit.is_outside |= start >= whole || start + side <= 0.0;
        }
        fit.cut_by = edge.filter(|_| edges == 1 && is_cut && !fit.is_reversed);
        fit
    }
}

/// How a box fits its image.
#[derive(Debug, Clone, Copy, Default)]
struct Fit {
    is_reversed: bool,
    /// Whether the box has no area.
    is_empty: bool,
    /// Whether it exceeds the image by more than a rounded box.
    exceeds: bool,
    /// Whether it exceeds the image by much of its own side, and by much of that of the image.
    exceeds_by_side: bool,
    exceeds_by_image: bool,
    /// Whether no part of it is in the image.
    is_outside: bool,
    /// The only edge of the image that the box exceeds by much of its own side, if it may be that of an object that this
    /// edge cuts off: left, right, upper, lower.
    cut_by: Option<usize>,
}

/// How boxes fit their images in one order of their numbers.
#[derive(Debug, Clone, Copy, Default)]
struct Reading {
    /// Boxes with a part outside of their image, or a negative side.
    misfits: usize,
    /// Those of them that exceed it by much of its side, or have a negative side.
    far_misfits: usize,
    /// Boxes whose area in the annotations is that of this order, and not that of the format.
    by_area: usize,
    /// Boxes that are wrong as the format has them, and fit in this order.
    wrong_that_fit: usize,
    /// The first box that fits, and not in the order of the format.
    example: Option<[f64; 4]>,
}

/// The readings in all orders, as in [`BoxOrder::ALL`].
type Readings = [Reading; BoxOrder::ALL.len()];

/// How the boxes of a file fit their images in each convention.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BoxFit {
    /// The convention of the format.
    expected: BoxConvention,
    boxes: usize,
    /// Boxes that exceed their image by much of their own side as the format has them, or have a negative side.
    wrong: usize,
    /// Boxes that exceed their image by much of its side, or have a negative side.
    far: usize,
    /// Boxes without a part in their image, or with a negative side.
    lost: usize,
    /// Boxes that are wrong or have no area.
    unusable: usize,
    /// Boxes with a negative side, which no right box has.
    reversed: usize,
    /// Boxes of objects that may be cut off by one edge of the image, for each edge.
    cut: [usize; 4],
    /// The first box that is lost, and that is unusable.
    examples: [Option<[f64; 4]>; 2],
    /// In the unit of the format.
    readings: Readings,
    fractions: Fractions,
    percentages: Percentages,
}

/// Boxes whose numbers are at most 1.
#[derive(Debug, Clone, Copy, Default)]
struct Fractions {
    boxes: usize,
    /// Those of them that are no whole numbers.
    parts_of_one: usize,
    readings: Readings,
    example: Option<[f64; 4]>,
}

impl Fractions {
    /// Adds a box with the numbers of the file.
    fn add(&mut self, size: ImageSize, numbers: [f64; 4]) {
        if !numbers.iter().all(|value| (0.0..=1.0).contains(value)) {
            return;
        }
        self.boxes += 1;
        // Boxes of a pixel that were converted are whole but for rounding.
        let is_whole = numbers
            .iter()
            .all(|value| (value - value.round()).abs() < 1e-3);
        self.parts_of_one += usize::from(!is_whole);
        self.example.get_or_insert(numbers);
        let frame = Frame::of(size, BoxUnit::Fractions);
        for (reading, order) in self.readings.iter_mut().zip(BoxOrder::ALL) {
            let fit = frame.fit(order.to_xywh(numbers));
            reading.misfits += usize::from(fit.exceeds || fit.is_reversed);
        }
    }

    /// Returns the usual order that nearly all boxes fit in, if it is the only one.
    ///
    /// Small boxes in the middle of their images may be sizes and centers, and those in the upper left corners, too.
    fn order(&self) -> Option<BoxOrder> {
        let fits = |order: &BoxOrder| self.readings[*order as usize].misfits * 10 <= self.boxes;
        let mut fitting = BoxOrder::USUAL.into_iter().filter(fits);
        let first = fitting.next();
        first.filter(|_| fitting.next().is_none())
    }
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
            wrong: 0,
            far: 0,
            lost: 0,
            unusable: 0,
            reversed: 0,
            cut: [0; 4],
            examples: [None; 2],
            readings: Readings::default(),
            fractions: Fractions::default(),
            percentages: Percentages::default(),
        }
    }

    /// Adds all boxes of a store.
    pub(crate) fn of(store: &AnnotationStore, expected: BoxConvention) -> Self {
        let mut fit = Self::new(expected);
        for index in 0..store.image_count() {
            let size = store.image(index).size;
            for numbers in store.numbers(index) {
                let (numbers, area) = numbers.as_f64();
                fit.add(size, numbers, Some(area));
            }
        }
        fit
    }

    /// Adds a box on an image of a size, `[x, y, width, height]` in pixels as the reader of the format understands it;
    /// `area` is that in the annotations, if there is one.
    pub(crate) fn add(
        &mut self,
        size: ImageSize,
        xywh @ [x, y, w, h]: [f64; 4],
        area: Option<f64>,
    ) {
        let numbers = in_file(self.expected, size, xywh);
        let frame = Frame::of(size, self.expected.unit);
        let own = self.expected.order.to_xywh(numbers);
        let fit = frame.fit(own);
        let is_wrong = fit.exceeds_by_side || fit.is_reversed;
        let is_far = fit.exceeds_by_image || fit.is_reversed;
        let is_lost = fit.is_outside && !fit.is_empty || fit.is_reversed;
        let is_unusable = is_wrong || fit.is_empty;
        self.boxes += 1;
        self.wrong += usize::from(is_wrong);
        self.far += usize::from(is_far);
        self.lost += usize::from(is_lost);
        self.unusable += usize::from(is_unusable);
        self.reversed += usize::from(fit.is_reversed);
        if let Some(edge) = fit.cut_by {
            self.cut[edge] += 1;
        }
        for (example, shows) in self.examples.iter_mut().zip([is_lost, is_unusable]) {
            if shows {
                example.get_or_insert(numbers);
            }
        }
        let has_area = |xywh: [f64; 4]| area.is_some_and(|area| is_area_of(area, xywh));
        let has_own_area = has_area(own);
        for (reading, order) in self.readings.iter_mut().zip(BoxOrder::ALL) {
            let other = order.to_xywh(numbers);
            let fit = frame.fit(other);
            let is_far_misfit = fit.exceeds_by_image || fit.is_reversed;
            let is_by_area = has_area(other) && !has_own_area && !fit.is_reversed;
            reading.misfits += usize::from(fit.exceeds || fit.is_reversed);
            reading.far_misfits += usize::from(is_far_misfit);
            reading.by_area += usize::from(is_by_area);
            reading.wrong_that_fit += usize::from(is_wrong && !fit.exceeds && !fit.is_reversed);
            if !is_far_misfit && (is_wrong || is_far || is_by_area) {
                reading.example.get_or_insert(numbers);
            }
        }
        if self.expected.unit == BoxUnit::Pixels {
            self.fractions.add(size, numbers);
            self.percentages.add(size, numbers, [x + w, y + h]);
        }
    }

    /// Returns how the boxes are in another convention than that of the format, or do not fit their images for another
    /// reason, if they are.
    pub(crate) fn mismatch(&self) -> Option<ConventionMismatch> {
        let percentages = self.as_percentages();
        let certain = percentages.filter(|found| found.is_certain);
        self.as_fractions()
            .or(certain)
            .or_else(|| self.other_order())
            .or_else(|| self.mixed())
            .or_else(|| self.unexplained())
            .or(percentages)
    }

    /// Returns the number of boxes that are not within their images as the format has them.
    pub(crate) fn misfits(&self) -> usize {
        self.readings[self.expected.order as usize].misfits
    }

    /// Returns whether a count is that of nearly all boxes. The others are mistakes of their own.
    fn nearly_all(&self, count: usize) -> bool {
        count * 10 >= self.boxes * 9
    }

    /// Returns whether a count is a large share of the boxes, and not of a few of them.
    fn is_large_share(&self, count: usize) -> bool {
        count >= 10 && count * 5 > self.boxes || count >= 3 && count * 2 > self.boxes
    }

    /// Returns a mismatch that is certain.
    fn found(
        &self,
        cause: MismatchCause,
        fitting: usize,
        example: Option<[f64; 4]>,
    ) -> ConventionMismatch {
        ConventionMismatch {
            cause,
            expected: self.expected,
            fitting,
            misfits: self.wrong,
            boxes: self.boxes,
            example: example.unwrap_or_default(),
            is_certain: true,
            are_sizes_known: false,
            turned_images: 0,
        }
    }

    /// Returns the mismatch of boxes that are smaller than a pixel. One such box is enough if it is the only one: no
    /// object is that small.
    fn as_fractions(&self) -> Option<ConventionMismatch> {
        let Fractions {
            boxes,
            parts_of_one,
            example,
            ..
        } = self.fractions;
        if boxes == 0 || !self.nearly_all(boxes) || parts_of_one * 2 < boxes {
            return None;
        }
        let unit = BoxUnit::Fractions;
        let order = self.fractions.order().filter(|_| boxes >= FEWEST_BOXES);
        let cause = match order {
            None => MismatchCause::Unit(unit),
            Some(order) => MismatchCause::Convention {
                convention: BoxConvention::new(order, unit),
                // Whether x or y is first cannot be seen in fractions. Some frameworks write y first in corners.
                alternative: (order == BoxOrder::Corners).then_some(BoxOrder::SwappedCorners),
            },
        };
        Some(self.found(cause, boxes, example))
    }

    fn as_percentages(&self) -> Option<ConventionMismatch> {
        let Percentages { boxes, example, .. } = self.percentages;
        let is_possible = self.boxes >= FEWEST_BOXES && boxes * 100 >= self.boxes * 99;
        let cause = MismatchCause::Unit(BoxUnit::Percentages);
        is_possible.then(|| ConventionMismatch {
            is_certain: self.percentages.is_certain(),
            ..self.found(cause, boxes, example)
        })
    }

    /// Returns the other orders with their readings.
    fn others(&self) -> impl Iterator<Item = (&Reading, BoxOrder)> + Clone {
        let is_seen = |order: BoxOrder| {
            let is_square = self.expected.unit != BoxUnit::Pixels;
            order != self.expected.order && !(is_square && order.is_transposed())
        };
        let readings = self.readings.iter().zip(BoxOrder::ALL);
        readings.filter(move |(_, order)| is_seen(*order))
    }

    /// Returns the order in which the boxes fit, if they do not in that of the format.
    ///
    /// Right boxes touch the left and the upper edge as often as the others, and so would not fit in another order:
    /// boxes of annotators that include hidden parts exceed their images on all sides. The more boxes do not fit in the
    /// order of the format, the more may be mistakes of their own. Boxes that exceed one edge only, such as those of people
    /// whose legs are below the image, may be right and fit in another order by chance.
    fn other_order(&self) -> Option<ConventionMismatch> {
        let others = self.others();
        let has_areas = |reading: &Reading| {
            self.nearly_all(reading.by_area) && self.nearly_all(self.boxes - reading.far_misfits)
        };
        let by_area = others.clone().filter(|(reading, _)| has_areas(reading));
        let by_area = by_area.min_by_key(|(reading, _)| reading.misfits);
        let least = others.clone().min_by_key(|(reading, _)| reading.misfits);
        let (best, order) = by_area.or(least)?;
        let is_share =
            |fewest: usize, parts: usize| self.wrong >= fewest && self.wrong * parts >= self.boxes;
        let explains = best.misfits * 50 <= self.boxes && best.misfits * 10 <= self.wrong;
        let explains_most = best.far_misfits * 10 <= self.boxes.min(self.far);
        let is_enough = self.boxes >= FEWEST_BOXES;
        /// Fewer may be mistakes of their own.
        const FEWEST_REVERSED: usize = 3;
        let is_few = self.wrong >= 3 && best.misfits == 0;
        let are_many =
            explains && is_share(5, 20) || explains_most && self.far * 10 >= self.boxes * 3;
        let is_certain = is_enough
            && (by_area.is_some() || are_many && !self.are_cut_by_one_edge())
            || is_few && self.is_large_share(self.lost);
        let is_suspected = if is_enough {
            are_many || explains && (is_share(10, 50) || self.reversed >= FEWEST_REVERSED)
        } else {
            is_few
        };
        if !is_certain && !is_suspected {
            return None;
        }
        let mut equal = others.filter(|(reading, other)| {
            *other != order
                && reading.misfits == best.misfits
                && (by_area.is_none() || has_areas(reading))
        });
        let cause = MismatchCause::Convention {
            convention: BoxConvention::new(order, self.expected.unit),
            alternative: equal.next().map(|(_, other)| other),
        };
        Some(ConventionMismatch {
            is_certain,
            ..self.found(cause, self.boxes - best.far_misfits, best.example)
        })
    }

    /// Returns whether nearly all boxes that exceed their images may be those of objects that the same edge cuts off: of
    /// most objects, an annotator sees all.
    fn are_cut_by_one_edge(&self) -> bool {
        let most = self.cut.iter().max().copied().unwrap_or_default();
        most * 5 >= self.wrong * 4 && self.wrong * 2 <= self.boxes
    }

    /// Returns the mismatch of a file in which some boxes have the area of another order, or may be in one: they exceed
    /// their images far as the format has them, and nearly all of them fit in the other.
    ///
    /// The area of an outline is that of another order by chance, for one box of thousands. Large boxes that include hidden
    /// parts exceed their images, too, so without areas nothing is certain.
    fn mixed(&self) -> Option<ConventionMismatch> {
        /// Fewer may be such a chance, or mistakes of their own.
        const FEWEST: usize = 3;
        let of = |count: &dyn Fn(&Reading) -> usize, fewest: usize, is_certain: bool| {
            let most = self.others().map(|(reading, _)| count(reading)).max()?;
            if most < fewest || most * 50 < self.boxes {
                return None;
            }
            let mut orders = self.others().filter(|(reading, _)| count(reading) == most);
            let (reading, order) = orders.next()?;
            let cause = MismatchCause::Mixed {
                order,
                alternative: orders.next().map(|(_, order)| order),
            };
            Some(ConventionMismatch {
                is_certain,
                ..self.found(cause, most, reading.example)
            })
        };
        of(&|reading| reading.by_area, FEWEST, true).or_else(|| {
            let found = of(&|reading| reading.wrong_that_fit, FEWEST_BOXES, false);
            found.filter(|found| found.fitting * 10 >= self.wrong * 9)
        })
    }

    /// Returns the mismatch of boxes of which many cannot be used, and no order of their numbers explains it: they may be
    /// those of other images, or of another size of the images.
    ///
    /// Whole boxes are outside of their images by mistake only. Those that exceed them may include hidden parts.
    fn unexplained(&self) -> Option<ConventionMismatch> {
        let [lost, unusable] = self.examples;
        let of = |misfits, example, is_certain| ConventionMismatch {
            misfits,
            is_certain,
            ..self.found(MismatchCause::Unexplained, 0, example)
        };
        if self.is_large_share(self.lost) {
            Some(of(self.lost, lost, true))
        } else if self.is_large_share(self.unusable) {
            Some(of(self.unusable, unusable, false))
        } else {
            None
        }
    }

    /// Checks that the boxes are in the convention of the format; `path` is the file in the error. Returns a note
    /// if they may be in another.
    ///
    /// # Errors
    /// Nearly all fit their images in another convention only, or many are outside of their images.
    pub(crate) fn check(&self, path: &Path) -> Result<Option<String>, DataError> {
        self.mismatch()
            .map_or(Ok(None), |mismatch| judge(mismatch, path).map(Some))
    }
}

/// Returns the note on boxes that may be in another convention.
///
/// # Errors
/// They are.
pub(crate) fn judge(mismatch: ConventionMismatch, path: &Path) -> Result<String, DataError> {
    if mismatch.is_certain {
        return Err(DataError::BoxConvention {
            path: path.to_owned(),
            mismatch,
        });
    }
    Ok(mismatch.to_string())
}

/// Returns the numbers from which a reader computed `[x, y, width, height]`.
fn in_file(format: BoxConvention, size: ImageSize, xywh: [f64; 4]) -> [f64; 4] {
    if format == BoxConvention::SIZES {
        return xywh;
    }
    // Six digits: the boxes of these formats are in single precision.
    let rounded = |value: f64| format!("{value:.5e}").parse().unwrap_or(value);
    let (whole, pixels) = (format.unit.whole(size), BoxUnit::Pixels.whole(size));
    let [fx, fy] = [0, 1].map(|axis| whole[axis] / pixels[axis]);
    let [x, y, w, h] = xywh;
    let numbers = format.order.of_xywh([x * fx, y * fy, w * fx, h * fy]);
    numbers.map(rounded)
}

/// Returns whether two areas are equal but for rounding.
pub(crate) fn is_near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-3 * a.abs()
}

/// Returns whether an area is that of a box `[x, y, width, height]`.
pub(crate) fn is_area_of(area: f64, [_, _, w, h]: [f64; 4]) -> bool {
    is_near(area, w * h)
}

/// Returns whether boxes are those of another frame: at least `fewest` do not fit in theirs, and at most a tenth as many not
/// in the other.
pub(crate) fn are_of_other_frame(misfits: usize, of_other: usize, fewest: usize) -> bool {
    misfits >= fewest && of_other * 10 <= misfits
}

/// Returns whether a box `[x, y, width, height]` in pixels has a part outside of its image, or a negative side.
pub(crate) fn is_misfit(size: ImageSize, xywh: [f64; 4]) -> bool {
    let fit = Frame::of(size, BoxUnit::Pixels).fit(xywh);
    fit.exceeds || fit.is_reversed
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
        checked_in(BoxConvention::SIZES, boxes)
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
        assert!(checked_in(BoxConvention::SIZES, boxes()).is_err());
        let note = checked_in(BoxConvention::CORNERS, boxes())
            .unwrap()
            .unwrap();
        assert!(
            note.starts_with("20 of 20 boxes exceed their images far or"),
            "{note}"
        );
        // With the corners of the file, not the differences that were computed from them.
        let third = 0.4 - 0.1;
        let fractions = (0..20).map(|_| ([0.1, 0.2, third, 0.3], None));
        assert_eq!(
            checked_in(BoxConvention::CORNERS, fractions).unwrap_err(),
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
            checked_in(BoxConvention::CENTER_FRACTIONS, boxes)
        };
        let centers = read_as_centers(|x, y, w, h| [x + w / 2.0, y + h / 2.0, w, h]);
        assert_eq!(check(centers.clone()), Ok(None));
        // Annotators exceed the image a little, and some boxes are wrong.
        let moved = centers.iter().map(|[x, y, w, h]| [x - 2.0, *y, *w, *h]);
        assert_eq!(check(moved.collect()), Ok(None));
        let wrong = (0..).zip(&centers);
        let wrong = wrong.map(|(at, numbers)| {
            if at % 4 == 0 {
                [-50.0, 0.0, 60.0, 40.0]
            } else {
                *numbers
            }
        });
        let note = check(wrong.collect()).unwrap().unwrap();
        assert!(
            note.ends_with("and no other order of the numbers explains it"),
            "{note}"
        );
        let message = check(read_as_centers(|x, y, w, h| [x, y, x + w, y + h])).unwrap_err();
        assert!(
            message.starts_with(
                "a.json: 40 of 40 boxes fit their images as [x1, y1, x2, y2] in fractions of the image size, not as \
                 [center x, center y, width, height] in fractions of the image size, such as [0"
            ),
            "{message}"
        );
        for order in [
            BoxOrder::Sizes,
            BoxOrder::CrossedSizes,
            BoxOrder::PairedCorners,
            BoxOrder::OppositeCorners,
        ] {
            let boxes = read_as_centers(|x, y, w, h| order.of_xywh([x, y, w, h]));
            let message = check(boxes).unwrap_err();
            let expected = format!(
                "a.json: 40 of 40 boxes fit their images as {order} in fractions of the image size, not as"
            );
            assert!(message.starts_with(&expected), "{message}");
        }
    }

    #[test]
    fn fractions_have_an_order_if_they_fit_in_no_other_usual_one() {
        let cause = |numbers: &dyn Fn([f64; 4]) -> [f64; 4]| {
            let mut fit = BoxFit::new(BoxConvention::SIZES);
            for i in 0..40 {
                let (w, h) = (0.1 + 0.1 * f64::from(i % 5), 0.1 + 0.15 * f64::from(i % 3));
                let x = (1.0 - w) * f64::from(i % 7) / 6.0;
                let y = (1.0 - h) * f64::from(i % 4) / 3.0;
                fit.add(ImageSize::new(48, 64), numbers([x, y, w, h]), None);
            }
            fit.mismatch().unwrap().cause
        };
        for order in BoxOrder::USUAL {
            let expected = MismatchCause::Convention {
                convention: BoxConvention::new(order, BoxUnit::Fractions),
                alternative: (order == BoxOrder::Corners).then_some(BoxOrder::SwappedCorners),
            };
            assert_eq!(cause(&|numbers| order.of_xywh(numbers)), expected);
        }
        // Small boxes in the middle may be sizes and centers.
        let small = |[x, y, w, h]: [f64; 4]| [0.3 + x / 3.0, 0.3 + y / 3.0, w / 4.0, h / 4.0];
        assert_eq!(cause(&small), MismatchCause::Unit(BoxUnit::Fractions));
    }

    #[test]
    fn a_few_fractions_are_refused_and_a_box_of_one_pixel_is_not() {
        let few = |count: u32| (0..count).map(|i| [0.1, 0.2, 0.3, 0.4 + f64::from(i) / 20.0]);
        for number in [1, 4, 9] {
            let message = checked(few(number)).unwrap_err();
            assert!(
                message.contains("fit their images as fractions of"),
                "{message}"
            );
        }
        assert_eq!(checked([[0.0, 0.0, 1.0, 1.0]].into_iter()), Ok(None));
        assert_eq!(
            checked(few(3).chain([[5.0, 5.0, 20.0, 20.0]])),
            Ok(None),
            "others are boxes"
        );
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
        // Of a few boxes, an order is suspected, if they fit in it and not in that of the format.
        let note = checked(corners(9)).unwrap().unwrap();
        assert!(
            note.starts_with("9 of 9 boxes exceed their images far, and 9 fit as [x1"),
            "{note}"
        );
        let far = (0..4).map(|i| [40.0 + f64::from(i), 30.0, 60.0, 45.0]);
        assert_eq!(
            checked(far).unwrap().unwrap(),
            "4 of 4 boxes exceed their images far, and 4 fit as [x1, y1, x2, y2] in pixels, such as [40, 30, 60, 45]"
        );
        // Boxes that fit both ways.
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

    /// Returns boxes that were written in an order as a reader of pixels in another order understands them.
    fn read_as(
        expected: BoxConvention,
        written: BoxOrder,
        boxes: Vec<[f64; 4]>,
    ) -> impl Iterator<Item = ([f64; 4], Option<f64>)> {
        let boxes = boxes.into_iter();
        boxes.map(move |xywh| (expected.order.to_xywh(written.of_xywh(xywh)), None))
    }

    #[test]
    fn every_order_of_the_table_is_named_in_the_place_of_every_other() {
        for expected in [BoxConvention::SIZES, BoxConvention::CORNERS] {
            for order in BoxOrder::ALL {
                if order == expected.order {
                    let right = checked_in(expected, read_as(expected, order, all_over(80)));
                    assert_eq!(right, Ok(None));
                    continue;
                }
                let message =
                    checked_in(expected, read_as(expected, order, all_over(80))).unwrap_err();
                let fit = format!(
                    "80 of 80 boxes fit their images as {order} in pixels, not as {expected}"
                );
                assert!(message.starts_with(&format!("a.json: {fit}")), "{message}");
                // One wrong box of eighty.
                let boxes = read_as(expected, order, all_over(79));
                let wrong = expected.order.to_xywh([60.0, 40.0, 2000.0, 1.0]);
                let message = checked_in(expected, boxes.chain([(wrong, None)])).unwrap_err();
                let fit = format!("79 of 80 boxes fit their images as {order} in pixels");
                assert!(message.contains(&fit), "{message}");
            }
        }
    }

    #[test]
    fn boxes_of_other_images_are_refused_and_those_that_exceed_theirs_noted() {
        // A third is on an image of four times the size.
        let other = all_over(40)
            .into_iter()
            .map(|xywh| xywh.map(|side| side * 4.0));
        let message = checked(all_over(80).into_iter().chain(other)).unwrap_err();
        assert!(
            message.contains(
                "of 120 boxes have no part in their images or a negative side, such as ["
            ),
            "{message}"
        );
        assert!(
            message.ends_with(", and no other order of the numbers explains it"),
            "{message}"
        );
        // A third includes hidden parts on all sides.
        let hidden = all_over(40).into_iter();
        let hidden = hidden.map(|[x, y, w, h]| [x - w, y - h, w * 3.0, h * 3.0]);
        let note = checked(all_over(80).into_iter().chain(hidden))
            .unwrap()
            .unwrap();
        assert!(
            note.contains(" of 120 boxes exceed their images far or have no area, such as ["),
            "{note}"
        );
        // Boxes without area are no boxes of other images.
        let empty = (0..40).map(|i| [f64::from(i), 70.0, 0.0, 0.0]);
        let note = checked(all_over(80).into_iter().chain(empty))
            .unwrap()
            .unwrap();
        assert!(note.starts_with("40 of 120 boxes exceed"), "{note}");
        // One in five is not many.
        let few = (0..16).map(|_| [100.0, 70.0, 9.0, 9.0]);
        assert_eq!(checked(all_over(64).into_iter().chain(few)), Ok(None));
    }

    #[test]
    fn boxes_of_objects_that_one_edge_cuts_off_are_suspected_only() {
        // People all over, of whom every fourth stands below the lower edge. As centers, all fit.
        let people = |by: f64| {
            let boxes = (0..60).map(move |i| {
                let [x, w, h] = [12.0 + f64::from(i * 7 % 40), 8.0, 16.0];
                let y = match i % 4 {
                    0 => 48.0 - h + by,
                    _ => 9.0 + f64::from(i * 5 % 21),
                };
                [x, y, w, h]
            });
            boxes.collect::<Vec<_>>()
        };
        for expected in [BoxConvention::SIZES, BoxConvention::CENTER_FRACTIONS] {
            let note = checked_in(expected, people(7.0).into_iter().map(|xywh| (xywh, None)));
            let note = note.unwrap().unwrap();
            assert!(note.starts_with("15 of 60 boxes exceed"), "{note}");
            let little = people(1.5).into_iter().map(|xywh| (xywh, None));
            assert_eq!(checked_in(expected, little), Ok(None));
        }
        // Centers are at two edges, and objects are not cut off by more than half.
        let centers = all_over(60).into_iter();
        let centers = centers.map(|[x, y, w, h]| [x + w / 2.0, y + h / 2.0, w, h]);
        assert!(checked(centers).is_err());
        assert!(checked(people(12.0).into_iter()).is_err());
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
             such as [62, 2, 4, 4]; they fit as [center x, center y, height, width] in pixels, too"
        );
    }

    #[test]
    fn corners_that_fit_in_both_orders_say_so() {
        let square = |numbers: [f64; 4]| (ImageSize::new(48, 48), numbers);
        let mut fit = BoxFit::new(BoxConvention::SIZES);
        for [x, y, w, h] in all_over(40) {
            let (size, numbers) = square([x * 0.7, y, x * 0.7 + w * 0.7, y + h]);
            fit.add(size, numbers, None);
        }
        let found = fit.mismatch().unwrap();
        assert_eq!(found.order(), Some(BoxOrder::Corners));
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
        for expected in [BoxConvention::SIZES, BoxConvention::CORNERS] {
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
        let mut whole = BoxFit::new(BoxConvention::SIZES);
        for numbers in all_over(60) {
            whole.add(large, numbers.map(f64::round), None);
        }
        assert!(whole.mismatch().is_none_or(|found| !found.is_certain));
        // Small images, and boxes that are larger.
        let small = ImageSize::new(120, 120);
        assert_eq!(fit_on(small, BoxConvention::SIZES, 100.0, all), Ok(None));
        assert_eq!(fit_on(large, BoxConvention::SIZES, 300.0, all), Ok(None));
    }
}
