//! The name of a network's architecture, which tells what its tensors do not: timm's anti-aliased networks
//! have the same tensors as its plain ones.

use std::path::Path;

use super::super::foreign::ForeignFile;
use crate::backbones::resnet::AntiAlias;

/// The size limit of a `config.json`, to which timm and the Hugging Face Hub add nothing large.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// The name of an architecture and its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Architecture {
    /// The name, such as `resnetaa50d` or a longer name that contains it.
    name: String,
    /// Where it is from, for messages.
    pub(super) origin: String,
}

impl Architecture {
    /// Returns the anti-aliasing that timm's name of the architecture stands for.
    pub(super) fn anti_alias(&self) -> Option<AntiAlias> {
        let name = self.name.to_lowercase();
        let contains = |words: [&str; 2]| words.iter().any(|word| name.contains(word));
        if contains(["resnetaa", "resnextaa"]) {
            Some(AntiAlias::AveragePool)
        } else if contains(["resnetblur", "resnextblur"]) {
            Some(AntiAlias::BlurPool)
        } else {
            None
        }
    }

    /// Returns the architecture of an anti-aliased network. The `config.json` of the Hugging Face Hub
    /// beside the file decides; without one, the name in timm's training checkpoints, the name of the
    /// file, and the names of its directories (`models--timm--NAME/snapshots/HASH` in the Hub's cache).
    pub(super) fn of_anti_aliased(file: &ForeignFile) -> Option<(Self, AntiAlias)> {
        let path = file.path();
        let candidates = match in_config(path) {
            Some(architecture) => vec![architecture],
            None => [in_checkpoint(file), in_file_name(path)]
                .into_iter()
                .flatten()
                .chain(in_directories(path))
                .collect(),
        };
        candidates.into_iter().find_map(|architecture| {
            let kind = architecture.anti_alias()?;
            Some((architecture, kind))
        })
    }
}

/// Returns the entry `architecture` of the `config.json` in the directory of the file.
fn in_config(path: &Path) -> Option<Architecture> {
    let config = path.with_file_name("config.json");
    if std::fs::metadata(&config).ok()?.len() > MAX_CONFIG_BYTES {
        return None;
    }
    let text = std::fs::read_to_string(&config).ok()?;
    let config: serde_json::Value = serde_json::from_str(&text).ok()?;
    Some(Architecture {
        name: config.get("architecture")?.as_str()?.to_string(),
        origin: "the config.json beside the file".into(),
    })
}

/// Returns the entry `arch` of timm's training checkpoints.
fn in_checkpoint(file: &ForeignFile) -> Option<Architecture> {
    Some(Architecture {
        name: file.text("arch")?,
        origin: "the entry 'arch' of the file".into(),
    })
}

fn in_file_name(path: &Path) -> Option<Architecture> {
    Some(Architecture {
        name: path.file_name()?.to_str()?.to_string(),
        origin: "the name of the file".into(),
    })
}

fn in_directories(path: &Path) -> impl Iterator<Item = Architecture> {
    const NEAREST: usize = 3;
    path.ancestors().skip(1).take(NEAREST).filter_map(|path| {
        let name = path.file_name()?.to_str()?;
        Some(Architecture {
            name: name.to_string(),
            origin: format!("the name of the directory {name}"),
        })
    })
}
