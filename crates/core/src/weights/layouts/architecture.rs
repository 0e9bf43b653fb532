//! What names and a `config.json` show about a network, and its tensors do not: timm's anti-aliased networks
//! have the same tensors as its plain ones, and each of its networks has its own preprocessing.

use std::path::Path;

use serde_json::Value;

use super::super::third_party::ThirdPartyFile;
use crate::backbones::resnet::AntiAlias;
use sedet_data::annotations::Category;
use sedet_data::loading::transforms::{Preprocess, ResizeMethod};

/// The size limit of a `config.json`, to which timm and the Hugging Face Hub add nothing large.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// The name of an architecture and its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Architecture {
    /// The name, such as `resnetaa50d` or a longer name that contains it.
    name: String,
    /// Where it is from, for messages.
    pub(super) origin: String,
}

impl Architecture {
    /// Returns the anti-aliasing that timm's name of the architecture denotes.
    pub(super) fn anti_alias(&self) -> Option<AntiAlias> {
        let name = self.name.to_lowercase();
        let contains = |words: [&str; 2]| words.iter().any(|word| name.contains(word));
        if contains(["resnetaa", "resnextaa"]) {
            Some(AntiAlias::AveragePool)
        } else if contains(["resnetblur", "resnextblur"]) {
            Some(AntiAlias::BlurPool)
        } else {
            None
        }
    }

    /// Returns the architecture of an anti-aliased network. The `config.json` of the Hugging Face Hub
    /// beside the file decides; without one, the name in timm's training checkpoints, the name of the
    /// file, and the names of its directories (`models--timm--NAME/snapshots/HASH` in the Hub's cache).
    pub(super) fn of_anti_aliased(file: &ThirdPartyFile) -> Option<(Self, AntiAlias)> {
        let path = file.path();
        let candidates = match in_config(path) {
            Some(architecture) => vec![architecture],
            None => [in_checkpoint(file), in_file_name(path)]
                .into_iter()
                .flatten()
                .chain(in_directories(path))
                .collect(),
        };
        candidates.into_iter().find_map(|architecture| {
            let kind = architecture.anti_alias()?;
            Some((architecture, kind))
        })
    }
}

/// Returns the `config.json` of networks on the Hugging Face Hub, in the directory of the file.
fn config(path: &Path) -> Option<Value> {
    json_beside(path, "config.json")
}

fn json_beside(path: &Path, name: &str) -> Option<Value> {
    let config = path.with_file_name(name);
    if std::fs::metadata(&config).ok()?.len() > MAX_CONFIG_BYTES {
        return None;
    }
    serde_json::from_str(&std::fs::read_to_string(&config).ok()?).ok()
}

/// What the `config.json` of transformers' `ResNetForImageClassification` shows about a network, and its
/// tensors do not.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TransformersConfig {
    /// Whether the first 1x1 convolution of a bottleneck has the stride, instead of the 3x3.
    pub(super) downsample_in_bottleneck: bool,
    downsample_in_first_stage: bool,
    hidden_act: String,
    /// The names of the classes by their number.
    labels: Vec<(usize, String)>,
}

impl TransformersConfig {
    /// Returns the configuration beside a file; `None` if there is none, or one of another program.
    pub(super) fn beside(path: &Path) -> Option<Self> {
        let config = config(path)?;
        if config.get("model_type")?.as_str()? != "resnet" {
            return None;
        }
        // Keys that are absent have their default.
        let is_set = |key: &str| config.get(key).and_then(Value::as_bool).unwrap_or(false);
        let labels = config.get("id2label").and_then(Value::as_object);
        let labels = labels
            .into_iter()
            .flatten()
            .filter_map(|(number, name)| Some((number.parse().ok()?, name.as_str()?.to_string())));
        let hidden_act = config.get("hidden_act").and_then(Value::as_str);
        Some(Self {
            downsample_in_bottleneck: is_set("downsample_in_bottleneck"),
            downsample_in_first_stage: is_set("downsample_in_first_stage"),
            hidden_act: hidden_act.unwrap_or("relu").to_string(),
            labels: labels.collect(),
        })
    }

    /// Returns why sedet has no such network.
    pub(super) fn unsupported(&self) -> Option<String> {
        if self.hidden_act != "relu" {
            return Some(format!(
                "its activation is {} (config.json beside the file); sedet's ResNets have ReLU",
                self.hidden_act
            ));
        }
        self.downsample_in_first_stage.then(|| {
            "its first stage has a stride of 2 (config.json beside the file), that of sedet's ResNets has none"
                .to_string()
        })
    }

    /// Returns the classes; none if there is no name for one of them, and for the placeholders `LABEL_0`, ...
    pub(super) fn categories(mut self, classes: usize) -> Vec<Category> {
        self.labels.sort();
        let is_named = |(position, (number, name)): (usize, &(usize, String))| {
            position == *number && !name.starts_with("LABEL_")
        };
        if self.labels.len() != classes || !self.labels.iter().enumerate().all(is_named) {
            return Vec::new();
        }
        let categories = self.labels.into_iter().map(|(number, name)| Category {
            id: number as u64,
            name,
        });
        categories.collect()
    }
}

/// Returns the evaluation preprocessing in the `preprocessor_config.json` beside a file of transformers. `None` if
/// there is none, or if it is of a kind that sedet does not have.
///
/// The preprocessing is that of ConvNeXt, which transformers' ResNets have: below 384 pixels the short side is
/// resized to `size / crop_pct`, and the center of `size` is cropped.
pub(super) fn preprocessor_input(path: &Path) -> Option<Preprocess> {
    const LARGEST_CROPPED: u64 = 383;
    let config = json_beside(path, "preprocessor_config.json")?;
    let kind = ["image_processor_type", "feature_extractor_type"]
        .into_iter()
        .find_map(|key| config.get(key)?.as_str())?;
    let size = config.get("size")?;
    let side = size
        .as_u64()
        .or_else(|| size.get("shortest_edge")?.as_u64())?;
    let crop_share = config
        .get("crop_pct")
        .and_then(Value::as_f64)
        .unwrap_or(224.0 / 256.0);
    let is_known = kind.starts_with("ConvNext") && (1..=LARGEST_CROPPED).contains(&side);
    if !is_known || !(0.1..=1.0).contains(&crop_share) {
        return None;
    }
    let side = usize::try_from(side).ok()?;
    let input = Preprocess {
        mean: triple(config.get("image_mean")?)?,
        std: triple(config.get("image_std")?)?,
        min_size: (side as f64 / crop_share) as usize,
        center_crop: Some(side),
        // Pillow's numbers of its filters.
        resize_method: match config.get("resample")?.as_u64()? {
            2 => ResizeMethod::Pillow,
            3 => ResizeMethod::PillowBicubic,
            _ => return None,
        },
        ..Preprocess::imagenet_eval()
    };
    input.validate().ok()?;
    Some(input)
}

/// Returns three numbers of a list.
fn triple(list: &Value) -> Option<[f32; 3]> {
    let values = list.as_array()?.iter();
    let values: Option<Vec<f32>> = values.map(|v| Some(v.as_f64()? as f32)).collect();
    values?.try_into().ok()
}

fn in_config(path: &Path) -> Option<Architecture> {
    Some(Architecture {
        name: config(path)?.get("architecture")?.as_str()?.to_string(),
        origin: "the config.json beside the file".into(),
    })
}

/// Returns the evaluation preprocessing in timm's `config.json` beside the file. `None` if there is none, or
/// if it is of a kind that sedet does not have.
pub(super) fn stated_input(path: &Path) -> Option<Preprocess> {
    let config = config(path)?;
    let stated = config.get("pretrained_cfg")?;
    let sizes: Vec<u64> = serde_json::from_value(stated.get("input_size")?.clone()).ok()?;
    let &[3, height, width] = sizes.as_slice() else {
        return None;
    };
    let crop_share = stated.get("crop_pct")?.as_f64()?;
    let is_center = stated.get("crop_mode").is_none_or(|mode| mode == "center");
    if height != width || !(0.1..=1.0).contains(&crop_share) || !is_center {
        return None;
    }
    let side = usize::try_from(height).ok()?;
    let input = Preprocess {
        mean: triple(stated.get("mean")?)?,
        std: triple(stated.get("std")?)?,
        // timm's `scale_size`.
        min_size: (side as f64 / crop_share).floor() as usize,
        center_crop: Some(side),
        resize_method: match stated.get("interpolation")?.as_str()? {
            "bicubic" => ResizeMethod::PillowBicubic,
            "bilinear" => ResizeMethod::Pillow,
            _ => return None,
        },
        ..Preprocess::imagenet_eval()
    };
    input.validate().ok()?;
    Some(input)
}

/// Returns the entry `arch` of timm's training checkpoints.
fn in_checkpoint(file: &ThirdPartyFile) -> Option<Architecture> {
    Some(Architecture {
        name: file.text("arch")?,
        origin: "the entry 'arch' of the file".into(),
    })
}

fn in_file_name(path: &Path) -> Option<Architecture> {
    Some(Architecture {
        name: path.file_name()?.to_str()?.to_string(),
        origin: "the name of the file".into(),
    })
}

fn in_directories(path: &Path) -> impl Iterator<Item = Architecture> {
    const NEAREST: usize = 3;
    path.ancestors().skip(1).take(NEAREST).filter_map(|path| {
        let name = path.file_name()?.to_str()?;
        Some(Architecture {
            name: name.to_string(),
            origin: format!("the name of the directory {name}"),
        })
    })
}
