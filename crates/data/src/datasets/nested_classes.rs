//! Directories inside those of classes: images that are joined, and classes that are further below.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::annotations::image_files::{DirectoryListing, Found, first_few, holds_images};
use crate::annotations::layout::is_reserved_name;
use crate::datasets::image_folder::{class_directories, is_masks};
use crate::text;

/// The number of classes that a note names.
const SHOWN_CLASSES: usize = 5;

/// Returns the directories within a class down to its images, if the only one with images at each level is called after
/// images: `images`, `jpg`. Empty if there are none.
fn within_images(class: &Path) -> PathBuf {
    /// `images/jpg`
    const DEPTH: usize = 3;
    let mut within = PathBuf::new();
    for _ in 0..DEPTH {
        let path = class.join(&within);
        let listing = DirectoryListing::of(&path);
        let mut inner = listing
            .directories
            .iter()
            .filter(|name| !is_masks(name) && holds_images(&path.join(name)));
        match (inner.next(), inner.next()) {
            (Some(only), None) if is_called_images(only) && listing.images().next().is_none() => {
                within.push(only);
            }
            _ => break,
        }
    }
    within
}

/// Returns the directory of a class's images, see [`within_images`].
pub(super) fn images_of_class(class: &Path) -> PathBuf {
    let within = within_images(class);
    // An empty path would add a separator.
    within
        .iter()
        .fold(class.to_owned(), |path, name| path.join(name))
}

fn is_called_images(name: &str) -> bool {
    const NAMES: [&str; 14] = [
        "images",
        "image",
        "imgs",
        "img",
        "jpegimages",
        "jpg",
        "jpgs",
        "jpeg",
        "jpegs",
        "png",
        "pngs",
        "pictures",
        "photos",
        "pics",
    ];
    NAMES.contains(&name.to_lowercase().as_str())
}

/// Returns the directory of which some directories are all of the [domains](domains_of).
pub(super) fn directory_of_domains(domains: &[&Path]) -> Option<PathBuf> {
    let is_of_images = |path: &&Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        is_called_images(&name)
    };
    let first = domains.first().filter(|path| is_of_images(path))?;
    let domain = first.ancestors().find(|path| !is_of_images(path))?;
    let parent = domain.parent()?;
    // Not all directories above need be searched.
    let are_inside = domains
        .iter()
        .all(|path| is_of_images(path) && path.starts_with(parent));
    let found = are_inside.then(|| domains_of(parent)).flatten()?;
    let found = found.iter().map(PathBuf::as_path);
    found.eq(domains.iter().copied()).then(|| parent.to_owned())
}

/// Returns the directories of classes within those of `parent`, if each has a directory of images with the same several
/// directories: they are domains, and the classes are below.
pub(super) fn domains_of(parent: &Path) -> Option<Vec<PathBuf>> {
    let outer = class_directories(parent).ok()?;
    let outer = outer.iter().map(|name| parent.join(name));
    let (mut domains, mut classes): (Vec<PathBuf>, Option<Vec<String>>) = (Vec::new(), None);
    for path in outer.filter(|path| holds_images(path)) {
        let within = within_images(&path);
        if within.as_os_str().is_empty() {
            return None;
        }
        let domain = path.join(within);
        let mut own = class_directories(&domain).ok()?;
        own.retain(|name| holds_images(&domain.join(name)));
        let is_same = classes.as_ref().is_none_or(|classes| *classes == own);
        if own.len() < 2 || !is_same || DirectoryListing::of(&domain).images().next().is_some() {
            return None;
        }
        classes = Some(own);
        domains.push(domain);
    }
    (domains.len() > 1).then_some(domains)
}

/// Describes the images of directories inside classes that may be classes of their own: they have the names of other
/// classes, several have the names of those in another class, or they are below a directory that is called after images.
pub(super) fn joined_directories(directory: &Path, classes: &[String]) -> Option<String> {
    let inner: Vec<(PathBuf, Vec<String>)> = classes
        .par_iter()
        .map(|class| {
            let within = Path::new(class).join(within_images(&directory.join(class)));
            let listing = DirectoryListing::of(&directory.join(&within));
            // Those beside images are described as such.
            let is_mixed = within != Path::new(class) && listing.images().next().is_some();
            let mut names = listing.directories;
            names.retain(|_| !is_mixed);
            names.retain(|name| !is_reserved_name(name) && !is_masks(name));
            (within, names)
        })
        .collect();
    let of_classes: HashSet<String> = classes.iter().map(|class| class.to_lowercase()).collect();
    let mut seen: HashMap<String, usize> = HashMap::new();
    for name in inner.iter().flat_map(|(_, names)| names) {
        *seen.entry(name.to_lowercase()).or_insert(0) += 1;
    }
    let mut joined = Vec::new();
    for (class, (within, names)) in classes.iter().zip(&inner) {
        let own = class.to_lowercase();
        let is_below_images = within != Path::new(class);
        let is_class = |name: &String| *name != own && of_classes.contains(name);
        let mut found: Vec<&String> = names.iter().collect();
        if !is_below_images {
            found.retain(|name| is_class(&name.to_lowercase()));
            if found.is_empty() {
                found.extend(names.iter().filter(|name| seen[&name.to_lowercase()] > 1));
                if found.len() < 2 {
                    // Classes below superclasses have names of words; videos and persons have numbers.
                    let direct = DirectoryListing::of(&directory.join(class));
                    let is_super = direct.images().next().is_none();
                    let words = names.iter().filter(|name| is_super && is_word(name));
                    found = words.collect();
                }
                if found.len() < 2 {
                    continue;
                }
            }
        }
        let paths = found.into_iter().map(|name| within.join(name));
        let paths = paths.filter(|path| holds_images(&directory.join(path)));
        let paths: Vec<String> = paths.map(|path| path.display().to_string()).collect();
        if !paths.is_empty() {
            let paths = first_few(paths.iter().map(String::as_str));
            joined.push(format!("{paths} joined as class {class}"));
        }
    }
    // Domains and folds.
    let has_same = |(_, names): &(PathBuf, Vec<String>)| names.len() > 1 && *names == inner[0].1;
    let all_same = inner.len() > 1 && inner.iter().all(has_same);
    let same = all_same.then(|| {
        let names = first_few(inner[0].1.iter().map(String::as_str));
        format!("; if {names} are the classes, each of the others is a dataset of its own")
    });
    described(directory, &joined).map(|text| text + &same.unwrap_or_default())
}

/// Returns whether a name may be that of a class: longer than an abbreviation, and without a digit.
fn is_word(name: &str) -> bool {
    const SHORTEST: usize = 3;
    name.chars().count() >= SHORTEST && !name.chars().any(|letter| letter.is_ascii_digit())
}

/// Describes the classes with images beside directories of images, which are joined.
pub(super) fn images_around_directories(
    directory: &Path,
    classes: &[String],
    of_class: &[Vec<Found>],
) -> Option<String> {
    let of_classes = classes.iter().zip(of_class);
    let joined = of_classes.filter_map(|(class, images)| {
        // All may be below a directory of images.
        let outer = images.first().map(|image| image.within.as_str())?;
        let is_around = |image: &Found| Path::new(&image.within).starts_with(outer);
        let is_inner = |image: &&Found| image.within != outer;
        if !images.iter().all(is_around) {
            return None;
        }
        let inner = images.iter().filter(is_inner).filter_map(|image| {
            let below = Path::new(&image.within).strip_prefix(outer).ok()?;
            below.iter().next()
        });
        let place = match outer {
            "" => class.clone(),
            outer => format!("{class}/{outer}"),
        };
        let inner: BTreeSet<String> = inner
            .map(|name| format!("{place}/{}", name.display()))
            .collect();
        let inner = first_few(inner.iter().map(String::as_str));
        (!inner.is_empty()).then(|| format!("{place}, {inner} joined as class {class}"))
    });
    let joined: Vec<String> = joined.collect();
    described(directory, &joined)
}

/// Joins the descriptions of the first classes.
fn described(directory: &Path, joined: &[String]) -> Option<String> {
    let shown: Vec<&str> = joined
        .iter()
        .take(SHOWN_CLASSES)
        .map(String::as_str)
        .collect();
    let shown = shown.join("; ");
    let more = match joined.len().saturating_sub(SHOWN_CLASSES) {
        0 => String::new(),
        more => format!(", and those of {}", text::count(more, "further class")),
    };
    (!joined.is_empty()).then(|| format!("{}: images of {shown}{more}", directory.display()))
}
