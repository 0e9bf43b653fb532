//! Matching of the detections and objects of one image, with the error type of each false positive.
//!
//! Matching is that of pycocotools' `COCOeval` at one IoU threshold, with all areas and any number of
//! detections. False positives have the error types of TIDE (Bolya et al. 2020, "TIDE: A General
//! Toolbox for Identifying Object Detection Errors"), decided in the order of its reference code.

use std::cmp::Ordering;
use std::iter::Sum;
use std::ops::{AddAssign, Range};

use serde::{Deserialize, Serialize};

use crate::boxes::BoxXyxy;

/// TIDE's background threshold: with a lower IoU a box is not related to an object.
pub(crate) const BACKGROUND_IOU: f64 = 0.1;

/// The upper limit of the threshold, as in `COCOeval`: rounding may keep the IoU of a perfect box
/// below 1.
const HIGHEST_THRESHOLD: f64 = 1.0 - 1e-10;

/// An annotated object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TruthBox {
    /// In pixels of the image.
    pub box_in_image: BoxXyxy,
    /// Index into the categories.
    pub class: usize,
    /// Whether it is a group of objects; detections inside it are ignored.
    pub is_crowd: bool,
}

/// A detection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FoundBox {
    /// In pixels of the image.
    pub box_in_image: BoxXyxy,
    /// Index into the categories.
    pub class: usize,
    /// The confidence, from 0 to 1.
    pub score: f32,
}

/// The error type of a false positive, as in TIDE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorType {
    /// The box matches an object of another class.
    Classification,
    /// The class is correct, but the IoU with the object is below the threshold.
    Localization,
    /// The IoU is below the threshold, and the object has another class.
    Both,
    /// The object is already matched by a detection with a higher score.
    Duplicate,
    /// The box has no related object.
    Background,
}

impl ErrorType {
    /// All types, in TIDE's order.
    pub const ALL: [Self; 5] = [
        Self::Classification,
        Self::Localization,
        Self::Both,
        Self::Duplicate,
        Self::Background,
    ];

    /// Returns TIDE's abbreviation.
    pub fn short_name(self) -> &'static str {
        match self {
            Self::Classification => "Cls",
            Self::Localization => "Loc",
            Self::Both => "Both",
            Self::Duplicate => "Dupe",
            Self::Background => "Bkg",
        }
    }

    /// Returns an explanation in one sentence.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Classification => "The box fits an object, but the object has another class.",
            Self::Localization => {
                "The class is correct, but the IoU with the object is below the threshold."
            }
            Self::Both => {
                "The IoU with an object is below the threshold, and its class is another."
            }
            Self::Duplicate => "A detection with a higher score matches the object already.",
            Self::Background => "There is no annotated object here.",
        }
    }
}

/// The outcome of a detection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// A true positive: the detection matches an object.
    Correct {
        /// Position of the object.
        truth: usize,
        /// IoU of the two boxes.
        iou: f32,
    },
    /// The detection is inside a crowd of its class and is ignored.
    Ignored {
        /// Position of the crowd among the objects.
        truth: usize,
    },
    /// A false positive.
    Wrong {
        /// The type of the error.
        error: ErrorType,
        /// The position of the object that explains the error, and the IoU with it. For
        /// [`Background`](ErrorType::Background) the object with the highest IoU, if any overlaps.
        nearest: Option<(usize, f32)>,
    },
}

/// The outcomes of the boxes of one image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImageMatches {
    /// The outcome of each detection.
    pub found: Vec<Verdict>,
    /// For each object the position of the detection that matches it; `None` for a missed object or
    /// a crowd.
    pub truth: Vec<Option<usize>>,
}

/// Counts of true positives, false positives and false negatives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MatchCounts {
    /// True positives: detections that match an object.
    pub correct: usize,
    /// False positives: detections that do not match an object.
    pub wrong: usize,
    /// False negatives: objects without a match.
    pub missed: usize,
}

impl MatchCounts {
    /// Returns the precision, the share of the detections that are correct; `None` without
    /// detections.
    pub fn precision(&self) -> Option<f64> {
        ratio(self.correct, self.correct + self.wrong)
    }

    /// Returns the recall, the share of the objects that are matched; `None` without objects.
    pub fn recall(&self) -> Option<f64> {
        ratio(self.correct, self.correct + self.missed)
    }

    /// Returns the F1 score, the harmonic mean of precision and recall; `None` without detections
    /// and objects.
    pub fn f1(&self) -> Option<f64> {
        ratio(
            2 * self.correct,
            2 * self.correct + self.wrong + self.missed,
        )
    }
}

fn ratio(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

impl AddAssign for MatchCounts {
    fn add_assign(&mut self, other: Self) {
        self.correct += other.correct;
        self.wrong += other.wrong;
        self.missed += other.missed;
    }
}

impl Sum for MatchCounts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |mut sum, one| {
            sum += one;
            sum
        })
    }
}

impl ImageMatches {
    /// Counts the outcomes; `truth` must be the objects that were matched. Crowds are never missed.
    pub fn counts(&self, truth: &[TruthBox]) -> MatchCounts {
        let mut counts = MatchCounts::default();
        for verdict in &self.found {
            match verdict {
                Verdict::Correct { .. } => counts.correct += 1,
                Verdict::Wrong { .. } => counts.wrong += 1,
                Verdict::Ignored { .. } => {}
            }
        }
        let truths = self.truth.iter().zip(truth);
        counts.missed = truths
            .filter(|(found, truth)| found.is_none() && !truth.is_crowd)
            .count();
        counts
    }
}

/// Matches detections with objects at an IoU of at least the threshold. Detections are matched in
/// descending order of scores (stable on ties); among objects with equal IoU a detection matches
/// the last, as in pycocotools.
pub fn match_image(truth: &[TruthBox], found: &[FoundBox], iou_threshold: f32) -> ImageMatches {
    let threshold = as_written(iou_threshold).min(HIGHEST_THRESHOLD);
    let truth_areas: Vec<Area> = truth.iter().map(|t| Area::new(t.box_in_image)).collect();
    // Objects of a class are adjacent, crowds last.
    let mut grouped: Vec<usize> = (0..truth.len()).collect();
    grouped.sort_by_key(|&at| (truth[at].class, truth[at].is_crowd));
    let of_class = |class: usize| -> Range<usize> {
        let start = grouped.partition_point(|&at| truth[at].class < class);
        start..grouped.partition_point(|&at| truth[at].class <= class)
    };

    let mut matched: Vec<Option<usize>> = vec![None; truth.len()];
    let mut chosen: Vec<Option<(usize, f64)>> = vec![None; found.len()];
    for position in best_first(found) {
        let area = Area::new(found[position].box_in_image);
        let mut best: Option<(usize, f64)> = None;
        for &at in &grouped[of_class(found[position].class)] {
            let is_crowd = truth[at].is_crowd;
            if is_crowd && best.is_some_and(|(best, _)| !truth[best].is_crowd) {
                break;
            }
            if matched[at].is_some() {
                continue;
            }
            let iou = if is_crowd {
                area.share_in(&truth_areas[at])
            } else {
                area.iou(&truth_areas[at])
            };
            if iou >= best.map_or(threshold, |(_, iou)| iou) {
                best = Some((at, iou));
            }
        }
        if let Some((at, _)) = best.filter(|(at, _)| !truth[*at].is_crowd) {
            matched[at] = Some(position);
        }
        chosen[position] = best;
    }

    let verdict = |(found, chosen): (&FoundBox, Option<(usize, f64)>)| match chosen {
        Some((at, _)) if truth[at].is_crowd => Verdict::Ignored { truth: at },
        Some((at, iou)) => Verdict::Correct {
            truth: at,
            iou: iou as f32,
        },
        None => explain(found, truth, &truth_areas, &matched, threshold),
    };
    ImageMatches {
        found: found.iter().zip(chosen).map(verdict).collect(),
        truth: matched,
    }
}

/// Converts a threshold to the `f64` nearest to its decimal representation: 0.55 as `f32` is
/// slightly larger, and a box with an IoU of exactly 0.55 would not reach it.
fn as_written(threshold: f32) -> f64 {
    (f64::from(threshold) * 1e6).round() / 1e6
}

/// Returns the positions by descending score (stable on ties), NaN last.
fn best_first(found: &[FoundBox]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..found.len()).collect();
    order.sort_by(|&a, &b| {
        let (a, b) = (found[a].score, found[b].score);
        let numbers_first = a.is_nan().cmp(&b.is_nan());
        numbers_first.then(b.partial_cmp(&a).unwrap_or(Ordering::Equal))
    });
    order
}

/// Returns the error type of a detection without a match.
fn explain(
    found: &FoundBox,
    truth: &[TruthBox],
    truth_areas: &[Area],
    matched: &[Option<usize>],
    threshold: f64,
) -> Verdict {
    let area = Area::new(found.box_in_image);
    let (mut same_class, mut other_class) = (Nearest::default(), Nearest::default());
    let mut already_found = Nearest::default();
    for (at, (truth, truth_area)) in truth.iter().zip(truth_areas).enumerate() {
        if truth.is_crowd {
            continue;
        }
        let iou = area.iou(truth_area);
        if truth.class != found.class {
            other_class.offer(at, iou);
            continue;
        }
        same_class.offer(at, iou);
        if matched[at].is_some() {
            already_found.offer(at, iou);
        }
    }
    let nearest = if other_class.iou > same_class.iou {
        other_class
    } else {
        same_class
    };
    let (error, nearest) = if (BACKGROUND_IOU..=threshold).contains(&same_class.iou) {
        (ErrorType::Localization, same_class)
    } else if other_class.is_at_least(threshold) {
        (ErrorType::Classification, other_class)
    } else if already_found.is_at_least(threshold) {
        (ErrorType::Duplicate, already_found)
    } else if nearest.iou <= BACKGROUND_IOU {
        (ErrorType::Background, nearest)
    } else {
        (ErrorType::Both, nearest)
    };
    Verdict::Wrong {
        error,
        nearest: nearest.at.map(|at| (at, nearest.iou as f32)),
    }
}

/// The object with the highest IoU, the first on ties; `None` if all IoUs are zero.
#[derive(Debug, Clone, Copy, Default)]
struct Nearest {
    at: Option<usize>,
    iou: f64,
}

impl Nearest {
    fn offer(&mut self, at: usize, iou: f64) {
        if iou > self.iou {
            *self = Self { at: Some(at), iou };
        }
    }

    fn is_at_least(&self, threshold: f64) -> bool {
        self.at.is_some() && self.iou >= threshold
    }
}

/// A box with the arithmetic of pycocotools: from COCO's `[x, y, width, height]` in `f64`, with the
/// right and lower edges as sums.
struct Area {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
    size: f64,
}

impl Area {
    fn new(box_in_image: BoxXyxy) -> Self {
        let [x, y, width, height] = box_in_image.to_xywh().map(f64::from);
        Self {
            left: x,
            top: y,
            right: x + width,
            bottom: y + height,
            size: width * height,
        }
    }

    fn intersection(&self, other: &Self) -> f64 {
        let width = self.right.min(other.right) - self.left.max(other.left);
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        if width > 0.0 && height > 0.0 {
            width * height
        } else {
            0.0
        }
    }

    fn iou(&self, other: &Self) -> f64 {
        let both = self.intersection(other);
        finite_or_zero(both / (self.size + other.size - both))
    }

    /// Returns the intersection divided by the area of this box alone, as for crowds in
    /// pycocotools.
    fn share_in(&self, crowd: &Self) -> f64 {
        finite_or_zero(self.intersection(crowd) / self.size)
    }
}

/// Returns the share, or zero if it is not finite: a box without an area, or with a NaN edge, has IoU 0.
fn finite_or_zero(share: f64) -> f64 {
    if share.is_finite() { share } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn truth(x: f32, class: usize) -> TruthBox {
        TruthBox {
            box_in_image: BoxXyxy::new(x, 0.0, x + 20.0, 20.0),
            class,
            is_crowd: false,
        }
    }

    fn found(x: f32, class: usize, score: f32) -> FoundBox {
        FoundBox {
            box_in_image: BoxXyxy::new(x, 0.0, x + 20.0, 20.0),
            class,
            score,
        }
    }

    fn errors(truth: &[TruthBox], found: &[FoundBox]) -> Vec<Option<(ErrorType, Option<usize>)>> {
        let verdicts = match_image(truth, found, 0.5).found.into_iter();
        let error = |verdict| match verdict {
            Verdict::Wrong { error, nearest } => Some((error, nearest.map(|(at, _)| at))),
            Verdict::Correct { .. } | Verdict::Ignored { .. } => None,
        };
        verdicts.map(error).collect()
    }

    #[test]
    fn each_error_type_has_the_object_that_explains_it() {
        let truths = [truth(0.0, 1), truth(100.0, 2), truth(200.0, 1)];
        let boxes = [
            found(0.0, 1, 0.9),
            found(1.0, 1, 0.8),
            found(101.0, 1, 0.7),
            found(212.0, 1, 0.6),
            found(112.0, 1, 0.5),
            found(150.0, 1, 0.4),
            found(219.0, 1, 0.3),
        ];
        let expected = [
            None,
            Some((ErrorType::Duplicate, Some(0))),
            Some((ErrorType::Classification, Some(1))),
            Some((ErrorType::Localization, Some(2))),
            Some((ErrorType::Both, Some(1))),
            Some((ErrorType::Background, None)),
            Some((ErrorType::Background, Some(2))),
        ];
        assert_eq!(errors(&truths, &boxes), expected);
        let counts = match_image(&truths, &boxes, 0.5).counts(&truths);
        let expected = MatchCounts {
            correct: 1,
            wrong: 6,
            missed: 2,
        };
        assert_eq!(counts, expected);
        assert_eq!(counts.recall(), Some(1.0 / 3.0));
        assert_eq!(counts.f1(), Some(0.2));
        let names: Vec<_> = ErrorType::ALL.map(ErrorType::short_name).into();
        assert_eq!(names, ["Cls", "Loc", "Both", "Dupe", "Bkg"]);
    }

    #[test]
    fn a_crowd_absorbs_unmatched_detections_and_is_never_missed() {
        let crowd = TruthBox {
            box_in_image: BoxXyxy::new(0.0, 0.0, 300.0, 300.0),
            class: 1,
            is_crowd: true,
        };
        let truths = [crowd, truth(40.0, 1)];
        let boxes = [
            found(40.0, 1, 0.9),
            found(41.0, 1, 0.8),
            found(80.0, 1, 0.7),
            found(80.0, 2, 0.6),
        ];
        let matches = match_image(&truths, &boxes, 0.5);
        assert_eq!(matches.truth, [None, Some(0)]);
        assert_eq!(matches.found[1..3], [Verdict::Ignored { truth: 0 }; 2]);
        let expected = MatchCounts {
            correct: 1,
            wrong: 1,
            missed: 0,
        };
        assert_eq!(matches.counts(&truths), expected);
    }

    #[test]
    fn metrics_without_boxes_are_none() {
        let matches = match_image(&[], &[], 0.5);
        let counts = matches.counts(&[]);
        let shares = [counts.precision(), counts.recall(), counts.f1()];
        assert_eq!(shares, [None; 3]);
    }

    #[test]
    fn nan_scores_come_last_and_nan_boxes_match_nothing() {
        let mut broken = found(0.0, 1, f32::NAN);
        let truths = [truth(0.0, 1)];
        let matches = match_image(&truths, &[broken, found(0.0, 1, 0.1)], 0.5);
        assert_eq!(matches.truth, [Some(1)]);
        broken.box_in_image.x1 = f32::NAN;
        let matches = match_image(&truths, &[broken], 0.5);
        assert_eq!(matches.truth, [None]);
    }

    fn truths() -> impl Strategy<Value = Vec<TruthBox>> {
        let one = (0u8..12, 0usize..3, prop::bool::weighted(0.2));
        let one = one.prop_map(|(x, class, is_crowd)| TruthBox {
            is_crowd,
            ..truth(f32::from(x) * 5.0, class)
        });
        prop::collection::vec(one, 0..12)
    }

    fn detections() -> impl Strategy<Value = Vec<FoundBox>> {
        let one = (0u8..12, 0usize..3, 0u8..5);
        let one = one.prop_map(|(x, class, score)| {
            found(f32::from(x) * 5.0 + 1.0, class, f32::from(score) / 4.0)
        });
        prop::collection::vec(one, 0..20)
    }

    proptest! {
        #[test]
        fn every_object_has_at_most_one_match_and_both_sides_agree(
            truth in truths(), found in detections(), threshold in 0.05f32..0.95,
        ) {
            let matches = match_image(&truth, &found, threshold);
            prop_assert_eq!(matches.found.len(), found.len());
            prop_assert_eq!(matches.truth.len(), truth.len());
            let mut times = vec![0; truth.len()];
            for (position, verdict) in matches.found.iter().enumerate() {
                match *verdict {
                    Verdict::Correct { truth: at, iou } => {
                        times[at] += 1;
                        prop_assert_eq!(matches.truth[at], Some(position));
                        prop_assert_eq!(truth[at].class, found[position].class);
                        prop_assert!(!truth[at].is_crowd && iou >= threshold - 1e-6);
                    }
                    Verdict::Ignored { truth: at } => prop_assert!(truth[at].is_crowd),
                    Verdict::Wrong { error, nearest } => {
                        let same = nearest.map(|(at, _)| truth[at].class == found[position].class);
                        match error {
                            ErrorType::Classification | ErrorType::Both => {
                                prop_assert_eq!(same, Some(false));
                            }
                            ErrorType::Localization | ErrorType::Duplicate => {
                                prop_assert_eq!(same, Some(true));
                            }
                            ErrorType::Background => {}
                        }
                    }
                }
            }
            for (at, &count) in times.iter().enumerate() {
                prop_assert_eq!(count, usize::from(matches.truth[at].is_some()));
            }
            let counts = matches.counts(&truth);
            let ignored = |v: &&Verdict| matches!(v, Verdict::Ignored { .. });
            let ignored = matches.found.iter().filter(ignored).count();
            prop_assert_eq!(counts.correct + counts.wrong + ignored, found.len());
            let objects = truth.iter().filter(|t| !t.is_crowd).count();
            prop_assert_eq!(counts.correct + counts.missed, objects);
            let twice: MatchCounts = [counts, counts].into_iter().sum();
            prop_assert_eq!(twice.precision(), counts.precision());
        }
    }
}
