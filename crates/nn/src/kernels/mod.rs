//! Differentiable operations with hand-written gradients.
//!
//! burn composes some operations out of several passes over memory, and its CPU convolution has no
//! gradient kernels. The operations here are single passes:
//!
//! - [`conv2d`](conv2d::conv2d): two-dimensional convolution with an epilogue of bias, SE gates,
//!   residual sum and ReLU;
//! - [`batch_norm_train`](batch_norm::batch_norm_train): batch norm on the statistics of the batch;
//! - [`affine`](affine::affine): frozen batch norm, residual sum and ReLU, with
//!   [`relu`](affine::relu) and [`add_relu`](affine::add_relu);
//! - [`excite_add_relu`](excite::excite_add_relu): SE gates, residual sum and ReLU;
//! - [`linear`](linear::linear): fully connected layers;
//! - [`max_pool2d`](max_pool::max_pool2d): max pooling;
//! - [`roi_align`](roi_align::roi_align): crops of a feature map.
//!
//! Each operation has a kernel for the CPU backend (flex, 32-bit floats) and a portable form for
//! every other backend, composed of burn's tensor operations (RoIAlign: computed in host memory). RoIAlign, affine maps and
//! SE gates also have kernels for GPUs, in `cube`.
//! CPU kernels return the same bits for any number of threads: each task owns the elements it
//! writes, and every sum has a fixed order.
//!
//! # Structure of an operation
//!
//! An operation is a file (the convolution: a directory) with five parts, in this order:
//!
//! 1. the public function, which checks shapes and calls the operation on burn's `Dispatch`;
//! 2. a trait `...Ops` with the forward operation and its gradients, whose default bodies are the
//!    portable form. `#[backend_extension]` implements it for `Dispatch`;
//! 3. `impl ...Ops for Flex`, which calls the CPU kernels, and one for `Cube`, the GPU backends: empty, or it calls the
//!    kernels in `cube`;
//! 4. `impl ...Ops for Autodiff`, which runs the forward operation on the inner backend and
//!    records the gradient, and the `Backward` step that the recording refers to;
//! 5. the CPU kernels and the tests.
//!
//! A new operation is such a file and its `mod` line below; [`excite`] is the shortest example.
//! The gradients are methods of the same trait because a backward step runs on the backend inside
//! `Autodiff`, whichever that is. Nothing calls them on `Dispatch` or `Autodiff`.

pub mod affine;
mod autodiff;
pub mod batch_norm;
pub mod bf16;
pub mod conv2d;
mod cpu;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
pub mod excite;
#[cfg(test)]
mod fixture;
pub mod linear;
pub mod max_pool;
mod optional;
mod panels;
pub mod roi_align;
mod saved;
pub mod vectorized;
