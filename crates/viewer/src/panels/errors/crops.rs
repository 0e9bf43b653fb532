//! The crops of the chosen errors. Only those in sight are decoded and drawn.

use egui::{
    Color32, FontId, Rect, Response, ScrollArea, Sense, Stroke, StrokeKind, TextWrapMode, Ui,
    WidgetText, vec2,
};

use super::color;
use crate::drawing::outlines::Outlines;
use crate::panels::{PanelContext, corrections};
use crate::state::{ClassTable, Crop, ErrorItem, ErrorList};
use crate::style::{ANNOTATION, HIGHLIGHT, WHOLE_TEXTURE, count, hint};
use crate::textures::{Delivered, Textures};
use sedet_data::boxes::BoxXyxy;

/// Width and height of a crop, in points.
const CELL: f32 = 160.0;
/// Height of the line below a crop, in points.
const LINE: f32 = 16.0;
/// Gap between crops, in points.
const GAP: f32 = 8.0;

/// Draws the crops.
pub(super) fn show(ui: &mut Ui, context: &mut PanelContext<'_>, list: &ErrorList) {
    let PanelContext {
        state,
        textures,
        missing_crops,
        crops_in_sight,
        ..
    } = context;
    let Some(collection) = state.collection.clone() else {
        return;
    };
    let (choice, shown) = (state.errors.choice(), state.errors.shown().clone());
    let title = choice.name(&state.classes);
    ui.horizontal_wrapped(|ui| {
        ui.strong(format!("{title}: {}", count(shown.len(), "error")));
        let order = if state.finds_boxes() {
            "highest score first, then missed objects, the largest first; click to see the image"
        } else {
            "highest probability first; click to see the image"
        };
        hint(ui, order);
    });
    if shown.is_empty() {
        ui.label("None at these thresholds.");
        return;
    }
    ui.spacing_mut().item_spacing = vec2(GAP, GAP);
    // Beside the crops instead of over them.
    ui.spacing_mut().scroll = egui::style::ScrollStyle::solid();
    let width = ui.available_width() - ui.spacing().scroll.bar_width;
    let columns = (((width + GAP) / (CELL + GAP)) as usize).max(1);
    let rows = shown.len().div_ceil(columns);
    let memory = ui.scope_id().with("first row");
    let before: Option<usize> = ui.data(|data| data.get_temp(memory));
    let opened = state.errors.opened;
    let mut clicked = None;
    let mut in_sight = 0..0;
    // Each group keeps its place.
    let area = ScrollArea::vertical()
        .id_salt(("crops", choice))
        .auto_shrink([false, false]);
    area.show_rows(ui, CELL + LINE, rows, |ui, range| {
        ui.data_mut(|data| data.insert_temp(memory, range.start));
        // Crops that are only passed are not decoded.
        let passes = before.is_some_and(|before| before.abs_diff(range.start) > 1);
        if passes {
            ui.ctx().request_repaint();
        }
        in_sight = range.start * columns..(range.end * columns).min(shown.len());
        let mut outlines = Outlines::new(ui.pixels_per_point(), ui.clip_rect());
        for row in range {
            ui.horizontal(|ui| {
                for at in row * columns..((row + 1) * columns).min(shown.len()) {
                    let item = shown.get(at).and_then(|at| list.items.get(*at as usize));
                    let Some(item) = item else { continue };
                    let crop = item.crop();
                    crops_in_sight.push(crop);
                    let size = vec2(CELL, CELL + LINE);
                    let (rect, response) = ui.allocate_exact_size(size, Sense::click());
                    let is_opened = opened.as_ref() == Some(item);
                    describe(&response, &state.classes, item, at, || {
                        collection.image_title(item.image as usize)
                    });
                    let of = Rect::from_min_size(rect.min, vec2(CELL, CELL));
                    let is_missing = draw(ui, of, textures, (item, crop), !passes, &mut outlines);
                    if is_missing {
                        missing_crops.push(crop);
                    }
                    caption(ui, rect, &item.text(&state.classes));
                    if is_opened || response.hovered() || response.has_focus() {
                        let ink = ui.visuals().strong_text_color();
                        let stroke = Stroke::new(if is_opened { 2.0 } else { 1.0 }, ink);
                        let painter = ui.painter();
                        painter.rect_stroke(rect, 0.0, stroke, StrokeKind::Outside);
                    }
                    if response.clicked() {
                        clicked = Some(*item);
                    }
                    if let Some(of) = item.subject.box_ref() {
                        response.context_menu(|ui| {
                            let image = item.image as usize;
                            let network = state.network_in_focus();
                            let boxes = state.boxes_of(image, network);
                            corrections::menu(ui, state, (image, &boxes), of);
                        });
                    }
                    if response.hovered() {
                        let image = collection.image_title(item.image as usize);
                        let text = explained(item, &state.classes);
                        response.on_hover_text(format!("{text}\n{image}"));
                    }
                }
            });
        }
        outlines.draw(ui.painter());
    });
    (state.errors.in_sight, state.errors.columns) = (in_sight, columns);
    if let Some(item) = clicked {
        state.open_error(item);
    }
}

/// Describes a crop for screen readers.
fn describe(
    response: &Response,
    classes: &ClassTable,
    item: &ErrorItem,
    at: usize,
    image: impl Fn() -> String,
) {
    response.widget_info(|| {
        let label = format!("error {}: {}, {}", at + 1, item.text(classes), image());
        egui::WidgetInfo::labeled(egui::Role::Button, true, label)
    });
}

/// Returns the line of an error with the IoU.
fn explained(item: &ErrorItem, classes: &ClassTable) -> String {
    let text = item.text(classes);
    match item.partner {
        Some((_, iou)) => format!("{text}, IoU {iou:.2} with the nearest annotation"),
        None => text,
    }
}

/// Draws a crop and its boxes, and returns whether it has to be requested.
fn draw(
    ui: &Ui,
    cell: Rect,
    textures: &mut Textures,
    (item, crop): (&ErrorItem, Crop),
    may_request: bool,
    outlines: &mut Outlines,
) -> bool {
    let painter = ui.painter();
    painter.rect_filled(cell, 0.0, ui.visuals().extreme_bg_color);
    let word = |text: &str, color: Color32| {
        let font = FontId::proportional(12.0);
        let middle = egui::Align2::CENTER_CENTER;
        painter.text(cell.center(), middle, text, font, color);
    };
    let (texture, region) = match textures.crop(crop, may_request) {
        Delivered::Ready(ready) => ready,
        Delivered::Missing => return true,
        Delivered::Requested => return false,
        Delivered::Unreadable => {
            word("cannot be read", ui.visuals().error_fg_color);
            return false;
        }
    };
    let (width, height) = (region.width().max(1.0), region.height().max(1.0));
    let scale = (cell.width() / width).min(cell.height() / height);
    let image = Rect::from_center_size(cell.center(), vec2(width, height) * scale);
    painter.image(texture.id(), image, WHOLE_TEXTURE, Color32::WHITE);
    let place = |of: BoxXyxy| {
        let corner = |x: f32, y: f32| image.min + vec2(x - region.x1, y - region.y1) * scale;
        Rect::from_min_max(corner(of.x1, of.y1), corner(of.x2, of.y2)).intersect(image)
    };
    if let Some(partner) = item.partner.map(|(partner, _)| place(partner))
        && partner.is_positive()
    {
        outlines.dashed(partner, Stroke::new(1.0, ANNOTATION));
    }
    let Some(of) = item.subject.box_in_image().map(place) else {
        return false;
    };
    // On any image: the color on a light edge.
    outlines.solid(of, Stroke::new(3.0, HIGHLIGHT.gamma_multiply(0.4)));
    outlines.solid(of, Stroke::new(2.0, color(item.group.kind)));
    false
}

/// Draws the line below a crop, cut where the crop ends.
fn caption(ui: &Ui, cell: Rect, text: &str) {
    let font = FontId::proportional(12.0);
    let wrap = Some(TextWrapMode::Truncate);
    let galley = WidgetText::from(text).into_galley(ui, wrap, cell.width(), font);
    let at = cell.left_bottom() - vec2(0.0, LINE);
    ui.painter().galley(at, galley, ui.visuals().text_color());
}
