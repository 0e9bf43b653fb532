//! Atomic file writes: no reader ever sees a partial file, even after a crash.
//!
//! A file is written under a hidden temporary name in the directory of its destination, synced to
//! disk and renamed. Every error removes the temporary file; a killed process leaves it, and
//! [`remove_unfinished`] removes it later.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use tempfile::{Builder, NamedTempFile};

/// Writes a file atomically: it is created, or replaces an existing one, only when it is complete
/// and on disk.
///
/// # Errors
/// The error of `write`, or of creating, syncing or renaming the file. An existing file at `path`
/// is unchanged.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut temporary = create_beside(path, |temporary| File::create_new(temporary))?;
    // The plain file: tempfile's own writer would add the temporary path to every error message.
    let mut out = BufWriter::new(temporary.as_file_mut());
    write(&mut out)?;
    out.flush()?;
    drop(out);
    temporary.as_file().sync_all()?;
    persist(temporary, path)
}

/// Replaces a file atomically by the one that `write` creates at the path it receives.
///
/// The file gets the permissions of any new file, whatever `write` sets: safetensors makes files
/// readable by their owner only, so that a checkpoint could not be shared.
///
/// # Errors
/// As [`write_atomically`].
pub fn replace_atomically(
    path: &Path,
    write: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = create_beside(path, |temporary| File::create_new(temporary))?;
    let usual = temporary.as_file().metadata()?.permissions();
    write(temporary.path())?;
    fs::set_permissions(temporary.path(), usual)?;
    // Opened again: `write` may have replaced the first file.
    File::open(temporary.path())?.sync_all()?;
    persist(temporary, path)
}

/// Gives a file a second name, replacing any existing file of that name. Both names exist at all
/// times. Where the file system has no hard links, the file is copied.
///
/// # Errors
/// Linking, copying or renaming fails.
pub fn keep_as(path: &Path, kept: &Path) -> io::Result<()> {
    let temporary = create_beside(kept, |temporary| {
        fs::hard_link(path, temporary).or_else(|_| fs::copy(path, temporary).map(drop))
    })?;
    let name = temporary.path().to_owned();
    let renamed = persist(temporary, kept);
    // Renaming a file to another name of itself does nothing and leaves the temporary name, which
    // tempfile reports as success.
    let _ = fs::remove_file(name);
    renamed
}

/// Removes the temporary files that killed processes have left in a directory. No other process may
/// be writing to the directory.
pub fn remove_unfinished(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_own = name.starts_with('.') && name.contains(UNFINISHED);
        // The safetensors library has a temporary file of its own: `.tmp` and six characters.
        let is_of_safetensors = name.starts_with(".tmp") && name.len() == 10;
        if is_own || is_of_safetensors {
            // A leftover only takes space.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Prefix in the name of every temporary file.
const UNFINISHED: &str = ".unfinished-";

/// Creates a file with a hidden temporary name in the directory of `path`, because a rename is
/// atomic only within one file system.
///
/// The file is created by `create` and not by tempfile, which would make it readable by its owner
/// alone.
fn create_beside<F>(
    path: &Path,
    create: impl FnMut(&Path) -> io::Result<F>,
) -> io::Result<NamedTempFile<F>> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(name);
    prefix.push(UNFINISHED);
    let directory = path.parent().unwrap_or(Path::new(""));
    Builder::new().prefix(&prefix).make_in(directory, create)
}

fn persist<F>(temporary: NamedTempFile<F>, path: &Path) -> io::Result<()> {
    temporary
        .persist(path)
        .map(drop)
        .map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn the_file_holds_what_was_written_and_nothing_else_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        write_atomically(&path, |out| out.write_all(b"whole")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(names(directory.path()), ["a.json"]);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        fs::write(&path, "old").unwrap();
        let failed = write_atomically(&path, |out| {
            out.write_all(b"half")?;
            Err(io::Error::other("full"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "full");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names(directory.path()), ["a.json"]);
    }

    #[test]
    fn leftovers_of_killed_processes_are_removed_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        // As a killed process: its temporary file is never dropped.
        let killed = create_beside(&path, |temporary| File::create_new(temporary)).unwrap();
        killed.keep().unwrap();
        for name in [".tmpA1b2C3", ".hidden"] {
            fs::write(directory.path().join(name), "half").unwrap();
        }
        assert_eq!(names(directory.path()).len(), 3);
        write_atomically(&path, |_| Ok(())).unwrap();
        remove_unfinished(directory.path());
        let mut left = names(directory.path());
        left.sort();
        assert_eq!(left, [".hidden", "a.json"]);
    }

    #[test]
    fn a_kept_file_outlives_the_replacement_of_its_first_name() {
        let directory = tempfile::tempdir().unwrap();
        let (last, previous) = (
            directory.path().join("last"),
            directory.path().join("previous"),
        );
        for text in ["one", "two", "three"] {
            if last.exists() {
                keep_as(&last, &previous).unwrap();
                keep_as(&last, &previous).unwrap();
            }
            write_atomically(&last, |out| out.write_all(text.as_bytes())).unwrap();
        }
        assert_eq!(fs::read_to_string(&previous).unwrap(), "two");
        assert_eq!(fs::read_to_string(&last).unwrap(), "three");
        assert_eq!(names(directory.path()).len(), 2);
        assert!(keep_as(&directory.path().join("none"), &previous).is_err());
        assert_eq!(fs::read_to_string(&previous).unwrap(), "two");
    }

    #[test]
    fn a_path_without_a_file_name_is_an_error() {
        assert!(write_atomically(Path::new("/"), |_| Ok(())).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_its_writer_made_private_gets_the_usual_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (usual, replaced) = (dir.path().join("usual"), dir.path().join("replaced"));
        File::create(&usual).unwrap();
        replace_atomically(&replaced, |unfinished| {
            fs::write(unfinished, "weights")?;
            fs::set_permissions(unfinished, fs::Permissions::from_mode(0o600))
        })
        .unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&replaced), mode(&usual));
        assert_eq!(names(dir.path()).len(), 2);
    }
}
