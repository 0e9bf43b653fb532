//! Splits by the directories in the names of images: `train/a.jpg` and `val/b.jpg` in one annotation file.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::annotations::layout::{NamedSplit, Split, splits_of_names};

/// The splits of the directories in the names of images. As for directories on disk, the names beside each other are read
/// together, and the outermost one that denotes a split decides.
pub(crate) struct SplitsOfNames {
    by_directory: HashMap<String, Option<Split>>,
}

/// How the names of images divide an annotation file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NamesDivide {
    /// The splits, of which there are several; each name has one.
    Splits(Vec<Split>),
    /// There are several splits, and some names have none.
    Partly {
        splits: Vec<Split>,
        /// The number of names without a split, and the first of them.
        without: (usize, String),
    },
    /// They denote at most one split.
    No,
}

impl SplitsOfNames {
    /// Reads the names of all images of a file, with `/` or `\` between directories.
    pub(crate) fn of<S: AsRef<str>>(names: &[S]) -> Self {
        let directories = names.iter().map(|name| directory_of(name.as_ref()));
        let directories: BTreeSet<String> = directories.collect();
        let shared = shared_parts(&directories);
        let mut beside: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (around, name) in directories.iter().flat_map(|path| parts_of(path)) {
            beside.entry(around).or_default().insert(name);
        }
        let mut splits: HashMap<(String, String), Split> = HashMap::new();
        for (around, names) in beside {
            let names: Vec<String> = names.into_iter().collect();
            for (split, name) in splits_of_names(&names).into_iter().zip(names) {
                if let NamedSplit::Split(split) = split {
                    splits.insert((around.clone(), name), split);
                }
            }
        }
        let by_directory = directories.into_iter().map(|directory| {
            // What all names have in common divides nothing.
            let parts = parts_of(&directory).into_iter().skip(shared);
            let split = parts.filter_map(|part| splits.get(&part).copied()).next();
            (directory, split)
        });
        Self {
            by_directory: by_directory.collect(),
        }
    }

    /// Returns the split of one of the names.
    pub(crate) fn split_of(&self, name: &str) -> Option<Split> {
        self.by_directory
            .get(&directory_of(name))
            .copied()
            .flatten()
    }

    /// Returns how these names are divided.
    pub(crate) fn divide<S: AsRef<str>>(&self, names: &[S]) -> NamesDivide {
        let denoted: HashSet<Split> = self.by_directory.values().flatten().copied().collect();
        let mut splits = Split::ALL.to_vec();
        splits.retain(|split| denoted.contains(split));
        if splits.len() < 2 {
            return NamesDivide::No;
        }
        let names = names.iter().map(AsRef::as_ref);
        let mut without = names.filter(|name| self.split_of(name).is_none());
        match without.next() {
            None => NamesDivide::Splits(splits),
            Some(first) => NamesDivide::Partly {
                splits,
                without: (1 + without.count(), first.to_owned()),
            },
        }
    }
}

/// Returns the directory in a name, with `/` between its parts.
fn directory_of(name: &str) -> String {
    let name = name.replace('\\', "/");
    let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
    directory.to_owned()
}

/// Returns the parts of a path, each with what is before it.
fn parts_of(path: &str) -> Vec<(String, String)> {
    let mut around = String::new();
    let parts = path
        .split('/')
        .filter(|part| !matches!(*part, "" | "." | ".."));
    parts
        .map(|part| {
            let before = around.clone();
            around += part;
            around.push('/');
            (before, part.to_owned())
        })
        .collect()
}

/// Returns the number of the first parts that all paths have in common.
fn shared_parts(directories: &BTreeSet<String>) -> usize {
    let mut all = directories.iter().map(|path| parts_of(path));
    let Some(first) = all.next() else {
        return 0;
    };
    all.fold(first.len(), |shared, parts| {
        let pairs = first.iter().zip(&parts);
        pairs.take_while(|(a, b)| a == b).count().min(shared)
    })
}

/// Returns whether the bytes of a file may contain names of images in the directories of several splits. Reading them costs
/// little beside parsing, and nearly all files of one split contain no such names.
pub(crate) fn may_name_splits(path: &Path) -> bool {
    /// A longer name of a directory is that of no split.
    const LONGEST: usize = 64;
    /// More directories are those of videos.
    const DIRECTORIES: usize = 10_000;
    let mut seen: BTreeSet<String> = BTreeSet::new();
    any_chunk(path, LONGEST, |bytes| {
        let is_end = |byte: &u8| matches!(byte, b'/' | b'\\');
        for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| is_end(byte)) {
            let before = &bytes[at.saturating_sub(LONGEST)..at];
            let is_outside = |byte: &u8| is_end(byte) || matches!(byte, b'"' | b',' | b';' | b'\n');
            let start = before.iter().rposition(is_outside).map_or(0, |at| at + 1);
            if let Ok(name) = std::str::from_utf8(&before[start..])
                && !name.is_empty()
                && !seen.contains(name)
                && seen.len() < DIRECTORIES
            {
                seen.insert(name.to_owned());
            }
        }
        false
    });
    let names: Vec<String> = seen.into_iter().collect();
    let splits = splits_of_names(&names).into_iter();
    let mut splits = splits.filter_map(|split| match split {
        NamedSplit::Split(split) | NamedSplit::Unclear(split) => Some(split),
        NamedSplit::None => None,
    });
    let first = splits.next();
    splits.any(|split| Some(split) != first)
}

/// Returns whether the bytes of a file contain one of some keys of JSON. Reading them costs little beside parsing.
pub(crate) fn may_have_field(path: &Path, keys: &[&str]) -> bool {
    /// No key is longer.
    const LONGEST: usize = 32;
    let keys: Vec<String> = keys.iter().map(|key| format!("{key}\"")).collect();
    // A COCO file has tens of millions of quotes: few of them are compared with a key.
    let mut begins = [false; 256];
    for key in &keys {
        begins[usize::from(key.as_bytes()[0])] = true;
    }
    any_chunk(path, LONGEST, |bytes| {
        let mut pairs = bytes.windows(2).enumerate();
        pairs.any(|(at, pair)| {
            let may_be_key = pair[0] == b'"' && begins[usize::from(pair[1])];
            may_be_key && {
                let mut keys = keys.iter();
                keys.any(|key| bytes[at + 1..].starts_with(key.as_bytes()))
            }
        })
    })
}

/// Looks at the bytes of a file until what is looked for is found, and returns whether it is. A chunk begins with this many
/// bytes of the one before: what is looked for may be divided between them. A file that cannot be read has nothing.
fn any_chunk(path: &Path, overlap: usize, mut is_found: impl FnMut(&[u8]) -> bool) -> bool {
    const CHUNK: u64 = 1 << 20;
    let Ok(mut file) = File::open(path) else {
        return false;
    };
    let mut bytes: Vec<u8> = Vec::new();
    loop {
        let kept = bytes.len().saturating_sub(overlap);
        bytes.drain(..kept);
        match file.by_ref().take(CHUNK).read_to_end(&mut bytes) {
            Ok(1..) if is_found(&bytes) => return true,
            Ok(1..) => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outermost_name_of_a_split_that_not_all_names_have_divides_them() {
        use Split::{Test, Train, Val};
        for (names, expected) in [
            (&["train/0.jpg", "val/1.jpg"][..], Some(&[Train, Val][..])),
            (
                &[
                    "images/train/a.jpg",
                    "images/test/b.jpg",
                    "images/val/c.jpg",
                ],
                Some(&[Train, Val, Test]),
            ),
            (&["train2017\\a.jpg", "val2017\\b.jpg"], Some(&[Train, Val])),
            (&["train/val/a.jpg", "val/train/b.jpg"], Some(&[Train, Val])),
            // Where the dataset is.
            (
                &["/srv/test/x/train/a.jpg", "/srv/test/x/val/b.jpg"],
                Some(&[Train, Val]),
            ),
            (
                &["setA/trainA/a.jpg", "setA/valA/b.jpg"],
                Some(&[Train, Val]),
            ),
            // One split, classes of vehicles, and names of images alone.
            (&["train/a.jpg", "train/b.jpg"], None),
            (&["train/a.jpg", "car/b.jpg"], None),
            (&["test_tube/a.jpg", "train_station/b.jpg"], None),
            (&["train_1.jpg", "val_1.jpg"], None),
            (&["val/train/a.jpg", "val/train/b.jpg"], None),
        ] {
            let divided = SplitsOfNames::of(names).divide(names);
            let expected =
                expected.map_or(NamesDivide::No, |all| NamesDivide::Splits(all.to_vec()));
            assert_eq!(divided, expected, "{names:?}");
        }
        let names = ["train/a.jpg", "val/b.jpg", "c.jpg", "d.jpg"];
        let expected = NamesDivide::Partly {
            splits: vec![Train, Val],
            without: (2, "c.jpg".to_owned()),
        };
        assert_eq!(SplitsOfNames::of(&names).divide(&names), expected);
    }

    #[test]
    fn a_file_without_names_in_the_directories_of_several_splits_is_not_parsed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        let filler = " ".repeat((1 << 20) - 3);
        for (text, expected) in [
            (
                r#"{"file_name":"train/a"},{"file_name":"val/b"}"#.to_owned(),
                true,
            ),
            (r#"["train\\a","images\/val\/b"]"#.to_owned(), true),
            // At the end of a chunk.
            (format!("{filler}\"train/a\",{filler}\"val/b\""), true),
            (
                r#"["train/a","http://images/train/b","a val"]"#.to_owned(),
                false,
            ),
            (String::new(), false),
        ] {
            std::fs::write(&path, &text).unwrap();
            assert_eq!(may_name_splits(&path), expected, "{}", text.trim());
        }
    }
}
