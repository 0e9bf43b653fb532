//! The keyboard shortcuts of pages that list images with their boxes: which boxes are drawn, thresholds, and which
//! images are listed.

use egui::{Key, Modifiers};

use super::{Input, KeyShortcut};
use crate::state::{BoxFilter, GalleryQuery, Pane, Request};

const NONE: Modifiers = Modifiers::NONE;

pub(super) static SHORTCUTS: &[KeyShortcut] = &[
    KeyShortcut {
        keys: "G",
        action: "annotations on, off",
        bindings: &[(NONE, Key::G, |input| {
            input.toggle(|filter| &mut filter.show_annotations);
        })],
    },
    KeyShortcut {
        keys: "P",
        action: "detections on, off",
        bindings: &[(NONE, Key::P, |input| {
            input.toggle(|filter| &mut filter.show_detections);
        })],
    },
    KeyShortcut {
        keys: "L, S",
        action: "labels, scores on, off",
        bindings: &[
            (NONE, Key::L, |input| {
                input.toggle(|filter| &mut filter.show_labels);
            }),
            (NONE, Key::S, |input| {
                input.toggle(|filter| &mut filter.show_scores);
            }),
        ],
    },
    KeyShortcut {
        keys: "V",
        action: "color by verdict or by class",
        bindings: &[(NONE, Key::V, |input| {
            input.toggle(|filter| &mut filter.color_by_verdict);
        })],
    },
    KeyShortcut {
        keys: "F",
        action: "class filter on, off",
        bindings: &[(NONE, Key::F, |input| {
            input.toggle(|filter| &mut filter.class_filter_off);
        })],
    },
    KeyShortcut {
        keys: "[ ]",
        action: "lower, raise the score threshold",
        bindings: &[
            (NONE, Key::OpenBracket, |input| input.change_score(-STEP)),
            (NONE, Key::CloseBracket, |input| input.change_score(STEP)),
        ],
    },
    KeyShortcut {
        keys: ", .",
        action: "lower, raise the IoU threshold",
        bindings: &[
            (NONE, Key::Comma, |input| input.change_iou(-STEP)),
            (NONE, Key::Period, |input| input.change_iou(STEP)),
        ],
    },
    KeyShortcut {
        keys: "E",
        action: "only images with errors",
        bindings: &[(NONE, Key::E, |input| {
            toggle(&mut input.state.query.errors_only);
        })],
    },
    KeyShortcut {
        keys: "Backspace",
        action: "clear the image filter",
        bindings: &[(NONE, Key::Backspace, |input| {
            let query = &mut input.state.query;
            *query = GalleryQuery {
                sort: query.sort,
                ..GalleryQuery::default()
            };
        })],
    },
    KeyShortcut {
        keys: "D",
        action: "detect in all images, or classify them",
        bindings: &[(NONE, Key::D, |input| {
            let state = &mut *input.state;
            let has_second = state.networks[1].is_some();
            // Without any network, the request reports what is missing.
            if state.networks[0].is_some() || !has_second {
                state.requests.push(Request::DetectAll(Pane::First));
            }
            if has_second {
                state.requests.push(Request::DetectAll(Pane::Second));
            }
        })],
    },
];

/// The step of the score and IoU thresholds.
const STEP: f32 = 0.05;

/// Switches on or off.
pub(super) fn toggle(switch: &mut bool) {
    *switch = !*switch;
}

/// A switch of the boxes.
type Switch = fn(&mut BoxFilter) -> &mut bool;

/// Adds to a threshold and rounds it to a multiple of [`STEP`].
fn stepped(threshold: f32, by: f32) -> f32 {
    ((threshold + by) / STEP).round() * STEP
}

impl Input<'_> {
    /// Toggles a switch of the boxes. Where there are none, the switch has no effect that could be seen.
    fn toggle(&mut self, switch: Switch) {
        if self.state.shows_boxes() {
            toggle(switch(&mut self.state.settings.filter));
        }
    }

    fn change_score(&mut self, by: f32) {
        if !self.state.finds_boxes() {
            return;
        }
        let score = &mut self.state.settings.filter.score;
        *score = stepped(*score, by).clamp(0.0, 1.0);
    }

    fn change_iou(&mut self, by: f32) {
        if !self.state.finds_boxes() {
            return;
        }
        let iou = &mut self.state.settings.filter.iou;
        *iou = stepped(*iou, by).clamp(0.5, 0.95);
    }
}
