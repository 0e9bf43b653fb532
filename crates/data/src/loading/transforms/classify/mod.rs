//! Data augmentation for classifiers.
//!
//! Drawing and applying are separate: each transform is a function of explicit parameters, and only
//! [`LabeledAugmentation::apply`] and [`LabeledAugmentation::mix`] draw them.
//!
//! - [`crop`]: the part of the image that becomes the input.
//! - [`rand_augment`]: RandAugment's operations. - [`affine`]: rotation, shear, translation.
//! - [`levels`]: color shifts and cutout.
//! - [`mix`]: mixup and CutMix, on batches.

pub mod affine;
pub mod crop;
pub mod levels;
pub mod mix;
pub mod rand_augment;

use image::{RgbImage, imageops};
use rand::{Rng, RngExt};
use rand_distr::StandardNormal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::DataError;

use crate::loading::transforms::{augment::happens, color::ColorJitter, preprocess::Preprocess};

pub use crop::TrainCrop;
pub use levels::Cutout;
pub use mix::SoftLabel;
pub use rand_augment::RandAugment;

/// The data augmentation of a training run. The default is none: the image is resized and cropped
/// as in evaluation.
///
/// Order: crop (which resizes), flip, RandAugment, color jitter, rotation, pixel jitter, lighting,
/// cutout; then mixing of whole batches. Each transform of an image works on 8-bit pixels of the
/// input's size and rounds to 8 bits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LabeledAugmentation {
    /// The crop that becomes the input.
    pub crop: TrainCrop,
    /// Probability of mirroring left-right, 0 to 1.
    pub horizontal_flip: f32,
    /// Color jitter.
    pub color_jitter: Option<ColorJitter>,
    /// Maximum rotation in degrees, 0 to 180: the angle is uniform between minus and plus this
    /// value. Nearest neighbor and black corners, as torchvision's `RandomRotation`.
    pub rotation: f32,
    /// Maximum pixel jitter, in levels of 255: one number, uniform between minus and plus this
    /// value, is added to all values. The SENet authors' augmentation has "pixel jitter -20 ~ 20"
    /// without details; here it is one number for the whole image, a change of brightness, not
    /// noise of single pixels.
    pub pixel_jitter: f32,
    /// Standard deviation of AlexNet's noise along the principal components of color, usually 0.1;
    /// 0: off.
    pub lighting: f32,
    /// RandAugment.
    pub rand_augment: Option<RandAugment>,
    /// Cutout with the mean color, rounded to a level: zero after normalization up to half a level.
    pub cutout: Option<Cutout>,
    /// Concentration alpha of the beta distribution of mixup's shares; 0: off. With `cutmix`, one
    /// of the two is drawn for each batch with equal probability.
    pub mixup: f32,
    /// Concentration alpha of CutMix; 0: off.
    pub cutmix: f32,
}

impl Default for LabeledAugmentation {
    fn default() -> Self {
        Self::none()
    }
}

impl LabeledAugmentation {
    /// Returns an augmentation that does nothing.
    pub const fn none() -> Self {
        Self {
            crop: TrainCrop::Center {},
            horizontal_flip: 0.0,
            color_jitter: None,
            rotation: 0.0,
            pixel_jitter: 0.0,
            lighting: 0.0,
            rand_augment: None,
            cutout: None,
            mixup: 0.0,
            cutmix: 0.0,
        }
    }

    /// Validates the values.
    ///
    /// # Errors
    /// A value is outside its range; the message names the setting.
    pub fn validate(&self) -> Result<(), DataError> {
        let wrong = |setting, problem: String| Err(DataError::Setting { setting, problem });
        for (setting, value, limit) in [
            ("horizontal_flip", self.horizontal_flip, 1.0),
            ("rotation", self.rotation, 180.0),
            ("pixel_jitter", self.pixel_jitter, 255.0),
        ] {
            if !(0.0..=limit).contains(&value) {
                return wrong(setting, format!("{value} is not between 0 and {limit}"));
            }
        }
        for (setting, value) in [
            ("lighting", self.lighting),
            ("mixup", self.mixup),
            ("cutmix", self.cutmix),
        ] {
            if !(0.0..=f32::MAX).contains(&value) {
                return wrong(setting, format!("{value} is not a number of 0 or more"));
            }
        }
        self.crop.validate()?;
        self.rand_augment.map_or(Ok(()), |ra| ra.validate())?;
        self.cutout.map_or(Ok(()), |cutout| cutout.validate())?;
        self.color_jitter.map_or(Ok(()), |jitter| jitter.validate())
    }

    /// Augments an image of any size; the result is a square of [`Preprocess::input_side`], ready
    /// for [`normalize`](crate::loading::transforms::normalize).
    pub fn apply(&self, image: RgbImage, preprocess: &Preprocess, rng: &mut impl Rng) -> RgbImage {
        let mut image = self.crop.apply(&image, preprocess, rng);
        if happens(self.horizontal_flip, rng) {
            imageops::flip_horizontal_in_place(&mut image);
        }
        if let Some(rand_augment) = self.rand_augment {
            image = rand_augment.apply(image, rng);
        }
        if let Some(jitter) = self.color_jitter {
            jitter.apply(&mut image, rng);
        }
        if self.rotation > 0.0 {
            let degrees = rng.random_range(-self.rotation..=self.rotation);
            image = affine::rotate(&image, f64::from(degrees));
        }
        if self.pixel_jitter > 0.0 {
            let level = rng.random_range(-self.pixel_jitter..=self.pixel_jitter);
            levels::shift(&mut image, [level; 3]);
        }
        if self.lighting > 0.0 {
            let multiples = [(); 3].map(|()| self.lighting * rng.sample::<f32, _>(StandardNormal));
            levels::shift(&mut image, levels::lighting_shift(multiples));
        }
        if let Some(Cutout { side, count }) = self.cutout {
            for _ in 0..count {
                let (width, height) = image.dimensions();
                let center = (rng.random_range(0..width), rng.random_range(0..height));
                levels::fill_square(&mut image, center, side, preprocess.mean_color());
            }
        }
        image
    }

    /// Mixes a batch in place, given normalized pixels `[batch, 3, height, width]` and one label
    /// for each image. Returns the classes of each image and their shares.
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
