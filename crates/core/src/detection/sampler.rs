//! Balanced sampling of positive and negative candidates for a loss.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::matcher::Match;

/// Sample size and largest fraction of positives; torchvision's `BalancedPositiveNegativeSampler`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BalancedSampler {
    /// Candidates per image.
    pub batch_size_per_image: usize,
    /// Largest fraction of positives.
    pub positive_fraction: f32,
}

/// The order in which candidates are taken if there are too many.
#[derive(Debug)]
pub enum SampleOrder {
    /// A uniformly random order.
    Shuffled(Box<ChaCha8Rng>),
    /// By index; for comparison with a reference whose shuffling is switched off.
    InOrder,
}

impl SampleOrder {
    /// Returns a random order that depends on the seed only.
    pub fn shuffled(seed: u64) -> Self {
        Self::Shuffled(Box::new(ChaCha8Rng::seed_from_u64(seed)))
    }

    fn choose(&mut self, mut candidates: Vec<usize>, amount: usize) -> Vec<usize> {
        if amount >= candidates.len() {
            return candidates;
        }
        match self {
            Self::Shuffled(rng) => candidates.partial_shuffle(rng.as_mut(), amount).0.to_vec(),
            Self::InOrder => {
                candidates.truncate(amount);
                candidates
            }
        }
    }
}

/// The sampled indices, each list ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampledIndices {
    /// Indices of positives.
    pub positive: Vec<usize>,
    /// Indices of negatives.
    pub negative: Vec<usize>,
}

impl BalancedSampler {
    /// Samples candidates by their assignment: matched ones are positive, background is negative, and
    /// ignored ones are in neither list.
    pub(crate) fn sample_matches(
        &self,
        matches: &[Match],
        order: &mut SampleOrder,
    ) -> SampledIndices {
        let of_kind = |wanted: fn(&Match) -> bool| -> Vec<usize> {
            (0..matches.len())
                .filter(|&i| wanted(&matches[i]))
                .collect()
        };
        self.sample(
            of_kind(|m| matches!(m, Match::GroundTruth(_))),
            of_kind(|m| *m == Match::Background),
            order,
        )
    }

    /// Samples from the indices of positives and negatives (ascending).
    pub fn sample(
        &self,
        positive: Vec<usize>,
        negative: Vec<usize>,
        order: &mut SampleOrder,
    ) -> SampledIndices {
        let most = (self.batch_size_per_image as f32 * self.positive_fraction) as usize;
        let positives = positive.len().min(most);
        let negatives = negative.len().min(self.batch_size_per_image - positives);
        let mut positive = order.choose(positive, positives);
        let mut negative = order.choose(negative, negatives);
        positive.sort_unstable();
        negative.sort_unstable();
        SampledIndices { positive, negative }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SAMPLER: BalancedSampler = BalancedSampler {
        batch_size_per_image: 16,
        positive_fraction: 0.25,
    };

    proptest! {
        #[test]
        fn a_sample_is_bounded_balanced_and_drawn_from_the_candidates(
            positives in 0usize..40, negatives in 0usize..40, seed in any::<u64>()
        ) {
            let mut order = SampleOrder::shuffled(seed);
            let sample = SAMPLER.sample(
                (0..positives).collect(),
                (100..100 + negatives).collect(),
                &mut order,
            );
            prop_assert_eq!(sample.positive.len(), positives.min(4));
            prop_assert_eq!(sample.negative.len(), negatives.min(16 - sample.positive.len()));
            prop_assert!(sample.positive.iter().all(|&i| i < positives));
            prop_assert!(sample.negative.iter().all(|&i| (100..100 + negatives).contains(&i)));
            prop_assert!(sample.positive.windows(2).all(|w| w[0] < w[1]));
        }
    }

    #[test]
    fn every_candidate_can_be_sampled() {
        let mut seen = [false; 40];
        for seed in 0..200 {
            let mut order = SampleOrder::shuffled(seed);
            for i in SAMPLER
                .sample((0..40).collect(), vec![], &mut order)
                .positive
            {
                seen[i] = true;
            }
        }
        assert!(seen.iter().all(|s| *s));
    }
}
