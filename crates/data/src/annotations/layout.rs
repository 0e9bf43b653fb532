//! The files of a split: locations of its annotations and images.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::annotations::AnnotationStore;
use crate::annotations::coco_directory::CocoFormat;
use crate::annotations::format::{FORMATS, Format};

/// A part of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Training.
    Train,
    /// Validation, measured during development.
    Val,
    /// Testing, measured at the end.
    Test,
}

impl Split {
    /// All splits, in the usual order.
    pub const ALL: [Self; 3] = [Self::Train, Self::Val, Self::Test];

    /// Returns the names used in files and directories; the first is the one that sedet writes.
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

impl FromStr for Split {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|split| split.to_string() == name)
            .ok_or_else(|| "choose train, val or test".to_string())
    }
}

/// The reason why no dataset was found in a directory.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The directory does not exist.
    #[error("{}: no such directory", root.display())]
    NoDirectory {
        /// The directory.
        root: PathBuf,
    },
    /// No format recognizes the directory.
    #[error("{}: no annotations in a known format; expected one of {}", root.display(), known_formats())]
    Unrecognized {
        /// The directory.
        root: PathBuf,
    },
    /// A directory in COCO's layout without annotations of the split.
    #[error("{}: no {split} annotations; expected one of {expected}", root.display())]
    NoAnnotations {
        /// The dataset's directory.
        root: PathBuf,
        /// The split.
        split: Split,
        /// Candidates, relative to the directory.
        expected: String,
    },
    /// The dataset has other splits.
    #[error(
        "{}: no {split} annotations; the {format} directory contains {}",
        root.display(), join(found.iter())
    )]
    NoSplit {
        /// The dataset's directory.
        root: PathBuf,
        /// Its format.
        format: Format,
        /// The split.
        split: Split,
        /// The splits that exist.
        found: Vec<Split>,
    },
    /// Several annotation files of the split.
    #[error("{}: several {split} annotations ({found})", root.display())]
    Ambiguous {
        /// The dataset's directory.
        root: PathBuf,
        /// The split.
        split: Split,
        /// The files.
        found: String,
    },
    /// No directory contains the images.
    #[error("{}: images not found; expected `{image}` in {expected_in}", annotations.display())]
    NoImageFiles {
        /// The annotation file.
        annotations: PathBuf,
        /// The first image's file name.
        image: String,
        /// The inspected directories.
        expected_in: String,
    },
    /// The annotation file lists no images.
    #[error("{}: lists no images", annotations.display())]
    NoImages {
        /// The annotation file.
        annotations: PathBuf,
    },
    /// A file or directory of COCO 2017 is missing.
    #[error("{}: not COCO 2017, {missing} is missing", root.display())]
    NotCoco {
        /// The dataset's directory.
        root: PathBuf,
        /// What is missing, relative to the directory.
        missing: String,
    },
}

fn known_formats() -> String {
    let known = FORMATS.iter();
    join(known.map(|format| format!("{} ({})", format.name(), format.files())))
}

/// Annotations and image directories of one split; nothing has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitFiles {
    /// The format of the annotations.
    pub format: Format,
    /// The split's role.
    pub split: Split,
    /// The annotation file; for formats with a file per image, the directory of the dataset.
    pub annotations: PathBuf,
    /// Directories that may contain the images, most likely first.
    pub image_directories: Vec<PathBuf>,
}

impl SplitFiles {
    /// Describes a COCO JSON file on its own.
    ///
    /// The split follows from the file's name. Images are in `images`, or else around the file.
    pub fn of_file(annotations: &Path, images: Option<&Path>) -> Self {
        let stem = annotations
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy();
        let name = stem.to_lowercase();
        let directory = annotations.parent().unwrap_or(Path::new(""));
        let is_roboflow = name.starts_with("_annotations");
        let split_name = match directory.file_name() {
            Some(directory) if is_roboflow => directory.to_string_lossy().to_lowercase(),
            _ => name,
        };
        let split = [Split::Val, Split::Test]
            .into_iter()
            .find(|split| split_name.contains(split.names()[0]))
            .unwrap_or(Split::Train);
        let root = if directory.ends_with("annotations") || is_roboflow {
            directory.parent().unwrap_or(directory)
        } else {
            directory
        };
        let image_directories = match images {
            Some(images) => vec![images.to_owned()],
            None => {
                // `instances_mine.json` may describe the images of `mine`.
                let named = stem.strip_prefix("instances_").unwrap_or(&stem);
                let mut directories = image_directories(root, annotations, split);
                directories.extend([root.join(named), root.join("images").join(named)]);
                directories
            }
        };
        Self {
            format: &CocoFormat,
            split,
            annotations: annotations.to_owned(),
            image_directories,
        }
    }

    /// Returns the directory that contains the images of a store.
    pub(crate) fn image_directory(&self, store: &AnnotationStore) -> Result<PathBuf, LayoutError> {
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
                expected_in: join(
                    self.image_directories
                        .iter()
                        .map(|directory| directory.display()),
                ),
            })
    }

    /// Returns the first directory that contains the first of these images. If that image is
    /// missing everywhere, the next ones are tried: a missing file does not make a directory wrong;
    /// the loader reports it.
    pub fn directory_of<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Option<&Path> {
        names.into_iter().find_map(|name| {
            self.image_directories
                .iter()
                .find(|directory| directory.join(name).is_file())
                .map(PathBuf::as_path)
        })
    }
}

/// Returns the directories that may contain the images of a COCO JSON file.
pub(crate) fn image_directories(root: &Path, annotations: &Path, split: Split) -> Vec<PathBuf> {
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

/// Joins strings with commas.
pub(crate) fn join(parts: impl Iterator<Item = impl fmt::Display>) -> String {
    parts
        .map(|part| part.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}
