//! Many images at once, with their boxes drawn on them.

mod exports;
mod shortcuts;
mod tiles;

use egui::{Frame, Slider, Ui};

use super::image::{run_on_all, thresholds};
use super::{KeyShortcut, Panel, PanelContext, image_list, legend, list_shortcuts, run_first};
use crate::chrome::open_menu::start_page;
use crate::state::export::Export;
use crate::state::{GridView, PanelId, Request, ViewerState};
use crate::style::{named_field, pane_choice};

static SHORTCUTS: &[&[KeyShortcut]] = &[shortcuts::SHORTCUTS, list_shortcuts::SHORTCUTS];

/// Many images at once.
pub(crate) struct GridPanel;

impl Panel for GridPanel {
    fn id(&self) -> PanelId {
        PanelId::GRID
    }

    fn before_export(&self, state: &ViewerState) -> Vec<Request> {
        run_first(state).into_iter().collect()
    }

    fn exports(&self) -> &'static [Export] {
        exports::EXPORTS
    }

    fn shortcuts(&self) -> &'static [&'static [KeyShortcut]] {
        SHORTCUTS
    }

    fn show(&self, ui: &mut Ui, context: &mut PanelContext<'_>) {
        let state = &mut *context.state;
        if state.image_count() == 0 {
            let line = "Open images, a dataset or a detector to see many images at once.";
            start_page(ui, state, "No images are open", line);
            return;
        }
        egui::Panel::left("list of the grid")
            .frame(Frame::NONE.inner_margin(4.0))
            .resizable(true)
            .default_size(220.0)
            .min_size(160.0)
            .max_size((ui.available_width() * 0.33).max(160.0))
            .show(ui, |ui| {
                image_list::controls(ui, state);
                ui.separator();
                settings(ui, state);
            });
        egui::CentralPanel::default()
            .frame(Frame::NONE.inner_margin(4.0))
            .show(ui, |ui| {
                legend::show(ui, context.state, context.state.grid.has_crowds);
                tiles::show(ui, context);
            });
    }
}

/// Draws the size of the images, and which boxes are drawn.
fn settings(ui: &mut Ui, state: &mut ViewerState) {
    pane_choice(ui, state);
    let size = Slider::new(&mut state.settings.grid_side, GridView::SIDES).show_value(false);
    named_field(ui, "image size", |ui| ui.add(size));
    let (finds_boxes, has_verdicts) = (state.finds_boxes(), state.has_verdicts_of_boxes());
    if finds_boxes {
        thresholds(ui, state, has_verdicts);
    }
    if state.shows_boxes() {
        let has_annotations = state.collection.as_ref().is_some_and(|c| c.has_boxes());
        let filter = &mut state.settings.filter;
        ui.horizontal_wrapped(|ui| {
            if has_annotations {
                ui.checkbox(&mut filter.show_annotations, "annotations");
            }
            if finds_boxes {
                ui.checkbox(&mut filter.show_detections, "detections");
            }
            ui.checkbox(&mut filter.show_labels, "labels");
            if has_verdicts {
                ui.checkbox(&mut filter.color_by_verdict, "color by verdict");
            }
        });
    }
    run_on_all(ui, state);
}
