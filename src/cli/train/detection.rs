//! Training a detector.

use std::path::Path;

use anyhow::{Context as _, bail};
use burn::module::Module as _;
use serde_json::json;

use super::{
    Launch, Report, Start, StartTask, TrainArgs, filled, first_names, fresh, open, report_unread,
    say_unmeasured, train,
};
use crate::cli::stop_on_ctrl_c;
use sedet_core::config::{DetectionConfig, recipe_for};
use sedet_core::detection::faster_rcnn::FasterRcnn;
use sedet_core::device::Backend;
use sedet_core::model::{Model, ModelSpec, Network, Task, ground_truth};
use sedet_core::status;
use sedet_core::train::detection::DetectionTask;
use sedet_core::train::engine::Outcome;
use sedet_core::train::memory::StepMemory;
use sedet_core::train::progress::duration;
use sedet_core::train::run_dir::RunDir;
use sedet_core::weights::load::LoadedWeights;
use sedet_data::datasets::detection::TargetFilter;
use sedet_data::datasets::registry::{DatasetName, OpenedSplit};
use sedet_data::loading::transforms::Preprocess;
use sedet_data::loading::{DetectionLoader, LoaderOptions, TrainingImages};
use sedet_nn::nn::norm::NormKind;

/// The detector's part of a start.
struct DetectorStart<'a> {
    dataset: &'a DatasetName,
    data_dir: Option<&'a Path>,
    pretrained: bool,
}

impl StartTask<DetectionConfig> for DetectorStart<'_> {
    fn recipe(&self) -> &'static str {
        recipe_for(self.dataset)
    }

    /// See [`DetectionConfig::import`].
    fn adopt(
        &self,
        config: &mut DetectionConfig,
        weights: &LoadedWeights,
        whole: bool,
    ) -> anyhow::Result<()> {
        config.import(&weights.spec.backbone(), &weights.spec.preprocess, whole)?;
        Ok(())
    }

    fn check(&self, config: &DetectionConfig) -> anyhow::Result<String> {
        config.detector(1, self.pretrained)?;
        let (train, val) = self.dataset.open(self.data_dir)?;
        Ok(fingerprint(&train, &val))
    }
}

/// Of the annotations of both parts.
fn fingerprint(train: &OpenedSplit, val: &OpenedSplit) -> String {
    let of = |split: &OpenedSplit| split.dataset.store().fingerprint();
    format!("{} {}", of(train), of(val))
}

pub(super) fn run(
    args: &TrainArgs,
    dataset: &DatasetName,
    launch: Launch,
) -> anyhow::Result<Option<Report>> {
    let device = args.recipe.device.resolve()?;
    let start = open(
        args,
        &launch,
        &DetectorStart {
            dataset,
            data_dir: launch.data_dir.as_deref(),
            pretrained: launch.pretrained,
        },
    )?;
    let Start { run, config, .. } = &start;
    let run = run.clone();
    if !launch.pretrained && args.resume.is_none() {
        status!("random weights: all layers are trained, with live batch norm");
    }
    let (train_split, val) = dataset.open(launch.data_dir.as_deref())?;
    launch.check_data(&fingerprint(&train_split, &val), &run)?;
    let store = train_split.dataset.store().clone();
    let network = config.detector(store.class_count(), launch.pretrained)?;
    let categories = store.categories().to_vec();
    let spec = ModelSpec::detector(network.clone(), config.preprocess(), categories);
    let loader = loader(config, train_split.dataset.clone(), spec.preprocess)?;
    status!(
        "{}: {} images to train on ({} boxes), {} to evaluate on; {} classes: {}",
        launch.dataset,
        loader.images_per_epoch(),
        store.annotation_count(),
        val.dataset.len(),
        spec.categories.len(),
        first_names(spec.categories.iter().map(|c| c.name.as_str())),
    );
    let left_out = loader.filtered();
    if left_out.crowd_boxes + left_out.degenerate_boxes > 0 {
        status!(
            "not trained on: {} crowd regions, {} boxes under a pixel",
            left_out.crowd_boxes,
            left_out.degenerate_boxes
        );
    }
    let training_device = device.device.clone().autodiff();
    let model = fresh(
        |device| network.init(device),
        config.train.seed,
        &training_device,
    );
    status!(
        "{} with {:.1} M parameters on {}",
        match config.has_imported_backbone() {
            true => "the backbone of the weights",
            false => &config.model.backbone,
        },
        model.num_params() as f64 / 1e6,
        device.name
    );
    if device.backend == Backend::Cpu {
        let size = [config.largest_min_size(), config.input.max_size];
        let weights = 4 * model.num_params() as u64;
        let images = config.loader.batch_size;
        let recompute = config.model.recompute;
        // An input that is too small is refused where it is used.
        if let Ok(step) = StepMemory::of_detector(&model, weights, recompute, size, images) {
            step.check(&config.train, || {
                advice(config, network.backbone.norm().kind)
            })?;
        }
    }
    let task = DetectionTask {
        train: loader,
        ground_truth: ground_truth(&val)?,
        val,
        spec,
        results: run.results(),
        on_bad_image: config.loader.on_bad_image,
        device: device.device.clone(),
        recompute: config.model.recompute,
    };
    let data = json!({
        "dataset": launch.dataset,
        "train_images": store.image_count(),
        "train_boxes": store.annotation_count(),
        "parameters": model.num_params(),
    });
    let fill = |model, weights| with_weights(model, &task.spec, weights);
    let outcome = train(args, &task, start, model, &device, &data, fill)?;
    if outcome == Outcome::Interrupted {
        return Ok(None);
    }
    conclude(&run, &task, &launch.dataset)
}

/// What to lower where memory is short. With live norms nothing can be computed again.
fn advice(config: &DetectionConfig, norms: NormKind) -> String {
    let recompute = match config.model.recompute || norms == NormKind::Batch {
        true => "",
        false => ", or set model.recompute=true, which keeps less for more time",
    };
    format!(
        "lower --batch-size (now {}), input.min_size (now {}) and input.max_size (now {}), or take a \
         smaller --backbone{recompute}",
        config.loader.batch_size,
        config.largest_min_size(),
        config.input.max_size,
    )
}

/// The loader of a run with this configuration.
pub(in crate::cli) fn loader(
    config: &DetectionConfig,
    dataset: std::sync::Arc<sedet_data::datasets::detection::DetectionDataset>,
    preprocess: Preprocess,
) -> anyhow::Result<DetectionLoader> {
    Ok(DetectionLoader::training(
        dataset,
        preprocess,
        config.augment.clone(),
        TrainingImages {
            filter: TargetFilter {
                keep_empty: config.loader.keep_empty,
                ..TargetFilter::default()
            },
            ..TrainingImages::default()
        },
        LoaderOptions {
            batch_size: config.loader.batch_size,
            threads: config.loader.threads,
            prefetch: 2 * config.loader.threads,
            seed: config.train.seed,
            on_bad_image: config.loader.on_bad_image,
        },
    )?)
}

/// The given weights wherever name and shape agree; see [`filled`].
fn with_weights(
    model: FasterRcnn,
    spec: &ModelSpec,
    mut given: LoadedWeights,
) -> anyhow::Result<FasterRcnn> {
    let theirs = given.spec.num_classes();
    let ours = spec.num_classes();
    let is_classifier = given.spec.task() == Task::Classification;
    filled(model, &mut given, || {
        if is_classifier {
            status!("weights: they are a classifier's; its last layer is dropped");
        } else if theirs != ours {
            status!(
                "weights: made for {theirs} classes, here are {ours}: the layers that name classes start fresh"
            );
        }
    })
}

/// Images that are drawn at the end of a run.
const SAMPLE_IMAGES: usize = 12;

/// Measure the best checkpoint, draw samples, say what can be done next.
fn conclude(run: &RunDir, task: &DetectionTask, dataset: &str) -> anyhow::Result<Option<Report>> {
    let best = run.best_checkpoint();
    let detector = Model::load(&best, &task.device)?;
    let Network::Detector(network) = &detector.network else {
        bail!("{}: not a detector", best.display());
    };
    let stop = stop_on_ctrl_c()?;
    let Some((evaluation, unread)) = task.measure(network, &stop)? else {
        say_unmeasured(run);
        return Ok(None);
    };
    report_unread(&unread);
    crate::cli::eval::write_report(&evaluation, &run.results())?;
    let pictures = run.results().join("images");
    std::fs::create_dir_all(&pictures).with_context(|| pictures.display().to_string())?;
    let val = &task.val.dataset;
    let unread: Vec<usize> = unread.iter().map(|image| image.dataset_index).collect();
    let readable = (0..val.len()).filter(|index| !unread.contains(index));
    let shown: Vec<usize> = readable.take(SAMPLE_IMAGES).collect();
    for &index in &shown {
        let image = val.load_image(index)?;
        let mut found = detector.detect(&image)?;
        found.retain(|d| d.score >= crate::cli::predict::SCORE);
        let name = Path::new(val.store().image(index).file_name).with_extension("jpg");
        let boxes = crate::cli::predict::drawn(&found, &detector.spec.categories);
        let name = name.file_name().unwrap_or("image.jpg".as_ref());
        sedet_core::render::save_boxes(&image, &boxes, &pictures.join(name))?;
    }
    let seconds = detector.spec.trained.map_or(0.0, |trained| trained.seconds);
    let next = format!(
        "best checkpoint ({} of training): {}\n{} validation images: {}\n\nnext:\n  \
         sedet predict --checkpoint {} IMAGE... --output found/\n  \
         sedet eval --checkpoint {} --dataset {}",
        duration(seconds),
        best.display(),
        shown.len(),
        pictures.display(),
        best.display(),
        best.display(),
        dataset,
    );
    Ok(Some(Report {
        numbers: format!("{}{}", evaluation.summary_table(), evaluation.class_table()),
        next,
    }))
}
