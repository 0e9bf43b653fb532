//! Lists of the images of splits, or of the labels of images, in a table or a text: recognized where they are not read,
//! so that they can be named.

use std::path::{Path, PathBuf};

use crate::annotations::image_files::{DirectoryListing, has_extension};
use crate::annotations::layout::Split;
use crate::images::decode::has_image_extension;
use crate::text_file::beginning;

/// The extensions of lists.
const EXTENSIONS: [&str; 4] = ["txt", "csv", "tsv", "json"];

/// Returns whether a file is named after a split, such as `train.csv` and `trainlist01.txt`, or after lists and labels,
/// such as `splits.csv`, and then names images or splits.
pub(crate) fn is_list(path: &Path) -> bool {
    let words = words_of(path);
    is_table(path)
        && !words.iter().any(|word| is_of_results(word))
        && (words.iter().any(|word| denotes_split(word))
            || words.iter().any(|word| denotes_list(word)) && names_images(path))
}

/// Returns whether a file is a [list](is_list) by its name and names images or splits.
pub(crate) fn is_list_of_images(path: &Path) -> bool {
    is_list(path) && names_images(path)
}

/// Returns whether a directory is named after lists: `splits`, `ImageSets`. Labels are in a file for each image.
pub(crate) fn is_place_of_lists(directory: &Path) -> bool {
    let words = words_of(directory);
    words.iter().any(|word| denotes_list(word))
        && !words.iter().any(|word| word == "label" || word == "labels")
}

/// Returns the [lists](is_list) in and below a directory.
pub(crate) fn lists_within(directory: &Path) -> Vec<PathBuf> {
    /// Folds in a directory of lists.
    const DEPTH: usize = 3;
    let mut found = Vec::new();
    let mut open = vec![(directory.to_owned(), 0)];
    while let Some((path, depth)) = open.pop() {
        let listing = DirectoryListing::of(&path);
        if depth < DEPTH {
            let inner = listing.directories.iter();
            open.extend(inner.map(|name| (path.join(name), depth + 1)));
        }
        let files = listing.files.iter().map(|name| path.join(name));
        found.extend(files.filter(|path| is_list(path)));
    }
    found.sort();
    found
}

fn is_table(path: &Path) -> bool {
    let mut extensions = EXTENSIONS.iter();
    extensions.any(|extension| has_extension(path, extension))
}

/// Returns the words of a name without its extension, in lower case and without numbers at their ends.
fn words_of(path: &Path) -> Vec<String> {
    let stem = path.file_stem().unwrap_or_default();
    let stem = stem.to_string_lossy().to_lowercase();
    let words = stem.split(|character: char| !character.is_alphanumeric());
    words
        .map(|word| word.trim_matches(|character: char| character.is_ascii_digit()))
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Returns whether a word is the name of a split, perhaps joined with what a list is: `trainlist`, `testset`.
fn denotes_split(word: &str) -> bool {
    const AFFIXES: [&str; 7] = ["list", "lists", "set", "split", "files", "ids", "images"];
    let affixes = AFFIXES.iter().filter_map(|affix| {
        word.strip_suffix(affix)
            .or_else(|| word.strip_prefix(affix))
    });
    let mut names = affixes.chain([word]);
    names.any(|name| name == "trainval" || Split::of_name(name).is_some())
}

fn denotes_list(word: &str) -> bool {
    const LISTS: [&str; 12] = [
        "split",
        "splits",
        "list",
        "lists",
        "filelist",
        "imagesets",
        "fold",
        "folds",
        "label",
        "labels",
        "partition",
        "partitions",
    ];
    LISTS.contains(&word)
}

/// Returns whether a word says that a table is what a program wrote about a run.
fn is_of_results(word: &str) -> bool {
    const RESULTS: [&str; 14] = [
        "result",
        "results",
        "log",
        "logs",
        "loss",
        "metric",
        "metrics",
        "pred",
        "preds",
        "predictions",
        "history",
        "config",
        "args",
        "submission",
    ];
    RESULTS.contains(&word)
}

/// Returns whether the beginning of a text has the name of an image or that of a split.
fn names_images(path: &Path) -> bool {
    const BEGINNING: u64 = 1 << 14;
    let is_end = |character: char| character.is_whitespace() || ",;:|\"'[]{}()".contains(character);
    let text = beginning(path, BEGINNING).unwrap_or_default();
    let mut parts = text.split(is_end).filter(|part| !part.is_empty());
    parts.any(|part| has_image_extension(Path::new(part)) || Split::of_name(part).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_recognized_by_their_names_and_images() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text, expected) in [
            ("train.txt", "", true),
            ("trainlist01.txt", "rose/1 1", true),
            ("val_list.csv", "", true),
            ("train_test_split.txt", "1 0", true),
            ("splits.csv", "path,split\nrose/1.jpg,train\n", true),
            ("splits.json", r#"{"train": ["q1"], "val": ["q2"]}"#, true),
            ("labels.csv", "path,label\nrose/1.jpg,rose\n", true),
            ("fold_1.tsv", "a.png\t1\n", true),
            ("labels.txt", "0 rose\n1 tulip\n", false),
            ("classes.txt", "rose.jpg\n", false),
            ("noisy_imagenette.csv", "path\nval/1.jpg\n", false),
            ("test_results.csv", "1.jpg,0.5\n", false),
            ("train.log", "", false),
            ("latest.txt", "", false),
        ] {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            assert_eq!(is_list(&path), expected, "{name}");
        }
        let inner = dir.path().join("splits/1");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(inner.join("test.txt"), "").unwrap();
        let places = ["splits/1/test.txt"].map(|name| dir.path().join(name));
        assert_eq!(lists_within(&dir.path().join("splits")), places);
        assert!(!is_list_of_images(&places[0]));
        for (name, expected) in [("ImageSets", true), ("split_1", true), ("texts", false)] {
            assert_eq!(is_place_of_lists(Path::new(name)), expected, "{name}");
        }
    }
}
