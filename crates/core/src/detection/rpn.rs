//! The region proposal network (Ren et al. 2015): objectness and box regression of anchors.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::box_coder::BoxCoder;
use super::losses::{BoxLoss, BoxPairs, binary_cross_entropy_sum};
use super::matcher::{Match, Matcher};
use super::nms::{nms, top_k};
use super::offsets;
use super::sampler::{BalancedSampler, SampleOrder};
use crate::read_back::{host, host_rows};
use sedet_data::boxes::{BoxXyxy, ImageSize};
use sedet_nn::kernels::bf16::{ComputePrecision, autocast};
use sedet_nn::nn::conv::{Conv2d, Conv2dConfig};
use sedet_nn::nn::init::WeightInit;

/// Divisor of the RPN's losses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RpnNormalizer {
    /// Number of sampled anchors; torchvision.
    Sampled,
    /// Sample size times number of images, even if fewer were sampled; detectron2.
    BatchSize,
}

/// The score that proposals are ranked by. The order is the same except for probabilities so close to 1
/// that they are equal in `f32`: such ties are in the order of the levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProposalRank {
    /// torchvision, mmdetection.
    #[default]
    Probability,
    /// detectron2.
    Logit,
}

/// Numbers of proposals kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProposalLimits {
    /// Anchors per level before non-maximum suppression.
    pub pre_nms: usize,
    /// Proposals per image after non-maximum suppression, over all levels.
    pub post_nms: usize,
}

/// Configuration of the RPN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RpnConfig {
    /// Number of 3x3 convolutions of the head, each with ReLU: 1, or 2 in torchvision's
    /// `fasterrcnn_resnet50_fpn_v2`.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[schemars(!skip_serializing_if)]
    pub convolutions: usize,
    /// Assignment of ground-truth boxes to anchors.
    pub matcher: Matcher,
    /// Pixels by which an anchor may exceed its image in training; others are ignored. Without it, all
    /// anchors are used. 0 in Detectron (`RPN_STRADDLE_THRESH`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub straddle_threshold: Option<f32>,
    /// Sampling of the anchors that the loss is computed on.
    pub sampler: BalancedSampler,
    /// Limits in training.
    pub train_limits: ProposalLimits,
    /// Limits in inference.
    pub test_limits: ProposalLimits,
    /// The score that proposals of all levels are ranked by.
    #[serde(default)]
    pub rank: ProposalRank,
    /// IoU threshold of non-maximum suppression within a level.
    pub nms_threshold: f32,
    /// Proposals with a smaller side are dropped, in input pixels.
    pub min_side: f32,
    /// Loss of box regression.
    pub box_loss: BoxLoss,
    /// Factor of the box loss; detectron2's `BBOX_REG_LOSS_WEIGHT`.
    #[serde(default = "unweighted", skip_serializing_if = "is_unweighted")]
    #[schemars(!skip_serializing_if)]
    pub box_loss_weight: f64,
    /// Divisor of both losses.
    pub normalizer: RpnNormalizer,
}

fn one() -> usize {
    1
}

fn is_one(count: &usize) -> bool {
    *count == 1
}

/// Returns the default factor of a loss.
pub(super) fn unweighted() -> f64 {
    1.0
}

/// Returns whether a loss has its default factor.
pub(super) fn is_unweighted(weight: &f64) -> bool {
    *weight == 1.0
}

impl RpnConfig {
    /// Assigns the ground-truth boxes of an image of this size to anchors.
    fn match_anchors(
        &self,
        ground_truth: &[BoxXyxy],
        anchors: &[BoxXyxy],
        size: ImageSize,
    ) -> Vec<Match> {
        let Some(threshold) = self.straddle_threshold else {
            return self.matcher.match_boxes(ground_truth, anchors);
        };
        let (width, height) = (size.width as f32, size.height as f32);
        let is_inside = |b: &BoxXyxy| {
            b.x1 >= -threshold
                && b.y1 >= -threshold
                && b.x2 <= width + threshold
                && b.y2 <= height + threshold
        };
        let (places, inside): (Vec<usize>, Vec<BoxXyxy>) = anchors
            .iter()
            .enumerate()
            .filter(|(_, anchor)| is_inside(anchor))
            .map(|(place, anchor)| (place, *anchor))
            .unzip();
        // The best anchor of a ground-truth box is one of those inside.
        let mut matches = vec![Match::Ignored; anchors.len()];
        let found = self.matcher.match_boxes(ground_truth, &inside);
        for (place, found) in places.into_iter().zip(found) {
            matches[place] = found;
        }
        matches
    }

    /// Builds the head for pyramid levels with `channels`.
    pub fn init(&self, channels: usize, anchors_per_location: usize, device: &Device) -> RpnHead {
        let conv = |channels_out: usize, kernel: usize| {
            Conv2dConfig::new(channels, channels_out, kernel)
                .with_bias(WeightInit::Normal(0.01))
                .init(device)
        };
        RpnHead {
            conv: conv(channels, 3),
            further_convs: (1..self.convolutions).map(|_| conv(channels, 3)).collect(),
            cls_logits: conv(anchors_per_location, 1),
            bbox_pred: conv(anchors_per_location * 4, 1),
        }
    }
}

/// The head of the RPN, shared by all levels.
#[derive(Module, Debug)]
pub struct RpnHead {
    /// 3x3 with ReLU.
    pub conv: Conv2d,
    /// The 3x3 convolutions after the first one, each with ReLU.
    pub further_convs: Vec<Conv2d>,
    /// 1x1, one logit per anchor.
    pub cls_logits: Conv2d,
    /// 1x1, four deltas per anchor.
    pub bbox_pred: Conv2d,
}

/// Outputs of the head for every anchor of every image, with the levels concatenated.
#[derive(Debug, Clone)]
pub struct RpnOutput {
    /// `[batch, anchors]` logits.
    pub objectness: Tensor<2>,
    /// `[batch, anchors, 4]`.
    pub box_deltas: Tensor<3>,
    /// Anchors of each level; their sum is `anchors`.
    pub anchors_of_level: Vec<usize>,
}

impl RpnHead {
    /// Computes logits and deltas of pyramid levels `[batch, channels, height, width]` in the order of
    /// [`AnchorConfig::grid`](super::anchors::AnchorConfig::grid). The last layers compute in 32-bit floats.
    pub fn forward(&self, levels: &[Tensor<4>]) -> RpnOutput {
        let mut objectness = Vec::with_capacity(levels.len());
        let mut box_deltas = Vec::with_capacity(levels.len());
        let mut anchors_of_level = Vec::with_capacity(levels.len());
        for level in levels {
            let mut hidden = self.conv.forward_relu(level.clone());
            for conv in &self.further_convs {
                hidden = conv.forward_relu(hidden);
            }
            let (logits, deltas) = autocast(ComputePrecision::F32, || {
                (
                    self.cls_logits.forward(hidden.clone()),
                    self.bbox_pred.forward(hidden),
                )
            });
            let [batch, anchors, height, width] = logits.dims();
            let count = anchors * height * width;
            objectness.push(logits.permute([0, 2, 3, 1]).reshape([batch, count]));
            box_deltas.push(
                deltas
                    .reshape([batch, anchors, 4, height * width])
                    .permute([0, 3, 1, 2])
                    .reshape([batch, count, 4]),
            );
            anchors_of_level.push(count);
        }
        RpnOutput {
            objectness: Tensor::cat(objectness, 1),
            box_deltas: Tensor::cat(box_deltas, 1),
            anchors_of_level,
        }
    }
}

/// An anchor whose logit is among the best of its level.
struct BestAnchor {
    level: usize,
    /// Its place in the level.
    at: usize,
    /// Its place among the anchors of all images.
    row: usize,
}

/// Returns the proposals of every image by decreasing score; torchvision's `filter_proposals`.
///
/// Takes the best logits of each level, decodes, clips to the image, drops small boxes, applies
/// non-maximum suppression within the level, then takes the best of all levels.
pub fn proposals(
    config: &RpnConfig,
    limits: ProposalLimits,
    output: &RpnOutput,
    anchors: &[Vec<BoxXyxy>],
    input_sizes: &[ImageSize],
) -> Vec<Vec<BoxXyxy>> {
    let anchors_per_image: usize = output.anchors_of_level.iter().sum();
    let objectness = host(output.objectness.clone().detach());
    let best: Vec<Vec<BestAnchor>> = (0..input_sizes.len())
        .into_par_iter()
        .map(|image| {
            let mut start = image * anchors_per_image;
            let mut best = Vec::new();
            for (level, anchors) in anchors.iter().enumerate() {
                let logits = &objectness[start..start + anchors.len()];
                let places = top_k(logits, limits.pre_nms).into_iter();
                best.extend(places.map(|at| BestAnchor {
                    level,
                    at,
                    row: start + at,
                }));
                start += anchors.len();
            }
            best
        })
        .collect();
    // In a usual image one anchor of thirty is among the best: only their deltas are read.
    let rows: Vec<usize> = best.iter().flatten().map(|anchor| anchor.row).collect();
    let [batch, count, _] = output.box_deltas.dims();
    let deltas = output.box_deltas.clone().detach();
    let deltas = host_rows(deltas.reshape([batch * count, 4]), &rows);
    let firsts = offsets(best.iter().map(Vec::len));
    input_sizes
        .par_iter()
        .enumerate()
        .map(|(image, size)| {
            let (mut boxes, mut scores, mut levels) = (Vec::new(), Vec::new(), Vec::new());
            let of_image = deltas[firsts[image] * 4..].chunks_exact(4);
            for (best, d) in best[image].iter().zip(of_image) {
                let d = [d[0], d[1], d[2], d[3]];
                let anchor = anchors[best.level][best.at];
                let proposal = BoxCoder::RPN.decode(anchor, d).clip(*size);
                // Also drops NaN, so that a diverging network fails the check of the loss.
                if proposal.has_sides_of(config.min_side) {
                    let logit = objectness[best.row];
                    boxes.push(proposal);
                    scores.push(match config.rank {
                        ProposalRank::Probability => 1.0 / (1.0 + (-logit).exp()),
                        ProposalRank::Logit => logit,
                    });
                    levels.push(best.level);
                }
            }
            let mut kept = nms(&boxes, &scores, &levels, config.nms_threshold);
            kept.truncate(limits.post_nms);
            kept.into_iter().map(|i| boxes[i]).collect()
        })
        .collect()
}

/// The two losses of the RPN, each a scalar.
#[derive(Debug, Clone)]
pub struct RpnLosses {
    /// Binary cross-entropy of the sampled anchors.
    pub objectness: Tensor<1>,
    /// Box loss of the sampled positive anchors.
    pub box_deltas: Tensor<1>,
}

/// Matches and samples anchors and computes the losses; torchvision's `assign_targets_to_anchors` and
/// `compute_loss`. `anchors` has all levels concatenated. There is one size and one list of ground-truth
/// boxes per image; if the list is empty, all anchors are background.
pub fn rpn_losses(
    config: &RpnConfig,
    output: &RpnOutput,
    anchors: &[BoxXyxy],
    input_sizes: &[ImageSize],
    ground_truth: &[Vec<BoxXyxy>],
    order: &mut SampleOrder,
) -> RpnLosses {
    let device = output.objectness.device();
    let matches: Vec<Vec<Match>> = ground_truth
        .par_iter()
        .zip(input_sizes)
        .map(|(boxes, size)| config.match_anchors(boxes, anchors, *size))
        .collect();
    let (mut sampled, mut labels) = (Vec::new(), Vec::new());
    let mut positives = Vec::new();
    let (mut references, mut targets) = (Vec::new(), Vec::new());
    for (image, matches) in matches.iter().enumerate() {
        let sample = config.sampler.sample_matches(matches, order);
        let offset = image * anchors.len();
        for &i in &sample.positive {
            if let Match::GroundTruth(g) = matches[i] {
                sampled.push((offset + i) as i64);
                labels.push(1.0f32);
                positives.push((offset + i) as i64);
                references.push(anchors[i]);
                targets.push(ground_truth[image][g]);
            }
        }
        for &i in &sample.negative {
            sampled.push((offset + i) as i64);
            labels.push(0.0);
        }
    }
    let divisor = match config.normalizer {
        RpnNormalizer::Sampled => sampled.len().max(1),
        RpnNormalizer::BatchSize => config.sampler.batch_size_per_image * ground_truth.len(),
    } as f64;
    let plain = device.clone().inner();
    let indices = |values: Vec<i64>| {
        let count = values.len();
        Tensor::<1, Int>::from_data(TensorData::new(values, [count]), &plain)
    };
    let floats = |values: Vec<f32>| {
        let count = values.len();
        Tensor::<1>::from_data(TensorData::new(values, [count]), &plain)
    };
    let [batch, count] = output.objectness.dims();
    let objectness = if sampled.is_empty() {
        Tensor::zeros([1], &device)
    } else {
        let logits = output
            .objectness
            .clone()
            .reshape([batch * count])
            .select(0, indices(sampled));
        binary_cross_entropy_sum(logits, floats(labels)) / divisor
    };
    let box_deltas = if positives.is_empty() {
        Tensor::zeros([1], &device)
    } else {
        let predicted = output
            .box_deltas
            .clone()
            .reshape([batch * count, 4])
            .select(0, indices(positives));
        let pairs = BoxPairs {
            coder: BoxCoder::RPN,
            references: &references,
            ground_truth: &targets,
        };
        config.box_loss.sum(predicted, pairs) * config.box_loss_weight / divisor
    };
    RpnLosses {
        objectness,
        box_deltas,
    }
}
