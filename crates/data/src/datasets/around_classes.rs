//! Lists around a directory of classes, which are not read.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use crate::annotations::image_files::{DirectoryListing, holds_images_in};
use crate::annotations::layout::is_reserved_name;
use crate::annotations::split_lists::{ImageNames, divides_images, is_place_of_lists};
use crate::annotations::stray_boxes::holds_boxes;

/// Returns the tables around a directory of classes that divide its images or have their boxes, as in CUB-200: relative to
/// the directory around it, and in the directories there that have no images, such as Food-101's `meta`. A directory with
/// images is another dataset, and a table that is called after it is not about these images. `images` names them, given
/// the name of the directory.
pub(super) fn lists_above(root: &Path, images: &dyn Fn(&str) -> ImageNames) -> Vec<String> {
    /// A directory with more is not about one dataset.
    const FILES: usize = 200;
    const DIRECTORIES: usize = 50;
    /// A dataset has images in one of the first.
    const SEARCHED: usize = 200;
    let above = root.join("..");
    let listing = DirectoryListing::of(&above);
    let own = root.canonicalize().ok();
    let name = own.as_deref().and_then(Path::file_name).unwrap_or_default();
    let name = name.to_string_lossy();
    let names: OnceCell<ImageNames> = OnceCell::new();
    let others = listing.directories.iter();
    let others = others.filter(|name| above.join(name).canonicalize().ok() != own);
    let are_few = listing.directories.len() <= DIRECTORIES;
    let is_usual =
        |name: &str| is_place_of_lists(Path::new(name)) || name.eq_ignore_ascii_case("labels");
    let (mut datasets, mut lists) = (Vec::new(), Vec::new());
    for name in others.filter(|name| are_few || is_usual(name)) {
        match holds_images_in(&above.join(name), SEARCHED) {
            Some(true) => datasets.push(name),
            Some(false) => lists.push(name),
            // It has other things.
            None => {}
        }
    }
    datasets.retain(|name| !is_reserved_name(name));
    let images = || {
        let others = || datasets.iter().map(|name| name.as_str());
        names.get_or_init(|| images(&name).without_datasets(others()))
    };
    // Folds are in directories of their own.
    let inner = lists.iter().flat_map(|name| {
        let names = DirectoryListing::of(&above.join(name)).directories;
        let names = names.into_iter().take(DIRECTORIES);
        names.map(move |inner| Path::new(name).join(inner))
    });
    let places = [PathBuf::new()]
        .into_iter()
        .chain(lists.iter().map(PathBuf::from))
        .chain(inner);
    let found = places.flat_map(|place| {
        let mut files = DirectoryListing::of(&above.join(&place)).files;
        if files.len() > FILES {
            files.clear();
        }
        files.into_iter().map(move |name| place.join(name))
    });
    let found = found.filter(|below| {
        let path = above.join(below);
        !is_called_after_another(below, &name, &datasets)
            && (divides_images(&path, &images) || holds_boxes(&path, &images))
    });
    let mut found: Vec<String> = found.map(|name| name.display().to_string()).collect();
    found.sort();
    found
}

/// Returns whether the words of a path have those of another dataset's name, and not of a longer own one.
fn is_called_after_another(path: &Path, own: &str, others: &[&String]) -> bool {
    let path = path.with_extension("");
    let words = words_of(&path.to_string_lossy());
    // The length of a name that is in the path.
    let length = |name: &str| {
        let name = words_of(name);
        let is_there = !name.is_empty() && words.windows(name.len()).any(|part| *part == *name);
        is_there.then(|| name.iter().map(String::len).sum::<usize>())
    };
    let other = others.iter().filter_map(|name| length(name)).max();
    other > length(own)
}

fn words_of(name: &str) -> Vec<String> {
    let name = name.to_lowercase();
    let words = name.split(|character: char| !character.is_alphanumeric());
    let words = words.filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_is_called_after_another_dataset_is_that_of_it() {
        let others = ["flowers_2", "B"].map(str::to_owned);
        let others: Vec<&String> = others.iter().collect();
        for (path, expected) in [
            ("B_split.csv", true),
            ("splits/b.csv", true),
            ("b/train.txt", true),
            ("flowers-2.csv", true),
            ("flowers.csv", false),
            ("flowers_split.csv", false),
            ("abb.csv", false),
            ("split.csv", false),
        ] {
            let found = is_called_after_another(Path::new(path), "flowers", &others);
            assert_eq!(found, expected, "{path}");
        }
    }
}
