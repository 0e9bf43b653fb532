//! Datasets, annotations, loading and metrics: everything that knows no tensor.

pub mod atomic;
pub mod boxes;
pub mod data;
pub mod eval;
pub mod pickle;
