//! Weight files of other programs, read tensor by tensor: PyTorch (zip, legacy, tar; the pickle is
//! parsed, never executed), safetensors, NumPy's `.npz`.
//!
//! Opening a file reads names, types and shapes only, so that a file can be inspected, or
//! converted, in little more memory than its largest tensor.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use half::{bf16, f16};
use npyz::{NpyFile, TypeChar};
use pytorch_reader::PytorchReader;
use safetensors::tensor::{Dtype, Metadata};
use zip::ZipArchive;

/// Why a file of weights could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// Missing or unreadable.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// No known format, or damaged.
    #[error("{}: not a whole {format} file: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it looked like.
        format: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A file of no known kind.
    #[error(
        "{}: no known kind of weight file; sedet reads PyTorch's .pt and .pth, safetensors and .npz",
        path.display()
    )]
    Unknown {
        /// The file.
        path: PathBuf,
    },
    /// One tensor.
    #[error("{}: tensor {tensor}: {reason}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// Its name in the file.
        tensor: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// PyTorch 1.6 and later.
    PytorchZip,
    /// PyTorch before 1.6.
    PytorchLegacy,
    /// PyTorch before 0.1.10.
    PytorchTar,
    /// A pickle without storages.
    Pickle,
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
            Self::Pickle => "pickle",
            Self::Safetensors => "safetensors",
            Self::Npz => "npz",
        })
    }
}

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
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
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// Whether weights can be made of it.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::Bf16)
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

/// What is known of a tensor before its values are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Its elements.
    pub element: ElementType,
}

impl TensorInfo {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

enum Source {
    Pytorch(pytorch_reader::Tensor),
    /// Where its bytes lie in the file.
    Bytes(std::ops::Range<u64>),
    /// The name of its entry in the archive.
    Entry(String),
}

/// An open file of weights.
pub struct ForeignFile {
    path: PathBuf,
    container: Container,
    tensors: BTreeMap<String, (TensorInfo, Source)>,
    /// For tensors read from the file itself.
    file: Mutex<File>,
}

impl fmt::Debug for ForeignFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignFile")
            .field("path", &self.path)
            .field("container", &self.container)
            .field("tensors", &self.tensors.len())
            .finish_non_exhaustive()
    }
}

impl ForeignFile {
    /// Find out what a file is and what tensors it has.
    ///
    /// # Errors
    /// Each names the file.
    pub fn open(path: &Path) -> Result<Self, ForeignError> {
        let read_error = |source| ForeignError::Read {
            path: path.to_path_buf(),
            source,
        };
        let mut file = File::open(path).map_err(read_error)?;
        let size = file.metadata().map_err(read_error)?.len();
        let mut start = Vec::new();
        file.by_ref()
            .take(16)
            .read_to_end(&mut start)
            .map_err(read_error)?;
        file.rewind().map_err(read_error)?;
        let (container, tensors) = if start.starts_with(b"PK") && is_npz(&file) {
            (Container::Npz, npz_tensors(path, &file)?)
        } else if is_safetensors(&start, size) {
            (
                Container::Safetensors,
                safetensors_tensors(path, &mut file)?,
            )
        } else if looks_like_pytorch(&start, &mut file).map_err(read_error)? {
            pytorch_tensors(path)?
        } else {
            return Err(ForeignError::Unknown {
                path: path.to_path_buf(),
            });
        };
        Ok(Self {
            path: path.to_path_buf(),
            container,
            tensors,
            file: Mutex::new(file),
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its kind.
    pub fn container(&self) -> Container {
        self.container
    }

    /// Its tensors by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.tensors
            .iter()
            .map(|(name, (info, _))| (name.as_str(), info))
    }

    /// One of its tensors.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name).map(|(info, _)| info)
    }

    /// The values of a tensor as 32-bit floats, row by row.
    ///
    /// # Errors
    /// A name that the file does not have; bytes that are missing or damaged.
    pub fn values(&self, name: &str) -> Result<Vec<f32>, ForeignError> {
        let bad = |reason: String| ForeignError::Tensor {
            path: self.path.clone(),
            tensor: name.to_string(),
            reason,
        };
        let (info, source) = self
            .tensors
            .get(name)
            .ok_or_else(|| bad("not in the file".into()))?;
        let io = |e: std::io::Error| bad(e.to_string());
        // A panic while seeking leaves nothing half-changed: every read seeks first.
        let file = || self.file.lock().unwrap_or_else(PoisonError::into_inner);
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
            Source::Bytes(range) => {
                let mut file = file();
                file.seek(SeekFrom::Start(range.start)).map_err(io)?;
                let mut bytes = vec![0; (range.end - range.start) as usize];
                file.read_exact(&mut bytes).map_err(io)?;
                info.element.decode(&bytes)
            }
            Source::Entry(entry) => {
                let mut file = file();
                file.rewind().map_err(io)?;
                let mut archive =
                    ZipArchive::new(BufReader::new(&mut *file)).map_err(|e| bad(e.to_string()))?;
                let entry = archive.by_name(entry).map_err(|e| bad(e.to_string()))?;
                npy_values(entry, info).map_err(bad)?
            }
        };
        match values.len() == info.len() {
            true => Ok(values),
            false => Err(bad(format!(
                "{} values where its shape {:?} has {}",
                values.len(),
                info.shape,
                info.len()
            ))),
        }
    }
}

type Tensors = BTreeMap<String, (TensorInfo, Source)>;

/// The format's own limit for its header.
const MAX_SAFETENSORS_HEADER: u64 = 100_000_000;

fn is_safetensors(start: &[u8], size: u64) -> bool {
    let Some(length) = start.first_chunk::<8>() else {
        return false;
    };
    let header = u64::from_le_bytes(*length);
    // A header that goes beyond the end is a cut file, and said so by the reader.
    start.get(8) == Some(&b'{') && header <= MAX_SAFETENSORS_HEADER && size >= 8
}

fn safetensors_tensors(path: &Path, file: &mut File) -> Result<Tensors, ForeignError> {
    let bad = |reason: String| ForeignError::Format {
        path: path.to_path_buf(),
        format: "safetensors",
        reason,
    };
    let size = file.metadata().map_err(|e| bad(e.to_string()))?.len();
    let mut length = [0; 8];
    file.read_exact(&mut length)
        .map_err(|e| bad(e.to_string()))?;
    let header_size = u64::from_le_bytes(length);
    if header_size > size.saturating_sub(8) {
        return Err(bad("it is cut off inside its header".into()));
    }
    let mut bytes = Vec::new();
    file.by_ref()
        .take(header_size)
        .read_to_end(&mut bytes)
        .map_err(|e| bad(e.to_string()))?;
    // The library's own reader wants the whole file in memory; its header type checks that the
    // tensors follow one another without holes.
    let header: Metadata = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
    let data_start = 8 + header_size;
    let mut tensors = Tensors::new();
    for (name, entry) in header.tensors() {
        let tensor_error = |reason: String| ForeignError::Tensor {
            path: path.to_path_buf(),
            tensor: name.clone(),
            reason,
        };
        let element = match entry.dtype {
            Dtype::F64 => ElementType::F64,
            Dtype::F32 => ElementType::F32,
            Dtype::F16 => ElementType::F16,
            Dtype::BF16 => ElementType::Bf16,
            Dtype::I64 => ElementType::I64,
            Dtype::I32 => ElementType::I32,
            Dtype::I16 => ElementType::I16,
            Dtype::I8 => ElementType::I8,
            Dtype::U64 => ElementType::U64,
            Dtype::U32 => ElementType::U32,
            Dtype::U16 => ElementType::U16,
            Dtype::U8 => ElementType::U8,
            Dtype::BOOL => ElementType::Bool,
            other => return Err(tensor_error(format!("elements of type {other:?}"))),
        };
        let range =
            data_start + entry.data_offsets.0 as u64..data_start + entry.data_offsets.1 as u64;
        if range.end > size {
            return Err(tensor_error("the file ends before its last value".into()));
        }
        let info = TensorInfo {
            shape: entry.shape.clone(),
            element,
        };
        tensors.insert(name.clone(), (info, Source::Bytes(range)));
    }
    Ok(tensors)
}

/// A zip archive of which every entry is a NumPy array.
fn is_npz(file: &File) -> bool {
    ZipArchive::new(BufReader::new(file)).is_ok_and(|archive| {
        !archive.is_empty()
            && archive
                .file_names()
                .all(|name| name.is_ok_and(|n| n.ends_with(".npy")))
    })
}

fn npz_tensors(path: &Path, file: &File) -> Result<Tensors, ForeignError> {
    let bad = |reason: String| ForeignError::Format {
        path: path.to_path_buf(),
        format: "npz",
        reason,
    };
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|e| bad(e.to_string()))?;
    let mut tensors = Tensors::new();
    for index in 0..archive.len() {
        let entry = archive.by_index(index).map_err(|e| bad(e.to_string()))?;
        let entry_name = entry.name().map_err(|e| bad(e.to_string()))?.into_owned();
        let name = entry_name.trim_end_matches(".npy").to_string();
        let tensor_error = |reason: String| ForeignError::Tensor {
            path: path.to_path_buf(),
            tensor: name.clone(),
            reason,
        };
        let header =
            npyz::NpyHeader::from_reader(entry).map_err(|e| tensor_error(e.to_string()))?;
        let element = npy_element(&header.dtype())
            .ok_or_else(|| tensor_error(format!("elements of type {}", header.dtype().descr())))?;
        let info = TensorInfo {
            shape: header.shape().iter().map(|&n| n as usize).collect(),
            element,
        };
        tensors.insert(name, (info, Source::Entry(entry_name)));
    }
    Ok(tensors)
}

fn npy_element(dtype: &npyz::DType) -> Option<ElementType> {
    let npyz::DType::Plain(plain) = dtype else {
        return None;
    };
    Some(match (plain.type_char(), plain.size_field()) {
        (TypeChar::Float, 8) => ElementType::F64,
        (TypeChar::Float, 4) => ElementType::F32,
        (TypeChar::Float, 2) => ElementType::F16,
        (TypeChar::Int, 8) => ElementType::I64,
        (TypeChar::Int, 4) => ElementType::I32,
        (TypeChar::Int, 2) => ElementType::I16,
        (TypeChar::Int, 1) => ElementType::I8,
        (TypeChar::Uint, 8) => ElementType::U64,
        (TypeChar::Uint, 4) => ElementType::U32,
        (TypeChar::Uint, 2) => ElementType::U16,
        (TypeChar::Uint, 1) => ElementType::U8,
        (TypeChar::Bool, 1) => ElementType::Bool,
        _ => return None,
    })
}

fn npy_values(entry: impl Read, info: &TensorInfo) -> Result<Vec<f32>, String> {
    let npy = NpyFile::new(entry).map_err(|e| e.to_string())?;
    if npy.order() == npyz::Order::Fortran && info.shape.len() > 1 {
        return Err("its values are in Fortran order; save it with numpy.ascontiguousarray".into());
    }
    fn all<T: npyz::Deserialize, R: Read>(
        npy: NpyFile<R>,
        convert: impl Fn(T) -> f32,
    ) -> Result<Vec<f32>, String> {
        npy.data::<T>()
            .map_err(|e| e.to_string())?
            .map(|value| value.map(&convert).map_err(|e| e.to_string()))
            .collect()
    }
    match info.element {
        ElementType::F64 => all(npy, |v: f64| v as f32),
        ElementType::F32 => all(npy, |v: f32| v),
        ElementType::F16 => all(npy, f16::to_f32),
        ElementType::I64 => all(npy, |v: i64| v as f32),
        ElementType::I32 => all(npy, |v: i32| v as f32),
        ElementType::I16 => all(npy, |v: i16| f32::from(v)),
        ElementType::I8 => all(npy, |v: i8| f32::from(v)),
        ElementType::U64 => all(npy, |v: u64| v as f32),
        ElementType::U32 => all(npy, |v: u32| v as f32),
        ElementType::U16 => all(npy, |v: u16| f32::from(v)),
        ElementType::U8 => all(npy, |v: u8| f32::from(v)),
        ElementType::Bool => all(npy, |v: bool| f32::from(u8::from(v))),
        ElementType::Bf16 => Err("NumPy has no such type".into()),
    }
}

/// Zip, pickle, or a tar archive with PyTorch's first entry.
fn looks_like_pytorch(start: &[u8], file: &mut File) -> std::io::Result<bool> {
    let is_pickle = matches!(start, [0x80, 2..=5, ..]);
    let mut magic = Vec::new();
    file.seek(SeekFrom::Start(257))?;
    file.by_ref().take(5).read_to_end(&mut magic)?;
    file.rewind()?;
    Ok(start.starts_with(b"PK") || is_pickle || magic == b"ustar")
}

fn pytorch_tensors(path: &Path) -> Result<(Container, Tensors), ForeignError> {
    let reader = PytorchReader::new(path).map_err(|e| ForeignError::Format {
        path: path.to_path_buf(),
        format: "PyTorch",
        reason: e.to_string(),
    })?;
    let container = match reader.metadata().format_type {
        pytorch_reader::FileFormat::Zip => Container::PytorchZip,
        pytorch_reader::FileFormat::Legacy => Container::PytorchLegacy,
        pytorch_reader::FileFormat::Tar => Container::PytorchTar,
        pytorch_reader::FileFormat::Pickle => Container::Pickle,
    };
    let tensors = reader
        .into_tensors()
        .into_iter()
        .map(|(name, tensor)| {
            let info = TensorInfo {
                shape: tensor.shape().to_vec(),
                element: match tensor.dtype() {
                    pytorch_reader::DType::F64 => ElementType::F64,
                    pytorch_reader::DType::F32 => ElementType::F32,
                    pytorch_reader::DType::F16 => ElementType::F16,
                    pytorch_reader::DType::BF16 => ElementType::Bf16,
                    pytorch_reader::DType::I64 => ElementType::I64,
                    pytorch_reader::DType::I32 => ElementType::I32,
                    pytorch_reader::DType::I16 => ElementType::I16,
                    pytorch_reader::DType::I8 => ElementType::I8,
                    pytorch_reader::DType::U64 => ElementType::U64,
                    pytorch_reader::DType::U32 => ElementType::U32,
                    pytorch_reader::DType::U16 => ElementType::U16,
                    pytorch_reader::DType::U8 => ElementType::U8,
                    pytorch_reader::DType::Bool => ElementType::Bool,
                },
            };
            (name, (info, Source::Pytorch(tensor)))
        })
        .collect();
    Ok((container, tensors))
}
