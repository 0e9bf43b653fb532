//! Files that appear complete or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Write a file beside its final place and move it there once it is complete and on disk, so that
/// a reader (or a crash) never meets half a file.
///
/// # Errors
/// Whatever `write` returns, and the system's errors on creating, syncing or renaming. The
/// half-written file is removed; an older file at `path` stays as it was.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    replace(path, |unfinished| {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(unfinished)?;
        let mut out = BufWriter::new(file);
        write(&mut out)?;
        out.flush()
    })
}

/// The same with a function that makes the file of the path that it is given. The file gets the
/// permissions of any new file, whatever that function gave it (safetensors: none for others, so
/// that nobody else could use a checkpoint).
///
/// # Errors
/// As [`write_atomically`].
pub fn replace_atomically(
    path: &Path,
    write: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    replace(path, |unfinished| {
        let usual = File::create_new(unfinished)?.metadata()?.permissions();
        fs::remove_file(unfinished)?;
        write(unfinished)?;
        fs::set_permissions(unfinished, usual)
    })
}

fn replace(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let unfinished = unfinished_path(path)?;
    let written = (|| {
        write(&unfinished)?;
        File::open(&unfinished)?.sync_all()?;
        fs::rename(&unfinished, path)
    })();
    if written.is_err() {
        // The first error is the one to report; a leftover is only untidy.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

/// Give a file a second name, in place of what had that name; the first stays. At no moment is there
/// neither. Where the file system knows no second names, the file is copied.
///
/// # Errors
/// The system's.
pub fn keep_as(path: &Path, kept: &Path) -> io::Result<()> {
    let unfinished = unfinished_path(kept)?;
    let done = fs::hard_link(path, &unfinished)
        .or_else(|_| fs::copy(path, &unfinished).map(drop))
        .and_then(|()| fs::rename(&unfinished, kept));
    // Renaming a file to another name of itself does nothing, and leaves the first.
    let _ = fs::remove_file(&unfinished);
    done
}

/// Remove what processes that were killed in the middle of [`write_atomically`] left in a directory.
/// The caller knows that no other process writes there now.
pub fn remove_unfinished(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_ours = name.starts_with('.') && name.contains(UNFINISHED);
        // The safetensors library has a temporary file of its own: `.tmp` and six characters.
        let is_safetensors = name.starts_with(".tmp") && name.len() == 10;
        if is_ours || is_safetensors {
            // Leftovers are only untidy.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Part of the name of every file that is not whole yet.
const UNFINISHED: &str = ".unfinished-";

/// A hidden name in the same directory, because a rename is atomic only inside one file system.
fn unfinished_path(path: &Path) -> io::Result<PathBuf> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    let mut unfinished = std::ffi::OsString::from(".");
    unfinished.push(name);
    unfinished.push(format!(
        "{UNFINISHED}{}-{}",
        std::process::id(),
        COUNTER.fetch_add(1, Ordering::Relaxed)
    ));
    Ok(path.with_file_name(unfinished))
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
        let leftover = unfinished_path(&directory.path().join("a.json")).unwrap();
        let theirs = directory.path().join(".tmpA1b2C3");
        for path in [leftover, theirs, directory.path().join(".hidden")] {
            fs::write(path, "half").unwrap();
        }
        write_atomically(&directory.path().join("a.json"), |_| Ok(())).unwrap();
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
    fn a_file_that_its_writer_kept_to_himself_gets_the_usual_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (usual, ours) = (dir.path().join("usual"), dir.path().join("ours"));
        File::create(&usual).unwrap();
        replace_atomically(&ours, |unfinished| {
            fs::write(unfinished, "weights")?;
            fs::set_permissions(unfinished, fs::Permissions::from_mode(0o600))
        })
        .unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&usual));
        assert_eq!(names(dir.path()).len(), 2);
    }
}
