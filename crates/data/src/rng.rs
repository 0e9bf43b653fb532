//! Independent, seeded random number streams.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

/// Returns the random number stream of a key of four numbers.
///
/// Different keys give independent streams, so a value can be drawn for `(seed, epoch, image,
/// purpose)` in any order, by any thread, and again after a restart.
pub(crate) fn stream(key: [u64; 4]) -> ChaCha8Rng {
    let mut seed = [0; 32];
    for (bytes, number) in seed.chunks_exact_mut(8).zip(key) {
        bytes.copy_from_slice(&number.to_le_bytes());
    }
    ChaCha8Rng::from_seed(seed)
}
