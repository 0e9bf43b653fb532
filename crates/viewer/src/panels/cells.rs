//! Many crops in rows: the errors, and the images of the grid. Only those in sight are decoded and drawn.

use std::ops::Range;

use egui::style::ScrollAnimation;
use egui::{
    Align2, Color32, FontId, Id, Pos2, Rect, Response, ScrollArea, Sense, Stroke, StrokeKind,
    TextureHandle, Ui, pos2, vec2,
};

use crate::style::WHOLE_TEXTURE;
use crate::textures::Delivered;
use sedet_data::boxes::BoxXyxy;

/// Height of the line below a crop, in points.
pub(super) const LINE: f32 = 16.0;
/// Gap between crops, in points.
const GAP: f32 = 8.0;
/// Font size of the line below a crop.
pub(super) const FONT: FontId = FontId::proportional(12.0);

/// The places of crops.
pub(super) struct Cells {
    /// The number in a row.
    pub columns: usize,
    /// Width and height of a crop, in points.
    pub side: f32,
}

/// A crop that is being drawn.
pub(super) struct Cell {
    /// The position among all.
    pub at: usize,
    /// The crop with the line below it.
    pub rect: Rect,
    pub response: Response,
    /// Whether the crop may be requested: those that are only passed are not decoded.
    pub may_request: bool,
}

impl Cell {
    /// Returns the place of the crop.
    pub fn square(&self) -> Rect {
        let side = self.rect.width();
        Rect::from_min_size(self.rect.min, vec2(side, side))
    }

    /// Marks the crop that is chosen, or under the pointer.
    pub fn mark(&self, ui: &Ui, is_chosen: bool) {
        if is_chosen || self.response.hovered() || self.response.has_focus() {
            let ink = ui.visuals().strong_text_color();
            let stroke = Stroke::new(if is_chosen { 2.0 } else { 1.0 }, ink);
            let rect = self.rect.expand(2.0);
            let painter = ui.painter();
            painter.rect_stroke(rect, 0.0, stroke, StrokeKind::Inside);
        }
    }
}

impl Cells {
    /// Returns the places of crops of this width and height that fit beside each other; if `fills`, of larger ones that
    /// leave no room in a row.
    pub fn new(ui: &mut Ui, side: f32, fills: bool) -> Self {
        ui.spacing_mut().item_spacing = vec2(GAP, GAP);
        // Beside the crops instead of over them.
        ui.spacing_mut().scroll = egui::style::ScrollStyle::solid();
        let width = ui.available_width() - ui.spacing().scroll.bar_width;
        let side = side.min(width.max(GAP));
        let columns = (((width + GAP) / (side + GAP)) as usize).max(1);
        // A single column keeps the size.
        let filled = ((width + GAP) / columns as f32 - GAP).floor();
        Self {
            columns,
            side: if fills && columns > 1 { filled } else { side },
        }
    }

    /// Draws `count` crops and scrolls to one of them, if it is to be shown. Returns the positions of those in sight. Each
    /// `id` keeps its scroll offset.
    pub fn show(
        &self,
        ui: &mut Ui,
        id: Id,
        count: usize,
        to_show: Option<usize>,
        mut draw: impl FnMut(&mut Ui, Cell),
    ) -> Range<usize> {
        let (columns, side) = (self.columns, self.side);
        let memory = ui.scope_id().with("first row");
        let before: Option<usize> = ui.data(|data| data.get_temp(memory));
        let mut in_sight = 0..0;
        let area = ScrollArea::vertical()
            .id_salt(id)
            .auto_shrink([false, false]);
        area.show_rows(ui, side + LINE, count.div_ceil(columns), |ui, rows| {
            ui.data_mut(|data| data.insert_temp(memory, rows.start));
            let passes = before.is_some_and(|before| before.abs_diff(rows.start) > 1);
            if passes {
                ui.ctx().request_repaint();
            }
            in_sight = rows.start * columns..(rows.end * columns).min(count);
            if let Some(at) = to_show {
                let below = (at / columns) as f32 - rows.start as f32;
                let corner = ui.max_rect().left_top();
                let top = corner.y + below * (side + LINE + GAP);
                let place = Rect::from_min_size(pos2(corner.x, top), vec2(1.0, side + LINE));
                ui.scroll_to_rect_animation(place, None, ScrollAnimation::none());
            }
            for row in rows {
                ui.horizontal(|ui| {
                    for at in row * columns..((row + 1) * columns).min(count) {
                        let size = vec2(side, side + LINE);
                        let (rect, response) = ui.allocate_exact_size(size, Sense::click());
                        let cell = Cell {
                            at,
                            rect,
                            response,
                            may_request: !passes,
                        };
                        draw(ui, cell);
                    }
                });
            }
        });
        in_sight
    }
}

/// A crop in its place.
pub(super) struct Placed {
    /// The place on the screen.
    pub place: Rect,
    /// The part of the image.
    pub region: BoxXyxy,
    /// Points per pixel of the image.
    scale: f32,
}

impl Placed {
    /// Returns the place of a whole image of this width and height in pixels, with a longer side of this many points.
    pub fn whole(side: f32, [width, height]: [f32; 2]) -> Self {
        let scale = side / width.max(height).max(1.0);
        Self {
            place: Rect::from_min_size(Pos2::ZERO, vec2(width, height) * scale),
            region: BoxXyxy::new(0.0, 0.0, width, height),
            scale,
        }
    }

    /// Returns the place of a box of the image.
    pub fn rect(&self, of: BoxXyxy) -> Rect {
        let Self {
            place,
            region,
            scale,
        } = self;
        let corner = |x: f32, y: f32| place.min + vec2(x - region.x1, y - region.y1) * *scale;
        Rect::from_min_max(corner(of.x1, of.y1), corner(of.x2, of.y2))
    }
}

/// Draws a crop in the middle of a square; none if it has not been delivered or cannot be read.
pub(super) fn draw_crop(
    ui: &Ui,
    square: Rect,
    delivered: Delivered<(TextureHandle, BoxXyxy)>,
) -> Option<Placed> {
    let painter = ui.painter();
    painter.rect_filled(square, 0.0, ui.visuals().extreme_bg_color);
    let (texture, region) = match delivered {
        Delivered::Ready(ready) => ready,
        Delivered::Missing | Delivered::Requested => return None,
        Delivered::Unreadable => {
            let (at, color) = (square.center(), ui.visuals().error_fg_color);
            painter.text(at, Align2::CENTER_CENTER, "cannot be read", FONT, color);
            return None;
        }
    };
    let (width, height) = (region.width().max(1.0), region.height().max(1.0));
    let scale = (square.width() / width).min(square.height() / height);
    let place = Rect::from_center_size(square.center(), vec2(width, height) * scale);
    painter.image(texture.id(), place, WHOLE_TEXTURE, Color32::WHITE);
    Some(Placed {
        place,
        region,
        scale,
    })
}
