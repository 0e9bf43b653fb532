//! Training curves.

use plotters::prelude::*;

use super::page::{Axes, Bounds, Drawn, Entry, Line, Page, entry, line_color};
use super::{Figure, FigureFile, save};
use crate::render::RenderError;

/// The maximum length of a series whose points are marked.
const FEW_MEASUREMENTS: usize = 60;
/// The number of segments that a long series is reduced to.
const SEGMENTS: usize = 500;

/// A line of a plot. Values that are not finite leave a gap.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The name in the legend.
    pub name: String,
    /// The color, as the number of a class.
    pub color: usize,
    /// Iterations and values, by ascending iteration.
    pub points: Vec<(f64, f64)>,
}

/// A chart of training curves.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingChart {
    /// The title.
    pub title: String,
    /// The lines.
    pub lines: Vec<Series>,
}

/// The curves of training runs, as charts below each other.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TrainingCurves {
    /// The charts, from top to bottom. Those without a value that the axes have a place for are left out.
    pub charts: Vec<TrainingChart>,
    /// Whether the axes of iterations and of values are logarithmic. Values that are not above 0 then leave gaps.
    pub log: [bool; 2],
    /// The iteration that a vertical line marks.
    pub marker: Option<f64>,
}

/// Plots training curves over the iterations.
///
/// # Errors
/// No series has a value to plot; the extension is not `.svg`, `.png`, `.jpg` or `.jpeg`; the file
/// cannot be written.
pub fn save_training_curves<'a>(
    curves: &TrainingCurves,
    file: impl Into<FigureFile<'a>>,
) -> Result<(), RenderError> {
    save(&TrainingFigure::new(curves)?, file)
}

struct TrainingFigure<'a> {
    curves: &'a TrainingCurves,
    charts: Vec<&'a TrainingChart>,
    /// The range of the iterations, on the axis.
    iterations: std::ops::Range<f64>,
}

impl<'a> TrainingFigure<'a> {
    const PANEL_HEIGHT: u32 = 300;

    fn new(curves: &'a TrainingCurves) -> Result<Self, RenderError> {
        let has_values = |chart: &&TrainingChart| chart_places(curves, chart).next().is_some();
        let charts: Vec<_> = curves.charts.iter().filter(has_values).collect();
        let places = charts.iter().flat_map(|chart| chart_places(curves, chart));
        let Some(iterations) = range(places.map(|(x, _)| x)) else {
            return Err(RenderError::Nothing(
                "the run has no finite loss or metric yet".into(),
            ));
        };
        // Iterations are counted from 0, and an axis cannot be empty.
        let start = if curves.log[0] { iterations.start } else { 0.0 };
        let end = if iterations.end > start {
            iterations.end
        } else {
            start + 1.0
        };
        Ok(Self {
            curves,
            charts,
            iterations: start..end,
        })
    }

    /// Returns the line of a series, with its place on the axes.
    fn line(&self, series: &Series) -> Line {
        let points = reduced(&series.points);
        Line {
            dots: points.len() <= FEW_MEASUREMENTS,
            points: points
                .into_iter()
                .map(|point| place(self.curves.log, point))
                .collect(),
            color: line_color(series.color),
            opacity: 1.0,
            width: 2,
        }
    }
}

/// Returns where the values of a chart are on the axes.
fn chart_places<'a>(
    curves: &'a TrainingCurves,
    chart: &'a TrainingChart,
) -> impl Iterator<Item = (f64, f64)> + 'a {
    let points = chart.lines.iter().flat_map(|line| &line.points);
    let places = points.map(|point| place(curves.log, *point));
    places.filter(|(x, y)| x.is_finite() && y.is_finite())
}

/// Returns the place of a point on the axes; it is not finite where a logarithmic axis has none.
fn place(log: [bool; 2], (x, y): (f64, f64)) -> (f64, f64) {
    let on = |log: bool, value: f64| if log { value.log10() } else { value };
    (on(log[0], x), on(log[1], y))
}

fn range(values: impl Iterator<Item = f64>) -> Option<std::ops::Range<f64>> {
    let joined =
        |range: std::ops::Range<f64>, value: f64| range.start.min(value)..range.end.max(value);
    let mut values = values;
    let first = values.next()?;
    Some(values.fold(first..first, joined))
}

impl Figure for TrainingFigure<'_> {
    fn size(&self) -> (u32, u32) {
        (1000, 20 + self.charts.len() as u32 * Self::PANEL_HEIGHT)
    }

    fn draw<B: DrawingBackend>(&self, page: &Page<'_, B>) -> Drawn<B> {
        let mut panel = Bounds {
            left: 10,
            top: 10,
            width: 740,
            height: Self::PANEL_HEIGHT as i32,
        };
        for (at, chart) in self.charts.iter().enumerate() {
            let values = chart_places(self.curves, chart).map(|(_, y)| y);
            let values = range(values).unwrap_or(0.0..1.0);
            let margin = match values.end - values.start {
                span if span > 0.0 => span * 0.05,
                _ => 0.5,
            };
            let axes = Axes {
                title: &chart.title,
                x_name: if at + 1 == self.charts.len() {
                    "iteration"
                } else {
                    ""
                },
                x: self.iterations.clone(),
                y: values.start - margin..values.end + margin,
                log: self.curves.log,
                marker: self
                    .curves
                    .marker
                    .map(|x| place(self.curves.log, (x, 1.0)).0),
                ..Axes::default()
            };
            let lines: Vec<Line> = chart.lines.iter().map(|line| self.line(line)).collect();
            page.panel(panel, &axes, &lines)?;
            page.legend(legend_beside(panel), "Last value", &last_values(chart))?;
            panel.top += panel.height;
        }
        Ok(())
    }
}

fn last_values(chart: &TrainingChart) -> Vec<Entry> {
    let entries = chart.lines.iter().filter_map(|line| {
        let mut finite = line.points.iter().rev().filter(|(_, y)| y.is_finite());
        let (_, last) = finite.next()?;
        Some(entry(line_color(line.color), &line.name, *last))
    });
    entries.collect()
}

fn legend_beside(panel: Bounds) -> Bounds {
    Bounds {
        left: panel.left + panel.width + 16,
        top: panel.top + 30,
        width: 208,
        height: 0,
    }
}

/// Returns a series as it is drawn: of a very long one, the minimum and maximum of each segment, which look the
/// same in a smaller file.
fn reduced(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= 2 * SEGMENTS {
        return points.to_vec();
    }
    let bound = |segment: usize| points.len() * segment / SEGMENTS;
    let segments = (0..SEGMENTS).map(|segment| &points[bound(segment)..bound(segment + 1)]);
    let extremes = segments.flat_map(|segment| {
        let values = segment.iter().map(|(_, y)| *y).filter(|y| y.is_finite());
        let (low, high) = values.fold((f64::NAN, f64::NAN), |(low, high): (f64, f64), y| {
            (low.min(y), high.max(y))
        });
        [(segment[0].0, low), (segment[segment.len() / 2].0, high)]
    });
    extremes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::plots::{rasterize, vectorize};
    use image::RgbImage;

    fn draw_training_curves(curves: &TrainingCurves) -> Result<RgbImage, RenderError> {
        rasterize(&TrainingFigure::new(curves)?, 1)
    }

    fn chart(title: &str, lines: &[(&str, &[(f64, f64)])]) -> TrainingChart {
        let lines = lines.iter().enumerate();
        TrainingChart {
            title: title.into(),
            lines: lines
                .map(|(color, (name, points))| Series {
                    name: (*name).into(),
                    color,
                    points: points.to_vec(),
                })
                .collect(),
        }
    }

    #[test]
    fn curves_without_finite_values_are_an_error() {
        let curves = TrainingCurves {
            charts: vec![chart("losses", &[("loss", &[(0.0, f64::NAN)])])],
            ..TrainingCurves::default()
        };
        let error = draw_training_curves(&curves).unwrap_err();
        assert!(error.to_string().starts_with("nothing to plot"), "{error}");
        assert!(draw_training_curves(&TrainingCurves::default()).is_err());
    }

    #[test]
    fn training_curves_may_have_gaps_and_single_points() {
        let losses: &[(f64, f64)] = &[(0.0, 2.0), (1.0, f64::NAN), (2.0, 1.0), (3.0, 0.5)];
        let curves = TrainingCurves {
            charts: vec![
                chart("losses", &[("loss", losses), ("empty", &[])]),
                chart("nothing", &[("empty", &[])]),
                chart("metrics", &[("AP", &[(3.0, 0.1)])]),
            ],
            ..TrainingCurves::default()
        };
        assert_eq!(draw_training_curves(&curves).unwrap().height(), 620);
        let text = vectorize(&TrainingFigure::new(&curves).unwrap()).unwrap();
        for part in ["losses", "metrics", "0.100", "0.500"] {
            assert!(text.contains(part), "{part}");
        }
        assert!(
            !text.contains("nothing"),
            "a chart without values is left out"
        );
    }

    #[test]
    fn logarithmic_axes_leave_out_what_they_have_no_place_for() {
        let points: &[(f64, f64)] = &[(0.0, 7.0), (10.0, 0.0), (100.0, 1e-4), (1000.0, 0.01)];
        let curves = TrainingCurves {
            charts: vec![chart("rate", &[("learning_rate", points)])],
            log: [true, true],
            marker: Some(100.0),
        };
        let figure = TrainingFigure::new(&curves).unwrap();
        assert_eq!(figure.iterations, 2.0..3.0);
        let text = vectorize(&figure).unwrap();
        for label in ["1e-4", "0.01", "200", "500"] {
            assert!(text.contains(label), "{label}");
        }
        let nothing = TrainingCurves {
            charts: vec![chart("rate", &[("learning_rate", &points[..2])])],
            log: [true, true],
            marker: None,
        };
        assert!(TrainingFigure::new(&nothing).is_err());
    }

    #[test]
    fn a_long_series_keeps_its_gaps_and_extremes() {
        let mut points: Vec<_> = (0..90_000).map(|x| (f64::from(x), 0.5)).collect();
        points[700].1 = 9.0;
        points[40_000..43_000].fill((41_000.0, f64::NAN));
        let reduced = reduced(&points);
        assert_eq!(reduced.len(), 2 * SEGMENTS);
        assert!(reduced.iter().any(|(_, y)| *y == 9.0));
        assert!(reduced.iter().any(|(_, y)| y.is_nan()));
        assert_eq!(super::reduced(&points[..4]), points[..4]);
    }
}
