//! CIFAR-10 and CIFAR-100 in their four published forms, unpacked or as archives.
//!
//! | | directory | archive | images | names |
//! |---|---|---|---|---|
//! | CIFAR-10 | `cifar-10-batches-bin` | `cifar-10-binary.tar.gz` | `data_batch_1.bin` to `5`, `test_batch.bin` | `batches.meta.txt` |
//! | | `cifar-10-batches-py` | `cifar-10-python.tar.gz` | `data_batch_1` to `5`, `test_batch` | `batches.meta` |
//! | CIFAR-100 | `cifar-100-binary` | `cifar-100-binary.tar.gz` | `train.bin`, `test.bin` | `fine_label_names.txt` |
//! | | `cifar-100-python` | `cifar-100-python.tar.gz` | `train`, `test` | `meta` |
//!
//! The binary form has records of one or two label bytes and 3072 bytes of red, green and blue
//! planes of 32x32; the Python form has pickled dictionaries with the same planes as a NumPy array
//! `[images, 3072]`. CIFAR-100 is read by its fine labels.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use image::RgbImage;

use crate::annotations::layout::{Split, join};
use crate::datasets::labeled::LabeledDataset;
use crate::images::ImageSource;
use crate::pickle::Pickle;
use crate::{DataError, Remedy};

/// Side of every image, in pixels.
const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const PIXELS: usize = 3 * PLANE;
/// Upper limit of a file's length; the largest, CIFAR-100's training images, has 156 million bytes.
const MAX_FILE: u64 = 512 << 20;

/// The two datasets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CifarVariant {
    /// CIFAR-10, with 10 classes.
    Cifar10,
    /// CIFAR-100, with 100 classes.
    Cifar100,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    /// Returns the number of label bytes in a record; the last one is used.
    Binary { label_bytes: usize },
    /// Returns the keys of the labels and of the label names.
    Python {
        labels: &'static str,
        names: &'static str,
    },
}

/// One of the four published forms.
#[derive(Debug, PartialEq, Eq)]
struct Form {
    variant: CifarVariant,
    coding: Coding,
    classes: usize,
    directory: &'static str,
    archive: &'static str,
    train: &'static [&'static str],
    test: &'static str,
    names: &'static str,
}

static FORMS: [Form; 4] = [
    Form {
        variant: CifarVariant::Cifar10,
        coding: Coding::Binary { label_bytes: 1 },
        classes: 10,
        directory: "cifar-10-batches-bin",
        archive: "cifar-10-binary.tar.gz",
        train: &[
            "data_batch_1.bin",
            "data_batch_2.bin",
            "data_batch_3.bin",
            "data_batch_4.bin",
            "data_batch_5.bin",
        ],
        test: "test_batch.bin",
        names: "batches.meta.txt",
    },
    Form {
        variant: CifarVariant::Cifar10,
        coding: Coding::Python {
            labels: "labels",
            names: "label_names",
        },
        classes: 10,
        directory: "cifar-10-batches-py",
        archive: "cifar-10-python.tar.gz",
        train: &[
            "data_batch_1",
            "data_batch_2",
            "data_batch_3",
            "data_batch_4",
            "data_batch_5",
        ],
        test: "test_batch",
        names: "batches.meta",
    },
    Form {
        variant: CifarVariant::Cifar100,
        coding: Coding::Binary { label_bytes: 2 },
        classes: 100,
        directory: "cifar-100-binary",
        archive: "cifar-100-binary.tar.gz",
        train: &["train.bin"],
        test: "test.bin",
        names: "fine_label_names.txt",
    },
    Form {
        variant: CifarVariant::Cifar100,
        coding: Coding::Python {
            labels: "fine_labels",
            names: "fine_label_names",
        },
        classes: 100,
        directory: "cifar-100-python",
        archive: "cifar-100-python.tar.gz",
        train: &["train"],
        test: "test",
        names: "meta",
    },
];

impl Form {
    /// Returns whether a directory has the files of this form. The names of the Python form are
    /// common words, so two of them are required.
    fn is_in(&self, directory: &Path) -> bool {
        let has = |name: &str| directory.join(name).is_file();
        has(self.test) && (matches!(self.coding, Coding::Binary { .. }) || has(self.names))
    }
}

/// The files of one of the two datasets, found but not read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CifarFiles {
    form: &'static Form,
    location: Location,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Location {
    Directory(PathBuf),
    Archive(PathBuf),
}

impl CifarFiles {
    /// Finds a dataset in a directory, in its published sub-directories, and then for its archives;
    /// the binary form first.
    pub fn find(directory: &Path, variant: CifarVariant) -> Option<Self> {
        let forms = || FORMS.iter().filter(|form| form.variant == variant);
        let unpacked = forms().find_map(|form| {
            let directories = [directory.to_owned(), directory.join(form.directory)];
            let location = directories
                .into_iter()
                .find(|directory| form.is_in(directory))?;
            Some((form, Location::Directory(location)))
        });
        let packed = || {
            forms().find_map(|form| {
                let archive = directory.join(form.archive);
                archive
                    .is_file()
                    .then_some((form, Location::Archive(archive)))
            })
        };
        let (form, location) = unpacked.or_else(packed)?;
        Some(Self { form, location })
    }

    /// Reads the images of a split; val and test are both the test batch. An incomplete training set is an
    /// error.
    ///
    /// # Errors
    /// A file is missing, unreadable, truncated or of another kind, or a label is out of range.
    pub fn open(&self, split: Split) -> Result<CifarImages, DataError> {
        let form = self.form;
        let test = [form.test];
        let batches = match split {
            Split::Train => form.train,
            Split::Val | Split::Test => &test,
        };
        let mut class_names = None;
        let mut read = BTreeMap::new();
        self.each_file(batches, &mut |name, bytes| {
            if name == form.names {
                class_names = Some(form.class_names(&bytes)?);
            } else {
                read.insert(name.to_owned(), form.batch(bytes)?);
            }
            Ok(())
        })?;
        let path = self.path();
        let missing = batches.iter().filter(|name| !read.contains_key(**name));
        let missing: Vec<&str> = missing.copied().collect();
        if !missing.is_empty() {
            let problem = format!("no {} in it", missing.join(", "));
            return Err(DataError::labels(path, problem).with(Remedy::Original));
        }
        let class_names = match (class_names, form.coding) {
            (Some(names), _) => names,
            (None, Coding::Binary { .. }) => {
                (0..form.classes).map(|c| format!("class {c}")).collect()
            }
            (None, Coding::Python { .. }) => {
                let problem = format!("no {} in it", form.names);
                return Err(DataError::labels(path, problem).with(Remedy::Original));
            }
        };
        let mut images = CifarImages {
            class_names,
            labels: Vec::new(),
            pixels: Vec::new(),
        };
        for batch in read.into_values() {
            images.labels.extend(batch.labels);
            if images.pixels.is_empty() {
                images.pixels = batch.pixels
            } else {
                images.pixels.extend(batch.pixels)
            }
        }
        Ok(images)
    }

    /// Returns the directory or archive.
    fn path(&self) -> &Path {
        match &self.location {
            Location::Directory(path) | Location::Archive(path) => path,
        }
    }

    /// Calls `read` with each of these files, and with the file of class names, if it exists.
    fn each_file(&self, batches: &[&str], read: ReadFile) -> Result<(), DataError> {
        let mut wanted: Vec<&str> = batches.to_vec();
        wanted.push(self.form.names);
        match &self.location {
            Location::Directory(directory) => {
                for name in wanted {
                    let path = directory.join(name);
                    if !path.is_file() {
                        continue;
                    }
                    let io = |source| DataError::io(&path, source);
                    let file = File::open(&path).map_err(io)?;
                    let size = file.metadata().map_err(io)?.len();
                    let problem = |problem| DataError::labels(&path, problem);
                    check_size(size).map_err(problem)?;
                    let mut bytes = Vec::with_capacity(size as usize);
                    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(io)?;
                    read(name, bytes).map_err(problem)?;
                }
                Ok(())
            }
            Location::Archive(path) => each_member(path, &mut wanted, read),
        }
    }
}

/// A callback for a file's name and content; a problem becomes an error that names the file.
type ReadFile<'a> = &'a mut dyn FnMut(&str, Vec<u8>) -> Result<(), String>;

/// Calls `read` with the members of an archive that have these names, in the archive's order, and stops after the last.
fn each_member(path: &Path, wanted: &mut Vec<&str>, read: ReadFile) -> Result<(), DataError> {
    let damaged = |error: std::io::Error| {
        let problem = format!("the archive is truncated or damaged ({error})");
        DataError::labels(path, problem).with(Remedy::Original)
    };
    let file = File::open(path).map_err(|source| DataError::io(path, source))?;
    let mut archive = tar::Archive::new(GzDecoder::new(BufReader::new(file)));
    for member in archive.entries().map_err(damaged)? {
        let member = member.map_err(damaged)?;
        let within = member.path().map_err(damaged)?.into_owned();
        let name = within.file_name().and_then(|name| name.to_str());
        let Some(place) = wanted.iter().position(|wanted| name == Some(wanted)) else {
            continue;
        };
        let problem = |problem: String| {
            let problem = format!("{}: {problem}", within.display());
            DataError::labels(path, problem).with(Remedy::Original)
        };
        let size = member.size();
        check_size(size).map_err(problem)?;
        let mut bytes = Vec::new();
        member
            .take(MAX_FILE)
            .read_to_end(&mut bytes)
            .map_err(damaged)?;
        if bytes.len() as u64 != size {
            return Err(damaged(std::io::ErrorKind::UnexpectedEof.into()));
        }
        read(wanted.swap_remove(place), bytes).map_err(problem)?;
        if wanted.is_empty() {
            break;
        }
    }
    Ok(())
}

fn check_size(size: u64) -> Result<(), String> {
    if size > MAX_FILE {
        Err(format!("{size} bytes are too many for a file of CIFAR"))
    } else {
        Ok(())
    }
}

/// A file of images.
struct Batch {
    labels: Vec<u8>,
    pixels: Vec<u8>,
}

impl Form {
    fn class_names(&self, bytes: &[u8]) -> Result<Vec<String>, String> {
        let names: Vec<String> = match self.coding {
            Coding::Binary { .. } => String::from_utf8_lossy(bytes)
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .map(str::to_string)
                .collect(),
            Coding::Python { names, .. } => {
                let pickle = read_pickle(bytes)?;
                let list = pickle.root().get(names);
                let texts = list.into_iter().flat_map(|list| list.items());
                texts
                    .filter_map(|name| name.text().map(str::to_owned))
                    .collect()
            }
        };
        if names.len() == self.classes {
            Ok(names)
        } else {
            Err(format!(
                "{} for {} classes",
                crate::text::count(names.len(), "name"),
                self.classes
            ))
        }
    }

    fn batch(&self, bytes: Vec<u8>) -> Result<Batch, String> {
        let batch = match self.coding {
            Coding::Binary { label_bytes } => binary_batch(&bytes, label_bytes)?,
            Coding::Python { labels, .. } => python_batch(bytes, labels)?,
        };
        let wrong = |label: &&u8| usize::from(**label) >= self.classes;
        match batch.labels.iter().find(wrong) {
            Some(label) => Err(format!("label {label} of {} classes", self.classes)),
            None => Ok(batch),
        }
    }
}

fn binary_batch(bytes: &[u8], label_bytes: usize) -> Result<Batch, String> {
    let record = label_bytes + PIXELS;
    if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
        return Err(format!(
            "{} bytes are not a multiple of the record length {record}: the file is truncated, or not \
             CIFAR's binary version",
            bytes.len()
        ));
    }
    let count = bytes.len() / record;
    let mut batch = Batch {
        labels: Vec::with_capacity(count),
        pixels: Vec::with_capacity(count * PIXELS),
    };
    for record in bytes.chunks_exact(record) {
        let (before, pixels) = record.split_at(label_bytes);
        batch.labels.push(before[label_bytes - 1]);
        batch.pixels.extend_from_slice(pixels);
    }
    Ok(batch)
}

fn read_pickle(bytes: &[u8]) -> Result<Pickle, String> {
    Pickle::read(bytes, bytes.len() as u64)
        .map_err(|error| format!("not a complete CIFAR pickle: {error}"))
}

fn python_batch(mut bytes: Vec<u8>, labels_key: &str) -> Result<Batch, String> {
    let pickle = read_pickle(&bytes)?;
    let root = pickle.root();
    let labels: Option<Vec<u8>> = root.get(labels_key).and_then(|list| {
        let numbers = list.items().map(|label| label.number());
        numbers.map(|n| u8::try_from(n?).ok()).collect()
    });
    let array = root.get("data").and_then(|data| data.array());
    let (Some(labels), Some(array)) = (labels, array) else {
        return Err(format!(
            "it lacks the 'data' and '{labels_key}' of CIFAR's Python version"
        ));
    };
    let count = labels.len();
    let is_usable = array.element_code == "u1" && !array.is_fortran;
    if array.shape != [count, PIXELS] || !is_usable {
        return Err(format!(
            "its 'data' has the shape [{}] and type {}; {count} labels need [{count}, {PIXELS}] and u1, by rows",
            join(array.shape.iter()),
            array.element_code
        ));
    }
    let damaged = || "its 'data' is damaged".to_owned();
    let (start, end) = (array.data.start as usize, array.data.end as usize);
    let pixels = if array.is_text {
        let text = bytes.get(start..end).map(std::str::from_utf8);
        let characters = text.and_then(Result::ok).ok_or_else(damaged)?.chars();
        characters
            .map(|c| u8::try_from(u32::from(c)).ok())
            .collect::<Option<_>>()
            .ok_or_else(damaged)?
    } else {
        // In place, because it is most of the file.
        bytes.truncate(end);
        bytes.drain(..start.min(bytes.len()));
        bytes
    };
    if pixels.len() == count * PIXELS && count > 0 {
        Ok(Batch { labels, pixels })
    } else {
        Err(damaged())
    }
}

/// Labeled images of 32x32 in memory (31 MB for each 10,000).
#[derive(Debug, Clone)]
pub struct CifarImages {
    /// Class names by label.
    pub class_names: Vec<String>,
    labels: Vec<u8>,
    pixels: Vec<u8>,
}

impl CifarImages {
    /// Returns the number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Returns whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Returns the label of an image, an index of the class names.
    pub fn label(&self, index: usize) -> usize {
        usize::from(self.labels[index])
    }

    /// Converts to a dataset for training and evaluation.
    ///
    /// # Errors
    /// Never in practice: the files were validated when they were read.
    pub(crate) fn into_dataset(self) -> Result<LabeledDataset, DataError> {
        let labels = self.labels.iter().map(|&label| label.into()).collect();
        LabeledDataset::new("CIFAR", self.class_names.clone(), labels, self)
    }

    /// Returns an image.
    pub fn image(&self, index: usize) -> RgbImage {
        let planes = &self.pixels[PIXELS * index..PIXELS * (index + 1)];
        RgbImage::from_fn(SIDE as u32, SIDE as u32, |x, y| {
            let at = y as usize * SIDE + x as usize;
            image::Rgb([planes[at], planes[PLANE + at], planes[2 * PLANE + at]])
        })
    }
}

impl ImageSource for CifarImages {
    fn load(&self, index: usize) -> Result<RgbImage, DataError> {
        Ok(self.image(index))
    }

    fn describe(&self, index: usize) -> String {
        format!("CIFAR image {index}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(
        directory: &Path,
        variant: CifarVariant,
        split: Split,
    ) -> Result<CifarImages, DataError> {
        CifarFiles::find(directory, variant).unwrap().open(split)
    }

    fn record(label: &[u8], red: u8) -> Vec<u8> {
        let mut bytes = label.to_vec();
        bytes.extend([red; PLANE]);
        bytes.extend([2; PLANE]);
        bytes.extend([3; PLANE]);
        bytes
    }

    #[test]
    fn records_of_both_data_sets_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = record(&[9], 7);
        bytes.extend(record(&[0], 8));
        std::fs::write(dir.path().join("test_batch.bin"), bytes).unwrap();
        let ten = open(dir.path(), CifarVariant::Cifar10, Split::Test).unwrap();
        assert_eq!((ten.len(), ten.label(0), ten.label(1)), (2, 9, 0));
        assert_eq!(ten.image(1).get_pixel(31, 31).0, [8, 2, 3]);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("test.bin"), record(&[3, 99], 1)).unwrap();
        let hundred = open(dir.path(), CifarVariant::Cifar100, Split::Val).unwrap();
        assert_eq!((hundred.label(0), hundred.class_names.len()), (99, 100));
    }

    #[test]
    fn cut_files_and_wrong_labels_are_named_and_an_empty_directory_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        let message = || {
            let error = open(dir.path(), CifarVariant::Cifar10, Split::Test).unwrap_err();
            error.to_string()
        };
        assert_eq!(CifarFiles::find(dir.path(), CifarVariant::Cifar10), None);
        let file = dir.path().join("test_batch.bin");
        std::fs::write(&file, &record(&[1], 1)[..3000]).unwrap();
        assert!(message().contains("the file is truncated"), "{}", message());
        std::fs::write(&file, record(&[10], 1)).unwrap();
        assert!(message().contains("label 10 of 10"), "{}", message());
    }
}
