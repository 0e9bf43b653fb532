//! Weights from whatever file a person has.

use std::path::Path;

use serde_json::{Value, json};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::import::{ImportError, ImportReport, Imported, import};
use super::layouts::Network;
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

/// Weights with the description of their network.
#[derive(Debug, Clone)]
pub struct AnyWeights {
    /// As in a checkpoint's header: `task`, `model`, `preprocess`, and `categories` if known.
    pub metadata: Value,
    /// By our names.
    pub weights: NamedTensors,
    /// How a foreign file was read.
    pub report: Option<ImportReport>,
}

/// Read a checkpoint of ours, or take over another program's file.
///
/// # Errors
/// Each names the file.
pub fn load_any(path: &Path) -> Result<AnyWeights, LoadError> {
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
    } = import(path)?;
    Ok(AnyWeights {
        metadata: metadata_of(&network),
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
