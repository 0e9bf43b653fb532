//! Networks that name what an image shows.

pub mod classifier;
pub mod losses;
