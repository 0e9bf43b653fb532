//! Comparison of two images or two networks.

use std::sync::Arc;

use super::{BoxRef, NetworkInfo, Predictions, ViewerState};
use sedet_core::excitation::Excitation;

/// The content of the second pane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compare {
    /// There is no second pane.
    #[default]
    Off,
    /// Another image, with the predictions of the same network.
    Image(usize),
    /// The same image, with the predictions of the second network.
    Network,
}

/// One of the two panes of a comparison; also identifies the first and the second network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Pane {
    /// The image or network itself.
    #[default]
    First,
    /// The one it is compared with.
    Second,
}

impl Pane {
    /// Returns the index in an array with an element for each pane.
    pub const fn index(self) -> usize {
        match self {
            Self::First => 0,
            Self::Second => 1,
        }
    }
}

impl ViewerState {
    /// Returns the image that a pane shows.
    pub fn image_of(&self, pane: Pane) -> usize {
        match (pane, self.compare) {
            (Pane::Second, Compare::Image(other)) => other,
            _ => self.current,
        }
    }

    /// Returns the network whose predictions a pane shows.
    pub(crate) fn network_of(&self, pane: Pane) -> Pane {
        match (pane, self.compare) {
            (Pane::Second, Compare::Network) => Pane::Second,
            _ => Pane::First,
        }
    }

    /// Discards what was computed from the results of both networks.
    pub(crate) fn forget_comparison(&mut self) {
        self.comparison = None;
        self.walked = None;
        self.ap_change = None;
    }

    /// Returns whether the panes show one image with a divider between two networks, and are not side by side.
    pub(crate) fn has_divider(&self) -> bool {
        self.compare == Compare::Network && !self.settings.side_by_side
    }

    /// Returns the gate statistics of the second network, if they have been measured.
    pub fn second_statistics(&self) -> Option<&Arc<Excitation>> {
        let network = self.networks[1].as_ref()?;
        let (of, statistics) = self.second_gates.as_ref()?;
        (*of == network.id).then_some(statistics)
    }

    /// Starts a comparison with the second network, or with the next image if there is none; ends a
    /// comparison that is on.
    pub(crate) fn toggle_compare(&mut self) {
        self.compare = match self.compare {
            Compare::Off if self.networks[1].is_some() => Compare::Network,
            Compare::Off if self.image_count() > 1 => {
                Compare::Image((self.current + 1) % self.image_count())
            }
            _ => Compare::Off,
        };
    }

    /// Replaces a network and its predictions. Those of other weights of the same training are kept until the slider
    /// over them returns; boxes from a results file stay.
    pub(crate) fn open_network(&mut self, pane: Pane, network: NetworkInfo) {
        let at = pane.index();
        // A later checkpoint of the same training keeps the selection.
        let known = self.networks[at].as_ref();
        let is_later = known.is_some_and(|known| network.is_of_training_of(known));
        if pane == Pane::First && is_later {
            self.keep_results();
        } else if pane == Pane::First {
            self.kept_results.clear();
        }
        if pane == Pane::First {
            self.maps = None;
            self.explanation.class = None;
            if !is_later {
                self.gates.block = network.blocks.len().saturating_sub(1);
                self.gates.channel = None;
                self.model = None;
            }
        }
        if pane == Pane::Second || !self.from_results {
            self.predictions[at] = Predictions::empty(network.title.clone(), self.image_count());
            self.tallies[at] = None;
            self.evaluations[at] = None;
        }
        self.inference[at] = None;
        // The index of a selected detection is that of another box in other predictions.
        if let Some(BoxRef::Detection(_)) = self.selected
            && self.network_in_focus() == pane
            && !(pane == Pane::First && self.from_results)
        {
            self.selected = None;
        }
        self.forget_comparison();
        if pane == Pane::Second {
            self.compare = Compare::Network;
        }
        self.forget_classes(pane, &network);
        self.networks[at] = Some(network);
        self.match_classifier(pane);
        if pane == Pane::First {
            self.restore_results();
        }
        self.note_foreign_classes();
    }

    /// Closes the second network.
    pub(crate) fn close_second(&mut self) {
        self.networks[1] = None;
        self.predictions[1] = Predictions::default();
        self.inference[1] = None;
        self.tallies[1] = None;
        self.evaluations[1] = None;
        self.match_classifier(Pane::Second);
        self.forget_comparison();
        self.compare = Compare::Off;
    }

    /// Returns the images in which only the first network makes no error. Images that either network
    /// has not processed are excluded.
    pub fn only_first_correct(&self) -> Vec<u32> {
        let [Some(first), Some(second)] = &self.tallies else {
            return Vec::new();
        };
        let pairs = first.images.iter().zip(&second.images).enumerate();
        let better = pairs.filter_map(|(index, pair)| match pair {
            (Some(a), Some(b)) if a.wrong + a.missed == 0 && b.wrong + b.missed > 0 => {
                Some(index as u32)
            }
            _ => None,
        });
        better.collect()
    }
}
