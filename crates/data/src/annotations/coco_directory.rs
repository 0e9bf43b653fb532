//! COCO JSON in a directory: where annotation files and images are.
//!
//! The named dataset `coco` is COCO 2017 as unpacked from its archives:
//!
//! ```text
//! annotations/instances_train2017.json   train2017/
//! annotations/instances_val2017.json     val2017/
//! ```
//!
//! [`CocoFormat`] accepts any directory with COCO JSON annotations, and a COCO JSON file on its own. The file of
//! a split (train, val, test) is `annotations/instances_SPLIT2017.json`, or else the only one of these, in
//! this order:
//!
//! 1. names that programs give: `annotations/instances_SPLIT*.json`, and `SPLIT.json` and `instances_SPLIT.json` in the
//!    directory or in `annotations`, and `SPLIT/_annotations.coco.json` (Roboflow)
//! 2. COCO JSON in the directory or in `annotations` that has the split as a word of its name, such as
//!    `train_annotations.json`
//! 3. COCO JSON in `SPLIT/`
//!
//! Several of one kind are an error, because the one that is not used would be lost; other COCO JSON is named as not
//! used, but for captions and the like, whose annotations have no boxes. `train` may also be called `training`, `val` `valid` or `validation`, and `test` `testing`, in any
//! capitals. If no split is found, the only COCO JSON file in the directory or in `annotations`,
//! such as `result.json` (Label Studio), `instances_default.json` (CVAT) or `labels.json` (FiftyOne), is
//! train. The images are looked for in `SPLIT2017/`, `SPLIT/`, `images/SPLIT2017/`, `images/SPLIT/`,
//! `data/` beside the JSON file in `SPLIT/` (FiftyOne), `images/default/`, `images/`, `JPEGImages/`, `data/`,
//! beside the JSON file, and in the directory itself; the only one that has all images is used, or else the
//! first that contains the first listed image; an error where those of several splits fit a file that names none. For such
//! a file, the directory of another split is used if it is the only one that has all images, and names in the directories of
//! several splits (`train/a.jpg`, `val/b.jpg`) divide the images, or else a field of each (`"split": "val"`).

use std::path::{Path, PathBuf};

use crate::DataError;
use crate::annotations::captions::is_without_boxes;
use crate::annotations::coco::{List, read_coco_json, write_coco_to};
use crate::annotations::format::{
    AnnotationFormat, FoundSplits, ListedImage, Output, PlacedSplit, Reader, SplitFiles, StoredBox,
};
use crate::annotations::image_files::{DirectoryListing, has_extension};
use crate::annotations::layout::{LayoutError, Split, join};
use crate::annotations::locations::FoundFiles;
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
            entries.map(|entry| entry.path()).any(|path| {
                let name = path.file_name().unwrap_or_default();
                let name = name.to_string_lossy().to_lowercase();
                name.ends_with(".json") && is_meant(&name) && !is_without_boxes(&path)
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

    fn images_listed_in(&self, annotations: &Path) -> Option<Vec<ListedImage>> {
        Some(read_coco_json(annotations).ok()?.images())
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
        unused: Vec::new(),
        lists: Vec::new(),
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
        is_part: false,
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
fn find_annotations(root: &Path) -> Result<FoundFiles, LayoutError> {
    let directory = CocoDirectory::of(root);
    let mut found = FoundFiles::default();
    for split in Split::ALL {
        directory.find(split, &mut found)?;
    }
    let unnamed = directory.unnamed();
    if found.of_splits.is_empty() {
        found.add_only(root, Split::Train, unnamed)?;
    } else {
        found.unused.extend(unnamed);
    }
    Ok(found)
}

/// The directories that may have the annotation files of a dataset; the first is COCO's.
const DIRECTORIES_OF_JSON: [&str; 4] = ["annotations", "annotation", "anns", "labels"];

/// The directory of a dataset and its subdirectory of annotations.
struct CocoDirectory<'r> {
    root: &'r Path,
    listing: DirectoryListing,
    annotations: Option<DirectoryListing>,
}

impl<'r> CocoDirectory<'r> {
    fn of(root: &'r Path) -> Self {
        let listing = DirectoryListing::of(root);
        let named = DIRECTORIES_OF_JSON.iter();
        let named = named.filter_map(|name| listing.directory(&[name]));
        let mut listings = named.map(|path| DirectoryListing::of(&path));
        let annotations = listings.find(|listing| listing.files_with("json").next().is_some());
        Self {
            root,
            annotations,
            listing,
        }
    }

    /// Finds the annotation file of a split, and others that seem to be of the split.
    fn find(&self, split: Split, found: &mut FoundFiles) -> Result<(), LayoutError> {
        let mut named = self.with_usual_name(split);
        // Beside COCO 2017, others are parts of it or the previous edition.
        let standard = format!("instances_{split}2017");
        let is_standard = |path: &PathBuf| is_in_annotations(path) && stem(path) == standard;
        if let Some(at) = named.iter().position(is_standard) {
            let standard = named.remove(at);
            found
                .unused
                .extend(std::mem::replace(&mut named, vec![standard]));
        }
        for files in [named, self.with_word(split), self.in_directory(split)] {
            if found.of_splits.iter().any(|(of, _)| *of == split) {
                let is_new = |path: &PathBuf| !is_companion(path);
                found.unused.extend(files.into_iter().filter(is_new));
            } else {
                found.add_only(self.root, split, files)?;
            }
        }
        Ok(())
    }

    /// Returns the files with a name that programs give to the annotations of a split.
    fn with_usual_name(&self, split: Split) -> Vec<PathBuf> {
        let is_split = |path: &PathBuf| {
            let stem = stem(path);
            let name = stem.strip_prefix("instances_").unwrap_or(&stem);
            Split::of_name(name) == Some(split)
                && unread_file(path).is_none()
                && !is_without_boxes(path)
                && !has_lists_of_names(path)
        };
        // The original names have the year: `instances_train2017`.
        let is_original = |path: &PathBuf| {
            stem(path).starts_with(&format!("instances_{split}")) || is_split(path)
        };
        let in_annotations = self.annotations.iter();
        let in_annotations = in_annotations.flat_map(|listing| listing.files_with("json"));
        let in_root = self.listing.files_with("json").filter(is_split);
        let roboflow = self.listing.split_directory(split);
        let roboflow = roboflow.map(|path| path.join("_annotations.coco.json"));
        in_annotations
            .filter(is_original)
            .chain(in_root)
            .chain(roboflow.filter(|path| path.is_file()))
            .collect()
    }

    /// Returns the other COCO files that have the split as a word of their names.
    fn with_word(&self, split: Split) -> Vec<PathBuf> {
        let usual = self.with_usual_name(split);
        let is_meant =
            |path: &PathBuf| Split::in_name(&stem(path)) == Some(split) && !usual.contains(path);
        let files = self.json_files().filter(is_meant);
        let files = files.filter(|path| !is_image_list(path));
        files.filter(|path| looks_like_coco(path)).collect()
    }

    /// Returns the other COCO files in the directory of the split.
    fn in_directory(&self, split: Split) -> Vec<PathBuf> {
        /// A directory with more has a file for each image.
        const FILES: usize = 8;
        let Some(directory) = self.listing.split_directory(split) else {
            return Vec::new();
        };
        let listing = DirectoryListing::of(&directory);
        let files: Vec<PathBuf> = listing.files_with("json").take(FILES + 1).collect();
        if files.len() > FILES {
            return Vec::new();
        }
        let usual = self.with_usual_name(split);
        let others = files.into_iter().filter(|path| !usual.contains(path));
        others.filter(|path| looks_like_coco(path)).collect()
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
        let unnamed = files.into_iter().filter(|path| !is_image_list(path));
        unnamed
            .filter(|path| Split::in_name(&stem(path)).is_none() && looks_like_coco(path))
            .collect()
    }
}

fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default();
    stem.to_string_lossy().to_lowercase()
}

/// Returns whether a JSON file begins with a list of names under another key than those of COCO: Food-101's `train.json` has
/// the images of each class.
fn has_lists_of_names(path: &Path) -> bool {
    const BEGINNING: u64 = 1 << 12;
    let text = beginning(path, BEGINNING).unwrap_or_default();
    let without_spaces = text.split_whitespace().collect::<String>();
    let key = without_spaces.strip_prefix("{\"");
    let parts = key.and_then(|key| key.split_once("\":[\""));
    parts.is_some_and(|(key, _)| !key.contains('"') && List::named(key).is_none())
}

/// Returns whether a file is in a directory of annotations, which COCO 2017 is.
fn is_in_annotations(path: &Path) -> bool {
    let directory = path.parent().and_then(Path::file_name).unwrap_or_default();
    directory.eq_ignore_ascii_case("annotations")
}

/// Returns whether a file has other annotations of the same images, by the names of COCO's archives: nothing is lost if it
/// is not used.
fn is_companion(path: &Path) -> bool {
    const STARTS: [&str; 4] = ["captions_", "person_keypoints_", "stuff_", "panoptic_"];
    let stem = stem(path);
    STARTS.iter().any(|start| stem.starts_with(start))
}

/// Returns whether a file lists images without annotations, by the names of COCO's archives.
fn is_image_list(path: &Path) -> bool {
    stem(path).starts_with("image_info_")
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
        && !is_without_boxes(path)
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
                &["labels/train.json", "images/a.png"],
                Split::Train,
                "images/a.png",
            ),
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
    fn a_file_that_names_no_split_is_that_of_the_only_directory_with_all_images() {
        const VAL: [&str; 2] = ["images/val/a.png", "images/val/b.png"];
        const TRAIN: [&str; 2] = ["images/train/a.png", "images/train/b.png"];
        let opened = |files: &[&str]| {
            let dir = tree(files);
            // Other images under the same names.
            let white = image::RgbImage::from_pixel(3, 2, image::Rgb([255; 3]));
            white.save(dir.path().join(VAL[0])).unwrap();
            let files = DatasetFiles::find(dir.path()).unwrap();
            let read = files.splits[0].read();
            let shown = match read {
                Ok(read) => read.notes.join("; "),
                Err(error) => error.to_string(),
            };
            shown
                .replace(&dir.path().display().to_string(), ".")
                .replace('\\', "/")
        };
        for file in ["annotations.json", "annotations/valset.json"] {
            assert_eq!(
                opened(&[&[file], &VAL[..], &TRAIN[..1]].concat()),
                "the images of ./images/val are used; ./images/train has others under the same names"
            );
            let unclear = "./images/train and ./images/val have different images of these names, \
                and the name of the file has no split";
            for files in [
                [&[file], &VAL[..], &TRAIN[..]].concat(),
                [&[file], &VAL[..1], &TRAIN[..1]].concat(),
            ] {
                assert_eq!(opened(&files), format!("./{file}: {unclear}"));
            }
        }
        for file in ["annotations/instances_val.json", "val/labels.json"] {
            assert_eq!(opened(&[&[file], &VAL[..], &TRAIN[..]].concat()), "");
        }
    }

    #[test]
    fn a_file_that_names_no_split_finds_its_images_in_the_only_split_that_has_all() {
        for (files, expected) in [
            (
                &["result.json", "val/a.png", "val/b.png", "train/c.png"][..],
                Ok("the images of ./val are used; ./train has none of these names"),
            ),
            (
                &["result.json", "val/a.png", "val/b.png", "train/a.png"],
                Ok("the images of ./val are used; ./train has not all of these names"),
            ),
            (
                &[
                    "annotations/x.json",
                    "images/test/a.png",
                    "images/test/b.png",
                ],
                Ok(""),
            ),
            (
                &["result.json", "train/a.png", "train/b.png", "val/c.png"],
                Ok(""),
            ),
            // One of them is missing everywhere.
            (
                &["result.json", "val/a.png", "train/c.png"],
                Ok("the images of ./val are used; ./train has none of these names"),
            ),
            // The name of a file decides.
            (
                &["train.json", "val/a.png", "val/b.png", "train/c.png"],
                Err("images not found"),
            ),
        ] {
            let dir = tree(files);
            let found = DatasetFiles::find(dir.path()).unwrap();
            let read = found.splits[0].read();
            let shown = read.map(|read| read.notes.join("; "));
            let shown = shown.map_err(|error| error.to_string());
            let root = dir.path().display().to_string();
            match (shown, expected) {
                (Ok(notes), Ok(expected)) => {
                    let notes = notes.replace(&root, ".").replace('\\', "/");
                    assert_eq!(notes, expected, "{files:?}");
                }
                (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
                (shown, _) => panic!("{files:?}: {shown:?}"),
            }
        }
    }

    #[test]
    fn images_in_several_splits_that_the_names_do_not_tell_apart_are_those_of_another_format() {
        const IMAGES: [&str; 2] = ["images/train/a.png", "images/val/b.png"];
        let dir = tree(&[&["annotations.json"], &IMAGES[..]].concat());
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let images = IMAGES.map(|image| dir.path().join(image));
        let places = images
            .each_ref()
            .map(|path| path.parent().unwrap().display());
        let json = dir.path().join("annotations.json");
        let expected = format!(
            "{}: its images are in {} and {}, and neither their names nor that of the file say which are in which",
            json.display(),
            places[0],
            places[1]
        );
        let message = DatasetFiles::find(dir.path()).unwrap_err().to_string();
        assert_eq!(message, expected);
        let file = DatasetFiles::find(&json).unwrap();
        assert_eq!(file.read().unwrap_err().to_string(), expected);
        write(
            "data.yaml",
            "train: images/train\nval: images/val\nnames: [x]\n",
        );
        write("labels/train/a.txt", "0 0.5 0.5 0.1 0.1\n");
        write("labels/val/b.txt", "");
        let found = DatasetFiles::find(dir.path()).unwrap();
        let unused = "data.yaml; not used: COCO annotations (annotations.json)";
        assert_eq!(found.explanation(), unused);
        assert_eq!(found.split_names(), [Split::Train, Split::Val]);
        // Names with the directories tell them apart.
        let named = JSON.replace("\"a.png", "\"train/a.png");
        write("annotations.json", &named.replace("\"b.png", "\"val/b.png"));
        let found = DatasetFiles::find(dir.path()).unwrap();
        let unused = "annotations.json, divided by the directories in the names of its images; \
            not used: YOLO annotations (data.yaml)";
        assert_eq!(found.explanation(), unused);
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
    fn no_annotations_are_passed_over_in_silence() {
        let differing = |files: &[&str]| {
            let dir = tree(files);
            for (at, file) in files.iter().enumerate() {
                let text = JSON.replace("\"x\"", &format!("\"x{at}\""));
                std::fs::write(dir.path().join(file), text).unwrap();
            }
            dir
        };
        for (files, listed) in [
            (
                ["instances_train.json", "train.json"],
                "instances_train.json, train.json",
            ),
            (
                ["train.json", "annotations/instances_train.json"],
                "annotations/instances_train.json, train.json",
            ),
            (
                ["train.json", "train/_annotations.coco.json"],
                "train.json, train/_annotations.coco.json",
            ),
            (
                ["train_a.json", "train_b.json"],
                "train_a.json, train_b.json",
            ),
        ] {
            let text = DatasetFiles::find(differing(&files).path()).unwrap_err();
            let expected = format!("several train annotations ({listed})");
            assert!(text.to_string().ends_with(&expected), "{text}");
        }
        for (files, explanation) in [
            (
                &["train.json", "val.json", "train_new.json"][..],
                "train.json, val.json; not used: train_new.json",
            ),
            (
                &["train.json", "annotations/result.json"],
                "train.json; not used: annotations/result.json",
            ),
            (
                &["train.json", "train/more.json"],
                "train.json; not used: train/more.json",
            ),
            (
                &["annotations.json", "val.json"],
                "val.json; not used: annotations.json",
            ),
            (
                &["train_a.json", "train/more.json"],
                "train_a.json; not used: train/more.json",
            ),
            (
                &[
                    "annotations/instances_train2017.json",
                    "annotations/captions_train2017.json",
                    "annotations/image_info_test2017.json",
                    "train_new.json",
                ],
                "annotations/instances_train2017.json; not used: train_new.json",
            ),
        ] {
            let found = DatasetFiles::find(differing(files).path()).unwrap();
            assert_eq!(found.explanation(), explanation);
        }
        // Copies lose nothing.
        let copies = tree(&["train.json", "instances_train.json"]);
        let found = DatasetFiles::find(copies.path()).unwrap();
        assert_eq!(found.explanation(), "instances_train.json");
        let val = tree(&["val.json", "extra.json"]);
        let error = DatasetFiles::find(val.path()).unwrap();
        let text = error.split(Split::Train).unwrap_err().to_string();
        assert!(
            text.ends_with("contains val; not used: extra.json"),
            "{text}"
        );
    }

    #[test]
    fn two_files_for_one_split_are_ambiguous_unless_one_is_the_standard() {
        let dir = tree(&[
            "annotations/instances_train2014.json",
            "annotations/instances_train_small.json",
        ]);
        let small = dir.path().join("annotations/instances_train_small.json");
        std::fs::write(small, JSON.replace("\"x\"", "\"small\"")).unwrap();
        let text = DatasetFiles::find(dir.path()).unwrap_err().to_string();
        assert!(
            text.contains(
                "(annotations/instances_train2014.json, annotations/instances_train_small.json)"
            ),
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

    #[test]
    fn names_in_the_directories_of_splits_divide_the_only_file() {
        for (file, names) in [
            (
                "annotations.json",
                ["train/a.png", "train/b.png", "val/a.png"],
            ),
            (
                "annotations/instances_default.json",
                [
                    "images/train/a.png",
                    "images/train/b.png",
                    "images/val/a.png",
                ],
            ),
            (
                "annotations/all.json",
                ["train2017/a.png", "train2017/b.png", "val2017/a.png"],
            ),
            // The names lead elsewhere, and two images have the same last part.
            (
                "result.json",
                [
                    "/srv/x/train/a.png",
                    "/srv/x/train/b.png",
                    "/srv/x/val/a.png",
                ],
            ),
        ] {
            let places = names.map(|name| name.trim_start_matches("/srv/x/"));
            let dir = tree(&places);
            let images: Vec<String> = (1..)
                .zip(&names)
                .map(|(id, name)| {
                    format!(r#"{{"id":{id},"file_name":"{name}","width":3,"height":2}}"#)
                })
                .collect();
            let boxes: Vec<String> = [1, 3, 3]
                .iter()
                .zip(1..)
                .map(|(image, id)| {
                    format!(
                        r#"{{"id":{id},"image_id":{image},"category_id":1,"bbox":[0,0,1,1],"area":1}}"#
                    )
                })
                .collect();
            let json = dir.path().join(file);
            std::fs::create_dir_all(json.parent().unwrap()).unwrap();
            let text = format!(
                r#"{{"images":[{}],"annotations":[{}],"categories":[{{"id":1,"name":"x"}}]}}"#,
                images.join(","),
                boxes.join(",")
            );
            std::fs::write(&json, text).unwrap();
            for given in [dir.path(), json.as_path()] {
                let found = DatasetFiles::find(given).unwrap();
                assert_eq!(found.split_names(), [Split::Train, Split::Val], "{file}");
                let expected = "divided by the directories in the names of its images";
                assert!(
                    found.explanation().ends_with(expected),
                    "{}",
                    found.explanation()
                );
                let read = found.read().unwrap().splits;
                let counts = read
                    .iter()
                    .map(|read| (read.store.image_count(), read.store.annotation_count()));
                assert_eq!(counts.collect::<Vec<_>>(), [(2, 1), (1, 2)], "{file}");
                let paths = read.iter().flat_map(|read| read.image_paths());
                let paths: Vec<PathBuf> = paths.collect();
                let expected = places.map(|place| dir.path().join(place));
                assert_eq!(paths, expected, "{file}");
                assert_eq!(found.listed_images().unwrap().len(), 3);
            }
        }
    }

    #[test]
    fn the_name_of_the_directory_that_is_given_does_not_keep_names_from_dividing_a_file() {
        const NAMES: [&str; 3] = ["train/a.png", "train/b.png", "val/a.png"];
        let images: Vec<String> = (1..)
            .zip(NAMES)
            .map(|(id, name)| format!(r#"{{"id":{id},"file_name":"{name}","width":3,"height":2}}"#))
            .collect();
        let text = format!(
            r#"{{"images":[{}],"annotations":[],"categories":[{{"id":1,"name":"x"}}]}}"#,
            images.join(",")
        );
        for file in ["annotations.json", "annotations/all.json"] {
            for name in ["mydata", "train", "valid", "test"] {
                let within = |path: &str| format!("{name}/{path}");
                // Beside it, as if it were a split of its own.
                let beside = ["train/train/c.png", "val/a.png", "val/val/a.png"];
                let all: Vec<String> = NAMES.into_iter().map(within).collect();
                let all = all.iter().map(String::as_str).chain(beside);
                let dir = tree(&all.collect::<Vec<_>>());
                let root = dir.path().join(name);
                let json = root.join(file);
                std::fs::create_dir_all(json.parent().unwrap()).unwrap();
                std::fs::write(&json, &text).unwrap();
                for given in [&root, &json] {
                    let found = DatasetFiles::find(given).unwrap();
                    assert_eq!(found.split_names(), [Split::Train, Split::Val], "{name}");
                    let read = found.read().unwrap().splits;
                    let paths: Vec<PathBuf> =
                        read.iter().flat_map(|read| read.image_paths()).collect();
                    assert_eq!(paths, NAMES.map(|path| root.join(path)), "{name}");
                    let notes: Vec<&String> = read.iter().flat_map(|read| &read.notes).collect();
                    assert!(notes.is_empty(), "{name}: {notes:?}");
                }
            }
        }
        // In a dataset, the directory of the file says its split.
        let dir = tree(&["train/train/a.png", "train/train/b.png", "train/val/a.png"]);
        std::fs::write(dir.path().join("train/labels.json"), &text).unwrap();
        std::fs::write(dir.path().join("x.txt"), "").unwrap();
        std::fs::create_dir(dir.path().join("docs")).unwrap();
        let found = DatasetFiles::find(dir.path()).unwrap();
        assert_eq!(found.split_names(), [Split::Train]);
    }

    #[test]
    fn lists_of_names_in_json_that_is_called_after_a_split_are_no_annotations() {
        for (text, is_found) in [
            (r#"{"churros": ["churros/1", "churros/2"]}"#, false),
            (r#"{"images": ["a.png"]}"#, true),
            ("{", true),
        ] {
            let dir = tree(&["images/a.png"]);
            std::fs::write(dir.path().join("train.json"), text).unwrap();
            let found = CocoFormat.find(dir.path()).unwrap();
            assert_eq!(found.is_some(), is_found, "{text}");
        }
    }

    #[test]
    fn spaces_at_the_ends_of_image_names_are_no_part_of_them_unless_files_have_them() {
        let opened = |end: &str| {
            let dir = tree(&["c.png"]);
            std::fs::create_dir(dir.path().join("images")).unwrap();
            for name in ["a", "b"] {
                let image = dir.path().join(format!("images/{name}.png{end}"));
                std::fs::copy(dir.path().join("c.png"), image).unwrap();
            }
            let text = JSON.replace(".png", ".png ");
            std::fs::write(dir.path().join("all.json"), text).unwrap();
            let read = DatasetFiles::find(dir.path()).unwrap().read().unwrap();
            let names = read.splits[0].store.image(0).file_name.to_owned();
            (names, read.splits[0].notes.clone())
        };
        let note =
            "image names have spaces at their ends and are read without them, such as a.png ";
        assert_eq!(opened(""), ("a.png".to_owned(), vec![note.to_owned()]));
        assert_eq!(opened(" "), ("a.png ".to_owned(), Vec::new()));
    }

    #[test]
    fn a_field_of_the_images_with_names_of_splits_divides_the_only_file_and_others_are_named() {
        let opened = |file: &str, fields: [&str; 2]| {
            let dir = tree(&["images/a.png", "images/b.png"]);
            let [a, b] = fields.map(|field| {
                if field.is_empty() {
                    String::new()
                } else {
                    format!(",{field}")
                }
            });
            let text = JSON
                .replacen(r#""height":2}"#, &format!(r#""height":2{a}}}"#), 1)
                .replacen(r#""height":2},"#, r#""height":2 },"#, 1)
                .replacen(r#""height":2}]"#, &format!(r#""height":2{b}}}]"#), 1);
            std::fs::write(dir.path().join(file), text).unwrap();
            let read = DatasetFiles::find(dir.path())
                .unwrap()
                .read()
                .unwrap()
                .splits;
            let shown = read.iter().map(|read| {
                let notes = read.notes.join("; ");
                format!("{} {} {notes}", read.split, read.store.image_count())
                    .trim()
                    .to_owned()
            });
            shown.collect::<Vec<_>>().join(", ")
        };
        let (train, val) = (r#""split":"train""#, r#""split":"val""#);
        assert_eq!(opened("all.json", [train, val]), "train 1, val 1");
        assert_eq!(
            opened("all.json", [r#""subset":"TEST""#, r#""subset":"Train""#]),
            "train 1, test 1"
        );
        // The one that is called split decides.
        let both = [
            r#""set":"val","split":"train""#,
            r#""split":"val","set":"val""#,
        ];
        assert_eq!(opened("all.json", both), "train 1, val 1");
        for (file, fields, expected) in [
            ("all.json", [train, train], "train 2"),
            ("val.json", [val, val], "val 2"),
            (
                "all.json",
                [r#""set":"indoor""#, r#""set":"indoor""#],
                "train 2",
            ),
            ("all.json", ["", r#""tags":["val"]"#], "train 2"),
            (
                "all.json",
                [r#""set":"video 1""#, r#""set":"video 2""#],
                "train 2",
            ),
            (
                "all.json",
                [train, r#""split":"extra""#],
                "train 2 `split` of the images is not used, all are of train: extra (1 image), train (1 image)",
            ),
            (
                "train.json",
                [train, val],
                "train 2 `split` of the images is not used, all are of train: train (1 image), val (1 image)",
            ),
            (
                "train.json",
                [val, val],
                "train 2 `split` of the images is not used, all are of train: val (2 images)",
            ),
            (
                "all.json",
                [r#""is_train":true"#, r#""is_train":false"#],
                "train 2 `is_train` of the images is not used, all are of train: false (1 image), true (1 image)",
            ),
            (
                "all.json",
                [r#""fold":0"#, r#""fold":1"#],
                "train 2 `fold` of the images is not used, all are of train: 0 (1 image), 1 (1 image)",
            ),
        ] {
            assert_eq!(opened(file, fields), expected, "{file} {fields:?}");
        }
    }

    #[test]
    fn annotations_without_boxes_and_categories_are_none_of_boxes() {
        let captions = JSON.replace(
            r#""annotations":[]"#,
            r#""annotations":[{"id":1,"image_id":1,"caption":"a test of a train"}]"#,
        );
        let without_categories = |text: &str| {
            let end = text.find(r#""categories""#).unwrap();
            format!("{}}}", text[..end].trim_end().trim_end_matches(','))
        };
        // As in COCO 2017, the list of images is long.
        let many = r#"{"id":1,"file_name":"a.png","url":"x"},"#.repeat(40_000);
        let long = captions.replace(r#""images":["#, &format!(r#""images":[{many}"#));
        let questions = captions.replace("caption", "question");
        for (file, text, is_used) in [
            ("annotations/captions.json", &captions, false),
            ("captions.json", &captions, false),
            ("texts.json", &without_categories(&captions), false),
            ("annotations/texts.json", &without_categories(&long), false),
            ("questions.json", &without_categories(&questions), false),
            ("annotations/train.json", &captions, false),
            ("train/captions.json", &captions, false),
            // Boxes are expected, or there are none yet.
            ("annotations/questions.json", &questions, true),
            (
                "annotations/images.json",
                &JSON.replace("\"x\"", "\"y\""),
                true,
            ),
        ] {
            let dir = tree(&["annotations.json", "a.png", "b.png"]);
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
            let found = DatasetFiles::find(dir.path());
            let found = found.map(|found| found.explanation());
            let found = found.map_err(|error| error.to_string());
            assert_eq!(
                found == Ok("annotations.json".to_owned()),
                !is_used,
                "{file}: {found:?}"
            );
        }
    }

    #[test]
    fn names_of_which_some_are_in_no_directory_of_a_split_are_an_error() {
        let dir = tree(&["train/a.png", "val/b.png", "c.png"]);
        let json = dir.path().join("annotations.json");
        let text = r#"{"images":[{"id":1,"file_name":"train/a.png"},{"id":2,"file_name":"val/b.png"},
            {"id":3,"file_name":"c.png"}],"annotations":[],"categories":[{"id":1,"name":"x"}]}"#;
        std::fs::write(&json, text).unwrap();
        let message = DatasetFiles::find(dir.path()).unwrap_err().to_string();
        let expected = format!(
            "{}: by their names, images are in no directory of a split (1 of 3, such as c.png) and in those of train, val",
            json.display()
        );
        assert_eq!(message, expected);
        // A file that is called after a split has the images of this one.
        let train = dir.path().join("train.json");
        std::fs::rename(json, train).unwrap();
        let found = DatasetFiles::find(dir.path()).unwrap();
        assert_eq!(found.split_names(), [Split::Train]);
    }
}
