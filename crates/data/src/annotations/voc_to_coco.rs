//! Pascal VOC turned into COCO: one instances file per split.
//!
//! A VOC directory holds `Annotations/NAME.xml`, `JPEGImages/NAME.jpg` (or another image format) and,
//! per split, the names in `ImageSets/Main/SPLIT.txt`. The directories may also be called `annotations`
//! and `images`, and without `ImageSets` all annotations are one split for training. Boxes become `[xmin, ymin, xmax - xmin, ymax - ymin]`; those with a
//! side under a limit are left out and counted. Objects marked as difficult are kept like any
//! other: COCO knows no such mark, and its `iscrowd` means something else.

use crate::annotations::layout::Split;
use crate::annotations::voc::{self, VocError, VocImage};
use crate::annotations::{AnnotationError, AnnotationStore, AnnotationStoreBuilder, NewAnnotation};
use crate::atomic::write_atomically;
use crate::boxes::ImageSize;
use crate::loading::decode::{DecodeError, IMAGE_EXTENSIONS, image_size_of_bytes};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// Boxes with a shorter side, in pixels, are degenerate in data that is made for training.
pub const MIN_SIDE: f32 = 1.0;

/// Why a VOC directory could not be converted; every message names the file.
#[derive(Debug, thiserror::Error)]
pub enum VocToCocoError {
    /// A file that a list or the layout calls for is not there.
    #[error(
        "{} is missing; a VOC directory holds Annotations/NAME.xml, JPEGImages/NAME.jpg and ImageSets/Main/SPLIT.txt",
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A file could not be read, or is not text where it should be.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// An annotation is wrong.
    #[error(transparent)]
    Annotation(#[from] VocError),
    /// An image's header is wrong.
    #[error(transparent)]
    Image(#[from] DecodeError),
    /// An object's class is not among the categories.
    #[error("{}: unknown class {class:?}; the classes are {known}", path.display())]
    UnknownClass {
        /// The annotation.
        path: PathBuf,
        /// The class it names.
        class: String,
        /// The categories, separated by commas.
        known: String,
    },
    /// The boxes are given for an image of another size.
    #[error(
        "{}: the annotation is for an image of {stated}, but the image is {actual}; correct one of the two",
        path.display()
    )]
    SizeMismatch {
        /// The annotation.
        path: PathBuf,
        /// The size it states.
        stated: ImageSize,
        /// The image's own size.
        actual: ImageSize,
    },
    /// A result could not be written.
    #[error("cannot write {}: {source}; check free space and permissions", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Where the files of a VOC directory are.
#[derive(Debug, Clone, Copy)]
pub enum VocDirectory<'a> {
    /// In this directory.
    OnDisk(&'a Path),
    /// In memory, for instance out of an archive.
    InMemory {
        /// Bytes by path, with `/` between the parts.
        files: &'a BTreeMap<String, Vec<u8>>,
        /// The VOC directory's place in `files`.
        root: &'a str,
    },
}

impl<'a> VocDirectory<'a> {
    fn path(self, name: &str) -> PathBuf {
        match self {
            Self::OnDisk(root) => root.join(name),
            Self::InMemory { root, .. } => format!("{root}/{name}").into(),
        }
    }

    fn holds(self, name: &str) -> bool {
        match self {
            Self::OnDisk(root) => root.join(name).exists(),
            Self::InMemory { files, root } => {
                let path = format!("{root}/{name}");
                let from = files.range(path.clone()..).next();
                from.is_some_and(|(found, _)| {
                    *found == path || found.starts_with(&format!("{path}/"))
                })
            }
        }
    }

    /// The directory of this name that is there, or else the standard's.
    fn one_of(self, standard: &'static str, other: &'static str) -> &'static str {
        match !self.holds(standard) && self.holds(other) {
            true => other,
            false => standard,
        }
    }

    /// Where the annotations are.
    pub fn annotations(self) -> &'static str {
        self.one_of("Annotations", "annotations")
    }

    /// Where the images are.
    pub fn images(self) -> &'static str {
        self.one_of("JPEGImages", "images")
    }

    /// The file name of an annotation's image: with the annotation's own name, or else as it says.
    fn image_of(self, name: &str, annotated: &VocImage) -> String {
        let pictures = self.images();
        let named = IMAGE_EXTENSIONS
            .iter()
            .map(|extension| format!("{name}.{extension}"));
        let capital = IMAGE_EXTENSIONS
            .iter()
            .map(|extension| format!("{name}.{}", extension.to_uppercase()));
        named
            .chain(capital)
            .chain([annotated.file_name.clone()])
            .find(|file| self.holds(&format!("{pictures}/{file}")))
            .unwrap_or_else(|| format!("{name}.jpg"))
    }

    fn read(self, name: &str) -> Result<Cow<'a, [u8]>, VocToCocoError> {
        let path = self.path(name);
        let bytes = match self {
            Self::OnDisk(_) if name.ends_with(".xml") => voc::read_bounded(&path).map(Cow::Owned),
            Self::OnDisk(_) => std::fs::read(&path).map(Cow::Owned),
            Self::InMemory { files, root } => files
                .get(&format!("{root}/{name}"))
                .map(|bytes| Cow::Borrowed(bytes.as_slice()))
                .ok_or_else(|| io::ErrorKind::NotFound.into()),
        };
        bytes.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => VocToCocoError::Missing { path },
            _ => VocToCocoError::Read { path, source },
        })
    }

    fn read_text(self, name: &str) -> Result<String, VocToCocoError> {
        String::from_utf8(self.read(name)?.into_owned()).map_err(|error| VocToCocoError::Read {
            path: self.path(name),
            source: io::Error::new(io::ErrorKind::InvalidData, error),
        })
    }
}

/// What to do with the image size that an annotation states; 0 always counts as unstated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatedSize {
    /// An image of another size is an error: the boxes would not fit it.
    MustMatch,
    /// Only the image counts. For data whose boxes and images are checked in another way.
    Ignored,
}

/// One split as COCO has it.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvertedSplit {
    /// Images sorted by file name, boxes in the order of their annotation; ids count from 1.
    pub coco: CocoFile,
    /// Boxes left out because a side is under the limit.
    pub degenerate_boxes: usize,
    /// What COCO has no words for, and how often it was said: `difficult`, `truncated`, `pose`, ...
    pub lost: BTreeMap<String, usize>,
}

/// How to convert.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VocOptions {
    /// What to do with stated image sizes.
    pub stated_size: StatedSize,
    /// Boxes with a shorter side, in pixels, are left out.
    pub min_side: f32,
}

/// Convert the images that `ImageSets/Main/SPLIT.txt` lists. A name listed twice counts once.
/// Categories get the ids 1, 2, ... in the order of `categories`.
///
/// # Errors
/// See [`VocToCocoError`].
pub fn convert_split(
    directory: VocDirectory,
    split: &str,
    categories: &[&str],
    options: VocOptions,
) -> Result<ConvertedSplit, VocToCocoError> {
    let names = listed(directory, split)?;
    convert_names(directory, split, &names, categories, options)
}

/// The names that `ImageSets/Main/SPLIT.txt` lists, sorted, each once.
fn listed(directory: VocDirectory, split: &str) -> Result<Vec<String>, VocToCocoError> {
    let list = directory.read_text(&format!("ImageSets/Main/{split}.txt"))?;
    // VOC's own lists per class have a second column, which tells whether the class is present.
    let mut names: Vec<String> = list
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect();
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// Whether a directory holds annotations of this kind.
pub fn is_voc(root: &Path) -> bool {
    ["Annotations", "annotations"].iter().any(|directory| {
        let entries = std::fs::read_dir(root.join(directory));
        let mut entries = entries.into_iter().flatten().flatten();
        entries.any(|entry| entry.path().extension().is_some_and(|e| e == "xml"))
    })
}

/// The splits of a VOC directory on disk with the names of their annotations. `trainval` is taken for
/// train where there is no list of train; without any list all annotations are for training.
///
/// # Errors
/// A list or the directory of the annotations can't be read.
pub fn find_splits(root: &Path) -> Result<Vec<(Split, Vec<String>)>, VocToCocoError> {
    let directory = VocDirectory::OnDisk(root);
    let mut splits = Vec::new();
    for (split, lists) in [
        (Split::Train, &["train", "trainval"][..]),
        (Split::Val, &["val"]),
        (Split::Test, &["test"]),
    ] {
        let list = lists
            .iter()
            .find(|list| directory.holds(&format!("ImageSets/Main/{list}.txt")));
        if let Some(list) = list {
            splits.push((split, listed(directory, list)?));
        }
    }
    if splits.is_empty() {
        let path = directory.path(directory.annotations());
        let read = |source| VocToCocoError::Read {
            path: path.clone(),
            source,
        };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&path).map_err(read)? {
            let name = entry.map_err(read)?.file_name();
            let name = name.to_string_lossy();
            names.extend(name.strip_suffix(".xml").map(str::to_owned));
        }
        names.sort_unstable();
        splits.push((Split::Train, names));
    }
    Ok(splits)
}

/// The classes that these annotations name, sorted.
///
/// # Errors
/// An annotation can't be read.
pub fn classes_of<'n>(
    root: &Path,
    names: impl Iterator<Item = &'n String>,
) -> Result<Vec<String>, VocToCocoError> {
    let directory = VocDirectory::OnDisk(root);
    let mut classes = BTreeSet::new();
    for name in names {
        let annotation = format!("{}/{name}.xml", directory.annotations());
        let path = directory.path(&annotation);
        let annotated = voc::parse(&directory.read_text(&annotation)?, &path)?;
        classes.extend(annotated.objects.into_iter().map(|object| object.name));
    }
    Ok(classes.into_iter().collect())
}

/// [`convert_split`] with the names of the annotations.
///
/// # Errors
/// See [`VocToCocoError`].
pub fn convert_names(
    directory: VocDirectory,
    split: &str,
    names: &[String],
    categories: &[&str],
    options: VocOptions,
) -> Result<ConvertedSplit, VocToCocoError> {
    let mut converted = ConvertedSplit {
        coco: CocoFile::new(split, categories),
        degenerate_boxes: 0,
        lost: BTreeMap::new(),
    };
    let (annotations, pictures) = (directory.annotations(), directory.images());
    for name in names {
        let annotation = format!("{annotations}/{name}.xml");
        let path = directory.path(&annotation);
        let annotated = voc::parse(&directory.read_text(&annotation)?, &path)?;
        let file_name = directory.image_of(name, &annotated);
        let picture = format!("{pictures}/{file_name}");
        let size = image_size_of_bytes(&directory.read(&picture)?, &directory.path(&picture))?;
        let stated = annotated.size;
        let is_stated = stated.width > 0 && stated.height > 0;
        if options.stated_size == StatedSize::MustMatch && is_stated && stated != size {
            return Err(VocToCocoError::SizeMismatch {
                path,
                stated,
                actual: size,
            });
        }
        converted
            .push(file_name, size, &annotated, options.min_side)
            .map_err(|class| VocToCocoError::UnknownClass {
                path,
                class,
                known: categories.join(", "),
            })?;
    }
    Ok(converted)
}

/// Convert the VOC directory at `root`: write `SPLIT.json` into `output` for each of `splits`, nothing
/// unless all of them can be converted. The images stay where they are. Returns what was written,
/// in the order of `splits`.
///
/// # Errors
/// See [`VocToCocoError`].
pub fn convert_directory(
    root: &Path,
    splits: &[&str],
    categories: &[&str],
    output: &Path,
) -> Result<Vec<ConvertedSplit>, VocToCocoError> {
    let directory = VocDirectory::OnDisk(root);
    let converted: Vec<ConvertedSplit> = splits
        .iter()
        .map(|split| {
            let options = VocOptions {
                stated_size: StatedSize::MustMatch,
                min_side: MIN_SIDE,
            };
            convert_split(directory, split, categories, options)
        })
        .collect::<Result<_, _>>()?;
    std::fs::create_dir_all(output).map_err(|source| VocToCocoError::Write {
        path: output.to_owned(),
        source,
    })?;
    for (split, converted) in splits.iter().zip(&converted) {
        let path = output.join(format!("{split}.json"));
        converted
            .coco
            .write(&path)
            .map_err(|source| VocToCocoError::Write { path, source })?;
    }
    Ok(converted)
}

impl ConvertedSplit {
    /// Add an image; the error is the class that is no category.
    fn push(
        &mut self,
        file_name: String,
        size: ImageSize,
        annotated: &VocImage,
        min_side: f32,
    ) -> Result<(), String> {
        let coco = &mut self.coco;
        let image_id = coco.images.len() as u64 + 1;
        for object in &annotated.objects {
            let category_id = coco
                .categories
                .iter()
                .find(|category| category.name == object.name)
                .ok_or_else(|| object.name.clone())?
                .id;
            if !object.box_in_image.has_sides_of(min_side) {
                self.degenerate_boxes += 1;
                continue;
            }
            let marks = [
                ("difficult", object.difficult),
                ("truncated", object.truncated),
            ];
            let marks = marks.into_iter().filter(|(_, is_set)| *is_set);
            let said = marks.map(|(name, _)| name.to_owned());
            for name in said.chain(object.others.iter().cloned()) {
                *self.lost.entry(name).or_default() += 1;
            }
            coco.annotations.push(CocoAnnotation {
                id: coco.annotations.len() as u64 + 1,
                image_id,
                category_id,
                bbox: object.box_in_image.to_xywh(),
                area: object.box_in_image.area(),
                iscrowd: 0,
                segmentation: Vec::new(),
            });
        }
        coco.images.push(CocoImage {
            id: image_id,
            file_name,
            width: size.width,
            height: size.height,
        });
        Ok(())
    }
}

/// The parts of a COCO instances file that VOC can fill.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CocoFile {
    /// About the file.
    pub info: CocoInfo,
    /// Empty: VOC states none.
    pub licenses: Vec<String>,
    /// The images.
    pub images: Vec<CocoImage>,
    /// The boxes.
    pub annotations: Vec<CocoAnnotation>,
    /// The classes.
    pub categories: Vec<CocoCategory>,
}

/// About a [`CocoFile`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CocoInfo {
    /// The split.
    pub description: String,
}

/// An image of a [`CocoFile`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CocoImage {
    /// From 1.
    pub id: u64,
    /// Without its directory.
    pub file_name: String,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
}

/// A box of a [`CocoFile`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CocoAnnotation {
    /// From 1.
    pub id: u64,
    /// The image's id.
    pub image_id: u64,
    /// The class's id.
    pub category_id: u64,
    /// `[x, y, width, height]` in pixels of the image.
    pub bbox: [f32; 4],
    /// Width times height, in square pixels.
    pub area: f32,
    /// 0: one object.
    pub iscrowd: u8,
    /// Empty: VOC has boxes only.
    pub segmentation: Vec<Vec<f32>>,
}

/// A class of a [`CocoFile`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CocoCategory {
    /// From 1.
    pub id: u64,
    /// The class.
    pub name: String,
    /// `none`: VOC has no groups of classes.
    pub supercategory: String,
}

impl CocoFile {
    /// Its columns.
    ///
    /// # Errors
    /// It contradicts itself.
    pub fn to_store(&self) -> Result<AnnotationStore, AnnotationError> {
        let mut builder = AnnotationStoreBuilder::new();
        for category in &self.categories {
            builder.add_category(category.id, category.name.clone());
        }
        for image in &self.images {
            let size = ImageSize::new(image.height, image.width);
            builder.add_image(image.id, &image.file_name, size);
        }
        for annotation in &self.annotations {
            builder.add_annotation(NewAnnotation {
                id: annotation.id,
                image_id: annotation.image_id,
                category_id: annotation.category_id,
                xywh: annotation.bbox,
                area: Some(annotation.area),
                is_crowd: annotation.iscrowd == 1,
            });
        }
        builder.build()
    }

    fn new(description: &str, categories: &[&str]) -> Self {
        Self {
            info: CocoInfo {
                description: description.to_owned(),
            },
            categories: (1..)
                .zip(categories)
                .map(|(id, name)| CocoCategory {
                    id,
                    name: (*name).to_owned(),
                    supercategory: "none".to_owned(),
                })
                .collect(),
            ..Self::default()
        }
    }

    /// Write the file, whole or not at all.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        write_atomically(path, |out| Ok(serde_json::to_writer(out, self)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const OBJECTS: &str = "<object><name>cat</name><difficult>1</difficult>
        <bndbox><xmin>1</xmin><ymin>2</ymin><xmax>4</xmax><ymax>8</ymax></bndbox></object>
        <object><name>dog</name>
        <bndbox><xmin>5</xmin><ymin>2</ymin><xmax>5.9</xmax><ymax>8</ymax></bndbox></object>
        <object><name>dog</name>
        <bndbox><xmin>0</xmin><ymin>0</ymin><xmax>1</xmax><ymax>1</ymax></bndbox></object>";

    fn annotation(width: u32, height: u32, objects: &str) -> String {
        format!(
            "<annotation><filename>a</filename><size><width>{width}</width><height>{height}</height></size>{objects}</annotation>"
        )
    }

    fn options(stated_size: StatedSize) -> VocOptions {
        VocOptions {
            stated_size,
            min_side: MIN_SIDE,
        }
    }

    /// Two images of 12x9, `b` in train and `a` in train and val.
    fn directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8]| {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        let mut picture = io::Cursor::new(Vec::new());
        image::RgbImage::new(12, 9)
            .write_to(&mut picture, image::ImageFormat::Jpeg)
            .unwrap();
        for name in ["a", "b"] {
            put(&format!("JPEGImages/{name}.jpg"), picture.get_ref());
        }
        put(
            "Annotations/a.xml",
            annotation(12, 9, OBJECTS).trim().as_bytes(),
        );
        // Some tools write 0 for the size.
        put("Annotations/b.xml", annotation(0, 0, "").as_bytes());
        put("ImageSets/Main/train.txt", b"b  1\r\na -1\r\n\r\nb 1\r\n");
        put("ImageSets/Main/val.txt", b"a");
        directory
    }

    fn convert(directory: &Path) -> Result<Vec<ConvertedSplit>, VocToCocoError> {
        convert_directory(
            directory,
            &["train", "val"],
            &["dog", "cat"],
            &directory.join("out"),
        )
    }

    #[test]
    fn a_directory_becomes_one_coco_file_per_split_without_its_degenerate_boxes() {
        let directory = directory();
        let converted = convert(directory.path()).unwrap();
        for (split, converted) in ["train", "val"].iter().zip(&converted) {
            let text = fs::read(directory.path().join(format!("out/{split}.json"))).unwrap();
            let written: CocoFile = serde_json::from_slice(&text).unwrap();
            assert_eq!(written, converted.coco);
            assert_eq!(converted.degenerate_boxes, 1);
        }
        let coco = &converted[0].coco;
        let images: Vec<_> = coco
            .images
            .iter()
            .map(|image| {
                (
                    image.id,
                    image.file_name.as_str(),
                    image.width,
                    image.height,
                )
            })
            .collect();
        assert_eq!(images, [(1, "a.jpg", 12, 9), (2, "b.jpg", 12, 9)]);
        let boxes: Vec<_> = coco
            .annotations
            .iter()
            .map(|a| (a.id, a.image_id, a.category_id, a.bbox, a.area))
            .collect();
        assert_eq!(
            boxes,
            [
                (1, 1, 2, [1.0, 2.0, 3.0, 6.0], 18.0),
                (2, 1, 1, [0.0, 0.0, 1.0, 1.0], 1.0)
            ]
        );
        let categories: Vec<_> = coco
            .categories
            .iter()
            .map(|category| (category.id, category.name.as_str()))
            .collect();
        assert_eq!(categories, [(1, "dog"), (2, "cat")]);
        assert_eq!(converted[1].coco.images.len(), 1);
    }

    #[test]
    fn what_is_wrong_is_said_with_the_files_name_and_nothing_is_written() {
        type Spoil = fn(&Path) -> io::Result<()>;
        let cases: [(Spoil, &str, &str); 6] = [
            (
                |f| fs::remove_file(f.join("Annotations/b.xml")),
                "Annotations/b.xml",
                "is missing",
            ),
            (
                |f| fs::remove_file(f.join("ImageSets/Main/val.txt")),
                "ImageSets/Main/val.txt",
                "is missing",
            ),
            (
                |f| fs::write(f.join("Annotations/a.xml"), [0xff]),
                "Annotations/a.xml",
                "cannot read",
            ),
            (
                |f| fs::write(f.join("JPEGImages/a.jpg"), b"text"),
                "JPEGImages/a.jpg",
                "",
            ),
            (
                |f| fs::write(f.join("Annotations/a.xml"), annotation(9, 12, "")),
                "Annotations/a.xml",
                "of 9x12, but the image is 12x9",
            ),
            (
                |f| {
                    let bird = OBJECTS.replace("dog", "bird");
                    fs::write(f.join("Annotations/a.xml"), annotation(12, 9, &bird))
                },
                "Annotations/a.xml",
                "unknown class \"bird\"; the classes are dog, cat",
            ),
        ];
        for (spoil, file, says) in cases {
            let directory = directory();
            spoil(directory.path()).unwrap();
            let message = convert(directory.path()).unwrap_err().to_string();
            let file = directory.path().join(file).display().to_string();
            assert!(message.contains(&file), "{message}");
            assert!(message.contains(says), "{message}");
            assert_eq!(message.lines().count(), 1, "{message}");
            assert!(!directory.path().join("out").exists(), "{message}");
        }
    }

    #[test]
    fn a_stated_size_can_be_ignored_and_files_can_come_from_memory() {
        let directory = directory();
        let mut files = BTreeMap::new();
        for name in [
            "ImageSets/Main/val.txt",
            "Annotations/a.xml",
            "JPEGImages/a.jpg",
        ] {
            let bytes = fs::read(directory.path().join(name)).unwrap();
            files.insert(format!("VOC/{name}"), bytes);
        }
        let other_size = annotation(9, 12, OBJECTS).into_bytes();
        files.insert("VOC/Annotations/a.xml".into(), other_size);
        let convert = |stated_size| {
            let directory = VocDirectory::InMemory {
                files: &files,
                root: "VOC",
            };
            convert_split(directory, "val", &["dog", "cat"], options(stated_size))
        };
        let on_disk = convert_split(
            VocDirectory::OnDisk(directory.path()),
            "val",
            &["dog", "cat"],
            options(StatedSize::MustMatch),
        );
        assert_eq!(convert(StatedSize::Ignored).unwrap(), on_disk.unwrap());
        let message = convert(StatedSize::MustMatch).unwrap_err().to_string();
        assert!(message.starts_with("VOC/Annotations/a.xml"), "{message}");
    }
}
