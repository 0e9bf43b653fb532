//! The convolution as a matrix product of the weights and the unfolded input (im2col).

use std::ops::Range;

use pulp::Simd;
use pulp::bytemuck::cast_slice;
use rayon::prelude::*;

use super::super::bf16::Bf16Cpu;
use super::super::cpu::{Output, SharedOutput, with_scratch};
use super::super::panels::{Left, PANEL, Right, Sink, for_each_piece, pack, panels_length};
use super::arithmetic::{Arithmetic, Bf16, F32, Unfolding};
use super::geometry::{Geometry, TASKS, Tile};
use super::packed::{Order, Weights};
use super::unfold::unfold_tile;

/// The operations applied to an output before it is written:
/// `relu((output + bias) * gates + residual)`.
#[derive(Clone, Copy, Default)]
pub(super) struct Epilogue<'a> {
    /// One number per output channel.
    pub(super) bias: Option<&'a [f32]>,
    /// One number per image and output channel.
    pub(super) gates: Option<&'a [f32]>,
    /// Number of output channels.
    pub(super) channels: usize,
    /// Of the output's shape.
    pub(super) residual: Option<&'a [f32]>,
    /// Whether negative values become zero. NaN stays NaN, so that a diverged run is noticed.
    pub(super) relu: bool,
}

impl Epilogue<'_> {
    /// Applies the operations to vectors of one channel of an image; `residual` has the vectors at
    /// the same positions.
    #[inline(always)]
    pub(super) fn apply<S: Simd, const V: usize>(
        &self,
        simd: S,
        (image, channel): (usize, usize),
        values: [S::f32s; V],
        residual: Option<[S::f32s; V]>,
    ) -> [S::f32s; V] {
        let mut values = values;
        if let Some(bias) = self.bias {
            let bias = simd.splat_f32s(bias[channel]);
            values = values.map(|value| simd.add_f32s(value, bias));
        }
        if let Some(gates) = self.gates {
            let gate = simd.splat_f32s(gates[image * self.channels + channel]);
            values = values.map(|value| simd.mul_f32s(value, gate));
        }
        if let Some(residual) = residual {
            values = std::array::from_fn(|v| simd.add_f32s(values[v], residual[v]));
        }
        if self.relu {
            let zero = simd.splat_f32s(0.0);
            values = values.map(|value| {
                let below = simd.less_than_f32s(value, zero);
                simd.select_f32s(below, zero, value)
            });
        }
        values
    }

    /// Applies the operations to a row of one channel of an image that starts at offset `at` of the
    /// output.
    #[inline(always)]
    pub(super) fn apply_to_row(
        &self,
        (image, channel): (usize, usize),
        at: usize,
        row: &mut [f32],
    ) {
        let bias = self.bias.map_or(0.0, |bias| bias[channel]);
        let gates = self.gates;
        let gate = gates.map_or(1.0, |gates| gates[image * self.channels + channel]);
        match self.residual {
            Some(residual) => {
                for (value, residual) in row.iter_mut().zip(&residual[at..]) {
                    *value = self.clamped((*value + bias) * gate + residual);
                }
            }
            None => row
                .iter_mut()
                .for_each(|value| *value = self.clamped((*value + bias) * gate)),
        }
    }

    #[inline(always)]
    fn clamped(&self, value: f32) -> f32 {
        if self.relu && value < 0.0 { 0.0 } else { value }
    }
}

/// Writes the rows of a tile to the output.
struct Writer<'a> {
    output: SharedOutput<'a>,
    epilogue: Epilogue<'a>,
    /// The channel of row 0, counted over all groups.
    channel: usize,
    /// The first image of the tile.
    image: usize,
    /// The output offset of the first column of row 0, for each image of the tile.
    starts: &'a [usize],
    /// Number of columns of each image.
    columns: usize,
    /// Distance from row to row.
    pixels: usize,
}

impl Sink for Writer<'_> {
    #[inline(always)]
    fn take<S: Simd, const V: usize>(
        &mut self,
        simd: S,
        row: usize,
        column: usize,
        sums: [S::f32s; V],
    ) {
        let width = V * S::F32_LANES;
        let channel = self.channel + row;
        if let [start] = *self.starts
            && column + width <= self.columns
        {
            let at = start + row * self.pixels + column;
            let residual = self.epilogue.residual.map(|residual| {
                let (vectors, _) = S::as_simd_f32s(&residual[at..at + width]);
                std::array::from_fn(|v| vectors[v])
            });
            let values = self
                .epilogue
                .apply(simd, (self.image, channel), sums, residual);
            // SAFETY: no other task has these rows of this tile.
            unsafe { self.output.write_vectors::<S, V>(at, values) };
            return;
        }
        // The last columns of an image, or columns of several small images.
        let mut line = [0.0; PANEL];
        line[..width].copy_from_slice(cast_slice(&sums));
        let end = (column + width).min(self.columns * self.starts.len());
        let mut from = column;
        while from < end {
            let (image, pixel) = (from / self.columns, from % self.columns);
            let length = (self.columns - pixel).min(end - from);
            let at = self.starts[image] + row * self.pixels + pixel;
            let piece = &mut line[from - column..][..length];
            let plane = (self.image + image, channel);
            self.epilogue.apply_to_row(plane, at, piece);
            // SAFETY: no other task has these rows of this tile.
            unsafe { self.output.write(at, piece) };
            from += length;
        }
    }
}

/// Output pixels of a batch from which the weights are packed. Packing is one pass over the
/// weights; below this number the faster reads do not make up for it.
const PACKED_FROM: usize = 256;

/// Computes the convolution with weights `[filters, channels, kernel height, kernel width]`.
pub(super) fn convolve_rows(
    x: &[f32],
    geometry: &Geometry,
    epilogue: Epilogue<'_>,
    weights: Weights<'_>,
) -> Output {
    let rows = geometry.rows();
    let pack_pairs = |cpu: Bf16Cpu, weight: &[f32]| cpu.pack(weight, geometry.filters, rows);
    if geometry.groups == 1
        && let Some((cpu, weights)) = weights.pairs(pack_pairs)
    {
        let weights = &weights;
        return convolve(x, geometry, epilogue, &Bf16 { cpu, weights });
    }
    let is_read_often = geometry.batch * geometry.output_pixels() >= PACKED_FROM;
    if geometry.groups == 1 && (is_read_often || weights.are_kept()) {
        let packed = weights.order(Order::Rows, |weight| pack(weight, geometry.filters, rows));
        let packed = |filters: Range<usize>| Left::Packed {
            data: &packed[filters.start * rows..],
        };
        return convolve(x, geometry, epilogue, &F32(packed));
    }
    let in_place = |filters: Range<usize>| Left::Rows {
        data: &weights.data[filters.start * rows..],
        stride: rows,
    };
    convolve(x, geometry, epilogue, &F32(in_place))
}

/// Output pixels of an image up to which the whole input is unfolded once, by all threads, and the
/// threads share the filters. Tiles would leave threads idle, or unfold the same pixels again for
/// each part of the filters, which was measured to be a third of the time of a 3x3 at 7x7. The limit
/// includes the 14x14 and 19x19 feature maps of classifiers and last stages: a 3x3 at 14x14 went from
/// 88 to 126 GFLOP/s per core.
const WHOLE_UP_TO: usize = 384;
/// Columns of the whole input that are multiplied at a time: two panels. With the 2,304 rows of a 3x3
/// over 256 channels they are 864 KiB, which a second-level cache of 1 MiB or more holds while all filters
/// of a task read them.
const PART: usize = 2 * PANEL;

/// Computes the convolution.
pub(super) fn convolve<A: Arithmetic>(
    x: &[f32],
    geometry: &Geometry,
    epilogue: Epilogue<'_>,
    arithmetic: &A,
) -> Output {
    let pixels = geometry.output_pixels();
    let lines = A::lines(geometry.rows());
    let is_small = match geometry.batch {
        1 => pixels <= WHOLE_UP_TO,
        batch => batch * pixels <= PART,
    };
    if geometry.groups == 1 && is_small {
        return convolve_whole(x, geometry, epilogue, arithmetic);
    }
    let tiles = geometry.tiles(lines);
    // Too few tiles to keep the threads busy: split the filters too. Each split unfolds the tile
    // again, so it has at least 32 filters to use it for.
    let wanted = match tiles.len() * geometry.groups {
        0 => 1,
        tasks => TASKS.div_ceil(2 * tasks),
    };
    let per_task = geometry
        .filters
        .div_ceil(wanted)
        .max(32)
        .min(geometry.filters.max(1))
        .next_multiple_of(8);
    let splits = geometry.filters.div_ceil(per_task);
    let mut output = Output::new(geometry.output_shape().iter().product());
    let shared = output.shared();

    let task = |tile: &Tile, group: usize, filters: Range<usize>| {
        let columns = tile.columns();
        let starts: Vec<usize> = tile
            .images
            .clone()
            .map(|image| {
                geometry.output_start(image, group) + filters.start * pixels + tile.pixels.start
            })
            .collect();
        let first = group * geometry.filters + filters.start;
        let line = tile.pixels.len();
        with_scratch([panels_length(lines, columns), line, line], |scratch| {
            let [unfolded, scratch @ ..] = scratch;
            let put = |at: usize, piece: &[f32]| {
                unfolded[at..at + piece.len()].copy_from_slice(piece);
            };
            let input = Unfolding {
                x,
                geometry,
                group,
                channels: 0..geometry.channels,
                tile,
                first_row: 0,
                lines,
            };
            arithmetic.unfold(&input, scratch, put);
            let mut writer = Writer {
                output: shared,
                epilogue,
                channel: first,
                image: tile.images.start,
                starts: &starts,
                columns: tile.pixels.len(),
                pixels,
            };
            let right = Right {
                data: unfolded,
                columns,
            };
            arithmetic.multiply(first..first + filters.len(), lines, right, &mut writer);
        });
    };

    let per_tile = geometry.groups * splits;
    (0..tiles.len() * per_tile)
        .into_par_iter()
        .for_each(|index| {
            let tile = &tiles[index / per_tile];
            let group = index % per_tile / splits;
            let first = index % splits * per_task;
            let filters = first..(first + per_task).min(geometry.filters);
            task(tile, group, filters);
        });
    output
}

/// Computes [`convolve`] for few output pixels; see [`WHOLE_UP_TO`].
fn convolve_whole<A: Arithmetic>(
    x: &[f32],
    geometry: &Geometry,
    epilogue: Epilogue<'_>,
    arithmetic: &A,
) -> Output {
    let (lines, pixels) = (A::lines(geometry.rows()), geometry.output_pixels());
    let tile = Tile {
        images: 0..geometry.batch,
        pixels: 0..pixels,
    };
    let columns = tile.columns();
    let panels = unfold_to_panels(x, geometry, &tile, arithmetic);
    let mut output = Output::new(geometry.output_shape().iter().product());
    let shared = output.shared();
    // A batch of several images has at most `PART` columns.
    let per_part = if geometry.batch == 1 { PART } else { columns };
    let parts = columns.div_ceil(per_part.max(1));
    let wanted = TASKS.div_ceil(parts.max(1));
    let per_task = geometry.filters.div_ceil(wanted).next_multiple_of(8);
    let task = |part: usize, first: usize| {
        let filters = first..(first + per_task).min(geometry.filters);
        let from = part * per_part;
        let columns = per_part.min(columns - from);
        let starts: Vec<usize> = tile
            .images
            .clone()
            .map(|image| geometry.output_start(image, 0) + first * pixels + from)
            .collect();
        let mut writer = Writer {
            output: shared,
            epilogue,
            channel: first,
            image: 0,
            starts: &starts,
            columns: columns.min(pixels),
            pixels,
        };
        let right = Right {
            data: &panels[from * lines..],
            columns,
        };
        arithmetic.multiply(filters, lines, right, &mut writer);
    };
    let splits = geometry.filters.div_ceil(per_task.max(1));
    (0..parts * splits)
        .into_par_iter()
        .for_each(|index| task(index / splits, index % splits * per_task));
    output
}

/// Returns the unfolded tile in the order of a right matrix, with zeros in the missing columns of the
/// last panel.
fn unfold_to_panels<A: Arithmetic>(
    x: &[f32],
    geometry: &Geometry,
    tile: &Tile,
    arithmetic: &A,
) -> Vec<f32> {
    let (lines, columns) = (A::lines(geometry.rows()), tile.columns());
    let mut panels = Output::new(panels_length(lines, columns));
    let shared = panels.shared();
    let per_task = geometry.channels.div_ceil(TASKS).max(1);
    // A task begins at a line.
    let per_task = per_task.next_multiple_of(A::ROWS_IN_LINE);
    (0..geometry.channels.div_ceil(per_task))
        .into_par_iter()
        .for_each(|index| {
            let first = index * per_task;
            let channels = first..(first + per_task).min(geometry.channels);
            let first_row = first * geometry.kernel_elements();
            let end_row = channels.end * geometry.kernel_elements();
            // SAFETY: no other task has the lines of these channels.
            let put = |at: usize, piece: &[f32]| unsafe { shared.write(at, piece) };
            let input = Unfolding {
                x,
                geometry,
                group: 0,
                channels,
                tile,
                first_row,
                lines,
            };
            let line = tile.pixels.len();
            with_scratch([line, line], |scratch| {
                arithmetic.unfold(&input, scratch, put)
            });
            let missing = &[0.0; PANEL][..columns.next_multiple_of(PANEL) - columns];
            for line in first_row / A::ROWS_IN_LINE..A::lines(end_row) {
                for_each_piece(lines, line, columns, missing, put);
            }
        });
    // SAFETY: the tasks have all lines, and each wrote its lines from the first column to the last.
    unsafe { panels.into_vec() }
}

/// Returns the unfolded input of one image as a matrix `[rows, pixels]`.
pub(super) fn unfold_whole(x: &[f32], geometry: &Geometry) -> Vec<f32> {
    let (rows, pixels) = (geometry.rows(), geometry.output_pixels());
    let mut matrix = vec![0.0; rows * pixels];
    let per_task = geometry.channels.div_ceil(TASKS).max(1);
    let of_channel = geometry.kernel_elements() * pixels;
    matrix
        .par_chunks_mut((per_task * of_channel).max(1))
        .enumerate()
        .for_each(|(index, matrix)| {
            let first = index * per_task;
            let channels = first..(first + per_task).min(geometry.channels);
            let tile = Tile {
                images: 0..1,
                pixels: 0..pixels,
            };
            with_scratch([pixels], |[line]| {
                unfold_tile(x, geometry, 0, &channels, &tile, line, |row, _, values| {
                    matrix[row * pixels..][..pixels].copy_from_slice(values);
                });
            });
        });
    matrix
}
