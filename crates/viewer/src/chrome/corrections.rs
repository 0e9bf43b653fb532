//! The list of corrected labels.

use egui::{Align2, Context, RichText, ScrollArea, Ui, Window};

use crate::panels::corrections::EXPORT;
use crate::state::{Request, ViewerState};
use crate::style::{count, hint};

/// Draws the number of corrections, which opens the list.
pub fn chip(ui: &mut Ui, state: &mut ViewerState) {
    let corrections = state.corrections().len();
    if corrections == 0 {
        state.show_corrections = false;
        return;
    }
    let text = count(corrections, "correction");
    if ui.selectable_label(state.show_corrections, text).clicked() {
        state.show_corrections = !state.show_corrections;
    }
}

/// Shows the list if it is open.
pub fn show(context: &Context, state: &mut ViewerState) {
    let mut is_open = state.show_corrections;
    Window::new("Corrected labels")
        .open(&mut is_open)
        .collapsible(false)
        // Over the content: the controls are at its edges.
        .pivot(Align2::CENTER_CENTER)
        .default_pos(context.content_rect().center())
        .default_width(420.0)
        .show(context, |ui| list(ui, state));
    state.show_corrections &= is_open;
}

fn list(ui: &mut Ui, state: &mut ViewerState) {
    hint(
        ui,
        "kept until they are taken back; the dataset itself is not changed",
    );
    let export = ui.button("Export corrected annotations");
    let export = export.on_hover_text("a COCO JSON file in the directory of the Export menu");
    if export.clicked() {
        state.requests.push(Request::Export(&EXPORT));
    }
    ui.separator();
    let corrections = state.corrections().to_vec();
    let (mut opened, mut removed) = (None, None);
    let height = ui.spacing().interact_size.y;
    ScrollArea::vertical()
        .max_height(360.0)
        .auto_shrink([false, true])
        .show_rows(ui, height, corrections.len(), |ui, rows| {
            for at in rows {
                let Some(correction) = corrections.get(at) else {
                    continue;
                };
                let text = state.correction_text(correction);
                ui.horizontal(|ui| {
                    for (button, of) in [("go to", &mut opened), ("take back", &mut removed)] {
                        let response = ui.button(button);
                        response.widget_info(|| {
                            let label = format!("{button} correction {}: {text}", at + 1);
                            egui::WidgetInfo::labeled(egui::Role::Button, true, label)
                        });
                        if response.clicked() {
                            *of = Some(at);
                        }
                    }
                    ui.add(egui::Label::new(RichText::new(&text)).truncate())
                        .on_hover_text(&text);
                });
            }
        });
    if let Some(at) = opened {
        state.open_correction(at);
    }
    if let Some(at) = removed {
        state.take_back(at);
    }
}
