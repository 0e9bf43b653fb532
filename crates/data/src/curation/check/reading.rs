//! A COCO file, read on behind its mistakes.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};

use crate::DataError;
use crate::annotations::coco::List;
use crate::annotations::json_guard::{GuardedJson, NotFinite};
use crate::annotations::layout::SplitFiles;
use crate::annotations::{AnnotationError, check_count};
use crate::curation::check::{
    CheckedSplit, Diagnostic, Diagnostics, Entries, Kind, Progress, RawAnnotation, RawCategory,
    RawImage, Verdict,
};

/// Reads the lists of a split. A file that ends or breaks off in the middle gives what lies before.
pub(super) fn read(
    name: &str,
    files: &SplitFiles,
    diagnostics: &mut Diagnostics,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<CheckedSplit, DataError> {
    let path = &files.annotations;
    let file = File::open(path).map_err(|source| DataError::io(path, source))?;
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let counted = Counted {
        inner: file,
        done: 0,
        length,
        progress,
    };
    let mut reading = Reading {
        name,
        path,
        diagnostics,
        images: Entries::default(),
        objects: Entries::default(),
        categories: Entries::default(),
        seen: [0; 3],
        too_many: None,
    };
    let guarded = BufReader::new(GuardedJson::new(counted, NotFinite::AsText));
    let mut json = serde_json::Deserializer::from_reader(guarded);
    let parsed = TopLevel(&mut reading)
        .deserialize(&mut json)
        .and_then(|()| json.end());
    if let Some(source) = reading.too_many {
        return Err(DataError::Annotations {
            path: path.clone(),
            source,
        });
    }
    let is_whole = match parsed {
        Ok(()) => true,
        Err(error) => {
            reading.file_diagnostic(Kind::FileBroken, error.to_string());
            false
        }
    };
    reading.missing_lists(is_whole);
    Ok(CheckedSplit {
        name: name.to_owned(),
        annotations: path.clone(),
        image_directory: None,
        is_whole,
        has_image_sizes: false,
        images: reading.images,
        objects: reading.objects,
        categories: reading.categories,
        image_facts: Vec::new(),
        image_moves: HashMap::new(),
        category_moves: HashMap::new(),
    })
}

/// A file whose reading is reported.
struct Counted<'a> {
    inner: File,
    done: u64,
    length: u64,
    progress: &'a (dyn Fn(Progress) + Sync),
}

impl Read for Counted<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(out)?;
        self.done += count as u64;
        (self.progress)(Progress::Reading(self.done, self.length));
        Ok(count)
    }
}

struct Reading<'a> {
    name: &'a str,
    path: &'a Path,
    diagnostics: &'a mut Diagnostics,
    images: Entries<RawImage>,
    objects: Entries<RawAnnotation>,
    categories: Entries<RawCategory>,
    /// How often each list was there.
    seen: [usize; 3],
    too_many: Option<AnnotationError>,
}

impl Reading<'_> {
    fn file_diagnostic(&mut self, kind: Kind, detail: String) {
        let diagnostic = Diagnostic {
            split: self.name.to_owned(),
            file: Some(self.path.display().to_string()),
            image_id: None,
            annotation_id: None,
            detail,
        };
        self.diagnostics.add(kind, diagnostic);
    }

    /// A list that is absent from a file that broke off may lie behind the break.
    fn missing_lists(&mut self, is_whole: bool) {
        for (list, count) in [
            (List::Images, self.images.len()),
            (List::Annotations, self.objects.len()),
            (List::Categories, self.categories.len()),
        ] {
            let name = list.name();
            match self.seen[list as usize] {
                0 if is_whole => {
                    self.file_diagnostic(Kind::ListMissing, format!("there is no `{name}`"));
                }
                0 => {}
                1 if count == 0 && list != List::Annotations => {
                    self.file_diagnostic(Kind::ListMissing, format!("`{name}` is empty"));
                }
                1 => {}
                times => {
                    let detail = format!("`{name}` is there {times} times");
                    self.file_diagnostic(Kind::ListMissing, detail);
                }
            }
        }
    }

    fn add(&mut self, list: List, entry: LooseEntry) -> Result<(), AnnotationError> {
        let position = match list {
            List::Images => self.images.len(),
            List::Annotations => self.objects.len(),
            List::Categories => self.categories.len(),
        };
        check_count(list.name(), position + 1, list.limit())?;
        let mut fields = Fields {
            entry,
            complaints: Vec::new(),
            unusable: false,
        };
        let (mut file, mut image_id, mut annotation_id) = (None, None, None);
        match list {
            List::Images => {
                let image = fields.image();
                file = image.file_name.as_deref().map(str::to_owned);
                image_id = image.id;
                self.images.push(image, fields.verdict());
            }
            List::Annotations => {
                let object = fields.annotation();
                (image_id, annotation_id) = (object.image_id, object.id);
                self.objects.push(object, fields.verdict());
            }
            List::Categories => {
                let category = fields.category();
                self.categories.push(category, fields.verdict());
            }
        }
        if !fields.complaints.is_empty() {
            let complaints = fields.complaints.join(", ");
            let diagnostic = Diagnostic {
                split: self.name.to_owned(),
                file,
                image_id,
                annotation_id,
                detail: format!("{}[{position}]: {complaints}", list.name()),
            };
            self.diagnostics.add(Kind::EntryMalformed, diagnostic);
        }
        Ok(())
    }
}

/// Turns loose values into fields and collects what is wrong with them.
struct Fields {
    entry: LooseEntry,
    complaints: Vec<String>,
    /// Something is missing that can't be guessed.
    unusable: bool,
}

impl Fields {
    fn verdict(&self) -> Verdict {
        match (self.unusable, self.complaints.is_empty()) {
            (true, _) => Verdict::Drop,
            (false, true) => Verdict::Keep,
            (false, false) => Verdict::Change,
        }
    }

    fn unusable(&mut self, complaint: String) {
        self.complaints.push(complaint);
        self.unusable = true;
    }

    fn start(&mut self) {
        if let Some(found) = self.entry.not_an_object {
            self.unusable(format!("is {found}, not an object"));
        }
        if let Some(field) = self.entry.twice {
            self.complaints.push(format!("`{field}` is there twice"));
        }
    }

    /// A whole number from 0 on; also as a float, as the loader takes it. A text of digits is
    /// understood, but the loader does not take it.
    fn id(&mut self, field: &'static str, value: Loose) -> Option<u64> {
        match &value {
            Loose::Id(id) => return Some(*id),
            Loose::Number(number) if is_whole(*number) => return Some(*number as u64),
            Loose::Text(text) => {
                if let Ok(id) = text.trim().parse() {
                    self.complaints
                        .push(format!("`{field}` is the text \"{id}\""));
                    return Some(id);
                }
            }
            _ => {}
        }
        self.wrong(field, &value, "a whole number from 0 on");
        None
    }

    fn wrong(&mut self, field: &'static str, value: &Loose, expected: &str) {
        match value {
            _ if self.entry.not_an_object.is_some() => {}
            Loose::Null => self.unusable(format!("`{field}` is missing")),
            value => self.unusable(format!("`{field}` is {value}, not {expected}")),
        }
    }

    fn text(&mut self, field: &'static str, value: Loose) -> Option<Box<str>> {
        match value {
            Loose::Text(text) if !text.is_empty() => Some(text),
            value => {
                self.wrong(field, &value, "a text");
                None
            }
        }
    }

    fn image(&mut self) -> RawImage {
        self.start();
        let (id, file_name) = (self.entry.id.take(), self.entry.file_name.take());
        let (width, height) = (self.entry.width.take(), self.entry.height.take());
        let id = self.id("id", id);
        let file_name = self.text("file_name", file_name);
        // A size that is missing is a finding of its own, since the image has it.
        let mut side = |field, value| match value {
            Loose::Null => None,
            value => self.id(field, value),
        };
        let (width, height) = (side("width", width), side("height", height));
        RawImage {
            id,
            file_name,
            width,
            height,
        }
    }

    fn annotation(&mut self) -> RawAnnotation {
        self.start();
        let entry = &mut self.entry;
        let (id, image_id) = (entry.id.take(), entry.image_id.take());
        let (category_id, area) = (entry.category_id.take(), entry.area.take());
        let (iscrowd, bbox) = (entry.iscrowd.take(), entry.bbox.take());
        RawAnnotation {
            id: self.id("id", id),
            image_id: self.id("image_id", image_id),
            category_id: self.id("category_id", category_id),
            xywh: self.bbox(bbox),
            area: self.area(area),
            is_crowd: self.flag("iscrowd", iscrowd),
            without_outline: false,
        }
    }

    fn bbox(&mut self, value: Option<LooseBox>) -> Option<[f64; 4]> {
        match value {
            None => self.unusable_unless_no_object("`bbox` is missing"),
            Some(LooseBox::Numbers {
                values,
                count: 4,
                text,
            }) => {
                if text {
                    self.complaints
                        .push("`bbox` has numbers written as texts".into());
                }
                Some(values)
            }
            Some(LooseBox::Numbers { count, .. }) => {
                self.unusable(format!("`bbox` has {count} numbers, not 4"));
                None
            }
            Some(LooseBox::Other(found)) => {
                self.unusable(format!("`bbox` is {found}, not four numbers"));
                None
            }
        }
    }

    fn unusable_unless_no_object<T>(&mut self, complaint: &str) -> Option<T> {
        if self.entry.not_an_object.is_none() {
            self.unusable(complaint.into());
        }
        None
    }

    /// NaN for what is no number: then it is reported as a wrong area.
    fn area(&mut self, value: Loose) -> Option<f64> {
        match value {
            Loose::Null => None,
            Loose::Id(number) => Some(number as f64),
            Loose::Number(number) => Some(number),
            _ => Some(f64::NAN),
        }
    }

    fn flag(&mut self, field: &'static str, value: Loose) -> bool {
        match &value {
            Loose::Null | Loose::Bool(false) | Loose::Id(0) => false,
            Loose::Bool(true) | Loose::Id(1) => true,
            Loose::Number(number) if *number == 0.0 || *number == 1.0 => *number == 1.0,
            Loose::Text(text) if matches!(&**text, "0" | "1") => {
                self.complaints
                    .push(format!("`{field}` is the text \"{text}\""));
                &**text == "1"
            }
            value => {
                self.unusable(format!("`{field}` is {value}, not 0 or 1"));
                false
            }
        }
    }

    fn category(&mut self) -> RawCategory {
        self.start();
        let (id, name) = (self.entry.id.take(), self.entry.name.take());
        RawCategory {
            id: self.id("id", id),
            name: self.text("name", name),
        }
    }
}

fn is_whole(number: f64) -> bool {
    /// The largest float below which every integer is exact.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    number.fract() == 0.0 && (0.0..=EXACT).contains(&number)
}

/// Any JSON value, kept as far as a field may need it.
#[derive(Debug, Default)]
enum Loose {
    #[default]
    Null,
    Bool(bool),
    Id(u64),
    Number(f64),
    Text(Box<str>),
    Other(&'static str),
}

impl Loose {
    fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}

impl fmt::Display for Loose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 40;
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Id(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Text(text) if text.chars().count() > SHOWN => {
                write!(f, "\"{}...\"", text.chars().take(SHOWN).collect::<String>())
            }
            Self::Text(text) => write!(f, "\"{text}\""),
            Self::Other(what) => f.write_str(what),
        }
    }
}

struct LooseVisitor;

impl<'de> Visitor<'de> for LooseVisitor {
    type Value = Loose;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_unit<E>(self) -> Result<Loose, E> {
        Ok(Loose::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Loose, E> {
        Ok(Loose::Bool(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Loose, E> {
        Ok(Loose::Id(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Loose, E> {
        Ok(Loose::Number(value as f64))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Loose, E> {
        Ok(Loose::Number(value))
    }
    fn visit_str<E>(self, value: &str) -> Result<Loose, E> {
        Ok(Loose::Text(value.into()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Loose, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Loose::Other("a list"))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Loose, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Loose::Other("an object"))
    }
}

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LooseVisitor)
    }
}

/// What stands where a box should be.
#[derive(Debug)]
enum LooseBox {
    /// So many numbers; the first four.
    Numbers {
        values: [f64; 4],
        count: usize,
        /// Some are texts of digits.
        text: bool,
    },
    Other(String),
}

impl<'de> Deserialize<'de> for LooseBox {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BoxVisitor;
        impl<'de> Visitor<'de> for BoxVisitor {
            type Value = LooseBox;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("any value")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<LooseBox, A::Error> {
                let (mut values, mut count, mut text) = ([0.0; 4], 0, false);
                let mut other = None;
                while let Some(value) = seq.next_element::<Loose>()? {
                    let number = match &value {
                        Loose::Id(number) => *number as f64,
                        Loose::Number(number) => *number,
                        // The guard's texts for what JSON does not have.
                        Loose::Text(word) => match (&**word, word.trim().parse()) {
                            ("NaN" | "-NaN", _) => f64::NAN,
                            ("Infinity", _) => f64::INFINITY,
                            ("-Infinity", _) => f64::NEG_INFINITY,
                            (_, Ok(number)) => {
                                text = true;
                                number
                            }
                            _ => {
                                other.get_or_insert(format!("a list with {value} in it"));
                                0.0
                            }
                        },
                        // How tables are exported that have no number there.
                        Loose::Null => f64::NAN,
                        _ => {
                            other.get_or_insert(format!("a list with {value} in it"));
                            0.0
                        }
                    };
                    if let Some(slot) = values.get_mut(count) {
                        *slot = number;
                    }
                    count += 1;
                }
                Ok(match other {
                    Some(other) => LooseBox::Other(other),
                    None => LooseBox::Numbers {
                        values,
                        count,
                        text,
                    },
                })
            }
            fn visit_unit<E>(self) -> Result<LooseBox, E> {
                Ok(LooseBox::Other("null".into()))
            }
            fn visit_bool<E>(self, value: bool) -> Result<LooseBox, E> {
                Ok(LooseBox::Other(value.to_string()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<LooseBox, E> {
                Ok(LooseBox::Other(value.to_string()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<LooseBox, E> {
                Ok(LooseBox::Other(value.to_string()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<LooseBox, E> {
                Ok(LooseBox::Other(value.to_string()))
            }
            fn visit_str<E>(self, value: &str) -> Result<LooseBox, E> {
                Ok(LooseBox::Other(Loose::Text(value.into()).to_string()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<LooseBox, A::Error> {
                LooseVisitor.visit_map(map)?;
                Ok(LooseBox::Other("an object".into()))
            }
        }
        deserializer.deserialize_any(BoxVisitor)
    }
}

/// The fields of an entry of any of the lists.
#[derive(Debug, Default)]
struct LooseEntry {
    id: Loose,
    file_name: Loose,
    width: Loose,
    height: Loose,
    image_id: Loose,
    category_id: Loose,
    bbox: Option<LooseBox>,
    area: Loose,
    iscrowd: Loose,
    name: Loose,
    not_an_object: Option<&'static str>,
    twice: Option<&'static str>,
}

#[derive(Clone, Copy)]
struct Field(Option<&'static str>);

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldVisitor;
        impl Visitor<'_> for FieldVisitor {
            type Value = Field;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a field's name")
            }
            fn visit_str<E>(self, value: &str) -> Result<Field, E> {
                const KNOWN: [&str; 10] = [
                    "id",
                    "file_name",
                    "width",
                    "height",
                    "image_id",
                    "category_id",
                    "bbox",
                    "area",
                    "iscrowd",
                    "name",
                ];
                Ok(Field(KNOWN.into_iter().find(|known| *known == value)))
            }
        }
        deserializer.deserialize_identifier(FieldVisitor)
    }
}

impl LooseEntry {
    fn slot(&mut self, field: &str) -> Option<&mut Loose> {
        Some(match field {
            "id" => &mut self.id,
            "file_name" => &mut self.file_name,
            "width" => &mut self.width,
            "height" => &mut self.height,
            "image_id" => &mut self.image_id,
            "category_id" => &mut self.category_id,
            "area" => &mut self.area,
            "iscrowd" => &mut self.iscrowd,
            "name" => &mut self.name,
            _ => return None,
        })
    }
}

impl<'de> Deserialize<'de> for LooseEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntryVisitor;

        fn other<E>(found: &'static str) -> Result<LooseEntry, E> {
            Ok(LooseEntry {
                not_an_object: Some(found),
                ..LooseEntry::default()
            })
        }

        impl<'de> Visitor<'de> for EntryVisitor {
            type Value = LooseEntry;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LooseEntry, A::Error> {
                let mut entry = LooseEntry::default();
                let mut seen = Vec::with_capacity(8);
                while let Some(Field(field)) = map.next_key()? {
                    let Some(field) = field else {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    };
                    if seen.contains(&field) {
                        entry.twice = Some(field);
                    }
                    seen.push(field);
                    match entry.slot(field) {
                        Some(slot) => *slot = map.next_value()?,
                        None => entry.bbox = map.next_value()?,
                    }
                }
                Ok(entry)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<LooseEntry, A::Error> {
                LooseVisitor.visit_seq(seq)?;
                other("a list")
            }
            fn visit_unit<E>(self) -> Result<LooseEntry, E> {
                other("null")
            }
            fn visit_bool<E>(self, _: bool) -> Result<LooseEntry, E> {
                other("true or false")
            }
            fn visit_u64<E>(self, _: u64) -> Result<LooseEntry, E> {
                other("a number")
            }
            fn visit_i64<E>(self, _: i64) -> Result<LooseEntry, E> {
                other("a number")
            }
            fn visit_f64<E>(self, _: f64) -> Result<LooseEntry, E> {
                other("a number")
            }
            fn visit_str<E>(self, _: &str) -> Result<LooseEntry, E> {
                other("a text")
            }
        }
        deserializer.deserialize_any(EntryVisitor)
    }
}

/// The outer object.
struct TopLevel<'a, 'r>(&'a mut Reading<'r>);

impl<'de> DeserializeSeed<'de> for TopLevel<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TopLevel<'_, '_> {
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
            self.0.seen[list as usize] += 1;
            map.next_value_seed(EntriesOf(list, &mut *self.0))?;
        }
        Ok(())
    }
}

/// One of the three lists, entry by entry.
struct EntriesOf<'a, 'r>(List, &'a mut Reading<'r>);

impl<'de> DeserializeSeed<'de> for EntriesOf<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for EntriesOf<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "a list of {}", self.0.name())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(entry) = seq.next_element::<LooseEntry>()? {
            if let Err(error) = self.1.add(self.0, entry) {
                self.1.too_many = Some(error);
                return Err(A::Error::custom("too many entries"));
            }
        }
        Ok(())
    }
}
