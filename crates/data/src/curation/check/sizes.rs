//! The sizes of the images themselves beside those in the annotations, and the EXIF rotations between the two.

use std::collections::HashMap;

use image::metadata::Orientation;
use rayon::prelude::*;

use crate::SizeCause;
use crate::annotations::boxes_on_images::FEWEST_BEYOND;
use crate::boxes::ImageSize;
use crate::curation::check::exchanged::{self, Shown};
use crate::curation::check::{CheckedSplit, Diagnostics, Kind, RawImage, lists};
use crate::images::decode::{HeaderSizes, header_sizes};
use crate::images::exif::upright_box;

/// Compares the sizes with the headers of the images if boxes cast doubt on them.
///
/// The headers of all images are read only if those of the images with boxes beyond them give a reason: COCO has 118,000
/// images, and a few boxes beyond them.
pub(super) fn check_headers(split: &mut CheckedSplit, diagnostics: &mut Diagnostics) {
    let Some(directory) = &split.image_directory else {
        return;
    };
    let header_of = |(at, image): (usize, &RawImage)| {
        let name = image.file_name.as_deref()?;
        Some((at, header_sizes(&directory.join(name)).ok()?, image.size()))
    };
    let doubtful = lists::images_with_misfits(split);
    let images: Vec<_> = split.images.kept().collect();
    let first = images.par_iter().filter(|(at, _)| doubtful.contains(at));
    let is_reason = |(_, sizes, annotated): (usize, HeaderSizes, Option<ImageSize>)| {
        sizes.are_turned() || annotated.is_some_and(|annotated| annotated != sizes.upright)
    };
    let mut is_doubtful = lists::is_transposed(split);
    is_doubtful |= first.filter_map(|image| header_of(*image)).any(is_reason);
    if !is_doubtful {
        return;
    }
    let sizes = images.into_par_iter().filter_map(header_of);
    let sizes: Vec<_> = sizes.map(|(at, sizes, _)| (at, sizes)).collect();
    split.are_sizes_known = sizes.len() == split.images.kept().count();
    compare(split, sizes, diagnostics);
}

/// Compares the sizes of images, given with their positions, with those in the annotations, and corrects what the boxes
/// show.
pub(super) fn compare(
    split: &mut CheckedSplit,
    sizes: Vec<(usize, HeaderSizes)>,
    diagnostics: &mut Diagnostics,
) {
    let mut exif = ExifImages::default();
    let mut exchanged = Vec::new();
    for (at, sizes) in sizes {
        split.turned_images += usize::from(sizes.are_turned());
        let annotated = split.images.entries[at].size();
        match annotated.and_then(|annotated| SizeCause::of(sizes, annotated)) {
            Some(SizeCause::Exchanged) => exchanged.push((at, sizes.upright)),
            Some(SizeCause::IgnoresExif) => exif.ignored.push((at, sizes)),
            None => {
                compare_size(split, at, sizes, diagnostics);
                exif.add(at, sizes);
            }
        }
    }
    exchanged.extend(exif.resolve(split, diagnostics));
    exchanged::resolve(split, exchanged, diagnostics);
}

/// Compares the size with that in the annotations, and adds a missing one.
fn compare_size(
    split: &mut CheckedSplit,
    at: usize,
    sizes: HeaderSizes,
    diagnostics: &mut Diagnostics,
) {
    match split.images.entries[at].size() {
        None => set_size(split, at, sizes.upright),
        Some(annotated) if annotated == sizes.upright => {}
        Some(annotated) => {
            let detail = format!(
                "{annotated} in the annotations, {} in the file",
                sizes.upright
            );
            diagnostics.add(Kind::SizeDiffers, split.diagnostic_on_image(at, detail));
            split.images.drop(at);
        }
    }
}

fn set_size(split: &mut CheckedSplit, at: usize, size: ImageSize) {
    let image = split.images.change(at);
    image.width = Some(size.width as u64);
    image.height = Some(size.height as u64);
}

/// Images with an EXIF orientation, by what their annotated sizes show.
#[derive(Default)]
struct ExifImages {
    /// The size is that before the rotation.
    ignored: Vec<(usize, HeaderSizes)>,
    /// The size is that after a rotation that exchanges width and height.
    applied: Vec<(usize, HeaderSizes)>,
    /// The rotation leaves the size as it is: by 180 degrees, mirrored, or of a square.
    unseen: Vec<(usize, HeaderSizes)>,
}

impl ExifImages {
    /// Adds an image whose annotated size is that of the upright image.
    fn add(&mut self, at: usize, sizes: HeaderSizes) {
        if sizes.are_turned() {
            self.applied.push((at, sizes));
        } else if sizes.orientation != Orientation::NoTransforms {
            self.unseen.push((at, sizes));
        }
    }

    /// Corrects images whose annotated sizes are those before the EXIF rotation, where the boxes are, too. Returns the
    /// positions and sizes of the images if the boxes are those of the upright images: only width and height are
    /// exchanged.
    fn resolve(
        self,
        split: &mut CheckedSplit,
        diagnostics: &mut Diagnostics,
    ) -> Vec<(usize, ImageSize)> {
        let sizes_of = |images: &[(usize, HeaderSizes)]| -> Vec<(usize, ImageSize)> {
            let images = images.iter();
            images.map(|(at, sizes)| (*at, sizes.upright)).collect()
        };
        let applied = sizes_of(&self.applied);
        if let Shown::Rotated = exchanged::shown_by_boxes(split, &applied, FEWEST_BEYOND) {
            split.boxes_ignore_exif = applied.len();
        }
        let ignored = sizes_of(&self.ignored);
        match exchanged::shown_by_boxes(split, &ignored, 1) {
            Shown::Exchanged => return ignored,
            Shown::Unclear => {
                let why =
                    "the size ignores the EXIF rotation, and whether the boxes do cannot be seen";
                exchanged::drop_all(split, ignored, why, diagnostics);
            }
            Shown::Rotated => {
                // Those that show nothing are like all the others.
                let unseen = if self.applied.is_empty() {
                    self.unseen
                } else {
                    Vec::new()
                };
                let mut rotated = HashMap::new();
                for (at, sizes) in self.ignored.into_iter().chain(unseen) {
                    let HeaderSizes {
                        stored, upright, ..
                    } = sizes;
                    let detail = if stored == upright {
                        "the EXIF rotation leaves the size as it is; all others of the split ignore theirs"
                            .to_owned()
                    } else {
                        format!("{stored} in the annotations, {upright} after the EXIF rotation")
                    };
                    diagnostics.add(Kind::SizeIgnoresExif, split.diagnostic_on_image(at, detail));
                    let id = split.images.entries[at].id;
                    rotated.extend(id.map(|id| (id, (sizes.orientation, stored))));
                    set_size(split, at, upright);
                }
                rotate_boxes(split, &rotated);
            }
        }
        Vec::new()
    }
}

fn rotate_boxes(split: &mut CheckedSplit, rotated: &HashMap<u64, (Orientation, ImageSize)>) {
    for at in 0..split.objects.len() {
        let object = &split.objects.entries[at];
        let id = object
            .image_id
            .map(|id| split.image_moves.get(&id).copied().unwrap_or(id));
        let (Some((orientation, stored)), Some(xywh)) =
            (id.and_then(|id| rotated.get(&id)), object.xywh)
        else {
            continue;
        };
        let upright = upright_box(xywh, *orientation, *stored);
        let object = split.objects.change(at);
        object.xywh = Some(upright);
        object.without_outline = true;
    }
}
