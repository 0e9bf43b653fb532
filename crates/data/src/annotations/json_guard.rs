//! A reader between an untrusted JSON file and its parser.
//!
//! A parser keeps some memory for every open bracket and for every string, so that a hostile or
//! broken file of ten gigabytes could fill the memory of the machine. [`GuardedJson`] refuses deep
//! nesting and long strings, naming the line. It also handles two deviations from JSON: a byte order
//! mark at the beginning (skipped) and Python's `NaN` and `Infinity`. A file that is no JSON at all is refused by
//! its beginning.

use std::io::{self, Read};

use crate::text::printable;
use crate::text_file::UNMARKED_UTF16;

/// The deepest nesting of brackets. COCO needs five; the parser itself would stop at 128.
const MAX_DEPTH: usize = 64;

/// The length of the longest string in bytes: far more than the longest run-length encoded mask.
const MAX_STRING: usize = 16 << 20;

/// The handling of `NaN`, `Infinity` and `-Infinity`, which are not valid JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotFinite {
    /// Pass them on as strings that [`not_finite`] recognizes, so that the consumer can report
    /// which entry contains them, and ignore them in fields that it does not read.
    Mark,
    /// Pass them on as `null`.
    AsNull,
}

/// The first character of a string that represents a number; no file name or class name begins with
/// it.
const MARK: char = '\0';

/// Returns the number that [`NotFinite::Mark`] encoded as this string.
pub(crate) fn not_finite(string: &str) -> Option<f64> {
    match string.strip_prefix(MARK)? {
        "NaN" | "-NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// A reader that enforces limits; see the [module](self). Errors are of the kind
/// [`io::ErrorKind::InvalidData`].
pub(crate) struct GuardedJson<R> {
    inner: R,
    not_finite: NotFinite,
    raw: Box<[u8]>,
    /// Bytes that were checked but not passed on yet.
    ready: Vec<u8>,
    passed_on: usize,
    line: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
    string_length: usize,
    /// The start of a word that is not valid JSON, or a minus that may start one.
    word: Vec<u8>,
    at_start: bool,
    /// Whether something but whitespace was read.
    has_begun: bool,
    at_end: bool,
}

impl<R: Read> GuardedJson<R> {
    /// Creates a guard for a file.
    pub(crate) fn new(inner: R, not_finite: NotFinite) -> Self {
        const CHUNK: usize = 1 << 16;
        Self {
            inner,
            not_finite,
            raw: vec![0; CHUNK].into_boxed_slice(),
            ready: Vec::with_capacity(CHUNK),
            passed_on: 0,
            line: 1,
            depth: 0,
            in_string: false,
            escaped: false,
            string_length: 0,
            word: Vec::new(),
            at_start: true,
            has_begun: false,
            at_end: false,
        }
    }

    fn wrong<T>(&self, problem: &str) -> io::Result<T> {
        let message = format!("line {}: {problem}", self.line);
        Err(io::Error::new(io::ErrorKind::InvalidData, message))
    }

    /// Reads the next chunk into `ready`; leaves it empty at the end of the file only.
    fn refill(&mut self) -> io::Result<()> {
        self.ready.clear();
        self.passed_on = 0;
        while self.ready.is_empty() && !self.at_end {
            let mut raw = std::mem::take(&mut self.raw);
            let scanned = self.read_and_scan(&mut raw);
            self.raw = raw;
            scanned?;
        }
        Ok(())
    }

    fn read_and_scan(&mut self, raw: &mut [u8]) -> io::Result<()> {
        let count = match self.inner.read(raw) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error),
        };
        if count == 0 {
            self.at_end = true;
            if !self.has_begun {
                return Err(not_json("the file is empty"));
            }
            self.finish_word();
            return Ok(());
        }
        let mut bytes = &raw[..count];
        if std::mem::take(&mut self.at_start) {
            if [[0xFF, 0xFE], [0xFE, 0xFF]]
                .iter()
                .any(|mark| bytes.starts_with(mark))
            {
                return self.wrong("UTF-16 text, but JSON has to be UTF-8");
            }
            // The first two characters of JSON are ASCII.
            if let [first, second, ..] = bytes
                && (*first == 0) != (*second == 0)
            {
                return self.wrong(&format!("{UNMARKED_UTF16}, but JSON has to be UTF-8"));
            }
            bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        }
        let beginning = bytes.trim_ascii_start();
        if !self.has_begun && !beginning.is_empty() {
            self.has_begun = true;
            if !beginning.starts_with(b"{") && !beginning.starts_with(b"[") {
                return Err(not_json(&begins_with(beginning)));
            }
        }
        for &byte in bytes {
            self.scan(byte)?;
        }
        Ok(())
    }

    fn scan(&mut self, byte: u8) -> io::Result<()> {
        if self.in_string {
            self.string_length += 1;
            if self.string_length > MAX_STRING {
                return self.wrong("a string of more than 16 MiB; this is not an annotation file");
            }
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                b'\n' => self.line += 1,
                _ => {}
            }
            self.ready.push(byte);
            return Ok(());
        }
        if !self.word.is_empty() {
            // Longer than any word that is recognized.
            const LONGEST: usize = 16;
            if byte.is_ascii_alphabetic() && self.word.len() < LONGEST {
                self.word.push(byte);
                return Ok(());
            }
            self.finish_word();
        }
        match byte {
            b'"' => {
                self.in_string = true;
                self.string_length = 0;
            }
            b'[' | b'{' => {
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return self
                        .wrong("nested more than 64 levels deep; this is not an annotation file");
                }
            }
            b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            b'\n' => self.line += 1,
            b'N' | b'I' | b'-' => {
                self.word.push(byte);
                return Ok(());
            }
            _ => {}
        }
        self.ready.push(byte);
        Ok(())
    }

    fn finish_word(&mut self) {
        let word = std::mem::take(&mut self.word);
        let is_known = matches!(
            word.as_slice(),
            b"NaN" | b"-NaN" | b"Infinity" | b"-Infinity"
        );
        match (is_known, self.not_finite) {
            (false, _) => self.ready.extend(word),
            (true, NotFinite::Mark) => {
                self.ready.extend(b"\"\\u0000");
                self.ready.extend(word);
                self.ready.push(b'"');
            }
            (true, NotFinite::AsNull) => self.ready.extend(b"null"),
        }
    }
}

/// Returns the error about a file that is neither an object nor a list, as annotations and results are.
fn not_json(found: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not JSON: {found}"))
}

fn begins_with(bytes: &[u8]) -> String {
    /// More would hide the rest of the message.
    const SHOWN: usize = 20;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * SHOWN)]);
    let line = text.lines().next().unwrap_or_default();
    let shown: String = line.chars().take(SHOWN).collect();
    format!("the file begins with `{}`", printable(&shown))
}

impl<R: Read> Read for GuardedJson<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.passed_on == self.ready.len() {
            self.refill()?;
        }
        let left = &self.ready[self.passed_on..];
        let count = left.len().min(out.len());
        out[..count].copy_from_slice(&left[..count]);
        self.passed_on += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A reader that returns a few bytes at a time, so that words are split across chunks.
    struct Dripping<'a>(&'a [u8], usize);

    impl Read for Dripping<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(out.len());
            out[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn through(text: &[u8], chunk: usize, not_finite: NotFinite) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        GuardedJson::new(Dripping(text, chunk), not_finite).read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn numbers_that_json_lacks_become_marks_or_nulls() {
        let text = b"\xEF\xBB\xBF{\"NaN\": [NaN, -Infinity,\n-1.5, Infinity, -NaN], \"a\\\"NaN\": \"-Infinity\"}";
        for chunk in [3, 4, 7, 1000] {
            let marked = through(text, chunk, NotFinite::Mark).unwrap();
            let value: serde_json::Value = serde_json::from_slice(&marked).unwrap();
            let number = |at: usize| value["NaN"][at].as_str().and_then(not_finite);
            assert!(number(0).unwrap().is_nan() && number(4).unwrap().is_nan());
            assert_eq!(number(1), Some(f64::NEG_INFINITY));
            assert_eq!(value["NaN"][2], -1.5);
            assert_eq!(number(3), Some(f64::INFINITY));
            assert_eq!(value["a\"NaN"], "-Infinity");
            assert_eq!(not_finite("-Infinity"), None);
        }
        let nulls = through(text, 5, NotFinite::AsNull).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&nulls).unwrap();
        assert_eq!(value["NaN"][2], -1.5);
        assert!(value["NaN"][0].is_null() && value["NaN"][3].is_null());
    }

    #[test]
    fn deep_nesting_and_endless_strings_are_refused_in_little_memory() {
        let deep = vec![b'['; 100_000];
        let error = through(&deep, 1000, NotFinite::Mark).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("nested more than 64 levels deep")
        );
        let mut brackets_in_string = b"[\"".to_vec();
        brackets_in_string.extend(vec![b'['; 100_000]);
        brackets_in_string.extend(b"\"]");
        assert_eq!(
            through(&brackets_in_string, 999, NotFinite::Mark).unwrap(),
            brackets_in_string
        );
        let endless = io::Read::chain(&b"[\""[..], io::repeat(b'x'));
        let mut guarded = GuardedJson::new(endless, NotFinite::Mark);
        let error = io::copy(&mut guarded, &mut io::sink()).unwrap_err();
        assert!(error.to_string().contains("more than 16 MiB"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_json_is_named_by_its_beginning() {
        for (text, expected) in [
            (&b""[..], "not JSON: the file is empty"),
            (b"\xEF\xBB\xBF \n ", "not JSON: the file is empty"),
            (b"\n<html>\n404", "not JSON: the file begins with `<html>`"),
            (
                b"filename,class,xmin,ymin,xmax,ymax\n",
                "not JSON: the file begins with `filename,class,xmin,`",
            ),
            (
                b"\x89PNG\r\n",
                "not JSON: the file begins with `\u{fffd}PNG`",
            ),
            (b"12", "not JSON: the file begins with `12`"),
            (
                b"{\0\"\0i\0",
                "line 1: probably UTF-16 without a byte order mark, but JSON has to be UTF-8",
            ),
            (
                b"\0{\0\"\0i",
                "line 1: probably UTF-16 without a byte order mark, but JSON has to be UTF-8",
            ),
        ] {
            let error = through(text, 1000, NotFinite::Mark).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        assert!(through(b"  {}", 3, NotFinite::Mark).is_ok());
    }

    proptest! {
        #[test]
        fn valid_json_passes_unchanged(
            texts in proptest::collection::vec(".*", 0..6),
            numbers in proptest::collection::vec(any::<f64>().prop_filter("finite", |v| v.is_finite()), 0..6),
            chunk in 3usize..40,
        ) {
            let json = serde_json::json!({ "texts": texts, "numbers": numbers, "t": [true, null, -1] });
            for text in [json.to_string(), format!("{json:#}")] {
                let passed = through(text.as_bytes(), chunk, NotFinite::Mark).unwrap();
                prop_assert_eq!(passed, text.into_bytes());
            }
        }

        #[test]
        fn bytes_of_any_kind_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for not_finite in [NotFinite::Mark, NotFinite::AsNull] {
                let _ = through(&bytes, 11, not_finite);
            }
        }
    }
}
