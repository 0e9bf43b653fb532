//! The reader of COCO documents.
//!
//! [`read_document`] reads the three lists as a stream and gives each entry to a [`Sink`]. The
//! [`Policy`] determines how problems are handled. Training, evaluation, the checker and copying
//! use different policies and sinks, but the same interpretation of an entry.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufReader, Read};
use std::path::Path;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::entry::{AnnotationEntry, Entry, FieldProblem, ImageEntry, List, RawEntry};
use crate::DataError;
use crate::annotations::json_guard::{GuardedJson, NotFinite};
use crate::annotations::{AnnotationError, check_count};
use crate::text::{self, numbers};

/// The handling of problems in a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// The first problem is an error. For training: everything that is read is usable for training,
    /// but sizes of images may be missing.
    Strict,
    /// Problems that COCO's own tools tolerate are tolerated and counted: unusable values of fields
    /// that the metrics do not need, and repeated fields (the last counts). Other problems are
    /// errors. For evaluation against third-party files.
    Lenient,
    /// The sink receives every problem, and only a document that can't be parsed further, or an
    /// entry too many, is an error. For the checker and for copies.
    Report,
}

/// A receiver of a document's entries.
pub(crate) trait Sink {
    /// Starts a list; a document may repeat a list, which the policy [`Policy::Report`] leaves to
    /// the sink.
    fn begin(&mut self, _list: List) -> io::Result<()> {
        Ok(())
    }

    /// Receives an entry, its position in its list, and what is wrong with it: nothing with the
    /// policy [`Policy::Strict`], nothing that affects the metrics with [`Policy::Lenient`].
    fn entry(&mut self, entry: Entry, position: usize, problems: &[FieldProblem])
    -> io::Result<()>;

    /// Ends a list.
    fn end(&mut self, _list: List) -> io::Result<()> {
        Ok(())
    }
}

/// Counts of the problems that [`Policy::Lenient`] tolerated.
#[derive(Debug, Default)]
pub(crate) struct Tolerated(BTreeMap<(List, Option<&'static str>), usize>);

impl Tolerated {
    fn add(&mut self, list: List, field: Option<&'static str>) {
        *self.0.entry((list, field)).or_default() += 1;
    }

    /// Formats one sentence for each kind of problem.
    pub(crate) fn sentences(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|((list, field), count)| {
            let entries = text::count(*count, list.singular());
            match field {
                Some(field) => {
                    format!(
                        "{entries} with a missing or wrong `{field}`, which the metrics do not need"
                    )
                }
                None => format!("{entries} with a repeated field: its last value is used"),
            }
        })
    }
}

/// The reason why a document could not be read completely.
#[derive(Debug)]
pub(super) enum DocumentError {
    /// Not JSON, or not a COCO document.
    Json(serde_json::Error),
    /// Refused by the policy.
    Annotations(AnnotationError),
    /// Reading, or the sink, failed.
    Io(io::Error),
}

/// Reads a document into `sink`; `path` is used in error messages only. Memory is bounded however
/// large or hostile the file is: see [`crate::annotations::json_guard`] and [`List::limit`].
///
/// # Errors
/// Reading fails, the document is not COCO JSON, it has more entries than fit, or the policy refuses
/// it. The message names the file, and the list, position and id of the entry.
pub(crate) fn read_document(
    reader: impl Read,
    path: &Path,
    policy: Policy,
    sink: &mut impl Sink,
) -> Result<Tolerated, DataError> {
    let guarded = GuardedJson::new(reader, NotFinite::Mark);
    let buffered = BufReader::with_capacity(1 << 16, guarded);
    parse(buffered, policy, sink).map_err(|error| match error {
        DocumentError::Json(source) if is_encoding(&source) => DataError::Encoding {
            path: path.to_owned(),
            problem: format!(
                "line {}, column {}: not UTF-8 text",
                source.line(),
                source.column()
            ),
        },
        DocumentError::Json(source) => DataError::Json {
            path: path.to_owned(),
            source,
        },
        DocumentError::Annotations(source) => DataError::Annotations {
            path: path.to_owned(),
            source,
        },
        DocumentError::Io(source) => DataError::io(path, source),
    })
}

/// Returns whether a string is not UTF-8. The parser has no kind of error for it.
fn is_encoding(error: &serde_json::Error) -> bool {
    error.to_string().starts_with("invalid unicode code point")
}

/// Reads a document from a guarded reader, which is read byte by byte.
pub(super) fn parse(
    guarded: impl Read,
    policy: Policy,
    sink: &mut impl Sink,
) -> Result<Tolerated, DocumentError> {
    let mut document = Document {
        policy,
        sink,
        seen: [false; 3],
        counts: [0; 3],
        file_name_bytes: 0,
        tolerated: Tolerated::default(),
        problems: Vec::new(),
        stopped: None,
    };
    let mut json = serde_json::Deserializer::from_reader(guarded);
    let parsed = TopLevel(&mut document)
        .deserialize(&mut json)
        .and_then(|()| json.end());
    if let Some(stopped) = document.stopped {
        return Err(stopped);
    }
    match parsed {
        Ok(()) => {}
        Err(error) if error.is_io() => return Err(DocumentError::Io(error.into())),
        Err(error) => return Err(DocumentError::Json(error)),
    }
    document.check_lists().map_err(DocumentError::Annotations)?;
    Ok(document.tolerated)
}

struct Document<'s, S> {
    policy: Policy,
    sink: &'s mut S,
    seen: [bool; 3],
    counts: [usize; 3],
    file_name_bytes: usize,
    tolerated: Tolerated,
    /// Problems of the current entry; one vector for all entries.
    problems: Vec<FieldProblem>,
    /// The reason for stopping; the parser only reports that it was stopped.
    stopped: Option<DocumentError>,
}

impl<S: Sink> Document<'_, S> {
    /// Checks that all lists exist. A file for a test server has no annotations, so only the
    /// metrics need that list.
    fn check_lists(&self) -> Result<(), AnnotationError> {
        let needed: &[List] = match self.policy {
            Policy::Strict | Policy::Lenient => {
                &[List::Images, List::Categories, List::Annotations]
            }
            Policy::Report => &[],
        };
        match needed.iter().find(|list| !self.seen[**list as usize]) {
            Some(list) => Err(AnnotationError::ListMissing { list: list.name() }),
            None => Ok(()),
        }
    }

    fn begin(&mut self, list: List) -> Result<(), DocumentError> {
        let is_repeated = std::mem::replace(&mut self.seen[list as usize], true);
        if is_repeated && self.policy != Policy::Report {
            let list = list.name();
            return Err(DocumentError::Annotations(AnnotationError::ListTwice {
                list,
            }));
        }
        self.sink.begin(list).map_err(DocumentError::Io)
    }

    fn add(&mut self, list: List, raw: RawEntry) -> Result<(), DocumentError> {
        let position = self.counts[list as usize];
        self.counts[list as usize] += 1;
        // Before the entry takes memory.
        check_count(list.name(), position + 1, list.limit()).map_err(DocumentError::Annotations)?;
        self.problems.clear();
        let entry = raw.judge(list, &mut self.problems);
        if let Entry::Image(ImageEntry {
            file_name: Some(name),
            ..
        }) = &entry
        {
            self.file_name_bytes += name.len();
            check_count(
                "bytes of file names",
                self.file_name_bytes,
                u32::MAX as usize,
            )
            .map_err(DocumentError::Annotations)?;
        }
        let refused = match self.policy {
            Policy::Strict => self
                .problems
                .first()
                .cloned()
                .or_else(|| untrainable(&entry)),
            Policy::Lenient => self.not_tolerated(&entry),
            Policy::Report => None,
        };
        if let Some(problem) = refused {
            return Err(DocumentError::Annotations(AnnotationError::Entry {
                list: list.name(),
                position,
                id: entry.id(),
                problem: problem.to_string(),
            }));
        }
        self.sink
            .entry(entry, position, &self.problems)
            .map_err(DocumentError::Io)
    }

    /// Returns the first problem that COCO's tools would not tolerate, and counts the tolerated
    /// ones before it.
    fn not_tolerated(&mut self, entry: &Entry) -> Option<FieldProblem> {
        let list = entry.list();
        let unneeded: &[&str] = match list {
            List::Images => &["file_name", "width", "height"],
            List::Annotations => &["id"],
            List::Categories => &["name"],
        };
        for problem in &self.problems {
            let is_tolerated = match problem.field {
                Some(field) => unneeded.contains(&field),
                None => !problem.is_unusable,
            };
            if !is_tolerated {
                return Some(problem.clone());
            }
            self.tolerated.add(list, problem.field);
        }
        match entry {
            Entry::Annotation(annotation) => not_finite(annotation),
            _ => None,
        }
    }
}

/// Returns the problem because of which the metrics can't use an entry.
fn not_finite(annotation: &AnnotationEntry) -> Option<FieldProblem> {
    if let Some(xywh) = annotation.xywh
        && !xywh.iter().all(|value| value.is_finite())
    {
        let description = format!("is {}, not four finite numbers", numbers(&xywh));
        return Some(FieldProblem::new("bbox", description));
    }
    match annotation.area {
        Some(area) if !area.is_finite() => Some(FieldProblem::new("area", "is not a number")),
        _ => None,
    }
}

/// Returns the problem because of which training can't use an entry that has no problems of its
/// own.
fn untrainable(entry: &Entry) -> Option<FieldProblem> {
    match entry {
        Entry::Annotation(annotation) => not_finite(annotation).or_else(|| {
            // The network's boxes are f32.
            let xywh = annotation.xywh?;
            let fits = xywh.iter().all(|value| (*value as f32).is_finite());
            (!fits).then(|| {
                let description = format!("is {}, out of range", numbers(&xywh));
                FieldProblem::new("bbox", description)
            })
        }),
        _ => None,
    }
}

/// The outer object.
struct TopLevel<'a, 's, S>(&'a mut Document<'s, S>);

impl<'de, S: Sink> DeserializeSeed<'de> for TopLevel<'_, '_, S> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, S: Sink> Visitor<'de> for TopLevel<'_, '_, S> {
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
            map.next_value_seed(Entries(list, &mut *self.0))?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(A::Error::custom(
            "it is a list, as results files are; annotations are an object with `images`, \
             `annotations` and `categories`",
        ))
    }
}

/// One of the three lists, entry by entry.
struct Entries<'a, 's, S>(List, &'a mut Document<'s, S>);

impl<S: Sink> Entries<'_, '_, S> {
    fn stop<E: serde::de::Error>(&mut self, result: Result<(), DocumentError>) -> Result<(), E> {
        result.map_err(|error| {
            self.1.stopped = Some(error);
            E::custom("stopped")
        })
    }
}

impl<'de, S: Sink> DeserializeSeed<'de> for Entries<'_, '_, S> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, S: Sink> Visitor<'de> for Entries<'_, '_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "a list of {}", self.0.name())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        let list = self.0;
        let begun = self.1.begin(list);
        self.stop(begun)?;
        while let Some(raw) = seq.next_element::<RawEntry>()? {
            let added = self.1.add(list, raw);
            self.stop(added)?;
        }
        let ended = self.1.sink.end(list).map_err(DocumentError::Io);
        self.stop(ended)
    }
}
