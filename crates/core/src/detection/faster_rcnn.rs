//! The whole detector: backbone, pyramid, RPN, RoI head.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::anchors::AnchorConfig;
use super::fpn::{Fpn, FpnConfig};
use super::losses::BoxLoss;
use super::matcher::Matcher;
use super::roi_heads::{
    BoxHead, HeadInit, RoiHeadsConfig, detections, roi_losses, select_training_sample,
};
use super::roi_pooler::{LevelEpsilon, PooledLevels, RoiPooler};
use super::rpn::{
    ProposalLimits, ProposalRank, RpnConfig, RpnHead, RpnNormalizer, proposals, rpn_losses,
};
use super::sampler::{BalancedSampler, SampleOrder};
use super::{Detection, ImageBatch, Target};
use crate::backbones::resnet::{ResNet, ResNetConfig};
use sedet_data::boxes::{BoxXyxy, ImageSize};

/// The sources whose details a detector can follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// `torchvision.models.detection.fasterrcnn_resnet50_fpn`.
    Torchvision,
    /// detectron2's `Base-RCNN-FPN`.
    Detectron2,
    /// mmdetection's `faster-rcnn_r50_fpn`: detectron2's, but for the proposals' order and the
    /// rounding of a box's level.
    Mmdetection,
}

/// Everything that defines the detector's computation; stored in every checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FasterRcnnConfig {
    /// Classes without background.
    pub num_classes: usize,
    /// The backbone.
    pub backbone: ResNetConfig,
    /// The pyramid.
    pub fpn: FpnConfig,
    /// The anchors, one size for each of P2..P6.
    pub anchors: AnchorConfig,
    /// First stage.
    pub rpn: RpnConfig,
    /// Second stage.
    pub roi_heads: RoiHeadsConfig,
}

impl FasterRcnnConfig {
    /// A detector with the published numbers of a preset around this backbone.
    pub fn new(preset: Preset, backbone: ResNetConfig, num_classes: usize) -> Self {
        let torchvision = preset == Preset::Torchvision;
        let box_loss = if torchvision {
            BoxLoss::SmoothL1 { beta: 1.0 / 9.0 }
        } else {
            BoxLoss::L1
        };
        Self {
            num_classes,
            backbone,
            fpn: FpnConfig::default(),
            anchors: AnchorConfig {
                rounded: torchvision,
                strides: (!torchvision).then(|| vec![4, 8, 16, 32, 64]),
                ..AnchorConfig::default()
            },
            rpn: RpnConfig {
                matcher: Matcher::RPN,
                sampler: BalancedSampler {
                    batch_size_per_image: 256,
                    positive_fraction: 0.5,
                },
                train_limits: ProposalLimits {
                    pre_nms: 2000,
                    post_nms: if torchvision { 2000 } else { 1000 },
                },
                test_limits: ProposalLimits {
                    pre_nms: 1000,
                    post_nms: 1000,
                },
                rank: match preset {
                    Preset::Detectron2 => ProposalRank::Logit,
                    Preset::Torchvision | Preset::Mmdetection => ProposalRank::Probability,
                },
                nms_threshold: 0.7,
                // detectron2 only drops empty boxes.
                min_side: if torchvision { 1e-3 } else { f32::MIN_POSITIVE },
                box_loss,
                normalizer: if torchvision {
                    RpnNormalizer::Sampled
                } else {
                    RpnNormalizer::BatchSize
                },
            },
            roi_heads: RoiHeadsConfig {
                pooler: RoiPooler {
                    output_size: 7,
                    sampling_ratio: if torchvision { 2 } else { 0 },
                    aligned: !torchvision,
                    canonical_scale: 224.0,
                    canonical_level: 4,
                    level_epsilon: match preset {
                        Preset::Torchvision => LevelEpsilon::OnLevel(1e-6),
                        Preset::Detectron2 => LevelEpsilon::InLog(1e-8),
                        // There it is 1e-6 on the scale of 56 pixels.
                        Preset::Mmdetection => LevelEpsilon::InLog(1e-6 / 4.0),
                    },
                },
                matcher: Matcher::ROI,
                sampler: BalancedSampler {
                    batch_size_per_image: 512,
                    positive_fraction: 0.25,
                },
                representation_size: 1024,
                init: if torchvision {
                    HeadInit::Torchvision
                } else {
                    HeadInit::Detectron2
                },
                box_loss,
                score_threshold: 0.05,
                nms_threshold: 0.5,
                max_detections: 100,
                min_side: if torchvision { 1e-2 } else { 0.0 },
            },
        }
    }

    /// The detector with fresh weights.
    pub fn init(&self, device: &Device) -> FasterRcnn {
        FasterRcnn {
            backbone: self.backbone.init(device),
            fpn: self.fpn.init(self.backbone.stage_channels(), device),
            rpn: self
                .rpn
                .init(self.fpn.channels, self.anchors.per_location(), device),
            box_head: self
                .roi_heads
                .init(self.fpn.channels, self.num_classes, device),
            config: self.clone(),
        }
    }
}

/// The four losses of a training step, each a scalar.
#[derive(Debug, Clone)]
pub struct FasterRcnnLosses {
    /// RPN: object or not.
    pub objectness: Tensor<1>,
    /// RPN: anchor deltas.
    pub rpn_box: Tensor<1>,
    /// Head: class.
    pub classifier: Tensor<1>,
    /// Head: proposal deltas.
    pub box_reg: Tensor<1>,
}

impl FasterRcnnLosses {
    /// Their plain sum, as torchvision trains.
    pub fn total(&self) -> Tensor<1> {
        self.objectness.clone()
            + self.rpn_box.clone()
            + self.classifier.clone()
            + self.box_reg.clone()
    }

    /// Name and tensor of each.
    pub fn parts(&self) -> [(&'static str, &Tensor<1>); 4] {
        [
            ("objectness", &self.objectness),
            ("rpn_box", &self.rpn_box),
            ("classifier", &self.classifier),
            ("box_reg", &self.box_reg),
        ]
    }
}

/// Faster R-CNN with a feature pyramid.
#[derive(Module, Debug)]
pub struct FasterRcnn {
    /// Pixels to C2..C5.
    pub backbone: ResNet,
    /// C2..C5 to P2..P6.
    pub fpn: Fpn,
    /// First stage.
    pub rpn: RpnHead,
    /// Second stage.
    pub box_head: BoxHead,
    #[module(skip)]
    config: FasterRcnnConfig,
}

impl FasterRcnn {
    /// What the detector was built from.
    pub fn config(&self) -> &FasterRcnnConfig {
        &self.config
    }

    /// The detector for inference: every norm of the backbone is inside the convolution before it.
    /// Its detections differ by rounding.
    pub fn folded(self) -> Self {
        Self {
            backbone: self.backbone.folded(),
            ..self
        }
    }

    /// P2..P6 of a batch.
    pub fn features(&self, pixels: Tensor<4>) -> Vec<Tensor<4>> {
        self.fpn.forward(self.backbone.forward(pixels))
    }

    /// The losses of one batch; one target an image. Boxes that are not finite or have no area
    /// are left out: they can't be encoded (torchvision refuses them with an error).
    pub fn losses(
        &self,
        batch: ImageBatch,
        targets: &[Target],
        order: &mut SampleOrder,
    ) -> FasterRcnnLosses {
        let maps = self.backbone.forward(batch.pixels.clone());
        self.losses_of_maps(maps, batch, targets, order)
    }

    /// The same where C2..C5 are there already.
    pub(super) fn losses_of_maps(
        &self,
        maps: [Tensor<4>; 4],
        batch: ImageBatch,
        targets: &[Target],
        order: &mut SampleOrder,
    ) -> FasterRcnnLosses {
        let targets: Vec<Target> = targets.iter().map(without_degenerate).collect();
        let [_, _, height, width] = batch.pixels.dims();
        let levels = self.with_anchors(self.fpn.forward(maps), ImageSize::new(height, width));
        let output = self.rpn.forward(&levels.features);
        let flat_anchors = levels.anchors.concat();
        let boxes: Vec<Vec<BoxXyxy>> = targets.iter().map(|t| t.boxes_in_input.clone()).collect();
        let proposals = proposals(
            &self.config.rpn,
            self.config.rpn.train_limits,
            &output,
            &levels.anchors,
            &batch.input_sizes,
        );
        let rpn = rpn_losses(&self.config.rpn, &output, &flat_anchors, &boxes, order);
        let samples: Vec<_> = proposals
            .into_iter()
            .zip(&targets)
            .map(|(proposals, target)| {
                select_training_sample(&self.config.roi_heads, proposals, target, order)
            })
            .collect();
        let sampled: Vec<Vec<BoxXyxy>> = samples.iter().map(|s| s.proposals.clone()).collect();
        let roi = if sampled.iter().all(Vec::is_empty) {
            let device = levels.features[0].device();
            let zero = Tensor::zeros([1], &device);
            (zero.clone(), zero)
        } else {
            let pooled = self.pool(&levels.features, &sampled);
            let losses = roi_losses(
                &self.config.roi_heads,
                self.box_head.forward_levels(pooled),
                &samples,
            );
            (losses.classifier, losses.box_deltas)
        };
        FasterRcnnLosses {
            objectness: rpn.objectness,
            rpn_box: rpn.box_deltas,
            classifier: roi.0,
            box_reg: roi.1,
        }
    }

    /// The detections of every image, best first, in input pixels.
    pub fn detect(&self, batch: ImageBatch) -> Vec<Vec<Detection>> {
        let [_, _, height, width] = batch.pixels.dims();
        let features = self.features(batch.pixels);
        let levels = self.with_anchors(features, ImageSize::new(height, width));
        let output = self.rpn.forward(&levels.features);
        let proposals = proposals(
            &self.config.rpn,
            self.config.rpn.test_limits,
            &output,
            &levels.anchors,
            &batch.input_sizes,
        );
        if proposals.iter().all(Vec::is_empty) {
            return vec![Vec::new(); proposals.len()];
        }
        let pooled = self.pool(&levels.features, &proposals);
        detections(
            &self.config.roi_heads,
            self.box_head.forward_levels(pooled),
            &proposals,
            &batch.input_sizes,
        )
    }

    /// RoIs come from P2..P5 only.
    fn pool(&self, features: &[Tensor<4>], boxes: &[Vec<BoxXyxy>]) -> PooledLevels {
        self.config.roi_heads.pooler.by_level(&features[..4], boxes)
    }

    fn with_anchors(&self, features: Vec<Tensor<4>>, padded: ImageSize) -> Levels {
        let grids: Vec<ImageSize> = features
            .iter()
            .map(|level| {
                let [_, _, height, width] = level.dims();
                ImageSize::new(height, width)
            })
            .collect();
        Levels {
            anchors: self.config.anchors.grid(padded, &grids),
            features,
        }
    }
}

struct Levels {
    features: Vec<Tensor<4>>,
    anchors: Vec<Vec<BoxXyxy>>,
}

fn without_degenerate(target: &Target) -> Target {
    let usable = |b: &BoxXyxy| b.is_finite() && b.width() > 0.0 && b.height() > 0.0;
    let (boxes_in_input, labels) = target
        .boxes_in_input
        .iter()
        .zip(&target.labels)
        .filter(|(b, _)| usable(b))
        .map(|(b, l)| (*b, *l))
        .unzip();
    Target {
        boxes_in_input,
        labels,
    }
}
