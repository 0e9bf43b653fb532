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

/// Returns the evaluation preprocessing in the `preprocessor_config.json` beside a file of transformers; `None` if
/// there is none.
///
/// The image processors that are read are that of ConvNeXt, which transformers' ResNets have (below 384 pixels the short
/// side is resized to `size / crop_pct`, and the center of `size` is cropped), and those of BiT and CLIP (the short side
/// is resized, and the center of `crop_size` is cropped). The defaults of absent keys are theirs.
///
/// # Errors
/// It states another preprocessing; the message says which.
pub(super) fn preprocessor_input(path: &Path) -> Result<Option<Preprocess>, String> {
    const NAME: &str = "preprocessor_config.json";
    if !path.with_file_name(NAME).exists() {
        return Ok(None);
    }
    let refused = |reason: &str| format!("the {NAME} beside the file {reason}");
    let config = json_beside(path, NAME).ok_or_else(|| refused("is no JSON"))?;
    let input = image_processor(&config).map_err(|reason| refused(&reason))?;
    Ok(Some(input))
}

/// Returns the preprocessing that transformers' configuration of an image processor states, or why sedet has none like
/// it.
fn image_processor(config: &Value) -> Result<Preprocess, String> {
    /// From this size on, ConvNeXt's distorts the image to a square instead.
    const DISTORTED: u64 = 384;
    let kind = ["image_processor_type", "feature_extractor_type"]
        .into_iter()
        .find_map(|key| config.get(key)?.as_str())
        // transformers then takes that of its ResNets.
        .unwrap_or("ConvNextImageProcessor");
    for step in ["do_resize", "do_rescale", "do_normalize", "do_center_crop"] {
        if config.get(step).is_some_and(|value| value == false) {
            return Err(format!("has `{step}` off, which sedet always does"));
        }
    }
    let number = |key: &str| config.get(key).and_then(Value::as_f64);
    if number("rescale_factor").is_some_and(|factor| (factor * 255.0 - 1.0).abs() > 1e-3) {
        return Err("has another `rescale_factor` than 1/255".into());
    }
    let length = |key: &str, side: &str| {
        let size = config.get(key)?;
        size.as_u64().or_else(|| size.get(side)?.as_u64())
    };
    let short_side = length("size", "shortest_edge");
    let (side, crop, default_filter) = if kind.starts_with("ConvNext") {
        let crop = short_side.filter(|side| (1..DISTORTED).contains(side));
        let crop = crop.ok_or("has no `size` with a `shortest_edge` below 384 pixels")?;
        let share = number("crop_pct").unwrap_or(224.0 / 256.0);
        if !(0.1..=1.0).contains(&share) {
            return Err("has a `crop_pct` that is not from 0.1 to 1".into());
        }
        ((crop as f64 / share) as usize, crop, 2)
    } else if kind.starts_with("Bit") || kind.starts_with("CLIP") {
        let side = short_side.ok_or("has no `shortest_edge` in its `size`")?;
        let crop = length("crop_size", "height").filter(|crop| (1..=side).contains(crop));
        let crop = crop.ok_or("has no `crop_size` up to the `shortest_edge`")?;
        if length("crop_size", "width") != Some(crop) {
            return Err("has a `crop_size` that is no square".into());
        }
        (
            usize::try_from(side).map_err(|_| "has a `size` that is too large")?,
            crop,
            3,
        )
    } else {
        return Err(format!("is that of a {kind}, which sedet has not"));
    };
    let triple_of = |key: &str| {
        let numbers = config.get(key).and_then(triple);
        numbers.ok_or_else(|| format!("has no three numbers as `{key}`"))
    };
    // Pillow's numbers of its filters.
    let filter = config.get("resample").and_then(Value::as_u64);
    let input = Preprocess {
        mean: triple_of("image_mean")?,
        std: triple_of("image_std")?,
        min_size: side,
        center_crop: Some(usize::try_from(crop).map_err(|_| "has a crop that is too large")?),
        resize_method: match filter.unwrap_or(default_filter) {
            2 => ResizeMethod::Pillow,
            3 => ResizeMethod::PillowBicubic,
            _ => return Err("has a `resample` that is neither bilinear nor bicubic".into()),
        },
        ..Preprocess::imagenet_eval()
    };
    input
        .validate()
        .map_err(|error| format!("states what cannot work: {error}"))?;
    Ok(input)
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

/// Returns the evaluation preprocessing in timm's `config.json` beside the file; `None` if there is none.
///
/// # Errors
/// It states another preprocessing; the message says which.
pub(super) fn stated_input(path: &Path) -> Result<Option<Preprocess>, String> {
    let Some(stated) = config(path).and_then(|mut config| {
        if let Some(stated) = config.get_mut("pretrained_cfg") {
            return Some(stated.take());
        }
        // Older files have the same keys at the top.
        let is_old = config.get("architecture").is_some() && config.get("mean").is_some();
        is_old.then_some(config)
    }) else {
        return Ok(None);
    };
    let refused = |reason: &str| format!("the config.json beside the file {reason}");
    timm_input(&stated)
        .map(Some)
        .map_err(|reason| refused(&reason))
}

/// Returns how the network in timm's `config.json` beside the file differs from those of sedet where no tensor shows it;
/// None if it does not, or there is no such file.
pub(super) fn timm_difference(path: &Path) -> Option<String> {
    const USUAL: [(&str, &str); 2] = [("global_pool", "avg"), ("act_layer", "relu")];
    let config = config(path)?;
    config.get("architecture")?;
    let arguments = config.get("model_args");
    USUAL.into_iter().find_map(|(key, usual)| {
        let stated = arguments.and_then(|arguments| arguments.get(key));
        let stated = stated.or_else(|| config.get(key))?.as_str()?;
        // Without a classifier nothing is pooled.
        let differs = !stated.is_empty() && stated != usual;
        differs.then(|| {
            format!(
                "its `{key}` is `{stated}` (config.json beside the file), that of sedet's networks `{usual}`"
            )
        })
    })
}

/// Returns the preprocessing of timm's `pretrained_cfg`, or why sedet has none like it. The defaults of absent keys are
/// timm's.
fn timm_input(stated: &Value) -> Result<Preprocess, String> {
    let sizes = stated
        .get("input_size")
        .map_or(Some(vec![3, 224, 224]), |sizes| {
            serde_json::from_value::<Vec<usize>>(sizes.clone()).ok()
        });
    let side = match sizes.as_deref() {
        Some(&[3, height, width]) if height == width => height,
        _ => return Err("has an `input_size` that is no square of three channels".into()),
    };
    let crop_share = stated
        .get("crop_pct")
        .map_or(Some(0.875), Value::as_f64)
        .filter(|share| (0.1..=1.0).contains(share));
    let crop_share = crop_share.ok_or("has a `crop_pct` that is not from 0.1 to 1")?;
    if stated
        .get("crop_mode")
        .is_some_and(|mode| !mode.is_null() && mode != "center")
    {
        return Err("has another `crop_mode` than `center`".into());
    }
    let usual = Preprocess::imagenet_eval();
    let triple_of = |key: &str, usual: [f32; 3]| {
        let numbers = stated.get(key).map_or(Some(usual), triple);
        numbers.ok_or_else(|| format!("has no three numbers as `{key}`"))
    };
    let input = Preprocess {
        mean: triple_of("mean", usual.mean)?,
        std: triple_of("std", usual.std)?,
        // timm's `scale_size`.
        min_size: (side as f64 / crop_share).floor() as usize,
        center_crop: Some(side),
        resize_method: match stated.get("interpolation").map(Value::as_str) {
            Some(Some("bilinear")) => ResizeMethod::Pillow,
            None | Some(Some("bicubic")) => ResizeMethod::PillowBicubic,
            _ => return Err("has an `interpolation` that is neither bilinear nor bicubic".into()),
        },
        ..usual
    };
    input
        .validate()
        .map_err(|error| format!("states what cannot work: {error}"))?;
    Ok(input)
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
