//! Seeded batches from several threads.
//!
//! The order of an epoch and every random change of an image are pure functions of (seed, epoch,
//! image): batches come out the same whatever the number of threads, and an epoch can be entered
//! at any batch, which is what resuming needs.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::dataset::{DetectionDataset, SampleError};
use super::preprocess::{Prepared, Preprocess, box_to_input};
use super::transforms::{AugmentConfig, Sample};
use crate::boxes::{BoxXyxy, ImageSize};

/// What happens to an image that can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum OnBadImage {
    /// Stop, naming it.
    #[default]
    Error,
    /// Leave it out of its batch and count it.
    Skip,
}

/// How a training set is turned into batches.
#[derive(Debug, Clone, PartialEq)]
pub struct LoaderConfig {
    /// Images per batch.
    pub batch_size: usize,
    /// Worker threads, at least one.
    pub threads: usize,
    /// Seed of order and augmentation.
    pub seed: u64,
    /// What may happen to an image.
    pub augment: AugmentConfig,
    /// What happens to every image.
    pub preprocess: Preprocess,
    /// Train on images without boxes too; the reference recipes leave them out.
    pub keep_empty: bool,
    /// Missing, damaged or mismatched files.
    pub on_bad_image: OnBadImage,
}

/// One image of a batch, without its pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchImage {
    /// Index in the data set.
    pub dataset_index: usize,
    /// Original id.
    pub image_id: u64,
    /// Name.
    pub file_name: String,
    /// Size after augmentation, before resizing.
    pub image_size: ImageSize,
    /// Size in the batch, without padding.
    pub input_size: ImageSize,
    /// Ground truth.
    pub boxes_in_input: Vec<BoxXyxy>,
    /// One contiguous label a box.
    pub labels: Vec<usize>,
}

/// Images padded to one size.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectionBatch {
    /// `[batch, 3, height, width]`, zeros at the right and the bottom.
    pub pixels: Vec<f32>,
    /// The four dimensions of `pixels`.
    pub shape: [usize; 4],
    /// The images in order.
    pub images: Vec<BatchImage>,
}

impl DetectionBatch {
    /// Pad and stack, as torchvision's `batch_images`.
    pub fn collate(parts: Vec<(Prepared, BatchImage)>, size_divisor: usize) -> Self {
        let padded = |side: fn(&ImageSize) -> usize| {
            let most = parts.iter().map(|(p, _)| side(&p.input_size)).max();
            most.unwrap_or(1).next_multiple_of(size_divisor)
        };
        let (height, width) = (padded(|s| s.height), padded(|s| s.width));
        let shape = [parts.len(), 3, height, width];
        let mut pixels = vec![0.0; shape.iter().product()];
        let planes = pixels.chunks_exact_mut(height * width);
        let sources = parts.iter().flat_map(|(p, _)| {
            let area = p.input_size.height * p.input_size.width;
            p.pixels
                .chunks_exact(area)
                .map(|plane| (plane, p.input_size.width))
        });
        for (target, (plane, plane_width)) in planes.zip(sources) {
            for (row, line) in plane.chunks_exact(plane_width).enumerate() {
                target[row * width..row * width + plane_width].copy_from_slice(line);
            }
        }
        Self {
            pixels,
            shape,
            images: parts.into_iter().map(|(_, image)| image).collect(),
        }
    }
}

/// An image that stopped the loader, or the loader itself stopping.
#[derive(Debug, thiserror::Error)]
pub enum LoaderError {
    /// Which image and why.
    #[error("image {image_id} ({file_name}): {source}")]
    Sample {
        /// Original id.
        image_id: u64,
        /// Name.
        file_name: String,
        /// Why.
        source: SampleError,
    },
    /// A worker thread ended without a result.
    #[error("a loader thread stopped unexpectedly while preparing batch {batch}")]
    WorkerLost {
        /// Which batch was due.
        batch: usize,
    },
}

/// A training set with the decisions that don't change between epochs.
#[derive(Debug, Clone)]
pub struct TrainLoader {
    dataset: DetectionDataset,
    config: LoaderConfig,
    /// Images that are trained on.
    usable: Vec<usize>,
    skipped: Arc<AtomicUsize>,
}

/// Boxes must be wider and higher than this to be trained on, in image pixels (torchvision's
/// `_has_only_empty_bbox` uses the same figure).
const MIN_BOX_SIDE: f32 = 1.0;

/// Crowds out, cut to the image, nothing thinner than a pixel.
fn training_boxes(dataset: &DetectionDataset, index: usize) -> (Vec<BoxXyxy>, Vec<usize>) {
    let size = dataset.store.image_size(index);
    dataset
        .store
        .annotations(index)
        .filter(|a| !a.iscrowd)
        .map(|a| (a.box_in_image.clip(size), a.label))
        .filter(|(b, _)| b.width() > MIN_BOX_SIDE && b.height() > MIN_BOX_SIDE)
        .unzip()
}

impl TrainLoader {
    /// Filters the images once.
    pub fn new(dataset: DetectionDataset, config: LoaderConfig) -> Self {
        let usable = (0..dataset.store.len())
            .filter(|&i| config.keep_empty || !training_boxes(&dataset, i).0.is_empty())
            .collect();
        Self {
            dataset,
            config,
            usable,
            skipped: Arc::default(),
        }
    }

    /// Images an epoch.
    pub fn image_count(&self) -> usize {
        self.usable.len()
    }

    /// Batches an epoch; the last one may be smaller.
    pub fn batches_per_epoch(&self) -> usize {
        self.usable.len().div_ceil(self.config.batch_size)
    }

    /// Bad images left out so far.
    pub fn skipped(&self) -> usize {
        self.skipped.load(Ordering::Relaxed)
    }

    /// The batches of an epoch as image indices: shuffled, then grouped so that a batch holds
    /// images of like shape (torchvision's `GroupedBatchSampler`, bins at aspect ratios 1/2 .. 2
    /// with 2^(1/3) between them), which keeps padding small. Every image comes once.
    pub fn plan(&self, epoch: usize) -> Vec<Vec<usize>> {
        let mut order = self.usable.clone();
        order.shuffle(&mut self.rng(epoch, u64::MAX));
        let mut waiting: HashMap<i32, Vec<usize>> = HashMap::new();
        let mut batches = Vec::new();
        for index in order {
            let size = self.dataset.store.image_size(index);
            let ratio = size.width as f64 / size.height as f64;
            let bin = (ratio.log2().clamp(-1.0, 1.0) * 3.0).floor() as i32;
            let group = waiting.entry(bin).or_default();
            group.push(index);
            if group.len() == self.config.batch_size {
                batches.push(std::mem::take(group));
            }
        }
        // What is left is merged with the nearest shapes, in the order of the bins.
        let mut left: Vec<_> = waiting.into_iter().collect();
        left.sort_unstable_by_key(|(bin, _)| *bin);
        let left: Vec<usize> = left.into_iter().flat_map(|(_, group)| group).collect();
        batches.extend(left.chunks(self.config.batch_size).map(<[usize]>::to_vec));
        // A smaller batch somewhere in the middle would be fine, but the leftovers are alike:
        // shuffle so that an epoch does not always end on odd shapes.
        batches.shuffle(&mut self.rng(epoch, u64::MAX - 1));
        batches
    }

    /// The batches of an epoch from `first_batch` on, prepared ahead by the worker threads.
    pub fn epoch(&self, epoch: usize, first_batch: usize) -> EpochBatches {
        let plan: Arc<Vec<_>> = Arc::new(self.plan(epoch));
        let total = plan.len();
        let next = Arc::new(AtomicUsize::new(first_batch));
        let stop = Arc::new(AtomicBool::new(false));
        let threads = self.config.threads.max(1);
        // At most one batch in each thread's hands and one a thread in the channel.
        let (sender, receiver) = sync_channel(threads);
        let workers = (0..threads)
            .map(|_| {
                let worker = Worker {
                    loader: self.clone(),
                    plan: plan.clone(),
                    epoch,
                    next: next.clone(),
                    stop: stop.clone(),
                    sender: sender.clone(),
                };
                std::thread::spawn(move || worker.run())
            })
            .collect();
        EpochBatches {
            receiver: Some(receiver),
            early: HashMap::new(),
            due: first_batch,
            total,
            stop,
            workers,
            waited: Duration::ZERO,
        }
    }

    fn rng(&self, epoch: usize, stream: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(
            self.config
                .seed
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                .wrapping_add(epoch as u64),
        );
        rng.set_stream(stream);
        rng
    }

    fn batch(&self, epoch: usize, indices: &[usize]) -> Result<DetectionBatch, LoaderError> {
        let mut preprocess = self.config.preprocess.clone();
        // One size for the whole batch (as detectron2's choice per image would only add padding).
        let first = indices.first().copied().unwrap_or(0) as u64;
        if let Some(size) = self
            .config
            .augment
            .min_sizes
            .choose(&mut self.rng(epoch, first | 1 << 62))
        {
            preprocess.min_size = *size;
        }
        let mut parts = Vec::with_capacity(indices.len());
        for &index in indices {
            let image = match self.dataset.load(index) {
                Ok(image) => image,
                Err(source) => match self.config.on_bad_image {
                    OnBadImage::Skip => {
                        self.skipped.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    OnBadImage::Error => {
                        return Err(LoaderError::Sample {
                            image_id: self.dataset.store.image_id(index),
                            file_name: self.dataset.store.file_name(index).to_string(),
                            source,
                        });
                    }
                },
            };
            let (boxes_in_image, labels) = training_boxes(&self.dataset, index);
            let sample = Sample {
                image,
                boxes_in_image,
                labels,
            };
            let sample = self
                .config
                .augment
                .apply(sample, &mut self.rng(epoch, index as u64));
            let prepared = preprocess.prepare(&sample.image);
            let (from, to) = (prepared.image_size, prepared.input_size);
            let image = BatchImage {
                dataset_index: index,
                image_id: self.dataset.store.image_id(index),
                file_name: self.dataset.store.file_name(index).to_string(),
                image_size: from,
                input_size: to,
                boxes_in_input: sample
                    .boxes_in_image
                    .iter()
                    .map(|b| box_to_input(*b, from, to))
                    .collect(),
                labels: sample.labels,
            };
            parts.push((prepared, image));
        }
        Ok(DetectionBatch::collate(parts, preprocess.size_divisor))
    }
}

struct Worker {
    loader: TrainLoader,
    plan: Arc<Vec<Vec<usize>>>,
    epoch: usize,
    next: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    sender: SyncSender<(usize, Result<DetectionBatch, LoaderError>)>,
}

impl Worker {
    fn run(self) {
        while !self.stop.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(indices) = self.plan.get(number) else {
                return;
            };
            let batch = self.loader.batch(self.epoch, indices);
            if self.sender.send((number, batch)).is_err() {
                return;
            }
        }
    }
}

/// The batches of one epoch, in order. Dropping it stops the threads.
#[derive(Debug)]
pub struct EpochBatches {
    receiver: Option<Receiver<(usize, Result<DetectionBatch, LoaderError>)>>,
    early: HashMap<usize, Result<DetectionBatch, LoaderError>>,
    due: usize,
    total: usize,
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
    waited: Duration,
}

impl EpochBatches {
    /// Time that [`next`](Iterator::next) spent waiting for the threads.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl Iterator for EpochBatches {
    type Item = Result<DetectionBatch, LoaderError>;

    fn next(&mut self) -> Option<Self::Item> {
        // A batch whose images were all skipped is empty: on to the next.
        while self.due < self.total {
            let start = Instant::now();
            let batch = loop {
                if let Some(batch) = self.early.remove(&self.due) {
                    break batch;
                }
                match self.receiver.as_ref().map(Receiver::recv) {
                    Some(Ok((number, batch))) => {
                        self.early.insert(number, batch);
                    }
                    _ => break Err(LoaderError::WorkerLost { batch: self.due }),
                }
            };
            self.waited += start.elapsed();
            self.due += 1;
            match batch {
                Ok(batch) if batch.images.is_empty() => {}
                Err(error) => {
                    self.due = self.total;
                    return Some(Err(error));
                }
                ready => return Some(ready),
            }
        }
        None
    }
}

impl Drop for EpochBatches {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.receiver = None;
        for worker in self.workers.drain(..) {
            // A panicked worker has already shown up as a lost batch.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::annotations::{Annotation, AnnotationStore, Category, ImageRecord};
    use crate::data::dataset::ImageSource;
    use image::{Rgb, RgbImage};
    use std::path::PathBuf;

    struct Plain(Arc<AnnotationStore>);

    impl ImageSource for Plain {
        fn load(&self, index: usize) -> Result<RgbImage, SampleError> {
            if self.0.file_name(index) == "gone.png" {
                return Err(SampleError::Decode(
                    crate::data::decode::DecodeError::Truncated {
                        path: "gone.png".into(),
                    },
                ));
            }
            let size = self.0.image_size(index);
            Ok(RgbImage::from_fn(
                size.width as u32,
                size.height as u32,
                |x, y| Rgb([(x + index as u32) as u8, y as u8, 7]),
            ))
        }
    }

    fn dataset(images: usize, bad: Option<usize>) -> DetectionDataset {
        let categories = vec![Category {
            id: 4,
            name: "thing".into(),
        }];
        let mut store = AnnotationStore::new(PathBuf::from("test.json"), categories);
        for i in 0..images {
            let size = if i % 3 == 0 {
                ImageSize::new(60, 40)
            } else {
                ImageSize::new(40, 60)
            };
            let thing = |x: f32, iscrowd| Annotation {
                box_in_image: BoxXyxy::from_xywh([x, 5.0, 20.0, 18.0]),
                label: 0,
                iscrowd,
                area: 360.0,
            };
            let annotations = match i % 5 {
                4 => vec![thing(3.0, true)],
                _ => vec![thing(i as f32, false), thing(2.0, true)],
            };
            let file_name = if bad == Some(i) {
                "gone.png".to_string()
            } else {
                format!("{i}.png")
            };
            let record = ImageRecord {
                id: 1000 + i as u64,
                file_name,
                size,
            };
            store.push(&record, annotations);
        }
        let store = Arc::new(store);
        DetectionDataset {
            split: "train".into(),
            source: Arc::new(Plain(store.clone())),
            store,
        }
    }

    fn loader(threads: usize, bad: Option<usize>, on_bad_image: OnBadImage) -> TrainLoader {
        TrainLoader::new(
            dataset(23, bad),
            LoaderConfig {
                batch_size: 4,
                threads,
                seed: 11,
                augment: AugmentConfig {
                    horizontal_flip: 0.5,
                    crop: 0.5,
                    crop_min_side: 0.5,
                    min_sizes: vec![48, 64],
                    ..AugmentConfig::default()
                },
                preprocess: Preprocess {
                    min_size: 64,
                    max_size: 128,
                    ..Preprocess::torchvision()
                },
                keep_empty: false,
                on_bad_image,
            },
        )
    }

    fn epoch(loader: &TrainLoader, epoch: usize, first: usize) -> Vec<DetectionBatch> {
        loader.epoch(epoch, first).map(Result::unwrap).collect()
    }

    #[test]
    fn batches_do_not_depend_on_the_number_of_threads() {
        let one = epoch(&loader(1, None, OnBadImage::Error), 2, 0);
        assert_eq!(one, epoch(&loader(4, None, OnBadImage::Error), 2, 0));
        assert_ne!(one, epoch(&loader(1, None, OnBadImage::Error), 3, 0));
    }

    #[test]
    fn entering_an_epoch_later_gives_its_tail() {
        let whole = epoch(&loader(2, None, OnBadImage::Error), 0, 0);
        assert_eq!(whole[3..], epoch(&loader(2, None, OnBadImage::Error), 0, 3));
    }

    #[test]
    fn every_image_with_boxes_comes_once_and_crowds_teach_nothing() {
        let loader = loader(2, None, OnBadImage::Error);
        let batches = epoch(&loader, 0, 0);
        assert_eq!(batches.len(), loader.batches_per_epoch());
        let mut seen: Vec<_> = batches
            .iter()
            .flat_map(|b| b.images.iter().map(|i| i.dataset_index))
            .collect();
        seen.sort_unstable();
        let expected: Vec<_> = (0..23).filter(|i| i % 5 != 4).collect();
        assert_eq!(seen, expected);
        let boxes = batches.iter().flat_map(|b| &b.images);
        assert!(boxes.clone().all(|i| i.boxes_in_input.len() <= 1));
    }

    #[test]
    fn images_of_one_shape_share_a_batch() {
        let plan = loader(1, None, OnBadImage::Error).plan(0);
        let mixed = |batch: &Vec<usize>| {
            batch.iter().any(|i| i % 3 == 0) && batch.iter().any(|i| i % 3 != 0)
        };
        assert!(plan.iter().filter(|b| mixed(b)).count() <= 1, "{plan:?}");
    }

    #[test]
    fn a_bad_image_stops_with_its_name_or_is_counted() {
        let stopped = loader(2, Some(7), OnBadImage::Error);
        let error = stopped
            .epoch(0, 0)
            .find_map(Result::err)
            .unwrap()
            .to_string();
        assert!(
            error.contains("1007") && error.contains("gone.png"),
            "{error}"
        );
        let skipping = loader(2, Some(7), OnBadImage::Skip);
        let images: usize = epoch(&skipping, 0, 0).iter().map(|b| b.images.len()).sum();
        assert_eq!((images, skipping.skipped()), (18, 1));
    }

    #[test]
    fn padding_is_zero_and_a_multiple_of_the_divisor() {
        for batch in epoch(&loader(1, None, OnBadImage::Error), 0, 0) {
            let [_, _, height, width] = batch.shape;
            assert!(height % 32 == 0 && width % 32 == 0);
            for (image, planes) in batch
                .images
                .iter()
                .zip(batch.pixels.chunks(3 * height * width))
            {
                let size = image.input_size;
                if size.width < width {
                    assert_eq!(planes[size.width], 0.0);
                }
                if size.height < height {
                    assert_eq!(planes[size.height * width], 0.0);
                }
            }
        }
    }
}
