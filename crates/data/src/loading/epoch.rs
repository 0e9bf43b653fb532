//! The threads that prepare an epoch's batches, and the batches in order.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::DataError;
use crate::loading::{LoaderOptions, lock, without_panic};

/// Makes a batch from its image numbers; shared by the threads.
pub(crate) trait BatchRecipe: Debug + Send + Sync + 'static {
    /// What is made.
    type Batch: Debug + Send + 'static;

    /// The dataset's own name for an image, which needs no code of the image source.
    fn name(&self, index: usize) -> String;

    /// The batch of this number in the epoch; `None` when the epoch was abandoned or no image of
    /// the batch is usable.
    fn batch(
        &self,
        epoch: u64,
        number: usize,
        images: &[usize],
        abandoned: &AtomicBool,
    ) -> Result<Option<Self::Batch>, DataError>;
}

type Outcome<B> = Result<Option<B>, DataError>;

/// The batches of one epoch, in order. After an error there are no more. Dropping it stops the
/// threads (each finishes the image it has in hand).
#[derive(Debug)]
pub struct EpochBatches<B> {
    shared: Arc<Shared<B>>,
    workers: Vec<JoinHandle<()>>,
    waited: Duration,
    failed: bool,
}

/// What consumer and threads share.
#[derive(Debug)]
struct Shared<B> {
    plan: Vec<Vec<usize>>,
    prefetch: usize,
    progress: Mutex<Progress<B>>,
    /// Told when a batch was taken, so that another may be begun.
    taken: Condvar,
    /// Told when a batch is ready.
    ready: Condvar,
    abandoned: AtomicBool,
}

#[derive(Debug)]
struct Progress<B> {
    next_to_begin: usize,
    next_to_take: usize,
    finished: BTreeMap<usize, Outcome<B>>,
}

impl<B: Debug + Send + 'static> EpochBatches<B> {
    /// Starts the threads and gives the batches of an epoch's plan from number `first_batch` on.
    pub(crate) fn start<R: BatchRecipe<Batch = B>>(
        recipe: Arc<R>,
        options: &LoaderOptions,
        epoch: u64,
        plan: Vec<Vec<usize>>,
        first_batch: usize,
    ) -> Result<Self, DataError> {
        if first_batch > plan.len() {
            return Err(DataError::Setting {
                setting: "first_batch",
                problem: format!(
                    "{first_batch} is beyond the {} batches of an epoch; has the data or the batch size changed?",
                    plan.len()
                ),
            });
        }
        let useful_threads = options
            .threads
            .min(options.prefetch)
            .min(plan.len() - first_batch);
        let mut batches = Self {
            shared: Arc::new(Shared {
                plan,
                prefetch: options.prefetch,
                progress: Mutex::new(Progress {
                    next_to_begin: first_batch,
                    next_to_take: first_batch,
                    finished: BTreeMap::new(),
                }),
                taken: Condvar::new(),
                ready: Condvar::new(),
                abandoned: AtomicBool::new(false),
            }),
            workers: Vec::with_capacity(useful_threads),
            waited: Duration::ZERO,
            failed: false,
        };
        for number in 0..useful_threads {
            let (shared, recipe) = (batches.shared.clone(), recipe.clone());
            let worker = std::thread::Builder::new()
                .name(format!("loader {number}"))
                .spawn(move || shared.work(&*recipe, epoch))
                .map_err(|source| DataError::Threads { source })?;
            batches.workers.push(worker);
        }
        Ok(batches)
    }
}

impl<B> EpochBatches<B> {
    /// Number, within the epoch, of the batch that comes next; where to resume from. (Batches that
    /// vanished because all their images were skipped are counted.)
    pub fn next_batch(&self) -> usize {
        lock(&self.shared.progress).next_to_take
    }

    /// How long `next` has waited for data so far.
    pub fn wait_time(&self) -> Duration {
        self.waited
    }

    /// Waits for the next batch in order, whatever came of it.
    fn take(&mut self) -> Option<Outcome<B>> {
        let begun_waiting = Instant::now();
        let mut progress = lock(&self.shared.progress);
        let number = progress.next_to_take;
        if number >= self.shared.plan.len() {
            return None;
        }
        let outcome = loop {
            match progress.finished.remove(&number) {
                Some(outcome) => break outcome,
                None => {
                    progress = self
                        .shared
                        .ready
                        .wait(progress)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        };
        progress.next_to_take += 1;
        drop(progress);
        self.shared.taken.notify_one();
        self.waited += begun_waiting.elapsed();
        Some(outcome)
    }
}

impl<B> Shared<B> {
    /// A thread's life: begin the next batch as long as the limit allows it.
    fn work<R: BatchRecipe<Batch = B>>(&self, recipe: &R, epoch: u64) {
        loop {
            let number = {
                let mut progress = lock(&self.progress);
                loop {
                    if self.abandoned.load(Ordering::Relaxed)
                        || progress.next_to_begin >= self.plan.len()
                    {
                        return;
                    }
                    if progress.next_to_begin < progress.next_to_take + self.prefetch {
                        break;
                    }
                    progress = self
                        .taken
                        .wait(progress)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                progress.next_to_begin += 1;
                progress.next_to_begin - 1
            };
            let images = &self.plan[number];
            let outcome = without_panic(
                || recipe.name(images[0]),
                || recipe.batch(epoch, number, images, &self.abandoned),
            );
            lock(&self.progress).finished.insert(number, outcome);
            self.ready.notify_all();
        }
    }
}

impl<B> Iterator for EpochBatches<B> {
    type Item = Result<B, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed {
            match self.take()? {
                Ok(Some(batch)) => return Some(Ok(batch)),
                Ok(None) => {} // all its images were skipped
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

impl<B> Drop for EpochBatches<B> {
    fn drop(&mut self) {
        {
            // under the lock, so that no thread is between its check and its wait
            let _progress = lock(&self.shared.progress);
            self.shared.abandoned.store(true, Ordering::Relaxed);
        }
        self.shared.taken.notify_all();
        for worker in self.workers.drain(..) {
            // a thread can't panic outside of `catch_unwind`, and if it did there is nobody to tell
            let _ = worker.join();
        }
    }
}
