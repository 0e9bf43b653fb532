//! Weight files of other libraries, read tensor by tensor: PyTorch (zip, legacy, tar), safetensors (also in
//! several files with an index), NumPy's `.npz` and pickles of arrays. A pickle is parsed, never executed.
//!
//! Opening a file reads names, types and shapes only. Inspecting or converting a file requires
//! little more memory than its largest tensor.

mod npz;
mod numpy_pickle;
mod other;
mod pytorch;
mod safetensors;
pub(super) mod shards;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use half::{bf16, f16};
use zip::ZipArchive;

use sedet_data::pickle::PickledArray;

pub use other::OtherContent;

/// An error in reading a third-party weights file.
#[derive(Debug, thiserror::Error)]
pub enum ThirdPartyError {
    /// Missing or unreadable.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system error.
        source: std::io::Error,
    },
    /// The file is damaged.
    #[error("{}: not a complete {format} file: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The detected format.
        format: &'static str,
        /// The reason.
        reason: String,
    },
    /// The file format is unknown.
    #[error(
        "{}: unknown weights file format; sedet reads PyTorch's .pt and .pth, safetensors, .npz and \
         pickles of NumPy arrays",
        path.display()
    )]
    Unknown {
        /// The file.
        path: PathBuf,
    },
    /// Something else than weights.
    #[error("{}: {content}", path.display())]
    OtherContent {
        /// The file.
        path: PathBuf,
        /// The kind of the file.
        content: OtherContent,
    },
    /// A pickled model in the format of PyTorch before 1.6: its classes are needed to read it.
    #[error(
        "{}: a pickled model (class {class}) in the format of PyTorch before 1.6, not a state dict",
        path.display()
    )]
    PickledModel {
        /// The file.
        path: PathBuf,
        /// The class of the model.
        class: String,
    },
    /// A program, not weights.
    #[error("{}: a program ({kind}), not a state dict", path.display())]
    Program {
        /// The file.
        path: PathBuf,
        /// The program that wrote it: TorchScript or torch.export.
        kind: &'static str,
    },
    /// A tensor cannot be read.
    #[error("{}: tensor {tensor}: {reason}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// Its name in the file.
        tensor: String,
        /// The reason.
        reason: String,
    },
}

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// PyTorch 1.6 and later.
    PytorchZip,
    /// PyTorch before 1.6.
    PytorchLegacy,
    /// PyTorch before 0.1.10.
    PytorchTar,
    /// A pickle of NumPy arrays.
    NumpyPickle,
    /// The safetensors format.
    Safetensors,
    /// A zip archive of NumPy arrays.
    Npz,
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PytorchZip => "PyTorch zip",
            Self::PytorchLegacy => "PyTorch legacy",
            Self::PytorchTar => "PyTorch tar",
            Self::NumpyPickle => "pickle of NumPy arrays",
            Self::Safetensors => "safetensors",
            Self::Npz => "npz",
        })
    }
}

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names are sufficient
pub enum ElementType {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
}

impl ElementType {
    /// Returns the size of one element in bytes.
    pub const fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    fn decode(self, bytes: &[u8]) -> Vec<f32> {
        macro_rules! each {
            ($t:ty, $convert:expr) => {
                bytes
                    .as_chunks::<{ size_of::<$t>() }>()
                    .0
                    .iter()
                    .map(|b| $convert(<$t>::from_le_bytes(*b)))
                    .collect()
            };
        }
        match self {
            Self::F64 => each!(f64, |v| v as f32),
            Self::F32 => each!(f32, |v| v),
            Self::F16 => each!(f16, f16::to_f32),
            Self::Bf16 => each!(bf16, bf16::to_f32),
            Self::I64 => each!(i64, |v| v as f32),
            Self::I32 => each!(i32, |v| v as f32),
            Self::I16 => each!(i16, f32::from),
            Self::I8 => each!(i8, f32::from),
            Self::U64 => each!(u64, |v| v as f32),
            Self::U32 => each!(u32, |v| v as f32),
            Self::U16 => each!(u16, f32::from),
            Self::U8 | Self::Bool => each!(u8, f32::from),
        }
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::I64 => "i64",
            Self::I32 => "i32",
            Self::I16 => "i16",
            Self::I8 => "i8",
            Self::U64 => "u64",
            Self::U32 => "u32",
            Self::U16 => "u16",
            Self::U8 => "u8",
            Self::Bool => "bool",
        })
    }
}

/// The description of a tensor, known before its values are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Sizes of the dimensions, outermost first.
    pub shape: Vec<usize>,
    /// The type of its elements.
    pub element: ElementType,
}

impl TensorInfo {
    /// Returns the number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Returns whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

enum Source {
    Pytorch(pytorch_reader::Tensor),
    /// The number of the file, and the byte range in it.
    Bytes(usize, std::ops::Range<u64>),
    /// The name of its entry in the archive.
    Entry(String),
    Pickled(PickledArray),
}

/// An open weights file.
pub struct ThirdPartyFile {
    path: PathBuf,
    container: Container,
    tensors: BTreeMap<String, (TensorInfo, Source)>,
    /// The readers for tensors; several for safetensors with an index.
    files: Vec<Mutex<File>>,
}

impl fmt::Debug for ThirdPartyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThirdPartyFile")
            .field("path", &self.path)
            .field("container", &self.container)
            .field("tensors", &self.tensors.len())
            .finish_non_exhaustive()
    }
}

impl ThirdPartyFile {
    /// Opens a file: detects its format and reads the descriptions of its tensors. The index of safetensors in
    /// several files, or one of these files beside its index, denotes all of them.
    ///
    /// # Errors
    /// See [`ThirdPartyError`]; every message names the file.
    pub fn open(path: &Path) -> Result<Self, ThirdPartyError> {
        if let Some(index) = shards::index_of(path) {
            let (files, tensors) = shards::open(&index)?;
            return Ok(Self {
                path: index,
                container: Container::Safetensors,
                tensors,
                files: files.into_iter().map(Mutex::new).collect(),
            });
        }
        let read_error = |source| ThirdPartyError::Read {
            path: path.to_path_buf(),
            source,
        };
        let mut file = File::open(path).map_err(read_error)?;
        let size = file.metadata().map_err(read_error)?.len();
        let mut start = Vec::new();
        file.by_ref()
            .take(other::START_BYTES)
            .read_to_end(&mut start)
            .map_err(read_error)?;
        file.rewind().map_err(read_error)?;
        let (container, tensors) = if start.starts_with(b"PK") && npz::is_npz(&file) {
            (Container::Npz, npz::tensors(path, &file)?)
        } else if safetensors::is_safetensors(&start, size) {
            let tensors = safetensors::tensors(path, &mut file, 0)?;
            (Container::Safetensors, tensors)
        } else if pytorch::is_pytorch(&start, &mut file).map_err(read_error)? {
            pytorch::tensors(path)?
        } else if matches!(start.as_slice(), [0x80, 2..=5, ..]) {
            let tensors = numpy_pickle::tensors(path, &mut file)?;
            (Container::NumpyPickle, tensors)
        } else {
            let path = path.to_path_buf();
            return Err(match OtherContent::of(&path, &start) {
                Some(content) => ThirdPartyError::OtherContent { path, content },
                None => ThirdPartyError::Unknown { path },
            });
        };
        Ok(Self {
            path: path.to_path_buf(),
            container,
            tensors,
            files: vec![Mutex::new(file)],
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the format.
    pub fn container(&self) -> Container {
        self.container
    }

    /// Returns the tensors by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.tensors
            .iter()
            .map(|(name, (info, _))| (name.as_str(), info))
    }

    /// Returns a tensor by name.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name).map(|(info, _)| info)
    }

    /// Returns the strings in a dictionary that a PyTorch file contains beside the weights, in no
    /// defined order; empty for other formats.
    pub fn strings(&self, dictionary: &str) -> Vec<String> {
        match self.container {
            Container::PytorchZip | Container::PytorchLegacy => {
                pytorch::strings(&self.path, dictionary)
            }
            _ => Vec::new(),
        }
    }

    /// Returns a string that a PyTorch file contains beside the weights; `None` for other formats.
    pub fn text(&self, key: &str) -> Option<String> {
        match self.container {
            Container::PytorchZip | Container::PytorchLegacy => pytorch::text(&self.path, key),
            _ => None,
        }
    }

    /// Returns the values of a tensor as 32-bit floats, in row-major order.
    ///
    /// # Errors
    /// The file has no tensor of that name, or its bytes are missing or damaged.
    pub fn values(&self, name: &str) -> Result<Vec<f32>, ThirdPartyError> {
        let bad = |reason: String| ThirdPartyError::Tensor {
            path: self.path.clone(),
            tensor: name.to_string(),
            reason,
        };
        let (info, source) = self
            .tensors
            .get(name)
            .ok_or_else(|| bad("not in the file".into()))?;
        let io = |e: std::io::Error| bad(e.to_string());
        // A panic while seeking leaves no inconsistent state: every read seeks first.
        let file = |number: usize| {
            self.files[number]
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        let values = match source {
            Source::Pytorch(tensor) => {
                let mut bytes = tensor.read().map_err(io)?;
                if cfg!(target_endian = "big") {
                    for value in bytes.chunks_exact_mut(info.element.size()) {
                        value.reverse();
                    }
                }
                info.element.decode(&bytes)
            }
            Source::Bytes(number, range) => {
                let mut file = file(*number);
                file.seek(SeekFrom::Start(range.start)).map_err(io)?;
                let mut bytes = vec![0; (range.end - range.start) as usize];
                file.read_exact(&mut bytes).map_err(io)?;
                info.element.decode(&bytes)
            }
            Source::Entry(entry) => {
                let mut file = file(0);
                file.rewind().map_err(io)?;
                let mut archive =
                    ZipArchive::new(BufReader::new(&mut *file)).map_err(|e| bad(e.to_string()))?;
                let entry = archive.by_name(entry).map_err(|e| bad(e.to_string()))?;
                npz::values(entry, info).map_err(bad)?
            }
            Source::Pickled(array) => {
                numpy_pickle::values(array, &mut file(0), info).map_err(bad)?
            }
        };
        if values.len() == info.len() {
            Ok(values)
        } else {
            Err(bad(format!(
                "{} values; its shape {:?} has {}",
                values.len(),
                info.shape,
                info.len()
            )))
        }
    }
}

type Tensors = BTreeMap<String, (TensorInfo, Source)>;

/// Returns column-major values (Fortran order) in row-major order.
fn row_by_row(values: Vec<f32>, shape: &[usize]) -> Vec<f32> {
    let mut steps = Vec::with_capacity(shape.len());
    let mut step = 1;
    for size in shape {
        steps.push(step);
        step *= size;
    }
    if step != values.len() {
        return values;
    }
    let mut index = vec![0; shape.len()];
    (0..values.len())
        .map(|_| {
            let at: usize = index.iter().zip(&steps).map(|(i, step)| i * step).sum();
            for (i, size) in index.iter_mut().zip(shape).rev() {
                *i += 1;
                if *i < *size {
                    break;
                }
                *i = 0;
            }
            values[at]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::row_by_row;

    #[test]
    fn values_column_by_column_are_brought_into_rows() {
        // [[0, 1, 2], [3, 4, 5]]
        let columns = vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0];
        let rows = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        assert_eq!(row_by_row(columns, &[2, 3]), rows);
        assert_eq!(row_by_row(vec![7.0], &[]), [7.0]);
    }
}
