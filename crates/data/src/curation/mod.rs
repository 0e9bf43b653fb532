//! Curation: check, fix, convert, split and count datasets.

pub mod check;
pub mod convert;
mod image_names;
pub mod split;
pub mod statistics;
