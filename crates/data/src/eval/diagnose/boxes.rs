//! Other forms and units of boxes.

use std::collections::{BTreeMap, HashMap};

use image::metadata::Orientation;

use super::{Cause, Diagnosis, GOOD_AP50, Sample, best, diagnostic, iou, is_convincing};
use crate::box_conventions::BoxOrder;
use crate::boxes::ImageSize;
use crate::eval::coco::UNDEFINED;
use crate::eval::results::ResultRow;
use crate::images::exif::{size_after, upright_box};

/// Returns the factors of a resize per axis and what was added on the left and above, from width and height.
type Frame = Box<dyn Fn([f64; 2]) -> ([f64; 2], [f64; 2])>;

/// The order of COCO's results.
const COCO_ORDER: BoxOrder = BoxOrder::Sizes;

/// Units besides pixels: the number that is the width or the height of the image, and their name.
const UNITS: [(f64, &str); 3] = [
    (1.0, "fractions of the image (0 to 1)"),
    (100.0, "percentages of the image (0 to 100)"),
    (1000.0, "thousandths of the image (0 to 1000)"),
];

/// Images that are stored mirrored or rotated, by the orientation that makes them upright. That of the transposed image
/// is an order of the numbers.
const STORED: [(Orientation, &str); 6] = [
    (
        Orientation::FlipHorizontal,
        "mirrored left to right, x measured from the right edge",
    ),
    (
        Orientation::FlipVertical,
        "mirrored top to bottom, y measured from the lower edge",
    ),
    (
        Orientation::Rotate180,
        "rotated by 180 degrees, x and y measured from the lower right",
    ),
    (
        Orientation::Rotate90,
        "rotated by 90 degrees to the left, as images are stored whose EXIF orientation is ignored",
    ),
    (
        Orientation::Rotate270,
        "rotated by 90 degrees to the right, as images are stored whose EXIF orientation is ignored",
    ),
    (
        Orientation::Rotate270FlipH,
        "transposed about the other diagonal",
    ),
];

/// Usual sizes of the inputs of networks besides the multiples of 32.
const USUAL_SIZES: [f64; 11] = [
    1.0, 100.0, 300.0, 400.0, 500.0, 550.0, 600.0, 900.0, 1000.0, 1200.0, 1333.0,
];

/// The usual limit of the longer side, 1333 for a shorter side of 800.
const LONGER_TO_SHORTER: f64 = 1333.0 / 800.0;

/// An alternative interpretation of the boxes of a sample.
struct BoxInterpretation {
    cause: Cause,
    sentence: String,
    boxes: Vec<[f64; 4]>,
}

impl BoxInterpretation {
    fn applied_to(&self, rows: &[ResultRow]) -> Vec<ResultRow> {
        rows.iter()
            .zip(&self.boxes)
            .map(|(row, &bbox)| ResultRow { bbox, ..*row })
            .collect()
    }
}

impl Sample {
    /// Tests alternative interpretations of the boxes, ignoring classes. Returns the rows converted
    /// by the best one.
    pub(super) fn other_boxes(&self) -> Option<(Diagnosis, Vec<ResultRow>)> {
        // Whatever they are converted to, they are the same part of every image.
        if self.covers_images() {
            return None;
        }
        let one_class = self.without_classes()?;
        let as_written = one_class.ap50(&one_class.rows);
        let interpretations = self.formats().into_iter().chain(self.stored());
        let interpretations = interpretations.chain(self.resized_frames());
        let (interpretation, ap50) = best(interpretations, |interpretation| {
            let ap50 = one_class.ap50(&interpretation.applied_to(&one_class.rows));
            // A size that is estimated from these boxes fits some of them in any case.
            let is_fitted = interpretation.cause == Cause::Resized;
            if is_fitted && ap50 < GOOD_AP50 {
                return UNDEFINED;
            }
            ap50
        })?;
        if !is_convincing(ap50, as_written) {
            return None;
        }
        let rows = interpretation.applied_to(&self.rows);
        let sentence = format!(
            "{}: converted, AP50 without regard to classes is {ap50:.3} instead of \
             {as_written:.3} ({})",
            interpretation.sentence,
            self.outliers()
        );
        Some((diagnostic(interpretation.cause, sentence), rows))
    }

    /// Returns whether nearly all boxes are those of their whole image.
    pub(super) fn covers_images(&self) -> bool {
        const SHARE: f64 = 0.95;
        let covers = |row: &&ResultRow| {
            let [x, y, w, h] = row.bbox;
            self.image_size(row).is_some_and(|[width, height]| {
                let inside =
                    |start: f64, side: f64, image: f64| (start + side).min(image) - start.max(0.0);
                let (covered_x, covered_y) = (inside(x, w, width), inside(y, h, height));
                // A box that is much larger is no box of the image.
                covered_x >= SHARE * width
                    && covered_y >= SHARE * height
                    && w * SHARE <= width
                    && h * SHARE <= height
            })
        };
        self.rows.iter().filter(covers).count() * 10 >= self.rows.len() * 9
    }

    /// Describes what is unusual about the boxes as written.
    fn outliers(&self) -> String {
        let outside = self
            .rows
            .iter()
            .filter(|row| {
                let [x, y, w, h] = row.bbox;
                self.image_size(row).is_some_and(|[width, height]| {
                    // A pixel of tolerance, because not every detector clips its boxes.
                    x + w > width + 1.0 || y + h > height + 1.0 || x < -1.0 || y < -1.0
                })
            })
            .count();
        let largest = self
            .rows
            .iter()
            .flat_map(|row| row.bbox)
            .fold(f64::NEG_INFINITY, f64::max);
        format!(
            "as written, {outside} of {} boxes exceed their image, and the largest number in a box is \
             {largest:.4}",
            self.rows.len()
        )
    }

    /// Returns interpretations in other forms, in pixels and in other units.
    fn formats(&self) -> Vec<BoxInterpretation> {
        let sizes: Option<Vec<_>> = self.rows.iter().map(|row| self.image_size(row)).collect();
        let mut interpretations = Vec::new();
        for order in BoxOrder::ALL {
            if order != COCO_ORDER {
                interpretations.push(BoxInterpretation {
                    cause: Cause::BoxFormat,
                    sentence: format!("the boxes would fit as {order}, not as {COCO_ORDER}"),
                    boxes: self.read_as(order),
                });
            }
            let Some(sizes) = &sizes else {
                continue;
            };
            for (whole, unit) in UNITS.into_iter().filter(|(whole, _)| self.fits_in(*whole)) {
                let in_pixels = |(row, [width, height]): (&ResultRow, &[f64; 2])| {
                    let [x, y, w, h] = order.to_xywh(row.bbox);
                    let [fx, fy] = [width / whole, height / whole];
                    [x * fx, y * fy, w * fx, h * fy]
                };
                interpretations.push(BoxInterpretation {
                    cause: Cause::Normalized,
                    sentence: format!(
                        "the boxes would fit as {unit} in the form {order}, not as pixels"
                    ),
                    boxes: self.rows.iter().zip(sizes).map(in_pixels).collect(),
                });
            }
        }
        interpretations
    }

    /// Returns interpretations in the coordinates of mirrored and rotated images, for the usual forms.
    fn stored(&self) -> Vec<BoxInterpretation> {
        let sizes: Option<Vec<_>> = self.rows.iter().map(|row| self.image_size(row)).collect();
        let Some(sizes) = sizes else {
            return Vec::new();
        };
        let orders = BoxOrder::USUAL.into_iter();
        let both = orders.flat_map(|order| STORED.into_iter().map(move |stored| (order, stored)));
        both.map(|(order, (orientation, how))| {
            let rows = self.rows.iter().zip(&sizes);
            let upright = |(row, [width, height]): (&ResultRow, &[f64; 2])| {
                let size = ImageSize::new(*height as usize, *width as usize);
                // The stored image is rotated by as much as the upright one.
                let stored = size_after(size, orientation);
                upright_box(order.to_xywh(row.bbox), orientation, stored)
            };
            BoxInterpretation {
                cause: Cause::BoxFormat,
                sentence: format!(
                    "the boxes would fit as coordinates of images {how}{}",
                    in_form(order)
                ),
                boxes: rows.map(upright).collect(),
            }
        })
        .collect()
    }

    /// Returns whether nearly all numbers can be parts of an image that has `whole` parts.
    fn fits_in(&self, whole: f64) -> bool {
        /// Detectors that do not clip their boxes exceed the image.
        const TOLERANCE: f64 = 1.5;
        let numbers = self.rows.iter().flat_map(|row| row.bbox);
        let within = numbers.filter(|number| number.abs() <= TOLERANCE * whole);
        within.count() * 20 >= self.rows.len() * 4 * 19
    }

    /// Returns interpretations in the coordinates of resized images, for the usual forms and ways of resizing.
    fn resized_frames(&self) -> Vec<BoxInterpretation> {
        let of_orders = BoxOrder::USUAL
            .into_iter()
            .flat_map(|order| self.resized(&self.read_as(order), &in_form(order)));
        of_orders.collect()
    }

    /// Returns the boxes as `[x, y, width, height]` if their numbers are in an order.
    fn read_as(&self, order: BoxOrder) -> Vec<[f64; 4]> {
        let rows = self.rows.iter();
        rows.map(|row| order.to_xywh(row.bbox)).collect()
    }

    /// Returns the interpretations of boxes `[x, y, width, height]` in the coordinates of resized images. The target
    /// size is estimated from pairs of objects and detections that have the same shape and relative position.
    fn resized(&self, boxes: &[[f64; 4]], in_form: &str) -> Vec<BoxInterpretation> {
        let mut votes = Votes::default();
        let mut objects: HashMap<u64, Vec<[f64; 4]>> = HashMap::new();
        for object in self.ground_truth.annotations() {
            objects
                .entry(object.image_id)
                .or_default()
                .push(object.bbox);
        }
        for (row, bbox) in self.rows.iter().zip(boxes) {
            let (Some(size), Some(objects)) = (self.image_size(row), objects.get(&row.image_id))
            else {
                continue;
            };
            for &object in objects {
                votes.compare(object, *bbox, size);
            }
        }
        let frames = votes.frames();
        frames
            .into_iter()
            .map(|(name, frame)| BoxInterpretation {
                cause: Cause::Resized,
                sentence: format!("the boxes would fit as coordinates of {name}{in_form}"),
                boxes: self
                    .rows
                    .iter()
                    .zip(boxes)
                    .map(|(row, [x, y, w, h])| {
                        let size = self.image_size(row);
                        let ([fx, fy], [left, top]) = size.map_or(([1.0; 2], [0.0; 2]), &frame);
                        [(x - left) / fx, (y - top) / fy, w / fx, h / fy]
                    })
                    .collect(),
            })
            .collect()
    }
}

/// Names an order besides COCO's.
fn in_form(order: BoxOrder) -> String {
    match order {
        COCO_ORDER => String::new(),
        order => format!(" in the form {order}"),
    }
}

/// Returns the usual size of an input that an estimated size is up to its error, or else the estimate.
fn usual(size: f64) -> f64 {
    const ERROR: f64 = 0.006;
    let multiple = (size / 32.0).round() * 32.0;
    let usual = USUAL_SIZES.into_iter().chain([multiple]);
    let nearest = usual.min_by(|a, b| (a - size).abs().total_cmp(&(b - size).abs()));
    nearest
        .filter(|usual| (usual - size).abs() <= ERROR * size)
        .unwrap_or(size)
}

/// Formats a size in pixels; one that is not usual is an estimate.
fn pixels(size: f64) -> String {
    if USUAL_SIZES.contains(&size) || size % 32.0 == 0.0 {
        format!("{size:.0}")
    } else {
        format!("about {size:.0}")
    }
}

/// Returns the scale of images that are padded to squares, and what is added on the left and above.
fn padded(square: f64, [w, h]: [f64; 2]) -> ([f64; 2], [f64; 2]) {
    let scale = square / w.max(h);
    (
        [scale; 2],
        [(square - w * scale) / 2.0, (square - h * scale) / 2.0],
    )
}

/// Size ratios of detections and objects that agree in shape and relative position.
#[derive(Default)]
struct Votes {
    factor: [Vec<f64>; 2],
    shorter: Vec<f64>,
    longer: Vec<f64>,
    size: [Vec<f64>; 2],
    /// The sides of squares that images are padded to, with the image in the middle.
    square: Vec<f64>,
    /// Differences of positions, of boxes with the same size.
    offsets: Vec<[f64; 2]>,
}

impl Votes {
    fn compare(&mut self, object: [f64; 4], found: [f64; 4], [width, height]: [f64; 2]) {
        /// With equal sizes, only the position can differ.
        const SAME: f64 = 0.8;
        let [x, y, w, h] = object;
        let [fx, fy] = [found[2] / w, found[3] / h];
        if !(fx.is_finite() && fy.is_finite() && fx > 0.0 && fy > 0.0) {
            return;
        }
        if [fx, fy].iter().all(|factor| (0.9..=1.1).contains(factor)) {
            self.offsets.push([found[0] - x, found[1] - y]);
        }
        let uniform = (fx * fy).sqrt();
        let square = uniform * width.max(height);
        let ([scale, _], [left, top]) = padded(square, [width, height]);
        let in_square = [x * scale + left, y * scale + top, w * scale, h * scale];
        if iou(in_square, found) >= SAME {
            self.square.push(square);
        }
        if iou([x * fx, y * fy, w * fx, h * fy], found) < SAME {
            return;
        }
        self.factor[0].push(fx);
        self.factor[1].push(fy);
        self.shorter.push(uniform * width.min(height));
        self.longer.push(uniform * width.max(height));
        self.size[0].push(fx * width);
        self.size[1].push(fy * height);
    }

    /// Returns the frames of the estimated sizes with their names.
    fn frames(mut self) -> Vec<(String, Frame)> {
        let none = [0.0; 2];
        let mut frames: Vec<(String, Frame)> = Vec::new();
        if let Some(offset @ [dx, dy]) = commonest(&self.offsets) {
            frames.push((
                format!(
                    "padded or cropped images, {} (x) and {} (y) pixels away",
                    dx.round() as i64,
                    dy.round() as i64
                ),
                Box::new(move |_| ([1.0; 2], offset)),
            ));
        }
        let [fx, fy] = &mut self.factor;
        if let (Some(fx), Some(fy)) = (median(fx), median(fy)) {
            frames.push((
                format!("images scaled by the factors {fx:.3} (x) and {fy:.3} (y)"),
                Box::new(move |_| ([fx, fy], none)),
            ));
        }
        if let Some(shorter) = median(&mut self.shorter).map(usual) {
            let name = pixels(shorter);
            let longest = shorter * LONGER_TO_SHORTER;
            frames.push((
                format!("images resized to a shorter side of {name}"),
                Box::new(move |[w, h]| ([shorter / w.min(h); 2], none)),
            ));
            frames.push((
                format!(
                    "images resized to a shorter side of {name} and a longer side of at most {}",
                    pixels(usual(longest))
                ),
                Box::new(move |[w, h]| {
                    let limit = longest / w.max(h);
                    ([(shorter / w.min(h)).min(limit); 2], none)
                }),
            ));
        }
        if let Some(longer) = median(&mut self.longer).map(usual) {
            frames.push((
                format!("images resized to a longer side of {}", pixels(longer)),
                Box::new(move |[w, h]| ([longer / w.max(h); 2], none)),
            ));
        }
        let [w, h] = &mut self.size;
        if let (Some(sx), Some(sy)) = (median(w).map(usual), median(h).map(usual)) {
            frames.push((
                format!("images stretched to {}x{}", pixels(sx), pixels(sy)),
                Box::new(move |[w, h]| ([sx / w, sy / h], none)),
            ));
        }
        if let Some(square) = median(&mut self.square).map(usual) {
            let name = match square {
                1.0 => "fractions of the square that an image is padded to (letterbox)".to_owned(),
                _ => {
                    let side = pixels(square);
                    format!("images resized and padded to {side}x{side} (letterbox)")
                }
            };
            frames.push((name, Box::new(move |size| padded(square, size))));
        }
        frames
    }
}

/// Returns the mean of the pairs in the fullest square of a grid and in those around it. Most pairs are those of different
/// objects, and all over the grid.
fn commonest(pairs: &[[f64; 2]]) -> Option<[f64; 2]> {
    /// The side of a square in pixels.
    const SIDE: f64 = 4.0;
    let square = |pair: &[f64; 2]| pair.map(|value| (value / SIDE).round() as i64);
    let mut counts: BTreeMap<[i64; 2], usize> = BTreeMap::new();
    for pair in pairs {
        *counts.entry(square(pair)).or_default() += 1;
    }
    let fullest = *counts.iter().max_by_key(|(_, count)| **count)?.0;
    let is_near = |pair: &&[f64; 2]| {
        let of = square(pair);
        [0, 1]
            .iter()
            .all(|&axis| of[axis].abs_diff(fullest[axis]) <= 1)
    };
    let near: Vec<&[f64; 2]> = pairs.iter().filter(is_near).collect();
    let mean = |axis: usize| near.iter().map(|pair| pair[axis]).sum::<f64>() / near.len() as f64;
    Some([mean(0), mean(1)])
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
