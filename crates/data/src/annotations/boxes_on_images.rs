//! Boxes beside the headers of their images, where the boxes cast doubt on the annotated sizes or on the frame that they
//! are in.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::annotations::box_convention::{BoxFit, are_of_other_frame, is_misfit, judge};
use crate::boxes::ImageSize;
use crate::images::decode::header_sizes;
use crate::{DataError, SizeCause};

/// From fewer boxes beyond their images, nothing can be inferred where the sizes are right.
pub(crate) const FEWEST_BEYOND: usize = 3;

/// The boxes of an image as annotated.
pub(super) struct BoxesOnImage {
    pub(super) path: PathBuf,
    pub(super) size: ImageSize,
    /// `[x, y, width, height]` in pixels.
    pub(super) boxes: Vec<[f64; 4]>,
}

impl BoxesOnImage {
    /// Returns the numbers of boxes that are not within the image, and not within the image rotated by 90 degrees.
    fn misfits(&self) -> [usize; 2] {
        let count = |size: ImageSize| {
            let boxes = self.boxes.iter();
            boxes.filter(|xywh| is_misfit(size, **xywh)).count()
        };
        [self.size, self.size.transposed()].map(count)
    }
}

/// Returns whether boxes are those of the images rotated by 90 degrees, by the [`misfits`](BoxesOnImage::misfits) of each
/// image.
fn are_rotated(misfits: &[[usize; 2]]) -> bool {
    let [own, rotated] = [0, 1].map(|frame| misfits.iter().map(|misfits| misfits[frame]).sum());
    are_of_other_frame(own, rotated, FEWEST_BEYOND)
}

/// Checks that boxes are in the convention of the format. Where they cast doubt on the annotated sizes of the images, or
/// seem to ignore their EXIF rotation, the headers of the images are read. `image` returns the image at a position, None
/// for one that is skipped; `path` is the annotation file in errors. Returns a note if the boxes may be in another
/// convention.
///
/// # Errors
/// The boxes are in another convention or of the images as they are stored, or the sizes are exchanged.
pub(super) fn judge_on_images(
    fit: &BoxFit,
    count: usize,
    image: &(dyn Fn(usize) -> Option<BoxesOnImage> + Sync),
    path: &Path,
) -> Result<Option<String>, DataError> {
    let mismatch = fit.mismatch();
    if mismatch.is_none_or(|found| !found.is_certain)
        && fit.misfits() >= FEWEST_BEYOND
        && let Some(images) = ignoring_exif(count, image)
    {
        return Err(DataError::BoxesIgnoreExif {
            path: path.to_owned(),
            images,
        });
    }
    let Some(mut mismatch) = mismatch else {
        return Ok(None);
    };
    if mismatch.is_transposed() {
        let found = (0..count).into_par_iter().filter_map(image).map(|found| {
            let Ok(sizes) = header_sizes(&found.path) else {
                return (false, None);
            };
            let cause = SizeCause::of(sizes, found.size);
            (sizes.are_turned(), cause.map(|_| found.misfits()))
        });
        let found: Vec<(bool, Option<[usize; 2]>)> = found.collect();
        let exchanged: Vec<[usize; 2]> = found.iter().filter_map(|(_, found)| *found).collect();
        mismatch.turned_images = found.iter().filter(|(is_turned, _)| *is_turned).count();
        if are_rotated(&exchanged) || exchanged.len() * 2 > found.len() {
            return Err(DataError::ExchangedSizes {
                path: path.to_owned(),
                exchanged: exchanged.len(),
                images: found.len(),
            });
        }
        mismatch.are_sizes_known = exchanged.is_empty();
    }
    judge(mismatch, path).map(Some)
}

/// Returns the number of images with an EXIF rotation by 90 degrees and the sizes of the upright images, if their boxes are
/// those of the images as they are stored.
///
/// The headers of all images are read only if those of the images with boxes beyond them show it: COCO has 118,000.
fn ignoring_exif(
    count: usize,
    image: &(dyn Fn(usize) -> Option<BoxesOnImage> + Sync),
) -> Option<usize> {
    let of = |is_seen: &(dyn Fn(&[usize; 2]) -> bool + Sync)| {
        let found = (0..count).into_par_iter().filter_map(image);
        let misfits = found.filter_map(|found| {
            let misfits = Some(found.misfits()).filter(is_seen)?;
            let sizes = header_sizes(&found.path).ok()?;
            let is_turned = sizes.are_turned() && sizes.upright == found.size;
            is_turned.then_some(misfits)
        });
        let misfits: Vec<[usize; 2]> = misfits.collect();
        are_rotated(&misfits).then_some(misfits.len())
    };
    of(&|misfits| misfits[0] > 0)?;
    of(&|_| true)
}
