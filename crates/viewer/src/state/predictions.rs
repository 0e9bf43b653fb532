//! Detections of a network or of a results file, by image.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::classes::ClassTable;
use super::collection::Collection;
use sedet_data::eval::ResultRow;
use sedet_data::eval::matching::FoundBox;

/// The detections of one image, by descending score; shared with the counting thread.
pub type Detections = Arc<Vec<FoundBox>>;

/// Detections by image, for the images that have been processed.
#[derive(Debug, Clone, Default)]
pub struct Predictions {
    /// The network or the results file.
    pub source: String,
    /// By index in the collection.
    by_image: Arc<Vec<Option<Detections>>>,
    processed: usize,
    /// Changes with every modification.
    version: u64,
}

/// Returns a version number that no other predictions have.
fn new_version() -> u64 {
    static VERSIONS: AtomicU64 = AtomicU64::new(1);
    VERSIONS.fetch_add(1, Ordering::Relaxed)
}

impl Predictions {
    /// Creates predictions for this many images, none of them processed yet.
    pub fn empty(source: impl Into<String>, images: usize) -> Self {
        Self {
            source: source.into(),
            by_image: Arc::new(vec![None; images]),
            processed: 0,
            version: new_version(),
        }
    }

    /// Assigns the rows of a results file to their images. Images without rows have no detections; rows
    /// of other images are ignored.
    ///
    /// # Errors
    /// No row belongs to an image of the collection.
    pub(crate) fn from_results(
        source: &str,
        rows: &[ResultRow],
        collection: &Collection,
        classes: &mut ClassTable,
    ) -> Result<Self, String> {
        let mut by_image = vec![Vec::new(); collection.len()];
        let mut unknown = 0;
        for row in rows {
            match collection.index_of_image(row.image_id) {
                Some(index) => by_image[index].push(FoundBox {
                    box_in_image: row.box_in_image(),
                    class: classes.by_id(row.category_id),
                    score: row.score as f32,
                }),
                None => unknown += 1,
            }
        }
        if unknown == rows.len() && !rows.is_empty() {
            return Err(format!(
                "{source}: no row belongs to an image of {}; open the dataset and split that the \
                 results were computed on",
                collection.title()
            ));
        }
        let processed = by_image.len();
        let detections = |boxes| Some(Arc::new(by_descending_score(boxes)));
        Ok(Self {
            source: source.to_owned(),
            by_image: Arc::new(by_image.into_iter().map(detections).collect()),
            processed,
            version: new_version(),
        })
    }

    /// Returns the detections of an image; `None` before inference.
    pub fn get(&self, index: usize) -> Option<&Detections> {
        self.by_image.get(index).and_then(Option::as_ref)
    }

    /// Stores the detections of an image.
    pub fn set(&mut self, index: usize, boxes: Vec<FoundBox>) {
        let images = Arc::make_mut(&mut self.by_image);
        if let Some(entry) = images.get_mut(index) {
            self.processed += usize::from(entry.is_none());
            *entry = Some(Arc::new(by_descending_score(boxes)));
            self.version = new_version();
        }
    }

    /// Returns a number that changes with every modification.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns the number of processed images.
    pub fn image_count(&self) -> usize {
        self.processed
    }

    /// Returns whether every image has been processed.
    pub fn is_complete(&self) -> bool {
        self.processed == self.by_image.len() && self.processed > 0
    }
}

fn by_descending_score(mut boxes: Vec<FoundBox>) -> Vec<FoundBox> {
    boxes.sort_by(|a, b| b.score.total_cmp(&a.score));
    boxes
}
