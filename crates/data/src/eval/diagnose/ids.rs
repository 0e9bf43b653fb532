//! Other meanings of image and category ids.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{Cause, Diagnosis, Sample, best, diagnostic, iou, is_convincing};
use crate::eval::coco::UNDEFINED;
use crate::eval::ground_truth::GroundTruth;
use crate::eval::image_ids::some_of;
use crate::eval::results::ResultRow;
use crate::text;

/// Minimum ratio of the AP50 of an alternative meaning of the category ids to the class-agnostic
/// AP50.
const EXPLAINED_SHARE: f64 = 0.5;
/// The same for a permutation that is chosen to explain as many boxes as possible.
const EXPLAINED_BY_PERMUTATION: f64 = 0.7;

/// Number of objects whose class tells what an id means; fewer may be chance.
const FEWEST_OBJECTS: usize = 3;

/// Maps an id of a row to one of the ground truth.
type Meaning = Box<dyn Fn(u64) -> Option<u64>>;

/// Returns the meanings of ids as positions in lists and as neighbors of the right ids. `orders` are all ids in other
/// orders, with the name of each; `what` names what has the ids.
fn meanings(what: &str, orders: Vec<(&str, Vec<u64>)>) -> Vec<(String, Meaning)> {
    let mut meanings: Vec<(String, Meaning)> = Vec::new();
    for (order, ids) in orders {
        let positions: HashMap<u64, usize> = ids.iter().copied().zip(0..).collect();
        for (offset, place) in [(1, "early"), (-1, "late")] {
            let (ids, positions) = (ids.clone(), positions.clone());
            let meaning = move |id: u64| {
                let position = positions.get(&id)?.checked_add_signed(offset)?;
                ids.get(position).copied()
            };
            let name = format!("they are one place too {place} in the order of {order}");
            meanings.push((name, Box::new(meaning)));
        }
        for start in [0, 1] {
            let ids = ids.clone();
            let meaning = move |id: u64| {
                let position = usize::try_from(id.checked_sub(start)?).ok()?;
                ids.get(position).copied()
            };
            let name = format!("they count the {what} from {start} in the order of {order}");
            meanings.push((name, Box::new(meaning)));
        }
    }
    meanings.push((
        "they are one too low".into(),
        Box::new(|id| id.checked_add(1)),
    ));
    meanings.push((
        "they are one too high".into(),
        Box::new(|id| id.checked_sub(1)),
    ));
    meanings
}

/// Returns ids in the order of their values, of the annotation file and of the names of what has them.
fn orders<'a>(ids_and_names: &[(u64, &str)]) -> Vec<(&'a str, Vec<u64>)> {
    let of = |order: &[(u64, &str)]| order.iter().map(|(id, _)| *id).collect::<Vec<u64>>();
    let as_listed = of(ids_and_names);
    let mut sorted = ids_and_names.to_vec();
    sorted.sort_by_key(|(id, _)| *id);
    let mut orders = vec![("their ids", of(&sorted))];
    if orders[0].1 != as_listed {
        orders.push(("the annotation file", as_listed));
    }
    sorted.sort_by_key(|(id, name)| (*name, *id));
    let by_name = of(&sorted);
    if orders.iter().all(|(_, order)| *order != by_name) {
        orders.push(("their names", by_name));
    }
    orders
}

/// Tests alternative meanings of the image ids, ignoring classes. Returns the rows converted by the best one.
pub(super) fn other_images(
    ground_truth: &GroundTruth,
    results: &[ResultRow],
) -> Option<(Diagnosis, Vec<ResultRow>)> {
    let ap50 = |rows: &[ResultRow]| {
        let sample = Sample::draw(ground_truth, rows);
        let sample = sample.and_then(|sample| sample.without_classes());
        sample.map_or(UNDEFINED, |sample| sample.ap50(&sample.rows))
    };
    let as_written = ap50(results);
    // No gain could convince.
    if !is_convincing(1.0, as_written) {
        return None;
    }
    let images = ground_truth.images().iter();
    let images: Vec<(u64, &str)> = images
        .map(|image| (image.id, image.file_name.as_str()))
        .collect();
    let interpretations = meanings("images", orders(&images)).into_iter();
    let interpretations = interpretations.map(|(name, meaning)| {
        let rows: Vec<ResultRow> = results
            .iter()
            .filter_map(|row| {
                let image_id = meaning(row.image_id)?;
                ground_truth.image(image_id)?;
                Some(ResultRow { image_id, ..*row })
            })
            .collect();
        // A few rows that happen to fit explain nothing.
        let converted = if rows.len() * 2 < results.len() || rows.len() < FEWEST_OBJECTS {
            UNDEFINED
        } else {
            ap50(&rows)
        };
        (name, rows, converted)
    });
    // Of two meanings under which the boxes fit, as in frames of a video, the one that has an image for every row.
    let ((meaning, rows, converted), _) = best(interpretations, |(_, rows, converted)| {
        converted * rows.len() as f64 / results.len() as f64
    })?;
    if !is_convincing(converted, as_written) {
        return None;
    }
    let found: BTreeSet<u64> = results.iter().map(|row| row.image_id).collect();
    let known: BTreeSet<u64> = images.iter().map(|(id, _)| *id).collect();
    let what = if found.is_subset(&known) {
        "the image ids of the results are in the ground truth, but mean other images".to_owned()
    } else {
        format!(
            "the image ids of the results ({}) are not those of the ground truth ({})",
            some_of(&found),
            some_of(&known)
        )
    };
    let sentence = format!(
        "{what}: {meaning}; converted, AP50 without regard to classes is {converted:.3} instead of {:.3}",
        as_written.max(0.0)
    );
    Some((diagnostic(Cause::ImageIds, sentence), rows))
}

impl Sample {
    /// Tests alternative meanings of the category ids.
    pub(super) fn other_categories(&self) -> Option<Diagnosis> {
        let as_written = self.ap50(&self.rows);
        let one_class = self.without_classes()?;
        let without_classes = one_class.ap50(&one_class.rows);
        let categories = self.ground_truth.categories().iter();
        let categories: Vec<(u64, &str)> = categories
            .map(|category| (category.id, category.name.as_str()))
            .collect();
        let converted = |meaning: &dyn Fn(u64) -> Option<u64>| -> Vec<ResultRow> {
            let rows = self.rows.iter();
            rows.filter_map(|row| {
                let category_id = meaning(row.category_id)?;
                Some(ResultRow {
                    category_id,
                    ..*row
                })
            })
            .collect()
        };
        let meanings = meanings("categories", orders(&categories)).into_iter();
        let mut interpretations: Vec<_> = meanings
            .map(|(name, meaning)| (name, converted(&meaning), EXPLAINED_SHARE))
            .collect();
        if let Some(permutation) = self.permutation() {
            let rows = converted(&|id| Some(permutation.get(&id).copied().unwrap_or(id)));
            let name = self.describe(&permutation);
            interpretations.push((name, rows, EXPLAINED_BY_PERMUTATION));
        }
        let ((meaning, _, share), ap50) = best(interpretations, |(_, rows, _)| self.ap50(rows))?;
        let found: BTreeSet<u64> = self.rows.iter().map(|row| row.category_id).collect();
        let known: BTreeSet<u64> = categories.iter().map(|(id, _)| *id).collect();
        let (of_rows, of_truth) = (some_of(&found), some_of(&known));
        // Every permutation maps a few classes correctly; only the correct one explains most boxes.
        if is_convincing(ap50, as_written) && ap50 >= share * without_classes {
            let what = if found.is_subset(&known) {
                format!(
                    "the category ids of the results ({of_rows}) are in the ground truth, but mean other classes"
                )
            } else {
                format!(
                    "the category ids of the results ({of_rows}) are not those of the ground truth ({of_truth})"
                )
            };
            let sentence = format!(
                "{what}: {meaning}; converted, AP50 is {ap50:.3} instead of {:.3}",
                as_written.max(0.0)
            );
            return Some(diagnostic(Cause::CategoryIds, sentence));
        }

        let unknown = self
            .rows
            .iter()
            .filter(|row| self.ground_truth.category(row.category_id).is_none())
            .count();
        if !is_convincing(without_classes, as_written) {
            return (unknown == self.rows.len()).then(|| {
                diagnostic(
                    Cause::CategoryIds,
                    format!(
                        "none of the category ids of the results ({of_rows}) is in the ground truth ({of_truth})"
                    ),
                )
            });
        }
        // Rows of unknown categories alone are dropped with a warning.
        let is_known = |row: &&ResultRow| self.ground_truth.category(row.category_id).is_some();
        let known_rows = self.rows.iter().filter(is_known).copied().collect();
        let of_known = self.with_rows(known_rows).without_classes()?;
        if unknown < self.rows.len() && !is_convincing(of_known.ap50(&of_known.rows), as_written) {
            return None;
        }
        Some(diagnostic(
            Cause::Classes,
            format!(
                "the boxes fit but the classes do not: AP50 is {:.3}, without regard to classes \
                 {without_classes:.3} ({unknown} of {} rows have a category the ground truth lacks; ids in the \
                 results: {of_rows}; in the ground truth: {of_truth}){}",
                as_written.max(0.0),
                self.rows.len(),
                self.commonest_confusion()
            ),
        ))
    }

    /// Returns the permutation of the category ids that explains most objects: for each id of the rows, another one of
    /// the ground truth; None if every id is best as it is.
    fn permutation(&self) -> Option<HashMap<u64, u64>> {
        let mut rows_of: HashMap<u64, Vec<&ResultRow>> = HashMap::new();
        for row in &self.rows {
            rows_of.entry(row.image_id).or_default().push(row);
        }
        let mut counts: HashMap<(u64, u64), usize> = HashMap::new();
        let objects = self.ground_truth.annotations().iter();
        for object in objects.filter(|object| !object.iscrowd) {
            let rows = rows_of.get(&object.image_id).into_iter().flatten();
            let matched = rows.filter(|row| iou(object.bbox, row.bbox) >= 0.5);
            // Of the detections of an object, the one that is evaluated first.
            if let Some(row) = matched.max_by(|a, b| a.score.total_cmp(&b.score)) {
                let ids = (row.category_id, object.category_id);
                *counts.entry(ids).or_default() += 1;
            }
        }
        let mut pairs: Vec<((u64, u64), usize)> = counts.into_iter().collect();
        // By count, then by ids, so that the result is deterministic.
        pairs.sort_by_key(|(ids, count)| (std::cmp::Reverse(*count), *ids));
        let (mut permutation, mut taken) = (HashMap::new(), HashSet::new());
        for ((found, annotated), count) in pairs {
            let is_certain = found == annotated || count >= FEWEST_OBJECTS;
            if is_certain && !permutation.contains_key(&found) && taken.insert(annotated) {
                permutation.insert(found, annotated);
            }
        }
        permutation.retain(|found, annotated| found != annotated);
        (!permutation.is_empty()).then_some(permutation)
    }

    /// Describes a permutation by its first changes.
    fn describe(&self, permutation: &HashMap<u64, u64>) -> String {
        const SHOWN: usize = 4;
        let mut changes: Vec<(&u64, &u64)> = permutation.iter().collect();
        changes.sort();
        let shown = changes.iter().take(SHOWN);
        let shown: Vec<String> = shown
            .map(|(found, annotated)| format!("{found} is {}", self.named(**annotated)))
            .collect();
        let more = match changes.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("they are permuted, {}{more}", shown.join(", "))
    }

    /// Formats a category id with the name that it has in the ground truth.
    fn named(&self, id: u64) -> String {
        match self.ground_truth.category(id) {
            Some(category) => format!("{id} ({})", text::printable(&category.name)),
            None => id.to_string(),
        }
    }

    /// Describes the most frequent pair of an annotated class and a different detected class.
    fn commonest_confusion(&self) -> String {
        let mut counts: HashMap<(u64, u64), usize> = HashMap::new();
        for row in &self.rows {
            for object in self.ground_truth.annotations() {
                if object.image_id == row.image_id
                    && object.category_id != row.category_id
                    && iou(object.bbox, row.bbox) >= 0.5
                {
                    *counts
                        .entry((row.category_id, object.category_id))
                        .or_default() += 1;
                }
            }
        }
        // By count, then by ids, so that the result is deterministic.
        let Some((&(found, annotated), count)) = counts
            .iter()
            .max_by_key(|(ids, count)| (**count, std::cmp::Reverse(**ids)))
        else {
            return String::new();
        };
        format!(
            "; most often ({}) a row of category {} overlaps an object of {}",
            text::count(*count, "time"),
            self.named(found),
            self.named(annotated)
        )
    }
}
