//! Convolutions with one channel per filter (MobileNet), plane by plane: as matrix products they would
//! have a depth of one channel.
//!
//! A plane is copied with a border of zeros, so that the inputs a kernel element reads for a row of
//! outputs are contiguous.

use rayon::prelude::*;

use super::super::cpu::{Output, with_scratch};
use super::super::vectorized::vectorized;
use super::bordered::Bordered;
use super::forward::Epilogue;
use super::geometry::Geometry;

/// Returns whether every group has one channel and one filter.
pub(super) fn is_possible(geometry: &Geometry) -> bool {
    geometry.groups > 1 && geometry.channels == 1 && geometry.filters == 1
}

pub(super) fn convolve(
    x: &[f32],
    weight: &[f32],
    geometry: &Geometry,
    epilogue: Epilogue<'_>,
) -> Output {
    let bordered = Bordered::new(geometry);
    let (pixels, width) = (geometry.output_pixels(), geometry.output[1]);
    let kernel = geometry.kernel_elements();
    let mut output = Output::new(geometry.output_shape().iter().product());
    let shared = output.shared();
    (0..geometry.batch * geometry.groups)
        .into_par_iter()
        .with_min_len(planes_per_task(geometry))
        .for_each(|plane| {
            let channel = plane % geometry.groups;
            let input = &x[plane * geometry.input_pixels()..][..geometry.input_pixels()];
            let weight = &weight[channel * kernel..][..kernel];
            with_scratch([bordered.elements(), pixels], |[source, sums]| {
                vectorized(
                    #[inline(always)]
                    || {
                        source.fill(0.0);
                        bordered.copy_in(input, geometry, source);
                        sums.fill(0.0);
                        bordered.visit(geometry, |element, row, first| {
                            let factor = weight[element];
                            let sums = &mut sums[row * width..][..width];
                            for (sum, value) in sums.iter_mut().zip(&source[first..][..width]) {
                                *sum += factor * value;
                            }
                        });
                        let image = plane / geometry.groups;
                        epilogue.apply_to_row((image, channel), plane * pixels, sums);
                    },
                );
                // SAFETY: no other task has this plane.
                unsafe { shared.write(plane * pixels, sums) };
            });
        });
    output
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
