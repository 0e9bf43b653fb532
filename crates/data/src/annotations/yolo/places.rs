//! The images of each split where no file describes them.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::directory::name_list;
use super::label_files::IMAGES;
use super::labeled::{has_label, has_labeled_image};
use crate::annotations::image_files::{
    DirectoryListing, MAX_DEPTH, files_with_extension, first_few, holds_images,
    holds_images_directly,
};
use crate::annotations::layout::{NamedSplit, Split, splits_of_names};
use crate::annotations::numberings::numbered_images;
use crate::images::decode::has_image_extension;
use crate::text_file::read_text;

/// The directories and lists of images by the usual names, in any capitals.
#[derive(Debug, Default)]
pub(super) struct UsualSplits {
    pub(super) splits: Vec<(Split, Vec<PathBuf>)>,
    /// What was not taken, and what was assumed, one line each.
    pub(super) notes: Vec<String>,
    /// A directory whose split its name leaves open, beside one of another such split.
    pub(super) unclear: Option<PathBuf>,
}

impl UsualSplits {
    pub(super) fn find(root: &Path, listing: &DirectoryListing) -> Self {
        let mut found = Self::find_images(root, listing);
        if !found.splits.is_empty() {
            let names = Split::ALL.into_iter().flat_map(Split::names);
            let lists = names.map(|name| format!("{name}.txt"));
            let others = lists.filter(|name| {
                let path = root.join(name);
                path.is_file() && !is_image_list(&path)
            });
            let notes = others.map(|name| format!("{name} names no image files: it is not used"));
            found.notes.extend(notes);
            let others: Vec<String> = lists_elsewhere(root)
                .iter()
                .map(|path| path.strip_prefix(root).unwrap_or(path))
                .map(|path| path.display().to_string())
                .collect();
            let others = first_few(others.iter().map(String::as_str));
            found.notes.extend((!others.is_empty()).then(|| {
                format!(
                    "without a data.yaml that names them, lists of images are not used: {others}"
                )
            }));
        }
        found
    }

    fn find_images(root: &Path, listing: &DirectoryListing) -> Self {
        let images = listing.directory(&IMAGES);
        let in_images = images.as_ref().map(|path| DirectoryListing::of(path));
        let named = [
            by_name(root, listing, in_images.as_ref()),
            by_word(listing, in_images.as_ref()),
        ];
        let mut named = named.map(|splits| Self {
            splits,
            ..Self::default()
        });
        if let Some(found) = named.iter_mut().find(|found| found.has_train()) {
            let mut found = std::mem::take(found);
            found
                .notes
                .extend(in_images.and_then(|images| found.unlabeled_beside(root, &images)));
            return found;
        }
        // Classes have such directories, too, but no labels.
        let labeled = || {
            let is_result = |found: &Self| found.has_train() || found.unclear.is_some();
            let below = images.as_ref().map(|images| Self::of_labeled(root, images));
            let below = below.filter(is_result);
            let above = || name_list(root).map(|_| Self::of_labeled(root, root));
            below.or_else(above).filter(is_result)
        };
        if let Some(first) = named.into_iter().find(|found| !found.splits.is_empty()) {
            let of_first: Vec<Split> = first.splits.iter().map(|(split, _)| *split).collect();
            let has_all = |found: &Self| {
                let mut splits = of_first.iter();
                splits.all(|wanted| found.splits.iter().any(|(split, _)| split == wanted))
            };
            return labeled().filter(has_all).unwrap_or(first);
        }
        let list = root.join("images.txt");
        let places = [
            images.clone(),
            (is_image_list(&list) && numbered_images(&list).is_empty()).then_some(list),
            listing.directory(&["obj_train_data"]),
            listing.directory(&["data"]),
            Some(root.to_owned()),
        ];
        let mut places = places.into_iter().flatten();
        let place = places.find(|path| path.is_file() || holds_images_directly(path));
        match place {
            Some(place) => Self {
                splits: vec![(Split::Train, vec![place])],
                ..Self::default()
            },
            None => labeled().unwrap_or_default(),
        }
    }

    fn has_train(&self) -> bool {
        self.splits.iter().any(|(split, _)| *split == Split::Train)
    }

    /// Describes the directories beside those of the splits, in `images`, in which no image has a label.
    fn unlabeled_beside(&self, root: &Path, images: &DirectoryListing) -> Option<String> {
        let directories = images.directories.iter();
        let mut directories: Vec<PathBuf> = directories
            .filter_map(|name| images.directory(&[name]))
            .collect();
        directories.retain(|directory| {
            let mut places = self.splits.iter().flat_map(|(_, places)| places);
            holds_images_directly(directory)
                && !places.any(|place| place.starts_with(directory))
                && !self.is_used(directory)
                && !has_labeled_image(root, directory)
        });
        not_labeled(root, &directories)
    }

    fn is_used(&self, directory: &Path) -> bool {
        let mut places = self.splits.iter().flat_map(|(_, places)| places);
        places.any(|place| directory.starts_with(place))
    }

    /// Finds the directories within one whose images have labels, and their splits by the names of the directories, from the
    /// outermost on. Those without a split are of train if no other is.
    fn of_labeled(root: &Path, within: &Path) -> Self {
        let mut directories = ImageDirectories::default();
        directories.collect(root, within, 0);
        let ImageDirectories { labeled, others } = directories;
        let mut names = NamesAround::default();
        let (mut of_splits, mut rest, mut unclear) = (Vec::new(), Vec::new(), Vec::new());
        for directory in labeled {
            match names.split_of(root, &directory) {
                NamedSplit::Split(split) => of_splits.push((split, directory)),
                NamedSplit::Unclear(split) => {
                    unclear.push((split, directory.clone()));
                    rest.push(directory);
                }
                NamedSplit::None => rest.push(directory),
            }
        }
        let mut found = Self::default();
        if of_splits.is_empty()
            && let Some((first, path)) = unclear.first()
            && unclear.iter().any(|(split, _)| split != first)
        {
            found.unclear = Some(path.clone());
            return found;
        }
        // Images are looked for at any depth, so a directory around those of a split would have their images, too.
        rest.retain(|outer: &PathBuf| !of_splits.iter().any(|(_, place)| place.starts_with(outer)));
        let of_train = of_splits.iter().any(|(split, _)| *split == Split::Train);
        if !of_train && (!of_splits.is_empty() || !unclear.is_empty()) && !rest.is_empty() {
            let shown = shown_below(root, &rest);
            found.notes.push(format!(
                "the names of {shown} are those of no split: these images are of train"
            ));
        }
        for split in Split::ALL {
            let places = of_splits.iter().filter(|(of, _)| *of == split);
            let mut places: Vec<PathBuf> = places.map(|(_, path)| path.clone()).collect();
            if split == Split::Train && !of_train {
                places.append(&mut rest);
            }
            let places = outermost(places);
            if !places.is_empty() {
                found.splits.push((split, places));
            }
        }
        if found.splits.is_empty() {
            return found;
        }
        let mut unused = others;
        unused.retain(|directory| !found.is_used(directory));
        found.notes.extend(not_labeled(root, &unused));
        found
    }
}

/// Describes directories in which no image has a label.
fn not_labeled(root: &Path, directories: &[PathBuf]) -> Option<String> {
    (!directories.is_empty()).then(|| {
        let shown = shown_below(root, directories);
        format!("no image in {shown} has a label file: these images are not used")
    })
}

fn shown_below(root: &Path, directories: &[PathBuf]) -> String {
    let names = directories.iter();
    let names = names.map(|path| path.strip_prefix(root).unwrap_or(path).display());
    let names: Vec<String> = names.map(|name| name.to_string()).collect();
    first_few(names.iter().map(String::as_str))
}

/// The splits by the names of directories; those beside each other are read together.
#[derive(Default)]
struct NamesAround(HashMap<PathBuf, HashMap<String, NamedSplit>>);

impl NamesAround {
    /// Returns the split that the outermost name denotes, or one that is unclear.
    fn split_of(&mut self, root: &Path, directory: &Path) -> NamedSplit {
        let below = directory.strip_prefix(root).unwrap_or(directory);
        let mut around = root.to_owned();
        let mut last = NamedSplit::None;
        for name in below {
            let known = self.0.entry(around.clone()).or_insert_with(|| {
                let names = DirectoryListing::of(&around).directories;
                let splits = splits_of_names(&names);
                names.into_iter().zip(splits).collect()
            });
            match known.get(&*name.to_string_lossy()) {
                Some(found @ NamedSplit::Split(_)) => return *found,
                Some(found @ NamedSplit::Unclear(_)) => last = *found,
                _ => {}
            }
            around.push(name);
        }
        last
    }
}

/// Finds `images/SPLIT`, `SPLIT/images`, `SPLIT.txt` and `SPLIT`.
fn by_name(
    root: &Path,
    listing: &DirectoryListing,
    in_images: Option<&DirectoryListing>,
) -> Vec<(Split, Vec<PathBuf>)> {
    let mut splits = Vec::new();
    for split in Split::ALL {
        let own = listing.split_directory(split);
        let inner = own
            .as_ref()
            .and_then(|path| DirectoryListing::of(path).directory(&["images"]));
        let list = split
            .names()
            .iter()
            .map(|name| root.join(format!("{name}.txt")));
        let found = in_images
            .and_then(|images| images.split_directory(split))
            .or(inner)
            .or_else(|| list.into_iter().find(|path| is_image_list(path)))
            .or_else(|| own.filter(|path| holds_images_directly(path)));
        splits.extend(found.map(|path| (split, vec![path])));
    }
    splits
}

/// Finds the images of each split in directories that have the split as a word of their names: `images/train2017`,
/// `train_set/images`.
fn by_word(
    listing: &DirectoryListing,
    in_images: Option<&DirectoryListing>,
) -> Vec<(Split, Vec<PathBuf>)> {
    let of_split = |listing: &DirectoryListing, split| -> Vec<PathBuf> {
        let names = listing.directories.iter();
        let splits = splits_of_names(&listing.directories);
        let names = names
            .zip(splits)
            .filter(|(_, of)| *of == NamedSplit::Split(split));
        names
            .filter_map(|(name, _)| listing.directory(&[name]))
            .collect()
    };
    let find = |split| {
        let below = in_images.map(|images| of_split(images, split));
        let mut below = below.unwrap_or_default();
        below.retain(|path| holds_images(path));
        if below.is_empty() {
            let above = of_split(listing, split).into_iter();
            below = above
                .filter_map(|path| DirectoryListing::of(&path).directory(&["images"]))
                .collect();
        }
        below
    };
    let found = Split::ALL.into_iter().map(|split| (split, find(split)));
    found.filter(|(_, places)| !places.is_empty()).collect()
}

/// Returns whether a file lists images: its first line ends as the name of an image does.
fn is_image_list(path: &Path) -> bool {
    let text = path.is_file().then(|| read_text(path).unwrap_or_default());
    let text = text.unwrap_or_default();
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    // An empty list is reported when it is read.
    path.is_file() && line.is_none_or(|line| has_image_extension(Path::new(line)))
}

/// Returns the lists that are named after splits, in directories of lists.
fn lists_elsewhere(root: &Path) -> Vec<PathBuf> {
    const PLACES: [&str; 5] = ["splits", "split", "lists", "ImageSets", "sets"];
    let listing = DirectoryListing::of(root);
    let mut found = Vec::new();
    for directory in PLACES.iter().filter_map(|name| listing.directory(&[name])) {
        let files = files_with_extension(&directory, "txt").unwrap_or_default();
        let paths = files.iter().map(|file| directory.join(file.path()));
        let is_named = |path: &PathBuf| {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            Split::in_name(&stem).is_some()
        };
        found.extend(paths.filter(is_named));
    }
    found
}

/// Returns the lists of images that are named after splits beside a description that does not name them.
pub(super) fn lists_beside(root: &Path, splits: &[(Split, Vec<PathBuf>)]) -> Vec<String> {
    let used: BTreeSet<PathBuf> = splits
        .iter()
        .flat_map(|(_, places)| places)
        .filter_map(|place| place.canonicalize().ok())
        .collect();
    let is_used = |path: &PathBuf| path.canonicalize().is_ok_and(|path| used.contains(&path));
    let lists = known_lists(root, &[]).into_iter();
    let lists = lists.filter(|path| is_image_list(path) && !is_used(path));
    let shown = lists.map(|path| {
        let below = path.strip_prefix(root).unwrap_or(&path);
        below.display().to_string()
    });
    shown.collect()
}

/// Returns the lists of images of a directory that are used, or are described in a note.
pub(super) fn known_lists(root: &Path, splits: &[(Split, Vec<PathBuf>)]) -> Vec<PathBuf> {
    let used = splits.iter().flat_map(|(_, places)| places);
    let used = used.filter(|place| place.is_file()).cloned();
    let names = Split::ALL.into_iter().flat_map(Split::names);
    let named = names.map(|name| root.join(format!("{name}.txt")));
    used.chain(named).chain(lists_elsewhere(root)).collect()
}

/// The directories directly in which there are images.
#[derive(Default)]
struct ImageDirectories {
    /// Those with a labeled image.
    labeled: Vec<PathBuf>,
    others: Vec<PathBuf>,
}

impl ImageDirectories {
    /// Adds a directory and those below it.
    fn collect(&mut self, root: &Path, directory: &Path, depth: usize) {
        /// As many without labels before the first with one are those of classes.
        const MOST: usize = 2000;
        if self.labeled.is_empty() && self.others.len() >= MOST {
            return;
        }
        let listing = DirectoryListing::of(directory);
        if listing.images().next().is_some() {
            let list = if has_labeled_image(root, directory) {
                &mut self.labeled
            } else {
                &mut self.others
            };
            list.push(directory.to_owned());
        }
        if depth < MAX_DEPTH {
            for name in &listing.directories {
                self.collect(root, &directory.join(name), depth + 1);
            }
        }
    }
}

/// Returns the directories that are in no other of them: their images are found from above.
fn outermost(mut directories: Vec<PathBuf>) -> Vec<PathBuf> {
    // Paths are ordered by their parts, so those within a directory follow it.
    directories.sort();
    directories.dedup_by(|inner, outer| inner.starts_with(outer));
    directories
}

/// Returns whether the directories that hold the images are named after the classes: a dataset for classification.
pub(super) fn are_classes(names: &[String], root: &Path, splits: &[(Split, Vec<PathBuf>)]) -> bool {
    let listing = DirectoryListing::of(root);
    let of_splits = Split::ALL.map(|split| listing.split_directory(split));
    let places = splits.iter().flat_map(|(_, places)| places.clone());
    let mut around = listing
        .directory(&IMAGES)
        .into_iter()
        .chain(of_splits.into_iter().flatten())
        .chain(places.filter(|place| place.is_dir()));
    around.any(|directory| {
        let inner = DirectoryListing::of(&directory).directories;
        !inner.is_empty() && inner.iter().all(|name| is_class(names, name))
    })
}

/// Returns whether a directory has the name of a class.
fn is_class(names: &[String], directory: &str) -> bool {
    // A number before the class, which is no index, is a part of the name here.
    names.iter().any(|class| {
        directory.eq_ignore_ascii_case(class) || directory.eq_ignore_ascii_case(after_number(class))
    })
}

/// Returns the rest of a line of CUB-200's lists behind the number of the class or image: `rose/1.jpg` of `7 rose/1.jpg`.
fn after_number(line: &str) -> &str {
    let is_of_number = |byte: u8| byte.is_ascii_digit() || b".:".contains(&byte);
    match line.split_once(' ') {
        Some((number, rest)) if number.bytes().all(is_of_number) => rest.trim(),
        _ => line,
    }
}

/// Returns whether the images are those of lists only, none of them has a label file, and they are in several directories
/// that are named after the classes: a dataset for classification with lists of its images.
pub(super) fn are_lists_of_classes(
    names: &[String],
    root: &Path,
    splits: &[(Split, Vec<PathBuf>)],
) -> bool {
    /// The first images of each list are inspected.
    const TRIED: usize = 1000;
    let mut directories = BTreeSet::new();
    for place in splits.iter().flat_map(|(_, places)| places) {
        if !place.is_file() {
            return false;
        }
        let text = read_text(place).unwrap_or_default();
        let lines = text.lines().map(str::trim);
        let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
        // Lists are often sorted by class.
        for line in lines.iter().step_by(lines.len() / TRIED + 1) {
            let image = Path::new(after_number(line));
            let around = image.parent().and_then(Path::file_name);
            let around = around.unwrap_or_default().to_string_lossy().into_owned();
            if !is_class(names, &around) || has_label(root, &root.join(image)) {
                return false;
            }
            directories.insert(around);
        }
    }
    directories.len() > 1
}
