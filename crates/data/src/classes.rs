//! Classes of one list in another, by name.

use std::collections::{HashMap, HashSet};

use crate::annotations::image_files::first_few;
use crate::text::printable;

/// Returns for each name the position of the class with this name among the `known` ones.
///
/// Equal lists have equal positions. Otherwise names are compared exactly, and those that are left over without
/// regard to capitals and to spaces at the ends, as programs write one class differently. A name that appears
/// twice in a list identifies no class.
///
/// # Examples
/// ```
/// use sedet_data::classes::positions_by_name;
///
/// let found = positions_by_name(&["dog", "Cat", "cow"], &["cat", "dog"]);
/// assert_eq!(found, [Some(1), Some(0), None]);
/// ```
pub fn positions_by_name<N: AsRef<str>, K: AsRef<str>>(
    names: &[N],
    known: &[K],
) -> Vec<Option<usize>> {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    let known: Vec<&str> = known.iter().map(AsRef::as_ref).collect();
    if names == known {
        return (0..names.len()).map(Some).collect();
    }
    let mut found = vec![None; names.len()];
    let spellings: [fn(&str) -> String; 2] =
        [str::to_owned, |name: &str| name.trim().to_lowercase()];
    for spelling in spellings {
        let taken: HashSet<usize> = found.iter().copied().flatten().collect();
        let own = unique_positions(&names, spelling, |at| found[at].is_none());
        let other = unique_positions(&known, spelling, |at| !taken.contains(&at));
        for (name, at) in own {
            if let Some(position) = other.get(&name) {
                found[at] = Some(*position);
            }
        }
    }
    found
}

/// Returns the positions of the names that appear once among those at `wanted` positions.
fn unique_positions(
    names: &[&str],
    spelling: fn(&str) -> String,
    wanted: impl Fn(usize) -> bool,
) -> HashMap<String, usize> {
    let mut positions: HashMap<String, Option<usize>> = HashMap::new();
    for (at, name) in names.iter().enumerate().filter(|(at, _)| wanted(*at)) {
        positions
            .entry(spelling(name))
            .and_modify(|first| *first = None)
            .or_insert(Some(at));
    }
    positions
        .into_iter()
        .filter_map(|(name, at)| Some((name, at?)))
        .collect()
}

/// Describes the names that only one of two lists has: `only in the checkpoint: cat; only in the dataset: dog`.
/// Names that appear twice, so that they identify no class, are described as such. Lists without any difference
/// give an empty string.
pub fn differing_names<A: AsRef<str>, B: AsRef<str>>(
    (first, first_names): (&str, &[A]),
    (second, second_names): (&str, &[B]),
) -> String {
    let sides = [
        (
            first,
            only_here(first_names, &positions_by_name(first_names, second_names)),
            repeated(first_names),
        ),
        (
            second,
            only_here(second_names, &positions_by_name(second_names, first_names)),
            repeated(second_names),
        ),
    ];
    let mut parts = Vec::new();
    for (side, only, repeated) in &sides {
        let only: Vec<&str> = only
            .iter()
            .map(String::as_str)
            .filter(|name| !repeated.iter().any(|twice| twice == name))
            .collect();
        if !only.is_empty() {
            parts.push(format!("only in {side}: {}", first_few(only)));
        }
    }
    for (side, _, repeated) in &sides {
        if !repeated.is_empty() {
            let names = first_few(repeated.iter().map(String::as_str));
            parts.push(format!("more than once in {side}: {names}"));
        }
    }
    parts.join("; ")
}

/// Returns the names without a position, as they can be printed.
fn only_here<N: AsRef<str>>(names: &[N], positions: &[Option<usize>]) -> Vec<String> {
    let without = names.iter().zip(positions).filter(|(_, at)| at.is_none());
    without
        .map(|(name, _)| printable(name.as_ref()).into_owned())
        .collect()
}

/// Returns the names that appear more than once, each once, as they can be printed.
fn repeated<N: AsRef<str>>(names: &[N]) -> Vec<String> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let mut repeated = Vec::new();
    for name in names {
        let count = counts.entry(name.as_ref()).or_default();
        *count += 1;
        if *count == 2 {
            repeated.push(printable(name.as_ref()).into_owned());
        }
    }
    repeated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lists_have_equal_positions_even_with_repeated_names() {
        let names = ["crane", "cat", "crane"];
        assert_eq!(
            positions_by_name(&names, &names),
            [Some(0), Some(1), Some(2)]
        );
    }

    #[test]
    fn an_exact_name_comes_before_one_in_other_capitals() {
        let found = positions_by_name(&["a", "A", " Dog"], &["A", "dog", "a"]);
        assert_eq!(found, [Some(2), Some(0), Some(1)]);
    }

    #[test]
    fn a_name_that_could_be_two_classes_is_none() {
        assert_eq!(positions_by_name(&["cat"], &["Cat", "CAT"]), [None]);
        assert_eq!(positions_by_name(&["Cat", "CAT"], &["cat"]), [None, None]);
        assert_eq!(
            positions_by_name(&["cat", "dog"], &["dog", "dog"]),
            [None, None]
        );
    }

    #[test]
    fn differences_are_named_on_both_sides() {
        let difference =
            |a: &[&str], b: &[&str]| differing_names(("the checkpoint", a), ("the dataset", b));
        assert_eq!(
            difference(&["cat", "dog"], &["DOG", "cow"]),
            "only in the checkpoint: cat; only in the dataset: cow"
        );
        assert_eq!(difference(&["a", "b"], &["b", "a"]), "");
        assert_eq!(
            difference(&["a", "b"], &["a", "a"]),
            "only in the checkpoint: a, b; more than once in the dataset: a"
        );
        let many: Vec<String> = (0..9).map(|class| format!("c{class}")).collect();
        assert_eq!(
            differing_names(("a", many.as_slice()), ("b", &["c0"])),
            "only in a: c1, c2, c3, c4, c5 and 3 more"
        );
    }
}
