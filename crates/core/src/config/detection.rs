//! The configuration of a run that trains a detector.

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::{
    ConfigError, PixelConfig, Recipe, Task, changed, check_at_least_one, check_training,
    check_width, merge,
};
use crate::backbones::resnet::ResNetConfig;
use crate::backbones::zoo::{backbone, detector_names};
use crate::detection::faster_rcnn::{FasterRcnnConfig, Preset};
use crate::train::engine::EngineConfig;
use sedet_data::loading::OnBadImage;
use sedet_data::loading::transforms::{Augmentation, Preprocess};
use sedet_nn::nn::norm::NormKind;
use sedet_nn::nn::se::SeConfig;

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectionConfig {
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
    /// `batch`, since frozen statistics of 0 and 1 normalize nothing.
    pub norm: NormKind,
    /// Stem and stages that keep given weights; with random weights all are trained.
    pub frozen_stages: usize,
    /// Compute the backbone's stages a second time in the backward pass instead of keeping their maps:
    /// less memory, more time, the same numbers. With frozen norms only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recompute: bool,
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

impl Recipe for DetectionConfig {
    const TASK: Task = Task::Detection;

    fn validate(&self) -> Result<(), String> {
        check_at_least_one(&[
            ("loader.batch_size", self.loader.batch_size),
            ("loader.base_batch_size", self.loader.base_batch_size),
            ("loader.threads", self.loader.threads),
            ("input.min_size", self.input.min_size),
            ("model.se_reduction", self.model.se_reduction),
        ])?;
        check_training(&self.train)?;
        check_width(self.model.width)?;
        self.augment
            .validate()
            .map_err(|error| format!("augment: {error}"))?;
        let InputConfig {
            min_size, max_size, ..
        } = self.input;
        match max_size < min_size {
            true => Err(format!(
                "input.max_size {max_size} is below input.min_size {min_size}"
            )),
            false => Ok(()),
        }
    }

    fn training(&self) -> &EngineConfig {
        &self.train
    }

    fn training_mut(&mut self) -> &mut EngineConfig {
        &mut self.train
    }

    fn batch_sizes(&self) -> (usize, usize) {
        (self.loader.batch_size, self.loader.base_batch_size)
    }

    fn set_base_batch_size(&mut self, images: usize) {
        self.loader.base_batch_size = images;
    }
}

impl DetectionConfig {
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
        if self.model.recompute && detector.backbone.norm.kind == NormKind::Batch {
            return Err(ConfigError::Invalid {
                origin: "model.recompute".to_string(),
                message: "computing a block twice would count the statistics of a batch twice: \
                          start from --weights with model.norm = \"frozen\", or leave it out"
                    .to_string(),
            });
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

    /// The largest that the short side of an input gets.
    pub fn largest_min_size(&self) -> usize {
        let largest = self.augment.min_sizes.iter().copied().max();
        largest
            .unwrap_or(self.input.min_size)
            .min(self.input.max_size)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RECIPES;
    use sedet_nn::nn::se::{Gate, SePosition, Squeeze};

    #[test]
    fn every_recipe_loads_and_survives_being_written_down() {
        for (name, task, _) in RECIPES {
            if task != Task::Detection {
                continue;
            }
            let config = DetectionConfig::load(name, &[]).unwrap();
            config.detector(3, true).unwrap();
            config.detector(3, false).unwrap();
            let text = config.to_toml().unwrap();
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("config.toml");
            std::fs::write(&path, text).unwrap();
            let read = DetectionConfig::load(path.to_str().unwrap(), &[]).unwrap();
            assert_eq!(read, config, "{name}");
        }
    }

    #[test]
    fn settings_change_fields_and_unknown_ones_are_refused() {
        let set = |s: &str| DetectionConfig::load("shapes", &[s.to_string()]);
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
        let config = DetectionConfig::load(
            "shapes",
            &["model.overrides.rpn.train_limits.post_nms=77".into()],
        )
        .unwrap();
        assert_eq!(
            config.detector(3, false).unwrap().rpn.train_limits.post_nms,
            77
        );
        let wrong = DetectionConfig::load(
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
            DetectionConfig::load("shapes", &set).unwrap()
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
        let se = |config: &DetectionConfig| config.detector(3, false).unwrap().backbone.se;
        assert_eq!(se(&config), Some(expected));
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<DetectionConfig>(&text).unwrap(), config);
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
            let config = DetectionConfig::load("shapes", &settings).unwrap();
            let message = config.detector(3, false).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn weights_without_se_units_bring_a_backbone_without() {
        let mut config = DetectionConfig::load("shapes", &[]).unwrap();
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
        let message = DetectionConfig::load("shape", &[]).unwrap_err().to_string();
        assert!(
            message.contains("'shape'") && message.contains("blood-cells"),
            "{message}"
        );
    }
}
