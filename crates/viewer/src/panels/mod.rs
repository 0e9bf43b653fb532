//! The parts of the window, one file each. A panel draws the state and writes the user's wishes into
//! it; what takes time becomes a [`Request`](super::state::Request).

pub mod bottom_bar;
pub mod data;
pub mod gallery;
pub mod gate_statistics;
pub mod gates;
pub mod help;
pub mod image;
pub mod layer;
pub mod model;
pub mod notices;
pub mod objects;
pub mod outlines;
pub mod top_bar;
pub mod training;

use super::state::{Compare, CurrentBoxes, Side, ViewerState};

/// What is computed once for a frame and used by several panels.
#[derive(Debug, Default)]
pub struct FrameInfo {
    boxes: [CurrentBoxes; 2],
    key: Option<BoxesKey>,
    /// Size of the image's frame in points, since the last time that it was drawn.
    pub frame: Option<[f32; 2]>,
}

/// What decides the boxes: of each half the image and the version of its predictions, then score
/// and overlap; whether something is open, and whether there is a second half.
type BoxesKey = ([(usize, u64); 2], f32, f32, bool, bool);

impl FrameInfo {
    /// Match the boxes anew if anything has changed.
    pub fn update(&mut self, state: &ViewerState) {
        let sides = [Side::A, Side::B];
        let half = |side| {
            let by = state.network_of(side).index();
            (state.image_of(side), state.predictions[by].version())
        };
        let filter = state.filter();
        let compares = state.compare != Compare::Off;
        let key = (
            sides.map(half),
            filter.score,
            filter.iou,
            state.collection.is_some(),
            compares,
        );
        if self.key != Some(key) {
            self.boxes = sides.map(|side| match side {
                Side::B if !compares => CurrentBoxes::default(),
                side => state.boxes(side),
            });
            self.key = Some(key);
        }
    }

    /// The boxes of a half.
    pub fn boxes(&self, side: Side) -> &CurrentBoxes {
        &self.boxes[side.index()]
    }

    /// Width and height of the image on show in pixels.
    pub fn image_size(&self, state: &ViewerState) -> Option<[f32; 2]> {
        let (_, image) = state.pixels[0].as_ref()?;
        Some([image.width() as f32, image.height() as f32])
    }
}
