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
//! `test` are directories or lists of images; without it by `classes.txt` or `obj.names`, one name per
//! line, with the images in `images/SPLIT/` or `SPLIT/images/`. The path of an image's label file is that
//! of the image with `labels` for the last directory `images`, or beside the image.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::DataError;
use crate::annotations::AnnotationStore;
use crate::annotations::format::{
    AnnotationFormat, BoxEntry, Dropped, EntryProblem, ImageEntry, Output, PlacedSplit, Reader,
    SplitEntries, Written, WrittenSplit, without_extension,
};
use crate::annotations::image_files::{Found, images_within};
use crate::annotations::layout::{LayoutError, Split, SplitFiles};
use crate::annotations::text_file::{lines, read_text};
use crate::annotations::yolo_yaml::DataYaml;
use crate::boxes::ImageSize;
use crate::images::decode::image_size;

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

    fn recognize(&self, root: &Path) -> Result<bool, DataError> {
        Ok(YoloDirectory::find(root)?.is_some())
    }

    fn splits(&self, root: &Path) -> Result<Vec<SplitFiles>, DataError> {
        let splits = YoloDirectory::expect(root)?.splits.into_iter();
        Ok(splits
            .map(|(split, image_directories)| SplitFiles {
                format: &Self,
                split,
                annotations: root.to_owned(),
                image_directories,
            })
            .collect())
    }

    fn reader(&self) -> Reader {
        Reader::Entries(collect)
    }

    fn image_path(&self, split: Split, file_name: &str) -> String {
        format!("images/{split}/{file_name}")
    }

    fn image_key<'p>(&self, image_path: &'p str) -> &'p str {
        // The label file of `a.jpg` and `a.png` would be the same.
        without_extension(image_path)
    }

    fn write(&self, splits: &[PlacedSplit], output: &Output) -> Result<Written, DataError> {
        let mut written = Written::default();
        let mut cut = 0;
        let mut names = Vec::new();
        for placed in splits {
            let store = &placed.annotations.store;
            written.dropped.merge(&placed.annotations.beyond_boxes());
            names = store.categories().iter().map(|c| c.name.clone()).collect();
            let mut boxes = 0;
            for (index, path) in placed.image_paths.iter().enumerate() {
                let (text, cut_here) = format_labels(store, index);
                cut += cut_here;
                boxes += text.lines().count();
                let stem = without_extension(path);
                let within = stem.strip_prefix("images/").unwrap_or(stem);
                output.file(&format!("labels/{within}.txt"), &text)?;
            }
            written.splits.push(WrittenSplit {
                split: placed.annotations.split,
                images: store.image_count(),
                boxes,
            });
        }
        let outside = "parts of boxes outside of the image";
        written.dropped.add(outside, "object", cut);
        let found: Vec<Split> = splits.iter().map(|s| s.annotations.split).collect();
        output.file("data.yaml", &DataYaml::format(&names, &found))?;
        Ok(written)
    }
}

/// A directory in YOLO's layout; images and labels are not read yet.
#[derive(Debug)]
struct YoloDirectory {
    /// Class names; the position is the class's number.
    names: Vec<String>,
    /// Directories or lists of the images of each split.
    splits: Vec<(Split, Vec<PathBuf>)>,
}

/// A line of a label file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct YoloBox {
    /// The class, counted from 0.
    pub class: usize,
    /// Center and size in fractions of the image.
    pub cxcywh: [f64; 4],
    /// Whether the line was an outline; only its box is kept.
    pub was_outline: bool,
}

impl YoloDirectory {
    /// Describes a directory; None if it is not in this layout.
    ///
    /// # Errors
    /// It is, and its description is wrong: bad YAML, a directory that does not exist.
    fn find(root: &Path) -> Result<Option<Self>, DataError> {
        let mut yaml_files: Vec<PathBuf> = std::fs::read_dir(root)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                let extension = path.extension().and_then(|extension| extension.to_str());
                matches!(extension, Some("yaml" | "yml")) && path.is_file()
            })
            .collect();
        yaml_files.sort();
        for path in yaml_files {
            if let Some(described) = DataYaml::parse(&read_text(&path)?, &path)? {
                return Self::described(root, &path, described).map(Some);
            }
        }
        for list in ["classes.txt", "obj.names"] {
            let path = root.join(list);
            let splits = Self::usual_splits(root);
            if path.is_file() && !splits.is_empty() {
                let names = lines(&read_text(&path)?);
                return Ok(Some(Self { names, splits }));
            }
        }
        Ok(None)
    }

    /// Describes a recognized directory.
    fn expect(root: &Path) -> Result<Self, DataError> {
        Self::find(root)?.ok_or_else(|| LayoutError::Unrecognized { root: root.into() }.into())
    }

    fn described(root: &Path, yaml: &Path, described: DataYaml) -> Result<Self, DataError> {
        let base = root.join(described.path.as_deref().unwrap_or_default());
        let mut splits = Vec::new();
        for (split, entries) in described.splits {
            let mut places = Vec::new();
            for entry in &entries {
                // Such files are moved; Roboflow's paths begin with a ../ that leads nowhere.
                let inside = entry.trim_start_matches("../").trim_start_matches("./");
                let tried = [base.join(entry), root.join(entry), root.join(inside)];
                match tried.iter().find(|path| path.exists()) {
                    Some(found) => places.push(found.clone()),
                    // A test split is often described but not distributed.
                    None if split == Split::Test => {}
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
        if splits.is_empty() {
            splits = Self::usual_splits(root);
        }
        if splits.is_empty() {
            let problem = "no images; `train` and `val` should be directories or lists of images";
            return Err(DataError::labels(yaml, problem));
        }
        Ok(Self {
            names: described.names,
            splits,
        })
    }

    fn usual_splits(root: &Path) -> Vec<(Split, Vec<PathBuf>)> {
        let mut splits = Vec::new();
        for split in Split::ALL {
            let names = split.names().iter();
            let found = names
                .flat_map(|name| {
                    [
                        root.join("images").join(name),
                        root.join(name).join("images"),
                        root.join(format!("{name}.txt")),
                    ]
                })
                .find(|path| path.exists());
            splits.extend(found.map(|path| (split, vec![path])));
        }
        splits
    }
}

/// Lists the images of a split, sorted, each once.
fn images_of(files: &SplitFiles) -> Result<Vec<PathBuf>, DataError> {
    let root = &files.annotations;
    let mut images = Vec::new();
    for place in &files.image_directories {
        if place.is_dir() {
            let found = images_within(place)?.into_iter();
            images.extend(found.map(|Found { within, name }| place.join(within).join(name)));
        } else {
            let directory = place.parent().unwrap_or(Path::new(""));
            let listed = lines(&read_text(place)?);
            images.extend(listed.iter().map(|line| {
                let beside = directory.join(line);
                if beside.is_file() {
                    beside
                } else {
                    // Darknet's lists are relative to its working directory.
                    root.join(line)
                }
            }));
        }
    }
    images.sort();
    images.dedup();
    if images.is_empty() {
        let problem = format!("no images in the {} split", files.split);
        return Err(DataError::labels(root, problem));
    }
    Ok(images)
}

/// Collects the labels of a split and the sizes of its images.
fn collect(files: &SplitFiles) -> Result<SplitEntries, DataError> {
    let categories = YoloDirectory::expect(&files.annotations)?.names;
    let paths = images_of(files)?;
    let image_root = common_directory(&paths);
    let read: Vec<_> = paths
        .par_iter()
        .map(|path| {
            let labels = read_labels(&label_path(path), categories.len());
            (image_size(path), labels)
        })
        .collect();
    let (mut images, mut problems) = (Vec::new(), Vec::new());
    let mut dropped = Dropped::default();
    for (image, (path, (size, labels))) in paths.iter().zip(read).enumerate() {
        let mut problem = |error| problems.push(EntryProblem { image, error });
        let within = path.strip_prefix(&image_root).unwrap_or(path);
        if within.to_str().is_none() {
            let advice = "its name is not Unicode (UTF-8); rename it";
            problem(DataError::labels(path, advice));
        }
        let size = size.map_err(|error| problem(error.into())).ok();
        let mut boxes = Vec::new();
        for found in labels {
            match found {
                Ok(found) => {
                    let outline = usize::from(found.was_outline);
                    dropped.add("outlines, of which the boxes are kept", "object", outline);
                    boxes.push(BoxEntry {
                        class: found.class,
                        xywh: size.map(|size| found.xywh(size)),
                    });
                }
                Err(error) => problem(error),
            }
        }
        images.push(ImageEntry {
            file_name: within.to_string_lossy().replace('\\', "/"),
            size,
            boxes,
        });
    }
    Ok(SplitEntries {
        image_root,
        categories,
        images,
        problems,
        dropped,
    })
}

impl YoloBox {
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

/// Returns the path of the label file of an image.
pub fn label_path(image: &Path) -> PathBuf {
    let mut parts: Vec<_> = image.components().collect();
    let directories = parts.len().saturating_sub(1);
    let images = parts[..directories]
        .iter()
        .rposition(|part| part.as_os_str() == "images");
    if let Some(at) = images {
        parts[at] = std::path::Component::Normal("labels".as_ref());
    }
    parts.iter().collect::<PathBuf>().with_extension("txt")
}

/// Reads a label file, each line independently; a missing file has no boxes.
pub fn read_labels(path: &Path, classes: usize) -> Vec<Result<YoloBox, DataError>> {
    if !path.exists() {
        return Vec::new();
    }
    let text = match read_text(path) {
        Ok(text) => text,
        Err(error) => return vec![Err(error)],
    };
    (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| {
            parse_line(line, classes)
                .map_err(|problem| DataError::labels(path, format!("line {number}: {problem}")))
        })
        .collect()
}

/// Parses a line of a label file for a dataset with a number of classes.
///
/// # Errors
/// Too few or too many numbers, no numbers, an unknown class, values outside of the image, a box without
/// area; the string says which.
pub fn parse_line(line: &str, classes: usize) -> Result<YoloBox, String> {
    /// Upper bound of the error, beyond the image border, of a value rounded to six digits.
    const TOLERANCE: f64 = 1e-4;
    let numbers: Vec<f64> = line
        .split_whitespace()
        .map(|word| {
            let number = word.parse::<f64>().ok().filter(|n| n.is_finite());
            number.ok_or_else(|| format!("`{word}` is not a finite number"))
        })
        .collect::<Result<_, _>>()?;
    let class = match numbers.first() {
        Some(class) if class.fract() == 0.0 && *class >= 0.0 && *class < classes as f64 => {
            *class as usize
        }
        Some(class) => {
            return Err(format!(
                "unknown class {class}; the classes are 0 to {}",
                classes as i64 - 1
            ));
        }
        None => return Err("it is empty".into()),
    };
    let values = &numbers[1..];
    if let Some(outside) = values
        .iter()
        .find(|value| !(-TOLERANCE..=1.0 + TOLERANCE).contains(*value))
    {
        return Err(format!(
            "{outside} is not a fraction of the image; divide pixels by its width or height"
        ));
    }
    let (cxcywh, was_outline) = match values.len() {
        4 => ([values[0], values[1], values[2], values[3]], false),
        5 => {
            return Err("6 numbers; a line with a score is a prediction, not a label".into());
        }
        count if count >= 6 && count.is_multiple_of(2) => (box_around(values), true),
        count => {
            return Err(format!(
                "{} numbers; a box has 5 (class cx cy width height)",
                count + 1
            ));
        }
    };
    if cxcywh[2] <= 0.0 || cxcywh[3] <= 0.0 {
        return Err("box without area".into());
    }
    Ok(YoloBox {
        class,
        cxcywh,
        was_outline,
    })
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

/// Formats the label file of an image, and counts the boxes that were clipped at the image border.
/// Boxes outside of the image and crowd annotations are skipped.
fn format_labels(store: &AnnotationStore, index: usize) -> (String, usize) {
    let size = store.image(index).size;
    let (width, height) = (size.width as f64, size.height as f64);
    let (mut text, mut cut) = (String::new(), 0);
    for (annotation, xywh) in store.annotations(index).zip(store.boxes_xywh(index)) {
        if annotation.is_crowd {
            continue;
        }
        let [x, y, w, h] = xywh.map(f64::from);
        let (left, top) = (x.max(0.0), y.max(0.0));
        let (right, bottom) = ((x + w).min(width), (y + h).min(height));
        // Less than this, in pixels, is rounding of the numbers.
        const ROUNDING: f64 = 1e-3;
        let beyond = (left - x)
            .max(top - y)
            .max(x + w - right)
            .max(y + h - bottom);
        cut += usize::from(beyond > ROUNDING);
        if right <= left || bottom <= top {
            continue;
        }
        let values = [
            (left + right) / 2.0 / width,
            (top + bottom) / 2.0 / height,
            (right - left) / width,
            (bottom - top) / height,
        ];
        text += &annotation.class.to_string();
        for value in values {
            // Writing to a string does not fail.
            let _ = write!(text, " {}", decimal(value));
        }
        text.push('\n');
    }
    (text, cut)
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
    use crate::annotations::{AnnotationStoreBuilder, NewAnnotation};
    use proptest::prelude::*;

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
        assert!(outline.was_outline);
        for (found, expected) in outline.cxcywh.iter().zip([0.3, 0.4, 0.4, 0.4]) {
            assert!((found - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn labels_are_found_in_place_of_images_or_beside_them() {
        for (image, labels) in [
            ("d/images/train/a.jpg", "d/labels/train/a.txt"),
            ("images/x/images/a.b.png", "images/x/labels/a.b.txt"),
            ("d/train/a.jpg", "d/train/a.txt"),
        ] {
            assert_eq!(label_path(Path::new(image)), Path::new(labels));
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
            let mut builder = AnnotationStoreBuilder::new();
            builder.add_category(9, "x");
            builder.add_image(1, "a.jpg", size);
            builder.add_annotation(NewAnnotation {
                id: 1, image_id: 1, category_id: 9, xywh, area: None, is_crowd: false,
            });
            let (text, cut) = format_labels(&builder.build().unwrap(), 0);
            prop_assert_eq!(cut, 0);
            let read = parse_line(text.trim(), 1).unwrap().xywh(size);
            for (read, written) in read.iter().zip(xywh) {
                prop_assert!((read - written).abs() < 1e-3, "{:?} {:?}", read, xywh);
            }
        }
    }
}
