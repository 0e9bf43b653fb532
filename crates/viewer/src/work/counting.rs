//! Counts over all images and the order of the gallery: the newest question only.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::{Busy, Mailbox, Message};
use crate::state::{
    BoxFilter, ClassTable, Collection, GalleryQuery, Images, Predictions, order, tally,
};
use sedet_data::eval::confusion::Confusion;
use sedet_data::eval::{CocoEvaluation, EvalError, GroundTruth, ResultRow, evaluate as coco};

/// The rest after each count: the numbers follow a slider that moves, and leave the cores to the window
/// meanwhile. To count 100,000 images for each frame took a tenth of all CPU time on two cores.
const REST: Duration = Duration::from_millis(100);

/// What decides the counts and the order.
#[derive(Clone)]
pub(super) struct CountingJob {
    pub generation: u64,
    pub collection: Arc<Collection>,
    pub query: GalleryQuery,
    pub predictions: [Predictions; 2],
    pub score: f32,
    pub iou: f32,
}

impl PartialEq for CountingJob {
    /// The collection is that of its generation.
    fn eq(&self, other: &Self) -> bool {
        let known = |job: &Self| [0, 1].map(|side| job.predictions[side].version());
        self.generation == other.generation
            && self.query == other.query
            && known(self) == known(other)
            && (self.score, self.iou) == (other.score, other.iou)
    }
}

#[derive(Default)]
struct Slot {
    job: Mutex<Option<(CountingJob, Busy)>>,
    news: Condvar,
}

pub(super) struct Counter {
    slot: Arc<Slot>,
    mailbox: Mailbox,
}

impl Counter {
    pub(super) fn start(mailbox: Mailbox) -> Self {
        let slot = Arc::new(Slot::default());
        let (theirs, to) = (slot.clone(), mailbox.clone());
        std::thread::spawn(move || {
            loop {
                let (job, busy) = theirs.next();
                let (tallies, order) = count(&job);
                to.send(Message::Counted(job.generation, tallies, Arc::new(order)));
                drop(busy);
                std::thread::sleep(REST);
            }
        });
        Self { slot, mailbox }
    }

    /// Replaces a question that nobody has begun to answer.
    pub(super) fn want(&self, job: CountingJob) {
        let busy = self.mailbox.begin();
        let mut slot = self.slot.job.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = Some((job, busy));
        self.slot.news.notify_one();
    }
}

impl Slot {
    fn next(&self) -> (CountingJob, Busy) {
        let mut slot = self.job.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(job) = slot.take() {
                return job;
            }
            slot = self.news.wait(slot).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Counts of both networks, and the order of the gallery by those of the first.
fn count(job: &CountingJob) -> ([Option<Arc<Confusion>>; 2], Vec<u32>) {
    let filter = BoxFilter {
        score: job.score,
        iou: job.iou,
        ..BoxFilter::default()
    };
    let tallies = [0, 1].map(|side| {
        let predictions = &job.predictions[side];
        let countable = job.collection.has_truth() && predictions.known() > 0;
        countable.then(|| Arc::new(tally(&job.collection, predictions, &filter)))
    });
    let order = order(&job.collection, &job.query, tallies[0].as_deref());
    (tallies, order)
}

/// COCO's metrics of what was found, on a thread of its own. Images that nobody has looked at are
/// left out: the metrics are of the others.
pub(super) fn evaluate(
    mailbox: Mailbox,
    generation: u64,
    collection: Arc<Collection>,
    predictions: Predictions,
    classes: &ClassTable,
) {
    let classes = classes.clone();
    let busy = mailbox.begin();
    std::thread::spawn(move || {
        mailbox.send(match measure(&collection, &predictions, &classes) {
            Ok(evaluation) => Message::Evaluated(generation, Arc::new(evaluation)),
            Err(error) => Message::Failed(format!("{}: {error}", collection.title())),
        });
        drop(busy);
    });
}

fn measure(
    collection: &Collection,
    predictions: &Predictions,
    classes: &ClassTable,
) -> Result<CocoEvaluation, EvalError> {
    let Images::Boxes(dataset) = &collection.images else {
        return Err(EvalError::GroundTruth("it has no boxes".into()));
    };
    let store = dataset.store();
    let looked_at = (0..collection.len()).filter(|&index| predictions.get(index).is_some());
    let truth = GroundTruth::of_images(store, looked_at.clone())?;
    // Classes that the dataset does not have are no part of its metrics.
    let known = |class: usize| {
        classes
            .id(class)
            .filter(|&id| store.class_of_category(id).is_some())
    };
    let rows: Vec<ResultRow> = looked_at
        .flat_map(|index| {
            let image_id = store.image(index).id;
            let found = predictions
                .get(index)
                .into_iter()
                .flat_map(|found| found.iter());
            found.filter_map(move |found| {
                let id = known(found.class)?;
                Some(ResultRow::new(
                    image_id,
                    id,
                    found.box_in_image,
                    found.score,
                ))
            })
        })
        .collect();
    coco(&truth, &rows)
}
