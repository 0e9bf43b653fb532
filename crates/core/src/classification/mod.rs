//! Image classification.

pub mod classifier;
pub mod losses;
