//! Settings that are kept between sessions.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{BoxFilter, GridView};
use sedet_data::datasets::registry::AnyDatasetName;

/// What the colors and numbers of a confusion matrix are relative to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum MatrixScale {
    /// The largest count; the numbers are counts.
    #[default]
    Count,
    /// The objects of a class: recall on the diagonal.
    Row,
    /// The detections of a class: precision on the diagonal.
    Column,
}

impl MatrixScale {
    /// All of them, as they are listed.
    pub const ALL: [Self; 3] = [Self::Count, Self::Row, Self::Column];

    /// Returns the label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Count => "counts",
            Self::Row => "% of rows",
            Self::Column => "% of columns",
        }
    }
}

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
    /// Width and height of an image of the grid, in points.
    pub grid_side: f32,
    /// Whether two networks are compared side by side; otherwise with a divider.
    pub side_by_side: bool,
    /// Smoothing factor of training curves, 0 to 1. The default 0 shows the logged values.
    pub smoothing: f64,
    /// What the colors and numbers of the confusion matrix are relative to.
    pub matrix_scale: MatrixScale,
    /// Whether the axes of the training curves, iteration and value, are logarithmic.
    pub log_axes: [bool; 2],
    /// Whether the gallery is shown beside the image.
    pub shows_gallery: bool,
    /// Whether boxes and gates are shown beside the image.
    pub shows_tables: bool,
    /// What was opened last, the latest first.
    pub recent: Vec<String>,
    /// The directory that exports are written to.
    pub export_directory: PathBuf,
    /// The number of pixels per point of exported images, and the scale of exported figures; otherwise the image
    /// decides.
    pub export_scale: Option<u32>,
}

impl Settings {
    /// Adds what was opened to the recent ones.
    pub(crate) fn add_recent(&mut self, opened: &str) {
        const MOST: usize = 12;
        // The viewer may be started in another directory next time.
        let path = std::path::absolute(opened);
        let opened = match path {
            Ok(path) if path.exists() => path.display().to_string(),
            _ if AnyDatasetName::parse(opened).is_ok() => opened.to_owned(),
            _ => return,
        };
        self.recent.retain(|known| *known != opened);
        self.recent.insert(0, opened);
        self.recent.truncate(MOST);
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            filter: BoxFilter::default(),
            dark: true,
            thumbnails: true,
            grid_side: GridView::DEFAULT_SIDE,
            side_by_side: false,
            smoothing: 0.0,
            shows_gallery: true,
            shows_tables: true,
            recent: Vec::new(),
            matrix_scale: MatrixScale::default(),
            log_axes: [false, false],
            export_directory: PathBuf::from("sedet-exports"),
            export_scale: None,
        }
    }
}
