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
mod tests;
