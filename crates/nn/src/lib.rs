//! Differentiable operations with hand-written CPU kernels, and the layers that all networks share.
//!
//! - [`kernels`]: convolution, batch norm, pooling, RoIAlign and their gradients.
//! - [`nn`]: the SE unit, norms, convolution with norm, initialization.
//!
//! Imports nothing else of sedet.

pub mod kernels;
pub mod nn;
