//! Transforms from decoded pixels to network input, of pixels and boxes together.
//!
//! Augmentation comes first and works on 8-bit pixels in image coordinates ([`augment`], with
//! [`geometry`] and [`color`]); then [`preprocess`] resizes ([`resize`]) and normalizes, the same
//! for training, evaluation and prediction. Classifiers have separate augmentations in
//! [`classify`]: a label does not depend on the geometry, and all inputs of a batch have the same
//! size.

pub mod augment;
pub mod classify;
pub mod color;
pub mod geometry;
pub mod preprocess;
pub mod resize;

pub use augment::Augmentation;
pub use classify::{LabeledAugmentation, SoftLabel};
pub use geometry::Sample;
pub(crate) use preprocess::prepare_ten_crops;
pub use preprocess::{PreparedImage, Preprocess, normalize, prepare};
pub use resize::ResizeMethod;
