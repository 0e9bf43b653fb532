//! The parts of a run that trains a classifier.

use std::path::Path;
use std::sync::Arc;

use super::error::RunError;
use super::kind::{
    AdoptError, Adoption, Concluded, Context, Prepared, RunKind, TaskFacts, check_usable, random,
    report_notes,
};
use crate::backbones::BackboneConfig;
use crate::config::{ClassificationConfig, ConfigError, Recipe as _, default_classification};
use crate::model::{Model, ModelSpec, NetworkConfig};
use crate::report::Evaluation;
use crate::train::classification::ClassificationTask;
use crate::train::memory::StepMemory;
use crate::train::observer::Observer;
use sedet_data::annotations::layout::Split;
use sedet_data::datasets::labeled::LabeledDataset;
use sedet_data::datasets::registry::LabeledName;
use sedet_data::images::OnBadImage;
use sedet_data::loading::LabeledLoader;

/// A run on this dataset.
pub(super) struct ClassifierRun(pub(super) LabeledName);

impl RunKind for ClassifierRun {
    type Config = ClassificationConfig;
    type Task = ClassificationTask;
    type Data = (LabeledDataset, LabeledDataset);

    fn default_recipe(&self, _weights: Option<&ModelSpec>) -> (&'static str, &'static str) {
        default_classification(&self.0)
    }

    fn adopt(
        config: &mut ClassificationConfig,
        spec: &ModelSpec,
        adoption: &Adoption<'_>,
    ) -> Result<(), AdoptError> {
        let NetworkConfig::Classification(network) = &spec.network else {
            return Err(AdoptError::Unusable(
                "a detector; it cannot initialize a classifier",
            ));
        };
        Ok(config.adopt(network, &spec.preprocess, adoption.whole)?)
    }

    fn check(&self, config: &ClassificationConfig, _pretrained: bool) -> Result<(), RunError> {
        let size = config.input.size;
        let summary = config.classifier(1)?.summary([size; 2]);
        summary
            .map(|_| ())
            .map_err(|source| RunError::InputTooSmall { size, source })
    }

    fn backbone(
        config: &ClassificationConfig,
        _pretrained: bool,
    ) -> Result<BackboneConfig, ConfigError> {
        Ok(config.classifier(1)?.backbone)
    }

    fn open(
        &self,
        data_dir: Option<&Path>,
        on_bad_image: OnBadImage,
    ) -> Result<Self::Data, RunError> {
        let (train, val) = self.0.open_with(data_dir, on_bad_image)?;
        if on_bad_image == OnBadImage::Skip {
            for (split, dataset) in [(Split::Train, &train), (Split::Val, &val)] {
                let load = |index| dataset.load_image(index);
                check_usable(&self.0.label(), (split, ""), 0..dataset.len(), load)?;
            }
        }
        Ok((train, val))
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
        report_notes(train.notes().iter().chain(val.notes()), observer);
        let classes = train.class_names().to_vec();
        let train_images = train.len();
        let network = config.classifier(classes.len())?;
        let spec = ModelSpec::classifier(network.clone(), config.preprocess()?, classes);
        let options = config.loader_options();
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
        let (size, images) = (config.input.size, config.loader.batch_size);
        let width = match config.model.width {
            1.0 => String::new(),
            width => format!(" (width {width})"),
        };
        let facts = TaskFacts {
            train_images,
            train_boxes: None,
            val_images: val.len(),
            network: format!("{}{width}", config.model.backbone),
            parts: model.backbone.layers_of_parts([size; 2]),
            frozen_parts: network.backbone.frozen_stages(),
            input: format!(
                "{size}x{size} px; in evaluation the center of the image at a short side of {} px",
                config.input.resize
            ),
            anchors: None,
            memory: StepMemory::of_classifier(&network, size, images),
        };
        let task = ClassificationTask {
            train: loader,
            val: Arc::new(val),
            spec,
            label_smoothing: config.loss.label_smoothing,
            results: context.run.results(),
            evaluation: options,
            device: device.clone(),
            ranks: context.ranks.clone(),
        };
        Ok(Prepared { task, model, facts })
    }

    fn conclude(
        task: &ClassificationTask,
        best: &Model,
        context: &Context<'_>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Option<Concluded>, RunError> {
        let Some((evaluation, skipped)) = task.measure(best, context.stop, progress)? else {
            return Ok(None);
        };
        let evaluation = Evaluation::Classification(evaluation);
        if context.ranks.is_first() {
            evaluation.write(&context.run.results())?;
        }
        Ok(Some(Concluded {
            evaluation,
            skipped,
            samples: Vec::new(),
        }))
    }
}
