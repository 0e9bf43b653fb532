//! RoIAlign and its gradient on GPUs.
//!
//! The gradient is gathered: each pixel sums what the regions that sample it contribute, in the order of the regions.
//! Atomic additions would depend on the order of the threads, and WGSL has none for floats.

use burn::backend::TensorMetadata;
use burn::tensor::Shape;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::threads_for;
use crate::kernels::roi_align::RoiAlignOptions;

/// The channels of a pixel whose gradients one thread computes: they share the tests of which regions sample it.
const CHANNELS_PER_THREAD: usize = 8;

/// Computes the crops; regions of an image outside of the batch are zero.
pub(in crate::kernels) fn forward(
    features: CubeTensor,
    rois: CubeTensor,
    options: RoiAlignOptions,
) -> CubeTensor {
    let features = into_contiguous(features);
    let rois = into_contiguous(rois);
    let [_, channels, _, _] = features.shape().dims::<4>();
    let [regions, _] = rois.shape().dims::<2>();
    let size = options.output_size;
    let shape = Shape::from([regions, channels, size, size]);
    let output = empty_device_contiguous_dtype(
        features.client.clone(),
        features.device.clone(),
        shape.clone(),
        features.dtype,
    );
    let (count, dim) = threads_for(&output, shape.num_elements());
    crop::launch(
        &output.client,
        count,
        dim,
        features.into_tensor_arg(),
        rois.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        options.spatial_scale,
        options.sampling_ratio as u32,
        options.aligned,
    );
    output
}

/// Computes the gradient of the features from that of the crops.
pub(in crate::kernels) fn gradient(
    rois: CubeTensor,
    output_gradient: CubeTensor,
    features_shape: [usize; 4],
    options: RoiAlignOptions,
) -> CubeTensor {
    let rois = into_contiguous(rois);
    let output_gradient = into_contiguous(output_gradient);
    let [batch, channels, height, width] = features_shape;
    let gradient = empty_device_contiguous_dtype(
        output_gradient.client.clone(),
        output_gradient.device.clone(),
        Shape::from(features_shape),
        output_gradient.dtype,
    );
    let groups = channels.div_ceil(CHANNELS_PER_THREAD);
    let (count, dim) = threads_for(&gradient, batch * groups * height * width);
    gather::launch(
        &gradient.client,
        count,
        dim,
        rois.into_tensor_arg(),
        output_gradient.into_tensor_arg(),
        gradient.clone().into_tensor_arg(),
        options.spatial_scale,
        options.sampling_ratio as u32,
        options.aligned,
        CHANNELS_PER_THREAD,
    );
    gradient
}

/// Where a region is along one axis of the feature map.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
struct Span {
    start: f32,
    /// The length of a bin.
    bin: f32,
    /// Samples in a bin.
    samples: u32,
}

/// Returns the span from `low` to `high` in input pixels.
#[cube]
fn span(
    low: f32,
    high: f32,
    scale: f32,
    bins: u32,
    #[comptime] sampling_ratio: u32,
    #[comptime] aligned: bool,
) -> Span {
    let offset = if comptime!(aligned) { 0.5f32 } else { 0.0f32 };
    let start = low * scale - offset;
    let mut length = high * scale - offset - start;
    if comptime!(!aligned) {
        length = max(length, 1.0f32);
    }
    let bin = length / f32::cast_from(bins);
    let samples = if comptime!(sampling_ratio == 0) {
        // A region of no or negative length gets no samples.
        u32::cast_from(max(bin.ceil(), 0.0f32))
    } else {
        sampling_ratio.runtime()
    };
    Span {
        start,
        bin,
        samples,
    }
}

/// Returns the horizontal and the vertical span of the region whose row of `rois` begins at `roi`.
#[cube]
fn spans(
    rois: &Tensor<f32>,
    roi: usize,
    scale: f32,
    bins: u32,
    #[comptime] sampling_ratio: u32,
    #[comptime] aligned: bool,
) -> (Span, Span) {
    let (x1, y1) = (rois[roi + 1], rois[roi + 2]);
    let (x2, y2) = (rois[roi + 3], rois[roi + 4]);
    let across = span(x1, x2, scale, bins, sampling_ratio, aligned);
    let down = span(y1, y2, scale, bins, sampling_ratio, aligned);
    (across, down)
}

/// Returns the position of a sample in a bin.
#[cube]
fn position(span: Span, bin: u32, sample: u32) -> f32 {
    let within = (f32::cast_from(sample) + 0.5f32) * span.bin / f32::cast_from(span.samples);
    span.start + f32::cast_from(bin) * span.bin + within
}

/// Two neighboring pixels and their weights, zero for a position outside of the feature map.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
struct Taps {
    low: u32,
    high: u32,
    low_weight: f32,
    high_weight: f32,
}

#[cube]
fn taps(position: f32, size: u32) -> Taps {
    let is_inside = position >= -1.0f32 && position <= f32::cast_from(size);
    let inside = clamp(position, 0.0f32, f32::cast_from(size));
    let last = size - 1u32;
    let low = min(u32::cast_from(inside), last);
    let is_last = low >= last;
    let share = select(is_last, 0.0f32, inside - f32::cast_from(low));
    Taps {
        low,
        high: select(is_last, last, low + 1u32),
        low_weight: select(is_inside, 1.0f32 - share, 0.0f32),
        high_weight: select(is_inside, share, 0.0f32),
    }
}

#[cube(launch)]
fn crop(
    features: &Tensor<f32>,
    rois: &Tensor<f32>,
    output: &mut Tensor<f32>,
    scale: f32,
    #[comptime] sampling_ratio: u32,
    #[comptime] aligned: bool,
) {
    if ABSOLUTE_POS >= output.len() {
        terminate!();
    }
    let bins = output.shape(2) as u32;
    let channels = features.shape(1);
    let height = features.shape(2) as u32;
    let width = features.shape(3) as u32;
    let at = ABSOLUTE_POS as u32;
    let column = at % bins;
    let row = at / bins % bins;
    let plane = (at / (bins * bins)) as usize;
    let channel = plane % channels;
    let roi = plane / channels * 5;
    let image = rois[roi];
    let mut sum = 0.0f32;
    if image >= 0.0f32 && image < f32::cast_from(features.shape(0)) {
        let start = (usize::cast_from(image) * channels + channel) * (height * width) as usize;
        let (across, down) = spans(rois, roi, scale, bins, sampling_ratio, aligned);
        for i in 0..down.samples {
            let y = taps(position(down, row, i), height);
            let low = start + (y.low * width) as usize;
            let high = start + (y.high * width) as usize;
            for j in 0..across.samples {
                let x = taps(position(across, column, j), width);
                let (near, far) = (x.low as usize, x.high as usize);
                let upper =
                    x.low_weight * features[low + near] + x.high_weight * features[low + far];
                let lower =
                    x.low_weight * features[high + near] + x.high_weight * features[high + far];
                sum += y.low_weight * upper + y.high_weight * lower;
            }
        }
        let samples = max(down.samples * across.samples, 1u32);
        sum /= f32::cast_from(samples);
    }
    output[ABSOLUTE_POS] = sum;
}

/// Returns the weight of a pixel in a bin along one axis: the sum over the samples.
#[cube]
fn weight(span: Span, bin: u32, pixel: u32, size: u32) -> f32 {
    let mut sum = 0.0f32;
    for sample in 0..span.samples {
        let found = taps(position(span, bin, sample), size);
        sum += select(found.low == pixel, found.low_weight, 0.0f32);
        sum += select(found.high == pixel, found.high_weight, 0.0f32);
    }
    sum
}

/// Returns whether a sample of a span may be at a pixel or beside it.
#[cube]
fn may_touch(span: Span, bins: u32, pixel: u32, size: u32) -> bool {
    let end = span.start + span.bin * f32::cast_from(bins);
    let low = min(span.start, end);
    let high = max(span.start, end);
    let at = f32::cast_from(pixel);
    // Positions beyond an edge, by up to a pixel, belong to the pixel at the edge.
    let begins = select(pixel == 0u32, high >= -1.0f32, high > at - 1.0f32);
    let ends = select(
        pixel + 1u32 == size,
        low <= f32::cast_from(size),
        low < at + 1.0f32,
    );
    begins && ends
}

#[cube(launch)]
fn gather(
    rois: &Tensor<f32>,
    output_gradient: &Tensor<f32>,
    gradient: &mut Tensor<f32>,
    scale: f32,
    #[comptime] sampling_ratio: u32,
    #[comptime] aligned: bool,
    #[comptime] per_thread: usize,
) {
    let channels = gradient.shape(1);
    let height = gradient.shape(2) as u32;
    let width = gradient.shape(3) as u32;
    let area = (height * width) as usize;
    let groups = channels.div_ceil(per_thread);
    if ABSOLUTE_POS >= gradient.shape(0) * groups * area {
        terminate!();
    }
    let pixel = (ABSOLUTE_POS % area) as u32;
    let (y, x) = (pixel / width, pixel % width);
    let group = ABSOLUTE_POS / area % groups;
    let image = ABSOLUTE_POS / area / groups;
    let first = group * per_thread;
    let bins = output_gradient.shape(2) as u32;
    let crop_area = (bins * bins) as usize;
    let mut sums = Array::<f32>::new(per_thread);
    #[unroll]
    for at in 0..per_thread {
        sums[at] = 0.0f32;
    }
    for region in 0..rois.shape(0) {
        let roi = region * 5;
        let (across, down) = spans(rois, roi, scale, bins, sampling_ratio, aligned);
        let is_here = rois[roi] == f32::cast_from(image)
            && may_touch(across, bins, x, width)
            && may_touch(down, bins, y, height);
        if is_here {
            let samples = f32::cast_from(max(down.samples * across.samples, 1u32));
            let start = (region * channels + first) * crop_area;
            for row in 0..bins {
                let of_row = weight(down, row, y, height) / samples;
                if of_row != 0.0f32 {
                    for column in 0..bins {
                        let of_bin = of_row * weight(across, column, x, width);
                        if of_bin != 0.0f32 {
                            let bin = start + (row * bins + column) as usize;
                            #[unroll]
                            for at in 0..per_thread {
                                if first + at < channels {
                                    sums[at] += of_bin * output_gradient[bin + at * crop_area];
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    let start = (image * channels + first) * area + pixel as usize;
    #[unroll]
    for at in 0..per_thread {
        if first + at < channels {
            gradient[start + at * area] = sums[at];
        }
    }
}

#[cfg(all(test, feature = "wgpu"))]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData};
    use proptest::prelude::*;

    use crate::kernels::fixture::{assert_close, gpu, noise, values};
    use crate::kernels::roi_align::{RoiAlignOptions, roi_align};

    /// Returns the crops and the gradient of the features for a weighted sum of the crops.
    fn crops(
        device: Device,
        shape: [usize; 4],
        rois: &[f32],
        options: RoiAlignOptions,
    ) -> [Vec<f32>; 2] {
        let device = device.autodiff();
        let features = noise::<4>(1, shape, &device).require_grad();
        let regions = rois.len() / 5;
        let rois = Tensor::from_data(TensorData::new(rois.to_vec(), [regions, 5]), &device);
        let crops = roi_align(features.clone(), rois, options);
        let weights = noise(2, crops.dims(), &device);
        let gradients = (crops.clone() * weights).sum().backward();
        [values(crops), values(features.grad(&gradients).unwrap())]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn crops_and_gradients_of_any_regions_equal_those_of_the_cpu(
            batch in 1_usize..3,
            channels in 1_usize..19,
            height in 1_usize..20,
            width in 1_usize..20,
            output_size in 1_usize..8,
            sampling_ratio in 0_usize..4,
            aligned: bool,
            // Some are reversed, empty or outside of the image.
            rois in prop::collection::vec((0_u8..2, prop::array::uniform4(-12.0_f32..90.0)), 1..12),
        ) {
            let options = RoiAlignOptions { output_size, spatial_scale: 0.25, sampling_ratio, aligned };
            let rois = rois.into_iter();
            let rois: Vec<f32> = rois
                .flat_map(|(image, corners)| {
                    let image = f32::from(image).min(batch as f32 - 1.0);
                    [&[image][..], &corners].concat()
                })
                .collect();
            let shape = [batch, channels, height, width];
            let cpu = crops(Device::flex(), shape, &rois, options);
            let on_gpu = crops(gpu(), shape, &rois, options);
            for (name, (actual, expected)) in ["crops", "gradient"].into_iter().zip(on_gpu.iter().zip(&cpu)) {
                assert_close(name, actual, expected);
            }
        }
    }
}
