//! The default recipe for own images, fitted to a dataset: input size and anchors.
//!
//! Both are computed from the training annotations alone, without random numbers, and stored in the
//! configuration of the run.
//!
//! - **Input size.** The recipe's sizes give the number of pixels of an input. Wider formats than the
//!   recipe's ratio of the long to the short side keep that number with other sides. If a tenth of the
//!   boxes would be smaller than 16 pixels (the square root of the area) or thinner than 8 in the input,
//!   the input grows until they are not, up to the size of the images and to four times the pixels.
//! - **Anchors.** See [`anchor_fit`](crate::detection::anchor_fit).

use std::fmt;

use crate::config::{ConfigError, DetectionConfig, is_set};
use crate::detection::anchor_fit::fit_anchors;
use crate::detection::coverage::input_boxes;
use sedet_data::annotations::AnnotationStore;
use sedet_data::datasets::detection::{TargetFilter, targets};

/// Side in input pixels, as the square root of the area, that nine tenths of the boxes should have: four
/// cells of the finest feature map.
const SMALL_BOX: f64 = 16.0;

/// Shorter side in input pixels that nine tenths of the boxes should have: two cells of the finest feature
/// map, on whose grid a thinner box falls between the anchors.
const THIN_BOX: f64 = 8.0;

/// Limit of the number of pixels of an input, as a multiple of the recipe's.
const LARGEST_GROWTH: f64 = 4.0;

/// Ratio of the long to the short side up to which images fit the format of a recipe, as a multiple of the
/// recipe's: the limit of the long side then costs at most a quarter of the pixels.
const TOLERATED_FORMAT: f64 = 4.0 / 3.0;

/// Sides of inputs are multiples of this, as the largest stride.
const STEP: usize = 32;

/// The changes of a recipe to fit a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fitted {
    /// The sizes of the input.
    pub input: bool,
    /// The anchors.
    pub anchors: bool,
}

impl fmt::Display for Fitted {
    /// Formats what was fitted; nothing if the recipe was suitable.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.input, self.anchors) {
            (false, false) => "",
            (true, false) => "input size fitted to the boxes",
            (false, true) => "anchors fitted to the boxes",
            (true, true) => "input size and anchors fitted to the boxes",
        })
    }
}

/// Fits input size and anchors to the boxes of a training split, except what `settings` set.
///
/// # Errors
/// See [`DetectionConfig::detector`].
pub fn fit_to_boxes(
    config: &mut DetectionConfig,
    store: &AnnotationStore,
    settings: &[String],
) -> Result<Fitted, ConfigError> {
    let mut fitted = Fitted::default();
    let sets = |key: &str| is_set(settings, key);
    if !["input.min_size", "input.max_size", "augment.min_sizes"]
        .into_iter()
        .any(sets)
        && let Some((min_size, max_size)) = input_size(config, store)
    {
        fitted.input = (min_size, max_size) != (config.input.min_size, config.input.max_size);
        config.input.min_size = min_size;
        config.input.max_size = max_size;
    }
    if !sets("model.overrides.anchors") {
        let anchors = config.detector(1, false)?.anchors;
        let min_side = TargetFilter::default().min_side;
        let boxes = input_boxes(store, &config.preprocess(), min_side);
        if let Some(fit) = fit_anchors(&anchors, &boxes)
            && fit.anchors != anchors
        {
            fitted.anchors = true;
            config.set_anchors(&fit.anchors);
        }
    }
    Ok(fitted)
}

/// Returns the short side and the limit of the long side for the images of a dataset. Returns none without
/// boxes.
fn input_size(config: &DetectionConfig, store: &AnnotationStore) -> Option<(usize, usize)> {
    let (mut shorts, mut ratios) = (Vec::new(), Vec::new());
    let (mut sizes, mut thicknesses) = (Vec::new(), Vec::new());
    for index in 0..store.image_count() {
        let size = store.image(index).size;
        let short = size.width.min(size.height) as f64;
        shorts.push(short);
        ratios.push(size.width.max(size.height) as f64 / short);
        // Relative to the short side, so that images of different sizes are comparable.
        for (found, _) in targets(store, index, TargetFilter::default().min_side) {
            sizes.push(f64::from(found.area()).sqrt() / short);
            thicknesses.push(f64::from(found.width().min(found.height())) / short);
        }
    }
    let short = at(&mut shorts, 0.5)?;
    let needed = (SMALL_BOX / at(&mut sizes, 0.1)?).max(THIN_BOX / at(&mut thicknesses, 0.1)?);
    let ratio = at(&mut ratios, 0.5)?;
    let (min_size, max_size) = (config.input.min_size, config.input.max_size);
    let pixels = (min_size * max_size) as f64;
    let recipe_ratio = max_size as f64 / min_size as f64;
    let fits_format = ratio <= recipe_ratio * TOLERATED_FORMAT;
    let ratio = ratio.max(recipe_ratio);
    let side_of = |pixels: f64| (pixels / ratio).sqrt();
    let base = if fits_format {
        max_size as f64 / ratio
    } else {
        side_of(pixels)
    };
    let most = side_of(LARGEST_GROWTH * pixels).min(short).max(base);
    let wanted = needed.clamp(base, most);
    if fits_format && wanted <= base {
        return Some((min_size, max_size));
    }
    let steps = |side: f64| ((side / STEP as f64).round() as usize).max(1) * STEP;
    let min_size = steps(wanted);
    let max_size = (min_size as f64 * ratio).ceil() as usize;
    Some((min_size, max_size.next_multiple_of(STEP)))
}

/// Returns the value below which a share of the values is; none without values.
fn at(values: &mut [f64], share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    values.get((share * last as f64).round() as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Recipe as _;
    use crate::detection::anchor_fit::WANTED_RECALL;
    use crate::detection::coverage::AnchorRecall;
    use sedet_data::annotations::{AnnotationStoreBuilder, NewAnnotation};
    use sedet_data::boxes::ImageSize;

    /// Returns images of one size with a box each, whose sides repeat.
    fn store(size: (usize, usize), sides: &[(f32, f32)]) -> AnnotationStore {
        let (width, height) = size;
        let mut builder = AnnotationStoreBuilder::new();
        builder.add_category(1, "thing");
        for id in 1..=200u64 {
            let (w, h) = sides[id as usize % sides.len()];
            let place = (id * 37 % 100) as f32 / 100.0;
            builder.add_image(id, &format!("{id}.png"), ImageSize::new(height, width));
            builder.add_annotation(NewAnnotation {
                id,
                image_id: id,
                category_id: 1,
                xywh: [
                    place * (width as f32 - w),
                    (1.0 - place) * (height as f32 - h),
                    w,
                    h,
                ],
                area: None,
                is_crowd: false,
            });
        }
        builder.build().unwrap()
    }

    fn load(settings: &[&str]) -> (DetectionConfig, Vec<String>) {
        let settings: Vec<String> = settings.iter().map(|s| s.to_string()).collect();
        (DetectionConfig::load("small", &settings).unwrap(), settings)
    }

    fn recall(config: &DetectionConfig, store: &AnnotationStore) -> f64 {
        let anchors = config.detector(1, false).unwrap().anchors;
        let boxes = input_boxes(store, &config.preprocess(), 1.0);
        AnchorRecall::of(&anchors, &boxes).unwrap().at_iou_50
    }

    #[test]
    fn a_recipe_that_suits_the_dataset_stays_as_it_is() {
        let (mut config, settings) = load(&[]);
        let before = config.clone();
        let usual = store((640, 480), &[(60.0, 50.0), (120.0, 100.0), (200.0, 220.0)]);
        let fitted = fit_to_boxes(&mut config, &usual, &settings).unwrap();
        assert_eq!((fitted, config), (Fitted::default(), before));
    }

    #[test]
    fn wide_images_keep_the_number_of_pixels_and_their_boxes_get_anchors() {
        let (mut config, settings) = load(&[]);
        let wide = store(
            (1600, 256),
            &[(300.0, 40.0), (180.0, 16.0), (90.0, 60.0), (30.0, 200.0)],
        );
        let before = recall(&config, &wide);
        let fitted = fit_to_boxes(&mut config, &wide, &settings).unwrap();
        assert!(fitted.input && fitted.anchors);
        let (min, max) = (config.input.min_size, config.input.max_size);
        assert!(max >= 6 * min && min * max < 700_000, "{min} {max}");
        assert!(
            before < 0.9 && recall(&config, &wide) >= WANTED_RECALL,
            "{before}"
        );
        // What is written is what is used.
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), config.to_toml().unwrap()).unwrap();
        let read = DetectionConfig::load(file.path().to_str().unwrap(), &[]).unwrap();
        assert_eq!(read, config);
    }

    #[test]
    fn small_boxes_enlarge_the_input_up_to_a_limit() {
        let sizes = |side: f32| {
            let (mut config, settings) = load(&[]);
            let store = store((1920, 1080), &[(side, side)]);
            fit_to_boxes(&mut config, &store, &settings).unwrap();
            (config.input.min_size, config.input.max_size)
        };
        assert_eq!(sizes(100.0), (320, 512));
        let (min, max) = sizes(30.0);
        assert!((560..=592).contains(&min) && max > 950, "{min} {max}");
        let (min, max) = sizes(4.0);
        assert!(min * max <= 4 * 320 * 512 * 11 / 10, "{min} {max}");
    }

    #[test]
    fn what_the_user_sets_is_kept() {
        let wide = store((1600, 256), &[(300.0, 12.0)]);
        let (mut config, settings) = load(&[
            "input.min_size=128",
            "model.overrides.anchors.rounded=false",
        ]);
        let before = config.clone();
        let fitted = fit_to_boxes(&mut config, &wide, &settings).unwrap();
        assert_eq!((fitted, config), (Fitted::default(), before));
    }
}
