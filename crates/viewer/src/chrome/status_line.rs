//! The line that says what is shown: dataset and split, network, source of the boxes, thresholds.

use egui::{RichText, Ui};

use crate::state::{PanelId, Request, ViewerState};
use sedet_data::annotations::layout::Split;

/// The width of a window below which the text is below the buttons, in points.
const NARROW: f32 = 1300.0;

/// Draws the line.
pub fn show(ui: &mut Ui, state: &mut ViewerState) {
    // In a narrow window the text has a line of its own, or the thresholds would be cut.
    let is_narrow = ui.available_width() < NARROW;
    ui.horizontal(|ui| {
        let [back, forward] = state.history.has_places();
        for (label, name, is_possible, is_forward, keys) in [
            ("◀", "Back", back, false, "Alt+←"),
            ("▶", "Forward", forward, true, "Alt+→"),
        ] {
            let button = ui.add_enabled(is_possible, egui::Button::new(label).small());
            button.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Button, is_possible, name));
            if button.on_hover_text(format!("{name} ({keys})")).clicked() {
                state.go_back(is_forward);
            }
        }
        if state.tab == PanelId::IMAGE {
            panels(ui, state);
        }
        splits(ui, state);
        if !is_narrow {
            line(ui, state);
        }
    });
    if is_narrow {
        line(ui, state);
    }
}

/// Draws what is shown.
fn line(ui: &mut Ui, state: &ViewerState) {
    let line = state.shown();
    let text = RichText::new(&line);
    ui.add(egui::Label::new(text).truncate())
        .on_hover_text(line);
}

/// Draws the switches of the panels beside the image.
fn panels(ui: &mut Ui, state: &mut ViewerState) {
    let settings = &mut state.settings;
    for (shown, label) in [
        (&mut settings.shows_gallery, "Gallery"),
        (&mut settings.shows_tables, "Tables"),
    ] {
        let toggle = ui.selectable_label(*shown, label);
        if toggle
            .on_hover_text("show or hide this panel; F11 hides everything but the image")
            .clicked()
        {
            *shown = !*shown;
        }
    }
    ui.separator();
}

/// Draws the splits of the dataset, if it has any.
fn splits(ui: &mut Ui, state: &mut ViewerState) {
    let split = state.collection.as_ref().and_then(|images| images.split);
    let Some(open) = split else { return };
    for split in Split::ALL {
        let choice = ui.selectable_label(split == open, split.to_string());
        if choice
            .on_hover_text("show this split of the dataset")
            .clicked()
            && split != open
        {
            state.requests.push(Request::OpenSplit(split));
        }
    }
    ui.separator();
}
