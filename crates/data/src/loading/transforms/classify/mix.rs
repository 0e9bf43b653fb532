//! Mixing of the images of a batch, and of their labels: mixup (<https://arxiv.org/abs/1710.09412>)
//! and CutMix (<https://arxiv.org/abs/1905.04899>).
//!
//! As in torchvision's `MixUp` and `CutMix`, the partner of an image is the one before it in the
//! batch (the last one for the first), and all images of a batch share one draw.

use std::ops::Range;

use rand::{Rng, RngExt};
use rand_distr::{Beta, Distribution};

/// The classes of an image and their shares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SoftLabel {
    /// Label of the image itself; its share is 1 minus that of `other`.
    pub label: usize,
    /// Label of the image that was mixed in, and its share, 0 to 1.
    pub other: Option<(usize, f32)>,
}

/// The rectangle of each image of a batch that is taken from its partner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MixedPart {
    /// Rows.
    pub rows: Range<usize>,
    /// Columns.
    pub columns: Range<usize>,
}

impl MixedPart {
    /// Creates the rectangle whose sides are `sqrt(1 - own_share)` of the image's and whose center
    /// is at `(y, x)`, clipped at the image border.
    pub fn around((y, x): (usize, usize), [height, width]: [usize; 2], own_share: f64) -> Self {
        let half = 0.5 * (1.0 - own_share).sqrt();
        let span = |center: usize, length: usize| {
            let half = (half * length as f64) as usize;
            center.saturating_sub(half)..(center + half).min(length)
        };
        Self {
            rows: span(y, height),
            columns: span(x, width),
        }
    }

    /// Returns the area as a fraction of the image's.
    pub fn share(&self, [height, width]: [usize; 2]) -> f32 {
        (self.rows.len() * self.columns.len()) as f32 / (height * width) as f32
    }
}

/// Mixes as [`mixup`] or [`cutmix`], whichever has a concentration `alpha` above zero; if both
/// have, one is drawn at random for the whole batch. See
/// [`LabeledAugmentation::mix`](crate::loading::transforms::classify::LabeledAugmentation::mix).
pub(super) fn mix(
    alphas: [f32; 2],
    pixels: &mut [f32],
    shape: [usize; 4],
    labels: &[usize],
    rng: &mut impl Rng,
) -> Vec<SoftLabel> {
    let [_, _, height, width] = shape;
    let [mixup_alpha, cutmix_alpha] = alphas;
    let with_mixup = match (mixup_alpha > 0.0, cutmix_alpha > 0.0) {
        (true, true) => rng.random(),
        (with_mixup, with_cutmix) if with_mixup || with_cutmix => with_mixup,
        _ => return soft_labels(labels, None),
    };
    // An empty image has nothing to mix and no position to draw.
    if labels.is_empty() || pixels.is_empty() {
        return soft_labels(labels, None);
    }
    let other_share = if with_mixup {
        let own_share = draw_share(mixup_alpha, rng) as f32;
        mixup(pixels, shape, own_share);
        1.0 - own_share
    } else {
        let own_share = draw_share(cutmix_alpha, rng);
        let center = (rng.random_range(0..height), rng.random_range(0..width));
        let part = MixedPart::around(center, [height, width], own_share);
        cutmix(pixels, shape, &part);
        part.share([height, width])
    };
    soft_labels(labels, Some(other_share))
}

/// Draws from the symmetric beta distribution, 0 to 1.
fn draw_share(alpha: f32, rng: &mut impl Rng) -> f64 {
    let alpha = f64::from(alpha);
    // `validate` accepts only an alpha for which the distribution is defined
    let drawn = Beta::new(alpha, alpha).map_or(1.0, |beta| beta.sample(rng));
    if drawn.is_nan() { 1.0 } else { drawn }
}

/// Blends each image, with weight `own_share`, and its partner; pixels `[batch, channels, height,
/// width]`.
pub fn mixup(pixels: &mut [f32], shape: [usize; 4], own_share: f32) {
    with_partners(pixels, shape, |image, partner| {
        for (value, other) in image.iter_mut().zip(partner) {
            *value = own_share * *value + (1.0 - own_share) * other;
        }
    });
}

/// Replaces the rectangle of each image by that of its partner; pixels `[batch, channels, height,
/// width]`.
pub fn cutmix(pixels: &mut [f32], shape: [usize; 4], part: &MixedPart) {
    let [_, channels, height, width] = shape;
    with_partners(pixels, shape, |image, partner| {
        for channel in 0..channels {
            for y in part.rows.clone() {
                let row = (channel * height + y) * width;
                let range = row + part.columns.start..row + part.columns.end;
                image[range.clone()].copy_from_slice(&partner[range]);
            }
        }
    });
}

/// Calls `change` with each image and its unchanged partner.
fn with_partners(pixels: &mut [f32], shape: [usize; 4], change: impl Fn(&mut [f32], &[f32])) {
    let [batch, channels, height, width] = shape;
    let length = channels * height * width;
    if batch == 0 || length == 0 {
        return;
    }
    // From the last image to the first, so that each partner is still unchanged; only the last
    // image has to be copied.
    let last = pixels[(batch - 1) * length..].to_vec();
    for index in (1..batch).rev() {
        let (before, rest) = pixels.split_at_mut(index * length);
        change(&mut rest[..length], &before[(index - 1) * length..]);
    }
    change(&mut pixels[..length], &last);
}

pub(super) fn soft_labels(labels: &[usize], other_share: Option<f32>) -> Vec<SoftLabel> {
    let partners = labels.last().into_iter().chain(labels);
    labels
        .iter()
        .zip(partners)
        .map(|(&label, &partner)| SoftLabel {
            label,
            other: other_share.map(|share| (partner, share)),
        })
        .collect()
}
