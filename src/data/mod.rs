//! Files and boxes: everything between a folder on disk and a batch of numbers. Knows no model.
//!
//! A reader's walk, in the order in which data flows:
//!
//! - [`registry`]: data sets by name. - [`sources`], [`blood_cells`]: fetching them, by [`download`]
//!   and [`unpack`].
//! - [`shapes`]: the generator of scenes.
//! - [`decode`]: the one way a file becomes pixels.
//! - [`annotations`]: categories, images and boxes in columns, loaded once and shared.
//! - [`formats`]: readers that fill the columns, and where a data set's files lie.
//! - [`check`]: what is wrong with a data set, and a clean copy of its annotations.
//! - [`convert`]: COCO, Pascal VOC and YOLO, each into each.
//! - [`dataset`]: annotations together with the place the pixels come from.
//! - [`statistics`]: what a data set is made of. - [`split`]: dividing it by chance and class.
//! - [`labelled`]: the same for classifiers: one class for each picture.
//! - [`imagenet_classes`]: the names of ImageNet's 1000 classes.
//! - [`transforms`]: augmentation, then resizing and normalising for the network.
//! - [`batch`]: prepared images padded into one tensor-shaped buffer.
//! - [`loader`]: shuffled, grouped, threaded and reproducible batches.

pub mod annotations;
pub mod batch;
pub mod blood_cells;
pub mod check;
pub mod coco_categories;
pub mod convert;
pub mod dataset;
pub mod decode;
pub mod download;
mod error;
pub mod formats;
pub mod imagenet_classes;
pub mod labelled;
pub mod loader;
pub mod registry;
pub mod shapes;
pub mod sources;
pub mod split;
pub mod statistics;
pub mod transforms;
pub mod unpack;

pub use error::DataError;
