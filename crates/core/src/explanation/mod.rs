//! Why a network gives a detection or a class its score.
//!
//! - [`cam`]: class activation maps, where in a feature map the evidence for the score is.
//! - [`gates`]: the first-order effects of SE gates on the score.
//!
//! [`Model::explain`](crate::model::Model::explain) computes both in one backward pass, and
//! [`Model::score_with`](crate::model::Model::score_with) measures what a first-order effect predicts.

pub mod cam;
pub mod gates;

pub use cam::LayerCam;
pub use gates::{GateEffect, GateGradients, Neutral, effects_csv, strongest};

use sedet_data::text::count;

/// A score that cannot be explained.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExplanationError {
    /// There is no such detection.
    #[error("there is no detection {}: the image has {}", position + 1, count(*found, "detection"))]
    NoDetection {
        /// The index that was asked for, from 0.
        position: usize,
        /// The number of detections.
        found: usize,
    },
    /// There is no such class.
    #[error("there is no class {label}: the model has {}", count(*classes, "class"))]
    NoClass {
        /// The label that was asked for.
        label: usize,
        /// The number of classes.
        classes: usize,
    },
    /// A detection of a classifier, or a class of a detector.
    #[error("a detector has detections to explain, a classifier classes")]
    OtherTask,
    /// There is no such gate.
    #[error("there is no channel {channel} of SE unit {unit}")]
    NoGate {
        /// The index of the unit.
        unit: usize,
        /// The channel.
        channel: usize,
    },
    /// The statistics of gates are those of another network.
    #[error("the gate statistics belong to another network: {0}")]
    OtherNetwork(String),
    /// The weights are kept in bf16, which the kernels cannot differentiate.
    #[error(
        "the gradients of a score are computed with 32-bit floats, but the model was reduced to bf16"
    )]
    Reduced,
    /// A score or a gradient is infinite or NaN.
    #[error(
        "a gradient of the score is not finite; the weights are damaged or training has diverged"
    )]
    NotFinite,
}
