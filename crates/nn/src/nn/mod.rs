//! Layers shared by all networks.
//!
//! - [`conv`]: 2-D convolution and linear layers, computed by [`kernels`](crate::kernels)
//! - [`norm`]: batch norm, trained or frozen
//! - [`conv_norm`]: a convolution followed by batch norm
//! - [`pool`]: pooling by configuration
//! - [`branches`]: parallel chains of convolutions (Inception)
//! - [`se`]: the squeeze-and-excitation unit
//! - [`recording`]: recording of gates and feature maps of SE units
//! - [`init`]: weight initialization

pub mod branches;
pub mod conv;
pub mod conv_norm;
pub mod init;
pub mod norm;
pub mod pool;
pub mod recording;
pub mod se;
