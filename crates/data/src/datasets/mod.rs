//! Datasets by name or directory, and their downloads.
//!
//! - [`registry`]: the table from a name or path to a dataset.
//! - [`detection`]: images with boxes. - [`labeled`]: images with one class each.
//! - `repeated_images`: copies of images.
//! - [`image_folder`], [`cifar`], [`imagenet`], [`places365`]: layouts of classification datasets. - `nested_classes`:
//!   directories inside classes. - `around_classes`: lists around them. - `class_tables`: tables that contradict them. -
//!   `listed_classes`: splits whose classes are in a list.
//! - [`sources`], [`download`], [`unpack`], [`blood_cells`]: fetching public datasets.

pub(crate) mod around_classes;
pub mod blood_cells;
pub mod cifar;
pub(crate) mod class_tables;
pub mod detection;
pub mod download;
pub mod image_folder;
pub mod imagenet;
pub mod imagenet_classes;
pub mod labeled;
pub(crate) mod listed_classes;
pub(crate) mod nested_classes;
pub mod places365;
pub mod registry;
pub(crate) mod repeated_images;
pub mod sources;
pub(crate) mod stray_labels;
pub mod unpack;
