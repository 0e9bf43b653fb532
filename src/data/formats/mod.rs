//! Readers of annotation files, and where such files lie in a data set's folder.

pub mod cifar;
pub mod coco;
pub mod image_folder;
pub mod imagenet;
pub mod layout;
pub mod matlab;
pub mod picture_files;
pub mod places365;
pub mod voc;
pub mod voc_to_coco;
