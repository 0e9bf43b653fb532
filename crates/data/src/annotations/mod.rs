//! Annotations: the columnar store of images and boxes, and the formats they are read from.
//!
//! - [`store`]: categories, images and boxes in columns, loaded once and shared.
//! - [`format`](mod@format): what an annotation format provides, and the table of formats.
//! - [`coco_directory`], [`voc_directory`], [`yolo`]: one file for each format.
//! - [`coco`]: COCO JSON. - [`layout`]: the files of a split.

pub mod coco;
pub mod coco_categories;
pub mod coco_directory;
pub mod format;
pub(crate) mod image_files;
pub(crate) mod json_guard;
pub mod layout;
pub mod store;
mod text_file;
pub mod voc;
pub mod voc_directory;
pub(crate) mod voc_to_coco;
pub mod yolo;
mod yolo_yaml;

pub use layout::Split;
pub use store::*;
pub(crate) use store::{Fingerprint, check_count};
