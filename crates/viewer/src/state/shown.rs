//! What is shown, in one line: dataset and split, network, source of the boxes, thresholds.

use super::{Pane, ViewerState, short_score};
use sedet_core::model::NetworkConfig;
use sedet_data::text::count;

impl ViewerState {
    fn progress_line(&self, network: Pane) -> String {
        let (done, all) = (self.processed(network), self.image_count());
        format!("{done} of {} processed", count(all, "image"))
    }

    /// Returns the score above which a detector keeps boxes at all; none for boxes of a results file.
    pub(crate) fn least_score(&self, network: Pane) -> Option<f32> {
        let is_file = network == Pane::First && self.from_results;
        let known = self.networks[network.index()].as_ref();
        match &known.filter(|_| !is_file)?.config {
            NetworkConfig::Detection(detector) => Some(detector.roi_heads.score_threshold),
            NetworkConfig::Classification(_) => None,
        }
    }

    /// Returns what is shown, in one line.
    pub(crate) fn shown(&self) -> String {
        let Some(collection) = self.collection.as_ref() else {
            return match &self.networks[0] {
                Some(network) => network.title.clone(),
                None => "nothing is open".to_owned(),
            };
        };
        let mut parts = vec![collection.title()];
        let at = self.network_in_focus();
        let network = self.networks[at.index()].as_ref();
        if self.finds_boxes() {
            let predictions = &self.predictions[at.index()];
            parts.push(if predictions.source.is_empty() {
                "no detections".to_owned()
            } else {
                format!("boxes of {}", predictions.source)
            });
            if let Some(network) = network.filter(|network| network.title != predictions.source) {
                parts.push(format!("gates of {}", network.title));
            }
            let filter = self.filter();
            let mut score = format!("score from {}", short_score(filter.score.into()));
            if let Some(least) = self.least_score(at)
                && filter.score < least
            {
                score.push_str(&format!(" (the network keeps boxes above {least})"));
            }
            parts.push(format!("{score}, IoU from {:.2}", filter.iou));
            parts.push(self.progress_line(at));
        } else if let Some(network) = network {
            parts.push(network.title.clone());
            parts.push(self.progress_line(at));
        } else {
            parts.push(format!(
                "no network, {}",
                count(self.image_count(), "image")
            ));
        }
        parts.join("  ·  ")
    }
}
