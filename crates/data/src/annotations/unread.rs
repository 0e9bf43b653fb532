//! Annotation formats that are known and not read, so that they can be refused by their name.

use std::path::{Path, PathBuf};

use crate::annotations::image_files::{DirectoryListing, has_extension};
use crate::annotations::layout::{LayoutError, Split};
use crate::images::decode::has_image_extension;
use crate::text_file::beginning;

/// A format that is not read.
struct UnreadFormat {
    name: &'static str,
    /// What its program can write instead.
    instead: &'static str,
    /// The extension of its files, in lower case.
    extension: &'static str,
    /// Recognizes the beginning of a file, given its name in lower case.
    is_in: fn(name: &str, text: &str) -> bool,
}

const UNREAD_FORMATS: &[UnreadFormat] = &[
    UnreadFormat {
        name: "CreateML",
        instead: "export the dataset as COCO JSON, Pascal VOC or YOLO",
        extension: "json",
        is_in: |name, text| {
            // RectLabel names the image `imagefilename`.
            name.contains("createml")
                || (text.starts_with('[') && has(text, &["coordinates", "label"]))
                || (text.starts_with('[') && has(text, &["image", "coordinates"]))
        },
    },
    UnreadFormat {
        name: "LabelMe",
        instead: "convert them to COCO with labelme's labelme2coco.py",
        extension: "json",
        is_in: |_, text| {
            has(text, &["shapes", "imagePath"]) || has(text, &["shapes", "shape_type"])
        },
    },
    UnreadFormat {
        name: "VIA project",
        instead: "export the annotations in VIA as COCO format (Annotation, Export Annotations)",
        extension: "json",
        is_in: |_, text| text.contains("\"_via_") || has(text, &["regions", "shape_attributes"]),
    },
    UnreadFormat {
        name: "VIA CSV",
        instead: "export the annotations in VIA as COCO format (Annotation, Export Annotations)",
        extension: "csv",
        is_in: |_, text| text.contains("region_shape_attributes"),
    },
    UnreadFormat {
        name: "Label Studio JSON",
        instead: "export the project from Label Studio as COCO, YOLO or Pascal VOC XML with images",
        extension: "json",
        is_in: |_, text| {
            text.starts_with('[')
                && (has(text, &["annotations", "result"]) || text.contains("\"rectanglelabels\""))
        },
    },
    UnreadFormat {
        name: "CVAT XML",
        instead: "export the task from CVAT as COCO 1.0, YOLO 1.1 or PASCAL VOC 1.1",
        extension: "xml",
        is_in: |_, text| text.contains("<annotations"),
    },
    UnreadFormat {
        name: "Datumaro",
        instead: "convert them with `datum convert -f coco`",
        extension: "json",
        is_in: |_, text| {
            has(text, &["dm_format_version"])
                || (has(text, &["items", "categories"]) && !has(text, &["images"]))
        },
    },
    UnreadFormat {
        name: "FiftyOne dataset",
        instead: "export it from FiftyOne as COCODetectionDataset, YOLOv5Dataset or VOCDetectionDataset",
        extension: "json",
        is_in: |_, text| has(text, &["samples"]) && text.contains("\"_cls\""),
    },
    UnreadFormat {
        name: "FiftyOne dataset",
        instead: "export it from FiftyOne as COCODetectionDataset, YOLOv5Dataset or VOCDetectionDataset",
        extension: "json",
        is_in: |name, text| name == "metadata.json" && text.contains("fiftyone"),
    },
    UnreadFormat {
        name: "Supervisely",
        instead: "export the project from Supervisely as COCO or Pascal VOC",
        extension: "json",
        is_in: |name, text| {
            has(text, &["classTitle", "points"])
                || has(text, &["classes", "projectType"])
                || (name == "meta.json" && has(text, &["classes", "tags"]))
                // An image without objects.
                || has(text, &["tags", "size", "objects"])
        },
    },
    UnreadFormat {
        name: "V7 Darwin",
        instead: "export the dataset from V7 as COCO or Pascal VOC",
        extension: "json",
        is_in: |_, text| has(text, &["annotations", "bounding_box"]) && !has(text, &["images"]),
    },
    UnreadFormat {
        name: "Labelbox",
        instead: "convert them to COCO, Pascal VOC or YOLO with the labelbox package",
        extension: "json",
        is_in: |_, text| {
            has(text, &["data_row", "projects"]) || has(text, &["Labeled Data", "Label"])
        },
    },
    UnreadFormat {
        name: "Labelbox",
        instead: "convert them to COCO, Pascal VOC or YOLO with the labelbox package",
        extension: "ndjson",
        is_in: |_, text| has(text, &["data_row"]),
    },
    UnreadFormat {
        name: "VoTT",
        instead: "export the project from VoTT as Pascal VOC or CSV",
        extension: "json",
        is_in: |_, text| {
            has(text, &["asset", "regions"]) || has(text, &["assets", "securityToken"])
        },
    },
    UnreadFormat {
        name: "SuperAnnotate",
        instead: "convert them to COCO with the superannotate package",
        extension: "json",
        is_in: |_, text| has(text, &["metadata", "instances"]),
    },
    UnreadFormat {
        name: "SageMaker manifest",
        instead: "convert them to COCO JSON",
        extension: "manifest",
        is_in: |_, text| has(text, &["source-ref"]),
    },
    UnreadFormat {
        name: "KITTI",
        instead: "convert them to COCO, Pascal VOC or YOLO",
        extension: "txt",
        is_in: |_, text| is_kitti(text),
    },
    UnreadFormat {
        name: "DOTA",
        instead: "convert them to COCO, Pascal VOC or YOLO (upright boxes)",
        extension: "txt",
        is_in: |_, text| is_dota(text),
    },
    UnreadFormat {
        name: "MOT",
        instead: "convert them to COCO, Pascal VOC or YOLO",
        extension: "txt",
        is_in: |name, text| name == "gt.txt" && numbers_by_comma(text).is_some_and(|n| n >= 9),
    },
    UnreadFormat {
        name: "VisDrone",
        instead: "convert them to COCO, Pascal VOC or YOLO",
        extension: "txt",
        is_in: |_, text| numbers_by_comma(text) == Some(8),
    },
    UnreadFormat {
        name: "BDD100K",
        instead: "convert them to COCO with the bdd100k toolkit",
        extension: "json",
        is_in: |_, text| has(text, &["labels", "box2d"]),
    },
    UnreadFormat {
        name: "Open Images CSV",
        instead: "convert them to COCO or Pascal VOC",
        extension: "csv",
        is_in: |_, text| text.starts_with("ImageID,Source,LabelName"),
    },
    UnreadFormat {
        name: "TFRecord",
        instead: "export the dataset as COCO JSON, Pascal VOC or the CSV file that the records were made from",
        extension: "tfrecord",
        is_in: |_, _| true,
    },
    UnreadFormat {
        name: "TFRecord",
        instead: "export the dataset as COCO JSON, Pascal VOC or the CSV file that the records were made from",
        extension: "record",
        is_in: |_, _| true,
    },
    UnreadFormat {
        name: "JSON Lines",
        instead: "convert them to COCO JSON",
        extension: "jsonl",
        is_in: |_, text| text.trim_start().starts_with('{'),
    },
    UnreadFormat {
        name: "odgt (CrowdHuman)",
        instead: "convert them to COCO JSON",
        extension: "odgt",
        is_in: |_, text| text.trim_start().starts_with('{'),
    },
    UnreadFormat {
        name: "WIDER FACE",
        instead: "convert them to COCO, Pascal VOC or YOLO",
        extension: "txt",
        is_in: |_, text| is_wider_face(text),
    },
    UnreadFormat {
        name: "Parquet",
        instead: "convert them to COCO JSON with image files",
        extension: "parquet",
        is_in: |_, _| true,
    },
];

/// Returns whether the first line is `class truncated occluded alpha x1 y1 x2 y2 ...`: 15 columns, and a score
/// in predictions.
fn is_kitti(text: &str) -> bool {
    let line = text.lines().next().unwrap_or_default();
    let columns: Vec<&str> = line.split_whitespace().collect();
    let is_number = |column: &&str| column.parse::<f64>().is_ok();
    matches!(columns.as_slice(), [class, numbers @ ..]
        if [14, 15].contains(&numbers.len()) && !is_number(class) && numbers.iter().all(is_number))
}

/// Returns whether the first line of objects is `x1 y1 x2 y2 x3 y3 x4 y4 class difficult`.
fn is_dota(text: &str) -> bool {
    let is_head = |line: &&str| line.starts_with("imagesource:") || line.starts_with("gsd:");
    let line = text.lines().find(|line| !is_head(line)).unwrap_or_default();
    let columns: Vec<&str> = line.split_whitespace().collect();
    let is_number = |column: &&str| column.parse::<f64>().is_ok();
    matches!(columns.as_slice(), [numbers @ .., class, "0" | "1" | "2"]
        if numbers.len() == 8 && !is_number(class) && numbers.iter().all(is_number))
}

/// Returns whether a text has the path of an image, the number of its boxes, and ten numbers for each of them.
fn is_wider_face(text: &str) -> bool {
    let mut lines = text.lines();
    let mut next = || lines.next().unwrap_or_default().trim();
    let is_image = has_image_extension(Path::new(next()));
    let is_count = next().parse::<u32>().is_ok();
    let numbers = next().split_whitespace().map(str::parse::<i64>);
    let numbers: Result<Vec<i64>, _> = numbers.collect();
    is_image && is_count && numbers.is_ok_and(|numbers| numbers.len() == 10)
}

/// Returns the number of columns of a table of numbers, separated by commas.
fn numbers_by_comma(text: &str) -> Option<usize> {
    let line = text.lines().next()?.trim().trim_end_matches(',');
    let columns: Vec<&str> = line.split(',').collect();
    let mut numbers = columns.iter().map(|column| column.trim().parse::<f64>());
    numbers
        .all(|number| number.is_ok())
        .then_some(columns.len())
}

/// Returns whether a JSON document has all of these keys.
fn has(text: &str, keys: &[&str]) -> bool {
    keys.iter().all(|key| text.contains(&format!("\"{key}\"")))
}

/// Returns the error about annotations in a format that is known and not read: of a file, or of a
/// directory that contains such a file, directly or in the directory of a split or of annotations.
pub(crate) fn unread_annotations(path: &Path) -> Option<LayoutError> {
    /// The first files of each kind are inspected.
    const TRIED: usize = 5;
    if path.is_file() {
        return unread_file(path);
    }
    let listing = DirectoryListing::of(path);
    let inner = Split::ALL
        .into_iter()
        .filter_map(|split| listing.split_directory(split));
    let named = [
        "annotations",
        "ann",
        "labels",
        "ds",
        "ds0",
        "json",
        "labelme",
        "images",
        "label_2",
        "labelTxt",
        "gt",
        "wider_face_split",
    ];
    let named = named.iter().filter_map(|name| listing.directory(&[name]));
    let outer: Vec<PathBuf> = [path.to_owned()]
        .into_iter()
        .chain(inner)
        .chain(named)
        .collect();
    // `annotations/train/`, `train/ann/`, `training/label_2/`
    let nested = outer.iter().skip(1).flat_map(|directory| {
        let listing = DirectoryListing::of(directory);
        let splits = Split::ALL.into_iter();
        let mut nested: Vec<PathBuf> = splits.filter_map(|s| listing.split_directory(s)).collect();
        let named = ["ann", "annotations", "label_2", "labelTxt", "labels"];
        nested.extend(named.iter().filter_map(|name| listing.directory(&[name])));
        nested
    });
    let directories: Vec<PathBuf> = outer.iter().cloned().chain(nested).collect();
    directories.iter().find_map(|directory| {
        let listing = DirectoryListing::of(directory);
        UNREAD_FORMATS.iter().find_map(|format| {
            let mut files = listing.files_with(format.extension).take(TRIED);
            files.find_map(|file| is_file_of(format, &file).then(|| error(format, file)))
        })
    })
}

/// Returns the error about a file of annotations in a format that is known and not read.
pub(crate) fn unread_file(path: &Path) -> Option<LayoutError> {
    let format = UNREAD_FORMATS
        .iter()
        .find(|format| is_file_of(format, path))?;
    Some(error(format, path.to_owned()))
}

fn is_file_of(format: &UnreadFormat, path: &Path) -> bool {
    const BEGINNING: u64 = 1 << 16;
    if !has_extension(path, format.extension) {
        return false;
    }
    let Some(text) = beginning(path, BEGINNING) else {
        return false;
    };
    let text = text.trim_start();
    let name = path.file_name().unwrap_or_default();
    let name = name.to_string_lossy().to_lowercase();
    (format.is_in)(&name, text)
}

fn error(format: &UnreadFormat, file: PathBuf) -> LayoutError {
    LayoutError::UnreadFormat {
        file,
        name: format.name,
        instead: format.instead,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn files_of_other_programs_are_named() {
        let dir = tempfile::tempdir().unwrap();
        for (file, text, expected) in [
            ("_annotations.createml.json", "[]", "CreateML"),
            (
                "a.json",
                r#"{"version": "5", "shapes": [], "imagePath": "a.jpg"}"#,
                "LabelMe",
            ),
            (
                "annotation_train.odgt",
                r#"{"ID": "a", "gtboxes": [{"tag": "person", "fbox": [1, 1, 9, 9]}]}"#,
                "odgt (CrowdHuman)",
            ),
            (
                "wider_face_train_bbx_gt.txt",
                "0--Parade/0_Parade_1.jpg\n1\n449 330 122 149 0 0 0 0 0 0\n",
                "WIDER FACE",
            ),
            (
                "via.json",
                r#"{"_via_settings": {}, "_via_img_metadata": {}}"#,
                "VIA project",
            ),
            (
                "via_region_data.json",
                r#"{"a.jpg123": {"filename": "a.jpg", "regions": [{"shape_attributes": {}}]}}"#,
                "VIA project",
            ),
            (
                "via.csv",
                "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes\n",
                "VIA CSV",
            ),
            (
                "project.json",
                r#"[{"id": 1, "annotations": [{"result": [{"value": {}}]}]}]"#,
                "Label Studio JSON",
            ),
            (
                "annotations.xml",
                "<?xml version=\"1.0\"?><annotations><version>1.1",
                "CVAT XML",
            ),
            (
                "default.json",
                r#"{"info": {}, "categories": {"label": {"labels": [{"name": "cat"}]}}, "items": []}"#,
                "Datumaro",
            ),
            (
                "boxes.json",
                r#"[{"imagefilename": "a.jpg", "annotation": [{"coordinates": {}, "label": "cat"}]}]"#,
                "CreateML",
            ),
            (
                "meta.json",
                r#"{"classes": [{"title": "cat", "shape": "rectangle"}], "tags": []}"#,
                "Supervisely",
            ),
            (
                "a.jpg.json",
                r#"{"description": "", "tags": [], "size": {"height": 1}, "objects": []}"#,
                "Supervisely",
            ),
            (
                "x-asset.json",
                r#"{"asset": {"format": "jpg"}, "regions": []}"#,
                "VoTT",
            ),
            (
                "export.ndjson",
                r#"{"data_row": {"id": "x"}, "projects": {}}"#,
                "Labelbox",
            ),
            (
                "000001.txt",
                "Car 0.00 0 -1.57 599.41 156.40 629.75 189.25 2.85 2.63 12.34 0.47 1.49 69.44 -1.56\n",
                "KITTI",
            ),
            (
                "P0001.txt",
                "imagesource:x\ngsd:0.1\n1 2 3 4 5 6 7 8 small-vehicle 0\n",
                "DOTA",
            ),
            ("gt.txt", "1,1,912,484,97,109,0,7,1\n", "MOT"),
            ("0000001.txt", "684,8,273,116,0,0,0,0,\n", "VisDrone"),
            ("a.tfrecord", "\0", "TFRecord"),
            (
                "train.csv",
                "ImageID,Source,LabelName,Confidence,XMin\n",
                "Open Images CSV",
            ),
        ] {
            let path = dir.path().join(file);
            std::fs::write(&path, text).unwrap();
            for place in [path.as_path(), dir.path()] {
                match unread_annotations(place) {
                    Some(LayoutError::UnreadFormat { name, .. }) => {
                        assert_eq!(name, expected, "{file}")
                    }
                    other => panic!("{file}: {other:?}"),
                }
            }
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn annotations_in_the_directories_of_their_program_are_found() {
        for file in [
            "ds0/ann/a.jpg.json",
            "annotations/train/a.json",
            "train/ann/a.json",
            "images/a.json",
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, r#"{"shapes": [], "imagePath": "a.jpg"}"#).unwrap();
            assert!(unread_annotations(dir.path()).is_some(), "{file}");
        }
    }

    proptest! {
        #[test]
        fn text_of_any_kind_is_told_apart_without_a_panic(text in "[-a-z0-9., :\"{}\\[\\]\n]{0,80}") {
            for format in UNREAD_FORMATS {
                let _ = (format.is_in)("gt.txt", &text);
            }
        }
    }

    #[test]
    fn other_files_are_not_taken_for_annotations() {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("config.json", "{\"a\": 1}"),
            ("train.csv", "id,label\n"),
            ("x.xml", "<x/>"),
            ("1.txt", "0 0.5 0.5 0.1 0.1\n"),
            ("train.txt", "images/1.jpg\n"),
            ("classes.txt", "cat\ndog\n"),
            (
                "instances.json",
                r#"{"images": [], "annotations": [{"bbox": []}], "categories": [], "items": []}"#,
            ),
            ("notes.json", r#"{"categories": [], "info": {}}"#),
        ] {
            std::fs::write(dir.path().join(file), text).unwrap();
        }
        assert!(unread_annotations(dir.path()).is_none());
    }
}
