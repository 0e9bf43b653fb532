//! Random changes of a classifier's training pictures.
//!
//! Drawing and applying are apart: each change is a function of explicit parameters in a file of its
//! own, and only [`LabelledAugmentation::apply`] and [`LabelledAugmentation::mix`] draw them.
//!
//! - [`crop`]: the part of the picture that becomes the input.
//! - [`mix`]: mixup and CutMix, on batches.

pub mod crop;
pub mod mix;

use image::{RgbImage, imageops};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::data::DataError;

use super::{augment::happens, color::ColorJitter, preprocess::Preprocess};

pub use crop::TrainCrop;
pub use mix::SoftLabel;

/// The random changes of a training run. The default is none: the picture is resized and cropped as
/// in evaluation.
///
/// Order: crop (which resizes), flip, colours; on whole batches, mixing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LabelledAugmentation {
    /// The part of the picture that becomes the input.
    pub crop: TrainCrop,
    /// How often to mirror left-right, 0 to 1.
    pub horizontal_flip: f32,
    /// Changing colours.
    pub color_jitter: Option<ColorJitter>,
    /// Concentration alpha of the beta distribution of mixup's shares; 0: off. With `cutmix`, one of
    /// the two mixes a batch, by coin.
    pub mixup: f32,
    /// The same for CutMix.
    pub cutmix: f32,
}

impl Default for LabelledAugmentation {
    fn default() -> Self {
        Self::none()
    }
}

impl LabelledAugmentation {
    /// No change at all.
    pub const fn none() -> Self {
        Self {
            crop: TrainCrop::Center {},
            horizontal_flip: 0.0,
            color_jitter: None,
            mixup: 0.0,
            cutmix: 0.0,
        }
    }

    /// Checks that the numbers make sense.
    ///
    /// # Errors
    /// A value is outside its range; the message names the setting.
    pub fn validate(&self) -> Result<(), DataError> {
        let wrong = |setting, problem: String| Err(DataError::Setting { setting, problem });
        if !(0.0..=1.0).contains(&self.horizontal_flip) {
            return wrong(
                "horizontal_flip",
                format!("{} is not between 0 and 1", self.horizontal_flip),
            );
        }
        for (setting, value) in [("mixup", self.mixup), ("cutmix", self.cutmix)] {
            if !(0.0..=f32::MAX).contains(&value) {
                return wrong(setting, format!("{value} is not a number of 0 or more"));
            }
        }
        self.crop.validate()?;
        self.color_jitter.map_or(Ok(()), |jitter| jitter.validate())
    }

    /// Changes a picture of any size; the result is a square of [`Preprocess::input_side`], ready
    /// for [`normalise`](super::normalise).
    pub fn apply(&self, image: RgbImage, preprocess: &Preprocess, rng: &mut impl Rng) -> RgbImage {
        let mut image = self.crop.apply(&image, preprocess, rng);
        if happens(self.horizontal_flip, rng) {
            imageops::flip_horizontal_in_place(&mut image);
        }
        if let Some(jitter) = self.color_jitter {
            jitter.apply(&mut image, rng);
        }
        image
    }

    /// Mixes a batch in place: normalised pixels `[batch, 3, height, width]`, one label for each
    /// picture. Returns the classes of each picture and their shares.
    pub fn mix(
        &self,
        pixels: &mut [f32],
        shape: [usize; 4],
        labels: &[usize],
        rng: &mut impl Rng,
    ) -> Vec<SoftLabel> {
        mix::mix([self.mixup, self.cutmix], pixels, shape, labels, rng)
    }
}

#[cfg(test)]
mod tests;
