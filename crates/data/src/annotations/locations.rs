//! Locations of the files of a split: its annotation file, and the directory of its images.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::annotations::file_names::{AnyCapitals, FileMatch, MatchedNames};
use crate::annotations::format::{DIVISIONS, Format, FoundSplits, ListedImage, SplitFiles};
use crate::annotations::image_files::{DirectoryListing, images_within};
use crate::annotations::layout::{LayoutError, Split, join};
use crate::annotations::named_splits::{
    NamesDivide, SplitsOfNames, may_have_field, may_name_splits,
};
use crate::annotations::same_content::are_all_the_same;
use crate::{DataError, Remedy};

impl FoundSplits {
    /// Returns the splits of a format with one annotation file for each split, or none without files.
    pub(super) fn of_files(format: Format, root: &Path, found: FoundFiles) -> Option<Self> {
        let reason = join(found.of_splits.iter().map(|(_, file)| below(root, file)));
        let unused = found.unused.iter().map(|file| below(root, file)).collect();
        let of_splits = found.of_splits.into_iter();
        let splits = of_splits.map(|(split, annotations)| SplitFiles {
            format,
            split,
            image_directories: image_directories(root, &annotations, split),
            annotations,
            is_part: false,
        });
        let splits: Vec<SplitFiles> = splits.collect();
        (!splits.is_empty()).then_some(Self {
            splits,
            reason,
            unused,
            lists: Vec::new(),
        })
    }

    /// Divides the only annotation file, whose own name denotes no split, by the directories of splits in the names of its
    /// images. `given` is the directory or file that was given: what is around it has no say, as it may be called `train`.
    ///
    /// # Errors
    /// Some of the names have such a directory, and others none.
    pub(super) fn divided_by_names(mut self, given: &Path) -> Result<Self, DataError> {
        let [only] = self.splits.as_slice() else {
            return Ok(self);
        };
        let path = &only.annotations;
        if !path.is_file()
            || stated_split_below(given, path).is_some()
            || !(may_name_splits(path) || may_have_field(path, &DIVISIONS))
        {
            return Ok(self);
        }
        // What is wrong with the file is reported when it is read.
        let Some(images) = only.format.images_listed_in(path) else {
            return Ok(self);
        };
        let names: Vec<&str> = images.iter().map(|image| image.name.as_str()).collect();
        let (splits, by) = match SplitsOfNames::of(&names).divide(&names) {
            NamesDivide::No => match splits_of_fields(&images) {
                Some(splits) => (splits, "the splits that it names for them"),
                None => return Ok(self),
            },
            NamesDivide::Splits(splits) => (splits, "the directories in the names of its images"),
            NamesDivide::Partly { splits, without } => {
                let (without, first) = without;
                let problem = format!(
                    "by their names, images are in no directory of a split ({without} of {}, such as {first}) and in those \
                     of {}",
                    names.len(),
                    join(splits.iter())
                );
                return Err(DataError::labels(path, problem).with(Remedy::NameSplits));
            }
        };
        self.reason += &format!(", divided by {by}");
        let root = if given.is_file() {
            directory_of_dataset(given)
        } else {
            given
        };
        let whole = only.with_directories_of(root);
        let parts = splits.into_iter().map(|split| whole.part(root, split));
        self.splits = parts.collect();
        Ok(self)
    }
}

/// The annotation files of a directory in a format with one file for each split.
#[derive(Debug, Default)]
pub(super) struct FoundFiles {
    /// The splits that exist, each with its file.
    pub(super) of_splits: Vec<(Split, PathBuf)>,
    /// Other files with annotations in the format.
    pub(super) unused: Vec<PathBuf>,
}

impl FoundFiles {
    /// Adds the only file of a split, if there is one. Of files with the same bytes, the first is the one.
    ///
    /// # Errors
    /// There are several.
    pub(super) fn add_only(
        &mut self,
        root: &Path,
        split: Split,
        files: Vec<PathBuf>,
    ) -> Result<(), LayoutError> {
        if files.len() > 1 && !are_all_the_same(&files) {
            return Err(LayoutError::Ambiguous {
                root: root.to_owned(),
                split,
                found: join(files.iter().map(|file| below(root, file))),
            });
        }
        let first = files.into_iter().next();
        self.of_splits.extend(first.map(|file| (split, file)));
        Ok(())
    }
}

/// Returns the path of a file relative to the directory of its dataset.
fn below(root: &Path, file: &Path) -> String {
    let name = file.strip_prefix(root).unwrap_or(file);
    name.display().to_string()
}

impl SplitFiles {
    /// Describes an annotation file of a format with one file for each split on its own.
    ///
    /// The split follows from the file's name, and is train if it names none. Images are in `images`,
    /// or else around the file.
    pub fn of_file(format: Format, annotations: &Path, images: Option<&Path>) -> Self {
        let stem = annotations.file_stem().unwrap_or_default();
        let stem = stem.to_string_lossy();
        let directory = annotations.parent().unwrap_or(Path::new(""));
        let directory_name = directory.file_name().unwrap_or_default().to_string_lossy();
        let around = Split::of_name(&directory_name);
        let split = stated_split(annotations).unwrap_or(Split::Train);
        let is_in_annotations = directory_name.eq_ignore_ascii_case("annotations");
        let root = if is_in_annotations || around.is_some() {
            directory.parent().unwrap_or(directory)
        } else {
            directory
        };
        let image_directories = match images {
            Some(images) => vec![images.to_owned()],
            None => {
                // `instances_mine.json` may describe the images of `mine`.
                let named = stem.strip_prefix("instances_").unwrap_or(&stem);
                let mut directories = image_directories(root, annotations, split);
                let named = [root.join(named), root.join("images").join(named)];
                directories.extend(named.into_iter().filter(|directory| directory.is_dir()));
                directories
            }
        };
        Self {
            format,
            split,
            annotations: annotations.to_owned(),
            image_directories,
            is_part: false,
        }
    }

    /// Looks for the images first in a directory whose own name may be that of a split.
    fn with_directories_of(&self, root: &Path) -> Self {
        let mut directories = image_directories(root, &self.annotations, self.split);
        let others = self.image_directories.iter();
        let others = others.filter(|path| !directories.contains(path));
        let others: Vec<PathBuf> = others.cloned().collect();
        directories.extend(others);
        Self {
            image_directories: directories,
            ..self.clone()
        }
    }

    /// Returns the part of a split of an annotation file with several, in the dataset of a directory.
    fn part(&self, root: &Path, split: Split) -> Self {
        let split_of = |path: &Path| {
            let name = (path != root).then(|| last_part_of(path))?;
            Split::in_name(&name)
        };
        let around = self.split_directories_around().into_iter();
        let own = around.filter(|path| path.starts_with(root) && split_of(path) == Some(split));
        let directories = self.image_directories.iter().cloned();
        // Without a directory in its name, an image could be found in that of another split.
        let is_within = |path: &PathBuf| {
            let mut places = self.image_directories.iter();
            places.any(|place| path.parent() == Some(place))
        };
        let others = directories
            .filter(|path| !is_within(path) || split_of(path).is_none_or(|of| of == split));
        Self {
            split,
            image_directories: own.chain(others).collect(),
            is_part: true,
            ..self.clone()
        }
    }

    /// Returns whether each of the images of an annotation file is of this split, by their names; None if all are.
    pub(crate) fn own_images<S: AsRef<str>>(&self, names: &[S]) -> Option<Vec<bool>> {
        let splits = self.is_part.then(|| SplitsOfNames::of(names))?;
        let own = names
            .iter()
            .map(|name| splits.split_of(name.as_ref()) == Some(self.split));
        Some(own.collect())
    }

    /// Returns the ids of the images of other splits in the annotation file.
    pub(crate) fn ids_of_others(&self, images: &[ListedImage]) -> HashSet<u64> {
        let names: Vec<&str> = images.iter().map(|image| image.name.as_str()).collect();
        let own = match SplitsOfNames::of(&names).divide(&names) {
            NamesDivide::No if self.is_part => {
                let own = images.iter().map(|image| image.split == Some(self.split));
                own.collect()
            }
            _ => self.own_images(&names).unwrap_or_default(),
        };
        let others = images.iter().zip(own).filter(|(_, is_own)| !is_own);
        others.filter_map(|(image, _)| image.id).collect()
    }

    /// Returns the split that the annotation file denotes; None for one that may have the images of any.
    fn stated_split(&self) -> Option<Split> {
        let of_part = self.is_part.then_some(self.split);
        of_part.or_else(|| stated_split(&self.annotations))
    }

    /// Finds the images of an annotation file by their names; None if no directory contains any of them.
    ///
    /// # Errors
    /// Directories of several splits have different images of these names, and nothing says which are meant; or each has
    /// a part of the images only.
    pub(crate) fn find_images<S: AsRef<str>>(
        &self,
        names: &[S],
    ) -> Result<Option<FoundImages>, DataError> {
        if let Some(error) = self.scattered_images(names) {
            return Err(error);
        }
        // A file that names no split may be that of another than train.
        let around = match self.stated_split() {
            Some(_) => Vec::new(),
            None => self.split_directories_around(),
        };
        let elsewhere = || {
            let of_others = Self {
                image_directories: around.clone(),
                ..self.clone()
            };
            of_others.locate(names)
        };
        let Some(Located { directory, reading }) = self.locate(names).or_else(elsewhere) else {
            return Ok(None);
        };
        let read: Vec<String> = names
            .iter()
            .map(|name| reading.apply(name.as_ref()).into_owned())
            .collect();
        let mut pairs = names.iter().map(AsRef::as_ref).zip(&read);
        let example = pairs.find(|(name, read)| name != read);
        let of_reading = reading.note().zip(example);
        let of_reading = of_reading.map(|(note, (name, _))| format!("{note}, such as {name}"));
        let (directory, other_images) = self.decide(directory, &read, &around)?;
        let matched = MatchedNames::of(&directory, read);
        let notes = [of_reading, matched.note(names)];
        Ok(Some(FoundImages {
            directory,
            notes: notes.into_iter().flatten().collect(),
            other_images,
            matched,
        }))
    }

    /// Returns the directories of splits that may have the images; none if the name of the annotation file decides between
    /// them.
    pub(crate) fn possible_splits(&self) -> Vec<PathBuf> {
        if self.stated_split().is_some() || self.image_directories.len() < 2 {
            return Vec::new();
        }
        let around = self.split_directories_around();
        let mut found: Vec<PathBuf> = self
            .image_directories
            .iter()
            .chain(&around)
            .cloned()
            .collect();
        found.retain(|path| Split::in_name(&last_part_of(path)).is_some());
        found
    }

    /// Returns the error about images that are in the directories of several splits, where no directory has all of them:
    /// one file denotes the images of one directory.
    pub(crate) fn scattered_images<S: AsRef<str>>(&self, names: &[S]) -> Option<DataError> {
        let of_splits = self.possible_splits();
        if of_splits.len() < 2 || SplitsOfNames::of(names).divide(names) != NamesDivide::No {
            return None;
        }
        let capitals = AnyCapitals::default();
        let has = |directory: &Path, name: &str| {
            capitals.file(directory, &directory.join(name)) != FileMatch::Missing
        };
        for reading in NameReading::ALL {
            let names = names.iter().map(|name| reading.apply(name.as_ref()));
            let names: Vec<Cow<'_, str>> = names.collect();
            let others = self.image_directories.iter();
            let mut others = others.filter(|path| !of_splits.contains(path));
            // A less literal reading would not be used.
            if others.any(|directory| names.iter().any(|name| has(directory, name))) {
                return None;
            }
            // The names that no directory has so far.
            let mut left: Vec<&str> = names.iter().map(|name| &**name).collect();
            let mut used = Vec::new();
            for directory in &of_splits {
                if names.iter().all(|name| has(directory, name)) {
                    return None;
                }
                let before = left.len();
                left.retain(|name| !has(directory, name));
                used.extend((left.len() < before).then(|| directory.display().to_string()));
            }
            if left.is_empty() && used.len() > 1 {
                let problem = format!(
                    "its images are in {}, and neither their names nor that of the file say which are in which",
                    used.join(" and ")
                );
                return Some(
                    DataError::labels(&self.annotations, problem).with(Remedy::NameSplits),
                );
            }
        }
        None
    }

    /// Returns the directory of the images, which is the first one or another that has other images under the same names,
    /// with a note that names one of the others.
    ///
    /// The only directory that has all of the images is the one. Otherwise, the name of the annotation file decides. A
    /// file that names no split may be that of one of the directories `around`.
    fn decide(
        &self,
        first: PathBuf,
        names: &[String],
        around: &[PathBuf],
    ) -> Result<(PathBuf, Option<String>), DataError> {
        let capitals = AnyCapitals::default();
        let has_all = |directory: &Path| {
            let mut paths = names.iter().map(|name| directory.join(name));
            paths.all(|path| capitals.file(directory, &path) != FileMatch::Missing)
        };
        let whole_of = |directories: &[&PathBuf]| {
            let mut whole: Vec<PathBuf> = Vec::new();
            for directory in directories.iter().filter(|path| has_all(path)) {
                if !whole.contains(directory) {
                    whole.push((*directory).clone());
                }
            }
            whole
        };
        let note = |used: &Path, other: &Path, has: &str| {
            let (used, other) = (used.display(), other.display());
            format!("the images of {used} are used; {other} has {has}")
        };
        const OTHERS: &str = "others under the same names";
        let siblings: Vec<PathBuf> = match self.stated_split() {
            Some(_) => Vec::new(),
            None => split_directories_beside(&first),
        };
        let candidates = self.image_directories.iter().chain(&siblings);
        let others: Vec<&PathBuf> = candidates
            .filter(|other| have_different_images(&first, other, names))
            .collect();
        if others.is_empty() {
            let has = "not all of these names";
            if around.contains(&first) {
                // The directories of the split that such a file denotes have none of the images.
                let of_split = |path: &&PathBuf| Split::in_name(&last_part_of(path)).is_some();
                let other = self.image_directories.iter().find(of_split);
                let other = other.map(|other| note(&first, other, "none of these names"));
                return Ok((first, other));
            }
            if around.is_empty() || has_all(&first) {
                return Ok((first, None));
            }
            let candidates: Vec<&PathBuf> = self.image_directories.iter().chain(around).collect();
            return Ok(match whole_of(&candidates).as_slice() {
                [only] => (only.clone(), Some(note(only, &first, has))),
                _ => (first, None),
            });
        }
        let whole = whole_of(&others);
        let first_is_whole = has_all(&first);
        if let [only] = whole.as_slice()
            && !first_is_whole
        {
            return Ok((only.clone(), Some(note(only, &first, OTHERS))));
        }
        let others: Vec<PathBuf> = others.into_iter().cloned().collect();
        let rivals = if first_is_whole { &whole } else { &others };
        if let Some(rival) = rivals.iter().find(|rival| siblings.contains(rival)) {
            let (first, rival) = (first.display(), rival.display());
            let problem = format!(
                "{first} and {rival} have different images of these names, and the name of the file has no split"
            );
            return Err(DataError::contradiction(&self.annotations, problem));
        }
        let note = others.first().map(|other| note(&first, other, OTHERS));
        Ok((first, note))
    }

    /// Returns the directories of splits in and beside those that may contain the images.
    fn split_directories_around(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = Vec::new();
        for directory in &self.image_directories {
            let names = DirectoryListing::of(directory).directories.into_iter();
            let names = names.filter(|name| Split::in_name(name).is_some());
            let within = names.map(|name| directory.join(name));
            // Whoever gives one directory of a split means no other.
            let beside = match self.image_directories.as_slice() {
                [_] => Vec::new(),
                _ => split_directories_beside(directory),
            };
            for path in within.chain(beside) {
                if !found.contains(&path) && !self.image_directories.contains(&path) {
                    found.push(path);
                }
            }
        }
        found
    }

    /// Finds the directory of the images.
    ///
    /// A directory that contains one of the first names as it is written is taken: a missing file
    /// does not make a directory wrong; the loader reports it. If no directory contains any, the
    /// names are read in the other ways of [`NameReading`], and then all of them in any capitals.
    fn locate<S: AsRef<str>>(&self, names: &[S]) -> Option<Located> {
        let capitals = AnyCapitals::default();
        let is_exact = |_: &Path, path: &Path| path.is_file();
        let is_alike =
            |directory: &Path, path: &Path| capitals.file(directory, path) != FileMatch::Missing;
        self.located_by(names, &is_exact)
            .or_else(|| self.located_by(names, &is_alike))
    }

    /// Finds the directory that contains one of the first names, in the first reading for which there is one.
    /// `contains` gets a directory and a path in it.
    fn located_by<S: AsRef<str>>(
        &self,
        names: &[S],
        contains: &dyn Fn(&Path, &Path) -> bool,
    ) -> Option<Located> {
        let tried = &names[..names.len().min(TRIED_NAMES)];
        for reading in NameReading::ALL {
            let mut read = tried.iter().map(|name| reading.apply(name.as_ref()));
            let directory = read.find_map(|name| {
                let mut directories = self.image_directories.iter();
                directories.find(|directory| contains(directory, &directory.join(&*name)))
            });
            if let Some(directory) = directory
                && reading.is_unambiguous(names)
            {
                return Some(Located {
                    directory: directory.clone(),
                    reading,
                });
            }
        }
        None
    }

    /// Returns the error about images that [`Self::find_images`] did not find.
    pub(crate) fn images_not_found(&self, name: &str) -> LayoutError {
        let directories = self.image_directories.iter();
        let mut expected_in = join(directories.map(|directory| directory.display()));
        let instead = SimilarImages::within(&self.image_directories).of(name);
        if let Some(similar) = &instead {
            expected_in += &format!("; {similar}");
        }
        LayoutError::NoImageFiles {
            annotations: self.annotations.clone(),
            image: name.into(),
            expected_in: expected_in.into(),
            is_renamed: instead.is_some(),
        }
    }
}

/// Returns whether two directories have different images under one of the first names.
fn have_different_images(directory: &Path, other: &Path, names: &[String]) -> bool {
    let tried = &names[..names.len().min(TRIED_NAMES)];
    let mut pairs = tried
        .iter()
        .map(|name| [directory.join(name), other.join(name)]);
    pairs.any(|pair| {
        let are_two = pair.iter().all(|path| path.is_file())
            && pair[0].canonicalize().ok() != pair[1].canonicalize().ok();
        are_two && !are_all_the_same(&pair)
    })
}

fn last_part_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Returns the split that the name of an annotation file, or else that of its directory, denotes.
fn stated_split(annotations: &Path) -> Option<Split> {
    let name = |part: Option<&OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let around = annotations.parent().and_then(Path::file_name);
    Split::in_name(&name(annotations.file_stem())).or_else(|| Split::of_name(&name(around)))
}

/// As [`stated_split`] for what was given: its own directory, or that of the only file, says nothing.
fn stated_split_below(given: &Path, annotations: &Path) -> Option<Split> {
    let around = annotations.parent();
    if given == annotations || around == Some(given) {
        let name = annotations.file_stem().unwrap_or_default();
        Split::in_name(&name.to_string_lossy())
    } else {
        stated_split(annotations)
    }
}

/// Returns the directory of the dataset of a file that was given alone.
fn directory_of_dataset(annotations: &Path) -> &Path {
    let directory = annotations.parent().unwrap_or(Path::new(""));
    match directory.file_name() {
        Some(name) if name.eq_ignore_ascii_case("annotations") => {
            directory.parent().unwrap_or(directory)
        }
        _ => directory,
    }
}

/// Returns the directories of splits beside one of a split.
fn split_directories_beside(directory: &Path) -> Vec<PathBuf> {
    let parts = (directory.parent(), directory.file_name());
    let (Some(around), Some(name)) = parts else {
        return Vec::new();
    };
    let Some(split) = Split::in_name(&name.to_string_lossy()) else {
        return Vec::new();
    };
    let names = DirectoryListing::of(around).directories.into_iter();
    let others = names.filter(|name| Split::in_name(name).is_some_and(|other| other != split));
    others.map(|name| around.join(name)).collect()
}

/// The images in and below some directories, by the parts of their names that they may share with the name of a missing
/// one.
pub(crate) struct SimilarImages {
    /// By the file name in lower case.
    by_name: HashMap<String, Vec<PathBuf>>,
    /// By the file name without its extension, in lower case.
    by_stem: HashMap<String, Vec<PathBuf>>,
}

impl SimilarImages {
    /// Lists the images. A directory that cannot be read has none.
    pub(crate) fn within(directories: &[PathBuf]) -> Self {
        let (mut by_name, mut by_stem) = (HashMap::new(), HashMap::new());
        let mut seen = HashSet::new();
        for directory in directories {
            for found in images_within(directory).unwrap_or_default() {
                let path = directory.join(found.path());
                if !seen.insert(path.clone()) {
                    continue;
                }
                let name = found.name.to_lowercase();
                let stem = stem_of(&name).to_owned();
                let add = |map: &mut HashMap<String, Vec<PathBuf>>, key| {
                    map.entry(key).or_default().push(path.clone());
                };
                add(&mut by_stem, stem);
                add(&mut by_name, name);
            }
        }
        Self { by_name, by_stem }
    }

    /// Describes the images that a missing name may mean: those with the same name in another directory, with another
    /// extension, or without what Label Studio puts before names. None if there are none.
    pub(crate) fn of(&self, name: &str) -> Option<String> {
        const SHOWN: usize = 2;
        let last = NameReading::LastPart.apply(name).to_lowercase();
        let without_prefix = without_hash(&last);
        let by_stem = |name: &str| self.by_stem.get(stem_of(name));
        let (found, how) = None
            .or_else(|| {
                self.by_name
                    .get(&last)
                    .map(|found| (found, "in another place"))
            })
            .or_else(|| by_stem(&last).map(|found| (found, "with another extension")))
            .or_else(|| {
                let found = by_stem(without_prefix?)?;
                Some((found, "without the prefix that Label Studio adds"))
            })?;
        let shown = found.iter().take(SHOWN).map(|path| path.display());
        let more = found.len().saturating_sub(SHOWN);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        let exist = if found.len() == 1 { "exists" } else { "exist" };
        Some(format!("{}{more} {exist}, {how}", join(shown)))
    }
}

fn stem_of(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// Returns a name without the eight hexadecimal digits and the hyphen that Label Studio puts before it.
pub(crate) fn without_hash(name: &str) -> Option<&str> {
    let (hash, rest) = name.split_once('-')?;
    (hash.len() == 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(rest)
}

/// The number of names by which the directory of the images is found.
const TRIED_NAMES: usize = 100;

/// The images of an annotation file.
#[derive(Debug)]
pub(crate) struct FoundImages {
    /// The directory that the names are relative to.
    pub(crate) directory: PathBuf,
    /// The names of the files.
    pub(crate) matched: MatchedNames,
    /// How the names differ from the written ones, one line each.
    pub(crate) notes: Vec<String>,
    /// The note on another directory with other images under the same names.
    pub(crate) other_images: Option<String>,
}

/// The location of the images of an annotation file.
struct Located {
    directory: PathBuf,
    reading: NameReading,
}

/// The reading of the file name of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameReading {
    /// As it is written.
    AsWritten,
    /// With `/` for `\`, which Windows programs write.
    Slashes,
    /// Without spaces at the ends, and with `/`.
    Trimmed,
    /// The part after the last `/` or `\`: annotation servers write their own paths or URLs.
    LastPart,
}

impl NameReading {
    /// All readings, the most literal first.
    const ALL: [Self; 4] = [
        Self::AsWritten,
        Self::Slashes,
        Self::Trimmed,
        Self::LastPart,
    ];

    /// Returns the name of the file.
    pub(crate) fn apply(self, name: &str) -> Cow<'_, str> {
        match self {
            Self::AsWritten => Cow::Borrowed(name),
            Self::Slashes => Cow::Owned(name.replace('\\', "/")),
            Self::Trimmed => Cow::Owned(name.trim().replace('\\', "/")),
            Self::LastPart => Cow::Borrowed(name.rsplit(['/', '\\']).next().unwrap_or(name)),
        }
    }

    /// Returns whether no two images would have the same name.
    fn is_unambiguous<S: AsRef<str>>(self, names: &[S]) -> bool {
        let mut seen = HashSet::new();
        self != Self::LastPart
            || names
                .iter()
                .all(|name| seen.insert(self.apply(name.as_ref())))
    }

    /// Describes the difference from the written names for a note; None if there is none.
    pub(crate) fn note(self) -> Option<&'static str> {
        match self {
            Self::AsWritten => None,
            Self::Slashes => Some("image names are written with \\ and read with /"),
            Self::Trimmed => {
                Some("image names have spaces at their ends and are read without them")
            }
            Self::LastPart => Some(
                "image names lead elsewhere; the images were found by the last part of the name",
            ),
        }
    }
}

/// Returns the splits that a file names for its images; None if it names one only, or none for some.
fn splits_of_fields(images: &[ListedImage]) -> Option<Vec<Split>> {
    let named: HashSet<Split> = images
        .iter()
        .map(|image| image.split)
        .collect::<Option<_>>()?;
    let mut splits = Split::ALL.to_vec();
    splits.retain(|split| named.contains(split));
    (splits.len() > 1).then_some(splits)
}

/// Returns the existing directories that may contain the images of an annotation file, most likely
/// first.
pub(crate) fn image_directories(root: &Path, annotations: &Path, split: Split) -> Vec<PathBuf> {
    let listing = DirectoryListing::of(root);
    let images = listing.directory(&["images", "imgs"]);
    let mut directories = Vec::new();
    for parent in [Some(root.to_owned()), images.clone()]
        .into_iter()
        .flatten()
    {
        let listing = DirectoryListing::of(&parent);
        for name in split.names() {
            directories.extend(listing.directory(&[&format!("{name}2017")]));
            directories.extend(listing.directory(&[name]));
        }
        // `train2014`, `train_images`
        let named = listing.directories.iter();
        let named = named.filter(|name| Split::in_name(name) == Some(split));
        directories.extend(named.map(|name| parent.join(name)));
    }
    if let Some(directory) = annotations.parent().filter(|parent| *parent != root) {
        // FiftyOne writes `train/labels.json` and `train/data/`.
        directories.extend(DirectoryListing::of(directory).directory(&["data"]));
        directories.extend(DirectoryListing::of(directory).directory(&["images"]));
    }
    if let Some(images) = &images {
        // CVAT names the only subset so.
        directories.extend(DirectoryListing::of(images).directory(&["default"]));
    }
    directories.extend(images);
    directories.extend(listing.directory(&["JPEGImages"]));
    directories.extend(listing.directory(&["data"]));
    directories.extend(annotations.parent().map(Path::to_owned));
    directories.push(root.to_owned());
    let mut unique: Vec<PathBuf> = Vec::new();
    for directory in directories {
        if !unique.contains(&directory) {
            unique.push(directory);
        }
    }
    unique
}
