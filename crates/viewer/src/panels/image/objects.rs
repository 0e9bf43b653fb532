//! The boxes of the image as a table, the thresholds, the counts and the class filter.

use egui::{RichText, ScrollArea, Slider, Ui};
use egui_extras::{Column, TableBuilder};

use crate::panels::FrameCache;
use crate::state::{BoxRef, CurrentBoxes, Pane, Request, ViewerState};
use crate::style::{CORRECT, MISSED, WRONG, box_color, class_on, count, hint, number};
use sedet_data::eval::matching::{MatchCounts, Verdict};

/// Draws the section.
pub fn show(ui: &mut Ui, state: &mut ViewerState, cache: &FrameCache) {
    let boxes = cache.boxes(Pane::First);
    classes_of_image(ui, state);
    ui.add(
        Slider::new(&mut state.settings.filter.score, 0.0..=1.0)
            .custom_formatter(|score, _| short_score(score))
            .text("score threshold"),
    )
    .on_hover_text("detections below this score are ignored everywhere");
    if state.collection.as_ref().is_some_and(|c| c.has_boxes()) {
        ui.add(
            Slider::new(&mut state.settings.filter.iou, 0.5..=0.95)
                .step_by(0.05)
                .fixed_decimals(2)
                .text("IoU threshold"),
        )
        .on_hover_text("IoU from which a detection matches an annotation");
    }
    counts(ui, state, boxes);
    ui.horizontal_wrapped(|ui| {
        let filter = &mut state.settings.filter;
        ui.checkbox(&mut filter.show_annotations, "annotations");
        ui.checkbox(&mut filter.show_detections, "detections");
        ui.checkbox(&mut filter.show_labels, "labels");
        ui.checkbox(&mut filter.show_scores, "scores");
        ui.checkbox(&mut filter.color_by_verdict, "color by verdict");
    });
    class_filter(ui, state);
    table(ui, state, boxes);
}

/// Formats a score with two digits, or three where needed. `Slider::fixed_decimals` would round the value.
fn short_score(score: f64) -> String {
    let text = format!("{score:.3}");
    text.strip_suffix('0').unwrap_or(&text).to_owned()
}

/// The label of the image and the top classes of a classifier.
fn classes_of_image(ui: &mut Ui, state: &ViewerState) {
    let Some(collection) = &state.collection else {
        return;
    };
    if let Some(label) = collection.label(state.current) {
        ui.label(format!("label: {}", state.classes.name(label)));
    }
    if let Some(inference) = state.current_inference() {
        for class in &inference.classes {
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
        line(ui, "this image:", &matches.counts(&boxes.ground_truth));
    } else if boxes.detections.is_none() && state.networks[0].is_some() {
        hint(ui, "running inference …");
    }
    let known = state.predictions[0].image_count();
    if let Some(tally) = &state.tallies[0] {
        let name = format!("{}:", count(known, "image"));
        line(ui, &name, &tally.total);
    }
    let all = state.image_count();
    let can_detect = state.networks[0].as_ref().is_some_and(|n| n.is_detector);
    if can_detect && !state.from_results && known < all && state.progress.is_empty() && all > 1 {
        let text = format!("Detect in all {all} images");
        if ui.button(text).clicked() {
            state.requests.push(Request::DetectAll(Pane::First));
        }
    }
}

fn class_filter(ui: &mut Ui, state: &mut ViewerState) {
    if state.classes.is_empty() {
        return;
    }
    let hidden = state.filter().hidden_classes.len();
    let title = if hidden == 0 {
        "Classes".to_owned()
    } else {
        format!("Classes ({hidden} hidden)")
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
                                if shown {
                                    hidden.remove(&class);
                                } else {
                                    hidden.insert(class);
                                }
                            }
                            let only = ui.small_button("only");
                            only.widget_info(|| {
                                let label = format!("only {}", state.classes.name(class));
                                egui::WidgetInfo::labeled(egui::Role::Button, true, label)
                            });
                            if only.clicked() {
                                state.settings.filter.show_only(class, count);
                            }
                        });
                    }
                });
        });
}

/// A row for each visible box.
fn table(ui: &mut Ui, state: &mut ViewerState, boxes: &CurrentBoxes) {
    let visible = state.visible_boxes(boxes);
    if visible.is_empty() {
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
            body.rows(height, visible.len(), |mut row| {
                let of = visible[row.index()];
                row.set_selected(state.selected == Some(of));
                row.set_hovered(state.hovered == Some(of));
                cells(&mut row, state, boxes, of);
                if row.response().hovered() {
                    hovered = Some(of);
                }
            });
        });
    if hovered.is_some() {
        state.hovered_next = hovered;
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
    let (kind, at) = match of {
        BoxRef::Detection(at) => ("detection", at),
        BoxRef::GroundTruth(at) => ("annotation", at),
    };
    let verdict = verdict_name(boxes, of);
    let class = boxes.class_of(of);
    let name = class.map_or("?", |class| state.classes.name(class));
    let name = name.to_owned();
    let color = box_color(state, boxes, of);
    row.col(|ui| {
        ui.style_mut().wrap_mode = Some(egui::TextWrapMode::Truncate);
        let (rect, _) = ui.allocate_exact_size(egui::vec2(8.0, 8.0), egui::Sense::hover());
        ui.painter().rect_filled(rect, 1.0, color);
        let is_selected = state.selected == Some(of);
        let response = ui.selectable_label(is_selected, &name);
        response.widget_info(|| {
            let label = format!("{kind} {}: {name}, {verdict}", at + 1);
            egui::WidgetInfo::selected(egui::Role::Button, true, is_selected, label)
        });
        if response.hovered() {
            state.hovered_next = Some(of);
        }
        if response.clicked() {
            state.selected = (!is_selected).then_some(of);
        }
    });
    row.col(|ui| {
        if let Some(score) = boxes.score_of(of) {
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

fn verdict_name(boxes: &CurrentBoxes, of: BoxRef) -> &'static str {
    match of {
        BoxRef::Detection(at) => boxes.verdict(at).map_or("", Verdict::name),
        BoxRef::GroundTruth(_) if boxes.matches.is_none() => "annotation",
        BoxRef::GroundTruth(at) if boxes.is_missed(at) => "missed",
        BoxRef::GroundTruth(at) if boxes.is_crowd(at) => "crowd",
        BoxRef::GroundTruth(_) => "detected",
    }
}

/// Explains the verdict on the selected box.
fn explain(ui: &mut Ui, state: &ViewerState, boxes: &CurrentBoxes, of: BoxRef) {
    let sentence = match of {
        BoxRef::Detection(at) => match boxes.verdict(at) {
            Some(Verdict::Correct { .. }) => "Correct: right class and sufficient IoU.".to_owned(),
            Some(Verdict::Ignored { .. }) => {
                "Inside a crowd region: neither correct nor wrong.".to_owned()
            }
            Some(Verdict::Wrong { error, .. }) => error.explanation().to_owned(),
            None => String::new(),
        },
        BoxRef::GroundTruth(at) if boxes.is_missed(at) => {
            "Missed: no detection of this class has sufficient IoU.".to_owned()
        }
        BoxRef::GroundTruth(_) => String::new(),
    };
    let pair = boxes.partner(of).map_or(String::new(), |(partner, iou)| {
        let kind = match partner {
            BoxRef::Detection(_) => "detection",
            BoxRef::GroundTruth(_) => "annotation",
        };
        let class = boxes.class_of(partner);
        let name = class.map_or("?", |class| state.classes.name(class));
        format!(" IoU {iou:.3} with the {kind} of {name}.")
    });
    let text = format!("{sentence}{pair}");
    if !text.trim().is_empty() {
        ui.label(text.trim());
    }
}
