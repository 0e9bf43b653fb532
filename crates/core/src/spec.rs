//! The description of a model: everything beside its weights that is needed to use it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::backbones::BackboneConfig;
use crate::classification::classifier::ClassifierConfig;
use crate::detection::faster_rcnn::FasterRcnnConfig;
use sedet_data::annotations::Category;
use sedet_data::loading::transforms::Preprocess;
use sedet_data::text::count;

/// The version of the description in a checkpoint's header.
const FORMAT: u32 = 1;

/// The task of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Boxes with classes and scores.
    Detection,
    /// One score per class for the whole image.
    Classification,
}

impl Task {
    /// Returns the name that recipes and checkpoints use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Detection => "detection",
            Self::Classification => "classification",
        }
    }

    /// Returns what a model of this task is called: `detector` or `classifier`.
    pub const fn model_name(self) -> &'static str {
        match self {
            Self::Detection => "detector",
            Self::Classification => "classifier",
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The configuration of a network of either task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "task", content = "model", rename_all = "snake_case")]
#[allow(clippy::large_enum_variant)] // one of these exists per loaded model
pub enum NetworkConfig {
    /// A network from pixels to class scores.
    Classification(ClassifierConfig),
    /// A network from pixels to boxes.
    Detection(FasterRcnnConfig),
}

impl NetworkConfig {
    /// Returns the beginnings of the names of the tensors that depend on the classes.
    pub(crate) fn prediction_layers(&self) -> &'static [&'static str] {
        match self {
            Self::Classification(_) => &["fc."],
            Self::Detection(model) if model.roi_heads.box_head.class_agnostic => {
                &["box_head.cls_score."]
            }
            Self::Detection(_) => &["box_head.cls_score.", "box_head.bbox_pred."],
        }
    }
}

/// The training of a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingFacts {
    /// Epochs, with the fraction of an unfinished one.
    pub epochs: f64,
    /// Optimizer steps.
    pub iterations: usize,
    /// Seconds spent training, in all sessions.
    pub seconds: f64,
    /// Seed of weights, order, augmentation and sampling.
    pub seed: u64,
}

/// The origin of imported weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportFacts {
    /// Name of the third-party file.
    pub file: String,
    /// Key of its layout.
    pub layout: String,
    /// What was assumed because no tensor shows it.
    pub assumptions: Vec<String>,
}

/// Everything beside the weights that is needed to use a model; stored in every checkpoint.
///
/// # Examples
/// ```
/// use sedet_core::model::{ModelSpec, NetworkConfig};
/// use sedet_core::backbones::zoo::network;
/// use sedet_core::classification::classifier::ClassifierConfig;
/// use sedet_data::loading::transforms::Preprocess;
///
/// let resnet = network("se-resnet50").unwrap().backbone;
/// let network = NetworkConfig::Classification(ClassifierConfig::new(resnet, 1000));
/// let spec = ModelSpec::new(network, Preprocess::imagenet_eval());
/// assert_eq!(spec.class_name(3), "class 3");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelSpec {
    /// The network and, by its variant, the task.
    #[serde(flatten)]
    pub network: NetworkConfig,
    /// The transform from an image to the network's input.
    pub preprocess: Preprocess,
    /// The classes in the order of the labels, with their original ids; empty where unknown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<Category>,
    /// Names of the tensors that a third-party file did not contain. They hold random values, so
    /// the model is useless until it is trained.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Validation metrics of the checkpoint by name; none for values that are not finite.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, Option<f64>>,
    /// How the checkpoint was trained, where sedet trained it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained: Option<TrainingFacts>,
    /// The origin of imported weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<ImportFacts>,
}

/// A description that can't be read, or one of a model that can't exist.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// Fields that are absent or have other types.
    #[error("its description of the model cannot be parsed: {0}")]
    Json(#[from] serde_json::Error),
    /// A description by a later version, whose meaning may differ.
    #[error("its description has format {0}; this version reads formats up to {FORMAT}")]
    Format(u64),
    /// A description that contradicts itself.
    #[error("its description of the model is invalid: {0}")]
    Invalid(String),
}

impl ModelSpec {
    /// Describes a network whose classes have no names.
    pub fn new(network: NetworkConfig, preprocess: Preprocess) -> Self {
        Self {
            network,
            preprocess,
            categories: Vec::new(),
            missing: Vec::new(),
            metrics: BTreeMap::new(),
            trained: None,
            imported: None,
        }
    }

    /// Describes a detector with its classes.
    pub fn detector(
        model: FasterRcnnConfig,
        preprocess: Preprocess,
        categories: Vec<Category>,
    ) -> Self {
        Self {
            categories,
            ..Self::new(NetworkConfig::Detection(model), preprocess)
        }
    }

    /// Describes a classifier with the names of its classes, whose labels serve as category ids.
    pub fn classifier(
        model: ClassifierConfig,
        preprocess: Preprocess,
        class_names: impl IntoIterator<Item = String>,
    ) -> Self {
        let names = class_names.into_iter().zip(0..);
        Self {
            categories: names.map(|(name, id)| Category { id, name }).collect(),
            ..Self::new(NetworkConfig::Classification(model), preprocess)
        }
    }

    /// Returns what the model predicts.
    pub fn task(&self) -> Task {
        match self.network {
            NetworkConfig::Classification(_) => Task::Classification,
            NetworkConfig::Detection(_) => Task::Detection,
        }
    }

    /// Returns the number of classes, without the background.
    pub fn num_classes(&self) -> usize {
        match &self.network {
            NetworkConfig::Classification(model) => model.num_classes,
            NetworkConfig::Detection(model) => model.num_classes,
        }
    }

    /// Returns the name of a class, `class 3` where names are unknown.
    pub fn class_name(&self, label: usize) -> String {
        match self.categories.get(label) {
            Some(category) => category.name.clone(),
            None => format!("class {label}"),
        }
    }

    /// Returns whether the classes have names. Third-party files have none; those of a detector are then `class
    /// 1`, `class 2`, ..., by their ids.
    pub fn has_class_names(&self) -> bool {
        let is_placeholder = |class: &Category| class.name == format!("class {}", class.id);
        !self.categories.iter().all(is_placeholder)
    }

    /// Returns the names of all classes in the order of the labels.
    pub fn class_names(&self) -> Vec<String> {
        let labels = 0..self.num_classes();
        labels.map(|label| self.class_name(label)).collect()
    }

    /// Returns how another network differs from this one in a few words; none if it does not.
    pub fn difference(&self, other: &NetworkConfig) -> Option<String> {
        use NetworkConfig::{Classification, Detection};

        if *other == self.network {
            return None;
        }
        let (backbone, classes) = match (&self.network, other) {
            (Classification(_), Detection(_)) => return Some("it is a detector".into()),
            (Detection(_), Classification(_)) => return Some("it is a classifier".into()),
            (Classification(own), Classification(other)) => {
                (own.backbone == other.backbone, other.num_classes)
            }
            (Detection(own), Detection(other)) => {
                (own.backbone == other.backbone, other.num_classes)
            }
        };
        Some(if !backbone {
            "it has another backbone".into()
        } else if classes != self.num_classes() {
            let classes = sedet_data::text::count(classes, "class");
            format!("it has {classes}, this one {}", self.num_classes())
        } else {
            "it has other settings".into()
        })
    }

    /// Returns the configuration of the backbone.
    pub fn backbone(&self) -> BackboneConfig {
        match &self.network {
            NetworkConfig::Classification(model) => model.backbone.clone(),
            NetworkConfig::Detection(model) => model.backbone.clone(),
        }
    }

    /// Returns the multiple that input sizes are padded to.
    ///
    /// Padding changes the means that SE units compute: the images of a classifier are not padded,
    /// those of a detector are padded as in training.
    pub fn size_divisor(&self) -> usize {
        match self.task() {
            Task::Classification => 1,
            Task::Detection => self.preprocess.size_divisor,
        }
    }

    /// Checks that the model can be built and used.
    ///
    /// # Errors
    /// An impossible backbone or transform, an input that is too small for a classifier, a detector
    /// with a center crop, or category names that don't match the number of classes.
    pub fn validate(&self) -> Result<(), SpecError> {
        let invalid = |reason: &dyn fmt::Display| SpecError::Invalid(reason.to_string());
        self.backbone().validate().map_err(|e| invalid(&e))?;
        self.preprocess.validate().map_err(|e| invalid(&e))?;
        match &self.network {
            NetworkConfig::Classification(model) => {
                let side = self.preprocess.input_side();
                model.summary([side; 2]).map_err(|e| invalid(&e))?;
            }
            NetworkConfig::Detection(model) => {
                model.validate().map_err(|e| invalid(&e))?;
                if let Some(side) = self.preprocess.center_crop {
                    return Err(SpecError::Invalid(format!(
                        "center_crop: {side} is for classifiers only, a detector needs the whole image"
                    )));
                }
                if self.categories.is_empty() {
                    return Err(SpecError::Invalid("a detector without categories".into()));
                }
            }
        }
        let (names, classes) = (self.categories.len(), self.num_classes());
        if names > 0 && names != classes {
            return Err(SpecError::Invalid(format!(
                "{} for {}",
                count(names, "category"),
                count(classes, "class")
            )));
        }
        Ok(())
    }

    /// Reads a description from a checkpoint's header and validates it. Unknown fields are ignored.
    ///
    /// # Errors
    /// See [`SpecError`].
    pub(crate) fn from_header(header: &Value) -> Result<Self, SpecError> {
        let format = header["format"].as_u64().unwrap_or(1);
        if format > u64::from(FORMAT) {
            return Err(SpecError::Format(format));
        }
        let spec = Self::deserialize(header)?;
        spec.validate()?;
        Ok(spec)
    }

    /// Returns the description as a checkpoint's header holds it.
    ///
    /// # Errors
    /// Never for a spec that was read from a checkpoint or built from a recipe.
    pub(crate) fn to_header(&self) -> Result<Value, serde_json::Error> {
        let mut header = serde_json::to_value(self)?;
        header["format"] = FORMAT.into();
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbones::zoo::{backbone, network};
    use crate::detection::faster_rcnn::Preset;

    fn classifier(name: &str, side: usize) -> ModelSpec {
        ModelSpec::classifier(
            ClassifierConfig::new(network(name).unwrap().backbone, 3),
            Preprocess {
                center_crop: Some(side),
                ..Preprocess::imagenet_eval()
            },
            ["a", "b", "c"].map(str::to_string),
        )
    }

    fn detector() -> ModelSpec {
        let category = Category {
            id: 7,
            name: "a".into(),
        };
        ModelSpec::detector(
            FasterRcnnConfig::new(Preset::Torchvision, backbone("resnet18").unwrap(), 1),
            Preprocess::torchvision(),
            vec![category],
        )
    }

    #[test]
    fn networks_differ_in_task_backbone_classes_or_settings() {
        let own = classifier("se-resnet20", 32);
        let said = |other: &ModelSpec| own.difference(&other.network);
        assert_eq!(said(&own), None);
        assert_eq!(said(&detector()).unwrap(), "it is a detector");
        let other = classifier("resnet20", 32);
        assert_eq!(said(&other).unwrap(), "it has another backbone");
        let mut more = own.clone();
        if let NetworkConfig::Classification(config) = &mut more.network {
            config.num_classes = 7;
        }
        assert_eq!(said(&more).unwrap(), "it has 7 classes, this one 3");
    }

    fn reread(spec: &ModelSpec) -> Result<ModelSpec, SpecError> {
        ModelSpec::from_header(&spec.to_header().unwrap())
    }

    #[test]
    fn a_spec_survives_the_header_of_a_checkpoint() {
        let mut written = classifier("se-mobilenet-v1", 128);
        assert_eq!(reread(&written).unwrap(), written);
        assert_eq!(written.class_name(1), "b");
        written.categories.clear();
        assert_eq!(reread(&written).unwrap().class_names()[1], "class 1");
        let mut trained = detector();
        trained.trained = Some(TrainingFacts {
            epochs: 1.5,
            iterations: 30,
            seconds: 12.0,
            seed: 3,
        });
        trained.metrics = [("AP".to_string(), Some(0.25)), ("APl".to_string(), None)].into();
        assert_eq!(reread(&trained).unwrap(), trained);
    }

    #[test]
    fn a_header_names_task_model_and_format_at_the_top() {
        let header = detector().to_header().unwrap();
        assert_eq!(header["task"], "detection");
        assert_eq!(header["format"], 1);
        assert_eq!(header["model"]["num_classes"], 1);
        assert_eq!(header["categories"][0]["id"], 7);
        assert!(header.get("missing").is_none() && header.get("trained").is_none());
    }

    #[test]
    fn an_impossible_model_is_refused_with_the_reason() {
        let mut few = classifier("resnet20", 32);
        few.categories.pop();
        let mut cropped = detector();
        cropped.preprocess.center_crop = Some(224);
        for (spec, part) in [
            (few, "2 categories for 3 classes"),
            (
                classifier("inception-resnet-v2", 32),
                "32x32 pixels (height x width) is too small",
            ),
            (cropped, "center_crop: 224 is for classifiers only"),
        ] {
            let message = reread(&spec).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
