//! The gradient of the input. With stride 1 it is a convolution of the output's gradient with the
//! rotated kernels, filters and channels exchanged; else it is a product that is folded back.

use std::ops::Range;

use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use super::super::bf16::{Bf16Cpu, ComputePrecision, Pair, PairLeft, PairPanels, ROWS};
use super::super::cpu::{Contiguous, Matrix, Output, SharedOutput, dims, multiply, with_scratch};
use super::super::panels::{Add, Left, PANEL};
use super::Conv2dOptions;
use super::arithmetic::F32;
use super::forward::{Epilogue, convolve, convolve_rows};
use super::geometry::{Geometry, MIN_TILE_PIXELS, TASKS, TILE_ELEMENTS};
use super::packed::Weights;
use super::unfold::fold;
use super::winograd::{self, Layout, transform_weights};
use super::{depthwise, grouped};

pub(super) fn cpu_input_gradient(
    output_gradient: FlexTensor,
    weight: FlexTensor,
    input_shape: [usize; 4],
    options: Conv2dOptions,
    precision: ComputePrecision,
) -> FlexTensor {
    let geometry = Geometry::new(input_shape, dims(&weight), options);
    let output_gradient = Contiguous::new(output_gradient);
    let weight = Contiguous::new(weight);
    let output = input_gradient(output_gradient.data(), weight.data(), &geometry, precision);
    // SAFETY: each of the algorithms writes every element.
    unsafe { output.into_tensor(input_shape) }
}

/// Computes the gradient by the algorithm that is fastest for the shape. Every element of the result
/// is written.
fn input_gradient(
    dy: &[f32],
    weight: &[f32],
    geometry: &Geometry,
    precision: ComputePrecision,
) -> Output {
    if depthwise::is_possible(geometry) {
        return depthwise::input_gradient(dy, weight, geometry);
    }
    let reach = |axis: usize| geometry.dilation[axis] * (geometry.kernel[axis] - 1);
    let mirrors =
        geometry.stride == [1, 1] && (0..2).all(|axis| geometry.padding[axis] <= reach(axis));
    if !mirrors {
        return fold_input_gradient(dy, weight, geometry, precision);
    }
    // The convolution whose output is the gradient.
    let mirrored = Geometry {
        channels: geometry.filters,
        filters: geometry.channels,
        input: geometry.output,
        output: geometry.input,
        padding: [0, 1].map(|axis| reach(axis) - geometry.padding[axis]),
        ..*geometry
    };
    let epilogue = Epilogue::default();
    if grouped::is_profitable(&mirrored) {
        let rotated = rotate_weights(weight, geometry);
        return grouped::convolve(dy, &rotated, &mirrored, epilogue);
    }
    if winograd::is_profitable(&mirrored, false) {
        let shape = [geometry.filters, geometry.channels];
        let transformed = transform_weights(weight, shape, Layout::Transposed);
        return winograd::convolve(dy, &mirrored, epilogue, &transformed);
    }
    let bf16 = precision.bf16().filter(|_| geometry.groups == 1);
    if geometry.is_pointwise() && bf16.is_none() {
        let (channels, filters) = (geometry.channels, geometry.filters);
        let columns = |range: Range<usize>| {
            let (group, channel) = (range.start / channels, range.start % channels);
            Left::Columns {
                data: &weight[group * filters * channels + channel..],
                stride: channels,
            }
        };
        return convolve(dy, &mirrored, epilogue, &F32(columns));
    }
    if geometry.batch * geometry.output_pixels() >= ROTATED_FROM {
        let rotated = rotate_weights(weight, geometry);
        let pixels = geometry.batch * geometry.output_pixels();
        let weights = Weights::new(&rotated, precision, pixels);
        return convolve_rows(dy, &mirrored, epilogue, weights);
    }
    fold_input_gradient(dy, weight, geometry, precision)
}

/// Output pixels of a batch from which the weights are rotated. Rotating copies all weights, which
/// for fewer pixels takes longer than folding the product.
const ROTATED_FROM: usize = 128;

/// Returns the weights of the mirrored convolution: `[group, channel, filter, kernel rotated by 180
/// degrees]`.
fn rotate_weights(weight: &[f32], geometry: &Geometry) -> Vec<f32> {
    let (channels, filters) = (geometry.channels, geometry.filters);
    let kernel = geometry.kernel_elements();
    let mut rotated = vec![0.0; weight.len()];
    rotated
        .par_chunks_mut(filters * kernel)
        .with_min_len(8)
        .enumerate()
        .for_each(|(index, rows)| {
            let (group, channel) = (index / channels, index % channels);
            for (filter, row) in rows.chunks_exact_mut(kernel).enumerate() {
                let start = ((group * filters + filter) * channels + channel) * kernel;
                for (to, from) in row
                    .iter_mut()
                    .zip(weight[start..start + kernel].iter().rev())
                {
                    *to = *from;
                }
            }
        });
    rotated
}

/// How the gradient of the unfolded input is computed: the product of the transposed weights and the output's gradient.
trait FoldedProduct: Sync {
    /// A task has a multiple of this many rows, or all rows.
    const ROWS: usize;

    /// Columns of a product are a multiple of this, up to the last column.
    const COLUMNS: usize;

    /// Writes the product of some rows, which `channels` of a group are, and some pixels of an image.
    fn multiply(
        &self,
        geometry: &Geometry,
        image_and_group: (usize, usize),
        channels: &Range<usize>,
        pixels: &Range<usize>,
        product: &mut [f32],
    );
}

/// Multiplies 32-bit floats.
struct FoldedF32<'a> {
    dy: &'a [f32],
    weight: &'a [f32],
}

impl FoldedProduct for FoldedF32<'_> {
    const ROWS: usize = 1;
    const COLUMNS: usize = 16;

    fn multiply(
        &self,
        geometry: &Geometry,
        (image, group): (usize, usize),
        channels: &Range<usize>,
        pixels: &Range<usize>,
        product: &mut [f32],
    ) {
        let (kernel, rows) = (geometry.kernel_elements(), geometry.rows());
        let block_rows = channels.len() * kernel;
        let weights = &self.weight[group * geometry.filters * rows + channels.start * kernel..];
        let weights = Matrix::rows(weights, geometry.filters, block_rows, rows);
        let dy = &self.dy[geometry.output_start(image, group) + pixels.start..];
        let dy = Matrix::rows(dy, geometry.filters, pixels.len(), geometry.output_pixels());
        let mut product =
            SharedOutput::of(product).matrix(0, block_rows, pixels.len(), pixels.len());
        // SAFETY: the buffer belongs to this task and is initialized.
        unsafe { multiply(&mut product, weights.transposed(), dy, false) };
    }
}

/// Multiplies bf16, without groups.
struct FoldedBf16 {
    cpu: Bf16Cpu,
    /// The transposed weights, a left matrix of pairs of filters.
    weights: Vec<Pair>,
    /// The output's gradient of each image, a right matrix.
    dy: Vec<Vec<Pair>>,
}

impl FoldedBf16 {
    fn new(cpu: Bf16Cpu, dy: &[f32], weight: &[f32], geometry: &Geometry) -> Self {
        let (filters, pixels) = (geometry.filters, geometry.output_pixels());
        let images = dy.chunks_exact((filters * pixels).max(1));
        Self {
            cpu,
            weights: cpu.panels(weight, [filters, geometry.rows()], ROWS),
            dy: images
                .map(|dy| cpu.panels(dy, [filters, pixels], PANEL))
                .collect(),
        }
    }
}

impl FoldedProduct for FoldedBf16 {
    const ROWS: usize = ROWS;
    const COLUMNS: usize = PANEL;

    fn multiply(
        &self,
        geometry: &Geometry,
        (image, _): (usize, usize),
        channels: &Range<usize>,
        pixels: &Range<usize>,
        product: &mut [f32],
    ) {
        let kernel = geometry.kernel_elements();
        let depth = geometry.filters.div_ceil(2);
        let left = PairLeft::Packed {
            data: &self.weights[channels.start * kernel * depth..],
            stride: depth * ROWS,
        };
        let right = PairPanels {
            data: &self.dy[image][pixels.start * depth..],
            depth,
            columns: pixels.len(),
        };
        product.fill(0.0);
        let mut sums = Add {
            matrix: product,
            columns: pixels.len(),
        };
        self.cpu
            .multiply(left, channels.len() * kernel, right, &mut sums);
    }
}

/// Computes the gradient of the unfolded input and folds it back, for any stride.
fn fold_input_gradient(
    dy: &[f32],
    weight: &[f32],
    geometry: &Geometry,
    precision: ComputePrecision,
) -> Output {
    match precision.bf16() {
        Some(cpu) if geometry.groups == 1 => {
            fold_product(geometry, &FoldedBf16::new(cpu, dy, weight, geometry))
        }
        _ => fold_product(geometry, &FoldedF32 { dy, weight }),
    }
}

/// Folds a product back to the gradient of the input. Each task owns some channels of an image and starts with zeros,
/// so every element is written.
///
/// A task's product is a tile of [`TILE_ELEMENTS`] at most, and with [`MIN_TILE_PIXELS`] columns at
/// least; both limit the channels of a task.
fn fold_product<P: FoldedProduct>(geometry: &Geometry, product: &P) -> Output {
    let kernel = geometry.kernel_elements();
    let (pixels, plane) = (geometry.output_pixels(), geometry.input_pixels());
    let owners = geometry.batch * geometry.groups;
    let blocks = TASKS
        .div_ceil(owners.max(1))
        .clamp(1, geometry.channels.div_ceil(8).max(1));
    let by_cache = (TILE_ELEMENTS / (kernel * MIN_TILE_PIXELS)).max(1);
    let per_block = geometry
        .channels
        .div_ceil(blocks)
        .clamp(1, by_cache)
        .next_multiple_of(P::ROWS);
    let blocks = geometry.channels.div_ceil(per_block);
    let width = (TILE_ELEMENTS / (per_block * kernel))
        .max(MIN_TILE_PIXELS)
        .next_multiple_of(P::COLUMNS)
        .min(pixels.max(1));

    let mut output =
        Output::new(geometry.batch * geometry.groups * geometry.channels * geometry.input_pixels());
    let shared = output.shared();
    (0..owners * blocks).into_par_iter().for_each(|index| {
        let (owner, block) = (index / blocks, index % blocks);
        let (image, group) = (owner / geometry.groups, owner % geometry.groups);
        let channels = block * per_block..((block + 1) * per_block).min(geometry.channels);
        let start = geometry.input_block(image, group, &channels).start;
        let mut target = shared.matrix(start, channels.len(), plane, plane);
        let block_rows = channels.len() * kernel;
        with_scratch([block_rows * width, plane], |[unfolded, zeros]| {
            zeros.fill(0.0);
            for channel in 0..channels.len() {
                // SAFETY: no other task has these channels of this image.
                unsafe { target.copy_row(channel, zeros) };
            }
            for first in (0..pixels).step_by(width) {
                let tile = first..(first + width).min(pixels);
                let unfolded = &mut unfolded[..block_rows * tile.len()];
                product.multiply(geometry, (image, group), &channels, &tile, unfolded);
                for channel in 0..channels.len() {
                    let rows = &unfolded[channel * kernel * tile.len()..];
                    // SAFETY: no other task has this plane; it was written above.
                    let plane = unsafe { target.row(channel) };
                    fold(rows, geometry, &tile, plane);
                }
            }
        });
    });
    output
}
