//! The desktop viewer of sedet: images, detections and their errors, SE gates, training curves.
//!
//! - [`state`]: everything that is shown, without widgets.
//! - [`work`]: worker threads that decode images, run networks and count matches.
//! - `panels`: trait `Panel` and the list of panels. A panel draws the state, changes it, and brings its
//!   keyboard shortcuts and exports.
//! - `drawing`: images with boxes and labels, drawn in batches.
//! - [`headless`]: the exports of a panel without a window.
//! - `chrome`: bars, notices and help around the panels.
//! - [`app`]: the eframe application.

pub mod app;
mod chrome;
mod drawing;
pub mod headless;
mod panels;
mod renderer;
mod shortcuts;
pub mod state;
mod style;
mod textures;
pub mod work;

pub use app::ViewerApp;
pub use renderer::{RendererChoice, RendererError};
use sedet_core::device::Execution;
pub use work::{Content, Opening};

/// The title of the window and the name of the settings.
const NAME: &str = "sedet";

/// Returns the file in which corrections of labels are kept: beside the settings.
pub fn corrections_file() -> Option<std::path::PathBuf> {
    Some(eframe::storage_dir(NAME)?.join("corrections.json"))
}

/// Opens the window and returns when it is closed.
///
/// # Errors
/// There is no display or no renderer for it.
pub fn run(
    opening: Opening,
    execution: Execution,
    renderer: RendererChoice,
) -> Result<(), eframe::Error> {
    let options = eframe::NativeOptions {
        viewport: egui::ViewportBuilder::default()
            .with_app_id(NAME)
            .with_inner_size([1440.0, 900.0])
            .with_min_inner_size([640.0, 400.0])
            .with_drag_and_drop(true),
        ..eframe::NativeOptions::default()
    };
    renderer.run(NAME, &options, &|creation| {
        Box::new(ViewerApp::new(creation, opening.clone(), execution.clone()))
    })
}
