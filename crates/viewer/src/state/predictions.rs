//! What a network or a results file says of the images.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::classes::ClassTable;
use super::collection::Collection;
use sedet_data::eval::ResultRow;
use sedet_data::eval::matching::FoundBox;

/// Boxes of an image; shared with the threads that count.
pub type Found = Arc<Vec<FoundBox>>;

/// Boxes by image, as far as they are known.
#[derive(Debug, Clone, Default)]
pub struct Predictions {
    /// Who says so; for the title.
    pub source: String,
    /// By position in the collection.
    by_image: Arc<Vec<Option<Found>>>,
    known: usize,
    /// Changes with every change.
    version: u64,
}

/// A number that no other predictions have.
fn new_version() -> u64 {
    static VERSIONS: AtomicU64 = AtomicU64::new(1);
    VERSIONS.fetch_add(1, Ordering::Relaxed)
}

impl Predictions {
    /// Nothing known yet of so many images.
    pub fn unknown(source: impl Into<String>, images: usize) -> Self {
        Self {
            source: source.into(),
            by_image: Arc::new(vec![None; images]),
            known: 0,
            version: new_version(),
        }
    }

    /// Out of a results file. Images that it does not name have no boxes.
    ///
    /// # Errors
    /// None of its images is in the collection: it is of another one.
    pub fn of_results(
        source: &str,
        rows: &[ResultRow],
        collection: &Collection,
        classes: &mut ClassTable,
    ) -> Result<Self, String> {
        let mut by_image = vec![Vec::new(); collection.len()];
        let mut strangers = 0;
        for row in rows {
            match collection.index_of_image(row.image_id) {
                Some(index) => by_image[index].push(FoundBox {
                    box_in_image: row.box_in_image(),
                    class: classes.by_id(row.category_id),
                    score: row.score as f32,
                }),
                None => strangers += 1,
            }
        }
        if strangers == rows.len() && !rows.is_empty() {
            return Err(format!(
                "{source}: none of its {strangers} rows is of an image of {}; open the dataset \
                 (and split) that it was made on",
                collection.title()
            ));
        }
        let known = by_image.len();
        let found = |boxes| Some(Arc::new(best_first(boxes)));
        Ok(Self {
            source: source.to_owned(),
            by_image: Arc::new(by_image.into_iter().map(found).collect()),
            known,
            version: new_version(),
        })
    }

    /// The boxes of an image, best first; nothing while nobody has looked.
    pub fn get(&self, index: usize) -> Option<&Found> {
        self.by_image.get(index).and_then(Option::as_ref)
    }

    /// Note what was found in an image.
    pub fn set(&mut self, index: usize, boxes: Vec<FoundBox>) {
        let images = Arc::make_mut(&mut self.by_image);
        if let Some(place) = images.get_mut(index) {
            self.known += usize::from(place.is_none());
            *place = Some(Arc::new(best_first(boxes)));
            self.version = new_version();
        }
    }

    /// Equal numbers: nothing has changed.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Of how many images something is known.
    pub fn known(&self) -> usize {
        self.known
    }

    /// Whether every image was looked at.
    pub fn is_complete(&self) -> bool {
        self.known == self.by_image.len() && self.known > 0
    }
}

fn best_first(mut boxes: Vec<FoundBox>) -> Vec<FoundBox> {
    boxes.sort_by(|a, b| b.score.total_cmp(&a.score));
    boxes
}
