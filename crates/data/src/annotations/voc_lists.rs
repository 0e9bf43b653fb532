//! Lists of the names of each split beside Pascal VOC's annotations: `ImageSets/Main/SPLIT.txt`, or elsewhere.
//!
//! The lists in `ImageSets/Main`, or else in `ImageSets`, are read whatever they name. Any other text file that is named
//! after a split (`train.txt`, `splits/val.txt`, `train_list.txt`) is a list of it if at least half of its lines name an
//! annotation: as `NAME`, `NAME.jpg`, or by a path such as `JPEGImages/NAME.jpg`. Without any, a table divides them that has
//! the name of a split beside each name (`a,train`), or `1` for train and `0` for test if it is called `train_test_split`, as
//! in CUB-200, whose numbers are those of `images.txt`. Other numbers are names without their zeros: `1` for `000001`. Tables
//! with a name in two splits, with few of the names, or of the steps of a training are none. A list whose name only contains
//! that of a split (`val_hard.txt`) needs one of another split beside it. A list that is not used is named.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::DataError;
use crate::annotations::format::{last_part, without_extension};
use crate::annotations::image_files::{DirectoryListing, has_extension};
use crate::annotations::layout::{LayoutError, Split, join};
use crate::annotations::split_lists::{
    Row, SplitColumn, are_no_counts, denotes_names, is_of_train_or_test, is_place_of_lists,
    number_of, numbered_images, rows_of, split_of_list,
};
use crate::images::decode::has_image_extension;
use crate::text::count;
use crate::text_file::read_text;

/// The lists of train and val together: VOC's, and that of CVAT's only subset.
const WHOLE: [&str; 2] = ["trainval", "default"];

/// A list of the names of a split.
#[derive(Debug)]
pub(super) struct VocList {
    pub(super) path: PathBuf,
    /// The first line of each name, from 1.
    pub(super) lines: BTreeMap<String, usize>,
    /// The number of lines that repeat a name.
    repeated: usize,
    /// The number of names that have an annotation.
    known: usize,
    /// Whether most lines begin with the name of an annotation, perhaps before columns that are not read.
    begins_with_names: bool,
}

impl VocList {
    fn read(path: &Path, annotations: &KnownNames<'_>) -> Result<Self, DataError> {
        let text = read_text(path)?;
        let lines: Vec<(usize, String, bool)> = (1..)
            .zip(text.lines())
            .filter_map(|(line, text)| {
                let written = name_in(text)?;
                Some(match annotations.named_by(text) {
                    Some(name) => (line, name, true),
                    None => (line, written.to_owned(), false),
                })
            })
            .collect();
        let mut list = Self {
            path: path.to_owned(),
            lines: BTreeMap::new(),
            repeated: 0,
            known: 0,
            begins_with_names: annotations.begin_most_of(&text),
        };
        for (line, name, is_known) in lines {
            match list.lines.entry(name) {
                Entry::Occupied(_) => list.repeated += 1,
                Entry::Vacant(entry) => {
                    entry.insert(line);
                    list.known += usize::from(is_known);
                }
            }
        }
        Ok(list)
    }

    /// Reads the lists of several splits in one table; none if it is no such table.
    fn read_table(path: &Path, annotations: &KnownNames<'_>) -> Vec<(Split, Self)> {
        let text = read_text(path).unwrap_or_default();
        let mut rows = rows_of(&text);
        rows.retain(|row| row.cells.len() > 1);
        let column = SplitColumn::of(&rows);
        let is_train = |cell: &str| match cell {
            "1" => Some(Split::Train),
            "0" => Some(Split::Test),
            _ => None,
        };
        let is_of_train = is_of_train_or_test(path);
        let split_of = |row: &Row<'_>| {
            let named = column.as_ref().and_then(|column| column.in_row(row));
            let last = row.cells.last().filter(|_| is_of_train);
            named.or_else(|| is_train(last?))
        };
        let divided = |row: &&Row<'_>| split_of(row).is_some();
        let numbers = annotations.numbers_in(path, &rows, &divided, column.as_ref());
        let mut lists: Vec<(Split, Self)> = Vec::new();
        let mut divided = 0;
        for row in &rows {
            let name = match &numbers {
                Some(numbers) => numbers.name_in(row),
                None => annotations.named_in(row),
            };
            let (Some(name), Some(split)) = (name, split_of(row)) else {
                continue;
            };
            divided += 1;
            let at = lists.iter().position(|(of, _)| *of == split);
            let at = at.unwrap_or_else(|| {
                let list = Self {
                    path: path.to_owned(),
                    lines: BTreeMap::new(),
                    repeated: 0,
                    known: 0,
                    begins_with_names: true,
                };
                lists.push((split, list));
                lists.len() - 1
            });
            let list = &mut lists[at].1;
            match list.lines.entry(name) {
                Entry::Occupied(_) => list.repeated += 1,
                Entry::Vacant(entry) => {
                    entry.insert(row.line);
                    list.known += 1;
                }
            }
        }
        let named: usize = lists.iter().map(|(_, list)| list.lines.len()).sum();
        let all: BTreeSet<&String> = lists
            .iter()
            .flat_map(|(_, list)| list.lines.keys())
            .collect();
        let is_log = numbers
            .as_ref()
            .is_some_and(|numbers| !is_of_train && !are_ids(&rows, numbers.at, &split_of));
        // Of one split, or with names in several, it is no division; nor are a few of the names.
        if lists.len() < 2
            || 2 * divided < rows.len()
            || all.len() < named
            || 2 * named < annotations.names.len()
            || is_log
        {
            lists.clear();
        }
        lists.sort_by_key(|(split, _)| Split::ALL.iter().position(|of| of == split));
        lists
    }

    /// Returns whether the lines are names of annotations, and not another text.
    fn names_annotations(&self) -> bool {
        self.known > 0 && 2 * self.known >= self.lines.len()
    }

    /// Returns whether these are all of the names.
    pub(super) fn has_names(&self, names: &[String]) -> bool {
        let names: BTreeSet<&String> = names.iter().collect();
        self.lines.keys().eq(names)
    }

    /// Returns the path relative to the directory of the dataset.
    pub(super) fn below(&self, root: &Path) -> String {
        let path = self.path.strip_prefix(root).unwrap_or(&self.path);
        path.display().to_string()
    }

    fn names_the_same(&self, other: &Self) -> bool {
        self.lines.keys().eq(other.lines.keys())
    }

    /// Returns the error about a name without an annotation.
    pub(super) fn missing(&self, name: &str, annotation: &Path) -> DataError {
        let line = self.lines.get(name).copied().unwrap_or_default();
        let problem = format!(
            "line {line}: `{name}` has no annotation; {} is missing",
            annotation.display()
        );
        DataError::labels(&self.path, problem)
    }

    /// Returns the note on names that are listed several times.
    pub(super) fn note(&self) -> Option<String> {
        let name = self.path.file_name().unwrap_or_default().display();
        let repeated = count(self.repeated, "repeated line");
        (self.repeated > 0).then(|| format!("{repeated} in {name}: each name is used once"))
    }
}

/// The lists of a dataset.
#[derive(Debug, Default)]
pub(super) struct FoundLists {
    /// The list of each split that has one.
    pub(super) of_splits: Vec<(Split, VocList)>,
    /// Descriptions of the lists that are not used.
    pub(super) unused: Vec<String>,
    /// The lists that are used or described.
    pub(super) known: Vec<PathBuf>,
}

impl FoundLists {
    /// Finds the lists around annotations with the names `all`, which are in the directory `beside`. `without` are the
    /// directories of images, which are not searched.
    ///
    /// # Errors
    /// A list cannot be read, or several lists of one split name different annotations.
    pub(super) fn find(
        root: &Path,
        beside: &Path,
        without: &[PathBuf],
        all: &[String],
    ) -> Result<Self, DataError> {
        let annotations = KnownNames::of(all);
        let listing = DirectoryListing::of(root);
        let standard = standard_lists(&listing);
        let mut found = Self::default();
        let mut usual = Vec::new();
        for path in standard {
            usual.push(VocList::read(&path, &annotations)?);
        }
        let mut others = Vec::new();
        let is_usual_place = |directory: &Path| directory == root || directory == beside;
        for path in other_lists(root, without, &usual) {
            let is_meant = named(&path).is_some();
            let described = found.unused.len();
            match VocList::read(&path, &annotations) {
                Ok(list) if list.names_annotations() => {
                    found.known.push(path.clone());
                    others.push(list);
                }
                Ok(list) if is_meant && list.begins_with_names => {
                    let shown = list.below(root);
                    found
                        .unused
                        .push(format!("{shown}, whose lines are not understood"));
                }
                Ok(list)
                    if path.parent().is_some_and(|directory| {
                        is_meant && is_usual_place(directory)
                            || directory != root && is_place_of_lists(directory)
                    }) =>
                {
                    let shown = list.below(root);
                    let unused = format!("{shown}, whose names are not those of the annotations");
                    found.unused.push(unused);
                }
                Err(error) if is_meant => return Err(error),
                _ => {}
            }
            if found.unused.len() > described {
                found.known.push(path);
            }
        }
        found
            .known
            .extend(usual.iter().map(|list| list.path.clone()));
        for split in Split::ALL {
            let is_exact = |list: &VocList| named(&list.path) == Some(Named::Split(split));
            let is_whole =
                |list: &VocList| split == Split::Train && named(&list.path) == Some(Named::Whole);
            let has_word = |list: &VocList| split_of_list(&list.path) == Some(split);
            let of_split = None
                .or_else(|| take(&mut usual, is_exact))
                .or_else(|| take(&mut others, is_exact))
                .or_else(|| take(&mut usual, is_whole))
                .or_else(|| take(&mut others, is_whole))
                .or_else(|| take(&mut others, has_word));
            let Some(mut lists) = of_split else {
                continue;
            };
            let first = lists.remove(0);
            if lists.iter().any(|other| !other.names_the_same(&first)) {
                let files = std::iter::once(&first).chain(&lists);
                let found = join(files.map(|list| list.below(root)));
                let root = root.to_owned();
                return Err(LayoutError::Ambiguous { root, split, found }.into());
            }
            found.of_splits.push((split, first));
        }
        // A list that only begins or ends with the name of a split, such as `val_hard.txt`, may be of anything; beside one
        // of another split, it is a part of the division.
        if let [(_, list)] = found.of_splits.as_slice()
            && named(&list.path).is_none()
        {
            others.extend(found.of_splits.drain(..).map(|(_, list)| list));
        }
        let tables = if found.of_splits.is_empty() {
            tables_around(root, beside)
        } else {
            Vec::new()
        };
        for path in tables {
            let lists = VocList::read_table(&path, &annotations);
            if !lists.is_empty() && found.of_splits.is_empty() {
                found.known.push(path);
                found.of_splits = lists;
            }
        }
        usual.append(&mut others);
        let unused = usual.iter().filter(|list| !found.has_names_of(list));
        let unused: Vec<String> = unused.map(|list| list.below(root)).collect();
        found.unused.extend(unused);
        Ok(found)
    }

    /// Returns whether nothing is lost if a list is not used: its names are those of a list that is, or of train and val.
    fn has_names_of(&self, list: &VocList) -> bool {
        let mut lists = self.of_splits.iter();
        let of_development = self
            .of_splits
            .iter()
            .filter(|(split, _)| *split != Split::Test);
        let both: BTreeSet<&String> = of_development
            .flat_map(|(_, list)| list.lines.keys())
            .collect();
        lists.any(|(_, used)| used.names_the_same(list)) || list.lines.keys().eq(both)
    }

    /// Returns the names of the directories and files of the lists.
    pub(super) fn places(&self, root: &Path) -> String {
        let place = |path: &Path| match path.strip_prefix(root).ok()?.iter().collect::<Vec<_>>()[..]
        {
            [file] => Some(file.display().to_string()),
            [directory, ..] => Some(directory.display().to_string()),
            [] => None,
        };
        let places = self
            .of_splits
            .iter()
            .filter_map(|(_, list)| place(&list.path));
        let mut places: Vec<String> = places.collect();
        places.dedup();
        join(places.iter())
    }
}

/// Returns whether the numbers of a table are meant as names: by the header of their column, or because a row has nothing
/// else but the split. The steps of a training are numbers, too.
fn are_ids(rows: &[Row<'_>], at: usize, split_of: &dyn Fn(&Row<'_>) -> Option<Split>) -> bool {
    const PARTS: [&str; 5] = ["id", "image", "img", "file", "name"];
    let header = rows.first().filter(|row| split_of(row).is_none());
    match header.and_then(|header| header.cells.get(at)) {
        Some(header) => {
            let header = header.to_lowercase();
            PARTS.iter().any(|part| header.contains(part))
        }
        None => rows.iter().all(|row| row.cells.len() == 2),
    }
}

/// Removes the lists that are wanted; None if there are none.
fn take(lists: &mut Vec<VocList>, is_wanted: impl Fn(&VocList) -> bool) -> Option<Vec<VocList>> {
    let (wanted, others) = std::mem::take(lists).into_iter().partition(is_wanted);
    *lists = others;
    Some(wanted).filter(|wanted: &Vec<VocList>| !wanted.is_empty())
}

/// What a list contains by its whole name.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    Split(Split),
    Whole,
}

fn named(path: &Path) -> Option<Named> {
    let stem = stem(path);
    let is_whole = WHOLE.contains(&stem.as_str());
    Split::of_name(&stem)
        .map(Named::Split)
        .or(is_whole.then_some(Named::Whole))
}

fn stem(path: &Path) -> String {
    path.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase()
}

/// Returns the lists in `ImageSets/Main`, or else in `ImageSets`.
fn standard_lists(listing: &DirectoryListing) -> Vec<PathBuf> {
    let sets = listing.directory(&["ImageSets"]);
    let main = sets
        .as_ref()
        .and_then(|path| DirectoryListing::of(path).directory(&["Main"]));
    let in_directory = |directory: PathBuf| -> Vec<PathBuf> {
        let listing = DirectoryListing::of(&directory);
        listing
            .files_with("txt")
            .filter(|path| named(path).is_some())
            .collect()
    };
    let mut places = main.into_iter().chain(sets).map(in_directory);
    places.find(|lists| !lists.is_empty()).unwrap_or_default()
}

/// Returns the other text files that are named after splits, at most four directories deep.
fn other_lists(root: &Path, without: &[PathBuf], standard: &[VocList]) -> Vec<PathBuf> {
    /// Folds of a cross-validation.
    const DEPTH: usize = 4;
    /// A directory with more has a text for each image.
    const FILES: usize = 50;
    /// Directories of videos are no places of lists.
    const DIRECTORIES: usize = 100;
    const ALL_DIRECTORIES: usize = 1000;
    let mut searched = 0;
    let mut found = Vec::new();
    let mut open = vec![(root.to_owned(), 0)];
    while let Some((directory, depth)) = open.pop() {
        let listing = DirectoryListing::of(&directory);
        let files = listing
            .files_with("txt")
            .filter(|path| named(path).is_some() || split_of_list(path).is_some());
        let files: Vec<PathBuf> = files.take(FILES + 1).collect();
        // Those of VOC's other tasks, and of single classes, are in `ImageSets`, too.
        let is_sets = |path: &Path| {
            let name = path
                .strip_prefix(root)
                .ok()
                .and_then(|path| path.iter().next());
            !standard.is_empty() && name.is_some_and(|name| name.eq_ignore_ascii_case("ImageSets"))
        };
        if files.len() <= FILES && !is_sets(&directory) {
            found.extend(files);
        }
        searched += 1;
        if depth < DEPTH && searched < ALL_DIRECTORIES {
            let inner = listing.directories.iter().take(DIRECTORIES);
            let inner = inner.map(|name| directory.join(name));
            open.extend(
                inner
                    .filter(|path| !without.contains(path))
                    .map(|path| (path, depth + 1)),
            );
        }
    }
    found.sort();
    found
}

/// Returns the tables that may divide annotations: in the directory of the dataset, in that of the annotations, and in those
/// of lists.
fn tables_around(root: &Path, beside: &Path) -> Vec<PathBuf> {
    /// A directory with more has a text for each image.
    const FILES: usize = 50;
    const EXTENSIONS: [&str; 3] = ["csv", "tsv", "txt"];
    let listing = DirectoryListing::of(root);
    let inner = listing.directories.iter().map(|name| root.join(name));
    let mut places = vec![root.to_owned()];
    places.extend((beside != root).then(|| beside.to_owned()));
    places.extend(inner.filter(|path| *path != *beside && is_place_of_lists(path)));
    let tables = places.iter().flat_map(|place| {
        let listing = DirectoryListing::of(place);
        let files = EXTENSIONS
            .iter()
            .flat_map(|extension| listing.files_with(extension));
        let files: Vec<PathBuf> = files.take(FILES + 1).collect();
        if files.len() > FILES {
            Vec::new()
        } else {
            files
        }
    });
    tables.collect()
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

/// The names of annotations, by which the lines of a list are read.
struct KnownNames<'a> {
    names: HashSet<&'a str>,
    lower: HashSet<String>,
    /// By the last part; None if there are several.
    by_last: HashMap<&'a str, Option<&'a str>>,
}

impl<'a> KnownNames<'a> {
    fn of(all: &'a [String]) -> Self {
        let mut by_last = HashMap::new();
        for name in all {
            let same = by_last.entry(last_part(name));
            same.and_modify(|name| *name = None)
                .or_insert(Some(name.as_str()));
        }
        Self {
            names: all.iter().map(String::as_str).collect(),
            lower: all.iter().map(|name| name.to_lowercase()).collect(),
            by_last,
        }
    }

    /// Returns the annotation that a line names, perhaps in other capitals: the whole line, its first column, or the end
    /// of a path. None for a line of more than two columns, such as a label of YOLO.
    fn named_by(&self, line: &str) -> Option<String> {
        let whole = without_known_extension(line.trim());
        let has_more = line.split_whitespace().nth(2).is_some();
        let first = name_in(line).filter(|_| !has_more);
        [Some(whole), first]
            .into_iter()
            .flatten()
            .find_map(|written| self.ending(written))
    }

    /// Returns the first annotation that a cell names.
    fn named_in(&self, row: &Row<'_>) -> Option<String> {
        let mut names = row.cells.iter().map(|cell| without_known_extension(cell));
        names.find_map(|written| self.ending(written))
    }

    /// Returns the annotations that numbers in a table stand for, if it has no names: by a list beside it that numbers the
    /// images, such as CUB-200's `images.txt`, or `1` for `000001` where all names are digits.
    fn numbers_in(
        &self,
        table: &Path,
        rows: &[Row<'_>],
        is_divided: &dyn Fn(&&Row<'_>) -> bool,
        splits: Option<&SplitColumn>,
    ) -> Option<NumberedNames<'a>> {
        let divided: Vec<&Row<'_>> = rows.iter().filter(is_divided).collect();
        if divided.is_empty() {
            return None;
        }
        // `000001` is a name although it is a number, too.
        let is_name = |cell: &&str| {
            let is_number = number_of(cell).is_some_and(|number| number.to_string() == **cell);
            !is_number && self.ending(without_known_extension(cell)).is_some()
        };
        let mut cells = divided.iter().flat_map(|row| &row.cells);
        if cells.any(is_name) {
            return None;
        }
        let listed = numbered_images(&table.with_file_name("images.txt"));
        let listed = listed.iter().filter_map(|(number, name)| {
            let name = self.ending(without_known_extension(name))?;
            Some((*number, *self.names.get(name.as_str())?))
        });
        let mut names: HashMap<u64, &str> = listed.collect();
        if names.is_empty() {
            if divided.iter().any(|row| self.named_in(row).is_some()) {
                return None;
            }
            let numbers = self.names.iter();
            let numbers = numbers.map(|name| Some((number_of(last_part(name))?, *name)));
            names = numbers.collect::<Option<_>>()?;
            // `1` and `01` are not told apart.
            if names.len() < self.names.len() {
                return None;
            }
        }
        let header = rows.first()?;
        // What is in the last column may be the split.
        let columns = 0..header.cells.len() - usize::from(splits.is_none());
        let columns = columns.filter(|at| splits.is_none_or(|splits| !splits.is_at(*at)));
        let mut fitting: Vec<NumberedNames<'a>> = columns
            .map(|at| NumberedNames {
                at,
                names: names.clone(),
            })
            .filter(|numbers| {
                let named = divided.iter().filter(|row| numbers.name_in(row).is_some());
                let named = named.count();
                2 * named >= divided.len() && are_no_counts(named, names.len())
            })
            .collect();
        // The first column may have the numbers of the rows.
        let meant = fitting
            .iter()
            .position(|numbers| denotes_names(header.cells[numbers.at]));
        (!fitting.is_empty()).then(|| fitting.swap_remove(meant.unwrap_or(0)))
    }

    /// Returns whether most lines begin with a name, up to a space, a comma or the like.
    fn begin_most_of(&self, text: &str) -> bool {
        let is_end = |character: char| character.is_whitespace() || ",;|".contains(character);
        let lines = text
            .lines()
            .filter_map(|line| line.trim().split(is_end).next());
        let lines: Vec<&str> = lines.filter(|first| !first.is_empty()).collect();
        let is_known = |first: &&&str| self.ending(without_known_extension(first)).is_some();
        !lines.is_empty() && 2 * lines.iter().filter(is_known).count() >= lines.len()
    }

    fn ending(&self, written: &str) -> Option<String> {
        let written = written.replace('\\', "/");
        let mut ends =
            std::iter::successors(Some(written.as_str()), |name| Some(name.split_once('/')?.1));
        let end =
            ends.find(|end| self.names.contains(end) || self.lower.contains(&end.to_lowercase()));
        // A path that leads elsewhere is not that of another annotation.
        let by_last = || self.by_last.get(written.as_str()).copied().flatten();
        end.or_else(by_last).map(str::to_owned)
    }
}

/// Returns the names in a list, sorted, each once.
pub(crate) fn listed(text: &str) -> Vec<String> {
    let names: BTreeSet<&str> = text.lines().filter_map(name_in).collect();
    names.into_iter().map(str::to_owned).collect()
}

/// Returns the name in the first column of a line; None for an empty one. VOC's lists of one class have a second column:
/// whether the class is in the image.
fn name_in(line: &str) -> Option<&str> {
    line.split_whitespace().next().map(without_known_extension)
}

/// Removes the extension of an image, which CVAT's lists may have, or of an annotation.
fn without_known_extension(name: &str) -> &str {
    let path = Path::new(name);
    if has_image_extension(path) || has_extension(path, "xml") {
        without_extension(name)
    } else {
        name
    }
}
