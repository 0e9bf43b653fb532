//! Readers of annotation files, and where such files lie in a data set's folder.

pub mod cifar;
pub mod coco;
pub mod layout;
pub mod voc;
pub mod voc_to_coco;
