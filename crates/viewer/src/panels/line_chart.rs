//! A line chart with its legend above the plot and the values under the pointer.

use std::collections::BTreeSet;

use egui::{Color32, Id, PopupAnchor, RichText, Tooltip, Ui};
use egui_plot::{FilledArea, Line, LineStyle, Plot, PlotPoint, PlotPoints, Points, VLine};

use super::axes;
use crate::style::{count, hint};

/// The maximum number of values in a tooltip.
const MAX_VALUES: usize = 24;
/// The radius of the only point of a line, in points.
const DOT: f32 = 3.5;

/// A line of a [`LineChart`].
pub(crate) struct ChartLine {
    /// The name in the legend and in the values under the pointer.
    pub name: String,
    /// The points, by ascending x.
    pub points: Vec<[f64; 2]>,
    /// The color of line and name.
    pub color: Color32,
    /// The width of the line in points.
    pub width: f32,
    /// Half the height of a band around each point.
    pub band: Option<Vec<f64>>,
}

/// A line chart.
#[derive(Default)]
pub(crate) struct LineChart<'a> {
    /// Identifies the chart, also for screen readers.
    pub name: &'a str,
    /// The quantity of the x axis.
    pub x: &'static str,
    /// The quantity of the y axis; may be empty.
    pub y: &'static str,
    /// The height in points.
    pub height: f32,
    /// Values that the axes contain in any case.
    pub include: &'static [[f64; 2]],
    /// Whether the axes of x and y are logarithmic. Values that are not above 0 are then left out, and counted.
    pub log: [bool; 2],
    /// The x of a vertical line.
    pub marker: Option<f64>,
    /// The lines, the first below the others.
    pub lines: Vec<ChartLine>,
}

impl ChartLine {
    /// Returns the point whose x is nearest.
    fn nearest(&self, x: f64) -> Option<[f64; 2]> {
        let after = self.points.partition_point(|point| point[0] < x);
        let around = [after.checked_sub(1), Some(after)];
        let around = around.into_iter().flatten();
        around
            .filter_map(|at| self.points.get(at).copied())
            .min_by(|a, b| (a[0] - x).abs().total_cmp(&(b[0] - x).abs()))
    }
}

/// Returns whether a logarithmic axis has a place for a point.
pub(crate) fn is_on_axes(log: [bool; 2], [x, y]: [f64; 2]) -> bool {
    (!log[0] || x > 0.0) && (!log[1] || y > 0.0)
}

/// Returns the place of a value on an axis.
fn on_axis(log: bool, value: f64) -> f64 {
    if log { value.log10() } else { value }
}

/// Returns the value at a place on an axis.
fn value_at(log: bool, place: f64) -> f64 {
    if log { 10f64.powf(place) } else { place }
}

/// Returns the names of the lines of a chart that its legend hides.
pub(crate) fn hidden_lines(ui: &Ui, chart: &str) -> BTreeSet<String> {
    let known = ui.data(|data| data.get_temp::<BTreeSet<String>>(memory(chart)));
    known.unwrap_or_default()
}

fn memory(chart: &str) -> Id {
    Id::unique(("hidden lines", chart))
}

impl LineChart<'_> {
    /// Draws the chart and returns the position of a click in it.
    pub fn show(self, ui: &mut Ui) -> Option<PlotPoint> {
        let hidden = self.legend(ui);
        let log = self.log;
        let left_out = self.lines.iter().flat_map(|line| &line.points);
        let left_out = left_out.filter(|point| !is_on_axes(log, **point)).count();
        if left_out > 0 {
            hint(
                ui,
                format!(
                    "{} at or below 0 not on the logarithmic axis",
                    count(left_out, "value")
                ),
            );
        }
        let place = |[x, y]: [f64; 2]| [on_axis(log[0], x), on_axis(log[1], y)];
        let plot = Plot::new(self.name)
            .height(self.height)
            .allow_scroll(false)
            .x_axis_label(self.x)
            .y_axis_label(self.y)
            .label_formatter(|_| None);
        let mut plot = axes::with_marks(plot, log);
        for point in self.include.iter().filter(|point| is_on_axes(log, **point)) {
            let [x, y] = place(*point);
            plot = plot.include_x(x).include_y(y);
        }
        let marker = self.marker.filter(|x| !log[0] || *x > 0.0);
        let marker_color = ui.visuals().text_color();
        let response = plot.show(ui, |plot| {
            for line in self
                .lines
                .iter()
                .filter(|line| !hidden.contains(&line.name))
            {
                if let Some(band) = &line.band {
                    let xs: Vec<f64> = line.points.iter().map(|point| point[0]).collect();
                    let edge = |sign: f64| -> Vec<f64> {
                        let points = line.points.iter().zip(band);
                        points.map(|(point, half)| point[1] + sign * half).collect()
                    };
                    let fill = line.color.gamma_multiply(0.2);
                    plot.add(FilledArea::new("", &xs, &edge(-1.0), &edge(1.0)).fill_color(fill));
                }
                let points = line.points.iter().copied();
                let points = points.filter(|point| is_on_axes(log, *point)).map(place);
                let points: Vec<[f64; 2]> = points.collect();
                if let [point] = points[..] {
                    // A line of one point would not be seen.
                    let dot = Points::new("", vec![point]).radius(DOT).color(line.color);
                    plot.points(dot);
                }
                let points = PlotPoints::from(points);
                plot.line(Line::new("", points).color(line.color).width(line.width));
            }
            if let Some(x) = marker {
                let marker = VLine::new("", on_axis(log[0], x)).color(marker_color);
                plot.vline(marker.width(1.5).style(LineStyle::dashed_dense()));
            }
            let pointer = plot.pointer_coordinate()?;
            Some(PlotPoint::new(
                value_at(log[0], pointer.x),
                value_at(log[1], pointer.y),
            ))
        });
        let pointer = response
            .inner
            .filter(|_| response.response.contains_pointer());
        response
            .response
            .widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, self.name));
        if let Some(at) = pointer {
            let layer = response.response.layer_id;
            let anchor = PopupAnchor::Pointer;
            Tooltip::always_open(ui.ctx().clone(), layer, response.response.id, anchor)
                .gap(12.0)
                .show(|ui| self.values(ui, at.x, &hidden));
        }
        pointer.filter(|_| response.response.clicked())
    }

    /// Draws the names of the lines, which show and hide them, and returns the hidden ones.
    fn legend(&self, ui: &mut Ui) -> BTreeSet<String> {
        let mut hidden = hidden_lines(ui, self.name);
        ui.horizontal_wrapped(|ui| {
            for line in &self.lines {
                let is_hidden = hidden.contains(&line.name);
                let mark = RichText::new("■").color(if is_hidden {
                    ui.visuals().weak_text_color()
                } else {
                    line.color
                });
                ui.label(mark);
                let toggle = ui.selectable_label(!is_hidden, &line.name);
                if toggle.on_hover_text("show or hide this line").clicked() {
                    if is_hidden {
                        hidden.remove(&line.name);
                    } else {
                        hidden.insert(line.name.clone());
                    }
                    let changed = hidden.clone();
                    ui.data_mut(|data| data.insert_temp(memory(self.name), changed));
                }
            }
        });
        hidden
    }

    /// Lists the values at an x.
    fn values(&self, ui: &mut Ui, x: f64, hidden: &BTreeSet<String>) {
        let shown = self
            .lines
            .iter()
            .filter(|line| !hidden.contains(&line.name));
        let values = shown.filter_map(|line| Some((line, line.nearest(x)?)));
        let values: Vec<_> = values.take(MAX_VALUES).collect();
        let nearest = values.iter().map(|(_, point)| point[0]);
        let nearest = nearest.min_by(|a, b| (a - x).abs().total_cmp(&(b - x).abs()));
        ui.strong(format!("{} {}", self.x, number(nearest.unwrap_or(x))));
        for (line, [at, value]) in values {
            // Lines may have points at other places, such as metrics of each epoch.
            let place = if Some(at) == nearest {
                String::new()
            } else {
                format!(" at {}", number(at))
            };
            ui.horizontal(|ui| {
                ui.colored_label(line.color, "■");
                ui.label(format!("{} {}{place}", line.name, number(value)));
            });
        }
    }
}

/// Formats a value with four significant digits, and whole numbers exactly.
pub(super) fn number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e9 {
        return format!("{value:.0}");
    }
    match value.abs() {
        size if size < 1e-3 => format!("{value:.3e}"),
        size if size < 10.0 => format!("{value:.4}"),
        size if size < 1000.0 => format!("{value:.2}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_point_is_found_between_and_beyond_the_points() {
        let line = |points: &[[f64; 2]]| ChartLine {
            name: String::new(),
            points: points.to_vec(),
            color: Color32::RED,
            width: 1.0,
            band: None,
        };
        let points = [[10.0, 1.0], [20.0, 2.0], [40.0, 4.0]];
        for (x, expected) in [
            (-5.0, 10.0),
            (14.0, 10.0),
            (16.0, 20.0),
            (31.0, 40.0),
            (99.0, 40.0),
        ] {
            assert_eq!(line(&points).nearest(x).unwrap()[0], expected);
        }
        assert_eq!(line(&[]).nearest(1.0), None);
    }

    #[test]
    fn a_logarithmic_axis_has_no_place_for_zero() {
        assert!(is_on_axes([false, false], [0.0, -1.0]));
        assert!(!is_on_axes([false, true], [1.0, 0.0]));
    }

    #[test]
    fn numbers_are_short() {
        let values = [300.0, 0.1789, 12.3456, 0.00002, 1234.5];
        assert_eq!(
            values.map(number),
            ["300", "0.1789", "12.35", "2.000e-5", "1234"]
        );
    }
}
