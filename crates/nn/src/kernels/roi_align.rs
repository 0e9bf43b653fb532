//! RoIAlign (He et al., 2017): crops of a feature map by bilinear interpolation, as defined by
//! `torchvision.ops.roi_align`.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, Tensor, TensorData, read_sync};
use rayon::prelude::*;

use super::autodiff::tracked;
use super::cpu::{Contiguous, Output, all_f32, dims, with_scratch};
use super::vectorized::vectorized;

/// Options of RoIAlign.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoiAlignOptions {
    /// The height and width of each crop, in bins.
    pub output_size: usize,
    /// Feature-map pixels per input pixel, for example 1/16.
    pub spatial_scale: f32,
    /// Samples per bin and axis; 0 takes one per feature-map pixel that the bin covers.
    pub sampling_ratio: usize,
    /// Whether pixel centers are at half coordinates (the corrected form). Without it, regions are
    /// at least one feature-map pixel wide and high.
    pub aligned: bool,
}

/// Crops regions out of feature maps (`torchvision.ops.roi_align`). Differentiable in `features`
/// only.
///
/// # Shapes
/// - `features`: `[batch, channels, height, width]`
/// - `rois`: `[regions, 5]` with rows `(image index in the batch, x1, y1, x2, y2)` in input pixels
/// - result: `[regions, channels, output_size, output_size]`, empty if there is no region
///
/// # Panics
/// If `rois` has not 5 columns, or an image index is outside the batch.
pub fn roi_align(features: Tensor<4>, rois: Tensor<2>, options: RoiAlignOptions) -> Tensor<4> {
    let [regions, columns] = rois.dims();
    assert_eq!(columns, 5, "roi_align: a region is (image, x1, y1, x2, y2)");
    if regions == 0 {
        // burn cannot record an operation whose output is empty, and there is no gradient.
        let channels = features.dims()[1];
        let shape = [0, channels, options.output_size, options.output_size];
        return Tensor::empty(shape, &features.device());
    }
    Tensor::from_dispatch(<Dispatch as RoiAlignOps>::roi_align(
        features.into_dispatch(),
        rois.into_dispatch(),
        options,
    ))
}

// ---------------------------------------------------------------------------------------------
// Backends
// ---------------------------------------------------------------------------------------------

/// The operation of this module and its gradient. The portable form runs in host memory.
#[backend_extension(Autodiff, Flex, Cube: cfg(any(feature = "wgpu", feature = "cuda")))]
pub(super) trait RoiAlignOps: Backend {
    /// See [`roi_align`].
    fn roi_align(
        features: FloatTensor<Self>,
        rois: FloatTensor<Self>,
        options: RoiAlignOptions,
    ) -> FloatTensor<Self> {
        portable_forward::<Self>(features, rois, options)
    }

    /// The gradient of [`roi_align`] for the features, of shape `features_shape`.
    fn roi_align_gradient(
        rois: FloatTensor<Self>,
        output_gradient: FloatTensor<Self>,
        features_shape: [usize; 4],
        options: RoiAlignOptions,
    ) -> FloatTensor<Self> {
        portable_gradient::<Self>(rois, output_gradient, features_shape, options)
    }
}

/// Copies a tensor of any backend to host memory, as 32-bit floats.
fn on_host<B: Backend>(tensor: FloatTensor<B>) -> FlexTensor {
    let data = read_sync(B::float_into_data(tensor))
        .expect("burn panics on a failed device too, at every read");
    FlexTensor::from_data(data.convert::<f32>())
}

fn on_device<B: Backend>(tensor: FlexTensor, device: &B::Device, dtype: DType) -> FloatTensor<B> {
    let data: TensorData = tensor.into_data().convert_dtype(dtype);
    B::float_from_data(data, device)
}

fn portable_forward<B: Backend>(
    features: FloatTensor<B>,
    rois: FloatTensor<B>,
    options: RoiAlignOptions,
) -> FloatTensor<B> {
    let (device, dtype) = (features.device(), features.dtype());
    let output = cpu_forward(on_host::<B>(features), on_host::<B>(rois), options);
    on_device::<B>(output, &device, dtype)
}

fn portable_gradient<B: Backend>(
    rois: FloatTensor<B>,
    output_gradient: FloatTensor<B>,
    features_shape: [usize; 4],
    options: RoiAlignOptions,
) -> FloatTensor<B> {
    let (device, dtype) = (output_gradient.device(), output_gradient.dtype());
    let (rois, output_gradient) = (on_host::<B>(rois), on_host::<B>(output_gradient));
    let gradient = cpu_gradient(rois, output_gradient, features_shape, options);
    on_device::<B>(gradient, &device, dtype)
}

impl RoiAlignOps for Flex {
    fn roi_align(features: FlexTensor, rois: FlexTensor, options: RoiAlignOptions) -> FlexTensor {
        if all_f32([&features, &rois]) {
            cpu_forward(features, rois, options)
        } else {
            portable_forward::<Self>(features, rois, options)
        }
    }

    fn roi_align_gradient(
        rois: FlexTensor,
        output_gradient: FlexTensor,
        features_shape: [usize; 4],
        options: RoiAlignOptions,
    ) -> FlexTensor {
        if all_f32([&rois, &output_gradient]) {
            cpu_gradient(rois, output_gradient, features_shape, options)
        } else {
            portable_gradient::<Self>(rois, output_gradient, features_shape, options)
        }
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl RoiAlignOps for burn::backend::Cube {
    fn roi_align(
        features: FloatTensor<Self>,
        rois: FloatTensor<Self>,
        options: RoiAlignOptions,
    ) -> FloatTensor<Self> {
        if [features.dtype(), rois.dtype()] == [DType::F32; 2] {
            super::cube::roi_align::forward(features, rois, options)
        } else {
            portable_forward::<Self>(features, rois, options)
        }
    }

    fn roi_align_gradient(
        rois: FloatTensor<Self>,
        output_gradient: FloatTensor<Self>,
        features_shape: [usize; 4],
        options: RoiAlignOptions,
    ) -> FloatTensor<Self> {
        if [rois.dtype(), output_gradient.dtype()] == [DType::F32; 2] {
            super::cube::roi_align::gradient(rois, output_gradient, features_shape, options)
        } else {
            portable_gradient::<Self>(rois, output_gradient, features_shape, options)
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Gradients
// ---------------------------------------------------------------------------------------------

/// The inputs of the backward pass.
#[derive(Clone, Debug)]
struct RoiAlignState<B: Backend> {
    rois: FloatTensor<B>,
    features_shape: [usize; 4],
    options: RoiAlignOptions,
}

#[derive(Debug)]
struct RoiAlign;

impl<B: RoiAlignOps> Backward<B, 1> for RoiAlign {
    type State = RoiAlignState<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let output_gradient = grads.consume::<B>(&ops.node);
        let RoiAlignState {
            rois,
            features_shape,
            options,
        } = ops.state;
        if let [Some(node)] = ops.parents {
            let gradient = B::roi_align_gradient(rois, output_gradient, features_shape, options);
            grads.register::<B>(node.id, gradient);
        }
    }
}

impl<B: RoiAlignOps, C: CheckpointStrategy> RoiAlignOps for Autodiff<B, C> {
    fn roi_align(
        features: FloatTensor<Self>,
        rois: FloatTensor<Self>,
        options: RoiAlignOptions,
    ) -> FloatTensor<Self> {
        let rois = rois.into_primitive();
        let features_shape = features.shape().dims::<4>();
        let (features, node) = features.into_parts();
        let output = B::roi_align(features, rois.clone(), options);
        let state = RoiAlignState {
            rois,
            features_shape,
            options,
        };
        tracked::<B, C, _, _>(RoiAlign, state, output, [node])
    }
}

// ---------------------------------------------------------------------------------------------
// CPU kernels
// ---------------------------------------------------------------------------------------------

/// One sample position along one axis: two neighboring pixels and their weights. A position
/// outside the feature map has weights of zero.
#[derive(Clone, Copy, Default)]
struct Sample {
    low: usize,
    high: usize,
    low_weight: f32,
    high_weight: f32,
}

impl Sample {
    /// Returns both pixels with their weights.
    #[inline(always)]
    fn taps(&self) -> [(usize, f32); 2] {
        [(self.low, self.low_weight), (self.high, self.high_weight)]
    }

    fn at(position: f32, size: usize) -> Self {
        if !(-1.0..=size as f32).contains(&position) {
            return Self::default();
        }
        let position = position.max(0.0);
        let low = position as usize;
        if low + 1 >= size {
            return Self {
                low: size - 1,
                high: size - 1,
                low_weight: 1.0,
                high_weight: 0.0,
            };
        }
        let high_weight = position - low as f32;
        Self {
            low,
            high: low + 1,
            low_weight: 1.0 - high_weight,
            high_weight,
        }
    }
}

/// The samples of one region; those of a bin are contiguous.
struct Region {
    image: usize,
    /// Bins along each side.
    size: usize,
    rows: Vec<Sample>,
    columns: Vec<Sample>,
    rows_per_bin: usize,
    columns_per_bin: usize,
}

impl Region {
    fn new(roi: &[f32], features_shape: [usize; 4], options: RoiAlignOptions) -> Self {
        let [batch, _, height, width] = features_shape;
        let image = roi[0] as usize;
        assert!(
            roi[0] >= 0.0 && image < batch,
            "roi_align: region of image {} in a batch of {batch}",
            roi[0]
        );
        let offset = if options.aligned { 0.5 } else { 0.0 };
        let axis = |low: f32, high: f32, size: usize| {
            let start = low * options.spatial_scale - offset;
            let end = high * options.spatial_scale - offset;
            let mut length = end - start;
            if !options.aligned {
                length = length.max(1.0);
            }
            let bin = length / options.output_size as f32;
            let per_bin = match options.sampling_ratio {
                // A region of no or negative length gets no samples.
                0 => bin.ceil() as usize,
                ratio => ratio,
            };
            let samples = (0..options.output_size)
                .flat_map(|index| (0..per_bin).map(move |sample| (index, sample)))
                .map(|(index, sample)| {
                    let within = (sample as f32 + 0.5) * bin / per_bin as f32;
                    Sample::at(start + index as f32 * bin + within, size)
                })
                .collect();
            (samples, per_bin)
        };
        let (columns, columns_per_bin) = axis(roi[1], roi[3], width);
        let (rows, rows_per_bin) = axis(roi[2], roi[4], height);
        Self {
            image,
            size: options.output_size.max(1),
            rows,
            columns,
            rows_per_bin,
            columns_per_bin,
        }
    }

    fn all(rois: &[f32], features_shape: [usize; 4], options: RoiAlignOptions) -> Vec<Self> {
        rois.par_chunks_exact(5)
            .with_min_len(16)
            .map(|roi| Self::new(roi, features_shape, options))
            .collect()
    }

    fn samples_per_bin(&self) -> f32 {
        (self.rows_per_bin * self.columns_per_bin).max(1) as f32
    }

    /// Returns the samples of a row and a column of bins.
    fn samples(&self, row: usize, column: usize) -> (&[Sample], &[Sample]) {
        (
            &self.rows[row * self.rows_per_bin..][..self.rows_per_bin],
            &self.columns[column * self.columns_per_bin..][..self.columns_per_bin],
        )
    }

    /// Computes the means of all bins in row-major order.
    #[inline(always)]
    fn pool(&self, pixels: &Pixels, width: usize, means: &mut Pixels) {
        let share = 1.0 / self.samples_per_bin();
        for (bin, mean) in means.iter_mut().enumerate() {
            let (rows, columns) = self.samples(bin / self.size, bin % self.size);
            // Four independent sums: an addition in a single chain waits for the previous one.
            let (mut a, mut b, mut c, mut d) =
                ([0.0; LANES], [0.0; LANES], [0.0; LANES], [0.0; LANES]);
            for row in rows {
                let low = &pixels[row.low * width..][..width];
                let high = &pixels[row.high * width..][..width];
                for column in columns {
                    let (near, far) = (column.low_weight, column.high_weight);
                    add_scaled(&mut a, &low[column.low], row.low_weight * near);
                    add_scaled(&mut b, &low[column.high], row.low_weight * far);
                    add_scaled(&mut c, &high[column.low], row.high_weight * near);
                    add_scaled(&mut d, &high[column.high], row.high_weight * far);
                }
            }
            for lane in 0..LANES {
                mean[lane] = ((a[lane] + b[lane]) + (c[lane] + d[lane])) * share;
            }
        }
    }

    /// The transpose of [`pool`](Self::pool): adds the gradients of the means to `sums`.
    #[inline(always)]
    fn spread(&self, gradients: &Pixels, width: usize, sums: &mut Pixels) {
        let share = 1.0 / self.samples_per_bin();
        for (bin, gradient) in gradients.iter().enumerate() {
            let (rows, columns) = self.samples(bin / self.size, bin % self.size);
            for row in rows {
                for (y, of_row) in row.taps() {
                    let of_row = of_row * share;
                    for column in columns {
                        for (x, of_column) in column.taps() {
                            add_scaled(&mut sums[y * width + x], gradient, of_row * of_column);
                        }
                    }
                }
            }
        }
    }
}

/// Channels that a task crops from all regions at a time: one vector of 512 bits, or a whole number
/// of shorter ones.
const LANES: usize = 16;

/// [`LANES`] channels of a feature map, pixel by pixel: a sample of all of them is one vector, where
/// planes would need a gather.
type Pixels = [[f32; LANES]];

/// Computes `sum += values * weight`, which compiles to one vector instruction.
#[inline(always)]
fn add_scaled(sum: &mut [f32; LANES], values: &[f32; LANES], weight: f32) {
    for lane in 0..LANES {
        sum[lane] += values[lane] * weight;
    }
}

/// Copies planes to pixels.
#[inline(always)]
fn interleave(planes: &[f32], pixels: &mut Pixels) {
    for (lane, plane) in planes.chunks_exact(pixels.len().max(1)).enumerate() {
        for (pixel, value) in pixels.iter_mut().zip(plane) {
            pixel[lane] = *value;
        }
    }
}

/// Copies pixels to planes.
#[inline(always)]
fn separate(pixels: &Pixels, planes: &mut [f32]) {
    for (lane, plane) in planes.chunks_exact_mut(pixels.len().max(1)).enumerate() {
        for (value, pixel) in plane.iter_mut().zip(pixels) {
            *value = pixel[lane];
        }
    }
}

fn cpu_forward(features: FlexTensor, rois: FlexTensor, options: RoiAlignOptions) -> FlexTensor {
    let shape: [usize; 4] = dims(&features);
    let (features, rois) = (Contiguous::new(features), Contiguous::new(rois));
    let (features, regions) = (features.data(), Region::all(rois.data(), shape, options));
    let [batch, channels, height, width] = shape;
    let (plane, bins) = (height * width, options.output_size * options.output_size);
    let mut output = Output::new(regions.len() * channels * bins);
    let shared = output.shared();
    let blocks = channels.div_ceil(LANES);
    (0..batch * blocks).into_par_iter().for_each(|task| {
        let (image, first) = (task / blocks, task % blocks * LANES);
        let count = LANES.min(channels - first);
        let of_image = || {
            regions
                .iter()
                .enumerate()
                .filter(|(_, region)| region.image == image)
        };
        if of_image().next().is_none() {
            return;
        }
        with_scratch(
            [plane * LANES, bins * LANES, LANES * bins],
            |[pixels, sums, means]| {
                let (pixels, _) = pixels.as_chunks_mut::<LANES>();
                let (sums, _) = sums.as_chunks_mut::<LANES>();
                let planes = &features[(image * channels + first) * plane..][..count * plane];
                let means = &mut means[..count * bins];
                interleave(planes, pixels);
                for (number, region) in of_image() {
                    vectorized(
                        #[inline(always)]
                        || {
                            region.pool(pixels, width, sums);
                            separate(sums, means);
                        },
                    );
                    // SAFETY: no other task has these channels of this region.
                    unsafe { shared.write((number * channels + first) * bins, means) };
                }
            },
        );
    });
    // SAFETY: every region belongs to an image of the batch (checked by `Region::new`), and the
    // tasks cover every channel of every image.
    unsafe {
        output.into_tensor([
            regions.len(),
            channels,
            options.output_size,
            options.output_size,
        ])
    }
}

fn cpu_gradient(
    rois: FlexTensor,
    output_gradient: FlexTensor,
    features_shape: [usize; 4],
    options: RoiAlignOptions,
) -> FlexTensor {
    let (rois, gradient) = (Contiguous::new(rois), Contiguous::new(output_gradient));
    let dy = gradient.data();
    let regions = Region::all(rois.data(), features_shape, options);
    let [batch, channels, height, width] = features_shape;
    let (plane, bins) = (height * width, options.output_size * options.output_size);
    let mut features_gradient = Output::new(features_shape.iter().product());
    let shared = features_gradient.shared();
    let blocks = channels.div_ceil(LANES);
    // A task owns its planes and visits the regions in order, so sums have a fixed order.
    (0..batch * blocks).into_par_iter().for_each(|task| {
        let (image, first) = (task / blocks, task % blocks * LANES);
        let count = LANES.min(channels - first);
        with_scratch(
            [plane * LANES, bins * LANES, LANES * plane],
            |[sums, gradients, planes]| {
                let (sums, _) = sums.as_chunks_mut::<LANES>();
                let (gradients, _) = gradients.as_chunks_mut::<LANES>();
                let planes = &mut planes[..count * plane];
                sums.fill([0.0; LANES]);
                let of_image = regions.iter().enumerate();
                for (number, region) in of_image.filter(|(_, region)| region.image == image) {
                    let dy = &dy[(number * channels + first) * bins..][..count * bins];
                    interleave(dy, gradients);
                    vectorized(
                        #[inline(always)]
                        || region.spread(gradients, width, sums),
                    );
                }
                separate(sums, planes);
                // SAFETY: no other task has these planes.
                unsafe { shared.write((image * channels + first) * plane, planes) };
            },
        );
    });
    // SAFETY: the tasks cover every plane.
    unsafe { features_gradient.into_tensor(features_shape) }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{assert_same_bits_on_any_thread_count, cases, noise, values};
    use super::*;
    use burn::tensor::{Device, TensorData};

    #[test]
    fn roi_align_and_its_gradient_equal_those_of_torchvision() {
        for case in cases("roi_align") {
            let options = RoiAlignOptions {
                output_size: case.options["output_size"].as_u64().unwrap() as usize,
                spatial_scale: case.options["spatial_scale"].as_f64().unwrap() as f32,
                sampling_ratio: case.options["sampling_ratio"].as_u64().unwrap() as usize,
                aligned: case.options["aligned"].as_bool().unwrap(),
            };
            let features = case.input::<4>("features");
            let y = roi_align(features.clone(), case.constant("rois"), options);
            case.assert_equals("y", y.clone());
            let gradients = (y * case.constant("dy")).sum().backward();
            case.assert_equals("dfeatures", features.grad(&gradients).unwrap());
        }
    }

    const OPTIONS: RoiAlignOptions = RoiAlignOptions {
        output_size: 7,
        spatial_scale: 0.25,
        sampling_ratio: 2,
        aligned: false,
    };

    fn regions(device: &Device) -> Tensor<2> {
        let rois: Vec<f32> = (0..40)
            .flat_map(|i| {
                let i = i as f32;
                [i % 2.0, i, 3.0 + i / 2.0, 40.0 + 2.0 * i, 60.0 + i]
            })
            .collect();
        Tensor::from_data(TensorData::new(rois, [40, 5]), device)
    }

    #[test]
    fn no_region_gives_an_empty_tensor_and_leaves_other_gradients_intact() {
        let device = Device::flex().autodiff();
        let features = noise::<4>(1, [2, 3, 8, 8], &device).require_grad();
        let crops = roi_align(features.clone(), Tensor::empty([0, 5], &device), OPTIONS);
        assert_eq!(crops.dims(), [0, 3, 7, 7]);
        let gradients = features.clone().sum().backward();
        assert!(features.grad(&gradients).is_some());
    }

    #[test]
    fn the_portable_form_equals_the_cpu_kernel() {
        let device = Device::flex();
        let features = noise::<4>(1, [2, 3, 24, 24], &device);
        let rois = regions(&device);
        let direct = values(roi_align(features.clone(), rois.clone(), OPTIONS));
        let flat = |data: TensorData| FlexTensor::from_data(data);
        let (features, rois) = (flat(features.into_data()), flat(rois.into_data()));
        let output = portable_forward::<Flex>(features.clone(), rois.clone(), OPTIONS);
        let shape = dims(&features);
        let gradient = portable_gradient::<Flex>(rois.clone(), output.clone(), shape, OPTIONS);
        let expected = cpu_gradient(rois, output.clone(), shape, OPTIONS);
        let values = |tensor: FlexTensor| tensor.into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(values(output), direct);
        assert_eq!(values(gradient), values(expected));
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        assert_same_bits_on_any_thread_count(|| {
            let device = Device::flex().autodiff();
            let features = noise::<4>(1, [2, 16, 24, 24], &device).require_grad();
            let y = roi_align(features.clone(), regions(&device), OPTIONS);
            let gradients = (y.clone() * noise(4, y.dims(), &device)).sum().backward();
            [values(y), values(features.grad(&gradients).unwrap())].concat()
        });
    }

    #[test]
    #[should_panic(expected = "image 2 in a batch of 2")]
    fn a_region_of_an_image_outside_the_batch_is_refused() {
        let device = Device::flex();
        let features = Tensor::zeros([2, 1, 4, 4], &device);
        let rois = Tensor::from_floats([[2.0, 0.0, 0.0, 4.0, 4.0]], &device);
        roi_align(features, rois, OPTIONS);
    }
}
