//! JSON files of annotations and results, read as a stream: memory holds what is in the lists, however
//! large or hostile the file.

use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::path::Path;

use serde::de::{DeserializeOwned, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::error::EvalError;
use crate::annotations::MAX_ANNOTATIONS;
use crate::annotations::json_guard::{GuardedJson, NotFinite};

/// Read a file that should be `expected` ("a COCO results file"). `first_look` may refuse it by the
/// first bytes that are no blanks.
pub(super) fn read_json<T: DeserializeOwned>(
    path: &Path,
    expected: &'static str,
    first_look: impl FnOnce(&[u8]) -> Result<(), String>,
) -> Result<T, EvalError> {
    let unreadable = |reason| EvalError::Read {
        path: path.into(),
        reason,
    };
    let malformed = |reason: String| EvalError::Malformed {
        path: path.into(),
        expected,
        reason,
    };
    let file = File::open(path).map_err(unreadable)?;
    let guarded = GuardedJson::new(file, NotFinite::Refuse);
    let mut input = BufReader::with_capacity(1 << 16, guarded);
    let start = input.fill_buf().map_err(|error| match error.kind() {
        ErrorKind::InvalidData => malformed(error.to_string()),
        _ => unreadable(error),
    })?;
    first_look(start.trim_ascii_start()).map_err(malformed)?;
    serde_json::from_reader(input).map_err(|error| malformed(error.to_string()))
}

/// A list with no more than [`MAX_ANNOTATIONS`] entries.
pub(super) struct Limited<T>(pub Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Limited<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
            type Value = Limited<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Limited<T>, A::Error> {
                let mut kept = Vec::new();
                while let Some(entry) = list.next_element()? {
                    check_length(kept.len()).map_err(A::Error::custom)?;
                    kept.push(entry);
                }
                Ok(Limited(kept))
            }
        }

        deserializer.deserialize_seq(List(std::marker::PhantomData))
    }
}

/// Refuses an entry behind so many others.
pub(super) fn check_length(entries: usize) -> Result<(), String> {
    match entries < MAX_ANNOTATIONS {
        true => Ok(()),
        false => Err(format!("a list has more than {MAX_ANNOTATIONS} entries")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::{GroundTruth, read_results};

    /// Neither is kept in memory, and no bracket takes a frame of the stack.
    #[test]
    fn hostile_files_are_refused_in_little_memory() {
        let deep = "[".repeat(1_000_000);
        let endless = format!("[{{\"image_id\": \"{}", "a".repeat(20 << 20));
        for (text, part) in [(deep, "nested"), (endless, "text")] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            let results = read_results(file.path()).unwrap_err().to_string();
            assert!(results.contains(part), "{results}");
            let annotations = GroundTruth::from_file(file.path()).unwrap_err();
            let message = annotations.to_string();
            assert!(message.contains("a COCO annotation file"), "{message}");
        }
    }

    #[test]
    fn a_list_has_an_end() {
        assert!(check_length(MAX_ANNOTATIONS - 1).is_ok());
        let message = check_length(MAX_ANNOTATIONS).unwrap_err();
        assert!(message.contains("more than 50000000"), "{message}");
        let list: Limited<u8> = serde_json::from_str("[1, 2]").unwrap();
        assert_eq!(list.0, [1, 2]);
    }
}
