//! The columnar store of boxes: one array per field, so that COCO's 860,000 boxes take megabytes.

use std::path::PathBuf;

use crate::boxes::{BoxXyxy, ImageSize};

/// A class with the id that its data set gave it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Category {
    /// The original id; any number.
    pub id: u64,
    /// The name.
    pub name: String,
}

/// One box of an image, as read from the store.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Annotation {
    /// In pixels of the file as a person sees it.
    pub box_in_image: BoxXyxy,
    /// Contiguous class, an index into [`AnnotationStore::categories`].
    pub label: usize,
    /// A region with many objects: not for training, passed to evaluation.
    pub iscrowd: bool,
    /// Area in pixels, of the segmentation where there is one.
    pub area: f64,
}

/// All images and boxes of one split.
#[derive(Debug, Clone, Default)]
pub struct AnnotationStore {
    /// Where it was read from; for messages.
    pub source: PathBuf,
    /// Sorted by original id; the index is the contiguous label.
    pub categories: Vec<Category>,
    image_ids: Vec<u64>,
    sizes: Vec<[u32; 2]>,
    names: String,
    name_ends: Vec<u32>,
    /// Where an image's annotations end; they start where those of the image before end.
    annotation_ends: Vec<u32>,
    boxes: Vec<[f32; 4]>,
    areas: Vec<f32>,
    labels: Vec<u16>,
    crowds: Vec<bool>,
}

/// One image on its way into the store.
#[derive(Debug, Clone)]
pub struct ImageRecord {
    /// Original id.
    pub id: u64,
    /// Path relative to the image folder.
    pub file_name: String,
    /// As a person sees it.
    pub size: ImageSize,
}

impl AnnotationStore {
    /// An empty store over these categories (sorted by id here).
    pub fn new(source: PathBuf, mut categories: Vec<Category>) -> Self {
        categories.sort_by_key(|c| c.id);
        Self {
            source,
            categories,
            ..Self::default()
        }
    }

    /// Append an image with its boxes.
    pub fn push(&mut self, image: &ImageRecord, annotations: impl IntoIterator<Item = Annotation>) {
        self.image_ids.push(image.id);
        self.sizes
            .push([image.size.height as u32, image.size.width as u32]);
        self.names.push_str(&image.file_name);
        self.name_ends.push(self.names.len() as u32);
        for a in annotations {
            self.boxes.push(a.box_in_image.to_xywh());
            self.areas.push(a.area as f32);
            self.labels.push(a.label as u16);
            self.crowds.push(a.iscrowd);
        }
        self.annotation_ends.push(self.boxes.len() as u32);
    }

    /// Give back what growing left over.
    pub fn shrink(&mut self) {
        self.image_ids.shrink_to_fit();
        self.sizes.shrink_to_fit();
        self.names.shrink_to_fit();
        self.name_ends.shrink_to_fit();
        self.annotation_ends.shrink_to_fit();
        self.boxes.shrink_to_fit();
        self.areas.shrink_to_fit();
        self.labels.shrink_to_fit();
        self.crowds.shrink_to_fit();
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.image_ids.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.image_ids.is_empty()
    }

    /// Number of boxes, crowds included.
    pub fn annotation_count(&self) -> usize {
        self.boxes.len()
    }

    /// Original id of an image.
    pub fn image_id(&self, index: usize) -> u64 {
        self.image_ids[index]
    }

    /// File name of an image.
    pub fn file_name(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(0, |i| self.name_ends[i]);
        &self.names[start as usize..self.name_ends[index] as usize]
    }

    /// Size of an image as the annotations say.
    pub fn image_size(&self, index: usize) -> ImageSize {
        let [height, width] = self.sizes[index];
        ImageSize::new(height as usize, width as usize)
    }

    /// The boxes of an image.
    pub fn annotations(&self, index: usize) -> impl Iterator<Item = Annotation> + '_ {
        let start = index.checked_sub(1).map_or(0, |i| self.annotation_ends[i]);
        (start as usize..self.annotation_ends[index] as usize).map(|i| Annotation {
            box_in_image: BoxXyxy::from_xywh(self.boxes[i]),
            label: self.labels[i] as usize,
            iscrowd: self.crowds[i],
            area: f64::from(self.areas[i]),
        })
    }
}
