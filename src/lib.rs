//! sedet: Squeeze-and-Excitation backbones inside a Faster R-CNN, trained and measured on COCO.

pub use sedet_core::{
    backbones, classification, config, detection, device, excitation, memory, model, render, train,
    weights,
};
pub use sedet_data::{
    DataError, annotations, atomic, boxes, curation, datasets, eval, images, loading, pickle,
    shapes,
};
pub use sedet_nn::{kernels, nn};
#[cfg(feature = "viewer")]
pub use sedet_viewer as viewer;
