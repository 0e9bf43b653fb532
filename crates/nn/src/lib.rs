//! Differentiable operations with hand-written CPU kernels, and the layers shared by all networks.
//!
//! - [`kernels`]: convolution, batch norm, pooling, RoIAlign and their gradients
//! - [`nn`]: SE unit, batch norm, convolution with batch norm, initialization
//!
//! This crate depends on no other crate of sedet.

pub mod kernels;
pub mod nn;
