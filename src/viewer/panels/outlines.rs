//! Many boxes at once: their outlines and the backgrounds of their labels.
//!
//! egui's own outline of a rectangle has smoothed edges: 24 triangles, most of them thinner than a
//! pixel. For 1,000 boxes that is most of a frame where the processor draws. These are rectangles on
//! whole pixels, sharp without smoothing since all edges are straight.
//!
//! A graphics card gets them as one mesh. OpenGL on the processor still spends two thirds of a frame on
//! such a mesh of 1,000 boxes, since it shades blocks of 4 by 4 pixels, twice along the diagonal of each
//! rectangle; there they are filled into a picture here, which is then drawn as one.

use egui::{Color32, ColorImage, Mesh, Painter, Rect, Stroke, TextureHandle, pos2, vec2};
use egui::{TextureOptions, emath::GuiRounding as _};

/// Length of a dash and of the gap after it, in points.
const DASH: [f32; 2] = [6.0, 4.0];
/// Rectangles from which a picture of them is worth its upload.
const MANY: usize = 200;

/// Outlines in the order in which they were added, later ones on top.
pub struct Outlines {
    fills: Vec<(Rect, Color32)>,
    pixels_per_point: f32,
    clip: Rect,
}

impl Outlines {
    /// None yet. What lies outside of `clip` is left out.
    pub fn new(pixels_per_point: f32, clip: Rect) -> Self {
        Self {
            fills: Vec::new(),
            pixels_per_point,
            clip,
        }
    }

    /// A closed line whose middle follows `rect`.
    pub fn solid(&mut self, rect: Rect, stroke: Stroke) {
        for side in self.sides(rect, stroke.width) {
            self.fill(side, stroke.color);
        }
    }

    /// The same in dashes.
    pub fn dashed(&mut self, rect: Rect, stroke: Stroke) {
        let [dash, gap] = DASH;
        for side in self.sides(rect, stroke.width) {
            let is_across = side.width() >= side.height();
            let length = side.width().max(side.height());
            let mut from = 0.0;
            while from < length {
                let to = (from + dash).min(length);
                let part = match is_across {
                    true => Rect::from_min_max(
                        side.min + vec2(from, 0.0),
                        pos2(side.left() + to, side.bottom()),
                    ),
                    false => Rect::from_min_max(
                        side.min + vec2(0.0, from),
                        pos2(side.right(), side.top() + to),
                    ),
                };
                self.fill(part, stroke.color);
                from += dash + gap;
            }
        }
    }

    /// A rectangle, as all of them moved to whole pixels by the caller.
    pub fn fill(&mut self, rect: Rect, color: Color32) {
        if rect.intersects(self.clip) {
            self.fills.push((rect, color));
        }
    }

    /// Put them on the screen, by way of a picture if there is a layer for it and they are many.
    pub fn draw(self, painter: &Painter, layer: Option<&mut Layer>) {
        match layer {
            Some(layer) if self.fills.len() >= MANY => layer.draw(painter, self),
            _ if self.fills.is_empty() => {}
            _ => {
                let mut mesh = Mesh::default();
                for (rect, color) in self.fills {
                    mesh.add_colored_rect(rect, color);
                }
                painter.add(mesh);
            }
        }
    }

    /// Top, bottom, left, right; none of them covers a corner twice. A box that is no wider or
    /// higher than its line is one filled rectangle.
    fn sides(&self, rect: Rect, width: f32) -> Vec<Rect> {
        let scale = self.pixels_per_point;
        let round = |points: f32| (points * scale).round() / scale;
        let width = round(width).max(1.0 / scale);
        let outer = rect.expand(width / 2.0);
        let outer = Rect::from_min_max(
            pos2(round(outer.left()), round(outer.top())),
            pos2(round(outer.right()), round(outer.bottom())),
        );
        let inner = outer.shrink(width);
        if !inner.is_positive() {
            return vec![outer];
        }
        let [top, bottom] = [
            outer.with_max_y(inner.top()),
            outer.with_min_y(inner.bottom()),
        ];
        let [left, right] = [
            Rect::from_x_y_ranges(outer.left()..=inner.left(), inner.y_range()),
            Rect::from_x_y_ranges(inner.right()..=outer.right(), inner.y_range()),
        ];
        vec![top, bottom, left, right]
    }

    /// The part of the screen that they need.
    fn bounds(&self) -> Rect {
        let fills = self.fills.iter();
        let all = fills.fold(Rect::NOTHING, |all, (rect, _)| all.union(*rect));
        let clip = self.clip.round_to_pixels(self.pixels_per_point);
        all.intersect(clip)
    }

    /// Their pixels within `bounds`.
    fn pixels(&self, bounds: Rect) -> ColorImage {
        let pixel = |points: f32, most: usize| {
            let at = (points * self.pixels_per_point).round();
            (at.max(0.0) as usize).min(most)
        };
        let width = pixel(bounds.width(), usize::MAX);
        let height = pixel(bounds.height(), usize::MAX);
        let mut pixels = vec![Color32::TRANSPARENT; width * height];
        for (rect, color) in &self.fills {
            let rect = rect.translate(-bounds.min.to_vec2());
            let across = pixel(rect.left(), width)..pixel(rect.right(), width);
            for y in pixel(rect.top(), height)..pixel(rect.bottom(), height) {
                pixels[y * width..][across.clone()].fill(*color);
            }
        }
        ColorImage::new([width, height], pixels)
    }
}

/// A picture of outlines that is made again when they change.
#[derive(Default)]
pub struct Layer {
    fills: Vec<(Rect, Color32)>,
    bounds: Option<Rect>,
    texture: Option<TextureHandle>,
}

impl Layer {
    fn draw(&mut self, painter: &Painter, outlines: Outlines) {
        let bounds = outlines.bounds();
        if !bounds.is_positive() {
            return;
        }
        if self.bounds != Some(bounds) || self.fills != outlines.fills {
            let image = outlines.pixels(bounds);
            let options = TextureOptions::NEAREST;
            match &mut self.texture {
                Some(texture) => texture.set(image, options),
                None => self.texture = Some(painter.ctx().load_texture("boxes", image, options)),
            }
            (self.bounds, self.fills) = (Some(bounds), outlines.fills);
        }
        if let Some(texture) = &self.texture {
            let all = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
            painter.image(texture.id(), bounds, all, Color32::WHITE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIP: Rect = Rect {
        min: pos2(0.0, 0.0),
        max: pos2(100.0, 100.0),
    };

    fn area(outlines: &Outlines) -> f32 {
        outlines.fills.iter().map(|(rect, _)| rect.area()).sum()
    }

    #[test]
    fn an_outline_covers_each_of_its_pixels_once() {
        let mut outlines = Outlines::new(1.0, CLIP);
        outlines.solid(
            Rect::from_min_max(pos2(10.3, 20.4), pos2(40.2, 60.6)),
            Stroke::new(2.0, Color32::RED),
        );
        assert_eq!(outlines.fills.len(), 4);
        // 9 to 41 and 19 to 62 outside: every edge within half a pixel of where it belongs.
        assert_eq!(area(&outlines), 32.0 * 43.0 - 28.0 * 39.0);
        let on_pixels = |rect: &Rect| *rect == rect.round();
        assert!(outlines.fills.iter().all(|(rect, _)| on_pixels(rect)));
    }

    #[test]
    fn a_line_stays_one_pixel_wide_at_any_density() {
        for density in [0.5, 1.0, 1.25, 2.0] {
            let mut outlines = Outlines::new(density, CLIP);
            outlines.solid(
                Rect::from_min_max(pos2(8.0, 8.0), pos2(40.0, 40.0)),
                Stroke::new(0.2, Color32::RED),
            );
            let pixel = 1.0 / density;
            let outside = 32.0 + pixel;
            let expected = outside * outside - (outside - 2.0 * pixel).powi(2);
            assert!((area(&outlines) - expected).abs() < 1e-3, "{density}");
        }
    }

    #[test]
    fn a_box_without_area_is_a_dot_and_one_outside_is_nothing() {
        let mut outlines = Outlines::new(1.0, CLIP);
        let stroke = Stroke::new(2.0, Color32::RED);
        outlines.solid(Rect::from_min_max(pos2(5.0, 5.0), pos2(5.0, 5.0)), stroke);
        assert_eq!(area(&outlines), 4.0);
        outlines.solid(
            Rect::from_min_max(pos2(200.0, 5.0), pos2(210.0, 9.0)),
            stroke,
        );
        assert_eq!(area(&outlines), 4.0);
    }

    #[test]
    fn dashes_leave_gaps_and_stay_on_the_line() {
        let rect = Rect::from_min_max(pos2(10.0, 10.0), pos2(50.0, 40.0));
        let stroke = Stroke::new(2.0, Color32::RED);
        let [mut whole, mut parts] = [(); 2].map(|()| Outlines::new(1.0, CLIP));
        whole.solid(rect, stroke);
        parts.dashed(rect, stroke);
        let share = area(&parts) / area(&whole);
        assert!((0.55..0.75).contains(&share), "{share}");
    }

    #[test]
    fn the_picture_of_outlines_has_their_pixels_and_no_others() {
        for density in [1.0, 1.5, 2.0] {
            let mut outlines = Outlines::new(density, CLIP);
            let rect = Rect::from_min_max(pos2(10.3, 20.4), pos2(40.2, 60.6));
            outlines.solid(rect, Stroke::new(2.0, Color32::RED));
            // Half of it is out of sight.
            let beyond = Rect::from_min_max(pos2(90.0, 70.0), pos2(110.0, 90.0));
            outlines.fill(beyond, Color32::BLUE);
            let bounds = outlines.bounds();
            assert_eq!(bounds.right(), 100.0);
            let image = outlines.pixels(bounds);
            let count = |color| image.pixels.iter().filter(|p| **p == color).count() as f32;
            let red = area(&outlines) - beyond.area();
            assert!((count(Color32::RED) - red * density * density).abs() < 0.5);
            assert_eq!(count(Color32::BLUE), 200.0 * density * density);
        }
    }
}
