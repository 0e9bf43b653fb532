//! The error of a training run.

use std::path::PathBuf;

use crate::backbones::summary::TooSmall;
use crate::config::ConfigError;
use crate::distributed::{DistributedError, Failure};
use crate::model::ModelError;
use crate::render::RenderError;
use crate::report::SampleError;
use crate::train::memory::NotEnoughMemory;
use crate::train::run_dir::RunDirError;
use crate::weights::load::LoadError;
use sedet_data::DataError;
use sedet_data::annotations::layout::Split;
use sedet_data::datasets::registry::RegistryError;
use sedet_data::eval::EvalError;
use sedet_nn::kernels::bf16::ComputePrecision;

/// The error of a training run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The recipe or its settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The dataset.
    #[error(transparent)]
    Dataset(#[from] RegistryError),
    /// Images, or settings of the loader.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The ground truth.
    #[error(transparent)]
    GroundTruth(#[from] EvalError),
    /// The directory of the run.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// The file of initial weights.
    #[error(transparent)]
    Weights(#[from] LoadError),
    /// Initial weights that the model can't use.
    #[error("{}: {reason}", path.display())]
    UnusableWeights {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Initial weights of another backbone.
    #[error(
        "{}: not the weights of {wanted}: the backbone in this file is {given}; {fitting} of {all} tensors fit{}",
        path.display(),
        if *unused > 0 { format!(", and {unused} more are in the file") } else { String::new() }
    )]
    OtherBackbone {
        /// The file.
        path: PathBuf,
        /// The backbone to train.
        wanted: String,
        /// The backbone in the file.
        given: String,
        /// Number of tensors of the backbone to train that the file has in the same shape.
        fitting: usize,
        /// Number of all tensors of the backbone to train, without those of SE units.
        all: usize,
        /// Number of tensors of the backbone in the file that the one to train does not have.
        unused: usize,
    },
    /// Initial weights without any for a backbone that needs them.
    #[error(
        "{}: none of its tensors fits the backbone, whose norm layers are frozen and would normalize \
         nothing",
        path.display()
    )]
    FrozenBackbone {
        /// The file.
        path: PathBuf,
    },
    /// A precision that the device does not compute in.
    #[error("train.precision {precision} requires the CPU, but the device is {device}")]
    PrecisionOfDevice {
        /// The precision.
        precision: ComputePrecision,
        /// The device.
        device: String,
    },
    /// An input that is too small for the network.
    #[error("input.size {size}: {source}")]
    InputTooSmall {
        /// The side of the input in pixels.
        size: usize,
        /// The problem.
        source: TooSmall,
    },
    /// A training step that needs more memory than is free.
    #[error(transparent)]
    Memory(#[from] NotEnoughMemory),
    /// A path that cannot be made absolute.
    #[error("{}: {source}", path.display())]
    Launch {
        /// The path.
        path: PathBuf,
        /// The problem.
        source: std::io::Error,
    },
    /// A split without a box.
    #[error("{dataset}: {split} has {}, none with a box", sedet_data::text::count(*images, "image"))]
    NoBoxes {
        /// The dataset.
        dataset: String,
        /// The split.
        split: Split,
        /// Number of images.
        images: usize,
    },
    /// A split of which all images would be skipped.
    #[error("{dataset}: no image of {split} can be used: {}: {first}", unusable(*images, kind))]
    NoUsableImage {
        /// The dataset.
        dataset: String,
        /// The split.
        split: Split,
        /// Which images would be used, such as `with boxes `; nothing for all.
        kind: &'static str,
        /// Their number.
        images: usize,
        /// The error of the first of them.
        first: Box<DataError>,
    },
    /// The dataset of a resumed run is not where it was.
    #[error("{}: its dataset is no longer at its path: {source}", run.display())]
    DatasetMoved {
        /// The directory of the run.
        run: PathBuf,
        /// The error of the dataset.
        source: RegistryError,
    },
    /// A resumed run that has finished more epochs than it should have.
    #[error("{}: {} finished, more than the {wanted} that it should have", run.display(), epochs_are(*finished))]
    FewerEpochs {
        /// The directory of the run.
        run: PathBuf,
        /// The number of epochs that was requested.
        wanted: usize,
        /// The number of finished epochs.
        finished: usize,
    },
    /// A resumed run whose data has changed.
    #[error("{dataset}: its images or annotations have changed since this run began")]
    DatasetChanged {
        /// The dataset.
        dataset: String,
        /// The last checkpoint of the run.
        checkpoint: PathBuf,
    },
    /// The processes that train together.
    #[error(transparent)]
    Ranks(#[from] DistributedError),
    /// Batches are normalized together, but not those of all processes.
    #[error("train.sync_norms is {wanted}, but {processes} {} training", if *processes == 1 { "process is" } else { "processes are" })]
    SyncNorms {
        /// The number of processes in the configuration.
        wanted: usize,
        /// The number of processes.
        processes: usize,
    },
    /// Two ranks on one GPU.
    #[error("ranks {} and {} are both on {device}", ranks[0], ranks[1])]
    SharedDevice {
        /// The ranks.
        ranks: [usize; 2],
        /// The name of the device.
        device: String,
    },
    /// Training itself.
    #[error("{source}")]
    Training {
        /// What happened.
        source: Box<dyn std::error::Error + Send + Sync>,
        /// The dataset.
        dataset: String,
        /// The directory of the run.
        run: PathBuf,
        /// Whether the run can go on once the cause is removed.
        can_be_resumed: bool,
        /// Whether there is a checkpoint to resume from.
        is_saved: bool,
        /// Whether a single image is the cause.
        is_about_one_image: bool,
    },
    /// The final evaluation.
    #[error(transparent)]
    Evaluation(#[from] ModelError),
    /// A report that can't be written.
    #[error(transparent)]
    Report(#[from] RenderError),
    /// The sample images.
    #[error(transparent)]
    Samples(#[from] SampleError),
}

impl RunError {
    /// Returns what other ranks need to know.
    pub(super) fn failure(&self) -> Failure {
        let (can_be_resumed, is_about_one_image) = match self {
            Self::Training {
                can_be_resumed,
                is_about_one_image,
                ..
            } => (*can_be_resumed, *is_about_one_image),
            _ => (false, false),
        };
        Failure {
            message: self.to_string(),
            can_be_resumed,
            is_about_one_image,
        }
    }
}

fn unusable(images: usize, kind: &str) -> String {
    match images {
        1 => format!("the only one {kind}is skipped"),
        _ => format!("all {images} {kind}are skipped, the first because of"),
    }
}

fn epochs_are(number: usize) -> String {
    let verb = if number == 1 { "is" } else { "are" };
    format!("{} {verb}", sedet_data::text::count(number, "epoch"))
}
