//! Batches for training and evaluation: shuffled, prepared by several threads, and deterministic.
//!
//! The random transforms of an image depend only on `(seed, epoch, image)`, and the order of an
//! epoch on `(seed, epoch)`, so neither the number of threads nor a restart in the middle of an
//! epoch changes a single value. Batches come in order. At most [`LoaderOptions::prefetch`] batches
//! exist at a time, however slow the consumer is.
//!
//! - [`DetectionLoader`]: images with boxes, grouped by shape. - [`LabeledLoader`]: images with
//!   one class each. - [`EpochBatches`]: the iterator that both return.

pub mod batch;
mod detection;
mod epoch;
mod labeled;
pub mod prefetch;
pub mod transforms;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rand_chacha::ChaCha8Rng;

use crate::DataError;
use crate::images::OnBadImage;
use crate::rng::stream;

use self::prefetch::lock;

pub use crate::images::decode;
pub use detection::{DetectionLoader, TrainingImages};
pub use epoch::{EpochBatches, Shard};
pub use labeled::{
    EvaluationBatches, LabeledBatch, LabeledLoader, LabeledViews, Views, evaluation_batches,
};

/// A skipped image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct SkippedImage {
    /// Position in the dataset.
    pub dataset_index: usize,
    /// The reason; names the file.
    pub reason: String,
}

/// Settings of a loader.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoaderOptions {
    /// Batch size; the last batch of an epoch may be smaller.
    pub batch_size: usize,
    /// Number of threads that prepare images.
    pub threads: usize,
    /// Maximum number of batches that are being prepared or wait to be used; bounds the memory.
    pub prefetch: usize,
    /// Seed of the shuffling and the augmentation.
    pub seed: u64,
    /// Handling of damaged images.
    pub on_bad_image: OnBadImage,
}

impl Default for LoaderOptions {
    fn default() -> Self {
        Self {
            batch_size: 2,
            threads: 2,
            prefetch: 4,
            seed: 0,
            on_bad_image: OnBadImage::Error,
        }
    }
}

impl LoaderOptions {
    /// Validates the values.
    ///
    /// # Errors
    /// A number that must be at least 1 is 0.
    pub fn validate(&self) -> Result<(), DataError> {
        for (setting, value) in [
            ("batch_size", self.batch_size),
            ("threads", self.threads),
            ("prefetch", self.prefetch),
        ] {
            if value == 0 {
                return Err(DataError::Setting {
                    setting,
                    problem: "must be at least 1".to_owned(),
                });
            }
        }
        Ok(())
    }
}

/// Purposes of independent random number streams.
#[derive(Clone, Copy)]
enum Purpose {
    /// Order of an epoch's images.
    Order,
    /// Augmentation of one image.
    Augmentation,
    /// Mixing of one batch.
    Mixing,
}

/// Returns the random number stream for `(seed, epoch, index of the image or batch)`.
fn random_numbers(purpose: Purpose, seed: u64, epoch: u64, number: u64) -> ChaCha8Rng {
    stream([seed, epoch, number, purpose as u64])
}

/// The images that could not be prepared, and their handling.
#[derive(Debug, Default)]
struct BadImages {
    policy: OnBadImage,
    /// Reasons by image index.
    skipped: Mutex<BTreeMap<usize, String>>,
}

impl BadImages {
    fn new(policy: OnBadImage) -> Self {
        Self {
            policy,
            skipped: Mutex::default(),
        }
    }

    /// Returns the images skipped so far, without duplicates.
    fn list(&self) -> Vec<SkippedImage> {
        lock(&self.skipped)
            .iter()
            .map(|(&dataset_index, reason)| SkippedImage {
                dataset_index,
                reason: reason.clone(),
            })
            .collect()
    }

    /// Prepares each image of a batch. Returns `None` if the epoch was abandoned or no image is
    /// usable.
    fn prepare_each<T>(
        &self,
        images: &[usize],
        abandoned: &AtomicBool,
        name: impl Fn(usize) -> String,
        prepare: impl Fn(usize) -> Result<T, DataError>,
    ) -> Result<Option<Vec<T>>, DataError> {
        let mut prepared = Vec::with_capacity(images.len());
        for &index in images {
            if abandoned.load(Ordering::Relaxed) {
                return Ok(None);
            }
            match without_panic(|| name(index), || prepare(index)) {
                Ok(image) => prepared.push(image),
                Err(error) if self.policy == OnBadImage::Skip && error.is_about_one_image() => {
                    lock(&self.skipped).insert(index, error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        Ok((!prepared.is_empty()).then_some(prepared))
    }
}

/// Converts a panic in a decoder to an error that names the image; otherwise the consumer would
/// wait forever.
fn without_panic<T>(
    image: impl Fn() -> String,
    work: impl FnOnce() -> Result<T, DataError>,
) -> Result<T, DataError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(DataError::Panicked {
            image: image(),
            message: message.to_owned(),
        })
    })
}
