//! The bar with the number of notices, progress and the last notice.

use egui::{Color32, ProgressBar, RichText, TextStyle, Ui};

use crate::state::{Request, ViewerState};
use crate::style::{WRONG, count, verdict_text};

/// The least width of a progress bar, in points.
const LEAST_BAR: f32 = 220.0;
/// The margin of its text, in points.
const MARGIN: f32 = 20.0;

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
            let font = TextStyle::Button.resolve(ui.style());
            let galley = ui
                .painter()
                .layout_no_wrap(text.clone(), font, Color32::PLACEHOLDER);
            // The bar is as wide as its text, for which it leaves no room by itself.
            let width = (galley.size().x + MARGIN).max(LEAST_BAR);
            ui.add(ProgressBar::new(share).desired_width(width).text(text));
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
