//! Datasets, annotations, loading and metrics: everything that needs no tensor.
//!
//! Dependencies run in one direction; a module uses only modules above it:
//!
//! 1. [`boxes`], [`atomic`], [`directory`], [`csv`], [`text`], [`text_file`], [`pickle`]: a box type, atomic file writes,
//!    new directories, CSV, the wording of messages, the encodings of text files, and Python pickles, which are parsed
//!    and never executed.
//!    [`box_conventions`]: what the four numbers of a box can mean.
//! 2. [`images`]: the decoder, and the sources of images.
//! 3. [`annotations`]: the columnar store and the readers of annotation formats. [`classes`]: classes by name.
//! 4. [`shapes`]: the embedded generator of scenes. [`eval`]: COCO and classification metrics.
//! 5. [`datasets`]: datasets by name or directory, downloads.
//! 6. [`loading`]: transforms, batches, prefetch.
//! 7. [`curation`]: check, fix, convert, split, statistics.
//!
//! [`DataError`] joins the errors of all modules, and every module that reads files returns it.

pub mod annotations;
pub mod atomic;
pub mod box_conventions;
pub mod boxes;
pub mod classes;
pub mod csv;
pub mod curation;
pub mod datasets;
pub mod directory;
mod error;
pub mod eval;
pub mod images;
pub mod loading;
pub mod pickle;
mod rng;
pub mod shapes;
pub mod system_errors;
pub mod text;
pub mod text_file;

pub use error::{ChangedMeanwhile, DataError, Remedy, SizeCause};
