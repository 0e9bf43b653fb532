//! The one table from a network's name to its configuration.
//!
//! The names are of the networks in the SENet paper: those for ImageNet, for CIFAR (its tables 4 and
//! 5) and for Places. `resnet20` to `resnet110` are the CIFAR form. Residual networks have torchvision's place of
//! the stride (in the 3x3 of a bottleneck), which costs 4.09 G multiply-adds for ResNet-50; the
//! paper's, in the first 1x1, costs 3.86 G
//! ([`StridePlace::Conv1x1`](super::resnet::StridePlace::Conv1x1)). `tests/zoo.rs` lists what each
//! name costs beside the paper's figure, and why they differ where they do.

use serde::Serialize;

use super::BackboneConfig;
use super::bn_inception::BnInceptionConfig;
use super::inception_resnet_v2::InceptionResnetV2Config;
use super::mobilenet::MobilenetConfig;
use super::preact_resnet::PreactResNetConfig;
use super::resnet::{BlockKind, ResNetConfig, Shortcut, Stem, StemPooling};
use super::shake_shake::ShakeShakeConfig;
use super::shufflenet::ShufflenetConfig;
use super::vgg::VggConfig;
use sedet_nn::nn::norm::NormKind;
use sedet_nn::nn::se::SeConfig;

/// A name that there is no network for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZooError {
    /// Not in the table.
    #[error("unknown backbone '{name}'; known: {}", known.join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// Without the four stages that the pyramid of a detector is made of.
    #[error("'{name}' is a classifier only; detectors are built on: {}", detector_names().join(", "))]
    ClassifierOnly {
        /// What was asked for.
        name: String,
    },
}

/// What a network's pixels are: RGB between 0 and 1, less `mean`, divided by `std`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct InputConvention {
    /// Height and width of the images that it was published with, in pixels.
    pub size: usize,
    /// Of each channel.
    pub mean: [f32; 3],
    /// Of each channel.
    pub std: [f32; 3],
}

/// ImageNet's mean and standard deviation.
const IMAGENET: InputConvention = InputConvention {
    size: 224,
    mean: [0.485, 0.456, 0.406],
    std: [0.229, 0.224, 0.225],
};

/// Values between -1 and 1, and the larger images of the later Inception networks.
const INCEPTION: InputConvention = InputConvention {
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

/// The same of CIFAR-100.
const CIFAR100: InputConvention = InputConvention {
    size: 32,
    mean: [0.5071, 0.4865, 0.4409],
    std: [0.2673, 0.2564, 0.2762],
};

/// A network as published.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PublishedNetwork {
    /// Its name in the table.
    pub name: String,
    /// Its configuration, norms trained.
    pub backbone: BackboneConfig,
    /// Its input.
    pub input: InputConvention,
    /// Classes of the dataset that it was published with. A network can be made for any number.
    #[serde(skip_serializing)]
    pub num_classes: usize,
}

/// Which forms a network has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forms {
    /// Plain under its name, and with SE units under `se-` and its name.
    PlainAndSe,
    /// With SE units only.
    AlwaysSe,
}

/// What a network was published with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DataSet {
    /// The 1000 classes of ILSVRC 2012.
    ImageNet,
    Cifar10,
    Cifar100,
    /// The 365 scenes of Places2.
    Places365,
}

impl DataSet {
    const fn num_classes(self) -> usize {
        match self {
            Self::ImageNet => 1000,
            Self::Cifar10 => 10,
            Self::Cifar100 => 100,
            Self::Places365 => 365,
        }
    }
}

struct Entry {
    name: &'static str,
    forms: Forms,
    input: InputConvention,
    data_set: DataSet,
    /// The network with these SE units, or without.
    config: fn(Option<SeConfig>) -> BackboneConfig,
}

/// A network for ImageNet.
const fn entry(name: &'static str, config: fn(Option<SeConfig>) -> BackboneConfig) -> Entry {
    Entry {
        name,
        forms: Forms::PlainAndSe,
        input: IMAGENET,
        data_set: DataSet::ImageNet,
        config,
    }
}

/// A network for CIFAR-10.
const fn cifar_entry(name: &'static str, config: fn(Option<SeConfig>) -> BackboneConfig) -> Entry {
    Entry {
        input: CIFAR10,
        data_set: DataSet::Cifar10,
        ..entry(name, config)
    }
}

fn resnet(block: BlockKind, layers: [usize; 4], se: Option<SeConfig>) -> BackboneConfig {
    BackboneConfig::Resnet(ResNetConfig {
        se,
        ..ResNetConfig::new(block, layers)
    })
}

/// ResNeXt with 32 groups of 4 channels.
fn resnext(layers: [usize; 4], se: Option<SeConfig>) -> BackboneConfig {
    BackboneConfig::Resnet(ResNetConfig {
        se,
        groups: 32,
        width_per_group: 4,
        ..ResNetConfig::new(BlockKind::Bottleneck, layers)
    })
}

/// He et al.'s network for CIFAR with so many blocks a stage.
fn cifar_resnet(blocks: usize, se: Option<SeConfig>) -> BackboneConfig {
    BackboneConfig::Resnet(ResNetConfig {
        se,
        ..ResNetConfig::cifar(blocks)
    })
}

fn preact_resnet(config: PreactResNetConfig, se: Option<SeConfig>) -> BackboneConfig {
    BackboneConfig::PreactResnet(PreactResNetConfig { se, ..config })
}

fn shake_shake(config: ShakeShakeConfig, se: Option<SeConfig>) -> BackboneConfig {
    BackboneConfig::ShakeShake(ShakeShakeConfig { se, ..config })
}

/// SENet-154 (appendix of the SENet paper), with Caffe's stem pooling as its weights need.
fn senet154(se: Option<SeConfig>) -> BackboneConfig {
    BackboneConfig::Resnet(ResNetConfig {
        se,
        groups: 64,
        stem: Stem::Deep {
            channels: [64, 64, 128],
        },
        stem_pooling: StemPooling::CeilMode,
        shortcut: Shortcut::Conv3x3,
        ..ResNetConfig::new(BlockKind::WideBottleneck, [3, 8, 36, 3])
    })
}

const TABLE: &[Entry] = &[
    entry("resnet18", |se| resnet(BlockKind::Basic, [2, 2, 2, 2], se)),
    entry("resnet34", |se| resnet(BlockKind::Basic, [3, 4, 6, 3], se)),
    entry("resnet50", |se| {
        resnet(BlockKind::Bottleneck, [3, 4, 6, 3], se)
    }),
    entry("resnet101", |se| {
        resnet(BlockKind::Bottleneck, [3, 4, 23, 3], se)
    }),
    entry("resnet152", |se| {
        resnet(BlockKind::Bottleneck, [3, 8, 36, 3], se)
    }),
    entry("resnext50-32x4d", |se| resnext([3, 4, 6, 3], se)),
    entry("resnext101-32x4d", |se| resnext([3, 4, 23, 3], se)),
    Entry {
        forms: Forms::AlwaysSe,
        ..entry("senet154", senet154)
    },
    entry("vgg16-bn", |se| {
        BackboneConfig::Vgg(VggConfig {
            se,
            ..VggConfig::vgg16()
        })
    }),
    entry("bn-inception", |se| {
        BackboneConfig::BnInception(BnInceptionConfig {
            se,
            ..BnInceptionConfig::default()
        })
    }),
    Entry {
        input: INCEPTION,
        ..entry("inception-resnet-v2", |se| {
            BackboneConfig::InceptionResnetV2(InceptionResnetV2Config {
                se,
                ..InceptionResnetV2Config::default()
            })
        })
    },
    entry("mobilenet-v1", |se| {
        BackboneConfig::Mobilenet(MobilenetConfig {
            se,
            ..MobilenetConfig::default()
        })
    }),
    entry("shufflenet-v1-g3", |se| {
        BackboneConfig::Shufflenet(ShufflenetConfig {
            se,
            ..ShufflenetConfig::default()
        })
    }),
    cifar_entry("resnet20", |se| cifar_resnet(3, se)),
    cifar_entry("resnet32", |se| cifar_resnet(5, se)),
    cifar_entry("resnet44", |se| cifar_resnet(7, se)),
    cifar_entry("resnet56", |se| cifar_resnet(9, se)),
    cifar_entry("resnet110", |se| cifar_resnet(18, se)),
    cifar_entry("resnet164", |se| {
        preact_resnet(PreactResNetConfig::resnet164(), se)
    }),
    cifar_entry("wrn-16-8", |se| {
        preact_resnet(PreactResNetConfig::wrn_16_8(), se)
    }),
    cifar_entry("wrn-28-10", |se| {
        preact_resnet(PreactResNetConfig::wrn_28_10(), se)
    }),
    cifar_entry("shake-shake-26-2x96d", |se| {
        shake_shake(ShakeShakeConfig::shake_shake_26_2x96d(), se)
    }),
    Entry {
        input: CIFAR100,
        data_set: DataSet::Cifar100,
        ..cifar_entry("shake-even-29-2x4x64d", |se| {
            shake_shake(ShakeShakeConfig::shake_even_29_2x4x64d(), se)
        })
    },
    // ResNet-152 with another number of classes, and the pixels of ImageNet's networks.
    Entry {
        data_set: DataSet::Places365,
        ..entry("resnet152-places365", |se| {
            resnet(BlockKind::Bottleneck, [3, 8, 36, 3], se)
        })
    },
];

impl Entry {
    /// Each name, and the SE units that go with it.
    fn names(&self) -> Vec<(String, Option<SeConfig>)> {
        let se = Some(SeConfig::default());
        let plain = self.name.to_string();
        match self.forms {
            Forms::PlainAndSe => {
                let with_se = format!("se-{plain}");
                vec![(plain, None), (with_se, se)]
            }
            Forms::AlwaysSe => vec![(plain, se)],
        }
    }

    /// The network as a detector's backbone: a residual one whose four stages make a pyramid. Those
    /// of other datasets than ImageNet have none, or are among ImageNet's by another name.
    fn pyramid(&self, se: Option<SeConfig>) -> Option<ResNetConfig> {
        match (self.data_set, (self.config)(se)) {
            (DataSet::ImageNet, BackboneConfig::Resnet(config)) => Some(config),
            _ => None,
        }
    }
}

/// Every name of the table with its entry and SE units.
fn all() -> impl Iterator<Item = (String, &'static Entry, Option<SeConfig>)> {
    TABLE.iter().flat_map(|entry| {
        let names = entry.names().into_iter();
        names.map(move |(name, se)| (name, entry, se))
    })
}

/// Every name that [`network`] accepts: each network plain, and with the prefix `se-`.
pub fn known_names() -> Vec<String> {
    all().map(|(name, ..)| name).collect()
}

/// Every name that [`backbone`] accepts.
pub fn detector_names() -> Vec<String> {
    all()
        .filter(|(_, entry, se)| entry.pyramid(*se).is_some())
        .map(|(name, ..)| name)
        .collect()
}

fn find(name: &str) -> Option<(&'static Entry, Option<SeConfig>)> {
    all()
        .find(|(known, ..)| known == name)
        .map(|(_, entry, se)| (entry, se))
}

/// A published network, such as `se-mobilenet-v1`.
///
/// # Errors
/// [`ZooError::Unknown`], which lists the table.
pub fn network(name: &str) -> Result<PublishedNetwork, ZooError> {
    let (entry, se) = find(name).ok_or_else(|| ZooError::Unknown {
        name: name.to_string(),
        known: known_names(),
    })?;
    let mut backbone = (entry.config)(se);
    backbone.common_mut().norm.kind = NormKind::Batch;
    Ok(PublishedNetwork {
        name: name.to_string(),
        backbone,
        input: entry.input,
        num_classes: entry.data_set.num_classes(),
    })
}

/// The published configuration of a detector's backbone, such as `se-resnet50`, norms frozen.
///
/// # Errors
/// A name outside the table, or of a network that has no pyramid; both list those that have one.
pub fn backbone(name: &str) -> Result<ResNetConfig, ZooError> {
    let (entry, se) = find(name).ok_or_else(|| ZooError::Unknown {
        name: name.to_string(),
        known: detector_names(),
    })?;
    entry.pyramid(se).ok_or_else(|| ZooError::ClassifierOnly {
        name: name.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let message = backbone("resnet19").unwrap_err().to_string();
        assert!(message.contains("'resnet19'") && message.contains("se-resnext50-32x4d"));
        assert!(!message.contains("vgg"), "no detector is built on it");
        let message = network("vgg19").unwrap_err().to_string();
        assert!(message.contains("'vgg19'") && message.contains("se-vgg16-bn"));
    }

    #[test]
    fn a_network_without_a_pyramid_is_no_detector_s_backbone() {
        let message = backbone("se-vgg16-bn").unwrap_err().to_string();
        assert!(
            message.starts_with(
                "'se-vgg16-bn' is a classifier only; detectors are built on: resnet18"
            ),
            "{message}"
        );
    }

    #[test]
    fn a_network_has_the_input_and_classes_of_its_data_set_and_detectors_take_imagenet_s() {
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
        for name in detector_names() {
            assert!(!backbone(&name).unwrap().layers.contains(&0), "{name}");
        }
    }

    #[test]
    fn every_known_name_resolves_with_and_without_units() {
        for name in known_names() {
            let network = network(&name).unwrap();
            let has_units = name.starts_with("se");
            assert_eq!(network.backbone.se().is_some(), has_units, "{name}");
            assert_eq!(network.backbone.validate(), Ok(()), "{name}");
        }
        assert!(network("se-senet154").is_err(), "it has one form");
        for name in detector_names() {
            assert!(backbone(&name).is_ok(), "{name}");
        }
    }
}
