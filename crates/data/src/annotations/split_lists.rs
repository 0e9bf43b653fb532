//! Lists of the images of splits, or of the labels of images, in a table or a text: recognized where they are not read,
//! so that they can be named.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::annotations::captions::is_of_captions;
use crate::annotations::format::without_extension;
use crate::annotations::image_files::{DirectoryListing, has_extension};
use crate::annotations::layout::Split;
use crate::annotations::locations::without_hash;
use crate::annotations::numberings::{is_id, numberings_in};
use crate::images::decode::has_image_extension;
use crate::text_file::beginning;

/// The extensions of lists; the last is that of MXNet's.
const EXTENSIONS: [&str; 7] = ["txt", "csv", "tsv", "json", "yaml", "yml", "lst"];

/// Returns whether a file is named after a split, such as `train.csv` and `trainlist01.txt`, or after lists and labels,
/// such as `splits.csv`, and then names images or splits. So does CUB-200's `images.txt`.
pub(crate) fn is_list(path: &Path) -> bool {
    let words = words_of(path);
    // Lists of classes name no image, and captions of a split are no list of it.
    let is_other = || {
        words.iter().any(|word| is_of_other_lists(word)) && !names_image_files(path)
            || is_of_captions(path)
    };
    is_table(path)
        && !words.iter().any(|word| is_of_results(word))
        // `train.yaml` is often the configuration of a training.
        && (words.iter().any(|word| denotes_split(word)) && (!is_yaml(path) || names_image_files(path))
            || words.iter().any(|word| denotes_list(word)) && names_images(path)
            || has_extension(path, "txt") && words == ["images"] && names_image_files(path))
        && !is_other()
}

/// The names of the images of a dataset, and the numbers that stand for them in lists.
#[derive(Debug, Default)]
pub(crate) struct ImageNames {
    /// File names in lower case.
    names: HashSet<String>,
    /// The same without extensions.
    stems: HashSet<String>,
    numbers: HashSet<String>,
    /// The names as numbers if all are digits: `000001`.
    integers: HashSet<u64>,
    /// The names of the directories of images in lower case, which may be the frames of a video.
    directories: HashSet<String>,
    /// The names of other datasets in lower case, whose images an entry with such a directory stands for.
    other_datasets: HashSet<String>,
    /// The names of the directories around each name and stem, if these are compared.
    around: Option<HashMap<String, HashSet<String>>>,
}

impl ImageNames {
    /// Takes names or paths of images.
    pub(crate) fn of(names: impl IntoIterator<Item = String>) -> Self {
        let (mut directories, mut file_names) = (HashSet::new(), HashSet::new());
        for name in names {
            let name = name.to_lowercase();
            let mut parts = name.rsplit(['/', '\\']);
            file_names.extend(parts.next().map(str::to_owned));
            directories.extend(parts.next().map(str::to_owned));
        }
        let names = file_names;
        let stems = names.iter().map(|name| without_extension(name).to_owned());
        let stems: HashSet<String> = stems.collect();
        let integers: Option<HashSet<u64>> = stems.iter().map(|stem| number_of(stem)).collect();
        Self {
            stems,
            names,
            directories,
            numbers: HashSet::new(),
            other_datasets: HashSet::new(),
            integers: integers.unwrap_or_default(),
            around: None,
        }
    }

    /// Takes paths of images below a directory that is called `root`. An entry with directories stands for an image only if
    /// the last one is around it: `cat/1.jpg` is not `rose/1.jpg`.
    pub(crate) fn of_paths(paths: Vec<String>, root: &str) -> Self {
        let mut around: HashMap<String, HashSet<String>> = HashMap::new();
        for path in &paths {
            let path = path.to_lowercase();
            let mut parts: Vec<&str> = path.split('/').collect();
            let Some(name) = parts.pop() else {
                continue;
            };
            for name in [name, without_extension(name)] {
                let around = around.entry(name.to_owned()).or_default();
                around.extend(parts.iter().map(|part| (*part).to_owned()));
                around.insert(root.to_lowercase());
            }
        }
        Self {
            around: Some(around),
            ..Self::of(paths)
        }
    }

    /// Leaves out entries with the directories of other datasets.
    pub(crate) fn without_datasets<'n>(mut self, names: impl IntoIterator<Item = &'n str>) -> Self {
        let names = names.into_iter().map(str::to_lowercase);
        self.other_datasets.extend(names);
        self
    }

    /// Returns whether the last directory of an entry may be around the image with its name, and none is another dataset.
    fn is_around(&self, entry: &str) -> bool {
        let entry = entry.to_lowercase();
        let mut parts = entry.rsplit(['/', '\\']);
        let name = parts.next().unwrap_or_default();
        let mut directories = parts.filter(|part| !matches!(*part, "" | "." | ".."));
        let Some(around) = &self.around else {
            return true;
        };
        let Some(last) = directories.next() else {
            return true;
        };
        around.get(name).is_some_and(|around| {
            let is_other =
                |part: &str| self.other_datasets.contains(part) && !around.contains(part);
            around.contains(last) && !directories.any(is_other)
        })
    }

    /// Adds numbers that stand for images: the ids of COCO.
    pub(crate) fn add_numbers(&mut self, numbers: impl IntoIterator<Item = u64>) {
        let numbers = numbers.into_iter();
        self.numbers
            .extend(numbers.map(|number| number.to_string()));
    }

    /// Adds the numbers of the [tables that number images](numberings_in) in a directory, and returns those tables that have
    /// any.
    pub(crate) fn add_numbered(&mut self, directory: &Path) -> Vec<PathBuf> {
        let mut tables = Vec::new();
        for (table, images) in numberings_in(directory) {
            let numbered = images.into_iter().filter(|(_, name)| self.denotes(name));
            let numbers: Vec<u64> = numbered.map(|(number, _)| number).collect();
            tables.extend((!numbers.is_empty()).then_some(table));
            self.add_numbers(numbers);
        }
        tables
    }

    /// Returns whether a name or path is that of an image, with its extension.
    pub(crate) fn has_file(&self, entry: &str) -> bool {
        let name = last_of(entry);
        has_image_extension(Path::new(name))
            && self.names.contains(&name.to_lowercase())
            && self.is_around(entry)
    }

    /// Returns whether a file has the name of an image, but for its extension: it belongs to that image.
    pub(crate) fn has_stem_of(&self, path: &Path) -> bool {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        self.stems.contains(&stem.to_lowercase())
    }

    /// Returns whether an entry of a list stands for an image: a name or path, with or without its extension, or a number.
    pub(crate) fn denotes(&self, entry: &str) -> bool {
        let name = last_of(entry).to_lowercase();
        !name.is_empty()
            && (self.names.contains(&name)
                || self.stems.contains(&name)
                || self.numbers.contains(&name))
            && self.is_around(entry)
            || self.denotes_video(&name)
    }

    /// Returns whether the name of a video is that of an image, or of a directory of images: its frames.
    fn denotes_video(&self, name: &str) -> bool {
        const VIDEOS: [&str; 6] = ["avi", "mp4", "mov", "mkv", "webm", "mpg"];
        let stem = without_extension(name);
        let mut videos = VIDEOS.iter();
        videos.any(|extension| has_extension(Path::new(name), extension))
            && (self.stems.contains(stem) || self.directories.contains(stem))
    }

    /// Returns whether an entry is the number that a name is, without its zeros: `1` for `000001.jpg`.
    fn denotes_number(&self, entry: &str) -> bool {
        number_of(entry).is_some_and(|number| self.integers.contains(&number))
    }

    /// Returns whether so many rows with numbers are more than the counts of each split would be, or those of all images.
    fn are_no_counts(&self, rows: usize) -> bool {
        are_no_counts(rows, self.integers.len())
    }
}

/// Returns whether rows that name images by numbers are none with the number of images of each split, given that of all
/// images.
pub(crate) fn are_no_counts(rows: usize, images: usize) -> bool {
    rows > Split::ALL.len() || rows >= images
}

/// Returns the number that a text of digits is.
pub(crate) fn number_of(text: &str) -> Option<u64> {
    is_digits(text).then(|| text.parse().ok())?
}

/// Returns the part of a path behind the last `/` or `\`.
fn last_of(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

/// Returns whether the beginning of a table divides the images of a dataset, whatever the table is called: it names one of
/// them, and has a column of splits or the name of a split beside it. Where names have no extensions, or are numbers, most
/// entries stand for images, and the name of the file may say the split: `trainlist01.txt`.
///
/// The names are asked for only if the table has splits.
pub(crate) fn divides_images<'n>(path: &Path, images: &dyn Fn() -> &'n ImageNames) -> bool {
    let words = words_of(path);
    if !is_table(path) || words.iter().any(|word| is_of_results(word)) {
        return false;
    }
    let text = beginning(path, BEGINNING).unwrap_or_default();
    let is_named = words.iter().any(|word| denotes_division(word))
        && !words.iter().any(|word| is_of_other_lists(word));
    // The values of one document may be in any lines, and a sentence may have the name of a split as a word.
    if is_yaml(path) || has_extension(path, "json") {
        let fields = if is_yaml(path) {
            fields_of_yaml(&text)
        } else {
            fields_of_json(&text)
        };
        let (splits, entries): (Vec<&str>, Vec<&str>) = fields
            .into_iter()
            .partition(|field| Split::of_name(field).is_some());
        return !splits.is_empty() && entries.iter().any(|entry| images().has_file(entry))
            || (!splits.is_empty() || is_named)
                && are_most(
                    entries
                        .iter()
                        .filter(|entry| images().denotes(entry))
                        .count(),
                    entries.len(),
                );
    }
    let rows = rows_of(&text);
    let Some(header) = rows.first() else {
        return false;
    };
    let column = SplitColumn::of(&rows);
    if !is_named && column.is_none() {
        return false;
    }
    let has_header = column.as_ref().is_some_and(|column| column.has_header);
    let has_split = |row: &Row<'_>| {
        let split = column.as_ref().and_then(|column| column.in_row(row));
        has_header || split.is_some()
    };
    let images = images();
    // The label file of an image that is called `test_1`.
    if has_extension(path, "txt") && images.has_stem_of(path) {
        return false;
    }
    let mut with_split = rows.iter().filter(|row| has_split(row));
    if with_split.any(|row| row.cells.iter().any(|cell| images.has_file(cell))) {
        return true;
    }
    // A name may have spaces.
    let whole = text
        .lines()
        .filter(|line| images.denotes(line.trim()))
        .count();
    if is_named && are_most(whole, rows.len()) {
        return true;
    }
    // Numbers without the zeros of the names stand for images only where nothing else can be meant.
    let is_bare = rows.iter().all(|row| row.cells.len() == 1)
        || is_of_train_or_test(path) && rows.iter().all(|row| row.cells.len() == 2);
    let mut columns = (0..header.cells.len())
        .filter(|at| column.as_ref().is_none_or(|column| !column.is_at(*at)));
    columns.any(|at| {
        let takes_numbers = is_bare || column.is_some() || denotes_names(header.cells[at]);
        let is_exact = |row: &Row<'_>| row.cells.get(at).is_some_and(|cell| images.denotes(cell));
        let is_number = |row: &Row<'_>| {
            let cell = row.cells.get(at).filter(|_| takes_numbers);
            cell.is_some_and(|cell| images.denotes_number(cell))
        };
        let first = usize::from(has_header || !is_exact(header) && !is_number(header));
        let body = &rows[first.min(rows.len() - 1)..];
        let named = || body.iter().filter(|row| is_named || has_split(row));
        let has_other_header = first == 1 && !denotes_names(header.cells[at]);
        let exact: Vec<&Row<'_>> = named().filter(|row| is_exact(row)).collect();
        if exact.is_empty() {
            let numbers = named().filter(|row| is_number(row)).count();
            return are_most(numbers, body.len())
                && !has_other_header
                && images.are_no_counts(numbers);
        }
        let are_numbers = exact.iter().all(|row| is_digits(row.cells[at]));
        are_most(exact.len(), body.len()) && !(are_numbers && has_other_header)
    })
}

/// Returns whether a table has splits of numbers that may be those of images: each is there once, under a header that says
/// so, or alone beside the split.
pub(crate) fn divides_numbers(path: &Path) -> bool {
    let words = words_of(path);
    let is_other = |word: &String| is_of_results(word) || is_of_other_lists(word);
    if !["csv", "tsv", "txt"]
        .iter()
        .any(|of| has_extension(path, of))
        || words.iter().any(is_other)
    {
        return false;
    }
    let text = beginning(path, BEGINNING).unwrap_or_default();
    let mut rows = rows_of(&text);
    // The last may be cut.
    if text.len() as u64 >= BEGINNING {
        rows.pop();
    }
    let column = SplitColumn::of(&rows);
    let is_of_train = column.is_none() && is_of_train_or_test(path);
    let has_split = |row: &Row<'_>| match &column {
        Some(column) => column.has_header || column.in_row(row).is_some(),
        None => is_of_train && matches!(row.cells.last(), Some(&("0" | "1"))),
    };
    let Some(header) = rows.first() else {
        return false;
    };
    let has_header = header.cells.iter().all(|cell| !is_digits(cell));
    let body = &rows[usize::from(has_header)..];
    let width = header.cells.len() - usize::from(is_of_train);
    let mut columns =
        (0..width).filter(|at| column.as_ref().is_none_or(|column| !column.is_at(*at)));
    body.len() > Split::ALL.len()
        && body.iter().all(has_split)
        && columns.any(|at| {
            let is_meant = if has_header {
                is_id(&header.cells[at].to_lowercase())
            } else {
                header.cells.len() == 2
            };
            let numbers = body.iter().map(|row| row.cells.get(at).copied());
            let mut seen = HashSet::new();
            let mut numbers = numbers.map(|cell| number_of(cell.unwrap_or_default()));
            is_meant && numbers.all(|number| number.is_some_and(|number| seen.insert(number)))
        })
}

/// A line of a table or text.
pub(crate) struct Row<'t> {
    /// From 1.
    pub(crate) line: usize,
    pub(crate) cells: Vec<&'t str>,
    /// Whether the cells are divided by commas or the like, and not by spaces, which sentences have too.
    is_separated: bool,
}

/// Returns the lines of a text that are not empty.
pub(crate) fn rows_of(text: &str) -> Vec<Row<'_>> {
    let lines = (1..).zip(text.lines());
    let lines = lines.filter(|(_, text)| !text.trim().is_empty());
    lines
        .map(|(line, text)| Row {
            line,
            cells: cells_of(text),
            is_separated: text.contains(SEPARATORS),
        })
        .collect()
}

/// The column of a table that says of which split each row is.
pub(crate) struct SplitColumn {
    at: usize,
    /// Whether its header says so, whatever it contains.
    has_header: bool,
}

impl SplitColumn {
    /// Finds the column by its header, or as the one in which most rows have the name of a split. Between spaces, it is a
    /// column only if the rest is a name and numbers: a caption may have the name of a split, too.
    pub(crate) fn of(rows: &[Row<'_>]) -> Option<Self> {
        let header = rows.first()?;
        let is_alike = |row: &&Row<'_>| row.is_separated || row.cells.len() == header.cells.len();
        let names_image = |cell: &&str| has_image_extension(Path::new(cell));
        let is_header = !header.cells.iter().any(names_image)
            && (header.is_separated || 2 * rows.iter().filter(is_alike).count() > rows.len());
        let columns = 0..header.cells.len();
        let columns = columns.filter(|at| is_header && denotes_column(header.cells[*at]));
        let named: Vec<Self> = columns
            .map(|at| Self {
                at,
                has_header: true,
            })
            .collect();
        let first = named.iter().position(|column| {
            let mut rows = rows.iter();
            rows.any(|row| column.in_row(row).is_some())
        });
        let width = rows.iter().map(|row| row.cells.len()).max()?;
        let mut others = (0..width).map(|at| Self {
            at,
            has_header: false,
        });
        let mut named = named.into_iter();
        match first {
            Some(first) => named.nth(first),
            None => others
                .find(|column| {
                    let found = rows.iter().filter(|row| column.in_row(row).is_some());
                    are_most(found.count(), rows.len())
                })
                .or_else(|| named.next()),
        }
    }

    /// Returns the split of a row.
    pub(crate) fn in_row(&self, row: &Row<'_>) -> Option<Split> {
        let split = Split::of_name(row.cells.get(self.at)?)?;
        let others = (0..row.cells.len()).filter(|at| *at != self.at);
        let words = others.map(|at| row.cells[at]);
        let words = words.filter(|cell| cell.parse::<f64>().is_err());
        let words: Vec<&str> = words.collect();
        let is_name = |word: &str| !word.chars().all(char::is_alphabetic);
        let is_field = self.has_header
            || row.is_separated
            || row.cells.len() <= 2
            || words.iter().all(|word| is_name(word)) && words.len() <= 1;
        is_field.then_some(split)
    }

    /// Returns whether this is the column at a position.
    pub(crate) fn is_at(&self, at: usize) -> bool {
        self.at == at
    }
}

/// Returns the keys and values of a JSON document; the last may be cut.
fn fields_of_json(text: &str) -> Vec<&str> {
    let is_end = |character: char| character.is_whitespace() || ",:[]{}".contains(character);
    let parts = text.split('"').enumerate();
    let fields = parts.flat_map(|(at, part)| {
        let fields: Vec<&str> = if at % 2 == 1 {
            vec![part]
        } else {
            part.split(is_end).collect()
        };
        fields
    });
    fields.filter(|field| !field.is_empty()).collect()
}

/// Returns the keys and values of a YAML document.
fn fields_of_yaml(text: &str) -> Vec<&str> {
    let is_end = |character: char| ",:[]{}".contains(character);
    let lines = text.lines().map(str::trim);
    let lines = lines.map(|line| line.strip_prefix("- ").unwrap_or(line));
    let fields = lines.flat_map(|line| line.split(is_end));
    let fields = fields.map(|field| field.trim().trim_matches(['"', '\'']));
    fields.filter(|field| !field.is_empty()).collect()
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn are_most(number: usize, of_all: usize) -> bool {
    number > 0 && 2 * number >= of_all
}

/// Returns whether the header of a column says that it names images, by numbers perhaps.
pub(crate) fn denotes_names(header: &str) -> bool {
    const PARTS: [&str; 7] = ["id", "image", "img", "file", "name", "path", "frame"];
    let header = header.to_lowercase();
    PARTS.iter().any(|part| header.contains(part))
}

/// Returns whether the beginning of a text names one of the images of a dataset.
pub(crate) fn names_any(path: &Path, images: &ImageNames) -> bool {
    let text = beginning(path, BEGINNING).unwrap_or_default();
    // VIA appends the size of the file: `a.jpg123`.
    let mut names =
        parts_of(&text).map(|part| part.trim_end_matches(|byte: char| byte.is_ascii_digit()));
    names.any(|name| {
        let names = [Some(name), without_hash(last_of(name))];
        names
            .into_iter()
            .flatten()
            .any(|name| images.has_file(name))
    })
}

/// What divides the cells of a table.
const SEPARATORS: [char; 3] = [',', ';', '\t'];

/// Returns the cells of a line of a table; without commas and the like, its words.
pub(crate) fn cells_of(line: &str) -> Vec<&str> {
    let cells: Vec<&str> = if line.contains(SEPARATORS) {
        line.split(SEPARATORS).collect()
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
    const COLUMNS: [&str; 12] = [
        "split",
        "splits",
        "data set",
        "dataset",
        "subset",
        "fold",
        "partition",
        "is valid",
        "is train",
        "is training",
        "is test",
        "kfold",
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
pub(crate) fn words_of(path: &Path) -> Vec<String> {
    let stem = path.file_stem().unwrap_or_default();
    let stem = stem.to_string_lossy().to_lowercase();
    let words = stem.split(|character: char| !character.is_alphanumeric());
    words
        .map(|word| word.trim_matches(|character: char| character.is_ascii_digit()))
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Returns the only split that the words of a list's name denote: train for `trainlist01.txt`.
pub(crate) fn split_of_list(path: &Path) -> Option<Split> {
    let words = words_of(path);
    let mut found = words.iter().filter_map(|word| split_of_word(word));
    let first = found.next()?;
    found.all(|other| other == first).then_some(first)
}

/// Returns whether a list says of each image whether it is of train: CUB-200's `train_test_split.txt`.
pub(crate) fn is_of_train_or_test(path: &Path) -> bool {
    let words = words_of(path);
    let of = |split| words.iter().any(|word| split_of_word(word) == Some(split));
    of(Split::Train) && of(Split::Test)
}

/// Returns a word, and what is left of it without what a list is: `train` of `trainlist`, `test` of `testset`.
fn without_affixes(word: &str) -> impl Iterator<Item = &str> {
    const AFFIXES: [&str; 7] = ["list", "lists", "set", "split", "files", "ids", "images"];
    let affixes = AFFIXES.iter().filter_map(move |affix| {
        word.strip_suffix(affix)
            .or_else(|| word.strip_prefix(affix))
    });
    affixes.chain([word])
}

fn split_of_word(word: &str) -> Option<Split> {
    without_affixes(word).find_map(Split::of_name)
}

/// Returns whether a word is the name of a split, perhaps joined with what a list is.
fn denotes_split(word: &str) -> bool {
    without_affixes(word).any(|name| name == "trainval" || Split::of_name(name).is_some())
}

/// Returns whether a word says that a list divides what it names.
fn denotes_division(word: &str) -> bool {
    const DIVISIONS: [&str; 6] = [
        "split",
        "splits",
        "fold",
        "folds",
        "partition",
        "partitions",
    ];
    denotes_split(word) || DIVISIONS.contains(&word)
}

/// Returns whether a word says that a table is about images of a split, and no list of them.
fn is_of_other_lists(word: &str) -> bool {
    const OTHERS: [&str; 6] = [
        "class",
        "classes",
        "caption",
        "captions",
        "names",
        "categories",
    ];
    OTHERS.contains(&word)
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
pub(crate) fn is_of_results(word: &str) -> bool {
    const RESULTS: [&str; 17] = [
        "result",
        "results",
        "log",
        "logs",
        "loss",
        "metric",
        "metrics",
        "pred",
        "preds",
        "prediction",
        "predictions",
        "scores",
        "detections",
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
            let images = ImageNames::of(["rose/1.jpg".to_owned()]);
            let found = divides_images(&path, &|| &images);
            assert_eq!(found, expected, "{name}: {text}");
        }
    }

    #[test]
    fn lists_of_names_without_extensions_and_of_numbers_are_recognized_if_they_say_a_split() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["a/000.jpg", "a/001.jpg", "b/x 2.jpg", "b/cat_003.jpg"];
        let mut images = ImageNames::of(names.map(str::to_owned));
        images.add_numbers([17, 18, 19]);
        for (name, text, expected) in [
            ("train.txt", "000\n001\n", true),
            ("trainlist01.txt", "a/000\nb/x 2\n", true),
            ("testlist.txt", "cat_003\n9\n", true),
            ("train_test_split.txt", "000.jpg 1\n001.jpg 0\n", true),
            ("train_test_split.txt", "17 1\n18 0\n", true),
            ("train.csv", "image_id,label\n000,rose\n001,rose\n", true),
            ("train.csv", "id\n17\n18\n", true),
            ("data.csv", "id,split\n000,train\n001,val\n", true),
            ("data.csv", "id;fold\ncat_003;0\n001;1\n", true),
            ("fold_1.txt", "cat_003\n000\n", true),
            ("all.txt", "000 train\n001 val\n", true),
            (
                "parts.json",
                r#"{"train": ["000"], "val": ["001", "cat_003"]}"#,
                true,
            ),
            ("train.json", r#"["000", "cat_003"]"#, true),
            // Tables about other things, or without a split.
            ("train.csv", "epoch,steps\n000,10\n001,20\n", false),
            (
                "train.json",
                r#"{"epochs": 17, "lr": 0.1, "model": "x"}"#,
                false,
            ),
            ("labels.csv", "id,label\n000,rose\n001,tulip\n", false),
            ("data.csv", "id,split\n100,train\n101,val\n", false),
            ("train_classes.txt", "000\n001\n", false),
            ("captions_train.txt", "000 a rose\n001 a tulip\n", false),
            ("train_predictions.csv", "id,score\n000,1\n001,1\n", false),
            (
                "val.txt",
                "the images 000 and 001\nare others\nof roses\n",
                false,
            ),
            ("classes.txt", "cat_003\n", false),
            // The labels of an image.
            ("x 2.txt", "17 train\n", false),
        ] {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            assert_eq!(
                divides_images(&path, &|| &images),
                expected,
                "{name}: {text}"
            );
        }
    }

    #[test]
    fn the_name_of_a_split_within_a_longer_text_divides_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let names = (1..=6).map(|number| format!("a/{number:06}.jpg"));
        let images = ImageNames::of(names);
        for (name, text, expected) in [
            (
                "captions.txt",
                "000001.jpg a cat in the train\n000002.jpg a test of a train\n",
                false,
            ),
            (
                "captions.txt",
                "000001.jpg the cat, a train\n000002.jpg a dog\n",
                false,
            ),
            (
                "captions.csv",
                "file,caption\n000001.jpg,a cat in the train\n",
                false,
            ),
            (
                "texts.tsv",
                "000001.jpg\ta train\n000002.jpg\ta test\n",
                false,
            ),
            (
                "tags.csv",
                "000001.jpg,cat,train\n000002.jpg,dog,sky\n000003.jpg,cat,sky\n",
                false,
            ),
            (
                "captions.json",
                r#"[{"file":"000001.jpg","caption":"a test of a train"}]"#,
                false,
            ),
            (
                "captions.json",
                r#"{"000001.jpg": "a \"train\", a test", "000002.jpg": "val"}"#,
                true,
            ),
            ("captions.yaml", "000001.jpg: a cat in the train\n", false),
            (
                "texts.txt",
                "000001 a split\n000002 the other side of a test\n",
                false,
            ),
            // A field of its own.
            ("all.txt", "000001.jpg train\n000002.jpg val\n", true),
            ("all.txt", "000001.jpg 3 train\n000002.jpg 4 val\n", true),
            ("all.txt", "train a/000001.jpg\nval a/000002.jpg\n", true),
            ("all.txt", "file label split\n000001.jpg cat train\n", true),
            (
                "all.csv",
                "000001.jpg,a cat in a train,train\n000002.jpg,a test,val\n",
                true,
            ),
            (
                "all.json",
                r#"[{"file": "000001.jpg", "set": "train"}]"#,
                true,
            ),
            ("all.yml", "- {file: 000001.jpg, set: train}\n", true),
        ] {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            let found = divides_images(&path, &|| &images);
            assert_eq!(found, expected, "{name}: {text}");
        }
    }

    #[test]
    fn numbers_without_the_zeros_of_the_names_stand_for_images_where_nothing_else_fits() {
        let dir = tempfile::tempdir().unwrap();
        let padded = ImageNames::of((1..=6).map(|number| format!("a/{number:06}.jpg")));
        let mut others = ImageNames::of((1..=6).map(|number| format!("a/x{number}.jpg")));
        others.add_numbers([100]);
        for (name, text, expected) in [
            (
                "data.csv",
                "id,split\n1,train\n2,train\n3,val\n4,val\n",
                true,
            ),
            ("data.csv", "1,train\n2,train\n3,val\n4,val\n", true),
            (
                "data.csv",
                ",id,split\n0,1,train\n1,2,train\n2,3,val\n3,4,val\n",
                true,
            ),
            ("folds.csv", "id,fold\n1,0\n2,0\n3,1\n4,1\n", true),
            ("train_test_split.txt", "1 1\n2 1\n3 0\n4 0\n", true),
            ("train.txt", "1\n2\n3\n4\n", true),
            // Numbers of other things, and of the images of each split.
            ("train_log.txt", "1 0.5\n2 0.4\n3 0.3\n4 0.2\n", false),
            (
                "train.csv",
                "epoch,loss\n1,0.5\n2,0.4\n3,0.3\n4,0.2\n",
                false,
            ),
            ("counts.csv", "split,images\ntrain,4\nval,2\n", false),
            (
                "data.csv",
                "id,split\n11,train\n12,train\n13,val\n14,val\n",
                false,
            ),
            (
                "data.csv",
                "id,label\n1,rose\n2,rose\n3,tulip\n4,tulip\n",
                false,
            ),
        ] {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            let found = |images: &ImageNames| divides_images(&path, &|| images);
            assert_eq!(found(&padded), expected, "{name}: {text}");
            assert!(!found(&others), "{name}: {text}");
        }
    }

    #[test]
    fn an_entry_with_directories_is_an_image_in_the_last_one() {
        let paths = ["rose/1.jpg", "tulip/2/3.jpg"].map(str::to_owned);
        let images = ImageNames::of_paths(paths.to_vec(), "Flowers");
        for (entry, expected) in [
            ("1.jpg", true),
            ("1", true),
            ("rose/1.jpg", true),
            ("x\\Rose\\1", true),
            ("./1.jpg", true),
            ("flowers/1.jpg", true),
            ("tulip/3.jpg", true),
            ("2/3.jpg", true),
            ("cat/1.jpg", false),
            ("tulip/1", false),
        ] {
            assert_eq!(images.denotes(entry), expected, "{entry}");
            let is_file = expected && entry.ends_with(".jpg");
            assert_eq!(images.has_file(entry), is_file, "{entry}");
        }
    }

    #[test]
    fn entries_in_directories_of_other_datasets_and_videos_are_told_apart() {
        let paths = ["rose/1.jpg", "run/v_1/0.jpg"].map(str::to_owned);
        let images = ImageNames::of_paths(paths.to_vec(), "A").without_datasets(["B"]);
        for (entry, expected) in [
            ("A/rose/1.jpg", true),
            ("data/rose/1.jpg", true),
            ("b/rose/1.jpg", false),
            ("data/B/rose/1", false),
            ("run/v_1.avi", true),
            ("run/v_2.avi", false),
            ("rose", false),
        ] {
            assert_eq!(images.denotes(entry), expected, "{entry}");
        }
    }

    #[test]
    fn the_split_of_a_list_is_the_only_one_in_its_name() {
        for (name, expected) in [
            ("trainlist01.txt", Some(Split::Train)),
            ("test_2.txt", Some(Split::Test)),
            ("list_val.csv", Some(Split::Val)),
            ("trainval.txt", None),
            ("train_test_split.txt", None),
            ("latest.txt", None),
        ] {
            let path = Path::new(name);
            assert_eq!(split_of_list(path), expected, "{name}");
            assert_eq!(
                is_of_train_or_test(path),
                name.starts_with("train_"),
                "{name}"
            );
        }
    }

    #[test]
    fn numbers_of_a_list_stand_for_the_images_that_it_names() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("images.txt");
        std::fs::write(&list, "1 rose/a.jpg\n2 rose/b.jpg\n3 rose/c.jpg\n").unwrap();
        let mut images = ImageNames::of(["a.jpg", "b.jpg"].map(str::to_owned));
        assert_eq!(images.add_numbered(dir.path()), [list]);
        for (entry, expected) in [("1", true), ("2", true), ("3", false), ("a", true)] {
            assert_eq!(images.denotes(entry), expected, "{entry}");
        }
    }
}
