//! Layers that all networks share.
//!
//! - [`conv`]: 2-D convolution over our own kernel. - [`norm`]: batch norm, live or frozen.
//! - [`conv_norm`]: the two together. - [`pool`]: pooling by configuration.
//! - [`branches`]: chains of convolutions side by side, as Inception has them.
//! - [`se`]: the squeeze-and-excitation unit. - [`recording`]: watching the units at work.
//! - [`init`]: the initializations that the recipes name.

pub mod branches;
pub mod conv;
pub mod conv_norm;
pub mod init;
pub mod norm;
pub mod pool;
pub mod recording;
pub mod se;
