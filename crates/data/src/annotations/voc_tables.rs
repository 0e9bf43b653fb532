//! Tables that divide Pascal VOC's annotations: with the name of a split beside each name (`a,train`), or `1` for train and
//! `0` for test if the table is called `train_test_split`, as in CUB-200.
//!
//! Numbers in the place of names are those of a table that [numbers images](crate::annotations::numberings). Without any, they
//! are names without their zeros: `1` for `000001`. Where a number has no name, none of them is read. Tables with a name in
//! two splits, with few of the names, or of the steps of a training divide nothing.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use crate::annotations::format::last_part;
use crate::annotations::image_files::DirectoryListing;
use crate::annotations::layout::{Split, join};
use crate::annotations::numberings::numberings_in;
use crate::annotations::split_lists::{
    Row, SplitColumn, are_no_counts, denotes_names, is_of_train_or_test, is_place_of_lists,
    number_of, rows_of,
};
use crate::annotations::voc_lists::{KnownNames, VocList, without_known_extension};
use crate::text_file::read_text;

/// What a table of splits is for annotations.
#[derive(Debug)]
pub(super) enum VocTable {
    /// It has the annotations of several splits.
    Division(Vec<(Split, VocList)>),
    /// It has splits of numbers, and why these are not known to be annotations.
    Unknown(String),
}

impl VocTable {
    /// Reads a table of the dataset `root`; None if it divides nothing.
    pub(super) fn read(path: &Path, root: &Path, annotations: &KnownNames<'_>) -> Option<Self> {
        let text = read_text(path).unwrap_or_default();
        let mut rows = rows_of(&text);
        rows.retain(|row| row.cells.len() > 1);
        let column = SplitColumn::of(&rows);
        let is_of_train = is_of_train_or_test(path);
        let split_of = |row: &Row<'_>| {
            let named = column.as_ref().and_then(|column| column.in_row(row));
            let last = row.cells.last().filter(|_| is_of_train);
            named.or_else(|| match *last? {
                "1" => Some(Split::Train),
                "0" => Some(Split::Test),
                _ => None,
            })
        };
        let divided: Vec<&Row<'_>> = rows.iter().filter(|row| split_of(row).is_some()).collect();
        let table = Table {
            path,
            root,
            header: rows.first()?,
            divided: &divided,
            column: column.as_ref(),
        };
        let numbers = table.numbers(annotations);
        let are_meant =
            |at: usize| is_of_train || are_ids(&rows, at, &|row| split_of(row).is_some());
        let names = match &numbers {
            Numbers::None => None,
            Numbers::Known(numbers) if are_meant(numbers.at) => Some(numbers),
            Numbers::Unknown { at, why } if are_meant(*at) => {
                return Some(Self::Unknown(why.clone()));
            }
            _ => return None,
        };
        let mut lists: Vec<(Split, VocList)> = Vec::new();
        let mut read = 0;
        for row in divided {
            let name = match names {
                Some(numbers) => numbers.name_in(row),
                None => annotations.named_in(row),
            };
            let (Some(name), Some(split)) = (name, split_of(row)) else {
                continue;
            };
            read += 1;
            let at = lists.iter().position(|(of, _)| *of == split);
            let at = at.unwrap_or_else(|| {
                lists.push((split, VocList::of_table(path)));
                lists.len() - 1
            });
            lists[at].1.add(name, row.line, true);
        }
        let named: usize = lists.iter().map(|(_, list)| list.lines.len()).sum();
        let all: BTreeSet<&String> = lists
            .iter()
            .flat_map(|(_, list)| list.lines.keys())
            .collect();
        // Of one split, or with names in several, it is no division; nor are a few of the names.
        if lists.len() < 2
            || 2 * read < rows.len()
            || all.len() < named
            || 2 * named < annotations.len()
        {
            return None;
        }
        lists.sort_by_key(|(split, _)| Split::ALL.iter().position(|of| of == split));
        Some(Self::Division(lists))
    }
}

/// The rows of a table with their split.
struct Table<'t> {
    path: &'t Path,
    /// The directory of the dataset.
    root: &'t Path,
    header: &'t Row<'t>,
    divided: &'t [&'t Row<'t>],
    column: Option<&'t SplitColumn>,
}

/// What the numbers in a table are.
enum Numbers<'a> {
    /// There are names, or neither.
    None,
    Known(NumberedNames<'a>),
    /// Not known to be annotations.
    Unknown {
        at: usize,
        why: String,
    },
}

/// The annotations that the numbers in a column of a table stand for.
struct NumberedNames<'a> {
    at: usize,
    names: HashMap<u64, &'a str>,
}

impl NumberedNames<'_> {
    fn name_in(&self, row: &Row<'_>) -> Option<String> {
        let number = number_of(row.cells.get(self.at)?)?;
        self.names.get(&number).map(|name| (*name).to_owned())
    }
}

impl Table<'_> {
    /// Returns the annotations that the numbers stand for, if there are no names: those of a table that numbers images, or
    /// `1` for `000001` where all names are digits.
    fn numbers<'a>(&self, annotations: &KnownNames<'a>) -> Numbers<'a> {
        // `000001` is a name although it is a number, too.
        let is_name = |cell: &&str| {
            let is_number = number_of(cell).is_some_and(|number| number.to_string() == **cell);
            !is_number && annotations.ending(without_known_extension(cell)).is_some()
        };
        let mut cells = self.divided.iter().flat_map(|row| &row.cells);
        if self.divided.is_empty() || cells.any(is_name) {
            return Numbers::None;
        }
        let numberings = self.numberings();
        if numberings.is_empty() {
            return self.numbers_of_names(annotations);
        }
        let mut known: Vec<(&Path, NumberedNames<'a>)> = Vec::new();
        for (path, images) in &numberings {
            let named = images.iter().filter_map(|(number, name)| {
                Some((*number, annotations.known(without_known_extension(name))?))
            });
            let names: HashMap<u64, &str> = named.collect();
            known.extend(
                self.column_of(names)
                    .map(|numbers| (path.as_path(), numbers)),
            );
        }
        let Some(at) = self.numeric_columns().next() else {
            return Numbers::None;
        };
        let shown =
            |paths: &mut dyn Iterator<Item = &Path>| join(paths.map(|path| self.below(path)));
        let Some((first, numbers)) = known.pop() else {
            let shown = shown(&mut numberings.iter().map(|(path, _)| path.as_path()));
            let why = format!("whose numbers are those of no annotation by {shown}");
            return Numbers::Unknown { at, why };
        };
        let differs = |other: &NumberedNames<'_>| {
            let mut rows = self.divided.iter();
            rows.any(|row| other.name_in(row) != numbers.name_in(row))
        };
        if let Some((other, _)) = known.iter().find(|(_, other)| differs(other)) {
            let shown = shown(&mut [*other, first].into_iter());
            let why = format!("whose numbers are those of different annotations by {shown}");
            return Numbers::Unknown { at, why };
        }
        Numbers::Known(numbers)
    }

    /// Reads the numbers as names without their zeros.
    fn numbers_of_names<'a>(&self, annotations: &KnownNames<'a>) -> Numbers<'a> {
        let mut rows = self.divided.iter();
        if rows.any(|row| annotations.named_in(row).is_some()) {
            return Numbers::None;
        }
        let names = annotations.all();
        let names = names.map(|name| Some((number_of(last_part(name))?, name)));
        let Some(names) = names.collect::<Option<HashMap<u64, &str>>>() else {
            return Numbers::None;
        };
        // `1` and `01` are not told apart.
        if names.len() < annotations.len() {
            return Numbers::None;
        }
        let Some(numbers) = self.column_of(names) else {
            return Numbers::None;
        };
        // Numbers from 0 on are others than those of names from 1 on.
        let mut rows = self.divided.iter();
        match rows.find(|row| numbers.name_in(row).is_none()) {
            None => Numbers::Known(numbers),
            Some(row) => {
                let at = numbers.at;
                let number = row.cells.get(at).copied().unwrap_or_default();
                let why = format!("whose numbers are not all those of annotations ({number})");
                Numbers::Unknown { at, why }
            }
        }
    }

    /// Returns the tables that number images: beside this one, or else in the directory of the dataset, or else in the
    /// directories there.
    fn numberings(&self) -> Vec<(PathBuf, Vec<(u64, String)>)> {
        /// A directory with more has one for each video.
        const DIRECTORIES: usize = 50;
        let beside = self.path.parent().unwrap_or(self.root);
        let mut found = numberings_in(beside);
        if found.is_empty() && beside != self.root {
            found = numberings_in(self.root);
        }
        if found.is_empty() {
            let names = DirectoryListing::of(self.root).directories.into_iter();
            let inner = names.take(DIRECTORIES).map(|name| self.root.join(name));
            found = inner.flat_map(|path| numberings_in(&path)).collect();
        }
        found
    }

    fn below(&self, path: &Path) -> String {
        let below = path.strip_prefix(self.root).unwrap_or(path);
        below.display().to_string()
    }

    /// Returns the positions of the columns of numbers beside the split, the one that is meant first: by its header.
    fn numeric_columns(&self) -> impl Iterator<Item = usize> {
        // What is in the last column may be the split.
        let width = self.header.cells.len() - usize::from(self.column.is_none());
        let is_of_numbers = |at: &usize| {
            let cells = self.divided.iter().filter_map(|row| row.cells.get(*at));
            2 * cells.filter(|cell| number_of(cell).is_some()).count() >= self.divided.len()
        };
        let columns = (0..width).filter(|at| self.column.is_none_or(|splits| !splits.is_at(*at)));
        let columns: Vec<usize> = columns.filter(is_of_numbers).collect();
        // The first column may have the numbers of the rows.
        let (meant, others): (Vec<usize>, Vec<usize>) = columns
            .into_iter()
            .partition(|at| denotes_names(self.header.cells[*at]));
        meant.into_iter().chain(others)
    }

    /// Returns the names with the column that has at least half of their numbers.
    fn column_of<'a>(&self, names: HashMap<u64, &'a str>) -> Option<NumberedNames<'a>> {
        let all = names.len();
        let mut numbers = NumberedNames { at: 0, names };
        self.numeric_columns().find(|at| {
            numbers.at = *at;
            let named = self
                .divided
                .iter()
                .filter(|row| numbers.name_in(row).is_some());
            let named = named.count();
            2 * named >= self.divided.len() && are_no_counts(named, all)
        })?;
        Some(numbers)
    }
}

/// Returns whether the numbers of a table are meant as names: by the header of their column, or because a row has nothing
/// else but the split. The steps of a training are numbers, too.
fn are_ids(rows: &[Row<'_>], at: usize, is_divided: &dyn Fn(&Row<'_>) -> bool) -> bool {
    const PARTS: [&str; 5] = ["id", "image", "img", "file", "name"];
    let header = rows.first().filter(|row| !is_divided(row));
    match header.and_then(|header| header.cells.get(at)) {
        Some(header) => {
            let header = header.to_lowercase();
            PARTS.iter().any(|part| header.contains(part))
        }
        None => rows.iter().all(|row| row.cells.len() == 2),
    }
}

/// Returns the tables that may divide annotations: in the directory of the dataset, in that of the annotations, and in those
/// of lists.
pub(super) fn tables_around(root: &Path, beside: &Path) -> Vec<PathBuf> {
    const EXTENSIONS: [&str; 3] = ["csv", "tsv", "txt"];
    let listing = DirectoryListing::of(root);
    let inner = listing.directories.iter().map(|name| root.join(name));
    let mut places = vec![root.to_owned()];
    places.extend((beside != root).then(|| beside.to_owned()));
    places.extend(inner.filter(|path| *path != *beside && is_place_of_lists(path)));
    let places = places.iter();
    let tables = places.flat_map(|place| DirectoryListing::of(place).lists_with(&EXTENSIONS));
    tables.collect()
}
