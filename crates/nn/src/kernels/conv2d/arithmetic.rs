//! The two arithmetics of a convolution as a matrix product: 32-bit floats, and bf16 with 32-bit sums.
//!
//! They differ in what an unfolded tile consists of and in how it is multiplied; everything else, the tiles, the tasks
//! and the epilogue, is the same ([`forward`](super::forward)).

use std::ops::Range;

use pulp::bytemuck::cast_slice;

use super::super::bf16::{Bf16Cpu, Pair, PairLeft, PairPanels, ROWS};
use super::super::panels::{Left, PANEL, Right, Sink, for_each_piece, multiply_into};
use super::geometry::{Geometry, Tile};
use super::unfold::unfold_tile;

/// How the product of the weights and an unfolded tile is computed.
pub(super) trait Arithmetic: Sync {
    /// Rows of the unfolded input in a line of a panel.
    const ROWS_IN_LINE: usize;

    /// Unfolds the input and calls `put(at, elements)` for each piece of a line, where `at` is its offset in the panels.
    /// `scratch` has two lines of the tile's pixels.
    fn unfold(
        &self,
        input: &Unfolding<'_>,
        scratch: [&mut [f32]; 2],
        put: impl FnMut(usize, &[f32]),
    );

    /// Multiplies the weights of filters, which are counted over all groups and never cross a group, by panels.
    fn multiply(
        &self,
        filters: Range<usize>,
        lines: usize,
        panels: Right<'_>,
        sink: &mut impl Sink,
    );

    /// Returns the lines of a panel for this many rows of the unfolded input.
    fn lines(rows: usize) -> usize {
        rows.div_ceil(Self::ROWS_IN_LINE)
    }
}

/// A part of the input to unfold, and where the result goes.
pub(super) struct Unfolding<'a> {
    pub(super) x: &'a [f32],
    pub(super) geometry: &'a Geometry,
    pub(super) group: usize,
    /// Channels of the group.
    pub(super) channels: Range<usize>,
    pub(super) tile: &'a Tile,
    /// The row of the panels that the first row of the channels is. It begins a line.
    pub(super) first_row: usize,
    /// Lines of a panel.
    pub(super) lines: usize,
}

impl Unfolding<'_> {
    fn for_each_row(&self, line: &mut [f32], store: impl FnMut(usize, usize, &[f32])) {
        let Self {
            x,
            geometry,
            group,
            channels,
            tile,
            ..
        } = self;
        unfold_tile(x, geometry, *group, channels, tile, line, store);
    }
}

/// 32-bit floats. The function returns the matrix `[filters, rows]` of a range of filters.
pub(super) struct F32<F>(pub(super) F);

impl<'w, F: Fn(Range<usize>) -> Left<'w> + Sync> Arithmetic for F32<F> {
    const ROWS_IN_LINE: usize = 1;

    fn unfold(
        &self,
        input: &Unfolding<'_>,
        [line, _]: [&mut [f32]; 2],
        mut put: impl FnMut(usize, &[f32]),
    ) {
        input.for_each_row(line, |row, column, values| {
            for_each_piece(input.lines, input.first_row + row, column, values, &mut put);
        });
    }

    fn multiply(
        &self,
        filters: Range<usize>,
        lines: usize,
        panels: Right<'_>,
        sink: &mut impl Sink,
    ) {
        let left = (self.0)(filters.clone());
        multiply_into(left, filters.len(), lines, panels, sink);
    }
}

/// bf16, for a convolution without groups. The bits of a pair take the place of a 32-bit float, so that tiles, scratch
/// memory and output buffers are those of the other arithmetic.
pub(super) struct Bf16<'w> {
    pub(super) cpu: Bf16Cpu,
    /// The order of [`Bf16Cpu::pack`].
    pub(super) weights: &'w [Pair],
}

impl Bf16<'_> {
    /// Puts a line: the pairs of an even row and the odd row after it.
    #[inline]
    fn put_line(
        &self,
        (lines, line, first): (usize, usize, usize),
        even: &[f32],
        odd: Option<&[f32]>,
        put: &mut impl FnMut(usize, &[f32]),
    ) {
        let mut done = 0;
        while done < even.len() {
            let within = (first + done) % PANEL;
            let end = even.len().min(done + PANEL - within);
            let mut pairs = [0; PANEL];
            let pairs = &mut pairs[..end - done];
            let odd = odd.map(|odd| &odd[done..end]);
            self.cpu.pair(&even[done..end], odd, pairs);
            let at = ((first + done) / PANEL * lines + line) * PANEL + within;
            put(at, cast_slice(pairs));
            done = end;
        }
    }
}

impl Arithmetic for Bf16<'_> {
    const ROWS_IN_LINE: usize = 2;

    fn unfold(
        &self,
        input: &Unfolding<'_>,
        [line, even]: [&mut [f32]; 2],
        mut put: impl FnMut(usize, &[f32]),
    ) {
        let (geometry, lines) = (input.geometry, input.lines);
        let first_line = input.first_row / 2;
        if geometry.is_pointwise() {
            // The rows are planes of the input, of which two can be read at a time.
            let plane = geometry.input_pixels();
            let pixels = &input.tile.pixels;
            for (index, image) in input.tile.images.clone().enumerate() {
                let block = geometry.input_block(image, input.group, &input.channels);
                for (pair, planes) in input.x[block].chunks((2 * plane).max(1)).enumerate() {
                    let (even, odd) = planes.split_at(plane);
                    let odd = (!odd.is_empty()).then(|| &odd[pixels.clone()]);
                    let at = (lines, first_line + pair, index * pixels.len());
                    self.put_line(at, &even[pixels.clone()], odd, &mut put);
                }
            }
            return;
        }
        let last = input.channels.len() * geometry.kernel_elements() - 1;
        input.for_each_row(line, |row, column, values| {
            let at = (lines, first_line + row / 2, column);
            if row % 2 == 1 {
                self.put_line(at, &even[..values.len()], Some(values), &mut put);
            } else if row == last {
                self.put_line(at, values, None, &mut put);
            } else {
                even[..values.len()].copy_from_slice(values);
            }
        });
    }

    fn multiply(
        &self,
        filters: Range<usize>,
        lines: usize,
        panels: Right<'_>,
        sink: &mut impl Sink,
    ) {
        let right = PairPanels {
            data: cast_slice(panels.data),
            depth: lines,
            columns: panels.columns,
        };
        // Tasks begin at a block of filters.
        let left = PairLeft::Packed {
            data: &self.weights[filters.start / ROWS * ROWS * lines..],
            stride: lines * ROWS,
        };
        self.cpu.multiply(left, filters.len(), right, sink);
    }
}
