//! The file in which corrections of labels are kept, by annotation file. Several viewers can be open: a change is made to
//! what the file contains at that moment.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use sedet_data::atomic::write_atomically;
use sedet_data::curation::check::Correction;
use sedet_data::directory::create_directory;

/// Corrections by the path of their annotation file.
type Known = BTreeMap<String, Vec<Correction>>;

/// The corrections of all datasets.
#[derive(Debug, Clone, Default)]
pub struct CorrectionStore {
    /// Without it, they are kept until the viewer is closed.
    file: Option<PathBuf>,
    known: Known,
}

impl CorrectionStore {
    /// Reads the file, which may not exist yet.
    ///
    /// # Errors
    /// It cannot be read; the message names it. It is then neither used nor replaced.
    pub fn at(file: PathBuf) -> Result<Self, String> {
        let known = read(&file)?;
        Ok(Self {
            file: Some(file),
            known,
        })
    }

    /// Returns the corrections of an annotation file, in the order they were made.
    pub(crate) fn of(&self, annotation_file: &str) -> &[Correction] {
        let known = self.known.get(annotation_file);
        known.map_or(&[], Vec::as_slice)
    }

    /// Reads the corrections that other viewers have made since.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn refresh(&mut self) -> Result<(), String> {
        if let Some(file) = &self.file {
            self.known = read(file)?;
        }
        Ok(())
    }

    /// Changes the corrections of an annotation file, and writes them.
    ///
    /// # Errors
    /// The file cannot be read or written. The change is then kept until the viewer is closed.
    pub(crate) fn change(
        &mut self,
        annotation_file: &str,
        change: impl FnOnce(&mut Vec<Correction>),
    ) -> Result<(), String> {
        let file = self.file.clone();
        // Another viewer waits until this change is written.
        let _lock = file.as_deref().and_then(locked);
        let refreshed = self.refresh();
        let corrections = self.known.entry(annotation_file.to_owned()).or_default();
        change(corrections);
        if corrections.is_empty() {
            self.known.remove(annotation_file);
        }
        refreshed?;
        match &file {
            Some(file) => write(file, &self.known),
            None => Ok(()),
        }
    }
}

fn read(file: &Path) -> Result<Known, String> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Known::new()),
        Err(error) => return Err(format!("{}: {error}", file.display())),
    };
    serde_json::from_str(&text).map_err(|error| {
        format!(
            "{}: no corrections of labels: {error}; corrections are kept until the viewer is closed",
            file.display()
        )
    })
}

fn write(file: &Path, known: &Known) -> Result<(), String> {
    let named = |error: std::io::Error| format!("{}: {error}", file.display());
    let text = serde_json::to_string_pretty(known).map_err(|error| named(error.into()))?;
    write_atomically(file, |out| out.write_all(text.as_bytes())).map_err(named)
}

/// Locks the changes of a file, where the file system has locks.
fn locked(file: &Path) -> Option<File> {
    create_directory(file.parent()?).ok()?;
    let lock = File::create(file.with_extension("lock")).ok()?;
    lock.lock().ok()?;
    Some(lock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sedet_data::curation::check::LabelChange;

    fn removed(annotation_id: u64) -> Correction {
        Correction {
            image_id: 1,
            change: LabelChange::Remove { annotation_id },
        }
    }

    #[test]
    fn two_viewers_keep_the_corrections_of_both() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("sedet/corrections.json");
        let mut first = CorrectionStore::at(file.clone()).unwrap();
        let mut second = CorrectionStore::at(file.clone()).unwrap();
        first
            .change("a.json", |known| known.push(removed(1)))
            .unwrap();
        second
            .change("a.json", |known| known.push(removed(2)))
            .unwrap();
        first
            .change("b.json", |known| known.push(removed(3)))
            .unwrap();
        let next = CorrectionStore::at(file).unwrap();
        assert_eq!(next.of("a.json"), [removed(1), removed(2)]);
        assert_eq!(next.of("b.json"), [removed(3)]);
        assert_eq!(second.of("b.json"), []);
        second.refresh().unwrap();
        assert_eq!(second.of("b.json"), [removed(3)]);
        second.change("b.json", Vec::clear).unwrap();
        first.refresh().unwrap();
        assert_eq!(first.known.len(), 1);
    }

    #[test]
    fn a_damaged_file_is_named_and_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("corrections.json");
        fs::write(&file, "{").unwrap();
        let error = CorrectionStore::at(file.clone()).unwrap_err();
        assert!(
            error.contains("corrections.json: no corrections of labels"),
            "{error}"
        );
        // It is damaged while a viewer is open: what the viewer knows is not lost.
        fs::remove_file(&file).unwrap();
        let mut store = CorrectionStore::at(file.clone()).unwrap();
        store
            .change("a.json", |known| known.push(removed(1)))
            .unwrap();
        fs::write(&file, "{").unwrap();
        let changed = store.change("a.json", |known| known.push(removed(2)));
        assert!(changed.is_err());
        assert_eq!(store.of("a.json"), [removed(1), removed(2)]);
        assert_eq!(fs::read_to_string(&file).unwrap(), "{");
    }
}
