//! Which boxes are drawn, and what counts.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use sedet_data::eval::confusion::{DEFAULT_IOU, DEFAULT_SCORE};
use sedet_data::eval::matching::{FoundBox, TruthBox};

/// What of the boxes is shown. Score and overlap also decide what counts as right and wrong; the
/// rest only hides, and no image leaves the gallery for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BoxFilter {
    /// Detections below this score are left out, everywhere.
    pub score: f32,
    /// Overlap from which a detection matches an annotation.
    pub iou: f32,
    /// Draw annotations.
    pub show_truth: bool,
    /// Draw detections.
    pub show_found: bool,
    /// Write class names at boxes.
    pub show_labels: bool,
    /// Write scores at boxes.
    pub show_scores: bool,
    /// Colors tell right from wrong, or else the class.
    pub color_by_verdict: bool,
    /// Classes that were unticked.
    #[serde(skip)]
    pub hidden_classes: BTreeSet<usize>,
    /// Whether unticked classes are hidden; one key switches it.
    #[serde(skip)]
    pub class_filter_off: bool,
    /// Held down to see the image alone.
    #[serde(skip)]
    pub hide_all: bool,
}

impl Default for BoxFilter {
    fn default() -> Self {
        Self {
            score: DEFAULT_SCORE,
            iou: DEFAULT_IOU,
            show_truth: true,
            show_found: true,
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
    /// Whether boxes of a class are drawn.
    pub fn shows_class(&self, class: usize) -> bool {
        self.class_filter_off || !self.hidden_classes.contains(&class)
    }

    /// Whether an annotation is drawn.
    pub fn shows_truth(&self, truth: &TruthBox) -> bool {
        self.show_truth && !self.hide_all && self.shows_class(truth.class)
    }

    /// Whether a detection that counts is drawn.
    pub fn shows_found(&self, found: &FoundBox) -> bool {
        self.show_found && !self.hide_all && self.shows_class(found.class)
    }

    /// Tick only this class; all again if it is the only one already.
    pub fn solo(&mut self, class: usize, classes: usize) {
        let others: BTreeSet<usize> = (0..classes).filter(|&other| other != class).collect();
        self.class_filter_off = false;
        match self.hidden_classes == others {
            true => self.hidden_classes.clear(),
            false => self.hidden_classes = others,
        }
    }

    /// The detections that count: those with enough score. They are sorted, best first.
    pub fn counted<'a>(&self, found: &'a [FoundBox]) -> &'a [FoundBox] {
        &found[..found.partition_point(|b| b.score >= self.score)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sedet_data::boxes::BoxXyxy;

    #[test]
    fn solo_hides_the_other_classes_and_shows_them_again() {
        let mut filter = BoxFilter::default();
        filter.solo(1, 3);
        assert_eq!(
            [0, 1, 2].map(|c| filter.shows_class(c)),
            [false, true, false]
        );
        filter.class_filter_off = true;
        assert!(filter.shows_class(0));
        filter.solo(1, 3);
        assert!(filter.hidden_classes.is_empty());
    }

    #[test]
    fn boxes_count_from_the_score_on() {
        let found = [0.9, 0.5, 0.49].map(|score| FoundBox {
            box_in_image: BoxXyxy::default(),
            class: 0,
            score,
        });
        assert_eq!(BoxFilter::default().counted(&found).len(), 2);
    }
}
