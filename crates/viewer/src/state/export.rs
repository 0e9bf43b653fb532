//! Exports: files that a panel writes of what it shows.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::ViewerState;
use sedet_core::render::RenderError;
use sedet_data::atomic::write_atomically;
use sedet_data::directory::create_directory;

/// An entry of the export menu.
#[derive(Debug)]
pub struct Export {
    /// The label in the menu.
    pub name: &'static str,
    /// Writes the files; an error names what is missing or the file that was not written.
    pub write: fn(&ViewerState, &mut ExportFiles) -> Result<(), String>,
}

impl Export {
    /// Writes the files into the export directory and returns their paths.
    pub(crate) fn run(&self, state: &ViewerState) -> Result<Vec<PathBuf>, String> {
        // Two exports at the same time would choose the same free names.
        static EXPORTS: Mutex<()> = Mutex::new(());
        let _one = EXPORTS.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = &state.settings.export_directory;
        create_directory(directory).map_err(|e| format!("{}: {e}", directory.display()))?;
        let mut files = ExportFiles {
            directory: directory.clone(),
            paths: Vec::new(),
        };
        (self.write)(state, &mut files)?;
        Ok(files.paths)
    }
}

/// The files of an export.
#[derive(Debug)]
pub struct ExportFiles {
    directory: PathBuf,
    paths: Vec<PathBuf>,
}

impl ExportFiles {
    /// Returns a directory for files with names of their own: that of the exports if it has none of them yet,
    /// otherwise a new one inside it.
    pub(crate) fn directory_for(&self, name: &str, files: &[&str]) -> Result<PathBuf, String> {
        if files.iter().all(|file| !self.directory.join(file).exists()) {
            return Ok(self.directory.clone());
        }
        let path = self.free(name);
        create_directory(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(path)
    }

    /// Returns the path of a file with this name, or with a number after it where a file of an earlier export
    /// has the name: an export never replaces another one.
    fn free(&self, name: &str) -> PathBuf {
        let (stem, extension) = match name.rsplit_once('.') {
            Some((stem, extension)) => (stem, format!(".{extension}")),
            None => (name, String::new()),
        };
        let names = (2u32..).map(|number| format!("{stem}-{number}{extension}"));
        let names = std::iter::once(name.to_owned()).chain(names);
        let mut paths = names.map(|name| self.directory.join(name));
        let free = paths.find(|path| !path.exists());
        free.unwrap_or_else(|| self.directory.join(name))
    }

    /// Adds files that have been written.
    pub(crate) fn add(&mut self, paths: impl IntoIterator<Item = PathBuf>) {
        self.paths.extend(paths);
    }

    /// Writes an image or a figure.
    pub(crate) fn image(
        &mut self,
        name: &str,
        save: impl FnOnce(&Path) -> Result<(), RenderError>,
    ) -> Result<(), String> {
        let path = self.free(name);
        save(&path).map_err(|e| e.to_string())?;
        self.paths.push(path);
        Ok(())
    }

    /// Writes a figure as PNG and as SVG.
    pub(crate) fn figure(
        &mut self,
        stem: &str,
        save: impl Fn(&Path) -> Result<(), RenderError>,
    ) -> Result<(), String> {
        for extension in ["png", "svg"] {
            self.image(&format!("{stem}.{extension}"), &save)?;
        }
        Ok(())
    }

    /// Writes a text file.
    pub(crate) fn text(&mut self, name: &str, text: &str) -> Result<(), String> {
        let path = self.free(name);
        write_atomically(&path, |out| out.write_all(text.as_bytes()))
            .map_err(|e| format!("{}: {e}", path.display()))?;
        self.paths.push(path);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_never_replaces_an_earlier_one() {
        let directory = tempfile::tempdir().unwrap();
        let mut files = ExportFiles {
            directory: directory.path().into(),
            paths: Vec::new(),
        };
        for text in ["first", "second", "third"] {
            files.text("a.b.csv", text).unwrap();
        }
        let names = files.paths.iter().filter_map(|path| path.file_name());
        let names: Vec<_> = names
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["a.b.csv", "a.b-2.csv", "a.b-3.csv"]);
        let first = std::fs::read_to_string(&files.paths[0]).unwrap();
        assert_eq!(first, "first");
        let same = files.directory_for("gates", &["c.csv"]).unwrap();
        assert_eq!(same, directory.path());
        let new = files.directory_for("gates", &["a.b.csv"]).unwrap();
        assert_eq!(new, directory.path().join("gates"));
    }
}
