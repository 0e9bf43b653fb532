//! What the colors and lines of boxes mean.

use egui::{Color32, FontId, Rect, Sense, Stroke, Ui, vec2};

use crate::drawing::outlines::Outlines;
use crate::state::ViewerState;
use crate::style::{ANNOTATION, CORRECT, CORRECTED, MISSED, WRONG, hint};
use sedet_data::eval::matching::ErrorType;

/// Width and height of the sample of a line, in points.
const SAMPLE: [f32; 2] = [16.0, 10.0];
/// Gap between a sample and its name, in points.
const GAP: f32 = 4.0;

/// A line of boxes, and its meaning.
struct Entry {
    color: Color32,
    width: f32,
    is_dashed: bool,
    name: &'static str,
    explanation: String,
}

impl Entry {
    fn new(color: Color32, name: &'static str, explanation: &str) -> Self {
        Self {
            color,
            width: 2.0,
            is_dashed: false,
            name,
            explanation: explanation.to_owned(),
        }
    }

    fn thin(self) -> Self {
        Self { width: 1.0, ..self }
    }

    fn dashed(self) -> Self {
        Self {
            is_dashed: true,
            ..self
        }
    }
}

/// Draws the legend in a row; none where there are no boxes. `has_crowds`: whether crowd regions are in sight.
pub(super) fn show(ui: &mut Ui, state: &ViewerState, has_crowds: bool) {
    let entries = entries(state, has_crowds);
    let is_by_class = !state.filter().color_by_verdict && state.shows_boxes();
    if entries.is_empty() && !is_by_class {
        return;
    }
    ui.horizontal_wrapped(|ui| {
        for entry in entries {
            draw(ui, &entry);
        }
        if is_by_class {
            hint(ui, "colors are those of the classes");
        }
    });
}

fn entries(state: &ViewerState, has_crowds: bool) -> Vec<Entry> {
    let collection = state.collection.as_ref();
    let has_annotations = collection.is_some_and(|collection| collection.has_boxes());
    let mut entries = Vec::new();
    let filter = state.filter();
    if state.has_verdicts_of_boxes() && filter.color_by_verdict {
        let errors = ErrorType::ALL.map(|error| {
            let (name, explanation) = (error.short_name(), error.explanation());
            format!("{name}: {explanation}")
        });
        let wrong = format!(
            "a detection that matches no annotation\n{}",
            errors.join("\n")
        );
        entries.extend([
            Entry::new(CORRECT, "correct", "a detection that matches an annotation"),
            Entry::new(
                CORRECT,
                "its annotation",
                "the annotation of a correct detection",
            )
            .thin(),
            Entry::new(WRONG, "wrong", &wrong),
            Entry::new(MISSED, "missed", "an annotation that no detection matches"),
        ]);
    } else if has_annotations && filter.color_by_verdict {
        let explanation = "an annotation; without detections there are no verdicts";
        entries.push(Entry::new(ANNOTATION, "annotation", explanation));
    }
    if has_crowds && filter.color_by_verdict {
        let explanation =
            "a region with many objects, in which detections are neither right nor wrong";
        entries.push(Entry::new(ANNOTATION, "crowd", explanation).dashed());
    }
    if !state.corrections().is_empty() {
        let explanation = "a label that has been corrected";
        entries.push(Entry::new(CORRECTED, "corrected", explanation).dashed());
    }
    entries
}

/// Draws the sample of a line and its meaning, which wrap together.
fn draw(ui: &mut Ui, entry: &Entry) {
    let ink = ui.visuals().text_color();
    let font = FontId::proportional(12.0);
    let name = ui
        .painter()
        .layout_no_wrap(entry.name.to_owned(), font, ink);
    let [width, height] = SAMPLE;
    let text = width + GAP;
    let size = vec2(text + name.size().x, name.size().y.max(height));
    let (rect, response) = ui.allocate_exact_size(size, Sense::hover());
    let line = Rect::from_center_size(
        rect.left_center() + vec2(width / 2.0, 0.0),
        vec2(width, height),
    );
    sample(ui, line, entry);
    let at = rect.left_center() + vec2(text, -name.size().y / 2.0);
    ui.painter().galley(at, name, ink);
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Label, true, entry.name));
    response.on_hover_text(&entry.explanation);
}

fn sample(ui: &Ui, rect: Rect, entry: &Entry) {
    let mut outlines = Outlines::new(ui.pixels_per_point(), ui.clip_rect());
    let stroke = Stroke::new(entry.width, entry.color);
    if entry.is_dashed {
        outlines.dashed(rect, stroke);
    } else {
        outlines.solid(rect, stroke);
    }
    outlines.draw(ui.painter());
}
