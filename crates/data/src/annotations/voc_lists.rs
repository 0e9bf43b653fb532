//! Lists of the names of each split beside Pascal VOC's annotations: `ImageSets/Main/SPLIT.txt`, or elsewhere.
//!
//! The lists in `ImageSets/Main`, or else in `ImageSets`, are read whatever they name. Any other text file that is named
//! after a split (`train.txt`, `splits/val.txt`, `train_list.txt`) is a list of it if at least half of its lines name an
//! annotation: as `NAME`, `NAME.jpg`, or by a path such as `JPEGImages/NAME.jpg`. Without any, a table divides them, see
//! `voc_tables`. A list whose name only contains that of a split (`val_hard.txt`) needs one of another split beside it. A list
//! that is not used is named, and so is a table that contradicts the lists.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::DataError;
use crate::annotations::format::{last_part, without_extension};
use crate::annotations::image_files::{DirectoryListing, MOST_LISTS, has_extension};
use crate::annotations::layout::{LayoutError, Split, join};
use crate::annotations::split_lists::{Row, is_place_of_lists, split_of_list};
use crate::annotations::voc_divisions::Division;
use crate::annotations::voc_tables::{VocTable, tables_around};
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
    /// The number of lines with the names of several annotations, of which the first is read.
    with_several: usize,
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
        let has_several = |line: &&str| {
            let names = line
                .split_whitespace()
                .map(|word| annotations.ending(without_known_extension(word)));
            let mut names = names.flatten();
            let first = names.next();
            first.is_some() && names.any(|name| Some(name) != first)
        };
        let mut list = Self {
            begins_with_names: annotations.begin_most_of(&text),
            with_several: text.lines().filter(has_several).count(),
            ..Self::of_table(path)
        };
        for (line, name, is_known) in lines {
            list.add(name, line, is_known);
        }
        Ok(list)
    }

    /// Returns a list without names, of a split in a table.
    pub(super) fn of_table(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            lines: BTreeMap::new(),
            repeated: 0,
            with_several: 0,
            known: 0,
            begins_with_names: true,
        }
    }

    /// Adds the name in a line; `is_known` if it has an annotation.
    pub(super) fn add(&mut self, name: String, line: usize, is_known: bool) {
        match self.lines.entry(name) {
            Entry::Occupied(_) => self.repeated += 1,
            Entry::Vacant(entry) => {
                entry.insert(line);
                self.known += usize::from(is_known);
            }
        }
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
        below(&self.path, root)
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

    /// Describes names that are listed several times, and lines with several names.
    pub(super) fn notes(&self) -> impl Iterator<Item = String> {
        let name = self.path.file_name().unwrap_or_default().display();
        let repeated = count(self.repeated, "repeated line");
        let repeated =
            (self.repeated > 0).then(|| format!("{repeated} in {name}: each name is used once"));
        let lines = count(self.with_several, "line");
        let several = (self.with_several > 0).then(|| {
            format!("{lines} of {name} with several names: only the first of each line is used")
        });
        repeated.into_iter().chain(several)
    }
}

/// The lists of a dataset.
#[derive(Debug, Default)]
pub(super) struct FoundLists {
    /// The list of each split that has one.
    pub(super) of_splits: Vec<(Split, VocList)>,
    /// Descriptions of the lists that are not used.
    pub(super) unused: Vec<String>,
    /// The tables that divide the annotations.
    tables: Vec<(PathBuf, Vec<(Split, VocList)>)>,
    /// The lists that are used or described.
    pub(super) known: Vec<PathBuf>,
}

fn division(path: &Path, root: &Path, lists: &[(Split, VocList)]) -> Division {
    let lists = lists.iter().map(|(split, list)| (*split, list));
    Division::of_lists(below(path, root), lists)
}

/// Returns a path relative to the directory of the dataset.
fn below(path: &Path, root: &Path) -> String {
    let below = path.strip_prefix(root).unwrap_or(path);
    below.display().to_string()
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
        usual.append(&mut others);
        let unused = usual.iter().filter(|list| !found.has_names_of(list));
        let unused: Vec<String> = unused.map(|list| list.below(root)).collect();
        found.unused.extend(unused);
        for path in tables_around(root, beside) {
            if found.known.contains(&path) {
                continue;
            }
            let table = VocTable::read(&path, root, &annotations);
            match table {
                Some(VocTable::Division(lists)) => found.tables.push((path.clone(), lists)),
                Some(VocTable::Unknown(why)) => {
                    let shown = below(&path, root);
                    found.unused.push(format!("{shown}, {why}"));
                }
                None => continue,
            }
            found.known.push(path);
        }
        Ok(found)
    }

    /// Follows a table if there are no lists: one that no other contradicts.
    ///
    /// # Errors
    /// Each is contradicted by another.
    pub(super) fn follow_tables(&mut self, root: &Path) -> Result<(), DataError> {
        if !self.of_splits.is_empty() || self.tables.is_empty() {
            return Ok(());
        }
        let divisions = self.tables.iter();
        let divisions = divisions.map(|(path, lists)| division(path, root, lists));
        let divisions: Vec<Division> = divisions.collect();
        let contradiction = |at: usize| {
            let mut others = divisions.iter();
            others.find_map(|other| {
                let found = divisions[at].contradicted_by(other, true)?;
                Some(found.problem(Path::new(&other.place)))
            })
        };
        // One may divide more than the others, or have a val of its own.
        match (0..divisions.len()).find(|at| contradiction(*at).is_none()) {
            Some(at) => self.of_splits = self.tables.remove(at).1,
            None => {
                if let Some(problem) = contradiction(0) {
                    return Err(DataError::contradiction(&self.tables[0].0, problem));
                }
            }
        }
        Ok(())
    }

    /// Returns the division by the lists that are followed.
    pub(super) fn division(&self, root: &Path) -> Division {
        let lists = self.of_splits.iter();
        Division::of_lists(self.places(root), lists.map(|(split, list)| (*split, list)))
    }

    /// Describes the tables that contradict a division that is followed.
    pub(super) fn contradicting_tables(&self, followed: &Division, root: &Path) -> Vec<String> {
        let tables = self.tables.iter().filter_map(|(path, lists)| {
            let other = division(path, root, lists);
            let found = followed.contradicted_by(&other, true)?;
            Some(found.note(&other.place))
        });
        tables.collect()
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
            // VOC's other tasks have other images.
            [sets, task, _]
                if sets.eq_ignore_ascii_case("ImageSets") && !task.eq_ignore_ascii_case("Main") =>
            {
                Some(Path::new(sets).join(task).display().to_string())
            }
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
        let files: Vec<PathBuf> = files.take(MOST_LISTS + 1).collect();
        // Those of VOC's other tasks, and of single classes, are in `ImageSets`, too.
        let is_sets = |path: &Path| {
            let name = path
                .strip_prefix(root)
                .ok()
                .and_then(|path| path.iter().next());
            !standard.is_empty() && name.is_some_and(|name| name.eq_ignore_ascii_case("ImageSets"))
        };
        if files.len() <= MOST_LISTS && !is_sets(&directory) {
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

/// The names of annotations, by which the lines of a list are read.
pub(super) struct KnownNames<'a> {
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
    pub(super) fn named_in(&self, row: &Row<'_>) -> Option<String> {
        let mut names = row.cells.iter().map(|cell| without_known_extension(cell));
        names.find_map(|written| self.ending(written))
    }

    /// Returns all names.
    pub(super) fn all(&self) -> impl Iterator<Item = &'a str> {
        self.names.iter().copied()
    }

    /// Returns the number of names.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// Returns the annotation with exactly the name at the end of a path.
    pub(super) fn known(&self, written: &str) -> Option<&'a str> {
        let name = self.ending(written)?;
        self.names.get(name.as_str()).copied()
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

    /// Returns the annotation at the end of a path, perhaps in other capitals.
    pub(super) fn ending(&self, written: &str) -> Option<String> {
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
pub(super) fn without_known_extension(name: &str) -> &str {
    let path = Path::new(name);
    if has_image_extension(path) || has_extension(path, "xml") {
        without_extension(name)
    } else {
        name
    }
}
