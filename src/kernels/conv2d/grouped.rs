//! Convolutions in groups of few channels (ResNeXt): an unfolded input would be read by no more than
//! a few filters before it is thrown away, so nothing is unfolded.
//!
//! The planes of a group are copied with their borders of zeros. For a kernel element, the inputs of
//! all outputs then lie behind each other, with a few columns too many at the end of each row: a
//! matrix whose rows overlap, which the product takes as it is. The columns too many are dropped when
//! the sums are written.

use pulp::Simd;
use pulp::bytemuck::cast_slice;
use rayon::prelude::*;

use super::super::cpu::{Output, with_scratch};
use super::super::panels::{Lines, PANEL, Sink, multiply_lines};
use super::super::vectorized::vectorized;
use super::bordered::Bordered;
use super::forward::Finish;
use super::geometry::Geometry;

/// Channels and filters of a group up to which this is faster than unfolding.
const MOST: usize = 32;

/// Whether a shape is computed here.
pub(super) fn pays(geometry: &Geometry) -> bool {
    let is_unfolded = !geometry.is_pointwise();
    let is_small = geometry.channels <= MOST && geometry.filters <= MOST;
    geometry.groups > 1 && is_unfolded && is_small
}

/// Sums, `[filters, columns]`.
struct Sums<'a> {
    data: &'a mut [f32],
    columns: usize,
}

impl Sink for Sums<'_> {
    #[inline(always)]
    fn take<S: Simd, const V: usize>(
        &mut self,
        _: S,
        row: usize,
        column: usize,
        sums: [S::f32s; V],
    ) {
        let width = V * S::F32_LANES;
        self.data[row * self.columns + column..][..width].copy_from_slice(cast_slice(&sums));
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
    let mut output = Output::new(geometry.output_shape().iter().product());
    if pixels == 0 {
        return output;
    }
    let shared = output.shared();
    let (channels, filters) = (geometry.channels, geometry.filters);
    // The last row of outputs ends with the map.
    let columns = (geometry.output[0] - 1) * bordered.columns() + width;
    let padded = columns.next_multiple_of(PANEL);
    let starts: Vec<usize> = (0..channels)
        .flat_map(|channel| {
            let [height, width] = geometry.kernel;
            let elements = (0..height).flat_map(move |y| (0..width).map(move |x| (y, x)));
            elements
                .map(move |(y, x)| channel * bordered.elements() + bordered.start(geometry, y, x))
        })
        .collect();
    // The product reads whole vectors.
    let source_length = channels * bordered.elements() + padded;
    let per_group = filters * geometry.rows();
    (0..geometry.batch * geometry.groups)
        .into_par_iter()
        .for_each(|task| {
            let (image, group) = (task / geometry.groups, task % geometry.groups);
            let input = &x[geometry.input_block(image, group, &(0..channels))];
            let left = &weight[group * per_group..][..per_group];
            let scratch = [source_length, filters * padded, pixels];
            with_scratch(scratch, |[source, sums, line]| {
                source.fill(0.0);
                let planes = input.chunks_exact(geometry.input_pixels().max(1));
                for (plane, to) in planes.zip(source.chunks_exact_mut(bordered.elements())) {
                    vectorized(
                        #[inline(always)]
                        || bordered.copy_in(plane, geometry, to),
                    );
                }
                let lines = Lines {
                    data: source,
                    starts: &starts,
                    columns,
                };
                let mut sink = Sums {
                    data: sums,
                    columns: padded,
                };
                multiply_lines(left, filters, lines, &mut sink);
                for (filter, sums) in sums.chunks_exact(padded).enumerate() {
                    let channel = group * filters + filter;
                    let at = geometry.output_start(image, group) + filter * pixels;
                    vectorized(
                        #[inline(always)]
                        || {
                            let rows = sums.chunks(bordered.columns());
                            for (to, sums) in line.chunks_exact_mut(width).zip(rows) {
                                to.copy_from_slice(&sums[..width]);
                            }
                            finish.apply_to_row((image, channel), at, line);
                        },
                    );
                    // SAFETY: no other task has this plane.
                    unsafe { shared.write(at, line) };
                }
            });
        });
    output
}
