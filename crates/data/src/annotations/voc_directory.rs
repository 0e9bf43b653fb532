//! Pascal VOC in a directory.
//!
//! A VOC directory contains `Annotations/NAME.xml`, `JPEGImages/NAME.jpg` (or another image format) and,
//! for each split, the names in `ImageSets/Main/SPLIT.txt`. The directories may also be called
//! `annotations` and `images`. Without `ImageSets`, all annotations belong to the training split. Boxes
//! become `[xmin, ymin, xmax - xmin, ymax - ymin]`. Objects marked as difficult are kept like any
//! other: COCO has no such flag, and its `iscrowd` means something else.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::DataError;
use crate::annotations::format::{
    AnnotationFormat, BoxEntry, EntryProblem, ImageEntry, Output, PlacedSplit, Reader,
    SplitEntries, Written, WrittenSplit, last_part, without_extension,
};
use crate::annotations::layout::{Split, SplitFiles};
use crate::annotations::text_file::{read_text, text_of};
use crate::annotations::voc::{self, VocImage};
use crate::boxes::ImageSize;
use crate::images::decode::{IMAGE_EXTENSIONS, image_size, image_size_of_bytes};

/// Pascal VOC: `Annotations/NAME.xml`, `JPEGImages/`, `ImageSets/Main/SPLIT.txt`.
#[derive(Debug)]
pub struct VocFormat;

impl AnnotationFormat for VocFormat {
    fn key(&self) -> &'static str {
        "voc"
    }

    fn name(&self) -> &'static str {
        "Pascal VOC"
    }

    fn files(&self) -> String {
        "Annotations/*.xml, JPEGImages/, ImageSets/Main/*.txt".into()
    }

    fn recognize(&self, root: &Path) -> Result<bool, DataError> {
        Ok(["Annotations", "annotations"].iter().any(|directory| {
            let entries = std::fs::read_dir(root.join(directory));
            let mut entries = entries.into_iter().flatten().flatten();
            entries.any(|entry| entry.path().extension().is_some_and(|e| e == "xml"))
        }))
    }

    fn splits(&self, root: &Path) -> Result<Vec<SplitFiles>, DataError> {
        let directory = VocDirectory::OnDisk(root);
        let splits = names_of_splits(root)?.into_iter();
        Ok(splits
            .map(|(split, _)| SplitFiles {
                format: &Self,
                split,
                annotations: root.to_owned(),
                image_directories: vec![root.join(directory.images())],
            })
            .collect())
    }

    fn reader(&self) -> Reader {
        Reader::Entries(collect)
    }

    fn image_path(&self, _split: Split, file_name: &str) -> String {
        // The lists in ImageSets end a name at a space.
        let name = last_part(file_name).replace(char::is_whitespace, "_");
        format!("JPEGImages/{name}")
    }

    fn image_key<'p>(&self, image_path: &'p str) -> &'p str {
        // The annotation of `a.jpg` and `a.png` would be the same.
        without_extension(image_path)
    }

    fn write(&self, splits: &[PlacedSplit], output: &Output) -> Result<Written, DataError> {
        let mut written = Written::default();
        let mut used = BTreeSet::new();
        let mut classes = 0;
        for placed in splits {
            let store = &placed.annotations.store;
            let split = placed.annotations.split;
            written.dropped.merge(&placed.annotations.beyond_boxes());
            classes = store.class_count();
            let (mut list, mut boxes) = (String::new(), 0);
            for (index, path) in placed.image_paths.iter().enumerate() {
                let name = last_part(without_extension(path));
                let annotations = store.annotations(index);
                for annotation in annotations.filter(|annotation| !annotation.is_crowd) {
                    boxes += 1;
                    used.insert(annotation.class);
                }
                let text = voc::format(store, index, last_part(path));
                output.file(&format!("Annotations/{name}.xml"), &text)?;
                list += name;
                list.push('\n');
            }
            output.file(&format!("ImageSets/Main/{split}.txt"), &list)?;
            written.splits.push(WrittenSplit {
                split,
                images: store.image_count(),
                boxes,
            });
        }
        // The classes of a VOC directory are those of its objects.
        let unused = classes - used.len();
        written
            .dropped
            .add("classes without a box", "class", unused);
        Ok(written)
    }
}

/// The files of a VOC directory.
#[derive(Debug, Clone, Copy)]
pub enum VocDirectory<'a> {
    /// In a directory on disk.
    OnDisk(&'a Path),
    /// In memory, for instance from an archive.
    InMemory {
        /// Bytes by path, with `/` between the parts.
        files: &'a BTreeMap<String, Vec<u8>>,
        /// The path of the VOC directory within `files`.
        root: &'a str,
    },
}

impl<'a> VocDirectory<'a> {
    pub(super) fn path(self, name: &str) -> PathBuf {
        match self {
            Self::OnDisk(root) => root.join(name),
            Self::InMemory { root, .. } => format!("{root}/{name}").into(),
        }
    }

    fn contains(self, name: &str) -> bool {
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

    /// Returns the directory that exists, or else the standard one.
    fn one_of(self, standard: &'static str, other: &'static str) -> &'static str {
        if !self.contains(standard) && self.contains(other) {
            other
        } else {
            standard
        }
    }

    fn annotations(self) -> &'static str {
        self.one_of("Annotations", "annotations")
    }

    fn images(self) -> &'static str {
        self.one_of("JPEGImages", "images")
    }

    /// Returns the file name of an annotation's image: the annotation's own name with an image extension, or
    /// else the file name in the annotation.
    fn image_of(self, name: &str, annotated: Option<&VocImage>) -> String {
        let directory = self.images();
        let lower = IMAGE_EXTENSIONS
            .iter()
            .map(|extension| format!("{name}.{extension}"));
        let upper = IMAGE_EXTENSIONS
            .iter()
            .map(|extension| format!("{name}.{}", extension.to_uppercase()));
        lower
            .chain(upper)
            .chain(annotated.map(|annotated| annotated.file_name.clone()))
            .find(|file| self.contains(&format!("{directory}/{file}")))
            .unwrap_or_else(|| format!("{name}.jpg"))
    }

    fn bytes(self, name: &str) -> Result<Cow<'a, [u8]>, DataError> {
        let path = self.path(name);
        let bytes = match self {
            Self::OnDisk(_) => std::fs::read(&path).map(Cow::Owned),
            Self::InMemory { files, root } => files
                .get(&format!("{root}/{name}"))
                .map(|bytes| Cow::Borrowed(bytes.as_slice()))
                .ok_or_else(|| io::ErrorKind::NotFound.into()),
        };
        bytes.map_err(|source| DataError::io(&path, source))
    }

    fn text(self, name: &str) -> Result<String, DataError> {
        match self {
            Self::OnDisk(root) => read_text(&root.join(name)),
            Self::InMemory { .. } => text_of(self.bytes(name)?.into_owned(), &self.path(name)),
        }
    }

    fn image_size(self, name: &str) -> Result<ImageSize, DataError> {
        Ok(match self {
            Self::OnDisk(root) => image_size(&root.join(name))?,
            Self::InMemory { .. } => image_size_of_bytes(&self.bytes(name)?, &self.path(name))?,
        })
    }

    /// Reads the annotation of an image.
    fn annotation(self, name: &str) -> Result<VocImage, DataError> {
        let file = format!("{}/{name}.xml", self.annotations());
        voc::parse(&self.text(&file)?, &self.path(&file))
    }

    /// Returns the names in `ImageSets/Main/LIST.txt`, sorted, each once.
    pub(super) fn listed(self, list: &str) -> Result<Vec<String>, DataError> {
        let text = self.text(&format!("ImageSets/Main/{list}.txt"))?;
        // VOC's lists of one class have a second column: whether the class is in the image.
        let mut names: Vec<String> = text
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .map(str::to_owned)
            .collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }
}

/// Returns the splits with the names of their annotations. `trainval` is used for train if there is no list
/// of train; without any list all annotations are for training.
fn names_of_splits(root: &Path) -> Result<Vec<(Split, Vec<String>)>, DataError> {
    let directory = VocDirectory::OnDisk(root);
    let mut splits = Vec::new();
    for (split, lists) in [
        (Split::Train, &["train", "trainval"][..]),
        (Split::Val, &["val"]),
        (Split::Test, &["test"]),
    ] {
        let list = lists
            .iter()
            .find(|list| directory.contains(&format!("ImageSets/Main/{list}.txt")));
        if let Some(list) = list {
            splits.push((split, directory.listed(list)?));
        }
    }
    if splits.is_empty() {
        let path = directory.path(directory.annotations());
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&path).map_err(|source| DataError::io(&path, source))? {
            let name = entry
                .map_err(|source| DataError::io(&path, source))?
                .file_name();
            let name = name.to_string_lossy();
            names.extend(name.strip_suffix(".xml").map(str::to_owned));
        }
        names.sort_unstable();
        splits.push((Split::Train, names));
    }
    Ok(splits)
}

/// Collects a split. Its categories are the classes of all splits, sorted, so that they agree.
fn collect(files: &SplitFiles) -> Result<SplitEntries, DataError> {
    let directory = VocDirectory::OnDisk(&files.annotations);
    let (mut own, mut classes) = (Vec::new(), BTreeSet::new());
    for (split, names) in names_of_splits(&files.annotations)? {
        let annotations: Vec<_> = names
            .par_iter()
            .map(|name| directory.annotation(name))
            .collect();
        let read = annotations.iter().flatten();
        classes.extend(read.flat_map(|image| image.objects.iter().map(|o| o.name.clone())));
        if split == files.split {
            own.extend(names.into_iter().zip(annotations));
        }
    }
    let classes = classes.into_iter().collect();
    Ok(entries(directory, own, classes, StatedSize::MustMatch))
}

/// The handling of the image size in an annotation; 0 always counts as missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StatedSize {
    /// An image of another size is a problem: the boxes would not fit it.
    MustMatch,
    /// Only the image's size is used, for data whose boxes and images are checked in another way.
    Ignored,
}

/// Collects the named annotations of a directory; an object of another class is a problem.
pub(super) fn entries_of(
    directory: VocDirectory,
    names: &[String],
    categories: Vec<String>,
    stated_size: StatedSize,
) -> SplitEntries {
    let annotations = names.iter().cloned();
    let annotations = annotations.map(|name| {
        let annotation = directory.annotation(&name);
        (name, annotation)
    });
    entries(directory, annotations.collect(), categories, stated_size)
}

fn entries(
    directory: VocDirectory,
    annotations: Vec<(String, Result<VocImage, DataError>)>,
    categories: Vec<String>,
    stated_size: StatedSize,
) -> SplitEntries {
    let image_directory = directory.images();
    let sizes: Vec<_> = annotations
        .par_iter()
        .map(|(name, annotated)| {
            let file_name = directory.image_of(name, annotated.as_ref().ok());
            let size = directory.image_size(&format!("{image_directory}/{file_name}"));
            (file_name, size)
        })
        .collect();
    let mut collected = SplitEntries {
        image_root: directory.path(image_directory),
        ..SplitEntries::default()
    };
    for (image, ((name, annotated), (file_name, size))) in
        annotations.into_iter().zip(sizes).enumerate()
    {
        let problems = &mut collected.problems;
        let mut problem = |error| problems.push(EntryProblem { image, error });
        let mut size = size.map_err(&mut problem).ok();
        let mut boxes = Vec::new();
        match annotated {
            Ok(annotated) => {
                let stated = annotated.size;
                let is_stated = stated.width > 0 && stated.height > 0;
                if is_stated && stated_size == StatedSize::MustMatch {
                    let differing = size.replace(stated).filter(|actual| *actual != stated);
                    if let Some(decoded) = differing {
                        problem(DataError::SizeMismatch {
                            image: collected.image_root.join(&file_name).display().to_string(),
                            decoded,
                            annotated: stated,
                        });
                    }
                }
                for object in annotated.objects {
                    let class = categories.iter().position(|class| *class == object.name);
                    let Some(class) = class else {
                        let path =
                            directory.path(&format!("{}/{name}.xml", directory.annotations()));
                        let known = categories.join(", ");
                        let unknown = object.name;
                        let message = format!("unknown class {unknown:?}; the classes are {known}");
                        problem(DataError::labels(&path, message));
                        continue;
                    };
                    let flags = [
                        ("difficult", object.difficult),
                        ("truncated", object.truncated),
                    ];
                    let flags = flags.into_iter().filter(|(_, is_set)| *is_set);
                    let flags = flags.map(|(name, _)| format!("`{name}` flags"));
                    let others = object
                        .others
                        .iter()
                        .map(|name| format!("`{name}` elements"));
                    for what in flags.chain(others) {
                        collected.dropped.add(what, "object", 1);
                    }
                    boxes.push(BoxEntry {
                        class,
                        xywh: Some(object.box_in_image.to_xywh()),
                    });
                }
            }
            Err(error) => problem(error),
        }
        collected.images.push(ImageEntry {
            file_name,
            size,
            boxes,
        });
    }
    collected.categories = categories;
    collected
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::format::DatasetFiles;
    use std::fs;

    const OBJECTS: &str = "<object><name>cat</name><difficult>1</difficult>
        <bndbox><xmin>1</xmin><ymin>2</ymin><xmax>4</xmax><ymax>8</ymax></bndbox></object>
        <object><name>dog</name>
        <bndbox><xmin>5</xmin><ymin>2</ymin><xmax>5</xmax><ymax>8</ymax></bndbox></object>
        <object><name>dog</name>
        <bndbox><xmin>0</xmin><ymin>0</ymin><xmax>1</xmax><ymax>1</ymax></bndbox></object>";

    fn annotation(width: u32, height: u32, objects: &str) -> String {
        format!(
            "<annotation><filename>a</filename><size><width>{width}</width><height>{height}</height></size>{objects}</annotation>"
        )
    }

    /// Creates a directory with two images of 12x9: `b` in train, `a` in train and val.
    fn directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8]| {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        let mut image = io::Cursor::new(Vec::new());
        image::RgbImage::new(12, 9)
            .write_to(&mut image, image::ImageFormat::Jpeg)
            .unwrap();
        for name in ["a", "b"] {
            put(&format!("JPEGImages/{name}.jpg"), image.get_ref());
        }
        put("Annotations/a.xml", annotation(12, 9, OBJECTS).as_bytes());
        // Some tools write 0 for the size.
        put("Annotations/b.xml", annotation(0, 0, "").as_bytes());
        put("ImageSets/Main/train.txt", b"b  1\r\na -1\r\n\r\nb 1\r\n");
        put("ImageSets/Main/val.txt", b"a");
        directory
    }

    fn read(root: &Path) -> Result<Vec<crate::annotations::format::SplitAnnotations>, DataError> {
        Ok(DatasetFiles::find(root)?.read()?.splits)
    }

    #[test]
    fn splits_share_their_classes_and_boxes_without_area_are_dropped() {
        let directory = directory();
        let splits = read(directory.path()).unwrap();
        let names: Vec<Split> = splits.iter().map(|read| read.split).collect();
        assert_eq!(names, [Split::Train, Split::Val]);
        for read in &splits {
            let categories = read.store.categories().iter();
            let categories: Vec<_> = categories.map(|c| (c.id, c.name.as_str())).collect();
            assert_eq!(categories, [(1, "cat"), (2, "dog")]);
            let dropped: Vec<String> = read.dropped.lines().collect();
            assert_eq!(
                dropped,
                [
                    "`difficult` flags (1 object)",
                    "boxes without area (1 object)"
                ]
            );
            assert!(
                read.image_root
                    .join(read.store.image(0).file_name)
                    .is_file()
            );
        }
        let train = &splits[0].store;
        assert_eq!((train.image_count(), train.annotation_count()), (2, 2));
        assert_eq!(train.image(1).size, ImageSize::new(9, 12));
        assert_eq!(
            train.boxes_xywh(0).collect::<Vec<_>>(),
            [[1.0, 2.0, 3.0, 6.0], [0.0, 0.0, 1.0, 1.0]]
        );
    }

    #[test]
    fn without_lists_all_annotations_are_for_training() {
        let directory = directory();
        fs::remove_dir_all(directory.path().join("ImageSets")).unwrap();
        let splits = read(directory.path()).unwrap();
        assert_eq!(splits.len(), 1);
        assert_eq!(
            (splits[0].split, splits[0].store.image_count()),
            (Split::Train, 2)
        );
    }

    #[test]
    fn a_strict_read_names_the_file_at_fault() {
        type Spoil = fn(&Path) -> io::Result<()>;
        let cases: [(Spoil, &str, &str); 5] = [
            (
                |f| fs::remove_file(f.join("Annotations/b.xml")),
                "Annotations/b.xml",
                "",
            ),
            (
                |f| fs::write(f.join("Annotations/a.xml"), [0xff]),
                "Annotations/a.xml",
                "utf-8",
            ),
            (
                |f| fs::write(f.join("JPEGImages/a.jpg"), b"text"),
                "JPEGImages/a.jpg",
                "",
            ),
            (
                |f| fs::remove_file(f.join("JPEGImages/b.jpg")),
                "JPEGImages/b.jpg",
                "cannot read",
            ),
            (
                |f| fs::write(f.join("Annotations/a.xml"), annotation(9, 12, "")),
                "JPEGImages/a.jpg",
                "its annotations are for 9x12",
            ),
        ];
        for (spoil, file, says) in cases {
            let directory = directory();
            spoil(directory.path()).unwrap();
            let message = read(directory.path()).unwrap_err().to_string();
            let file = directory.path().join(file).display().to_string();
            assert!(message.contains(&file), "{message}");
            assert!(message.contains(says), "{message}");
            assert_eq!(message.lines().count(), 1, "{message}");
        }
    }

    #[test]
    fn all_problems_of_a_split_are_collected() {
        let directory = directory();
        fs::write(directory.path().join("Annotations/a.xml"), "<x>").unwrap();
        fs::write(directory.path().join("JPEGImages/b.jpg"), "text").unwrap();
        let files = DatasetFiles::find(directory.path()).unwrap();
        let collected = collect(files.split(Split::Train).unwrap()).unwrap();
        let places: Vec<usize> = collected.problems.iter().map(|p| p.image).collect();
        assert_eq!(places, [0, 1]);
        assert_eq!(collected.images.len(), 2);
    }
}
