//! Confusion matrix and reliability diagram of a classifier.

use plotters::prelude::*;
use plotters::style::FontTransform;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::page::{Axes, BEHIND, Bounds, Drawn, Entry, FAINT_INK, INK, Line, Page, line_color};
use super::{Figure, FigureFile, save};
use crate::render::RenderError;
use sedet_data::eval::classification::ClassificationEvaluation;

/// The maximum number of classes whose names are at the edges.
const NAMED: usize = 120;
/// The maximum number of classes with a count in each cell.
const NUMBERED: usize = 25;
/// Width reserved for a name at the edge, in pixels.
const NAME: i32 = 150;
/// Height of the title above the matrix.
const HEAD: i32 = 44;
/// The color of a cell with all images of its row; white is none.
const FULL: RGBColor = RGBColor(11, 61, 145);

/// Plots the confusion matrix: a row for each true class and a column for each predicted class. The color of a cell
/// is its share of the row.
///
/// # Errors
/// The extension is not `.svg`, `.png`, `.jpg` or `.jpeg`; the file cannot be written.
pub fn save_confusion<'a>(
    evaluation: &ClassificationEvaluation,
    file: impl Into<FigureFile<'a>>,
) -> Result<(), RenderError> {
    save(&ConfusionFigure { evaluation }, file)
}

/// Plots the reliability diagram: accuracy over predicted probability.
///
/// # Errors
/// The extension is not `.svg`, `.png`, `.jpg` or `.jpeg`; the file cannot be written.
pub fn save_reliability<'a>(
    evaluation: &ClassificationEvaluation,
    file: impl Into<FigureFile<'a>>,
) -> Result<(), RenderError> {
    save(&ReliabilityFigure { evaluation }, file)
}

struct ConfusionFigure<'a> {
    evaluation: &'a ClassificationEvaluation,
}

impl ConfusionFigure<'_> {
    fn classes(&self) -> usize {
        self.evaluation.classes.len()
    }

    /// Returns the side of a cell in pixels.
    fn cell(&self) -> i32 {
        (1400 / self.classes().max(1) as i32).clamp(1, 44)
    }

    /// Returns the width reserved for names at the left and at the bottom.
    fn edge(&self) -> i32 {
        if self.classes() <= NAMED && self.cell() >= 9 {
            NAME
        } else {
            20
        }
    }
}

impl Figure for ConfusionFigure<'_> {
    fn size(&self) -> (u32, u32) {
        let matrix = self.cell() * self.classes() as i32;
        let width = (self.edge() + matrix + 20).max(420);
        let height = HEAD + matrix + self.edge() + 10;
        (width as u32, height as u32)
    }

    fn draw<B: DrawingBackend>(&self, page: &Page<'_, B>) -> Drawn<B> {
        let (cell, left, s) = (self.cell(), self.edge(), page.scale);
        let top = HEAD;
        let title = "rows: true class, columns: predicted class";
        page.text("Confusion", &page.bold(15), 12, 14, HPos::Left)?;
        page.text(title, &page.font(12, FAINT_INK), 12, 32, HPos::Left)?;
        for (row, counts) in self.evaluation.confusion.iter().enumerate() {
            let images: u32 = counts.iter().sum();
            for (column, &count) in counts.iter().enumerate() {
                if count == 0 {
                    continue;
                }
                let share = f64::from(count) / f64::from(images);
                let (x, y) = (left + column as i32 * cell, top + row as i32 * cell);
                let corners = [(x * s, y * s), ((x + cell) * s, (y + cell) * s)];
                let fill = shade(share).filled();
                page.area.draw(&Rectangle::new(corners, fill))?;
                if self.classes() <= NUMBERED {
                    let ink = if share > 0.45 { WHITE } else { INK };
                    let style = page.font(11, ink);
                    let text = count.to_string();
                    page.text(&text, &style, x + cell / 2, y + cell / 2, HPos::Center)?;
                }
            }
        }
        let side = cell * self.classes() as i32;
        let corners = [(left * s, top * s), ((left + side) * s, (top + side) * s)];
        let frame = FAINT_INK.stroke_width(s as u32);
        page.area.draw(&Rectangle::new(corners, frame))?;
        if left == NAME {
            self.names(page, left, top, cell)?;
        }
        Ok(())
    }
}

impl ConfusionFigure<'_> {
    fn names<B: DrawingBackend>(
        &self,
        page: &Page<'_, B>,
        left: i32,
        top: i32,
        cell: i32,
    ) -> Drawn<B> {
        let s = page.scale;
        let style = page.font(cell.clamp(8, 13), INK);
        let bottom = top + cell * self.classes() as i32;
        for (index, class) in self.evaluation.classes.iter().enumerate() {
            let name = page.fitted(&style, &class.name, NAME - 16);
            let middle = index as i32 * cell + cell / 2;
            page.text(&name, &style, left - 6, top + middle, HPos::Right)?;
            // The anchor is rotated with the text.
            let rotated = style
                .clone()
                .transform(FontTransform::Rotate90)
                .pos(Pos::new(HPos::Left, VPos::Center));
            let position = ((left + middle) * s, (bottom + 6) * s);
            page.area.draw(&Text::new(name, position, rotated))?;
        }
        Ok(())
    }
}

/// Returns a color from white for 0 to dark blue for 1. The square root makes small shares visible.
fn shade(share: f64) -> RGBColor {
    let strength = share.clamp(0.0, 1.0).sqrt();
    let RGBColor(r, g, b) = FULL;
    let mix = |full: u8| (255.0 - (255.0 - f64::from(full)) * strength).round() as u8;
    RGBColor(mix(r), mix(g), mix(b))
}

struct ReliabilityFigure<'a> {
    evaluation: &'a ClassificationEvaluation,
}

impl Figure for ReliabilityFigure<'_> {
    fn size(&self) -> (u32, u32) {
        (700, 460)
    }

    fn draw<B: DrawingBackend>(&self, page: &Page<'_, B>) -> Drawn<B> {
        let found = self.evaluation;
        let bounds = Bounds {
            left: 10,
            top: 10,
            width: 440,
            height: 440,
        };
        let line = |points: Vec<(f64, f64)>, color, dots| Line {
            points,
            color,
            opacity: 1.0,
            width: 2,
            dots,
        };
        let bins = found.reliability.iter();
        let measured = bins.clone().map(|bin| (bin.confidence, bin.accuracy));
        let images = found.images.max(1) as f64;
        let share = bins.map(|bin| ((bin.from + bin.to) / 2.0, bin.images as f64 / images));
        let (own, shares) = (line_color(7), line_color(0));
        let lines = [
            line(vec![(0.0, 0.0), (1.0, 1.0)], BEHIND, false),
            line(share.collect(), shares, true),
            line(measured.collect(), own, true),
        ];
        let axes = Axes {
            title: "Reliability",
            x_name: "probability of the predicted class",
            y_name: "share",
            x: 0.0..1.0,
            y: 0.0..1.02,
            ..Axes::default()
        };
        page.panel(bounds, &axes, &lines)?;
        let legend = Bounds {
            left: 470,
            top: 50,
            width: 216,
            height: 0,
        };
        let entry = |color, name: &str, value: String| Entry {
            color,
            name: name.to_string(),
            value,
        };
        let entries = [
            entry(own, "accuracy", String::new()),
            entry(shares, "share of images", String::new()),
            entry(BEHIND, "perfect calibration", String::new()),
        ];
        let below = page.legend(legend, "", &entries)?;
        let style = page.font(13, INK);
        for (row, (name, value)) in [
            ("calibration error", found.calibration_error),
            ("top-1", found.top1),
        ]
        .into_iter()
        .enumerate()
        {
            let y = legend.top + below + 20 + 20 * row as i32;
            page.text(name, &style, legend.left, y, HPos::Left)?;
            let value = format!("{value:.2} %");
            page.text(&value, &style, legend.left + legend.width, y, HPos::Right)?;
        }
        Ok(())
    }
}
