//! Files to pixels and annotations: data sets, formats, downloads. Knows no model.

pub mod blood_cells;
pub mod download;
pub mod formats;
