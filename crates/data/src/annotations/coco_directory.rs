//! COCO JSON in a directory: where annotation files and images are.
//!
//! The named dataset `coco` is COCO 2017 as unpacked from its archives:
//!
//! ```text
//! annotations/instances_train2017.json   train2017/
//! annotations/instances_val2017.json     val2017/
//! ```
//!
//! [`CocoFormat`] accepts any directory with COCO JSON annotations, and a COCO JSON file on its own. For
//! a split (train, val, test) it uses the first of these that exists, in this order:
//!
//! 1. `annotations/instances_SPLIT2017.json`, else the only `annotations/instances_SPLIT*.json`
//! 2. `annotations/SPLIT.json`
//! 3. `instances_SPLIT.json`
//! 4. `SPLIT.json`
//! 5. `SPLIT/_annotations.coco.json` (Roboflow)
//! 6. the only COCO JSON file in the directory or in `annotations` that has the split as a word of its
//!    name, such as `train_annotations.json`
//! 7. the only COCO JSON file in `SPLIT/`
//!
//! where `train` may also be called `training`, `val` `valid` or `validation`, and `test` `testing`, in
//! any capitals. If no split is found, the only COCO JSON file in the directory or in `annotations`,
//! such as `result.json` (Label Studio), `instances_default.json` (CVAT) or `labels.json` (FiftyOne), is
//! train. The images are looked for in `SPLIT2017/`, `SPLIT/`, `images/SPLIT2017/`, `images/SPLIT/`,
//! `data/` beside the JSON file in `SPLIT/` (FiftyOne), `images/default/`, `images/`, `JPEGImages/`, `data/`, beside the JSON file, and in the directory
//! itself; the first that contains the first listed image is used.

use std::path::{Path, PathBuf};

use crate::DataError;
use crate::annotations::coco::write_coco_to;
use crate::annotations::format::{
    AnnotationFormat, FoundSplits, Output, PlacedSplit, Reader, SplitFiles, StoredBox,
};
use crate::annotations::image_files::{DirectoryListing, has_extension};
use crate::annotations::layout::{LayoutError, Split, join};
use crate::annotations::unread::unread_file;
use crate::box_conventions::BoxConvention;
use crate::text_file::beginning;

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
        let fixed = fixed_candidates("train");
        join(std::iter::once("annotations/instances_train*.json".to_owned()).chain(fixed))
    }

    fn find(&self, path: &Path) -> Result<Option<FoundSplits>, DataError> {
        if path.is_file() {
            let is_coco = has_extension(path, "json") && looks_like_coco(path);
            return Ok(is_coco.then(|| one_file(path)));
        }
        Ok(FoundSplits::of_files(&Self, path, find_annotations(path)?))
    }

    /// Takes any JSON file that is not of a format that is known and not read: the reader names what is wrong.
    fn damaged_file(&self, path: &Path) -> Option<FoundSplits> {
        let is_json = path.is_file() && has_extension(path, "json");
        (is_json && unread_file(path).is_none()).then(|| one_file(path))
    }

    fn annotation_extension(&self) -> &'static str {
        "json"
    }

    fn may_be_in(&self, directory: &Path) -> bool {
        let has_json = |directory: &Path, is_meant: fn(&str) -> bool| {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name()).any(|name| {
                let name = name.to_string_lossy().to_lowercase();
                name.ends_with(".json") && is_meant(&name)
            })
        };
        has_json(&directory.join("annotations"), |_| true)
            || has_json(directory, |name| {
                name.starts_with("instances") || name.contains("coco")
            })
    }

    fn box_numbers(&self) -> BoxConvention {
        BoxConvention::SIZES
    }

    fn reader(&self) -> Reader {
        Reader::CocoJson
    }

    fn stored_box(&self, found: &StoredBox) -> Result<[f64; 4], &'static str> {
        Ok(found.xywh)
    }

    fn image_path(&self, split: Split, file_name: &str) -> String {
        format!("{split}/{file_name}")
    }

    fn lists_classes(&self) -> bool {
        true
    }

    fn stores_flags(&self) -> bool {
        true
    }

    fn names_lead_anywhere(&self) -> bool {
        true
    }

    fn write(&self, splits: &[PlacedSplit], output: &Output) -> Result<(), DataError> {
        for placed in splits {
            let split = placed.annotations.split;
            let prefix = format!("{split}/");
            let paths = placed.image_paths.iter();
            let names: Vec<&str> = paths
                .map(|path| path.strip_prefix(&prefix).unwrap_or(path))
                .collect();
            let store = placed.annotations.store.with_file_names(&names);
            output.write(&format!("annotations/instances_{split}.json"), |mut out| {
                write_coco_to(&store, &mut out)
            })?;
        }
        Ok(())
    }
}

fn one_file(path: &Path) -> FoundSplits {
    FoundSplits {
        splits: vec![SplitFiles::of_file(&CocoFormat, path, None)],
        reason: "a COCO JSON file".to_owned(),
    }
}

/// Finds a split of COCO 2017 (train or val) in its original layout. The other split may be
/// missing: val is sufficient for evaluation.
///
/// # Errors
/// A file or directory is missing; the message names it. The test split, which has no annotations.
pub(crate) fn find_coco(data_dir: &Path, split: Split) -> Result<SplitFiles, LayoutError> {
    if !data_dir.is_dir() {
        return Err(LayoutError::NoDirectory {
            root: data_dir.to_owned(),
        });
    }
    if split == Split::Test {
        let root = data_dir.to_owned();
        return Err(LayoutError::NoTestAnnotations { root });
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

/// Returns the candidates of a split name after the `annotations/instances_SPLIT*.json` rule, in order.
fn fixed_candidates(name: &str) -> [String; 4] {
    [
        format!("annotations/{name}.json"),
        format!("instances_{name}.json"),
        format!("{name}.json"),
        format!("{name}/_annotations.coco.json"),
    ]
}

/// Finds the annotation files of a directory.
fn find_annotations(root: &Path) -> Result<Vec<(Split, PathBuf)>, LayoutError> {
    let directory = CocoDirectory::of(root);
    let mut found = Vec::new();
    for split in Split::ALL {
        found.extend(directory.find(split)?.map(|file| (split, file)));
    }
    if found.is_empty() {
        let unnamed = directory.unnamed();
        found.extend(only(root, Split::Train, unnamed)?.map(|file| (Split::Train, file)));
    }
    Ok(found)
}

/// The directory of a dataset and its subdirectory of annotations.
struct CocoDirectory<'r> {
    root: &'r Path,
    listing: DirectoryListing,
    annotations: Option<DirectoryListing>,
}

impl<'r> CocoDirectory<'r> {
    fn of(root: &'r Path) -> Self {
        let listing = DirectoryListing::of(root);
        let annotations = listing.directory(&["annotations"]);
        Self {
            root,
            annotations: annotations.map(|path| DirectoryListing::of(&path)),
            listing,
        }
    }

    /// Finds the annotation file of a split.
    fn find(&self, split: Split) -> Result<Option<PathBuf>, LayoutError> {
        let in_annotations: Vec<PathBuf> = self
            .annotations
            .iter()
            .flat_map(|listing| listing.files_with("json"))
            .filter(|path| stem(path).starts_with(&format!("instances_{split}")))
            .collect();
        let standard = format!("instances_{split}2017");
        if let Some(standard) = in_annotations.iter().find(|path| stem(path) == standard) {
            return Ok(Some(standard.clone()));
        }
        if let Some(file) = only(self.root, split, in_annotations)? {
            return Ok(Some(file));
        }
        // Datumaro and others name their files so, too.
        let is_split = |path: &PathBuf| {
            Split::of_name(&stem(path)) == Some(split) && unread_file(path).is_none()
        };
        let annotations = self.annotations.as_ref();
        let mut in_annotations = annotations.into_iter().flat_map(|f| f.files_with("json"));
        let mut in_root = self.listing.files_with("json");
        let of_instances = |path: &PathBuf| {
            let stem = stem(path);
            let name = stem.strip_prefix("instances_");
            name.and_then(Split::of_name) == Some(split)
        };
        let directory = self.listing.split_directory(split);
        let roboflow = directory
            .as_ref()
            .map(|path| path.join("_annotations.coco.json"));
        let named = in_annotations
            .find(is_split)
            .or_else(|| in_root.find(of_instances))
            .or_else(|| self.listing.files_with("json").find(is_split))
            .or_else(|| roboflow.filter(|path| path.is_file()));
        if named.is_some() {
            return Ok(named);
        }
        let is_meant = |path: &PathBuf| Split::in_name(&stem(path)) == Some(split);
        let by_word = self
            .json_files()
            .filter(is_meant)
            .filter(|path| looks_like_coco(path));
        if let Some(file) = only(self.root, split, by_word.collect())? {
            return Ok(Some(file));
        }
        let Some(directory) = directory else {
            return Ok(None);
        };
        /// A directory with more has a file for each image.
        const FILES: usize = 8;
        let listing = DirectoryListing::of(&directory);
        let files: Vec<PathBuf> = listing.files_with("json").take(FILES + 1).collect();
        if files.len() > FILES {
            return Ok(None);
        }
        let files = files.into_iter().filter(|path| looks_like_coco(path));
        only(self.root, split, files.collect())
    }

    fn json_files(&self) -> impl Iterator<Item = PathBuf> + '_ {
        let annotations = self.annotations.iter();
        let in_annotations = annotations.flat_map(|listing| listing.files_with("json"));
        self.listing.files_with("json").chain(in_annotations)
    }

    /// Returns the COCO files whose name contains no split.
    fn unnamed(&self) -> Vec<PathBuf> {
        /// A directory with more has a file for each image.
        const FILES: usize = 32;
        let files: Vec<PathBuf> = self.json_files().take(FILES + 1).collect();
        if files.len() > FILES {
            return Vec::new();
        }
        let unnamed = files.into_iter();
        unnamed
            .filter(|path| Split::in_name(&stem(path)).is_none() && looks_like_coco(path))
            .collect()
    }
}

fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default();
    stem.to_string_lossy().to_lowercase()
}

/// Returns the only file, and reports several.
fn only(
    root: &Path,
    split: Split,
    mut files: Vec<PathBuf>,
) -> Result<Option<PathBuf>, LayoutError> {
    files.sort();
    if files.len() > 1 {
        let names = files.iter().filter_map(|path| path.file_name());
        return Err(LayoutError::Ambiguous {
            root: root.to_owned(),
            split,
            found: join(names.map(Path::new).map(Path::display)),
        });
    }
    Ok(files.pop())
}

/// Returns whether a JSON file begins as COCO annotations of boxes do. A file of hundreds of megabytes
/// is recognized by its beginning.
fn looks_like_coco(path: &Path) -> bool {
    const BEGINNING: u64 = 1 << 18;
    let Some(text) = beginning(path, BEGINNING) else {
        return false;
    };
    let has = |key: &str| text.contains(&format!("\"{key}\""));
    let has_list = ["images", "annotations", "categories"].map(has);
    let is_other = [
        "shapes",
        "_via_settings",
        "_via_img_metadata",
        "segments_info",
    ]
    .map(has);
    text.trim_start().starts_with('{')
        && !is_other.contains(&true)
        && (has_list.iter().filter(|has| **has).count() >= 2
            || (has("images") && has("file_name"))
            || (has("annotations") && has("bbox")))
        && unread_file(path).is_none()
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
                &["train/labels.json", "train/data/a.png"][..],
                Split::Train,
                "train/data/a.png",
            ),
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
            text.contains("images not found; expected `a.png` in"),
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
