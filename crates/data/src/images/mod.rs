//! Decoding of images, and the image sources of datasets.
//!
//! Annotations, datasets and loading read images through this module, which depends on none of
//! them.

pub mod decode;
pub(crate) mod exif;
mod jpeg;
pub(crate) mod jpeg_pixels;

pub use jpeg::JpegDamage;

use image::RgbImage;

use crate::DataError;

/// An indexed collection of images: files in a directory, an archive in memory, or a generator.
pub trait ImageSource: Send + Sync {
    /// Returns the pixels of the image at a position.
    ///
    /// # Errors
    /// The image can't be read or generated; the error names it.
    fn load(&self, index: usize) -> Result<RgbImage, DataError>;

    /// Returns the path of an image, or a description of a generated one, for messages.
    fn describe(&self, index: usize) -> String;
}

/// The handling of an image that can't be read or does not match its annotations.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum OnBadImage {
    /// Return an error that names the image.
    #[default]
    Error,
    /// Skip the image (its batch gets smaller); the loaders list the skipped images.
    Skip,
}
