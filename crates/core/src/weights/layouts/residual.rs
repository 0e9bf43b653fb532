//! ResNets and SE-ResNets: torchvision, timm, Cadene, moskomule, mmpretrain and the CIFAR networks
//! of akamaster, chenyaofo and kuangliu differ in stem, SE unit and head; the names of the blocks are the
//! same.

use std::path::Path;

use super::architecture::{
    Architecture, TransformersConfig, preprocessor_input, stated_input, timm_difference,
};
use super::{
    Form, Layout, Names, RecognizeError, Recognized, ThirdPartyTensor, Unwrapped, is_caffe_style,
};
use crate::backbones::BackboneConfig;
use crate::backbones::resnet::{
    AntiAlias, BlockKind, ResNetConfig, Shortcut, Stem, StemPooling, StridePlace,
};
use crate::classification::classifier::ClassifierConfig;
use crate::spec::{ModelSpec, NetworkConfig};
use sedet_data::loading::transforms::{Preprocess, ResizeMethod};
use sedet_nn::nn::norm::{NormConfig, NormKind};
use sedet_nn::nn::se::SeConfig;

/// The names of the stem's convolutions and norms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StemNames {
    /// `conv1`, `bn1`.
    Plain,
    /// `conv1.0`, `conv1.1`, `conv1.3`, `conv1.4`, `conv1.6`, `bn1`.
    Sequential,
    /// `layer0.conv1`, `layer0.bn1`, `layer0.conv2`, ...
    Layer0,
    /// `embedder.embedder.convolution`, `embedder.embedder.normalization`.
    Embedder,
}

impl StemNames {
    /// Returns the number of convolutions.
    const fn convs(self) -> usize {
        match self {
            Self::Plain | Self::Embedder => 1,
            Self::Sequential | Self::Layer0 => 3,
        }
    }
}

/// The names of the stages and of the layers of their blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BlockNames {
    /// `layer1.0.conv1`, `layer1.0.bn1`, `layer1.0.downsample.0`.
    Torchvision,
    /// `encoder.stages.0.layers.0.layer.0.convolution`, `...normalization`, `...shortcut.convolution`.
    Transformers,
}

/// The third-party names of the tensors of a [`crate::backbones::resnet::ResNet`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResidualNames {
    /// The prefix of `layer1`.
    body: &'static str,
    blocks: BlockNames,
    stem: StemNames,
    /// The names of the SE unit's two layers.
    se: [&'static str; 2],
    se_has_bias: bool,
    /// The name of the shortcut: `downsample`, or `shortcut` in kuangliu's and akamaster's networks.
    shortcut: &'static str,
    /// The name of the convolution in the shortcut.
    shortcut_conv: usize,
    /// The position of the stem's convolution that replaces the pooling (ResNet-RS), under the name
    /// `maxpool`.
    pooling_conv: Option<usize>,
}

impl ResidualNames {
    /// Returns torchvision's names with this prefix.
    pub const fn torchvision(body: &'static str) -> Self {
        Self {
            body,
            blocks: BlockNames::Torchvision,
            stem: StemNames::Plain,
            se: ["se.fc1", "se.fc2"],
            se_has_bias: true,
            shortcut: "downsample",
            shortcut_conv: 0,
            pooling_conv: None,
        }
    }

    /// Returns the names of Hugging Face's transformers with this prefix.
    const fn transformers(body: &'static str) -> Self {
        Self {
            blocks: BlockNames::Transformers,
            stem: StemNames::Embedder,
            ..Self::torchvision(body)
        }
    }

    /// Returns the name of a tensor in a block of transformers' networks.
    fn in_transformers_block(&self, layer: &str, block: &str, rest: &str) -> ThirdPartyTensor {
        let stage = number(layer.trim_start_matches("layer")).saturating_sub(1);
        let name = format!("{}encoder.stages.{stage}.layers.{block}.{rest}", self.body);
        ThirdPartyTensor::new(name, Form::AsIs)
    }

    /// Returns the third-party tensor for a native name without `backbone.`.
    pub fn third_party(&self, native: &str) -> ThirdPartyTensor {
        let body = self.body;
        let parts: Vec<&str> = native.split('.').collect();
        match parts.as_slice() {
            ["conv1", tensor] => self.stem(0, false, tensor),
            ["bn1", tensor] => self.stem(0, true, tensor),
            ["stem_convs", n, tensor] => self.stem(number(n) + 1, false, tensor),
            ["stem_norms", n, tensor] => self.stem(number(n) + 1, true, tensor),
            [layer, block, part @ ("convs" | "norms"), n, tensor]
                if self.blocks == BlockNames::Transformers =>
            {
                let part = transformers_layer(*part == "norms");
                self.in_transformers_block(layer, block, &format!("layer.{n}.{part}.{tensor}"))
            }
            [layer, block, "downsample", part, tensor]
                if self.blocks == BlockNames::Transformers =>
            {
                let part = transformers_layer(*part == "norm");
                self.in_transformers_block(layer, block, &format!("shortcut.{part}.{tensor}"))
            }
            [layer, block, "convs", n, tensor] => {
                let n = number(n) + 1;
                ThirdPartyTensor::new(
                    format!("{body}{layer}.{block}.conv{n}.{tensor}"),
                    Form::AsIs,
                )
            }
            [layer, block, "norms", n, tensor] => {
                let n = number(n) + 1;
                ThirdPartyTensor::new(format!("{body}{layer}.{block}.bn{n}.{tensor}"), Form::AsIs)
            }
            [layer, block, "downsample", part, tensor] => {
                let n = self.shortcut_conv + usize::from(*part == "norm");
                let name = format!("{body}{layer}.{block}.{}.{n}.{tensor}", self.shortcut);
                ThirdPartyTensor::new(name, Form::AsIs)
            }
            [layer, block, "se", fc, tensor] => {
                let unit = self.se[usize::from(*fc == "fc2")];
                let form = match (*tensor, self.se_has_bias) {
                    ("weight", true) => Form::Pointwise,
                    ("weight", false) => Form::Matrix,
                    (_, true) => Form::AsIs,
                    (_, false) => Form::Absent,
                };
                ThirdPartyTensor::new(format!("{body}{layer}.{block}.{unit}.{tensor}"), form)
            }
            _ => ThirdPartyTensor::new(format!("{body}{native}"), Form::AsIs),
        }
    }

    /// Returns whether a tensor belongs to the stem or to a stage. `name` is without the common prefix of
    /// all names.
    pub(crate) fn is_inside(&self, name: &str) -> bool {
        let Some(name) = name.strip_prefix(self.body) else {
            return false;
        };
        let module = name.split('.').next().unwrap_or(name);
        if self.blocks == BlockNames::Transformers {
            return matches!(module, "embedder" | "encoder");
        }
        matches!(
            module.trim_end_matches(|c: char| c.is_ascii_digit()),
            "conv" | "bn" | "norm" | "act" | "relu" | "prelu" | "layer" | "pool" | "maxpool"
        )
    }

    fn stem(&self, index: usize, is_norm: bool, tensor: &str) -> ThirdPartyTensor {
        let body = self.body;
        if self.pooling_conv == Some(index) {
            let n = usize::from(is_norm);
            return ThirdPartyTensor::new(format!("{body}maxpool.{n}.{tensor}"), Form::AsIs);
        }
        let name = match (self.stem, is_norm) {
            (StemNames::Plain, false) => format!("{body}conv{}.{tensor}", index + 1),
            (StemNames::Plain, true) => format!("{body}bn{}.{tensor}", index + 1),
            (StemNames::Sequential, true) if index == 2 => format!("{body}bn1.{tensor}"),
            (StemNames::Sequential, _) => {
                format!("{body}conv1.{}.{tensor}", 3 * index + usize::from(is_norm))
            }
            (StemNames::Layer0, false) => format!("{body}layer0.conv{}.{tensor}", index + 1),
            (StemNames::Layer0, true) => format!("{body}layer0.bn{}.{tensor}", index + 1),
            (StemNames::Embedder, _) => {
                format!(
                    "{body}embedder.embedder.{}.{tensor}",
                    transformers_layer(is_norm)
                )
            }
        };
        ThirdPartyTensor::new(name, Form::AsIs)
    }
}

/// Returns transformers' name of a convolution or of the norm after it.
const fn transformers_layer(is_norm: bool) -> &'static str {
    if is_norm {
        "normalization"
    } else {
        "convolution"
    }
}

fn number(text: &str) -> usize {
    // Native names always have a number at this position.
    text.parse().unwrap_or(0)
}

/// The third-party names of the tensors of a classifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassifierNames {
    /// The names of the backbone's tensors.
    pub backbone: ResidualNames,
    /// The name of the linear layer.
    pub head: &'static str,
}

impl ClassifierNames {
    /// Returns the third-party tensor for a native name.
    pub fn third_party(&self, native: &str) -> ThirdPartyTensor {
        match native.strip_prefix("backbone.") {
            Some(rest) => self.backbone.third_party(rest),
            None => {
                let tensor = native.trim_start_matches("fc.");
                let form = match tensor {
                    "weight" => Form::Matrix,
                    _ => Form::AsIs,
                };
                ThirdPartyTensor::new(format!("{}.{tensor}", self.head), form)
            }
        }
    }
}

impl ClassifierNames {
    /// Returns another library's names for a network, for export.
    ///
    /// # Errors
    /// The reason why the library has no equivalent network.
    pub(crate) fn for_export(library: Library, backbone: &ResNetConfig) -> Result<Self, String> {
        if backbone.se.is_some_and(|se| !se.is_published()) {
            return Err("it has no equivalent of this variant of the SE unit".into());
        }
        let mut names = ResidualNames::torchvision("");
        if let Stem::Deep { .. } = backbone.stem {
            names.stem = StemNames::Sequential;
        }
        if backbone.stem_pooling == StemPooling::Conv3x3 {
            names.pooling_conv = Some(names.stem.convs());
        }
        if backbone.shortcut == Shortcut::AveragePool {
            names.shortcut_conv = 1;
        }
        let mut head = "fc";
        let is_legacy = backbone.stem_pooling == StemPooling::CeilMode
            || backbone.se.is_some_and(|se| se.after_relu)
            || backbone.stride_place == StridePlace::Conv1x1
            || backbone.block == BlockKind::WideBottleneck;
        match library {
            Library::Torchvision => {
                let differs = if backbone.se.is_some() {
                    Some("SE units")
                } else if is_legacy {
                    Some("Caffe's stride or stem pooling")
                } else if backbone.stem != Stem::Conv7x7 {
                    Some("a stem other than one 7x7 convolution")
                } else if backbone.shortcut != Shortcut::Conv1x1 {
                    Some("shortcuts other than 1x1 convolutions")
                } else if backbone.stem_pooling == StemPooling::Conv3x3 {
                    Some("a convolution in place of the stem's pooling")
                } else if backbone.anti_alias.is_some() {
                    Some("anti-aliasing")
                } else {
                    None
                };
                if let Some(differs) = differs {
                    return Err(format!("it has no ResNet with {differs}"));
                }
            }
            Library::Timm if is_legacy => {
                if backbone.se.is_none() || backbone.stem_pooling != StemPooling::CeilMode {
                    return Err(
                        "it has Caffe's stride and stem pooling in legacy SE networks only".into(),
                    );
                }
                // What no tensor shows is fixed there for each kind of block.
                let is_in_1x1 = backbone.block == BlockKind::Bottleneck && backbone.groups == 1;
                let stride_place = if is_in_1x1 {
                    StridePlace::Conv1x1
                } else {
                    StridePlace::Conv3x3
                };
                let after_relu = backbone.block == BlockKind::Basic;
                if backbone.stride_place != stride_place
                    || backbone.se.is_some_and(|se| se.after_relu != after_relu)
                {
                    return Err(
                        "its legacy networks have the strides and the SE units in other positions"
                            .into(),
                    );
                }
                names.stem = StemNames::Layer0;
                names.se = ["se_module.fc1", "se_module.fc2"];
                head = "last_linear";
            }
            Library::Timm
                if backbone.stem == Stem::Cifar || backbone.shortcut == Shortcut::ZeroPad =>
            {
                return Err("it has no CIFAR ResNet".into());
            }
            Library::Timm if backbone.anti_alias.is_some() => {
                return Err(
                    "its anti-aliased networks have the tensors of plain ones, so that the file would be \
                     read as another network"
                        .into(),
                );
            }
            Library::Timm => {}
        }
        Ok(Self {
            backbone: names,
            head,
        })
    }
}

/// A library whose tensor names can be exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// torchvision.
    Torchvision,
    /// timm.
    Timm,
}

impl std::fmt::Display for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Torchvision => "torchvision",
            Self::Timm => "timm",
        })
    }
}

/// Recognizes a network whose names start with `layer1` or `layer0`.
pub(super) fn plain(
    tensors: Unwrapped,
    asked: Option<Layout>,
) -> Result<Recognized, RecognizeError> {
    let head = ["fc", "last_linear", "linear", "classifier"]
        .into_iter()
        .find(|head| matches!(tensors.shape(&format!("{head}.weight")), Some([_, _])));
    let mut names = ResidualNames::torchvision("");
    let is_cifar = matches!(tensors.shape("conv1.weight"), Some([_, 3, 3, 3]));
    let mut layout = if tensors.has("layer0.conv1.weight") {
        names.stem = StemNames::Layer0;
        names.se = ["se_module.fc1", "se_module.fc2"];
        Layout::Cadene
    } else if tensors.has("layer1.0.se.fc.0.weight") {
        names.se = ["se.fc.0", "se.fc.2"];
        names.se_has_bias = tensors.has("layer1.0.se.fc.0.bias");
        Layout::Moskomule
    } else if tensors.has("layer1.0.se.fc1.weight") {
        Layout::Timm
    } else if is_cifar && tensors.has("layer4.0.shortcut.0.weight") {
        Layout::Kuangliu
    } else if is_cifar && (head == Some("linear") || tensors.has("layer2.0.shortcut.0.weight")) {
        Layout::Akamaster
    } else if is_cifar {
        Layout::Chenyaofo
    } else {
        Layout::Torchvision
    };
    if tensors.has("conv1.0.weight") {
        names.stem = StemNames::Sequential;
    }
    let mut origin = None;
    if asked.is_none()
        && matches!(layout, Layout::Torchvision | Layout::Timm)
        && let Some((architecture, kind)) = Architecture::of_anti_aliased(tensors.file)
    {
        layout = match kind {
            AntiAlias::AveragePool => Layout::TimmAa,
            AntiAlias::BlurPool => Layout::TimmBlur,
        };
        origin = Some(architecture.origin);
    }
    let mut recognized = classifier(tensors, asked.unwrap_or(layout), names, head)?;
    // Networks with these names can be anti-aliased ones of timm, which no tensor shows.
    if matches!(
        recognized.layout,
        Layout::Torchvision | Layout::Timm | Layout::TimmAa | Layout::TimmBlur
    ) {
        let how = subsampling_words(recognized.layout);
        let from = origin.map_or(String::new(), |origin| format!(", from {origin}"));
        recognized
            .assumptions
            .push(format!("subsampling: {how}{from}"));
    }
    Ok(recognized)
}

/// Recognizes mmpretrain's networks: prefix `backbone.`, head `head.fc`.
pub(super) fn mmpretrain(
    tensors: Unwrapped,
    asked: Option<Layout>,
) -> Result<Recognized, RecognizeError> {
    let mut names = ResidualNames::torchvision("backbone.");
    names.se = if tensors.has("backbone.layer1.0.se_layer.conv1.conv.weight") {
        ["se_layer.conv1.conv", "se_layer.conv2.conv"]
    } else {
        ["se_layer.conv1", "se_layer.conv2"]
    };
    let layout = asked.unwrap_or(if is_caffe_style(tensors.file) {
        Layout::MmpretrainCaffe
    } else {
        Layout::Mmpretrain
    });
    let head = tensors.has("head.fc.weight").then_some("head.fc");
    classifier(tensors, layout, names, head)
}

/// Recognizes `ResNetForImageClassification` of Hugging Face's transformers, and its `ResNetModel`, which has no
/// last layer.
pub(super) fn transformers(tensors: Unwrapped) -> Result<Recognized, RecognizeError> {
    let of_classifier = "resnet.encoder.stages.0.layers.0.layer.0.convolution.weight";
    let body = if tensors.has(of_classifier) {
        "resnet."
    } else {
        ""
    };
    let names = ResidualNames::transformers(body);
    // Its RegNets have the same names and another stem.
    let stem = names.stem(0, false, "weight").name;
    match tensors.sizes::<4>(&stem)? {
        [_, 3, 7, 7] => {}
        shape => {
            let reason = format!(
                "its stem {stem} has the shape {shape:?}; a ResNet of transformers has a 7x7 convolution \
                 of 3 channels"
            );
            return Err(reason.into());
        }
    }
    let stated = TransformersConfig::beside(tensors.file.path());
    if let Some(reason) = stated.as_ref().and_then(TransformersConfig::unsupported) {
        return Err(RecognizeError::Other(reason));
    }
    let head =
        matches!(tensors.shape("classifier.1.weight"), Some([_, _])).then_some("classifier.1");
    let mut recognized = classifier(tensors, Layout::Transformers, names, head)?;
    match stated {
        None => recognized.assumptions.push("activations: ReLU".into()),
        Some(stated) => {
            let classes = recognized.spec.num_classes();
            recognized.spec.categories = stated.categories(classes);
        }
    }
    Ok(recognized)
}

/// Describes a classifier on a residual network. Without a `head` it is a backbone, whose last layer is
/// missing.
fn classifier(
    tensors: Unwrapped,
    layout: Layout,
    mut names: ResidualNames,
    head: Option<&'static str>,
) -> Result<Recognized, RecognizeError> {
    let mut backbone = residual_config(tensors, &mut names)?;
    set_conventions(&mut backbone, layout, tensors.file.path());
    let num_classes = match head {
        Some(head) => tensors.sizes::<2>(&format!("{head}.weight"))?[0],
        // The layer that the training of a classifier replaces anyway.
        None => 1,
    };
    if layout != Layout::Transformers
        && let Some(reason) = timm_difference(tensors.file.path())
    {
        return Err(RecognizeError::Other(reason));
    }
    let (preprocess, mut assumptions) =
        input_of(&backbone, layout, num_classes, tensors.file.path())
            .map_err(RecognizeError::Preprocessing)?;
    assumptions.extend(assumed_of(&backbone));
    if head.is_none() {
        assumptions.push("a backbone without its last layer".into());
    }
    Ok(Recognized {
        layout,
        prefix: String::new(),
        spec: ModelSpec::new(
            NetworkConfig::Classification(ClassifierConfig::new(
                BackboneConfig::Resnet(backbone),
                num_classes,
            )),
            preprocess,
        ),
        names: Names::Classifier(ClassifierNames {
            backbone: names,
            head: head.unwrap_or("fc"),
        }),
        assumptions,
        other_networks: Vec::new(),
    })
}

/// Sets what the tensors of a layout do not show: how it subsamples, and where its SE units are.
fn set_conventions(backbone: &mut ResNetConfig, layout: Layout, path: &Path) {
    backbone.anti_alias = match layout {
        Layout::TimmAa => Some(AntiAlias::AveragePool),
        Layout::TimmBlur => Some(AntiAlias::BlurPool),
        _ => None,
    };
    let strides_in_1x1 = || {
        let stated = TransformersConfig::beside(path);
        stated.is_some_and(|stated| stated.downsample_in_bottleneck)
    };
    if layout == Layout::MmpretrainCaffe || layout == Layout::Transformers && strides_in_1x1() {
        backbone.stride_place = StridePlace::Conv1x1;
    }
    if layout == Layout::Cadene {
        backbone.stem_pooling = StemPooling::CeilMode;
        if backbone.block == BlockKind::Bottleneck && backbone.groups == 1 {
            backbone.stride_place = StridePlace::Conv1x1;
        }
        if backbone.block == BlockKind::Basic {
            backbone.se = backbone.se.map(|se| SeConfig {
                after_relu: true,
                ..se
            });
        }
    }
}

/// Returns the preprocessing that a file beside the weights states, or else that of the layout, and a line about
/// each part of it that no tensor shows.
///
/// # Errors
/// The file beside the weights states a preprocessing that sedet has not.
fn input_of(
    backbone: &ResNetConfig,
    layout: Layout,
    num_classes: usize,
    path: &Path,
) -> Result<(Preprocess, Vec<String>), String> {
    let may_be_timm = matches!(
        layout,
        Layout::Torchvision | Layout::Timm | Layout::TimmAa | Layout::TimmBlur | Layout::Cadene
    );
    let stated = match layout {
        Layout::Transformers => {
            preprocessor_input(path)?.map(|input| (input, "preprocessor_config.json"))
        }
        _ if may_be_timm => stated_input(path)?.map(|input| (input, "config.json")),
        _ => None,
    };
    let usual = || match (layout, backbone.stem) {
        (Layout::Chenyaofo, _) if num_classes == 100 => Preprocess {
            mean: [0.5070, 0.4865, 0.4409],
            std: [0.2673, 0.2564, 0.2761],
            ..Preprocess::torchvision().with_sizes(32, 32)
        },
        (Layout::Chenyaofo | Layout::Kuangliu, _) => Preprocess {
            mean: [0.4914, 0.4822, 0.4465],
            std: [0.2023, 0.1994, 0.2010],
            ..Preprocess::torchvision().with_sizes(32, 32)
        },
        (_, Stem::Cifar) => Preprocess::torchvision().with_sizes(32, 32),
        _ => imagenet_input(layout),
    };
    let preprocess = stated.map_or_else(usual, |(input, _)| input);
    let mut assumptions = vec![match (layout, stated) {
        (_, Some((_, from))) => format!(
            "input, from the {from} beside the file: RGB with mean {:?} and std {:?}",
            preprocess.mean, preprocess.std
        ),
        (Layout::Chenyaofo | Layout::Kuangliu, _) => {
            "input: RGB with the CIFAR mean and standard deviation".to_string()
        }
        (Layout::MmpretrainCaffe, _) => "input: BGR, 0 to 255, Caffe's mean subtracted".to_string(),
        _ => "input: RGB with the ImageNet mean and standard deviation".to_string(),
    }];
    assumptions.extend(resize_words(&preprocess));
    Ok((preprocess, assumptions))
}

/// Describes the strides and the pooling of a network, which no tensor shows.
fn assumed_of(backbone: &ResNetConfig) -> Vec<String> {
    let mut assumptions = Vec::new();
    if backbone.block == BlockKind::Bottleneck {
        let place = match backbone.stride_place {
            StridePlace::Conv1x1 => "in the first 1x1 convolution",
            StridePlace::Conv3x3 => "the 3x3",
        };
        assumptions.push(format!("stride of a bottleneck: {place}"));
    }
    if backbone.stem != Stem::Cifar {
        let pooling = match (backbone.anti_alias, backbone.stem_pooling) {
            (Some(AntiAlias::AveragePool), _) => "2x2 average",
            (Some(AntiAlias::BlurPool), _) => "3x3 maximum, then blur pooling",
            (None, StemPooling::Padded) => "padded by one pixel",
            (None, StemPooling::CeilMode) => "unpadded, size rounded up",
            (None, StemPooling::Conv3x3) => "a 3x3 convolution",
        };
        assumptions.push(format!("stem pooling: {pooling}"));
    }
    assumptions
}

/// Describes how timm's networks subsample, which their tensors do not show.
const fn subsampling_words(layout: Layout) -> &'static str {
    match layout {
        Layout::TimmAa => "average pooling (anti-aliased)",
        Layout::TimmBlur => "blur pooling (anti-aliased)",
        _ => "strides",
    }
}

/// Returns the evaluation preprocessing of the frameworks' ImageNet networks, which cannot be
/// derived from the tensors.
///
/// torchvision's first weights and Cadene's: short side 256, bilinear, center crop of 224
/// (torchvision's second weights require 232). The same is assumed for moskomule's weights, whose
/// scripts changed over time. timm's `seresnet` and `seresnext`: most of their `default_cfg` have
/// bicubic interpolation and the same `crop_pct` of 224/256 (those named `a1` and `a2` require
/// 0.95). mmpretrain: `ResizeEdge` of 256 with OpenCV, then `CenterCrop` of 224; it rounds the long
/// side down, sedet to nearest, which can shift the crop by half a pixel.
fn imagenet_input(layout: Layout) -> Preprocess {
    let pillow = Preprocess::imagenet_eval();
    match layout {
        Layout::Timm | Layout::TimmAa | Layout::TimmBlur | Layout::Transformers => Preprocess {
            resize_method: ResizeMethod::PillowBicubic,
            ..pillow
        },
        Layout::Mmpretrain => Preprocess {
            resize_method: ResizeMethod::Mmdetection,
            ..pillow
        },
        Layout::MmpretrainCaffe => {
            let Preprocess {
                channel_order,
                scale,
                mean,
                std,
                ..
            } = Preprocess::detectron2();
            Preprocess {
                channel_order,
                scale,
                mean,
                std,
                resize_method: ResizeMethod::Mmdetection,
                ..pillow
            }
        }
        _ => pillow,
    }
}

/// Returns a readable description of resizing and cropping; `None` for an input without a crop.
fn resize_words(preprocess: &Preprocess) -> Option<String> {
    let side = preprocess.center_crop?;
    let filter = match preprocess.resize_method {
        ResizeMethod::PillowBicubic => "Pillow's bicubic filter",
        ResizeMethod::Mmdetection => "OpenCV's bilinear interpolation",
        _ => "Pillow's bilinear filter",
    };
    Some(format!(
        "resizing: short side {} with {filter}, then center crop of {side}",
        preprocess.min_size
    ))
}

/// Returns the configuration of the network with these tensor names, with defaults for what cannot
/// be derived from shapes. Completes the names of the shortcut.
pub(super) fn residual_config(
    tensors: Unwrapped,
    names: &mut ResidualNames,
) -> Result<ResNetConfig, String> {
    let body = names.body;
    let has = |name: &str| tensors.has(&format!("{body}{name}"));
    let BlockShapes {
        layers,
        block,
        planes,
        groups,
        width_per_group,
    } = block_shapes(tensors, |stage, block, conv| {
        let native = format!("layer{}.{block}.convs.{}.weight", stage + 1, conv - 1);
        names.third_party(&native).name
    })?;
    let stem = match names.stem {
        StemNames::Plain => match tensors.sizes(&format!("{body}conv1.weight"))? {
            [_, _, 3, 3] => Stem::Cifar,
            [_, _, _, _] => Stem::Conv7x7,
        },
        StemNames::Embedder => Stem::Conv7x7,
        StemNames::Layer0 if !has("layer0.conv2.weight") => Stem::Conv7x7,
        _ => {
            let mut channels = [0; 3];
            for (index, channels) in channels.iter_mut().enumerate() {
                let third_party = names.stem(index, false, "weight");
                [*channels, ..] = tensors.sizes::<4>(&third_party.name)?;
            }
            Stem::Deep { channels }
        }
    };
    let in_first_norm = |tensor| tensors.has(&names.stem(0, true, tensor).name);
    if in_first_norm("weight") && !in_first_norm("running_mean") {
        return Err(
            "its norms have no running statistics (group or layer normalization), which sedet does not \
             support"
                .into(),
        );
    }
    if has("layer2.0.shortcut.0.weight") {
        names.shortcut = "shortcut";
    }
    // The second stage is the first in which the shape always changes.
    let in_shortcut = |n: usize| match names.blocks {
        BlockNames::Torchvision => {
            let name = format!("{body}layer2.0.{}.{n}.weight", names.shortcut);
            tensors.shape(&name)
        }
        // Its shortcuts are 1x1 convolutions.
        BlockNames::Transformers => {
            let name = names.third_party("layer2.0.downsample.conv.weight").name;
            tensors.shape(&name).filter(|_| n == 0)
        }
    };
    let shortcut = match (in_shortcut(0), in_shortcut(1)) {
        (Some([_, _, 3, 3]), _) => Shortcut::Conv3x3,
        (Some(_), _) => Shortcut::Conv1x1,
        (None, Some(_)) => Shortcut::AveragePool,
        (None, None) if layers[1] > 0 => Shortcut::ZeroPad,
        (None, None) => Shortcut::Conv1x1,
    };
    if shortcut == Shortcut::AveragePool {
        names.shortcut_conv = 1;
    }
    let stem_pooling = if has("maxpool.0.weight") {
        names.pooling_conv = Some(names.stem.convs());
        StemPooling::Conv3x3
    } else {
        StemPooling::default()
    };
    let mut config = ResNetConfig {
        base_channels: planes,
        stem,
        stem_pooling,
        shortcut,
        groups,
        width_per_group,
        norm: NormConfig {
            kind: NormKind::Batch,
            ..NormConfig::default()
        },
        ..ResNetConfig::new(block, layers)
    };
    config.se = se_config(tensors, names, &config)?;
    Ok(config)
}

/// The configuration derived from the shapes of the blocks' convolutions.
pub(super) struct BlockShapes {
    /// Number of blocks of each stage.
    pub(super) layers: [usize; 4],
    pub(super) block: BlockKind,
    /// Base width of the first stage.
    pub(super) planes: usize,
    pub(super) groups: usize,
    pub(super) width_per_group: usize,
}

/// Derives the configuration from the shapes. `weight` returns the name of a convolution's tensor
/// by stage, block and number.
pub(super) fn block_shapes(
    tensors: Unwrapped,
    weight: impl Fn(usize, usize, usize) -> String,
) -> Result<BlockShapes, String> {
    let layers: [usize; 4] = std::array::from_fn(|stage| {
        (0..)
            .take_while(|&block| tensors.has(&weight(stage, block, 1)))
            .count()
    });
    let first = |conv: usize| tensors.sizes::<4>(&weight(0, 0, conv));
    let [inner, ..] = first(1)?;
    let (block, planes, groups, width_per_group) = if tensors.has(&weight(0, 0, 3)) {
        let [out, ..] = first(3)?;
        let [middle, per_group, ..] = first(2)?;
        let planes = out / 4;
        let groups = inner / per_group.max(1);
        if groups == 0 || planes == 0 {
            return Err(format!(
                "its first block has {inner} inner and {out} outer channels"
            ));
        }
        if middle == inner {
            let width = inner * 64 / (planes * groups);
            (BlockKind::Bottleneck, planes, groups, width)
        } else {
            (BlockKind::WideBottleneck, planes, groups, 64)
        }
    } else {
        (BlockKind::Basic, inner, 1, 64)
    };
    Ok(BlockShapes {
        layers,
        block,
        planes,
        groups,
        width_per_group,
    })
}

/// Returns the reduction and rounding of the SE units, derived from their widths.
fn se_config(
    tensors: Unwrapped,
    names: &ResidualNames,
    config: &ResNetConfig,
) -> Result<Option<SeConfig>, String> {
    let channels = config.stage_channels();
    let mut widths = Vec::new();
    for (stage, channels) in channels.into_iter().enumerate() {
        let weight = names.third_party(&format!("layer{}.0.se.fc1.weight", stage + 1));
        if let Some([hidden, _, ..]) = tensors.shape(&weight.name) {
            widths.push((channels, *hidden));
        }
    }
    let Some(&(channels, hidden)) = widths.last() else {
        return Ok(None);
    };
    if hidden == 0 || hidden > channels {
        return Err(format!(
            "an SE unit on {channels} channels has {hidden} hidden units"
        ));
    }
    let reduction = channels / hidden;
    [1, 8]
        .map(|round_to| SeConfig {
            round_to,
            ..SeConfig::new(reduction)
        })
        .into_iter()
        .find(|se| widths.iter().all(|&(c, hidden)| se.hidden(c) == hidden))
        .map(Some)
        .ok_or_else(|| {
            format!("its SE units have (channels, hidden) {widths:?}: no common reduction")
        })
}
