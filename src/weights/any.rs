//! Weights from whatever file a person has.

use std::path::Path;

use serde_json::{Value, json};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::import::{ImportError, ImportReport, Imported, import};
use super::layouts::{Layout, Network};
use super::parameters::NamedTensors;

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

/// Read a checkpoint of ours, or take over another program's file: of the layout that it is
/// recognised as, or of the one given, which has no meaning for ours.
///
/// # Errors
/// Each names the file.
pub fn load_any(path: &Path, layout: Option<Layout>) -> Result<AnyWeights, LoadError> {
    if Checkpoint::is_ours(path)? {
        let checkpoint = Checkpoint::load(path)?;
        let Checkpoint {
            metadata,
            weights,
            ema,
            ..
        } = checkpoint;
        let weights = if ema.is_empty() { weights } else { ema };
        return Ok(AnyWeights {
            metadata,
            weights,
            report: None,
        });
    }
    let Imported {
        network,
        weights,
        report,
    } = import(path, layout)?;
    let mut metadata = metadata_of(&network);
    if !report.network_is_whole() {
        metadata[FRESH] = json!(report.fresh());
    }
    Ok(AnyWeights {
        metadata,
        weights,
        report: Some(report),
    })
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
