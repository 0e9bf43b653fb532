//! What the tasks provide for a run, and what they need to know about it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use burn::module::Module;
use burn::tensor::Device;

use super::error::RunError;
use crate::backbones::BackboneConfig;
use crate::backbones::summary::{LayerSummary, TooSmall};
use crate::config::{ConfigError, Recipe};
use crate::device::WorkingDevice;
use crate::distributed::Ranks;
use crate::model::{Model, ModelSpec};
use crate::report::Evaluation;
use crate::train::engine::TrainTask;
use crate::train::memory::StepMemory;
use crate::train::observer::{Notice, Observer};
use crate::train::run_dir::{Launch, RunDir};
use crate::train::summary::RecipeFacts;
use crate::weights::load::LoadedWeights;
use crate::weights::parameters::named_tensors;
use image::RgbImage;
use sedet_data::DataError;
use sedet_data::annotations::layout::Split;
use sedet_data::images::OnBadImage;
use sedet_data::loading::SkippedImage;

/// The parts of a run that depend on the task.
pub(super) trait RunKind {
    /// The recipe.
    type Config: Recipe;
    /// What is trained.
    type Task: TrainTask;
    /// The training and the validation split.
    type Data;

    /// Returns the recipe for the dataset and given weights, and the reason for it.
    fn default_recipe(&self, weights: Option<&ModelSpec>) -> (&'static str, &'static str);

    /// Adapts the configuration to given weights.
    fn adopt(
        config: &mut Self::Config,
        spec: &ModelSpec,
        adoption: &Adoption<'_>,
    ) -> Result<(), AdoptError>;

    /// Checks everything in the configuration that needs no data.
    fn check(&self, config: &Self::Config, pretrained: bool) -> Result<(), RunError>;

    /// Returns the backbone of the network that the configuration describes.
    fn backbone(config: &Self::Config, pretrained: bool) -> Result<BackboneConfig, ConfigError>;

    /// Opens both splits, and checks that there is something to train on and to measure with.
    fn open(
        &self,
        data_dir: Option<&Path>,
        on_bad_image: OnBadImage,
    ) -> Result<Self::Data, RunError>;

    /// Fits a default recipe to own data, except what `settings` set, and returns what was fitted.
    fn fit(
        &self,
        _config: &mut Self::Config,
        _data: &Self::Data,
        _weights: Option<&ModelSpec>,
        _settings: &[String],
    ) -> Result<Option<String>, RunError> {
        Ok(None)
    }

    /// Writes into the configuration what is used in the end.
    fn resolve(_config: &mut Self::Config, _pretrained: bool) -> Result<(), RunError> {
        Ok(())
    }

    /// Returns a fingerprint of the annotations or labels of both splits.
    fn fingerprint(data: &Self::Data) -> String;

    /// Builds the task and the network with random weights.
    fn prepare(
        config: &Self::Config,
        data: Self::Data,
        context: &Context<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Prepared<Self::Task>, RunError>;

    /// Evaluates the best checkpoint and writes the report. `progress` receives the numbers of finished
    /// and of all images. Returns none if it was interrupted.
    fn conclude(
        task: &Self::Task,
        best: &Model,
        context: &Context<'_>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Option<Concluded>, RunError>;
}

/// The adaptation of a configuration to given weights.
pub(super) struct Adoption<'a> {
    /// Whether the network of the weights replaces the recipe's, because no setting names a backbone.
    pub(super) whole: bool,
    /// Whether the recipe was chosen by default, so that the weights also determine the input size.
    pub(super) is_default_recipe: bool,
    /// The settings of the user, which stay.
    pub(super) settings: &'a [String],
}

/// The reason why weights don't fit a configuration.
pub(super) enum AdoptError {
    Config(ConfigError),
    Unusable(&'static str),
}

impl From<ConfigError> for AdoptError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// The properties of a run that the tasks need.
pub(super) struct Context<'a> {
    pub(super) run: &'a RunDir,
    pub(super) launch: &'a Launch,
    pub(super) is_resumed: bool,
    pub(super) device: &'a WorkingDevice,
    pub(super) stop: &'a AtomicBool,
    pub(super) ranks: &'a Ranks,
}

/// A task, its network with random weights, and what the user should know about them.
pub(super) struct Prepared<T: TrainTask> {
    pub(super) task: T,
    pub(super) model: T::Model,
    pub(super) facts: TaskFacts,
}

/// The parts of a run that depend on its task.
pub(super) struct TaskFacts {
    pub(super) train_images: usize,
    pub(super) train_boxes: Option<usize>,
    pub(super) val_images: usize,
    /// The name of the network.
    pub(super) network: String,
    /// The layers of each part of the backbone; an error for inputs that are too small for an estimate.
    pub(super) parts: Result<Vec<Vec<LayerSummary>>, TooSmall>,
    /// Number of leading parts that are not trained.
    pub(super) frozen_parts: usize,
    /// The sizes of inputs, in words.
    pub(super) input: String,
    /// The anchors of a detector, in words.
    pub(super) anchors: Option<String>,
    /// The memory of a step.
    pub(super) memory: Result<StepMemory, TooSmall>,
}

/// The results of the final evaluation.
pub(super) struct Concluded {
    pub(super) evaluation: Evaluation,
    pub(super) skipped: Vec<SkippedImage>,
    pub(super) samples: Vec<PathBuf>,
}

/// A run whose directory and configuration exist.
pub(super) struct Opened<K: RunKind> {
    pub(super) run: RunDir,
    pub(super) launch: Launch,
    pub(super) recipe: RecipeFacts,
    pub(super) config: K::Config,
    pub(super) data: K::Data,
    pub(super) weights: Option<(PathBuf, LoadedWeights)>,
}

/// Reports the notes on the splits of a dataset. Both splits have those on their common directory.
pub(super) fn report_notes<'a>(
    notes: impl Iterator<Item = &'a String>,
    observer: &mut dyn Observer,
) {
    let mut reported = BTreeSet::new();
    for note in notes {
        if reported.insert(note) {
            observer.notice(&Notice::DatasetNote(note.clone()));
        }
    }
}

/// Builds a network with random weights from a seed. Parameters are drawn when they are first used;
/// all are used here, in the order of the structure.
///
/// They are drawn on the CPU whatever the device is, so that one seed has the same weights on every device: the generators
/// of the devices differ.
pub(super) fn random<M: Module>(init: impl FnOnce(&Device) -> M, seed: u64, device: &Device) -> M {
    let cpu = Device::flex().autodiff();
    cpu.seed(seed);
    // What is drawn during training.
    device.seed(seed);
    let model = init(&cpu);
    drop(named_tensors(&model));
    if *device == cpu {
        model
    } else {
        // With a graph of its own: the copy is no operation that gradients flow through.
        model.fork(device)
    }
}

/// Checks that one of the images of a split can be used, where others are skipped. Training would find out after its
/// directory was created, and evaluation after an epoch. The split has the kind of the images, such as `with boxes `.
pub(super) fn check_usable(
    dataset: &str,
    (split, kind): (Split, &'static str),
    indices: impl Iterator<Item = usize>,
    load: impl Fn(usize) -> Result<RgbImage, DataError>,
) -> Result<(), RunError> {
    let (mut images, mut first) = (0, None);
    for index in indices {
        match load(index) {
            Ok(_) => return Ok(()),
            Err(error) if error.is_about_one_image() => {
                images += 1;
                first.get_or_insert(error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    match first {
        Some(first) => Err(RunError::NoUsableImage {
            dataset: dataset.to_owned(),
            split,
            kind,
            images,
            first: Box::new(first),
        }),
        None => Ok(()),
    }
}
