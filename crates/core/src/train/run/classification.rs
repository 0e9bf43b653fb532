//! The parts of a run that trains a classifier.

use std::path::Path;
use std::sync::Arc;

use burn::module::Module as _;
use serde_json::json;

use super::{AdoptError, Concluded, Context, Prepared, RunError, RunKind, check_memory, random};
use crate::config::{ClassificationConfig, Recipe as _, recipe_for_labeled};
use crate::model::{Model, ModelSpec, Network, NetworkConfig};
use crate::report::Evaluation;
use crate::train::classification::ClassificationTask;
use crate::train::memory::StepMemory;
use crate::train::observer::{Notice, Observer};
use sedet_data::datasets::labeled::LabeledDataset;
use sedet_data::datasets::registry::LabeledName;
use sedet_data::loading::{LabeledLoader, LoaderOptions};

/// A run on this dataset.
pub(super) struct ClassifierRun(pub(super) LabeledName);

impl RunKind for ClassifierRun {
    type Config = ClassificationConfig;
    type Task = ClassificationTask;
    type Data = (LabeledDataset, LabeledDataset);

    fn default_recipe(&self) -> &'static str {
        recipe_for_labeled(&self.0)
    }

    fn adopt(
        config: &mut ClassificationConfig,
        spec: &ModelSpec,
        whole: bool,
    ) -> Result<(), AdoptError> {
        let NetworkConfig::Classification(network) = &spec.network else {
            return Err(AdoptError::Unusable(
                "a detector; a classifier cannot be trained from it",
            ));
        };
        Ok(config.adopt(network, &spec.preprocess, whole)?)
    }

    fn check(&self, config: &ClassificationConfig, _pretrained: bool) -> Result<(), RunError> {
        let size = config.input.size;
        let summary = config.classifier(1)?.summary([size; 2]);
        summary
            .map(|_| ())
            .map_err(|source| RunError::InputTooSmall { size, source })
    }

    fn open(&self, data_dir: Option<&Path>) -> Result<Self::Data, RunError> {
        Ok(self.0.open(data_dir)?)
    }

    fn fingerprint((train, val): &Self::Data) -> String {
        format!("{} {}", train.fingerprint(), val.fingerprint())
    }

    fn prepare(
        config: &ClassificationConfig,
        (train, val): Self::Data,
        context: &Context<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Prepared<ClassificationTask>, RunError> {
        for note in train.notes().iter().chain(val.notes()) {
            observer.notice(&Notice::DatasetNote(note.clone()));
        }
        let classes = train.class_names().to_vec();
        let train_images = train.len();
        observer.notice(&Notice::Dataset {
            name: context.launch.dataset.clone(),
            train_images,
            boxes: None,
            val_images: val.len(),
            classes: classes.clone(),
        });
        let network = config.classifier(classes.len())?;
        let spec = ModelSpec::classifier(network.clone(), config.preprocess()?, classes);
        let options = LoaderOptions {
            batch_size: config.loader.batch_size,
            threads: config.loader.threads,
            prefetch: 2 * config.loader.threads,
            seed: config.train.seed,
            on_bad_image: config.loader.on_bad_image,
        };
        let loader = LabeledLoader::training(
            Arc::new(train),
            spec.preprocess,
            config.augment.clone(),
            options.clone(),
        )?;
        let device = &context.device.device;
        let training_device = device.clone().autodiff();
        let model = random(
            |device| network.init(device),
            config.train.seed,
            &training_device,
        );
        let parameters = model.num_params();
        let name = match (&config.model.adopted, context.weights) {
            (None, _) => config.model.backbone.clone(),
            (Some(_), Some(path)) => format!("network from {}", path.display()),
            (Some(_), None) => "network from the initial weights".to_string(),
        };
        observer.notice(&Notice::Network {
            name,
            parameters,
            device: context.device.name.clone(),
        });
        let (size, images) = (config.input.size, config.loader.batch_size);
        let step = StepMemory::of_classifier(&network, size, images);
        check_memory(context.device, step, config.training(), || {
            format!(
                "lower loader.batch_size (now {images}) or input.size (now {size}), or use a smaller \
                 backbone"
            )
        })?;
        let task = ClassificationTask {
            train: loader,
            val: Arc::new(val),
            spec,
            label_smoothing: config.loss.label_smoothing,
            results: context.run.results(),
            evaluation: options,
            device: device.clone(),
        };
        let facts = json!({
            "dataset": context.launch.dataset,
            "train_images": train_images,
            "parameters": parameters,
        });
        Ok(Prepared { task, model, facts })
    }

    fn conclude(
        task: &ClassificationTask,
        best: &Model,
        context: &Context<'_>,
    ) -> Result<Option<Concluded>, RunError> {
        let Network::Classifier(network) = &best.network else {
            return Err(best.wrong_task(task.spec.task()).into());
        };
        let Some((evaluation, skipped)) = task.measure(network, context.stop)? else {
            return Ok(None);
        };
        let evaluation = Evaluation::Classification(evaluation);
        evaluation.write(&context.run.results())?;
        Ok(Some(Concluded {
            evaluation,
            skipped,
            samples: Vec::new(),
        }))
    }
}
