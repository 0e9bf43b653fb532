//! Batches of images with boxes.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rand::seq::SliceRandom;

use crate::DataError;
use crate::boxes::ImageSize;
use crate::datasets::detection::{DetectionDataset, FilterSummary, TargetFilter};
use crate::loading::batch::{BatchImage, DetectionBatch, UnpreparedImage, collate};
use crate::loading::epoch::{BatchRecipe, EpochBatches, Shard};
use crate::loading::transforms::preprocess::ratios;
use crate::loading::transforms::{Augmentation, Preprocess, Sample};
use crate::loading::{BadImages, LoaderOptions, Purpose, SkippedImage, random_numbers};

/// The selection of training images and their grouping into batches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainingImages {
    /// The filter of annotations and images.
    pub filter: TargetFilter,
    /// Whether to group images of similar aspect ratio into batches, which reduces padding.
    pub group_by_aspect: bool,
}

impl Default for TrainingImages {
    fn default() -> Self {
        Self {
            filter: TargetFilter::default(),
            group_by_aspect: true,
        }
    }
}

impl TrainingImages {
    fn validate(&self) -> Result<(), DataError> {
        if !self.filter.min_side.is_finite() || self.filter.min_side < 0.0 {
            return Err(DataError::Setting {
                setting: "filter.min_side",
                problem: format!("{} is not 0 or more", self.filter.min_side),
            });
        }
        Ok(())
    }
}

/// Loader of a detection dataset: prepares its batches, epoch by epoch.
#[derive(Debug)]
pub struct DetectionLoader {
    recipe: Arc<Recipe>,
    /// Positions in the dataset, ascending.
    images: Vec<usize>,
    filtered: FilterSummary,
}

impl DetectionLoader {
    /// Creates a loader for training: filtered, shuffled, grouped and augmented.
    ///
    /// # Errors
    /// A setting is invalid, or the filter leaves no image.
    pub fn training(
        dataset: Arc<DetectionDataset>,
        preprocess: Preprocess,
        augmentation: Augmentation,
        training: TrainingImages,
        options: LoaderOptions,
    ) -> Result<Self, DataError> {
        augmentation.validate()?;
        training.validate()?;
        let (images, filtered) = dataset.training_images(training.filter)?;
        Self::new(
            dataset,
            preprocess,
            Some((augmentation, training)),
            options,
            images,
            filtered,
        )
    }

    /// Creates a loader for evaluation: all images in the order of the dataset, without randomness. The
    /// seed is not used.
    ///
    /// # Errors
    /// A setting is invalid.
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
        training: Option<(Augmentation, TrainingImages)>,
        options: LoaderOptions,
        images: Vec<usize>,
        filtered: FilterSummary,
    ) -> Result<Self, DataError> {
        options.validate()?;
        preprocess.validate()?;
        Ok(Self {
            images,
            filtered,
            recipe: Arc::new(Recipe {
                dataset,
                preprocess,
                training,
                bad: BadImages::new(options.on_bad_image),
                options,
            }),
        })
    }

    /// Returns the dataset.
    pub fn dataset(&self) -> &Arc<DetectionDataset> {
        &self.recipe.dataset
    }

    /// Returns the number of images in an epoch.
    pub fn images_per_epoch(&self) -> usize {
        self.images.len()
    }

    /// Returns the number of batches in an epoch, which is the same in every epoch.
    pub fn batches_per_epoch(&self) -> usize {
        self.images.len().div_ceil(self.recipe.options.batch_size)
    }

    /// Returns counts of what the filter removed; zero in evaluation.
    pub fn filtered(&self) -> FilterSummary {
        self.filtered
    }

    /// Returns the images skipped so far under
    /// [`OnBadImage::Skip`](crate::images::OnBadImage::Skip), without duplicates.
    pub fn skipped(&self) -> Vec<SkippedImage> {
        self.recipe.bad.list()
    }

    /// Returns the images (positions in the dataset) of each batch of an epoch.
    pub(crate) fn plan(&self, epoch: u64) -> Vec<Vec<usize>> {
        let options = &self.recipe.options;
        let mut order = self.images.clone();
        let training = self.recipe.training.as_ref();
        if training.is_some() {
            order.shuffle(&mut random_numbers(Purpose::Order, options.seed, epoch, 0));
        }
        if training.is_some_and(|(_, images)| images.group_by_aspect) {
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

    /// Starts the threads and returns the batches of an epoch from number `first_batch` on (0 for a
    /// whole epoch), identical to those of an uninterrupted epoch.
    ///
    /// # Errors
    /// `first_batch` is beyond the epoch's end, or no thread can be started.
    pub fn epoch(
        &self,
        epoch: u64,
        first_batch: usize,
    ) -> Result<EpochBatches<DetectionBatch>, DataError> {
        self.share_of_epoch(epoch, first_batch, Shard::WHOLE)
    }

    /// Returns the batches of an epoch that are of a share, from number `first_batch` on.
    ///
    /// # Errors
    /// See [`epoch`](Self::epoch).
    pub fn share_of_epoch(
        &self,
        epoch: u64,
        first_batch: usize,
        shard: Shard,
    ) -> Result<EpochBatches<DetectionBatch>, DataError> {
        let recipe = self.recipe.clone();
        EpochBatches::start(
            recipe,
            &self.recipe.options,
            epoch,
            self.plan(epoch),
            first_batch,
            shard,
        )
    }
}

/// Groups images as torchvision's `GroupedBatchSampler` with seven boundaries between aspect ratios
/// 1/2 and 2: images are added to the pending batch of their group, and a batch is complete when it
/// is full. At the end the incomplete batches are concatenated in the order of the groups, so that
/// every image is used exactly once and only the very last batch may be smaller.
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

/// The state that threads share to prepare a batch from its image indices.
#[derive(Debug)]
struct Recipe {
    dataset: Arc<DetectionDataset>,
    preprocess: Preprocess,
    /// None in evaluation.
    training: Option<(Augmentation, TrainingImages)>,
    options: LoaderOptions,
    bad: BadImages,
}

impl BatchRecipe for Recipe {
    type Batch = DetectionBatch;

    fn name(&self, index: usize) -> String {
        self.dataset.store().image(index).file_name.to_owned()
    }

    fn batch(
        &self,
        epoch: u64,
        _number: usize,
        images: &[usize],
        abandoned: &AtomicBool,
    ) -> Result<Option<DetectionBatch>, DataError> {
        let prepared = self.bad.prepare_each(
            images,
            abandoned,
            |index| self.name(index),
            |index| self.image(epoch, index),
        )?;
        Ok(prepared.map(|images| collate(images, self.preprocess.size_divisor)))
    }
}

impl Recipe {
    fn image(&self, epoch: u64, index: usize) -> Result<UnpreparedImage, DataError> {
        let image = self.dataset.load_image(index)?;
        let filter = self
            .training
            .as_ref()
            .map_or_else(TargetFilter::default, |(_, training)| training.filter);
        let (boxes_in_image, labels) = self.dataset.targets(index, filter.min_side);
        let sample = Sample {
            image,
            boxes_in_image,
            labels,
        };
        let (sample, preprocess) = match &self.training {
            None => (sample, self.preprocess),
            Some((augmentation, _)) => {
                let mut rng = random_numbers(
                    Purpose::Augmentation,
                    self.options.seed,
                    epoch,
                    index as u64,
                );
                augmentation.apply(sample, &self.preprocess, filter.min_side, &mut rng)
            }
        };
        let size = sample.image.dimensions();
        let image_size = ImageSize::new(size.1 as usize, size.0 as usize);
        let input_size = preprocess.input_size(image_size);
        let (x, y) = ratios(image_size, input_size);
        let annotated = self.dataset.store().image(index);
        let info = BatchImage {
            dataset_index: index,
            image_id: annotated.id,
            file_name: annotated.file_name.to_owned(),
            image_size,
            input_size,
            boxes_in_input: sample
                .boxes_in_image
                .iter()
                .map(|box_in_image| box_in_image.scale(x, y))
                .collect(),
            labels: sample.labels,
        };
        Ok(UnpreparedImage {
            image: sample.image,
            preprocess,
            info,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::{AnnotationStore, AnnotationStoreBuilder, NewAnnotation};
    use crate::boxes::BoxXyxy;
    use crate::images::decode::DecodeError;
    use crate::images::{ImageSource, JpegDamage, OnBadImage};
    use image::RgbImage;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    /// A source of generated images, some of which fail.
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
                    damage: JpegDamage::NoEndMarker,
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

    /// Creates a dataset whose image `i` is 40 wide and `heights[i]` high, with two boxes.
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
            TrainingImages::default(),
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
        // The shares of two processes for steps of three batches are the epoch, also from its second step on.
        let share = |rank, first| {
            let shard = Shard {
                rank,
                size: 2,
                group: 3,
            };
            let batches = loader.share_of_epoch(2, first, shard).unwrap();
            batches.collect::<Result<Vec<_>, _>>().unwrap()
        };
        let of =
            |numbers: &[usize]| -> Vec<_> { numbers.iter().map(|at| whole[*at].clone()).collect() };
        assert_eq!(share(0, 0), of(&[0, 2, 3, 5]));
        assert_eq!(share(1, 0), of(&[1, 4]));
        assert_eq!(share(0, 3), of(&[3, 5]));
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
    fn images_of_one_shape_share_a_batch_and_leftovers_join_their_neighbors() {
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
        let alone =
            crate::loading::transforms::prepare(&dataset.load_image(0).unwrap(), &preprocess);
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
        // images 4 and 5 form a batch, which is dropped entirely
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
    fn invalid_settings_are_named() {
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
