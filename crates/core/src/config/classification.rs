//! The configuration of a run that trains a classifier.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::adoption::{adopt_units, details};
use super::detection::IMPORTED;
use super::training::EngineConfig;
use super::{
    ConfigError, PixelConfig, Recipe, Task, changed, check_at_least_one, check_training,
    check_width, invalid_backbone, merge,
};
use crate::backbones::BackboneConfig;
use crate::backbones::zoo::{name_of, network};
use crate::classification::classifier::ClassifierConfig;
use sedet_data::images::OnBadImage;
use sedet_data::loading::transforms::classify::LabeledAugmentation;
use sedet_data::loading::transforms::preprocess::ChannelOrder;
use sedet_data::loading::transforms::{Preprocess, ResizeMethod};
use sedet_nn::nn::norm::NormKind;

/// The configuration of a training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassificationConfig {
    /// The source of the recipe's numbers.
    pub source: String,
    /// The network.
    pub model: ClassifierSection,
    /// The network's input.
    pub input: ClassifierInput,
    /// Data augmentation.
    #[serde(default)]
    pub augment: LabeledAugmentation,
    /// The loss.
    #[serde(default)]
    pub loss: LossSection,
    /// The data loader.
    pub loader: LabeledLoaderSection,
    /// The training loop. `learning_rate` is for `loader.base_batch_size`.
    pub train: EngineConfig,
}

/// The network, by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassifierSection {
    /// Name of a published network, such as `se-resnet50`.
    pub backbone: String,
    /// Multiplies the backbone's channels.
    #[serde(default = "published_width")]
    pub width: f64,
    /// Overrides of the SE units, such as `model.se.squeeze = "max"`. Any field of
    /// [`SeConfig`](sedet_nn::nn::se::SeConfig).
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    #[schemars(!default, !skip_serializing_if, with = "sedet_nn::nn::se::SeConfig")]
    pub se: Table,
    /// Overrides of the classifier, such as `model.overrides.head.dropout = 0.2`; any field of its
    /// configuration in a checkpoint.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    #[schemars(!default, !skip_serializing_if, with = "ClassifierConfig")]
    pub overrides: Table,
    /// The whole network, imported from given weights; replaces `backbone` and `width`. Written by
    /// training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>", !skip_serializing_if)]
    pub adopted: Option<Table>,
}

fn published_width() -> f64 {
    1.0
}

/// The network's input, a square.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassifierInput {
    /// Side of the input in pixels.
    pub size: usize,
    /// Short side that images are resized to before the center crop, in evaluation.
    pub resize: usize,
    /// The resizing filter.
    #[serde(default)]
    pub interpolation: Interpolation,
    /// The scaling of pixels, if it differs from that of the published backbone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub pixels: Option<PixelConfig>,
}

/// The filter for resizing: one of Pillow's antialiased filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// The filter of torchvision.
    #[default]
    Bilinear,
    /// The filter of most timm networks.
    Bicubic,
}

/// The loss.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LossSection {
    /// Share of the target that is spread evenly over all classes, 0 to 1 (Szegedy et al. 2016).
    pub label_smoothing: f64,
}

/// The data loader.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabeledLoaderSection {
    /// Images per batch.
    pub batch_size: usize,
    /// The batch size that `train.learning_rate` refers to.
    pub base_batch_size: usize,
    /// Threads that prepare batches.
    pub threads: usize,
    /// Handling of images that cannot be read.
    #[serde(default)]
    pub on_bad_image: OnBadImage,
}

impl Recipe for ClassificationConfig {
    const TASK: Task = Task::Classification;

    fn validate(&self) -> Result<(), String> {
        check_at_least_one(&[
            ("loader.batch_size", self.loader.batch_size),
            ("loader.base_batch_size", self.loader.base_batch_size),
            ("loader.threads", self.loader.threads),
            ("input.size", self.input.size),
            ("input.resize", self.input.resize),
        ])?;
        check_training(&self.train)?;
        check_width(self.model.width)?;
        self.augment
            .validate()
            .map_err(|error| format!("augment: {error}"))?;
        let smoothing = self.loss.label_smoothing;
        if !(0.0..1.0).contains(&smoothing) {
            return Err(format!(
                "loss.label_smoothing is {smoothing}; it must be at least 0 and below 1"
            ));
        }
        if self.input.resize < self.input.size {
            Err(format!(
                "input.resize {} is below input.size {}",
                self.input.resize, self.input.size
            ))
        } else {
            Ok(())
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

    fn loader(&self) -> (usize, OnBadImage) {
        (self.loader.threads, self.loader.on_bad_image)
    }
}

impl ClassificationConfig {
    /// Returns the classifier for a number of classes.
    ///
    /// # Errors
    /// An unknown backbone, invalid overrides, or SE fields for a backbone without SE units.
    pub fn classifier(&self, num_classes: usize) -> Result<ClassifierConfig, ConfigError> {
        let mut classifier = match &self.model.adopted {
            None => {
                let mut backbone = network(&self.model.backbone)?.backbone;
                let common = backbone.common_mut();
                *common.width_multiplier = self.model.width;
                common.norm.kind = NormKind::Batch;
                ClassifierConfig::new(backbone, num_classes)
            }
            Some(table) => {
                let whole = table.clone().try_into();
                whole.map_err(|e: toml::de::Error| ConfigError::Invalid {
                    origin: "model.adopted".to_string(),
                    message: e.message().to_string(),
                })?
            }
        };
        classifier.num_classes = num_classes;
        let name = match &self.model.adopted {
            None => &self.model.backbone,
            Some(_) => "from the weights",
        };
        let backbone = classifier.backbone.clone();
        let mut classifier = changed(classifier, &self.model.overrides, "model.overrides")
            .map_err(|error| invalid_backbone(&backbone, name).unwrap_or(error))?;
        self.change_se(&mut classifier.backbone)?;
        match invalid_backbone(&classifier.backbone, name) {
            Some(error) => Err(error),
            None => Ok(classifier),
        }
    }

    /// Imports what a named backbone needs from given weights.
    fn adopt_details(&mut self, given: &BackboneConfig) -> Result<(), ConfigError> {
        let named = network(&self.model.backbone)?.backbone;
        let is_of_one_kind = named.pyramid_parts().is_ok() == given.pyramid_parts().is_ok();
        if named.family() != given.family() || !is_of_one_kind {
            return Ok(());
        }
        // Weights of another width would not fit.
        self.model.width = given.width_multiplier();
        let mut own = details(&named, given)?;
        let epsilon = Value::Float(given.norm().epsilon);
        let norm = Table::from_iter([("epsilon".to_string(), epsilon)]);
        own.insert("norm".into(), Value::Table(norm));
        let overridden = self.model.overrides.remove("backbone");
        let overridden = overridden.and_then(|backbone| match backbone {
            Value::Table(table) => Some(table),
            _ => None,
        });
        let units = overridden.as_ref().and_then(|backbone| backbone.get("se"));
        let is_unit_set = |key: &str| units.is_some_and(|units| units.get(key).is_some());
        adopt_units(&mut self.model.se, &named, given, is_unit_set)?;
        if let Some(overridden) = &overridden {
            merge(&mut own, overridden);
        }
        self.model
            .overrides
            .insert("backbone".into(), Value::Table(own));
        Ok(())
    }

    fn change_se(&self, backbone: &mut BackboneConfig) -> Result<(), ConfigError> {
        if self.model.se.is_empty() {
            return Ok(());
        }
        let units = backbone.common_mut().se;
        let se = (*units).ok_or_else(|| ConfigError::Invalid {
            origin: "model.se".to_string(),
            message:
                "the backbone has no SE units to change; the names of networks with units start \
                      with se, such as se-resnet50"
                    .to_string(),
        })?;
        *units = Some(changed(se, &self.model.se, "model.se")?);
        Ok(())
    }

    /// Returns the conversion from images to the network's input, in evaluation.
    ///
    /// # Errors
    /// An unknown backbone.
    pub fn preprocess(&self) -> Result<Preprocess, ConfigError> {
        let pixels = match self.input.pixels {
            Some(pixels) => pixels,
            None => {
                let published = network(&self.model.backbone)?.input;
                PixelConfig {
                    channel_order: ChannelOrder::Rgb,
                    scale: 1.0 / 255.0,
                    mean: published.mean,
                    std: published.std,
                }
            }
        };
        Ok(Preprocess {
            channel_order: pixels.channel_order,
            scale: pixels.scale,
            mean: pixels.mean,
            std: pixels.std,
            min_size: self.input.resize,
            resize_method: match self.input.interpolation {
                Interpolation::Bilinear => ResizeMethod::Pillow,
                Interpolation::Bicubic => ResizeMethod::PillowBicubic,
            },
            center_crop: Some(self.input.size),
            ..Preprocess::imagenet_eval()
        })
    }

    /// Imports what given weights require to give the same outputs as in their framework: the pixel
    /// normalization and, with `whole`, the network. Otherwise a named backbone of the same family, for images
    /// of the same kind, takes the width, the norms' epsilon and the details that no tensor shape shows
    /// ([`WEIGHT_DETAILS`](crate::backbones::BackboneFamily::WEIGHT_DETAILS)). Its SE units compute as in the
    /// weights, or start as identity if the weights have none.
    ///
    /// # Errors
    /// `model.backbone` is unknown.
    pub fn adopt(
        &mut self,
        network: &ClassifierConfig,
        preprocess: &Preprocess,
        whole: bool,
    ) -> Result<(), ConfigError> {
        if whole {
            let table = Table::try_from(network).map_err(|e| ConfigError::Invalid {
                origin: "the weights' network".into(),
                message: e.to_string(),
            })?;
            self.model.adopted = Some(table);
            self.model.width = network.backbone.width_multiplier();
            let name = name_of(&network.backbone);
            self.model.backbone = name.unwrap_or_else(|| IMPORTED.to_string());
        } else {
            self.adopt_details(&network.backbone)?;
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
    use sedet_nn::nn::se::{Gate, SeConfig};

    fn load(name: &str, set: &[&str]) -> Result<ClassificationConfig, ConfigError> {
        let set: Vec<String> = set.iter().map(|s| s.to_string()).collect();
        ClassificationConfig::load(name, &set)
    }

    #[test]
    fn a_key_of_the_other_task_is_named_as_such() {
        let message = |setting: &str| {
            let loaded = ClassificationConfig::load("cifar-short", &[setting.to_string()]);
            loaded.unwrap_err().to_string()
        };
        let text = message("input.max_size=96");
        assert!(
            text.starts_with(
                "setting 'input.max_size=96': unknown key (it belongs to detection recipes); known: "
            ),
            "{text}"
        );
        assert!(!text.contains("did you mean"), "{text}");
    }

    #[test]
    fn every_recipe_builds_its_network_and_survives_being_written_down() {
        let mut count = 0;
        for (name, task, _) in RECIPES {
            if task != Task::Classification {
                let message = load(name, &[]).unwrap_err().to_string();
                assert!(message.contains("is for detection, but"), "{message}");
                continue;
            }
            count += 1;
            let config = load(name, &[]).unwrap();
            assert_eq!(config.classifier(7).unwrap().num_classes, 7, "{name}");
            let preprocess = config.preprocess().unwrap();
            assert_eq!(preprocess.center_crop, Some(config.input.size), "{name}");
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), config.to_toml().unwrap()).unwrap();
            let read = load(file.path().to_str().unwrap(), &[]).unwrap();
            assert_eq!(read, config, "{name}");
        }
        assert!(count > 10, "{count}");
    }

    #[test]
    fn settings_reach_the_units_the_head_and_the_backbone() {
        let config = load(
            "cifar-short",
            &[
                "model.se.reduction=8",
                "model.se.gate=tanh",
                "model.overrides.head.dropout=0.25",
                "model.width=2",
            ],
        )
        .unwrap();
        let classifier = config.classifier(10).unwrap();
        let expected = SeConfig {
            gate: Gate::Tanh,
            ..SeConfig::new(8)
        };
        assert_eq!(classifier.backbone.se(), Some(&expected));
        assert_eq!(classifier.head.dropout, 0.25);
        assert_eq!(classifier.backbone.channels(), 128);
        for (wrong, part) in [
            ("model.se.gat=tanh", "gat"),
            ("model.overrides.head.drop=1", "drop"),
            ("model.backbone=resnet20x", "resnet20x"),
        ] {
            let config = load("cifar-short", &[wrong]).unwrap();
            let message = config.classifier(10).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn given_weights_bring_their_network_and_their_pixels() {
        let mut config = load("cifar-short", &[]).unwrap();
        let given = load("images", &[]).unwrap().classifier(5).unwrap();
        let preprocess = Preprocess {
            mean: [0.1, 0.2, 0.3],
            ..Preprocess::imagenet_eval()
        };
        config.adopt(&given, &preprocess, true).unwrap();
        let classifier = config.classifier(10).unwrap();
        assert_eq!(classifier.backbone, given.backbone);
        assert_eq!(
            config.model.backbone,
            load("images", &[]).unwrap().model.backbone
        );
        assert_eq!(classifier.num_classes, 10);
        let adopted = config.preprocess().unwrap();
        assert_eq!(adopted.mean, preprocess.mean);
        assert_eq!(adopted.center_crop, Some(32), "sizes are the recipe's");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), config.to_toml().unwrap()).unwrap();
        assert_eq!(load(file.path().to_str().unwrap(), &[]).unwrap(), config);
    }
}
