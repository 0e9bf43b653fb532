//! The curves of training runs, updated as they write them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use egui::containers::menu::{MenuButton, MenuConfig};
use egui::{Id, Key, PopupCloseBehavior, ScrollArea, Slider, TextEdit, Ui};

use super::line_chart::{ChartLine, LineChart, hidden_lines};
use super::{Panel, PanelContext};
use crate::chrome::open_menu::start_page;
use crate::state::export::{Export, ExportFiles};
use crate::state::{PanelId, Request, RunLog, ViewerState, run_name, smoothed, typed_path};
use crate::style::{class_on, count, hint, named_field, named_text, part_of_window};
use sedet_core::render::{Series, TrainingChart, TrainingCurves, save_training_curves};
use sedet_core::train::run_dir::RunDir;

/// Height of a plot in points.
const PLOT: f32 = 240.0;

/// The curves of training runs.
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
    let runs: Vec<&RunLog> = std::iter::once(run).chain(&state.compared_runs).collect();
    files.text("training.csv", &RunLog::to_csv(&runs))?;
    let smoothing = state.settings.smoothing;
    let charts = charts(state).into_iter().map(|chart| {
        let curves = chart.curves.into_iter();
        let shown = curves.filter(|curve| {
            let line = (chart.title.clone(), curve.name.clone());
            !state.hidden_curves.contains(&line)
        });
        let lines = shown.map(|curve| Series {
            color: curve.color,
            points: smoothed(&curve.points, smoothing)
                .into_iter()
                .map(|[x, y]| (x, y))
                .collect(),
            name: curve.name,
        });
        TrainingChart {
            lines: lines.collect(),
            title: chart.title,
        }
    });
    let curves = TrainingCurves {
        charts: charts.collect(),
        log: state.settings.log_axes,
        marker: marker(state),
    };
    files.figure("training", |path| save_training_curves(&curves, path))
}

/// What a run logs at its optimizer steps beside the losses.
const PROGRESS: [&str; 4] = [
    "learning_rate",
    "gradient_norm",
    "images_per_second",
    "data_wait",
];

/// A line of a chart.
struct Curve {
    name: String,
    /// The color, as the number of a class.
    color: usize,
    points: Vec<[f64; 2]>,
}

/// A chart with its lines.
struct Chart {
    title: String,
    curves: Vec<Curve>,
}

/// Returns the charts: the losses, the metrics and each value of the progress of one run; of several, one chart
/// for each value, with a line for each run.
fn charts(state: &ViewerState) -> Vec<Chart> {
    let Some(run) = &state.run else {
        return Vec::new();
    };
    if state.compared_runs.is_empty() {
        let chart = |title: &str, names: Vec<&str>| Chart {
            title: title.to_owned(),
            curves: curves_of(run, names),
        };
        let joined = [
            chart("losses", names(run, Group::Losses).collect()),
            chart("metrics", names(run, Group::Metrics).collect()),
        ];
        let progress = PROGRESS.map(|name| chart(name, vec![name]));
        let all = joined.into_iter().chain(progress);
        return all.filter(|chart| !chart.curves.is_empty()).collect();
    }
    let runs: Vec<&RunLog> = std::iter::once(run).chain(&state.compared_runs).collect();
    let titles = titles(&runs);
    let groups = [Group::Losses, Group::Metrics].into_iter();
    let ordered = groups.flat_map(|group| {
        let names = runs.iter().flat_map(move |run| names(run, group));
        names.collect::<BTreeSet<_>>()
    });
    let charts = ordered.chain(PROGRESS).map(|name| {
        let lines = runs.iter().zip(&titles).enumerate();
        let lines = lines.filter_map(|(color, (run, title))| {
            Some(Curve {
                name: title.clone(),
                color,
                points: points(run, name)?,
            })
        });
        Chart {
            title: name.to_owned(),
            curves: lines.collect(),
        }
    });
    charts.filter(|chart| !chart.curves.is_empty()).collect()
}

fn curves_of(run: &RunLog, names: Vec<&str>) -> Vec<Curve> {
    let found = names.into_iter();
    let found = found.filter_map(|name| Some((name, points(run, name)?)));
    let curves = found.enumerate().map(|(color, (name, points))| Curve {
        name: name.to_owned(),
        color,
        points,
    });
    curves.collect()
}

/// The values that one chart has of a single run.
#[derive(Clone, Copy, PartialEq)]
enum Group {
    Losses,
    Metrics,
}

/// Returns the names of a group: the total loss and its parts, whatever their names are, and the losses of
/// evaluations; or their metrics.
fn names(run: &RunLog, group: Group) -> impl Iterator<Item = &str> {
    let train = run.train.keys().map(String::as_str);
    let train = train.filter(move |name| group == Group::Losses && !PROGRESS.contains(name));
    let evaluations = run.eval.keys().map(String::as_str);
    let is_loss = |name: &str| name.contains("loss");
    train.chain(evaluations.filter(move |name| is_loss(name) == (group == Group::Losses)))
}

/// Returns the points of a value that a run has logged. A metric of -1 is undefined.
fn points(run: &RunLog, name: &str) -> Option<Vec<[f64; 2]>> {
    if let Some(points) = run.train.get(name) {
        return Some(points.clone());
    }
    let points = run.eval.get(name)?.iter().copied();
    let defined: Vec<_> = points.filter(|point| point[1] != -1.0).collect();
    (!defined.is_empty()).then_some(defined)
}

/// Returns the names of runs: those of their directories, or the whole paths where two are equal.
fn titles(runs: &[&RunLog]) -> Vec<String> {
    let names: Vec<String> = runs.iter().map(|run| run.name()).collect();
    let of = |(at, run): (usize, &&RunLog)| {
        let equal = names.iter().filter(|name| **name == names[at]);
        match equal.count() {
            1 => names[at].clone(),
            _ => run.directory.display().to_string(),
        }
    };
    runs.iter().enumerate().map(of).collect()
}

/// Returns the iteration of the weights that are shown.
fn marker(state: &ViewerState) -> Option<f64> {
    let run = state.run_with_kept_weights()?;
    let best = || run.best().map(|(_, iteration, _)| iteration);
    let iteration = state.kept_iteration.or_else(best)?;
    Some(iteration as f64)
}

fn show(ui: &mut Ui, state: &mut ViewerState) {
    let Some(run) = &state.run else {
        start_page(
            ui,
            state,
            "No training run is open",
            "Open the directory of a run; the curves of a run in progress are updated.",
        );
        return;
    };
    let directory = run.directory.display().to_string();
    let bad_lines = run.bad_lines;
    let is_empty = run.train.is_empty() && run.eval.is_empty();
    let progress = progress_line(run);
    ui.horizontal_wrapped(|ui| {
        ui.strong(directory);
        runs_menu(ui, state);
        let settings = &mut state.settings;
        let smoothing = Slider::new(&mut settings.smoothing, 0.0..=0.99);
        named_field(ui, "smoothing", |ui| ui.add(smoothing));
        ui.checkbox(&mut settings.log_axes[0], "log iterations");
        ui.checkbox(&mut settings.log_axes[1], "log values");
    });
    if bad_lines > 0 {
        let lines = count(bad_lines, "line");
        hint(ui, format!("{lines} of events.jsonl cannot be read"));
    }
    if is_empty {
        hint(ui, "the run has not written any events yet");
    }
    if let Some(progress) = progress {
        hint(ui, progress);
    }
    let (charts, marker) = (charts(state), marker(state));
    state.hidden_curves.clear();
    ScrollArea::vertical()
        .auto_shrink([false, false])
        .show(ui, |ui| {
            let columns = match ui.available_width() {
                width if width > 2200.0 => 3,
                width if width > 900.0 => 2,
                _ => 1,
            };
            ui.columns(columns, |columns| {
                let count = columns.len();
                for (at, chart) in charts.into_iter().enumerate() {
                    draw(&mut columns[at % count], chart, marker, state);
                }
            });
        });
}

/// Returns the iteration that a run has reached, and its best score.
fn progress_line(run: &RunLog) -> Option<String> {
    let curves = run.train.values().chain(run.eval.values());
    let last = curves.filter_map(|curve| curve.last());
    let last = last.map(|point| point[0]).reduce(f64::max)?;
    let best = run.best().map(|(name, iteration, value)| {
        format!(", best {name} {value:.4} at iteration {iteration}")
    });
    Some(format!("iteration {last}{}", best.unwrap_or_default()))
}

/// Draws the menu of the runs whose curves are shown, too.
fn runs_menu(ui: &mut Ui, state: &mut ViewerState) {
    let label = match state.compared_runs.len() {
        0 => "Compare runs".to_owned(),
        more => format!("Compare runs ({more} more)"),
    };
    let config = MenuConfig::new().close_behavior(PopupCloseBehavior::CloseOnClickOutside);
    MenuButton::new(label).config(config).ui(ui, |ui| {
        let compared = state.compared_runs.iter().map(|run| &run.directory);
        let beside = state.run.iter().flat_map(|run| &run.neighbors);
        let listed: BTreeSet<PathBuf> = beside.chain(compared).cloned().collect();
        if listed.is_empty() {
            hint(ui, "no other run is in the same directory");
        }
        ScrollArea::vertical().max_height(320.0).show(ui, |ui| {
            for directory in listed {
                let mut runs = state.compared_runs.iter();
                let mut shown = runs.any(|run| run.directory == directory);
                let choice = ui.checkbox(&mut shown, run_name(&directory));
                let choice = choice.on_hover_text(directory.display().to_string());
                if choice.changed() {
                    state.requests.push(if shown {
                        Request::CompareRun(directory)
                    } else {
                        Request::ForgetRun(directory)
                    });
                }
            }
        });
        ui.separator();
        run_field(ui, state);
    });
}

/// Draws a field for the path of a run elsewhere.
fn run_field(ui: &mut Ui, state: &mut ViewerState) {
    let memory = Id::unique("compared run");
    let mut path: String = ui.data(|data| data.get_temp(memory)).unwrap_or_default();
    let field = TextEdit::singleline(&mut path).hint_text("directory of another run");
    let field = ui.add(field);
    field.widget_info(|| named_text("Other run"));
    let entered = field.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
    let add = ui.button("Add").clicked() || entered;
    if add && !path.trim().is_empty() {
        let directory = PathBuf::from(typed_path(&path));
        if RunDir::is_run(&directory) {
            state.requests.push(Request::CompareRun(directory));
            path.clear();
        } else {
            let directory = directory.display();
            state.report_error(format!("{directory}: not the directory of a training run"));
        }
    }
    ui.data_mut(|data| data.insert_temp(memory, path));
}

fn draw(ui: &mut Ui, chart: Chart, marker: Option<f64>, state: &mut ViewerState) {
    let smoothing = state.settings.smoothing;
    let lines = chart.curves.into_iter().map(|curve| ChartLine {
        name: curve.name,
        points: smoothed(&curve.points, smoothing),
        color: class_on(ui, curve.color),
        width: 1.5,
        band: None,
    });
    let lines = lines.collect();
    ui.strong(&chart.title);
    let shown = LineChart {
        name: &chart.title,
        x: "iteration",
        height: part_of_window(ui, PLOT, 0.27),
        log: state.settings.log_axes,
        marker,
        lines,
        ..LineChart::default()
    };
    shown.show(ui);
    let hidden = hidden_lines(ui, &chart.title).into_iter();
    let hidden = hidden.map(|line| (chart.title.clone(), line));
    state.hidden_curves.extend(hidden);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_runs_have_a_chart_for_each_value_and_a_line_for_each_run() {
        let curves = |values: &[(&str, f64)]| {
            let curves = values.iter();
            curves
                .map(|(name, value)| ((*name).to_owned(), vec![[1.0, *value]]))
                .collect()
        };
        let run = |directory: &str, train: &[(&str, f64)], eval: &[(&str, f64)]| {
            let mut run = RunLog::new(directory.into());
            (run.train, run.eval) = (curves(train), curves(eval));
            run
        };
        let mut state = ViewerState {
            run: Some(run(
                "a/x",
                &[("learning_rate", 0.1), ("loss", 2.0), ("loss_rpn_box", 1.0)],
                &[("val_loss", 3.0), ("AP", 0.5), ("APs", -1.0)],
            )),
            ..ViewerState::default()
        };
        let shown = |state: &ViewerState| -> Vec<(String, Vec<String>)> {
            let charts = charts(state).into_iter();
            let lines = |chart: Chart| chart.curves.into_iter().map(|curve| curve.name).collect();
            charts
                .map(|chart| (chart.title.clone(), lines(chart)))
                .collect()
        };
        let lines = |title: &str, lines: &[&str]| {
            let lines = lines.iter().map(|line| (*line).to_owned());
            (title.to_owned(), lines.collect())
        };
        assert_eq!(
            shown(&state),
            [
                lines("losses", &["loss", "loss_rpn_box", "val_loss"]),
                lines("metrics", &["AP"]),
                lines("learning_rate", &["learning_rate"]),
            ]
        );
        state.compared_runs = vec![
            run("b/x", &[("loss", 2.5)], &[("AP", 0.4)]),
            run("b/y", &[("loss", 2.5)], &[]),
        ];
        assert_eq!(
            shown(&state),
            [
                lines("loss", &["a/x", "b/x", "y"]),
                lines("loss_rpn_box", &["a/x"]),
                lines("val_loss", &["a/x"]),
                lines("AP", &["a/x", "b/x"]),
                lines("learning_rate", &["a/x"]),
            ]
        );
    }
}
