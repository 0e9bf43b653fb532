//! The window of `sedet view`: images, boxes, gates, curves.
//!
//! [`state`] knows everything that is shown and no widget; [`work`] has the threads; `panels` draw
//! the state and write the user's wishes into it, one file for each part of the window; [`app`] ties
//! them together.

pub mod app;
mod keys;
mod labels;
mod panels;
mod renderer;
pub mod state;
mod style;
mod textures;
pub mod work;

use burn::tensor::Device;

pub use app::ViewerApp;
pub use renderer::RendererChoice;
pub use work::Opening;

/// The title of the window, and the name under which settings are kept.
const NAME: &str = "sedet";

/// Open the window and stay until it is closed.
///
/// # Errors
/// There is no display, or nothing that can draw on it.
pub fn run(
    opening: Opening,
    device: Device,
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
        Box::new(ViewerApp::new(creation, opening.clone(), device.clone()))
    })
}
