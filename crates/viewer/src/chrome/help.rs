//! The list of keyboard shortcuts.

use egui::{Context, Grid, RichText, ScrollArea, Window};

use crate::shortcuts::help;
use crate::state::ViewerState;

/// Shows the keyboard shortcuts if they are open.
pub fn show(context: &Context, state: &mut ViewerState) {
    Window::new("Keyboard shortcuts")
        .open(&mut state.show_help)
        .resizable(false)
        .collapsible(false)
        .anchor(egui::Align2::CENTER_CENTER, [0.0, 0.0])
        .show(context, |ui| {
            ScrollArea::vertical().show(ui, |ui| {
                for (group, lines) in help() {
                    ui.strong(&group);
                    Grid::new(group).striped(true).show(ui, |ui| {
                        for (keys, action) in lines {
                            ui.label(RichText::new(keys).strong());
                            ui.label(action);
                            ui.end_row();
                        }
                    });
                }
            });
        });
}
