//! First-order effects of SE gates on a score.
//!
//! The effect of a gate is `gradient * (gate - neutral)`: to first order what the score loses if the gate is set to its
//! neutral value, with all later layers and gates following. The gradient is that of the probability.

use super::ExplanationError;
use crate::excitation::{Excitation, SeBlock};

/// The gates of one SE unit and the gradient of the score for them.
#[derive(Debug, Clone, PartialEq)]
pub struct GateGradients {
    /// The unit.
    pub block: SeBlock,
    /// One gate per channel; for a unit that does not squeeze, the mean over its feature map.
    pub gates: Vec<f32>,
    /// The gradient for each gate; for a unit that does not squeeze, the sum over its feature map.
    pub gradients: Vec<f32>,
    /// Gradient times gate, the first-order effect of the whole channel; for a unit that does not squeeze, the sum of the
    /// products over its feature map.
    pub products: Vec<f32>,
}

impl GateGradients {
    /// Returns the effect of each channel, given a neutral gate for each; `unit` is the index of the unit.
    pub fn effects(&self, unit: usize, neutral: &[f32]) -> Vec<GateEffect> {
        let channels = self.gates.iter().zip(&self.gradients).zip(&self.products);
        let channels = channels.zip(neutral).enumerate();
        channels
            .map(
                |(channel, (((&gate, &gradient), &removal), &neutral))| GateEffect {
                    unit,
                    channel,
                    gate,
                    neutral,
                    effect: removal - gradient * neutral,
                    removal,
                },
            )
            .collect()
    }
}

/// The first-order effect of one gate on the score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GateEffect {
    /// Index of the unit in the order of the forward pass.
    pub unit: usize,
    /// The channel.
    pub channel: usize,
    /// The gate.
    pub gate: f32,
    /// The gate that it is compared with.
    pub neutral: f32,
    /// What the score has by the gate and would not have by the neutral one: positive for the class.
    pub effect: f32,
    /// What the score has by the channel and would not have with a gate of 0.
    pub removal: f32,
}

/// The gate that a channel would have if its unit expressed nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Neutral {
    /// The mean gate of the unit's channels in the same image. A unit recalibrates: it weighs channels against each
    /// other, and equal gates are a constant factor of its feature map. No data is needed. 1 is no such value: the gates of
    /// the paper's sigmoid stay below it, so that all channels would seem suppressed.
    #[default]
    UnitMean,
    /// The mean gate of the channel over a dataset, of each channel of each unit: the effect is what the unit responds to
    /// in this image.
    Means(Vec<Vec<f32>>),
    /// 0: the effect is that of the whole channel.
    Zero,
}

impl Neutral {
    /// Returns the mean gates of statistics.
    ///
    /// # Errors
    /// The statistics belong to a network with other SE units than `blocks`.
    pub fn of_dataset(
        statistics: &Excitation,
        blocks: &[SeBlock],
    ) -> Result<Self, ExplanationError> {
        let measured = statistics.blocks.iter().map(|measured| &measured.block);
        if measured.clone().count() != blocks.len() {
            return Err(ExplanationError::OtherNetwork(format!(
                "they have {}, the network {}",
                sedet_data::text::count(statistics.blocks.len(), "SE unit"),
                blocks.len()
            )));
        }
        if let Some((found, own)) = measured.zip(blocks).find(|(found, own)| found != own) {
            return Err(ExplanationError::OtherNetwork(format!(
                "{} with {}, {} with {}",
                found.name, found.channels, own.name, own.channels
            )));
        }
        let means = statistics.blocks.iter().map(|block| block.all.mean.clone());
        Ok(Self::Means(means.collect()))
    }

    /// Returns the neutral gate of each channel of a unit that has these gates.
    pub fn of(&self, unit: usize, gates: &[f32]) -> Vec<f32> {
        match self {
            Self::Means(means) if unit < means.len() => means[unit].clone(),
            Self::Zero => vec![0.0; gates.len()],
            Self::UnitMean | Self::Means(_) => {
                let sum: f64 = gates.iter().copied().map(f64::from).sum();
                vec![(sum / gates.len().max(1) as f64) as f32; gates.len()]
            }
        }
    }
}

/// Returns the `count` gates with the largest positive and those with the largest negative effects, the largest first.
pub fn strongest(effects: &[GateEffect], count: usize) -> [Vec<GateEffect>; 2] {
    [1.0, -1.0].map(|sign: f32| {
        let mut chosen: Vec<GateEffect> = effects
            .iter()
            .copied()
            .filter(|found| found.effect * sign > 0.0)
            .collect();
        // Stable: of equal effects the first channel.
        chosen.sort_by(|a, b| (b.effect * sign).total_cmp(&(a.effect * sign)));
        chosen.truncate(count);
        chosen
    })
}

/// Returns effects as CSV with the columns `block`, `channel`, `gate`, `neutral`, `effect` and `removal`.
pub fn effects_csv(units: &[GateGradients], effects: &[GateEffect]) -> String {
    let head = ["block", "channel", "gate", "neutral", "effect", "removal"];
    let mut cells = vec![head.map(String::from)];
    cells.extend(effects.iter().map(|found| {
        [
            units[found.unit].block.name.clone(),
            found.channel.to_string(),
            found.gate.to_string(),
            found.neutral.to_string(),
            found.effect.to_string(),
            found.removal.to_string(),
        ]
    }));
    sedet_data::csv::to_csv(cells)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::excitation::collector::tests::{block, gathered};

    fn unit() -> GateGradients {
        GateGradients {
            block: block("SE_2_1", 4),
            gates: vec![0.25, 0.5, 0.75, 0.5],
            gradients: vec![0.5, -0.5, 1.0, 2.0],
            products: vec![0.125, -0.25, 0.75, 1.0],
        }
    }

    #[test]
    fn an_effect_is_the_gradient_times_the_distance_from_the_neutral_gate() {
        let unit = unit();
        let effects = |neutral: &Neutral| -> Vec<f32> {
            let found = unit.effects(0, &neutral.of(0, &unit.gates));
            found.iter().map(|found| found.effect).collect()
        };
        assert_eq!(effects(&Neutral::UnitMean), [-0.125, 0.0, 0.25, 0.0]);
        assert_eq!(effects(&Neutral::Zero), unit.products);
        let means = Neutral::Means(vec![vec![0.25, 0.25, 0.25, 1.0]]);
        assert_eq!(effects(&means), [0.0, -0.125, 0.5, -1.0]);
    }

    #[test]
    fn the_strongest_effects_are_sorted_by_size_on_either_side() {
        let means = Neutral::Means(vec![vec![0.25, 0.25, 0.25, 1.0]]);
        let unit = unit();
        let effects = unit.effects(0, &means.of(0, &unit.gates));
        let channels = |count| {
            strongest(&effects, count)
                .map(|side| side.iter().map(|e| e.channel).collect::<Vec<_>>())
        };
        assert_eq!(channels(10), [vec![2], vec![3, 1]]);
        assert_eq!(channels(1), [vec![2], vec![3]]);
        let csv = effects_csv(&[unit], &effects);
        assert!(csv.starts_with("block,channel,gate,neutral,effect,removal\n"));
        assert_eq!(csv.lines().nth(2), Some("SE_2_1,1,0.5,0.25,-0.125,-0.25"));
    }

    #[test]
    fn statistics_of_another_network_are_refused() {
        use sedet_nn::nn::se::Gate;
        let statistics = gathered(Gate::Sigmoid, &[vec![0.5, 0.25]], &[vec![0]], 1, 1);
        let own = statistics.blocks[0].block.clone();
        let means = Neutral::of_dataset(&statistics, std::slice::from_ref(&own));
        assert_eq!(means, Ok(Neutral::Means(vec![vec![0.5, 0.25]])));
        let other = [block("SE_2_1", 3)];
        let message = |blocks: &[SeBlock]| {
            let error = Neutral::of_dataset(&statistics, blocks).unwrap_err();
            error.to_string()
        };
        assert!(message(&other).ends_with("SE_2_1 with 2, SE_2_1 with 3"));
        assert!(message(&[]).ends_with("they have 1 SE unit, the network 0"));
    }
}
