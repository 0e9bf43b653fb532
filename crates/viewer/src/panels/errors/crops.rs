//! The crops of the chosen errors. Only those in sight are decoded and drawn.

use egui::{Id, Rect, Response, Stroke, TextWrapMode, Ui, WidgetText, vec2};

use super::color;
use crate::drawing::outlines::Outlines;
use crate::panels::cells::{Cells, FONT, LINE, Placed, draw_crop};
use crate::panels::{PanelContext, corrections};
use crate::state::{ClassTable, ErrorItem, ErrorList};
use crate::style::{ANNOTATION, HIGHLIGHT, count, hint};
use crate::textures::Delivered;
use sedet_data::boxes::BoxXyxy;

/// Width and height of a crop, in points.
const CELL: f32 = 160.0;

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
    let cells = Cells::new(ui, CELL, false);
    let opened = state.errors.opened;
    let mut clicked = None;
    // Each group keeps its place.
    let id = Id::unique(("crops", choice));
    let in_sight = cells.show(ui, id, shown.len(), None, |ui, cell| {
        let item = shown.get(cell.at);
        let Some(item) = item.and_then(|at| list.items.get(*at as usize)) else {
            return;
        };
        let crop = item.crop();
        crops_in_sight.push(crop);
        describe(&cell.response, &state.classes, item, cell.at, || {
            collection.image_title(item.image as usize)
        });
        let delivered = textures.crop(crop, cell.may_request);
        if let Delivered::Missing = delivered {
            missing_crops.push(crop);
        }
        if let Some(placed) = draw_crop(ui, cell.square(), delivered) {
            boxes(ui, item, &placed).draw(ui.painter());
        }
        caption(ui, cell.rect, &item.text(&state.classes));
        cell.mark(ui, opened.as_ref() == Some(item));
        let response = cell.response;
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
    });
    (state.errors.in_sight, state.errors.columns) = (in_sight, cells.columns);
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

/// Returns the boxes of an error in its crop.
fn boxes(ui: &Ui, item: &ErrorItem, crop: &Placed) -> Outlines {
    let mut outlines = Outlines::new(ui.pixels_per_point(), ui.clip_rect());
    let place = |of: BoxXyxy| crop.rect(of).intersect(crop.place);
    if let Some(partner) = item.partner.map(|(partner, _)| place(partner))
        && partner.is_positive()
    {
        outlines.dashed(partner, Stroke::new(1.0, ANNOTATION));
    }
    if let Some(of) = item.subject.box_in_image().map(place) {
        // On any image: the color on a light edge.
        outlines.solid(of, Stroke::new(3.0, HIGHLIGHT.gamma_multiply(0.4)));
        outlines.solid(of, Stroke::new(2.0, color(item.group.kind)));
    }
    outlines
}

/// Draws the line below a crop, cut where the crop ends.
fn caption(ui: &Ui, cell: Rect, text: &str) {
    let wrap = Some(TextWrapMode::Truncate);
    let galley = WidgetText::from(text).into_galley(ui, wrap, cell.width(), FONT);
    let at = cell.left_bottom() - vec2(0.0, LINE);
    ui.painter().galley(at, galley, ui.visuals().text_color());
}
