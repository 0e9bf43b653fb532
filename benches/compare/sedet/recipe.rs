//! Training steps of the quick start, starting from image files.

use anyhow::{Context as _, ensure};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use sedet::annotations::layout::Split;
use sedet::config::{DetectionConfig, Recipe as _};
use sedet::datasets::detection::TargetFilter;
use sedet::datasets::registry::DatasetName;
use sedet::detection::sampler::SampleOrder;
use sedet::detection::{ImageBatch, Target};
use sedet::loading::{DetectionLoader, LoaderOptions, TrainingImages};
use sedet::model::to_device;
use sedet::train::ema::Ema;
use sedet::train::optimizer::{Optimizer, average_and_clip};
use serde_json::Value;

use crate::arguments::Arguments;
use crate::measure::timed;
use crate::network::detector_for_training;
use crate::training::write_checked_losses;

/// Decode, flip, resize, normalize, forward, backward, clip, AdamW, average: `configs/detection/shapes.toml`.
pub fn steps(arguments: &Arguments) -> anyhow::Result<Value> {
    let recipe = DetectionConfig::load("shapes", &[])?;
    let directory = DatasetName::Directory(arguments.data()?.to_path_buf());
    let dataset = directory.open_split(Split::Train, None)?.dataset;
    let detector = recipe.detector(dataset.store().class_count(), false)?;
    let loader = DetectionLoader::training(
        dataset,
        recipe.preprocess(),
        recipe.augment.clone(),
        TrainingImages {
            filter: TargetFilter {
                keep_empty: recipe.loader.keep_empty,
                ..TargetFilter::default()
            },
            // The reference's batches are not grouped: the same padding on both sides.
            group_by_aspect: false,
        },
        LoaderOptions {
            batch_size: recipe.loader.batch_size,
            threads: recipe.loader.threads,
            prefetch: 2 * recipe.loader.threads,
            ..LoaderOptions::default()
        },
    )?;
    let device = Device::flex().autodiff();
    let mut model = detector_for_training(arguments.weights()?, |_| detector.clone())?;
    let config = &recipe.train;
    let mut optimizer = Optimizer::of(config);
    let mut average = Ema::new(config.ema_decay.context("the recipe has no average")?);
    let mut epoch = 0;
    let mut batches = loader.epoch(epoch, 0)?;
    let found = timed(arguments, |index| {
        let batch = match batches.next() {
            Some(batch) => batch?,
            None => {
                epoch += 1;
                batches = loader.epoch(epoch, 0)?;
                batches.next().context("the scenes are empty")??
            }
        };
        let targets: Vec<Target> = batch
            .images
            .iter()
            .map(|image| Target {
                boxes_in_input: image.boxes_in_input.clone(),
                labels: image.labels.clone(),
            })
            .collect();
        let input_sizes = batch.images.iter().map(|image| image.input_size).collect();
        let pixels = Tensor::from_inner(to_device(batch.pixels, batch.shape, &device));
        let losses = model.losses(
            ImageBatch {
                pixels,
                input_sizes,
            },
            &targets,
            &mut SampleOrder::shuffled(index as u64),
        );
        let total = losses.total();
        let value: f32 = total.clone().into_scalar();
        ensure!(value.is_finite(), "the loss is not finite");
        let gradients = GradientsParams::from_grads(total.backward(), &model);
        let (_, gradients) = average_and_clip(&model, gradients, 1, config.clip_norm);
        // The warm-up of the first hundred steps, as on the reference's side.
        let learning_rate = config.learning_rate * (0.01 + 0.99 * (index as f64 / 100.0).min(1.0));
        model = optimizer.step(model.clone(), gradients, learning_rate);
        average.update(&model);
        Ok(())
    })?;
    drop((model, optimizer, average));
    write_checked_losses(arguments, |_| detector)?;
    Ok(found)
}
