//! Names of images in written annotations.

use std::collections::{HashMap, HashSet};
use std::path::{Component, MAIN_SEPARATOR, Path, PathBuf};

use crate::annotations::format::SplitAnnotations;
use crate::directory::common_root;

/// Returns a name behind the path of a directory, with `/` between them.
pub(super) fn joined(prefix: &str, name: &str) -> String {
    // An absolute name leads to its file from anywhere.
    if Path::new(name).is_absolute() {
        return name.to_owned();
    }
    format!("{}/{name}", prefix.trim_end_matches('/'))
}

/// Returns the paths from one directory to another: relative if they have more in common than the root, and
/// absolute. Empty if one of them does not exist or is not Unicode.
pub(super) fn paths_to(from: &Path, to: &Path) -> Vec<String> {
    let from = if from.as_os_str().is_empty() {
        Path::new(".")
    } else {
        from
    };
    let real = to.canonicalize().ok();
    let relative = real.as_ref().zip(from.canonicalize().ok());
    let relative = relative.and_then(|(to, from)| relative_path(&from, to));
    let text = |path: PathBuf| {
        let text = path.to_str()?.replace(MAIN_SEPARATOR, "/");
        (!text.is_empty()).then_some(text)
    };
    let paths = [relative, real].into_iter().flatten();
    paths.filter_map(text).collect()
}

/// Returns the path from one real, absolute directory to another; None if they have nothing in common.
fn relative_path(from: &Path, to: &Path) -> Option<PathBuf> {
    let (from, to): (Vec<Component>, Vec<Component>) =
        (from.components().collect(), to.components().collect());
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    // Only the root is no common place.
    if common < 2 {
        return None;
    }
    let up = from[common..].iter().map(|_| Component::ParentDir);
    Some(up.chain(to[common..].iter().copied()).collect())
}

/// Returns the names of the images of a split in a written directory: relative, with `/` between the parts, without
/// `..`, each once.
///
/// The images that are named outside of the directory of the images, with absolute paths or `..`, get their path below
/// the directory that contains all of them.
pub(super) fn names_within(read: &SplitAnnotations) -> Vec<String> {
    let names = (0..read.store.image_count()).map(|index| read.store.image(index).file_name);
    let inner: Vec<Option<String>> = names.clone().map(inside).collect();
    let outer: Vec<Option<PathBuf>> = names
        .zip(&inner)
        .map(|(name, inner)| match inner {
            Some(_) => None,
            None => Some(without_parents(&read.image_root.join(name))),
        })
        .collect();
    let directories = outer.iter().flatten().filter_map(|path| path.parent());
    let common = common_root(directories);
    let mut taken: HashSet<String> = inner.iter().flatten().cloned().collect();
    let mut name_of: HashMap<PathBuf, String> = HashMap::new();
    for path in outer.iter().flatten() {
        if name_of.contains_key(path) {
            continue;
        }
        let below = path.strip_prefix(&common).unwrap_or(path);
        let below = inside(&below.to_string_lossy()).unwrap_or_default();
        let mut name = below.clone();
        let mut number = 2;
        while !taken.insert(name.clone()) {
            name = format!("{number}/{below}");
            number += 1;
        }
        name_of.insert(path.clone(), name);
    }
    let pairs = inner.into_iter().zip(outer);
    let named = pairs.map(|(inner, outer)| {
        let of_outer = || name_of.get(&outer?).cloned();
        inner.or_else(of_outer).unwrap_or_default()
    });
    named.collect()
}

/// Returns a relative path that leads to no other directory, with `/` between its parts.
fn inside(name: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in Path::new(name).components() {
        match part {
            Component::Normal(part) => parts.push(part.to_string_lossy()),
            Component::CurDir => {}
            _ => return None,
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// Returns an absolute path without `..`.
fn without_parents(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut plain = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::ParentDir => _ = plain.pop(),
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::AnnotationStoreBuilder;
    use crate::annotations::format::Dropped;
    use crate::annotations::layout::Split;
    use crate::boxes::ImageSize;

    #[test]
    fn names_that_lead_outside_become_relative_and_unique() {
        let mut builder = AnnotationStoreBuilder::new();
        builder.add_category(1, "cat");
        let names = [
            "a.jpg",
            "./sub/b.jpg",
            "../photos/day/a.jpg",
            "/data/photos/a.jpg",
            "/data/photos/x/../day/a.jpg",
        ];
        for (id, name) in (1..).zip(names) {
            builder.add_image(id, name, ImageSize::new(4, 5));
        }
        let read = SplitAnnotations {
            split: Split::Train,
            store: builder.build().unwrap(),
            image_root: "/data/boxes".into(),
            dropped: Dropped::default(),
            besides_boxes: Dropped::default(),
            notes: Vec::new(),
        };
        let expected = ["a.jpg", "sub/b.jpg", "day/a.jpg", "2/a.jpg", "day/a.jpg"];
        assert_eq!(names_within(&read), expected);
    }

    #[test]
    fn a_directory_is_reached_by_a_relative_and_an_absolute_path() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("out/a"), dir.path().join("photos"));
        for path in [&from, &to] {
            std::fs::create_dir_all(path).unwrap();
        }
        let real = to.canonicalize().unwrap().display().to_string();
        assert_eq!(paths_to(&from, &to), ["../../photos".to_owned(), real]);
        assert_eq!(joined("../photos/", "a.jpg"), "../photos/a.jpg");
        assert_eq!(joined("../photos", "/data/a.jpg"), "/data/a.jpg");
        assert_eq!(paths_to(&from, &dir.path().join("gone")), [""; 0]);
    }
}
