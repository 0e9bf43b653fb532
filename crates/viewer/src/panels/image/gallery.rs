//! The list of images. Only visible rows are drawn, so its length does not matter.

use egui::{Align, Color32, ComboBox, Layout, RichText, ScrollArea, Sense, TextEdit, Ui, vec2};

use crate::panels::PanelContext;
use crate::state::{SortBy, ViewerState};
use crate::style::{CORRECT, MISSED, WRONG, count, hint, named_text, verdict_text};
use crate::textures::Delivered;

/// Height of a row with a thumbnail, in points.
const THUMBNAIL: f32 = 44.0;
/// Seconds without paging after which missing thumbnails are requested. Decoding thumbnails of images that
/// are only passed would slow down paging.
const PAGING_PAUSE: f64 = 0.08;

/// The maximum width of the list of classes, in points.
const MAX_POPUP: f32 = 260.0;

/// Draws the list.
pub fn show(ui: &mut Ui, context: &mut PanelContext<'_>) {
    let state = &mut *context.state;
    let Some(collection) = state.collection.clone() else {
        hint(ui, "No images are open.");
        return;
    };
    ui.add(egui::Label::new(RichText::new(collection.title()).strong()).truncate());
    let search = TextEdit::singleline(&mut state.query.search)
        .hint_text("part of a file name")
        .desired_width(f32::INFINITY);
    let search = ui.add(search);
    search.widget_info(|| named_text("Search"));
    ComboBox::from_label("Order")
        .selected_text(state.query.sort.name())
        .width(130.0)
        .show_ui(ui, |ui| {
            for sort in SortBy::ALL {
                let is_possible = match sort {
                    SortBy::Position | SortBy::Name => true,
                    SortBy::MostObjects => collection.has_boxes(),
                    SortBy::WorstF1 | SortBy::MostWrong | SortBy::MostMissed => {
                        collection.has_boxes() && state.finds_boxes()
                    }
                };
                if !is_possible {
                    continue;
                }
                ui.selectable_value(&mut state.query.sort, sort, sort.name());
            }
        });
    if !state.classes.is_empty() {
        class_choice(ui, state);
    }
    ui.horizontal(|ui| {
        if collection.has_boxes() && state.finds_boxes() {
            ui.checkbox(&mut state.query.errors_only, "errors only")
                .on_hover_text("images with wrong or missed boxes, among those processed");
        }
        ui.checkbox(&mut state.settings.thumbnails, "thumbnails");
    });
    if let Some(picked) = &state.query.picked {
        let text = format!("{} ✖", picked.label);
        if ui.button(text).on_hover_text("show all images").clicked() {
            state.query.picked = None;
        }
    }
    hint(
        ui,
        format!(
            "{} of {}",
            state.order.len(),
            count(collection.len(), "image")
        ),
    );
    ui.separator();
    rows(ui, context);
}

fn class_choice(ui: &mut Ui, state: &mut ViewerState) {
    let shown = state
        .query
        .class
        .map_or("any class", |c| state.classes.name(c));
    ComboBox::from_label("With")
        .selected_text(shown)
        .width(130.0)
        .truncate()
        .show_ui(ui, |ui| {
            ui.set_max_width(MAX_POPUP);
            ui.style_mut().wrap_mode = Some(egui::TextWrapMode::Truncate);
            ui.selectable_value(&mut state.query.class, None, "any class");
            for (at, class) in state.classes.iter().enumerate() {
                ui.selectable_value(&mut state.query.class, Some(at), &class.name)
                    .on_hover_text(&class.name);
            }
        });
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
    let counts = state.tallies[0].as_ref();
    let counts = counts.and_then(|t| t.images.get(index).copied().flatten());
    inner.with_layout(Layout::right_to_left(Align::Center), |ui| {
        ui.add_space(4.0);
        if let Some(counts) = counts {
            badge(ui, counts.missed, MISSED, "missed");
            badge(ui, counts.wrong, WRONG, "wrong");
            badge(ui, counts.correct, CORRECT, "correct");
        }
        ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
            let text = RichText::new(title).color(visuals.text_color());
            ui.add(egui::Label::new(text).truncate().selectable(false));
        });
    });
}

/// Marks an image that cannot be read.
fn unreadable(ui: &mut Ui) {
    let mark = RichText::new("✖").color(ui.visuals().error_fg_color);
    ui.add(egui::Label::new(mark).selectable(false))
        .on_hover_text("this image cannot be read")
        .widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, "unreadable image"));
}

/// Draws a count in the color of its verdict, and a dot for zero.
fn badge(ui: &mut Ui, count: usize, verdict: Color32, name: &str) {
    let text = if count == 0 {
        "·".to_owned()
    } else {
        count.to_string()
    };
    let text = RichText::new(text)
        .size(12.0)
        .color(verdict_text(ui, verdict));
    let response = ui.add(egui::Label::new(text).selectable(false));
    response.widget_info(|| {
        egui::WidgetInfo::labeled(egui::Role::Label, true, format!("{count} {name}"))
    });
}
