//! The open images and their annotations.

use std::path::PathBuf;
use std::sync::Arc;

use image::RgbImage;

use super::classes::ClassTable;
use sedet_data::annotations::AnnotationStore;
use sedet_data::annotations::format::SplitFiles;
use sedet_data::annotations::layout::Split;
use sedet_data::datasets::detection::DetectionDataset;
use sedet_data::datasets::labeled::LabeledDataset;
use sedet_data::eval::matching::TruthBox;
use sedet_data::loading::decode::decode_image;

/// The source of the images.
#[derive(Debug, Clone)]
pub enum ShownImages {
    /// A detection dataset.
    Boxes(Arc<DetectionDataset>),
    /// A classification dataset.
    Labeled(Arc<LabeledDataset>),
    /// Image files without annotations.
    Files(Vec<PathBuf>),
}

/// The open images.
#[derive(Debug, Clone)]
pub struct Collection {
    /// The name of the dataset, directory or file.
    pub name: String,
    /// The split of the dataset.
    pub split: Option<Split>,
    /// The images.
    pub images: ShownImages,
    /// The annotation file, if its labels can be corrected; otherwise why not.
    pub annotation_file: Result<SplitFiles, String>,
}

impl Collection {
    /// Returns name and split, such as `shapes val`.
    pub fn title(&self) -> String {
        match self.split {
            Some(split) => format!("{} {split}", self.name),
            None => self.name.clone(),
        }
    }

    /// Returns the number of images.
    pub fn len(&self) -> usize {
        match &self.images {
            ShownImages::Boxes(dataset) => dataset.len(),
            ShownImages::Labeled(dataset) => dataset.len(),
            ShownImages::Files(files) => files.len(),
        }
    }

    /// Returns whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the file name of an image, for lists.
    pub fn image_title(&self, index: usize) -> String {
        match &self.images {
            ShownImages::Boxes(dataset) => dataset.store().image(index).file_name.to_owned(),
            ShownImages::Labeled(dataset) => file_name(&dataset.describe(index)),
            ShownImages::Files(files) => file_name(&files[index].display().to_string()),
        }
    }

    /// Returns the path or another full description of an image.
    pub fn describe(&self, index: usize) -> String {
        match &self.images {
            ShownImages::Boxes(dataset) => dataset.describe(index),
            ShownImages::Labeled(dataset) => dataset.describe(index),
            ShownImages::Files(files) => files[index].display().to_string(),
        }
    }

    /// Decodes an image. Call it on worker threads only.
    ///
    /// # Errors
    /// The image cannot be read; the message names it.
    pub fn load(&self, index: usize) -> Result<RgbImage, String> {
        match &self.images {
            ShownImages::Boxes(dataset) => dataset.load_image(index).map_err(|e| e.to_string()),
            ShownImages::Labeled(dataset) => dataset.load_image(index).map_err(|e| e.to_string()),
            ShownImages::Files(files) => decode_image(&files[index]).map_err(|e| e.to_string()),
        }
    }

    /// Returns the classes.
    pub fn classes(&self) -> ClassTable {
        match &self.images {
            ShownImages::Boxes(dataset) => ClassTable::of_categories(dataset.store().categories()),
            ShownImages::Labeled(dataset) => ClassTable::of_names(dataset.class_names()),
            ShownImages::Files(_) => ClassTable::default(),
        }
    }

    /// Returns the annotated boxes of an image in pixels.
    pub fn ground_truth(&self, index: usize) -> Vec<TruthBox> {
        let ShownImages::Boxes(dataset) = &self.images else {
            return Vec::new();
        };
        let annotations = dataset.store().annotations(index);
        annotations
            .map(|annotation| TruthBox {
                box_in_image: annotation.box_in_image,
                class: annotation.class,
                is_crowd: annotation.is_crowd,
            })
            .collect()
    }

    /// Returns the annotations of a detection dataset.
    pub(crate) fn store(&self) -> Option<&AnnotationStore> {
        match &self.images {
            ShownImages::Boxes(dataset) => Some(dataset.store()),
            ShownImages::Labeled(_) | ShownImages::Files(_) => None,
        }
    }

    /// Returns the label of an image of a classification dataset.
    pub fn label(&self, index: usize) -> Option<usize> {
        match &self.images {
            ShownImages::Labeled(dataset) => Some(dataset.label(index)),
            ShownImages::Boxes(_) | ShownImages::Files(_) => None,
        }
    }

    /// Returns whether this is a detection dataset, with boxes to compare detections with.
    pub(crate) fn has_boxes(&self) -> bool {
        matches!(self.images, ShownImages::Boxes(_))
    }

    /// Returns the index of the image with this id in the annotation file.
    pub fn index_of_image(&self, image_id: u64) -> Option<usize> {
        match &self.images {
            ShownImages::Boxes(dataset) => dataset.store().index_of_image(image_id),
            ShownImages::Labeled(_) | ShownImages::Files(_) => None,
        }
    }
}

/// Returns the part after the last path separator.
fn file_name(path: &str) -> String {
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
    name.to_owned()
}
