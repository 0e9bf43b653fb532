//! Undo and redo of filters, thresholds and corrections, back and forward between pages and images.

use sedet_data::curation::check::Correction;

use super::{BoxFilter, BoxRef, Compare, GalleryQuery, PanelId, ViewerState};

/// The number of steps that are kept.
const MAX_STEPS: usize = 200;
/// Changes that follow each other faster, in seconds, are one step: a slider that is dragged, images that are paged
/// through.
const ONE_STEP: f64 = 0.8;

/// What a user has looked at: page, image and list of images.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Place {
    tab: PanelId,
    image: usize,
    selected: Option<BoxRef>,
    query: GalleryQuery,
    compare: Compare,
}

/// What a user has set: the thresholds, which boxes are drawn, and the corrections of labels.
#[derive(Debug, Clone, PartialEq)]
struct Choices {
    filter: BoxFilter,
    corrections: Vec<Correction>,
}

/// The states before and after the present one.
#[derive(Debug, Clone)]
struct Steps<T> {
    past: Vec<T>,
    present: Option<T>,
    future: Vec<T>,
    changed_at: f64,
}

impl<T> Default for Steps<T> {
    fn default() -> Self {
        Self {
            past: Vec::new(),
            present: None,
            future: Vec::new(),
            changed_at: f64::NEG_INFINITY,
        }
    }
}

impl<T: PartialEq + Clone> Steps<T> {
    /// Notes the state at a time in seconds. A change `joins` the one shortly before it.
    fn observe(&mut self, now: T, time: f64, joins: impl FnOnce(&T, &T) -> bool) {
        let Some(present) = &mut self.present else {
            self.present = Some(now);
            return;
        };
        if *present == now {
            return;
        }
        let joins = joins(present, &now);
        let before = std::mem::replace(present, now);
        let is_same_step = joins && time - self.changed_at < ONE_STEP;
        self.changed_at = if joins { time } else { f64::NEG_INFINITY };
        self.future.clear();
        if !is_same_step {
            self.past.push(before);
            if self.past.len() > MAX_STEPS {
                self.past.remove(0);
            }
        }
    }

    /// Returns the state before the present one, which becomes the next.
    fn back(&mut self) -> Option<T> {
        Self::step(&mut self.present, &mut self.past, &mut self.future)
    }

    fn forward(&mut self) -> Option<T> {
        Self::step(&mut self.present, &mut self.future, &mut self.past)
    }

    fn step(present: &mut Option<T>, from: &mut Vec<T>, to: &mut Vec<T>) -> Option<T> {
        let wanted = from.pop()?;
        to.extend(present.replace(wanted.clone()));
        Some(wanted)
    }

    /// Returns all states that are kept.
    fn all(&mut self) -> impl Iterator<Item = &mut T> {
        let past = self.past.iter_mut().chain(&mut self.present);
        past.chain(&mut self.future)
    }
}

/// The history of the viewer.
#[derive(Debug, Clone, Default)]
pub struct History {
    places: Steps<Place>,
    choices: Steps<Choices>,
}

impl History {
    /// Returns whether there is a place to go back to, and one to go forward to.
    pub(crate) fn has_places(&self) -> [bool; 2] {
        [&self.places.past, &self.places.future].map(|steps| !steps.is_empty())
    }
}

impl ViewerState {
    /// Notes what is shown, at a time in seconds.
    pub(crate) fn observe(&mut self, time: f64) {
        let place = Place {
            tab: self.tab,
            image: self.current,
            selected: self.selected,
            query: self.query.clone(),
            compare: self.compare,
        };
        // Hiding boxes while a key is held is no setting.
        let choices = Choices {
            filter: BoxFilter {
                hide_all: false,
                ..self.settings.filter.clone()
            },
            corrections: self.corrections().to_vec(),
        };
        // Each correction is a step of its own.
        let joins = |before: &Choices, now: &Choices| before.corrections == now.corrections;
        self.history.places.observe(place, time, |_, _| true);
        self.history.choices.observe(choices, time, joins);
    }

    /// Goes back to the page and image before, or forward again.
    pub(crate) fn go_back(&mut self, forward: bool) {
        let places = &mut self.history.places;
        let place = if forward {
            places.forward()
        } else {
            places.back()
        };
        let Some(place) = place else { return };
        let knows_network = place.compare != Compare::Network || self.networks[1].is_some();
        if knows_network {
            self.compare = place.compare;
        }
        self.go_to(place.image);
        (self.tab, self.selected, self.query) = (place.tab, place.selected, place.query);
        // The state as it is now, so that it is no new step.
        let now = Place {
            tab: self.tab,
            image: self.current,
            selected: self.selected,
            query: self.query.clone(),
            compare: self.compare,
        };
        self.history.places.present = Some(now);
    }

    /// Takes back the last change of thresholds, of what is drawn or of labels, or makes it again.
    pub(crate) fn undo(&mut self, redo: bool) {
        let choices = &mut self.history.choices;
        let wanted = if redo {
            choices.forward()
        } else {
            choices.back()
        };
        if let Some(wanted) = wanted {
            self.settings.filter = wanted.filter;
            self.set_corrections(&wanted.corrections);
            // The state as it is now, so that it is no new step.
            let corrections = self.corrections().to_vec();
            if let Some(present) = &mut self.history.choices.present {
                present.corrections = corrections;
            }
        }
    }

    /// Notes corrections that another viewer has made or taken back: they are no step of this one.
    pub(super) fn observe_foreign_corrections(&mut self, before: &[Correction]) {
        let now = self.corrections().to_vec();
        for choices in self.history.choices.all() {
            let is_taken_back = |c: &Correction| before.contains(c) && !now.contains(c);
            choices.corrections.retain(|known| !is_taken_back(known));
            let made = now.iter().filter(|c| !before.contains(c));
            choices.corrections.extend(made.cloned());
        }
    }

    /// Forgets the history: places of images that are no longer open.
    pub(crate) fn forget_history(&mut self) {
        self.history = History::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_go_back_and_forward_until_something_else_is_done() {
        let mut steps = Steps::default();
        for (time, state) in [(0.0, 'a'), (2.0, 'b'), (4.0, 'c')] {
            steps.observe(state, time, |_, _| true);
            steps.observe(state, time + 0.1, |_, _| true);
        }
        assert_eq!(steps.back(), Some('b'));
        steps.observe('b', 5.0, |_, _| true);
        assert_eq!(steps.back(), Some('a'));
        assert_eq!(steps.back(), None);
        assert_eq!(steps.forward(), Some('b'));
        steps.observe('d', 8.0, |_, _| true);
        assert_eq!(steps.forward(), None);
        assert_eq!(steps.back(), Some('b'));
    }

    #[test]
    fn changes_without_a_pause_are_one_step() {
        let mut steps = Steps::default();
        steps.observe(0, 0.0, |_, _| true);
        for at in 1..100 {
            steps.observe(at, 3.0 + 0.05 * f64::from(at), |_, _| true);
        }
        assert_eq!(steps.back(), Some(0));
        assert_eq!(steps.forward(), Some(99));
        for at in 0..1000 {
            steps.observe(at, 100.0 + f64::from(at), |_, _| true);
        }
        assert_eq!(steps.past.len(), MAX_STEPS);
    }

    #[test]
    fn a_change_that_joins_no_other_is_a_step_of_its_own() {
        let mut steps = Steps::default();
        // 1 and 2 are dragged, 10 is a correction, 11 is dragged after it.
        for (at, state) in [0, 1, 2, 10, 11].into_iter().enumerate() {
            let joins = |_: &i32, now: &i32| *now != 10;
            steps.observe(state, 3.0 + 0.05 * at as f64, joins);
        }
        assert_eq!(steps.back(), Some(10));
        assert_eq!(steps.back(), Some(2));
        assert_eq!(steps.back(), Some(0));
    }
}
