//! COCO's three lists and their entries, each with its problems.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::value::{BoxValue, Scalar, Unread};
use crate::annotations::format::DIVISIONS;
use crate::annotations::{MAX_ANNOTATIONS, ObjectFlags};
use crate::boxes::{ImageSize, around_rotated};

/// The three lists of a COCO document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum List {
    /// `images`
    Images,
    /// `annotations`
    Annotations,
    /// `categories`
    Categories,
}

impl List {
    /// The lists in the order of their indices.
    pub(crate) const ALL: [Self; 3] = [Self::Images, Self::Annotations, Self::Categories];

    /// Returns the list with a key of the document.
    pub fn named(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|list| list.name() == key)
    }

    /// Returns the key in the document.
    pub fn name(self) -> &'static str {
        match self {
            Self::Images => "images",
            Self::Annotations => "annotations",
            Self::Categories => "categories",
        }
    }

    /// Returns the largest number of entries.
    pub fn limit(self) -> usize {
        match self {
            Self::Images | Self::Annotations => MAX_ANNOTATIONS,
            Self::Categories => usize::from(u16::MAX),
        }
    }

    pub(super) fn singular(self) -> &'static str {
        match self {
            Self::Images => "image",
            Self::Annotations => "annotation",
            Self::Categories => "category",
        }
    }
}

/// An entry of one of the three lists.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// An entry of `images`.
    Image(ImageEntry),
    /// An entry of `annotations`.
    Annotation(AnnotationEntry),
    /// An entry of `categories`.
    Category(CategoryEntry),
}

impl Entry {
    /// Returns the list that the entry is in.
    pub fn list(&self) -> List {
        match self {
            Self::Image(_) => List::Images,
            Self::Annotation(_) => List::Annotations,
            Self::Category(_) => List::Categories,
        }
    }

    /// Returns the entry's own id.
    pub fn id(&self) -> Option<u64> {
        match self {
            Self::Image(image) => image.id,
            Self::Annotation(annotation) => annotation.id,
            Self::Category(category) => category.id,
        }
    }

    /// Returns the id of the image that the entry is or belongs to; a category has none.
    pub fn image_id(&self) -> Option<u64> {
        match self {
            Self::Image(image) => image.id,
            Self::Annotation(annotation) => annotation.image_id,
            Self::Category(_) => None,
        }
    }

    /// Returns whether the entry is one of these images, or belongs to one.
    pub(crate) fn is_of_image(&self, ids: &HashSet<u64>) -> bool {
        self.image_id().is_some_and(|id| ids.contains(&id))
    }
}

/// An entry of `images`; a field is `None` where it is absent or unusable.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImageEntry {
    /// `id`
    pub id: Option<u64>,
    /// `file_name`, relative to the image directory.
    pub file_name: Option<Box<str>>,
    /// `width` in pixels.
    pub width: Option<u64>,
    /// `height` in pixels.
    pub height: Option<u64>,
    /// The field that may say the split, and its value: `split` and `val`.
    pub division: Option<(&'static str, Box<str>)>,
}

impl ImageEntry {
    /// Returns the size if both sides are at least one pixel.
    pub fn size(&self) -> Option<ImageSize> {
        match (self.width, self.height) {
            (Some(width @ 1..), Some(height @ 1..)) => {
                Some(ImageSize::new(height as usize, width as usize))
            }
            _ => None,
        }
    }
}

/// An entry of `annotations`; a field is `None` where it is absent or unusable.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AnnotationEntry {
    /// `id`
    pub id: Option<u64>,
    /// `image_id`
    pub image_id: Option<u64>,
    /// `category_id`
    pub category_id: Option<u64>,
    /// `bbox`: `[x, y, width, height]` in pixels of the image; may contain NaN and infinity. Of a rotated box it is the
    /// upright one around it.
    pub xywh: Option<[f64; 4]>,
    /// Whether the box is rotated.
    pub is_rotated: bool,
    /// `area` in square pixels; NaN where it is not a number.
    pub area: Option<f64>,
    /// `iscrowd`; false where it is absent.
    pub is_crowd: bool,
    /// `difficult` and `truncated`, which COCO does not have and converters of Pascal VOC write.
    pub flags: ObjectFlags,
    /// Which of the fields in `EXTRAS` have a value.
    pub extras: [bool; EXTRAS.len()],
}

/// Fields of annotations that are not kept, with what they contain.
pub(crate) const EXTRAS: [(&str, &str); 4] = [
    ("segmentation", "outlines"),
    ("keypoints", "keypoints"),
    ("score", "scores"),
    (ATTRIBUTES, "attributes"),
];

/// The field of [`EXTRAS`] in which CVAT writes the rotation of a box.
pub(crate) const ATTRIBUTES: &str = "attributes";

/// An entry of `categories`; a field is `None` where it is absent or unusable.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CategoryEntry {
    /// `id`
    pub id: Option<u64>,
    /// `name`
    pub name: Option<Box<str>>,
}

/// A problem of one field of an entry, or of the entry as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldProblem {
    /// The field; `None` where the entry is not an object or repeats a field.
    pub(crate) field: Option<&'static str>,
    /// Whether the value can't be used; false if it was understood despite the problem.
    pub(crate) is_unusable: bool,
    description: String,
}

impl FieldProblem {
    pub(super) fn new(field: &'static str, description: impl fmt::Display) -> Self {
        Self {
            field: Some(field),
            is_unusable: true,
            description: format!("`{field}` {description}"),
        }
    }

    fn understood(field: &'static str, description: impl fmt::Display) -> Self {
        Self {
            is_unusable: false,
            ..Self::new(field, description)
        }
    }
}

impl fmt::Display for FieldProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.description)
    }
}

/// The fields of an entry of any of the lists, before their values are validated.
#[derive(Debug, Default)]
pub(super) struct RawEntry {
    id: Scalar,
    file_name: Scalar,
    width: Scalar,
    height: Scalar,
    image_id: Scalar,
    category_id: Scalar,
    bbox: Option<BoxValue>,
    area: Scalar,
    iscrowd: Scalar,
    difficult: Scalar,
    truncated: Scalar,
    name: Scalar,
    /// A field in `DIVISIONS` with its value.
    division: Option<(&'static str, Scalar)>,
    /// The fields in `EXTRAS`.
    extras: [Unread; EXTRAS.len()],
    /// The type of an entry that is not an object.
    not_an_object: Option<&'static str>,
    /// A field that appears more than once; the last value counts, as in Python.
    repeated: Option<&'static str>,
}

impl RawEntry {
    /// Validates the values: returns the entry and adds its problems.
    pub(super) fn judge(mut self, list: List, problems: &mut Vec<FieldProblem>) -> Entry {
        let whole = |is_unusable, description| FieldProblem {
            field: None,
            is_unusable,
            description,
        };
        if let Some(found) = self.not_an_object {
            problems.push(whole(true, format!("is {found}, not an object")));
            return match list {
                List::Images => Entry::Image(ImageEntry::default()),
                List::Annotations => Entry::Annotation(AnnotationEntry::default()),
                List::Categories => Entry::Category(CategoryEntry::default()),
            };
        }
        if let Some(field) = self.repeated {
            problems.push(whole(false, format!("`{field}` appears twice")));
        }
        match list {
            List::Images => Entry::Image(ImageEntry {
                id: id("id", self.id.take(), problems),
                file_name: string("file_name", self.file_name.take(), problems),
                width: side("width", self.width.take(), problems),
                height: side("height", self.height.take(), problems),
                division: self.division.take().and_then(|(field, value)| {
                    let value = match value {
                        Scalar::String(value) => value,
                        Scalar::Bool(_) | Scalar::Integer(_) => value.to_string().into(),
                        _ => return None,
                    };
                    Some((field, value))
                }),
            }),
            List::Annotations => {
                let rotation = self.rotation();
                Entry::Annotation(AnnotationEntry {
                    id: own_id(self.id.take(), problems),
                    image_id: id("image_id", self.image_id.take(), problems),
                    category_id: id("category_id", self.category_id.take(), problems),
                    xywh: bbox(self.bbox.take(), problems).map(|xywh| match rotation {
                        Some(degrees) => around_rotated(xywh, degrees),
                        None => xywh,
                    }),
                    is_rotated: rotation.is_some(),
                    area: area(self.area.take(), problems),
                    is_crowd: flag("iscrowd", self.iscrowd.take(), problems),
                    flags: ObjectFlags {
                        difficult: is_set(&self.difficult),
                        truncated: is_set(&self.truncated),
                    },
                    extras: self.extras.map(|extra| extra.has_value),
                })
            }
            List::Categories => Entry::Category(CategoryEntry {
                id: id("id", self.id.take(), problems),
                name: string("name", self.name.take(), problems),
            }),
        }
    }

    /// Returns the degrees by which the box is rotated about its center, if it is: `attributes.rotation` of CVAT. The box
    /// of an outline is upright.
    fn rotation(&self) -> Option<f64> {
        let of = |field: &str| EXTRAS.iter().position(|(extra, _)| *extra == field);
        let has_outline = of("segmentation").is_some_and(|at| self.extras[at].has_value);
        let degrees = of(ATTRIBUTES).and_then(|at| self.extras[at].rotation);
        degrees.filter(|degrees| !has_outline && degrees.is_finite() && degrees % 180.0 != 0.0)
    }

    fn slot(&mut self, field: &str) -> Option<&mut Scalar> {
        Some(match field {
            "id" => &mut self.id,
            "file_name" => &mut self.file_name,
            "width" => &mut self.width,
            "height" => &mut self.height,
            "image_id" => &mut self.image_id,
            "category_id" => &mut self.category_id,
            "area" => &mut self.area,
            "iscrowd" => &mut self.iscrowd,
            "difficult" => &mut self.difficult,
            "truncated" => &mut self.truncated,
            "name" => &mut self.name,
            _ => return None,
        })
    }
}

fn unusable<T>(
    field: &'static str,
    value: &Scalar,
    expected: &str,
    problems: &mut Vec<FieldProblem>,
) -> Option<T> {
    problems.push(match value {
        Scalar::Null => FieldProblem::new(field, "is missing"),
        value => FieldProblem::new(field, format_args!("is {value}, not {expected}")),
    });
    None
}

/// Validates an id. A string of digits is parsed, so that a copy can be corrected, but is reported
/// as a problem.
fn id(field: &'static str, value: Scalar, problems: &mut Vec<FieldProblem>) -> Option<u64> {
    if let Some(id) = value.as_id() {
        return Some(id);
    }
    if let Scalar::String(string) = &value {
        let number = string.trim();
        let id = number.parse().ok();
        let id = id.or_else(|| Scalar::Number(number.parse().ok()?).as_id());
        if let Some(id) = id {
            let description = format_args!("is the string \"{number}\"");
            problems.push(FieldProblem::understood(field, description));
            return Some(id);
        }
    }
    unusable(field, &value, "a non-negative integer", problems)
}

/// Validates the id of an annotation. Nothing refers to it, so that a missing one can be replaced by
/// any free number.
fn own_id(value: Scalar, problems: &mut Vec<FieldProblem>) -> Option<u64> {
    match value {
        Scalar::Null => {
            problems.push(FieldProblem::understood("id", "is missing"));
            None
        }
        value => id("id", value, problems),
    }
}

/// Validates a side. A missing size is not a problem of the entry: training and the checker have the
/// size of the image, and the metrics do without. Programs that did not open the image write 0 or -1.
fn side(field: &'static str, value: Scalar, problems: &mut Vec<FieldProblem>) -> Option<u64> {
    match value {
        Scalar::Null | Scalar::Integer(0) => None,
        Scalar::Number(number) if number == 0.0 || number == -1.0 => None,
        value => id(field, value, problems),
    }
}

fn string(
    field: &'static str,
    value: Scalar,
    problems: &mut Vec<FieldProblem>,
) -> Option<Box<str>> {
    match value {
        Scalar::String(string) if !string.is_empty() => Some(string),
        value => unusable(field, &value, "a non-empty string", problems),
    }
}

fn bbox(value: Option<BoxValue>, problems: &mut Vec<FieldProblem>) -> Option<[f64; 4]> {
    let problem = match value {
        Some(BoxValue::Numbers {
            values,
            count: 4,
            has_strings,
        }) => {
            if has_strings {
                let description = "contains numbers written as strings";
                problems.push(FieldProblem::understood("bbox", description));
            }
            return Some(values);
        }
        None => FieldProblem::new("bbox", "is missing"),
        Some(BoxValue::Numbers { count: 1, .. }) => {
            FieldProblem::new("bbox", "has 1 number, not 4")
        }
        Some(BoxValue::Numbers { count, .. }) => {
            FieldProblem::new("bbox", format_args!("has {count} numbers, not 4"))
        }
        Some(BoxValue::Other(found)) => {
            FieldProblem::new("bbox", format_args!("is {found}, not four numbers"))
        }
    };
    problems.push(problem);
    None
}

/// Validates an area. A wrong area has a separate diagnostic, so it is NaN here and not a problem
/// of the entry; a number written as a string is that number.
fn area(value: Scalar, problems: &mut Vec<FieldProblem>) -> Option<f64> {
    match value {
        Scalar::Null => None,
        Scalar::Integer(number) => Some(number as f64),
        Scalar::Number(number) => Some(number),
        Scalar::String(string) => match string.trim().parse() {
            Ok(number) => {
                let description = format_args!("is the string \"{}\"", string.trim());
                problems.push(FieldProblem::understood("area", description));
                Some(number)
            }
            Err(_) => Some(f64::NAN),
        },
        _ => Some(f64::NAN),
    }
}

/// Returns whether a flag that is no field of COCO is set. Other values may have another meaning, such as KITTI's share of
/// the object that is outside of the image.
fn is_set(value: &Scalar) -> bool {
    match value {
        Scalar::Bool(is_set) => *is_set,
        Scalar::Integer(number) => *number == 1,
        Scalar::Number(number) => *number == 1.0,
        Scalar::String(string) => ["1", "true"].contains(&string.trim().to_lowercase().as_str()),
        _ => false,
    }
}

fn flag(field: &'static str, value: Scalar, problems: &mut Vec<FieldProblem>) -> bool {
    match &value {
        Scalar::Null | Scalar::Bool(false) | Scalar::Integer(0) => false,
        Scalar::Bool(true) | Scalar::Integer(1) => true,
        Scalar::Number(number) if *number == 0.0 || *number == 1.0 => *number == 1.0,
        Scalar::String(string)
            if ["0", "1", "false", "true"].contains(&string.trim().to_lowercase().as_str()) =>
        {
            let description = format_args!("is the string \"{string}\"");
            problems.push(FieldProblem::understood(field, description));
            matches!(string.trim().to_lowercase().as_str(), "1" | "true")
        }
        value => {
            let _: Option<()> = unusable(field, value, "0 or 1", problems);
            false
        }
    }
}

const FIELDS: [&str; 12] = [
    "id",
    "image_id",
    "category_id",
    "bbox",
    "area",
    "iscrowd",
    "difficult",
    "truncated",
    "file_name",
    "width",
    "height",
    "name",
];

/// A field of an entry.
enum Field {
    /// A position in [`FIELDS`].
    Known(usize),
    /// A position in [`EXTRAS`].
    Extra(usize),
    /// A position in [`DIVISIONS`].
    Division(usize),
    Unknown,
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldVisitor;
        impl Visitor<'_> for FieldVisitor {
            type Value = Field;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("the name of a field")
            }
            fn visit_str<E>(self, value: &str) -> Result<Field, E> {
                let known = FIELDS.iter().position(|known| *known == value);
                let extra = || EXTRAS.iter().position(|(extra, _)| *extra == value);
                let division = || DIVISIONS.iter().position(|division| *division == value);
                let known = known.map(Field::Known);
                let known = known.or_else(|| extra().map(Field::Extra));
                let known = known.or_else(|| division().map(Field::Division));
                Ok(known.unwrap_or(Field::Unknown))
            }
        }
        deserializer.deserialize_identifier(FieldVisitor)
    }
}

impl<'de> Deserialize<'de> for RawEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntryVisitor)
    }
}

struct EntryVisitor;

fn not_an_object<E>(found: &'static str) -> Result<RawEntry, E> {
    Ok(RawEntry {
        not_an_object: Some(found),
        ..RawEntry::default()
    })
}

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = RawEntry;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawEntry, A::Error> {
        let mut entry = RawEntry::default();
        let mut seen = [false; FIELDS.len()];
        while let Some(field) = map.next_key()? {
            let position = match field {
                Field::Known(position) => position,
                Field::Extra(position) => {
                    entry.extras[position] = map.next_value()?;
                    continue;
                }
                Field::Division(position) => {
                    let value: Scalar = map.next_value()?;
                    // The names are in the order of what they say.
                    let before = entry.division.as_ref();
                    let before =
                        before.and_then(|(field, _)| DIVISIONS.iter().position(|of| of == field));
                    if before.is_none_or(|before| position < before) {
                        entry.division = Some((DIVISIONS[position], value));
                    }
                    continue;
                }
                Field::Unknown => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            let field = FIELDS[position];
            if std::mem::replace(&mut seen[position], true) {
                entry.repeated = Some(field);
            }
            match entry.slot(field) {
                Some(slot) => *slot = map.next_value()?,
                None => entry.bbox = map.next_value()?,
            }
        }
        Ok(entry)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawEntry, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        not_an_object("a list")
    }
    fn visit_unit<E>(self) -> Result<RawEntry, E> {
        not_an_object("null")
    }
    fn visit_bool<E>(self, _: bool) -> Result<RawEntry, E> {
        not_an_object("true or false")
    }
    fn visit_u64<E>(self, _: u64) -> Result<RawEntry, E> {
        not_an_object("a number")
    }
    fn visit_i64<E>(self, _: i64) -> Result<RawEntry, E> {
        not_an_object("a number")
    }
    fn visit_f64<E>(self, _: f64) -> Result<RawEntry, E> {
        not_an_object("a number")
    }
    fn visit_str<E>(self, _: &str) -> Result<RawEntry, E> {
        not_an_object("a string")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(list: List, json: &str) -> (Entry, Vec<String>) {
        let raw: RawEntry = serde_json::from_str(json).unwrap();
        let mut problems = Vec::new();
        let entry = raw.judge(list, &mut problems);
        (entry, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_valid_annotation_has_no_problems() {
        let (entry, problems) = judged(
            List::Annotations,
            r#"{"id": 5, "image_id": 9.0, "category_id": 90, "iscrowd": true, "difficult": 1, "truncated": 0.3,
                "bbox": [1, 2, 3.5, 4],
                "area": 7.25, "segmentation": [[1, 2]], "width": "not a field of annotations"}"#,
        );
        assert_eq!(problems, [""; 0]);
        let expected = AnnotationEntry {
            id: Some(5),
            image_id: Some(9),
            category_id: Some(90),
            xywh: Some([1.0, 2.0, 3.5, 4.0]),
            is_rotated: false,
            area: Some(7.25),
            is_crowd: true,
            flags: ObjectFlags {
                difficult: true,
                truncated: false,
            },
            extras: [true, false, false, false],
        };
        assert_eq!(entry, Entry::Annotation(expected));
    }

    #[test]
    fn every_problem_of_an_entry_is_listed() {
        let (_, problems) = judged(
            List::Annotations,
            r#"{"id": "7", "image_id": -1, "image_id": -2, "bbox": [1, "2", 3], "iscrowd": 2}"#,
        );
        assert_eq!(
            problems,
            [
                "`image_id` appears twice",
                "`id` is the string \"7\"",
                "`image_id` is -2, not a non-negative integer",
                "`category_id` is missing",
                "`bbox` has 3 numbers, not 4",
                "`iscrowd` is 2, not 0 or 1",
            ]
        );
    }

    #[test]
    fn a_box_with_a_rotation_is_the_upright_one_around_it() {
        let read = |rest: &str| {
            let json = format!(
                r#"{{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 40, 10], {rest}}}"#
            );
            match judged(List::Annotations, &json) {
                (Entry::Annotation(entry), problems) if problems.is_empty() => {
                    (entry.is_rotated, entry.xywh.unwrap().map(f64::round))
                }
                other => panic!("{other:?}"),
            }
        };
        let upright = (false, [10.0, 20.0, 40.0, 10.0]);
        let turned = (true, [25.0, 5.0, 10.0, 40.0]);
        assert_eq!(
            read(r#""attributes": {"occluded": false, "rotation": 90.0}"#),
            turned
        );
        assert_eq!(
            read(r#""attributes": {"rotation": 270}, "segmentation": []"#),
            turned
        );
        for rest in [
            r#""attributes": {"rotation": 0.0}"#,
            r#""attributes": {"rotation": 180.0}"#,
            r#""attributes": {"rotation": "left"}"#,
            r#""attributes": {"rotation": null, "rotations": 90}"#,
            r#""attributes": [90], "rotation": 90"#,
            // An outline is not rotated again.
            r#""attributes": {"rotation": 90}, "segmentation": [[10, 20, 50, 20, 50, 30]]"#,
        ] {
            assert_eq!(read(rest), upright, "{rest}");
        }
    }

    #[test]
    fn flags_are_zero_one_or_boolean() {
        let flag = |value| {
            let json = format!(
                r#"{{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 1, 1], "iscrowd": {value}}}"#
            );
            match judged(List::Annotations, &json) {
                (Entry::Annotation(entry), problems) if problems.is_empty() => Some(entry.is_crowd),
                _ => None,
            }
        };
        assert_eq!(flag("1"), Some(true));
        assert_eq!(flag("0.0"), Some(false));
        assert_eq!(flag("true"), Some(true));
        assert_eq!(flag("null"), Some(false));
        let json = r#"{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 1, 1], "iscrowd": "True"}"#;
        let (entry, problems) = judged(List::Annotations, json);
        assert!(matches!(entry, Entry::Annotation(entry) if entry.is_crowd));
        assert_eq!(problems, ["`iscrowd` is the string \"True\""]);
        assert_eq!(flag("2"), None);
    }
}
