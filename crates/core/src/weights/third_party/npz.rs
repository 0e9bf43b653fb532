//! NumPy's `.npz` archives.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use half::f16;
use npyz::{NpyFile, TypeChar};
use zip::ZipArchive;

use super::{ElementType, Source, TensorInfo, Tensors, ThirdPartyError, row_by_row};

/// Returns whether every entry of a zip archive is a NumPy array.
pub(super) fn is_npz(file: &File) -> bool {
    ZipArchive::new(BufReader::new(file)).is_ok_and(|archive| {
        !archive.is_empty()
            && archive
                .file_names()
                .all(|name| name.is_ok_and(|n| n.ends_with(".npy")))
    })
}

pub(super) fn tensors(path: &Path, file: &File) -> Result<Tensors, ThirdPartyError> {
    let bad = |reason: String| ThirdPartyError::Format {
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
        let tensor_error = |reason: String| ThirdPartyError::Tensor {
            path: path.to_path_buf(),
            tensor: name.clone(),
            reason,
        };
        let header =
            npyz::NpyHeader::from_reader(entry).map_err(|e| tensor_error(e.to_string()))?;
        let element = element(&header.dtype()).ok_or_else(|| {
            tensor_error(format!(
                "unsupported element type {}",
                header.dtype().descr()
            ))
        })?;
        let info = TensorInfo {
            shape: header.shape().iter().map(|&n| n as usize).collect(),
            element,
        };
        tensors.insert(name, (info, Source::Entry(entry_name)));
    }
    Ok(tensors)
}

fn element(dtype: &npyz::DType) -> Option<ElementType> {
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

pub(super) fn values(entry: impl Read, info: &TensorInfo) -> Result<Vec<f32>, String> {
    let npy = NpyFile::new(entry).map_err(|e| e.to_string())?;
    let is_fortran = npy.order() == npyz::Order::Fortran;
    fn all<T: npyz::Deserialize, R: Read>(
        npy: NpyFile<R>,
        convert: impl Fn(T) -> f32,
    ) -> Result<Vec<f32>, String> {
        npy.data::<T>()
            .map_err(|e| e.to_string())?
            .map(|value| value.map(&convert).map_err(|e| e.to_string()))
            .collect()
    }
    let values = match info.element {
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
    }?;
    Ok(if is_fortran {
        row_by_row(values, &info.shape)
    } else {
        values
    })
}
