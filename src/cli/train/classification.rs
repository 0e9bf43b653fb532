//! Training a classifier.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use burn::module::Module as _;
use serde_json::json;

use super::{
    Launch, Report, Start, StartTask, TrainArgs, filled, first_names, fresh, open, report_unread,
    say_unmeasured, train,
};
use crate::cli::stop_on_ctrl_c;
use sedet_core::config::{ClassificationConfig, recipe_for_labeled};
use sedet_core::device::Backend;
use sedet_core::model::{Model, ModelSpec, Network, NetworkConfig};
use sedet_core::status;
use sedet_core::train::classification::ClassificationTask;
use sedet_core::train::engine::Outcome;
use sedet_core::train::memory::StepMemory;
use sedet_core::train::progress::duration;
use sedet_core::train::run_dir::RunDir;
use sedet_core::weights::load::LoadedWeights;
use sedet_data::datasets::labeled::LabeledDataset;
use sedet_data::datasets::registry::LabeledName;
use sedet_data::loading::{LabeledLoader, LoaderOptions};

/// The classifier's part of a start.
struct ClassifierStart<'a> {
    dataset: &'a LabeledName,
    data_dir: Option<&'a Path>,
}

impl StartTask<ClassificationConfig> for ClassifierStart<'_> {
    fn recipe(&self) -> &'static str {
        recipe_for_labeled(self.dataset)
    }

    /// See [`ClassificationConfig::adopt`].
    fn adopt(
        &self,
        config: &mut ClassificationConfig,
        weights: &LoadedWeights,
        whole: bool,
    ) -> anyhow::Result<()> {
        let NetworkConfig::Classification(network) = &weights.spec.network else {
            bail!("a detector; a classifier can't be trained from it");
        };
        config.adopt(network, &weights.spec.preprocess, whole)?;
        Ok(())
    }

    fn check(&self, config: &ClassificationConfig) -> anyhow::Result<String> {
        let size = config.input.size;
        let classifier = config.classifier(1)?;
        classifier
            .summary([size; 2])
            .with_context(|| format!("input.size {size}"))?;
        let (train, val) = self.dataset.open(self.data_dir)?;
        Ok(fingerprint(&train, &val))
    }
}

/// Of the labels of both parts.
fn fingerprint(train: &LabeledDataset, val: &LabeledDataset) -> String {
    format!("{} {}", train.fingerprint(), val.fingerprint())
}

pub(super) fn run(
    args: &TrainArgs,
    dataset: &LabeledName,
    launch: Launch,
) -> anyhow::Result<Option<Report>> {
    let device = args.recipe.device.resolve()?;
    let data_dir = launch.data_dir.as_deref();
    let start = open(args, &launch, &ClassifierStart { dataset, data_dir })?;
    let Start { run, config, .. } = &start;
    let run = run.clone();
    let (train_split, val) = dataset.open(data_dir)?;
    launch.check_data(&fingerprint(&train_split, &val), &run)?;
    for note in train_split.notes().iter().chain(val.notes()) {
        status!("note: {note}");
    }
    let names = train_split.class_names().to_vec();
    status!(
        "{}: {} images to train on, {} to evaluate on; {} classes: {}",
        launch.dataset,
        train_split.len(),
        val.len(),
        names.len(),
        first_names(names.iter().map(String::as_str)),
    );
    let network = config.classifier(names.len())?;
    let spec = ModelSpec::classifier(network.clone(), config.preprocess()?, names);
    let options = LoaderOptions {
        batch_size: config.loader.batch_size,
        threads: config.loader.threads,
        prefetch: 2 * config.loader.threads,
        seed: config.train.seed,
        on_bad_image: config.loader.on_bad_image,
    };
    let train_images = train_split.len();
    let loader = LabeledLoader::training(
        Arc::new(train_split),
        spec.preprocess,
        config.augment.clone(),
        options.clone(),
    )?;
    let training_device = device.device.clone().autodiff();
    let model = fresh(
        |device| network.init(device),
        config.train.seed,
        &training_device,
    );
    status!(
        "{} with {:.2} M parameters on {}",
        match config.model.adopted {
            Some(_) => "the network of the weights",
            None => &config.model.backbone,
        },
        model.num_params() as f64 / 1e6,
        device.name
    );
    if device.backend == Backend::Cpu {
        let (size, images) = (config.input.size, config.loader.batch_size);
        if let Ok(step) = StepMemory::of_classifier(&network, size, images) {
            step.check(&config.train, || {
                format!(
                    "lower --batch-size (now {images}) or input.size (now {size}), or take a smaller --backbone"
                )
            })?;
        }
    }
    let task = ClassificationTask {
        train: loader,
        val: Arc::new(val),
        spec,
        results: run.results(),
        label_smoothing: config.loss.label_smoothing,
        evaluation: options,
        device: device.device.clone(),
    };
    let data = json!({
        "dataset": launch.dataset,
        "train_images": train_images,
        "parameters": model.num_params(),
    });
    let fill = |model, mut weights: LoadedWeights| {
        let theirs = weights.spec.num_classes();
        let ours = task.spec.num_classes();
        filled(model, &mut weights, || {
            if theirs != ours {
                status!(
                    "weights: made for {theirs} classes, here are {ours}: the last layer starts fresh"
                );
            }
        })
    };
    let outcome = train(args, &task, start, model, &device, &data, fill)?;
    if outcome == Outcome::Interrupted {
        return Ok(None);
    }
    conclude(&run, &task, &launch)
}

/// Measure the best checkpoint and say what can be done next.
fn conclude(
    run: &RunDir,
    task: &ClassificationTask,
    launch: &Launch,
) -> anyhow::Result<Option<Report>> {
    let best = run.best_checkpoint();
    let classifier = Model::load(&best, &task.device)?;
    let Network::Classifier(network) = &classifier.network else {
        bail!("{}: not a classifier", best.display());
    };
    let stop = stop_on_ctrl_c()?;
    let Some((evaluation, unread)) = task.measure(network, &stop)? else {
        say_unmeasured(run);
        return Ok(None);
    };
    report_unread(&unread);
    crate::cli::eval::write_classification_report(&evaluation, &run.results())?;
    let seconds = classifier
        .spec
        .trained
        .map_or(0.0, |trained| trained.seconds);
    let data_dir = match &launch.data_dir {
        Some(directory) => format!(" --data-dir {}", directory.display()),
        None => String::new(),
    };
    let next = format!(
        "best checkpoint ({} of training): {}\n\nnext:\n  \
         sedet predict --checkpoint {} IMAGE...\n  \
         sedet eval --checkpoint {} --dataset {}{data_dir}",
        duration(seconds),
        best.display(),
        best.display(),
        best.display(),
        launch.dataset,
    );
    Ok(Some(Report {
        numbers: evaluation.summary(),
        next,
    }))
}
