//! The list of images. Only visible rows are drawn, so its length does not matter.

use egui::{Align, Layout, RichText, ScrollArea, Sense, Ui, vec2};

use crate::panels::PanelContext;
use crate::panels::image_list::{self, ImageResult};
use crate::state::{Compare, Pane, ViewerState};
use crate::style::{elided, hint};
use crate::textures::Delivered;

/// Height of a row with a thumbnail, in points.
const THUMBNAIL: f32 = 44.0;
/// Seconds without paging after which missing thumbnails are requested. Decoding thumbnails of images that
/// are only passed would slow down paging.
const PAGING_PAUSE: f64 = 0.08;

/// Draws the list.
pub fn show(ui: &mut Ui, context: &mut PanelContext<'_>) {
    let state = &mut *context.state;
    if state.collection.is_none() {
        hint(ui, "No images are open.");
        return;
    }
    image_list::controls(ui, state);
    if state.compare == Compare::Network {
        hint(ui, "counts are those of the first network");
    }
    ui.checkbox(&mut state.settings.thumbnails, "thumbnails");
    ui.separator();
    rows(ui, context);
}

fn rows(ui: &mut Ui, context: &mut PanelContext<'_>) {
    let (state, textures) = (&mut *context.state, &mut *context.textures);
    let Some(collection) = state.collection.clone() else {
        return;
    };
    let height = if state.settings.thumbnails {
        THUMBNAIL
    } else {
        ui.text_style_height(&egui::TextStyle::Body) + 4.0
    };
    let order = state.order.clone();
    // The list scrolls to an image that was selected by a key.
    let spacing = ui.spacing().item_spacing.y;
    let memory = ui.scope_id().with("scrolled to");
    let scrolled_to: Option<usize> = ui.data(|data| data.get_temp(memory));
    let now = ui.input(|input| input.time);
    let jumped = memory.with("when");
    // Beside the rows instead of over their counts.
    ui.spacing_mut().scroll = egui::style::ScrollStyle::solid();
    let mut area = ScrollArea::vertical().auto_shrink([false, false]);
    if scrolled_to != Some(state.current) {
        ui.data_mut(|data| data.insert_temp(memory, state.current));
        if scrolled_to.is_some() {
            ui.data_mut(|data| data.insert_temp(jumped, now));
        }
        if let Some(row) = order.iter().position(|&i| i as usize == state.current) {
            let offset = row as f32 * (height + spacing) - ui.available_height() / 2.0;
            area = area.vertical_scroll_offset(offset.max(0.0));
        }
    }
    let since = ui
        .data(|data| data.get_temp(jumped))
        .map(|at: f64| now - at);
    let to_wait = since.map_or(0.0, |since| PAGING_PAUSE - since);
    if to_wait > 0.0 {
        let wait = std::time::Duration::from_secs_f64(to_wait);
        ui.ctx().request_repaint_after(wait);
    }
    area.show_rows(ui, height, order.len(), |ui, range| {
        for row_index in range {
            let Some(&index) = order.get(row_index) else {
                continue;
            };
            let index = index as usize;
            row(
                ui,
                state,
                &collection.image_title(index),
                index,
                height,
                |ui| match textures.thumbnail(index, to_wait <= 0.0) {
                    Delivered::Ready(texture) => {
                        let size = texture.size_vec2();
                        let scale = (height / size.x.max(size.y)).min(1.0);
                        ui.add(egui::Image::new((texture.id(), size * scale)));
                    }
                    Delivered::Missing => context.missing_thumbnails.push(index),
                    Delivered::Unreadable => unreadable(ui),
                    Delivered::Requested => {}
                },
            );
        }
    });
}

fn row(
    ui: &mut Ui,
    state: &mut ViewerState,
    title: &str,
    index: usize,
    height: f32,
    thumbnail: impl FnOnce(&mut Ui),
) {
    let size = vec2(ui.available_width(), height);
    let (rect, response) = ui.allocate_exact_size(size, Sense::click());
    let is_current = index == state.current;
    response
        .widget_info(|| egui::WidgetInfo::selected(egui::Role::Button, true, is_current, title));
    if response.clicked() {
        state.go_to(index);
    }
    let visuals = ui.style().interact_selectable(&response, is_current);
    if is_current || response.hovered() {
        ui.painter().rect_filled(rect, 3.0, visuals.weak_bg_fill);
    }
    let mut inner = ui.new_child(
        egui::UiBuilder::new()
            .max_rect(rect)
            .layout(Layout::left_to_right(Align::Center)),
    );
    if state.settings.thumbnails {
        inner.allocate_ui(vec2(height, height), |ui| {
            ui.centered_and_justified(thumbnail);
        });
    }
    inner.with_layout(Layout::right_to_left(Align::Center), |ui| {
        ui.add_space(4.0);
        if let Some(known) = ImageResult::of(state, index, Pane::First) {
            result(ui, &known);
        }
        ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
            let text = RichText::new(elided(ui, title)).color(visuals.text_color());
            ui.add(egui::Label::new(text).truncate().selectable(false));
        });
    });
}

/// Shows what is known about an image, at the right end of its row.
fn result(ui: &mut Ui, known: &ImageResult<'_>) {
    // The file name has the larger part of the row.
    let width = ui.available_width() * 0.45;
    let parts = known.parts(ui).into_iter().zip(known.words());
    for ((text, color), words) in parts.rev() {
        let text = RichText::new(text).size(12.0).color(color);
        let label = egui::Label::new(text).truncate().selectable(false);
        ui.scope(|ui| {
            ui.set_max_width(width);
            ui.add(label)
                .widget_info(|| egui::WidgetInfo::labeled(egui::Role::Label, true, &words));
        });
    }
}

/// Marks an image that cannot be read.
fn unreadable(ui: &mut Ui) {
    let mark = RichText::new("✖").color(ui.visuals().error_fg_color);
    ui.add(egui::Label::new(mark).selectable(false))
        .on_hover_text("this image cannot be read")
        .widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, "unreadable image"));
}
