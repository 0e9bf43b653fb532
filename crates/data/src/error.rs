//! Errors of annotations, datasets and loading.
//!
//! One error has the causes of all modules, so that a caller handles one type, and a cause has a typed form
//! for the hint of the command line. Every module that reads returns it, but the causes ([`LayoutError`],
//! [`AnnotationError`], [`DecodeError`], [`ConventionMismatch`]) are in files that do not import it: no file imports
//! itself through others.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::box_conventions::ConventionMismatch;
use crate::boxes::ImageSize;

use crate::annotations::AnnotationError;
use crate::annotations::layout::LayoutError;
use crate::directory::open_error;
use crate::images::decode::{DecodeError, HeaderSizes, header_sizes};

/// What would make a dataset usable whose files are not as expected; see [`DataError::Labels`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// The labels of this split are not public; those of val are.
    ValSplit,
    /// The archive of the images has to be unpacked in this directory.
    UnpackImages,
    /// Each archive of a synset has to be unpacked in a directory of its name.
    UnpackSynsets,
    /// The directory has to be given by its path: its classes are not those of the named dataset.
    GivePath,
    /// The archives of CIFAR-10 and CIFAR-100 are in one directory, and the name selects one of them.
    GiveName,
    /// The file is damaged or incomplete and has to be replaced by that of its publisher.
    Original,
    /// The file does not belong here.
    RemoveFile,
    /// The name of the file has to be changed.
    RenameFile,
    /// Each image has to be in the directory of its class.
    ClassDirectories,
    /// Files of annotations are beside images that are labeled by their directories.
    MoveAnnotations,
    /// The split needs a directory with a directory for each class.
    AddSplit,
    /// A class has the name of a split.
    RenameClass,
    /// The directories of the splits have to be around those of the classes.
    SplitsAroundClasses,
    /// The classes, or the images, are in directories further below.
    MoveClassesUp,
    /// One of several directories is a dataset of its own.
    GiveDirectory,
    /// One file has the annotations of several splits, whose images are in a directory each.
    NameSplits,
    /// A class needs images.
    AddImages,
    /// The archives in the directories of classes have to be unpacked.
    UnpackClasses,
    /// The images are in a format that is not decoded.
    SaveAsJpeg,
    /// The images of test have no labels, and so are of no use but for predictions.
    LeaveTestOut,
    /// The images are not where the dataset states.
    PutImages,
    /// Links lead in a circle.
    RemoveLinks,
    /// One of several files has to be named.
    GiveOneFile,
}

/// A file changed between two reads of one operation. It is the inner error of an
/// [`std::io::Error`], which [`DataError::Io`] has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the annotations changed while they were read")]
pub struct ChangedMeanwhile;

impl From<ChangedMeanwhile> for std::io::Error {
    fn from(error: ChangedMeanwhile) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

/// Why the size of an image is not that of its annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeCause {
    /// The annotations are those of the stored pixels, without the EXIF rotation.
    IgnoresExif,
    /// Width and height are exchanged, and the image has no EXIF rotation.
    Exchanged,
}

impl SizeCause {
    /// Returns the cause that the header of an image shows.
    pub(crate) fn of(sizes: HeaderSizes, annotated: ImageSize) -> Option<Self> {
        if annotated == sizes.upright {
            None
        } else if annotated == sizes.stored {
            Some(Self::IgnoresExif)
        } else if annotated == sizes.upright.transposed() {
            Some(Self::Exchanged)
        } else {
            None
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::IgnoresExif => {
                " (a likely cause: the annotations ignore the EXIF rotation, which is applied here)"
            }
            Self::Exchanged => {
                " (width and height are exchanged, or the image was rotated by 90 degrees)"
            }
        }
    }
}

/// Describes images whose width and height are exchanged in the annotations.
pub(crate) fn exchanged_sizes(exchanged: usize, images: usize) -> String {
    format!(
        "width and height of {exchanged} of {} are exchanged",
        crate::text::count(images, "image")
    )
}

/// An error of annotations, datasets or loading. Its message is one line that names the file or image.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// An image could not be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),

    /// No annotations in a known layout, or no directory with their images.
    #[error(transparent)]
    Layout(#[from] LayoutError),

    /// A file could not be opened, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },

    /// A file is not JSON, or not of the expected form.
    #[error("{}: not valid COCO annotations: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The expected content, with line and column.
        source: serde_json::Error,
    },

    /// A text file is not in UTF-8, nor in an encoding that it declares.
    #[error("{}: {problem}", path.display())]
    Encoding {
        /// The file.
        path: PathBuf,
        /// The line, and the encoding that is likely.
        problem: String,
    },

    /// No file has the name in an annotation, and several differ from it in capitals only.
    #[error("{}: no such file; {found} differ from it in capitals only", path.display())]
    SeveralFiles {
        /// The path as it is written.
        path: PathBuf,
        /// The names of the files.
        found: String,
    },

    /// Two files contradict each other, and only one can be right.
    #[error("{}: {problem}", path.display())]
    Contradiction {
        /// One of the files.
        path: PathBuf,
        /// The contradiction; names the other file.
        problem: String,
    },

    /// The boxes of a file are in another convention than that of its format.
    #[error("{}: {mismatch}", path.display())]
    BoxConvention {
        /// The file, or the directory of the dataset.
        path: PathBuf,
        /// The convention that they fit.
        mismatch: ConventionMismatch,
    },

    /// Annotations contradict themselves.
    #[error("{}: {source}", path.display())]
    Annotations {
        /// The file.
        path: PathBuf,
        /// The contradiction.
        source: AnnotationError,
    },

    /// Two splits of a classification dataset have different classes.
    #[error(
        "{}: the classes of train and {other} differ: {difference}", root.display()
    )]
    ClassesDiffer {
        /// The dataset's directory.
        root: PathBuf,
        /// The name of the other directory.
        other: String,
        /// Which classes are on one side only.
        difference: String,
    },

    /// Invalid labels or files of a classification dataset.
    #[error("{origin}: {problem}")]
    Labels {
        /// The directory, file or name of the dataset.
        origin: String,
        /// The problem.
        problem: String,
        /// What would make the dataset usable, where it is not evident from the problem.
        remedy: Option<Remedy>,
    },

    /// A flat ImageNet val directory without a file of its labels.
    #[error(
        "{}: no labels for the flat val directory; expected one of {expected}",
        directory.display()
    )]
    NoValidationLabels {
        /// The dataset's directory.
        directory: PathBuf,
        /// The names of the files that may have the labels.
        expected: String,
    },

    /// The size of the decoded image is not that of the annotations.
    #[error(
        "{image}: the image is {decoded}, but its annotations are for {annotated}; the boxes may not fit{}",
        cause.map_or("", SizeCause::text)
    )]
    SizeMismatch {
        /// File name or description of the image.
        image: String,
        /// Size of the decoded image, EXIF applied.
        decoded: ImageSize,
        /// Size in the annotations.
        annotated: ImageSize,
        /// The likely cause, if the sizes show one.
        cause: Option<SizeCause>,
    },

    /// Boxes are those of images as they are stored, although the images have an EXIF rotation.
    #[error(
        "{}: boxes of {} with an EXIF rotation by 90 degrees, which is applied here, fit the images as they are stored",
        path.display(), crate::text::count(*images, "image")
    )]
    BoxesIgnoreExif {
        /// The annotation file.
        path: PathBuf,
        /// The number of images.
        images: usize,
    },

    /// Width and height of images are exchanged in their annotations.
    #[error("{}: {}", path.display(), exchanged_sizes(*exchanged, *images))]
    ExchangedSizes {
        /// The annotation file.
        path: PathBuf,
        /// The number of images whose sizes are exchanged.
        exchanged: usize,
        /// The number of images.
        images: usize,
    },

    /// All images of a split were skipped.
    #[error("no image is left: none of {} can be used ({first})", crate::text::count(*images, "image"))]
    NoUsableImage {
        /// The number of images.
        images: usize,
        /// The error of the first.
        first: Box<DataError>,
    },

    /// Two splits of one dataset have different category tables.
    #[error("the categories of {first} and {second} differ: {difference}")]
    CategoriesDiffer {
        /// The first split, usually the training annotations.
        first: String,
        /// The second split.
        second: String,
        /// Which categories are on one side only or have another name.
        difference: String,
    },

    /// Two datasets that are used together have different class names.
    #[error("the class names of {first} and {second} differ: {difference}")]
    ClassNamesDiffer {
        /// The first dataset.
        first: Box<str>,
        /// The second dataset.
        second: Box<str>,
        /// Which names are on one side only.
        difference: String,
    },

    /// Two classes of a dataset have the same name.
    #[error("{dataset}: two classes have the name `{class}` (ids {first} and {second})")]
    SameClassName {
        /// The dataset.
        dataset: String,
        /// The name.
        class: String,
        /// The id of the first class.
        first: u64,
        /// The id of the second class.
        second: u64,
    },

    /// A panic occurred while an image was prepared.
    #[error("{image}: preparing this image panicked: {message}")]
    Panicked {
        /// File name or description of the image.
        image: String,
        /// The panic's message.
        message: String,
    },

    /// A thread could not be started.
    #[error("cannot start a loader thread: {source}")]
    Threads {
        /// The error of the operating system.
        source: std::io::Error,
    },

    /// The training filter leaves no image.
    #[error(
        "nothing to train on: no usable box in {} (crowd annotations and boxes with a side of {min_side} px or \
         less do not count)", crate::text::count(*images, "image")
    )]
    NothingToTrain {
        /// Images in the dataset.
        images: usize,
        /// The filter's side limit, pixels.
        min_side: f32,
    },

    /// An invalid setting of the loader or of the transforms.
    #[error("{setting}: {problem}")]
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// The problem and the allowed values.
        problem: String,
    },

    /// An image number out of range.
    #[error("image number {index} is out of range: the dataset has {}", crate::text::count(*count, "image"))]
    NoSuchImage {
        /// The requested number.
        index: usize,
        /// The number of images.
        count: usize,
    },
}

impl DataError {
    /// Returns an error of opening, reading or writing a file.
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source: open_error(path, source),
        }
    }

    /// Returns an error of a file or directory of a classification dataset.
    pub(crate) fn labels(path: &Path, problem: impl Into<String>) -> Self {
        Self::Labels {
            origin: path.display().to_string(),
            problem: problem.into(),
            remedy: None,
        }
    }

    /// Adds the remedy of an error of [`labels`](Self::labels).
    #[must_use]
    pub(crate) fn with(mut self, wanted: Remedy) -> Self {
        if let Self::Labels { remedy, .. } = &mut self {
            *remedy = Some(wanted);
        }
        self
    }

    /// Returns an error about a file that contradicts another.
    pub(crate) fn contradiction(path: &Path, problem: impl Into<String>) -> Self {
        Self::Contradiction {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    /// Returns the error about an image whose size is not the annotated one; `image` is its path, or the description of
    /// one without a file.
    pub(crate) fn size_mismatch(image: String, decoded: ImageSize, annotated: ImageSize) -> Self {
        let sizes = header_sizes(Path::new(&image)).ok();
        Self::SizeMismatch {
            image,
            decoded,
            annotated,
            cause: sizes.and_then(|sizes| SizeCause::of(sizes, annotated)),
        }
    }

    /// Returns whether an image is not there.
    pub(crate) fn is_missing_image(&self) -> bool {
        matches!(self, Self::Decode(DecodeError::Io { source, .. }) if source.kind() == ErrorKind::NotFound)
    }

    /// Returns whether the error concerns a single image, so that a run can continue without it.
    pub fn is_about_one_image(&self) -> bool {
        matches!(
            self,
            Self::Decode(_) | Self::SizeMismatch { .. } | Self::Panicked { .. }
        )
    }
}
