//! The panels of the viewer, one file or directory each, and their list.

mod axes;
mod box_labels;
mod cells;
mod comparison;
pub(crate) mod corrections;
mod data;
mod errors;
mod frame_cache;
mod gate_difference;
mod gate_statistics;
mod grid;
mod heat_map;
mod image;
mod image_list;
mod legend;
mod line_chart;
mod list_shortcuts;
mod model;
mod shortcut;
mod training;

use egui::{Color32, Frame, Style, Ui};

use super::state::{Crop, Pane, PanelId, Request, ViewerState};
use super::textures::Textures;
use crate::state::export::Export;

pub(crate) use frame_cache::FrameCache;
pub use shortcut::Input;
pub(crate) use shortcut::KeyShortcut;

/// A panel of the viewer, selected by a tab.
///
/// A panel draws the state and changes it. Whatever takes longer than a frame becomes a
/// [`Request`](super::state::Request) to the worker threads.
pub(crate) trait Panel: Sync {
    /// Returns the id, whose name is the label of the tab.
    fn id(&self) -> PanelId;

    /// Draws the panel.
    fn show(&self, ui: &mut Ui, context: &mut PanelContext<'_>);

    /// Returns the entries of the export menu.
    fn exports(&self) -> &'static [Export] {
        &[]
    }

    /// Returns what is requested, in this order, before the command line exports the panel.
    fn before_export(&self, _state: &ViewerState) -> Vec<Request> {
        Vec::new()
    }

    /// Returns the keyboard shortcuts, which the help lists. Panels can share a list.
    fn shortcuts(&self) -> &'static [&'static [KeyShortcut]] {
        &[]
    }

    /// Updates the state before each frame, after the keyboard shortcuts. `is_typing`: whether a text
    /// field has the focus.
    fn update(&self, _input: &mut Input<'_>, _is_typing: bool) {}

    /// Returns the frame around the panel.
    fn frame(&self, style: &Style) -> Frame {
        Frame::central_panel(style).fill(Color32::TRANSPARENT)
    }
}

/// Returns the request to run the network on all images, unless the results are those of a file.
fn run_first(state: &ViewerState) -> Option<Request> {
    let runs = state.networks[0].is_some() && !state.from_results;
    runs.then_some(Request::DetectAll(Pane::First))
}

/// All panels, in the order of their tabs and function keys.
pub(crate) static PANELS: &[&dyn Panel] = &[
    &image::ImagePanel,
    &gate_statistics::GateStatisticsPanel,
    &data::DataPanel,
    &training::TrainingPanel,
    &model::ModelPanel,
    &errors::ErrorsPanel,
    &grid::GridPanel,
];

/// Returns a panel, or the first one if none has this id.
pub fn by_id(id: PanelId) -> &'static dyn Panel {
    let panel = PANELS.iter().copied().find(|panel| panel.id() == id);
    panel.unwrap_or(PANELS[0])
}

/// The objects that a panel draws with.
pub(crate) struct PanelContext<'a> {
    /// The state of the viewer.
    pub state: &'a mut ViewerState,
    /// The boxes of the frame.
    pub cache: &'a mut FrameCache,
    /// The images on the GPU.
    pub textures: &'a mut Textures,
    /// Receives the images whose thumbnails are missing.
    pub missing_thumbnails: &'a mut Vec<usize>,
    /// Receives the crops that are missing.
    pub missing_crops: &'a mut Vec<Crop>,
    /// Receives all crops that the panel shows, missing or not.
    pub crops_in_sight: &'a mut Vec<Crop>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_panel_and_export_has_a_name_of_its_own() {
        let mut names: Vec<&str> = PANELS.iter().map(|panel| panel.id().0).collect();
        let exports = PANELS.iter().flat_map(|panel| panel.exports());
        names.extend(exports.map(|export| export.name));
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
