//! COCO instances JSON (<https://cocodataset.org/#format-data>).
//!
//! The training annotations of COCO are 450 MB of JSON, most of it segmentations that a detector
//! does not use. They are skipped while reading, and every annotation goes straight into the
//! columns of an [`AnnotationStore`], so no tree of values is built.
//!
//! - `document`: the reader, with a policy for problems. - `entry`, `value`: what an entry means
//!   and what is wrong with it. - [`copy`]: copies that keep unknown fields.

#[cfg(test)]
mod consistency_tests;
pub mod copy;
pub(crate) mod document;
pub(crate) mod entry;
mod value;

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use serde::Serialize;

pub use entry::{AnnotationEntry, CategoryEntry, Entry, ImageEntry, List};
pub(crate) use value::Id;

use document::{Policy, Sink, read_document};
use entry::{EXTRAS, FieldProblem};

use crate::DataError;
use crate::annotations::box_convention::BoxFit;
use crate::annotations::format::ListedImage;
use crate::annotations::image_files::first_few;
use crate::annotations::layout::Split;
use crate::annotations::store::BoxNumbers;
use crate::annotations::{AnnotationError, AnnotationStore, AnnotationStoreBuilder, NewAnnotation};
use crate::box_conventions::BoxConvention;
use crate::boxes::ImageSize;
use crate::text::{count, printable};

/// Reads a COCO instances file for training; the first problem is an error. Category ids may be any
/// numbers; `area` is derived from the box and `iscrowd` is 0 where they are absent; `segmentation` and unknown
/// fields are skipped.
///
/// Only the columns are kept in memory, regardless of the size and content of the file.
///
/// # Errors
/// The file can't be read, is not a COCO document, has an entry with a missing or wrong field, or
/// contradicts itself (duplicate ids, references to unknown images or categories), or its boxes are corners or
/// fractions. The message names the file and the entry.
pub fn read_coco(path: &Path) -> Result<AnnotationStore, DataError> {
    read_coco_json(path)?.build_checked(path)
}

/// Reads as [`read_coco`], from any reader; `path` is used in error messages only.
///
/// # Errors
/// As [`read_coco`].
pub fn read_coco_from(reader: impl Read, path: &Path) -> Result<AnnotationStore, DataError> {
    CocoJson::read(reader, path, HashSet::new())?.build_checked(path)
}

/// Reads as [`read_coco`], up to the point where the size of an image has to be known.
pub(super) fn read_coco_json(path: &Path) -> Result<CocoJson, DataError> {
    read_coco_without(path, HashSet::new())
}

/// Reads as [`read_coco_json`], without some images, given by their ids, and their annotations.
pub(super) fn read_coco_without(path: &Path, without: HashSet<u64>) -> Result<CocoJson, DataError> {
    let file = File::open(path).map_err(|source| DataError::io(path, source))?;
    CocoJson::read(file, path, without)
}

/// The entries of a COCO file. Exporters that never open the images write no sizes, or -1; those
/// sizes can be filled in.
#[derive(Debug)]
pub(super) struct CocoJson {
    builder: AnnotationStoreBuilder,
    /// Ids of the images that are left out.
    without: HashSet<u64>,
    /// Positions and ids of images without a size.
    unsized_images: Vec<(usize, u64)>,
    /// Numbers of annotations with each of [`EXTRAS`].
    extras: [usize; EXTRAS.len()],
    rotated_boxes: usize,
    /// The field of each image that may say its split.
    divisions: Divisions,
}

/// The fields of images that may say their splits.
#[derive(Debug, Default)]
struct Divisions {
    /// The split that the field of each image names.
    of_images: Vec<Option<Split>>,
    /// The number of images with each field and value.
    values: BTreeMap<(&'static str, Box<str>), usize>,
}

impl Divisions {
    /// More values are those of a field about something else.
    const VALUES: usize = 20;

    fn add(&mut self, field: Option<(&'static str, Box<str>)>) {
        let split = field.as_ref().and_then(|(_, value)| Split::of_name(value));
        self.of_images.push(split);
        if let Some(field) = field
            && self.values.len() <= Self::VALUES
        {
            *self.values.entry(field).or_default() += 1;
        }
    }

    /// Describes the fields that divide the images of a split otherwise; None if they say the same, or nothing.
    fn note(&self, split: Split) -> Option<String> {
        let named = |value: &str| Split::of_name(value);
        let is_division = match self.values.len() {
            0 => false,
            1 => self
                .values
                .keys()
                .any(|(_, value)| named(value).is_some_and(|of| of != split)),
            several if several > Self::VALUES => false,
            several => {
                // A field with nearly as many values as images is about something else.
                let mut fields = self.values.keys();
                let is_meant = |(field, value): &(&str, Box<str>)| {
                    *field == "fold" || field.starts_with("is_") || named(value).is_some()
                };
                fields.any(is_meant) || 2 * several <= self.of_images.len()
            }
        };
        let (field, _) = self.values.keys().next().filter(|_| is_division)?;
        let of_field = self.values.iter().filter(|((of, _), _)| of == field);
        let shown = of_field.map(|((_, value), images)| {
            format!("{} ({})", printable(value), count(*images, "image"))
        });
        let shown: Vec<String> = shown.collect();
        let shown = first_few(shown.iter().map(String::as_str));
        Some(format!(
            "`{field}` of the images is not used, all are of {split}: {shown}"
        ))
    }
}

impl CocoJson {
    fn read(reader: impl Read, path: &Path, without: HashSet<u64>) -> Result<Self, DataError> {
        let mut json = Self {
            builder: AnnotationStoreBuilder::new(),
            without,
            unsized_images: Vec::new(),
            extras: [0; EXTRAS.len()],
            rotated_boxes: 0,
            divisions: Divisions::default(),
        };
        read_document(reader, path, Policy::Strict, &mut json)?;
        Ok(json)
    }

    /// Returns the file names of the images in the order of the file.
    pub(super) fn names(&self) -> Vec<String> {
        self.builder.image_names().map(str::to_owned).collect()
    }

    /// Returns the images in the order of the file.
    pub(super) fn images(&self) -> Vec<ListedImage> {
        let ids = self.builder.image_ids();
        let images = ids.zip(self.names()).zip(&self.divisions.of_images);
        let images = images.map(|((id, name), split)| ListedImage {
            name,
            id: Some(id),
            split: *split,
        });
        images.collect()
    }

    /// Describes fields of the images by which a split is not divided.
    pub(super) fn unused_division(&self, split: Split) -> Option<String> {
        self.divisions.note(split)
    }

    /// Returns what annotations have besides a box, with the number of such annotations.
    pub(super) fn extras(&self) -> impl Iterator<Item = (&'static str, usize)> {
        let counts = self.extras.iter().copied();
        EXTRAS.iter().map(|(_, what)| *what).zip(counts)
    }

    /// Returns the number of boxes that were rotated.
    pub(super) fn rotated_boxes(&self) -> usize {
        self.rotated_boxes
    }

    /// Returns the positions of the images without a size.
    pub(super) fn unsized_images(&self) -> Vec<usize> {
        self.unsized_images
            .iter()
            .map(|(index, _)| *index)
            .collect()
    }

    /// Fills in the sizes of images.
    pub(super) fn set_sizes(&mut self, sizes: &[(usize, ImageSize)]) {
        for (index, size) in sizes {
            self.builder.set_image_size(*index, *size);
        }
        let known: HashSet<usize> = sizes.iter().map(|(index, _)| *index).collect();
        self.unsized_images
            .retain(|(index, _)| !known.contains(index));
    }

    /// Replaces the file names of all images.
    pub(super) fn set_names(&mut self, names: &[String]) {
        self.builder.set_image_names(names);
    }

    /// Returns the ids of the images at these positions in the file, which have no size.
    pub(super) fn ids_of_unsized(&self, positions: &[usize]) -> Vec<u64> {
        let images = self.unsized_images.iter();
        let images = images.filter(|(position, _)| positions.contains(position));
        images.map(|(_, id)| *id).collect()
    }

    /// Validates the entries together, and checks that the boxes are in COCO's convention.
    fn build_checked(self, path: &Path) -> Result<AnnotationStore, DataError> {
        let store = self.build(path)?;
        BoxFit::of(&store, BoxConvention::SIZES).check(path)?;
        Ok(store)
    }

    /// Validates the entries together.
    pub(super) fn build(self, path: &Path) -> Result<AnnotationStore, DataError> {
        let store = match self.unsized_images.first() {
            None => self.builder.build(),
            Some(&(position, id)) => Err(AnnotationError::Entry {
                list: List::Images.name(),
                position,
                id: Some(id),
                problem: "`width` or `height` is missing".to_owned(),
            }),
        };
        store.map_err(|source| DataError::Annotations {
            path: path.to_owned(),
            source,
        })
    }
}

/// A sink of entries that the strict policy has accepted; they are complete but for sizes.
impl Sink for CocoJson {
    fn entry(&mut self, entry: Entry, _: usize, _: &[FieldProblem]) -> io::Result<()> {
        if entry.is_of_image(&self.without) {
            return Ok(());
        }
        match entry {
            Entry::Image(image) => {
                let size = image.size();
                let position = self.builder.image_ids().len();
                if let (Some(id), Some(name)) = (image.id, image.file_name) {
                    if size.is_none() {
                        self.unsized_images.push((position, id));
                    }
                    let size = size.unwrap_or(ImageSize::new(0, 0));
                    self.builder.add_image(id, &name, size);
                    self.divisions.add(image.division);
                }
            }
            Entry::Annotation(annotation) => {
                self.rotated_boxes += usize::from(annotation.is_rotated);
                for (count, has_value) in self.extras.iter_mut().zip(annotation.extras) {
                    *count += usize::from(has_value);
                }
                if let (Some(id), Some(image_id), Some(category_id), Some(xywh)) = (
                    annotation.id,
                    annotation.image_id,
                    annotation.category_id,
                    annotation.xywh,
                ) {
                    self.builder.set_flags(id, annotation.flags);
                    self.builder.add_exact_annotation(NewAnnotation {
                        id,
                        image_id,
                        category_id,
                        xywh,
                        area: annotation.area,
                        is_crowd: annotation.is_crowd,
                    });
                }
            }
            Entry::Category(category) => {
                if let (Some(id), Some(name)) = (category.id, category.name) {
                    self.builder.add_category(id, name);
                }
            }
        }
        Ok(())
    }
}

/// Writes a store as COCO instances JSON, readable by every COCO tool. Numbers are written in the
/// shortest form that reads back as the same number.
///
/// # Errors
/// The writer fails.
pub fn write_coco_to(store: &AnnotationStore, out: &mut impl Write) -> io::Result<()> {
    write!(out, "{{\"images\":[")?;
    for index in 0..store.image_count() {
        let image = store.image(index);
        let comma = if index == 0 { "" } else { "," };
        write!(out, "{comma}{{\"id\":{},\"file_name\":", image.id)?;
        serde_json::to_writer(&mut *out, image.file_name)?;
        let ImageSize { height, width } = image.size;
        write!(out, ",\"width\":{width},\"height\":{height}}}")?;
    }
    write!(out, "],\"annotations\":[")?;
    let mut comma = "";
    for index in 0..store.image_count() {
        let image_id = store.image(index).id;
        for (annotation, numbers) in store.annotations(index).zip(store.numbers(index)) {
            write!(
                out,
                "{comma}{{\"id\":{},\"image_id\":{image_id},\"category_id\":{},\"bbox\":",
                annotation.id,
                store.categories()[annotation.class].id,
            )?;
            match numbers {
                BoxNumbers::Single(xywh, area) => write_numbers(out, &xywh, &area)?,
                BoxNumbers::Double(xywh, area) => write_numbers(out, &xywh, &area)?,
            }
            write!(out, ",\"iscrowd\":{}", u8::from(annotation.is_crowd))?;
            // COCO has no such fields, and its programs keep unknown ones.
            for flag in store.flags(annotation.id).names() {
                write!(out, ",\"{flag}\":1")?;
            }
            write!(out, "}}")?;
            comma = ",";
        }
    }
    write!(out, "],\"categories\":")?;
    serde_json::to_writer(&mut *out, store.categories())?;
    write!(out, "}}")
}

fn write_numbers<T: Serialize>(out: &mut impl Write, xywh: &[T; 4], area: &T) -> io::Result<()> {
    serde_json::to_writer(&mut *out, xywh)?;
    write!(out, ",\"area\":")?;
    Ok(serde_json::to_writer(&mut *out, area)?)
}

#[cfg(test)]
mod tests {
    use std::io::BufWriter;

    use super::*;
    use crate::boxes::BoxXyxy;
    use proptest::prelude::*;

    const SMALL: &str = r#"{
        "info": {"year": 2017, "nested": [{"a": null}]},
        "annotations": [
            {"segmentation": {"counts": [1, 2, 3], "size": [3, 4]}, "area": 3.25, "iscrowd": 1,
             "image_id": 9, "bbox": [1.5, 2, 3, 4.25], "category_id": 90, "id": 900100009},
            {"id": 4, "image_id": 3, "category_id": 1, "bbox": [0, 0, 10, 20],
             "segmentation": [[1, 2, 3, 4, 5, 6]], "attributes": {"truncated": true}}
        ],
        "images": [
            {"id": 9, "file_name": "sub/nine.jpg", "width": 64, "height": 48, "license": 4},
            {"file_name": "three \"q\".png", "id": 3, "height": 20, "width": 10}
        ],
        "categories": [{"id": 90, "name": "toothbrush", "supercategory": "indoor"},
                       {"id": 1, "name": "person"}]
    }"#;

    fn read(json: &str) -> Result<AnnotationStore, DataError> {
        read_coco_from(json.as_bytes(), Path::new("some/file.json"))
    }

    fn message(json: &str) -> String {
        let text = read(json).unwrap_err().to_string();
        assert!(text.starts_with("some/file.json: "), "{text}");
        assert!(!text.contains('\n'), "{text}");
        text
    }

    #[test]
    fn lists_and_fields_may_come_in_any_order() {
        let store = read(SMALL).unwrap();
        assert_eq!(store.image(0).file_name, "three \"q\".png");
        assert_eq!(store.image(1).size, ImageSize::new(48, 64));
        let crowd = store.annotations(1).next().unwrap();
        assert_eq!(crowd.id, 900_100_009);
        assert_eq!(crowd.class, 1);
        assert_eq!(crowd.area, 3.25);
        assert!(crowd.is_crowd);
        assert_eq!(crowd.box_in_image, BoxXyxy::new(1.5, 2.0, 4.5, 6.25));
        let derived = store.annotations(0).next().unwrap();
        assert_eq!(derived.area, 200.0);
        assert!(!derived.is_crowd);
    }

    #[test]
    fn writing_and_reading_gives_the_same_store() {
        let store = read(SMALL).unwrap();
        let mut json = Vec::new();
        write_coco_to(&store, &mut json).unwrap();
        assert_eq!(
            read_coco_from(json.as_slice(), Path::new("copy.json")).unwrap(),
            store
        );
    }

    #[test]
    fn numbers_are_written_as_they_were_read() {
        let json = r#"{"images":[{"id":1,"file_name":"a","width":640,"height":480}],
            "annotations":[{"id":1,"image_id":1,"category_id":1,"bbox":[473.07,395.93,38.65,28.67],"area":702.10571}],
            "categories":[{"id":1,"name":"x"}]}"#;
        let mut out = Vec::new();
        write_coco_to(&read(json).unwrap(), &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(out.contains("[473.07,395.93,38.65,28.67]"), "{out}");
        assert!(out.contains("\"area\":702.10571,"), "{out}");
    }

    #[test]
    fn an_unknown_category_names_file_annotation_and_category() {
        let text = message(&SMALL.replace("\"category_id\": 1", "\"category_id\": 2"));
        assert!(text.contains("annotation 4 refers to category 2"), "{text}");
    }

    #[test]
    fn the_first_problem_is_an_error_with_list_position_and_id() {
        for (from, to, expected) in [
            (
                "\"bbox\": [1.5, 2, 3, 4.25],",
                "",
                "annotations[0] (id 900100009): `bbox` is missing",
            ),
            (
                "\"width\": 64",
                "\"width\": \"64\"",
                "images[0] (id 9): `width` is the string \"64\"",
            ),
            (
                "\"height\": 20,",
                "",
                "images[1] (id 3): `width` or `height` is missing",
            ),
            (
                "[0, 0, 10, 20]",
                "[0, 0, 10]",
                "annotations[1] (id 4): `bbox` has 3 numbers, not 4",
            ),
            (
                "[0, 0, 10, 20]",
                "[0, 0, NaN, 20]",
                "annotations[1] (id 4): `bbox` is [0, 0, NaN, 20], not four finite numbers",
            ),
            (
                "[0, 0, 10, 20]",
                "[0, 0, 1e200, 20]",
                "annotations[1] (id 4): `bbox` is [0, 0, 1e200, 20], out of range",
            ),
            (
                "\"area\": 3.25",
                "\"area\": \"3\"",
                "annotations[0] (id 900100009): `area` is the string \"3\"",
            ),
            (
                "\"iscrowd\": 1",
                "\"iscrowd\": 7",
                "annotations[0] (id 900100009): `iscrowd` is 7, not 0 or 1",
            ),
            (
                "\"id\": 4",
                "\"id\": -4",
                "annotations[1]: `id` is -4, not a non-negative integer",
            ),
            (
                "\"name\": \"person\"",
                "\"name\": \"person\", \"id\": 1",
                "categories[1] (id 1): `id` appears twice",
            ),
        ] {
            assert!(SMALL.contains(from), "{from}");
            let text = message(&SMALL.replace(from, to));
            assert_eq!(text, format!("some/file.json: {expected}"));
        }
    }

    #[test]
    fn files_that_are_no_coco_annotations_are_errors_with_the_reason() {
        assert!(message("[]").contains("it is a list, as results files are"));
        assert!(message("7").contains("not JSON: the file begins with `7`"));
        assert!(message("{}").contains("there is no `images` list"));
        assert!(message("").contains("not JSON: the file is empty"));
        assert!(message(&SMALL[..SMALL.len() / 2]).contains("EOF"));
        assert!(message(&format!("{SMALL} x")).contains("trailing"));
        let twice = SMALL.replace("\"info\": {", "\"images\": [], \"info\": {");
        assert!(message(&twice).contains("`images` appears twice"));
    }

    #[test]
    fn values_of_fields_that_training_does_not_read_do_not_matter() {
        let json = SMALL.replace("\"license\": 4", "\"license\": NaN");
        assert_eq!(read(&json).unwrap(), read(SMALL).unwrap());
    }

    #[test]
    fn a_missing_file_is_named() {
        let text = read_coco(Path::new("no/such.json"))
            .unwrap_err()
            .to_string();
        assert!(text.starts_with("no/such.json: "), "{text}");
    }

    /// Returns the peak resident memory of this process in MB.
    #[cfg(target_os = "linux")]
    fn peak_memory() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
            / 1024
    }

    /// As large as `instances_train2017.json`: 118 287 images, 860 001 annotations, 450 MB.
    #[test]
    #[cfg(target_os = "linux")]
    #[ignore = "writes a temporary file of 450 MB and takes some seconds"]
    fn annotations_as_large_as_coco_load_in_seconds_and_little_memory() {
        const IMAGES: u64 = 118_287;
        const ANNOTATIONS: u64 = 860_001;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("instances_train2017.json");
        let mut out = BufWriter::new(File::create(&path).unwrap());
        write!(out, "{{\"info\": {{}}, \"images\": [").unwrap();
        for i in 0..IMAGES {
            let comma = if i == 0 { "" } else { ", " };
            // in a scrambled order, as the real file
            let id = i * 7919 % IMAGES;
            write!(
                out,
                "{comma}{{\"license\": 3, \"file_name\": \"{id:012}.jpg\", \"coco_url\": \
                 \"http://images.cocodataset.org/train2017/{id:012}.jpg\", \"height\": 480, \"width\": 640, \
                 \"date_captured\": \"2013-11-14 11:18:45\", \"flickr_url\": \
                 \"http://farm9.staticflickr.com/8186/8119368305_4e622c8349_z.jpg\", \"id\": {id}}}"
            )
            .unwrap();
        }
        write!(out, "], \"annotations\": [").unwrap();
        for i in 0..ANNOTATIONS {
            let comma = if i == 0 { "" } else { ", " };
            write!(out, "{comma}{{\"segmentation\": [[").unwrap();
            for k in 0..42 {
                let comma = if k == 0 { "" } else { ", " };
                write!(out, "{comma}{}.{:02}", 100 + (i + k) % 500, k).unwrap();
            }
            write!(
                out,
                "]], \"area\": {}.06, \"iscrowd\": 0, \"image_id\": {}, \"bbox\": [{}.02, 125.36, 88.25, 150.6], \
                 \"category_id\": {}, \"id\": {}}}",
                i % 9000,
                i * 104_729 % IMAGES,
                i % 400,
                1 + i % 80,
                i + 17
            )
            .unwrap();
        }
        write!(out, "], \"categories\": [").unwrap();
        for id in 1..=80 {
            let comma = if id == 1 { "" } else { ", " };
            write!(out, "{comma}{{\"id\": {id}, \"name\": \"c{id}\"}}").unwrap();
        }
        write!(out, "]}}").unwrap();
        out.flush().unwrap();
        let megabytes = path.metadata().unwrap().len() >> 20;

        let before = peak_memory();
        let begun = std::time::Instant::now();
        let store = read_coco(&path).unwrap();
        let (seconds, peak) = (begun.elapsed().as_secs_f64(), peak_memory());
        eprintln!("{megabytes} MB read in {seconds:.2} s, peak memory {before} -> {peak} MB");
        assert_eq!(store.image_count() as u64, IMAGES);
        assert_eq!(store.annotation_count() as u64, ANNOTATIONS);
        assert!(peak < 200, "{peak} MB");
        assert!(seconds < 60.0, "{seconds} s");
    }

    proptest! {
        #[test]
        fn damaged_json_never_panics(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            cut in any::<prop::sample::Index>(),
            shorten in any::<bool>(),
        ) {
            let mut bytes = SMALL.as_bytes().to_vec();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if shorten {
                bytes.truncate(cut.index(bytes.len()));
            }
            let _ = read_coco_from(bytes.as_slice(), Path::new("f"));
        }

        #[test]
        fn exchanged_numbers_never_panic(
            which in any::<prop::sample::Index>(),
            number in prop_oneof![
                any::<i64>().prop_map(|n| n.to_string()),
                any::<f64>().prop_map(|n| format!("{n:e}")),
                Just("1e999".to_owned()), Just("null".to_owned()), Just("[]".to_owned()),
                Just("{}".to_owned()), Just("\"\\ud800\"".to_owned()),
            ],
        ) {
            let numbers: Vec<_> = SMALL
                .char_indices()
                .filter(|(at, c)| c.is_ascii_digit() && !SMALL.as_bytes()[at - 1].is_ascii_digit())
                .map(|(at, _)| at)
                .collect();
            let start = numbers[which.index(numbers.len())];
            let end = SMALL[start..].find(|c: char| !c.is_ascii_digit()).unwrap() + start;
            let json = format!("{}{number}{}", &SMALL[..start], &SMALL[end..]);
            if let Ok(store) = read(&json) {
                // whatever was accepted can be walked
                for index in 0..store.image_count() {
                    prop_assert!(store.annotations(index).all(|a| a.class < store.class_count()));
                }
            }
        }
    }
}
