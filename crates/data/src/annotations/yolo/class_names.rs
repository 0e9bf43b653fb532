//! Lists of class names: one name in each line, with or without numbers.

use std::path::Path;

use crate::DataError;
use crate::text_file::read_text;

/// The files that list the class names of a dataset; the last is Roboflow's.
pub(super) const NAME_LISTS: [&str; 4] =
    ["classes.txt", "obj.names", "class.names", "_darknet.labels"];

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
        let names = class_names(path)?;
        let numbered: Option<Vec<_>> = names.iter().map(|line| numbered_name(line)).collect();
        let Some(numbered) = numbered else {
            let is_numbered = false;
            return Ok(Self { names, is_numbered });
        };
        let numbers = || numbered.iter().map(|(number, ..)| *number);
        if numbers().eq(0..numbered.len()) {
            return Ok(Self {
                names: numbered
                    .iter()
                    .map(|(.., name)| (*name).to_owned())
                    .collect(),
                is_numbered: true,
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
        let is_numbered = false;
        Ok(Self { names, is_numbered })
    }
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
        Ok(Self {
            names: names.collect(),
            is_numbered: false,
        })
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

/// Describes a list whose lines begin with numbers.
pub(super) fn without_numbers(is_numbered: bool) -> &'static str {
    if is_numbered {
        " without the numbers before the class names"
    } else {
        ""
    }
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
