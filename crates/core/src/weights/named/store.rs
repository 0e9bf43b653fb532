//! The directory of downloaded weights.

use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::{NamedWeights, Source};
use sedet_data::atomic::write_atomically;
use sedet_data::datasets::download::{Checksum, Download, DownloadError, sha256_of_file};
use sedet_data::datasets::registry::{DATA_DIR_VARIABLE, data_dir_of_user};

/// The directory of weights inside of the data directory.
pub(crate) const WEIGHTS_DIRECTORY: &str = "weights";
/// Number of hexadecimal digits of a SHA-256.
const SHA256_DIGITS: usize = 64;

/// An error about downloaded weights.
#[derive(Debug, thiserror::Error)]
pub enum NamedError {
    /// The weights are not in the store.
    #[error("{}: not downloaded", weights.name)]
    NotDownloaded {
        /// The weights.
        weights: &'static NamedWeights,
    },
    /// There is no directory to download to.
    #[error(
        "no directory for downloaded weights: {DATA_DIR_VARIABLE} is not set, and the user has no cache directory"
    )]
    NoDirectory,
    /// The download failed.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// No server has the file.
    #[error("{}: {} the file: {}", weights.name, no_server(mirror.as_deref()), listed(attempts))]
    Unavailable {
        /// The weights.
        weights: &'static NamedWeights,
        /// The mirror that was asked instead of the publisher's servers.
        mirror: Option<String>,
        /// What happened at each address.
        attempts: Vec<Attempt>,
    },
    /// A file is not the one that was downloaded.
    #[error("{}: changed since its download: its SHA-256 is {found}, expected {expected}", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// The weights that it should be.
        name: &'static str,
        /// The checksum of the download.
        expected: String,
        /// The checksum of the file.
        found: String,
    },
    /// A file that was not downloaded is not the published one.
    #[error("{}: not the published file: its {algorithm} is {found}, that of {name} begins with {expected}", path.display())]
    NotPublished {
        /// The file.
        path: PathBuf,
        /// The weights that it should be.
        name: &'static str,
        /// The name of the checksum's algorithm.
        algorithm: &'static str,
        /// The published first digits.
        expected: String,
        /// The checksum of the file.
        found: String,
    },
    /// The file cannot be read, or its checksum cannot be kept.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// An address that did not have the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The address.
    pub url: String,
    /// What the server sent instead.
    pub failure: AttemptFailure,
}

/// The answer of a server instead of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptFailure {
    /// An HTTP status.
    Status(u16),
    /// A file with another checksum than the published one. It was removed.
    WrongChecksum {
        /// The name of the checksum's algorithm.
        algorithm: &'static str,
        /// The published first digits.
        expected: String,
        /// The checksum of the file.
        found: String,
    },
    /// A file with another checksum than that of the earlier download; the publisher states none. It was
    /// removed.
    Replaced {
        /// The file that keeps the checksum of the earlier download.
        record: PathBuf,
        /// The checksum of the earlier download.
        expected: String,
        /// The checksum of the file.
        found: String,
    },
    /// The connection failed.
    Network(String),
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.url)?;
        match &self.failure {
            AttemptFailure::Status(status @ (404 | 410)) => write!(f, "(no such file, {status})"),
            AttemptFailure::Status(status) => write!(f, "(refused, status {status})"),
            AttemptFailure::WrongChecksum {
                algorithm,
                expected,
                found,
            } => write!(
                f,
                "(another file: its {algorithm} is {found}, the published one begins with {expected})"
            ),
            AttemptFailure::Replaced {
                expected, found, ..
            } => write!(
                f,
                "(not the file of the earlier download: its SHA-256 is {found}, expected {expected})"
            ),
            AttemptFailure::Network(reason) => write!(f, "(not reached: {reason})"),
        }
    }
}

/// Describes who does not have a file.
fn no_server(mirror: Option<&str>) -> String {
    match mirror {
        Some(mirror) => format!("the mirror {mirror} does not have"),
        None => "none of its servers has".to_owned(),
    }
}

fn listed(attempts: &[Attempt]) -> String {
    let attempts: Vec<String> = attempts.iter().map(Attempt::to_string).collect();
    attempts.join(", ")
}

/// A file in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    /// The file.
    pub path: PathBuf,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
    /// The checksum that its publisher states, which it has; none if the publisher states none.
    pub published: Option<Checksum>,
    /// How it came into the store.
    pub origin: FileOrigin,
    /// Where it is published, if that is not the first address of the weights and the file was downloaded now.
    pub other_address: Option<String>,
}

/// The way in which a file came into the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileOrigin {
    /// The file was downloaded now.
    New,
    /// The file was present, with the record of its checksum.
    Known,
    /// The file was present without a record, such as a file that was copied by hand. It has the published checksum,
    /// if there is one, and is recorded now.
    Adopted,
}

/// Whether weights are in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// No file has their name.
    Absent,
    /// The file has the checksum of its download, or the published one.
    Verified,
    /// The file was copied by hand, and no checksum is published.
    Unverified,
    /// The file has neither.
    Changed,
    /// The file cannot be read.
    Unreadable,
}

/// The directories of downloaded weights.
///
/// A file is `NAME.EXTENSION`. `NAME.EXTENSION.sha256` beside it has its SHA-256 in the format of
/// `sha256sum`, so that a file that changed later is detected, also where the publisher states no
/// checksum. A comment in it has the length and the time of modification at the last comparison, so that a
/// list of all weights reads only files that were touched since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// The first receives downloads.
    directories: Vec<PathBuf>,
}

impl Store {
    /// Returns the store in this directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directories: vec![directory.into()],
        }
    }

    /// Returns the user's store: `weights` in the data directory that the environment variable
    /// `SEDET_DATA` names, and `sedet/weights` in the user's cache directory. Both are searched;
    /// downloads go to the first.
    ///
    /// # Errors
    /// There is neither.
    pub fn of_user() -> Result<Self, NamedError> {
        let data = data_dir_of_user().map(|data| data.join(WEIGHTS_DIRECTORY));
        let cache = dirs::cache_dir().map(|cache| cache.join("sedet").join(WEIGHTS_DIRECTORY));
        let directories: Vec<PathBuf> = data.into_iter().chain(cache).collect();
        if directories.is_empty() {
            return Err(NamedError::NoDirectory);
        }
        Ok(Self { directories })
    }

    /// Returns the directory that receives downloads.
    pub fn directory(&self) -> &Path {
        self.directories
            .first()
            .map_or(Path::new(""), PathBuf::as_path)
    }

    /// Returns whether the weights are there and are the right ones. The file is read only if its length or
    /// time of modification is not that of the last comparison.
    pub fn presence(&self, weights: &'static NamedWeights) -> Presence {
        let is_unchanged = |(_, path): (_, PathBuf)| {
            let stamp = fs::metadata(&path).ok().and_then(|data| stamp(&data));
            let record = Record::of(&path);
            record.is_some_and(|record| stamp.is_some() && record.stamp == stamp)
        };
        if self.files(weights).any(is_unchanged) {
            return Presence::Verified;
        }
        // A use adopts such a file and reports it.
        let cannot_be_compared = |(source, path): (&Source, PathBuf)| {
            path.is_file() && source.checksum().is_none() && Record::of(&path).is_none()
        };
        if self.files(weights).any(cannot_be_compared) {
            return Presence::Unverified;
        }
        match self.find(weights) {
            Ok(_) => Presence::Verified,
            Err(NamedError::NotDownloaded { .. }) => Presence::Absent,
            Err(NamedError::Changed { .. } | NamedError::NotPublished { .. }) => Presence::Changed,
            Err(_) => Presence::Unreadable,
        }
    }

    /// Returns the paths where the file of these weights may be.
    fn files<'a>(
        &'a self,
        weights: &'a NamedWeights,
    ) -> impl Iterator<Item = (&'a Source, PathBuf)> {
        self.directories.iter().flat_map(move |directory| {
            let of_source = move |source| (source, directory.join(weights.file_name(source)));
            weights.sources.iter().map(of_source)
        })
    }

    /// Returns the file of these weights, after a comparison with the checksum of its download. A file
    /// that was put there by hand is compared with the published checksum and recorded.
    ///
    /// # Errors
    /// The file is not there, is not the one that was downloaded or published, or cannot be read.
    pub fn find(&self, weights: &'static NamedWeights) -> Result<Downloaded, NamedError> {
        let mut failure = None;
        for (source, path) in self.files(weights).filter(|(_, path)| path.is_file()) {
            match verified(weights, source, path) {
                Ok(found) => return Ok(found),
                // Another server's file of these weights may be beside it.
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(failure.unwrap_or(NamedError::NotDownloaded { weights }))
    }

    /// Downloads the weights if they are not there. An interrupted download is resumed. `progress`
    /// receives the bytes received and the total length, as far as it is known.
    ///
    /// The file must have the published checksum. Without one it must have that of an earlier download,
    /// if its record is still there. If a server does not have the file, or has another, the next one is
    /// tried. `mirror` is a server with the same paths, or a directory with the same file names.
    ///
    /// # Errors
    /// No server has the file, the connection fails, or the file cannot be written.
    pub fn download(
        &self,
        weights: &'static NamedWeights,
        mirror: Option<&str>,
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<Downloaded, NamedError> {
        match self.find(weights) {
            Ok(found) => return Ok(found),
            Err(error) if error.is_settled_by_download() => {}
            Err(error) => return Err(error),
        }
        let mut attempts = Vec::new();
        'sources: for (at, source) in weights.sources.iter().enumerate() {
            let path = self.directory().join(weights.file_name(source));
            let published = source.checksum();
            let expected = published
                .clone()
                .or_else(|| Record::of(&path).map(|record| Checksum::Sha256(record.sha256)));
            for url in source.addresses(mirror) {
                let download = Download {
                    checksum: expected.clone(),
                    ..Download::new(url, &path)
                };
                let error = match download.run(progress) {
                    Ok(()) => {
                        let found = downloaded(path, published)?;
                        let other_address = (at > 0).then(|| source.url().to_string());
                        return Ok(Downloaded {
                            other_address,
                            ..found
                        });
                    }
                    Err(error) => error,
                };
                if attempts.is_empty() && matches!(error, DownloadError::Network { .. }) {
                    return Err(error.into());
                }
                let attempt = Attempt::new(error, &path, published.is_none())?;
                // The download continues where it was; another server would begin again.
                let is_last = matches!(attempt.failure, AttemptFailure::Network(_));
                attempts.push(attempt);
                if is_last {
                    break 'sources;
                }
            }
        }
        Err(NamedError::Unavailable {
            weights,
            mirror: mirror.map(str::to_owned),
            attempts,
        })
    }
}

impl NamedError {
    /// Returns whether a download supplies the right file.
    pub fn is_settled_by_download(&self) -> bool {
        matches!(
            self,
            Self::NotDownloaded { .. } | Self::Changed { .. } | Self::NotPublished { .. }
        )
    }
}

impl Attempt {
    /// Returns what an address had instead of the file at `path`. A checksum that is not published is that
    /// of the earlier download.
    ///
    /// # Errors
    /// The failure is not that of the server.
    fn new(error: DownloadError, path: &Path, is_recorded: bool) -> Result<Self, NamedError> {
        let (url, failure) = match error {
            DownloadError::NotFound { url, status } | DownloadError::Refused { url, status } => {
                (url, AttemptFailure::Status(status))
            }
            DownloadError::Network { url, reason } => (url, AttemptFailure::Network(reason)),
            DownloadError::Checksum {
                url,
                expected,
                found,
                ..
            } if is_recorded => {
                let failure = AttemptFailure::Replaced {
                    record: record_of(path),
                    expected,
                    found,
                };
                (url, failure)
            }
            DownloadError::Checksum {
                url,
                algorithm,
                expected,
                found,
            } => {
                let failure = AttemptFailure::WrongChecksum {
                    algorithm,
                    expected,
                    found,
                };
                (url, failure)
            }
            other => return Err(other.into()),
        };
        Ok(Self { url, failure })
    }
}

/// Compares a file with its record, or else with the published checksum, and records the comparison.
fn verified(
    weights: &'static NamedWeights,
    source: &Source,
    path: PathBuf,
) -> Result<Downloaded, NamedError> {
    let read = |source| NamedError::File {
        path: path.clone(),
        source,
    };
    // Before the file is read: a file that changes meanwhile is compared again by the next list.
    let stamp = stamp(&fs::metadata(&path).map_err(read)?);
    let sha256 = sha256_of_file(&path).map_err(read)?;
    let published = source.checksum();
    let record = Record::of(&path);
    let origin = match &record {
        Some(record) if record.sha256 != sha256 => {
            return Err(NamedError::Changed {
                expected: record.sha256.clone(),
                name: weights.name,
                found: sha256,
                path,
            });
        }
        Some(_) => FileOrigin::Known,
        None => {
            if let Some(published) = &published
                && let Some(found) = published.difference(&path).map_err(read)?
            {
                return Err(NamedError::NotPublished {
                    algorithm: published.algorithm(),
                    expected: published.digits().to_owned(),
                    name: weights.name,
                    found,
                    path,
                });
            }
            FileOrigin::Adopted
        }
    };
    let compared = Record {
        sha256: sha256.clone(),
        stamp,
    };
    if record.as_ref() != Some(&compared) {
        let written = compared.write(&path);
        // A directory of other users is read only. Their record is enough.
        if origin == FileOrigin::Adopted {
            written?;
        }
    }
    Ok(Downloaded {
        path,
        sha256,
        published,
        origin,
        other_address: None,
    })
}

/// Records the checksum of a new file.
fn downloaded(path: PathBuf, published: Option<Checksum>) -> Result<Downloaded, NamedError> {
    let read = |source| NamedError::File {
        path: path.clone(),
        source,
    };
    let stamp = stamp(&fs::metadata(&path).map_err(read)?);
    let sha256 = sha256_of_file(&path).map_err(read)?;
    let record = Record {
        sha256: sha256.clone(),
        stamp,
    };
    record.write(&path)?;
    Ok(Downloaded {
        path,
        sha256,
        published,
        origin: FileOrigin::New,
        other_address: None,
    })
}

/// Returns the file that keeps the checksum of a download.
fn record_of(path: &Path) -> PathBuf {
    let mut record = path.as_os_str().to_owned();
    record.push(".sha256");
    record.into()
}

/// Describes a file without its content: the length in bytes and the time of modification. None if the file
/// system has no times.
fn stamp(metadata: &Metadata) -> Option<String> {
    let modified = metadata.modified().ok()?;
    let since = modified.duration_since(UNIX_EPOCH).ok()?;
    Some(format!(
        "{} bytes, modified {}.{:09}",
        metadata.len(),
        since.as_secs(),
        since.subsec_nanos()
    ))
}

/// The record of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    /// The SHA-256 in hexadecimal.
    sha256: String,
    /// The description of the file when it was last compared.
    stamp: Option<String>,
}

impl Record {
    /// The start of the line with the description of the file. `sha256sum --check` skips it.
    const STAMP: &str = "# compared: ";

    /// Returns the record of a file, if there is one.
    fn of(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(record_of(path)).ok()?;
        let digits = text.split_whitespace().next()?;
        let is_complete =
            digits.len() == SHA256_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let stamp = text.lines().find_map(|line| line.strip_prefix(Self::STAMP));
        is_complete.then(|| Self {
            sha256: digits.to_ascii_lowercase(),
            stamp: stamp.map(str::to_owned),
        })
    }

    /// Writes the record of a file in the format of `sha256sum`.
    fn write(&self, path: &Path) -> Result<(), NamedError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let record = record_of(path);
        let write = write_atomically(&record, |out| {
            writeln!(out, "{}  {name}", self.sha256)?;
            match &self.stamp {
                Some(stamp) => writeln!(out, "{}{stamp}", Self::STAMP),
                None => Ok(()),
            }
        });
        write.map_err(|source| NamedError::File {
            path: record.clone(),
            source,
        })
    }
}

impl NamedWeights {
    /// Returns the weights that a file in a store contains, by its name and the record beside it.
    pub fn of_file(path: &Path) -> Option<&'static Self> {
        let name = path.file_stem()?.to_str()?;
        let weights = Self::all().iter().find(|weights| weights.name == name)?;
        Record::of(path).map(|_| weights)
    }
}
