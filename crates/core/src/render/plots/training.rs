//! Training curves.

use std::path::Path;

use plotters::prelude::*;

use super::page::{Axes, Bounds, Drawn, Line, Page, entry, line_color};
use super::{Figure, save};
use crate::render::RenderError;

/// The maximum length of a series whose points are marked.
const FEW_MEASUREMENTS: usize = 60;
/// The minimum length of a loss series that is drawn as a trend over its range.
const LONG: usize = 150;
/// The number of segments of a trend.
const TREND_SEGMENTS: usize = 75;
/// The number of segments of a range.
const RANGE_SEGMENTS: usize = 500;
/// A line of a plot. Values that are not finite leave a gap.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The name in the legend.
    pub name: String,
    /// Iterations and values, by ascending iteration.
    pub points: Vec<(f64, f64)>,
}

/// The curves of a training run: losses above, metrics below.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TrainingCurves {
    /// The loss terms and their sum. Long series are drawn as a trend over the raw values.
    pub losses: Vec<Series>,
    /// Metrics such as AP, from 0 to 1.
    pub metrics: Vec<Series>,
}

/// Plots training curves over the iterations.
///
/// # Errors
/// No series has a finite value; the extension is not `.svg`, `.png`, `.jpg` or `.jpeg`; the file
/// cannot be written.
pub fn save_training_curves(curves: &TrainingCurves, path: &Path) -> Result<(), RenderError> {
    save(&TrainingFigure::new(curves)?, path)
}

struct TrainingFigure<'a> {
    curves: &'a TrainingCurves,
    last_iteration: f64,
    has_losses: bool,
    has_metrics: bool,
}

impl<'a> TrainingFigure<'a> {
    const PANEL_HEIGHT: u32 = 300;

    fn new(curves: &'a TrainingCurves) -> Result<Self, RenderError> {
        let has_values = |series: &[Series]| series.iter().any(|s| finite(s).next().is_some());
        let (has_losses, has_metrics) = (has_values(&curves.losses), has_values(&curves.metrics));
        if !has_losses && !has_metrics {
            return Err(RenderError::Nothing(
                "the run has no finite loss or metric yet".into(),
            ));
        }
        let last_iteration = curves
            .losses
            .iter()
            .chain(&curves.metrics)
            .flat_map(finite)
            .fold(0.0, |last: f64, (x, _)| last.max(x));
        Ok(Self {
            curves,
            last_iteration,
            has_losses,
            has_metrics,
        })
    }
}

fn finite(series: &Series) -> impl Iterator<Item = (f64, f64)> + '_ {
    let points = series.points.iter().copied();
    points.filter(|(x, y)| x.is_finite() && y.is_finite())
}

impl Figure for TrainingFigure<'_> {
    fn size(&self) -> (u32, u32) {
        let panels = u32::from(self.has_losses) + u32::from(self.has_metrics);
        (1000, 20 + panels * Self::PANEL_HEIGHT)
    }

    fn draw<B: DrawingBackend>(&self, page: &Page<'_, B>) -> Drawn<B> {
        let mut panel = Bounds {
            left: 10,
            top: 10,
            width: 740,
            height: Self::PANEL_HEIGHT as i32,
        };
        // A single point at iteration 0 requires a non-empty axis.
        let x = 0.0..if self.last_iteration > 0.0 {
            self.last_iteration
        } else {
            1.0
        };
        if self.has_losses {
            let mut lines = Vec::new();
            let mut trends = Vec::new();
            let mut entries = Vec::new();
            let mut highest: f64 = 0.0;
            for (index, series) in self.curves.losses.iter().enumerate() {
                let color = line_color(index);
                let line = |points, opacity, width| Line {
                    points,
                    color,
                    opacity,
                    width,
                    dots: false,
                };
                highest = highest.max(usual_maximum(&series.points));
                let trend = trend(&series.points);
                if let Some((_, last)) = trend.iter().rev().find(|(_, y)| y.is_finite()) {
                    entries.push(entry(color, &series.name, *last));
                }
                if let Some(range) = range(&series.points) {
                    lines.push(line(range, 0.25, 1));
                }
                trends.push(line(trend, 1.0, 2));
            }
            // Trends are drawn last, so that no range covers one.
            lines.extend(trends);
            let axes = Axes {
                title: "Loss",
                x_name: if self.has_metrics { "" } else { "iteration" },
                y_name: "",
                x: x.clone(),
                y: 0.0..if highest > 0.0 { highest * 1.1 } else { 1.0 },
            };
            page.panel(panel, &axes, &lines)?;
            page.legend(legend_beside(panel), "Last value", &entries)?;
            panel.top += panel.height;
        }
        if self.has_metrics {
            let mut lines = Vec::new();
            let mut entries = Vec::new();
            let mut highest: f64 = 0.0;
            for (index, series) in self.curves.metrics.iter().enumerate() {
                let color = line_color(index);
                // -1 means undefined.
                let defined = finite(series).filter(|(_, y)| *y >= 0.0);
                let best = defined.map(|(_, y)| y).fold(f64::NAN, f64::max);
                if best.is_finite() {
                    entries.push(entry(color, &series.name, best));
                    highest = highest.max(best);
                }
                lines.push(Line {
                    points: series
                        .points
                        .iter()
                        .map(|&(x, y)| (x, if y < 0.0 { f64::NAN } else { y }))
                        .collect(),
                    color,
                    opacity: 1.0,
                    width: 2,
                    dots: series.points.len() <= FEW_MEASUREMENTS,
                });
            }
            let axes = Axes {
                title: "Metrics",
                x_name: "iteration",
                y_name: "",
                x,
                y: 0.0..if highest > 0.0 {
                    (highest * 1.15).min(1.02)
                } else {
                    1.0
                },
            };
            page.panel(panel, &axes, &lines)?;
            page.legend(legend_beside(panel), "Best value", &entries)?;
        }
        Ok(())
    }
}

fn legend_beside(panel: Bounds) -> Bounds {
    Bounds {
        left: panel.left + panel.width + 16,
        top: panel.top + 30,
        width: 208,
        height: 0,
    }
}

/// Returns the medians of equal segments of a long series, which are robust to spikes; a short series is
/// returned unchanged.
fn trend(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() < LONG {
        return points.to_vec();
    }
    segments(points, TREND_SEGMENTS)
        .map(|segment| {
            let mut values: Vec<f64> = segment.iter().map(|(_, y)| *y).collect();
            values.retain(|y| y.is_finite());
            values.sort_by(f64::total_cmp);
            let median = values.get(values.len() / 2).copied();
            (segment[segment.len() / 2].0, median.unwrap_or(f64::NAN))
        })
        .collect()
}

/// Returns the raw values to draw behind a [`trend`]. Of a very long series these are the minimum and maximum of
/// each segment, which look the same in a smaller file. A short series has no range.
fn range(points: &[(f64, f64)]) -> Option<Vec<(f64, f64)>> {
    if points.len() < LONG {
        return None;
    }
    if points.len() <= 2 * RANGE_SEGMENTS {
        return Some(points.to_vec());
    }
    let extremes = segments(points, RANGE_SEGMENTS).flat_map(|segment| {
        let values = segment.iter().map(|(_, y)| *y).filter(|y| y.is_finite());
        let (low, high) = values.fold((f64::NAN, f64::NAN), |(low, high): (f64, f64), y| {
            (low.min(y), high.max(y))
        });
        [(segment[0].0, low), (segment[segment.len() / 2].0, high)]
    });
    Some(extremes.collect())
}

/// As equal as they can be, none empty; there must be at least `count` points.
fn segments(points: &[(f64, f64)], count: usize) -> impl Iterator<Item = &[(f64, f64)]> {
    let bound = move |segment: usize| points.len() * segment / count;
    (0..count).map(move |segment| &points[bound(segment)..bound(segment + 1)])
}

/// Returns the 98th percentile: the first losses are often far above all others.
fn usual_maximum(points: &[(f64, f64)]) -> f64 {
    let mut values: Vec<f64> = points.iter().map(|(_, y)| *y).collect();
    values.retain(|y| y.is_finite());
    values.sort_by(f64::total_cmp);
    let rank = values.len().saturating_sub(1 + values.len() / 50);
    values.get(rank).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::plots::{rasterize, vectorize};
    use image::RgbImage;

    fn draw_training_curves(curves: &TrainingCurves) -> Result<RgbImage, RenderError> {
        rasterize(&TrainingFigure::new(curves)?)
    }

    fn series(name: &str, points: &[(f64, f64)]) -> Series {
        Series {
            name: name.into(),
            points: points.to_vec(),
        }
    }

    #[test]
    fn curves_without_finite_values_are_an_error() {
        let curves = TrainingCurves {
            losses: vec![series("loss", &[(0.0, f64::NAN)])],
            metrics: vec![],
        };
        let error = draw_training_curves(&curves).unwrap_err();
        assert!(error.to_string().starts_with("nothing to plot"), "{error}");
        assert!(draw_training_curves(&TrainingCurves::default()).is_err());
    }

    #[test]
    fn training_curves_may_have_gaps_single_points_and_undefined_metrics() {
        let curves = TrainingCurves {
            losses: vec![
                series(
                    "loss",
                    &[(0.0, 2.0), (1.0, f64::NAN), (2.0, 1.0), (3.0, 0.5)],
                ),
                series("empty", &[]),
            ],
            metrics: vec![series("AP", &[(3.0, 0.1)]), series("APs", &[(3.0, -1.0)])],
        };
        let image = draw_training_curves(&curves).unwrap();
        assert_eq!(image.height(), 620);
        let text = vectorize(&TrainingFigure::new(&curves).unwrap()).unwrap();
        assert!(text.contains("0.100") && text.contains("0.500"));
        assert!(
            !text.contains("APs"),
            "an undefined metric is not in the legend"
        );
        let only_metrics = TrainingCurves {
            losses: vec![],
            metrics: vec![series("AP", &[(0.0, 0.0)])],
        };
        assert_eq!(draw_training_curves(&only_metrics).unwrap().height(), 320);
    }

    #[test]
    fn a_long_series_keeps_its_trend_gaps_and_extremes() {
        let mut points: Vec<_> = (0..90_000).map(|x| (f64::from(x), 0.5)).collect();
        points[700].1 = 9.0;
        points[40_000..43_000].fill((41_000.0, f64::NAN));
        let trend = trend(&points);
        assert_eq!(trend.len(), TREND_SEGMENTS);
        assert!(trend.iter().all(|(_, y)| *y == 0.5 || y.is_nan()));
        assert!(trend.iter().any(|(_, y)| y.is_nan()));
        let range = range(&points).unwrap();
        assert_eq!(range.len(), 2 * RANGE_SEGMENTS);
        assert!(range.iter().any(|(_, y)| *y == 9.0));
    }

    #[test]
    fn a_short_series_is_its_own_trend() {
        let short = [(0.0, 1.0), (1.0, 7.0)];
        assert_eq!(trend(&short), short);
        assert_eq!(range(&short), None);
    }

    #[test]
    fn a_spike_at_the_start_does_not_change_the_scale() {
        let mut points: Vec<_> = (0..100).map(|x| (f64::from(x), 1.0)).collect();
        points[0].1 = 1e6;
        assert_eq!(usual_maximum(&points), 1.0);
        assert_eq!(usual_maximum(&[(0.0, 3.0)]), 3.0);
        assert_eq!(usual_maximum(&[]), 0.0);
    }
}
