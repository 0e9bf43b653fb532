//! The bar with a slider over the weights that the open run has kept.

use egui::{Role, Slider, Ui, WidgetInfo};

use crate::state::ViewerState;

/// Metrics that the bar names where the run has them; the others are in its tooltip.
const SHOWN: [&str; 4] = ["AP", "AP50", "top1", "top5"];

/// Draws the bar if a run with kept weights is open.
pub fn show(ui: &mut Ui, state: &mut ViewerState) {
    let Some(run) = state.run_with_kept_weights() else {
        return;
    };
    let position = state.weights_position();
    let last = run.checkpoints.len();
    let kept = run.checkpoints.get(position);
    let iteration = match kept {
        Some((iteration, _)) => Some(*iteration),
        None => run.best().map(|(_, iteration, _)| iteration),
    };
    let title = match (kept, iteration) {
        (Some((iteration, _)), _) => format!("iteration {iteration}, {} of {last}", position + 1),
        (None, Some(iteration)) => format!("best, iteration {iteration}"),
        (None, None) => "best".to_owned(),
    };
    let values = |is_shown: &dyn Fn(&str) -> bool| -> Vec<String> {
        let metrics = iteration.into_iter().flat_map(|at| run.metrics_at(at));
        let metrics = metrics.filter(|(name, _)| is_shown(name));
        metrics
            .map(|(name, value)| format!("{name} {value:.4}"))
            .collect()
    };
    let shown = values(&|name| SHOWN.contains(&name)).join(", ");
    let all = values(&|_| true).join("\n");
    let is_idle = state.progress.is_empty();
    let mut chosen = position;
    ui.horizontal(|ui| {
        ui.label("Weights");
        ui.add_enabled_ui(is_idle, |ui| {
            let button = ui.add_enabled(position > 0, egui::Button::new("◀"));
            button.widget_info(|| named_button("Previous weights"));
            if button
                .on_hover_text("the weights kept before (Shift+←)")
                .clicked()
            {
                chosen = position.saturating_sub(1);
            }
            let slider = Slider::new(&mut chosen, 0..=last).show_value(false);
            let slider = ui.add(slider);
            slider.widget_info(|| WidgetInfo::slider(is_idle, chosen as f64, "Weights of the run"));
            slider
                .on_disabled_hover_text("the running task ends with these weights; Esc cancels it");
            let button = ui.add_enabled(position < last, egui::Button::new("▶"));
            button.widget_info(|| named_button("Next weights"));
            if button
                .on_hover_text("the weights kept after (Shift+→); the last are the best")
                .clicked()
            {
                chosen = position + 1;
            }
        });
        ui.strong(title);
        let values = ui.label(shown);
        if !all.is_empty() {
            values.on_hover_text(all);
        }
    });
    if chosen != position {
        state.choose_weights(chosen);
    }
}

fn named_button(name: &str) -> WidgetInfo {
    WidgetInfo::labeled(Role::Button, true, name)
}
