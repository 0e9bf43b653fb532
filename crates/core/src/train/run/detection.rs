//! The parts of a run that trains a detector.

use std::path::Path;
use std::sync::Arc;

use burn::module::Module as _;

use super::error::RunError;
use super::kind::{
    AdoptError, Adoption, Concluded, Context, Prepared, RunKind, TaskFacts, check_usable, random,
    report_notes,
};
use crate::backbones::BackboneConfig;
use crate::config::{ConfigError, DetectionConfig, IMPORTED, Recipe as _, default_detection};
use crate::detection::anchor_fit::{Unreached, WANTED_RECALL};
use crate::detection::anchors::AnchorConfig;
use crate::detection::coverage::{AnchorRecall, InputBox, input_boxes};
use crate::model::{Model, ModelSpec, ground_truth};
use crate::report::{Evaluation, write_samples};
use crate::spec::Task;
use crate::train::detection::DetectionTask;
use crate::train::fit::{Fitted, fit_to_boxes};
use crate::train::memory::StepMemory;
use crate::train::observer::{Notice, Observer};
use sedet_data::DataError;
use sedet_data::annotations::layout::Split;
use sedet_data::datasets::detection::{DetectionDataset, TargetFilter};
use sedet_data::datasets::registry::{DatasetName, OpenedSplit};
use sedet_data::images::OnBadImage;
use sedet_data::loading::transforms::Preprocess;
use sedet_data::loading::{DetectionLoader, TrainingImages};

/// Number of validation images that are drawn at the end of a run.
const SAMPLE_IMAGES: usize = 12;

/// Number of boxes that the anchor recall is measured on, evenly spaced in the dataset.
const RECALL_BOXES: usize = 20_000;

/// A run on a dataset.
pub(super) struct DetectorRun {
    pub(super) dataset: DatasetName,
    /// The name of the dataset in messages.
    pub(super) name: String,
}

impl RunKind for DetectorRun {
    type Config = DetectionConfig;
    type Task = DetectionTask;
    type Data = (OpenedSplit, OpenedSplit);

    fn default_recipe(&self, weights: Option<&ModelSpec>) -> (&'static str, &'static str) {
        default_detection(&self.dataset, weights.map(ModelSpec::task))
    }

    fn adopt(
        config: &mut DetectionConfig,
        spec: &ModelSpec,
        adoption: &Adoption<'_>,
    ) -> Result<(), AdoptError> {
        config.import(spec, adoption.whole, adoption.settings)?;
        if adoption.is_default_recipe && spec.task() == Task::Detection {
            config.import_input_size(&spec.preprocess, adoption.settings);
        }
        Ok(())
    }

    fn check(&self, config: &DetectionConfig, pretrained: bool) -> Result<(), RunError> {
        config.detector(1, pretrained)?;
        Ok(())
    }

    fn backbone(config: &DetectionConfig, pretrained: bool) -> Result<BackboneConfig, ConfigError> {
        Ok(config.detector(1, pretrained)?.backbone)
    }

    fn open(
        &self,
        data_dir: Option<&Path>,
        on_bad_image: OnBadImage,
    ) -> Result<Self::Data, RunError> {
        let (train, val) = self.dataset.open_with(data_dir, on_bad_image)?;
        for (split, opened) in [(Split::Train, &train), (Split::Val, &val)] {
            let store = opened.dataset.store();
            let mut images = 0..store.image_count();
            // Crowds are neither learned nor counted.
            if !images.any(|image| store.annotations(image).any(|object| !object.is_crowd)) {
                return Err(RunError::NoBoxes {
                    dataset: self.name.clone(),
                    split,
                    images: store.image_count(),
                });
            }
            if on_bad_image == OnBadImage::Skip {
                let with_boxes = (0..store.image_count()).filter(|at| store.has_target(*at));
                let load = |index| opened.dataset.load_image(index);
                check_usable(&self.name, (split, "with boxes "), with_boxes, load)?;
            }
        }
        Ok((train, val))
    }

    fn fit(
        &self,
        config: &mut DetectionConfig,
        (train, _): &Self::Data,
        weights: Option<&ModelSpec>,
        settings: &[String],
    ) -> Result<Option<String>, RunError> {
        // The weights of a detector have learned their anchors and input size.
        if weights.is_some_and(|spec| spec.task() == Task::Detection) {
            return Ok(None);
        }
        let fitted = fit_to_boxes(config, train.dataset.store(), settings)?;
        Ok((fitted != Fitted::default()).then(|| fitted.to_string()))
    }

    fn resolve(config: &mut DetectionConfig, pretrained: bool) -> Result<(), RunError> {
        Ok(config.resolve(pretrained)?)
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
        let notes = train.dataset.notes().iter().chain(val.dataset.notes());
        report_notes(notes, observer);
        let store = train.dataset.store();
        let network = config.detector(store.class_count(), context.launch.pretrained)?;
        let categories = store.categories().to_vec();
        let spec = ModelSpec::detector(network.clone(), config.preprocess(), categories);
        let loader = training_loader(config, train.dataset.clone(), spec.preprocess)?;
        let filtered = loader.filtered();
        let wrong = filtered.degenerate_boxes + filtered.outside_boxes + filtered.invalid_boxes;
        if filtered.crowd_boxes + wrong > 0 {
            observer.notice(&Notice::IgnoredAnnotations {
                crowds: filtered.crowd_boxes,
                degenerate: filtered.degenerate_boxes,
                outside: filtered.outside_boxes,
                invalid: filtered.invalid_boxes,
            });
        }
        let boxes = input_boxes(store, &spec.preprocess, TargetFilter::default().min_side);
        let anchors = describe_anchors(&network.anchors, &boxes, observer);
        let device = &context.device.device;
        let training_device = device.clone().autodiff();
        let model = random(
            |device| network.init(device),
            config.train.seed,
            &training_device,
        );
        let size = [config.largest_min_size(), config.input.max_size];
        let (recompute, images) = (config.model.recompute, config.loader.batch_size);
        let weights = 4 * model.num_params() as u64;
        let facts = TaskFacts {
            train_images: loader.images_per_epoch(),
            train_boxes: Some(store.annotation_count()),
            val_images: val.dataset.len(),
            network: network_name(config),
            parts: model.backbone.layers_of_parts(size),
            frozen_parts: network.backbone.frozen_stages(),
            input: input_words(config),
            anchors: Some(anchors),
            memory: StepMemory::of_detector(&model, weights, recompute, size, images),
        };
        let task = DetectionTask {
            train: loader,
            ground_truth: ground_truth(&val)?,
            val,
            spec,
            results: context.run.results(),
            on_bad_image: config.loader.on_bad_image,
            device: device.clone(),
            ranks: context.ranks.clone(),
            recompute,
        };
        Ok(Prepared { task, model, facts })
    }

    fn conclude(
        task: &DetectionTask,
        best: &Model,
        context: &Context<'_>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Option<Concluded>, RunError> {
        let Some((evaluation, skipped)) = task.measure(best, context.stop, progress)? else {
            return Ok(None);
        };
        let evaluation = Evaluation::Detection(evaluation);
        let results = context.run.results();
        let mut samples = Vec::new();
        if context.ranks.is_first() {
            evaluation.write(&results)?;
            let images = results.join("images");
            samples = write_samples(best, &task.val.dataset, &skipped, SAMPLE_IMAGES, &images)?;
        }
        Ok(Some(Concluded {
            evaluation,
            skipped,
            samples,
        }))
    }
}

/// Describes the anchors with their recall, and warns about a low one.
fn describe_anchors(
    anchors: &AnchorConfig,
    boxes: &[InputBox],
    observer: &mut dyn Observer,
) -> String {
    let list = |values: &[f32]| {
        let values = values.iter().map(ToString::to_string);
        values.collect::<Vec<_>>().join(", ")
    };
    let text = format!(
        "{} px, height/width {}",
        list(&anchors.sizes),
        list(&anchors.aspect_ratios)
    );
    let step = boxes.len().div_ceil(RECALL_BOXES).max(1);
    let measured: Vec<InputBox> = boxes.iter().copied().step_by(step).collect();
    let Some(recall) = AnchorRecall::of(anchors, &measured) else {
        return text;
    };
    if recall.at_iou_50 < WANTED_RECALL {
        observer.notice(&Notice::LowAnchorRecall {
            recall: recall.at_iou_50,
            cause: Unreached::of(anchors, &measured),
        });
    }
    format!(
        "{text}: recall {:.1} % at IoU 0.5",
        100.0 * recall.at_iou_50
    )
}

/// Returns the name of the network, with the width of the backbone if it is not the published one.
fn network_name(config: &DetectionConfig) -> String {
    let width = match config.model.width {
        1.0 => String::new(),
        width => format!(" (width {width})"),
    };
    let name = match &config.model.imported_backbone {
        Some(backbone) if config.model.backbone == IMPORTED => backbone.family_title(),
        _ => &config.model.backbone,
    };
    format!("{name}{width} FPN")
}

fn input_words(config: &DetectionConfig) -> String {
    let sizes = match config.augment.min_sizes.as_slice() {
        [] => config.input.min_size.to_string(),
        sizes => {
            let sizes = sizes.iter().map(ToString::to_string);
            sizes.collect::<Vec<_>>().join(", ")
        }
    };
    format!(
        "short side {sizes} px, long side at most {} px",
        config.input.max_size
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
        config.loader_options(),
    )
}
