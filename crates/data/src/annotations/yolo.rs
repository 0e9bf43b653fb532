//! YOLO: one text file of boxes per image, in fractions of the image.
//!
//! ```text
//! data.yaml                 class names, and the image directories of each split
//! images/train/a.jpg        labels/train/a.txt
//! images/val/b.jpg          labels/val/b.txt
//! ```
//!
//! Each line of a label file is `class cx cy width height`: the class is counted from 0, the other
//! numbers are relative to the image's width and height. A line with more points is an outline
//! (`class x1 y1 x2 y2 x3 y3 ...`); its box is used. An image without a label file has no boxes.
//!
//! A directory is recognized by `data.yaml` (any `.yaml` or `.yml` with `names`) whose `train`, `val` and
//! `test` are directories or lists of images; without it by darknet's `obj.data`, or by a list of class
//! names (`classes.txt`, `obj.names`) with the images in `images/SPLIT/`, `SPLIT/images/`, `SPLIT/`,
//! `images/`, or in the directory itself. A `data.yaml` can be given on its own.
//!
//! Label files are found where the usual programs put them: in `labels` in the place of the directory of
//! images (`images`, `JPEGImages`), beside the images, or in `labels/`. The place where most images of a
//! split have a label file is used for the whole split; if no image has any, that is an error. Names may differ
//! from those of the images in capitals.
//!
//! Files that contradict each other are errors: lists of class names with other names, label files of one image
//! in two places with other boxes, one label file for two images.
//!
//! With `kpt_shape` in `data.yaml`, a line is a box followed by key points, which are dropped.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};

use rayon::prelude::*;

use crate::DataError;
use crate::annotations::format::{
    AnnotationFormat, BoxEntry, DatasetFiles, Dropped, EntryProblem, FoundSplits, ImageEntry,
    Output, PlacedBox, PlacedSplit, Reader, SplitEntries, StoredBox, without_extension,
};
use crate::annotations::image_files::{
    AnyCapitals, Folder, files_with_extension, has_extension, holds_images_directly, images_within,
};
use crate::annotations::layout::{LayoutError, Split, SplitFiles, join};
use crate::annotations::text_file::{lines, read_text};
use crate::annotations::yolo_yaml::DataYaml;
use crate::boxes::ImageSize;
use crate::images::decode::image_size;
use crate::text::{count, printable};

/// YOLO: `data.yaml`, `images/SPLIT/`, `labels/SPLIT/`.
#[derive(Debug)]
pub struct YoloFormat;

impl AnnotationFormat for YoloFormat {
    fn key(&self) -> &'static str {
        "yolo"
    }

    fn name(&self) -> &'static str {
        "YOLO"
    }

    fn files(&self) -> String {
        "data.yaml or classes.txt, with images/ and labels/".into()
    }

    fn find(&self, path: &Path) -> Result<Option<FoundSplits>, DataError> {
        let Some(found) = YoloDirectory::find(path)? else {
            return Ok(None);
        };
        let splits = found.splits.into_iter();
        Ok(Some(FoundSplits {
            splits: splits
                .map(|(split, image_directories)| SplitFiles {
                    format: &Self,
                    split,
                    annotations: path.to_owned(),
                    image_directories,
                })
                .collect(),
            reason: found.reason,
        }))
    }

    fn reader(&self) -> Reader {
        Reader::Entries(collect)
    }

    fn stored_box(&self, found: &StoredBox) -> Result<[f64; 4], &'static str> {
        let [x, y, w, h] = found.of_one_object()?;
        let (width, height) = (found.size.width as f64, found.size.height as f64);
        let (left, top) = (x.max(0.0), y.max(0.0));
        let (right, bottom) = ((x + w).min(width), (y + h).min(height));
        if right <= left || bottom <= top {
            return Err("boxes outside of the image");
        }
        Ok([left, top, right - left, bottom - top])
    }

    fn image_path(&self, split: Split, file_name: &str) -> String {
        // Other programs look for the labels in the place of the last directory `images`.
        let parts = file_name.split('/').filter(|part| *part != "images");
        format!("images/{split}/{}", parts.collect::<Vec<_>>().join("/"))
    }

    fn image_key<'p>(&self, image_path: &'p str) -> &'p str {
        // The label file of `a.jpg` and `a.png` would be the same.
        without_extension(image_path)
    }

    fn lists_classes(&self) -> bool {
        true
    }

    fn write(&self, splits: &[PlacedSplit], output: &Output) -> Result<(), DataError> {
        let mut names = Vec::new();
        for placed in splits {
            let store = &placed.annotations.store;
            names = store.categories().iter().map(|c| c.name.clone()).collect();
            for (index, (path, boxes)) in placed.image_paths.iter().zip(&placed.boxes).enumerate() {
                let stem = without_extension(path);
                let within = stem.strip_prefix("images/").unwrap_or(stem);
                let text = format_labels(store.image(index).size, boxes);
                output.file(&format!("labels/{within}.txt"), &text)?;
            }
        }
        let found: Vec<Split> = splits.iter().map(|s| s.annotations.split).collect();
        output.file("data.yaml", &DataYaml::format(&names, &found))
    }
}

/// A directory in YOLO's layout; images and labels are not read yet.
#[derive(Debug)]
struct YoloDirectory {
    /// The directory that labels are looked for in.
    root: PathBuf,
    /// Class names; the position is the class's number.
    names: Vec<String>,
    /// The number of values of the key points behind each box, if lines have any.
    key_points: Option<usize>,
    /// Directories or lists of the images of each split.
    splits: Vec<(Split, Vec<PathBuf>)>,
    /// The files by which the layout was recognized.
    reason: String,
}

/// A line of a label file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct YoloBox {
    /// The class, counted from 0.
    pub class: usize,
    /// Center and size in fractions of the image.
    pub cxcywh: [f64; 4],
    /// What the line has besides the box.
    pub extra: Extra,
}

/// What a line of a label file has besides the box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// Nothing.
    None,
    /// An outline, around which the box is.
    Outline,
    /// Key points.
    KeyPoints,
}

impl YoloDirectory {
    /// Describes a directory, or the directory of a `data.yaml` or `obj.data`; None if it is not in this
    /// layout.
    ///
    /// # Errors
    /// It is, and its description is wrong: bad YAML, a directory that does not exist, no class names.
    fn find(path: &Path) -> Result<Option<Self>, DataError> {
        if path.is_file() {
            let root = path.parent().unwrap_or(Path::new(""));
            if is_yaml(path) {
                let described = DataYaml::parse(&read_text(path)?, path)?.ok_or_else(|| {
                    let problem = "no `names`; a dataset's YAML file names its classes";
                    DataError::labels(path, problem)
                })?;
                let mut found = Self::described(root, path, described)?;
                // Whoever gives the file has chosen its names.
                if let Some((list, _)) = found.other_names(root, path) {
                    let list = list.strip_prefix(root).unwrap_or(&list).display();
                    found.reason += &format!("; {list} names other classes and is not used");
                }
                return Ok(Some(found));
            }
            if has_extension(path, "data") {
                return Self::of_darknet(root, path);
            }
            return Ok(None);
        }
        let folder = Folder::of(path);
        if let Some((yaml, described, others)) = chosen_yaml(path, &folder)? {
            let mut found = Self::described(path, &yaml, described)?;
            found.check_names(path, &yaml)?;
            if !others.is_empty() {
                found.reason += &format!("; not used: {}", others.join(", "));
            }
            return Ok(Some(found));
        }
        for file in folder.files_with("data") {
            if let Some(found) = Self::of_darknet(path, &file)? {
                return Ok(Some(found));
            }
        }
        Self::by_names(path, &folder)
    }

    /// Describes a directory with a list of class names.
    fn by_names(root: &Path, folder: &Folder) -> Result<Option<Self>, DataError> {
        let splits = Self::usual_splits(root, folder);
        if splits.is_empty() {
            return Ok(None);
        }
        let beside = splits.iter().flat_map(|(_, places)| places).cloned();
        let labels = folder.directory(&["labels"]);
        let directories = [root.to_owned()]
            .into_iter()
            .chain(labels.clone())
            .chain(beside);
        let mut lists = directories.flat_map(|directory| {
            let names = NAME_LISTS.iter().chain(&["predefined_classes.txt"]);
            names.map(|list| directory.join(list)).collect::<Vec<_>>()
        });
        if let Some(list) = lists.find(|path| path.is_file()) {
            let ClassList { names, is_numbered } = ClassList::read(&list)?;
            let shown = list.strip_prefix(root).unwrap_or(&list).display();
            let found = Self {
                root: root.to_owned(),
                names,
                key_points: None,
                reason: format!("{shown}{}", without_numbers(is_numbered)),
                splits,
            };
            found.check_names(root, &list)?;
            return Ok(Some(found));
        }
        // A file of numbers that is named after an image is a label file.
        let root = root.to_owned();
        match first_label(&root, labels.as_deref(), &splits) {
            Some(labels) => Err(LayoutError::NoClassNames { root, labels }.into()),
            None => Ok(None),
        }
    }

    /// Reads darknet's description of a dataset: `names` and the list of each split, in any capitals. None
    /// if the file has none of its keys.
    fn of_darknet(root: &Path, path: &Path) -> Result<Option<Self>, DataError> {
        let text = read_text(path)?;
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        let pairs: Vec<(String, &str)> = pairs
            .map(|(key, value)| (key.trim().to_lowercase(), value.trim()))
            .collect();
        let value = |is_meant: &dyn Fn(&str) -> bool| {
            let found = pairs.iter().find(|(key, _)| is_meant(key))?;
            Some((found.0.as_str(), found.1))
        };
        let of_split = |split| value(&move |key| Split::of_name(key) == Some(split));
        let names = value(&|key| key == "names");
        let train = of_split(Split::Train);
        let (Some((_, names)), Some((train_key, train))) = (names, train) else {
            if names.is_none() && train.is_none() {
                return Ok(None);
            }
            let missing = if names.is_none() { "names" } else { "train" };
            let problem =
                format!("no `{missing}`; darknet's description needs `names` and `train`");
            return Err(DataError::labels(path, problem));
        };
        let find = |key: &str, entry: &str| {
            found_below(root, entry, 1).ok_or_else(|| {
                let problem = format!("`{key}` is `{entry}`, which does not exist");
                DataError::labels(path, problem)
            })
        };
        let list = find("names", names)?;
        let ClassList { names, is_numbered } = ClassList::read(&list)?;
        if let Some((_, count)) = value(&|key| key == "classes")
            && count.parse() != Ok(names.len())
        {
            let problem = format!(
                "`classes` is {count}, but `names` has {} entries",
                names.len()
            );
            return Err(DataError::labels(path, problem));
        }
        let mut reason = path.file_name().unwrap_or_default().display().to_string();
        reason += without_numbers(is_numbered);
        let mut splits = vec![(Split::Train, vec![find(train_key, train)?])];
        for split in [Split::Val, Split::Test] {
            let Some((key, entry)) = of_split(split).filter(|(_, entry)| *entry != train) else {
                continue;
            };
            match found_below(root, entry, 1) {
                Some(place) => splits.push((split, vec![place])),
                // CVAT names the list of a subset that it does not write.
                None => reason += &format!("; its `{key}` ({entry}) is missing"),
            }
        }
        let found = Self {
            root: root.to_owned(),
            names,
            key_points: None,
            splits,
            reason,
        };
        found.check_names(root, &list)?;
        Ok(Some(found))
    }

    /// Checks that no other list of class names in a directory contradicts the names, which are those of `chosen`.
    fn check_names(&self, root: &Path, chosen: &Path) -> Result<(), DataError> {
        match self.other_names(root, chosen) {
            None => Ok(()),
            Some((_, problem)) => Err(DataError::contradiction(chosen, problem)),
        }
    }

    /// Returns a list of class names in a directory, other than `chosen`, that names a class differently, and the
    /// difference. A list with more classes is no contradiction.
    fn other_names(&self, root: &Path, chosen: &Path) -> Option<(PathBuf, String)> {
        let places = self.splits.iter().flat_map(|(_, places)| places);
        let labels = places
            .clone()
            .filter_map(|place| Folder::of(place.parent()?).directory(&["labels"]));
        let below = Folder::of(root).directory(&["labels"]);
        let of_splits = below.iter().flat_map(|labels| {
            let folder = Folder::of(labels);
            Split::ALL.map(|split| folder.split_directory(split))
        });
        let directories: BTreeSet<PathBuf> = [root.to_owned()]
            .into_iter()
            .chain(of_splits.flatten())
            .chain(below.clone())
            .chain(labels)
            .chain(places.cloned())
            .collect();
        let lists = directories
            .iter()
            .flat_map(|directory| NAME_LISTS.map(|list| directory.join(list)));
        let mut lists = lists.filter(|list| list != chosen && list.is_file());
        lists.find_map(|list| {
            // A list that cannot be read is not used, and contradicts nothing.
            let names = ClassList::read(&list).ok()?.names;
            let mut pairs = (0..).zip(self.names.iter().zip(&names));
            let (class, (name, other)) =
                pairs.find(|(_, (name, other))| name.to_lowercase() != other.to_lowercase())?;
            let problem = format!(
                "class {class} is `{}`, but `{}` in {}",
                printable(name),
                printable(other),
                list.display()
            );
            Some((list, problem))
        })
    }

    /// Describes a recognized directory.
    fn expect(root: &Path) -> Result<Self, DataError> {
        Self::find(root)?.ok_or_else(|| {
            let format = &YoloFormat;
            let root = root.to_owned();
            LayoutError::NotInFormat { root, format }.into()
        })
    }

    fn described(root: &Path, yaml: &Path, described: DataYaml) -> Result<Self, DataError> {
        let base = root.join(described.path.as_deref().unwrap_or_default());
        let mut reason = yaml.file_name().unwrap_or_default().display().to_string();
        let mut splits = Vec::new();
        for (split, entries) in described.splits {
            let mut places = Vec::new();
            for entry in &entries {
                let entry = entry.replace('\\', "/");
                // Such files are moved; Roboflow's paths begin with a ../ that leads nowhere.
                let inside = entry.trim_start_matches("../").trim_start_matches("./");
                let tried = [base.join(&entry), root.join(&entry), root.join(inside)];
                // A single directory such as `images` could be that of another split.
                let moved = || found_below(root, &entry, 2);
                let found = tried
                    .iter()
                    .find(|path| path.exists())
                    .cloned()
                    .or_else(moved);
                match found {
                    // Without the `.` of `path: .`, which every message would show.
                    Some(found) => places.push(found.components().collect()),
                    // Exporters describe splits that they do not write.
                    None if split != Split::Train => {
                        reason += &format!("; its `{split}` ({entry}) is missing");
                    }
                    None => {
                        let missing = tried[0].display();
                        let problem = format!("`{split}` is `{entry}`, but {missing} is missing");
                        return Err(DataError::labels(yaml, problem));
                    }
                }
            }
            if !places.is_empty() {
                splits.push((split, places));
            }
        }
        for (key, entries) in &described.others {
            let places = entries.iter().map(|entry| entry.replace('\\', "/"));
            // A name may be that of a file, but only these hold images.
            let holds_images = |path: &Path| path.is_dir() || has_extension(path, "txt");
            let mut places = places.filter(|entry| !entry.is_empty() && entry != ".");
            let place = places.find(|entry| {
                let tried = [base.join(entry), root.join(entry)];
                tried.iter().any(|path| path.exists() && holds_images(path))
            });
            if let Some(place) = place {
                reason += &format!("; its `{key}` ({place}) is not used");
            }
        }
        if splits.is_empty() {
            splits = Self::usual_splits(root, &Folder::of(root));
        }
        if splits.is_empty() {
            let problem = "no images; `train` and `val` should be directories or lists of images";
            return Err(DataError::labels(yaml, problem));
        }
        let is_below = splits
            .iter()
            .flat_map(|(_, places)| places)
            .all(|p| p.starts_with(root));
        Ok(Self {
            root: if is_below { root.to_owned() } else { base },
            names: described.names,
            key_points: described.key_points,
            splits,
            reason,
        })
    }

    /// Finds the images of each split without a description; names are read in any capitals.
    fn usual_splits(root: &Path, folder: &Folder) -> Vec<(Split, Vec<PathBuf>)> {
        let images = folder.directory(&["images", "imgs", "JPEGImages"]);
        let in_images = images.as_ref().map(|path| Folder::of(path));
        let mut splits = Vec::new();
        for split in Split::ALL {
            let own = folder.split_directory(split);
            let inner = own
                .as_ref()
                .and_then(|path| Folder::of(path).directory(&["images"]));
            let list = split
                .names()
                .iter()
                .map(|name| root.join(format!("{name}.txt")));
            let found = in_images
                .as_ref()
                .and_then(|images| images.split_directory(split))
                .or(inner)
                .or_else(|| list.into_iter().find(|path| path.is_file()))
                .or_else(|| own.filter(|path| holds_images_directly(path)));
            splits.extend(found.map(|path| (split, vec![path])));
        }
        if splits.is_empty() {
            let list = root.join("images.txt");
            let places = [
                images,
                list.is_file().then_some(list),
                folder.directory(&["obj_train_data"]),
                folder.directory(&["data"]),
                Some(root.to_owned()),
            ];
            let mut places = places.into_iter().flatten();
            let place = places.find(|path| path.is_file() || holds_images_directly(path));
            splits.extend(place.map(|path| (Split::Train, vec![path])));
        }
        splits
    }
}

fn is_yaml(path: &Path) -> bool {
    has_extension(path, "yaml") || has_extension(path, "yml")
}

/// A `data.yaml` that describes a dataset, and the names of others that do.
type ChosenYaml = (PathBuf, DataYaml, Vec<String>);

/// Returns the YAML file that describes a directory: `data.yaml` or `dataset.yaml` if there are several.
fn chosen_yaml(root: &Path, folder: &Folder) -> Result<Option<ChosenYaml>, DataError> {
    let rank = |path: &Path| {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        ["data", "dataset"]
            .iter()
            .position(|name| stem == *name)
            .unwrap_or(2)
    };
    let files = folder.files_with("yaml").chain(folder.files_with("yml"));
    let mut files: Vec<(usize, PathBuf)> = files.map(|path| (rank(&path), path)).collect();
    files.sort();
    let mut described = Vec::new();
    for (rank, path) in files {
        match DataYaml::parse(&read_text(&path)?, &path) {
            Ok(Some(yaml)) => described.push((rank, path, yaml)),
            Ok(None) => {}
            // The error of another file does not matter beside a `data.yaml`.
            Err(_) if described.first().is_some_and(|(first, ..)| *first < rank) => {}
            Err(error) => return Err(error),
        }
    }
    let mut described = described.into_iter();
    let Some((rank, path, yaml)) = described.next() else {
        return Ok(None);
    };
    let name = |path: &Path| path.file_name().unwrap_or_default().display().to_string();
    let mut others = Vec::new();
    for (other_rank, other, _) in described {
        if other_rank == rank {
            let found = format!("{}, {}", name(&path), name(&other));
            let problem = format!("several files describe a dataset ({found}); give one of them");
            return Err(DataError::labels(root, problem));
        }
        others.push(name(&other));
    }
    Ok(Some((path, yaml, others)))
}

/// Returns an existing path below a directory that has at least `parts` parts in common with the end of `entry`:
/// darknet's paths are relative to the directory that it runs in.
fn found_below(root: &Path, entry: &str, parts: usize) -> Option<PathBuf> {
    let entry = entry.replace('\\', "/");
    let all: Vec<&str> = entry
        .split('/')
        .filter(|part| !matches!(*part, "" | "." | ".."))
        .collect();
    let starts = 0..(all.len() + 1).checked_sub(parts)?;
    let mut paths = starts.map(|start| root.join(all[start..].join("/")));
    paths.find(|path| path.exists())
}

/// The files that list the class names of a dataset; the last is Roboflow's.
const NAME_LISTS: [&str; 4] = ["classes.txt", "obj.names", "class.names", "_darknet.labels"];

/// A list of class names.
#[derive(Debug, PartialEq)]
struct ClassList {
    names: Vec<String>,
    /// Whether each line begins with the number of its class, which is no part of the name.
    is_numbered: bool,
}

impl ClassList {
    /// Reads a list of class names.
    ///
    /// # Errors
    /// See [`class_names`]; the lines begin with other numbers than those of their classes.
    fn read(path: &Path) -> Result<Self, DataError> {
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

/// Splits `0 cat`, `0: cat` or `0, cat` into the number and the name; None for any other line. The second value is
/// whether there is more than a space between them.
fn numbered_name(line: &str) -> Option<(usize, bool, &str)> {
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
fn without_numbers(is_numbered: bool) -> &'static str {
    if is_numbered {
        " without the numbers before the class names"
    } else {
        ""
    }
}

/// Returns the lines of a list of class names. Their numbers are those of the lines, so that none may be empty.
fn class_names(path: &Path) -> Result<Vec<String>, DataError> {
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

/// Returns a file that looks like the labels of an image: named after it, with lines of numbers.
fn first_label(
    root: &Path,
    labels: Option<&Path>,
    splits: &[(Split, Vec<PathBuf>)],
) -> Option<PathBuf> {
    /// The first files of each directory are looked at.
    const TRIED: usize = 20;
    let is_label = |path: &PathBuf| looks_like_labels(&read_text(path).unwrap_or_default());
    if let Some(labels) = labels {
        let files = files_with_extension(labels, "txt").unwrap_or_default();
        let files = files
            .iter()
            .take(TRIED)
            .map(|found| labels.join(found.path()));
        if let Some(found) = files.into_iter().find(is_label) {
            return Some(found);
        }
    }
    let places = splits.iter().flat_map(|(_, places)| places);
    let places = places
        .map(PathBuf::as_path)
        .chain([root])
        .filter(|path| path.is_dir());
    places.into_iter().find_map(|place| {
        let folder = Folder::of(place);
        let images = folder.images().take(TRIED);
        let mut labels = images.map(|name| place.join(name).with_extension("txt"));
        labels.find(is_label)
    })
}

/// Returns whether the first line of a text is that of a box or an outline.
fn looks_like_labels(text: &str) -> bool {
    let line = text.lines().find(|line| !line.trim().is_empty());
    let words = line.unwrap_or_default().split_whitespace();
    let numbers: Option<Vec<f64>> = words.map(|word| word.parse().ok()).collect();
    numbers.is_some_and(|numbers| numbers.len() >= 5)
}

/// Lists the images of a split, sorted, each once.
fn images_of(root: &Path, files: &SplitFiles) -> Result<Vec<PathBuf>, DataError> {
    let mut images = Vec::new();
    for place in &files.image_directories {
        if place.is_dir() {
            let found = images_within(place)?.into_iter();
            images.extend(found.map(|found| place.join(found.path())));
        } else {
            let directory = place.parent().unwrap_or(Path::new(""));
            let listed = lines(&read_text(place)?);
            images.extend(listed.iter().map(|line| {
                let line = line.replace('\\', "/");
                let beside = directory.join(&line);
                let found = if beside.is_file() {
                    Some(beside)
                } else {
                    found_below(root, &line, 1)
                };
                // The loader names the missing image.
                found.unwrap_or_else(|| root.join(line))
            }));
        }
    }
    images.sort();
    images.dedup();
    if images.is_empty() {
        let places = files.image_directories.iter();
        let places = join(places.map(|place| place.display()));
        let problem = format!("no images in the {} split ({places})", files.split);
        return Err(DataError::labels(root, problem));
    }
    Ok(images)
}

/// Collects the labels of some splits and the sizes of their images.
fn collect(files: &DatasetFiles, wanted: &[Split]) -> Result<Vec<SplitEntries>, DataError> {
    let annotations = match files.splits.first() {
        Some(split) => &split.annotations,
        None => &files.root,
    };
    let directory = YoloDirectory::expect(annotations)?;
    wanted
        .iter()
        .map(|split| collect_split(&directory, files.split(*split)?))
        .collect()
}

fn collect_split(directory: &YoloDirectory, files: &SplitFiles) -> Result<SplitEntries, DataError> {
    let paths = images_of(&directory.root, files)?;
    let image_root = common_directory(&paths);
    let capitals = AnyCapitals::default();
    let place = LabelPlace::of(&directory.root, &paths, &capitals);
    let found_labels = LabelFiles::find(&directory.root, place, &paths, &capitals);
    let classes = directory.names.len();
    let with_labels = paths.par_iter().zip(&found_labels.paths);
    let read: Vec<_> = with_labels
        .map(|(path, label_file)| {
            let found = read_lines(label_file, classes, directory.key_points);
            let contradiction = LabelPlace::contradiction(&directory.root, path, label_file);
            (image_size(path), label_file, found, contradiction)
        })
        .collect();
    let (mut images, mut problems) = (Vec::new(), Vec::new());
    let (mut dropped, mut notes) = (Dropped::default(), Vec::new());
    let mut label_files: HashSet<PathBuf> = HashSet::new();
    let mut image_of: HashMap<&PathBuf, &PathBuf> = HashMap::new();
    for (image, (path, (size, label_file, labels, contradiction))) in
        paths.iter().zip(read).enumerate()
    {
        let mut problem = |error| problems.push(EntryProblem { image, error });
        let within = path.strip_prefix(&image_root).unwrap_or(path);
        if within.to_str().is_none() {
            let advice = "its name is not Unicode (UTF-8); rename it";
            problem(DataError::labels(path, advice));
        }
        let size = size.map_err(|error| problem(error.into())).ok();
        if let Some(error) = contradiction {
            problem(error);
        }
        let mut boxes = Vec::new();
        if let Some(labels) = labels {
            label_files.insert(label_file.clone());
            if let Some(first) = image_of.insert(label_file, path) {
                let (first, second) = (first.display(), path.display());
                let both = format!("the label file of two images, {first} and {second}");
                problem(DataError::contradiction(label_file, both));
            }
            for found in labels {
                match found {
                    Ok(found) => {
                        match found.extra {
                            Extra::None => {}
                            Extra::Outline => {
                                dropped.add("outlines, of which the boxes are kept", "object", 1);
                            }
                            Extra::KeyPoints => dropped.add("key points", "object", 1),
                        }
                        boxes.push(BoxEntry {
                            class: found.class,
                            xywh: size.map(|size| found.xywh(size)),
                        });
                    }
                    Err(error) => problem(error),
                }
            }
        }
        images.push(ImageEntry {
            file_name: within.to_string_lossy().replace('\\', "/"),
            size,
            boxes,
        });
    }
    if label_files.is_empty() {
        let expected = LabelPlace::ALL[0].path(&directory.root, &paths[0]);
        let problem = format!(
            "not one of {} of the {} split has a label file; expected {} or {}",
            count(paths.len(), "image"),
            files.split,
            expected.display(),
            paths[0].with_extension("txt").display()
        );
        let error = DataError::labels(&directory.root, problem);
        problems.insert(0, EntryProblem { image: 0, error });
    } else {
        notes.extend(place.note());
        notes.extend(found_labels.note);
        // Label files beside those of a list, or in one directory of all, may belong to another split.
        let is_of_split = files.image_directories.iter().all(|place| place.is_dir())
            && !matches!(place, LabelPlace::BelowLabels | LabelPlace::InLabels);
        if is_of_split {
            let what = "label files without an image that can be decoded";
            dropped.add(what, "file", orphans(&label_files));
        }
    }
    Ok(SplitEntries {
        image_root,
        categories: directory.names.clone(),
        images,
        problems,
        dropped,
        notes,
    })
}

/// Counts the label files beside those that belong to images.
fn orphans(label_files: &HashSet<PathBuf>) -> usize {
    let directories: BTreeSet<&Path> = label_files
        .iter()
        .filter_map(|path| path.parent())
        .collect();
    let is_label = |path: &PathBuf| {
        const LISTS: [&str; 5] = ["classes", "labels", "train", "val", "test"];
        let stem = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .to_lowercase();
        // The texts that exporters add.
        !LISTS.contains(&stem.as_str()) && !stem.contains("readme") && !stem.contains("license")
    };
    let files = directories.into_iter().flat_map(|directory| {
        let folder = Folder::of(directory);
        let files: Vec<PathBuf> = folder.files_with("txt").collect();
        files
    });
    let others = files.filter(|path| !label_files.contains(path));
    others.filter(is_label).count()
}

/// Where the label file of an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LabelPlace {
    /// In `labels` in the place of the last directory of images.
    ForLastImages,
    /// In `labels` in the place of the first directory of images.
    ForFirstImages,
    /// Beside the image.
    Beside,
    /// Below `labels`, at the path of the image.
    BelowLabels,
    /// Directly in `labels`.
    InLabels,
}

impl LabelPlace {
    const ALL: [Self; 5] = [
        Self::ForLastImages,
        Self::ForFirstImages,
        Self::Beside,
        Self::BelowLabels,
        Self::InLabels,
    ];

    /// Returns the place where most of the images have a label file; the first on ties. Names in other capitals
    /// count if there are no others.
    fn of(root: &Path, images: &[PathBuf], capitals: &AnyCapitals) -> Self {
        /// A sample is enough unless it has no label file at all.
        const SAMPLE: usize = 200;
        type IsLabel<'a> = &'a (dyn Fn(&Path, &Path) -> bool + Sync);
        let is_exact = |_: &Path, path: &Path| path.is_file();
        let is_in_any_capitals =
            |image: &Path, path: &Path| in_any_capitals(root, image, path, capitals).is_some();
        let best = |images: &[&PathBuf], is_label: IsLabel| {
            let count = |place: Self| {
                let images = images.par_iter();
                let labels = images.filter(|image| is_label(image, &place.path(root, image)));
                labels.count()
            };
            let counted = Self::ALL.map(|place| (count(place), place));
            let most = counted.iter().map(|(count, _)| *count).max().unwrap_or(0);
            counted.into_iter().find(|(count, _)| *count == most)
        };
        let step = images.len().div_ceil(SAMPLE).max(1);
        let sample: Vec<&PathBuf> = images.iter().step_by(step).collect();
        if let Some((1.., place)) = best(&sample, &is_exact) {
            return place;
        }
        let all: Vec<&PathBuf> = images.iter().collect();
        match best(&all, &is_exact) {
            Some((1.., place)) => place,
            _ => best(&all, &is_in_any_capitals).map_or(Self::ForLastImages, |(_, place)| place),
        }
    }

    /// Returns the error about a label file of an image that is in another place, and differs from `chosen`, which
    /// need not exist.
    fn contradiction(root: &Path, image: &Path, chosen: &Path) -> Option<DataError> {
        let others = Self::ALL.iter().map(|place| place.path(root, image));
        let mut others = others.filter(|other| other != chosen && other.is_file());
        others.find_map(|other| {
            let text = read_text(&other).ok()?;
            if !looks_like_labels(&text) {
                return None;
            }
            if !chosen.is_file() {
                let problem = format!(
                    "the label file of {}, but {} is missing, where those of most images are",
                    image.display(),
                    chosen.display()
                );
                return Some(DataError::contradiction(&other, problem));
            }
            // One that cannot be read is a problem of its own.
            let is_same = lines(&read_text(chosen).ok()?) == lines(&text);
            let problem = format!("the same image has other boxes in {}", other.display());
            (!is_same).then(|| DataError::contradiction(chosen, problem))
        })
    }

    /// Returns the path of the label file of an image. Only directories within the dataset count: a
    /// dataset may be below a directory `images`.
    fn path(self, root: &Path, image: &Path) -> PathBuf {
        let (root, within) = match image.strip_prefix(root) {
            Ok(within) => (root, within),
            Err(_) => (Path::new(""), image),
        };
        let mut parts: Vec<_> = within.components().collect();
        let directories = parts.len().saturating_sub(1);
        let is_images = |part: &Component| {
            let name = part.as_os_str().to_string_lossy().to_lowercase();
            ["images", "jpegimages", "imgs"].contains(&name.as_str())
        };
        let mut directories = parts[..directories].iter();
        let labels: &std::ffi::OsStr = "labels".as_ref();
        let found = match self {
            Self::ForLastImages => directories.rposition(is_images),
            Self::ForFirstImages => directories.position(is_images),
            Self::Beside => None,
            Self::BelowLabels => {
                return root.join("labels").join(within).with_extension("txt");
            }
            Self::InLabels => {
                let name = within.file_name().unwrap_or_default();
                return root.join("labels").join(name).with_extension("txt");
            }
        };
        if let Some(at) = found {
            parts[at] = Component::Normal(labels);
        }
        root.join(parts.iter().collect::<PathBuf>())
            .with_extension("txt")
    }

    /// Describes a place that other programs would not look in; None for the usual one.
    fn note(self) -> Option<String> {
        let place = match self {
            Self::ForLastImages => return None,
            Self::ForFirstImages => "in labels/ for the first directory images/",
            Self::Beside => "beside the images",
            Self::BelowLabels | Self::InLabels => "below labels/",
        };
        Some(format!("label files were found {place}"))
    }
}

/// The label files of images.
struct LabelFiles {
    /// The file of each image; where there is none, the path where it was expected.
    paths: Vec<PathBuf>,
    /// The number of files whose names differ from those of their images in capitals, with an example.
    note: Option<String>,
}

impl LabelFiles {
    /// Finds the label files in a place. A file in other capitals is used if it is not that of another image.
    fn find(root: &Path, place: LabelPlace, images: &[PathBuf], capitals: &AnyCapitals) -> Self {
        let found: Vec<(PathBuf, Option<PathBuf>)> = images
            .par_iter()
            .map(|image| {
                let path = place.path(root, image);
                let other = if path.is_file() {
                    None
                } else {
                    in_any_capitals(root, image, &path, capitals)
                };
                (path, other)
            })
            .collect();
        let exact: HashSet<&PathBuf> = found
            .iter()
            .filter(|(path, other)| other.is_none() && path.is_file())
            .map(|(path, _)| path)
            .collect();
        let is_free = |other: &&PathBuf| !exact.contains(other);
        let (mut number, mut example) = (0, None);
        let mut paths = Vec::new();
        for (image, (path, other)) in images.iter().zip(&found) {
            let other = other.as_ref().filter(is_free);
            if let Some(other) = other {
                number += 1;
                example.get_or_insert((image, other));
            }
            paths.push(other.unwrap_or(path).clone());
        }
        let note = example.map(|(image, other)| {
            format!(
                "{} found by a name in other capitals than that of the image, such as {} for {}",
                count(number, "label file"),
                other.strip_prefix(root).unwrap_or(other).display(),
                image.strip_prefix(root).unwrap_or(image).display()
            )
        });
        Self { paths, note }
    }
}

/// Returns the only label file that differs from the expected path in capitals.
fn in_any_capitals(
    root: &Path,
    image: &Path,
    expected: &Path,
    capitals: &AnyCapitals,
) -> Option<PathBuf> {
    let base = if expected.starts_with(root) {
        root
    } else {
        image.parent()?
    };
    let found = capitals.find(base, expected)?;
    found.is_file().then_some(found)
}

impl YoloBox {
    fn new(class: usize, cxcywh: [f64; 4], extra: Extra) -> Result<Self, String> {
        if cxcywh[2] <= 0.0 || cxcywh[3] <= 0.0 {
            return Err("box without area".into());
        }
        Ok(Self {
            class,
            cxcywh,
            extra,
        })
    }

    /// Returns `[x, y, width, height]` in pixels of an image.
    pub fn xywh(&self, size: ImageSize) -> [f32; 4] {
        let (width, height) = (size.width as f64, size.height as f64);
        let [cx, cy, w, h] = self.cxcywh;
        [
            ((cx - w / 2.0) * width) as f32,
            ((cy - h / 2.0) * height) as f32,
            (w * width) as f32,
            (h * height) as f32,
        ]
    }
}

/// Reads a label file, each line independently; a missing file has no boxes.
pub fn read_labels(path: &Path, classes: usize) -> Vec<Result<YoloBox, DataError>> {
    read_lines(path, classes, None).unwrap_or_default()
}

/// Reads a label file; None if there is none.
fn read_lines(
    path: &Path,
    classes: usize,
    key_points: Option<usize>,
) -> Option<Vec<Result<YoloBox, DataError>>> {
    if !path.exists() {
        return None;
    }
    let text = match read_text(path) {
        Ok(text) => text,
        Err(error) => return Some(vec![Err(error)]),
    };
    let lines = (1..).zip(text.lines());
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    let read = lines.map(|(number, line)| {
        let parsed = match key_points {
            None => parse_line(line, classes),
            Some(values) => parse_pose(line, classes, values),
        };
        parsed.map_err(|problem| DataError::labels(path, format!("line {number}: {problem}")))
    });
    Some(read.collect())
}

/// Parses a line of a label file for a dataset with a number of classes.
///
/// # Errors
/// Too few or too many numbers, no numbers, an unknown class, values outside of the image, a box without
/// area; the string says which.
pub fn parse_line(line: &str, classes: usize) -> Result<YoloBox, String> {
    let numbers = numbers_of(line)?;
    let class = class_of(&numbers, classes)?;
    let values = &numbers[1..];
    let (cxcywh, extra) = match *values {
        [cx, cy, w, h] => ([cx, cy, w, h], Extra::None),
        [_, _, _, _, _] => {
            return Err("6 numbers; a line with a score is a prediction, not a label".into());
        }
        _ if values.len() >= 6 && values.len().is_multiple_of(2) => {
            (box_around(values), Extra::Outline)
        }
        _ => {
            let count = values.len() + 1;
            return Err(format!(
                "{count} numbers; a box has 5 (class cx cy width height)"
            ));
        }
    };
    check_fractions(values)?;
    YoloBox::new(class, cxcywh, extra)
}

/// Parses a line of a box and key points with a number of values.
fn parse_pose(line: &str, classes: usize, key_points: usize) -> Result<YoloBox, String> {
    let numbers = numbers_of(line)?;
    let class = class_of(&numbers, classes)?;
    let (cxcywh, extra) = match numbers[1..] {
        [cx, cy, w, h] => ([cx, cy, w, h], Extra::None),
        [cx, cy, w, h, ..] if numbers.len() == 5 + key_points => ([cx, cy, w, h], Extra::KeyPoints),
        _ => {
            return Err(format!(
                "{} numbers; with `kpt_shape` a box has 5 or {}",
                numbers.len(),
                5 + key_points
            ));
        }
    };
    check_fractions(&cxcywh)?;
    YoloBox::new(class, cxcywh, extra)
}

fn numbers_of(line: &str) -> Result<Vec<f64>, String> {
    let words = line.split_whitespace();
    words
        .map(|word| {
            let number = word.parse::<f64>().ok().filter(|n| n.is_finite());
            number.ok_or_else(|| format!("`{word}` is not a finite number"))
        })
        .collect()
}

fn class_of(numbers: &[f64], classes: usize) -> Result<usize, String> {
    match numbers.first() {
        Some(class) if class.fract() == 0.0 && *class >= 0.0 && *class < classes as f64 => {
            Ok(*class as usize)
        }
        Some(class) => Err(format!(
            "unknown class {class}; the classes are 0 to {}",
            classes as i64 - 1
        )),
        None => Err("it is empty".into()),
    }
}

fn check_fractions(values: &[f64]) -> Result<(), String> {
    /// Upper bound of the error, beyond the image border, of a value rounded to six digits.
    const TOLERANCE: f64 = 1e-4;
    let mut values = values.iter();
    match values.find(|value| !(-TOLERANCE..=1.0 + TOLERANCE).contains(*value)) {
        None => Ok(()),
        Some(outside) => Err(format!(
            "{outside} is not a fraction of the image; divide pixels by its width or height"
        )),
    }
}

fn box_around(points: &[f64]) -> [f64; 4] {
    let range = |first: usize| {
        let values = points.iter().skip(first).step_by(2).copied();
        (
            values.clone().fold(f64::INFINITY, f64::min),
            values.fold(f64::NEG_INFINITY, f64::max),
        )
    };
    let ((left, right), (top, bottom)) = (range(0), range(1));
    [
        (left + right) / 2.0,
        (top + bottom) / 2.0,
        right - left,
        bottom - top,
    ]
}

/// Formats the label file of an image.
fn format_labels(size: ImageSize, boxes: &[PlacedBox]) -> String {
    let (width, height) = (size.width as f64, size.height as f64);
    let mut text = String::new();
    for found in boxes {
        let [x, y, w, h] = found.xywh;
        let values = [
            (x + w / 2.0) / width,
            (y + h / 2.0) / height,
            w / width,
            h / height,
        ];
        text += &found.class.to_string();
        for value in values {
            // Writing to a string does not fail.
            let _ = write!(text, " {}", decimal(value));
        }
        text.push('\n');
    }
    text
}

/// Formats a number with nine decimals, without zeros at the end: exact to a ten-thousandth of a pixel in any
/// image.
fn decimal(value: f64) -> String {
    let text = format!("{value:.9}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Returns the directory that contains all of the given files.
fn common_directory(paths: &[PathBuf]) -> PathBuf {
    let mut common = paths
        .first()
        .and_then(|path| path.parent())
        .unwrap_or(Path::new(""));
    for path in paths {
        while !path.starts_with(common) {
            match common.parent() {
                Some(parent) => common = parent,
                None => return PathBuf::new(),
            }
        }
    }
    common.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::decode::has_image_extension;
    use proptest::prelude::*;

    #[test]
    fn a_description_of_darknet_is_read_in_any_capitals_and_never_passed_over_in_silence() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let put = |name: &str, text: &str| std::fs::write(root.join(name), text).unwrap();
        put("obj.names", "cat\n");
        put("train.txt", "a.png\n");
        put("valid.txt", "b.png\n");
        image::RgbImage::new(4, 4).save(root.join("a.png")).unwrap();
        for (keys, splits, reason) in [
            (
                "Train=train.txt\nValidation = valid.txt\nNames=obj.names\n",
                &[Split::Train, Split::Val][..],
                "obj.data",
            ),
            (
                "train=train.txt\nval=gone.txt\nnames=obj.names\n",
                &[Split::Train],
                "obj.data; its `val` (gone.txt) is missing",
            ),
        ] {
            put("obj.data", keys);
            let found = YoloDirectory::expect(root).unwrap();
            let names: Vec<Split> = found.splits.iter().map(|(split, _)| *split).collect();
            assert_eq!((names.as_slice(), found.reason.as_str()), (splits, reason));
        }
        put("obj.data", "classes=1\ntrain=train.txt\n");
        let message = YoloDirectory::expect(root).unwrap_err().to_string();
        assert!(message.contains("obj.data: no `names`"), "{message}");
    }

    #[test]
    fn other_keys_of_a_data_yaml_that_lead_to_images_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for split in ["train", "valid", "holdout"] {
            std::fs::create_dir_all(root.join("images").join(split)).unwrap();
        }
        let yaml = "train: images/train\nValid: images/valid\nholdout: images/holdout\n\
            author: someone\nnames: [cat]\n";
        std::fs::write(root.join("data.yaml"), yaml).unwrap();
        let found = YoloDirectory::expect(root).unwrap();
        let names: Vec<Split> = found.splits.iter().map(|(split, _)| *split).collect();
        assert_eq!(names, [Split::Train, Split::Val]);
        assert_eq!(
            found.reason,
            "data.yaml; its `holdout` (images/holdout) is not used"
        );
    }

    #[test]
    fn wrong_lines_say_what_is_wrong() {
        for (line, says) in [
            ("0 0.5 0.5 0.1", "4 numbers; a box has 5"),
            ("0 0.5 0.5 0.1 0.1 0.9", "prediction"),
            (
                "3 0.5 0.5 0.1 0.1",
                "unknown class 3; the classes are 0 to 2",
            ),
            ("-1 0.5 0.5 0.1 0.1", "class -1"),
            ("0 320 240 50 50", "320 is not a fraction"),
            ("0 0.5 nan 0.1 0.1", "`nan` is not a finite number"),
            ("0 0.5 0.5 0 0.1", "without area"),
            ("cat 0.5 0.5 0.1 0.1", "`cat` is not a finite number"),
        ] {
            let problem = parse_line(line, 3).unwrap_err();
            assert!(problem.contains(says), "{line}: {problem}");
        }
        let outline = parse_line("1 0.1 0.2 0.5 0.2 0.3 0.6", 3).unwrap();
        assert_eq!(outline.extra, Extra::Outline);
        for (found, expected) in outline.cxcywh.iter().zip([0.3, 0.4, 0.4, 0.4]) {
            assert!((found - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn a_class_without_a_name_is_an_error_and_not_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("classes.txt");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            class_names(&path).map_err(|error| error.to_string())
        };
        assert_eq!(read("cat\r\ndog \n\n").unwrap(), ["cat", "dog"]);
        assert!(
            read("cat\n\ndog\n")
                .unwrap_err()
                .contains("line 2 is empty")
        );
        assert!(read("\n").unwrap_err().contains("no class names"));
        assert!(read("").unwrap_err().contains("no class names"));
    }

    #[test]
    fn numbers_before_class_names_are_no_part_of_them_and_have_to_be_right() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("classes.txt");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let list = ClassList::read(&path).map_err(|error| error.to_string())?;
            Ok::<_, String>((list.names, list.is_numbered))
        };
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        for text in [
            "0 cat\n1 traffic light\n",
            "0: cat\n1:traffic light\n",
            "0, cat\n1, traffic light",
            "0\tcat\n1\ttraffic light\n",
            "0. cat\n1. traffic light\n",
        ] {
            let expected = (names(&["cat", "traffic light"]), true);
            assert_eq!(read(text).unwrap(), expected, "{text}");
        }
        for plain in [
            &["1 euro", "2 euro"][..],
            &["10 cent", "20 cent", "1 euro"],
            &["cat", "0 dog"],
            &["3d printer", "7-up", "100"],
        ] {
            let expected = (names(plain), false);
            assert_eq!(read(&plain.join("\n")).unwrap(), expected);
        }
        for wrong in ["1: cat\n2: dog\n", "1 cat\n0 dog\n", "0: cat\n2: dog\n"] {
            let message = read(wrong).unwrap_err();
            assert!(message.contains("counted from 0"), "{wrong}: {message}");
        }
    }

    /// Writes images and other files.
    fn put_all(root: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            if has_image_extension(&path) {
                // The format is that of the content.
                image::RgbImage::new(8, 8)
                    .save_with_format(&path, image::ImageFormat::Png)
                    .unwrap();
            } else {
                std::fs::write(path, text).unwrap();
            }
        }
    }

    fn read_train(root: &Path) -> Result<crate::annotations::format::SplitAnnotations, String> {
        let read = DatasetFiles::find(root).and_then(|files| files.read());
        let read = read.map_err(|error| error.to_string())?;
        Ok(read.splits.into_iter().next().unwrap())
    }

    #[test]
    fn lists_with_other_class_names_are_an_error_unless_one_is_given() {
        for (chosen, other) in [
            ("data.yaml", "classes.txt"),
            ("data.yaml", "labels/classes.txt"),
            ("data.yaml", "labels/train/classes.txt"),
            ("obj.data", "classes.txt"),
            ("classes.txt", "labels/classes.txt"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path();
            put_all(
                root,
                &[
                    ("images/train/a.png", ""),
                    ("labels/train/a.txt", "0 0.5 0.5 0.1 0.1\n"),
                    ("train.txt", "images/train/a.png\n"),
                ],
            );
            match chosen {
                "data.yaml" => put_all(
                    root,
                    &[(chosen, "train: images/train\nnames: [cat, dog]\n")],
                ),
                "obj.data" => put_all(
                    root,
                    &[
                        (chosen, "train=train.txt\nnames=obj.names\n"),
                        ("obj.names", "cat\ndog\n"),
                    ],
                ),
                _ => put_all(root, &[(chosen, "cat\ndog\n")]),
            }
            for same in ["cat\ndog\n", "Cat\ndog\nowl\n", "0: cat\n"] {
                put_all(root, &[(other, same)]);
                assert!(read_train(root).is_ok(), "{chosen}, {other}: {same}");
            }
            put_all(root, &[(other, "cat\nowl\n")]);
            let message = read_train(root).unwrap_err();
            let expected = format!(
                "class 1 is `dog`, but `owl` in {}",
                root.join(other).display()
            );
            assert!(message.ends_with(&expected), "{message}");
            if chosen == "data.yaml" {
                let found = DatasetFiles::find(&root.join(chosen)).unwrap();
                let expected = format!("{other} names other classes and is not used");
                assert!(found.reason.ends_with(&expected), "{}", found.reason);
            }
        }
    }

    #[test]
    fn label_files_that_contradict_each_other_are_errors_that_name_them() {
        let label = "0 0.5 0.5 0.25 0.25\n";
        let base: &[(&str, &str)] = &[
            ("classes.txt", "cat\n"),
            ("images/a.png", ""),
            ("labels/a.txt", label),
            ("images/b.png", ""),
            ("labels/b.txt", label),
        ];
        for (more, expected) in [
            (&[("images/a.txt", "0 0.5 0.5 0.25 0.25")][..], None),
            (&[("images/a.txt", "a cat on a mat")], None),
            (
                &[("images/a.txt", "0 0.5 0.5 0.5 0.5\n")],
                Some((
                    "labels/a.txt: the same image has other boxes in",
                    "images/a.txt",
                )),
            ),
            (
                &[("images/c.png", ""), ("images/c.txt", label)],
                Some(("images/c.txt: the label file of", "labels/c.txt is missing")),
            ),
            (
                &[("images/a.jpg", "")],
                Some(("labels/a.txt: the label file of two images", "images/a.png")),
            ),
            (&[("images/c.png", ""), ("images/c.jpg", "")], None),
        ] {
            let dir = tempfile::tempdir().unwrap();
            put_all(dir.path(), base);
            put_all(dir.path(), more);
            match (read_train(dir.path()), expected) {
                (Ok(_), None) => {}
                (Err(message), Some((says, names))) => {
                    assert!(message.contains(says), "{message}");
                    assert!(message.contains(names), "{message}");
                }
                (read, _) => panic!("{more:?}: {read:?}"),
            }
        }
    }

    #[test]
    fn label_files_in_other_capitals_are_found_and_counted() {
        let label = "0 0.5 0.5 0.25 0.25\n";
        for (files, note) in [
            (
                &[
                    ("images/IMG1.JPG", ""),
                    ("images/IMG2.JPG", ""),
                    ("labels/img1.txt", label),
                    ("labels/img2.txt", label),
                ][..],
                "2 label files found by a name in other capitals than that of the image, such as \
                 labels/img1.txt for images/IMG1.JPG",
            ),
            (
                &[
                    ("Images/a.png", ""),
                    ("Images/b.png", ""),
                    ("Labels/a.txt", label),
                    ("Labels/B.TXT", label),
                ],
                "2 label files found by",
            ),
            (
                &[
                    ("images/a.png", ""),
                    ("images/b.png", ""),
                    ("labels/a.txt", label),
                    ("labels/B.txt", label),
                ],
                "1 label file found by",
            ),
        ] {
            let dir = tempfile::tempdir().unwrap();
            put_all(dir.path(), &[("classes.txt", "cat\n")]);
            put_all(dir.path(), files);
            let read = read_train(dir.path()).unwrap();
            assert_eq!(read.store.annotation_count(), 2, "{files:?}");
            let notes = &read.notes;
            assert!(notes.iter().any(|line| line.starts_with(note)), "{notes:?}");
        }
        // The file of another image is not taken.
        let dir = tempfile::tempdir().unwrap();
        put_all(
            dir.path(),
            &[
                ("classes.txt", "cat\n"),
                ("images/a.png", ""),
                ("images/A.png", ""),
                ("labels/a.txt", label),
            ],
        );
        let read = read_train(dir.path()).unwrap();
        assert_eq!((read.store.annotation_count(), read.notes.len()), (1, 0));
    }

    #[test]
    fn paths_of_another_machine_are_found_by_their_end() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("train/images")).unwrap();
        std::fs::create_dir(dir.path().join("images")).unwrap();
        let find = |entry, parts| found_below(dir.path(), entry, parts);
        let found = Some(dir.path().join("train/images"));
        assert_eq!(find("/content/cats/train/images", 2), found);
        assert_eq!(find("..\\train\\images", 2), found);
        assert_eq!(find("/content/cats/valid/images", 2), None);
        assert_eq!(find("valid/images", 1), Some(dir.path().join("images")));
        assert_eq!(find("", 1), None);
    }

    #[test]
    fn key_points_are_no_outline() {
        let values = "0.5 0.5 0.2 0.4 0.3 0.3 2 0.6 0.7 1";
        let pose = parse_pose(&format!("1 {values}"), 2, 6).unwrap();
        assert_eq!(
            (pose.cxcywh, pose.extra),
            ([0.5, 0.5, 0.2, 0.4], Extra::KeyPoints)
        );
        let plain = parse_pose("1 0.5 0.5 0.2 0.4", 2, 6).unwrap();
        assert_eq!(plain.extra, Extra::None);
        let problem = parse_pose(&format!("1 {values}"), 2, 9).unwrap_err();
        assert!(problem.contains("a box has 5 or 14"), "{problem}");
    }

    #[test]
    fn labels_are_found_where_the_usual_programs_put_them() {
        use LabelPlace::*;
        for (place, image, labels) in [
            (ForLastImages, "images/train/a.jpg", "labels/train/a.txt"),
            (
                ForLastImages,
                "images/x/images/a.b.png",
                "images/x/labels/a.b.txt",
            ),
            (ForLastImages, "JPEGImages/a.jpg", "labels/a.txt"),
            (
                ForFirstImages,
                "images/x/images/a.png",
                "labels/x/images/a.txt",
            ),
            (Beside, "images/a.jpg", "images/a.txt"),
            (ForLastImages, "train/a.jpg", "train/a.txt"),
            (BelowLabels, "train/a.jpg", "labels/train/a.txt"),
            (InLabels, "images/train/a.jpg", "labels/a.txt"),
        ] {
            // The directory `images` above the dataset is not part of it.
            let root = Path::new("images/d");
            let found = place.path(root, &root.join(image));
            assert_eq!(found, root.join(labels), "{place:?} {image}");
        }
    }

    proptest! {
        #[test]
        fn label_lines_of_any_kind_never_panic(line in ".{0,60}", classes in 0usize..4) {
            let _ = parse_line(&line, classes);
            let _ = looks_like_labels(&line);
        }

        #[test]
        fn class_lists_of_any_kind_have_a_name_for_each_line_or_an_error(
            text in "([0-9]{0,2}[:., \t]{0,2}[a-z ]{0,4}\n){0,5}",
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("classes.txt");
            std::fs::write(&path, &text).unwrap();
            if let Ok(list) = ClassList::read(&path) {
                prop_assert_eq!(list.names.len(), text.trim_end().lines().count());
                prop_assert!(list.names.iter().all(|name| !name.is_empty()));
            }
        }

        #[test]
        fn written_boxes_are_read_back_to_a_thousandth_of_a_pixel(
            (width, height) in (1usize..5000, 1usize..5000),
            fractions in proptest::array::uniform4(0.0f64..1.0),
        ) {
            let size = ImageSize::new(height, width);
            let [a, b, c, d] = fractions;
            let (x, y) = (a * width as f64, b * height as f64);
            let (w, h) = (c * (width as f64 - x), d * (height as f64 - y));
            prop_assume!(w > 0.01 && h > 0.01);
            let xywh = [x, y, w, h].map(|v| v as f32);
            let stored = StoredBox { xywh: xywh.map(f64::from), size, is_crowd: false };
            let stored = YoloFormat.stored_box(&stored).unwrap();
            let text = format_labels(size, &[PlacedBox { class: 0, xywh: stored }]);
            let read = parse_line(text.trim(), 1).unwrap().xywh(size);
            for (read, written) in read.iter().zip(xywh) {
                prop_assert!((read - written).abs() < 1e-3, "{:?} {:?}", read, xywh);
            }
        }
    }
}
