//! Images as pixels: the one decoder, and the sources that datasets take their images from.
//!
//! Everything above (annotations, datasets, loading) reads images through this module, so it
//! depends on none of them.

pub mod decode;

use image::RgbImage;

use crate::DataError;

/// A numbered collection of images: files in a directory, an archive in memory, or a generator.
pub trait ImageSource: Send + Sync {
    /// Returns the pixels of the image at a position.
    ///
    /// # Errors
    /// The image can't be read or generated; the error names it.
    fn load(&self, index: usize) -> Result<RgbImage, DataError>;

    /// Returns the path of an image, or how it is generated, for messages.
    fn describe(&self, index: usize) -> String;
}
