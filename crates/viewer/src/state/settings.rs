//! Settings that are kept between sessions.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::BoxFilter;

/// Settings that are kept between sessions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Which boxes are drawn, and the thresholds.
    pub filter: BoxFilter,
    /// Dark theme; otherwise light.
    pub dark: bool,
    /// Whether the gallery shows thumbnails.
    pub thumbnails: bool,
    /// Smoothing factor of training curves, 0 to 1. The default 0 shows the logged values.
    pub smoothing: f64,
    /// Whether the axes of the training curves, iteration and value, are logarithmic.
    pub log_axes: [bool; 2],
    /// The directory that exports are written to.
    pub export_directory: PathBuf,
    /// The number of pixels per point of exported images, and the scale of exported figures; otherwise the image
    /// decides.
    pub export_scale: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            filter: BoxFilter::default(),
            dark: true,
            thumbnails: true,
            smoothing: 0.0,
            log_axes: [false, false],
            export_directory: PathBuf::from("sedet-exports"),
            export_scale: None,
        }
    }
}
