//! Which boxes are drawn, and the thresholds of matching.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use sedet_data::eval::confusion::{DEFAULT_IOU, DEFAULT_SCORE};
use sedet_data::eval::matching::{FoundBox, TruthBox};

/// The selection of drawn boxes. The score and IoU thresholds also decide which detections count as correct; the
/// other settings only hide boxes and do not change the gallery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BoxFilter {
    /// Score threshold: detections below it are ignored everywhere.
    pub score: f32,
    /// IoU from which a detection matches an annotation.
    pub iou: f32,
    /// Draw annotations.
    pub show_annotations: bool,
    /// Draw detections.
    pub show_detections: bool,
    /// Draw class names.
    pub show_labels: bool,
    /// Draw scores.
    pub show_scores: bool,
    /// Color boxes by verdict; otherwise by class.
    pub color_by_verdict: bool,
    /// Classes excluded by the class filter.
    #[serde(skip)]
    pub hidden_classes: BTreeSet<usize>,
    /// Whether the class filter is suspended.
    #[serde(skip)]
    pub class_filter_off: bool,
    /// Whether all boxes are hidden while a key is held.
    #[serde(skip)]
    pub hide_all: bool,
}

/// Formats a score threshold with two digits, or three where needed.
pub(crate) fn short_score(score: f64) -> String {
    let text = format!("{score:.3}");
    text.strip_suffix('0').unwrap_or(&text).to_owned()
}

impl Default for BoxFilter {
    fn default() -> Self {
        Self {
            score: DEFAULT_SCORE,
            iou: DEFAULT_IOU,
            show_annotations: true,
            show_detections: true,
            show_labels: true,
            show_scores: true,
            color_by_verdict: true,
            hidden_classes: BTreeSet::new(),
            class_filter_off: false,
            hide_all: false,
        }
    }
}

impl BoxFilter {
    /// Returns whether boxes of a class are drawn.
    pub fn shows_class(&self, class: usize) -> bool {
        self.class_filter_off || !self.hidden_classes.contains(&class)
    }

    /// Returns whether an annotation is drawn.
    pub(crate) fn shows_annotation(&self, truth: &TruthBox) -> bool {
        self.show_annotations && !self.hide_all && self.shows_class(truth.class)
    }

    /// Returns whether a detection above the threshold is drawn.
    pub(crate) fn shows_detection(&self, found: &FoundBox) -> bool {
        self.show_detections && !self.hide_all && self.shows_class(found.class)
    }

    /// Shows only this class, or all classes if it is already the only one.
    pub(crate) fn show_only(&mut self, class: usize, classes: usize) {
        let others: BTreeSet<usize> = (0..classes).filter(|&other| other != class).collect();
        self.class_filter_off = false;
        if self.hidden_classes == others {
            self.hidden_classes.clear();
        } else {
            self.hidden_classes = others;
        }
    }

    /// Returns the detections above the score threshold; `found` is sorted by descending score.
    pub(crate) fn above_threshold<'a>(&self, found: &'a [FoundBox]) -> &'a [FoundBox] {
        &found[..found.partition_point(|b| b.score >= self.score)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sedet_data::boxes::BoxXyxy;

    #[test]
    fn showing_only_one_class_hides_the_others_until_it_is_repeated() {
        let mut filter = BoxFilter::default();
        filter.show_only(1, 3);
        assert_eq!(
            [0, 1, 2].map(|c| filter.shows_class(c)),
            [false, true, false]
        );
        filter.class_filter_off = true;
        assert!(filter.shows_class(0));
        filter.show_only(1, 3);
        assert!(filter.hidden_classes.is_empty());
    }

    #[test]
    fn detections_from_the_score_threshold_on_are_kept() {
        let found = [0.9, 0.5, 0.49].map(|score| FoundBox {
            box_in_image: BoxXyxy::default(),
            class: 0,
            score,
        });
        assert_eq!(BoxFilter::default().above_threshold(&found).len(), 2);
    }
}
