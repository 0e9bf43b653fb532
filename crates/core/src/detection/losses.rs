//! The losses of Faster R-CNN as sums; the caller divides them as its preset does.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The regression loss of box deltas.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BoxLoss {
    /// Quadratic below `beta`, linear above: torchvision uses 1/9.
    SmoothL1 {
        /// The difference at which the quadratic part ends.
        beta: f64,
    },
    /// The absolute difference: detectron2, mmdetection.
    L1,
}

impl BoxLoss {
    /// Returns the sum over all elements of two `[n, 4]` tensors, as a scalar.
    pub fn sum(self, predicted: Tensor<2>, target: Tensor<2>) -> Tensor<1> {
        let distance = (predicted - target).abs();
        match self {
            Self::L1 => distance.sum(),
            Self::SmoothL1 { beta } => {
                // Without a mask: min(d, beta) gives the quadratic part, the rest of d the linear part.
                // d < beta: d^2 / (2 beta);  d >= beta: beta / 2 + (d - beta).
                let near = distance.clone().clamp_max(beta);
                let far = distance - near.clone();
                ((near.clone() * near) * (0.5 / beta) + far).sum()
            }
        }
    }
}

/// Returns the sum of `binary_cross_entropy_with_logits` over `[n]` logits and 0/1 targets, as a scalar.
pub fn binary_cross_entropy_sum(logits: Tensor<1>, targets: Tensor<1>) -> Tensor<1> {
    // max(x, 0) - x t + log(1 + exp(-|x|)) does not overflow.
    let positive = logits.clone().clamp_min(0.0);
    let log_term = (logits.clone().abs().neg().exp() + 1.0).log();
    (positive - logits * targets + log_term).sum()
}

/// Returns the sum of the cross-entropy over `[n, classes]` logits and `[n]` class indices, as a scalar.
pub fn cross_entropy_sum(logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
    let rows = labels.dims()[0];
    log_softmax(logits, 1)
        .gather(1, labels.reshape([rows, 1]))
        .sum()
        .neg()
}
