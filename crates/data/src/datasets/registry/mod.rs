//! Datasets by name, directory or annotation file.

mod labeled;
mod recognition;
mod unlisted;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use image::RgbImage;

pub use labeled::LabeledName;
pub use recognition::{Recognition, RecognizedSplit, RecognizedTask};

use crate::DataError;
use crate::annotations::coco_directory::{CocoFormat, find_coco};
use crate::annotations::format::{DatasetFiles, SplitAnnotations, SplitFiles};
use crate::annotations::image_files::{first_few, unsupported_beside};
use crate::annotations::joining::join_splits;
use crate::annotations::layout::{CannotHoldOut, LayoutError, Split};
use crate::annotations::reading::DecodeProgress;
use crate::annotations::usable::hold_out_usable;
use crate::annotations::{AnnotationStoreBuilder, NewAnnotation};
use crate::datasets::detection::{
    DetectionDataset, alike_class_names, check_class_names, check_same_categories, missing_classes,
    says_little, shared_images, suspicious, unmatchable, untrained,
};
use crate::datasets::image_folder::{ImageFolder, images_of_classes};
use crate::datasets::repeated_images::RepeatedImages;
use crate::images::{ImageSource, OnBadImage};
use crate::shapes::{
    self, CATEGORY_IDS, CLASS_NAMES, ShapesConfig, ShapesError, decode_photograph, photograph_scene,
};
use crate::text::{count, nearest};

/// The environment variable with the directory of all datasets.
pub const DATA_DIR_VARIABLE: &str = "SEDET_DATA";

/// The reason why a dataset cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A known name without a data directory.
    #[error("dataset '{name}': no data directory is given and {DATA_DIR_VARIABLE} is not set")]
    NoDataDir {
        /// The dataset.
        name: String,
    },
    /// Neither a known name nor a directory.
    #[error(
        "unknown dataset '{name}'{suggestion}; known: {} (detection), {} (classification), or any directory",
        DatasetName::NAMES.join(", "),
        LabeledName::NAMES.join(", ")
    )]
    Unknown {
        /// The requested name.
        name: String,
        /// A question that suggests a similar name, or nothing.
        suggestion: String,
    },
    /// A path that does not exist.
    #[error("{name}: no such file or directory{suggestion}")]
    NoSuchPath {
        /// The requested path.
        name: String,
        /// A question that suggests a similar name, or nothing.
        suggestion: String,
    },
    /// A list of datasets that contains a named one, or datasets of both tasks.
    #[error(
        "'{name}': a list of datasets takes directories of one task (with boxes, or of classes), not '{part}'"
    )]
    NotInList {
        /// The list.
        name: String,
        /// The dataset that cannot be joined.
        part: String,
    },
    /// A list with an empty name: a comma too many.
    #[error("'{name}': a list of datasets with an empty name")]
    EmptyInList {
        /// The list.
        name: String,
    },
    /// A list that contains a dataset twice.
    #[error("'{name}': '{first}' and '{second}' are the same dataset")]
    TwiceInList {
        /// The list.
        name: String,
        /// A dataset.
        first: String,
        /// The same dataset.
        second: String,
    },
    /// A classification dataset where a detection dataset is required.
    #[error(
        "'{name}' is a classification dataset (classes, no boxes); a detection dataset is required"
    )]
    NoBoxes {
        /// The requested name.
        name: String,
    },
    /// The files of the dataset are missing or wrong.
    #[error("{source}")]
    Data {
        /// The dataset.
        name: String,
        /// The directory of the named datasets, where one was given.
        data_dir: Option<PathBuf>,
        /// The problem.
        source: Box<DataError>,
    },
    /// The generated scenes have no test split.
    #[error("the generated scenes have no test split, only train and val")]
    NoTestSplit,
    /// A setting of the generator is invalid.
    #[error(transparent)]
    Shapes(#[from] ShapesError),
}

impl RegistryError {
    /// Returns the error about a name that is neither a known dataset nor a directory.
    pub fn unknown(name: &str) -> Self {
        let path = Path::new(name);
        let is_path = name.contains(std::path::is_separator) || path.extension().is_some();
        let name = name.to_owned();
        let suggestion = match similar_dataset(path) {
            Some(similar) => format!(" (did you mean '{}'?)", similar.display()),
            None => String::new(),
        };
        if is_path {
            Self::NoSuchPath { name, suggestion }
        } else {
            Self::Unknown { name, suggestion }
        }
    }
}

/// Returns a directory beside a path that does not exist, or a file with its extension, or for a plain name also a known
/// dataset, whose name is similar.
fn similar_dataset(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let parent = path.parent()?;
    let is_plain = parent.as_os_str().is_empty();
    let place = if is_plain { Path::new(".") } else { parent };
    let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
    let mut known: Vec<String> = entries
        .filter(|entry| {
            let found = entry.path();
            found.is_dir() || has_extension_of(path, &found)
        })
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    // The order of the system differs between machines.
    known.sort();
    if is_plain {
        let names = DatasetName::NAMES.iter().chain(&LabeledName::NAMES);
        known.extend(names.map(ToString::to_string));
    }
    Some(parent.join(nearest(name, &known)?))
}

/// Returns whether two files have the same extension, in any capitals.
fn has_extension_of(path: &Path, other: &Path) -> bool {
    let extensions = path.extension().zip(other.extension());
    extensions.is_some_and(|(a, b)| a.eq_ignore_ascii_case(b))
}

/// A detection dataset: a known name or a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatasetName {
    /// Generated scenes.
    Shapes,
    /// BCCD blood cells, after the download.
    BloodCells,
    /// COCO 2017 in its original layout.
    Coco,
    /// Any directory or annotation file in one of the annotation
    /// [formats](crate::annotations::formats::FORMATS).
    Directory(PathBuf),
    /// Several directories or annotation files with equal class names.
    List(Vec<PathBuf>),
}

impl DatasetName {
    /// The known names; anything else is a directory.
    pub const NAMES: [&str; 3] = ["shapes", "blood-cells", "coco"];

    fn named(name: &str) -> Option<Self> {
        match name {
            "shapes" => Some(Self::Shapes),
            "blood-cells" => Some(Self::BloodCells),
            "coco" => Some(Self::Coco),
            _ => None,
        }
    }

    /// Parses a known name or the path of a directory.
    ///
    /// # Errors
    /// It is neither, or a classification dataset.
    pub fn parse(name: &str) -> Result<Self, RegistryError> {
        match AnyDatasetName::parse(name)? {
            AnyDatasetName::Detection(dataset) => Ok(dataset),
            AnyDatasetName::Classification(_) => Err(RegistryError::NoBoxes { name: name.into() }),
        }
    }

    fn label(&self) -> String {
        match self {
            Self::Shapes => "shapes".into(),
            Self::BloodCells => "blood-cells".into(),
            Self::Coco => "coco".into(),
            Self::Directory(path) => path.display().to_string(),
            Self::List(paths) => {
                let paths: Vec<String> = paths
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect();
                paths.join(LIST_SEPARATOR)
            }
        }
    }

    /// Returns the directories or annotation files; none for generated data, several for a list.
    ///
    /// # Errors
    /// A named dataset has no data directory.
    pub fn paths(&self, data_dir: Option<&Path>) -> Result<Vec<PathBuf>, RegistryError> {
        match self {
            Self::Shapes => Ok(Vec::new()),
            Self::Directory(path) => Ok(vec![path.clone()]),
            Self::List(paths) => Ok(paths.clone()),
            Self::BloodCells | Self::Coco => Ok(vec![directory_of(&self.label(), data_dir)?]),
        }
    }

    /// Finds the annotation files of each dataset, without reading them. Empty for generated data.
    ///
    /// # Errors
    /// There is no data directory, or no split in it.
    pub fn files(&self, data_dir: Option<&Path>) -> Result<Vec<DatasetFiles>, RegistryError> {
        let paths = self.paths(data_dir)?;
        let found = paths.iter().map(|path| match self {
            Self::Coco => coco_files(path),
            _ => DatasetFiles::find(path)
                .map(with_classes_beside)
                .map_err(|error| classes_below(path, error)),
        });
        found
            .collect::<Result<_, _>>()
            .map_err(|error| self.error(error, data_dir))
    }

    /// Opens train and val, whose categories must be the same. Without val annotations, a tenth of the
    /// training images is held out.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub fn open(
        &self,
        data_dir: Option<&Path>,
    ) -> Result<(OpenedSplit, OpenedSplit), RegistryError> {
        self.open_with(data_dir, OnBadImage::Error)
    }

    /// Opens train and val as [`Self::open`]; images that cannot be used are errors, or are skipped with a note if
    /// that is known from reading the annotations.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub fn open_with(
        &self,
        data_dir: Option<&Path>,
        on_bad_image: OnBadImage,
    ) -> Result<(OpenedSplit, OpenedSplit), RegistryError> {
        let files = self.files(data_dir)?;
        let (train, val) = if files.is_empty() {
            let opened = |split| self.open_split(split, data_dir);
            (opened(Split::Train)?, opened(Split::Val)?)
        } else {
            let (mut train, mut val) = self
                .read_both(&files, on_bad_image)
                .map_err(|error| self.error(error, data_dir))?;
            check_class_names(&self.label(), &train.store)
                .map_err(|error| self.error(error, data_dir))?;
            val.notes.extend(leak_note(&train, &val));
            let mut seen = BTreeSet::new();
            for read in [&mut train, &mut val] {
                read.notes.extend(suspicious(&read.store));
                read.notes.extend(unused_images(read, &mut seen));
            }
            if let [files] = files.as_slice() {
                train
                    .notes
                    .extend(unlisted::images_in_no_list(files, &train, &val));
            }
            let names = train.store.categories().iter();
            let alike = alike_class_names(names.map(|category| category.name.as_str()));
            train.notes.extend(alike);
            val.notes.extend(untrained(&train.store, &val.store));
            val.notes.extend(unmatchable(&val.store));
            let missing = missing_classes(&train.store, &val.store);
            val.notes
                .extend(says_little(val.store.image_count(), &missing));
            let repeated = RepeatedImages::of(&train, &val);
            train.notes.extend(repeated.in_train);
            val.notes.extend(repeated.in_val);
            (OpenedSplit::of(train), OpenedSplit::of(val))
        };
        check_same_categories(
            ("train", train.dataset.store()),
            ("val", val.dataset.store()),
        )
        .map_err(|source| self.error(source, data_dir))?;
        Ok((train, val))
    }

    /// Reads train and val, each annotation file once.
    fn read_both(
        &self,
        files: &[DatasetFiles],
        on_bad_image: OnBadImage,
    ) -> Result<(SplitAnnotations, SplitAnnotations), DataError> {
        let both = [Split::Train, Split::Val];
        let has_val = |files: &DatasetFiles| files.split_names().contains(&Split::Val);
        if *self == Self::Coco || files.iter().any(has_val) {
            let mut read = self.read(files, &both, on_bad_image)?.into_iter();
            if let (Some(train), Some(val)) = (read.next(), read.next()) {
                return Ok((train, val));
            }
        }
        let whole = self.read(files, &[Split::Train], on_bad_image)?.pop();
        let annotated = whole.as_ref().map_or(0, |whole| whole.store.image_count());
        let divided = match whole {
            Some(mut whole) => hold_out_usable(&mut whole, on_bad_image)?,
            None => Err(CannotHoldOut::OneImage),
        };
        divided.map_err(|why| {
            let root = files.first().map(|files| files.root.clone());
            let root = root.unwrap_or_default();
            let why = match files {
                [files] => beside_classes(files, annotated, why),
                _ => why,
            };
            LayoutError::CannotHoldOut { root, why }.into()
        })
    }

    /// Opens a split. Without val annotations, train and val are the parts that training uses.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub fn open_split(
        &self,
        split: Split,
        data_dir: Option<&Path>,
    ) -> Result<OpenedSplit, RegistryError> {
        self.open_split_with(split, data_dir, OnBadImage::Error)
    }

    /// Opens a split as [`Self::open_split`], with images that cannot be used as in [`Self::open_with`].
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub fn open_split_with(
        &self,
        split: Split,
        data_dir: Option<&Path>,
        on_bad_image: OnBadImage,
    ) -> Result<OpenedSplit, RegistryError> {
        let files = self.files(data_dir)?;
        if files.is_empty() {
            if split == Split::Test {
                return Err(RegistryError::NoTestSplit);
            }
            return Ok(OpenedSplit {
                dataset: Arc::new(shapes_dataset(&ShapesConfig::default(), split)?),
            });
        }
        let read = self.read_split(&files, split, on_bad_image);
        self.opened(read, data_dir)
    }

    /// Checks the class names of a split that was read on its own, as those of train and val are checked.
    fn opened(
        &self,
        read: Result<SplitAnnotations, DataError>,
        data_dir: Option<&Path>,
    ) -> Result<OpenedSplit, RegistryError> {
        let read = read.and_then(|read| {
            check_class_names(&self.label(), &read.store)?;
            Ok(read)
        });
        let read = read.map_err(|source| self.error(source, data_dir))?;
        Ok(OpenedSplit::of_one(read))
    }

    fn read_split(
        &self,
        files: &[DatasetFiles],
        split: Split,
        on_bad_image: OnBadImage,
    ) -> Result<SplitAnnotations, DataError> {
        let exists = |split| {
            files
                .iter()
                .any(|files| files.split_names().contains(&split))
        };
        let is_held_out = !exists(Split::Val) && exists(Split::Train) && *self != Self::Coco;
        match split {
            Split::Val if is_held_out => Ok(self.read_both(files, on_bad_image)?.1),
            Split::Train if is_held_out => {
                let mut whole = self.read_whole(files, split, on_bad_image)?;
                Ok(match hold_out_usable(&mut whole, on_bad_image)? {
                    Ok((train, _)) => train,
                    Err(why) => {
                        whole.notes.push(format!(
                            "not ready for training without val annotations: {why}"
                        ));
                        whole
                    }
                })
            }
            _ => self.read_whole(files, split, on_bad_image),
        }
    }

    /// Opens a split as it is on disk, with the images that training holds out.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub fn open_whole(
        &self,
        split: Split,
        data_dir: Option<&Path>,
    ) -> Result<OpenedSplit, RegistryError> {
        let files = self.files(data_dir)?;
        if files.is_empty() {
            return self.open_split(split, data_dir);
        }
        let read = self.read_whole(&files, split, OnBadImage::Error);
        self.opened(read, data_dir)
    }

    /// Opens a split as [`Self::open_whole`] after decoding all its images; those that cannot be used are errors, or are
    /// skipped with a note. `progress` is that of
    /// [`read_with_images`](crate::annotations::format::DatasetFiles::read_with_images).
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub fn open_decoded(
        &self,
        split: Split,
        data_dir: Option<&Path>,
        on_bad_image: OnBadImage,
        progress: &DecodeProgress<'_>,
    ) -> Result<OpenedSplit, RegistryError> {
        let files = self.files(data_dir)?;
        if files.is_empty() {
            return self.open_split(split, data_dir);
        }
        let read = self.read_with(&files, &[split], &|files, splits| {
            files.read_splits_decoded(splits, on_bad_image, progress)
        });
        self.opened(read.and_then(|read| self.only(read)), data_dir)
    }

    /// Reads splits. Those of COCO must exist; the error names what is missing.
    fn read(
        &self,
        files: &[DatasetFiles],
        splits: &[Split],
        on_bad_image: OnBadImage,
    ) -> Result<Vec<SplitAnnotations>, DataError> {
        self.read_with(files, splits, &|files, splits| {
            files.read_splits(splits, on_bad_image)
        })
    }

    /// Reads splits as [`Self::read`]; `read` reads those of each dataset.
    fn read_with(
        &self,
        files: &[DatasetFiles],
        splits: &[Split],
        read: &ReadSplits<'_>,
    ) -> Result<Vec<SplitAnnotations>, DataError> {
        if let (Self::Coco, [coco]) = (self, files) {
            for split in splits {
                find_coco(&coco.root, *split)?;
            }
        }
        read_joined(files, splits, read)
    }

    fn read_whole(
        &self,
        files: &[DatasetFiles],
        split: Split,
        on_bad_image: OnBadImage,
    ) -> Result<SplitAnnotations, DataError> {
        self.only(self.read(files, &[split], on_bad_image)?)
    }

    /// Returns the split that was read.
    fn only(&self, mut read: Vec<SplitAnnotations>) -> Result<SplitAnnotations, DataError> {
        read.pop().ok_or_else(|| {
            let root = self.label().into();
            LayoutError::NoImages { annotations: root }.into()
        })
    }

    fn error(&self, source: DataError, data_dir: Option<&Path>) -> RegistryError {
        RegistryError::Data {
            name: self.label(),
            data_dir: data_dir.map(Path::to_path_buf),
            source: source.into(),
        }
    }
}

/// Names the images of directories of classes that annotations beside them do not list: a classifier may be meant.
fn with_classes_beside(mut files: DatasetFiles) -> DatasetFiles {
    let described = classes_beside(&files);
    files.unused.extend(described);
    files
}

/// Describes the images of directories of classes that annotations beside them do not list, if these are annotations of
/// some of them; None for formats that take all images of a directory.
fn classes_beside(files: &DatasetFiles) -> Option<String> {
    if files.format.takes_all_images() {
        return None;
    }
    let (classes, images) = images_of_classes(&files.root)?;
    let listed = files.listed_images()?;
    let is_of_class = |path: &&PathBuf| {
        let below = path.strip_prefix(&files.root).ok();
        let first = below.and_then(|below| below.iter().next());
        first.is_some_and(|first| classes.iter().any(|class| first == class.as_str()))
    };
    let listed = listed.iter().filter(is_of_class).count();
    (0 < listed && listed < images).then(|| {
        let classes = first_few(classes.iter().map(String::as_str));
        let left = images - listed;
        format!("{left} of {images} images in the directories of classes ({classes}), which the annotations do not list")
    })
}

/// Adds to the reason why annotated images cannot be divided the directories of classes beside the annotations, if these
/// have more images: a classifier may be meant.
fn beside_classes(files: &DatasetFiles, annotated: usize, why: CannotHoldOut) -> CannotHoldOut {
    match images_of_classes(&files.root) {
        Some((classes, images)) if images > annotated => CannotHoldOut::BesideClasses {
            why: Box::new(why),
            annotations: format!("{} ({})", files.format, files.reason),
            annotated,
            classes: first_few(classes.iter().map(String::as_str)),
            images,
        },
        _ => why,
    }
}

/// Returns the note on images of val that are also in train, if there are any.
fn leak_note(train: &SplitAnnotations, val: &SplitAnnotations) -> Option<String> {
    let shared = shared_images(
        (&train.image_root, &train.store),
        (&val.image_root, &val.store),
    );
    let all = val.store.image_count();
    (shared > 0).then(|| {
        let verb = if shared == 1 { "is" } else { "are" };
        format!(
            "{shared} of {} {verb} also in train, so that the metrics are those of training images",
            count(all, "image")
        )
    })
}

/// Returns the note on images beside those of a split that are not used because of their format.
fn unused_images(read: &SplitAnnotations, seen: &mut BTreeSet<PathBuf>) -> Option<String> {
    let store = &read.store;
    let names = (0..store.image_count()).map(|index| store.image(index).file_name);
    unsupported_beside(&read.image_root, names, seen).map(|images| format!("skipped {images}"))
}

/// Returns the error about a directory in no format, with the directories of classes below it.
fn classes_below(root: &Path, error: DataError) -> DataError {
    let DataError::Layout(LayoutError::Unrecognized { .. }) = error else {
        return error;
    };
    let directories = LabeledName::directories_below(root);
    if directories.is_empty() {
        return error;
    }
    let mut unused = Vec::new();
    for directory in &directories {
        let names = ImageFolder::new(directory).unused_above().into_iter();
        let around = directory.parent().unwrap_or(root);
        let paths = names.map(|name| around.join(name));
        let below = paths.map(|path| {
            path.strip_prefix(root)
                .map(Path::to_path_buf)
                .unwrap_or(path)
        });
        unused.extend(below.map(|path| path.display().to_string()));
    }
    LayoutError::ClassesBelow {
        root: root.to_owned(),
        directories,
        unused,
    }
    .into()
}

/// Separates the datasets of a list.
const LIST_SEPARATOR: &str = ",";

/// Finds the splits of COCO 2017 in its original layout.
fn coco_files(directory: &Path) -> Result<DatasetFiles, DataError> {
    // One of the two is sufficient; if both are missing, the message names train.
    let splits: Vec<SplitFiles> =
        match [Split::Train, Split::Val].map(|split| find_coco(directory, split)) {
            [Err(error), Err(_)] => return Err(error.into()),
            found => found.into_iter().flatten().collect(),
        };
    Ok(DatasetFiles {
        format: &CocoFormat,
        root: directory.to_owned(),
        splits,
        reason: "COCO 2017 as unpacked from its archives".to_owned(),
        unused: Vec::new(),
    })
}

/// Reads some splits of the files of a dataset.
type ReadSplits<'a> =
    dyn Fn(&DatasetFiles, &[Split]) -> Result<Vec<SplitAnnotations>, DataError> + 'a;

/// Reads splits of one dataset, or of several as one. A dataset of a list may lack a split that
/// another has.
fn read_joined(
    files: &[DatasetFiles],
    splits: &[Split],
    read_splits: &ReadSplits<'_>,
) -> Result<Vec<SplitAnnotations>, DataError> {
    if let [single] = files {
        return read_splits(single, splits);
    }
    let read: Vec<(String, Vec<SplitAnnotations>)> = files
        .iter()
        .map(|files| {
            let mut present = files.split_names();
            present.retain(|split| splits.contains(split));
            Ok((
                files.root.display().to_string(),
                read_splits(files, &present)?,
            ))
        })
        .collect::<Result<_, DataError>>()?;
    splits
        .iter()
        .map(|split| {
            let parts = read.iter().flat_map(|(name, read)| {
                let of_split = read.iter().filter(|read| read.split == *split);
                of_split.map(|read| (name.as_str(), read))
            });
            let parts: Vec<_> = parts.collect();
            match (parts.is_empty(), files.first()) {
                (true, Some(first)) => Err(match first.split(*split) {
                    Err(error) => error.into(),
                    Ok(files) => DataError::labels(&files.annotations, "it has no images"),
                }),
                _ => join_splits(*split, &parts),
            }
        })
        .collect()
}

/// A dataset of either task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnyDatasetName {
    /// Images with boxes.
    Detection(DatasetName),
    /// Images with a class each.
    Classification(LabeledName),
}

impl AnyDatasetName {
    /// Reports whether this is a known name, not a path.
    pub fn is_named(name: &str) -> bool {
        DatasetName::named(name).is_some() || LabeledName::named(name).is_some()
    }

    /// Parses a known name, the path of a directory or annotation file, or a list of paths, separated by
    /// commas. A directory is a classification dataset if it has the layout of one and no annotations of
    /// boxes, and else a detection dataset.
    ///
    /// # Errors
    /// The string is none of these, or a list contains a classification dataset.
    pub fn parse(name: &str) -> Result<Self, RegistryError> {
        let path = Path::new(name);
        if let Some(dataset) = DatasetName::named(name) {
            Ok(Self::Detection(dataset))
        } else if let Some(dataset) = LabeledName::parse(name) {
            Ok(Self::Classification(dataset))
        } else if path.exists() {
            Ok(Self::Detection(DatasetName::Directory(path.into())))
        } else if let Some(parts) = list_of(name) {
            Self::parse_list(name, &parts)
        } else if name.contains(LIST_SEPARATOR) {
            let name = name.into();
            Err(RegistryError::EmptyInList { name })
        } else {
            Err(RegistryError::unknown(name))
        }
    }

    /// Parses the parts of a list of datasets.
    fn parse_list(name: &str, parts: &[&str]) -> Result<Self, RegistryError> {
        let real: Vec<Option<PathBuf>> = parts
            .iter()
            .map(|part| Path::new(part).canonicalize().ok())
            .collect();
        for (at, path) in real.iter().enumerate() {
            let first = real[..at].iter().position(|first| first == path);
            if let (Some(_), Some(first)) = (path, first) {
                return Err(RegistryError::TwiceInList {
                    name: name.into(),
                    first: parts[first].into(),
                    second: parts[at].into(),
                });
            }
        }
        let not_in_list = |part: &str| RegistryError::NotInList {
            name: name.into(),
            part: part.into(),
        };
        let (mut detection, mut classification) = (Vec::new(), Vec::new());
        for part in parts {
            match Self::parse(part)? {
                Self::Detection(DatasetName::Directory(path)) if classification.is_empty() => {
                    detection.push(path);
                }
                Self::Classification(labeled) if labeled.is_directory() && detection.is_empty() => {
                    classification.push(labeled);
                }
                // A directory with domains.
                Self::Classification(LabeledName::List(domains)) if detection.is_empty() => {
                    classification.extend(domains);
                }
                _ => return Err(not_in_list(part)),
            }
        }
        Ok(if classification.is_empty() {
            Self::Detection(DatasetName::List(detection))
        } else {
            Self::Classification(LabeledName::List(classification))
        })
    }

    /// Returns a name that denotes the same dataset in any working directory: paths become absolute.
    ///
    /// # Errors
    /// The working directory is unknown.
    pub fn absolute(name: &str) -> std::io::Result<String> {
        if Self::is_named(name) {
            return Ok(name.to_owned());
        }
        let parts = match list_of(name) {
            Some(parts) if !Path::new(name).exists() => parts,
            _ => vec![name],
        };
        let absolute: Vec<String> = parts
            .into_iter()
            .map(|part| Ok(std::path::absolute(part)?.display().to_string()))
            .collect::<std::io::Result<_>>()?;
        Ok(absolute.join(LIST_SEPARATOR))
    }

    /// Returns a short name for output directories: the last part of a path, without extension; for `.` and
    /// `..` that of the directory they denote.
    pub fn short_name(name: &str) -> String {
        let parts = match list_of(name) {
            Some(parts) if !Path::new(name).exists() => parts,
            _ => vec![name],
        };
        let short: Vec<String> = parts
            .into_iter()
            .map(|part| {
                let path = Path::new(part);
                // `cells/data.yaml` is the dataset of `cells`.
                let directory = match path.parent() {
                    Some(parent) if path.is_file() && parent.as_os_str().is_empty() => {
                        Path::new(".")
                    }
                    Some(parent) if path.is_file() => parent,
                    _ => path,
                };
                let name = directory.file_name().map(ToOwned::to_owned);
                let name =
                    name.or_else(|| Some(directory.canonicalize().ok()?.file_name()?.to_owned()));
                name.map_or_else(
                    || "run".to_owned(),
                    |name| name.to_string_lossy().into_owned(),
                )
            })
            .collect();
        short.join("+")
    }
}

/// Returns the parts of a list of datasets; None for a single one.
fn list_of(name: &str) -> Option<Vec<&str>> {
    let parts: Vec<&str> = name.split(LIST_SEPARATOR).map(str::trim).collect();
    (parts.len() > 1 && parts.iter().all(|part| !part.is_empty())).then_some(parts)
}

/// Returns the data directory that the environment names. An empty value is none: it would mean the current
/// directory.
pub fn data_dir_of_user() -> Option<PathBuf> {
    let value = std::env::var_os(DATA_DIR_VARIABLE)?;
    (!value.is_empty()).then(|| value.into())
}

/// Returns the directory of a named dataset: the subdirectory of that name in the data directory,
/// or else the data directory itself.
fn directory_of(name: &str, data_dir: Option<&Path>) -> Result<PathBuf, RegistryError> {
    let base = data_dir.map(Path::to_path_buf).or_else(data_dir_of_user);
    let base = base.ok_or_else(|| RegistryError::NoDataDir { name: name.into() })?;
    let inside = base.join(name);
    Ok(if inside.is_dir() { inside } else { base })
}

/// A split of a detection dataset.
#[derive(Debug, Clone)]
pub struct OpenedSplit {
    /// Annotations and pixels.
    pub dataset: Arc<DetectionDataset>,
}

impl OpenedSplit {
    /// Opens a split on its own.
    fn of_one(mut read: SplitAnnotations) -> Self {
        read.notes
            .extend(unused_images(&read, &mut BTreeSet::new()));
        Self::of(read)
    }

    fn of(read: SplitAnnotations) -> Self {
        let split = read.split;
        let notes: Vec<String> = read
            .lines()
            .map(|line| format!("{split}: {line}"))
            .collect();
        let dataset = DetectionDataset::in_directory(read.store, read.image_root);
        Self {
            dataset: Arc::new(dataset.with_notes(notes)),
        }
    }
}

/// Builds a split of the generated scenes. A scene is rendered at its first use and its JPEG file
/// is kept in memory: rendering takes about ten times as long as decoding.
///
/// # Errors
/// A setting is out of range.
pub fn shapes_dataset(
    config: &ShapesConfig,
    split: Split,
) -> Result<DetectionDataset, RegistryError> {
    config.validate()?;
    let mut builder = AnnotationStoreBuilder::new();
    for (id, name) in CATEGORY_IDS.iter().zip(CLASS_NAMES) {
        builder.add_category(*id, name);
    }
    let count = config.image_count(split);
    let scenes = shapes::split_annotations(config, split);
    for (index, (size, objects)) in scenes.into_iter().enumerate() {
        let image_id = config.image_id(split, index);
        builder.add_image(image_id, &shapes::file_name(image_id), size);
        for (place, object) in objects.into_iter().enumerate() {
            builder.add_annotation(NewAnnotation {
                id: shapes::annotation_id(image_id, place),
                image_id,
                category_id: CATEGORY_IDS[object.class_index],
                xywh: object.box_in_image.to_xywh(),
                area: Some(object.area),
                is_crowd: object.iscrowd,
            });
        }
    }
    let store = builder.build().map_err(|source| RegistryError::Data {
        name: "shapes".into(),
        data_dir: None,
        source: Box::new(DataError::Annotations {
            path: "shapes".into(),
            source,
        }),
    })?;
    let source = ShapesSource {
        config: config.clone(),
        split,
        drawn: (0..count).map(|_| OnceLock::new()).collect(),
    };
    Ok(DetectionDataset::new(Arc::new(store), source))
}

struct ShapesSource {
    config: ShapesConfig,
    split: Split,
    drawn: Vec<OnceLock<Vec<u8>>>,
}

impl ImageSource for ShapesSource {
    fn load(&self, index: usize) -> Result<RgbImage, DataError> {
        let draw = || photograph_scene(&self.config, self.split, index);
        Ok(decode_photograph(self.drawn[index].get_or_init(draw)))
    }

    fn describe(&self, index: usize) -> String {
        format!("scene {index} of shapes {}", self.split)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_lists_the_known_ones_and_suggests_the_nearest() {
        let message = DatasetName::parse("coc").unwrap_err().to_string();
        assert!(
            message.contains("'coc' (did you mean 'coco'?)")
                && message.contains("blood-cells")
                && message.contains("places365-challenge"),
            "{message}"
        );
    }

    #[test]
    fn too_few_annotations_beside_classes_are_named_with_the_images_of_these() {
        const XML: &str = "<annotation><filename>0.png</filename><size><width>8</width>\
            <height>8</height></size><object><name>x</name><bndbox><xmin>1</xmin><ymin>1</ymin>\
            <xmax>4</xmax><ymax>4</ymax></bndbox></object></annotation>";
        for (images, expected) in [
            (
                &["rose/0.png", "rose/1.png", "tulip/2.png"][..],
                " (read as Pascal VOC (XML files in Annotations) of 1 image; directories of classes \
                    have 3 images: rose, tulip; without the annotations, they are a dataset for a \
                    classifier)",
            ),
            (&["JPEGImages/0.png", "SegmentationClass/0.png"], ""),
        ] {
            let dir = tempfile::tempdir().unwrap();
            for image in images {
                let path = dir.path().join(image);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                image::RgbImage::new(8, 8).save(path).unwrap();
            }
            std::fs::create_dir(dir.path().join("Annotations")).unwrap();
            std::fs::write(dir.path().join("Annotations/0.xml"), XML).unwrap();
            let name = dir.path().display().to_string();
            let message = DatasetName::parse(&name).unwrap().open(None).unwrap_err();
            let why = "no val annotations, and one image cannot be split into train and val";
            assert_eq!(message.to_string(), format!("{name}: {why}{expected}"));
        }
    }

    #[test]
    fn images_of_classes_that_annotations_beside_them_do_not_list_are_counted() {
        const BESIDE: &str =
            "images in the directories of classes (rose, tulip), which the annotations do not list";
        let json = |names: &[&str]| {
            let images = names.iter().enumerate();
            let images = images.map(|(id, name)| {
                format!(r#"{{"id": {id}, "file_name": "{name}", "width": 8, "height": 8}}"#)
            });
            let images: Vec<String> = images.collect();
            let images = images.join(",");
            format!(
                r#"{{"images": [{images}], "annotations": [], "categories": [{{"id": 1, "name": "x"}}]}}"#
            )
        };
        const ALL: [&str; 4] = ["rose/0.png", "rose/1.png", "tulip/2.png", "tulip/3.png"];
        for (listed, expected) in [
            (&ALL[..1], Some("3 of 4")),
            (&["0.png", "1.png"], None),
            (&ALL[1..3], Some("2 of 4")),
            (&ALL[..], None),
        ] {
            let dir = tempfile::tempdir().unwrap();
            for image in ALL.iter().chain(&["images/0.png", "images/1.png"]) {
                let path = dir.path().join(image);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                image::RgbImage::new(8, 8).save(path).unwrap();
            }
            std::fs::write(dir.path().join("annotations.json"), json(listed)).unwrap();
            let name = DatasetName::Directory(dir.path().into());
            let found = name.files(None).unwrap();
            let expected = expected.map(|counts| format!("{counts} {BESIDE}"));
            assert_eq!(found[0].unused, Vec::from_iter(expected));
        }
    }

    #[test]
    fn classes_further_below_are_named_by_their_directory() {
        for (files, expected) in [
            (&["images/rose/1.jpg", "images/tulip/2.jpg"][..], "images"),
            (
                &[
                    "101_ObjectCategories/cat/1.jpg",
                    "101_ObjectCategories/dog/2.jpg",
                ],
                "101_ObjectCategories",
            ),
            (
                &[
                    "CUB/images/001.A/1.jpg",
                    "CUB/images/002.B/2.jpg",
                    "CUB/classes.txt",
                    "CUB/parts/parts.txt",
                ],
                "CUB/images",
            ),
            (
                &[
                    "xray/train/a/1.jpg",
                    "xray/train/b/2.jpg",
                    "xray/val/a/1.jpg",
                    "xray/val/b/2.jpg",
                    "__MACOSX/._x",
                ],
                "xray",
            ),
        ] {
            let dir = tempfile::tempdir().unwrap();
            for file in files {
                let path = dir.path().join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, "").unwrap();
            }
            let name = dir.path().display().to_string();
            let message = DatasetName::parse(&name).unwrap().files(None).unwrap_err();
            let expected = dir.path().join(expected).display().to_string();
            assert_eq!(
                message.to_string(),
                format!(
                    "{name}: no annotations in a known format, and no directories of classes; these are in {expected}"
                )
            );
            assert!(LabeledName::parse(&expected).is_some());
        }
    }

    #[test]
    fn a_path_that_is_not_a_directory_is_reported_as_such() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("scenes")).unwrap();
        let file = dir.path().join("x.json");
        std::fs::write(&file, "{}").unwrap();
        let message = |path: &Path| {
            let error = DatasetName::parse(&path.display().to_string()).unwrap_err();
            error.to_string()
        };
        let similar = dir.path().join("scene");
        assert_eq!(
            message(&similar),
            format!(
                "{}: no such file or directory (did you mean '{}s'?)",
                similar.display(),
                similar.display()
            )
        );
        let text = message(&dir.path().join("xx.json"));
        assert!(
            text.ends_with(&format!("(did you mean '{}'?)", file.display())),
            "{text}"
        );
        let text = message(Path::new("nodir/"));
        assert!(
            text.starts_with("nodir/: no such file or directory"),
            "{text}"
        );
        let text = message(Path::new("y.json"));
        assert!(
            text.starts_with("y.json: no such file or directory"),
            "{text}"
        );
    }

    #[test]
    fn a_run_is_named_after_the_directory_of_the_dataset() {
        let dir = tempfile::tempdir().unwrap();
        let cells = dir.path().join("cells");
        std::fs::create_dir_all(cells.join("images")).unwrap();
        std::fs::write(cells.join("data.yaml"), "").unwrap();
        for part in ["", ".", "data.yaml", "images/.."] {
            let path = cells.join(part).display().to_string();
            assert_eq!(AnyDatasetName::short_name(&path), "cells", "{path}");
        }
        let here = std::env::current_dir().unwrap();
        let here = here.file_name().unwrap().to_str().unwrap();
        assert_eq!(AnyDatasetName::short_name("."), here);
    }

    /// Writes an annotation file of one image, as Roboflow places it; each directory has an image of its own.
    fn write_coco(directory: &Path, categories: &str, annotations: &str) {
        std::fs::create_dir_all(directory).unwrap();
        let name = directory.file_name().unwrap().as_encoded_bytes();
        let image = RgbImage::from_pixel(40, 30, image::Rgb([name[0], name[1], name[2]]));
        image.save(directory.join("a.png")).unwrap();
        let json = format!(
            r#"{{"images":[{{"id":1,"file_name":"a.png","width":40,"height":30}}],
                "categories":[{categories}],"annotations":[{annotations}]}}"#
        );
        std::fs::write(directory.join("_annotations.coco.json"), json).unwrap();
    }

    /// Returns the notes without the one on the few images of these tests.
    fn notes_besides_few(opened: &OpenedSplit) -> Vec<String> {
        let few = "val: the scores of 1 image say little";
        let notes = opened.dataset.notes().iter();
        notes.filter(|note| *note != few).cloned().collect()
    }

    fn annotation(id: u64) -> String {
        format!(
            r#"{{"id":{id},"image_id":1,"category_id":1,"bbox":[1,2,10,10],"area":100,"iscrowd":0}}"#
        )
    }

    #[test]
    fn two_classes_with_one_name_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let categories = r#"{"id":1,"name":"cat"},{"id":2,"name":"cat"}"#;
        for split in ["train", "valid"] {
            write_coco(&dir.path().join(split), categories, &annotation(1));
        }
        let name = DatasetName::Directory(dir.path().into());
        for error in [
            name.open(None).unwrap_err(),
            name.open_split(Split::Val, None).unwrap_err(),
            name.open_whole(Split::Train, None).unwrap_err(),
        ] {
            let message = error.to_string();
            assert!(
                message.ends_with("two classes have the name `cat` (ids 1 and 2)"),
                "{message}"
            );
        }
    }

    #[test]
    fn what_the_checker_finds_in_val_and_in_image_files_is_noted_too() {
        let dir = tempfile::tempdir().unwrap();
        let category = r#"{"id":1,"name":"cat"}"#;
        let outside = annotation(1).replace("[1,2,10,10]", "[90,2,10,10]");
        let negative = annotation(2).replace("\"area\":100", "\"area\":-3");
        write_coco(&dir.path().join("train"), category, &negative);
        write_coco(&dir.path().join("valid"), category, &outside);
        let open = || {
            let name = DatasetName::Directory(dir.path().into());
            let (train, val) = name.open(None).unwrap();
            (notes_besides_few(&train), notes_besides_few(&val))
        };
        let (train, val) = open();
        assert_eq!(
            train,
            ["train: 1 area is negative or zero: its object counts as small in the metrics"]
        );
        assert_eq!(
            val,
            ["val: 1 box is outside its image, and counts as missed in every evaluation"]
        );
        std::fs::copy(
            dir.path().join("train/a.png"),
            dir.path().join("valid/a.png"),
        )
        .unwrap();
        let (_, val) = open();
        let expected = "val: 1 image has the content of a train image";
        assert!(val.iter().any(|note| note.starts_with(expected)), "{val:?}");
    }

    #[test]
    fn a_list_has_datasets_of_one_task_each_once() {
        let dir = tempfile::tempdir().unwrap();
        let category = r#"{"id":1,"name":"cat"}"#;
        write_coco(&dir.path().join("boxes/train"), category, &annotation(1));
        for (part, classes) in [
            ("a", ["cat", "dog"]),
            ("b", ["dog", "cat"]),
            ("c", ["cat", "cow"]),
        ] {
            for (shade, class) in (0..).zip(classes) {
                for number in 0..12 {
                    let path = dir.path().join(format!("{part}/{class}/{number}.png"));
                    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                    let image = RgbImage::from_pixel(4, 4, image::Rgb([shade, number, 0]));
                    image.save(path).unwrap();
                }
            }
        }
        let path = |name: &str| dir.path().join(name).display().to_string();
        let parse = |parts: &[&str]| {
            let paths: Vec<String> = parts.iter().map(|part| path(part)).collect();
            AnyDatasetName::parse(&paths.join(","))
        };
        let open = |parts: &[&str]| match parse(parts).unwrap() {
            AnyDatasetName::Classification(name) => name.open(None),
            AnyDatasetName::Detection(_) => panic!("{parts:?} is for detection"),
        };
        let (train, val) = open(&["a", "b"]).unwrap();
        assert_eq!(train.class_names(), ["cat", "dog"]);
        assert_eq!(train.len() + val.len(), 48);
        assert!(val.len() >= 2, "{}", val.len());
        for index in 0..train.len() {
            let class = &train.class_names()[train.label(index)];
            let described = train.describe(index);
            assert!(described.contains(&format!("/{class}/")), "{described}");
        }
        let message = open(&["a", "c"]).unwrap_err().to_string();
        assert!(
            message.contains("`cow` only in") && message.contains("`dog` only in"),
            "{message}"
        );
        for (parts, expected) in [
            (&["a", "a"][..], "are the same dataset"),
            (&["boxes", "boxes/../boxes"], "are the same dataset"),
            (
                &["a", "boxes"],
                "a list of datasets takes directories of one task",
            ),
            (
                &["boxes", "a"],
                "a list of datasets takes directories of one task",
            ),
        ] {
            let message = parse(parts).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        for list in [
            format!("{},", path("a")),
            ",a".to_owned(),
            "a,,b".to_owned(),
        ] {
            let message = AnyDatasetName::parse(&list).unwrap_err().to_string();
            assert_eq!(
                message,
                format!("'{list}': a list of datasets with an empty name")
            );
        }
        let name = parse(&["a", "b"]).unwrap();
        let recognized = name.recognize(None).unwrap().to_string();
        assert!(
            recognized.contains("classification dataset, a directory for each class ("),
            "{recognized}"
        );
    }

    #[test]
    fn boxes_that_are_there_twice_are_noted_where_training_opens_them() {
        let dir = tempfile::tempdir().unwrap();
        let category = r#"{"id":1,"name":"cat"}"#;
        let twice = [annotation(1), annotation(2)].join(",");
        write_coco(&dir.path().join("train"), category, &twice);
        write_coco(&dir.path().join("valid"), category, &annotation(1));
        let (train, val) = DatasetName::Directory(dir.path().into())
            .open(None)
            .unwrap();
        let expected = "train: 1 box is a duplicate";
        let notes = train.dataset.notes();
        assert!(
            notes.iter().any(|note| note.starts_with(expected)),
            "{notes:?}"
        );
        assert_eq!(notes_besides_few(&val), [""; 0]);
    }

    #[test]
    fn images_of_unsupported_formats_beside_the_others_are_counted_once() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        put("data.yaml", b"train: images\nnames: [cat]\n");
        std::fs::create_dir_all(dir.path().join("images/night")).unwrap();
        for name in ["a", "b", "night/c", "night/k"] {
            let image = dir.path().join("images").join(format!("{name}.png"));
            RgbImage::new(40, 30).save(image).unwrap();
            put(&format!("labels/{name}.txt"), b"0 0.5 0.5 0.25 0.25\n");
        }
        put("images/d.avif", b"");
        put("images/night/e.JP2", b"");
        put("images/night/f.jp2", b"");
        put("elsewhere/g.avif", b"");
        let expected =
            "train: skipped 3 images in formats that are not supported (.avif: 1, .jp2: 2)";
        let name = DatasetName::Directory(dir.path().into());
        let (train, val) = name.open(None).unwrap();
        let notes = [train.dataset.notes(), val.dataset.notes()].concat();
        let skipped = |note: &&String| note.contains("skipped");
        let skipped: Vec<&String> = notes.iter().filter(skipped).collect();
        assert_eq!(skipped, [expected]);
        let whole = name.open_whole(Split::Train, None).unwrap();
        assert_eq!(whole.dataset.notes(), [expected]);
    }

    #[test]
    fn images_that_are_in_train_and_val_are_noted() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("data.yaml", "train: images\nval: images\nnames: [cat]\n"),
            ("labels/a.txt", "0 0.5 0.5 0.25 0.25\n"),
        ] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let images = dir.path().join("images");
        std::fs::create_dir(&images).unwrap();
        RgbImage::new(40, 30).save(images.join("a.png")).unwrap();
        let (_, val) = DatasetName::Directory(dir.path().into())
            .open(None)
            .unwrap();
        let expected =
            "val: 1 of 1 image is also in train, so that the metrics are those of training images";
        let notes = val.dataset.notes();
        assert!(notes.iter().any(|note| note == expected), "{notes:?}");
    }

    #[test]
    fn generated_scenes_are_the_same_in_memory_and_as_written_files() {
        let config = ShapesConfig {
            train_images: 3,
            val_images: 2,
            ..ShapesConfig::default()
        };
        let directory = tempfile::tempdir().unwrap();
        shapes::write_dataset(&config, directory.path(), &mut |_, _| {}).unwrap();
        let name = DatasetName::Directory(directory.path().into());
        for split in [Split::Train, Split::Val] {
            let in_memory = shapes_dataset(&config, split).unwrap();
            let written = name.open_split(split, None).unwrap().dataset;
            assert_eq!(in_memory.store(), written.store());
            for index in 0..in_memory.len() {
                let (a, b) = (in_memory.load_image(index), written.load_image(index));
                assert_eq!(a.unwrap(), b.unwrap());
            }
        }
    }
}
