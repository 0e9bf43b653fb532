//! Weights: named tensors of a module, and weight files.
//!
//! - [`parameters`]: module to tensors and back;
//! - [`checkpoint`]: sedet's own file format; [`progress`]: the state of a run in it;
//! - [`third_party`]: third-party file formats; [`layouts`]: third-party tensor names; [`import`]:
//!   their import;
//! - [`load`]: loading of checkpoints and third-party files; [`export`]: files for other libraries;
//!   [`onnx`]: ONNX models; [`grafted`]: SE units that start as identity, for export; [`groups`]: groups of tensors
//!   in messages;
//! - [`named`]: published weights by name, and their downloads.

pub mod checkpoint;
mod exact;
pub mod export;
pub mod grafted;
pub mod groups;
pub mod import;
pub mod layouts;
pub mod load;
pub mod named;
pub mod onnx;
pub mod parameters;
pub mod progress;
pub(crate) mod random;
pub mod third_party;
