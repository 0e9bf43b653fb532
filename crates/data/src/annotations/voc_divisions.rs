//! Divisions of Pascal VOC's annotations into splits: by lists, tables and directories, of which one is followed. Another
//! that contradicts it is named.

use std::collections::HashMap;
use std::path::Path;

use crate::annotations::layout::Split;
use crate::annotations::voc_lists::VocList;

/// A division of annotations into splits.
#[derive(Debug, Default)]
pub(super) struct Division {
    /// Where it is, relative to the directory of the dataset.
    pub(super) place: String,
    /// The splits of each annotation by its name in lower case: a list of trainval has those of val, too.
    splits: HashMap<String, Vec<Split>>,
}

/// An annotation that two divisions put into different splits.
#[derive(Debug)]
pub(super) struct Contradiction {
    name: String,
    /// Its split by the division that is followed; None if that has none.
    followed: Option<Split>,
    other: Split,
}

impl Division {
    /// Returns the division by lists.
    pub(super) fn of_lists<'l>(
        place: String,
        lists: impl IntoIterator<Item = (Split, &'l VocList)>,
    ) -> Self {
        let mut division = Self::at(place);
        for (split, list) in lists {
            for name in list.lines.keys() {
                division.add(name, split);
            }
        }
        division
    }

    /// Returns a division of nothing.
    pub(super) fn at(place: String) -> Self {
        Self {
            place,
            ..Self::default()
        }
    }

    /// Adds an annotation.
    pub(super) fn add(&mut self, name: &str, split: Split) {
        let splits = self.splits.entry(name.to_lowercase()).or_default();
        if !splits.contains(&split) {
            splits.push(split);
        }
    }

    /// Returns the first annotation that another division puts elsewhere than this one, which is followed. Where the other
    /// has no val, that of this one is a part of its train. Annotations without a split here contradict only
    /// if `is_whole`.
    pub(super) fn contradicted_by(&self, other: &Self, is_whole: bool) -> Option<Contradiction> {
        let mut all = other.splits.values().flatten();
        let has_val = all.any(|split| *split == Split::Val);
        let agrees = |own: &Split, split: &Split| {
            own == split || !has_val && (*own, *split) == (Split::Val, Split::Train)
        };
        let contradictions = other.splits.iter().filter_map(|(name, splits)| {
            let own = self.splits.get(name);
            let found = |followed, other| Contradiction {
                name: name.clone(),
                followed,
                other,
            };
            match own {
                None => is_whole.then(|| found(None, splits[0])),
                Some(own) => {
                    let mut others = splits.iter();
                    let differing = others.find(|split| !own.iter().any(|own| agrees(own, split)));
                    differing.map(|split| found(own.first().copied(), *split))
                }
            }
        });
        // The same for every order of the map.
        contradictions
            .min_by(|a, b| (a.followed.is_none(), &a.name).cmp(&(b.followed.is_none(), &b.name)))
    }
}

impl Contradiction {
    /// Describes a division that is not followed.
    pub(super) fn note(&self, place: &str) -> String {
        let Self { name, other, .. } = self;
        match self.followed {
            Some(followed) => {
                format!("{place}, by which {name} is in {other} instead of {followed}")
            }
            None => format!("{place}, by which {name} is in {other}"),
        }
    }

    /// Describes two divisions of which none is followed.
    pub(super) fn problem(&self, other: &Path) -> String {
        let (name, shown, of_other) = (&self.name, other.display(), self.other);
        match self.followed {
            Some(followed) => {
                format!("it has {name} in {followed}, and {shown} has it in {of_other}")
            }
            None => format!("it has no split of {name}, and {shown} has it in {of_other}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divisions_contradict_each_other_where_an_annotation_is_in_different_splits() {
        use Split::{Test, Train, Val};
        let division = |names: &[(&str, Split)]| {
            let mut division = Division::at("x".to_owned());
            for (name, split) in names {
                division.add(name, *split);
            }
            division
        };
        let own = division(&[("a", Train), ("b", Train), ("b", Val), ("c", Test)]);
        for (other, expected) in [
            (&[("a", Train), ("B", Val), ("c", Test)][..], None),
            // Of some annotations only, and without val.
            (&[("c", Test)], None),
            (&[("a", Train), ("b", Train), ("c", Test)], None),
            (
                &[("a", Val), ("b", Val), ("c", Test)],
                Some("x, by which a is in val instead of train"),
            ),
            (
                &[("a", Train), ("c", Train)],
                Some("x, by which c is in train instead of test"),
            ),
            (
                &[("a", Train), ("d", Test)],
                Some("x, by which d is in test"),
            ),
        ] {
            let other = division(other);
            let found = own.contradicted_by(&other, true);
            let found = found.map(|found| found.note(&other.place));
            assert_eq!(found.as_deref(), expected);
        }
        let more = division(&[("d", Test)]);
        assert!(own.contradicted_by(&more, false).is_none());
        let own = division(&[("a", Train), ("b", Val), ("c", Test)]);
        let two = division(&[("a", Train), ("b", Train), ("c", Test)]);
        assert!(own.contradicted_by(&two, true).is_none());
        assert!(two.contradicted_by(&own, true).is_some());
    }
}
