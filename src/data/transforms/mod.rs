//! Augmentations: pixels and boxes together, in image coordinates, before the preprocessing.

pub mod color;
pub mod geometry;

use image::RgbImage;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::boxes::BoxXyxy;
use color::ColorJitter;

/// A picture and its boxes on their way to the network.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The pixels.
    pub image: RgbImage,
    /// Ground truth.
    pub boxes_in_image: Vec<BoxXyxy>,
    /// One label per box.
    pub labels: Vec<usize>,
}

/// What may happen to a training image. The default does nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct AugmentConfig {
    /// Probability of a left-right flip.
    pub horizontal_flip: f64,
    /// Probability of an upside-down flip: for pictures without an up, such as microscopy.
    pub vertical_flip: f64,
    /// Probability of a quarter turn: likewise.
    pub quarter_turn: f64,
    /// Probability of cutting out a random part.
    pub crop: f64,
    /// The smallest side of that part, as a share of the image's.
    pub crop_min_side: f64,
    /// Short sides to choose from (multi-scale); empty keeps the preprocessing's.
    pub min_sizes: Vec<usize>,
    /// Colour changes.
    pub color: ColorJitter,
}

impl AugmentConfig {
    /// One random variation, drawn from `rng` only.
    pub fn apply(&self, mut sample: Sample, rng: &mut ChaCha8Rng) -> Sample {
        if rng.random_bool(self.crop) {
            sample = geometry::random_crop(sample, self.crop_min_side, rng);
        }
        if rng.random_bool(self.quarter_turn) {
            sample = geometry::quarter_turn(sample);
        }
        if rng.random_bool(self.horizontal_flip) {
            sample = geometry::flip_horizontal(sample);
        }
        if rng.random_bool(self.vertical_flip) {
            sample = geometry::flip_vertical(sample);
        }
        self.color.apply(&mut sample.image, rng);
        sample
    }
}
