//! The pictures that the window pages through, with what is known of them.

use std::path::PathBuf;
use std::sync::Arc;

use image::RgbImage;

use super::classes::ClassTable;
use crate::data::dataset::DetectionDataset;
use crate::data::decode::decode_image;
use crate::data::formats::layout::Split;
use crate::data::labelled::LabelledDataset;
use crate::eval::matching::TruthBox;

/// Where pictures come from.
#[derive(Debug, Clone)]
pub enum Pictures {
    /// A data set with boxes.
    Boxes(Arc<DetectionDataset>),
    /// A data set with one class for each picture.
    Labelled(Arc<LabelledDataset>),
    /// Files of which nothing else is known.
    Files(Vec<PathBuf>),
}

/// Pictures under one name.
#[derive(Debug, Clone)]
pub struct Collection {
    /// The data set, folder or file, as a person names it.
    pub name: String,
    /// The split of a data set.
    pub split: Option<Split>,
    /// The pictures.
    pub pictures: Pictures,
}

impl Collection {
    /// For people: `shapes val`.
    pub fn title(&self) -> String {
        match self.split {
            Some(split) => format!("{} {split}", self.name),
            None => self.name.clone(),
        }
    }

    /// How many pictures there are.
    pub fn len(&self) -> usize {
        match &self.pictures {
            Pictures::Boxes(dataset) => dataset.len(),
            Pictures::Labelled(dataset) => dataset.len(),
            Pictures::Files(files) => files.len(),
        }
    }

    /// True without pictures.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A short name of a picture, for lists.
    pub fn picture_title(&self, index: usize) -> String {
        match &self.pictures {
            Pictures::Boxes(dataset) => dataset.store().image(index).file_name.to_owned(),
            Pictures::Labelled(dataset) => file_name(&dataset.describe(index)),
            Pictures::Files(files) => file_name(&files[index].display().to_string()),
        }
    }

    /// How to name a picture to a person who looks for it.
    pub fn describe(&self, index: usize) -> String {
        match &self.pictures {
            Pictures::Boxes(dataset) => dataset.describe(index),
            Pictures::Labelled(dataset) => dataset.describe(index),
            Pictures::Files(files) => files[index].display().to_string(),
        }
    }

    /// Read a picture; the error names it. Slow: for worker threads.
    pub fn load(&self, index: usize) -> Result<RgbImage, String> {
        match &self.pictures {
            Pictures::Boxes(dataset) => dataset.load_image(index).map_err(|e| e.to_string()),
            Pictures::Labelled(dataset) => dataset.load_image(index).map_err(|e| e.to_string()),
            Pictures::Files(files) => decode_image(&files[index]).map_err(|e| e.to_string()),
        }
    }

    /// Its classes.
    pub fn classes(&self) -> ClassTable {
        match &self.pictures {
            Pictures::Boxes(dataset) => ClassTable::of_categories(dataset.store().categories()),
            Pictures::Labelled(dataset) => ClassTable::of_names(dataset.class_names()),
            Pictures::Files(_) => ClassTable::default(),
        }
    }

    /// The annotated boxes of a picture, in its pixels.
    pub fn truth(&self, index: usize) -> Vec<TruthBox> {
        let Pictures::Boxes(dataset) = &self.pictures else {
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

    /// The class of a whole picture.
    pub fn label(&self, index: usize) -> Option<usize> {
        match &self.pictures {
            Pictures::Labelled(dataset) => Some(dataset.label(index)),
            Pictures::Boxes(_) | Pictures::Files(_) => None,
        }
    }

    /// Whether there are boxes to compare detections with.
    pub fn has_truth(&self) -> bool {
        matches!(self.pictures, Pictures::Boxes(_))
    }

    /// Where the picture with this original id stands.
    pub fn index_of_image(&self, image_id: u64) -> Option<usize> {
        match &self.pictures {
            Pictures::Boxes(dataset) => dataset.store().index_of_image(image_id),
            Pictures::Labelled(_) | Pictures::Files(_) => None,
        }
    }
}

/// The part after the last separator.
fn file_name(path: &str) -> String {
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
    name.to_owned()
}
