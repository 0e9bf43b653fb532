//! What SE units do over a dataset (SENet paper, section 7.2): statistics of their gates.
//!
//! - [`blocks`]: the units of a network by the paper's names, such as `SE_4_6`.
//! - [`channel_map`]: one channel of the map that a unit scales, over one image.
//! - [`statistics`]: streaming statistics for each channel, over all images and for each class.
//! - [`file`](mod@file): the statistics in one safetensors file.
//! - [`selection`]: which blocks and classes a person wants to see.

pub mod blocks;
pub mod channel_map;
pub mod file;
pub mod selection;
pub mod statistics;

pub use blocks::{SeBlock, se_blocks};
pub use channel_map::ChannelMap;
pub use file::ExcitationFileError;
pub use selection::{Selection, SelectionError};
pub use statistics::{
    BlockStatistics, BlockSummary, Collector, Excitation, Origin, SeenImage, Thresholds,
};

/// Why gates could not be gathered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExcitationError {
    /// A plain network.
    #[error(
        "the network has no SE units; take one that has: in the list of `sedet models` their names \
         start with se"
    )]
    NoUnits,
    /// The recording is not of this network.
    #[error("{recorded} SE units were recorded where the network has {expected}")]
    Units {
        /// Units of the network.
        expected: usize,
        /// Units of the recording.
        recorded: usize,
    },
    /// The gates of a unit are not a row of its channels for each image.
    #[error("{block}: gates of {found} values where {expected} are due")]
    Shape {
        /// The unit's name.
        block: String,
        /// Images times channels.
        expected: usize,
        /// What there is.
        found: usize,
    },
    /// Infinite or no number.
    #[error("{block}: a gate is not finite; the weights are damaged, or training has diverged")]
    NotFinite {
        /// The unit's name.
        block: String,
    },
}
