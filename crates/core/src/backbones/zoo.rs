//! Published networks by name.
//!
//! The names are of the networks in the SENet paper: those for ImageNet, for CIFAR (its tables 4 and
//! 5) and for Places. `resnet20` to `resnet110` are the CIFAR form. Each family lists its own
//! ([`BackboneFamily::PUBLISHED`](super::BackboneFamily::PUBLISHED)). Residual networks have
//! torchvision's position of the stride (in the 3x3 of a bottleneck), which costs 4.09 G
//! multiply-adds for ResNet-50; the paper's, in the first 1x1, costs 3.86 G
//! ([`StridePlace::Conv1x1`](super::resnet::StridePlace::Conv1x1)). `tests/zoo.rs` lists the cost of
//! each network beside the paper's figure, and the reason where they differ.

use serde::Serialize;

use super::{BackboneConfig, published_networks};
use sedet_data::text::did_you_mean;
use sedet_nn::nn::norm::{NormConfig, NormKind};
use sedet_nn::nn::se::SeConfig;

/// An unknown or unsuitable network name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZooError {
    /// Not a published network.
    #[error("unknown backbone '{name}'{}; known: {}", did_you_mean(name, known), known.join(", "))]
    Unknown {
        /// The requested name.
        name: String,
        /// The known names.
        known: Vec<String>,
    },
    /// A network without the feature maps that a feature pyramid needs, or for small images.
    #[error("'{name}' is a classifier only; detectors are built on: {}", detector_names().join(", "))]
    ClassifierOnly {
        /// The requested name.
        name: String,
    },
}

/// The input of a network: RGB values between 0 and 1, minus `mean`, divided by `std`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct InputConvention {
    /// Height and width of the images that the network was published with, in pixels.
    pub size: usize,
    /// Mean of each channel.
    pub mean: [f32; 3],
    /// Standard deviation of each channel.
    pub std: [f32; 3],
}

/// ImageNet's mean and standard deviation, at 224x224.
pub const IMAGENET: InputConvention = InputConvention {
    size: 224,
    mean: [0.485, 0.456, 0.406],
    std: [0.229, 0.224, 0.225],
};

/// Values between -1 and 1, and the 299x299 images of the later Inception networks.
pub(crate) const INCEPTION: InputConvention = InputConvention {
    size: 299,
    mean: [0.5; 3],
    std: [0.5; 3],
};

/// Mean and standard deviation of CIFAR-10's training images, and their size.
const CIFAR10: InputConvention = InputConvention {
    size: 32,
    mean: [0.4914, 0.4822, 0.4465],
    std: [0.2470, 0.2435, 0.2616],
};

/// Mean and standard deviation of CIFAR-100's training images, and their size.
const CIFAR100: InputConvention = InputConvention {
    size: 32,
    mean: [0.5071, 0.4865, 0.4409],
    std: [0.2673, 0.2564, 0.2762],
};

/// A published network, with or without SE units.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PublishedNetwork {
    /// Its name.
    pub name: String,
    /// Its configuration.
    pub backbone: BackboneConfig,
    /// Its input.
    pub input: InputConvention,
    /// Classes of the dataset that it was published with. A network can be built for any number.
    #[serde(skip_serializing)]
    pub num_classes: usize,
    #[serde(skip_serializing)]
    dataset: Dataset,
}

/// The variants in which a network is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variants {
    /// Without SE units under its name, and with them under `se-` and its name.
    PlainAndSe,
    /// With SE units only.
    AlwaysSe,
}

/// The dataset that a network was published with. Names are listed in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Dataset {
    /// The 1000 classes of ILSVRC 2012.
    ImageNet,
    Cifar10,
    Cifar100,
    /// The 365 scenes of Places2.
    Places365,
}

impl Dataset {
    const fn num_classes(self) -> usize {
        match self {
            Self::ImageNet => 1000,
            Self::Cifar10 => 10,
            Self::Cifar100 => 100,
            Self::Places365 => 365,
        }
    }
}

/// One published network of a family with configurations `C`.
#[derive(Debug)]
pub struct Published<C> {
    name: &'static str,
    variants: Variants,
    input: InputConvention,
    dataset: Dataset,
    config: fn(Option<SeConfig>) -> C,
}

impl<C> Published<C> {
    const fn new(
        name: &'static str,
        input: InputConvention,
        dataset: Dataset,
        config: fn(Option<SeConfig>) -> C,
    ) -> Self {
        Self {
            name,
            variants: Variants::PlainAndSe,
            input,
            dataset,
            config,
        }
    }

    /// Describes a network for ImageNet; `config` builds it with the given SE units, or without.
    pub const fn imagenet(name: &'static str, config: fn(Option<SeConfig>) -> C) -> Self {
        Self::new(name, IMAGENET, Dataset::ImageNet, config)
    }

    /// Describes a network for CIFAR-10.
    pub const fn cifar10(name: &'static str, config: fn(Option<SeConfig>) -> C) -> Self {
        Self::new(name, CIFAR10, Dataset::Cifar10, config)
    }

    /// Describes a network for CIFAR-100.
    pub const fn cifar100(name: &'static str, config: fn(Option<SeConfig>) -> C) -> Self {
        Self::new(name, CIFAR100, Dataset::Cifar100, config)
    }

    /// Describes a network for Places365, which has the input of ImageNet's networks.
    pub const fn places365(name: &'static str, config: fn(Option<SeConfig>) -> C) -> Self {
        Self::new(name, IMAGENET, Dataset::Places365, config)
    }

    /// Sets another input than the dataset's usual one.
    #[must_use]
    pub(crate) const fn with_input(mut self, input: InputConvention) -> Self {
        self.input = input;
        self
    }

    /// Declares that there is no variant without SE units.
    #[must_use]
    pub(crate) const fn always_se(mut self) -> Self {
        self.variants = Variants::AlwaysSe;
        self
    }
}

impl<C: Into<BackboneConfig>> Published<C> {
    /// Lists the network's variants.
    pub(super) fn networks(&self) -> Vec<PublishedNetwork> {
        let se = Some(SeConfig::default());
        let names = match self.variants {
            Variants::PlainAndSe => vec![
                (self.name.to_string(), None),
                (format!("se-{}", self.name), se),
            ],
            Variants::AlwaysSe => vec![(self.name.to_string(), se)],
        };
        let network = |(name, se)| PublishedNetwork {
            name,
            backbone: (self.config)(se).into(),
            input: self.input,
            num_classes: self.dataset.num_classes(),
            dataset: self.dataset,
        };
        names.into_iter().map(network).collect()
    }
}

impl PublishedNetwork {
    /// Returns whether a detector can be built on it. Networks of other datasets than ImageNet have
    /// no feature pyramid, or are among ImageNet's under another name.
    fn is_detector_backbone(&self) -> bool {
        self.dataset == Dataset::ImageNet && self.backbone.pyramid_parts().is_ok()
    }
}

/// Lists all published networks, those for ImageNet first.
fn all() -> Vec<PublishedNetwork> {
    let mut networks = published_networks();
    networks.sort_by_key(|network| network.dataset);
    networks
}

fn names(networks: impl Iterator<Item = PublishedNetwork>) -> Vec<String> {
    networks.map(|network| network.name).collect()
}

/// Lists every name that [`network`] accepts.
pub fn known_names() -> Vec<String> {
    names(all().into_iter())
}

/// Lists every name that [`backbone`] accepts.
pub fn detector_names() -> Vec<String> {
    names(
        all()
            .into_iter()
            .filter(PublishedNetwork::is_detector_backbone),
    )
}

fn find(name: &str) -> Option<PublishedNetwork> {
    all().into_iter().find(|network| network.name == name)
}

/// Returns a published network, such as `se-mobilenet-v1`, with trained norms.
///
/// # Errors
/// [`ZooError::Unknown`], which lists the known names.
pub fn network(name: &str) -> Result<PublishedNetwork, ZooError> {
    let mut network = find(name).ok_or_else(|| ZooError::Unknown {
        name: name.to_string(),
        known: known_names(),
    })?;
    network.backbone.common_mut().norm.kind = NormKind::Batch;
    Ok(network)
}

/// Returns the configuration of a detector's backbone, such as `se-resnet50`, with frozen norms.
///
/// # Errors
/// An unknown name, or a network that is a classifier only; both list the detector backbones.
pub fn backbone(name: &str) -> Result<BackboneConfig, ZooError> {
    let network = find(name).ok_or_else(|| ZooError::Unknown {
        name: name.to_string(),
        known: detector_names(),
    })?;
    if !network.is_detector_backbone() {
        return Err(ZooError::ClassifierOnly {
            name: name.to_string(),
        });
    }
    let mut backbone = network.backbone.for_detection();
    backbone.common_mut().norm.kind = NormKind::Frozen;
    Ok(backbone)
}

/// Returns the name of the published network with this structure. Width, norms and frozen stages do not
/// count, nor do the details that come with weights, such as the position of a stride.
pub(crate) fn name_of(backbone: &BackboneConfig) -> Option<String> {
    let structure = |mut config: BackboneConfig| {
        let common = config.common_mut();
        *common.width_multiplier = 1.0;
        *common.frozen_stages = 0;
        *common.norm = NormConfig::default();
        if let Some(se) = common.se {
            se.reduction = SeConfig::default().reduction;
        }
        let details = config.weight_details();
        let mut fields = serde_json::to_value(config.for_detection()).ok()?;
        for detail in details {
            fields.as_object_mut()?.remove(*detail);
        }
        Some(fields)
    };
    let wanted = structure(backbone.clone())?;
    let found = all()
        .into_iter()
        .find(|network| structure(network.backbone.clone()).as_ref() == Some(&wanted));
    found.map(|network| network.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let message = backbone("resnet19").unwrap_err().to_string();
        assert!(message.contains("'resnet19'") && message.contains("se-resnext50-32x4d"));
        assert!(!message.contains("wrn"), "not a detector backbone");
        let message = network("seresnet50").unwrap_err().to_string();
        assert!(
            message.starts_with("unknown backbone 'seresnet50' (did you mean 'se-resnet50'?)"),
            "{message}"
        );
        let message = network("vgg19").unwrap_err().to_string();
        assert!(message.contains("'vgg19'") && message.contains("se-vgg16-bn"));
    }

    #[test]
    fn a_network_without_a_pyramid_is_refused_as_a_detector_backbone() {
        let message = backbone("se-wrn-28-10").unwrap_err().to_string();
        assert!(
            message.starts_with(
                "'se-wrn-28-10' is a classifier only; detectors are built on: resnet18"
            ),
            "{message}"
        );
    }

    #[test]
    fn a_network_is_recognized_at_any_width_and_with_details_of_its_weights() {
        for name in detector_names() {
            let mut found = backbone(&name).unwrap();
            *found.common_mut().width_multiplier = 0.5;
            assert_eq!(name_of(&found), Some(name));
        }
        let BackboneConfig::Resnet(mut odd) = backbone("resnet50").unwrap() else {
            unreachable!("resnet50 is a ResNet");
        };
        odd.stride_place = crate::backbones::resnet::StridePlace::Conv1x1;
        assert_eq!(name_of(&odd.clone().into()).as_deref(), Some("resnet50"));
        odd.layers = [3, 4, 7, 3];
        assert_eq!(name_of(&odd.into()), None);
    }

    #[test]
    fn every_family_for_imagenet_is_a_detector_backbone() {
        let names = detector_names();
        for family in [
            "resnet50",
            "senet154",
            "vgg16-bn",
            "bn-inception",
            "inception-resnet-v2",
            "mobilenet-v1",
            "shufflenet-v1-g3",
        ] {
            assert!(names.contains(&family.to_string()), "{family}");
        }
        assert!(names.contains(&"se-shufflenet-v1-g3".to_string()));
    }

    #[test]
    fn a_network_has_the_input_and_classes_of_its_dataset() {
        for (name, input, num_classes) in [
            ("resnet20", CIFAR10, 10),
            ("se-resnet110", CIFAR10, 10),
            ("se-wrn-28-10", CIFAR10, 10),
            ("shake-shake-26-2x96d", CIFAR10, 10),
            ("se-shake-even-29-2x4x64d", CIFAR100, 100),
            ("se-resnet152-places365", IMAGENET, 365),
        ] {
            let network = network(name).unwrap();
            assert_eq!((network.input, network.num_classes), (input, num_classes));
            assert!(!detector_names().contains(&name.to_string()));
            let error = backbone(name).unwrap_err();
            assert!(matches!(error, ZooError::ClassifierOnly { .. }), "{error}");
        }
        assert_eq!(network("resnet18").unwrap().num_classes, 1000);
        assert_eq!(network("inception-resnet-v2").unwrap().input, INCEPTION);
    }

    #[test]
    fn every_known_name_resolves_with_and_without_se_units() {
        let names = known_names();
        assert_eq!(names.first().map(String::as_str), Some("resnet18"));
        assert_eq!(
            names.last().map(String::as_str),
            Some("se-resnet152-places365")
        );
        for name in names {
            let network = network(&name).unwrap();
            let has_units = name.starts_with("se");
            assert_eq!(network.backbone.se().is_some(), has_units, "{name}");
            assert_eq!(
                network.backbone.se_position().is_some(),
                has_units,
                "{name}"
            );
            assert_eq!(network.backbone.validate(), Ok(()), "{name}");
        }
        assert!(network("se-senet154").is_err(), "it has one variant");
        for name in detector_names() {
            assert_eq!(backbone(&name).unwrap().frozen_stages(), 0, "{name}");
        }
    }
}
