//! The last error, over the content for a while, or until it is closed.

use egui::{Align2, Area, Frame, Id, Order, RichText, Ui, WidgetInfo, vec2};

use crate::state::ViewerState;
use crate::style::{WRONG, verdict_text};

/// The width of the text in points, at most.
const WIDTH: f32 = 640.0;

/// An error is shown for so many seconds; then only the bar at the bottom has it.
const SECONDS: f64 = 20.0;

/// Draws the last error that has not been closed.
pub fn show(ui: &Ui, state: &mut ViewerState) {
    let mut errors = state.notices.iter().filter(|notice| notice.is_error);
    let open = errors.clone().count();
    state.closed_errors = state.closed_errors.min(open);
    let Some(error) = errors.next_back().filter(|_| open > state.closed_errors) else {
        return;
    };
    let text = error.text.clone();
    let now = ui.input(|input| input.time);
    let since = *state.error_since.get_or_insert(now);
    if now - since > SECONDS {
        state.close_error();
        return;
    }
    let left = std::time::Duration::from_secs_f64(SECONDS - (now - since));
    ui.ctx().request_repaint_after(left);
    let place = ui.max_rect();
    let mut is_closed = false;
    Area::new(Id::unique("last error"))
        .order(Order::Foreground)
        .pivot(Align2::CENTER_TOP)
        .fixed_pos(place.center_top() + vec2(0.0, 8.0))
        .show(ui.ctx(), |ui| {
            Frame::popup(ui.style()).show(ui, |ui| {
                ui.set_max_width(WIDTH.min(place.width() - 40.0));
                ui.horizontal(|ui| {
                    let close = ui
                        .button("✕")
                        .on_hover_text("close (Esc); all notices are listed at the bottom left");
                    close.widget_info(|| {
                        WidgetInfo::labeled(egui::Role::Button, true, "Close the error")
                    });
                    is_closed = close.clicked();
                    let text = RichText::new(text).color(verdict_text(ui, WRONG));
                    ui.add(egui::Label::new(text).wrap());
                });
            });
        });
    if is_closed {
        state.close_error();
    }
}
