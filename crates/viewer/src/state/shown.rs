//! What is shown, in one line: dataset and split, network, source of the boxes, thresholds.

use super::{Pane, ViewerState};
use sedet_data::text::count;

impl ViewerState {
    fn progress_line(&self, network: Pane) -> String {
        let (done, all) = (self.processed(network), self.image_count());
        format!("{done} of {} processed", count(all, "image"))
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
            let thresholds = format!("score from {:.2}, IoU from {:.2}", filter.score, filter.iou);
            parts.push(thresholds);
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
