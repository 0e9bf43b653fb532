//! The ways to open something: dialogs of the system, recent files, generated scenes.

use egui::Ui;

use crate::state::{Browse, PanelId, Request, ViewerState, run_name};

/// The number of recent files on an empty page.
const FEW: usize = 4;

/// Draws the entries of the menu beside the path field.
pub fn show(ui: &mut Ui, state: &mut ViewerState) {
    if dialogs(ui, state) {
        ui.close();
    }
    ui.separator();
    if state.settings.recent.is_empty() {
        crate::style::hint(ui, "what you open is listed here");
        return;
    }
    ui.label("Recent");
    for path in state.settings.recent.clone() {
        let entry = ui.button(short(&path)).on_hover_text(&path);
        if entry.clicked() {
            state.requests.push(Request::Open(path));
            ui.close();
        }
    }
    if ui.button("Clear the list").clicked() {
        state.settings.recent.clear();
        ui.close();
    }
}

/// Draws a page without content: what is missing, and the ways to open it.
pub(crate) fn start_page(ui: &mut Ui, state: &mut ViewerState, title: &str, line: &str) {
    ui.vertical_centered(|ui| {
        ui.add_space(ui.available_height() * 0.25);
        ui.heading(title);
        ui.label(line);
        ui.add_space(12.0);
        dialogs(ui, state);
        for path in state.settings.recent.iter().take(FEW) {
            let entry = ui.button(format!("Open {} again", short(path)));
            if entry.on_hover_text(path).clicked() {
                state.requests.push(Request::Open(path.clone()));
            }
        }
        if state.tab == PanelId::IMAGE
            && ui
                .button("Show the shipped detector on generated scenes")
                .clicked()
        {
            state.requests.push(Request::OpenShipped);
        }
    });
}

/// Draws the buttons of the dialogs, and returns whether one was clicked.
fn dialogs(ui: &mut Ui, state: &mut ViewerState) -> bool {
    let mut is_clicked = false;
    for (what, label, line) in [
        (
            Browse::Files,
            "Open files …",
            "images, a checkpoint, annotations, results or gate statistics",
        ),
        (
            Browse::Directory,
            "Open a directory …",
            "a training run, a dataset or a directory of images",
        ),
    ] {
        if ui.button(label).on_hover_text(line).clicked() {
            state.requests.push(Request::Browse(what));
            is_clicked = true;
        }
    }
    is_clicked
}

/// Returns the last two parts of a path.
fn short(path: &str) -> String {
    let path = std::path::Path::new(path);
    let name = run_name(path);
    match path.parent().and_then(|parent| parent.file_name()) {
        Some(parent) => format!("{}/{name}", parent.to_string_lossy()),
        None => name,
    }
}
