//! Networks with the weights of the reference, and inference with them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use burn::tensor::{Device, Tensor};
use sedet::boxes::ImageSize;
use sedet::classification::classifier::Classifier;
use sedet::detection::faster_rcnn::{FasterRcnn, FasterRcnnConfig};
use sedet::detection::rpn::proposals;
use sedet::detection::{Detection, ImageBatch};
use sedet::loading::decode::decode_image;
use sedet::loading::prefetch::{PrefetchLimits, with_prefetch};
use sedet::model::{Model, NetworkConfig};
use sedet::weights::load::{LoadedWeights, load_weights};
use sedet::weights::onnx::{OnnxOptions, to_onnx};
use sedet::weights::parameters::load_tensors;
use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::measure::timed;
use crate::tensors::{Inputs, Named, write};

/// Returns a classifier, folded for inference.
fn classifier_for_inference(arguments: &Arguments) -> anyhow::Result<Classifier> {
    let path = arguments.weights()?;
    let loaded = whole(path)?;
    let NetworkConfig::Classification(config) = &loaded.spec.network else {
        bail!("{}: not a classifier", path.display());
    };
    let model = config.init(&Device::flex());
    Ok(load_tensors(model, loaded.weights)?.folded(arguments.precision))
}

/// Returns a detector, folded for inference.
fn detector_for_inference(arguments: &Arguments) -> anyhow::Result<FasterRcnn> {
    let loaded = whole(arguments.weights()?)?;
    let model = detector_config(&loaded)?.init(&Device::flex());
    Ok(load_tensors(model, loaded.weights)?.folded(arguments.precision))
}

/// Returns a detector for training; `change` modifies the configuration of the file.
pub fn detector_for_training(
    path: &Path,
    change: impl FnOnce(FasterRcnnConfig) -> FasterRcnnConfig,
) -> anyhow::Result<FasterRcnn> {
    let loaded = whole(path)?;
    let config = change(detector_config(&loaded)?.clone());
    let model = config.init(&Device::flex().autodiff());
    Ok(load_tensors(model, loaded.weights)?)
}

/// Loads a file as `sedet weights import` does; it must contain every tensor of the network.
fn whole(path: &Path) -> anyhow::Result<LoadedWeights> {
    let loaded = load_weights(path, None)?;
    let missing = loaded.spec.missing.len();
    ensure!(
        missing == 0,
        "{}: {missing} tensors are missing",
        path.display()
    );
    Ok(loaded)
}

fn detector_config(loaded: &LoadedWeights) -> anyhow::Result<&FasterRcnnConfig> {
    match &loaded.spec.network {
        NetworkConfig::Detection(config) => Ok(config),
        NetworkConfig::Classification(_) => bail!("not a detector"),
    }
}

/// Writes the network as ONNX.
pub fn export(arguments: &Arguments) -> anyhow::Result<()> {
    let loaded = whole(arguments.weights()?)?;
    let model = to_onnx(&loaded.spec, &loaded.weights, OnnxOptions::default())?;
    let path = arguments.outputs.as_deref().context("--outputs")?;
    Ok(model.save(path)?)
}

/// Computes logits from pixels.
pub fn classify(arguments: &Arguments) -> anyhow::Result<Value> {
    let model = classifier_for_inference(arguments)?;
    let pixels = Inputs::open(arguments.inputs()?)?.pixels()?;
    let found = timed(arguments, |_| {
        model.forward(pixels.clone()).into_data();
        Ok(())
    })?;
    write(arguments.outputs.as_deref(), || {
        Ok(vec![Named::tensor("logits", model.forward(pixels))])
    })?;
    Ok(found)
}

/// Returns a batch whose images have no padding.
pub fn full_batch(pixels: Tensor<4>) -> ImageBatch {
    let [images, _, height, width] = pixels.dims();
    ImageBatch {
        pixels,
        input_sizes: vec![ImageSize::new(height, width); images],
    }
}

/// Computes detections from pixels.
pub fn detect(arguments: &Arguments) -> anyhow::Result<Value> {
    let model = detector_for_inference(arguments)?;
    let pixels = Inputs::open(arguments.inputs()?)?.pixels()?;
    let found = timed(arguments, |_| {
        model.detect(full_batch(pixels.clone()));
        Ok(())
    })?;
    write(arguments.outputs.as_deref(), || {
        Ok(detector_outputs(&model, pixels))
    })?;
    Ok(found)
}

/// Detects the objects in the images of a directory, from the files to boxes in the images. The next images are decoded
/// meanwhile, as by `sedet predict`.
pub fn predict(arguments: &Arguments) -> anyhow::Result<Value> {
    let path = arguments.weights()?;
    let model = Model::from_weights(whole(path)?, path, &Device::flex())?;
    let model = model.with_precision(arguments.precision);
    let files: Vec<PathBuf> = std::fs::read_dir(arguments.data()?)?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    let mut files: Vec<_> = files
        .into_iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "jpg"))
        .collect();
    ensure!(!files.is_empty(), "no images");
    files.sort();
    let load = |index: usize| decode_image(&files[index]);
    let mut found = timed(arguments, |_| {
        with_prefetch(
            files.len(),
            PrefetchLimits::AHEAD_OF_NETWORK,
            load,
            |images| {
                for image in images {
                    model.detect(&image?)?;
                }
                anyhow::Ok(())
            },
        )?
    })?;
    found["images"] = json!(files.len());
    write(arguments.outputs.as_deref(), || {
        let detections = model.detect(&decode_image(&files[0])?)?;
        let boxes: Vec<_> = detections.iter().map(|d| d.box_in_image).collect();
        let scores = detections.iter().map(|d| d.score).collect();
        let labels = detections.iter().map(|d| d.label as f32).collect();
        Ok(vec![
            Named::boxes("boxes", &boxes),
            Named::new("scores", vec![boxes.len()], scores),
            Named::new("labels", vec![boxes.len()], labels),
        ])
    })?;
    Ok(found)
}

/// Returns the pyramid, the proposals and the detections of the first image.
fn detector_outputs(model: &FasterRcnn, pixels: Tensor<4>) -> Vec<Named> {
    let batch = full_batch(pixels.clone());
    let features = model.features(pixels.clone());
    let grids: Vec<ImageSize> = features
        .iter()
        .map(|level| {
            let [_, _, height, width] = level.dims();
            ImageSize::new(height, width)
        })
        .collect();
    let config = model.config();
    let proposed = proposals(
        &config.rpn,
        config.rpn.test_limits,
        &model.rpn.forward(&features),
        &config.anchors.grid(batch.input_sizes[0], &grids),
        &batch.input_sizes,
    );
    let detections: Vec<Detection> = model.detect(batch).swap_remove(0);
    let count = detections.len();
    let boxes: Vec<_> = detections.iter().map(|d| d.box_in_input).collect();
    let scores = detections.iter().map(|d| d.score).collect();
    let labels = detections.iter().map(|d| d.label as f32).collect();
    let mut outputs: Vec<Named> = features
        .into_iter()
        .enumerate()
        .map(|(level, feature)| Named::tensor(format!("p{}", level + 2), feature))
        .collect();
    outputs.push(Named::boxes("proposals", &proposed[0]));
    outputs.push(Named::boxes("boxes", &boxes));
    outputs.push(Named::new("scores", vec![count], scores));
    outputs.push(Named::new("labels", vec![count], labels));
    outputs
}
