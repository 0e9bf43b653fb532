//! The batches of one epoch, prefetched by threads.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::DataError;
use crate::loading::prefetch::{Prefetch, PrefetchLimits};
use crate::loading::{LoaderOptions, without_panic};

/// The preparation of a batch from its image indices; shared by the threads.
pub(crate) trait BatchRecipe: Debug + Send + Sync + 'static {
    /// The type of a batch.
    type Batch: Debug + Send + 'static;

    /// Returns the image's name in the dataset, without running code of the image source.
    fn name(&self, index: usize) -> String;

    /// Prepares the batch with this number in the epoch. Returns `None` if the epoch was abandoned
    /// or no image of the batch is usable.
    fn batch(
        &self,
        epoch: u64,
        number: usize,
        images: &[usize],
        abandoned: &AtomicBool,
    ) -> Result<Option<Self::Batch>, DataError>;
}

/// The batches of one epoch, in order. The iterator ends after an error. Dropping it stops the
/// threads, each after its current image.
#[derive(Debug)]
pub struct EpochBatches<B> {
    batches: Prefetch<Result<Option<B>, DataError>>,
    waited: Duration,
    failed: bool,
}

impl<B: Debug + Send + 'static> EpochBatches<B> {
    /// Starts preparing the batches of an epoch's plan from number `first_batch` on.
    ///
    /// # Errors
    /// `first_batch` is beyond the end of the plan, or no thread can be started.
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
        let limits = PrefetchLimits {
            threads: options.threads,
            items: options.prefetch,
        };
        let batches = Prefetch::start(
            first_batch..plan.len(),
            limits,
            move |number, abandoned: &AtomicBool| {
                let images = &plan[number];
                without_panic(
                    || recipe.name(images[0]),
                    || recipe.batch(epoch, number, images, abandoned),
                )
            },
        )?;
        Ok(Self {
            batches,
            waited: Duration::ZERO,
            failed: false,
        })
    }
}

impl<B> EpochBatches<B> {
    /// Returns the number, within the epoch, of the next batch, from which to resume. Batches that
    /// were dropped because all their images were skipped are counted.
    pub fn next_batch(&self) -> usize {
        self.batches.next_number()
    }

    /// Returns the total time `next` has waited for data.
    pub fn wait_time(&self) -> Duration {
        self.waited
    }
}

impl<B> Iterator for EpochBatches<B> {
    type Item = Result<B, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed {
            let start = Instant::now();
            let outcome = self.batches.next()?;
            self.waited += start.elapsed();
            match outcome {
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
