//! Images whose width and height are exchanged in the annotations.
//!
//! The same numbers are those of an image that was rotated by 90 degrees after it was annotated, or by its EXIF
//! orientation; the boxes tell which it is: they fit in the size of the image, or in that of the annotations.

use std::collections::HashMap;

use crate::annotations::box_convention::{are_of_other_frame, is_misfit};
use crate::boxes::ImageSize;
use crate::curation::check::{CheckedSplit, Diagnostics, Kind, Obstacle};
use crate::error::exchanged_sizes;

/// What the boxes of such images show.
pub(super) enum Shown {
    /// The boxes are right.
    Exchanged,
    /// The images were rotated.
    Rotated,
    /// The boxes fit either way.
    Unclear,
}

/// Reports images whose annotated width and height are those of the image in exchanged order, given by their positions
/// and the sizes of the images, and exchanges them where the boxes show that they are.
pub(super) fn resolve(
    split: &mut CheckedSplit,
    exchanged: Vec<(usize, ImageSize)>,
    diagnostics: &mut Diagnostics,
) {
    if exchanged.is_empty() {
        return;
    }
    /// From fewer boxes, nothing can be inferred about images that have no EXIF rotation.
    const FEWEST: usize = 3;
    match shown_by_boxes(split, &exchanged, FEWEST) {
        Shown::Exchanged => {
            let detail = exchanged_sizes(exchanged.len(), split.images.len());
            let file = Some(split.annotations.display().to_string());
            diagnostics.add(
                Kind::SizesExchanged,
                split.diagnostic(file, None, None, detail),
            );
            for (at, size) in exchanged {
                let image = split.images.change(at);
                image.width = Some(size.width as u64);
                image.height = Some(size.height as u64);
            }
        }
        shown => {
            let why = match shown {
                Shown::Rotated => "the boxes are those of the image rotated by 90 degrees",
                _ => "width and height are exchanged, or the image was rotated by 90 degrees",
            };
            drop_all(split, exchanged, why, diagnostics);
        }
    }
}

/// Drops images, given by their positions and sizes, and reports that their annotated sizes are exchanged and `why`.
pub(super) fn drop_all(
    split: &mut CheckedSplit,
    exchanged: Vec<(usize, ImageSize)>,
    why: &str,
    diagnostics: &mut Diagnostics,
) {
    if exchanged.len() * 5 > split.images.len() {
        split.obstacle.get_or_insert(Obstacle::Misfits);
    }
    for (at, size) in exchanged {
        let annotated = size.transposed();
        let detail = format!("{annotated} in the annotations, {size} in the file: {why}");
        diagnostics.add(Kind::SizesUnclear, split.diagnostic_on_image(at, detail));
        split.images.drop(at);
    }
}

/// Compares the boxes of images with the sizes in the files, which are given, and those in the annotations. From fewer
/// than `fewest` boxes, nothing is inferred.
pub(super) fn shown_by_boxes(
    split: &CheckedSplit,
    exchanged: &[(usize, ImageSize)],
    fewest: usize,
) -> Shown {
    let sizes = exchanged
        .iter()
        .filter_map(|(at, size)| Some((split.images.entries[*at].id?, *size)));
    let sizes: HashMap<u64, ImageSize> = sizes.collect();
    let (mut in_file, mut in_annotations) = (0, 0);
    for (_, object) in split.objects.kept() {
        let id = object
            .image_id
            .map(|id| split.image_moves.get(&id).copied().unwrap_or(id));
        let size = id.and_then(|id| sizes.get(&id));
        if let (Some(&size), Some(xywh)) = (size, object.xywh) {
            in_file += usize::from(is_misfit(size, xywh));
            in_annotations += usize::from(is_misfit(size.transposed(), xywh));
        }
    }
    if are_of_other_frame(in_annotations, in_file, fewest) {
        Shown::Exchanged
    } else if are_of_other_frame(in_file, in_annotations, fewest) {
        Shown::Rotated
    } else {
        Shown::Unclear
    }
}
