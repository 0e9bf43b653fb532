//! What a second network changes: objects and images that it fixes or breaks, and the AP of the classes.

use egui::Ui;
use egui_extras::{Column, TableBuilder};

use crate::state::{Change, Compare, GalleryQuery, Pane, Request, SortBy, ViewerState, difference};
use crate::style::{CORRECT, MISSED, WRONG, count, hint, number, verdict_text};

/// Draws the numbers of objects or images that differ; a click goes through them.
pub(super) fn changes(ui: &mut Ui, state: &mut ViewerState) {
    if state.compare != Compare::Network {
        return;
    }
    run_both(ui, state);
    let Some(comparison) = state.comparison.clone() else {
        return;
    };
    let classifies = state.is_classifier(Pane::First);
    let [fixed, broken, both_wrong] = [Change::Fixed, Change::Broken, Change::BothWrong]
        .map(|change| comparison.of(change).count());
    let all = comparison.both_right + fixed + broken + both_wrong;
    let both_right = comparison.both_right;
    let [first, second] = [both_right + broken, both_right + fixed];
    let right = if classifies {
        let images = count(all, "image");
        format!("of {images} the first has {first} right, the second {second}")
    } else {
        let objects = count(all, "object");
        format!("of {objects} the first finds {first}, the second {second}")
    };
    ui.strong("From the first network to the second");
    hint(
        ui,
        format!(
            "{} of {} processed by both; {right}; click to go through them",
            comparison.images,
            count(state.image_count(), "image"),
        ),
    );
    for change in Change::ALL {
        let is_of_boxes = matches!(change, Change::OnlyFirst | Change::OnlySecond);
        if !(classifies && is_of_boxes) {
            // A row each: nothing moves when the position among them appears.
            ui.horizontal(|ui| steps(ui, state, change, comparison.of(change).count()));
        }
    }
}

/// The buttons that go to the next and the previous item of a kind.
fn steps(ui: &mut Ui, state: &mut ViewerState, change: Change, number: usize) {
    let color = match change {
        Change::Fixed => CORRECT,
        Change::Broken | Change::OnlySecond => WRONG,
        Change::BothWrong | Change::OnlyFirst => MISSED,
    };
    let name = change.name();
    let text = egui::RichText::new(format!("{name}: {number}")).color(verdict_text(ui, color));
    let next = ui.add_enabled(number > 0, egui::Button::new(text));
    if next.on_hover_text("the next one").clicked() {
        state.walk(change, false);
    }
    let back = ui.add_enabled(number > 0, egui::Button::new("◀").small());
    back.widget_info(|| {
        let label = format!("previous: {name}");
        egui::WidgetInfo::labeled(egui::Role::Button, number > 0, label)
    });
    if back.clicked() {
        state.walk(change, true);
    }
    if let Some((known, at)) = state.walked
        && known == change
        && at < number
    {
        hint(ui, format!("{} of {number}", at + 1));
    }
}

/// Draws the button that runs both networks where either lacks images.
fn run_both(ui: &mut Ui, state: &mut ViewerState) {
    let both = [Pane::First, Pane::Second];
    let lacks = |pane: &Pane| {
        let is_file = *pane == Pane::First && state.from_results;
        let is_open = state.networks[pane.index()].is_some();
        is_open && !is_file && state.remaining(*pane) > 0
    };
    let lacking: Vec<Pane> = both.into_iter().filter(lacks).collect();
    let all = state.image_count();
    if lacking.is_empty() || !state.progress.is_empty() || all < 2 {
        return;
    }
    let text = format!("Run both networks on all {all} images");
    if ui.button(text).clicked() {
        let requests = lacking.into_iter().map(Request::DetectAll);
        state.requests.extend(requests);
    }
}

/// Draws the AP of both networks by class.
pub(super) fn ap_change(ui: &mut Ui, state: &mut ViewerState) {
    let has_boxes = state.collection.as_ref().is_some_and(|c| c.has_boxes());
    let finds = |pane: Pane| state.predictions[pane.index()].image_count() > 0;
    let is_possible = has_boxes && finds(Pane::First) && finds(Pane::Second);
    if state.compare != Compare::Network || !is_possible {
        return;
    }
    ui.horizontal(|ui| {
        ui.strong("Change of AP");
        if ui.button("Evaluate both").clicked() {
            state.requests.push(Request::EvaluateBoth);
        }
        if let Some(change) = &state.ap_change {
            let images = count(change.images(), "image");
            hint(ui, format!("over the {images} that both had processed"));
        }
    });
    let Some(change) = state.ap_change.clone() else {
        return;
    };
    let metrics = change.evaluations.each_ref().map(|found| &found.metrics);
    let means = |name: &str, values: [f64; 2]| {
        let by = values[1] - values[0];
        format!("{name} {:.3} -> {:.3} ({by:+.3})", values[0], values[1])
    };
    ui.horizontal_wrapped(|ui| {
        ui.label(means("mean AP", metrics.map(|metrics| metrics.ap)));
        ui.label(means("mean AP50", metrics.map(|metrics| metrics.ap50)));
    });
    let classes = change.classes();
    let height = ui.text_style_height(&egui::TextStyle::Body) + 4.0;
    let mut clicked = None;
    TableBuilder::new(ui)
        .id_salt("change of AP")
        .striped(true)
        .cell_layout(egui::Layout::left_to_right(egui::Align::Center))
        .max_scroll_height(300.0)
        .column(Column::exact(220.0).clip(true))
        .columns(Column::exact(92.0), 6)
        .header(height, |mut header| {
            for title in [
                "class",
                "AP, first",
                "AP, second",
                "change",
                "AP50, first",
                "AP50, second",
                "change",
            ] {
                header.col(|ui| {
                    ui.strong(title);
                });
            }
        })
        .body(|body| {
            body.rows(height, classes.len(), |mut row| {
                let class = &classes[row.index()];
                row.col(|ui| {
                    let button = egui::Button::new(&class.name).frame(false).truncate();
                    let tip = "images of this class, its worst F1 first";
                    if ui.add(button).on_hover_text(tip).clicked() {
                        clicked = Some(class.category_id);
                    }
                });
                for pair in [class.ap, class.ap50] {
                    let signed = difference(pair).map(|by| format!("{by:+.3}"));
                    let texts = [
                        number(pair[0]),
                        number(pair[1]),
                        signed.unwrap_or_else(|| number(None)),
                    ];
                    for text in texts {
                        row.col(|ui| {
                            ui.label(text);
                        });
                    }
                }
            });
        });
    let class = clicked
        .and_then(|id| (0..state.classes.len()).find(|&class| state.classes.id(class) == Some(id)));
    if class.is_some() {
        state.list(GalleryQuery {
            class,
            sort: SortBy::WorstF1,
            ..GalleryQuery::default()
        });
    }
}
