//! Resumable downloads.
//!
//! Bytes are written to `NAME.part`, and their origin (address and validator) to
//! `NAME.part.source`; the next run requests the rest with `Range` and `If-Range` (RFC 9110,
//! sections 13.1.5 and 14), so a resource that changed in between is downloaded again instead of
//! being combined from two versions. `NAME` is created only when the download is complete.

use md5::Md5;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Number of consecutive attempts without new data after which the download fails.
const ATTEMPTS: u32 = 5;
/// The pause after the first failed attempt; doubled after each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The default of [`Download::silence`].
const SILENCE: Duration = Duration::from_secs(30);

/// A file to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// The address: `http://` or `https://`.
    pub url: String,
    /// The destination; missing directories are created.
    pub destination: PathBuf,
    /// The checksum of the complete file, if known.
    pub checksum: Option<Checksum>,
    /// The length of the complete file in bytes, if known.
    pub expected_bytes: Option<u64>,
    /// The maximum length in bytes; longer files are refused.
    pub max_bytes: Option<u64>,
    /// The timeout: a server that sends no data for this long counts as a dropped connection.
    pub silence: Duration,
}

/// The checksum that a file must have: the digest in hexadecimal, or its first digits, which
/// publishers of weights put into file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checksum {
    /// SHA-256.
    Sha256(String),
    /// MD5, against transmission errors only.
    Md5(String),
}

impl Checksum {
    /// Returns the name of the algorithm.
    pub const fn algorithm(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "SHA-256",
            Self::Md5(_) => "MD5",
        }
    }

    /// Returns the expected digits.
    pub fn digits(&self) -> &str {
        match self {
            Self::Sha256(digits) | Self::Md5(digits) => digits.trim(),
        }
    }

    /// Returns the digest of a file if it differs, and `None` if the file is the expected one.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn difference(&self, path: &Path) -> io::Result<Option<String>> {
        let found = match self {
            Self::Sha256(_) => digest_of_file::<Sha256>(path)?,
            Self::Md5(_) => digest_of_file::<Md5>(path)?,
        };
        let expected = self.digits().to_ascii_lowercase();
        let is_expected = !expected.is_empty() && found.starts_with(&expected);
        Ok((!is_expected).then_some(found))
    }
}

/// The reason why a download failed.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The address is invalid.
    #[error("{url}: not an address that can be fetched ({reason})")]
    Address {
        /// The address.
        url: String,
        /// The problem.
        reason: String,
    },
    /// The server does not have the file.
    #[error("{url}: the server has no such file ({status})")]
    NotFound {
        /// The address.
        url: String,
        /// 404 or 410.
        status: u16,
    },
    /// The server refused the request.
    #[error("{url}: the server refused the request with status {status}")]
    Refused {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The network or the server failed repeatedly.
    #[error("{url}: {reason}, after {ATTEMPTS} attempts")]
    Network {
        /// The address.
        url: String,
        /// The last failure.
        reason: String,
    },
    /// The file exceeds the size limit.
    #[error("{url}: longer than the {max_bytes} bytes allowed here")]
    TooLong {
        /// The address.
        url: String,
        /// The limit.
        max_bytes: u64,
    },
    /// The checksum is wrong; the file was removed.
    #[error(
        "{url}: wrong checksum, expected {algorithm} {expected}, got {found}; the file was removed"
    )]
    Checksum {
        /// The address.
        url: String,
        /// The name of the algorithm.
        algorithm: &'static str,
        /// Expected checksum in hexadecimal, or its first digits.
        expected: String,
        /// Actual checksum, in hexadecimal.
        found: String,
    },
    /// The length is wrong; the file was removed.
    #[error("{url}: wrong length, expected {expected} bytes, got {found}; the file was removed")]
    Length {
        /// The address.
        url: String,
        /// Expected length, in bytes.
        expected: u64,
        /// Actual length in bytes, as announced or as received.
        found: u64,
    },
    /// The file could not be written.
    #[error("{url}: cannot write {}: {source}", path.display())]
    Disk {
        /// The address.
        url: String,
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// The failure of one attempt.
enum Failure {
    /// A retry may help.
    Temporary(String),
    Final(DownloadError),
}

impl From<DownloadError> for Failure {
    fn from(error: DownloadError) -> Self {
        Self::Final(error)
    }
}

impl Download {
    /// Creates a download of the file at `url` to `destination`, of unknown length and checksum.
    pub fn new(url: impl Into<String>, destination: impl Into<PathBuf>) -> Self {
        Self {
            url: url.into(),
            destination: destination.into(),
            checksum: None,
            expected_bytes: None,
            max_bytes: None,
            silence: SILENCE,
        }
    }

    /// Fetches the file, resuming an earlier interrupted run. `progress` receives the number of
    /// bytes received and, if the server sends it, the total length; the number of bytes is reset
    /// to 0 if the server restarts the download.
    ///
    /// An existing file at the destination is kept if it has the expected length and checksum, as
    /// far as they are given: only complete files get that name.
    ///
    /// The proxy is read from `ALL_PROXY`, `HTTPS_PROXY` or `HTTP_PROXY`, except for hosts in
    /// `NO_PROXY`.
    ///
    /// # Errors
    /// See [`DownloadError`].
    pub fn run(&self, progress: &mut dyn FnMut(u64, Option<u64>)) -> Result<(), DownloadError> {
        if self.is_there()? {
            let length = file_length(&self.destination);
            progress(length, Some(length));
            return Ok(());
        }
        if let Some(directory) = self.destination.parent() {
            fs::create_dir_all(directory).map_err(|source| self.disk(directory, source))?;
        }
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(self.silence))
            .timeout_recv_response(Some(self.silence))
            .timeout_per_read(Some(self.silence))
            .user_agent(concat!("sedet/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        let (mut furthest, mut failures) = (self.bytes_received(), 0);
        loop {
            let reason = match self.attempt(&agent, progress) {
                Ok(()) => return self.finish(),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Temporary(reason)) => reason,
            };
            // Only new data resets the count, so the loop ends even if a server drops every
            // connection and cannot resume.
            let reached = self.bytes_received();
            failures = if reached > furthest { 1 } else { failures + 1 };
            furthest = furthest.max(reached);
            if failures >= ATTEMPTS {
                return Err(DownloadError::Network {
                    url: self.url.clone(),
                    reason,
                });
            }
            std::thread::sleep(FIRST_PAUSE * 2u32.pow(failures - 1));
        }
    }

    /// Returns whether the destination has the expected length and checksum, as far as they are
    /// given. The length is compared first, so a file of another length is not read.
    ///
    /// # Errors
    /// The destination is a directory or cannot be read.
    pub fn is_there(&self) -> Result<bool, DownloadError> {
        let Ok(metadata) = fs::metadata(&self.destination) else {
            return Ok(false);
        };
        if metadata.is_dir() {
            let source = io::Error::from(io::ErrorKind::IsADirectory);
            return Err(self.disk(&self.destination, source));
        }
        Ok(self
            .expected_bytes
            .is_none_or(|bytes| bytes == metadata.len())
            && self.wrong_checksum(&self.destination)?.is_none())
    }

    /// Sends one request and reads its body as far as possible; `Ok` if the partial file is
    /// complete.
    fn attempt(
        &self,
        agent: &ureq::Agent,
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<(), Failure> {
        let validator = self.validator();
        // Without a validator the rest may belong to another version.
        let have = validator.as_ref().map_or(0, |_| self.bytes_received());
        let mut request = agent.get(&self.url).header("accept-encoding", "identity");
        if let (Some(validator), 1..) = (&validator, have) {
            request = request.header("range", format!("bytes={have}-"));
            if validator != CHECKSUM_DECIDES {
                request = request.header("if-range", validator);
            }
        }
        let response = request.call().map_err(|error| self.classify(&error))?;
        let header = |name: &str| {
            let value = response.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let content_range = header("content-range");
        let done = match response.status().as_u16() {
            200 => 0,
            206 => {
                let start = content_range.as_deref().and_then(range_start);
                if start != Some(have) || !same_version(validator.as_deref(), &header) {
                    self.forget_part();
                    return Err(Failure::Temporary(
                        "the server sent a part that does not fit the partial file".into(),
                    ));
                }
                have
            }
            // The server has no further bytes: complete, if the lengths agree.
            416 if have > 0 => {
                let total = content_range.as_deref().and_then(range_total);
                if total == Some(have) && same_version(validator.as_deref(), &header) {
                    return Ok(());
                }
                self.forget_part();
                return Err(Failure::Temporary("the file changed on the server".into()));
            }
            status => return Err(self.refused(status)),
        };
        let total = match done {
            0 if content_range.is_none() => header("content-length").and_then(|v| v.parse().ok()),
            _ => content_range.as_deref().and_then(range_total),
        };
        if let (Some(expected), Some(found)) = (self.expected_bytes, total)
            && expected != found
        {
            return Err(self.wrong_length(expected, found).into());
        }
        let total = total.or(self.expected_bytes);
        self.check_length(total.unwrap_or(0))?;
        if done == 0 {
            self.start_part(strong_validator(header("etag"), header("last-modified")))?;
        }
        let body = response.into_body().into_reader();
        self.receive(body, (done, total), progress)
    }

    /// Returns the failure of a request that the server answers with this status instead of the file.
    fn refused(&self, status: u16) -> Failure {
        let url = self.url.clone();
        match status {
            404 | 410 => DownloadError::NotFound { url, status }.into(),
            408 | 425 | 429 | 500.. => {
                Failure::Temporary(format!("the server answered with status {status}"))
            }
            _ => DownloadError::Refused { url, status }.into(),
        }
    }

    /// Appends a body to the partial file, which has `done` bytes, of `total` if that is known.
    fn receive(
        &self,
        mut body: impl io::Read,
        (mut done, total): (u64, Option<u64>),
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<(), Failure> {
        let part = self.beside("part");
        let mut file = OpenOptions::new()
            .append(true)
            .open(&part)
            .map_err(|source| self.disk(&part, source))?;
        progress(done, total);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = match body.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::Temporary(format!("connection lost ({error})"))),
            };
            if count == 0 {
                break;
            }
            self.check_length(done + count as u64)?;
            if let Some(expected) = self.expected_bytes
                && done + count as u64 > expected
            {
                return Err(self.wrong_length(expected, done + count as u64).into());
            }
            file.write_all(&buffer[..count])
                .map_err(|source| self.disk(&part, source))?;
            done += count as u64;
            progress(done, total);
        }
        file.sync_all().map_err(|source| self.disk(&part, source))?;
        match total {
            Some(total) if done < total => Err(Failure::Temporary(format!(
                "connection lost after {done} of {total} bytes"
            ))),
            Some(total) if done > total => {
                self.forget_part();
                Err(Failure::Temporary("more bytes than announced".into()))
            }
            _ => Ok(()),
        }
    }

    /// Verifies the complete partial file and renames it to its final name.
    fn finish(&self) -> Result<(), DownloadError> {
        let part = self.beside("part");
        let found = self.bytes_received();
        if let Some(expected) = self.expected_bytes
            && expected != found
        {
            return Err(self.wrong_length(expected, found));
        }
        if let Some((expected, found)) = self.wrong_checksum(&part)? {
            self.forget_part();
            return Err(DownloadError::Checksum {
                url: self.url.clone(),
                algorithm: expected.algorithm(),
                expected: expected.digits().to_owned(),
                found,
            });
        }
        fs::rename(&part, &self.destination)
            .map_err(|source| self.disk(&self.destination, source))?;
        self.forget_part();
        Ok(())
    }

    fn check_length(&self, bytes: u64) -> Result<(), DownloadError> {
        match self.max_bytes {
            Some(max_bytes) if bytes > max_bytes => {
                self.forget_part();
                let url = self.url.clone();
                Err(DownloadError::TooLong { url, max_bytes })
            }
            _ => Ok(()),
        }
    }

    fn wrong_length(&self, expected: u64, found: u64) -> DownloadError {
        self.forget_part();
        DownloadError::Length {
            url: self.url.clone(),
            expected,
            found,
        }
    }

    /// Classifies failures of the request itself, before any body.
    fn classify(&self, error: &ureq::Error) -> Failure {
        match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                Failure::Final(DownloadError::Address {
                    url: self.url.clone(),
                    reason: error.to_string(),
                })
            }
            ureq::Error::HostNotFound => Failure::Temporary("host not found".into()),
            other => Failure::Temporary(format!("no answer ({other})")),
        }
    }

    fn disk(&self, path: &Path, source: io::Error) -> DownloadError {
        DownloadError::Disk {
            url: self.url.clone(),
            path: path.to_owned(),
            source,
        }
    }

    /// Returns `NAME.suffix` beside the destination.
    fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = self.destination.clone().into_os_string();
        path.push(".");
        path.push(suffix);
        path.into()
    }

    /// Returns the length in bytes of the partial file of an interrupted run.
    pub(crate) fn bytes_received(&self) -> u64 {
        file_length(&self.beside("part"))
    }

    /// Returns the validator of the bytes received, if they came from this address.
    fn validator(&self) -> Option<String> {
        let text = fs::read_to_string(self.beside("part.source")).ok()?;
        let (url, validator) = text.trim_end().split_once('\n')?;
        (url == self.url).then(|| validator.to_owned())
    }

    /// Creates an empty partial file and saves its validator, so that a later run can resume it.
    fn start_part(&self, validator: Option<String>) -> Result<(), DownloadError> {
        self.forget_part();
        let (part, source_note) = (self.beside("part"), self.beside("part.source"));
        File::create(&part).map_err(|source| self.disk(&part, source))?;
        // Without either, the rest may belong to another version, and nothing would tell.
        let by_checksum = self.checksum.as_ref().map(|_| CHECKSUM_DECIDES.to_owned());
        if let Some(validator) = validator.or(by_checksum) {
            fs::write(&source_note, format!("{}\n{validator}\n", self.url))
                .map_err(|source| self.disk(&source_note, source))?;
        }
        Ok(())
    }

    /// Removes the partial file and its validator file. A file that cannot be removed is
    /// overwritten later, or that failure is reported.
    fn forget_part(&self) {
        // The validator file first: bytes without it are never resumed.
        let _ = fs::remove_file(self.beside("part.source"));
        let _ = fs::remove_file(self.beside("part"));
    }

    /// Returns the expected checksum and that of the file, if they differ.
    fn wrong_checksum(&self, path: &Path) -> Result<Option<(&Checksum, String)>, DownloadError> {
        let Some(expected) = &self.checksum else {
            return Ok(None);
        };
        let difference = expected.difference(path);
        let found = difference.map_err(|source| self.disk(path, source))?;
        Ok(found.map(|found| (expected, found)))
    }
}

/// The validator of a file from a server that sends none: a part of another version is found by the checksum of the
/// whole.
const CHECKSUM_DECIDES: &str = "-";

/// Returns the length in bytes; 0 for a missing file.
fn file_length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Returns the SHA-256 of `bytes` in lower-case hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Returns the SHA-256 of a file in lower-case hexadecimal, read in chunks.
///
/// # Errors
/// The file cannot be read.
pub fn sha256_of_file(path: &Path) -> io::Result<String> {
    digest_of_file::<Sha256>(path)
}

/// Returns the digest of a file in lower-case hexadecimal.
fn digest_of_file<D: Digest>(path: &Path) -> io::Result<String> {
    let (mut file, mut hasher) = (File::open(path)?, D::new());
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hasher.finalize())),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the value for `If-Range`: a strong ETag, else the date.
fn strong_validator(etag: Option<String>, last_modified: Option<String>) -> Option<String> {
    etag.filter(|tag| tag.starts_with('"')).or(last_modified)
}

/// Returns whether the response to a request with `If-Range` is for the version of `validator`; a
/// response need not repeat the header.
fn same_version(validator: Option<&str>, header: &dyn Fn(&str) -> Option<String>) -> bool {
    validator.is_some_and(|validator| {
        if validator == CHECKSUM_DECIDES {
            return true;
        }
        let name = if validator.starts_with('"') {
            "etag"
        } else {
            "last-modified"
        };
        header(name).is_none_or(|now| now == validator)
    })
}

/// Parses `7` from `bytes 7-9/10`.
fn range_start(content_range: &str) -> Option<u64> {
    let range = content_range.trim().strip_prefix("bytes ")?;
    range.split_once('-')?.0.trim().parse().ok()
}

/// Parses `10` from `bytes 7-9/10` or `bytes */10`.
fn range_total(content_range: &str) -> Option<u64> {
    content_range.rsplit_once('/')?.1.trim().parse().ok()
}
