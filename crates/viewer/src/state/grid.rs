//! Many images at once.

use std::ops::Range;

use super::{PanelId, ViewerState};

/// What the grid has drawn last: keys move by its rows, and exports write what is in sight.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GridView {
    /// The positions of the images in sight, in the order of the list.
    pub in_sight: Range<usize>,
    /// The number of images in a row; 0 before the grid has been drawn.
    pub columns: usize,
    /// Width and height of an image, in points; 0 before the grid has been drawn.
    pub side: f32,
    /// Whether crowd regions are in sight.
    pub has_crowds: bool,
}

impl GridView {
    /// The default width and height of an image, in points.
    pub const DEFAULT_SIDE: f32 = 200.0;
    /// The least and the largest width and height of an image, in points.
    pub const SIDES: std::ops::RangeInclusive<f32> = 80.0..=480.0;

    /// Returns the number of rows in sight.
    pub(crate) fn rows(&self) -> usize {
        self.in_sight.len().div_ceil(self.columns.max(1))
    }
}

impl ViewerState {
    /// Moves the current image of the grid by rows.
    pub(crate) fn step_rows(&mut self, rows: isize) {
        let columns = self.grid.columns.max(1) as isize;
        self.step(rows * columns);
    }

    /// Changes the size of the images of the grid by a factor.
    pub(crate) fn scale_grid(&mut self, factor: f32) {
        let side = (self.settings.grid_side * factor).round();
        self.settings.grid_side = side.clamp(*GridView::SIDES.start(), *GridView::SIDES.end());
    }

    /// Shows the image of the grid alone.
    pub(crate) fn open_from_grid(&mut self, image: usize) {
        self.go_to(image);
        self.tab = PanelId::IMAGE;
    }
}
