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

mod class_names;
mod directory;
mod images;
mod label_files;
mod line;
#[cfg(test)]
mod tests;
mod yaml;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::annotations::ObjectFlags;
use crate::annotations::format::{
    AnnotationFormat, BoxEntry, DatasetFiles, Dropped, EntryProblem, FoundSplits, ImageEntry,
    Output, PlacedBox, PlacedSplit, Reader, SplitEntries, SplitFiles, StoredBox, without_extension,
};
use crate::annotations::image_files::DirectoryListing;
use crate::annotations::layout::Split;
use crate::boxes::BoxConvention;
use crate::images::decode::image_size;
use crate::text::count;
use crate::text_file::read_text;
use crate::{DataError, Remedy};

use directory::YoloDirectory;
use images::SplitImages;
use label_files::{CountedPair, LabelCopies, LabelPlace, label_file_is_unclear, label_path};
use line::format_labels;
pub use line::{Extra, YoloBox, parse_line};
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

    fn annotation_extension(&self) -> &'static str {
        "txt"
    }

    fn dataset_extensions(&self) -> &'static [&'static str] {
        &["yaml", "yml", "data"]
    }

    fn box_numbers(&self) -> BoxConvention {
        BoxConvention::CenterFractions
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
        mut notes,
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
    let mut without_labels = 0;
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
            let error = DataError::labels(path, "its name is not Unicode (UTF-8)");
            problem(error.with(Remedy::RenameFile));
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
                            flags: ObjectFlags::default(),
                        });
                    }
                    Err(error) => problem(error),
                }
            }
        } else {
            without_labels += 1;
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
        if without_labels > 0 {
            let verb = if without_labels == 1 { "has" } else { "have" };
            notes.push(format!(
                "{without_labels} of {} {verb} no label file: images without objects",
                count(paths.len(), "image")
            ));
        }
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
        // The strings that exporters add.
        !LISTS.contains(&stem.as_str()) && !stem.contains("readme") && !stem.contains("license")
    };
    let files = directories.into_iter().flat_map(|directory| {
        let listing = DirectoryListing::of(directory);
        let files: Vec<PathBuf> = listing.files_with("txt").collect();
        files
    });
    let others = files.filter(|path| !label_files.contains(path));
    others.filter(is_label).count()
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
