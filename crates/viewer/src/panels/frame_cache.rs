//! Values that several panels use in a frame, recomputed only when their inputs change.

use std::collections::HashMap;

use crate::state::{Compare, CurrentBoxes, Pane, ViewerState};

/// The number of images of the grid whose boxes are kept: more than are in sight.
const MAX_IMAGES: usize = 4096;

/// The boxes of both panes and the size of the image's frame.
#[derive(Debug, Default)]
pub(crate) struct FrameCache {
    boxes: [CurrentBoxes; 2],
    key: Option<BoxesKey>,
    /// The boxes of images of the grid, and their inputs.
    images: HashMap<usize, CurrentBoxes>,
    images_key: Option<ImagesKey>,
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

/// The inputs of the boxes of all images.
#[derive(Debug, PartialEq)]
struct ImagesKey {
    /// The version of the predictions, which is another one for each dataset.
    version: u64,
    score: f32,
    iou: f32,
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

    /// Returns the boxes of an image, with the detections of a network.
    pub fn boxes_of(&mut self, state: &ViewerState, image: usize, network: Pane) -> &CurrentBoxes {
        let key = ImagesKey {
            version: state.predictions[network.index()].version(),
            score: state.filter().score,
            iou: state.filter().iou,
        };
        if self.images_key.as_ref() != Some(&key) || self.images.len() > MAX_IMAGES {
            self.images.clear();
            self.images_key = Some(key);
        }
        let boxes = self.images.entry(image);
        boxes.or_insert_with(|| state.boxes_of(image, network))
    }
}
