//! Checkpoints: safetensors with one JSON document in the header, readable by anyone.
//!
//! A file is complete in itself. Weights have the plain names of
//! [`named_tensors`](super::parameters::named_tensors); a checkpoint that a run continues from also
//! holds `optimizer/...` and `ema/...`. Both in ONE file, so that a crash can't leave weights and
//! optimiser of different steps.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use half::f16;
use safetensors::tensor::{Dtype, SafeTensors, View};
use serde_json::Value;

use super::parameters::NamedTensors;
use crate::atomic::write_atomically;

/// The header entry that holds our JSON.
const METADATA_KEY: &str = "sedet";

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Disk full, no permission, no folder.
    #[error("{}: checkpoint not written: {source}; the previous one is intact", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Missing or unreadable.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Not safetensors, truncated, or made by another program.
    #[error("{}: not a sedet checkpoint: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// As they are.
    Full,
    /// Half the size; weights rounded to 11 bits. Tensors with values beyond 65504, which half
    /// precision doesn't reach, stay as they are.
    Half,
}

/// The contents of a checkpoint file.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// What the network is, and where training stands.
    pub metadata: Value,
    /// The weights.
    pub weights: NamedTensors,
    /// State of the optimiser; empty in a checkpoint for use only.
    pub optimizer: NamedTensors,
    /// Averaged weights; empty without averaging.
    pub ema: NamedTensors,
}

const OPTIMIZER: &str = "optimizer/";
const EMA: &str = "ema/";

struct Bytes {
    shape: Vec<usize>,
    dtype: Dtype,
    bytes: Vec<u8>,
}

impl View for Bytes {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

fn encode(data: &TensorData, precision: Precision) -> Bytes {
    let values: Vec<f32> = data.iter::<f32>().collect();
    let fits = |v: &f32| !v.is_finite() || v.abs() <= f16::MAX.to_f32();
    let (dtype, bytes) = match precision {
        Precision::Half if values.iter().all(fits) => (
            Dtype::F16,
            values
                .iter()
                .flat_map(|v| f16::from_f32(*v).to_le_bytes())
                .collect(),
        ),
        _ => (
            Dtype::F32,
            values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ),
    };
    Bytes {
        shape: data.shape().to_vec(),
        dtype,
        bytes,
    }
}

impl Checkpoint {
    /// Write the file, whole or not at all.
    ///
    /// # Errors
    /// The system's, with the path; an older file of that name stays as it was.
    pub fn save(&self, path: &Path, precision: Precision) -> Result<(), CheckpointError> {
        let named = |prefix: &'static str, tensors: &NamedTensors| -> Vec<(String, Bytes)> {
            tensors
                .iter()
                .map(|(name, data)| (format!("{prefix}{name}"), encode(data, precision)))
                .collect()
        };
        let mut tensors = named("", &self.weights);
        tensors.extend(named(OPTIMIZER, &self.optimizer));
        tensors.extend(named(EMA, &self.ema));
        let header = HashMap::from([(METADATA_KEY.to_string(), self.metadata.to_string())]);
        let write_error = |source: std::io::Error| CheckpointError::Write {
            path: path.to_path_buf(),
            source,
        };
        let bytes = safetensors::serialize(tensors, Some(header))
            .map_err(|e| write_error(std::io::Error::other(e)))?;
        write_atomically(path, |out| out.write_all(&bytes)).map_err(write_error)
    }

    /// Whether a file is a checkpoint of this program, or at least was meant to be one: a
    /// safetensors file with our entry in its header, or one whose header is cut off.
    ///
    /// # Errors
    /// A file that is missing or unreadable.
    pub fn is_ours(path: &Path) -> Result<bool, CheckpointError> {
        let header = (|| {
            let mut file = std::fs::File::open(path)?;
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

    /// Read a file.
    ///
    /// # Errors
    /// Names the file, and the tensor where one is to blame.
    pub fn load(path: &Path) -> Result<Self, CheckpointError> {
        let bad = |reason: String| CheckpointError::Format {
            path: path.to_path_buf(),
            reason,
        };
        let bytes = read_plausible(path)
            .map_err(|source| CheckpointError::Read {
                path: path.to_path_buf(),
                source,
            })?
            .map_err(bad)?;
        let (_, header) = SafeTensors::read_metadata(&bytes)
            .map_err(|e| bad(format!("not a whole safetensors file ({e})")))?;
        let json = header
            .metadata()
            .as_ref()
            .and_then(|entries| entries.get(METADATA_KEY))
            .ok_or_else(|| bad("its header has no 'sedet' entry".into()))?;
        let metadata = serde_json::from_str(json)
            .map_err(|e| bad(format!("its metadata is not JSON ({e})")))?;
        let tensors = SafeTensors::deserialize(&bytes)
            .map_err(|e| bad(format!("not a whole safetensors file ({e})")))?;
        let mut out = Self {
            metadata,
            weights: BTreeMap::new(),
            optimizer: BTreeMap::new(),
            ema: BTreeMap::new(),
        };
        for (name, view) in tensors.iter() {
            let values: Vec<f32> = match view.dtype() {
                Dtype::F32 => view
                    .data()
                    .chunks_exact(4)
                    .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                    .collect(),
                Dtype::F16 => view
                    .data()
                    .chunks_exact(2)
                    .map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32())
                    .collect(),
                other => return Err(bad(format!("tensor {name} is {other:?}, not a float"))),
            };
            let data = TensorData::new(values, view.shape().to_vec());
            let (map, name) = if let Some(name) = name.strip_prefix(OPTIMIZER) {
                (&mut out.optimizer, name)
            } else if let Some(name) = name.strip_prefix(EMA) {
                (&mut out.ema, name)
            } else {
                (&mut out.weights, name)
            };
            map.insert(name.to_string(), data);
        }
        Ok(out)
    }

    /// The weights to use a network with: the average where there is one.
    pub fn best_weights(&self) -> &NamedTensors {
        if self.ema.is_empty() {
            &self.weights
        } else {
            &self.ema
        }
    }
}

/// The bytes of a file whose first ones can be those of a safetensors file; else the reason why
/// not, found before gigabytes of something else are read.
fn read_plausible(path: &Path) -> std::io::Result<Result<Vec<u8>, String>> {
    let mut file = std::fs::File::open(path)?;
    let size = file.metadata()?.len();
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
    let header = u64::from_le_bytes(length);
    if header > MAX_HEADER_BYTES {
        return Ok(Err("not a safetensors file".into()));
    }
    if header + 8 > size {
        return Ok(Err("it is cut off inside its header".into()));
    }
    let mut bytes = start;
    file.read_to_end(&mut bytes)?;
    Ok(Ok(bytes))
}

/// The safetensors format's own limit.
const MAX_HEADER_BYTES: u64 = 100_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Checkpoint {
        let tensor = |v: f32| TensorData::new(vec![v, -v, 0.5], [3, 1]);
        Checkpoint {
            metadata: serde_json::json!({"classes": ["a"]}),
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
        let counter = Bytes {
            shape: vec![1],
            dtype: Dtype::I64,
            bytes: vec![0; 8],
        };
        let header = HashMap::from([(METADATA_KEY.to_string(), "{}".to_string())]);
        let bytes = safetensors::serialize([("counter", counter)], Some(header)).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let message = Checkpoint::load(&path).unwrap_err().to_string();
        assert!(message.contains("tensor counter is I64"), "{message}");
    }

    #[test]
    fn truncated_and_foreign_files_are_named() {
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
        assert!(message.contains("missing/a.safetensors") && message.contains("previous one"));
    }
}
