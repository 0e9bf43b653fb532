//! Layers that all networks share.
//!
//! - [`conv`]: 2-D convolution over our own kernel. - [`norm`]: batch norm, live or frozen.
//! - [`se`]: the squeeze-and-excitation unit. - [`init`]: the initialisations that the recipes name.

pub mod conv;
pub mod init;
pub mod norm;
pub mod se;
