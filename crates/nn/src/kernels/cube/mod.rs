//! Kernels of GPUs, in cubecl: one source for Vulkan, Metal, DirectX and CUDA.
//!
//! Each thread owns the elements that it writes, and every sum has a fixed order, as in the CPU kernels.

pub(super) mod elementwise;
pub(super) mod roi_align;

use burn::backend::TensorMetadata;
use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Returns whether the kernels can take these tensors. Others take the portable form.
pub(super) fn all_f32<'a>(tensors: impl IntoIterator<Item = &'a CubeTensor>) -> bool {
    let mut tensors = tensors.into_iter();
    tensors.all(|tensor| tensor.dtype() == DType::F32)
}

/// Returns the threads of a launch with one for each of `elements`.
fn threads_for(tensor: &CubeTensor, elements: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new(&tensor.client, elements);
    let count = cubecl::calculate_cube_count_elemwise(&tensor.client, elements, dim);
    (count, dim)
}
