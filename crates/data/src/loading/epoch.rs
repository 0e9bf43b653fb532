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

/// The share of an epoch's batches that one process prepares: of every group of batches, each `size`-th from
/// number `rank` on. A group holds the batches of one optimizer step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// The number of this process, from 0.
    pub rank: usize,
    /// The number of processes.
    pub size: usize,
    /// The number of batches in a group.
    pub group: usize,
}

impl Shard {
    /// All batches.
    pub const WHOLE: Self = Self {
        rank: 0,
        size: 1,
        group: 1,
    };

    /// Returns whether a batch is of this share.
    pub fn has(&self, number: usize) -> bool {
        number % self.group % self.size == self.rank
    }
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
    /// Starts preparing the batches of a share of an epoch's plan from number `first_batch` on.
    ///
    /// # Errors
    /// `first_batch` is beyond the end of the plan, or no thread can be started.
    pub(crate) fn start<R: BatchRecipe<Batch = B>>(
        recipe: Arc<R>,
        options: &LoaderOptions,
        epoch: u64,
        plan: Vec<Vec<usize>>,
        first_batch: usize,
        shard: Shard,
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
        let numbers: Vec<usize> = (first_batch..plan.len())
            .filter(|number| shard.has(*number))
            .collect();
        let batches = Prefetch::start(
            0..numbers.len(),
            limits,
            move |at, abandoned: &AtomicBool| {
                let number = numbers[at];
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
    /// Returns the next batch, or `None` in its place if all its images were skipped, so that the caller can
    /// count batches.
    pub fn next_or_skipped(&mut self) -> Option<Result<Option<B>, DataError>> {
        if self.failed {
            return None;
        }
        let start = Instant::now();
        let outcome = self.batches.next()?;
        self.waited += start.elapsed();
        self.failed = outcome.is_err();
        Some(outcome)
    }

    /// Returns the total time `next` has waited for data.
    pub fn wait_time(&self) -> Duration {
        self.waited
    }
}

impl<B> Iterator for EpochBatches<B> {
    type Item = Result<B, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.next_or_skipped()? {
                Ok(Some(batch)) => return Some(Ok(batch)),
                Ok(None) => {} // all its images were skipped
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
