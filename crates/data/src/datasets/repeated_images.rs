//! Images with the same content in the files of train and val.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::annotations::copies::are_same_but_for_rounding;
use crate::annotations::format::SplitAnnotations;
use crate::annotations::joining::boxes_by_class;
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
        let of = |split: &SplitAnnotations, is_val: bool| -> Vec<Image> {
            let paths = split.image_paths().into_iter().enumerate();
            paths
                .map(|(index, path)| Image {
                    path,
                    index,
                    is_val,
                })
                .collect()
        };
        let files = of(train, false).into_iter().chain(of(val, true));
        let files: Vec<Image> = files
            .filter(|image| seen.insert(image.path.clone()))
            .collect();
        let paths: Vec<&Path> = files.iter().map(|image| image.path.as_path()).collect();
        let boxes_of = |image: &Image| {
            let store = if image.is_val {
                &val.store
            } else {
                &train.store
            };
            boxes_by_class(store, image.index)
        };
        let (mut in_train, mut in_val) = (Repeated::default(), Repeated::default());
        let mut leaks = Repeated::default();
        for (at, first) in first_with_content(&paths).into_iter().enumerate() {
            if first == at {
                continue;
            }
            let (image, first) = (&files[at], &files[first]);
            let repeated = match (image.is_val, first.is_val) {
                (true, false) => &mut leaks,
                (true, true) => &mut in_val,
                (false, _) => &mut in_train,
            };
            let is_same = are_same_but_for_rounding(&boxes_of(image), &boxes_of(first));
            repeated.add(&image.path, &first.path, is_same);
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

/// An image of one of the two splits.
struct Image {
    path: PathBuf,
    /// Its position in the split.
    index: usize,
    is_val: bool,
}

/// Images whose content is that of others.
#[derive(Default)]
struct Repeated<'p> {
    number: usize,
    /// The first of them, and the other.
    example: Option<(&'p Path, &'p Path)>,
    /// The number of those with other boxes than the other.
    contradictions: usize,
    /// The first of these, and the other.
    contradiction: Option<(&'p Path, &'p Path)>,
}

impl<'p> Repeated<'p> {
    fn add(&mut self, path: &'p Path, other: &'p Path, has_same_boxes: bool) {
        self.number += 1;
        self.example.get_or_insert((path, other));
        if !has_same_boxes {
            self.contradictions += 1;
            self.contradiction.get_or_insert((path, other));
        }
    }

    fn note(&self, one: &str, many: &str) -> Option<String> {
        let (path, other) = self.example?;
        let (verb, what) = if self.number == 1 {
            ("has", one)
        } else {
            ("have", many)
        };
        let mut note = format!(
            "{} {verb} {what} ({} is {})",
            count(self.number, "image"),
            path.display(),
            other.display()
        );
        if let Some((path, other)) = self.contradiction {
            note += &format!(
                "; {} of them {} other boxes than the original, so that objects of one are background for the other \
                 (such as {} and {})",
                self.contradictions,
                if self.contradictions == 1 {
                    "has"
                } else {
                    "have"
                },
                path.display(),
                other.display()
            );
        }
        Some(note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::format::Dropped;
    use crate::annotations::layout::Split;
    use crate::annotations::{AnnotationStoreBuilder, NewAnnotation};
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
    fn copies_with_other_boxes_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let names = ["a", "b", "c"];
        let mut train = split(root, Split::Train, &names.map(|name| (name, &b"one"[..])));
        let mut builder = AnnotationStoreBuilder::new();
        builder.add_category(1, "cat");
        for (id, name) in (1..).zip(names) {
            builder.add_image(id, name, ImageSize::new(50, 50));
        }
        // Of the three, the last has no box.
        for id in [1, 2] {
            builder.add_annotation(NewAnnotation {
                id,
                image_id: id,
                category_id: 1,
                xywh: [1.0, 2.0, 30.0, 40.0],
                area: None,
                is_crowd: false,
            });
        }
        train.store = builder.build().unwrap();
        let none = split(root, Split::Val, &[("d", b"two")]);
        let note = RepeatedImages::of(&train, &none).in_train.unwrap();
        let shown = |name: &str| root.join(name).display().to_string();
        let expected = format!(
            "; 1 of them has other boxes than the original, so that objects of one are background for the other \
             (such as {} and {})",
            shown("c"),
            shown("a")
        );
        assert!(
            note.starts_with("2 images have the content of others"),
            "{note}"
        );
        assert!(note.ends_with(&expected), "{note}");
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
