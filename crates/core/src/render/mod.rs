//! Images for people: boxes on images, curves as PNG or SVG.
//!
//! - [`palette`]: one stable color per class, and the colors of values.
//! - [`boxes`]: detections and annotations on an image, as pixels or as SVG.
//! - [`maps`]: maps of channels over an image.
//! - [`plots`]: curves of precision and recall and of training; confusion and reliability of a
//!   classifier; gates of SE units.
//! - [`save`]: an image into a file, by its extension.

pub mod boxes;
mod canvas;
pub mod maps;
pub mod palette;
pub mod plots;
pub mod save;
mod svg;

pub use boxes::{DrawnBox, boxes_svg, draw_boxes, save_boxes};
pub use plots::{
    MOST_PANELS, Series, TrainingCurves, save_class_activations, save_class_deviations,
    save_confusion, save_gates, save_mean_gates, save_precision_recall, save_reliability,
    save_training_curves,
};
pub use save::{RenderError, save_image};
