//! Convolutions with one channel for each filter, plane by plane: there is nothing to multiply
//! matrices for.
//!
//! A plane is copied with its border of zeros, in rows of one remainder of x divided by the stride.
//! What a kernel element reads for a row of outputs then lies together.

use rayon::prelude::*;

use super::super::cpu::{Output, with_scratch};
use super::super::vectorized::vectorized;
use super::forward::Finish;
use super::geometry::Geometry;

/// Whether every group has one channel and one filter.
pub(super) fn is_possible(geometry: &Geometry) -> bool {
    geometry.groups > 1 && geometry.channels == 1 && geometry.filters == 1
}

/// The layout of a bordered plane.
#[derive(Clone, Copy)]
struct Bordered {
    /// Rows of the bordered plane.
    rows: usize,
    /// Remainders of x divided by the stride.
    phases: usize,
    /// Columns of each remainder.
    columns: usize,
}

impl Bordered {
    fn new(geometry: &Geometry) -> Self {
        let size = |axis: usize| geometry.input[axis] + 2 * geometry.padding[axis];
        Self {
            rows: size(0),
            phases: geometry.stride[1],
            columns: size(1).div_ceil(geometry.stride[1]),
        }
    }

    fn elements(&self) -> usize {
        self.rows * self.phases * self.columns
    }

    /// Where the element of column `x` in row `y` lies; those of `x + stride`, ... follow it.
    fn at(&self, y: usize, x: usize) -> usize {
        (y * self.phases + x % self.phases) * self.columns + x / self.phases
    }

    /// Copies a plane into its border, which is zero already.
    #[inline(always)]
    fn copy_in(&self, plane: &[f32], geometry: &Geometry, bordered: &mut [f32]) {
        let width = geometry.input[1];
        let [top, left] = geometry.padding;
        for (y, line) in plane.chunks_exact(width.max(1)).enumerate() {
            for first in 0..self.phases.min(width) {
                let at = self.at(y + top, first + left);
                let values = line[first..].iter().step_by(self.phases);
                for (to, value) in bordered[at..].iter_mut().zip(values) {
                    *to = *value;
                }
            }
        }
    }

    /// The transpose of [`copy_in`](Self::copy_in); what is in the border is dropped.
    #[inline(always)]
    fn copy_out(&self, bordered: &[f32], geometry: &Geometry, plane: &mut [f32]) {
        let width = geometry.input[1];
        let [top, left] = geometry.padding;
        for (y, line) in plane.chunks_exact_mut(width.max(1)).enumerate() {
            for first in 0..self.phases.min(width) {
                let at = self.at(y + top, first + left);
                let values = line[first..].iter_mut().step_by(self.phases);
                for (to, value) in values.zip(&bordered[at..]) {
                    *to = *value;
                }
            }
        }
    }

    /// For every kernel element and row of outputs: `visit(element, row, first)`, where what the
    /// element reads for that row begins at `first`.
    #[inline(always)]
    fn visit(&self, geometry: &Geometry, mut visit: impl FnMut(usize, usize, usize)) {
        let [kernel_height, kernel_width] = geometry.kernel;
        for row in 0..geometry.output[0] {
            for kernel_y in 0..kernel_height {
                for kernel_x in 0..kernel_width {
                    let y = row * geometry.stride[0] + kernel_y * geometry.dilation[0];
                    let first = self.at(y, kernel_x * geometry.dilation[1]);
                    visit(kernel_y * kernel_width + kernel_x, row, first);
                }
            }
        }
    }
}

pub(super) fn convolve(
    x: &[f32],
    weight: &[f32],
    geometry: &Geometry,
    finish: Finish<'_>,
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
                        finish.apply_to_row((image, channel), plane * pixels, sums);
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

/// Sums over the images in order.
pub(super) fn weight_gradient(x: &[f32], dy: &[f32], geometry: &Geometry) -> Vec<f32> {
    /// Products summed side by side, for the vector unit; fixed, so that the order of a sum is.
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

/// Small planes share a task.
fn planes_per_task(geometry: &Geometry) -> usize {
    (4096 / geometry.input_pixels().max(1)).max(1)
}
