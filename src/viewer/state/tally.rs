//! Right, wrong and missed over all pictures.

use super::collection::Collection;
use super::filter::BoxFilter;
use super::predictions::Predictions;
use crate::eval::confusion::Confusion;

/// Compare what was found with what is annotated, in the pictures that somebody has looked at.
pub fn tally(collection: &Collection, predictions: &Predictions, filter: &BoxFilter) -> Confusion {
    Confusion::of(collection.len(), filter.iou, |index| {
        let found = predictions.get(index)?;
        Some((collection.truth(index), filter.counted(found).to_vec()))
    })
}
