//! One image with its boxes and gates, between the gallery and the tables.

mod classes;
mod explanation;
mod exports;
mod gallery;
mod gates;
mod objects;
mod rendered_view;
mod shortcuts;
mod view;

use egui::{Color32, Frame, Key, ScrollArea, Style, Ui};

pub(in crate::panels) use objects::thresholds;

use super::{Input, KeyShortcut, Panel, PanelContext, list_shortcuts};
use crate::state::export::Export;
use crate::state::{GalleryQuery, PanelId};

pub(super) use classes::run_on_all;

static SHORTCUTS: &[&[KeyShortcut]] = &[shortcuts::SHORTCUTS, list_shortcuts::SHORTCUTS];

/// The default width of the gallery, in points.
const GALLERY: f32 = 260.0;
/// The default width of tables and gates, in points.
const TABLES: f32 = 360.0;

/// Returns the id of a panel, which keeps its width by this id: in a window that is too narrow for its `usual` width it is
/// another panel, or it would stay narrow in a larger window.
fn of_width(name: &'static str, widest: f32, usual: f32) -> (&'static str, bool) {
    (name, widest < usual)
}

/// The image with its boxes and gates.
pub(crate) struct ImagePanel;

impl Panel for ImagePanel {
    fn id(&self) -> PanelId {
        PanelId::IMAGE
    }

    fn exports(&self) -> &'static [Export] {
        exports::EXPORTS
    }

    fn shortcuts(&self) -> &'static [&'static [KeyShortcut]] {
        SHORTCUTS
    }

    fn update(&self, input: &mut Input<'_>, is_typing: bool) {
        let is_held = input.context.input(|keys| keys.key_down(Key::H));
        input.state.settings.filter.hide_all = is_held && !is_typing;
        // The score threshold may have removed the selected box.
        let boxes = input.cache.boxes(input.state.focused());
        let selected = input.state.selected;
        input.state.selected = selected.filter(|&selected| boxes.contains(selected));
    }

    fn frame(&self, _: &Style) -> Frame {
        Frame::NONE
    }

    fn show(&self, ui: &mut Ui, context: &mut PanelContext<'_>) {
        let side_panel = Frame::side_top_panel(ui.style()).fill(Color32::TRANSPARENT);
        // The image stays in sight, whatever the panels contain.
        let widest = (ui.available_width() * 0.33).max(240.0);
        let state = &context.state;
        let shows = |panel: bool| panel && !state.full_image;
        let (gallery, tables) = (
            shows(state.settings.shows_gallery),
            shows(state.settings.shows_tables),
        );
        if gallery && (state.image_count() > 1 || state.query != GalleryQuery::default()) {
            egui::Panel::left(of_width("gallery", widest, GALLERY))
                .frame(side_panel)
                .resizable(true)
                .default_size(GALLERY)
                .min_size(160.0)
                .max_size(widest)
                .show(ui, |ui| gallery::show(ui, context));
        }
        if tables && context.state.collection.is_some() {
            egui::Panel::right(of_width("objects and gates", widest, TABLES))
                .frame(side_panel)
                .resizable(true)
                .default_size(TABLES)
                .min_size(240.0)
                .max_size(widest)
                .show(ui, |ui| {
                    // Content that is too wide is cut: it would widen the panel over the image.
                    let place = ui.available_rect_before_wrap();
                    let mut inner = ui.new_child(egui::UiBuilder::new().max_rect(place));
                    ui.advance_cursor_after_rect(place);
                    ScrollArea::vertical()
                        .auto_shrink([false, false])
                        .show(&mut inner, |ui| {
                            objects::show(ui, context.state, context.cache);
                            explanation::show(ui, context.state);
                            ui.separator();
                            gates::show(ui, context.state, context.textures);
                        });
                });
        }
        egui::CentralPanel::default()
            .frame(Frame::NONE.inner_margin(4.0))
            .show(ui, |ui| view::show(ui, context));
        let state = &mut context.state;
        let hovered = state.hovered_next.take();
        if state.hovered != hovered {
            state.hovered = hovered;
            // The image of this frame has been drawn with the previous one.
            ui.ctx().request_repaint();
        }
    }
}
