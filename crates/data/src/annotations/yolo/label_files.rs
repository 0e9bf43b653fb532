//! The label files of images: where they are, which of several copies counts, and their boxes.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::path::{Component, Display, Path, PathBuf};

use rayon::prelude::*;

use super::directory::{YoloDirectory, looks_like_labels};
use super::line::{LineProblem, YoloBox, parse_box, parse_pose};
use crate::DataError;
use crate::annotations::copies::are_same_but_for_rounding;
use crate::annotations::file_names::{AnyCapitals, FileMatch, file_names};
use crate::annotations::format::without_extension;
use crate::boxes::ImageSize;
use crate::directory::dangling_link;
use crate::text::count;
use crate::text_file::{lines, read_text};

/// Returns the path of the label file of a written image.
pub(super) fn label_path(image_path: &str) -> String {
    let stem = without_extension(image_path);
    let within = stem.strip_prefix("images/").unwrap_or(stem);
    format!("labels/{within}.txt")
}

/// The names of directories of images, in any capitals.
pub(super) const IMAGES: [&str; 3] = ["images", "imgs", "JPEGImages"];

/// The position of the label file of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LabelPlace {
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
    /// In `labels` beside the image.
    WithinImages,
}

impl LabelPlace {
    pub(super) const ALL: [Self; 6] = [
        Self::ForLastImages,
        Self::ForFirstImages,
        Self::Beside,
        Self::BelowLabels,
        Self::InLabels,
        Self::WithinImages,
    ];

    /// Returns the place where most of the images have a label file; the first on ties. Names in other capitals
    /// count if there are no others.
    pub(super) fn of(root: &Path, images: &[PathBuf], capitals: &AnyCapitals) -> Self {
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
    pub(super) fn path(self, root: &Path, image: &Path) -> PathBuf {
        let (root, within) = match image.strip_prefix(root) {
            Ok(within) => (root, within),
            Err(_) => (Path::new(""), image),
        };
        let mut parts: Vec<_> = within.components().collect();
        let directories = parts.len().saturating_sub(1);
        let is_images = |part: &Component| {
            let name = part.as_os_str();
            IMAGES
                .iter()
                .any(|images| name.eq_ignore_ascii_case(images))
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
            Self::WithinImages => {
                let name = image.file_name().unwrap_or_default();
                let around = image.parent().unwrap_or(root);
                return around.join("labels").join(name).with_extension("txt");
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

    /// Returns the directories that may have the label files of the images of a directory.
    pub(super) fn directories(root: &Path, images: &Path) -> Vec<PathBuf> {
        let image = images.join("image");
        let paths = Self::ALL.map(|place| place.path(root, &image));
        let directories = paths.iter().filter_map(|path| path.parent());
        directories.map(Path::to_owned).collect()
    }

    /// Describes a place that other programs would not look in; None for the usual one.
    pub(super) fn note(self) -> Option<String> {
        let place = match self {
            Self::ForLastImages => return None,
            Self::ForFirstImages => "in labels/ for the first directory images/",
            Self::Beside => "beside the images",
            Self::WithinImages => "in labels/ beside the images",
            Self::BelowLabels | Self::InLabels => "below labels/",
        };
        Some(format!("label files were found {place}"))
    }
}

/// The label files of images.
pub(super) struct LabelFiles {
    /// The file of each image; where there is none, the path where it was expected.
    pub(super) paths: Vec<PathBuf>,
    /// The files that an image without an exact one may have, by the path of the image.
    pub(super) several: HashMap<PathBuf, Vec<PathBuf>>,
    /// Files beside that of an image that differ from it in capitals only and belong to no other image, by the file
    /// of the image.
    pub(super) twins: HashMap<PathBuf, Vec<PathBuf>>,
    /// The number of files whose names differ from those of their images in capitals, with an example.
    pub(super) note: Option<String>,
}

impl LabelFiles {
    /// Finds the label files in a place. A file in other capitals is used if it is not that of another image.
    pub(super) fn find(
        root: &Path,
        place: LabelPlace,
        images: &[PathBuf],
        capitals: &AnyCapitals,
    ) -> Self {
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
                    if !differ_in_labels_only(path, only) {
                        number += 1;
                        example.get_or_insert_with(|| (image, only.clone()));
                    }
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

    pub(super) fn twins_of(&self, label_file: &Path) -> &[PathBuf] {
        self.twins.get(label_file).map_or(&[], Vec::as_slice)
    }
}

/// Returns whether two paths differ in the capitals of the directory `labels` only.
fn differ_in_labels_only(a: &Path, b: &Path) -> bool {
    let is_labels = |name: &OsStr| name.eq_ignore_ascii_case("labels");
    a.iter()
        .zip(b)
        .all(|(a, b)| a == b || is_labels(a) && is_labels(b))
}

/// Looks for the label file of an image.
pub(super) fn look_for_label(
    root: &Path,
    image: &Path,
    expected: &Path,
    capitals: &AnyCapitals,
) -> FileMatch {
    let base = if expected.starts_with(root) {
        Some(root)
    } else {
        image.parent()
    };
    base.map_or(FileMatch::Missing, |base| capitals.file(base, expected))
}

pub(super) fn label_file_is_unclear(expected: &Path, several: &[PathBuf]) -> DataError {
    let problem = format!(
        "no such label file; {} differ from it in capitals only",
        file_names(several)
    );
    DataError::contradiction(expected, problem)
}

/// The label file of an image, to be compared with others of the same image.
pub(super) struct LabelCopies<'a> {
    pub(super) directory: &'a YoloDirectory,
    /// The size of the image, if it is known.
    pub(super) size: Option<ImageSize>,
    /// The path of the label file, which need not exist.
    pub(super) chosen: &'a Path,
    /// Its lines.
    pub(super) found: Option<&'a [Result<YoloBox, DataError>]>,
}

/// Other label files of an image with the same boxes.
#[derive(Default)]
pub(super) struct SameLabels {
    /// Files in other places whose boxes differ by rounding.
    pub(super) rounded: Vec<PathBuf>,
    /// Files that differ in the capitals of their name only.
    pub(super) twins: Vec<PathBuf>,
}

impl LabelCopies<'_> {
    /// Compares with the label files of the image in other places, and with `twins`.
    ///
    /// # Errors
    /// One has other boxes, or there is one in another place only.
    pub(super) fn compare(&self, image: &Path, twins: &[PathBuf]) -> Result<SameLabels, DataError> {
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

    pub(super) fn contradiction(&self, other: &Path) -> DataError {
        let problem = format!("the same image has other boxes in {}", other.display());
        DataError::contradiction(self.chosen, problem)
    }

    /// Compares the boxes with those of another file, whose content is `text`.
    pub(super) fn is_same(&self, other: &Path, text: &str) -> Same {
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

/// The agreement of two label files.
pub(super) enum Same {
    /// Line by line.
    Text,
    /// But for rounding.
    Boxes,
    No,
}

/// A number of pairs of label files, and the first pair.
#[derive(Default)]
pub(super) struct CountedPair {
    pub(super) number: usize,
    pub(super) first: Option<(PathBuf, PathBuf)>,
}

impl CountedPair {
    pub(super) fn add(&mut self, used: &Path, other: &Path) {
        self.number += 1;
        self.first
            .get_or_insert_with(|| (used.to_owned(), other.to_owned()));
    }

    /// Formats the number and the first pair with a function, if there is one.
    pub(super) fn note(
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

impl YoloDirectory {
    /// Finds the label files of images.
    pub(super) fn label_files(&self, images: &[PathBuf]) -> (LabelPlace, LabelFiles) {
        let capitals = AnyCapitals::default();
        let place = LabelPlace::of(&self.root, images, &capitals);
        let labels = LabelFiles::find(&self.root, place, images, &capitals);
        (place, labels)
    }

    /// Reads a label file, each line independently; None if there is none.
    pub(super) fn read_lines(&self, path: &Path) -> Option<Vec<Result<YoloBox, DataError>>> {
        // A link to nothing is not the absence of a label file: the image has objects.
        if !path.exists() && dangling_link(path).is_none() {
            return None;
        }
        Some(match read_text(path) {
            Ok(text) => self.parse_lines(path, &text),
            Err(error) => vec![Err(error)],
        })
    }

    /// Parses the text of a label file; `path` is used in error messages only.
    pub(super) fn parse_lines(&self, path: &Path, text: &str) -> Vec<Result<YoloBox, DataError>> {
        let lines = (1..).zip(text.lines());
        let lines = lines.filter(|(_, line)| !line.trim().is_empty());
        let read = lines.map(|(number, line)| {
            self.parse_line(line)
                .map_err(|problem| DataError::labels(path, format!("line {number}: {problem}")))
        });
        read.collect()
    }

    pub(super) fn parse_line(&self, line: &str) -> Result<YoloBox, String> {
        let classes = self.names.len();
        let parsed = match self.keypoints {
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
