//! A heat map of gates: a row for each SE block, a cell for each channel.

use egui::{Color32, ColorImage, Rect, Sense, Stroke, StrokeKind, Ui, pos2, vec2};

use crate::style::{WHOLE_TEXTURE, color};
use crate::textures::Textures;
use sedet_core::render::palette::viridis;

/// Height of a row in points.
const ROW: f32 = 10.0;

/// A heat map of gates.
pub(crate) struct HeatMap<'a> {
    /// The name of its texture, and its label for screen readers.
    pub name: &'static str,
    /// Identifies the content: the texture is drawn again when it changes.
    pub key: u64,
    /// Name and values of each row.
    pub rows: Vec<(&'a str, &'a [f32])>,
    /// The highlighted row.
    pub selected: usize,
}

impl HeatMap<'_> {
    /// Draws the heat map and returns row and channel of a clicked cell.
    pub fn show(&self, ui: &mut Ui, textures: &mut Textures) -> Option<(usize, usize)> {
        let texture = textures.cached(ui.ctx(), self.name, self.key, || {
            self.image(ui.input(|input| input.max_texture_side))
        });
        let size = vec2(ui.available_width(), self.rows.len() as f32 * ROW);
        let (rect, response) = ui.allocate_exact_size(size, Sense::click());
        response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, self.name));
        let painter = ui.painter();
        painter.image(texture.id(), rect, WHOLE_TEXTURE, Color32::WHITE);
        let top = rect.top() + self.selected as f32 * ROW;
        let row = Rect::from_min_size(pos2(rect.left(), top), vec2(rect.width(), ROW));
        let stroke = Stroke::new(1.0, ui.visuals().strong_text_color());
        painter.rect_stroke(row, 0.0, stroke, StrokeKind::Inside);
        let pointer = response.hover_pos()?;
        let row = (((pointer.y - rect.top()) / ROW) as usize).min(self.rows.len().checked_sub(1)?);
        let (name, values) = self.rows[row];
        let fraction = ((pointer.x - rect.left()) / rect.width()).clamp(0.0, 0.999_9);
        let channel = (fraction * values.len() as f32) as usize;
        let clicked = response.clicked();
        let value = values.get(channel)?;
        response.on_hover_text(format!("{name} channel {channel}: {value:.4}"));
        clicked.then_some((row, channel))
    }

    /// Every block fills the width, whatever its number of channels.
    fn image(&self, max_columns: usize) -> ColorImage {
        let channels = self.rows.iter().map(|(_, values)| values.len());
        let columns = channels.max().unwrap_or(1).clamp(1, max_columns.max(1));
        let pixels = self.rows.iter().flat_map(|(_, values)| {
            (0..columns).map(|column| {
                let value = values.get(column * values.len() / columns);
                color(viridis(value.copied().unwrap_or_default()))
            })
        });
        ColorImage::new([columns, self.rows.len()], pixels.collect())
    }
}
