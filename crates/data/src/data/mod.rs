//! Files and boxes: everything between a directory on disk and a batch of numbers. Knows no model.
//!
//! A reader's walk, in the order in which data flows:
//!
//! - [`registry`]: datasets by name. - [`sources`], [`blood_cells`]: fetching them, by [`download`]
//!   and [`unpack`].
//! - [`shapes`]: the generator of scenes.
//! - [`decode`]: the one way a file becomes pixels.
//! - [`annotations`]: categories, images and boxes in columns, loaded once and shared.
//! - [`formats`]: readers that fill the columns, and where a dataset's files lie.
//! - [`check`]: what is wrong with a dataset, and a clean copy of its annotations.
//! - [`convert`]: COCO, Pascal VOC and YOLO, each into each.
//! - [`dataset`]: annotations together with the place the pixels come from.
//! - [`statistics`]: what a dataset is made of. - [`split`]: dividing it by chance and class.
//! - [`labeled`]: the same for classifiers: one class for each image.
//! - [`imagenet_classes`]: the names of ImageNet's 1000 classes.
//! - [`transforms`]: augmentation, then resizing and normalizing for the network.
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
pub mod labeled;
pub mod loader;
pub mod registry;
pub mod shapes;
pub mod sources;
pub mod split;
pub mod statistics;
pub mod transforms;
pub mod unpack;

pub use error::DataError;
