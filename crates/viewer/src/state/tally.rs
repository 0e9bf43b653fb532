//! Correct, wrong and missed boxes over all images.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::collection::Collection;
use super::filter::BoxFilter;
use super::predictions::Predictions;
use sedet_data::eval::confusion::Confusion;
use sedet_data::eval::matching::{ErrorType, MatchCounts, Verdict, match_image};

/// Matches detections with annotations in all processed images.
pub fn tally(collection: &Collection, predictions: &Predictions, filter: &BoxFilter) -> Confusion {
    Confusion::of(collection.len(), filter.iou, |index| {
        let found = predictions.get(index)?;
        Some((
            collection.ground_truth(index),
            filter.above_threshold(found).to_vec(),
        ))
    })
}

/// Detections that match no annotation, by class and type of the error: their number, and the indices of their
/// images, each once, ascending.
pub type Unmatched = BTreeMap<(usize, ErrorType), (usize, Vec<u32>)>;

/// Divides the detections that match no annotation, which the confusion matrix counts together, by the type of
/// their error.
pub(crate) fn unmatched(
    collection: &Collection,
    predictions: &Predictions,
    filter: &BoxFilter,
) -> Unmatched {
    let each = (0..collection.len()).into_par_iter().map(|index| {
        let found = predictions
            .get(index)
            .map(|found| filter.above_threshold(found));
        let found = found.unwrap_or_default();
        let matches = match_image(&collection.ground_truth(index), found, filter.iou);
        let wrong = found.iter().zip(&matches.found);
        let wrong = wrong.filter_map(|(found, verdict)| match verdict {
            // One of another class has a cell of its own.
            Verdict::Wrong { error, .. } if *error != ErrorType::Classification => {
                Some((found.class, *error))
            }
            _ => None,
        });
        wrong.collect::<Vec<_>>()
    });
    let each: Vec<Vec<(usize, ErrorType)>> = each.collect();
    let mut all = Unmatched::new();
    for (index, wrong) in each.into_iter().enumerate() {
        for kind in wrong {
            let (count, images) = all.entry(kind).or_default();
            *count += 1;
            if images.last() != Some(&(index as u32)) {
                images.push(index as u32);
            }
        }
    }
    all
}

/// Counts the boxes of one class by image: its detections that are correct or wrong, and its missed objects.
pub(crate) fn class_counts(
    collection: &Collection,
    predictions: &Predictions,
    filter: &BoxFilter,
    class: usize,
) -> Vec<Option<MatchCounts>> {
    let count = |index: usize| {
        let found = filter.above_threshold(predictions.get(index)?);
        let truth = collection.ground_truth(index);
        let matches = match_image(&truth, found, filter.iou);
        let mut counts = MatchCounts::default();
        for (_, verdict) in found
            .iter()
            .zip(&matches.found)
            .filter(|(f, _)| f.class == class)
        {
            match verdict {
                Verdict::Correct { .. } => counts.correct += 1,
                Verdict::Wrong { .. } => counts.wrong += 1,
                Verdict::Ignored { .. } => {}
            }
        }
        let objects = truth.iter().zip(&matches.truth);
        let objects = objects.filter(|(truth, _)| truth.class == class && !truth.is_crowd);
        counts.missed = objects.filter(|(_, by)| by.is_none()).count();
        Some(counts)
    };
    (0..collection.len()).into_par_iter().map(count).collect()
}

/// Returns the highest score threshold that reaches a recall over all processed images, or `None` if no
/// threshold does.
///
/// Detections are matched by descending score, so lowering the threshold changes no match of a higher
/// score: one matching of all boxes yields the recall at every threshold.
pub(crate) fn score_at_recall(
    collection: &Collection,
    predictions: &Predictions,
    iou: f32,
    recall: f64,
) -> Option<f32> {
    let each = (0..collection.len()).into_par_iter().filter_map(|index| {
        let found = predictions.get(index)?;
        let truth = collection.ground_truth(index);
        let matches = match_image(&truth, found, iou);
        let objects = truth.iter().filter(|truth| !truth.is_crowd).count();
        let verdicts = found.iter().zip(&matches.found);
        let correct = verdicts.filter(|(_, v)| matches!(v, Verdict::Correct { .. }));
        let scores: Vec<f32> = correct.map(|(found, _)| found.score).collect();
        Some((objects, scores))
    });
    let (objects, mut scores) = each.reduce(
        || (0, Vec::new()),
        |(a, mut scores), (b, more)| {
            scores.extend(more);
            (a + b, scores)
        },
    );
    scores.sort_by(|a, b| b.total_cmp(a));
    let needed = (recall * objects as f64).ceil().max(1.0) as usize;
    scores.get(needed - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::two_images;
    use sedet_data::boxes::BoxXyxy;
    use sedet_data::eval::matching::FoundBox;

    #[test]
    fn unmatched_detections_are_divided_by_the_type_of_their_error() {
        let collection = two_images();
        let mut predictions = Predictions::empty("test", 2);
        let found = |x: f32, class, score| FoundBox {
            box_in_image: BoxXyxy::new(x, 0.0, x + 10.0, 10.0),
            class,
            score,
        };
        // Correct, a duplicate, badly located, on background, of another class.
        predictions.set(
            0,
            vec![
                found(0.0, 0, 0.9),
                found(1.0, 0, 0.8),
                found(6.0, 0, 0.7),
                found(45.0, 0, 0.6),
                found(20.0, 0, 0.6),
            ],
        );
        let filter = BoxFilter::default();
        let divided = unmatched(&collection, &predictions, &filter);
        let kinds = [
            ErrorType::Localization,
            ErrorType::Duplicate,
            ErrorType::Background,
        ];
        let expected = kinds.map(|kind| ((0, kind), (1, vec![0])));
        assert_eq!(divided, Unmatched::from(expected));
        let cells = tally(&collection, &predictions, &filter).cells;
        assert_eq!(cells[&(None, Some(0))].0, 3, "the sum in the matrix");
    }

    #[test]
    fn the_counts_of_a_class_leave_out_the_others() {
        let collection = two_images();
        let mut predictions = Predictions::empty("test", 2);
        let found = |x: f32, class| FoundBox {
            box_in_image: BoxXyxy::new(x, 0.0, x + 10.0, 10.0),
            class,
            score: 0.9,
        };
        // The round object is found, the flat one taken for a round one.
        predictions.set(0, vec![found(0.0, 0), found(20.0, 0)]);
        let counts = |class| class_counts(&collection, &predictions, &BoxFilter::default(), class);
        let of = |correct, wrong, missed| {
            Some(MatchCounts {
                correct,
                wrong,
                missed,
            })
        };
        assert_eq!(counts(0), [of(1, 1, 0), None]);
        assert_eq!(counts(1), [of(0, 0, 1), None]);
    }

    #[test]
    fn the_score_of_a_recall_is_the_highest_threshold_that_reaches_it() {
        let collection = two_images();
        let found = |x: f32, class, score| FoundBox {
            box_in_image: BoxXyxy::new(x, 0.0, x + 10.0, 10.0),
            class,
            score,
        };
        let mut predictions = Predictions::empty("test", 2);
        let boxes = vec![found(0.0, 0, 0.9), found(20.0, 1, 0.3), found(50.0, 1, 0.6)];
        predictions.set(0, boxes);
        let at = |recall| score_at_recall(&collection, &predictions, 0.5, recall);
        assert_eq!(
            [0.1, 0.5, 0.51, 1.0].map(at),
            [0.9, 0.9, 0.3, 0.3].map(Some)
        );
        for recall in [0.5, 1.0] {
            let filter = BoxFilter {
                score: at(recall).unwrap(),
                ..BoxFilter::default()
            };
            let total = tally(&collection, &predictions, &filter).total;
            assert_eq!(total.recall(), Some(recall));
        }
        predictions.set(0, vec![found(0.0, 0, 0.9)]);
        assert_eq!(score_at_recall(&collection, &predictions, 0.5, 0.6), None);
    }
}
