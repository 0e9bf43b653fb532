//! The curves of a training run, updated as it writes them.

use egui::{ScrollArea, Slider, Ui};

use super::line_chart::{ChartLine, LineChart};
use super::{Panel, PanelContext};
use crate::state::export::{Export, ExportFiles};
use crate::state::{PanelId, RunLog, ViewerState, smoothed};
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
        losses: series(losses(run)),
        metrics: series(metrics(run)),
    };
    files.figure("training", |path| save_training_curves(&curves, path))
}

fn series<'a>(curves: impl Iterator<Item = Curve<'a>>) -> Vec<Series> {
    curves
        .map(|(name, points)| Series {
            name: name.clone(),
            points: points.iter().map(|[x, y]| (*x, *y)).collect(),
        })
        .collect()
}

/// What a run logs at its optimizer steps beside the losses.
const PROGRESS: [&str; 4] = [
    "learning_rate",
    "gradient_norm",
    "images_per_second",
    "data_wait",
];

/// A curve with its name.
type Curve<'a> = (&'a String, &'a Vec<[f64; 2]>);

/// Returns the total loss, its parts, whatever their names are, and the losses of evaluations.
fn losses(run: &RunLog) -> impl Iterator<Item = Curve<'_>> {
    let train = run.train.iter();
    let train = train.filter(|(name, _)| !PROGRESS.contains(&name.as_str()));
    train.chain(run.eval.iter().filter(|(name, _)| is_loss(name)))
}

/// Returns the metrics of the evaluations.
fn metrics(run: &RunLog) -> impl Iterator<Item = Curve<'_>> {
    run.eval.iter().filter(|(name, _)| !is_loss(name))
}

/// Returns whether a value of an evaluation is a loss.
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
                curves(&mut columns[0], "losses", losses(run), smoothing);
                curves(&mut columns[last], "metrics", metrics(run), smoothing);
                for (at, name) in PROGRESS.into_iter().enumerate() {
                    let column = &mut columns[at % (last + 1)];
                    let curve = run.train.get_key_value(name);
                    curves(column, name, curve.into_iter(), smoothing);
                }
            });
        });
}

fn curves<'a>(ui: &mut Ui, title: &str, curves: impl Iterator<Item = Curve<'a>>, smoothing: f64) {
    let lines = curves.enumerate().map(|(at, (name, points))| ChartLine {
        name: name.clone(),
        points: smoothed(points, smoothing),
        color: class_on(ui, at),
        width: 1.5,
        band: None,
    });
    let lines: Vec<ChartLine> = lines.collect();
    if lines.is_empty() {
        return;
    }
    ui.strong(title);
    let chart = LineChart {
        name: title,
        x: "iteration",
        y: "",
        height: PLOT,
        include: &[],
        lines,
    };
    chart.show(ui);
}
