//! CIFAR-10 and CIFAR-100 in their binary form: records of one or two label bytes and 3072 bytes
//! of red, green and blue planes of 32x32.

use std::path::{Path, PathBuf};

use image::RgbImage;

use super::layout::Split;
use crate::data::DataError;
use crate::data::dataset::ImageSource;
use crate::data::labelled::LabelledDataset;

/// Side of every picture in pixels.
const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;

/// Labelled pictures of 32x32 in memory (31 MB for each 10,000).
#[derive(Debug, Clone)]
pub struct CifarImages {
    /// By label.
    pub class_names: Vec<String>,
    labels: Vec<u8>,
    pixels: Vec<u8>,
}

/// The two data sets differ in files and in the bytes before the pixels.
struct Form {
    test: &'static str,
    train: &'static [&'static str],
    names: &'static str,
    classes: usize,
    label_bytes: usize,
}

const FORMS: [Form; 2] = [
    Form {
        test: "test_batch.bin",
        train: &[
            "data_batch_1.bin",
            "data_batch_2.bin",
            "data_batch_3.bin",
            "data_batch_4.bin",
            "data_batch_5.bin",
        ],
        names: "batches.meta.txt",
        classes: 10,
        label_bytes: 1,
    },
    Form {
        test: "test.bin",
        train: &["train.bin"],
        names: "fine_label_names.txt",
        classes: 100,
        // The coarse label, then the fine one.
        label_bytes: 2,
    },
];

impl CifarImages {
    /// The pictures of a split in a folder; val and test are both the test batch. Of the training
    /// batches those are taken that are there, at least one.
    ///
    /// # Errors
    /// Neither data set in the folder, an unreadable or cut file, a label out of range.
    pub fn open(folder: &Path, split: Split) -> Result<Self, DataError> {
        let form = FORMS
            .iter()
            .find(|form| folder.join(form.test).is_file())
            .ok_or_else(|| DataError::Io {
                path: folder.to_path_buf(),
                source: std::io::Error::new(
                    std::io::ErrorKind::NotFound,
                    "no test_batch.bin (CIFAR-10) and no test.bin (CIFAR-100), the binary version of the data",
                ),
            })?;
        let files: Vec<PathBuf> = match split {
            Split::Train => form
                .train
                .iter()
                .map(|name| folder.join(name))
                .filter(|path| path.is_file())
                .collect(),
            Split::Val | Split::Test => vec![folder.join(form.test)],
        };
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| DataError::Io {
                path: path.to_path_buf(),
                source,
            })
        };
        let invalid = |path: &Path, problem: String| DataError::Io {
            path: path.to_path_buf(),
            source: std::io::Error::new(std::io::ErrorKind::InvalidData, problem),
        };
        if files.is_empty() {
            return Err(invalid(folder, format!("no {}", form.train[0])));
        }
        let names_path = folder.join(form.names);
        let class_names: Vec<String> = match names_path.is_file() {
            true => String::from_utf8_lossy(&read(&names_path)?)
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .map(str::to_string)
                .collect(),
            false => (0..form.classes).map(|c| format!("class {c}")).collect(),
        };
        if class_names.len() != form.classes {
            let problem = format!("{} names for {} classes", class_names.len(), form.classes);
            return Err(invalid(&names_path, problem));
        }
        let (mut labels, mut pixels) = (Vec::new(), Vec::new());
        let record = form.label_bytes + 3 * PLANE;
        for path in &files {
            let bytes = read(path)?;
            if bytes.is_empty() || bytes.len() % record != 0 {
                let problem = format!(
                    "{} bytes are no whole number of records of {record}: the file is cut, or not CIFAR's binary version",
                    bytes.len()
                );
                return Err(invalid(path, problem));
            }
            for record in bytes.chunks_exact(record) {
                let (before, image) = record.split_at(form.label_bytes);
                let label = before[form.label_bytes - 1];
                if usize::from(label) >= form.classes {
                    let problem = format!("label {label} of {} classes", form.classes);
                    return Err(invalid(path, problem));
                }
                labels.push(label);
                pixels.extend_from_slice(image);
            }
        }
        Ok(Self {
            class_names,
            labels,
            pixels,
        })
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The label of a picture, an index of the class names.
    pub fn label(&self, index: usize) -> usize {
        usize::from(self.labels[index])
    }

    /// As a data set for training and evaluation.
    ///
    /// # Errors
    /// Never: the files were checked when they were read.
    pub fn into_dataset(self) -> Result<LabelledDataset, DataError> {
        let labels = self.labels.iter().map(|&label| label.into()).collect();
        LabelledDataset::new("CIFAR", self.class_names.clone(), labels, self)
    }

    /// A picture.
    pub fn image(&self, index: usize) -> RgbImage {
        let planes = &self.pixels[3 * PLANE * index..3 * PLANE * (index + 1)];
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
        format!("CIFAR picture {index}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let ten = CifarImages::open(dir.path(), Split::Test).unwrap();
        assert_eq!((ten.len(), ten.label(0), ten.label(1)), (2, 9, 0));
        assert_eq!(ten.image(1).get_pixel(31, 31).0, [8, 2, 3]);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("test.bin"), record(&[3, 99], 1)).unwrap();
        let hundred = CifarImages::open(dir.path(), Split::Val).unwrap();
        assert_eq!((hundred.label(0), hundred.class_names.len()), (99, 100));
    }

    #[test]
    fn cut_files_wrong_labels_and_empty_folders_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let message = || {
            let error = CifarImages::open(dir.path(), Split::Test).unwrap_err();
            error.to_string()
        };
        assert!(message().contains("no test_batch.bin"), "{}", message());
        let file = dir.path().join("test_batch.bin");
        std::fs::write(&file, &record(&[1], 1)[..3000]).unwrap();
        assert!(message().contains("the file is cut"), "{}", message());
        std::fs::write(&file, record(&[10], 1)).unwrap();
        assert!(message().contains("label 10 of 10"), "{}", message());
    }
}
