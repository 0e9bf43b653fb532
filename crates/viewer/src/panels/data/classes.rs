//! Accuracy, confusion and calibration of a classifier. Rows, cells and bins lead to their images.

use std::cmp::Reverse;

use egui::{Rect, ScrollArea, Sense, Ui, vec2};
use egui_extras::{Column, TableBuilder};

use super::matrix::{matrix, scale_choice, shown_classes};
use super::{Entry, error_list};
use crate::panels::image::run_on_all;
use crate::state::{GalleryQuery, Mistake, Pane, SortBy, ViewerState};
use crate::style::{CORRECT, class_text, count, hint, mixed};
use sedet_data::eval::classification::{ClassificationEvaluation, ReliabilityBin};
use sedet_data::eval::confusion::Confusion;

/// Draws the section about a classifier.
pub(super) fn show(ui: &mut Ui, state: &mut ViewerState, network: Pane) {
    let (known, all) = (state.processed(network), state.image_count());
    ui.horizontal(|ui| {
        ui.strong("Accuracy");
        hint(ui, format!("{known} of {} processed", count(all, "image")));
        run_on_all(ui, state);
    });
    if !state.judges_classes(network) {
        let classes = state.classifiers[network.index()].as_ref();
        let reason = classes.and_then(|classes| classes.why_not_compared());
        hint(
            ui,
            match reason {
                Some(reason) => format!("no accuracy, since the classes differ: {reason}"),
                None => "accuracy requires images with classes".to_owned(),
            },
        );
        return;
    }
    let at = network.index();
    let (Some(evaluation), Some(tally)) = (state.accuracies[at].clone(), state.tallies[at].clone())
    else {
        return;
    };
    headline(ui, &evaluation);
    ui.columns(2, |columns| {
        class_table(&mut columns[0], state, network, &evaluation, &tally);
        calibration(&mut columns[1], state, network, &evaluation);
        surest_mistakes(&mut columns[1], state, network);
    });
    ui.separator();
    confusion(ui, state, &tally);
}

fn headline(ui: &mut Ui, evaluation: &ClassificationEvaluation) {
    ui.horizontal_wrapped(|ui| {
        ui.label(format!("top-1 {:.2} %", evaluation.top1));
        if evaluation.has_top5() {
            ui.label(format!("top-5 {:.2} %", evaluation.top5));
        }
        if let Some(mean) = evaluation.mean_class_top1() {
            ui.label(format!("mean per class {mean:.2} %"));
        }
        ui.label(format!("loss {:.4}", evaluation.loss));
        let error = evaluation.calibration_error;
        ui.label(format!("calibration error {error:.2} %"));
    });
}

/// A row for each class with images, the worst first.
fn class_table(
    ui: &mut Ui,
    state: &mut ViewerState,
    network: Pane,
    evaluation: &ClassificationEvaluation,
    tally: &Confusion,
) {
    let classes = evaluation.classes.iter().enumerate();
    let mut classes: Vec<_> = classes.filter(|(_, class)| class.images > 0).collect();
    classes.sort_by(|(_, a), (_, b)| a.top1.total_cmp(&b.top1));
    let shown = state.classifiers[network.index()].clone();
    let shown = |position: usize| shown.as_ref().and_then(|classes| classes.shown(position));
    let height = ui.text_style_height(&egui::TextStyle::Body) + 4.0;
    let (mut clicked, mut confused) = (None, None);
    TableBuilder::new(ui)
        .id_salt("class accuracy")
        .striped(true)
        .cell_layout(egui::Layout::left_to_right(egui::Align::Center))
        .max_scroll_height(300.0)
        .column(Column::remainder().at_least(80.0).clip(true))
        .columns(Column::exact(60.0), 2)
        .column(Column::remainder().at_least(80.0).clip(true))
        .header(height, |mut header| {
            for title in ["class", "images", "top-1 %", "taken most often for"] {
                header.col(|ui| {
                    ui.strong(title);
                });
            }
        })
        .body(|body| {
            body.rows(height, classes.len(), |mut row| {
                let (position, class) = classes[row.index()];
                row.col(|ui| {
                    let text = egui::RichText::new(&class.name)
                        .color(class_text(ui, shown(position).unwrap_or_default()));
                    let button = ui.add(egui::Button::new(text).frame(false).truncate());
                    let tip = format!("{}: its images, the surest mistakes first", class.name);
                    if button.on_hover_text(tip).clicked() {
                        clicked = shown(position);
                    }
                });
                row.col(|ui| {
                    ui.label(class.images.to_string());
                });
                row.col(|ui| {
                    ui.label(format!("{:.2}", class.top1));
                });
                row.col(|ui| {
                    if let Some(other) = &class.confused_with {
                        let text = format!("{} ({})", other.name, other.images);
                        let button = egui::Button::new(text).frame(false).truncate();
                        let tip = format!("images of {} that are taken for it", class.name);
                        if ui.add(button).on_hover_text(tip).clicked() {
                            // Of equal counts the first class, which is the named one.
                            let row = evaluation.confusion[position].iter().enumerate();
                            let row = row.filter(|(found, _)| *found != position);
                            let most = row.max_by_key(|(found, n)| (**n, Reverse(*found)));
                            let most = most.and_then(|(found, _)| shown(found));
                            confused = Some((shown(position), most));
                        }
                    }
                });
            });
        });
    if let Some(class) = clicked {
        state.list(GalleryQuery {
            class: Some(class),
            sort: SortBy::SurestMistake,
            ..GalleryQuery::default()
        });
    }
    let images = confused.and_then(|cell| tally.cells.get(&cell));
    if let (Some(cell), Some((_, images))) = (confused, images) {
        state.pick(Entry::Cell(cell).name(state), images.clone());
    }
}

/// A bar for each bin of confidence: how many of its images are right.
fn calibration(
    ui: &mut Ui,
    state: &mut ViewerState,
    network: Pane,
    evaluation: &ClassificationEvaluation,
) {
    ui.strong("Confidence and share right");
    hint(
        ui,
        "the length of a bar is the share that is right, the mark the mean confidence; click to list the images",
    );
    for bin in &evaluation.reliability {
        let images = count(bin.images, "image");
        let right = bin.accuracy * 100.0;
        let name = format!("confidence {:.2} to {:.2}", bin.from, bin.to);
        let text = format!("{name}: {images}, {right:.1} % right");
        if bin_bar(ui, bin, &text).clicked() {
            let known = state.classified[network.index()].iter();
            let known = known.filter(|(_, image)| {
                let score = image.score.filter(|score| score.predicted.is_some());
                score.is_some_and(|score| bin.contains(score.confidence))
            });
            let images = known.map(|(index, _)| index as u32).collect();
            state.pick(name, images);
        }
    }
}

fn bin_bar(ui: &mut Ui, bin: &ReliabilityBin, text: &str) -> egui::Response {
    let height = ui.text_style_height(&egui::TextStyle::Body) + 4.0;
    let size = vec2(ui.available_width(), height);
    let (rect, response) = ui.allocate_exact_size(size, Sense::click());
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Button, true, text));
    let visuals = ui.visuals();
    let below = visuals.extreme_bg_color;
    let painter = ui.painter_at(rect);
    painter.rect_filled(rect, 0.0, below);
    let length = rect.width() * bin.accuracy as f32;
    let filled = Rect::from_min_size(rect.min, vec2(length, height));
    painter.rect_filled(filled, 0.0, mixed(CORRECT, below, 0.35));
    let ink = visuals.strong_text_color();
    // Below the text, which it would cross otherwise.
    let mean = rect.left() + rect.width() * bin.confidence as f32;
    let mark = (rect.bottom() - 5.0)..=rect.bottom();
    painter.vline(mean, mark, egui::Stroke::new(2.0, ink));
    let font = egui::TextStyle::Body.resolve(ui.style());
    let at = rect.left_center() + vec2(4.0, 0.0);
    painter.text(at, egui::Align2::LEFT_CENTER, text, font, ink);
    if response.hovered() || response.has_focus() {
        let stroke = egui::Stroke::new(1.0, ink);
        painter.rect_stroke(rect, 0.0, stroke, egui::StrokeKind::Inside);
    }
    response
}

/// The mistakes, the most confident first; a click shows the image.
fn surest_mistakes(ui: &mut Ui, state: &mut ViewerState, network: Pane) {
    let mistakes = state.mistakes[network.index()].clone();
    ui.strong(format!("Surest mistakes of {}", mistakes.len()));
    let height = ui.spacing().interact_size.y;
    let mut clicked: Option<Mistake> = None;
    ScrollArea::vertical()
        .id_salt("surest mistakes")
        .max_height(120.0)
        .auto_shrink([false, true])
        .show_rows(ui, height, mistakes.len(), |ui, rows| {
            for mistake in mistakes.get(rows).unwrap_or_default() {
                let image = state.collection.as_ref();
                let image = image.map(|c| c.image_title(mistake.image));
                let text = format!(
                    "{:.1} % {} for {}, {}",
                    mistake.probability * 100.0,
                    state.classes.name(mistake.predicted),
                    state.classes.name(mistake.truth),
                    image.unwrap_or_default()
                );
                if ui.add(egui::Button::new(text).truncate()).clicked() {
                    clicked = Some(*mistake);
                }
            }
        });
    if let Some(mistake) = clicked {
        let images = mistakes.iter().map(|m| m.image as u32).collect();
        state.pick("surest mistakes", images);
        state.query.sort = SortBy::SurestMistake;
        state.shows_first = false;
        state.go_to(mistake.image);
    }
}

/// Draws the confusion matrix and a list of its errors.
fn confusion(ui: &mut Ui, state: &mut ViewerState, tally: &Confusion) {
    let mut wrong: Vec<(Entry, usize)> = tally
        .cells
        .iter()
        .filter(|((truth, found), _)| truth != found)
        .map(|(cell, (count, _))| (Entry::Cell(*cell), *count))
        .collect();
    wrong.sort_by_key(|(_, count)| Reverse(*count));
    let all = state.classes.len();
    let classes = shown_classes(all, &wrong);
    ui.strong("Confusion matrix");
    let which = if classes.len() < all {
        format!(
            "the {} classes that are confused most often; ",
            classes.len()
        )
    } else {
        String::new()
    };
    hint(
        ui,
        format!(
            "{which}rows: true class, columns: predicted class; click a cell to list its images"
        ),
    );
    scale_choice(ui, state);
    let mut clicked = None;
    ui.horizontal_top(|ui| {
        let cell = matrix(ui, state, tally, &classes, false);
        clicked = cell.map(|(cell, _)| Entry::Cell(cell));
        if let Some((entry, _)) = error_list(ui, state, &wrong, false) {
            clicked = Some(entry);
        }
    });
    if let Some(entry) = clicked
        && let Entry::Cell(cell) = entry
        && let Some((_, images)) = tally.cells.get(&cell)
    {
        state.pick(entry.name(state), images.clone());
    }
}
