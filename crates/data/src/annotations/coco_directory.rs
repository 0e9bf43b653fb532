//! COCO JSON in a directory: where annotation files and images are.
//!
//! [`find_coco`] expects COCO 2017 as unpacked from its archives:
//!
//! ```text
//! annotations/instances_train2017.json   train2017/
//! annotations/instances_val2017.json     val2017/
//! ```
//!
//! [`CocoFormat`] accepts any directory with COCO JSON annotations. For a split (train, val, test) it
//! uses the first of these that exists, in this order:
//!
//! 1. `annotations/instances_SPLIT2017.json`, else the only `annotations/instances_SPLIT*.json`
//! 2. `annotations/SPLIT.json`
//! 3. `instances_SPLIT.json`
//! 4. `SPLIT.json`
//! 5. `SPLIT/_annotations.coco.json` (Roboflow)
//!
//! where the directory and files of `val` may also be called `valid` or `validation`. The images are looked
//! for in `SPLIT2017/`, `SPLIT/`, `images/SPLIT2017/`, `images/SPLIT/`, `images/`, beside the JSON file,
//! and in the directory itself; the first that contains the first listed image is used.

use std::path::{Path, PathBuf};

use crate::DataError;
use crate::annotations::coco::write_coco_to;
use crate::annotations::format::{
    AnnotationFormat, Output, PlacedSplit, Reader, Written, WrittenSplit,
};
use crate::annotations::layout::{LayoutError, Split, SplitFiles, image_directories, join};
use crate::atomic::write_atomically;

/// COCO: `annotations/instances_SPLIT.json` and directories of images.
#[derive(Debug)]
pub struct CocoFormat;

impl AnnotationFormat for CocoFormat {
    fn key(&self) -> &'static str {
        "coco"
    }

    fn name(&self) -> &'static str {
        "COCO"
    }

    fn files(&self) -> String {
        candidates(Split::Train)
    }

    fn recognize(&self, root: &Path) -> Result<bool, DataError> {
        // Ambiguous files are COCO's, too; `splits` reports the error.
        Ok(Split::ALL
            .into_iter()
            .any(|split| !matches!(find_annotations(root, split), Ok(None))))
    }

    fn splits(&self, root: &Path) -> Result<Vec<SplitFiles>, DataError> {
        let mut splits = Vec::new();
        for split in Split::ALL {
            if let Some(annotations) = find_annotations(root, split)? {
                splits.push(SplitFiles {
                    format: &Self,
                    split,
                    image_directories: image_directories(root, &annotations, split),
                    annotations,
                });
            }
        }
        if splits.is_empty() {
            return Err(no_annotations(root, Split::Train).into());
        }
        Ok(splits)
    }

    fn reader(&self) -> Reader {
        Reader::CocoJson
    }

    fn image_path(&self, split: Split, file_name: &str) -> String {
        format!("{split}/{file_name}")
    }

    fn write(&self, splits: &[PlacedSplit], output: &Output) -> Result<Written, DataError> {
        let mut written = Written::default();
        for placed in splits {
            let split = placed.annotations.split;
            let prefix = format!("{split}/");
            let paths = placed.image_paths.iter();
            let names: Vec<&str> = paths
                .map(|path| path.strip_prefix(&prefix).unwrap_or(path))
                .collect();
            let store = placed.annotations.store.with_file_names(&names);
            let path = output.path(&format!("annotations/instances_{split}.json"))?;
            write_atomically(&path, |mut out| write_coco_to(&store, &mut out))
                .map_err(|source| DataError::io(&path, source))?;
            written.splits.push(WrittenSplit {
                split,
                images: store.image_count(),
                boxes: store.annotation_count(),
            });
        }
        Ok(written)
    }
}

/// Finds a split of COCO 2017 (train or val) in its original layout. The other split may be
/// missing: val is sufficient for evaluation.
///
/// # Errors
/// A file or directory is missing; the message names it. The test split, which has no annotations.
pub fn find_coco(data_dir: &Path, split: Split) -> Result<SplitFiles, LayoutError> {
    if !data_dir.is_dir() {
        return Err(LayoutError::NoDirectory {
            root: data_dir.to_owned(),
        });
    }
    if split == Split::Test {
        return Err(no_annotations(data_dir, split));
    }
    let annotations = data_dir
        .join("annotations")
        .join(format!("instances_{split}2017.json"));
    let directory = data_dir.join(format!("{split}2017"));
    let missing = if !annotations.is_file() {
        Some(&annotations)
    } else if !directory.is_dir() {
        Some(&directory)
    } else {
        None
    };
    if let Some(missing) = missing {
        return Err(LayoutError::NotCoco {
            root: data_dir.to_owned(),
            missing: missing
                .strip_prefix(data_dir)
                .unwrap_or(missing)
                .display()
                .to_string(),
        });
    }
    Ok(SplitFiles {
        format: &CocoFormat,
        split,
        annotations,
        image_directories: vec![directory],
    })
}

fn no_annotations(root: &Path, split: Split) -> LayoutError {
    LayoutError::NoAnnotations {
        root: root.to_owned(),
        split,
        expected: candidates(split),
    }
}

/// Returns the candidates after the `annotations/instances_SPLIT*.json` rule, in order.
fn fixed_candidates(split: Split) -> impl Iterator<Item = String> {
    let each_name =
        move |path: fn(&str) -> String| split.names().iter().map(move |name| path(name));
    each_name(|name| format!("annotations/{name}.json"))
        .chain(each_name(|name| format!("instances_{name}.json")))
        .chain(each_name(|name| format!("{name}.json")))
        .chain(each_name(|name| format!("{name}/_annotations.coco.json")))
}

fn candidates(split: Split) -> String {
    join(
        std::iter::once(format!("annotations/instances_{split}*.json"))
            .chain(fixed_candidates(split)),
    )
}

fn find_annotations(root: &Path, split: Split) -> Result<Option<PathBuf>, LayoutError> {
    let directory = root.join("annotations");
    let standard = directory.join(format!("instances_{split}2017.json"));
    if standard.is_file() {
        return Ok(Some(standard));
    }
    let mut found: Vec<PathBuf> = std::fs::read_dir(&directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| {
                name.starts_with(&format!("instances_{split}")) && name.ends_with(".json")
            })
        })
        .collect();
    found.sort();
    match found.len() {
        0 => {}
        1 => return Ok(found.pop()),
        _ => {
            return Err(LayoutError::Ambiguous {
                root: root.to_owned(),
                split,
                found: join(
                    found
                        .iter()
                        .filter_map(|path| path.file_name())
                        .map(Path::new)
                        .map(Path::display),
                ),
            });
        }
    }
    Ok(fixed_candidates(split)
        .map(|candidate| root.join(candidate))
        .find(|path| path.is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::format::DatasetFiles;

    const JSON: &str = r#"{"images":[{"id":1,"file_name":"a.png","width":3,"height":2},
        {"id":2,"file_name":"b.png","width":3,"height":2}],"annotations":[],
        "categories":[{"id":1,"name":"x"}]}"#;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            if file.ends_with(".json") {
                std::fs::write(path, JSON).unwrap();
            } else {
                image::RgbImage::new(3, 2).save(path).unwrap();
            }
        }
        dir
    }

    fn opens(root: &Path, split: Split) -> String {
        let files = DatasetFiles::find(root).unwrap();
        let read = files.split(split).unwrap().read().unwrap();
        let path = read.image_root.join(read.store.image(0).file_name);
        let relative = path.strip_prefix(root).unwrap();
        relative.display().to_string().replace('\\', "/")
    }

    #[test]
    fn coco_2017_is_found_as_it_is_unpacked() {
        let dir = tree(&[
            "annotations/instances_train2017.json",
            "annotations/instances_val2017.json",
            "train2017/a.png",
            "val2017/a.png",
        ]);
        let find = |split| find_coco(dir.path(), split);
        for split in [Split::Train, Split::Val] {
            assert_eq!(find(split).unwrap().read().unwrap().store.image_count(), 2);
        }
        assert_eq!(opens(dir.path(), Split::Train), "train2017/a.png");
        std::fs::remove_dir_all(dir.path().join("val2017")).unwrap();
        find(Split::Train).unwrap();
        let text = find(Split::Test).unwrap_err().to_string();
        assert!(text.contains("no test annotations"), "{text}");
        let text = find(Split::Val).unwrap_err().to_string();
        assert!(text.ends_with("val2017 is missing"), "{text}");
    }

    #[test]
    fn every_layout_of_coco_json_is_found() {
        for (files, split, expected) in [
            (
                &["instances_train.json", "images/a.png"][..],
                Split::Train,
                "images/a.png",
            ),
            (&["train.json", "a.png"], Split::Train, "a.png"),
            (
                &["annotations/val.json", "val/a.png"],
                Split::Val,
                "val/a.png",
            ),
            (
                &["annotations/test.json", "images/test/a.png"],
                Split::Test,
                "images/test/a.png",
            ),
            (
                &["annotations/instances_val2014.json", "images/val2017/a.png"],
                Split::Val,
                "images/val2017/a.png",
            ),
            (
                &["valid/_annotations.coco.json", "valid/a.png"],
                Split::Val,
                "valid/a.png",
            ),
            (
                &["annotations/train.json", "annotations/a.png"],
                Split::Train,
                "annotations/a.png",
            ),
        ] {
            assert_eq!(opens(tree(files).path(), split), expected);
        }
    }

    #[test]
    fn a_missing_first_image_does_not_hide_the_directory() {
        let dir = tree(&["train.json", "images/b.png"]);
        assert_eq!(opens(dir.path(), Split::Train), "images/a.png");
    }

    #[test]
    fn errors_list_what_is_expected() {
        let empty = tree(&[]);
        let text = DatasetFiles::find(empty.path()).unwrap_err().to_string();
        for part in [
            "annotations/instances_train*.json",
            "train.json",
            "_annotations.coco.json",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let no_images = tree(&["train.json"]);
        let files = DatasetFiles::find(no_images.path()).unwrap();
        let text = files
            .split(Split::Train)
            .unwrap()
            .read()
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("a.png") && text.contains("train2017"),
            "{text}"
        );
        let text = files.split(Split::Test).unwrap_err().to_string();
        assert!(text.contains("no test annotations"), "{text}");
        let text = DatasetFiles::find(Path::new("no/such"))
            .unwrap_err()
            .to_string();
        assert!(text.contains("no such directory"), "{text}");
    }

    #[test]
    fn two_files_for_one_split_are_ambiguous_unless_one_is_the_standard() {
        let dir = tree(&[
            "annotations/instances_train2014.json",
            "annotations/instances_train_small.json",
        ]);
        let text = DatasetFiles::find(dir.path()).unwrap_err().to_string();
        assert!(
            text.contains("instances_train2014.json, instances_train_small.json"),
            "{text}"
        );
        std::fs::write(
            dir.path().join("annotations/instances_train2017.json"),
            JSON,
        )
        .unwrap();
        let files = DatasetFiles::find(dir.path()).unwrap();
        let train = &files.split(Split::Train).unwrap().annotations;
        assert!(train.ends_with("instances_train2017.json"));
    }
}
