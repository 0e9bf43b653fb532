//! Images of a split in one directory, with a list of their classes, as Tiny ImageNet has those of val:
//! `val/images/val_0.JPEG` and `val/val_annotations.txt` (`val_0.JPEG`, the class and a box in each line).

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::DataError;
use crate::annotations::image_files::{DirectoryListing, ImageFiles, images_within};
use crate::datasets::labeled::LabeledDataset;
use crate::text::{count, printable};
use crate::text_file::read_text;

/// The images of a split and the list of their classes.
pub(super) struct ListedClasses {
    images: PathBuf,
    list: PathBuf,
}

impl ListedClasses {
    /// Finds the list and the images in the directory of a split.
    pub(super) fn find(directory: &Path) -> Option<Self> {
        let list = directory.join("val_annotations.txt");
        let images = DirectoryListing::of(directory).directory(&["images"])?;
        list.is_file().then_some(Self { images, list })
    }

    /// Returns whether this is the list.
    pub(super) fn is_list(&self, path: &Path) -> bool {
        self.list == path
    }

    /// Opens the images. `classes` are the directories of the classes in train, and `names` their names.
    ///
    /// # Errors
    /// A line names no class, or no image; the images cannot be listed.
    pub(super) fn open(
        &self,
        classes: &[String],
        names: Vec<String>,
    ) -> Result<LabeledDataset, DataError> {
        let label_of: HashMap<&str, u32> = classes.iter().map(String::as_str).zip(0..).collect();
        let found = images_within(&self.images)?;
        let mut left: HashSet<String> = found.iter().map(|image| image.path()).collect();
        let (mut labels, mut files) = (Vec::new(), ImageFiles::default());
        for (line, text) in (1..).zip(read_text(&self.list)?.lines()) {
            let wrong =
                |problem: String| DataError::labels(&self.list, format!("line {line}: {problem}"));
            let mut fields = text.split_whitespace();
            let Some(image) = fields.next() else {
                continue;
            };
            let class = fields.next().unwrap_or_default();
            let Some(label) = label_of.get(class) else {
                return Err(wrong(format!(
                    "`{}` is no class of train",
                    printable(class)
                )));
            };
            if !left.remove(image) {
                let images = self.images.display();
                let problem = format!("`{}` is not in {images}, or listed twice", printable(image));
                return Err(wrong(problem));
            }
            labels.push(*label);
            files.push(&self.images, image);
        }
        let origin = self.list.display().to_string();
        let note = (!left.is_empty()).then(|| {
            format!(
                "not used: {} without a line in {origin}",
                count(left.len(), "image")
            )
        });
        Ok(LabeledDataset::new(&origin, names, labels, files)?.with_notes(note))
    }
}

#[cfg(test)]
mod tests {
    use crate::annotations::layout::Split;
    use crate::datasets::image_folder::ImageFolder;

    fn tree(list: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in [
            "train/n1/images/1.JPEG",
            "train/n2/images/2.JPEG",
            "val/images/3.JPEG",
            "val/images/4.JPEG",
            "test/images/5.JPEG",
        ] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        std::fs::write(dir.path().join("val/val_annotations.txt"), list).unwrap();
        dir
    }

    #[test]
    fn tiny_imagenet_is_read_as_it_is_unpacked() {
        let dir = tree("4.JPEG\tn1\t0\t32\t44\t62\n3.JPEG\tn2\t52\t55\t57\t59\n");
        let found = ImageFolder::find(dir.path()).unwrap();
        let train = found.open(Split::Train).unwrap();
        assert_eq!(train.class_counts(), [1, 1]);
        let val = found.open(Split::Val).unwrap();
        assert_eq!(val.class_names(), ["n1", "n2"]);
        let images = (0..val.len()).map(|at| (val.label(at), val.describe(at)));
        let place = |name: &str| {
            dir.path()
                .join("val/images")
                .join(name)
                .display()
                .to_string()
        };
        assert_eq!(
            images.collect::<Vec<_>>(),
            [(0, place("4.JPEG")), (1, place("3.JPEG"))]
        );
        assert_eq!(val.notes(), [""; 0]);
        assert_eq!(found.unused(), None);
    }

    #[test]
    fn a_list_of_other_classes_or_images_is_refused_and_a_missing_line_named() {
        let opened = |list: &str| {
            let dir = tree(list);
            let opened = ImageFolder::find(dir.path()).unwrap().open(Split::Val);
            let shown = match opened {
                Ok(opened) => opened.notes().join("; "),
                Err(error) => error.to_string(),
            };
            shown.replace(&dir.path().display().to_string(), ".")
        };
        let list = "./val/val_annotations.txt";
        assert_eq!(
            opened("3.JPEG n1\n"),
            format!("not used: 1 image without a line in {list}")
        );
        assert_eq!(
            opened("3.JPEG n9\n"),
            format!("{list}: line 1: `n9` is no class of train")
        );
        let expected = format!("{list}: line 2: `3.JPEG` is not in ./val/images, or listed twice");
        assert_eq!(opened("3.JPEG n1\n3.JPEG n2\n"), expected);
    }
}
