//! Diagnosis of an AP near zero: likely causes, each a sentence with the numbers that support it.
//!
//! The usual cause is not a weak detector but inconsistent files. Each candidate is tested: the
//! rows are interpreted differently (as corners, as fractions of the image, in the coordinates of
//! the resized image, with shifted category ids) and re-evaluated, and only an interpretation with
//! a much higher AP is reported.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::coco::{self, CocoEvaluation, UNDEFINED};
use super::ground_truth::{GroundTruth, GtAnnotation, GtCategory};
use super::image_ids::{compare, some_of};
use super::results::ResultRow;
use crate::text;

/// AP below which the result counts as near zero.
const NEAR_ZERO: f64 = 0.01;
/// The number of images that candidates are tested on; more would not change the result.
const SAMPLE_IMAGES: usize = 200;
/// Minimum AP50 of an alternative interpretation of the rows to be accepted ...
const CONVINCING_AP50: f64 = 0.05;
/// ... and the minimum ratio of its AP50 to that of the rows as written.
const CONVINCING_FACTOR: f64 = 3.0;
/// Minimum ratio of the AP50 of an alternative meaning of the category ids to the class-agnostic
/// AP50.
const EXPLAINED_SHARE: f64 = 0.5;

/// The cause that a [`Diagnosis`] reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The ground truth has no objects: AP is undefined, not zero.
    NoObjects,
    /// There are no result rows.
    NoDetections,
    /// Rows have image ids that the ground truth does not have.
    ImageIds,
    /// Most images with objects have no rows.
    FewImages,
    /// Boxes are not `[x, y, width, height]`.
    BoxFormat,
    /// Most boxes have a negative width or height.
    NegativeSides,
    /// Boxes are fractions of the image instead of pixels.
    Normalized,
    /// Boxes are in the coordinates of the resized image instead of the original.
    Resized,
    /// Category ids are shifted, or contiguous class indices instead of the ids of the dataset.
    CategoryIds,
    /// Boxes match but classes do not, and no simple shift of the ids explains it.
    Classes,
    /// All scores are equal, so the order of the detections is arbitrary.
    EqualScores,
    /// The files are consistent, but the detections are not near the objects.
    Detector,
}

/// A cause of a low AP.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnosis {
    /// The kind of the cause.
    pub cause: Cause,
    /// The explanation, with the numbers that support it and the recommended change.
    pub sentence: String,
}

impl std::fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl CocoEvaluation {
    /// Returns whether AP is so low (or undefined) that [`diagnose`] should search for the cause.
    pub fn is_near_zero(&self) -> bool {
        self.metrics.ap < NEAR_ZERO
    }
}

/// Finds the causes of an AP [near zero](CocoEvaluation::is_near_zero). Returns at least one
/// diagnostic: if the files are consistent, the cause is the detector ([`Cause::Detector`]).
///
/// Rows of unknown images are reported and skipped, so that this also works on results that
/// [`evaluate`](super::evaluate) refuses. Evaluates at most 200 images.
pub fn diagnose(ground_truth: &GroundTruth, results: &[ResultRow]) -> Vec<Diagnosis> {
    let objects = ground_truth
        .annotations()
        .iter()
        .filter(|object| !object.iscrowd)
        .count();
    if objects == 0 {
        return vec![diagnostic(
            Cause::NoObjects,
            format!(
                "the ground truth has no objects in its {}, so AP is undefined (-1)",
                text::count(ground_truth.images().len(), "image")
            ),
        )];
    }
    if results.is_empty() {
        return vec![diagnostic(
            Cause::NoDetections,
            format!(
                "there are no detections, while the ground truth has {} in {}: the score \
                 threshold may be too high, or the model is not trained yet",
                text::count(objects, "object"),
                text::count(ground_truth.images().len(), "image")
            ),
        )];
    }

    let mut diagnostics = Vec::new();
    if results
        .iter()
        .any(|row| ground_truth.image(row.image_id).is_none())
    {
        diagnostics.push(diagnostic(Cause::ImageIds, compare(ground_truth, results)));
    }
    let Some(sample) = Sample::draw(ground_truth, results) else {
        if diagnostics.is_empty() {
            diagnostics.push(few_images(ground_truth, results).unwrap_or_else(|| {
                diagnostic(
                    Cause::Detector,
                    "no row of an image with objects has finite numbers".into(),
                )
            }));
        }
        return diagnostics;
    };

    let box_diagnostic = sample.other_boxes();
    let boxes_fixed = match &box_diagnostic {
        Some((_, rows)) => sample.with_rows(rows.clone()),
        None => sample.clone(),
    };
    let negative = results.iter().filter(|row| row.has_negative_side()).count();
    if box_diagnostic.is_none()
        && 2 * negative >= results.len()
        && let Some(sentence) = coco::negative_sides(results)
    {
        diagnostics.push(diagnostic(Cause::NegativeSides, sentence));
    }
    diagnostics.extend(box_diagnostic.map(|(diagnostic, _)| diagnostic));
    diagnostics.extend(boxes_fixed.other_categories());
    let is_explained = !diagnostics.is_empty();
    diagnostics.extend(few_images(ground_truth, results));
    diagnostics.extend(equal_scores(results));
    if !is_explained {
        diagnostics.push(sample.detector_at_fault());
    }
    diagnostics
}

fn diagnostic(cause: Cause, sentence: String) -> Diagnosis {
    Diagnosis { cause, sentence }
}

fn few_images(ground_truth: &GroundTruth, results: &[ResultRow]) -> Option<Diagnosis> {
    let with_objects: HashSet<u64> = ground_truth
        .annotations()
        .iter()
        .map(|object| object.image_id)
        .collect();
    let with_rows: HashSet<u64> = results.iter().map(|row| row.image_id).collect();
    let both = with_objects.intersection(&with_rows).count();
    (both * 2 < with_objects.len()).then(|| {
        diagnostic(
            Cause::FewImages,
            format!(
                "only {both} of the {} with objects have detections, and the objects of the \
                 others count as missed: to evaluate on a subset, restrict the ground truth to it",
                text::count(with_objects.len(), "image")
            ),
        )
    })
}

fn equal_scores(results: &[ResultRow]) -> Option<Diagnosis> {
    let (first, rest) = results.split_first()?;
    (!rest.is_empty() && rest.iter().all(|row| row.score == first.score)).then(|| {
        diagnostic(
            Cause::EqualScores,
            format!(
                "all {} detections have the score {}, so their order, which AP depends on, is \
                 arbitrary",
                results.len(),
                first.score
            ),
        )
    })
}

/// Images that have both objects and rows, to test candidates on.
#[derive(Clone)]
struct Sample {
    ground_truth: GroundTruth,
    rows: Vec<ResultRow>,
}

impl Sample {
    fn draw(ground_truth: &GroundTruth, results: &[ResultRow]) -> Option<Self> {
        let usable = |row: &&ResultRow| row.check_finite(0).is_ok();
        let with_rows: HashSet<u64> = results.iter().filter(usable).map(|r| r.image_id).collect();
        let both: BTreeSet<u64> = ground_truth
            .annotations()
            .iter()
            .filter(|object| !object.iscrowd && with_rows.contains(&object.image_id))
            .map(|object| object.image_id)
            .collect();
        // Evenly spaced ids, because datasets are often sorted by scene.
        let step = both.len().div_ceil(SAMPLE_IMAGES).max(1);
        let chosen: HashSet<u64> = both.into_iter().step_by(step).collect();
        let ground_truth = ground_truth.restricted_to(&chosen).ok()?;
        let rows = results
            .iter()
            .filter(usable)
            .filter(|row| chosen.contains(&row.image_id))
            .copied()
            .collect();
        Some(Self { ground_truth, rows })
    }

    fn with_rows(&self, rows: Vec<ResultRow>) -> Self {
        Self {
            ground_truth: self.ground_truth.clone(),
            rows,
        }
    }

    fn ap50(&self, rows: &[ResultRow]) -> f64 {
        coco::evaluate(&self.ground_truth, rows)
            .map_or(UNDEFINED, |evaluation| evaluation.metrics.ap50)
    }

    /// Returns the sample with all objects and rows assigned to one class.
    fn without_classes(&self) -> Option<Self> {
        let ground_truth = GroundTruth::new(
            self.ground_truth.images().to_vec(),
            vec![GtCategory {
                id: 1,
                name: "object".into(),
            }],
            self.ground_truth
                .annotations()
                .iter()
                .map(|object| GtAnnotation {
                    category_id: 1,
                    ..object.clone()
                })
                .collect(),
        )
        .ok()?;
        let rows = self
            .rows
            .iter()
            .map(|row| ResultRow {
                category_id: 1,
                ..*row
            })
            .collect();
        Some(Self { ground_truth, rows })
    }

    /// Returns the width and height of a row's image if they are known.
    fn image_size(&self, row: &ResultRow) -> Option<[f64; 2]> {
        self.ground_truth
            .image(row.image_id)
            .filter(|image| image.width > 0 && image.height > 0)
            .map(|image| [f64::from(image.width), f64::from(image.height)])
    }

    /// Tests alternative interpretations of the boxes, ignoring classes. Returns the rows converted
    /// by the best one.
    fn other_boxes(&self) -> Option<(Diagnosis, Vec<ResultRow>)> {
        let one_class = self.without_classes()?;
        let as_written = one_class.ap50(&one_class.rows);
        let interpretations = self.formats().into_iter().chain(self.resized_frames());
        let (interpretation, ap50) = best(interpretations, |interpretation| {
            one_class.ap50(&interpretation.applied_to(&one_class.rows))
        })?;
        if !is_convincing(ap50, as_written) {
            return None;
        }
        let rows = interpretation.applied_to(&self.rows);
        let sentence = format!(
            "{}: converted, AP50 without regard to classes is {ap50:.3} instead of \
             {as_written:.3} ({}); write [x, y, width, height] in pixels of the original image",
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

    /// Returns interpretations as corners and centers, in pixels and as fractions of the image.
    fn formats(&self) -> Vec<BoxInterpretation> {
        const FORMS: [(&str, ToXywh); 4] = [
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
        ];
        let sizes: Option<Vec<_>> = self.rows.iter().map(|row| self.image_size(row)).collect();
        let mut interpretations = Vec::new();
        for (position, (name, to_xywh)) in FORMS.into_iter().enumerate() {
            if position > 0 {
                interpretations.push(BoxInterpretation {
                    cause: Cause::BoxFormat,
                    sentence: format!("the boxes are {name}, not [x, y, width, height]"),
                    boxes: self.rows.iter().map(|row| to_xywh(row.bbox)).collect(),
                });
            }
            if let Some(sizes) = &sizes {
                let in_pixels = |(row, [width, height]): (&ResultRow, &[f64; 2])| {
                    let [x, y, w, h] = to_xywh(row.bbox);
                    [x * width, y * height, w * width, h * height]
                };
                interpretations.push(BoxInterpretation {
                    cause: Cause::Normalized,
                    sentence: format!(
                        "the boxes are fractions of the image (0 to 1) in the form {name}, not \
                         pixels"
                    ),
                    boxes: self.rows.iter().zip(sizes).map(in_pixels).collect(),
                });
            }
        }
        interpretations
    }

    /// Returns interpretations in the coordinates of resized images, for the usual ways of resizing.
    /// The target size is estimated from pairs of objects and detections that have the same shape and
    /// relative position.
    fn resized_frames(&self) -> Vec<BoxInterpretation> {
        let mut votes = Votes::default();
        let mut objects: HashMap<u64, Vec<[f64; 4]>> = HashMap::new();
        for object in self.ground_truth.annotations() {
            objects
                .entry(object.image_id)
                .or_default()
                .push(object.bbox);
        }
        for row in &self.rows {
            let (Some(size), Some(objects)) = (self.image_size(row), objects.get(&row.image_id))
            else {
                continue;
            };
            for &object in objects {
                votes.compare(object, row.bbox, size);
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
                sentence: format!("the boxes are in the coordinates of {name}"),
                boxes: self
                    .rows
                    .iter()
                    .map(|row| {
                        let [x, y, w, h] = row.bbox;
                        let [fx, fy] = self.image_size(row).map_or([1.0; 2], &factors);
                        [x / fx, y / fy, w / fx, h / fy]
                    })
                    .collect(),
            })
            .collect()
    }

    /// Tests alternative meanings of the category ids.
    fn other_categories(&self) -> Option<Diagnosis> {
        let categories = self.ground_truth.categories();
        let mut by_name: Vec<&GtCategory> = categories.iter().collect();
        by_name.sort_by(|a, b| a.name.cmp(&b.name));
        let at = |position: Option<u64>| {
            position
                .and_then(|p| usize::try_from(p).ok())
                .and_then(|p| categories.get(p))
                .map(|category| category.id)
        };
        let meanings: [(&str, Meaning); 5] = [
            (
                "they count the categories from 0 in the order of their ids",
                Box::new(move |id| at(Some(id))),
            ),
            (
                "they count the categories from 1 in the order of their ids",
                Box::new(move |id| at(id.checked_sub(1))),
            ),
            ("they are one too low", Box::new(|id| id.checked_add(1))),
            ("they are one too high", Box::new(|id| id.checked_sub(1))),
            (
                "they count the categories from 0 in the order of their names",
                Box::new(move |id| {
                    let position = usize::try_from(id).ok()?;
                    by_name.get(position).map(|category| category.id)
                }),
            ),
        ];
        let as_written = self.ap50(&self.rows);
        let ids_of =
            |rows: &[ResultRow]| some_of(&rows.iter().map(|row| row.category_id).collect());
        let known = some_of(&categories.iter().map(|category| category.id).collect());
        let interpretations = meanings.into_iter().map(|(name, meaning)| {
            let rows: Vec<_> = self
                .rows
                .iter()
                .filter_map(|row| {
                    meaning(row.category_id).map(|category_id| ResultRow {
                        category_id,
                        ..*row
                    })
                })
                .collect();
            (name, rows)
        });
        let (best_meaning, ap50) = best(interpretations, |(_, rows)| self.ap50(rows))?;
        let one_class = self.without_classes()?;
        let without_classes = one_class.ap50(&one_class.rows);
        // Every permutation maps a few classes correctly; only the correct one explains most boxes.
        if is_convincing(ap50, as_written) && ap50 >= EXPLAINED_SHARE * without_classes {
            return Some(diagnostic(
                Cause::CategoryIds,
                format!(
                    "the category ids of the results ({}) are not those of the ground truth \
                     ({known}): {}; converted, AP50 is {ap50:.3} instead of {as_written:.3}",
                    ids_of(&self.rows),
                    best_meaning.0
                ),
            ));
        }

        let unknown = self
            .rows
            .iter()
            .filter(|row| self.ground_truth.category(row.category_id).is_none())
            .count();
        if !is_convincing(without_classes, as_written) {
            return (unknown == self.rows.len()).then(|| {
                diagnostic(
                    Cause::CategoryIds,
                    format!(
                        "none of the category ids of the results ({}) is in the ground truth ({known})",
                        ids_of(&self.rows)
                    ),
                )
            });
        }
        Some(diagnostic(
            Cause::Classes,
            format!(
                "the boxes fit but the classes do not: AP50 is {as_written:.3}, without regard \
                 to classes {without_classes:.3} ({unknown} of {} rows have a category the ground \
                 truth lacks; ids in the results: {}; in the ground truth: {known}){}",
                self.rows.len(),
                ids_of(&self.rows),
                self.commonest_confusion()
            ),
        ))
    }

    /// Describes the most frequent pair of an annotated class and a different detected class.
    fn commonest_confusion(&self) -> String {
        let mut counts: HashMap<(u64, u64), usize> = HashMap::new();
        for row in &self.rows {
            for object in self.ground_truth.annotations() {
                if object.image_id == row.image_id
                    && object.category_id != row.category_id
                    && iou(object.bbox, row.bbox) >= 0.5
                {
                    *counts
                        .entry((row.category_id, object.category_id))
                        .or_default() += 1;
                }
            }
        }
        // By count, then by ids, so that the result is deterministic.
        let Some((&(found, annotated), count)) = counts
            .iter()
            .max_by_key(|(ids, count)| (**count, std::cmp::Reverse(**ids)))
        else {
            return String::new();
        };
        let named = |id| match self.ground_truth.category(id) {
            Some(category) => format!("{id} ({})", category.name),
            None => id.to_string(),
        };
        format!(
            "; most often ({}) a row of category {} overlaps an object of {}",
            crate::text::count(*count, "time"),
            named(found),
            named(annotated)
        )
    }

    fn detector_at_fault(&self) -> Diagnosis {
        let mut rows_of: HashMap<u64, Vec<&ResultRow>> = HashMap::new();
        for row in &self.rows {
            rows_of.entry(row.image_id).or_default().push(row);
        }
        let mut objects = 0;
        let mut detected = 0;
        for object in self
            .ground_truth
            .annotations()
            .iter()
            .filter(|o| !o.iscrowd)
        {
            objects += 1;
            let rows = rows_of.get(&object.image_id).into_iter().flatten();
            detected += usize::from(
                rows.into_iter()
                    .any(|row| iou(object.bbox, row.bbox) >= 0.5),
            );
        }
        diagnostic(
            Cause::Detector,
            format!(
                "image ids, category ids and box format fit the ground truth, but only {detected} of \
                 {} in {} have a detection of any class at IoU 0.5 or higher: the model is not \
                 trained yet, or its weights do not fit its architecture or preprocessing",
                text::count(objects, "object"),
                text::count(self.ground_truth.images().len(), "image"),
            ),
        )
    }
}

/// Converts an alternative box format to `[x, y, width, height]`.
type ToXywh = fn([f64; 4]) -> [f64; 4];
/// Returns the factors of a resize per axis, from width and height.
type Frame = Box<dyn Fn([f64; 2]) -> [f64; 2]>;
/// Maps the category id of a row to one of the ground truth.
type Meaning<'a> = Box<dyn Fn(u64) -> Option<u64> + 'a>;

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

/// Returns the item with the highest `value`; the first on ties.
fn best<T>(items: impl IntoIterator<Item = T>, value: impl Fn(&T) -> f64) -> Option<(T, f64)> {
    items
        .into_iter()
        .map(|item| {
            let value = value(&item);
            (item, value)
        })
        .reduce(|best, next| if next.1 > best.1 { next } else { best })
}

fn is_convincing(ap50: f64, as_written: f64) -> bool {
    ap50 >= CONVINCING_AP50 && ap50 >= as_written.max(0.0) * CONVINCING_FACTOR
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

/// Computes the IoU of `[x, y, width, height]` boxes in `f64`.
fn iou(a: [f64; 4], b: [f64; 4]) -> f64 {
    let overlap =
        |at: usize| ((a[at] + a[at + 2]).min(b[at] + b[at + 2]) - a[at].max(b[at])).max(0.0);
    let intersection = overlap(0) * overlap(1);
    let union = a[2] * a[3] + b[2] * b[3] - intersection;
    if union > 0.0 {
        intersection / union
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::ground_truth::GtImage;
    use crate::eval::results::ResultRow;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const CATEGORIES: [(u64, &str); 5] = [
        (2, "person"),
        (3, "car"),
        (7, "bus"),
        (8, "apple"),
        (13, "dog"),
    ];

    /// Returns thirty images of three sizes with one to four objects each; ids differ from
    /// positions.
    fn ground_truth() -> GroundTruth {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut images = Vec::new();
        let mut annotations = Vec::new();
        for index in 0..30u64 {
            let (width, height) = [(640, 480), (480, 640), (500, 333)][index as usize % 3];
            let image_id = 1000 + 31 * index;
            images.push(GtImage {
                id: image_id,
                file_name: String::new(),
                width,
                height,
            });
            for _ in 0..rng.random_range(1..5) {
                let (w, h) = (rng.random_range(30.0..200.0), rng.random_range(30.0..200.0));
                let x = rng.random_range(0.0..f64::from(width) - w);
                let y = rng.random_range(0.0..f64::from(height) - h);
                annotations.push(GtAnnotation {
                    id: annotations.len() as u64 + 1,
                    image_id,
                    category_id: CATEGORIES[rng.random_range(0..CATEGORIES.len())].0,
                    bbox: [x, y, w, h],
                    area: w * h,
                    iscrowd: false,
                });
            }
        }
        let categories = CATEGORIES
            .map(|(id, name)| GtCategory {
                id,
                name: name.into(),
            })
            .to_vec();
        GroundTruth::new(images, categories, annotations).unwrap()
    }

    /// Returns the rows of a good detector: every object with a small error, and an equal number of
    /// false positives with lower scores.
    fn good_rows() -> Vec<ResultRow> {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let mut rows = Vec::new();
        for object in ground_truth().annotations() {
            let [x, y, w, h] = object.bbox;
            let mut off = |side: f64| side * rng.random_range(-0.04..0.04);
            let bbox = [x + off(w), y + off(h), w + off(w), h + off(h)];
            rows.push(ResultRow {
                image_id: object.image_id,
                category_id: object.category_id,
                bbox,
                score: rng.random_range(0.5..1.0),
            });
            rows.push(ResultRow {
                image_id: object.image_id,
                category_id: object.category_id,
                bbox: [
                    rng.random_range(0.0..300.0),
                    rng.random_range(0.0..200.0),
                    rng.random_range(10.0..100.0),
                    rng.random_range(10.0..100.0),
                ],
                score: rng.random_range(0.0..0.5),
            });
        }
        rows
    }

    fn changed(change: impl Fn(&mut ResultRow, [f64; 2])) -> Vec<ResultRow> {
        let gt = ground_truth();
        let mut rows = good_rows();
        for row in &mut rows {
            let image = gt.image(row.image_id).unwrap();
            change(row, [f64::from(image.width), f64::from(image.height)]);
        }
        rows
    }

    fn causes(rows: &[ResultRow]) -> Vec<Cause> {
        let diagnostics = diagnose(&ground_truth(), rows);
        for diagnostic in &diagnostics {
            eprintln!("{:?}: {diagnostic}", diagnostic.cause);
        }
        diagnostics
            .iter()
            .map(|diagnostic| diagnostic.cause)
            .collect()
    }

    fn sentence(rows: &[ResultRow]) -> String {
        diagnose(&ground_truth(), rows)[0].sentence.clone()
    }

    #[test]
    fn the_good_detector_of_these_tests_is_not_near_zero() {
        let evaluation = coco::evaluate(&ground_truth(), &good_rows()).unwrap();
        assert!(evaluation.metrics.ap50 > 0.95, "{:?}", evaluation.metrics);
        assert!(!evaluation.is_near_zero());
    }

    #[test]
    fn no_detections_are_named() {
        assert!(coco::evaluate(&ground_truth(), &[]).unwrap().is_near_zero());
        assert_eq!(causes(&[]), [Cause::NoDetections]);
        assert!(sentence(&[]).contains("in 30 images"));
    }

    #[test]
    fn no_objects_are_named() {
        let gt = ground_truth();
        let empty = GroundTruth::new(gt.images().into(), gt.categories().into(), vec![]).unwrap();
        assert_eq!(diagnose(&empty, &good_rows())[0].cause, Cause::NoObjects);
    }

    #[test]
    fn image_ids_of_another_dataset_are_named() {
        let rows = changed(|row, _| row.image_id += 50_000);
        assert_eq!(causes(&rows), [Cause::ImageIds]);
        let text = sentence(&rows);
        assert!(
            text.contains("51000") && text.contains("1000, 1031"),
            "{text}"
        );
    }

    #[test]
    fn positions_in_place_of_image_ids_are_named() {
        let rows = changed(|row, _| row.image_id = (row.image_id - 1000) / 31);
        assert!(sentence(&rows).contains("look like positions"));
    }

    #[test]
    fn some_unknown_images_do_not_hide_another_cause() {
        let mut rows = changed(|row, _| {
            row.bbox[2] += row.bbox[0];
            row.bbox[3] += row.bbox[1];
        });
        rows[0].image_id = 77_777;
        assert_eq!(causes(&rows), [Cause::ImageIds, Cause::BoxFormat]);
    }

    #[test]
    fn contiguous_class_indices_in_place_of_ids_are_named() {
        let index = |id| CATEGORIES.iter().position(|(own, _)| *own == id).unwrap() as u64;
        let rows = changed(|row, _| row.category_id = index(row.category_id));
        assert_eq!(causes(&rows), [Cause::CategoryIds]);
        assert!(sentence(&rows).contains("from 0 in the order of their ids"));
        let rows = changed(|row, _| row.category_id = index(row.category_id) + 1);
        assert_eq!(causes(&rows), [Cause::CategoryIds]);
        assert!(sentence(&rows).contains("from 1 in the order of their ids"));
    }

    #[test]
    fn category_ids_off_by_one_are_named() {
        for (shift, words) in [(1, "one too high"), (-1, "one too low")] {
            let rows = changed(|row, _| {
                row.category_id = row.category_id.checked_add_signed(shift).unwrap();
            });
            assert_eq!(causes(&rows), [Cause::CategoryIds]);
            assert!(sentence(&rows).contains(words), "{}", sentence(&rows));
        }
    }

    #[test]
    fn classes_in_the_order_of_their_names_are_named() {
        let rows = changed(|row, _| {
            // apple, bus, car, dog, person
            row.category_id = match row.category_id {
                8 => 0,
                7 => 1,
                3 => 2,
                13 => 3,
                _ => 4,
            };
        });
        assert_eq!(causes(&rows), [Cause::CategoryIds]);
        assert!(sentence(&rows).contains("order of their names"));
    }

    #[test]
    fn scrambled_classes_are_distinguished_from_wrong_boxes() {
        let rows = changed(|row, _| {
            row.category_id = match row.category_id {
                2 => 13,
                3 => 2,
                7 => 3,
                8 => 7,
                _ => 500,
            };
        });
        assert_eq!(causes(&rows), [Cause::Classes]);
        assert!(sentence(&rows).contains("the boxes fit but the classes do not"));
    }

    #[test]
    fn corners_in_place_of_width_and_height_are_named() {
        let rows = changed(|row, _| {
            let [x, y, w, h] = row.bbox;
            row.bbox = [x, y, x + w, y + h];
        });
        assert_eq!(causes(&rows), [Cause::BoxFormat]);
        let text = sentence(&rows);
        assert!(
            text.contains("[x1, y1, x2, y2]") && text.contains("instead of"),
            "{text}"
        );
    }

    #[test]
    fn centers_in_place_of_the_corner_are_named() {
        let rows = changed(|row, _| {
            let [x, y, w, h] = row.bbox;
            row.bbox = [x + w / 2.0, y + h / 2.0, w, h];
        });
        assert_eq!(causes(&rows), [Cause::BoxFormat]);
        assert!(sentence(&rows).contains("center_x"));
    }

    #[test]
    fn negative_sides_and_category_ids_that_nothing_explains_are_named() {
        let rows = changed(|row, _| {
            let [x, y, w, h] = row.bbox;
            row.bbox = [x, y, -w, -h];
        });
        assert_eq!(causes(&rows), [Cause::NegativeSides]);
        let number = rows.len();
        let start = format!("{number} of {number} result rows have a negative width or height");
        assert!(sentence(&rows).starts_with(&start), "{}", sentence(&rows));
        let rows = changed(|row, _| {
            row.category_id += 100;
            row.bbox[0] += 5000.0;
        });
        assert_eq!(causes(&rows), [Cause::CategoryIds]);
        assert!(
            sentence(&rows).ends_with("is in the ground truth (2, 3, 7, 8, ...)"),
            "{}",
            sentence(&rows)
        );
    }

    #[test]
    fn swapped_axes_are_named() {
        let rows = changed(|row, _| {
            let [x, y, w, h] = row.bbox;
            row.bbox = [y, x, y + h, x + w];
        });
        assert_eq!(causes(&rows), [Cause::BoxFormat]);
        assert!(sentence(&rows).contains("[y1, x1, y2, x2]"));
    }

    #[test]
    fn fractions_of_the_image_are_named() {
        let rows = changed(|row, [width, height]| {
            let [x, y, w, h] = row.bbox;
            row.bbox = [x / width, y / height, w / width, h / height];
        });
        assert_eq!(causes(&rows), [Cause::Normalized]);
        let corners = changed(|row, [width, height]| {
            let [x, y, w, h] = row.bbox;
            row.bbox = [x / width, y / height, (x + w) / width, (y + h) / height];
        });
        assert_eq!(causes(&corners), [Cause::Normalized]);
        assert!(sentence(&corners).contains("[x1, y1, x2, y2]"));
    }

    #[test]
    fn boxes_of_resized_images_are_named_with_the_size() {
        type Factors = fn(f64, f64) -> [f64; 2];
        let frames: [(Factors, &str); 4] = [
            (|_, _| [0.5, 0.5], "factors 0.5"),
            (|w, h| [800.0 / w.min(h); 2], "shorter side of 80"),
            (|w, h| [320.0 / w.max(h); 2], "longer side of 32"),
            (|w, h| [416.0 / w, 256.0 / h], "stretched to 41"),
        ];
        for (factors, words) in frames {
            let rows = changed(|row, [width, height]| {
                let [fx, fy] = factors(width, height);
                let [x, y, w, h] = row.bbox;
                row.bbox = [x * fx, y * fy, w * fx, h * fy];
            });
            assert_eq!(causes(&rows), [Cause::Resized]);
            assert!(sentence(&rows).contains(words), "{}", sentence(&rows));
        }
    }

    #[test]
    fn wrong_boxes_and_wrong_categories_are_both_named() {
        let rows = changed(|row, _| {
            let [x, y, w, h] = row.bbox;
            row.bbox = [x, y, x + w, y + h];
            row.category_id -= 1;
        });
        assert_eq!(causes(&rows), [Cause::BoxFormat, Cause::CategoryIds]);
    }

    #[test]
    fn equal_scores_are_named() {
        let rows = changed(|row, _| {
            row.bbox[0] += 2000.0;
            row.score = 1.0;
        });
        assert_eq!(causes(&rows), [Cause::EqualScores, Cause::Detector]);
    }

    #[test]
    fn rows_of_a_subset_of_the_images_are_named() {
        let rows: Vec<_> = changed(|row, _| row.bbox[0] += 2000.0)
            .into_iter()
            .filter(|row| row.image_id < 1100)
            .collect();
        assert_eq!(causes(&rows), [Cause::FewImages, Cause::Detector]);
        assert!(sentence(&rows).starts_with("only 4 of the 30 images"));
    }

    #[test]
    fn rows_of_images_without_objects_only_are_named() {
        let mut gt = ground_truth();
        let mut images = gt.images().to_vec();
        images.push(GtImage {
            id: 5,
            ..images[0].clone()
        });
        gt = GroundTruth::new(images, gt.categories().into(), gt.annotations().into()).unwrap();
        let rows = [ResultRow {
            image_id: 5,
            ..good_rows()[0]
        }];
        assert_eq!(diagnose(&gt, &rows)[0].cause, Cause::FewImages);
    }

    #[test]
    fn an_untrained_detector_is_distinguished_from_wrong_files() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut rows = good_rows();
        for row in &mut rows {
            row.bbox = [
                rng.random_range(0.0..400.0),
                rng.random_range(0.0..250.0),
                rng.random_range(5.0..60.0),
                rng.random_range(5.0..60.0),
            ];
        }
        assert_eq!(causes(&rows), [Cause::Detector]);
        assert!(sentence(&rows).contains("in 30 images"));
    }
}
