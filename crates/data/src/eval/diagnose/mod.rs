//! Diagnosis of a low AP: likely causes, each a sentence with the numbers that support it.
//!
//! The usual cause is not a weak detector but inconsistent files. Each candidate is tested: the
//! rows are interpreted differently (as corners, as fractions of the image, in the coordinates of
//! the resized image, with shifted or permuted ids) and re-evaluated, and only an interpretation
//! with a much higher AP is reported.
//!
//! - `boxes`: other forms and units of boxes. - `ids`: other meanings of image and category ids.

mod boxes;
mod ids;

use std::collections::{BTreeSet, HashMap, HashSet};

use super::coco::{self, CocoEvaluation, UNDEFINED};
use super::ground_truth::{GroundTruth, GtAnnotation, GtCategory};
use super::image_ids::compare;
use super::results::ResultRow;
use crate::box_conventions::BoxOrder;
use crate::text;

/// AP below which the result counts as near zero.
const NEAR_ZERO: f64 = 0.01;
/// The number of images that candidates are tested on; more would not change the result.
const SAMPLE_IMAGES: usize = 200;
/// AP50 below which the files may be inconsistent in part: half of the classes are permuted, or most images missing.
const LOW_AP50: f64 = 0.5;
/// Minimum AP50 of an alternative interpretation of the rows to be accepted ...
const CONVINCING_AP50: f64 = 0.2;
/// ... and the minimum ratio of its AP50 to that of the rows as written.
const CONVINCING_FACTOR: f64 = 3.0;
/// AP50 of an interpretation that explains nearly all objects; a smaller gain convinces, too ...
const GOOD_AP50: f64 = 0.7;
/// ... if it is at least this large.
const CONVINCING_GAIN: f64 = 0.3;
/// Difference in AP50 by which an interpretation has to exceed a simpler one.
const NOTICEABLE: f64 = 0.02;

/// The cause that a [`Diagnosis`] reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The ground truth has no objects: AP is undefined, not zero.
    NoObjects,
    /// There are no result rows.
    NoDetections,
    /// Rows have image ids that the ground truth does not have, or that mean other images.
    ImageIds,
    /// Most images with objects have no rows.
    FewImages,
    /// The rows fit objects, but are much fewer.
    FewDetections,
    /// Boxes are not `[x, y, width, height]`.
    BoxFormat,
    /// Most boxes have a negative width or height.
    NegativeSides,
    /// Boxes are fractions, percentages or thousandths of the image instead of pixels.
    Normalized,
    /// Boxes are in the coordinates of the resized image instead of the original.
    Resized,
    /// Category ids are shifted or permuted, or contiguous class indices instead of the ids of the dataset.
    CategoryIds,
    /// Boxes match but classes do not, and no other meaning of the ids explains it.
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
    /// The explanation, with the numbers that support it.
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

    /// Returns whether the files may be inconsistent, so that [`diagnose`] is worth its time. An AP that is not
    /// [near zero](Self::is_near_zero) can also be that of a weak detector.
    pub fn is_low(&self) -> bool {
        self.metrics.ap50 < LOW_AP50
    }
}

/// Finds the causes of a [low](CocoEvaluation::is_low) AP. Returns at least one
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
    let is_unknown = |row: &ResultRow| ground_truth.image(row.image_id).is_none();
    let other_images = ids::other_images(ground_truth, results);
    let results = match &other_images {
        Some((found, rows)) => {
            diagnostics.push(found.clone());
            rows
        }
        None => {
            if results.iter().any(is_unknown) {
                diagnostics.push(diagnostic(Cause::ImageIds, compare(ground_truth, results)));
            }
            results
        }
    };
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
        // Where some images have no detections, those of the others may be good.
        let detector = sample.detector_at_fault(!diagnostics.is_empty());
        diagnostics.extend(detector);
    }
    diagnostics
}

/// Finds out whether width and height of detections are exchanged where AP50 is not [low](CocoEvaluation::is_low): a box
/// that is nearly a square overlaps its object nevertheless.
pub fn crossed_sizes(ground_truth: &GroundTruth, results: &[ResultRow]) -> Option<Diagnosis> {
    /// A gain in AP that right boxes do not have.
    const GAIN: f64 = 0.15;
    let order = BoxOrder::CrossedSizes;
    let sample = Sample::draw(ground_truth, results)?.without_classes()?;
    let ap = |rows: &[ResultRow]| {
        coco::evaluate(&sample.ground_truth, rows)
            .map_or(UNDEFINED, |evaluation| evaluation.metrics.ap)
    };
    let rows = sample.rows.iter();
    let crossed = rows.map(|row| ResultRow {
        bbox: order.to_xywh(row.bbox),
        ..*row
    });
    let (as_written, converted) = (ap(&sample.rows), ap(&crossed.collect::<Vec<_>>()));
    (converted - as_written >= GAIN).then(|| {
        let sentence = format!(
            "the boxes would fit as {order}, not as {}: converted, AP without regard to classes is {converted:.3} \
             instead of {as_written:.3}",
            BoxOrder::Sizes
        );
        diagnostic(Cause::BoxFormat, sentence)
    })
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
                "detections for {both} of {} with objects; the objects of the others count as missed",
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

    /// Describes how many objects are detected at all. `is_explained` tells whether there is another cause, beside
    /// which a detector that finds most objects is none.
    fn detector_at_fault(&self, is_explained: bool) -> Option<Diagnosis> {
        let mut rows_of: HashMap<u64, Vec<usize>> = HashMap::new();
        for (at, row) in self.rows.iter().enumerate() {
            rows_of.entry(row.image_id).or_default().push(at);
        }
        let (mut objects, mut detected) = (0, 0);
        let mut fitting: HashSet<usize> = HashSet::new();
        let annotations = self.ground_truth.annotations().iter();
        for object in annotations.filter(|object| !object.iscrowd) {
            objects += 1;
            let rows = rows_of.get(&object.image_id).into_iter().flatten();
            let mut fits = rows.filter(|&&at| iou(object.bbox, self.rows[at].bbox) >= 0.5);
            let first = fits.next();
            detected += usize::from(first.is_some());
            fitting.extend(first.into_iter().chain(fits));
        }
        let finds_most = 2 * detected >= objects;
        if finds_most && is_explained {
            return None;
        }
        // Right as far as they go.
        let are_few = self.rows.len() * 2 <= objects && fitting.len() * 10 >= self.rows.len() * 8;
        let why = if self.covers_images() {
            "nearly all detections are the whole image"
        } else if are_few {
            return Some(diagnostic(
                Cause::FewDetections,
                format!(
                    "{} of {} fit an object at IoU 0.5 or higher, but there are {} in {}: the score threshold may be \
                     too high, or detections were lost",
                    fitting.len(),
                    text::count(self.rows.len(), "detection"),
                    text::count(objects, "object"),
                    text::count(self.ground_truth.images().len(), "image"),
                ),
            ));
        } else if finds_most {
            "possible causes: false detections have scores as high as theirs, or their boxes are not exact"
        } else {
            "possible causes: the model is not trained yet, or its weights do not fit its architecture or \
             preprocessing"
        };
        Some(diagnostic(
            Cause::Detector,
            format!(
                "{detected} of {} in {} have a detection of any class at IoU 0.5 or higher; {why}",
                text::count(objects, "object"),
                text::count(self.ground_truth.images().len(), "image"),
            ),
        ))
    }
}

/// Returns the item with the highest `value`; of those that differ by little, the first, which is simpler: corners explain
/// a file better than corners in images of nearly the same size do.
fn best<T>(items: impl IntoIterator<Item = T>, value: impl Fn(&T) -> f64) -> Option<(T, f64)> {
    items
        .into_iter()
        .map(|item| {
            let value = value(&item);
            (item, value)
        })
        .reduce(|best, next| {
            if next.1 > best.1 + NOTICEABLE {
                next
            } else {
                best
            }
        })
}

fn is_convincing(ap50: f64, as_written: f64) -> bool {
    // UNDEFINED is below zero.
    let as_written = as_written.max(0.0);
    ap50 >= CONVINCING_AP50 && ap50 >= as_written * CONVINCING_FACTOR
        || ap50 >= GOOD_AP50 && ap50 - as_written >= CONVINCING_GAIN
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
        let text = sentence(&rows);
        assert!(
            text.starts_with("the image ids of the results (0, 1, 2, 3, ...) are not those of the ground truth (1000, 1031"),
            "{text}"
        );
        assert!(
            text.contains("they count the images from 0 in the order of their ids"),
            "{text}"
        );
    }

    #[test]
    fn a_size_that_is_fitted_to_few_boxes_explains_nothing() {
        // A third of the detections is of resized images, and the others are nowhere.
        let few = |share: u64| {
            let number = std::cell::Cell::new(0u64);
            changed(|row, _| {
                row.bbox = row.bbox.map(|side| side * 1.7);
                // A detection and a false one alternate.
                let object = number.replace(number.get() + 1) / 2;
                if object % 3 >= share {
                    row.bbox = [600.0, 400.0, 3.0, 3.0];
                }
            })
        };
        assert_eq!(causes(&few(3)), [Cause::Resized]);
        assert_eq!(causes(&few(1)), [Cause::Detector]);
        assert!(sentence(&few(1)).contains("; possible causes: the model is not trained yet, or"));
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
        assert_eq!(causes(&rows), [Cause::CategoryIds]);
        let text = sentence(&rows);
        assert!(
            text.contains("they are permuted, 2 is 3 (car), 3 is 7 (bus), 7 is 8 (apple), 13 is 2 (person) and 1 more"),
            "{text}"
        );
        // Every class is detected as any other.
        let rng = std::cell::RefCell::new(ChaCha8Rng::seed_from_u64(8));
        let rows = changed(|row, _| {
            let at = rng.borrow_mut().random_range(0..CATEGORIES.len());
            row.category_id = CATEGORIES[at].0;
        });
        assert_eq!(causes(&rows), [Cause::Classes]);
        assert!(sentence(&rows).contains("the boxes fit but the classes do not"));
    }

    #[test]
    fn two_classes_in_the_place_of_each_other_are_named() {
        let rows = changed(|row, _| {
            row.category_id = match row.category_id {
                2 => 3,
                3 => 2,
                other => other,
            };
        });
        assert_eq!(causes(&rows), [Cause::CategoryIds]);
        let text = sentence(&rows);
        assert!(
            text.contains("are in the ground truth, but mean other classes: they are permuted, 2 is 3 (car), 3 is 2 (person);"),
            "{text}"
        );
    }

    #[test]
    fn image_ids_in_another_order_are_named() {
        // Ids from 1 on; the results count from 0, so that all but one of their ids are known.
        let gt = ground_truth();
        let number = |id: u64| (id - 1000) / 31 + 1;
        let images = gt.images().iter().map(|image| GtImage {
            id: number(image.id),
            ..image.clone()
        });
        let objects = gt.annotations().iter().map(|object| GtAnnotation {
            image_id: number(object.image_id),
            ..object.clone()
        });
        let gt = GroundTruth::new(images.collect(), gt.categories().into(), objects.collect());
        let gt = gt.unwrap();
        for shift in [0, 1, 2] {
            let rows = changed(|row, _| row.image_id = number(row.image_id) + shift - 1);
            let found = diagnose(&gt, &rows);
            if shift == 1 {
                assert_ne!(found[0].cause, Cause::ImageIds, "{}", found[0]);
                continue;
            }
            assert_eq!(found[0].cause, Cause::ImageIds);
            assert!(
                found[0].sentence.contains("converted, AP50"),
                "{}",
                found[0]
            );
            assert_eq!(found.len(), 1, "{found:?}");
        }
    }

    #[test]
    fn a_weak_detector_is_not_explained_by_its_files() {
        // A fifth of the objects is detected, and the classes are right.
        let mut rows = good_rows();
        let mut at = 0;
        rows.retain(|_| {
            at += 1;
            at % 10 < 3
        });
        let evaluation = coco::evaluate(&ground_truth(), &rows).unwrap();
        assert!(
            evaluation.is_low() && !evaluation.is_near_zero(),
            "{:?}",
            evaluation.metrics
        );
        let found = causes(&rows);
        assert!(
            found
                .iter()
                .all(|cause| matches!(cause, Cause::Detector | Cause::FewImages)),
            "{found:?}"
        );
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
        assert!(sentence(&rows).contains("[center x, center y"));
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
            row.bbox = [5000.0, 5000.0, 3.0, 3.0];
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
    fn every_order_of_the_table_is_tried() {
        for order in BoxOrder::ALL.into_iter().skip(1) {
            let rows = changed(|row, _| row.bbox = order.of_xywh(row.bbox));
            let text = sentence(&rows);
            let expected =
                format!("the boxes would fit as {order}, not as [x, y, width, height]: ");
            assert!(text.starts_with(&expected), "{text}");
        }
    }

    #[test]
    fn exchanged_sides_of_near_squares_are_named_though_ap50_is_high() {
        let objects = ground_truth().annotations().to_vec().into_iter();
        let objects = objects.map(|object| {
            let [x, y, _, h] = object.bbox;
            let bbox = [x, y, h * 0.75, h];
            GtAnnotation { bbox, ..object }
        });
        let gt = ground_truth();
        let gt = GroundTruth::new(
            gt.images().into(),
            gt.categories().into(),
            objects.collect(),
        );
        let gt = gt.unwrap();
        let rows = gt.annotations().iter().map(|object| ResultRow {
            image_id: object.image_id,
            category_id: object.category_id,
            bbox: object.bbox,
            score: 0.5,
        });
        let right: Vec<ResultRow> = rows.collect();
        let crossed = right.iter().map(|row| ResultRow {
            bbox: BoxOrder::CrossedSizes.of_xywh(row.bbox),
            ..*row
        });
        let crossed: Vec<ResultRow> = crossed.collect();
        assert!(!coco::evaluate(&gt, &crossed).unwrap().is_low());
        let found = crossed_sizes(&gt, &crossed).unwrap();
        assert!(found.sentence.contains("[x, y, height, width]"), "{found}");
        assert_eq!(crossed_sizes(&gt, &right), None);
    }

    #[test]
    fn y_before_x_is_named_also_with_sizes() {
        let rows = changed(|row, _| {
            let [x, y, w, h] = row.bbox;
            row.bbox = [y, x, h, w];
        });
        assert_eq!(causes(&rows), [Cause::BoxFormat]);
        assert!(sentence(&rows).contains("[y, x, height, width]"));
    }

    #[test]
    fn percentages_and_thousandths_of_the_image_are_named() {
        for (whole, name) in [(100.0, "percentages"), (1000.0, "thousandths")] {
            let rows = changed(|row, [width, height]| {
                let [x, y, w, h] = row.bbox;
                let [fx, fy] = [whole / width, whole / height];
                row.bbox = [y * fy, x * fx, (y + h) * fy, (x + w) * fx];
            });
            assert_eq!(causes(&rows), [Cause::Normalized]);
            let text = sentence(&rows);
            assert!(
                text.contains(name) && text.contains("[y1, x1, y2, x2]"),
                "{text}"
            );
        }
    }

    #[test]
    fn corners_in_resized_images_are_named() {
        let rows = changed(|row, [width, height]| {
            let [x, y, w, h] = row.bbox.map(|number| number * 800.0 / width.min(height));
            row.bbox = [x, y, x + w, y + h];
        });
        assert_eq!(causes(&rows), [Cause::Resized]);
        let text = sentence(&rows);
        assert!(
            text.contains("shorter side of 800") && text.contains("[x1, y1, x2, y2]"),
            "{text}"
        );
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
        let frames: [(Factors, &str); 5] = [
            (|w, h| [750.0 / w.max(h); 2], "longer side of about 7"),
            (|_, _| [0.5, 0.5], "factors 0.5"),
            (|w, h| [800.0 / w.min(h); 2], "shorter side of 800"),
            (|w, h| [320.0 / w.max(h); 2], "longer side of 320"),
            (|w, h| [416.0 / w, 256.0 / h], "stretched to 416x256"),
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
    fn boxes_of_padded_squares_are_named_with_their_size() {
        for (square, words) in [
            (640.0, "images resized and padded to 640x640 (letterbox)"),
            (416.0, "images resized and padded to 416x416 (letterbox)"),
            (
                1.0,
                "fractions of the square that an image is padded to (letterbox)",
            ),
        ] {
            let rows = changed(|row, [width, height]| {
                let scale = square / width.max(height);
                let [left, top] = [width, height].map(|side| (square - side * scale) / 2.0);
                let [x, y, w, h] = row.bbox.map(|number| number * scale);
                row.bbox = [x + left, y + top, w, h];
            });
            assert_eq!(causes(&rows), [Cause::Resized], "{}", sentence(&rows));
            assert!(sentence(&rows).contains(words), "{}", sentence(&rows));
        }
        // The image in the upper left of the square.
        let rows = changed(|row, [width, height]| {
            let [x, y, w, h] = row.bbox.map(|number| number * 640.0 / width.max(height));
            row.bbox = [x, y, x + w, y + h];
        });
        let text = sentence(&rows);
        assert!(
            text.contains("a longer side of 640 in the form [x1, y1, x2, y2]"),
            "{text}"
        );
    }

    #[test]
    fn mirrored_boxes_are_named() {
        for (is_x, is_y, words) in [
            (true, false, "images mirrored left to right"),
            (false, true, "images mirrored top to bottom"),
            (true, true, "images rotated by 180 degrees"),
        ] {
            let rows = changed(|row, [width, height]| {
                let [x, y, w, h] = row.bbox;
                let x = if is_x { width - x - w } else { x };
                let y = if is_y { height - y - h } else { y };
                row.bbox = [x, y, w, h];
            });
            assert_eq!(causes(&rows), [Cause::BoxFormat], "{}", sentence(&rows));
            assert!(sentence(&rows).contains(words), "{}", sentence(&rows));
        }
    }

    #[test]
    fn boxes_of_images_rotated_by_90_degrees_are_named() {
        type Rotate = fn([f64; 4], [f64; 2]) -> [f64; 4];
        let rotations: [(&str, Rotate); 3] = [
            (
                "rotated by 90 degrees to the left",
                |[x, y, w, h], [width, _]| [y, width - x - w, h, w],
            ),
            (
                "rotated by 90 degrees to the right",
                |[x, y, w, h], [_, height]| [height - y - h, x, h, w],
            ),
            (
                "transposed about the other",
                |[x, y, w, h], [width, height]| [height - y - h, width - x - w, h, w],
            ),
        ];
        for (words, rotate) in rotations {
            let rows = changed(|row, size| row.bbox = rotate(row.bbox, size));
            assert_eq!(causes(&rows), [Cause::BoxFormat], "{}", sentence(&rows));
            assert!(sentence(&rows).contains(words), "{}", sentence(&rows));
        }
    }

    #[test]
    fn boxes_of_padded_or_cropped_images_are_named_with_the_distance() {
        for [dx, dy] in [[80.0, 0.0], [-60.0, 120.0]] {
            let rows = changed(|row, _| {
                row.bbox[0] += dx;
                row.bbox[1] += dy;
            });
            assert_eq!(causes(&rows), [Cause::Resized], "{}", sentence(&rows));
            let text = sentence(&rows);
            let (before, after) = text.split_once(" (x) and ").unwrap();
            let number = |text: Option<&str>| text.unwrap().parse::<f64>().unwrap();
            let found = [before.rsplit(' ').next(), after.split(' ').next()].map(number);
            let is_near = found.iter().zip([dx, dy]).all(|(a, b)| (a - b).abs() < 5.0);
            assert!(is_near, "{text}");
        }
    }

    #[test]
    fn image_ids_of_the_next_image_are_named_though_ids_have_gaps() {
        let gt = ground_truth();
        let ids: Vec<u64> = gt.images().iter().map(|image| image.id).collect();
        for (offset, words) in [
            (1, "one place too late"),
            (ids.len() - 1, "one place too early"),
        ] {
            let rows = changed(|row, _| {
                let at = ids.iter().position(|id| *id == row.image_id).unwrap();
                row.image_id = ids[(at + offset) % ids.len()];
            });
            let found = causes(&rows);
            assert_eq!(found, [Cause::ImageIds], "{}", sentence(&rows));
            assert!(sentence(&rows).contains(words), "{}", sentence(&rows));
        }
    }

    #[test]
    fn few_detections_that_fit_are_not_blamed_on_the_model() {
        let rows: Vec<ResultRow> = good_rows().into_iter().step_by(8).collect();
        let found = causes(&rows);
        assert!(found.contains(&Cause::FewDetections), "{}", sentence(&rows));
        assert!(!found.contains(&Cause::Detector));
        // Those beside their objects are.
        let rows: Vec<ResultRow> = changed(|row, _| row.bbox = [2000.0, 2000.0, 3.0, 3.0])
            .into_iter()
            .step_by(8)
            .collect();
        assert!(!causes(&rows).contains(&Cause::FewDetections));
    }

    #[test]
    fn boxes_of_whole_images_are_no_other_unit() {
        // Of objects in the upper left, thousandths would fit.
        let gt = ground_truth();
        let objects = gt.images().iter().map(|image| GtAnnotation {
            image_id: image.id,
            bbox: [
                0.0,
                0.0,
                f64::from(image.width).powi(2) / 1000.0,
                f64::from(image.height).powi(2) / 1000.0,
            ],
            ..gt.annotations()[0].clone()
        });
        let gt = GroundTruth::new(
            gt.images().into(),
            gt.categories().into(),
            objects.collect(),
        );
        let gt = gt.unwrap();
        let rows: Vec<ResultRow> = gt
            .images()
            .iter()
            .map(|image| ResultRow {
                image_id: image.id,
                bbox: [0.0, 0.0, f64::from(image.width), f64::from(image.height)],
                category_id: gt.annotations()[0].category_id,
                ..good_rows()[0]
            })
            .collect();
        let found = diagnose(&gt, &rows);
        assert!(
            found.iter().all(|found| found.cause != Cause::Normalized),
            "{found:?}"
        );
        let detector = found.iter().find(|found| found.cause == Cause::Detector);
        let sentence = &detector.unwrap().sentence;
        assert!(
            sentence.contains("nearly all detections are the whole image"),
            "{sentence}"
        );
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
        let rows: Vec<_> = changed(|row, _| row.bbox = [2000.0, 2000.0, 3.0, 3.0])
            .into_iter()
            .filter(|row| row.image_id < 1100)
            .collect();
        assert_eq!(causes(&rows), [Cause::FewImages, Cause::Detector]);
        assert!(sentence(&rows).starts_with("detections for 4 of 30 images with objects;"));
    }

    #[test]
    fn good_detections_of_a_few_images_are_not_blamed_on_the_detector() {
        let rows: Vec<_> = good_rows()
            .into_iter()
            .filter(|row| row.image_id < 1100)
            .collect();
        assert_eq!(causes(&rows), [Cause::FewImages]);
    }

    #[test]
    fn corners_in_images_of_one_size_are_corners_and_not_resized() {
        let mut gt = ground_truth();
        let images = gt.images().iter().map(|image| GtImage {
            width: 640,
            height: 640,
            ..image.clone()
        });
        gt = GroundTruth::new(
            images.collect(),
            gt.categories().into(),
            gt.annotations().into(),
        )
        .unwrap();
        let rows = changed(|row, _| {
            let [x, y, w, h] = row.bbox;
            row.bbox = [x, y, x + w, y + h];
        });
        let found = diagnose(&gt, &rows);
        assert_eq!(found[0].cause, Cause::BoxFormat, "{}", found[0]);
        let rows: Vec<ResultRow> = good_rows()
            .iter()
            .map(|row| ResultRow {
                bbox: row.bbox.map(|number| number / 640.0),
                ..*row
            })
            .collect();
        let found = diagnose(&gt, &rows);
        assert_eq!(found[0].cause, Cause::Normalized, "{}", found[0]);
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
