//! Safetensors in several files with an index, as Hugging Face's libraries write large models:
//! `model.safetensors.index.json` and `model-00001-of-00003.safetensors`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Tensors, ThirdPartyError, safetensors};

/// The end of the name of an index.
const INDEX: &str = ".safetensors.index.json";

/// The size limit of an index; each of its lines describes one tensor.
const MAX_INDEX_BYTES: u64 = 64 << 20;

#[derive(Debug, Deserialize)]
struct Index {
    /// The name of the file of each tensor.
    weight_map: BTreeMap<String, String>,
}

/// Returns the index that a path denotes: an index itself, or that of a file which is one of several.
pub(in crate::weights) fn index_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    if name.ends_with(INDEX) {
        return Some(path.to_path_buf());
    }
    let (start, count) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
    let (model, number) = start.rsplit_once('-')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let index = path.with_file_name(format!("{model}{INDEX}"));
    (is_number(count) && is_number(number) && index.is_file()).then_some(index)
}

fn bad(index: &Path, reason: String) -> ThirdPartyError {
    ThirdPartyError::Format {
        path: index.to_path_buf(),
        format: "safetensors index",
        reason,
    }
}

fn read_error(path: &Path) -> impl FnOnce(std::io::Error) -> ThirdPartyError {
    let path = path.to_path_buf();
    move |source| ThirdPartyError::Read { path, source }
}

/// Returns the path of the file of each tensor by its name.
pub(in crate::weights) fn listed(
    index: &Path,
) -> Result<BTreeMap<String, PathBuf>, ThirdPartyError> {
    let mut text = Vec::new();
    let file = File::open(index).map_err(read_error(index))?;
    file.take(MAX_INDEX_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(read_error(index))?;
    if text.len() as u64 > MAX_INDEX_BYTES {
        return Err(bad(index, format!("more than {MAX_INDEX_BYTES} bytes")));
    }
    let Index { weight_map } =
        serde_json::from_slice(&text).map_err(|e| bad(index, e.to_string()))?;
    let beside = |(tensor, name): (String, String)| {
        // An index is data: it names files beside it only.
        if Path::new(&name).file_name() == Some(name.as_ref()) {
            Ok((tensor, index.with_file_name(name)))
        } else {
            let reason = format!("'{name}' is not the name of a file beside it");
            Err(bad(index, reason))
        }
    };
    weight_map.into_iter().map(beside).collect()
}

/// Returns the files that an index lists and their tensors.
pub(super) fn open(index: &Path) -> Result<(Vec<File>, Tensors), ThirdPartyError> {
    let listed = listed(index)?;
    let paths: BTreeSet<&PathBuf> = listed.values().collect();
    let (mut files, mut tensors) = (Vec::new(), Tensors::new());
    for path in paths {
        let mut file = File::open(path).map_err(read_error(path))?;
        let mut found = safetensors::tensors(path, &mut file, files.len())?;
        let of_file = listed.iter().filter(|(_, file)| *file == path);
        for (tensor, _) in of_file {
            let entry = found
                .remove(tensor)
                .ok_or_else(|| ThirdPartyError::Tensor {
                    path: path.clone(),
                    tensor: tensor.clone(),
                    reason: "the index lists it, but the file does not contain it".into(),
                })?;
            tensors.insert(tensor.clone(), entry);
        }
        files.push(file);
    }
    if files.is_empty() {
        return Err(bad(index, "it lists no tensors".into()));
    }
    Ok((files, tensors))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_of_one_of_several_files_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let index = path("model.safetensors.index.json");
        assert_eq!(index_of(&path("model-00001-of-00002.safetensors")), None);
        std::fs::write(&index, "{}").unwrap();
        for name in [
            "model.safetensors.index.json",
            "model-00001-of-00002.safetensors",
        ] {
            assert_eq!(index_of(&path(name)), Some(index.clone()), "{name}");
        }
        for name in [
            "model.safetensors",
            "model-a-of-b.safetensors",
            "one-of-1.safetensors",
        ] {
            assert_eq!(index_of(&path(name)), None, "{name}");
        }
    }

    #[test]
    fn an_index_that_is_damaged_or_names_other_directories_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let index = dir.path().join("model.safetensors.index.json");
        for (text, part) in [
            ("{\"weight_map\": ", "not a complete safetensors index"),
            ("{\"weight_map\": {}}", "it lists no tensors"),
            (
                "{\"weight_map\": {\"a\": \"../a.safetensors\"}}",
                "is not the name of a file beside it",
            ),
            (
                "{\"weight_map\": {\"a\": \"\"}}",
                "is not the name of a file beside it",
            ),
            (
                "{\"weight_map\": {\"a\": \"a.safetensors\"}}",
                "a.safetensors: cannot be read",
            ),
        ] {
            std::fs::write(&index, text).unwrap();
            let message = open(&index).err().unwrap().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
