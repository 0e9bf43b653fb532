//! Reads a COCO document for the checker: every problem becomes a diagnostic.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::DataError;
use crate::annotations::coco::document::{Policy, Sink, read_document};
use crate::annotations::coco::entry::FieldProblem;
use crate::annotations::coco::{Entry, List};
use crate::annotations::format::{Dropped, SplitFiles};
use crate::boxes::described_rotated;
use crate::curation::check::{
    CheckProgress, CheckedSplit, Diagnostic, Diagnostics, Entries, Kind, Obstacle, RawAnnotation,
    RawCategory, RawImage, Verdict,
};

/// Reads the lists of a split. If a document can't be parsed completely, the entries before the
/// error are read.
pub(super) fn read(
    name: &str,
    files: &SplitFiles,
    diagnostics: &mut Diagnostics,
    progress: &(dyn Fn(CheckProgress) + Sync),
) -> Result<CheckedSplit, DataError> {
    let path = &files.annotations;
    let file = File::open(path).map_err(|source| DataError::io(path, source))?;
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let observed = Observed {
        inner: file,
        done: 0,
        length,
        progress,
    };
    let listed = files.is_part.then(|| files.format.images_listed_in(path));
    let listed = listed.flatten().unwrap_or_default();
    let mut reading = Reading {
        of_others: files.ids_of_others(&listed),
        name,
        path,
        diagnostics,
        images: Entries::default(),
        objects: Entries::default(),
        categories: Entries::default(),
        appearances: [0; 3],
        rotated_boxes: 0,
        dropped: Dropped::default(),
    };
    let is_whole = match read_document(observed, path, Policy::Report, &mut reading) {
        Ok(_) => true,
        Err(error @ DataError::Annotations { .. }) => return Err(error),
        Err(DataError::Json { source, .. }) => {
            // Whole JSON in which a list is something else.
            let kind = if source.is_data() {
                Kind::ListMissing
            } else {
                Kind::FileBroken
            };
            reading.file_diagnostic(kind, source.to_string());
            false
        }
        Err(DataError::Encoding { problem, .. }) => {
            reading.file_diagnostic(Kind::FileBroken, problem);
            false
        }
        Err(DataError::Io { source, .. }) => {
            reading.file_diagnostic(Kind::FileBroken, source.to_string());
            false
        }
        Err(error) => return Err(error),
    };
    reading.check_lists(is_whole);
    if let Some(note) = described_rotated(reading.rotated_boxes) {
        reading.file_diagnostic(Kind::FoundElsewhere, note);
    }
    for line in reading.dropped.lines().collect::<Vec<_>>() {
        reading.file_diagnostic(Kind::NotUsed, line);
    }
    Ok(CheckedSplit {
        name: name.to_owned(),
        annotations: path.clone(),
        image_directory: None,
        is_whole,
        obstacle: (!is_whole).then_some(Obstacle::NotWhole),
        is_misread: false,
        box_numbers: files.format.box_numbers(),
        has_image_sizes: false,
        unread_images: HashSet::new(),
        images: reading.images,
        objects: reading.objects,
        added: Vec::new(),
        categories: reading.categories,
        are_sizes_known: false,
        turned_images: 0,
        boxes_ignore_exif: 0,
        image_facts: Vec::new(),
        lost_images: Vec::new(),
        image_moves: HashMap::new(),
        left_out: Vec::new(),
        category_moves: HashMap::new(),
    })
}

/// A file reader that reports how many bytes were read.
struct Observed<'a> {
    inner: File,
    done: u64,
    length: u64,
    progress: &'a (dyn Fn(CheckProgress) + Sync),
}

impl Read for Observed<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(out)?;
        self.done += count as u64;
        (self.progress)(CheckProgress::Reading(self.done, self.length));
        Ok(count)
    }
}

struct Reading<'a> {
    name: &'a str,
    path: &'a Path,
    diagnostics: &'a mut Diagnostics,
    /// Ids of the images of other splits in the same file.
    of_others: HashSet<u64>,
    images: Entries<RawImage>,
    objects: Entries<RawAnnotation>,
    categories: Entries<RawCategory>,
    /// Number of occurrences of each list.
    appearances: [usize; 3],
    rotated_boxes: usize,
    /// Counts of what training does not use.
    dropped: Dropped,
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

    /// Checks the lists; a list that is absent from a broken document may follow the broken part.
    fn check_lists(&mut self, is_whole: bool) {
        for (list, count) in [
            (List::Images, self.images.len()),
            (List::Annotations, self.objects.len()),
            (List::Categories, self.categories.len()),
        ] {
            let name = list.name();
            let detail = match self.appearances[list as usize] {
                0 if is_whole => format!("there is no `{name}`"),
                1 if count == 0 && list != List::Annotations => format!("lists no {name}"),
                0 | 1 => continue,
                times => format!("`{name}` appears {times} times"),
            };
            self.file_diagnostic(Kind::ListMissing, detail);
        }
    }
}

impl Sink for Reading<'_> {
    fn begin(&mut self, list: List) -> io::Result<()> {
        self.appearances[list as usize] += 1;
        Ok(())
    }

    fn entry(
        &mut self,
        entry: Entry,
        position: usize,
        problems: &[FieldProblem],
    ) -> io::Result<()> {
        if entry.is_of_image(&self.of_others) {
            return Ok(());
        }
        let verdict = if problems.iter().any(|problem| problem.is_unusable) {
            Verdict::Drop
        } else if problems.is_empty() {
            Verdict::Keep
        } else {
            Verdict::Change
        };
        if !problems.is_empty() {
            let (file, annotation_id) = match &entry {
                Entry::Image(image) => (image.file_name.as_deref(), None),
                Entry::Annotation(annotation) => (None, annotation.id),
                Entry::Category(_) => (None, None),
            };
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            let diagnostic = Diagnostic {
                split: self.name.to_owned(),
                file: file.map(str::to_owned),
                image_id: entry.image_id(),
                annotation_id,
                detail: format!(
                    "{}[{position}]: {}",
                    entry.list().name(),
                    problems.join(", ")
                ),
            };
            self.diagnostics.add(Kind::EntryMalformed, diagnostic);
        }
        match entry {
            Entry::Image(image) => self.images.push(image, verdict),
            Entry::Category(category) => self.categories.push(category, verdict),
            Entry::Annotation(annotation) => {
                self.rotated_boxes += usize::from(annotation.is_rotated);
                self.dropped.add_flags(annotation.flags);
                let object = RawAnnotation {
                    id: annotation.id,
                    image_id: annotation.image_id,
                    category_id: annotation.category_id,
                    xywh: annotation.xywh,
                    area: annotation.area,
                    is_crowd: annotation.is_crowd,
                    without_outline: false,
                };
                self.objects.push(object, verdict);
            }
        }
        Ok(())
    }
}
