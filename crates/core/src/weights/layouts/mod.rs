//! The layouts of third-party weights files: which network a file contains, and which of its tensors
//! corresponds to each native tensor.
//!
//! A layout is recognized by its names. The architecture follows from names and shapes: blocks,
//! groups, SE units, stem, shortcuts, classes. What cannot be derived from either (position of the
//! stride, stem pooling, input convention) follows from the framework and is stored in the
//! checkpoint, so that the network computes the same as in its framework.
//!
//! Native names are mapped to third-party names, which is unambiguous. The mapping is used for import
//! and export.

mod architecture;
mod detectors;
mod residual;
mod timm;

use super::third_party::{TensorInfo, ThirdPartyFile};
use crate::spec::ModelSpec;

pub use detectors::torchvision_anchor_generator;
pub use detectors::{DetectorDialect, DetectorNames, HeadShape};
pub use residual::{ClassifierNames, Library, ResidualNames};
pub use timm::timm_constructor;

/// The arrangement of the values of a native tensor in the third-party tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The same arrangement.
    AsIs,
    /// A matrix `[out, in]`; the native matrix is `[in, out]`.
    Matrix,
    /// A matrix stored as a 1x1 convolution, `[out, in, 1, 1]`.
    Pointwise,
    /// A bias that the framework does not have: the native one is zero.
    Absent,
    /// Rows of a class matrix `[classes + 1, in]` with the background last; native matrices have it first.
    BackgroundLast,
    /// The same for a vector of biases.
    BackgroundLastBias,
    /// Box deltas `[classes * 4, in]` without a background class; native matrices have unused rows
    /// for it.
    NoBackground,
    /// The same for a vector of biases.
    NoBackgroundBias,
}

/// The tensor of a third-party file that corresponds to a native tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThirdPartyTensor {
    /// The name, without the common prefix of all names.
    pub name: String,
    /// The arrangement of its values.
    pub form: Form,
}

impl ThirdPartyTensor {
    fn new(name: impl Into<String>, form: Form) -> Self {
        Self {
            name: name.into(),
            form,
        }
    }
}

/// A file whose tensor names are stripped of their common prefix: `module.`, `state_dict.`,
/// `model_ema.` or anything else before the first known name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unwrapped<'a> {
    file: &'a ThirdPartyFile,
    prefix: &'a str,
}

impl<'a> Unwrapped<'a> {
    pub(super) fn info(&self, name: &str) -> Option<&'a TensorInfo> {
        self.file.info(&format!("{}{name}", self.prefix))
    }

    fn shape(&self, name: &str) -> Option<&'a [usize]> {
        self.info(name).map(|info| info.shape.as_slice())
    }

    fn has(&self, name: &str) -> bool {
        self.info(name).is_some()
    }

    /// Returns the three values of a tensor, if the file has it.
    fn triple(&self, name: &str) -> Option<[f32; 3]> {
        let values = self.file.values(&format!("{}{name}", self.prefix)).ok()?;
        values.try_into().ok()
    }

    /// Returns the shape of a tensor that must exist.
    fn required(&self, name: &str) -> Result<&'a [usize], String> {
        self.shape(name)
            .ok_or_else(|| format!("it contains no tensor {name}"))
    }

    /// Returns the shape of a tensor that must exist, with `N` dimensions.
    fn sizes<const N: usize>(&self, name: &str) -> Result<[usize; N], String> {
        let shape = self.required(name)?;
        shape.try_into().map_err(|_| {
            format!("tensor {name} has the shape {shape:?}; {N} dimensions are expected")
        })
    }
}

/// The result of recognizing a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Recognized {
    /// The layout of the file.
    pub layout: Layout,
    /// The prefix of all names in the file.
    pub prefix: String,
    /// The model; its classes have no names yet.
    pub spec: ModelSpec,
    /// The map from native to third-party names.
    pub names: Names,
    /// Assumptions about what cannot be derived from the tensors, as text.
    pub assumptions: Vec<String>,
    /// The prefixes of other networks in the file, which are not used: MoCo's key encoder, or weights
    /// beside their EMA.
    pub other_networks: Vec<String>,
}

/// A map from native to third-party names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// The names of a classifier.
    Classifier(ClassifierNames),
    /// The names of a detector.
    Detector(DetectorNames),
}

impl Names {
    /// Returns the third-party tensor for a native name.
    pub fn third_party(&self, native: &str) -> ThirdPartyTensor {
        match self {
            Self::Classifier(names) => names.third_party(native),
            Self::Detector(names) => names.third_party(native),
        }
    }

    /// Returns whether a tensor belongs to the layers that compute the outputs. `name` is without the
    /// common prefix of all names. Sedet cannot compute the same outputs without such a tensor; others,
    /// such as the mask head of a Mask R-CNN, can be skipped.
    pub(crate) fn is_inside(&self, name: &str) -> bool {
        match self {
            Self::Classifier(names) => names.backbone.is_inside(name),
            Self::Detector(names) => names.is_inside(name),
        }
    }
}

/// A framework, and the kind of its networks where the tensor names are ambiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// torchvision, and timm's networks without SE.
    Torchvision,
    /// timm's `seresnet` and `seresnext`.
    Timm,
    /// timm's `resnetaa`, `seresnetaa` and `seresnextaa`: anti-aliased by average pooling.
    TimmAa,
    /// timm's `resnetblur`: anti-aliased by blur pooling.
    TimmBlur,
    /// Cadene's pretrained-models; timm's `legacy_`.
    Cadene,
    /// Hugging Face's transformers, `ResNetForImageClassification`.
    Transformers,
    /// moskomule's senet.pytorch.
    Moskomule,
    /// OpenMMLab's mmpretrain, style `pytorch`.
    Mmpretrain,
    /// OpenMMLab's mmpretrain, style `caffe`.
    MmpretrainCaffe,
    /// akamaster's CIFAR networks.
    Akamaster,
    /// chenyaofo's CIFAR networks.
    Chenyaofo,
    /// kuangliu's CIFAR networks: four stages, and shortcuts named `shortcut`.
    Kuangliu,
    /// torchvision's Faster R-CNN, trained from a pretrained backbone.
    TorchvisionDetector,
    /// torchvision's published COCO weights, and weights fine-tuned from them: the epsilon of the
    /// frozen norms is zero.
    TorchvisionDetectorV1,
    /// detectron2 with Caffe's backbones, as in its model zoo.
    Detectron2,
    /// detectron2 with torchvision's backbones.
    Detectron2Torch,
    /// OpenMMLab's mmdetection, style `pytorch`.
    Mmdetection,
    /// OpenMMLab's mmdetection, style `caffe`.
    MmdetectionCaffe,
}

impl Layout {
    /// All layouts.
    pub const ALL: [Self; 18] = [
        Self::Torchvision,
        Self::Timm,
        Self::TimmAa,
        Self::TimmBlur,
        Self::Cadene,
        Self::Transformers,
        Self::Moskomule,
        Self::Mmpretrain,
        Self::MmpretrainCaffe,
        Self::Akamaster,
        Self::Chenyaofo,
        Self::Kuangliu,
        Self::TorchvisionDetector,
        Self::TorchvisionDetectorV1,
        Self::Detectron2,
        Self::Detectron2Torch,
        Self::Mmdetection,
        Self::MmdetectionCaffe,
    ];

    /// Returns the key that selects this layout.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Torchvision => "torchvision",
            Self::Timm => "timm",
            Self::TimmAa => "timm-aa",
            Self::TimmBlur => "timm-blur",
            Self::Cadene => "cadene",
            Self::Transformers => "transformers",
            Self::Moskomule => "moskomule",
            Self::Mmpretrain => "mmpretrain",
            Self::MmpretrainCaffe => "mmpretrain-caffe",
            Self::Akamaster => "akamaster",
            Self::Chenyaofo => "chenyaofo",
            Self::Kuangliu => "kuangliu",
            Self::TorchvisionDetector => "torchvision-detector",
            Self::TorchvisionDetectorV1 => "torchvision-detector-v1",
            Self::Detectron2 => "detectron2",
            Self::Detectron2Torch => "detectron2-torch",
            Self::Mmdetection => "mmdetection",
            Self::MmdetectionCaffe => "mmdetection-caffe",
        }
    }

    /// Returns the layout with this key.
    pub fn of_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|layout| layout.key() == key)
    }

    /// Returns the display name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Torchvision => "torchvision or timm ResNet",
            Self::Timm => "timm SE-ResNet",
            Self::TimmAa => "timm ResNet, anti-aliased by average pooling (resnetaa)",
            Self::TimmBlur => "timm ResNet, anti-aliased by blur pooling (resnetblur)",
            Self::Cadene => "Cadene (timm legacy) SE-ResNet",
            Self::Transformers => "Hugging Face transformers ResNet",
            Self::Moskomule => "moskomule SE-ResNet",
            Self::Mmpretrain => "mmpretrain ResNet",
            Self::MmpretrainCaffe => "mmpretrain ResNet, style caffe",
            Self::Akamaster => "akamaster CIFAR ResNet",
            Self::Chenyaofo => "chenyaofo CIFAR ResNet",
            Self::Kuangliu => "kuangliu CIFAR ResNet",
            Self::TorchvisionDetector => "torchvision Faster R-CNN",
            Self::TorchvisionDetectorV1 => "torchvision Faster R-CNN, from its COCO weights",
            Self::Detectron2 => "detectron2 Faster R-CNN",
            Self::Detectron2Torch => "detectron2 Faster R-CNN, torchvision's backbone",
            Self::Mmdetection => "mmdetection Faster R-CNN",
            Self::MmdetectionCaffe => "mmdetection Faster R-CNN, style caffe",
        }
    }

    /// Returns the naming scheme of the layout.
    const fn naming(self) -> Naming {
        match self {
            Self::Torchvision
            | Self::Timm
            | Self::TimmAa
            | Self::TimmBlur
            | Self::Cadene
            | Self::Moskomule
            | Self::Akamaster
            | Self::Chenyaofo
            | Self::Kuangliu => Naming::Plain,
            Self::Transformers => Naming::Transformers,
            Self::TorchvisionDetector | Self::TorchvisionDetectorV1 => Naming::TorchvisionDetector,
            Self::Detectron2 | Self::Detectron2Torch => Naming::Detectron2,
            Self::Mmpretrain
            | Self::MmpretrainCaffe
            | Self::Mmdetection
            | Self::MmdetectionCaffe => Naming::OpenMmlab,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Naming {
    Detectron2,
    TorchvisionDetector,
    OpenMmlab,
    Transformers,
    Plain,
}

/// The names by which networks are recognized: the first convolution of the first block. The
/// longest names come first, because the others are their suffixes.
const ANCHORS: [(&str, Naming); 6] = [
    ("backbone.bottom_up.res2.0.conv1.weight", Naming::Detectron2),
    (
        "backbone.body.layer1.0.conv1.weight",
        Naming::TorchvisionDetector,
    ),
    ("backbone.layer1.0.conv1.weight", Naming::OpenMmlab),
    ("layer1.0.conv1.weight", Naming::Plain),
    (
        "resnet.encoder.stages.0.layers.0.layer.0.convolution.weight",
        Naming::Transformers,
    ),
    (
        "encoder.stages.0.layers.0.layer.0.convolution.weight",
        Naming::Transformers,
    ),
];

/// Networks that contain a ResNet and compute something else: a part of the name of a tensor that only they
/// have, and what they are. The backbones of the segmentation networks are dilated, which no tensor shows.
const OTHER_NETWORKS: [(&str, &str); 15] = [
    ("layer1.0.conv1.paths.", "an SKNet (timm)"),
    ("layer1.0.conv2.fc1.", "a ResNeSt (timm)"),
    ("layer1.0.conv2.rsoftmax.", "a ResNeSt"),
    ("layer1.0.conv2.paths.", "an SKNet (timm)"),
    (
        "head.regression_head.bbox_ctrness.",
        "an FCOS detector (torchvision)",
    ),
    ("head.classification_head.", "a RetinaNet (torchvision)"),
    ("head.cls_subnet.", "a RetinaNet (detectron2)"),
    ("bbox_head.retina_cls.", "a RetinaNet (mmdetection)"),
    (
        "bbox_head.conv_centerness.",
        "an FCOS detector (mmdetection)",
    ),
    ("roi_head.bbox_head.0.", "a Cascade R-CNN (mmdetection)"),
    ("roi_heads.box_predictor.0.", "a Cascade R-CNN (detectron2)"),
    (
        "classifier.0.convs.0.0.",
        "a DeepLabV3 with a dilated backbone (torchvision)",
    ),
    ("classifier.aspp.", "a DeepLabV3 with a dilated backbone"),
    (
        "aux_classifier.",
        "a segmentation network with a dilated backbone (torchvision)",
    ),
    ("decode_head.", "a segmentation network (mmsegmentation)"),
];

/// Options for reading a third-party file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImportOptions {
    /// The layout; none detects it from the tensor names.
    pub layout: Option<Layout>,
    /// Which of several networks in the file, by a part of the names of its tensors, such as `encoder_q`,
    /// `teacher` or `state_dict_ema`.
    pub network: Option<String>,
    /// Whether tensors inside the network that sedet has no layer for are skipped. The outputs then
    /// differ from those in the file's framework.
    pub allow_unused: bool,
}

impl From<Option<Layout>> for ImportOptions {
    fn from(layout: Option<Layout>) -> Self {
        Self {
            layout,
            ..Self::default()
        }
    }
}

/// The reason why the network in a file is not recognized. The message does not contain the file name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecognizeError {
    /// The layout is unknown, or not the requested one.
    #[error("{0}")]
    Layout(String),
    /// A network that sedet has not.
    #[error("{0}")]
    Other(String),
    /// A file beside the weights states a preprocessing that sedet has not.
    #[error("{0}")]
    Preprocessing(String),
    /// The file contains several networks, and none of them is preferred.
    #[error("it contains {} networks: {}", networks.len(), networks.join(", "))]
    SeveralNetworks {
        /// What the names of the tensors of each begin with, without the last dot.
        networks: Vec<String>,
    },
    /// The requested network is not in the file.
    #[error("it contains no network '{wanted}'; it contains: {}", networks.join(", "))]
    NoSuchNetwork {
        /// The requested network.
        wanted: String,
        /// What the names of the tensors of each network begin with, without the last dot.
        networks: Vec<String>,
    },
}

impl From<String> for RecognizeError {
    fn from(reason: String) -> Self {
        Self::Layout(reason)
    }
}

/// Recognizes the network in a file. A layout in `options` overrides detection; SE units, stem and classes are
/// read from names and shapes in any case.
///
/// # Errors
/// See [`RecognizeError`].
pub fn recognize(
    file: &ThirdPartyFile,
    options: impl Into<ImportOptions>,
) -> Result<Recognized, RecognizeError> {
    let ImportOptions {
        layout, network, ..
    } = options.into();
    // The backbone alone can be read by the names of a backbone.
    let asks_for_backbone = layout.is_some_and(|layout| layout.naming() == Naming::Plain);
    if !asks_for_backbone && let Some(other) = other_network(file) {
        let reason = format!("it is {other}; sedet reads ResNets and Faster R-CNN");
        return Err(RecognizeError::Other(reason));
    }
    let is_asked = network.is_some();
    let Anchor {
        mut prefix,
        mut naming,
        other_networks,
    } = find_anchor(file, layout, network.as_deref())?;
    let mut tensors = Unwrapped {
        file,
        prefix: &prefix,
    };
    let is_detector = tensors.has("neck.lateral_convs.0.conv.weight");
    // The backbone of any framework can be in an entry `backbone`, without a head or with its own.
    let is_mmpretrain = || {
        tensors.has("head.fc.weight")
            || tensors.has("backbone.layer1.0.se_layer.conv1.conv.weight")
            || tensors.has("backbone.layer1.0.se_layer.conv1.weight")
            || is_caffe_style(file)
    };
    if naming == Naming::OpenMmlab && layout.is_none() && !is_detector && !is_mmpretrain() {
        naming = Naming::Plain;
        prefix.push_str("backbone.");
        tensors = Unwrapped {
            file,
            prefix: &prefix,
        };
    }
    let asks_for_detector = matches!(layout, Some(Layout::Mmdetection | Layout::MmdetectionCaffe));
    let mut recognized = match naming {
        Naming::Detectron2 => detectors::detectron2(tensors, layout)?,
        Naming::TorchvisionDetector => detectors::torchvision(tensors, layout)?,
        Naming::OpenMmlab if layout.is_some() && asks_for_detector != is_detector => {
            let reason = if is_detector {
                "it is a detector (mmdetection)"
            } else {
                "it is a classifier (mmpretrain)"
            };
            return Err(reason.to_string().into());
        }
        Naming::OpenMmlab if is_detector => detectors::mmdetection(tensors, layout)?,
        Naming::OpenMmlab => residual::mmpretrain(tensors, layout)?,
        Naming::Transformers => residual::transformers(tensors)?,
        Naming::Plain => residual::plain(tensors, layout)?,
    };
    if !other_networks.is_empty() && !is_asked {
        recognized.assumptions.push(format!(
            "the network to use: '{prefix}', not '{}'",
            other_networks.join("', '")
        ));
    }
    recognized.prefix = prefix;
    recognized.other_networks = other_networks;
    Ok(recognized)
}

/// Returns whether the configuration that OpenMMLab's frameworks save with the weights has a
/// network of style `caffe`: the stride in the 1x1, images in BGR without a standard deviation.
fn is_caffe_style(file: &ThirdPartyFile) -> bool {
    file.strings("meta").iter().any(|text| {
        let plain: String = text
            .chars()
            .filter(|c| !c.is_whitespace() && !matches!(c, '\'' | '"'))
            .collect();
        plain.contains("style=caffe") || plain.contains("style:caffe")
    })
}

/// The position of a network in a file.
struct Anchor {
    /// The common prefix of its names.
    prefix: String,
    naming: Naming,
    /// The prefixes of other networks with the same naming.
    other_networks: Vec<String>,
}

/// Returns what a file contains instead of a ResNet or a Faster R-CNN.
fn other_network(file: &ThirdPartyFile) -> Option<&'static str> {
    let has = |part: &str| {
        let is_within = |name: &str| {
            // From the start of a module's name, so that `x.decode_head.` counts and `undecode_head.` does not.
            let mut places = name.match_indices(part);
            places.any(|(at, _)| at == 0 || name[..at].ends_with('.'))
        };
        file.tensors().any(|(name, _)| is_within(name))
    };
    let found = OTHER_NETWORKS.into_iter().find(|(part, _)| has(part));
    // The last layer of torchvision's FCN is a convolution. A linear layer of this name is the head of a user's network.
    let is_fcn = || {
        let block = "backbone.layer1.0.conv1.weight";
        file.tensors().any(|(name, _)| {
            let prefix = name.strip_suffix(block);
            let last = prefix.map(|prefix| format!("{prefix}classifier.4.weight"));
            let last = last.and_then(|name| file.info(&name));
            last.is_some_and(|info| info.shape.len() == 4)
        })
    };
    match found {
        Some((_, network)) => Some(network),
        None => is_fcn().then_some("an FCN with a dilated backbone (torchvision)"),
    }
}

/// A network in a file.
struct Candidate<'a> {
    /// What the names of its tensors begin with, up to the first stage of its backbone; the last dot included.
    path: &'a str,
    /// What comes before the name that it was found by.
    prefix: &'a str,
    naming: Naming,
}

impl<'a> Candidate<'a> {
    /// Returns the network whose first block has this tensor.
    fn of(name: &'a str, asked: Option<Naming>) -> Option<Self> {
        let mut anchors = ANCHORS
            .into_iter()
            .filter(|(_, naming)| asked.is_none_or(|asked| asked == *naming));
        anchors.find_map(|(anchor, naming)| {
            let prefix = name.strip_suffix(anchor)?;
            if !prefix.is_empty() && !prefix.ends_with('.') {
                return None;
            }
            let stage = ["layer1.", "res2.", "encoder."]
                .into_iter()
                .find_map(|stage| anchor.find(stage))?;
            Some(Self {
                path: &name[..prefix.len() + stage],
                prefix,
                naming,
            })
        })
    }

    fn parts(&self) -> impl Iterator<Item = &'a str> {
        self.path.split('.').filter(|part| !part.is_empty())
    }

    /// Returns whether a user means this network, by one part of its names or by all.
    fn is_called(&self, wanted: &str) -> bool {
        self.path.trim_end_matches('.') == wanted || self.parts().any(|part| part == wanted)
    }

    /// Returns whether its weights are the EMA of others (timm's `state_dict_ema`).
    fn is_ema(&self) -> bool {
        self.parts()
            .any(|part| part == "ema" || part.ends_with("_ema") || part.starts_with("ema_"))
    }

    /// Returns the name by which it can be requested.
    fn title(&self) -> String {
        match self.path.trim_end_matches('.') {
            "" => "(without a prefix)".to_string(),
            path => path.to_string(),
        }
    }
}

/// Finds the network in a file. Of several it is the one that is asked for, or else the only EMA, whose weights
/// are those of the same network. Of any others, such as MoCo's two encoders and DINO's student and teacher, none
/// is preferred.
fn find_anchor(
    file: &ThirdPartyFile,
    layout: Option<Layout>,
    network: Option<&str>,
) -> Result<Anchor, RecognizeError> {
    let asked = layout.map(Layout::naming);
    let names = file.tensors().map(|(name, _)| name);
    let found: Vec<Candidate> = names
        .filter_map(|name| Candidate::of(name, asked))
        .collect();
    let titles = || found.iter().map(Candidate::title).collect();
    let is_chosen = |candidate: &&Candidate| match network {
        Some(wanted) => candidate.is_called(wanted),
        None => found.len() == 1 || candidate.is_ema(),
    };
    let mut chosen: Vec<&Candidate> = found.iter().filter(is_chosen).collect();
    if let ([], Some(wanted)) = (chosen.as_slice(), network) {
        // A part of a name, if it is that of one network.
        let contains = |candidate: &&Candidate| candidate.path.contains(wanted);
        chosen = found.iter().filter(contains).collect();
    }
    match (chosen.as_slice(), network) {
        ([one], _) => {
            let others = found.iter().filter(|other| other.path != one.path);
            return Ok(Anchor {
                prefix: one.prefix.to_string(),
                naming: one.naming,
                other_networks: others.map(|other| other.path.to_string()).collect(),
            });
        }
        ([], _) if found.is_empty() => {}
        ([], Some(wanted)) => {
            return Err(RecognizeError::NoSuchNetwork {
                wanted: wanted.to_string(),
                networks: titles(),
            });
        }
        _ => return Err(RecognizeError::SeveralNetworks { networks: titles() }),
    }
    if let Some(layout) = layout {
        let anchor = ANCHORS
            .into_iter()
            .find(|(_, naming)| asked == Some(*naming));
        let reason = format!(
            "not of layout {}: no tensor is named like {}",
            layout.key(),
            anchor.map_or("", |(name, _)| name)
        );
        return Err(reason.into());
    }
    let some: Vec<&str> = file.tensors().map(|(name, _)| name).take(3).collect();
    let reason = if some.is_empty() {
        "it contains no tensors".to_string()
    } else {
        format!(
            "none of the known networks: no tensor is named like layer1.0.conv1.weight (it has {}, ...)",
            some.join(", ")
        )
    };
    Err(reason.into())
}
