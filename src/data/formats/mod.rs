//! Readers of annotation formats.

pub mod voc;
