//! The losses of Faster R-CNN as sums; the caller divides them as its preset does.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::box_coder::{BoxCoder, MAX_LOG_SCALE};
use sedet_data::boxes::BoxXyxy;

/// The loss of box regression.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BoxLoss {
    /// Of the deltas, quadratic below `beta`, linear above: torchvision uses 1/9.
    SmoothL1 {
        /// The difference at which the quadratic part ends.
        beta: f64,
    },
    /// The absolute difference of the deltas: detectron2, mmdetection.
    L1,
    /// Generalized IoU of the decoded boxes (Rezatofighi et al. 2019);
    /// `torchvision.ops.generalized_box_iou_loss`.
    Giou,
    /// Complete IoU of the decoded boxes (Zheng et al. 2020); `torchvision.ops.complete_box_iou_loss`.
    Ciou,
}

/// Value added to denominators, as in torchvision and detectron2.
const EPSILON: f64 = 1e-7;

/// Boxes that predicted deltas refer to, and the boxes that they should lead to.
#[derive(Debug, Clone, Copy)]
pub struct BoxPairs<'a> {
    /// The encoding of the deltas.
    pub coder: BoxCoder,
    /// Anchors or proposals.
    pub references: &'a [BoxXyxy],
    /// The ground-truth box of each reference.
    pub ground_truth: &'a [BoxXyxy],
}

impl BoxLoss {
    /// Returns the sum over all boxes as a scalar: of the four deltas of each box, or of one value per
    /// box for the IoU losses.
    ///
    /// # Shapes
    /// `deltas`: `[boxes, 4]`, one row for each pair.
    pub fn sum(self, deltas: Tensor<2>, pairs: BoxPairs<'_>) -> Tensor<1> {
        match self {
            Self::L1 => pairs.distance(deltas).sum(),
            Self::SmoothL1 { beta } => {
                let distance = pairs.distance(deltas);
                // Without a mask: min(d, beta) gives the quadratic part, the rest of d the linear part.
                // d < beta: d^2 / (2 beta);  d >= beta: beta / 2 + (d - beta).
                let near = distance.clone().clamp_max(beta);
                let far = distance - near.clone();
                ((near.clone() * near) * (0.5 / beta) + far).sum()
            }
            Self::Giou => {
                let (predicted, truth) = pairs.corners(deltas);
                let overlap = Overlap::of(&predicted, &truth);
                let enclosing = overlap.enclosing_width * overlap.enclosing_height;
                let unused = (enclosing.clone() - overlap.union) / (enclosing + EPSILON);
                (overlap.iou.neg() + unused + 1.0).sum()
            }
            Self::Ciou => {
                let (predicted, truth) = pairs.corners(deltas);
                let overlap = Overlap::of(&predicted, &truth);
                let diagonal =
                    squared(overlap.enclosing_width) + squared(overlap.enclosing_height) + EPSILON;
                let off = |low: usize, high: usize| {
                    let center = |c: &Corners| (c[low].clone() + c[high].clone()) / 2.0;
                    squared(center(&predicted) - center(&truth))
                };
                let centers = off(0, 2) + off(1, 3);
                let angle = |c: &Corners| {
                    let width = c[2].clone() - c[0].clone();
                    let height = c[3].clone() - c[1].clone();
                    (width / height).atan()
                };
                let shape = squared(angle(&truth) - angle(&predicted))
                    * (4.0 / std::f64::consts::PI.powi(2));
                // A factor without gradient, as in both libraries.
                let of_shape = shape.clone().detach();
                let alpha = of_shape.clone()
                    / (overlap.iou.clone().detach().neg() + of_shape + (1.0 + EPSILON));
                (overlap.iou.neg() + centers / diagonal + alpha * shape + 1.0).sum()
            }
        }
    }
}

fn squared(x: Tensor<2>) -> Tensor<2> {
    x.clone() * x
}

/// x1, y1, x2 and y2 of boxes, `[boxes, 1]` each.
type Corners = [Tensor<2>; 4];

impl BoxPairs<'_> {
    /// Returns the absolute differences of deltas and their targets, `[boxes, 4]`.
    fn distance(&self, deltas: Tensor<2>) -> Tensor<2> {
        let pairs = self.references.iter().zip(self.ground_truth);
        let targets: Vec<f32> = pairs
            .flat_map(|(reference, truth)| self.coder.encode(*reference, *truth))
            .collect();
        let count = self.references.len();
        // Without autodiff: constants are not part of the graph.
        let device = deltas.device();
        let plain = if device.is_autodiff() {
            device.inner()
        } else {
            device
        };
        let targets = Tensor::from_data(TensorData::new(targets, [count, 4]), &plain);
        (deltas - targets).abs()
    }

    /// Returns the corners of the boxes that deltas lead to, as [`BoxCoder::decode`], and those of the
    /// ground truth.
    fn corners(&self, deltas: Tensor<2>) -> (Corners, Corners) {
        let device = deltas.device();
        let column = |boxes: &[BoxXyxy], value: fn(&BoxXyxy) -> f32| {
            let values: Vec<f32> = boxes.iter().map(value).collect();
            let count = values.len();
            Tensor::<2>::from_data(TensorData::new(values, [count, 1]), &device)
        };
        let of_references = |value: fn(&BoxXyxy) -> f32| column(self.references, value);
        let [wx, wy, ww, wh] = self.coder.weights;
        let delta = |n: usize, weight: f32| deltas.clone().narrow(1, n, 1) / weight;
        let along = |center: Tensor<2>, size: Tensor<2>, offset: Tensor<2>, log: Tensor<2>| {
            let center = center + offset * size.clone();
            let half = log.clamp_max(MAX_LOG_SCALE).exp() * size * 0.5;
            (center.clone() - half.clone(), center + half)
        };
        let (x1, x2) = along(
            of_references(|b| b.x1 + 0.5 * b.width()),
            of_references(|b| b.width()),
            delta(0, wx),
            delta(2, ww),
        );
        let (y1, y2) = along(
            of_references(|b| b.y1 + 0.5 * b.height()),
            of_references(|b| b.height()),
            delta(1, wy),
            delta(3, wh),
        );
        let truth = |value: fn(&BoxXyxy) -> f32| column(self.ground_truth, value);
        let truth = [
            truth(|b| b.x1),
            truth(|b| b.y1),
            truth(|b| b.x2),
            truth(|b| b.y2),
        ];
        ([x1, y1, x2, y2], truth)
    }
}

/// Areas and sizes of pairs of boxes, `[boxes, 1]` each.
struct Overlap {
    union: Tensor<2>,
    iou: Tensor<2>,
    enclosing_width: Tensor<2>,
    enclosing_height: Tensor<2>,
}

impl Overlap {
    fn of(a: &Corners, b: &Corners) -> Self {
        let low = |n: usize| a[n].clone().max_pair(b[n].clone());
        let high = |n: usize| a[n].clone().min_pair(b[n].clone());
        // Boxes that do not overlap have no intersection and no gradient from it.
        let width = (high(2) - low(0)).clamp_min(0.0);
        let height = (high(3) - low(1)).clamp_min(0.0);
        let intersection = width * height;
        let area = |c: &Corners| (c[2].clone() - c[0].clone()) * (c[3].clone() - c[1].clone());
        let union = area(a) + area(b) - intersection.clone();
        let iou = intersection / (union.clone() + EPSILON);
        Self {
            union,
            iou,
            enclosing_width: low(2) - high(0),
            enclosing_height: low(3) - high(1),
        }
    }
}

/// Returns the sum of `binary_cross_entropy_with_logits` over `[n]` logits and 0/1 targets, as a scalar.
pub(crate) fn binary_cross_entropy_sum(logits: Tensor<1>, targets: Tensor<1>) -> Tensor<1> {
    // max(x, 0) - x t + log(1 + exp(-|x|)) does not overflow.
    let positive = logits.clone().clamp_min(0.0);
    let log_term = (logits.clone().abs().neg().exp() + 1.0).log();
    (positive - logits * targets + log_term).sum()
}

/// Returns the sum of the cross-entropy over `[n, classes]` logits and `[n]` class indices, as a scalar.
pub(crate) fn cross_entropy_sum(logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
    let rows = labels.dims()[0];
    log_softmax(logits, 1)
        .gather(1, labels.reshape([rows, 1]))
        .sum()
        .neg()
}
