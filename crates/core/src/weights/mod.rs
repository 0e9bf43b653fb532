//! Weights by name: a module as named tensors, and those in a file.
//!
//! - [`parameters`]: module to tensors and back;
//! - [`checkpoint`]: sedet's own file format;
//! - [`foreign`]: the files of other programs; [`layouts`]: what they hold; [`import`]: taking it over;
//! - [`load`]: either of the two; [`export`]: files for other libraries; [`onnx`]: whole networks for
//!   other runtimes.

pub mod checkpoint;
pub mod export;
pub mod foreign;
pub mod import;
pub mod layouts;
pub mod load;
pub mod onnx;
pub mod parameters;
