//! XML files in other directories than that of Pascal VOC's annotations: LabelImg may save some beside the images.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::DataError;
use crate::annotations::format::{last_part, without_extension};
use crate::annotations::image_files::{DirectoryListing, files_with_extension, first_few};
use crate::annotations::voc::{self, VocImage};
use crate::text::count;

/// Describes the annotations beside the images of a dataset whose annotations `all` are in a directory of their own, if
/// their objects differ from those of the annotations with their names, or there are none of these names. Copies are not
/// described.
pub(super) fn other_annotations(
    root: &Path,
    annotations: &Path,
    all: &[String],
    image_directories: &[PathBuf],
) -> Result<Vec<String>, DataError> {
    let mut by_name: HashMap<&str, Vec<&String>> = HashMap::new();
    for name in all {
        by_name.entry(last_part(name)).or_default().push(name);
    }
    let mut described = Vec::new();
    let mut seen = HashSet::new();
    for place in image_directories {
        let is_other = !annotations.starts_with(place) && !place.starts_with(annotations);
        let files: Vec<PathBuf> = if place == root {
            DirectoryListing::of(root).files_with("xml").collect()
        } else if is_other && place.is_dir() {
            let files = files_with_extension(place, "xml")?.into_iter();
            files.map(|file| place.join(file.path())).collect()
        } else {
            continue;
        };
        let files: Vec<PathBuf> = files
            .into_iter()
            .filter(|file| seen.insert(file.clone()))
            .collect();
        // None for what is no annotation.
        let differs = |file: &PathBuf| -> Option<bool> {
            let own = read(file)?;
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let same = by_name.get(without_extension(&name))?;
            let mut same = same.iter();
            // What is wrong with one that is used is reported when it is read.
            let is_copy = same.any(|name| {
                read(&annotations.join(format!("{name}.xml")))
                    .is_none_or(|used| used.objects == own.objects)
            });
            Some(!is_copy)
        };
        let is_further = |file: &PathBuf| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            !by_name.contains_key(without_extension(&name)) && read(file).is_some()
        };
        let differing: Vec<&PathBuf> = files
            .par_iter()
            .filter(|file| differs(file) == Some(true))
            .collect();
        let further: Vec<&PathBuf> = files.par_iter().filter(|file| is_further(file)).collect();
        let shown = |files: &[&PathBuf]| {
            let below = files
                .iter()
                .map(|file| file.strip_prefix(root).unwrap_or(file));
            let below: Vec<String> = below.map(|file| file.display().to_string()).collect();
            first_few(below.iter().map(String::as_str))
        };
        let used = annotations
            .strip_prefix(root)
            .unwrap_or(annotations)
            .display();
        if !differing.is_empty() {
            described.push(format!(
                "{} with other objects than those of the same names in {used} ({})",
                count(differing.len(), "annotation"),
                shown(&differing)
            ));
        }
        if !further.is_empty() {
            described.push(format!(
                "{} without one of the same name in {used} ({})",
                count(further.len(), "annotation"),
                shown(&further)
            ));
        }
    }
    Ok(described)
}

fn read(path: &Path) -> Option<VocImage> {
    let text = voc::read_xml(path).ok()?;
    voc::parse(&text, path).ok()
}

#[cfg(test)]
mod tests {
    use crate::annotations::format::DatasetFiles;

    const CAT: &str = "<object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>4</ymax></bndbox></object>";

    /// Creates a dataset with two images, and further files: an image, or an annotation of `a.png` with this many cats.
    fn dataset(further: &[(&str, usize)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let images = [("JPEGImages/a.png", 0), ("JPEGImages/b.png", 0)];
        let annotations = [("Annotations/a.xml", 1), ("Annotations/b.xml", 1)];
        for (name, cats) in images.iter().chain(&annotations).chain(further) {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            if name.ends_with("png") {
                image::RgbImage::new(9, 9).save(path).unwrap();
            } else {
                let image = if name.ends_with("b.xml") {
                    "b.png"
                } else {
                    "a.png"
                };
                let objects = CAT.repeat(*cats);
                let text =
                    format!("<annotation><filename>{image}</filename>{objects}</annotation>");
                std::fs::write(path, text).unwrap();
            }
        }
        dir
    }

    #[test]
    fn annotations_beside_the_images_are_named_unless_they_are_copies() {
        let unused =
            |further: &[(&str, usize)]| DatasetFiles::find(dataset(further).path()).unwrap().unused;
        assert_eq!(unused(&[]), [""; 0]);
        assert_eq!(unused(&[("JPEGImages/a.xml", 1), ("b.xml", 1)]), [""; 0]);
        assert_eq!(
            unused(&[("JPEGImages/a.xml", 2), ("JPEGImages/b.xml", 1)]),
            [
                "1 annotation with other objects than those of the same names in Annotations (JPEGImages/a.xml)"
            ]
        );
        assert_eq!(
            unused(&[("JPEGImages/c.png", 0), ("JPEGImages/c.xml", 1)]),
            ["1 annotation without one of the same name in Annotations (JPEGImages/c.xml)"]
        );
    }

    #[test]
    fn two_annotations_of_one_image_are_an_error_unless_they_are_the_same() {
        let read = |further: &[(&str, usize)]| {
            let dir = dataset(further);
            let read = DatasetFiles::find(dir.path()).unwrap().read();
            let root = dir.path().display().to_string();
            let read = read.map_err(|error| error.to_string().replace(&root, "."));
            read.map(|mut read| read.splits.remove(0).store.image_count())
        };
        assert_eq!(read(&[("Annotations/a_copy.xml", 1)]), Ok(2));
        let expected = "./Annotations/a_new.xml: its image is a.png, which ./Annotations/a.xml annotates with other objects";
        assert_eq!(
            read(&[("Annotations/a_new.xml", 2)]),
            Err(expected.to_owned())
        );
        let expected = "./Annotations/x/a.xml: its image is a.png, which ./Annotations/a.xml annotates with other objects";
        assert_eq!(
            read(&[("Annotations/x/a.xml", 0)]),
            Err(expected.to_owned())
        );
    }

    #[test]
    fn objects_that_are_marked_as_deleted_are_counted_and_not_read() {
        let dir = dataset(&[]);
        let deleted = CAT.replace("</name>", "</name><deleted>1</deleted>");
        let kept = CAT.replace("</name>", "</name><deleted>0</deleted>");
        let text = format!("<annotation><filename>a.png</filename>{kept}{deleted}</annotation>");
        std::fs::write(dir.path().join("Annotations/a.xml"), text).unwrap();
        let read = DatasetFiles::find(dir.path()).unwrap().read().unwrap();
        assert_eq!(read.splits[0].store.annotation_count(), 2);
        let dropped: Vec<String> = read.splits[0].dropped.lines().collect();
        assert_eq!(dropped, ["objects that are marked as deleted (1 object)"]);
    }

    #[test]
    fn lines_with_several_names_and_lists_of_another_task_are_named() {
        let dir = dataset(&[]);
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let read = || {
            let files = DatasetFiles::find(dir.path()).unwrap();
            let notes = files.read().unwrap().splits.remove(0).notes;
            (files.reason, notes)
        };
        write("ImageSets/Segmentation/train.txt", "a\n");
        let reason = "XML files in Annotations, lists in ImageSets/Segmentation";
        assert_eq!(read(), (reason.to_owned(), Vec::new()));
        // Of an image and its annotation, the name is one.
        write(
            "ImageSets/Main/train.txt",
            "JPEGImages/a.png Annotations/a.xml\n",
        );
        let reason = "XML files in Annotations, lists in ImageSets";
        assert_eq!(read(), (reason.to_owned(), Vec::new()));
        write("ImageSets/Main/train.txt", "a b\n");
        let note = "1 line of train.txt with several names: only the first of each line is used";
        assert_eq!(read(), (reason.to_owned(), vec![note.to_owned()]));
    }

    #[test]
    fn directories_of_a_split_in_two_capitals_are_refused() {
        let dir = dataset(&[("images/train/a.png", 0), ("images/Train/a.png", 0)]);
        let message = DatasetFiles::find(dir.path()).unwrap_err().to_string();
        let expected = "Train and train differ in capitals only, and both are directories of train";
        assert!(message.ends_with(expected), "{message}");
    }

    #[test]
    fn images_without_an_annotation_are_counted_without_lists() {
        let dropped = |further: &[(&str, usize)], list: Option<&str>| {
            let dir = dataset(further);
            if let Some(list) = list {
                std::fs::write(dir.path().join("train.txt"), list).unwrap();
            }
            let read = DatasetFiles::find(dir.path()).unwrap().read().unwrap();
            read.splits[0].dropped.lines().collect::<Vec<String>>()
        };
        let image = [("JPEGImages/c.png", 0)];
        assert_eq!(dropped(&[], None), [""; 0]);
        assert_eq!(
            dropped(&image, None),
            ["images without an annotation file (1 image)"]
        );
        assert_eq!(dropped(&image, Some("a\nb\n")), [""; 0]);
    }
}
