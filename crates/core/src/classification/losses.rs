//! What a classifier minimizes.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, TensorData};

/// A class, and the share of the target that another one has instead: what mixup and cutmix make of
/// two images.
pub type MixedLabel = (usize, Option<(usize, f32)>);

/// The target distributions `[batch, classes]` of a batch: 1 for the right class, or the shares of
/// two mixed images, of which `smoothing` is spread evenly over all classes (Szegedy et al. 2016,
/// section 7; as `torch.nn.functional.cross_entropy` with `label_smoothing`).
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
        let other_share = other.map_or(0.0, |(_, share)| share);
        row[label] += rest * (1.0 - other_share);
        if let Some((other, share)) = other {
            row[other] += rest * share;
        }
    }
    Tensor::from_data(TensorData::new(targets, [labels.len(), classes]), device)
}

/// The mean over the batch of the cross entropy between target distributions and logits, both
/// `[batch, classes]`.
pub fn soft_cross_entropy(logits: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    let [batch, _] = logits.dims();
    let sum = (log_softmax(logits, 1) * targets).sum();
    sum.neg() / batch.max(1) as f64
}
