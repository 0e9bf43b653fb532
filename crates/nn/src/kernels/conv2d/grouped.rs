//! Convolutions in groups of few channels (ResNeXt), without unfolding the input.
//!
//! An unfolded input would be read by the few filters of its group only. Instead the planes of a group
//! are copied with a border of zeros. The inputs that a kernel element reads are then contiguous, with
//! surplus columns at the end of each row: a matrix whose rows overlap, which the product reads in
//! place. The surplus columns are dropped when the sums are written.
//!
//! Measured by CPU time on the 3x3 layers of ResNeXt-50 32x4d at 224: 26 to 49 GFLOP/s per core, where
//! unfolding reached 14 to 28; the gradient of the weights is 3 to 9 times faster.

use rayon::prelude::*;

use super::super::cpu::{Output, with_scratch};
use super::super::panels::{Lines, PANEL, Store, add_dot_products, multiply_lines};
use super::super::vectorized::vectorized;
use super::bordered::Bordered;
use super::forward::Epilogue;
use super::geometry::Geometry;

/// Channels and filters of a group up to which this is faster than unfolding: those of the widest
/// ResNeXt-50 32x4d stage. A group with more filters reads an unfolded input often enough.
const MOST: usize = 32;

/// Returns whether this algorithm is faster for a shape.
pub(super) fn is_profitable(geometry: &Geometry) -> bool {
    let is_unfolded = !geometry.is_pointwise();
    let is_small = geometry.channels <= MOST && geometry.filters <= MOST;
    geometry.groups > 1 && is_unfolded && is_small
}

/// The planes of a group as a matrix whose rows overlap.
struct Unfolded {
    bordered: Bordered,
    /// The offset of each channel and kernel element.
    starts: Vec<usize>,
    /// Number of outputs, with the surplus columns between their rows.
    columns: usize,
    /// Elements of the source: the planes, and as many as the last panel reads after them.
    length: usize,
}

impl Unfolded {
    fn new(geometry: &Geometry) -> Self {
        let bordered = Bordered::new(geometry);
        let columns = bordered.outputs(geometry);
        let elements = bordered.starts(geometry);
        let starts = (0..geometry.channels)
            .flat_map(|channel| {
                let plane = channel * bordered.elements();
                elements.iter().map(move |start| plane + start)
            })
            .collect();
        let length = geometry.channels * bordered.elements() + columns.next_multiple_of(PANEL);
        Self {
            bordered,
            starts,
            columns,
            length,
        }
    }

    /// Copies the channels of a group into `source`, whose borders are zero.
    fn copy_in(&self, channels: &[f32], geometry: &Geometry, source: &mut [f32]) {
        let planes = channels.chunks_exact(geometry.input_pixels().max(1));
        for (plane, to) in planes.zip(source.chunks_exact_mut(self.bordered.elements())) {
            vectorized(
                #[inline(always)]
                || self.bordered.copy_in(plane, geometry, to),
            );
        }
    }

    fn lines<'a>(&'a self, source: &'a [f32]) -> Lines<'a> {
        Lines {
            data: source,
            starts: &self.starts,
            columns: self.columns,
        }
    }
}

pub(super) fn convolve(
    x: &[f32],
    weight: &[f32],
    geometry: &Geometry,
    epilogue: Epilogue<'_>,
) -> Output {
    let mut output = Output::new(geometry.output_shape().iter().product());
    let (pixels, width) = (geometry.output_pixels(), geometry.output[1]);
    if pixels == 0 {
        return output;
    }
    let shared = output.shared();
    let (channels, filters) = (geometry.channels, geometry.filters);
    let unfolded = Unfolded::new(geometry);
    let padded = unfolded.columns.next_multiple_of(PANEL);
    let per_group = filters * geometry.rows();
    (0..geometry.batch * geometry.groups)
        .into_par_iter()
        .for_each(|task| {
            let (image, group) = (task / geometry.groups, task % geometry.groups);
            let input = &x[geometry.input_block(image, group, &(0..channels))];
            let left = &weight[group * per_group..][..per_group];
            let scratch = [unfolded.length, filters * padded, pixels];
            with_scratch(scratch, |[source, sums, plane]| {
                source.fill(0.0);
                unfolded.copy_in(input, geometry, source);
                let mut sink = Store {
                    matrix: sums,
                    stride: padded,
                };
                multiply_lines(left, filters, unfolded.lines(source), &mut sink);
                for (filter, sums) in sums.chunks_exact(padded).enumerate() {
                    let channel = group * filters + filter;
                    let at = geometry.output_start(image, group) + filter * pixels;
                    vectorized(
                        #[inline(always)]
                        || {
                            let rows = sums.chunks(unfolded.bordered.columns());
                            for (to, sums) in plane.chunks_exact_mut(width).zip(rows) {
                                to.copy_from_slice(&sums[..width]);
                            }
                            epilogue.apply_to_row((image, channel), at, plane);
                        },
                    );
                    // SAFETY: no other task has this plane.
                    unsafe { shared.write(at, plane) };
                }
            });
        });
    output
}

/// Computes the gradient of the weights, `[groups * filters, channels, kernel]`, summed over the images
/// in order.
pub(super) fn weight_gradient(x: &[f32], dy: &[f32], geometry: &Geometry) -> Vec<f32> {
    let (channels, filters) = (geometry.channels, geometry.filters);
    let per_group = filters * geometry.rows();
    let mut gradient = vec![0.0; geometry.groups * per_group];
    let (pixels, width) = (geometry.output_pixels(), geometry.output[1]);
    if pixels == 0 || per_group == 0 {
        return gradient;
    }
    let unfolded = Unfolded::new(geometry);
    let padded = unfolded.columns.next_multiple_of(PANEL);
    gradient
        .par_chunks_mut(per_group)
        .enumerate()
        .for_each(|(group, gradient)| {
            let scratch = [unfolded.length, filters * padded];
            with_scratch(scratch, |[source, spread]| {
                source.fill(0.0);
                spread.fill(0.0);
                for image in 0..geometry.batch {
                    let input = &x[geometry.input_block(image, group, &(0..channels))];
                    unfolded.copy_in(input, geometry, source);
                    // The surplus columns stay zero.
                    let dy = &dy[geometry.output_start(image, group)..][..filters * pixels];
                    for (dy, spread) in dy.chunks_exact(pixels).zip(spread.chunks_exact_mut(padded))
                    {
                        let rows = spread.chunks_mut(unfolded.bordered.columns());
                        for (row, dy) in rows.zip(dy.chunks_exact(width)) {
                            row[..width].copy_from_slice(dy);
                        }
                    }
                    add_dot_products(spread, unfolded.lines(source), gradient);
                }
            });
        });
    gradient
}
