//! The one table from a backbone's name to its configuration.

use super::resnet::{BlockKind, ResNetConfig};
use crate::nn::se::SeConfig;

/// A name that the zoo does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown backbone '{name}'; known: {}", known_names().join(", "))]
pub struct UnknownBackbone {
    /// What was asked for.
    pub name: String,
}

struct Entry {
    name: &'static str,
    block: BlockKind,
    layers: [usize; 4],
    groups: usize,
    width_per_group: usize,
}

const fn resnet(name: &'static str, block: BlockKind, layers: [usize; 4]) -> Entry {
    Entry {
        name,
        block,
        layers,
        groups: 1,
        width_per_group: 64,
    }
}

const fn resnext(name: &'static str, layers: [usize; 4]) -> Entry {
    Entry {
        name,
        block: BlockKind::Bottleneck,
        layers,
        groups: 32,
        width_per_group: 4,
    }
}

const TABLE: [Entry; 7] = [
    resnet("resnet18", BlockKind::Basic, [2, 2, 2, 2]),
    resnet("resnet34", BlockKind::Basic, [3, 4, 6, 3]),
    resnet("resnet50", BlockKind::Bottleneck, [3, 4, 6, 3]),
    resnet("resnet101", BlockKind::Bottleneck, [3, 4, 23, 3]),
    resnet("resnet152", BlockKind::Bottleneck, [3, 8, 36, 3]),
    resnext("resnext50-32x4d", [3, 4, 6, 3]),
    resnext("resnext101-32x4d", [3, 4, 23, 3]),
];

/// Every name that [`backbone`] accepts: each network plain, and with the prefix `se-`.
pub fn known_names() -> Vec<String> {
    TABLE
        .iter()
        .flat_map(|entry| [entry.name.to_string(), format!("se-{}", entry.name)])
        .collect()
}

/// The published configuration of a backbone, such as `se-resnet50`.
///
/// # Errors
/// A name outside the table.
pub fn backbone(name: &str) -> Result<ResNetConfig, UnknownBackbone> {
    let (plain, se) = match name.strip_prefix("se-") {
        Some(plain) => (plain, Some(SeConfig::default())),
        None => (name, None),
    };
    TABLE
        .iter()
        .find(|entry| entry.name == plain)
        .map(|entry| ResNetConfig {
            se,
            groups: entry.groups,
            width_per_group: entry.width_per_group,
            ..ResNetConfig::new(entry.block, entry.layers)
        })
        .ok_or_else(|| UnknownBackbone {
            name: name.to_string(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let message = backbone("resnet19").unwrap_err().to_string();
        assert!(message.contains("'resnet19'") && message.contains("se-resnext50-32x4d"));
    }

    #[test]
    fn every_known_name_resolves() {
        for name in known_names() {
            assert_eq!(
                backbone(&name).unwrap().se.is_some(),
                name.starts_with("se-")
            );
        }
    }
}
