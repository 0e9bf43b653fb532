//! The images that are named on the command line.

use std::collections::{HashMap, HashSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::hints::{advise, usage, usage_with_hint};
use sedet_data::loading::decode::{
    IMAGE_EXTENSIONS, has_image_extension, has_unsupported_image_extension, unsupported_images,
};
use sedet_data::text_file::text_of;

/// The input that denotes paths on stdin.
const STDIN: &str = "-";
/// Marks a file with one path per line.
const LIST_MARK: char = '@';
/// The hint about an input that denotes nothing.
const INPUTS: &str = "give images, directories of images, patterns such as 'photos/*.jpg', or @FILE for a list of paths";

/// The images that inputs denote.
#[derive(Debug)]
pub(super) struct InputImages {
    /// The files, sorted, without duplicates.
    pub(super) files: Vec<PathBuf>,
    /// The images in directories that are not used because of their formats, in words.
    pub(super) unsupported: Option<String>,
    /// The number of files that were named again.
    pub(super) repeated: usize,
}

/// Returns files as given, the images of directories, the matches of patterns and the entries of lists.
///
/// # Errors
/// An input that does not exist, matches nothing or contains no image; the message names it.
pub(super) fn find_images(inputs: &[String], recursive: bool) -> anyhow::Result<InputImages> {
    let mut found = Found::new(recursive);
    for input in inputs {
        if input == STDIN {
            let mut bytes = Vec::new();
            let read = std::io::stdin().lock().read_to_end(&mut bytes);
            read.context("stdin")?;
            found.add_list(bytes, "stdin")?;
        } else if let Some(list) = input.strip_prefix(LIST_MARK) {
            let bytes = std::fs::read(list).map_err(|error| {
                advise(
                    format!("{list}: {error}"),
                    "after @ comes a file with one path per line",
                )
            })?;
            found.add_list(bytes, list)?;
        } else {
            found.add(input)?;
        }
    }
    let mut places = Places::default();
    let all = found.files.len();
    for files in [&mut found.files, &mut found.unsupported] {
        files.sort();
        files.retain(|file| places.is_new(file));
    }
    Ok(InputImages {
        unsupported: unsupported_images(found.unsupported.iter().map(PathBuf::as_path)),
        repeated: all - found.files.len(),
        files: found.files,
    })
}

/// The places of files: `a.jpg` and `./a.jpg` are one, and a link is another than the file that it leads to.
#[derive(Default)]
struct Places {
    /// The real path of each directory.
    directories: HashMap<PathBuf, PathBuf>,
    seen: HashSet<PathBuf>,
}

impl Places {
    /// Returns whether a file was not passed before.
    fn is_new(&mut self, file: &Path) -> bool {
        let (Some(directory), Some(name)) = (file.parent(), file.file_name()) else {
            return self.seen.insert(file.to_owned());
        };
        let real = self
            .directories
            .entry(directory.to_owned())
            .or_insert_with(|| {
                let listed = if directory.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    directory
                };
                listed
                    .canonicalize()
                    .unwrap_or_else(|_| directory.to_owned())
            });
        self.seen.insert(real.join(name))
    }
}

struct Found {
    files: Vec<PathBuf>,
    /// Images in directories whose formats are not decoded.
    unsupported: Vec<PathBuf>,
    recursive: bool,
}

impl Found {
    fn new(recursive: bool) -> Self {
        Self {
            files: Vec::new(),
            unsupported: Vec::new(),
            recursive,
        }
    }

    /// Adds the images of one input other than a list.
    fn add(&mut self, input: &str) -> anyhow::Result<()> {
        let path = Path::new(input);
        let before = self.files.len();
        if path.is_dir() {
            self.add_directory(path)?;
            if self.files.len() == before {
                return Err(no_images(path, self.recursive));
            }
        } else if path.exists() {
            if path
                .extension()
                .is_some_and(|end| end.eq_ignore_ascii_case("txt"))
            {
                return Err(usage_with_hint(
                    format!("{input}: a text file, not an image"),
                    format!("if it lists images, one per line: {LIST_MARK}{input}"),
                ));
            }
            self.files.push(path.to_path_buf());
        } else if input.contains(['*', '?', '[']) {
            let matches = glob::glob(input)
                .map_err(|error| usage(format!("{input}: not a valid pattern: {}", error.msg)))?;
            for found in matches {
                let found = found?;
                if !found.is_dir() {
                    self.files.push(found);
                } else if self.recursive {
                    self.add_directory(&found)?;
                }
            }
            if self.files.len() == before {
                return Err(advise(format!("{input}: no file matches"), INPUTS));
            }
        } else {
            return Err(advise(
                format!("{input}: no such file or directory"),
                INPUTS,
            ));
        }
        Ok(())
    }

    /// Adds the images of a directory. Links to directories are not followed, because they can lead in a circle.
    fn add_directory(&mut self, directory: &Path) -> anyhow::Result<()> {
        let entries =
            std::fs::read_dir(directory).with_context(|| directory.display().to_string())?;
        for entry in entries {
            let entry = entry.with_context(|| directory.display().to_string())?;
            let path = entry.path();
            if self.recursive && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.add_directory(&path)?;
            } else if has_image_extension(&path) && !path.is_dir() {
                self.files.push(path);
            } else if has_unsupported_image_extension(&path) && !path.is_dir() {
                self.unsupported.push(path);
            }
        }
        Ok(())
    }

    /// Adds the entries of a list, one per line. As for any argument, relative paths refer to the current
    /// directory.
    fn add_list(&mut self, list: Vec<u8>, name: &str) -> anyhow::Result<()> {
        let before = self.files.len();
        let text = text_of(list, Path::new(name))?;
        for (number, line) in (1..).zip(text.lines()) {
            let place = || format!("{name}, line {number}");
            let entry = line.trim_end_matches('\r');
            if !entry.trim().is_empty() {
                self.add(entry).with_context(place)?;
            }
        }
        if self.files.len() == before {
            bail!("{name}: no paths in this list");
        }
        Ok(())
    }
}

/// Returns the error about a directory without images. The hint depends on whether its subdirectories have some.
fn no_images(directory: &Path, recursive: bool) -> anyhow::Error {
    let mut below = Found::new(true);
    let is_listed = below.add_directory(directory).is_ok();
    let unsupported = below.unsupported.iter().map(PathBuf::as_path);
    let here = unsupported.filter(|path| recursive || path.parent() == Some(directory));
    let instead = match unsupported_images(here) {
        Some(images) => format!(", but {images}"),
        None => String::new(),
    };
    let error = format!(
        "{}: no images in this directory ({}){instead}",
        directory.display(),
        IMAGE_EXTENSIONS.join(", ")
    );
    if !recursive && is_listed && !below.files.is_empty() {
        advise(
            error,
            format!(
                "--recursive also takes the images of its subdirectories ({})",
                below.files.len()
            ),
        )
    } else {
        anyhow::anyhow!(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::hints::hint_for;

    /// Creates empty files with these names and returns their directory.
    fn tree(names: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for name in names {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        directory
    }

    fn names(directory: &Path, inputs: &[String], recursive: bool) -> Vec<String> {
        let found = find_images(inputs, recursive).unwrap();
        let relative = |path: &PathBuf| path.strip_prefix(directory).unwrap().display().to_string();
        found.files.iter().map(relative).collect()
    }

    #[test]
    fn images_of_unsupported_formats_are_counted() {
        let tree = tree(&["a.jpg", "b.avif", "x/c.jp2", "x/d.HEIC", "y/notes.txt"]);
        let at = |name: &str| tree.path().join(name).display().to_string();
        let unsupported = |names: &[&str], recursive| {
            let inputs: Vec<String> = names.iter().map(|name| at(name)).collect();
            find_images(&inputs, recursive).map(|found| found.unsupported)
        };
        assert_eq!(
            unsupported(&["", "."], false).unwrap().as_deref(),
            Some("1 image in a format that is not supported (.avif: 1)")
        );
        assert_eq!(
            unsupported(&[""], true).unwrap().as_deref(),
            Some("3 images in formats that are not supported (.avif: 1, .heic: 1, .jp2: 1)")
        );
        assert_eq!(unsupported(&["a.jpg"], false).unwrap(), None);
        let error = unsupported(&["x"], false).unwrap_err().to_string();
        assert!(
            error.ends_with("but 2 images in formats that are not supported (.heic: 1, .jp2: 1)"),
            "{error}"
        );
        let error = unsupported(&["y"], false).unwrap_err().to_string();
        assert!(error.ends_with("pam)"), "{error}");
    }

    #[test]
    fn an_image_that_is_named_again_is_found_once() {
        let tree = tree(&["a.jpg", "x/b.png"]);
        let at = |name: &str| tree.path().join(name).display().to_string();
        let inputs = [
            at("a.jpg"),
            at("./a.jpg"),
            at("x"),
            at("x/../x/b.png"),
            at("x/b.png"),
        ];
        let found = find_images(&inputs, false).unwrap();
        assert_eq!((found.files.len(), found.repeated), (2, 3));
    }

    #[test]
    fn an_invalid_pattern_is_wrong_usage() {
        let error = find_images(&["photos/[".into()], false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "photos/[: not a valid pattern: invalid range pattern"
        );
    }

    #[test]
    fn subdirectories_are_searched_on_request_only() {
        let tree = tree(&["b.png", "x/a.jpg", "x/y/c.PNG", "x/notes.txt"]);
        let root = tree.path();
        let input = [root.display().to_string()];
        assert_eq!(names(root, &input, false), ["b.png"]);
        assert_eq!(names(root, &input, true), ["b.png", "x/a.jpg", "x/y/c.PNG"]);
        let pattern = [format!("{}/*", root.display())];
        assert_eq!(names(root, &pattern, false), ["b.png"]);
        assert_eq!(names(root, &pattern, true), names(root, &input, true));
        let deeper = root.join("x").join("y").display().to_string();
        assert_eq!(names(root, &[deeper], false), ["x/y/c.PNG"]);
    }

    #[test]
    fn images_in_subdirectories_only_are_counted_in_the_hint() {
        let tree = tree(&["x/a.jpg", "x/y/c.png"]);
        let input = [tree.path().display().to_string()];
        let error = find_images(&input, false).unwrap_err();
        assert!(error.to_string().contains("no images in this directory"));
        let hint = hint_for(&error).unwrap();
        assert!(
            hint.contains("--recursive") && hint.contains("(2)"),
            "{hint}"
        );
        let empty = tempfile::tempdir().unwrap();
        let input = [empty.path().display().to_string()];
        let error = find_images(&input, false).unwrap_err();
        assert_eq!(hint_for(&error), None);
    }

    #[test]
    fn a_list_has_one_path_per_line_and_errors_name_the_line() {
        let tree = tree(&["a.jpg", "d e/b.png"]);
        let root = tree.path();
        let list = root.join("list.txt");
        let at = |name: &str| root.join(name).display().to_string();
        std::fs::write(&list, format!("{}\r\n\n{}\n", at("d e"), at("a.jpg"))).unwrap();
        let input = [format!("@{}", list.display())];
        assert_eq!(names(root, &input, false), ["a.jpg", "d e/b.png"]);
        std::fs::write(&list, format!("{}\n{}\n", at("a.jpg"), at("gone.jpg"))).unwrap();
        let error = format!("{:#}", find_images(&input, false).unwrap_err());
        assert!(error.contains("list.txt, line 2: "), "{error}");
        assert!(error.contains("gone.jpg: no such file"), "{error}");
        let itself = find_images(&[list.display().to_string()], false).unwrap_err();
        let hint = hint_for(&itself).unwrap();
        assert!(hint.ends_with(&input[0]), "{hint}");
        std::fs::write(&list, "\n").unwrap();
        let error = find_images(&input, false).unwrap_err().to_string();
        assert!(
            error.ends_with("list.txt: no paths in this list"),
            "{error}"
        );
        let marked = format!("\u{feff}{}\r\n", at("a.jpg"));
        let utf16 = marked.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for bytes in [utf16, marked.into_bytes()] {
            std::fs::write(&list, bytes).unwrap();
            assert_eq!(names(root, &input, false), ["a.jpg"]);
        }
        std::fs::write(&list, b"caf\xe9.jpg\n").unwrap();
        let error = find_images(&input, false).unwrap_err();
        assert!(
            error.to_string().contains("line 1 is not UTF-8 text"),
            "{error}"
        );
        assert!(hint_for(&error).unwrap().contains("as UTF-8"));
        let error = find_images(&["@gone.txt".into()], false).unwrap_err();
        assert!(error.to_string().starts_with("gone.txt: "), "{error}");
        assert!(hint_for(&error).unwrap().contains("one path per line"));
    }
}
