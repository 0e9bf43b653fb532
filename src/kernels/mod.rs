//! Our own differentiable operations.
//!
//! Each exists twice: a CPU kernel over plain slices, hooked into burn's autodiff as a backend
//! extension, and a portable form made of tensor operations for every other backend. The public
//! functions choose by the tensor's device. Why own kernels: burn's CPU convolution was measured
//! at 2 to 3 times PyTorch's time per training step, ours at about its equal; burn has no RoIAlign.
//!
//! All CPU kernels split their work into pieces that do not depend on the number of threads and
//! add up in a fixed order, so a result is the same bit for bit on one core and on many.

pub mod affine;
pub mod batch_norm;
pub mod conv2d;
pub mod roi_align;

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::flex::{Flex, FlexTensor, Layout};
use burn::backend::tensor::FloatTensor;
use burn::backend::{AutodiffBackend, Backend, TensorMetadata, backend_extension};
use burn::tensor::{Bytes, DType, Device, Shape, Tensor};

use conv2d::Conv2dOptions;
use roi_align::RoiAlignOptions;

/// The CPU kernels as operations that burn's autodiff can record.
#[backend_extension(Autodiff, Flex)]
pub trait CpuOps: Backend {
    /// See [`conv2d::conv2d`]; `bias` is `[channels_out]`.
    fn cpu_conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: Conv2dOptions,
    ) -> FloatTensor<Self>;

    /// Mean and biased variance of every channel, `[2, channels]`; not differentiable.
    fn cpu_moments(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Training-mode batch norm with these moments; its gradient includes theirs.
    fn cpu_batch_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self>;

    /// See [`affine::affine`].
    fn cpu_affine(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self>;

    /// See [`affine::affine`], with a residual.
    fn cpu_affine_residual(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self>;

    /// See [`roi_align::roi_align`].
    fn cpu_roi_align(
        features: FloatTensor<Self>,
        rois: FloatTensor<Self>,
        options: RoiAlignOptions,
    ) -> FloatTensor<Self>;
}

impl CpuOps for Flex {
    fn cpu_conv2d(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        options: Conv2dOptions,
    ) -> FlexTensor {
        conv2d::forward(&x, &weight, Some(&bias), options)
    }

    fn cpu_moments(x: FlexTensor) -> FlexTensor {
        batch_norm::moments(&x)
    }

    fn cpu_batch_norm(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        moments: FlexTensor,
        epsilon: f64,
    ) -> FlexTensor {
        batch_norm::forward(&x, &weight, &bias, &moments, epsilon)
    }

    fn cpu_affine(x: FlexTensor, scale: FlexTensor, shift: FlexTensor, relu: bool) -> FlexTensor {
        affine::forward(&x, &scale, &shift, None, relu)
    }

    fn cpu_affine_residual(
        x: FlexTensor,
        scale: FlexTensor,
        shift: FlexTensor,
        residual: FlexTensor,
        relu: bool,
    ) -> FlexTensor {
        affine::forward(&x, &scale, &shift, Some(&residual), relu)
    }

    fn cpu_roi_align(
        features: FlexTensor,
        rois: FlexTensor,
        options: RoiAlignOptions,
    ) -> FlexTensor {
        roi_align::forward(&features, &rois, options)
    }
}

impl<C: CheckpointStrategy> CpuOps for Autodiff<Flex, C> {
    fn cpu_conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: Conv2dOptions,
    ) -> FloatTensor<Self> {
        conv2d::record::<C>(x, weight, bias, options)
    }

    fn cpu_moments(x: FloatTensor<Self>) -> FloatTensor<Self> {
        // Constants by design: cpu_batch_norm's gradient accounts for them.
        <Self as AutodiffBackend>::from_inner(batch_norm::moments(x.primitive()))
    }

    fn cpu_batch_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        batch_norm::record::<C>(x, weight, bias, moments, epsilon)
    }

    fn cpu_affine(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self> {
        affine::record::<C>(x, scale, shift, relu)
    }

    fn cpu_affine_residual(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self> {
        affine::record_residual::<C>(x, scale, shift, residual, relu)
    }

    fn cpu_roi_align(
        features: FloatTensor<Self>,
        rois: FloatTensor<Self>,
        options: RoiAlignOptions,
    ) -> FloatTensor<Self> {
        roi_align::record::<C>(features, rois, options)
    }
}

/// Whether tensors of this device are served by the CPU kernels.
fn is_cpu(device: &Device) -> bool {
    // Compared without the autodiff wrapper, which equality ignores.
    *device == Device::flex()
}

/// The dimensions of a tensor whose rank the caller knows.
fn dims<const D: usize>(tensor: &FlexTensor) -> [usize; D] {
    tensor.shape().dims()
}

/// A contiguous `f32` tensor from its values.
fn tensor_of<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::new(
        Bytes::from_elems(values),
        Layout::contiguous(Shape::from(shape)),
        DType::F32,
    )
}

/// A vector of this length whose values the caller overwrites.
///
/// Zeroed by the allocator: large blocks come as untouched pages, so it costs no pass over memory.
fn buffer(length: usize) -> Vec<f32> {
    vec![0.0; length]
}

/// A mutable buffer that several threads fill in disjoint places.
///
/// Needed where the pieces of an output interleave (columns of a row-major matrix), which a safe
/// split into slices cannot express.
struct SharedBuffer(*mut f32);

// SAFETY: the users below write disjoint elements and the buffer outlives their parallel loop.
unsafe impl Sync for SharedBuffer {}
unsafe impl Send for SharedBuffer {}

impl SharedBuffer {
    fn new(values: &mut [f32]) -> Self {
        Self(values.as_mut_ptr())
    }

    fn at(&self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }
}

/// `[channels]` as `[1, channels, 1, 1]`.
fn per_channel(values: Tensor<1>) -> Tensor<4> {
    let [channels] = values.dims();
    values.reshape([1, channels, 1, 1])
}
