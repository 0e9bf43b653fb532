//! Drawing of images with boxes and labels, below the panels.
//!
//! - [`outlines`]: outlines and labels of many boxes, batched.
//! - [`layer`]: an image composed with them on the CPU, for software rendering.
//! - `offscreen`: drawing without a window, for exports.

pub mod layer;
pub(crate) mod offscreen;
pub mod outlines;
