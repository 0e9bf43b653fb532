//! Public datasets: a table of their files, and their download to the directory where the
//! [`registry`](crate::datasets::registry) finds them.
//!
//! Lengths and SHA-256 are those that TensorFlow Datasets publishes (`url_checksums/coco.txt`,
//! `places365_small/checksums.tsv`) and, for CIFAR's Python archives, Keras. An archive is fetched,
//! checked, unpacked into a hidden directory beside its destination, moved into place and removed;
//! each of these steps resumes after a dropped connection or a killed run.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use indicatif::DecimalBytes;

use crate::datasets::download::{Checksum, Download, DownloadError};
use crate::datasets::unpack::{ArchiveKind, UnpackError, unpack};

/// Block size of the file system: a file takes up to this many bytes more than its length.
const DISK_BLOCK: u64 = 4096;

/// A dataset that can be downloaded without an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataSource {
    /// The name used in options.
    pub name: &'static str,
    /// The directory inside of the data directory.
    pub directory: &'static str,
    /// Marker files: a data directory that contains one of these, and no [`Self::directory`], is
    /// itself the dataset's directory.
    pub own_contents: &'static [&'static str],
    /// The base URL.
    pub base_url: String,
    /// The owner and license.
    pub terms: &'static str,
    /// The parts, in the order in which they are fetched.
    pub parts: Vec<DataPart>,
}

/// A file of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataPart {
    /// The name used in options.
    pub name: &'static str,
    /// The path below the base URL; the last component is its name on disk.
    pub path: &'static str,
    /// The length in bytes.
    pub bytes: u64,
    /// The SHA-256 in hexadecimal.
    pub sha256: String,
    /// The packaging.
    pub packing: Packing,
}

/// The packaging of a fetched file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packing {
    /// Used as it is.
    AsIs,
    /// Unpacked and removed.
    Archive {
        /// The archive format.
        kind: ArchiveKind,
        /// Approximate total length of its files in bytes.
        bytes: u64,
        /// The files and directories to unpack; all others are skipped.
        products: Vec<Product>,
    },
}

/// A file or directory of an archive, with the same path in the dataset's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// The path, with `/` between its parts.
    pub path: &'static str,
    /// The minimum number of files; a directory with fewer is incomplete. 1 for a file.
    pub files: u64,
}

/// Progress of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchProgress<'a> {
    /// The name of the part.
    pub part: &'a str,
    /// The current step.
    pub step: FetchStep,
    /// Bytes processed in this step.
    pub done: u64,
    /// Total bytes of this step, if known.
    pub total: Option<u64>,
}

/// A step of a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchStep {
    /// The file is downloaded, or compared with its checksum.
    Fetching,
    /// The archive is unpacked.
    Unpacking,
}

/// The result of [`DataSource::fetch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The dataset's directory.
    pub directory: PathBuf,
    /// The names of the parts that were fetched by this call.
    pub new: Vec<&'static str>,
    /// The names of the parts that existed before.
    pub already_there: Vec<&'static str>,
}

/// The reason why a dataset could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The dataset has no part of this name.
    #[error("{name} has no part '{part}'; its parts are {}", known.join(", "))]
    UnknownPart {
        /// The dataset.
        name: &'static str,
        /// The requested name.
        part: String,
        /// The existing parts.
        known: Vec<&'static str>,
    },
    /// The directory of a part exists but is incomplete.
    #[error(
        "{} already exists with {found} of its {expected} files", path.display()
    )]
    Occupied {
        /// The incomplete directory.
        path: PathBuf,
        /// Number of files in it.
        found: u64,
        /// Number of files that it should have.
        expected: u64,
    },
    /// The directory contains another dataset.
    #[error("{} already exists and is not from {name}", path.display())]
    OtherDataset {
        /// The conflicting file or directory.
        path: PathBuf,
        /// The dataset.
        name: &'static str,
    },
    /// Not enough disk space.
    #[error(
        "{}: not enough disk space: downloading and unpacking needs {}, {} are free",
        directory.display(), DecimalBytes(*needed), DecimalBytes(*free)
    )]
    NoSpace {
        /// The dataset's directory.
        directory: PathBuf,
        /// Required space, in bytes.
        needed: u64,
        /// Available space, in bytes.
        free: u64,
        /// The parts to fetch.
        parts: Vec<&'static str>,
    },
    /// A file could not be fetched.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// The archive was received completely, but cannot be used.
    #[error("{}: {reason}; the archive was not used and was removed", archive.display())]
    Archive {
        /// The archive.
        archive: PathBuf,
        /// The problem.
        reason: String,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Disk {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl DataSource {
    /// Returns the dataset's directory for this data directory: the subdirectory of its name, or
    /// the data directory itself if that already is the dataset's, as in the registry.
    pub fn home(&self, data_dir: &Path) -> PathBuf {
        let inside = data_dir.join(self.directory);
        let is_own = |name: &&str| data_dir.join(name).exists();
        if !inside.is_dir() && self.own_contents.iter().any(is_own) {
            data_dir.to_owned()
        } else {
            inside
        }
    }

    /// Returns the parts with these names; all parts if none are given.
    ///
    /// # Errors
    /// No part has one of the names.
    pub fn select(&self, only: &[String]) -> Result<Vec<&DataPart>, FetchError> {
        let known = || self.parts.iter().map(|part| part.name);
        if let Some(unknown) = only
            .iter()
            .find(|name| !known().any(|known| known == *name))
        {
            return Err(FetchError::UnknownPart {
                name: self.name,
                part: unknown.clone(),
                known: known().collect(),
            });
        }
        let wanted =
            |part: &&DataPart| only.is_empty() || only.iter().any(|name| name == part.name);
        Ok(self.parts.iter().filter(wanted).collect())
    }

    /// Downloads the parts with these names, or all parts if none are given, into the dataset's
    /// directory. Existing parts are kept.
    ///
    /// # Errors
    /// See [`FetchError`]. Nothing is fetched if a part is incomplete or the disk lacks space.
    pub fn fetch(
        &self,
        data_dir: &Path,
        only: &[String],
        progress: &mut dyn FnMut(FetchProgress),
    ) -> Result<Fetched, FetchError> {
        let directory = self.home(data_dir);
        let mut fetched = Fetched {
            directory: directory.clone(),
            new: Vec::new(),
            already_there: Vec::new(),
        };
        let mut missing = Vec::new();
        for part in self.select(only)? {
            let work = PartWork {
                part,
                directory: &directory,
                download: Download {
                    checksum: Some(Checksum::Sha256(part.sha256.clone())),
                    expected_bytes: Some(part.bytes),
                    ..Download::new(self.url(part), directory.join(part.file_name()))
                },
            };
            if work.is_done()? {
                fetched.already_there.push(part.name)
            } else {
                missing.push(work)
            }
        }
        check_space(&directory, &missing)?;
        for work in missing {
            work.run(progress)?;
            fetched.new.push(work.part.name);
        }
        Ok(fetched)
    }

    fn url(&self, part: &DataPart) -> String {
        format!("{}/{}", self.base_url.trim_end_matches('/'), part.path)
    }
}

impl DataPart {
    fn file_name(&self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }

    /// Returns about how much disk space the unpacked files take; 0 for a file that is used as it
    /// is.
    fn unpacked_bytes(&self) -> u64 {
        match &self.packing {
            Packing::AsIs => 0,
            Packing::Archive {
                bytes, products, ..
            } => {
                let files: u64 = products.iter().map(|product| product.files).sum();
                bytes.saturating_add(files * DISK_BLOCK)
            }
        }
    }
}

/// A part that is being downloaded into a directory.
struct PartWork<'a> {
    part: &'a DataPart,
    /// The dataset's directory.
    directory: &'a Path,
    download: Download,
}

impl PartWork<'_> {
    /// Returns whether the part is complete.
    fn is_done(&self) -> Result<bool, FetchError> {
        let Packing::Archive { products, .. } = &self.part.packing else {
            return Ok(self.download.is_there()?);
        };
        for product in products {
            if !is_in_place(self.directory, product)? {
                return Ok(false);
            }
        }
        // Left by a run that was killed just before its end. Without it, the archive is the user's
        // own.
        if self.staging().is_dir() {
            self.clean_up()?;
        }
        Ok(true)
    }

    fn run(&self, progress: &mut dyn FnMut(FetchProgress)) -> Result<(), FetchError> {
        let mut report = |step, done, total| {
            progress(FetchProgress {
                part: self.part.name,
                step,
                done,
                total,
            });
        };
        self.download
            .run(&mut |done, total| report(FetchStep::Fetching, done, total))?;
        let Packing::Archive { kind, products, .. } = &self.part.packing else {
            return Ok(());
        };
        let mut missing = Vec::new();
        for product in products {
            if !is_in_place(self.directory, product)? {
                missing.push(product);
            }
        }
        let wanted = |path: &Path| missing.iter().any(|product| path.starts_with(product.path));
        let archive = &self.download.destination;
        let unpacked = unpack(
            archive,
            *kind,
            &self.staging(),
            &wanted,
            &mut |done, total| {
                report(FetchStep::Unpacking, done, total);
            },
        );
        match unpacked {
            Ok(()) => {}
            Err(UnpackError::Archive(reason)) => return Err(self.unusable(reason)),
            Err(UnpackError::Disk { path, source }) => {
                return Err(FetchError::Disk { path, source });
            }
        }
        if let Some(absent) = missing
            .iter()
            .find(|product| !self.staging().join(product.path).exists())
        {
            return Err(self.unusable(format!("{} is not in it", absent.path)));
        }
        for product in missing {
            self.move_into_place(product)?;
        }
        self.clean_up()
    }

    /// Returns the directory where the archive is unpacked: on the same disk as its destination,
    /// because it is renamed.
    fn staging(&self) -> PathBuf {
        let mut name = OsString::from(".unpacking-");
        name.push(self.part.file_name());
        self.directory.join(name)
    }

    fn move_into_place(&self, product: &Product) -> Result<(), FetchError> {
        let (from, to) = (
            self.staging().join(product.path),
            self.directory.join(product.path),
        );
        let disk = |source| FetchError::Disk {
            path: to.clone(),
            source,
        };
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(disk)?;
        }
        // An empty directory blocks a rename on some systems; one with files was refused.
        let _ = fs::remove_dir(&to);
        fs::rename(&from, &to).map_err(disk)
    }

    /// Removes the archive and the rest of its unpacking directory, in this order.
    fn clean_up(&self) -> Result<(), FetchError> {
        let archive = &self.download.destination;
        let staging = self.staging();
        for (path, removed) in [
            (archive, fs::remove_file(archive)),
            (&staging, fs::remove_dir_all(&staging)),
        ] {
            match removed {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    let path = path.clone();
                    return Err(FetchError::Disk { path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn unusable(&self, reason: String) -> FetchError {
        // The error to report is that of the archive; a leftover that can't be removed is harmless.
        let _ = self.clean_up();
        FetchError::Archive {
            archive: self.download.destination.clone(),
            reason,
        }
    }

    /// Returns how many bytes of the fetched file are on disk.
    fn fetched_bytes(&self) -> u64 {
        match fs::metadata(&self.download.destination) {
            Ok(metadata) => metadata.len(),
            Err(_) => self.download.bytes_received(),
        }
        .min(self.part.bytes)
    }
}

/// Returns whether a product is complete.
fn is_in_place(directory: &Path, product: &Product) -> Result<bool, FetchError> {
    let path = directory.join(product.path);
    if path.is_file() {
        return Ok(true);
    }
    let found = contents(&path).0;
    if found > 0 && found < product.files {
        Err(FetchError::Occupied {
            path,
            found,
            expected: product.files,
        })
    } else {
        Ok(found > 0)
    }
}

/// Returns the number of files in a directory, at any depth, and about how much disk space they
/// take. Unreadable entries count as absent.
fn contents(directory: &Path) -> (u64, u64) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut total = (0, 0);
    for entry in entries {
        let (files, bytes) = match entry.file_type() {
            Ok(kind) if kind.is_dir() => contents(&entry.path()),
            _ => (
                1,
                entry.metadata().map_or(0, |metadata| metadata.len()) + DISK_BLOCK,
            ),
        };
        total = (total.0 + files, total.1 + bytes);
    }
    total
}

/// Checks that the disk can hold each archive together with its files, and all files of the parts
/// before it.
fn check_space(directory: &Path, missing: &[PartWork]) -> Result<(), FetchError> {
    let existing = directory.ancestors().find(|ancestor| ancestor.is_dir());
    // Where the free space is unknown, a full disk is an error of the write.
    let Ok(free) = fs4::available_space(existing.unwrap_or(Path::new("."))) else {
        return Ok(());
    };
    let needed = space_needed(missing);
    if needed > free {
        Err(FetchError::NoSpace {
            directory: directory.to_owned(),
            needed,
            free,
            parts: missing.iter().map(|work| work.part.name).collect(),
        })
    } else {
        Ok(())
    }
}

/// Returns the maximum space needed at any time beyond what is on the disk now, in bytes.
fn space_needed(missing: &[PartWork]) -> u64 {
    let (mut used, mut most) = (0i128, 0i128);
    for work in missing {
        let (length, fetched) = (work.part.bytes, work.fetched_bytes());
        let unpacked = work.part.unpacked_bytes();
        let to_write = unpacked.saturating_sub(contents(&work.staging()).1);
        used += i128::from(length - fetched) + i128::from(to_write);
        most = most.max(used);
        if unpacked > 0 {
            used -= i128::from(length);
        }
    }
    u64::try_from(most).unwrap_or(0)
}

/// Returns the datasets of this table, in the order of the help text.
pub fn data_sources() -> Vec<DataSource> {
    vec![
        cifar10(),
        cifar100(),
        coco(),
        places365(),
        imagenet_val_list(),
    ]
}

/// Returns the dataset with this name.
pub fn data_source(name: &str) -> Option<DataSource> {
    data_sources()
        .into_iter()
        .find(|source| source.name == name)
}

fn cifar10() -> DataSource {
    DataSource {
        name: "cifar10",
        directory: "cifar10",
        own_contents: &[],
        base_url: "https://www.cs.toronto.edu/~kriz".into(),
        terms: "CIFAR-10, Alex Krizhevsky 2009; no license is stated, its page asks to cite \
                \"Learning Multiple Layers of Features from Tiny Images\"",
        parts: vec![DataPart {
            name: "python",
            path: "cifar-10-python.tar.gz",
            bytes: 170_498_071,
            sha256: "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce".into(),
            packing: Packing::AsIs,
        }],
    }
}

fn cifar100() -> DataSource {
    DataSource {
        name: "cifar100",
        directory: "cifar100",
        terms: "CIFAR-100, Alex Krizhevsky 2009; no license is stated, its page asks to cite \
                \"Learning Multiple Layers of Features from Tiny Images\"",
        parts: vec![DataPart {
            name: "python",
            path: "cifar-100-python.tar.gz",
            bytes: 169_001_437,
            sha256: "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7".into(),
            packing: Packing::AsIs,
        }],
        ..cifar10()
    }
}

fn coco() -> DataSource {
    let images = |name, path, bytes, sha256: &str, files| DataPart {
        name,
        path,
        bytes,
        sha256: sha256.into(),
        packing: Packing::Archive {
            kind: ArchiveKind::Zip,
            bytes,
            products: vec![Product { path: name, files }],
        },
    };
    // Single files, so that a directory with the user's own annotations does not conflict.
    let annotations = [
        "annotations/instances_train2017.json",
        "annotations/instances_val2017.json",
        "annotations/person_keypoints_train2017.json",
        "annotations/person_keypoints_val2017.json",
        "annotations/captions_train2017.json",
        "annotations/captions_val2017.json",
    ];
    DataSource {
        name: "coco",
        directory: "coco",
        own_contents: &["annotations", "train2017", "val2017"],
        base_url: "http://images.cocodataset.org".into(),
        terms: "COCO 2017: the annotations are CC BY 4.0, the images are subject to Flickr's terms \
                of use (https://cocodataset.org/#termsofuse)",
        parts: vec![
            DataPart {
                name: "annotations",
                path: "annotations/annotations_trainval2017.zip",
                bytes: 252_907_541,
                sha256: "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268".into(),
                packing: Packing::Archive {
                    kind: ArchiveKind::Zip,
                    bytes: 850_000_000,
                    products: annotations.map(|path| Product { path, files: 1 }).into(),
                },
            },
            images(
                "val2017",
                "zips/val2017.zip",
                815_585_330,
                "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
                5_000,
            ),
            images(
                "train2017",
                "zips/train2017.zip",
                19_336_861_798,
                "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
                118_287,
            ),
        ],
    }
}

fn places365() -> DataSource {
    let archive = |name, path, bytes, sha256: &str, products: &[(&'static str, u64)]| DataPart {
        name,
        path,
        bytes,
        sha256: sha256.into(),
        packing: Packing::Archive {
            kind: ArchiveKind::Tar,
            bytes,
            products: products
                .iter()
                .map(|&(path, files)| Product { path, files })
                .collect(),
        },
    };
    DataSource {
        name: "places365",
        directory: "places365",
        own_contents: &["categories_places365.txt"],
        base_url: "http://data.csail.mit.edu/places/places365".into(),
        terms: "Places365-Standard, MIT: for non-commercial research and education only, and not to \
                be passed on (http://places2.csail.mit.edu/download.html)",
        parts: vec![
            archive(
                "lists",
                "filelist_places365-standard.tar",
                67_498_496,
                "520699e00d69b63ddc29fac54645aa00ce1c10ca42e288960aa1cf791d6e9aa9",
                &[
                    ("categories_places365.txt", 1),
                    ("places365_train_standard.txt", 1),
                    ("places365_val.txt", 1),
                ],
            ),
            archive(
                "val",
                "val_256.tar",
                525_158_400,
                "24b4e639ef12a0012af525bc4cb443e4ab4aaea8369a1fb009b70e4a4aad5d48",
                &[("val_256", 36_500)],
            ),
            archive(
                "train",
                "train_256_places365standard.tar",
                26_103_685_120,
                "0ade5d7d38c682aa0203014a2b99ad3bf608bf1de0f151dc0d80efba54660a0a",
                &[("data_256", 1_803_460)],
            ),
        ],
    }
}

fn imagenet_val_list() -> DataSource {
    DataSource {
        name: "imagenet-val-list",
        directory: "imagenet",
        own_contents: &["train", "val", "ILSVRC", "Data", "CLS-LOC"],
        base_url: "https://raw.githubusercontent.com".into(),
        terms: "the labels of ImageNet's val images (ILSVRC 2012), from tensorflow/models \
                (Apache-2.0)",
        parts: vec![DataPart {
            name: "list",
            path: "tensorflow/models/c80d1b17d5f835e6f2cdeddefeb16c193beed071/research/slim/datasets/\
                   imagenet_2012_validation_synset_labels.txt",
            bytes: 500_000,
            // Of the same file in the package tensorflow-datasets 4.9.10.
            sha256: "313fc3f23c864dde9183c9a368809065765dd1b657a6904fded44e3e46d34604".into(),
            packing: Packing::AsIs,
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(part: &DataPart) -> PartWork<'_> {
        PartWork {
            part,
            directory: Path::new("no/such/directory"),
            download: Download::new("http://unused", "no/such/directory/file"),
        }
    }

    #[test]
    fn every_entry_of_the_table_is_complete() {
        for source in data_sources() {
            assert!(!source.parts.is_empty());
            for part in &source.parts {
                assert_eq!(part.sha256.len(), 64, "{}", part.path);
                assert!(part.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()));
                assert!(part.bytes > 0 && !part.file_name().is_empty());
            }
        }
    }

    #[test]
    fn space_is_that_of_the_largest_archive_with_its_files_after_all_others_are_unpacked() {
        let part = |bytes, unpacked| DataPart {
            name: "part",
            path: "part.zip",
            bytes,
            sha256: String::new(),
            packing: Packing::Archive {
                kind: ArchiveKind::Zip,
                bytes: unpacked,
                products: Vec::new(),
            },
        };
        let parts = [part(100, 300), part(1000, 1100), part(10, 20)];
        let works: Vec<PartWork> = parts.iter().map(work).collect();
        assert_eq!(space_needed(&works), 300 + 1000 + 1100);
        let as_is = DataPart {
            packing: Packing::AsIs,
            ..part(700, 0)
        };
        assert_eq!(space_needed(&[work(&as_is), work(&as_is)]), 1400);
        assert_eq!(space_needed(&[]), 0);
    }
}
