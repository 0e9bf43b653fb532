//! Recognition of a directory in YOLO's layout: its splits, its class names, and why.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use super::YoloFormat;
use super::class_names::{ClassList, LABEL_STUDIO_NOTES, NAME_LISTS, further_lists};
use super::images::{FoundPath, ends_below};
use super::label_files::LabelPlace;
use super::labeled::first_label_of;
use super::places::{UsualSplits, are_classes, are_lists_of_classes};
use super::yaml::DataYaml;
use crate::annotations::file_names::AnyCapitals;
use crate::annotations::format::{DatasetFiles, Format};
use crate::annotations::image_files::{DirectoryListing, files_with_extension, has_extension};
use crate::annotations::layout::{LayoutError, Split, join};
use crate::text::{count, printable};
use crate::text_file::read_text;
use crate::{DataError, Remedy};

/// A directory in YOLO's layout; images and labels are not read yet.
#[derive(Debug)]
pub(super) struct YoloDirectory {
    /// The directory that labels are looked for in.
    pub(super) root: PathBuf,
    /// Class names; the position is the class's number.
    pub(super) names: Vec<String>,
    /// The file that lists the class names.
    pub(super) names_file: PathBuf,
    /// The number of values of the keypoints behind each box, if lines have any.
    pub(super) keypoints: Option<usize>,
    /// Directories or lists of the images of each split.
    pub(super) splits: Vec<(Split, Vec<PathBuf>)>,
    /// The files by which the layout was recognized.
    pub(super) reason: String,
    /// Descriptions of what is not used.
    pub(super) unused: Vec<String>,
    /// What the class names of other files differ in, one line each.
    pub(super) notes: Vec<String>,
}

impl YoloDirectory {
    /// Describes a directory, or the directory of a `data.yaml` or `obj.data`; None if it is not in this
    /// layout.
    ///
    /// # Errors
    /// It is, and its description is wrong: bad YAML, a directory that does not exist, no class names.
    pub(super) fn find(path: &Path) -> Result<Option<Self>, DataError> {
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
                    let unused = format!("{list}, which names other classes");
                    found.unused.push(unused);
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
        let listing = DirectoryListing::of(path);
        if let Some((yaml, described, others)) = chosen_yaml(path, &listing)? {
            let mut found = Self::described(path, &yaml, described)?;
            found.check_names(path)?;
            found.unused.extend(others);
            return Ok(Some(found));
        }
        for file in listing.files_with("data") {
            if let Some(found) = Self::of_darknet(path, &file)? {
                return Ok(Some(found));
            }
        }
        Self::by_names(path, &listing)
    }

    /// Describes a directory with a list of class names.
    pub(super) fn by_names(
        root: &Path,
        listing: &DirectoryListing,
    ) -> Result<Option<Self>, DataError> {
        let UsualSplits {
            splits,
            notes,
            unclear,
        } = UsualSplits::find(root, listing);
        if let Some(file) = unclear {
            return Err(LayoutError::Incomplete {
                root: root.to_owned(),
                file,
                problem: "the name leaves open whether its images are of one split, and so do others",
                missing: "a data.yaml with `train` and `val`",
                remedy: "write a data.yaml with the directories of each split (`train: [images/a, images/b]`) and `names`",
            }
            .into());
        }
        if splits.is_empty() {
            return match labels_without_images(root, listing) {
                Some(file) => Err(LayoutError::Incomplete {
                    root: root.to_owned(),
                    file,
                    problem: "YOLO labels without images",
                    missing: "a directory `images` with the images",
                    remedy: "put the images into a directory `images` beside that of the labels, under the same names; \
                             exporters leave them out unless they are asked for them",
                }
                .into()),
                None => Ok(None),
            };
        }
        let beside = splits.iter().flat_map(|(_, places)| places).cloned();
        let labels = listing.directory(&["labels"]);
        // LabelImg writes a list into each directory of labels; the others are compared with the first.
        let of_labels = beside
            .clone()
            .flat_map(|place| LabelPlace::directories(root, &place));
        let directories = [root.to_owned()]
            .into_iter()
            .chain(labels.clone())
            .chain(beside)
            .chain(of_labels);
        let first_list = directories.into_iter().find_map(|path| name_list(&path));
        let has_labels = || first_label(root, labels.as_deref(), &splits).is_some();
        let first_list = match first_list {
            Some(list) => Some(list),
            // Darknet has its list in `data`.
            None if has_labels() => {
                only_further_list(root)?.or_else(|| name_list(&root.join("data")))
            }
            None => None,
        };
        if let Some(list) = first_list {
            let read = ClassList::read(&list)?;
            let (without, doubt) = (read.without(), read.doubt(&list));
            let names = read.names;
            if first_label(root, labels.as_deref(), &splits).is_none()
                && (are_classes(&names, root, &splits)
                    || are_lists_of_classes(&names, root, &splits))
            {
                return Ok(None);
            }
            let shown = list.strip_prefix(root).unwrap_or(&list).display();
            let mut found = Self {
                root: root.to_owned(),
                names,
                keypoints: None,
                reason: format!("{shown}{without}"),
                unused: Vec::new(),
                splits,
                notes,
                names_file: list,
            };
            found.notes.extend(doubt);
            found.check_names(root)?;
            return Ok(Some(found));
        }
        // A file of numbers that is named after an image is a label file.
        if has_labels() {
            let descriptions = descriptions_elsewhere(root, listing);
            if !descriptions.is_empty() {
                let problem = format!(
                    "YOLO labels without class names; these are in another directory: {}",
                    join(descriptions.iter().map(|path| path.display()))
                );
                return Err(DataError::labels(root, problem).with(Remedy::GiveOneFile));
            }
        }
        let root = root.to_owned();
        match first_label(&root, labels.as_deref(), &splits) {
            Some(file) => Err(LayoutError::Incomplete {
                root,
                file,
                problem: "YOLO labels without class names",
                missing: "a data.yaml with `names` or a classes.txt",
                remedy: "write a data.yaml with a line such as `names: [cat, dog]`, in the order of the class numbers",
            }
            .into()),
            None => Ok(None),
        }
    }

    /// Reads darknet's description of a dataset: `names` and the list of each split, in any capitals. None
    /// if the file has none of its keys.
    pub(super) fn of_darknet(root: &Path, path: &Path) -> Result<Option<Self>, DataError> {
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
        let read = ClassList::read(&list)?;
        let (without, doubt) = (read.without(), read.doubt(&list));
        let names = read.names;
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
        reason += &without;
        let images = find(train_key, train)?.ok_or_else(|| missing(train_key, train))?;
        let mut splits = vec![(Split::Train, vec![images])];
        let (mut notes, mut unused) = (Vec::from_iter(doubt), Vec::new());
        for split in [Split::Val, Split::Test] {
            let Some((key, entry)) = of_split(split) else {
                continue;
            };
            if entry == train {
                unused.push(format!("its `{key}`, which is that of `{train_key}`"));
                continue;
            }
            match find(key, entry)? {
                Some(place) => splits.push((split, vec![place])),
                // CVAT names the list of a subset that it does not write.
                None => {
                    reason += &format!("; its `{key}` ({entry}) is missing");
                    notes.extend(missing_val(path, split, key, entry));
                }
            }
        }
        reason += &renamed;
        let mut found = Self {
            root: root.to_owned(),
            names,
            keypoints: None,
            splits,
            reason,
            unused,
            notes,
            names_file: list,
        };
        found.check_names(root)?;
        Ok(Some(found))
    }

    /// Checks that no other list of class names in a directory contradicts the names, and notes those with more or
    /// fewer classes.
    pub(super) fn check_names(&mut self, root: &Path) -> Result<(), DataError> {
        if let Some((_, problem)) = self.other_names(root) {
            return Err(DataError::contradiction(&self.names_file, problem));
        }
        self.note_counts(root);
        Ok(())
    }

    fn shares_a_name(&self, others: &[String]) -> bool {
        let own: HashSet<String> = self.names.iter().map(|name| name.to_lowercase()).collect();
        others
            .iter()
            .any(|other| own.contains(&other.to_lowercase()))
    }

    /// Notes the lists of class names in a directory that have more or fewer classes, or others.
    pub(super) fn note_counts(&mut self, root: &Path) {
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
            if !self.shares_a_name(&names) {
                let unused = format!("{}, which names other classes", shown(&list));
                self.unused.push(unused);
            } else if names.len() != self.names.len() {
                self.notes.push(format!(
                    "{} has {} and {chosen} {}: {chosen} is used",
                    shown(&list),
                    count(names.len(), "class name"),
                    self.names.len(),
                ));
            }
        }
        let further = further_lists(root).into_iter();
        let further = further.filter(|list| *list != self.names_file);
        let different = further.filter_map(|list| {
            let (class, other) = self.differing_name(&list)?;
            let (own, other) = (printable(&self.names[class]), printable(&other));
            Some(format!(
                "{}, in which class {class} is `{other}`, and not `{own}`",
                shown(&list)
            ))
        });
        let different: Vec<String> = different.collect();
        self.unused.extend(different);
    }

    /// Returns the first class that a further list names differently, if it lists as many classes and most are the same: with
    /// others, it is a list of something else.
    fn differing_name(&self, list: &Path) -> Option<(usize, String)> {
        let names = ClassList::read(list).ok()?.names;
        let own: HashSet<String> = self.names.iter().map(|name| name.to_lowercase()).collect();
        let shared = names
            .iter()
            .filter(|name| own.contains(&name.to_lowercase()));
        if names.len() != self.names.len() || 2 * shared.count() < names.len() {
            return None;
        }
        let pairs = self.names.iter().zip(names).enumerate();
        let mut different =
            pairs.filter(|(_, (name, other))| name.to_lowercase() != other.to_lowercase());
        different.next().map(|(class, (_, other))| (class, other))
    }

    /// Returns a list of class names in a directory, other than that of the dataset, that names a class differently,
    /// and the difference. A list with more classes is no contradiction.
    pub(super) fn other_names(&self, root: &Path) -> Option<(PathBuf, String)> {
        self.name_lists(root).into_iter().find_map(|list| {
            // A list that cannot be read is not used, and contradicts nothing.
            let names = ClassList::read(&list).ok()?.names;
            // A text without any of the names is no list of these classes.
            if !self.shares_a_name(&names) {
                return None;
            }
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
    pub(super) fn name_lists(&self, root: &Path) -> Vec<PathBuf> {
        let places = self.splits.iter().flat_map(|(_, places)| places);
        // In the directories of the images and of the labels, those around them, and `data`, where darknet has them. Many
        // directories of images are in one.
        let around = places.clone().filter_map(|place| place.parent());
        let around = around.filter(|directory| directory.starts_with(root));
        let around: BTreeSet<&Path> = around.collect();
        let labels = around
            .iter()
            .copied()
            .chain([root])
            .filter_map(|directory| DirectoryListing::of(directory).directory(&["labels"]));
        let within = places.cloned().chain(labels);
        let directories: BTreeSet<PathBuf> = within
            .flat_map(|directory| directories_within(&directory))
            .chain(around.iter().map(|directory| directory.to_path_buf()))
            .chain([root.to_owned(), root.join("data")])
            .collect();
        let lists = directories.iter().flat_map(|directory| {
            let names = NAME_LISTS.into_iter().chain([LABEL_STUDIO_NOTES]);
            names.map(|list| directory.join(list))
        });
        lists
            .filter(|list| *list != self.names_file && list.is_file())
            .collect()
    }

    /// Describes the directory of a dataset.
    pub(super) fn of_dataset(files: &DatasetFiles) -> Result<Self, DataError> {
        let first = files.splits.first();
        Self::expect(first.map_or(&files.root, |split| &split.annotations))
    }

    /// Describes a recognized directory.
    pub(super) fn expect(root: &Path) -> Result<Self, DataError> {
        Self::find(root)?.ok_or_else(|| {
            let format: Format = &YoloFormat;
            format.not_found_in(root).into()
        })
    }

    pub(super) fn described(
        root: &Path,
        yaml: &Path,
        described: DataYaml,
    ) -> Result<Self, DataError> {
        let base = root.join(described.path.as_deref().unwrap_or_default());
        let mut reason = yaml.file_name().unwrap_or_default().display().to_string();
        let (mut splits, mut notes, mut unused) = (Vec::new(), Vec::new(), Vec::new());
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
                let direct = tried.clone().map(|(_, path)| path);
                // A single directory such as `images` could be that of another split.
                let moved = ends_below(root, &entry, 2).into_iter();
                let tried = tried.into_iter().chain(moved.map(|path| (root, path)));
                let found = FoundPath::first(tried, &|root, path| capitals.any(root, path))
                    .map(|found| found.only(root, &split.to_string(), &entry, &mut reason))
                    .transpose()
                    .map_err(|problem| DataError::labels(yaml, problem))?;
                match found {
                    Some(found) => {
                        notes.extend(moved_entry(yaml, split.names()[0], &entry, &found, &direct));
                        // Without the `.` of `path: .`, which every message would show.
                        places.push(found.components().collect());
                    }
                    // Exporters describe splits that they do not write.
                    None if split != Split::Train => {
                        reason += &format!("; its `{split}` ({entry}) is missing");
                        notes.extend(missing_val(yaml, split, split.names()[0], &entry));
                    }
                    None => {
                        let path = described.path.as_deref().unwrap_or_default();
                        let problem = missing_entry(split, &entry, path, &direct);
                        return Err(DataError::labels(yaml, problem));
                    }
                }
            }
            if !places.is_empty() {
                splits.push((split, places));
            }
        }
        notes.extend(other_base(yaml, described.path.as_deref(), &base, &splits));
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
                unused.push(format!("its `{key}` ({place})"));
            }
        }
        if splits.is_empty() {
            let found = UsualSplits::find(root, &DirectoryListing::of(root));
            splits = found.splits;
            notes.extend(found.notes);
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
            keypoints: described.keypoints,
            splits,
            reason,
            unused,
            notes,
        })
    }
}

/// Returns the list of class names directly in a directory.
pub(super) fn name_list(directory: &Path) -> Option<PathBuf> {
    let names = NAME_LISTS.iter().chain(&["predefined_classes.txt"]);
    let mut lists = names.map(|list| directory.join(list));
    lists.find(|path| path.is_file())
}

/// Returns the only further list of class names in a directory, or one of several with the same names.
///
/// # Errors
/// There are several, and none says which is followed.
fn only_further_list(root: &Path) -> Result<Option<PathBuf>, DataError> {
    let notes = Some(root.join(LABEL_STUDIO_NOTES)).filter(|path| path.is_file());
    let lists = further_lists(root).into_iter().chain(notes);
    let read = lists.filter_map(|path| {
        let list = ClassList::read(&path).ok()?;
        list.may_be_names().then_some((list.names, path))
    });
    let mut lists: Vec<(Vec<String>, PathBuf)> = read.collect();
    // Another with fewer or other names decides as much as the first.
    if lists.iter().any(|(names, _)| *names != lists[0].0) {
        let files = join(
            lists
                .iter()
                .map(|(_, path)| path.file_name().unwrap_or_default().display()),
        );
        let problem = format!(
            "YOLO labels with several lists of different class names ({files}); the one that is followed is called classes.txt"
        );
        return Err(DataError::labels(root, problem));
    }
    lists.truncate(1);
    Ok(lists.pop().map(|(_, path)| path))
}

/// Returns the descriptions of a dataset, or lists of its classes, in the directory around it and in those within it: `cfg/data.yaml`.
fn descriptions_elsewhere(root: &Path, listing: &DirectoryListing) -> Vec<PathBuf> {
    /// A directory with more has one for each video.
    const DIRECTORIES: usize = 50;
    let inner = listing.directories.iter().take(DIRECTORIES);
    let inner = inner.map(|name| root.join(name));
    let places = root
        .parent()
        .map(Path::to_path_buf)
        .into_iter()
        .chain(inner);
    let described = places.flat_map(|place| {
        let listing = DirectoryListing::of(&place);
        let files = listing.files_with("yaml").chain(listing.files_with("yml"));
        let is_description = |path: &PathBuf| {
            let text = read_text(path).unwrap_or_default();
            matches!(DataYaml::parse(&text, path), Ok(Some(_)))
        };
        files.filter(is_description).collect::<Vec<_>>()
    });
    described.collect()
}

/// Returns the note on images that are not at the place of an entry of a description, `direct`, but at the end of its path
/// below the dataset: another copy of the dataset may be meant.
fn moved_entry(
    description: &Path,
    key: &str,
    entry: &str,
    used: &Path,
    direct: &[PathBuf],
) -> Option<String> {
    let parts = |path: &Path| -> PathBuf {
        let path = path.to_string_lossy().to_lowercase();
        Path::new(&path).components().collect()
    };
    if direct.iter().any(|path| parts(path) == parts(used)) {
        return None;
    }
    let name = description.file_name().unwrap_or_default().display();
    Some(format!(
        "`{key}` of {name} is `{}`, which does not exist: {} is used",
        printable(entry),
        used.display()
    ))
}

/// Describes an entry of a description whose images are neither below its `path` nor beside it, where `direct` are the
/// places in this order.
fn missing_entry(split: Split, entry: &str, path: &str, direct: &[PathBuf; 3]) -> String {
    let [below_path, beside, _] = direct;
    let entry = printable(entry);
    if below_path == beside {
        return format!(
            "`{split}` is `{entry}`, but {} is missing",
            beside.display()
        );
    }
    format!(
        "`{split}` is `{entry}` and `path` is `{}`, but neither {} nor {} exists",
        printable(path),
        below_path.display(),
        beside.display()
    )
}

/// Returns the note on images that are not where `path` of a description leads: another copy of the dataset may be there.
fn other_base(
    description: &Path,
    path: Option<&str>,
    base: &Path,
    splits: &[(Split, Vec<PathBuf>)],
) -> Option<String> {
    let path = path.filter(|path| !path.is_empty())?;
    let is_there = |place: &&PathBuf| !place.starts_with(base.components().collect::<PathBuf>());
    let mut places = splits.iter().flat_map(|(_, places)| places);
    let used = places.find(is_there)?.display();
    let name = description.file_name().unwrap_or_default().display();
    let problem = if base.is_dir() {
        "where these images are not"
    } else {
        "which does not exist"
    };
    Some(format!(
        "`path` of {name} is `{}`, {problem}: {used} is used",
        printable(path)
    ))
}

/// Returns the note on validation images that a description names and that do not exist: training holds out others.
fn missing_val(description: &Path, split: Split, key: &str, entry: &str) -> Option<String> {
    let name = description.file_name().unwrap_or_default().display();
    (split == Split::Val).then(|| {
        format!("`{key}` of {name} is `{entry}`, which does not exist: there are no val images")
    })
}

/// Returns whether a file names the images of the splits, as `data.yaml` and darknet's `obj.data` do.
pub(super) fn is_description(path: &Path) -> bool {
    is_yaml(path) || has_extension(path, "data")
}

pub(super) fn is_yaml(path: &Path) -> bool {
    has_extension(path, "yaml") || has_extension(path, "yml")
}

/// A `data.yaml` that describes a dataset, and the names of others that do.
pub(super) type ChosenYaml = (PathBuf, DataYaml, Vec<String>);

/// Returns the YAML file that describes a directory: `data.yaml` or `dataset.yaml` if there are several.
pub(super) fn chosen_yaml(
    root: &Path,
    listing: &DirectoryListing,
) -> Result<Option<ChosenYaml>, DataError> {
    let rank = |path: &Path| {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        ["data", "dataset"]
            .iter()
            .position(|name| stem == *name)
            .unwrap_or(2)
    };
    let files = listing.files_with("yaml").chain(listing.files_with("yml"));
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
            let problem = format!("several files describe a dataset ({found})");
            return Err(DataError::labels(root, problem).with(Remedy::GiveOneFile));
        }
        others.push(name(&other));
    }
    Ok(Some((path, yaml, others)))
}

/// Returns a file that looks like the labels of an image: named after it, with lines of numbers.
pub(super) fn first_label(
    root: &Path,
    labels: Option<&Path>,
    splits: &[(Split, Vec<PathBuf>)],
) -> Option<PathBuf> {
    if let Some(labels) = labels {
        let files = files_with_extension(labels, "txt").unwrap_or_default();
        let files = files
            .iter()
            .take(TRIED)
            .map(|found| labels.join(found.path()));
        if let Some(found) = files.into_iter().find(|path| is_label(path)) {
            return Some(found);
        }
    }
    let places = splits.iter().flat_map(|(_, places)| places);
    let mut places = places
        .map(PathBuf::as_path)
        .chain([root])
        .filter(|path| path.is_dir());
    places.find_map(|place| first_label_of(root, place))
}

/// The first files of each directory are inspected.
const TRIED: usize = 20;

pub(super) fn is_label(path: &Path) -> bool {
    looks_like_labels(&read_text(path).unwrap_or_default())
}

/// Returns a directory and those below it.
fn directories_within(directory: &Path) -> Vec<PathBuf> {
    /// Directories of directories of videos have no deeper ones.
    const DEPTH: usize = 4;
    let mut all = vec![directory.to_owned()];
    let mut level = 0..1;
    for _ in 0..DEPTH {
        for at in level.clone() {
            let listing = DirectoryListing::of(&all[at]);
            let inner = listing.directories.into_iter();
            let inner: Vec<PathBuf> = inner.map(|name| all[at].join(name)).collect();
            all.extend(inner);
        }
        level = level.end..all.len();
    }
    all
}

/// Returns a label file of a directory, or of one of its splits, in which there are no images.
fn labels_without_images(root: &Path, listing: &DirectoryListing) -> Option<PathBuf> {
    let inner = Split::ALL.map(|split| listing.split_directory(split));
    let of_splits = inner.into_iter().flatten();
    let of_splits = of_splits.filter_map(|path| DirectoryListing::of(&path).directory(&["labels"]));
    let mut all = listing
        .directory(&["labels"])
        .into_iter()
        .chain(of_splits.collect::<Vec<_>>());
    all.find_map(|labels| first_label(root, Some(&labels), &[]))
}

/// Returns whether the first line of a file is that of a box or an outline.
pub(super) fn looks_like_labels(text: &str) -> bool {
    let line = text.lines().find(|line| !line.trim().is_empty());
    let words = line.unwrap_or_default().split_whitespace();
    let numbers: Option<Vec<f64>> = words.map(|word| word.parse().ok()).collect();
    numbers.is_some_and(|numbers| numbers.len() >= 5)
}
