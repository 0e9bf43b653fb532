//! Safetensors headers.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata};

use super::{ElementType, Source, TensorInfo, Tensors, ThirdPartyError};

/// The format's own limit for its header.
const MAX_SAFETENSORS_HEADER: u64 = 100_000_000;

pub(super) fn is_safetensors(start: &[u8], size: u64) -> bool {
    let Some(length) = start.first_chunk::<8>() else {
        return false;
    };
    let header = u64::from_le_bytes(*length);
    // A header that extends beyond the end of the file is reported by the reader as truncated.
    start.get(8) == Some(&b'{') && header <= MAX_SAFETENSORS_HEADER && size >= 8
}

/// Returns the tensors of a file, which is the one of this `number` in the sources.
pub(super) fn tensors(
    path: &Path,
    file: &mut File,
    number: usize,
) -> Result<Tensors, ThirdPartyError> {
    let bad = |reason: String| ThirdPartyError::Format {
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
        return Err(bad("the header is truncated".into()));
    }
    let mut bytes = Vec::new();
    file.by_ref()
        .take(header_size)
        .read_to_end(&mut bytes)
        .map_err(|e| bad(e.to_string()))?;
    // The library's reader requires the whole file in memory. Its header type checks that the
    // tensors are contiguous.
    let header: Metadata = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
    let data_start = 8 + header_size;
    let mut tensors = Tensors::new();
    for (name, entry) in header.tensors() {
        let tensor_error = |reason: String| ThirdPartyError::Tensor {
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
            other => return Err(tensor_error(format!("unsupported element type {other}"))),
        };
        let range =
            data_start + entry.data_offsets.0 as u64..data_start + entry.data_offsets.1 as u64;
        if range.end > size {
            return Err(bad(format!("it ends early, within tensor {name}")));
        }
        let info = TensorInfo {
            shape: entry.shape.clone(),
            element,
        };
        tensors.insert(name.clone(), (info, Source::Bytes(number, range)));
    }
    Ok(tensors)
}
