//! The boxes of the image as a table, what counts, and which classes are shown.

use egui::{RichText, ScrollArea, Slider, Ui};
use egui_extras::{Column, TableBuilder};

use super::FrameInfo;
use crate::state::{BoxRef, CurrentBoxes, Request, Side, ViewerState};
use crate::style::{CORRECT, MISSED, WRONG, box_color, class_on, hint, number};
use sedet_data::eval::matching::{MatchCounts, Verdict};

/// Draw the panel.
pub fn show(ui: &mut Ui, state: &mut ViewerState, info: &FrameInfo) {
    let boxes = info.boxes(Side::A);
    classes_of_image(ui, state);
    ui.add(
        Slider::new(&mut state.settings.filter.score, 0.0..=1.0)
            .custom_formatter(|score, _| short_score(score))
            .text("score"),
    )
    .on_hover_text("detections below this score are left out everywhere");
    if state.collection.as_ref().is_some_and(|c| c.has_truth()) {
        ui.add(
            Slider::new(&mut state.settings.filter.iou, 0.5..=0.95)
                .step_by(0.05)
                .fixed_decimals(2)
                .text("IoU"),
        )
        .on_hover_text("overlap from which a detection counts as found");
    }
    counts(ui, state, boxes);
    ui.horizontal_wrapped(|ui| {
        let filter = &mut state.settings.filter;
        ui.checkbox(&mut filter.show_truth, "annotations");
        ui.checkbox(&mut filter.show_found, "detections");
        ui.checkbox(&mut filter.show_labels, "labels");
        ui.checkbox(&mut filter.show_scores, "scores");
        ui.checkbox(&mut filter.color_by_verdict, "color by verdict");
    });
    class_filter(ui, state);
    table(ui, state, boxes);
}

/// With two digits where they are enough. The slider's own `fixed_decimals` would round the value.
fn short_score(score: f64) -> String {
    let text = format!("{score:.3}");
    text.strip_suffix('0').unwrap_or(&text).to_owned()
}

/// What a classifier says, and the class that the image has.
fn classes_of_image(ui: &mut Ui, state: &ViewerState) {
    let Some(collection) = &state.collection else {
        return;
    };
    if let Some(label) = collection.label(state.current) {
        ui.label(format!("class: {}", state.classes.name(label)));
    }
    for looked in state.looked[0].iter().filter(|l| l.image == state.current) {
        for class in &looked.classes {
            let text = format!("{} {:.1} %", class.name, class.probability * 100.0);
            ui.add(egui::ProgressBar::new(class.probability).text(text));
        }
    }
}

fn counts(ui: &mut Ui, state: &mut ViewerState, boxes: &CurrentBoxes) {
    let line = |ui: &mut Ui, name: &str, counts: &MatchCounts| {
        ui.horizontal_wrapped(|ui| {
            ui.label(name);
            ui.colored_label(CORRECT, format!("{} correct", counts.correct));
            ui.colored_label(WRONG, format!("{} wrong", counts.wrong));
            ui.colored_label(MISSED, format!("{} missed", counts.missed));
        });
        let [p, r, f1] = [counts.precision(), counts.recall(), counts.f1()].map(number);
        hint(ui, format!("precision {p}  recall {r}  F1 {f1}"));
    };
    if let Some(matches) = &boxes.matches {
        line(ui, "here:", &matches.counts(&boxes.truth));
    } else if boxes.found.is_none() && state.networks[0].is_some() {
        hint(ui, "the network is looking …");
    }
    let known = state.predictions[0].known();
    if let Some(tally) = &state.tallies[0] {
        let name = match known {
            1 => "1 image:".to_owned(),
            known => format!("{known} images:"),
        };
        line(ui, &name, &tally.total);
    }
    let all = state.image_count();
    let can_detect = state.networks[0].as_ref().is_some_and(|n| n.is_detector);
    if can_detect && !state.from_results && known < all && state.progress.is_empty() && all > 1 {
        let text = format!("Detect in all {all} images");
        if ui.button(text).clicked() {
            state.requests.push(Request::DetectAll(Side::A));
        }
    }
}

fn class_filter(ui: &mut Ui, state: &mut ViewerState) {
    if state.classes.is_empty() {
        return;
    }
    let hidden = state.filter().hidden_classes.len();
    let title = match hidden {
        0 => "Classes".to_owned(),
        hidden => format!("Classes ({hidden} hidden)"),
    };
    egui::CollapsingHeader::new(title)
        .id_salt("classes")
        .show(ui, |ui| {
            ui.horizontal(|ui| {
                let filter = &mut state.settings.filter;
                let mut on = !filter.class_filter_off;
                ui.checkbox(&mut on, "filter on");
                filter.class_filter_off = !on;
                if ui.button("All").clicked() {
                    filter.hidden_classes.clear();
                }
                if ui.button("None").clicked() {
                    filter.hidden_classes = (0..state.classes.len()).collect();
                }
            });
            let height = ui.spacing().interact_size.y;
            let count = state.classes.len();
            ScrollArea::vertical()
                .max_height(180.0)
                .auto_shrink([false, true])
                .show_rows(ui, height, count, |ui, range| {
                    for class in range {
                        ui.horizontal(|ui| {
                            let color = class_on(ui, class);
                            let text = RichText::new(state.classes.name(class)).color(color);
                            let hidden = &mut state.settings.filter.hidden_classes;
                            let mut shown = !hidden.contains(&class);
                            if ui.checkbox(&mut shown, text).changed() {
                                match shown {
                                    true => hidden.remove(&class),
                                    false => hidden.insert(class),
                                };
                            }
                            let only = ui.small_button("only");
                            only.widget_info(|| {
                                let label = format!("only {}", state.classes.name(class));
                                egui::WidgetInfo::labeled(egui::Role::Button, true, label)
                            });
                            if only.clicked() {
                                state.settings.filter.solo(class, count);
                            }
                        });
                    }
                });
        });
}

/// One row for each shown box.
fn table(ui: &mut Ui, state: &mut ViewerState, boxes: &CurrentBoxes) {
    let shown = state.shown_boxes(boxes);
    if shown.is_empty() {
        return;
    }
    let height = ui.text_style_height(&egui::TextStyle::Body) + 4.0;
    let most = (ui.available_height() * 0.5).max(120.0);
    let mut hovered = None;
    TableBuilder::new(ui)
        .id_salt("boxes")
        .striped(true)
        .cell_layout(egui::Layout::left_to_right(egui::Align::Center))
        .sense(egui::Sense::hover())
        .max_scroll_height(most)
        .min_scrolled_height(100.0)
        .column(Column::remainder().at_least(90.0).clip(true))
        .column(Column::exact(44.0))
        .column(Column::exact(78.0))
        .column(Column::exact(44.0))
        .header(height, |mut header| {
            for title in ["box", "score", "verdict", "IoU"] {
                header.col(|ui| {
                    ui.strong(title);
                });
            }
        })
        .body(|body| {
            body.rows(height, shown.len(), |mut row| {
                let of = shown[row.index()];
                row.set_selected(state.selected == Some(of));
                row.set_hovered(state.hovered == Some(of));
                cells(&mut row, state, boxes, of);
                if row.response().hovered() {
                    hovered = Some(of);
                }
            });
        });
    if hovered.is_some() {
        state.pointing = hovered;
    }
    if let Some(selected) = state.selected {
        explain(ui, state, boxes, selected);
    }
}

fn cells(
    row: &mut egui_extras::TableRow,
    state: &mut ViewerState,
    boxes: &CurrentBoxes,
    of: BoxRef,
) {
    let (class, score, verdict) = match of {
        BoxRef::Found(at) => {
            let found = boxes.found.as_ref().and_then(|f| f.get(at));
            let verdict = boxes.verdict(at).map_or("", |verdict| verdict.name());
            (found.map(|f| f.class), found.map(|f| f.score), verdict)
        }
        BoxRef::Truth(at) => {
            let verdict = match (boxes.matches.is_some(), boxes.is_missed(at)) {
                (false, _) => "annotation",
                (true, true) => "missed",
                (true, false) if boxes.truth[at].is_crowd => "crowd",
                (true, false) => "found",
            };
            (boxes.truth.get(at).map(|t| t.class), None, verdict)
        }
    };
    let name = class
        .map_or("?", |class| state.classes.name(class))
        .to_owned();
    let color = box_color(state, boxes, of);
    row.col(|ui| {
        ui.style_mut().wrap_mode = Some(egui::TextWrapMode::Truncate);
        let (rect, _) = ui.allocate_exact_size(egui::vec2(8.0, 8.0), egui::Sense::hover());
        ui.painter().rect_filled(rect, 1.0, color);
        let is_selected = state.selected == Some(of);
        let response = ui.selectable_label(is_selected, &name);
        response.widget_info(|| {
            let kind = match of {
                BoxRef::Found(at) => format!("detection {}: {name}, {verdict}", at + 1),
                BoxRef::Truth(at) => format!("annotation {}: {name}, {verdict}", at + 1),
            };
            egui::WidgetInfo::selected(egui::Role::Button, true, is_selected, kind)
        });
        if response.hovered() {
            state.pointing = Some(of);
        }
        if response.clicked() {
            state.selected = match is_selected {
                true => None,
                false => Some(of),
            };
        }
    });
    row.col(|ui| {
        if let Some(score) = score {
            ui.label(format!("{score:.3}"));
        }
    });
    row.col(|ui| {
        ui.label(verdict);
    });
    row.col(|ui| {
        if let Some((_, iou)) = boxes.partner(of) {
            ui.label(format!("{iou:.2}"));
        }
    });
}

/// Why the selected box is right or wrong, in a sentence.
fn explain(ui: &mut Ui, state: &ViewerState, boxes: &CurrentBoxes, of: BoxRef) {
    let partner = boxes.partner(of);
    let name = |of: BoxRef| {
        boxes
            .class_of(of)
            .map_or("?", |class| state.classes.name(class))
            .to_owned()
    };
    let sentence = match of {
        BoxRef::Found(at) => match boxes.verdict(at) {
            Some(Verdict::Correct { .. }) => "Found: right class, enough overlap.".to_owned(),
            Some(Verdict::Ignored { .. }) => "Lies in a crowd: counts neither way.".to_owned(),
            Some(Verdict::Wrong { error, .. }) => error.explanation().to_owned(),
            None => String::new(),
        },
        BoxRef::Truth(at) if boxes.is_missed(at) => {
            "Missed: no detection of its class overlaps it enough.".to_owned()
        }
        BoxRef::Truth(_) => String::new(),
    };
    let pair = partner.map_or(String::new(), |(other, iou)| {
        let kind = match other {
            BoxRef::Found(_) => "detection",
            BoxRef::Truth(_) => "annotation",
        };
        format!(" With the {kind} of {}: IoU {iou:.3}.", name(other))
    });
    let text = format!("{sentence}{pair}");
    if !text.trim().is_empty() {
        ui.label(text.trim());
    }
}
