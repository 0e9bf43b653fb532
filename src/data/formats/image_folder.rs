//! Folders of classes: every class a folder, every picture in the folder of its class.
//!
//! With splits, where `val` may also be called `valid` or `validation`:
//!
//! ```text
//! FOLDER/train/CLASS/*.jpg
//! FOLDER/val/CLASS/*.jpg
//! FOLDER/test/CLASS/*.jpg
//! ```
//!
//! Without a val folder, `test` is taken for it; without either, a tenth of the pictures is held
//! out of train. So it is with a folder that has no splits at all, `FOLDER/CLASS/*.jpg`. A picture
//! is held out when the first eight bytes of the SHA-256 of its path from the class folders'
//! folder (`CLASS/name.jpg`, with `/` between the parts) are, as a big-endian number, a multiple of
//! ten. So the same pictures are held out on every machine, and more pictures do not move the old
//! ones. Every class keeps at least one picture, and at least one is held out.
//!
//! Classes are the sorted names of the folders, as in torchvision's `ImageFolder`; folders inside a
//! class belong to it, hidden entries do not count. Where every folder is a synset of ImageNet
//! (Imagenette, ImageNet-100), the classes have ImageNet's names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use super::layout::{LayoutError, Split, find_folder};
use super::picture_files::{
    Found, PictureFiles, first_few, holds_pictures, holds_pictures_directly, list, pictures_within,
};
use super::voc_to_coco::is_voc;
use super::yolo::YoloFolder;
use crate::data::DataError;
use crate::data::imagenet_classes::{imagenet_classes, imagenet_label};
use crate::data::labelled::LabelledDataset;

/// One picture in so many is held out where there is no val folder.
const HELD_OUT: u64 = 10;

/// A folder of classes; nothing is read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFolder {
    root: PathBuf,
    /// The folders of train, val and test, none for a folder without splits.
    splits: Option<[Option<PathBuf>; 3]>,
    /// A val folder without folders of classes, beside a train folder with them.
    flat_val: Option<PathBuf>,
}

const SPLITS: [Split; 3] = [Split::Train, Split::Val, Split::Test];

impl ImageFolder {
    /// Looks for splits in a folder. A folder `train` whose pictures lie in it directly is a class
    /// among others, not a split.
    pub fn new(root: &Path) -> Self {
        let folder_of = |split: Split, is_flat: bool| {
            let mut names = split.names().iter().map(|name| root.join(name));
            names.find(|path| path.is_dir() && holds_pictures_directly(path) == is_flat)
        };
        let splits = SPLITS.map(|split| folder_of(split, false));
        let has_splits = splits.iter().any(Option::is_some);
        Self {
            root: root.to_owned(),
            flat_val: match has_splits && splits[1].is_none() {
                true => folder_of(Split::Val, true),
                false => None,
            },
            splits: has_splits.then_some(splits),
        }
    }

    /// The folder if it is one of classes: at least two with pictures in them. Ask
    /// [`holds_annotations`] first: pictures with boxes lie in folders too.
    pub fn find(root: &Path) -> Option<Self> {
        if !root.is_dir() {
            return None;
        }
        let folder = Self::new(root);
        let parents = match &folder.splits {
            None => vec![root],
            Some(splits) => splits.iter().flatten().map(PathBuf::as_path).collect(),
        };
        let holds_classes = |parent: &Path| {
            let classes = list(parent).unwrap_or_default().folders;
            let with_pictures = classes
                .iter()
                .filter(|class| holds_pictures(&parent.join(class)));
            with_pictures.take(2).count() == 2
        };
        parents.into_iter().any(holds_classes).then_some(folder)
    }

    /// One split.
    ///
    /// # Errors
    /// No such split, a class without a single picture in train, a class in val that train lacks,
    /// an unreadable folder.
    pub fn open(&self, split: Split) -> Result<LabelledDataset, DataError> {
        if let Some(flat) = &self.flat_val {
            let problem =
                "its pictures lie in no folders of classes; move each into its class's folder";
            return Err(DataError::labels(flat, problem));
        }
        let [train, val, test] = match &self.splits {
            None => [Some(self.root.as_path()), None, None],
            Some(splits) => splits.each_ref().map(Option::as_deref),
        };
        match (split, val.or(test)) {
            (Split::Train, Some(_)) => self.open_whole(self.expect(train, split)?, train),
            (Split::Val, Some(folder)) => {
                let notes = val
                    .is_none()
                    .then(|| "no val folder: test is used".to_owned());
                Ok(self.open_whole(folder, train)?.with_notes(notes))
            }
            (Split::Test, _) => self.open_whole(self.expect(test, split)?, train),
            (_, None) => self.open_part(self.expect(train, Split::Train)?, split),
        }
    }

    fn expect<'a>(&self, folder: Option<&'a Path>, split: Split) -> Result<&'a Path, DataError> {
        folder.ok_or_else(|| {
            let problem = format!(
                "no {split} folder with a folder for each class; make it, or use another split"
            );
            DataError::labels(&self.root, problem)
        })
    }

    /// All pictures of a folder; the classes are train's where there is a train folder.
    fn open_whole(
        &self,
        folder: &Path,
        train: Option<&Path>,
    ) -> Result<LabelledDataset, DataError> {
        let classes = list(train.unwrap_or(folder))?.folders;
        let is_train = train == Some(folder);
        let pictures = ClassPictures::read(&self.root, folder, &classes)?;
        let empty = pictures.empty_classes(&classes);
        if is_train && !empty.is_empty() {
            return Err(no_pictures_of(folder, &empty));
        }
        let notes = (!empty.is_empty()).then(|| {
            format!(
                "{}: no pictures of {} of {} classes: {}",
                folder.display(),
                empty.len(),
                classes.len(),
                first_few(empty.iter().copied())
            )
        });
        let dataset = pictures.into_dataset(display_names(classes), |_, _| true)?;
        Ok(dataset.with_notes(notes))
    }

    /// The part of a folder's pictures that is held out (val), or the others (train).
    fn open_part(&self, folder: &Path, split: Split) -> Result<LabelledDataset, DataError> {
        let classes = list(folder)?.folders;
        let pictures = ClassPictures::read(&self.root, folder, &classes)?;
        let empty = pictures.empty_classes(&classes);
        if !empty.is_empty() {
            return Err(no_pictures_of(folder, &empty));
        }
        let held_out = held_out(&classes, &pictures.of_class);
        let count = held_out.iter().flatten().filter(|held| **held).count();
        let all = pictures.len();
        let wanted = split != Split::Train;
        let dataset = pictures.into_dataset(display_names(classes), |class, index| {
            held_out[class][index] == wanted
        })?;
        let note = format!("no val folder: {count} of {all} pictures held out");
        Ok(dataset.with_notes(wanted.then_some(note)))
    }
}

/// Whether a folder holds annotations of boxes: COCO's in a known layout or, to be safe, anything
/// that looks like them; VOC's.
pub fn holds_annotations(root: &Path) -> bool {
    if matches!(
        find_folder(root),
        Ok(_) | Err(LayoutError::Ambiguous { .. })
    ) {
        return true;
    }
    if is_voc(root) || matches!(YoloFolder::find(root), Ok(Some(_))) {
        return true;
    }
    let has_json = |folder: &Path, is_meant: fn(&str) -> bool| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name()).any(|name| {
            let name = name.to_string_lossy().to_lowercase();
            name.ends_with(".json") && is_meant(&name)
        })
    };
    has_json(&root.join("annotations"), |_| true)
        || has_json(root, |name| {
            name.starts_with("instances") || name.contains("coco")
        })
        || root.join("JPEGImages").is_dir()
}

/// The pictures of every class in a folder.
pub(super) struct ClassPictures {
    folder: PathBuf,
    classes: Vec<String>,
    of_class: Vec<Vec<Found>>,
}

impl ClassPictures {
    /// Reads the folders of these classes, which need not all be there.
    ///
    /// # Errors
    /// A folder that is none of the classes, named with the others as a difference between `root`'s
    /// splits; an unreadable folder.
    pub(super) fn read(root: &Path, folder: &Path, classes: &[String]) -> Result<Self, DataError> {
        let present = list(folder)?.folders;
        let known: BTreeSet<&String> = classes.iter().collect();
        let unknown: Vec<&str> = present
            .iter()
            .filter(|name| !known.contains(name))
            .map(String::as_str)
            .collect();
        if !unknown.is_empty() {
            let here: BTreeSet<&String> = present.iter().collect();
            let missing = known.difference(&here).map(|name| name.as_str());
            let other = folder.strip_prefix(root).unwrap_or(folder).display();
            let mut difference = format!("only in {other}: {}", first_few(unknown));
            let missing = first_few(missing);
            if !missing.is_empty() {
                difference += &format!("; only in train: {missing}");
            }
            return Err(DataError::ClassesDiffer {
                root: root.to_owned(),
                other: other.to_string(),
                difference,
            });
        }
        let here: BTreeSet<&String> = present.iter().collect();
        let of_class = classes
            .par_iter()
            .map(|class| match here.contains(class) {
                true => pictures_within(&folder.join(class)),
                false => Ok(Vec::new()),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            folder: folder.to_owned(),
            classes: classes.to_vec(),
            of_class,
        })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.of_class.iter().map(Vec::len).sum()
    }

    /// The classes without pictures, out of their names.
    pub(super) fn empty_classes<'a>(&self, names: &'a [String]) -> Vec<&'a str> {
        names
            .iter()
            .zip(&self.of_class)
            .filter(|(_, pictures)| pictures.is_empty())
            .map(|(name, _)| name.as_str())
            .collect()
    }

    /// The pictures that are wanted by class and place in it; `names` are those of the classes.
    ///
    /// # Errors
    /// There is no picture.
    pub(super) fn into_dataset(
        self,
        names: Vec<String>,
        is_wanted: impl Fn(usize, usize) -> bool,
    ) -> Result<LabelledDataset, DataError> {
        let (mut labels, mut files) = (Vec::new(), PictureFiles::default());
        for (class, pictures) in self.of_class.iter().enumerate() {
            let folder = self.folder.join(&self.classes[class]);
            for (index, picture) in pictures.iter().enumerate() {
                if is_wanted(class, index) {
                    match picture.within.as_str() {
                        "" => files.push(&folder, &picture.name),
                        within => files.push(&folder.join(within), &picture.name),
                    }
                    labels.push(class as u32);
                }
            }
        }
        LabelledDataset::new(&self.folder.display().to_string(), names, labels, files)
    }
}

fn no_pictures_of(folder: &Path, empty: &[&str]) -> DataError {
    let problem = format!(
        "no pictures in {}; add some, or remove the empty class folders",
        first_few(empty.iter().copied())
    );
    DataError::labels(folder, problem)
}

/// ImageNet's names where every class is one of its synsets.
fn display_names(classes: Vec<String>) -> Vec<String> {
    let labels: Option<Vec<usize>> = classes.iter().map(|class| imagenet_label(class)).collect();
    match labels {
        Some(labels) => labels
            .into_iter()
            .map(|label| imagenet_classes()[label].name.to_owned())
            .collect(),
        None => classes,
    }
}

/// Which pictures are held out, by class and place; see the module's text.
fn held_out(classes: &[String], of_class: &[Vec<Found>]) -> Vec<Vec<bool>> {
    let hashes: Vec<Vec<u64>> = classes
        .par_iter()
        .zip(of_class)
        .map(|(class, pictures)| {
            let hash = |picture: &Found| path_hash(class, picture);
            pictures.iter().map(hash).collect()
        })
        .collect();
    let mut held_out: Vec<Vec<bool>> = hashes
        .iter()
        .map(|hashes| hashes.iter().map(|hash| hash % HELD_OUT == 0).collect())
        .collect();
    for held in &mut held_out {
        if held.iter().all(|held| *held)
            && let Some(first) = held.first_mut()
        {
            *first = false;
        }
    }
    if !held_out.iter().flatten().any(|held| *held) {
        // Of a class that can spare one.
        let spare = hashes.iter().enumerate().filter(|(_, of)| of.len() > 1);
        let places = spare.flat_map(|(class, of)| {
            let with_place = of.iter().enumerate();
            with_place.map(move |(index, hash)| (hash, class, index))
        });
        if let Some((_, class, index)) = places.min() {
            held_out[class][index] = true;
        }
    }
    held_out
}

fn path_hash(class: &str, picture: &Found) -> u64 {
    let Found { within, name } = picture;
    let path = match within.as_str() {
        "" => format!("{class}/{name}"),
        _ => format!("{class}/{within}/{name}"),
    };
    let first_eight = &Sha256::digest(path)[..8];
    first_eight
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}
