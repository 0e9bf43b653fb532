//! The curves of a training run, updated as it writes them.

use egui::{ScrollArea, Slider, Ui};
use egui_plot::{Legend, Line, Plot, PlotPoints};

use super::{Panel, PanelContext};
use crate::state::export::{Export, ExportFiles};
use crate::state::{Curves, PanelId, ViewerState, smoothed};
use crate::style::{class_on, count, empty_page, hint};
use sedet_core::render::{Series, TrainingCurves, save_training_curves};

/// Height of a plot in points.
const PLOT: f32 = 240.0;

/// The curves of a training run.
pub(crate) struct TrainingPanel;

impl Panel for TrainingPanel {
    fn id(&self) -> PanelId {
        PanelId::TRAINING
    }

    fn show(&self, ui: &mut Ui, context: &mut PanelContext<'_>) {
        show(ui, context.state);
    }

    fn exports(&self) -> &'static [Export] {
        EXPORTS
    }
}

static EXPORTS: &[Export] = &[Export {
    name: "Curves (PNG, SVG, CSV)",
    write: export_curves,
}];

fn export_curves(state: &ViewerState, files: &mut ExportFiles) -> Result<(), String> {
    let run = state.run.as_ref().ok_or("no training run is open")?;
    files.text("training.csv", &run.to_csv())?;
    let curves = TrainingCurves {
        losses: series(&run.train, is_loss),
        metrics: series(&run.eval, |name| !is_loss(name)),
    };
    files.figure("training", |path| save_training_curves(&curves, path))
}

fn series(curves: &Curves, include: impl Fn(&str) -> bool) -> Vec<Series> {
    let curves = curves.iter().filter(|(name, _)| include(name));
    curves
        .map(|(name, points)| Series {
            name: name.clone(),
            points: points.iter().map(|[x, y]| (*x, *y)).collect(),
        })
        .collect()
}

fn is_loss(name: &str) -> bool {
    name.contains("loss")
}

fn show(ui: &mut Ui, state: &mut ViewerState) {
    let Some(run) = &state.run else {
        empty_page(
            ui,
            "No training run is open",
            "Open the directory of a run; the curves of a run in progress are updated.",
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
            format!(
                "{} of events.jsonl cannot be read",
                count(run.bad_lines, "line")
            ),
        );
    }
    if run.train.is_empty() && run.eval.is_empty() {
        hint(ui, "the run has not written any events yet");
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
            ui.columns(columns, |columns| {
                let last = columns.len() - 1;
                curves(&mut columns[0], "losses", &run.train, smoothing, is_loss);
                let is_metric = |name: &str| !is_loss(name);
                curves(
                    &mut columns[last],
                    "metrics",
                    &run.eval,
                    smoothing,
                    is_metric,
                );
                let only = |included: &'static str| move |name: &str| name == included;
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
    include: impl Fn(&str) -> bool,
) {
    let curves: Vec<_> = curves.iter().filter(|(name, _)| include(name)).collect();
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
