//! Weights from whatever file a person has.

use std::path::Path;

use serde_json::{Value, json};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::import::{ImportError, ImportReport, Imported, import};
use super::layouts::{Layout, Network};
use super::parameters::NamedTensors;
use sedet_data::annotations::Category;
use sedet_data::annotations::coco_categories::categories_by_count;
use sedet_data::datasets::imagenet_classes::imagenet_classes;

/// Why a file gave no weights.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// One of ours.
    #[error(transparent)]
    Ours(#[from] CheckpointError),
    /// Another program's.
    #[error(transparent)]
    Foreign(#[from] ImportError),
}

/// The entry of the metadata that names tensors with random values, which make a network useless
/// until it is trained.
pub const FRESH: &str = "fresh";

/// Weights with the description of their network.
#[derive(Debug, Clone)]
pub struct AnyWeights {
    /// As in a checkpoint's header: `task`, `model`, `preprocess`, and `categories` if known.
    /// [`FRESH`] lists the tensors that the file did not have.
    pub metadata: Value,
    /// By our names.
    pub weights: NamedTensors,
    /// How a foreign file was read.
    pub report: Option<ImportReport>,
}

impl From<Checkpoint> for AnyWeights {
    /// The weights to use it with: the average where there is one.
    fn from(checkpoint: Checkpoint) -> Self {
        let Checkpoint {
            metadata,
            weights,
            ema,
            ..
        } = checkpoint;
        Self {
            metadata,
            weights: if ema.is_empty() { weights } else { ema },
            report: None,
        }
    }
}

/// Read a checkpoint of ours, or take over another program's file: of the layout that it is
/// recognized as, or of the one given, which has no meaning for ours.
///
/// # Errors
/// Each names the file.
pub fn load_any(path: &Path, layout: Option<Layout>) -> Result<AnyWeights, LoadError> {
    if Checkpoint::is_ours(path)? {
        return Ok(Checkpoint::load(path)?.into());
    }
    let Imported {
        network,
        weights,
        report,
    } = import(path, layout)?;
    let mut metadata = metadata_of(&network);
    if let Some(categories) = known_categories(&network) {
        metadata["categories"] = json!(categories);
    }
    if !report.network_is_whole() {
        metadata[FRESH] = json!(report.fresh());
    }
    Ok(AnyWeights {
        metadata,
        weights,
        report: Some(report),
    })
}

/// The classes of a network that names none, by their number: COCO's of a detector, ImageNet's of a
/// classifier with 1000 classes.
fn known_categories(network: &Network) -> Option<Vec<Category>> {
    match network {
        Network::Detection { model, .. } => Some(categories_by_count(model.num_classes)),
        Network::Classification { model, .. } => {
            let classes = imagenet_classes();
            let categories = classes.iter().enumerate().map(|(label, class)| Category {
                id: label as u64,
                name: class.name.to_string(),
            });
            (model.num_classes == classes.len()).then(|| categories.collect())
        }
    }
}

/// The header entry of a checkpoint of this network. Its classes have no names.
pub fn metadata_of(network: &Network) -> Value {
    let mut metadata = json!(network);
    metadata["format"] = 1.into();
    metadata
}

impl AnyWeights {
    /// How many tensors have random values.
    pub fn fresh_count(&self) -> usize {
        self.metadata[FRESH].as_array().map_or(0, Vec::len)
    }
}
