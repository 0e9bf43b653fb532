//! Assignment of ground-truth boxes to candidate boxes.

use std::ops::Range;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use sedet_data::boxes::BoxXyxy;
use sedet_nn::kernels::vectorized::vectorized;

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
    ///
    /// The result does not depend on the number of threads.
    pub(crate) fn match_boxes(
        &self,
        ground_truth: &[BoxXyxy],
        candidates: &[BoxXyxy],
    ) -> Vec<Match> {
        self.match_blocks(ground_truth.len(), candidates.len(), |range| {
            let block = Columns::of(&candidates[range]);
            move |g: usize, ious: &mut [f32]| block.ious(ground_truth[g], ious)
        })
    }

    /// Returns one assignment per candidate for any quality function `(ground truth, candidate) -> IoU`, which is
    /// not negative.
    pub fn match_quality(
        &self,
        ground_truths: usize,
        candidates: usize,
        quality: impl Fn(usize, usize) -> f32 + Sync,
    ) -> Vec<Match> {
        let quality = &quality;
        self.match_blocks(ground_truths, candidates, |range: Range<usize>| {
            move |g: usize, qualities: &mut [f32]| {
                for (to, c) in qualities.iter_mut().zip(range.clone()) {
                    *to = quality(g, c);
                }
                true
            }
        })
    }

    /// Returns one assignment per candidate. `of_block` receives the indices of a block of candidates and returns
    /// the function that writes their qualities for a ground-truth box, or returns false if all are zero.
    fn match_blocks<F>(
        &self,
        ground_truths: usize,
        candidates: usize,
        of_block: impl Fn(Range<usize>) -> F + Sync,
    ) -> Vec<Match>
    where
        F: Fn(usize, &mut [f32]) -> bool,
    {
        if ground_truths == 0 {
            return vec![Match::Background; candidates];
        }
        let starts = (0..candidates).into_par_iter().step_by(BLOCK);
        let ranges = starts.map(|start| start..(start + BLOCK).min(candidates));
        let blocks: Vec<BestOfBlock> = ranges
            .map(|range| BestOfBlock::of(range.len(), ground_truths, of_block(range)))
            .collect();
        let mut best_of_truth = vec![0.0f32; ground_truths];
        for block in &blocks {
            for (best, found) in best_of_truth.iter_mut().zip(&block.best_of_truth) {
                *best = best.max(*found);
            }
        }
        let mut matches = vec![Match::Background; candidates];
        matches
            .par_chunks_mut(BLOCK)
            .zip(&blocks)
            .enumerate()
            .for_each(|(index, (matches, block))| {
                for (c, found) in matches.iter_mut().enumerate() {
                    *found = self.of_quality(block.truth[c], block.quality[c]);
                }
                if !self.low_quality_matches {
                    return;
                }
                // Few blocks contain the best candidate of a ground-truth box.
                let mut prepared = None;
                for (g, best) in best_of_truth.iter().enumerate() {
                    if block.best_of_truth[g] != *best {
                        continue;
                    }
                    let start = index * BLOCK;
                    let (write, qualities) = prepared.get_or_insert_with(|| {
                        let range = start..start + matches.len();
                        (of_block(range), vec![0.0; matches.len()])
                    });
                    if !write(g, qualities) {
                        qualities.fill(0.0);
                    }
                    for (c, quality) in qualities.iter().enumerate() {
                        if quality == best {
                            matches[c] = Match::GroundTruth(block.truth[c] as usize);
                        }
                    }
                }
            });
        matches
    }

    fn of_quality(&self, truth: u32, quality: f32) -> Match {
        if quality < self.background {
            Match::Background
        } else if quality < self.foreground {
            Match::Ignored
        } else {
            Match::GroundTruth(truth as usize)
        }
    }
}

/// Candidates of a task: about one row of anchors of the finest level at 800x1344, so that most blocks are apart from
/// most ground-truth boxes; their columns and qualities stay in the first-level cache.
const BLOCK: usize = 1024;

/// The best matches within a block of candidates.
struct BestOfBlock {
    /// The best ground-truth box of each candidate, the first of equal ones.
    truth: Vec<u32>,
    /// The quality of these matches.
    quality: Vec<f32>,
    /// The best quality of each ground-truth box.
    best_of_truth: Vec<f32>,
}

impl BestOfBlock {
    fn of(length: usize, ground_truths: usize, write: impl Fn(usize, &mut [f32]) -> bool) -> Self {
        let mut best = Self {
            truth: vec![0; length],
            quality: vec![0.0; length],
            best_of_truth: vec![0.0; ground_truths],
        };
        let mut qualities = vec![0.0; length];
        for g in 0..ground_truths {
            if write(g, &mut qualities) {
                best.add(g, &qualities);
            }
        }
        best
    }

    fn add(&mut self, g: usize, qualities: &[f32]) {
        let (truth, quality) = (&mut self.truth, &mut self.quality);
        self.best_of_truth[g] = vectorized(|| keep_better(g as u32, qualities, truth, quality));
    }
}

/// Number of partial maxima: one vector of AVX-512, or several shorter ones.
const LANES: usize = 16;

/// Takes `qualities` where they are better than those so far. Returns the largest.
#[inline(always)]
fn keep_better(g: u32, qualities: &[f32], truth: &mut [u32], quality: &mut [f32]) -> f32 {
    let mut largest = [0.0f32; LANES];
    let news = qualities.chunks(LANES);
    let olds = truth.chunks_mut(LANES).zip(quality.chunks_mut(LANES));
    for (new, (truth, quality)) in news.zip(olds) {
        // Comparisons instead of `f32::max`, whose treatment of NaN takes more instructions.
        for lane in 0..new.len() {
            let is_better = new[lane] > quality[lane];
            truth[lane] = if is_better { g } else { truth[lane] };
            quality[lane] = if is_better { new[lane] } else { quality[lane] };
            largest[lane] = if new[lane] > largest[lane] {
                new[lane]
            } else {
                largest[lane]
            };
        }
    }
    largest.into_iter().fold(0.0, f32::max)
}

/// Returns the smallest and the largest value.
fn extremes(values: &[f32]) -> (f32, f32) {
    vectorized(|| {
        let (mut least, mut largest) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
        for values in values.chunks(LANES) {
            for (lane, &value) in values.iter().enumerate() {
                least[lane] = if value < least[lane] {
                    value
                } else {
                    least[lane]
                };
                largest[lane] = if value > largest[lane] {
                    value
                } else {
                    largest[lane]
                };
            }
        }
        (
            least.into_iter().fold(f32::INFINITY, f32::min),
            largest.into_iter().fold(f32::NEG_INFINITY, f32::max),
        )
    })
}

/// Boxes with the coordinates in separate columns, from which vectors are read.
struct Columns {
    x1: Vec<f32>,
    y1: Vec<f32>,
    x2: Vec<f32>,
    y2: Vec<f32>,
    /// Contains every box.
    hull: BoxXyxy,
}

impl Columns {
    fn of(boxes: &[BoxXyxy]) -> Self {
        let column = |of: fn(&BoxXyxy) -> f32| boxes.iter().map(of).collect::<Vec<f32>>();
        let columns = [
            column(|b| b.x1),
            column(|b| b.y1),
            column(|b| b.x2),
            column(|b| b.y2),
        ];
        let [x1, y1, x2, y2] = columns.each_ref().map(|column| extremes(column));
        // Corners may be swapped.
        let hull = BoxXyxy::new(
            x1.0.min(x2.0),
            y1.0.min(y2.0),
            x1.1.max(x2.1),
            y1.1.max(y2.1),
        );
        let [x1, y1, x2, y2] = columns;
        Self {
            x1,
            y1,
            x2,
            y2,
            hull,
        }
    }

    /// Writes the IoU of each box with another. Returns false, and writes nothing, if the other box is apart from
    /// all of them.
    fn ious(&self, other: BoxXyxy, ious: &mut [f32]) -> bool {
        let is_apart = other.x1 > self.hull.x2
            || other.x2 < self.hull.x1
            || other.y1 > self.hull.y2
            || other.y2 < self.hull.y1;
        if is_apart {
            return false;
        }
        vectorized(|| self.write_ious(other, ious));
        true
    }

    #[inline(always)]
    fn write_ious(&self, other: BoxXyxy, ious: &mut [f32]) {
        let count = ious.len();
        let (x1, y1) = (&self.x1[..count], &self.y1[..count]);
        let (x2, y2) = (&self.x2[..count], &self.y2[..count]);
        for (c, iou) in ious.iter_mut().enumerate() {
            *iou = other.iou(BoxXyxy::new(x1[c], y1[c], x2[c], y2[c]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Matches one candidate after the other, as torchvision defines it.
    fn one_by_one(
        matcher: Matcher,
        ground_truth: &[BoxXyxy],
        candidates: &[BoxXyxy],
    ) -> Vec<Match> {
        let best_of = |truth: &BoxXyxy| {
            let ious = candidates.iter().map(|c| truth.iou(*c));
            ious.fold(f32::NEG_INFINITY, f32::max)
        };
        let best: Vec<f32> = ground_truth.iter().map(best_of).collect();
        let one = |candidate: &BoxXyxy| {
            let ious: Vec<f32> = ground_truth.iter().map(|t| t.iou(*candidate)).collect();
            let largest = ious.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let first = ious.iter().position(|iou| *iou == largest).unwrap();
            let is_best = ious.iter().zip(&best).any(|(iou, best)| iou == best);
            if matcher.low_quality_matches && is_best || largest >= matcher.foreground {
                Match::GroundTruth(first)
            } else if largest < matcher.background {
                Match::Background
            } else {
                Match::Ignored
            }
        };
        candidates.iter().map(one).collect()
    }

    fn any_box() -> impl Strategy<Value = BoxXyxy> {
        // Whole numbers, so that equal qualities occur; few of the boxes are empty.
        (0u8..60, 0u8..60, 0u8..20, 0u8..20)
            .prop_map(|(x, y, w, h)| BoxXyxy::from_xywh([x, y, w, h].map(f32::from)))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn blocks_give_the_matches_of_single_candidates(
            ground_truth in proptest::collection::vec(any_box(), 1..6),
            some in proptest::collection::vec(any_box(), 1..40),
            times in 1usize..90,
        ) {
            // More candidates than a block has, sorted by rows as anchors are.
            let mut candidates = some.repeat(times);
            candidates.sort_by(|a, b| a.y1.total_cmp(&b.y1));
            for matcher in [Matcher::RPN, Matcher::ROI] {
                let found = matcher.match_boxes(&ground_truth, &candidates);
                prop_assert_eq!(&found, &one_by_one(matcher, &ground_truth, &candidates));
                let by_quality = matcher.match_quality(ground_truth.len(), candidates.len(), |g, c| {
                    ground_truth[g].iou(candidates[c])
                });
                prop_assert_eq!(found, by_quality);
            }
        }
    }

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
