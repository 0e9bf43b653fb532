//! Text files that users write: annotations, lists, recipes. All of them are decoded here, so that a byte order mark or UTF-16
//! means the same everywhere.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};

use crate::DataError;
use crate::text::printable;

/// Size limit of a text file: annotations of one image take kilobytes, and a larger file of
/// another kind would exhaust the memory.
const LARGEST_FILE: u64 = 64 << 20;

/// Reads a file of at most 64 MiB in UTF-8, or in UTF-16 with a byte order mark, as Windows Notepad writes it.
///
/// # Errors
/// The file cannot be read, is larger, or is in another encoding.
pub fn read_text(path: &Path) -> Result<String, DataError> {
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

/// Returns the beginning of a text file, at most `limit` bytes, for its recognition; None if it cannot be read.
/// UTF-16 with a byte order mark is decoded, and bytes that are not UTF-8 are replaced.
pub(crate) fn beginning(path: &Path, limit: u64) -> Option<String> {
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    file.take(limit).read_to_end(&mut bytes).ok()?;
    Some(UTF_8.decode(&bytes).0.into_owned())
}

/// The description of files that have zeros between their letters.
pub(crate) const UNMARKED_UTF16: &str = "probably UTF-16 without a byte order mark";

/// Returns whether a file begins as Latin letters in UTF-16 without a byte order mark.
pub(crate) fn is_unmarked_utf16(path: &Path) -> bool {
    const BEGINNING: u64 = 256;
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(BEGINNING).read_to_end(&mut bytes));
    read.is_ok() && Encoding::for_bom(&bytes).is_none() && has_zeros_of_utf16(&bytes)
}

/// Returns whether bytes may be Latin letters in UTF-16, with a zero before or after each.
fn has_zeros_of_utf16(bytes: &[u8]) -> bool {
    let zeros = bytes.iter().filter(|byte| **byte == 0).count();
    zeros * 4 >= bytes.len() && zeros > 0 && zeros < bytes.len()
}

/// Decodes text and removes its byte order mark; `path` is used in error messages only.
///
/// # Errors
/// The bytes are neither UTF-8 nor UTF-16 with a byte order mark. Any other encoding could only be guessed, and
/// class names would be other words.
pub fn text_of(bytes: Vec<u8>, path: &Path) -> Result<String, DataError> {
    let wrong = |problem: String| -> Result<String, DataError> {
        let path = path.to_owned();
        Err(DataError::Encoding { path, problem })
    };
    if let Some((encoding, _)) = Encoding::for_bom(&bytes).filter(|(found, _)| *found != UTF_8) {
        return match encoding.decode(&bytes) {
            (text, _, false) if !text.contains('\0') => Ok(text.into_owned()),
            _ => wrong(format!(
                "begins as {} text, but its content is not in this encoding",
                encoding.name()
            )),
        };
    }
    // Zeros are valid UTF-8.
    if has_zeros_of_utf16(&bytes) {
        return wrong(format!("not UTF-8 text, {UNMARKED_UTF16}"));
    }
    if bytes.contains(&0) {
        return wrong("not text: it contains bytes of zero".to_owned());
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(match text.strip_prefix('\u{feff}') {
            Some(text) => text.to_owned(),
            None => text,
        }),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            wrong(not_utf8(error.as_bytes(), at))
        }
    }
}

/// Describes bytes that are not UTF-8 at a position: the line, and the encoding that is likely.
fn not_utf8(bytes: &[u8], at: usize) -> String {
    /// More of a long line would hide the rest of the message.
    const SHOWN: usize = 40;
    let line = bytes[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = bytes[..at].iter().rposition(|byte| *byte == b'\n');
    let content = &bytes[start.map_or(0, |before| before + 1)..];
    let content = content
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or(content);
    let is_high = |byte: &u8| !byte.is_ascii();
    // In Western European words, letters with accents are between others.
    let is_isolated = !content.windows(2).any(|pair| pair.iter().all(is_high));
    let guess = if is_isolated {
        let text = WINDOWS_1252.decode_without_bom_handling(content).0;
        let text: String = text.trim().chars().take(SHOWN).collect();
        format!("probably Windows-1252 or Latin-1: `{}`", printable(&text))
    } else {
        "probably in an encoding such as GBK, Shift_JIS or Windows-1251".to_owned()
    };
    format!("line {line} is not UTF-8 text, {guess}")
}

/// Returns the non-blank lines, trimmed.
pub(crate) fn lines(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<String, String> {
        text_of(bytes.to_vec(), Path::new("classes.txt")).map_err(|error| error.to_string())
    }

    #[test]
    fn utf16_is_read_where_its_byte_order_mark_says_so_and_other_encodings_are_named() {
        let utf16 = |to_bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
            let text = "\u{feff}Möwe\r\n猫\r\n".encode_utf16();
            text.flat_map(to_bytes).collect()
        };
        for bytes in [
            utf16(u16::to_le_bytes),
            utf16(u16::to_be_bytes),
            "\u{feff}Möwe\r\n猫\r\n".as_bytes().to_vec(),
        ] {
            assert_eq!(read(&bytes).unwrap(), "Möwe\r\n猫\r\n");
        }
        for (bytes, problem) in [
            (
                &b"cat\nM\xf6we\n"[..],
                "line 2 is not UTF-8 text, probably Windows-1252 or Latin-1: `Möwe`",
            ),
            (
                b"\xc3\xa8\xb9\xb7\n",
                "line 1 is not UTF-8 text, probably in an encoding such as GBK, Shift_JIS or Windows-1251",
            ),
            (
                b"c\0a\0t\0\n\0",
                "not UTF-8 text, probably UTF-16 without a byte order mark",
            ),
            (b"cat and dog\0", "not text: it contains bytes of zero"),
            (
                b"\xff\xfec\0a",
                "begins as UTF-16LE text, but its content is not in this encoding",
            ),
        ] {
            let expected = format!("classes.txt: {problem}");
            assert_eq!(read(bytes).unwrap_err(), expected);
        }
    }

    #[test]
    fn the_beginning_of_a_file_in_any_encoding_serves_its_recognition() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        let utf16 = "\u{feff}filename,class\n".encode_utf16();
        let utf16: Vec<u8> = utf16.flat_map(u16::to_le_bytes).collect();
        std::fs::write(&path, utf16).unwrap();
        assert_eq!(beginning(&path, 100).as_deref(), Some("filename,class\n"));
        std::fs::write(&path, b"M\xf6we").unwrap();
        assert_eq!(beginning(&path, 2).as_deref(), Some("M\u{fffd}"));
        assert_eq!(beginning(&dir.path().join("none"), 2), None);
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_are_text_or_an_error_of_one_line(
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            match read(&bytes) {
                Ok(text) => prop_assert!(!text.contains('\0')),
                Err(message) => prop_assert_eq!(message.lines().count(), 1),
            }
        }
    }
}
