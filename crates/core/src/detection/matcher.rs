//! Assignment of ground-truth boxes to candidate boxes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use sedet_data::boxes::BoxXyxy;

/// The assignment of one candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// Matched to the ground-truth box with this index.
    GroundTruth(usize),
    /// Background.
    Background,
    /// Between the thresholds; not used in training.
    Ignored,
}

/// IoU thresholds; torchvision's `Matcher`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Matcher {
    /// A best IoU of at least this is a match.
    pub foreground: f32,
    /// A best IoU below this is background.
    pub background: f32,
    /// Also matches the candidates with the highest IoU for each ground-truth box, however low it is.
    /// Such a candidate is matched to its own best ground-truth box, as in torchvision.
    pub low_quality_matches: bool,
}

impl Matcher {
    /// The thresholds of the RPN: 0.7 and 0.3, with low-quality matches.
    pub const RPN: Self = Self {
        foreground: 0.7,
        background: 0.3,
        low_quality_matches: true,
    };
    /// The threshold of the RoI heads: 0.5, without low-quality matches.
    pub const ROI: Self = Self {
        foreground: 0.5,
        background: 0.5,
        low_quality_matches: false,
    };

    /// Returns one assignment per candidate. Without ground truth all candidates are background.
    pub(crate) fn match_boxes(
        &self,
        ground_truth: &[BoxXyxy],
        candidates: &[BoxXyxy],
    ) -> Vec<Match> {
        self.match_quality(ground_truth.len(), candidates.len(), |g, c| {
            ground_truth[g].iou(candidates[c])
        })
    }

    /// Returns one assignment per candidate for any quality function `(ground truth, candidate) -> IoU`.
    pub fn match_quality(
        &self,
        ground_truths: usize,
        candidates: usize,
        quality: impl Fn(usize, usize) -> f32,
    ) -> Vec<Match> {
        if ground_truths == 0 {
            return vec![Match::Background; candidates];
        }
        let mut best_of_candidate = vec![(0usize, f32::NEG_INFINITY); candidates];
        let mut best_of_truth = vec![f32::NEG_INFINITY; ground_truths];
        // One ground-truth box at a time, so that memory is linear in the candidates.
        for (g, best_truth) in best_of_truth.iter_mut().enumerate() {
            for (c, best) in best_of_candidate.iter_mut().enumerate() {
                let q = quality(g, c);
                if q > best.1 {
                    *best = (g, q);
                }
                *best_truth = best_truth.max(q);
            }
        }
        let mut matches: Vec<Match> = best_of_candidate
            .iter()
            .map(|&(g, q)| {
                if q < self.background {
                    Match::Background
                } else if q < self.foreground {
                    Match::Ignored
                } else {
                    Match::GroundTruth(g)
                }
            })
            .collect();
        if self.low_quality_matches {
            for (g, &best) in best_of_truth.iter().enumerate() {
                for c in 0..candidates {
                    if quality(g, c) == best {
                        matches[c] = Match::GroundTruth(best_of_candidate[c].0);
                    }
                }
            }
        }
        matches
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn with_low_quality_matches_every_overlapped_ground_truth_is_matched(
            q in proptest::collection::vec(0.01f32..1.0, 3 * 7)
        ) {
            let matches = Matcher::RPN.match_quality(3, 7, |g, c| q[g * 7 + c]);
            for g in 0..3 {
                let best = (0..7).max_by(|a, b| q[g * 7 + a].total_cmp(&q[g * 7 + b])).unwrap();
                let matched = matches!(matches[best], Match::GroundTruth(_));
                prop_assert!(matched);
            }
        }
    }

    #[test]
    fn without_ground_truth_everything_is_background() {
        let boxes = [BoxXyxy::new(0.0, 0.0, 9.0, 9.0); 4];
        assert_eq!(
            Matcher::RPN.match_boxes(&[], &boxes),
            [Match::Background; 4]
        );
    }
}
