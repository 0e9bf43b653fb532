//! The boxes of the current image: ground truth, detections and how they match.

use super::{ClassTable, Collection, Pane, ViewerState};
use sedet_data::boxes::BoxXyxy;
use sedet_data::csv::to_csv;
use sedet_data::eval::confusion::{VERDICT_COLUMNS, verdict_rows};
use sedet_data::eval::matching::{FoundBox, ImageMatches, TruthBox, Verdict, match_image};

/// Identifies a box of the current image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BoxRef {
    /// The index of an annotation.
    GroundTruth(usize),
    /// The index of a detection, in order of descending score.
    Detection(usize),
}

/// The boxes of the current image and their matches.
#[derive(Debug, Clone, Default)]
pub struct CurrentBoxes {
    /// The annotations.
    pub ground_truth: Vec<TruthBox>,
    /// The detections above the score threshold, by descending score; `None` before inference.
    pub detections: Option<Vec<FoundBox>>,
    /// The matches; `None` without ground truth or detections.
    pub matches: Option<ImageMatches>,
}

impl CurrentBoxes {
    /// Returns whether a box exists.
    pub(crate) fn contains(&self, of: BoxRef) -> bool {
        self.class_of(of).is_some()
    }

    /// Returns the coordinates of a box in pixels of the image.
    pub fn box_of(&self, of: BoxRef) -> Option<BoxXyxy> {
        match of {
            BoxRef::GroundTruth(at) => self.ground_truth.get(at).map(|b| b.box_in_image),
            BoxRef::Detection(at) => self.detections.as_ref()?.get(at).map(|b| b.box_in_image),
        }
    }

    /// Returns the class of a box.
    pub fn class_of(&self, of: BoxRef) -> Option<usize> {
        match of {
            BoxRef::GroundTruth(at) => self.ground_truth.get(at).map(|b| b.class),
            BoxRef::Detection(at) => self.detections.as_ref()?.get(at).map(|b| b.class),
        }
    }

    /// Returns the score of a detection; `None` for an annotation.
    pub(crate) fn score_of(&self, of: BoxRef) -> Option<f32> {
        match of {
            BoxRef::GroundTruth(_) => None,
            BoxRef::Detection(at) => self.detections.as_ref()?.get(at).map(|b| b.score),
        }
    }

    /// Returns the verdict on a detection.
    pub fn verdict(&self, detection: usize) -> Option<&Verdict> {
        self.matches.as_ref().and_then(|m| m.found.get(detection))
    }

    /// Returns whether an annotation marks a crowd region.
    pub(crate) fn is_crowd(&self, annotation: usize) -> bool {
        let annotation = self.ground_truth.get(annotation);
        annotation.is_some_and(|annotation| annotation.is_crowd)
    }

    /// Returns whether an annotation is a false negative. A crowd region never is, and without
    /// detections nothing is.
    pub(crate) fn is_missed(&self, annotation: usize) -> bool {
        let unmatched = |m: &ImageMatches| m.truth.get(annotation).is_some_and(Option::is_none);
        self.matches.as_ref().is_some_and(unmatched) && !self.is_crowd(annotation)
    }

    /// Returns whether a box is an annotation that a detection matches. Its detection represents it in
    /// the image.
    pub(crate) fn is_matched_annotation(&self, of: BoxRef) -> bool {
        matches!(of, BoxRef::GroundTruth(at)
            if self.matches.is_some() && !self.is_missed(at) && !self.is_crowd(at))
    }

    /// Returns the other box of a pair and their IoU: for a detection the annotation that it matches or
    /// that explains its error, for an annotation the detection that matches it.
    pub fn partner(&self, of: BoxRef) -> Option<(BoxRef, f32)> {
        match of {
            BoxRef::Detection(at) => {
                let verdict = self.verdict(at)?;
                let iou = verdict.iou(self.detections.as_ref()?.get(at)?, &self.ground_truth)?;
                Some((BoxRef::GroundTruth(verdict.about()?), iou))
            }
            BoxRef::GroundTruth(at) => {
                let detection = (*self.matches.as_ref()?.truth.get(at)?)?;
                let detection = BoxRef::Detection(detection);
                let iou = self.box_of(detection)?.iou(self.box_of(of)?);
                Some((detection, iou))
            }
        }
    }

    /// Returns every box with its verdict as CSV; coordinates in pixels of the image.
    pub fn to_csv(&self, classes: &ClassTable) -> String {
        let mut rows = vec![VERDICT_COLUMNS.map(str::to_owned).into()];
        let detections = self.detections.as_deref().unwrap_or_default();
        rows.extend(verdict_rows(
            &self.ground_truth,
            detections,
            self.matches.as_ref(),
            |class| classes.name(class).to_owned(),
        ));
        to_csv(&rows)
    }
}

impl ViewerState {
    /// Returns the boxes of a pane.
    pub fn boxes(&self, pane: Pane) -> CurrentBoxes {
        let is_open = |collection: &&Collection| !collection.is_empty();
        let Some(collection) = self.collection.as_deref().filter(is_open) else {
            return CurrentBoxes::default();
        };
        let index = self.image_of(pane).min(collection.len() - 1);
        self.boxes_of(index, self.network_of(pane))
    }

    /// Returns the boxes of an image, with the detections of a network.
    pub(crate) fn boxes_of(&self, index: usize, network: Pane) -> CurrentBoxes {
        let is_inside = |collection: &&Collection| index < collection.len();
        let Some(collection) = self.collection.as_deref().filter(is_inside) else {
            return CurrentBoxes::default();
        };
        let ground_truth = collection.ground_truth(index);
        let detections = self.predictions[network.index()].get(index);
        let detections = detections.map(|boxes| self.filter().above_threshold(boxes).to_vec());
        let matches = detections
            .as_ref()
            .filter(|_| collection.has_boxes())
            .map(|detections| match_image(&ground_truth, detections, self.filter().iou));
        CurrentBoxes {
            ground_truth,
            detections,
            matches,
        }
    }

    /// Selects the next visible box in the order of the table; wraps around.
    pub(crate) fn next_box(&mut self, boxes: &CurrentBoxes, backwards: bool) {
        let visible = self.visible_boxes(boxes);
        let Some(last) = visible.len().checked_sub(1) else {
            self.selected = None;
            return;
        };
        let position = visible.iter().position(|b| Some(*b) == self.selected);
        let next = match (position, backwards) {
            (None, false) => 0,
            (None, true) => last,
            (Some(position), false) => (position + 1) % visible.len(),
            (Some(position), true) => (position + last) % visible.len(),
        };
        self.selected = Some(visible[next]);
    }

    /// Returns the boxes that no filter hides, in the order of the table: detections, then annotations.
    pub(crate) fn visible_boxes(&self, boxes: &CurrentBoxes) -> Vec<BoxRef> {
        let filter = self.filter();
        let detections = boxes.detections.iter().flatten().enumerate();
        let detections = detections.filter(|(_, b)| filter.shows_detection(b));
        let annotations = boxes.ground_truth.iter().enumerate();
        let annotations = annotations.filter(|(_, b)| filter.shows_annotation(b));
        detections
            .map(|(at, _)| BoxRef::Detection(at))
            .chain(annotations.map(|(at, _)| BoxRef::GroundTruth(at)))
            .collect()
    }
}
