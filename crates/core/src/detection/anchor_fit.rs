//! Anchors fitted to the boxes of a dataset.
//!
//! The method is a search over a small grid, without random numbers:
//!
//! 1. The aspect ratios are 3, 5, 7 or 9 quantiles of the boxes' ratios of height to width, or as many
//!    values evenly spaced on a logarithmic scale between the ratios of the flattest and of the tallest
//!    boxes (without the outermost 1.5 % on each side).
//! 2. The sizes of the five levels are a geometric series. It begins near a low quantile of the boxes'
//!    sizes (the square root of their area) and grows by a factor of 1.4 to 2.4 from level to level.
//! 3. Of all combinations with the fewest ratios whose anchor recall at IoU 0.5 is at least the wanted
//!    one, the combination with the highest mean IoU is taken; if none reaches it, the one with the
//!    highest recall.
//!
//! The recall includes the grid of the anchors: an anchor counts where it is, not where the box is.

use std::fmt;

use super::anchors::AnchorConfig;
use super::coverage::{AnchorRecall, InputBox, best_iou};

/// Anchor recall at IoU 0.5 that anchors should reach, from 0 to 1.
pub(crate) const WANTED_RECALL: f64 = 0.97;

/// Numbers of aspect ratios to try, in this order.
const RATIO_COUNTS: [usize; 4] = [3, 5, 7, 9];

/// Growth of the anchors from one level to the next. The stride doubles.
const GROWTHS: [f64; 6] = [1.4, 1.6, 1.8, 2.0, 2.2, 2.4];

/// Quantiles of the boxes' sizes from which the smallest anchor is derived, and factors of them.
const FIRST_QUANTILES: [f64; 5] = [0.01, 0.03, 0.07, 0.15, 0.3];
const FIRST_FACTORS: [f64; 3] = [1.0, 1.2, 1.4];

/// Smallest anchor in pixels, the stride of the finest level.
const SMALLEST: f64 = 4.0;

/// Share of the boxes on each side that does not count for the range of aspect ratios.
const OUTERMOST: f64 = 0.015;

/// Number of boxes that the search uses, evenly spaced in the dataset.
const SEARCHED: usize = 1500;

/// Anchors with their recall on the boxes that they were fitted to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AnchorFit {
    /// The anchors.
    pub anchors: AnchorConfig,
    /// Their recall.
    pub recall: AnchorRecall,
}

/// Fits sizes and aspect ratios to boxes; the other fields are those of `start`. Returns `start` if it
/// reaches [`WANTED_RECALL`] or no other anchors have a higher recall, and none without boxes.
pub(crate) fn fit_anchors(start: &AnchorConfig, boxes: &[InputBox]) -> Option<AnchorFit> {
    let recall = AnchorRecall::of(start, boxes)?;
    let mut best = AnchorFit {
        anchors: start.clone(),
        recall,
    };
    if best.recall.at_iou_50 >= WANTED_RECALL {
        return Some(best);
    }
    let searched: Vec<InputBox> = spaced(boxes, SEARCHED);
    let mut sizes: Vec<f64> = searched.iter().map(size_of).collect();
    let mut ratios: Vec<f64> = searched.iter().map(ratio_of).collect();
    sizes.sort_by(f64::total_cmp);
    ratios.sort_by(f64::total_cmp);
    for count in RATIO_COUNTS {
        let candidates = ratio_sets(&ratios, count).into_iter().flat_map(|ratios| {
            size_series(&sizes).map(move |sizes| AnchorConfig {
                sizes,
                aspect_ratios: ratios.clone(),
                ..start.clone()
            })
        });
        let found = candidates
            .filter_map(|anchors| Some((AnchorRecall::of(&anchors, &searched)?, anchors)))
            // The first of equal candidates is kept.
            .reduce(|best, next| {
                if rank(&next.0) > rank(&best.0) {
                    next
                } else {
                    best
                }
            });
        let Some((_, anchors)) = found else { continue };
        let recall = AnchorRecall::of(&anchors, boxes)?;
        if recall.at_iou_50 > best.recall.at_iou_50 {
            best = AnchorFit { anchors, recall };
        }
        if best.recall.at_iou_50 >= WANTED_RECALL {
            break;
        }
    }
    Some(best)
}

/// Returns the order of candidates: by recall up to the wanted one, then by mean IoU.
fn rank(recall: &AnchorRecall) -> (f64, f64) {
    (recall.at_iou_50.min(WANTED_RECALL), recall.mean_iou)
}

/// Returns at most `most` evenly spaced elements.
fn spaced(boxes: &[InputBox], most: usize) -> Vec<InputBox> {
    let count = most.min(boxes.len());
    (0..count).map(|n| boxes[n * boxes.len() / count]).collect()
}

/// Returns the square root of the area in pixels.
fn size_of(b: &InputBox) -> f64 {
    f64::from(b.box_in_input.area()).sqrt()
}

/// Returns the ratio of height to width.
fn ratio_of(b: &InputBox) -> f64 {
    f64::from(b.box_in_input.height()) / f64::from(b.box_in_input.width())
}

/// Returns the value below which a share of sorted values is; none without values.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((share * last as f64).round() as usize).copied()
}

/// Returns both placements of a number of aspect ratios.
fn ratio_sets(sorted: &[f64], count: usize) -> Vec<Vec<f32>> {
    let step = |n: usize| (n as f64 + 0.5) / count as f64;
    let by_quantile: Option<Vec<f64>> = (0..count).map(|n| quantile(sorted, step(n))).collect();
    let range = [OUTERMOST, 1.0 - OUTERMOST].map(|share| quantile(sorted, share));
    let even = match range {
        [Some(low), Some(high)] => Some(
            (0..count)
                .map(|n| low * (high / low).powf(step(n)))
                .collect(),
        ),
        _ => None,
    };
    let sets: [Option<Vec<f64>>; 2] = [by_quantile, even];
    let mut sets: Vec<Vec<f32>> = sets
        .into_iter()
        .flatten()
        .map(|ratios| {
            let mut rounded: Vec<f32> = ratios.into_iter().map(two_digits).collect();
            // Equal ratios would be the same anchor twice.
            rounded.dedup();
            rounded
        })
        .collect();
    sets.dedup();
    sets
}

/// Returns the candidates for the sizes of the five levels.
fn size_series(sorted: &[f64]) -> impl Iterator<Item = Vec<f32>> {
    let mut firsts: Vec<f64> = FIRST_QUANTILES
        .iter()
        .filter_map(|share| quantile(sorted, *share))
        .flat_map(|size| FIRST_FACTORS.map(|factor| (size * factor).max(SMALLEST).round()))
        .collect();
    firsts.sort_by(f64::total_cmp);
    firsts.dedup();
    firsts.into_iter().flat_map(|first| {
        GROWTHS.map(|growth| {
            let levels = 0..5;
            levels
                .map(|level| (first * growth.powi(level)).round() as f32)
                .collect()
        })
    })
}

/// Rounds to two significant digits.
fn two_digits(ratio: f64) -> f32 {
    let scale = 10f64.powi(1 - ratio.abs().log10().floor() as i32);
    ((ratio * scale).round() / scale) as f32
}

/// The common property of most boxes that no anchor reaches at IoU 0.5.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unreached {
    /// They are smaller than the grid of the finest level can locate.
    Tiny {
        /// Share of the unreached boxes, from 0 to 1.
        share: f64,
    },
    /// They are much flatter or taller than the aspect ratios.
    Elongated {
        /// Share of the unreached boxes, from 0 to 1.
        share: f64,
    },
    /// They are larger or smaller than the sizes of the five levels.
    Size {
        /// Share of the unreached boxes, from 0 to 1.
        share: f64,
    },
    /// They are between the sizes, the ratios or the positions of the anchors.
    Between,
}

/// Size in input pixels below which a box counts as tiny: at a stride of 4, an anchor of the box's own
/// shape can miss IoU 0.5.
pub const TINY: f64 = 10.0;

impl Unreached {
    /// Returns the most frequent cause. Returns none if every box is reached.
    pub fn of(anchors: &AnchorConfig, boxes: &[InputBox]) -> Option<Self> {
        let unreached: Vec<&InputBox> = boxes
            .iter()
            .filter(|b| best_iou(anchors, b.padded, b.box_in_input) < 0.5)
            .collect();
        if unreached.is_empty() {
            return None;
        }
        let range = |values: &[f32]| {
            let low = values.iter().copied().fold(f32::INFINITY, f32::min);
            let high = values.iter().copied().fold(0.0, f32::max);
            (f64::from(low), f64::from(high))
        };
        let (flattest, tallest) = range(&anchors.aspect_ratios);
        let (smallest, largest) = range(&anchors.sizes);
        let share = |is: &dyn Fn(&InputBox) -> bool| {
            let count = unreached.iter().filter(|b| is(b)).count();
            count as f64 / unreached.len() as f64
        };
        let tiny = share(&|b| size_of(b) < TINY);
        // Of the same area, boxes with ratios in the proportion 9/4 have IoU 0.5.
        let elongated = share(&|b| {
            let ratio = ratio_of(b);
            ratio < flattest / 2.0 || ratio > tallest * 2.0
        });
        // Of the same shape, boxes with sizes in the proportion of the square root of 2 have IoU 0.5.
        let size = share(&|b| {
            let size = size_of(b);
            size < smallest / 1.4 || size > largest * 1.4
        });
        let causes = [
            (tiny, Self::Tiny { share: tiny }),
            (elongated, Self::Elongated { share: elongated }),
            (size, Self::Size { share: size }),
        ];
        let most = causes
            .into_iter()
            .reduce(|a, b| if b.0 > a.0 { b } else { a })
            .filter(|(share, _)| *share >= 0.25);
        Some(most.map_or(Self::Between, |(_, cause)| cause))
    }
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: &f64| 100.0 * share;
        match self {
            Self::Tiny { share } => write!(
                f,
                "{:.0} % of the other boxes are smaller than {TINY:.0} px in the input, which a larger input \
                 would change",
                percent(share)
            ),
            Self::Elongated { share } => write!(
                f,
                "{:.0} % of the other boxes are more than twice as flat or as tall as the anchors",
                percent(share)
            ),
            Self::Size { share } => write!(
                f,
                "{:.0} % of the other boxes are beyond the range of the five anchor sizes",
                percent(share)
            ),
            Self::Between => f.write_str(
                "the other boxes are between the sizes, aspect ratios and positions of the anchors",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use sedet_data::boxes::{BoxXyxy, ImageSize};

    /// Returns boxes with sizes and ratios drawn from ranges on a logarithmic scale.
    fn boxes(
        count: usize,
        sizes: (f32, f32),
        ratios: (f32, f32),
        input: ImageSize,
    ) -> Vec<InputBox> {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut within = |(low, high): (f32, f32)| low * (high / low).powf(rng.random::<f32>());
        (0..count)
            .map(|_| {
                let (size, ratio) = (within(sizes), within(ratios));
                let (width, height) = (size / ratio.sqrt(), size * ratio.sqrt());
                let x = within((1.0, 2.0)) - 1.0;
                let y = within((1.0, 2.0)) - 1.0;
                let left = x * (input.width as f32 - width).max(0.0);
                let top = y * (input.height as f32 - height).max(0.0);
                InputBox {
                    padded: input,
                    box_in_input: BoxXyxy::from_xywh([left, top, width, height]),
                }
            })
            .collect()
    }

    /// The anchors of the recipe for own data.
    fn small() -> AnchorConfig {
        AnchorConfig {
            sizes: vec![16.0, 32.0, 64.0, 128.0, 256.0],
            ..AnchorConfig::default()
        }
    }

    #[test]
    fn anchors_that_match_the_boxes_are_kept() {
        let input = ImageSize::new(320, 512);
        let fit = fit_anchors(&small(), &boxes(200, (30.0, 34.0), (0.9, 1.1), input)).unwrap();
        assert_eq!(fit.anchors, small());
        assert!(fit_anchors(&small(), &[]).is_none());
    }

    #[test]
    fn elongated_and_wide_format_boxes_are_matched_after_the_fit() {
        for (sizes, ratios, input) in [
            ((20.0, 120.0), (0.12, 0.4), ImageSize::new(160, 1024)),
            ((16.0, 60.0), (3.0, 9.0), ImageSize::new(320, 512)),
            ((24.0, 160.0), (0.15, 6.5), ImageSize::new(320, 512)),
        ] {
            let boxes = boxes(300, sizes, ratios, input);
            let before = AnchorRecall::of(&small(), &boxes).unwrap();
            let fit = fit_anchors(&small(), &boxes).unwrap();
            assert!(before.at_iou_50 < 0.9, "{ratios:?}: {before:?}");
            assert!(fit.recall.at_iou_50 >= WANTED_RECALL, "{ratios:?}: {fit:?}");
            assert_eq!(fit.anchors.sizes.len(), 5);
            assert!(fit.anchors.sizes.is_sorted() && fit.anchors.aspect_ratios.is_sorted());
            assert_eq!(fit_anchors(&small(), &boxes).unwrap(), fit, "deterministic");
        }
    }

    #[test]
    fn the_cause_of_a_low_recall_is_named() {
        let input = ImageSize::new(320, 512);
        let tiny = boxes(200, (2.0, 6.0), (0.8, 1.2), input);
        let fit = fit_anchors(&small(), &tiny).unwrap();
        assert!(fit.recall.at_iou_50 < WANTED_RECALL, "{fit:?}");
        let cause = Unreached::of(&fit.anchors, &tiny).unwrap();
        assert!(
            matches!(cause, Unreached::Tiny { share } if share > 0.9),
            "{cause}"
        );
        let flat = boxes(100, (60.0, 80.0), (0.02, 0.04), input);
        let cause = Unreached::of(&small(), &flat).unwrap();
        assert!(matches!(cause, Unreached::Elongated { .. }), "{cause}");
        let huge = boxes(100, (500.0, 600.0), (0.9, 1.1), ImageSize::new(800, 800));
        let cause = Unreached::of(&small(), &huge).unwrap();
        assert!(matches!(cause, Unreached::Size { .. }), "{cause}");
    }

    #[test]
    fn ratios_have_two_digits() {
        let found = [0.12345, 1.0, 9.96, 12.34].map(two_digits);
        assert_eq!(found, [0.12, 1.0, 10.0, 12.0]);
    }
}
