//! Batches of images with one class each.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rand::seq::SliceRandom;

use crate::DataError;
use crate::datasets::labeled::LabeledDataset;
use crate::loading::batch::pad_images;
use crate::loading::epoch::{BatchRecipe, EpochBatches, Shard};
use crate::loading::transforms::classify::{LabeledAugmentation, SoftLabel};
use crate::loading::transforms::{
    PreparedImage, Preprocess, normalize, prepare, prepare_ten_crops,
};
use crate::loading::{BadImages, LoaderOptions, Purpose, SkippedImage, random_numbers};

/// A training batch for a classifier.
#[derive(Debug, Clone, PartialEq)]
pub struct LabeledBatch {
    /// `[batch, 3, height, width]`, normalized.
    pub pixels: Vec<f32>,
    /// The shape, `[batch, 3, height, width]`.
    pub shape: [usize; 4],
    /// The labels, in the order of the batch.
    pub labels: Vec<SoftLabel>,
    /// Path or description of each image, for messages.
    pub names: Vec<String>,
}

/// Loader of a classification dataset: prepares its training batches, epoch by epoch.
#[derive(Debug)]
pub struct LabeledLoader {
    recipe: Arc<Recipe>,
}

#[derive(Debug)]
struct Recipe {
    dataset: Arc<LabeledDataset>,
    preprocess: Preprocess,
    augmentation: LabeledAugmentation,
    options: LoaderOptions,
    bad: BadImages,
}

impl LabeledLoader {
    /// Creates a loader for training: shuffled and augmented.
    ///
    /// # Errors
    /// A setting is invalid.
    pub fn training(
        dataset: Arc<LabeledDataset>,
        preprocess: Preprocess,
        augmentation: LabeledAugmentation,
        options: LoaderOptions,
    ) -> Result<Self, DataError> {
        options.validate()?;
        preprocess.validate()?;
        augmentation.validate()?;
        Ok(Self {
            recipe: Arc::new(Recipe {
                dataset,
                preprocess,
                augmentation,
                bad: BadImages::new(options.on_bad_image),
                options,
            }),
        })
    }

    /// Returns the dataset.
    pub fn dataset(&self) -> &Arc<LabeledDataset> {
        &self.recipe.dataset
    }

    /// Returns the number of batches in an epoch.
    pub fn batches_per_epoch(&self) -> usize {
        let batch_size = self.recipe.options.batch_size;
        self.recipe.dataset.len().div_ceil(batch_size)
    }

    /// Returns the images skipped so far under
    /// [`OnBadImage::Skip`](crate::images::OnBadImage::Skip), without duplicates.
    pub fn skipped(&self) -> Vec<SkippedImage> {
        self.recipe.bad.list()
    }

    /// Returns the batches of an epoch from number `first_batch` on; they are identical to those of
    /// an uninterrupted epoch.
    ///
    /// # Errors
    /// `first_batch` is beyond the epoch's end, or no thread can be started.
    pub fn epoch(
        &self,
        epoch: u64,
        first_batch: usize,
    ) -> Result<EpochBatches<LabeledBatch>, DataError> {
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
    ) -> Result<EpochBatches<LabeledBatch>, DataError> {
        let options = &self.recipe.options;
        let mut order: Vec<usize> = (0..self.recipe.dataset.len()).collect();
        order.shuffle(&mut random_numbers(Purpose::Order, options.seed, epoch, 0));
        let plan = in_batches(&order, options.batch_size);
        EpochBatches::start(
            self.recipe.clone(),
            options,
            epoch,
            plan,
            first_batch,
            shard,
        )
    }
}

fn in_batches(order: &[usize], batch_size: usize) -> Vec<Vec<usize>> {
    order.chunks(batch_size).map(<[usize]>::to_vec).collect()
}

impl BatchRecipe for Recipe {
    type Batch = LabeledBatch;

    fn name(&self, index: usize) -> String {
        self.dataset.describe(index)
    }

    fn batch(
        &self,
        epoch: u64,
        number: usize,
        images: &[usize],
        abandoned: &AtomicBool,
    ) -> Result<Option<LabeledBatch>, DataError> {
        let prepared = self.bad.prepare_each(
            images,
            abandoned,
            |index| self.name(index),
            |index| Ok((index, self.image(epoch, index)?)),
        )?;
        Ok(prepared.map(|images| self.join(epoch, number, images)))
    }
}

impl Recipe {
    fn image(&self, epoch: u64, index: usize) -> Result<PreparedImage, DataError> {
        let image = self.dataset.load_image(index)?;
        let seed = self.options.seed;
        let mut rng = random_numbers(Purpose::Augmentation, seed, epoch, index as u64);
        let image = self.augmentation.apply(image, &self.preprocess, &mut rng);
        Ok(normalize(&image, &self.preprocess))
    }

    fn join(&self, epoch: u64, number: usize, images: Vec<(usize, PreparedImage)>) -> LabeledBatch {
        let (indices, prepared): (Vec<usize>, Vec<PreparedImage>) = images.into_iter().unzip();
        let (mut pixels, shape) = pad_images(&prepared, 1);
        let labels: Vec<usize> = indices.iter().map(|&i| self.dataset.label(i)).collect();
        let seed = self.options.seed;
        let mut rng = random_numbers(Purpose::Mixing, seed, epoch, number as u64);
        let labels = self.augmentation.mix(&mut pixels, shape, &labels, &mut rng);
        LabeledBatch {
            pixels,
            shape,
            labels,
            names: indices.into_iter().map(|i| self.name(i)).collect(),
        }
    }
}

/// The views of an image with which a classifier is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Views {
    /// The whole image or its center, as configured in the preprocessing.
    #[default]
    One,
    /// Ten crops: four corners, the center, and their mirror images (AlexNet's test).
    TenCrops,
}

/// The views of an image for the evaluation of a classifier.
#[derive(Debug, Clone, PartialEq)]
pub struct LabeledViews {
    /// Position in the dataset.
    pub index: usize,
    /// The label.
    pub label: usize,
    /// The views: one, or ten of the same size.
    pub views: Vec<PreparedImage>,
}

#[derive(Debug)]
struct ViewsRecipe {
    dataset: Arc<LabeledDataset>,
    preprocess: Preprocess,
    views: Views,
    bad: BadImages,
}

/// The batches of [`evaluation_batches`].
#[derive(Debug)]
pub struct EvaluationBatches {
    recipe: Arc<ViewsRecipe>,
    batches: EpochBatches<Vec<LabeledViews>>,
}

impl EvaluationBatches {
    /// Returns the images skipped so far under [`OnBadImage::Skip`](crate::images::OnBadImage::Skip).
    pub fn skipped(&self) -> Vec<SkippedImage> {
        self.recipe.bad.list()
    }
}

impl EvaluationBatches {
    /// Returns the next batch, or `None` in its place if all its images were skipped.
    pub fn next_or_skipped(&mut self) -> Option<Result<Option<Vec<LabeledViews>>, DataError>> {
        self.batches.next_or_skipped()
    }
}

impl Iterator for EvaluationBatches {
    type Item = Result<Vec<LabeledViews>, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batches.next()
    }
}

/// Returns the images of a dataset in order, prepared for evaluation, in batches; those of a share.
///
/// # Errors
/// A setting is invalid, or no thread can be started. (The seed of the options is not used.)
pub fn evaluation_batches(
    dataset: Arc<LabeledDataset>,
    preprocess: Preprocess,
    views: Views,
    options: &LoaderOptions,
    shard: Shard,
) -> Result<EvaluationBatches, DataError> {
    options.validate()?;
    preprocess.validate()?;
    let order: Vec<usize> = (0..dataset.len()).collect();
    let plan = in_batches(&order, options.batch_size);
    let recipe = Arc::new(ViewsRecipe {
        dataset,
        preprocess,
        views,
        bad: BadImages::new(options.on_bad_image),
    });
    Ok(EvaluationBatches {
        batches: EpochBatches::start(recipe.clone(), options, 0, plan, 0, shard)?,
        recipe,
    })
}

impl BatchRecipe for ViewsRecipe {
    type Batch = Vec<LabeledViews>;

    fn name(&self, index: usize) -> String {
        self.dataset.describe(index)
    }

    fn batch(
        &self,
        _epoch: u64,
        _number: usize,
        images: &[usize],
        abandoned: &AtomicBool,
    ) -> Result<Option<Vec<LabeledViews>>, DataError> {
        let prepare = |index| {
            let image = self.dataset.load_image(index)?;
            Ok(LabeledViews {
                index,
                label: self.dataset.label(index),
                views: match self.views {
                    Views::One => vec![prepare(&image, &self.preprocess)],
                    Views::TenCrops => prepare_ten_crops(&image, &self.preprocess)?,
                },
            })
        };
        let name = |index| self.name(index);
        self.bad.prepare_each(images, abandoned, name, prepare)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::decode::DecodeError;
    use crate::images::{ImageSource, JpegDamage, OnBadImage};
    use crate::loading::transforms::classify::TrainCrop;
    use image::RgbImage;

    /// A source of images in which every pixel is the image's index; one image is damaged.
    struct Numbers {
        broken: Option<usize>,
    }

    impl ImageSource for Numbers {
        fn load(&self, index: usize) -> Result<RgbImage, DataError> {
            if self.broken == Some(index) {
                return Err(DecodeError::Truncated {
                    path: self.describe(index).into(),
                    damage: JpegDamage::NoEndMarker,
                }
                .into());
            }
            Ok(RgbImage::from_pixel(9, 7, image::Rgb([index as u8; 3])))
        }

        fn describe(&self, index: usize) -> String {
            format!("number {index}")
        }
    }

    fn dataset(count: u32, broken: Option<usize>) -> Arc<LabeledDataset> {
        let names = ["even", "odd"].map(str::to_string).to_vec();
        let labels = (0..count).map(|i| i % 2).collect();
        let source = Numbers { broken };
        Arc::new(LabeledDataset::new("numbers", names, labels, source).unwrap())
    }

    fn preprocess() -> Preprocess {
        Preprocess {
            scale: 1.0,
            mean: [0.0; 3],
            std: [1.0; 3],
            min_size: 6,
            center_crop: Some(4),
            ..Preprocess::imagenet_eval()
        }
    }

    fn loader(options: LoaderOptions) -> LabeledLoader {
        let augmentation = LabeledAugmentation {
            crop: TrainCrop::Padded { padding: 2 },
            horizontal_flip: 0.5,
            mixup: 0.4,
            ..LabeledAugmentation::default()
        };
        LabeledLoader::training(dataset(11, None), preprocess(), augmentation, options).unwrap()
    }

    fn all(loader: &LabeledLoader, epoch: u64, first: usize) -> Vec<LabeledBatch> {
        let batches = loader.epoch(epoch, first).unwrap();
        batches.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn threads_change_nothing_and_resuming_gives_the_tail() {
        let with = |threads, prefetch| {
            let options = LoaderOptions {
                batch_size: 3,
                threads,
                prefetch,
                seed: 5,
                ..LoaderOptions::default()
            };
            loader(options)
        };
        let whole = all(&with(1, 1), 2, 0);
        assert_eq!(whole.len(), 4);
        assert_eq!(whole[0].shape, [3, 3, 4, 4]);
        assert_eq!(all(&with(4, 8), 2, 0), whole);
        assert_eq!(all(&with(2, 2), 2, 2), whole[2..]);
        assert_ne!(all(&with(1, 1), 3, 0), whole, "another epoch");
        let message = with(1, 1).epoch(0, 9).unwrap_err().to_string();
        assert!(message.contains("beyond the 4 batches"), "{message}");
    }

    #[test]
    fn an_epoch_shows_every_image_once_with_its_label() {
        let batches = all(&loader(LoaderOptions::default()), 0, 0);
        let mut seen: Vec<usize> = Vec::new();
        for batch in &batches {
            for (name, label) in batch.names.iter().zip(&batch.labels) {
                let index: usize = name.trim_start_matches("number ").parse().unwrap();
                assert_eq!(label.label, index % 2);
                seen.push(index);
            }
        }
        assert_ne!(seen, (0..11).collect::<Vec<_>>(), "shuffled");
        seen.sort();
        assert_eq!(seen, (0..11).collect::<Vec<_>>());
    }

    #[test]
    fn evaluation_goes_through_all_images_in_order() {
        let options = LoaderOptions {
            batch_size: 4,
            ..LoaderOptions::default()
        };
        let batches = |views| {
            let dataset = dataset(10, None);
            let batches =
                evaluation_batches(dataset, preprocess(), views, &options, Shard::WHOLE).unwrap();
            batches.collect::<Result<Vec<_>, _>>().unwrap().concat()
        };
        let images = batches(Views::One);
        assert_eq!(images.len(), 10);
        for (index, image) in images.iter().enumerate() {
            assert_eq!((image.index, image.label), (index, index % 2));
            assert_eq!(image.views.len(), 1);
            assert_eq!(image.views[0].pixels, [index as f32; 48]);
        }
        assert_eq!(batches(Views::TenCrops)[3].views.len(), 10);
    }

    #[test]
    fn a_broken_image_stops_the_epoch_or_is_skipped_and_listed() {
        let with = |on_bad_image| {
            let options = LoaderOptions {
                batch_size: 4,
                on_bad_image,
                ..LoaderOptions::default()
            };
            LabeledLoader::training(
                dataset(10, Some(6)),
                preprocess(),
                LabeledAugmentation::default(),
                options,
            )
            .unwrap()
        };
        let strict = with(OnBadImage::Error);
        let error = strict.epoch(0, 0).unwrap().find_map(Result::err).unwrap();
        assert!(error.to_string().contains("number 6"), "{error}");
        let tolerant = with(OnBadImage::Skip);
        let images: usize = all(&tolerant, 0, 0).iter().map(|b| b.labels.len()).sum();
        assert_eq!(images, 9);
        assert_eq!(tolerant.skipped()[0].dataset_index, 6);
    }
}
