//! The images of the grid. Only those in sight are decoded and drawn.

use egui::text::{LayoutJob, TextFormat, TextWrapping};
use egui::{Id, Painter, Rect, Response, Ui, vec2};

use crate::drawing::outlines::Outlines;
use crate::panels::PanelContext;
use crate::panels::box_labels::Labels;
use crate::panels::cells::{Cells, FONT, LINE, Placed, draw_crop};
use crate::panels::image_list::ImageResult;
use crate::state::{Collection, Crop, CurrentBoxes, GridView, ViewerState};
use crate::style::{box_stroke, box_text, count, elided_to};
use crate::textures::Delivered;

/// The least width and height of an image with labels, in points: below, they would cover the image.
const LABELED_SIDE: f32 = 160.0;
/// The most labels in an image.
const MAX_LABELS: usize = 12;
/// The longer sides of decoded images, in pixels. Few of them, so that a drag of the size decodes an image a few times only.
const SIDES: [u32; 5] = [160, 240, 320, 480, 960];

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
    let cells = Cells::new(ui, state.settings.grid_side, true);
    let (columns, side) = (cells.columns, cells.side);
    let pixels = crop_pixels(side * ui.pixels_per_point());
    let network = state.network_in_focus();
    let to_show = image_to_show(ui, state, columns, side);
    let (mut clicked, mut has_crowds) = (None, false);
    let id = Id::unique("grid");
    let in_sight = cells.show(ui, id, order.len(), to_show, |ui, cell| {
        let Some(&image) = order.get(cell.at) else {
            return;
        };
        let image = image as usize;
        let crop = Crop::whole(image, pixels);
        crops_in_sight.push(crop);
        let boxes = cache.boxes_of(state, image, network);
        has_crowds |= boxes.ground_truth.iter().any(|truth| truth.is_crowd);
        let tile = Tile {
            state,
            collection: &collection,
            image,
            boxes,
        };
        tile.describe(&cell.response);
        let delivered = textures.crop(crop, cell.may_request);
        if let Delivered::Missing = delivered {
            missing_crops.push(crop);
        }
        if let Some(placed) = draw_crop(ui, cell.square(), delivered) {
            let visible = placed.place.intersect(ui.clip_rect());
            let painter = ui.painter().with_clip_rect(visible);
            tile.outlines(&painter, &placed).draw(&painter);
        }
        tile.caption(ui, cell.rect);
        cell.mark(ui, image == state.current);
        let response = cell.response;
        if response.clicked() {
            clicked = Some(image);
        }
        if response.hovered() {
            response.on_hover_text(tile.in_words());
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

/// Returns the longer side of the images for places of this many pixels.
fn crop_pixels(place: f32) -> u32 {
    let large = SIDES.into_iter().find(|side| *side as f32 >= place);
    large.unwrap_or(SIDES[SIDES.len() - 1])
}

/// Returns the position of the current image if the image or its place has changed since the last frame: the grid then
/// scrolls to it.
fn image_to_show(ui: &Ui, state: &ViewerState, columns: usize, side: f32) -> Option<usize> {
    let memory = ui.scope_id().with("scrolled to");
    let place = (state.current, columns, side.round() as u32);
    let known: Option<(usize, usize, u32)> = ui.data(|data| data.get_temp(memory));
    if known == Some(place) {
        return None;
    }
    ui.data_mut(|data| data.insert_temp(memory, place));
    let mut order = state.order.iter();
    order.position(|&image| image as usize == state.current)
}

/// An image of the grid.
pub(super) struct Tile<'a> {
    pub state: &'a ViewerState,
    pub collection: &'a Collection,
    pub image: usize,
    pub boxes: &'a CurrentBoxes,
}

impl Tile<'_> {
    /// Returns what is known about the image: of the same network as the boxes.
    fn result(&self) -> Option<ImageResult<'_>> {
        ImageResult::of(self.state, self.image, self.state.network_in_focus())
    }

    /// Returns the name of the image and what is known about it.
    pub fn in_words(&self) -> String {
        let title = self.collection.image_title(self.image);
        let known = self.result();
        let words = known.map_or_else(Vec::new, |known| known.words());
        let words = if words.is_empty() && !self.boxes.ground_truth.is_empty() {
            vec![count(self.boxes.ground_truth.len(), "annotation")]
        } else {
            words
        };
        let parts = std::iter::once(title).chain(words);
        parts.collect::<Vec<_>>().join(", ")
    }

    /// Returns the same for a caption that is cut where the image ends: what is known comes before the name.
    pub fn caption_of_export(&self) -> String {
        let title = self.collection.image_title(self.image);
        match self.result() {
            Some(ImageResult::Counts(counts)) => format!(
                "✔{} ✖{} missed {}  {title}",
                counts.correct, counts.wrong, counts.missed
            ),
            Some(known @ ImageResult::Class(..)) => {
                format!("{}  {title}", known.words().join(", "))
            }
            None => title,
        }
    }

    fn describe(&self, response: &Response) {
        let is_current = self.image == self.state.current;
        response.widget_info(|| {
            egui::WidgetInfo::selected(egui::Role::Button, true, is_current, self.in_words())
        });
    }

    /// Returns the boxes and labels of the image in its place.
    pub fn outlines(&self, painter: &Painter, image: &Placed) -> Outlines {
        let (state, boxes) = (self.state, self.boxes);
        let mut outlines = Outlines::new(painter.pixels_per_point(), painter.clip_rect());
        let mut labels = Labels::new(painter);
        let visible = state.visible_boxes(boxes);
        // Detections come first in the list, those of high score before others, and are drawn on top.
        for &of in visible.iter().rev() {
            if let Some(rect) = boxes.box_of(of).map(|of| image.rect(of)) {
                outlines.of_box(boxes, of, rect, box_stroke(state, boxes, of));
            }
        }
        if image.place.width().max(image.place.height()) >= LABELED_SIDE {
            for &of in &visible {
                let Some(rect) = boxes.box_of(of).map(|of| image.rect(of)) else {
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
        let known = self.result();
        let parts = known.map_or_else(Vec::new, |known| known.parts(ui));
        let mut right = LayoutJob::default();
        for (text, color) in parts {
            let format = TextFormat::simple(FONT, color);
            right.append(&text, if right.is_empty() { 0.0 } else { 6.0 }, format);
        }
        right.wrap = TextWrapping::truncate_at_width(cell.width() * 0.6);
        let right = ui.painter().layout_job(right);
        let width = cell.width() - right.size().x - 6.0;
        let ink = ui.visuals().text_color();
        let title = elided_to(ui, &self.collection.image_title(self.image), &FONT, width);
        let mut left = LayoutJob::simple_singleline(title, FONT, ink);
        left.wrap = TextWrapping::truncate_at_width(width);
        let left = ui.painter().layout_job(left);
        ui.painter().galley(at, left, ink);
        let at = cell.right_bottom() - vec2(right.size().x, LINE);
        ui.painter().galley(at, right, ink);
    }
}
