//! The second stage: classification and box regression of proposals (Fast R-CNN's heads).
//!
//! In this module class 0 is the background, and class `c` of other modules is `c + 1`, as in
//! torchvision.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::activation::{relu, softmax};
use burn::tensor::{Device, Int, Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::box_coder::BoxCoder;
use super::losses::{BoxLoss, cross_entropy_sum};
use super::matcher::{Match, Matcher};
use super::nms::nms;
use super::roi_pooler::{PooledLevels, RoiPooler};
use super::sampler::{BalancedSampler, SampleOrder};
use super::{Detection, Target, host};
use sedet_data::boxes::{BoxXyxy, ImageSize};
use sedet_nn::nn::conv::{forward_linear, linear};
use sedet_nn::nn::init::WeightInit;

/// Initialization of the heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeadInit {
    /// PyTorch's default for `Linear`.
    Torchvision,
    /// `c2_xavier_fill` in the hidden layers, `N(0, 0.01)` for classes, `N(0, 0.001)` for boxes.
    Detectron2,
}

/// Configuration of the second stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoiHeadsConfig {
    /// RoI pooling.
    pub pooler: RoiPooler,
    /// Assignment of ground-truth boxes to proposals.
    pub matcher: Matcher,
    /// Sampling of the proposals that the loss is computed on.
    pub sampler: BalancedSampler,
    /// Units of the two hidden layers.
    pub representation_size: usize,
    /// Initialization.
    pub init: HeadInit,
    /// Loss of the box deltas.
    pub box_loss: BoxLoss,
    /// Detections with a lower score are dropped.
    pub score_threshold: f32,
    /// IoU threshold of non-maximum suppression within a class.
    pub nms_threshold: f32,
    /// Largest number of detections per image.
    pub max_detections: usize,
    /// Detections with a smaller side are dropped, in input pixels.
    pub min_side: f32,
}

impl RoiHeadsConfig {
    /// Builds the heads for pyramid levels with `channels`, and `num_classes` without the background.
    pub fn init(&self, channels: usize, num_classes: usize, device: &Device) -> BoxHead {
        let (hidden, classes, boxes) = match self.init {
            HeadInit::Torchvision => (
                WeightInit::PytorchDefault,
                WeightInit::PytorchDefault,
                WeightInit::PytorchDefault,
            ),
            HeadInit::Detectron2 => (
                WeightInit::KaimingUniformA1,
                WeightInit::Normal(0.01),
                WeightInit::Normal(0.001),
            ),
        };
        let size = self.representation_size;
        let pooled = channels * self.pooler.output_size * self.pooler.output_size;
        BoxHead {
            fc6: linear(pooled, size, hidden, device),
            fc7: linear(size, size, hidden, device),
            cls_score: linear(size, num_classes + 1, classes, device),
            bbox_pred: linear(size, (num_classes + 1) * 4, boxes, device),
        }
    }
}

/// The heads: two hidden layers, a classifier, and a box regressor per class.
#[derive(Module, Debug)]
pub struct BoxHead {
    /// First hidden layer, on the pooled feature map flattened in the order channels, rows, columns.
    pub fc6: Linear,
    /// Second hidden layer.
    pub fc7: Linear,
    /// `num_classes + 1` logits, background first.
    pub cls_score: Linear,
    /// Four deltas for each of `num_classes + 1` classes; those of the background are unused.
    pub bbox_pred: Linear,
}

/// Outputs of the heads for every proposal.
#[derive(Debug, Clone)]
pub struct BoxHeadOutput {
    /// `[proposals, num_classes + 1]`.
    pub class_logits: Tensor<2>,
    /// `[proposals, (num_classes + 1) * 4]`.
    pub box_deltas: Tensor<2>,
}

impl BoxHead {
    /// Computes logits and deltas from pooled feature maps, `[proposals, channels, size, size]`.
    pub fn forward(&self, pooled: Tensor<4>) -> BoxHeadOutput {
        self.forward_hidden(self.hidden(pooled))
    }

    /// Computes logits and deltas in the order of the boxes.
    pub fn forward_levels(&self, pooled: PooledLevels) -> BoxHeadOutput {
        let [_, size] = self.fc6.weight.lazy_shape().dims();
        self.forward_hidden(pooled.joined([0, size], |pooled| self.hidden(pooled)))
    }

    fn hidden(&self, pooled: Tensor<4>) -> Tensor<2> {
        relu(forward_linear(&self.fc6, pooled.flatten(1, 3)))
    }

    fn forward_hidden(&self, x: Tensor<2>) -> BoxHeadOutput {
        let x = relu(forward_linear(&self.fc7, x));
        BoxHeadOutput {
            class_logits: forward_linear(&self.cls_score, x.clone()),
            box_deltas: forward_linear(&self.bbox_pred, x),
        }
    }
}

/// The sampled proposals of one image.
#[derive(Debug, Clone, Default)]
pub struct TrainingSample {
    /// Their boxes.
    pub proposals: Vec<BoxXyxy>,
    /// 0 for background, class + 1 otherwise.
    pub labels: Vec<usize>,
    /// The target deltas; zeros for background.
    pub box_targets: Vec<[f32; 4]>,
}

/// Samples proposals for training; torchvision's `select_training_samples`. The ground-truth boxes are
/// added to the proposals, so that there are positive samples before the RPN is trained.
pub fn select_training_sample(
    config: &RoiHeadsConfig,
    mut proposals: Vec<BoxXyxy>,
    target: &Target,
    order: &mut SampleOrder,
) -> TrainingSample {
    proposals.extend(&target.boxes_in_input);
    let matches = config
        .matcher
        .match_boxes(&target.boxes_in_input, &proposals);
    let sample = config.sampler.sample_matches(&matches, order);
    let mut chosen = sample.positive;
    chosen.extend(sample.negative);
    chosen.sort_unstable();
    let mut out = TrainingSample::default();
    for i in chosen {
        out.proposals.push(proposals[i]);
        if let Match::GroundTruth(g) = matches[i] {
            out.labels.push(target.labels[g] + 1);
            out.box_targets
                .push(BoxCoder::ROI.encode(proposals[i], target.boxes_in_input[g]));
        } else {
            out.labels.push(0);
            out.box_targets.push([0.0; 4]);
        }
    }
    out
}

/// The two losses of the heads, each a scalar.
#[derive(Debug, Clone)]
pub struct RoiLosses {
    /// Cross-entropy of the sampled proposals.
    pub classifier: Tensor<1>,
    /// Box loss of the positive proposals, for their own class only.
    pub box_deltas: Tensor<1>,
}

/// Computes the losses; torchvision's `fastrcnn_loss`: both sums are divided by the number of sampled
/// proposals.
pub fn roi_losses(
    config: &RoiHeadsConfig,
    output: BoxHeadOutput,
    samples: &[TrainingSample],
) -> RoiLosses {
    let device = output.class_logits.device();
    let plain = device.clone().inner();
    let labels: Vec<usize> = samples.iter().flat_map(|s| s.labels.clone()).collect();
    let count = labels.len();
    if count == 0 {
        return RoiLosses {
            classifier: Tensor::zeros([1], &device),
            box_deltas: Tensor::zeros([1], &device),
        };
    }
    let indices = |values: Vec<i64>| {
        let n = values.len();
        Tensor::<1, Int>::from_data(TensorData::new(values, [n]), &plain)
    };
    let class_of_row = indices(labels.iter().map(|&l| l as i64).collect());
    let classifier = cross_entropy_sum(output.class_logits, class_of_row) / count as f64;

    let classes = output.box_deltas.dims()[1] / 4;
    let mut rows = Vec::new();
    let mut targets: Vec<f32> = Vec::new();
    let all_targets = samples.iter().flat_map(|s| &s.box_targets);
    for (row, (&label, target)) in labels.iter().zip(all_targets).enumerate() {
        if label > 0 {
            rows.push((row * classes + label) as i64);
            targets.extend(target);
        }
    }
    let positives = rows.len();
    let box_deltas = if positives == 0 {
        Tensor::zeros([1], &device)
    } else {
        let predicted = output
            .box_deltas
            .reshape([count * classes, 4])
            .select(0, indices(rows));
        let targets = Tensor::from_data(TensorData::new(targets, [positives, 4]), &plain);
        config.box_loss.sum(predicted, targets) / count as f64
    };
    RoiLosses {
        classifier,
        box_deltas,
    }
}

/// Returns the detections of every image by decreasing score; torchvision's `postprocess_detections`.
pub fn detections(
    config: &RoiHeadsConfig,
    output: BoxHeadOutput,
    proposals: &[Vec<BoxXyxy>],
    input_sizes: &[ImageSize],
) -> Vec<Vec<Detection>> {
    let [_, classes] = output.class_logits.dims();
    let scores = host(softmax(output.class_logits, 1));
    let deltas = host(output.box_deltas);
    let mut row = 0;
    proposals
        .iter()
        .zip(input_sizes)
        .map(|(proposals, size)| {
            let (mut boxes, mut found, mut groups) = (Vec::new(), Vec::new(), Vec::new());
            for proposal in proposals {
                for class in 1..classes {
                    let score = scores[row * classes + class];
                    if score > config.score_threshold {
                        let at = (row * classes + class) * 4;
                        let d = [deltas[at], deltas[at + 1], deltas[at + 2], deltas[at + 3]];
                        let b = BoxCoder::ROI.decode(*proposal, d).clip(*size);
                        if b.has_sides_of(config.min_side) {
                            boxes.push(b);
                            found.push(score);
                            groups.push(class - 1);
                        }
                    }
                }
                row += 1;
            }
            let mut kept = nms(&boxes, &found, &groups, config.nms_threshold);
            kept.truncate(config.max_detections);
            kept.into_iter()
                .map(|i| Detection {
                    box_in_input: boxes[i],
                    label: groups[i],
                    score: found[i],
                })
                .collect()
        })
        .collect()
}
