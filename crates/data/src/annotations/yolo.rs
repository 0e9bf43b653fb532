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
//! split have a label file is used for the whole split; if no image has any, that is an error.
//!
//! With `kpt_shape` in `data.yaml`, a line is a box followed by key points, which are dropped.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};

use rayon::prelude::*;

use crate::DataError;
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
use crate::text::count;

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
                return Self::described(root, path, described).map(Some);
            }
            if has_extension(path, "data") {
                return Self::of_darknet(root, path);
            }
            return Ok(None);
        }
        let folder = Folder::of(path);
        if let Some((yaml, described, others)) = chosen_yaml(path, &folder)? {
            let mut found = Self::described(path, &yaml, described)?;
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
            [
                "classes.txt",
                "obj.names",
                "class.names",
                "predefined_classes.txt",
            ]
            .map(|list| directory.join(list))
        });
        if let Some(list) = lists.find(|path| path.is_file()) {
            let names = class_names(&list)?;
            let shown = list.strip_prefix(root).unwrap_or(&list).display();
            return Ok(Some(Self {
                root: root.to_owned(),
                names,
                key_points: None,
                reason: shown.to_string(),
                splits,
            }));
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
        let names = class_names(&find("names", names)?)?;
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
        Ok(Some(Self {
            root: root.to_owned(),
            names,
            key_points: None,
            splits,
            reason,
        }))
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

/// Reads a list of class names. Their numbers are those of the lines, so that none may be empty.
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
    let is_label = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| !line.trim().is_empty());
        let words = line.unwrap_or_default().split_whitespace();
        let numbers: Option<Vec<f64>> = words.map(|word| word.parse().ok()).collect();
        numbers.is_some_and(|numbers| numbers.len() >= 5)
    };
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
    let place = LabelPlace::of(&directory.root, &paths);
    let classes = directory.names.len();
    let read: Vec<_> = paths
        .par_iter()
        .map(|path| {
            let labels = place.path(&directory.root, path);
            let found = read_lines(&labels, classes, directory.key_points);
            (image_size(path), labels, found)
        })
        .collect();
    let (mut images, mut problems) = (Vec::new(), Vec::new());
    let (mut dropped, mut notes) = (Dropped::default(), Vec::new());
    let mut label_files = HashSet::new();
    for (image, (path, (size, label_file, labels))) in paths.iter().zip(read).enumerate() {
        let mut problem = |error| problems.push(EntryProblem { image, error });
        let within = path.strip_prefix(&image_root).unwrap_or(path);
        if within.to_str().is_none() {
            let advice = "its name is not Unicode (UTF-8); rename it";
            problem(DataError::labels(path, advice));
        }
        let size = size.map_err(|error| problem(error.into())).ok();
        let mut boxes = Vec::new();
        if let Some(labels) = labels {
            label_files.insert(label_file);
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

    /// Returns the place where most of the images have a label file; the first on ties.
    fn of(root: &Path, images: &[PathBuf]) -> Self {
        /// A sample is enough unless it has no label file at all.
        const SAMPLE: usize = 200;
        let best = |images: &[&PathBuf]| {
            let count = |place: Self| {
                let labels = images.par_iter().map(|image| place.path(root, image));
                labels.filter(|path| path.is_file()).count()
            };
            let counted = Self::ALL.map(|place| (count(place), place));
            let most = counted.iter().map(|(count, _)| *count).max().unwrap_or(0);
            counted.into_iter().find(|(count, _)| *count == most)
        };
        let step = images.len().div_ceil(SAMPLE).max(1);
        let sample: Vec<&PathBuf> = images.iter().step_by(step).collect();
        match best(&sample) {
            Some((1.., place)) => place,
            _ => {
                let all: Vec<&PathBuf> = images.iter().collect();
                best(&all).map_or(Self::ForLastImages, |(_, place)| place)
            }
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
