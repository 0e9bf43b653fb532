//! The blocks and classes that the user selects for figures.

use super::blocks::{SeBlock, default_blocks};
use sedet_data::text::did_you_mean;

/// The default number of classes, as in figure 6 of the SENet paper.
pub const DEFAULT_CLASSES: usize = 4;
/// The maximum number of known names in an error message.
const LISTED: usize = 8;

/// The content of figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Indices of the blocks.
    pub blocks: Vec<usize>,
    /// Labels of the classes; each has images.
    pub classes: Vec<usize>,
    /// The maximum number of channels per block, evenly spaced; at least one.
    pub channels: usize,
}

/// A block or class that cannot be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// No SE block has this name.
    #[error("unknown block '{name}'; the network has {}", listed(known))]
    Block {
        /// The unknown name.
        name: String,
        /// The known names.
        known: Vec<String>,
    },
    /// No class has this name.
    #[error(
        "unknown class '{name}'{}; the dataset has {}",
        similar_class(name, known),
        listed(known)
    )]
    Class {
        /// The unknown name.
        name: String,
        /// The known names.
        known: Vec<String>,
    },
    /// Several classes have this short name.
    #[error(
        "'{name}' is the beginning of the names of several classes: {}",
        of_labels(found)
    )]
    Ambiguous {
        /// The short name.
        name: String,
        /// The classes with their labels.
        found: Vec<(usize, String)>,
    },
}

fn of_labels(classes: &[(usize, String)]) -> String {
    let shown = classes.iter();
    let shown = shown.map(|(label, name)| format!("'{name}' (label {label})"));
    shown.collect::<Vec<_>>().join(", ")
}

/// Returns the question whether a class with a similar name was meant, or nothing.
fn similar_class(name: &str, known: &[String]) -> String {
    let lower = name.to_lowercase();
    let known: Vec<String> = known
        .iter()
        .map(|name| short_name(name).to_lowercase())
        .collect();
    did_you_mean(&lower, &known)
}

fn listed(names: &[String]) -> String {
    let first = &names[..names.len().min(LISTED)];
    let first: Vec<&str> = first.iter().map(|name| short_name(name)).collect();
    let more = match names.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", first.join(", "))
}

/// Returns the first of several names separated by commas, as in the classes of ImageNet.
pub fn short_name(class: &str) -> &str {
    class.split(',').next().unwrap_or(class)
}

/// Returns the indices of the blocks with these names, or those of [`default_blocks`] without names.
///
/// # Errors
/// [`SelectionError::Block`] for an unknown name.
pub fn choose_blocks(blocks: &[SeBlock], chosen: &[String]) -> Result<Vec<usize>, SelectionError> {
    if chosen.is_empty() {
        return Ok(default_blocks(blocks));
    }
    let find = |name: &String| {
        let same = |block: &SeBlock| block.name.eq_ignore_ascii_case(name);
        let found = blocks.iter().position(same);
        found.ok_or_else(|| SelectionError::Block {
            name: name.clone(),
            known: blocks.iter().map(|block| block.name.clone()).collect(),
        })
    };
    each_once(chosen.iter().map(find))
}

/// Returns the labels of these classes, given by name, by the part of the name before the first comma or by
/// label.
///
/// # Errors
/// [`SelectionError::Class`] for an unknown name, [`SelectionError::Ambiguous`] for the short name of several classes.
pub fn choose_classes(
    class_names: &[String],
    chosen: &[String],
) -> Result<Vec<usize>, SelectionError> {
    let find = |name: &String| {
        let named = |known: &String| known.eq_ignore_ascii_case(name);
        let short = |known: &String| short_name(known).eq_ignore_ascii_case(name);
        let label = || name.parse().ok().filter(|&n: &usize| n < class_names.len());
        if let Some(found) = class_names.iter().position(named) {
            return Ok(found);
        }
        let of_short = class_names.iter().enumerate();
        let of_short: Vec<(usize, &String)> = of_short.filter(|(_, known)| short(known)).collect();
        match of_short.as_slice() {
            [] => label().ok_or_else(|| SelectionError::Class {
                name: name.clone(),
                known: class_names.to_vec(),
            }),
            [(found, _)] => Ok(*found),
            several => Err(SelectionError::Ambiguous {
                name: name.clone(),
                found: several
                    .iter()
                    .map(|(label, known)| (*label, (*known).clone()))
                    .collect(),
            }),
        }
    };
    each_once(chosen.iter().map(find))
}

fn each_once(
    found: impl Iterator<Item = Result<usize, SelectionError>>,
) -> Result<Vec<usize>, SelectionError> {
    let mut positions = Vec::new();
    for position in found {
        let position = position?;
        if !positions.contains(&position) {
            positions.push(position);
        }
    }
    Ok(positions)
}

/// Returns the labels of the default classes: the [`DEFAULT_CLASSES`] classes with the most images, in
/// ascending order. Classes without images are excluded.
pub fn default_classes(counts: &[u32]) -> Vec<usize> {
    let mut labels: Vec<usize> = (0..counts.len()).filter(|&c| counts[c] > 0).collect();
    // The sort is stable: of equal counts the first class is kept.
    labels.sort_by_key(|&label| std::cmp::Reverse(counts[label]));
    labels.truncate(DEFAULT_CLASSES);
    labels.sort_unstable();
    labels
}

/// Returns at most `count` evenly spaced channels.
pub fn spread(channels: usize, count: usize) -> Vec<usize> {
    let count = count.clamp(1, channels.max(1)).min(channels);
    (0..count).map(|n| n * channels / count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::excitation::collector::tests::block;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn classes_are_found_by_name_by_short_name_and_by_label() {
        let names = strings(&["tench, Tinca tinca", "goldfish, Carassius auratus", "0"]);
        let found = choose_classes(&names, &strings(&["Goldfish", "tench, tinca tinca", "1"]));
        assert_eq!(found, Ok(vec![1, 0]));
        assert_eq!(choose_classes(&names, &strings(&["0"])), Ok(vec![2]));
        let cranes = strings(&["crane, wading bird", "crane, lifting machine", "Crane"]);
        assert_eq!(
            choose_classes(&cranes, &strings(&["crane", "0"])),
            Ok(vec![2, 0])
        );
        let message = choose_classes(&cranes[..2], &strings(&["crane"])).unwrap_err();
        assert_eq!(
            message.to_string(),
            "'crane' is the beginning of the names of several classes: 'crane, wading bird' (label 0), \
             'crane, lifting machine' (label 1)"
        );
        let message = choose_classes(&names, &strings(&["carp"])).unwrap_err();
        assert_eq!(
            message.to_string(),
            "unknown class 'carp'; the dataset has tench, goldfish, 0"
        );
        let message = choose_classes(&names, &strings(&["Goldfsh"])).unwrap_err();
        assert_eq!(
            message.to_string(),
            "unknown class 'Goldfsh' (did you mean 'goldfish'?); the dataset has tench, goldfish, 0"
        );
    }

    #[test]
    fn the_error_of_an_unknown_block_lists_known_ones() {
        let blocks: Vec<SeBlock> = (1..20).map(|n| block(&format!("SE_2_{n}"), 4)).collect();
        assert_eq!(
            choose_blocks(&blocks, &strings(&["se_2_3", "SE_2_1"])),
            Ok(vec![2, 0])
        );
        let message = choose_blocks(&blocks, &strings(&["SE_9_9"])).unwrap_err();
        let message = message.to_string();
        assert!(
            message.starts_with("unknown block 'SE_9_9'; the network has SE_2_1, SE_2_2"),
            "{message}"
        );
        assert!(message.ends_with("SE_2_8 and 11 more"), "{message}");
    }

    #[test]
    fn the_default_is_the_classes_with_most_images_and_evenly_spaced_channels() {
        assert_eq!(default_classes(&[1, 5, 0, 5, 2, 9, 1]), [1, 3, 4, 5]);
        assert_eq!(default_classes(&[0, 2]), [1]);
        assert_eq!(spread(256, 4), [0, 64, 128, 192]);
        assert_eq!(spread(3, 50), [0, 1, 2]);
        assert_eq!(spread(0, 50), Vec::<usize>::new());
    }
}
