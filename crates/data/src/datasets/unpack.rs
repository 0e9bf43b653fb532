//! Unpacking of archives; an interrupted run continues with the next file.
//!
//! Every file is written under a temporary name and then renamed: a file with its final name and
//! length is complete, and the next run keeps it. Nothing is written outside of the directory: an
//! archive with an absolute path, a `..` or a link is refused.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Component, Path, PathBuf};

use zip::ZipArchive;

/// The temporary name of a file that is being written, directly in the directory.
const UNFINISHED: &str = ".unfinished";

/// The format of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveKind {
    /// Zip; the checksum of every file is verified.
    Zip,
    /// Tar, not compressed.
    Tar,
}

/// The reason why an archive could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive is damaged, or contains an entry that must not be unpacked.
    #[error("{0}")]
    Archive(String),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Disk {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl UnpackError {
    fn disk(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Disk { path, source }
    }

    fn damaged(reason: impl std::fmt::Display) -> Self {
        Self::Archive(format!("it is damaged: {reason}"))
    }
}

/// Unpacks those files of an archive that are `wanted`, by their paths in it, into `directory`.
/// `progress` receives the number of bytes processed and that of all files, selected or not.
///
/// # Errors
/// See [`UnpackError`]. Files unpacked before the error are kept for the next run.
pub fn unpack(
    archive: &Path,
    kind: ArchiveKind,
    directory: &Path,
    wanted: &dyn Fn(&Path) -> bool,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<(), UnpackError> {
    let file = File::open(archive).map_err(UnpackError::disk(archive))?;
    fs::create_dir_all(directory).map_err(UnpackError::disk(directory))?;
    match kind {
        ArchiveKind::Zip => unpack_zip(file, directory, wanted, progress),
        ArchiveKind::Tar => {
            let length = file.metadata().map_err(UnpackError::disk(archive))?.len();
            unpack_tar(file, length, directory, wanted, progress)
        }
    }
}

fn unpack_zip(
    file: File,
    directory: &Path,
    wanted: &dyn Fn(&Path) -> bool,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<(), UnpackError> {
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(UnpackError::damaged)?;
    let total = archive
        .decompressed_size()
        .and_then(|bytes| bytes.try_into().ok());
    let mut done = 0;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(UnpackError::damaged)?;
        let name = entry.name().map_err(UnpackError::damaged)?.into_owned();
        let path = inside(Path::new(&name))?;
        let size = entry.size();
        if !entry.is_dir() && wanted(&path) {
            if entry.is_symlink() {
                return Err(not_a_plain_file(&path));
            }
            write_entry(directory, &path, size, &mut entry)?;
        }
        done += size;
        progress(done, total);
    }
    Ok(())
}

fn unpack_tar(
    file: File,
    length: u64,
    directory: &Path,
    wanted: &dyn Fn(&Path) -> bool,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<(), UnpackError> {
    let mut archive = tar::Archive::new(file);
    // Seeks over the files that are there already instead of reading them.
    for entry in archive.entries_with_seek().map_err(UnpackError::damaged)? {
        let mut entry = entry.map_err(UnpackError::damaged)?;
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            continue;
        }
        let path = inside(&entry.path().map_err(UnpackError::damaged)?)?;
        let end = entry.raw_file_position() + entry.size();
        if !kind.is_dir() && wanted(&path) {
            if !kind.is_file() {
                return Err(not_a_plain_file(&path));
            }
            write_entry(directory, &path, entry.size(), &mut entry)?;
        }
        progress(end, Some(length));
    }
    progress(length, Some(length));
    Ok(())
}

fn not_a_plain_file(path: &Path) -> UnpackError {
    UnpackError::Archive(format!(
        "{} is a link or not a regular file",
        path.display()
    ))
}

/// Returns an archive's path without `.`; a path that leads out of the directory is an error.
fn inside(path: &Path) -> Result<PathBuf, UnpackError> {
    let mut kept = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => kept.push(part),
            Component::CurDir => {}
            _ => {
                let path = path.display();
                return Err(UnpackError::Archive(format!("{path} points outside of it")));
            }
        }
    }
    Ok(kept)
}

/// Writes a file without syncing it to disk, which would take hours for a million files.
fn write_entry(
    directory: &Path,
    path: &Path,
    size: u64,
    entry: &mut dyn Read,
) -> Result<(), UnpackError> {
    let target = directory.join(path);
    if fs::metadata(&target).is_ok_and(|metadata| metadata.is_file() && metadata.len() == size) {
        return Ok(());
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).map_err(UnpackError::disk(parent))?;
    }
    let unfinished = directory.join(UNFINISHED);
    let mut out = File::create(&unfinished).map_err(UnpackError::disk(&unfinished))?;
    let mut buffer = vec![0; 64 * 1024];
    let mut written = 0;
    // To the end even if the size is reached, because the zip reader verifies the checksum there.
    loop {
        let count = match entry.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let path = path.display();
                return Err(UnpackError::damaged(format!("{path}: {error}")));
            }
        };
        written += count as u64;
        if written > size {
            break;
        }
        out.write_all(&buffer[..count])
            .map_err(UnpackError::disk(&unfinished))?;
    }
    if written != size {
        let path = path.display();
        return Err(UnpackError::damaged(format!(
            "{path} does not have the expected size of {size} bytes"
        )));
    }
    drop(out);
    fs::rename(&unfinished, &target).map_err(UnpackError::disk(&target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_inside_of_the_directory_are_taken() {
        for (path, expected) in [
            ("a/b.jpg", Some("a/b.jpg")),
            ("./a//b.jpg", Some("a/b.jpg")),
            ("a/", Some("a")),
            ("../a", None),
            ("a/../../b", None),
            ("a/../b", None),
            ("/a", None),
        ] {
            let found = inside(Path::new(path)).ok();
            assert_eq!(found.as_deref(), expected.map(Path::new), "{path}");
        }
    }
}
