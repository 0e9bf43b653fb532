//! The confusion matrix of a detector, and the outcome of every box.

use std::collections::{BTreeMap, HashMap};

use rayon::prelude::*;

use super::matching::{
    ErrorType, FoundBox, ImageMatches, MatchCounts, TruthBox, Verdict, match_image,
};
use super::{GroundTruth, ResultRow};
use crate::csv::to_csv;

/// The default score threshold: detections with lower scores are dropped.
pub const DEFAULT_SCORE: f32 = 0.5;
/// The default IoU threshold: the minimum IoU at which a detection matches an object.
pub const DEFAULT_IOU: f32 = 0.5;

/// A cell of the confusion matrix: annotated and detected class. `None` as the annotated class is
/// the background; as the detected class it is a missed object.
pub type Cell = (Option<usize>, Option<usize>);

/// The confusion matrix and the counts of the images that a detector was run on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Confusion {
    /// Counts by image; `None` where the detector was not run.
    pub images: Vec<Option<MatchCounts>>,
    /// Counts over all images.
    pub total: MatchCounts,
    /// For each cell, the number of boxes and the images with such boxes (each once, ascending).
    pub cells: BTreeMap<Cell, (usize, Vec<u32>)>,
}

impl Confusion {
    /// Compares detections and annotations of `images` images. `boxes` returns both for an image,
    /// or `None` if the detector was not run on it. A box that matches an object of another class
    /// counts in the cell of both classes, any other wrong box in the row of the background.
    pub fn of(
        images: usize,
        iou: f32,
        boxes: impl Fn(usize) -> Option<(Vec<TruthBox>, Vec<FoundBox>)> + Sync,
    ) -> Self {
        let each = (0..images).into_par_iter().map(|index| {
            let (truth, found) = boxes(index)?;
            let matches = match_image(&truth, &found, iou);
            Some((matches.counts(&truth), cells(&truth, &found, &matches)))
        });
        let each: Vec<Option<(MatchCounts, Vec<Cell>)>> = each.collect();
        let mut all = Self::default();
        for (index, image) in each.into_iter().enumerate() {
            let Some((counts, cells)) = image else {
                all.images.push(None);
                continue;
            };
            all.total += counts;
            for cell in cells {
                let (count, images) = all.cells.entry(cell).or_default();
                *count += 1;
                if images.last() != Some(&(index as u32)) {
                    images.push(index as u32);
                }
            }
            all.images.push(Some(counts));
        }
        all
    }

    /// Compares predicted and true classes of `images` images, which have one class each: an image counts as one box that
    /// is correct or wrong. `classes` returns both for an image, or `None` if the classifier was not run on it; no
    /// predicted class counts as wrong in the column of missed objects.
    pub fn of_classes(
        images: usize,
        classes: impl Fn(usize) -> Option<(usize, Option<usize>)>,
    ) -> Self {
        let mut all = Self::default();
        for index in 0..images {
            let Some((truth, predicted)) = classes(index) else {
                all.images.push(None);
                continue;
            };
            let is_correct = predicted == Some(truth);
            let counts = MatchCounts {
                correct: usize::from(is_correct),
                wrong: usize::from(!is_correct),
                missed: 0,
            };
            all.total += counts;
            all.images.push(Some(counts));
            let (count, images) = all.cells.entry((Some(truth), predicted)).or_default();
            *count += 1;
            images.push(index as u32);
        }
        all
    }

    /// Formats the matrix as CSV, with a row for each annotated class.
    pub fn to_csv(&self, class_names: &[String]) -> String {
        let sides: Vec<Option<usize>> = (0..class_names.len()).map(Some).chain([None]).collect();
        let name = |class: &Option<usize>, without: &str| match class {
            Some(class) => class_names[*class].clone(),
            None => without.to_owned(),
        };
        let head = sides.iter().map(|found| name(found, "(missed)"));
        let mut rows: Vec<Vec<String>> = vec![
            std::iter::once("annotated".to_owned())
                .chain(head)
                .collect(),
        ];
        rows.extend(sides.iter().map(|truth| {
            let count = |found| self.cells.get(&(*truth, found)).map_or(0, |cell| cell.0);
            let counts = sides.iter().map(|found| count(*found).to_string());
            std::iter::once(name(truth, "(background)"))
                .chain(counts)
                .collect()
        }));
        to_csv(&rows)
    }
}

/// Returns the cell of each box of an image.
fn cells(truth: &[TruthBox], found: &[FoundBox], matches: &ImageMatches) -> Vec<Cell> {
    let mut cells: Vec<Cell> = Vec::new();
    let mut explained = vec![false; truth.len()];
    for (verdict, found) in matches.found.iter().zip(found) {
        match *verdict {
            Verdict::Ignored { .. } => {}
            Verdict::Correct { truth: at, .. }
            | Verdict::Wrong {
                error: ErrorType::Classification,
                nearest: Some((at, _)),
            } => {
                explained[at] = true;
                cells.push((Some(truth[at].class), Some(found.class)));
            }
            Verdict::Wrong { .. } => cells.push((None, Some(found.class))),
        }
    }
    for (truth, explained) in truth.iter().zip(explained) {
        if !explained && !truth.is_crowd {
            cells.push((Some(truth.class), None));
        }
    }
    cells
}

/// The columns of [`verdict_rows`].
pub const VERDICT_COLUMNS: [&str; 9] = [
    "kind", "class", "score", "x", "y", "width", "height", "verdict", "iou",
];

/// Returns a row with the verdict for every box of an image, detections first; boxes are in pixels
/// of the image. Without `matches` the verdicts are empty.
pub fn verdict_rows(
    truth: &[TruthBox],
    found: &[FoundBox],
    matches: Option<&ImageMatches>,
    class_name: impl Fn(usize) -> String,
) -> Vec<Vec<String>> {
    let row =
        |kind: &str, class, score: Option<f32>, of: crate::boxes::BoxXyxy, end: [String; 2]| {
            let mut row = vec![kind.to_owned(), class_name(class)];
            row.push(score.map_or_else(String::new, |score| score.to_string()));
            row.extend(of.to_xywh().map(|number| number.to_string()));
            row.extend(end);
            row
        };
    let detections = found.iter().enumerate().map(|(at, found)| {
        let verdict = matches.and_then(|m| m.found.get(at));
        let end = [
            verdict.map_or("", |verdict| verdict.name()).to_owned(),
            verdict
                .and_then(|v| v.iou(found, truth))
                .map_or_else(String::new, |iou| iou.to_string()),
        ];
        row(
            "detection",
            found.class,
            Some(found.score),
            found.box_in_image,
            end,
        )
    });
    let annotations = truth.iter().enumerate().map(|(at, truth)| {
        let by = matches.map(|m| m.truth.get(at).copied().flatten());
        let verdict = match by {
            None => "",
            Some(_) if truth.is_crowd => "crowd",
            Some(None) => "missed",
            Some(Some(_)) => "found",
        };
        let iou = by
            .flatten()
            .and_then(|by| found.get(by))
            .map(|found| found.box_in_image.iou(truth.box_in_image).to_string());
        let end = [verdict.to_owned(), iou.unwrap_or_default()];
        row("annotation", truth.class, None, truth.box_in_image, end)
    });
    detections.chain(annotations).collect()
}

impl Verdict {
    /// Returns a short name for tables.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Correct { .. } => "correct",
            Self::Ignored { .. } => "in a crowd",
            Self::Wrong { error, .. } => error.short_name(),
        }
    }

    /// Returns the position of the annotation that explains the verdict.
    pub fn about(&self) -> Option<usize> {
        match *self {
            Self::Correct { truth, .. } | Self::Ignored { truth } => Some(truth),
            Self::Wrong { nearest, .. } => nearest.map(|(truth, _)| truth),
        }
    }

    /// Returns the IoU of the detection `found` with the annotation that explains its verdict.
    pub fn iou(&self, found: &FoundBox, truth: &[TruthBox]) -> Option<f32> {
        let truth = truth.get(self.about()?)?;
        Some(found.box_in_image.iou(truth.box_in_image))
    }
}

/// Groups objects and result rows by image, in the order of the images of the ground truth. Classes
/// are positions in its categories. Rows of unknown images or classes, and rows below the score, are
/// dropped.
pub fn boxes_by_image(
    ground_truth: &GroundTruth,
    results: &[ResultRow],
    score: f32,
) -> Vec<(Vec<TruthBox>, Vec<FoundBox>)> {
    let images = ground_truth.images().iter().enumerate();
    let places: HashMap<u64, usize> = images.map(|(at, image)| (image.id, at)).collect();
    let mut boxes = vec![(Vec::new(), Vec::new()); places.len()];
    for object in ground_truth.annotations() {
        let class = ground_truth.category_position(object.category_id);
        if let (Some(&at), Some(class)) = (places.get(&object.image_id), class) {
            boxes[at].0.push(TruthBox {
                box_in_image: crate::boxes::BoxXyxy::from_xywh(object.bbox.map(|v| v as f32)),
                class,
                is_crowd: object.iscrowd,
            });
        }
    }
    for row in results.iter().filter(|row| row.score as f32 >= score) {
        let class = ground_truth.category_position(row.category_id);
        if let (Some(&at), Some(class)) = (places.get(&row.image_id), class) {
            boxes[at].1.push(FoundBox {
                box_in_image: row.box_in_image(),
                class,
                score: row.score as f32,
            });
        }
    }
    for (_, found) in &mut boxes {
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
    }
    boxes
}

/// Formats every box of every image with its verdict as CSV.
pub fn verdicts_csv(
    ground_truth: &GroundTruth,
    boxes: &[(Vec<TruthBox>, Vec<FoundBox>)],
    iou: f32,
) -> String {
    let head = std::iter::once("file").chain(VERDICT_COLUMNS);
    let mut rows: Vec<Vec<String>> = vec![head.map(str::to_owned).collect()];
    let names = ground_truth.categories();
    for (image, (truth, found)) in ground_truth.images().iter().zip(boxes) {
        let matches = match_image(truth, found, iou);
        let of_image = verdict_rows(truth, found, Some(&matches), |at| names[at].name.clone());
        rows.extend(of_image.into_iter().map(|row| {
            let file = std::iter::once(image.file_name.clone());
            file.chain(row).collect()
        }));
    }
    to_csv(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boxes::BoxXyxy;

    fn truth(x: f32, class: usize) -> TruthBox {
        TruthBox {
            box_in_image: BoxXyxy::new(x, 0.0, x + 10.0, 10.0),
            class,
            is_crowd: false,
        }
    }

    fn found(x: f32, class: usize, score: f32) -> FoundBox {
        FoundBox {
            box_in_image: BoxXyxy::new(x, 0.0, x + 10.0, 10.0),
            class,
            score,
        }
    }

    #[test]
    fn the_matrix_distinguishes_correct_confused_missed_and_background() {
        let images = [
            Some((
                vec![truth(0.0, 0), truth(20.0, 1), truth(40.0, 1)],
                vec![found(0.0, 0, 0.9), found(20.0, 0, 0.8)],
            )),
            None,
            Some((vec![], vec![found(50.0, 1, 0.7)])),
        ];
        let all = Confusion::of(3, DEFAULT_IOU, |at| images[at].clone());
        assert_eq!(all.images[1], None);
        let total = all.total;
        assert_eq!((total.correct, total.wrong, total.missed), (1, 2, 2));
        assert_eq!(all.cells[&(Some(0), Some(0))], (1, vec![0]));
        assert_eq!(all.cells[&(Some(1), Some(0))], (1, vec![0]));
        assert_eq!(all.cells[&(Some(1), None)], (1, vec![0]));
        assert_eq!(all.cells[&(None, Some(1))], (1, vec![2]));
        let names = ["round".to_owned(), "flat, long".to_owned()];
        assert_eq!(
            all.to_csv(&names).trim_end(),
            "annotated,round,\"flat, long\",(missed)\nround,1,0,0\n\"flat, long\",1,0,1\n(background),0,1,0"
        );
    }

    #[test]
    fn an_image_of_a_classifier_counts_as_one_box() {
        let classes = [
            Some((0, Some(0))),
            Some((1, Some(0))),
            None,
            Some((1, None)),
        ];
        let all = Confusion::of_classes(4, |at| classes[at]);
        assert_eq!(
            (all.total.correct, all.total.wrong, all.total.missed),
            (1, 2, 0)
        );
        assert_eq!(all.images[2], None);
        assert_eq!(all.cells[&(Some(1), Some(0))], (1, vec![1]));
        assert_eq!(all.cells[&(Some(1), None)], (1, vec![3]));
    }

    #[test]
    fn every_box_has_a_row_with_its_verdict() {
        let (truth, found) = (
            [truth(0.0, 0), truth(20.0, 1)],
            [found(1.0, 0, 0.9), found(20.0, 0, 0.75)],
        );
        let matches = match_image(&truth, &found, 0.5);
        let rows = verdict_rows(&truth, &found, Some(&matches), |class| format!("c{class}"));
        let line = |at: usize| rows[at].join(",");
        assert_eq!(line(1), "detection,c0,0.75,20,0,10,10,Cls,1");
        assert!(line(0).starts_with("detection,c0,0.9,1,0,10,10,correct,0.81"));
        assert!(line(2).starts_with("annotation,c0,,0,0,10,10,found,0.81"));
        assert_eq!(line(3), "annotation,c1,,20,0,10,10,missed,");
        let unknown = verdict_rows(&truth, &found, None, |class| format!("c{class}"));
        assert_eq!(unknown[3].join(","), "annotation,c1,,20,0,10,10,,");
    }
}
