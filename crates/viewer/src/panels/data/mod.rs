//! Dataset histograms, confusion matrix and COCO metrics. Bars, cells and rows lead to their images.

mod classes;
mod matrix;

use egui::{ScrollArea, Sense, Ui, vec2};
use egui_extras::{Column, TableBuilder};

use super::line_chart::{ChartLine, LineChart};
use super::{Panel, PanelContext, comparison, run_first};
use crate::state::export::{Export, ExportFiles};
use crate::state::{
    Chart, Compare, ErrorChoice, GalleryQuery, Pane, PanelId, Request, SortBy, ViewerState,
};
use crate::style::{
    class_on, class_text, count, empty_page, foreign_classes, hint, number, pane_choice,
    part_of_window,
};
use matrix::{matrix, scale_choice, shown_classes};
use sedet_core::render::{save_confusion, save_precision_recall, save_reliability};
use sedet_data::eval::PrecisionRecall;
use sedet_data::eval::confusion::{Cell, Confusion};
use sedet_data::eval::matching::ErrorType;

/// Height of a histogram without scrolling, in points.
const BARS_HEIGHT: f32 = 260.0;
/// The width from which the metrics are beside the confusion matrix, in points.
const BESIDE: f32 = 1900.0;
/// The share of the window's height that the table of classes and the curves have.
const METRICS: f32 = 0.34;

/// Dataset histograms, confusion matrix and metrics.
pub(crate) struct DataPanel;

impl Panel for DataPanel {
    fn id(&self) -> PanelId {
        PanelId::DATA
    }

    fn show(&self, ui: &mut Ui, context: &mut PanelContext<'_>) {
        show(ui, context.state);
    }

    fn before_export(&self, state: &ViewerState) -> Vec<Request> {
        let mut requests: Vec<Request> = run_first(state).into_iter().collect();
        if state
            .collection
            .as_ref()
            .is_some_and(|images| images.has_boxes())
            && state.finds_boxes()
        {
            requests.push(Request::Evaluate);
            if state.compare == Compare::Network {
                requests.extend([Request::DetectAll(Pane::Second), Request::EvaluateBoth]);
            }
        }
        requests
    }

    fn exports(&self) -> &'static [Export] {
        EXPORTS
    }
}

static EXPORTS: &[Export] = &[
    Export {
        name: "Histograms and confusion matrix (CSV)",
        write: export_histograms,
    },
    Export {
        name: "Metrics (JSON, PNG, SVG)",
        write: export_metrics,
    },
    Export {
        name: "Predicted classes (CSV)",
        write: export_classes,
    },
    Export {
        name: "Differences of two networks (CSV)",
        write: export_comparison,
    },
    Export {
        name: "Change of AP (CSV)",
        write: export_ap_change,
    },
];

fn export_histograms(state: &ViewerState, files: &mut ExportFiles) -> Result<(), String> {
    for (at, chart) in state.charts.iter().enumerate() {
        let name = chart.title.split(' ').next().unwrap_or("chart");
        files.text(&format!("data-{}-{name}.csv", at + 1), &chart.to_csv())?;
    }
    let network = state.network_in_focus();
    if state.is_classifier(network) {
        if let Some(evaluation) = &state.accuracies[network.index()] {
            files.text("confusion.csv", &evaluation.confusion_csv())?;
        }
    } else if let Some(tally) = &state.tallies[network.index()] {
        let names: Vec<String> = state.classes.iter().map(|c| c.name.clone()).collect();
        files.text("confusion.csv", &tally.to_csv(&names))?;
    }
    Ok(())
}

fn export_comparison(state: &ViewerState, files: &mut ExportFiles) -> Result<(), String> {
    let known = state.comparison.as_ref().zip(state.collection.as_ref());
    let (comparison, collection) =
        known.ok_or("compare with a second network that has processed the images first")?;
    files.text(
        "comparison.csv",
        &comparison.to_csv(collection, &state.classes),
    )
}

fn export_ap_change(state: &ViewerState, files: &mut ExportFiles) -> Result<(), String> {
    let change = state.ap_change.as_ref();
    let change = change.ok_or(if state.is_classifier(Pane::First) {
        "AP is a metric of detectors"
    } else {
        "evaluate both networks first"
    })?;
    files.text("ap_change.csv", &change.to_csv())
}

fn export_classes(state: &ViewerState, files: &mut ExportFiles) -> Result<(), String> {
    let network = state.network_in_focus();
    if !state.is_classifier(network) {
        return Err("predicted classes of images are results of a classifier".to_owned());
    }
    if state.processed(network) == 0 {
        return Err("no image has been classified yet".to_owned());
    }
    files.text("predictions.csv", &state.classes_csv(network))
}

fn export_metrics(state: &ViewerState, files: &mut ExportFiles) -> Result<(), String> {
    let network = state.network_in_focus();
    if state.is_classifier(network) {
        let evaluation = state.accuracies[network.index()].as_ref();
        let evaluation = evaluation.ok_or("no image with a class has been classified yet")?;
        files.text("metrics.json", &evaluation.to_json())?;
        files.figure("confusion", |path| save_confusion(evaluation, path))?;
        return files.figure("reliability", |path| save_reliability(evaluation, path));
    }
    let evaluation = state.evaluation();
    let evaluation =
        evaluation.ok_or("no metrics of this network have been computed yet; click Evaluate")?;
    files.text("metrics.json", &evaluation.to_json())?;
    if evaluation.curves.is_some() {
        files.figure("precision-recall", |path| {
            save_precision_recall(evaluation, path)
        })?;
    }
    Ok(())
}

fn show(ui: &mut Ui, state: &mut ViewerState) {
    if state.collection.is_none() {
        empty_page(
            ui,
            "No dataset is open",
            "Open a dataset or a directory of images.",
        );
        return;
    }
    ScrollArea::vertical()
        .id_salt("data page")
        .auto_shrink([false, false])
        .show(ui, |ui| {
            let charts = state.charts.clone();
            if charts.is_empty() {
                hint(ui, "these images have no annotations");
            }
            let columns = charts.len().clamp(1, 3);
            ui.columns(columns, |columns| {
                for (at, chart) in charts.iter().enumerate() {
                    let last = columns.len() - 1;
                    bars(&mut columns[at.min(last)], state, chart);
                }
            });
            ui.separator();
            comparison::changes(ui, state);
            comparison::ap_change(ui, state);
            if state.compare == Compare::Network {
                ui.separator();
            }
            pane_choice(ui, state);
            foreign_classes(ui, state);
            let network = state.network_in_focus();
            if state.is_classifier(network) {
                classes::show(ui, state, network);
                return;
            }
            let tally = state.tallies[state.network_in_focus().index()].clone();
            if ui.available_width() >= BESIDE {
                ui.columns(2, |columns| {
                    if let Some(tally) = tally {
                        confusion(&mut columns[0], state, &tally);
                    }
                    metrics(&mut columns[1], state);
                });
                return;
            }
            if let Some(tally) = tally {
                confusion(ui, state, &tally);
            }
            ui.separator();
            metrics(ui, state);
        });
}

fn bars(ui: &mut Ui, state: &mut ViewerState, chart: &Chart) {
    ui.strong(format!("{}, {}", chart.title, chart.counts));
    let most = chart
        .bars
        .iter()
        .map(|bar| bar.count)
        .max()
        .unwrap_or(1)
        .max(1);
    let height = ui.text_style_height(&egui::TextStyle::Body) + 4.0;
    ScrollArea::vertical()
        .id_salt(chart.title)
        .max_height(part_of_window(ui, BARS_HEIGHT, 0.3))
        .auto_shrink([false, true])
        .show_rows(ui, height, chart.bars.len(), |ui, rows| {
            for bar in &chart.bars[rows] {
                let size = vec2(ui.available_width(), height);
                let (rect, response) = ui.allocate_exact_size(size, Sense::click());
                let text = format!("{}: {}", bar.label, bar.count);
                response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Button, true, &text));
                let share = bar.count as f32 / most as f32;
                let filled =
                    egui::Rect::from_min_size(rect.min, vec2(rect.width() * share, height));
                let visuals = ui.visuals();
                let fill = if response.hovered() {
                    visuals.selection.bg_fill
                } else {
                    visuals.widgets.inactive.bg_fill
                };
                let ink = visuals.strong_text_color();
                ui.painter().rect_filled(filled, 2.0, fill);
                let font = egui::TextStyle::Body.resolve(ui.style());
                let position = rect.left_center() + vec2(4.0, 0.0);
                ui.painter()
                    .text(position, egui::Align2::LEFT_CENTER, &text, font, ink);
                if response.clicked() {
                    state.pick(
                        format!("{}: {}", chart.title, bar.label),
                        bar.images.clone(),
                    );
                }
            }
        });
}

fn cell_name(state: &ViewerState, (truth, found): Cell) -> String {
    match (truth, found) {
        (Some(truth), Some(found)) if truth == found => {
            format!("{} correct", state.classes.name(truth))
        }
        (Some(truth), Some(found)) => format!(
            "{} predicted as {}",
            state.classes.name(truth),
            state.classes.name(found)
        ),
        (Some(truth), None) => format!("{} not found as anything", state.classes.name(truth)),
        (None, Some(found)) => format!("{} matching no annotation", state.classes.name(found)),
        (None, None) => String::new(),
    }
}

/// An entry of the list of errors.
#[derive(Clone, Copy)]
enum Entry {
    /// A cell of the matrix.
    Cell(Cell),
    /// Detections of a class that match no annotation, with this type of error.
    Unmatched(usize, ErrorType),
}

/// What a click on an entry shows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shows {
    /// The images, in the gallery.
    Images,
    /// The boxes, on the Errors page.
    Boxes,
}

impl Entry {
    fn errors(self) -> ErrorChoice {
        match self {
            Self::Cell(cell) => ErrorChoice::Cell(cell),
            Self::Unmatched(class, error) => ErrorChoice::Found(class, error),
        }
    }

    /// Returns whether its boxes are errors.
    fn is_wrong(self) -> bool {
        !matches!(self, Self::Cell((truth, found)) if truth == found)
    }

    fn name(self, state: &ViewerState) -> String {
        let (class, error) = match self {
            Self::Cell(cell) => return cell_name(state, cell),
            Self::Unmatched(class, error) => (class, error),
        };
        let what = match error {
            ErrorType::Background => "on background",
            ErrorType::Duplicate => "as a duplicate",
            ErrorType::Localization => "badly located",
            ErrorType::Both | ErrorType::Classification => "badly located and of another class",
        };
        format!("{} {what}", state.classes.name(class))
    }
}

/// Draws the confusion matrix and a list of its errors.
fn confusion(ui: &mut Ui, state: &mut ViewerState, tally: &Confusion) {
    let counts = [
        tally.total.precision(),
        tally.total.recall(),
        tally.total.f1(),
    ]
    .map(number);
    ui.strong("Confusion matrix");
    hint(
        ui,
        format!(
            "score {:.2}, IoU {:.2}: precision {}, recall {}, F1 {}; rows: annotated class, columns: \
             predicted class, last column: objects that no detection of any class matches, last row: detections that match no annotation (on \
             background, badly located or a duplicate); click a cell to list its images, or with the right \
             button to see its boxes",
            state.filter().score,
            state.filter().iou,
            counts[0],
            counts[1],
            counts[2]
        ),
    );
    let unmatched = state.unmatched.clone();
    let cells = tally.cells.iter().filter(|((truth, found), _)| {
        // The last row is listed by the type of the error once that is known.
        truth != found && (truth.is_some() || unmatched.is_empty())
    });
    let cells = cells.map(|(cell, (count, _))| (Entry::Cell(*cell), *count));
    let divided = unmatched.iter();
    let divided =
        divided.map(|((class, error), (count, _))| (Entry::Unmatched(*class, *error), *count));
    let mut wrong: Vec<(Entry, usize)> = cells.chain(divided).collect();
    wrong.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    scale_choice(ui, state);
    let mut clicked = None;
    ui.horizontal_top(|ui| {
        let classes = shown_classes(state.classes.len(), &wrong);
        let cell = matrix(ui, state, tally, &classes, true);
        clicked = cell.map(|(cell, shows)| (Entry::Cell(cell), shows));
        if let Some(entry) = error_list(ui, state, &wrong, true) {
            clicked = Some(entry);
        }
    });
    let Some((entry, shows)) = clicked else {
        return;
    };
    if shows == Shows::Boxes && entry.is_wrong() {
        state.show_errors(entry.errors());
        return;
    }
    let images = match entry {
        Entry::Cell(cell) => tally.cells.get(&cell),
        Entry::Unmatched(class, error) => unmatched.get(&(class, error)),
    };
    if let Some((_, images)) = images {
        state.pick(entry.name(state), images.clone());
    }
}

/// Draws a button for each error with its number, and one that shows its boxes if errors `have_boxes`, and returns
/// the clicked one.
fn error_list(
    ui: &mut Ui,
    state: &ViewerState,
    wrong: &[(Entry, usize)],
    have_boxes: bool,
) -> Option<(Entry, Shows)> {
    let mut clicked = None;
    ui.vertical(|ui| {
        let height = ui.spacing().interact_size.y;
        ScrollArea::vertical()
            // Other errors begin at the first.
            .id_salt(("confusions", state.collection.as_ref().map(|c| c.title())))
            .max_height(part_of_window(ui, 280.0, 0.32))
            .auto_shrink([false, true])
            .show_rows(ui, height, wrong.len(), |ui, rows| {
                for (entry, count) in wrong.get(rows).unwrap_or_default() {
                    let name = entry.name(state);
                    ui.horizontal(|ui| {
                        if ui.button(format!("{name}: {count}")).clicked() {
                            clicked = Some((*entry, Shows::Images));
                        }
                        if !have_boxes {
                            return;
                        }
                        let boxes = ui.button("boxes").on_hover_text("on the Errors page");
                        boxes.widget_info(|| {
                            let label = format!("boxes: {name}");
                            egui::WidgetInfo::labeled(egui::Role::Button, true, label)
                        });
                        if boxes.clicked() {
                            clicked = Some((*entry, Shows::Boxes));
                        }
                    });
                }
            });
    });
    clicked
}

/// Draws the COCO metrics of the processed images.
fn metrics(ui: &mut Ui, state: &mut ViewerState) {
    let known = state.predictions[state.network_in_focus().index()].image_count();
    let has_boxes = state.collection.as_ref().is_some_and(|c| c.has_boxes());
    if !has_boxes || known == 0 {
        hint(ui, "metrics require annotations and detections");
        return;
    }
    let all = state.image_count();
    ui.horizontal(|ui| {
        ui.strong("COCO metrics");
        if ui.button("Evaluate").clicked() {
            state.requests.push(Request::Evaluate);
        }
        if known < all {
            hint(ui, format!("{known} of {} processed", count(all, "image")));
        }
    });
    let Some(evaluation) = state.evaluation().cloned() else {
        return;
    };
    let over = format!("over {}", count(evaluation.images, "image"));
    if evaluation.images < known {
        let text = format!("{over}; {known} are processed now: evaluate again");
        ui.colored_label(ui.visuals().warn_fg_color, text);
    } else {
        hint(ui, over);
    }
    ui.horizontal_wrapped(|ui| {
        for (name, value) in evaluation.metrics.named() {
            ui.label(format!("{name} {}", defined(value)));
        }
    });
    ui.columns(2, |columns| {
        class_table(&mut columns[0], state, &evaluation.per_class);
        if let Some(curves) = &evaluation.curves {
            hint(
                &mut columns[1],
                "means of the classes, as in COCO; the counts of a threshold are of all boxes together",
            );
            precision_recall(&mut columns[1], state, curves);
        }
    });
}

/// Formats a COCO metric; -1 means that it is undefined, such as AP for small objects where there are none.
fn defined(value: f64) -> String {
    number(Some(value).filter(|value| *value >= 0.0))
}

fn class_table(ui: &mut Ui, state: &mut ViewerState, classes: &[sedet_data::eval::ClassMetrics]) {
    let height = ui.text_style_height(&egui::TextStyle::Body) + 4.0;
    let height_of_metrics = part_of_window(ui, 300.0, METRICS);
    TableBuilder::new(ui)
        .id_salt("class metrics")
        .striped(true)
        .cell_layout(egui::Layout::left_to_right(egui::Align::Center))
        .max_scroll_height(height_of_metrics)
        .column(Column::remainder().at_least(80.0).clip(true))
        .columns(Column::exact(76.0), 2)
        .columns(Column::exact(60.0), 3)
        .header(height, |mut header| {
            for title in ["class", "objects", "detections", "AP", "AP50", "AR"] {
                header.col(|ui| {
                    ui.strong(title);
                });
            }
        })
        .body(|body| {
            body.rows(height, classes.len(), |mut row| {
                let class = &classes[row.index()];
                row.col(|ui| {
                    let index = (0..state.classes.len())
                        .find(|&at| state.classes.id(at) == Some(class.category_id));
                    let text = egui::RichText::new(&class.name)
                        .color(class_text(ui, index.unwrap_or_default()));
                    let button = ui.add(egui::Button::new(text).frame(false));
                    let button = button.on_hover_text("images of this class, its worst F1 first");
                    if button.clicked()
                        && let Some(index) = index
                    {
                        state.list(GalleryQuery {
                            class: Some(index),
                            sort: SortBy::WorstF1,
                            ..GalleryQuery::default()
                        });
                    }
                });
                let cells = [
                    class.ground_truths.to_string(),
                    class.detections.to_string(),
                    format!("{:.3}", class.ap),
                    format!("{:.3}", class.ap50),
                    format!("{:.3}", class.ar100),
                ];
                for cell in cells {
                    row.col(|ui| {
                        ui.label(cell);
                    });
                }
            });
        });
}

fn precision_recall(ui: &mut Ui, state: &mut ViewerState, curves: &PrecisionRecall) {
    let lines = [
        ("IoU 0.50", &curves.at_iou_50),
        ("IoU 0.75", &curves.at_iou_75),
        ("mean over IoU", &curves.mean_over_iou),
    ];
    let lines = lines.into_iter().enumerate();
    let lines = lines.map(|(at, (name, precision))| {
        let points = PrecisionRecall::recalls().zip(precision);
        ChartLine {
            name: name.to_owned(),
            points: points
                .map(|(recall, precision)| [recall, *precision])
                .collect(),
            color: class_on(ui, at),
            width: 1.5,
            band: None,
        }
    });
    let lines = lines.collect();
    hint(
        ui,
        "click to set the IoU threshold of the curve and the score threshold of that recall, and to list the \
         images with errors",
    );
    let chart = LineChart {
        name: "precision and recall",
        x: "recall",
        y: "precision",
        height: part_of_window(ui, 300.0, METRICS),
        include: &[[0.0, 0.0], [1.0, 1.0]],
        lines,
        ..LineChart::default()
    };
    if let Some(at) = chart.show(ui)
        && at.x > 0.0
        && at.x <= 1.0
    {
        let iou = nearest_curve(curves, at.x, at.y);
        state
            .requests
            .push(Request::ShowRecall { recall: at.x, iou });
    }
}

/// Returns the IoU threshold of the curve that a click at this recall and precision means. The mean over IoU
/// has no threshold of its own.
fn nearest_curve(curves: &PrecisionRecall, recall: f64, precision: f64) -> f32 {
    let at = |curve: &[f64]| {
        let last = curve.len().saturating_sub(1);
        let value = curve.get((recall * last as f64).round() as usize);
        value.map_or(f64::INFINITY, |value| (value - precision).abs())
    };
    if at(&curves.at_iou_75) < at(&curves.at_iou_50) {
        0.75
    } else {
        0.5
    }
}
