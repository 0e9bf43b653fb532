//! Weights by name: a module as named tensors, and those in a file.
//!
//! - [`parameters`]: module to tensors and back. - [`checkpoint`]: the file format.

pub mod checkpoint;
pub mod parameters;
