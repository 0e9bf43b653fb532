//! Pickles of NumPy arrays, such as detectron2's `.pkl` files.

use std::fs::File;
use std::io::{BufReader, Read, Seek as _, SeekFrom};
use std::path::Path;

use super::{ElementType, Source, TensorInfo, Tensors, ThirdPartyError, row_by_row};
use sedet_data::pickle::{Node, Pickle, PickledArray};

/// The maximum depth of nested dictionaries.
const MAX_DEPTH: usize = 16;

/// Returns the values of an array in row-major order.
pub(super) fn values(
    array: &PickledArray,
    file: &mut File,
    info: &TensorInfo,
) -> Result<Vec<f32>, String> {
    let io = |e: std::io::Error| e.to_string();
    file.seek(SeekFrom::Start(array.data.start)).map_err(io)?;
    let mut bytes = vec![0; (array.data.end - array.data.start) as usize];
    file.read_exact(&mut bytes).map_err(io)?;
    if array.is_text {
        let text = std::str::from_utf8(&bytes).map_err(|e| e.to_string())?;
        bytes = text
            .chars()
            .map(|c| u8::try_from(u32::from(c)).map_err(|_| "its bytes are damaged".to_string()))
            .collect::<Result<_, _>>()?;
    }
    if array.is_big_endian {
        for value in bytes.chunks_exact_mut(info.element.size()) {
            value.reverse();
        }
    }
    let values = info.element.decode(&bytes);
    Ok(if array.is_fortran {
        row_by_row(values, &info.shape)
    } else {
        values
    })
}

/// Returns the arrays in a pickle by name. The keys of nested dictionaries are joined by dots.
pub(super) fn tensors(path: &Path, file: &mut File) -> Result<Tensors, ThirdPartyError> {
    let bad = |reason: String| ThirdPartyError::Format {
        path: path.to_path_buf(),
        format: "pickle",
        reason,
    };
    let size = file.metadata().map_err(|e| bad(e.to_string()))?.len();
    let pickle = Pickle::read(BufReader::new(file), size).map_err(|e| bad(e.to_string()))?;
    let mut tensors = Tensors::new();
    collect(pickle.root(), "", 0, &mut tensors).map_err(|tensor| ThirdPartyError::Tensor {
        path: path.to_path_buf(),
        tensor,
        reason: "unsupported element type".into(),
    })?;
    match (tensors.is_empty(), pickle.not_called()) {
        (true, Some(function)) => Err(bad(format!(
            "it contains no arrays, only a call of {function}, which was not executed"
        ))),
        _ => Ok(tensors),
    }
}

/// Collects the arrays in nested dictionaries. The error is the name of an unsupported array.
fn collect(node: Node, name: &str, depth: usize, tensors: &mut Tensors) -> Result<(), String> {
    if node.is_array() {
        let usable = node.array().and_then(|array| Some((info(array)?, array)));
        let (info, array) = usable.ok_or_else(|| name.to_string())?;
        tensors.insert(name.to_string(), (info, Source::Pickled(array.clone())));
        return Ok(());
    }
    if depth == MAX_DEPTH {
        return Ok(());
    }
    for (key, value) in node.entries() {
        let Some(key) = key.text() else {
            continue;
        };
        let inner = match name {
            "" => key.to_string(),
            _ => format!("{name}.{key}"),
        };
        collect(value, &inner, depth + 1, tensors)?;
    }
    Ok(())
}

/// Returns shape and type; `None` for an unsupported element type, or a size that exceeds the
/// address space.
fn info(array: &PickledArray) -> Option<TensorInfo> {
    let element = match array.element_code.as_str() {
        "f8" => ElementType::F64,
        "f4" => ElementType::F32,
        "f2" => ElementType::F16,
        "i8" => ElementType::I64,
        "i4" => ElementType::I32,
        "i2" => ElementType::I16,
        "i1" => ElementType::I8,
        "u8" => ElementType::U64,
        "u4" => ElementType::U32,
        "u2" => ElementType::U16,
        "u1" => ElementType::U8,
        "b1" => ElementType::Bool,
        _ => return None,
    };
    array
        .shape
        .iter()
        .try_fold(element.size(), |all, n| all.checked_mul(*n))?;
    Some(TensorInfo {
        shape: array.shape.clone(),
        element,
    })
}
