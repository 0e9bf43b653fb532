//! What a second network changes: the objects and images that it fixes and breaks, the AP of the classes, and the
//! mean gates.

use std::sync::Arc;

use rayon::prelude::*;

use super::{
    BoxFilter, BoxRef, ClassTable, Classifications, Collection, Compare, GalleryQuery, Pane,
    Picked, Predictions, ViewerState,
};
use sedet_core::excitation::Excitation;
use sedet_data::boxes::BoxXyxy;
use sedet_data::csv::to_csv;
use sedet_data::eval::CocoEvaluation;
use sedet_data::eval::matching::{ErrorType, FoundBox, ImageMatches, Verdict, match_image};

/// How the outcome of an object or an image differs between two networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Wrong or missed by the first network, right with the second.
    Fixed,
    /// Right with the first network, wrong or missed by the second.
    Broken,
    /// Wrong or missed by both.
    BothWrong,
    /// A wrong detection that only the first network has.
    OnlyFirst,
    /// A wrong detection that only the second network has.
    OnlySecond,
}

impl Change {
    /// All of them, in the order of lists.
    pub const ALL: [Self; 5] = [
        Self::Fixed,
        Self::Broken,
        Self::BothWrong,
        Self::OnlyFirst,
        Self::OnlySecond,
    ];

    /// Returns the name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Broken => "broken",
            Self::BothWrong => "both wrong",
            Self::OnlyFirst => "wrong in the first only",
            Self::OnlySecond => "wrong in the second only",
        }
    }

    fn of_outcomes(is_right: [bool; 2]) -> Option<Self> {
        match is_right {
            [true, true] => None,
            [false, true] => Some(Self::Fixed),
            [true, false] => Some(Self::Broken),
            [false, false] => Some(Self::BothWrong),
        }
    }
}

/// An object, a wrong detection or an image that two networks are compared at.
#[derive(Debug, Clone, PartialEq)]
pub struct ComparedItem {
    /// How the outcomes differ.
    pub change: Change,
    /// The index of the image.
    pub image: usize,
    /// The annotation or wrong detection, with its box in pixels of the image; none for the class of a whole image.
    pub of: Option<(BoxRef, BoxXyxy)>,
    /// The true class, or that of the wrong detection.
    pub class: usize,
    /// Class and score that each network gives the object or image; none where it finds nothing.
    pub found: [Option<(usize, f32)>; 2],
}

/// The differences between two networks over the images that both have processed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Comparison {
    /// The number of images that both have processed.
    pub images: usize,
    /// The number of objects or images that both have right.
    pub both_right: usize,
    /// What differs or is wrong with both, in the order of the images.
    pub items: Vec<ComparedItem>,
}

impl Comparison {
    /// Iterates over the items of a kind.
    pub fn of(&self, change: Change) -> impl Iterator<Item = &ComparedItem> {
        self.items.iter().filter(move |item| item.change == change)
    }

    /// Returns every item as CSV; coordinates in pixels of the image.
    pub fn to_csv(&self, collection: &Collection, classes: &ClassTable) -> String {
        let head = [
            "image",
            "kind",
            "class",
            "status",
            "first_class",
            "first_score",
            "second_class",
            "second_score",
            "x",
            "y",
            "width",
            "height",
        ];
        let mut rows: Vec<Vec<String>> = vec![head.map(str::to_owned).into()];
        rows.extend(self.items.iter().map(|item| {
            let kind = match item.of {
                Some((BoxRef::GroundTruth(_), _)) => "annotation",
                Some((BoxRef::Detection(_), _)) => "detection",
                None => "image",
            };
            let mut row = vec![
                collection.image_title(item.image),
                kind.to_owned(),
                classes.name(item.class).to_owned(),
                item.change.name().to_owned(),
            ];
            for found in item.found {
                row.push(found.map_or_else(String::new, |(c, _)| classes.name(c).to_owned()));
                row.push(found.map_or_else(String::new, |(_, score)| score.to_string()));
            }
            let sides = item
                .of
                .map(|(_, of)| of.to_xywh().map(|side| side.to_string()));
            row.extend(sides.unwrap_or_default());
            row
        }));
        to_csv(&rows)
    }

    fn collect(each: Vec<Option<(usize, Vec<ComparedItem>)>>) -> Option<Self> {
        let mut all = Self::default();
        for (right, items) in each.into_iter().flatten() {
            all.images += 1;
            all.both_right += right;
            all.items.extend(items);
        }
        (all.images > 0).then_some(all)
    }
}

/// Compares the detections of two networks with the annotations and with each other, with the matching of the verdicts.
/// Both have a wrong detection if each has one of this class at this place: with the IoU of a match.
pub(crate) fn compare_boxes(
    collection: &Collection,
    predictions: &[Predictions; 2],
    filter: &BoxFilter,
) -> Option<Comparison> {
    let each = (0..collection.len()).into_par_iter().map(|image| {
        let [first, second] = predictions.each_ref().map(|known| known.get(image));
        let found = [first?, second?].map(|found| filter.above_threshold(found));
        let truth = collection.ground_truth(image);
        let matches = found.map(|found| match_image(&truth, found, filter.iou));
        let (mut right, mut items) = (0, Vec::new());
        for (at, object) in truth.iter().enumerate().filter(|(_, t)| !t.is_crowd) {
            let is_found = matches
                .each_ref()
                .map(|matches| matches.truth[at].is_some());
            let Some(change) = Change::of_outcomes(is_found) else {
                right += 1;
                continue;
            };
            items.push(ComparedItem {
                change,
                image,
                of: Some((BoxRef::GroundTruth(at), object.box_in_image)),
                class: object.class,
                found: [0, 1].map(|network| given_to(at, &matches[network], found[network])),
            });
        }
        for (network, change) in [(0, Change::OnlyFirst), (1, Change::OnlySecond)] {
            let other = 1 - network;
            for (at, own) in wrong(&matches[network], found[network]) {
                let is_same = |(_, known): (usize, &FoundBox)| {
                    known.class == own.class
                        && known.box_in_image.iou(own.box_in_image) >= filter.iou
                };
                if wrong(&matches[other], found[other]).any(is_same) {
                    continue;
                }
                let mut scores = [None; 2];
                scores[network] = Some((own.class, own.score));
                items.push(ComparedItem {
                    change,
                    image,
                    of: Some((BoxRef::Detection(at), own.box_in_image)),
                    class: own.class,
                    found: scores,
                });
            }
        }
        Some((right, items))
    });
    Comparison::collect(each.collect())
}

fn wrong<'a>(
    matches: &'a ImageMatches,
    found: &'a [FoundBox],
) -> impl Iterator<Item = (usize, &'a FoundBox)> {
    let verdicts = found.iter().zip(&matches.found).enumerate();
    let wrong = verdicts.filter(|(_, (_, verdict))| matches!(verdict, Verdict::Wrong { .. }));
    wrong.map(|(at, (found, _))| (at, found))
}

/// Returns class and score of the detection that matches an annotation, or of the best one that mistakes it.
fn given_to(annotation: usize, matches: &ImageMatches, found: &[FoundBox]) -> Option<(usize, f32)> {
    let mistaken = || {
        matches.found.iter().position(|verdict| {
            matches!(verdict, Verdict::Wrong { error: ErrorType::Classification, nearest: Some((at, _)) }
                if *at == annotation)
        })
    };
    let at = matches.truth[annotation].or_else(mistaken)?;
    found.get(at).map(|found| (found.class, found.score))
}

/// Compares the classes that two classifiers give the images with the true ones.
pub(crate) fn compare_classes(images: &[Classifications; 2], count: usize) -> Option<Comparison> {
    let each = (0..count).map(|image| {
        let [first, second] = images.each_ref().map(|known| known.get(image));
        let both = [first?, second?];
        let class = both[0].score?.label;
        let [first, second] = both.map(|image| image.is_right());
        let Some(change) = Change::of_outcomes([first?, second?]) else {
            return Some((1, Vec::new()));
        };
        let item = ComparedItem {
            change,
            image,
            of: None,
            class,
            found: both.map(|image| image.top.first().copied()),
        };
        Some((0, vec![item]))
    });
    Comparison::collect(each.collect())
}

/// The COCO metrics of two networks over the same images.
#[derive(Debug, Clone, PartialEq)]
pub struct ApChange {
    /// The metrics of each network.
    pub evaluations: [CocoEvaluation; 2],
}

/// The AP of a class with two networks; none for a class without objects.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassChange {
    /// The name of the class.
    pub name: String,
    /// The id in the dataset.
    pub category_id: u64,
    /// The AP of each network.
    pub ap: [Option<f64>; 2],
    /// The AP50 of each network.
    pub ap50: [Option<f64>; 2],
}

/// Returns the second value minus the first.
pub(crate) fn difference([first, second]: [Option<f64>; 2]) -> Option<f64> {
    Some(second? - first?)
}

impl ApChange {
    /// Returns the number of images.
    pub fn images(&self) -> usize {
        self.evaluations[0].images
    }

    /// Returns the classes, those with the largest loss of AP first and those without objects last.
    pub fn classes(&self) -> Vec<ClassChange> {
        let defined = |value: f64| (value >= 0.0).then_some(value);
        let [first, second] = &self.evaluations;
        let pairs = first.per_class.iter().zip(&second.per_class);
        let mut classes: Vec<ClassChange> = pairs
            .map(|(a, b)| ClassChange {
                name: a.name.clone(),
                category_id: a.category_id,
                ap: [a.ap, b.ap].map(defined),
                ap50: [a.ap50, b.ap50].map(defined),
            })
            .collect();
        let key = |class: &ClassChange| difference(class.ap).unwrap_or(f64::INFINITY);
        classes.sort_by(|a, b| key(a).total_cmp(&key(b)));
        classes
    }

    /// Returns the means and the classes as CSV. The last difference is that of AP50.
    pub fn to_csv(&self) -> String {
        let head = [
            "class",
            "AP_first",
            "AP_second",
            "AP_difference",
            "AP50_first",
            "AP50_second",
            "AP50_difference",
        ];
        let row = |name: &str, ap: [Option<f64>; 2], ap50: [Option<f64>; 2]| {
            let numbers = [
                ap[0],
                ap[1],
                difference(ap),
                ap50[0],
                ap50[1],
                difference(ap50),
            ];
            let mut row = vec![name.to_owned()];
            let text = |value: Option<f64>| value.map_or_else(String::new, |v| v.to_string());
            row.extend(numbers.map(text));
            row
        };
        let means = self.evaluations.each_ref().map(|found| &found.metrics);
        let mut rows: Vec<Vec<String>> = vec![head.map(str::to_owned).into()];
        rows.push(row(
            "(mean)",
            means.map(|metrics| Some(metrics.ap)),
            means.map(|metrics| Some(metrics.ap50)),
        ));
        let classes = self.classes();
        rows.extend(
            classes
                .iter()
                .map(|class| row(&class.name, class.ap, class.ap50)),
        );
        to_csv(&rows)
    }
}

/// The mean gates of a block with the first network minus those with the second.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockDifference {
    /// The name of the block.
    pub block: String,
    /// Its index in the statistics of the first network.
    pub index: usize,
    /// By channel.
    pub differences: Vec<f32>,
}

impl BlockDifference {
    /// Returns the mean of the absolute differences.
    pub fn mean_absolute(&self) -> f64 {
        let sum: f64 = self.differences.iter().map(|d| f64::from(d.abs())).sum();
        sum / self.differences.len().max(1) as f64
    }

    /// Returns the channels, those with the largest absolute difference first.
    pub fn channels(&self) -> Vec<usize> {
        let mut channels: Vec<usize> = (0..self.differences.len()).collect();
        let size = |channel: &usize| self.differences[*channel].abs();
        channels.sort_by(|a, b| size(b).total_cmp(&size(a)));
        channels
    }
}

/// Returns the differences of the blocks that both networks have with the same number of channels, and a line about the
/// others, if there are any.
///
/// # Errors
/// The gates were measured on different images, or no block can be compared; the text says why.
pub fn gate_differences(
    first: &Excitation,
    second: &Excitation,
) -> Result<(Vec<BlockDifference>, Option<String>), String> {
    let images = |of: &Excitation| {
        let origin = &of.origin;
        format!(
            "{} images of {} {}",
            origin.images, origin.dataset, origin.split
        )
    };
    if images(first) != images(second) {
        return Err(format!(
            "the gates of the first network are of {}, those of the second of {}",
            images(first),
            images(second)
        ));
    }
    let (mut blocks, mut others) = (Vec::new(), Vec::new());
    for (index, own) in first.blocks.iter().enumerate() {
        let name = &own.block.name;
        let Some(other) = second.blocks.iter().find(|known| known.block.name == *name) else {
            others.push(format!("the second network has no {name}"));
            continue;
        };
        if own.all.mean.len() != other.all.mean.len() {
            others.push(format!(
                "{name} has {} channels in the first network and {} in the second",
                own.all.mean.len(),
                other.all.mean.len()
            ));
            continue;
        }
        let means = own.all.mean.iter().zip(&other.all.mean);
        blocks.push(BlockDifference {
            block: name.clone(),
            index,
            differences: means.map(|(own, other)| own - other).collect(),
        });
    }
    let line = others.first().map(|first| match others.len() {
        1 => first.clone(),
        more => format!("{first}, and {} more blocks differ", more - 1),
    });
    match (blocks.is_empty(), line) {
        (true, Some(line)) => Err(format!("no block can be compared: {line}")),
        (_, line) => Ok((blocks, line)),
    }
}

impl ViewerState {
    /// Returns the images to compare the networks on: those that both have processed.
    pub(crate) fn processed_by_both(&self) -> Vec<usize> {
        let both = [Pane::First, Pane::Second];
        (0..self.image_count())
            .filter(|&image| both.iter().all(|&pane| self.is_processed(pane, image)))
            .collect()
    }

    /// Shows the next item of a kind, or the previous one; begins with the first and wraps around. The gallery lists
    /// the images of these items.
    pub(crate) fn walk(&mut self, change: Change, backwards: bool) {
        let Some(comparison) = self.comparison.clone() else {
            return;
        };
        let items: Vec<&ComparedItem> = comparison.of(change).collect();
        let Some(last) = items.len().checked_sub(1) else {
            return;
        };
        let known = self.walked.filter(|(known, _)| *known == change);
        let position = match (known, backwards) {
            (None, false) => 0,
            (None, true) => last,
            (Some((_, at)), false) if at >= last => 0,
            (Some((_, at)), false) => at + 1,
            (Some((_, 0)), true) => last,
            (Some((_, at)), true) => (at - 1).min(last),
        };
        self.walked = Some((change, position));
        let mut images: Vec<u32> = items.iter().map(|item| item.image as u32).collect();
        images.dedup();
        self.list(GalleryQuery {
            picked: Some(Picked {
                label: change.name().to_owned(),
                images: Arc::new(images),
            }),
            sort: self.query.sort,
            ..GalleryQuery::default()
        });
        self.shows_first = false;
        let item = items[position];
        self.go_to(item.image);
        self.compare = Compare::Network;
        match change {
            Change::OnlyFirst => self.focus = Pane::First,
            Change::OnlySecond => self.focus = Pane::Second,
            Change::Fixed | Change::Broken | Change::BothWrong => {}
        }
        self.selected = item.of.map(|(of, _)| of);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::{found, two_images};

    #[test]
    fn objects_are_fixed_broken_or_wrong_with_both_and_wrong_detections_are_paired() {
        let collection = two_images();
        let of = |boxes: Vec<FoundBox>| {
            let mut predictions = Predictions::empty("test", 2);
            predictions.set(0, boxes);
            predictions
        };
        // The first mistakes the round object and finds the flat one, the second the other way around. Both have
        // a box at 50, and each has one of its own.
        let first = of(vec![
            found(0.0, 1, 0.9),
            found(20.0, 1, 0.8),
            found(50.0, 0, 0.7),
        ]);
        let second = of(vec![
            found(0.0, 0, 0.9),
            found(51.0, 0, 0.8),
            found(75.0, 1, 0.7),
        ]);
        let filter = BoxFilter::default();
        let comparison = compare_boxes(&collection, &[first, second], &filter).unwrap();
        assert_eq!((comparison.images, comparison.both_right), (1, 0));
        let listed: Vec<_> = comparison
            .items
            .iter()
            .map(|item| (item.change, item.of.unwrap().0, item.found))
            .collect();
        assert_eq!(
            listed,
            [
                (
                    Change::Fixed,
                    BoxRef::GroundTruth(0),
                    [Some((1, 0.9)), Some((0, 0.9))]
                ),
                (
                    Change::Broken,
                    BoxRef::GroundTruth(1),
                    [Some((1, 0.8)), None]
                ),
                (
                    Change::OnlyFirst,
                    BoxRef::Detection(0),
                    [Some((1, 0.9)), None]
                ),
                (
                    Change::OnlySecond,
                    BoxRef::Detection(2),
                    [None, Some((1, 0.7))]
                ),
            ]
        );
        let csv = comparison.to_csv(&collection, &collection.classes());
        assert!(
            csv.contains("annotation,round,fixed,\"flat, long\",0.9,round,0.9,0,0,10,10\n"),
            "{csv}"
        );
    }

    #[test]
    fn without_common_images_nothing_is_compared() {
        let collection = two_images();
        let mut predictions = [0, 1].map(|_| Predictions::empty("test", 2));
        predictions[0].set(0, Vec::new());
        predictions[1].set(1, Vec::new());
        let filter = BoxFilter::default();
        assert_eq!(compare_boxes(&collection, &predictions, &filter), None);
    }
}
