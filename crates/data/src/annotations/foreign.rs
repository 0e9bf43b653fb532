//! Annotation formats that are known and not read, so that they can be refused by their name.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::annotations::image_files::{Folder, has_extension};
use crate::annotations::layout::{LayoutError, Split};

/// A format that is not read.
struct Foreign {
    name: &'static str,
    /// What its program can write instead.
    instead: &'static str,
    /// The extension of its files, in lower case.
    extension: &'static str,
    /// Recognizes the beginning of a file, given its name in lower case.
    is_in: fn(name: &str, text: &str) -> bool,
}

const FORMATS: &[Foreign] = &[
    Foreign {
        name: "CreateML",
        instead: "export the dataset as COCO JSON, Pascal VOC or YOLO",
        extension: "json",
        is_in: |name, text| {
            name.contains("createml")
                || (text.starts_with('[') && has(text, &["image", "coordinates"]))
        },
    },
    Foreign {
        name: "LabelMe",
        instead: "convert them to COCO with labelme's labelme2coco.py",
        extension: "json",
        is_in: |_, text| {
            has(text, &["shapes", "imagePath"]) || has(text, &["shapes", "shape_type"])
        },
    },
    Foreign {
        name: "VIA project",
        instead: "export the annotations in VIA as COCO format (Annotation, Export Annotations)",
        extension: "json",
        is_in: |_, text| text.contains("\"_via_") || has(text, &["regions", "shape_attributes"]),
    },
    Foreign {
        name: "VIA CSV",
        instead: "export the annotations in VIA as COCO format (Annotation, Export Annotations)",
        extension: "csv",
        is_in: |_, text| text.contains("region_shape_attributes"),
    },
    Foreign {
        name: "Label Studio JSON",
        instead: "export the project from Label Studio as COCO, YOLO or Pascal VOC XML with images",
        extension: "json",
        is_in: |_, text| {
            text.starts_with('[')
                && (has(text, &["annotations", "result"]) || text.contains("\"rectanglelabels\""))
        },
    },
    Foreign {
        name: "CVAT XML",
        instead: "export the task from CVAT as COCO 1.0, YOLO 1.1 or PASCAL VOC 1.1",
        extension: "xml",
        is_in: |_, text| text.contains("<annotations"),
    },
    Foreign {
        name: "Datumaro",
        instead: "convert them with `datum convert -f coco`",
        extension: "json",
        is_in: |_, text| has(text, &["items", "label_cat"]) || has(text, &["dm_format_version"]),
    },
    Foreign {
        name: "FiftyOne dataset",
        instead: "export it from FiftyOne as COCODetectionDataset, YOLOv5Dataset or VOCDetectionDataset",
        extension: "json",
        is_in: |_, text| has(text, &["samples"]) && text.contains("\"_cls\""),
    },
    Foreign {
        name: "FiftyOne dataset",
        instead: "export it from FiftyOne as COCODetectionDataset, YOLOv5Dataset or VOCDetectionDataset",
        extension: "json",
        is_in: |name, text| name == "metadata.json" && text.contains("fiftyone"),
    },
    Foreign {
        name: "Supervisely",
        instead: "export the project from Supervisely as COCO or Pascal VOC",
        extension: "json",
        is_in: |_, text| {
            has(text, &["classTitle", "points"]) || has(text, &["classes", "projectType"])
        },
    },
    Foreign {
        name: "BDD100K",
        instead: "convert them to COCO with the bdd100k toolkit",
        extension: "json",
        is_in: |_, text| has(text, &["labels", "box2d"]),
    },
    Foreign {
        name: "Open Images CSV",
        instead: "convert them to COCO or Pascal VOC",
        extension: "csv",
        is_in: |_, text| text.starts_with("ImageID,Source,LabelName"),
    },
    Foreign {
        name: "TFRecord",
        instead: "export the dataset as COCO JSON, Pascal VOC or the CSV file that the records were made from",
        extension: "tfrecord",
        is_in: |_, _| true,
    },
    Foreign {
        name: "TFRecord",
        instead: "export the dataset as COCO JSON, Pascal VOC or the CSV file that the records were made from",
        extension: "record",
        is_in: |_, _| true,
    },
    Foreign {
        name: "JSON Lines",
        instead: "convert them to COCO JSON",
        extension: "jsonl",
        is_in: |_, text| text.trim_start().starts_with('{'),
    },
    Foreign {
        name: "Parquet",
        instead: "convert them to COCO JSON with image files",
        extension: "parquet",
        is_in: |_, _| true,
    },
];

/// Returns whether a JSON text has all of these keys.
fn has(text: &str, keys: &[&str]) -> bool {
    keys.iter().all(|key| text.contains(&format!("\"{key}\"")))
}

/// Returns the error about annotations in a format that is known and not read: of a file, or of a
/// directory that contains such a file, directly or in the directory of a split or of annotations.
pub(crate) fn foreign_annotations(path: &Path) -> Option<LayoutError> {
    /// The first files of each kind are looked at.
    const TRIED: usize = 5;
    if path.is_file() {
        return foreign_file(path);
    }
    let folder = Folder::of(path);
    let inner = Split::ALL
        .into_iter()
        .filter_map(|split| folder.split_directory(split));
    let named = ["annotations", "ann", "labels", "ds"];
    let named = named.iter().filter_map(|name| folder.directory(&[name]));
    let directories: Vec<PathBuf> = [path.to_owned()]
        .into_iter()
        .chain(inner)
        .chain(named)
        .collect();
    directories.iter().find_map(|directory| {
        let folder = Folder::of(directory);
        FORMATS.iter().find_map(|format| {
            let mut files = folder.files_with(format.extension).take(TRIED);
            files.find_map(|file| is_file_of(format, &file).then(|| error(format, file)))
        })
    })
}

fn foreign_file(path: &Path) -> Option<LayoutError> {
    let format = FORMATS.iter().find(|format| is_file_of(format, path))?;
    Some(error(format, path.to_owned()))
}

fn is_file_of(format: &Foreign, path: &Path) -> bool {
    const BEGINNING: u64 = 1 << 16;
    if !has_extension(path, format.extension) {
        return false;
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(BEGINNING).read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let name = path.file_name().unwrap_or_default();
    let name = name.to_string_lossy().to_lowercase();
    read.is_ok() && (format.is_in)(&name, text)
}

fn error(format: &Foreign, file: PathBuf) -> LayoutError {
    LayoutError::Foreign {
        file,
        name: format.name,
        instead: format.instead,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
                match foreign_annotations(place) {
                    Some(LayoutError::Foreign { name, .. }) => assert_eq!(name, expected, "{file}"),
                    other => panic!("{file}: {other:?}"),
                }
            }
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn other_files_are_not_taken_for_annotations() {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("config.json", "{\"a\": 1}"),
            ("train.csv", "id,label\n"),
            ("x.xml", "<x/>"),
        ] {
            std::fs::write(dir.path().join(file), text).unwrap();
        }
        assert!(foreign_annotations(dir.path()).is_none());
    }
}
