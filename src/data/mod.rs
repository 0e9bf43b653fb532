//! From files to batches. This room knows pixels and boxes, never models.
//!
//! - [`decode`]: the one way a file becomes pixels. - [`annotations`]: the columnar store.
//! - [`formats`]: COCO, VOC. - [`layout`]: where a data set's files lie. - [`dataset`]: a split.
//! - [`transforms`]: augmentations, and the [`preprocess`] that every network input goes through.
//! - [`loader`]: seeded batches from several threads. - [`shapes`]: the scene generator.
//! - [`registry`]: data sets by name. - [`download`], [`blood_cells`]: fetching them.

pub mod annotations;
pub mod blood_cells;
pub mod dataset;
pub mod decode;
pub mod download;
pub mod formats;
pub mod layout;
pub mod loader;
pub mod preprocess;
pub mod registry;
pub mod shapes;
pub mod transforms;
