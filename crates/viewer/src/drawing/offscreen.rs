//! Drawing without a window, for exports.

use egui::{Context, Painter, Pos2, RawInput, Rect, Vec2, ViewportId};

use crate::style::add_fonts;

/// Calls `draw` with a function that returns a painter of a part of an area of this size, at this number of pixels per
/// point. Text is laid out with the fonts of the viewer.
pub(crate) fn offscreen<T>(
    size: Vec2,
    pixels_per_point: f32,
    mut draw: impl FnMut(&dyn Fn(Rect) -> Painter) -> T,
) -> Option<T> {
    let context = Context::default();
    add_fonts(&context);
    let mut input = RawInput {
        screen_rect: Some(Rect::from_min_size(Pos2::ZERO, size)),
        ..RawInput::default()
    };
    if let Some(viewport) = input.viewports.get_mut(&ViewportId::ROOT) {
        viewport.native_pixels_per_point = Some(pixels_per_point);
    }
    let mut drawn = None;
    let _ = context.run_ui(input, |ui| {
        let painter = |visible: Rect| {
            let painter = ui.ctx().layer_painter(ui.layer_id());
            painter.with_clip_rect(visible)
        };
        drawn = Some(draw(&painter));
    });
    drawn
}
