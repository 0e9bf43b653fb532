//! The bar with the number of notices, progress and the last notice.

use egui::{ProgressBar, RichText, Ui};

use crate::state::{Request, ViewerState};
use crate::style::{WRONG, count, verdict_text};

/// Draws the bar.
pub fn show(ui: &mut Ui, state: &mut ViewerState) {
    ui.horizontal(|ui| {
        let errors = state.notices.iter().filter(|n| n.is_error).count();
        let text = if errors > 0 {
            RichText::new(count(errors, "error")).color(verdict_text(ui, WRONG))
        } else {
            RichText::new(count(state.notices.len(), "notice"))
        };
        if ui.selectable_label(state.show_notices, text).clicked() {
            state.show_notices = !state.show_notices;
        }
        super::corrections::chip(ui, state);
        for progress in &state.progress {
            let share = progress.done as f32 / progress.total.max(1) as f32;
            let text = format!("{} {} of {}", progress.label, progress.done, progress.total);
            ui.add(ProgressBar::new(share).desired_width(220.0).text(text));
        }
        if !state.progress.is_empty() {
            if ui.button("Cancel").clicked() {
                state.requests.push(Request::Cancel);
            }
        } else if let Some(last) = state.notices.last() {
            let text = RichText::new(&last.text).size(11.0);
            // An error is over the content until it is closed.
            if !last.is_error {
                ui.add(egui::Label::new(text.weak()).truncate());
            } else if !state.shows_error() {
                let text = text.color(verdict_text(ui, WRONG));
                ui.add(egui::Label::new(text).truncate());
            }
        }
    });
}
