//! Where annotation files and images lie in a dataset's directory.
//!
//! Two ways to find them. [`find_coco`] expects COCO 2017 as it is unpacked:
//!
//! ```text
//! annotations/instances_train2017.json   train2017/
//! annotations/instances_val2017.json     val2017/
//! ```
//!
//! [`find_directory`] takes any directory with COCO-format annotations. For a split (train, val, test) it
//! takes the first of these that exists, in this order:
//!
//! 1. `annotations/instances_SPLIT2017.json`, else the only `annotations/instances_SPLIT*.json`
//! 2. `annotations/SPLIT.json`
//! 3. `instances_SPLIT.json`
//! 4. `SPLIT.json`
//! 5. `SPLIT/_annotations.coco.json` (Roboflow)
//!
//! where the directory and files of `val` may also be called `valid` or `validation`. The images are looked for in
//! `SPLIT2017/`, `SPLIT/`, `images/SPLIT2017/`, `images/SPLIT/`, `images/`, beside the JSON file,
//! and in the directory itself; the first that holds the first listed image is taken.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::DataError;
use crate::annotations::AnnotationStore;
use crate::annotations::coco::read_coco;
use crate::annotations::voc_to_coco::is_voc;
use crate::datasets::detection::DetectionDataset;

/// Part of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// For training.
    Train,
    /// For measuring while developing.
    Val,
    /// For measuring at the end.
    Test,
}

impl Split {
    /// The names it goes by in files and directories; the first is ours.
    pub(crate) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Train => &["train"],
            Self::Val => &["val", "valid", "validation"],
            Self::Test => &["test"],
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.names()[0])
    }
}

/// Why no dataset was found in a directory.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The directory itself is missing.
    #[error("{}: there is no such directory", root.display())]
    NoDirectory {
        /// The directory.
        root: PathBuf,
    },
    /// No annotation file of the split.
    #[error("{}: no {split} annotations; looked for {looked_for}", root.display())]
    NoAnnotations {
        /// The dataset's directory.
        root: PathBuf,
        /// The split.
        split: Split,
        /// Candidates, relative to the directory.
        looked_for: String,
    },
    /// Annotations of another kind.
    #[error(
        "{}: Pascal VOC annotations; `sedet data convert {} --to coco --output OUT` writes what is needed here",
        root.display(), root.display()
    )]
    IsVoc {
        /// The dataset's directory.
        root: PathBuf,
    },
    /// Several annotation files of the split.
    #[error("{}: several {split} annotations ({found}); keep one of them", root.display())]
    Ambiguous {
        /// The dataset's directory.
        root: PathBuf,
        /// The split.
        split: Split,
        /// The files.
        found: String,
    },
    /// No directory holds the images.
    #[error("{}: can't find its images; looked for `{image}` in {looked_in}", annotations.display())]
    NoImageFiles {
        /// The annotation file.
        annotations: PathBuf,
        /// The first image's file name.
        image: String,
        /// The directories tried.
        looked_in: String,
    },
    /// The annotation file lists no images.
    #[error("{}: lists no images", annotations.display())]
    NoImages {
        /// The annotation file.
        annotations: PathBuf,
    },
    /// COCO 2017 is not, or not wholly, in the directory.
    #[error("{}: not COCO 2017, {missing} is missing", root.display())]
    NotCoco {
        /// The dataset's directory.
        root: PathBuf,
        /// What is missing, relative to the directory.
        missing: String,
    },
}

/// Annotation file and image directories of one split; nothing is read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitFiles {
    /// Which part of the dataset.
    pub split: Split,
    /// The COCO JSON file.
    pub annotations: PathBuf,
    /// Directories that may hold the images, most likely first.
    pub image_directories: Vec<PathBuf>,
}

impl SplitFiles {
    /// One annotation file by itself. Its split is told by its name, and images are looked for in
    /// `pictures`, or else around the file.
    pub fn of_file(annotations: &Path, pictures: Option<&Path>) -> Self {
        let name = annotations.file_stem().unwrap_or_default();
        let name = name.to_string_lossy().to_lowercase();
        let directory = annotations.parent().unwrap_or(Path::new(""));
        let is_roboflow = name.starts_with("_annotations");
        let told_by = match (is_roboflow, directory.file_name()) {
            (true, Some(directory)) => directory.to_string_lossy().to_lowercase(),
            _ => name,
        };
        let split = [Split::Val, Split::Test]
            .into_iter()
            .find(|split| told_by.contains(split.names()[0]))
            .unwrap_or(Split::Train);
        let root = match directory.ends_with("annotations") || is_roboflow {
            true => directory.parent().unwrap_or(directory),
            false => directory,
        };
        Self {
            split,
            annotations: annotations.to_owned(),
            image_directories: match pictures {
                Some(pictures) => vec![pictures.to_owned()],
                None => image_directories(root, annotations, split),
            },
        }
    }

    /// Reads the annotations and finds the directory of the images.
    ///
    /// # Errors
    /// The annotations can't be read or no directory holds the images.
    pub fn open(&self) -> Result<DetectionDataset, DataError> {
        let (store, directory) = self.read()?;
        Ok(DetectionDataset::in_directory(store, directory))
    }

    /// [`Self::open`] in its parts: the annotations and the directory of the images.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn read(&self) -> Result<(AnnotationStore, PathBuf), DataError> {
        let store = read_coco(&self.annotations)?;
        let directory = self.image_directory(&store)?;
        Ok((store, directory))
    }

    fn image_directory(&self, store: &AnnotationStore) -> Result<PathBuf, LayoutError> {
        const TRIED_IMAGES: usize = 100;
        if store.image_count() == 0 {
            return Err(LayoutError::NoImages {
                annotations: self.annotations.clone(),
            });
        }
        let names = (0..store.image_count()).map(|index| store.image(index).file_name);
        self.directory_of(names.take(TRIED_IMAGES))
            .map(Path::to_owned)
            .ok_or_else(|| LayoutError::NoImageFiles {
                annotations: self.annotations.clone(),
                image: store.image(0).file_name.to_owned(),
                looked_in: join(
                    self.image_directories
                        .iter()
                        .map(|directory| directory.display()),
                ),
            })
    }

    /// The first directory with the first of these images. Should that very file be missing, the next
    /// ones decide: a hole in the data is the loader's business, not a wrong directory.
    pub fn directory_of<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Option<&Path> {
        names.into_iter().find_map(|name| {
            self.image_directories
                .iter()
                .find(|directory| directory.join(name).is_file())
                .map(PathBuf::as_path)
        })
    }
}

/// The splits found in a dataset's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetFiles {
    /// The directory.
    pub root: PathBuf,
    /// The splits, in the order train, val, test; those that are missing are left out.
    pub splits: Vec<SplitFiles>,
}

impl DatasetFiles {
    /// Files of a split.
    ///
    /// # Errors
    /// The directory has no such split; the message lists what was looked for.
    pub fn split(&self, split: Split) -> Result<&SplitFiles, LayoutError> {
        self.splits
            .iter()
            .find(|files| files.split == split)
            .ok_or_else(|| no_annotations(&self.root, split))
    }
}

/// Finds a split of COCO 2017 (train or val) as it is unpacked; see the module's text. The other one
/// need not be there: val is enough to measure a network.
///
/// # Errors
/// A file or directory is missing; the message names it. The test split, which has no annotations.
pub fn find_coco(data_dir: &Path, split: Split) -> Result<SplitFiles, LayoutError> {
    check_directory(data_dir)?;
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
        split,
        annotations,
        image_directories: vec![directory],
    })
}

/// Finds COCO-format annotations in any directory; see the module's text for the rules.
///
/// # Errors
/// There is no such directory, no split in it, or several files that could be the same split.
pub fn find_directory(root: &Path) -> Result<DatasetFiles, LayoutError> {
    check_directory(root)?;
    let mut splits = Vec::new();
    for split in [Split::Train, Split::Val, Split::Test] {
        if let Some(annotations) = find_annotations(root, split)? {
            splits.push(SplitFiles {
                split,
                image_directories: image_directories(root, &annotations, split),
                annotations,
            });
        }
    }
    if splits.is_empty() && is_voc(root) {
        return Err(LayoutError::IsVoc {
            root: root.to_owned(),
        });
    }
    if splits.is_empty() {
        return Err(no_annotations(root, Split::Train));
    }
    Ok(DatasetFiles {
        root: root.to_owned(),
        splits,
    })
}

fn check_directory(root: &Path) -> Result<(), LayoutError> {
    if root.is_dir() {
        Ok(())
    } else {
        Err(LayoutError::NoDirectory {
            root: root.to_owned(),
        })
    }
}

fn no_annotations(root: &Path, split: Split) -> LayoutError {
    LayoutError::NoAnnotations {
        root: root.to_owned(),
        split,
        looked_for: looked_for(split),
    }
}

/// Candidates behind the `annotations/instances_SPLIT*.json` rule, in order.
fn fixed_candidates(split: Split) -> impl Iterator<Item = String> {
    let each_name =
        move |make: fn(&str) -> String| split.names().iter().map(move |name| make(name));
    each_name(|name| format!("annotations/{name}.json"))
        .chain(each_name(|name| format!("instances_{name}.json")))
        .chain(each_name(|name| format!("{name}.json")))
        .chain(each_name(|name| format!("{name}/_annotations.coco.json")))
}

fn looked_for(split: Split) -> String {
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

fn image_directories(root: &Path, annotations: &Path, split: Split) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    let images = root.join("images");
    for parent in [root, &images] {
        for name in split.names() {
            directories.push(parent.join(format!("{name}2017")));
            directories.push(parent.join(name));
        }
    }
    directories.push(images);
    directories.extend(annotations.parent().map(Path::to_owned));
    directories.push(root.to_owned());
    let mut unique: Vec<PathBuf> = Vec::new();
    for directory in directories {
        if !unique.contains(&directory) {
            unique.push(directory);
        }
    }
    unique
}

fn join(parts: impl Iterator<Item = impl fmt::Display>) -> String {
    parts
        .map(|part| part.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let files = find_directory(root).unwrap();
        let dataset = files.split(split).unwrap().open().unwrap();
        let described = PathBuf::from(dataset.describe(0));
        let relative = described.strip_prefix(root).unwrap();
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
            assert_eq!(find(split).unwrap().open().unwrap().len(), 2);
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
    fn other_layouts_are_found() {
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
    fn errors_say_what_was_looked_for() {
        let empty = tree(&[]);
        let text = find_directory(empty.path()).unwrap_err().to_string();
        for part in [
            "annotations/instances_train*.json",
            "train.json",
            "_annotations.coco.json",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let no_images = tree(&["train.json"]);
        let files = find_directory(no_images.path()).unwrap();
        let text = files
            .split(Split::Train)
            .unwrap()
            .open()
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("a.png") && text.contains("train2017"),
            "{text}"
        );
        let text = files.split(Split::Test).unwrap_err().to_string();
        assert!(text.contains("no test annotations"), "{text}");
        let text = find_directory(Path::new("no/such"))
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
        let text = find_directory(dir.path()).unwrap_err().to_string();
        assert!(
            text.contains("instances_train2014.json, instances_train_small.json"),
            "{text}"
        );
        std::fs::write(
            dir.path().join("annotations/instances_train2017.json"),
            JSON,
        )
        .unwrap();
        let files = find_directory(dir.path()).unwrap();
        let train = &files.split(Split::Train).unwrap().annotations;
        assert!(train.ends_with("instances_train2017.json"));
    }
}
