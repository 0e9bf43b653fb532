//! The images that the window pages through, with what is known of them.

use std::path::PathBuf;
use std::sync::Arc;

use image::RgbImage;

use super::classes::ClassTable;
use sedet_data::annotations::layout::Split;
use sedet_data::datasets::detection::DetectionDataset;
use sedet_data::datasets::labeled::LabeledDataset;
use sedet_data::eval::matching::TruthBox;
use sedet_data::loading::decode::decode_image;

/// Where images come from.
#[derive(Debug, Clone)]
pub enum Images {
    /// A dataset with boxes.
    Boxes(Arc<DetectionDataset>),
    /// A dataset with one class for each image.
    Labeled(Arc<LabeledDataset>),
    /// Files of which nothing else is known.
    Files(Vec<PathBuf>),
}

/// Images under one name.
#[derive(Debug, Clone)]
pub struct Collection {
    /// The dataset, directory or file, as a person names it.
    pub name: String,
    /// The split of a dataset.
    pub split: Option<Split>,
    /// The images.
    pub images: Images,
}

impl Collection {
    /// For people: `shapes val`.
    pub fn title(&self) -> String {
        match self.split {
            Some(split) => format!("{} {split}", self.name),
            None => self.name.clone(),
        }
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        match &self.images {
            Images::Boxes(dataset) => dataset.len(),
            Images::Labeled(dataset) => dataset.len(),
            Images::Files(files) => files.len(),
        }
    }

    /// True without images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A short name of an image, for lists.
    pub fn image_title(&self, index: usize) -> String {
        match &self.images {
            Images::Boxes(dataset) => dataset.store().image(index).file_name.to_owned(),
            Images::Labeled(dataset) => file_name(&dataset.describe(index)),
            Images::Files(files) => file_name(&files[index].display().to_string()),
        }
    }

    /// How to name an image to a person who looks for it.
    pub fn describe(&self, index: usize) -> String {
        match &self.images {
            Images::Boxes(dataset) => dataset.describe(index),
            Images::Labeled(dataset) => dataset.describe(index),
            Images::Files(files) => files[index].display().to_string(),
        }
    }

    /// Read an image; the error names it. Slow: for worker threads.
    pub fn load(&self, index: usize) -> Result<RgbImage, String> {
        match &self.images {
            Images::Boxes(dataset) => dataset.load_image(index).map_err(|e| e.to_string()),
            Images::Labeled(dataset) => dataset.load_image(index).map_err(|e| e.to_string()),
            Images::Files(files) => decode_image(&files[index]).map_err(|e| e.to_string()),
        }
    }

    /// Its classes.
    pub fn classes(&self) -> ClassTable {
        match &self.images {
            Images::Boxes(dataset) => ClassTable::of_categories(dataset.store().categories()),
            Images::Labeled(dataset) => ClassTable::of_names(dataset.class_names()),
            Images::Files(_) => ClassTable::default(),
        }
    }

    /// The annotated boxes of an image, in its pixels.
    pub fn truth(&self, index: usize) -> Vec<TruthBox> {
        let Images::Boxes(dataset) = &self.images else {
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

    /// The class of a whole image.
    pub fn label(&self, index: usize) -> Option<usize> {
        match &self.images {
            Images::Labeled(dataset) => Some(dataset.label(index)),
            Images::Boxes(_) | Images::Files(_) => None,
        }
    }

    /// Whether there are boxes to compare detections with.
    pub fn has_truth(&self) -> bool {
        matches!(self.images, Images::Boxes(_))
    }

    /// Where the image with this original id stands.
    pub fn index_of_image(&self, image_id: u64) -> Option<usize> {
        match &self.images {
            Images::Boxes(dataset) => dataset.store().index_of_image(image_id),
            Images::Labeled(_) | Images::Files(_) => None,
        }
    }
}

/// The part after the last separator.
fn file_name(path: &str) -> String {
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
    name.to_owned()
}
