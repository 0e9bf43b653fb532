//! The errors of a network over all images: groups with counts, and the crops of the chosen group.

mod crops;
mod exports;

use egui::{RichText, ScrollArea, Ui};

use super::image::{run_on_all, thresholds};
use super::{Panel, PanelContext, run_first};
use crate::chrome::open_menu::start_page;
use crate::state::export::Export;
use crate::state::{
    ErrorChoice, ErrorGroup, ErrorKind, PanelId, Request, ShownImages, ViewerState,
};
use crate::style::{MISSED, WRONG, hint, pane_choice, verdict_text};

/// The errors of a network.
pub(crate) struct ErrorsPanel;

impl Panel for ErrorsPanel {
    fn id(&self) -> PanelId {
        PanelId::ERRORS
    }

    fn before_export(&self, state: &ViewerState) -> Vec<Request> {
        run_first(state).into_iter().collect()
    }

    fn exports(&self) -> &'static [Export] {
        exports::EXPORTS
    }

    fn show(&self, ui: &mut Ui, context: &mut PanelContext<'_>) {
        let state = &mut *context.state;
        if let Some((title, line)) = missing(state) {
            start_page(ui, state, title, line);
            return;
        }
        pane_choice(ui, state);
        headline(ui, state);
        let network = state.network_in_focus();
        if state.processed(network) == 0 {
            ui.label("No image has been processed yet.");
            return;
        }
        ui.separator();
        let Some(list) = state.errors.list().cloned() else {
            hint(ui, "listing errors …");
            return;
        };
        if list.items.is_empty() {
            ui.label(if state.finds_boxes() {
                "No box of the processed images is wrong or missed at these thresholds."
            } else {
                "No processed image has a wrong class."
            });
            return;
        }
        egui::Panel::left("error groups")
            .frame(egui::Frame::NONE.inner_margin(4.0))
            .resizable(true)
            .default_size(240.0)
            .min_size(160.0)
            .max_size((ui.available_width() * 0.4).max(160.0))
            .show(ui, |ui| groups(ui, state, &list.groups, list.items.len()));
        egui::CentralPanel::default()
            .frame(egui::Frame::NONE.inner_margin(4.0))
            .show(ui, |ui| crops::show(ui, context, &list));
    }
}

/// Returns title and hint of the page where there can be no errors.
fn missing(state: &ViewerState) -> Option<(&'static str, &'static str)> {
    let collection = state.collection.as_ref().filter(|c| !c.is_empty());
    let Some(collection) = collection else {
        return Some((
            "No dataset is open",
            "Open a dataset with annotations and a detector or a results file.",
        ));
    };
    if let ShownImages::Files(_) = collection.images {
        return Some((
            "No annotations",
            "These images have neither annotated boxes nor classes, so nothing is known to be wrong.",
        ));
    }
    let (knows, title, opens) = if collection.has_boxes() {
        let opens = "Open a detector or a results file to see its errors.";
        (state.finds_boxes(), "No detections", opens)
    } else {
        let is_open = state.is_classifier(state.network_in_focus());
        (
            is_open,
            "No classifier",
            "Open a classifier to see its mistakes.",
        )
    };
    (!knows).then_some((title, opens))
}

/// Draws the thresholds, and the button for the images that have not been processed.
fn headline(ui: &mut Ui, state: &mut ViewerState) {
    ui.horizontal_wrapped(|ui| {
        if state.finds_boxes() {
            thresholds(ui, state, true);
        }
        run_on_all(ui, state);
    });
}

/// Lists the groups, the largest first.
fn groups(ui: &mut Ui, state: &mut ViewerState, groups: &[(ErrorGroup, usize)], all: usize) {
    let chosen = state.errors.choice();
    let mut choice = chosen;
    let mut entry = |ui: &mut Ui, of: ErrorChoice, count: usize| {
        let name = of.name(&state.classes);
        let text = RichText::new(format!("{name}: {count}"));
        let text = match of {
            ErrorChoice::Group(group) => text.color(verdict_text(ui, color(group.kind))),
            _ => text,
        };
        let entry = egui::Button::selectable(chosen == of, text).truncate();
        if ui.add(entry).on_hover_text(name).clicked() {
            choice = of;
        }
    };
    entry(ui, ErrorChoice::All, all);
    if matches!(chosen, ErrorChoice::Cell(_) | ErrorChoice::Found(..)) {
        entry(ui, chosen, state.errors.shown().len());
    }
    ui.separator();
    let height = ui.spacing().interact_size.y;
    ui.spacing_mut().scroll = egui::style::ScrollStyle::solid();
    ScrollArea::vertical()
        .auto_shrink([false, false])
        .show_rows(ui, height, groups.len(), |ui, rows| {
            for (group, count) in groups.get(rows).unwrap_or_default() {
                entry(ui, ErrorChoice::Group(*group), *count);
            }
        });
    if choice != chosen {
        state.errors.choose(choice);
    }
}

/// Returns the color of the boxes of a kind.
fn color(kind: ErrorKind) -> egui::Color32 {
    match kind {
        ErrorKind::Wrong(_) | ErrorKind::WrongClass => WRONG,
        ErrorKind::Missed => MISSED,
    }
}
