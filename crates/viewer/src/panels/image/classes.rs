//! The true class of the image and the most probable classes of a classifier.

use egui::{RichText, Ui};

use crate::state::{Pane, Request, ViewerState};
use crate::style::{CORRECT, WRONG, count, hint, verdict_text};
use sedet_core::model::RankedClass;

/// Draws the section.
pub fn show(ui: &mut Ui, state: &mut ViewerState) {
    let pane = state.focused();
    verdict(ui, state, pane);
    ranked_classes(ui, state, pane);
}

/// The true class, and whether it is the predicted one.
fn verdict(ui: &mut Ui, state: &ViewerState, pane: Pane) {
    let index = state.image_of(pane);
    let label = state.collection.as_ref().and_then(|c| c.label(index));
    let Some(label) = label else { return };
    let truth = state.classes.name(label);
    let line = |ui: &mut Ui, text: RichText| {
        // A long name must not widen the panel.
        let line = ui.add(egui::Label::new(text).truncate());
        line.on_hover_text(truth);
    };
    let classes = state.classes_of(pane);
    let Some((classes, is_right)) = classes.and_then(|c| Some((c, c.is_right()?))) else {
        line(ui, RichText::new(format!("label: {truth}")));
        let network = state.network_of(pane).index();
        let reason = state.classifiers[network].as_ref();
        if let Some(reason) = reason.and_then(|classes| classes.why_not_compared()) {
            hint(
                ui,
                format!("no verdicts, since the classes differ: {reason}"),
            );
        }
        return;
    };
    let (text, color) = if is_right {
        (format!("✔ right: {truth}"), CORRECT)
    } else {
        let predicted = classes.predicted();
        let predicted = predicted.map_or("no class", |class| state.classes.name(class));
        (format!("✖ wrong: {truth} predicted as {predicted}"), WRONG)
    };
    line(ui, RichText::new(text).color(verdict_text(ui, color)));
}

/// A class as the list shows it.
struct Row {
    label: usize,
    probability: f32,
    text: String,
    is_true: bool,
}

fn row_of(class: &RankedClass, name: &str, is_true: bool) -> Row {
    let mark = if is_true { ", true class" } else { "" };
    Row {
        label: class.label,
        probability: class.probability,
        text: format!("{name} {:.1} %{mark}", class.probability * 100.0),
        is_true,
    }
}

/// A bar for each of the most probable classes, and for the true one with its rank where it is not among them.
fn ranked_classes(ui: &mut Ui, state: &mut ViewerState, pane: Pane) {
    let index = state.image_of(pane);
    let inference = state.inference[pane.index()].as_ref();
    let Some(inference) = inference.filter(|inference| inference.image == index) else {
        return;
    };
    let classes = inference.classes.iter();
    let mut rows: Vec<Row> = classes
        .map(|class| {
            let name = state.name_in_dataset(pane, class.label);
            let name = name.unwrap_or(&class.name);
            row_of(class, name, state.is_true_class(pane, class))
        })
        .collect();
    if !rows.is_empty() && !rows.iter().any(|row| row.is_true) {
        rows.extend(state.true_class(pane).map(|truth| Row {
            text: format!(
                "rank {}: {} {:.1} %, true class",
                truth.rank + 1,
                truth.name,
                truth.probability * 100.0
            ),
            label: truth.label,
            probability: truth.probability,
            is_true: true,
        }));
    }
    // The classes of the first pane can be explained: see `ViewerState::score_to_explain`.
    let may_choose = pane == Pane::First;
    let mut chosen = state.explanation.class;
    for row in &rows {
        let own = Some((index, row.label));
        let choice = may_choose.then(|| state.explanation.class == own);
        if bar(ui, row, choice).clicked() {
            chosen = own.filter(|_| choice == Some(false));
        }
    }
    state.explanation.class = chosen;
}

/// Draws a bar whose length is the probability; that of egui is never shorter than its rounded ends. A bar that can
/// be chosen has an outline while it is, and that of the true class begins with a mark.
fn bar(ui: &mut Ui, row: &Row, is_chosen: Option<bool>) -> egui::Response {
    let height = ui.text_style_height(&egui::TextStyle::Body) + 4.0;
    let size = egui::vec2(ui.available_width(), height);
    let sense = match is_chosen {
        Some(_) => egui::Sense::click(),
        None => egui::Sense::hover(),
    };
    let (rect, response) = ui.allocate_exact_size(size, sense);
    response.widget_info(|| match is_chosen {
        Some(is_chosen) => {
            egui::WidgetInfo::selected(egui::Role::Button, true, is_chosen, &row.text)
        }
        None => egui::WidgetInfo::labeled(egui::Role::Label, true, &row.text),
    });
    let painter = ui.painter_at(rect);
    painter.rect_filled(rect, 0.0, ui.visuals().extreme_bg_color);
    let length = rect.width() * row.probability.clamp(0.0, 1.0);
    let filled = egui::Rect::from_min_size(rect.min, egui::vec2(length, height));
    painter.rect_filled(filled, 0.0, ui.visuals().selection.bg_fill);
    if row.is_true {
        let mark = egui::Rect::from_min_size(rect.min, egui::vec2(3.0, height));
        painter.rect_filled(mark, 0.0, CORRECT);
    }
    let ink = ui.visuals().strong_text_color();
    let font = egui::TextStyle::Body.resolve(ui.style());
    let at = rect.left_center() + egui::vec2(6.0, 0.0);
    painter.text(at, egui::Align2::LEFT_CENTER, &row.text, font, ink);
    if is_chosen == Some(true) || response.has_focus() {
        let stroke = egui::Stroke::new(1.0, ink);
        painter.rect_stroke(rect, 0.0, stroke, egui::StrokeKind::Inside);
    }
    response.on_hover_text(&row.text)
}

/// The numbers of right and wrong images over all processed ones.
pub fn counts(ui: &mut Ui, state: &ViewerState) {
    let network = state.network_in_focus();
    let Some(tally) = &state.tallies[network.index()] else {
        return;
    };
    let total = tally.total;
    ui.horizontal_wrapped(|ui| {
        ui.label(format!("{}:", count(total.correct + total.wrong, "image")));
        let [right, wrong] = [CORRECT, WRONG].map(|verdict| verdict_text(ui, verdict));
        ui.colored_label(right, format!("{} right", total.correct));
        ui.colored_label(wrong, format!("{} wrong", total.wrong));
        if let Some(share) = total.precision() {
            ui.strong(format!("top-1 {:.2} %", share * 100.0));
        }
    });
}

/// Draws the button that runs the network in focus on the images that it has not seen.
pub fn run_on_all(ui: &mut Ui, state: &mut ViewerState) {
    let network = state.network_in_focus();
    let is_file = network == Pane::First && state.from_results;
    let is_open = state.networks[network.index()].is_some();
    let all = state.image_count();
    if !is_open || is_file || all < 2 {
        return;
    }
    // It keeps its place: what is below must not move under the pointer.
    let reason = if !state.progress.is_empty() {
        Some("a task is running")
    } else {
        (state.remaining(network) == 0).then_some("all images have been processed")
    };
    let text = if state.is_classifier(network) {
        format!("Classify all {all} images")
    } else {
        format!("Detect in all {all} images")
    };
    let button = ui.add_enabled(reason.is_none(), egui::Button::new(text));
    let button = button.on_disabled_hover_text(reason.unwrap_or_default());
    if button.clicked() {
        state.requests.push(Request::DetectAll(network));
    }
}
