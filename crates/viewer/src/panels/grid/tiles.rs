//! The images of the grid. Only those in sight are decoded and drawn.

use egui::style::ScrollAnimation;
use egui::text::{LayoutJob, TextFormat, TextWrapping};
use egui::{
    Color32, FontId, Painter, Rect, Response, ScrollArea, Sense, Stroke, StrokeKind, Ui, pos2, vec2,
};

use crate::drawing::outlines::Outlines;
use crate::panels::PanelContext;
use crate::panels::box_labels::Labels;
use crate::panels::image_list::ImageResult;
use crate::state::{Collection, Crop, CurrentBoxes, GridView, ViewerState};
use crate::style::{WHOLE_TEXTURE, box_stroke, box_text, count};
use crate::textures::{Delivered, Textures};
use sedet_data::boxes::BoxXyxy;

/// Height of the line below an image, in points.
const LINE: f32 = 16.0;
/// Gap between images, in points.
const GAP: f32 = 8.0;
/// The least width and height of an image with labels, in points: below, they would cover the image.
const LABELED_SIDE: f32 = 160.0;
/// The most labels in an image.
const MAX_LABELS: usize = 12;
/// The longer sides of pictures, in pixels. Few of them, so that a drag of the size decodes an image a few times only.
const PICTURES: [u32; 5] = [160, 240, 320, 480, 960];

/// Draws the images of the list.
pub(super) fn show(ui: &mut Ui, context: &mut PanelContext<'_>) {
    let PanelContext {
        state,
        textures,
        cache,
        missing_crops,
        crops_in_sight,
        ..
    } = context;
    let Some(collection) = state.collection.clone() else {
        return;
    };
    let order = state.order.clone();
    if order.is_empty() {
        ui.label("No image has what the list asks for.");
        return;
    }
    ui.spacing_mut().item_spacing = vec2(GAP, GAP);
    // Beside the images instead of over them.
    ui.spacing_mut().scroll = egui::style::ScrollStyle::solid();
    let width = ui.available_width() - ui.spacing().scroll.bar_width;
    let side = state.settings.grid_side.clamp(40.0, width.max(40.0));
    let columns = (((width + GAP) / (side + GAP)) as usize).max(1);
    // The rows are filled; a single column keeps the chosen size.
    let side = if columns > 1 {
        ((width + GAP) / columns as f32 - GAP).floor()
    } else {
        side
    };
    let rows = order.len().div_ceil(columns);
    let picture = picture(side * ui.pixels_per_point());
    let network = state.network_in_focus();
    let memory = ui.scope_id().with("first row");
    let before: Option<usize> = ui.data(|data| data.get_temp(memory));
    let area = ScrollArea::vertical()
        .id_salt("grid")
        .auto_shrink([false, false]);
    let to_show = row_to_show(ui, state, columns, side);
    let mut clicked = None;
    let (mut in_sight, mut has_crowds) = (0..0, false);
    area.show_rows(ui, side + LINE, rows, |ui, range| {
        ui.data_mut(|data| data.insert_temp(memory, range.start));
        // Images that are only passed are not decoded.
        let passes = before.is_some_and(|before| before.abs_diff(range.start) > 1);
        if passes {
            ui.ctx().request_repaint();
        }
        in_sight = range.start * columns..(range.end * columns).min(order.len());
        if let Some(row) = to_show {
            let rows_below = row as f32 - range.start as f32;
            let top = ui.max_rect().top() + rows_below * (side + LINE + GAP);
            let place =
                Rect::from_min_size(pos2(ui.max_rect().left(), top), vec2(1.0, side + LINE));
            ui.scroll_to_rect_animation(place, None, ScrollAnimation::none());
        }
        for row in range {
            ui.horizontal(|ui| {
                for at in row * columns..((row + 1) * columns).min(order.len()) {
                    let Some(&image) = order.get(at) else {
                        continue;
                    };
                    let image = image as usize;
                    let crop = Crop::whole(image, picture);
                    crops_in_sight.push(crop);
                    let boxes = cache.boxes_of(state, image, network);
                    has_crowds |= boxes.ground_truth.iter().any(|truth| truth.is_crowd);
                    let size = vec2(side, side + LINE);
                    let (rect, response) = ui.allocate_exact_size(size, Sense::click());
                    let of = Rect::from_min_size(rect.min, vec2(side, side));
                    let tile = Tile {
                        state,
                        collection: &collection,
                        image,
                        boxes,
                    };
                    tile.describe(&response);
                    if tile.draw(ui, of, textures, crop, !passes) {
                        missing_crops.push(crop);
                    }
                    tile.caption(ui, rect);
                    tile.frame(ui, rect, &response);
                    if response.clicked() {
                        clicked = Some(image);
                    }
                    if response.hovered() {
                        response.on_hover_text(tile.in_words());
                    }
                }
            });
        }
    });
    state.grid = GridView {
        in_sight,
        columns,
        side,
        has_crowds,
    };
    if let Some(image) = clicked {
        state.open_from_grid(image);
    }
}

/// Returns the longer side of the pictures for places of this many pixels.
fn picture(pixels: f32) -> u32 {
    let large = PICTURES.into_iter().find(|side| *side as f32 >= pixels);
    large.unwrap_or(PICTURES[PICTURES.len() - 1])
}

/// Returns the row of the current image if the image or its place has changed since the last frame: the grid then
/// scrolls to it.
fn row_to_show(ui: &Ui, state: &ViewerState, columns: usize, side: f32) -> Option<usize> {
    let memory = ui.scope_id().with("scrolled to");
    let place = (state.current, columns, side.round() as u32);
    let known: Option<(usize, usize, u32)> = ui.data(|data| data.get_temp(memory));
    if known == Some(place) {
        return None;
    }
    ui.data_mut(|data| data.insert_temp(memory, place));
    let mut order = state.order.iter();
    let position = order.position(|&image| image as usize == state.current)?;
    Some(position / columns)
}

/// An image of the grid.
pub(super) struct Tile<'a> {
    pub state: &'a ViewerState,
    pub collection: &'a Collection,
    pub image: usize,
    pub boxes: &'a CurrentBoxes,
}

impl Tile<'_> {
    /// Returns the name of the image and what is known about it.
    pub fn in_words(&self) -> String {
        let title = self.collection.image_title(self.image);
        let known = ImageResult::of(self.state, self.image);
        let words = known.map_or_else(Vec::new, |known| known.words());
        let words = if words.is_empty() && !self.boxes.ground_truth.is_empty() {
            vec![count(self.boxes.ground_truth.len(), "annotation")]
        } else {
            words
        };
        let parts = std::iter::once(title).chain(words);
        parts.collect::<Vec<_>>().join(", ")
    }

    fn describe(&self, response: &Response) {
        let is_current = self.image == self.state.current;
        response.widget_info(|| {
            egui::WidgetInfo::selected(egui::Role::Button, true, is_current, self.in_words())
        });
    }

    /// Draws the image and its boxes, and returns whether the picture has to be requested.
    fn draw(
        &self,
        ui: &Ui,
        cell: Rect,
        textures: &mut Textures,
        crop: Crop,
        may_request: bool,
    ) -> bool {
        let painter = ui.painter();
        painter.rect_filled(cell, 0.0, ui.visuals().extreme_bg_color);
        let (texture, region) = match textures.crop(crop, may_request) {
            Delivered::Ready(ready) => ready,
            Delivered::Missing => return true,
            Delivered::Requested => return false,
            Delivered::Unreadable => {
                let (at, color) = (cell.center(), ui.visuals().error_fg_color);
                let (middle, font) = (egui::Align2::CENTER_CENTER, FontId::proportional(12.0));
                painter.text(at, middle, "cannot be read", font, color);
                return false;
            }
        };
        let (width, height) = (region.width().max(1.0), region.height().max(1.0));
        let scale = (cell.width() / width).min(cell.height() / height);
        let place = Rect::from_center_size(cell.center(), vec2(width, height) * scale);
        painter.image(texture.id(), place, WHOLE_TEXTURE, Color32::WHITE);
        let painter = painter.with_clip_rect(place.intersect(ui.clip_rect()));
        self.outlines(&painter, place, scale).draw(&painter);
        false
    }

    /// Returns the boxes and labels of the image at a place, at this number of points per pixel.
    pub fn outlines(&self, painter: &Painter, place: Rect, scale: f32) -> Outlines {
        let (state, boxes) = (self.state, self.boxes);
        let mut outlines = Outlines::new(painter.pixels_per_point(), painter.clip_rect());
        let mut labels = Labels::new(painter);
        let at = |of: BoxXyxy| {
            let corner = |x: f32, y: f32| place.min + vec2(x, y) * scale;
            Rect::from_min_max(corner(of.x1, of.y1), corner(of.x2, of.y2))
        };
        let visible = state.visible_boxes(boxes);
        // Detections come first in the list, those of high score before others, and are drawn on top.
        for &of in visible.iter().rev() {
            if let Some(rect) = boxes.box_of(of).map(at) {
                outlines.of_box(boxes, of, rect, box_stroke(state, boxes, of));
            }
        }
        if place.width().max(place.height()) >= LABELED_SIDE {
            for &of in &visible {
                let Some(rect) = boxes.box_of(of).map(at) else {
                    continue;
                };
                if labels.count >= MAX_LABELS || boxes.is_matched_annotation(of) {
                    continue;
                }
                let text = box_text(state, boxes, of);
                if !text.is_empty() && labels.may_add(rect) {
                    let color = box_stroke(state, boxes, of).color;
                    labels.add(&mut outlines, rect, text, color);
                }
            }
        }
        outlines
    }

    /// Draws the line below the image: its name, and what is known about it.
    fn caption(&self, ui: &Ui, cell: Rect) {
        let at = cell.left_bottom() - vec2(0.0, LINE);
        let font = FontId::proportional(12.0);
        let known = ImageResult::of(self.state, self.image);
        let parts = known.map_or_else(Vec::new, |known| known.parts(ui));
        let mut right = LayoutJob::default();
        for (text, color) in parts {
            let format = TextFormat::simple(font.clone(), color);
            right.append(&text, if right.is_empty() { 0.0 } else { 6.0 }, format);
        }
        right.wrap = TextWrapping::truncate_at_width(cell.width() * 0.6);
        let right = ui.painter().layout_job(right);
        let width = cell.width() - right.size().x - 6.0;
        let ink = ui.visuals().text_color();
        let title = self.collection.image_title(self.image);
        let mut left = LayoutJob::simple_singleline(title, font, ink);
        left.wrap = TextWrapping::truncate_at_width(width);
        let left = ui.painter().layout_job(left);
        ui.painter().galley(at, left, ink);
        let at = cell.right_bottom() - vec2(right.size().x, LINE);
        ui.painter().galley(at, right, ink);
    }

    fn frame(&self, ui: &Ui, cell: Rect, response: &Response) {
        let is_current = self.image == self.state.current;
        if is_current || response.hovered() || response.has_focus() {
            let ink = ui.visuals().strong_text_color();
            let stroke = Stroke::new(if is_current { 2.0 } else { 1.0 }, ink);
            let painter = ui.painter();
            painter.rect_stroke(cell.expand(2.0), 2.0, stroke, StrokeKind::Inside);
        }
    }
}
