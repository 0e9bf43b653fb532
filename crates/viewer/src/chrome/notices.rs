//! The list of notices.

use egui::{Color32, RichText, Ui};

use crate::state::ViewerState;
use crate::style::{WRONG, verdict_text};

/// Draws the list, the newest notice first.
pub fn show(ui: &mut Ui, state: &mut ViewerState) {
    ui.horizontal(|ui| {
        ui.heading("Notices");
        if ui.button("Clear").clicked() {
            state.notices.clear();
        }
        if ui.button("Copy all").clicked() {
            let lines: Vec<&str> = state.notices.iter().map(|n| n.text.as_str()).collect();
            ui.ctx().copy_text(lines.join("\n"));
        }
        if ui.button("Close").clicked() {
            state.show_notices = false;
        }
    });
    let row = ui.text_style_height(&egui::TextStyle::Body);
    let count = state.notices.len();
    egui::ScrollArea::vertical()
        .auto_shrink([false, true])
        .show_rows(ui, row, count, |ui, rows| {
            for at in rows {
                let notice = &state.notices[count - 1 - at];
                let color = if notice.is_error {
                    verdict_text(ui, WRONG)
                } else {
                    Color32::PLACEHOLDER
                };
                let text = RichText::new(&notice.text).color(color);
                ui.add(egui::Label::new(text).truncate().selectable(true))
                    .on_hover_text(&notice.text);
            }
        });
}
