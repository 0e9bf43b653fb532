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
use std::fmt::{self, Write as _};
use std::path::{Component, Display, Path, PathBuf};

use rayon::prelude::*;

use crate::DataError;
use crate::annotations::copies::are_same_but_for_rounding;
use crate::annotations::file_names::{
    AnyCapitals, FileMatch, file_names, found_in_other_capitals, several_files,
};
use crate::annotations::format::{
    AnnotationFormat, BoxEntry, DatasetFiles, Dropped, EntryProblem, FoundSplits, ImageEntry,
    Output, PlacedBox, PlacedSplit, Reader, SplitEntries, StoredBox, without_extension,
};
use crate::annotations::image_files::{
    Folder, files_with_extension, has_extension, holds_images_directly, images_within,
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
                let text = format_labels(store.image(index).size, boxes);
                output.file(&label_path(path), &text)?;
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
    /// The file that lists the class names.
    names_file: PathBuf,
    /// The number of values of the key points behind each box, if lines have any.
    key_points: Option<usize>,
    /// Directories or lists of the images of each split.
    splits: Vec<(Split, Vec<PathBuf>)>,
    /// The files by which the layout was recognized.
    reason: String,
    /// What the class names of other files differ in, one line each.
    notes: Vec<String>,
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
                if let Some((list, _)) = found.other_names(root) {
                    let list = list.strip_prefix(root).unwrap_or(&list).display();
                    found.reason += &format!("; {list} names other classes and is not used");
                } else {
                    found.note_counts(root);
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
            found.check_names(path)?;
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
            let mut found = Self {
                root: root.to_owned(),
                names,
                key_points: None,
                reason: format!("{shown}{}", without_numbers(is_numbered)),
                splits,
                notes: Vec::new(),
                names_file: list,
            };
            found.check_names(root)?;
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
        let capitals = AnyCapitals::default();
        let mut renamed = String::new();
        let mut find = |key: &str, entry: &str| -> Result<Option<PathBuf>, DataError> {
            let found = FoundPath::below(root, entry, 1, &|root, path| capitals.any(root, path));
            let only = found.map(|found| found.only(root, key, entry, &mut renamed));
            let only = only.transpose();
            only.map_err(|problem| DataError::labels(path, problem))
        };
        let missing = |key: &str, entry: &str| {
            let problem = format!("`{key}` is `{entry}`, which does not exist");
            DataError::labels(path, problem)
        };
        let list = find("names", names)?.ok_or_else(|| missing("names", names))?;
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
        let images = find(train_key, train)?.ok_or_else(|| missing(train_key, train))?;
        let mut splits = vec![(Split::Train, vec![images])];
        for split in [Split::Val, Split::Test] {
            let Some((key, entry)) = of_split(split).filter(|(_, entry)| *entry != train) else {
                continue;
            };
            match find(key, entry)? {
                Some(place) => splits.push((split, vec![place])),
                // CVAT names the list of a subset that it does not write.
                None => reason += &format!("; its `{key}` ({entry}) is missing"),
            }
        }
        reason += &renamed;
        let mut found = Self {
            root: root.to_owned(),
            names,
            key_points: None,
            splits,
            reason,
            notes: Vec::new(),
            names_file: list,
        };
        found.check_names(root)?;
        Ok(Some(found))
    }

    /// Checks that no other list of class names in a directory contradicts the names, and notes those with more or
    /// fewer classes.
    fn check_names(&mut self, root: &Path) -> Result<(), DataError> {
        if let Some((_, problem)) = self.other_names(root) {
            return Err(DataError::contradiction(&self.names_file, problem));
        }
        self.note_counts(root);
        Ok(())
    }

    /// Notes the lists of class names in a directory that have more or fewer classes.
    fn note_counts(&mut self, root: &Path) {
        let shown = |path: &Path| {
            path.strip_prefix(root)
                .unwrap_or(path)
                .display()
                .to_string()
        };
        let chosen = shown(&self.names_file);
        for list in self.name_lists(root) {
            // A list that cannot be read is not used.
            let Ok(ClassList { names, .. }) = ClassList::read(&list) else {
                continue;
            };
            if names.len() != self.names.len() {
                self.notes.push(format!(
                    "{} has {} and {chosen} {}: {chosen} is used",
                    shown(&list),
                    count(names.len(), "class name"),
                    self.names.len(),
                ));
            }
        }
    }

    /// Returns a list of class names in a directory, other than that of the dataset, that names a class differently,
    /// and the difference. A list with more classes is no contradiction.
    fn other_names(&self, root: &Path) -> Option<(PathBuf, String)> {
        self.name_lists(root).into_iter().find_map(|list| {
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

    /// Returns the lists of class names in a directory, other than that of the dataset.
    fn name_lists(&self, root: &Path) -> Vec<PathBuf> {
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
        lists
            .filter(|list| *list != self.names_file && list.is_file())
            .collect()
    }

    /// Describes the directory of a dataset.
    fn of_dataset(files: &DatasetFiles) -> Result<Self, DataError> {
        let first = files.splits.first();
        Self::expect(first.map_or(&files.root, |split| &split.annotations))
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
        let capitals = AnyCapitals::default();
        for (split, entries) in described.splits {
            let mut places = Vec::new();
            for entry in &entries {
                let entry = entry.replace('\\', "/");
                // Such files are moved; Roboflow's paths begin with a ../ that leads nowhere.
                let inside = entry.trim_start_matches("../").trim_start_matches("./");
                let tried = [
                    (&*base, base.join(&entry)),
                    (root, root.join(&entry)),
                    (root, root.join(inside)),
                ];
                let missing = tried[0].1.clone();
                // A single directory such as `images` could be that of another split.
                let moved = ends_below(root, &entry, 2).into_iter();
                let tried = tried.into_iter().chain(moved.map(|path| (root, path)));
                let found = FoundPath::first(tried, &|root, path| capitals.any(root, path))
                    .map(|found| found.only(root, &split.to_string(), &entry, &mut reason))
                    .transpose()
                    .map_err(|problem| DataError::labels(yaml, problem))?;
                match found {
                    // Without the `.` of `path: .`, which every message would show.
                    Some(found) => places.push(found.components().collect()),
                    // Exporters describe splits that they do not write.
                    None if split != Split::Train => {
                        reason += &format!("; its `{split}` ({entry}) is missing");
                    }
                    None => {
                        let missing = missing.display();
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
            names_file: yaml.to_owned(),
            key_points: described.key_points,
            splits,
            reason,
            notes: Vec::new(),
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

/// What exists for a path in a description or a list.
struct FoundPath {
    /// The path, or those that differ from it in capitals.
    paths: Vec<PathBuf>,
    is_exact: bool,
}

impl FoundPath {
    /// Looks for the first of some paths that exists, each below a root; if none does, for the first that exists in
    /// other capitals.
    fn first<'r>(
        tried: impl IntoIterator<Item = (&'r Path, PathBuf)>,
        look: &dyn Fn(&Path, &Path) -> FileMatch,
    ) -> Option<Self> {
        let mut alike = None;
        for (root, path) in tried {
            match look(root, &path) {
                FileMatch::Exact => {
                    let (paths, is_exact) = (vec![path], true);
                    return Some(Self { paths, is_exact });
                }
                FileMatch::OtherCapitals(paths) => {
                    let is_exact = false;
                    alike.get_or_insert(Self { paths, is_exact });
                }
                FileMatch::Missing => {}
            }
        }
        alike
    }

    /// Looks for the end of a path below a directory; see [`ends_below`].
    fn below(
        root: &Path,
        entry: &str,
        parts: usize,
        look: &dyn Fn(&Path, &Path) -> FileMatch,
    ) -> Option<Self> {
        let paths = ends_below(root, entry, parts).into_iter();
        Self::first(paths.map(|path| (root, path)), look)
    }

    /// Returns the only path for a key of a description, and adds to `reason` how it differs from the written one.
    ///
    /// # Errors
    /// There are several; the string names them.
    fn only(
        self,
        root: &Path,
        key: &str,
        entry: &str,
        reason: &mut String,
    ) -> Result<PathBuf, String> {
        match <[PathBuf; 1]>::try_from(self.paths) {
            Ok([path]) => {
                if !self.is_exact {
                    let shown = path.strip_prefix(root).unwrap_or(&path).display();
                    *reason += &format!("; its `{key}` ({entry}) is {shown}");
                }
                Ok(path)
            }
            Err(several) => Err(format!(
                "`{key}` is `{entry}`, but {} differ from it in capitals only",
                file_names(&several)
            )),
        }
    }
}

/// Returns the paths below a directory that have at least `parts` parts in common with the end of `entry`, longest
/// first: darknet's paths are relative to the directory that it runs in.
fn ends_below(root: &Path, entry: &str, parts: usize) -> Vec<PathBuf> {
    let entry = entry.replace('\\', "/");
    let all: Vec<&str> = entry
        .split('/')
        .filter(|part| !matches!(*part, "" | "." | ".."))
        .collect();
    let starts = 0..(all.len() + 1).saturating_sub(parts);
    starts
        .map(|start| root.join(all[start..].join("/")))
        .collect()
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

/// The images of a split.
#[derive(Default)]
struct SplitImages {
    /// Sorted, each once.
    paths: Vec<PathBuf>,
    /// How many were found in other capitals, if any.
    note: Option<String>,
    /// The errors of the paths that several files fit.
    ambiguous: HashMap<PathBuf, DataError>,
}

impl SplitImages {
    /// Lists the images of the directories and lists of a split.
    fn of(root: &Path, files: &SplitFiles) -> Result<Self, DataError> {
        let mut images = Self::default();
        let mut listed = Vec::new();
        let capitals = AnyCapitals::default();
        for place in &files.image_directories {
            if place.is_dir() {
                let found = images_within(place)?.into_iter();
                let found = found.map(|found| place.join(found.path()));
                images.paths.extend(found);
            } else {
                let directory = place.parent().unwrap_or(Path::new(""));
                let lines = lines(&read_text(place)?);
                let found: Vec<ListedImage> = lines
                    .into_par_iter()
                    .map(|line| ListedImage::find(root, directory, line, &capitals))
                    .collect();
                // The labels of images that are not there are not there either.
                if let Some(first) = found.first()
                    && found.iter().all(|image| image.found.is_none())
                {
                    let annotations = place.clone();
                    return Err(images_of_list_not_found(
                        annotations,
                        root,
                        directory,
                        first,
                    ));
                }
                listed.extend(found);
            }
        }
        images.add_listed(root, listed);
        images.paths.sort();
        images.paths.dedup();
        if images.paths.is_empty() {
            let places = files.image_directories.iter();
            let places = join(places.map(|place| place.display()));
            let problem = format!("no images in the {} split ({places})", files.split);
            return Err(DataError::labels(root, problem));
        }
        Ok(images)
    }

    /// Adds the images of lists. One in other capitals is taken if no line names it exactly.
    fn add_listed(&mut self, root: &Path, listed: Vec<ListedImage>) {
        let exact = listed.iter().filter_map(|image| image.found.as_ref());
        let exact = exact.filter(|found| found.is_exact);
        let taken: HashSet<PathBuf> = exact.flat_map(|found| found.paths.clone()).collect();
        let mut renamed = BTreeSet::new();
        let mut example = None;
        for ListedImage {
            line,
            written,
            found,
        } in listed
        {
            let Some(mut found) = found else {
                // The loader names the missing image.
                self.paths.push(written);
                continue;
            };
            if found.is_exact {
                self.paths.append(&mut found.paths);
                continue;
            }
            found.paths.retain(|path| !taken.contains(path));
            match found.paths.as_slice() {
                // Another line for the same image.
                [] => {}
                [only] => {
                    let shown = only.strip_prefix(root).unwrap_or(only).display();
                    example.get_or_insert_with(|| (shown.to_string(), line));
                    renamed.insert(only.clone());
                    self.paths.push(only.clone());
                }
                several => {
                    let error = several_files(&written, several);
                    self.ambiguous.insert(written.clone(), error);
                    self.paths.push(written);
                }
            }
        }
        self.note =
            example.map(|(found, line)| found_in_other_capitals(renamed.len(), &found, &line));
    }
}

/// A line of a list of images.
struct ListedImage {
    line: String,
    /// The path as it is written.
    written: PathBuf,
    found: Option<FoundPath>,
}

impl ListedImage {
    /// Finds the image of a line: beside the list, or else by the end of its path below the dataset.
    fn find(root: &Path, directory: &Path, line: String, capitals: &AnyCapitals) -> Self {
        let path = line.replace('\\', "/");
        let beside = (directory, directory.join(&path));
        let below = ends_below(root, &path, 1).into_iter();
        let tried = std::iter::once(beside).chain(below.map(|path| (root, path)));
        let found = FoundPath::first(tried, &|root, path| capitals.file(root, path));
        Self {
            written: root.join(path),
            line,
            found,
        }
    }
}

/// Returns the error about a list of which not one image exists.
fn images_of_list_not_found(
    annotations: PathBuf,
    root: &Path,
    directory: &Path,
    first: &ListedImage,
) -> DataError {
    let mut directories = vec![directory.display().to_string()];
    if root != directory {
        directories.push(root.display().to_string());
    }
    LayoutError::NoImageFiles {
        annotations,
        image: first.line.as_str().into(),
        expected_in: directories.join(", ").into(),
        is_renamed: false,
    }
    .into()
}

/// Collects the labels of some splits and the sizes of their images.
fn collect(files: &DatasetFiles, wanted: &[Split]) -> Result<Vec<SplitEntries>, DataError> {
    let directory = YoloDirectory::of_dataset(files)?;
    let mut collected: Vec<SplitEntries> = wanted
        .iter()
        .map(|split| collect_split(&directory, files.split(*split)?))
        .collect::<Result<_, _>>()?;
    // The class names are those of all splits.
    if let Some(first) = collected.first_mut() {
        first.notes.extend(directory.notes);
    }
    Ok(collected)
}

fn collect_split(directory: &YoloDirectory, files: &SplitFiles) -> Result<SplitEntries, DataError> {
    let SplitImages {
        paths,
        note: note_on_images,
        mut ambiguous,
    } = SplitImages::of(&directory.root, files)?;
    let image_root = common_directory(&paths);
    let (place, found_labels) = directory.label_files(&paths);
    let with_labels = paths.par_iter().zip(&found_labels.paths);
    let read: Vec<_> = with_labels
        .map(|(path, label_file)| {
            let size = image_size(path);
            let found = directory.read_lines(label_file);
            let copies = LabelCopies {
                directory,
                size: size.as_ref().ok().copied(),
                chosen: label_file,
                found: found.as_deref(),
            };
            let twins = found_labels.twins_of(label_file);
            let outcome = copies.compare(path, twins);
            (size, label_file, found, outcome)
        })
        .collect();
    let (mut images, mut problems) = (Vec::new(), Vec::new());
    let mut dropped = Dropped::default();
    let mut notes: Vec<String> = note_on_images.into_iter().collect();
    let mut label_files: HashSet<PathBuf> = HashSet::new();
    let mut image_of: HashMap<&PathBuf, &PathBuf> = HashMap::new();
    let (mut rounded, mut twins) = (CountedPair::default(), CountedPair::default());
    for (image, (path, (size, label_file, labels, copies))) in paths.iter().zip(read).enumerate() {
        let mut problem = |error| problems.push(EntryProblem { image, error });
        // Before the problems of the same image, which follow from it.
        if let Some(error) = ambiguous.remove(path) {
            problem(error);
        }
        let within = path.strip_prefix(&image_root).unwrap_or(path);
        if within.to_str().is_none() {
            let advice = "its name is not Unicode (UTF-8); rename it";
            problem(DataError::labels(path, advice));
        }
        let size = size.map_err(|error| problem(error.into())).ok();
        if let Some(several) = found_labels.several.get(path) {
            problem(label_file_is_unclear(label_file, several));
        }
        match copies {
            Ok(copies) => {
                for other in &copies.rounded {
                    rounded.add(label_file, other);
                }
                for other in copies.twins {
                    twins.add(label_file, &other);
                    label_files.insert(other);
                }
            }
            Err(error) => problem(error),
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
                            Extra::Outline => dropped.add(OUTLINES, "object", 1),
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
        notes.extend(rounded.note(&directory.root, |number, used, other| {
            format!(
                "{number} with a copy whose boxes differ by rounding (at most 1 px), such as {used}, which is used, and {other}"
            )
        }));
        notes.extend(twins.note(&directory.root, |number, used, other| {
            format!(
                "{number} with another that differs from it in capitals only and has the same boxes, such as \
                 {used}, which is used, and {other}"
            )
        }));
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

/// The description of the objects of which only the boxes are read.
pub(crate) const OUTLINES: &str = "outlines, of which the boxes are kept";

/// Copies the label files with outlines over those that were written, which have boxes only. Returns the number of
/// outlines that are kept so.
///
/// `files` is the dataset that the splits are parts of.
///
/// # Errors
/// A file cannot be read or written.
pub(crate) fn copy_outlines(
    files: &DatasetFiles,
    splits: &[PlacedSplit],
    output: &Output,
) -> Result<usize, DataError> {
    /// The difference in pixels that the verification of a written dataset allows, too.
    const UNCHANGED: f64 = 1e-3;
    let directory = YoloDirectory::of_dataset(files)?;
    let absolute =
        |path: &Path| std::path::absolute(path).map_err(|source| DataError::io(path, source));
    let mut labels_of: HashMap<PathBuf, PathBuf> = HashMap::new();
    for split in &files.splits {
        let images = SplitImages::of(&directory.root, split)?.paths;
        let labels = directory.label_files(&images).1.paths;
        for (image, labels) in images.iter().zip(labels) {
            labels_of.entry(absolute(image)?).or_insert(labels);
        }
    }
    let mut kept = 0;
    for placed in splits {
        let read = placed.annotations;
        for (index, (path, boxes)) in placed.image_paths.iter().zip(&placed.boxes).enumerate() {
            let image = read.store.image(index);
            let source = absolute(&read.image_root.join(image.file_name))?;
            let Some(labels) = labels_of.get(&source).filter(|labels| labels.is_file()) else {
                continue;
            };
            let text = read_text(labels)?;
            let lines = directory.parse_lines(labels, &text).into_iter();
            let lines: Vec<YoloBox> = lines.collect::<Result<_, _>>()?;
            let outlines = lines.iter().filter(|line| line.extra == Extra::Outline);
            let outlines = outlines.count();
            // Boxes that were clipped or dropped differ from the lines.
            let is_written = |(line, written): (&YoloBox, &PlacedBox)| {
                let found = line.xywh(image.size).map(f64::from);
                let mut pairs = found.iter().zip(written.xywh);
                line.class == written.class && pairs.all(|(a, b)| (a - b).abs() <= UNCHANGED)
            };
            let mut pairs = lines.iter().zip(boxes);
            let is_unchanged = lines.len() == boxes.len() && pairs.all(is_written);
            if outlines > 0 && is_unchanged {
                output.file(&label_path(path), &text)?;
                kept += outlines;
            }
        }
    }
    Ok(kept)
}

/// Returns the path of the label file of a written image.
fn label_path(image_path: &str) -> String {
    let stem = without_extension(image_path);
    let within = stem.strip_prefix("images/").unwrap_or(stem);
    format!("labels/{within}.txt")
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
        let is_in_any_capitals = |image: &Path, path: &Path| {
            look_for_label(root, image, path, capitals) != FileMatch::Missing
        };
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
    /// The files that an image without an exact one may have, by the path of the image.
    several: HashMap<PathBuf, Vec<PathBuf>>,
    /// Files beside that of an image that differ from it in capitals only and belong to no other image, by the file
    /// of the image.
    twins: HashMap<PathBuf, Vec<PathBuf>>,
    /// The number of files whose names differ from those of their images in capitals, with an example.
    note: Option<String>,
}

impl LabelFiles {
    /// Finds the label files in a place. A file in other capitals is used if it is not that of another image.
    fn find(root: &Path, place: LabelPlace, images: &[PathBuf], capitals: &AnyCapitals) -> Self {
        let found: Vec<(PathBuf, FileMatch)> = images
            .par_iter()
            .map(|image| {
                let path = place.path(root, image);
                let found = look_for_label(root, image, &path, capitals);
                (path, found)
            })
            .collect();
        let exact: HashSet<&PathBuf> = found
            .iter()
            .filter(|(_, found)| *found == FileMatch::Exact)
            .map(|(path, _)| path)
            .collect();
        let (mut number, mut example) = (0, None);
        let mut labels = Self {
            paths: Vec::new(),
            several: HashMap::new(),
            twins: HashMap::new(),
            note: None,
        };
        for (image, (path, found)) in images.iter().zip(&found) {
            let mut others = match found {
                FileMatch::Exact => capitals.twins(path),
                FileMatch::OtherCapitals(others) => others.clone(),
                FileMatch::Missing => Vec::new(),
            };
            others.retain(|other| !exact.contains(other));
            match (found, others.as_slice()) {
                (_, []) => labels.paths.push(path.clone()),
                (FileMatch::Exact, _) => {
                    labels.twins.insert(path.clone(), others);
                    labels.paths.push(path.clone());
                }
                (_, [only]) => {
                    number += 1;
                    example.get_or_insert_with(|| (image, only.clone()));
                    labels.paths.push(only.clone());
                }
                _ => {
                    labels.several.insert(image.clone(), others);
                    labels.paths.push(path.clone());
                }
            }
        }
        labels.note = example.map(|(image, other)| {
            format!(
                "{} found by a name in other capitals than that of the image, such as {} for {}",
                count(number, "label file"),
                other.strip_prefix(root).unwrap_or(&other).display(),
                image.strip_prefix(root).unwrap_or(image).display()
            )
        });
        labels
    }

    fn twins_of(&self, label_file: &Path) -> &[PathBuf] {
        self.twins.get(label_file).map_or(&[], Vec::as_slice)
    }
}

/// Looks for the label file of an image.
fn look_for_label(root: &Path, image: &Path, expected: &Path, capitals: &AnyCapitals) -> FileMatch {
    let base = if expected.starts_with(root) {
        Some(root)
    } else {
        image.parent()
    };
    base.map_or(FileMatch::Missing, |base| capitals.file(base, expected))
}

fn label_file_is_unclear(expected: &Path, several: &[PathBuf]) -> DataError {
    let problem = format!(
        "no such label file; {} differ from it in capitals only",
        file_names(several)
    );
    DataError::contradiction(expected, problem)
}

/// The label file of an image, to be compared with others of the same image.
struct LabelCopies<'a> {
    directory: &'a YoloDirectory,
    /// The size of the image, if it is known.
    size: Option<ImageSize>,
    /// The path of the label file, which need not exist.
    chosen: &'a Path,
    /// Its lines.
    found: Option<&'a [Result<YoloBox, DataError>]>,
}

/// Other label files of an image with the same boxes.
#[derive(Default)]
struct SameLabels {
    /// Files in other places whose boxes differ by rounding.
    rounded: Vec<PathBuf>,
    /// Files that differ in the capitals of their name only.
    twins: Vec<PathBuf>,
}

impl LabelCopies<'_> {
    /// Compares with the label files of the image in other places, and with `twins`.
    ///
    /// # Errors
    /// One has other boxes, or there is one in another place only.
    fn compare(&self, image: &Path, twins: &[PathBuf]) -> Result<SameLabels, DataError> {
        let mut same = SameLabels::default();
        let others = LabelPlace::ALL.map(|place| place.path(&self.directory.root, image));
        let others: BTreeSet<&PathBuf> = others
            .iter()
            .filter(|other| **other != self.chosen && other.is_file())
            .collect();
        for other in others {
            // One that cannot be read is not used, and may be any text.
            let Ok(text) = read_text(other) else {
                continue;
            };
            if !looks_like_labels(&text) {
                continue;
            }
            if self.found.is_none() {
                let problem = format!(
                    "the label file of {}, but {} is missing, where those of most images are",
                    image.display(),
                    self.chosen.display()
                );
                return Err(DataError::contradiction(other, problem));
            }
            match self.is_same(other, &text) {
                Same::Text => {}
                Same::Boxes => same.rounded.push(other.clone()),
                Same::No => return Err(self.contradiction(other)),
            }
        }
        for twin in twins {
            let Ok(text) = read_text(twin) else {
                continue;
            };
            match self.is_same(twin, &text) {
                Same::No => return Err(self.contradiction(twin)),
                _ => same.twins.push(twin.clone()),
            }
        }
        Ok(same)
    }

    fn contradiction(&self, other: &Path) -> DataError {
        let problem = format!("the same image has other boxes in {}", other.display());
        DataError::contradiction(self.chosen, problem)
    }

    /// Compares the boxes with those of another file, whose content is `text`.
    fn is_same(&self, other: &Path, text: &str) -> Same {
        // A label file that cannot be read is a problem of its own.
        let Ok(chosen) = read_text(self.chosen) else {
            return Same::Text;
        };
        if lines(&chosen) == lines(text) {
            return Same::Text;
        }
        let boxes = |lines: &[Result<YoloBox, DataError>]| -> Option<Vec<(usize, [f64; 4])>> {
            let size = self.size?;
            let boxes = lines.iter().map(|line| {
                let found = line.as_ref().ok()?;
                Some((found.class, found.xywh(size).map(f64::from)))
            });
            boxes.collect()
        };
        let others = self.directory.parse_lines(other, text);
        let both = boxes(self.found.unwrap_or_default()).zip(boxes(&others));
        match both {
            Some((first, second)) if are_same_but_for_rounding(&first, &second) => Same::Boxes,
            _ => Same::No,
        }
    }
}

/// How two label files agree.
enum Same {
    /// Line by line.
    Text,
    /// But for rounding.
    Boxes,
    No,
}

/// A number of pairs of label files, and the first pair.
#[derive(Default)]
struct CountedPair {
    number: usize,
    first: Option<(PathBuf, PathBuf)>,
}

impl CountedPair {
    fn add(&mut self, used: &Path, other: &Path) {
        self.number += 1;
        self.first
            .get_or_insert_with(|| (used.to_owned(), other.to_owned()));
    }

    /// Formats the number and the first pair with a function, if there is one.
    fn note(
        &self,
        root: &Path,
        format: impl Fn(&str, Display<'_>, Display<'_>) -> String,
    ) -> Option<String> {
        let (used, other) = self.first.as_ref()?;
        let shown = |path: &'_ Path| path.strip_prefix(root).unwrap_or(path).to_owned();
        let (used, other) = (shown(used), shown(other));
        let number = count(self.number, "label file");
        Some(format(&number, used.display(), other.display()))
    }
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

impl YoloDirectory {
    /// Finds the label files of images.
    fn label_files(&self, images: &[PathBuf]) -> (LabelPlace, LabelFiles) {
        let capitals = AnyCapitals::default();
        let place = LabelPlace::of(&self.root, images, &capitals);
        let labels = LabelFiles::find(&self.root, place, images, &capitals);
        (place, labels)
    }

    /// Reads a label file, each line independently; None if there is none.
    fn read_lines(&self, path: &Path) -> Option<Vec<Result<YoloBox, DataError>>> {
        if !path.exists() {
            return None;
        }
        Some(match read_text(path) {
            Ok(text) => self.parse_lines(path, &text),
            Err(error) => vec![Err(error)],
        })
    }

    /// Parses the text of a label file; `path` is used in error messages only.
    fn parse_lines(&self, path: &Path, text: &str) -> Vec<Result<YoloBox, DataError>> {
        let lines = (1..).zip(text.lines());
        let lines = lines.filter(|(_, line)| !line.trim().is_empty());
        let read = lines.map(|(number, line)| {
            self.parse_line(line)
                .map_err(|problem| DataError::labels(path, format!("line {number}: {problem}")))
        });
        read.collect()
    }

    fn parse_line(&self, line: &str) -> Result<YoloBox, String> {
        let classes = self.names.len();
        let parsed = match self.key_points {
            None => parse_box(line, classes),
            Some(values) => parse_pose(line, classes, values),
        };
        parsed.map_err(|problem| match problem {
            LineProblem::UnknownClass { class, last } => {
                let list = self.names_file.file_name().unwrap_or_default();
                let list = list.display();
                format!("unknown class {class}; {list} names the classes 0 to {last}")
            }
            LineProblem::Other(problem) => problem,
        })
    }
}

/// What is wrong with a line of a label file.
#[derive(Debug)]
enum LineProblem {
    /// The class is not one of 0 to `last`.
    UnknownClass {
        class: f64,
        last: i64,
    },
    Other(String),
}

impl fmt::Display for LineProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownClass { class, last } => {
                write!(f, "unknown class {class}; the classes are 0 to {last}")
            }
            Self::Other(problem) => f.write_str(problem),
        }
    }
}

impl From<String> for LineProblem {
    fn from(problem: String) -> Self {
        Self::Other(problem)
    }
}

impl From<&str> for LineProblem {
    fn from(problem: &str) -> Self {
        Self::Other(problem.to_owned())
    }
}

/// Parses a line of a label file for a dataset with a number of classes.
///
/// # Errors
/// Too few or too many numbers, no numbers, an unknown class, values outside of the image, a box without
/// area; the string says which.
pub fn parse_line(line: &str, classes: usize) -> Result<YoloBox, String> {
    parse_box(line, classes).map_err(|problem| problem.to_string())
}

fn parse_box(line: &str, classes: usize) -> Result<YoloBox, LineProblem> {
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
            return Err(format!("{count} numbers; a box has 5 (class cx cy width height)").into());
        }
    };
    check_fractions(values)?;
    Ok(YoloBox::new(class, cxcywh, extra)?)
}

/// Parses a line of a box and key points with a number of values.
fn parse_pose(line: &str, classes: usize, key_points: usize) -> Result<YoloBox, LineProblem> {
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
            )
            .into());
        }
    };
    check_fractions(&cxcywh)?;
    Ok(YoloBox::new(class, cxcywh, extra)?)
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

fn class_of(numbers: &[f64], classes: usize) -> Result<usize, LineProblem> {
    match numbers.first() {
        Some(class) if class.fract() == 0.0 && *class >= 0.0 && *class < classes as f64 => {
            Ok(*class as usize)
        }
        Some(&class) => Err(LineProblem::UnknownClass {
            class,
            last: classes as i64 - 1,
        }),
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
                &[("images/a.txt", "0 0.5 0.5 0.9 0.9\n")],
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
    fn label_files_that_differ_in_capitals_are_both_named() {
        let label = "0 0.5 0.5 0.25 0.25\n";
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        put_all(
            root,
            &[
                ("classes.txt", "cat\n"),
                ("images/img0.png", ""),
                ("labels/img0.txt", label),
                ("labels/IMG0.txt", "0 0.5001 0.5 0.25 0.25\n"),
                ("images/img1.png", ""),
                ("labels/img1.txt", label),
            ],
        );
        let read = read_train(root).unwrap();
        assert_eq!(
            read.notes,
            [
                "1 label file with another that differs from it in capitals only and has the same boxes, such as \
                 labels/img0.txt, which is used, and labels/IMG0.txt"
            ]
        );
        // It is no file without an image.
        assert_eq!(read.dropped.lines().count(), 0);
        for other in ["", "0 0.5 0.5 0.9 0.9\n"] {
            put_all(root, &[("labels/IMG0.txt", other)]);
            let message = read_train(root).unwrap_err();
            assert!(
                message.contains("labels/img0.txt: the same image has other boxes in"),
                "{message}"
            );
            assert!(message.ends_with("labels/IMG0.txt"), "{message}");
        }
        std::fs::rename(root.join("labels/img0.txt"), root.join("labels/Img0.txt")).unwrap();
        let message = read_train(root).unwrap_err();
        assert!(
            message.ends_with(
                "labels/img0.txt: no such label file; IMG0.txt and Img0.txt differ from it in capitals only"
            ),
            "{message}"
        );
    }

    #[test]
    fn copies_of_labels_may_differ_by_rounding() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        put_all(
            root,
            &[
                ("classes.txt", "cat\ndog\n"),
                ("images/a.png", ""),
                ("images/b.png", ""),
            ],
        );
        // The images have 8 pixels a side: an eighth is a pixel.
        let written = |other: &str| {
            put_all(
                root,
                &[
                    (
                        "labels/a.txt",
                        "0 0.500000 0.5 0.25 0.25\n1 0.25 0.25 0.5 0.5\n",
                    ),
                    ("labels/b.txt", ""),
                    ("images/a.txt", other),
                ],
            );
            read_train(root)
        };
        let exact = "0 0.500000 0.5 0.25 0.25\n1 0.25 0.25 0.5 0.5\n";
        assert_eq!(written(exact).unwrap().notes, [""; 0]);
        for same in [
            "0 0.5004 0.5 0.25 0.25\n1 0.25 0.25 0.5 0.5\n",
            "1 0.25 0.25 0.5 0.5\n0 0.6 0.5 0.25 0.25\n",
        ] {
            let read = written(same).unwrap();
            assert_eq!(read.store.annotation_count(), 2);
            assert_eq!(
                read.notes,
                [
                    "1 label file with a copy whose boxes differ by rounding (at most 1 px), such as labels/a.txt, \
                     which is used, and images/a.txt"
                ]
            );
        }
        for other in [
            "0 0.65 0.5 0.25 0.25\n1 0.25 0.25 0.5 0.5\n",
            "1 0.5004 0.5 0.25 0.25\n1 0.25 0.25 0.5 0.5\n",
            "0 0.5004 0.5 0.25 0.25\n",
            "0 0.5004 0.5 0.25 0.25\n5 0.25 0.25 0.5 0.5\n",
        ] {
            let message = written(other).unwrap_err();
            assert!(
                message.contains("the same image has other boxes in"),
                "{message}"
            );
        }
    }

    #[test]
    fn images_of_a_list_are_found_in_other_capitals() {
        let label = "0 0.5 0.5 0.25 0.25\n";
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        put_all(
            root,
            &[
                (
                    "data.yaml",
                    "train: Lists/train.txt\nval: IMAGES/val\nnames: [cat]\n",
                ),
                (
                    "lists/train.txt",
                    "images/IMG0.PNG\n./images/img1.png\nimages/img1.PNG\n",
                ),
                ("images/img0.png", ""),
                ("images/img1.png", ""),
                ("images/val/img2.png", ""),
                ("labels/img0.txt", label),
                ("labels/img1.txt", label),
                ("labels/val/img2.txt", label),
            ],
        );
        let found = DatasetFiles::find(root).unwrap();
        assert_eq!(
            found.reason,
            "data.yaml; its `train` (Lists/train.txt) is lists/train.txt; its `val` (IMAGES/val) is images/val"
        );
        assert_eq!(found.split_names(), [Split::Train, Split::Val]);
        let read = read_train(root).unwrap();
        let names: Vec<&str> = (0..2)
            .map(|image| read.store.image(image).file_name)
            .collect();
        assert_eq!(names, ["img0.png", "img1.png"]);
        assert_eq!(read.store.annotation_count(), 2);
        assert_eq!(
            read.notes,
            [
                "1 image found by a name in other capitals than that in the annotations, such as \
                 images/img0.png for images/IMG0.PNG"
            ]
        );
        put_all(root, &[("images/Img0.png", "")]);
        let message = read_train(root).unwrap_err();
        assert!(
            message.ends_with("images/IMG0.PNG: no such file; Img0.png and img0.png differ from it in capitals only"),
            "{message}"
        );
        put_all(root, &[("lists/train.txt", "elsewhere/a.png\n")]);
        let message = read_train(root).unwrap_err();
        assert!(
            message.contains("train.txt: images not found; expected `elsewhere/a.png` in"),
            "{message}"
        );
        put_all(root, &[("Images/val/img3.png", "")]);
        let message = read_train(root).unwrap_err();
        assert!(
            message.ends_with("data.yaml: `val` is `IMAGES/val`, but Images/val and images/val differ from it in capitals only"),
            "{message}"
        );
    }

    #[test]
    fn lists_of_more_or_fewer_classes_are_noted_and_classes_without_a_name_named() {
        let label = "0 0.5 0.5 0.25 0.25\n";
        for (yaml, list, expected) in [
            (
                "[cat, dog]",
                "cat\ndog\nowl\n",
                "classes.txt has 3 class names and data.yaml 2: data.yaml is used",
            ),
            (
                "[cat, dog]",
                "cat\n",
                "classes.txt has 1 class name and data.yaml 2: data.yaml is used",
            ),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let yaml = format!("train: images\nnames: {yaml}\n");
            put_all(
                dir.path(),
                &[
                    ("data.yaml", &*yaml),
                    ("classes.txt", list),
                    ("images/a.png", ""),
                    ("labels/a.txt", label),
                ],
            );
            assert_eq!(read_train(dir.path()).unwrap().notes, [expected]);
            put_all(dir.path(), &[("labels/a.txt", "2 0.5 0.5 0.25 0.25\n")]);
            let message = read_train(dir.path()).unwrap_err();
            assert!(
                message.ends_with("line 1: unknown class 2; data.yaml names the classes 0 to 1"),
                "{message}"
            );
        }
    }

    #[test]
    fn paths_of_another_machine_are_found_by_their_end() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("train/images")).unwrap();
        std::fs::create_dir(dir.path().join("images")).unwrap();
        let capitals = AnyCapitals::default();
        let find = |entry, parts| {
            let look = |root: &Path, path: &Path| capitals.any(root, path);
            let found = FoundPath::below(dir.path(), entry, parts, &look)?;
            assert!(found.is_exact);
            found.paths.into_iter().next()
        };
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
        let problem = parse_pose(&format!("1 {values}"), 2, 9)
            .unwrap_err()
            .to_string();
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
