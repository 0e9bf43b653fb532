//! File formats of annotations, each turned into the one [`AnnotationStore`](super::annotations::AnnotationStore).

pub mod coco;
