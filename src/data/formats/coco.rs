//! COCO instances JSON, read as a stream: segmentations are skipped, never held in memory.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::boxes::{BoxXyxy, ImageSize};
use crate::data::annotations::{Annotation, AnnotationStore, Category, ImageRecord};

/// What can be wrong with an annotation file.
#[derive(Debug, thiserror::Error)]
pub enum CocoError {
    /// The file can't be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Not JSON, or not of COCO's form.
    #[error("{}: not COCO instances JSON: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Parts of the file contradict each other.
    #[error("{}: {problem}", path.display())]
    Inconsistent {
        /// The file.
        path: PathBuf,
        /// The ids and what is wrong with them.
        problem: String,
    },
}

#[derive(Deserialize)]
struct File_ {
    images: Vec<Image>,
    #[serde(default)]
    annotations: Vec<Row>,
    categories: Vec<CategoryRow>,
    #[serde(default, rename = "info")]
    _info: IgnoredAny,
}

#[derive(Deserialize)]
struct Image {
    id: u64,
    file_name: String,
    width: u32,
    height: u32,
}

#[derive(Deserialize)]
struct CategoryRow {
    id: u64,
    name: String,
}

/// Fields that aren't named here, the segmentation above all, are parsed past without being kept.
#[derive(Deserialize)]
struct Row {
    #[serde(default)]
    id: u64,
    image_id: u64,
    category_id: u64,
    bbox: [f64; 4],
    #[serde(default)]
    area: Option<f64>,
    #[serde(default)]
    iscrowd: u8,
}

/// Read a COCO instances file.
///
/// # Errors
/// Unreadable, malformed, a duplicate image or category id, an annotation of an unknown image or
/// category, a box with a number that is not finite; each names the file and the ids.
pub fn read_coco(path: &Path) -> Result<AnnotationStore, CocoError> {
    let file = File::open(path).map_err(|source| CocoError::Read {
        path: path.to_path_buf(),
        source,
    })?;
    let parsed: File_ =
        serde_json::from_reader(BufReader::with_capacity(1 << 20, file)).map_err(|source| {
            CocoError::Parse {
                path: path.to_path_buf(),
                source,
            }
        })?;
    build(path, parsed)
}

fn build(path: &Path, file: File_) -> Result<AnnotationStore, CocoError> {
    let problem = |problem: String| CocoError::Inconsistent {
        path: path.to_path_buf(),
        problem,
    };
    let categories = file
        .categories
        .into_iter()
        .map(|c| Category {
            id: c.id,
            name: c.name,
        })
        .collect();
    let mut store = AnnotationStore::new(path.to_path_buf(), categories);
    if store.categories.is_empty() {
        return Err(problem("has no categories".into()));
    }
    let mut label_of = HashMap::new();
    for (label, category) in store.categories.iter().enumerate() {
        if label_of.insert(category.id, label).is_some() {
            return Err(problem(format!("category id {} stands twice", category.id)));
        }
    }
    let mut index_of = HashMap::with_capacity(file.images.len());
    for (index, image) in file.images.iter().enumerate() {
        if index_of.insert(image.id, index as u32).is_some() {
            return Err(problem(format!("image id {} stands twice", image.id)));
        }
        if image.width == 0 || image.height == 0 {
            return Err(problem(format!(
                "image {} ({}) has no size: {}x{}",
                image.id, image.file_name, image.width, image.height
            )));
        }
    }
    // Annotations by image: a counting sort keeps their order and needs one index array.
    let mut image_of_row = Vec::with_capacity(file.annotations.len());
    for row in &file.annotations {
        let Some(&index) = index_of.get(&row.image_id) else {
            return Err(problem(format!(
                "annotation {} belongs to image {}, which is not in the file",
                row.id, row.image_id
            )));
        };
        if !label_of.contains_key(&row.category_id) {
            return Err(problem(format!(
                "annotation {} has category {}, which is not in the file",
                row.id, row.category_id
            )));
        }
        if !row.bbox.iter().all(|v| v.is_finite()) {
            return Err(problem(format!("annotation {} has no finite box", row.id)));
        }
        image_of_row.push(index);
    }
    let mut order: Vec<u32> = (0..file.annotations.len() as u32).collect();
    order.sort_by_key(|&row| image_of_row[row as usize]);
    let mut rest = order.as_slice();
    for (index, image) in file.images.into_iter().enumerate() {
        let count = rest
            .iter()
            .take_while(|&&row| image_of_row[row as usize] as usize == index)
            .count();
        let (mine, others) = rest.split_at(count);
        rest = others;
        let annotations = mine.iter().map(|&row| {
            let row = &file.annotations[row as usize];
            Annotation {
                box_in_image: BoxXyxy::from_xywh(row.bbox.map(|v| v as f32)),
                label: label_of[&row.category_id],
                iscrowd: row.iscrowd != 0,
                area: row.area.unwrap_or(row.bbox[2] * row.bbox[3]),
            }
        });
        let record = ImageRecord {
            id: image.id,
            file_name: image.file_name,
            size: ImageSize::new(image.height as usize, image.width as usize),
        };
        store.push(&record, annotations);
    }
    store.shrink();
    Ok(store)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(json: &str) -> Result<AnnotationStore, CocoError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("instances.json");
        std::fs::write(&path, json).unwrap();
        read_coco(&path)
    }

    const GOOD: &str = r#"{
        "info": {"year": 2017}, "licenses": [],
        "images": [{"id": 7, "file_name": "a.jpg", "width": 30, "height": 20},
                   {"id": 3, "file_name": "b.jpg", "width": 10, "height": 10}],
        "categories": [{"id": 90, "name": "brush"}, {"id": 2, "name": "bicycle"}],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 90, "bbox": [1, 2, 3, 4], "area": 9.5,
             "segmentation": [[1, 2, 3, 4, 5, 6]], "iscrowd": 1},
            {"id": 2, "image_id": 7, "category_id": 2, "bbox": [0.5, 0, 5, 5]}]}"#;

    #[test]
    fn ids_with_gaps_become_contiguous_labels_in_the_order_of_the_ids() {
        let store = parse(GOOD).unwrap();
        let names: Vec<_> = store.categories.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["bicycle", "brush"]);
        assert_eq!((store.image_id(0), store.file_name(1)), (7, "b.jpg"));
        let first: Vec<_> = store.annotations(0).collect();
        assert_eq!(
            (first[0].label, first[0].area, first[0].iscrowd),
            (0, 25.0, false)
        );
        let second: Vec<_> = store.annotations(1).collect();
        assert_eq!(
            (second[0].label, second[0].area, second[0].iscrowd),
            (1, 9.5, true)
        );
    }

    #[test]
    fn contradictions_name_the_file_and_the_ids() {
        for (from, to, named) in [
            (r#""image_id": 7"#, r#""image_id": 8"#, "image 8"),
            (r#""category_id": 2"#, r#""category_id": 4"#, "category 4"),
            (r#""id": 3, "file"#, r#""id": 7, "file"#, "image id 7"),
            (r#""id": 90"#, r#""id": 2"#, "category id 2"),
            (r#""width": 10"#, r#""width": 0"#, "b.jpg"),
        ] {
            let message = parse(&GOOD.replace(from, to)).unwrap_err().to_string();
            assert!(
                message.contains(named) && message.contains("instances.json"),
                "{message}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn damaged_json_never_panics(at in 0usize..700, text in "[\\x00-\\x7f]{0,4}", cut in 0usize..700) {
            let mut json = GOOD.to_string();
            let at = at.min(json.len());
            json.insert_str(at, &text);
            json.truncate(json.len().saturating_sub(cut));
            let _ = parse(&json);
        }
    }
}
