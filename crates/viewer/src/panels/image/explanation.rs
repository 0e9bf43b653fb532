//! Why the selected box or class has its score: where the evidence is, and which channels raise or lower it.

use egui::{Align, Button, Label, Layout, Response, RichText, Sense, Slider, Ui, vec2};
use egui_extras::{Column, TableBuilder, TableRow};

use crate::state::{OffGate, Pane, ScoreExplanation, ViewerState};
use crate::style::{hint, named_field};
use sedet_core::explanation::{GateEffect, LayerCam};

/// The score from which its gradient is so small that maps and effects look strong only by their scale.
const SATURATED: f32 = 0.9999;

/// Draws the button and, once it has been pressed, the section.
pub fn show(ui: &mut Ui, state: &mut ViewerState) {
    if state.networks[0].is_none() && !state.finds_boxes() {
        // Images without a network have no scores.
        return;
    }
    let is_classifier = state.networks[0].as_ref().is_some_and(|n| !n.is_detector);
    let title = if is_classifier {
        "Why this class?"
    } else {
        "Why this box?"
    };
    let is_open = state.explanation.is_open;
    let reason = state.score_to_explain().err();
    let button = ui
        .add_enabled(
            is_open || reason.is_none(),
            Button::new(title).selected(is_open),
        )
        .on_hover_text("where in the image the evidence for the score is, and in which channels")
        .on_disabled_hover_text(reason.unwrap_or_default());
    if button.clicked() {
        state.toggle_explanation();
    }
    scroll_to_opened(ui, state.explanation.is_open, &button);
    if !state.explanation.is_open {
        return;
    }
    if let Some(reason) = reason {
        hint(ui, reason);
        return;
    }
    if let Some(explanation) = state.current_explanation().cloned() {
        section(ui, state, &explanation);
        return;
    }
    let of = state.score_to_explain().ok();
    match &state.explanation.computed {
        Some((known, Err(error))) if Some(*known) == of => {
            ui.colored_label(ui.visuals().error_fg_color, error);
        }
        _ => hint(ui, "computing …"),
    }
}

/// Scrolls to the section when it has been opened: it can be below the end of the panel.
fn scroll_to_opened(ui: &Ui, is_open: bool, button: &Response) {
    let memory = ui.scope_id().with("explanation was open");
    let was_open: Option<bool> = ui.data(|data| data.get_temp(memory));
    ui.data_mut(|data| data.insert_temp(memory, is_open));
    if is_open && was_open == Some(false) {
        button.scroll_to_me(Some(Align::Min));
    }
}

fn section(ui: &mut Ui, state: &mut ViewerState, explanation: &ScoreExplanation) {
    let found = &explanation.explanation;
    let pooled = found.pooled_from.as_ref();
    let pooled = pooled.map_or_else(String::new, |level| format!(", pooled from {level}"));
    let name = label_name(state, found.label);
    ui.strong(format!("{name}: {:.4}{pooled}", found.score));
    if found.score > SATURATED {
        hint(
            ui,
            "the score is almost 1, so nothing can raise it and little lowers it: maps and effects are of tiny changes",
        );
    }
    layers(ui, state, explanation);
    if found.units.is_empty() {
        hint(ui, "no gates: the network has no SE units");
        return;
    }
    let neutral = match &explanation.statistics {
        Some(statistics) => state.means_name(statistics),
        None => "the mean of its unit in this image".to_owned(),
    };
    hint(
        ui,
        format!("effect, by the gradient: what the score would lose if the gate were {neutral}"),
    );
    switched_off(ui, state, explanation);
    let titles = ["for it", "against it"];
    for (title, effects) in titles.into_iter().zip(&explanation.strongest) {
        table(ui, state, explanation, title, effects);
    }
}

/// Returns the name of a class of the first network.
fn label_name(state: &ViewerState, label: usize) -> String {
    let network = state.networks[0].as_ref();
    let category = network.and_then(|network| network.categories.get(label));
    let classes = state
        .current_inference()
        .map_or(&[][..], |found| &found.classes);
    let class = classes.iter().find(|class| class.label == label);
    if let Some(name) = state.name_in_dataset(Pane::First, label) {
        return name.to_owned();
    }
    match (category, class) {
        (Some(category), _) => category.name.clone(),
        (None, Some(class)) => class.name.clone(),
        (None, None) => format!("class {label}"),
    }
}

/// The choice of the layer whose map is drawn over the image.
fn layers(ui: &mut Ui, state: &mut ViewerState, explanation: &ScoreExplanation) {
    let chosen = explanation.layer(state.explanation.layer.as_deref());
    let shown = chosen.filter(|_| !state.explanation.hides_map && state.gates.channel.is_none());
    ui.horizontal_wrapped(|ui| {
        // The layers of a detector fit into one row of a panel of the default width.
        ui.spacing_mut().item_spacing.x = 2.0;
        ui.label("map:");
        for (at, cam) in explanation.explanation.cams.iter().enumerate() {
            let layer = Button::selectable(shown == Some(at), &cam.layer);
            let layer = ui
                .add_enabled(cam.largest() > 0.0, layer)
                .on_disabled_hover_text(no_part(explanation, cam));
            if layer.clicked() {
                let choice = &mut state.explanation;
                choice.layer = Some(cam.layer.clone());
                choice.hides_map = shown == Some(at);
                state.gates.channel = None;
            }
        }
    });
    let slider = Slider::new(&mut state.gates.opacity, 0.0..=1.0).show_value(false);
    named_field(ui, "opacity of the map", |ui| ui.add(slider));
}

/// Says why a layer has no map.
fn no_part(explanation: &ScoreExplanation, cam: &LayerCam) -> String {
    match &explanation.explanation.pooled_from {
        Some(level) if cam.layer.starts_with('P') && *level != cam.layer => {
            format!("no part in the score: the box is pooled from {level}")
        }
        _ => "no evidence for the score in this layer".to_owned(),
    }
}

/// The score with the channels that are switched off.
fn switched_off(ui: &mut Ui, state: &mut ViewerState, explanation: &ScoreExplanation) {
    ui.horizontal_wrapped(|ui| {
        ui.label("off means:");
        for (gate, name) in [(OffGate::Zero, "0"), (OffGate::Neutral, "neutral")] {
            let is_chosen = state.explanation.off_gate == gate;
            let choice = ui.selectable_value(&mut state.explanation.off_gate, gate, name);
            choice.widget_info(|| {
                let label = format!("off means {name}");
                egui::WidgetInfo::selected(egui::Role::Button, true, is_chosen, label)
            });
        }
        if !state.explanation.off.is_empty() && ui.button("all on").clicked() {
            state.explanation.off.clear();
        }
    });
    if state.explanation.off.is_empty() {
        // These lines have their place from the beginning: the rows below must not move under the pointer.
        hint(ui, "off: nothing");
        ui.strong(format!("{:.3}", explanation.explanation.score));
        return;
    }
    let off = state.explanation.off.iter();
    let off: Vec<String> = off.map(|&off| explanation.channel_name(off)).collect();
    let off = RichText::new(format!("off: {}", off.join(", ")))
        .weak()
        .size(11.0);
    ui.add(Label::new(off).truncate());
    let score = explanation.explanation.score;
    match state.score_without().map(|without| without.score) {
        Some(Some(without)) => {
            ui.strong(change_text(score, without));
        }
        Some(None) => hint(ui, "the score could not be computed; see the notices"),
        None => hint(ui, "computing …"),
    }
}

/// Formats a change of the score, with three digits where they show it.
fn change_text(score: f32, without: f32) -> String {
    let change = without - score;
    if change == 0.0 || change.abs() >= 0.0005 {
        format!("{score:.3} -> {without:.3} ({change:+.3})")
    } else {
        format!("{score:.3} -> {without:.3} ({change:+.1e})")
    }
}

/// A row for each channel.
fn table(
    ui: &mut Ui,
    state: &mut ViewerState,
    explanation: &ScoreExplanation,
    title: &str,
    effects: &[GateEffect],
) {
    let height = ui.text_style_height(&egui::TextStyle::Body) + 4.0;
    let all = explanation.strongest.iter().flatten();
    let largest = all.fold(f32::MIN_POSITIVE, |largest, found| {
        largest.max(found.effect.abs())
    });
    TableBuilder::new(ui)
        .id_salt(title)
        .striped(true)
        .vscroll(false)
        .cell_layout(Layout::left_to_right(Align::Center))
        .sense(Sense::click())
        .column(Column::exact(86.0).clip(true))
        .column(Column::exact(40.0))
        .column(Column::exact(66.0))
        .column(Column::remainder().at_least(8.0).clip(true))
        .column(Column::exact(42.0))
        .header(height, |mut header| {
            for title in [title, "gate", "effect", "", "off"] {
                header.col(|ui| {
                    ui.strong(title);
                });
            }
        })
        .body(|body| {
            body.rows(height, effects.len(), |mut row| {
                let found = effects[row.index()];
                cells(&mut row, state, explanation, &found, largest);
            });
        });
    if effects.is_empty() {
        hint(ui, "none");
    }
}

fn cells(
    row: &mut TableRow,
    state: &mut ViewerState,
    explanation: &ScoreExplanation,
    found: &GateEffect,
    largest: f32,
) {
    let channel = (found.unit, found.channel);
    let name = explanation.channel_name(channel);
    let is_shown = state.gates.block == found.unit && state.gates.channel == Some(found.channel);
    row.set_selected(is_shown);
    let mut is_clicked = false;
    row.col(|ui| {
        ui.style_mut().wrap_mode = Some(egui::TextWrapMode::Truncate);
        let response = ui.selectable_label(is_shown, &name);
        response.widget_info(|| {
            let label = format!(
                "{name}: gate {:.3}, effect {:+.2e}",
                found.gate, found.effect
            );
            egui::WidgetInfo::selected(egui::Role::Button, true, is_shown, label)
        });
        is_clicked = response.clicked();
        response.on_hover_text("draw the feature map of this channel over the image");
    });
    row.col(|ui| {
        ui.label(format!("{:.3}", found.gate));
    });
    row.col(|ui| {
        ui.label(format!("{:+.2e}", found.effect));
    });
    row.col(|ui| {
        let whole = ui.available_rect_before_wrap();
        let width = whole.width() * (found.effect.abs() / largest).clamp(0.0, 1.0);
        let bar = egui::Rect::from_min_size(whole.min, vec2(width, whole.height()));
        let fill = ui.visuals().weak_text_color();
        ui.painter()
            .rect_filled(bar.shrink2(vec2(0.0, 4.0)), 0.0, fill);
    });
    row.col(|ui| {
        let mut is_off = state.explanation.off.contains(&channel);
        let check = ui.checkbox(&mut is_off, RichText::new(""));
        check.widget_info(|| {
            let label = format!("{name} off");
            egui::WidgetInfo::selected(egui::Role::CheckBox, true, is_off, label)
        });
        if check.changed() {
            state.explanation.switch(channel, is_off);
        }
    });
    if is_clicked || row.response().clicked() {
        state.gates.block = found.unit;
        state.gates.channel = (!is_shown).then_some(found.channel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_a_certain_score_is_more_than_zero() {
        assert_eq!(change_text(0.77, 0.5828), "0.770 -> 0.583 (-0.187)");
        assert_eq!(change_text(0.25, 0.5), "0.250 -> 0.500 (+0.250)");
        assert_eq!(change_text(0.9999, 0.99988), "1.000 -> 1.000 (-2.0e-5)");
        assert_eq!(change_text(1.0, 1.0), "1.000 -> 1.000 (+0.000)");
    }
}
