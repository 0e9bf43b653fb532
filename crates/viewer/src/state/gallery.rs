//! Filter and order of the gallery.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::classified::{Classifications, Mistake};
use super::collection::{Collection, ShownImages};
use sedet_data::eval::matching::MatchCounts;

/// The order of the gallery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SortBy {
    /// Dataset order.
    #[default]
    Position,
    /// By file name.
    Name,
    /// The smallest F1 first; images without any box last.
    WorstF1,
    /// Most wrong detections first.
    MostWrong,
    /// Most missed objects first.
    MostMissed,
    /// Most annotated objects first.
    MostObjects,
    /// Wrongly classified images first, those with the most probable wrong class before others.
    SurestMistake,
}

impl SortBy {
    /// All orders, as the menu lists them.
    pub const ALL: [Self; 7] = [
        Self::Position,
        Self::Name,
        Self::WorstF1,
        Self::MostWrong,
        Self::MostMissed,
        Self::MostObjects,
        Self::SurestMistake,
    ];

    /// Returns the label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Position => "dataset order",
            Self::Name => "name",
            Self::WorstF1 => "worst F1 first",
            Self::MostWrong => "most wrong first",
            Self::MostMissed => "most missed first",
            Self::MostObjects => "most objects first",
            Self::SurestMistake => "surest mistakes first",
        }
    }
}

/// Images selected by a click on a chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Picked {
    /// The bar or cell, such as `dog predicted as cat`.
    pub label: String,
    /// The indices of the images, in the order of the list.
    pub images: Arc<Vec<u32>>,
}

/// Filter and order of the gallery.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GalleryQuery {
    /// Part of the file name, case-insensitive.
    pub search: String,
    /// The order.
    pub sort: SortBy,
    /// Only images with wrong or missed boxes, or with a wrong class.
    pub errors_only: bool,
    /// Only images with an annotation of this class; without labels, those that a classifier gives the class.
    pub class: Option<usize>,
    /// Only these images.
    pub picked: Option<Picked>,
}

/// What is known about the images of a gallery.
#[derive(Debug, Clone, Copy, Default)]
pub struct ImageFacts<'a> {
    /// The counts by image.
    pub counts: Option<&'a [Option<MatchCounts>]>,
    /// The classes of the images.
    pub classes: Option<&'a Classifications>,
    /// The mistakes of the classifier, the most confident first.
    pub mistakes: &'a [Mistake],
}

/// Returns the indices of the images to list.
pub fn order(collection: &Collection, query: &GalleryQuery, facts: ImageFacts<'_>) -> Vec<u32> {
    let counts = |index: u32| {
        let counts = facts.counts?;
        counts.get(index as usize).copied().flatten()
    };
    let has_predicted = |index: u32, class: usize| {
        let image = facts
            .classes
            .and_then(|classes| classes.get(index as usize));
        image.is_some_and(|image| image.predicted() == Some(class))
    };
    let search = query.search.to_lowercase();
    let keep = |&index: &u32| {
        let found = search.is_empty()
            || collection
                .image_title(index as usize)
                .to_lowercase()
                .contains(&search);
        let has_class = query.class.is_none_or(|class| match &collection.images {
            ShownImages::Boxes(_) => has_object(collection, index as usize, class),
            ShownImages::Labeled(_) => collection.label(index as usize) == Some(class),
            ShownImages::Files(_) => has_predicted(index, class),
        });
        let has_error = !query.errors_only || counts(index).is_some_and(|c| c.wrong + c.missed > 0);
        found && has_class && has_error
    };
    let mut images: Vec<u32> = match &query.picked {
        Some(picked) => picked.images.iter().copied().filter(keep).collect(),
        None => (0..collection.len() as u32).filter(keep).collect(),
    };
    // The sort is stable: ties keep the order of the dataset.
    match query.sort {
        SortBy::Position => {}
        SortBy::Name => images.sort_by_cached_key(|&index| collection.image_title(index as usize)),
        SortBy::WorstF1 => {
            let f1 = |index| counts(index).and_then(|c| c.f1()).unwrap_or(2.0);
            images.sort_by(|&a, &b| f1(a).total_cmp(&f1(b)));
        }
        SortBy::MostWrong => {
            images.sort_by_key(|&i| std::cmp::Reverse(counts(i).map(|c| c.wrong)));
        }
        SortBy::MostMissed => {
            images.sort_by_key(|&i| std::cmp::Reverse(counts(i).map(|c| c.missed)));
        }
        SortBy::MostObjects => {
            let objects = |index: u32| match &collection.images {
                ShownImages::Boxes(dataset) => dataset.store().annotations(index as usize).len(),
                ShownImages::Labeled(_) | ShownImages::Files(_) => 0,
            };
            images.sort_by_key(|&index| std::cmp::Reverse(objects(index)));
        }
        SortBy::SurestMistake => {
            let places = facts.mistakes.iter().enumerate();
            let places: HashMap<u32, usize> = places
                .map(|(place, mistake)| (mistake.image as u32, place))
                .collect();
            images.sort_by_key(|index| places.get(index).copied().unwrap_or(usize::MAX));
        }
    }
    images
}

fn has_object(collection: &Collection, index: usize, class: usize) -> bool {
    match &collection.images {
        ShownImages::Boxes(dataset) => dataset
            .store()
            .annotations(index)
            .any(|annotation| annotation.class == class),
        ShownImages::Labeled(_) | ShownImages::Files(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::two_images;

    fn counts(correct: usize, wrong: usize, missed: usize) -> Option<MatchCounts> {
        Some(MatchCounts {
            correct,
            wrong,
            missed,
        })
    }

    #[test]
    fn the_gallery_sorts_by_errors_and_filters_by_name_class_and_errors() {
        let collection = two_images();
        let images = [counts(2, 0, 0), counts(0, 1, 0)];
        let mistake = |image, probability| Mistake {
            image,
            truth: 0,
            predicted: 1,
            probability,
        };
        let facts = ImageFacts {
            counts: Some(&images),
            mistakes: &[mistake(1, 0.9), mistake(0, 0.5)],
            classes: None,
        };
        let list = |query: GalleryQuery| order(&collection, &query, facts);
        assert_eq!(list(GalleryQuery::default()), [0, 1]);
        let sort = |sort| GalleryQuery {
            sort,
            ..GalleryQuery::default()
        };
        assert_eq!(list(sort(SortBy::WorstF1)), [1, 0]);
        assert_eq!(list(sort(SortBy::MostWrong)), [1, 0]);
        assert_eq!(list(sort(SortBy::MostObjects)), [0, 1]);
        assert_eq!(list(sort(SortBy::SurestMistake)), [1, 0]);
        let errors = GalleryQuery {
            errors_only: true,
            ..GalleryQuery::default()
        };
        assert_eq!(list(errors), [1]);
        let search = GalleryQuery {
            search: "B.PNG".into(),
            ..GalleryQuery::default()
        };
        assert_eq!(list(search), [1]);
        let class = GalleryQuery {
            class: Some(1),
            ..GalleryQuery::default()
        };
        assert_eq!(list(class), [0]);
        let picked = GalleryQuery {
            picked: Some(Picked {
                label: "two".into(),
                images: Arc::new(vec![1, 0]),
            }),
            ..GalleryQuery::default()
        };
        assert_eq!(list(picked), [1, 0]);
    }
}
