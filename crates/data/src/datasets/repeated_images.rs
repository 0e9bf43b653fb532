//! Images with the same content in the files of train and val.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use crate::annotations::format::SplitAnnotations;
use crate::text::count;

/// The number of images up to which files are compared: a training should begin within seconds. A validation of the
/// dataset compares any number.
const MOST_IMAGES: usize = 20_000;
/// The number of bytes at the end of a file that are compared before whole files are: encoders begin all files of a
/// camera with the same bytes.
const END: u64 = 4096;

/// Notes on images whose files have the same bytes as another.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct RepeatedImages {
    /// The note on train images.
    pub(crate) in_train: Option<String>,
    /// The note on val images, of which the other is in train or val.
    pub(crate) in_val: Option<String>,
}

impl RepeatedImages {
    /// Compares the files of two splits. Files that cannot be read are left to the loader, and images that both
    /// splits list are no copies.
    pub(crate) fn of(train: &SplitAnnotations, val: &SplitAnnotations) -> Self {
        let all = train.store.image_count() + val.store.image_count();
        if all > MOST_IMAGES {
            return Self::default();
        }
        let paths = |split: &SplitAnnotations| -> Vec<PathBuf> {
            let images = 0..split.store.image_count();
            images
                .map(|index| split.image_root.join(split.store.image(index).file_name))
                .collect()
        };
        let mut seen = HashSet::new();
        let (train, val) = (paths(train), paths(val));
        let files: Vec<(&Path, bool)> = train
            .iter()
            .map(|path| (path.as_path(), false))
            .chain(val.iter().map(|path| (path.as_path(), true)))
            .filter(|(path, _)| seen.insert(*path))
            .collect();
        let candidates = same(&files, |path| Some(path.metadata().ok()?.len()));
        let candidates = same(&candidates, end_of);
        let contents: Vec<Option<[u8; 32]>> = candidates
            .par_iter()
            .map(|(path, _)| hash_of(path))
            .collect();
        let mut first_of: HashMap<[u8; 32], (&Path, bool)> = HashMap::new();
        let (mut in_train, mut in_val) = (Repeated::default(), Repeated::default());
        let mut leaks = Repeated::default();
        for ((path, is_val), content) in candidates.into_iter().zip(contents) {
            let Some(content) = content else { continue };
            match first_of.get(&content) {
                None => _ = first_of.insert(content, (path, is_val)),
                Some(&(first, false)) if is_val => leaks.add(path, first),
                Some(&(first, _)) if is_val => in_val.add(path, first),
                Some(&(first, _)) => in_train.add(path, first),
            }
        }
        let twice = |repeated: &Repeated| {
            repeated.note(
                "the content of another, and counts accordingly",
                "the content of others, and count accordingly",
            )
        };
        let leaked = leaks.note(
            "the content of a train image, so that its metrics are those of a training image",
            "the content of train images, so that their metrics are those of training images",
        );
        let in_val = twice(&in_val);
        Self {
            in_train: twice(&in_train),
            in_val: match (leaked, in_val) {
                (Some(leaked), Some(twice)) => Some(format!("{leaked}; {twice}")),
                (leaked, twice) => leaked.or(twice),
            },
        }
    }
}

/// Images whose content is that of others.
#[derive(Default)]
struct Repeated<'p> {
    number: usize,
    /// The first of them, and the other.
    example: Option<(&'p Path, &'p Path)>,
}

impl<'p> Repeated<'p> {
    fn add(&mut self, path: &'p Path, other: &'p Path) {
        self.number += 1;
        self.example.get_or_insert((path, other));
    }

    fn note(&self, one: &str, many: &str) -> Option<String> {
        let (path, other) = self.example?;
        let (verb, what) = if self.number == 1 {
            ("has", one)
        } else {
            ("have", many)
        };
        Some(format!(
            "{} {verb} {what} ({} is {})",
            count(self.number, "image"),
            path.display(),
            other.display()
        ))
    }
}

/// Returns the files whose key is that of another file, in the same order; a file without a key is none.
fn same<'p, K: Eq + std::hash::Hash + Send>(
    files: &[(&'p Path, bool)],
    key: impl Fn(&Path) -> Option<K> + Sync,
) -> Vec<(&'p Path, bool)> {
    let keys: Vec<Option<K>> = files.par_iter().map(|(path, _)| key(path)).collect();
    let mut times: HashMap<&K, usize> = HashMap::new();
    for key in keys.iter().flatten() {
        *times.entry(key).or_default() += 1;
    }
    let is_repeated = |key: &Option<K>| key.as_ref().is_some_and(|key| times[key] > 1);
    let with_keys = files.iter().zip(&keys);
    with_keys
        .filter(|(_, key)| is_repeated(key))
        .map(|(file, _)| *file)
        .collect()
}

/// Returns the length and the last bytes of a file.
fn end_of(path: &Path) -> Option<(u64, Vec<u8>)> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(END)))
        .ok()?;
    let mut bytes = Vec::new();
    file.take(END).read_to_end(&mut bytes).ok()?;
    Some((length, bytes))
}

fn hash_of(path: &Path) -> Option<[u8; 32]> {
    Some(Sha256::digest(std::fs::read(path).ok()?).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::AnnotationStoreBuilder;
    use crate::annotations::format::Dropped;
    use crate::annotations::layout::Split;
    use crate::boxes::ImageSize;

    fn split(root: &Path, split: Split, files: &[(&str, &[u8])]) -> SplitAnnotations {
        let mut builder = AnnotationStoreBuilder::new();
        builder.add_category(1, "cat");
        for (id, (name, bytes)) in (1..).zip(files) {
            std::fs::write(root.join(name), bytes).unwrap();
            builder.add_image(id, name, ImageSize::new(1, 1));
        }
        SplitAnnotations {
            split,
            store: builder.build().unwrap(),
            image_root: root.to_owned(),
            dropped: Dropped::default(),
            besides_boxes: Dropped::default(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn copies_are_counted_in_each_split_and_across_them() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        // Of the length and with the end of another, but not the same.
        let (long, other) = ([1; 5000], [&[2][..], &[1; 4999]].concat());
        let train = split(
            root,
            Split::Train,
            &[("a", b"one"), ("b", b"two"), ("c", b"one"), ("l", &long)],
        );
        let val = split(
            root,
            Split::Val,
            &[
                ("a", b"one"),
                ("d", b"two"),
                ("e", b"new"),
                ("f", b"new"),
                ("o", &other),
            ],
        );
        let found = RepeatedImages::of(&train, &val);
        let shown = |name: &str| root.join(name).display().to_string();
        assert_eq!(
            found.in_train.unwrap(),
            format!(
                "1 image has the content of another, and counts accordingly ({} is {})",
                shown("c"),
                shown("a")
            )
        );
        assert_eq!(
            found.in_val.unwrap(),
            format!(
                "1 image has the content of a train image, so that its metrics are those of a training image \
                 ({} is {}); 1 image has the content of another, and counts accordingly ({} is {})",
                shown("d"),
                shown("b"),
                shown("f"),
                shown("e")
            )
        );
        let none = split(root, Split::Val, &[("e", b"new"), ("gone", b"x")]);
        std::fs::remove_file(root.join("gone")).unwrap();
        let single = split(root, Split::Train, &[("a", b"one"), ("b", b"two")]);
        assert_eq!(
            RepeatedImages::of(&single, &none),
            RepeatedImages::default()
        );
    }
}
