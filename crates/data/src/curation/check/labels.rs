//! YOLO's label files, read on behind their mistakes.

use std::collections::HashMap;

use rayon::prelude::*;

use crate::DataError;
use crate::annotations::layout::Split;
use crate::annotations::yolo::{
    YoloBox, YoloDirectory, common_directory, label_path, parse_line, read_text,
};
use crate::boxes::ImageSize;
use crate::curation::check::{
    CheckedSplit, Diagnostics, Entries, Kind, RawAnnotation, RawCategory, RawImage, Verdict,
};
use crate::loading::decode::image_size;

/// What is beside an image: its size, and each line as a box or as what is wrong with it.
type Labels = (Option<ImageSize>, Vec<Result<YoloBox, String>>);

/// Reads the labels of a split; ids are those of [`YoloDirectory::read`].
pub(super) fn read(
    name: &str,
    directory: &YoloDirectory,
    part: Split,
    diagnostics: &mut Diagnostics,
) -> Result<CheckedSplit, DataError> {
    let pictures = directory.images(part)?;
    let root = common_directory(&pictures);
    let classes = directory.names.len();
    let labels: Vec<Labels> = pictures
        .par_iter()
        .map(|picture| {
            let path = label_path(picture);
            let lines = match path.exists().then(|| read_text(&path)) {
                None => Vec::new(),
                Some(Err(error)) => vec![Err(error.to_string())],
                Some(Ok(text)) => (1..)
                    .zip(text.lines())
                    .filter(|(_, line)| !line.trim().is_empty())
                    .map(|(number, line)| {
                        parse_line(line, classes)
                            .map_err(|problem| format!("line {number}: {problem}"))
                    })
                    .collect(),
            };
            // An image without a size is found when it is decoded.
            (image_size(picture).ok(), lines)
        })
        .collect();
    let mut split = CheckedSplit {
        name: name.to_owned(),
        annotations: directory.root.clone(),
        is_whole: false,
        has_image_sizes: true,
        images: Entries::default(),
        objects: Entries::default(),
        categories: Entries::default(),
        image_facts: Vec::new(),
        image_moves: HashMap::new(),
        category_moves: HashMap::new(),
        image_directory: Some(root.clone()),
    };
    for (class, name) in directory.names.iter().enumerate() {
        let category = RawCategory {
            id: Some(class as u64 + 1),
            name: Some(name.as_str().into()),
        };
        split.categories.push(category, Verdict::Keep);
    }
    for ((image_id, picture), (size, lines)) in (1..).zip(&pictures).zip(labels) {
        let within = picture.strip_prefix(&root).unwrap_or(picture);
        let image = RawImage {
            id: Some(image_id),
            file_name: Some(within.to_string_lossy().into()),
            width: size.map(|size| size.width as u64),
            height: size.map(|size| size.height as u64),
        };
        split.images.push(image, Verdict::Keep);
        for line in lines {
            let found = match line {
                Ok(found) => found,
                Err(problem) => {
                    let file = label_path(picture).display().to_string();
                    let diagnostic = split.diagnostic(Some(file), Some(image_id), None, problem);
                    diagnostics.add(Kind::EntryMalformed, diagnostic);
                    continue;
                }
            };
            let xywh = size.map(|size| found.xywh(size).map(f64::from));
            let object = RawAnnotation {
                id: Some(split.objects.len() as u64 + 1),
                image_id: Some(image_id),
                category_id: Some(found.class as u64 + 1),
                xywh,
                area: xywh.map(|[_, _, w, h]| w * h),
                is_crowd: false,
                without_outline: false,
            };
            split.objects.push(object, Verdict::Keep);
        }
    }
    Ok(split)
}
