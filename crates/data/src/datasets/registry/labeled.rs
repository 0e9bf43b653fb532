//! Classification datasets by name or by directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::annotations::image_files::DirectoryListing;
use crate::annotations::layout::{Split, join};
use crate::annotations::same_content::{MOST_IMAGES, first_with_content};
use crate::datasets::cifar::{CifarFiles, CifarImages, CifarVariant};
use crate::datasets::detection::{alike_class_names, says_little};
use crate::datasets::image_folder::{ImageFolder, holds_annotations};
use crate::datasets::imagenet::ImageNetDirectory;
use crate::datasets::labeled::LabeledDataset;
use crate::datasets::nested_classes::directory_of_domains;
use crate::datasets::places365::{CATEGORIES, PlacesTrain, open_places365};
use crate::datasets::registry::{LIST_SEPARATOR, RegistryError, directory_of};
use crate::images::OnBadImage;
use crate::text::count;
use crate::{DataError, Remedy};

/// A classification dataset: a known name or a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabeledName {
    /// CIFAR-10.
    Cifar10,
    /// CIFAR-100, by its fine labels.
    Cifar100,
    /// A directory with the files of CIFAR-10 or CIFAR-100.
    CifarDirectory(PathBuf),
    /// ImageNet's classification challenge of 2012.
    ImageNet,
    /// A directory with ImageNet in one of its original layouts.
    ImageNetDirectory(PathBuf),
    /// Places365 with its standard training set.
    Places365,
    /// Places365 with the larger training set of the Places challenge.
    Places365Challenge,
    /// A directory with the lists of Places365.
    Places365Directory(PathBuf),
    /// Any directory with a subdirectory for each class.
    ImageFolder(PathBuf),
    /// Several directories with equal class names.
    List(Vec<LabeledName>),
}

impl LabeledName {
    /// The known names; anything else is a directory.
    pub const NAMES: [&str; 5] = [
        "imagenet",
        "places365",
        "places365-challenge",
        "cifar10",
        "cifar100",
    ];

    /// Parses one of [`Self::NAMES`].
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "imagenet" => Some(Self::ImageNet),
            "places365" => Some(Self::Places365),
            "places365-challenge" => Some(Self::Places365Challenge),
            "cifar10" => Some(Self::Cifar10),
            "cifar100" => Some(Self::Cifar100),
            _ => None,
        }
    }

    /// Parses a known name or the path of a directory with a classification dataset; None for
    /// anything else. A directory with annotations of boxes is not a classification dataset,
    /// regardless of its other contents.
    pub fn parse(name: &str) -> Option<Self> {
        let directory = Path::new(name);
        let is_cifar = |variant| CifarFiles::find(directory, variant).is_some();
        if let Some(named) = Self::named(name) {
            Some(named)
        } else if ImageNetDirectory::find_official(directory).is_some() {
            // Kaggle's copy has the boxes of the localization challenge, too.
            Some(Self::ImageNetDirectory(directory.into()))
        } else if holds_annotations(directory) {
            None
        } else if is_cifar(CifarVariant::Cifar10) || is_cifar(CifarVariant::Cifar100) {
            Some(Self::CifarDirectory(directory.into()))
        } else if directory.join(CATEGORIES).is_file() {
            Some(Self::Places365Directory(directory.into()))
        } else {
            let found = ImageFolder::find(directory)?;
            Some(match found.domains() {
                Some(domains) => Self::List(domains.into_iter().map(Self::ImageFolder).collect()),
                None => Self::ImageFolder(directory.into()),
            })
        }
    }

    /// Returns the outermost directories below one that are classification datasets.
    pub(super) fn directories_below(root: &Path) -> Vec<PathBuf> {
        /// Archives by date, and unpacked twice.
        const DEPTH: usize = 3;
        /// More are shown by none.
        const DIRECTORIES: usize = 50;
        let mut found = Vec::new();
        let mut open = vec![(root.to_owned(), 0)];
        while let Some((directory, depth)) = open.pop() {
            let names = DirectoryListing::of(&directory).directories;
            for path in names
                .iter()
                .take(DIRECTORIES)
                .map(|name| directory.join(name))
            {
                if Self::parse(&path.to_string_lossy()).is_some() {
                    found.push(path);
                } else if depth + 1 < DEPTH {
                    open.push((path, depth + 1));
                }
            }
        }
        found.sort();
        found
    }

    /// Returns the name or the path.
    pub fn label(&self) -> String {
        match self {
            Self::Cifar10 => "cifar10".into(),
            Self::Cifar100 => "cifar100".into(),
            Self::ImageNet => "imagenet".into(),
            Self::Places365 => "places365".into(),
            Self::Places365Challenge => "places365-challenge".into(),
            Self::CifarDirectory(path)
            | Self::ImageNetDirectory(path)
            | Self::Places365Directory(path)
            | Self::ImageFolder(path) => path.display().to_string(),
            Self::List(parts) => {
                let labels: Vec<String> = parts.iter().map(Self::label).collect();
                labels.join(LIST_SEPARATOR)
            }
        }
    }

    /// Returns whether this is a directory, not a known name or a list.
    pub(super) fn is_directory(&self) -> bool {
        matches!(
            self,
            Self::CifarDirectory(_)
                | Self::ImageNetDirectory(_)
                | Self::Places365Directory(_)
                | Self::ImageFolder(_)
        )
    }

    /// Returns the directory of the files; of a list, that of the first dataset.
    ///
    /// # Errors
    /// A named dataset has no data directory.
    pub fn directory(&self, data_dir: Option<&Path>) -> Result<PathBuf, RegistryError> {
        match self {
            Self::Cifar10 | Self::Cifar100 | Self::ImageNet | Self::Places365 => {
                directory_of(&self.label(), data_dir)
            }
            // Its val images are those of the standard set: one directory may have both.
            Self::Places365Challenge => {
                let own = directory_of(&self.label(), data_dir)?;
                if own.ends_with(self.label()) {
                    Ok(own)
                } else {
                    directory_of("places365", data_dir)
                }
            }
            Self::CifarDirectory(path)
            | Self::ImageNetDirectory(path)
            | Self::Places365Directory(path)
            | Self::ImageFolder(path) => Ok(path.clone()),
            Self::List(parts) => match parts.first() {
                Some(first) => first.directory(data_dir),
                None => Err(RegistryError::unknown("")),
            },
        }
    }

    /// Opens train and val.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub fn open(
        &self,
        data_dir: Option<&Path>,
    ) -> Result<(LabeledDataset, LabeledDataset), RegistryError> {
        self.open_with(data_dir, OnBadImage::Error)
    }

    /// Opens train and val as [`Self::open`]. Where images that cannot be used are skipped, those that are held out can
    /// be used.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub fn open_with(
        &self,
        data_dir: Option<&Path>,
        on_bad_image: OnBadImage,
    ) -> Result<(LabeledDataset, LabeledDataset), RegistryError> {
        let train = self.open_split_with(Split::Train, data_dir, on_bad_image)?;
        let val = self.open_split_with(Split::Val, data_dir, on_bad_image)?;
        let alike = alike_class_names(train.class_names().iter().map(String::as_str));
        let train = train.with_notes(alike);
        let counts = train.class_counts().into_iter().zip(val.class_counts());
        let names = train.class_names().iter().map(String::as_str).zip(counts);
        let missing = names.filter(|(_, (trained, measured))| *trained > 0 && *measured == 0);
        let missing: Vec<&str> = missing.map(|(name, _)| name).collect();
        let note = says_little(val.len(), &missing);
        let shared = self.has_files().then(|| SharedContent::of(&train, &val));
        let shared = shared.unwrap_or_default();
        let notes = note.into_iter().chain(shared.of_val);
        let notes: Vec<String> = notes.map(|note| format!("val: {note}")).collect();
        Ok((train.with_notes(shared.of_train), val.with_notes(notes)))
    }

    /// Returns whether each image is a file in the directory of its class.
    fn has_files(&self) -> bool {
        match self {
            Self::ImageFolder(_) => true,
            Self::List(parts) => parts.iter().all(Self::has_files),
            _ => false,
        }
    }

    /// Opens a split.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub fn open_split(
        &self,
        split: Split,
        data_dir: Option<&Path>,
    ) -> Result<LabeledDataset, RegistryError> {
        self.open_split_with(split, data_dir, OnBadImage::Error)
    }

    /// Opens a split as [`Self::open_split`], with held-out images as in [`Self::open_with`].
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub fn open_split_with(
        &self,
        split: Split,
        data_dir: Option<&Path>,
        on_bad_image: OnBadImage,
    ) -> Result<LabeledDataset, RegistryError> {
        let directory = self.directory(data_dir)?;
        let opened = match self {
            Self::Cifar10 => open_cifar(&directory, &[CifarVariant::Cifar10], split),
            Self::Cifar100 => open_cifar(&directory, &[CifarVariant::Cifar100], split),
            Self::CifarDirectory(_) => {
                let both = [CifarVariant::Cifar10, CifarVariant::Cifar100];
                open_cifar(&directory, &both, split)
            }
            Self::ImageNet | Self::ImageNetDirectory(_) => ImageNetDirectory::find(&directory)
                .ok_or_else(|| {
                    let problem = "contains neither a train nor a val directory";
                    DataError::labels(&directory, problem)
                })
                .and_then(|found| found.open(split)),
            Self::Places365 => open_places365(&directory, PlacesTrain::Standard, split),
            Self::Places365Challenge => open_places365(&directory, PlacesTrain::Challenge, split),
            Self::Places365Directory(_) => {
                open_places365(&directory, PlacesTrain::in_directory(&directory), split)
            }
            Self::ImageFolder(_) => ImageFolder::new(&directory).open_with(split, on_bad_image),
            Self::List(parts) => {
                let parts = parts.iter().map(|part| {
                    let opened = part.open_split_with(split, data_dir, on_bad_image)?;
                    Ok((part.label(), opened))
                });
                let joined = LabeledDataset::join(parts.collect::<Result<_, RegistryError>>()?);
                let notes = (split == Split::Train).then(|| self.domains_note());
                joined.map(|joined| joined.with_notes(notes.into_iter().flatten()))
            }
        };
        opened.map_err(|source| self.error(source, data_dir))
    }

    /// Describes the directories that are joined if they are all domains of one directory, and what is beside these.
    fn domains_note(&self) -> Vec<String> {
        let Self::List(parts) = self else {
            return Vec::new();
        };
        let parts = parts.iter().map(|part| match part {
            Self::ImageFolder(path) => Some(path.as_path()),
            _ => None,
        });
        let parts: Vec<&Path> = parts.collect::<Option<_>>().unwrap_or_default();
        let Some(root) = directory_of_domains(&parts) else {
            return Vec::new();
        };
        let shown = parts
            .iter()
            .map(|part| part.strip_prefix(&root).unwrap_or(part));
        let shown = join(shown.map(Path::display));
        let joined = format!(
            "{}: {shown} have the same directories, which are the classes; their images are joined",
            root.display()
        );
        let unused = ImageFolder::new(&root).unused();
        [joined].into_iter().chain(unused).collect()
    }

    fn error(&self, source: DataError, data_dir: Option<&Path>) -> RegistryError {
        RegistryError::Data {
            name: self.label(),
            data_dir: data_dir.map(Path::to_path_buf),
            source: source.into(),
        }
    }
}

/// Notes on images with the same bytes.
#[derive(Debug, Default)]
struct SharedContent {
    of_train: Option<String>,
    of_val: Vec<String>,
}

impl SharedContent {
    /// Compares the images of train and val: an image of both is measured after it was trained on, and one in two classes
    /// contradicts itself. Many images are not compared, so that training begins within seconds.
    fn of(train: &LabeledDataset, val: &LabeledDataset) -> Self {
        if train.len() + val.len() > MOST_IMAGES {
            return Self::default();
        }
        let names_of = |split: &LabeledDataset| -> Vec<String> {
            (0..split.len()).map(|at| split.describe(at)).collect()
        };
        let trained = train.len();
        let paths = [names_of(train), names_of(val)].concat();
        let first = first_with_content(&paths);
        let class_of = |at: usize| match at.checked_sub(trained) {
            None => &train.class_names()[train.label(at)],
            Some(at) => &val.class_names()[val.label(at)],
        };
        // The first image in another class than the first with its content, by the latter.
        let mut others: BTreeMap<usize, usize> = BTreeMap::new();
        for (at, original) in first.iter().enumerate() {
            if class_of(at) != class_of(*original) {
                others.entry(*original).or_insert(at);
            }
        }
        let two_classes = |is_of_val: bool| {
            let mut of_split = others
                .iter()
                .filter(|(_, at)| (**at >= trained) == is_of_val);
            let (original, other) = of_split.next()?;
            let shown = |at: usize| format!("{} ({})", paths[at], class_of(at));
            let names = format!("{} and {}", shown(*original), shown(*other));
            Some(match of_split.count() {
                0 => format!("one image has two classes: {names}"),
                more => format!("{} images have two classes each, such as {names}", more + 1),
            })
        };
        let of_train = two_classes(false);
        let mut of_val = Vec::from_iter(leak(trained, &paths, &first));
        of_val.extend(two_classes(true));
        Self { of_train, of_val }
    }
}

/// Returns the note on images of val, which begin at `trained`, with the content of images of train, if there are any.
fn leak(trained: usize, paths: &[String], first: &[usize]) -> Option<String> {
    let mut shared = (trained..paths.len()).filter(|at| first[*at] < trained);
    let example = shared.next()?;
    let number = 1 + shared.count();
    let verb = if number == 1 { "has" } else { "have" };
    Some(format!(
        "{number} of {} {verb} the content of images of train ({} has that of {}), so that the metrics are those of training \
         images",
        count(paths.len() - trained, "image"),
        paths[example],
        paths[first[example]]
    ))
}

/// Opens the only dataset of these kinds in a directory.
fn open_cifar(
    directory: &Path,
    variants: &[CifarVariant],
    split: Split,
) -> Result<LabeledDataset, DataError> {
    let found = variants
        .iter()
        .filter_map(|variant| CifarFiles::find(directory, *variant));
    let found: Vec<CifarFiles> = found.collect();
    match found.as_slice() {
        [files] => files.open(split).and_then(CifarImages::into_dataset),
        [] => {
            let problem = "contains no test batch of the binary or the Python version and no archive of them \
                 (such as cifar-10-python.tar.gz)";
            Err(DataError::labels(directory, problem))
        }
        _ => {
            let problem = "contains both CIFAR-10 and CIFAR-100";
            Err(DataError::labels(directory, problem).with(Remedy::GiveName))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_val_with_the_content_of_images_of_train_are_noted_in_any_class() {
        let dir = tempfile::tempdir().unwrap();
        let note = |same: &[u8]| {
            for (file, content) in [
                ("train/rose/0.jpg", &b"a"[..]),
                ("train/tulip/1.jpg", b"b"),
                ("val/rose/2.jpg", b"c"),
                ("val/tulip/same.jpg", same),
                ("val/tulip/twice.jpg", b"c"),
            ] {
                let path = dir.path().join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, content).unwrap();
            }
            let found = LabeledName::ImageFolder(dir.path().into());
            let (train, val) = found.open(None).unwrap();
            assert!(train.notes().is_empty());
            let notes = val.notes().iter();
            notes
                .filter(|note| note.contains("content"))
                .cloned()
                .collect::<Vec<_>>()
        };
        let [copy, original] = ["val/tulip/same.jpg", "train/rose/0.jpg"].map(|name| {
            let path = name
                .split('/')
                .fold(dir.path().to_owned(), |path, part| path.join(part));
            path.display().to_string()
        });
        assert_eq!(
            note(b"a"),
            [format!(
                "val: 1 of 3 images has the content of images of train ({copy} has that of {original}), so that the \
                 metrics are those of training images"
            )]
        );
        assert_eq!(note(b"d"), [""; 0]);
    }

    #[test]
    fn the_classes_of_domains_are_below_their_directories_of_images() {
        const OFFICE: [&str; 4] = [
            "amazon/images/mug",
            "amazon/images/pen",
            "dslr/images/mug",
            "dslr/images/pen",
        ];
        for (around, directories, classes) in [
            ("", &OFFICE[..], ["mug", "pen"]),
            ("train/", &OFFICE, ["mug", "pen"]),
            // One class may be anything, and other classes are no domains.
            (
                "",
                &["amazon/images/mug", "dslr/images/mug"],
                ["amazon", "dslr"],
            ),
            (
                "",
                &["cat/images/x", "cat/images/y", "dog/images/z"],
                ["cat", "dog"],
            ),
            (
                "",
                &["gray/mug", "gray/pen", "rgb/mug", "rgb/pen"],
                ["gray", "rgb"],
            ),
        ] {
            let dir = tempfile::tempdir().unwrap();
            for directory in directories {
                let path = dir.path().join(format!("{around}{directory}"));
                std::fs::create_dir_all(&path).unwrap();
                for number in 0..2 {
                    std::fs::write(path.join(format!("{number}.jpg")), directory).unwrap();
                }
            }
            std::fs::write(dir.path().join("splits.csv"), "file,split\na.jpg,train\n").unwrap();
            let found = LabeledName::parse(&dir.path().display().to_string()).unwrap();
            let train = found.open_split(Split::Train, None).unwrap();
            assert_eq!(train.class_names(), classes, "{directories:?}");
            let has_note = |text: &str| train.notes().iter().any(|note| note.contains(text));
            let joined = "amazon/images, dslr/images have the same directories, which are the classes; their images are \
                joined";
            assert_eq!(has_note(joined), classes[0] == "mug", "{:?}", train.notes());
            assert!(has_note("joined"), "{:?}", train.notes());
        }
    }

    #[test]
    fn one_image_in_two_classes_is_noted_with_both_names() {
        let dir = tempfile::tempdir().unwrap();
        let write = |file: &str, content: &str| {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        let shown = |file: &str, class: &str| {
            let path = file
                .split('/')
                .fold(dir.path().to_owned(), |path, part| path.join(part));
            format!("{} ({class})", path.display())
        };
        let notes = || {
            let found = LabeledName::ImageFolder(dir.path().into());
            let (train, val) = found.open(None).unwrap();
            let of = |split: &LabeledDataset| {
                let notes = split.notes().iter();
                let notes = notes.filter(|note| note.contains("two classes"));
                notes.cloned().collect::<Vec<_>>()
            };
            (of(&train), of(&val))
        };
        write("train/cat/0.jpg", "a");
        write("train/cat/copy.jpg", "a");
        write("train/dog/1.jpg", "b");
        write("val/cat/2.jpg", "c");
        write("val/dog/3.jpg", "d");
        assert_eq!(notes(), (vec![], vec![]));
        write("train/dog/same.jpg", "a");
        let names = format!(
            "{} and {}",
            shown("train/cat/0.jpg", "cat"),
            shown("train/dog/same.jpg", "dog")
        );
        assert_eq!(
            notes(),
            (vec![format!("one image has two classes: {names}")], vec![])
        );
        write("train/cat/1.jpg", "b");
        write("val/cat/4.jpg", "d");
        let (train, val) = notes();
        let start = "2 images have two classes each, such as ";
        assert!(train.len() == 1 && train[0].starts_with(start), "{train:?}");
        let names = format!(
            "{} and {}",
            shown("val/cat/4.jpg", "cat"),
            shown("val/dog/3.jpg", "dog")
        );
        assert_eq!(val, [format!("val: one image has two classes: {names}")]);
        // Without splits.
        std::fs::remove_dir_all(dir.path().join("val")).unwrap();
        std::fs::rename(dir.path().join("train/cat"), dir.path().join("cat")).unwrap();
        std::fs::rename(dir.path().join("train/dog"), dir.path().join("dog")).unwrap();
        std::fs::remove_dir_all(dir.path().join("train")).unwrap();
        let (train, val) = notes();
        assert_eq!([train.len(), val.len()], [1, 1], "{train:?} {val:?}");
    }
}
