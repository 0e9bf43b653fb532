//! Splits, the names of their directories, and the reasons why no dataset was found.
//!
//! This module is below the formats: an error has the names of formats, not the formats.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A part of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Training.
    Train,
    /// Validation, measured during development.
    Val,
    /// Testing, measured at the end.
    Test,
}

impl Split {
    /// All splits, in the usual order.
    pub const ALL: [Self; 3] = [Self::Train, Self::Val, Self::Test];

    /// Returns the names used in files and directories; the first is the one that sedet writes.
    pub(crate) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Train => &["train", "training"],
            Self::Val => &["val", "valid", "validation"],
            Self::Test => &["test", "testing"],
        }
    }

    /// Returns the split that a file or directory is named after, in any capitals.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        let name = name.to_lowercase();
        let mut splits = Self::ALL.into_iter();
        splits.find(|split| split.names().contains(&name.as_str()))
    }

    /// Returns the only split that is a word of a name: train for `instances_train2017` and
    /// `Train-labels`.
    pub(crate) fn in_name(name: &str) -> Option<Self> {
        let words = name.split(|character: char| !character.is_alphanumeric());
        let mut found = words
            .filter_map(|word| Self::of_name(word.trim_end_matches(|c: char| c.is_ascii_digit())));
        let first = found.next()?;
        found.all(|other| other == first).then_some(first)
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.names()[0])
    }
}

impl FromStr for Split {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|split| split.to_string() == name)
            .ok_or_else(|| "not train, val or test".to_string())
    }
}

/// Returns whether a directory has a name that datasets give to splits, images or annotations, in any
/// capitals. Such a directory is never a class.
pub(crate) fn is_reserved_name(name: &str) -> bool {
    const PARTS: [&str; 4] = ["images", "labels", "masks", "annotations"];
    Split::of_name(name).is_some() || PARTS.contains(&name.to_lowercase().as_str())
}

/// The content of a directory with a name such as `train_set`, `images2` or `obj_valid_data` contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum PartKind {
    Train,
    Val,
    Test,
    Images,
    Masks,
    Annotations,
}

/// The part of a dataset that the words of a directory's name denote.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PartName {
    kind: PartKind,
    /// The name without the word of the split: equal for `seg_train` and `seg_test`.
    rest: String,
    /// Whether all words are names of parts: `train_images`, but not `freight_train`.
    is_whole: bool,
}

impl PartName {
    /// Reads a name; None if no word is that of a part.
    fn of(name: &str) -> Option<Self> {
        let lower = name.to_lowercase();
        let mut kinds = Vec::new();
        let (mut rest, mut is_whole) = (Vec::new(), true);
        for word in words_of(&lower) {
            let kind = part_of_word(word);
            let is_split = matches!(kind, Some(PartKind::Train | PartKind::Val | PartKind::Test));
            if !is_split {
                rest.push(word);
            }
            is_whole &= kind.is_some() || is_filler(word);
            kinds.extend(kind);
        }
        // `test-dev` is a part of test.
        if kinds.contains(&PartKind::Test) && words_of(&lower).any(|word| word == "dev") {
            kinds.retain(|kind| *kind != PartKind::Val);
        }
        // The split is more specific than the kind of files: `train_images` is of train.
        let kind = kinds.into_iter().min()?;
        Some(Self {
            kind,
            rest: rest.join(" "),
            is_whole,
        })
    }
}

fn words_of(name: &str) -> impl Iterator<Item = &str> {
    let words = name.split(|character: char| !character.is_alphanumeric());
    words.filter(|word| !word.is_empty())
}

/// Returns whether a word does not describe the contents of a directory: `set`, `data`, a number.
fn is_filler(word: &str) -> bool {
    matches!(word, "set" | "split" | "data" | "obj" | "part")
        || word.chars().all(|character| character.is_ascii_digit())
}

/// Returns the part that a word denotes: train for `training`, `trainset` and `train2017`.
fn part_of_word(word: &str) -> Option<PartKind> {
    let word = word.trim_matches(|character: char| character.is_ascii_digit());
    let cut = ["set", "split"].into_iter().find_map(|affix| {
        word.strip_suffix(affix)
            .or_else(|| word.strip_prefix(affix))
    });
    let word = cut.filter(|word| !word.is_empty()).unwrap_or(word);
    Some(match word {
        "train" | "training" | "trainval" => PartKind::Train,
        "val" | "valid" | "validation" | "validate" | "eval" | "evaluation" | "dev" => {
            PartKind::Val
        }
        "test" | "testing" => PartKind::Test,
        "images" | "image" | "imgs" | "img" | "jpegimages" => PartKind::Images,
        "masks" | "mask" => PartKind::Masks,
        "labels" | "label" | "lbls" | "lbl" | "annotations" | "annotation" | "labeltxt" => {
            PartKind::Annotations
        }
        _ => return None,
    })
}

/// Returns whether the directories beside each other are splits, images or annotations of one dataset
/// instead of classes.
///
/// A name decides nothing on its own: `test_tube` may be a class, and so may `with_mask` and
/// `without_mask`. They are parts if all names are those of parts, of different ones, or if two differ by
/// the name of the split only: `seg_train` and `seg_test`.
pub(crate) fn are_parts(names: &[String]) -> bool {
    let parts: Vec<PartName> = names.iter().filter_map(|name| PartName::of(name)).collect();
    let Some(first) = parts.first() else {
        return false;
    };
    let are_different = parts.iter().any(|part| part.kind != first.kind);
    let are_whole = parts.iter().all(|part| part.is_whole);
    if parts.len() == names.len() && (are_different || are_whole) {
        return true;
    }
    let of_train = parts.iter().filter(|part| part.kind == PartKind::Train);
    let mut others = of_train.flat_map(|train| parts.iter().map(move |other| (train, other)));
    others.any(|(train, other)| {
        matches!(other.kind, PartKind::Val | PartKind::Test) && train.rest == other.rest
    })
}

/// Returns the only one of the names that denotes a split: `training_set` for train.
pub(crate) fn only_part_of(names: &[String], split: Split) -> Option<&str> {
    let mut found = names
        .iter()
        .filter(|name| PartName::of(name).is_some_and(|part| part.kind.split() == Some(split)));
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

impl PartKind {
    fn split(self) -> Option<Split> {
        match self {
            Self::Train => Some(Split::Train),
            Self::Val => Some(Split::Val),
            Self::Test => Some(Split::Test),
            Self::Images | Self::Masks | Self::Annotations => None,
        }
    }
}

/// The split that the name of a directory denotes, beside the names of those around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NamedSplit {
    /// `train2017`, `val_set`; `DET-train` beside `DET-val`, `trainA` beside `valA`.
    Split(Split),
    /// The name of a split is a part of another name, such as `test_track`.
    Unclear(Split),
    /// None.
    None,
}

/// Returns the split of each of the directories beside each other.
pub(crate) fn splits_of_names(names: &[String]) -> Vec<NamedSplit> {
    let parts: Vec<Option<(Split, String, bool)>> = names
        .iter()
        .map(|name| {
            let of_words = PartName::of(name).and_then(|part| {
                let split = part.kind.split()?;
                Some((split, part.rest, part.is_whole))
            });
            of_words.or_else(|| {
                let (split, rest) = split_before_capital(name)?;
                Some((split, rest.to_lowercase(), false))
            })
        })
        .collect();
    let parts = match abbreviations_of(names) {
        Some(splits) => {
            let splits = splits.into_iter();
            splits
                .map(|split| Some((split?, String::new(), true)))
                .collect()
        }
        None => parts,
    };
    // Names that differ by the split only: the others with the word of a split are of this kind, too.
    let mut known = parts.iter().flatten();
    let is_scheme = known.any(|(split, rest, is_whole)| {
        let mut others = parts.iter().flatten();
        !is_whole && others.any(|(other, of_other, _)| other != split && of_other == rest)
    });
    parts
        .into_iter()
        .map(|part| match part {
            Some((split, _, true)) => NamedSplit::Split(split),
            Some((split, ..)) if is_scheme => NamedSplit::Split(split),
            Some((split, ..)) => NamedSplit::Unclear(split),
            None => NamedSplit::None,
        })
        .collect()
}

/// Returns the splits of names beside each other that abbreviate them: `tr`, `va` and `te`. One alone may be anything, and
/// among others `tr` may be a language.
fn abbreviations_of(names: &[String]) -> Option<Vec<Option<Split>>> {
    let split_of = |name: &String| match name.to_lowercase().as_str() {
        "tr" | "trn" | "tra" => Some(Split::Train),
        "va" | "vl" => Some(Split::Val),
        "te" | "ts" | "tst" => Some(Split::Test),
        name => Split::of_name(name),
    };
    let splits: Vec<Option<Split>> = names.iter().map(split_of).collect();
    let distinct: HashSet<Split> = splits.iter().flatten().copied().collect();
    let is_complete = distinct.contains(&Split::Train) && distinct.len() > 1;
    let has_each_once = splits.iter().flatten().count() == distinct.len();
    let mut pairs = names.iter().zip(&splits);
    let is_abbreviated = pairs
        .clone()
        .any(|(name, split)| split.is_some() && Split::of_name(name).is_none());
    let are_all = pairs.all(|(name, split)| split.is_some() || PartName::of(name).is_some());
    (is_complete && has_each_once && is_abbreviated && are_all).then_some(splits)
}

/// Returns the name that abbreviates a split beside abbreviations of the others.
pub(crate) fn abbreviated_split(names: &[String], split: Split) -> Option<&str> {
    let splits = abbreviations_of(names)?;
    let mut pairs = names.iter().zip(splits);
    let (name, _) = pairs.find(|(_, of)| *of == Some(split))?;
    Some(name)
}

/// Divides a name such as `trainA` into the split and the rest.
fn split_before_capital(name: &str) -> Option<(Split, &str)> {
    let mut all = Split::ALL.into_iter();
    all.find_map(|split| {
        let mut names = split.names().iter();
        names.find_map(|prefix| {
            let rest = name.strip_prefix(prefix)?;
            let is_word = rest.chars().next().is_some_and(char::is_uppercase);
            is_word.then_some((split, rest))
        })
    })
}

/// The reason why no validation images can be held out of a split.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotHoldOut {
    /// There is only one image.
    #[error("one image cannot be split into train and val")]
    OneImage,
    /// There are boxes on one image only.
    #[error(
        "only {image} of {} has boxes{}, but train and val both need some", crate::text::count(*images, "image"),
        copies_of(*copies)
    )]
    OneAnnotated {
        /// The image's file name.
        image: String,
        /// The number of its copies, which stay on one side.
        copies: usize,
        /// The number of all images.
        images: usize,
    },
    /// The annotations are of few images, and directories of classes have more.
    #[error(
        "{why} (read as {annotations} of {}; directories of classes have {}: {classes}; without the annotations, they \
         are a dataset for a classifier)",
        crate::text::count(*annotated, "image"), crate::text::count(*images, "image")
    )]
    BesideClasses {
        /// Why the annotated images cannot be divided.
        why: Box<Self>,
        /// The format of the annotations and the files by which it was recognized.
        annotations: String,
        /// The number of annotated images.
        annotated: usize,
        /// The names of the first classes.
        classes: String,
        /// The number of their images.
        images: usize,
    },
    /// Images that can be used are too few.
    #[error("{why} ({skipped})")]
    AfterSkipping {
        /// Why the others cannot be divided.
        why: Box<Self>,
        /// Which were skipped.
        skipped: String,
    },
}

fn copies_of(copies: usize) -> String {
    match copies {
        0 => String::new(),
        _ => format!(" (with {})", crate::text::count(copies, "copy")),
    }
}

/// The reason why no dataset was found in a directory.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The directory does not exist.
    #[error("{}: no such directory", root.display())]
    NoDirectory {
        /// The directory.
        root: PathBuf,
    },
    /// No format recognizes the directory or file.
    #[error("{}: no annotations in a known format{found}; expected one of {expected}", root.display())]
    Unrecognized {
        /// The directory or file.
        root: PathBuf,
        /// What the directory contains instead, in parentheses, or nothing.
        found: String,
        /// The known formats with their files.
        expected: String,
    },
    /// No format recognizes the directory, and its classes are further below.
    #[error(
        "{}: no annotations in a known format, and no directories of classes; these are in {}{}",
        root.display(), join(directories.iter().map(|path| path.display())), not_used(unused)
    )]
    ClassesBelow {
        /// The directory.
        root: PathBuf,
        /// The directories of classes that are below it.
        directories: Vec<PathBuf>,
        /// Lists of their splits and boxes of their images, which are not used.
        unused: Vec<String>,
    },
    /// The directory or file is not in the requested format.
    #[error("{}: no {format} annotations; expected {files}", root.display())]
    NotInFormat {
        /// The directory or file.
        root: PathBuf,
        /// The name of the format.
        format: &'static str,
        /// The files by which the format is recognized.
        files: String,
    },
    /// The annotations are in a format that is known and not read.
    #[error("{}: {name} annotations, which sedet does not read", file.display())]
    UnreadFormat {
        /// A file of the annotations.
        file: PathBuf,
        /// The name of the format.
        name: &'static str,
        /// What the program that wrote them can write instead.
        instead: &'static str,
    },
    /// Annotations in a format that needs a further file.
    #[error("{}: {problem}; {missing} is missing in {}", file.display(), root.display())]
    Incomplete {
        /// The dataset's directory.
        root: PathBuf,
        /// A file of the annotations.
        file: PathBuf,
        /// What the annotations lack.
        problem: &'static str,
        /// The files of which one has to be there.
        missing: &'static str,
        /// How such a file is written.
        remedy: &'static str,
    },
    /// Several subdirectories are datasets.
    #[error("{}: several datasets: {}", root.display(), datasets.join(", "))]
    Several {
        /// The directory.
        root: PathBuf,
        /// The subdirectories.
        datasets: Vec<String>,
    },
    /// One of several subdirectories with images is a dataset.
    #[error("{}: {dataset} is a dataset, and there are images without annotations in {images}", root.display())]
    OneOfSeveral {
        /// The directory.
        root: PathBuf,
        /// The subdirectory with annotations.
        dataset: String,
        /// The other subdirectories.
        images: String,
    },
    /// COCO 2017 has no annotations of the test split.
    #[error("{}: no test annotations; the annotations of COCO's test images are not public", root.display())]
    NoTestAnnotations {
        /// The dataset's directory.
        root: PathBuf,
    },
    /// No validation annotations, and no images can be held out of train in their place.
    #[error("{}: no {} annotations, and {why}", root.display(), Split::Val)]
    CannotHoldOut {
        /// The dataset's directory.
        root: PathBuf,
        /// Why the images cannot be divided.
        why: CannotHoldOut,
    },
    /// The dataset has other splits.
    #[error(
        "{}: no {split} annotations; the {format} directory contains {}{}",
        root.display(), join(found.iter()), not_used(unused)
    )]
    NoSplit {
        /// The dataset's directory.
        root: PathBuf,
        /// The name of its format.
        format: &'static str,
        /// The split.
        split: Split,
        /// The splits that exist.
        found: Vec<Split>,
        /// Descriptions of annotations that are not used, because they name no split or one that has others.
        unused: Vec<String>,
    },
    /// Several annotation files of the split.
    #[error("{}: several {split} annotations ({found})", root.display())]
    Ambiguous {
        /// The dataset's directory.
        root: PathBuf,
        /// The split.
        split: Split,
        /// The files.
        found: String,
    },
    /// No directory contains the images.
    #[error("{}: images not found; expected `{image}` in {expected_in}", annotations.display())]
    NoImageFiles {
        /// The annotation file.
        annotations: PathBuf,
        /// The first image's file name.
        image: Box<str>,
        /// The inspected directories that exist, and an image that exists instead.
        expected_in: Box<str>,
        /// Whether an image exists instead.
        is_renamed: bool,
    },
    /// The annotation file lists no images.
    #[error("{}: lists no images", annotations.display())]
    NoImages {
        /// The annotation file.
        annotations: PathBuf,
    },
    /// A file or directory of COCO 2017 is missing.
    #[error("{}: not COCO 2017, {missing} is missing", root.display())]
    NotCoco {
        /// The dataset's directory.
        root: PathBuf,
        /// What is missing, relative to the directory.
        missing: String,
    },
}

/// Completes a message with what is not used: `; not used: labels.csv`.
pub(crate) fn not_used(unused: &[String]) -> String {
    if unused.is_empty() {
        return String::new();
    }
    format!("; not used: {}", unused.join(", "))
}

/// Joins strings with commas.
pub(crate) fn join(parts: impl Iterator<Item = impl fmt::Display>) -> String {
    parts
        .map(|part| part.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abbreviations_of_all_splits_denote_them_and_among_other_names_nothing() {
        use NamedSplit::{None, Split as Of};
        use Split::{Test, Train, Val};
        let splits = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            splits_of_names(&names)
        };
        assert_eq!(splits(&["tr", "va", "te"]), [Of(Train), Of(Val), Of(Test)]);
        assert_eq!(
            splits(&["trn", "tst", "labels"]),
            [Of(Train), Of(Test), None]
        );
        assert_eq!(splits(&["tr", "val"]), [Of(Train), Of(Val)]);
        for names in [
            &["tr", "te", "en"][..],
            &["tr", "a"],
            &["te", "va"],
            &["tr", "trn", "te"],
        ] {
            assert_eq!(splits(names), vec![None; names.len()], "{names:?}");
        }
    }

    #[test]
    fn the_names_beside_each_other_decide_whether_directories_are_parts_or_classes() {
        let decided = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            are_parts(&names)
        };
        for names in [
            &["trainsplit", "testsplit"][..],
            &["train2017", "val2017", "annotations"],
            &["train1", "val1"],
            &["Train_Set", "Valid_Set"],
            &["obj_train_data", "obj_valid_data"],
            &["images_train", "images_val"],
            &["train_images", "test_images"],
            &["VisDrone2019-DET-train", "VisDrone2019-DET-val"],
            &["training_set", "test_set"],
            &["seg_train", "seg_test", "seg_pred"],
            &["dev", "trainval"],
            &["eval", "validate"],
            &["img", "mask"],
            &["imgs", "lbls"],
            &["image_2", "image_3", "label_2"],
        ] {
            assert!(decided(names), "{names:?}");
        }
        for names in [
            &["cat", "dog"][..],
            &["test_tube", "beaker", "flask", "funnel"],
            &["train", "bus", "car"],
            &["express_train", "test_tube", "image_frame", "cat"],
            &["with_mask", "without_mask"],
            &["mask", "no_mask"],
            &["real_images", "fake_images"],
            &["freight_train", "passenger_train"],
            &["settee", "settrain_x", "splitter"],
            &[],
        ] {
            assert!(!decided(names), "{names:?}");
        }
    }
}
