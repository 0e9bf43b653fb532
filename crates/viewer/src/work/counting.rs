//! Counts over all images and the order of the gallery; only the latest request is processed.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::{Busy, CollectionMessage, Mailbox};
use crate::state::{
    ApChange, BoxFilter, ClassTable, Classifications, ClassifierClasses, Collection, Comparison,
    ErrorList, GalleryQuery, ImageFacts, Mistake, Pane, Predictions, ShownImages, class_counts,
    compare_boxes, compare_classes, mistakes, order, tally, tally_classes, unmatched,
};
use sedet_data::eval::classification::ClassificationEvaluation;
use sedet_data::eval::confusion::Confusion;
use sedet_data::eval::{CocoEvaluation, EvalError, GroundTruth, ResultRow, evaluate as coco};

/// Pause after each count. The counts follow a moving slider, but counting 100,000 images for every frame
/// took a tenth of all CPU time on two cores.
const PAUSE: Duration = Duration::from_millis(100);

/// The inputs of the counts and the order.
#[derive(Clone)]
pub(super) struct CountingJob {
    pub generation: u64,
    pub collection: Arc<Collection>,
    pub query: GalleryQuery,
    pub predictions: [Predictions; 2],
    pub classified: [Classifications; 2],
    pub classifiers: [Option<Arc<ClassifierClasses>>; 2],
    pub score: f32,
    pub iou: f32,
    /// The network whose unmatched detections are divided by the type of their error.
    pub divided: Option<Pane>,
    /// The network whose errors are listed.
    pub listed: Option<Pane>,
    /// Whether both networks are compared.
    pub compares: bool,
}

impl PartialEq for CountingJob {
    /// The generation identifies the collection.
    fn eq(&self, other: &Self) -> bool {
        let versions = |job: &Self| {
            [0, 1].map(|at| (job.predictions[at].version(), job.classified[at].version()))
        };
        self.generation == other.generation
            && self.query == other.query
            && versions(self) == versions(other)
            && (self.score, self.iou) == (other.score, other.iou)
            && (self.divided, self.listed, self.compares)
                == (other.divided, other.listed, other.compares)
    }
}

#[derive(Default)]
struct Slot {
    job: Mutex<Option<(CountingJob, Busy)>>,
    changed: Condvar,
}

pub(super) struct Counter {
    slot: Arc<Slot>,
    mailbox: Mailbox,
}

impl Counter {
    pub(super) fn start(mailbox: Mailbox) -> Self {
        let slot = Arc::new(Slot::default());
        let (receiver, sender) = (slot.clone(), mailbox.clone());
        std::thread::spawn(move || {
            loop {
                let (job, busy) = receiver.next();
                let mistakes = [0, 1].map(|at| Arc::new(mistakes(&job.classified[at])));
                let (tallies, order) = count(&job, &mistakes[0]);
                let counted = CollectionMessage::Counted {
                    tallies,
                    unmatched: job.per_network(job.divided, unmatched).map(Arc::new),
                    errors: errors(&job, &mistakes).map(Arc::new),
                    comparison: compare(&job).map(Arc::new),
                    accuracies: [0, 1].map(|at| accuracy(&job, at).map(Arc::new)),
                    query: job.query,
                    order,
                    mistakes,
                };
                sender.send_result(job.generation, counted);
                drop(busy);
                std::thread::sleep(PAUSE);
            }
        });
        Self { slot, mailbox }
    }

    /// Requests a count and replaces a request that is still waiting.
    pub(super) fn request(&self, job: CountingJob) {
        let busy = self.mailbox.begin();
        let mut slot = self.slot.job.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = Some((job, busy));
        self.slot.changed.notify_one();
    }
}

impl Slot {
    fn next(&self) -> (CountingJob, Busy) {
        let mut slot = self.job.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(job) = slot.take() {
                return job;
            }
            slot = self
                .changed
                .wait(slot)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl CountingJob {
    fn filter(&self) -> BoxFilter {
        BoxFilter {
            score: self.score,
            iou: self.iou,
            ..BoxFilter::default()
        }
    }

    /// Computes what takes as long as counting, where the job asks for it: nothing without annotations or
    /// detections.
    fn per_network<T: Default>(
        &self,
        network: Option<Pane>,
        compute: impl Fn(&Collection, &Predictions, &BoxFilter) -> T,
    ) -> Option<T> {
        let predictions = &self.predictions[network?.index()];
        let is_countable = self.collection.has_boxes() && predictions.image_count() > 0;
        let computed = || compute(&self.collection, predictions, &self.filter());
        Some(is_countable.then(computed).unwrap_or_default())
    }
}

/// Counts the matches of both networks and orders the gallery by those of the first.
fn count(job: &CountingJob, mistakes: &[Mistake]) -> ([Option<Arc<Confusion>>; 2], Vec<u32>) {
    let filter = job.filter();
    let tallies = [0, 1].map(|at| {
        let predictions = &job.predictions[at];
        if !job.collection.has_boxes() {
            return tally_classes(&job.classified[at], job.collection.len()).map(Arc::new);
        }
        let countable = predictions.image_count() > 0;
        countable.then(|| Arc::new(tally(&job.collection, predictions, &filter)))
    });
    // A class is listed by the errors of this class.
    let has_boxes = job.collection.has_boxes() && tallies[0].is_some();
    let of_class = job.query.class.filter(|_| has_boxes);
    let of_class =
        of_class.map(|class| class_counts(&job.collection, &job.predictions[0], &filter, class));
    let all = tallies[0].as_ref().map(|tally| tally.images.as_slice());
    let facts = ImageFacts {
        counts: of_class.as_deref().or(all),
        classes: Some(&job.classified[0]),
        mistakes,
    };
    let order = order(&job.collection, &job.query, facts);
    (tallies, order)
}

/// Lists the errors of a network, where the job asks for it.
fn errors(job: &CountingJob, mistakes: &[Arc<Vec<Mistake>>; 2]) -> Option<ErrorList> {
    if job.collection.has_boxes() {
        return job.per_network(job.listed, ErrorList::of);
    }
    Some(ErrorList::of_mistakes(&mistakes[job.listed?.index()]))
}

/// Finds what differs between both networks, where the job asks for it.
fn compare(job: &CountingJob) -> Option<Comparison> {
    if !job.compares {
        return None;
    }
    if !job.collection.has_boxes() {
        return compare_classes(&job.classified, job.collection.len());
    }
    compare_boxes(&job.collection, &job.predictions, &job.filter())
}

/// Computes the metrics of a classifier, where the job asks for more than counts.
fn accuracy(job: &CountingJob, at: usize) -> Option<ClassificationEvaluation> {
    job.divided?;
    let classes = job.classifiers[at].as_ref()?;
    classes.evaluation(&job.classified[at])
}

/// Computes COCO metrics of both networks over the images that both have processed.
pub(super) fn evaluate_both(
    collection: &Collection,
    predictions: &[Predictions; 2],
    classes: &ClassTable,
    images: &[usize],
) -> Result<ApChange, EvalError> {
    let [first, second] = predictions;
    Ok(ApChange {
        evaluations: [
            evaluate(collection, first, classes, images)?,
            evaluate(collection, second, classes, images)?,
        ],
    })
}

/// Computes COCO metrics over these images, which have been processed.
pub(super) fn evaluate(
    collection: &Collection,
    predictions: &Predictions,
    classes: &ClassTable,
    images: &[usize],
) -> Result<CocoEvaluation, EvalError> {
    let ShownImages::Boxes(dataset) = &collection.images else {
        return Err(EvalError::GroundTruth("not a detection dataset".into()));
    };
    let store = dataset.store();
    let processed = images.iter().copied();
    let truth = GroundTruth::of_images(store, processed.clone())?;
    // Classes that the dataset lacks are excluded from its metrics.
    let category_id = |class: usize| {
        classes
            .id(class)
            .filter(|&id| store.class_of_category(id).is_some())
    };
    let rows: Vec<ResultRow> = processed
        .flat_map(|index| {
            let image_id = store.image(index).id;
            let found = predictions
                .get(index)
                .into_iter()
                .flat_map(|found| found.iter());
            found.filter_map(move |found| {
                let id = category_id(found.class)?;
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
