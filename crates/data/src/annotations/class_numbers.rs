//! The names of classes that a dataset has as numbers only: directories `0` and `1`, or numbers in the place of class names,
//! with a list such as `class_names.txt`, `classes.csv` (`id,name`) or `class_map.json` beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::annotations::image_files::{DirectoryListing, has_extension};
use crate::annotations::layout::join;
use crate::annotations::split_lists::{number_of, rows_of, words_of};
use crate::images::decode::has_image_extension;
use crate::text_file::read_text;

/// The names of numbered classes.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct NumberedClasses {
    /// The names in the order of the classes; None if no list has them, or several differ.
    pub(crate) names: Option<Vec<String>>,
    /// Where the names are from, or why lists are not used.
    pub(crate) note: Option<String>,
}

impl NumberedClasses {
    /// Finds the names of classes in the lists of a directory; none unless all classes are numbers.
    pub(crate) fn find(directory: &Path, classes: &[String]) -> Self {
        let numbers: Option<Vec<u64>> = classes.iter().map(|class| number_of(class)).collect();
        let Some(numbers) = numbers.filter(|numbers| !numbers.is_empty()) else {
            return Self::default();
        };
        let listing = DirectoryListing::of(directory);
        let lists = listing.lists_with(&["txt", "csv", "tsv", "json", "names"]);
        let lists = lists.into_iter().filter(|path| is_of_classes(path));
        let (mut named, mut unread) = (Vec::new(), Vec::new());
        for path in lists {
            match names_in(&path, &numbers) {
                Some(names) => named.push((path, names)),
                None if is_only_of_classes(&path) => unread.push(path),
                None => {}
            }
        }
        let named: Vec<(PathBuf, Vec<String>)> = named;
        let shown = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default();
            name.display().to_string()
        };
        let Some((first, names)) = named.first() else {
            let lists = join(unread.iter().map(shown));
            let note = (!unread.is_empty()).then(|| {
                format!(
                    "not used: {lists}, without a name for each of the classes, which are numbers"
                )
            });
            return Self { names: None, note };
        };
        if named.iter().any(|(_, other)| other != names) {
            let lists = join(named.iter().map(|(path, _)| shown(path)));
            return Self {
                names: None,
                note: Some(format!(
                    "the classes are numbers, and {lists} name them differently: none of them is used"
                )),
            };
        }
        Self {
            names: Some(names.clone()),
            note: Some(format!(
                "the classes are numbers: their names are those of {}",
                shown(first)
            )),
        }
    }
}

/// Returns whether a file is called after classes or their names.
fn is_of_classes(path: &Path) -> bool {
    const WORDS: [&str; 14] = [
        "class",
        "classes",
        "classname",
        "classnames",
        "label",
        "labels",
        "labelmap",
        "names",
        "category",
        "categories",
        "idx",
        "index",
        "obj",
        "synsets",
    ];
    has_extension(path, "names")
        || words_of(path)
            .iter()
            .any(|word| WORDS.contains(&word.as_str()))
}

/// Returns whether a file cannot be about anything but classes, by its name.
fn is_only_of_classes(path: &Path) -> bool {
    const WORDS: [&str; 4] = ["class", "classes", "classnames", "categories"];
    let words = words_of(path);
    let is_of_images = |word: &String| ["image", "images", "per"].contains(&word.as_str());
    words.iter().any(|word| WORDS.contains(&word.as_str())) && !words.iter().any(is_of_images)
}

/// Returns the names that a list gives to numbers; None unless it names each of them, once and differently.
fn names_in(path: &Path, numbers: &[u64]) -> Option<Vec<String>> {
    let text = read_text(path).ok()?;
    let by_number = if has_extension(path, "json") {
        in_json(&text)?
    } else {
        in_columns(&text, numbers).or_else(|| in_lines(&text, numbers))?
    };
    let names: Option<Vec<String>> = numbers
        .iter()
        .map(|number| by_number.get(number).cloned())
        .collect();
    let names = names?;
    let distinct: BTreeSet<&String> = names.iter().collect();
    let is_name = |name: &String| {
        !name.is_empty() && number_of(name).is_none() && !has_image_extension(Path::new(name))
    };
    (distinct.len() == names.len() && names.iter().all(is_name)).then_some(names)
}

/// Reads `{"0": "cat"}`, `{"cat": 0}` or `["cat"]`.
fn in_json(text: &str) -> Option<BTreeMap<u64, String>> {
    match serde_json::from_str(text).ok()? {
        Value::Object(fields) => {
            let pairs = fields.into_iter().map(|(key, value)| match value {
                Value::String(name) => Some((number_of(&key)?, name)),
                Value::Number(number) => Some((number.as_u64()?, key)),
                _ => None,
            });
            pairs.collect()
        }
        Value::Array(names) => {
            let names = names.into_iter().zip(0..);
            let names = names.map(|(name, number)| Some((number, name.as_str()?.to_owned())));
            names.collect()
        }
        _ => None,
    }
}

/// Reads a table with a row for each class: the number and the name, in any order, perhaps below a header. A table with a row
/// for each image repeats numbers, or has others than those of the classes.
fn in_columns(text: &str, numbers: &[u64]) -> Option<BTreeMap<u64, String>> {
    let rows = rows_of(text);
    let first = rows.first()?;
    let has_header = first.cells.iter().all(|cell| marked_number(cell).is_none());
    let body = &rows[usize::from(has_header)..];
    let wanted: BTreeSet<u64> = numbers.iter().copied().collect();
    let column = |at: usize| body.iter().map(move |row| row.cells.get(at).copied());
    let number_at = (0..first.cells.len()).find(|at| {
        let found: Option<Vec<u64>> = column(*at).map(|cell| marked_number(cell?)).collect();
        found.is_some_and(|found| {
            let distinct: BTreeSet<u64> = found.iter().copied().collect();
            distinct.len() == found.len() && distinct.is_superset(&wanted)
        })
    })?;
    let is_of_names = |at: &usize| {
        let cells: Option<Vec<&str>> = column(*at).collect();
        *at != number_at
            && cells.is_some_and(|cells| {
                cells
                    .iter()
                    .all(|cell| !cell.is_empty() && cell.parse::<f64>().is_err())
            })
    };
    let name_at = (0..first.cells.len()).find(is_of_names)?;
    // A name between spaces may have several words.
    let is_spaced = !text.contains([',', ';', '\t']);
    let named = body.iter().map(|row| {
        let number = marked_number(row.cells.get(number_at)?)?;
        let name = match row.cells.get(name_at)? {
            _ if is_spaced && number_at == 0 => row.cells[1..].join(" "),
            name => (*name).to_owned(),
        };
        Some((number, name))
    });
    let named: BTreeMap<u64, String> = named.collect::<Option<_>>()?;
    // Of the labels of images, the same are there several times.
    let distinct: BTreeSet<&String> = named.values().collect();
    (distinct.len() == named.len()).then_some(named)
}

/// Returns the number in a cell such as `0`, `0:` or `0.`.
fn marked_number(cell: &str) -> Option<u64> {
    number_of(cell.trim_end_matches([':', '.', ')', '=']))
}

/// Reads a name in each line; the classes have to be the numbers of the lines, from 0.
fn in_lines(text: &str, numbers: &[u64]) -> Option<BTreeMap<u64, String>> {
    let names: Vec<&str> = text.trim_end().lines().map(str::trim).collect();
    let wanted: BTreeSet<u64> = numbers.iter().copied().collect();
    let lines: BTreeSet<u64> = (0..).zip(&names).map(|(line, _)| line).collect();
    let is_cell = |name: &&str| {
        let is_numbered = name.starts_with(|character: char| character.is_ascii_digit());
        is_numbered || name.contains([',', ';', '\t'])
    };
    let is_table = names.iter().any(is_cell);
    (wanted == lines && !is_table).then(|| {
        let names = names.into_iter().map(str::to_owned);
        (0..).zip(names).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)], classes: &[&str]) -> NumberedClasses {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let classes: Vec<String> = classes.iter().map(|class| (*class).to_owned()).collect();
        NumberedClasses::find(dir.path(), &classes)
    }

    #[test]
    fn numbered_classes_have_the_names_of_a_list_beside_them() {
        for (name, text) in [
            ("class_names.txt", "cat\ndog\nred bird\n"),
            ("classes.csv", "id,name\n0,cat\n2,red bird\n1,dog\n"),
            ("labels.csv", "cat,0\ndog,1\nred bird,2\n"),
            ("labels.txt", "0 cat\n1 dog\n2 red bird\n"),
            ("classes.txt", "0: cat\n1: dog\n2: red bird\n"),
            ("classes.tsv", "0\tcat\n1\tdog\n2\tred bird\n7\tcow\n"),
            (
                "class_map.json",
                r#"{"0": "cat", "1": "dog", "2": "red bird"}"#,
            ),
            (
                "class_to_idx.json",
                r#"{"dog": 1, "cat": 0, "red bird": 2}"#,
            ),
            ("classes.json", r#"["cat", "dog", "red bird"]"#),
        ] {
            let found = found(&[(name, text)], &["0", "1", "2"]);
            let names = ["cat", "dog", "red bird"].map(str::to_owned).to_vec();
            assert_eq!(found.names, Some(names), "{name}");
            assert!(found.note.is_some_and(|note| note.ends_with(name)));
        }
        // `00` is 0, and the classes need not be in order.
        let found = found(&[("classes.txt", "a\nb\n")], &["01", "00"]);
        assert_eq!(found.names, Some(vec!["b".to_owned(), "a".to_owned()]));
    }

    #[test]
    fn lists_of_something_else_name_no_classes() {
        for (name, text, classes) in [
            ("class_names.txt", "cat\ndog\n", &["cat", "dog"][..]),
            ("labels.csv", "image,label\na.png,0\nb.png,1\n", &["0", "1"]),
            ("labels.csv", "id,label\n1,0\n2,1\n", &["0", "1"]),
            ("labels.csv", "id,label\n0,cat\n1,dog\n2,cat\n", &["0", "1"]),
            ("README.txt", "cat\ndog\n", &["0", "1"]),
        ] {
            let found = found(&[(name, text)], classes);
            assert_eq!(found, NumberedClasses::default(), "{name}: {text}");
        }
    }

    #[test]
    fn a_list_that_does_not_name_each_class_is_named() {
        for (name, text, classes) in [
            // From 1 on, nothing says whether the first line is of 1.
            ("class_names.txt", "cat\ndog\n", &["1", "2"][..]),
            ("class_names.txt", "cat\ndog\nbird\n", &["0", "1"]),
            ("class_names.txt", "# names\ncat\ndog\n", &["0", "1"]),
            ("classes.json", r#"{"0": "cat", "1": "cat"}"#, &["0", "1"]),
            ("classes.txt", "10\n20\n", &["0", "1"]),
        ] {
            let found = found(&[(name, text)], classes);
            assert_eq!(found.names, None);
            let note = found.note.unwrap_or_default();
            assert!(
                note.starts_with(&format!("not used: {name}, ")),
                "{name}: {text}: {note}"
            );
        }
    }

    #[test]
    fn lists_that_name_the_classes_differently_are_not_used() {
        let files = [
            ("classes.txt", "cat\ndog\n"),
            ("labels.csv", "0,dog\n1,cat\n"),
        ];
        let found = found(&files, &["0", "1"]);
        assert_eq!(found.names, None);
        let note = "the classes are numbers, and classes.txt, labels.csv name them differently: none of them is used";
        assert_eq!(found.note.as_deref(), Some(note));
    }

    #[test]
    fn a_table_of_boxes_with_numbers_for_classes_has_the_names_of_the_list() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        image::RgbImage::new(9, 9)
            .save(dir.path().join("a.png"))
            .unwrap();
        write(
            "a.csv",
            "filename,class,xmin,ymin,xmax,ymax\na.png,0,1,1,4,4\na.png,1,1,1,5,5\n",
        );
        let names = || {
            let read = crate::annotations::format::DatasetFiles::find(dir.path())
                .unwrap()
                .read()
                .unwrap();
            let categories = read.splits[0].store.categories().iter();
            categories
                .map(|category| category.name.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(), ["0", "1"]);
        write("classes.csv", "id,name\n0,cat\n1,dog\n");
        assert_eq!(names(), ["cat", "dog"]);
    }
}
