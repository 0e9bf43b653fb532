//! What the types of a backbone's configuration do not exclude: a checkpoint's description is a
//! file like any other, and must end in an error where it can't be built.

use sedet_nn::nn::se::{SeConfig, SeConfigError};

/// No network that is known comes near; numbers beyond can't be meant, and would not fit in memory.
const LARGEST_COUNT: usize = 1 << 16;

/// The same for the multiplier of all channel counts.
const LARGEST_WIDTH: f64 = 64.0;

/// A backbone that can't be, of whichever family.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum BackboneConfigError {
    /// Its SE units.
    #[error(transparent)]
    Se(#[from] SeConfigError),
    /// A number of layers, channels or groups that is zero, or far beyond any network.
    #[error("{field} is {count}; it must be between 1 and {LARGEST_COUNT}")]
    Count {
        /// As in the configuration.
        field: &'static str,
        /// As configured.
        count: usize,
    },
    /// A multiplier that leaves no channels, or is no number.
    #[error("width_multiplier is {0}; it must be above 0 and at most {LARGEST_WIDTH}")]
    Width(f64),
    /// Inner channels of a block that can't be grouped.
    #[error("groups is {groups}, which does not divide the {channels} inner channels of a block")]
    Groups {
        /// As configured.
        groups: usize,
        /// Of the block.
        channels: usize,
    },
    /// A shortcut without weights can add channels, but not take them away.
    #[error("shortcut 'zero_pad': a block goes from {from} channels to {to}, which are fewer")]
    ZeroPad {
        /// Channels of the block's input.
        from: usize,
        /// Channels of its output.
        to: usize,
    },
    /// Channels that the two paths of a Shake-Shake shortcut can't share.
    #[error("a block has {0} channels; the two paths of its shortcut need an even number")]
    Odd(usize),
    /// Nothing left, or less.
    #[error("dropout is {0}; it must be at least 0 and below 1")]
    Dropout(f64),
}

/// Every count, beside its name, is at least one and can be meant.
pub(super) fn check_counts<const N: usize>(
    field: &'static str,
    counts: [usize; N],
) -> Result<(), BackboneConfigError> {
    let refused = |count: &usize| !(1..=LARGEST_COUNT).contains(count);
    match counts.into_iter().find(refused) {
        Some(count) => Err(BackboneConfigError::Count { field, count }),
        None => Ok(()),
    }
}

/// What all families have. `check_se` says which SE units the family has places for.
pub(super) fn check_common(
    width_multiplier: f64,
    se: Option<&SeConfig>,
    check_se: fn(&SeConfig) -> Result<(), SeConfigError>,
) -> Result<(), BackboneConfigError> {
    if !(width_multiplier > 0.0 && width_multiplier <= LARGEST_WIDTH) {
        return Err(BackboneConfigError::Width(width_multiplier));
    }
    se.map_or(Ok(()), |se| Ok(check_se(se)?))
}
