//! Checks of the image files of one split; all files are decoded.

use std::collections::{HashMap, HashSet};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use image::RgbImage;
use image::metadata::Orientation;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::annotations::copies::are_same_but_for_rounding;
use crate::annotations::file_names::{AnyCapitals, FileMatch};
use crate::annotations::format::SplitFiles;
use crate::annotations::locations::SimilarImages;
use crate::boxes::ImageSize;
use crate::curation::check::lists::boxes_by_image;
use crate::curation::check::{CheckProgress, CheckedSplit, Diagnostics, Kind, sizes};
use crate::directory::dangling_link;
use crate::images::decode::{
    DecodeError, HeaderSizes, InspectedImage, has_extension_of, inspect_image_bytes,
};
use crate::text::count;

/// Size limit of an image file, so that a few files cannot exhaust the memory.
const LARGEST_FILE: u64 = 1 << 30;

/// Facts about an image that are kept after decoding.
#[derive(Debug, Clone, Default)]
pub(super) struct ImageFacts {
    /// SHA-256 of the file.
    pub content: Option<[u8; 32]>,
    /// The perceptual hash; None for images with hardly any contrast, whose hashes are noise.
    pub hash: Option<DifferenceHash>,
}

/// A difference hash (N. Krawetz) of 16x16 bits: whether the image, resized to 17x16 gray pixels, gets
/// brighter to the right of each pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DifferenceHash([u64; 4]);

impl DifferenceHash {
    /// Minimum range of gray levels of the resized pixels; below it, the bits are determined by
    /// noise.
    const MIN_CONTRAST: u32 = 24;

    pub(super) fn of(image: &RgbImage) -> Option<Self> {
        let small = image::imageops::thumbnail(image, 17, 16);
        let gray = |x: u32, y: u32| {
            let [r, g, b] = small.get_pixel(x, y).0.map(u32::from);
            299 * r + 587 * g + 114 * b
        };
        let levels = || (0..16).flat_map(|y| (0..17).map(move |x| (x, y)));
        let brightest = levels().map(|(x, y)| gray(x, y)).max()?;
        let darkest = levels().map(|(x, y)| gray(x, y)).min()?;
        if brightest - darkest < Self::MIN_CONTRAST * 1000 {
            return None;
        }
        let mut bits = [0; 4];
        for y in 0..16 {
            for x in 0..16 {
                let bit = u64::from(gray(x + 1, y) > gray(x, y));
                bits[y as usize / 4] |= bit << (y % 4 * 16 + x);
            }
        }
        Some(Self(bits))
    }

    /// Returns the number of the 256 bits that differ.
    pub(super) fn distance(self, other: Self) -> u32 {
        let pairs = self.0.iter().zip(other.0);
        pairs.map(|(a, b)| (a ^ b).count_ones()).sum()
    }
}

/// The result of the inspection of one image.
#[derive(Default)]
struct Inspection {
    facts: ImageFacts,
    problems: Vec<(Kind, String)>,
    /// Whether the image cannot be used.
    is_lost: bool,
    sizes: Option<HeaderSizes>,
}

pub(super) fn check(
    split: &mut CheckedSplit,
    files: &SplitFiles,
    diagnostics: &mut Diagnostics,
    progress: &(dyn Fn(CheckProgress) + Sync),
) {
    let directory = split.image_directory.clone();
    let first_guess = || files.image_directories.first().cloned();
    let directory = directory.or_else(first_guess).unwrap_or_default();
    let lost: HashSet<usize> = split.lost_images.iter().copied().collect();
    let listed: Vec<(usize, &str)> = split
        .images
        .kept()
        // Those that are lost already are reported.
        .filter(|(at, _)| !lost.contains(at))
        .filter_map(|(at, image)| Some((at, image.file_name.as_deref()?)))
        .collect();
    let (done, all) = (AtomicU64::new(0), listed.len() as u64);
    let neighbors = Neighbors::new(&directory, files);
    let inspections: Vec<(usize, Inspection)> = listed
        .into_par_iter()
        .map(|(at, name)| {
            let inspection = inspect(&directory, name, &neighbors);
            progress(CheckProgress::Images(
                done.fetch_add(1, Ordering::Relaxed) + 1,
                all,
            ));
            (at, inspection)
        })
        .collect();
    split.image_facts = vec![ImageFacts::default(); split.images.len()];
    let mut found = Vec::new();
    for (at, inspection) in inspections {
        for (kind, detail) in inspection.problems {
            diagnostics.add(kind, split.diagnostic_on_image(at, detail));
        }
        if inspection.is_lost {
            split.lost_images.push(at);
        }
        found.extend(inspection.sizes.map(|sizes| (at, sizes)));
        split.image_facts[at] = inspection.facts;
    }
    sizes::compare(split, found, diagnostics);
    split.are_sizes_known = true;
}

/// Finds images with the content of another, and compares the boxes of both, which were checked before.
pub(super) fn check_copies(split: &CheckedSplit, diagnostics: &mut Diagnostics) {
    let mut by_content: HashMap<[u8; 32], usize> = HashMap::new();
    let mut copies: Vec<(usize, usize)> = Vec::new();
    for (at, facts) in split.image_facts.iter().enumerate() {
        if let Some(content) = facts.content {
            let first = *by_content.entry(content).or_insert(at);
            if first != at {
                copies.push((at, first));
            }
        }
    }
    if copies.is_empty() {
        return;
    }
    let boxes = boxes_by_image(split);
    let boxes_of = |at: usize| {
        let id = split.images.entries[at].id?;
        let is_usable = split.images.is_kept(at) && !split.unread_images.contains(&id);
        is_usable.then(|| boxes.get(&id).map_or(&[][..], Vec::as_slice))
    };
    for (at, first) in copies {
        let name = split.images.entries[first].file_name.as_deref();
        let mut detail = format!("the same as {}", name.unwrap_or_default());
        let mut kind = Kind::ImageTwice;
        if let (Some(own), Some(other)) = (boxes_of(at), boxes_of(first))
            && !are_same_but_for_rounding(own, other)
        {
            kind = Kind::CopiesDiffer;
            detail += &match (own.len(), other.len()) {
                (own, other) if own == other => ", at other places or of other classes".to_owned(),
                (own, other) => format!(", which has {}; this one has {own}", count(other, "box")),
            };
        }
        diagnostics.add(kind, split.diagnostic_on_image(at, detail));
    }
}

/// Drops the images that cannot be used, and their boxes.
pub(super) fn drop_lost(split: &mut CheckedSplit) {
    let mut ids = HashSet::new();
    for at in std::mem::take(&mut split.lost_images) {
        ids.extend(split.images.entries[at].id);
        split.images.drop(at);
    }
    for at in 0..split.objects.len() {
        let image = split.objects.entries[at].image_id;
        if image.is_some_and(|id| ids.contains(&id)) {
            split.objects.drop(at);
        }
    }
}

fn inspect(directory: &Path, name: &str, neighbors: &Neighbors) -> Inspection {
    let path = directory.join(name);
    let mut inspection = Inspection::default();
    match read(&path) {
        Ok(bytes) => {
            inspection.facts.content = Some(Sha256::digest(&bytes).into());
            inspect_bytes(&bytes, &path, name, &mut inspection);
        }
        Err(Unread::Missing) => {
            let detail = dangling_link(&path).unwrap_or_else(|| neighbors.hint(directory, name));
            inspection.problems.push((Kind::ImageMissing, detail));
            inspection.is_lost = true;
        }
        Err(Unread::Other(detail)) => {
            inspection.problems.push((Kind::ImageUnreadable, detail));
            inspection.is_lost = true;
        }
    }
    inspection
}

enum Unread {
    Missing,
    Other(String),
}

fn read(path: &Path) -> Result<Vec<u8>, Unread> {
    let other = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Unread::Missing,
        _ => Unread::Other(error.to_string()),
    };
    let metadata = std::fs::metadata(path).map_err(other)?;
    if !metadata.is_file() {
        return Err(Unread::Other("not a file".into()));
    }
    if metadata.len() > LARGEST_FILE {
        let megabytes = metadata.len() >> 20;
        return Err(Unread::Other(format!("a file of {megabytes} MiB")));
    }
    std::fs::read(path).map_err(other)
}

fn inspect_bytes(bytes: &[u8], path: &Path, name: &str, inspection: &mut Inspection) {
    // A panic of a decoder must fail one image, not the whole check.
    let inspected = catch_unwind(AssertUnwindSafe(|| inspect_image_bytes(bytes, path)));
    match inspected {
        Ok(Ok(inspected)) => whole_image(&inspected, name, inspection),
        Ok(Err(error)) => {
            let (kind, detail) = match error {
                DecodeError::Truncated { damage, .. } => {
                    (Kind::ImageTruncated, format!("the JPEG {damage}"))
                }
                DecodeError::TooLarge { width, height, .. } => (
                    Kind::ImageBroken,
                    format!("too large: {width}x{height} pixels"),
                ),
                DecodeError::Empty { .. } => (Kind::ImageTruncated, "the file is empty".into()),
                DecodeError::NotAnImage { .. } => {
                    (Kind::ImageBroken, "not an image in a known format".into())
                }
                DecodeError::UnsupportedJpeg { kind, .. } => (
                    Kind::ImageBroken,
                    format!("a JPEG {kind}, which is not supported"),
                ),
                DecodeError::Broken { source, .. } if is_early_end(&source) => {
                    (Kind::ImageTruncated, source.to_string())
                }
                DecodeError::Broken { source, .. } => (Kind::ImageBroken, source.to_string()),
                DecodeError::Io { source, .. } => (Kind::ImageUnreadable, source.to_string()),
            };
            inspection.problems.push((kind, one_line(&detail)));
            inspection.is_lost = true;
        }
        Err(_) => {
            let detail = "the decoder panicked".to_owned();
            inspection.problems.push((Kind::ImageBroken, detail));
            inspection.is_lost = true;
        }
    }
}

fn whole_image(inspected: &InspectedImage, name: &str, inspection: &mut Inspection) {
    let InspectedImage {
        image,
        format,
        orientation,
        stored_size,
    } = inspected;
    inspection.facts.hash = DifferenceHash::of(image);
    inspection.sizes = Some(HeaderSizes {
        stored: *stored_size,
        upright: ImageSize::new(image.height() as usize, image.width() as usize),
        orientation: *orientation,
    });
    if *orientation != Orientation::NoTransforms {
        let number = orientation.to_exif();
        let detail = format!("EXIF orientation {number}");
        inspection.problems.push((Kind::ImageRotated, detail));
    }
    let name = Path::new(name);
    if name.extension().is_some() && !has_extension_of(name, *format) {
        let format = format.to_mime_type();
        let detail = format!("the content is {}", format.trim_start_matches("image/"));
        inspection
            .problems
            .push((Kind::ImageWrongExtension, detail));
    }
}

/// Reports whether a decoder reached the end of the file too early.
fn is_early_end(error: &image::ImageError) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        let is_end = error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof);
        if is_end {
            return true;
        }
        cause = error.source();
    }
    let text = error.to_string().to_lowercase();
    text.contains("unexpected end") || text.contains("unexpected eof")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The files around the images, for those that are missing under their name.
struct Neighbors {
    /// The directories that may contain the images, most likely first.
    directories: Vec<PathBuf>,
    capitals: AnyCapitals,
    /// Listed when the first image is missing.
    similar: OnceLock<SimilarImages>,
}

impl Neighbors {
    fn new(directory: &Path, files: &SplitFiles) -> Self {
        let others = files
            .image_directories
            .iter()
            .filter(|other| *other != directory);
        Self {
            directories: std::iter::once(directory.to_owned())
                .chain(others.cloned())
                .collect(),
            capitals: AnyCapitals::default(),
            similar: OnceLock::new(),
        }
    }

    /// Returns an existing file that a missing file name may refer to.
    fn hint(&self, directory: &Path, name: &str) -> String {
        let slashes = name.replace('\\', "/");
        if slashes != name && directory.join(&slashes).is_file() {
            return format!("{slashes} exists: write the name with /");
        }
        let path = Path::new(&slashes);
        let Some(last) = path.file_name() else {
            return "the name has no file part".to_owned();
        };
        let within = path.parent().unwrap_or(Path::new(""));
        for directory in &self.directories {
            for parent in [directory.join(within), directory.clone()] {
                let path = parent.join(last);
                let (found, is_renamed) = match self.capitals.file(directory, &path) {
                    FileMatch::Exact => (path.clone(), false),
                    FileMatch::OtherCapitals(found) => (found[0].clone(), true),
                    FileMatch::Missing => continue,
                };
                let shown = found.strip_prefix(&self.directories[0]).unwrap_or(&found);
                let shown = shown.display();
                // Where it is the file meant by the name, it is that of another entry.
                return if is_renamed || self.directories[0].join(&slashes) == path {
                    format!("{shown} exists: upper and lower case differ")
                } else {
                    format!("{shown} exists, in another directory")
                };
            }
        }
        let similar = self
            .similar
            .get_or_init(|| SimilarImages::within(&self.directories));
        let instead = similar.of(&slashes);
        let instead = instead.map_or_else(String::new, |instead| format!("; {instead}"));
        format!("not in {}{instead}", directory.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_survive_resizing_and_distinguish_images() {
        let scene = |phase: f32| {
            RgbImage::from_fn(320, 240, |x, y| {
                let value = (x as f32 / 23.0 + phase).sin() * (y as f32 / 31.0 - phase).cos();
                image::Rgb([(value * 100.0 + 128.0) as u8; 3])
            })
        };
        let a = DifferenceHash::of(&scene(0.0)).unwrap();
        let smaller = image::imageops::thumbnail(&scene(0.0), 160, 120);
        assert!(a.distance(DifferenceHash::of(&smaller).unwrap()) <= 8);
        assert!(a.distance(DifferenceHash::of(&scene(1.5)).unwrap()) > 40);
        assert_eq!(DifferenceHash::of(&RgbImage::new(50, 50)), None);
    }
}
