//! Networks that name what a picture shows.

pub mod classifier;
pub mod losses;
