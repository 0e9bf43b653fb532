//! Stratified random splits of a dataset.

use std::collections::HashMap;

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::annotations::AnnotationStore;

/// Assigns each image to a part: an index into `shares`, which need not sum to one. `first_of` is the position of the
/// first copy of each image, its own if it is no copy; copies get the part of the first.
///
/// Iterative stratification (Sechidis et al. 2011): the images of the rarest class are assigned
/// first, each to the part that lacks most boxes of that class, then those of the next rarest
/// class, and finally the images without boxes. The result is deterministic for a seed.
///
/// A part that would have no image, or none with a box, gets one of another part that has several. If there are fewer
/// such images than parts, the first parts get them. The first part, for training, gets an image of every class with
/// at least two, as long as the others keep a box, and of a class with one if another image can take its place.
pub(crate) fn stratified(
    store: &AnnotationStore,
    first_of: &[usize],
    shares: &[f64],
    seed: u64,
) -> Vec<usize> {
    let total: f64 = shares.iter().sum();
    let share = |part: usize| shares[part] / total;
    let parts = shares.len();
    let images = store.image_count();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);

    // The number of copies of each first image, itself included, and their classes with the numbers of boxes.
    let mut copies = vec![0usize; images];
    let mut contents: Vec<Vec<(usize, usize)>> = vec![Vec::new(); images];
    for (index, &first) in first_of.iter().enumerate() {
        copies[first] += 1;
        let counts = &mut contents[first];
        for annotation in store.annotations(index) {
            match counts
                .iter_mut()
                .find(|(class, _)| *class == annotation.class)
            {
                Some((_, count)) => *count += 1,
                None => counts.push((annotation.class, 1)),
            }
        }
    }
    let mut images_of_class: Vec<Vec<usize>> = vec![Vec::new(); store.class_count()];
    let mut boxes_of_class = vec![0usize; store.class_count()];
    let mut order: Vec<usize> = (0..images).filter(|&image| copies[image] > 0).collect();
    order.shuffle(&mut rng);
    for &image in &order {
        for &(class, count) in &contents[image] {
            images_of_class[class].push(image);
            boxes_of_class[class] += count;
        }
    }
    // The remaining demand of each part: boxes of each class, and images.
    let mut lacking: Vec<Vec<f64>> = (0..parts)
        .map(|part| {
            let boxes = boxes_of_class.iter();
            boxes.map(|count| *count as f64 * share(part)).collect()
        })
        .collect();
    let mut lacking_images: Vec<f64> = (0..parts).map(|part| images as f64 * share(part)).collect();
    let mut part_of: Vec<Option<usize>> = vec![None; images];
    let mut classes: Vec<usize> = (0..store.class_count()).collect();
    classes.sort_by_key(|&class| (images_of_class[class].len(), class));
    for class in classes {
        for &image in &images_of_class[class] {
            if part_of[image].is_some() {
                continue;
            }
            // Ties go to the part that lacks more images, then to a random one.
            let ranks: Vec<u32> = (0..parts).map(|_| rng.random()).collect();
            let part = largest(parts, |part| {
                (lacking[part][class], lacking_images[part], ranks[part])
            });
            part_of[image] = Some(part);
            lacking_images[part] -= copies[image] as f64;
            for &(class, count) in &contents[image] {
                lacking[part][class] -= count as f64;
            }
        }
    }
    for &image in &order {
        if part_of[image].is_none() {
            let part = largest(parts, |part| (lacking_images[part], 0.0, 0));
            part_of[image] = Some(part);
            lacking_images[part] -= copies[image] as f64;
        }
    }
    let mut part_of: Vec<usize> = part_of.into_iter().map(Option::unwrap_or_default).collect();
    let mut has_target = vec![false; images];
    for (index, &first) in first_of.iter().enumerate() {
        has_target[first] |= store.has_target(index);
    }
    let with_boxes: Vec<usize> = order.iter().copied().filter(|at| has_target[*at]).collect();
    for wanted in [&order, &with_boxes] {
        fill_empty_parts(wanted, &order, parts, &mut part_of, &contents);
    }
    keep_classes_in_first_part(
        &order,
        &images_of_class,
        &contents,
        &has_target,
        &mut part_of,
    );
    first_of.iter().map(|&first| part_of[first]).collect()
}

/// Moves an image of each class that the first part lacks to it, where the other part keeps a box: a class that is not
/// trained cannot be detected at all. An image that is not the first part's last of a class takes the opposite way, if
/// there is one.
fn keep_classes_in_first_part(
    order: &[usize],
    images_of_class: &[Vec<usize>],
    contents: &[Vec<(usize, usize)>],
    has_target: &[bool],
    part_of: &mut [usize],
) {
    let mut classes: Vec<usize> = (0..images_of_class.len()).collect();
    classes.sort_by_key(|&class| (images_of_class[class].len(), class));
    for class in classes {
        let images = &images_of_class[class];
        if images.iter().any(|image| part_of[*image] == 0) {
            continue;
        }
        let is_spare = |image: usize, part_of: &[usize]| {
            let mut others = order.iter().filter(|other| **other != image);
            others.any(|other| part_of[*other] == part_of[image] && has_target[*other])
        };
        // That of the class with most images: the part keeps the others.
        let of_part = |part: usize| images.iter().filter(|at| part_of[**at] == part).count();
        let spare = images.iter().copied().filter(|at| is_spare(*at, part_of));
        let Some(moved) = spare.max_by_key(|&at| (of_part(part_of[at]), std::cmp::Reverse(at)))
        else {
            continue;
        };
        let from = part_of[moved];
        part_of[moved] = 0;
        let is_last = |image: usize| {
            let mut of_image = contents[image].iter();
            of_image.any(|(class, _)| {
                let mut others = images_of_class[*class].iter().filter(|at| **at != image);
                !others.any(|other| part_of[*other] == 0)
            })
        };
        let mut back = order.iter().copied().filter(|at| part_of[*at] == 0);
        let back = back
            .find(|at| *at != moved && !is_last(*at) && has_target[*at] && is_spare(*at, part_of));
        match back {
            Some(back) => part_of[back] = from,
            // Classes of one image each would all be trained, and none evaluated.
            None if images.len() == 1 => part_of[moved] = from,
            None => {}
        }
    }
}

/// Moves one of the `wanted` images to each part that has none of them, from the part that has most, if these are
/// several, or else from a later part. Another image of `order` takes the opposite way if there is one, so that the
/// parts keep their sizes. `contents` are the classes of each image.
fn fill_empty_parts(
    wanted: &[usize],
    order: &[usize],
    parts: usize,
    part_of: &mut [usize],
    contents: &[Vec<(usize, usize)>],
) {
    for to in 0..parts {
        let mut of_part: Vec<Vec<usize>> = vec![Vec::new(); parts];
        for &image in wanted {
            of_part[part_of[image]].push(image);
        }
        if !of_part[to].is_empty() {
            continue;
        }
        let largest = (0..parts).max_by_key(|part| of_part[*part].len());
        let largest = largest.filter(|part| of_part[*part].len() > 1);
        let later = || (to + 1..parts).rfind(|part| !of_part[*part].is_empty());
        let Some(from) = largest.or_else(later) else {
            continue;
        };
        let candidates = &of_part[from];
        let mut images_of_class: HashMap<usize, usize> = HashMap::new();
        for (class, _) in candidates.iter().flat_map(|image| &contents[*image]) {
            *images_of_class.entry(*class).or_default() += 1;
        }
        // The other part should keep its classes; of equal images, the first of the random order is taken.
        let lost_classes = |image: &&usize| {
            let classes = contents[**image].iter();
            classes
                .filter(|(class, _)| images_of_class[class] == 1)
                .count()
        };
        if let Some(&image) = candidates.iter().min_by_key(lost_classes) {
            let mut others = order.iter().filter(|at| part_of[**at] == to);
            if let Some(&other) = others.next() {
                part_of[other] = from;
            }
            part_of[image] = to;
        }
    }
}

/// Returns the part with the largest rank; the first on ties.
fn largest(parts: usize, rank: impl Fn(usize) -> (f64, f64, u32)) -> usize {
    let above = |a: (f64, f64, u32), b: (f64, f64, u32)| {
        a.0.total_cmp(&b.0)
            .then(a.1.total_cmp(&b.1))
            .then(a.2.cmp(&b.2))
            .is_gt()
    };
    (1..parts).fold(0, |best, part| {
        if above(rank(part), rank(best)) {
            part
        } else {
            best
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::{AnnotationStoreBuilder, NewAnnotation};
    use crate::boxes::ImageSize;
    use proptest::prelude::*;

    fn store(images: &[Vec<u64>]) -> AnnotationStore {
        let mut builder = AnnotationStoreBuilder::new();
        for class in 0..4 {
            builder.add_category(class, format!("c{class}"));
        }
        let mut id = 0;
        for (image, classes) in (1..).zip(images) {
            builder.add_image(image, "a.jpg", ImageSize::new(10, 10));
            for &category_id in classes {
                id += 1;
                builder.add_annotation(NewAnnotation {
                    id,
                    image_id: image,
                    category_id,
                    xywh: [0.0, 0.0, 5.0, 5.0],
                    area: None,
                    is_crowd: false,
                });
            }
        }
        builder.build().unwrap()
    }

    /// Divides images of which none is a copy.
    fn divided(store: &AnnotationStore, shares: &[f64], seed: u64) -> Vec<usize> {
        let first_of: Vec<usize> = (0..store.image_count()).collect();
        stratified(store, &first_of, shares, seed)
    }

    #[test]
    fn copies_get_the_part_of_the_first_and_count_in_its_share() {
        let images: Vec<Vec<u64>> = (0..40).map(|_| vec![0]).collect();
        // Every fourth image is a copy of the one before it, and one image has six copies.
        let first_of: Vec<usize> = (0..40)
            .map(|at| match at {
                20..27 => 20,
                27 => 27,
                _ if at % 4 == 3 => at - 1,
                _ => at,
            })
            .collect();
        let parts = stratified(&store(&images), &first_of, &[0.75, 0.25], 3);
        for (at, first) in first_of.iter().enumerate() {
            assert_eq!(parts[at], parts[*first], "{at}");
        }
        let held = parts.iter().filter(|part| **part == 1).count();
        assert!((9..=12).contains(&held), "{held}");
    }

    #[test]
    fn a_rare_class_is_split_in_proportion() {
        // 100 images of class 0, ten of which contain the rare class 3.
        let images: Vec<Vec<u64>> = (0..100)
            .map(|i| if i % 10 == 0 { vec![0, 3] } else { vec![0] })
            .collect();
        let parts = divided(&store(&images), &[0.7, 0.2, 0.1], 5);
        let count = |part: usize, rare: bool| {
            let found = parts.iter().enumerate();
            found
                .filter(|(image, found)| **found == part && (!rare || image % 10 == 0))
                .count()
        };
        assert_eq!([0, 1, 2].map(|part| count(part, true)), [7, 2, 1]);
        assert_eq!([0, 1, 2].map(|part| count(part, false)), [70, 20, 10]);
    }

    #[test]
    fn a_class_with_two_images_is_trained() {
        // Two images of the rare class 1, each with many boxes of class 0.
        let images: Vec<Vec<u64>> = (0..12)
            .map(|at| if at < 2 { vec![0, 0, 1] } else { vec![0] })
            .collect();
        for seed in 0..60 {
            for shares in [&[0.5, 0.5][..], &[0.2, 0.8], &[0.4, 0.3, 0.3]] {
                let parts = divided(&store(&images), shares, seed);
                assert!(parts[..2].contains(&0), "{seed} {shares:?}: {parts:?}");
                let trained = parts.iter().filter(|part| **part == 0).count() as f64;
                assert!((trained - 12.0 * shares[0]).abs() <= 1.5, "{parts:?}");
            }
        }
        // Classes of one image each are not all trained.
        let single: Vec<Vec<u64>> = (0..4).map(|class| vec![class]).collect();
        let parts = divided(&store(&single), &[0.5, 0.5], 1);
        assert_eq!(parts.iter().sum::<usize>(), 2, "{parts:?}");
    }

    #[test]
    fn every_part_gets_an_image_with_a_box_if_there_are_enough() {
        // An image with eleven copies, and another one: which comes first depends on the seed.
        let images: Vec<Vec<u64>> = (0..13).map(|_| vec![0]).collect();
        let first_of: Vec<usize> = (0..13).map(|at| if at < 12 { 0 } else { 12 }).collect();
        // Of twelve images two have boxes.
        let few: Vec<Vec<u64>> = (0..12)
            .map(|at| if at < 2 { vec![at] } else { vec![] })
            .collect();
        for seed in 0..30 {
            let parts = stratified(&store(&images), &first_of, &[0.8, 0.2], seed);
            assert_ne!(parts[0], parts[12], "{seed}");
            let parts = divided(&store(&few), &[0.8, 0.2], seed);
            assert_ne!(parts[0], parts[1], "{seed}");
            // The other images make up for the two.
            let held = parts.iter().filter(|part| **part == 1).count();
            assert!((2..=3).contains(&held), "{seed}: {parts:?}");
            let parts = divided(&store(&images[..3]), &[0.8, 0.1, 0.1], seed);
            assert!((0..3).all(|part| parts.contains(&part)), "{parts:?}");
        }
    }

    proptest! {
        #[test]
        fn images_with_boxes_are_in_the_first_parts_if_there_are_too_few_for_all(
            boxed in proptest::collection::vec(any::<bool>(), 1..8),
            shares in proptest::collection::vec(0.05f64..1.0, 2..4),
            seed in any::<u64>(),
        ) {
            let images: Vec<Vec<u64>> = boxed.iter().map(|boxed| vec![0; usize::from(*boxed)]).collect();
            let parts = divided(&store(&images), &shares, seed);
            let with_boxes = boxed.iter().filter(|boxed| **boxed).count();
            for part in 0..shares.len() {
                let mut of_part = boxed.iter().zip(&parts).filter(|(_, found)| **found == part);
                prop_assert_eq!(of_part.any(|(boxed, _)| *boxed), part < with_boxes, "{:?}", parts);
                prop_assert_eq!(parts.contains(&part), part < boxed.len(), "{:?}", parts);
            }
        }

        #[test]
        fn every_image_gets_a_part_that_depends_on_the_seed_alone(
            images in proptest::collection::vec(proptest::collection::vec(0u64..4, 0..4), 1..60),
            seed in any::<u64>(),
        ) {
            let store = store(&images);
            let parts = divided(&store, &[0.8, 0.2], seed);
            prop_assert_eq!(parts.len(), images.len());
            prop_assert!(parts.iter().all(|part| *part < 2));
            prop_assert_eq!(divided(&store, &[0.8, 0.2], seed), parts);
        }
    }
}
