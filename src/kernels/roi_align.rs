//! RoIAlign (He et al. 2017), equal to `torchvision.ops.roi_align`, with its gradient.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Dispatch, TensorMetadata};
use burn::tensor::{Device, Int, Tensor, TensorData};
use rayon::prelude::*;

use super::{CpuOps, buffer, dims, is_cpu, tensor_of};

/// How boxes become squares of the same size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RoiAlignOptions {
    /// Side of the square.
    pub output_size: usize,
    /// Feature pixels per input pixel: 1 / stride.
    pub spatial_scale: f32,
    /// Sampling points per bin and axis; 0 takes one per feature pixel of the bin.
    pub sampling_ratio: usize,
    /// Pixel centres at half coordinates (detectron2's `ROIAlignV2`); otherwise boxes are shifted
    /// by half a pixel and at least one pixel wide.
    pub aligned: bool,
}

/// Pool boxes out of `features` `[batch, channels, height, width]`.
///
/// `rois` is `[n, 5]`: index in the batch, then x1, y1, x2, y2 in input pixels. Gives
/// `[n, channels, output_size, output_size]`. Differentiable in `features` only.
pub fn roi_align(features: Tensor<4>, rois: Tensor<2>, options: RoiAlignOptions) -> Tensor<4> {
    let device = features.device();
    if is_cpu(&device) {
        return Tensor::from_dispatch(<Dispatch as CpuOps>::cpu_roi_align(
            features.into_dispatch(),
            rois.into_dispatch(),
            options,
        ));
    }
    portable(features, rois, options, &device)
}

/// One bilinear look-up: four places in a plane and their weights.
#[derive(Debug, Clone, Copy, Default)]
struct Tap {
    index: [u32; 4],
    weight: [f32; 4],
}

impl Tap {
    /// The look-up at `(y, x)` of a map; weights of zero outside it, as torchvision.
    fn at(y: f32, x: f32, height: usize, width: usize) -> Self {
        if y < -1.0 || y > height as f32 || x < -1.0 || x > width as f32 {
            return Self::default();
        }
        let axis = |v: f32, size: usize| {
            let v = v.max(0.0);
            let low = v as usize;
            if low >= size - 1 {
                (size - 1, size - 1, 0.0)
            } else {
                (low, low + 1, v - low as f32)
            }
        };
        let (y0, y1, ly) = axis(y, height);
        let (x0, x1, lx) = axis(x, width);
        let (hy, hx) = (1.0 - ly, 1.0 - lx);
        let place = |y: usize, x: usize| (y * width + x) as u32;
        Self {
            index: [place(y0, x0), place(y0, x1), place(y1, x0), place(y1, x1)],
            weight: [hy * hx, hy * lx, ly * hx, ly * lx],
        }
    }
}

/// The look-ups of one box, bin by bin; every bin has `per_bin` of them.
struct Sampling {
    image: usize,
    per_bin: usize,
    taps: Vec<Tap>,
}

impl Sampling {
    fn new(roi: &[f32], height: usize, width: usize, o: RoiAlignOptions) -> Self {
        let offset = if o.aligned { 0.5 } else { 0.0 };
        let corner = |i: usize| roi[i] * o.spatial_scale - offset;
        let (x1, y1, x2, y2) = (corner(1), corner(2), corner(3), corner(4));
        let (mut roi_width, mut roi_height) = (x2 - x1, y2 - y1);
        if !o.aligned {
            roi_width = roi_width.max(1.0);
            roi_height = roi_height.max(1.0);
        }
        let size = o.output_size as f32;
        let (bin_height, bin_width) = (roi_height / size, roi_width / size);
        let grid = |bin: f32| match o.sampling_ratio {
            0 => bin.ceil().max(0.0) as usize,
            fixed => fixed,
        };
        let (grid_height, grid_width) = (grid(bin_height), grid(bin_width));
        let mut taps = Vec::with_capacity(o.output_size * o.output_size * grid_height * grid_width);
        for by in 0..o.output_size {
            for bx in 0..o.output_size {
                for iy in 0..grid_height {
                    let y = y1
                        + by as f32 * bin_height
                        + (iy as f32 + 0.5) * bin_height / grid_height as f32;
                    for ix in 0..grid_width {
                        let x = x1
                            + bx as f32 * bin_width
                            + (ix as f32 + 0.5) * bin_width / grid_width as f32;
                        taps.push(Tap::at(y, x, height, width));
                    }
                }
            }
        }
        Self {
            image: roi[0] as usize,
            per_bin: grid_height * grid_width,
            taps,
        }
    }

    fn all(rois: &[f32], height: usize, width: usize, options: RoiAlignOptions) -> Vec<Self> {
        rois.par_chunks_exact(5)
            .map(|roi| Self::new(roi, height, width, options))
            .collect()
    }

    /// The bins' look-ups; a bin without any is skipped by callers through its length.
    fn bin(&self, bin: usize) -> &[Tap] {
        &self.taps[bin * self.per_bin..(bin + 1) * self.per_bin]
    }

    fn share(&self) -> f32 {
        1.0 / self.per_bin.max(1) as f32
    }
}

/// The forward pass on the CPU, parallel over the boxes.
pub(super) fn forward(
    features: &FlexTensor,
    rois: &FlexTensor,
    options: RoiAlignOptions,
) -> FlexTensor {
    let (features, rois) = (features.to_contiguous(), rois.to_contiguous());
    let [_, channels, height, width] = dims(&features);
    let count = rois.shape()[0];
    let bins = options.output_size * options.output_size;
    let values: &[f32] = features.storage();
    let mut out = buffer(count * channels * bins);
    out.par_chunks_exact_mut((channels * bins).max(1))
        .zip(rois.storage::<f32>().par_chunks_exact(5))
        .for_each(|(out, roi)| {
            let sampling = Sampling::new(roi, height, width, options);
            let share = sampling.share();
            let planes =
                values[sampling.image * channels * height * width..].chunks_exact(height * width);
            for (out, plane) in out.chunks_exact_mut(bins).zip(planes) {
                for (bin, out) in out.iter_mut().enumerate() {
                    let mut sum = 0.0;
                    for tap in sampling.bin(bin) {
                        for (index, weight) in tap.index.iter().zip(tap.weight) {
                            sum += weight * plane[*index as usize];
                        }
                    }
                    *out = sum * share;
                }
            }
        });
    tensor_of(
        out,
        [count, channels, options.output_size, options.output_size],
    )
}

/// Keeps the boxes and the shape of the features.
#[derive(Debug)]
struct RoiAlignBackward;

impl Backward<Flex, 1> for RoiAlignBackward {
    type State = (FlexTensor, [usize; 4], RoiAlignOptions);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (rois, shape, options) = ops.state;
        let grad = grads.consume::<Flex>(&ops.node).to_contiguous();
        let [node] = ops.parents;
        if let Some(node) = node {
            grads.register::<Flex>(node.id, backward(&rois, shape, &grad, options));
        }
    }
}

/// The gradient of the features. Every piece owns one channel of one image and walks over the
/// boxes in their order: no atomics, and the same sum whatever the threads do.
fn backward(
    rois: &FlexTensor,
    shape: [usize; 4],
    grad: &FlexTensor,
    options: RoiAlignOptions,
) -> FlexTensor {
    let [_, channels, height, width] = shape;
    let bins = options.output_size * options.output_size;
    let samplings = Sampling::all(rois.storage(), height, width, options);
    let dy: &[f32] = grad.storage();
    let mut dx = buffer(shape.iter().product());
    dx.par_chunks_exact_mut(height * width)
        .enumerate()
        .for_each(|(piece, plane)| {
            let (image, channel) = (piece / channels, piece % channels);
            let of_image = samplings.iter().enumerate();
            for (n, sampling) in of_image.filter(|(_, s)| s.image == image) {
                let share = sampling.share();
                let dy = &dy[(n * channels + channel) * bins..][..bins];
                for (bin, dy) in dy.iter().enumerate() {
                    let d = dy * share;
                    for tap in sampling.bin(bin) {
                        for (index, weight) in tap.index.iter().zip(tap.weight) {
                            plane[*index as usize] += d * weight;
                        }
                    }
                }
            }
        });
    tensor_of(dx, shape)
}

/// The operation, recorded for the backward pass.
pub(super) fn record<C: CheckpointStrategy>(
    features: FloatTensor<Autodiff<Flex, C>>,
    rois: FloatTensor<Autodiff<Flex, C>>,
    options: RoiAlignOptions,
) -> FloatTensor<Autodiff<Flex, C>> {
    let prep = RoiAlignBackward
        .prepare::<C>([features.node()])
        .compute_bound();
    let rois = rois.into_primitive().to_contiguous();
    let shape = dims::<4>(features.primitive());
    let y = forward(features.primitive(), &rois, options);
    match prep.stateful() {
        OpsKind::Tracked(prep) => prep.finish((rois, shape, options), y),
        OpsKind::UnTracked(prep) => prep.finish(y),
    }
}

/// The same from gathers and sums, for backends without a kernel: the positions are computed on
/// the host, the look-ups and their gradient on the device, one look-up of all bins at a time.
fn portable(
    features: Tensor<4>,
    rois: Tensor<2>,
    options: RoiAlignOptions,
    device: &Device,
) -> Tensor<4> {
    let [batch, channels, height, width] = features.dims();
    let rois = rois
        .into_data()
        .convert::<f32>()
        .try_to_vec::<f32>()
        .expect("boxes are floats");
    let samplings = Sampling::all(&rois, height, width, options);
    let (size, count) = (options.output_size, samplings.len());
    let bins = size * size;
    if count == 0 {
        return Tensor::zeros([0, channels, size, size], device);
    }
    let rows = features
        .permute([0, 2, 3, 1])
        .reshape([batch * height * width, channels]);
    let plain = device.clone().inner();
    let most = samplings.iter().map(|s| s.per_bin).max().unwrap_or(0);
    let mut out = Tensor::zeros([count * bins, channels], device);
    for point in 0..most {
        for corner in 0..4 {
            let (mut index, mut weight) = (Vec::new(), Vec::new());
            for sampling in &samplings {
                let base = sampling.image * height * width;
                for bin in 0..bins {
                    let tap = sampling.bin(bin).get(point).copied().unwrap_or_default();
                    index.push((base + tap.index[corner] as usize) as i64);
                    weight.push(tap.weight[corner] * sampling.share());
                }
            }
            let n = count * bins;
            let index = Tensor::<1, Int>::from_data(TensorData::new(index, [n]), &plain);
            let weight = Tensor::<2>::from_data(TensorData::new(weight, [n, 1]), &plain);
            out = out + rows.clone().select(0, index) * weight;
        }
    }
    out.reshape([count, size, size, channels])
        .permute([0, 3, 1, 2])
}
