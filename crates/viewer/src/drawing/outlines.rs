//! Outlines and labels of many boxes, batched.
//!
//! An outline drawn by egui has antialiased edges: 24 triangles, most of them thinner than a pixel. With
//! software rendering, 1,000 of them take most of a frame. These outlines are rectangles aligned to
//! pixels, which are sharp without antialiasing because all edges are axis-aligned.
//!
//! All of them are drawn as one mesh, or together with the image by a [`Layer`](super::layer::Layer).

use std::sync::Arc;

use egui::{Color32, Galley, Mesh, Painter, Pos2, Rect, Shape, Stroke};
use egui::{pos2, vec2};

use crate::state::{BoxRef, CurrentBoxes};

/// Length of a dash and of a gap, in points.
const DASH: [f32; 2] = [6.0, 4.0];

/// Outlines in drawing order, later ones on top; text is on top of all.
pub(crate) struct Outlines {
    fills: Vec<(Rect, Color32)>,
    texts: Vec<Text>,
    lines: Vec<Shape>,
    pixels_per_point: f32,
    clip: Rect,
}

impl Outlines {
    /// Creates an empty batch. Shapes outside `clip` are skipped.
    pub fn new(pixels_per_point: f32, clip: Rect) -> Self {
        Self {
            fills: Vec::new(),
            texts: Vec::new(),
            lines: Vec::new(),
            pixels_per_point,
            clip,
        }
    }

    /// Adds a solid outline centered on the edges of `rect`.
    pub fn solid(&mut self, rect: Rect, stroke: Stroke) {
        for edge in self.edges(rect, stroke.width) {
            self.fill(edge, stroke.color);
        }
    }

    /// Adds a dashed outline.
    pub fn dashed(&mut self, rect: Rect, stroke: Stroke) {
        let [dash, gap] = DASH;
        for edge in self.edges(rect, stroke.width) {
            let is_horizontal = edge.width() >= edge.height();
            let length = edge.width().max(edge.height());
            let mut from = 0.0;
            while from < length {
                let to = (from + dash).min(length);
                let part = if is_horizontal {
                    Rect::from_min_max(
                        edge.min + vec2(from, 0.0),
                        pos2(edge.left() + to, edge.bottom()),
                    )
                } else {
                    Rect::from_min_max(
                        edge.min + vec2(0.0, from),
                        pos2(edge.right(), edge.top() + to),
                    )
                };
                self.fill(part, stroke.color);
                from += dash + gap;
            }
        }
    }

    /// Adds the outline of a box: that of a crowd region is dashed.
    pub(crate) fn of_box(&mut self, boxes: &CurrentBoxes, of: BoxRef, rect: Rect, stroke: Stroke) {
        match of {
            BoxRef::GroundTruth(at) if boxes.is_crowd(at) => self.dashed(rect, stroke),
            _ => self.solid(rect, stroke),
        }
    }

    /// Adds a filled rectangle, which the caller aligns to pixels.
    pub fn fill(&mut self, rect: Rect, color: Color32) {
        if rect.intersects(self.clip) {
            self.fills.push((rect, color));
        }
    }

    /// Adds a line of text on a filled rectangle.
    pub fn text(&mut self, at: Pos2, galley: Arc<Galley>, ink: Color32) {
        self.texts.push(Text { at, galley, ink });
    }

    /// Adds a line between two boxes.
    pub(crate) fn connect(&mut self, from: Pos2, to: Pos2, stroke: Stroke) {
        self.lines.push(Shape::line_segment([from, to], stroke));
    }

    /// Draws the batch as one mesh and its text.
    pub fn draw(self, painter: &Painter) {
        painter.extend(self.lines);
        if self.fills.is_empty() {
            return;
        }
        let mut mesh = Mesh::default();
        for (rect, color) in self.fills {
            mesh.add_colored_rect(rect, color);
        }
        painter.add(mesh);
        let texts = self.texts.into_iter();
        painter.extend(texts.map(|text| Shape::galley(text.at, text.galley, text.ink)));
    }

    /// Returns filled rectangles, text and lines, for drawing by a [`Layer`](super::layer::Layer).
    pub fn into_parts(self) -> (Vec<(Rect, Color32)>, Vec<Text>, Vec<Shape>) {
        (self.fills, self.texts, self.lines)
    }

    /// Returns the top, bottom, left and right edge without overlaps at the corners. A box that is not
    /// larger than its line is one filled rectangle.
    fn edges(&self, rect: Rect, width: f32) -> Vec<Rect> {
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
}

/// A laid out line of text at its position.
pub struct Text {
    pub at: Pos2,
    pub galley: Arc<Galley>,
    pub ink: Color32,
}

impl PartialEq for Text {
    /// egui caches the layout of text that is used in successive frames and drops the cache when glyphs
    /// move in the atlas, so equal pointers mean equal pixels.
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at && self.ink == other.ink && Arc::ptr_eq(&self.galley, &other.galley)
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
        // The outer edge is 9 to 41 by 19 to 62: every edge is rounded by at most half a pixel.
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
    fn a_box_without_area_is_a_dot_and_one_outside_the_clip_is_skipped() {
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
}
