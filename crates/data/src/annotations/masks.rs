//! Masks among images: `a_mask.png`, `mask_a.png`, or `a.png` beside `a.jpg`.
//!
//! The name says what may be a mask, and the pixels of a few images of each directory whether it is one: faces that wear
//! masks are photographs. A mask has large regions of one value each: few grays, which JPEG blurs at their edges, or the
//! colors of a palette with a black background. In a photograph, however dim, neighboring pixels differ by small steps.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use image::RgbImage;
use rayon::prelude::*;

use crate::annotations::format::without_extension;
use crate::annotations::image_files::{Found, has_extension};
use crate::images::decode::decode_image;
use crate::text;

/// Removes the masks beside the images of classes, and describes them.
pub(crate) fn masks_beside_images(
    directory: &Path,
    classes: &[String],
    of_class: &mut [Vec<Found>],
) -> Option<String> {
    let masks: Vec<(usize, Option<String>)> = classes
        .par_iter()
        .zip(of_class)
        .map(|(class, images)| {
            let masks = masks_of(&directory.join(class), images, &|_| false);
            let first = masks.first().and_then(|first| images.get(*first));
            let first = first.map(|image| format!("{class}/{}", image.path()));
            let mut at = 0..;
            images.retain(|_| at.next().is_none_or(|at| !masks.contains(&at)));
            (masks.len(), first)
        })
        .collect();
    let left_out = masks.iter().map(|(masks, _)| masks).sum();
    let example = masks.into_iter().find_map(|(_, first)| first)?;
    Some(described(directory, left_out, &example))
}

/// Removes the masks from the images of a directory, and returns their paths with a note that describes them. An image that
/// is called a mask is used if it is labeled itself.
pub(crate) fn without_masks(
    directory: &Path,
    images: &mut Vec<Found>,
    is_labeled: &(dyn Fn(&Path) -> bool + Sync),
) -> (Vec<PathBuf>, Option<String>) {
    let masks = masks_of(directory, images, is_labeled);
    let names = masks.iter().filter_map(|at| Some(images.get(*at)?.path()));
    let names: Vec<String> = names.collect();
    let mut at = 0..;
    images.retain(|_| at.next().is_none_or(|at| !masks.contains(&at)));
    let note = names
        .first()
        .map(|first| described(directory, names.len(), first));
    let paths = names.iter().map(|name| directory.join(name));
    (paths.collect(), note)
}

fn described(directory: &Path, masks: usize, example: &str) -> String {
    let masks = text::count(masks, "mask");
    format!(
        "{}: not used: {masks} named after images beside them, such as {example}",
        directory.display()
    )
}

/// How much a name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MaskName {
    /// `a_mask`: a mask unless its pixels are those of a photograph.
    Mask,
    /// `a_gt`, or `a.png` beside `a.jpg`: a mask only if its pixels show it.
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

/// Returns the positions of the masks among the images below a directory. `is_labeled` says of the path of an image whether
/// it has annotations of its own.
fn masks_of(
    directory: &Path,
    images: &[Found],
    is_labeled: &(dyn Fn(&Path) -> bool + Sync),
) -> BTreeSet<usize> {
    // Nearly all directories have no such names.
    let is_jpeg = |image: &Found| {
        let mut extensions = ["jpg", "jpeg"].iter();
        extensions.any(|extension| has_extension(Path::new(&image.name), extension))
    };
    let has_others = images.iter().any(is_jpeg) && !images.iter().all(is_jpeg);
    if !has_others
        && images
            .iter()
            .all(|image| masked_stems(&image.name).is_empty())
    {
        return BTreeSet::new();
    }
    let mut by_stem: HashMap<(&str, String), Vec<usize>> = HashMap::new();
    for (at, image) in images.iter().enumerate() {
        let key = (image.within.as_str(), stem(&image.name));
        by_stem.entry(key).or_default().push(at);
    }
    let candidate = |at: usize, of: usize, name| Candidate {
        at,
        path: directory.join(images[at].path()),
        of: directory.join(images[of].path()),
        name,
    };
    let mut candidates = Vec::new();
    for (at, image) in images.iter().enumerate() {
        let named_after = masked_stems(&image.name).into_iter();
        let mut named_after = named_after.filter_map(|(of, name)| {
            let of = by_stem.get(&(image.within.as_str(), of))?;
            Some((*of.first()?, name))
        });
        if let Some((of, name)) = named_after.next() {
            let found = candidate(at, of, name);
            candidates.extend((!is_labeled(&found.path)).then_some(found));
            continue;
        }
        // The annotations of `a.jpg` are those of `a.png`, too.
        let same = by_stem.get(&(image.within.as_str(), stem(&image.name)));
        let mut same = same.into_iter().flatten();
        let photograph = same.find(|of| is_jpeg(&images[**of]) && !is_jpeg(image));
        candidates.extend(photograph.map(|of| candidate(at, *of, MaskName::Perhaps)));
    }
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
        let is_mask = Pixels::of(&image).are_of_mask();
        // Drawings and letters have few values, too, but then so has the image that they are named after.
        let is_drawing = || {
            let image = decode_image(&self.of);
            image.is_ok_and(|image| Pixels::of(&image).are_of_mask())
        };
        is_mask && (self.name == MaskName::Mask || !is_drawing())
    }
}

/// Some pixels of an image, and how they differ from their neighbors.
struct Pixels {
    colors: Vec<[u8; 3]>,
    /// The number of pairs of neighbors, of those that are equal, and of those whose gray differs by a small step.
    pairs: usize,
    equal: usize,
    small_steps: usize,
}

impl Pixels {
    fn of(image: &RgbImage) -> Self {
        /// As many show how many values there are.
        const INSPECTED: usize = 1 << 16;
        /// The noise of a sensor, and a smooth gradient.
        const SMALL: u8 = 2;
        let (width, height) = image.dimensions();
        let all = image.pixels().len();
        let mut found = Self {
            colors: Vec::new(),
            pairs: 0,
            equal: 0,
            small_steps: 0,
        };
        for (x, y, pixel) in image.enumerate_pixels().step_by(all / INSPECTED + 1) {
            found.colors.push(pixel.0);
            for (right, below) in [(x + 1, y), (x, y + 1)] {
                if right < width && below < height {
                    let neighbor = image.get_pixel(right, below);
                    found.pairs += 1;
                    found.equal += usize::from(neighbor == pixel);
                    let step = neighbor.0[1].abs_diff(pixel.0[1]);
                    found.small_steps += usize::from(neighbor != pixel && step <= SMALL);
                }
            }
        }
        found
    }

    fn are_of_mask(&self) -> bool {
        self.has_few_grays() || self.has_palette()
    }

    /// Returns whether at least some of the pairs of neighbors are equal: masks have regions of one value.
    fn has_regions(&self, percent: usize) -> bool {
        100 * self.equal >= percent * self.pairs
    }

    /// Returns whether the channels are equal and have few values: nearly all are black or white, or near a few others.
    fn has_few_grays(&self) -> bool {
        /// The noise of JPEG in flat regions, and at the edges between black and white.
        const NOISE: usize = 4;
        const EDGE_NOISE: u8 = 16;
        /// Classes of a segmentation, where JPEG has blurred them, and instances.
        const BLURRED_VALUES: usize = 4;
        const VALUES: usize = 32;
        /// More values that follow each other in small steps are a smooth gradient.
        const CLASSES: usize = 8;
        /// The values that JPEG leaves apart.
        const APART: usize = 32;
        let is_gray = |[r, g, b]: &&[u8; 3]| r.max(g).max(b) - r.min(g).min(b) <= EDGE_NOISE;
        let of_all = |count: usize, percent: usize| 100 * count >= percent * self.colors.len();
        if !of_all(self.colors.iter().filter(is_gray).count(), 99) {
            return false;
        }
        let mut counts = [0usize; 256];
        for [_, green, _] in &self.colors {
            counts[usize::from(*green)] += 1;
        }
        let values = counts.iter().filter(|count| **count > 0).count();
        if values <= VALUES {
            let differing = self.pairs - self.equal;
            let is_gradient = values > CLASSES && 2 * self.small_steps > differing;
            if self.has_regions(60) && !is_gradient {
                return true;
            }
        }
        // The most frequent values, which the flat regions of a mask keep, and the noise around them.
        let edge = usize::from(EDGE_NOISE);
        let (dark, light) = (&counts[..=edge], &counts[255 - edge..]);
        let are_extreme = of_all(dark.iter().chain(light).sum(), 90);
        let (mut covered, mut exact) = (0, 0);
        let mut modes: Vec<(usize, usize)> = Vec::new();
        for _ in 0..BLURRED_VALUES {
            let most = (0..256)
                .max_by_key(|value| counts[*value])
                .unwrap_or_default();
            modes.push((most, counts[most]));
            exact += counts[most];
            let around = most.saturating_sub(NOISE)..=(most + NOISE).min(255);
            for count in &mut counts[around] {
                covered += std::mem::take(count);
            }
        }
        // A small object on a ground leaves few pixels of its value.
        let of_ground = of_all(exact, 90);
        modes.retain(|(_, count)| *count > 0 && (of_ground || of_all(*count, 2)));
        let values = modes.iter().map(|(value, _)| *value);
        let spread = values.clone().max().zip(values.min());
        let are_apart = spread.is_some_and(|(most, least)| most - least >= APART);
        let are_near = of_all(covered, 95) || of_all(covered, 85) && of_all(exact, 70);
        (are_extreme || are_near) && are_apart && of_all(exact, 50) && self.has_regions(50)
    }

    /// Returns whether the colors are those of a palette, of which the background is black.
    fn has_palette(&self) -> bool {
        const COLORS: usize = 64;
        let mut colors = BTreeSet::new();
        for color in &self.colors {
            colors.insert(color);
            if colors.len() > COLORS {
                return false;
            }
        }
        let is_colored = |color: &&[u8; 3]| color.iter().any(|channel| *channel != color[0]);
        colors.contains(&[0; 3]) && colors.iter().any(is_colored) && self.has_regions(60)
    }
}

fn stem(name: &str) -> String {
    without_extension(name).to_lowercase()
}

/// Returns the names, without extension and in lower case, of the images that a mask may be named after: `a` for
/// `a_mask_1.png` and `mask_a.png`.
fn masked_stems(name: &str) -> Vec<(String, MaskName)> {
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
    let behind = |(word, name): &(&str, MaskName)| {
        let before = unnumbered.strip_suffix(word)?;
        let of = before.trim_end_matches(is_between);
        (of.len() < before.len() && !of.is_empty()).then(|| (of.to_owned(), *name))
    };
    let before = |(word, name): &(&str, MaskName)| {
        let behind = lower.strip_prefix(word)?;
        let of = behind.trim_start_matches(is_between);
        (of.len() < behind.len() && !of.is_empty()).then(|| (of.to_owned(), *name))
    };
    let found = WORDS.iter().filter_map(behind);
    found.chain(WORDS.iter().filter_map(before)).collect()
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
            ("mask_1.png", mask(), true),
            ("mask_1.jpg", photograph(), false),
            ("1.png", mask(), true),
            ("1.png", circle([Rgb([0; 3]), Rgb([128, 0, 0])]), true),
            ("1.png", gray(photograph()), false),
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

    /// Grays from `low` to `high`, in the order of a hash or from left to right.
    fn dim(width: u32, height: u32, [low, high]: [u32; 2], is_noise: bool) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let range = high - low + 1;
            let at = if is_noise {
                let mixed = (x * 73_856_093) ^ (y * 19_349_663);
                (mixed ^ (mixed >> 7)).wrapping_mul(2_654_435_761) >> 16
            } else {
                (x + y) * range / (width + height)
            };
            Rgb([(low + at % range) as u8; 3])
        })
    }

    #[test]
    fn dim_photographs_of_any_size_are_no_masks() {
        for (width, height) in [(12, 9), (64, 48), (300, 200), (900, 700)] {
            for values in [[15, 92], [0, 60], [0, 15], [15, 40], [2, 12]] {
                for is_noise in [true, false] {
                    let image = dim(width, height, values, is_noise);
                    let shown = format!("{width} x {height}, {values:?}, noise: {is_noise}");
                    // Ten pixels do not show whether a gradient is smooth.
                    if width > 12 || is_noise {
                        assert!(!Pixels::of(&image).are_of_mask(), "{shown}");
                    }
                    let mut jpeg = std::io::Cursor::new(Vec::new());
                    image.write_to(&mut jpeg, image::ImageFormat::Jpeg).unwrap();
                    let image = image::load_from_memory(jpeg.get_ref()).unwrap().into_rgb8();
                    if values[1] - values[0] > 20 && width > 12 {
                        assert!(!Pixels::of(&image).are_of_mask(), "{shown}, JPEG");
                    }
                }
            }
        }
    }

    #[test]
    fn masks_of_any_size_and_kind_are_recognized() {
        let circles = |width: u32, height: u32, values: [[u8; 3]; 3]| {
            RgbImage::from_fn(width, height, |x, y| {
                let (x, y) = (x as f32 / width as f32, y as f32 / height as f32);
                let is_within = |at: f32| (x - at).powi(2) + (y - 0.5).powi(2) < 0.04;
                let value = usize::from(is_within(0.3)) + 2 * usize::from(is_within(0.8));
                Rgb(values[value.min(2)])
            })
        };
        for (width, height) in [(24, 18), (64, 48), (300, 200), (900, 700)] {
            let shown = format!("{width} x {height}");
            for values in [
                [[0; 3], [255; 3], [255; 3]],
                [[0; 3], [1; 3], [2; 3]],
                [[0; 3], [128; 3], [255; 3]],
                [[0; 3], [128, 0, 0], [0, 128, 0]],
            ] {
                let image = circles(width, height, values);
                assert!(Pixels::of(&image).are_of_mask(), "{shown}, {values:?}");
                // JPEG leaves neither neighboring classes nor the colors of a palette, and little of a tiny image.
                if width < 64 || values[1] == [1; 3] || values[1] == [128, 0, 0] {
                    continue;
                }
                let mut jpeg = std::io::Cursor::new(Vec::new());
                image.write_to(&mut jpeg, image::ImageFormat::Jpeg).unwrap();
                let image = image::load_from_memory(jpeg.get_ref()).unwrap().into_rgb8();
                assert!(
                    Pixels::of(&image).are_of_mask(),
                    "{shown}, {values:?}, JPEG"
                );
            }
        }
        // Instances on a ground.
        let instances = RgbImage::from_fn(300, 200, |x, y| {
            let is_inside = x % 60 > 15 && y % 50 > 15;
            Rgb([if is_inside {
                (1 + x / 60 + 5 * (y / 50)) as u8
            } else {
                0
            }; 3])
        });
        assert!(Pixels::of(&instances).are_of_mask());
    }
}
