//! Annotations: the columnar store of images and boxes, and the formats they are read from.
//!
//! - [`store`]: categories, images and boxes in columns, loaded once and shared.
//! - [`coco`], [`voc`], [`yolo`]: the formats. - [`layout`]: where a dataset's files are.

pub mod coco;
pub mod coco_categories;
pub mod coco_copy;
pub mod image_files;
pub mod json_guard;
pub mod layout;
pub mod lenient;
pub mod store;
pub mod voc;
pub mod voc_to_coco;
pub mod yolo;

pub use layout::Split;
pub use store::*;
pub(crate) use store::{Fingerprint, check_count};
