//! YOLO's layout: one text file of boxes per image, in fractions of the image.
//!
//! ```text
//! data.yaml                 names of the classes, and where the images of each split lie
//! images/train/a.jpg        labels/train/a.txt
//! images/val/b.jpg          labels/val/b.txt
//! ```
//!
//! Each line of a label file is `class cx cy width height`: the class counts from 0, the rest is
//! relative to the image's width and height. A line with more points is an outline
//! (`class x1 y1 x2 y2 x3 y3 ...`); its box is taken. An image without a label file has no boxes.
//!
//! What is understood: `data.yaml` (any `.yaml` or `.yml` with `names`) whose `train`, `val` and
//! `test` are directories or lists of images; without it `classes.txt` or `obj.names`, one name a
//! line, with the images in `images/SPLIT/` or `SPLIT/images/`. The label file of an image is
//! found by putting `labels` for the last directory `images` of its path, or beside it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::DataError;
use crate::annotations::image_files::{Found, images_within};
use crate::annotations::layout::Split;
use crate::annotations::{AnnotationStore, AnnotationStoreBuilder, NewAnnotation};
use crate::boxes::ImageSize;
use crate::loading::decode::image_size;

/// Largest label file or list; a line takes about 40 bytes.
const LARGEST_FILE: u64 = 64 << 20;

/// A directory in YOLO's layout; images and labels are not read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YoloDirectory {
    /// Class names; the position is the class's number.
    pub names: Vec<String>,
    /// Where the images of each split lie: directories or lists.
    pub splits: Vec<(Split, Vec<PathBuf>)>,
    /// The directory.
    pub root: PathBuf,
}

/// One line of a label file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct YoloBox {
    /// Counts from 0.
    pub class: usize,
    /// Center and size, in fractions of the image.
    pub cxcywh: [f64; 4],
    /// It was an outline, of which only the box was taken.
    pub was_outline: bool,
}

/// A split, read.
#[derive(Debug)]
pub struct YoloSplit {
    /// Categories have the class's number plus one as id; images and boxes count from 1, images
    /// sorted by path. File names are relative to [`Self::root`].
    pub store: AnnotationStore,
    /// What file names are relative to.
    pub root: PathBuf,
    /// Outlines of which only the box was taken.
    pub outlines: usize,
}

impl YoloDirectory {
    /// Looks whether a directory has this layout.
    ///
    /// # Errors
    /// It has, and its description is wrong: names that are missing, a directory that is not there.
    pub fn find(root: &Path) -> Result<Option<Self>, DataError> {
        let mut yaml_files: Vec<PathBuf> = std::fs::read_dir(root)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                let extension = path.extension().and_then(|extension| extension.to_str());
                matches!(extension, Some("yaml" | "yml"))
            })
            .collect();
        yaml_files.sort();
        for path in yaml_files {
            let described = DataYaml::parse(&read_text(&path)?);
            if !described.names.is_empty() {
                return Self::described(root, &path, described).map(Some);
            }
        }
        for list in ["classes.txt", "obj.names"] {
            let path = root.join(list);
            if path.is_file() {
                let names = lines(&read_text(&path)?);
                let splits = Self::usual_splits(root);
                if splits.is_empty() {
                    continue;
                }
                return Ok(Some(Self {
                    names,
                    splits,
                    root: root.to_owned(),
                }));
            }
        }
        Ok(None)
    }

    fn described(root: &Path, yaml: &Path, described: DataYaml) -> Result<Self, DataError> {
        let base = root.join(described.path.as_deref().unwrap_or_default());
        let mut splits = Vec::new();
        for (split, entries) in [
            (Split::Train, described.train),
            (Split::Val, described.val),
            (Split::Test, described.test),
        ] {
            let mut places = Vec::new();
            for entry in &entries {
                // Such files are moved about; Roboflow's begin with ../ that leads nowhere.
                let inside = entry.trim_start_matches("../").trim_start_matches("./");
                let tried = [base.join(entry), root.join(entry), root.join(inside)];
                match tried.iter().find(|path| path.exists()) {
                    Some(found) => places.push(found.clone()),
                    None => {
                        let problem = format!(
                            "its {split} is `{entry}`, and {} is not there",
                            tried[0].display()
                        );
                        // A test split is often named and left out of what is handed on.
                        if split != Split::Test {
                            return Err(DataError::labels(yaml, problem));
                        }
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
            let problem = "it names no images: `train` and `val` should be directories or lists";
            return Err(DataError::labels(yaml, problem));
        }
        Ok(Self {
            names: described.names,
            splits,
            root: root.to_owned(),
        })
    }

    fn usual_splits(root: &Path) -> Vec<(Split, Vec<PathBuf>)> {
        let mut splits = Vec::new();
        for split in [Split::Train, Split::Val, Split::Test] {
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

    /// The images of a split, sorted, each once.
    ///
    /// # Errors
    /// There is no such split, a directory or list can't be read, or there are no images in it.
    pub fn images(&self, split: Split) -> Result<Vec<PathBuf>, DataError> {
        let places = self.splits.iter().find(|(found, _)| *found == split);
        let Some((_, places)) = places else {
            return Err(DataError::labels(&self.root, format!("no {split} split")));
        };
        let mut pictures = Vec::new();
        for place in places {
            if place.is_dir() {
                let found = images_within(place)?.into_iter();
                pictures.extend(found.map(|Found { within, name }| place.join(within).join(name)));
            } else {
                let directory = place.parent().unwrap_or(Path::new(""));
                let listed = lines(&read_text(place)?);
                pictures.extend(listed.iter().map(|line| {
                    let beside = directory.join(line);
                    match beside.is_file() {
                        true => beside,
                        // Lists of the darknet are relative to where it runs.
                        false => self.root.join(line),
                    }
                }));
            }
        }
        pictures.sort();
        pictures.dedup();
        if pictures.is_empty() {
            let problem = format!("no images in its {split} split");
            return Err(DataError::labels(&self.root, problem));
        }
        Ok(pictures)
    }

    /// Reads the labels of a split, and the sizes of its images.
    ///
    /// # Errors
    /// An image or label file can't be read, or a line of it is wrong; the file and line are named.
    pub fn read(&self, split: Split) -> Result<YoloSplit, DataError> {
        let pictures = self.images(split)?;
        let root = common_directory(&pictures);
        let read: Vec<(ImageSize, Vec<YoloBox>)> = pictures
            .par_iter()
            .map(|picture| {
                let size = image_size(picture)?;
                Ok((size, read_labels(&label_path(picture), self.names.len())?))
            })
            .collect::<Result<_, DataError>>()?;
        let mut builder = AnnotationStoreBuilder::new();
        for (class, name) in self.names.iter().enumerate() {
            builder.add_category(class as u64 + 1, name.clone());
        }
        let (mut id, mut outlines) = (0, 0);
        for ((image_id, picture), (size, boxes)) in (1..).zip(&pictures).zip(&read) {
            let within = picture.strip_prefix(&root).unwrap_or(picture);
            let Some(name) = within.to_str() else {
                let problem = "its name is not Unicode (UTF-8); rename it";
                return Err(DataError::labels(picture, problem));
            };
            builder.add_image(image_id, &name.replace('\\', "/"), *size);
            for found in boxes {
                id += 1;
                outlines += usize::from(found.was_outline);
                builder.add_annotation(NewAnnotation {
                    id,
                    image_id,
                    category_id: found.class as u64 + 1,
                    xywh: found.xywh(*size),
                    area: None,
                    is_crowd: false,
                });
            }
        }
        let store = builder.build().map_err(|source| DataError::Annotations {
            path: self.root.clone(),
            source,
        })?;
        Ok(YoloSplit {
            store,
            root,
            outlines,
        })
    }
}

impl YoloBox {
    /// In pixels of an image.
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

/// Where the labels of an image are.
pub fn label_path(picture: &Path) -> PathBuf {
    let mut parts: Vec<_> = picture.components().collect();
    let directories = parts.len().saturating_sub(1);
    let images = parts[..directories]
        .iter()
        .rposition(|part| part.as_os_str() == "images");
    if let Some(at) = images {
        parts[at] = std::path::Component::Normal("labels".as_ref());
    }
    parts.iter().collect::<PathBuf>().with_extension("txt")
}

/// Reads a label file; without one there are no boxes.
///
/// # Errors
/// It can't be read, or a line of it is wrong.
pub fn read_labels(path: &Path, classes: usize) -> Result<Vec<YoloBox>, DataError> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = read_text(path)?;
    let mut boxes = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        let parsed = parse_line(line, classes);
        boxes.push(
            parsed
                .map_err(|problem| DataError::labels(path, format!("line {number}: {problem}")))?,
        );
    }
    Ok(boxes)
}

/// A line of a label file; the error is what is wrong with it.
///
/// # Errors
/// Too few or too many numbers, no numbers, an unknown class, values beyond the image, no extent.
pub fn parse_line(line: &str, classes: usize) -> Result<YoloBox, String> {
    /// What rounding to six digits can push over the edge.
    const TOLERANCE: f64 = 1e-4;
    let numbers: Vec<f64> = line
        .split_whitespace()
        .map(|word| {
            let number = word.parse::<f64>().ok().filter(|n| n.is_finite());
            number.ok_or_else(|| format!("`{word}` is no finite number"))
        })
        .collect::<Result<_, _>>()?;
    let class = match numbers.first() {
        Some(class) if class.fract() == 0.0 && *class >= 0.0 && *class < classes as f64 => {
            *class as usize
        }
        Some(class) => {
            return Err(format!(
                "class {class}; there are 0 to {}",
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
            "{outside} is no fraction of the image; divide pixels by its width or height"
        ));
    }
    let (cxcywh, was_outline) = match values.len() {
        4 => ([values[0], values[1], values[2], values[3]], false),
        5 => {
            return Err("six numbers: with a score it is a prediction, no label".into());
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
        return Err("a box without extent".into());
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

/// The label file of an image, and how many boxes were cut at its edge: this format can't say more
/// than the image. Boxes with nothing inside of it are left out, as are crowd regions.
pub fn labels_of(store: &AnnotationStore, index: usize) -> (String, usize) {
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
        // A hair over the edge is the rounding of the numbers.
        const HAIR: f64 = 1e-3;
        let reaches = (left - x)
            .max(top - y)
            .max(x + w - right)
            .max(y + h - bottom);
        cut += usize::from(reaches > HAIR);
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
            // Writing to a string can't fail.
            let _ = write!(text, " {}", decimal(value));
        }
        text.push('\n');
    }
    (text, cut)
}

/// Nine decimals, without zeros at the end: exact to a ten-thousandth of a pixel in any image.
fn decimal(value: f64) -> String {
    let text = format!("{value:.9}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `data.yaml` for these splits.
pub fn data_yaml(names: &[String], splits: &[Split]) -> String {
    let mut text = String::from("path: .\n");
    for split in splits {
        let _ = writeln!(text, "{split}: images/{split}");
    }
    text.push_str("names:\n");
    for (class, name) in names.iter().enumerate() {
        let quoted = name.replace('\'', "''");
        let _ = writeln!(text, "  {class}: '{quoted}'");
    }
    text
}

/// The part of YAML that such files use.
#[derive(Debug, Default, PartialEq)]
struct DataYaml {
    path: Option<String>,
    train: Vec<String>,
    val: Vec<String>,
    test: Vec<String>,
    names: Vec<String>,
}

impl DataYaml {
    fn parse(text: &str) -> Self {
        let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut open: Option<String> = None;
        for line in text.lines() {
            let line = without_comment(line);
            let trimmed = line.trim();
            if trimmed.is_empty() {
                continue;
            }
            let is_inside = line.starts_with([' ', '\t']) || trimmed.starts_with("- ");
            if is_inside {
                // An entry of the list or table under the last key.
                let entry = match trimmed.strip_prefix("- ") {
                    Some(entry) => Some(entry),
                    None => split_key(trimmed).map(|(_, value)| value),
                };
                if let (Some(key), Some(entry)) = (&open, entry) {
                    values.entry(key.clone()).or_default().push(unquoted(entry));
                }
            } else if let Some((key, value)) = split_key(trimmed) {
                let key = unquoted(key);
                values.insert(key.clone(), inline_values(value));
                open = Some(key);
            }
        }
        let mut take = |key: &str| values.remove(key).unwrap_or_default();
        Self {
            path: take("path").into_iter().next(),
            train: take("train"),
            val: take("val"),
            test: take("test"),
            names: take("names"),
        }
    }
}

/// Cut at a `#` that is outside of quotes and stands first or behind a space.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut before = ' ';
    for (at, letter) in line.char_indices() {
        match (letter, quote) {
            ('#', None) if before.is_whitespace() => return &line[..at],
            ('\'' | '"', None) => quote = Some(letter),
            (letter, Some(open)) if letter == open => quote = None,
            _ => {}
        }
        before = letter;
    }
    line
}

/// `key: value`, the colon outside of quotes.
fn split_key(line: &str) -> Option<(&str, &str)> {
    let mut quote = None;
    for (at, letter) in line.char_indices() {
        match (letter, quote) {
            (':', None) => {
                let value = &line[at + 1..];
                if value.is_empty() || value.starts_with([' ', '\t']) {
                    return Some((line[..at].trim(), value.trim()));
                }
            }
            ('\'' | '"', None) => quote = Some(letter),
            (letter, Some(open)) if letter == open => quote = None,
            _ => {}
        }
    }
    None
}

/// Nothing, one value, `[a, b]` or `{0: a, 1: b}`.
fn inline_values(value: &str) -> Vec<String> {
    let inside = |open, close| {
        let inside = value.strip_prefix(open)?.strip_suffix(close)?;
        Some(split_commas(inside))
    };
    if value.is_empty() {
        Vec::new()
    } else if let Some(list) = inside('[', ']') {
        list.into_iter().map(unquoted).collect()
    } else if let Some(table) = inside('{', '}') {
        let entries = table.into_iter();
        entries
            .map(|entry| unquoted(split_key(entry.trim()).map_or(entry, |(_, value)| value)))
            .collect()
    } else {
        vec![unquoted(value)]
    }
}

fn split_commas(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut quote) = (Vec::new(), 0, None);
    for (at, letter) in text.char_indices() {
        match (letter, quote) {
            (',', None) => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            ('\'' | '"', None) => quote = Some(letter),
            (letter, Some(open)) if letter == open => quote = None,
            _ => {}
        }
    }
    if !text[start..].trim().is_empty() {
        parts.push(&text[start..]);
    }
    parts
}

fn unquoted(text: &str) -> String {
    let text = text.trim();
    for quote in ['\'', '"'] {
        let inside = text
            .strip_prefix(quote)
            .and_then(|text| text.strip_suffix(quote));
        if let Some(inside) = inside {
            return match quote {
                '\'' => inside.replace("''", "'"),
                _ => inside.replace("\\\"", "\""),
            };
        }
    }
    text.to_owned()
}

fn lines(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}

/// A text file of reasonable size.
pub(crate) fn read_text(path: &Path) -> Result<String, DataError> {
    let io = |source| DataError::io(path, source);
    let length = std::fs::metadata(path).map_err(io)?.len();
    if length > LARGEST_FILE {
        let problem = format!("{} MiB are too many for such a file", length >> 20);
        return Err(DataError::labels(path, problem));
    }
    let text = std::fs::read_to_string(path).map_err(io)?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(text) => text.to_owned(),
        None => text,
    })
}

/// The directory that holds all of these files.
pub(crate) fn common_directory(paths: &[PathBuf]) -> PathBuf {
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
    fn the_usual_kinds_of_data_yaml_are_understood() {
        let expected = DataYaml {
            path: Some("../datasets/x".into()),
            train: vec!["images/train".into()],
            val: vec!["images/val".into()],
            test: Vec::new(),
            names: vec!["cat".into(), "traffic light".into(), "it's #1".into()],
        };
        for names in [
            "names:\n  0: cat\n  1: traffic light  # comment\n  2: 'it''s #1'\n",
            "names: [cat, 'traffic light', \"it's #1\"]\nnc: 3",
            "names:\n- cat\n- traffic light\n- \"it's #1\"\n",
            "names: {0: cat, 1: traffic light, 2: \"it's #1\"}",
        ] {
            let text = format!(
                "# head\npath: ../datasets/x # where\ntrain: images/train\nval: 'images/val'\ntest:\n\n{names}\ndownload: |\n  import x\n"
            );
            assert_eq!(DataYaml::parse(&text), expected, "{names}");
        }
    }

    #[test]
    fn names_survive_being_written() {
        let names: Vec<String> = ["a: b", "it's", "#x", "\"q\""].map(String::from).to_vec();
        let text = data_yaml(&names, &[Split::Train, Split::Val]);
        let read = DataYaml::parse(&text);
        assert_eq!(read.names, names);
        assert_eq!(read.train, ["images/train"]);
    }

    #[test]
    fn wrong_lines_say_what_is_wrong() {
        for (line, says) in [
            ("0 0.5 0.5 0.1", "4 numbers; a box has 5"),
            ("0 0.5 0.5 0.1 0.1 0.9", "prediction"),
            ("3 0.5 0.5 0.1 0.1", "class 3; there are 0 to 2"),
            ("-1 0.5 0.5 0.1 0.1", "class -1"),
            ("0 320 240 50 50", "320 is no fraction"),
            ("0 0.5 nan 0.1 0.1", "`nan` is no finite number"),
            ("0 0.5 0.5 0 0.1", "without extent"),
            ("cat 0.5 0.5 0.1 0.1", "`cat` is no finite number"),
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
        for (picture, labels) in [
            ("d/images/train/a.jpg", "d/labels/train/a.txt"),
            ("images/x/images/a.b.png", "images/x/labels/a.b.txt"),
            ("d/train/a.jpg", "d/train/a.txt"),
        ] {
            assert_eq!(label_path(Path::new(picture)), Path::new(labels));
        }
    }

    proptest! {
        #[test]
        fn lines_of_any_kind_never_panic(line in ".{0,60}", classes in 0usize..4) {
            let _ = parse_line(&line, classes);
            let _ = DataYaml::parse(&line);
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
            let (text, cut) = labels_of(&builder.build().unwrap(), 0);
            prop_assert_eq!(cut, 0);
            let read = parse_line(text.trim(), 1).unwrap().xywh(size);
            for (read, written) in read.iter().zip(xywh) {
                prop_assert!((read - written).abs() < 1e-3, "{:?} {:?}", read, xywh);
            }
        }
    }
}
