//! The directory of downloaded weights.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{NamedWeights, Source};
use sedet_data::atomic::write_atomically;
use sedet_data::datasets::download::{Checksum, Download, DownloadError, sha256_of_file};
use sedet_data::datasets::registry::DATA_DIR_VARIABLE;

/// The directory of weights inside of the data directory.
pub const WEIGHTS_DIRECTORY: &str = "weights";
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
    /// A file is not the one that was downloaded.
    #[error("{}: changed since its download: its {algorithm} is {found}, expected {expected}", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// The weights that it should be.
        name: &'static str,
        /// The name of the checksum's algorithm.
        algorithm: &'static str,
        /// The checksum of the download, or its published first digits.
        expected: String,
        /// The checksum of the file.
        found: String,
    },
    /// A server without published checksums has another file than at the earlier download.
    #[error(
        "{url}: not the file of the earlier download: its SHA-256 is {found}, expected {expected}"
    )]
    Replaced {
        /// The address.
        url: String,
        /// The file that keeps the checksum of the earlier download.
        record: PathBuf,
        /// The checksum of the earlier download.
        expected: String,
        /// The checksum of the new file, which was removed.
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

/// A file in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    /// The file.
    pub path: PathBuf,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
    /// The checksum that its publisher states, which it has; none if the publisher states none.
    pub published: Option<Checksum>,
    /// Whether it was there before.
    pub already_there: bool,
}

/// The directories of downloaded weights.
///
/// A file is `NAME.EXTENSION`. `NAME.EXTENSION.sha256` beside it has its SHA-256 in the format of
/// `sha256sum`, so that a file that changed later is detected, also where the publisher states no
/// checksum.
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
        let data = std::env::var_os(DATA_DIR_VARIABLE).filter(|value| !value.is_empty());
        let data = data.map(|data| Path::new(&data).join(WEIGHTS_DIRECTORY));
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

    /// Returns whether the weights are there, without reading the file.
    pub fn has(&self, weights: &NamedWeights) -> bool {
        self.files(weights).any(|(_, path)| path.is_file())
    }

    /// Returns the places of the file of these weights.
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
    /// that was put there by hand is compared with the published checksum.
    ///
    /// # Errors
    /// The file is not there, is not the one that was downloaded, or cannot be read.
    pub fn find(&self, weights: &'static NamedWeights) -> Result<Downloaded, NamedError> {
        let mut files = self.files(weights);
        let Some((source, path)) = files.find(|(_, path)| path.is_file()) else {
            return Err(NamedError::NotDownloaded { weights });
        };
        let changed = |algorithm, expected: &str, found| NamedError::Changed {
            path: path.clone(),
            name: weights.name,
            algorithm,
            expected: expected.to_owned(),
            found,
        };
        let read = |source| NamedError::File {
            path: path.clone(),
            source,
        };
        let sha256 = sha256_of_file(&path).map_err(read)?;
        match recorded(&path) {
            Some(expected) if expected != sha256 => {
                return Err(changed("SHA-256", &expected, sha256));
            }
            Some(_) => {}
            None => {
                if let Some(published) = source.checksum()
                    && let Some(found) = published.difference(&path).map_err(read)?
                {
                    return Err(changed(published.algorithm(), published.digits(), found));
                }
                record(&path, &sha256)?;
            }
        }
        Ok(Downloaded {
            path,
            sha256,
            published: source.checksum(),
            already_there: true,
        })
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
            Err(NamedError::NotDownloaded { .. } | NamedError::Changed { .. }) => {}
            Err(error) => return Err(error),
        }
        let mut failure = None;
        for source in weights.sources {
            let path = self.directory().join(weights.file_name(source));
            let published = source.checksum();
            let expected = published
                .clone()
                .or_else(|| recorded(&path).map(Checksum::Sha256));
            for url in source.addresses(mirror) {
                let download = Download {
                    checksum: expected.clone(),
                    ..Download::new(url, &path)
                };
                let error = match download.run(progress) {
                    Ok(()) => return downloaded(path, published),
                    Err(DownloadError::Checksum {
                        url,
                        expected,
                        found,
                        ..
                    }) if published.is_none() => NamedError::Replaced {
                        url,
                        record: record_of(&path),
                        expected,
                        found,
                    },
                    Err(error) => error.into(),
                };
                if !is_of_this_server(&error) {
                    return Err(error);
                }
                // A wrong file is reported rather than that another server has none.
                let has_none = |error: &NamedError| {
                    matches!(error, NamedError::Download(DownloadError::NotFound { .. }))
                };
                if failure
                    .as_ref()
                    .is_none_or(|old| has_none(old) && !has_none(&error))
                {
                    failure = Some(error);
                }
            }
        }
        Err(failure.unwrap_or(NamedError::NotDownloaded { weights }))
    }
}

/// Returns whether another server can have the file.
fn is_of_this_server(error: &NamedError) -> bool {
    matches!(
        error,
        NamedError::Replaced { .. }
            | NamedError::Download(
                DownloadError::NotFound { .. }
                    | DownloadError::Refused { .. }
                    | DownloadError::Checksum { .. }
            )
    )
}

/// Records the checksum of a new file.
fn downloaded(path: PathBuf, published: Option<Checksum>) -> Result<Downloaded, NamedError> {
    let sha256 = sha256_of_file(&path).map_err(|source| NamedError::File {
        path: path.clone(),
        source,
    })?;
    record(&path, &sha256)?;
    Ok(Downloaded {
        path,
        sha256,
        published,
        already_there: false,
    })
}

/// Returns the file that keeps the checksum of a download.
fn record_of(path: &Path) -> PathBuf {
    let mut record = path.as_os_str().to_owned();
    record.push(".sha256");
    record.into()
}

/// Returns the SHA-256 of a download, if it was kept.
fn recorded(path: &Path) -> Option<String> {
    let text = fs::read_to_string(record_of(path)).ok()?;
    let digits = text.split_whitespace().next()?;
    let is_complete =
        digits.len() == SHA256_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_complete.then(|| digits.to_ascii_lowercase())
}

/// Keeps the SHA-256 of a file in the format of `sha256sum`.
fn record(path: &Path, sha256: &str) -> Result<(), NamedError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let record = record_of(path);
    write_atomically(&record, |out| writeln!(out, "{sha256}  {name}")).map_err(|source| {
        NamedError::File {
            path: record.clone(),
            source,
        }
    })
}

impl NamedWeights {
    /// Returns the weights that a file in a store contains, by its name and the record beside it.
    pub fn of_file(path: &Path) -> Option<&'static Self> {
        let name = path.file_stem()?.to_str()?;
        let weights = Self::all().iter().find(|weights| weights.name == name)?;
        recorded(path).map(|_| weights)
    }
}
