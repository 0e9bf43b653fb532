//! What the image ids of results and ground truth have in common, in words.

use std::collections::BTreeSet;

use super::ground_truth::GroundTruth;
use super::results::ResultRow;
use super::table::counted;

/// One sentence on the two sets of ids and what to do, for results with unknown images.
pub(super) fn compare(ground_truth: &GroundTruth, results: &[ResultRow]) -> String {
    let ours: BTreeSet<u64> = ground_truth.images().iter().map(|image| image.id).collect();
    let theirs: BTreeSet<u64> = results.iter().map(|row| row.image_id).collect();
    let common = theirs.intersection(&ours).count();
    let (few_ours, few_theirs) = (some_of(&ours), some_of(&theirs));
    let are_positions = theirs.last().is_some_and(|&last| last < ours.len() as u64);
    if are_positions {
        format!(
            "the results have {} ({few_theirs}), which look like positions in the list of {} \
             rather than its ids ({few_ours}): write the ids of the annotation file",
            counted(theirs.len(), "image id"),
            counted(ours.len(), "image"),
        )
    } else if common == 0 {
        format!(
            "not one of the {} in the results ({few_theirs}) is among the {} of the ground truth \
             ({few_ours}): they belong to different datasets or splits",
            counted(theirs.len(), "image id"),
            ours.len(),
        )
    } else {
        format!(
            "{common} of the {} in the results are known, the ground truth has {}: measure \
             against the annotation file the results were made for, or leave the other rows out",
            counted(theirs.len(), "image id"),
            counted(ours.len(), "image"),
        )
    }
}

/// The first few ids, for a message.
pub(super) fn some_of(ids: &BTreeSet<u64>) -> String {
    const SHOWN: usize = 4;
    let mut shown: Vec<_> = ids.iter().take(SHOWN).map(u64::to_string).collect();
    if ids.len() > SHOWN {
        shown.push("...".into());
    }
    shown.join(", ")
}
