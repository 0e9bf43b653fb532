//! Classification data sets by name or by folder.

use std::path::{Path, PathBuf};

use super::{RegistryError, folder_of};
use crate::data::DataError;
use crate::data::formats::cifar::{CifarFiles, CifarImages, CifarVariant};
use crate::data::formats::image_folder::{ImageFolder, holds_annotations};
use crate::data::formats::imagenet::ImageNetFolder;
use crate::data::formats::layout::Split;
use crate::data::formats::places365::{CATEGORIES, PlacesTrain, open_places365};
use crate::data::labelled::LabelledDataset;

/// The classification data sets that sedet knows by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelledName {
    /// CIFAR-10.
    Cifar10,
    /// CIFAR-100, by its fine labels.
    Cifar100,
    /// A folder with the files of CIFAR-10 or CIFAR-100.
    CifarFolder(PathBuf),
    /// ImageNet's classification challenge of 2012.
    ImageNet,
    /// A folder with ImageNet in one of its own layouts.
    ImageNetFolder(PathBuf),
    /// Places365 with its standard training set.
    Places365,
    /// Places365 with the larger training set of the challenge.
    Places365Challenge,
    /// A folder with the lists of Places365.
    Places365Folder(PathBuf),
    /// Any folder with a folder for each class.
    ImageFolder(PathBuf),
}

impl LabelledName {
    /// The names; anything else is a folder.
    pub const NAMES: [&str; 5] = [
        "imagenet",
        "places365",
        "places365-challenge",
        "cifar10",
        "cifar100",
    ];

    /// One of [`Self::NAMES`].
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "imagenet" => Some(Self::ImageNet),
            "places365" => Some(Self::Places365),
            "places365-challenge" => Some(Self::Places365Challenge),
            "cifar10" => Some(Self::Cifar10),
            "cifar100" => Some(Self::Cifar100),
            _ => None,
        }
    }

    /// A name, or else a folder that holds a classification data set; none for anything else. A
    /// folder with annotations of boxes holds none, whatever else is in it.
    pub fn parse(name: &str) -> Option<Self> {
        let folder = Path::new(name);
        let is_cifar = |variant| CifarFiles::find(folder, variant).is_some();
        if let Some(named) = Self::named(name) {
            Some(named)
        } else if holds_annotations(folder) {
            None
        } else if is_cifar(CifarVariant::Cifar10) || is_cifar(CifarVariant::Cifar100) {
            Some(Self::CifarFolder(folder.into()))
        } else if folder.join(CATEGORIES).is_file() {
            Some(Self::Places365Folder(folder.into()))
        } else if ImageNetFolder::find_official(folder).is_some() {
            Some(Self::ImageNetFolder(folder.into()))
        } else {
            ImageFolder::find(folder).map(|_| Self::ImageFolder(folder.into()))
        }
    }

    /// As a person names it.
    pub fn label(&self) -> String {
        match self {
            Self::Cifar10 => "cifar10".into(),
            Self::Cifar100 => "cifar100".into(),
            Self::ImageNet => "imagenet".into(),
            Self::Places365 => "places365".into(),
            Self::Places365Challenge => "places365-challenge".into(),
            Self::CifarFolder(path)
            | Self::ImageNetFolder(path)
            | Self::Places365Folder(path)
            | Self::ImageFolder(path) => path.display().to_string(),
        }
    }

    /// Where its files lie.
    ///
    /// # Errors
    /// A named data set without a data folder.
    pub fn folder(&self, data_dir: Option<&Path>) -> Result<PathBuf, RegistryError> {
        match self {
            Self::Cifar10 | Self::Cifar100 | Self::ImageNet | Self::Places365 => {
                folder_of(&self.label(), data_dir)
            }
            // Its val pictures are those of the standard set: one folder may have both.
            Self::Places365Challenge => {
                let own = folder_of(&self.label(), data_dir)?;
                match own.ends_with(self.label()) {
                    true => Ok(own),
                    false => folder_of("places365", data_dir),
                }
            }
            Self::CifarFolder(path)
            | Self::ImageNetFolder(path)
            | Self::Places365Folder(path)
            | Self::ImageFolder(path) => Ok(path.clone()),
        }
    }

    /// Train and val, which must agree on their classes.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub fn open(
        &self,
        data_dir: Option<&Path>,
    ) -> Result<(LabelledDataset, LabelledDataset), RegistryError> {
        Ok((
            self.open_split(Split::Train, data_dir)?,
            self.open_split(Split::Val, data_dir)?,
        ))
    }

    /// One split.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub fn open_split(
        &self,
        split: Split,
        data_dir: Option<&Path>,
    ) -> Result<LabelledDataset, RegistryError> {
        let folder = self.folder(data_dir)?;
        let opened = match self {
            Self::Cifar10 => open_cifar(&folder, &[CifarVariant::Cifar10], split),
            Self::Cifar100 => open_cifar(&folder, &[CifarVariant::Cifar100], split),
            Self::CifarFolder(_) => {
                let both = [CifarVariant::Cifar10, CifarVariant::Cifar100];
                open_cifar(&folder, &both, split)
            }
            Self::ImageNet | Self::ImageNetFolder(_) => ImageNetFolder::find(&folder)
                .ok_or_else(|| {
                    let problem = "no train and no val folder in it; give the folder that has them";
                    DataError::labels(&folder, problem)
                })
                .and_then(|found| found.open(split)),
            Self::Places365 => open_places365(&folder, PlacesTrain::Standard, split),
            Self::Places365Challenge => open_places365(&folder, PlacesTrain::Challenge, split),
            Self::Places365Folder(_) => {
                open_places365(&folder, PlacesTrain::in_folder(&folder), split)
            }
            Self::ImageFolder(_) => ImageFolder::new(&folder).open(split),
        };
        opened.map_err(|source| RegistryError::Data {
            name: self.label(),
            source,
        })
    }
}

/// The only one of these data sets in a folder.
fn open_cifar(
    folder: &Path,
    variants: &[CifarVariant],
    split: Split,
) -> Result<LabelledDataset, DataError> {
    let found = variants
        .iter()
        .filter_map(|variant| CifarFiles::find(folder, *variant));
    let found: Vec<CifarFiles> = found.collect();
    match found.as_slice() {
        [files] => files.open(split).and_then(CifarImages::into_dataset),
        [] => {
            let problem = "no test batch of the binary or the Python version and no archive of them \
                 (such as cifar-10-python.tar.gz) in it; put one there";
            Err(DataError::labels(folder, problem))
        }
        _ => {
            let problem = "it holds CIFAR-10 and CIFAR-100; give the name cifar10 or cifar100, and the folder \
                 as the data folder";
            Err(DataError::labels(folder, problem))
        }
    }
}
