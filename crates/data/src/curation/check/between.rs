//! Checks across the splits of a dataset.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::annotations::format::SplitAnnotations;
use crate::annotations::image_files::list;
use crate::annotations::joining;
use crate::annotations::layout::Split;
use crate::annotations::same_content::are_all_the_same;
use crate::annotations::{Category, category_differences};
use crate::curation::check::images::DifferenceHash;
use crate::curation::check::{CheckedSplit, Diagnostic, Diagnostics, Kind};
use crate::text::count;

/// Largest distance, in bits of 256, of the hashes of near-duplicates. Copies at 40 % of the size (resized by
/// Pillow) and JPEG quality 40 differ in up to 19 bits (one of 120 in 40), the same microscope view at
/// another focus in 30; the nearest unrelated images in 69 (COCO) and 81 (blood cells, which are very similar).
const NEAR_DUPLICATE: u32 = 36;

/// Checks the splits of a dataset against each other: category tables that differ, images in two
/// splits, classes that are evaluated but never trained, images that are not listed.
///
/// `others` are splits of other datasets, whose images may be in the same directories: they are listed there.
pub fn compare_splits(
    splits: &[CheckedSplit],
    others: &[&CheckedSplit],
    diagnostics: &mut Diagnostics,
) {
    if let Some((first, others)) = splits.split_first() {
        for other in others {
            categories(first, other, diagnostics);
        }
        not_trained(first, others, diagnostics);
    }
    for (at, split) in splits.iter().enumerate() {
        for earlier in &splits[..at] {
            leaks(earlier, split, diagnostics);
        }
    }
    // Training joins the lists of several datasets.
    let train = Split::Train.to_string();
    for split in splits.iter().filter(|split| split.name != train) {
        for other in others.iter().filter(|other| other.name == train) {
            leaks(other, split, diagnostics);
        }
    }
    not_listed(splits, others, diagnostics);
}

/// Checks that training can hold out validation images of a split, where a dataset has no others.
pub fn check_hold_out(split: &CheckedSplit, diagnostics: &mut Diagnostics) {
    // Images that cannot be used, and annotations without a sound part, are reported with the reason; without them,
    // too few may be left by chance.
    let (Some(image_root), Ok(store), 0) = (
        &split.image_directory,
        split.sound_part(),
        split.summary().images_dropped,
    ) else {
        return;
    };
    let whole = SplitAnnotations {
        split: Split::Train,
        store,
        image_root: image_root.clone(),
        dropped: Default::default(),
        besides_boxes: Default::default(),
        notes: Vec::new(),
    };
    let file = Some(split.annotations.display().to_string());
    if let Err(why) = joining::check_hold_out(&whole) {
        let diagnostic = split.diagnostic(file, None, None, why.to_string());
        diagnostics.add(Kind::CannotHoldOut, diagnostic);
    } else if are_all_the_same(&whole.image_paths()) {
        let images = count(whole.store.image_count(), "image");
        diagnostics.add(
            Kind::HeldOutCopies,
            split.diagnostic(file, None, None, images),
        );
    }
}

fn categories(first: &CheckedSplit, other: &CheckedSplit, diagnostics: &mut Diagnostics) {
    let table = |split: &CheckedSplit| -> Vec<Category> {
        // The first entry of a duplicate id counts; otherwise its difference would be listed twice.
        let mut seen = HashSet::new();
        let entries = split.categories.entries.iter();
        let mut table: Vec<Category> = entries
            .filter_map(|category| {
                Some(Category {
                    id: category.id.filter(|id| seen.insert(*id))?,
                    name: category.name.as_deref()?.to_owned(),
                })
            })
            .collect();
        table.sort_by_key(|category| category.id);
        table
    };
    let names = (first.name.as_str(), other.name.as_str());
    for detail in category_differences(&table(first), &table(other), names) {
        diagnostics.add(
            Kind::CategoriesDiffer,
            other.diagnostic(None, None, None, detail),
        );
    }
}

fn not_trained(first: &CheckedSplit, others: &[CheckedSplit], diagnostics: &mut Diagnostics) {
    if first.name != "train" {
        return;
    }
    let used = |split: &CheckedSplit| -> HashSet<u64> {
        let kept = split.objects.kept();
        kept.filter_map(|(_, object)| object.category_id).collect()
    };
    let trained = used(first);
    for other in others {
        let evaluated = used(other);
        for (_, category) in other.categories.kept() {
            if let (Some(id), Some(name)) = (category.id, &category.name)
                && evaluated.contains(&id)
                && !trained.contains(&id)
            {
                let detail = format!("{id} `{name}`");
                diagnostics.add(
                    Kind::CategoryNotTrained,
                    other.diagnostic(None, None, None, detail),
                );
            }
        }
    }
}

fn leaks(earlier: &CheckedSplit, split: &CheckedSplit, diagnostics: &mut Diagnostics) {
    let [known, paths] = [earlier, split].map(paths);
    let known: HashSet<&Path> = known.iter().map(|(_, path)| path.as_path()).collect();
    let own: HashSet<&Path> = paths.iter().map(|(_, path)| path.as_path()).collect();
    // Training uses neither, so nothing leaks into it.
    let is_other = |split: &CheckedSplit| {
        let names = [Split::Val, Split::Test].map(|split| split.to_string());
        names.contains(&split.name)
    };
    let are_others = is_other(earlier) && is_other(split);
    // A `data.yaml` whose val is train: one problem, not one for each image.
    if own.len() > 1 && own == known {
        let file = Some(split.annotations.display().to_string());
        let images = count(own.len(), "image");
        let is_test = split.name == Split::Test.to_string();
        let (kind, remedy) = match (are_others, is_test) {
            (true, _) => (Kind::TestIsVal, ""),
            (false, true) => (Kind::LeakSameSplit, "; leave test out"),
            (false, false) => (Kind::LeakSameSplit, ""),
        };
        let detail = format!("the {images} of {}{remedy}", earlier.name);
        return diagnostics.add(kind, split.diagnostic(file, None, None, detail));
    }
    let same_file = if are_others {
        Kind::TestInVal
    } else {
        Kind::LeakSameFile
    };
    if split.image_facts.is_empty() {
        for (at, path) in &paths {
            if known.contains(path.as_path()) {
                let detail = format!("the same file is in {}", earlier.name);
                diagnostics.add(same_file, split.diagnostic_on_image(*at, detail));
            }
        }
        return;
    }
    let mut by_content = HashMap::new();
    let mut hashes: Vec<(usize, DifferenceHash)> = Vec::new();
    for (at, facts) in earlier.image_facts.iter().enumerate() {
        by_content.extend(facts.content.map(|content| (content, at)));
        hashes.extend(facts.hash.map(|hash| (at, hash)));
    }
    let found: Vec<(usize, Kind, String)> = split
        .image_facts
        .par_iter()
        .enumerate()
        .filter_map(|(at, facts)| {
            let named = |at: usize| {
                let image = &earlier.images.entries[at];
                let (name, id) = (image.file_name.as_deref(), image.id);
                format!(
                    "{} {} (image {})",
                    earlier.name,
                    name.unwrap_or_default(),
                    id.unwrap_or_default()
                )
            };
            if let Some(first) = facts.content.and_then(|content| by_content.get(&content)) {
                let detail = format!("the same file as {}", named(*first));
                return Some((at, same_file, detail));
            }
            let own = facts.hash?;
            let (nearest, distance) = hashes
                .iter()
                .map(|(at, hash)| (*at, own.distance(*hash)))
                .min_by_key(|(_, distance)| *distance)?;
            (distance <= NEAR_DUPLICATE).then(|| {
                let similarity = 100.0 * (1.0 - f64::from(distance) / 256.0);
                let detail = format!("{similarity:.0} % similar to {}", named(nearest));
                (at, Kind::LeakNearDuplicate, detail)
            })
        })
        .collect();
    for (at, kind, detail) in found {
        diagnostics.add(kind, split.diagnostic_on_image(at, detail));
    }
}

/// Returns the positions and paths of the images of a split.
fn paths(split: &CheckedSplit) -> Vec<(usize, PathBuf)> {
    let root = split.image_directory.clone().unwrap_or_default();
    let images = split.images.kept();
    let named = images.filter_map(|(at, image)| Some((at, image.file_name.as_deref()?)));
    named.map(|(at, name)| (at, root.join(name))).collect()
}

/// Finds images beside listed ones that are not listed.
fn not_listed(splits: &[CheckedSplit], others: &[&CheckedSplit], diagnostics: &mut Diagnostics) {
    let mut listed: HashSet<PathBuf> = HashSet::new();
    for split in others {
        let roots = split.image_directory.iter();
        listed.extend(roots.flat_map(|root| {
            let images = split.images.entries.iter();
            let names = images.filter_map(|image| image.file_name.as_deref());
            names.map(|name| root.join(name))
        }));
    }
    let mut directories: Vec<(PathBuf, &CheckedSplit)> = Vec::new();
    for split in splits {
        // Named in a note already.
        listed.extend(split.left_out.iter().cloned());
        let Some(root) = &split.image_directory else {
            continue;
        };
        for image in &split.images.entries {
            let Some(name) = &image.file_name else {
                continue;
            };
            let path = root.join(&**name);
            let directory = path.parent().unwrap_or(Path::new("")).to_owned();
            listed.insert(path);
            if directories
                .last()
                .is_none_or(|(last, _)| *last != directory)
                && !directories.iter().any(|(known, _)| *known == directory)
            {
                directories.push((directory, split));
            }
        }
    }
    for (directory, split) in directories {
        // The images of an unreadable directory are reported as unreadable.
        let Ok(found) = list(&directory) else {
            continue;
        };
        let images = found.images.into_iter();
        let images = images.map(|name| (Kind::ImageNotListed, name));
        let unsupported = found.unsupported.into_iter();
        let unsupported = unsupported.map(|name| (Kind::ImageUnsupported, name));
        for (kind, name) in images.chain(unsupported) {
            let path = directory.join(name);
            if !listed.contains(&path) {
                let diagnostic = Diagnostic {
                    split: split.name.clone(),
                    file: Some(path.display().to_string()),
                    image_id: None,
                    annotation_id: None,
                    detail: String::new(),
                };
                diagnostics.add(kind, diagnostic);
            }
        }
    }
}
