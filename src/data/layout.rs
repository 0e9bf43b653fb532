//! Where a data set's annotations and images lie: the COCO layout, and folders made by others.

use std::path::{Path, PathBuf};

use super::annotations::Category;
use super::dataset::DetectionDataset;
use super::formats::coco::{CocoError, read_coco};

/// Why a folder is not a data set.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The folder itself is missing.
    #[error("{}: no such folder", path.display())]
    NoFolder {
        /// The folder.
        path: PathBuf,
    },
    /// No annotation file where one is looked for.
    #[error(
        "{}: no annotations for '{split}' here; looked for {}", path.display(), looked_for.join(", ")
    )]
    NoAnnotations {
        /// The folder.
        path: PathBuf,
        /// `train` or `val`.
        split: String,
        /// Relative paths, in order.
        looked_for: Vec<String>,
    },
    /// Annotations, but none of the image folders has the first image.
    #[error(
        "{}: image {first} of {} is in none of {}", path.display(), annotations.display(),
        looked_in.join(", ")
    )]
    NoImages {
        /// The folder.
        path: PathBuf,
        /// The annotation file.
        annotations: PathBuf,
        /// Its first image.
        first: String,
        /// Relative folders, in order.
        looked_in: Vec<String>,
    },
    /// The annotation file is bad.
    #[error(transparent)]
    Coco(#[from] CocoError),
    /// Two splits with different classes can't share a network.
    #[error("train and val have different categories: {difference}")]
    CategoriesDiffer {
        /// Which.
        difference: String,
    },
}

/// Open one split (`train`, `val`, `test`) of a folder with COCO-format annotations.
///
/// Annotations are looked for as `annotations/instances_SPLIT2017.json` (COCO's own layout), then
/// the shorter names that people use; images in `SPLIT2017/`, `SPLIT/`, `images/SPLIT/`, `images/`
/// and beside the annotations. The first folder that has the first image is taken.
///
/// # Errors
/// Each says what was looked for and where.
pub fn open_split(folder: &Path, split: &str) -> Result<DetectionDataset, LayoutError> {
    if !folder.is_dir() {
        return Err(LayoutError::NoFolder {
            path: folder.to_path_buf(),
        });
    }
    let names = [
        format!("annotations/instances_{split}2017.json"),
        format!("annotations/instances_{split}.json"),
        format!("annotations/{split}.json"),
        format!("instances_{split}2017.json"),
        format!("instances_{split}.json"),
        format!("{split}.json"),
        format!("{split}/_annotations.coco.json"),
    ];
    let Some(annotations) = names.iter().map(|n| folder.join(n)).find(|p| p.is_file()) else {
        return Err(LayoutError::NoAnnotations {
            path: folder.to_path_buf(),
            split: split.to_string(),
            looked_for: names.to_vec(),
        });
    };
    let store = read_coco(&annotations)?;
    let beside = annotations.parent().unwrap_or(folder).to_path_buf();
    let folders = [
        format!("{split}2017"),
        split.to_string(),
        format!("images/{split}2017"),
        format!("images/{split}"),
        "images".to_string(),
        ".".to_string(),
    ];
    let first = if store.is_empty() {
        String::new()
    } else {
        store.file_name(0).to_string()
    };
    let found = folders
        .iter()
        .map(|name| folder.join(name))
        .chain([beside])
        .find(|directory| directory.join(&first).exists());
    match found {
        Some(directory) => Ok(DetectionDataset::from_folder(split, store, &directory)),
        None => Err(LayoutError::NoImages {
            path: folder.to_path_buf(),
            annotations,
            first,
            looked_in: folders.to_vec(),
        }),
    }
}

/// Open `train` and `val` of a folder and make sure that they speak of the same classes.
///
/// # Errors
/// As [`open_split`], and different category tables.
pub fn open_train_and_val(
    folder: &Path,
) -> Result<(DetectionDataset, DetectionDataset), LayoutError> {
    let train = open_split(folder, "train")?;
    let val = open_split(folder, "val")?;
    same_categories(&train.store.categories, &val.store.categories)?;
    Ok((train, val))
}

fn same_categories(train: &[Category], val: &[Category]) -> Result<(), LayoutError> {
    let only = |a: &[Category], b: &[Category], whose: &str| -> Vec<String> {
        a.iter()
            .filter(|c| !b.contains(c))
            .map(|c| format!("{} '{}' only in {whose}", c.id, c.name))
            .collect()
    };
    let mut difference = only(train, val, "train");
    difference.extend(only(val, train, "val"));
    if difference.is_empty() {
        Ok(())
    } else {
        Err(LayoutError::CategoriesDiffer {
            difference: difference.join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn json(file_name: &str, category: &str) -> String {
        format!(
            r#"{{"images": [{{"id": 1, "file_name": "{file_name}", "width": 4, "height": 3}}],
                "annotations": [], "categories": [{{"id": 5, "name": "{category}"}}]}}"#
        )
    }

    fn folder(files: &[(&str, String)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn the_coco_layout_the_flat_layout_and_the_roboflow_layout_open() {
        for (annotations, image) in [
            ("annotations/instances_val2017.json", "val2017/a.jpg"),
            ("val.json", "images/a.jpg"),
            ("val/_annotations.coco.json", "val/a.jpg"),
        ] {
            let dir = folder(&[(annotations, json("a.jpg", "x")), (image, String::new())]);
            let split = open_split(dir.path(), "val").unwrap();
            assert_eq!(split.store.len(), 1, "{annotations}");
        }
    }

    #[test]
    fn what_is_missing_is_said_with_the_places_that_were_searched() {
        let dir = folder(&[("train.json", json("a.jpg", "x"))]);
        let no_val = open_split(dir.path(), "val").unwrap_err().to_string();
        assert!(
            no_val.contains("annotations/instances_val2017.json"),
            "{no_val}"
        );
        let no_image = open_split(dir.path(), "train").unwrap_err().to_string();
        assert!(
            no_image.contains("a.jpg") && no_image.contains("train2017"),
            "{no_image}"
        );
        let gone = open_split(&dir.path().join("gone"), "val")
            .unwrap_err()
            .to_string();
        assert!(gone.contains("gone: no such folder"), "{gone}");
    }

    #[test]
    fn splits_with_different_classes_are_refused_with_the_difference() {
        let dir = folder(&[
            ("train.json", json("a.jpg", "cat")),
            ("val.json", json("a.jpg", "dog")),
            ("images/a.jpg", String::new()),
        ]);
        let message = open_train_and_val(dir.path()).unwrap_err().to_string();
        assert!(message.contains("'cat' only in train") && message.contains("'dog' only in val"));
    }
}
