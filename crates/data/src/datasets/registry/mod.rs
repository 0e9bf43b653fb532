//! Datasets by name or by directory.

mod labeled;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use image::RgbImage;
use rayon::prelude::*;

pub use labeled::LabeledName;

use crate::DataError;
use crate::annotations::layout::{Split, SplitFiles, find_coco, find_directory};
use crate::annotations::yolo::YoloDirectory;
use crate::annotations::{AnnotationStoreBuilder, NewAnnotation};
use crate::datasets::detection::{DetectionDataset, ImageSource, check_same_categories};
use crate::datasets::sources::data_source;
use crate::shapes::{
    self, CATEGORY_IDS, CLASS_NAMES, ShapesConfig, ShapesError, decode_photograph,
    generate_annotations, photograph_scene,
};

/// Environment variable that names the directory of all datasets.
pub const DATA_DIR_VARIABLE: &str = "SEDET_DATA";

/// Why a dataset did not open.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A known name, but no directory to find it in.
    #[error(
        "'{name}' needs its directory: give --data-dir DIR or set {DATA_DIR_VARIABLE}{}",
        hint(name)
    )]
    NoDataDir {
        /// The dataset.
        name: String,
    },
    /// Neither a name nor a directory.
    #[error(
        "unknown dataset '{name}': it is none of {} (boxes) or {} (classes), and no directory of that name exists",
        DatasetName::NAMES.join(", "),
        LabeledName::NAMES.join(", ")
    )]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// A dataset of classes where one of boxes is needed.
    #[error("'{name}' has classes but no boxes: a classifier learns it, not a detector")]
    NoBoxes {
        /// What was asked for.
        name: String,
    },
    /// The directory is not as it should be.
    #[error("{source}{}", hint(name))]
    Data {
        /// The dataset.
        name: String,
        /// What is wrong.
        source: DataError,
    },
    /// Generated scenes come as train and val only.
    #[error("the generated scenes have no test split; use --split val")]
    NoTestSplit,
    /// The generator's settings.
    #[error(transparent)]
    Shapes(#[from] ShapesError),
}

fn hint(name: &str) -> String {
    match name {
        "imagenet" => "; `sedet data download imagenet` tells how to get it".into(),
        name if name == "blood-cells" || data_source(name).is_some() => {
            format!("; `sedet data download {name}` fetches it")
        }
        _ => String::new(),
    }
}

/// The datasets that sedet knows by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatasetName {
    /// The embedded generator.
    Shapes,
    /// BCCD, after its download.
    BloodCells,
    /// COCO 2017 in its own layout.
    Coco,
    /// Any directory with COCO-format annotations, or in YOLO's layout.
    Directory(PathBuf),
}

impl DatasetName {
    /// The names; anything else is a directory.
    pub const NAMES: [&str; 3] = ["shapes", "blood-cells", "coco"];

    fn named(name: &str) -> Option<Self> {
        match name {
            "shapes" => Some(Self::Shapes),
            "blood-cells" => Some(Self::BloodCells),
            "coco" => Some(Self::Coco),
            _ => None,
        }
    }

    /// A name, or else a directory.
    ///
    /// # Errors
    /// Neither, or a dataset without boxes.
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

    /// Where its files lie; none for generated data.
    ///
    /// # Errors
    /// A named dataset without a data directory.
    pub fn directory(&self, data_dir: Option<&Path>) -> Result<Option<PathBuf>, RegistryError> {
        match self {
            Self::Shapes => Ok(None),
            Self::Directory(path) => Ok(Some(path.clone())),
            Self::BloodCells | Self::Coco => directory_of(&self.label(), data_dir).map(Some),
        }
    }

    fn files(&self, directory: &Path, split: Split) -> Result<SplitFiles, DataError> {
        Ok(match self {
            Self::Coco => find_coco(directory, split)?,
            _ => find_directory(directory)?.split(split)?.clone(),
        })
    }

    /// Where the splits that are there lie; nothing is read yet. None for generated data.
    ///
    /// # Errors
    /// No directory, or no split in it.
    pub fn splits(&self, data_dir: Option<&Path>) -> Result<Vec<SplitFiles>, RegistryError> {
        let Some(directory) = self.directory(data_dir)? else {
            return Ok(Vec::new());
        };
        let found = match self {
            Self::Coco => {
                // One of the two is enough; without any, what train lacks is said.
                let found = [Split::Train, Split::Val].map(|split| find_coco(&directory, split));
                match found {
                    [Err(error), Err(_)] => Err(error),
                    found => Ok(found.into_iter().flatten().collect()),
                }
            }
            _ => find_directory(&directory).map(|files| files.splits),
        };
        found.map_err(|error| self.error(error.into()))
    }

    /// Train and val, which must agree on their categories.
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
        .map_err(|source| self.error(source))?;
        Ok((train, val))
    }

    /// One split.
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
        let open = || {
            if let Some(opened) = self.open_yolo(&directory, split)? {
                return Ok(opened);
            }
            let files = self.files(&directory, split)?;
            Ok(OpenedSplit {
                dataset: Arc::new(files.open()?),
                annotations: Some(files.annotations),
            })
        };
        open().map_err(|source| self.error(source))
    }

    /// A split of a directory in YOLO's layout that has no COCO annotations.
    fn open_yolo(&self, directory: &Path, split: Split) -> Result<Option<OpenedSplit>, DataError> {
        if !matches!(self, Self::Directory(_)) || find_directory(directory).is_ok() {
            return Ok(None);
        }
        let Some(found) = YoloDirectory::find(directory)? else {
            return Ok(None);
        };
        let read = found.read(split)?;
        Ok(Some(OpenedSplit {
            dataset: Arc::new(DetectionDataset::in_directory(read.store, read.root)),
            annotations: None,
        }))
    }

    fn error(&self, source: DataError) -> RegistryError {
        RegistryError::Data {
            name: self.label(),
            source,
        }
    }
}

/// A dataset of either kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnyDatasetName {
    /// Images with boxes.
    Detection(DatasetName),
    /// Images with one class each.
    Classification(LabeledName),
}

impl AnyDatasetName {
    /// Whether this is the name of a dataset and no directory.
    pub fn is_named(name: &str) -> bool {
        DatasetName::named(name).is_some() || LabeledName::named(name).is_some()
    }

    /// Decides by name; a directory is for classification if it looks so and has no annotations of
    /// boxes, and else for detection.
    ///
    /// # Errors
    /// Neither a name nor a directory; the error lists the names of both kinds.
    pub fn parse(name: &str) -> Result<Self, RegistryError> {
        let directory = Path::new(name);
        if let Some(dataset) = DatasetName::named(name) {
            Ok(Self::Detection(dataset))
        } else if let Some(dataset) = LabeledName::parse(name) {
            Ok(Self::Classification(dataset))
        } else if directory.is_dir() {
            Ok(Self::Detection(DatasetName::Directory(directory.into())))
        } else {
            Err(RegistryError::Unknown { name: name.into() })
        }
    }
}

/// The directory of a named dataset: its own inside of the data directory, or else that directory itself.
fn directory_of(name: &str, data_dir: Option<&Path>) -> Result<PathBuf, RegistryError> {
    let variable = std::env::var_os(DATA_DIR_VARIABLE).map(PathBuf::from);
    let base = data_dir.map(Path::to_path_buf).or(variable);
    let base = base.ok_or_else(|| RegistryError::NoDataDir { name: name.into() })?;
    let inside = base.join(name);
    Ok(if inside.is_dir() { inside } else { base })
}

/// A split ready for use.
#[derive(Debug, Clone)]
pub struct OpenedSplit {
    /// Annotations and pixels.
    pub dataset: Arc<DetectionDataset>,
    /// The COCO file of the annotations; none for generated data and YOLO's layout.
    pub annotations: Option<PathBuf>,
}

/// A split of the generated scenes. A scene is drawn when it is first asked for and its JPEG file
/// kept in memory: drawing again costs about ten times as much as decoding.
///
/// # Errors
/// Settings out of range.
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
    let scenes: Vec<_> = (0..count)
        .into_par_iter()
        .map(|index| generate_annotations(config, split, index))
        .collect();
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
    fn an_unknown_name_says_what_there_is() {
        let message = DatasetName::parse("coc").unwrap_err().to_string();
        assert!(
            message.contains("'coc'")
                && message.contains("blood-cells")
                && message.contains("places365-challenge"),
            "{message}"
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
