//! The configuration of a training run of a detector.

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::training::EngineConfig;
use super::{
    ConfigError, PixelConfig, Recipe, Task, changed, check_at_least_one, check_training,
    check_width, invalid_backbone, key_of, merge,
};
use crate::backbones::BackboneConfig;
use crate::backbones::zoo::{backbone, detector_names};
use crate::detection::faster_rcnn::{DetectorConfigError, FasterRcnnConfig, Preset};
use sedet_data::loading::OnBadImage;
use sedet_data::loading::transforms::{Augmentation, Preprocess};
use sedet_nn::nn::norm::NormKind;

/// The configuration of a training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectionConfig {
    /// The source of the recipe's numbers.
    pub source: String,
    /// The network.
    pub model: ModelConfig,
    /// The network's input.
    pub input: InputConfig,
    /// Data augmentation.
    pub augment: Augmentation,
    /// The data loader.
    pub loader: LoaderSection,
    /// The training loop. `learning_rate` is for `loader.base_batch_size`.
    pub train: EngineConfig,
}

/// The network, by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The implementation whose details to follow.
    pub preset: Preset,
    /// Name of a published network (see [`detector_names`]).
    pub backbone: String,
    /// The backbone of the weights that training started from; replaces the named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported_backbone: Option<BackboneConfig>,
    /// Multiplies the backbone's channels.
    pub width: f64,
    /// The ratio r of the SE units that the named backbone has; 16 in the paper.
    pub se_reduction: usize,
    /// Any field of [`SeConfig`](sedet_nn::nn::se::SeConfig), such as `se.squeeze = "max"`; overrides the backbone's.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub se: Table,
    /// Norm layers when training starts from weights. Without weights they are always `batch`, since
    /// frozen statistics of 0 and 1 normalize nothing.
    pub norm: NormKind,
    /// Number of leading parts of the backbone that keep the given weights: 2 are the stem and the
    /// first stage. Without weights all parts are trained.
    pub frozen_stages: usize,
    /// Recomputes the backbone in the backward pass instead of keeping its feature maps: less memory,
    /// more time, the same numbers. With frozen norms only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recompute: bool,
    /// Any field of the detector's own configuration, as in a checkpoint, such as
    /// `overrides.rpn.train_limits.post_nms = 500`.
    #[serde(default)]
    pub overrides: Table,
}

/// The network's input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputConfig {
    /// Target length of the shorter side, in pixels.
    pub min_size: usize,
    /// Limit of the longer side, in pixels.
    pub max_size: usize,
    /// Scaling of pixels, if given weights require a scaling other than the preset's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixels: Option<PixelConfig>,
}

/// The data loader.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoaderSection {
    /// Images per batch.
    pub batch_size: usize,
    /// The batch size that `train.learning_rate` refers to.
    pub base_batch_size: usize,
    /// Threads that prepare batches.
    pub threads: usize,
    /// Train on images without boxes.
    #[serde(default)]
    pub keep_empty: bool,
    /// Handling of images that cannot be read.
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
        if max_size < min_size {
            return Err(format!(
                "input.max_size {max_size} is below input.min_size {min_size}"
            ));
        }
        Ok(())
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

    fn warnings(&self, settings: &[String]) -> Vec<String> {
        let sets = |key: &str| settings.iter().any(|setting| key_of(setting) == Some(key));
        let sizes = &self.augment.min_sizes;
        if sizes.is_empty() || !sets("input.min_size") || sets("augment.min_sizes") {
            return Vec::new();
        }
        let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
        vec![format!(
            "input.min_size is used in evaluation only: in training the recipe resizes the shorter side to \
             augment.min_sizes ({}); set both",
            sizes.join(", ")
        )]
    }

    fn set_base_batch_size(&mut self, images: usize) {
        self.loader.base_batch_size = images;
    }
}

impl DetectionConfig {
    /// Returns the detector for this number of classes. `pretrained` is whether weights will be
    /// loaded.
    ///
    /// # Errors
    /// An unknown backbone, invalid overrides, or SE fields for a backbone without SE units.
    pub fn detector(
        &self,
        num_classes: usize,
        pretrained: bool,
    ) -> Result<FasterRcnnConfig, ConfigError> {
        let mut net = match &self.model.imported_backbone {
            Some(imported) => imported.clone(),
            None => self.named_backbone()?,
        };
        let common = net.common_mut();
        *common.width_multiplier = self.model.width;
        common.norm.kind = if pretrained {
            self.model.norm
        } else {
            NormKind::Batch
        };
        *common.frozen_stages = if pretrained {
            self.model.frozen_stages
        } else {
            0
        };
        let name = match &self.model.imported_backbone {
            None => &self.model.backbone,
            Some(_) => "from the weights",
        };
        let detector = FasterRcnnConfig::new(self.model.preset, net.clone(), num_classes);
        let mut detector = changed(detector, &self.model.overrides, "model.overrides")
            .map_err(|error| invalid_backbone(&net, name).unwrap_or(error))?;
        if !self.model.se.is_empty() {
            let se = detector.backbone.common_mut().se;
            let own = se.ok_or_else(|| ConfigError::Invalid {
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
            *se = Some(changed(own, &self.model.se, "model.se")?);
        }
        if self.model.recompute && detector.backbone.norm().kind == NormKind::Batch {
            return Err(ConfigError::Invalid {
                origin: "model.recompute".to_string(),
                message: "recomputing needs frozen norms (model.norm = \"frozen\" and pretrained \
                          weights): batch statistics would be updated twice per step"
                    .to_string(),
            });
        }
        if let Some(error) = invalid_backbone(&detector.backbone, name) {
            return Err(error);
        }
        detector.validate().map_err(|e| ConfigError::Invalid {
            origin: match e {
                DetectorConfigError::Backbone(_) => "the backbone",
                DetectorConfigError::Field { .. } => "model.overrides",
            }
            .to_string(),
            message: e.to_string(),
        })?;
        Ok(detector)
    }

    /// Returns the backbone of `model.backbone` and `model.se_reduction`.
    fn named_backbone(&self) -> Result<BackboneConfig, ConfigError> {
        let mut net = backbone(&self.model.backbone)?;
        if let Some(se) = net.common_mut().se {
            se.reduction = self.model.se_reduction;
        }
        Ok(net)
    }

    /// Returns the largest length of the shorter side of an input, in pixels.
    pub fn largest_min_size(&self) -> usize {
        let largest = self.augment.min_sizes.iter().copied().max();
        largest
            .unwrap_or(self.input.min_size)
            .min(self.input.max_size)
    }

    /// Returns the conversion from images to the network's input.
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

    /// Returns whether the backbone is the weights' own instead of `model.backbone`.
    pub fn has_imported_backbone(&self) -> bool {
        let overridden = self.model.overrides.get("backbone");
        // Runs of earlier versions have the imported backbone among the overrides.
        self.model.imported_backbone.is_some()
            || overridden.and_then(|table| table.get("layers")).is_some()
    }

    /// Imports what given weights require to give the same features as in their framework: the
    /// details of the backbone that cannot be derived from tensor shapes
    /// ([`WEIGHT_DETAILS`](crate::backbones::BackboneFamily::WEIGHT_DETAILS)), the width, the norms'
    /// epsilon and the scaling of pixels. With `whole`, the complete backbone is imported, and none has to
    /// be named. From a network for images of 32 pixels, a named backbone imports no stem; all its layers
    /// are trained.
    ///
    /// # Errors
    /// The weights' backbone is a classifier only, or `model.backbone` is unknown.
    pub fn import(
        &mut self,
        backbone: &BackboneConfig,
        preprocess: &Preprocess,
        whole: bool,
    ) -> Result<(), ConfigError> {
        let invalid = |message: String| ConfigError::Invalid {
            origin: "the backbone of the weights".into(),
            message,
        };
        if whole {
            backbone
                .pyramid_parts()
                .map_err(|e| invalid(e.to_string()))?;
            self.model.width = backbone.width_multiplier();
            self.model.imported_backbone = Some(backbone.clone().for_detection());
        } else {
            let named = self.named_backbone()?;
            let details = Table::try_from(backbone).map_err(|e| invalid(e.to_string()))?;
            let is_same_family = named.family() == backbone.family();
            let mut own: Table = details
                .into_iter()
                .filter(|(key, _)| is_same_family && named.weight_details().contains(&key.as_str()))
                .collect();
            if is_same_family {
                // Weights of another width would not fit.
                self.model.width = backbone.width_multiplier();
            }
            let epsilon = Value::Float(backbone.norm().epsilon);
            let mut norm = Table::from_iter([("epsilon".to_string(), epsilon)]);
            if is_same_family && backbone.pyramid_parts().is_err() {
                // The stem is for images of 32 pixels. The detector keeps its own, whose weights are new, so
                // that no layer may be frozen.
                own.remove("stem");
                own.insert("frozen_stages".into(), Value::Integer(0));
                norm.insert("kind".into(), Value::String("batch".into()));
            }
            own.insert("norm".into(), Value::Table(norm));
            let given = self.model.overrides.remove("backbone");
            if let Some(Value::Table(given)) = &given {
                merge(&mut own, given);
            }
            let overrides = &mut self.model.overrides;
            overrides.insert("backbone".into(), Value::Table(own));
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
    use crate::backbones::resnet::{BlockKind, ResNetConfig, Shortcut, Stem, StemPooling};
    use crate::backbones::zoo::network;
    use crate::config::RECIPES;
    use sedet_nn::nn::se::{Gate, SeConfig, SePosition, Squeeze};

    #[test]
    fn every_recipe_is_read_back_as_it_was_written() {
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
        for (setting, expected) in [
            (
                "train.epoch=3",
                "setting 'train.epoch=3': unknown key (did you mean 'epochs'?); known: ",
            ),
            (
                "trian.epochs=3",
                "setting 'trian.epochs=3': trian: unknown key (did you mean 'train'?); known: ",
            ),
            (
                "train.epochs=abc",
                "setting 'train.epochs=abc': expected a whole number, not \"abc\"",
            ),
        ] {
            let message = set(setting).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
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
        assert!(
            message.starts_with(
                "model.overrides.rpn.train_limit: unknown key (did you mean 'train_limits'?)"
            ),
            "{message}"
        );
    }

    #[test]
    fn a_named_backbone_keeps_its_stem_when_the_weights_are_for_images_of_32_pixels() {
        let weights = BackboneConfig::Resnet(ResNetConfig::cifar(3));
        let settings = ["model.backbone=resnet18", "model.width=0.5"].map(String::from);
        let mut config = DetectionConfig::load("shapes", &settings).unwrap();
        config
            .import(&weights, &Preprocess::torchvision(), false)
            .unwrap();
        let mut backbone = config.detector(3, true).unwrap().backbone;
        assert!(backbone.pyramid_parts().is_ok());
        let common = backbone.common_mut();
        assert_eq!(
            (*common.frozen_stages, common.norm.kind),
            (0, NormKind::Batch)
        );
        let BackboneConfig::Resnet(found) = backbone else {
            panic!("{}", backbone.family());
        };
        assert_eq!((found.stem, found.base_channels), (Stem::Conv7x7, 16));
        assert_eq!(found.shortcut, Shortcut::ZeroPad);
        // The weights have the published width.
        assert_eq!(found.width_multiplier, 1.0);
        // The whole backbone is of no use.
        let error = config.import(&weights, &Preprocess::torchvision(), true);
        assert!(error.unwrap_err().to_string().contains("stride"));
    }

    #[test]
    fn a_width_that_a_backbone_does_not_allow_is_named_with_the_backbone() {
        let settings = ["model.backbone=se-resnext50-32x4d", "model.width=0.1"];
        let settings = settings.map(String::from);
        let config = DetectionConfig::load("shapes", &settings).unwrap();
        let message = config.detector(3, false).unwrap_err().to_string();
        assert!(
            message.starts_with("backbone se-resnext50-32x4d with model.width=0.1: groups is 32"),
            "{message}"
        );
    }

    #[test]
    fn an_input_size_that_training_does_not_use_is_warned_about() {
        let warnings = |settings: &[&str]| {
            let settings: Vec<String> = settings.iter().map(|s| s.to_string()).collect();
            let config = DetectionConfig::load("coco-detectron2-1x", &settings).unwrap();
            config.warnings(&settings)
        };
        let found = warnings(&["input.min_size=400"]);
        assert!(
            matches!(found.as_slice(), [one] if one.contains("augment.min_sizes (640, 672")),
            "{found:?}"
        );
        assert_eq!(warnings(&[]), [String::new(); 0]);
        let both = warnings(&["input.min_size=400", "augment.min_sizes=[400]"]);
        assert_eq!(both, [String::new(); 0]);
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
        let se =
            |config: &DetectionConfig| config.detector(3, false).unwrap().backbone.se().copied();
        assert_eq!(se(&config), Some(expected));
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<DetectionConfig>(&text).unwrap(), config);
        assert_eq!(se(&load(&["model.se.reduction=8"])), Some(SeConfig::new(8)));
    }

    #[test]
    fn invalid_se_fields_are_refused() {
        for (settings, expected) in [
            (
                vec!["model.se.squeze=max"],
                "model.se.squeze: unknown key (did you mean 'squeeze'?)",
            ),
            (vec!["model.se.squeeze=maximum"], "unknown value 'maximum'"),
            (
                vec!["model.se.reduction=0"],
                "se.reduction must be at least 1",
            ),
            (
                vec!["model.se.after_relu=true", "model.se.position=post"],
                "se.after_relu requires",
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
    fn weights_replace_the_named_backbone_by_their_own() {
        let mut config = DetectionConfig::load("shapes", &[]).unwrap();
        let preprocess = config.preprocess();
        for name in [
            "resnet50",
            "se-resnet50",
            "se-mobilenet-v1",
            "inception-resnet-v2",
        ] {
            // As in a checkpoint of a classifier.
            let weights = network(name).unwrap().backbone;
            config.import(&weights, &preprocess, true).unwrap();
            assert!(config.has_imported_backbone());
            let text = toml::to_string(&config).unwrap();
            let read: DetectionConfig = toml::from_str(&text).unwrap();
            assert_eq!(read, config, "{name}");
            let detector = read.detector(3, true).unwrap();
            let mut expected = backbone(name).unwrap();
            expected.common_mut().norm.kind = read.model.norm;
            assert_eq!(detector.backbone, expected, "{name}");
        }
        let cifar = network("wrn-28-10").unwrap().backbone;
        let message = config.import(&cifar, &preprocess, true).unwrap_err();
        assert!(
            message.to_string().contains("no feature map of stride 8"),
            "{message}"
        );
    }

    #[test]
    fn a_named_backbone_keeps_its_structure_and_imports_the_details_of_the_weights() {
        let settings = ["model.backbone=se-resnet34".to_string()];
        let mut config = DetectionConfig::load("shapes", &settings).unwrap();
        let weights = ResNetConfig {
            stem_pooling: StemPooling::CeilMode,
            ..ResNetConfig::new(BlockKind::Bottleneck, [3, 4, 6, 3])
        };
        let preprocess = config.preprocess();
        config.import(&weights.into(), &preprocess, false).unwrap();
        let BackboneConfig::Resnet(found) = config.detector(3, true).unwrap().backbone else {
            unreachable!("a ResNet is named");
        };
        assert_eq!(found.stem_pooling, StemPooling::CeilMode);
        assert_eq!(found.block, BlockKind::Basic);
        assert!(found.se.is_some() && !config.has_imported_backbone());
        let other = network("mobilenet-v1").unwrap().backbone;
        config.import(&other, &preprocess, false).unwrap();
        assert!(config.detector(3, true).is_ok());
    }

    #[test]
    fn every_detector_backbone_passes_validation_and_others_are_refused() {
        for name in detector_names() {
            let settings = [
                format!("model.backbone={name}"),
                "model.overrides={}".into(),
                // At a quarter, SENet-154 has fewer channels than groups.
                "model.width=0.5".into(),
            ];
            let config = DetectionConfig::load("shapes", &settings).unwrap();
            let detector = config.detector(3, true).unwrap();
            assert_eq!(detector.backbone.width_multiplier(), 0.5, "{name}");
        }
        let settings = ["model.backbone=resnet20".to_string()];
        let config = DetectionConfig::load("shapes", &settings).unwrap();
        let message = config.detector(3, false).unwrap_err().to_string();
        assert!(
            message.contains("'resnet20' is a classifier only"),
            "{message}"
        );
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
