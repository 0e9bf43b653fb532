//! Values that several panels use in a frame, recomputed only when their inputs change.

use crate::state::{Compare, CurrentBoxes, Pane, ViewerState};

/// The boxes of both panes and the size of the image's frame.
#[derive(Debug, Default)]
pub(crate) struct FrameCache {
    boxes: [CurrentBoxes; 2],
    key: Option<BoxesKey>,
    /// Width and height of the image's frame in points, as last drawn.
    pub frame: Option<[f32; 2]>,
}

/// The inputs of the boxes.
#[derive(Debug, PartialEq)]
struct BoxesKey {
    /// Image and version of its predictions, for each pane.
    panes: [(usize, u64); 2],
    score: f32,
    iou: f32,
    is_open: bool,
    has_second_pane: bool,
}

impl FrameCache {
    /// Matches the boxes of both panes again if an input has changed.
    pub fn update(&mut self, state: &ViewerState) {
        let panes = [Pane::First, Pane::Second];
        let has_second_pane = state.compare != Compare::Off;
        let key = BoxesKey {
            panes: panes.map(|pane| {
                let network = state.network_of(pane).index();
                (state.image_of(pane), state.predictions[network].version())
            }),
            score: state.filter().score,
            iou: state.filter().iou,
            is_open: state.collection.is_some(),
            has_second_pane,
        };
        if self.key.as_ref() != Some(&key) {
            self.boxes = panes.map(|pane| {
                if pane == Pane::First || has_second_pane {
                    state.boxes(pane)
                } else {
                    CurrentBoxes::default()
                }
            });
            self.key = Some(key);
        }
    }

    /// Returns the boxes of a pane.
    pub fn boxes(&self, pane: Pane) -> &CurrentBoxes {
        &self.boxes[pane.index()]
    }
}
