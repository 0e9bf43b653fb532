//! Writing a detection dataset in another annotation format.
//!
//! Data that both formats express is kept: images, splits, classes by name, boxes (to a thousandth
//! of a pixel), images without boxes. Data that the written format cannot express is counted in
//! [`Written::dropped`]. Ids exist in COCO alone: from other formats, images, boxes and classes are
//! numbered from 1. What was written is read again and compared before the output appears.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::DataError;
use crate::annotations::format::{
    AnnotatedDataset, DatasetFiles, Dropped, Format, LeftImages, Output, PlacedSplit,
    SplitAnnotations, Written, WrittenSplit, last_part,
};
use crate::annotations::layout::Split;
use crate::csv::to_csv;
use crate::curation::image_names::{joined, names_within, paths_to};
use crate::datasets::detection::check_same_categories;
use crate::directory::{create_directory, open_error};
use crate::images::decode::has_image_extension;
use crate::text::{self, printable};

/// The placement of images in a converted dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Images {
    /// Copies.
    Copy,
    /// Hard links, which need no space; a file on another file system is copied.
    Link,
    /// No images: annotations only. Where the format allows it, their image names lead to the images.
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
    /// The output is in the directory that is read, or contains it.
    #[error("{}: is or contains a part of the input {}", output.display(), input.display())]
    InInput {
        /// The output directory.
        output: PathBuf,
        /// The input.
        input: PathBuf,
    },
    /// What was written is not read back as it was.
    #[error("{}: {difference} after reading what was written; nothing is kept", output.display())]
    NotTheSame {
        /// The output directory.
        output: PathBuf,
        /// The first difference.
        difference: String,
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
    /// Two classes would get the same name.
    #[error(
        "the classes `{}` and `{}` would be one in a {format} directory",
        printable(first),
        printable(second)
    )]
    SameClass {
        /// A class.
        first: String,
        /// Another class.
        second: String,
        /// The format to write.
        format: Format,
    },
    /// No box would be written in a format whose classes are those of the boxes.
    #[error("no boxes: a {format} directory without boxes has no classes")]
    NoBoxes {
        /// The format to write.
        format: Format,
    },
    /// An image of the dataset is missing or cannot be read.
    #[error("{}: cannot read the image: {source}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
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
/// `output` exists and is not empty, names collide, an image cannot be read, writing fails, what was written is not read back as it was, or the conversion was stopped.
pub fn write_dataset(
    dataset: &AnnotatedDataset,
    format: Format,
    images: Images,
    output: &Path,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Written, ConvertError> {
    write_amended(
        dataset,
        format,
        images,
        output,
        &mut |_, _| Ok(()),
        progress,
    )
}

/// Changes what was written of the splits before it is verified.
pub(super) type Amend<'a> = dyn FnMut(&[PlacedSplit], &Output) -> Result<(), DataError> + 'a;

/// Writes a dataset as [`write_dataset`]; `amend` may change what was written before it is verified.
pub(super) fn write_amended(
    dataset: &AnnotatedDataset,
    format: Format,
    images: Images,
    output: &Path,
    amend: &mut Amend<'_>,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Written, ConvertError> {
    if let Some((first, others)) = dataset.splits.split_first() {
        for other in others {
            check_same_categories(
                (&first.split.to_string(), &first.store),
                (&other.split.to_string(), &other.store),
            )?;
        }
    }
    let (placed, mut dropped) = placed_splits(dataset, format)?;
    let (mut left_images, mut copied_instead) = (None, 0);
    write_directory(output, &mut |unfinished| {
        let directory = Output::new(unfinished);
        let place = match images {
            Images::Copy => Place::Copy,
            Images::Link => Place::Link,
            Images::Leave => Place::Temporary,
        };
        let copied = place_images(&placed, place, directory, progress)?;
        if images == Images::Link {
            copied_instead = copied;
        }
        format.write(&placed, &directory)?;
        amend(&placed, &directory)?;
        verify(&placed, format, unfinished, output)?;
        if images == Images::Leave {
            remove_images(&placed, unfinished)?;
            if format.names_lead_anywhere()
                && let Some(leading) = leading_to_images(&placed, unfinished)
            {
                format.write(&leading, &directory)?;
                verify(&leading, format, unfinished, output)?;
            }
            if !format.names_lead_anywhere() {
                left_images = write_places(&placed, &directory)?;
            }
        }
        Ok(())
    })?;
    for read in &dataset.splits {
        dropped.merge(&read.dropped);
        dropped.merge(&read.besides_boxes);
        if format.stores_flags() {
            dropped.remove_flags(&read.store);
        }
    }
    let splits = placed.iter().map(|placed| WrittenSplit {
        split: placed.annotations.split,
        images: placed.image_paths.len(),
        boxes: placed.boxes.iter().map(Vec::len).sum(),
    });
    Ok(Written {
        splits: splits.collect(),
        dropped,
        left_images,
        copied_instead,
    })
}

/// Determines where the images that were left belong, and writes the list of their paths where one line cannot describe it.
fn write_places(
    placed: &[PlacedSplit],
    directory: &Output,
) -> Result<Option<LeftImages>, ConvertError> {
    /// Not the name of annotations in any format.
    const LIST: &str = "image-places.csv";
    let images = placed.iter().flat_map(|split| {
        let sources = split.annotations.image_paths().into_iter();
        sources.zip(split.image_paths.iter().cloned())
    });
    let images: Vec<(PathBuf, String)> = images.collect();
    let Some(first) = images.first() else {
        return Ok(None);
    };
    let target = |to: &str| to[..to.len() - last_part(to).len()].to_owned();
    let (from, to) = (first.0.parent(), target(&first.1));
    let is_moved_as_one = images.iter().all(|(source, place)| {
        source.parent() == from
            && target(place) == to
            && source.file_name().and_then(|name| name.to_str()) == Some(last_part(place))
    });
    // Images that were skipped or are not annotated would become images without objects.
    let has_others = |from: &Path| {
        fs::read_dir(from).is_ok_and(|entries| {
            let files = entries.flatten().map(|entry| entry.path());
            files.filter(|file| has_image_extension(file)).count() > images.len()
        })
    };
    if let (Some(from), true) = (from.filter(|from| !has_others(from)), is_moved_as_one) {
        let from = from.to_owned();
        return Ok(Some(LeftImages::Directory { from, to }));
    }
    let mut rows = vec![["from".to_owned(), "to".to_owned()]];
    for (source, place) in &images {
        let source = std::path::absolute(source).map_err(|error| write_error(source, error))?;
        rows.push([source.display().to_string(), place.clone()]);
    }
    directory.file(LIST, &to_csv(rows))?;
    Ok(Some(LeftImages::List {
        file: LIST.to_owned(),
        first: first.clone(),
    }))
}

/// Returns the splits with image names that lead from a directory to the images; None if there is no such path.
fn leading_to_images<'a>(
    placed: &[PlacedSplit<'a>],
    directory: &Path,
) -> Option<Vec<PlacedSplit<'a>>> {
    let leading = placed.iter().map(|split| {
        let read = split.annotations;
        let prefix = paths_to(directory, &read.image_root).into_iter().next()?;
        let names = (0..read.store.image_count()).map(|index| read.store.image(index).file_name);
        Some(PlacedSplit {
            annotations: read,
            image_paths: names.map(|name| joined(&prefix, name)).collect(),
            boxes: split.boxes.clone(),
        })
    });
    leading.collect()
}

/// Refuses an output directory that is, contains or is within a directory that is read.
///
/// # Errors
/// It is.
pub fn refuse_input(output: &Path, input: &Path) -> Result<(), ConvertError> {
    let resolved = |path: &Path| {
        // The output need not exist; its nearest existing parent can be resolved.
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let existing = absolute
            .ancestors()
            .find_map(|p| Some((p, p.canonicalize().ok()?)));
        match existing {
            Some((parent, real)) => match absolute.strip_prefix(parent) {
                Ok(rest) if rest.as_os_str().is_empty() => real,
                Ok(rest) => real.join(rest),
                Err(_) => absolute.clone(),
            },
            None => absolute,
        }
    };
    let (to, from) = (resolved(output), resolved(input));
    if to.starts_with(&from) || from.starts_with(&to) {
        return Err(ConvertError::InInput {
            output: output.to_owned(),
            input: input.to_owned(),
        });
    }
    Ok(())
}

/// Creates a directory atomically: `write` fills an unfinished one, which is then renamed.
///
/// # Errors
/// `output` exists and is not empty, or writing fails.
pub(super) fn write_directory(
    output: &Path,
    write: &mut dyn FnMut(&Path) -> Result<(), ConvertError>,
) -> Result<(), ConvertError> {
    let exists = output.symlink_metadata().is_ok();
    let is_empty = fs::read_dir(output).is_ok_and(|mut entries| entries.next().is_none());
    if exists && !is_empty {
        return Err(ConvertError::Exists {
            path: output.to_owned(),
        });
    }
    let unfinished = unfinished(output);
    let mut create = || {
        // The unfinished directory is nothing that the user named.
        create_directory(&unfinished).map_err(|source| write_error(output, source))?;
        write(&unfinished)?;
        if exists {
            fs::remove_dir(output).map_err(|source| write_error(output, source))?;
        }
        fs::rename(&unfinished, output).map_err(|source| write_error(output, source))
    };
    create().inspect_err(|_| {
        // The first error is the one to report; a leftover directory is harmless.
        let _ = fs::remove_dir_all(&unfinished);
    })
}

/// Reads a written directory and compares it with what should be in it.
fn verify(
    placed: &[PlacedSplit],
    format: Format,
    written: &Path,
    output: &Path,
) -> Result<(), ConvertError> {
    let differs = |difference: String| ConvertError::NotTheSame {
        output: output.to_owned(),
        difference,
    };
    // An error names the unfinished directory, which is about to be removed.
    let readable = |error: DataError| {
        let (unfinished, output) = (written.display().to_string(), output.display().to_string());
        differs(error.to_string().replace(&unfinished, &output))
    };
    let read = DatasetFiles::of_format(format, written)
        .and_then(|files| files.read())
        .map_err(readable)?;
    if read.splits.len() != placed.len() {
        return Err(differs(format!(
            "{} of {} splits",
            read.splits.len(),
            placed.len()
        )));
    }
    for (expected, found) in placed.iter().zip(&read.splits) {
        compare(expected, found, format, written).map_err(|difference| {
            let split = expected.annotations.split;
            differs(format!("{split}: {difference}"))
        })?;
    }
    Ok(())
}

/// Compares a split that was read with what was written; returns the first difference.
fn compare(
    expected: &PlacedSplit,
    found: &SplitAnnotations,
    format: Format,
    root: &Path,
) -> Result<(), String> {
    /// Tolerance of box coordinates in pixels.
    const TOLERANCE: f64 = 1e-3;
    let (store, read) = (&expected.annotations.store, &found.store);
    if expected.annotations.split != found.split {
        return Err(format!("the split is {}", found.split));
    }
    if format.lists_classes() {
        let names = |store: &crate::annotations::AnnotationStore| -> Vec<String> {
            store
                .categories()
                .iter()
                .map(|category| category.name.clone())
                .collect()
        };
        if names(store) != names(read) {
            return Err("other class names".to_owned());
        }
    }
    if read.image_count() != store.image_count() {
        return Err(format!(
            "{} of {} images",
            read.image_count(),
            store.image_count()
        ));
    }
    let mut positions: HashMap<PathBuf, usize> = HashMap::new();
    for index in 0..read.image_count() {
        positions.insert(found.image_root.join(read.image(index).file_name), index);
    }
    for (index, (path, boxes)) in expected.image_paths.iter().zip(&expected.boxes).enumerate() {
        let Some(&at) = positions.get(&root.join(path)) else {
            return Err(format!("{path} is missing"));
        };
        if read.image(at).size != store.image(index).size {
            return Err(format!("{path} has the size {}", read.image(at).size));
        }
        if read.annotations(at).len() != boxes.len() {
            let count = read.annotations(at).len();
            return Err(format!("{path} has {count} of {} boxes", boxes.len()));
        }
        let annotations = read.annotations(at).zip(read.numbers(at));
        for ((annotation, numbers), written) in annotations.zip(boxes) {
            let class = &read.categories()[annotation.class].name;
            if *class != format.stored_name(&store.categories()[written.class].name) {
                let class = printable(class);
                return Err(format!("{path} has a box of the class `{class}`"));
            }
            if format.stores_flags() && read.flags(annotation.id) != written.flags {
                return Err(format!("{path} has a box with other flags"));
            }
            let (xywh, _) = numbers.as_f64();
            let mut pairs = xywh.iter().zip(written.xywh);
            if !pairs.all(|(a, b)| (a - b).abs() <= TOLERANCE + b.abs() * f64::from(f32::EPSILON)) {
                return Err(format!(
                    "{path} has the box {} instead of {}",
                    text::numbers(&xywh),
                    text::numbers(&written.xywh)
                ));
            }
        }
    }
    Ok(())
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

/// Determines the path of each image in the output and the boxes that the format stores, and counts
/// what is dropped or changed.
fn placed_splits(
    dataset: &AnnotatedDataset,
    format: Format,
) -> Result<(Vec<PlacedSplit<'_>>, Dropped), ConvertError> {
    let mut taken: HashMap<String, (Split, String)> = HashMap::new();
    let (mut placed, mut dropped) = (Vec::new(), Dropped::default());
    let mut used = BTreeSet::new();
    for annotations in &dataset.splits {
        let split = annotations.split;
        let mut image_paths = Vec::new();
        for (index, plain) in names_within(annotations).into_iter().enumerate() {
            let name = annotations.store.image(index).file_name;
            let source = annotations.image_root.join(name).display().to_string();
            // Where all images are in one directory, the names of two splits may collide.
            let unique = format!("{split}_{}", plain.replace('/', "_"));
            let path = format.image_path(split, &plain);
            let path = match taken.get(format.image_key(&path)) {
                None => {
                    if !path.ends_with(&format!("/{plain}")) {
                        dropped.add("directories and spaces of image names", "image", 1);
                    }
                    path
                }
                Some((of, first)) => {
                    let other = format.image_path(split, &unique);
                    if taken.contains_key(format.image_key(&other)) {
                        return Err(ConvertError::SameName {
                            first: first.clone(),
                            second: source,
                            name: format.image_key(&path).to_owned(),
                            format,
                        });
                    }
                    let what = if *of == split {
                        "names of images that differ from others only in what is not stored"
                    } else {
                        "names of images that another split has, too"
                    };
                    dropped.add(what, "image", 1);
                    other
                }
            };
            taken.insert(format.image_key(&path).to_owned(), (split, source));
            image_paths.push(path);
        }
        let (boxes, of_boxes) = format.stored_boxes(annotations);
        dropped.merge(&of_boxes);
        used.extend(boxes.iter().flatten().map(|found| found.class));
        placed.push(PlacedSplit {
            annotations,
            image_paths,
            boxes,
        });
    }
    let first = dataset.splits.first();
    let classes = first.map_or(0, |split| split.store.class_count());
    if !format.lists_classes() {
        dropped.add("classes without a box", "class", classes - used.len());
        if used.is_empty() {
            return Err(ConvertError::NoBoxes { format });
        }
    }
    let mut names = HashMap::new();
    let categories = first
        .map(|split| split.store.categories())
        .unwrap_or_default();
    for class in used.iter().filter_map(|class| categories.get(*class)) {
        let stored = format.stored_name(&class.name);
        if stored != class.name {
            dropped.add("spaces and control characters in class names", "class", 1);
        }
        if let Some(first) = names.insert(stored.into_owned(), &class.name) {
            return Err(ConvertError::SameClass {
                first: first.clone(),
                second: class.name.clone(),
                format,
            });
        }
    }
    Ok((placed, dropped))
}

/// The way in which an image gets to its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Copy,
    Link,
    /// A symbolic link, or a copy where there are none, to be removed again.
    Temporary,
}

impl Place {
    /// Places one image. Returns whether it was copied.
    pub(super) fn put(self, from: &Path, to: &Path) -> Result<bool, ConvertError> {
        let is_linked = match self {
            Self::Copy => false,
            // Of a symbolic link, the file that it leads to: a relative one would lead elsewhere from its new place.
            Self::Link => match fs::canonicalize(from).and_then(|file| fs::hard_link(file, to)) {
                // A copy over a link to the image would empty it.
                Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(write_error(to, source));
                }
                linked => linked.is_ok(),
            },
            Self::Temporary => {
                let from = std::path::absolute(from).map_err(|source| write_error(from, source))?;
                from.is_file() && symbolic_link(&from, to).is_ok()
            }
        };
        if !is_linked {
            // What cannot be opened is an error of the image, and everything else one of the output.
            File::open(from).map_err(|source| ConvertError::Image {
                path: from.to_owned(),
                source: open_error(from, source),
            })?;
            fs::copy(from, to).map_err(|source| write_error(to, source))?;
        }
        Ok(!is_linked)
    }
}

#[cfg(unix)]
fn symbolic_link(from: &Path, to: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(from, to)
}

#[cfg(not(unix))]
fn symbolic_link(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn place_images(
    placed: &[PlacedSplit],
    place: Place,
    output: Output,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<usize, ConvertError> {
    let images: Vec<(PathBuf, String)> = placed
        .iter()
        .flat_map(|split| {
            let read = split.annotations;
            let paths = split.image_paths.iter().enumerate();
            paths.map(|(index, path)| {
                let from = read.image_root.join(read.store.image(index).file_name);
                (from, path.clone())
            })
        })
        .collect();
    put_all(place, &images, output, progress)
}

/// Places images, some at a time: most of the time is spent waiting for the file system. Returns the number of those that
/// were copied.
pub(super) fn put_all(
    place: Place,
    images: &[(PathBuf, String)],
    output: Output,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<usize, ConvertError> {
    /// Between two calls of `progress`, a moment.
    const AT_A_TIME: usize = 64;
    let directories: BTreeSet<&str> = images
        .iter()
        .map(|(_, path)| &path[..path.len() - last_part(path).len()])
        .collect();
    for directory in directories {
        output.path(&format!("{directory}x"))?;
    }
    // An image that is listed twice has one place.
    let mut targets = BTreeSet::new();
    let images: Vec<&(PathBuf, String)> = images
        .iter()
        .filter(|(_, to)| targets.insert(to.as_str()))
        .collect();
    let (mut done, mut copied) = (0, 0);
    for some in images.chunks(AT_A_TIME) {
        let put = some
            .par_iter()
            .map(|(from, to)| -> Result<usize, ConvertError> {
                let is_copied = place.put(from, &output.root().join(to))?;
                Ok(usize::from(is_copied))
            });
        copied += put.try_reduce(|| 0, |a, b| Ok(a + b))?;
        for _ in some {
            done += 1;
            if progress(done, images.len()).is_break() {
                return Err(ConvertError::Stopped);
            }
        }
    }
    Ok(copied)
}

/// Removes the images that were placed for the verification, and directories that are empty then.
fn remove_images(placed: &[PlacedSplit], root: &Path) -> Result<(), ConvertError> {
    for path in placed.iter().flat_map(|split| &split.image_paths) {
        let path = root.join(path);
        fs::remove_file(&path).map_err(|source| write_error(&path, source))?;
        let parents = path
            .ancestors()
            .skip(1)
            .take_while(|parent| *parent != root);
        for parent in parents {
            // A directory with other files stays.
            if fs::remove_dir(parent).is_err() {
                break;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::formats::FORMATS;
    use crate::annotations::layout::Split;
    use crate::annotations::{AnnotationStoreBuilder, NewAnnotation};
    use crate::boxes::ImageSize;

    #[test]
    fn a_writer_that_changes_a_box_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        image::RgbImage::new(60, 40)
            .save(dir.path().join("a.png"))
            .unwrap();
        let mut builder = AnnotationStoreBuilder::new();
        builder.add_category(1, "cat");
        builder.add_image(1, "a.png", ImageSize::new(40, 60));
        builder.add_annotation(NewAnnotation {
            id: 1,
            image_id: 1,
            category_id: 1,
            xywh: [10.0, 10.0, 20.0, 15.0],
            area: None,
            is_crowd: false,
        });
        let dataset = AnnotatedDataset {
            format: FORMATS[0],
            splits: vec![SplitAnnotations {
                split: Split::Train,
                store: builder.build().unwrap(),
                image_root: dir.path().to_owned(),
                dropped: Dropped::default(),
                besides_boxes: Dropped::default(),
                notes: Vec::new(),
            }],
        };
        for &format in FORMATS {
            let root = dir.path().join(format.key());
            let (mut placed, _) = placed_splits(&dataset, format).unwrap();
            fs::create_dir(&root).unwrap();
            let output = Output::new(&root);
            place_images(&placed, Place::Copy, output, &mut |_, _| {
                ControlFlow::Continue(())
            })
            .unwrap();
            format.write(&placed, &output).unwrap();
            verify(&placed, format, &root, &root).unwrap();
            placed[0].boxes[0][0].xywh[2] += 0.01;
            let message = verify(&placed, format, &root, &root)
                .unwrap_err()
                .to_string();
            assert!(message.contains("a.png has the box"), "{format}: {message}");
            placed[0].boxes[0].clear();
            let message = verify(&placed, format, &root, &root)
                .unwrap_err()
                .to_string();
            assert!(
                message.contains("a.png has 1 of 0 boxes"),
                "{format}: {message}"
            );
        }
    }

    #[test]
    fn an_output_within_or_around_the_input_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("root/sub");
        fs::create_dir_all(&deep).unwrap();
        assert!(refuse_input(&deep.join("new/out"), &deep).is_err());
        assert!(refuse_input(dir.path(), &deep).is_err());
        assert!(refuse_input(&dir.path().join("other"), &deep).is_ok());
        assert!(refuse_input(&dir.path().join("root/subway"), &deep).is_ok());
    }
}
