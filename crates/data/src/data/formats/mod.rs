//! Readers of annotation files, and where such files lie in a dataset's directory.

pub mod cifar;
pub mod coco;
pub mod coco_copy;
pub mod image_files;
pub mod image_folder;
pub mod imagenet;
pub mod json_guard;
pub mod layout;
pub mod lenient;
pub mod matlab;
pub mod places365;
pub mod voc;
pub mod voc_to_coco;
pub mod yolo;
