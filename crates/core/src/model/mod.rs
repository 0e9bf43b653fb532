//! Trained models: loading, prediction, evaluation, the recording of SE gates and explanations of scores.
//!
//! A [`Model`] is a detector or a classifier with everything that is needed to use it. [`Model::load`] loads it
//! from a sedet checkpoint or a third-party file; its description is a [`ModelSpec`].
//!
//! # Examples
//! ```
//! use sedet_core::model::Model;
//! use burn::tensor::Device;
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/shapes-se-resnet18.safetensors");
//! # let image = image::RgbImage::new(160, 160);
//! let model = Model::load(path, &Device::flex())?;
//! for found in model.detect(&image)? {
//!     println!("{} {:.2} {:?}", model.spec.class_name(found.label), found.score, found.box_in_image);
//! }
//! # Ok::<(), sedet_core::model::ModelError>(())
//! ```

mod classes;
mod classify;
mod dataset;
mod detect;
mod excitation;
mod explain;
mod recording;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use image::RgbImage;

pub use classes::ClassMatch;
pub use classify::{ClassifiedDataset, DEFAULT_TOP, RankedClass};
pub use dataset::{Dataset, ground_truth, without_skipped};
pub(crate) use detect::all_skipped;
pub use detect::{DatasetDetections, ImageDetection};
pub use excitation::{ImageChoice, MeasuredGates};
pub use explain::{ExplainedImage, Explanation, ReplacedGate, Subject};
pub use recording::{BlockRecording, Recording, gates_csv};

pub use crate::excitation::ChannelMap;
pub use crate::spec::{ImportFacts, ModelSpec, NetworkConfig, SpecError, Task, TrainingFacts};

use sedet_nn::kernels::bf16::ComputePrecision;

use crate::backbones::summary::{Summary, TooSmall, Tracer};
use crate::classification::classifier::Classifier;
use crate::detection::faster_rcnn::FasterRcnn;
use crate::distributed::{DistributedError, Ranks};
use crate::excitation::ExcitationError;
use crate::explanation::ExplanationError;
use crate::weights::checkpoint::Checkpoint;
use crate::weights::load::{LoadError, LoadedWeights, load_weights, weights_file};
use crate::weights::parameters::{NamedTensors, ParameterError, load_tensors};
use sedet_data::DataError;
use sedet_data::annotations::layout::Split;
use sedet_data::eval::EvalError;

/// A callback that receives the number of processed images and the total, and may stop the work.
pub type ProgressFn<'a> = dyn FnMut(usize, usize) -> ControlFlow<()> + 'a;

/// The error of loading or using a model.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The weights file.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A third-party file that lacks parts of the network.
    #[error(
        "{}: {} of the network {} missing or of another shape",
        path.display(),
        sedet_data::text::count(*missing, "tensor"),
        if *missing == 1 { "is" } else { "are" }
    )]
    Untrained {
        /// The file.
        path: PathBuf,
        /// Number of tensors.
        missing: usize,
    },
    /// Tensors that don't fit the network of the description.
    #[error("{}: {source}", path.display())]
    Parameters {
        /// The file.
        path: PathBuf,
        /// Which tensors.
        source: ParameterError,
    },
    /// A model of the other task.
    #[error("{}: a {}, but a {} is required", path.display(), found.model_name(), required.model_name())]
    WrongTask {
        /// The file.
        path: PathBuf,
        /// The task of the model.
        found: Task,
        /// The requested task.
        required: Task,
    },
    /// A dataset with other classes than the model was trained for.
    #[error("{}: trained for other classes than those of the dataset: {reason}", path.display())]
    OtherClasses {
        /// The file.
        path: PathBuf,
        /// The difference.
        reason: String,
    },
    /// An image or a dataset.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A dataset whose images were all skipped.
    #[error("no image is left: none of {} can be used ({first})", sedet_data::text::count(*images, "image"))]
    NoUsableImage {
        /// The number of images.
        images: usize,
        /// Why the first cannot be used.
        first: String,
    },
    /// The metrics of a detector.
    #[error(transparent)]
    Evaluation(#[from] EvalError),
    /// A network without SE units, or gates that are not finite.
    #[error("{}: {source}", path.display())]
    Excitation {
        /// The file.
        path: PathBuf,
        /// The problem.
        source: ExcitationError,
    },
    /// A score that cannot be explained.
    #[error(transparent)]
    Explanation(#[from] ExplanationError),
    /// A network whose layers can't be listed for the reference input size.
    #[error("{}: {source}", path.display())]
    TooSmall {
        /// The file.
        path: PathBuf,
        /// The problem.
        source: TooSmall,
    },
    /// The processes that work together.
    #[error(transparent)]
    Ranks(#[from] DistributedError),
    /// An empty split.
    #[error("the dataset has no images in {split}")]
    NoImages {
        /// The split.
        split: Split,
    },
}

impl ModelError {
    /// Returns whether a single image is the cause, so that the work could continue without it.
    pub fn is_about_one_image(&self) -> bool {
        matches!(self, Self::Data(error) if error.is_about_one_image())
    }
}

/// A network of either task.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // one of these exists per loaded model
pub enum Network {
    /// A network from pixels to boxes.
    Detector(FasterRcnn),
    /// A network from pixels to class scores.
    Classifier(Classifier),
}

impl Network {
    /// Builds a network with newly initialized parameters.
    pub fn init(config: &NetworkConfig, device: &Device) -> Self {
        match config {
            NetworkConfig::Detection(config) => Self::Detector(config.init(device)),
            NetworkConfig::Classification(config) => Self::Classifier(config.init(device)),
        }
    }

    /// Returns the network with these parameters.
    ///
    /// # Errors
    /// Missing tensors, or tensors that don't fit the network.
    pub fn with_weights(self, weights: NamedTensors) -> Result<Self, ParameterError> {
        Ok(match self {
            Self::Detector(network) => Self::Detector(load_tensors(network, weights)?),
            Self::Classifier(network) => Self::Classifier(load_tensors(network, weights)?),
        })
    }

    /// Returns the network in evaluation mode.
    #[must_use]
    pub fn valid(self) -> Self {
        match self {
            Self::Detector(network) => Self::Detector(network.valid()),
            Self::Classifier(network) => Self::Classifier(network.valid()),
        }
    }

    /// Returns the network for inference, with batch norms folded into their convolutions.
    #[must_use]
    pub fn folded(self, precision: ComputePrecision) -> Self {
        match self {
            Self::Detector(network) => Self::Detector(network.folded(precision)),
            Self::Classifier(network) => Self::Classifier(network.folded(precision)),
        }
    }
}

/// The prediction of a model for one image.
#[derive(Debug, Clone, PartialEq)]
pub enum Prediction {
    /// The objects that a detector finds, by descending score.
    Detections(Vec<ImageDetection>),
    /// The most probable classes of a classifier, by descending probability.
    Classes(Vec<RankedClass>),
}

impl Prediction {
    /// Returns the detections; none for a classifier.
    pub fn detections(&self) -> &[ImageDetection] {
        match self {
            Self::Detections(found) => found,
            Self::Classes(_) => &[],
        }
    }

    /// Returns the ranked classes; none for a detector.
    pub fn classes(&self) -> &[RankedClass] {
        match self {
            Self::Detections(_) => &[],
            Self::Classes(classes) => classes,
        }
    }
}

/// A detector or a classifier, ready for inference.
#[derive(Debug)]
pub struct Model {
    /// The network in evaluation mode.
    pub network: Network,
    /// The description of the model.
    pub spec: ModelSpec,
    /// The file that it comes from, for messages.
    path: PathBuf,
    device: Device,
    /// That of the multiplications.
    precision: ComputePrecision,
    /// The processes between which the images of a dataset are divided.
    ranks: Ranks,
}

impl Model {
    /// Loads a sedet checkpoint, or a third-party file whose layout is detected. For a run directory, it loads
    /// its best checkpoint.
    ///
    /// # Errors
    /// A file that can't be read, or that lacks tensors of the network.
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Self, ModelError> {
        let path = weights_file(path.as_ref())?;
        Self::from_weights(load_weights(&path, None)?, &path, device)
    }

    /// Loads a sedet checkpoint from memory; `name` is used in messages.
    ///
    /// # Errors See [`load`](Self::load).
    pub fn from_bytes(bytes: &[u8], name: &str, device: &Device) -> Result<Self, ModelError> {
        let checkpoint = Checkpoint::from_bytes(bytes, name).map_err(LoadError::from)?;
        Self::from_weights(checkpoint.into(), Path::new(name), device)
    }

    /// Builds a model from weights that were read from `path`. Frozen and evaluated batch norms are
    /// folded into their convolutions.
    ///
    /// # Errors
    /// Missing tensors, or tensors that don't fit the network.
    pub fn from_weights(
        loaded: LoadedWeights,
        path: &Path,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let LoadedWeights { spec, weights, .. } = loaded;
        if !spec.missing.is_empty() {
            return Err(ModelError::Untrained {
                path: path.to_path_buf(),
                missing: spec.missing.len(),
            });
        }
        let network = Network::init(&spec.network, device).valid();
        let network = network
            .with_weights(weights)
            .map(|network| network.folded(ComputePrecision::F32));
        let network = network.map_err(|source| ModelError::Parameters {
            path: path.to_path_buf(),
            source,
        })?;
        Ok(Self::new(network, spec, path, device))
    }

    /// Wraps a network that is in evaluation mode. `path` names the model in messages.
    pub(crate) fn new(network: Network, spec: ModelSpec, path: &Path, device: &Device) -> Self {
        Self {
            network,
            spec,
            path: path.to_path_buf(),
            device: device.clone(),
            precision: ComputePrecision::F32,
            ranks: Ranks::alone(),
        }
    }

    /// Returns the model with the images of datasets divided between processes, which all have to evaluate the
    /// same dataset. Each returns the whole result.
    #[must_use]
    pub fn on_ranks(self, ranks: Ranks) -> Self {
        Self { ranks, ..self }
    }

    /// Returns the model with multiplications in this precision, or in 32-bit floats where it is not
    /// [available](ComputePrecision::is_available). A model is loaded with 32-bit floats.
    ///
    /// In bf16, convolutions and hidden layers of box heads round their inputs and weights where this is
    /// faster; grouped and depthwise convolutions, and 3x3 convolutions by Winograd's algorithm, do not.
    /// Backbones that keep their norms remain unchanged; see [`has_precision`](Self::has_precision).
    #[must_use]
    pub fn with_precision(self, precision: ComputePrecision) -> Self {
        Self {
            network: self.network.folded(precision),
            precision: precision.or_f32(),
            ..self
        }
    }

    /// Returns whether the convolutions of the backbone compute in the precision of
    /// [`with_precision`](Self::with_precision).
    pub fn has_precision(&self) -> bool {
        match &self.network {
            Network::Detector(network) => network.backbone.has_precision(),
            Network::Classifier(network) => network.backbone.has_precision(),
        }
    }

    /// Returns what the model predicts.
    pub fn task(&self) -> Task {
        self.spec.task()
    }

    /// Checks what the model predicts.
    ///
    /// # Errors
    /// It is a model of the other task.
    pub fn check_task(&self, required: Task) -> Result<(), ModelError> {
        if self.task() == required {
            Ok(())
        } else {
            Err(self.wrong_task(required))
        }
    }

    /// Predicts the objects or the [`DEFAULT_TOP`] most probable classes of an image.
    pub fn predict(&self, image: &RgbImage) -> Prediction {
        match &self.network {
            Network::Detector(network) => Prediction::Detections(self.detect_with(network, image)),
            Network::Classifier(_) => self.predict_with_logits(image).0,
        }
    }

    /// Predicts as [`predict`](Self::predict), and also returns the logits of a classifier; none for a detector.
    fn predict_with_logits(&self, image: &RgbImage) -> (Prediction, Vec<f32>) {
        match &self.network {
            Network::Detector(_) => (self.predict(image), Vec::new()),
            Network::Classifier(network) => {
                let logits = self.logits_of(network, image);
                let ranked = self.ranked(logits.clone(), DEFAULT_TOP);
                (Prediction::Classes(ranked), logits)
            }
        }
    }

    /// Records the operations of the part of the network that has SE units in a [`Tracer`].
    pub fn trace<'a>(&'a self, tracer: &mut Tracer<'a>) {
        match &self.network {
            Network::Classifier(network) => network.backbone.trace(tracer),
            Network::Detector(network) => network.backbone.trace(tracer),
        }
    }

    fn detector(&self) -> Result<&FasterRcnn, ModelError> {
        match &self.network {
            Network::Detector(network) => Ok(network),
            Network::Classifier(_) => Err(self.wrong_task(Task::Detection)),
        }
    }

    fn classifier(&self) -> Result<&Classifier, ModelError> {
        match &self.network {
            Network::Classifier(network) => Ok(network),
            Network::Detector(_) => Err(self.wrong_task(Task::Classification)),
        }
    }

    pub(crate) fn wrong_task(&self, required: Task) -> ModelError {
        ModelError::WrongTask {
            path: self.path.clone(),
            found: self.task(),
            required,
        }
    }
}

/// Returns the layers of a classifier, or of the backbone of a detector, for inputs of this height and width.
///
/// The network is built anew: a loaded [`Model`] has its batch norms folded into biases of the convolutions,
/// so that its parameters are not those that were trained.
///
/// # Errors
/// The input is too small for the network.
pub fn trained_layers(network: &NetworkConfig, size: [usize; 2]) -> Result<Summary, TooSmall> {
    match network {
        NetworkConfig::Classification(config) => config.summary(size),
        NetworkConfig::Detection(config) => {
            let backbone = config.backbone.init(&Device::flex());
            let mut tracer = Tracer::new(size);
            tracer.within("backbone", |tracer| backbone.trace(tracer));
            tracer.finish()
        }
    }
}

/// Copies a batch of images to a device, without autodiff.
///
/// # Shapes
/// `pixels` has the values of `shape`, `[batch, 3, height, width]`.
pub fn to_device(pixels: Vec<f32>, shape: [usize; 4], device: &Device) -> Tensor<4> {
    let plain = device.clone().inner();
    Tensor::from_data(TensorData::new(pixels, shape), &plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DETECTOR: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../assets/shapes-se-resnet18.safetensors"
    );

    #[test]
    fn a_detector_predicts_boxes_and_refuses_to_classify() {
        let model = Model::load(DETECTOR, &Device::flex()).unwrap();
        let image = RgbImage::from_pixel(160, 120, image::Rgb([90, 120, 160]));
        let found = model.detect(&image).unwrap();
        assert_eq!(model.predict(&image), Prediction::Detections(found));
        let message = model.classify(&image, 5).unwrap_err().to_string();
        assert!(
            message.ends_with(".safetensors: a detector, but a classifier is required"),
            "{message}"
        );
    }

    #[test]
    fn the_listed_layers_have_the_parameters_that_were_trained() {
        let model = Model::load(DETECTOR, &Device::flex()).unwrap();
        let layers = trained_layers(&model.spec.network, [224; 2]).unwrap();
        let stem = &layers.layers[0];
        // 3 x 7 x 7 weights for each of 16 channels, without a bias.
        assert_eq!(stem.parameters, 3 * 7 * 7 * 16, "{stem:?}");
        // A folded batch norm is a bias of its convolution, counted beside the norm.
        let mut tracer = Tracer::new([224; 2]);
        tracer.within("backbone", |tracer| model.trace(tracer));
        let folded = tracer.finish().unwrap();
        assert!(folded.parameters() > layers.parameters());
        assert_eq!(folded.layers[0].parameters, stem.parameters + 16);
    }

    #[test]
    fn a_model_with_missing_tensors_is_refused() {
        let mut loaded = load_weights(Path::new(DETECTOR), None).unwrap();
        loaded.spec.missing = vec!["fpn.inner_blocks.0.weight".into()];
        let path = Path::new("a.pth");
        let message = Model::from_weights(loaded, path, &Device::flex())
            .unwrap_err()
            .to_string();
        assert!(
            message.starts_with("a.pth: 1 tensor of the network is missing"),
            "{message}"
        );
    }
}
