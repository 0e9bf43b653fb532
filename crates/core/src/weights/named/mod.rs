//! Published weights by name: a table of files on their publishers' servers, and the directory of
//! downloads.
//!
//! A name identifies a file and what the file does not contain: its layout, the input of the
//! published evaluation, the license. See [`NamedWeights`] and [`Store`].

mod store;
mod table;

use super::layouts::{Layout, Recognized};
use sedet_data::datasets::download::Checksum;
use sedet_data::loading::transforms::ResizeMethod;
use sedet_data::text::did_you_mean;

pub use store::{Attempt, AttemptFailure, Downloaded, FileOrigin, NamedError, Presence, Store};
use table::TABLE;

/// Published weights.
#[derive(Debug)]
pub struct NamedWeights {
    /// The name: architecture, then recipe or version, in lower case with hyphens.
    pub name: &'static str,
    /// The publisher.
    pub publisher: Publisher,
    /// The file on one or several servers, in the order in which they are tried.
    pub sources: &'static [Source],
    /// The approximate length of the file in megabytes (10^6 bytes).
    pub megabytes: u32,
    /// The layout of its tensors.
    pub layout: Layout,
    /// The input of the published evaluation; none where the layout determines it (detectors).
    pub input: Option<EvaluationInput>,
    /// The published result.
    pub result: PublishedResult,
}

impl PartialEq for NamedWeights {
    /// Compares the names, which are unique.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for NamedWeights {}

/// A publisher of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publisher {
    /// torchvision.
    Torchvision,
    /// timm (pytorch-image-models).
    Timm,
    /// detectron2.
    Detectron2,
}

impl Publisher {
    /// Returns the name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Torchvision => "torchvision",
            Self::Timm => "timm",
            Self::Detectron2 => "detectron2",
        }
    }

    /// Returns the license that the publisher states, as an SPDX identifier.
    pub const fn license(self) -> &'static str {
        match self {
            Self::Torchvision => "BSD-3-Clause",
            Self::Timm => "Apache-2.0",
            Self::Detectron2 => "CC-BY-SA-3.0",
        }
    }
}

/// A server of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// download.pytorch.org.
    Pytorch,
    /// A release on github.com.
    Github,
    /// A model of timm on huggingface.co.
    HuggingFace,
    /// detectron2's model zoo.
    Detectron2,
}

/// A file on a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The server.
    pub server: Server,
    /// The directory on the server, without the part that all its files share.
    pub directory: &'static str,
    /// The file name.
    pub file: &'static str,
}

impl Source {
    const fn pytorch(file: &'static str) -> Self {
        Self {
            server: Server::Pytorch,
            directory: "",
            file,
        }
    }

    const fn github(directory: &'static str, file: &'static str) -> Self {
        Self {
            server: Server::Github,
            directory,
            file,
        }
    }

    const fn hugging_face(directory: &'static str) -> Self {
        Self {
            server: Server::HuggingFace,
            directory,
            file: "model.safetensors",
        }
    }

    const fn detectron2(directory: &'static str, file: &'static str) -> Self {
        Self {
            server: Server::Detectron2,
            directory,
            file,
        }
    }

    /// Returns the scheme and host of the address.
    pub const fn host(&self) -> &'static str {
        match self.server {
            Server::Pytorch => "https://download.pytorch.org",
            Server::Github => "https://github.com",
            Server::HuggingFace => "https://huggingface.co",
            Server::Detectron2 => "https://dl.fbaipublicfiles.com",
        }
    }

    /// Returns the path of the address, with a leading slash.
    pub fn path(&self) -> String {
        let Self {
            directory, file, ..
        } = self;
        match self.server {
            Server::Pytorch => format!("/models/{file}"),
            Server::Github => format!("/{directory}/{file}"),
            Server::HuggingFace => format!("/timm/{directory}/resolve/main/{file}"),
            Server::Detectron2 => format!("/detectron2/COCO-Detection/{directory}/{file}"),
        }
    }

    /// Returns the address.
    pub fn url(&self) -> String {
        format!("{}{}", self.host(), self.path())
    }

    /// Returns the addresses at which the file is looked for: its own, or those on a mirror, which has
    /// it under the same path or, if its name contains its checksum, directly.
    fn addresses(&self, mirror: Option<&str>) -> Vec<String> {
        let Some(mirror) = mirror else {
            return vec![self.url()];
        };
        let mirror = mirror.trim_end_matches('/');
        let mut addresses = vec![format!("{mirror}{}", self.path())];
        // Any directory can have a file `model.safetensors`.
        if self.checksum().is_some() {
            addresses.push(format!("{mirror}/{}", self.file));
        }
        addresses
    }

    /// Returns the checksum whose first digits the file name contains.
    ///
    /// Eight digits after the last hyphen are SHA-256: torchvision verifies them (`check_hash`), and
    /// timm's `clean_checkpoint.py` writes them. detectron2's `MODEL_ZOO.md` states that its names
    /// contain a prefix of MD5.
    pub fn checksum(&self) -> Option<Checksum> {
        const SHA256_DIGITS: usize = 8;
        let (stem, _) = self.file.rsplit_once('.')?;
        let separator = match self.server {
            Server::Pytorch | Server::Github => '-',
            Server::Detectron2 => '_',
            Server::HuggingFace => return None,
        };
        let (_, digits) = stem.rsplit_once(separator)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        match self.server {
            Server::Detectron2 => Some(Checksum::Md5(digits.to_owned())),
            _ if digits.len() == SHA256_DIGITS => Some(Checksum::Sha256(digits.to_owned())),
            _ => None,
        }
    }
}

/// The resizing of a classifier's images in the published evaluation. Mean and standard deviation
/// are ImageNet's for all weights of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvaluationInput {
    /// Length of the short side after resizing, in pixels.
    pub resize: usize,
    /// Side of the center crop, in pixels.
    pub crop: usize,
    /// The interpolation.
    pub method: ResizeMethod,
}

impl EvaluationInput {
    const fn bilinear(resize: usize, crop: usize) -> Self {
        Self {
            resize,
            crop,
            method: ResizeMethod::Pillow,
        }
    }

    const fn bicubic(resize: usize, crop: usize) -> Self {
        Self {
            resize,
            crop,
            method: ResizeMethod::PillowBicubic,
        }
    }
}

/// The result that the publisher states, in percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PublishedResult {
    /// Accuracies on ImageNet's validation set.
    Accuracy {
        /// Top 1.
        top1: f64,
        /// Top 5.
        top5: f64,
    },
    /// Box AP on COCO val2017, averaged over IoU 0.5 to 0.95.
    BoxAp(f64),
}

impl PublishedResult {
    /// Returns the name of the dataset.
    pub const fn dataset(self) -> &'static str {
        match self {
            Self::Accuracy { .. } => "ImageNet",
            Self::BoxAp(_) => "COCO",
        }
    }
}

/// No published weights have this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no published weights are named '{name}'{}", did_you_mean(name, &NamedWeights::names()))]
pub struct UnknownWeights {
    /// The name.
    pub name: String,
}

impl NamedWeights {
    /// Returns all named weights: detectors, then classifiers, by publisher.
    pub fn all() -> &'static [Self] {
        &TABLE
    }

    /// Returns all names.
    pub fn names() -> Vec<&'static str> {
        TABLE.iter().map(|weights| weights.name).collect()
    }

    /// Returns the weights of this name. Capital letters, underscores and dots in place of hyphens, and
    /// timm's suffix `in1k` make no difference, so that timm's own names are understood.
    ///
    /// # Errors
    /// No weights have this name; the message suggests a similar one.
    pub fn of_name(name: &str) -> Result<&'static Self, UnknownWeights> {
        let plain = name.to_lowercase().replace(['_', '.'], "-");
        let plain = plain.strip_suffix("-in1k").unwrap_or(&plain);
        let found = TABLE.iter().find(|weights| weights.name == plain);
        found.ok_or_else(|| UnknownWeights {
            name: name.to_owned(),
        })
    }

    /// Describes publisher, license and training data in one line.
    pub fn terms(&self) -> String {
        format!(
            "{}, license {}; trained on {}, whose terms may apply as well",
            self.publisher.name(),
            self.publisher.license(),
            self.result.dataset()
        )
    }

    /// Returns the file name of a download from this source.
    fn file_name(&self, source: &Source) -> String {
        let extension = source.file.rsplit('.').next().unwrap_or(source.file);
        format!("{}.{extension}", self.name)
    }

    /// Completes what was recognized by names and shapes with what the table contains. No assumption is
    /// left.
    pub(super) fn complete(&self, found: &mut Recognized) {
        if let Some(input) = self.input {
            let preprocess = &mut found.spec.preprocess;
            preprocess.min_size = input.resize;
            preprocess.center_crop = Some(input.crop);
            preprocess.resize_method = input.method;
        }
        found.assumptions.clear();
    }
}

#[cfg(test)]
mod tests;
