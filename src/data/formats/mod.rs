//! Readers of annotation formats: COCO JSON into the [store](super::annotations), VOC as it is.

pub mod coco;
pub mod voc;
