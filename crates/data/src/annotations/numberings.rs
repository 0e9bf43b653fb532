//! Tables that number images: CUB-200's `images.txt` (`1 rose/1.jpg`), the columns `id` and `file_name`, or the same in JSON.
//! The numbers in other tables stand for the images that these name.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::annotations::image_files::{DirectoryListing, has_extension};
use crate::annotations::split_lists::{Row, SplitColumn, number_of, rows_of};
use crate::images::decode::has_image_extension;
use crate::text_file::read_text;

/// The extensions of tables that number images.
const EXTENSIONS: [&str; 4] = ["txt", "csv", "tsv", "json"];

/// Returns the images of a table that numbers them, with their numbers; none if it is no such table. Each number and each
/// image is there once.
pub(crate) fn numbered_images(table: &Path) -> Vec<(u64, String)> {
    /// Larger ones are annotations.
    const LARGEST_JSON: u64 = 8 << 20;
    let is_json = has_extension(table, "json");
    if is_json && table.metadata().map_or(0, |metadata| metadata.len()) > LARGEST_JSON {
        return Vec::new();
    }
    let text = read_text(table).unwrap_or_default();
    if is_json {
        return in_json(&text).unwrap_or_default();
    }
    let numbered = in_words(&text).or_else(|| in_columns(&text, is_called_images(table)));
    numbered.unwrap_or_default()
}

/// Returns the tables in a directory that number images, with what they number. A table that divides images itself, such as
/// `id,file_name,split`, is none.
pub(crate) fn numberings_in(directory: &Path) -> Vec<(PathBuf, Vec<(u64, String)>)> {
    let files = DirectoryListing::of(directory).lists_with(&EXTENSIONS);
    let numbered = files.into_iter().map(|path| {
        let images = numbered_images(&path);
        (path, images)
    });
    numbered.filter(|(_, images)| !images.is_empty()).collect()
}

/// Returns whether a file is named after images, so that it needs no header.
fn is_called_images(path: &Path) -> bool {
    const NAMES: [&str; 6] = [
        "images",
        "image_ids",
        "image_names",
        "filenames",
        "file_names",
        "files",
    ];
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    NAMES.contains(&stem.to_lowercase().as_str())
}

/// Reads lines of a number and a name with its extension, which may have spaces.
fn in_words(text: &str) -> Option<Vec<(u64, String)>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let numbered = lines.clone().filter_map(|line| {
        let (number, name) = line.split_once([' ', '\t'])?;
        let is_name = has_image_extension(Path::new(name)) && !name.contains([',', ';', '\t']);
        Some((number_of(number)?, is_name.then(|| name.trim().to_owned())?))
    });
    let numbered: Vec<(u64, String)> = numbered.collect();
    // The others are comments.
    (2 * numbered.len() > lines.count() && is_one_to_one(&numbered)).then_some(numbered)
}

/// Reads a table of numbers and names. Without a header, both columns are known only of a table that is called after images.
fn in_columns(text: &str, is_called_images: bool) -> Option<Vec<(u64, String)>> {
    let rows = rows_of(text);
    if SplitColumn::of(&rows).is_some() {
        return None;
    }
    let first = rows.first()?;
    let has_header = first.cells.iter().all(|cell| number_of(cell).is_none())
        && !first.cells.iter().any(|cell| is_image(cell));
    let body = &rows[usize::from(has_header)..];
    let width = first.cells.len();
    let is_column = |at: usize, is_kind: &dyn Fn(&str) -> bool| {
        let cells = body.iter().filter_map(|row| row.cells.get(at));
        2 * cells.filter(|cell| is_kind(cell)).count() > body.len()
    };
    let header = |at: usize| {
        if has_header {
            first.cells[at].to_lowercase()
        } else {
            String::new()
        }
    };
    let mut numbers = (0..width).filter(|at| is_column(*at, &|cell| number_of(cell).is_some()));
    let number = match has_header {
        true => numbers.find(|at| is_id(&header(*at)))?,
        false if is_called_images => numbers.next()?,
        false => return None,
    };
    let mut others = (0..width).filter(|at| *at != number);
    let name = others.clone().find(|at| is_column(*at, &is_image));
    let name = name.or_else(|| {
        others.find(|at| {
            const NAMES: [&str; 4] = ["file", "name", "path", "image"];
            let is_meant = if has_header {
                let header = header(*at);
                NAMES.iter().any(|part| header.contains(part))
            } else {
                width == 2
            };
            is_meant && is_column(*at, &|cell| !cell.is_empty())
        })
    })?;
    let numbered = body.iter().filter_map(|row: &Row<'_>| {
        let cell = |at: usize| row.cells.get(at).copied();
        Some((number_of(cell(number)?)?, cell(name)?.to_owned()))
    });
    let numbered: Vec<(u64, String)> = numbered.collect();
    is_one_to_one(&numbered).then_some(numbered)
}

/// Reads an object of numbers and names, or a list of objects with an `id` and a name, perhaps that of `images`.
fn in_json(text: &str) -> Option<Vec<(u64, String)>> {
    let document: Value = serde_json::from_str(text).ok()?;
    let images = document.get("images").unwrap_or(&document);
    let name_in = |value: &Value| {
        value
            .as_str()
            .filter(|name| is_image(name))
            .map(str::to_owned)
    };
    let numbered: Option<Vec<(u64, String)>> = match images {
        Value::Object(fields) => {
            let fields = fields.iter();
            let numbered = fields.map(|(key, value)| match (number_of(key), value.as_u64()) {
                (Some(number), _) => Some((number, name_in(value)?)),
                (None, Some(number)) => is_image(key).then(|| (number, key.clone())),
                _ => None,
            });
            numbered.collect()
        }
        Value::Array(entries) => {
            let entries = entries.iter();
            let numbered = entries.map(|entry| {
                let fields = entry.as_object()?;
                let id = fields.get("id").or_else(|| fields.get("image_id"))?;
                Some((id.as_u64()?, fields.values().find_map(name_in)?))
            });
            numbered.collect()
        }
        _ => None,
    };
    numbered.filter(|found: &Vec<_>| is_one_to_one(found))
}

fn is_image(cell: &str) -> bool {
    has_image_extension(Path::new(cell))
}

/// Returns whether the header of a column, in lower case, says that it has the numbers of images, and not of classes.
pub(crate) fn is_id(header: &str) -> bool {
    const IDS: [&str; 11] = [
        "id", "ids", "number", "index", "imageid", "imgid", "fileid", "image", "img", "frame",
        "sample",
    ];
    const OTHERS: [&str; 3] = ["class", "category", "label"];
    let words = header.split(|character: char| !character.is_alphanumeric());
    let words: Vec<&str> = words.collect();
    let has = |wanted: &[&str]| words.iter().any(|word| wanted.contains(word));
    has(&IDS) && !has(&OTHERS)
}

/// Returns whether no number or name is there twice: captions have numbers of their own, and boxes those of their images.
fn is_one_to_one(numbered: &[(u64, String)]) -> bool {
    let (mut numbers, mut names) = (HashSet::new(), HashSet::new());
    !numbered.is_empty()
        && numbered
            .iter()
            .all(|(number, name)| numbers.insert(*number) && names.insert(name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_numbers_and_names_number_images() {
        let dir = tempfile::tempdir().unwrap();
        let expected = [(1, "a/x 1.jpg".to_owned()), (2, "a/2.jpg".to_owned())];
        let plain = [(1, "000006".to_owned()), (2, "000005".to_owned())];
        for (name, text, images) in [
            ("images.txt", "1 a/x 1.jpg\n2 a/2.jpg\n", &expected[..]),
            ("any.txt", "1 a/x 1.jpg\n2 a/2.jpg\n", &expected),
            ("images.txt", "1,a/x 1.jpg\n2,a/2.jpg\n", &expected),
            (
                "images.csv",
                "id,file_name\n1,a/x 1.jpg\n2,a/2.jpg\n",
                &expected,
            ),
            (
                "names.csv",
                "file_name,width,image_id\na/x 1.jpg,640,1\na/2.jpg,640,2\n",
                &expected,
            ),
            ("images.csv", "id,name\n1,000006\n2,000005\n", &plain),
            ("images.txt", "1 000006\n2 000005\n", &plain),
            (
                "images.txt",
                "# numbers\n1 a/x 1.jpg\n2 a/2.jpg\n",
                &expected,
            ),
            (
                "images.csv",
                "id,file_name\n1,a/x 1.jpg\n2,a/2.jpg\nend\n",
                &expected,
            ),
            (
                "images.json",
                r#"{"1": "a/x 1.jpg", "2": "a/2.jpg"}"#,
                &expected,
            ),
            (
                "all.json",
                r#"{"images": [{"id": 1, "file": "a/x 1.jpg"}, {"id": 2, "file": "a/2.jpg"}]}"#,
                &expected,
            ),
            ("sizes.json", r#"{"a.jpg": "640", "b.jpg": "480"}"#, &[]),
            // Other tables: rows, captions, boxes, sizes, labels, and divisions.
            ("rows.csv", "1,a/x 1.jpg\n2,a/2.jpg\n", &[]),
            ("captions.csv", "id,image,text\n1,a.jpg,x\n2,a.jpg,y\n", &[]),
            ("sizes.csv", "name,width\na.jpg,640\nb.jpg,480\n", &[]),
            ("labels.csv", "image_id,label\n1,rose\n2,tulip\n", &[]),
            (
                "data.csv",
                "id,file,split\n1,a.jpg,train\n2,b.jpg,val\n",
                &[],
            ),
            ("ids.csv", "id,split\n1,train\n2,val\n", &[]),
            ("classes.txt", "1 rose\n2 tulip\n", &[]),
            ("images.txt", "", &[]),
        ] {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            assert_eq!(numbered_images(&path), images, "{name}: {text}");
            let found = numberings_in(dir.path());
            assert_eq!(found.len(), usize::from(!images.is_empty()), "{name}");
            std::fs::remove_file(path).unwrap();
        }
    }
}
