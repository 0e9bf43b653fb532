//! Files that are given as weights and are something else, by their first bytes.

use std::fmt;
use std::path::Path;

/// Number of bytes by which a file is recognized.
pub(super) const START_BYTES: u64 = 64;

/// The content of a file without weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherContent {
    /// Nothing.
    Nothing,
    /// An ONNX model.
    Onnx,
    /// HTML, such as the page about a file instead of the file.
    WebPage,
    /// XML, such as the error message of a server.
    Xml,
    /// The text that Git LFS keeps in place of a file.
    GitLfsPointer,
    /// HDF5, such as the weights of Keras.
    Hdf5,
}

impl fmt::Display for OtherContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "an empty file",
            Self::Onnx => "an ONNX model; sedet writes ONNX models and does not read them",
            Self::WebPage => "a web page (HTML), not weights",
            Self::Xml => "an XML document, not weights",
            Self::GitLfsPointer => "a Git LFS pointer, not the weights themselves",
            Self::Hdf5 => "an HDF5 file, which sedet does not read",
        })
    }
}

impl OtherContent {
    /// Returns what a file contains that is none of the formats of weights, if it is known.
    pub(super) fn of(path: &Path, start: &[u8]) -> Option<Self> {
        /// The version of the format (field 1 of the message), then the name of the producer (field 2), the
        /// graph (7) or the operator sets (8).
        const fn is_onnx(start: &[u8]) -> bool {
            matches!(start, [0x08, 1..=63, 0x12 | 0x3a | 0x42, ..])
        }
        let text = String::from_utf8_lossy(start).to_lowercase();
        let text = text.trim_start_matches('\u{feff}').trim_start();
        let has_extension = |wanted: &str| {
            path.extension()
                .is_some_and(|end| end.eq_ignore_ascii_case(wanted))
        };
        Some(match start {
            [] => Self::Nothing,
            [0x89, b'H', b'D', b'F', ..] => Self::Hdf5,
            _ if text.starts_with("<!doctype html") || text.starts_with("<html") => Self::WebPage,
            _ if text.starts_with("<?xml") => Self::Xml,
            _ if text.starts_with("version https://git-lfs.") => Self::GitLfsPointer,
            _ if has_extension("onnx") || is_onnx(start) => Self::Onnx,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_no_weights_are_recognized_by_their_content() {
        let of = |start: &[u8]| OtherContent::of(Path::new("weights.pth"), start);
        for (start, expected) in [
            (&b""[..], Some(OtherContent::Nothing)),
            (b"\x08\x07\x12\x05sedet", Some(OtherContent::Onnx)),
            (b"\n <!DOCTYPE html><html>", Some(OtherContent::WebPage)),
            (b"\xef\xbb\xbf<HTML lang=en>", Some(OtherContent::WebPage)),
            (b"<?xml version='1.0'?><Error>", Some(OtherContent::Xml)),
            (
                b"version https://git-lfs.github.com/spec/v1\noid",
                Some(OtherContent::GitLfsPointer),
            ),
            (b"\x89HDF\r\n\x1a\n", Some(OtherContent::Hdf5)),
            (b"hello", None),
            (b"\x08\x00\x12", None),
        ] {
            assert_eq!(of(start), expected, "{start:?}");
        }
        let exported = OtherContent::of(Path::new("a.ONNX"), b"\x0a\x01");
        assert_eq!(exported, Some(OtherContent::Onnx));
    }
}
