//! Datasets, annotations, loading and metrics: everything that knows no tensor.
//!
//! - [`annotations`]: the columnar store and the readers of annotation formats.
//! - [`datasets`]: datasets by name or directory, downloads.
//! - [`loading`]: decoding, transforms, batches, prefetch.
//! - [`curation`]: check, fix, convert, split, statistics.
//! - [`csv`]: comma-separated values.
//! - [`shapes`]: the embedded generator of scenes.
//! - [`eval`]: COCO and classification metrics.
//! - [`boxes`]: the one box type. - [`atomic`]: files that appear complete or not at all.
//! - [`pickle`]: Python's pickles, parsed and never executed.
//! - [`text`]: wording that messages share.

pub mod annotations;
pub mod atomic;
pub mod boxes;
pub mod csv;
pub mod curation;
pub mod datasets;
mod error;
pub mod eval;
pub mod images;
pub mod loading;
pub mod pickle;
mod rng;
pub mod shapes;
pub mod text;

pub use error::DataError;
