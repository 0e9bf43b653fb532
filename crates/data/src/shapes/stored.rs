//! The annotations of the default scenes, stored with the program.
//!
//! Computing them means to trace every object of every scene, which takes longer than a user waits for the
//! first line of a training. They are a fact of the published dataset that never changes. A test compares
//! them with the generator; with `UPDATE_SHAPES=1` it writes the file again.

use std::io::Read as _;

use flate2::read::ZlibDecoder;

use crate::annotations::Split;
use crate::boxes::{BoxXyxy, ImageSize};
use crate::shapes::{SceneObject, ShapesConfig};

/// The scenes of train, then those of val: per scene width, height (two bytes each) and the number of
/// objects (one byte); per object its class, with the highest bit for a crowd (one byte), the box `x, y,
/// width, height` (two bytes each) and the area (four bytes). Little-endian, compressed with zlib.
const STORED: &[u8] = include_bytes!("default-annotations.zlib");

/// The bit of the class byte that marks a crowd.
const CROWD: u8 = 0x80;

/// Returns the stored annotations of the first scenes of a split. Returns none for scenes that are not
/// stored: of another seed or size, or beyond the default number.
pub(super) fn annotations(
    config: &ShapesConfig,
    split: Split,
) -> Option<Vec<(ImageSize, Vec<SceneObject>)>> {
    let default = ShapesConfig::default();
    let is_default = (config.seed, config.long_side) == (default.seed, default.long_side);
    let count = config.image_count(split);
    if !is_default || count > default.image_count(split) {
        return None;
    }
    let mut bytes = Vec::new();
    ZlibDecoder::new(STORED).read_to_end(&mut bytes).ok()?;
    let before = match split {
        Split::Train => 0,
        Split::Val => default.train_images,
        Split::Test => return None,
    };
    let mut reader = Reader(&bytes);
    for _ in 0..before {
        reader.scene()?;
    }
    (0..count).map(|_| reader.scene()).collect()
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn short(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn scene(&mut self) -> Option<(ImageSize, Vec<SceneObject>)> {
        let (width, height) = (self.short()?, self.short()?);
        let [objects] = self.take()?;
        let objects = (0..objects).map(|_| self.object()).collect::<Option<_>>()?;
        let size = ImageSize::new(usize::from(height), usize::from(width));
        Some((size, objects))
    }

    fn object(&mut self) -> Option<SceneObject> {
        let [class] = self.take()?;
        let xywh = [self.short()?, self.short()?, self.short()?, self.short()?];
        Some(SceneObject {
            class_index: usize::from(class & !CROWD),
            box_in_image: BoxXyxy::from_xywh(xywh.map(f32::from)),
            area: u32::from_le_bytes(self.take()?) as f32,
            iscrowd: class & CROWD != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::ZlibEncoder;
    use rayon::prelude::*;

    use super::*;
    use crate::shapes::generate_annotations;

    fn write(scenes: &[(ImageSize, Vec<SceneObject>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (size, objects) in scenes {
            for side in [size.width, size.height] {
                bytes.extend((side as u16).to_le_bytes());
            }
            bytes.push(objects.len() as u8);
            for object in objects {
                let crowd = if object.iscrowd { CROWD } else { 0 };
                bytes.push(object.class_index as u8 | crowd);
                for value in object.box_in_image.to_xywh() {
                    bytes.extend((value as u16).to_le_bytes());
                }
                bytes.extend((object.area as u32).to_le_bytes());
            }
        }
        bytes
    }

    fn generated(split: Split, scenes: &[usize]) -> Vec<(ImageSize, Vec<SceneObject>)> {
        let config = ShapesConfig::default();
        scenes
            .par_iter()
            .map(|&index| generate_annotations(&config, split, index))
            .collect()
    }

    #[test]
    fn the_stored_annotations_are_those_of_the_generator() {
        let config = ShapesConfig::default();
        let splits = [Split::Train, Split::Val];
        if std::env::var_os("UPDATE_SHAPES").is_some() {
            let bytes = splits.map(|split| {
                let all: Vec<usize> = (0..config.image_count(split)).collect();
                write(&generated(split, &all))
            });
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(&bytes.concat()).unwrap();
            let path = concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/src/shapes/default-annotations.zlib"
            );
            std::fs::write(path, encoder.finish().unwrap()).unwrap();
            return;
        }
        for split in splits {
            let stored = annotations(&config, split).unwrap();
            assert_eq!(stored.len(), config.image_count(split));
            // All of them would take as long as the file saves.
            let some: Vec<usize> = (0..stored.len()).step_by(101).collect();
            for (index, expected) in some.iter().zip(generated(split, &some)) {
                assert_eq!(stored[*index], expected, "{split} {index}");
            }
        }
    }

    #[test]
    fn other_scenes_are_not_stored() {
        let stored = |change: fn(&mut ShapesConfig)| {
            let mut config = ShapesConfig::default();
            change(&mut config);
            annotations(&config, Split::Val).is_some()
        };
        assert!(stored(|config| config.val_images = 3));
        assert!(!stored(|config| config.val_images += 1));
        assert!(!stored(|config| config.seed = 1));
        assert!(!stored(|config| config.long_side = 128));
    }
}
