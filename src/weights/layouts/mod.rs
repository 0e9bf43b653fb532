//! The layouts of other code bases: what a file of weights is, and where each of our tensors lies
//! in it.
//!
//! A layout is recognised by its names. The architecture follows from names and shapes: blocks,
//! groups, SE units, stem, shortcuts, classes. What neither shows (stride place, stem pooling,
//! input convention) is known of the code base and stored in the checkpoint, so that the network
//! computes what it computed there.
//!
//! Names are mapped from ours to theirs, which is unambiguous and serves import and export alike.

mod detectors;
mod residual;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::foreign::{Container, ForeignFile, TensorInfo};
use crate::classification::classifier::ClassifierConfig;
use crate::data::transforms::Preprocess;
use crate::detection::faster_rcnn::FasterRcnnConfig;

pub use detectors::{DetectorDialect, DetectorNames};
pub use residual::{ClassifierNames, Dialect, Library, ResidualNames};

/// How the values of one of our tensors lie in theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The same.
    AsIs,
    /// A matrix `[out, in]`; ours is `[in, out]`.
    Matrix,
    /// The same written as a 1x1 convolution, `[out, in, 1, 1]`.
    Pointwise,
    /// A bias that the code base does not have: ours is zero.
    Absent,
    /// Rows of a class matrix `[classes + 1, in]` with the background last; ours is first.
    BackgroundLast,
    /// The same for a vector of biases.
    BackgroundLastBias,
    /// Box deltas `[classes * 4, in]` without a background; ours has unused rows for it.
    NoBackground,
    /// The same for a vector of biases.
    NoBackgroundBias,
}

/// Where one of our tensors lies in a foreign file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Their name, without the wrapper around all names.
    pub name: String,
    /// How its values lie there.
    pub form: Form,
}

impl Place {
    fn new(name: impl Into<String>, form: Form) -> Self {
        Self {
            name: name.into(),
            form,
        }
    }
}

/// A file with the wrapper taken off its names: `module.`, `state_dict.`, `model_ema.` and the
/// like are whatever stands before the first name that is known.
#[derive(Debug, Clone, Copy)]
pub struct Unwrapped<'a> {
    file: &'a ForeignFile,
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

    /// Three values, where the file has such a tensor.
    fn triple(&self, name: &str) -> Option<[f32; 3]> {
        let values = self.file.values(&format!("{}{name}", self.prefix)).ok()?;
        values.try_into().ok()
    }

    /// The shape of a tensor that must be there.
    fn required(&self, name: &str) -> Result<&'a [usize], String> {
        self.shape(name)
            .ok_or_else(|| format!("it has no tensor {name}"))
    }

    /// The same, with as many extents.
    fn extents<const N: usize>(&self, name: &str) -> Result<[usize; N], String> {
        let shape = self.required(name)?;
        shape
            .try_into()
            .map_err(|_| format!("tensor {name} has the shape {shape:?}; {N} extents are expected"))
    }
}

/// What a file turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Recognised {
    /// Of which code base, for people.
    pub layout: &'static str,
    /// What stands before all names in the file.
    pub prefix: String,
    /// The network.
    pub network: Network,
    /// Where our tensors lie.
    pub names: Names,
    /// What is assumed because no tensor shows it, for people.
    pub assumptions: Vec<String>,
}

/// A network and its input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case")]
#[allow(clippy::large_enum_variant)] // one of these exists per program
pub enum Network {
    /// Pixels to class scores.
    Classification {
        /// The network.
        model: ClassifierConfig,
        /// Its input.
        preprocess: Preprocess,
    },
    /// Pixels to boxes.
    Detection {
        /// The network.
        model: FasterRcnnConfig,
        /// Its input.
        preprocess: Preprocess,
    },
}

/// The map from our names to theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// Of a classifier.
    Classifier(ClassifierNames),
    /// Of a detector.
    Detector(DetectorNames),
}

impl Names {
    /// Where our tensor of this name lies.
    pub fn place(&self, ours: &str) -> Place {
        match self {
            Self::Classifier(names) => names.place(ours),
            Self::Detector(names) => names.place(ours),
        }
    }
}

/// The names by which networks are found: the first convolution of the first block, and what the
/// name is cut to for the wrapper.
const ANCHORS: [(&str, Kind); 4] = [
    ("backbone.bottom_up.res2.0.conv1.weight", Kind::Detectron2),
    (
        "backbone.body.layer1.0.conv1.weight",
        Kind::TorchvisionDetector,
    ),
    ("backbone.layer1.0.conv1.weight", Kind::OpenMmlab),
    ("layer1.0.conv1.weight", Kind::Plain),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Detectron2,
    TorchvisionDetector,
    OpenMmlab,
    Plain,
}

/// Find out what a file holds.
///
/// # Errors
/// Why it is none of the known layouts; without the file's name.
pub fn recognise(file: &ForeignFile) -> Result<Recognised, String> {
    let (prefix, kind) = find_anchor(file)?;
    let tensors = Unwrapped {
        file,
        prefix: &prefix,
    };
    let mut recognised = match kind {
        Kind::Detectron2 => detectors::detectron2(tensors)?,
        Kind::TorchvisionDetector => detectors::torchvision(tensors)?,
        Kind::OpenMmlab if tensors.has("neck.lateral_convs.0.conv.weight") => {
            detectors::mmdetection(tensors)?
        }
        Kind::OpenMmlab => residual::mmpretrain(tensors)?,
        Kind::Plain => residual::plain(tensors)?,
    };
    recognised.prefix = prefix;
    Ok(recognised)
}

/// The wrapper and the kind of the network in a file. Where a file has averaged weights beside the
/// others (timm's `state_dict_ema`), those are meant to be used.
fn find_anchor(file: &ForeignFile) -> Result<(String, Kind), String> {
    for (anchor, kind) in ANCHORS {
        let prefixes: BTreeSet<&str> = file
            .tensors()
            .filter_map(|(name, _)| name.strip_suffix(anchor))
            .filter(|prefix| prefix.is_empty() || prefix.ends_with('.'))
            .collect();
        let best = prefixes
            .into_iter()
            .min_by_key(|prefix| (!prefix.contains("ema"), prefix.len()));
        if let Some(prefix) = best {
            return Ok((prefix.to_string(), kind));
        }
    }
    let some: Vec<&str> = file.tensors().map(|(name, _)| name).take(3).collect();
    Err(match some.is_empty() {
        true if file.container() == Container::Pickle => {
            "it holds no PyTorch tensors; pickles of NumPy arrays, such as detectron2's .pkl, are not \
             read (save them as .npz or .pth)"
                .into()
        }
        true => "it holds no tensors".into(),
        false => format!(
            "none of the known networks: no tensor is named like layer1.0.conv1.weight (it has {}, ...)",
            some.join(", ")
        ),
    })
}
