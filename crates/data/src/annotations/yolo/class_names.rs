//! Lists of class names: one name in each line, with or without numbers.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::DataError;
use crate::annotations::image_files::{DirectoryListing, has_extension};
use crate::images::decode::has_image_extension;
use crate::text::printable;
use crate::text_file::read_text;

/// The files that list the class names of a dataset; the last is Roboflow's.
pub(super) const NAME_LISTS: [&str; 4] =
    ["classes.txt", "obj.names", "class.names", "_darknet.labels"];

/// Returns the lists in a directory that may be of class names and have another name than those of [`NAME_LISTS`].
pub(super) fn further_lists(directory: &Path) -> Vec<PathBuf> {
    const NAMES: [&str; 9] = [
        "labels",
        "label_names",
        "labelnames",
        "label_list",
        "names",
        "class_names",
        "classnames",
        "class_list",
        "categories",
    ];
    let is_list = |path: &PathBuf| {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        has_extension(path, "names") || NAMES.contains(&stem.to_lowercase().as_str())
    };
    let mut lists = DirectoryListing::of(directory).lists_with(&["txt", "names"]);
    lists.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        is_list(path) && !is_class_list(&name)
    });
    lists
}

/// Returns whether a file lists the class names of a dataset, by its name.
pub(crate) fn is_class_list(name: &str) -> bool {
    NAME_LISTS.contains(&name)
}

/// The file in which Label Studio lists the class names beside `classes.txt`.
pub(super) const LABEL_STUDIO_NOTES: &str = "notes.json";

/// A list of class names.
#[derive(Debug, PartialEq)]
pub(super) struct ClassList {
    pub(super) names: Vec<String>,
    /// Whether each line begins with the number of its class, which is no part of the name.
    pub(super) is_numbered: bool,
    /// The first line, if it is a header above numbered classes.
    pub(super) header: Option<String>,
}

impl ClassList {
    /// Reads a list of class names.
    ///
    /// # Errors
    /// See [`class_names`]; the lines begin with other numbers than those of their classes.
    pub(super) fn read(path: &Path) -> Result<Self, DataError> {
        if path
            .file_name()
            .is_some_and(|name| name == LABEL_STUDIO_NOTES)
        {
            return Self::of_label_studio(path);
        }
        let mut names = class_names(path)?;
        let header = without_header(&mut names);
        check_lines(&names, path)?;
        let numbered: Option<Vec<_>> = names.iter().map(|line| numbered_name(line)).collect();
        let Some(numbered) = numbered else {
            return Ok(Self::of_names(names));
        };
        let numbers = || numbered.iter().map(|(number, ..)| *number);
        if numbers().eq(0..numbered.len()) {
            return Ok(Self {
                names: numbered
                    .iter()
                    .map(|(.., name)| (*name).to_owned())
                    .collect(),
                is_numbered: true,
                header,
            });
        }
        // `1 euro`, `2 euro` and `5 cent` are names; `1: cat` is not, and neither are the numbers in another order.
        let mut sorted: Vec<usize> = numbers().collect();
        sorted.sort_unstable();
        let has_marks = numbered.iter().all(|(_, has_mark, _)| *has_mark);
        if has_marks || sorted.into_iter().eq(0..numbered.len()) {
            let wrong = (0..).zip(numbers()).find(|(at, number)| at != number);
            let (line, number) = wrong.unwrap_or_default();
            let problem = format!(
                "line {} has the number {number}, but its class is {line}: the classes are the lines, counted from 0",
                line + 1
            );
            return Err(DataError::labels(path, problem));
        }
        Ok(Self::of_names(names))
    }

    fn of_names(names: Vec<String>) -> Self {
        Self {
            names,
            is_numbered: false,
            header: None,
        }
    }

    /// Returns whether the lines may be names: not those of images, and not the class of each image.
    pub(super) fn may_be_names(&self) -> bool {
        let distinct: HashSet<&String> = self.names.iter().collect();
        let is_image = |name: &String| {
            let mut words = name.split([' ', ',', ';', '\t']);
            words.any(|word| has_image_extension(Path::new(word)))
        };
        let is_number = |name: &String| name.parse::<f64>().is_ok();
        distinct.len() == self.names.len()
            && !self
                .names
                .iter()
                .any(|name| is_image(name) || is_number(name))
    }

    /// Describes the parts of the lines that are no names.
    pub(super) fn without(&self) -> String {
        let numbers = if self.is_numbered {
            " without the numbers before the class names"
        } else {
            ""
        };
        match &self.header {
            Some(header) => format!("{numbers} and the line `{}` above them", printable(header)),
            None => numbers.to_owned(),
        }
    }

    /// Returns the note on a first line that may be a header, and is used as a class.
    pub(super) fn doubt(&self, path: &Path) -> Option<String> {
        const HEADERS: [&str; 10] = [
            "name",
            "names",
            "class",
            "classes",
            "class_name",
            "class_names",
            "label",
            "labels",
            "category",
            "categories",
        ];
        let first = self.names.first().filter(|_| self.names.len() > 2)?;
        let list = path.file_name().unwrap_or_default().display();
        let header = first.trim_matches(['[', ']', ':']);
        let header = header.to_lowercase().replace(' ', "_");
        let is_header = HEADERS.contains(&header.as_str());
        is_header.then(|| format!("the first line of {list}, `{first}`, is the name of class 0"))
    }
}

/// Removes the first line of a list if all others are numbered from 0 on, and returns it.
fn without_header(names: &mut Vec<String>) -> Option<String> {
    let number = |line: &String| numbered_name(line).map(|(number, ..)| number);
    let (first, others) = names.split_first()?;
    let others: Option<Vec<usize>> = others.iter().map(number).collect();
    let is_header = number(first).is_none()
        && others.is_some_and(|others| others.len() > 1 && (0..others.len()).eq(others));
    is_header.then(|| names.remove(0))
}

/// Refuses lines that are no names of classes, and would move the numbers of those below them.
fn check_lines(names: &[String], path: &Path) -> Result<(), DataError> {
    let is_comment = |line: &String| line.starts_with('#') || line.starts_with("//");
    let comment = (1..).zip(names).find(|(_, line)| is_comment(line));
    if let Some((at, line)) = comment
        && !names.iter().all(is_comment)
    {
        let line = printable(line);
        let problem = format!(
            "line {at} is `{line}`, a comment: the classes are the lines, counted from 0, and have no others between them"
        );
        return Err(DataError::labels(path, problem));
    }
    const SEPARATORS: [char; 2] = [',', ';'];
    if let [only] = names
        && only.contains(SEPARATORS)
        && (only.split(SEPARATORS).count() > 2 || !only.contains(", "))
    {
        let problem = "the class names are in one line, separated by commas or the like: each is expected in a line of its own";
        return Err(DataError::labels(path, problem));
    }
    Ok(())
}

impl ClassList {
    /// Reads the categories of Label Studio's `notes.json`.
    fn of_label_studio(path: &Path) -> Result<Self, DataError> {
        #[derive(serde::Deserialize)]
        struct Notes {
            categories: Vec<Category>,
        }
        #[derive(serde::Deserialize)]
        struct Category {
            id: usize,
            name: String,
        }
        let unread = |problem: &str| DataError::labels(path, problem);
        let notes: Notes =
            serde_json::from_str(&read_text(path)?).map_err(|error| unread(&error.to_string()))?;
        let mut categories = notes.categories;
        categories.sort_by_key(|category| category.id);
        let ids = categories.iter().map(|category| category.id);
        if !ids.eq(0..categories.len()) || categories.is_empty() {
            return Err(unread("its categories are not numbered from 0"));
        }
        let names = categories.into_iter().map(|category| category.name);
        Ok(Self::of_names(names.collect()))
    }
}

/// Splits `0 cat`, `0: cat` or `0, cat` into the number and the name; None for any other line. The second value is
/// whether there is more than a space between them.
pub(super) fn numbered_name(line: &str) -> Option<(usize, bool, &str)> {
    let end = line.find(|character: char| !character.is_ascii_digit())?;
    let number = line[..end].parse().ok()?;
    let rest = &line[end..];
    let after_mark = rest
        .trim_start()
        .strip_prefix([':', '=', ',', ';', ')'])
        .or_else(|| rest.strip_prefix(". "))
        .or_else(|| rest.strip_prefix('\t'));
    let name = after_mark.or_else(|| rest.strip_prefix(' '))?.trim();
    (!name.is_empty()).then_some((number, after_mark.is_some(), name))
}

/// Returns the lines of a list of class names. Their numbers are those of the lines, so that none may be empty.
pub(super) fn class_names(path: &Path) -> Result<Vec<String>, DataError> {
    let text = read_text(path)?;
    let names: Vec<String> = text
        .trim_end()
        .lines()
        .map(|line| line.trim().to_owned())
        .collect();
    match names.iter().position(String::is_empty) {
        Some(_) if names.len() == 1 => Err(DataError::labels(path, "no class names")),
        Some(at) => {
            let problem = format!("line {} is empty; a class has no name", at + 1);
            Err(DataError::labels(path, problem))
        }
        None if names.is_empty() => Err(DataError::labels(path, "no class names")),
        None => Ok(names),
    }
}
