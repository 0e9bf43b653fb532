//! Annotations: the columnar store of images and boxes, and the formats they are read from.
//!
//! - [`store`]: categories, images and boxes in columns, loaded once and shared.
//! - [`layout`]: splits, and the reasons why no dataset was found.
//! - [`format`](mod@format): what an annotation format provides. - `locations`: the files of a split. - `named_splits`: splits by the
//!   names of images.
//! - [`coco_directory`], [`voc_directory`], [`yolo`], [`csv_table`]: one file for each format. - `voc_lists`, `voc_tables`: lists
//!   and tables of VOC's splits. - `voc_divisions`: those that contradict each other. - `voc_others`: XML files in further
//!   directories.
//! - [`formats`]: the table of formats, and recognition. - `reading`: strict reading in any format.
//! - [`coco`]: COCO JSON. - [`voc`]: Pascal VOC's XML.
//! - [`box_convention`]: corners and fractions in the place of sizes. - `boxes_on_images`: sizes and rotation of the images
//!   themselves, where boxes cast doubt on them. - `copies`: two annotations of one image.
//! - `same_content`: files with the same bytes. - `file_names`: how a name in an annotation becomes a file.
//! - `unread`: formats that are known and not read. - `split_lists`: lists of splits that are not read. - `numberings`: tables that
//!   number images. - `masks`: masks
//!   among images. - `class_numbers`: the names of classes that are numbers. - `stray_boxes`: boxes in no format. - `same_names`: further images with the names of those
//!   that are used. - `captions`: captions, which are no boxes. - [`joining`]: datasets as one, and parts of one.
//! - `usable`: held-out images that can be used.
//!
//! These modules import in the order `layout`, [`store`], [`format`](mod@format), `locations`, the formats, `reading` and
//! [`formats`]: a format knows neither the table nor the other formats.

pub mod box_convention;
pub(crate) mod boxes_on_images;
pub(crate) mod captions;
pub mod category_shift;
pub(crate) mod class_numbers;
pub mod coco;
pub mod coco_categories;
pub mod coco_directory;
pub(crate) mod copies;
pub mod csv_table;
pub(crate) mod file_names;
pub mod format;
pub mod formats;
pub(crate) mod image_files;
pub mod joining;
pub(crate) mod json_guard;
pub mod layout;
pub(crate) mod locations;
pub(crate) mod masks;
pub(crate) mod named_splits;
pub(crate) mod numberings;
pub mod reading;
pub(crate) mod same_content;
mod same_names;
pub(crate) mod split_lists;
pub mod store;
pub(crate) mod stratified;
pub(crate) mod stray_boxes;
pub(crate) mod unread;
pub(crate) mod usable;
pub mod voc;
pub mod voc_directory;
pub(crate) mod voc_divisions;
pub(crate) mod voc_lists;
mod voc_others;
pub(crate) mod voc_tables;
pub mod yolo;

pub use layout::Split;
pub use store::*;
pub(crate) use store::{Fingerprint, check_count};
