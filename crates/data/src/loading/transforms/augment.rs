//! Data augmentation for detection: the random transforms, their probabilities and their order.

use rand::{Rng, RngExt};

use crate::DataError;

use crate::loading::transforms::{
    color::ColorJitter,
    geometry::{
        Sample, Window, crop, flip_horizontal, flip_vertical, turn_clockwise,
        turn_counter_clockwise,
    },
    preprocess::Preprocess,
};

/// Random cropping: each side is a fraction of the image's, drawn from `[min_fraction, 1]`.
#[derive(
    Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct RandomCrop {
    /// Probability of cropping, 0 to 1.
    pub probability: f32,
    /// Smallest side of the crop as a fraction of the image's side, above 0, at most 1.
    pub min_fraction: f32,
}

/// Random scaling, as in large-scale jitter (<https://arxiv.org/abs/2012.07177>): a factor is drawn
/// from `[min, max]`. Below 1 the image is resized to that fraction of the input size; above 1 a
/// crop of the inverse fraction is resized to the input size, so the input never grows.
#[derive(
    Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct ScaleJitter {
    /// Smallest factor, above 0.
    pub min: f32,
    /// Largest factor, at least `min`.
    pub max: f32,
}

/// The data augmentation of a training run. The default is that of the reference implementations: a
/// horizontal flip with probability 0.5.
///
/// Order: flips and rotation, crop, scale, color jitter, then the input's short side.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Augmentation {
    /// Probability of mirroring left-right, 0 to 1.
    pub horizontal_flip: f32,
    /// Probability of mirroring top-bottom, 0 to 1; for images without a canonical orientation,
    /// such as microscope images.
    pub vertical_flip: f32,
    /// Probability of rotating by 90 degrees, left or right at random, 0 to 1; for images without a
    /// canonical orientation.
    pub quarter_turn: f32,
    /// Random cropping.
    pub crop: Option<RandomCrop>,
    /// Random scaling.
    pub scale_jitter: Option<ScaleJitter>,
    /// Color jitter.
    pub color_jitter: Option<ColorJitter>,
    /// Short sides in pixels from which one is drawn for each image; if empty, the input's
    /// `min_size`.
    pub min_sizes: Vec<usize>,
}

impl Default for Augmentation {
    fn default() -> Self {
        Self {
            horizontal_flip: 0.5,
            ..Self::none()
        }
    }
}

impl Augmentation {
    /// Returns an augmentation that does nothing.
    pub const fn none() -> Self {
        Self {
            horizontal_flip: 0.0,
            vertical_flip: 0.0,
            quarter_turn: 0.0,
            crop: None,
            scale_jitter: None,
            color_jitter: None,
            min_sizes: Vec::new(),
        }
    }

    /// Validates the values.
    ///
    /// # Errors
    /// A value is outside its range; the message names the setting.
    pub fn validate(&self) -> Result<(), DataError> {
        let wrong = |setting, problem: String| Err(DataError::Setting { setting, problem });
        for (setting, value) in [
            ("horizontal_flip", self.horizontal_flip),
            ("vertical_flip", self.vertical_flip),
            ("quarter_turn", self.quarter_turn),
            ("crop.probability", self.crop.map_or(0.0, |c| c.probability)),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return wrong(setting, format!("{value} is not between 0 and 1"));
            }
        }
        if let Some(RandomCrop { min_fraction, .. }) = self.crop
            && !(min_fraction > 0.0 && min_fraction <= 1.0)
        {
            return wrong(
                "crop.min_fraction",
                format!("{min_fraction} is not above 0 and at most 1"),
            );
        }
        if let Some(ScaleJitter { min, max }) = self.scale_jitter
            && !(min > 0.0 && min <= max && max.is_finite())
        {
            return wrong(
                "scale_jitter",
                format!("min {min}, max {max}: must be 0 < min <= max"),
            );
        }
        if self.min_sizes.contains(&0) {
            return wrong("min_sizes", "must be at least 1 pixel".to_owned());
        }
        self.color_jitter.map_or(Ok(()), |jitter| jitter.validate())
    }

    /// Augments a sample and returns its preprocessing (the short side may be random, too). A box
    /// clipped by a crop is dropped unless both its sides are longer than `min_side`, in pixels.
    pub fn apply(
        &self,
        mut sample: Sample,
        preprocess: &Preprocess,
        min_side: f32,
        rng: &mut impl Rng,
    ) -> (Sample, Preprocess) {
        let mut preprocess = *preprocess;
        if happens(self.horizontal_flip, rng) {
            sample = flip_horizontal(sample);
        }
        if happens(self.vertical_flip, rng) {
            sample = flip_vertical(sample);
        }
        if happens(self.quarter_turn, rng) {
            sample = if rng.random() {
                turn_clockwise(sample)
            } else {
                turn_counter_clockwise(sample)
            };
        }
        if let Some(crop) = self.crop
            && happens(crop.probability, rng)
        {
            let fractions = [(); 2].map(|()| rng.random_range(crop.min_fraction..=1.0));
            sample = crop_keeping_objects(sample, fractions, min_side, rng);
        }
        if !self.min_sizes.is_empty() {
            preprocess.min_size = self.min_sizes[rng.random_range(0..self.min_sizes.len())];
            preprocess.max_size = preprocess.max_size.max(preprocess.min_size);
        }
        if let Some(ScaleJitter { min, max }) = self.scale_jitter {
            let factor = rng.random_range(min..=max);
            if factor > 1.0 {
                sample = crop_keeping_objects(sample, [1.0 / factor; 2], min_side, rng);
            } else {
                let shrink = |side: usize| ((side as f32 * factor).round() as usize).max(1);
                preprocess.min_size = shrink(preprocess.min_size);
                preprocess.max_size = shrink(preprocess.max_size);
            }
        }
        if let Some(jitter) = self.color_jitter {
            jitter.apply(&mut sample.image, rng);
        }
        (sample, preprocess)
    }
}

/// Crops a window of the given fractions (x, y) at a random position. An image that has boxes keeps
/// at least one: other positions are tried, and after ten tries the image is not cropped.
fn crop_keeping_objects(
    sample: Sample,
    fractions: [f32; 2],
    min_side: f32,
    rng: &mut impl Rng,
) -> Sample {
    const TRIES: usize = 10;
    let (width, height) = sample.image.dimensions();
    let part = |side: u32, fraction: f32| ((side as f32 * fraction) as u32).clamp(1, side);
    let window_width = part(width, fractions[0]);
    let window_height = part(height, fractions[1]);
    let had_boxes = !sample.boxes_in_image.is_empty();
    for _ in 0..TRIES {
        let window = Window {
            x: rng.random_range(0..=width - window_width),
            y: rng.random_range(0..=height - window_height),
            width: window_width,
            height: window_height,
        };
        let cut = crop(&sample, window, min_side);
        if !had_boxes || !cut.boxes_in_image.is_empty() {
            return cut;
        }
    }
    sample
}

/// Draws an event with this probability, 0 to 1.
pub(super) fn happens(probability: f32, rng: &mut impl Rng) -> bool {
    // no draw for what is switched off; `random::<f32>()` is in [0, 1)
    probability > 0.0 && rng.random::<f32>() < probability
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boxes::{BoxXyxy, ImageSize};
    use image::RgbImage;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn sample() -> Sample {
        Sample {
            image: RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8, y as u8, 0])),
            boxes_in_image: vec![
                BoxXyxy::new(2.0, 3.0, 12.0, 23.0),
                BoxXyxy::new(30.0, 20.0, 40.0, 30.0),
            ],
            labels: vec![4, 9],
        }
    }

    fn everything() -> Augmentation {
        Augmentation {
            horizontal_flip: 0.5,
            vertical_flip: 0.5,
            quarter_turn: 0.5,
            crop: Some(RandomCrop {
                probability: 0.8,
                min_fraction: 0.3,
            }),
            scale_jitter: Some(ScaleJitter { min: 0.1, max: 2.0 }),
            color_jitter: Some(ColorJitter {
                brightness: 0.2,
                contrast: 0.2,
                saturation: 0.2,
                hue: 0.1,
            }),
            min_sizes: vec![20, 24, 28],
        }
    }

    proptest! {
        #[test]
        fn whatever_is_drawn_boxes_stay_inside_and_one_is_left(seed in any::<u64>()) {
            let augmentation = everything();
            augmentation.validate().unwrap();
            let run = || {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                augmentation.apply(sample(), &Preprocess::torchvision().with_sizes(25, 40), 1.0, &mut rng)
            };
            let (changed, preprocess) = run();
            prop_assert_eq!(&run().0, &changed);
            let size = ImageSize::new(changed.image.height() as usize, changed.image.width() as usize);
            prop_assert!(!changed.boxes_in_image.is_empty());
            prop_assert_eq!(changed.boxes_in_image.len(), changed.labels.len());
            for b in &changed.boxes_in_image {
                prop_assert_eq!(*b, b.clip(size));
                prop_assert!(b.width() > 1.0 && b.height() > 1.0);
            }
            preprocess.validate().unwrap();
            prop_assert!(preprocess.max_size <= 40);
        }
    }

    #[test]
    fn every_short_side_is_drawn_and_the_flip_happens_half_the_time() {
        let augmentation = Augmentation {
            min_sizes: vec![640, 672, 704],
            ..Augmentation::default()
        };
        let mut counts = [0; 3];
        let mut flips = 0;
        for seed in 0..300 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let (changed, preprocess) =
                augmentation.apply(sample(), &Preprocess::torchvision(), 1.0, &mut rng);
            counts[(preprocess.min_size - 640) / 32] += 1;
            flips += usize::from(changed != sample());
        }
        assert!(counts.iter().all(|&n| (70..130).contains(&n)), "{counts:?}");
        assert!((120..180).contains(&flips), "{flips}");
    }

    #[test]
    fn nothing_changes_without_augmentation() {
        let preprocess = Preprocess::torchvision();
        let (same, same_preprocess) = Augmentation::none().apply(
            sample(),
            &preprocess,
            1.0,
            &mut ChaCha8Rng::seed_from_u64(0),
        );
        assert_eq!((same, same_preprocess), (sample(), preprocess));
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let message = |augmentation: Augmentation| augmentation.validate().unwrap_err().to_string();
        assert_eq!(
            message(Augmentation {
                vertical_flip: 1.5,
                ..Augmentation::none()
            }),
            "vertical_flip: 1.5 is not between 0 and 1"
        );
        assert!(
            message(Augmentation {
                scale_jitter: Some(ScaleJitter { min: 2.0, max: 1.0 }),
                ..Augmentation::none()
            })
            .starts_with("scale_jitter")
        );
        assert!(
            message(Augmentation {
                crop: Some(RandomCrop {
                    probability: 0.5,
                    min_fraction: 0.0
                }),
                ..Augmentation::none()
            })
            .starts_with("crop.min_fraction")
        );
    }
}
