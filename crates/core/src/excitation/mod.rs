//! Gate statistics of SE blocks over a dataset (SENet paper, section 7.2).
//!
//! - [`blocks`]: the SE blocks of a network, named as in the paper, such as `SE_4_6`.
//! - [`channel_map`]: the feature map of one channel and its position in the image.
//! - [`collector`]: streaming collection of gates.
//! - [`statistics`]: statistics of each channel over all images and for each class.
//! - [`file`](mod@file): the statistics as a safetensors file.
//! - [`selection`]: the blocks and classes that figures show.

pub mod blocks;
pub mod channel_map;
pub mod collector;
pub mod file;
pub mod selection;
pub mod statistics;

pub use blocks::{SeBlock, se_blocks};
pub use channel_map::ChannelMap;
pub(crate) use collector::{Collector, SeenImage};
pub use file::ExcitationFileError;
pub use selection::{Selection, SelectionError};
pub use statistics::{BlockStatistics, BlockSummary, ChannelFlags, Excitation, Origin, Thresholds};

/// An error while gates are collected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExcitationError {
    /// The network has no SE blocks.
    #[error("the network has no SE blocks")]
    NoBlocks,
    /// The recording belongs to another network.
    #[error("the recording has {}, expected {expected}", sedet_data::text::count(*recorded, "SE block"))]
    Blocks {
        /// The number of blocks of the network.
        expected: usize,
        /// The number of recorded blocks.
        recorded: usize,
    },
    /// The number of recorded gates differs from the number of images times channels.
    #[error("{block}: {found} gates, expected {expected}")]
    Shape {
        /// The name of the block.
        block: String,
        /// Images times channels.
        expected: usize,
        /// The number of recorded gates.
        found: usize,
    },
    /// A gate is infinite or NaN.
    #[error("{block}: a gate is not finite; the weights are damaged or training has diverged")]
    NotFinite {
        /// The name of the block.
        block: String,
    },
}
