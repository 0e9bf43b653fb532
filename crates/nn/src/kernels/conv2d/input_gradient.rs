//! The gradient of the input. With stride 1 it is a convolution of the output's gradient with the
//! rotated kernels, filters and channels exchanged; else it is a product that is folded back.

use std::ops::Range;

use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use super::super::cpu::{Contiguous, Matrix, Output, SharedOutput, dims, multiply, with_scratch};
use super::super::panels::Left;
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
) -> FlexTensor {
    let geometry = Geometry::new(input_shape, dims(&weight), options);
    let output_gradient = Contiguous::new(output_gradient);
    let weight = Contiguous::new(weight);
    let output = input_gradient(output_gradient.data(), weight.data(), &geometry);
    // SAFETY: each of the algorithms writes every element.
    unsafe { output.into_tensor(input_shape) }
}

/// Computes the gradient by the algorithm that is fastest for the shape. Every element of the result
/// is written.
fn input_gradient(dy: &[f32], weight: &[f32], geometry: &Geometry) -> Output {
    if depthwise::is_possible(geometry) {
        return depthwise::input_gradient(dy, weight, geometry);
    }
    let reach = |axis: usize| geometry.dilation[axis] * (geometry.kernel[axis] - 1);
    let mirrors =
        geometry.stride == [1, 1] && (0..2).all(|axis| geometry.padding[axis] <= reach(axis));
    if !mirrors {
        return fold_input_gradient(dy, weight, geometry);
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
    if geometry.is_pointwise() {
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
        return convolve_rows(dy, &mirrored, epilogue, Weights::new(&rotated));
    }
    fold_input_gradient(dy, weight, geometry)
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

/// Computes the gradient of the unfolded input and folds it back, for any stride. Each task owns some
/// channels of an image and starts with zeros, so every element is written.
///
/// A task's product is a tile of [`TILE_ELEMENTS`] at most, and with [`MIN_TILE_PIXELS`] columns at
/// least; both limit the channels of a task.
fn fold_input_gradient(dy: &[f32], weight: &[f32], geometry: &Geometry) -> Output {
    let kernel = geometry.kernel_elements();
    let rows = geometry.rows();
    let (pixels, plane) = (geometry.output_pixels(), geometry.input_pixels());
    let owners = geometry.batch * geometry.groups;
    let blocks = TASKS
        .div_ceil(owners.max(1))
        .clamp(1, geometry.channels.div_ceil(8).max(1));
    let by_cache = (TILE_ELEMENTS / (kernel * MIN_TILE_PIXELS)).max(1);
    let per_block = geometry.channels.div_ceil(blocks).clamp(1, by_cache);
    let blocks = geometry.channels.div_ceil(per_block);
    let width = (TILE_ELEMENTS / (per_block * kernel))
        .max(MIN_TILE_PIXELS)
        .next_multiple_of(16)
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
                let weights = &weight[group * geometry.filters * rows + channels.start * kernel..];
                let weights = Matrix::rows(weights, geometry.filters, block_rows, rows);
                let dy = &dy[geometry.output_start(image, group) + first..];
                let dy = Matrix::rows(dy, geometry.filters, tile.len(), pixels);
                let mut product =
                    SharedOutput::of(unfolded).matrix(0, block_rows, tile.len(), tile.len());
                // SAFETY: the scratch buffer belongs to this task and is initialized.
                unsafe { multiply(&mut product, weights.transposed(), dy, false) };
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
