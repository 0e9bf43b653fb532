//! Checks of backbone configurations. A checkpoint's metadata is user data: a configuration that
//! cannot be built must give an error, not a panic.

use sedet_nn::nn::se::{SeConfig, SeConfigError};

/// Limit of all counts. No known network comes near, and networks beyond would not fit in memory.
pub(crate) const LARGEST_COUNT: usize = 1 << 16;

/// Limit of the multiplier of all channel counts.
const LARGEST_WIDTH: f64 = 64.0;

/// An invalid configuration of a backbone.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum BackboneConfigError {
    /// Invalid SE units.
    #[error(transparent)]
    Se(#[from] SeConfigError),
    /// A number of layers, channels or groups that is zero or implausibly large.
    #[error("{field} is {count}; it must be between 1 and {LARGEST_COUNT}")]
    Count {
        /// Key of the configuration.
        field: &'static str,
        /// Its value.
        count: usize,
    },
    /// A width multiplier that is not positive, too large, or not a number.
    #[error("width_multiplier is {0}; it must be above 0 and at most {LARGEST_WIDTH}")]
    Width(f64),
    /// Inner channels of a block that the number of groups does not divide.
    #[error("groups is {groups}, which does not divide the {channels} inner channels of a block")]
    Groups {
        /// The number of groups.
        groups: usize,
        /// Inner channels of the block.
        channels: usize,
    },
    /// A shortcut without weights can add channels, but not remove them.
    #[error("shortcut 'zero_pad': a block has {from} input channels and only {to} output channels")]
    ZeroPad {
        /// Input channels of the block.
        from: usize,
        /// Output channels of the block.
        to: usize,
    },
    /// A stem pooling that does not fit the other options.
    #[error("stem_pooling: {0}")]
    StemPooling(&'static str),
    /// An odd number of channels, which the two paths of a Shake-Shake shortcut cannot share.
    #[error("a block has {0} channels; the two paths of its shortcut need an even number")]
    Odd(usize),
    /// A dropout probability out of range.
    #[error("dropout is {0}; it must be at least 0 and below 1")]
    Dropout(f64),
    /// A network that no feature pyramid can be built on.
    #[error(
        "the backbone has no feature map of stride {0}; a detector needs strides 4, 8, 16 and 32"
    )]
    NoPyramid(usize),
}

/// Checks that every count is between 1 and [`LARGEST_COUNT`].
pub(super) fn check_counts<const N: usize>(
    field: &'static str,
    counts: [usize; N],
) -> Result<(), BackboneConfigError> {
    let is_invalid = |count: &usize| !(1..=LARGEST_COUNT).contains(count);
    match counts.into_iter().find(is_invalid) {
        Some(count) => Err(BackboneConfigError::Count { field, count }),
        None => Ok(()),
    }
}

/// Checks the options that all families share. `check_se` checks whether the family supports the SE
/// units.
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
