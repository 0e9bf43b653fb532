//! Directories: creation, the errors of paths, and what several have in common.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Creates a directory and its parents, unless it exists.
///
/// # Errors
/// The directory cannot be created. The message has the reason in plain words, without the path.
pub fn create_directory(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path).map_err(|error| {
        let kind = error.kind();
        let reason = match kind {
            io::ErrorKind::AlreadyExists => "a file of that name exists".to_owned(),
            io::ErrorKind::NotADirectory => "a part of its path is a file".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only".to_owned(),
            io::ErrorKind::StorageFull => "the disk is full".to_owned(),
            _ => error.to_string(),
        };
        io::Error::new(kind, format!("cannot create the directory: {reason}"))
    })
}

/// Returns the directory that contains all of these directories.
pub(crate) fn common_root<'a>(roots: impl IntoIterator<Item = &'a Path>) -> PathBuf {
    let mut roots = roots.into_iter();
    let Some(first) = roots.next() else {
        return PathBuf::new();
    };
    let mut common: Vec<Component> = first.components().collect();
    for other in roots {
        let same = common.iter().zip(other.components());
        let same = same.take_while(|(a, b)| **a == *b).count();
        common.truncate(same);
    }
    common.iter().collect()
}

/// Describes a symbolic link whose target does not exist; None for anything else.
pub(crate) fn dangling_link(path: &Path) -> Option<String> {
    let target = std::fs::read_link(path).ok()?;
    (!path.exists()).then(|| {
        format!(
            "a symbolic link to {}, which does not exist",
            target.display()
        )
    })
}

/// Describes the symbolic links in a directory that lead nowhere and may be of a part of a dataset: a split, a class or
/// annotations. Those of images are found when the images are read.
pub(crate) fn dangling_parts(directory: &Path) -> Vec<String> {
    const TABLES: [&str; 4] = ["json", "csv", "yaml", "yml"];
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let links = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
    let may_be_part = |path: &Path| {
        let extension = path
            .extension()
            .map(|name| name.to_string_lossy().to_lowercase());
        extension.is_none_or(|name| TABLES.contains(&name.as_str()))
    };
    let paths = links.map(|entry| entry.path());
    let described = paths.filter(|path| may_be_part(path)).filter_map(|path| {
        let name = path.file_name()?.to_string_lossy().into_owned();
        Some(format!("{name} ({})", dangling_link(&path)?))
    });
    let mut described: Vec<String> = described.collect();
    described.sort();
    described
}

/// Returns the error of opening a file; for a dangling symbolic link, one that names its target.
pub(crate) fn open_error(path: &Path, error: io::Error) -> io::Error {
    match dangling_link(path) {
        Some(link) => io::Error::new(error.kind(), link),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_the_place_of_a_directory_is_named_as_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        create_directory(&dir.path().join("a/b")).unwrap();
        create_directory(&dir.path().join("a/b")).unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let message = |path: &Path| create_directory(path).unwrap_err().to_string();
        assert_eq!(
            message(&file),
            "cannot create the directory: a file of that name exists"
        );
        assert_eq!(
            message(&file.join("b")),
            "cannot create the directory: a part of its path is a file"
        );
    }
}
