//! Comparison of the image ids of results and ground truth, for messages.

use std::collections::BTreeSet;

use super::ground_truth::GroundTruth;
use super::results::ResultRow;
use crate::text;

/// Describes in one sentence how the two sets of ids differ and what that indicates, for results
/// with unknown images.
pub(super) fn compare(ground_truth: &GroundTruth, results: &[ResultRow]) -> String {
    let known: BTreeSet<u64> = ground_truth.images().iter().map(|image| image.id).collect();
    let found: BTreeSet<u64> = results.iter().map(|row| row.image_id).collect();
    let common = found.intersection(&known).count();
    let (some_known, some_found) = (some_of(&known), some_of(&found));
    let images = known.len() as u64;
    let are_positions = match (found.first(), found.last()) {
        // Counted from 0, or from 1.
        (Some(&first), Some(&last)) => last < images || first > 0 && last == images,
        _ => false,
    };
    if are_positions {
        format!(
            "the results have {} ({some_found}), which look like positions in the list of {} \
             rather than its ids ({some_known})",
            text::count(found.len(), "image id"),
            text::count(known.len(), "image"),
        )
    } else if common == 0 {
        format!(
            "none of the {} in the results ({some_found}) is among the {} of the ground truth \
             ({some_known}): they may belong to another dataset or split",
            text::count(found.len(), "image id"),
            known.len(),
        )
    } else {
        format!(
            "{common} of the {} in the results are known, and the ground truth has {}",
            text::count(found.len(), "image id"),
            text::count(known.len(), "image"),
        )
    }
}

/// Lists the first few ids, for a message.
pub(super) fn some_of(ids: &BTreeSet<u64>) -> String {
    const SHOWN: usize = 4;
    let mut shown: Vec<_> = ids.iter().take(SHOWN).map(u64::to_string).collect();
    if ids.len() > SHOWN {
        shown.push("...".into());
    }
    shown.join(", ")
}
