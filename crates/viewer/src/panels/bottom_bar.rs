//! What is under way, what was said last, and the image's name.

use egui::{ProgressBar, RichText, Ui};

use crate::state::{Request, ViewerState};
use crate::style::WRONG;

/// Draw the bar.
pub fn show(ui: &mut Ui, state: &mut ViewerState) {
    ui.horizontal(|ui| {
        let errors = state.notices.iter().filter(|n| n.is_error).count();
        let label = match errors {
            0 => format!("{} notices", state.notices.len()),
            1 => "1 error".to_owned(),
            many => format!("{many} errors"),
        };
        let mut text = RichText::new(label);
        if errors > 0 {
            text = text.color(WRONG);
        }
        if ui.selectable_label(state.show_notices, text).clicked() {
            state.show_notices = !state.show_notices;
        }
        for progress in &state.progress {
            let share = progress.done as f32 / progress.total.max(1) as f32;
            let text = format!("{} {} of {}", progress.label, progress.done, progress.total);
            ui.add(ProgressBar::new(share).desired_width(220.0).text(text));
        }
        if !state.progress.is_empty() && ui.button("Stop").clicked() {
            state.requests.push(Request::Cancel);
        }
        if let (Some(last), true) = (state.notices.last(), state.progress.is_empty()) {
            let text = RichText::new(&last.text).size(11.0);
            let text = match last.is_error {
                true => text.color(WRONG),
                false => text.weak(),
            };
            ui.add(egui::Label::new(text).truncate());
        }
    });
}
