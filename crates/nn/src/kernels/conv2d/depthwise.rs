//! Convolutions with one channel per filter (MobileNet), plane by plane: as matrix products they would
//! have a depth of one channel.
//!
//! A plane is copied with a border of zeros, so that the inputs a kernel element reads for a row of
//! outputs are contiguous.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::super::cpu::{Output, with_scratch};
use super::super::vectorized::{arch, vectorized};
use super::bordered::Bordered;
use super::forward::Epilogue;
use super::geometry::Geometry;

/// Returns whether every group has one channel and one filter.
pub(super) fn is_possible(geometry: &Geometry) -> bool {
    geometry.groups > 1 && geometry.channels == 1 && geometry.filters == 1
}

/// Vectors of outputs whose sums are in registers at a time: their loads and multiply-adds are independent, which
/// covers the latency.
const VECTORS: usize = 4;
/// The most floats of [`VECTORS`] vectors, which a product may read and write after the last one.
const SURPLUS: usize = VECTORS * 16;

pub(super) fn convolve(
    x: &[f32],
    weight: &[f32],
    geometry: &Geometry,
    epilogue: Epilogue<'_>,
) -> Output {
    let bordered = Bordered::new(geometry);
    let (pixels, width) = (geometry.output_pixels(), geometry.output[1]);
    let kernel = geometry.kernel_elements();
    let starts = bordered.starts(geometry);
    // All outputs of a plane in one row, with the surplus columns between the rows. Rows of 7 or 14 would fill the
    // vectors less well.
    let columns = bordered.outputs(geometry);
    let lengths = [bordered.elements() + SURPLUS, columns + SURPLUS];
    let mut output = Output::new(geometry.output_shape().iter().product());
    let shared = output.shared();
    let planes = geometry.batch * geometry.groups;
    let per_task = planes_per_task(geometry);
    (0..planes.div_ceil(per_task))
        .into_par_iter()
        .for_each(|task| {
            with_scratch(lengths, |[source, sums]| {
                // The border stays zero from plane to plane.
                source.fill(0.0);
                for plane in task * per_task..((task + 1) * per_task).min(planes) {
                    let (image, channel) = (plane / geometry.groups, plane % geometry.groups);
                    let input = &x[plane * geometry.input_pixels()..][..geometry.input_pixels()];
                    vectorized(
                        #[inline(always)]
                        || bordered.copy_in(input, geometry, source),
                    );
                    arch().dispatch(Sums {
                        weight: &weight[channel * kernel..][..kernel],
                        starts: &starts,
                        source,
                        columns,
                        sums,
                    });
                    vectorized(
                        #[inline(always)]
                        || {
                            let rows = sums.chunks_mut(bordered.columns());
                            for (y, row) in rows.take(geometry.output[0]).enumerate() {
                                let at = plane * pixels + y * width;
                                let row = &mut row[..width];
                                epilogue.apply_to_row((image, channel), at, row);
                                // SAFETY: no other task has this plane.
                                unsafe { shared.write(at, row) };
                            }
                        },
                    );
                }
            });
        });
    output
}

/// The sums over the kernel elements for all outputs of a plane.
struct Sums<'a> {
    weight: &'a [f32],
    /// The offset of each kernel element in `source`.
    starts: &'a [usize],
    source: &'a [f32],
    columns: usize,
    sums: &'a mut [f32],
}

impl WithSimd for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let step = VECTORS * S::F32_LANES;
        let whole = self.columns / step * step;
        for column in (0..whole).step_by(step) {
            self.block::<S, VECTORS>(simd, column);
        }
        for column in (whole..self.columns).step_by(S::F32_LANES) {
            self.block::<S, 1>(simd, column);
        }
    }
}

impl Sums<'_> {
    /// Computes `V` vectors of outputs.
    #[inline(always)]
    fn block<S: Simd, const V: usize>(&mut self, simd: S, column: usize) {
        let length = V * S::F32_LANES;
        let mut sums = [simd.splat_f32s(0.0); V];
        for (weight, start) in self.weight.iter().zip(self.starts) {
            let factor = simd.splat_f32s(*weight);
            let (vectors, _) = S::as_simd_f32s(&self.source[start + column..][..length]);
            for v in 0..V {
                sums[v] = simd.mul_add_f32s(factor, vectors[v], sums[v]);
            }
        }
        let (to, _) = S::as_mut_simd_f32s(&mut self.sums[column..column + length]);
        for (to, sum) in to.iter_mut().zip(sums) {
            *to = sum;
        }
    }
}

pub(super) fn input_gradient(dy: &[f32], weight: &[f32], geometry: &Geometry) -> Output {
    let bordered = Bordered::new(geometry);
    let (pixels, width) = (geometry.output_pixels(), geometry.output[1]);
    let kernel = geometry.kernel_elements();
    let plane_length = geometry.input_pixels();
    let mut output = Output::new(geometry.batch * geometry.groups * plane_length);
    let shared = output.shared();
    (0..geometry.batch * geometry.groups)
        .into_par_iter()
        .with_min_len(planes_per_task(geometry))
        .for_each(|plane| {
            let channel = plane % geometry.groups;
            let dy = &dy[plane * pixels..][..pixels];
            let weight = &weight[channel * kernel..][..kernel];
            with_scratch([bordered.elements(), plane_length], |[sums, target]| {
                vectorized(
                    #[inline(always)]
                    || {
                        sums.fill(0.0);
                        bordered.visit(geometry, |element, row, first| {
                            let factor = weight[element];
                            let dy = &dy[row * width..][..width];
                            for (sum, value) in sums[first..][..width].iter_mut().zip(dy) {
                                *sum += factor * value;
                            }
                        });
                        bordered.copy_out(sums, geometry, target);
                    },
                );
                // SAFETY: no other task has this plane.
                unsafe { shared.write(plane * plane_length, target) };
            });
        });
    output
}

/// Computes the gradient of the weights, `[groups, kernel]`, summed over the images in order.
pub(super) fn weight_gradient(x: &[f32], dy: &[f32], geometry: &Geometry) -> Vec<f32> {
    /// Number of partial sums, one per lane of the vector unit. Fixed, so that the order of a sum is
    /// the same on every CPU.
    const LANES: usize = 16;
    let bordered = Bordered::new(geometry);
    let (pixels, width) = (geometry.output_pixels(), geometry.output[1]);
    let kernel = geometry.kernel_elements();
    let mut gradient = vec![0.0; geometry.groups * kernel];
    gradient
        .par_chunks_mut(kernel)
        .with_min_len(planes_per_task(geometry))
        .enumerate()
        .for_each(|(channel, gradient)| {
            with_scratch([bordered.elements()], |[source]| {
                source.fill(0.0);
                for image in 0..geometry.batch {
                    let plane = image * geometry.groups + channel;
                    let input = &x[plane * geometry.input_pixels()..][..geometry.input_pixels()];
                    let dy = &dy[plane * pixels..][..pixels];
                    vectorized(
                        #[inline(always)]
                        || {
                            bordered.copy_in(input, geometry, source);
                            bordered.visit(geometry, |element, row, first| {
                                let dy = &dy[row * width..][..width];
                                let (dy, dy_rest) = dy.as_chunks::<LANES>();
                                let (x, x_rest) = source[first..][..width].as_chunks::<LANES>();
                                let mut lanes = [0.0f32; LANES];
                                for (dy, x) in dy.iter().zip(x) {
                                    for lane in 0..LANES {
                                        lanes[lane] += dy[lane] * x[lane];
                                    }
                                }
                                let rest: f32 =
                                    dy_rest.iter().zip(x_rest).map(|(dy, x)| dy * x).sum();
                                gradient[element] += lanes.iter().sum::<f32>() + rest;
                            });
                        },
                    );
                }
            });
        });
    gradient
}

/// Returns the least number of planes in a task: 4,096 pixels take several microseconds, against which
/// starting a task costs little.
fn planes_per_task(geometry: &Geometry) -> usize {
    (4096 / geometry.input_pixels().max(1)).max(1)
}
