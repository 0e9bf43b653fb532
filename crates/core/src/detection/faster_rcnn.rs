//! Faster R-CNN: backbone, feature pyramid, RPN and RoI heads.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::anchors::AnchorConfig;
use super::fpn::{Fpn, FpnConfig};
use super::losses::BoxLoss;
use super::matcher::Matcher;
use super::roi_heads::{
    BoxHead, BoxHeadConfig, HeadInit, RoiHeadsConfig, detections, roi_losses,
    select_training_sample,
};
use super::roi_pooler::{LevelEpsilon, PooledLevels, RoiPooler};
use super::rpn::{
    ProposalLimits, ProposalRank, RpnConfig, RpnHead, RpnNormalizer, proposals, rpn_losses,
};
use super::sampler::{BalancedSampler, SampleOrder};
use super::{Detection, ImageBatch, Target};
use crate::backbones::summary::{TooSmall, Tracer};
use crate::backbones::validation::{BackboneConfigError, LARGEST_COUNT};
use crate::backbones::{AnyBackbone, BackboneConfig};
use sedet_data::boxes::{BoxXyxy, ImageSize};
use sedet_nn::kernels::bf16::ComputePrecision;
use sedet_nn::nn::norm::{NormConfig, NormKind};
use sedet_nn::nn::recording::on_thread_pool;

/// The implementations whose details a detector can follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// `torchvision.models.detection.fasterrcnn_resnet50_fpn`.
    Torchvision,
    /// `torchvision.models.detection.fasterrcnn_resnet50_fpn_v2`: norms in the pyramid, two convolutions in
    /// the RPN, and a box head of four convolutions with norms.
    TorchvisionV2,
    /// detectron2's `Base-RCNN-FPN`.
    Detectron2,
    /// mmdetection's `faster-rcnn_r50_fpn`: like detectron2, except for the order of proposals and the rounding
    /// of a box's level.
    Mmdetection,
}

/// The largest number of convolutions of RPN and box head. A header with a huge number must not exhaust
/// the memory.
const MOST_CONVOLUTIONS: usize = 64;

/// Levels of the feature pyramid, P2..P6.
const PYRAMID_LEVELS: usize = 5;

/// An invalid configuration of a detector.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DetectorConfigError {
    /// The backbone.
    #[error(transparent)]
    Backbone(#[from] BackboneConfigError),
    /// A field with an impossible value.
    #[error("{field} {problem}")]
    Field {
        /// Key of the configuration.
        field: &'static str,
        /// The problem of its value.
        problem: String,
    },
}

/// The complete configuration of a [`FasterRcnn`], which is stored in every checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FasterRcnnConfig {
    /// Number of classes without the background.
    pub num_classes: usize,
    /// The backbone.
    pub backbone: BackboneConfig,
    /// The feature pyramid.
    pub fpn: FpnConfig,
    /// The anchors, one size for each of P2..P6.
    pub anchors: AnchorConfig,
    /// First stage.
    pub rpn: RpnConfig,
    /// Second stage.
    pub roi_heads: RoiHeadsConfig,
}

/// The values in which the presets differ.
struct PresetValues {
    /// Norms after the convolutions of pyramid and box head.
    norm: Option<NormConfig>,
    rpn_convolutions: usize,
    box_head_convolutions: &'static [usize],
    hidden_layers: usize,
    box_loss: BoxLoss,
    /// Whether anchors are rounded to whole pixels.
    rounded_anchors: bool,
    /// Strides of P2..P6; if unset, they are derived from the sizes of input and feature map.
    anchor_strides: Option<[usize; 5]>,
    /// Proposals per image that the box head is trained on, before sampling.
    train_proposals: usize,
    rank: ProposalRank,
    /// Smallest side of a proposal, in pixels.
    proposal_min_side: f32,
    rpn_normalizer: RpnNormalizer,
    sampling_ratio: usize,
    aligned: bool,
    level_epsilon: LevelEpsilon,
    head_init: HeadInit,
    /// Smallest side of a detection, in pixels.
    detection_min_side: f32,
}

const TORCHVISION: PresetValues = PresetValues {
    norm: None,
    rpn_convolutions: 1,
    box_head_convolutions: &[],
    hidden_layers: 2,
    box_loss: BoxLoss::SmoothL1 { beta: 1.0 / 9.0 },
    rounded_anchors: true,
    anchor_strides: None,
    train_proposals: 2000,
    rank: ProposalRank::Probability,
    proposal_min_side: 1e-3,
    rpn_normalizer: RpnNormalizer::Sampled,
    sampling_ratio: 2,
    aligned: false,
    level_epsilon: LevelEpsilon::OnLevel(1e-6),
    head_init: HeadInit::Torchvision,
    detection_min_side: 1e-2,
};

const TORCHVISION_V2: PresetValues = PresetValues {
    norm: Some(NormConfig::new(NormKind::Batch)),
    rpn_convolutions: 2,
    box_head_convolutions: &[256; 4],
    hidden_layers: 1,
    ..TORCHVISION
};

const DETECTRON2: PresetValues = PresetValues {
    box_loss: BoxLoss::L1,
    rounded_anchors: false,
    anchor_strides: Some([4, 8, 16, 32, 64]),
    train_proposals: 1000,
    rank: ProposalRank::Logit,
    // It drops empty boxes only.
    proposal_min_side: f32::MIN_POSITIVE,
    rpn_normalizer: RpnNormalizer::BatchSize,
    sampling_ratio: 0,
    aligned: true,
    level_epsilon: LevelEpsilon::InLog(1e-8),
    head_init: HeadInit::Detectron2,
    detection_min_side: 0.0,
    ..TORCHVISION
};

const MMDETECTION: PresetValues = PresetValues {
    rank: ProposalRank::Probability,
    // mmdetection adds 1e-6 to the size divided by 56 pixels.
    level_epsilon: LevelEpsilon::InLog(1e-6 / 4.0),
    ..DETECTRON2
};

impl Preset {
    /// Returns the preset that a detector follows.
    pub fn of(detector: &FasterRcnnConfig) -> Self {
        if detector.fpn.norm.is_some() {
            Self::TorchvisionV2
        } else if detector.rpn.rank == ProposalRank::Logit {
            // Also without aligned pooling, as in Detectron.
            Self::Detectron2
        } else if detector.roi_heads.pooler.aligned {
            Self::Mmdetection
        } else {
            Self::Torchvision
        }
    }

    const fn values(self) -> PresetValues {
        match self {
            Self::Torchvision => TORCHVISION,
            Self::TorchvisionV2 => TORCHVISION_V2,
            Self::Detectron2 => DETECTRON2,
            Self::Mmdetection => MMDETECTION,
        }
    }
}

fn invalid(field: &'static str, problem: String) -> Result<(), DetectorConfigError> {
    Err(DetectorConfigError::Field { field, problem })
}

impl FasterRcnnConfig {
    /// Sets the mode of the norms of pyramid and box head, if there are any.
    pub(crate) fn set_head_norms(&mut self, kind: NormKind) {
        let norms = [&mut self.fpn.norm, &mut self.roi_heads.box_head.norm];
        for norm in norms.into_iter().flatten() {
            norm.kind = kind;
        }
    }

    /// Returns a detector with the published values of a preset and this backbone.
    pub fn new(preset: Preset, backbone: impl Into<BackboneConfig>, num_classes: usize) -> Self {
        let values = preset.values();
        Self {
            num_classes,
            backbone: backbone.into(),
            fpn: FpnConfig {
                norm: values.norm,
                ..FpnConfig::default()
            },
            anchors: AnchorConfig {
                rounded: values.rounded_anchors,
                strides: values.anchor_strides.map(Vec::from),
                ..AnchorConfig::default()
            },
            rpn: RpnConfig {
                convolutions: values.rpn_convolutions,
                matcher: Matcher::RPN,
                straddle_threshold: None,
                sampler: BalancedSampler {
                    batch_size_per_image: 256,
                    positive_fraction: 0.5,
                },
                train_limits: ProposalLimits {
                    pre_nms: 2000,
                    post_nms: values.train_proposals,
                },
                test_limits: ProposalLimits {
                    pre_nms: 1000,
                    post_nms: 1000,
                },
                rank: values.rank,
                nms_threshold: 0.7,
                min_side: values.proposal_min_side,
                box_loss: values.box_loss,
                box_loss_weight: 1.0,
                normalizer: values.rpn_normalizer,
            },
            roi_heads: RoiHeadsConfig {
                pooler: RoiPooler {
                    output_size: 7,
                    sampling_ratio: values.sampling_ratio,
                    aligned: values.aligned,
                    canonical_scale: 224.0,
                    canonical_level: 4,
                    level_epsilon: values.level_epsilon,
                },
                matcher: Matcher::ROI,
                sampler: BalancedSampler {
                    batch_size_per_image: 512,
                    positive_fraction: 0.25,
                },
                box_head: BoxHeadConfig {
                    convolutions: values.box_head_convolutions.to_vec(),
                    norm: values.norm,
                    hidden_layers: values.hidden_layers,
                    class_agnostic: false,
                },
                representation_size: 1024,
                init: values.head_init,
                box_loss: values.box_loss,
                box_loss_weight: 1.0,
                score_threshold: 0.05,
                nms_threshold: 0.5,
                max_detections: 100,
                min_side: values.detection_min_side,
            },
        }
    }

    /// Checks that the detector can be built and run. A checkpoint's header is user data, and so are
    /// the overrides of a recipe.
    ///
    /// # Errors
    /// The backbone is invalid or lacks a feature map of the pyramid, the anchors are not those of
    /// five levels, or a size, a share or a threshold is out of range.
    pub fn validate(&self) -> Result<(), DetectorConfigError> {
        self.backbone.validate()?;
        self.backbone.pyramid_parts()?;
        self.validate_anchors()?;
        self.validate_counts()?;
        self.validate_numbers()
    }

    fn validate_anchors(&self) -> Result<(), DetectorConfigError> {
        let AnchorConfig {
            sizes,
            aspect_ratios,
            strides,
            rounded,
            quantized,
            offset,
        } = &self.anchors;
        let levels =
            |count: usize| format!("has {count} values, one for each of P2..P6 is required");
        if sizes.len() != PYRAMID_LEVELS {
            return invalid("anchors.sizes", levels(sizes.len()));
        }
        let is_positive = |values: &[f32]| values.iter().all(|v| v.is_finite() && *v > 0.0);
        if !is_positive(sizes) {
            return invalid("anchors.sizes", "must be above 0".into());
        }
        if aspect_ratios.is_empty() || !is_positive(aspect_ratios) {
            let problem = "must be at least one number above 0".into();
            return invalid("anchors.aspect_ratios", problem);
        }
        if let Some(strides) = strides {
            if strides.len() != PYRAMID_LEVELS {
                return invalid("anchors.strides", levels(strides.len()));
            }
            if strides.contains(&0) {
                return invalid("anchors.strides", "must be at least 1".into());
            }
        }
        if !(0.0..1.0).contains(offset) {
            let problem = format!("is {offset}; it must be at least 0 and below 1");
            return invalid("anchors.offset", problem);
        }
        let requires = [
            ("anchors.quantized", *quantized),
            ("anchors.offset", *offset != 0.0),
        ];
        if let Some((field, _)) = requires
            .into_iter()
            .find(|(_, is_set)| *is_set && strides.is_none())
        {
            return invalid("anchors.strides", format!("must be set for {field}"));
        }
        if *quantized && *rounded {
            let problem = "and anchors.quantized are two ways of rounding; one can be true";
            return invalid("anchors.rounded", problem.into());
        }
        Ok(())
    }

    fn validate_counts(&self) -> Result<(), DetectorConfigError> {
        let (rpn, heads) = (&self.rpn, &self.roi_heads);
        let counts = [
            ("num_classes", self.num_classes),
            ("fpn.channels", self.fpn.channels),
            ("roi_heads.pooler.output_size", heads.pooler.output_size),
            ("roi_heads.representation_size", heads.representation_size),
            (
                "rpn.sampler.batch_size_per_image",
                rpn.sampler.batch_size_per_image,
            ),
            (
                "roi_heads.sampler.batch_size_per_image",
                heads.sampler.batch_size_per_image,
            ),
        ];
        if let Some((field, count)) = counts
            .into_iter()
            .find(|(_, count)| !(1..=LARGEST_COUNT).contains(count))
        {
            let problem = format!("is {count}; it must be between 1 and {LARGEST_COUNT}");
            return invalid(field, problem);
        }
        let convolutions = [
            ("rpn.convolutions", rpn.convolutions, 1),
            (
                "roi_heads.box_head.convolutions",
                heads.box_head.convolutions.len(),
                0,
            ),
        ];
        if let Some((field, count, least)) = convolutions
            .into_iter()
            .find(|(_, count, least)| !(*least..=MOST_CONVOLUTIONS).contains(count))
        {
            let problem = format!(
                "has {count} convolutions; it must have between {least} and {MOST_CONVOLUTIONS}"
            );
            return invalid(field, problem);
        }
        let channels = &heads.box_head.convolutions;
        if !channels.iter().all(|c| (1..=LARGEST_COUNT).contains(c)) {
            let problem = format!("must be channels between 1 and {LARGEST_COUNT}");
            return invalid("roi_heads.box_head.convolutions", problem);
        }
        if !(1..=2).contains(&heads.box_head.hidden_layers) {
            let problem = format!("is {}; it must be 1 or 2", heads.box_head.hidden_layers);
            return invalid("roi_heads.box_head.hidden_layers", problem);
        }
        Ok(())
    }

    fn validate_numbers(&self) -> Result<(), DetectorConfigError> {
        let (rpn, heads) = (&self.rpn, &self.roi_heads);
        if rpn
            .straddle_threshold
            .is_some_and(|t| t.is_nan() || t < 0.0)
        {
            return invalid("rpn.straddle_threshold", "must be at least 0".into());
        }
        let norms = [
            ("fpn.norm", self.fpn.norm),
            ("roi_heads.box_head.norm", heads.box_head.norm),
        ];
        for (field, norm) in norms {
            let Some(NormConfig {
                epsilon, momentum, ..
            }) = norm
            else {
                continue;
            };
            if !(epsilon.is_finite() && epsilon >= 0.0 && (0.0..=1.0).contains(&momentum)) {
                let problem = "has an epsilon below 0, or a momentum outside 0 to 1";
                return invalid(field, problem.into());
            }
        }
        for (field, loss) in [
            ("rpn.box_loss", rpn.box_loss),
            ("roi_heads.box_loss", heads.box_loss),
        ] {
            if let BoxLoss::SmoothL1 { beta } = loss
                && !(beta.is_finite() && beta > 0.0)
            {
                let problem = format!("has beta {beta}; it must be above 0 (`l1` has none)");
                return invalid(field, problem);
            }
        }
        for (field, weight) in [
            ("rpn.box_loss_weight", rpn.box_loss_weight),
            ("roi_heads.box_loss_weight", heads.box_loss_weight),
        ] {
            if !(weight.is_finite() && weight >= 0.0) {
                return invalid(field, format!("is {weight}; it must be at least 0"));
            }
        }
        let shares = [
            ("rpn.nms_threshold", rpn.nms_threshold),
            ("roi_heads.nms_threshold", heads.nms_threshold),
            ("roi_heads.score_threshold", heads.score_threshold),
            (
                "rpn.sampler.positive_fraction",
                rpn.sampler.positive_fraction,
            ),
            (
                "roi_heads.sampler.positive_fraction",
                heads.sampler.positive_fraction,
            ),
        ];
        if let Some((field, share)) = shares
            .into_iter()
            .find(|(_, share)| !(0.0..=1.0).contains(share))
        {
            return invalid(field, format!("is {share}; it must be between 0 and 1"));
        }
        Ok(())
    }

    /// Builds the detector with newly initialized parameters.
    pub fn init(&self, device: &Device) -> FasterRcnn {
        let parts = self.backbone.parts();
        // A backbone without them is rejected by `validate`; here the last feature map is used
        // instead.
        let last = parts.len().saturating_sub(1);
        let pyramid_parts = self.backbone.pyramid_parts().unwrap_or([last; 4]);
        let channels = pyramid_parts.map(|part| parts[part].channels);
        FasterRcnn {
            backbone: self.backbone.init(device),
            fpn: self.fpn.init(&channels, device),
            rpn: self
                .rpn
                .init(self.fpn.channels, self.anchors.per_location(), device),
            box_head: self
                .roi_heads
                .init(self.fpn.channels, self.num_classes, device),
            config: self.clone(),
            pyramid_parts,
        }
    }
}

/// The four losses of a training step, each a scalar.
#[derive(Debug, Clone)]
pub struct FasterRcnnLosses {
    /// RPN: objectness.
    pub objectness: Tensor<1>,
    /// RPN: anchor deltas.
    pub rpn_box: Tensor<1>,
    /// Box head: class.
    pub classifier: Tensor<1>,
    /// Box head: proposal deltas.
    pub box_reg: Tensor<1>,
}

impl FasterRcnnLosses {
    /// Returns their sum, which torchvision minimizes.
    pub fn total(&self) -> Tensor<1> {
        self.objectness.clone()
            + self.rpn_box.clone()
            + self.classifier.clone()
            + self.box_reg.clone()
    }

    /// Returns the name and tensor of each loss.
    pub fn parts(&self) -> [(&'static str, &Tensor<1>); 4] {
        [
            ("objectness", &self.objectness),
            ("rpn_box", &self.rpn_box),
            ("classifier", &self.classifier),
            ("box_reg", &self.box_reg),
        ]
    }
}

/// A Faster R-CNN with a feature pyramid.
#[derive(Module, Debug)]
pub struct FasterRcnn {
    /// Pixels to C2..C5.
    pub backbone: AnyBackbone,
    /// C2..C5 to P2..P6.
    pub fpn: Fpn,
    /// First stage.
    pub rpn: RpnHead,
    /// Second stage.
    pub box_head: BoxHead,
    #[module(skip)]
    config: FasterRcnnConfig,
    /// The parts of the backbone whose outputs are C2..C5.
    #[module(skip)]
    pyramid_parts: [usize; 4],
}

impl FasterRcnn {
    /// Returns the configuration that the detector was built from.
    pub fn config(&self) -> &FasterRcnnConfig {
        &self.config
    }

    /// Returns the detector for inference, with the norms folded into the convolutions. Its detections
    /// differ by rounding.
    #[must_use]
    pub fn folded(self, precision: ComputePrecision) -> Self {
        Self {
            backbone: self.backbone.folded(precision),
            fpn: self.fpn.folded(precision),
            box_head: self.box_head.folded(precision),
            ..self
        }
    }

    /// Returns the number of leading parts of the backbone that are not trained.
    pub(super) fn frozen_parts(&self) -> usize {
        let frozen = self.config.backbone.frozen_stages();
        frozen.min(self.backbone.parts())
    }

    /// Returns the parts of the backbone whose outputs are C2..C5.
    pub(crate) fn pyramid_parts(&self) -> &[usize] {
        &self.pyramid_parts
    }

    /// Computes C2..C5 of a batch.
    ///
    /// # Shapes
    /// From `[batch, 3, height, width]` to `[batch, channels, height / s, width / s]` for s = 4, 8,
    /// 16, 32; how sizes are rounded depends on the backbone.
    pub fn feature_maps(&self, pixels: Tensor<4>) -> Vec<Tensor<4>> {
        let outputs = self.backbone.part_outputs(pixels, self.frozen_parts());
        let map = |&part: &usize| outputs[part].clone();
        self.pyramid_parts.iter().map(map).collect()
    }

    /// Computes P2..P6 of a batch.
    pub fn features(&self, pixels: Tensor<4>) -> Vec<Tensor<4>> {
        self.fpn.forward(self.feature_maps(pixels))
    }

    /// Computes the losses of one batch, with one target per image. Boxes that are not finite or have
    /// no area are skipped: they cannot be encoded (torchvision refuses them with an error).
    pub fn losses(
        &self,
        batch: ImageBatch,
        targets: &[Target],
        order: &mut SampleOrder,
    ) -> FasterRcnnLosses {
        let maps = self.feature_maps(batch.pixels.clone());
        self.losses_of_maps(maps, batch, targets, order)
    }

    /// Computes the losses from C2..C5.
    pub(super) fn losses_of_maps(
        &self,
        maps: Vec<Tensor<4>>,
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
        let sizes = &batch.input_sizes;
        let rpn = rpn_losses(
            &self.config.rpn,
            &output,
            &flat_anchors,
            sizes,
            &boxes,
            order,
        );
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

    /// Detects objects. Returns the detections of every image in input pixels, by decreasing score.
    pub fn detect(&self, batch: ImageBatch) -> Vec<Vec<Detection>> {
        let device = batch.pixels.device();
        on_thread_pool(&device, || self.detect_here(batch))
    }

    fn detect_here(&self, batch: ImageBatch) -> Vec<Vec<Detection>> {
        let maps = self.feature_maps(batch.pixels.clone());
        let images = self.detections_of_maps(maps, &batch).into_iter();
        images
            .map(|found| found.into_iter().map(|(found, _)| found).collect())
            .collect()
    }

    /// Returns the detections of [`detect`](Self::detect), each with the proposal that it refines, from C2..C5 of the
    /// batch.
    pub(crate) fn detections_of_maps(
        &self,
        maps: Vec<Tensor<4>>,
        batch: &ImageBatch,
    ) -> Vec<Vec<(Detection, BoxXyxy)>> {
        let (features, proposals) = self.first_stage(self.fpn.forward(maps), batch);
        if proposals.iter().all(Vec::is_empty) {
            return vec![Vec::new(); proposals.len()];
        }
        detections(
            &self.config.roi_heads,
            self.box_head
                .forward_levels(self.pool(&features, &proposals)),
            &proposals,
            &batch.input_sizes,
        )
    }

    /// Computes the class logits of a proposal of a single image, background first, from P2..P5. The proposal is a
    /// constant, as in training.
    ///
    /// # Shapes
    /// The result is `[1, num_classes + 1]`.
    pub(crate) fn class_logits(&self, levels: &[Tensor<4>], proposal: BoxXyxy) -> Tensor<2> {
        let pooled = self.pool(levels, &[vec![proposal]]);
        self.box_head.forward_levels(pooled).class_logits
    }

    /// Returns the index of the level, 0 for P2, that a proposal is pooled from.
    pub(crate) fn level_of(&self, proposal: BoxXyxy) -> usize {
        let pooler = &self.config.roi_heads.pooler;
        pooler.level_of(proposal, self.pyramid_parts.len())
    }

    /// Returns the proposals of every image in input pixels, by decreasing score.
    pub fn proposals(&self, batch: ImageBatch) -> Vec<Vec<BoxXyxy>> {
        let features = self.features(batch.pixels.clone());
        self.first_stage(features, &batch).1
    }

    /// Returns P2..P6 and the proposals of inference.
    fn first_stage(
        &self,
        features: Vec<Tensor<4>>,
        batch: &ImageBatch,
    ) -> (Vec<Tensor<4>>, Vec<Vec<BoxXyxy>>) {
        let [_, _, height, width] = batch.pixels.dims();
        let levels = self.with_anchors(features, ImageSize::new(height, width));
        let proposals = proposals(
            &self.config.rpn,
            self.config.rpn.test_limits,
            &self.rpn.forward(&levels.features),
            &levels.anchors,
            &batch.input_sizes,
        );
        (levels.features, proposals)
    }

    /// Returns the multiply-adds of inference for an image of this height and width that has this number
    /// of proposals. RoIAlign and the arithmetic of boxes are not counted.
    ///
    /// # Errors
    /// The image is too small for the network.
    pub fn macs(&self, size: [usize; 2], proposals: usize) -> Result<u64, TooSmall> {
        let parts = self.backbone.layers_of_parts(size)?;
        let backbone = parts.iter().flatten().map(|layer| layer.macs).sum::<u64>();
        let mut tracer = Tracer::new(size);
        let mut levels = Vec::new();
        let maps = self.pyramid_parts.iter();
        let maps = maps.filter_map(|&part| parts[part].last().map(|layer| layer.output));
        for (level, map) in maps.enumerate() {
            tracer.enter(map);
            tracer.conv("inner", &self.fpn.inner_blocks[level]);
            tracer.conv("layer", &self.fpn.layer_blocks[level]);
            levels.push(tracer.current().shape);
        }
        // P6 has every second row and column of P5.
        levels.extend(
            levels.last().map(|&[channels, height, width]| {
                [channels, height.div_ceil(2), width.div_ceil(2)]
            }),
        );
        for level in levels {
            tracer.enter(level);
            for conv in std::iter::once(&self.rpn.conv).chain(&self.rpn.further_convs) {
                tracer.conv("rpn", conv);
            }
            let hidden = tracer.current();
            for conv in [&self.rpn.cls_logits, &self.rpn.bbox_pred] {
                tracer.resume(hidden);
                tracer.conv("rpn", conv);
            }
        }
        let side = self.config.roi_heads.pooler.output_size;
        let mut head = Tracer::new([side, side]);
        head.enter([self.config.fpn.channels, side, side]);
        for conv in &self.box_head.convs {
            head.conv("conv", conv);
        }
        let head_layers = std::iter::once(&self.box_head.fc6)
            .chain(&self.box_head.fc7)
            .chain([&self.box_head.cls_score, &self.box_head.bbox_pred]);
        for layer in head_layers {
            head.linear("linear", layer);
        }
        Ok(backbone + tracer.finish()?.macs() + proposals as u64 * head.finish()?.macs())
    }

    /// Pools RoIs from P2..P5; P6 is for proposals only.
    fn pool(&self, features: &[Tensor<4>], boxes: &[Vec<BoxXyxy>]) -> PooledLevels {
        self.config
            .roi_heads
            .pooler
            .by_level(&features[..self.pyramid_parts.len()], boxes)
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::backbones::zoo::backbone;

    #[test]
    fn keys_of_later_versions_are_not_written_at_their_defaults() {
        let config = FasterRcnnConfig::new(Preset::Detectron2, backbone("resnet18").unwrap(), 3);
        let written = serde_json::to_value(&config).unwrap();
        for (table, key) in [
            ("/fpn", "norm"),
            ("/anchors", "quantized"),
            ("/anchors", "offset"),
            ("/rpn", "convolutions"),
            ("/rpn", "box_loss_weight"),
            ("/rpn", "straddle_threshold"),
            ("/roi_heads", "box_head"),
            ("/roi_heads", "box_loss_weight"),
        ] {
            assert_eq!(written.pointer(table).unwrap().get(key), None, "{key}");
        }
        let read: FasterRcnnConfig = serde_json::from_value(written).unwrap();
        assert_eq!(read, config);
    }

    #[test]
    fn impossible_values_are_refused_by_their_key() {
        let mut valid =
            FasterRcnnConfig::new(Preset::TorchvisionV2, backbone("resnet18").unwrap(), 3);
        // Not written at their defaults.
        valid.rpn.box_loss_weight = 2.0;
        valid.rpn.straddle_threshold = Some(0.0);
        valid.anchors.strides = Some(vec![4, 8, 16, 32, 64]);
        valid.anchors.offset = 0.5;
        valid.anchors.rounded = false;
        valid.anchors.quantized = true;
        assert_eq!(valid.validate(), Ok(()));
        let written = serde_json::to_value(&valid).unwrap();
        for (key, value) in [
            ("num_classes", json!(0)),
            ("fpn.channels", json!(0)),
            ("anchors.sizes", json!([32.0])),
            ("anchors.sizes", json!([32.0, 64.0, 128.0, 256.0, 0.0])),
            ("anchors.aspect_ratios", json!([])),
            ("anchors.strides", json!([4, 8, 16, 32])),
            ("anchors.strides", json!([4, 8, 16, 32, 0])),
            ("anchors.strides", Value::Null),
            ("anchors.offset", json!(1.0)),
            ("anchors.rounded", json!(true)),
            ("rpn.nms_threshold", json!(1.5)),
            ("rpn.sampler.batch_size_per_image", json!(0)),
            ("roi_heads.sampler.positive_fraction", json!(-0.5)),
            ("roi_heads.pooler.output_size", json!(0)),
            ("roi_heads.representation_size", json!(u64::MAX)),
            ("roi_heads.score_threshold", json!(2.0)),
            ("rpn.convolutions", json!(0)),
            ("rpn.convolutions", json!(u64::MAX)),
            ("rpn.box_loss_weight", json!(-1.0)),
            ("rpn.straddle_threshold", json!(-0.5)),
            ("roi_heads.box_loss", json!({"smooth_l1": {"beta": 0.0}})),
            ("roi_heads.box_head.convolutions", json!([256, 0])),
            ("roi_heads.box_head.convolutions", json!(vec![8; 65])),
            ("roi_heads.box_head.hidden_layers", json!(3)),
            ("fpn.norm.epsilon", json!(-1e-5)),
            ("roi_heads.box_head.norm.momentum", json!(1.5)),
        ] {
            let mut crafted: Value = written.clone();
            let pointer = format!("/{}", key.replace('.', "/"));
            *crafted.pointer_mut(&pointer).unwrap() = value;
            let config: FasterRcnnConfig = serde_json::from_value(crafted).unwrap();
            let message = config.validate().unwrap_err().to_string();
            let parent = key.trim_end_matches(".epsilon");
            let parent = parent.trim_end_matches(".momentum");
            assert!(message.starts_with(parent), "{key}: {message}");
        }
    }
}
