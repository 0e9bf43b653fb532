//! Faster R-CNN with FPN: torchvision (names before and since 0.13), detectron2, mmdetection.

use super::residual::{block_shapes, residual_config};
use super::{
    ClassifierNames, ExternalTensor, Form, Layout, Library, Names, Recognized, ResidualNames,
    Unwrapped, is_caffe_style,
};
use crate::backbones::BackboneConfig;
use crate::backbones::resnet::{ResNetConfig, StridePlace};
use crate::detection::faster_rcnn::{FasterRcnnConfig, Preset};
use crate::spec::{ModelSpec, NetworkConfig};
use sedet_data::loading::transforms::Preprocess;
use sedet_data::loading::transforms::preprocess::ChannelOrder;
use sedet_nn::nn::norm::NormKind;

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

/// The external names of the tensors of a detector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetectorNames {
    /// The naming scheme.
    pub dialect: DetectorDialect,
    /// The names of the backbone's tensors; unused for detectron2.
    pub backbone: ResidualNames,
}

impl DetectorNames {
    /// Returns the external tensor for a native name.
    pub fn external(&self, native: &str) -> ExternalTensor {
        use DetectorDialect::{Detectron2, Mmdetection, OldTorchvision, Torchvision};
        let parts: Vec<&str> = native.split('.').collect();
        let as_is = |name: String| ExternalTensor::new(name, Form::AsIs);
        match parts.as_slice() {
            ["backbone", ..] => {
                let rest = parts[1..].join(".");
                match self.dialect {
                    Detectron2 => as_is(detectron2_backbone(&parts[1..])),
                    _ => self.backbone.external(&rest),
                }
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
            ["box_head", layer, tensor] => self.box_head(layer, tensor),
            _ => as_is(native.to_string()),
        }
    }

    fn box_head(&self, layer: &str, tensor: &str) -> ExternalTensor {
        use DetectorDialect::{Detectron2, Mmdetection, OldTorchvision, Torchvision};
        let name = match (self.dialect, layer) {
            (Torchvision | OldTorchvision, "fc6" | "fc7") => format!("roi_heads.box_head.{layer}"),
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
        let is_weight = tensor == "weight";
        let form = match (layer, is_weight) {
            ("cls_score", true) if !background_is_first => Form::BackgroundLast,
            ("cls_score", false) if !background_is_first => Form::BackgroundLastBias,
            ("bbox_pred", true) if !background_is_first => Form::NoBackground,
            ("bbox_pred", false) if !background_is_first => Form::NoBackgroundBias,
            (_, true) => Form::Matrix,
            (_, false) => Form::AsIs,
        };
        ExternalTensor::new(format!("{name}.{tensor}"), form)
    }

    /// Returns whether a tensor belongs to the backbone, FPN, RPN or box head. `name` is without the
    /// common prefix of all names.
    pub fn is_inside(&self, name: &str) -> bool {
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
    pub fn for_export(model: &FasterRcnnConfig) -> Result<Self, String> {
        let BackboneConfig::Resnet(backbone) = &model.backbone else {
            return Err(format!(
                "it has no detector on {}",
                model.backbone.family_title()
            ));
        };
        ClassifierNames::for_export(Library::Torchvision, backbone)?;
        if model.roi_heads.pooler.aligned || !model.anchors.rounded {
            return Err("it has no detector with detectron2's anchors and pooling".into());
        }
        Ok(Self {
            dialect: DetectorDialect::Torchvision,
            backbone: ResidualNames::torchvision("backbone.body."),
        })
    }
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
    if tensors.has("rpn.head.conv.1.0.weight") {
        return Err(
            "it is torchvision's fasterrcnn_resnet50_fpn_v2, whose head of four convolutions sedet \
             does not have"
                .into(),
        );
    }
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
    let epsilon = format!("epsilon of the frozen batch norms: {}", net.norm.epsilon);
    let source = Source {
        layout,
        names: DetectorNames { dialect, backbone },
        preset: Preset::Torchvision,
        assumptions: vec![epsilon],
    };
    detector(tensors, source, net, Preprocess::torchvision())
}

pub(super) fn detectron2(tensors: Unwrapped, asked: Option<Layout>) -> Result<Recognized, String> {
    let layout = asked.unwrap_or(Layout::Detectron2);
    let names = DetectorNames {
        dialect: DetectorDialect::Detectron2,
        backbone: ResidualNames::torchvision(""),
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
    let source = Source {
        layout,
        names,
        preset: Preset::Detectron2,
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
        },
        preset: Preset::Mmdetection,
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

/// The origin of a detector.
struct Source {
    layout: Layout,
    names: DetectorNames,
    preset: Preset,
    assumptions: Vec<String>,
}

fn detector(
    tensors: Unwrapped,
    source: Source,
    mut backbone: ResNetConfig,
    preprocess: Preprocess,
) -> Result<Recognized, String> {
    let Source {
        layout,
        names,
        preset,
        assumptions,
    } = source;
    backbone.norm.kind = NormKind::Frozen;
    let at = |native: &str| names.external(native).name;
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
    model.roi_heads.representation_size = hidden;
    let cells = pooled / fpn_channels.max(1);
    model.roi_heads.pooler.output_size = cells.isqrt();
    if cells.isqrt().pow(2) * fpn_channels != pooled {
        return Err(format!(
            "its box head has {pooled} inputs, which is not a square number of pixels with {fpn_channels} channels"
        ));
    }
    if anchors != model.anchors.per_location() {
        return Err(format!(
            "it has {anchors} anchors per location; sedet supports networks with {} anchors",
            model.anchors.per_location()
        ));
    }
    if deltas == 4 {
        return Err("its box head is class-agnostic, which sedet does not support".into());
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
