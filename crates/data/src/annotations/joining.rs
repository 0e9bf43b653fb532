//! Several annotated splits as one, and the division of a split.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::annotations::copies::are_same_but_for_rounding;
use crate::annotations::format::{Dropped, SplitAnnotations};
use crate::annotations::layout::{CannotHoldOut, Split};
use crate::annotations::same_content::{MOST_IMAGES, first_with_content};
use crate::annotations::store::BoxNumbers;
use crate::annotations::{AnnotationStore, AnnotationStoreBuilder, NewAnnotation};
use crate::directory::common_root;
use crate::text::count;
use crate::{DataError, Remedy};

/// Joins splits with equal class names into one of the given role; `names` name them in errors.
///
/// The category ids are those of the first split; images and boxes are numbered from 1. File names are
/// relative to the directory that contains all images. An image of several splits is taken once.
///
/// Boxes that differ by rounding, by at most a pixel, are the same; those of the first split are taken.
///
/// # Errors
/// The class names differ, a class name appears twice, the path of an image is not Unicode, or an image of two
/// splits has other boxes in each.
pub(crate) fn join_splits(
    split: Split,
    parts: &[(&str, &SplitAnnotations)],
) -> Result<SplitAnnotations, DataError> {
    join_with_ids(split, parts).map(|(joined, _)| joined)
}

/// The ids of a split in the splits that it was joined into.
#[derive(Debug, Default)]
pub(crate) struct JoinedIds {
    /// New ids of images; those that an earlier split has, too, are missing.
    pub(crate) images: HashMap<u64, u64>,
    /// New ids of the annotations of these images.
    pub(crate) annotations: HashMap<u64, u64>,
    /// New ids of categories.
    pub(crate) categories: HashMap<u64, u64>,
}

/// Joins splits as [`join_splits`], and returns the new ids of each.
pub(crate) fn join_with_ids(
    split: Split,
    parts: &[(&str, &SplitAnnotations)],
) -> Result<(SplitAnnotations, Vec<JoinedIds>), DataError> {
    let roots: Vec<PathBuf> = parts
        .iter()
        .map(|(_, part)| absolute(&part.image_root))
        .collect::<Result<_, _>>()?;
    let Some(((first_name, first), _)) = parts.split_first() else {
        return Err(DataError::labels(Path::new(""), "no datasets to join"));
    };
    let mut joined = JoinedSplit {
        image_root: common_root(roots.iter().map(PathBuf::as_path)),
        ..JoinedSplit::default()
    };
    for category in first.store.categories() {
        let name = category.name.clone();
        joined.builder.add_category(category.id, name);
    }
    let mut all_ids = Vec::new();
    for (of, ((name, part), root)) in parts.iter().zip(&roots).enumerate() {
        let ids = ids_by_class((first_name, &first.store), (name, &part.store))?;
        let own = part.store.categories().iter().map(|category| category.id);
        let mut new_ids = JoinedIds {
            categories: own.zip(ids.iter().copied()).collect(),
            ..JoinedIds::default()
        };
        for index in 0..part.store.image_count() {
            let path = joined.path_of(root, part.store.image(index).file_name);
            let file_name = path.to_str().ok_or_else(|| {
                DataError::labels(&path, "its name is not Unicode (UTF-8)").with(Remedy::RenameFile)
            })?;
            match joined.known.get(file_name) {
                Some(&first) => joined.compare(parts, first, (of, index), root)?,
                None => {
                    joined.known.insert(file_name.to_owned(), (of, index));
                    joined.add_image(&part.store, index, file_name, &ids, &mut new_ids);
                }
            }
        }
        all_ids.push(new_ids);
        joined.dropped.merge(&part.dropped);
        joined.besides_boxes.merge(&part.besides_boxes);
        let notes = part.notes.iter().map(|note| format!("{name}: {note}"));
        joined.notes.extend(notes);
    }
    Ok((joined.finish(split)?, all_ids))
}

/// Splits while they are joined.
#[derive(Default)]
struct JoinedSplit {
    image_root: PathBuf,
    builder: AnnotationStoreBuilder,
    /// The numbers of images and boxes, which are the ids of the last.
    images: u64,
    boxes: u64,
    /// The part and the index of the images by their file names.
    known: HashMap<String, (usize, usize)>,
    /// Images of an earlier part with equal boxes, and with boxes that differ by rounding.
    repeated: usize,
    rounded: usize,
    dropped: Dropped,
    besides_boxes: Dropped,
    notes: Vec<String>,
}

impl JoinedSplit {
    /// Returns the path of an image of a part, relative to the directory that contains all images.
    fn path_of(&self, root: &Path, file_name: &str) -> PathBuf {
        root.strip_prefix(&self.image_root)
            .unwrap_or(root)
            .join(file_name)
    }

    /// Counts an image of an earlier part.
    ///
    /// # Errors
    /// Its boxes differ from those of the earlier part.
    fn compare(
        &mut self,
        parts: &[(&str, &SplitAnnotations)],
        first: (usize, usize),
        second: (usize, usize),
        root: &Path,
    ) -> Result<(), DataError> {
        let [a, b] = [first, second].map(|(of, index)| boxes_by_class(&parts[of].1.store, index));
        if a == b {
            self.repeated += 1;
        } else if are_same_but_for_rounding(&a, &b) {
            self.rounded += 1;
        } else {
            let [first_name, name] = [first, second].map(|(of, _)| parts[of].0);
            let image = parts[second.0].1.store.image(second.1);
            return Err(DataError::contradiction(
                &root.join(image.file_name),
                format!("its boxes differ in {first_name} and {name}"),
            ));
        }
        Ok(())
    }

    /// Adds an image with its boxes; `category_ids` are those of the classes of its store.
    fn add_image(
        &mut self,
        store: &AnnotationStore,
        index: usize,
        file_name: &str,
        category_ids: &[u64],
        new_ids: &mut JoinedIds,
    ) {
        let image = store.image(index);
        self.images += 1;
        new_ids.images.insert(image.id, self.images);
        self.builder.add_image(self.images, file_name, image.size);
        let annotations = store.annotations(index);
        for (annotation, numbers) in annotations.zip(store.numbers(index)) {
            self.boxes += 1;
            let id = self.boxes;
            new_ids.annotations.insert(annotation.id, id);
            self.builder.set_flags(id, store.flags(annotation.id));
            let (image_id, is_crowd) = (self.images, annotation.is_crowd);
            let category_id = category_ids[annotation.class];
            match numbers {
                BoxNumbers::Single(xywh, area) => self.builder.add_annotation(NewAnnotation {
                    id,
                    image_id,
                    category_id,
                    xywh,
                    area: Some(area),
                    is_crowd,
                }),
                BoxNumbers::Double(xywh, area) => {
                    self.builder.add_exact_annotation(NewAnnotation {
                        id,
                        image_id,
                        category_id,
                        xywh,
                        area: Some(area),
                        is_crowd,
                    });
                }
            }
        }
    }

    fn finish(mut self, split: Split) -> Result<SplitAnnotations, DataError> {
        if self.repeated > 0 {
            let images = count(self.repeated, "image");
            self.notes.push(format!(
                "{images} of several parts, with equal boxes in each: taken once"
            ));
        }
        if self.rounded > 0 {
            let images = count(self.rounded, "image");
            self.notes.push(format!(
                "{images} of several parts, whose boxes differ by rounding (at most 1 px): those of the first are taken"
            ));
        }
        let built = self.builder.build();
        let store = built.map_err(|source| DataError::Annotations {
            path: self.image_root.clone(),
            source,
        })?;
        Ok(SplitAnnotations {
            split,
            store,
            image_root: self.image_root,
            dropped: self.dropped,
            besides_boxes: self.besides_boxes,
            notes: self.notes,
        })
    }
}

/// Returns the boxes of an image with their class names, sorted.
pub(crate) fn boxes_by_class(
    store: &AnnotationStore,
    index: usize,
) -> Vec<((&str, bool), [f64; 4])> {
    let boxes = store.annotations(index).zip(store.boxes_xywh(index));
    let mut boxes: Vec<_> = boxes
        .map(|(annotation, xywh)| {
            let name = store.categories()[annotation.class].name.as_str();
            ((name, annotation.is_crowd), xywh.map(f64::from))
        })
        .collect();
    boxes.sort_unstable_by_key(|(class, xywh)| (*class, xywh.map(f64::to_bits)));
    boxes
}

/// Returns the category ids of the first store for the classes of another, by name.
fn ids_by_class(
    (first_name, first): (&str, &AnnotationStore),
    (name, store): (&str, &AnnotationStore),
) -> Result<Vec<u64>, DataError> {
    let ids: HashMap<&str, u64> = first
        .categories()
        .iter()
        .map(|category| (category.name.as_str(), category.id))
        .collect();
    let own: HashSet<&str> = store.categories().iter().map(|c| c.name.as_str()).collect();
    let only_here = own.iter().filter(|name| !ids.contains_key(*name));
    let mut differences: Vec<String> = only_here
        .map(|class| format!("`{class}` only in {name}"))
        .collect();
    let only_first = ids.keys().filter(|class| !own.contains(*class));
    differences.extend(only_first.map(|class| format!("`{class}` only in {first_name}")));
    if differences.is_empty() && ids.len() == first.class_count() {
        let classes = store.categories().iter();
        return Ok(classes
            .filter_map(|c| ids.get(c.name.as_str()).copied())
            .collect());
    }
    if differences.is_empty() {
        differences.push(format!("a class name appears twice in {first_name}"));
    }
    differences.sort();
    Err(DataError::ClassNamesDiffer {
        first: first_name.into(),
        second: name.into(),
        difference: differences.join(", "),
    })
}

fn absolute(path: &Path) -> Result<PathBuf, DataError> {
    // The directory of a file in the current directory has an empty path.
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    std::path::absolute(path).map_err(|source| DataError::io(path, source))
}

/// One in this many images is held out where there is no validation split.
pub(crate) const HELD_OUT: u64 = 10;

/// At least a tenth is held out, or this many images, whatever their numbers.
const LEAST_HELD_OUT: usize = 20;

/// Returns the number of an image that decides whether it is held out: if it is a multiple of [`HELD_OUT`]. It is
/// built from the first eight bytes, big-endian, of the SHA-256 of a name.
pub(crate) fn held_out_number(name: &str) -> u64 {
    let first_eight = &Sha256::digest(name)[..8];
    first_eight
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Returns the number of each image, from its file name without directories.
fn held_out_numbers(store: &AnnotationStore) -> Vec<u64> {
    (0..store.image_count())
        .map(|index| {
            let name = store.image(index).file_name.rsplit(['/', '\\']).next();
            held_out_number(name.unwrap_or_default())
        })
        .collect()
}

/// Divides a split into training images and held-out validation images, about a tenth; more if a class with at least
/// two images would have none in validation.
///
/// The file name of an image decides, so that images that are added or removed, another format and another order leave
/// the others where they are: a detector is not evaluated on images that it was trained on. Images with the same bytes
/// are on one side, for the same reason. (Images that are held out
/// for the sake of a class, or because there are few, may change with the others.)
///
/// # Errors
/// There is only one image, or only one with boxes: the other part would have nothing to learn or to measure.
pub(crate) fn hold_out(
    whole: &SplitAnnotations,
) -> Result<(SplitAnnotations, SplitAnnotations), CannotHoldOut> {
    let images = whole.store.image_count();
    let (groups, parts) = divide(whole)?;
    let of = |part: usize| -> Vec<usize> {
        let positions = 0..images;
        positions
            .filter(|image| parts[groups.group_of[*image]] == part)
            .collect()
    };
    let (train, val) = (of(0), of(1));
    let copies = match images - groups.sizes.len() {
        0 => String::new(),
        copies => format!(
            "; {} of {} on the side of the original",
            count(copies, "copy"),
            if copies == 1 {
                "an image is"
            } else {
                "images are"
            }
        ),
    };
    let note = format!(
        "{} of {images} images held out of train (no val annotations; chosen by file name{copies})",
        val.len()
    );
    let part = |split, indices: &[usize], notes: Vec<String>, dropped: Dropped| SplitAnnotations {
        split,
        store: whole.store.select(indices),
        image_root: whole.image_root.clone(),
        dropped,
        besides_boxes: Dropped::default(),
        notes,
    };
    Ok((
        part(
            Split::Train,
            &train,
            whole.notes.clone(),
            whole.dropped.clone(),
        ),
        part(Split::Val, &val, vec![note], Dropped::default()),
    ))
}

/// Checks that [`hold_out`] can divide a split.
///
/// # Errors
/// As [`hold_out`].
pub(crate) fn check_hold_out(whole: &SplitAnnotations) -> Result<(), CannotHoldOut> {
    divide(whole).map(|_| ())
}

/// Groups the images of a split, and returns the part of each group: 0 is training, and 1 validation.
fn divide(whole: &SplitAnnotations) -> Result<(Groups, Vec<usize>), CannotHoldOut> {
    let store = &whole.store;
    let images = store.image_count();
    if images < 2 {
        return Err(CannotHoldOut::OneImage);
    }
    let mut first_of: Vec<usize> = if images > MOST_IMAGES {
        (0..images).collect()
    } else {
        first_with_content(&whole.image_paths())
    };
    // Images that are all the same are divided like any others.
    if first_of.iter().all(|first| *first == 0) {
        first_of = (0..images).collect();
    }
    let groups = Groups::of(store, &first_of, &held_out_numbers(store));
    let with_target = groups.has_target.iter().filter(|has_target| **has_target);
    if with_target.count() == 1 {
        let annotated: Vec<usize> = (0..images).filter(|at| store.has_target(*at)).collect();
        return Err(CannotHoldOut::OneAnnotated {
            image: store.image(annotated[0]).file_name.to_owned(),
            copies: annotated.len() - 1,
            images,
        });
    }
    let parts = groups.divided(images);
    Ok((groups, parts))
}

/// Images with the same content, which are held out together. Most groups have one image.
struct Groups {
    /// The group of each image.
    group_of: Vec<usize>,
    /// The number of images of each group.
    sizes: Vec<usize>,
    /// The smallest number of the images of each group.
    numbers: Vec<u64>,
    /// The classes that the images of each group show.
    classes: Vec<BTreeSet<usize>>,
    /// Whether an image of each group has a box that can be trained and evaluated.
    has_target: Vec<bool>,
    class_count: usize,
}

impl Groups {
    /// Groups images; `first_of` is the position of the first image with the content of each.
    fn of(store: &AnnotationStore, first_of: &[usize], image_numbers: &[u64]) -> Self {
        let mut groups = Self {
            group_of: Vec::with_capacity(first_of.len()),
            sizes: Vec::new(),
            numbers: Vec::new(),
            classes: Vec::new(),
            has_target: Vec::new(),
            class_count: store.class_count(),
        };
        for (image, &first) in first_of.iter().enumerate() {
            let group = if first == image {
                groups.sizes.push(0);
                groups.numbers.push(u64::MAX);
                groups.classes.push(BTreeSet::new());
                groups.has_target.push(false);
                groups.sizes.len() - 1
            } else {
                groups.group_of[first]
            };
            groups.group_of.push(group);
            groups.sizes[group] += 1;
            groups.numbers[group] = groups.numbers[group].min(image_numbers[image]);
            groups.classes[group].extend(store.annotations(image).map(|a| a.class));
            groups.has_target[group] |= store.has_target(image);
        }
        groups
    }

    /// Returns the part of each group of all `images`: 0 is training, and 1 validation.
    fn divided(&self, images: usize) -> Vec<usize> {
        // By chance there may be fewer, which matters where there are few.
        let least = images.div_ceil(HELD_OUT as usize).min(LEAST_HELD_OUT);
        // Many copies of one image would leave little else to measure.
        let is_large = |group: usize| self.sizes[group] > least;
        let groups = self.sizes.len();
        let is_held = |group: usize| {
            usize::from(self.numbers[group].is_multiple_of(HELD_OUT) && !is_large(group))
        };
        let mut parts: Vec<usize> = (0..groups).map(is_held).collect();
        let mut by_number: Vec<usize> = (0..groups).collect();
        by_number.sort_by_key(|&group| (is_large(group), parts[group] == 0, self.numbers[group]));
        let mut held_out = 0;
        for &group in &by_number {
            if held_out >= least {
                break;
            }
            parts[group] = 1;
            held_out += self.sizes[group];
        }
        if !parts.contains(&0) {
            parts[by_number[groups - 1]] = 0;
        }
        self.hold_out_every_class(&mut parts);
        self.give_both_a_box(&mut parts);
        parts
    }

    /// Moves a group with boxes to a part that has none: without them, nothing is learned or measured. With at least two
    /// such groups, both parts have one afterwards.
    fn give_both_a_box(&self, parts: &mut [usize]) {
        // Training comes first.
        for to in [0, 1] {
            let with_target = |part: usize| {
                let groups = 0..parts.len();
                let groups = groups.filter(move |group| self.has_target[*group]);
                groups.filter(|group| parts[*group] == part).collect()
            };
            let (there, here): (Vec<usize>, Vec<usize>) = (with_target(to), with_target(1 - to));
            if !there.is_empty() || here.len() < 2 {
                continue;
            }
            // The group that takes the fewest classes from the other part, and that with the smallest number of those.
            let lost = |group: usize| {
                let others = here.iter().filter(|other| **other != group);
                let left: BTreeSet<&usize> = others.flat_map(|g| &self.classes[*g]).collect();
                let classes = self.classes[group].iter();
                classes.filter(|class| !left.contains(class)).count()
            };
            let best = here.iter().copied();
            let best =
                best.min_by_key(|&group| (lost(group), self.sizes[group], self.numbers[group]));
            if let Some(group) = best {
                parts[group] = to;
            }
        }
    }

    /// Moves groups between training (part 0) and validation (part 1), so that each class has a training image, and
    /// each class with at least two groups one in validation where that is possible.
    fn hold_out_every_class(&self, parts: &mut [usize]) {
        // The numbers of groups of each class in both parts.
        let mut counts = vec![[0usize; 2]; self.class_count];
        let mut groups_of: Vec<Vec<usize>> = vec![Vec::new(); self.class_count];
        for (group, classes) in self.classes.iter().enumerate() {
            for &class in classes {
                counts[class][parts[group]] += 1;
                groups_of[class].push(group);
            }
        }
        let mut rarest: Vec<usize> = (0..counts.len()).collect();
        rarest.sort_by_key(|&class| (groups_of[class].len(), class));
        // Training comes first: a class that is not trained cannot be detected at all.
        for to in [0, 1] {
            let from = 1 - to;
            for &class in &rarest {
                if counts[class][to] > 0 {
                    continue;
                }
                let is_spare = |&&group: &&usize| {
                    let mut classes = self.classes[group].iter();
                    parts[group] == from
                        && (to == 0 || classes.all(|&class| counts[class][from] > 1))
                };
                // The group that helps most other classes, and that with the smallest number of those.
                let spare = groups_of[class].iter().filter(is_spare);
                let helped = |group: usize| {
                    let classes = self.classes[group].iter();
                    classes.filter(|&&class| counts[class][to] == 0).count()
                };
                let best =
                    spare.max_by_key(|&&group| (helped(group), Reverse(self.numbers[group])));
                if let Some(&group) = best {
                    parts[group] = to;
                    for &class in &self.classes[group] {
                        counts[class][from] -= 1;
                        counts[class][to] += 1;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boxes::ImageSize;

    fn part(root: &str, categories: &[(u64, &str)], images: &[(u64, &[u64])]) -> SplitAnnotations {
        let mut builder = AnnotationStoreBuilder::new();
        for (id, name) in categories {
            builder.add_category(*id, *name);
        }
        let mut id = 0;
        for (image_id, boxes) in images {
            builder.add_image(
                *image_id,
                &format!("{image_id}.jpg"),
                ImageSize::new(48, 64),
            );
            for category_id in *boxes {
                id += 1;
                builder.add_annotation(NewAnnotation {
                    id,
                    image_id: *image_id,
                    category_id: *category_id,
                    xywh: [1.0, 2.0, 3.0, 4.0],
                    area: None,
                    is_crowd: false,
                });
            }
        }
        SplitAnnotations {
            split: Split::Train,
            store: builder.build().unwrap(),
            image_root: root.into(),
            dropped: Dropped::default(),
            besides_boxes: Dropped::default(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn joined_datasets_agree_by_class_names_whatever_their_ids() {
        let a = part("/data/a", &[(1, "cat"), (2, "dog")], &[(1, &[1, 2])]);
        let b = part(
            "/data/b/images",
            &[(0, "dog"), (7, "cat")],
            &[(1, &[0, 7, 7])],
        );
        let joined = join_splits(Split::Train, &[("a", &a), ("b", &b)]).unwrap();
        assert_eq!(joined.image_root, Path::new("/data"));
        let names: Vec<&str> = (0..2).map(|i| joined.store.image(i).file_name).collect();
        assert_eq!(names, ["a/1.jpg", "b/images/1.jpg"]);
        let classes = |image: usize| -> Vec<usize> {
            joined.store.annotations(image).map(|a| a.class).collect()
        };
        assert_eq!((classes(0), classes(1)), (vec![0, 1], vec![1, 0, 0]));
        let c = part("/data/c", &[(1, "cat"), (2, "cow")], &[(1, &[])]);
        let error = join_splits(Split::Train, &[("a", &a), ("c", &c)]).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("`cow` only in c, `dog` only in a"),
            "{message}"
        );
    }

    #[test]
    fn an_image_of_two_parts_is_taken_once_and_other_boxes_are_an_error() {
        let a = part(
            "/data/a",
            &[(1, "cat"), (2, "dog")],
            &[(1, &[1, 2][..]), (2, &[1][..])],
        );
        let b = part(
            "/data/a",
            &[(7, "dog"), (9, "cat")],
            &[(2, &[9][..]), (3, &[7][..])],
        );
        let joined = join_splits(Split::Train, &[("a", &a), ("b", &b)]).unwrap();
        let names: Vec<&str> = (0..3).map(|i| joined.store.image(i).file_name).collect();
        assert_eq!(names, ["1.jpg", "2.jpg", "3.jpg"]);
        assert_eq!(joined.store.annotation_count(), 4);
        assert_eq!(
            joined.notes,
            ["1 image of several parts, with equal boxes in each: taken once"]
        );
        let mut rounded = part("/data/a", &[(1, "cat"), (2, "dog")], &[(2, &[1])]);
        let moved = |pixels: f32| NewAnnotation {
            id: 1,
            image_id: 2,
            category_id: 1,
            xywh: [1.0 + pixels, 2.0, 3.0, 4.0],
            area: None,
            is_crowd: false,
        };
        for (pixels, is_same) in [(0.9, true), (1.1, false)] {
            let mut builder = AnnotationStoreBuilder::new();
            builder.add_category(1, "cat");
            builder.add_category(2, "dog");
            builder.add_image(2, "2.jpg", ImageSize::new(48, 64));
            builder.add_annotation(moved(pixels));
            rounded.store = builder.build().unwrap();
            let joined = join_splits(Split::Train, &[("a", &a), ("rounded", &rounded)]);
            assert_eq!(joined.is_ok(), is_same, "{pixels}");
            if let Ok(joined) = joined {
                assert_eq!(
                    joined.store.boxes_xywh(1).next(),
                    Some([1.0, 2.0, 3.0, 4.0])
                );
                let note = "1 image of several parts, whose boxes differ by rounding (at most 1 px): \
                    those of the first are taken";
                assert_eq!(joined.notes, [note]);
            }
        }
        let c = part("/data/a", &[(1, "cat"), (2, "dog")], &[(2, &[2])]);
        let error = join_splits(Split::Train, &[("a", &a), ("c", &c)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/data/a/2.jpg: its boxes differ in a and c"
        );
    }

    #[test]
    fn a_tenth_is_held_out_and_no_class_loses_its_only_image() {
        let images: Vec<(u64, &[u64])> = (1..=40)
            .map(|id| (id, if id == 17 { &[1, 2][..] } else { &[1][..] }))
            .collect();
        let whole = part("x", &[(1, "cat"), (2, "rare")], &images);
        let (train, val) = hold_out(&whole).unwrap();
        let held_out = val.store.image_count();
        assert_eq!(train.store.image_count(), 40 - held_out);
        assert!((4..=6).contains(&held_out), "{held_out}");
        assert!(train.store.index_of_image(17).is_some());
        let again = hold_out(&whole).unwrap();
        assert_eq!((again.0.store, again.1.store), (train.store, val.store));
        let note = format!("{held_out} of 40 images held out of train");
        assert!(val.notes[0].starts_with(&note), "{:?}", val.notes);
    }

    #[test]
    fn copies_of_an_image_are_on_one_side() {
        let dir = tempfile::tempdir().unwrap();
        let images: Vec<(u64, &[u64])> = (1..=60).map(|id| (id, &[1][..])).collect();
        // Every image from 41 on is a copy of one of those that are held out without the copies, and others.
        for id in 1..=60 {
            let content = if id > 40 { 2 * (id - 40) } else { id };
            std::fs::write(dir.path().join(format!("{id}.jpg")), content.to_string()).unwrap();
        }
        let root = dir.path().to_str().unwrap();
        let (train, val) = hold_out(&part(root, &[(1, "cat")], &images)).unwrap();
        let of = |split: &SplitAnnotations| -> BTreeSet<u64> {
            let images = 0..split.store.image_count();
            images.map(|index| split.store.image(index).id).collect()
        };
        let (train, held_out) = (of(&train), of(&val));
        for copy in 41..=60 {
            let original = 2 * (copy - 40);
            assert_eq!(train.contains(&copy), train.contains(&original), "{copy}");
        }
        let with_copies = held_out.iter().filter(|id| **id > 40).count();
        assert!(with_copies > 0 && train.len() > 40, "{held_out:?}");
        assert!(
            val.notes[0].ends_with(
                "chosen by file name; 20 copies of images are on the side of the original)"
            ),
            "{:?}",
            val.notes
        );
        // With nothing else to divide by, copies are divided.
        for id in 1..=60 {
            std::fs::write(dir.path().join(format!("{id}.jpg")), "same").unwrap();
        }
        let (train, val) = hold_out(&part(root, &[(1, "cat")], &images)).unwrap();
        assert!(train.store.image_count() > 40 && val.store.image_count() >= 6);
    }

    #[test]
    fn images_stay_in_their_part_when_others_are_added_or_the_order_changes() {
        let images: Vec<(u64, &[u64])> = (1..=400).map(|id| (id, &[1][..])).collect();
        let held_out = |images: &[(u64, &[u64])]| -> BTreeSet<u64> {
            let (_, val) = hold_out(&part("x", &[(1, "cat")], images)).unwrap();
            (0..val.store.image_count())
                .map(|index| val.store.image(index).id)
                .collect()
        };
        let all = held_out(&images);
        assert!((25..=55).contains(&all.len()), "{}", all.len());
        let reversed: Vec<_> = images.iter().rev().copied().collect();
        assert_eq!(held_out(&reversed), all);
        let before = held_out(&images[..300]);
        assert!(before.len() > 20 && before.len() < all.len());
        let still: BTreeSet<u64> = all.iter().copied().filter(|id| *id <= 300).collect();
        assert_eq!(before, still);
    }

    #[test]
    fn each_class_of_at_least_two_images_is_held_out_and_trained() {
        // 24 images of three classes, of which a tenth would be two images.
        let images: Vec<(u64, Vec<u64>)> = (1..=24).map(|id| (id, vec![1 + id % 3])).collect();
        // A class of two images, one of which is the only one of another class; and a class of one image.
        let mut rare = images.clone();
        rare[3].1 = vec![4];
        rare[7].1 = vec![4, 5];
        let names = [
            (1, "cat"),
            (2, "dog"),
            (3, "owl"),
            (4, "pair"),
            (5, "single"),
        ];
        for (images, classes) in [(images, 3), (rare, 5)] {
            let images: Vec<(u64, &[u64])> = images.iter().map(|(id, of)| (*id, &**of)).collect();
            let (train, val) = hold_out(&part("x", &names[..classes], &images)).unwrap();
            let has = |part: &SplitAnnotations, class: usize| {
                let mut images = 0..part.store.image_count();
                images.any(|image| part.store.annotations(image).any(|a| a.class == class))
            };
            for class in 0..classes {
                assert!(has(&train, class), "{class}");
                assert_eq!(has(&val, class), class != 4, "{class}");
            }
            let number = val.store.image_count();
            assert!((3..=9).contains(&number), "{number}");
            let note = format!("{number} of 24 images held out of train");
            assert!(val.notes[0].starts_with(&note), "{:?}", val.notes);
        }
    }

    #[test]
    fn both_parts_of_a_small_split_have_an_image() {
        let images: Vec<(u64, &[u64])> = (1..=9).map(|id| (id, &[1][..])).collect();
        for count in 2..=9 {
            let (train, val) = hold_out(&part("x", &[(1, "cat")], &images[..count])).unwrap();
            let (train, val) = (train.store.image_count(), val.store.image_count());
            assert!(
                train >= 1 && val >= 1 && train + val == count,
                "{train} {val}"
            );
        }
        let refused = hold_out(&part("x", &[(1, "cat")], &images[..1])).unwrap_err();
        assert_eq!(refused, CannotHoldOut::OneImage);
    }

    #[test]
    fn both_parts_have_a_box_whichever_images_have_them() {
        let with_boxes = |part: &SplitAnnotations| {
            let images = 0..part.store.image_count();
            images.filter(|image| part.store.has_target(*image)).count()
        };
        let names = [(1, "cat"), (2, "dog")];
        // Two images of one class, and two of which each has the only box of its class.
        for classes in [[&[1][..], &[1]], [&[1], &[2]]] {
            for first in 1..=12 {
                for second in first + 1..=12 {
                    let of = |id: u64| match id {
                        _ if id == first => classes[0],
                        _ if id == second => classes[1],
                        _ => &[],
                    };
                    let images: Vec<(u64, &[u64])> = (1..=12).map(|id| (id, of(id))).collect();
                    let (train, val) = hold_out(&part("x", &names, &images)).unwrap();
                    let both = [with_boxes(&train), with_boxes(&val)];
                    assert_eq!(both, [1, 1], "{first} {second}");
                }
            }
        }
    }

    #[test]
    fn one_image_with_boxes_cannot_be_held_out() {
        for annotated in 1..=5 {
            let images = (1..=5).map(|id| (id, if id == annotated { &[1][..] } else { &[] }));
            let images: Vec<(u64, &[u64])> = images.collect();
            let refused = hold_out(&part("x", &[(1, "cat")], &images)).unwrap_err();
            assert_eq!(
                refused.to_string(),
                format!(
                    "only {annotated}.jpg of 5 images has boxes, but train and val both need some"
                )
            );
        }
        // Without any box, training reports it.
        let images: Vec<(u64, &[u64])> = (1..=5).map(|id| (id, &[][..])).collect();
        assert!(hold_out(&part("x", &[(1, "cat")], &images)).is_ok());
    }
}
