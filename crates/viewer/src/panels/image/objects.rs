//! The boxes of the image as a table, the thresholds, the counts and the class filter.

use egui::{RichText, ScrollArea, Slider, Ui};
use egui_extras::{Column, TableBuilder};

use super::classes;
use crate::panels::{FrameCache, comparison, corrections};
use crate::state::{BoxRef, CurrentBoxes, Pane, ViewerState, short_score};
use crate::style::{
    CORRECT, MISSED, WRONG, box_color, class_text, count, hint, number, pane_choice, verdict_text,
};
use sedet_data::eval::matching::{MatchCounts, Verdict};

/// Draws the section.
pub fn show(ui: &mut Ui, state: &mut ViewerState, cache: &FrameCache) {
    pane_choice(ui, state);
    let pane = state.focused();
    let boxes = cache.boxes(pane);
    classes::show(ui, state);
    let has_annotations = state.collection.as_ref().is_some_and(|c| c.has_boxes());
    let finds_boxes = state.finds_boxes();
    if finds_boxes {
        thresholds(ui, state, has_annotations);
    }
    counts(ui, state, boxes);
    comparison::changes(ui, state);
    if !has_annotations && !finds_boxes {
        // Neither the images nor a classifier have boxes to select.
        return;
    }
    ui.horizontal_wrapped(|ui| {
        let filter = &mut state.settings.filter;
        if has_annotations {
            ui.checkbox(&mut filter.show_annotations, "annotations");
        }
        if finds_boxes {
            ui.checkbox(&mut filter.show_detections, "detections");
        }
        ui.checkbox(&mut filter.show_labels, "labels");
        if finds_boxes {
            ui.checkbox(&mut filter.show_scores, "scores");
        }
        if has_annotations && finds_boxes {
            ui.checkbox(&mut filter.color_by_verdict, "color by verdict");
        }
    });
    class_filter(ui, state);
    table(ui, state, boxes);
}

/// The sliders explain themselves at their names only: a tooltip of a slider would cover the counts that
/// change while it is dragged.
pub fn thresholds(ui: &mut Ui, state: &mut ViewerState, has_annotations: bool) {
    let filter = &mut state.settings.filter;
    let threshold = |ui: &mut Ui, slider: Slider<'_>, name: &str, explanation: &str| {
        ui.horizontal(|ui| {
            let name = ui.label(name).on_hover_text(explanation);
            ui.add(slider).labelled_by(name.id);
        });
    };
    let score =
        // `fixed_decimals` would round the value.
        Slider::new(&mut filter.score, 0.0..=1.0).custom_formatter(|score, _| short_score(score));
    let explanation = "detections below this score are ignored everywhere";
    threshold(ui, score, "score threshold", explanation);
    if has_annotations {
        let iou = Slider::new(&mut filter.iou, 0.5..=0.95)
            .step_by(0.05)
            .fixed_decimals(2);
        let explanation = "IoU from which a detection matches an annotation";
        threshold(ui, iou, "IoU threshold", explanation);
    }
}

fn counts(ui: &mut Ui, state: &mut ViewerState, boxes: &CurrentBoxes) {
    let line = |ui: &mut Ui, name: &str, counts: &MatchCounts| {
        ui.horizontal_wrapped(|ui| {
            ui.label(name);
            let [correct, wrong, missed] =
                [CORRECT, WRONG, MISSED].map(|verdict| verdict_text(ui, verdict));
            ui.colored_label(correct, format!("{} correct", counts.correct));
            ui.colored_label(wrong, format!("{} wrong", counts.wrong));
            ui.colored_label(missed, format!("{} missed", counts.missed));
        });
        let [p, r, f1] = [counts.precision(), counts.recall(), counts.f1()].map(number);
        let text = format!("precision {p}   recall {r}   F1 {f1}");
        ui.label(RichText::new(text).strong().size(15.0));
    };
    let network = state.network_in_focus();
    if state.is_classifier(network) {
        if is_running(state, boxes) {
            hint(ui, "running inference …");
        }
        classes::counts(ui, state);
        classes::run_on_all(ui, state);
        return;
    }
    if let Some(matches) = &boxes.matches {
        line(ui, "this image:", &matches.counts(&boxes.ground_truth));
    } else if is_running(state, boxes) {
        hint(ui, "running inference …");
    }
    let known = state.predictions[network.index()].image_count();
    if let Some(tally) = &state.tallies[network.index()] {
        let name = format!("{}:", count(known, "image"));
        line(ui, &name, &tally.total);
    }
    classes::run_on_all(ui, state);
}

/// Returns whether the result of the network for the image is still missing. A classifier never has boxes.
fn is_running(state: &ViewerState, boxes: &CurrentBoxes) -> bool {
    let (pane, of) = (state.focused(), state.network_in_focus());
    let index = state.image_of(pane);
    let Some(network) = &state.networks[of.index()] else {
        return false;
    };
    if state.unreadable.contains(&index) {
        return false;
    }
    if network.is_detector && !(of == Pane::First && state.from_results) {
        boxes.detections.is_none()
    } else {
        let inference = state.inference[pane.index()].as_ref();
        inference.is_none_or(|inference| inference.image != index)
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
                        class_row(ui, state, class);
                    }
                });
        });
}

/// The check box of a class and the button that shows only this one. A long name is cut where the row ends:
/// it must not widen the panel, and the button stays in sight.
fn class_row(ui: &mut Ui, state: &mut ViewerState, class: usize) {
    let size = egui::vec2(ui.available_width(), ui.spacing().interact_size.y);
    let layout = egui::Layout::right_to_left(egui::Align::Center);
    ui.allocate_ui_with_layout(size, layout, |ui| {
        let name = state.classes.name(class).to_owned();
        let only = ui.small_button("only");
        only.widget_info(|| {
            let label = format!("only {name}");
            egui::WidgetInfo::labeled(egui::Role::Button, true, label)
        });
        if only.clicked() {
            let count = state.classes.len();
            state.settings.filter.show_only(class, count);
        }
        let layout = egui::Layout::left_to_right(egui::Align::Center);
        ui.with_layout(layout, |ui| {
            ui.style_mut().wrap_mode = Some(egui::TextWrapMode::Truncate);
            let text = RichText::new(&name).color(class_text(ui, class));
            let hidden = &mut state.settings.filter.hidden_classes;
            let mut shown = !hidden.contains(&class);
            let check = ui.checkbox(&mut shown, text).on_hover_text(&name);
            if check.changed() {
                if shown {
                    hidden.remove(&class);
                } else {
                    hidden.insert(class);
                }
            }
        });
    });
}

/// A row for each visible box.
fn table(ui: &mut Ui, state: &mut ViewerState, boxes: &CurrentBoxes) {
    // The height does not depend on the number of boxes: what is below stays in its place from image to image.
    let most = (ui.ctx().content_rect().height() * 0.26).max(120.0);
    let size = egui::vec2(ui.available_width(), most);
    ui.allocate_ui_with_layout(size, egui::Layout::top_down(egui::Align::Min), |ui| {
        ui.set_min_height(most);
        rows(ui, state, boxes, most);
    });
    if let Some(selected) = state.selected {
        explain(ui, state, boxes, selected);
    }
}

/// Draws the rows of the table in this height.
fn rows(ui: &mut Ui, state: &mut ViewerState, boxes: &CurrentBoxes, most: f32) {
    let visible = state.visible_boxes(boxes);
    if visible.is_empty() {
        hint(ui, "no boxes are shown for this image");
        return;
    }
    let height = ui.text_style_height(&egui::TextStyle::Body) + 4.0;
    let most = most - height - 8.0;
    let mut hovered = None;
    // The table scrolls to a box that was selected elsewhere.
    let memory = ui.scope_id().with("scrolled to");
    let scrolled_to: Option<Option<BoxRef>> = ui.data(|data| data.get_temp(memory));
    let row = state
        .selected
        .filter(|_| Some(state.selected) != scrolled_to);
    let row = row.and_then(|of| visible.iter().position(|box_of_row| *box_of_row == of));
    ui.data_mut(|data| data.insert_temp(memory, state.selected));
    // The boxes of another image begin at the first.
    let image = state.collection.as_ref().map(|images| images.title());
    let image = (image, state.image_of(state.focused()));
    let memory = ui.scope_id().with("image of the rows");
    let is_other = ui.data(|data| data.get_temp(memory)).as_ref() != Some(&image);
    ui.data_mut(|data| data.insert_temp(memory, image));
    let mut table = TableBuilder::new(ui);
    if let Some(row) = row {
        table = table.scroll_to_row(row, None);
    } else if is_other {
        table = table.vertical_scroll_offset(0.0);
    }
    table
        .id_salt("boxes")
        .striped(true)
        .cell_layout(egui::Layout::left_to_right(egui::Align::Center))
        .sense(egui::Sense::hover())
        .max_scroll_height(most)
        .min_scrolled_height(100.0)
        .column(Column::remainder().at_least(44.0).clip(true))
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
                row.set_hovered(state.hovered == Some((state.focused(), of)));
                cells(&mut row, state, boxes, of);
                if row.response().hovered() {
                    hovered = Some(of);
                }
            });
        });
    if let Some(hovered) = hovered {
        state.hovered_next = Some((state.focused(), hovered));
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
            state.hovered_next = Some((state.focused(), of));
        }
        if response.clicked() {
            state.selected = (!is_selected).then_some(of);
        }
        if response.secondary_clicked() {
            state.selected = Some(of);
        }
        let image = state.image_of(state.focused());
        response.context_menu(|ui| corrections::menu(ui, state, (image, boxes), of));
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
