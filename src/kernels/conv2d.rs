//! Two-dimensional convolution with gradients.
//!
//! The CPU kernel unfolds the input tile by tile into a matrix with one row per (channel, kernel
//! position) and one column per output pixel ("im2col"), small enough to stay in the cache, and
//! multiplies it by the weights. Tasks are spread over images, groups and tiles of pixels. Small
//! feature maps share a tile, so that the products stay wide. A 1x1 convolution with stride 1
//! needs no unfolding: the input is the matrix.

use std::ops::Range;

use burn::backend::TensorMetadata;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch};
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::cpu::{
    Contiguous, Matrix, Output, OutputMatrix, SharedOutput, dims, multiply, with_scratch,
};
use super::{Kernels, Operations, needs_gradient};

/// How the kernel moves over the input. The pairs are (vertical, horizontal).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dOptions {
    /// Input pixels from one output pixel to the next; at least 1.
    pub stride: [usize; 2],
    /// Zeros added on either side of the input.
    pub padding: [usize; 2],
    /// Input pixels from one kernel element to the next; at least 1.
    pub dilation: [usize; 2],
    /// Number of independent groups of channels; divides the input and the output channels.
    pub groups: usize,
}

impl Default for Conv2dOptions {
    fn default() -> Self {
        Self {
            stride: [1, 1],
            padding: [0, 0],
            dilation: [1, 1],
            groups: 1,
        }
    }
}

/// Convolves `x` (`[batch, channels_in, height, width]`) with `weight`
/// (`[channels_out, channels_in / groups, kernel_height, kernel_width]`) and adds `bias`
/// (`[channels_out]`): a cross-correlation, as in every deep-learning library.
///
/// The result is `[batch, channels_out, height_out, width_out]` with
/// `height_out = (height + 2 padding - dilation (kernel_height - 1) - 1) / stride + 1`.
/// Differentiable in `x`, `weight` and `bias`.
///
/// # Panics
/// When the shapes do not fit each other or the options.
pub fn conv2d(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    options: Conv2dOptions,
) -> Tensor<4> {
    let geometry = Geometry::new(x.dims(), weight.dims(), options);
    if let Some(bias) = &bias {
        let [filters] = bias.dims();
        assert_eq!(
            filters,
            geometry.groups * geometry.filters,
            "conv2d: the bias needs one element per output channel"
        );
    }
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(match bias {
        None => <Dispatch as Operations>::conv2d(x, weight, options),
        Some(bias) => {
            <Dispatch as Operations>::conv2d_with_bias(x, weight, bias.into_dispatch(), options)
        }
    })
}

// ---------------------------------------------------------------------------------------------
// Gradient recording
// ---------------------------------------------------------------------------------------------

/// What the backward pass needs; inputs that no gradient asks for are not kept.
#[derive(Clone, Debug)]
pub(super) struct Conv2dState<B: Backend> {
    x: Option<FloatTensor<B>>,
    weight: Option<FloatTensor<B>>,
    input_shape: [usize; 4],
    weight_shape: [usize; 4],
    options: Conv2dOptions,
}

impl<B: Kernels> Conv2dState<B> {
    fn new<C: CheckpointStrategy>(
        x: &FloatTensor<Autodiff<B, C>>,
        weight: &FloatTensor<Autodiff<B, C>>,
        options: Conv2dOptions,
    ) -> Self {
        Self {
            x: needs_gradient::<B, C>(weight).then(|| x.primitive().clone()),
            weight: needs_gradient::<B, C>(x).then(|| weight.primitive().clone()),
            input_shape: x.shape().dims::<4>(),
            weight_shape: weight.shape().dims::<4>(),
            options,
        }
    }

    /// Registers the gradients of the input and the weight, where they are asked for.
    fn register(
        self,
        output_gradient: &FloatTensor<B>,
        [x, weight]: [Option<NodeId>; 2],
        grads: &mut Gradients,
    ) {
        if let (Some(node), Some(weight)) = (x, self.weight) {
            let gradient = B::conv2d_input_gradient(
                output_gradient.clone(),
                weight,
                self.input_shape,
                self.options,
            );
            grads.register::<B>(node, gradient);
        }
        if let (Some(node), Some(x)) = (weight, self.x) {
            let gradient = B::conv2d_weight_gradient(
                x,
                output_gradient.clone(),
                self.weight_shape,
                self.options,
            );
            grads.register::<B>(node, gradient);
        }
    }
}

#[derive(Debug)]
struct Conv2d;

impl<B: Kernels> Backward<B, 2> for Conv2d {
    type State = Conv2dState<B>;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let output_gradient = grads.consume::<B>(&ops.node);
        let parents = ops.parents.map(|parent| parent.map(|node| node.id));
        ops.state.register(&output_gradient, parents, grads);
    }
}

impl<B: Kernels> Backward<B, 3> for Conv2d {
    type State = Conv2dState<B>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let output_gradient = grads.consume::<B>(&ops.node);
        let [x, weight, bias] = ops.parents.map(|parent| parent.map(|node| node.id));
        ops.state.register(&output_gradient, [x, weight], grads);
        if let Some(node) = bias {
            grads.register::<B>(node, B::sum_per_channel(output_gradient));
        }
    }
}

pub(super) fn recorded<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    options: Conv2dOptions,
) -> FloatTensor<Autodiff<B, C>> {
    let state = Conv2dState::new::<C>(&x, &weight, options);
    let (x, x_node) = x.into_parts();
    let (weight, weight_node) = weight.into_parts();
    let output = B::conv2d_forward(x, weight, None, options);
    match Backward::<B, 2>::prepare::<C>(Conv2d, [x_node, weight_node])
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(preparation) => preparation.finish(state, output),
        OpsKind::UnTracked(preparation) => preparation.finish(output),
    }
}

pub(super) fn recorded_with_bias<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    bias: FloatTensor<Autodiff<B, C>>,
    options: Conv2dOptions,
) -> FloatTensor<Autodiff<B, C>> {
    let state = Conv2dState::new::<C>(&x, &weight, options);
    let (x, x_node) = x.into_parts();
    let (weight, weight_node) = weight.into_parts();
    let (bias, bias_node) = bias.into_parts();
    let output = B::conv2d_forward(x, weight, Some(bias), options);
    match Backward::<B, 3>::prepare::<C>(Conv2d, [x_node, weight_node, bias_node])
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(preparation) => preparation.finish(state, output),
        OpsKind::UnTracked(preparation) => preparation.finish(output),
    }
}

// ---------------------------------------------------------------------------------------------
// CPU kernels
// ---------------------------------------------------------------------------------------------

/// Elements of an unfolded tile: 256 KiB, which leaves room in a second-level cache of 512 KiB or
/// more for what the tile is read from and multiplied by. Measured: half of it is slower on wide
/// layers, twice of it on narrow ones.
const TILE_ELEMENTS: usize = 64 * 1024;
/// A tile has at least this many output pixels (when there are so many), or the product is too
/// narrow to be fast.
const MIN_TILE_PIXELS: usize = 96;
/// Feature maps with fewer output pixels than this share a tile.
const SMALL_MAP_PIXELS: usize = 128;
/// The number of tasks to aim at. Fixed, so that results do not depend on the number of threads.
const TASKS: usize = 16;
/// Weights with more elements than this are not summed in per-task copies.
const MAX_PARTIAL_ELEMENTS: usize = 64 * 1024;

/// All sizes of one convolution; channels and filters are counted per group.
#[derive(Clone, Copy, Debug)]
struct Geometry {
    batch: usize,
    groups: usize,
    channels: usize,
    filters: usize,
    input: [usize; 2],
    kernel: [usize; 2],
    output: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
}

impl Geometry {
    fn new(x: [usize; 4], weight: [usize; 4], options: Conv2dOptions) -> Self {
        let [batch, channels_in, height, width] = x;
        let [channels_out, channels, kernel_height, kernel_width] = weight;
        let Conv2dOptions {
            stride,
            padding,
            dilation,
            groups,
        } = options;
        assert!(
            groups > 0
                && channels_in == groups * channels
                && channels_out.is_multiple_of(groups)
                && kernel_height > 0
                && kernel_width > 0,
            "conv2d: input {x:?} and weight {weight:?} do not fit with {groups} groups"
        );
        let size = |axis: usize, input: usize, kernel: usize| {
            assert!(
                stride[axis] > 0 && dilation[axis] > 0,
                "conv2d: stride and dilation start at 1"
            );
            let padded = input + 2 * padding[axis];
            let reach = dilation[axis] * (kernel - 1) + 1;
            assert!(
                padded >= reach,
                "conv2d: weight {weight:?} reaches over the padded input {x:?}"
            );
            (padded - reach) / stride[axis] + 1
        };
        Self {
            batch,
            groups,
            channels,
            filters: channels_out / groups,
            input: [height, width],
            kernel: [kernel_height, kernel_width],
            output: [size(0, height, kernel_height), size(1, width, kernel_width)],
            stride,
            padding,
            dilation,
        }
    }

    /// The input position minus `stride * output position` of a kernel element, along an axis.
    fn offset(&self, axis: usize, kernel: usize) -> isize {
        (kernel * self.dilation[axis]) as isize - self.padding[axis] as isize
    }

    fn input_pixels(&self) -> usize {
        self.input[0] * self.input[1]
    }

    fn output_pixels(&self) -> usize {
        self.output[0] * self.output[1]
    }

    fn kernel_elements(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Rows of the unfolded input: one per channel of the group and kernel position.
    fn rows(&self) -> usize {
        self.channels * self.kernel_elements()
    }

    fn output_shape(&self) -> [usize; 4] {
        [
            self.batch,
            self.groups * self.filters,
            self.output[0],
            self.output[1],
        ]
    }

    /// Whether the input already is the unfolded matrix.
    fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.padding == [0, 0]
    }

    /// The channels of `group` in image `image`, as a range of elements of the input.
    fn input_block(&self, image: usize, group: usize, channels: &Range<usize>) -> Range<usize> {
        let first = (image * self.groups + group) * self.channels;
        let pixels = self.input_pixels();
        (first + channels.start) * pixels..(first + channels.end) * pixels
    }

    /// Where the filters of `group` in image `image` start in the output.
    fn output_start(&self, image: usize, group: usize) -> usize {
        (image * self.groups + group) * self.filters * self.output_pixels()
    }

    /// Splits the output pixels of the whole batch into tiles whose unfolded form has `rows` rows.
    fn tiles(&self, rows: usize) -> Vec<Tile> {
        let pixels = self.output_pixels();
        let wanted = (TILE_ELEMENTS / rows.max(1)).max(MIN_TILE_PIXELS);
        // Few pixels in all: smaller tiles, so that every thread has some.
        let fair = (self.batch * pixels).div_ceil(TASKS).max(MIN_TILE_PIXELS);
        let wanted = wanted.min(fair);
        if pixels < SMALL_MAP_PIXELS {
            let images = (wanted / pixels.max(1)).clamp(1, self.batch.max(1));
            return (0..self.batch)
                .step_by(images)
                .map(|first| Tile {
                    images: first..(first + images).min(self.batch),
                    pixels: 0..pixels,
                })
                .collect();
        }
        // Tiles of equal width, a multiple of the vector length.
        let count = pixels.div_ceil(wanted);
        let width = pixels.div_ceil(count).next_multiple_of(16);
        (0..self.batch)
            .flat_map(|image| {
                (0..pixels).step_by(width).map(move |start| Tile {
                    images: image..image + 1,
                    pixels: start..(start + width).min(pixels),
                })
            })
            .collect()
    }
}

/// Some output pixels: a range of one image, or all pixels of several images.
#[derive(Clone, Debug)]
struct Tile {
    images: Range<usize>,
    pixels: Range<usize>,
}

impl Tile {
    fn columns(&self) -> usize {
        self.images.len() * self.pixels.len()
    }
}

/// Unfolds some channels of a group: row `(channel, kernel_y, kernel_x)`, column = output pixel of
/// the tile.
fn unfold_tile(
    x: &[f32],
    geometry: &Geometry,
    group: usize,
    channels: &Range<usize>,
    tile: &Tile,
    columns: &mut [f32],
) {
    let stride = tile.columns();
    for (index, image) in tile.images.clone().enumerate() {
        let planes = &x[geometry.input_block(image, group, channels)];
        unfold(
            planes,
            geometry,
            tile.pixels.clone(),
            columns,
            index * tile.pixels.len(),
            stride,
        );
    }
}

/// The output positions along one axis whose input position `stride * out + offset` lies inside.
fn inside(offset: isize, stride: usize, input: usize, output: usize) -> Range<usize> {
    let stride = stride as isize;
    let first =
        (-offset).max(0).div_euclid(stride) + isize::from((-offset).max(0).rem_euclid(stride) != 0);
    let end = (input as isize - offset + stride - 1).div_euclid(stride);
    let end = end.clamp(0, output as isize);
    first.min(end) as usize..end as usize
}

fn unfold(
    planes: &[f32],
    geometry: &Geometry,
    pixels: Range<usize>,
    columns: &mut [f32],
    first_column: usize,
    row_stride: usize,
) {
    let [height, width] = geometry.input;
    let out_width = geometry.output[1];
    let [stride_y, stride_x] = geometry.stride;
    // With stride 1 and an output as wide as the input, a row of the matrix is the plane shifted:
    // one copy, then zeros where the shift ran over the left or right edge.
    let shifted = geometry.stride == [1, 1] && out_width == width;
    let mut phases = Phases::new(geometry, &pixels);
    let mut row = 0;
    for plane in planes.chunks_exact((height * width).max(1)) {
        if !shifted {
            phases.split(plane);
        }
        for kernel_y in 0..geometry.kernel[0] {
            let offset_y = geometry.offset(0, kernel_y);
            let inside_y = inside(offset_y, stride_y, height, geometry.output[0]);
            for kernel_x in 0..geometry.kernel[1] {
                let offset_x = geometry.offset(1, kernel_x);
                let inside_x = inside(offset_x, stride_x, width, out_width);
                let start = row * row_stride + first_column;
                let target = &mut columns[start..start + pixels.len()];
                row += 1;
                if shifted {
                    copy_shifted(plane, offset_y * width as isize + offset_x, &pixels, target);
                    if inside_x.len() < out_width {
                        clear_columns(target, &pixels, out_width, &inside_x);
                    }
                    continue;
                }
                for (y, xs, place) in row_segments(&pixels, out_width) {
                    let target = &mut target[place..place + xs.len()];
                    let left = inside_x.start.clamp(xs.start, xs.end);
                    let right = inside_x.end.clamp(left, xs.end);
                    if !inside_y.contains(&y) || left == right {
                        target.fill(0.0);
                        continue;
                    }
                    let source_y = ((y * stride_y) as isize + offset_y) as usize;
                    let source_x = ((left * stride_x) as isize + offset_x) as usize;
                    target[..left - xs.start].fill(0.0);
                    target[left - xs.start..right - xs.start].copy_from_slice(phases.row(
                        source_y,
                        source_x,
                        right - left,
                    ));
                    target[right - xs.start..].fill(0.0);
                }
            }
        }
    }
}

/// The rows of a plane that a tile reads, with each row sorted by the remainder of x divided by
/// the stride: what a kernel element reads of a row then lies together.
struct Phases {
    stride: usize,
    width: usize,
    /// Columns per remainder.
    columns: usize,
    rows: Range<usize>,
    sorted: Vec<f32>,
}

impl Phases {
    fn new(geometry: &Geometry, pixels: &Range<usize>) -> Self {
        let [height, width] = geometry.input;
        let out_width = geometry.output[1];
        let stride = geometry.stride[1];
        let first = (pixels.start / out_width * geometry.stride[0]) as isize;
        let last = (pixels.end.saturating_sub(1) / out_width * geometry.stride[0]) as isize;
        let clamped = |row: isize| row.clamp(0, height as isize) as usize;
        let start = clamped(first + geometry.offset(0, 0));
        let end = clamped(last + geometry.offset(0, geometry.kernel[0] - 1) + 1);
        Self {
            stride,
            width,
            columns: width.div_ceil(stride),
            rows: start..end.max(start),
            sorted: Vec::new(),
        }
    }

    fn split(&mut self, plane: &[f32]) {
        let (stride, columns) = (self.stride, self.columns);
        self.sorted.resize(self.rows.len() * stride * columns, 0.0);
        let source = &plane[self.rows.start * self.width..self.rows.end * self.width];
        if stride == 1 {
            self.sorted.copy_from_slice(source);
            return;
        }
        let targets = self.sorted.chunks_exact_mut(stride * columns);
        for (target, source) in targets.zip(source.chunks_exact(self.width)) {
            if stride == 2 {
                // The usual case, in a form that the compiler turns into vector shuffles.
                let (even, odd) = target.split_at_mut(columns);
                let (pairs, rest) = source.as_chunks::<2>();
                for ((even, odd), pair) in even.iter_mut().zip(odd).zip(pairs) {
                    [*even, *odd] = *pair;
                }
                even[pairs.len()..].copy_from_slice(rest);
            } else {
                for (phase, target) in target.chunks_exact_mut(columns).enumerate() {
                    let source = source.iter().skip(phase).step_by(stride);
                    for (to, from) in target.iter_mut().zip(source) {
                        *to = *from;
                    }
                }
            }
        }
    }

    /// `length` elements of row `y`, from `x` on in steps of the stride.
    fn row(&self, y: usize, x: usize, length: usize) -> &[f32] {
        let row = ((y - self.rows.start) * self.stride + x % self.stride) * self.columns;
        &self.sorted[row + x / self.stride..][..length]
    }
}

/// Cuts a range of row-major pixels at the row ends: (y, range of x, place in the range).
fn row_segments(
    pixels: &Range<usize>,
    width: usize,
) -> impl Iterator<Item = (usize, Range<usize>, usize)> + use<> {
    let pixels = pixels.clone();
    let mut pixel = pixels.start;
    std::iter::from_fn(move || {
        if pixel >= pixels.end {
            return None;
        }
        let (y, x) = (pixel / width, pixel % width);
        let end = (x + pixels.end - pixel).min(width);
        let place = pixel - pixels.start;
        pixel += end - x;
        Some((y, x..end, place))
    })
}

fn copy_shifted(plane: &[f32], shift: isize, pixels: &Range<usize>, target: &mut [f32]) {
    let length = plane.len() as isize;
    let first = (pixels.start as isize + shift).clamp(0, length);
    let end = (pixels.end as isize + shift).clamp(first, length);
    let before = ((first - shift) - pixels.start as isize).clamp(0, target.len() as isize) as usize;
    let copied = (end - first) as usize;
    target[..before].fill(0.0);
    target[before..before + copied].copy_from_slice(&plane[first as usize..end as usize]);
    target[before + copied..].fill(0.0);
}

fn clear_columns(target: &mut [f32], pixels: &Range<usize>, width: usize, keep: &Range<usize>) {
    for (_, xs, place) in row_segments(pixels, width) {
        let left = keep.start.clamp(xs.start, xs.end);
        let right = keep.end.clamp(left, xs.end);
        target[place..place + left - xs.start].fill(0.0);
        target[place + right - xs.start..place + xs.len()].fill(0.0);
    }
}

/// Gathers the rows of a group of `[batch, groups * filters, pixels]` for a tile: one row per
/// filter. A tile of one image is there already.
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
            let place = filter * columns + index * pixels;
            let from = start + filter * pixels;
            scratch[place..place + pixels].copy_from_slice(&y[from..from + pixels]);
        }
    }
    Matrix::rows(scratch, geometry.filters, columns, columns)
}

/// Where a gather for this tile needs scratch memory: its length.
fn gather_length(geometry: &Geometry, tile: &Tile) -> usize {
    if tile.images.len() == 1 {
        0
    } else {
        geometry.filters * tile.columns()
    }
}

pub(super) fn cpu_forward(
    x: FlexTensor,
    weight: FlexTensor,
    bias: Option<FlexTensor>,
    options: Conv2dOptions,
) -> FlexTensor {
    let geometry = Geometry::new(dims(&x), dims(&weight), options);
    let (x, weight) = (Contiguous::new(x), Contiguous::new(weight));
    let bias = bias.map(Contiguous::new);
    let rows = geometry.rows();
    let output = convolve(
        x.data(),
        &geometry,
        bias.as_ref().map(|b| b.data()),
        |filters| {
            Matrix::rows(
                &weight.data()[filters.start * rows..],
                filters.len(),
                rows,
                rows,
            )
        },
    );
    // SAFETY: `convolve` writes every element.
    unsafe { output.into_tensor(geometry.output_shape()) }
}

/// The convolution proper. `weights` gives the matrix `[filters, rows]` of a range of filters,
/// which are counted over all groups and never cross a group.
fn convolve<'w>(
    x: &[f32],
    geometry: &Geometry,
    bias: Option<&[f32]>,
    weights: impl Fn(Range<usize>) -> Matrix<'w> + Sync,
) -> Output {
    let pixels = geometry.output_pixels();
    let rows = geometry.rows();
    let tiles = geometry.tiles(rows);
    // Too few tiles to keep the threads busy: split the filters too, at the price of unfolding
    // once per split.
    let splits = if tiles.is_empty() {
        1
    } else {
        TASKS
            .div_ceil(2 * tiles.len() * geometry.groups)
            .clamp(1, geometry.filters.div_ceil(64).max(1))
    };
    let filters_per_task = geometry.filters.div_ceil(splits).max(1);
    let mut output = Output::new(geometry.output_shape().iter().product());
    let shared = output.shared();

    let task = |tile: &Tile, group: usize, filters: Range<usize>| {
        let columns = tile.columns();
        let pointwise = geometry.is_pointwise() && tile.images.len() == 1;
        let unfolded_length = if pointwise { 0 } else { rows * columns };
        let product_length = if tile.images.len() == 1 {
            0
        } else {
            filters.len() * columns
        };
        let all = group * geometry.filters + filters.start..group * geometry.filters + filters.end;
        let add_bias = |filter: usize, row: &mut [f32]| {
            if let Some(bias) = bias {
                let value = bias[all.start + filter];
                row.iter_mut().for_each(|element| *element += value);
            }
        };
        with_scratch(
            [unfolded_length, product_length],
            |unfolded, product_buffer| {
                let unfolded = if pointwise {
                    let block =
                        geometry.input_block(tile.images.start, group, &(0..geometry.channels));
                    Matrix::rows(&x[block][tile.pixels.start..], rows, columns, pixels)
                } else {
                    unfold_tile(x, geometry, group, &(0..geometry.channels), tile, unfolded);
                    Matrix::rows(unfolded, rows, columns, columns)
                };
                let place = |image: usize| {
                    let start = geometry.output_start(image, group)
                        + filters.start * pixels
                        + tile.pixels.start;
                    shared.matrix(start, filters.len(), tile.pixels.len(), pixels)
                };
                if tile.images.len() == 1 {
                    let mut target = place(tile.images.start);
                    // SAFETY: no other task has this tile of these filters; rows are read only
                    // after the product wrote them.
                    unsafe {
                        multiply(&mut target, weights(all.clone()), unfolded, false);
                        if bias.is_some() {
                            for filter in 0..filters.len() {
                                add_bias(filter, target.row(filter));
                            }
                        }
                    }
                } else {
                    let mut product =
                        SharedOutput::of(product_buffer).matrix(0, filters.len(), columns, columns);
                    // SAFETY: the scratch buffer is ours and initialised; no other task has these
                    // images of these filters.
                    unsafe {
                        multiply(&mut product, weights(all.clone()), unfolded, false);
                        for filter in 0..filters.len() {
                            let row = product.row(filter);
                            add_bias(filter, row);
                            for (index, image) in tile.images.clone().enumerate() {
                                let part = &row[index * pixels..(index + 1) * pixels];
                                place(image).copy_row(filter, part);
                            }
                        }
                    }
                }
            },
        );
    };

    let splits = geometry.filters.div_ceil(filters_per_task);
    let per_tile = geometry.groups * splits;
    (0..tiles.len() * per_tile)
        .into_par_iter()
        .for_each(|index| {
            let tile = &tiles[index / per_tile];
            let group = index % per_tile / splits;
            let first = index % splits * filters_per_task;
            let filters = first..(first + filters_per_task).min(geometry.filters);
            task(tile, group, filters);
        });
    output
}

pub(super) fn cpu_input_gradient(
    output_gradient: FlexTensor,
    weight: FlexTensor,
    input_shape: [usize; 4],
    options: Conv2dOptions,
) -> FlexTensor {
    let geometry = Geometry::new(input_shape, dims(&weight), options);
    let output_gradient = Contiguous::new(output_gradient);
    let weight = Contiguous::new(weight);
    let (dy, weight) = (output_gradient.data(), weight.data());
    let reach = |axis: usize| geometry.dilation[axis] * (geometry.kernel[axis] - 1);
    let mirrors =
        geometry.stride == [1, 1] && (0..2).all(|axis| geometry.padding[axis] <= reach(axis));
    // The convolution whose output is the gradient: filters and channels change places.
    let mirrored = Geometry {
        channels: geometry.filters,
        filters: geometry.channels,
        input: geometry.output,
        output: geometry.input,
        padding: [0, 1].map(|axis| reach(axis).saturating_sub(geometry.padding[axis])),
        ..geometry
    };
    if geometry.is_pointwise() {
        let (channels, filters) = (geometry.channels, geometry.filters);
        let output = convolve(dy, &mirrored, None, |range| {
            let (group, channel) = (range.start / channels, range.start % channels);
            let block = &weight[group * filters * channels + channel..];
            Matrix::rows(block, filters, range.len(), channels).transposed()
        });
        // SAFETY: `convolve` writes every element.
        return unsafe { output.into_tensor(input_shape) };
    }
    // Turning the weights round costs a pass over them, which pays when there are many pixels.
    if mirrors && geometry.batch * geometry.output_pixels() >= 128 {
        let turned = turn_weights(weight, &geometry);
        let rows = mirrored.rows();
        let output = convolve(dy, &mirrored, None, |range| {
            Matrix::rows(&turned[range.start * rows..], range.len(), rows, rows)
        });
        // SAFETY: `convolve` writes every element.
        return unsafe { output.into_tensor(input_shape) };
    }
    fold_input_gradient(dy, weight, &geometry, input_shape)
}

/// The weights of the mirrored convolution: `[group, channel, filter, kernel turned by 180
/// degrees]`.
fn turn_weights(weight: &[f32], geometry: &Geometry) -> Vec<f32> {
    let (channels, filters) = (geometry.channels, geometry.filters);
    let kernel = geometry.kernel_elements();
    let mut turned = vec![0.0; weight.len()];
    turned
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
    turned
}

/// The gradient of the input for any stride: the gradient of the unfolded input, folded back. Each
/// task owns some channels of an image.
fn fold_input_gradient(
    dy: &[f32],
    weight: &[f32],
    geometry: &Geometry,
    input_shape: [usize; 4],
) -> FlexTensor {
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

    let mut output = Output::new(input_shape.iter().product());
    let shared = output.shared();
    (0..owners * blocks).into_par_iter().for_each(|index| {
        let (owner, block) = (index / blocks, index % blocks);
        let (image, group) = (owner / geometry.groups, owner % geometry.groups);
        let channels = block * per_block..((block + 1) * per_block).min(geometry.channels);
        let start = geometry.input_block(image, group, &channels).start;
        let mut target = shared.matrix(start, channels.len(), plane, plane);
        let block_rows = channels.len() * kernel;
        with_scratch([block_rows * width, plane], |unfolded, zeros| {
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
                // SAFETY: the scratch buffer is ours and initialised.
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
    // SAFETY: the tasks cover every channel of every image, and each starts with zeros.
    unsafe { output.into_tensor(input_shape) }
}

/// Adds one channel's rows of an unfolded tile to its plane: the transpose of `unfold`.
fn fold(unfolded: &[f32], geometry: &Geometry, pixels: &Range<usize>, plane: &mut [f32]) {
    let [height, width] = geometry.input;
    let [out_height, out_width] = geometry.output;
    let [stride_y, stride_x] = geometry.stride;
    let rows = unfolded.chunks_exact(pixels.len());
    for (position, row) in rows.take(geometry.kernel_elements()).enumerate() {
        let (kernel_y, kernel_x) = (position / geometry.kernel[1], position % geometry.kernel[1]);
        let offset_y = geometry.offset(0, kernel_y);
        let offset_x = geometry.offset(1, kernel_x);
        let inside_y = inside(offset_y, stride_y, height, out_height);
        let inside_x = inside(offset_x, stride_x, width, out_width);
        for (y, xs, place) in row_segments(pixels, out_width) {
            let left = inside_x.start.clamp(xs.start, xs.end);
            let right = inside_x.end.clamp(left, xs.end);
            if !inside_y.contains(&y) || left == right {
                continue;
            }
            let target_y = ((y * stride_y) as isize + offset_y) as usize;
            let first = ((left * stride_x) as isize + offset_x) as usize;
            let source = &row[place + left - xs.start..place + right - xs.start];
            let target = &mut plane[target_y * width + first..(target_y + 1) * width];
            for (to, from) in target.iter_mut().step_by(stride_x).zip(source) {
                *to += *from;
            }
        }
    }
}

pub(super) fn cpu_weight_gradient(
    x: FlexTensor,
    output_gradient: FlexTensor,
    weight_shape: [usize; 4],
    options: Conv2dOptions,
) -> FlexTensor {
    let geometry = Geometry::new(dims(&x), weight_shape, options);
    let (x, output_gradient) = (Contiguous::new(x), Contiguous::new(output_gradient));
    let (x, dy) = (x.data(), output_gradient.data());
    let elements: usize = weight_shape.iter().product();
    let turned = if geometry.groups < TASKS && elements <= MAX_PARTIAL_ELEMENTS {
        weight_gradient_by_pixels(x, dy, &geometry, elements)
    } else {
        weight_gradient_by_channels(x, dy, &geometry, elements)
    };
    let (rows, filters) = (geometry.rows(), geometry.filters);
    let mut gradient = Output::new(elements);
    gradient
        .slots()
        .par_chunks_mut(rows)
        .with_min_len(8)
        .enumerate()
        .for_each(|(index, row)| {
            let (group, filter) = (index / filters, index % filters);
            let column = turned[group * rows * filters + filter..].iter();
            for (to, from) in row.iter_mut().zip(column.step_by(filters)) {
                to.write(*from);
            }
        });
    // SAFETY: `turned` has `rows` elements for every filter, which fill the filter's row.
    unsafe { gradient.into_tensor(weight_shape) }
}

/// Adds to `target` what one tile gives to the gradient of the weights of some channels, turned:
/// `[channels * kernel, filters]`. Turned, because the matrix product rearranges its right side,
/// and the output's gradient is smaller than the unfolded input.
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
        [unfolded_length, gather_length(geometry, tile)],
        |unfolded, gathered| {
            let unfolded = if pointwise {
                let block = geometry.input_block(tile.images.start, group, channels);
                let pixels = geometry.input_pixels();
                Matrix::rows(&x[block][tile.pixels.start..], rows, columns, pixels)
            } else {
                unfold_tile(x, geometry, group, channels, tile, unfolded);
                Matrix::rows(unfolded, rows, columns, columns)
            };
            let dy = gather(dy, geometry, group, tile, gathered);
            // SAFETY: passed on to the caller.
            unsafe { multiply(target, unfolded, dy.transposed(), true) };
        },
    );
}

/// Small weights: each task sums over its share of the pixels into its own copy, and the copies
/// are summed in order. The result is turned: `[group, rows, filters]`.
fn weight_gradient_by_pixels(
    x: &[f32],
    dy: &[f32],
    geometry: &Geometry,
    elements: usize,
) -> Vec<f32> {
    let rows = geometry.rows();
    let tiles = geometry.tiles(rows);
    let share = tiles.len().div_ceil(TASKS).max(1);
    let partials: Vec<Vec<f32>> = tiles
        .par_chunks(share)
        .map(|tiles| {
            let mut partial = vec![0.0; elements];
            let shared = SharedOutput::of(&mut partial);
            for tile in tiles {
                for group in 0..geometry.groups {
                    let start = group * geometry.filters * rows;
                    let mut target = shared.matrix(start, rows, geometry.filters, geometry.filters);
                    let part = (group, &(0..geometry.channels));
                    // SAFETY: the copy belongs to this task and starts as zeros.
                    unsafe { add_weight_gradient(x, dy, geometry, part, tile, &mut target) };
                }
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

/// Large weights, or many groups: each task owns some input channels and goes over all pixels. The
/// result is turned: `[group, rows, filters]`.
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
        .clamp(1, geometry.channels.div_ceil(4).max(1));
    let per_block = geometry.channels.div_ceil(blocks).max(1);
    let tiles = geometry.tiles(per_block * kernel);
    let mut gradient = vec![0.0; elements];
    // A block of channels is a run of rows, so tasks own chunks of the buffer. Chunks may not
    // cross a group.
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
            let shared = SharedOutput::of(gradient);
            let mut target = shared.matrix(0, channels.len() * kernel, filters, filters);
            for tile in &tiles {
                let part = (group, &channels);
                // SAFETY: the chunk belongs to this task and starts as zeros.
                unsafe { add_weight_gradient(x, dy, geometry, part, tile, &mut target) };
            }
        });
    gradient
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{
        assert_close, assert_same_bits_on_any_thread_count, cases, noise, values,
    };
    use super::super::portable;
    use super::*;
    use burn::backend::Flex;
    use burn::tensor::Device;
    use proptest::prelude::*;

    fn pair(value: &serde_json::Value) -> [usize; 2] {
        serde_json::from_value(value.clone()).unwrap()
    }

    #[test]
    fn convolution_and_its_gradients_equal_those_of_pytorch() {
        for case in cases("conv") {
            let options = Conv2dOptions {
                stride: pair(&case.options["stride"]),
                padding: pair(&case.options["padding"]),
                dilation: pair(&case.options["dilation"]),
                groups: case.options["groups"].as_u64().unwrap() as usize,
            };
            let (x, weight) = (case.input::<4>("x"), case.input::<4>("weight"));
            let bias = case.has("bias").then(|| case.input::<1>("bias"));
            let y = conv2d(x.clone(), weight.clone(), bias.clone(), options);
            case.assert_equals("y", y.clone());
            let gradients = (y * case.constant("dy")).sum().backward();
            case.assert_equals("dx", x.grad(&gradients).unwrap());
            case.assert_equals("dweight", weight.grad(&gradients).unwrap());
            if let Some(bias) = bias {
                case.assert_equals("dbias", bias.grad(&gradients).unwrap());
            }
        }
    }

    /// Output, gradient of the input and gradient of the weight.
    fn all_values(x: [usize; 4], weight: [usize; 4], options: Conv2dOptions) -> [Vec<f32>; 3] {
        let device = Device::flex().autodiff();
        let x = noise(1, x, &device).require_grad();
        let weight = noise(2, weight, &device).require_grad();
        let y = conv2d(x.clone(), weight.clone(), None, options);
        let dy = noise(3, y.dims(), &device);
        let gradients = (y.clone() * dy).sum().backward();
        let (dx, dweight) = (x.grad(&gradients), weight.grad(&gradients));
        [y, dx.unwrap(), dweight.unwrap()].map(values)
    }

    /// The same by burn's own convolution.
    fn portable_values(x: [usize; 4], weight: [usize; 4], options: Conv2dOptions) -> [Vec<f32>; 3] {
        let flat = |tensor: Tensor<4>| -> FlexTensor { FlexTensor::from_data(tensor.into_data()) };
        let device = Device::flex();
        let shapes = (x, weight);
        let x = flat(noise(1, x, &device));
        let weight = flat(noise(2, weight, &device));
        let y = portable::conv2d::<Flex>(x.clone(), weight.clone(), None, options);
        let dy = flat(noise(3, dims::<4>(&y), &device));
        let dx = portable::conv2d_input_gradient::<Flex>(dy.clone(), weight, shapes.0, options);
        let dweight = portable::conv2d_weight_gradient::<Flex>(x, dy, shapes.1, options);
        [y, dx, dweight].map(|tensor| tensor.into_data().try_to_vec::<f32>().unwrap())
    }

    fn assert_equals_portable(x: [usize; 4], weight: [usize; 4], options: Conv2dOptions) {
        let actual = all_values(x, weight, options);
        let expected = portable_values(x, weight, options);
        for (name, (actual, expected)) in ["y", "dx", "dweight"]
            .iter()
            .zip(actual.iter().zip(&expected))
        {
            assert_close(
                &format!("{name} of {x:?} {weight:?} {options:?}"),
                actual,
                expected,
            );
        }
    }

    fn options(stride: usize, padding: usize, groups: usize) -> Conv2dOptions {
        Conv2dOptions {
            stride: [stride; 2],
            padding: [padding; 2],
            groups,
            ..Conv2dOptions::default()
        }
    }

    #[test]
    fn sizes_that_need_several_tiles_equal_the_portable_kernels() {
        assert_equals_portable([2, 24, 40, 44], [20, 24, 3, 3], options(1, 1, 1));
        assert_equals_portable([2, 16, 41, 43], [20, 16, 3, 3], options(2, 1, 1));
        assert_equals_portable([2, 3, 64, 70], [16, 3, 7, 7], options(2, 3, 1));
        assert_equals_portable([2, 96, 30, 31], [70, 96, 1, 1], options(1, 0, 1));
        assert_equals_portable([3, 64, 20, 20], [64, 2, 3, 3], options(1, 1, 32));
        assert_equals_portable([3, 64, 20, 20], [64, 4, 3, 3], options(2, 1, 16));
    }

    #[test]
    fn small_maps_and_wide_weights_equal_the_portable_kernels() {
        assert_equals_portable([1, 130, 5, 5], [140, 130, 3, 3], options(1, 1, 1));
        assert_equals_portable([9, 130, 5, 5], [140, 130, 3, 3], options(1, 1, 1));
        assert_equals_portable([9, 130, 5, 5], [140, 130, 1, 1], options(1, 0, 1));
        assert_equals_portable([9, 64, 7, 5], [300, 64, 1, 1], options(2, 0, 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_geometry_equals_the_portable_kernels(
            batch in 1usize..4,
            groups in 1usize..4,
            channels in 1usize..4,
            filters in 1usize..4,
            input in [3usize..20, 3usize..20],
            kernel in [1usize..4, 1usize..4],
            stride in [1usize..4, 1usize..4],
            padding in [0usize..4, 0usize..4],
            dilation in [1usize..3, 1usize..3],
        ) {
            let options = Conv2dOptions { stride, padding, dilation, groups };
            let fits = |axis: usize| {
                input[axis] + 2 * padding[axis] > dilation[axis] * (kernel[axis] - 1)
            };
            prop_assume!(fits(0) && fits(1));
            assert_equals_portable(
                [batch, groups * channels, input[0], input[1]],
                [groups * filters, channels, kernel[0], kernel[1]],
                options,
            );
        }
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        for (x, weight, options) in [
            ([3, 24, 40, 44], [20, 24, 3, 3], options(1, 1, 1)),
            ([3, 24, 41, 44], [20, 24, 3, 3], options(2, 1, 1)),
            ([3, 64, 9, 9], [256, 64, 3, 3], options(1, 1, 1)),
            ([3, 64, 20, 20], [64, 2, 3, 3], options(1, 1, 32)),
        ] {
            assert_same_bits_on_any_thread_count(|| all_values(x, weight, options).concat());
        }
    }

    #[test]
    fn a_transposed_input_is_read_in_its_own_order() {
        let device = Device::flex();
        let x = noise::<4>(1, [2, 3, 8, 6], &device);
        let weight = noise::<4>(2, [4, 3, 3, 3], &device);
        let turned = x.clone().swap_dims(2, 3);
        let copied = Tensor::from_data(turned.to_data(), &device);
        let options = options(1, 1, 1);
        assert_eq!(
            values(conv2d(turned, weight.clone(), None, options)),
            values(conv2d(copied, weight, None, options)),
        );
    }

    #[test]
    fn a_constant_input_gets_no_gradient() {
        let device = Device::flex().autodiff();
        let x = noise::<4>(1, [1, 2, 5, 5], &device);
        let weight = noise::<4>(2, [2, 2, 3, 3], &device).require_grad();
        let y = conv2d(x.clone(), weight.clone(), None, Conv2dOptions::default());
        let gradients = y.sum().backward();
        assert!(x.grad(&gradients).is_none());
        assert!(weight.grad(&gradients).is_some());
    }

    #[test]
    #[should_panic(expected = "do not fit with 2 groups")]
    fn channels_that_the_groups_do_not_divide_are_refused() {
        let device = Device::flex();
        let (x, weight) = (
            Tensor::zeros([1, 3, 4, 4], &device),
            Tensor::zeros([2, 3, 1, 1], &device),
        );
        conv2d(x, weight, None, options(1, 0, 2));
    }
}
