//! The loss of a classifier.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, TensorData};

/// A class, and optionally a second class with its weight in the target, as mixup and cutmix produce
/// from two images.
pub type MixedLabel = (usize, Option<(usize, f32)>);

/// Returns the target distributions `[batch, classes]` of a batch: 1 for the right class, or the
/// weights of two mixed images, of which `smoothing` is spread evenly over all classes (Szegedy et
/// al. 2016, section 7; `torch.nn.functional.cross_entropy` with `label_smoothing`).
pub fn soft_targets(
    labels: &[MixedLabel],
    classes: usize,
    smoothing: f64,
    device: &Device,
) -> Tensor<2> {
    let even = (smoothing / classes.max(1) as f64) as f32;
    let rest = (1.0 - smoothing) as f32;
    let mut targets = vec![even; labels.len() * classes];
    for (row, &(label, other)) in targets.chunks_exact_mut(classes.max(1)).zip(labels) {
        let other_weight = other.map_or(0.0, |(_, weight)| weight);
        row[label] += rest * (1.0 - other_weight);
        if let Some((other, weight)) = other {
            row[other] += rest * weight;
        }
    }
    Tensor::from_data(TensorData::new(targets, [labels.len(), classes]), device)
}

/// Returns the mean cross-entropy over the batch between target distributions and logits, both
/// `[batch, classes]`.
pub fn soft_cross_entropy(logits: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    let [batch, _] = logits.dims();
    let sum = (log_softmax(logits, 1) * targets).sum();
    sum.neg() / batch.max(1) as f64
}
