//! Classification data sets by name or by folder.

use std::path::{Path, PathBuf};

use super::{RegistryError, folder_of};
use crate::data::formats::cifar::CifarImages;
use crate::data::formats::layout::Split;
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
}

impl LabelledName {
    /// A name, or else a folder that holds a classification data set; none for anything else.
    pub fn parse(name: &str) -> Option<Self> {
        let folder = Path::new(name);
        let holds = |file: &str| folder.join(file).is_file();
        match name {
            "cifar10" => Some(Self::Cifar10),
            "cifar100" => Some(Self::Cifar100),
            _ if holds("test_batch.bin") || holds("test.bin") => {
                Some(Self::CifarFolder(folder.into()))
            }
            _ => None,
        }
    }

    /// As a person names it.
    pub fn label(&self) -> String {
        match self {
            Self::Cifar10 => "cifar10".into(),
            Self::Cifar100 => "cifar100".into(),
            Self::CifarFolder(path) => path.display().to_string(),
        }
    }

    /// Where its files lie.
    ///
    /// # Errors
    /// A named data set without a data folder.
    pub fn folder(&self, data_dir: Option<&Path>) -> Result<PathBuf, RegistryError> {
        match self {
            Self::Cifar10 | Self::Cifar100 => folder_of(&self.label(), data_dir),
            Self::CifarFolder(path) => Ok(path.clone()),
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
        let opened = CifarImages::open(&folder, split).and_then(CifarImages::into_dataset);
        opened.map_err(|source| RegistryError::Data {
            name: self.label(),
            source,
        })
    }
}
