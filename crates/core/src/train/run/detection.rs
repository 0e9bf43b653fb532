//! The parts of a run that trains a detector.

use std::path::Path;
use std::sync::Arc;

use burn::module::Module as _;
use serde_json::json;

use super::{AdoptError, Concluded, Context, Prepared, RunError, RunKind, check_memory, random};
use crate::config::{DetectionConfig, Recipe as _, recipe_for};
use crate::model::{Model, ModelSpec, Network, ground_truth};
use crate::report::{Evaluation, write_samples};
use crate::train::detection::DetectionTask;
use crate::train::memory::StepMemory;
use crate::train::observer::{Notice, Observer};
use sedet_data::DataError;
use sedet_data::datasets::detection::{DetectionDataset, TargetFilter};
use sedet_data::datasets::registry::{DatasetName, OpenedSplit};
use sedet_data::loading::transforms::Preprocess;
use sedet_data::loading::{DetectionLoader, LoaderOptions, TrainingImages};
use sedet_nn::nn::norm::NormKind;

/// Number of validation images that are drawn at the end of a run.
const SAMPLE_IMAGES: usize = 12;

/// A run on this dataset.
pub(super) struct DetectorRun(pub(super) DatasetName);

impl RunKind for DetectorRun {
    type Config = DetectionConfig;
    type Task = DetectionTask;
    type Data = (OpenedSplit, OpenedSplit);

    fn default_recipe(&self) -> &'static str {
        recipe_for(&self.0)
    }

    fn adopt(
        config: &mut DetectionConfig,
        spec: &ModelSpec,
        whole: bool,
    ) -> Result<(), AdoptError> {
        Ok(config.import(&spec.backbone(), &spec.preprocess, whole)?)
    }

    fn check(&self, config: &DetectionConfig, pretrained: bool) -> Result<(), RunError> {
        config.detector(1, pretrained)?;
        Ok(())
    }

    fn open(&self, data_dir: Option<&Path>) -> Result<Self::Data, RunError> {
        Ok(self.0.open(data_dir)?)
    }

    fn fingerprint((train, val): &Self::Data) -> String {
        let of = |split: &OpenedSplit| split.dataset.store().fingerprint();
        format!("{} {}", of(train), of(val))
    }

    fn prepare(
        config: &DetectionConfig,
        (train, val): Self::Data,
        context: &Context<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Prepared<DetectionTask>, RunError> {
        for note in train.dataset.notes().iter().chain(val.dataset.notes()) {
            observer.notice(&Notice::DatasetNote(note.clone()));
        }
        let launch = context.launch;
        if !launch.pretrained && !context.is_resumed {
            observer.notice(&Notice::FromScratch);
        }
        let store = train.dataset.store();
        let network = config.detector(store.class_count(), launch.pretrained)?;
        let categories = store.categories().to_vec();
        let spec = ModelSpec::detector(network.clone(), config.preprocess(), categories);
        let loader = training_loader(config, train.dataset.clone(), spec.preprocess)?;
        observer.notice(&Notice::Dataset {
            name: launch.dataset.clone(),
            train_images: loader.images_per_epoch(),
            boxes: Some(store.annotation_count()),
            val_images: val.dataset.len(),
            classes: spec.class_names(),
        });
        let filtered = loader.filtered();
        if filtered.crowd_boxes + filtered.degenerate_boxes > 0 {
            observer.notice(&Notice::IgnoredAnnotations {
                crowds: filtered.crowd_boxes,
                degenerate: filtered.degenerate_boxes,
            });
        }
        let device = &context.device.device;
        let training_device = device.clone().autodiff();
        let model = random(
            |device| network.init(device),
            config.train.seed,
            &training_device,
        );
        let parameters = model.num_params();
        let name = match (config.has_imported_backbone(), context.weights) {
            (false, _) => format!("{} FPN", config.model.backbone),
            (true, Some(path)) => format!("FPN on the backbone from {}", path.display()),
            (true, None) => "FPN on the backbone from the initial weights".to_string(),
        };
        observer.notice(&Notice::Network {
            name,
            parameters,
            device: context.device.name.clone(),
        });
        let size = [config.largest_min_size(), config.input.max_size];
        let (recompute, images) = (config.model.recompute, config.loader.batch_size);
        let step = StepMemory::of_detector(&model, 4 * parameters as u64, recompute, size, images);
        check_memory(context.device, step, config.training(), || {
            advice(config, network.backbone.norm().kind)
        })?;
        let facts = json!({
            "dataset": launch.dataset,
            "train_images": store.image_count(),
            "train_boxes": store.annotation_count(),
            "parameters": parameters,
        });
        let task = DetectionTask {
            train: loader,
            ground_truth: ground_truth(&val)?,
            val,
            spec,
            results: context.run.results(),
            on_bad_image: config.loader.on_bad_image,
            device: device.clone(),
            recompute,
        };
        Ok(Prepared { task, model, facts })
    }

    fn conclude(
        task: &DetectionTask,
        best: &Model,
        context: &Context<'_>,
    ) -> Result<Option<Concluded>, RunError> {
        let Network::Detector(network) = &best.network else {
            return Err(best.wrong_task(task.spec.task()).into());
        };
        let Some((evaluation, skipped)) = task.measure(network, context.stop)? else {
            return Ok(None);
        };
        let evaluation = Evaluation::Detection(evaluation);
        let results = context.run.results();
        evaluation.write(&results)?;
        let images = results.join("images");
        let samples = write_samples(best, &task.val.dataset, &skipped, SAMPLE_IMAGES, &images)?;
        Ok(Some(Concluded {
            evaluation,
            skipped,
            samples,
        }))
    }
}

/// Returns what to lower where memory is short. With batch norms in training mode nothing can be
/// recomputed.
fn advice(config: &DetectionConfig, norms: NormKind) -> String {
    let recompute = if config.model.recompute || norms == NormKind::Batch {
        ""
    } else {
        ", or set model.recompute=true, which takes less memory and more time"
    };
    format!(
        "lower loader.batch_size (now {}), input.min_size (now {}) and input.max_size (now {}), or use \
         a smaller backbone{recompute}",
        config.loader.batch_size,
        config.largest_min_size(),
        config.input.max_size,
    )
}

/// Returns the loader of training batches that a run with this configuration uses.
///
/// # Errors
/// Invalid settings, or no image with boxes.
pub fn training_loader(
    config: &DetectionConfig,
    dataset: Arc<DetectionDataset>,
    preprocess: Preprocess,
) -> Result<DetectionLoader, DataError> {
    DetectionLoader::training(
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
    )
}
