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
//! images (`images`, `JPEGImages`), beside the images, or in `labels/`. The location where most images of a
//! split have a label file is used for the whole split; if no image has any, that is an error. Names may differ
//! from those of the images in capitals.
//!
//! Files that contradict each other are errors: lists of class names with other names, label files of one image
//! in two locations with other boxes, one label file for two images.
//!
//! With `kpt_shape` in `data.yaml`, a line is a box followed by keypoints, which are dropped.

mod class_names;
mod directory;
mod images;
mod label_files;
mod labeled;
mod line;
mod places;
#[cfg(test)]
mod tests;
mod yaml;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{MAIN_SEPARATOR, Path, PathBuf};

use rayon::prelude::*;

use crate::annotations::ObjectFlags;
use crate::annotations::format::{
    AnnotationFormat, BoxEntry, DatasetFiles, Dropped, EntryProblem, FoundSplits, Output,
    PlacedBox, PlacedSplit, Reader, SplitEntries, SplitFiles, SplitImage, StoredBox,
    without_extension,
};
use crate::annotations::image_files::DirectoryListing;
use crate::annotations::layout::Split;
use crate::box_conventions::BoxConvention;
use crate::boxes::ImageSize;
use crate::directory::common_root;
use crate::images::decode::{DecodeError, image_size};
use crate::text::count;
use crate::text_file::read_text;
use crate::{DataError, Remedy};

pub(crate) use class_names::is_class_list;
use directory::{YoloDirectory, is_description};
use images::SplitImages;
use label_files::{
    CountedPair, LabelCopies, LabelFiles, LabelPlace, SameLabels, label_file_is_unclear, label_path,
};
use labeled::{
    has_label_file, has_labels_without_images, has_own_labels, is_other_text, unlisted_images,
};
use line::format_labels;
pub use line::{Extra, YoloBox, parse_line};
use places::{known_lists, lists_beside};
use yaml::DataYaml;

/// YOLO: `data.yaml`, `images/SPLIT/`, `labels/SPLIT/`.
#[derive(Debug)]
pub(crate) struct YoloFormat;

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
        let lists = known_lists(path, &found.splits);
        let mut unused = found.unused;
        // Without a description, the lists are those of the splits, or are named as not used.
        if path.is_dir() && is_description(&found.names_file) {
            unused.extend(lists_beside(path, &found.splits));
        }
        let splits = found.splits.into_iter();
        Ok(Some(FoundSplits {
            splits: splits
                .map(|(split, image_directories)| SplitFiles {
                    format: &Self,
                    split,
                    annotations: path.to_owned(),
                    image_directories,
                    is_part: false,
                })
                .collect(),
            reason: found.reason,
            unused,
            lists,
        }))
    }

    fn unlisted(&self, files: &DatasetFiles) -> Option<String> {
        unlisted_images(files)
    }

    fn has_own_annotations(&self, root: &Path, directory: &Path) -> bool {
        has_own_labels(root, directory)
    }

    fn has_annotations_without_images(&self, root: &Path, directory: &Path) -> bool {
        has_labels_without_images(root, directory)
    }

    fn has_annotations(&self, found: &FoundSplits) -> bool {
        found.splits.iter().any(has_label_file)
    }

    fn has_lists(&self) -> bool {
        true
    }

    fn takes_all_images(&self) -> bool {
        true
    }

    fn annotation_extension(&self) -> &'static str {
        "txt"
    }

    fn dataset_extensions(&self) -> &'static [&'static str] {
        &["yaml", "yml", "data"]
    }

    fn box_numbers(&self) -> BoxConvention {
        BoxConvention::CENTER_FRACTIONS
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
            return Err("boxes outside the image");
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

    fn keep_dropped(
        &self,
        files: &DatasetFiles,
        splits: &[PlacedSplit],
        output: &Output,
    ) -> Result<Dropped, DataError> {
        let mut kept = Dropped::default();
        kept.add(OUTLINES, "object", copy_outlines(files, splits, output)?);
        Ok(kept)
    }
}

/// Collects the labels of some splits and the sizes of their images.
fn collect(files: &DatasetFiles, wanted: &[Split]) -> Result<Vec<SplitEntries>, DataError> {
    let directory = YoloDirectory::of_dataset(files)?;
    let mut collected: Vec<SplitEntries> = wanted
        .iter()
        .map(|split| collect_split(&directory, files.split(*split)?, files))
        .collect::<Result<_, _>>()?;
    // The class names are those of all splits.
    if let Some(first) = collected.first_mut() {
        first.notes.extend(directory.notes);
    }
    Ok(collected)
}

/// Returns the images of the other splits by their label files, where those of all images are in one directory. An image
/// that is in both splits is not among them.
fn images_of_other_splits(
    directory: &YoloDirectory,
    files: &SplitFiles,
    dataset: &DatasetFiles,
    own: &[PathBuf],
) -> HashMap<PathBuf, PathBuf> {
    let own: HashSet<&PathBuf> = own.iter().collect();
    let others = dataset.splits.iter();
    let others = others.filter(|other| other.split != files.split);
    // What is wrong with another split is reported with it.
    let images = others.filter_map(|other| SplitImages::of(&directory.root, other).ok());
    let images = images.flat_map(|images| images.paths);
    let images = images.filter(|image| !own.contains(image));
    images
        .map(|image| (LabelPlace::InLabels.path(&directory.root, &image), image))
        .collect()
}

fn collect_split(
    directory: &YoloDirectory,
    files: &SplitFiles,
    dataset: &DatasetFiles,
) -> Result<SplitEntries, DataError> {
    let SplitImages {
        paths,
        mut notes,
        mut ambiguous,
        left_out,
    } = SplitImages::of(&directory.root, files)?;
    let (place, found_labels) = directory.label_files(&paths);
    let with_labels = paths.par_iter().zip(&found_labels.paths);
    let read: Vec<ReadImage> = with_labels
        .map(|(path, label_file)| {
            let size = image_size(path);
            let labels = directory.read_lines(label_file);
            let copies = LabelCopies {
                directory,
                size: size.as_ref().ok().copied(),
                chosen: label_file,
                found: labels.as_deref(),
            };
            let copies = copies.compare(path, found_labels.twins_of(label_file));
            ReadImage {
                path,
                label_file,
                size,
                labels,
                copies,
            }
        })
        .collect();
    let mut collected = CollectedSplit {
        image_root: common_root(paths.iter().filter_map(|path| path.parent())),
        ..CollectedSplit::default()
    };
    let others = match place {
        LabelPlace::InLabels => images_of_other_splits(directory, files, dataset, &paths),
        _ => HashMap::new(),
    };
    for image in read {
        if image.labels.is_some()
            && let Some(other) = others.get(image.label_file)
        {
            collected.add_problem(of_two_images(image.label_file, image.path, other));
        }
        // Before the problems of the same image, which follow from it.
        if let Some(error) = ambiguous.remove(image.path) {
            collected.add_problem(error);
        }
        collected.add(image, &found_labels);
    }
    if collected.label_files.is_empty() {
        let mut expected: Vec<String> = Vec::new();
        for place in LabelPlace::ALL {
            let path = place.path(&directory.root, &paths[0]);
            expected.push(path.display().to_string());
        }
        // The two places that most programs use; without a directory `images`, some are the same.
        expected.dedup();
        expected.truncate(2);
        let problem = format!(
            "not one of {} of the {} split has a label file; expected {}",
            count(paths.len(), "image"),
            files.split,
            expected.join(" or ")
        );
        let error = DataError::labels(&directory.root, problem);
        let error = if files.split == Split::Test {
            error.with(Remedy::LeaveTestOut)
        } else {
            error
        };
        let problems = &mut collected.problems;
        problems.insert(0, EntryProblem { image: 0, error });
    } else {
        notes.extend(place.note());
        notes.extend(found_labels.note);
        notes.extend(collected.notes(&directory.root));
        // Label files beside those of a list, or in one directory of all, may belong to another split.
        let is_of_split = files.image_directories.iter().all(|place| place.is_dir())
            && !matches!(place, LabelPlace::BelowLabels | LabelPlace::InLabels);
        if is_of_split {
            let orphans = orphans(&collected.label_files);
            if let Some(first) = orphans.first() {
                let first = first.strip_prefix(&directory.root).unwrap_or(first);
                let what = format!(
                    "label files without an image that can be decoded, such as {}",
                    first.display()
                );
                collected.dropped.add(what, "file", orphans.len());
            }
        }
    }
    Ok(SplitEntries {
        image_root: collected.image_root,
        list: None,
        categories: directory.names.clone(),
        images: collected.images,
        problems: collected.problems,
        dropped: collected.dropped,
        notes,
        left_out,
    })
}

fn of_two_images(label_file: &Path, first: &Path, second: &Path) -> DataError {
    let (first, second) = (first.display(), second.display());
    let both = format!("the label file of two images, {first} and {second}");
    DataError::contradiction(label_file, both)
}

/// What was read of an image and its label file.
struct ReadImage<'a> {
    path: &'a Path,
    label_file: &'a Path,
    size: Result<ImageSize, DecodeError>,
    /// The lines of the label file; none without one.
    labels: Option<Vec<Result<YoloBox, DataError>>>,
    /// The other files with the same labels.
    copies: Result<SameLabels, DataError>,
}

/// The images of a split, in their order.
#[derive(Default)]
struct CollectedSplit<'a> {
    image_root: PathBuf,
    images: Vec<SplitImage>,
    problems: Vec<EntryProblem>,
    dropped: Dropped,
    without_labels: usize,
    label_files: HashSet<PathBuf>,
    image_of: HashMap<&'a Path, &'a Path>,
    rounded: CountedPair,
    twins: CountedPair,
}

impl<'a> CollectedSplit<'a> {
    /// Adds a problem of the next image.
    fn add_problem(&mut self, error: DataError) {
        let image = self.images.len();
        self.problems.push(EntryProblem { image, error });
    }

    fn add(&mut self, image: ReadImage<'a>, found_labels: &LabelFiles) {
        let ReadImage {
            path, label_file, ..
        } = image;
        let within = path.strip_prefix(&self.image_root).unwrap_or(path);
        // On Linux, a backslash is a part of a name.
        let file_name = within.to_string_lossy().replace(MAIN_SEPARATOR, "/");
        if within.to_str().is_none() {
            let error = DataError::labels(path, "its name is not Unicode (UTF-8)");
            self.add_problem(error.with(Remedy::RenameFile));
        }
        let size = image.size.map_err(|error| self.add_problem(error.into()));
        let size = size.ok();
        if let Some(several) = found_labels.several.get(path) {
            self.add_problem(label_file_is_unclear(label_file, several));
        }
        match image.copies {
            Ok(copies) => {
                for other in &copies.rounded {
                    self.rounded.add(label_file, other);
                }
                for other in copies.twins {
                    self.twins.add(label_file, &other);
                    self.label_files.insert(other);
                }
            }
            Err(error) => self.add_problem(error),
        }
        let boxes = if let Some(labels) = image.labels {
            self.label_files.insert(label_file.to_owned());
            if let Some(first) = self.image_of.insert(label_file, path) {
                self.add_problem(of_two_images(label_file, first, path));
            }
            self.boxes(labels, size)
        } else {
            self.without_labels += 1;
            Vec::new()
        };
        self.images.push(SplitImage {
            file_name,
            size,
            boxes,
        });
    }

    /// Returns the boxes of a label file.
    fn boxes(
        &mut self,
        labels: Vec<Result<YoloBox, DataError>>,
        size: Option<ImageSize>,
    ) -> Vec<BoxEntry> {
        let mut boxes = Vec::new();
        for found in labels {
            let found = match found {
                Ok(found) => found,
                Err(error) => {
                    self.add_problem(error);
                    continue;
                }
            };
            match found.extra {
                Extra::None => {}
                Extra::Outline => self.dropped.add(OUTLINES, "object", 1),
                Extra::Keypoints => self.dropped.add("keypoints", "object", 1),
            }
            boxes.push(BoxEntry {
                class: found.class,
                xywh: size.map(|size| found.xywh(size)),
                flags: ObjectFlags::default(),
            });
        }
        boxes
    }

    /// Describes images without labels, and label files that are the same but for rounding or capitals.
    fn notes(&self, root: &Path) -> Vec<String> {
        let mut notes = Vec::new();
        if self.without_labels > 0 {
            let number = self.without_labels;
            let verb = if number == 1 { "has" } else { "have" };
            notes.push(format!(
                "{number} of {} {verb} no label file: images without objects",
                count(self.images.len(), "image")
            ));
        }
        notes.extend(self.rounded.note(root, |number, used, other| {
            format!(
                "{number} with a copy whose boxes differ by rounding (at most 1 px), such as {used}, which is used, and {other}"
            )
        }));
        notes.extend(self.twins.note(root, |number, used, other| {
            format!(
                "{number} with another that differs from it in capitals only and has the same boxes, such as \
                 {used}, which is used, and {other}"
            )
        }));
        notes
    }
}

/// Counts the label files beside those that belong to images.
fn orphans(label_files: &HashSet<PathBuf>) -> Vec<PathBuf> {
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
        // The strings that exporters add.
        !LISTS.contains(&stem.as_str())
            && !stem.contains("readme")
            && !stem.contains("license")
            && !is_other_text(path)
    };
    let files = directories.into_iter().flat_map(|directory| {
        let listing = DirectoryListing::of(directory);
        let files: Vec<PathBuf> = listing.files_with("txt").collect();
        files
    });
    let others = files.filter(|path| !label_files.contains(path));
    others.filter(is_label).collect()
}

/// The description of the objects of which only the boxes are read.
const OUTLINES: &str = "outlines, of which the boxes are kept";

/// Copies the label files with outlines over those that were written, which have boxes only. Returns the number of
/// outlines that are kept so.
///
/// `files` is the dataset that the splits are parts of.
///
/// # Errors
/// A file cannot be read or written.
fn copy_outlines(
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
