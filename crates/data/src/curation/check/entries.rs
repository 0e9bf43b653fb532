//! The checker's reader for formats other than COCO JSON.

use std::collections::{HashMap, HashSet};

use crate::annotations::format::{SplitEntries, SplitFiles};
use crate::curation::check::{
    CheckedSplit, Diagnostics, Entries, Kind, RawAnnotation, RawCategory, RawImage, Verdict,
};
use crate::{DataError, Remedy};

/// Converts the entries of a split to those of the checker; ids are those of a strict read.
pub(super) fn read(
    name: &str,
    files: &SplitFiles,
    collected: SplitEntries,
    diagnostics: &mut Diagnostics,
) -> CheckedSplit {
    let mut split = CheckedSplit {
        name: name.to_owned(),
        // The description of the dataset is right, and an empty list is not.
        annotations: match collected.list {
            Some(list) if collected.images.is_empty() => list,
            _ => files.annotations.clone(),
        },
        is_whole: false,
        obstacle: None,
        is_misread: false,
        box_numbers: files.format.box_numbers(),
        has_image_sizes: true,
        unread_images: HashSet::new(),
        images: Entries::default(),
        objects: Entries::default(),
        added: Vec::new(),
        categories: Entries::default(),
        are_sizes_known: false,
        turned_images: 0,
        boxes_ignore_exif: 0,
        image_facts: Vec::new(),
        lost_images: Vec::new(),
        image_moves: HashMap::new(),
        left_out: collected.left_out,
        category_moves: HashMap::new(),
        image_directory: Some(collected.image_root),
    };
    for (id, name) in (1..).zip(collected.categories) {
        let category = RawCategory {
            id: Some(id),
            name: Some(name.into()),
        };
        split.categories.push(category, Verdict::Keep);
    }
    for (image_id, image) in (1..).zip(collected.images) {
        let entry = RawImage {
            id: Some(image_id),
            file_name: Some(image.file_name.into()),
            width: image.size.map(|size| size.width as u64),
            height: image.size.map(|size| size.height as u64),
            division: None,
        };
        split.images.push(entry, Verdict::Keep);
        for found in image.boxes {
            let xywh = found.xywh.map(|xywh| xywh.map(f64::from));
            let object = RawAnnotation {
                id: Some(split.objects.len() as u64 + 1),
                image_id: Some(image_id),
                category_id: Some(found.class as u64 + 1),
                xywh,
                area: xywh.map(|[_, _, width, height]| width * height),
                is_crowd: false,
                without_outline: false,
            };
            split.objects.push(object, Verdict::Keep);
        }
    }
    for note in collected.notes {
        diagnostics.add(
            Kind::FoundElsewhere,
            split.diagnostic(None, None, None, note),
        );
    }
    for line in collected.dropped.lines() {
        diagnostics.add(Kind::NotUsed, split.diagnostic(None, None, None, line));
    }
    for problem in collected.problems {
        // Problems of image files are found when the images are decoded.
        if problem.error.is_about_one_image() {
            continue;
        }
        if matches!(problem.error, DataError::SeveralFiles { .. }) {
            split.report_ambiguous(problem.image, &problem.error, diagnostics);
            continue;
        }
        let kind = match problem.error {
            // Training and the evaluation of val do without it.
            DataError::Labels {
                remedy: Some(Remedy::LeaveTestOut),
                ..
            } => Kind::TestWithoutLabels,
            DataError::Contradiction { .. } => Kind::Contradiction,
            DataError::Encoding { .. } => Kind::FileEncoding,
            _ => Kind::EntryMalformed,
        };
        if !matches!(kind, Kind::Contradiction | Kind::TestWithoutLabels) {
            split.unread_images.insert(problem.image as u64 + 1);
        }
        let (file, detail) = match problem.error {
            DataError::Labels {
                origin, problem, ..
            } => (Some(origin), problem),
            DataError::Encoding { path, problem } | DataError::Contradiction { path, problem } => {
                (Some(path.display().to_string()), problem)
            }
            DataError::Io { path, source } => {
                (Some(path.display().to_string()), source.to_string())
            }
            error => (None, error.to_string()),
        };
        let image_id = Some(problem.image as u64 + 1);
        let diagnostic = split.diagnostic(file, image_id, None, detail);
        diagnostics.add(kind, diagnostic);
    }
    split
}
