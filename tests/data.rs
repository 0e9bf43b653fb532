//! Datasets, conversions, checks, downloads and metrics.
//!
//! One binary for many files: linking each by itself costs more than running them.

mod common;

mod coco_eval;
mod data_check;
mod data_convert;
mod data_sources;
mod download;
mod labeled_data;
mod matching;
