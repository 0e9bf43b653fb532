//! The embedded dataset: a seeded generator of photograph-like detection scenes.
//!
//! Six solids (ball, box, cylinder, ring, star, cone) are ray-traced with paint, light, perspective
//! and shadows, placed in front of textured backgrounds with clutter of no class, and photographed
//! with blur, exposure, sensor noise and JPEG compression. It needs no download, so a detector can
//! be trained and evaluated offline.
//!
//! Annotations follow COCO:
//! - a box is the tightest around the **visible** part of an object: parts that other objects, thin
//!   foreground lines and the image border hide is outside (a pixel belongs to an object from half
//!   coverage on);
//! - `area` is the number of visible pixels;
//! - a dense group of one class is one region with `iscrowd`; its members are not annotated
//!   one by one.
//!
//! Every scene depends only on (seed, split, index): not on the order of generation, nor on the
//! number of threads. Geometry and paint use only operations that IEEE 754 defines exactly, so the
//! result is the same on all machines; the JPEG step is as deterministic as the `image` crate.

mod background;
mod camera;
mod canvas;
mod clutter;
mod material;
mod math;
mod noise;
mod rng;
mod scene;
mod solids;
mod sprite;
mod stored;
mod writer;

use std::path::PathBuf;

use image::RgbImage;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::annotations::Split;
use crate::boxes::{BoxXyxy, ImageSize};

use camera::Camera;
use rng::{Purpose, Rng};
use scene::Composition;

pub(super) use camera::decode as decode_photograph;
pub use writer::write_dataset;

/// The classes, in the order of [`SceneObject::class_index`].
pub const CLASS_NAMES: [&str; 6] = ["ball", "box", "cylinder", "ring", "star", "cone"];

/// The COCO category id of each class. They are not contiguous, as in COCO.
pub const CATEGORY_IDS: [u64; 6] = [1, 2, 3, 5, 8, 13];

/// Smallest and largest accepted [`ShapesConfig::long_side`].
pub const LONG_SIDE_LIMITS: (u32, u32) = (64, 2048);

/// Configuration of the generator. [`Default`] holds the values of `--dataset shapes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShapesConfig {
    /// The seed of the dataset.
    pub seed: u64,
    /// Number of training scenes.
    pub train_images: usize,
    /// Number of validation scenes.
    pub val_images: usize,
    /// Longer side of every image in pixels; the shorter is 0.625 to 1 times as long.
    pub long_side: u32,
}

impl Default for ShapesConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            train_images: 6000,
            val_images: 200,
            long_side: 256,
        }
    }
}

impl ShapesConfig {
    /// Validates the configuration.
    ///
    /// # Errors
    /// [`ShapesError::LongSide`] outside [`LONG_SIDE_LIMITS`], [`ShapesError::NoImages`] when a
    /// split would be empty.
    pub fn validate(&self) -> Result<(), ShapesError> {
        let (low, high) = LONG_SIDE_LIMITS;
        if !(low..=high).contains(&self.long_side) {
            return Err(ShapesError::LongSide {
                long_side: self.long_side,
            });
        }
        for split in [Split::Train, Split::Val] {
            if self.image_count(split) == 0 {
                return Err(ShapesError::NoImages { split });
            }
        }
        Ok(())
    }

    /// Returns the number of scenes of a split; there is no test split.
    pub fn image_count(&self, split: Split) -> usize {
        match split {
            Split::Train => self.train_images,
            Split::Val => self.val_images,
            Split::Test => 0,
        }
    }

    /// Returns the id of an image, the same in memory and in a written dataset: train is counted
    /// from 1, and val continues after it.
    pub fn image_id(&self, split: Split, index: usize) -> u64 {
        let before = match split {
            Split::Train => 0,
            Split::Val => self.train_images,
            Split::Test => self.train_images + self.val_images,
        };
        (before + index + 1) as u64
    }

    /// Returns the long side clamped to its limits, so that drawing never fails.
    fn drawn_long_side(&self) -> usize {
        let (low, high) = LONG_SIDE_LIMITS;
        self.long_side.clamp(low, high) as usize
    }
}

/// An image with its annotations.
#[derive(Debug, Clone)]
pub struct Scene {
    /// The pixels, decoded from the scene's JPEG file.
    pub image: RgbImage,
    /// The annotations from the back of the scene to the front; may be empty.
    pub objects: Vec<SceneObject>,
}

/// An annotation.
#[derive(Debug, Clone, PartialEq)]
pub struct SceneObject {
    /// Index in [`CLASS_NAMES`].
    pub class_index: usize,
    /// The box around the visible part, in pixels of the image; whole numbers.
    pub box_in_image: BoxXyxy,
    /// Number of visible pixels.
    pub area: f32,
    /// Whether it is a group of this class instead of one object.
    pub iscrowd: bool,
}

/// The reason why a dataset could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ShapesError {
    /// [`ShapesConfig::long_side`] is out of range.
    #[error(
        "shapes: long_side is {long_side}; it must be {} to {} pixels",
        LONG_SIDE_LIMITS.0,
        LONG_SIDE_LIMITS.1
    )]
    LongSide {
        /// The refused value.
        long_side: u32,
    },
    /// A split has no images.
    #[error("shapes: {split}_images is 0; it must be at least 1")]
    NoImages {
        /// The empty split.
        split: Split,
    },
    /// A file or directory could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
}

/// Returns the name of an image's file in a written dataset.
pub(super) fn file_name(image_id: u64) -> String {
    format!("{image_id:012}.jpg")
}

/// Returns the id of the annotation at this position in [`Scene::objects`].
pub(super) fn annotation_id(image_id: u64, place: usize) -> u64 {
    // A scene has at most `scene::MAX_OBJECTS`, fewer than 100.
    100 * image_id + place as u64
}

/// Generates scene `index` of a split. Any index is valid, also beyond the configured number of
/// images.
///
/// A `long_side` outside [`LONG_SIDE_LIMITS`] is drawn at the nearest limit; see
/// [`ShapesConfig::validate`].
pub fn generate_scene(config: &ShapesConfig, split: Split, index: usize) -> Scene {
    let composition = Composition::new(config, split, index);
    let image = decode_photograph(&photograph(&composition, config, split, index));
    Scene {
        image,
        objects: composition.objects(),
    }
}

/// Computes the size and annotations of [`generate_scene`] without painting the image, at about a
/// quarter of the cost.
pub(crate) fn generate_annotations(
    config: &ShapesConfig,
    split: Split,
    index: usize,
) -> (ImageSize, Vec<SceneObject>) {
    let composition = Composition::new(config, split, index);
    (composition.size(), composition.objects())
}

/// Returns size and annotations of every scene of a split. Those of the default scenes are stored with the
/// program; others are computed, which takes milliseconds per scene.
pub(crate) fn split_annotations(
    config: &ShapesConfig,
    split: Split,
) -> Vec<(ImageSize, Vec<SceneObject>)> {
    stored::annotations(config, split).unwrap_or_else(|| {
        (0..config.image_count(split))
            .into_par_iter()
            .map(|index| generate_annotations(config, split, index))
            .collect()
    })
}

/// Generates the JPEG file of scene `index`; [`decode_photograph`] decodes it to the image of
/// [`generate_scene`].
pub(super) fn photograph_scene(config: &ShapesConfig, split: Split, index: usize) -> Vec<u8> {
    let composition = Composition::new(config, split, index);
    photograph(&composition, config, split, index)
}

/// Renders the JPEG file of a composed scene.
fn photograph(
    composition: &Composition,
    config: &ShapesConfig,
    split: Split,
    index: usize,
) -> Vec<u8> {
    let canvas = composition.paint(config, split, index);
    let mut rng = Rng::new(config.seed, split, index, Purpose::Camera);
    Camera::sample(&mut rng).jpeg(canvas, &mut rng)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(split: Split, count: usize) -> Vec<(ImageSize, Vec<SceneObject>)> {
        let config = ShapesConfig::default();
        (0..count)
            .into_par_iter()
            .map(|index| generate_annotations(&config, split, index))
            .collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_in_any_order_and_on_any_thread() {
        let config = ShapesConfig::default();
        let forward: Vec<Scene> = (0..6)
            .map(|i| generate_scene(&config, Split::Train, i))
            .collect();
        let mut backward: Vec<Scene> = (0..6usize)
            .into_par_iter()
            .rev()
            .map(|i| generate_scene(&config, Split::Train, i))
            .collect();
        backward.reverse();
        for (a, b) in forward.iter().zip(&backward) {
            assert_eq!(a.image, b.image);
            assert_eq!(a.objects, b.objects);
        }
    }

    #[test]
    fn seeds_splits_and_indices_give_different_images() {
        let config = ShapesConfig::default();
        let other_seed = ShapesConfig {
            seed: 1,
            ..config.clone()
        };
        let base = generate_scene(&config, Split::Train, 3).image;
        assert_ne!(base, generate_scene(&config, Split::Val, 3).image);
        assert_ne!(base, generate_scene(&config, Split::Train, 4).image);
        assert_ne!(base, generate_scene(&other_seed, Split::Train, 3).image);
    }

    #[test]
    fn annotations_alone_equal_those_of_the_whole_scene() {
        let config = ShapesConfig::default();
        for index in 0..12 {
            let scene = generate_scene(&config, Split::Val, index);
            let (size, objects) = generate_annotations(&config, Split::Val, index);
            assert_eq!(scene.objects, objects);
            let (width, height) = scene.image.dimensions();
            assert_eq!((size.width, size.height), (width as usize, height as usize));
        }
    }

    /// A change here is a change of the published dataset: raise the version in the key of
    /// [`Rng`] and record it in the change log.
    #[test]
    fn the_first_scenes_stay_as_published() {
        let mut sum = 0u64;
        for (size, objects) in annotations(Split::Val, 40) {
            let mut add = |v: f32| sum = sum.wrapping_mul(1_000_003).wrapping_add(v as u64);
            add(size.width as f32);
            for object in objects {
                add(object.class_index as f32);
                object.box_in_image.to_xywh().into_iter().for_each(&mut add);
                add(object.area);
            }
        }
        assert_eq!(sum, 12_580_615_972_955_682_566);
    }

    #[test]
    fn boxes_are_inside_the_image_and_are_tight_around_the_mask() {
        let config = ShapesConfig::default();
        for index in 0..60 {
            let composition = Composition::new(&config, Split::Train, index);
            let size = composition.size();
            for (owner, object) in composition.annotated() {
                // Decode the run lengths, as a COCO tool does.
                let (mut pixel, mut area) = (0, 0);
                let (mut x1, mut y1, mut x2, mut y2) = (usize::MAX, usize::MAX, 0, 0);
                for (i, run) in composition.run_lengths(owner).into_iter().enumerate() {
                    for p in pixel..pixel + run as usize {
                        if i % 2 == 1 {
                            let (x, y) = (p / size.height, p % size.height);
                            (x1, y1) = (x1.min(x), y1.min(y));
                            (x2, y2) = (x2.max(x + 1), y2.max(y + 1));
                            area += 1;
                        }
                    }
                    pixel += run as usize;
                }
                assert_eq!(pixel, size.width * size.height);
                assert_eq!(object.area, area as f32);
                let expected = BoxXyxy::new(x1 as f32, y1 as f32, x2 as f32, y2 as f32);
                assert_eq!(object.box_in_image, expected);
                assert_eq!(object.box_in_image.clip(size), expected);
            }
        }
    }

    #[test]
    fn no_object_is_mostly_hidden_and_no_scene_is_overfull() {
        let config = ShapesConfig::default();
        for index in 0..200 {
            let composition = Composition::new(&config, Split::Train, index);
            assert!(composition.objects().len() <= scene::MAX_OBJECTS);
            for share in composition.visible_shares().into_iter().flatten() {
                assert!(
                    share >= scene::MIN_VISIBLE,
                    "scene {index}: {share} of an object shows"
                );
            }
        }
    }

    #[test]
    fn the_mix_of_scenes_is_as_described() {
        let scenes = annotations(Split::Train, 300);
        let mut per_class = [0usize; CLASS_NAMES.len()];
        let (mut empty, mut crowds, mut small, mut large, mut portrait) = (0, 0, 0, 0, 0);
        for (size, objects) in &scenes {
            assert_eq!(size.width.max(size.height), 256);
            assert!((160..=256).contains(&size.width.min(size.height)));
            portrait += usize::from(size.height > size.width);
            empty += usize::from(objects.is_empty());
            for object in objects {
                if object.iscrowd {
                    crowds += 1;
                    continue;
                }
                per_class[object.class_index] += 1;
                let b = object.box_in_image;
                let side = b.width().max(b.height());
                small += usize::from(side <= 18.0);
                large += usize::from(side > 128.0);
            }
        }
        let total: usize = per_class.iter().sum();
        assert!(total > 700, "{total} objects");
        for (name, count) in CLASS_NAMES.iter().zip(per_class) {
            let share = count as f32 / total as f32;
            assert!((0.11..0.23).contains(&share), "{name}: {share}");
        }
        assert!((4..30).contains(&empty), "{empty} empty scenes");
        assert!((6..35).contains(&crowds), "{crowds} crowds");
        assert!(small > 3, "{small} small objects");
        assert!(large > 30, "{large} large objects");
        assert!((60..240).contains(&portrait), "{portrait} portraits");
    }

    #[test]
    fn images_are_neither_black_nor_white_nor_flat() {
        let config = ShapesConfig::default();
        for index in 0..20 {
            let image = generate_scene(&config, Split::Val, index).image;
            let n = image.len() as f32;
            let mean = image.iter().map(|&v| f32::from(v)).sum::<f32>() / n;
            let spread = image
                .iter()
                .map(|&v| (f32::from(v) - mean).abs())
                .sum::<f32>()
                / n;
            assert!((25.0..230.0).contains(&mean), "scene {index}: mean {mean}");
            assert!(spread > 3.0, "scene {index}: spread {spread}");
        }
    }

    #[test]
    fn values_that_cannot_work_are_refused_by_name() {
        let tiny = ShapesConfig {
            long_side: 10,
            ..ShapesConfig::default()
        };
        let message = tiny.validate().unwrap_err().to_string();
        assert!(message.contains("long_side is 10"), "{message}");
        // Drawn at the limit.
        assert_eq!(
            generate_annotations(&tiny, Split::Val, 0)
                .0
                .width
                .max(generate_annotations(&tiny, Split::Val, 0).0.height),
            64
        );
        let none = ShapesConfig {
            val_images: 0,
            ..ShapesConfig::default()
        };
        let message = none.validate().unwrap_err().to_string();
        assert!(message.contains("val_images is 0"), "{message}");
    }
}
