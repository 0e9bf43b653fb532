//! Anchor recall: the share of a dataset's boxes that a recipe's anchors match.

use rayon::prelude::*;
use serde::Serialize;

use sedet_core::config::{DetectionConfig, Recipe as _};
use sedet_core::detection::coverage::best_iou;
use sedet_data::annotations::AnnotationStore;
use sedet_data::boxes::ImageSize;
use sedet_data::datasets::detection::TargetFilter;

/// Anchor recall in the recipe's input size.
#[derive(Debug, Clone, Serialize)]
pub(super) struct AnchorCoverage {
    /// Name of the recipe.
    recipe: String,
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
    /// Measures the boxes that training would use, without augmentation; None if there are none.
    pub(super) fn of(
        store: &AnnotationStore,
        recipe: &str,
        settings: &[String],
    ) -> anyhow::Result<Option<Self>> {
        let config = DetectionConfig::load(recipe, settings)?;
        let anchors = config.detector(1, false)?.anchors;
        let preprocess = config.preprocess();
        let min_side = TargetFilter::default().min_side;
        let ious: Vec<f32> = (0..store.image_count())
            .into_par_iter()
            .flat_map_iter(|index| {
                let size = store.image(index).size;
                let input = preprocess.input_size(size);
                let pad = |side: usize| side.next_multiple_of(preprocess.size_divisor);
                let padded = ImageSize::new(pad(input.height), pad(input.width));
                let (x, y) = (
                    input.width as f32 / size.width as f32,
                    input.height as f32 / size.height as f32,
                );
                let anchors = &anchors;
                store
                    .annotations(index)
                    .filter(|annotation| !annotation.is_crowd)
                    .map(move |annotation| annotation.box_in_image.clip(size))
                    .filter(move |found| found.width() > min_side && found.height() > min_side)
                    .map(move |found| best_iou(anchors, padded, found.scale(x, y)))
            })
            .collect();
        if ious.is_empty() {
            return Ok(None);
        }
        let share = |least: f32| {
            let matched = ious.iter().filter(|iou| **iou >= least);
            matched.count() as f64 / ious.len() as f64
        };
        Ok(Some(Self {
            recipe: recipe.to_owned(),
            min_size: config.input.min_size,
            max_size: config.input.max_size,
            boxes: ious.len(),
            share_at_iou_50: share(0.5),
            share_at_iou_70: share(0.7),
        }))
    }

    /// Formats one line.
    pub(super) fn line(&self) -> String {
        format!(
            "recipe {} (input {}/{}): anchor recall {:.1} % at IoU 0.5, {:.1} % at IoU 0.7",
            self.recipe,
            self.min_size,
            self.max_size,
            100.0 * self.share_at_iou_50,
            100.0 * self.share_at_iou_70,
        )
    }
}
