//! What names and a `config.json` tell about a network and its tensors do not: timm's anti-aliased networks
//! have the same tensors as its plain ones, and each of its networks has its own preprocessing.

use std::path::Path;

use serde_json::Value;

use super::super::foreign::ForeignFile;
use crate::backbones::resnet::AntiAlias;
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
    /// Returns the anti-aliasing that timm's name of the architecture stands for.
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
    pub(super) fn of_anti_aliased(file: &ForeignFile) -> Option<(Self, AntiAlias)> {
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

/// Returns the `config.json` of timm's networks on the Hugging Face Hub, in the directory of the file.
fn config(path: &Path) -> Option<Value> {
    let config = path.with_file_name("config.json");
    if std::fs::metadata(&config).ok()?.len() > MAX_CONFIG_BYTES {
        return None;
    }
    serde_json::from_str(&std::fs::read_to_string(&config).ok()?).ok()
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
    let triple = |key: &str| -> Option<[f32; 3]> {
        let values = stated.get(key)?.as_array()?.iter();
        let values: Option<Vec<f32>> = values.map(|v| Some(v.as_f64()? as f32)).collect();
        values?.try_into().ok()
    };
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
        mean: triple("mean")?,
        std: triple("std")?,
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
fn in_checkpoint(file: &ForeignFile) -> Option<Architecture> {
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
