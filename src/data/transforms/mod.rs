//! From decoded pixels to network input, pixels and boxes always together.
//!
//! Augmentation comes first and works on 8-bit pixels in image coordinates ([`augment`], with
//! [`geometry`] and [`color`]); then [`preprocess`] resizes ([`resize`]) and normalises, the same
//! for training, evaluation and prediction.

pub mod augment;
pub mod color;
pub mod geometry;
pub mod preprocess;
pub mod resize;

pub use augment::{Augmentation, Sample};
pub use preprocess::{PreparedImage, Preprocess, prepare};
pub use resize::ResizeMethod;
