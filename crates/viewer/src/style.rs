//! Colors, text and small widgets that panels share.

use egui::{Color32, Rect, RichText, Ui, pos2};

use super::state::{BoxRef, CurrentBoxes, ViewerState};
use sedet_core::render::label_text;
use sedet_core::render::palette::{Rgb, class_color, on_white};
use sedet_data::eval::matching::Verdict;

/// The colors of verdicts are from the palette of Okabe and Ito, which color-blind users can tell apart;
/// words and line styles carry the same information.
pub(crate) const CORRECT: Color32 = Color32::from_rgb(0, 158, 115);
/// See [`CORRECT`].
pub(crate) const WRONG: Color32 = Color32::from_rgb(213, 94, 0);
/// See [`CORRECT`]; the sky blue, which is visible on dark images.
pub(crate) const MISSED: Color32 = Color32::from_rgb(86, 180, 233);
/// Annotations before inference, and crowd regions.
pub(crate) const ANNOTATION: Color32 = Color32::from_rgb(240, 228, 66);
/// Hovered and selected boxes.
pub(crate) const HIGHLIGHT: Color32 = Color32::WHITE;

/// The texture coordinates of a whole texture.
pub(crate) const WHOLE_TEXTURE: Rect = Rect {
    min: pos2(0.0, 0.0),
    max: pos2(1.0, 1.0),
};

/// Converts a color of the palette.
pub fn color([r, g, b]: Rgb) -> Color32 {
    Color32::from_rgb(r, g, b)
}

/// Returns the color of a class for lines and text on the background of the window.
pub(crate) fn class_on(ui: &Ui, class: usize) -> Color32 {
    if ui.visuals().dark_mode {
        color(class_color(class))
    } else {
        color(on_white(class_color(class)))
    }
}

/// Returns the color of a box.
pub(crate) fn box_color(state: &ViewerState, boxes: &CurrentBoxes, of: BoxRef) -> Color32 {
    let class = boxes.class_of(of);
    if !state.filter().color_by_verdict || boxes.matches.is_none() {
        return match of {
            BoxRef::GroundTruth(_) if state.filter().color_by_verdict => ANNOTATION,
            _ => color(class_color(class.unwrap_or_default())),
        };
    }
    match of {
        BoxRef::Detection(at) => match boxes.verdict(at) {
            Some(Verdict::Correct { .. }) => CORRECT,
            Some(Verdict::Wrong { .. }) => WRONG,
            _ => ANNOTATION,
        },
        BoxRef::GroundTruth(at) if boxes.is_missed(at) => MISSED,
        BoxRef::GroundTruth(at) if boxes.is_crowd(at) => ANNOTATION,
        BoxRef::GroundTruth(_) => CORRECT,
    }
}

/// Returns the label of a box: class, score and error.
pub(crate) fn box_text(state: &ViewerState, boxes: &CurrentBoxes, of: BoxRef) -> String {
    let filter = state.filter();
    let class = boxes.class_of(of).filter(|_| filter.show_labels);
    let score = boxes.score_of(of).filter(|_| filter.show_scores);
    let name = class.map_or("", |class| state.classes.name(class));
    let label = label_text(name, score);
    let error = match of {
        BoxRef::Detection(at) => match boxes.verdict(at) {
            Some(Verdict::Wrong { error, .. }) => error.short_name(),
            _ => "",
        },
        BoxRef::GroundTruth(at) if boxes.is_missed(at) => "missed",
        BoxRef::GroundTruth(at) if boxes.is_crowd(at) => "crowd",
        BoxRef::GroundTruth(_) => "",
    };
    if filter.show_labels && !error.is_empty() {
        format!("{label} {error}").trim_start().to_owned()
    } else {
        label
    }
}

pub use sedet_data::text::count;

/// Draws an explanation in small, gray text.
pub fn hint(ui: &mut Ui, text: impl Into<String>) {
    ui.label(RichText::new(text).weak().size(11.0));
}

/// Draws an empty panel with a line on how to fill it.
pub(crate) fn empty_page(ui: &mut Ui, title: &str, hint: &str) {
    ui.vertical_centered(|ui| {
        ui.add_space(ui.available_height() * 0.3);
        ui.heading(title);
        ui.label(hint);
    });
}

/// Formats a number such as `0.873`, or a dash for `None`.
pub fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}"))
}

/// Returns the description of a number field for screen readers.
pub(crate) fn named_number(name: &str) -> egui::WidgetInfo {
    egui::WidgetInfo::labeled(egui::Role::SpinButton, true, name)
}

/// Returns the description of a text field for screen readers.
pub(crate) fn named_text(name: &str) -> egui::WidgetInfo {
    egui::WidgetInfo::labeled(egui::Role::TextInput, true, name)
}
