//! 2-D convolution: im2col in tiles that stay in the cache, and one matrix product a tile.
//!
//! Memory order stays `[batch, channels, height, width]` throughout. A 1x1 convolution with
//! stride 1 needs no im2col at all.

use burn::backend::Dispatch;
use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Tensor, module};
use rayon::prelude::*;

use super::{CpuOps, SharedBuffer, buffer, dims, is_cpu, tensor_of};

/// Stride, padding and groups, with PyTorch's meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2dOptions {
    /// Step in height and width.
    pub stride: [usize; 2],
    /// Zeros on both sides of height and width.
    pub padding: [usize; 2],
    /// Distance of the kernel's taps.
    pub dilation: [usize; 2],
    /// Channel groups.
    pub groups: usize,
}

impl Default for Conv2dOptions {
    fn default() -> Self {
        Self {
            stride: [1; 2],
            padding: [0; 2],
            dilation: [1; 2],
            groups: 1,
        }
    }
}

/// Convolve `x` `[batch, channels_in, height, width]` with `weight` `[channels_out,
/// channels_in / groups, kernel_h, kernel_w]` and add `bias` `[channels_out]`.
///
/// Differentiable in all three; a gradient that nobody needs is not computed.
///
/// # Panics
/// If the channels don't fit the groups, or the kernel is larger than the padded input.
pub fn conv2d(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    options: Conv2dOptions,
) -> Tensor<4> {
    let device = x.device();
    if !is_cpu(&device) {
        let o = ConvOptions::new(
            options.stride,
            options.padding,
            options.dilation,
            options.groups,
        );
        return module::conv2d(x, weight, bias, o);
    }
    let bias = bias.unwrap_or_else(|| Tensor::zeros([weight.dims()[0]], &device.inner()));
    Tensor::from_dispatch(<Dispatch as CpuOps>::cpu_conv2d(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        options,
    ))
}

/// Keeps the input and the weight.
#[derive(Debug)]
struct Conv2dBackward;

impl Backward<Flex, 3> for Conv2dBackward {
    type State = (FlexTensor, FlexTensor, Conv2dOptions);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, weight, options) = ops.state;
        let grad = grads.consume::<Flex>(&ops.node).to_contiguous();
        let [for_x, for_weight, for_bias] = ops.parents;
        if let Some(node) = for_x {
            let dx = gradient_of_input(&x, &weight, &grad, options);
            grads.register::<Flex>(node.id, dx);
        }
        if let Some(node) = for_weight {
            let dw = gradient_of_weight(&x, &weight, &grad, options);
            grads.register::<Flex>(node.id, dw);
        }
        if let Some(node) = for_bias {
            grads.register::<Flex>(node.id, gradient_of_bias(&grad));
        }
    }
}

/// The convolution, recorded for the backward pass.
pub(super) fn record<C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<Flex, C>>,
    weight: FloatTensor<Autodiff<Flex, C>>,
    bias: FloatTensor<Autodiff<Flex, C>>,
    options: Conv2dOptions,
) -> FloatTensor<Autodiff<Flex, C>> {
    let prep = Conv2dBackward
        .prepare::<C>([x.node(), weight.node(), bias.node()])
        .compute_bound();
    let y = forward(
        x.primitive(),
        weight.primitive(),
        Some(bias.primitive()),
        options,
    );
    match prep.stateful() {
        OpsKind::Tracked(prep) => {
            prep.finish((x.into_primitive(), weight.into_primitive(), options), y)
        }
        OpsKind::UnTracked(prep) => prep.finish(y),
    }
}

/// All the sizes of one convolution.
#[derive(Clone, Copy)]
struct Geometry {
    batch: usize,
    /// Channels of one group.
    channels_in: usize,
    /// Channels of one group.
    channels_out: usize,
    groups: usize,
    height: usize,
    width: usize,
    out_height: usize,
    out_width: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
}

/// Columns of im2col aimed at per tile, in elements: 1 MiB, about what the second-level cache
/// holds. Halving or doubling it changed nothing measurable.
const TILE_ELEMENTS: usize = 256 * 1024;

impl Geometry {
    fn new(x: [usize; 4], weight: [usize; 4], o: Conv2dOptions) -> Self {
        let [batch, channels_in, height, width] = x;
        let [channels_out, per_group, kernel_h, kernel_w] = weight;
        assert!(
            channels_in == per_group * o.groups && channels_out.is_multiple_of(o.groups),
            "a convolution of {channels_in} to {channels_out} channels in {} groups has a weight \
             of {per_group} input channels",
            o.groups
        );
        let out = |size: usize, axis: usize, kernel: usize| {
            let reach = o.dilation[axis] * (kernel - 1) + 1;
            let padded = size + 2 * o.padding[axis];
            assert!(
                padded >= reach,
                "a kernel of {reach} on an input of {padded}"
            );
            (padded - reach) / o.stride[axis] + 1
        };
        Self {
            batch,
            channels_in: per_group,
            channels_out: channels_out / o.groups,
            groups: o.groups,
            height,
            width,
            out_height: out(height, 0, kernel_h),
            out_width: out(width, 1, kernel_w),
            kernel: [kernel_h, kernel_w],
            stride: o.stride,
            padding: o.padding,
            dilation: o.dilation,
        }
    }

    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Rows of the im2col matrix of one group.
    fn depth(&self) -> usize {
        self.channels_in * self.taps()
    }

    fn pixels(&self) -> usize {
        self.height * self.width
    }

    fn out_pixels(&self) -> usize {
        self.out_height * self.out_width
    }

    /// The input itself is its im2col matrix.
    fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.padding == [0, 0]
    }

    /// Ranges of output rows whose im2col fits a tile. Depends on sizes only, never on threads.
    fn row_tiles(&self, depth: usize) -> Vec<(usize, usize)> {
        let wanted = (TILE_ELEMENTS / (depth * self.out_width)).clamp(1, self.out_height);
        let tiles = self.out_height.div_ceil(wanted);
        let rows = self.out_height.div_ceil(tiles);
        (0..self.out_height)
            .step_by(rows)
            .map(|start| (start, (start + rows).min(self.out_height)))
            .collect()
    }

    fn input_row(&self, out_row: usize, tap: usize) -> Option<usize> {
        let row = out_row * self.stride[0] + tap * self.dilation[0];
        (row >= self.padding[0] && row - self.padding[0] < self.height)
            .then(|| row - self.padding[0])
    }

    /// The first and the past-the-last output column whose tap lies inside the input.
    fn inside_columns(&self, tap: usize) -> (usize, usize) {
        let shift = tap * self.dilation[1];
        let (stride, padding) = (self.stride[1], self.padding[1]);
        let first = padding.saturating_sub(shift).div_ceil(stride);
        let last = if self.width + padding > shift {
            (self.width + padding - shift - 1) / stride + 1
        } else {
            0
        };
        let last = last.min(self.out_width);
        (first.min(last), last)
    }

    /// Fill `columns` `[channels * taps, rows * out_width]` from the planes of some channels.
    fn im2col(&self, planes: &[f32], rows: (usize, usize), columns: &mut [f32]) {
        let tile = (rows.1 - rows.0) * self.out_width;
        let mut lines = columns.chunks_exact_mut(tile);
        for plane in planes.chunks_exact(self.pixels()) {
            for ky in 0..self.kernel[0] {
                for kx in 0..self.kernel[1] {
                    let Some(line) = lines.next() else { return };
                    let (first, last) = self.inside_columns(kx);
                    for (n, out) in line.chunks_exact_mut(self.out_width).enumerate() {
                        let Some(row) = self.input_row(rows.0 + n, ky) else {
                            out.fill(0.0);
                            continue;
                        };
                        out[..first].fill(0.0);
                        out[last..].fill(0.0);
                        if first == last {
                            continue;
                        }
                        let source = &plane[row * self.width..(row + 1) * self.width];
                        let start =
                            first * self.stride[1] + kx * self.dilation[1] - self.padding[1];
                        if self.stride[1] == 1 {
                            out[first..last].copy_from_slice(&source[start..start + last - first]);
                        } else {
                            let taken = source[start..].iter().step_by(self.stride[1]);
                            for (o, s) in out[first..last].iter_mut().zip(taken) {
                                *o = *s;
                            }
                        }
                    }
                }
            }
        }
    }

    /// Add `columns` back onto the planes that [`im2col`](Self::im2col) took them from.
    fn col2im_add(&self, columns: &[f32], rows: (usize, usize), planes: &mut [f32]) {
        let tile = (rows.1 - rows.0) * self.out_width;
        let mut lines = columns.chunks_exact(tile);
        for plane in planes.chunks_exact_mut(self.pixels()) {
            for ky in 0..self.kernel[0] {
                for kx in 0..self.kernel[1] {
                    let Some(line) = lines.next() else { return };
                    let (first, last) = self.inside_columns(kx);
                    if first == last {
                        continue;
                    }
                    for (n, values) in line.chunks_exact(self.out_width).enumerate() {
                        let Some(row) = self.input_row(rows.0 + n, ky) else {
                            continue;
                        };
                        let target = &mut plane[row * self.width..(row + 1) * self.width];
                        let start =
                            first * self.stride[1] + kx * self.dilation[1] - self.padding[1];
                        let taken = target[start..].iter_mut().step_by(self.stride[1]);
                        for (t, v) in taken.zip(&values[first..last]) {
                            *t += *v;
                        }
                    }
                }
            }
        }
    }
}

/// A row-major matrix somewhere in memory, or its transpose.
#[derive(Clone, Copy)]
struct Matrix {
    start: *const f32,
    row_stride: usize,
    column_stride: usize,
}

impl Matrix {
    fn rows(values: &[f32], row_stride: usize) -> Self {
        Self {
            start: values.as_ptr(),
            row_stride,
            column_stride: 1,
        }
    }

    fn transposed(self) -> Self {
        Self {
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// `target [m, n] (+)= left [m, k] * right [k, n]`, on the calling thread.
///
/// # Safety
/// The three matrices lie inside live memory with these strides, and nobody else touches the
/// elements of `target`, whose rows are contiguous.
unsafe fn matrix_product(
    [m, n, k]: [usize; 3],
    target: *mut f32,
    target_row_stride: usize,
    accumulate: bool,
    left: Matrix,
    right: Matrix,
) {
    // SAFETY: as promised by the caller.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            target,
            1,
            target_row_stride as isize,
            accumulate,
            left.start,
            left.column_stride as isize,
            left.row_stride as isize,
            right.start,
            right.column_stride as isize,
            right.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

thread_local! {
    /// The im2col tile of a worker: allocating 1 MiB for every tile cost about 5 % of a step.
    static COLUMNS: std::cell::RefCell<Vec<f32>> = const { std::cell::RefCell::new(Vec::new()) };
}

fn with_columns<R>(length: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    COLUMNS.with_borrow_mut(|columns| {
        if columns.len() < length {
            columns.resize(length, 0.0);
        }
        work(&mut columns[..length])
    })
}

/// The convolution of contiguous or strided CPU tensors.
pub(super) fn forward(
    x: &FlexTensor,
    weight: &FlexTensor,
    bias: Option<&FlexTensor>,
    options: Conv2dOptions,
) -> FlexTensor {
    let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
    let g = Geometry::new(dims(&x), dims(&weight), options);
    let bias = bias.map(FlexTensor::to_contiguous);
    let y = convolve(
        &g,
        x.storage(),
        weight.storage(),
        bias.as_ref().map(|b| b.storage()),
    );
    let channels_out = g.channels_out * g.groups;
    tensor_of(y, [g.batch, channels_out, g.out_height, g.out_width])
}

fn convolve(g: &Geometry, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let (depth, out_pixels) = (g.depth(), g.out_pixels());
    let mut y = buffer(g.batch * g.groups * g.channels_out * out_pixels);
    let target = SharedBuffer::new(&mut y);
    let tiles = g.row_tiles(depth);
    let pieces = g.batch * g.groups * tiles.len();
    (0..pieces).into_par_iter().for_each(|piece| {
        let rows = tiles[piece % tiles.len()];
        let image_group = piece / tiles.len();
        let group = image_group % g.groups;
        let tile = (rows.1 - rows.0) * g.out_width;
        let planes = &x[image_group * g.channels_in * g.pixels()..][..g.channels_in * g.pixels()];
        let left = Matrix::rows(&weight[group * g.channels_out * depth..], depth);
        let first_row = image_group * g.channels_out;
        let column = rows.0 * g.out_width;
        if let Some(bias) = bias {
            for c in 0..g.channels_out {
                let start = target.at((first_row + c) * out_pixels + column);
                // SAFETY: this piece owns these `tile` elements of the output row.
                unsafe { std::slice::from_raw_parts_mut(start, tile) }
                    .fill(bias[group * g.channels_out + c]);
            }
        }
        let product = |right: Matrix| {
            // SAFETY: the piece owns columns `column..column + tile` of its group's output rows.
            unsafe {
                matrix_product(
                    [g.channels_out, tile, depth],
                    target.at(first_row * out_pixels + column),
                    out_pixels,
                    bias.is_some(),
                    left,
                    right,
                );
            }
        };
        if g.is_pointwise() {
            product(Matrix::rows(&planes[column..], g.pixels()));
        } else {
            with_columns(depth * tile, |columns| {
                g.im2col(planes, rows, columns);
                product(Matrix::rows(columns, tile));
            });
        }
    });
    y
}

fn gradient_of_input(
    x: &FlexTensor,
    weight: &FlexTensor,
    grad: &FlexTensor,
    options: Conv2dOptions,
) -> FlexTensor {
    let weight = weight.to_contiguous();
    let x_shape = dims::<4>(x);
    let g = Geometry::new(x_shape, dims(&weight), options);
    let (w, dy): (&[f32], &[f32]) = (weight.storage(), grad.storage());
    let [kernel_h, kernel_w] = g.kernel;
    let reach = [kernel_h - 1, kernel_w - 1];
    let mirrored = g.stride == [1, 1]
        && g.dilation == [1, 1]
        && g.padding[0] <= reach[0]
        && g.padding[1] <= reach[1];
    let dx = if mirrored {
        // With stride 1 it is itself a convolution: of dy with the mirrored, transposed kernel.
        let flipped = mirrored_weight(&g, w);
        let back = Geometry {
            channels_in: g.channels_out,
            channels_out: g.channels_in,
            height: g.out_height,
            width: g.out_width,
            out_height: g.height,
            out_width: g.width,
            padding: [reach[0] - g.padding[0], reach[1] - g.padding[1]],
            ..g
        };
        convolve(&back, dy, &flipped, None)
    } else {
        scatter_gradient(&g, w, dy)
    };
    tensor_of(dx, x_shape)
}

/// `[groups, out, in, kh, kw]` to `[groups, in, out, kh, kw]` with both kernel axes reversed.
fn mirrored_weight(g: &Geometry, weight: &[f32]) -> Vec<f32> {
    let taps = g.taps();
    let mut flipped = buffer(weight.len());
    let blocks = g.channels_out * g.channels_in;
    for (source, target) in weight
        .chunks_exact(blocks * taps)
        .zip(flipped.chunks_exact_mut(blocks * taps))
    {
        for out in 0..g.channels_out {
            for input in 0..g.channels_in {
                let from = &source[(out * g.channels_in + input) * taps..][..taps];
                let to = &mut target[(input * g.channels_out + out) * taps..][..taps];
                for (t, s) in to.iter_mut().zip(from.iter().rev()) {
                    *t = *s;
                }
            }
        }
    }
    flipped
}

/// Input channels that one piece of the strided gradients owns.
const CHANNEL_BLOCK: usize = 16;

/// The strided case: every piece owns the planes of a few input channels and adds onto them.
fn scatter_gradient(g: &Geometry, weight: &[f32], dy: &[f32]) -> Vec<f32> {
    let (depth, taps, out_pixels) = (g.depth(), g.taps(), g.out_pixels());
    let mut dx = buffer(g.batch * g.groups * g.channels_in * g.pixels());
    let image_groups = dx.par_chunks_mut(g.channels_in * g.pixels()).enumerate();
    image_groups.for_each(|(image_group, planes)| {
        let group = image_group % g.groups;
        let w = &weight[group * g.channels_out * depth..][..g.channels_out * depth];
        let grad = &dy[image_group * g.channels_out * out_pixels..];
        let blocks = planes
            .par_chunks_mut(CHANNEL_BLOCK * g.pixels())
            .enumerate();
        blocks.for_each(|(block, planes)| {
            let block_depth = planes.len() / g.pixels() * taps;
            let left = Matrix::rows(&w[block * CHANNEL_BLOCK * taps..], depth).transposed();
            for rows in g.row_tiles(block_depth) {
                let tile = (rows.1 - rows.0) * g.out_width;
                with_columns(block_depth * tile, |columns| {
                    // SAFETY: `columns` is this thread's own.
                    unsafe {
                        matrix_product(
                            [block_depth, tile, g.channels_out],
                            columns.as_mut_ptr(),
                            tile,
                            false,
                            left,
                            Matrix::rows(&grad[rows.0 * g.out_width..], out_pixels),
                        );
                    }
                    g.col2im_add(columns, rows, planes);
                });
            }
        });
    });
    dx
}

/// Weights up to this many elements get one partial gradient per image, summed in order: with few
/// channels there are not enough channel blocks to keep the cores busy.
const PARTIAL_WEIGHT: usize = 64 * 1024;

fn gradient_of_weight(
    x: &FlexTensor,
    weight: &FlexTensor,
    grad: &FlexTensor,
    options: Conv2dOptions,
) -> FlexTensor {
    let x = x.to_contiguous();
    let shape = dims::<4>(weight);
    let g = Geometry::new(dims(&x), shape, options);
    let (x, dy): (&[f32], &[f32]) = (x.storage(), grad.storage());
    let group_size = g.channels_out * g.depth();
    let total = g.groups * group_size;
    if g.batch > 1 && total <= PARTIAL_WEIGHT {
        let partials: Vec<Vec<f32>> = (0..g.batch)
            .into_par_iter()
            .map(|image| {
                let mut dw = buffer(total);
                for (group, dw) in dw.chunks_exact_mut(group_size).enumerate() {
                    add_weight_gradient(&g, x, dy, image * g.groups + group, 0, dw);
                }
                dw
            })
            .collect();
        let mut partials = partials.into_iter();
        let mut dw = partials.next().unwrap_or_else(|| buffer(total));
        for partial in partials {
            for (a, b) in dw.iter_mut().zip(partial) {
                *a += b;
            }
        }
        return tensor_of(dw, shape);
    }
    // A block of input channels is a range of columns of dw; computed apart, then put in place.
    let taps = g.taps();
    let blocks_of_group = g.channels_in.div_ceil(CHANNEL_BLOCK);
    let blocks: Vec<Vec<f32>> = (0..g.groups * blocks_of_group)
        .into_par_iter()
        .map(|piece| {
            let (group, block) = (piece / blocks_of_group, piece % blocks_of_group);
            let first = block * CHANNEL_BLOCK;
            let channels = CHANNEL_BLOCK.min(g.channels_in - first);
            let mut dw = buffer(g.channels_out * channels * taps);
            for image in 0..g.batch {
                add_weight_gradient(&g, x, dy, image * g.groups + group, first, &mut dw);
            }
            dw
        })
        .collect();
    let mut dw = buffer(total);
    for (piece, block_dw) in blocks.iter().enumerate() {
        let (group, block) = (piece / blocks_of_group, piece % blocks_of_group);
        let width = block_dw.len() / g.channels_out;
        for (out, row) in block_dw.chunks_exact(width).enumerate() {
            let start = (group * g.channels_out + out) * g.depth() + block * CHANNEL_BLOCK * taps;
            dw[start..start + width].copy_from_slice(row);
        }
    }
    tensor_of(dw, shape)
}

/// Add one image's share to `dw` `[channels_out, channels * taps]` of the input channels that
/// start at `first_channel` (as many as `dw` has room for).
fn add_weight_gradient(
    g: &Geometry,
    x: &[f32],
    dy: &[f32],
    image_group: usize,
    first_channel: usize,
    dw: &mut [f32],
) {
    let block_depth = dw.len() / g.channels_out;
    let channels = block_depth / g.taps();
    let start = (image_group * g.channels_in + first_channel) * g.pixels();
    let planes = &x[start..start + channels * g.pixels()];
    let grad = &dy[image_group * g.channels_out * g.out_pixels()..];
    for rows in g.row_tiles(block_depth) {
        let tile = (rows.1 - rows.0) * g.out_width;
        let column = rows.0 * g.out_width;
        let left = Matrix::rows(&grad[column..], g.out_pixels());
        let mut product = |right: Matrix| {
            // SAFETY: `dw` is exclusively borrowed.
            unsafe {
                matrix_product(
                    [g.channels_out, block_depth, tile],
                    dw.as_mut_ptr(),
                    block_depth,
                    true,
                    left,
                    right.transposed(),
                );
            }
        };
        if g.is_pointwise() {
            product(Matrix::rows(&planes[column..], g.pixels()));
        } else {
            with_columns(block_depth * tile, |columns| {
                g.im2col(planes, rows, columns);
                product(Matrix::rows(columns, tile));
            });
        }
    }
}

fn gradient_of_bias(grad: &FlexTensor) -> FlexTensor {
    let [_, channels, height, width] = dims(grad);
    let values: &[f32] = grad.storage();
    let mut sums = vec![0.0f64; channels];
    for (n, plane) in values.chunks_exact(height * width).enumerate() {
        sums[n % channels] += super::batch_norm::sum(plane);
    }
    tensor_of(sums.into_iter().map(|s| s as f32).collect(), [channels])
}
