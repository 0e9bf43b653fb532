//! Exports: files that a panel writes of what it shows.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use image::RgbImage;

use super::ViewerState;
use sedet_core::render::{FigureFile, RenderError};
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
    /// Writes the files into the export directory.
    pub(crate) fn run(&self, state: &ViewerState) -> Result<ExportFiles, String> {
        // Two exports at the same time would choose the same free names.
        static EXPORTS: Mutex<()> = Mutex::new(());
        let _one = EXPORTS.lock().unwrap_or_else(PoisonError::into_inner);
        self.run_in(&state.settings.export_directory, state)
    }

    /// Returns the first of these exports that writes images of pixels, as an image.
    pub(crate) fn first_image(exports: &[Self], state: &ViewerState) -> Result<RgbImage, String> {
        let mut images = exports.iter().filter(|export| export.name.contains("PNG"));
        let export = images.next().ok_or("this page has no image to copy")?;
        let directory = tempfile::tempdir().map_err(|e| format!("no temporary directory: {e}"))?;
        let paths = export.run_in(directory.path(), state)?.paths;
        let is_image = |path: &&PathBuf| path.extension().is_some_and(|name| name == "png");
        let path = paths
            .iter()
            .find(is_image)
            .ok_or("there is no image to copy")?;
        let image = image::open(path).map_err(|e| format!("{}: {e}", export.name))?;
        Ok(image.into_rgb8())
    }

    fn run_in(&self, directory: &Path, state: &ViewerState) -> Result<ExportFiles, String> {
        create_directory(directory).map_err(|e| format!("{}: {e}", directory.display()))?;
        let mut files = ExportFiles {
            directory: directory.to_path_buf(),
            scale: state.settings.export_scale,
            paths: Vec::new(),
            notes: Vec::new(),
        };
        (self.write)(state, &mut files)?;
        Ok(files)
    }
}

/// The files of an export.
#[derive(Debug)]
pub struct ExportFiles {
    directory: PathBuf,
    scale: Option<u32>,
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) notes: Vec<String>,
}

impl ExportFiles {
    /// Returns a message with the paths of the files.
    pub(crate) fn message(&self) -> String {
        let paths = self.paths.iter().map(|path| path.display().to_string());
        let paths: Vec<String> = paths.collect();
        let notes = self.notes.iter().map(|note| format!("; {note}"));
        format!("wrote {}{}", paths.join(", "), notes.collect::<String>())
    }

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
        self.file(name, |path| save(path).map_err(|e| e.to_string()))
    }

    /// Writes a file.
    pub(crate) fn file(
        &mut self,
        name: &str,
        save: impl FnOnce(&Path) -> Result<(), String>,
    ) -> Result<(), String> {
        let path = self.free(name);
        save(&path)?;
        self.paths.push(path);
        Ok(())
    }

    /// Adds a sentence to the message about the files.
    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Writes a figure as PNG and as SVG.
    pub(crate) fn figure(
        &mut self,
        stem: &str,
        save: impl Fn(FigureFile<'_>) -> Result<(), RenderError>,
    ) -> Result<(), String> {
        let scale = self.figure_scale();
        for extension in ["png", "svg"] {
            let name = format!("{stem}.{extension}");
            self.image(&name, |path| save(FigureFile { path, scale }))?;
        }
        Ok(())
    }

    /// Returns the scale of figures as PNG.
    pub(crate) fn figure_scale(&self) -> u32 {
        self.scale.unwrap_or(1)
    }

    /// Writes a text file.
    pub(crate) fn text(&mut self, name: &str, text: &str) -> Result<(), String> {
        self.file(name, |path| {
            write_atomically(path, |out| out.write_all(text.as_bytes()))
                .map_err(|e| format!("{}: {e}", path.display()))
        })
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
            scale: None,
            paths: Vec::new(),
            notes: Vec::new(),
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
