//! 3x3 convolutions of stride 1 by Winograd's minimal filtering, F(4x4, 3x3) (Lavin and Gray, 2016).
//!
//! A tile of 6x6 inputs is transformed to 36 points, and the convolution to one product per point: 36
//! multiplications for 4x4 outputs instead of 144. The rows of the 36 products are tiles, their columns are
//! filters.
//!
//! The transforms have channels, respectively filters, in the lanes of the vectors, so that a feature map of
//! 14x14 with its four tiles in a row is transformed as efficiently as a large one. With tiles in the lanes a
//! 3x3 over 64 channels at 56x56 took 2.0 ms instead of 1.0.
//!
//! The transforms add numbers of different magnitude, which costs accuracy. The largest difference to
//! double precision, relative to the largest value, is 6e-6 for outputs (64 channels), 4e-6 for the
//! gradient of the input and up to 2e-5 for that of the weights; a direct sum has 3e-7.

use std::ops::{Add, Mul, Range, Sub};

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::super::cpu::{Matrix, Output, SharedOutput, multiply, with_scratch};
use super::super::panels::{
    Left, PANEL, Right, Store, for_each_piece, lanes, multiply_into, panels_length,
};
use super::super::vectorized::{arch, vectorized};
use super::forward::Epilogue;
use super::geometry::{Geometry, TASKS};

/// Points of a transformed tile.
const POINTS: usize = 36;
/// Outputs of a tile along each axis.
const SIDE: usize = 4;
/// Most tiles of a block. All weights are read once for each block.
const TILES: usize = 56;
/// Most tiles of a block if the second-level cache holds the weights: it then holds the inputs and the
/// products of the block too.
const TILES_OF_FEW_WEIGHTS: usize = 24;
/// Elements of the transformed weights, 1 MiB, up to which they count as few.
const FEW_WEIGHTS: usize = 256 * 1024;
/// Elements between the inputs of two tiles that no channel has: one cache line. With a multiple of 1024
/// channels their distance would be a multiple of 4 KiB, and the tiles of a product would compete for the same
/// sets of the first-level cache. It has at least the lanes of a vector.
const GAP: usize = 16;
/// Filters whose weights are transformed at a time; divides a panel.
const BLOCK: usize = 16;

/// Tiles of a batch from which this algorithm is used if the weights are transformed in every call, to four
/// times their size, which fewer tiles do not make up for.
const LEAST_TILES: usize = 150;
/// As [`LEAST_TILES`], if the transformed weights are kept: a feature map of 14x14.
const LEAST_TILES_KEPT: usize = 16;

/// Returns whether this algorithm is faster than unfolding; `docs/speed.md` has the measurements. `is_kept`
/// tells whether the transformed weights are kept from call to call.
///
/// With fewer than 16 channels or filters the transforms take longer than the products save, and on
/// feature maps below 8x8 a large part of each tile is outside of the feature map.
pub(super) fn is_profitable(geometry: &Geometry, is_kept: bool) -> bool {
    let [height, width] = geometry.output;
    let least_tiles = if is_kept {
        LEAST_TILES_KEPT
    } else {
        LEAST_TILES
    };
    is_possible(geometry)
        && geometry.channels >= 16
        && geometry.filters >= 16
        && height.min(width) >= 8
        && Grid::new(geometry).tiles >= least_tiles
}

/// Returns whether this algorithm is faster for the gradient of the weights. The 36 sums of every pair
/// of channel and filter are transformed back, so the products have to be longer than they are wide.
pub(super) fn is_gradient_profitable(geometry: &Geometry) -> bool {
    let widest = geometry.channels.max(geometry.filters);
    is_profitable(geometry, false) && Grid::new(geometry).tiles >= 2 * widest
}

fn is_possible(geometry: &Geometry) -> bool {
    geometry.kernel == [3, 3]
        && geometry.stride == [1, 1]
        && geometry.dilation == [1, 1]
        && geometry.padding.iter().all(|&padding| padding <= 2)
        && geometry.groups == 1
}

/// The layout of the weights.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// `[filters, channels, 3, 3]` of this convolution.
    Given,
    /// `[channels, filters, 3, 3]` of the convolution whose input gradient this computes. The
    /// transform rotates the kernels by 180 degrees.
    Transposed,
}

// ---------------------------------------------------------------------------------------------
// The transforms along one axis (Lavin and Gray, section 4.2)
// ---------------------------------------------------------------------------------------------

/// A number, or a vector of them.
trait Value: Copy + Add<Output = Self> + Sub<Output = Self> + Mul<f32, Output = Self> {}

impl Value for f32 {}

/// A vector with the operators of numbers.
#[derive(Clone, Copy)]
struct Lanes<S: Simd>(S, S::f32s);

impl<S: Simd> Add for Lanes<S> {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(self.0, self.0.add_f32s(self.1, other.1))
    }
}

impl<S: Simd> Sub for Lanes<S> {
    type Output = Self;

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(self.0, self.0.sub_f32s(self.1, other.1))
    }
}

impl<S: Simd> Mul<f32> for Lanes<S> {
    type Output = Self;

    #[inline(always)]
    fn mul(self, factor: f32) -> Self {
        Self(self.0, self.0.mul_f32s(self.1, self.0.splat_f32s(factor)))
    }
}

impl<S: Simd> Value for Lanes<S> {}

/// Transforms six inputs.
#[inline(always)]
fn input_to_points<T: Value>([a, b, c, d, e, f]: [T; 6]) -> [T; 6] {
    let even = e - c * 4.0;
    let odd = d - b * 4.0;
    let far_even = e - c;
    let far_odd = (d - b) * 2.0;
    [
        a * 4.0 - c * 5.0 + e,
        even + odd,
        even - odd,
        far_even + far_odd,
        far_even - far_odd,
        b * 4.0 - d * 5.0 + f,
    ]
}

/// Transforms three weights.
#[inline(always)]
fn weight_to_points([a, b, c]: [f32; 3]) -> [f32; 6] {
    let outer = (a + c) * (-1.0 / 6.0);
    let inner = b * (1.0 / 6.0);
    let far_outer = a * (1.0 / 24.0) + c * (1.0 / 6.0);
    let far_inner = b * (1.0 / 12.0);
    [
        a * 0.25,
        outer - inner,
        outer + inner,
        far_outer + far_inner,
        far_outer - far_inner,
        c,
    ]
}

/// Transforms six products to four outputs.
#[inline(always)]
fn points_to_output<T: Value>([a, b, c, d, e, f]: [T; 6]) -> [T; 4] {
    let (near_sum, near) = (b + c, b - c);
    let (far_sum, far) = (d + e, d - e);
    [
        a + near_sum + far_sum,
        near + far * 2.0,
        near_sum + far_sum * 4.0,
        near + far * 8.0 + f,
    ]
}

/// Transforms the gradients of four outputs: the transpose of [`points_to_output`].
#[inline(always)]
fn output_gradient_to_points([a, b, c, d]: [f32; 4]) -> [f32; 6] {
    let (even, odd) = (a + c, b + d);
    let (far_even, far_odd) = (a + 4.0 * c, 2.0 * b + 8.0 * d);
    [
        a,
        even + odd,
        even - odd,
        far_even + far_odd,
        far_even - far_odd,
        d,
    ]
}

/// Transforms six sums to the gradients of three weights: the transpose of [`weight_to_points`].
#[inline(always)]
fn points_to_weight_gradient([a, b, c, d, e, f]: [f32; 6]) -> [f32; 3] {
    let near = (b + c) * (-1.0 / 6.0);
    let (far_sum, far) = (d + e, d - e);
    [
        a * 0.25 + near + far_sum * (1.0 / 24.0),
        (c - b) * (1.0 / 6.0) + far * (1.0 / 12.0),
        near + far_sum * (1.0 / 6.0) + f,
    ]
}

// ---------------------------------------------------------------------------------------------
// Tiles
// ---------------------------------------------------------------------------------------------

/// Consecutive tiles of one row of tiles.
#[derive(Clone, Copy)]
struct Run {
    image: usize,
    /// Row of tiles.
    y: usize,
    /// First column of tiles.
    x: usize,
    tiles: usize,
    /// The column of the first tile in the matrices.
    column: usize,
}

/// The tiles of a batch, counted row by row and image by image.
struct Grid {
    rows: usize,
    columns: usize,
    tiles: usize,
}

impl Grid {
    fn new(geometry: &Geometry) -> Self {
        let [rows, columns] = geometry.output.map(|size| size.div_ceil(SIDE));
        Self {
            rows,
            columns,
            tiles: geometry.batch * rows * columns,
        }
    }

    fn runs(&self, tiles: Range<usize>) -> Vec<Run> {
        let mut runs = Vec::new();
        let mut tile = tiles.start;
        while tile < tiles.end {
            let x = tile % self.columns;
            let row = tile / self.columns;
            let count = (self.columns - x).min(tiles.end - tile);
            runs.push(Run {
                image: row / self.rows,
                y: row % self.rows,
                x,
                tiles: count,
                column: tile - tiles.start,
            });
            tile += count;
        }
        runs
    }

    /// Returns the length of the longest run in this number of tiles.
    fn longest_run(&self, tiles: usize) -> usize {
        self.columns.min(tiles)
    }
}

/// Returns the elements of scratch memory that [`transform_input`] needs.
fn input_scratch(longest_run: usize) -> usize {
    let line = SIDE * (longest_run + 1);
    6 * line + 4 * (longest_run + 1)
}

/// Transforms a run of tiles of one plane. Point `p` of tile `t` is written to
/// `points[p * stride + t]`.
#[inline(always)]
fn transform_input(
    plane: &[f32],
    geometry: &Geometry,
    run: Run,
    points: &mut [f32],
    stride: usize,
    scratch: &mut [f32],
) {
    let [height, width] = geometry.input;
    let tiles = run.tiles;
    // A tile overlaps the next one by two pixels.
    let length = SIDE * (tiles + 1);
    let (lines, phases) = scratch.split_at_mut(6 * length);
    let first_x = (SIDE * run.x) as isize - geometry.padding[1] as isize;
    let left = (-first_x).clamp(0, length as isize) as usize;
    let right = (width as isize - first_x).clamp(left as isize, length as isize) as usize;
    for (row, line) in lines.chunks_exact_mut(length).enumerate() {
        let y = (SIDE * run.y + row) as isize - geometry.padding[0] as isize;
        if y < 0 || y >= height as isize {
            line.fill(0.0);
            continue;
        }
        let source = &plane[y as usize * width..][..width];
        line[..left].fill(0.0);
        if left < right {
            let from = (first_x + left as isize) as usize;
            line[left..right].copy_from_slice(&source[from..from + right - left]);
        }
        line[right..].fill(0.0);
    }
    let [a, b, c, d, e, f] = parts_mut(lines, length, length);
    for x in 0..length {
        let column = input_to_points([a[x], b[x], c[x], d[x], e[x], f[x]]);
        [a[x], b[x], c[x], d[x], e[x], f[x]] = column;
    }
    for (row, line) in lines.chunks_exact(length).enumerate() {
        // Pixel 0, 1, 2 and 3 of every tile; 4 and 5 are 0 and 1 of the next.
        let [zero, one, two, three] = parts_mut(phases, tiles + 1, tiles + 1);
        let (quads, _) = line.as_chunks::<SIDE>();
        for t in 0..tiles + 1 {
            [zero[t], one[t], two[t], three[t]] = quads[t];
        }
        let [a, b, c, d, e, f] = parts_mut(&mut points[row * 6 * stride..], stride, tiles);
        for t in 0..tiles {
            let transformed =
                input_to_points([zero[t], one[t], two[t], three[t], zero[t + 1], one[t + 1]]);
            [a[t], b[t], c[t], d[t], e[t], f[t]] = transformed;
        }
    }
}

/// Returns `N` parts of a buffer, `stride` apart and `length` long.
#[inline(always)]
fn parts_mut<const N: usize>(buffer: &mut [f32], stride: usize, length: usize) -> [&mut [f32]; N] {
    let mut rest = buffer;
    std::array::from_fn(|n| {
        let whole = std::mem::take(&mut rest);
        let end = if n + 1 == N { length } else { stride };
        let (part, after) = whole.split_at_mut(end);
        rest = after;
        &mut part[..length]
    })
}

/// Returns `N` parts of a buffer, `stride` apart and `length` long.
#[inline(always)]
fn parts<const N: usize>(buffer: &[f32], stride: usize, length: usize) -> [&[f32]; N] {
    std::array::from_fn(|n| &buffer[n * stride..][..length])
}

/// Returns the elements of scratch memory that [`transform_output_gradient`] needs.
fn output_scratch(longest_run: usize) -> usize {
    (SIDE * 6 + SIDE) * longest_run
}

/// Transforms the output's gradient over a run of tiles of one plane. Outside of the plane it is zero.
#[inline(always)]
fn transform_output_gradient(
    plane: &[f32],
    [height, width]: [usize; 2],
    run: Run,
    points: &mut [f32],
    stride: usize,
    scratch: &mut [f32],
) {
    let tiles = run.tiles;
    let (half, line) = scratch.split_at_mut(SIDE * 6 * tiles);
    let line = &mut line[..SIDE * tiles];
    let x = SIDE * run.x;
    let inside = (width - x).min(SIDE * tiles);
    for (row, half) in half.chunks_exact_mut(6 * tiles).enumerate() {
        let y = SIDE * run.y + row;
        if y >= height {
            half.fill(0.0);
            continue;
        }
        line[..inside].copy_from_slice(&plane[y * width + x..][..inside]);
        line[inside..].fill(0.0);
        let (quads, _) = line.as_chunks::<SIDE>();
        let [a, b, c, d, e, f] = parts_mut(half, tiles, tiles);
        for t in 0..tiles {
            [a[t], b[t], c[t], d[t], e[t], f[t]] = output_gradient_to_points(quads[t]);
        }
    }
    for x in 0..6 {
        let [first, second, third, fourth] = parts(&half[x * tiles..], 6 * tiles, tiles);
        let [a, b, c, d, e, f] = parts_mut(&mut points[x * stride..], 6 * stride, tiles);
        for t in 0..tiles {
            let column = output_gradient_to_points([first[t], second[t], third[t], fourth[t]]);
            [a[t], b[t], c[t], d[t], e[t], f[t]] = column;
        }
    }
}

/// Transforms `[filters, channels, 3, 3]` to 36 right matrices `[channels, filters]` in the order of
/// [`Right`]; with [`Layout::Transposed`] to `[filters, channels]`.
pub(super) fn transform_weights(
    weight: &[f32],
    [filters, channels]: [usize; 2],
    layout: Layout,
) -> Vec<f32> {
    let (depth, columns) = match layout {
        Layout::Given => (channels, filters),
        Layout::Transposed => (filters, channels),
    };
    let of_point = panels_length(depth, columns);
    let mut output = Output::new(POINTS * of_point);
    let shared = output.shared();
    let blocks = match layout {
        // With the missing columns of the last panel, which are zeros.
        Layout::Given => filters.next_multiple_of(PANEL) / BLOCK,
        Layout::Transposed => filters.div_ceil(BLOCK),
    };
    (0..blocks).into_par_iter().for_each(|block| {
        let some = block * BLOCK..((block + 1) * BLOCK).min(filters.max(block * BLOCK));
        let of_line = BLOCK * channels;
        let padded = channels.next_multiple_of(PANEL);
        let lengths = [
            9 * channels,
            18 * channels,
            POINTS * of_line,
            of_line.max(padded),
        ];
        with_scratch(lengths, |[taps, half, lines, columns]| {
            vectorized(
                #[inline(always)]
                || {
                    // Row by row: points, filters, channels.
                    for (n, filter) in some.clone().enumerate() {
                        let source = &weight[filter * channels * 9..][..channels * 9];
                        let lines = &mut lines[n * channels..];
                        transform_filter(source, layout, taps, half, lines, of_line);
                    }
                    for (point, lines) in lines.chunks_exact(of_line.max(1)).enumerate() {
                        let lines = &lines[..some.len() * channels];
                        let lines = lines.chunks_exact(channels.max(1));
                        match layout {
                            Layout::Given => {
                                let (columns, _) = columns.as_chunks_mut::<BLOCK>();
                                for (n, line) in lines.enumerate() {
                                    for (column, value) in columns.iter_mut().zip(line) {
                                        column[n] = *value;
                                    }
                                }
                                let first = block * BLOCK;
                                for (row, column) in columns[..channels].iter_mut().enumerate() {
                                    column[some.len()..].fill(0.0);
                                    for_each_piece(depth, row, first, column, |at, piece| {
                                        // SAFETY: no other task has this block of filters.
                                        unsafe { shared.write(point * of_point + at, piece) };
                                    });
                                }
                            }
                            Layout::Transposed => {
                                for (filter, line) in some.clone().zip(lines) {
                                    let columns = &mut columns[..padded];
                                    columns[..channels].copy_from_slice(line);
                                    columns[channels..].fill(0.0);
                                    for_each_piece(depth, filter, 0, columns, |at, piece| {
                                        // SAFETY: no other task has this filter.
                                        unsafe { shared.write(point * of_point + at, piece) };
                                    });
                                }
                            }
                        }
                    }
                },
            );
        });
    });
    // SAFETY: every row of every point is written, with the missing columns of its last panel.
    unsafe { output.into_vec() }
}

/// Transforms the kernels `[channels, 3, 3]` of one filter. Point `p` is written to
/// `lines[p * stride..]`.
#[inline(always)]
fn transform_filter(
    source: &[f32],
    layout: Layout,
    taps: &mut [f32],
    half: &mut [f32],
    lines: &mut [f32],
    stride: usize,
) {
    let (kernels, _) = source.as_chunks::<9>();
    let channels = kernels.len();
    for (tap, line) in taps.chunks_exact_mut(channels).enumerate() {
        let tap = match layout {
            Layout::Given => tap,
            Layout::Transposed => 8 - tap,
        };
        for (to, kernel) in line.iter_mut().zip(kernels) {
            *to = kernel[tap];
        }
    }
    for x in 0..3 {
        let [a, b, c] = parts(&taps[x * channels..], 3 * channels, channels);
        let [p, q, r, s, t, u] = parts_mut(&mut half[x * channels..], 3 * channels, channels);
        for n in 0..channels {
            [p[n], q[n], r[n], s[n], t[n], u[n]] = weight_to_points([a[n], b[n], c[n]]);
        }
    }
    for (row, half) in half.chunks_exact(3 * channels).enumerate() {
        let [a, b, c] = parts(half, channels, channels);
        let [p, q, r, s, t, u] = parts_mut(&mut lines[row * 6 * stride..], stride, channels);
        for n in 0..channels {
            [p[n], q[n], r[n], s[n], t[n], u[n]] = weight_to_points([a[n], b[n], c[n]]);
        }
    }
}

// ---------------------------------------------------------------------------------------------
// The convolution
// ---------------------------------------------------------------------------------------------

/// Computes the convolution of `x` with the result of [`transform_weights`].
pub(super) fn convolve(
    x: &[f32],
    geometry: &Geometry,
    epilogue: Epilogue<'_>,
    transformed: &[f32],
) -> Output {
    let grid = Grid::new(geometry);
    let most = most_tiles(transformed.len(), grid.tiles);
    let blocks = grid.tiles.div_ceil(most).max(1);
    let per_block = grid.tiles.div_ceil(blocks).next_multiple_of(8);
    let task = Task {
        x,
        geometry,
        epilogue,
        transformed,
        stride: geometry.channels.next_multiple_of(GAP) + GAP,
        per_block,
    };
    let blocks: Vec<Vec<Run>> = (0..grid.tiles)
        .step_by(per_block.max(1))
        .map(|first| grid.runs(first..(first + per_block).min(grid.tiles)))
        .collect();
    let panels = geometry.filters.div_ceil(PANEL);
    let mut output = Output::new(geometry.output_shape().iter().product());
    let shared = output.shared();
    if blocks.len() >= TASKS / 2 {
        blocks.par_iter().for_each(|runs| {
            with_scratch(task.scratch(), |[inputs, products, strip]| {
                let points = SharedOutput::of(inputs);
                task.transform_input(runs, 0..geometry.channels, strip, points, 0);
                for panel in 0..panels {
                    task.multiply(runs, panel, inputs, products, strip, shared);
                }
            });
        });
        return output;
    }
    // Few tiles: the threads share the transformed input, and the filters.
    let of_block = task.points_length();
    let mut inputs = vec![0.0; blocks.len() * of_block];
    let points = SharedOutput::of(&mut inputs);
    let groups = geometry.channels.div_ceil(GAP);
    (0..blocks.len() * groups)
        .into_par_iter()
        .for_each(|index| {
            let (block, first) = (index / groups, index % groups * GAP);
            let channels = first..(first + GAP).min(geometry.channels);
            with_scratch(task.scratch(), |[_, _, strip]| {
                task.transform_input(&blocks[block], channels, strip, points, block * of_block);
            });
        });
    (0..blocks.len() * panels)
        .into_par_iter()
        .for_each(|index| {
            let (block, panel) = (index % blocks.len(), index / blocks.len());
            let inputs = &inputs[block * of_block..][..of_block];
            with_scratch(task.scratch(), |[_, products, strip]| {
                task.multiply(&blocks[block], panel, inputs, products, strip, shared);
            });
        });
    output
}

/// Returns the number of tiles that a block should have at most.
fn most_tiles(transformed_weights: usize, tiles: usize) -> usize {
    if transformed_weights <= FEW_WEIGHTS && tiles > TILES {
        TILES_OF_FEW_WEIGHTS
    } else {
        TILES
    }
}

/// The values that the tasks of a convolution share.
struct Task<'a> {
    x: &'a [f32],
    geometry: &'a Geometry,
    epilogue: Epilogue<'a>,
    /// See [`transform_weights`].
    transformed: &'a [f32],
    /// Elements between the inputs of two tiles.
    stride: usize,
    /// Most tiles of a block.
    per_block: usize,
}

impl Task<'_> {
    /// Returns the number of transformed inputs of a block: `[points, tiles, channels]`.
    fn points_length(&self) -> usize {
        POINTS * self.per_block * self.stride
    }

    /// Returns the lengths of the transformed inputs, of the products of a panel, and of the pixels of a run.
    fn scratch(&self) -> [usize; 3] {
        let longest = Grid::new(self.geometry).longest_run(self.per_block);
        let strip = 6 * (SIDE * longest + 2) * lanes();
        [self.points_length(), POINTS * self.per_block * PANEL, strip]
    }

    /// Transforms some channels of the tiles of a block to `points`, from `start` on.
    fn transform_input(
        &self,
        runs: &[Run],
        channels: Range<usize>,
        strip: &mut [f32],
        points: SharedOutput<'_>,
        start: usize,
    ) {
        arch().dispatch(InputTransform {
            task: self,
            runs,
            channels,
            strip,
            points,
            start,
        });
    }

    /// Multiplies the transformed inputs of a block by a panel of filters, and transforms the products to
    /// outputs.
    fn multiply(
        &self,
        runs: &[Run],
        panel: usize,
        inputs: &[f32],
        products: &mut [f32],
        strip: &mut [f32],
        output: SharedOutput<'_>,
    ) {
        let (channels, filters) = (self.geometry.channels, self.geometry.filters);
        let tiles = runs.iter().map(|run| run.tiles).sum();
        let of_point = panels_length(channels, filters);
        let filters = panel * PANEL..((panel + 1) * PANEL).min(filters);
        let of_panel = channels * PANEL;
        for point in 0..POINTS {
            let left = Left::Rows {
                data: &inputs[point * self.per_block * self.stride..],
                stride: self.stride,
            };
            let right = Right {
                data: &self.transformed[point * of_point + panel * of_panel..][..of_panel],
                columns: filters.len(),
            };
            let mut store = Store {
                matrix: &mut products[point * self.per_block * PANEL..],
                stride: PANEL,
            };
            multiply_into(left, tiles, channels, right, &mut store);
        }
        arch().dispatch(OutputTransform {
            task: self,
            runs,
            filters,
            products,
            strip,
            output,
        });
    }
}

/// Copies the beginnings of rows, `stride` elements apart, to the lanes of vectors: element `x` of row `r` to
/// `vectors[x * lanes + r]`.
///
/// Four rows at a time, of which the compiler makes vector shuffles.
#[inline(always)]
fn interleave(rows: &[f32], stride: usize, count: usize, vectors: &mut [f32], lanes: usize) {
    let length = vectors.len() / lanes;
    let whole = count / 4 * 4;
    for first in (0..whole).step_by(4) {
        let [a, b, c, d]: [&[f32]; 4] =
            std::array::from_fn(|r| &rows[(first + r) * stride..][..length]);
        for (x, vector) in vectors.chunks_exact_mut(lanes).enumerate() {
            vector[first..first + 4].copy_from_slice(&[a[x], b[x], c[x], d[x]]);
        }
    }
    for row in whole..count {
        let source = &rows[row * stride..][..length];
        for (vector, value) in vectors.chunks_exact_mut(lanes).zip(source) {
            vector[row] = *value;
        }
    }
}

/// Copies the lanes of vectors to rows, `stride` elements apart: the reverse of [`interleave`].
#[inline(always)]
fn separate(vectors: &[f32], lanes: usize, rows: &mut [f32], stride: usize) {
    let whole = lanes / 4 * 4;
    for first in (0..whole).step_by(4) {
        let [a, b, c, d] = parts_mut(&mut rows[first * stride..], stride, vectors.len() / lanes);
        for (x, vector) in vectors.chunks_exact(lanes).enumerate() {
            let values = &vector[first..first + 4];
            [a[x], b[x], c[x], d[x]] = [values[0], values[1], values[2], values[3]];
        }
    }
    for row in whole..lanes {
        let vectors = vectors.chunks_exact(lanes);
        for (to, vector) in rows[row * stride..].iter_mut().zip(vectors) {
            *to = vector[row];
        }
    }
}

/// The transform of the inputs, with channels in the lanes of the vectors.
struct InputTransform<'a, 's> {
    task: &'a Task<'a>,
    runs: &'a [Run],
    channels: Range<usize>,
    strip: &'s mut [f32],
    points: SharedOutput<'a>,
    start: usize,
}

impl WithSimd for InputTransform<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Task { x, geometry, .. } = *self.task;
        let (stride, per_block) = (self.task.stride, self.task.per_block);
        let [height, width] = geometry.input;
        for first in self.channels.clone().step_by(S::F32_LANES) {
            let channels = first..(first + S::F32_LANES).min(self.channels.end);
            for run in self.runs {
                let planes = &x[geometry.input_block(run.image, 0, &channels)];
                let length = SIDE * run.tiles + 2;
                let strip = &mut self.strip[..6 * length * S::F32_LANES];
                let first_x = (SIDE * run.x) as isize - geometry.padding[1] as isize;
                let left = (-first_x).clamp(0, length as isize) as usize;
                let right = (width as isize - first_x).clamp(left as isize, length as isize);
                let (right, from) = (right as usize, (first_x + left as isize) as usize);
                for row in 0..6 {
                    let strip = &mut strip[row * length * S::F32_LANES..][..length * S::F32_LANES];
                    let y = (SIDE * run.y + row) as isize - geometry.padding[0] as isize;
                    if y < 0 || y >= height as isize || left == right {
                        strip.fill(0.0);
                        continue;
                    }
                    strip[..left * S::F32_LANES].fill(0.0);
                    strip[right * S::F32_LANES..].fill(0.0);
                    let strip = &mut strip[left * S::F32_LANES..right * S::F32_LANES];
                    if channels.len() < S::F32_LANES {
                        strip.fill(0.0);
                    }
                    let source = &planes[y as usize * width + from..];
                    interleave(source, height * width, channels.len(), strip, S::F32_LANES);
                }
                let (strip, _) = S::as_simd_f32s(strip);
                for tile in 0..run.tiles {
                    let half: [[Lanes<S>; 6]; 6] = std::array::from_fn(|x| {
                        let at = SIDE * tile + x;
                        input_to_points(std::array::from_fn(|y| {
                            Lanes(simd, strip[y * length + at])
                        }))
                    });
                    let rows: [_; 6] = std::array::from_fn(|y| {
                        input_to_points(std::array::from_fn(|x| half[x][y]))
                    });
                    for (y, row) in rows.into_iter().enumerate() {
                        for (x, Lanes(_, value)) in row.into_iter().enumerate() {
                            let at = (y * 6 + x) * per_block + run.column + tile;
                            // SAFETY: no other task has these channels of this block. Lanes without a
                            // channel are in the gap before the next tile.
                            unsafe {
                                let at = self.start + at * stride + first;
                                self.points.write_vectors::<S, 1>(at, [value]);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The transform of the products, with filters in the lanes of the vectors.
struct OutputTransform<'a, 's> {
    task: &'a Task<'a>,
    runs: &'a [Run],
    filters: Range<usize>,
    products: &'s [f32],
    strip: &'s mut [f32],
    output: SharedOutput<'a>,
}

impl WithSimd for OutputTransform<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Task {
            geometry, epilogue, ..
        } = *self.task;
        let per_block = self.task.per_block;
        let [height, width] = geometry.output;
        let vectors = PANEL / S::F32_LANES;
        let (products, _) = S::as_simd_f32s(self.products);
        for vector in 0..self.filters.len().div_ceil(S::F32_LANES) {
            let first = self.filters.start + vector * S::F32_LANES;
            let filters = first..(first + S::F32_LANES).min(self.filters.end);
            for run in self.runs {
                let length = SIDE * run.tiles;
                let (strip, lines) = self.strip.split_at_mut(SIDE * length * S::F32_LANES);
                let lines = &mut lines[..length * S::F32_LANES];
                {
                    let (strip, _) = S::as_mut_simd_f32s(strip);
                    for tile in 0..run.tiles {
                        let half: [[Lanes<S>; 4]; 6] = std::array::from_fn(|x| {
                            points_to_output(std::array::from_fn(|y| {
                                let row = (y * 6 + x) * per_block + run.column + tile;
                                Lanes(simd, products[row * vectors + vector])
                            }))
                        });
                        let rows: [_; SIDE] = std::array::from_fn(|y| {
                            points_to_output(std::array::from_fn(|x| half[x][y]))
                        });
                        for (y, row) in rows.into_iter().enumerate() {
                            for (x, Lanes(_, value)) in row.into_iter().enumerate() {
                                strip[y * length + SIDE * tile + x] = value;
                            }
                        }
                    }
                }
                let x = SIDE * run.x;
                let inside = (width - x).min(length);
                let rows = (height - SIDE * run.y).min(SIDE);
                let plane = geometry.output_start(run.image, 0);
                for row in 0..rows {
                    let strip = &strip[row * length * S::F32_LANES..][..length * S::F32_LANES];
                    separate(strip, S::F32_LANES, lines, length);
                    for (filter, line) in filters.clone().zip(lines.chunks_exact_mut(length)) {
                        let line = &mut line[..inside];
                        let at = plane + (filter * height + SIDE * run.y + row) * width + x;
                        epilogue.apply_to_row((run.image, filter), at, line);
                        // SAFETY: no other task has this row of these tiles of this filter.
                        unsafe { self.output.write(at, line) };
                    }
                }
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------
// The gradient of the weights
// ---------------------------------------------------------------------------------------------

/// Tiles whose transformed inputs and output gradients are in memory at a time: 39 KiB per channel
/// and per filter. All tiles at a time would take 2.25 times the memory of both tensors.
const GRADIENT_TILES: usize = 256;

/// Transforms a run to the given points, with the given scratch memory.
type TransformRun<'a> = dyn Fn(Run, &mut [f32], &mut [f32]) + Sync + 'a;

/// Computes the gradient of `[filters, channels, 3, 3]`: input and output gradient are transformed and
/// multiplied over the tiles, and the sums are transformed back.
pub(super) fn weight_gradient(x: &[f32], dy: &[f32], geometry: &Geometry) -> Vec<f32> {
    let (channels, filters) = (geometry.channels, geometry.filters);
    let grid = Grid::new(geometry);
    let per_block = grid.tiles.clamp(1, GRADIENT_TILES);
    let stride = per_block.next_multiple_of(16) + GAP;
    let longest = grid.longest_run(per_block);
    let mut inputs = vec![0.0; channels * POINTS * stride];
    let mut gradients = vec![0.0; filters * POINTS * stride];
    let mut sums = vec![0.0; POINTS * filters * channels];
    for first in (0..grid.tiles).step_by(per_block) {
        let tiles = first..(first + per_block).min(grid.tiles);
        let runs = grid.runs(tiles.clone());
        // The points of a channel are contiguous, so that a task owns them.
        let transform = |points: &mut [f32], transform_run: &TransformRun<'_>| {
            let length = input_scratch(longest).max(output_scratch(longest));
            with_scratch([length], |[scratch]| {
                for &run in &runs {
                    transform_run(run, &mut points[run.column..], scratch);
                }
            });
        };
        inputs
            .par_chunks_mut(POINTS * stride)
            .with_min_len(4)
            .enumerate()
            .for_each(|(channel, points)| {
                transform(points, &|run, points, scratch| {
                    let plane = &x[geometry.input_block(run.image, 0, &(channel..channel + 1))];
                    vectorized(
                        #[inline(always)]
                        || transform_input(plane, geometry, run, points, stride, scratch),
                    );
                });
            });
        gradients
            .par_chunks_mut(POINTS * stride)
            .with_min_len(4)
            .enumerate()
            .for_each(|(filter, points)| {
                transform(points, &|run, points, scratch| {
                    let start =
                        geometry.output_start(run.image, 0) + filter * geometry.output_pixels();
                    let plane = &dy[start..start + geometry.output_pixels()];
                    let size = geometry.output;
                    vectorized(
                        #[inline(always)]
                        || transform_output_gradient(plane, size, run, points, stride, scratch),
                    );
                });
            });
        sums.par_chunks_mut(filters * channels)
            .enumerate()
            .for_each(|(point, sums)| {
                let of_point = |points: &'_ [f32]| point * stride..points.len();
                let left = Matrix::rows(
                    &gradients[of_point(&gradients)],
                    filters,
                    tiles.len(),
                    POINTS * stride,
                );
                let right = Matrix::rows(
                    &inputs[of_point(&inputs)],
                    channels,
                    tiles.len(),
                    POINTS * stride,
                );
                let shared = SharedOutput::of(sums);
                let mut target = shared.matrix(0, filters, channels, channels);
                // SAFETY: the chunk belongs to this task and starts as zeros.
                unsafe { multiply(&mut target, left, right.transposed(), true) };
            });
    }
    let mut gradient = vec![0.0; filters * channels * 9];
    gradient
        .par_chunks_mut(channels * 9)
        .with_min_len(4)
        .enumerate()
        .for_each(|(filter, gradient)| {
            let (kernels, _) = gradient.as_chunks_mut::<9>();
            for (channel, kernel) in kernels.iter_mut().enumerate() {
                let at = |point: usize| sums[(point * filters + filter) * channels + channel];
                let half: [[f32; 3]; 6] = std::array::from_fn(|x| {
                    points_to_weight_gradient(std::array::from_fn(|y| at(y * 6 + x)))
                });
                for y in 0..3 {
                    let row = points_to_weight_gradient(std::array::from_fn(|x| half[x][y]));
                    kernel[y * 3..y * 3 + 3].copy_from_slice(&row);
                }
            }
        });
    gradient
}
