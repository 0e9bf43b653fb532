//! Precision-recall curves, training curves, confusion matrices, reliability diagrams and the gates
//! of SE units as PNG, JPEG or SVG.
//!
//! The letters are the program's own font, so a plot looks the same on every machine. Images are
//! drawn at twice their size and averaged down, because the plotting library draws thick lines
//! with hard edges.

mod bars;
mod classification;
mod excitation;

use std::fmt::Display;
use std::path::Path;
use std::sync::Once;

use image::RgbImage;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};

pub use bars::{Bars, save_bars};
pub use classification::{save_confusion, save_reliability};
pub use excitation::{
    MOST_PANELS, save_class_activations, save_class_deviations, save_gates, save_mean_gates,
};

use super::palette::{class_color, on_white};
use super::save::{
    IMAGES_AND_SVG, RenderError, is_image_extension, lower_extension, save_image, save_svg,
    wrong_extension,
};
use sedet_data::eval::coco::{ClassMetrics, CocoEvaluation, PrecisionRecall};

/// The family's name on both sides: what the registered font is called here, and what an SVG
/// viewer falls back to.
const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(38, 42, 48);
const FAINT_INK: RGBColor = RGBColor(105, 112, 122);
const GRID: RGBColor = RGBColor(228, 231, 235);
const BEHIND: RGBColor = RGBColor(196, 201, 208);
/// Classes with a color and a line in the legend.
const NAMED_CLASSES: usize = 12;
/// A series up to this length is drawn point by point.
const FEW_MEASUREMENTS: usize = 60;
/// Losses from this length on are drawn as a course over a range:
const LONG: usize = 150;
/// the medians of this many pieces,
const COURSE_PIECES: usize = 75;
/// over the lowest and highest values of this many.
const RANGE_PIECES: usize = 500;
/// Images are drawn this many times larger.
const SUPERSAMPLING: u32 = 2;

/// One line of a plot; values that are not finite leave a gap.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Shown in the legend.
    pub name: String,
    /// Iteration and value, by ascending iteration.
    pub points: Vec<(f64, f64)>,
}

/// What a training run leaves behind: losses above, metrics below.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TrainingCurves {
    /// The parts of the loss and their sum. Long series are shown smoothed over their raw values.
    pub losses: Vec<Series>,
    /// AP and its kin, from 0 to 1.
    pub metrics: Vec<Series>,
}

/// Plot the precision-recall curves of an evaluation: over all classes at IoU 0.50, 0.75 and the
/// mean of 0.50 to 0.95, and beside it every class at IoU 0.50. Of more than twelve classes the six
/// best and six worst are named, the others stand gray behind them.
///
/// # Errors
/// No class has objects; the extension is not `.svg`, `.png`, `.jpg` or `.jpeg`; the file cannot be
/// written.
pub fn save_precision_recall(evaluation: &CocoEvaluation, path: &Path) -> Result<(), RenderError> {
    save(&PrecisionRecallFigure::new(evaluation)?, path)
}

/// The image that [`save_precision_recall`] saves.
///
/// # Errors
/// No class has objects.
pub fn draw_precision_recall(evaluation: &CocoEvaluation) -> Result<RgbImage, RenderError> {
    rasterize(&PrecisionRecallFigure::new(evaluation)?)
}

/// Plot training curves over the iterations.
///
/// # Errors
/// No series has a finite value; the extension is not `.svg`, `.png`, `.jpg` or `.jpeg`; the file
/// cannot be written.
pub fn save_training_curves(curves: &TrainingCurves, path: &Path) -> Result<(), RenderError> {
    save(&TrainingFigure::new(curves)?, path)
}

/// The image that [`save_training_curves`] saves.
///
/// # Errors
/// No series has a finite value.
pub fn draw_training_curves(curves: &TrainingCurves) -> Result<RgbImage, RenderError> {
    rasterize(&TrainingFigure::new(curves)?)
}

/// Something that can be drawn at any scale on any backend.
trait Figure {
    /// Width and height in pixels at scale 1.
    fn size(&self) -> (u32, u32);
    fn draw<B: DrawingBackend>(&self, page: &Page<'_, B>) -> Drawn<B>;
}

type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

fn save(figure: &impl Figure, path: &Path) -> Result<(), RenderError> {
    let extension = lower_extension(path);
    if extension == "svg" {
        save_svg(&vectorize(figure)?, path)
    } else if is_image_extension(&extension) {
        save_image(&rasterize(figure)?, path)
    } else {
        Err(wrong_extension(path, IMAGES_AND_SVG))
    }
}

fn vectorize(figure: &impl Figure) -> Result<String, RenderError> {
    let mut text = String::new();
    draw_on(SVGBackend::with_string(&mut text, figure.size()), figure, 1)?;
    Ok(text)
}

fn rasterize(figure: &impl Figure) -> Result<RgbImage, RenderError> {
    let (width, height) = figure.size();
    let size = (width * SUPERSAMPLING, height * SUPERSAMPLING);
    let mut pixels = vec![0; size.0 as usize * size.1 as usize * 3];
    draw_on(
        BitMapBackend::with_buffer(&mut pixels, size),
        figure,
        SUPERSAMPLING,
    )?;
    let row = size.0 as usize * 3;
    Ok(RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([0, 1, 2].map(|channel| {
            let mut sum = 0;
            for dy in 0..SUPERSAMPLING {
                for dx in 0..SUPERSAMPLING {
                    let (x, y) = (x * SUPERSAMPLING + dx, y * SUPERSAMPLING + dy);
                    sum += u32::from(pixels[y as usize * row + x as usize * 3 + channel]);
                }
            }
            let count = SUPERSAMPLING * SUPERSAMPLING;
            ((sum + count / 2) / count) as u8
        }))
    }))
}

fn draw_on<B: DrawingBackend>(
    backend: B,
    figure: &impl Figure,
    scale: u32,
) -> Result<(), RenderError> {
    register_fonts();
    let area = backend.into_drawing_area();
    let refused = |error: DrawingAreaErrorKind<B::ErrorType>| RenderError::Plot(error.to_string());
    area.fill(&WHITE).map_err(refused)?;
    figure
        .draw(&Page {
            area: &area,
            scale: scale as i32,
        })
        .map_err(refused)?;
    area.present().map_err(refused)
}

fn register_fonts() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for (style, bytes) in [
            (FontStyle::Normal, dejavu::sans::regular()),
            (FontStyle::Bold, dejavu::sans::bold()),
        ] {
            // The only failure is a broken font file, and these are part of the program.
            let registered = register_font(FONT, style, bytes);
            debug_assert!(registered.is_ok());
        }
    });
}

/// A drawing area with its scale; all positions and sizes are given at scale 1.
struct Page<'a, B: DrawingBackend> {
    area: &'a DrawingArea<B, Shift>,
    scale: i32,
}

/// Position and size at scale 1.
#[derive(Debug, Clone, Copy)]
struct Place {
    left: i32,
    top: i32,
    width: i32,
    height: i32,
}

/// A curve ready to draw.
struct Line {
    points: Vec<(f64, f64)>,
    color: RGBColor,
    opacity: f64,
    width: u32,
    /// Mark every point, for series of few measurements.
    dots: bool,
}

/// Axes of a panel.
struct Axes<'a> {
    title: &'a str,
    x_name: &'a str,
    y_name: &'a str,
    x: std::ops::Range<f64>,
    y: std::ops::Range<f64>,
}

/// One line of a legend.
struct Entry {
    color: RGBColor,
    name: String,
    value: String,
}

impl<B: DrawingBackend> Page<'_, B> {
    fn font(&self, size: i32, color: RGBColor) -> TextStyle<'static> {
        (FONT, size * self.scale).into_font().color(&color)
    }

    fn bold(&self, size: i32) -> TextStyle<'static> {
        FontDesc::new(FONT.into(), f64::from(size * self.scale), FontStyle::Bold).color(&INK)
    }

    /// Width of a text at scale 1.
    fn text_width(&self, style: &TextStyle<'_>, text: &str) -> i32 {
        self.area
            .estimate_text_size(text, style)
            .map_or(0, |(width, _)| width as i32 / self.scale)
    }

    fn text(&self, text: &str, style: &TextStyle<'_>, x: i32, y: i32, side: HPos) -> Drawn<B> {
        let style = style.clone().pos(Pos::new(side, VPos::Center));
        self.area.draw(&Text::new(
            text.to_owned(),
            (x * self.scale, y * self.scale),
            style,
        ))
    }

    /// Title, axes and curves. A panel's y axis starts at 0.
    fn panel(&self, place: Place, axes: &Axes<'_>, lines: &[Line]) -> Drawn<B> {
        const TITLE: i32 = 30;
        let s = self.scale;
        self.text(
            axes.title,
            &self.bold(15),
            place.left + 52,
            place.top + TITLE / 2,
            HPos::Left,
        )?;
        let area = self.area.clone().shrink(
            (place.left * s, (place.top + TITLE) * s),
            (place.width * s, (place.height - TITLE) * s),
        );
        let mut chart = ChartBuilder::on(&area)
            .x_label_area_size(40 * s)
            .y_label_area_size(52 * s)
            .margin_right(14 * s)
            .margin_top(6 * s)
            .build_cartesian_2d(axes.x.clone(), axes.y.clone())?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.stroke_width(s as u32))
            .axis_style(FAINT_INK.stroke_width(s as u32))
            .set_all_tick_mark_size(4 * s)
            .x_labels(6)
            .y_labels(6)
            .x_label_formatter(&|value| tick(*value))
            .y_label_formatter(&|value| tick(*value))
            .label_style(self.font(12, FAINT_INK))
            .axis_desc_style(self.font(13, INK))
            .x_desc(axes.x_name)
            .y_desc(axes.y_name)
            .draw()?;
        for line in lines {
            let style = line
                .color
                .mix(line.opacity)
                .stroke_width(line.width * s as u32);
            let top = axes.y.end;
            // The library draws over the edge of the plot, so values above it are cut here.
            for run in line
                .points
                .split(|(x, y)| !(x.is_finite() && y.is_finite()))
            {
                let run: Vec<_> = run.iter().map(|&(x, y)| (x, y.min(top))).collect();
                if line.dots || run.len() == 1 {
                    let dot = |&point| Circle::new(point, 3 * s, line.color.filled());
                    chart.draw_series(run.iter().map(dot))?;
                }
                if run.len() > 1 {
                    chart.draw_series([PathElement::new(run, style)])?;
                }
            }
        }
        Ok(())
    }

    /// A column of entries, with a heading if there is one; the height it took.
    fn legend(
        &self,
        place: Place,
        heading: &str,
        entries: &[Entry],
    ) -> Result<i32, DrawingAreaErrorKind<B::ErrorType>> {
        const ROW: i32 = 20;
        const SAMPLE: i32 = 18;
        let mut y = place.top + ROW / 2;
        if !heading.is_empty() {
            self.text(
                heading,
                &self.font(12, FAINT_INK),
                place.left,
                y,
                HPos::Left,
            )?;
            y += ROW;
        }
        let (style, s) = (self.font(13, INK), self.scale);
        for entry in entries {
            let sample = [(place.left, y), (place.left + SAMPLE, y)];
            let sample = sample.map(|(x, y)| (x * s, y * s));
            let stroke = entry.color.stroke_width(3 * s as u32);
            self.area.draw(&PathElement::new(sample.to_vec(), stroke))?;
            let value_width = self.text_width(&style, &entry.value) + 8;
            let room = place.width - SAMPLE - 8 - value_width;
            let name = self.fitted(&style, &entry.name, room);
            self.text(&name, &style, place.left + SAMPLE + 8, y, HPos::Left)?;
            self.text(
                &entry.value,
                &style,
                place.left + place.width,
                y,
                HPos::Right,
            )?;
            y += ROW;
        }
        Ok(y - ROW / 2 - place.top)
    }

    fn fitted(&self, style: &TextStyle<'_>, text: &str, width: i32) -> String {
        let mut shown = text.to_owned();
        let mut letters: Vec<char> = text.chars().collect();
        while self.text_width(style, &shown) > width && letters.pop().is_some() {
            shown = letters.iter().collect::<String>().trim_end().to_owned() + "…";
        }
        shown
    }
}

/// A color that can be seen on white; the same as in images, but darker where it must be.
fn line_color(class_index: usize) -> RGBColor {
    let [r, g, b] = on_white(class_color(class_index));
    RGBColor(r, g, b)
}

/// `0`, `0.25`, `1.5`, `12k`, `2.5M`: as short as it stays exact.
fn tick(value: f64) -> String {
    let short = |value: f64, unit: &str| {
        let text = format!("{value:.4}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        format!("{}{unit}", if text == "-0" { "0" } else { text })
    };
    match value.abs() {
        size if size >= 1e6 => short(value / 1e6, "M"),
        size if size >= 1e4 => short(value / 1e3, "k"),
        _ => short(value, ""),
    }
}

struct PrecisionRecallFigure<'a> {
    overall: &'a PrecisionRecall,
    evaluation: &'a CocoEvaluation,
}

impl<'a> PrecisionRecallFigure<'a> {
    fn new(evaluation: &'a CocoEvaluation) -> Result<Self, RenderError> {
        let overall = evaluation.curves.as_ref().ok_or_else(|| {
            RenderError::Nothing("no class has objects to find, so there are no curves".into())
        })?;
        Ok(Self {
            overall,
            evaluation,
        })
    }
}

fn curve(precision: &[f64]) -> Vec<(f64, f64)> {
    PrecisionRecall::recalls()
        .zip(precision.iter().copied())
        .collect()
}

impl Figure for PrecisionRecallFigure<'_> {
    fn size(&self) -> (u32, u32) {
        (1180, 470)
    }

    fn draw<B: DrawingBackend>(&self, page: &Page<'_, B>) -> Drawn<B> {
        const PANEL: i32 = 440;
        const LEGEND_LEFT: i32 = 2 * PANEL + 40;
        let place = |left| Place {
            left,
            top: 14,
            width: PANEL,
            height: 446,
        };
        let axes = |title| Axes {
            title,
            x_name: "recall",
            y_name: "precision",
            x: 0.0..1.0,
            // A little room, or a perfect curve would lie on the frame.
            y: 0.0..1.02,
        };
        let metrics = &self.evaluation.metrics;
        let of_all = [
            ("IoU 0.50", &self.overall.at_iou_50, metrics.ap50, 7),
            ("IoU 0.75", &self.overall.at_iou_75, metrics.ap75, 0),
            ("mean 0.50:0.95", &self.overall.mean_over_iou, metrics.ap, 3),
        ];
        let lines: Vec<_> = of_all
            .iter()
            .map(|(_, precision, _, color)| Line {
                points: curve(precision),
                color: line_color(*color),
                opacity: 1.0,
                width: 3,
                dots: false,
            })
            .collect();
        page.panel(place(10), &axes("All classes"), &lines)?;

        let (named, others) = split_classes(&self.evaluation.per_class);
        let mut lines: Vec<_> = others
            .iter()
            .map(|(_, curves)| Line {
                points: curve(&curves.at_iou_50),
                color: BEHIND,
                opacity: 0.6,
                width: 1,
                dots: false,
            })
            .collect();
        lines.extend(named.iter().map(|named| Line {
            points: curve(&named.curves.at_iou_50),
            color: named.color,
            opacity: 1.0,
            width: 2,
            dots: false,
        }));
        page.panel(place(10 + PANEL), &axes("Each class at IoU 0.50"), &lines)?;

        let mut column = Place {
            left: LEGEND_LEFT,
            top: 22,
            width: 1180 - LEGEND_LEFT - 18,
            height: 0,
        };
        let entries: Vec<_> = of_all
            .iter()
            .map(|(name, _, ap, color)| entry(line_color(*color), name, *ap))
            .collect();
        column.top += page.legend(column, "All classes, AP", &entries)? + 12;
        let entries: Vec<_> = named
            .iter()
            .map(|named| entry(named.color, &named.class.name, named.class.ap50))
            .collect();
        if others.is_empty() {
            page.legend(column, "Classes, AP50", &entries)?;
        } else {
            let (best, worst) = entries.split_at(NAMED_CLASSES / 2);
            column.top += page.legend(column, "Best classes, AP50", best)? + 6;
            column.top += page.legend(column, "Worst classes, AP50", worst)? + 6;
            let rest = Entry {
                color: BEHIND,
                name: format!("{} other classes", others.len()),
                value: String::new(),
            };
            page.legend(column, "", &[rest])?;
        }
        Ok(())
    }
}

fn entry(color: RGBColor, name: impl Display, value: f64) -> Entry {
    Entry {
        color,
        name: name.to_string(),
        value: format!("{value:.3}"),
    }
}

struct NamedClass<'a> {
    class: &'a ClassMetrics,
    curves: &'a PrecisionRecall,
    color: RGBColor,
}

/// Classes with objects, best first: those to name (all, or the best and the worst) and the rest.
fn split_classes(
    classes: &[ClassMetrics],
) -> (Vec<NamedClass<'_>>, Vec<(&ClassMetrics, &PrecisionRecall)>) {
    let mut ranked: Vec<_> = classes
        .iter()
        .enumerate()
        .filter_map(|(index, class)| Some((index, class, class.curves.as_ref()?)))
        .collect();
    // Of equals first the one with more objects, whose number means more.
    ranked.sort_by(|(_, a, _), (_, b, _)| {
        let by_ap = b.ap50.total_cmp(&a.ap50);
        by_ap.then(b.ground_truths.cmp(&a.ground_truths))
    });
    let all_named = ranked.len() <= NAMED_CLASSES;
    let middle = if all_named {
        0..0
    } else {
        NAMED_CLASSES / 2..ranked.len() - NAMED_CLASSES / 2
    };
    let others = ranked
        .drain(middle)
        .map(|(_, class, curves)| (class, curves))
        .collect();
    let named = ranked
        .into_iter()
        .enumerate()
        .map(|(rank, (index, class, curves))| NamedClass {
            class,
            curves,
            // Few classes keep the color they have in images; of many, the dozen that is named
            // takes the dozen colors that are told apart best.
            color: line_color(if all_named && classes.len() <= NAMED_CLASSES {
                index
            } else {
                rank
            }),
        })
        .collect();
    (named, others)
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
                "the run has no finite loss and no metric yet".into(),
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
        let mut panel = Place {
            left: 10,
            top: 10,
            width: 740,
            height: Self::PANEL_HEIGHT as i32,
        };
        // A single point at iteration 0 still needs an axis.
        let x = 0.0..if self.last_iteration > 0.0 {
            self.last_iteration
        } else {
            1.0
        };
        if self.has_losses {
            let mut lines = Vec::new();
            let mut courses = Vec::new();
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
                let course = course(&series.points);
                if let Some((_, last)) = course.iter().rev().find(|(_, y)| y.is_finite()) {
                    entries.push(entry(color, &series.name, *last));
                }
                if let Some(range) = range(&series.points) {
                    lines.push(line(range, 0.25, 1));
                }
                courses.push(line(course, 1.0, 2));
            }
            // No series' range lies over another's course.
            lines.extend(courses);
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
                // A metric of -1 is undefined, not bad.
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

fn legend_beside(panel: Place) -> Place {
    Place {
        left: panel.left + panel.width + 16,
        top: panel.top + 30,
        width: 208,
        height: 0,
    }
}

/// The medians of equal pieces of a long series, which spikes do not move; a short series as it is.
fn course(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() < LONG {
        return points.to_vec();
    }
    pieces(points, COURSE_PIECES)
        .map(|piece| {
            let mut values: Vec<f64> = piece.iter().map(|(_, y)| *y).collect();
            values.retain(|y| y.is_finite());
            values.sort_by(f64::total_cmp);
            let median = values.get(values.len() / 2).copied();
            (piece[piece.len() / 2].0, median.unwrap_or(f64::NAN))
        })
        .collect()
}

/// The raw values to lie behind a [`course`]: of a very long series only each piece's lowest and
/// highest, which look the same and keep the file small. None for a series that is its own course.
fn range(points: &[(f64, f64)]) -> Option<Vec<(f64, f64)>> {
    if points.len() < LONG {
        return None;
    }
    if points.len() <= 2 * RANGE_PIECES {
        return Some(points.to_vec());
    }
    let extremes = pieces(points, RANGE_PIECES).flat_map(|piece| {
        let values = piece.iter().map(|(_, y)| *y).filter(|y| y.is_finite());
        let (low, high) = values.fold((f64::NAN, f64::NAN), |(low, high): (f64, f64), y| {
            (low.min(y), high.max(y))
        });
        [(piece[0].0, low), (piece[piece.len() / 2].0, high)]
    });
    Some(extremes.collect())
}

/// As equal as they can be, none empty; there must be at least `count` points.
fn pieces(points: &[(f64, f64)], count: usize) -> impl Iterator<Item = &[(f64, f64)]> {
    let bound = move |piece: usize| points.len() * piece / count;
    (0..count).map(move |piece| &points[bound(piece)..bound(piece + 1)])
}

/// The highest value without the highest fiftieth: the first few losses are often far above all
/// that follow.
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
    use sedet_data::eval::coco::evaluate;
    use sedet_data::eval::ground_truth::{GroundTruth, GtAnnotation, GtCategory, GtImage};
    use sedet_data::eval::results::ResultRow;

    /// One image with an object of each class, found by every second class.
    fn evaluation(classes: u64) -> CocoEvaluation {
        let image = GtImage {
            id: 1,
            file_name: String::new(),
            width: 640,
            height: 480,
        };
        let bbox = [10.0, 10.0, 50.0, 50.0];
        let categories = (1..=classes)
            .map(|id| GtCategory {
                id,
                name: format!("class <{id}>"),
            })
            .collect();
        let objects = (1..=classes)
            .map(|id| GtAnnotation {
                id,
                image_id: 1,
                category_id: id,
                bbox,
                area: 2500.0,
                iscrowd: false,
            })
            .collect();
        let rows: Vec<_> = (1..=classes)
            .step_by(2)
            .map(|category_id| ResultRow {
                image_id: 1,
                category_id,
                bbox,
                score: 0.5,
            })
            .collect();
        let gt = GroundTruth::new(vec![image], categories, objects).unwrap();
        evaluate(&gt, &rows).unwrap()
    }

    fn series(name: &str, points: &[(f64, f64)]) -> Series {
        Series {
            name: name.into(),
            points: points.to_vec(),
        }
    }

    #[test]
    fn plots_are_saved_in_the_format_of_their_extension() {
        let directory = tempfile::tempdir().unwrap();
        let evaluation = evaluation(3);
        for (name, start) in [
            ("pr.svg", b"<svg".as_slice()),
            ("pr.png", b"\x89PNG"),
            ("pr.jpg", b"\xFF\xD8"),
        ] {
            let path = directory.path().join(name);
            save_precision_recall(&evaluation, &path).unwrap();
            assert!(std::fs::read(&path).unwrap().starts_with(start), "{name}");
        }
        let message = save_precision_recall(&evaluation, Path::new("/tmp/pr.pdf"))
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("/tmp/pr.pdf") && message.contains(".svg"),
            "{message}"
        );
    }

    #[test]
    fn the_vector_plot_names_its_curves_and_escapes_the_names() {
        let evaluation = evaluation(2);
        let text = vectorize(&PrecisionRecallFigure::new(&evaluation).unwrap()).unwrap();
        for part in [
            "recall",
            "precision",
            "IoU 0.75",
            "class &lt;1&gt;",
            "1.000",
            "0.000",
        ] {
            assert!(text.contains(part), "{part}");
        }
    }

    #[test]
    fn of_many_classes_the_best_and_the_worst_are_named() {
        let evaluation = evaluation(40);
        let (named, others) = split_classes(&evaluation.per_class);
        assert_eq!((named.len(), others.len()), (12, 28));
        assert!(named[..6].iter().all(|named| named.class.ap50 > 0.9));
        assert!(named[6..].iter().all(|named| named.class.ap50 == 0.0));
        let text = vectorize(&PrecisionRecallFigure::new(&evaluation).unwrap()).unwrap();
        assert!(text.contains("28 other classes"));
        let (named, others) = split_classes(&evaluation.per_class[..12]);
        assert_eq!((named.len(), others.len()), (12, 0));
    }

    #[test]
    fn the_image_shows_the_curves_colors() {
        let picture = draw_precision_recall(&evaluation(2)).unwrap();
        assert_eq!((picture.width(), picture.height()), (1180, 470));
        let RGBColor(r, g, b) = line_color(0);
        assert!(picture.pixels().any(|pixel| pixel.0 == [r, g, b]));
        assert_eq!(picture.get_pixel(0, 0).0, [255; 3]);
    }

    #[test]
    fn nothing_to_plot_is_said() {
        let mut without_objects = evaluation(1);
        without_objects.curves = None;
        let message = draw_precision_recall(&without_objects)
            .unwrap_err()
            .to_string();
        assert!(message.starts_with("nothing to plot"), "{message}");
        let curves = TrainingCurves {
            losses: vec![series("loss", &[(0.0, f64::NAN)])],
            metrics: vec![],
        };
        assert!(draw_training_curves(&curves).is_err());
        assert!(draw_training_curves(&TrainingCurves::default()).is_err());
    }

    #[test]
    fn training_curves_take_gaps_single_points_and_undefined_metrics() {
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
        let picture = draw_training_curves(&curves).unwrap();
        assert_eq!(picture.height(), 620);
        let text = vectorize(&TrainingFigure::new(&curves).unwrap()).unwrap();
        assert!(text.contains("0.100") && text.contains("0.500"));
        assert!(
            !text.contains("APs"),
            "a metric without values has no place in the legend"
        );
        let only_metrics = TrainingCurves {
            losses: vec![],
            metrics: vec![series("AP", &[(0.0, 0.0)])],
        };
        assert_eq!(draw_training_curves(&only_metrics).unwrap().height(), 320);
    }

    #[test]
    fn a_long_series_keeps_its_course_its_gaps_and_its_extremes() {
        let mut points: Vec<_> = (0..90_000).map(|x| (f64::from(x), 0.5)).collect();
        points[700].1 = 9.0;
        points[40_000..43_000].fill((41_000.0, f64::NAN));
        let course = course(&points);
        assert_eq!(course.len(), COURSE_PIECES);
        assert!(course.iter().all(|(_, y)| *y == 0.5 || y.is_nan()));
        assert!(course.iter().any(|(_, y)| y.is_nan()));
        let range = range(&points).unwrap();
        assert_eq!(range.len(), 2 * RANGE_PIECES);
        assert!(range.iter().any(|(_, y)| *y == 9.0));
    }

    #[test]
    fn a_short_series_is_its_own_course() {
        let short = [(0.0, 1.0), (1.0, 7.0)];
        assert_eq!(course(&short), short);
        assert_eq!(range(&short), None);
    }

    #[test]
    fn a_first_spike_does_not_flatten_the_rest() {
        let mut points: Vec<_> = (0..100).map(|x| (f64::from(x), 1.0)).collect();
        points[0].1 = 1e6;
        assert_eq!(usual_maximum(&points), 1.0);
        assert_eq!(usual_maximum(&[(0.0, 3.0)]), 3.0);
        assert_eq!(usual_maximum(&[]), 0.0);
    }

    #[test]
    fn ticks_are_short() {
        let cases = [
            (0.0, "0"),
            (-0.0, "0"),
            (0.25, "0.25"),
            (2500.0, "2500"),
            (90_000.0, "90k"),
            (2_500_000.0, "2.5M"),
        ];
        for (value, text) in cases {
            assert_eq!(tick(value), text);
        }
    }
}
