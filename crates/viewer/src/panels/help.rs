//! The sheet of keys.

use egui::{Context, Grid, RichText, Window};

use crate::keys::SHEET;
use crate::state::ViewerState;

/// Draw the sheet if it is open.
pub fn show(context: &Context, state: &mut ViewerState) {
    let mut open = state.show_help;
    Window::new("Keys")
        .open(&mut open)
        .resizable(false)
        .collapsible(false)
        .anchor(egui::Align2::CENTER_CENTER, [0.0, 0.0])
        .show(context, |ui| {
            Grid::new("keys").striped(true).show(ui, |ui| {
                for (keys, meaning) in SHEET {
                    ui.label(RichText::new(keys).strong());
                    ui.label(meaning);
                    ui.end_row();
                }
            });
        });
    state.show_help = open;
}
