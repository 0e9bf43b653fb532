//! `data.yaml`: class names and image directories of a dataset in YOLO's layout.

use std::fmt;
use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::DataError;
use crate::annotations::layout::Split;
use crate::text::nearest;

/// A `data.yaml` file.
#[derive(Debug, Default, PartialEq)]
pub(super) struct DataYaml {
    /// The directory that the splits are relative to.
    pub(super) path: Option<String>,
    /// Directories or lists of images of each split.
    pub(super) splits: Vec<(Split, Vec<String>)>,
    /// Class names; the position is the class's number.
    pub(super) names: Vec<String>,
    /// The number of values of the keypoints behind each box: the product of `kpt_shape`.
    pub(super) keypoints: Option<usize>,
    /// Keys that are not read, and their strings; the caller knows whether they are paths.
    pub(super) others: Vec<(String, Vec<String>)>,
}

/// The value of a key that is not read.
struct OtherValue {
    strings: Vec<String>,
    /// Whether it is a list or a mapping, as class names are.
    is_collection: bool,
}

/// The keys of the file.
#[derive(Default)]
struct Keys {
    path: Option<String>,
    /// The entries of train, val and test, whose keys have the names of [`Split::of_name`].
    splits: [Option<Entries>; 3],
    nc: Option<usize>,
    names: Option<Names>,
    kpt_shape: Option<[usize; 2]>,
    /// Other keys, such as `download` and `augment`.
    others: Vec<(String, OtherValue)>,
}

impl Keys {
    /// Returns a key that was probably meant as `names`, in a file that describes splits.
    fn similar_to_names(&self) -> Option<&str> {
        const ALIKE: [&str; 5] = ["names", "name", "class_names", "classes", "class"];
        let mut others = self.others.iter().filter(|(_, value)| value.is_collection);
        let alike = others.find(|(key, _)| {
            let key = key.to_lowercase();
            ALIKE.contains(&key.as_str()) || nearest(&key, &["names"]).is_some()
        });
        let has_splits = self.splits.iter().any(Option::is_some);
        alike.map(|(key, _)| key.as_str()).filter(|_| has_splits)
    }
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeysVisitor;
        impl<'de> Visitor<'de> for KeysVisitor {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping with `names`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Keys::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "path" => {
                            keys.path = map
                                .next_value()
                                .map_err(|_| A::Error::custom("`path` is not a string"))?;
                        }
                        "nc" => keys.nc = class_count(&mut map)?,
                        "names" => keys.names = map.next_value()?,
                        "kpt_shape" => keys.kpt_shape = key_point_shape(&mut map)?,
                        _ => match Split::of_name(&key) {
                            Some(split) => {
                                let entries: Option<Entries> = map.next_value().map_err(|_| {
                                    A::Error::custom(format!(
                                        "`{key}` is not a directory or list of images, or a sequence of them"
                                    ))
                                })?;
                                // An empty text is no directory, and not the one of the file either.
                                let entries = entries.filter(|Entries(places)| {
                                    places.iter().any(|place| !place.trim().is_empty())
                                });
                                let place = &mut keys.splits[split as usize];
                                if let (Some(Entries(first)), Some(Entries(second))) =
                                    (&*place, &entries)
                                    && first != second
                                {
                                    let problem = format!("`{key}` is another `{split}`");
                                    return Err(A::Error::custom(problem));
                                }
                                *place = entries.or(place.take());
                            }
                            None => {
                                keys.others.push((key, map.next_value()?));
                            }
                        },
                    }
                }
                Ok(keys)
            }
        }
        deserializer.deserialize_map(KeysVisitor)
    }
}

/// Reads the value of `nc`.
fn class_count<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<usize>, A::Error> {
    const PROBLEM: &str = "`nc` is not a whole number";
    // As a string, the value can be shown.
    let text: Option<String> = map.next_value().map_err(|_| A::Error::custom(PROBLEM))?;
    text.map(|text| {
        let problem = || A::Error::custom(format!("`nc` is `{text}`, not a whole number"));
        text.parse().map_err(|_| problem())
    })
    .transpose()
}

/// Reads the value of `kpt_shape`: the number of keypoints, and of the values of each.
fn key_point_shape<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<[usize; 2]>, A::Error> {
    let problem = || A::Error::custom("`kpt_shape` is not two whole numbers, such as [17, 3]");
    let words: Option<Vec<String>> = map.next_value().map_err(|_| problem())?;
    let Some(words) = words else {
        return Ok(None);
    };
    let numbers: Option<Vec<usize>> = words.iter().map(|word| word.parse().ok()).collect();
    match numbers.as_deref() {
        Some(&[points, values]) => Ok(Some([points, values])),
        _ => Err(problem()),
    }
}

impl OtherValue {
    fn scalar(strings: Vec<String>) -> Self {
        Self {
            strings,
            is_collection: false,
        }
    }
}

/// Reads the strings of a value of any type: itself, or the elements of a list.
impl<'de> Deserialize<'de> for OtherValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OtherVisitor;
        impl<'de> Visitor<'de> for OtherVisitor {
            type Value = OtherValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<OtherValue, E> {
                Ok(OtherValue::scalar(vec![value.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<OtherValue, A::Error> {
                let mut strings = Vec::new();
                while let Some(inner) = sequence.next_element::<OtherValue>()? {
                    strings.extend(inner.strings);
                }
                Ok(OtherValue {
                    strings,
                    is_collection: true,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<OtherValue, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(OtherValue {
                    strings: Vec::new(),
                    is_collection: true,
                })
            }

            fn visit_bool<E>(self, _: bool) -> Result<OtherValue, E> {
                Ok(OtherValue::scalar(Vec::new()))
            }

            fn visit_i64<E>(self, _: i64) -> Result<OtherValue, E> {
                Ok(OtherValue::scalar(Vec::new()))
            }

            fn visit_i128<E>(self, _: i128) -> Result<OtherValue, E> {
                Ok(OtherValue::scalar(Vec::new()))
            }

            fn visit_u64<E>(self, _: u64) -> Result<OtherValue, E> {
                Ok(OtherValue::scalar(Vec::new()))
            }

            fn visit_u128<E>(self, _: u128) -> Result<OtherValue, E> {
                Ok(OtherValue::scalar(Vec::new()))
            }

            fn visit_f64<E>(self, _: f64) -> Result<OtherValue, E> {
                Ok(OtherValue::scalar(Vec::new()))
            }

            fn visit_bytes<E>(self, _: &[u8]) -> Result<OtherValue, E> {
                Ok(OtherValue::scalar(Vec::new()))
            }

            fn visit_unit<E>(self) -> Result<OtherValue, E> {
                Ok(OtherValue::scalar(Vec::new()))
            }

            fn visit_none<E>(self) -> Result<OtherValue, E> {
                Ok(OtherValue::scalar(Vec::new()))
            }

            fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<OtherValue, D::Error> {
                OtherValue::deserialize(inner)
            }
        }
        deserializer.deserialize_any(OtherVisitor)
    }
}

impl DataYaml {
    /// Parses a YAML 1.2 file; None if it does not describe a dataset, that is, has no `names`.
    ///
    /// # Errors
    /// The file has `names` and is not valid YAML, its values contradict each other, or it has splits and a misspelled
    /// `names`.
    pub(super) fn parse(text: &str, path: &Path) -> Result<Option<Self>, DataError> {
        // A tag such as `!!python/tuple` asks for a value that only one program has.
        let options = || serde_saphyr::options! { reject_unsupported_tags: true };
        let keys: Keys = match serde_saphyr::from_str_with_options(text, options()) {
            Ok(keys) => keys,
            Err(error) if has_names(text) => {
                // A value of an unexpected type is valid YAML.
                let parsed = serde_saphyr::from_str_with_options::<IgnoredAny>(text, options());
                let problem = match parsed {
                    Ok(_) => in_one_line(&error),
                    Err(syntax) => format!("not valid YAML: {}", in_one_line(&syntax)),
                };
                return Err(DataError::labels(path, problem));
            }
            // Configuration of another program.
            Err(_) => return Ok(None),
        };
        let Some(Names(names)) = keys.names else {
            return match keys.similar_to_names() {
                Some(key) => {
                    let problem = format!("no `names`, but `{key}` (did you mean 'names'?)");
                    Err(DataError::labels(path, problem))
                }
                None => Ok(None),
            };
        };
        if names.is_empty() {
            return Err(DataError::labels(path, "`names` is empty"));
        }
        if let Some(count) = keys.nc.filter(|count| *count != names.len()) {
            let problem = format!("`nc` is {count}, but `names` has {} entries", names.len());
            return Err(DataError::labels(path, problem));
        }
        Ok(Some(Self {
            path: keys.path,
            splits: Split::ALL
                .into_iter()
                .zip(keys.splits)
                .filter_map(|(split, entries)| Some((split, entries?.0)))
                .filter(|(_, entries)| !entries.is_empty())
                .collect(),
            names,
            keypoints: keys
                .kpt_shape
                .map(|[points, values]| points.saturating_mul(values)),
            others: keys
                .others
                .into_iter()
                .map(|(key, value)| (key, value.strings))
                .collect(),
        }))
    }

    /// Formats the file for a directory with `images/SPLIT`.
    pub(super) fn format(names: &[String], splits: &[Split]) -> String {
        let mut text = String::from("path: .\n");
        for split in splits {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{split}: images/{split}");
        }
        text.push_str("names:\n");
        for (class, name) in names.iter().enumerate() {
            let _ = writeln!(text, "  {class}: {}", quoted(name));
        }
        text
    }
}

/// Reports whether a line begins with the key `names`.
fn has_names(text: &str) -> bool {
    text.lines().any(|line| {
        let key = line.split(':').next().unwrap_or_default();
        key.len() < line.len() && key.trim_end().trim_matches(['"', '\'']) == "names"
    })
}

/// Returns the message of a YAML error with line and column, without the excerpt of the file below
/// it.
fn in_one_line(error: &serde_saphyr::Error) -> String {
    let message = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
    let message = message.lines().next().unwrap_or_default();
    message
        .strip_prefix("error: ")
        .unwrap_or(message)
        .to_owned()
}

/// Formats a YAML string in double quotes.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            character if character.is_control() || is_break(character) => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(character));
            }
            character => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

/// Returns whether YAML reads the character as a line break, or does not allow it outside of an
/// escape.
fn is_break(character: char) -> bool {
    matches!(
        character,
        '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
    )
}

/// One string, or a list of them.
struct Entries(Vec<String>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a directory or list of images, or a sequence of them")
            }

            fn visit_str<E: serde::de::Error>(self, entry: &str) -> Result<Entries, E> {
                Ok(Entries(vec![entry.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = sequence.next_element()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_any(EntriesVisitor)
    }
}

/// Returns the error about a class whose name is a list or a mapping.
fn not_a_name<E: serde::de::Error>(class: usize) -> E {
    E::custom(format!("`names` has no string for class {class}"))
}

/// A list of names, or a mapping from class numbers to names, in any order and without gaps.
struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NamesVisitor;
        impl<'de> Visitor<'de> for NamesVisitor {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of class names, or a mapping from class numbers to names")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                // As strings, a name such as `no`, `1` or `1.0` keeps its spelling.
                while let Some(name) = sequence
                    .next_element::<String>()
                    .map_err(|_| not_a_name(names.len()))?
                {
                    names.push(name);
                }
                Ok(Names(names))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                let mut numbered = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    let Ok(class) = key.parse::<u64>() else {
                        let problem =
                            format!("`names` has the key `{key}`, not the number of a class");
                        return Err(A::Error::custom(problem));
                    };
                    let name = map.next_value().map_err(|_| not_a_name(class as usize))?;
                    numbered.push((class, name));
                }
                numbered.sort();
                if let Some((missing, _)) =
                    (0..).zip(&numbered).find(|(at, (class, _))| at != class)
                {
                    let problem = format!(
                        "`names` has {} entries and none for class {missing}",
                        numbered.len()
                    );
                    return Err(A::Error::custom(problem));
                }
                Ok(Names(numbered.into_iter().map(|(_, name)| name).collect()))
            }
        }
        deserializer.deserialize_any(NamesVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> DataYaml {
        DataYaml::parse(text, Path::new("data.yaml"))
            .unwrap()
            .unwrap()
    }

    fn names_of(text: &str) -> Vec<String> {
        parse(text).names
    }

    fn error_of(text: &str) -> String {
        let error = DataYaml::parse(text, Path::new("data.yaml")).unwrap_err();
        error.to_string()
    }

    #[test]
    fn every_usual_form_of_names_is_read() {
        for names in [
            "names:\n  0: cat\n  1: traffic light  # comment\n  2: 'it''s #1: x'\n",
            "names:\n  2: \"it's #1: x\"\n  0: cat\n  1: traffic light\n",
            "names: [cat, 'traffic light', \"it's #1: x\"]\nnc: 3",
            "names: [\n  cat, # comment\n\n  traffic light,\n  \"it's #1: x\",\n]\n",
            "names:\n- cat\n- traffic light\n- \"it's #1: x\"\n",
            "names: {0: cat, '1': traffic light, 2: \"it's #1: x\"}",
            "classes: &c [cat, traffic light, \"it's #1: x\"]\nnames: *c\n",
            "\"names\": [cat, traffic light, it's #1: x]\n"
                .replace("it's #1: x", "\"it's #1: x\"")
                .as_str(),
        ] {
            let text = format!(
                "# head\npath: ../datasets/x # where\ntrain: images/train\nval: ['images/a', images/b]\ntest:\n\n{names}\ndownload: |\n  import x\n"
            );
            let expected = DataYaml {
                path: Some("../datasets/x".into()),
                splits: vec![
                    (Split::Train, vec!["images/train".into()]),
                    (Split::Val, vec!["images/a".into(), "images/b".into()]),
                ],
                names: ["cat", "traffic light", "it's #1: x"]
                    .map(String::from)
                    .into(),
                keypoints: None,
                others: Vec::new(),
            };
            let parse = |text: &str| DataYaml {
                others: Vec::new(),
                ..parse(text)
            };
            assert_eq!(parse(&text), expected, "{names}");
            let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
            assert_eq!(parse(&windows), expected, "{names}");
        }
    }

    #[test]
    fn splits_have_their_usual_names_in_any_capitals_and_other_strings_are_kept() {
        for [train, val, test] in [
            ["train", "val", "test"],
            ["Train", "Validation", "TEST"],
            ["training", "valid", "testing"],
        ] {
            let text = format!("{train}: a\n{val}: [b, c]\n{test}:\nnames: [x]\n");
            let expected = [
                (Split::Train, vec!["a".to_owned()]),
                (Split::Val, vec!["b".to_owned(), "c".to_owned()]),
            ];
            assert_eq!(parse(&text).splits, expected, "{text}");
        }
        assert_eq!(parse("val: a\nvalid: a\nnames: [x]").splits.len(), 1);
        let message = error_of("val: a\nvalid: b\nnames: [x]");
        assert!(message.contains("`valid` is another `val`"), "{message}");
        let text = "names: [x]\nholdout: [a, 1]\nn: 2\nroboflow: {url: u}\nz: 1.5\nw: true\nv:\n";
        let others = parse(text).others.into_iter();
        let others: Vec<_> = others.filter(|(key, _)| key == "holdout").collect();
        assert_eq!(others[0].1[0], "a");
    }

    #[test]
    fn names_that_look_like_other_types_keep_their_spelling() {
        let text = "names: [no, yes, on, Off, true, 1, 1.0, 0x10, 007, 1e3]";
        assert_eq!(
            names_of(text),
            [
                "no", "yes", "on", "Off", "true", "1", "1.0", "0x10", "007", "1e3"
            ]
        );
        assert_eq!(names_of("names: {1: yes, 0: no}"), ["no", "yes"]);
    }

    #[test]
    fn errors_of_a_wrong_description_name_the_problem() {
        for (text, expected) in [
            (
                "nc: 3\nnames: [a, b]",
                "`nc` is 3, but `names` has 2 entries",
            ),
            ("names: []", "`names` is empty"),
            ("names: {0: a, 2: b}", "none for class 1"),
            ("names: {1: a, 2: b}", "none for class 0"),
            ("names: {0: a, 0: b}", "duplicate"),
            ("names: [a]\ntrain: x\nnames: [b]", "duplicate"),
            ("names: [a", "not valid YAML"),
            ("names: cat", "a list of class names"),
            ("names: [[a]]", "`names` has no string for class 0"),
            (
                "names: {0: a, 1: {b: c}}",
                "`names` has no string for class 1",
            ),
            (
                "names: {a: b}",
                "`names` has the key `a`, not the number of a class",
            ),
            ("names: [a]\ntrain: {x: y}", "a directory or list of images"),
            ("names: [a]\nnc: many", "`nc` is `many`, not a whole number"),
            ("names: [a]\nnc: [1]", "`nc` is not a whole number"),
            ("names: [a]\npath: [x]", "`path` is not a string"),
            ("train: x\nnames: !!python/tuple\n- a", "unsupported tag"),
            (
                "names: [a]\nkpt_shape: [17]",
                "`kpt_shape` is not two whole numbers",
            ),
            (
                "names: [a]\nkpt_shape: x",
                "`kpt_shape` is not two whole numbers",
            ),
        ] {
            let message = error_of(text);
            assert!(message.starts_with("data.yaml: "), "{message}");
            assert!(message.contains(expected), "{text}: {message}");
            assert_eq!(message.lines().count(), 1, "{message}");
            // Only the text is not YAML; the other problems are those of values.
            let is_yaml = ![
                "names: [a",
                "names: {0: a, 0: b}",
                "names: [a]\ntrain: x\nnames: [b]",
            ]
            .contains(&text)
                && !text.contains("!!");
            assert!(!is_yaml || !message.contains("not valid YAML"), "{message}");
        }
    }

    #[test]
    fn a_misspelled_key_of_the_class_names_is_suggested() {
        for key in ["name", "Names", "nams", "classes", "class_names"] {
            let message = error_of(&format!("train: a\nval: b\n{key}: [cat, dog]\n"));
            let expected = format!("data.yaml: no `names`, but `{key}` (did you mean 'names'?)");
            assert_eq!(message, expected);
        }
        // The title of a dataset, and a file without splits.
        for text in ["train: a\nname: pets\n", "name: [cat]\n"] {
            let parsed = DataYaml::parse(text, Path::new("x.yaml")).unwrap();
            assert_eq!(parsed, None, "{text}");
        }
    }

    #[test]
    fn other_yaml_files_are_no_descriptions() {
        for text in [
            "",
            "model: x",
            "- a\n- b",
            "a: [1",
            "a: 1\n---\nb: 2",
            "names:",
            "tags:\n  names: [a]\n",
        ] {
            let parsed = DataYaml::parse(text, Path::new("x.yaml")).unwrap();
            assert_eq!(parsed, None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn written_names_are_read_back(names in proptest::collection::vec(any::<String>(), 1..5)) {
            let text = DataYaml::format(&names, &[Split::Train, Split::Val]);
            let read = parse(&text);
            prop_assert_eq!(read.names, names);
            let splits: Vec<Split> = read.splits.iter().map(|(split, _)| *split).collect();
            prop_assert_eq!(splits, [Split::Train, Split::Val]);
        }

        #[test]
        fn text_of_any_kind_never_panics(text in "(names: )?.{0,60}") {
            let _ = DataYaml::parse(&text, Path::new("x.yaml"));
        }
    }
}
