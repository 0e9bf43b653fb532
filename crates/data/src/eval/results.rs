//! COCO results files: detections as rows, read and written.

use std::collections::HashSet;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::error::{EvalError, ResultsProblem};
use crate::annotations::coco::Id;
use crate::annotations::json_guard::{GuardedJson, NotFinite, not_finite};
use crate::annotations::{MAX_ANNOTATIONS, check_count};
use crate::atomic::write_atomically;
use crate::boxes::BoxXyxy;
use crate::text::numbers;

/// A detection of a COCO results file.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ResultRow {
    /// The image's id in the dataset.
    pub image_id: u64,
    /// The original category id, not the contiguous class index of training.
    pub category_id: u64,
    /// `[x, y, width, height]` in pixels of the image.
    pub bbox: [f64; 4],
    /// The confidence; the metrics depend on its order only.
    pub score: f64,
}

impl ResultRow {
    /// Creates a row from a detection in image coordinates. Width and height are computed in `f64`,
    /// so that no digits are lost in the file.
    pub fn new(image_id: u64, category_id: u64, box_in_image: BoxXyxy, score: f32) -> Self {
        let BoxXyxy { x1, y1, x2, y2 } = box_in_image;
        let [x1, y1, x2, y2] = [x1, y1, x2, y2].map(f64::from);
        Self {
            image_id,
            category_id,
            bbox: [x1, y1, x2 - x1, y2 - y1],
            score: f64::from(score),
        }
    }

    /// Returns the box as corners, for drawing.
    pub fn box_in_image(&self) -> BoxXyxy {
        let [x, y, width, height] = self.bbox;
        BoxXyxy::new(x as f32, y as f32, (x + width) as f32, (y + height) as f32)
    }
}

/// A result row with readable names; evaluators ignore the extra keys.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NamedResultRow {
    /// The COCO row.
    #[serde(flatten)]
    pub row: ResultRow,
    /// The image file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// The class name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category_name: Option<String>,
}

/// Writes rows ([`ResultRow`] or [`NamedResultRow`]) as a COCO results file, one row per line, with
/// all digits that are needed to read the same numbers back. The write is atomic.
///
/// # Errors
/// The file can't be written, or a number is not finite; the row is named. (JSON has no NaN, and
/// `null` would not be read back.)
pub fn write_results<R: Serialize + AsRef<ResultRow>>(
    path: &Path,
    rows: &[R],
) -> Result<(), EvalError> {
    for (position, row) in rows.iter().enumerate() {
        row.as_ref().check_finite(position)?;
    }
    write_atomically(path, |out| {
        out.write_all(b"[")?;
        for (position, row) in rows.iter().enumerate() {
            out.write_all(if position == 0 { b"\n" } else { b",\n" })?;
            serde_json::to_writer(&mut *out, row)?;
        }
        out.write_all(b"\n]\n")
    })
    .map_err(|reason| EvalError::Write {
        path: path.into(),
        reason,
    })
}

/// Reads a COCO results file: a JSON list of `{image_id, category_id, bbox, score}`. Other keys are
/// ignored. Only the rows are kept in memory, regardless of the size and content of the file.
///
/// # Errors
/// The file can't be read or is not such a list; the row and the missing or wrong key are named. A
/// row without `score` is an error (as in pycocotools), never a score of zero, and so is a number that is
/// not finite.
pub fn read_results(path: &Path) -> Result<Vec<ResultRow>, EvalError> {
    let file = File::open(path).map_err(|reason| EvalError::Read {
        path: path.to_owned(),
        reason,
    })?;
    let guarded = GuardedJson::new(file, NotFinite::Mark);
    let rows: Rows =
        serde_json::from_reader(BufReader::with_capacity(1 << 16, guarded)).map_err(|error| {
            let reason = error.to_string();
            let begins = |key: &str| reason.contains(&format!("{key}: \""));
            let problem = if reason.contains(LINES) {
                Some(ResultsProblem::Lines)
            } else if ["image_id", "category_id"].into_iter().any(begins) {
                Some(ResultsProblem::StringIds)
            } else {
                None
            };
            EvalError::Malformed {
                path: path.to_owned(),
                expected: "a COCO results file",
                reason,
                problem,
            }
        })?;
    Ok(rows.0)
}

/// The error of a file that begins with a row, outside of a list.
const LINES: &str = "it is a row without a list, as JSON Lines have one on each line";

/// Returns how many rows are equal to an earlier one.
pub fn repeated_rows(rows: &[ResultRow]) -> usize {
    let bits = |row: &ResultRow| {
        let [x, y, w, h] = row.bbox;
        let numbers = [x, y, w, h, row.score].map(f64::to_bits);
        (row.image_id, row.category_id, numbers)
    };
    let mut seen = HashSet::with_capacity(rows.len());
    rows.iter().filter(|row| !seen.insert(bits(row))).count()
}

impl ResultRow {
    /// Checks that the row's numbers are finite; `position` is used in the message.
    pub(super) fn check_finite(&self, position: usize) -> Result<(), EvalError> {
        match self.not_finite() {
            None => Ok(()),
            Some(reason) => Err(EvalError::Row {
                row: position,
                reason,
            }),
        }
    }

    /// Describes a number of the row that is not finite.
    fn not_finite(&self) -> Option<String> {
        if !self.score.is_finite() {
            return Some(format!(
                "score {} (image_id {}): scores must be finite to sort the detections",
                self.score, self.image_id
            ));
        }
        if !self.bbox.iter().all(|v| v.is_finite()) {
            return Some(format!(
                "bbox {} (image_id {}): coordinates must be finite",
                numbers(&self.bbox),
                self.image_id
            ));
        }
        None
    }

    /// Returns whether the width or the height is negative, so that the box has no area.
    pub(super) fn has_negative_side(&self) -> bool {
        self.bbox[2] < 0.0 || self.bbox[3] < 0.0
    }
}

impl AsRef<ResultRow> for ResultRow {
    fn as_ref(&self) -> &ResultRow {
        self
    }
}

impl AsRef<ResultRow> for NamedResultRow {
    fn as_ref(&self) -> &ResultRow {
        &self.row
    }
}

#[derive(Deserialize)]
struct FileRow {
    #[serde(deserialize_with = "image_id")]
    image_id: u64,
    #[serde(deserialize_with = "category_id")]
    category_id: u64,
    bbox: Option<[Number; 4]>,
    score: Option<Number>,
}

fn image_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    named_id("image_id", deserializer)
}

fn category_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    named_id("category_id", deserializer)
}

/// Reads an id; an error names the key.
fn named_id<'de, D: Deserializer<'de>>(key: &str, deserializer: D) -> Result<u64, D::Error> {
    let id = Id::deserialize(deserializer);
    id.map(|id| id.0)
        .map_err(|error| D::Error::custom(format!("{key}: {error}")))
}

/// A number, also one of those that JSON does not have: programs in Python write a `NaN` as it is, and an error has
/// to name its row.
struct Number(f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor).map(Self)
    }
}

struct NumberVisitor;

impl Visitor<'_> for NumberVisitor {
    type Value = f64;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("a number")
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<f64, E> {
        Ok(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<f64, E> {
        Ok(value as f64)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<f64, E> {
        Ok(value as f64)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<f64, E> {
        let wrong = || E::invalid_type(serde::de::Unexpected::Str(value), &self);
        not_finite(value).ok_or_else(wrong)
    }
}

/// The whole list, parsed row by row so that an error can name the row.
struct Rows(Vec<ResultRow>);

impl<'de> Deserialize<'de> for Rows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RowsVisitor)
    }
}

struct RowsVisitor;

impl<'de> Visitor<'de> for RowsVisitor {
    type Value = Rows;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("a list of {image_id, category_id, bbox, score}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Rows, A::Error> {
        let mut rows = Vec::with_capacity(list.size_hint().unwrap_or(0));
        loop {
            let position = rows.len();
            let named = |problem: &dyn std::fmt::Display| -> A::Error {
                A::Error::custom(format!("row {position} (the first is 0): {problem}"))
            };
            check_count("result rows", position, MAX_ANNOTATIONS).map_err(A::Error::custom)?;
            let row: FileRow = match list.next_element() {
                Ok(Some(row)) => row,
                Ok(None) => return Ok(Rows(rows)),
                Err(error) => return Err(named(&error)),
            };
            let bbox = row.bbox.ok_or_else(|| named(&"no `bbox`"))?;
            let row = ResultRow {
                image_id: row.image_id,
                category_id: row.category_id,
                bbox: bbox.map(|number| number.0),
                score: row.score.ok_or_else(|| named(&"no `score`"))?.0,
            };
            if let Some(problem) = row.not_finite() {
                return Err(named(&problem));
            }
            rows.push(row);
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Rows, A::Error> {
        let mut keys = HashSet::new();
        while let Some((key, _)) = map.next_entry::<String, IgnoredAny>()? {
            let known = ["annotations", "image_id", "bbox"];
            keys.extend(known.into_iter().find(|known| **known == key));
        }
        let found = if keys.contains("annotations") {
            "it is an annotation file (it has `annotations`)"
        } else if keys.contains("image_id") && keys.contains("bbox") {
            LINES
        } else {
            "it is a JSON object"
        };
        Err(A::Error::custom(format!(
            "{found}; results are a list of {{image_id, category_id, bbox, score}}"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Vec<ResultRow>, EvalError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read_results(file.path())
    }

    #[test]
    fn extra_keys_are_ignored() {
        let rows = read(
            r#"[{"image_id": 42.0, "category_id": 18, "bbox": [1, 2, 3, 4.5], "score": 0.25,
                 "segmentation": {"size": [1, 2]}, "file_name": "a.jpg"}]"#,
        )
        .unwrap();
        assert_eq!(
            rows,
            [ResultRow {
                image_id: 42,
                category_id: 18,
                bbox: [1.0, 2.0, 3.0, 4.5],
                score: 0.25
            }]
        );
    }

    #[test]
    fn wrong_rows_are_named() {
        let good = r#"{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}"#;
        let cases = [
            (
                r#"{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}"#,
                "no `score`",
            ),
            (
                r#"{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": null}"#,
                "no `score`",
            ),
            (
                r#"{"image_id": 1, "category_id": 1, "score": 1}"#,
                "no `bbox`",
            ),
            (
                r#"{"image_id": 1, "category_id": 1, "bbox": [1, 2], "score": 1}"#,
                "invalid length 2",
            ),
            (
                r#"{"image_id": "000001", "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}"#,
                "image_id: \"000001\" is not a non-negative integer",
            ),
            (
                r#"{"image_id": 1, "category_id": -2, "bbox": [1, 2, 3, 4], "score": 1}"#,
                "category_id: -2 is not a non-negative integer",
            ),
            (
                r#"{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": NaN}"#,
                "score NaN (image_id 1): scores must be finite",
            ),
            (
                r#"{"image_id": 1, "category_id": 1, "bbox": [1, 2, -Infinity, 4], "score": 1}"#,
                "bbox [1, 2, -inf, 4] (image_id 1): coordinates must be finite",
            ),
            (
                r#"{"image_id": 1, "category_id": 1, "bbox": [1, 2, "3", 4], "score": 1}"#,
                "expected a number",
            ),
            (
                r#"{"category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}"#,
                "missing field `image_id`",
            ),
        ];
        for (row, part) in cases {
            let message = read(&format!("[{good}, {row}]")).unwrap_err().to_string();
            assert!(
                message.contains("row 1 (the first is 0)") && message.contains(part),
                "{message}"
            );
        }
    }

    #[test]
    fn an_annotation_file_in_place_of_results_is_recognized() {
        let message = read(r#"{"images": [], "annotations": [1, 2]}"#)
            .unwrap_err()
            .to_string();
        assert!(message.contains("it is an annotation file"), "{message}");
        assert!(read("{}").unwrap_err().to_string().contains("JSON object"));
    }

    #[test]
    fn json_lines_and_ids_that_are_strings_are_named_as_such() {
        let row = |image: &str| {
            format!(
                r#"{{"image_id": {image}, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}}"#
            )
        };
        let problem = |text: &str| match read(text).unwrap_err() {
            EvalError::Malformed {
                reason, problem, ..
            } => (reason, problem),
            error => panic!("{error}"),
        };
        let (reason, found) = problem(&format!("{}\n{}\n", row("1"), row("2")));
        assert_eq!(found, Some(ResultsProblem::Lines));
        assert!(reason.contains("JSON Lines"), "{reason}");
        let (_, found) = problem(&format!("[{}]", row("\"1\"")));
        assert_eq!(found, Some(ResultsProblem::StringIds));
        assert_eq!(problem("[1]").1, None);
    }

    #[test]
    fn rows_that_repeat_another_are_counted() {
        let row = |image_id, score| ResultRow {
            image_id,
            category_id: 1,
            bbox: [1.0, 2.0, 3.0, 4.0],
            score,
        };
        let rows = [
            row(1, 0.5),
            row(2, 0.5),
            row(1, 0.5),
            row(1, 0.4),
            row(1, 0.5),
        ];
        assert_eq!(repeated_rows(&rows), 2);
    }

    #[test]
    fn names_are_written_beside_the_coco_keys_and_ignored_when_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("predictions.json");
        let row = ResultRow::new(3, 7, BoxXyxy::new(0.1, 0.2, 10.3, 20.7), 0.9);
        let named = NamedResultRow {
            row,
            file_name: Some("a \"b\".jpg".into()),
            category_name: Some("teddy bear".into()),
        };
        write_results(&path, &[named]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(r#""category_name":"teddy bear""#), "{text}");
        assert_eq!(read_results(&path).unwrap(), [row]);
    }

    #[test]
    fn a_file_without_rows_is_an_empty_list() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("none.json");
        write_results::<ResultRow>(&path, &[]).unwrap();
        assert_eq!(read_results(&path).unwrap(), []);
    }

    #[test]
    fn numbers_that_json_lacks_are_refused_before_a_file_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nan.json");
        let row = ResultRow::new(3, 7, BoxXyxy::new(0.0, 0.0, 1.0, 1.0), f32::NAN);
        let message = write_results(&path, &[row]).unwrap_err().to_string();
        assert!(message.starts_with("result row 0"), "{message}");
        assert!(!path.exists());
    }

    /// Neither is kept in memory, and nested brackets do not use stack frames.
    #[test]
    fn hostile_files_are_refused_in_little_memory() {
        let deep = "[".repeat(1_000_000);
        let endless = format!("[{{\"image_id\": \"{}", "a".repeat(20 << 20));
        for (text, part) in [(deep, "nested"), (endless, "16 MiB")] {
            let message = read(&text).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }

    proptest! {
        #[test]
        fn every_f32_detection_survives_the_file(
            corners in prop::array::uniform4(-1e4f32..1e4), score in 0.0f32..=1.0,
        ) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("r.json");
            let [x1, y1, x2, y2] = corners;
            let row = ResultRow::new(1, 2, BoxXyxy::new(x1, y1, x2, y2), score);
            write_results(&path, &[row]).unwrap();
            prop_assert_eq!(read_results(&path).unwrap()[0], row);
            prop_assert_eq!(row.box_in_image(), BoxXyxy::new(x1, y1, x2, y2));
        }
    }
}
