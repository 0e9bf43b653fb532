//! The embedded data set: a seeded generator of photograph-like detection scenes.
//!
//! Six solids (ball, box, cylinder, ring, star, cone) are ray-traced with paint, light, perspective
//! and shadows, placed before textured places with clutter that is no class, and photographed with
//! blur, exposure, sensor noise and JPEG compression. It needs no download, so a detector can be
//! trained and measured anywhere.
//!
//! What the annotations mean, as in COCO:
//! - a box is the tightest around the **visible** part of an object: what other objects, thin
//!   foreground lines and the image border hide is outside (a pixel belongs to an object from half
//!   coverage on);
//! - `area` is the number of visible pixels;
//! - a dense group of one class is one region with `iscrowd`; its members are not annotated
//!   one by one.
//!
//! Every scene depends only on (seed, split, index): not on the order of generation, nor on the
//! number of threads. Geometry and paint use only operations that IEEE 754 defines exactly, so
//! machines agree; the JPEG step is as deterministic as the `image` crate.

mod background;
mod camera;
mod canvas;
mod clutter;
mod dice;
mod material;
mod math;
mod noise;
mod scene;
mod solids;
mod sprite;
mod writer;

use std::path::PathBuf;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::boxes::{BoxXyxy, ImageSize};

use camera::Camera;
use dice::{Dice, Purpose};
use scene::Composition;

pub use writer::write_dataset;

/// The classes; a [`SceneObject::class_index`] points here.
pub const CLASS_NAMES: [&str; 6] = ["ball", "box", "cylinder", "ring", "star", "cone"];

/// The COCO category id of each class. Not contiguous, as COCO's own are not.
pub const CATEGORY_IDS: [u64; 6] = [1, 2, 3, 5, 8, 13];

/// Smallest and largest accepted [`ShapesConfig::long_side`].
pub const LONG_SIDE_LIMITS: (u32, u32) = (64, 2048);

/// What to generate. [`Default`] holds the values of `--dataset shapes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShapesConfig {
    /// Another seed gives another data set.
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
            train_images: 1200,
            val_images: 200,
            long_side: 256,
        }
    }
}

impl ShapesConfig {
    /// Check the values a person may have set.
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

    /// Number of scenes of a split.
    pub fn image_count(&self, split: Split) -> usize {
        match split {
            Split::Train => self.train_images,
            Split::Val => self.val_images,
        }
    }

    /// The long side kept inside its limits, so that drawing never fails.
    fn drawn_long_side(&self) -> usize {
        let (low, high) = LONG_SIDE_LIMITS;
        self.long_side.clamp(low, high) as usize
    }
}

/// Which part of the data set. The two never share a scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// For training.
    Train,
    /// For validation.
    Val,
}

impl std::fmt::Display for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Val => "val",
        })
    }
}

/// A picture with its annotations.
#[derive(Debug, Clone)]
pub struct Scene {
    /// As decoded from the scene's JPEG file.
    pub image: RgbImage,
    /// From the back of the scene to its front; may be empty.
    pub objects: Vec<SceneObject>,
}

/// One annotation.
#[derive(Debug, Clone, PartialEq)]
pub struct SceneObject {
    /// Index in [`CLASS_NAMES`].
    pub class_index: usize,
    /// Around the visible part, in pixels of the image; whole numbers.
    pub box_in_image: BoxXyxy,
    /// Visible pixels.
    pub area: f32,
    /// A group of this class instead of one object.
    pub iscrowd: bool,
}

/// Why a data set could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ShapesError {
    /// [`ShapesConfig::long_side`] is out of range.
    #[error(
        "shapes: long_side is {long_side}, choose {} to {} pixels",
        LONG_SIDE_LIMITS.0,
        LONG_SIDE_LIMITS.1
    )]
    LongSide {
        /// The refused value.
        long_side: u32,
    },
    /// A split has no images.
    #[error("shapes: {split}_images is 0, choose at least 1")]
    NoImages {
        /// The empty split.
        split: Split,
    },
    /// A file or folder could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// What was being written.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// Draw scene `index` of a split. Any index works, also beyond the configured number of images.
///
/// A `long_side` outside [`LONG_SIDE_LIMITS`] is drawn at the nearest limit; see
/// [`ShapesConfig::validate`].
pub fn generate_scene(config: &ShapesConfig, split: Split, index: usize) -> Scene {
    let composition = Composition::new(config, split, index);
    let image = camera::decode(&photograph(&composition, config, split, index));
    Scene {
        image,
        objects: composition.objects(),
    }
}

/// The size and annotations of [`generate_scene`] without painting the picture, at about a quarter
/// of the cost.
pub fn generate_annotations(
    config: &ShapesConfig,
    split: Split,
    index: usize,
) -> (ImageSize, Vec<SceneObject>) {
    let composition = Composition::new(config, split, index);
    (composition.size(), composition.objects())
}

/// The JPEG file of a composed scene.
fn photograph(
    composition: &Composition,
    config: &ShapesConfig,
    split: Split,
    index: usize,
) -> Vec<u8> {
    let canvas = composition.paint(config, split, index);
    let mut dice = Dice::new(config.seed, split, index, Purpose::Camera);
    Camera::sample(&mut dice).jpeg(canvas, &mut dice)
}
