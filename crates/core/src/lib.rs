//! Models, weights, training, excitation analysis and rendering.

pub mod backbones;
pub mod classification;
pub mod config;
pub mod console;
pub mod detection;
pub mod device;
pub mod excitation;
pub mod memory;
pub mod model;
pub mod render;
mod spec;
pub mod train;
pub mod weights;
