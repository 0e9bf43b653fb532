//! Lists of the images of splits, or of the labels of images, in a table or a text: recognized where they are not read,
//! so that they can be named.

use std::path::{Path, PathBuf};

use crate::annotations::image_files::{DirectoryListing, has_extension};
use crate::annotations::layout::Split;
use crate::annotations::locations::without_hash;
use crate::images::decode::has_image_extension;
use crate::text_file::beginning;

/// The extensions of lists; the last is that of MXNet's.
const EXTENSIONS: [&str; 7] = ["txt", "csv", "tsv", "json", "yaml", "yml", "lst"];

/// Returns whether a file is named after a split, such as `train.csv` and `trainlist01.txt`, or after lists and labels,
/// such as `splits.csv`, and then names images or splits. So does CUB-200's `images.txt`.
pub(crate) fn is_list(path: &Path) -> bool {
    let words = words_of(path);
    is_table(path)
        && !words.iter().any(|word| is_of_results(word))
        // `train.yaml` is often the configuration of a training.
        && (words.iter().any(|word| denotes_split(word)) && (!is_yaml(path) || names_image_files(path))
            || words.iter().any(|word| denotes_list(word)) && names_images(path)
            || has_extension(path, "txt") && words == ["images"] && names_image_files(path))
}

/// Returns whether the beginning of a table divides the images of a dataset, whatever the table is called: it names one of
/// them, and has a column of splits or the name of a split beside it. `is_image` gets the last part of a name, in lower
/// case.
pub(crate) fn divides_images(path: &Path, is_image: &dyn Fn(&str) -> bool) -> bool {
    if !is_table(path) || words_of(path).iter().any(|word| is_of_results(word)) {
        return false;
    }
    let text = beginning(path, BEGINNING).unwrap_or_default();
    let names_image = |part: &str| {
        let name = part.rsplit(['/', '\\']).next().unwrap_or(part);
        has_image_extension(Path::new(name)) && is_image(&name.to_lowercase())
    };
    // The values of one document may be in any lines, and a sentence may have the name of a split.
    if is_yaml(path) || has_extension(path, "json") {
        let mut parts = parts_of(&text);
        return parts.any(|part| Split::of_name(part).is_some())
            && parts_of(&text).any(names_image);
    }
    let mut lines = text.lines().map(cells_of);
    let has_column = lines
        .next()
        .is_some_and(|cells| cells.iter().any(|cell| denotes_column(cell)));
    text.lines().map(cells_of).any(|cells| {
        let is_row = has_column || cells.iter().any(|cell| Split::of_name(cell).is_some());
        is_row && cells.iter().any(|cell| names_image(cell))
    })
}

/// Returns whether the beginning of a text names one of the images of a dataset; `is_image` gets the last part of a name,
/// in lower case.
pub(crate) fn names_any(path: &Path, is_image: &dyn Fn(&str) -> bool) -> bool {
    let text = beginning(path, BEGINNING).unwrap_or_default();
    let names = parts_of(&text).map(|part| part.rsplit(['/', '\\']).next().unwrap_or(part));
    // VIA appends the size of the file: `a.jpg123`.
    let mut names = names.map(|name| name.trim_end_matches(|byte: char| byte.is_ascii_digit()));
    names.any(|name| {
        let names = [Some(name), without_hash(name)];
        let mut names = names.into_iter().flatten();
        has_image_extension(Path::new(name)) && names.any(|name| is_image(&name.to_lowercase()))
    })
}

/// Returns the cells of a line of a table; without commas and the like, its words.
fn cells_of(line: &str) -> Vec<&str> {
    const SEPARATORS: &str = ",;\t";
    let is_separator = |character: char| SEPARATORS.contains(character);
    let cells: Vec<&str> = if line.contains(is_separator) {
        line.split(is_separator).collect()
    } else {
        line.split_whitespace().collect()
    };
    let plain = cells.into_iter();
    plain
        .map(|cell| cell.trim().trim_matches(['"', '\'', '\u{feff}']))
        .collect()
}

/// Returns whether the name of a column says that it has splits.
fn denotes_column(name: &str) -> bool {
    const COLUMNS: [&str; 8] = [
        "split",
        "splits",
        "data set",
        "dataset",
        "subset",
        "fold",
        "partition",
        "is valid",
    ];
    let name = name.to_lowercase().replace(['_', '-'], " ");
    COLUMNS.contains(&name.as_str())
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

/// The number of bytes by which a list is recognized.
const BEGINNING: u64 = 1 << 14;

/// Returns whether the beginning of a text has the name of an image or that of a split.
fn names_images(path: &Path) -> bool {
    let text = beginning(path, BEGINNING).unwrap_or_default();
    let mut parts = parts_of(&text);
    parts.any(|part| has_image_extension(Path::new(part)) || Split::of_name(part).is_some())
}

/// Returns whether the beginning of a text has the name of an image.
fn names_image_files(path: &Path) -> bool {
    let text = beginning(path, BEGINNING).unwrap_or_default();
    parts_of(&text).any(|part| has_image_extension(Path::new(part)))
}

/// Returns the names and values in a text of any structure.
fn parts_of(text: &str) -> impl Iterator<Item = &str> {
    let is_end = |character: char| character.is_whitespace() || ",;:|\"'[]{}()".contains(character);
    text.split(is_end).filter(|part| !part.is_empty())
}

fn is_yaml(path: &Path) -> bool {
    has_extension(path, "yaml") || has_extension(path, "yml")
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
            ("train.lst", "0\t0.0\trose/1.jpg\n", true),
            ("split.yaml", "train: [q1]\nval: [q2]\n", true),
            ("train.yaml", "- rose/1.jpg\n", true),
            ("train.yaml", "epochs: 10\n", false),
            ("images.txt", "1 rose/1.jpg\n", true),
            ("images.txt", "see the license\n", false),
            ("images.csv", "name\nrose/1.jpg\n", false),
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

    #[test]
    fn tables_that_divide_the_images_of_a_dataset_are_recognized_by_their_contents() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text, expected) in [
            ("metadata.csv", "filename,split\nrose/1.jpg,train\n", true),
            ("dataset.csv", "path,class,split\nrose/1.jpg,rose,a\n", true),
            (
                "birds.csv",
                "class id,filepaths,labels,data set\n0,train/ROSE/1.JPG,ROSE,train\n",
                true,
            ),
            ("all.csv", "\"rose/1.jpg\";\"val\"\n", true),
            ("folds.tsv", "image\tfold\nrose/1.jpg\t3\n", true),
            ("flowers.txt", "rose/1.jpg test\n", true),
            ("info.json", r#"{"train": ["rose/1.jpg"], "val": []}"#, true),
            ("parts.yml", "val:\n- rose/1.jpg\n", true),
            // Other images, no splits, prose, and results.
            ("metadata.csv", "filename,split\nrose/2.jpg,train\n", false),
            ("metadata.csv", "filename,width\nrose/1.jpg,640\n", false),
            (
                "readme.txt",
                "See rose/1.jpg.\nUse train for training.\n",
                false,
            ),
            ("predictions.csv", "path,split\nrose/1.jpg,val\n", false),
            ("config.yaml", "train: {epochs: 3}\n", false),
            ("notes.md", "rose/1.jpg train\n", false),
        ] {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            let found = divides_images(&path, &|name| name == "1.jpg");
            assert_eq!(found, expected, "{name}: {text}");
        }
    }
}
