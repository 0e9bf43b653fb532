//! A split of a data set: annotations, and where the pixels come from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::RgbImage;

use super::annotations::AnnotationStore;
use super::decode::{DecodeError, decode_image};
use crate::boxes::ImageSize;

/// What can be wrong with one image of a data set.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// The file is no picture.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The picture is not the one that was annotated.
    #[error(
        "{file}: the picture is {actual} but its annotations say {annotated}; was it resized, or \
         annotated without its EXIF orientation?"
    )]
    SizeMismatch {
        /// The file.
        file: String,
        /// What was decoded.
        actual: ImageSize,
        /// What the JSON says.
        annotated: ImageSize,
    },
}

/// Where pixels come from: files, or a generator.
pub trait ImageSource: Send + Sync {
    /// The picture of this index.
    ///
    /// # Errors
    /// A file that is missing or damaged, by name.
    fn load(&self, index: usize) -> Result<RgbImage, SampleError>;
}

/// Files in a folder, named as in the annotations.
#[derive(Debug)]
pub struct FolderSource {
    /// The folder.
    pub directory: PathBuf,
    /// The names.
    pub store: Arc<AnnotationStore>,
}

impl ImageSource for FolderSource {
    fn load(&self, index: usize) -> Result<RgbImage, SampleError> {
        Ok(decode_image(
            &self.directory.join(self.store.file_name(index)),
        )?)
    }
}

/// One split: annotations and pixels.
#[derive(Clone)]
pub struct DetectionDataset {
    /// A name for messages: `train`, `val`.
    pub split: String,
    /// The annotations.
    pub store: Arc<AnnotationStore>,
    /// The pixels.
    pub source: Arc<dyn ImageSource>,
}

impl std::fmt::Debug for DetectionDataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "DetectionDataset({}, {} images)",
            self.split,
            self.store.len()
        )
    }
}

impl DetectionDataset {
    /// Annotated files of a folder.
    pub fn from_folder(split: &str, store: AnnotationStore, directory: &Path) -> Self {
        let store = Arc::new(store);
        Self {
            split: split.to_string(),
            source: Arc::new(FolderSource {
                directory: directory.to_path_buf(),
                store: store.clone(),
            }),
            store,
        }
    }

    /// The picture of this index, checked against its annotations.
    ///
    /// # Errors
    /// As the source's, and a size that differs.
    pub fn load(&self, index: usize) -> Result<RgbImage, SampleError> {
        let image = self.source.load(index)?;
        let actual = ImageSize::new(image.height() as usize, image.width() as usize);
        let annotated = self.store.image_size(index);
        if actual != annotated {
            return Err(SampleError::SizeMismatch {
                file: self.store.file_name(index).to_string(),
                actual,
                annotated,
            });
        }
        Ok(image)
    }
}
