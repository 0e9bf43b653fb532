//! The configuration of a training run of a detector.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::adoption::{adopt_units, details};
use super::training::EngineConfig;
use super::{
    ConfigError, PixelConfig, Recipe, Task, changed, check_at_least_one, check_training,
    check_width, invalid_backbone, is_set, merge, optimizer_warning,
};
use crate::backbones::BackboneConfig;
use crate::backbones::zoo::{backbone, detector_names, name_of};
use crate::detection::anchors::AnchorConfig;
use crate::detection::faster_rcnn::{DetectorConfigError, FasterRcnnConfig, Preset};
use crate::detection::fpn::FpnConfig;
use crate::detection::roi_heads::RoiHeadsConfig;
use crate::detection::rpn::RpnConfig;
use crate::spec::{ModelSpec, NetworkConfig};
use sedet_data::images::OnBadImage;
use sedet_data::loading::transforms::{Augmentation, Preprocess};
use sedet_data::text::count;
use sedet_nn::nn::norm::NormKind;

/// The configuration of a training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The implementation whose details to follow.
    pub preset: Preset,
    /// Name of a published network, such as `se-resnet50`.
    pub backbone: String,
    /// The backbone of the weights that training started from; replaces the named one. Written by
    /// training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>", !skip_serializing_if)]
    pub imported_backbone: Option<BackboneConfig>,
    /// Pyramid, anchors, RPN and box head of the weights that training started from; they replace the
    /// preset's. Written by training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>", !skip_serializing_if)]
    pub imported_heads: Option<DetectorHeads>,
    /// Multiplies the backbone's channels.
    pub width: f64,
    /// The ratio r of the SE units that the named backbone has; 16 in the paper.
    pub se_reduction: usize,
    /// Overrides of the SE units, such as `model.se.squeeze = "max"`. Any field of
    /// [`SeConfig`](sedet_nn::nn::se::SeConfig).
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    #[schemars(!default, !skip_serializing_if, with = "sedet_nn::nn::se::SeConfig")]
    pub se: Table,
    /// Norm layers when training starts from weights. Without weights they are always `batch`, since
    /// frozen statistics of 0 and 1 normalize nothing. So are those of pyramid and box head unless the
    /// weights are those of a detector.
    pub norm: NormKind,
    /// Number of leading parts of the backbone that keep the given weights: 2 are the stem and the
    /// first stage. Without weights all parts are trained.
    pub frozen_stages: usize,
    /// Whether the backward pass recomputes the backbone instead of keeping its feature maps: less
    /// memory, more time, the same numbers. With frozen norms only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schemars(extend("default" = false), !skip_serializing_if)]
    pub recompute: bool,
    /// Overrides of the detector, such as `model.overrides.rpn.train_limits.post_nms = 500`; any field of its
    /// configuration in a checkpoint.
    #[serde(default)]
    #[schemars(!default, with = "FasterRcnnConfig")]
    pub overrides: Table,
}

/// The parts of a detector after its backbone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectorHeads {
    /// The feature pyramid.
    pub fpn: FpnConfig,
    /// The anchors.
    pub anchors: AnchorConfig,
    /// First stage.
    pub rpn: RpnConfig,
    /// Second stage.
    pub roi_heads: RoiHeadsConfig,
}

impl DetectorHeads {
    fn of(detector: &FasterRcnnConfig) -> Self {
        Self {
            fpn: detector.fpn,
            anchors: detector.anchors.clone(),
            rpn: detector.rpn.clone(),
            roi_heads: detector.roi_heads.clone(),
        }
    }

    fn replace(self, detector: FasterRcnnConfig) -> FasterRcnnConfig {
        let Self {
            fpn,
            anchors,
            rpn,
            roi_heads,
        } = self;
        FasterRcnnConfig {
            fpn,
            anchors,
            rpn,
            roi_heads,
            ..detector
        }
    }
}

/// The network's input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputConfig {
    /// Target length of the shorter side, in pixels.
    pub min_size: usize,
    /// Limit of the longer side, in pixels.
    pub max_size: usize,
    /// Scaling of pixels, if given weights require a scaling other than the preset's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub pixels: Option<PixelConfig>,
}

/// The data loader.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoaderSection {
    /// Images per batch.
    pub batch_size: usize,
    /// The batch size that `train.learning_rate` refers to.
    pub base_batch_size: usize,
    /// Threads that prepare batches.
    pub threads: usize,
    /// Whether images without boxes are used in training.
    #[serde(default)]
    pub keep_empty: bool,
    /// Handling of images that cannot be read.
    #[serde(default)]
    pub on_bad_image: OnBadImage,
}

/// The name of a backbone that came with weights and is not a published one.
pub(crate) const IMPORTED: &str = "imported";

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

    /// A limit of the longer side alone lowers the length of the shorter side to the limit: the longer side of
    /// every image then has that length.
    fn fit_settings(&mut self, settings: &[String]) {
        let InputConfig {
            min_size, max_size, ..
        } = &mut self.input;
        if has_limit_alone(settings) && *max_size > 0 {
            *min_size = (*min_size).min(*max_size);
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

    fn warnings(&self, settings: &[String]) -> Vec<String> {
        let mut warnings: Vec<String> = optimizer_warning(&self.train, settings)
            .into_iter()
            .collect();
        let InputConfig {
            min_size, max_size, ..
        } = self.input;
        if has_limit_alone(settings) && min_size == max_size {
            warnings.push(format!(
                "input.min_size is {min_size} as input.max_size: the longer side of every image has that length"
            ));
        }
        let sizes = &self.augment.min_sizes;
        let has_own_size =
            is_set(settings, "input.min_size") && !is_set(settings, "augment.min_sizes");
        if has_own_size && !sizes.is_empty() {
            let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
            warnings.push(format!(
                "input.min_size is used in evaluation only: in training the recipe resizes the shorter side to \
                 augment.min_sizes ({})",
                sizes.join(", ")
            ));
        }
        warnings
    }

    fn set_base_batch_size(&mut self, images: usize) {
        self.loader.base_batch_size = images;
    }

    fn loader(&self) -> (usize, OnBadImage) {
        (self.loader.threads, self.loader.on_bad_image)
    }
}

/// Returns whether the limit of the longer side is set, and the length of the shorter side is not.
fn has_limit_alone(settings: &[String]) -> bool {
    is_set(settings, "input.max_size") && !is_set(settings, "input.min_size")
}

/// Refuses to freeze more parts than a backbone has.
fn check_frozen(backbone: &BackboneConfig) -> Result<(), ConfigError> {
    let parts = backbone.parts();
    let frozen = backbone.frozen_stages();
    if frozen <= parts.len() {
        return Ok(());
    }
    let names: Vec<&str> = parts.iter().map(|part| part.name).collect();
    Err(ConfigError::Invalid {
        origin: "model.frozen_stages".to_string(),
        message: format!(
            "{frozen} is more than the {} of the backbone: {}",
            count(parts.len(), "part"),
            names.join(", ")
        ),
    })
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
        let mut detector = match self.model.imported_heads.clone() {
            Some(heads) => heads.replace(detector),
            None => detector,
        };
        // Norms without imported statistics are always trained, as in the backbone.
        detector.set_head_norms(if pretrained && self.model.imported_heads.is_some() {
            self.model.norm
        } else {
            NormKind::Batch
        });
        let mut detector = changed(detector, &self.model.overrides, "model.overrides")
            .map_err(|error| invalid_backbone(&net, name).unwrap_or(error))?;
        if !self.model.se.is_empty() {
            let se = detector.backbone.common_mut().se;
            let own = se.ok_or_else(|| ConfigError::Invalid {
                origin: "model.se".to_string(),
                message: format!(
                    "the backbone has no SE units to change; known with units: {}",
                    detector_names()
                        .into_iter()
                        .filter(|name| backbone(name).is_ok_and(|net| net.se().is_some()))
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
        check_frozen(&detector.backbone)?;
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
    pub(crate) fn largest_min_size(&self) -> usize {
        let largest = self.augment.min_sizes.iter().copied().max();
        largest
            .unwrap_or(self.input.min_size)
            .min(self.input.max_size)
    }

    /// Returns the conversion from images to the network's input.
    pub fn preprocess(&self) -> Preprocess {
        let preset = match self.model.preset {
            Preset::Torchvision | Preset::TorchvisionV2 => Preprocess::torchvision(),
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

    /// Imports what given weights require to give the same outputs as in their framework: the details of
    /// the backbone that cannot be derived from tensor shapes
    /// ([`WEIGHT_DETAILS`](crate::backbones::BackboneFamily::WEIGHT_DETAILS)), the width, the norms' epsilon
    /// and the scaling of pixels; of a detector also everything after the backbone. SE units of a named backbone
    /// compute as in the weights, or start as identity if the weights have none. With `whole`, the
    /// complete backbone is imported, and none has to be named. From a network for images of 32 pixels, a
    /// named backbone imports no stem; all its layers are trained. `model.overrides` and `settings` still
    /// apply.
    ///
    /// # Errors
    /// The weights' backbone is a classifier only, or `model.backbone` is unknown.
    pub fn import(
        &mut self,
        spec: &ModelSpec,
        whole: bool,
        settings: &[String],
    ) -> Result<(), ConfigError> {
        let invalid = |message: String| ConfigError::Invalid {
            origin: "the backbone of the weights".into(),
            message,
        };
        let mut backbone = spec.backbone();
        if whole {
            backbone
                .pyramid_parts()
                .map_err(|e| invalid(e.to_string()))?;
            self.model.width = backbone.width_multiplier();
            self.model.backbone = name_of(&backbone).unwrap_or_else(|| IMPORTED.to_string());
            if let Some(se) = backbone.common_mut().se {
                self.model.se_reduction = se.reduction;
            }
            self.model.imported_backbone = Some(backbone.for_detection());
        } else {
            let named = self.named_backbone()?;
            let is_same_family = named.family() == backbone.family();
            let mut own = details(&named, &backbone)?;
            let overridden = self.model.overrides.get("backbone");
            let overridden = overridden.and_then(|backbone| backbone.get("se"));
            let is_unit_set = |key: &str| {
                let is_reduction = key == "reduction" && is_set(settings, "model.se_reduction");
                is_reduction || overridden.is_some_and(|units| units.get(key).is_some())
            };
            adopt_units(&mut self.model.se, &named, &backbone, is_unit_set)?;
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
        if let NetworkConfig::Detection(detector) = &spec.network {
            // It also selects how images are resized.
            if !is_set(settings, "model.preset") {
                self.model.preset = Preset::of(detector);
            }
            self.model.imported_heads = Some(DetectorHeads::of(detector));
        }
        let preprocess = &spec.preprocess;
        self.input.pixels = Some(PixelConfig {
            channel_order: preprocess.channel_order,
            scale: preprocess.scale,
            mean: preprocess.mean,
            std: preprocess.std,
        });
        Ok(())
    }

    /// Takes the sizes of inputs from given weights, except those that `settings` set.
    pub(crate) fn import_input_size(&mut self, preprocess: &Preprocess, settings: &[String]) {
        let is_min_set = is_set(settings, "input.min_size");
        let is_max_set = is_set(settings, "input.max_size");
        let InputConfig {
            min_size, max_size, ..
        } = &mut self.input;
        // A size that is set moves the other where the two would contradict each other.
        if !is_max_set {
            let least = if is_min_set { *min_size } else { 0 };
            *max_size = preprocess.max_size.max(least);
        }
        if !is_min_set {
            *min_size = preprocess.min_size.min(*max_size);
        }
    }

    /// Replaces sizes and aspect ratios of the anchors.
    pub(crate) fn set_anchors(&mut self, anchors: &AnchorConfig) {
        // Through text: an f32 such as 0.3 would be written as 0.30000001192092896.
        let list = |values: &[f32]| {
            let floats = values
                .iter()
                .filter_map(|value| value.to_string().parse().ok());
            Value::Array(floats.map(Value::Float).collect())
        };
        let changes = Table::from_iter([
            ("sizes".to_string(), list(&anchors.sizes)),
            ("aspect_ratios".to_string(), list(&anchors.aspect_ratios)),
        ]);
        let changes = Table::from_iter([("anchors".to_string(), Value::Table(changes))]);
        merge(&mut self.model.overrides, &changes);
    }

    /// Writes into the configuration what follows from it and from whether weights are loaded: the norm
    /// layers, the frozen stages and the anchors that the detector has. The detector stays the same.
    ///
    /// # Errors
    /// See [`detector`](Self::detector).
    pub fn resolve(&mut self, pretrained: bool) -> Result<(), ConfigError> {
        let detector = self.detector(1, pretrained)?;
        self.set_anchors(&detector.anchors);
        self.model.norm = detector.backbone.norm().kind;
        self.model.frozen_stages = detector.backbone.frozen_stages();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbones::resnet::{BlockKind, ResNetConfig, Shortcut, Stem, StemPooling};
    use crate::backbones::zoo::network;
    use crate::classification::classifier::ClassifierConfig;
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
            "train.bias_learning_rate_factor=-1",
            "train.bias_learning_rate_factor=nan",
        ] {
            assert!(set(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_limit_of_the_longer_side_alone_lowers_the_shorter_side() {
        let load = |settings: &[&str]| {
            let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
            let config = DetectionConfig::load("fine-tune", &settings);
            config.map(|config| {
                let InputConfig {
                    min_size, max_size, ..
                } = config.input;
                (min_size, max_size, config.warnings(&settings))
            })
        };
        let (min_size, max_size, warnings) = load(&["input.max_size=600"]).unwrap();
        assert_eq!((min_size, max_size), (600, 600));
        assert_eq!(
            warnings,
            [
                "input.min_size is 600 as input.max_size: the longer side of every image has that length"
            ]
        );
        let unchanged = load(&["input.max_size=1000"]).unwrap();
        assert_eq!(unchanged, (800, 1000, Vec::new()));
        let contradictions: [&[&str]; 2] = [
            &["input.min_size=1500"],
            &["input.max_size=600", "input.min_size=700"],
        ];
        for contradiction in contradictions {
            let message = load(contradiction).unwrap_err().to_string();
            assert!(message.contains(" is below input.min_size "), "{message}");
        }
    }

    #[test]
    fn another_optimizer_has_its_own_defaults_and_the_fields_that_are_set() {
        use crate::config::training::OptimizerConfig;
        let load = |recipe: &str, set: &[&str]| {
            let set: Vec<String> = set.iter().map(|s| s.to_string()).collect();
            let config = DetectionConfig::load(recipe, &set).unwrap();
            let warnings = config.warnings(&set);
            (config.train.optimizer, warnings)
        };
        let (sgd, warnings) = load("shapes", &["train.optimizer.kind=sgd"]);
        let expected = OptimizerConfig::Sgd {
            momentum: 0.9,
            weight_decay: 1e-4,
            nesterov: false,
        };
        assert_eq!(sgd, expected);
        assert!(
            warnings[0].contains("sgd may need another one"),
            "{warnings:?}"
        );
        let set = [
            "train.optimizer.weight_decay=0.2",
            "train.optimizer.kind=adamw",
        ];
        let (adamw, warnings) = load(
            "coco-torchvision",
            &[&set[..], &["train.learning_rate=1e-4"]].concat(),
        );
        let expected = OptimizerConfig::Adamw {
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            weight_decay: 0.2,
        };
        assert_eq!(adamw, expected);
        assert!(warnings.is_empty());
        let whole = "train.optimizer={ kind = \"sgd\", momentum = 0.5, nesterov = true }";
        let (sgd, _) = load("shapes", &[whole]);
        assert!(matches!(
            sgd,
            OptimizerConfig::Sgd {
                momentum: 0.5,
                nesterov: true,
                ..
            }
        ));
        let (own, warnings) = load("shapes", &["train.optimizer.weight_decay=0.2"]);
        assert!(matches!(
            own,
            OptimizerConfig::Adamw {
                weight_decay: 0.2,
                ..
            }
        ));
        assert!(warnings.is_empty());
    }

    #[test]
    fn a_schedule_of_another_kind_names_the_key_that_it_requires() {
        let set = |set: &[&str]| {
            let set: Vec<String> = set.iter().map(|s| s.to_string()).collect();
            DetectionConfig::load("shapes", &set)
        };
        assert!(set(&["train.schedule.decay.kind=constant"]).is_ok());
        let message = set(&["train.schedule.decay.kind=multi_step"]).unwrap_err();
        assert_eq!(
            message.to_string(),
            "setting 'train.schedule.decay.kind=multi_step': train.schedule.decay: requires the key 'milestones'"
        );
        let milestones = "train.schedule.decay.milestones=[3]";
        assert!(set(&["train.schedule.decay.kind=multi_step", milestones]).is_ok());
    }

    #[test]
    fn a_key_in_the_wrong_section_is_answered_with_its_path() {
        for (setting, expected) in [
            ("epochs=3", "(did you mean 'train.epochs'?)"),
            ("train.batch_size=3", "(did you mean 'loader.batch_size'?)"),
            ("train.epoch=3", "(did you mean 'epochs'?)"),
            (
                "model.rpn.nms_threshold=1",
                "(did you mean 'model.overrides.rpn'?)",
            ),
        ] {
            let error = DetectionConfig::load("shapes", &[setting.to_string()]).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
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
        let weights = classifier(weights, Preprocess::torchvision());
        let settings = ["model.backbone=resnet18", "model.width=0.5"].map(String::from);
        let mut config = DetectionConfig::load("shapes", &settings).unwrap();
        config.import(&weights, false, &[]).unwrap();
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
        let error = config.import(&weights, true, &[]);
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
        assert!(warnings(&[]).is_empty());
        let both = warnings(&["input.min_size=400", "augment.min_sizes=[400]"]);
        assert!(both.is_empty());
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
            (
                vec!["model.backbone=resnet34", "model.se.gate=tanh"],
                ", senet154, se-vgg16-bn, ",
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
    fn a_field_of_another_family_of_backbones_is_named_as_such() {
        let settings = [
            "model.backbone=mobilenet-v1",
            "model.overrides.backbone.groups=2",
        ];
        let config = DetectionConfig::load("shapes", &settings.map(String::from)).unwrap();
        let message = config.detector(3, false).unwrap_err().to_string();
        assert!(
            message.starts_with(
                "model.overrides.backbone.groups: unknown key (it belongs to recipes with \
                 model.overrides.backbone.family = \"resnet\" or model.overrides.backbone.family = \"shufflenet\"); \
                 known: width_multiplier"
            ),
            "{message}"
        );
    }

    #[test]
    fn no_more_parts_can_be_frozen_than_the_backbone_has() {
        let with = |parts: usize| {
            let settings = [
                "model.backbone=mobilenet-v1".to_owned(),
                format!("model.frozen_stages={parts}"),
            ];
            DetectionConfig::load("shapes", &settings)
                .unwrap()
                .detector(3, true)
        };
        assert_eq!(with(5).unwrap().backbone.frozen_stages(), 5);
        assert_eq!(
            with(6).unwrap_err().to_string(),
            "model.frozen_stages: 6 is more than the 5 parts of the backbone: stem, stage1, stage2, stage3, stage4"
        );
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
            let spec = classifier(weights, preprocess);
            config.import(&spec, true, &[]).unwrap();
            assert!(config.model.imported_backbone.is_some());
            assert_eq!(config.model.backbone, name);
            let text = toml::to_string(&config).unwrap();
            let read: DetectionConfig = toml::from_str(&text).unwrap();
            assert_eq!(read, config, "{name}");
            let detector = read.detector(3, true).unwrap();
            let mut expected = backbone(name).unwrap();
            expected.common_mut().norm.kind = read.model.norm;
            assert_eq!(detector.backbone, expected, "{name}");
        }
        let cifar = network("wrn-28-10").unwrap().backbone;
        let spec = classifier(cifar, preprocess);
        let message = config.import(&spec, true, &[]).unwrap_err();
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
        let spec = classifier(weights.into(), preprocess);
        config.import(&spec, false, &[]).unwrap();
        let BackboneConfig::Resnet(found) = config.detector(3, true).unwrap().backbone else {
            unreachable!("a ResNet is named");
        };
        assert_eq!(found.stem_pooling, StemPooling::CeilMode);
        assert_eq!(found.block, BlockKind::Basic);
        assert!(found.se.is_some() && config.model.imported_backbone.is_none());
        let other = network("mobilenet-v1").unwrap().backbone;
        let spec = classifier(other, preprocess);
        config.import(&spec, false, &[]).unwrap();
        assert!(config.detector(3, true).is_ok());
    }

    /// Describes a classifier as weights bring it.
    fn classifier(backbone: BackboneConfig, preprocess: Preprocess) -> ModelSpec {
        let network = NetworkConfig::Classification(ClassifierConfig::new(backbone, 5));
        ModelSpec::new(network, preprocess)
    }

    #[test]
    fn the_weights_of_a_detector_bring_everything_but_the_classes() {
        let mut given =
            FasterRcnnConfig::new(Preset::Detectron2, backbone("resnet50").unwrap(), 90);
        given.fpn.channels = 128;
        given.anchors.sizes = vec![20.0, 40.0, 80.0, 160.0, 320.0];
        given.roi_heads.representation_size = 512;
        let preprocess = Preprocess::detectron2().with_sizes(480, 640);
        let spec = ModelSpec::new(NetworkConfig::Detection(given.clone()), preprocess);
        let load = |settings: &[&str]| {
            let settings: Vec<String> = settings.iter().map(|s| s.to_string()).collect();
            let mut config = DetectionConfig::load("fine-tune", &settings).unwrap();
            config.import(&spec, true, &settings).unwrap();
            config.import_input_size(&preprocess, &settings);
            config.resolve(true).unwrap();
            let text = config.to_toml().unwrap();
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            let read = DetectionConfig::load(file.path().to_str().unwrap(), &[]).unwrap();
            assert_eq!(read, config);
            read
        };
        let config = load(&[]);
        let mut expected = given.clone();
        expected.num_classes = 3;
        *expected.backbone.common_mut().frozen_stages = config.model.frozen_stages;
        assert_eq!(config.detector(3, true).unwrap(), expected);
        assert_eq!(config.model.backbone, "resnet50");
        assert_eq!(config.preprocess(), preprocess);
        let config = load(&[
            "model.overrides.anchors.aspect_ratios=[0.25, 1, 4]",
            "input.min_size=700",
        ]);
        let anchors = config.detector(3, true).unwrap().anchors;
        assert_eq!(anchors.aspect_ratios, [0.25, 1.0, 4.0]);
        assert_eq!(anchors.sizes, given.anchors.sizes);
        assert_eq!((config.input.min_size, config.input.max_size), (700, 700));
    }

    #[test]
    fn the_configuration_of_a_run_without_weights_names_what_is_trained() {
        let mut config = DetectionConfig::load("coco-torchvision", &[]).unwrap();
        let before = config.detector(3, false).unwrap();
        config.resolve(false).unwrap();
        assert_eq!(config.detector(3, false).unwrap(), before);
        assert_eq!(config.model.norm, NormKind::Batch);
        assert_eq!(config.model.frozen_stages, 0);
        let text = config.to_toml().unwrap();
        assert!(
            text.contains("sizes = [32.0, 64.0, 128.0, 256.0, 512.0]"),
            "{text}"
        );
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
