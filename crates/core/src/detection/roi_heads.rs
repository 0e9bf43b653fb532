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
use super::losses::{BoxLoss, BoxPairs, cross_entropy_sum};
use super::matcher::{Match, Matcher};
use super::nms::nms;
use super::roi_pooler::{PooledLevels, RoiPooler};
use super::rpn::{is_unweighted, unweighted};
use super::sampler::{BalancedSampler, SampleOrder};
use super::{Detection, Target, offsets};
use crate::read_back::{host, host_rows};
use sedet_data::boxes::{BoxXyxy, ImageSize};
use sedet_nn::kernels::bf16::{ComputePrecision, autocast};
use sedet_nn::kernels::conv2d::PackedWeights;
use sedet_nn::nn::conv::{
    Conv2d, Conv2dConfig, forward_linear, forward_packed_linear, linear, pack_linear,
};
use sedet_nn::nn::conv_norm::{fold_all, forward_normed};
use sedet_nn::nn::init::WeightInit;
use sedet_nn::nn::norm::{Norm, NormConfig};

/// Initialization of the heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeadInit {
    /// PyTorch's default for `Linear`.
    Torchvision,
    /// `c2_xavier_fill` in the hidden layers, `N(0, 0.01)` for classes, `N(0, 0.001)` for boxes.
    Detectron2,
}

/// Layers of the second stage; the default is torchvision's `TwoMLPHead`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BoxHeadConfig {
    /// Channels of 3x3 convolutions with ReLU before the hidden layers (torchvision's
    /// `FastRCNNConvFCHead`).
    pub convolutions: Vec<usize>,
    /// Batch norm after every convolution, which then has no bias. Without it, there are no norms.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub norm: Option<NormConfig>,
    /// Number of hidden layers, 1 or 2.
    pub hidden_layers: usize,
    /// Whether all classes share their box deltas (detectron2's `CLS_AGNOSTIC_BBOX_REG`).
    pub class_agnostic: bool,
}

impl Default for BoxHeadConfig {
    fn default() -> Self {
        Self {
            convolutions: Vec::new(),
            norm: None,
            hidden_layers: 2,
            class_agnostic: false,
        }
    }
}

impl BoxHeadConfig {
    /// Returns the index of the four deltas of a class, with the background as class 0.
    fn regressor(&self, class: usize) -> usize {
        if self.class_agnostic { 0 } else { class }
    }
}

fn is_default(head: &BoxHeadConfig) -> bool {
    *head == BoxHeadConfig::default()
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
    /// Layers before the predictions.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(!skip_serializing_if)]
    pub box_head: BoxHeadConfig,
    /// Units of each hidden layer.
    pub representation_size: usize,
    /// Initialization.
    pub init: HeadInit,
    /// Loss of box regression.
    pub box_loss: BoxLoss,
    /// Factor of the box loss; detectron2's `BBOX_REG_LOSS_WEIGHT`.
    #[serde(default = "unweighted", skip_serializing_if = "is_unweighted")]
    #[schemars(!skip_serializing_if)]
    pub box_loss_weight: f64,
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
        let head = &self.box_head;
        let size = self.representation_size;
        let mut channels = channels;
        let mut convs = Vec::with_capacity(head.convolutions.len());
        let mut norms = Vec::new();
        for &channels_out in &head.convolutions {
            // He initialization in both presets.
            let conv = Conv2dConfig {
                bias: head.norm.is_none(),
                ..Conv2dConfig::new(channels, channels_out, 3)
            };
            convs.push(conv.init(device));
            norms.extend(head.norm.map(|norm| norm.init(channels_out, device)));
            channels = channels_out;
        }
        let pooled = channels * self.pooler.output_size * self.pooler.output_size;
        let fc6 = linear(pooled, size, hidden, device);
        let has_second = head.hidden_layers > 1;
        let fc7 = has_second.then(|| linear(size, size, hidden, device));
        let regressors = if head.class_agnostic {
            1
        } else {
            num_classes + 1
        };
        BoxHead {
            convs,
            norms,
            fc6,
            fc7,
            cls_score: linear(size, num_classes + 1, classes, device),
            bbox_pred: linear(size, regressors * 4, boxes, device),
            packed: None,
        }
    }
}

/// The heads: convolutions, hidden layers, a classifier, and a box regressor per class or for all.
#[derive(Module, Debug)]
pub struct BoxHead {
    /// 3x3 convolutions with ReLU; usually none.
    pub convs: Vec<Conv2d>,
    /// Batch norms of the convolutions; empty without norms.
    pub norms: Vec<Norm>,
    /// First hidden layer, on the feature map flattened in the order channels, rows, columns.
    pub fc6: Linear,
    /// Second hidden layer.
    pub fc7: Option<Linear>,
    /// `num_classes + 1` logits, background first.
    pub cls_score: Linear,
    /// Four deltas for each of `num_classes + 1` classes, where those of the background are unused, or
    /// four for all classes.
    pub bbox_pred: Linear,
    /// Where the weights of the hidden layers are kept in the order of the CPU kernel, for inference.
    #[module(skip)]
    packed: Option<[PackedWeights; 2]>,
}

/// Outputs of the heads for every proposal.
#[derive(Debug, Clone)]
pub struct BoxHeadOutput {
    /// `[proposals, num_classes + 1]`.
    pub class_logits: Tensor<2>,
    /// `[proposals, (num_classes + 1) * 4]`, or `[proposals, 4]` for all classes.
    pub box_deltas: Tensor<2>,
}

impl BoxHead {
    /// Computes logits and deltas from pooled feature maps, `[proposals, channels, size, size]`.
    pub fn forward(&self, pooled: Tensor<4>) -> BoxHeadOutput {
        self.forward_hidden(self.hidden(pooled))
    }

    /// Computes logits and deltas in the order of the boxes.
    pub(crate) fn forward_levels(&self, pooled: PooledLevels) -> BoxHeadOutput {
        let [_, size] = self.fc6.weight.lazy_shape().dims();
        // Batch statistics are those of the boxes of all levels.
        let pooled = if self.norms.is_empty() {
            pooled
        } else {
            pooled.merged()
        };
        self.forward_hidden(pooled.joined([0, size], |pooled| self.hidden(pooled)))
    }

    /// Returns the heads for inference, with the norms folded into the convolutions.
    #[must_use]
    pub fn folded(self, precision: ComputePrecision) -> Self {
        let (convs, norms) = fold_all(self.convs, self.norms, precision);
        if self.packed.is_some() {
            return Self {
                convs,
                norms,
                ..self
            };
        }
        let (fc6, first) = pack_linear(self.fc6, precision);
        let (fc7, second) = match self.fc7.map(|layer| pack_linear(layer, precision)) {
            Some((layer, packed)) => (Some(layer), packed),
            None => (None, PackedWeights::new(precision)),
        };
        Self {
            convs,
            norms,
            fc6,
            fc7,
            packed: Some([first, second]),
            ..self
        }
    }

    /// Returns where the weight of a hidden layer is kept.
    fn packed(&self, layer: usize) -> Option<&PackedWeights> {
        self.packed.as_ref().map(|packed| &packed[layer])
    }

    fn hidden(&self, pooled: Tensor<4>) -> Tensor<2> {
        let mut x = pooled;
        for (n, conv) in self.convs.iter().enumerate() {
            x = match self.norms.get(n) {
                Some(norm) => forward_normed(conv, norm, x, None, true),
                None => conv.forward_relu(x),
            };
        }
        relu(forward_packed_linear(
            &self.fc6,
            self.packed(0),
            x.flatten(1, 3),
        ))
    }

    fn forward_hidden(&self, mut x: Tensor<2>) -> BoxHeadOutput {
        if let Some(fc7) = &self.fc7 {
            x = relu(forward_packed_linear(fc7, self.packed(1), x));
        }
        autocast(ComputePrecision::F32, || BoxHeadOutput {
            class_logits: forward_linear(&self.cls_score, x.clone()),
            box_deltas: forward_linear(&self.bbox_pred, x),
        })
    }
}

/// The sampled proposals of one image.
#[derive(Debug, Clone, Default)]
pub struct TrainingSample {
    /// Their boxes.
    pub proposals: Vec<BoxXyxy>,
    /// 0 for background, class + 1 otherwise.
    pub labels: Vec<usize>,
    /// The matched ground-truth boxes; unused for background.
    pub ground_truth: Vec<BoxXyxy>,
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
            out.ground_truth.push(target.boxes_in_input[g]);
        } else {
            out.labels.push(0);
            out.ground_truth.push(BoxXyxy::default());
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

    let regressors = output.box_deltas.dims()[1] / 4;
    let mut rows = Vec::new();
    let (mut proposals, mut ground_truth) = (Vec::new(), Vec::new());
    let pairs = samples
        .iter()
        .flat_map(|s| s.proposals.iter().zip(&s.ground_truth));
    for (row, (&label, (proposal, truth))) in labels.iter().zip(pairs).enumerate() {
        if label > 0 {
            rows.push((row * regressors + config.box_head.regressor(label)) as i64);
            proposals.push(*proposal);
            ground_truth.push(*truth);
        }
    }
    let box_deltas = if rows.is_empty() {
        Tensor::zeros([1], &device)
    } else {
        let predicted = output
            .box_deltas
            .reshape([count * regressors, 4])
            .select(0, indices(rows));
        let pairs = BoxPairs {
            coder: BoxCoder::ROI,
            references: &proposals,
            ground_truth: &ground_truth,
        };
        config.box_loss.sum(predicted, pairs) * config.box_loss_weight / count as f64
    };
    RoiLosses {
        classifier,
        box_deltas,
    }
}

/// Returns the detections of every image by decreasing score; torchvision's `postprocess_detections`. Each comes with the
/// proposal that it refines, the region of which the box head computed its score.
pub fn detections(
    config: &RoiHeadsConfig,
    output: BoxHeadOutput,
    proposals: &[Vec<BoxXyxy>],
    input_sizes: &[ImageSize],
) -> Vec<Vec<(Detection, BoxXyxy)>> {
    let [_, classes] = output.class_logits.dims();
    let regressors = output.box_deltas.dims()[1] / 4;
    let scores = host(softmax(output.class_logits, 1));
    // The classes whose score is above the threshold, by image: proposal, class and score.
    let mut row = 0;
    let of_image = |proposals: &Vec<BoxXyxy>| {
        let mut candidates = Vec::new();
        for proposal in 0..proposals.len() {
            for class in 1..classes {
                let score = scores[row * classes + class];
                if score > config.score_threshold {
                    candidates.push((proposal, class, score));
                }
            }
            row += 1;
        }
        candidates
    };
    let candidates: Vec<Vec<(usize, usize, f32)>> = proposals.iter().map(of_image).collect();
    let firsts = offsets(proposals.iter().map(Vec::len));
    let rows = candidates
        .iter()
        .zip(firsts)
        .flat_map(|(candidates, first)| {
            let candidates = candidates.iter();
            candidates.map(move |(proposal, class, _)| {
                (first + proposal) * regressors + config.box_head.regressor(*class)
            })
        });
    // Few classes of a proposal are above the threshold: the deltas of the others are not read.
    let rows: Vec<usize> = rows.collect();
    let [count, _] = output.box_deltas.dims();
    let deltas = if rows.is_empty() {
        Vec::new()
    } else {
        host_rows(output.box_deltas.reshape([count * regressors, 4]), &rows)
    };
    let mut deltas = deltas.chunks_exact(4);
    proposals
        .iter()
        .zip(input_sizes)
        .zip(candidates)
        .map(|((proposals, size), candidates)| {
            let (mut boxes, mut found, mut groups) = (Vec::new(), Vec::new(), Vec::new());
            let mut refined = Vec::new();
            for ((at, class, score), d) in candidates.into_iter().zip(&mut deltas) {
                let proposal = proposals[at];
                let d = [d[0], d[1], d[2], d[3]];
                let b = BoxCoder::ROI.decode(proposal, d).clip(*size);
                if b.has_sides_of(config.min_side) {
                    boxes.push(b);
                    found.push(score);
                    groups.push(class - 1);
                    refined.push(proposal);
                }
            }
            let mut kept = nms(&boxes, &found, &groups, config.nms_threshold);
            kept.truncate(config.max_detections);
            kept.into_iter()
                .map(|i| {
                    let detection = Detection {
                        box_in_input: boxes[i],
                        label: groups[i],
                        score: found[i],
                    };
                    (detection, refined[i])
                })
                .collect()
        })
        .collect()
}
