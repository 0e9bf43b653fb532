//! The input as a matrix (im2col), and the transpose of that (col2im).

use std::ops::Range;

use super::geometry::{Geometry, Tile};

/// Unfolds channels of a group. Rows are `(channel, kernel_y, kernel_x)`, columns are the output
/// pixels of the tile. Calls `store(row, first column, values)` for each row of every image of the
/// tile. `line` is scratch memory with one element per pixel of the tile.
pub(super) fn unfold_tile(
    x: &[f32],
    geometry: &Geometry,
    group: usize,
    channels: &Range<usize>,
    tile: &Tile,
    line: &mut [f32],
    mut store: impl FnMut(usize, usize, &[f32]),
) {
    for (index, image) in tile.images.clone().enumerate() {
        let planes = &x[geometry.input_block(image, group, channels)];
        let first = index * tile.pixels.len();
        unfold(
            planes,
            geometry,
            tile.pixels.clone(),
            line,
            |row, values| {
                store(row, first, values);
            },
        );
    }
}

/// Returns the output positions along one axis whose input position `stride * out + offset` is inside
/// the input.
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
    line: &mut [f32],
    mut store: impl FnMut(usize, &[f32]),
) {
    let target = &mut line[..pixels.len()];
    if geometry.is_pointwise() {
        let planes = planes.chunks_exact(geometry.input_pixels().max(1));
        planes
            .enumerate()
            .for_each(|(row, plane)| store(row, &plane[pixels.clone()]));
        return;
    }
    let [height, width] = geometry.input;
    let out_width = geometry.output[1];
    let [stride_y, stride_x] = geometry.stride;
    // With stride 1 and an output as wide as the input, a row of the matrix is the shifted plane: one
    // copy, then zeros where the shift crossed the left or right edge.
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
                if shifted {
                    copy_shifted(plane, offset_y * width as isize + offset_x, &pixels, target);
                    if inside_x.len() < out_width {
                        clear_columns(target, &pixels, out_width, &inside_x);
                    }
                    store(row, target);
                    row += 1;
                    continue;
                }
                for (y, xs, at) in row_segments(&pixels, out_width) {
                    let target = &mut target[at..at + xs.len()];
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
                store(row, target);
                row += 1;
            }
        }
    }
}

/// The rows of a plane that a tile reads, each sorted by the remainder of x divided by the stride, so
/// that the elements a kernel element reads are contiguous. Sorting once per tile replaces one strided
/// copy for each of the 49 elements of a 7x7 kernel.
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
                // The usual case, in a form that compiles to vector shuffles.
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

    /// Returns `length` elements of row `y`, from `x` on in steps of the stride.
    fn row(&self, y: usize, x: usize, length: usize) -> &[f32] {
        let row = ((y - self.rows.start) * self.stride + x % self.stride) * self.columns;
        &self.sorted[row + x / self.stride..][..length]
    }
}

/// Splits a range of row-major pixels at the row ends: (y, range of x, offset in the range).
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
        let at = pixel - pixels.start;
        pixel += end - x;
        Some((y, x..end, at))
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
    for (_, xs, at) in row_segments(pixels, width) {
        let left = keep.start.clamp(xs.start, xs.end);
        let right = keep.end.clamp(left, xs.end);
        target[at..at + left - xs.start].fill(0.0);
        target[at + right - xs.start..at + xs.len()].fill(0.0);
    }
}

/// Adds the rows of one channel of an unfolded tile to its plane: the transpose of `unfold`.
pub(super) fn fold(
    unfolded: &[f32],
    geometry: &Geometry,
    pixels: &Range<usize>,
    plane: &mut [f32],
) {
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
        for (y, xs, at) in row_segments(pixels, out_width) {
            let left = inside_x.start.clamp(xs.start, xs.end);
            let right = inside_x.end.clamp(left, xs.end);
            if !inside_y.contains(&y) || left == right {
                continue;
            }
            let target_y = ((y * stride_y) as isize + offset_y) as usize;
            let first = ((left * stride_x) as isize + offset_x) as usize;
            let source = &row[at + left - xs.start..at + right - xs.start];
            let target = &mut plane[target_y * width + first..(target_y + 1) * width];
            for (to, from) in target.iter_mut().step_by(stride_x).zip(source) {
                *to += *from;
            }
        }
    }
}
