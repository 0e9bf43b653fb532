//! The twelve COCO box metrics, the class table and the precision-recall curves.
//!
//! Matching and accumulation are done by the crate `hotcoco`, whose numbers are equal to
//! pycocotools' to the last digits (`tests/coco_eval.rs` compares them). This module validates the
//! input and arranges the output. It differs from pycocotools in these cases:
//!
//! | input | here | pycocotools |
//! |---|---|---|
//! | row with an unknown image | error that compares the ids | assertion |
//! | row with an unknown category | dropped, with a warning | dropped without a warning |
//! | row with a score or box that is not finite | error that names the row | wrong order |
//! | row with a negative width or height | matches nothing, with a warning | matches nothing |
//! | row with a width of zero or 1e30 | matches nothing, with a warning | matches nothing |
//! | no rows | AP 0 | `IndexError` |
//! | class without objects | -1 | -1 |

use hotcoco::params::IouType;
use hotcoco::types::{Annotation, Category, Dataset, Image};
use hotcoco::{AccumulatedEval, COCO, COCOeval};
use serde::{Deserialize, Serialize};

use super::error::EvalError;
use super::ground_truth::GroundTruth;
use super::image_ids::some_of;
use super::results::ResultRow;
use crate::boxes::LARGEST_COORDINATE;
use crate::text::{self, numbers};

/// The value of a metric that is undefined because there are no objects, as in pycocotools.
pub const UNDEFINED: f64 = -1.0;

/// Recall levels of a precision-recall curve: 0, 0.01, ..., 1.
pub(crate) const RECALL_LEVELS: usize = 101;

/// Positions of the area range "all" and of 100 detections on the axes of the engine.
const ALL_AREAS: usize = 0;
const HUNDRED_DETECTIONS: usize = 2;
/// Positions of the IoU thresholds 0.50 and 0.75 among 0.50, 0.55, ..., 0.95.
const IOU_50: usize = 0;
const IOU_75: usize = 5;

/// The twelve COCO metrics, from 0 to 1, or [`UNDEFINED`] where there is nothing to evaluate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CocoMetrics {
    /// AP averaged over IoU 0.50, 0.55, ..., 0.95 and over classes, the primary metric.
    #[serde(rename = "AP")]
    pub ap: f64,
    /// AP at IoU 0.50.
    #[serde(rename = "AP50")]
    pub ap50: f64,
    /// AP at IoU 0.75.
    #[serde(rename = "AP75")]
    pub ap75: f64,
    /// AP of objects with an area up to 32x32 pixels.
    #[serde(rename = "APs")]
    pub ap_small: f64,
    /// AP of objects with an area from 32x32 to 96x96 pixels.
    #[serde(rename = "APm")]
    pub ap_medium: f64,
    /// AP of objects with an area from 96x96 pixels.
    #[serde(rename = "APl")]
    pub ap_large: f64,
    /// Average recall with one detection per image and class.
    #[serde(rename = "AR1")]
    pub ar1: f64,
    /// Average recall with ten detections.
    #[serde(rename = "AR10")]
    pub ar10: f64,
    /// Average recall with a hundred detections.
    #[serde(rename = "AR100")]
    pub ar100: f64,
    /// AR100 of small objects.
    #[serde(rename = "ARs")]
    pub ar_small: f64,
    /// AR100 of medium objects.
    #[serde(rename = "ARm")]
    pub ar_medium: f64,
    /// AR100 of large objects.
    #[serde(rename = "ARl")]
    pub ar_large: f64,
}

impl CocoMetrics {
    /// Returns the metrics with their usual names, in the usual order.
    pub fn named(&self) -> [(&'static str, f64); 12] {
        [
            ("AP", self.ap),
            ("AP50", self.ap50),
            ("AP75", self.ap75),
            ("APs", self.ap_small),
            ("APm", self.ap_medium),
            ("APl", self.ap_large),
            ("AR1", self.ar1),
            ("AR10", self.ar10),
            ("AR100", self.ar100),
            ("ARs", self.ar_small),
            ("ARm", self.ar_medium),
            ("ARl", self.ar_large),
        ]
    }

    /// Converts from the order of pycocotools' `stats`.
    fn from_stats(stats: &[f64]) -> Option<Self> {
        let &[
            ap,
            ap50,
            ap75,
            ap_small,
            ap_medium,
            ap_large,
            ar1,
            ar10,
            ar100,
            ar_small,
            ar_medium,
            ar_large,
        ] = stats
        else {
            return None;
        };
        Some(Self {
            ap,
            ap50,
            ap75,
            ap_small,
            ap_medium,
            ap_large,
            ar1,
            ar10,
            ar100,
            ar_small,
            ar_medium,
            ar_large,
        })
    }
}

/// The metrics of one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassMetrics {
    /// The id in the dataset.
    pub category_id: u64,
    /// The name of the class.
    pub name: String,
    /// Number of objects, without crowds.
    pub ground_truths: usize,
    /// Number of result rows of this class.
    pub detections: usize,
    /// The AP as in [`CocoMetrics::ap`]; [`UNDEFINED`] without objects.
    #[serde(rename = "AP")]
    pub ap: f64,
    /// The AP50 as in [`CocoMetrics::ap50`].
    #[serde(rename = "AP50")]
    pub ap50: f64,
    /// The AR100 as in [`CocoMetrics::ar100`].
    #[serde(rename = "AR100")]
    pub ar100: f64,
    /// Precision-recall curves; `None` without objects.
    #[serde(skip)]
    pub curves: Option<PrecisionRecall>,
}

/// Precision at the recalls 0, 0.01, ..., 1 (101 values each), made monotonic as in pycocotools; 0
/// where the recall is not reached. The mean of a curve is its AP.
#[derive(Debug, Clone, PartialEq)]
pub struct PrecisionRecall {
    /// At IoU 0.50.
    pub at_iou_50: Vec<f64>,
    /// At IoU 0.75.
    pub at_iou_75: Vec<f64>,
    /// Mean over IoU 0.50, 0.55, ..., 0.95.
    pub mean_over_iou: Vec<f64>,
}

impl PrecisionRecall {
    /// Returns the recall of each position.
    pub fn recalls() -> impl ExactSizeIterator<Item = f64> {
        (0..RECALL_LEVELS).map(|level| level as f64 / (RECALL_LEVELS - 1) as f64)
    }

    /// Averages curves position by position; `None` without curves.
    fn mean<'a>(curves: impl Iterator<Item = &'a Self> + Clone) -> Option<Self> {
        curves.clone().next()?;
        let mean_of = |part: fn(&Self) -> &[f64]| {
            (0..RECALL_LEVELS)
                .map(|level| mean(curves.clone().map(|curve| part(curve)[level])))
                .collect()
        };
        Some(Self {
            at_iou_50: mean_of(|curve| &curve.at_iou_50),
            at_iou_75: mean_of(|curve| &curve.at_iou_75),
            mean_over_iou: mean_of(|curve| &curve.mean_over_iou),
        })
    }
}

/// The result of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CocoEvaluation {
    /// The twelve metrics.
    #[serde(flatten)]
    pub metrics: CocoMetrics,
    /// Number of images (all of the ground truth, also those without detections).
    pub images: usize,
    /// Number of objects, without crowds, over all classes.
    pub ground_truths: usize,
    /// Number of result rows, without those of unknown categories.
    pub detections: usize,
    /// The classes of the ground truth, by ascending id.
    pub per_class: Vec<ClassMetrics>,
    /// Mean over the classes that have objects; `None` if no class has any.
    #[serde(skip)]
    pub curves: Option<PrecisionRecall>,
    /// Warnings about the input, one sentence each.
    pub warnings: Vec<String>,
}

/// Evaluates result rows against the ground truth, as pycocotools' `COCOeval` with `bbox` does.
///
/// All images of the ground truth count: objects of images without rows are missed objects. (Use
/// [`GroundTruth::restricted_to`] to evaluate on a subset.) Only the 100 rows with the highest scores count for
/// each class and image. Rows with equal scores keep their order.
///
/// # Errors A row refers to an image that is not in the ground truth, or has numbers that are not finite.
pub fn evaluate(
    ground_truth: &GroundTruth,
    results: &[ResultRow],
) -> Result<CocoEvaluation, EvalError> {
    check_rows(ground_truth, results)?;
    let mut warnings = ground_truth.warnings().to_vec();
    let known: Vec<&ResultRow> = results
        .iter()
        .filter(|row| ground_truth.category(row.category_id).is_some())
        .collect();
    let all = results.len();
    let is_unknown = |row: &ResultRow| ground_truth.category(row.category_id).is_none();
    if let Some(first) = results.iter().position(is_unknown) {
        let ids = ground_truth.categories().iter().map(|category| category.id);
        warnings.push(format!(
            "dropped {} of {all} result rows: the ground truth has no such category (first: row {first} with \
             category_id {}; the ground truth has {})",
            all - known.len(),
            results[first].category_id,
            some_of(&ids.collect())
        ));
    }
    warnings.extend(negative_sides(results));
    warnings.extend(unmatchable_rows(results));

    let (metrics, accumulated) = run_engine(ground_truth, &known)?;
    let per_class = class_table(ground_truth, &known, &accumulated);
    let curves = PrecisionRecall::mean(per_class.iter().filter_map(|class| class.curves.as_ref()));
    Ok(CocoEvaluation {
        metrics,
        curves,
        images: ground_truth.images().len(),
        ground_truths: per_class.iter().map(|class| class.ground_truths).sum(),
        detections: known.len(),
        per_class,
        warnings,
    })
}

/// Describes the rows with a negative width or height, if there are any.
pub(super) fn negative_sides(results: &[ResultRow]) -> Option<String> {
    let first = results.iter().position(ResultRow::has_negative_side)?;
    let number = results.iter().filter(|row| row.has_negative_side()).count();
    Some(format!(
        "{number} of {} result rows have a negative width or height and match no object (first: row {first} \
         with bbox {}); a box is [x, y, width, height] from its top left corner",
        results.len(),
        numbers(&results[first].bbox)
    ))
}

/// Describes the rows that match no object although their sides are not negative: those without an area, and those with
/// numbers beyond any image. They are evaluated as pycocotools evaluates them.
fn unmatchable_rows(results: &[ResultRow]) -> impl Iterator<Item = String> {
    let is_huge = |row: &ResultRow| row.bbox.iter().any(|v| v.abs() > LARGEST_COORDINATE);
    let is_empty = |row: &ResultRow| !row.has_negative_side() && row.bbox[2..].contains(&0.0);
    let described = |is_odd: &dyn Fn(&ResultRow) -> bool, what: &str| {
        let first = results.iter().position(is_odd)?;
        let number = results.iter().filter(|row| is_odd(row)).count();
        let verb = if number == 1 { "has" } else { "have" };
        Some(format!(
            "{number} of {} {verb} {what} and cannot match an object (first: row {first} with bbox {})",
            text::count(results.len(), "result row"),
            numbers(&results[first].bbox)
        ))
    };
    let lines = [
        described(&is_empty, "a width or height of zero"),
        described(&is_huge, "coordinates beyond 1,000,000 pixels"),
    ];
    lines.into_iter().flatten()
}

/// Refuses rows of unknown images and numbers that are not finite.
pub(super) fn check_rows(
    ground_truth: &GroundTruth,
    results: &[ResultRow],
) -> Result<(), EvalError> {
    for (position, row) in results.iter().enumerate() {
        row.check_finite(position)?;
    }
    let mut unknown = results
        .iter()
        .enumerate()
        .filter(|(_, row)| ground_truth.image(row.image_id).is_none());
    match unknown.next() {
        None => Ok(()),
        Some((first_row, row)) => Err(EvalError::UnknownImages {
            rows: 1 + unknown.count(),
            total: results.len(),
            first_row,
            first_id: row.image_id,
            comparison: super::image_ids::compare(ground_truth, results),
        }),
    }
}

/// Computes the twelve metrics only, of rows of known images and categories.
pub(super) fn metrics(
    ground_truth: &GroundTruth,
    results: &[&ResultRow],
) -> Result<CocoMetrics, EvalError> {
    run_engine(ground_truth, results).map(|(metrics, _)| metrics)
}

/// Runs the engine; rows must refer to known images and categories, because the engine prints
/// warnings about others.
fn run_engine(
    ground_truth: &GroundTruth,
    results: &[&ResultRow],
) -> Result<(CocoMetrics, AccumulatedEval), EvalError> {
    let refused = |error: hotcoco::Error| EvalError::Engine(error.to_string());
    let dataset = Dataset {
        images: ground_truth
            .images()
            .iter()
            .map(|image| Image {
                id: image.id,
                width: image.width,
                height: image.height,
                ..Default::default()
            })
            .collect(),
        categories: ground_truth
            .categories()
            .iter()
            .map(|category| Category {
                id: category.id,
                // The engine prints a warning about empty names, and this name is not used.
                name: category.id.to_string(),
                ..Default::default()
            })
            .collect(),
        annotations: ground_truth
            .annotations()
            .iter()
            .zip(1..)
            .map(|(annotation, position)| Annotation {
                // New ids: the engine distinguishes objects by them, and 0 means "no match".
                id: position,
                image_id: annotation.image_id,
                category_id: annotation.category_id,
                bbox: Some(annotation.bbox),
                area: Some(annotation.area),
                iscrowd: annotation.iscrowd,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    let objects = COCO::from_dataset(dataset);
    let detections = objects
        .load_res_anns(
            results
                .iter()
                .map(|row| Annotation {
                    image_id: row.image_id,
                    category_id: row.category_id,
                    bbox: Some(row.bbox),
                    score: Some(row.score),
                    ..Default::default()
                })
                .collect(),
        )
        .map_err(refused)?;
    let mut engine = COCOeval::new(objects, detections, IouType::Bbox);
    engine.evaluate().map_err(refused)?;
    engine.accumulate();
    // Computes the twelve metrics; the returned lines (pycocotools' printed summary) are not
    // needed.
    engine.summarize_lines();
    let (Some(stats), Some(accumulated)) = (engine.stats(), engine.accumulated()) else {
        return Err(EvalError::Engine("it returned no metrics".into()));
    };
    let metrics = CocoMetrics::from_stats(stats)
        .ok_or_else(|| EvalError::Engine(format!("it returned {} metrics, not 12", stats.len())))?;
    Ok((metrics, accumulated.clone()))
}

fn class_table(
    ground_truth: &GroundTruth,
    results: &[&ResultRow],
    accumulated: &AccumulatedEval,
) -> Vec<ClassMetrics> {
    let mut table: Vec<ClassMetrics> = ground_truth
        .categories()
        .iter()
        .map(|category| ClassMetrics {
            category_id: category.id,
            name: category.name.clone(),
            ground_truths: 0,
            detections: 0,
            ap: UNDEFINED,
            ap50: UNDEFINED,
            ar100: UNDEFINED,
            curves: None,
        })
        .collect();
    for annotation in ground_truth.annotations() {
        if let Some(at) = ground_truth.category_position(annotation.category_id) {
            table[at].ground_truths += usize::from(!annotation.iscrowd);
        }
    }
    for row in results {
        if let Some(at) = ground_truth.category_position(row.category_id) {
            table[at].detections += 1;
        }
    }

    let shape = accumulated.shape;
    for (k, &category_id) in accumulated.cat_ids.iter().enumerate() {
        let Some(at) = ground_truth.category_position(category_id) else {
            continue;
        };
        let precision = |threshold, level| {
            let index = shape.precision_idx(threshold, level, k, ALL_AREAS, HUNDRED_DETECTIONS);
            accumulated.precision[index]
        };
        // Without objects all metrics of a class are undefined.
        if precision(IOU_50, 0) < 0.0 {
            continue;
        }
        let curve = |threshold| -> Vec<f64> {
            (0..RECALL_LEVELS)
                .map(|level| precision(threshold, level))
                .collect()
        };
        let curves = PrecisionRecall {
            at_iou_50: curve(IOU_50),
            at_iou_75: curve(IOU_75),
            mean_over_iou: (0..RECALL_LEVELS)
                .map(|level| mean((0..shape.t).map(|threshold| precision(threshold, level))))
                .collect(),
        };
        let class = &mut table[at];
        class.ap = mean(curves.mean_over_iou.iter().copied());
        class.ap50 = mean(curves.at_iou_50.iter().copied());
        class.ar100 = mean((0..shape.t).map(|threshold| {
            let index = shape.recall_idx(threshold, k, ALL_AREAS, HUNDRED_DETECTIONS);
            accumulated.recall[index]
        }));
        class.curves = Some(curves);
    }
    table
}

/// Averages one or more values.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0u32), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::ground_truth::{GtAnnotation, GtCategory, GtImage};

    /// Returns two images, classes 3 "cat" (an object on each image), 5 "dog" (one) and 8 "owl"
    /// (none).
    fn ground_truth() -> GroundTruth {
        let image = |id| GtImage {
            id,
            file_name: String::new(),
            width: 640,
            height: 480,
        };
        let category = |id, name: &str| GtCategory {
            id,
            name: name.into(),
        };
        let object = |id, image_id, category_id, bbox: [f64; 4]| GtAnnotation {
            id,
            image_id,
            category_id,
            bbox,
            area: bbox[2] * bbox[3],
            iscrowd: false,
        };
        GroundTruth::new(
            vec![image(10), image(20)],
            vec![category(3, "cat"), category(5, "dog"), category(8, "owl")],
            vec![
                object(0, 10, 3, [10.0, 10.0, 50.0, 50.0]),
                object(0, 20, 3, [10.0, 10.0, 200.0, 100.0]),
                object(0, 20, 5, [300.0, 300.0, 20.0, 20.0]),
            ],
        )
        .unwrap()
    }

    fn perfect() -> Vec<ResultRow> {
        let gt = ground_truth();
        gt.annotations()
            .iter()
            .map(|object| ResultRow {
                image_id: object.image_id,
                category_id: object.category_id,
                bbox: object.bbox,
                score: 0.5,
            })
            .collect()
    }

    #[test]
    fn perfect_detections_have_metrics_of_one_even_if_all_object_ids_are_zero() {
        let evaluation = evaluate(&ground_truth(), &perfect()).unwrap();
        for (name, value) in evaluation.metrics.named() {
            // pycocotools adds an epsilon to the denominator of a precision.
            assert!((value - 1.0).abs() < 1e-12, "{name}: {value}");
        }
        let owl = &evaluation.per_class[2];
        assert_eq!((owl.ap, owl.ap50, owl.ar100), (-1.0, -1.0, -1.0));
        assert_eq!(owl.curves, None);
        assert_eq!(evaluation.per_class[0].ground_truths, 2);
        let at_iou_75 = evaluation.curves.unwrap().at_iou_75;
        assert!(at_iou_75.iter().all(|value| (value - 1.0).abs() < 1e-12));
    }

    #[test]
    fn no_detections_have_an_ap_of_zero() {
        let evaluation = evaluate(&ground_truth(), &[]).unwrap();
        assert_eq!(evaluation.metrics.ap, 0.0);
        assert_eq!(evaluation.metrics.ar100, 0.0);
        assert_eq!(evaluation.detections, 0);
        assert_eq!(evaluation.per_class[0].ap, 0.0);
    }

    #[test]
    fn without_objects_every_metric_is_undefined() {
        let gt = ground_truth();
        let empty = GroundTruth::new(gt.images().into(), gt.categories().into(), vec![]).unwrap();
        for rows in [vec![], perfect()] {
            let evaluation = evaluate(&empty, &rows).unwrap();
            assert!(evaluation.metrics.named().iter().all(|(_, v)| *v == -1.0));
            assert_eq!(evaluation.curves, None);
        }
    }

    #[test]
    fn a_row_of_an_unknown_image_is_an_error_that_compares_the_ids() {
        let mut rows = perfect();
        rows[1].image_id = 777;
        let message = evaluate(&ground_truth(), &rows).unwrap_err().to_string();
        assert!(
            message.starts_with("1 of 3 result rows refer to images")
                && message.contains("row 1 with image_id 777"),
            "{message}"
        );
    }

    #[test]
    fn rows_of_unknown_categories_are_dropped_and_counted() {
        let mut rows = perfect();
        rows.push(ResultRow {
            category_id: 99,
            ..rows[0]
        });
        let evaluation = evaluate(&ground_truth(), &rows).unwrap();
        assert!((evaluation.metrics.ap - 1.0).abs() < 1e-12);
        assert_eq!(evaluation.detections, 3);
        let warning = evaluation.warnings.last().unwrap();
        assert!(
            warning.starts_with("dropped 1 of 4 result rows")
                && warning.contains("first: row 3 with category_id 99"),
            "{warning}"
        );
    }

    #[test]
    fn rows_without_area_and_with_huge_numbers_are_counted() {
        let about_rows = |rows: &[ResultRow]| -> Vec<String> {
            let warnings = evaluate(&ground_truth(), rows).unwrap().warnings;
            let about_rows = warnings.into_iter();
            about_rows
                .filter(|warning| warning.contains("result row"))
                .collect()
        };
        assert_eq!(about_rows(&perfect()), [""; 0]);
        let mut rows = perfect();
        for (side, value) in [(2, 0.0), (2, 1e30), (3, 0.0)] {
            let mut row = rows[0];
            row.bbox = [10.0, 10.0, 20.0, 20.0];
            row.bbox[side] = value;
            rows.push(row);
        }
        assert_eq!(
            about_rows(&rows),
            [
                "2 of 6 result rows have a width or height of zero and cannot match an object (first: row 3 with bbox \
                 [10, 10, 0, 20])",
                "1 of 6 result rows has coordinates beyond 1,000,000 pixels and cannot match an object (first: row 4 \
                 with bbox [10, 10, 1e30, 20])",
            ]
        );
    }

    #[test]
    fn rows_with_a_negative_side_match_nothing_and_are_counted() {
        let mut rows = perfect();
        let [x, y, w, h] = rows[1].bbox;
        rows[1].bbox = [x + w, y + h, -w, -h];
        let evaluation = evaluate(&ground_truth(), &rows).unwrap();
        assert_eq!(evaluation.detections, 3);
        assert!(evaluation.metrics.ap < 1.0);
        let warning = evaluation.warnings.last().unwrap();
        assert!(
            warning.starts_with("1 of 3 result rows have a negative width or height")
                && warning.contains("first: row 1 with bbox ["),
            "{warning}"
        );
    }

    #[test]
    fn scores_and_boxes_that_are_not_finite_are_errors_with_the_row() {
        for change in [
            (|row: &mut ResultRow| row.score = f64::NAN) as fn(&mut ResultRow),
            |row| row.bbox[2] = f64::INFINITY,
        ] {
            let mut rows = perfect();
            change(&mut rows[2]);
            let message = evaluate(&ground_truth(), &rows).unwrap_err().to_string();
            assert!(message.starts_with("result row 2"), "{message}");
        }
    }

    #[test]
    fn the_mean_of_a_curve_is_its_ap() {
        let mut rows = perfect();
        rows[0].bbox[2] = 70.0; // IoU 0.71: a match at 0.50 to 0.70 only
        rows[1].score = 0.4;
        let evaluation = evaluate(&ground_truth(), &rows).unwrap();
        let curves = evaluation.curves.unwrap();
        let mean_of = |curve: &[f64]| mean(curve.iter().copied());
        assert!((mean_of(&curves.at_iou_50) - evaluation.metrics.ap50).abs() < 1e-12);
        assert!((mean_of(&curves.at_iou_75) - evaluation.metrics.ap75).abs() < 1e-12);
        assert!((mean_of(&curves.mean_over_iou) - evaluation.metrics.ap).abs() < 1e-12);
        assert!(evaluation.metrics.ap75 < evaluation.metrics.ap50);
    }

    #[test]
    fn swapped_corners_match_nothing_and_do_not_crash() {
        let mut rows = perfect();
        rows[0].bbox = [60.0, 60.0, -50.0, -50.0];
        let evaluation = evaluate(&ground_truth(), &rows).unwrap();
        assert!(evaluation.per_class[0].ap < 1.0);
    }
}
