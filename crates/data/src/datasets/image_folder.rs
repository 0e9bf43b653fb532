//! Directories of classes: one directory per class, with the images of the class.
//!
//! With splits, in any capitals, where `val` may also be called `valid` or `validation`, `train`
//! `training` and `test` `testing`:
//!
//! ```text
//! DIRECTORY/train/CLASS/*.jpg
//! DIRECTORY/val/CLASS/*.jpg
//! DIRECTORY/test/CLASS/*.jpg
//! ```
//!
//! Without a val directory, `test` is used; without either, a tenth of the images is held out of
//! train. The same holds for a directory without splits, `DIRECTORY/CLASS/*.jpg`. An image is held
//! out when the first eight bytes of the SHA-256 of its path from the class directories' directory
//! (`CLASS/name.jpg`, with `/` between the parts) are, as a big-endian number, a multiple of ten.
//! So the same images are held out on every machine, and adding images does not change the
//! assignment of existing ones, except in a class without a held-out image: of two or more images, that with the
//! smallest number is held out. Every class keeps at least one image. Images with the same bytes are on one side, where
//! the smallest of their numbers decides.
//!
//! Classes are the sorted names of the directories, as in torchvision's `ImageFolder`; directories inside a
//! class belong to it, hidden entries do not count. Where all classes would have the same directories below one that is called
//! after images (`amazon/images/mug`), these are the classes. Masks are no images of a class: those in directories of masks, and
//! `NAME_mask.png`, `mask_NAME.png` or `NAME.png` beside `NAME.jpg` if its pixels are those of a mask. Directories with names of splits, `images`, `labels`,
//! `masks` or `annotations` are never classes, and neither are those whose names have such words if the
//! directories beside them show it: `training_set` and `test_set` are splits. Directories with files but
//! without any image, such as those of lists and documents, are no classes beside directories with images. Where every directory is a synset of ImageNet
//! (Imagenette, ImageNet-100), the classes have ImageNet's names.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::annotations::class_numbers::NumberedClasses;
use crate::annotations::format::without_extension;
use crate::annotations::formats::{FORMATS, has_annotation_extension, recognize};
use crate::annotations::image_files::{
    DirectoryListing, Found, ImageFiles, MAX_DEPTH, first_few, has_extension, holds_images,
    holds_images_directly, images_within, list, unsupported_within,
};
use crate::annotations::joining::{HELD_OUT, held_out_number};
use crate::annotations::layout::{
    LayoutError, NamedSplit, Split, abbreviated_split, are_parts, is_reserved_name, join,
    only_part_of, splits_of_names,
};
use crate::annotations::masks::masks_beside_images;
use crate::annotations::reading::BadImages;
use crate::annotations::same_content::{MOST_IMAGES, first_with_content};
use crate::annotations::split_lists::{
    ImageNames, divides_images, divides_numbers, is_list, lists_within, names_any,
};
use crate::annotations::stray_boxes::holds_boxes;
use crate::annotations::unread::{unread_annotations, unread_file};
use crate::datasets::around_classes::lists_above;
use crate::datasets::class_tables::{PlacedImage, contradicting_tables};
use crate::datasets::imagenet_classes::{imagenet_classes, imagenet_label};
use crate::datasets::labeled::LabeledDataset;
use crate::datasets::listed_classes::ListedClasses;
use crate::datasets::nested_classes::{
    domains_of, images_around_directories, images_of_class, joined_directories,
};
use crate::datasets::stray_labels::labels_of_class;
use crate::directory::{dangling_link, dangling_parts};
use crate::images::OnBadImage;
use crate::images::decode::{decode_image, has_unsupported_image_extension, unsupported_images};
use crate::text_file::{beginning, read_text};
use crate::{DataError, Remedy, text};

/// The first classes show how all are stored.
const FIRST_CLASSES: usize = 20;

/// A directory of classes, recognized by its subdirectories; no image has been listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFolder {
    root: PathBuf,
    /// The directories of train, val and test; empty for a directory without splits.
    splits: Option<[Option<PathBuf>; 3]>,
    /// A val directory without class directories, beside a train directory with them.
    flat_val: Option<PathBuf>,
}

impl ImageFolder {
    /// Finds splits in a directory. A directory `train` that contains images and no classes is none.
    pub fn new(root: &Path) -> Self {
        let listing = DirectoryListing::of(root);
        let directory_of = |split: Split, is_flat: bool| {
            let directory = listing.split_directory(split).map(classes_below_images);
            directory.filter(|path| is_flat_split(path) == is_flat)
        };
        // `training_set` and `test_set`.
        let names = &listing.directories;
        let like = |split: Split| {
            let name = only_part_of(names, split).filter(|_| are_parts(names))?;
            let directory = classes_within(root.join(name), name);
            (!is_flat_split(&directory)).then_some(directory)
        };
        let splits = Split::ALL.map(|split| match listing.split_directory(split) {
            Some(_) => directory_of(split, false),
            None => like(split).or_else(|| {
                let abbreviated = abbreviated_split(names, split)?;
                let directory = root.join(abbreviated);
                // Of languages, `tr` and `te` may be classes.
                (first_classes(&directory).len() == 2).then_some(directory)
            }),
        });
        let has_splits = splits.iter().any(Option::is_some);
        Self {
            root: root.to_owned(),
            flat_val: if has_splits && splits[1].is_none() {
                directory_of(Split::Val, true)
            } else {
                None
            },
            splits: has_splits.then_some(splits),
        }
    }

    /// Finds a directory of classes: at least two class directories with images. Check
    /// [`recognize`] first: detection datasets have directories of images too.
    pub fn find(root: &Path) -> Option<Self> {
        if !root.is_dir() {
            return None;
        }
        let directory = Self::new(root);
        let holds_classes = |parent: &Path| {
            let first = first_classes(parent);
            // A directory of several detection datasets is none of classes.
            first.len() == 2
                && !first
                    .iter()
                    .any(|class| holds_annotations(&parent.join(class)))
        };
        let mut parents = directory.parents().into_iter();
        parents.any(holds_classes).then_some(directory)
    }

    /// Returns the directories of classes in the places of classes, if all have the same: the domains of Office-31 in
    /// `amazon/images/mug`. They are joined. With several splits, domains are not told from classes.
    pub(crate) fn domains(&self) -> Option<Vec<PathBuf>> {
        match self.parents().as_slice() {
            [parent] => domains_of(parent),
            _ => None,
        }
    }

    /// Opens a split.
    ///
    /// # Errors
    /// The split does not exist, a class has no image in train, val has a class that train lacks,
    /// or a directory is unreadable.
    pub fn open(&self, split: Split) -> Result<LabeledDataset, DataError> {
        self.open_with(split, OnBadImage::Error)
    }

    /// Opens a split as [`Self::open`]. Where images that cannot be used are skipped, those that are held out can be
    /// used.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(
        &self,
        split: Split,
        on_bad_image: OnBadImage,
    ) -> Result<LabeledDataset, DataError> {
        if let Some(flat) = &self.flat_val {
            let problem = "it contains images instead of class directories";
            return Err(DataError::labels(flat, problem).with(Remedy::ClassDirectories));
        }
        if let Some(problem) = DirectoryListing::of(&self.root).twins_of_splits() {
            return Err(DataError::contradiction(&self.root, problem));
        }
        self.refuse_annotations()?;
        self.refuse_folds()?;
        self.refuse_splits_of_classes()?;
        let [train, val, test] = match &self.splits {
            None => [Some(self.root.as_path()), None, None],
            Some(splits) => splits.each_ref().map(Option::as_deref),
        };
        let opened = match (split, val.or(test)) {
            (Split::Train, Some(_)) => self.open_whole(self.expect(train, split)?, train),
            (Split::Val, Some(directory)) if let Some(list) = ListedClasses::find(directory) => {
                let classes = class_directories(self.expect(train, Split::Train)?)?;
                let (names, _) = self.display_names(classes.clone());
                list.open(&classes, names)
            }
            (Split::Val, Some(directory)) => {
                let notes = val
                    .is_none()
                    .then(|| "no val directory: test is used".to_owned());
                Ok(self.open_whole(directory, train)?.with_notes(notes))
            }
            (Split::Test, _) => self.open_whole(self.expect(test, split)?, train),
            (_, None) => self.open_part(self.expect(train, Split::Train)?, split, on_bad_image),
        };
        let unused = (split == Split::Train).then(|| self.unused());
        Ok(opened?.with_notes(unused.flatten()))
    }

    /// Describes what is beside the directories of the splits, or of the classes, and is not used.
    pub(crate) fn unused(&self) -> Option<String> {
        let listing = DirectoryListing::of(&self.root);
        let mut unused = Vec::new();
        if let Some(splits) = &self.splits {
            let is_used = |path: &Path| splits.iter().flatten().any(|used| used.starts_with(path));
            let directories = listing.directories.iter();
            unused.extend(directories.filter(|name| {
                let path = self.root.join(name);
                !is_used(&path) && holds_images(&path)
            }));
        }
        unused.extend(listing.images());
        let of_splits = self.splits.iter().flatten().flatten();
        let strays: Vec<String> = of_splits
            .flat_map(|directory| {
                let below = directory.strip_prefix(&self.root).unwrap_or(directory);
                let images = DirectoryListing::of(directory);
                let names = images.images().map(|name| below.join(name));
                names
                    .map(|path| path.display().to_string())
                    .collect::<Vec<_>>()
            })
            .collect();
        unused.extend(&strays);
        let names = OnceCell::new();
        let images = || names.get_or_init(|| self.image_names());
        let annotations = self.annotations_of_boxes(&images);
        unused.extend(annotations.values());
        let mut lists = self.lists(&images);
        // That of Tiny ImageNet is read.
        let is_read = |list: &String| {
            let mut splits = self.splits.iter().flatten().flatten();
            splits.any(|split| {
                ListedClasses::find(split)
                    .is_some_and(|listed| listed.is_list(&self.root.join(list)))
            })
        };
        lists.retain(|list| !annotations.contains_key(list) && !is_read(list));
        unused.extend(&lists);
        let contradicting = self.contradicting_tables();
        let is_known =
            |name: &str| lists.iter().any(|list| list == name) || annotations.contains_key(name);
        let contradicting: Vec<String> = contradicting
            .into_iter()
            .filter(|(name, _)| !is_known(name))
            .map(|(name, why)| format!("{name}, {why}"))
            .collect();
        unused.extend(&contradicting);
        let above = self.unused_above();
        let above: Vec<String> = above
            .iter()
            .map(|name| Path::new("..").join(name).display().to_string())
            .collect();
        unused.extend(&above);
        let parts = [&self.root]
            .into_iter()
            .chain(self.splits.iter().flatten().flatten());
        let dangling: BTreeSet<String> = parts.flat_map(|part| dangling_parts(part)).collect();
        unused.extend(&dangling);
        let names = first_few(unused.iter().map(|name| name.as_str()));
        let root = self.root.display();
        (!unused.is_empty()).then(|| format!("{root}: not used: {names}"))
    }

    /// Returns the lists of splits or labels beside the directories of the splits, or of the classes, by which the images
    /// would have to be divided: relative to the directory.
    fn lists<'n>(&self, images: &dyn Fn() -> &'n ImageNames) -> Vec<String> {
        // The directories of splits divide their images themselves.
        let divides = |path: &Path| self.splits.is_none() && divides_images(path, images);
        let mut parents = vec![self.root.as_path()];
        parents.extend(self.splits.iter().flatten().flatten().map(PathBuf::as_path));
        let mut found = BTreeSet::new();
        for parent in parents {
            let listing = DirectoryListing::of(parent);
            let files = listing.files.iter().map(|name| parent.join(name));
            let is_unread = |path: &PathBuf| {
                is_list(path) || divides(path) || self.splits.is_none() && divides_numbers(path)
            };
            found.extend(files.filter(is_unread));
            let inner = listing.directories.iter().map(|name| parent.join(name));
            let (classes, without_images): (Vec<PathBuf>, Vec<PathBuf>) =
                inner.partition(|path| holds_images(path));
            found.extend(without_images.iter().flat_map(|path| lists_within(path)));
            let files = |path: &PathBuf| {
                let names = DirectoryListing::of(path).files.into_iter();
                names.map(|name| path.join(name)).collect::<Vec<_>>()
            };
            let of_others = without_images.iter().flat_map(files);
            found.extend(of_others.filter(|path| divides(path)));
            // Each class may have lists of its own.
            let of_classes = classes.iter().take(FIRST_CLASSES).flat_map(files);
            found.extend(of_classes.filter(|path| divides_images(path, images)));
        }
        let below = found
            .iter()
            .map(|path| path.strip_prefix(&self.root).unwrap_or(path));
        below.map(|path| path.display().to_string()).collect()
    }

    /// Returns the tables [around](lists_above) a directory of classes. There are none if the directory has splits itself.
    pub(crate) fn unused_above(&self) -> Vec<String> {
        if self.splits.is_some() {
            return Vec::new();
        }
        lists_above(&self.root, &|name| {
            self.numbered(ImageNames::of_paths(self.image_paths(), name))
        })
    }

    /// Describes the tables that assign images another split or class than their directories do, with their names.
    fn contradicting_tables(&self) -> Vec<(String, String)> {
        let listing = DirectoryListing::of(&self.root);
        let inner = listing.directories.iter().map(|name| self.root.join(name));
        let without_images = inner.filter(|path| !holds_images(path));
        let parents = self.parents().into_iter().filter(|path| *path != self.root);
        let around: Vec<PathBuf> = without_images
            .chain(parents.map(Path::to_path_buf))
            .collect();
        let splits = self.splits.iter().flatten().zip(Split::ALL);
        let of_splits: Vec<(&Path, Option<Split>)> = match &self.splits {
            None => vec![(&self.root, None)],
            Some(_) => splits
                .filter_map(|(path, split)| Some((path.as_deref()?, Some(split))))
                .collect(),
        };
        let images = || {
            let of_split = |(parent, split): &(&Path, Option<Split>)| -> Vec<PlacedImage> {
                let below = parent.strip_prefix(&self.root).unwrap_or(parent);
                let classes = class_directories(parent)
                    .unwrap_or_default()
                    .into_par_iter();
                let images = classes.flat_map_iter(|class| {
                    let images = images_within(&parent.join(&class)).unwrap_or_default();
                    images.into_iter().map(move |image| PlacedImage {
                        path: below.join(&class).join(image.path()).display().to_string(),
                        split: *split,
                        class: class.clone(),
                    })
                });
                images.collect()
            };
            of_splits.iter().flat_map(of_split).collect()
        };
        contradicting_tables(&self.root, &around, &images)
    }

    /// Describes the files with boxes of the images, in formats that are known and not read or in none, beside the directories of the
    /// splits, or of the classes: a detector may be meant. The keys are their paths, relative to the directory.
    fn annotations_of_boxes<'n>(
        &self,
        images: &dyn Fn() -> &'n ImageNames,
    ) -> BTreeMap<String, String> {
        let mut places = vec![self.root.as_path()];
        places.extend(self.splits.iter().flatten().flatten().map(PathBuf::as_path));
        let mut found = BTreeMap::new();
        for place in places {
            for name in DirectoryListing::of(place).files {
                let path = place.join(name);
                let below = path.strip_prefix(&self.root).unwrap_or(&path).display();
                match unread_file(&path) {
                    Some(LayoutError::UnreadFormat { name, .. }) if names_any(&path, images()) => {
                        found.insert(below.to_string(), format!("{name} annotations ({below})"));
                    }
                    _ if holds_boxes(&path, images) => {
                        found.insert(below.to_string(), format!("boxes ({below})"));
                    }
                    _ => {}
                }
            }
        }
        let labels = self.parents().into_iter().find_map(|parent| {
            let classes = class_directories(parent).unwrap_or_default();
            let mut first = classes.iter().take(FIRST_CLASSES);
            first.find_map(|class| labels_of_class(&self.root, parent, class))
        });
        if let Some(labels) = labels {
            let below = labels.strip_prefix(&self.root).unwrap_or(&labels).display();
            found.insert(below.to_string(), format!("boxes ({below})"));
        }
        found
    }

    /// Returns the names of all images, and the numbers that a list gives them.
    fn image_names(&self) -> ImageNames {
        self.numbered(ImageNames::of(self.image_paths()))
    }

    /// Returns the paths of all images from the directories of the classes on, with `/` between the parts.
    fn image_paths(&self) -> Vec<String> {
        let images = self.parents().into_iter().flat_map(|parent| {
            let classes = class_directories(parent)
                .unwrap_or_default()
                .into_par_iter();
            let images = classes.flat_map_iter(|class| {
                images_within(&parent.join(&class))
                    .unwrap_or_default()
                    .into_iter()
                    .map(move |image| format!("{class}/{}", image.path()))
            });
            images.collect::<Vec<_>>()
        });
        images.collect()
    }

    /// Adds the numbers that a list gives the images.
    fn numbered(&self, mut found: ImageNames) -> ImageNames {
        for place in [self.root.clone(), self.root.join("..")] {
            found.add_numbered(&place);
        }
        found
    }

    /// Returns the directories with directories of classes.
    fn parents(&self) -> Vec<&Path> {
        match &self.splits {
            None => vec![&self.root],
            Some(splits) => splits.iter().flatten().map(PathBuf::as_path).collect(),
        }
    }

    /// Refuses classes that are divided into splits: they are folds, or each has its own images of train and val, which
    /// would be joined.
    fn refuse_splits_of_classes(&self) -> Result<(), DataError> {
        for parent in self.parents() {
            for class in class_directories(parent)?.iter().take(FIRST_CLASSES) {
                let directory = images_of_class(&parent.join(class));
                let names = DirectoryListing::of(&directory).directories;
                let splits = splits_of_names(&names);
                let of_split = |wanted| {
                    let named = names.iter().zip(&splits);
                    let mut named = named.filter(|(_, split)| **split == NamedSplit::Split(wanted));
                    named.find_map(|(name, _)| {
                        let path = directory.join(name);
                        holds_images(&path).then_some(path)
                    })
                };
                let found: Vec<PathBuf> = Split::ALL.into_iter().filter_map(of_split).collect();
                if found.len() < 2 {
                    continue;
                }
                let names = found.iter().filter_map(|path| path.file_name());
                let names = join(names.map(|name| name.display()));
                let (problem, remedy) = if found.iter().any(|path| holds_images_directly(path)) {
                    ("splits within a class", Remedy::SplitsAroundClasses)
                } else {
                    (
                        "no class, but a dataset with splits of its own",
                        Remedy::GiveDirectory,
                    )
                };
                let problem = format!("{problem}: {names}");
                return Err(DataError::labels(&directory, problem).with(remedy));
            }
        }
        Ok(())
    }

    /// Refuses folds of a cross-validation with the same classes in each, which would be the classes.
    fn refuse_folds(&self) -> Result<(), DataError> {
        let is_fold = |name: &String| {
            let name = name.to_lowercase();
            let words = ["fold", "kfold", "cv", "part"].iter();
            let mut rests = words.filter_map(|word| name.strip_prefix(word));
            rests.any(|rest| {
                let number = rest.trim_start_matches(['_', '-', ' ']);
                number.parse::<u32>().is_ok()
            })
        };
        for parent in self.parents() {
            let folds = class_directories(parent)?;
            let mut inner = folds
                .iter()
                .map(|fold| DirectoryListing::of(&parent.join(fold)).directories);
            let first = inner.next().unwrap_or_default();
            if folds.len() > 1
                && first.len() > 1
                && folds.iter().all(is_fold)
                && inner.all(|classes| classes == first)
            {
                let folds = first_few(folds.iter().map(String::as_str));
                let problem =
                    format!("no classes, but folds with the same classes in each: {folds}");
                return Err(DataError::labels(parent, problem).with(Remedy::GiveDirectory));
            }
        }
        Ok(())
    }

    /// Refuses a dataset whose images have files of annotations: it is meant for detection, in a
    /// format that was not recognized.
    fn refuse_annotations(&self) -> Result<(), DataError> {
        let mut parents = vec![self.root.as_path()];
        let splits = self.splits.iter().flatten().flatten();
        parents.extend(splits.map(PathBuf::as_path));
        // The description of a Supervisely project, whose datasets look like classes.
        if let Some(error) = unread_file(&self.root.join("meta.json")) {
            return Err(error.into());
        }
        let Some(file) = parents.into_iter().find_map(annotations_of_images) else {
            return Ok(());
        };
        if let Some(error) = unread_annotations(&file) {
            return Err(error.into());
        }
        let is_caption = has_extension(&file, "txt")
            && read_text(&file).is_ok_and(|text| {
                !text.trim().is_empty() && !text.contains(|c: char| c.is_ascii_digit())
            });
        let problem = if is_caption {
            "a text, such as a caption, beside an image in a class directory"
        } else {
            "annotations beside images in class directories"
        };
        Err(DataError::labels(&file, problem).with(Remedy::MoveAnnotations))
    }

    /// Returns the names of the classes with the directories `classes`, and where they are from if they are those of a list.
    fn display_names(&self, classes: Vec<String>) -> (Vec<String>, Option<String>) {
        if let Some(names) = names_of_synsets(&classes) {
            return (names, None);
        }
        let found = NumberedClasses::find(&self.root, &classes);
        let root = self.root.display();
        let note = found.note.map(|note| format!("{root}: {note}"));
        (found.names.unwrap_or(classes), note)
    }

    fn expect<'a>(&self, directory: Option<&'a Path>, split: Split) -> Result<&'a Path, DataError> {
        directory.ok_or_else(|| {
            let dangling = split.names().iter().find_map(|name| {
                let link = dangling_link(&self.root.join(name))?;
                Some(format!(" ({name} is {link})"))
            });
            let dangling = dangling.unwrap_or_default();
            let problem = format!("no {split} directory with a directory for each class{dangling}");
            DataError::labels(&self.root, problem).with(Remedy::AddSplit)
        })
    }

    /// Lists all images of a directory; the classes are train's if there is a train directory.
    fn open_whole(
        &self,
        directory: &Path,
        train: Option<&Path>,
    ) -> Result<LabeledDataset, DataError> {
        let classes = class_directories(train.unwrap_or(directory))?;
        let is_train = train == Some(directory);
        let not_classes = not_classes(directory, &classes)?;
        let images = ClassImages::read(&self.root, directory, &classes)?;
        let empty = images.empty_classes(&classes);
        if is_train && !empty.is_empty() {
            return Err(no_images_of(directory, &empty));
        }
        if images.len() == 0
            && let Some(error) = images_below(directory)
        {
            return Err(error);
        }
        let notes = (!empty.is_empty()).then(|| {
            format!(
                "{}: no images of {} of {} classes: {}",
                directory.display(),
                empty.len(),
                classes.len(),
                first_few(empty.iter().copied())
            )
        });
        let (names, of_names) = self.display_names(classes);
        let dataset = images.into_dataset(names, |_, _| true)?;
        let of_names = of_names.filter(|_| is_train);
        Ok(dataset
            .with_notes(notes)
            .with_notes(not_classes)
            .with_notes(of_names))
    }

    /// Returns the held-out part (val) of a directory's images, or the rest (train).
    fn open_part(
        &self,
        directory: &Path,
        split: Split,
        on_bad_image: OnBadImage,
    ) -> Result<LabeledDataset, DataError> {
        let classes = class_directories(directory)?;
        let not_classes = not_classes(directory, &classes)?;
        let mut images = ClassImages::read(&self.root, directory, &classes)?;
        let empty = images.empty_classes(&classes);
        if !empty.is_empty() {
            return Err(no_images_of(directory, &empty));
        }
        let mut skipped = None;
        let (held_out, copies) = match on_bad_image {
            OnBadImage::Error => images.hold_out(),
            OnBadImage::Skip => {
                let mut bad = BadImages::of(images.len());
                let held_out = images.hold_out_usable(&mut bad)?;
                skipped = bad.finish()?;
                held_out
            }
        };
        let count = held_out.iter().flatten().filter(|held| **held).count();
        let all = images.len();
        let wanted = split != Split::Train;
        let (names, of_names) = self.display_names(classes);
        let dataset =
            images.into_dataset(names, |class, index| held_out[class][index] == wanted)?;
        let dataset = dataset.with_notes(of_names.filter(|_| !wanted));
        let copies = match copies {
            0 => String::new(),
            copies => format!(
                ", {} with the content of another on the side of that",
                text::count(copies, "image")
            ),
        };
        let note = format!("no val directory: {count} of {all} images held out{copies}");
        let dataset = dataset.with_notes(wanted.then_some(note));
        let dataset = dataset.with_notes(skipped.filter(|_| wanted));
        Ok(dataset.with_notes(if wanted { Vec::new() } else { not_classes }))
    }
}

/// Returns the names of the directories of classes that a directory contains beside annotations, and the number of their
/// images; None if there are fewer than two such directories.
pub(crate) fn images_of_classes(root: &Path) -> Option<(Vec<String>, usize)> {
    let classes = class_directories(root).ok()?;
    let has_images = |class: &&String| holds_images(&root.join(class));
    let classes: Vec<String> = classes.iter().filter(has_images).cloned().collect();
    // `JPEGImages` beside `SegmentationClass` is no class.
    let mut parts = classes
        .iter()
        .map(|class| are_parts(std::slice::from_ref(class)));
    if classes.len() < 2 || parts.any(|is_part| is_part) {
        return None;
    }
    let of_class = classes.iter().map(|class| images_within(&root.join(class)));
    let images = of_class.map(|images| images.map_or(0, |images| images.len()));
    let images = images.sum();
    Some((classes, images))
}

/// Returns a file that looks like the annotations of an image: named after it, in a directory of images
/// in which at least half of them have one, or in a directory of annotations.
fn annotations_of_images(parent: &Path) -> Option<PathBuf> {
    /// Fewer files may be lists and descriptions.
    const FEW: usize = 5;
    const ANNOTATIONS: [&str; 6] = [
        "labels",
        "labelTxt",
        "gt",
        "annotations",
        "annotation",
        "ann",
    ];
    let listing = DirectoryListing::of(parent);
    let mut stems = HashSet::new();
    let (mut images, mut files) = (0, Vec::new());
    let of_class = listing.directories.iter().take(FIRST_CLASSES);
    for path in of_class.map(|class| parent.join(class)) {
        let class = DirectoryListing::of(&path);
        // Sequences of MOT: `img1/` and `gt/gt.txt` in each.
        let own = ANNOTATIONS.iter().find_map(|name| class.directory(&[name]));
        if let Some(own) = own
            && let Some(name) = DirectoryListing::of(&own)
                .files
                .iter()
                .find(|n| is_annotation_name(n))
        {
            return Some(own.join(name));
        }
        let of_images: HashSet<String> = class.images().map(|name| stem(name)).collect();
        images += of_images.len();
        let annotations = class.files.iter().filter(|name| is_annotation_name(name));
        let annotations = annotations.filter(|name| of_images.contains(&stem(name)));
        let annotations = annotations.map(|name| path.join(name));
        files.extend(annotations.filter(|file| may_have_objects(file)));
        stems.extend(of_images);
    }
    if !files.is_empty() && 2 * files.len() >= images {
        return files.into_iter().next();
    }
    let named = ANNOTATIONS
        .iter()
        .filter_map(|name| listing.directory(&[name]));
    let mut directories = named.chain([parent.to_owned()]);
    directories.find_map(|path| {
        let listing = DirectoryListing::of(&path);
        let files = listing.files.iter();
        let is_of_image = |name: &&String| {
            is_annotation_name(name)
                && stems.contains(&stem(name))
                && may_have_objects(&path.join(name))
        };
        let mut files = files.filter(is_of_image);
        let first = files.next()?;
        (files.count() >= FEW).then(|| path.join(first))
    })
}

/// Returns whether a file may have the objects in an image: JSON only with a key that programs give to objects or their
/// outlines. Downloaders write a license and a source in JSON beside each image.
fn may_have_objects(path: &Path) -> bool {
    const BEGINNING: u64 = 1 << 16;
    const KEYS: [&str; 20] = [
        "annotation",
        "annotations",
        "bbox",
        "bboxes",
        "bounding_box",
        "bounding_boxes",
        "box",
        "boxes",
        "coordinates",
        "instances",
        "keypoints",
        "objects",
        "points",
        "polygon",
        "polygons",
        "regions",
        "segmentation",
        "shapes",
        "x1",
        "xmin",
    ];
    if !has_extension(path, "json") {
        return true;
    }
    let text = beginning(path, BEGINNING)
        .unwrap_or_default()
        .to_lowercase();
    let mut keys = text.split('"').skip(1).step_by(2);
    keys.any(|key| KEYS.contains(&key))
}

fn is_annotation_name(name: &str) -> bool {
    has_annotation_extension(Path::new(name))
}

fn stem(name: &str) -> String {
    without_extension(name).to_owned()
}

/// Returns the directory of the classes of a split: `train/images` if they are there, and not in `train`.
fn classes_below_images(directory: PathBuf) -> PathBuf {
    let listing = DirectoryListing::of(&directory);
    match listing.directory(&["images"]) {
        Some(images)
            if first_classes(&directory).is_empty()
                && listing.images().next().is_none()
                && first_classes(&images).len() == 2 =>
        {
            images
        }
        _ => directory,
    }
}

/// Returns the directory of the classes of a split: an archive's `seg_train/seg_train` denotes
/// the outer directory.
fn classes_within(directory: PathBuf, name: &str) -> PathBuf {
    match DirectoryListing::of(&directory).directories.as_slice() {
        [only] if only == name => directory.join(only),
        _ => directory,
    }
}

/// Returns the first two directories of classes with images.
fn first_classes(parent: &Path) -> Vec<String> {
    let classes = class_directories(parent).unwrap_or_default().into_iter();
    let with_images = classes.filter(|class| holds_images(&parent.join(class)));
    with_images.take(2).collect()
}

/// Returns whether a split has images that are in no directories of classes.
fn is_flat_split(directory: &Path) -> bool {
    holds_images_directly(directory) && first_classes(directory).len() < 2
}

/// Returns the error about a directory of a split whose images are in other places than directories of classes; None if
/// there are none.
fn images_below(directory: &Path) -> Option<DataError> {
    let found = images_within(directory).ok()?;
    let places: BTreeSet<&str> = found.iter().map(|image| image.within.as_str()).collect();
    let places = first_few(places.into_iter().filter(|within| !within.is_empty()));
    let problem = format!("no directories of classes with images; there are images in {places}");
    let error = DataError::labels(directory, problem).with(Remedy::MoveClassesUp);
    (!places.is_empty()).then_some(error)
}

/// Returns whether a directory inside a class has masks, which are never images of it.
pub(super) fn is_masks(name: &str) -> bool {
    ["mask", "masks"].contains(&name.to_lowercase().as_str())
}

/// Returns whether a directory has annotations of boxes, in a known layout or, to be safe, anything that may be
/// some.
pub(crate) fn holds_annotations(root: &Path) -> bool {
    !matches!(recognize(root), Ok(None)) || FORMATS.iter().any(|format| format.may_be_in(root))
}

/// Returns the names of the directories that may be classes, sorted.
pub(super) fn class_directories(directory: &Path) -> Result<Vec<String>, DataError> {
    let mut names = list(directory)?.directories;
    if are_parts(&names) {
        names.clear();
    }
    names.retain(|name| !is_reserved_name(name));
    let has_images: Vec<bool> = names
        .par_iter()
        .map(|name| holds_images(&directory.join(name)))
        .collect();
    if has_images.contains(&true) {
        let mut has_images = has_images.into_iter();
        names.retain(|name| {
            has_images.next() == Some(true) || !holds_other_files(&directory.join(name))
        });
    }
    Ok(names)
}

/// Returns whether there are files below a directory without images, and none that may be the images of a class: archives,
/// and images in formats that are not decoded.
fn holds_other_files(directory: &Path) -> bool {
    let files = files_below(directory);
    let may_be_images = |path: &PathBuf| has_unsupported_image_extension(path) || is_archive(path);
    !files.is_empty() && !files.iter().any(may_be_images)
}

/// Returns a note about directories without images, which are no classes, unless they have documents or lists, which are
/// named on their own.
fn without_images(directory: &Path, classes: &[String]) -> Result<Option<String>, DataError> {
    const DOCUMENTS: [&str; 6] = ["md", "rst", "pdf", "html", "py", "ipynb"];
    const OF_DOCUMENTS: [&str; 8] = [
        "doc",
        "docs",
        "documents",
        "notes",
        "meta",
        "metadata",
        "scripts",
        "logs",
    ];
    let is_document = |name: &String| {
        let path = Path::new(name);
        let mut documents = DOCUMENTS.iter();
        path.extension().is_none() || documents.any(|document| has_extension(path, document))
    };
    let mut names = list(directory)?.directories;
    names.retain(|name| {
        let path = directory.join(name);
        let is_other = !classes.contains(name)
            && !is_reserved_name(name)
            && !OF_DOCUMENTS.contains(&name.to_lowercase().as_str());
        is_other
            && !holds_images(&path)
            && holds_other_files(&path)
            && lists_within(&path).is_empty()
            && !DirectoryListing::of(&path).files.iter().all(is_document)
    });
    let names = first_few(names.iter().map(String::as_str));
    let directory = directory.display();
    Ok((!classes.is_empty() && !names.is_empty())
        .then(|| format!("{directory}: not a class, without images: {names}")))
}

/// Returns a note about classes whose names say that their images have no class.
fn doubtful_classes(directory: &Path, classes: &[String]) -> Option<String> {
    const NAMES: [&str; 9] = [
        "pred",
        "preds",
        "predict",
        "prediction",
        "predictions",
        "unlabeled",
        "unlabelled",
        "unsorted",
        "inference",
    ];
    let is_doubtful = |class: &&String| {
        let lower = class.to_lowercase();
        let mut words = lower.split(|character: char| !character.is_alphanumeric());
        words.any(|word| NAMES.contains(&word))
    };
    let names = first_few(classes.iter().filter(is_doubtful).map(String::as_str));
    let directory = directory.display();
    (!names.is_empty()).then(|| {
        format!(
            "{directory}: used as a class, though its name says that its images have none: {names}"
        )
    })
}

/// Returns notes about directories that are no classes because of their names or contents, and about classes that may be
/// none.
///
/// # Errors
/// One of them has the name of a split: it may be meant as a class.
fn not_classes(directory: &Path, classes: &[String]) -> Result<Vec<String>, DataError> {
    let mut names = list(directory)?.directories;
    names.retain(|name| {
        let path = directory.join(name);
        match Split::of_name(name) {
            Some(_) => holds_images_directly(&path),
            // Masks may be in a directory for each class, too.
            None => is_reserved_name(name) && holds_images(&path),
        }
    });
    if let Some(split) = names.iter().find(|name| Split::of_name(name).is_some()) {
        let problem = "the name of a split is not a class";
        let error = DataError::labels(&directory.join(split), problem);
        return Err(error.with(Remedy::RenameClass));
    }
    let names = first_few(names.iter().map(String::as_str));
    let by_name =
        (!names.is_empty()).then(|| format!("{}: not a class: {names}", directory.display()));
    let notes = [
        by_name,
        without_images(directory, classes)?,
        doubtful_classes(directory, classes),
    ];
    Ok(notes.into_iter().flatten().collect())
}

/// The images of every class in a directory.
pub(crate) struct ClassImages {
    directory: PathBuf,
    classes: Vec<String>,
    of_class: Vec<Vec<Found>>,
    /// Images in formats that are not decoded.
    unsupported: Vec<PathBuf>,
    /// What was left out, and what was joined.
    notes: Vec<String>,
}

impl ClassImages {
    /// Reads the directories of these classes; some may be missing.
    ///
    /// # Errors
    /// A directory is not one of the classes (the error lists all differences between the splits of
    /// `root`), or is unreadable.
    pub(crate) fn read(
        root: &Path,
        directory: &Path,
        classes: &[String],
    ) -> Result<Self, DataError> {
        let present = class_directories(directory)?;
        let known: BTreeSet<&String> = classes.iter().collect();
        let unknown: Vec<&str> = present
            .iter()
            .filter(|name| !known.contains(name))
            .map(String::as_str)
            .collect();
        if !unknown.is_empty() {
            let here: BTreeSet<&String> = present.iter().collect();
            let missing = known.difference(&here).map(|name| name.as_str());
            let other = directory.strip_prefix(root).unwrap_or(directory).display();
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
        let mut of_class = classes
            .par_iter()
            .map(|class| {
                if here.contains(class) {
                    images_within(&directory.join(class))
                } else {
                    Ok(Vec::new())
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut masks = BTreeSet::new();
        for (class, images) in classes.iter().zip(&mut of_class) {
            let of_masks = |image: &Found| image.within.split('/').any(is_masks);
            // A class may be one of masks that people wear.
            if images.iter().all(of_masks) {
                continue;
            }
            let left_out = images.iter().filter(|image| of_masks(image));
            masks.extend(left_out.map(|image| format!("{class}/{}", image.within)));
            images.retain(|image| !of_masks(image));
        }
        let masks = first_few(masks.iter().map(String::as_str));
        let masks =
            (!masks.is_empty()).then(|| format!("{}: not used: {masks}", directory.display()));
        let beside = masks_beside_images(directory, classes, &mut of_class);
        let joined = joined_directories(directory, &present);
        let mixed = images_around_directories(directory, classes, &of_class);
        let unsupported = here
            .par_iter()
            .map(|class| unsupported_within(&directory.join(class)))
            .flatten()
            .collect();
        Ok(Self {
            directory: directory.to_owned(),
            classes: classes.to_vec(),
            of_class,
            unsupported,
            notes: [masks, beside, joined, mixed]
                .into_iter()
                .flatten()
                .collect(),
        })
    }

    /// Returns the number of images.
    pub(crate) fn len(&self) -> usize {
        self.of_class.iter().map(Vec::len).sum()
    }

    /// Selects the images to hold out, by class and position, with the number of those with the content of another.
    fn hold_out(&self) -> (Vec<Vec<bool>>, usize) {
        let mut held_out = held_out(&self.classes, &self.of_class);
        let copies = self.keep_copies_together(&mut held_out);
        (held_out, copies)
    }

    /// Selects images to hold out as [`Self::hold_out`] does, and removes those of them that cannot be decoded until
    /// all can. Every class keeps an image.
    fn hold_out_usable(
        &mut self,
        bad: &mut BadImages,
    ) -> Result<(Vec<Vec<bool>>, usize), DataError> {
        let mut usable: HashSet<PathBuf> = HashSet::new();
        loop {
            let (held_out, copies) = self.hold_out();
            let path_of =
                |class: usize, image: &Found| Path::new(&self.classes[class]).join(image.path());
            let of_class = self.of_class.iter().zip(&held_out).enumerate();
            let held = of_class.flat_map(|(class, (images, held))| {
                let images = images.iter().zip(held).filter(|(_, held)| **held);
                images.map(move |(image, _)| path_of(class, image))
            });
            let unknown: Vec<PathBuf> = held.filter(|path| !usable.contains(path)).collect();
            let decoded: Vec<Result<(), DataError>> = unknown
                .par_iter()
                .map(|path| Ok(decode_image(&self.directory.join(path)).map(|_| ())?))
                .collect();
            let mut lost: HashSet<PathBuf> = HashSet::new();
            for (path, decoded) in unknown.into_iter().zip(decoded) {
                match decoded {
                    Ok(()) => _ = usable.insert(path),
                    Err(error) => {
                        bad.add(&path.display().to_string(), error);
                        lost.insert(path);
                    }
                }
            }
            if lost.is_empty() {
                return Ok((held_out, copies));
            }
            for (class, images) in self.classes.iter().zip(&mut self.of_class) {
                images.retain(|image| !lost.contains(&Path::new(class).join(image.path())));
            }
        }
    }

    /// Moves images with the same content to one side, and returns the number of those with the content of another.
    /// They are held out if the one with the smallest number is, unless a class would have no other image.
    fn keep_copies_together(&self, held_out: &mut [Vec<bool>]) -> usize {
        if self.len() > MOST_IMAGES {
            return 0;
        }
        let of_class = self.classes.iter().zip(&self.of_class).enumerate();
        let images = of_class.flat_map(|(class, (name, images))| {
            let images = images.iter().enumerate();
            images.map(move |(index, image)| (class, index, path_hash(name, image)))
        });
        let images: Vec<(usize, usize, u64)> = images.collect();
        let paths: Vec<PathBuf> = images
            .iter()
            .map(|(class, index, _)| {
                let directory = self.directory.join(&self.classes[*class]);
                directory.join(self.of_class[*class][*index].path())
            })
            .collect();
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, first) in first_with_content(&paths).into_iter().enumerate() {
            groups.entry(first).or_default().push(at);
        }
        groups.retain(|_, group| group.len() > 1);
        for group in groups.values() {
            let decides = group.iter().min_by_key(|at| images[**at].2);
            let is_held = decides.is_some_and(|at| held_out[images[*at].0][images[*at].1]);
            for at in group {
                held_out[images[*at].0][images[*at].1] = is_held;
            }
            let is_empty = |at: &usize| held_out[images[*at].0].iter().all(|held| *held);
            if is_held && group.iter().any(is_empty) {
                for at in group {
                    held_out[images[*at].0][images[*at].1] = false;
                }
            }
        }
        groups.values().map(|group| group.len() - 1).sum()
    }

    /// Returns the names of the classes without images.
    pub(crate) fn empty_classes<'a>(&self, names: &'a [String]) -> Vec<&'a str> {
        names
            .iter()
            .zip(&self.of_class)
            .filter(|(_, images)| images.is_empty())
            .map(|(name, _)| name.as_str())
            .collect()
    }

    /// Builds a dataset of the images selected by class and position in the class; `names` are those of the classes.
    ///
    /// # Errors
    /// No image is selected.
    pub(crate) fn into_dataset(
        self,
        names: Vec<String>,
        is_wanted: impl Fn(usize, usize) -> bool,
    ) -> Result<LabeledDataset, DataError> {
        let (mut labels, mut files) = (Vec::new(), ImageFiles::default());
        for (class, images) in self.of_class.iter().enumerate() {
            let directory = self.directory.join(&self.classes[class]);
            for (index, image) in images.iter().enumerate() {
                if is_wanted(class, index) {
                    match image.within.as_str() {
                        "" => files.push(&directory, &image.name),
                        within => files.push(&directory.join(within), &image.name),
                    }
                    labels.push(class as u32);
                }
            }
        }
        let skipped = unsupported_images(self.unsupported.iter().map(PathBuf::as_path));
        let origin = self.directory.display().to_string();
        let note = skipped.map(|skipped| format!("{origin}: skipped {skipped}"));
        let dataset = LabeledDataset::new(&origin, names, labels, files)?;
        Ok(dataset.with_notes(note).with_notes(self.notes))
    }
}

/// Returns the error about classes without images, with what is in their directories instead: archives, or images in
/// formats that are not decoded.
fn no_images_of(directory: &Path, empty: &[&str]) -> DataError {
    let mut problem = format!("no images in {}", first_few(empty.iter().copied()));
    let inside = empty
        .iter()
        .map(|class| files_below(&directory.join(class)));
    let inside: Vec<PathBuf> = inside.flatten().collect();
    let archives = inside.iter().filter(|path| is_archive(path));
    let archives: Vec<String> = archives
        .map(|path| path.strip_prefix(directory).unwrap_or(path))
        .map(|path| path.display().to_string())
        .collect();
    let undecoded = unsupported_images(inside.iter().map(PathBuf::as_path));
    let remedy = if !archives.is_empty() {
        let archives = first_few(archives.iter().map(String::as_str));
        problem += &format!(", but {archives}");
        Remedy::UnpackClasses
    } else if let Some(images) = undecoded {
        problem += &format!(" that can be decoded, but {images}");
        Remedy::SaveAsJpeg
    } else {
        Remedy::AddImages
    };
    DataError::labels(directory, problem).with(remedy)
}

fn is_archive(path: &Path) -> bool {
    const ARCHIVES: [&str; 8] = ["zip", "tar", "gz", "tgz", "bz2", "xz", "7z", "rar"];
    let mut archives = ARCHIVES.iter();
    archives.any(|extension| has_extension(path, extension))
}

/// Returns the files in and below a directory.
fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![(directory.to_owned(), 0)];
    while let Some((path, depth)) = open.pop() {
        let listing = DirectoryListing::of(&path);
        found.extend(listing.files.iter().map(|name| path.join(name)));
        if depth < MAX_DEPTH {
            let inner = listing.directories.iter();
            open.extend(inner.map(|name| (path.join(name), depth + 1)));
        }
    }
    found
}

/// Returns ImageNet's names if every class is one of its synsets.
fn names_of_synsets(classes: &[String]) -> Option<Vec<String>> {
    let labels = classes.iter().map(|class| imagenet_label(class));
    labels
        .map(|label| Some(imagenet_classes()[label?].name.to_owned()))
        .collect()
}

/// Selects the images to hold out, by class and position; see the module documentation.
fn held_out(classes: &[String], of_class: &[Vec<Found>]) -> Vec<Vec<bool>> {
    let hashes: Vec<Vec<u64>> = classes
        .par_iter()
        .zip(of_class)
        .map(|(class, images)| {
            let hash = |image: &Found| path_hash(class, image);
            images.iter().map(hash).collect()
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
    // The score of a class without an image would be missing.
    for (held, hashes) in held_out.iter_mut().zip(&hashes) {
        let first = hashes.iter().enumerate().min_by_key(|(_, hash)| *hash);
        if let Some((first, _)) = first
            && held.len() > 1
            && !held.contains(&true)
        {
            held[first] = true;
        }
    }
    held_out
}

fn path_hash(class: &str, image: &Found) -> u64 {
    let Found { within, name } = image;
    let path = match within.as_str() {
        "" => format!("{class}/{name}"),
        _ => format!("{class}/{within}/{name}"),
    };
    held_out_number(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        dir
    }

    fn open_train(root: &Path) -> Result<LabeledDataset, String> {
        let found = ImageFolder::find(root).ok_or("no classes")?;
        found.open(Split::Train).map_err(|error| error.to_string())
    }

    #[test]
    fn splits_within_the_classes_are_refused_and_not_joined() {
        for (files, directory, problem) in [
            (
                &[
                    "rose/train/1.jpg",
                    "rose/val/2.jpg",
                    "tulip/train/3.jpg",
                    "tulip/val/4.jpg",
                ][..],
                "rose",
                "splits within a class: train, val",
            ),
            (
                &[
                    "fold1/train/cat/1.jpg",
                    "fold1/val/dog/2.jpg",
                    "fold2/train/cat/3.jpg",
                    "fold2/test/dog/4.jpg",
                ],
                "fold1",
                "no class, but a dataset with splits of its own: train, val",
            ),
        ] {
            let dir = tree(files);
            let message = open_train(dir.path()).unwrap_err();
            let expected = format!("{}: {problem}", dir.path().join(directory).display());
            assert_eq!(message, expected);
        }
        // Vehicles, and images of one kind.
        let dir = tree(&[
            "a/train/1.jpg",
            "a/car/2.jpg",
            "b/test/3.jpg",
            "b/test_tube/4.jpg",
        ]);
        assert_eq!(open_train(dir.path()).unwrap().class_names(), ["a", "b"]);
    }

    #[test]
    fn what_macos_adds_to_archives_is_no_class() {
        for around in ["", "train/"] {
            let files = [
                "cat/1.jpg",
                "dog/2.jpg",
                "__MACOSX/cat/._1.jpg",
                "__MACOSX/3.jpg",
            ];
            let files = files.map(|file| format!("{around}{file}"));
            let dir = tree(&files.each_ref().map(String::as_str));
            let train = open_train(dir.path()).unwrap();
            assert_eq!(train.class_names(), ["cat", "dog"]);
            assert_eq!(train.notes(), [""; 0]);
        }
    }

    #[test]
    fn images_further_below_the_directory_of_a_split_are_named() {
        const TRAIN: [&str; 2] = ["train/rose/1.jpg", "train/tulip/2.jpg"];
        const VAL: [&str; 2] = ["val/rose/1.jpg", "val/tulip/2.jpg"];
        for (files, split, places) in [
            (
                [
                    &VAL[..],
                    &["train/train/rose/3.jpg", "train/train/tulip/4.jpg"],
                ]
                .concat(),
                "train",
                "train/rose, train/tulip",
            ),
            (
                [
                    &TRAIN[..],
                    &["test/test/rose/3.jpg", "test/test/tulip/4.jpg"],
                ]
                .concat(),
                "test",
                "test/rose, test/tulip",
            ),
            (
                [&TRAIN[..], &["val/images/3.jpg"]].concat(),
                "val",
                "images",
            ),
        ] {
            let dir = tree(&files);
            let found = ImageFolder::find(dir.path()).unwrap();
            let opened = found.open(split.parse().unwrap());
            assert_eq!(
                opened.unwrap_err().to_string(),
                format!(
                    "{}: no directories of classes with images; there are images in {places}",
                    dir.path().join(split).display()
                )
            );
        }
    }

    #[test]
    fn classes_in_a_directory_of_images_of_each_split_are_found() {
        let opened = |files: &[&str]| {
            let dir = tree(files);
            let found = ImageFolder::find(dir.path())?;
            let train = found.open(Split::Train).ok()?;
            Some((
                train.class_names().to_vec(),
                found.open(Split::Val).ok()?.len(),
            ))
        };
        let classes = ["rose", "tulip"].map(str::to_owned).to_vec();
        let below = [
            "train/images/rose/1.jpg",
            "train/images/tulip/2.jpg",
            "val/images/rose/3.jpg",
            "val/images/tulip/4.jpg",
        ];
        assert_eq!(opened(&below), Some((classes.clone(), 2)));
        // In one split only, and beside a class with the name.
        let one = [
            "train/rose/1.jpg",
            "train/tulip/2.jpg",
            "val/images/rose/3.jpg",
            "val/images/tulip/4.jpg",
        ];
        assert_eq!(opened(&one), Some((classes, 2)));
        assert_eq!(opened(&["train/images/1.jpg", "val/images/3.jpg"]), None);
    }

    #[test]
    fn abbreviations_of_splits_around_classes_are_splits_and_none_of_languages() {
        let splits = |files: &[&str]| {
            let dir = tree(files);
            let found = ImageFolder::find(dir.path()).unwrap();
            found.open(Split::Train).unwrap().class_names().join(" ")
        };
        let files = [
            "tr/cat/1.jpg",
            "tr/dog/2.jpg",
            "te/cat/3.jpg",
            "te/dog/4.jpg",
        ];
        assert_eq!(splits(&files), "cat dog");
        assert_eq!(splits(&["tr/1.jpg", "te/2.jpg"]), "te tr");
    }

    #[test]
    fn directories_of_a_split_in_two_capitals_and_folds_of_classes_are_refused() {
        for (files, expected) in [
            (
                &[
                    "Train/cat/1.jpg",
                    "Train/dog/2.jpg",
                    "train/cat/3.jpg",
                    "train/dog/4.jpg",
                ][..],
                "Train and train differ in capitals only, and both are directories of train",
            ),
            (
                &[
                    "fold1/cat/1.jpg",
                    "fold1/dog/2.jpg",
                    "fold2/cat/3.jpg",
                    "fold2/dog/4.jpg",
                ],
                "no classes, but folds with the same classes in each: fold1, fold2",
            ),
        ] {
            let dir = tree(files);
            let message = open_train(dir.path()).unwrap_err();
            assert_eq!(message, format!("{}: {expected}", dir.path().display()));
        }
        for files in [
            // Without images, it is not used.
            &["Train/cat/1.jpg", "Train/dog/2.jpg", "train/readme.md"][..],
            // Folds of cloth, and parts of a class.
            &["fold1/1.jpg", "fold2/2.jpg"],
            &["fold1/a/1.jpg", "fold2/b/2.jpg"],
            &["cat/a/1.jpg", "cat/b/2.jpg", "dog/a/3.jpg", "dog/b/4.jpg"],
        ] {
            assert!(open_train(tree(files).path()).is_ok(), "{files:?}");
        }
    }

    #[test]
    fn a_link_of_train_that_leads_nowhere_is_named_where_train_is_missing() {
        #[cfg(unix)]
        {
            let dir = tree(&["val/cat/1.jpg", "val/dog/2.jpg"]);
            std::os::unix::fs::symlink("/nowhere", dir.path().join("train")).unwrap();
            let message = open_train(dir.path()).unwrap_err();
            assert!(
                message.ends_with("(train is a symbolic link to /nowhere, which does not exist)"),
                "{message}"
            );
        }
    }

    #[test]
    fn masks_inside_classes_are_left_out_and_directories_that_may_be_classes_named() {
        for (files, note, count) in [
            (
                &[
                    "COVID/images/1.jpg",
                    "COVID/masks/1.jpg",
                    "Normal/images/2.jpg",
                    "Normal/masks/2.jpg",
                ][..],
                "not used: COVID/masks, Normal/masks",
                2,
            ),
            (
                &["yes/1.jpg", "no/2.jpg", "brain/yes/3.jpg", "brain/no/4.jpg"],
                "images of brain/no, brain/yes joined as class brain",
                4,
            ),
            (
                &[
                    "color/apple/1.jpg",
                    "color/corn/2.jpg",
                    "grayscale/apple/3.jpg",
                    "grayscale/corn/4.jpg",
                ],
                "images of color/apple, color/corn joined as class color; \
                    grayscale/apple, grayscale/corn joined as class grayscale; \
                 if apple, corn are the classes, each of the others is a dataset of its own",
                4,
            ),
            (
                &[
                    "a/images/1.jpg",
                    "a/x/2.jpg",
                    "b/images/3.jpg",
                    "b/x/4.jpg",
                    "mask/masks/5.jpg",
                ],
                "",
                5,
            ),
        ] {
            let dir = tree(files);
            let directory = ImageFolder::find(dir.path()).unwrap();
            let classes = class_directories(dir.path()).unwrap();
            let images = ClassImages::read(&directory.root, dir.path(), &classes).unwrap();
            assert_eq!(images.len(), count);
            let note = (!note.is_empty()).then(|| format!("{}: {note}", dir.path().display()));
            assert_eq!(images.notes, Vec::from_iter(note));
        }
    }

    #[test]
    fn directories_below_one_of_images_in_a_class_are_named_as_joined() {
        for (files, note) in [
            (
                &[
                    "a/images/mug/1.jpg",
                    "a/images/mug/2.jpg",
                    "b/jpg/mug/3.jpg",
                ][..],
                "images of a/images/mug joined as class a; b/jpg/mug joined as class b",
            ),
            (
                &["cat/images/x/1.jpg", "cat/images/2.jpg", "dog/images/3.jpg"],
                "images of cat/images, cat/images/x joined as class cat",
            ),
            (
                &[
                    "cat/images/x/1.jpg",
                    "cat/images/masks/1.jpg",
                    "dog/images/3.jpg",
                ],
                "not used: cat/images/masks; images of cat/images/x joined as class cat",
            ),
            // As without the directory of images.
            (
                &["cat/images/1.jpg", "dog/images/2.jpg", "dog/images/3.jpg"],
                "",
            ),
            (&["cat/x/1.jpg", "dog/y/2.jpg", "dog/z/3.jpg"], ""),
            // Superclasses, and videos of one class.
            (
                &["mammal/cat/1.jpg", "mammal/dog/2.jpg", "bird/3.jpg"],
                "images of mammal/cat, mammal/dog joined as class mammal",
            ),
            (
                &["walk/video1/1.jpg", "walk/video2/2.jpg", "run/video3/3.jpg"],
                "",
            ),
        ] {
            let dir = tree(files);
            let classes = class_directories(dir.path()).unwrap();
            let images = ClassImages::read(dir.path(), dir.path(), &classes).unwrap();
            let root = format!("{}: ", dir.path().display());
            let notes = images.notes.iter().map(|note| note.replace(&root, ""));
            assert_eq!(notes.collect::<Vec<_>>().join("; "), note, "{files:?}");
        }
        let dir = tree(&[
            "cat/images/train/1.jpg",
            "cat/images/val/2.jpg",
            "dog/images/3.jpg",
        ]);
        let message = open_train(dir.path()).unwrap_err();
        assert!(
            message.ends_with("splits within a class: train, val"),
            "{message}"
        );
    }

    #[test]
    fn captions_beside_the_images_of_classes_are_refused_as_such() {
        let dir = tree(&["cat/1.jpg", "dog/2.jpg"]);
        for (text, expected) in [
            (
                "a cat",
                "a text, such as a caption, beside an image in a class directory",
            ),
            (
                "cat 1 2 3 4",
                "annotations beside images in class directories",
            ),
        ] {
            let file = dir.path().join("cat/1.txt");
            std::fs::write(&file, text).unwrap();
            let message = open_train(dir.path()).unwrap_err();
            assert_eq!(message, format!("{}: {expected}", file.display()));
        }
    }

    #[test]
    fn json_beside_the_images_of_classes_is_an_annotation_only_with_keys_of_objects() {
        let dir = tree(&["cat/1.jpg", "dog/2.jpg"]);
        let file = dir.path().join("cat/1.json");
        for (text, is_refused) in [
            (
                r#"{"license": "CC BY", "source": "https://a.example", "object_count": 7}"#,
                false,
            ),
            (r#"{"boxes": [[1, 2, 3, 4]]}"#, true),
            (
                r#"{"objects": [{"name": "cat", "Polygon": [1, 2, 3, 4, 5, 6]}]}"#,
                true,
            ),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(open_train(dir.path()).is_err(), is_refused, "{text}");
        }
    }

    #[test]
    fn boxes_in_files_within_or_beside_the_directories_of_classes_are_named() {
        const IMAGES: [&str; 3] = ["train/cat/1.jpg", "train/dog/2.jpg", "val/cat/3.jpg"];
        let named = |file: &str, text: &str| {
            let dir = tree(&IMAGES);
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
            let note = ImageFolder::new(dir.path()).unused().unwrap_or_default();
            note.replace(&format!("{}: ", dir.path().display()), "")
        };
        let boxes = "cat 10.0 12.0 60.0 60.0\n";
        for (file, place) in [
            ("train/cat/Label/1.txt", "train/cat/Label"),
            ("train/dog/bbox/2.txt", "train/dog/bbox"),
            ("labels/cat/1.txt", "labels/cat"),
        ] {
            assert_eq!(named(file, boxes), format!("not used: boxes ({place})"));
        }
        // Captions, and boxes of other images.
        assert_eq!(named("train/cat/captions/1.txt", "a cat"), "");
        assert_eq!(named("train/cat/Label/9.txt", boxes), "");
    }

    #[test]
    fn captions_of_coco_beside_classes_are_no_detection_dataset() {
        const CAPTIONS: &str = r#"{"images":[{"id":1,"file_name":"rose/1.jpg"}],
            "annotations":[{"id":1,"image_id":1,"caption":"a train"}]}"#;
        for file in ["captions.json", "annotations/captions.json"] {
            let dir = tree(&["rose/1.jpg", "rose/2.jpg", "tulip/3.jpg", "tulip/4.jpg"]);
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, CAPTIONS).unwrap();
            assert!(!holds_annotations(dir.path()), "{file}");
            let train = open_train(dir.path()).unwrap();
            assert_eq!(train.class_names(), ["rose", "tulip"]);
            assert!(
                train.notes().iter().all(|note| !note.contains("not used")),
                "{:?}",
                train.notes()
            );
        }
    }

    #[test]
    fn lists_of_a_dataset_beside_this_one_are_not_named() {
        const ROSES: [&str; 4] = ["rose/1.jpg", "rose/2.jpg", "tulip/3.jpg", "tulip/4.jpg"];
        const PETS: [&str; 4] = ["cat/1.jpg", "cat/2.jpg", "dog/3.jpg", "dog/4.jpg"];
        const TABLE: &str = "file,split\nrose/1.jpg,train\nrose/2.jpg,train\ntulip/3.jpg,val\n";
        for (table, pets, flowers) in [
            ("flowers_split/metadata.csv", None, Some("metadata.csv")),
            // Beside both, only the directories of the names say whose they are.
            ("metadata.csv", None, Some("../metadata.csv")),
            ("splits/all.csv", None, Some("../splits/all.csv")),
        ] {
            let flower_images = ROSES.map(|name| format!("flowers_split/{name}"));
            let pet_images = PETS.map(|name| format!("pets/{name}"));
            let all = flower_images.iter().chain(&pet_images);
            let dir = tree(&all.map(String::as_str).collect::<Vec<_>>());
            let path = dir.path().join(table);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, TABLE).unwrap();
            for (name, expected) in [("pets", pets), ("flowers_split", flowers)] {
                let root = dir.path().join(name);
                let train = open_train(&root).unwrap();
                let expected: Option<String> =
                    expected.map(|file: &str| format!("{}: not used: {file}", root.display()));
                assert_eq!(train.notes(), Vec::from_iter(expected), "{table}");
            }
        }
    }

    #[test]
    fn lists_in_directories_around_classes_are_named_unless_they_are_of_another_dataset() {
        const LIST: &str = "rose/r1.jpg\nrose/r2.jpg\ntulip/t3.jpg\n";
        const TABLE: &str = "file,split\nrose/r1.jpg,train\ntulip/t3.jpg,val\n";
        const OTHER: &str = "file,split\nB/rose/r1.jpg,train\nB/tulip/t3.jpg,val\n";
        for (file, text, expected) in [
            ("meta/train.txt", LIST, [true, true]),
            ("annotations/train.txt", LIST, [true, true]),
            ("ucfTrainTestlist/trainlist01.txt", LIST, [true, true]),
            ("splits/1/train.txt", LIST, [true, true]),
            ("split.csv", TABLE, [true, true]),
            ("meta/classes.txt", "rose\ntulip\n", [false, false]),
            (
                "meta/train.txt",
                "lily/l1.jpg\nlily/l2.jpg\n",
                [false, false],
            ),
            ("B_split.csv", TABLE, [false, true]),
            ("splits/b.csv", TABLE, [false, true]),
            ("B_lists/train.txt", LIST, [false, true]),
            ("all.csv", OTHER, [false, true]),
        ] {
            let images = ["rose/r1.jpg", "rose/r2.jpg", "tulip/t3.jpg", "tulip/t4.jpg"];
            let images = ["A", "B"].map(|name| images.map(|image| format!("{name}/{image}")));
            let dir = tree(
                &images
                    .as_flattened()
                    .iter()
                    .map(String::as_str)
                    .collect::<Vec<_>>(),
            );
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
            for (name, is_named) in ["A", "B"].into_iter().zip(expected) {
                let found = ImageFolder::new(&dir.path().join(name)).unused_above();
                assert_eq!(
                    found,
                    Vec::from_iter(is_named.then_some(file)),
                    "{file} of {name}"
                );
            }
        }
    }

    #[test]
    fn what_is_beside_the_splits_of_classes_is_named() {
        let classes = [
            "train/cat/1.jpg",
            "train/dog/2.jpg",
            "val/cat/3.jpg",
            "val/dog/4.jpg",
        ];
        for (others, expected) in [
            (
                &["cow/1.jpg", "seg_pred/2.jpg", "notes/x.txt"][..],
                Some("cow, seg_pred"),
            ),
            (&["test/5.jpg", "6.jpg"], Some("test, 6.jpg")),
            (&["train/sample.jpg"], Some("train/sample.jpg")),
            (&["test/cat/5.jpg", "readme.txt"], None),
        ] {
            let dir = tree(&[&classes[..], others].concat());
            let train = open_train(dir.path()).unwrap();
            let expected =
                expected.map(|names| format!("{}: not used: {names}", dir.path().display()));
            assert_eq!(train.notes(), Vec::from_iter(expected), "{others:?}");
        }
    }

    #[test]
    fn lists_of_splits_beside_classes_are_named_as_not_used() {
        let dir = tree(&[
            "cat/1.jpg",
            "cat/2.jpg",
            "dog/3.jpg",
            "train.csv",
            "val_list.txt",
            "a.txt",
        ]);
        let train = open_train(dir.path()).unwrap();
        let expected = format!(
            "{}: not used: train.csv, val_list.txt",
            dir.path().display()
        );
        assert_eq!(train.notes(), [expected]);
    }

    #[test]
    fn tables_that_divide_the_images_of_classes_are_named_whatever_they_are_called() {
        const IMAGES: [&str; 4] = ["rose/1.jpg", "rose/2.jpg", "tulip/3.jpg", "tulip/4.jpg"];
        for (file, text, is_named) in [
            ("metadata.csv", "filename,split\n1.jpg,train\n", true),
            (
                "birds.csv",
                "id,filepaths,labels,data set\n0,train/x/1.jpg,rose,train\n",
                true,
            ),
            (
                "split.yaml",
                "train:\n- rose/1.jpg\nval:\n- rose/2.jpg\n",
                true,
            ),
            ("train.lst", "0\t0.0\trose/1.jpg\n", true),
            ("images.txt", "1 rose/1.jpg\n", true),
            ("data.csv", "id,split\n1,train\n2,val\n", true),
            ("data.csv", "id,fold\n1,0\n2,1\n", true),
            ("rose/train.txt", "1\n", true),
            ("rose/train.txt", "a rose\n", false),
            ("captions.csv", "id,caption\n1,a rose\n", false),
            ("metadata.csv", "filename,width\n1.jpg,640\n", false),
            ("other.csv", "filename,split\n9.jpg,train\n", false),
            ("config.yaml", "train: 10\n", false),
        ] {
            let dir = tree(&IMAGES);
            std::fs::write(dir.path().join(file), text).unwrap();
            let train = open_train(dir.path()).unwrap();
            let note = format!("{}: not used: {file}", dir.path().display());
            assert_eq!(
                train.notes(),
                Vec::from_iter(is_named.then_some(note)),
                "{file}"
            );
        }
    }

    #[test]
    fn boxes_of_the_images_of_classes_in_formats_that_are_not_read_are_named() {
        const VIA: &str = r#"{"rose/1.jpg48": {"filename": "rose/1.jpg", "regions":
            [{"shape_attributes": {"name": "rect"}}]}}"#;
        const CVAT: &str = r#"<annotations><image name="rose/1.jpg"></image></annotations>"#;
        const STUDIO: &str = r#"[{"data": {"image": "/data/upload/1/0a1b2c3d-1.jpg"},
            "annotations": [{"result": []}]}]"#;
        const CREATE: &str = r#"[{"image": "1.jpg", "annotations": [{"label": "x",
            "coordinates": {}}]}]"#;
        for (file, text, format) in [
            ("via.json", VIA, "VIA project"),
            (
                "via.csv",
                "#filename,file_size,region_shape_attributes\n1.jpg,48,{}\n",
                "VIA CSV",
            ),
            ("annotations.xml", CVAT, "CVAT XML"),
            ("project.json", STUDIO, "Label Studio JSON"),
            ("_annotations.createml.json", CREATE, "CreateML"),
        ] {
            for (images, is_named) in [
                (
                    ["rose/1.jpg", "rose/2.jpg", "tulip/3.jpg", "tulip/4.jpg"],
                    true,
                ),
                // Those of other images are no boxes of these.
                (
                    ["rose/5.jpg", "rose/2.jpg", "tulip/3.jpg", "tulip/4.jpg"],
                    false,
                ),
            ] {
                let dir = tree(&images);
                std::fs::write(dir.path().join(file), text).unwrap();
                let train = open_train(dir.path()).unwrap();
                let path = dir.path().display();
                let note = format!("{path}: not used: {format} annotations ({file})");
                assert_eq!(
                    train.notes(),
                    Vec::from_iter(is_named.then_some(note)),
                    "{file}"
                );
            }
        }
    }

    #[test]
    fn classes_with_a_list_of_their_names_and_of_their_images_are_no_yolo() {
        const IMAGES: [&str; 4] = ["rose/1.jpg", "rose/2.jpg", "tulip/3.jpg", "tulip/4.jpg"];
        let numbered = [
            "1 rose/1.jpg",
            "2 rose/2.jpg",
            "3 tulip/3.jpg",
            "4 tulip/4.jpg",
        ];
        for (classes, list, lines) in [
            ("rose\ntulip\n", "images.txt", IMAGES),
            ("1 rose\n2 tulip\n", "images.txt", numbered),
            ("rose\ntulip\n", "train.txt", IMAGES),
        ] {
            let dir = tree(&IMAGES);
            let write = |name: &str, text: &str| {
                std::fs::write(dir.path().join(name), text).unwrap();
            };
            write("classes.txt", classes);
            write(list, &lines.join("\n"));
            let train = open_train(dir.path()).unwrap();
            let note = format!("{}: not used: {list}", dir.path().display());
            assert_eq!(train.notes(), [note]);
            assert!(!holds_annotations(dir.path()));
            // With one label file, it is YOLO.
            write("tulip/4.txt", "0 0.5 0.5 0.1 0.1\n");
            assert!(holds_annotations(dir.path()));
        }
    }

    #[test]
    fn annotations_within_a_directory_of_images_are_found() {
        let dir = tree(&["MOT17-02/img1/1.jpg", "MOT17-04/img1/1.jpg"]);
        assert_eq!(annotations_of_images(dir.path()), None);
        let dir = tree(&[
            "MOT17-02/img1/1.jpg",
            "MOT17-04/img1/1.jpg",
            "MOT17-04/gt/gt.txt",
        ]);
        let found = dir.path().join("MOT17-04/gt/gt.txt");
        assert_eq!(annotations_of_images(dir.path()), Some(found));
    }

    #[test]
    fn masks_beside_the_images_that_they_are_named_after_are_left_out_and_counted() {
        for (files, note, count) in [
            (
                &[
                    "benign/benign (0).png",
                    "benign/benign (0)_mask.png",
                    "benign/benign (0)_mask_1.png",
                    "normal/a.jpg",
                    "normal/A_Mask.PNG",
                    "normal/ISIC_1.jpg",
                    "normal/isic_1_segmentation.png",
                ][..],
                Some("4 masks named after images beside them, such as benign/benign (0)_mask.png"),
                3,
            ),
            (
                &["a/x/1.jpg", "a/x/1-mask.png", "b/2.jpg", "b/3_mask.png"],
                Some("1 mask named after images beside them, such as a/x/1-mask.png"),
                3,
            ),
            // Names of images, and those of no image beside them.
            (
                &[
                    "mask/1_mask.jpg",
                    "mask/2_mask.jpg",
                    "mask/mask_1.jpg",
                    "mask/mask_2.jpg",
                    "plain/1.jpg",
                    "plain/unmask.jpg",
                    "plain/un.jpg",
                    "plain/y/2_mask.jpg",
                ],
                None,
                8,
            ),
        ] {
            let dir = tree(files);
            let classes = class_directories(dir.path()).unwrap();
            let images = ClassImages::read(dir.path(), dir.path(), &classes).unwrap();
            assert_eq!(images.len(), count, "{files:?}");
            let note = note.map(|note| format!("{}: not used: {note}", dir.path().display()));
            let mut notes = images.notes;
            notes.retain(|note| !note.contains("joined"));
            assert_eq!(notes, Vec::from_iter(note));
        }
    }

    #[test]
    fn images_in_a_class_and_below_it_are_joined_with_a_note() {
        let dir = tree(&[
            "rose/0.jpg",
            "rose/close/1.jpg",
            "rose/far/1/2.jpg",
            "tulip/3.jpg",
            "lily/x/4.jpg",
            "lily/y/5.jpg",
        ]);
        let train = open_train(dir.path()).unwrap();
        let expected = format!(
            "{}: images of rose, rose/close, rose/far joined as class rose",
            dir.path().display()
        );
        assert_eq!(train.notes(), [expected]);
    }

    #[test]
    fn directories_without_images_are_no_classes_and_their_lists_are_named() {
        const CLASSES: [&str; 4] = ["rose/1.jpg", "rose/2.jpg", "tulip/3.jpg", "tulip/4.jpg"];
        for (others, notes) in [
            (
                &["splits/trainlist01.txt", "splits/1/testlist01.txt"][..],
                &["not used: splits/1/testlist01.txt, splits/trainlist01.txt"][..],
            ),
            (
                &["docs/readme.md", "about/LICENSE", "meta/classes.txt"],
                &[],
            ),
            (&["labels/classes.txt"], &[]),
            // What may have been meant as a class.
            (
                &["models/best.pt", "lily/1.txt", "train_lists/a.txt"],
                &["not a class, without images: lily, models, train_lists"],
            ),
            // Classes, whatever they are called.
            (&["splits/1.jpg", "splits/2.jpg", "docs/3.jpg"], &[]),
        ] {
            let dir = tree(&[&CLASSES[..], others].concat());
            let train = open_train(dir.path()).unwrap();
            let notes = notes.iter();
            let notes: Vec<String> = notes
                .map(|note| format!("{}: {note}", dir.path().display()))
                .collect();
            assert_eq!(train.notes(), notes, "{others:?}");
            let with_images = others.iter().any(|name| name.ends_with("jpg"));
            assert_eq!(train.class_names().len(), if with_images { 4 } else { 2 });
        }
        // A class whose images are packed, not decoded, or not there at all.
        for (other, expected) in [
            ("lily/images.zip", "no images in lily, but lily/images.zip"),
            (
                "lily/1.heic",
                "no images in lily that can be decoded, but 1 image in a format that is not supported (.heic: 1)",
            ),
            ("lily/x/.hidden.jpg", "no images in lily"),
        ] {
            let dir = tree(&[&CLASSES[..], &[other]].concat());
            let message = open_train(dir.path()).unwrap_err();
            let expected = format!("{}: {expected}", dir.path().display());
            assert_eq!(message.replace('\\', "/"), expected.replace('\\', "/"));
        }
    }

    #[test]
    fn tables_of_splits_and_lists_beside_splits_are_named_as_not_used() {
        const FLAT: [&str; 4] = ["rose/1.jpg", "rose/2.jpg", "tulip/3.jpg", "tulip/4.jpg"];
        const SPLITS: [&str; 4] = [
            "train/rose/1.jpg",
            "train/tulip/2.jpg",
            "val/rose/3.jpg",
            "val/tulip/4.jpg",
        ];
        const LISTS: &str = "splits/testlist01.txt, splits/trainlist01.txt";
        for (classes, others, expected) in [
            (&FLAT, &["splits.csv"][..], Some("splits.csv")),
            (&FLAT, &["labels.csv"], Some("labels.csv")),
            (
                &SPLITS,
                &["splits/trainlist01.txt", "splits/testlist01.txt"],
                Some(LISTS),
            ),
            (&SPLITS, &["splits.csv"], Some("splits.csv")),
            (
                &SPLITS,
                &["train/labels.csv", "readme.txt"],
                Some("train/labels.csv"),
            ),
            (
                &SPLITS,
                &["noisy_imagenette.csv", "results/test_results.csv"],
                None,
            ),
        ] {
            let dir = tree(&[&classes[..], others].concat());
            for other in others {
                std::fs::write(dir.path().join(other), "path,split\nrose/1.jpg,train\n").unwrap();
            }
            let train = open_train(dir.path()).unwrap();
            let expected =
                expected.map(|names| format!("{}: not used: {names}", dir.path().display()));
            assert_eq!(train.notes(), Vec::from_iter(expected), "{others:?}");
        }
    }

    #[test]
    fn directories_of_masks_beside_classes_and_classes_that_may_be_none_are_noted() {
        for (files, note) in [
            (
                &["a/1.jpg", "a/2.jpg", "b/3.jpg", "b/4.jpg", "masks/a/1.png"][..],
                "not a class: masks",
            ),
            (
                &[
                    "train/a/1.jpg",
                    "train/b/2.jpg",
                    "train/masks/a/1.png",
                    "val/a/3.jpg",
                    "val/b/4.jpg",
                ],
                "not a class: masks",
            ),
            (
                &[
                    "a/1.jpg",
                    "a/2.jpg",
                    "b/3.jpg",
                    "b/4.jpg",
                    "unlabeled/5.jpg",
                ],
                "used as a class, though its name says that its images have none: unlabeled",
            ),
            (
                &["a/1.jpg", "a/2.jpg", "b/3.jpg", "b/4.jpg", "seg_pred/5.jpg"],
                "used as a class, though its name says that its images have none: seg_pred",
            ),
            (
                &["a/1.jpg", "a/2.jpg", "predator/3.jpg", "predator/4.jpg"],
                "",
            ),
        ] {
            let dir = tree(files);
            let train = open_train(dir.path()).unwrap();
            let notes = train.notes().join("; ");
            assert!(
                notes.ends_with(note) && notes.is_empty() == note.is_empty(),
                "{notes}"
            );
        }
    }

    #[test]
    fn the_layouts_of_public_datasets_have_no_notes() {
        for files in [
            // Imagenette.
            &[
                "train/n01440764/n01440764_1.JPEG",
                "train/n02102040/n02102040_2.JPEG",
                "val/n01440764/ILSVRC2012_val_00000293.JPEG",
                "val/n02102040/ILSVRC2012_val_00000665.JPEG",
                "noisy_imagenette.csv",
            ][..],
            // Food-101 and CUB, by the directory of their images.
            &[
                "apple_pie/1005649.jpg",
                "apple_pie/1011328.jpg",
                "waffles/1.jpg",
                "waffles/2.jpg",
            ],
            &[
                "001.Black_footed_Albatross/Black_Footed_Albatross_0001_796111.jpg",
                "001.Black_footed_Albatross/Black_Footed_Albatross_0002_55.jpg",
                "002.Laysan_Albatross/Laysan_Albatross_0001_545.jpg",
                "002.Laysan_Albatross/Laysan_Albatross_0002_1027.jpg",
            ],
            // Flowers of TensorFlow.
            &[
                "daisy/100080576_f52e8ee070_n.jpg",
                "daisy/10140303196_b88d3d6cec.jpg",
                "roses/10090824183_d02c613f10_m.jpg",
                "roses/102501987_3cdb8e5394_n.jpg",
                "LICENSE.txt",
            ],
            // Faces with masks.
            &[
                "with_mask/with_mask_1.jpg",
                "with_mask/1-with-mask.jpg",
                "without_mask/without_mask_1.jpg",
                "without_mask/1.jpg",
            ],
        ] {
            let dir = tree(files);
            let train = open_train(dir.path()).unwrap();
            assert_eq!(train.notes(), [""; 0]);
            let images = files.iter().filter(|file| !file.starts_with("val/"));
            let images = images
                .filter(|file| has_extension(Path::new(file), "jpg") || file.ends_with("JPEG"));
            let found = ImageFolder::find(dir.path()).unwrap();
            let held_out = found.open(Split::Val).unwrap().len();
            let held_out = if files[0].starts_with("train/") {
                0
            } else {
                held_out
            };
            assert_eq!(train.len() + held_out, images.count());
        }
    }

    #[test]
    fn boxes_of_the_images_of_classes_in_no_format_are_named() {
        const IMAGES: [&str; 4] = ["rose/r1.jpg", "rose/2.jpg", "tulip/3.jpg", "tulip/4.jpg"];
        for (files, expected) in [
            (
                &[("boxes.json", r#"{"rose/r1.jpg": [[10, 10, 40, 40]]}"#)][..],
                Some("boxes (boxes.json)"),
            ),
            (
                &[(
                    "all.csv",
                    "fname,x1,y1,x2,y2,class\nrose/2.jpg,1,2,3,4,rose\n",
                )],
                Some("boxes (all.csv)"),
            ),
            (
                &[(
                    "bbox.csv",
                    "ImageID,XMin,XMax,YMin,YMax\nr1,0.1,0.2,0.3,0.4\n",
                )],
                Some("boxes (bbox.csv)"),
            ),
            (
                &[
                    ("bounding_boxes.txt", "8 60.0 27.0 325.0 304.0\n"),
                    ("images.txt", "8 rose/r1.jpg\n"),
                ],
                Some("boxes (bounding_boxes.txt), images.txt"),
            ),
            (
                &[("scores.json", r#"{"rose/r1.jpg": [0.1, 0.2, 0.3, 0.4]}"#)],
                None,
            ),
        ] {
            let dir = tree(&IMAGES);
            for (file, text) in files {
                std::fs::write(dir.path().join(file), text).unwrap();
            }
            let train = open_train(dir.path()).unwrap();
            let expected =
                expected.map(|named| format!("{}: not used: {named}", dir.path().display()));
            assert_eq!(train.notes(), Vec::from_iter(expected), "{files:?}");
        }
    }

    #[test]
    fn lists_around_a_directory_of_classes_are_named_if_they_name_its_images() {
        const IMAGES: [&str; 4] = [
            "images/rose/r1.jpg",
            "images/rose/r2.jpg",
            "images/tulip/t3.jpg",
            "images/tulip/t4.jpg",
        ];
        for (files, expected) in [
            (
                &[
                    (
                        "images.txt",
                        "1 rose/r1.jpg\n2 rose/r2.jpg\n3 tulip/t3.jpg\n",
                    ),
                    ("train_test_split.txt", "1 1\n2 0\n3 1\n"),
                    ("bounding_boxes.txt", "1 60 27 325 304\n2 1 2 3 4\n"),
                    ("image_class_labels.txt", "1 1\n2 1\n3 2\n"),
                    ("classes.txt", "1 rose\n2 tulip\n"),
                ][..],
                Some("bounding_boxes.txt, train_test_split.txt"),
            ),
            (
                &[
                    ("labels/train1.txt", "rose/r1.jpg\nrose/r2.jpg\n"),
                    ("labels/labels_joint_anno.txt", "rose/r1.jpg rose\n"),
                ],
                Some("labels/train1.txt"),
            ),
            // Of another dataset.
            (
                &[
                    ("train_test_split.txt", "1 1\n2 0\n3 1\n"),
                    ("train.txt", "lily/l1.jpg\n"),
                    ("data.csv", "id,split\nl1,train\n"),
                ],
                None,
            ),
        ] {
            let dir = tree(&IMAGES);
            for (file, text) in files {
                let path = dir.path().join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            let images = dir.path().join("images");
            let train = open_train(&images).unwrap();
            let names: Vec<&str> = expected
                .into_iter()
                .flat_map(|names: &str| names.split(", "))
                .collect();
            let above: Vec<String> = names.iter().map(|name| format!("../{name}")).collect();
            let expected = (!above.is_empty())
                .then(|| format!("{}: not used: {}", images.display(), above.join(", ")));
            assert_eq!(train.notes(), Vec::from_iter(expected));
            assert_eq!(ImageFolder::new(&images).unused_above(), names);
        }
    }
}
