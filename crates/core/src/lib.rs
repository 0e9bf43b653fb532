//! Models, weights, training, excitation analysis and rendering.

pub mod backbones;
pub mod bench;
pub mod classification;
pub mod config;
pub mod detection;
pub mod device;
pub mod device_check;
pub mod distributed;
pub mod excitation;
pub mod explanation;
pub mod memory;
pub mod model;
pub mod read_back;
pub mod render;
pub mod report;
mod spec;
pub mod train;
pub mod weights;
