//! Images and figures: boxes on images, feature maps, plots as PNG, JPEG or SVG.
//!
//! - [`palette`]: class colors and the color scale of values.
//! - [`boxes`]: detections and annotations on an image, as pixels or as SVG.
//! - [`drawing`]: rectangles, lines and text over an image as SVG.
//! - [`feature_maps`]: feature maps of single channels over an image.
//! - [`explanation`]: class activation maps with a color bar, and channels in a box.
//! - [`plots`]: precision-recall and training curves, confusion matrices, reliability diagrams, gates of SE
//!   blocks.
//! - [`save`]: saving of images in the format of the file extension.

pub mod boxes;
mod canvas;
pub mod drawing;
pub mod explanation;
pub mod feature_maps;
pub mod palette;
pub mod plots;
pub mod save;
mod svg;

pub use boxes::{DrawnBox, label_text, save_boxes};
pub use drawing::{DrawnShape, save_drawing};
pub use plots::{
    FigureFile, MAX_PANELS, Series, TrainingChart, TrainingCurves, save_confusion,
    save_excitation_figures, save_gates, save_precision_recall, save_reliability,
    save_training_curves,
};
pub use save::{RenderError, save_image};
