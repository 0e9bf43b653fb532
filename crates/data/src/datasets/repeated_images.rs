//! Images with the same content in the files of train and val.

use std::collections::HashSet;
use std::path::Path;

use crate::annotations::format::SplitAnnotations;
use crate::annotations::same_content::{MOST_IMAGES, first_with_content};
use crate::text::count;

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
        let mut seen = HashSet::new();
        let (train, val) = (train.image_paths(), val.image_paths());
        let files: Vec<(&Path, bool)> = train
            .iter()
            .map(|path| (path.as_path(), false))
            .chain(val.iter().map(|path| (path.as_path(), true)))
            .filter(|(path, _)| seen.insert(*path))
            .collect();
        let paths: Vec<&Path> = files.iter().map(|(path, _)| *path).collect();
        let (mut in_train, mut in_val) = (Repeated::default(), Repeated::default());
        let mut leaks = Repeated::default();
        for (at, first) in first_with_content(&paths).into_iter().enumerate() {
            if first == at {
                continue;
            }
            let ((path, is_val), (first, is_first_val)) = (files[at], files[first]);
            match (is_val, is_first_val) {
                (true, false) => leaks.add(path, first),
                (true, true) => in_val.add(path, first),
                (false, _) => in_train.add(path, first),
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
