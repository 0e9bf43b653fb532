//! Checkpoints: safetensors files with one JSON document in the header.
//!
//! A file is self-contained. Weights have the names of
//! [`named_tensors`](super::parameters::named_tensors); a checkpoint from which a run can resume
//! also contains `optimizer/...` and `ema/...`. Both are in one file, so that a crash cannot leave
//! weights and optimizer state of different steps. A checksum of every part detects later damage.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use half::f16;
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, Metadata, View};
use serde_json::Value;

use super::parameters::NamedTensors;
use super::progress::TrainingProgress;
use crate::spec::{ModelSpec, SpecError};
use sedet_data::atomic::replace_atomically;

/// The header entry that contains the JSON document.
pub(super) const METADATA_KEY: &str = "sedet";

/// The start of the JSON document: the checksums of the rest of the document (as text) and of every
/// tensor. Older files have no checksums and are read without verification. The checksums are no
/// separate header entry, because the order of header entries is random and a file must be a
/// function of its contents.
const CHECKSUMS: &str = "{\"crc32c\":";

/// The CRC-32C checksums of all parts of a file.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Checksums {
    description: u32,
    tensors: BTreeMap<String, u32>,
}

impl Checksums {
    /// Returns the description with the checksums prepended.
    fn before(mut self, description: &Value) -> String {
        let text = description.to_string();
        let Some(rest) = text.strip_prefix('{') else {
            return text;
        };
        self.description = crc32c::crc32c(text.as_bytes());
        let comma = if rest == "}" { "" } else { "," };
        format!("{CHECKSUMS}{}{comma}{rest}", serde_json::json!(self))
    }

    /// Splits a JSON document into the description and the checksums, if there are any.
    fn split(text: &str) -> Result<(Cow<'_, str>, Option<Self>), Fault> {
        let Some(found) = text.strip_prefix(CHECKSUMS) else {
            return Ok((text.into(), None));
        };
        let mut reader = serde_json::Deserializer::from_str(found).into_iter::<Self>();
        let Some(Ok(checksums)) = reader.next() else {
            return Err(Fault::Damaged("its list of checksums".to_string()));
        };
        let rest = &found[reader.byte_offset()..];
        let description = format!("{{{}", rest.strip_prefix(',').unwrap_or(rest));
        if checksums.description == crc32c::crc32c(description.as_bytes()) {
            Ok((description.into(), Some(checksums)))
        } else {
            Err(Fault::Damaged("its description".to_string()))
        }
    }
}

/// An error in writing or reading a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Disk full, no permission, no directory.
    #[error(
        "{}: checkpoint not written: {source}{}", path.display(),
        if *has_previous { "; the previous one is intact" } else { "" }
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// Whether an earlier file of this name is left.
        has_previous: bool,
        /// The system error.
        source: std::io::Error,
    },
    /// Missing or unreadable.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system error.
        source: std::io::Error,
    },
    /// Not a safetensors file, truncated, or written by another program.
    #[error("{}: not a sedet checkpoint: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// Changed after it was saved.
    #[error(
        "{}: {part} is damaged (its checksum differs): the file changed after it was saved",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The damaged part.
        part: String,
    },
    /// The model description of the checkpoint is invalid.
    #[error("{}: {source}", path.display())]
    Spec {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: SpecError,
    },
}

impl CheckpointError {
    pub(super) fn not_written(path: &Path, source: std::io::Error) -> Self {
        Self::Write {
            path: path.to_path_buf(),
            has_previous: path.is_file(),
            source,
        }
    }
}

/// A fault of a file whose name is not known here.
enum Fault {
    /// The reason why it is no checkpoint.
    Format(String),
    /// The part whose checksum differs.
    Damaged(String),
}

impl Fault {
    fn of(self, path: &Path) -> CheckpointError {
        let path = path.to_path_buf();
        match self {
            Self::Format(reason) => CheckpointError::Format { path, reason },
            Self::Damaged(part) => CheckpointError::Damaged { path, part },
        }
    }
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Self::Format(reason)
    }
}

/// Returns the checksum of a tensor's bytes, type and shape.
fn checksum(dtype: Dtype, shape: &[usize], bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(
        crc32c::crc32c(format!("{dtype:?} {shape:?}").as_bytes()),
        bytes,
    )
}

/// The precision of stored weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// Unchanged.
    #[default]
    Full,
    /// Half precision: half the size, weights rounded to 11 bits. Tensors with values above 65504,
    /// the largest value of half precision, are stored unchanged.
    Half,
}

/// The contents of a checkpoint file.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// The description of the model.
    pub spec: ModelSpec,
    /// State of the training loop; none in a checkpoint for inference.
    pub progress: Option<TrainingProgress>,
    /// The weights.
    pub weights: NamedTensors,
    /// State of the optimizer; empty in a checkpoint for inference.
    pub optimizer: NamedTensors,
    /// EMA weights; empty without EMA.
    pub ema: NamedTensors,
}

const OPTIMIZER: &str = "optimizer/";
const EMA: &str = "ema/";
/// The key of the training loop's state in the description.
const PROGRESS: &str = "progress";

/// A tensor to be written. Its bytes are created when they are written, so that only one tensor at
/// a time is in memory twice.
struct Stored<'a> {
    data: &'a TensorData,
    dtype: Dtype,
}

impl<'a> Stored<'a> {
    fn new(data: &'a TensorData, precision: Precision) -> Self {
        let fits = |v: f32| !v.is_finite() || v.abs() <= f16::MAX.to_f32();
        let dtype = match precision {
            Precision::Half if data.iter::<f32>().all(fits) => Dtype::F16,
            _ => Dtype::F32,
        };
        Self { data, dtype }
    }
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        self.data.shape()
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(bytes_of(self.data.iter::<f32>(), self.dtype))
    }
    fn data_len(&self) -> usize {
        self.data.num_elements() * self.dtype.bitsize() / 8
    }
}

/// Returns the bytes of values in a safetensors file, which has 16 or 32 bits for each.
pub(super) fn bytes_of(values: impl Iterator<Item = f32>, dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::F16 => values
            .flat_map(|value| f16::from_f32(value).to_le_bytes())
            .collect(),
        _ => values.flat_map(f32::to_le_bytes).collect(),
    }
}

/// Writes a safetensors file tensor by tensor. The write is atomic.
///
/// # Errors
/// The system error, with the path.
pub(super) fn write_safetensors<V: View>(
    path: &Path,
    tensors: impl IntoIterator<Item = (String, V)>,
    header: Option<HashMap<String, String>>,
) -> Result<(), CheckpointError> {
    replace_atomically(path, |unfinished| {
        safetensors::serialize_to_file(tensors, header, unfinished).map_err(|error| match error {
            SafeTensorError::IoError(source) => source,
            other => std::io::Error::other(other),
        })
    })
    .map_err(|source| CheckpointError::not_written(path, source))
}

/// Takes the progress out of a description. The state of another version is no obstacle to inference; a run is not
/// resumed without it.
fn progress_of(description: &mut Value) -> Option<TrainingProgress> {
    let progress = description.get_mut(PROGRESS)?;
    serde_json::from_value(progress.take()).ok()
}

impl Checkpoint {
    /// Writes the file atomically.
    ///
    /// # Errors
    /// The system error, with the path; an existing file of that name is unchanged.
    pub fn save(&self, path: &Path, precision: Precision) -> Result<(), CheckpointError> {
        let parts = [
            ("", &self.weights),
            (OPTIMIZER, &self.optimizer),
            (EMA, &self.ema),
        ];
        let tensors: Vec<(String, Stored<'_>)> = parts
            .into_iter()
            .flat_map(|(prefix, tensors)| {
                tensors.iter().map(move |(name, data)| {
                    (format!("{prefix}{name}"), Stored::new(data, precision))
                })
            })
            .collect();
        let sums = tensors.iter().map(|(name, stored)| {
            let sum = checksum(stored.dtype(), stored.shape(), &stored.data());
            (name.clone(), sum)
        });
        let checksums = Checksums {
            description: 0,
            tensors: sums.collect(),
        };
        let mut description = self
            .spec
            .to_header()
            .map_err(|source| CheckpointError::not_written(path, source.into()))?;
        if let Some(progress) = &self.progress {
            description[PROGRESS] = serde_json::to_value(progress)
                .map_err(|source| CheckpointError::not_written(path, source.into()))?;
        }
        let json = checksums.before(&description);
        let header = HashMap::from([(METADATA_KEY.to_string(), json)]);
        write_safetensors(path, tensors, Some(header))
    }

    /// Returns whether a file is a sedet checkpoint, possibly damaged: a safetensors file with
    /// sedet's entry in its header, or with a truncated header.
    ///
    /// # Errors
    /// The file is missing or unreadable.
    pub fn is_native(path: &Path) -> Result<bool, CheckpointError> {
        let header = (|| {
            let mut file = File::open(path)?;
            let size = file.metadata()?.len();
            let mut start = Vec::new();
            file.by_ref().take(9).read_to_end(&mut start)?;
            let length = match start.as_slice() {
                [a, b, c, d, e, f, g, h, b'{'] => {
                    u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h])
                }
                _ => return Ok(None),
            };
            if length > MAX_HEADER_BYTES {
                return Ok(None);
            }
            if length > size - 8 {
                return Ok(Some(Vec::new()));
            }
            let mut header = vec![b'{'];
            file.take(length - 1).read_to_end(&mut header)?;
            Ok(Some(header))
        })();
        let header = header.map_err(|source| CheckpointError::Read {
            path: path.to_path_buf(),
            source,
        })?;
        Ok(header.is_some_and(|header| {
            serde_json::from_slice::<safetensors::tensor::Metadata>(&header).map_or(
                header.is_empty(),
                |parsed| {
                    parsed
                        .metadata()
                        .as_ref()
                        .is_some_and(|entries| entries.contains_key(METADATA_KEY))
                },
            )
        }))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// The message names the file, and the tensor if one is the cause.
    pub fn load(path: &Path) -> Result<Self, CheckpointError> {
        let read_error = |source| CheckpointError::Read {
            path: path.to_path_buf(),
            source,
        };
        let mut file = File::open(path).map_err(read_error)?;
        let size = file.metadata().map_err(read_error)?.len();
        Self::read(&mut file, size, path)
    }

    /// Checks the length of a file and the description in its header, without reading its tensors.
    ///
    /// # Errors
    /// The file is no checkpoint, or not all of one. The message names it.
    pub fn check(path: &Path) -> Result<(), CheckpointError> {
        match ModelSpec::from_header(&Self::description_in(path)?) {
            Ok(_) => Ok(()),
            Err(source) => Err(CheckpointError::Spec {
                path: path.to_path_buf(),
                source,
            }),
        }
    }

    /// Reads the progress of the training from the header of a file, without its tensors; none if the file has none, or
    /// that of another version.
    ///
    /// # Errors
    /// The file is no checkpoint, or not all of one. The message names it.
    pub(crate) fn progress_in(path: &Path) -> Result<Option<TrainingProgress>, CheckpointError> {
        let mut description = Self::description_in(path)?;
        Ok(progress_of(&mut description))
    }

    /// Reads the description in the header of a file, and checks its length.
    fn description_in(path: &Path) -> Result<Value, CheckpointError> {
        let bad = |fault: Fault| fault.of(path);
        let read = || {
            let mut file = File::open(path)?;
            let size = file.metadata()?.len();
            read_header(&mut file, size)
        };
        let header = read().map_err(|source| CheckpointError::Read {
            path: path.to_path_buf(),
            source,
        })?;
        let header = header.map_err(|reason| bad(reason.into()))?;
        let (description, _) = description(&header).map_err(bad)?;
        Ok(description)
    }

    /// Reads a checkpoint from bytes, such as one that is embedded in the program. `name` is used
    /// in messages.
    ///
    /// # Errors
    /// See [`load`](Self::load).
    pub fn from_bytes(mut bytes: &[u8], name: &str) -> Result<Self, CheckpointError> {
        let size = bytes.len() as u64;
        Self::read(&mut bytes, size, Path::new(name))
    }

    fn read(
        file: &mut impl std::io::Read,
        size: u64,
        path: &Path,
    ) -> Result<Self, CheckpointError> {
        let bad = |fault: Fault| fault.of(path);
        let read_error = |source| CheckpointError::Read {
            path: path.to_path_buf(),
            source,
        };
        let header = read_header(file, size).map_err(read_error)?;
        let header = header.map_err(|reason| bad(reason.into()))?;
        let (mut description, checksums) = description(&header).map_err(bad)?;
        let mut checksums = checksums.map(|c| c.tensors);
        let spec =
            ModelSpec::from_header(&description).map_err(|source| CheckpointError::Spec {
                path: path.to_path_buf(),
                source,
            })?;
        let progress = progress_of(&mut description);
        let mut out = Self {
            spec,
            progress,
            weights: BTreeMap::new(),
            optimizer: BTreeMap::new(),
            ema: BTreeMap::new(),
        };
        // One tensor after the other, in file order: bytes and values are never both fully in
        // memory.
        for name in header.offset_keys() {
            let Some(info) = header.info(&name) else {
                continue;
            };
            let mut bytes = vec![0; info.data_offsets.1 - info.data_offsets.0];
            file.read_exact(&mut bytes).map_err(read_error)?;
            // Each checksum is removed; those of missing tensors remain.
            let sum = checksum(info.dtype, &info.shape, &bytes);
            if checksums
                .as_mut()
                .is_some_and(|sums| sums.remove(&name) != Some(sum))
            {
                return Err(bad(Fault::Damaged(format!("tensor {name}"))));
            }
            let values: Vec<f32> = match info.dtype {
                Dtype::F32 => bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|b| f32::from_le_bytes(*b))
                    .collect(),
                Dtype::F16 => bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|b| f16::from_le_bytes(*b).to_f32())
                    .collect(),
                other => {
                    let reason = format!("tensor {name} is {other}, not a float");
                    return Err(bad(reason.into()));
                }
            };
            let data = TensorData::new(values, info.shape.clone());
            let (map, name) = if let Some(name) = name.strip_prefix(OPTIMIZER) {
                (&mut out.optimizer, name)
            } else if let Some(name) = name.strip_prefix(EMA) {
                (&mut out.ema, name)
            } else {
                (&mut out.weights, name.as_str())
            };
            map.insert(name.to_string(), data);
        }
        if let Some(name) = checksums.iter().flat_map(BTreeMap::keys).next() {
            return Err(bad(Fault::Damaged(format!("tensor {name}"))));
        }
        Ok(out)
    }
}

/// Returns the JSON document in the header of a checkpoint, and the checksums, if there are any; or the reason why
/// there is no document.
fn description(header: &Metadata) -> Result<(Value, Option<Checksums>), Fault> {
    let json = header
        .metadata()
        .as_ref()
        .and_then(|entries| entries.get(METADATA_KEY))
        .ok_or_else(|| Fault::Format("its header has no 'sedet' entry".to_string()))?;
    let (json, checksums) = Checksums::split(json)?;
    let description =
        serde_json::from_str(&json).map_err(|e| format!("its metadata is not JSON ({e})"))?;
    Ok((description, checksums))
}

/// Returns the header of a safetensors file whose size matches its header, or the reason why the
/// file is invalid. The reader is then at the first tensor.
fn read_header(
    file: &mut impl std::io::Read,
    size: u64,
) -> std::io::Result<Result<Metadata, String>> {
    let mut start = Vec::new();
    file.by_ref().take(8).read_to_end(&mut start)?;
    if start.starts_with(b"PK") {
        return Ok(Err(
            "it is a zip archive, as PyTorch's .pth files are; sedet reads .safetensors".into(),
        ));
    }
    let Ok(length) = <[u8; 8]>::try_from(start.as_slice()) else {
        return Ok(Err(format!("it has only {size} bytes")));
    };
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES {
        return Ok(Err("not a safetensors file".into()));
    }
    if length + 8 > size {
        return Ok(Err("the header is truncated".into()));
    }
    let mut bytes = Vec::new();
    file.by_ref().take(length).read_to_end(&mut bytes)?;
    let header: Metadata = match serde_json::from_slice(&bytes) {
        Ok(header) => header,
        Err(e) => return Ok(Err(format!("not a complete safetensors file ({e})"))),
    };
    let whole = 8 + length + header.data_len() as u64;
    Ok(if whole == size {
        Ok(header)
    } else {
        Err(format!(
            "not a complete safetensors file ({size} bytes; {whole} according to its header)"
        ))
    })
}

/// The safetensors format's own limit.
const MAX_HEADER_BYTES: u64 = 100_000_000;

#[cfg(test)]
mod tests {
    use sedet_data::loading::transforms::Preprocess;

    use super::*;
    use crate::backbones::zoo::network;
    use crate::classification::classifier::ClassifierConfig;

    fn spec() -> ModelSpec {
        let network = ClassifierConfig::new(network("resnet20").unwrap().backbone, 1);
        let preprocess = Preprocess::torchvision().with_sizes(32, 32);
        ModelSpec::classifier(network, preprocess, ["a".to_string()])
    }

    fn sample() -> Checkpoint {
        let tensor = |v: f32| TensorData::new(vec![v, -v, 0.5], [3, 1]);
        Checkpoint {
            spec: spec(),
            progress: Some(TrainingProgress {
                iteration: 3,
                ..TrainingProgress::default()
            }),
            weights: [("w".to_string(), tensor(1.25))].into(),
            optimizer: [("velocity/w".to_string(), tensor(0.1))].into(),
            ema: [("w".to_string(), tensor(3.0))].into(),
        }
    }

    #[test]
    fn a_checkpoint_comes_back_as_it_was_saved() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        sample().save(&path, Precision::Full).unwrap();
        assert_eq!(Checkpoint::load(&path).unwrap(), sample());
    }

    #[test]
    fn half_precision_halves_the_tensors_and_rounds_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        sample().save(&path, Precision::Half).unwrap();
        let back = Checkpoint::load(&path).unwrap();
        let value = back.optimizer["velocity/w"].iter::<f32>().next().unwrap();
        assert!((value - 0.1).abs() < 1e-4 && value != 0.1);
    }

    #[test]
    fn half_precision_keeps_values_that_it_could_not_hold() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        let mut checkpoint = sample();
        let large = TensorData::new(vec![1e6f32, 0.1], [2]);
        checkpoint.weights.insert("var".into(), large.clone());
        checkpoint.save(&path, Precision::Half).unwrap();
        assert_eq!(Checkpoint::load(&path).unwrap().weights["var"], large);
    }

    #[test]
    fn a_tensor_that_is_not_a_float_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        let counter = safetensors::tensor::TensorView::new(Dtype::I64, vec![1], &[0; 8]).unwrap();
        let header = HashMap::from([(
            METADATA_KEY.to_string(),
            spec().to_header().unwrap().to_string(),
        )]);
        write_safetensors(&path, [("counter".to_string(), counter)], Some(header)).unwrap();
        let message = Checkpoint::load(&path).unwrap_err().to_string();
        assert!(message.contains("tensor counter is I64"), "{message}");
    }

    /// All bits: the file is small.
    #[test]
    fn every_flipped_bit_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        sample().save(&path, Precision::Full).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let (mut named, mut unharmed) = (0, 0);
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            match Checkpoint::from_bytes(&bytes, "a.safetensors") {
                Err(error) => {
                    let message = error.to_string();
                    assert!(message.starts_with("a.safetensors: "), "{message}");
                    named += usize::from(message.contains("its checksum differs"));
                }
                // The padding after the header, or the key of the checksums, which are then part of
                // the description.
                Ok(same) => {
                    assert_eq!(same, sample(), "bit {bit}");
                    unharmed += 1;
                }
            }
        }
        assert!(named > 3 * 12 * 8 && unharmed < 64, "{named} {unharmed}");
    }

    #[test]
    fn a_file_without_checksums_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        let data = TensorData::new(vec![1.5f32], [1]);
        let tensors = [("w".to_string(), Stored::new(&data, Precision::Full))];
        let header = HashMap::from([(
            METADATA_KEY.to_string(),
            spec().to_header().unwrap().to_string(),
        )]);
        write_safetensors(&path, tensors, Some(header)).unwrap();
        assert_eq!(Checkpoint::load(&path).unwrap().weights["w"], data);
    }

    #[test]
    fn truncated_and_other_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        sample().save(&path, Precision::Full).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for cut in [0, 5, 20, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let message = Checkpoint::load(&path).unwrap_err().to_string();
            assert!(message.contains("a.safetensors"), "{message}");
        }
        std::fs::write(&path, [0xFF; 64]).unwrap();
        assert!(Checkpoint::load(&path).is_err());
        std::fs::write(&path, b"PK\x03\x04 and so on").unwrap();
        let message = Checkpoint::load(&path).unwrap_err().to_string();
        assert!(message.contains(".pth"), "{message}");
        let gone = Checkpoint::load(&dir.path().join("gone"))
            .unwrap_err()
            .to_string();
        assert!(gone.contains("gone: cannot be read"));
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_names_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("missing/a.safetensors");
        let message = sample()
            .save(&path, Precision::Full)
            .unwrap_err()
            .to_string();
        assert!(message.contains("missing/a.safetensors"), "{message}");
        assert!(!message.contains("previous one"), "{message}");
    }

    #[test]
    fn only_a_file_that_exists_is_called_intact() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        let message = || {
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            CheckpointError::not_written(&path, full).to_string()
        };
        assert!(!message().contains("intact"), "{}", message());
        sample().save(&path, Precision::Full).unwrap();
        let text = message();
        assert!(text.ends_with("; the previous one is intact"), "{text}");
    }
}
