//! Pascal VOC in a directory: an XML file for each image.
//!
//! The XML files are in one of these directories; names of directories are read in any capitals:
//!
//! ```text
//! Annotations/NAME.xml   JPEGImages/NAME.jpg   the original layout; also annots/ or xmls/, images/ or data/
//! train/NAME.xml         train/NAME.jpg        a directory for each split (Roboflow)
//! NAME.xml               NAME.jpg              beside the images (LabelImg)
//! CLASS/NAME.xml         CLASS/NAME.jpg        the same in directories of classes
//! ```
//!
//! Lists such as `ImageSets/Main/SPLIT.txt` have the names of each split, see `voc_lists`; without
//! them, all annotations belong to the training split, unless they are in a directory for each. Directories may have subdirectories. The image
//! of an annotation has its name, in any capitals, or else the name in the annotation. An annotation that is the
//! only one to name an image, and has the name of another, is an error. An image without an annotation is
//! not used: the format cannot express otherwise that an image has no objects. Boxes become
//! `[xmin, ymin, xmax - xmin, ymax - ymin]`. Objects marked as difficult are kept like any other: COCO
//! has no such flag, and its `iscrowd` means something else.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::DataError;
use crate::annotations::file_names::{AnyCapitals, FileMatch, file_names};
use crate::annotations::format::{
    AnnotationFormat, BoxEntry, DatasetFiles, Dropped, EntryProblem, FoundSplits, Output,
    PlacedSplit, Reader, SplitEntries, SplitFiles, SplitImage, StoredBox, last_part,
    without_extension,
};
use crate::annotations::image_files::{
    DirectoryListing, Found, files_with_extension, first_few, holds_images, images_within,
};
use crate::annotations::layout::{NamedSplit, Split, join, splits_of_names};
use crate::annotations::voc::{self, VocImage, VocObject};
use crate::annotations::voc_divisions::Division;
use crate::annotations::voc_lists::{FoundLists, VocList};
use crate::annotations::voc_others::other_annotations;
use crate::boxes::described_rotated;
use crate::images::decode::{has_image_extension, image_size};
use crate::text::count;

/// Pascal VOC: `Annotations/NAME.xml`, `JPEGImages/`, `ImageSets/Main/SPLIT.txt`.
#[derive(Debug)]
pub(crate) struct VocFormat;

impl AnnotationFormat for VocFormat {
    fn key(&self) -> &'static str {
        "voc"
    }

    fn name(&self) -> &'static str {
        "Pascal VOC"
    }

    fn files(&self) -> String {
        "Annotations/*.xml, JPEGImages/, ImageSets/Main/*.txt, or XML files beside the images"
            .into()
    }

    fn find(&self, path: &Path) -> Result<Option<FoundSplits>, DataError> {
        let Some(layout) = VocLayout::find(path)? else {
            return Ok(None);
        };
        let splits = layout.splits.iter();
        Ok(Some(FoundSplits {
            splits: splits
                .map(|split| SplitFiles {
                    format: &Self,
                    split: split.split,
                    annotations: path.to_owned(),
                    image_directories: split.image_directories.clone(),
                    is_part: false,
                })
                .collect(),
            reason: layout.reason,
            unused: layout.unused,
            lists: layout.lists,
        }))
    }

    fn has_lists(&self) -> bool {
        true
    }

    fn annotation_extension(&self) -> &'static str {
        "xml"
    }

    fn may_be_in(&self, directory: &Path) -> bool {
        directory.join("JPEGImages").is_dir()
    }

    fn reader(&self) -> Reader {
        Reader::Entries(collect)
    }

    fn stored_box(&self, found: &StoredBox) -> Result<[f64; 4], &'static str> {
        found.of_one_object()
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

    fn stored_name<'n>(&self, name: &'n str) -> Cow<'n, str> {
        voc::stored_name(name)
    }

    fn stores_flags(&self) -> bool {
        true
    }

    fn lists_classes(&self) -> bool {
        // The classes of a VOC directory are those of its objects.
        false
    }

    fn write(&self, splits: &[PlacedSplit], output: &Output) -> Result<(), DataError> {
        for placed in splits {
            let store = &placed.annotations.store;
            let mut list = String::new();
            for (index, (path, boxes)) in placed.image_paths.iter().zip(&placed.boxes).enumerate() {
                let name = last_part(without_extension(path));
                let text = voc::format(store, index, last_part(path), boxes);
                output.file(&format!("Annotations/{name}.xml"), &text)?;
                list += name;
                list.push('\n');
            }
            let split = placed.annotations.split;
            output.file(&format!("ImageSets/Main/{split}.txt"), &list)?;
        }
        Ok(())
    }
}

/// The locations of the annotations and images of a directory.
struct VocLayout {
    splits: Vec<VocSplit>,
    /// The files by which the layout was recognized.
    reason: String,
    /// Annotations that no list contains.
    unlisted: usize,
    /// Descriptions of lists that are not used.
    unused: Vec<String>,
    /// The lists that are used or described.
    lists: Vec<PathBuf>,
}

struct VocSplit {
    split: Split,
    /// The list that the names are from, if there is one.
    list: Option<VocList>,
    /// The directory that `names` are relative to.
    annotations: PathBuf,
    /// Names of the annotations without extension, with `/` between directories.
    names: Vec<String>,
    image_directories: Vec<PathBuf>,
}

impl VocLayout {
    /// Finds the layout of a directory; None if it has no VOC annotations.
    fn find(root: &Path) -> Result<Option<Self>, DataError> {
        if !root.is_dir() {
            return Ok(None);
        }
        let listing = DirectoryListing::of(root);
        const ANNOTATIONS: [&str; 6] = [
            "Annotations",
            "annotation",
            "annots",
            "xmls",
            "xml",
            "labels",
        ];
        for name in ANNOTATIONS {
            if let Some(directory) = listing.directory(&[name])
                && holds_voc(&directory, |root_element| {
                    root_element != Some("annotations")
                })
            {
                return Self::with_directory(&listing, root, &directory).map(Some);
            }
        }
        let mut splits = Vec::new();
        for split in Split::ALL {
            if let Some(directory) = listing.split_directory(split)
                && holds_voc(&directory, is_annotation)
            {
                splits.push((split, directory));
            }
        }
        if !splits.is_empty() {
            return Self::with_split_directories(root, splits).map(Some);
        }
        if !has_voc(&listing, is_annotation) && !has_voc_of_classes(root, &listing) {
            return Ok(None);
        }
        let reason = "XML files beside the images";
        let names = names_beside_images(root)?;
        Self::divided(root, root, reason, names, vec![root.to_owned()]).map(Some)
    }

    /// Describes directories of XML files and images, one for each split.
    fn with_split_directories(
        root: &Path,
        directories: Vec<(Split, PathBuf)>,
    ) -> Result<Self, DataError> {
        let names = directories
            .iter()
            .map(|(_, directory)| last_name(directory));
        let reason = format!("XML files in {}", join(names));
        let mut splits = Vec::new();
        for (split, directory) in directories {
            splits.push(VocSplit {
                split,
                list: None,
                names: names_within(&directory)?,
                image_directories: vec![directory.clone()],
                annotations: directory,
            });
        }
        // The directories decide, and a list may say the same.
        let names: Vec<String> = splits
            .iter()
            .flat_map(|split| split.names.clone())
            .collect();
        let without: Vec<PathBuf> = splits
            .iter()
            .map(|split| split.annotations.clone())
            .collect();
        let lists = FoundLists::find(root, root, &without, &names)?;
        let is_same = |list_of: Split, list: &VocList| {
            let mut splits = splits.iter();
            splits.any(|split| split.split == list_of && list.has_names(&split.names))
        };
        let others = lists
            .of_splits
            .iter()
            .filter(|(split, list)| !is_same(*split, list));
        let others = others.map(|(_, list)| list.below(root));
        let mut unused: Vec<String> = others.chain(lists.unused.iter().cloned()).collect();
        let mut followed = Division::default();
        for split in &splits {
            for name in &split.names {
                followed.add(name, split.split);
            }
        }
        unused.extend(lists.contradicting_tables(&followed, root));
        Ok(Self {
            splits,
            reason,
            unlisted: 0,
            unused,
            lists: lists.known,
        })
    }

    /// Describes a directory with a subdirectory of annotations.
    fn with_directory(
        listing: &DirectoryListing,
        root: &Path,
        annotations: &Path,
    ) -> Result<Self, DataError> {
        const IMAGES: [&str; 5] = ["JPEGImages", "images", "imgs", "img", "data"];
        let images = IMAGES.iter().filter_map(|name| listing.directory(&[name]));
        let mut image_directories: Vec<PathBuf> = images.collect();
        if image_directories.is_empty() {
            let split_directories = Split::ALL.into_iter();
            image_directories.extend(split_directories.filter_map(|s| listing.split_directory(s)));
        }
        if image_directories.is_empty() && listing.directory(&["ImageSets"]).is_some() {
            // Where images that are missing belong.
            image_directories.push(root.join(IMAGES[0]));
        }
        // LabelImg may save annotations into a directory of their own, beside the images.
        image_directories.push(annotations.to_owned());
        image_directories.push(root.to_owned());
        let all = names_within(annotations)?;
        let reason = format!("XML files in {}", last_name(annotations));
        let others = other_annotations(root, annotations, &all, &image_directories)?;
        let mut layout = Self::divided(root, annotations, &reason, all, image_directories)?;
        layout.unused.extend(others);
        Ok(layout)
    }

    /// Divides the annotations `all` of a directory into splits: by lists, or by directories within it.
    fn divided(
        root: &Path,
        annotations: &Path,
        reason: &str,
        all: Vec<String>,
        image_directories: Vec<PathBuf>,
    ) -> Result<Self, DataError> {
        let of_split = |split, names| VocSplit {
            split,
            list: None,
            annotations: annotations.to_owned(),
            names,
            image_directories: image_directories.clone(),
        };
        // Lists may be beside the annotations.
        let mut without = image_directories.clone();
        without.retain(|directory| directory != annotations);
        let mut lists = FoundLists::find(root, annotations, &without, &all)?;
        lists.follow_tables(root)?;
        let by_directory = |name: &str| Split::of_name(name.split_once('/')?.0);
        let is_divided = !all.is_empty() && all.iter().all(|name| by_directory(name).is_some());
        let mut unused = lists.unused.clone();
        if !lists.of_splits.is_empty() {
            let followed = lists.division(root);
            unused.extend(lists.contradicting_tables(&followed, root));
            let images = ImagesOfSplits::within(&image_directories)?;
            let of_annotations = |name: &str| by_directory(name).filter(|_| is_divided);
            for other in [
                by_directories(&all, &last_name(annotations), &of_annotations),
                images.division(root, &all),
            ] {
                // What no list has is counted.
                let found = followed.contradicted_by(&other, false);
                unused.extend(found.map(|found| found.note(&other.place)));
            }
            let reason = format!("{reason}, lists in {}", lists.places(root));
            let listed = lists
                .of_splits
                .iter()
                .flat_map(|(_, list)| list.lines.keys());
            let exact: HashSet<&String> = listed.collect();
            let lower: HashSet<String> = exact.iter().map(|name| name.to_lowercase()).collect();
            // A list means a file in other capitals only where there is none with the exact name.
            let found = all.iter().filter(|name| exact.contains(name));
            let found: HashSet<String> = found.map(|name| name.to_lowercase()).collect();
            let is_unlisted = |name: &&String| {
                let alike = name.to_lowercase();
                !exact.contains(name) && (found.contains(&alike) || !lower.contains(&alike))
            };
            let unlisted = all.iter().filter(is_unlisted).count();
            let splits = lists.of_splits.into_iter();
            return Ok(Self {
                splits: splits
                    .map(|(split, list)| VocSplit {
                        names: list.lines.keys().cloned().collect(),
                        list: Some(list),
                        ..of_split(split, Vec::new())
                    })
                    .collect(),
                reason,
                unlisted,
                unused,
                lists: lists.known,
            });
        }
        let divided = |split_of: &dyn Fn(&str) -> Option<Split>| -> Vec<VocSplit> {
            let splits = Split::ALL.into_iter().map(|split| {
                let names = all.iter().filter(|name| split_of(name) == Some(split));
                of_split(split, names.cloned().collect())
            });
            splits.filter(|split| !split.names.is_empty()).collect()
        };
        let mut reason = reason.to_owned();
        let mut splits = is_divided.then(|| divided(&by_directory));
        if splits.is_some() {
            let followed = by_directories(&all, &last_name(annotations), &by_directory);
            let other = ImagesOfSplits::within(&image_directories)?.division(root, &all);
            let found = followed.contradicted_by(&other, false);
            unused.extend(found.map(|found| found.note(&other.place)));
        } else {
            let images = ImagesOfSplits::within(&image_directories)?;
            splits = Some(divided(&|name| images.split_of(name)))
                .filter(|splits| images.divide(splits, &all));
            for split in splits.iter_mut().flatten() {
                let own = images.directories.iter();
                let own = own.filter(|(of, _)| *of == split.split);
                let own: Vec<&PathBuf> = own.map(|(_, directory)| directory).collect();
                // Of several directories, the images are found from above.
                if let [only] = own.as_slice() {
                    split.image_directories.insert(0, only.to_path_buf());
                }
            }
            if splits.is_some() {
                reason += &format!(", images in {}", images.places(root));
                unused.extend(images.not_divided(root, &all));
            }
        }
        Ok(Self {
            splits: splits.unwrap_or_else(|| vec![of_split(Split::Train, all.clone())]),
            reason,
            unlisted: 0,
            unused,
            lists: lists.known,
        })
    }
}

/// Directories of images that are named after splits, beside annotations that are in one: `images/train`, `images/val`.
struct ImagesOfSplits {
    directories: Vec<(Split, PathBuf)>,
    /// By the name without extension; None for a name in several splits.
    by_stem: HashMap<String, Option<Split>>,
}

impl ImagesOfSplits {
    /// Finds the directories of several splits in the first directory that has any.
    fn within(around: &[PathBuf]) -> Result<Self, DataError> {
        let of_splits = |directory: &PathBuf| -> Vec<(Split, PathBuf)> {
            let names = DirectoryListing::of(directory).directories;
            let splits = splits_of_names(&names).into_iter();
            let named = splits.zip(names).filter_map(|(split, name)| match split {
                NamedSplit::Split(split) => Some((split, directory.join(name))),
                _ => None,
            });
            named.filter(|(_, path)| holds_images(path)).collect()
        };
        let several = |found: &Vec<(Split, PathBuf)>| found.iter().any(|(of, _)| *of != found[0].0);
        let mut found = around.iter().map(of_splits);
        let mut directories = found.find(several).unwrap_or_default();
        directories.sort_by_key(|(split, _)| Split::ALL.iter().position(|of| of == split));
        let mut by_stem = HashMap::new();
        for (split, directory) in &directories {
            for image in images_within(directory)? {
                let stem = without_extension(&image.name).to_owned();
                let known = by_stem.entry(stem).or_insert(Some(*split));
                if *known != Some(*split) {
                    *known = None;
                }
            }
        }
        Ok(Self {
            directories,
            by_stem,
        })
    }

    /// Returns whether the splits of these directories are those of the annotations `all`. Without train, images that
    /// are elsewhere would be of it.
    fn divide(&self, splits: &[VocSplit], all: &[String]) -> bool {
        let has_rest = all.iter().any(|name| self.split_of(name).is_none());
        match splits {
            [] => false,
            [only] => !has_rest && only.names.len() == all.len(),
            [first, ..] => first.split == Split::Train || !has_rest,
        }
    }

    /// Describes the annotations of images that are elsewhere, and of those that are in several splits.
    fn not_divided(&self, root: &Path, all: &[String]) -> Vec<String> {
        let rest = all.iter().filter(|name| self.split_of(name).is_none());
        let (several, outside): (Vec<&String>, Vec<&String>) =
            rest.partition(|name| self.by_stem.contains_key(last_part(name)));
        let places = self.places(root);
        let describe = |names: Vec<&String>, place: String| {
            let files = count(names.len(), "annotation");
            let names = first_few(names.iter().map(|name| name.as_str()));
            (!names.is_empty()).then(|| format!("{files} without an image in {place} ({names})"))
        };
        let several = describe(several, format!("only one of {places}"));
        describe(outside, places)
            .into_iter()
            .chain(several)
            .collect()
    }

    /// Returns the division of the annotations `all`.
    fn division(&self, root: &Path, all: &[String]) -> Division {
        by_directories(all, &self.places(root), &|name| self.split_of(name))
    }

    fn split_of(&self, name: &str) -> Option<Split> {
        self.by_stem.get(last_part(name)).copied().flatten()
    }

    fn places(&self, root: &Path) -> String {
        let directories = self.directories.iter();
        let places = directories.map(|(_, path)| path.strip_prefix(root).unwrap_or(path));
        join(places.map(Path::display))
    }
}

/// Returns the division of annotations by directories that are called after splits.
fn by_directories(
    all: &[String],
    place: &str,
    split_of: &dyn Fn(&str) -> Option<Split>,
) -> Division {
    let mut division = Division::at(format!("the directories of splits ({place})"));
    for name in all {
        if let Some(split) = split_of(name) {
            division.add(name, split);
        }
    }
    division
}

fn last_name(directory: &Path) -> String {
    let name = directory.file_name().unwrap_or_default();
    name.display().to_string()
}

/// Accepts the root element of VOC's annotations only: XML files beside images may be anything.
fn is_annotation(root_element: Option<&str>) -> bool {
    root_element == Some("annotation")
}

/// Reports whether a directory or a subdirectory contains VOC annotations, by the root elements of the
/// first XML files.
fn holds_voc(directory: &Path, is_voc: fn(Option<&str>) -> bool) -> bool {
    /// `Annotations` of an archive with a directory for each sequence of images.
    const DEPTH: usize = 3;
    let mut open = vec![(directory.to_owned(), 0)];
    while let Some((path, depth)) = open.pop() {
        let listing = DirectoryListing::of(&path);
        if listing.files_with("xml").next().is_some() {
            return has_voc(&listing, is_voc);
        }
        // A directory of images has no subdirectories of annotations that matter.
        const INSPECTED: usize = 50;
        if depth < DEPTH {
            let inner = listing.directories.iter().take(INSPECTED).rev();
            open.extend(inner.map(|name| (path.join(name), depth + 1)));
        }
    }
    false
}

fn has_voc(listing: &DirectoryListing, is_voc: fn(Option<&str>) -> bool) -> bool {
    /// One of the first files may be damaged, or of another program.
    const TRIED: usize = 5;
    let mut files = listing.files_with("xml").take(TRIED);
    files.any(|path| is_voc(root_element(&path).as_deref()))
}

/// Returns whether the directories with annotations are those of classes: each is named after a class of its first
/// annotations. Otherwise each is a dataset of its own.
fn has_voc_of_classes(root: &Path, listing: &DirectoryListing) -> bool {
    /// The first classes, and the first files of each, show how all are stored.
    const CLASSES: usize = 20;
    const TRIED: usize = 5;
    let directories = listing
        .directories
        .iter()
        .map(|name| (name, root.join(name)));
    let annotated = directories.filter_map(|(name, path)| {
        let listing = DirectoryListing::of(&path);
        has_voc(&listing, is_annotation).then_some((name, listing))
    });
    let annotated: Vec<(&String, DirectoryListing)> = annotated.take(CLASSES).collect();
    let is_class = |(name, listing): &(&String, DirectoryListing)| {
        let mut files = listing.files_with("xml").take(TRIED);
        files.any(|path| {
            let text = voc::read_xml(&path);
            let image = text.and_then(|text| voc::parse(&text, &path));
            image.is_ok_and(|image| {
                let mut objects = image.objects.iter();
                objects.any(|object| object.name.eq_ignore_ascii_case(name))
            })
        })
    };
    annotated.len() > 1 && annotated.iter().all(is_class)
}

/// Returns the name of the root element of an XML file, or none if there is none at its beginning.
fn root_element(path: &Path) -> Option<String> {
    const BEGINNING: u64 = 4096;
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    file.take(BEGINNING).read_to_end(&mut bytes).ok()?;
    // The name is ASCII in any encoding; UTF-16 adds zeros.
    bytes.retain(|byte| *byte != 0);
    let text = String::from_utf8_lossy(&bytes);
    // The declaration and comments begin with `<?` and `<!`.
    let mut tags = text.split('<').skip(1);
    let tag = tags.find(|tag| tag.starts_with(|first: char| first.is_alphabetic()))?;
    let end = |character: char| character.is_whitespace() || matches!(character, '>' | '/');
    tag.split(end).next().map(str::to_owned)
}

/// Returns the names of the annotations below a directory, without extension.
fn names_within(directory: &Path) -> Result<Vec<String>, DataError> {
    let files = files_with_extension(directory, "xml")?;
    let paths = files.iter().map(Found::path);
    Ok(paths
        .map(|path| without_extension(&path).to_owned())
        .collect())
}

/// Returns the names of the annotations in a directory, and of those below it that have an image beside them: LabelImg
/// writes each beside its image.
fn names_beside_images(directory: &Path) -> Result<Vec<String>, DataError> {
    let images: HashSet<String> = images_within(directory)?
        .iter()
        .map(|image| without_extension(&image.path()).to_owned())
        .collect();
    let mut names = names_within(directory)?;
    names.retain(|name| !name.contains('/') || images.contains(name));
    Ok(names)
}

/// Collects some splits. Their categories are the classes of all splits, sorted, so that they agree.
fn collect(files: &DatasetFiles, wanted: &[Split]) -> Result<Vec<SplitEntries>, DataError> {
    let root = match files.splits.first() {
        Some(split) => &split.annotations,
        None => &files.root,
    };
    let Some(layout) = VocLayout::find(root)? else {
        return Err(files.format.not_found_in(root).into());
    };
    let capitals = AnyCapitals::default();
    let read: Vec<Vec<Result<VocImage, DataError>>> = layout
        .splits
        .iter()
        .map(|split| {
            let names = split.names.par_iter();
            names
                .map(|name| split.read_annotation(name, &capitals))
                .collect()
        })
        .collect();
    let images = read.iter().flatten().flatten();
    let classes: BTreeSet<&str> = images
        .flat_map(|image| image.objects.iter().map(|object| object.name.as_str()))
        .collect();
    let classes: Vec<String> = classes.into_iter().map(str::to_owned).collect();
    let stated = stated_names(&layout.splits, &read);
    let mut collected = Vec::new();
    for (split, annotations) in layout.splits.iter().zip(read) {
        if wanted.contains(&split.split) {
            let mut others = layout.splits.iter();
            // The images of a directory that splits share may be of another.
            let has_own_images = others.all(|other| {
                other.split == split.split
                    || other.image_directories.first() != split.image_directories.first()
            });
            let mut entries = entries(split, annotations, &classes, &stated, &capitals)?;
            if has_own_images && split.list.is_none() {
                let without = entries.images_without;
                let what = "images without an annotation file";
                entries.collected.dropped.add(what, "image", without);
            }
            let mut entries = entries.collected;
            let unlisted = if collected.is_empty() {
                layout.unlisted
            } else {
                0
            };
            let what = "annotations that no list contains";
            entries.dropped.add(what, "file", unlisted);
            collected.push((split.split, entries));
        }
    }
    // In the order that was asked for.
    let position = |split: Split| wanted.iter().position(|wanted| *wanted == split);
    collected.sort_by_key(|(split, _)| position(*split));
    Ok(collected.into_iter().map(|(_, entries)| entries).collect())
}

/// Returns the file of an annotation; a list may name it in other capitals.
///
/// # Errors
/// No file has the name, and several differ from it in capitals only.
fn xml_path(split: &VocSplit, name: &str, capitals: &AnyCapitals) -> Result<PathBuf, DataError> {
    let path = split.annotations.join(format!("{name}.xml"));
    let FileMatch::OtherCapitals(mut found) = capitals.file(&split.annotations, &path) else {
        return Ok(path);
    };
    if let [_, _, ..] = found.as_slice() {
        let found = file_names(&found);
        let problem = format!("no such file; {found} differ from it in capitals only");
        return Err(DataError::contradiction(&path, problem));
    }
    Ok(found.pop().unwrap_or(path))
}

impl VocSplit {
    fn read_annotation(&self, name: &str, capitals: &AnyCapitals) -> Result<VocImage, DataError> {
        let path = xml_path(self, name, capitals)?;
        match (voc::read_xml(&path), &self.list) {
            (Err(DataError::Io { source, .. }), Some(list))
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Err(list.missing(name, &path))
            }
            (text, _) => voc::parse(&text?, &path),
        }
    }
}

/// The images that annotations may belong to.
struct Images {
    /// The directory that paths are relative to.
    root: PathBuf,
    /// Paths by their part below the image directory without extension.
    by_path: HashMap<String, Vec<String>>,
    /// Paths by their last part without extension.
    by_stem: HashMap<String, Vec<String>>,
    /// Paths by their part below the image directory without extension, in lower case.
    by_lower_path: HashMap<String, Vec<String>>,
    /// Paths by their last part without extension, in lower case.
    by_lower_stem: HashMap<String, Vec<String>>,
    /// Paths by their last part.
    by_file_name: HashMap<String, Vec<String>>,
}

/// The image of an annotation.
struct ImageOf {
    /// The path, relative to the root of the images.
    path: String,
    /// Whether its name differs from that of the annotation in capitals.
    is_in_other_capitals: bool,
    /// The other image that the annotation names.
    other: Option<String>,
    /// Why another image may be meant.
    contradiction: Option<String>,
}

/// The last part of the file name in an annotation.
fn stated_name(annotated: &VocImage) -> Option<&str> {
    let stated = annotated.file_name.as_deref()?;
    stated.rsplit(['/', '\\']).next()
}

/// The evidence of all annotations together.
struct Annotated<'a> {
    /// The last parts of the names in the split.
    names: HashSet<&'a str>,
    /// The same in lower case.
    lower_names: HashSet<String>,
    /// The number of annotations of all splits that state a file name.
    stated: &'a HashMap<String, usize>,
}

impl<'a> Annotated<'a> {
    fn of(names: &'a [String], stated: &'a HashMap<String, usize>) -> Self {
        let lower_names = names.iter().map(|name| last_part(name).to_lowercase());
        Self {
            names: names.iter().map(|name| last_part(name)).collect(),
            lower_names: lower_names.collect(),
            stated,
        }
    }
}

/// Counts the annotations that state a file name; one that several lists contain is one.
fn stated_names(
    splits: &[VocSplit],
    read: &[Vec<Result<VocImage, DataError>>],
) -> HashMap<String, usize> {
    let mut seen = HashSet::new();
    let mut stated = HashMap::new();
    for (split, annotations) in splits.iter().zip(read) {
        for (name, annotated) in split.names.iter().zip(annotations) {
            let is_new = seen.insert((&split.annotations, name));
            let file_name = annotated.as_ref().ok().and_then(stated_name);
            if let (Some(file_name), true) = (file_name, is_new) {
                *stated.entry(file_name.to_owned()).or_insert(0) += 1;
            }
        }
    }
    stated
}

impl Images {
    /// Lists the images of the first directory that has any.
    fn of(split: &VocSplit) -> Result<Self, DataError> {
        let mut images = Self {
            root: split
                .image_directories
                .first()
                .unwrap_or(&split.annotations)
                .clone(),
            by_path: HashMap::new(),
            by_stem: HashMap::new(),
            by_lower_path: HashMap::new(),
            by_lower_stem: HashMap::new(),
            by_file_name: HashMap::new(),
        };
        // Those of the original layout may not be there yet.
        let directories = split.image_directories.iter();
        for directory in directories.filter(|path| path.is_dir()) {
            for found in images_within(directory)? {
                let path = found.path();
                let key = without_extension(&path);
                let stem = last_part(key);
                for (paths, key) in [
                    (&mut images.by_path, key.to_owned()),
                    (&mut images.by_stem, stem.to_owned()),
                    (&mut images.by_lower_path, key.to_lowercase()),
                    (&mut images.by_lower_stem, stem.to_lowercase()),
                    (&mut images.by_file_name, last_part(&path).to_owned()),
                ] {
                    paths.entry(key).or_default().push(path.clone());
                }
            }
            if !images.by_path.is_empty() {
                images.root.clone_from(directory);
                break;
            }
        }
        Ok(images)
    }

    /// Finds the image of an annotation.
    fn image_of(&self, name: &str, annotated: Option<&VocImage>, all: &Annotated) -> ImageOf {
        let stated = annotated.and_then(stated_name);
        let found = |path: &String| ImageOf {
            path: path.clone(),
            is_in_other_capitals: false,
            other: None,
            contradiction: None,
        };
        // `SPLIT/Annotations/a.xml` belongs to `SPLIT/images/a.jpg`, wherever in the split.
        let by_stem = |stem: &str| only(self.by_stem.get(stem));
        let own = self.by_path.get(name).map(Vec::as_slice);
        let own = own.or_else(|| Some(std::slice::from_ref(by_stem(last_part(name))?)));
        if let Some(own) = own {
            let is_stated = |path: &&String| Some(last_part(path)) == stated;
            return match (own.iter().find(is_stated), own) {
                (Some(path), _) => found(path),
                (None, [path]) => {
                    let other = stated.and_then(|stated| {
                        let named = only(self.by_file_name.get(stated));
                        let other = named.or_else(|| by_stem(without_extension(stated)))?;
                        (other != path).then_some((stated, other))
                    });
                    match other {
                        Some((stated, other)) => named_otherwise(found(path), stated, other, all),
                        None => found(path),
                    }
                }
                (None, several) => ImageOf {
                    contradiction: Some(format!(
                        "{} have its name, and its <filename> is none of them",
                        several.join(" and ")
                    )),
                    ..found(&several[0])
                },
            };
        }
        let lower = name.to_lowercase();
        let alike = self.by_lower_path.get(&lower);
        let alike = alike.or_else(|| self.by_lower_stem.get(last_part(&lower)));
        let (same, alike): (Vec<&String>, Vec<&String>) = alike
            .into_iter()
            .flatten()
            .partition(|path| last_part(without_extension(path)) == last_part(name));
        if let [first, _, ..] = same.as_slice() {
            let names: Vec<&str> = same.iter().map(|path| path.as_str()).collect();
            return ImageOf {
                contradiction: Some(format!("{} have its name", names.join(" and "))),
                ..found(first)
            };
        }
        let is_free = |path: &&String| !all.names.contains(last_part(without_extension(path)));
        let (free, taken): (Vec<&String>, Vec<&String>) = alike.into_iter().partition(is_free);
        let in_other_capitals = |path| ImageOf {
            is_in_other_capitals: true,
            ..found(path)
        };
        match free.as_slice() {
            [] => {}
            [only] => return in_other_capitals(only),
            several => {
                let is_stated = |path: &&&String| {
                    stated.is_some_and(|s| s.eq_ignore_ascii_case(last_part(path)))
                };
                let named: Vec<&&String> = several.iter().filter(is_stated).collect();
                if let [path] = named.as_slice() {
                    return in_other_capitals(path);
                }
                let names: Vec<&str> = several.iter().map(|path| path.as_str()).collect();
                return ImageOf {
                    contradiction: Some(format!(
                        "{} differ from its name in capitals only",
                        names.join(" and ")
                    )),
                    ..found(several[0])
                };
            }
        }
        // Not the image of another annotation: copied files keep the name of the first.
        let of_stated = || {
            let stem = without_extension(stated?);
            let lower = stem.to_lowercase();
            let is_free = !all.names.contains(stem) && !all.lower_names.contains(&lower);
            let path = by_stem(stem).or_else(|| only(self.by_lower_stem.get(&lower)));
            path.filter(|_| is_free)
        };
        if let Some(path) = of_stated() {
            return ImageOf {
                is_in_other_capitals: stated != Some(last_part(path))
                    && stated.is_some_and(|s| s.eq_ignore_ascii_case(last_part(path))),
                ..found(path)
            };
        }
        let missing = match stated {
            Some(stated) if has_image_extension(Path::new(stated)) => stated.to_owned(),
            _ => format!("{name}.jpg"),
        };
        ImageOf {
            contradiction: taken.first().map(|path| {
                let other = without_extension(path);
                format!(
                    "{path} differs from its name in capitals only, but is the image of {other}.xml"
                )
            }),
            ..found(&missing)
        }
    }

    fn len(&self) -> usize {
        self.by_path.values().map(Vec::len).sum()
    }
}

/// Decides about an annotation that names another image than the one with its own name. Several that name one image
/// are copies of its annotation; the only one that names an image may have been renamed.
fn named_otherwise(image: ImageOf, stated: &str, other: &str, all: &Annotated) -> ImageOf {
    let is_copy = all.stated.get(stated).is_some_and(|times| *times > 1);
    let contradiction = (!is_copy).then(|| {
        let path = &image.path;
        format!("its <filename> is {stated}, but {path} has its name; both images exist")
    });
    ImageOf {
        other: Some(other.to_owned()),
        contradiction,
        ..image
    }
}

/// Returns the only one of some paths.
fn only(paths: Option<&Vec<String>>) -> Option<&String> {
    match paths?.as_slice() {
        [path] => Some(path),
        _ => None,
    }
}

/// Describes images that were found by their name in other capitals, or that another image's name is stated for.
fn notes_on(names: &[String], found: &[ImageOf]) -> Vec<String> {
    let with_names = || names.iter().zip(found);
    let capitals: Vec<_> = with_names()
        .filter(|(_, of)| of.is_in_other_capitals)
        .collect();
    // A contradiction is an error of its own.
    let copies: Vec<_> = with_names()
        .filter(|(_, of)| of.contradiction.is_none())
        .filter_map(|(name, of)| Some((name, of.other.as_ref()?)))
        .collect();
    let mut notes = Vec::new();
    if let Some((name, of)) = capitals.first() {
        notes.push(format!(
            "{} found by a name in other capitals than that of the annotation, such as {} for {name}.xml",
            count(capitals.len(), "image"),
            of.path
        ));
    }
    if let Some((name, other)) = copies.first() {
        notes.push(format!(
            "{} with another image as <filename>, such as {other} in {name}.xml: the name of the file is used",
            count(copies.len(), "annotation")
        ));
    }
    notes
}

/// Returns the boxes of objects, and counts what they have besides.
fn boxes_of(
    objects: Vec<VocObject>,
    numbers: &HashMap<&str, usize>,
    dropped: &mut Dropped,
) -> Vec<BoxEntry> {
    let mut boxes = Vec::new();
    for object in objects {
        // The categories are the classes of these annotations.
        let Some(&class) = numbers.get(object.name.as_str()) else {
            continue;
        };
        dropped.add_flags(object.flags);
        for name in &object.others {
            dropped.add(format!("`{name}` elements"), "object", 1);
        }
        boxes.push(BoxEntry {
            class,
            xywh: Some(object.box_in_image.to_xywh()),
            flags: object.flags,
        });
    }
    boxes
}

/// Returns the error about an annotation of an image that another one has, too, with other objects.
fn of_one_image(split: &VocSplit, name: &str, first: &str, image: &str) -> DataError {
    let path = |name: &str| split.annotations.join(format!("{name}.xml"));
    let first = path(first);
    let problem = format!(
        "its image is {image}, which {} annotates with other objects",
        first.display()
    );
    DataError::contradiction(&path(name), problem)
}

/// The entries of a split, and the number of images in its directories that have none.
struct ReadEntries {
    collected: SplitEntries,
    images_without: usize,
}

fn entries(
    split: &VocSplit,
    annotations: Vec<Result<VocImage, DataError>>,
    categories: &[String],
    stated: &HashMap<String, usize>,
    capitals: &AnyCapitals,
) -> Result<ReadEntries, DataError> {
    let images = Images::of(split)?;
    let all = Annotated::of(&split.names, stated);
    let named = split.names.par_iter().zip(&annotations);
    let found: Vec<ImageOf> = named
        .map(|(name, annotated)| images.image_of(name, annotated.as_ref().ok(), &all))
        .collect();
    let sizes: Vec<_> = found
        .par_iter()
        .map(|of| image_size(&images.root.join(&of.path)))
        .collect();
    let numbers: HashMap<&str, usize> = (0..)
        .zip(categories)
        .map(|(number, name)| (name.as_str(), number))
        .collect();
    let mut collected = SplitEntries {
        image_root: images.root.clone(),
        list: split.list.as_ref().map(|list| list.path.clone()),
        categories: categories.to_vec(),
        notes: notes_on(&split.names, &found),
        ..SplitEntries::default()
    };
    collected
        .notes
        .extend(split.list.iter().flat_map(VocList::notes));
    let found = found.into_iter().zip(sizes);
    let mut names: HashSet<&str> = HashSet::new();
    let mut rotated_boxes = 0;
    // The first annotation of each image.
    let mut first_of: HashMap<String, (&str, Vec<VocObject>)> = HashMap::new();
    for (name, (annotated, (of, size))) in
        split.names.iter().zip(annotations.into_iter().zip(found))
    {
        let image = collected.images.len();
        if let (Some((first, objects)), Ok(annotated)) = (first_of.get(&of.path), &annotated)
            && *objects == annotated.objects
            && size.is_ok()
            && *first != name
        {
            // A copy of its annotation.
            continue;
        }
        let problems = &mut collected.problems;
        let mut problem = |error| problems.push(EntryProblem { image, error });
        let name = name.as_str();
        // An error about the path is that of the annotation, too.
        if let Ok(path) = xml_path(split, name, capitals) {
            if let Some(contradiction) = of.contradiction {
                problem(DataError::contradiction(&path, contradiction));
            }
            // `a.xml` and `a.XML`
            if !names.insert(name) {
                let others = file_names(&capitals.twins(&path));
                let both = format!("{others} has the same name in other capitals");
                problem(DataError::contradiction(&path, both));
            }
        }
        let file_name = of.path;
        if let (Ok(annotated), true) = (&annotated, size.is_ok()) {
            match first_of.get(&file_name) {
                Some((first, _)) if *first != name => {
                    problem(of_one_image(split, name, first, &file_name));
                }
                Some(_) => {}
                None => {
                    let objects = annotated.objects.clone();
                    first_of.insert(file_name.clone(), (name, objects));
                }
            }
        }
        // Before the problems of the image: without an annotation, its name is not known.
        let annotated = annotated.map_err(&mut problem).ok();
        let mut size = size.map_err(|error| problem(error.into())).ok();
        if let Some(stated) = annotated.as_ref().and_then(|annotated| annotated.size) {
            let differing = size.replace(stated).filter(|actual| *actual != stated);
            if let Some(decoded) = differing {
                let path = images.root.join(&file_name).display().to_string();
                problem(DataError::size_mismatch(path, decoded, stated));
            }
        }
        let deleted = annotated.as_ref().map_or(0, |found| found.deleted);
        let what = "objects that are marked as deleted";
        collected.dropped.add(what, "object", deleted);
        let objects = annotated.map_or_else(Vec::new, |found| found.objects);
        rotated_boxes += objects.iter().filter(|object| object.is_rotated).count();
        let boxes = boxes_of(objects, &numbers, &mut collected.dropped);
        collected.images.push(SplitImage {
            file_name,
            size,
            boxes,
        });
    }
    collected.notes.extend(described_rotated(rotated_boxes));
    let used: BTreeSet<&str> = collected
        .images
        .iter()
        .map(|i| i.file_name.as_str())
        .collect();
    let images_without = images.len().saturating_sub(used.len());
    Ok(ReadEntries {
        collected,
        images_without,
    })
}

#[cfg(test)]
mod tests;
