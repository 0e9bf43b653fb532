//! The list of images. Only visible rows are drawn, so its length does not matter.

use egui::{
    Align, Color32, ComboBox, Layout, PopupCloseBehavior, RichText, ScrollArea, Sense, TextEdit,
    Ui, vec2,
};

use crate::panels::PanelContext;
use crate::state::{Compare, Pane, SortBy, ViewerState};
use crate::style::{CORRECT, MISSED, WRONG, count, hint, named_text, verdict_text};
use crate::textures::Delivered;

/// Height of a row with a thumbnail, in points.
const THUMBNAIL: f32 = 44.0;
/// Seconds without paging after which missing thumbnails are requested. Decoding thumbnails of images that
/// are only passed would slow down paging.
const PAGING_PAUSE: f64 = 0.08;

/// The maximum width of the list of classes, in points.
const MAX_POPUP: f32 = 260.0;
/// The maximum height of the list of classes, in points.
const POPUP_HEIGHT: f32 = 320.0;
/// The number of classes up to which their list needs no search.
const UNSEARCHED_CLASSES: usize = 20;

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
                    SortBy::SurestMistake => state.judges_classes(Pane::First),
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
        } else if state.judges_classes(Pane::First) {
            ui.checkbox(&mut state.query.errors_only, "errors only")
                .on_hover_text("images with a wrong class, among those processed");
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
    if state.compare == Compare::Network {
        hint(ui, "counts and order are those of the left network");
    }
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
        .height(POPUP_HEIGHT)
        .truncate()
        .close_behavior(PopupCloseBehavior::CloseOnClickOutside)
        .show_ui(ui, |ui| {
            ui.set_min_width(MAX_POPUP);
            ui.set_max_width(MAX_POPUP);
            ui.style_mut().wrap_mode = Some(egui::TextWrapMode::Truncate);
            if class_list(ui, state) {
                ui.close();
            }
        });
}

/// The classes to choose from, with a search field where there are many. Returns whether one was chosen.
fn class_list(ui: &mut Ui, state: &mut ViewerState) -> bool {
    let mut is_chosen = false;
    let choice = ui.selectable_label(state.query.class.is_none(), "any class");
    if choice.clicked() {
        (state.query.class, is_chosen) = (None, true);
    }
    let memory = ui.scope_id().with("class search");
    let mut search: String = ui.data(|data| data.get_temp(memory)).unwrap_or_default();
    if state.classes.len() > UNSEARCHED_CLASSES {
        let field = TextEdit::singleline(&mut search)
            .hint_text("part of a class name")
            .desired_width(f32::INFINITY);
        ui.add(field).widget_info(|| named_text("Search classes"));
        ui.data_mut(|data| data.insert_temp(memory, search.clone()));
    }
    let search = search.to_lowercase();
    let classes = state.classes.iter().enumerate();
    let found: Vec<usize> = classes
        .filter(|(_, class)| class.name.to_lowercase().contains(&search))
        .map(|(at, _)| at)
        .collect();
    let height = ui.spacing().interact_size.y;
    ScrollArea::vertical()
        .id_salt("classes of the gallery")
        .max_height(POPUP_HEIGHT - 3.0 * height)
        .auto_shrink([false, true])
        .show_rows(ui, height, found.len(), |ui, rows| {
            for &class in found.get(rows).unwrap_or_default() {
                let name = state.classes.name(class);
                let choice = ui.selectable_label(state.query.class == Some(class), name);
                if choice.on_hover_text(name).clicked() {
                    (state.query.class, is_chosen) = (Some(class), true);
                }
            }
        });
    is_chosen
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
        if let Some(class) = state.collection.as_ref().and_then(|c| c.label(index)) {
            let name = state.classes.name(class);
            true_class(ui, name, counts.map(|counts| counts.correct > 0));
        } else if let Some(counts) = counts {
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

/// Shows the true class, and whether it is the predicted one, as far as that is known.
fn true_class(ui: &mut Ui, name: &str, is_right: Option<bool>) {
    let (mark, word) = match is_right {
        Some(true) => ("✔ ", "right: "),
        Some(false) => ("✖ ", "wrong: "),
        None => ("", ""),
    };
    let color = match is_right {
        Some(true) => verdict_text(ui, CORRECT),
        Some(false) => verdict_text(ui, WRONG),
        None => ui.visuals().weak_text_color(),
    };
    // The file name has the larger part of the row.
    let width = ui.available_width() * 0.45;
    let layout = Layout::right_to_left(Align::Center);
    ui.allocate_ui_with_layout(vec2(width, ui.available_height()), layout, |ui| {
        let text = RichText::new(format!("{mark}{name}"))
            .size(12.0)
            .color(color);
        let label = egui::Label::new(text).truncate().selectable(false);
        ui.add(label).widget_info(|| {
            egui::WidgetInfo::labeled(egui::Role::Label, true, format!("{word}{name}"))
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
