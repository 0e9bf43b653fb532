//! Writing a detection dataset in another annotation format.
//!
//! Data that both formats express is kept: images, splits, classes by name, boxes (to a thousandth
//! of a pixel), images without boxes. Data that the written format cannot express is counted in
//! [`Written::dropped`]. Ids exist in COCO alone: from other formats, images, boxes and classes are
//! numbered from 1.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::DataError;
use crate::annotations::format::{AnnotatedDataset, Format, Output, PlacedSplit, Written};
use crate::datasets::detection::check_same_categories;
use crate::directory::create_directory;

/// How images are placed in a converted dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Images {
    /// Copies.
    Copy,
    /// Hard links, which need no space; a file on another file system is copied.
    Link,
    /// No images: annotations only.
    Leave,
}

/// The reason why a dataset was not converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The annotations cannot be read or written.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The conversion was stopped on request.
    #[error("stopped; nothing was written")]
    Stopped,
    /// The output exists.
    #[error("{}: already exists and is not empty", path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// Two images would get the same name.
    #[error("{first} and {second} would both become {name} in a {format} directory")]
    SameName {
        /// An image.
        first: String,
        /// Another image.
        second: String,
        /// The name of both.
        name: String,
        /// The format to write.
        format: Format,
    },
    /// An image outside of the directory of the images.
    #[error("`{name}`: image names must be relative and must not contain ..")]
    Outside {
        /// The file name.
        name: String,
    },
    /// Placing an image or moving the finished directory failed.
    #[error("{}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// Writes a dataset in a format. The write is atomic: `output` is created complete or not at all.
///
/// `progress` receives the number of images placed and of all images, and may stop the conversion.
///
/// # Errors
/// `output` exists and is not empty, names collide or lead out of the directory, writing fails, or the
/// conversion was stopped.
pub fn write_dataset(
    dataset: &AnnotatedDataset,
    format: Format,
    images: Images,
    output: &Path,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Written, ConvertError> {
    let exists = output.symlink_metadata().is_ok();
    let is_empty = fs::read_dir(output).is_ok_and(|mut entries| entries.next().is_none());
    if exists && !is_empty {
        return Err(ConvertError::Exists {
            path: output.to_owned(),
        });
    }
    if let Some((first, others)) = dataset.splits.split_first() {
        for other in others {
            check_same_categories(
                (&first.split.to_string(), &first.store),
                (&other.split.to_string(), &other.store),
            )?;
        }
    }
    let placed = placed_splits(dataset, format)?;
    let unfinished = unfinished(output);
    let mut write = || {
        create_directory(&unfinished).map_err(|source| write_error(&unfinished, source))?;
        let directory = Output::new(&unfinished);
        if images != Images::Leave {
            place_images(&placed, images, directory, progress)?;
        }
        let written = format.write(&placed, &directory)?;
        if exists {
            fs::remove_dir(output).map_err(|source| write_error(output, source))?;
        }
        fs::rename(&unfinished, output).map_err(|source| write_error(output, source))?;
        Ok(written)
    };
    let mut written = write().inspect_err(|_: &ConvertError| {
        // The first error is the one to report; a leftover directory is harmless.
        let _ = fs::remove_dir_all(&unfinished);
    })?;
    for read in &dataset.splits {
        written.dropped.merge(&read.dropped);
    }
    Ok(written)
}

fn unfinished(output: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(output.file_name().unwrap_or("converted".as_ref()));
    name.push(format!(".unfinished-{}", std::process::id()));
    output.with_file_name(name)
}

fn write_error(path: &Path, source: io::Error) -> ConvertError {
    ConvertError::Write {
        path: path.to_owned(),
        source,
    }
}

/// Determines the path of each image in the output and refuses collisions.
fn placed_splits(
    dataset: &AnnotatedDataset,
    format: Format,
) -> Result<Vec<PlacedSplit<'_>>, ConvertError> {
    let mut taken: HashMap<String, String> = HashMap::new();
    let mut placed = Vec::new();
    for annotations in &dataset.splits {
        let mut image_paths = Vec::new();
        for index in 0..annotations.store.image_count() {
            let name = annotations.store.image(index).file_name;
            let path = format.image_path(annotations.split, &inside(name)?);
            let key = format.image_key(&path).to_owned();
            let source = annotations.image_root.join(name).display().to_string();
            if let Some(first) = taken.insert(key.clone(), source.clone()) {
                return Err(ConvertError::SameName {
                    first,
                    second: source,
                    name: key,
                    format,
                });
            }
            image_paths.push(path);
        }
        placed.push(PlacedSplit {
            annotations,
            image_paths,
        });
    }
    Ok(placed)
}

/// Returns a relative path with `/` between its parts.
fn inside(name: &str) -> Result<String, ConvertError> {
    use std::path::Component;
    let mut parts = Vec::new();
    for part in Path::new(name).components() {
        match part {
            Component::Normal(part) => parts.push(part.to_string_lossy()),
            Component::CurDir => {}
            _ => {
                return Err(ConvertError::Outside {
                    name: name.to_owned(),
                });
            }
        }
    }
    Ok(parts.join("/"))
}

fn place_images(
    placed: &[PlacedSplit],
    images: Images,
    output: Output,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<(), ConvertError> {
    let all = placed.iter().map(|split| split.image_paths.len()).sum();
    let mut done = 0;
    for split in placed {
        let read = split.annotations;
        for (index, path) in split.image_paths.iter().enumerate() {
            let from = read.image_root.join(read.store.image(index).file_name);
            let to = output.path(path)?;
            let is_linked = images == Images::Link && fs::hard_link(&from, &to).is_ok();
            if !is_linked {
                fs::copy(&from, &to).map_err(|source| write_error(&from, source))?;
            }
            done += 1;
            if progress(done, all).is_break() {
                return Err(ConvertError::Stopped);
            }
        }
    }
    Ok(())
}
