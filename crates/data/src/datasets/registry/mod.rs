//! Datasets by name or by directory.

mod labeled;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use image::RgbImage;

pub use labeled::LabeledName;

use crate::DataError;
use crate::annotations::coco_directory::find_coco;
use crate::annotations::format::{DatasetFiles, SplitAnnotations};
use crate::annotations::layout::{Split, SplitFiles};
use crate::annotations::{AnnotationStoreBuilder, NewAnnotation};
use crate::datasets::detection::{DetectionDataset, check_same_categories};
use crate::images::ImageSource;
use crate::shapes::{
    self, CATEGORY_IDS, CLASS_NAMES, ShapesConfig, ShapesError, decode_photograph, photograph_scene,
};
use crate::text::nearest;

/// The environment variable with the directory of all datasets.
pub const DATA_DIR_VARIABLE: &str = "SEDET_DATA";

/// The reason why a dataset did not open.
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
        "unknown dataset '{name}'{suggestion}; known are {} (detection), {} (classification) and any directory",
        DatasetName::NAMES.join(", "),
        LabeledName::NAMES.join(", ")
    )]
    Unknown {
        /// The requested name.
        name: String,
        /// The question whether a similar name was meant, or nothing.
        suggestion: String,
    },
    /// A path that does not exist.
    #[error("{name}: no such file or directory{suggestion}")]
    NoSuchPath {
        /// The requested path.
        name: String,
        /// The question whether a similar name was meant, or nothing.
        suggestion: String,
    },
    /// A file where the directory of a dataset is required.
    #[error("{name}: a file; the directory of a dataset is required")]
    NotADirectory {
        /// The requested path.
        name: String,
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
        source: DataError,
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
        if path.is_file() {
            return Self::NotADirectory { name: name.into() };
        }
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

/// Returns a directory beside a path that does not exist, or for a plain name also a known dataset, whose name
/// is similar.
fn similar_dataset(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let parent = path.parent()?;
    let is_plain = parent.as_os_str().is_empty();
    let place = if is_plain { Path::new(".") } else { parent };
    let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
    let mut known: Vec<String> = entries
        .filter(|entry| entry.path().is_dir())
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

/// A detection dataset: a known name or a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatasetName {
    /// Generated scenes.
    Shapes,
    /// BCCD blood cells, after the download.
    BloodCells,
    /// COCO 2017 in its original layout.
    Coco,
    /// Any directory in one of the annotation [formats](crate::annotations::format::FORMATS).
    Directory(PathBuf),
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
        }
    }

    /// Returns the directory of the files; None for generated data.
    ///
    /// # Errors
    /// A named dataset has no data directory.
    pub fn directory(&self, data_dir: Option<&Path>) -> Result<Option<PathBuf>, RegistryError> {
        match self {
            Self::Shapes => Ok(None),
            Self::Directory(path) => Ok(Some(path.clone())),
            Self::BloodCells | Self::Coco => directory_of(&self.label(), data_dir).map(Some),
        }
    }

    /// Finds the splits that exist, without reading them. Empty for generated data.
    ///
    /// # Errors
    /// There is no data directory, or no split in it.
    pub fn splits(&self, data_dir: Option<&Path>) -> Result<Vec<SplitFiles>, RegistryError> {
        let Some(directory) = self.directory(data_dir)? else {
            return Ok(Vec::new());
        };
        let found = if *self == Self::Coco {
            // One of the two is sufficient; if both are missing, the message names train.
            match [Split::Train, Split::Val].map(|split| find_coco(&directory, split)) {
                [Err(error), Err(_)] => Err(error.into()),
                found => Ok(found.into_iter().flatten().collect()),
            }
        } else {
            DatasetFiles::find(&directory).map(|files| files.splits)
        };
        found.map_err(|error| self.error(error, data_dir))
    }

    fn read(&self, directory: &Path, split: Split) -> Result<OpenedSplit, DataError> {
        let files = if *self == Self::Coco {
            find_coco(directory, split)?
        } else {
            DatasetFiles::find(directory)?.split(split)?.clone()
        };
        let SplitAnnotations {
            store, image_root, ..
        } = files.read()?;
        Ok(OpenedSplit {
            dataset: Arc::new(DetectionDataset::in_directory(store, image_root)),
            annotations: files.coco_json().map(Path::to_owned),
        })
    }

    /// Opens train and val, whose categories must be the same.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub fn open(
        &self,
        data_dir: Option<&Path>,
    ) -> Result<(OpenedSplit, OpenedSplit), RegistryError> {
        let train = self.open_split(Split::Train, data_dir)?;
        let val = self.open_split(Split::Val, data_dir)?;
        check_same_categories(
            ("train", train.dataset.store()),
            ("val", val.dataset.store()),
        )
        .map_err(|source| self.error(source, data_dir))?;
        Ok((train, val))
    }

    /// Opens a split.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub fn open_split(
        &self,
        split: Split,
        data_dir: Option<&Path>,
    ) -> Result<OpenedSplit, RegistryError> {
        let Some(directory) = self.directory(data_dir)? else {
            if split == Split::Test {
                return Err(RegistryError::NoTestSplit);
            }
            return Ok(OpenedSplit {
                dataset: Arc::new(shapes_dataset(&ShapesConfig::default(), split)?),
                annotations: None,
            });
        };
        self.read(&directory, split)
            .map_err(|source| self.error(source, data_dir))
    }

    fn error(&self, source: DataError, data_dir: Option<&Path>) -> RegistryError {
        RegistryError::Data {
            name: self.label(),
            data_dir: data_dir.map(Path::to_path_buf),
            source,
        }
    }
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
    /// Reports whether this is a known name, not a directory.
    pub fn is_named(name: &str) -> bool {
        DatasetName::named(name).is_some() || LabeledName::named(name).is_some()
    }

    /// Parses a known name or the path of a directory. A directory is a classification dataset if it has the
    /// layout of one and no annotations of boxes, and else a detection dataset.
    ///
    /// # Errors
    /// The string is neither a known name nor a directory.
    pub fn parse(name: &str) -> Result<Self, RegistryError> {
        let directory = Path::new(name);
        if let Some(dataset) = DatasetName::named(name) {
            Ok(Self::Detection(dataset))
        } else if let Some(dataset) = LabeledName::parse(name) {
            Ok(Self::Classification(dataset))
        } else if directory.is_dir() {
            Ok(Self::Detection(DatasetName::Directory(directory.into())))
        } else {
            Err(RegistryError::unknown(name))
        }
    }
}

/// Returns the directory of a named dataset: the subdirectory of that name in the data directory,
/// or else the data directory itself.
fn directory_of(name: &str, data_dir: Option<&Path>) -> Result<PathBuf, RegistryError> {
    let variable = std::env::var_os(DATA_DIR_VARIABLE).map(PathBuf::from);
    let base = data_dir.map(Path::to_path_buf).or(variable);
    let base = base.ok_or_else(|| RegistryError::NoDataDir { name: name.into() })?;
    let inside = base.join(name);
    Ok(if inside.is_dir() { inside } else { base })
}

/// A split of a detection dataset.
#[derive(Debug, Clone)]
pub struct OpenedSplit {
    /// Annotations and pixels.
    pub dataset: Arc<DetectionDataset>,
    /// The annotations as a COCO JSON file; None for generated data and other formats.
    pub annotations: Option<PathBuf>,
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
        source: DataError::Annotations {
            path: "shapes".into(),
            source,
        },
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
        let text = message(Path::new("nodir/"));
        assert!(
            text.starts_with("nodir/: no such file or directory"),
            "{text}"
        );
        let text = message(&file);
        assert!(
            text.ends_with("x.json: a file; the directory of a dataset is required"),
            "{text}"
        );
        let text = message(Path::new("y.json"));
        assert!(
            text.starts_with("y.json: no such file or directory"),
            "{text}"
        );
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
