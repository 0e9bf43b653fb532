//! The loader: images of a directory to padded batches of two.

use anyhow::Context as _;
use sedet::annotations::layout::Split;
use sedet::datasets::registry::DatasetName;
use sedet::loading::transforms::Preprocess;
use sedet::loading::{DetectionLoader, LoaderOptions};
use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::measure::timed;
use crate::tensors::{Named, write};

/// Times complete epochs.
pub fn epochs(arguments: &Arguments) -> anyhow::Result<Value> {
    let directory = DatasetName::Directory(arguments.data()?.to_path_buf());
    let dataset = directory.open_split(Split::Train, None)?.dataset;
    let images = dataset.len();
    let loader = DetectionLoader::evaluation(
        dataset,
        Preprocess::torchvision(),
        LoaderOptions {
            batch_size: 2,
            threads: arguments.workers,
            prefetch: 2 * arguments.workers,
            ..LoaderOptions::default()
        },
    )?;
    let mut found = timed(arguments, |epoch| {
        for batch in loader.epoch(epoch as u64, 0)? {
            batch?;
        }
        Ok(())
    })?;
    write(arguments.outputs.as_deref(), || {
        let batch = loader.epoch(0, 0)?.next().context("no images")??;
        Ok(vec![Named::new(
            "first_batch",
            batch.shape.to_vec(),
            batch.pixels,
        )])
    })?;
    found["images"] = json!(images);
    Ok(found)
}
