//! Tables beside directories of classes that assign images another split or class than their directories do: `meta.csv`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::annotations::format::{last_part, without_extension};
use crate::annotations::image_files::{DirectoryListing, has_extension};
use crate::annotations::layout::Split;
use crate::annotations::numberings::is_id;
use crate::annotations::split_lists::{
    Row, SplitColumn, is_of_results, number_of, rows_of, words_of,
};
use crate::images::decode::has_image_extension;
use crate::text_file::beginning;

/// An image in a directory of classes.
pub(super) struct PlacedImage {
    /// The path below the directory of the dataset, with `/` between the parts.
    pub(super) path: String,
    /// The split of its directory, where there are any.
    pub(super) split: Option<Split>,
    /// The directory of its class.
    pub(super) class: String,
}

/// Describes the tables in the directory of a dataset, and in those within it that have no images, that contradict the places of
/// `images`: with the path of the table relative to the dataset.
pub(super) fn contradicting_tables(
    root: &Path,
    without_images: &[PathBuf],
    images: &dyn Fn() -> Vec<PlacedImage>,
) -> Vec<(String, String)> {
    const EXTENSIONS: [&str; 4] = ["csv", "tsv", "txt", "json"];
    let places = [root.to_owned()]
        .into_iter()
        .chain(without_images.iter().cloned());
    let tables = places.flat_map(|place| DirectoryListing::of(&place).lists_with(&EXTENSIONS));
    let tables: Vec<PathBuf> = tables.filter(|path| may_have_images(path)).collect();
    if tables.is_empty() {
        return Vec::new();
    }
    let places = Places::of(images());
    let described = tables.into_iter().filter_map(|path| {
        let text = beginning(&path, LARGEST)?;
        let text = if has_extension(&path, "json") {
            table_of_records(&text).or_else(|| table_of_splits(&text))?
        } else {
            text
        };
        let below = path
            .strip_prefix(root)
            .unwrap_or(&path)
            .display()
            .to_string();
        Some((below, places.contradicted_by(&text)?))
    });
    described.collect()
}

/// The number of bytes of a table that are compared: more than a million images.
const LARGEST: u64 = 64 << 20;

/// Returns whether the first rows of a table name image files or have several columns, and the table is not the result of a
/// run.
fn may_have_images(path: &Path) -> bool {
    const BEGINNING: u64 = 1 << 12;
    if words_of(path).iter().any(|word| is_of_results(word)) {
        return false;
    }
    let text = beginning(path, BEGINNING).unwrap_or_default();
    if has_extension(path, "json") {
        return text.trim_start().starts_with('[') && text.contains('{')
            || text
                .split('"')
                .nth(1)
                .is_some_and(|key| Split::of_name(key).is_some());
    }
    let rows = rows_of(&text);
    let is_table = rows.iter().any(|row| row.cells.len() > 1);
    is_table
        && (has_extension(path, "csv")
            || rows
                .iter()
                .any(|row| row.cells.iter().any(|cell| is_image(cell))))
}

/// Returns the fields of a list of records in JSON as a table; None for any other document.
fn table_of_records(text: &str) -> Option<String> {
    let records: Vec<BTreeMap<String, Value>> = serde_json::from_str(text).ok()?;
    let fields: Vec<&String> = records.first()?.keys().collect();
    let mut table = String::new();
    let mut add = |cells: Vec<String>| {
        let cells: Vec<String> = cells
            .iter()
            .map(|cell| cell.replace(['\t', '\n'], " "))
            .collect();
        table += &cells.join("\t");
        table.push('\n');
    };
    add(fields.iter().map(|field| (*field).clone()).collect());
    for record in &records {
        let cells = fields.iter().map(|field| match record.get(*field) {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => String::new(),
        });
        add(cells.collect());
    }
    Some(table)
}

/// Returns a list of names for each split in JSON as a table; None for any other document.
fn table_of_splits(text: &str) -> Option<String> {
    let lists: BTreeMap<String, Vec<String>> = serde_json::from_str(text).ok()?;
    let rows = lists.iter().flat_map(|(split, names)| {
        let names = names.iter();
        names.map(move |name| format!("{}\t{split}\n", name.replace(['\t', '\n'], " ")))
    });
    Some(
        std::iter::once("file\tsplit\n".to_owned())
            .chain(rows)
            .collect(),
    )
}

fn is_image(cell: &str) -> bool {
    has_image_extension(Path::new(cell))
}

/// The images of a dataset by their names.
struct Places {
    images: Vec<PlacedImage>,
    /// Positions by the last part in lower case, with and without its extension.
    by_name: HashMap<String, Vec<usize>>,
    /// The classes in lower case.
    classes: BTreeSet<String>,
}

impl Places {
    fn of(images: Vec<PlacedImage>) -> Self {
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, image) in images.iter().enumerate() {
            let name = last_part(&image.path).to_lowercase();
            by_name
                .entry(without_extension(&name).to_owned())
                .or_default()
                .push(at);
            by_name.entry(name).or_default().push(at);
        }
        let classes = images.iter().map(|image| image.class.to_lowercase());
        Self {
            classes: classes.collect(),
            by_name,
            images,
        }
    }

    /// Returns the only image whose path ends with a name or path.
    fn named(&self, written: &str) -> Option<&PlacedImage> {
        let written = written.replace('\\', "/").to_lowercase();
        let written = written.trim_start_matches("./");
        let found = self.by_name.get(last_part(written))?;
        let ends = |at: &&usize| {
            let path = self.images[**at].path.to_lowercase();
            let ends = |path: &str| path == written || path.ends_with(&format!("/{written}"));
            ends(&path) || ends(without_extension(&path))
        };
        let whole: Vec<&usize> = found.iter().filter(ends).collect();
        match (whole.as_slice(), found.as_slice()) {
            ([at], _) => Some(&self.images[**at]),
            // A path that leads elsewhere.
            ([], [at]) => Some(&self.images[*at]),
            _ => None,
        }
    }

    /// Describes the first row that assigns an image another split or class than its directory; None if there is none, or most
    /// rows name no image.
    fn contradicted_by(&self, text: &str) -> Option<String> {
        let rows = rows_of(text);
        let header = rows.first()?;
        let width = header.cells.len();
        let image_at = (0..width).find(|at| {
            let named = rows.iter().filter(|row| self.named_in(row, *at).is_some());
            let named: Vec<&Row<'_>> = named.collect();
            // Numbers may be counts.
            let mut cells = named.iter().map(|row| row.cells[*at]);
            let are_numbers = cells.all(|cell| number_of(cell).is_some());
            let is_meant = !are_numbers || is_id(&header.cells[*at].to_lowercase());
            !named.is_empty() && is_meant && 2 * named.len() + 1 >= rows.len()
        })?;
        let splits = SplitColumn::of(&rows);
        let is_class = |row: &Row<'_>, at: usize| {
            let cell = row.cells.get(at);
            cell.is_some_and(|cell| self.classes.contains(&cell.to_lowercase()))
        };
        let mut others = (0..width).filter(|at| *at != image_at);
        let class_at = others.find(|at| {
            let classes = rows.iter().filter(|row| is_class(row, *at)).count();
            classes > 0 && 2 * classes + 1 >= rows.len()
        });
        let flag = (0..width).find_map(|at| Some((at, split_of_flag(header.cells[at])?)));
        let fold = header.cells.iter().find(|cell| is_fold(cell));
        if let Some(fold) = fold {
            return Some(format!("whose column `{fold}` divides the images"));
        }
        rows.iter().find_map(|row| {
            let image = self.named_in(row, image_at)?;
            let path = &image.path;
            let split = splits.as_ref().and_then(|column| column.in_row(row));
            let own = image.split.zip(split);
            if let Some((_, other)) = own.filter(|(own, other)| own != other) {
                return Some(format!("by which {path} is of {other}"));
            }
            if let (Some((at, of)), Some(own)) = (flag, image.split)
                && let Some(is_of) = row.cells.get(at).and_then(|cell| truth(cell))
                && is_of != (own == of)
            {
                let not = if is_of { "" } else { "not " };
                return Some(format!("by which {path} is {not}of {of}"));
            }
            let class = row
                .cells
                .get(class_at?)
                .filter(|_| is_class(row, class_at.unwrap_or_default()))?;
            let is_other = !class.eq_ignore_ascii_case(&image.class)
                && class.to_lowercase() != image.class.to_lowercase();
            is_other.then(|| format!("by which {path} is of class {class}"))
        })
    }

    fn named_in(&self, row: &Row<'_>, at: usize) -> Option<&PlacedImage> {
        self.named(row.cells.get(at)?)
    }
}

/// Returns the split of a column that says of each image whether it is of it: `is_train`.
fn split_of_flag(header: &str) -> Option<Split> {
    let header = header.to_lowercase().replace([' ', '-'], "_");
    Split::of_name(header.strip_prefix("is_")?)
}

/// Returns whether the header of a column is that of the folds of a cross-validation.
fn is_fold(header: &str) -> bool {
    let header = header.to_lowercase();
    ["fold", "folds", "kfold", "k_fold", "cv_fold"].contains(&header.as_str())
}

/// Returns the value of a flag.
fn truth(cell: &str) -> Option<bool> {
    match cell.to_lowercase().as_str() {
        "1" | "true" | "yes" | "1.0" => Some(true),
        "0" | "false" | "no" | "0.0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(table: &str) -> Option<String> {
        let image = |path: &str| {
            let parts: Vec<&str> = path.split('/').collect();
            PlacedImage {
                path: path.to_owned(),
                split: Split::of_name(parts[0]),
                class: parts[1].to_owned(),
            }
        };
        let images = [
            "train/cat/1.jpg",
            "train/dog/2.jpg",
            "val/cat/3.jpg",
            "val/dog/4.jpg",
        ];
        Places::of(images.map(image).into()).contradicted_by(table)
    }

    #[test]
    fn a_table_with_other_splits_or_classes_than_the_directories_contradicts_them() {
        for (table, expected) in [
            (
                "file,split\n1.jpg,val\n2.jpg,train\n",
                "by which train/cat/1.jpg is of val",
            ),
            (
                "file;label\ncat/1.jpg;cat\ndog/2.jpg;Cat\n",
                "by which train/dog/2.jpg is of class Cat",
            ),
            (
                "id,is_train\n1,1\n3,1\n4,0\n",
                "by which val/cat/3.jpg is of train",
            ),
            (
                "id,is_valid\n1,False\n3,False\n4,True\n",
                "by which val/cat/3.jpg is not of val",
            ),
            (
                "file,fold\n1.jpg,0\n3.jpg,1\n",
                "whose column `fold` divides the images",
            ),
            (
                "1.jpg dog\n2.jpg dog\n",
                "by which train/cat/1.jpg is of class dog",
            ),
            (
                "C:\\data\\train\\1.jpg,dog\nx/train/cat/1.jpg,cat\n",
                "by which train/cat/1.jpg is of class dog",
            ),
        ] {
            assert_eq!(found(table).as_deref(), Some(expected), "{table}");
        }
    }

    #[test]
    fn records_in_json_are_read_as_a_table() {
        let records =
            r#"[{"split": "val", "file": "1.jpg"}, {"file": "2.jpg", "split": "train", "x": [1]}]"#;
        let table = table_of_records(records).unwrap();
        assert_eq!(table, "file\tsplit\n1.jpg\tval\n2.jpg\ttrain\n");
        let expected = "by which train/cat/1.jpg is of val";
        assert_eq!(found(&table).as_deref(), Some(expected));
        assert_eq!(table_of_records(r#"{"a": [1]}"#), None);
        let table = table_of_splits(r#"{"val": ["1.jpg"], "train": ["2.jpg"]}"#).unwrap();
        assert_eq!(found(&table).as_deref(), Some(expected));
        assert_eq!(table_of_splits(r#"{"val": 1}"#), None);
    }

    #[test]
    fn a_table_that_agrees_or_is_about_something_else_contradicts_nothing() {
        for table in [
            "file,split,label\n1.jpg,train,cat\n2.jpg,Train,DOG\n3.jpg,valid,cat\n",
            "file,width,height\n1.jpg,10,20\n2.jpg,10,20\n",
            "class,images\ncat,2\ndog,2\n",
            // Other images, and numbers that are no names.
            "file,label\n7.jpg,cat\n8.jpg,dog\n9.jpg,dog\n",
            "epoch,split,loss\n10,val,0.1\n20,train,0.2\n",
            "",
        ] {
            assert_eq!(found(table), None, "{table}");
        }
    }
}
