//! The typed configuration of a run: a recipe in TOML, changed by `--set a.b=c`.
//!
//! Recipes live in `configs/` and are part of the binary; `--config` takes one of their names or a
//! file. Every field of a recipe is used, and an unknown one is an error.

mod recipes;

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub use recipes::{RECIPES, recipe_for};

use crate::backbones::resnet::ResNetConfig;
use crate::backbones::zoo::{ZooError, backbone, detector_names};
use crate::data::loader::OnBadImage;
use crate::data::transforms::preprocess::ChannelOrder;
use crate::data::transforms::{Augmentation, Preprocess};
use crate::detection::faster_rcnn::{FasterRcnnConfig, Preset};
use crate::nn::norm::NormKind;
use crate::nn::se::SeConfig;
use crate::train::engine::EngineConfig;

/// What can be wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Neither a recipe nor a file.
    #[error("no recipe and no file '{name}'; recipes: {}", recipes.join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        recipes: Vec<&'static str>,
    },
    /// The file.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// TOML or its fields.
    #[error("{origin}: {message}")]
    Invalid {
        /// Recipe, file or option.
        origin: String,
        /// What is wrong.
        message: String,
    },
    /// `--set` without a value.
    #[error("--set '{0}': expected KEY=VALUE, such as train.epochs=12")]
    Set(String),
    /// The backbone's name.
    #[error(transparent)]
    Backbone(#[from] ZooError),
}

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Where the recipe's numbers come from.
    pub source: String,
    /// The network.
    pub model: ModelConfig,
    /// Sizes of the network's input.
    pub input: InputConfig,
    /// Changes of training images.
    pub augment: Augmentation,
    /// Batches.
    pub loader: LoaderSection,
    /// The training loop. `learning_rate` is for `loader.base_batch_size`.
    pub train: EngineConfig,
}

/// The network by names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Whose details to follow.
    pub preset: Preset,
    /// A name of the zoo.
    pub backbone: String,
    /// Multiplies the backbone's channels.
    pub width: f64,
    /// The ratio r of the SE units that the named backbone has; 16 in the paper.
    pub se_reduction: usize,
    /// Any field of [`SeConfig`], over what the backbone's units have by its name or by given
    /// weights, such as `se.squeeze = "max"`.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub se: Table,
    /// Norm layers when training starts from given weights. From random weights they are always
    /// `batch`, since frozen statistics of 0 and 1 normalise nothing.
    pub norm: NormKind,
    /// Stem and stages that keep given weights; with random weights all are trained.
    pub frozen_stages: usize,
    /// Any field of the detector's own configuration, as it stands in a checkpoint, such as
    /// `overrides.rpn.train_limits.post_nms = 500`.
    #[serde(default)]
    pub overrides: Table,
}

/// Input sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputConfig {
    /// Target of the shorter side.
    pub min_size: usize,
    /// Limit of the longer side.
    pub max_size: usize,
    /// How pixels become numbers, where given weights want another way than the preset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixels: Option<PixelConfig>,
}

/// `(value * scale - mean) / std` for values of 0 to 255, mean and std in the channel order.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PixelConfig {
    /// Order of the planes.
    pub channel_order: ChannelOrder,
    /// Applied first.
    pub scale: f32,
    /// Subtracted, per channel.
    pub mean: [f32; 3],
    /// Divided by, per channel.
    pub std: [f32; 3],
}

/// Batches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoaderSection {
    /// Images per batch.
    pub batch_size: usize,
    /// The batch that `train.learning_rate` is meant for.
    pub base_batch_size: usize,
    /// Threads that prepare batches.
    pub threads: usize,
    /// Train on images without boxes.
    #[serde(default)]
    pub keep_empty: bool,
    /// What to do with images that can't be read.
    #[serde(default)]
    pub on_bad_image: OnBadImage,
}

impl RunConfig {
    /// A recipe by name or a TOML file, changed by `KEY=VALUE` settings.
    ///
    /// # Errors
    /// Unknown names, unreadable files, unknown or ill-typed fields; each says which.
    pub fn load(name: &str, settings: &[String]) -> Result<Self, ConfigError> {
        let (origin, text) = match RECIPES.iter().find(|(known, _)| *known == name) {
            Some((known, text)) => (format!("recipe {known}"), (*text).to_string()),
            None if Path::new(name).is_file() => {
                let path = PathBuf::from(name);
                let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::Read {
                    path: path.clone(),
                    source,
                })?;
                (name.to_string(), text)
            }
            None => {
                return Err(ConfigError::Unknown {
                    name: name.to_string(),
                    recipes: RECIPES.iter().map(|(known, _)| *known).collect(),
                });
            }
        };
        let mut table: Table = toml::from_str(&text).map_err(|e| ConfigError::Invalid {
            origin: origin.clone(),
            message: e.to_string(),
        })?;
        for setting in settings {
            apply_setting(&mut table, setting)?;
        }
        let origin = match settings {
            [] => origin,
            _ => format!("{origin} with --set {}", settings.join(" --set ")),
        };
        let config: Self = table
            .try_into()
            .map_err(|e: toml::de::Error| ConfigError::Invalid {
                origin: origin.clone(),
                message: e.message().to_string(),
            })?;
        config.validate(&origin)?;
        Ok(config)
    }

    fn validate(&self, origin: &str) -> Result<(), ConfigError> {
        let positive = [
            ("train.epochs", self.train.epochs),
            ("train.accumulate", self.train.accumulate),
            ("train.evaluate_every", self.train.evaluate_every),
            ("train.log_every", self.train.log_every),
            ("loader.batch_size", self.loader.batch_size),
            ("loader.base_batch_size", self.loader.base_batch_size),
            ("loader.threads", self.loader.threads),
            ("input.min_size", self.input.min_size),
            ("model.se_reduction", self.model.se_reduction),
        ];
        let learning_rate = self.train.learning_rate;
        let problem = if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            Some(format!("{name} must be at least 1"))
        } else if let Err(error) = self.augment.validate() {
            Some(format!("augment: {error}"))
        } else if !(learning_rate.is_finite() && learning_rate > 0.0) {
            Some(format!(
                "train.learning_rate is {learning_rate}; it must be above 0"
            ))
        } else if self.input.max_size < self.input.min_size {
            Some(format!(
                "input.max_size {} is below input.min_size {}",
                self.input.max_size, self.input.min_size
            ))
        } else if !(self.model.width > 0.0 && self.model.width <= 8.0) {
            Some(format!(
                "model.width is {}; it must be above 0 and at most 8",
                self.model.width
            ))
        } else {
            None
        };
        match problem {
            None => Ok(()),
            Some(message) => Err(ConfigError::Invalid {
                origin: origin.to_string(),
                message,
            }),
        }
    }

    /// The detector for so many classes; `pretrained` says whether weights will be loaded.
    ///
    /// # Errors
    /// An unknown backbone, overrides that don't fit, SE fields for a backbone without SE units.
    pub fn detector(
        &self,
        num_classes: usize,
        pretrained: bool,
    ) -> Result<FasterRcnnConfig, ConfigError> {
        let mut net: ResNetConfig = backbone(&self.model.backbone)?;
        net.width_multiplier = self.model.width;
        net.se = net.se.map(|se| SeConfig {
            reduction: self.model.se_reduction,
            ..se
        });
        if pretrained {
            net.norm.kind = self.model.norm;
            net.frozen_stages = self.model.frozen_stages;
        } else {
            net.norm.kind = NormKind::Batch;
            net.frozen_stages = 0;
        }
        let detector = FasterRcnnConfig::new(self.model.preset, net, num_classes);
        let mut detector = changed(detector, &self.model.overrides, "model.overrides")?;
        if !self.model.se.is_empty() {
            let se = detector.backbone.se.ok_or_else(|| ConfigError::Invalid {
                origin: "model.se".to_string(),
                message: format!(
                    "the backbone has no SE units to change; known with units: {}",
                    detector_names()
                        .iter()
                        .filter(|name| name.starts_with("se-"))
                        .cloned()
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            })?;
            detector.backbone.se = Some(changed(se, &self.model.se, "model.se")?);
        }
        detector
            .backbone
            .validate()
            .map_err(|e| ConfigError::Invalid {
                origin: "the backbone".to_string(),
                message: e.to_string(),
            })?;
        Ok(detector)
    }

    /// From pixels to the network's input.
    pub fn preprocess(&self) -> Preprocess {
        let preset = match self.model.preset {
            Preset::Torchvision => Preprocess::torchvision(),
            Preset::Detectron2 => Preprocess::detectron2(),
            Preset::Mmdetection => Preprocess::mmdetection(),
        };
        let sized = preset.with_sizes(self.input.min_size, self.input.max_size);
        match self.input.pixels {
            None => sized,
            Some(pixels) => Preprocess {
                channel_order: pixels.channel_order,
                scale: pixels.scale,
                mean: pixels.mean,
                std: pixels.std,
                ..sized
            },
        }
    }

    /// Whether the whole backbone was taken over from weights, and `model.backbone` names another.
    pub fn has_adopted_backbone(&self) -> bool {
        let backbone = self.model.overrides.get("backbone");
        backbone.and_then(|table| table.get("layers")).is_some()
    }

    /// Take over what given weights need to compute what they computed where they come from: the
    /// backbone's stem, shortcuts and strides, and the meaning of pixels. With `whole`, also its
    /// blocks and SE units, so that no backbone has to be named.
    ///
    /// # Errors
    /// Never for a description that a checkpoint holds.
    pub fn adopt(
        &mut self,
        backbone: &ResNetConfig,
        preprocess: &Preprocess,
        whole: bool,
    ) -> Result<(), ConfigError> {
        let all = Table::try_from(backbone).map_err(|e| ConfigError::Invalid {
            origin: "the weights' backbone".into(),
            message: e.to_string(),
        })?;
        let structure = ["block", "layers", "se", "groups", "width_per_group"];
        let details = [
            "base_channels",
            "stem",
            "stem_pooling",
            "shortcut",
            "stride_place",
        ];
        let mut own = Table::new();
        for (key, value) in all {
            let is_taken =
                details.contains(&key.as_str()) || (whole && structure.contains(&key.as_str()));
            if is_taken {
                own.insert(key, value);
            }
        }
        let epsilon = Value::Float(backbone.norm.epsilon);
        own.insert(
            "norm".into(),
            Value::Table(Table::from_iter([("epsilon".to_string(), epsilon)])),
        );
        let given = self.model.overrides.remove("backbone");
        if let Some(Value::Table(given)) = &given {
            merge(&mut own, given);
        }
        self.model
            .overrides
            .insert("backbone".into(), Value::Table(own));
        if whole {
            if backbone.se.is_none() {
                // TOML has no way to write "none" over the units of the named backbone.
                let name = &self.model.backbone;
                let plain = name.strip_prefix("se-").unwrap_or(name);
                self.model.backbone = plain.to_string();
            }
            self.model.width = backbone.width_multiplier;
        }
        self.input.pixels = Some(PixelConfig {
            channel_order: preprocess.channel_order,
            scale: preprocess.scale,
            mean: preprocess.mean,
            std: preprocess.std,
        });
        Ok(())
    }
}

/// A configuration with `changes` put over its fields.
fn changed<T: Serialize + DeserializeOwned>(
    value: T,
    changes: &Table,
    origin: &str,
) -> Result<T, ConfigError> {
    if changes.is_empty() {
        return Ok(value);
    }
    let invalid = |message: String| ConfigError::Invalid {
        origin: origin.to_string(),
        message,
    };
    let mut table = Table::try_from(&value).map_err(|e| invalid(e.to_string()))?;
    merge(&mut table, changes);
    table
        .try_into()
        .map_err(|e: toml::de::Error| invalid(e.message().to_string()))
}

/// Put `changes` over `table`, table by table.
fn merge(table: &mut Table, changes: &Table) {
    for (key, value) in changes {
        match (table.get_mut(key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            _ => {
                table.insert(key.clone(), value.clone());
            }
        }
    }
}

/// `a.b=c`: the value is TOML if it reads as such, else a string.
fn apply_setting(table: &mut Table, setting: &str) -> Result<(), ConfigError> {
    let wrong = || ConfigError::Set(setting.to_string());
    let (key, value) = setting.split_once('=').ok_or_else(wrong)?;
    let value = format!("v = {value}")
        .parse::<Table>()
        .ok()
        .and_then(|mut parsed| parsed.remove("v"))
        .unwrap_or_else(|| Value::String(value.to_string()));
    let mut at = table;
    let mut keys: Vec<&str> = key.split('.').map(str::trim).collect();
    let last = keys.pop().filter(|k| !k.is_empty()).ok_or_else(wrong)?;
    for key in keys {
        at = at
            .entry(key)
            .or_insert_with(|| Value::Table(Table::new()))
            .as_table_mut()
            .ok_or_else(wrong)?;
    }
    // 16 for a field that is a float: TOML is strict about it, people are not.
    let value = match (at.get(last), &value) {
        (Some(Value::Float(_)), Value::Integer(i)) => Value::Float(*i as f64),
        _ => value,
    };
    at.insert(last.to_string(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::se::{Gate, SePosition, Squeeze};

    #[test]
    fn every_recipe_loads_and_survives_being_written_down() {
        for (name, _) in RECIPES {
            let config = RunConfig::load(name, &[]).unwrap();
            config.detector(3, true).unwrap();
            config.detector(3, false).unwrap();
            let text = toml::to_string(&config).unwrap();
            assert_eq!(
                toml::from_str::<RunConfig>(&text).unwrap(),
                config,
                "{name}"
            );
        }
    }

    #[test]
    fn settings_change_fields_and_unknown_ones_are_refused() {
        let set = |s: &str| RunConfig::load("shapes", &[s.to_string()]);
        assert_eq!(set("train.epochs=3").unwrap().train.epochs, 3);
        assert_eq!(
            set("train.clip_norm=10").unwrap().train.clip_norm,
            Some(10.0)
        );
        assert_eq!(
            set("model.backbone=resnet34").unwrap().model.backbone,
            "resnet34"
        );
        let unknown = set("train.epoch=3").unwrap_err().to_string();
        assert!(unknown.contains("epoch"), "{unknown}");
        for wrong in [
            "epochs",
            "=3",
            "train.epochs=0",
            "augment.vertical_flip=1.5",
            "train.learning_rate=-1",
        ] {
            assert!(set(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn overrides_reach_any_field_of_the_detector() {
        let config = RunConfig::load(
            "shapes",
            &["model.overrides.rpn.train_limits.post_nms=77".into()],
        )
        .unwrap();
        assert_eq!(
            config.detector(3, false).unwrap().rpn.train_limits.post_nms,
            77
        );
        let wrong = RunConfig::load(
            "shapes",
            &["model.overrides.rpn.train_limit.post_nms=77".into()],
        )
        .unwrap();
        let message = wrong.detector(3, false).unwrap_err().to_string();
        assert!(message.contains("train_limit"), "{message}");
    }

    #[test]
    fn the_fields_of_the_se_unit_can_be_set() {
        let load = |set: &[&str]| {
            let set: Vec<String> = set.iter().map(|s| s.to_string()).collect();
            RunConfig::load("shapes", &set).unwrap()
        };
        let config = load(&[
            "model.se.squeeze=max",
            "model.se.gate=tanh",
            "model.se.position=pre",
            "model.se.stages=[false, true, true, true]",
            "model.se.bias=false",
        ]);
        let expected = SeConfig {
            squeeze: Squeeze::Max,
            gate: Gate::Tanh,
            position: SePosition::Pre,
            stages: [false, true, true, true],
            bias: false,
            ..SeConfig::new(4)
        };
        let se = |config: &RunConfig| config.detector(3, false).unwrap().backbone.se;
        assert_eq!(se(&config), Some(expected));
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<RunConfig>(&text).unwrap(), config);
        assert_eq!(se(&load(&["model.se.reduction=8"])), Some(SeConfig::new(8)));
    }

    #[test]
    fn se_fields_that_fit_nothing_are_refused_in_one_line() {
        for (settings, expected) in [
            (
                vec!["model.se.squeze=max"],
                "model.se: unknown field `squeze`",
            ),
            (
                vec!["model.se.squeeze=maximum"],
                "unknown variant `maximum`",
            ),
            (
                vec!["model.se.reduction=0"],
                "se.reduction must be at least 1",
            ),
            (
                vec!["model.se.after_relu=true", "model.se.position=post"],
                "se.after_relu goes with",
            ),
            (
                vec!["model.backbone=resnet34", "model.se.gate=tanh"],
                "model.se: the backbone has no SE units",
            ),
            (vec!["model.overrides.backbone.groups=0"], "groups is 0"),
        ] {
            let mut settings: Vec<String> = settings.iter().map(|s| s.to_string()).collect();
            settings.push("model.overrides.backbone.block=bottleneck".into());
            let config = RunConfig::load("shapes", &settings).unwrap();
            let message = config.detector(3, false).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn weights_without_se_units_bring_a_backbone_without() {
        let mut config = RunConfig::load("shapes", &[]).unwrap();
        let plain = backbone("resnet50").unwrap();
        let preprocess = config.preprocess();
        config.adopt(&plain, &preprocess, true).unwrap();
        let detector = config.detector(3, true).unwrap();
        assert_eq!(detector.backbone.se, None);
        assert_eq!(detector.backbone.layers, plain.layers);
        let with_units = backbone("se-resnet50").unwrap();
        config.adopt(&with_units, &preprocess, true).unwrap();
        let detector = config.detector(3, true).unwrap();
        assert_eq!(detector.backbone.se, with_units.se);
    }

    #[test]
    fn an_unknown_recipe_lists_the_known_ones() {
        let message = RunConfig::load("shape", &[]).unwrap_err().to_string();
        assert!(
            message.contains("'shape'") && message.contains("blood-cells"),
            "{message}"
        );
    }
}
