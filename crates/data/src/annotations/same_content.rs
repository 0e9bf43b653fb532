//! Files with the same bytes under several names.

use std::collections::HashMap;
use std::fs::File;
use std::hash::Hash;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

/// The number of images up to which training compares files: it should begin within seconds. A validation and a split
/// of the dataset compare any number.
pub(crate) const MOST_IMAGES: usize = 20_000;
/// The number of bytes at the end of a file that are compared before whole files are: encoders begin all files of a
/// camera with the same bytes.
const END: u64 = 4096;

/// Returns for each file the position of the first one with the same bytes: its own if there is no other before it.
/// Files that are empty or cannot be read are like no other.
///
/// Whole files are read only if another has the same length and the same end.
pub(crate) fn first_with_content<P: AsRef<Path> + Sync>(paths: &[P]) -> Vec<usize> {
    let all: Vec<usize> = (0..paths.len()).collect();
    let path = |at: usize| paths[at].as_ref();
    let length = |at: usize| path(at).metadata().ok().map(|found| found.len());
    let candidates = repeated(&all, |at| length(at).filter(|length| *length > 0));
    let candidates = repeated(&candidates, |at| end_of(path(at)));
    let contents: Vec<Option<[u8; 32]>> =
        candidates.par_iter().map(|at| hash_of(path(*at))).collect();
    let mut first: HashMap<[u8; 32], usize> = HashMap::new();
    let mut first_of = all;
    for (at, content) in candidates.into_iter().zip(contents) {
        if let Some(content) = content {
            first_of[at] = *first.entry(content).or_insert(at);
        }
    }
    first_of
}

/// Returns whether several files all have the same bytes.
pub(crate) fn are_all_the_same<P: AsRef<Path> + Sync>(paths: &[P]) -> bool {
    let length = |path: &P| path.as_ref().metadata().ok().map(|found| found.len());
    let Some((first, others)) = paths.split_first() else {
        return false;
    };
    // Nearly always one of the first files decides.
    let first = length(first);
    !others.is_empty()
        && others.iter().all(|path| length(path) == first)
        && first_with_content(paths).iter().all(|first| *first == 0)
}

/// Returns the positions whose key is that of another position, in the same order; one without a key is none.
fn repeated<K: Eq + Hash + Send>(
    positions: &[usize],
    key: impl Fn(usize) -> Option<K> + Sync,
) -> Vec<usize> {
    let keys: Vec<Option<K>> = positions.par_iter().map(|at| key(*at)).collect();
    let mut times: HashMap<&K, usize> = HashMap::new();
    for key in keys.iter().flatten() {
        *times.entry(key).or_default() += 1;
    }
    let is_repeated = |key: &Option<K>| key.as_ref().is_some_and(|key| times[key] > 1);
    let with_keys = positions.iter().zip(&keys);
    with_keys
        .filter(|(_, key)| is_repeated(key))
        .map(|(at, _)| *at)
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
    use std::path::PathBuf;

    #[test]
    fn files_with_the_same_bytes_belong_to_the_first_of_them() {
        let dir = tempfile::tempdir().unwrap();
        // Of the length and with the end of another, but not the same.
        let (long, other) = ([1; 5000], [&[2][..], &[1; 4999]].concat());
        let contents: [&[u8]; 6] = [b"one", &long, b"two", &other, b"one", &long];
        let mut paths: Vec<PathBuf> = (0..7).map(|at| dir.path().join(at.to_string())).collect();
        for (path, content) in paths.iter().zip(contents) {
            std::fs::write(path, content).unwrap();
        }
        // The same path twice, and two that do not exist.
        paths.push(paths[2].clone());
        paths.push(dir.path().join("gone"));
        assert_eq!(first_with_content(&paths), [0, 1, 2, 3, 0, 1, 6, 2, 8]);
        assert!(!are_all_the_same(&paths));
        assert!(are_all_the_same(&[&paths[0], &paths[4]]));
        for paths in [&paths[..0], &paths[..1], &paths[8..]] {
            assert!(!are_all_the_same(paths));
        }
    }
}
