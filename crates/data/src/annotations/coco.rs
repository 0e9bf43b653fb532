//! COCO instances JSON (<https://cocodataset.org/#format-data>), read as a stream.
//!
//! The training annotations of COCO are 450 MB of JSON, most of it segmentations that a detector
//! never looks at. They are skipped while reading and every annotation goes straight into the
//! columns of an [`AnnotationStore`], so no tree of values is ever built.

use std::{
    fmt,
    fs::File,
    io::{BufReader, BufWriter, Read, Write},
    path::Path,
};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::annotations::json_guard::{GuardedJson, NotFinite};
use crate::annotations::lenient::{Flag, Id};

use crate::DataError;
use crate::annotations::{
    AnnotationError, AnnotationStore, AnnotationStoreBuilder, MAX_ANNOTATIONS, NewAnnotation,
    check_count,
};
use crate::boxes::ImageSize;

/// Reads a COCO instances file. Category ids may be any numbers; `area` is derived from the box and
/// `iscrowd` is 0 where they are absent; `segmentation` and unknown fields are skipped. However large
/// or hostile the file, memory holds the columns alone: see [`crate::annotations::json_guard`] and
/// [`MAX_ANNOTATIONS`].
///
/// # Errors
/// The file can't be read, is not such a JSON, or contradicts itself (duplicate ids, references to
/// unknown images or categories); the message names the file and the entry.
pub fn read_coco(path: &Path) -> Result<AnnotationStore, DataError> {
    let file = File::open(path).map_err(|source| DataError::Io {
        path: path.to_owned(),
        source,
    })?;
    read_coco_from(file, path)
}

/// [`read_coco`] from any reader; `path` only names it in errors.
///
/// # Errors
/// As [`read_coco`].
pub fn read_coco_from(reader: impl Read, path: &Path) -> Result<AnnotationStore, DataError> {
    let mut collected = Collected::default();
    let guarded = GuardedJson::new(reader, NotFinite::Refuse);
    let mut json =
        serde_json::Deserializer::from_reader(BufReader::with_capacity(1 << 16, guarded));
    let parsed = TopLevel(&mut collected)
        .deserialize(&mut json)
        .and_then(|()| json.end());
    match parsed {
        // Reading was broken off because of it, and the parser only says that it was.
        Err(_) if matches!(collected.wrong, Some(AnnotationError::TooMany { .. })) => {}
        Err(source) if source.is_io() => return Err(DataError::io(path, source.into())),
        Err(source) => {
            return Err(DataError::Json {
                path: path.to_owned(),
                source,
            });
        }
        Ok(()) => {}
    }
    collected.finish().map_err(|source| DataError::Annotations {
        path: path.to_owned(),
        source,
    })
}

/// Writes a store as COCO instances JSON, readable by every COCO tool.
///
/// # Errors
/// The file can't be written.
pub fn write_coco(store: &AnnotationStore, path: &Path) -> Result<(), DataError> {
    let io = |source| DataError::Io {
        path: path.to_owned(),
        source,
    };
    let mut out = BufWriter::new(File::create(path).map_err(io)?);
    write_coco_to(store, &mut out).map_err(io)?;
    out.flush().map_err(io)
}

/// [`write_coco`] to any writer. Numbers are written in the shortest form that reads back as the
/// same `f32`.
///
/// # Errors
/// The writer fails.
pub fn write_coco_to(store: &AnnotationStore, out: &mut impl Write) -> std::io::Result<()> {
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
        for (annotation, xywh) in store.annotations(index).zip(store.boxes_xywh(index)) {
            write!(
                out,
                "{comma}{{\"id\":{},\"image_id\":{image_id},\"category_id\":{},\"bbox\":",
                annotation.id,
                store.categories()[annotation.class].id,
            )?;
            serde_json::to_writer(&mut *out, xywh)?;
            write!(out, ",\"area\":")?;
            serde_json::to_writer(&mut *out, &annotation.area)?;
            write!(out, ",\"iscrowd\":{}}}", u8::from(annotation.is_crowd))?;
            comma = ",";
        }
    }
    write!(out, "],\"categories\":")?;
    serde_json::to_writer(&mut *out, store.categories())?;
    write!(out, "}}")
}

/// What the stream fills: the columns, and the first entry that lacks something. Such an entry is
/// reported after parsing, because then its id is known whatever the order of its fields.
#[derive(Default)]
struct Collected {
    builder: AnnotationStoreBuilder,
    wrong: Option<AnnotationError>,
    seen: [bool; 3],
    counts: [usize; 3],
}

impl Collected {
    fn finish(self) -> Result<AnnotationStore, AnnotationError> {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        // Files for the test server have no annotations, but nothing works without the other two.
        for list in [List::Images, List::Categories] {
            if !self.seen[list as usize] {
                return Err(AnnotationError::Missing {
                    entry: "the file".to_owned(),
                    field: list.name(),
                });
            }
        }
        self.builder.build()
    }

    /// Counts an entry before it takes memory.
    fn count(&mut self, list: List) -> Result<(), AnnotationError> {
        let count = &mut self.counts[list as usize];
        *count += 1;
        check_count(list.name(), *count, list.limit())
    }

    fn add_image(&mut self, raw: RawImage) -> Result<(), AnnotationError> {
        let Id(id) = raw.id.ok_or_else(|| missing("an image", None, "id"))?;
        let lacks = |field| missing("image", Some(id), field);
        self.builder.add_image(
            id,
            &raw.file_name.ok_or_else(|| lacks("file_name"))?,
            ImageSize::new(
                raw.height.ok_or_else(|| lacks("height"))?.0 as usize,
                raw.width.ok_or_else(|| lacks("width"))?.0 as usize,
            ),
        );
        Ok(())
    }

    fn add_annotation(&mut self, raw: RawAnnotation) -> Result<(), AnnotationError> {
        let Id(id) = raw.id.ok_or_else(|| missing("an annotation", None, "id"))?;
        let lacks = |field| missing("annotation", Some(id), field);
        self.builder.add_annotation(NewAnnotation {
            id,
            image_id: raw.image_id.ok_or_else(|| lacks("image_id"))?.0,
            category_id: raw.category_id.ok_or_else(|| lacks("category_id"))?.0,
            xywh: raw.bbox.ok_or_else(|| lacks("bbox"))?,
            area: raw.area,
            is_crowd: raw.iscrowd.is_some_and(|flag| flag.0),
        });
        Ok(())
    }

    fn add_category(&mut self, raw: RawCategory) -> Result<(), AnnotationError> {
        let Id(id) = raw.id.ok_or_else(|| missing("a category", None, "id"))?;
        let name = raw
            .name
            .ok_or_else(|| missing("category", Some(id), "name"))?;
        self.builder.add_category(id, name);
        Ok(())
    }
}

fn missing(kind: &str, id: Option<u64>, field: &'static str) -> AnnotationError {
    AnnotationError::Missing {
        entry: id.map_or_else(|| kind.to_owned(), |id| format!("{kind} {id}")),
        field,
    }
}

#[derive(Deserialize)]
struct RawImage {
    id: Option<Id>,
    file_name: Option<String>,
    width: Option<Id>,
    height: Option<Id>,
}

#[derive(Deserialize)]
struct RawAnnotation {
    id: Option<Id>,
    image_id: Option<Id>,
    category_id: Option<Id>,
    bbox: Option<[f32; 4]>,
    area: Option<f32>,
    iscrowd: Option<Flag>,
}

#[derive(Deserialize)]
struct RawCategory {
    id: Option<Id>,
    name: Option<String>,
}

/// The three lists of a COCO file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// `images`
    Images,
    /// `annotations`
    Annotations,
    /// `categories`
    Categories,
}

impl List {
    /// Of this name in the file.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Images, Self::Annotations, Self::Categories]
            .into_iter()
            .find(|list| list.name() == name)
    }

    /// In the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Images => "images",
            Self::Annotations => "annotations",
            Self::Categories => "categories",
        }
    }

    /// How many entries fit.
    pub fn limit(self) -> usize {
        match self {
            Self::Images | Self::Annotations => MAX_ANNOTATIONS,
            Self::Categories => usize::from(u16::MAX),
        }
    }
}

/// The outer object.
struct TopLevel<'a>(&'a mut Collected);

impl<'de> DeserializeSeed<'de> for TopLevel<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TopLevel<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object with `images`, `annotations` and `categories`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let Some(list) = List::named(&key) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if std::mem::replace(&mut self.0.seen[list as usize], true) {
                return Err(A::Error::custom(format!("`{}` appears twice", list.name())));
            }
            map.next_value_seed(Entries {
                list,
                collected: &mut *self.0,
            })?;
        }
        Ok(())
    }
}

/// One of the three lists, entry by entry.
struct Entries<'a> {
    list: List,
    collected: &'a mut Collected,
}

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "a list of {}", self.list.name())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        fn each<'de, A: SeqAccess<'de>, T: Deserialize<'de>>(
            seq: &mut A,
            list: List,
            collected: &mut Collected,
            add: fn(&mut Collected, T) -> Result<(), AnnotationError>,
        ) -> Result<(), A::Error> {
            while let Some(entry) = seq.next_element::<T>()? {
                let added = collected.count(list).and_then(|()| add(collected, entry));
                match added {
                    Err(error @ AnnotationError::TooMany { .. }) => {
                        collected.wrong = Some(error);
                        return Err(A::Error::custom("too many entries"));
                    }
                    Err(error) => _ = collected.wrong.get_or_insert(error),
                    Ok(()) => {}
                }
            }
            Ok(())
        }
        match self.list {
            List::Images => each(&mut seq, self.list, self.collected, Collected::add_image),
            List::Annotations => each(
                &mut seq,
                self.list,
                self.collected,
                Collected::add_annotation,
            ),
            List::Categories => each(&mut seq, self.list, self.collected, Collected::add_category),
        }
    }
}

#[cfg(test)]
mod tests {
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
    fn boxes_with_two_decimals_are_written_as_they_were_read() {
        let json = r#"{"images":[{"id":1,"file_name":"a","width":640,"height":480}],
            "annotations":[{"id":1,"image_id":1,"category_id":1,"bbox":[473.07,395.93,38.65,28.67],"area":702.1}],
            "categories":[{"id":1,"name":"x"}]}"#;
        let mut out = Vec::new();
        write_coco_to(&read(json).unwrap(), &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(out.contains("[473.07,395.93,38.65,28.67]"), "{out}");
        assert!(out.contains("\"area\":702.1,"), "{out}");
    }

    #[test]
    fn an_unknown_category_names_file_annotation_and_category() {
        let text = message(&SMALL.replace("\"category_id\": 1", "\"category_id\": 2"));
        assert!(text.contains("annotation 4 refers to category 2"), "{text}");
    }

    #[test]
    fn an_annotation_without_a_box_is_named_whatever_the_order_of_its_fields() {
        let text = message(&SMALL.replace("\"bbox\": [1.5, 2, 3, 4.25],", ""));
        assert!(
            text.contains("annotation 900100009 has no `bbox`"),
            "{text}"
        );
    }

    #[test]
    fn wrong_types_are_reported_with_their_place() {
        for (from, to) in [
            ("\"width\": 64", "\"width\": \"64\""),
            ("[0, 0, 10, 20]", "[0, 0, 10]"),
            ("\"iscrowd\": 1", "\"iscrowd\": 7"),
            ("\"id\": 4", "\"id\": -4"),
        ] {
            let text = message(&SMALL.replace(from, to));
            assert!(text.contains("line"), "{text}");
        }
    }

    #[test]
    fn files_that_are_no_coco_annotations_say_what_is_missing() {
        assert!(message("[]").contains("an object with `images`"));
        assert!(message("{}").contains("the file has no `images`"));
        assert!(message("").contains("not valid COCO"));
        assert!(message(&SMALL[..SMALL.len() / 2]).contains("EOF"));
        assert!(message(&format!("{SMALL} x")).contains("trailing"));
    }

    #[test]
    fn a_missing_file_is_named() {
        let text = read_coco(Path::new("no/such.json"))
            .unwrap_err()
            .to_string();
        assert!(text.starts_with("no/such.json: "), "{text}");
    }

    /// Peak resident memory of this process in MB.
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
