//! Datasets, conversions, checks, downloads and metrics.
//!
//! One binary for many files, because linking each file separately takes longer than running it.

mod common;

mod coco_eval;
mod data_check;
mod data_convert;
mod data_policies;
mod data_sources;
mod download;
mod exporters;
mod labeled_data;
mod matching;
