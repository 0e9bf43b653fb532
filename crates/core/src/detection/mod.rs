//! Faster R-CNN with a feature pyramid.
//!
//! From the components to the detector: [`anchors`], [`matcher`], [`sampler`], [`box_coder`], [`nms`],
//! [`losses`], [`roi_pooler`], [`fpn`], [`rpn`], [`roi_heads`], [`faster_rcnn`]; [`recompute`]: training
//! with less memory; [`coverage`]: anchor recall; [`anchor_fit`]: anchors fitted to a dataset.
//!
//! Discrete steps (matching, sampling, top-k, suppression) run on the host in `f32` with torchvision's
//! order of operations; differentiable steps run on the device. Labels are contiguous
//! `0..num_classes`; the background class exists only in [`roi_heads`].

pub mod anchor_fit;
pub mod anchors;
pub mod box_coder;
pub mod coverage;
pub mod faster_rcnn;
pub mod fpn;
pub mod losses;
pub mod matcher;
pub mod nms;
pub mod recompute;
pub mod roi_heads;
pub mod roi_pooler;
pub mod rpn;
pub mod sampler;

use burn::tensor::Tensor;

use sedet_data::boxes::{BoxXyxy, ImageSize};

/// The ground truth of one training image.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// Ground-truth boxes in input pixels; may be empty.
    pub boxes_in_input: Vec<BoxXyxy>,
    /// One class `0..num_classes` per box.
    pub labels: Vec<usize>,
}

/// A batch of images of different sizes, padded at the right and the bottom.
#[derive(Debug, Clone)]
pub struct ImageBatch {
    /// `[batch, 3, height, width]`, normalized.
    pub pixels: Tensor<4>,
    /// The size of each image without its padding.
    pub input_sizes: Vec<ImageSize>,
}

/// A detected object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Its box, in pixels of the network input.
    pub box_in_input: BoxXyxy,
    /// Class `0..num_classes`.
    pub label: usize,
    /// Softmax probability of the class.
    pub score: f32,
}

/// Returns where each of consecutive parts begins.
fn offsets(lengths: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut next = 0;
    lengths
        .map(|length| {
            let first = next;
            next += length;
            first
        })
        .collect()
}
