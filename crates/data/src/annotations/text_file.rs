//! Small text files of annotations.

use std::io;
use std::path::Path;

use crate::DataError;

/// Size limit of an annotation file: annotations of one image take kilobytes, and a larger file of
/// another kind would exhaust the memory.
const LARGEST_FILE: u64 = 64 << 20;

/// Reads a UTF-8 file of at most 64 MiB, without its byte order mark.
///
/// # Errors
/// The file cannot be read, is larger, or is not UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String, DataError> {
    text_of(read_bytes(path)?, path)
}

/// Reads a file of at most 64 MiB.
///
/// # Errors
/// The file cannot be read, or is larger.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, DataError> {
    let io = |source| DataError::io(path, source);
    let length = std::fs::metadata(path).map_err(io)?.len();
    if length > LARGEST_FILE {
        let megabytes = length >> 20;
        let problem = format!("{megabytes} MiB is too large for such a file (at most 64 MiB)");
        return Err(DataError::labels(path, problem));
    }
    std::fs::read(path).map_err(io)
}

/// Decodes UTF-8 and removes a byte order mark; `path` is used in error messages only.
///
/// # Errors
/// The bytes are not UTF-8.
pub(crate) fn text_of(bytes: Vec<u8>, path: &Path) -> Result<String, DataError> {
    let text = String::from_utf8(bytes)
        .map_err(|error| DataError::io(path, io::Error::new(io::ErrorKind::InvalidData, error)))?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(text) => text.to_owned(),
        None => text,
    })
}

/// Returns the non-blank lines, trimmed.
pub(crate) fn lines(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}
