//! Gates of SE blocks: figures 6 and 7 of the SENet paper, and a heat map of all blocks.

use std::path::{Path, PathBuf};

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::page::{
    Axes, BEHIND, Bounds, Drawn, Entry, FAINT_INK, INK, Line, Page, line_color, tick,
};
use super::{Figure, FigureFile, save};
use crate::excitation::selection::{short_name, spread};
use crate::excitation::statistics::gate_range;
use crate::excitation::{BlockStatistics, Excitation, Selection};
use crate::render::RenderError;
use crate::render::palette::viridis;
use sedet_nn::nn::se::GateFunction;

/// Width and height of a panel in pixels.
const PANEL: (i32, i32) = (360, 250);
const MARGIN: i32 = 10;
/// Panels per row of figure 6.
const ACTIVATION_COLUMNS: usize = 3;
/// Classes per row of figure 7.
const STD_COLUMNS: usize = 4;
const LEGEND_WIDTH: i32 = 200;
/// The maximum number of panels: blocks, times classes where each has a panel.
pub const MAX_PANELS: usize = 200;
/// Width reserved for the name of a block in the heat map.
const NAME: i32 = 190;
const MAP_WIDTH: i32 = 1024;
const ROW: i32 = 18;
/// The maximum number of cells per row. In larger blocks a cell is the mean of neighboring channels.
const CELLS: usize = 512;

/// Plots the mean gate of each class and of all classes over evenly spaced channels of each block: figure 6 of the
/// SENet paper.
///
/// # Errors
/// No block is selected, or too many; the extension is not `.svg`, `.png`, `.jpg` or `.jpeg`; the
/// file cannot be written.
pub(crate) fn save_class_activations<'a>(
    excitation: &Excitation,
    selection: &Selection,
    file: impl Into<FigureFile<'a>>,
) -> Result<(), RenderError> {
    check_panels(selection.blocks.len())?;
    let figure = ActivationFigure {
        excitation,
        selection,
    };
    save(&figure, file)
}

/// Plots for each block and class the mean gate plus and minus one standard deviation over the images of the class:
/// figure 7 of the SENet paper.
///
/// # Errors
/// No block or no class is selected, or too many; the extension is not `.svg`, `.png`, `.jpg` or
/// `.jpeg`; the file cannot be written.
pub(crate) fn save_class_std<'a>(
    excitation: &Excitation,
    selection: &Selection,
    file: impl Into<FigureFile<'a>>,
) -> Result<(), RenderError> {
    check_panels(selection.blocks.len() * selection.classes.len())?;
    let figure = StdFigure {
        excitation,
        selection,
    };
    save(&figure, file)
}

/// Plots the mean gate over all images as a heat map: a row for each block, a cell for each channel. In a block of more
/// than 512 channels a cell is the mean of neighboring channels.
///
/// # Errors
/// The extension is not `.svg`, `.png`, `.jpg` or `.jpeg`; the file cannot be written.
pub(crate) fn save_mean_gates<'a>(
    excitation: &Excitation,
    file: impl Into<FigureFile<'a>>,
) -> Result<(), RenderError> {
    let rows = excitation.blocks.iter();
    let figure = HeatMapFigure {
        title: "Mean gate",
        rows: rows
            .map(|block| (block.block.name.as_str(), block.all.mean.as_slice()))
            .collect(),
        range: mean_range(excitation),
    };
    save(&figure, file)
}

/// Saves all figures of gate statistics as PNG and as SVG and returns their paths: `class-activations`, `class-std` (if
/// classes are selected) and `mean-gates`. `scale` is that of the PNG files.
///
/// # Errors
/// No block or too many blocks or classes are selected; a file cannot be written.
pub fn save_excitation_figures(
    excitation: &Excitation,
    selection: &Selection,
    directory: &Path,
    scale: u32,
) -> Result<Vec<PathBuf>, RenderError> {
    let mut paths = Vec::new();
    for extension in ["png", "svg"] {
        let path = |stem: &str| directory.join(stem).with_extension(extension);
        let [activations, std, mean] = ["class-activations", "class-std", "mean-gates"].map(path);
        let file = FigureFile {
            path: &activations,
            scale,
        };
        save_class_activations(excitation, selection, file)?;
        save_mean_gates(
            excitation,
            FigureFile {
                path: &mean,
                ..file
            },
        )?;
        if !selection.classes.is_empty() {
            save_class_std(excitation, selection, FigureFile { path: &std, ..file })?;
            paths.push(std);
        }
        paths.extend([activations, mean]);
    }
    Ok(paths)
}

/// Plots the gates of one image as a heat map; `rows` are the name and the gates of each block. The colors range from 0,
/// or from -1 if a gate is negative, to 1 or the largest gate.
///
/// # Errors
/// The extension is not `.svg`, `.png`, `.jpg` or `.jpeg`; the file cannot be written.
pub fn save_gates<'a>(
    rows: &[(String, Vec<f32>)],
    file: impl Into<FigureFile<'a>>,
) -> Result<(), RenderError> {
    let gates = rows.iter().flat_map(|(_, gates)| gates);
    let (least, largest) = gates.fold((0.0f32, 1.0f32), |(least, largest), &gate| {
        (least.min(gate), largest.max(gate))
    });
    let rows = rows.iter();
    let figure = HeatMapFigure {
        title: "Gates of one image",
        rows: rows
            .map(|(name, gates)| (name.as_str(), gates.as_slice()))
            .collect(),
        range: [if least < 0.0 { -1.0 } else { 0.0 }, largest],
    };
    save(&figure, file)
}

/// Returns the color range of mean gates: the range of the gate function, for ReLU up to the largest mean.
fn mean_range(excitation: &Excitation) -> [f32; 2] {
    let [start, end] = gate_range(excitation.gate);
    let means = excitation.blocks.iter().flat_map(|b| &b.all.mean);
    match excitation.gate.limits() {
        (_, Some(_)) => [start, end],
        (_, None) => [
            start,
            means.fold(0.1, |largest: f32, &mean| mean.max(largest)),
        ],
    }
}

fn check_panels(panels: usize) -> Result<(), RenderError> {
    match panels {
        0 => Err(RenderError::Nothing(
            "no block or no class is selected".into(),
        )),
        1..=MAX_PANELS => Ok(()),
        _ => Err(RenderError::Plot(format!(
            "{panels} panels exceed the limit of {MAX_PANELS}"
        ))),
    }
}

fn line(points: Vec<(f64, f64)>, color: RGBColor, width: u32, opacity: f64) -> Line {
    Line {
        points,
        color,
        opacity,
        width,
        dots: false,
    }
}

/// Returns the values of channels over their position in the selection.
fn points(channels: &[usize], value: impl Fn(usize) -> f32) -> Vec<(f64, f64)> {
    let channels = channels.iter();
    channels
        .map(|&channel| (channel as f64, f64::from(value(channel))))
        .collect()
}

/// Returns the y range of a panel: the range of the gate function, for ReLU up to the largest value.
fn shown_range(gate: GateFunction, lines: &[Line]) -> std::ops::Range<f64> {
    let values = lines.iter().flat_map(|line| &line.points).map(|(_, y)| *y);
    let [start, end] = gate_range(gate).map(f64::from);
    match gate.limits() {
        // Slightly larger, so that lines at the limits are not on the frame.
        (_, Some(_)) => start * 1.02..end * 1.02,
        (_, None) => start..values.fold(0.1, f64::max) * 1.1,
    }
}

/// Returns the rectangle of a panel in a grid.
fn grid(index: usize, columns: usize) -> Bounds {
    let (column, row) = ((index % columns) as i32, (index / columns) as i32);
    Bounds {
        left: MARGIN + column * PANEL.0,
        top: MARGIN + row * PANEL.1,
        width: PANEL.0,
        height: PANEL.1,
    }
}

fn grid_size(panels: usize, columns: usize) -> (i32, i32) {
    let rows = panels.div_ceil(columns) as i32;
    let columns = panels.min(columns) as i32;
    (2 * MARGIN + columns * PANEL.0, 2 * MARGIN + rows * PANEL.1)
}

fn panel<B: DrawingBackend>(
    page: &Page<'_, B>,
    bounds: Bounds,
    title: &str,
    channels: &[usize],
    gate: GateFunction,
    lines: &[Line],
) -> Drawn<B> {
    let axes = Axes {
        title,
        x_name: "channel",
        y_name: "gate",
        x: 0.0..channels.last().map_or(1, |last| (*last).max(1)) as f64,
        y: shown_range(gate, lines),
        ..Axes::default()
    };
    page.panel(bounds, &axes, lines)
}

struct ActivationFigure<'a> {
    excitation: &'a Excitation,
    selection: &'a Selection,
}

impl ActivationFigure<'_> {
    fn lines(&self, block: &BlockStatistics, channels: &[usize]) -> Vec<Line> {
        let all = block.mean_of_classes();
        // Wide enough to be visible behind classes that are close to it.
        let all = line(points(channels, |c| all[c]), BEHIND, 6, 1.0);
        let classes = self.selection.classes.iter().enumerate();
        let classes = classes.map(|(rank, &class)| {
            let mean = &block.classes[class].mean;
            line(points(channels, |c| mean[c]), line_color(rank), 2, 0.85)
        });
        std::iter::once(all).chain(classes).collect()
    }
}

impl Figure for ActivationFigure<'_> {
    fn size(&self) -> (u32, u32) {
        let (width, height) = grid_size(self.selection.blocks.len(), ACTIVATION_COLUMNS);
        let legend = 60 + 20 * (1 + self.selection.classes.len() as i32);
        ((width + LEGEND_WIDTH) as u32, height.max(legend) as u32)
    }

    fn draw<B: DrawingBackend>(&self, page: &Page<'_, B>) -> Drawn<B> {
        for (index, &block) in self.selection.blocks.iter().enumerate() {
            let block = &self.excitation.blocks[block];
            let channels = spread(block.block.channels, self.selection.channels);
            let lines = self.lines(block, &channels);
            let (bounds, gate) = (grid(index, ACTIVATION_COLUMNS), self.excitation.gate);
            panel(page, bounds, &block.block.name, &channels, gate, &lines)?;
        }
        let entry = |color, name: &str, value: String| Entry {
            color,
            name: name.to_string(),
            value,
        };
        let classes = self.selection.classes.iter().enumerate();
        let counts = self.excitation.class_counts();
        let mut entries: Vec<Entry> = classes
            .map(|(rank, &class)| {
                let name = short_name(&self.excitation.origin.classes[class]);
                entry(line_color(rank), name, counts[class].to_string())
            })
            .collect();
        entries.push(entry(BEHIND, "all classes", String::new()));
        let (width, _) = grid_size(self.selection.blocks.len(), ACTIVATION_COLUMNS);
        let legend = Bounds {
            left: width,
            top: MARGIN + 20,
            width: LEGEND_WIDTH - MARGIN,
            height: 0,
        };
        page.legend(legend, "Mean gate; images", &entries)?;
        Ok(())
    }
}

struct StdFigure<'a> {
    excitation: &'a Excitation,
    selection: &'a Selection,
}

impl StdFigure<'_> {
    /// Returns the number of columns; each block begins a new row.
    fn columns(&self) -> usize {
        self.selection.classes.len().clamp(1, STD_COLUMNS)
    }

    fn rows_per_block(&self) -> usize {
        self.selection.classes.len().div_ceil(self.columns())
    }
}

impl Figure for StdFigure<'_> {
    fn size(&self) -> (u32, u32) {
        let panels = self.selection.blocks.len() * self.rows_per_block() * self.columns();
        let (width, height) = grid_size(panels, self.columns());
        (width as u32, height as u32)
    }

    fn draw<B: DrawingBackend>(&self, page: &Page<'_, B>) -> Drawn<B> {
        let columns = self.columns();
        for (row, &block) in self.selection.blocks.iter().enumerate() {
            let block = &self.excitation.blocks[block];
            let channels = spread(block.block.channels, self.selection.channels);
            let first = row * self.rows_per_block() * columns;
            for (rank, &class) in self.selection.classes.iter().enumerate() {
                let (statistics, color) = (&block.classes[class], line_color(rank));
                let (mean, std) = (&statistics.mean, &statistics.std);
                // The band is clamped to the range of the gate, since plotters draws beyond the frame.
                let [lowest, _] = gate_range(self.excitation.gate);
                let below = points(&channels, |c| (mean[c] - std[c]).max(lowest));
                let lines = [
                    line(below, color, 1, 0.5),
                    line(points(&channels, |c| mean[c] + std[c]), color, 1, 0.5),
                    line(points(&channels, |c| mean[c]), color, 2, 1.0),
                ];
                let name = short_name(&self.excitation.origin.classes[class]);
                let title = format!("{} {name}", block.block.name);
                let room = PANEL.0 - 60;
                let title = page.fitted(&page.bold(15), &title, room);
                let bounds = grid(first + rank, columns);
                panel(
                    page,
                    bounds,
                    &title,
                    &channels,
                    self.excitation.gate,
                    &lines,
                )?;
            }
        }
        Ok(())
    }
}

/// A heat map of named rows.
struct HeatMapFigure<'a> {
    title: &'a str,
    rows: Vec<(&'a str, &'a [f32])>,
    /// The values of the first and the last color.
    range: [f32; 2],
}

impl HeatMapFigure<'_> {
    const HEAD: i32 = 56;
    const SCALE_WIDTH: i32 = 240;

    /// Draws the color bar with the limits of the range.
    fn scale<B: DrawingBackend>(&self, page: &Page<'_, B>, right: i32) -> Drawn<B> {
        let [start, end] = self.range;
        let (left, s) = (right - Self::SCALE_WIDTH, page.scale);
        for step in 0..Self::SCALE_WIDTH {
            let color = shade(step as f32 / (Self::SCALE_WIDTH - 1) as f32);
            let corners = [(left + step, 10), (left + step + 1, 22)];
            let corners = corners.map(|(x, y)| (x * s, y * s));
            page.area.draw(&Rectangle::new(corners, color.filled()))?;
        }
        let style = page.font(12, FAINT_INK);
        page.text(&tick(start.into()), &style, left, 34, HPos::Left)?;
        page.text(&tick(end.into()), &style, right, 34, HPos::Right)
    }

    fn row<B: DrawingBackend>(
        &self,
        page: &Page<'_, B>,
        (name, values): (&str, &[f32]),
        top: i32,
    ) -> Drawn<B> {
        let ([start, end], s) = (self.range, page.scale);
        let cells = cell_means(values, CELLS);
        let edge = |cell: usize| NAME + (cell as i32 * MAP_WIDTH) / cells.len().max(1) as i32;
        for (cell, mean) in cells.iter().enumerate() {
            let corners = [(edge(cell), top), (edge(cell + 1), top + ROW - 2)];
            let corners = corners.map(|(x, y)| (x * s, y * s));
            let color = shade((mean - start) / (end - start));
            page.area.draw(&Rectangle::new(corners, color.filled()))?;
        }
        let style = page.font(12, INK);
        let name = page.fitted(&style, name, NAME - 20);
        let middle = top + ROW / 2 - 1;
        page.text(&name, &style, NAME - 8, middle, HPos::Right)?;
        let channels = values.len().to_string();
        let style = page.font(12, FAINT_INK);
        page.text(&channels, &style, NAME + MAP_WIDTH + 8, middle, HPos::Left)
    }
}

impl Figure for HeatMapFigure<'_> {
    fn size(&self) -> (u32, u32) {
        let rows = self.rows.len() as i32;
        let width = NAME + MAP_WIDTH + 60;
        (width as u32, (Self::HEAD + rows * ROW + MARGIN) as u32)
    }

    fn draw<B: DrawingBackend>(&self, page: &Page<'_, B>) -> Drawn<B> {
        page.text(self.title, &page.bold(15), 12, 16, HPos::Left)?;
        let text = "rows: blocks, columns: channels; right: number of channels";
        page.text(text, &page.font(12, FAINT_INK), 12, 38, HPos::Left)?;
        self.scale(page, NAME + MAP_WIDTH)?;
        for (index, &row) in self.rows.iter().enumerate() {
            self.row(page, row, Self::HEAD + index as i32 * ROW)?;
        }
        Ok(())
    }
}

/// Returns the values, or means of neighbors if there are more than `cells`.
fn cell_means(values: &[f32], cells: usize) -> Vec<f32> {
    let cells = cells.min(values.len());
    let bound = |cell: usize| values.len() * cell / cells.max(1);
    let mean = |part: &[f32]| part.iter().sum::<f32>() / part.len() as f32;
    (0..cells)
        .map(|cell| mean(&values[bound(cell)..bound(cell + 1)]))
        .collect()
}

fn shade(share: f32) -> RGBColor {
    let [r, g, b] = viridis(share);
    RGBColor(r, g, b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::excitation::collector::tests::gathered;
    use sedet_nn::nn::se::Gate;

    fn excitation(gate: Gate) -> Excitation {
        let rows: Vec<Vec<f32>> = (0..6u8)
            .map(|n| (0..3).map(|c| f32::from(n * c) / 16.0).collect())
            .collect();
        let classes: Vec<Vec<usize>> = (0..6).map(|n| vec![n % 5]).collect();
        gathered(gate, &rows, &classes, 5, 4)
    }

    #[test]
    fn figures_of_every_gate_function_name_their_blocks_and_classes() {
        let directory = tempfile::tempdir().unwrap();
        let selection = Selection {
            blocks: vec![0],
            classes: vec![0, 1, 2, 3, 4],
            channels: 2,
        };
        for gate in [Gate::Sigmoid, Gate::Tanh, Gate::Relu] {
            let excitation = excitation(gate);
            let path = |name: &str| directory.path().join(name);
            save_class_activations(&excitation, &selection, &path("a.svg")).unwrap();
            save_class_std(&excitation, &selection, &path("b.svg")).unwrap();
            save_mean_gates(&excitation, &path("c.svg")).unwrap();
            for (name, parts) in [
                ("a.svg", ["SE_2_1", "class 4"]),
                ("b.svg", ["SE_2_1 class 0", "SE_2_1 class 4"]),
                ("c.svg", ["SE_2_1", "Mean gate"]),
            ] {
                let svg = std::fs::read_to_string(path(name)).unwrap();
                for part in parts {
                    assert!(svg.contains(part), "{gate:?} {name} {part}");
                }
            }
        }
    }

    #[test]
    fn too_few_and_too_many_panels_are_errors() {
        let path = Path::new("never.svg");
        let message = |selection: &Selection| {
            let saved = save_class_std(&excitation(Gate::Sigmoid), selection, path);
            saved.unwrap_err().to_string()
        };
        let mut selection = Selection {
            blocks: vec![0],
            classes: Vec::new(),
            channels: 2,
        };
        assert!(message(&selection).contains("no class is selected"));
        selection.classes = vec![0; MAX_PANELS + 1];
        assert!(message(&selection).contains("exceed the limit"));
    }

    #[test]
    fn a_row_has_a_cell_for_each_channel_or_for_means_of_neighbors() {
        assert_eq!(cell_means(&[0.0, 1.0, 0.5], 8), [0.0, 1.0, 0.5]);
        assert_eq!(cell_means(&[0.0, 1.0, 0.5, 0.5], 2), [0.5, 0.5]);
        assert!(cell_means(&[], 8).is_empty());
    }

    #[test]
    fn the_gates_of_one_image_are_plotted_with_their_names_and_range() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gates.svg");
        for (gates, ends) in [
            ([0.0, 0.5], ["0", "1"]),
            ([-0.2, 0.5], ["-1", "1"]),
            ([0.0, 3.0], ["0", "3"]),
        ] {
            save_gates(&[("SE_2_1".into(), gates.to_vec())], &path).unwrap();
            let svg = std::fs::read_to_string(&path).unwrap();
            assert!(svg.contains("SE_2_1"));
            for end in ends {
                assert!(svg.lines().any(|line| line.trim() == end), "{end}: {svg}");
            }
        }
        save_gates(&[], &path).unwrap();
    }
}
