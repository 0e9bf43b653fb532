//! Data sets by name or by folder.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use image::RgbImage;

use super::annotations::{Annotation, AnnotationStore, Category, ImageRecord};
use super::dataset::{DetectionDataset, ImageSource, SampleError};
use super::layout::{LayoutError, open_split, open_train_and_val};
use super::shapes::{
    CATEGORY_IDS, CLASS_NAMES, ShapesConfig, ShapesError, Split, generate_annotations,
    generate_scene,
};

/// Environment variable that names the folder of all data sets.
pub const DATA_DIR_VARIABLE: &str = "SEDET_DATA";

/// Why a data set did not open.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A known name, but no folder to find it in.
    #[error(
        "'{name}' needs its folder: give --data-dir DIR or set {DATA_DIR_VARIABLE}{}",
        hint(name)
    )]
    NoDataDir {
        /// The data set.
        name: String,
    },
    /// Neither a name nor a folder.
    #[error(
        "unknown data set '{name}': it is none of shapes, blood-cells, coco, and no folder of that name exists"
    )]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The folder is not as it should be.
    #[error("{source}{}", hint(name))]
    Layout {
        /// The data set.
        name: String,
        /// What is wrong.
        source: LayoutError,
    },
    /// The generator's settings.
    #[error(transparent)]
    Shapes(#[from] ShapesError),
}

fn hint(name: &str) -> &'static str {
    match name {
        "blood-cells" => "; `sedet data download blood-cells` fetches it",
        _ => "",
    }
}

/// The data sets that sedet knows by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatasetName {
    /// The embedded generator.
    Shapes,
    /// BCCD, after its download.
    BloodCells,
    /// COCO 2017 in its own layout.
    Coco,
    /// Any folder with COCO-format annotations.
    Folder(PathBuf),
}

impl DatasetName {
    /// A name, or else a folder.
    ///
    /// # Errors
    /// Neither.
    pub fn parse(name: &str) -> Result<Self, RegistryError> {
        match name {
            "shapes" => Ok(Self::Shapes),
            "blood-cells" => Ok(Self::BloodCells),
            "coco" => Ok(Self::Coco),
            folder if Path::new(folder).is_dir() => Ok(Self::Folder(folder.into())),
            _ => Err(RegistryError::Unknown { name: name.into() }),
        }
    }

    fn label(&self) -> String {
        match self {
            Self::Shapes => "shapes".into(),
            Self::BloodCells => "blood-cells".into(),
            Self::Coco => "coco".into(),
            Self::Folder(path) => path.display().to_string(),
        }
    }

    /// Where its files lie; none for generated data.
    ///
    /// # Errors
    /// A named data set without a data folder.
    pub fn folder(&self, data_dir: Option<&Path>) -> Result<Option<PathBuf>, RegistryError> {
        let in_data_dir = |own: &str| {
            let variable = std::env::var_os(DATA_DIR_VARIABLE).map(PathBuf::from);
            let base = data_dir
                .map(Path::to_path_buf)
                .or(variable)
                .ok_or_else(|| RegistryError::NoDataDir { name: self.label() })?;
            let inside = base.join(own);
            Ok(Some(if inside.is_dir() { inside } else { base }))
        };
        match self {
            Self::Shapes => Ok(None),
            Self::Folder(path) => Ok(Some(path.clone())),
            Self::BloodCells => in_data_dir("blood-cells"),
            Self::Coco => in_data_dir("coco"),
        }
    }

    /// Train and val.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub fn open(
        &self,
        data_dir: Option<&Path>,
    ) -> Result<(DetectionDataset, DetectionDataset), RegistryError> {
        match self.folder(data_dir)? {
            None => {
                let config = ShapesConfig::default();
                Ok((
                    shapes_dataset(&config, Split::Train)?,
                    shapes_dataset(&config, Split::Val)?,
                ))
            }
            Some(folder) => open_train_and_val(&folder).map_err(|source| RegistryError::Layout {
                name: self.label(),
                source,
            }),
        }
    }

    /// One split: `train`, `val`, or `test` where there is one.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub fn open_split(
        &self,
        split: &str,
        data_dir: Option<&Path>,
    ) -> Result<DetectionDataset, RegistryError> {
        match self.folder(data_dir)? {
            None => {
                let which = if split == "train" {
                    Split::Train
                } else {
                    Split::Val
                };
                Ok(shapes_dataset(&ShapesConfig::default(), which)?)
            }
            Some(folder) => open_split(&folder, split).map_err(|source| RegistryError::Layout {
                name: self.label(),
                source,
            }),
        }
    }
}

/// A split of the generated scenes. A scene is drawn when it is first asked for and kept: drawing
/// again in every epoch would cost as much as a small network's training step.
///
/// # Errors
/// Settings out of range.
pub fn shapes_dataset(
    config: &ShapesConfig,
    split: Split,
) -> Result<DetectionDataset, ShapesError> {
    config.validate()?;
    let categories = CATEGORY_IDS
        .iter()
        .zip(CLASS_NAMES)
        .map(|(id, name)| Category {
            id: *id,
            name: name.to_string(),
        })
        .collect();
    let name = match split {
        Split::Train => "train",
        Split::Val => "val",
    };
    let mut store = AnnotationStore::new(PathBuf::from(format!("shapes/{name}")), categories);
    let count = config.image_count(split);
    for index in 0..count {
        let (size, objects) = generate_annotations(config, split, index);
        let record = ImageRecord {
            id: index as u64 + 1,
            file_name: format!("{:012}.jpg", index + 1),
            size,
        };
        let annotations = objects.iter().map(|object| Annotation {
            box_in_image: object.box_in_image,
            label: object.class_index,
            iscrowd: object.iscrowd,
            area: f64::from(object.area),
        });
        store.push(&record, annotations);
    }
    store.shrink();
    Ok(DetectionDataset {
        split: name.to_string(),
        store: Arc::new(store),
        source: Arc::new(ShapesSource {
            config: config.clone(),
            split,
            drawn: (0..count).map(|_| OnceLock::new()).collect(),
        }),
    })
}

struct ShapesSource {
    config: ShapesConfig,
    split: Split,
    drawn: Vec<OnceLock<RgbImage>>,
}

impl ImageSource for ShapesSource {
    fn load(&self, index: usize) -> Result<RgbImage, SampleError> {
        let draw = || generate_scene(&self.config, self.split, index).image;
        Ok(self.drawn[index].get_or_init(draw).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_says_what_there_is() {
        let message = DatasetName::parse("coc").unwrap_err().to_string();
        assert!(
            message.contains("'coc'") && message.contains("blood-cells"),
            "{message}"
        );
    }

    #[test]
    fn generated_pictures_have_the_size_of_their_annotations() {
        let config = ShapesConfig {
            train_images: 3,
            val_images: 2,
            ..ShapesConfig::default()
        };
        let train = shapes_dataset(&config, Split::Train).unwrap();
        assert_eq!(train.store.len(), 3);
        for index in 0..3 {
            train.load(index).unwrap();
        }
    }
}
