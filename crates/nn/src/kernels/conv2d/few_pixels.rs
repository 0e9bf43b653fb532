//! Convolutions of one image over few output pixels, with the filters in the lanes of the vectors.
//!
//! The other matrix product has pixels in the lanes. A feature map of 7x7 fills 3.06 of its vectors, and a
//! quarter of the lanes stays empty. Here a vector holds the same pixel of several filters, and the pixels
//! are the sums that the registers hold at a time: 25, which divide a feature map of 7x7 into two halves.
//! The unfolded input of a 1x1 kernel is the input as it is.
//!
//! Each sum runs over the depth in order, so the bits are those of the other product.

use std::borrow::Cow;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::super::cpu::{Output, with_scratch};
use super::super::panels::{lanes, pack_vectors};
use super::super::vectorized::{arch, prefetch, vectorized};
use super::forward::{Epilogue, unfold_whole};
use super::geometry::{Geometry, TASKS};
use super::packed::{Order, Weights};

/// Pixels whose sums fit into 32 registers, with one vector of weights and one factor.
const PIXELS: usize = 25;
/// As [`PIXELS`], for 16 registers.
const PIXELS_OF_16: usize = 13;
/// How many vectors of weights, and lines of pixels, are [prefetched](prefetch) ahead of the product. ResNet-50 at 224 on one core
/// of an AMD EPYC of family 26: 42.9 without and 40.2 ms with it.
const WEIGHTS_AHEAD: usize = 16;
/// See [`WEIGHTS_AHEAD`].
const LINES_AHEAD: usize = 8;
/// Most output pixels: those of a feature map of 14x14. With more, the vectors of the other product are filled
/// well enough.
const MOST_PIXELS: usize = 8 * PIXELS;
/// Elements of the unfolded input that are multiplied at a time, while which all filters of a task read them:
/// 256 KiB, which stay in the second-level cache.
const PART: usize = 64 * 1024;

/// Returns whether this algorithm is faster for a shape, if the weights are kept in its order.
pub(super) fn is_profitable(geometry: &Geometry) -> bool {
    let pixels = geometry.output_pixels();
    let wastes_less = pixels.next_multiple_of(PIXELS) <= pixels.next_multiple_of(16);
    let is_single = geometry.batch == 1 && geometry.groups == 1;
    is_single && (PIXELS..=MOST_PIXELS).contains(&pixels) && wastes_less
}

pub(super) fn convolve(
    x: &[f32],
    geometry: &Geometry,
    epilogue: Epilogue<'_>,
    weights: Weights<'_>,
) -> Output {
    let (depth, pixels, filters) = (geometry.rows(), geometry.output_pixels(), geometry.filters);
    let lanes = lanes();
    let packed = weights.order(Order::Vectors, |weight| {
        pack_vectors(weight, filters, depth)
    });
    let unfolded = if geometry.is_pointwise() {
        Cow::Borrowed(x)
    } else {
        Cow::Owned(unfold_whole(x, geometry))
    };
    let mut output = Output::new(geometry.output_shape().iter().product());
    let shared = output.shared();
    let vectors = filters.div_ceil(lanes);
    let per_task = vectors.div_ceil(TASKS).max(1);
    let per_part = (PART / pixels).max(1);
    (0..vectors.div_ceil(per_task))
        .into_par_iter()
        .for_each(|task| {
            let vectors = task * per_task..((task + 1) * per_task).min(vectors);
            let of_vector = pixels * lanes;
            with_scratch([vectors.len() * of_vector, pixels], |[sums, row]| {
                for first in (0..depth).step_by(per_part) {
                    let some = first..(first + per_part).min(depth);
                    for (vector, sums) in vectors.clone().zip(sums.chunks_exact_mut(of_vector)) {
                        let weights = &packed[vector * depth * lanes..][..depth * lanes];
                        arch().dispatch(Product {
                            weights: &weights[some.start * lanes..some.end * lanes],
                            unfolded: &unfolded[some.start * pixels..some.end * pixels],
                            pixels,
                            is_first: first == 0,
                            sums,
                        });
                    }
                }
                vectorized(
                    #[inline(always)]
                    || {
                        for (vector, sums) in vectors.clone().zip(sums.chunks_exact(of_vector)) {
                            for lane in 0..lanes.min(filters - vector * lanes) {
                                let filter = vector * lanes + lane;
                                for (to, sums) in row.iter_mut().zip(sums.chunks_exact(lanes)) {
                                    *to = sums[lane];
                                }
                                epilogue.apply_to_row((0, filter), filter * pixels, row);
                                // SAFETY: no other task has this filter. The rows of a task are contiguous, but
                                // a buffer that is not initialized has no slices to write to.
                                unsafe { shared.write(filter * pixels, row) };
                            }
                        }
                    },
                );
            });
        });
    output
}

/// The product of one vector of filters and a part of the depth.
struct Product<'a> {
    /// `[depth, lanes]`.
    weights: &'a [f32],
    /// `[depth, pixels]`.
    unfolded: &'a [f32],
    pixels: usize,
    /// Whether the sums start at zero.
    is_first: bool,
    /// `[pixels, lanes]`.
    sums: &'a mut [f32],
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 {
            self.multiply::<S, PIXELS>(simd);
        } else {
            self.multiply::<S, PIXELS_OF_16>(simd);
        }
    }
}

impl Product<'_> {
    #[inline(always)]
    fn multiply<S: Simd, const P: usize>(self, simd: S) {
        let (weights, _) = S::as_simd_f32s(self.weights);
        let (kept, _) = S::as_mut_simd_f32s(self.sums);
        let mut next = 0;
        while next < self.pixels {
            // The last pixels are computed together with some of those before them, whose sums must not
            // be added to twice.
            let first = next.min(self.pixels - P);
            let done = next - first;
            let mut sums = [simd.splat_f32s(0.0); P];
            if !self.is_first {
                sums.copy_from_slice(&kept[first..first + P]);
            }
            let lines = self.unfolded.chunks_exact(self.pixels);
            for (weights, line) in weights.iter().zip(lines) {
                let line = &line[first..first + P];
                prefetch(std::slice::from_ref(weights), WEIGHTS_AHEAD);
                prefetch(line, LINES_AHEAD * self.pixels);
                prefetch(line, LINES_AHEAD * self.pixels + 16);
                for p in 0..P {
                    let factor = simd.splat_f32s(line[p]);
                    sums[p] = simd.mul_add_f32s(factor, *weights, sums[p]);
                }
            }
            kept[next..first + P].copy_from_slice(&sums[done..]);
            next = first + P;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the product `[pixels, lanes]` as a CPU with these vectors computes it, in two parts of the
    /// depth.
    fn product_with<S: Simd>(
        simd: S,
        weights: &[f32],
        unfolded: &[f32],
        pixels: usize,
    ) -> Vec<f32> {
        let lanes = S::F32_LANES;
        let depth = unfolded.len() / pixels;
        let mut sums = vec![f32::NAN; pixels * lanes];
        for part in [0..depth / 3, depth / 3..depth] {
            simd.vectorize(Product {
                weights: &weights[part.start * lanes..part.end * lanes],
                unfolded: &unfolded[part.start * pixels..part.end * pixels],
                pixels,
                is_first: part.start == 0,
                sums: &mut sums,
            });
        }
        sums
    }

    fn assert_is_the_product<S: Simd>(simd: S) {
        let lanes = S::F32_LANES;
        let numbers = |count: usize, step: usize| -> Vec<f32> {
            (0..count)
                .map(|i| ((i * step) % 23) as f32 - 11.0)
                .collect()
        };
        for (depth, pixels) in [(3, 25), (10, 49), (7, 51), (40, 196)] {
            let (weights, unfolded) = (numbers(depth * lanes, 7), numbers(depth * pixels, 5));
            let expected: Vec<f32> = (0..pixels * lanes)
                .map(|i| {
                    let (pixel, lane) = (i / lanes, i % lanes);
                    (0..depth)
                        .map(|d| weights[d * lanes + lane] * unfolded[d * pixels + pixel])
                        .sum()
                })
                .collect();
            assert_eq!(product_with(simd, &weights, &unfolded, pixels), expected);
        }
    }

    #[test]
    fn products_are_exact_on_whole_numbers_on_every_cpu() {
        struct OfThisCpu;
        impl WithSimd for OfThisCpu {
            type Output = ();

            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                assert_is_the_product(simd);
            }
        }
        assert_is_the_product(pulp::Scalar::new());
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = pulp::x86::V3::try_new() {
            assert_is_the_product(simd);
        }
        arch().dispatch(OfThisCpu);
    }
}
