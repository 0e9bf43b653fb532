//! The drawing area of a figure: text, panels with axes, legends.

use std::fmt::Display;
use std::sync::Once;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};

use crate::render::palette::{class_color, on_white};

/// The name of the registered font, and the fallback font of SVG viewers.
const FONT: &str = "sans-serif";
pub(super) const INK: RGBColor = RGBColor(38, 42, 48);
pub(super) const FAINT_INK: RGBColor = RGBColor(105, 112, 122);
const GRID: RGBColor = RGBColor(228, 231, 235);
pub(super) const BEHIND: RGBColor = RGBColor(196, 201, 208);

/// The result of drawing.
pub(super) type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

/// A drawing area with its scale. Positions and sizes are given at scale 1.
pub(super) struct Page<'a, B: DrawingBackend> {
    pub area: &'a DrawingArea<B, Shift>,
    pub scale: i32,
}

/// A rectangle at scale 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub left: i32,
    pub top: i32,
    pub width: i32,
    pub height: i32,
}

/// A curve. Values that are not finite leave a gap.
pub(super) struct Line {
    pub points: Vec<(f64, f64)>,
    pub color: RGBColor,
    pub opacity: f64,
    pub width: u32,
    /// Whether every point is marked, for series of few points.
    pub dots: bool,
}

/// Title and axes of a panel.
#[derive(Default)]
pub(super) struct Axes<'a> {
    pub title: &'a str,
    pub x_name: &'a str,
    pub y_name: &'a str,
    pub x: std::ops::Range<f64>,
    pub y: std::ops::Range<f64>,
    /// Whether the coordinates of x and y are decimal logarithms; the labels are then their powers of ten.
    pub log: [bool; 2],
    /// The x of a vertical line.
    pub marker: Option<f64>,
}

/// A line of a legend.
pub(super) struct Entry {
    pub color: RGBColor,
    pub name: String,
    pub value: String,
}

impl<B: DrawingBackend> Page<'_, B> {
    /// Returns the regular font.
    pub fn font(&self, size: i32, color: RGBColor) -> TextStyle<'static> {
        (FONT, size * self.scale).into_font().color(&color)
    }

    /// Returns the bold font.
    pub(crate) fn bold(&self, size: i32) -> TextStyle<'static> {
        FontDesc::new(FONT.into(), f64::from(size * self.scale), FontStyle::Bold).color(&INK)
    }

    /// Returns the width of a string at scale 1.
    pub(crate) fn text_width(&self, style: &TextStyle<'_>, text: &str) -> i32 {
        self.area
            .estimate_text_size(text, style)
            .map_or(0, |(width, _)| width as i32 / self.scale)
    }

    /// Draws a string that is vertically centered at `y`.
    pub fn text(&self, text: &str, style: &TextStyle<'_>, x: i32, y: i32, side: HPos) -> Drawn<B> {
        let style = style.clone().pos(Pos::new(side, VPos::Center));
        self.area.draw(&Text::new(
            text.to_owned(),
            (x * self.scale, y * self.scale),
            style,
        ))
    }

    /// Draws a panel with title, axes and curves.
    pub fn panel(&self, bounds: Bounds, axes: &Axes<'_>, lines: &[Line]) -> Drawn<B> {
        const TITLE: i32 = 30;
        let s = self.scale;
        self.text(
            axes.title,
            &self.bold(15),
            bounds.left + 52,
            bounds.top + TITLE / 2,
            HPos::Left,
        )?;
        let area = self.area.clone().shrink(
            (bounds.left * s, (bounds.top + TITLE) * s),
            (bounds.width * s, (bounds.height - TITLE) * s),
        );
        let mut chart = ChartBuilder::on(&area)
            .x_label_area_size(40 * s)
            .y_label_area_size(52 * s)
            .margin_right(14 * s)
            .margin_top(6 * s)
            .build_cartesian_2d(
                Axis::new(axes.x.clone(), axes.log[0]),
                Axis::new(axes.y.clone(), axes.log[1]),
            )?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.stroke_width(s as u32))
            .axis_style(FAINT_INK.stroke_width(s as u32))
            .set_all_tick_mark_size(4 * s)
            .x_labels(6)
            .y_labels(6)
            .label_style(self.font(12, FAINT_INK))
            .axis_desc_style(self.font(13, INK))
            .x_desc(axes.x_name)
            .y_desc(axes.y_name)
            .draw()?;
        if let Some(x) = axes.marker {
            let ends = vec![(x, axes.y.start), (x, axes.y.end)];
            let style = FAINT_INK.stroke_width(s as u32);
            chart.draw_series([PathElement::new(ends, style)])?;
        }
        for line in lines {
            let style = line
                .color
                .mix(line.opacity)
                .stroke_width(line.width * s as u32);
            let top = axes.y.end;
            // plotters draws beyond the edge of the plot, so larger values are clamped here.
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

    /// Draws a column of entries below an optional heading and returns its height.
    pub fn legend(
        &self,
        bounds: Bounds,
        heading: &str,
        entries: &[Entry],
    ) -> Result<i32, DrawingAreaErrorKind<B::ErrorType>> {
        const ROW: i32 = 20;
        const SAMPLE: i32 = 18;
        let mut y = bounds.top + ROW / 2;
        if !heading.is_empty() {
            self.text(
                heading,
                &self.font(12, FAINT_INK),
                bounds.left,
                y,
                HPos::Left,
            )?;
            y += ROW;
        }
        let (style, s) = (self.font(13, INK), self.scale);
        for entry in entries {
            let sample = [(bounds.left, y), (bounds.left + SAMPLE, y)];
            let sample = sample.map(|(x, y)| (x * s, y * s));
            let stroke = entry.color.stroke_width(3 * s as u32);
            self.area.draw(&PathElement::new(sample.to_vec(), stroke))?;
            let value_width = self.text_width(&style, &entry.value) + 8;
            let room = bounds.width - SAMPLE - 8 - value_width;
            let name = self.fitted(&style, &entry.name, room);
            self.text(&name, &style, bounds.left + SAMPLE + 8, y, HPos::Left)?;
            self.text(
                &entry.value,
                &style,
                bounds.left + bounds.width,
                y,
                HPos::Right,
            )?;
            y += ROW;
        }
        Ok(y - ROW / 2 - bounds.top)
    }

    /// Truncates a string to a width, with an ellipsis.
    pub fn fitted(&self, style: &TextStyle<'_>, text: &str, width: i32) -> String {
        let mut shown = text.to_owned();
        let mut characters: Vec<char> = text.chars().collect();
        while self.text_width(style, &shown) > width && characters.pop().is_some() {
            shown = characters.iter().collect::<String>().trim_end().to_owned() + "…";
        }
        shown
    }
}

/// Returns the color of a class, darkened until it is visible on white.
pub(super) fn line_color(class_index: usize) -> RGBColor {
    let [r, g, b] = on_white(class_color(class_index));
    RGBColor(r, g, b)
}

/// An axis. The coordinates of a logarithmic one are decimal logarithms, and its labels their powers of ten.
struct Axis {
    linear: RangedCoordf64,
    log: bool,
}

impl Axis {
    fn new(range: std::ops::Range<f64>, log: bool) -> Self {
        Self {
            linear: range.into(),
            log,
        }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.linear.map(value, limit)
    }

    /// Of a logarithmic axis, these are 1, 2 and 5 of each decade, or whole decades where they are close together.
    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if !self.log {
            return self.linear.key_points(hint);
        }
        let range = self.range();
        let decades = range.start.floor() as i32..=range.end.ceil() as i32;
        let digits: &[f64] = match range.end - range.start {
            span if span <= 2.0 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let places = decades.flat_map(|decade| {
            let digits = digits.iter();
            digits.map(move |digit| f64::from(decade) + digit.log10())
        });
        places.filter(|place| range.contains(place)).collect()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.linear.range()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, place: &f64) -> String {
        tick(if self.log { 10f64.powf(*place) } else { *place })
    }
}

/// Formats an axis label: `0`, `0.25`, `1.5`, `12k`, `2.5M`, `2e-5`.
pub(super) fn tick(value: f64) -> String {
    let short = |value: f64, unit: &str| {
        let text = format!("{value:.4}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        format!("{}{unit}", if text == "-0" { "0" } else { text })
    };
    match value.abs() {
        size if size >= 1e6 => short(value / 1e6, "M"),
        size if size >= 1e4 => short(value / 1e3, "k"),
        size if size > 0.0 && size < 1e-3 => {
            let text = format!("{value:.1e}");
            text.replace(".0e", "e")
        }
        _ => short(value, ""),
    }
}

/// Returns a legend entry with a value of three digits.
pub(super) fn entry(color: RGBColor, name: impl Display, value: f64) -> Entry {
    Entry {
        color,
        name: name.to_string(),
        value: short(value),
    }
}

/// Formats a value with three decimals, or a small one with three digits.
fn short(value: f64) -> String {
    if value != 0.0 && value.abs() < 0.01 {
        format!("{value:.2e}")
    } else {
        format!("{value:.3}")
    }
}

pub(super) fn register_fonts() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for (style, bytes) in [
            (FontStyle::Normal, dejavu::sans::regular()),
            (FontStyle::Bold, dejavu::sans::bold()),
        ] {
            // Registration only fails for an invalid font, and these fonts are embedded.
            let registered = register_font(FONT, style, bytes);
            debug_assert!(registered.is_ok());
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logarithmic_axis_is_labeled_with_whole_numbers() {
        let labels = |range| -> Vec<String> {
            let axis = Axis::new(range, true);
            let places = axis.key_points(6).into_iter();
            places.map(|place| axis.format_ext(&place)).collect()
        };
        assert_eq!(labels(-1.2..0.4), ["0.1", "0.2", "0.5", "1", "2"]);
        assert_eq!(labels(-5.0..-1.5), ["1e-5", "1e-4", "0.001", "0.01"]);
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
            (0.00002, "2e-5"),
            (-0.000_25, "-2.5e-4"),
        ];
        for (value, text) in cases {
            assert_eq!(tick(value), text);
        }
    }
}
