//! Held-out validation images that can be used.

use std::collections::HashSet;

use rayon::prelude::*;

use crate::DataError;
use crate::annotations::format::SplitAnnotations;
use crate::annotations::joining::hold_out;
use crate::annotations::layout::CannotHoldOut;
use crate::annotations::reading::BadImages;
use crate::images::OnBadImage;

/// The training and the validation images.
type Parts = (SplitAnnotations, SplitAnnotations);

/// Divides a split as [`hold_out`] does. Where images that cannot be used are skipped, every held-out image can be used:
/// others are removed from the split, with a note, and replaced. Of the training images, at least one with a box can be
/// used; the others are not decoded.
///
/// # Errors
/// No image can be used, or an error is not about one image. The inner error is that of [`hold_out`].
pub(crate) fn hold_out_usable(
    whole: &mut SplitAnnotations,
    on_bad_image: OnBadImage,
) -> Result<Result<Parts, CannotHoldOut>, DataError> {
    if on_bad_image == OnBadImage::Error {
        return Ok(hold_out(whole));
    }
    let mut bad = BadImages::of(whole.store.image_count());
    let mut usable: HashSet<u64> = HashSet::new();
    loop {
        let (mut train, val) = match hold_out(whole) {
            Ok(parts) => parts,
            Err(why) => {
                return Ok(Err(match bad.finish()? {
                    None => why,
                    Some(skipped) => CannotHoldOut::AfterSkipping {
                        why: Box::new(why),
                        skipped,
                    },
                }));
            }
        };
        let mut lost = HashSet::new();
        for (index, error) in errors_of_all(&val, &mut usable)? {
            let image = val.store.image(index);
            bad.add(image.file_name, error);
            lost.insert(image.id);
        }
        for (index, error) in errors_of_train(&train, &mut usable)? {
            let image = train.store.image(index);
            bad.add(image.file_name, error);
            lost.insert(image.id);
        }
        if lost.is_empty() {
            train.notes.extend(bad.finish()?);
            return Ok(Ok((train, val)));
        }
        bad.check()?;
        let positions = lost.iter().filter_map(|id| whole.store.index_of_image(*id));
        whole.remove(&positions.collect());
    }
}

/// Returns the errors of all images of a part that are not known to be usable; adds the others to those.
fn errors_of_all(
    part: &SplitAnnotations,
    usable: &mut HashSet<u64>,
) -> Result<Vec<(usize, DataError)>, DataError> {
    let images = 0..part.store.image_count();
    let unknown: Vec<usize> = images
        .filter(|at| !usable.contains(&part.store.image(*at).id))
        .collect();
    let decoded: Vec<Result<(), DataError>> =
        unknown.par_iter().map(|&at| part.decode(at)).collect();
    let mut errors = Vec::new();
    for (at, decoded) in unknown.into_iter().zip(decoded) {
        match decoded {
            Ok(()) => _ = usable.insert(part.store.image(at).id),
            Err(error) if error.is_about_one_image() => errors.push((at, error)),
            Err(error) => return Err(error),
        }
    }
    Ok(errors)
}

/// Returns the errors of all images with boxes if none of them can be used, and otherwise nothing.
fn errors_of_train(
    part: &SplitAnnotations,
    usable: &mut HashSet<u64>,
) -> Result<Vec<(usize, DataError)>, DataError> {
    let mut errors = Vec::new();
    let with_boxes = (0..part.store.image_count()).filter(|at| part.store.has_target(*at));
    for at in with_boxes {
        let id = part.store.image(at).id;
        if usable.contains(&id) {
            return Ok(Vec::new());
        }
        match part.decode(at) {
            Ok(()) => {
                usable.insert(id);
                return Ok(Vec::new());
            }
            Err(error) if error.is_about_one_image() => errors.push((at, error)),
            Err(error) => return Err(error),
        }
    }
    Ok(errors)
}
