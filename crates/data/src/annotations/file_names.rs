//! The rule by which a file name in an annotation becomes a file.
//!
//! It is the same for every format, and for reading, checking, converting and splitting:
//!
//! 1. The file with exactly this name.
//! 2. Else the only file whose name differs from it in capitals alone (directories and extension included) and that
//!    no other annotation names exactly. Such files are counted in a note.
//! 3. Several such files are an error that names them.
//!
//! Annotations from a file system that does not distinguish capitals may name files in others than they have.

use std::collections::{HashMap, HashSet};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use crate::DataError;
use crate::annotations::image_files::DirectoryListing;
use crate::directory::common_root;
use crate::text::count;

/// The file found for the path in an annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FileMatch {
    /// The path itself.
    Exact,
    /// Paths that differ from it in capitals only, sorted; at least one.
    OtherCapitals(Vec<PathBuf>),
    /// Nothing.
    Missing,
}

/// Files and directories by their names in any capitals. Each directory is listed once.
#[derive(Debug, Default)]
pub(crate) struct AnyCapitals {
    listed: Mutex<HashMap<PathBuf, Arc<NamesByLowerCase>>>,
}

/// The names in a directory by their lower-case form.
type NamesByLowerCase = HashMap<String, Vec<String>>;

impl AnyCapitals {
    /// Looks for a file; names that differ in capitals are looked for below `root` only.
    pub(crate) fn file(&self, root: &Path, path: &Path) -> FileMatch {
        self.look_for(root, path, Path::is_file)
    }

    /// Looks for a file or directory; names that differ in capitals are looked for below `root` only.
    pub(crate) fn any(&self, root: &Path, path: &Path) -> FileMatch {
        self.look_for(root, path, Path::exists)
    }

    fn look_for(&self, root: &Path, path: &Path, is_wanted: fn(&Path) -> bool) -> FileMatch {
        if self.is_listed(path) || is_wanted(path) {
            return FileMatch::Exact;
        }
        let Ok(within) = path.strip_prefix(root) else {
            return FileMatch::Missing;
        };
        let mut found = vec![root.to_owned()];
        for part in within.components() {
            found = match part {
                Component::CurDir => continue,
                Component::ParentDir => found.iter().map(|path| path.join("..")).collect(),
                Component::Normal(name) => {
                    let Some(name) = name.to_str() else {
                        return FileMatch::Missing;
                    };
                    let lower = name.to_lowercase();
                    let inner = found.iter().flat_map(|directory| {
                        let names = self.names_in(directory);
                        let names = names.get(&lower).cloned().unwrap_or_default();
                        names.into_iter().map(|name| directory.join(name))
                    });
                    inner.collect()
                }
                Component::RootDir | Component::Prefix(_) => return FileMatch::Missing,
            };
        }
        found.retain(|path| is_wanted(path));
        found.sort();
        if found.is_empty() {
            FileMatch::Missing
        } else {
            FileMatch::OtherCapitals(found)
        }
    }

    /// Returns the other files in the directory of a path whose names differ from its name in capitals only.
    pub(crate) fn twins(&self, path: &Path) -> Vec<PathBuf> {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Vec::new();
        };
        let Some(name) = name.to_str() else {
            return Vec::new();
        };
        let names = self.names_in(directory);
        let alike = names.get(&name.to_lowercase()).into_iter().flatten();
        let others = alike.filter(|other| *other != name);
        let paths = others.map(|other| directory.join(other));
        paths.filter(|path| path.is_file()).collect()
    }

    /// Returns whether the listing of its directory contains a path. It saves a system call for each of many files.
    fn is_listed(&self, path: &Path) -> bool {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return false;
        };
        let names = self.names_in(directory);
        name.to_str().is_some_and(|name| {
            let alike = names.get(&name.to_lowercase());
            alike.is_some_and(|alike| alike.iter().any(|listed| listed == name))
        })
    }

    fn names_in(&self, directory: &Path) -> Arc<NamesByLowerCase> {
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(names) = listed.get(directory) {
            return names.clone();
        }
        let listing = DirectoryListing::of(directory);
        let mut names = NamesByLowerCase::new();
        for name in listing.directories.into_iter().chain(listing.files) {
            names.entry(name.to_lowercase()).or_default().push(name);
        }
        let names = Arc::new(names);
        listed.insert(directory.to_owned(), names.clone());
        names
    }
}

/// The files of the names in the annotations of a split.
#[derive(Debug, Default)]
pub(crate) struct MatchedNames {
    /// The name of each file, relative to the directory. That of a missing file is as written: the loader names it.
    pub(crate) names: Vec<String>,
    /// Positions of the names that differ from the written ones, ascending.
    pub(crate) renamed: Vec<usize>,
    /// Positions of the names that several files fit, ascending, with the error.
    pub(crate) ambiguous: Vec<(usize, DataError)>,
}

impl MatchedNames {
    /// Finds the files of names, which are relative to a directory, by the [rule](self).
    pub(crate) fn of(directory: &Path, mut names: Vec<String>) -> Self {
        let capitals = AnyCapitals::default();
        let found: Vec<FileMatch> = names
            .par_iter()
            .map(|name| capitals.file(directory, &directory.join(name)))
            .collect();
        let exact = names.iter().zip(&found);
        let exact = exact.filter(|(_, found)| matches!(found, FileMatch::Exact));
        let mut taken: HashSet<PathBuf> = HashSet::new();
        if found
            .iter()
            .any(|found| matches!(found, FileMatch::OtherCapitals(_)))
        {
            taken.extend(exact.map(|(name, _)| directory.join(name)));
        }
        let (mut renamed, mut ambiguous) = (Vec::new(), Vec::new());
        for (at, found) in found.into_iter().enumerate() {
            let FileMatch::OtherCapitals(mut paths) = found else {
                continue;
            };
            // What an annotation names exactly belongs to that annotation.
            paths.retain(|path| !taken.contains(path));
            match paths.as_slice() {
                [] => {}
                [only] => {
                    if let Some(name) = only.strip_prefix(directory).ok().and_then(Path::to_str) {
                        names[at] = name.replace('\\', "/");
                        renamed.push(at);
                        taken.insert(only.clone());
                    }
                }
                several => {
                    let error = several_files(&directory.join(&names[at]), several);
                    ambiguous.push((at, error));
                }
            }
        }
        Self {
            names,
            renamed,
            ambiguous,
        }
    }

    /// Describes the files that were found in other capitals; `written` are the names in the annotations.
    pub(crate) fn note(&self, written: &[impl AsRef<str>]) -> Option<String> {
        let first = *self.renamed.first()?;
        Some(found_in_other_capitals(
            self.renamed.len(),
            &self.names[first],
            written.get(first)?.as_ref(),
        ))
    }
}

/// Describes images that were found in other capitals, with an example.
pub(crate) fn found_in_other_capitals(number: usize, found: &str, written: &str) -> String {
    format!(
        "{} found by a name in other capitals than that in the annotations, such as {found} for {written}",
        count(number, "image")
    )
}

/// Returns the error about a name that several files fit.
pub(crate) fn several_files(path: &Path, found: &[PathBuf]) -> DataError {
    DataError::SeveralFiles {
        path: path.to_owned(),
        found: file_names(found),
    }
}

/// Formats what paths do not have in common, for a message.
pub(crate) fn file_names(paths: &[PathBuf]) -> String {
    let common = common_root(paths.iter().filter_map(|path| path.parent()));
    let names = paths.iter().map(|path| {
        let name = path.strip_prefix(&common).unwrap_or(path);
        name.display().to_string()
    });
    names.collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        dir
    }

    #[test]
    fn names_in_other_capitals_are_found_with_all_that_may_be_meant() {
        let dir = tree(&[
            "Labels/Train/IMG.TXT",
            "Labels/Train/a.txt",
            "Labels/Train/A.txt",
            "labels/c.txt",
            ".hidden.txt",
        ]);
        let root = dir.path();
        let capitals = AnyCapitals::default();
        let find = |name: &str| match capitals.file(root, &root.join(name)) {
            FileMatch::Exact => vec![name.to_owned()],
            FileMatch::Missing => Vec::new(),
            FileMatch::OtherCapitals(paths) => paths
                .iter()
                .map(|path| path.strip_prefix(root).unwrap().display().to_string())
                .collect(),
        };
        let img = ["Labels/Train/IMG.TXT"];
        assert_eq!(find("labels/train/img.txt"), img);
        assert_eq!(find("Labels/./TRAIN/img.Txt"), img);
        assert_eq!(find("Labels/Train/a.txt"), ["Labels/Train/a.txt"]);
        assert_eq!(find(".hidden.txt"), [".hidden.txt"]);
        let both = ["Labels/Train/A.txt", "Labels/Train/a.txt"];
        assert_eq!(find("Labels/Train/a.TXT"), both);
        // The exact directory without the file does not hide another one.
        assert_eq!(find("Labels/c.txt"), ["labels/c.txt"]);
        assert_eq!(find("labels/train/b.txt"), [""; 0]);
        let missing = capitals.file(root, Path::new("/elsewhere/img.txt"));
        assert_eq!(missing, FileMatch::Missing);
        assert_eq!(capitals.any(root, &root.join("Labels")), FileMatch::Exact);
        let twins = capitals.twins(&root.join("Labels/Train/a.txt"));
        assert_eq!(twins, [root.join("Labels/Train/A.txt")]);
    }

    #[test]
    fn each_file_belongs_to_one_name_and_exact_names_come_first() {
        let dir = tree(&["1.jpg", "2.PNG", "3.jpg", "3.JPG", "Sub/4.jpg"]);
        let names = ["1.JPG", "1.jpg", "2.png", "3.Jpg", "sub/4.JPG", "5.jpg"];
        let written = names.map(str::to_owned).to_vec();
        let matched = MatchedNames::of(dir.path(), written.clone());
        let expected = ["1.JPG", "1.jpg", "2.PNG", "3.Jpg", "Sub/4.jpg", "5.jpg"];
        assert_eq!(matched.names, expected);
        assert_eq!(matched.renamed, [2, 4]);
        assert_eq!(
            matched.note(&written).unwrap(),
            "2 images found by a name in other capitals than that in the annotations, such as 2.PNG for 2.png"
        );
        let [(3, error)] = matched.ambiguous.as_slice() else {
            panic!("{:?}", matched.ambiguous);
        };
        let message = error.to_string();
        assert!(
            message
                .ends_with("3.Jpg: no such file; 3.JPG and 3.jpg differ from it in capitals only"),
            "{message}"
        );
        // With one of the two named exactly, the other is meant.
        let names = ["3.Jpg", "3.jpg"].map(str::to_owned).to_vec();
        let matched = MatchedNames::of(dir.path(), names);
        assert_eq!(matched.names, ["3.JPG", "3.jpg"]);
        // Of two names for one file, the first gets it.
        let names = ["1.JPG", "1.Jpg"].map(str::to_owned).to_vec();
        let matched = MatchedNames::of(dir.path(), names);
        assert_eq!(matched.names, ["1.jpg", "1.Jpg"]);
    }
}
