//! Colors and small pieces that panels share.

use egui::{Color32, RichText, Ui};

use super::state::{BoxRef, CurrentBoxes, ViewerState};
use sedet_core::render::palette::{Rgb, class_color, on_white};
use sedet_data::eval::matching::Verdict;

/// Right, wrong and missed by Okabe and Ito's palette, which the color-blind can tell apart; words
/// and line styles say the same.
pub const CORRECT: Color32 = Color32::from_rgb(0, 158, 115);
/// See [`CORRECT`].
pub const WRONG: Color32 = Color32::from_rgb(213, 94, 0);
/// See [`CORRECT`]; its sky blue, which stands out on dark images.
pub const MISSED: Color32 = Color32::from_rgb(86, 180, 233);
/// Annotations while nothing is known of detections, and crowds.
pub const TRUTH: Color32 = Color32::from_rgb(240, 228, 66);
/// The box that is pointed at.
pub const POINTED: Color32 = Color32::WHITE;

/// A color of the palette for the screen.
pub fn color([r, g, b]: Rgb) -> Color32 {
    Color32::from_rgb(r, g, b)
}

/// The color of a class as a line or text on the window's background.
pub fn class_on(ui: &Ui, class: usize) -> Color32 {
    match ui.visuals().dark_mode {
        true => color(class_color(class)),
        false => color(on_white(class_color(class))),
    }
}

/// The color of a box.
pub fn box_color(state: &ViewerState, boxes: &CurrentBoxes, of: BoxRef) -> Color32 {
    let class = boxes.class_of(of);
    if !state.filter().color_by_verdict || boxes.matches.is_none() {
        return match of {
            BoxRef::Truth(_) if state.filter().color_by_verdict => TRUTH,
            _ => color(class_color(class.unwrap_or_default())),
        };
    }
    match of {
        BoxRef::Found(at) => match boxes.verdict(at) {
            Some(Verdict::Correct { .. }) => CORRECT,
            Some(Verdict::Wrong { .. }) => WRONG,
            _ => TRUTH,
        },
        BoxRef::Truth(at) if boxes.is_missed(at) => MISSED,
        BoxRef::Truth(at) if boxes.truth[at].is_crowd => TRUTH,
        BoxRef::Truth(_) => CORRECT,
    }
}

/// What stands at a box: class, score, and what is wrong with it.
pub fn box_text(state: &ViewerState, boxes: &CurrentBoxes, of: BoxRef) -> String {
    let filter = state.filter();
    let mut words: Vec<String> = Vec::new();
    let class = boxes.class_of(of);
    if filter.show_labels {
        words.extend(class.map(|class| state.classes.name(class).to_owned()));
    }
    match of {
        BoxRef::Found(at) => {
            if let (true, Some(found)) = (
                filter.show_scores,
                boxes.found.as_ref().and_then(|f| f.get(at)),
            ) {
                words.push(format!("{:.2}", found.score));
            }
            if let (true, Some(Verdict::Wrong { error, .. })) =
                (filter.show_labels, boxes.verdict(at))
            {
                words.push(error.short_name().to_owned());
            }
        }
        BoxRef::Truth(at) => {
            if filter.show_labels && boxes.is_missed(at) {
                words.push("missed".to_owned());
            } else if filter.show_labels && boxes.truth[at].is_crowd {
                words.push("crowd".to_owned());
            }
        }
    }
    words.join(" ")
}

/// Gray, smaller text for what explains.
pub fn hint(ui: &mut Ui, text: impl Into<String>) {
    ui.label(RichText::new(text).weak().size(11.0));
}

/// A page that has nothing to show says how it gets something.
pub fn empty_page(ui: &mut Ui, title: &str, hint: &str) {
    ui.vertical_centered(|ui| {
        ui.add_space(ui.available_height() * 0.3);
        ui.heading(title);
        ui.label(hint);
    });
}

/// `0.873`, or a dash where there is no number.
pub fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}"))
}

/// What a screen reader says of a field for a number.
pub fn named_number(name: &str) -> egui::WidgetInfo {
    egui::WidgetInfo::labeled(egui::Role::SpinButton, true, name)
}

/// What a screen reader says of a field for text.
pub fn named_text(name: &str) -> egui::WidgetInfo {
    egui::WidgetInfo::labeled(egui::Role::TextInput, true, name)
}
