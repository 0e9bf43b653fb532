//! The curves of a run, as they grow.

use egui::{ScrollArea, Slider, Ui};
use egui_plot::{Legend, Line, Plot, PlotPoints};

use crate::state::{Curves, ViewerState, smoothed};
use crate::style::{class_on, empty_page, hint};

const PLOT: f32 = 240.0;

/// Draw the page.
pub fn show(ui: &mut Ui, state: &mut ViewerState) {
    let Some(run) = &state.run else {
        empty_page(
            ui,
            "No run is open",
            "Open the directory of a training run, running or done; its curves grow with it.",
        );
        return;
    };
    ui.horizontal(|ui| {
        ui.strong(run.directory.display().to_string());
        ui.add(Slider::new(&mut state.settings.smoothing, 0.0..=0.99).text("smoothing"));
    });
    if run.bad_lines > 0 {
        hint(
            ui,
            format!("{} lines of events.jsonl can't be read", run.bad_lines),
        );
    }
    if run.train.is_empty() && run.eval.is_empty() {
        hint(ui, "nothing is written yet");
        return;
    }
    if let Some(last) = run
        .train
        .values()
        .filter_map(|c| c.last())
        .map(|p| p[0])
        .reduce(f64::max)
    {
        let best = run
            .eval
            .iter()
            .filter(|(name, _)| name.as_str() == "AP" || *name == "top1");
        let best = best.filter_map(|(name, curve)| {
            let best = curve.iter().map(|p| p[1]).reduce(f64::max)?;
            Some(format!(", best {name} {best:.4}"))
        });
        hint(ui, format!("iteration {last}{}", best.collect::<String>()));
    }
    let smoothing = state.settings.smoothing;
    ScrollArea::vertical()
        .auto_shrink([false, false])
        .show(ui, |ui| {
            let columns = if ui.available_width() > 900.0 { 2 } else { 1 };
            let is_loss = |name: &str| name.contains("loss");
            ui.columns(columns, |columns| {
                let last = columns.len() - 1;
                curves(&mut columns[0], "losses", &run.train, smoothing, is_loss);
                let shares = |name: &str| !is_loss(name);
                curves(&mut columns[last], "measured", &run.eval, smoothing, shares);
                let only = |wanted: &'static str| move |name: &str| name == wanted;
                for (at, name) in [
                    "learning_rate",
                    "gradient_norm",
                    "images_per_second",
                    "data_wait",
                ]
                .into_iter()
                .enumerate()
                {
                    let column = &mut columns[at % (last + 1)];
                    curves(column, name, &run.train, smoothing, only(name));
                }
            });
        });
}

fn curves(
    ui: &mut Ui,
    title: &str,
    curves: &Curves,
    smoothing: f64,
    wanted: impl Fn(&str) -> bool,
) {
    let curves: Vec<_> = curves.iter().filter(|(name, _)| wanted(name)).collect();
    if curves.is_empty() {
        return;
    }
    ui.strong(title);
    let lines: Vec<Line> = curves
        .into_iter()
        .enumerate()
        .map(|(at, (name, points))| {
            let points = PlotPoints::from(smoothed(points, smoothing));
            Line::new(name.clone(), points)
                .color(class_on(ui, at))
                .width(1.5)
        })
        .collect();
    Plot::new(title.to_owned())
        .height(PLOT)
        .legend(Legend::default())
        .x_axis_label("iteration")
        .allow_scroll(false)
        .show(ui, |plot| {
            for line in lines {
                plot.line(line);
            }
        });
}
