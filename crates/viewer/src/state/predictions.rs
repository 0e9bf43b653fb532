//! What a network or a results file says about each image.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::classes::ClassTable;
use super::collection::Collection;
use sedet_data::eval::ResultRow;
use sedet_data::eval::matching::FoundBox;

/// The detections of one image, by descending score; shared with the counting thread.
pub type Detections = Arc<Vec<FoundBox>>;

/// Detections by image, or other results of a network, for the images that have been processed.
#[derive(Debug, Clone, Default)]
pub struct Predictions<T = Vec<FoundBox>> {
    /// The network or the results file.
    pub source: String,
    /// By index in the collection.
    by_image: Arc<Vec<Option<Arc<T>>>>,
    processed: usize,
    /// Changes with every modification.
    version: u64,
}

/// Returns a version number that no other predictions have.
fn new_version() -> u64 {
    static VERSIONS: AtomicU64 = AtomicU64::new(1);
    VERSIONS.fetch_add(1, Ordering::Relaxed)
}

impl<T> Predictions<T> {
    /// Creates predictions for this many images, none of them processed yet.
    pub fn empty(source: impl Into<String>, images: usize) -> Self {
        Self {
            source: source.into(),
            by_image: Arc::new((0..images).map(|_| None).collect()),
            processed: 0,
            version: new_version(),
        }
    }

    /// Returns the result for an image; `None` before inference.
    pub fn get(&self, index: usize) -> Option<&Arc<T>> {
        self.by_image.get(index).and_then(Option::as_ref)
    }

    /// Iterates over the processed images.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Arc<T>)> {
        let images = self.by_image.iter().enumerate();
        images.filter_map(|(index, result)| Some((index, result.as_ref()?)))
    }

    /// Stores the results for images.
    pub(super) fn store(&mut self, results: impl IntoIterator<Item = (usize, T)>) {
        let images = Arc::make_mut(&mut self.by_image);
        for (index, result) in results {
            if let Some(entry) = images.get_mut(index) {
                self.processed += usize::from(entry.is_none());
                *entry = Some(Arc::new(result));
            }
        }
        self.version = new_version();
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

impl Predictions {
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

    /// Stores the detections of an image.
    pub fn set(&mut self, index: usize, boxes: Vec<FoundBox>) {
        self.store([(index, by_descending_score(boxes))]);
    }
}

fn by_descending_score(mut boxes: Vec<FoundBox>) -> Vec<FoundBox> {
    boxes.sort_by(|a, b| b.score.total_cmp(&a.score));
    boxes
}
