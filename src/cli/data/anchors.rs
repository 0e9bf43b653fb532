//! Anchor recall: the share of a dataset's boxes that a recipe's anchors match.

use serde::Serialize;

use sedet_core::config::{DetectionConfig, Recipe as _, recipe_for};
use sedet_core::detection::coverage::{AnchorRecall, input_boxes};
use sedet_core::train::fit::{Fitted, fit_to_boxes};
use sedet_data::annotations::AnnotationStore;
use sedet_data::datasets::detection::TargetFilter;
use sedet_data::datasets::registry::DatasetName;

/// Anchor recall in the recipe's input size.
#[derive(Debug, Clone, Serialize)]
pub(super) struct AnchorCoverage {
    /// Name of the recipe.
    recipe: String,
    /// What was fitted to the boxes; empty if the recipe is used as it is.
    fitted: String,
    /// Short side of the input.
    min_size: usize,
    /// Limit of the long side.
    max_size: usize,
    /// Number of boxes used in training.
    boxes: usize,
    /// Share of the boxes, from 0 to 1, with an anchor of at least IoU 0.5.
    share_at_iou_50: f64,
    /// The same share at IoU 0.7, the RPN's threshold for positive anchors.
    share_at_iou_70: f64,
}

impl AnchorCoverage {
    /// Measures the boxes that training would use, without augmentation; None if there are none. Without a
    /// requested recipe it is the dataset's, fitted to the boxes as `sedet train` does.
    pub(super) fn of(
        store: &AnnotationStore,
        requested: Option<&str>,
        dataset: &DatasetName,
    ) -> anyhow::Result<Option<Self>> {
        let recipe = requested.unwrap_or(recipe_for(dataset));
        let mut config = DetectionConfig::load(recipe, &[])?;
        let is_own = matches!(dataset, DatasetName::Directory(_));
        let fitted = if requested.is_none() && is_own {
            fit_to_boxes(&mut config, store, &[])?
        } else {
            Fitted::default()
        };
        let anchors = config.detector(1, false)?.anchors;
        let min_side = TargetFilter::default().min_side;
        let boxes = input_boxes(store, &config.preprocess(), min_side);
        Ok(AnchorRecall::of(&anchors, &boxes).map(|recall| Self {
            recipe: recipe.to_owned(),
            fitted: fitted.to_string(),
            min_size: config.input.min_size,
            max_size: config.input.max_size,
            boxes: recall.boxes,
            share_at_iou_50: recall.at_iou_50,
            share_at_iou_70: recall.at_iou_70,
        }))
    }

    /// Formats one line.
    pub(super) fn line(&self) -> String {
        let fitted = match self.fitted.as_str() {
            "" => String::new(),
            fitted => format!("; {fitted}"),
        };
        format!(
            "recipe {} (input {}/{}{fitted}): anchor recall {:.1} % at IoU 0.5, {:.1} % at IoU 0.7",
            self.recipe,
            self.min_size,
            self.max_size,
            100.0 * self.share_at_iou_50,
            100.0 * self.share_at_iou_70,
        )
    }
}
