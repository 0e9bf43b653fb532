//! The gradient of the weights: a product of the unfolded input and the output's gradient, summed
//! over the pixels.

use std::ops::Range;

use burn::backend::flex::FlexTensor;
use pulp::bytemuck::cast_slice_mut;
use rayon::prelude::*;

use super::super::bf16::{Bf16Cpu, ComputePrecision, Pair, PairLeft, PairPanels};
use super::super::cpu::{
    Contiguous, Matrix, Output, OutputMatrix, SharedOutput, dims, multiply, tensor, with_scratch,
};
use super::super::panels::{Add, Left, PANEL, Right, multiply_into, panels_length};
use super::super::saved::Rounded;
use super::Conv2dOptions;
use super::geometry::{Geometry, SMALL_MAP_PIXELS, TASKS, Tile};
use super::unfold::unfold_tile;
use super::{depthwise, grouped, winograd};

/// Elements of the weights up to which each task sums into a copy of its own: 256 KiB, and 4 MiB for
/// all 16 tasks. Larger copies would leave the second-level cache between two tiles.
const MAX_PARTIAL_ELEMENTS: usize = 64 * 1024;

/// Returns the rows of a group of `[batch, groups * filters, pixels]` for a tile, one per filter. Those
/// of a tile of several images are copied into `scratch`.
fn gather<'a>(
    y: &'a [f32],
    geometry: &Geometry,
    group: usize,
    tile: &Tile,
    scratch: &'a mut [f32],
) -> Matrix<'a> {
    let pixels = geometry.output_pixels();
    if tile.images.len() == 1 {
        let start = geometry.output_start(tile.images.start, group) + tile.pixels.start;
        return Matrix::rows(&y[start..], geometry.filters, tile.columns(), pixels);
    }
    let columns = tile.columns();
    for (index, image) in tile.images.clone().enumerate() {
        let start = geometry.output_start(image, group);
        for filter in 0..geometry.filters {
            let to = filter * columns + index * pixels;
            let from = start + filter * pixels;
            scratch[to..to + pixels].copy_from_slice(&y[from..from + pixels]);
        }
    }
    Matrix::rows(scratch, geometry.filters, columns, columns)
}

/// Returns the length of the scratch memory that [`gather`] needs for this tile.
fn gather_length(geometry: &Geometry, tile: &Tile) -> usize {
    if tile.images.len() == 1 {
        0
    } else {
        geometry.filters * tile.columns()
    }
}

pub(super) fn cpu_weight_gradient(
    x: FlexTensor,
    output_gradient: FlexTensor,
    weight_shape: [usize; 4],
    options: Conv2dOptions,
    precision: ComputePrecision,
) -> FlexTensor {
    let geometry = Geometry::new(dims(&x), weight_shape, options);
    let (x, output_gradient) = (Contiguous::new(x), Contiguous::new(output_gradient));
    let (x, dy) = (x.data(), output_gradient.data());
    if depthwise::is_possible(&geometry) {
        return tensor(depthwise::weight_gradient(x, dy, &geometry), weight_shape);
    }
    if grouped::is_profitable(&geometry) {
        return tensor(grouped::weight_gradient(x, dy, &geometry), weight_shape);
    }
    if winograd::is_gradient_profitable(&geometry) {
        return tensor(winograd::weight_gradient(x, dy, &geometry), weight_shape);
    }
    let elements: usize = weight_shape.iter().product();
    let transposed = match precision.bf16() {
        Some(cpu) if geometry.groups == 1 => {
            Bf16Contribution::new(cpu, Bf16Input::Floats(x), &geometry).total(dy, elements)
        }
        _ if is_small(&geometry, elements) => {
            sum_over_pixels(&geometry, elements, |tile, partial| {
                add_by_pixels(x, dy, &geometry, tile, partial);
            })
        }
        _ => weight_gradient_by_channels(x, dy, &geometry, elements),
    };
    tensor(transpose_back(&transposed, &geometry), weight_shape)
}

/// Returns whether each task sums over some pixels, instead of over all pixels for some channels.
fn is_small(geometry: &Geometry, elements: usize) -> bool {
    geometry.groups < TASKS && elements <= MAX_PARTIAL_ELEMENTS
}

/// Computes the gradient as [`cpu_weight_gradient`] in bf16, from an input that was kept in bf16. Returns `None` for
/// shapes whose unfolded input does not consist of its pairs.
pub(super) fn cpu_weight_gradient_of_pairs(
    x: &Rounded,
    output_gradient: FlexTensor,
    weight_shape: [usize; 4],
    options: Conv2dOptions,
) -> Option<FlexTensor> {
    let geometry = Geometry::new(x.shape(), weight_shape, options);
    let are_pairs = geometry.groups == 1
        && geometry.is_pointwise()
        && geometry.input_pixels().is_multiple_of(2)
        && (geometry.batch == 1 || geometry.output_pixels() >= SMALL_MAP_PIXELS);
    // A convolution of one channel has an algorithm of its own.
    if !are_pairs || depthwise::is_possible(&geometry) {
        return None;
    }
    let output_gradient = Contiguous::new(output_gradient);
    let elements: usize = weight_shape.iter().product();
    let input = Bf16Input::Pairs(x.pairs());
    let contribution = Bf16Contribution::new(Bf16Cpu::get()?, input, &geometry);
    let transposed = contribution.total(output_gradient.data(), elements);
    Some(tensor(transpose_back(&transposed, &geometry), weight_shape))
}

/// Filters that are transposed at a time: the 32-bit floats in a cache line of 64 bytes, all of which
/// are used once it is loaded.
const TRANSPOSED: usize = 16;

/// Transposes `[group, rows, filters]` to `[group, filters, rows]`.
fn transpose_back(transposed: &[f32], geometry: &Geometry) -> Vec<f32> {
    let (rows, filters) = (geometry.rows(), geometry.filters);
    let mut gradient = vec![0.0; transposed.len()];
    gradient
        .par_chunks_mut((rows * filters).max(1))
        .zip(transposed.par_chunks((rows * filters).max(1)))
        .flat_map(|(gradient, transposed)| {
            gradient
                .par_chunks_mut((TRANSPOSED * rows).max(1))
                .enumerate()
                .map(move |(block, gradient)| (block * TRANSPOSED, gradient, transposed))
        })
        .for_each(|(first, gradient, transposed)| {
            let count = gradient.len() / rows.max(1);
            for (row, line) in transposed.chunks_exact(filters).enumerate() {
                for (filter, value) in line[first..first + count].iter().enumerate() {
                    gradient[filter * rows + row] = *value;
                }
            }
        });
    gradient
}

/// Adds the contribution of one tile to the gradient of the weights of some channels, transposed:
/// `[channels * kernel, filters]`. The matrix product rearranges its right side, and with the transpose
/// that is the output's gradient, which is several times smaller than the unfolded input.
///
/// # Safety
/// No other task touches `target`; it has been written.
unsafe fn add_weight_gradient(
    x: &[f32],
    dy: &[f32],
    geometry: &Geometry,
    (group, channels): (usize, &Range<usize>),
    tile: &Tile,
    target: &mut OutputMatrix<'_>,
) {
    let columns = tile.columns();
    let rows = channels.len() * geometry.kernel_elements();
    let pointwise = geometry.is_pointwise() && tile.images.len() == 1;
    let unfolded_length = if pointwise { 0 } else { rows * columns };
    with_scratch(
        [
            unfolded_length,
            gather_length(geometry, tile),
            tile.pixels.len(),
        ],
        |[unfolded, gathered, line]| {
            let unfolded = if pointwise {
                let block = geometry.input_block(tile.images.start, group, channels);
                let pixels = geometry.input_pixels();
                Matrix::rows(&x[block][tile.pixels.start..], rows, columns, pixels)
            } else {
                unfold_tile(
                    x,
                    geometry,
                    group,
                    channels,
                    tile,
                    line,
                    |row, first, values| {
                        let at = row * columns + first;
                        unfolded[at..at + values.len()].copy_from_slice(values);
                    },
                );
                Matrix::rows(unfolded, rows, columns, columns)
            };
            let dy = gather(dy, geometry, group, tile, gathered);
            // SAFETY: passed on to the caller.
            unsafe { multiply(target, unfolded, dy.transposed(), true) };
        },
    );
}

/// Computes the gradient of small weights: each task sums the contributions of its share of the pixels into its own
/// copy, and the copies are summed in order. The result is transposed: `[group, rows, filters]`.
fn sum_over_pixels(
    geometry: &Geometry,
    elements: usize,
    add: impl Fn(&Tile, &mut [f32]) + Sync,
) -> Vec<f32> {
    let tiles = geometry.tiles(geometry.rows());
    let share = tiles.len().div_ceil(TASKS).max(1);
    let partials: Vec<Vec<f32>> = tiles
        .par_chunks(share)
        .map(|tiles| {
            let mut partial = vec![0.0; elements];
            for tile in tiles {
                add(tile, &mut partial);
            }
            partial
        })
        .collect();
    let mut partials = partials.into_iter();
    let mut total = partials.next().unwrap_or_else(|| vec![0.0; elements]);
    for partial in partials {
        for (sum, element) in total.iter_mut().zip(partial) {
            *sum += element;
        }
    }
    total
}

/// Adds the contribution of a tile to the gradients of all groups.
fn add_by_pixels(x: &[f32], dy: &[f32], geometry: &Geometry, tile: &Tile, partial: &mut [f32]) {
    let rows = geometry.rows();
    let shared = SharedOutput::of(partial);
    for group in 0..geometry.groups {
        let start = group * geometry.filters * rows;
        let mut target = shared.matrix(start, rows, geometry.filters, geometry.filters);
        let part = (group, &(0..geometry.channels));
        // SAFETY: the copy belongs to this task and starts as zeros.
        unsafe { add_weight_gradient(x, dy, geometry, part, tile, &mut target) };
    }
}

/// The output's gradient, transposed for [`multiply_into`]: for every group and tile a right matrix
/// `[pixels of the tile, filters]`.
struct TransposedGradient {
    data: Vec<f32>,
    /// The offset of each tile's matrix of group 0, which those of the other groups follow.
    starts: Vec<usize>,
    filters: usize,
}

impl TransposedGradient {
    fn new(dy: &[f32], geometry: &Geometry, tiles: &[Tile]) -> Self {
        let (groups, filters) = (geometry.groups, geometry.filters);
        let length = |tile: &Tile| panels_length(tile.columns(), filters);
        let mut end = 0;
        let starts = tiles.iter().map(|tile| {
            let start = end;
            end += groups * length(tile);
            start
        });
        let starts: Vec<usize> = starts.collect();
        let mut data = Output::new(end);
        let shared = data.shared();
        (0..tiles.len() * groups).into_par_iter().for_each(|index| {
            let (tile, group) = (&tiles[index / groups], index % groups);
            let columns = tile.columns();
            let lengths = [length(tile), gather_length(geometry, tile)];
            with_scratch(lengths, |[transposed, gathered]| {
                transposed.fill(0.0);
                let dy = gather(dy, geometry, group, tile, gathered);
                let (lines, _) = transposed.as_chunks_mut::<PANEL>();
                for filter in 0..filters {
                    let line = &dy.data[filter * dy.row_stride..][..columns];
                    let panel = &mut lines[filter / PANEL * columns..][..columns];
                    for (to, value) in panel.iter_mut().zip(line) {
                        to[filter % PANEL] = *value;
                    }
                }
                let at = starts[index / groups] + group * length(tile);
                // SAFETY: no other task has this tile of this group.
                unsafe { shared.write(at, transposed) };
            });
        });
        // SAFETY: the tasks cover every tile of every group.
        let data = unsafe { data.into_vec() };
        Self {
            data,
            starts,
            filters,
        }
    }

    fn matrix(&self, tile: usize, columns: usize, group: usize) -> Right<'_> {
        let length = panels_length(columns, self.filters);
        Right {
            data: &self.data[self.starts[tile] + group * length..][..length],
            columns: self.filters,
        }
    }
}

/// Computes the gradient of large weights, or of many groups: each task owns some input channels and
/// sums over all pixels. The result is transposed: `[group, rows, filters]`.
fn weight_gradient_by_channels(
    x: &[f32],
    dy: &[f32],
    geometry: &Geometry,
    elements: usize,
) -> Vec<f32> {
    let kernel = geometry.kernel_elements();
    let (rows, filters) = (geometry.rows(), geometry.filters);
    let blocks = TASKS
        .div_ceil(geometry.groups)
        .clamp(1, geometry.channels.div_ceil(8).max(1));
    let per_block = geometry.channels.div_ceil(blocks).max(1);
    let tiles = geometry.tiles(per_block * kernel);
    let dy = TransposedGradient::new(dy, geometry, &tiles);
    let mut gradient = vec![0.0; elements];
    // The rows of a block of channels are contiguous, so tasks own chunks of the buffer. Chunks do
    // not cross groups.
    gradient
        .par_chunks_mut(rows * filters)
        .enumerate()
        .flat_map(|(group, gradient)| {
            gradient
                .par_chunks_mut(per_block * kernel * filters)
                .enumerate()
                .map(move |(block, gradient)| (group, block, gradient))
        })
        .for_each(|(group, block, gradient)| {
            let channels = block * per_block..((block + 1) * per_block).min(geometry.channels);
            let rows = channels.len() * kernel;
            let mut sums = Add {
                matrix: gradient,
                columns: filters,
            };
            for (number, tile) in tiles.iter().enumerate() {
                let columns = tile.columns();
                let right = dy.matrix(number, columns, group);
                if geometry.is_pointwise() && tile.images.len() == 1 {
                    let planes = geometry.input_block(tile.images.start, group, &channels);
                    let left = Left::Rows {
                        data: &x[planes][tile.pixels.start..],
                        stride: geometry.input_pixels(),
                    };
                    multiply_into(left, rows, columns, right, &mut sums);
                    continue;
                }
                let lengths = [rows * columns, tile.pixels.len()];
                with_scratch(lengths, |[unfolded, line]| {
                    unfold_tile(
                        x,
                        geometry,
                        group,
                        &channels,
                        tile,
                        line,
                        |row, first, values| {
                            let at = row * columns + first;
                            unfolded[at..at + values.len()].copy_from_slice(values);
                        },
                    );
                    let left = Left::Rows {
                        data: unfolded,
                        stride: columns,
                    };
                    multiply_into(left, rows, columns, right, &mut sums);
                });
            }
        });
    gradient
}

/// The products of the gradient in bf16, of a convolution without groups. The left matrix has the pairs of neighboring pixels of
/// the unfolded input, the right one those of the output's gradient.
struct Bf16Contribution<'a> {
    cpu: Bf16Cpu,
    x: Bf16Input<'a>,
    geometry: &'a Geometry,
}

/// The input of a convolution.
#[derive(Clone, Copy)]
enum Bf16Input<'a> {
    Floats(&'a [f32]),
    /// Of a kernel of one pixel, with planes of an even number of pixels and tiles of one image.
    Pairs(&'a [Pair]),
}

impl<'a> Bf16Contribution<'a> {
    fn new(cpu: Bf16Cpu, x: Bf16Input<'a>, geometry: &'a Geometry) -> Self {
        Self { cpu, x, geometry }
    }

    /// Computes the transposed gradient.
    fn total(&self, dy: &[f32], elements: usize) -> Vec<f32> {
        if is_small(self.geometry, elements) {
            sum_over_pixels(self.geometry, elements, |tile, partial| {
                self.add_by_pixels(dy, tile, partial);
            })
        } else {
            self.weight_gradient_by_channels(dy, elements)
        }
    }

    /// Adds the contribution of a tile to the transposed gradient, `[rows, filters]`.
    fn add_by_pixels(&self, dy: &[f32], tile: &Tile, gradient: &mut [f32]) {
        let panels = self.transposed(dy, tile);
        self.add(&(0..self.geometry.channels), tile, &panels, gradient);
    }

    /// Computes the gradient of large weights: each task owns some input channels and sums over all pixels.
    fn weight_gradient_by_channels(&self, dy: &[f32], elements: usize) -> Vec<f32> {
        let geometry = self.geometry;
        let kernel = geometry.kernel_elements();
        let per_block = geometry.channels.div_ceil(TASKS).max(8);
        let tiles = geometry.tiles(per_block * kernel);
        let transposed: Vec<Vec<Pair>> = tiles
            .par_iter()
            .map(|tile| self.transposed(dy, tile))
            .collect();
        let mut gradient = vec![0.0; elements];
        gradient
            .par_chunks_mut((per_block * kernel * geometry.filters).max(1))
            .enumerate()
            .for_each(|(block, gradient)| {
                let channels = block * per_block..((block + 1) * per_block).min(geometry.channels);
                for (tile, panels) in tiles.iter().zip(&transposed) {
                    self.add(&channels, tile, panels, gradient);
                }
            });
        gradient
    }

    /// Returns the output's gradient of a tile as a right matrix `[pixels, filters]`.
    fn transposed(&self, dy: &[f32], tile: &Tile) -> Vec<Pair> {
        let (geometry, columns) = (self.geometry, tile.columns());
        let mut panels = vec![0; panels_length(columns.div_ceil(2), geometry.filters)];
        with_scratch([gather_length(geometry, tile)], |[gathered]| {
            let dy = gather(dy, geometry, 0, tile, gathered);
            let of_panel = columns.div_ceil(2) * PANEL;
            for (index, panel) in panels.chunks_mut(of_panel.max(1)).enumerate() {
                let filters = index * PANEL..((index + 1) * PANEL).min(geometry.filters);
                let rows = filters.map(|filter| &dy.data[filter * dy.row_stride..][..columns]);
                self.cpu.transpose(rows, panel);
            }
        });
        panels
    }

    /// Adds the product of a tile to the transposed gradient of some channels.
    fn add(&self, channels: &Range<usize>, tile: &Tile, panels: &[Pair], gradient: &mut [f32]) {
        let (geometry, columns) = (self.geometry, tile.columns());
        let rows = channels.len() * geometry.kernel_elements();
        let depth = columns.div_ceil(2);
        let x = match self.x {
            Bf16Input::Floats(x) => x,
            Bf16Input::Pairs(pairs) => {
                let block = geometry.input_block(tile.images.start, 0, channels);
                let left = PairLeft::Rows {
                    data: &pairs[block.start / 2 + tile.pixels.start / 2..],
                    stride: geometry.input_pixels() / 2,
                };
                return self.multiply(left, rows, panels, depth, gradient);
            }
        };
        let is_whole = tile.images.len() == 1;
        let unfolded_length = if is_whole { 0 } else { rows * columns };
        let lengths = [rows * depth, unfolded_length, tile.pixels.len()];
        with_scratch(lengths, |[pairs, unfolded, line]| {
            let pairs = cast_slice_mut(pairs);
            unfold_tile(
                x,
                geometry,
                0,
                channels,
                tile,
                line,
                |row, first, values| {
                    if is_whole {
                        let pairs = &mut pairs[row * depth..][..depth];
                        self.cpu.pair_neighbors(values, pairs);
                    } else {
                        // A pair may have pixels of two images.
                        let at = row * columns + first;
                        unfolded[at..at + values.len()].copy_from_slice(values);
                    }
                },
            );
            if !is_whole {
                let rows = unfolded.chunks_exact(columns.max(1));
                for (row, pairs) in rows.zip(pairs.chunks_exact_mut(depth.max(1))) {
                    self.cpu.pair_neighbors(row, pairs);
                }
            }
            let left = PairLeft::Rows {
                data: pairs,
                stride: depth,
            };
            self.multiply(left, rows, panels, depth, gradient);
        });
    }

    /// Adds the product of a left matrix and the panels of a tile.
    fn multiply(
        &self,
        left: PairLeft<'_>,
        rows: usize,
        panels: &[Pair],
        depth: usize,
        gradient: &mut [f32],
    ) {
        let columns = self.geometry.filters;
        let right = PairPanels {
            data: panels,
            depth,
            columns,
        };
        let mut sums = Add {
            matrix: gradient,
            columns,
        };
        self.cpu.multiply(left, rows, right, &mut sums);
    }
}
