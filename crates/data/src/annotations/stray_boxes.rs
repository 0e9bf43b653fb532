//! Boxes of images in files that are in no format: recognized beside classes, so that they can be named.

use std::path::Path;

use crate::annotations::image_files::has_extension;
use crate::annotations::split_lists::{ImageNames, cells_of, is_of_results, names_any, words_of};
use crate::text_file::beginning;

/// The number of bytes by which boxes are recognized.
const BEGINNING: u64 = 1 << 16;

/// Returns whether the beginning of a file has boxes of the images of a dataset: lists of four numbers or corners by the
/// names of images in JSON, columns of corners beside names in a table, or four numbers behind each name or number of an
/// image in a file that is called after boxes, such as CUB-200's `bounding_boxes.txt`.
pub(crate) fn holds_boxes<'n>(path: &Path, images: &dyn Fn() -> &'n ImageNames) -> bool {
    if words_of(path).iter().any(|word| is_of_results(word)) {
        return false;
    }
    if has_extension(path, "json") {
        let text = beginning(path, BEGINNING).unwrap_or_default();
        return has_boxes_in_json(&text, is_called_boxes(path)) && names_any(path, images());
    }
    let mut extensions = ["csv", "tsv", "txt"].iter();
    if !extensions.any(|extension| has_extension(path, extension)) {
        return false;
    }
    let text = beginning(path, BEGINNING).unwrap_or_default();
    let mut rows = text.lines().filter(|line| !line.trim().is_empty());
    let Some(header) = rows.next().map(cells_of) else {
        return false;
    };
    let rows: Vec<Vec<&str>> = rows.map(cells_of).collect();
    if let Some(corners) = columns_of_boxes(&header) {
        let mut others = (0..header.len()).filter(|at| !corners.contains(at));
        let is_image =
            |row: &&Vec<&str>, at: usize| row.get(at).is_some_and(|cell| images().denotes(cell));
        return others.any(|at| {
            let named = rows.iter().filter(|row| is_image(row, at)).count();
            named > 0 && 2 * named >= rows.len()
        });
    }
    if !is_called_boxes(path) {
        return false;
    }
    let is_box = |cells: &&Vec<&str>| match cells.as_slice() {
        [image, numbers @ ..] => {
            let are_numbers = numbers.iter().filter(|cell| cell.parse::<f64>().is_ok());
            are_numbers.count() >= 4 && images().denotes(image)
        }
        [] => false,
    };
    let all: Vec<Vec<&str>> = [header].into_iter().chain(rows).collect();
    2 * all.iter().filter(is_box).count() >= all.len()
}

fn is_called_boxes(path: &Path) -> bool {
    const WORDS: [&str; 7] = ["box", "boxes", "bbox", "bboxes", "bounding", "bb", "rois"];
    words_of(path)
        .iter()
        .any(|word| WORDS.contains(&word.as_str()))
}

/// Returns the positions of the columns of a box.
fn columns_of_boxes(header: &[&str]) -> Option<Vec<usize>> {
    const BOXES: [[&str; 4]; 6] = [
        ["x1", "y1", "x2", "y2"],
        ["xmin", "ymin", "xmax", "ymax"],
        ["left", "top", "right", "bottom"],
        ["x", "y", "w", "h"],
        ["x", "y", "width", "height"],
        ["bboxx", "bboxy", "bboxwidth", "bboxheight"],
    ];
    let letters = |cell: &&str| -> String {
        let lower = cell.to_lowercase();
        lower
            .chars()
            .filter(|letter| letter.is_alphanumeric())
            .collect()
    };
    let header: Vec<String> = header.iter().map(letters).collect();
    BOXES.iter().find_map(|columns| {
        let find = |column: &&str| header.iter().position(|cell| cell == column);
        columns.iter().map(find).collect()
    })
}

/// Returns whether a JSON document has lists of four numbers, of which one is a pixel unless the document is about boxes, or
/// the keys of corners. The probabilities of four classes are no box.
fn has_boxes_in_json(text: &str, is_called_boxes: bool) -> bool {
    let lower = text.to_lowercase();
    let has = |key: &str| lower.contains(&format!("\"{key}\""));
    if has("xmin") && has("xmax") || has("x1") && has("x2") {
        return true;
    }
    let is_about_boxes = is_called_boxes || has("bbox") || has("box") || has("boxes");
    let mut lists = text
        .split('[')
        .skip(1)
        .filter_map(|list| list.split_once(']'));
    lists.any(|(list, _)| {
        let numbers = list.split(',').map(|number| number.trim().parse::<f64>());
        let numbers: Result<Vec<f64>, _> = numbers.collect();
        numbers.is_ok_and(|numbers| {
            numbers.len() == 4 && (is_about_boxes || numbers.iter().any(|number| *number > 1.0))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_of_the_images_are_told_from_other_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let mut images = ImageNames::of(["cat/000.jpg", "dog/d1.jpg"].map(str::to_owned));
        images.add_numbers([7]);
        for (name, text, expected) in [
            ("boxes.json", r#"{"cat/000.jpg": [[10, 10, 40, 40]]}"#, true),
            ("all.json", r#"{"000.jpg": {"xmin": 1, "xmax": 2}}"#, true),
            ("bbox.json", r#"{"000.jpg": [0.1, 0.1, 0.4, 0.4]}"#, true),
            (
                "all.csv",
                "fname,x1,y1,x2,y2,class\ncat/000.jpg,1,2,3,4,cat\n",
                true,
            ),
            (
                "bbox.csv",
                "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax\nd1,x,/m/0,1,0.1,0.2,0.3,0.4\n",
                true,
            ),
            ("bounding_boxes.txt", "7 60.0 27.0 325.0 304.0\n", true),
            ("boxes.txt", "cat/000.jpg 60 27 325 304\n", true),
            // Other images, probabilities, sizes, and predictions.
            (
                "boxes.json",
                r#"{"cat/009.jpg": [[10, 10, 40, 40]]}"#,
                false,
            ),
            (
                "all.json",
                r#"{"cat/000.jpg": [0.1, 0.2, 0.3, 0.4]}"#,
                false,
            ),
            ("all.json", r#"{"cat/000.jpg": [640, 480]}"#, false),
            (
                "all.csv",
                "fname,width,height\ncat/000.jpg,640,480\n",
                false,
            ),
            ("all.csv", "fname,x1,y1,x2,y2\n009.jpg,1,2,3,4\n", false),
            (
                "predictions.csv",
                "fname,x1,y1,x2,y2\n000.jpg,1,2,3,4\n",
                false,
            ),
            ("numbers.txt", "7 60.0 27.0 325.0 304.0\n", false),
            ("boxes.txt", "boxes of cats\n", false),
        ] {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            assert_eq!(holds_boxes(&path, &|| &images), expected, "{name}: {text}");
        }
    }
}
