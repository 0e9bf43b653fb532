//! Faster R-CNN with FPN: torchvision (names before and since 0.13), detectron2, mmdetection.

use super::residual::{block_shapes, residual_config};
use super::{
    ClassifierNames, Form, Layout, Library, Names, Recognized, ResidualNames, ThirdPartyTensor,
    Unwrapped, is_caffe_style,
};
use crate::backbones::BackboneConfig;
use crate::backbones::resnet::{ResNetConfig, StridePlace};
use crate::detection::anchors::AnchorConfig;
use crate::detection::faster_rcnn::{FasterRcnnConfig, Preset};
use crate::detection::roi_heads::BoxHeadConfig;
use crate::spec::{ModelSpec, NetworkConfig};
use sedet_data::loading::transforms::Preprocess;
use sedet_data::loading::transforms::preprocess::ChannelOrder;
use sedet_nn::nn::norm::{NormConfig, NormKind};

/// The naming scheme of a detector's tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DetectorDialect {
    /// torchvision since 0.13: every convolution of FPN and RPN is inside a block.
    Torchvision,
    /// torchvision before 0.13: the convolutions are not inside blocks.
    OldTorchvision,
    /// detectron2.
    Detectron2,
    /// OpenMMLab's mmdetection.
    Mmdetection,
}

/// The properties that decide the names of a box head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeadShape {
    /// Whether torchvision's head is a `FastRCNNConvFCHead`, whose layers are numbered, with this number of
    /// convolutions.
    pub numbered_convs: Option<usize>,
    /// Whether all classes share their box deltas.
    pub class_agnostic: bool,
}

/// The third-party names of the tensors of a detector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetectorNames {
    /// The naming scheme.
    pub dialect: DetectorDialect,
    /// The names of the backbone's tensors; unused for detectron2.
    pub backbone: ResidualNames,
    /// The box head.
    pub head: HeadShape,
}

impl DetectorNames {
    /// Returns the third-party tensor for a native name.
    pub fn third_party(&self, native: &str) -> ThirdPartyTensor {
        use DetectorDialect::{Detectron2, Mmdetection, OldTorchvision, Torchvision};
        let parts: Vec<&str> = native.split('.').collect();
        let as_is = |name: String| ThirdPartyTensor::new(name, Form::AsIs);
        match parts.as_slice() {
            ["backbone", ..] => {
                let rest = parts[1..].join(".");
                match self.dialect {
                    Detectron2 => as_is(detectron2_backbone(&parts[1..])),
                    _ => self.backbone.third_party(&rest),
                }
            }
            // Only in torchvision's v2: other frameworks' detectors with norms there are refused.
            ["fpn", norms @ ("inner_norms" | "layer_norms"), n, tensor] => {
                let blocks = norms.replace("norms", "blocks");
                as_is(format!("backbone.fpn.{blocks}.{n}.1.{tensor}"))
            }
            ["fpn", blocks, n, tensor] => {
                let is_inner = *blocks == "inner_blocks";
                as_is(match self.dialect {
                    Torchvision => format!("backbone.fpn.{blocks}.{n}.0.{tensor}"),
                    OldTorchvision => format!("backbone.fpn.{blocks}.{n}.{tensor}"),
                    Detectron2 => {
                        let kind = if is_inner { "lateral" } else { "output" };
                        // Numbered by pyramid level: C2 is 2.
                        let level = n.parse::<usize>().unwrap_or(0) + 2;
                        format!("backbone.fpn_{kind}{level}.{tensor}")
                    }
                    Mmdetection => {
                        let kind = if is_inner { "lateral" } else { "fpn" };
                        format!("neck.{kind}_convs.{n}.conv.{tensor}")
                    }
                })
            }
            ["rpn", "further_convs", n, tensor] => {
                let n = n.parse::<usize>().unwrap_or(0) + 1;
                as_is(format!("rpn.head.conv.{n}.0.{tensor}"))
            }
            ["rpn", part, tensor] => {
                let part = match (self.dialect, *part) {
                    (Torchvision, "conv") => "rpn.head.conv.0.0",
                    (OldTorchvision, "conv") => "rpn.head.conv",
                    (Torchvision | OldTorchvision, "cls_logits") => "rpn.head.cls_logits",
                    (Torchvision | OldTorchvision, _) => "rpn.head.bbox_pred",
                    (Detectron2, "conv") => "proposal_generator.rpn_head.conv",
                    (Detectron2, "cls_logits") => "proposal_generator.rpn_head.objectness_logits",
                    (Detectron2, _) => "proposal_generator.rpn_head.anchor_deltas",
                    (Mmdetection, "conv") => "rpn_head.rpn_conv",
                    (Mmdetection, "cls_logits") => "rpn_head.rpn_cls",
                    (Mmdetection, _) => "rpn_head.rpn_reg",
                };
                as_is(format!("{part}.{tensor}"))
            }
            ["box_head", layer @ ("convs" | "norms"), n, tensor] => {
                let part = usize::from(*layer == "norms");
                as_is(format!("roi_heads.box_head.{n}.{part}.{tensor}"))
            }
            ["box_head", layer, tensor] => self.box_head(layer, tensor),
            _ => as_is(native.to_string()),
        }
    }

    fn box_head(&self, layer: &str, tensor: &str) -> ThirdPartyTensor {
        use DetectorDialect::{Detectron2, Mmdetection, OldTorchvision, Torchvision};
        let name = match (self.dialect, layer) {
            (Torchvision | OldTorchvision, "fc6" | "fc7") => match self.head.numbered_convs {
                Some(convs) => {
                    let n = numbered_linear(convs, layer == "fc7");
                    format!("roi_heads.box_head.{n}")
                }
                None => format!("roi_heads.box_head.{layer}"),
            },
            (Torchvision | OldTorchvision | Detectron2, "cls_score" | "bbox_pred") => {
                format!("roi_heads.box_predictor.{layer}")
            }
            (Detectron2, "fc6") => "roi_heads.box_head.fc1".into(),
            (Detectron2, _) => "roi_heads.box_head.fc2".into(),
            (Mmdetection, "fc6") => "roi_head.bbox_head.shared_fcs.0".into(),
            (Mmdetection, "fc7") => "roi_head.bbox_head.shared_fcs.1".into(),
            (Mmdetection, "cls_score") => "roi_head.bbox_head.fc_cls".into(),
            (Mmdetection, _) => "roi_head.bbox_head.fc_reg".into(),
            (_, other) => other.to_string(),
        };
        let background_is_first = matches!(self.dialect, Torchvision | OldTorchvision);
        let has_no_background = !background_is_first && !self.head.class_agnostic;
        let is_weight = tensor == "weight";
        let form = match (layer, is_weight) {
            ("cls_score", true) if !background_is_first => Form::BackgroundLast,
            ("cls_score", false) if !background_is_first => Form::BackgroundLastBias,
            ("bbox_pred", true) if has_no_background => Form::NoBackground,
            ("bbox_pred", false) if has_no_background => Form::NoBackgroundBias,
            (_, true) => Form::Matrix,
            (_, false) => Form::AsIs,
        };
        ThirdPartyTensor::new(format!("{name}.{tensor}"), form)
    }

    /// Returns whether a tensor belongs to the backbone, FPN, RPN or box head. `name` is without the
    /// common prefix of all names.
    pub(crate) fn is_inside(&self, name: &str) -> bool {
        use DetectorDialect::{Detectron2, Mmdetection, OldTorchvision, Torchvision};
        let modules: &[&str] = match self.dialect {
            Torchvision | OldTorchvision => &[
                "backbone.fpn.",
                "rpn.head.",
                "roi_heads.box_head.",
                "roi_heads.box_predictor.",
            ],
            Detectron2 => &[
                "backbone.",
                "proposal_generator.rpn_head.",
                "roi_heads.box_head.",
                "roi_heads.box_predictor.",
            ],
            Mmdetection => &["neck.", "rpn_head.", "roi_head.bbox_head."],
        };
        let is_in_body = self.dialect != Detectron2 && self.backbone.is_inside(name);
        is_in_body || modules.iter().any(|module| name.starts_with(module))
    }
}

impl DetectorNames {
    /// Returns torchvision's names for export.
    ///
    /// # Errors
    /// The reason why torchvision has no equivalent detector.
    pub(crate) fn for_export(model: &FasterRcnnConfig) -> Result<Self, String> {
        let BackboneConfig::Resnet(backbone) = &model.backbone else {
            return Err(format!(
                "it has no detector on {}",
                model.backbone.family_title()
            ));
        };
        ClassifierNames::for_export(Library::Torchvision, backbone)?;
        let anchors = &model.anchors;
        if model.roi_heads.pooler.aligned || !anchors.rounded || anchors.strides.is_some() {
            return Err("it has no detector with detectron2's anchors and pooling".into());
        }
        let head = &model.roi_heads.box_head;
        if head.class_agnostic {
            return Err("it has no class-agnostic detector".into());
        }
        // `TwoMLPHead` has names for its two layers.
        let is_two_layers = head.convolutions.is_empty() && head.hidden_layers == 2;
        Ok(Self {
            dialect: DetectorDialect::Torchvision,
            backbone: ResidualNames::torchvision("backbone.body."),
            head: HeadShape {
                numbered_convs: (!is_two_layers).then_some(head.convolutions.len()),
                class_agnostic: false,
            },
        })
    }
}

/// Returns torchvision's anchor generator for the anchors of a detector, as Python.
pub fn torchvision_anchor_generator(anchors: &AnchorConfig) -> String {
    // A tuple of one element ends with a comma.
    let sizes = anchors.sizes.iter().map(|size| format!("({size:?},)"));
    let ratios = anchors.aspect_ratios.iter();
    let ratios = ratios.map(|ratio| format!("{ratio:?},"));
    format!(
        "AnchorGenerator(sizes=({},), aspect_ratios=(({}),) * {})",
        sizes.collect::<Vec<_>>().join(", "),
        ratios.collect::<Vec<_>>().join(" "),
        anchors.sizes.len()
    )
}

/// Returns the number of a linear layer in torchvision's `FastRCNNConvFCHead`: after the convolutions comes
/// a layer that flattens, and after the first linear layer its ReLU.
fn numbered_linear(convs: usize, is_second: bool) -> usize {
    convs + if is_second { 3 } else { 1 }
}

/// Returns detectron2's name of a backbone tensor: stages are numbered from `res2`, and a norm is
/// inside its convolution.
fn detectron2_backbone(native: &[&str]) -> String {
    let stage = |layer: &str| {
        let n: usize = layer.trim_start_matches("layer").parse().unwrap_or(0);
        format!("backbone.bottom_up.res{}", n + 1)
    };
    match native {
        ["conv1", tensor] => format!("backbone.bottom_up.stem.conv1.{tensor}"),
        ["bn1", tensor] => format!("backbone.bottom_up.stem.conv1.norm.{tensor}"),
        [layer, block, "convs", n, tensor] => {
            let n = n.parse::<usize>().unwrap_or(0) + 1;
            format!("{}.{block}.conv{n}.{tensor}", stage(layer))
        }
        [layer, block, "norms", n, tensor] => {
            let n = n.parse::<usize>().unwrap_or(0) + 1;
            format!("{}.{block}.conv{n}.norm.{tensor}", stage(layer))
        }
        [layer, block, "downsample", "conv", tensor] => {
            format!("{}.{block}.shortcut.{tensor}", stage(layer))
        }
        [layer, block, "downsample", _, tensor] => {
            format!("{}.{block}.shortcut.norm.{tensor}", stage(layer))
        }
        other => other.join("."),
    }
}

pub(super) fn torchvision(tensors: Unwrapped, asked: Option<Layout>) -> Result<Recognized, String> {
    // Names without the inner block are those of torchvision's published weights.
    let (dialect, layout) = if tensors.has("rpn.head.conv.weight") {
        (
            DetectorDialect::OldTorchvision,
            Layout::TorchvisionDetectorV1,
        )
    } else {
        (DetectorDialect::Torchvision, Layout::TorchvisionDetector)
    };
    let layout = asked.unwrap_or(layout);
    let mut backbone = ResidualNames::torchvision("backbone.body.");
    let mut net = residual_config(tensors, &mut backbone)?;
    if layout == Layout::TorchvisionDetectorV1 {
        net.norm.epsilon = 0.0;
    }
    // The frozen norms of v1 have no counter.
    let is_live = tensors.has("backbone.body.bn1.num_batches_tracked");
    let kind = if is_live {
        NormKind::Batch
    } else {
        NormKind::Frozen
    };
    net.norm.kind = kind;
    let epsilon = format!("epsilon of the batch norms: {}", net.norm.epsilon);
    let layers = torchvision_layers(tensors)?;
    let preset = match layers.norm_of_pyramid {
        Some(_) => Preset::TorchvisionV2,
        None => Preset::Torchvision,
    };
    let source = Source {
        layout,
        names: DetectorNames {
            dialect,
            backbone,
            head: layers.head,
        },
        preset,
        layers,
        assumptions: vec![epsilon],
    };
    detector(tensors, source, net, Preprocess::torchvision())
}

/// Reads the layers of torchvision's FPN, RPN and box head from their names and shapes.
fn torchvision_layers(tensors: Unwrapped) -> Result<HeadLayers, String> {
    let norm = |name: &str| -> Result<Option<NormConfig>, String> {
        if !tensors.has(&format!("{name}.weight")) {
            return Ok(None);
        }
        if !tensors.has(&format!("{name}.running_mean")) {
            return Err(format!(
                "{name} is not a batch norm: it has no running_mean"
            ));
        }
        let is_live = tensors.has(&format!("{name}.num_batches_tracked"));
        Ok(Some(NormConfig::new(if is_live {
            NormKind::Batch
        } else {
            NormKind::Frozen
        })))
    };
    let count =
        |name: &dyn Fn(usize) -> String| (0..).take_while(|n| tensors.has(&name(*n))).count();
    let rpn = count(&|n| format!("rpn.head.conv.{n}.0.weight"));
    let mut layers = HeadLayers {
        norm_of_pyramid: norm("backbone.fpn.inner_blocks.0.1")?,
        rpn_convolutions: rpn.max(1),
        ..HeadLayers::default()
    };
    if tensors.has("roi_heads.box_head.fc6.weight") {
        return Ok(layers);
    }
    let convs = count(&|n| format!("roi_heads.box_head.{n}.0.weight"));
    let linear = |is_second: bool| {
        let n = numbered_linear(convs, is_second);
        tensors.has(&format!("roi_heads.box_head.{n}.weight"))
    };
    if !linear(false) {
        return Err(
            "its box head is neither torchvision's TwoMLPHead nor its FastRCNNConvFCHead".into(),
        );
    }
    layers.head.numbered_convs = Some(convs);
    let head = &mut layers.box_head;
    head.hidden_layers = if linear(true) { 2 } else { 1 };
    head.norm = norm("roi_heads.box_head.0.1")?;
    for n in 0..convs {
        let [channels, ..] = tensors.sizes::<4>(&format!("roi_heads.box_head.{n}.0.weight"))?;
        head.convolutions.push(channels);
    }
    Ok(layers)
}

pub(super) fn detectron2(tensors: Unwrapped, asked: Option<Layout>) -> Result<Recognized, String> {
    let layout = asked.unwrap_or(Layout::Detectron2);
    let names = DetectorNames {
        dialect: DetectorDialect::Detectron2,
        backbone: ResidualNames::torchvision(""),
        head: HeadShape::default(),
    };
    let shapes = block_shapes(tensors, |stage, block, conv| {
        let stage = stage + 2;
        format!("backbone.bottom_up.res{stage}.{block}.conv{conv}.weight")
    })?;
    let mut net = ResNetConfig {
        base_channels: shapes.planes,
        groups: shapes.groups,
        width_per_group: shapes.width_per_group,
        ..ResNetConfig::new(shapes.block, shapes.layers)
    };
    let is_grouped = net.groups > 1;
    let mut preprocess = Preprocess::detectron2();
    // Its ResNets come from Caffe, its ResNeXts from Torch.
    if layout == Layout::Detectron2Torch {
        let Preprocess {
            channel_order,
            mean,
            std,
            ..
        } = Preprocess::mmdetection();
        preprocess = Preprocess {
            channel_order,
            mean,
            std,
            ..preprocess
        };
    } else if is_grouped {
        preprocess.std = [57.375, 57.120, 58.395];
    } else {
        net.stride_place = StridePlace::Conv1x1;
    }
    // The input convention follows from the pixel mean in the file: the mean of red is the largest.
    if let Some(mean) = tensors.triple("pixel_mean") {
        preprocess.mean = mean;
        if mean[0] > mean[2] {
            preprocess.channel_order = ChannelOrder::Rgb;
        }
    }
    if let Some(std) = tensors.triple("pixel_std") {
        preprocess.std = std;
    }
    net.norm.kind = NormKind::Frozen;
    let source = Source {
        layout,
        names,
        preset: Preset::Detectron2,
        layers: HeadLayers::default(),
        assumptions: vec![stride_words(&net), input_words(&preprocess)],
    };
    detector(tensors, source, net, preprocess)
}

pub(super) fn mmdetection(tensors: Unwrapped, asked: Option<Layout>) -> Result<Recognized, String> {
    if !tensors.has("roi_head.bbox_head.fc_cls.weight") {
        return Err(
            "it is an mmdetection network, but not a Faster R-CNN (no roi_head.bbox_head)".into(),
        );
    }
    let layout = asked.unwrap_or(if is_caffe_style(tensors.file) {
        Layout::MmdetectionCaffe
    } else {
        Layout::Mmdetection
    });
    let mut backbone = ResidualNames::torchvision("backbone.");
    let mut net = residual_config(tensors, &mut backbone)?;
    net.norm.kind = NormKind::Frozen;
    let mut preprocess = Preprocess::mmdetection();
    if layout == Layout::MmdetectionCaffe {
        net.stride_place = StridePlace::Conv1x1;
        preprocess = Preprocess {
            resize_method: preprocess.resize_method,
            ..Preprocess::detectron2()
        };
    }
    let source = Source {
        layout,
        names: DetectorNames {
            dialect: DetectorDialect::Mmdetection,
            backbone,
            head: HeadShape::default(),
        },
        preset: Preset::Mmdetection,
        layers: HeadLayers::default(),
        assumptions: vec![stride_words(&net), input_words(&preprocess)],
    };
    detector(tensors, source, net, preprocess)
}

fn stride_words(net: &ResNetConfig) -> String {
    let place = match net.stride_place {
        StridePlace::Conv3x3 => "the 3x3",
        StridePlace::Conv1x1 => "in the first 1x1 convolution",
    };
    format!("stride of a bottleneck: {place}")
}

fn input_words(preprocess: &Preprocess) -> String {
    let order = match preprocess.channel_order {
        ChannelOrder::Rgb => "RGB",
        ChannelOrder::Bgr => "BGR",
    };
    format!(
        "input: {order}, 0 to 255, mean {:?}, std {:?}",
        preprocess.mean, preprocess.std
    )
}

/// The layers of a detector after its backbone; the default is those of all but torchvision's v2.
struct HeadLayers {
    norm_of_pyramid: Option<NormConfig>,
    rpn_convolutions: usize,
    box_head: BoxHeadConfig,
    head: HeadShape,
}

impl Default for HeadLayers {
    fn default() -> Self {
        Self {
            norm_of_pyramid: None,
            rpn_convolutions: 1,
            box_head: BoxHeadConfig::default(),
            head: HeadShape::default(),
        }
    }
}

/// The origin of a detector.
struct Source {
    layout: Layout,
    names: DetectorNames,
    preset: Preset,
    layers: HeadLayers,
    assumptions: Vec<String>,
}

fn detector(
    tensors: Unwrapped,
    source: Source,
    backbone: ResNetConfig,
    preprocess: Preprocess,
) -> Result<Recognized, String> {
    let Source {
        layout,
        mut names,
        preset,
        layers,
        mut assumptions,
    } = source;
    let at = |native: &str| names.third_party(native).name;
    let [rows, hidden] = tensors.sizes(&at("box_head.cls_score.weight"))?;
    let [_, pooled] = tensors.sizes(&at("box_head.fc6.weight"))?;
    let [fpn_channels, ..] = tensors.sizes::<4>(&at("fpn.inner_blocks.0.weight"))?;
    let [anchors, ..] = tensors.sizes::<4>(&at("rpn.cls_logits.weight"))?;
    let [deltas, _] = tensors.sizes(&at("box_head.bbox_pred.weight"))?;
    let num_classes = rows
        .checked_sub(1)
        .filter(|n| *n > 0)
        .ok_or("its classifier has no class except the background")?;
    let mut model = FasterRcnnConfig::new(preset, backbone, num_classes);
    model.fpn.channels = fpn_channels;
    model.fpn.norm = layers.norm_of_pyramid;
    model.rpn.convolutions = layers.rpn_convolutions;
    model.roi_heads.box_head = layers.box_head;
    model.roi_heads.representation_size = hidden;
    let channels = model.roi_heads.box_head.convolutions.last();
    let channels = *channels.unwrap_or(&fpn_channels);
    let cells = pooled / channels.max(1);
    model.roi_heads.pooler.output_size = cells.isqrt();
    if cells.isqrt().pow(2) * channels != pooled {
        return Err(format!(
            "its box head has {pooled} inputs, which is not a square number of pixels with {channels} channels"
        ));
    }
    if anchors != model.anchors.per_location() {
        return Err(format!(
            "it has {anchors} anchors per location, whose sizes and ratios are not in such a file; only {} anchors are \
             known, those that its library trains with ({})",
            model.anchors.per_location(),
            model.anchors
        ));
    }
    assumptions.push(format!("anchors: {}", model.anchors));
    // With a single class and no background, four deltas are those of the class.
    if deltas == 4 {
        if matches!(preset, Preset::Torchvision | Preset::TorchvisionV2) {
            return Err(
                "its box head is class-agnostic, which torchvision's detectors are not".into(),
            );
        }
        let class_agnostic = num_classes > 1;
        names.head.class_agnostic = class_agnostic;
        model.roi_heads.box_head.class_agnostic = class_agnostic;
    }
    Ok(Recognized {
        layout,
        prefix: String::new(),
        spec: ModelSpec::new(NetworkConfig::Detection(model), preprocess),
        names: Names::Detector(names),
        assumptions,
        other_networks: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_are_said_in_words_and_in_python() {
        let anchors = AnchorConfig {
            sizes: vec![16.0, 90.5],
            aspect_ratios: vec![1.0],
            ..AnchorConfig::default()
        };
        assert_eq!(anchors.to_string(), "sizes 16, 90.5 and ratios 1");
        assert_eq!(
            torchvision_anchor_generator(&anchors),
            "AnchorGenerator(sizes=((16.0,), (90.5,),), aspect_ratios=((1.0,),) * 2)"
        );
        // As in torchvision's `_default_anchorgen`.
        assert_eq!(
            torchvision_anchor_generator(&AnchorConfig::default()),
            "AnchorGenerator(sizes=((32.0,), (64.0,), (128.0,), (256.0,), (512.0,),), \
             aspect_ratios=((0.5, 1.0, 2.0,),) * 5)"
        );
    }
}
