//! Readers of annotation files, and where such files lie in a data set's folder.

pub mod cifar;
pub mod coco;
pub(crate) mod coco_copy;
pub mod image_folder;
pub mod imagenet;
pub mod json_guard;
pub mod layout;
pub(crate) mod lenient;
pub mod matlab;
pub mod picture_files;
pub mod places365;
pub mod voc;
pub mod voc_to_coco;
pub mod yolo;
