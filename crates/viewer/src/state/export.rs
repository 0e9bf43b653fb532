//! Exports: files that a panel writes of what it shows.

use std::path::{Path, PathBuf};

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
    /// Returns the directory that the files are written to.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
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
        let path = self.directory.join(name);
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
        let path = self.directory.join(name);
        write_atomically(&path, |out| out.write_all(text.as_bytes()))
            .map_err(|e| format!("{}: {e}", path.display()))?;
        self.paths.push(path);
        Ok(())
    }
}
