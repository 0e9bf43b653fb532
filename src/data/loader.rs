//! Batches for training and evaluation: shuffled, grouped by shape, prepared by several threads,
//! and nevertheless the same every time.
//!
//! What is random about an image depends on `(seed, epoch, image)` alone and the order of an epoch
//! on `(seed, epoch)`, so neither the number of threads nor a restart in the middle of an epoch
//! changes a single value. Batches come in order. At most [`LoaderOptions::prefetch`] of them exist
//! at a time, however slow the consumer is.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::{
    DataError,
    batch::{BatchImage, DetectionBatch, collate},
    dataset::{DetectionDataset, FilterSummary, TargetFilter},
    transforms::{Augmentation, PreparedImage, Preprocess, Sample, prepare},
};

/// What to do with an image that can't be read or is not as annotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnBadImage {
    /// Stop with an error that names it.
    #[default]
    Error,
    /// Leave it out (its batch gets smaller) and remember it; see [`DetectionLoader::skipped`].
    Skip,
}

/// An image that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedImage {
    /// Position in the data set.
    pub dataset_index: usize,
    /// Why; names the file.
    pub reason: String,
}

/// How batches are made.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoaderOptions {
    /// Images in a batch; the last of an epoch may be smaller.
    pub batch_size: usize,
    /// Threads that prepare images.
    pub threads: usize,
    /// Upper limit of batches that are being prepared or wait to be used; bounds the memory.
    pub prefetch: usize,
    /// Seed of the order and of the augmentation.
    pub seed: u64,
    /// In training, put images of similar shape into a batch, so that little is padding.
    pub group_by_aspect: bool,
    /// What to do with damaged images.
    pub on_bad_image: OnBadImage,
    /// Which annotations and images count.
    pub filter: TargetFilter,
}

impl Default for LoaderOptions {
    fn default() -> Self {
        Self {
            batch_size: 2,
            threads: 2,
            prefetch: 4,
            seed: 0,
            group_by_aspect: true,
            on_bad_image: OnBadImage::Error,
            filter: TargetFilter::default(),
        }
    }
}

impl LoaderOptions {
    /// Checks that the numbers make sense.
    ///
    /// # Errors
    /// A number that must be at least 1 is 0, or the filter's side is negative.
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
        if !self.filter.min_side.is_finite() || self.filter.min_side < 0.0 {
            return Err(DataError::Setting {
                setting: "filter.min_side",
                problem: format!("{} is not 0 or more", self.filter.min_side),
            });
        }
        Ok(())
    }
}

/// Makes the batches of a data set, epoch by epoch.
#[derive(Debug)]
pub struct DetectionLoader {
    recipe: Arc<Recipe>,
    /// Positions in the data set, ascending.
    images: Vec<usize>,
    shuffle: bool,
    filtered: FilterSummary,
}

impl DetectionLoader {
    /// For training: filtered, shuffled, grouped and augmented.
    ///
    /// # Errors
    /// A setting makes no sense, or the filter leaves no image.
    pub fn training(
        dataset: Arc<DetectionDataset>,
        preprocess: Preprocess,
        augmentation: Augmentation,
        options: LoaderOptions,
    ) -> Result<Self, DataError> {
        augmentation.validate()?;
        let (images, filtered) = dataset.training_images(options.filter)?;
        Self::new(
            dataset,
            preprocess,
            Some(augmentation),
            options,
            images,
            filtered,
        )
    }

    /// For evaluation: all images in the order of the data set, nothing random. Seed and grouping
    /// of the options play no part.
    ///
    /// # Errors
    /// A setting makes no sense.
    pub fn evaluation(
        dataset: Arc<DetectionDataset>,
        preprocess: Preprocess,
        options: LoaderOptions,
    ) -> Result<Self, DataError> {
        let images = (0..dataset.len()).collect();
        Self::new(
            dataset,
            preprocess,
            None,
            options,
            images,
            FilterSummary::default(),
        )
    }

    fn new(
        dataset: Arc<DetectionDataset>,
        preprocess: Preprocess,
        augmentation: Option<Augmentation>,
        options: LoaderOptions,
        images: Vec<usize>,
        filtered: FilterSummary,
    ) -> Result<Self, DataError> {
        options.validate()?;
        preprocess.validate()?;
        Ok(Self {
            images,
            shuffle: augmentation.is_some(),
            filtered,
            recipe: Arc::new(Recipe {
                dataset,
                preprocess,
                augmentation,
                options,
                skipped: Mutex::default(),
            }),
        })
    }

    /// The data set.
    pub fn dataset(&self) -> &Arc<DetectionDataset> {
        &self.recipe.dataset
    }

    /// How many images an epoch has.
    pub fn images_per_epoch(&self) -> usize {
        self.images.len()
    }

    /// How many batches an epoch has; the same in every epoch.
    pub fn batches_per_epoch(&self) -> usize {
        self.images.len().div_ceil(self.recipe.options.batch_size)
    }

    /// What the filter took away (nothing in evaluation).
    pub fn filtered(&self) -> FilterSummary {
        self.filtered
    }

    /// Images left out so far under [`OnBadImage::Skip`], each once.
    pub fn skipped(&self) -> Vec<SkippedImage> {
        lock(&self.recipe.skipped)
            .iter()
            .map(|(&dataset_index, reason)| SkippedImage {
                dataset_index,
                reason: reason.clone(),
            })
            .collect()
    }

    /// Which images (positions in the data set) form which batch of an epoch.
    pub fn plan(&self, epoch: u64) -> Vec<Vec<usize>> {
        let options = &self.recipe.options;
        let mut order = self.images.clone();
        if self.shuffle {
            order.shuffle(&mut random_numbers(Purpose::Order, options.seed, epoch, 0));
        }
        if self.shuffle && options.group_by_aspect {
            let store = self.recipe.dataset.store();
            group_by_aspect(&order, options.batch_size, |image| {
                let size = store.image(image).size;
                size.width as f64 / size.height as f64
            })
        } else {
            order
                .chunks(options.batch_size)
                .map(<[usize]>::to_vec)
                .collect()
        }
    }

    /// Starts the threads and gives the batches of an epoch from number `first_batch` on (0 for a
    /// whole epoch); they are those that an uninterrupted epoch would give from there.
    ///
    /// # Errors
    /// `first_batch` is beyond the epoch's end, or no thread can be started.
    pub fn epoch(&self, epoch: u64, first_batch: usize) -> Result<EpochBatches, DataError> {
        let plan = self.plan(epoch);
        if first_batch > plan.len() {
            return Err(DataError::Setting {
                setting: "first_batch",
                problem: format!(
                    "{first_batch} is beyond the {} batches of an epoch; has the data or the batch size changed?",
                    plan.len()
                ),
            });
        }
        EpochBatches::start(self.recipe.clone(), epoch, plan, first_batch)
    }
}

/// torchvision's `GroupedBatchSampler` with seven borders between aspect ratios 1/2 and 2: images
/// join the pending batch of their group, and a batch is ready when it is full. At the end the
/// incomplete batches are joined with their neighbours in the order of the groups, so that every
/// image is used exactly once and only the very last batch may be smaller.
fn group_by_aspect(
    order: &[usize],
    batch_size: usize,
    aspect: impl Fn(usize) -> f64,
) -> Vec<Vec<usize>> {
    const STEPS_PER_DOUBLING: i32 = 3;
    let borders: Vec<f64> = (-STEPS_PER_DOUBLING..=STEPS_PER_DOUBLING)
        .map(|step| 2f64.powf(f64::from(step) / f64::from(STEPS_PER_DOUBLING)))
        .collect();
    let mut pending = vec![Vec::with_capacity(batch_size); borders.len() + 1];
    let mut batches = Vec::with_capacity(order.len().div_ceil(batch_size));
    for &image in order {
        let ratio = aspect(image);
        let group = &mut pending[borders.partition_point(|&border| border <= ratio)];
        group.push(image);
        if group.len() == batch_size {
            batches.push(std::mem::replace(group, Vec::with_capacity(batch_size)));
        }
    }
    let left: Vec<usize> = pending.into_iter().flatten().collect();
    batches.extend(left.chunks(batch_size).map(<[usize]>::to_vec));
    batches
}

/// Streams of random numbers that never meet.
#[derive(Clone, Copy)]
enum Purpose {
    Order,
    Augmentation,
}

fn random_numbers(purpose: Purpose, seed: u64, epoch: u64, image: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    for (bytes, number) in key
        .chunks_exact_mut(8)
        .zip([seed, epoch, image, purpose as u64])
    {
        bytes.copy_from_slice(&number.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// Everything needed to make a batch from its image numbers; shared by the threads.
#[derive(Debug)]
struct Recipe {
    dataset: Arc<DetectionDataset>,
    preprocess: Preprocess,
    augmentation: Option<Augmentation>,
    options: LoaderOptions,
    /// Image -> why it was left out.
    skipped: Mutex<BTreeMap<usize, String>>,
}

impl Recipe {
    /// `None` when the epoch was abandoned or no image of the batch is usable.
    fn batch(
        &self,
        epoch: u64,
        images: &[usize],
        abandoned: &AtomicBool,
    ) -> Result<Option<DetectionBatch>, DataError> {
        let mut prepared = Vec::with_capacity(images.len());
        for &index in images {
            if abandoned.load(Ordering::Relaxed) {
                return Ok(None);
            }
            match without_panic(|| self.name(index), || self.image(epoch, index)) {
                Ok(image) => prepared.push(image),
                Err(error)
                    if self.options.on_bad_image == OnBadImage::Skip
                        && error.is_about_one_image() =>
                {
                    lock(&self.skipped).insert(index, error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        if prepared.is_empty() {
            return Ok(None);
        }
        Ok(Some(collate(prepared, self.preprocess.size_divisor)))
    }

    /// The data set's own name for an image, which needs no code of the image source.
    fn name(&self, index: usize) -> String {
        self.dataset.store().image(index).file_name.to_owned()
    }

    fn image(&self, epoch: u64, index: usize) -> Result<(PreparedImage, BatchImage), DataError> {
        let image = self.dataset.load_image(index)?;
        let (boxes_in_image, labels) = self.dataset.targets(index, self.options.filter.min_side);
        let sample = Sample {
            image,
            boxes_in_image,
            labels,
        };
        let (sample, preprocess) = match &self.augmentation {
            None => (sample, self.preprocess),
            Some(augmentation) => {
                let mut rng = random_numbers(
                    Purpose::Augmentation,
                    self.options.seed,
                    epoch,
                    index as u64,
                );
                let min_side = self.options.filter.min_side;
                augmentation.apply(sample, &self.preprocess, min_side, &mut rng)
            }
        };
        let prepared = prepare(&sample.image, &preprocess);
        let annotated = self.dataset.store().image(index);
        let info = BatchImage {
            dataset_index: index,
            image_id: annotated.id,
            file_name: annotated.file_name.to_owned(),
            image_size: prepared.image_size,
            input_size: prepared.input_size,
            boxes_in_input: sample
                .boxes_in_image
                .iter()
                .map(|&b| prepared.to_input(b))
                .collect(),
            labels: sample.labels,
        };
        Ok((prepared, info))
    }
}

/// A panic in a decoder must neither kill the run without a name nor leave the consumer waiting for
/// ever: it becomes an error like any other.
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

type Outcome = Result<Option<DetectionBatch>, DataError>;

/// The batches of one epoch, in order. After an error there are no more. Dropping it stops the
/// threads (each finishes the image it has in hand).
#[derive(Debug)]
pub struct EpochBatches {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    waited: Duration,
    failed: bool,
}

/// What consumer and threads share.
#[derive(Debug)]
struct Shared {
    plan: Vec<Vec<usize>>,
    prefetch: usize,
    progress: Mutex<Progress>,
    /// Told when a batch was taken, so that another may be begun.
    taken: Condvar,
    /// Told when a batch is ready.
    ready: Condvar,
    abandoned: AtomicBool,
}

#[derive(Debug)]
struct Progress {
    next_to_begin: usize,
    next_to_take: usize,
    finished: BTreeMap<usize, Outcome>,
}

impl EpochBatches {
    fn start(
        recipe: Arc<Recipe>,
        epoch: u64,
        plan: Vec<Vec<usize>>,
        first_batch: usize,
    ) -> Result<Self, DataError> {
        let options = &recipe.options;
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
                .spawn(move || shared.work(&recipe, epoch))
                .map_err(|source| DataError::Threads { source })?;
            batches.workers.push(worker);
        }
        Ok(batches)
    }

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
    fn take(&mut self) -> Option<Outcome> {
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

impl Shared {
    /// A thread's life: begin the next batch as long as the limit allows it.
    fn work(&self, recipe: &Recipe, epoch: u64) {
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
                || recipe.batch(epoch, images, &self.abandoned),
            );
            lock(&self.progress).finished.insert(number, outcome);
            self.ready.notify_all();
        }
    }
}

impl Iterator for EpochBatches {
    type Item = Result<DetectionBatch, DataError>;

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

impl Drop for EpochBatches {
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

/// The data behind our locks is valid at every moment, so a poisoned lock is as good as another.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        boxes::{BoxXyxy, ImageSize},
        data::{
            annotations::{AnnotationStore, AnnotationStoreBuilder, NewAnnotation},
            dataset::ImageSource,
            decode::DecodeError,
        },
    };
    use image::RgbImage;
    use std::sync::atomic::AtomicUsize;

    /// Pictures made on the spot; some fail in chosen ways.
    struct Painter {
        store: Arc<AnnotationStore>,
        broken: Vec<usize>,
        panicking: Vec<usize>,
        loads: Arc<AtomicUsize>,
    }

    impl ImageSource for Painter {
        fn load(&self, index: usize) -> Result<RgbImage, DataError> {
            self.loads.fetch_add(1, Ordering::SeqCst);
            assert!(!self.panicking.contains(&index), "decoder bug");
            if self.broken.contains(&index) {
                return Err(DecodeError::Truncated {
                    path: self.describe(index).into(),
                }
                .into());
            }
            let size = self.store.image(index).size;
            Ok(RgbImage::from_fn(
                size.width as u32,
                size.height as u32,
                |x, y| image::Rgb([index as u8, x as u8, y as u8]),
            ))
        }

        fn describe(&self, index: usize) -> String {
            format!("painted/{}", self.store.image(index).file_name)
        }
    }

    /// Image `i` is 40 wide and high according to `heights`, with two boxes.
    fn store(heights: &[usize]) -> Arc<AnnotationStore> {
        let mut builder = AnnotationStoreBuilder::new();
        builder.add_category(3, "a");
        builder.add_category(8, "b");
        for (i, &height) in heights.iter().enumerate() {
            let id = 100 + i as u64;
            builder.add_image(id, &format!("{i}.png"), ImageSize::new(height, 40));
            for (k, category_id) in [3, 8].into_iter().enumerate() {
                builder.add_annotation(NewAnnotation {
                    id: 2 * id + k as u64,
                    image_id: id,
                    category_id,
                    xywh: [4.0 + k as f32, 2.0, 10.0, 10.0],
                    area: None,
                    is_crowd: false,
                });
            }
        }
        Arc::new(builder.build().unwrap())
    }

    fn dataset(heights: &[usize], broken: &[usize], panicking: &[usize]) -> Arc<DetectionDataset> {
        let store = store(heights);
        Arc::new(DetectionDataset::new(
            store.clone(),
            Painter {
                store,
                broken: broken.to_vec(),
                panicking: panicking.to_vec(),
                loads: Arc::default(),
            },
        ))
    }

    const HEIGHTS: [usize; 11] = [20, 40, 80, 21, 40, 80, 20, 41, 79, 20, 40];

    fn augmentation() -> Augmentation {
        Augmentation {
            min_sizes: vec![16, 24, 32],
            ..Augmentation::default()
        }
    }

    fn loader(options: LoaderOptions) -> DetectionLoader {
        DetectionLoader::training(
            dataset(&HEIGHTS, &[], &[]),
            Preprocess::torchvision().with_sizes(24, 48),
            augmentation(),
            options,
        )
        .unwrap()
    }

    fn all(loader: &DetectionLoader, epoch: u64, first: usize) -> Vec<DetectionBatch> {
        loader
            .epoch(epoch, first)
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap()
    }

    fn indices(batches: &[DetectionBatch]) -> Vec<usize> {
        batches
            .iter()
            .flat_map(|b| b.images.iter().map(|i| i.dataset_index))
            .collect()
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let with = |threads, prefetch| {
            all(
                &loader(LoaderOptions {
                    threads,
                    prefetch,
                    seed: 5,
                    ..LoaderOptions::default()
                }),
                3,
                0,
            )
        };
        let single = with(1, 1);
        assert_eq!(single.len(), 6);
        assert_eq!(with(4, 8), single);
        assert_eq!(with(2, 1), single);
        assert_eq!(with(1, 9), single);
    }

    #[test]
    fn resuming_gives_the_tail_of_the_uninterrupted_epoch() {
        let loader = loader(LoaderOptions::default());
        let whole = all(&loader, 2, 0);
        for first in 0..=whole.len() {
            assert_eq!(all(&loader, 2, first), whole[first..]);
        }
        let mut interrupted = loader.epoch(2, 0).unwrap();
        interrupted.next().unwrap().unwrap();
        interrupted.next().unwrap().unwrap();
        assert_eq!(interrupted.next_batch(), 2);
        let message = loader.epoch(2, 99).unwrap_err().to_string();
        assert!(message.contains("beyond the 6 batches"), "{message}");
    }

    #[test]
    fn an_epoch_uses_every_image_once_in_an_order_of_its_own() {
        let loader = loader(LoaderOptions::default());
        let orders: Vec<_> = (0..3)
            .map(|epoch| indices(&all(&loader, epoch, 0)))
            .collect();
        for order in &orders {
            let mut sorted = order.clone();
            sorted.sort();
            assert_eq!(sorted, (0..HEIGHTS.len()).collect::<Vec<_>>());
        }
        assert_ne!(orders[0], orders[1]);
        assert_ne!(orders[1], orders[2]);
    }

    #[test]
    fn augmentation_differs_between_epochs_and_between_seeds() {
        let inputs = |seed, epoch| {
            let mut all: Vec<_> = all(
                &loader(LoaderOptions {
                    seed,
                    ..LoaderOptions::default()
                }),
                epoch,
                0,
            )
            .into_iter()
            .flat_map(|batch| batch.images)
            .map(|image| (image.dataset_index, image.input_size.height))
            .collect();
            all.sort();
            all
        };
        assert_ne!(inputs(0, 0), inputs(0, 1));
        assert_ne!(inputs(0, 0), inputs(1, 0));
    }

    #[test]
    fn images_of_one_shape_share_a_batch_and_leftovers_join_their_neighbours() {
        // aspect ratio of image i: groups by i % 3
        let ratios = [0.5, 1.0, 2.0];
        let order: Vec<usize> = (0..17).collect(); // 6, 6 and 5 of each
        let batches = group_by_aspect(&order, 4, |i| ratios[i % 3]);
        assert_eq!(batches.len(), 5);
        for pure in &batches[..3] {
            assert!(pure.iter().all(|i| i % 3 == pure[0] % 3), "{pure:?}");
        }
        // leftovers 2 + 2 + 1, in the order of the groups
        assert_eq!(batches[3], [12, 15, 13, 16]);
        assert_eq!(batches[4], [14]);
        let mut used = batches.concat();
        used.sort();
        assert_eq!(used, order);
    }

    #[test]
    fn borders_between_aspect_groups_are_those_of_torchvision() {
        // bisect_right over 2 ** linspace(-1, 1, 7): a ratio on a border belongs above it
        for (a, b, same) in [
            (0.51, 0.49, false),
            (0.51, 0.5, true),
            (0.5, 0.62, true),
            (0.64, 0.62, false),
            (0.99, 1.0, false),
            (1.0, 1.25, true),
            (1.27, 1.25, false),
            (1.99, 2.0, false),
            (2.0, 5.0, true),
        ] {
            // two images fill a batch at once only when they share a group; else each stays
            // pending and the third, of a far lower group, comes before them
            let batches = group_by_aspect(&[0, 2, 1], 2, |i| [a, b, 0.01][i]);
            assert_eq!(batches[0] == [0, 1], same, "{a} {b}");
        }
    }

    #[test]
    fn evaluation_shows_every_image_in_order_and_unchanged() {
        let dataset = dataset(&HEIGHTS, &[], &[]);
        let preprocess = Preprocess::torchvision().with_sizes(24, 48);
        let loader =
            DetectionLoader::evaluation(dataset.clone(), preprocess, LoaderOptions::default())
                .unwrap();
        let batches = all(&loader, 0, 0);
        assert_eq!(indices(&batches), (0..HEIGHTS.len()).collect::<Vec<_>>());
        let first = &batches[0].images[0];
        assert_eq!(first.image_id, 100);
        assert_eq!(first.image_size, ImageSize::new(20, 40));
        assert_eq!(first.input_size, ImageSize::new(24, 48));
        assert_eq!(first.labels, [0, 1]);
        let (x, y) = (48.0 / 40.0, 24.0 / 20.0);
        assert_eq!(
            first.boxes_in_input[1],
            BoxXyxy::new(5.0 * x, 2.0 * y, 15.0 * x, 12.0 * y)
        );
        assert_eq!(batches[0].shape, [2, 3, 32, 64]);
        assert_eq!(batches.last().unwrap().images.len(), 1);
        let alone = prepare(&dataset.load_image(0).unwrap(), &preprocess);
        assert_eq!(batches[0].pixels[..48], alone.pixels[..48]);
        assert_eq!(batches[0].pixels[48..64], [0.0; 16]);
    }

    #[test]
    fn a_bad_image_stops_the_epoch_with_its_name() {
        for (broken, panicking, expected) in [
            (&[4][..], &[][..], "painted/4.png: the JPEG is truncated"),
            (
                &[],
                &[7],
                "7.png: preparing this image panicked: decoder bug",
            ),
        ] {
            let loader = DetectionLoader::evaluation(
                dataset(&HEIGHTS, broken, panicking),
                Preprocess::torchvision().with_sizes(24, 48),
                LoaderOptions::default(),
            )
            .unwrap();
            let mut batches = loader.epoch(0, 0).unwrap();
            let error = batches.by_ref().find_map(Result::err).unwrap().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(batches.next().is_none());
        }
    }

    #[test]
    fn bad_images_can_be_skipped_and_are_listed() {
        let loader = DetectionLoader::evaluation(
            dataset(&HEIGHTS, &[2, 4, 5], &[7]),
            Preprocess::torchvision().with_sizes(24, 48),
            LoaderOptions {
                on_bad_image: OnBadImage::Skip,
                ..LoaderOptions::default()
            },
        )
        .unwrap();
        // images 4 and 5 are a whole batch, which vanishes
        let batches = all(&loader, 0, 0);
        assert_eq!(indices(&batches), [0, 1, 3, 6, 8, 9, 10]);
        assert_eq!(batches.len(), 5);
        let skipped = loader.skipped();
        assert_eq!(
            skipped.iter().map(|s| s.dataset_index).collect::<Vec<_>>(),
            [2, 4, 5, 7]
        );
        assert!(skipped[0].reason.contains("painted/2.png"));
    }

    #[test]
    fn threads_do_not_run_ahead_of_the_prefetch_limit_and_stop_when_dropped() {
        let store = store(&[20; 40]);
        let loads = Arc::<AtomicUsize>::default();
        let painter = Painter {
            store: store.clone(),
            broken: Vec::new(),
            panicking: Vec::new(),
            loads: loads.clone(),
        };
        let loader = DetectionLoader::evaluation(
            Arc::new(DetectionDataset::new(store, painter)),
            Preprocess::torchvision().with_sizes(24, 48),
            LoaderOptions {
                batch_size: 2,
                threads: 3,
                prefetch: 3,
                ..LoaderOptions::default()
            },
        )
        .unwrap();
        let mut batches = loader.epoch(0, 0).unwrap();
        for taken in 1..=4 {
            batches.next().unwrap().unwrap();
            std::thread::sleep(Duration::from_millis(20));
            assert!(loads.load(Ordering::SeqCst) <= 2 * (taken + 3));
        }
        drop(batches);
        let after = loads.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(loads.load(Ordering::SeqCst), after);
        assert!(after < 40);
    }

    #[test]
    fn settings_that_make_no_sense_are_named() {
        let options = LoaderOptions {
            batch_size: 0,
            ..LoaderOptions::default()
        };
        assert_eq!(
            options.validate().unwrap_err().to_string(),
            "batch_size: must be at least 1"
        );
    }
}
