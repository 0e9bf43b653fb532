//! Bar charts of counts.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::page::{Drawn, FAINT_INK, INK, Page, line_color};
use super::{Figure, FigureFile, save};
use crate::render::RenderError;

/// A bar chart: names with counts, from top to bottom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bars {
    /// The title.
    pub title: String,
    /// The names and counts.
    pub bars: Vec<(String, usize)>,
}

/// Saves bar charts side by side, up to three in a row.
///
/// # Errors
/// There are no counts; the extension is not `.svg`, `.png`, `.jpg` or `.jpeg`; the file cannot
/// be written.
pub fn save_bars<'a>(
    title: &str,
    charts: &[Bars],
    file: impl Into<FigureFile<'a>>,
) -> Result<(), RenderError> {
    if charts.iter().all(|chart| chart.bars.is_empty()) {
        return Err(RenderError::Nothing("there are no counts".into()));
    }
    save(&BarsFigure { title, charts }, file)
}

struct BarsFigure<'a> {
    title: &'a str,
    charts: &'a [Bars],
}

const COLUMNS: usize = 3;
const WIDTH: i32 = 400;
const HEAD: i32 = 44;
const TITLE: i32 = 30;
const ROW: i32 = 20;
const MARGIN: i32 = 16;
/// Widths reserved for the name and for the count of a bar.
const NAME: i32 = 110;
const COUNT: i32 = 56;

impl BarsFigure<'_> {
    /// Returns the height of each row of charts.
    fn heights(&self) -> Vec<i32> {
        self.charts
            .chunks(COLUMNS)
            .map(|charts| {
                let most = charts.iter().map(|chart| chart.bars.len()).max();
                TITLE + ROW * most.unwrap_or(0) as i32 + MARGIN
            })
            .collect()
    }
}

impl Figure for BarsFigure<'_> {
    fn size(&self) -> (u32, u32) {
        let columns = self.charts.len().clamp(1, COLUMNS) as i32;
        let height = HEAD + self.heights().iter().sum::<i32>();
        ((columns * WIDTH + MARGIN) as u32, height as u32)
    }

    fn draw<B: DrawingBackend>(&self, page: &Page<'_, B>) -> Drawn<B> {
        let style = page.bold(16);
        let room = self.size().0 as i32 - 2 * MARGIN;
        let title = page.fitted(&style, self.title, room);
        page.text(&title, &style, MARGIN, HEAD / 2, HPos::Left)?;
        let mut top = HEAD;
        for (row, (charts, height)) in self.charts.chunks(COLUMNS).zip(self.heights()).enumerate() {
            for (column, chart) in charts.iter().enumerate() {
                let left = MARGIN + column as i32 * WIDTH;
                chart.draw(page, left, top, row * COLUMNS + column)?;
            }
            top += height;
        }
        Ok(())
    }
}

impl Bars {
    fn draw<B: DrawingBackend>(
        &self,
        page: &Page<'_, B>,
        left: i32,
        top: i32,
        color: usize,
    ) -> Drawn<B> {
        let s = page.scale;
        page.text(
            &self.title,
            &page.bold(13),
            left,
            top + TITLE / 2,
            HPos::Left,
        )?;
        let most = self.bars.iter().map(|(_, count)| *count).max().unwrap_or(0);
        let room = WIDTH - NAME - COUNT - 2 * MARGIN;
        let names = page.font(12, INK);
        let counts = page.font(11, FAINT_INK);
        for (index, (name, count)) in self.bars.iter().enumerate() {
            let middle = top + TITLE + ROW * index as i32 + ROW / 2;
            let name = page.fitted(&names, name, NAME - 8);
            page.text(&name, &names, left + NAME - 8, middle, HPos::Right)?;
            // In pixels of the enlarged image.
            let share = *count as f64 / most.max(1) as f64;
            let length = (share * f64::from(room * s)).round() as i32;
            let start = (left + NAME) * s;
            if *count > 0 {
                let corners = [
                    (start, (middle - ROW / 2 + 3) * s),
                    (start + length.max(s), (middle + ROW / 2 - 3) * s),
                ];
                let fill = line_color(color).mix(0.85).filled();
                page.area.draw(&Rectangle::new(corners, fill))?;
            }
            let beside = left + NAME + length / s + 6;
            page.text(&count.to_string(), &counts, beside, middle, HPos::Left)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(bars: usize) -> Bars {
        let bars = (0..bars).map(|i| (format!("a long name of bar {i}"), i * i));
        Bars {
            title: "counts".into(),
            bars: bars.collect(),
        }
    }

    #[test]
    fn charts_are_saved_as_image_and_as_svg_with_every_count() {
        let directory = tempfile::tempdir().unwrap();
        let charts: Vec<Bars> = (1..5).map(chart).collect();
        let svg = directory.path().join("a.svg");
        save_bars("title", &charts, &svg).unwrap();
        let text = std::fs::read_to_string(&svg).unwrap();
        assert_eq!(text.matches("counts").count(), 4);
        // Bars with a count of 0 have no rectangle.
        assert!(text.contains("\n9\n") || text.contains(">9<"), "{text}");
        let png = directory.path().join("a.png");
        save_bars("title", &charts, &png).unwrap();
        let (width, height) = image::image_dimensions(&png).unwrap();
        assert_eq!(width, 3 * 400 + 16);
        assert_eq!(height, (44 + (30 + 60 + 16) + (30 + 80 + 16)) as u32);
        assert!(matches!(
            save_bars("title", &[], &svg),
            Err(RenderError::Nothing(_))
        ));
    }
}
