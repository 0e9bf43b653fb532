//! PyTorch's file formats.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use pytorch_reader::{DType, FileFormat, PickleValue, PytorchReader};

use super::{Container, ElementType, Source, TensorInfo, Tensors, ThirdPartyError};

/// The start of files of PyTorch before 1.6: a pickle of this number.
const LEGACY_MAGIC: [u8; 14] = [
    0x80, 0x02, 0x8A, 0x0A, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19,
];

/// Returns whether a file is a zip archive, of the legacy format, or a tar archive.
pub(super) fn is_pytorch(start: &[u8], file: &mut File) -> std::io::Result<bool> {
    let mut magic = Vec::new();
    file.seek(SeekFrom::Start(257))?;
    file.by_ref().take(5).read_to_end(&mut magic)?;
    file.rewind()?;
    Ok(start.starts_with(b"PK") || start.starts_with(&LEGACY_MAGIC) || magic == b"ustar")
}

/// A zip archive of which the file has the beginning, but not the directory at its end.
const CUT_OFF: &str = "it ends early (the directory at the end of the zip archive is missing)";

/// Returns what wrote a program instead of a state dict, by the entries of its archive.
fn program_kind(archive: &ZipArchive<BufReader<File>>) -> Option<&'static str> {
    let mut kinds = archive.file_names().filter_map(|name| {
        let name = name.ok()?;
        // All entries are in a directory, which has the name of the model.
        let (_, entry) = name.split_once('/')?;
        match entry {
            // PyTorch 1.0 wrote the program in JSON.
            "constants.pkl" | "model.json" => Some("TorchScript"),
            "archive_format" | "serialized_exported_program.json" => Some("torch.export"),
            _ => entry.starts_with("code/").then_some("TorchScript"),
        }
    });
    kinds.next()
}

pub(super) fn tensors(path: &Path) -> Result<(Container, Tensors), ThirdPartyError> {
    let mut file = File::open(path).map_err(|source| ThirdPartyError::Read {
        path: path.to_path_buf(),
        source,
    })?;
    let mut start = [0; 2];
    let is_zip = file.read_exact(&mut start).is_ok() && &start == b"PK";
    if is_zip {
        let archive =
            ZipArchive::new(BufReader::new(file)).map_err(|error| ThirdPartyError::Format {
                path: path.to_path_buf(),
                format: "PyTorch",
                reason: match error {
                    ZipError::InvalidArchive(_) => CUT_OFF.into(),
                    other => other.to_string(),
                },
            })?;
        if let Some(kind) = program_kind(&archive) {
            return Err(ThirdPartyError::Program {
                path: path.to_path_buf(),
                kind,
            });
        }
    }
    let reader = PytorchReader::new(path).map_err(|e| match pickled_class(path) {
        Some(class) => ThirdPartyError::PickledModel {
            path: path.to_path_buf(),
            class,
        },
        None => ThirdPartyError::Format {
            path: path.to_path_buf(),
            format: "PyTorch",
            reason: e.to_string(),
        },
    })?;
    let container = match reader.metadata().format_type {
        FileFormat::Zip => Container::PytorchZip,
        FileFormat::Tar => Container::PytorchTar,
        FileFormat::Legacy | FileFormat::Pickle => Container::PytorchLegacy,
    };
    let tensors = reader
        .into_tensors()
        .into_iter()
        .map(|(name, tensor)| {
            let info = TensorInfo {
                shape: tensor.shape().to_vec(),
                element: match tensor.dtype() {
                    DType::F64 => ElementType::F64,
                    DType::F32 => ElementType::F32,
                    DType::F16 => ElementType::F16,
                    DType::BF16 => ElementType::Bf16,
                    DType::I64 => ElementType::I64,
                    DType::I32 => ElementType::I32,
                    DType::I16 => ElementType::I16,
                    DType::I8 => ElementType::I8,
                    DType::U64 => ElementType::U64,
                    DType::U32 => ElementType::U32,
                    DType::U16 => ElementType::U16,
                    DType::U8 => ElementType::U8,
                    DType::Bool => ElementType::Bool,
                },
            };
            (name, (info, Source::Pytorch(tensor)))
        })
        .collect();
    Ok((container, tensors))
}

/// Returns the class of the first module that a file of PyTorch before 1.6 has pickled.
///
/// `torch.save` pickles the class of a module as the persistent id `("module", class, ...)`.
fn pickled_class(path: &Path) -> Option<String> {
    /// The first class comes before the first tensor.
    const REACH: u64 = 1 << 20;
    /// BINUNICODE, the length, and the string.
    const TAG: &[u8] = b"X\x06\0\0\0module";
    /// BINPUT and its argument, or LONG_BINPUT and its argument, are between the string and the class.
    const LARGEST_MEMO: usize = 5;
    let mut start = Vec::new();
    let mut file = File::open(path).ok()?;
    file.by_ref().take(REACH).read_to_end(&mut start).ok()?;
    if !start.starts_with(&LEGACY_MAGIC) {
        return None;
    }
    let tag = start.windows(TAG.len()).position(|bytes| bytes == TAG)?;
    let after = &start[tag + TAG.len()..];
    let global = after
        .iter()
        .take(LARGEST_MEMO + 1)
        .position(|b| *b == b'c')?;
    let mut lines = after[global + 1..].split(|byte| *byte == b'\n');
    let mut line = || std::str::from_utf8(lines.next()?).ok();
    Some(format!("{}.{}", line()?, line()?))
}

/// Returns the strings in a dictionary of the file; empty if there is no such dictionary.
pub(super) fn strings(path: &Path, dictionary: &str) -> Vec<String> {
    match PytorchReader::read_pickle_data(path, Some(dictionary)) {
        Ok(PickleValue::Dict(entries)) => entries
            .into_values()
            .filter_map(|value| match value {
                PickleValue::String(text) => Some(text),
                _ => None,
            })
            .collect(),
        // Errors of the file as a whole were reported when it was opened.
        _ => Vec::new(),
    }
}

/// Returns a string at the top level of the file.
pub(super) fn text(path: &Path, key: &str) -> Option<String> {
    match PytorchReader::read_pickle_data(path, Some(key)) {
        Ok(PickleValue::String(text)) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_refused_by_its_name() {
        use std::io::Write as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.pt");
        for (entry, expected) in [
            ("model/constants.pkl", Some("TorchScript")),
            ("model/code/__torch__.py", Some("TorchScript")),
            ("model/archive_format", Some("torch.export")),
            ("model/data.pkl", None),
        ] {
            let mut archive = zip::ZipWriter::new(File::create(&path).unwrap());
            let options = zip::write::SimpleFileOptions::default();
            archive.start_file(entry, options).unwrap();
            archive.write_all(b"x").unwrap();
            archive.finish().unwrap();
            let message = tensors(&path).err().unwrap().to_string();
            match expected {
                Some(kind) => {
                    let expected = format!("model.pt: a program ({kind}), not a state dict");
                    assert!(message.ends_with(&expected), "{message}");
                }
                None => assert!(!message.contains("program"), "{message}"),
            }
        }
    }

    #[test]
    fn a_pickled_model_of_an_old_pytorch_is_named_with_its_class() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.pth");
        // torch.save(model, path, _use_new_zipfile_serialization=False): the magic number, the protocol
        // version, the system's properties, and the persistent id of the class with the name of its file
        // and its source code.
        let mut bytes = [&LEGACY_MAGIC[..], b".\x80\x02M\xe9\x03."].concat();
        bytes.extend(b"\x80\x02}q\0X\x0d\0\0\0little_endianq\x01\x88s.");
        bytes.extend(b"\x80\x02(X\x06\0\0\0moduleq\0cmodels.net\nTinyNet\nq\x01");
        bytes.extend(b"X\x06\0\0\0net.pyq\x02X\x0d\0\0\0class TinyNetq\x03tq\x04Q)\x81.");
        std::fs::write(&path, &bytes).unwrap();
        let message = tensors(&path).err().unwrap().to_string();
        assert!(
            message.ends_with(
                "model.pth: a pickled model (class models.net.TinyNet) in the format of PyTorch before \
                 1.6, not a state dict"
            ),
            "{message}"
        );
        // A damaged state dict is not taken for one.
        let state = bytes.split(|b| *b == b'Q').next().unwrap();
        let state = String::from_utf8_lossy(state).replace("module", "tensor");
        std::fs::write(&path, [&LEGACY_MAGIC[..], state.as_bytes()].concat()).unwrap();
        let message = tensors(&path).err().unwrap().to_string();
        assert!(message.contains("not a complete PyTorch file"), "{message}");
    }
}
