//! Curation: check, fix, convert, split and count datasets.

pub mod check;
pub mod convert;
pub mod split;
pub mod statistics;
