//! Masks among the images of classes: `a_mask.png` beside `a.png`.
//!
//! The name says what may be a mask, and the pixels of a few images of each class whether it is one: faces that wear masks
//! are photographs. A mask has equal channels and few values, which JPEG blurs at their edges, or the colors of a palette
//! with a black background.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use image::RgbImage;
use rayon::prelude::*;

use crate::annotations::format::without_extension;
use crate::annotations::image_files::Found;
use crate::images::decode::decode_image;
use crate::text;

/// Removes the masks beside the images of classes, and describes them.
pub(super) fn masks_beside_images(
    directory: &Path,
    classes: &[String],
    of_class: &mut [Vec<Found>],
) -> Option<String> {
    let masks: Vec<(usize, Option<String>)> = classes
        .par_iter()
        .zip(of_class)
        .map(|(class, images)| {
            let masks = masks_of(&directory.join(class), images);
            let first = masks.first().and_then(|first| images.get(*first));
            let first = first.map(|image| format!("{class}/{}", image.path()));
            let mut at = 0..;
            images.retain(|_| at.next().is_none_or(|at| !masks.contains(&at)));
            (masks.len(), first)
        })
        .collect();
    let left_out = masks.iter().map(|(masks, _)| masks).sum();
    let example = masks.into_iter().find_map(|(_, first)| first)?;
    let left_out = text::count(left_out, "mask");
    Some(format!(
        "{}: not used: {left_out} named after images beside them, such as {example}",
        directory.display()
    ))
}

/// How much a name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MaskName {
    /// `a_mask`: a mask unless its pixels are those of a photograph.
    Mask,
    /// `a_gt`: a mask only if its pixels show it.
    Perhaps,
}

/// An image that is named after another one.
struct Candidate {
    at: usize,
    path: PathBuf,
    /// The image that it is named after.
    of: PathBuf,
    name: MaskName,
}

/// Returns the positions of the masks among the images of a class.
fn masks_of(directory: &Path, images: &[Found]) -> BTreeSet<usize> {
    let named = images.iter().enumerate();
    let mut named = named
        .filter_map(|(at, image)| Some((at, image, masked_stem(&image.name)?)))
        .peekable();
    // Nearly all classes have no such names.
    if named.peek().is_none() {
        return BTreeSet::new();
    }
    let key = |within: &str, stem: String| (within.to_owned(), stem);
    let by_stem: HashMap<(String, String), &Found> = images
        .iter()
        .map(|image| (key(&image.within, stem(&image.name)), image))
        .collect();
    let candidates: Vec<Candidate> = named
        .filter_map(|(at, image, (of, name))| {
            let of = by_stem.get(&key(&image.within, of))?;
            Some(Candidate {
                at,
                path: directory.join(image.path()),
                of: directory.join(of.path()),
                name,
            })
        })
        .collect();
    let mut masks = BTreeSet::new();
    for name in [MaskName::Mask, MaskName::Perhaps] {
        let of_name = candidates.iter().filter(|found| found.name == name);
        let of_name: Vec<&Candidate> = of_name.collect();
        masks.extend(are_masks(&of_name));
    }
    masks
}

/// Returns the positions of the masks among images with names of one kind. Where the first, the middle and the last are
/// alike, so are the others.
fn are_masks(candidates: &[&Candidate]) -> Vec<usize> {
    let count = candidates.len();
    let inspected: BTreeSet<usize> = [0, count / 2, count.saturating_sub(1)].into();
    let inspected = inspected.into_iter().filter_map(|at| candidates.get(at));
    let inspected: Vec<bool> = inspected.map(|found| found.is_mask()).collect();
    let are_alike = inspected.windows(2).all(|pair| pair[0] == pair[1]);
    let is_first = inspected.first().copied().unwrap_or_default();
    candidates
        .par_iter()
        .filter(|found| if are_alike { is_first } else { found.is_mask() })
        .map(|found| found.at)
        .collect()
}

impl Candidate {
    /// Looks at the pixels; the name decides about an image that cannot be decoded.
    fn is_mask(&self) -> bool {
        let Ok(image) = decode_image(&self.path) else {
            return self.name == MaskName::Mask;
        };
        let pixels = Pixels::of(&image);
        match self.name {
            MaskName::Mask => pixels.has_few_grays() || pixels.has_palette(),
            // Drawings and letters have two values, too, but then so has the image without the word in its name.
            MaskName::Perhaps => {
                let is_drawing = || {
                    let image = decode_image(&self.of);
                    image.is_ok_and(|image| Pixels::of(&image).has_few_grays())
                };
                pixels.has_few_grays() && !is_drawing()
            }
        }
    }
}

/// Some pixels of an image.
struct Pixels(Vec<[u8; 3]>);

impl Pixels {
    fn of(image: &RgbImage) -> Self {
        /// As many show how many values there are.
        const INSPECTED: usize = 1 << 16;
        let all = image.pixels().len();
        let pixels = image.pixels().step_by(all / INSPECTED + 1);
        Self(pixels.map(|pixel| pixel.0).collect())
    }

    /// Returns whether the channels are equal and have few values: nearly all are black or white, or near a few others.
    fn has_few_grays(&self) -> bool {
        /// The noise of JPEG in flat regions, and at the edges between black and white.
        const NOISE: usize = 4;
        const EDGE_NOISE: u8 = 16;
        /// Classes of a segmentation, where JPEG has blurred them, and instances.
        const BLURRED_VALUES: usize = 4;
        const VALUES: usize = 32;
        let is_gray = |[r, g, b]: &&[u8; 3]| r.max(g).max(b) - r.min(g).min(b) <= EDGE_NOISE;
        let of_all = |count: usize, percent: usize| 100 * count >= percent * self.0.len();
        if !of_all(self.0.iter().filter(is_gray).count(), 99) {
            return false;
        }
        let mut counts = [0usize; 256];
        for [_, green, _] in &self.0 {
            counts[usize::from(*green)] += 1;
        }
        let edge = usize::from(EDGE_NOISE);
        let (dark, light) = (&counts[..=edge], &counts[255 - edge..]);
        if of_all(dark.iter().chain(light).sum(), 90)
            || counts.iter().filter(|count| **count > 0).count() <= VALUES
        {
            return true;
        }
        let mut covered = 0;
        for _ in 0..BLURRED_VALUES {
            let most = (0..256)
                .max_by_key(|value| counts[*value])
                .unwrap_or_default();
            let around = most.saturating_sub(NOISE)..=(most + NOISE).min(255);
            for count in &mut counts[around] {
                covered += std::mem::take(count);
            }
        }
        of_all(covered, 95)
    }

    /// Returns whether the colors are those of a palette, of which the background is black.
    fn has_palette(&self) -> bool {
        const COLORS: usize = 64;
        let mut colors = BTreeSet::new();
        for color in &self.0 {
            colors.insert(color);
            if colors.len() > COLORS {
                return false;
            }
        }
        colors.contains(&[0; 3]) && colors.len() > 1
    }
}

fn stem(name: &str) -> String {
    without_extension(name).to_lowercase()
}

/// Returns the name, without extension and in lower case, of the image that a mask may be named after: `a` for
/// `a_mask_1.png`.
fn masked_stem(name: &str) -> Option<(String, MaskName)> {
    const WORDS: [(&str, MaskName); 13] = [
        ("masks", MaskName::Mask),
        ("mask", MaskName::Mask),
        ("segmentation", MaskName::Mask),
        ("segm", MaskName::Perhaps),
        ("seg", MaskName::Perhaps),
        ("groundtruth", MaskName::Perhaps),
        ("gt", MaskName::Perhaps),
        ("labels", MaskName::Perhaps),
        ("label", MaskName::Perhaps),
        ("annotations", MaskName::Perhaps),
        ("annotation", MaskName::Perhaps),
        ("instances", MaskName::Perhaps),
        ("instance", MaskName::Perhaps),
    ];
    let is_between = |character: char| "_-. ".contains(character);
    let lower = stem(name);
    let unnumbered = lower.trim_end_matches(|character: char| character.is_ascii_digit());
    let unnumbered = unnumbered.trim_end_matches(is_between);
    let mut words = WORDS.iter();
    let (before, name) =
        words.find_map(|(word, name)| Some((unnumbered.strip_suffix(word)?, *name)))?;
    let of = before.trim_end_matches(is_between);
    (of.len() < before.len() && !of.is_empty()).then(|| (of.to_owned(), name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    /// A bright circle on a dark ground.
    fn circle(values: [Rgb<u8>; 2]) -> RgbImage {
        RgbImage::from_fn(64, 48, |x, y| {
            let (dx, dy) = (i64::from(x) - 30, i64::from(y) - 22);
            values[usize::from(dx * dx + dy * dy < 200)]
        })
    }

    fn mask() -> RgbImage {
        circle([Rgb([0; 3]), Rgb([255; 3])])
    }

    /// Smooth colors with the noise of a sensor.
    fn photograph() -> RgbImage {
        RgbImage::from_fn(64, 48, |x, y| {
            let noise = (x * 37 + y * 91) % 23;
            Rgb([x * 3 + noise, y * 4 + noise, 200 - x - y].map(|value| value as u8))
        })
    }

    fn gray(image: RgbImage) -> RgbImage {
        let image = image::DynamicImage::ImageRgb8(image).into_luma8();
        image::DynamicImage::ImageLuma8(image).into_rgb8()
    }

    /// Returns the names that are left, and the note.
    fn left(images: &[(&str, RgbImage)]) -> (Vec<String>, Option<String>) {
        let dir = tempfile::tempdir().unwrap();
        let class = dir.path().join("rose");
        std::fs::create_dir(&class).unwrap();
        let mut found = Vec::new();
        for (name, image) in images {
            image.save(class.join(name)).unwrap();
            found.push(Found {
                within: String::new(),
                name: (*name).to_owned(),
            });
        }
        let mut of_class = [found];
        let note = masks_beside_images(dir.path(), &["rose".to_owned()], &mut of_class);
        let [found] = of_class;
        let names = found.into_iter().map(|image| image.name);
        let start = format!("{}: not used: ", dir.path().display());
        (names.collect(), note.map(|note| note.replace(&start, "")))
    }

    #[test]
    fn photographs_that_are_called_masks_are_kept_and_masks_of_any_kind_left_out() {
        let classes = circle([Rgb([0; 3]), Rgb([3; 3])]);
        let palette = circle([Rgb([0; 3]), Rgb([128, 0, 0])]);
        for (name, image, is_mask) in [
            ("1_mask.jpg", mask(), true),
            ("1_mask.png", mask(), true),
            ("1_mask.png", classes, true),
            ("1_segmentation.png", palette, true),
            ("1_mask.jpg", photograph(), false),
            ("1_mask.jpg", gray(photograph()), false),
            (
                "1_mask.png",
                circle([Rgb([200, 30, 30]), Rgb([90, 200, 30])]),
                false,
            ),
        ] {
            let (names, note) = left(&[("1.jpg", photograph()), (name, image)]);
            assert_eq!(!names.contains(&name.to_owned()), is_mask, "{name}");
            let expected = format!("1 mask named after images beside them, such as rose/{name}");
            assert_eq!(note, is_mask.then_some(expected));
        }
    }

    #[test]
    fn each_image_is_judged_by_itself_where_the_inspected_ones_differ() {
        let (names, _) = left(&[
            ("1.png", photograph()),
            ("1_mask.png", mask()),
            ("2.png", photograph()),
            ("2_mask.png", photograph()),
            ("3.png", photograph()),
            ("3_mask.png", mask()),
            ("4.png", photograph()),
            ("4_mask.png", photograph()),
        ]);
        let expected = [
            "1.png",
            "2.png",
            "2_mask.png",
            "3.png",
            "4.png",
            "4_mask.png",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn other_words_denote_masks_only_of_images_that_look_unlike_them() {
        for word in ["seg", "gt", "label", "labels", "annotation", "instance"] {
            let name = format!("1_{word}.png");
            for (image, other, is_mask) in [
                (photograph(), mask(), true),
                (photograph(), photograph(), false),
                // Letters and drawings.
                (mask(), mask(), false),
            ] {
                let (names, note) = left(&[("1.png", image), (&name, other)]);
                assert_eq!(!names.contains(&name), is_mask, "{name}");
                assert_eq!(note.is_some(), is_mask);
            }
        }
    }
}
