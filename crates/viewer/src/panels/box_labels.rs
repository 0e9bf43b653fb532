//! The labels of boxes, placed without overlaps.

use std::collections::HashMap;

use egui::emath::GuiRounding as _;
use egui::{Color32, FontId, Painter, Rect, Vec2, pos2, vec2};

use crate::drawing::outlines::Outlines;
use crate::style::color;
use sedet_core::render::palette::text_color_on;

/// The font size of a label, in points.
pub(crate) const LABEL_SIZE: f32 = 12.0;
/// Left and right margin of a label together.
pub(crate) const LABEL_MARGIN: f32 = 6.0;

/// The labels of boxes. They are part of the outlines, since egui would tessellate rounded, antialiased
/// backgrounds into many small triangles.
pub(crate) struct Labels<'a> {
    painter: &'a Painter,
    placer: LabelPlacer,
    /// The number of labels that have been added.
    pub count: usize,
}

impl<'a> Labels<'a> {
    /// Creates labels that stay inside the clip rectangle of the painter.
    pub fn new(painter: &'a Painter) -> Self {
        Self {
            painter,
            placer: LabelPlacer::new(painter.clip_rect(), LABEL_SIZE + 4.0),
            count: 0,
        }
    }

    /// Returns whether a label may fit at a box.
    pub fn may_add(&self, around: Rect) -> bool {
        self.placer.may_place(around, LABEL_MARGIN)
    }

    /// Adds a label to a box if it fits.
    pub fn add(&mut self, outlines: &mut Outlines, around: Rect, text: String, fill: Color32) {
        let [r, g, b, _] = fill.to_array();
        let ink = color(text_color_on([r, g, b]));
        let font = FontId::proportional(LABEL_SIZE);
        let galley = self.painter.layout_no_wrap(text, font, ink);
        let width = galley.size().x + LABEL_MARGIN;
        if let Some(rect) = self.placer.place(around, width) {
            let rect = rect.round_to_pixels(self.painter.pixels_per_point());
            outlines.fill(rect, fill);
            let at = rect.min + vec2(LABEL_MARGIN / 2.0, 1.0);
            outlines.text(at, galley, ink);
            self.count += 1;
        }
    }
}

/// Places labels one after the other; earlier labels take precedence.
#[derive(Debug)]
struct LabelPlacer {
    frame: Rect,
    height: f32,
    /// Occupied rectangles, by the rows of a label's height that they touch.
    rows: HashMap<i32, Vec<Rect>>,
}

impl LabelPlacer {
    /// Creates a placer for labels of one height inside a frame.
    fn new(frame: Rect, height: f32) -> Self {
        Self {
            frame,
            height: height.max(1.0),
            rows: HashMap::new(),
        }
    }

    /// Reserves a rectangle for the label of a box: above its top left corner, otherwise inside it, below
    /// it or above its top right corner. Returns `None` if all of them are occupied or outside the frame.
    fn place(&mut self, around: Rect, width: f32) -> Option<Rect> {
        let place = self.find(around, width)?;
        for row in self.rows_of(place) {
            self.rows.entry(row).or_default().push(place);
        }
        Some(place)
    }

    /// Returns whether a label of at least this width may fit. Checking it first saves the layout of text
    /// that has no place.
    fn may_place(&self, around: Rect, width: f32) -> bool {
        self.find(around, width).is_some()
    }

    fn find(&self, around: Rect, width: f32) -> Option<Rect> {
        let height = self.height;
        let inside = |x: f32| {
            let most = (self.frame.right() - width).max(self.frame.left());
            x.clamp(self.frame.left(), most)
        };
        let left = inside(around.left());
        let candidates = [
            pos2(left, around.top() - height),
            pos2(left, around.top()),
            pos2(left, around.bottom()),
            pos2(inside(around.right() - width), around.top() - height),
            pos2(left, around.bottom() - height),
        ];
        let size = Vec2::new(width, height);
        candidates
            .into_iter()
            .map(|corner| Rect::from_min_size(corner, size))
            .find(|place| {
                place.top() >= self.frame.top()
                    && place.bottom() <= self.frame.bottom()
                    && self.is_free(*place)
            })
    }

    fn rows_of(&self, place: Rect) -> std::ops::RangeInclusive<i32> {
        let row = |y: f32| (y / self.height).floor() as i32;
        row(place.top())..=row(place.bottom())
    }

    /// Labels may touch each other.
    fn is_free(&self, place: Rect) -> bool {
        let covers = |other: &Rect| {
            place.left() < other.right()
                && other.left() < place.right()
                && place.top() < other.bottom()
                && other.top() < place.bottom()
        };
        let mut rows = self.rows_of(place).filter_map(|row| self.rows.get(&row));
        !rows.any(|taken| taken.iter().any(covers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FRAME: Rect = Rect {
        min: pos2(0.0, 0.0),
        max: pos2(400.0, 300.0),
    };

    #[test]
    fn a_label_is_above_its_box_or_inside_at_the_top_of_the_frame() {
        let mut placer = LabelPlacer::new(FRAME, 14.0);
        let box_at = |y: f32| Rect::from_min_size(pos2(50.0, y), Vec2::new(80.0, 60.0));
        assert_eq!(placer.place(box_at(100.0), 40.0).unwrap().bottom(), 100.0);
        assert_eq!(placer.place(box_at(0.0), 40.0).unwrap().top(), 0.0);
        // The label of another box at the same position is placed inside.
        assert_eq!(placer.place(box_at(100.0), 40.0).unwrap().top(), 100.0);
    }

    proptest! {
        #[test]
        fn labels_never_overlap_and_stay_in_the_frame(
            boxes in prop::collection::vec(
                (0.0f32..400.0, 0.0f32..300.0, 1.0f32..200.0, 1.0f32..200.0, 5.0f32..90.0),
                1..60,
            ),
        ) {
            let mut placer = LabelPlacer::new(FRAME, 14.0);
            let mut placed: Vec<Rect> = Vec::new();
            for (x, y, width, height, label) in boxes {
                let around = Rect::from_min_size(pos2(x, y), Vec2::new(width, height));
                let may_place = placer.may_place(around, label.min(6.0));
                if let Some(place) = placer.place(around, label) {
                    prop_assert!(may_place);
                    prop_assert!(FRAME.contains_rect(place));
                    for other in &placed {
                        let common = place.intersect(*other);
                        prop_assert!(common.width() <= 0.0 || common.height() <= 0.0);
                    }
                    placed.push(place);
                }
            }
            prop_assert!(!placed.is_empty());
        }
    }
}
