//! Why a box or a class has its score: what is explained, and what is selected in the explanation.

use std::sync::Arc;

use super::{BoxRef, Pane, ViewerState};
use sedet_core::excitation::{Excitation, SeBlock};
use sedet_core::explanation::{ExplanationError, GateEffect, LayerCam, Neutral, strongest};
use sedet_core::model::{Explanation, ReplacedGate, Subject};

/// Gates that are listed for the score, and against it.
const LISTED: usize = 10;

/// A score that can be explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExplainedScore {
    /// Index of the image.
    pub image: usize,
    /// [`NetworkInfo::id`](super::NetworkInfo::id) of the network that gives the score.
    pub network: u64,
    /// The detection or the class.
    pub subject: Subject,
}

/// The explanation of a score, with the effects of the gates.
#[derive(Debug, Clone)]
pub struct ScoreExplanation {
    /// The score.
    pub of: ExplainedScore,
    /// What the network computes.
    pub explanation: Explanation,
    /// The statistics whose means are the neutral gates; without any, that is the mean of the unit in the image.
    pub statistics: Option<Arc<Excitation>>,
    /// The effects of all gates.
    pub effects: Vec<GateEffect>,
    /// The gates with the largest effects for and against the score.
    pub strongest: [Vec<GateEffect>; 2],
}

impl ScoreExplanation {
    /// Computes the effects of the gates.
    ///
    /// # Errors
    /// The statistics are those of another network.
    pub(crate) fn new(
        of: ExplainedScore,
        explanation: Explanation,
        statistics: Option<Arc<Excitation>>,
    ) -> Result<Self, ExplanationError> {
        let units = explanation.units.iter();
        let blocks: Vec<SeBlock> = units.map(|unit| unit.block.clone()).collect();
        let neutral = match &statistics {
            Some(statistics) => Neutral::of_dataset(statistics, &blocks)?,
            None => Neutral::UnitMean,
        };
        let effects = explanation.effects(&neutral);
        Ok(Self {
            of,
            strongest: strongest(&effects, LISTED),
            effects,
            explanation,
            statistics,
        })
    }

    /// Returns whether it answers a request for a score with these statistics.
    pub(crate) fn answers(&self, of: ExplainedScore, statistics: Option<&Arc<Excitation>>) -> bool {
        self.of == of && is_same(self.statistics.as_ref(), statistics)
    }

    /// Returns the index of the layer that is shown: the one of this name if it has a part in the score, else the
    /// one that the box is pooled from, or for a class the last.
    pub(crate) fn layer(&self, chosen: Option<&str>) -> Option<usize> {
        let cams = &self.explanation.cams;
        let has_part = |cam: &LayerCam| cam.largest() > 0.0;
        let named = |name: Option<&str>| {
            let is_named = |cam: &LayerCam| Some(cam.layer.as_str()) == name && has_part(cam);
            cams.iter().position(is_named)
        };
        named(chosen)
            .or_else(|| named(self.explanation.pooled_from.as_deref()))
            .or_else(|| cams.iter().rposition(has_part))
    }

    /// Returns the name of a channel, such as `SE_3_1 11`.
    pub fn channel_name(&self, (unit, channel): (usize, usize)) -> String {
        let unit = self.explanation.units.get(unit);
        let block = unit.map_or("?", |unit| unit.block.name.as_str());
        format!("{block} {channel}")
    }
}

/// Returns whether two statistics are the same object.
pub(crate) fn is_same(a: Option<&Arc<Excitation>>, b: Option<&Arc<Excitation>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    }
}

/// The gate of a channel that is switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OffGate {
    /// 0: the score without the channel.
    #[default]
    Zero,
    /// The neutral gate: the score without what the gate expresses.
    Neutral,
}

/// The score with other gates in some channels.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreWithout {
    /// The score that is explained.
    pub of: ExplainedScore,
    /// The other gates.
    pub replaced: Vec<ReplacedGate>,
    /// The score with them; `None` if it could not be computed.
    pub score: Option<f32>,
}

/// The explanation and what is selected in it.
#[derive(Debug, Clone, Default)]
pub struct ExplanationChoice {
    /// Whether the section is open.
    pub is_open: bool,
    /// Classifiers: an image, and the label that has been clicked among its classes.
    pub class: Option<(usize, usize)>,
    /// The layer whose map is drawn over the image, if it has been chosen.
    pub layer: Option<String>,
    /// Whether no map is drawn.
    pub hides_map: bool,
    /// Unit and channel of each channel that is switched off.
    pub off: Vec<(usize, usize)>,
    /// The gate that these channels have.
    pub off_gate: OffGate,
    /// The latest explanation, or why there is none.
    pub computed: Option<(ExplainedScore, Result<Arc<ScoreExplanation>, String>)>,
    /// The latest score with channels switched off.
    pub without: Option<ScoreWithout>,
}

impl ExplanationChoice {
    /// Stores an explanation. The channels of another score are switched on again, and its map is shown.
    pub(crate) fn set(
        &mut self,
        of: ExplainedScore,
        computed: Result<Arc<ScoreExplanation>, String>,
    ) {
        if self.computed.as_ref().is_none_or(|(known, _)| *known != of) {
            self.off.clear();
            self.hides_map = false;
        }
        self.computed = Some((of, computed));
    }

    /// Switches a channel off or on.
    pub(crate) fn switch(&mut self, channel: (usize, usize), is_off: bool) {
        self.off.retain(|known| *known != channel);
        if is_off {
            self.off.push(channel);
        }
    }

    /// Returns the gates of the channels that are switched off.
    pub fn replaced(&self, explanation: &ScoreExplanation) -> Vec<ReplacedGate> {
        let effects = explanation.effects.iter();
        let off = effects.filter(|found| self.off.contains(&(found.unit, found.channel)));
        off.map(|found| ReplacedGate {
            unit: found.unit,
            channel: found.channel,
            gate: match self.off_gate {
                OffGate::Zero => 0.0,
                OffGate::Neutral => found.neutral,
            },
        })
        .collect()
    }
}

impl ViewerState {
    /// Returns the score that is explained: that of the selected detection, or for a classifier that of the clicked or
    /// most probable class. Feature maps are those of the first pane, and so is what is explained.
    ///
    /// # Errors
    /// Nothing can be explained; the message says why.
    pub fn score_to_explain(&self) -> Result<ExplainedScore, &'static str> {
        let Some(network) = &self.networks[0] else {
            return Err(if self.from_results {
                "boxes of a results file have no network that could explain them; open its checkpoint"
            } else {
                "a network explains its own boxes; open a checkpoint"
            });
        };
        if self.focused() != Pane::First {
            return Err("only boxes and classes of the left pane are explained");
        }
        let subject = if !network.is_detector {
            let inference = self.current_inference().ok_or("no class is known yet")?;
            let clicked = self
                .explanation
                .class
                .filter(|(image, _)| *image == self.current);
            let clicked = clicked.map(|(_, label)| label);
            let best = || inference.classes.first().map(|class| class.label);
            Subject::Class(clicked.or_else(best).ok_or("no class is known")?)
        } else if self.from_results {
            return Err(
                "these boxes are of a results file; open the dataset again for those of the network",
            );
        } else {
            match self.selected {
                // The score threshold keeps the first of the detections.
                Some(BoxRef::Detection(position)) => Subject::Detection(position),
                Some(BoxRef::GroundTruth(_)) => {
                    return Err("an annotation has no score; select a detection");
                }
                None => return Err("select a detection first"),
            }
        };
        Ok(ExplainedScore {
            image: self.current,
            network: network.id,
            subject,
        })
    }

    /// Opens the explanation, or closes it. Where nothing can be explained, a notice says why.
    pub(crate) fn toggle_explanation(&mut self) {
        if self.explanation.is_open {
            self.explanation.is_open = false;
        } else if let Err(reason) = self.score_to_explain() {
            self.notify(reason);
        } else {
            (self.explanation.is_open, self.explanation.hides_map) = (true, false);
            self.gates.channel = None;
        }
    }

    /// Returns the explanation of the selected box or class, once it has been computed and while it is shown.
    pub fn current_explanation(&self) -> Option<&Arc<ScoreExplanation>> {
        let of = self.score_to_explain().ok()?;
        let (known, computed) = self.explanation.computed.as_ref()?;
        let is_shown = self.explanation.is_open && *known == of;
        computed.as_ref().ok().filter(|_| is_shown)
    }

    /// Returns the score of the current explanation with the channels that are switched off; `None` until it has
    /// been computed.
    pub fn score_without(&self) -> Option<&ScoreWithout> {
        let explanation = self.current_explanation()?;
        let without = self.explanation.without.as_ref()?;
        let is_current = without.of == explanation.of
            && without.replaced == self.explanation.replaced(explanation);
        is_current.then_some(without)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Settings;

    #[test]
    fn without_a_network_nothing_is_explained_and_the_reason_is_given() {
        let mut state = ViewerState::new(Settings::default());
        let reason = state.score_to_explain().unwrap_err();
        assert!(reason.contains("open a checkpoint"), "{reason}");
        state.from_results = true;
        let reason = state.score_to_explain().unwrap_err();
        assert!(reason.contains("results file"), "{reason}");
        state.toggle_explanation();
        assert!(!state.explanation.is_open);
        assert_eq!(state.notices[0].text, reason);
    }

    #[test]
    fn the_channels_of_another_score_are_switched_on_again_and_its_map_is_shown() {
        let of = |position| ExplainedScore {
            image: 0,
            network: 1,
            subject: Subject::Detection(position),
        };
        let mut choice = ExplanationChoice::default();
        choice.set(of(0), Err("damaged".to_owned()));
        choice.switch((2, 7), true);
        choice.switch((3, 1), true);
        choice.switch((2, 7), false);
        choice.hides_map = true;
        choice.set(of(0), Err("damaged".to_owned()));
        assert_eq!(choice.off, [(3, 1)]);
        assert!(choice.hides_map);
        choice.set(of(1), Err("damaged".to_owned()));
        assert!(choice.off.is_empty() && !choice.hides_map);
    }
}
