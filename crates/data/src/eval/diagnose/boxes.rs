//! Other forms and units of boxes.

use std::collections::HashMap;

use super::{Cause, Diagnosis, GOOD_AP50, Sample, best, diagnostic, iou, is_convincing};
use crate::eval::coco::UNDEFINED;
use crate::eval::results::ResultRow;

/// Converts an alternative form of a box to `[x, y, width, height]`.
type ToXywh = fn([f64; 4]) -> [f64; 4];
/// Returns the factors of a resize per axis, from width and height.
type Frame = Box<dyn Fn([f64; 2]) -> [f64; 2]>;

/// Forms of boxes with their names; the first is COCO's.
const FORMS: [(&str, ToXywh); 7] = [
    ("[x, y, width, height]", |bbox| bbox),
    ("corners [x1, y1, x2, y2]", |[x1, y1, x2, y2]| {
        [x1, y1, x2 - x1, y2 - y1]
    }),
    (
        "centers [center_x, center_y, width, height]",
        |[cx, cy, w, h]| [cx - w / 2.0, cy - h / 2.0, w, h],
    ),
    ("corners [y1, x1, y2, x2]", |[y1, x1, y2, x2]| {
        [x1, y1, x2 - x1, y2 - y1]
    }),
    ("[y, x, height, width]", |[y, x, h, w]| [x, y, w, h]),
    (
        "centers [center_y, center_x, height, width]",
        |[cy, cx, h, w]| [cx - w / 2.0, cy - h / 2.0, w, h],
    ),
    ("corners [x1, x2, y1, y2]", |[x1, x2, y1, y2]| {
        [x1, y1, x2 - x1, y2 - y1]
    }),
];

/// The number of forms that are tested in the coordinates of resized images: those of the usual frameworks.
const FORMS_OF_FRAMEWORKS: usize = 3;

/// Units besides pixels: the number that is the width or the height of the image, and their name.
const UNITS: [(f64, &str); 3] = [
    (1.0, "fractions of the image (0 to 1)"),
    (100.0, "percentages of the image (0 to 100)"),
    (1000.0, "thousandths of the image (0 to 1000)"),
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
        let one_class = self.without_classes()?;
        let as_written = one_class.ap50(&one_class.rows);
        let interpretations = self.formats().into_iter().chain(self.resized_frames());
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
        for (position, (name, to_xywh)) in FORMS.into_iter().enumerate() {
            if position > 0 {
                interpretations.push(BoxInterpretation {
                    cause: Cause::BoxFormat,
                    sentence: format!(
                        "the boxes would fit as {name}, not as [x, y, width, height]"
                    ),
                    boxes: self.rows.iter().map(|row| to_xywh(row.bbox)).collect(),
                });
            }
            let Some(sizes) = &sizes else {
                continue;
            };
            for (whole, unit) in UNITS.into_iter().filter(|(whole, _)| self.fits_in(*whole)) {
                let in_pixels = |(row, [width, height]): (&ResultRow, &[f64; 2])| {
                    let [x, y, w, h] = to_xywh(row.bbox);
                    let [fx, fy] = [width / whole, height / whole];
                    [x * fx, y * fy, w * fx, h * fy]
                };
                interpretations.push(BoxInterpretation {
                    cause: Cause::Normalized,
                    sentence: format!(
                        "the boxes would fit as {unit} in the form {name}, not as pixels"
                    ),
                    boxes: self.rows.iter().zip(sizes).map(in_pixels).collect(),
                });
            }
        }
        interpretations
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
        let forms = FORMS.into_iter().take(FORMS_OF_FRAMEWORKS).enumerate();
        let of_forms = forms.flat_map(|(position, (name, to_xywh))| {
            let in_form = match position {
                0 => String::new(),
                _ => format!(" in the form {name}"),
            };
            let boxes: Vec<[f64; 4]> = self.rows.iter().map(|row| to_xywh(row.bbox)).collect();
            self.resized(&boxes, &in_form)
        });
        of_forms.collect()
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
        let Some(target) = votes.medians() else {
            return Vec::new();
        };

        let frames: [(String, Frame); 5] = [
            (
                format!(
                    "images scaled by the factors {:.3} (x) and {:.3} (y)",
                    target.factor[0], target.factor[1]
                ),
                Box::new(move |_| target.factor),
            ),
            (
                format!("images resized to a shorter side of {:.0}", target.shorter),
                Box::new(move |[w, h]| [target.shorter / w.min(h); 2]),
            ),
            (
                format!(
                    "images resized to a shorter side of {:.0} and a longer side of at most {:.0}",
                    target.shorter,
                    target.shorter * LONGER_TO_SHORTER
                ),
                Box::new(move |[w, h]| {
                    let limit = target.shorter * LONGER_TO_SHORTER / w.max(h);
                    [(target.shorter / w.min(h)).min(limit); 2]
                }),
            ),
            (
                format!("images resized to a longer side of {:.0}", target.longer),
                Box::new(move |[w, h]| [target.longer / w.max(h); 2]),
            ),
            (
                format!(
                    "images stretched to {:.0}x{:.0}",
                    target.size[0], target.size[1]
                ),
                Box::new(move |[w, h]| [target.size[0] / w, target.size[1] / h]),
            ),
        ];
        frames
            .into_iter()
            .map(|(name, factors)| BoxInterpretation {
                cause: Cause::Resized,
                sentence: format!("the boxes would fit as coordinates of {name}{in_form}"),
                boxes: self
                    .rows
                    .iter()
                    .zip(boxes)
                    .map(|(row, [x, y, w, h])| {
                        let [fx, fy] = self.image_size(row).map_or([1.0; 2], &factors);
                        [x / fx, y / fy, w / fx, h / fy]
                    })
                    .collect(),
            })
            .collect()
    }
}

/// Size ratios of detections and objects that agree in shape and relative position.
#[derive(Default)]
struct Votes {
    factor: [Vec<f64>; 2],
    shorter: Vec<f64>,
    longer: Vec<f64>,
    size: [Vec<f64>; 2],
}

#[derive(Clone, Copy)]
struct Target {
    factor: [f64; 2],
    shorter: f64,
    longer: f64,
    size: [f64; 2],
}

impl Votes {
    fn compare(&mut self, object: [f64; 4], found: [f64; 4], [width, height]: [f64; 2]) {
        let [x, y, w, h] = object;
        let [fx, fy] = [found[2] / w, found[3] / h];
        if !(fx.is_finite() && fy.is_finite() && fx > 0.0 && fy > 0.0) {
            return;
        }
        // With equal sizes, only the position can differ.
        if iou([x * fx, y * fy, w * fx, h * fy], found) < 0.8 {
            return;
        }
        let uniform = (fx * fy).sqrt();
        self.factor[0].push(fx);
        self.factor[1].push(fy);
        self.shorter.push(uniform * width.min(height));
        self.longer.push(uniform * width.max(height));
        self.size[0].push(fx * width);
        self.size[1].push(fy * height);
    }

    fn medians(mut self) -> Option<Target> {
        let [fx, fy] = &mut self.factor;
        let [w, h] = &mut self.size;
        Some(Target {
            factor: [median(fx)?, median(fy)?],
            shorter: median(&mut self.shorter)?,
            longer: median(&mut self.longer)?,
            size: [median(w)?, median(h)?],
        })
    }
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
