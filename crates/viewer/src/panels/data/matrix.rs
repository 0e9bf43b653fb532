//! The confusion matrix: names on both sides, and colors by row, by column or by count.

use std::collections::HashMap;
use std::f32::consts::FRAC_PI_2;
use std::sync::Arc;

use egui::epaint::TextShape;
use egui::{FontId, Galley, Rect, Sense, TextWrapMode, Ui, WidgetText, pos2, vec2};

use super::{Entry, Shows, cell_name};
use crate::state::{MatrixScale, ViewerState};
use crate::style::{CORRECT, WRONG, hint, ink_on, mixed, part_of_window};
use sedet_data::eval::confusion::{Cell, Confusion};

/// The maximum number of classes of a matrix; of more, only those are shown that are confused most.
pub(super) const MATRIX_CLASSES: usize = 48;
/// The number of classes of a matrix that does not show all of them.
const CONFUSED_CLASSES: usize = 40;
/// The largest width of the names, in points.
const NAMES: f32 = 96.0;
/// The gap between a name and the cells, in points.
const GAP: f32 = 4.0;
/// The smallest cell beside which a name is readable, in points.
const NAMED_CELL: f32 = 11.0;
/// The largest width and height of the cells together, in points; more in high windows.
const LARGEST: f32 = 560.0;

/// Returns the classes that the matrix has a place for: all, or those with the most errors, in the order of `wrong`.
pub(super) fn shown_classes(all: usize, wrong: &[(Entry, usize)]) -> Vec<usize> {
    if all <= MATRIX_CLASSES {
        return (0..all).collect();
    }
    let mut classes = Vec::new();
    for (entry, _) in wrong {
        let Entry::Cell((Some(truth), Some(found))) = entry else {
            continue;
        };
        for class in [*truth, *found] {
            if !classes.contains(&class) && classes.len() < CONFUSED_CLASSES {
                classes.push(class);
            }
        }
        if classes.len() == CONFUSED_CLASSES {
            break;
        }
    }
    classes
}

/// Draws the choice of what the colors are relative to.
pub(super) fn scale_choice(ui: &mut Ui, state: &mut ViewerState) {
    ui.horizontal(|ui| {
        ui.label("Colors and numbers:");
        for scale in MatrixScale::ALL {
            ui.selectable_value(&mut state.settings.matrix_scale, scale, scale.name());
        }
    });
    if state.settings.matrix_scale == MatrixScale::Row && state.finds_boxes() {
        let text = "An object is in its row once for each detection of it, the right one and the wrong ones, so the share on \
                    the diagonal can be less than the recall.";
        hint(ui, text);
    }
}

/// Draws the matrix of some classes, with a row and a column for no class if there is such a thing, and returns the
/// clicked cell.
pub(super) fn matrix(
    ui: &mut Ui,
    state: &ViewerState,
    tally: &Confusion,
    shown: &[usize],
    has_background: bool,
) -> Option<(Cell, Shows)> {
    let classes = shown.len();
    let sides = classes + usize::from(has_background);
    if sides == 0 {
        return None;
    }
    let places: HashMap<usize, usize> = shown.iter().copied().zip(0..).collect();
    let place = |class: Option<usize>| match class {
        Some(class) => places.get(&class).copied(),
        None => has_background.then_some(classes),
    };
    // A list of the errors is beside it.
    let largest = part_of_window(ui, LARGEST, 0.6);
    let room = (ui.available_width() * 0.62 - NAMES).clamp(160.0, largest);
    let cell = (room / sides as f32).clamp(4.0, part_of_window(ui, 34.0, 0.038));
    let sides_of = |none: &'static str| {
        let all = shown.iter().copied().map(Some);
        let all = all.chain(has_background.then_some(None));
        all.map(move |class| class.map_or(none, |class| state.classes.name(class)))
    };
    let is_named = cell >= NAMED_CELL;
    let [rows, columns] = ["none", "not found"].map(|none| -> Vec<Arc<Galley>> {
        let names = sides_of(none).filter(|_| is_named);
        names.map(|name| galley(ui, name)).collect()
    });
    let widths = rows.iter().chain(&columns).map(|name| name.size().x + GAP);
    let names = widths.fold(0.0, f32::max);
    let size = vec2(cell, cell) * sides as f32;
    let (whole, _) = ui.allocate_exact_size(size + vec2(names, names), Sense::hover());
    let rect = Rect::from_min_size(whole.min + vec2(names, names), size);
    let response = ui.interact(rect, ui.scope_id().with("cells"), Sense::click());
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, "confusion matrix"));
    let painter = ui.painter_at(whole);
    let below = ui.visuals().extreme_bg_color;
    painter.rect_filled(rect, 0.0, below);
    let ink = ui.visuals().text_color();
    for (at, (row, column)) in rows.into_iter().zip(columns).enumerate() {
        let middle = (at as f32 + 0.5) * cell;
        let half = row.size().y / 2.0;
        // Names of rows end at the cells, those of columns begin there and run upwards.
        let left = rect.left() - row.size().x - GAP;
        painter.galley(pos2(left, rect.top() + middle - half), row, ink);
        let top = pos2(rect.left() + middle - half, rect.top() - GAP);
        painter.add(TextShape::new(top, column, ink).with_angle(-FRAC_PI_2));
    }
    let sums = Sums::of(tally, sides, place);
    let scale = state.settings.matrix_scale;
    for ((truth, found), (count, _)) in &tally.cells {
        let (Some(row), Some(column)) = (place(*truth), place(*found)) else {
            continue;
        };
        let share = sums.share(scale, *count, row, column);
        let color = if truth == found { CORRECT } else { WRONG };
        let corner = rect.min + vec2(column as f32, row as f32) * cell;
        let square = Rect::from_min_size(corner, vec2(cell - 1.0, cell - 1.0));
        let shade = mixed(color, below, 0.15 + 0.85 * share);
        painter.rect_filled(square, 0.0, shade);
        if cell >= 24.0 {
            let font = FontId::proportional(10.0);
            let (middle, ink) = (square.center(), ink_on(shade));
            let text = match scale {
                MatrixScale::Count => count.to_string(),
                MatrixScale::Row | MatrixScale::Column => format!("{:.0} %", share * 100.0),
            };
            painter.text(middle, egui::Align2::CENTER_CENTER, text, font, ink);
        }
    }
    let pointer = response.hover_pos()?;
    let place_at = |at: f32| ((at.max(0.0) / cell) as usize).min(sides - 1);
    let (row, column) = (
        place_at(pointer.y - rect.top()),
        place_at(pointer.x - rect.left()),
    );
    let hovered = (shown.get(row).copied(), shown.get(column).copied());
    let count = tally.cells.get(&hovered).map_or(0, |(count, _)| *count);
    let clicked = if response.clicked() {
        Some(Shows::Images)
    } else {
        response.secondary_clicked().then_some(Shows::Boxes)
    };
    if hovered != (None, None) {
        let [of_row, of_column] = [MatrixScale::Row, MatrixScale::Column]
            .map(|scale| 100.0 * sums.share(scale, count, row, column));
        let name = cell_name(state, hovered);
        response.on_hover_text(format!(
            "{name}: {count}, {of_row:.1} % of the row, {of_column:.1} % of the column"
        ));
    }
    clicked.map(|shows| (hovered, shows))
}

/// The sums of the rows and columns of a matrix, and its largest count.
struct Sums {
    rows: Vec<usize>,
    columns: Vec<usize>,
    largest: usize,
}

impl Sums {
    fn of(tally: &Confusion, sides: usize, place: impl Fn(Option<usize>) -> Option<usize>) -> Self {
        let mut sums = Self {
            rows: vec![0; sides],
            columns: vec![0; sides],
            largest: 0,
        };
        for ((truth, found), (count, _)) in &tally.cells {
            if let (Some(row), Some(column)) = (place(*truth), place(*found)) {
                sums.rows[row] += count;
                sums.columns[column] += count;
                sums.largest = sums.largest.max(*count);
            }
        }
        sums
    }

    /// Returns the share of a count: of its row, its column or the largest count.
    fn share(&self, scale: MatrixScale, count: usize, row: usize, column: usize) -> f32 {
        let whole = match scale {
            MatrixScale::Row => self.rows[row],
            MatrixScale::Column => self.columns[column],
            MatrixScale::Count => self.largest,
        };
        count as f32 / whole.max(1) as f32
    }
}

fn galley(ui: &Ui, name: &str) -> Arc<Galley> {
    let font = FontId::proportional(11.0);
    let wrap = Some(TextWrapMode::Truncate);
    WidgetText::from(name).into_galley(ui, wrap, NAMES - GAP, font)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_shares_of_their_row_column_or_of_the_largest_count() {
        let mut tally = Confusion::default();
        for (cell, count) in [
            ((Some(0), Some(0)), 6),
            ((Some(0), Some(1)), 2),
            ((Some(1), Some(1)), 2),
            ((Some(9), Some(9)), 50),
        ] {
            tally.cells.insert(cell, (count, Vec::new()));
        }
        let sums = Sums::of(&tally, 2, |class| class.filter(|class| *class < 2));
        assert_eq!(sums.share(MatrixScale::Row, 2, 0, 1), 0.25);
        assert_eq!(sums.share(MatrixScale::Column, 2, 0, 1), 0.5);
        assert_eq!(sums.share(MatrixScale::Count, 3, 0, 1), 0.5);
        assert_eq!(sums.share(MatrixScale::Row, 0, 1, 0), 0.0);
    }

    #[test]
    fn of_many_classes_those_are_shown_that_are_confused_most() {
        let cell = |truth: usize, found: usize| Entry::Cell((Some(truth), Some(found)));
        let few = [
            (cell(7, 3), 9),
            (Entry::Cell((None, Some(5))), 8),
            (cell(3, 500), 4),
        ];
        assert_eq!(shown_classes(1000, &few), [7, 3, 500]);
        assert_eq!(shown_classes(4, &few), [0, 1, 2, 3]);
        let many: Vec<(Entry, usize)> = (0..60).map(|at| (cell(at, at + 60), 1)).collect();
        assert_eq!(shown_classes(1000, &many).len(), CONFUSED_CLASSES);
    }
}
