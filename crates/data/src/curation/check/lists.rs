//! Checks of the ids, names and boxes of one split.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::annotations::box_convention::{BoxFit, is_area_of, is_misfit, is_near};
use crate::annotations::category_shift::shift_of;
use crate::box_conventions::{BoxConvention, BoxOrder, BoxUnit, ConventionMismatch, MismatchCause};
use crate::boxes::{EDGE_TOLERANCE, ImageSize, LARGEST_COORDINATE};
use crate::curation::check::{
    CheckedSplit, Diagnostic, Diagnostics, Kind, Obstacle, RawAnnotation,
};
use crate::datasets::detection::{TargetFilter, plain_class_name};
use crate::text::{count, numbers};

pub(super) fn check_categories(split: &mut CheckedSplit, diagnostics: &mut Diagnostics) {
    let mut by_id: HashMap<u64, usize> = HashMap::new();
    let mut by_name: HashMap<Box<str>, usize> = HashMap::new();
    let mut by_plain_name: HashMap<String, usize> = HashMap::new();
    for at in 0..split.categories.len() {
        let category = &split.categories.entries[at];
        let (true, Some(id), Some(name)) =
            (split.categories.is_kept(at), category.id, &category.name)
        else {
            continue;
        };
        let name = name.clone();
        let of_earlier = |earlier: usize| {
            let earlier = &split.categories.entries[earlier];
            let name = earlier.name.as_deref().unwrap_or_default();
            (earlier.id.unwrap_or_default(), name.to_owned())
        };
        let add = |diagnostics: &mut Diagnostics, kind, detail| {
            diagnostics.add(kind, split.diagnostic(None, None, None, detail));
        };
        if let Some(&earlier) = by_id.get(&id) {
            let (_, first) = of_earlier(earlier);
            let detail = format!("id {id} is `{first}` and `{name}`");
            add(diagnostics, Kind::CategoryIdTwice, detail);
            if *first == *name {
                split.categories.drop(at);
            }
            continue;
        }
        by_id.insert(id, at);
        if let Some(&earlier) = by_name.get(&name) {
            let (first, _) = of_earlier(earlier);
            let detail = format!("`{name}` has the ids {first} and {id}");
            add(diagnostics, Kind::CategoryNameTwice, detail);
            split.categories.drop(at);
            split.category_moves.insert(id, first);
            continue;
        }
        by_name.insert(name.clone(), at);
        let plain = plain_class_name(&name);
        match by_plain_name.get(&plain) {
            Some(&earlier) => {
                let (first_id, first) = of_earlier(earlier);
                let detail = format!("`{first}` ({first_id}) and `{name}` ({id})");
                add(diagnostics, Kind::CategoryNamesAlike, detail);
            }
            None => _ = by_plain_name.insert(plain, at),
        }
    }
}

pub(super) fn check_images(split: &mut CheckedSplit, diagnostics: &mut Diagnostics) {
    let mut by_id: HashMap<u64, usize> = HashMap::new();
    for at in 0..split.images.len() {
        let image = &split.images.entries[at];
        let (true, Some(id), Some(name)) = (split.images.is_kept(at), image.id, &image.file_name)
        else {
            continue;
        };
        let Some(&first) = by_id.get(&id) else {
            by_id.insert(id, at);
            continue;
        };
        let first_name = split.images.entries[first].file_name.as_deref();
        let first_name = first_name.unwrap_or_default();
        let is_same = first_name == &**name;
        let detail = if is_same {
            "the same file with the same id".to_owned()
        } else {
            format!("{first_name} has the same id")
        };
        diagnostics.add(Kind::ImageIdTwice, split.diagnostic_on_image(at, detail));
        split.images.drop(at);
        if !is_same {
            split.images.drop(first);
        }
    }
    let mut by_name: HashMap<Box<str>, u64> = HashMap::new();
    let boxes = boxes_by_image(split);
    for at in 0..split.images.len() {
        if !split.images.is_kept(at) {
            continue;
        }
        let image = &split.images.entries[at];
        if let (Some(id), Some(name)) = (image.id, &image.file_name) {
            match by_name.get(name) {
                Some(&first) if have_other_boxes(&boxes, id, first) => {
                    let detail = format!("listed as image {first} too, with other boxes");
                    diagnostics.add(Kind::ImageNameOfTwo, split.diagnostic_on_image(at, detail));
                }
                Some(&first) => {
                    let detail = format!("listed as image {first} too");
                    diagnostics.add(
                        Kind::ImageListedTwice,
                        split.diagnostic_on_image(at, detail),
                    );
                    split.images.drop(at);
                    split.image_moves.insert(id, first);
                    continue;
                }
                None => _ = by_name.insert(name.clone(), id),
            }
        }
        let image = &split.images.entries[at];
        if image.size().is_none() && !split.has_image_sizes {
            let side = |side: Option<u64>| side.map_or("none".to_owned(), |side| side.to_string());
            let detail = format!("width {}, height {}", side(image.width), side(image.height));
            diagnostics.add(Kind::SizeMissing, split.diagnostic_on_image(at, detail));
        }
    }
}

/// Boxes with their category and whether they are a crowd, by image id.
type BoxesByImage = HashMap<u64, Vec<((Option<u64>, bool), [f64; 4])>>;

/// Returns the boxes of each image id.
pub(super) fn boxes_by_image(split: &CheckedSplit) -> BoxesByImage {
    let mut boxes = BoxesByImage::new();
    for (_, object) in split.objects.kept() {
        if let (Some(image), Some(xywh)) = (object.image_id, object.xywh) {
            let class = (object.category_id, object.is_crowd);
            boxes.entry(image).or_default().push((class, xywh));
        }
    }
    boxes
}

/// Returns whether two image ids have boxes, and none of them is the same: the name may be that of two images, or the
/// entries may have an annotator or a class each.
fn have_other_boxes(boxes: &BoxesByImage, a: u64, b: u64) -> bool {
    let of = |id| boxes.get(&id).map_or(&[][..], Vec::as_slice);
    let (a, b) = (of(a), of(b));
    let is_same = |(_, a): &(_, [f64; 4]), (_, b): &(_, [f64; 4])| {
        let mut pairs = a.iter().zip(b);
        pairs.all(|(a, b)| (a - b).abs() <= EDGE_TOLERANCE)
    };
    let is_any_same = a.iter().any(|a| b.iter().any(|b| is_same(a, b)));
    !a.is_empty() && !b.is_empty() && !is_any_same
}

/// Drops images whose size is unknown, because their boxes refer to it.
pub(super) fn drop_images_without_size(split: &mut CheckedSplit) {
    for at in 0..split.images.len() {
        if split.images.entries[at].size().is_none() {
            split.images.drop(at);
        }
    }
}

pub(super) fn check_objects(split: &mut CheckedSplit, diagnostics: &mut Diagnostics) {
    let places = Places::of(split);
    check_shift(split, diagnostics);
    resolve_references(split, &places, diagnostics);
    let mismatch = box_fit(split, &places).mismatch();
    let mismatch = mismatch.map(|found| ConventionMismatch {
        are_sizes_known: split.are_sizes_known,
        turned_images: split.turned_images,
        ..found
    });
    // Of a mismatch of all boxes, these are a part.
    let are_of_exif = split.boxes_ignore_exif > 0 && mismatch.is_none_or(|found| !found.is_certain);
    let mismatch = mismatch.filter(|_| !are_of_exif);
    if are_of_exif {
        let images = count(split.boxes_ignore_exif, "image");
        let detail = format!(
            "boxes of {images} with an EXIF rotation by 90 degrees, which is applied here, fit the images as they are stored"
        );
        let file = Some(split.annotations.display().to_string());
        diagnostics.add(
            Kind::BoxesIgnoreExif,
            split.diagnostic(file, None, None, detail),
        );
        split.obstacle.get_or_insert(Obstacle::Misfits);
    }
    let is_in_pixels =
        !are_of_exif && mismatch.is_none_or(|found| to_pixels(split, &places, &found));
    split.is_misread = !is_in_pixels;
    if let Some(found) = &mismatch {
        let file = Some(split.annotations.display().to_string());
        let diagnostic = split.diagnostic(file, None, None, found.to_string());
        diagnostics.add(kind_of(found), diagnostic);
        if found.cause == MismatchCause::Unexplained {
            split.obstacle.get_or_insert(Obstacle::Misfits);
        } else if found.is_certain && !is_in_pixels {
            split.obstacle.get_or_insert(Obstacle::UnclearBoxes);
        }
    }
    for at in 0..split.objects.len() {
        if split.objects.is_kept(at) {
            check_box(split, &places, at, is_in_pixels, diagnostics);
        }
    }
    check_repeated_boxes(split, &places, diagnostics);
    check_repeated_ids(split, &places, diagnostics);
    if !split.is_cut_off() {
        check_unused(split, diagnostics);
    }
}

/// Reports category ids of boxes that seem to be one too high or too low: not all of them are listed, but all would be.
///
/// The boxes of the other ids have the names of their neighbors, which nothing else shows.
fn check_shift(split: &mut CheckedSplit, diagnostics: &mut Diagnostics) {
    let listed = split.categories.kept();
    let listed: BTreeSet<u64> = listed.filter_map(|(_, category)| category.id).collect();
    let used = split.objects.kept();
    let used: BTreeSet<u64> = used.filter_map(|(_, object)| object.category_id).collect();
    let Some(shift) = shift_of(&used, &listed) else {
        return;
    };
    let ids = |ids: &BTreeSet<u64>| match (ids.first(), ids.last()) {
        (Some(first), Some(last)) if first != last => format!("{first} to {last}"),
        (Some(only), _) => only.to_string(),
        _ => "none".to_owned(),
    };
    let detail = format!(
        "those of the boxes are {}, those of the categories {}: {shift}",
        ids(&used),
        ids(&listed)
    );
    let file = Some(split.annotations.display().to_string());
    diagnostics.add(
        Kind::CategoriesShifted,
        split.diagnostic(file, None, None, detail),
    );
    split.obstacle.get_or_insert(Obstacle::ShiftedCategories);
}

/// Positions of images by id.
struct Places {
    kept: HashMap<u64, usize>,
    /// Ids of images that are listed but were dropped.
    dropped: HashSet<u64>,
}

impl Places {
    fn of(split: &CheckedSplit) -> Self {
        let (mut kept, mut dropped) = (HashMap::new(), HashSet::new());
        for (at, image) in split.images.entries.iter().enumerate() {
            match (image.id, split.images.is_kept(at)) {
                (Some(id), true) => _ = kept.insert(id, at),
                (Some(id), false) => _ = dropped.insert(id),
                (None, _) => {}
            }
        }
        Self { kept, dropped }
    }

    fn image(&self, object: &RawAnnotation) -> Option<usize> {
        self.kept.get(&object.image_id?).copied()
    }
}

/// Replaces the ids of merged images and categories, and drops objects with unknown ids.
fn resolve_references(split: &mut CheckedSplit, places: &Places, diagnostics: &mut Diagnostics) {
    let categories = split.categories.kept();
    let categories: HashSet<u64> = categories.filter_map(|(_, category)| category.id).collect();
    // Other entries may follow the part that cannot be read.
    let is_known = !split.is_cut_off();
    for at in 0..split.objects.len() {
        if !split.objects.is_kept(at) {
            continue;
        }
        let object = &split.objects.entries[at];
        let (Some(image), Some(category)) = (object.image_id, object.category_id) else {
            continue;
        };
        if let Some(&first) = split.image_moves.get(&image) {
            split.objects.change(at).image_id = Some(first);
        }
        if let Some(&first) = split.category_moves.get(&category) {
            split.objects.change(at).category_id = Some(first);
        }
        let object = &split.objects.entries[at];
        let image = object.image_id.unwrap_or(image);
        let category = object.category_id.unwrap_or(category);
        if !places.kept.contains_key(&image) {
            if !places.dropped.contains(&image) && is_known {
                let detail = format!("image_id is {image}");
                diagnostics.add(
                    Kind::UnknownImage,
                    split.diagnostic_on_object(places, at, detail),
                );
            }
            split.objects.drop(at);
        } else if !categories.contains(&category) {
            if is_known {
                let detail = format!("category_id is {category}");
                diagnostics.add(
                    Kind::UnknownCategory,
                    split.diagnostic_on_object(places, at, detail),
                );
            }
            split.objects.drop(at);
        }
    }
}

/// Returns whether the boxes fit in the transposed images, and not as they are.
pub(super) fn is_transposed(split: &CheckedSplit) -> bool {
    let mismatch = box_fit(split, &Places::of(split)).mismatch();
    mismatch.is_some_and(|found| found.is_transposed())
}

/// Returns the positions of the images with boxes that are not within them.
pub(super) fn images_with_misfits(split: &CheckedSplit) -> BTreeSet<usize> {
    let places = Places::of(split);
    let misfits = split.objects.kept().filter_map(|(_, object)| {
        let at = places.image(object)?;
        let size = split.images.entries[at].size()?;
        is_misfit(size, object.xywh?).then_some(at)
    });
    misfits.collect()
}

/// Converts the boxes to those of the format if their convention is certain, and returns whether they are.
fn to_pixels(split: &mut CheckedSplit, places: &Places, found: &ConventionMismatch) -> bool {
    // Boxes that were rotated with their images were taken for those of the format.
    let is_rotated = split.objects.kept().any(|(_, o)| o.without_outline);
    let is_fixable = found.is_certain && found.expected.unit == BoxUnit::Pixels && !is_rotated;
    // Where no copy is written, the conversion only hides what follows from the order.
    let is_clear = |alternative: Option<BoxOrder>| {
        !split.is_whole || !alternative.is_some_and(BoxOrder::is_usual)
    };
    match found.cause {
        // The boxes are reported one by one, and no copy is written.
        MismatchCause::Unexplained => true,
        // Such boxes are within their images.
        MismatchCause::Unit(BoxUnit::Percentages) if !found.is_certain => true,
        MismatchCause::Mixed { order, alternative } if is_fixable && is_clear(alternative) => {
            let expected = split.box_numbers.order;
            to_sizes(split, order, |object| {
                let numbers = object.xywh.map(|xywh| expected.of_xywh(xywh));
                let both = numbers.zip(object.area);
                both.is_some_and(|(numbers, area)| {
                    let has_area_of = |order: BoxOrder| is_area_of(area, order.to_xywh(numbers));
                    has_area_of(order) && !has_area_of(expected)
                })
            });
            true
        }
        MismatchCause::Convention {
            convention: BoxConvention { order, unit },
            alternative,
        } if is_fixable && is_clear(alternative) => match unit {
            // The numbers of the boxes are right if those of the image sizes are exchanged.
            BoxUnit::Pixels if found.is_transposed() => false,
            BoxUnit::Pixels => {
                to_sizes(split, order, |_| true);
                true
            }
            BoxUnit::Fractions if split.is_whole && alternative.is_none() => {
                fractions_to_pixels(split, places, order);
                true
            }
            _ => false,
        },
        _ => false,
    }
}

/// Returns how well the boxes fit their images in each convention.
fn box_fit(split: &CheckedSplit, places: &Places) -> BoxFit {
    let mut fit = BoxFit::new(split.box_numbers);
    for (_, object) in split.objects.kept() {
        let image = places.image(object);
        let size = image.and_then(|at| split.images.entries[at].size());
        if let (Some(size), Some(numbers)) = (size, object.xywh) {
            fit.add(size, numbers, object.area);
        }
    }
    fit
}

/// Returns the kind of boxes in another convention.
fn kind_of(found: &ConventionMismatch) -> Kind {
    let expected = found.expected;
    match found.cause {
        MismatchCause::Unexplained => Kind::BoxesDoNotFit,
        MismatchCause::Unit(BoxUnit::Percentages) if found.is_certain => Kind::BoxesArePercentages,
        MismatchCause::Unit(BoxUnit::Percentages) => Kind::BoxesMayBePercentages,
        MismatchCause::Unit(_) => Kind::BoxesAreUnclearFractions,
        MismatchCause::Mixed { .. } if found.is_certain => Kind::BoxesAreMixed,
        MismatchCause::Mixed { .. } => Kind::BoxesMayBeMisread,
        MismatchCause::Convention {
            convention,
            alternative,
        } => match (expected, convention.order) {
            (BoxConvention::SIZES, _)
                if convention.unit != expected.unit && alternative.is_none() =>
            {
                Kind::BoxesAreFractions
            }
            _ if convention.unit != expected.unit => Kind::BoxesAreUnclearFractions,
            _ if found.is_transposed() => Kind::BoxesAreTransposed,
            (BoxConvention::SIZES, _) if !found.is_certain => Kind::BoxesMayBeNoSizes,
            _ if !found.is_certain => Kind::BoxesMayBeMisread,
            (BoxConvention::SIZES, BoxOrder::Corners) => Kind::BoxesAreCorners,
            (BoxConvention::SIZES, _) => Kind::BoxesAreNoSizes,
            (BoxConvention::CORNERS, _) => Kind::BoxesAreNoCorners,
            _ => Kind::BoxesAreNoCenters,
        },
    }
}

/// Converts all boxes of a kind that can be in an order of their numbers, in pixels, to sizes.
fn to_sizes(
    split: &mut CheckedSplit,
    order: BoxOrder,
    is_of_kind: impl Fn(&RawAnnotation) -> bool,
) {
    let expected = split.box_numbers.order;
    for at in 0..split.objects.len() {
        let object = &split.objects.entries[at];
        let (true, Some(xywh @ [_, _, w, h])) = (split.objects.is_kept(at), object.xywh) else {
            continue;
        };
        let sizes @ [_, _, width, height] = order.to_xywh(expected.of_xywh(xywh));
        if width < 0.0 || height < 0.0 || !is_of_kind(object) {
            continue;
        }
        let object = split.objects.change(at);
        object.xywh = Some(sizes);
        // The area was computed from the same numbers, unless it is that of an outline.
        if object.area.is_some_and(|area| is_near(area, w * h)) {
            object.area = Some(width * height);
        }
    }
}

/// Multiplies all boxes that can be fractions, with their numbers in an order, by the size of their image.
fn fractions_to_pixels(split: &mut CheckedSplit, places: &Places, order: BoxOrder) {
    for at in 0..split.objects.len() {
        let object = &split.objects.entries[at];
        let image = places.image(object);
        let size = image.and_then(|at| split.images.entries[at].size());
        let (true, Some(fractions), Some(size)) = (split.objects.is_kept(at), object.xywh, size)
        else {
            continue;
        };
        if !fractions.iter().all(|value| (0.0..=1.0).contains(value)) {
            continue;
        }
        let (width, height) = (size.width as f64, size.height as f64);
        let [x, y, w, h] = order.to_xywh(fractions);
        let object = split.objects.change(at);
        object.xywh = Some([x * width, y * height, w * width, h * height]);
        // The area is a fraction, too, unless it was computed in pixels.
        let fraction = object.area.filter(|area| *area <= 1.0);
        object.area = fraction.map(|area| area * width * height).or(object.area);
        // Whether the points of an outline are fractions is not known.
        object.without_outline = true;
    }
}

fn check_box(
    split: &mut CheckedSplit,
    places: &Places,
    at: usize,
    is_in_pixels: bool,
    diagnostics: &mut Diagnostics,
) {
    let object = &split.objects.entries[at];
    let image = places.image(object);
    let size = image.and_then(|at| split.images.entries[at].size());
    let (Some(xywh), Some(size)) = (object.xywh, size) else {
        return;
    };
    if let Some(kind) = impossible(xywh, size, is_in_pixels) {
        let detail = match kind {
            Kind::BoxOutside => format!("bbox {} on an image of {size}", numbers(&xywh)),
            _ => format!("bbox {}", numbers(&xywh)),
        };
        diagnostics.add(kind, split.diagnostic_on_object(places, at, detail));
        split.objects.drop(at);
        return;
    }
    if object.is_crowd {
        let detail = format!("bbox {}", numbers(&xywh));
        diagnostics.add(Kind::Crowd, split.diagnostic_on_object(places, at, detail));
    }
    check_area(split, places, at, xywh, diagnostics);
    if !is_in_pixels {
        return;
    }
    let (clipped, beyond) = clip_to_image(xywh, size);
    if beyond > EDGE_TOLERANCE {
        let detail = format!(
            "bbox {} exceeds an image of {size} by {beyond:.1} pixels",
            numbers(&xywh)
        );
        diagnostics.add(
            Kind::BoxOverEdge,
            split.diagnostic_on_object(places, at, detail),
        );
        let object = split.objects.change(at);
        let is_of_box = object
            .area
            .is_some_and(|area| is_near(area, xywh[2] * xywh[3]));
        if is_of_box {
            object.area = Some(clipped[2] * clipped[3]);
        }
        object.xywh = Some(clipped);
    }
    // The loader uses the size of the clipped box, however small the clipped part is.
    if clipped[2] <= 1.0 || clipped[3] <= 1.0 {
        let detail = format!("bbox {}", numbers(&xywh));
        diagnostics.add(
            Kind::BoxUnderPixel,
            split.diagnostic_on_object(places, at, detail),
        );
    }
}

/// Returns why a box can't be correct.
fn impossible([x, y, w, h]: [f64; 4], size: ImageSize, is_in_pixels: bool) -> Option<Kind> {
    let values = [x, y, w, h];
    if !values.iter().all(|value| value.is_finite()) {
        Some(Kind::BoxNotFinite)
    } else if values.iter().any(|value| value.abs() > LARGEST_COORDINATE) {
        Some(Kind::BoxHuge)
    } else if w < 0.0 || h < 0.0 {
        Some(Kind::BoxNegative)
    } else if w == 0.0 || h == 0.0 {
        Some(Kind::BoxZero)
    } else if is_in_pixels
        && (x >= size.width as f64 || y >= size.height as f64 || x + w <= 0.0 || y + h <= 0.0)
    {
        Some(Kind::BoxOutside)
    } else {
        None
    }
}

/// Clips a box to its image; returns the clipped box and by how many pixels the box exceeded the
/// image.
fn clip_to_image([x, y, w, h]: [f64; 4], size: ImageSize) -> ([f64; 4], f64) {
    let (width, height) = (size.width as f64, size.height as f64);
    let (x2, y2) = (x + w, y + h);
    let beyond = (-x).max(-y).max(x2 - width).max(y2 - height);
    let (left, top) = (x.max(0.0), y.max(0.0));
    let clipped = [
        left,
        top,
        if x2 > width || x < 0.0 {
            x2.min(width) - left
        } else {
            w
        },
        if y2 > height || y < 0.0 {
            y2.min(height) - top
        } else {
            h
        },
    ];
    (clipped, beyond)
}

fn check_area(
    split: &mut CheckedSplit,
    places: &Places,
    at: usize,
    [_, _, w, h]: [f64; 4],
    diagnostics: &mut Diagnostics,
) {
    let (kind, detail) = match split.objects.entries[at].area {
        None => (Kind::AreaMissing, String::new()),
        Some(area) if !(area.is_finite() && area > 0.0) => {
            (Kind::AreaWrong, format!("area {area} of a box of {w}x{h}"))
        }
        // Masks cover whole pixels, so that a slightly larger area is rounding.
        Some(area) if area > (w + 1.0) * (h + 1.0) => (
            Kind::AreaOverBox,
            format!("area {area} of a box of {w}x{h}"),
        ),
        Some(_) => return,
    };
    diagnostics.add(kind, split.diagnostic_on_object(places, at, detail));
    if kind == Kind::AreaWrong {
        split.objects.change(at).area = Some(w * h);
    }
}

fn check_repeated_boxes(split: &mut CheckedSplit, places: &Places, diagnostics: &mut Diagnostics) {
    // The last part keeps equal boxes in the order of the file, so that the first one stays.
    type Key = (u64, [u64; 4], bool, u64, usize);
    let key = |(at, object): (usize, &RawAnnotation)| -> Option<Key> {
        let bits = object.xywh?.map(f64::to_bits);
        Some((
            object.image_id?,
            bits,
            object.is_crowd,
            object.category_id?,
            at,
        ))
    };
    let mut keys: Vec<Key> = split.objects.kept().filter_map(key).collect();
    keys.sort_unstable();
    let mut same_class = Vec::new();
    for pair in keys.windows(2) {
        let ((image, bits, crowd, class, first), (image2, bits2, crowd2, class2, second)) =
            (pair[0], pair[1]);
        if (image, bits, crowd) != (image2, bits2, crowd2) {
            continue;
        }
        let xywh = numbers(&bits.map(f64::from_bits));
        let first_id = split.objects.entries[first].id.unwrap_or_default();
        if class == class2 {
            let detail = format!("bbox {xywh} is equal to that of annotation {first_id}");
            diagnostics.add(
                Kind::BoxTwice,
                split.diagnostic_on_object(places, second, detail),
            );
            same_class.push(second);
        } else {
            let detail = format!(
                "bbox {xywh} has category {class2}, and category {class} in annotation {first_id}"
            );
            diagnostics.add(
                Kind::BoxTwoClasses,
                split.diagnostic_on_object(places, second, detail),
            );
        }
    }
    for at in same_class {
        split.objects.drop(at);
    }
}

fn check_repeated_ids(split: &mut CheckedSplit, places: &Places, diagnostics: &mut Diagnostics) {
    let ids = split.objects.entries.iter().filter_map(|object| object.id);
    let mut next = ids.max().map_or(1, |largest| largest.saturating_add(1));
    let mut seen = HashSet::with_capacity(split.objects.len());
    for at in 0..split.objects.len() {
        if !split.objects.is_kept(at) {
            continue;
        }
        let Some(id) = split.objects.entries[at].id else {
            // It was reported with the entry.
            split.objects.change(at).id = Some(next);
            next = next.saturating_add(1);
            continue;
        };
        if !seen.insert(id) {
            let diagnostic = split.diagnostic_on_object(places, at, String::new());
            diagnostics.add(Kind::AnnotationIdTwice, diagnostic);
            split.objects.change(at).id = Some(next);
            next = next.saturating_add(1);
        }
    }
}

fn check_unused(split: &CheckedSplit, diagnostics: &mut Diagnostics) {
    let (mut images, mut categories) = (HashSet::new(), HashSet::new());
    for (_, object) in split.objects.kept() {
        images.extend(object.image_id);
        categories.extend(object.category_id);
    }
    for (at, image) in split.images.kept() {
        let is_empty = |id| !images.contains(&id) && !split.unread_images.contains(&id);
        if image.id.is_some_and(is_empty) {
            diagnostics.add(Kind::ImageEmpty, split.diagnostic_on_image(at, ""));
        }
    }
    for (_, category) in split.categories.kept() {
        if let (Some(id), Some(name)) = (category.id, &category.name)
            && !categories.contains(&id)
        {
            let detail = format!("{id} `{name}`");
            diagnostics.add(
                Kind::CategoryUnused,
                split.diagnostic(None, None, None, detail),
            );
        }
    }
}

/// Checks that training and evaluation have a box to work with. Training ignores boxes that the default
/// [`TargetFilter`] drops.
pub(super) fn check_any_box(split: &CheckedSplit, is_trained: bool, diagnostics: &mut Diagnostics) {
    let places = Places::of(split);
    let min_side = f64::from(TargetFilter::default().min_side);
    // The numbers of such a file are no pixels, which is reported.
    let is_in_pixels = !split.is_misread;
    let mut objects = split.objects.kept().map(|(_, object)| object);
    let is_large = |object: &RawAnnotation, xywh| {
        let size = places
            .image(object)
            .and_then(|at| split.images.entries[at].size());
        size.is_none_or(|size| {
            let ([_, _, w, h], _) = clip_to_image(xywh, size);
            w > min_side && h > min_side
        })
    };
    let is_usable = |object: &RawAnnotation| {
        let xywh = object.xywh.filter(|_| !object.is_crowd);
        xywh.is_some_and(|xywh| !(is_trained && is_in_pixels) || is_large(object, xywh))
    };
    // Boxes that were dropped, or could not be read, are reported with the reason.
    let is_dropped = split.objects.kept().count() < split.objects.len();
    if !objects.any(is_usable) && !is_dropped && split.unread_images.is_empty() {
        let file = Some(split.annotations.display().to_string());
        let detail = format!("{} and no usable box", count(split.images.len(), "image"));
        diagnostics.add(Kind::NoBoxes, split.diagnostic(file, None, None, detail));
    }
}

impl CheckedSplit {
    pub(super) fn diagnostic(
        &self,
        file: Option<String>,
        image_id: Option<u64>,
        annotation_id: Option<u64>,
        detail: String,
    ) -> Diagnostic {
        Diagnostic {
            split: self.name.clone(),
            file,
            image_id,
            annotation_id,
            detail,
        }
    }

    fn diagnostic_on_object(&self, places: &Places, at: usize, detail: String) -> Diagnostic {
        let object = &self.objects.entries[at];
        let image = places.image(object).map(|at| &self.images.entries[at]);
        let file = image.and_then(|image| image.file_name.as_deref().map(str::to_owned));
        self.diagnostic(file, object.image_id, object.id, detail)
    }
}
