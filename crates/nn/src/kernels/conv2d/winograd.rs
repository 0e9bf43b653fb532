//! 3x3 convolutions of stride 1 by Winograd's minimal filtering, F(4x4, 3x3) (Lavin and Gray, 2016).
//!
//! A tile of 6x6 inputs is transformed to 36 points, and the convolution to one product per point: 36
//! multiplications for 4x4 outputs instead of 144. The tiles of a task are the columns of 36 matrix
//! products, and all transforms are loops over them without branches.
//!
//! The transforms add numbers of different magnitude, which costs accuracy. The largest difference to
//! double precision, relative to the largest value, is 6e-6 for outputs (64 channels), 4e-6 for the
//! gradient of the input and up to 2e-5 for that of the weights; a direct sum has 3e-7.

use std::ops::Range;

use rayon::prelude::*;

use super::super::cpu::{Matrix, Output, SharedOutput, multiply, with_scratch};
use super::super::panels::{Left, PANEL, Right, Store, multiply_into, pack_block, rows_at_once};
use super::super::vectorized::vectorized;
use super::forward::Epilogue;
use super::geometry::{Geometry, TASKS};

/// Points of a transformed tile.
const POINTS: usize = 36;
/// Outputs of a tile along each axis.
const SIDE: usize = 4;
/// Filters whose products are transformed back at a time. The products of 64 filters are 36 panels of
/// 12 KiB, 432 KiB, which stay in the second-level cache until they are read.
const FILTERS: usize = 64;
/// Elements between the matrices of two points: one cache line. With a multiple of 64 channels their
/// distance would be a multiple of 4 KiB, and the 36 points of a tile would compete for the same sets
/// of the first-level cache.
const GAP: usize = 16;

/// Tiles of a batch from which this algorithm is used. The weights are transformed in every call, to
/// four times their size, which fewer tiles do not make up for.
const LEAST_TILES: usize = 150;

/// Returns whether this algorithm is faster than unfolding; `docs/speed.md` has the measurements.
///
/// With fewer than 16 channels or filters the transforms take longer than the products save, and on
/// feature maps below 8x8 a large part of each tile is outside of the feature map.
pub(super) fn is_profitable(geometry: &Geometry) -> bool {
    let [height, width] = geometry.output;
    is_possible(geometry)
        && geometry.channels >= 16
        && geometry.filters >= 16
        && height.min(width) >= 8
        && Grid::new(geometry).tiles >= LEAST_TILES
}

/// Returns whether this algorithm is faster for the gradient of the weights. The 36 sums of every pair
/// of channel and filter are transformed back, so the products have to be longer than they are wide.
pub(super) fn is_gradient_profitable(geometry: &Geometry) -> bool {
    let widest = geometry.channels.max(geometry.filters);
    is_profitable(geometry) && Grid::new(geometry).tiles >= 2 * widest
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
pub(super) enum Weights {
    /// `[filters, channels, 3, 3]` of this convolution.
    Given,
    /// `[channels, filters, 3, 3]` of the convolution whose input gradient this computes. The
    /// transform rotates the kernels by 180 degrees.
    Transposed,
}

// ---------------------------------------------------------------------------------------------
// The transforms along one axis (Lavin and Gray, section 4.2)
// ---------------------------------------------------------------------------------------------

/// Transforms six inputs.
#[inline(always)]
fn input_to_points([a, b, c, d, e, f]: [f32; 6]) -> [f32; 6] {
    let even = e - 4.0 * c;
    let odd = d - 4.0 * b;
    let far_even = e - c;
    let far_odd = 2.0 * (d - b);
    [
        4.0 * a - 5.0 * c + e,
        even + odd,
        even - odd,
        far_even + far_odd,
        far_even - far_odd,
        4.0 * b - 5.0 * d + f,
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
fn points_to_output([a, b, c, d, e, f]: [f32; 6]) -> [f32; 4] {
    let (near_sum, near) = (b + c, b - c);
    let (far_sum, far) = (d + e, d - e);
    [
        a + near_sum + far_sum,
        near + 2.0 * far,
        near_sum + 4.0 * far_sum,
        near + 8.0 * far + f,
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

/// Returns the elements of scratch memory that [`transform_output`] and
/// [`transform_output_gradient`] need.
fn output_scratch(longest_run: usize) -> usize {
    (SIDE * 6 + SIDE) * longest_run
}

/// Transforms the products of a run to its four rows of outputs, and calls `store(row, line)` for each.
#[inline(always)]
fn transform_output(
    points: &[f32],
    stride: usize,
    tiles: usize,
    scratch: &mut [f32],
    mut store: impl FnMut(usize, &mut [f32]),
) {
    let (half, line) = scratch.split_at_mut(SIDE * 6 * tiles);
    for x in 0..6 {
        let [a, b, c, d, e, f] = parts(&points[x * stride..], 6 * stride, tiles);
        let [first, second, third, fourth] = parts_mut(&mut half[x * tiles..], 6 * tiles, tiles);
        for t in 0..tiles {
            let column = points_to_output([a[t], b[t], c[t], d[t], e[t], f[t]]);
            [first[t], second[t], third[t], fourth[t]] = column;
        }
    }
    for (row, half) in half.chunks_exact(6 * tiles).enumerate() {
        let [a, b, c, d, e, f] = parts(half, tiles, tiles);
        let (quads, _) = line.as_chunks_mut::<SIDE>();
        let quads = &mut quads[..tiles];
        for t in 0..tiles {
            quads[t] = points_to_output([a[t], b[t], c[t], d[t], e[t], f[t]]);
        }
        store(row, &mut line[..SIDE * tiles]);
    }
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

/// Transforms `[filters, channels, 3, 3]` to 36 left matrices `[filters, channels]` in the order of
/// [`Left::Packed`]; with [`Weights::Transposed`] to `[channels, filters]`.
fn transform_weights(weight: &[f32], [filters, channels]: [usize; 2], weights: Weights) -> Output {
    let at_once = rows_at_once();
    let of_point = match weights {
        Weights::Given => filters.next_multiple_of(at_once) * channels,
        Weights::Transposed => channels.next_multiple_of(at_once) * filters,
    };
    let mut output = Output::new(POINTS * of_point);
    let shared = output.shared();
    (0..filters.div_ceil(at_once))
        .into_par_iter()
        .for_each(|block| {
            let some = block * at_once..((block + 1) * at_once).min(filters);
            let lengths = [
                9 * channels,
                18 * channels,
                POINTS * at_once * channels,
                at_once * channels,
            ];
            with_scratch(lengths, |[taps, half, lines, packed]| {
                vectorized(
                    #[inline(always)]
                    || {
                        // Row by row: points, filters, channels.
                        let of_line = at_once * channels;
                        lines.fill(0.0);
                        for (n, filter) in some.clone().enumerate() {
                            let source = &weight[filter * channels * 9..][..channels * 9];
                            transform_filter(
                                source,
                                weights,
                                taps,
                                half,
                                &mut lines[n * channels..],
                                of_line,
                            );
                        }
                        for (point, lines) in lines.chunks_exact(of_line).enumerate() {
                            match weights {
                                Weights::Given => {
                                    pack_block(lines, channels, at_once, packed);
                                    let at = point * of_point + block * of_line;
                                    // SAFETY: no other task has this block of filters.
                                    unsafe { shared.write(at, packed) };
                                }
                                Weights::Transposed => {
                                    for (n, filter) in some.clone().enumerate() {
                                        let line = &lines[n * channels..][..channels];
                                        for (rows, piece) in line.chunks(at_once).enumerate() {
                                            let column = &mut packed[..at_once];
                                            column.fill(0.0);
                                            column[..piece.len()].copy_from_slice(piece);
                                            let at = point * of_point
                                                + (rows * filters + filter) * at_once;
                                            // SAFETY: no other task has this filter.
                                            unsafe { shared.write(at, column) };
                                        }
                                    }
                                }
                            }
                        }
                    },
                );
            });
        });
    output
}

/// Transforms the kernels `[channels, 3, 3]` of one filter. Point `p` is written to
/// `lines[p * stride..]`.
#[inline(always)]
fn transform_filter(
    source: &[f32],
    weights: Weights,
    taps: &mut [f32],
    half: &mut [f32],
    lines: &mut [f32],
    stride: usize,
) {
    let (kernels, _) = source.as_chunks::<9>();
    let channels = kernels.len();
    for (tap, line) in taps.chunks_exact_mut(channels).enumerate() {
        let tap = match weights {
            Weights::Given => tap,
            Weights::Transposed => 8 - tap,
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

/// Computes the convolution of `x`; [`Weights`] has the layout of `weight`.
pub(super) fn convolve(
    x: &[f32],
    geometry: &Geometry,
    epilogue: Epilogue<'_>,
    weight: &[f32],
    weights: Weights,
) -> Output {
    let (channels, filters) = (geometry.channels, geometry.filters);
    let shape = match weights {
        Weights::Given => [filters, channels],
        Weights::Transposed => [channels, filters],
    };
    let transformed = transform_weights(weight, shape, weights);
    // SAFETY: every block of every point is written, missing rows as zeros.
    let transformed = unsafe { transformed.into_vec() };
    let of_point = filters.next_multiple_of(rows_at_once()) * channels;
    let left = |point: usize, first: usize| Left::Packed {
        data: &transformed[point * of_point..][first * channels..of_point],
    };
    let grid = Grid::new(geometry);
    let blocks = grid.tiles.div_ceil(PANEL);
    // Too few tiles to keep the threads busy: split the filters too. Each split transforms the input
    // again, so it has at least 32 filters to use it for.
    let wanted = TASKS.div_ceil(2 * blocks.max(1));
    let filters_per_task = filters.div_ceil(wanted).max(32).next_multiple_of(8);
    let splits = filters.div_ceil(filters_per_task);
    let mut output = Output::new(geometry.output_shape().iter().product());
    let shared = output.shared();
    (0..blocks * splits).into_par_iter().for_each(|task| {
        let first = task / splits * PANEL;
        let tiles = first..(first + PANEL).min(grid.tiles);
        let first = task % splits * filters_per_task;
        let filters = first..(first + filters_per_task).min(filters);
        convolve_tiles(x, geometry, epilogue, &left, &grid, tiles, filters, shared);
    });
    output
}

#[allow(clippy::too_many_arguments)] // one call, the body of a task
fn convolve_tiles<'w>(
    x: &[f32],
    geometry: &Geometry,
    epilogue: Epilogue<'_>,
    left: &impl Fn(usize, usize) -> Left<'w>,
    grid: &Grid,
    tiles: Range<usize>,
    filters: Range<usize>,
    output: SharedOutput<'_>,
) {
    let channels = geometry.channels;
    let runs = grid.runs(tiles.clone());
    let longest = grid.longest_run(tiles.len());
    let columns = tiles.len();
    // One panel.
    let stride = PANEL;
    let of_point = channels * stride + GAP;
    let at_once = FILTERS.min(filters.len());
    let product_of_point = at_once * stride + GAP;
    let [height, width] = geometry.output;
    let lengths = [
        POINTS * of_point,
        POINTS * product_of_point,
        input_scratch(longest).max(output_scratch(longest)),
    ];
    with_scratch(lengths, |[inputs, products, scratch]| {
        vectorized(
            #[inline(always)]
            || {
                for channel in 0..channels {
                    for &run in &runs {
                        let plane = geometry.input_block(run.image, 0, &(channel..channel + 1));
                        let to = &mut inputs[channel * stride + run.column..];
                        transform_input(&x[plane], geometry, run, to, of_point, scratch);
                    }
                }
            },
        );
        for first in filters.clone().step_by(at_once) {
            let some = first..(first + at_once).min(filters.end);
            for point in 0..POINTS {
                let right = Right {
                    data: &inputs[point * of_point..][..channels * stride],
                    columns,
                };
                let mut store = Store {
                    matrix: &mut products[point * product_of_point..],
                    stride,
                };
                multiply_into(left(point, first), some.len(), channels, right, &mut store);
            }
            vectorized(
                #[inline(always)]
                || {
                    for (row, filter) in some.clone().enumerate() {
                        for &run in &runs {
                            let from = &products[row * stride + run.column..];
                            let plane = geometry.output_start(run.image, 0)
                                + filter * geometry.output_pixels();
                            let x = SIDE * run.x;
                            let inside = (width - x).min(SIDE * run.tiles);
                            transform_output(
                                from,
                                product_of_point,
                                run.tiles,
                                scratch,
                                #[inline(always)]
                                |row, line| {
                                    let y = SIDE * run.y + row;
                                    if y < height {
                                        let at = plane + y * width + x;
                                        let line = &mut line[..inside];
                                        epilogue.apply_to_row((run.image, filter), at, line);
                                        // SAFETY: no other task has this row of these tiles
                                        // of this filter.
                                        unsafe { output.write(at, line) };
                                    }
                                },
                            );
                        }
                    }
                },
            );
        }
    });
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
