//! Colors, text and small widgets that panels share.

use egui::epaint::text::{FontInsert, FontPriority, InsertFontFamily};
use egui::{Color32, Rect, Response, RichText, Stroke, Ui, pos2};

use super::state::{BoxRef, Compare, CurrentBoxes, Pane, ViewerState};
use sedet_core::render::label_text;
use sedet_core::render::palette::{Rgb, class_color, contrast, on_white};
use sedet_data::eval::matching::Verdict;

/// The colors of verdicts are from the palette of Okabe and Ito, which color-blind users can tell apart;
/// words and line styles carry the same information.
pub(crate) const CORRECT: Color32 = Color32::from_rgb(0, 158, 115);
/// See [`CORRECT`].
pub(crate) const WRONG: Color32 = Color32::from_rgb(213, 94, 0);
/// See [`CORRECT`]; the sky blue, which is visible on dark images.
pub(crate) const MISSED: Color32 = Color32::from_rgb(86, 180, 233);
/// Annotations before inference, and crowd regions.
pub(crate) const ANNOTATION: Color32 = Color32::from_rgb(240, 228, 66);
/// Corrections of labels; the reddish purple.
pub(crate) const CORRECTED: Color32 = Color32::from_rgb(204, 121, 167);
/// Hovered and selected boxes.
pub(crate) const HIGHLIGHT: Color32 = Color32::WHITE;

/// The texture coordinates of a whole texture.
pub(crate) const WHOLE_TEXTURE: Rect = Rect {
    min: pos2(0.0, 0.0),
    max: pos2(1.0, 1.0),
};

/// Converts a color of the palette.
pub fn color([r, g, b]: Rgb) -> Color32 {
    Color32::from_rgb(r, g, b)
}

/// Returns the color of a class for lines and text on the background of the window.
pub(crate) fn class_on(ui: &Ui, class: usize) -> Color32 {
    if ui.visuals().dark_mode {
        color(class_color(class))
    } else {
        color(on_white(class_color(class)))
    }
}

/// Returns the color of a class for text on the background of the window.
pub(crate) fn class_text(ui: &Ui, class: usize) -> Color32 {
    readable(color(class_color(class)), ui.visuals().panel_fill)
}

/// Returns the color of a verdict for text, also in a selected row.
pub(crate) fn verdict_text(ui: &Ui, verdict: Color32) -> Color32 {
    readable(verdict, ui.visuals().selection.bg_fill)
}

/// The least contrast of text to its background (WCAG 2.1, level AA).
const READABLE: f64 = 4.5;

/// Mixes a color with white on a dark background, or with black on a light one, until text in it is
/// readable.
fn readable(text: Color32, background: Color32) -> Color32 {
    let rgb = |color: Color32| [color.r(), color.g(), color.b()];
    let background = rgb(background);
    let is_dark = contrast(background, [255; 3]) > contrast(background, [0; 3]);
    let mut text = rgb(text);
    for _ in 0..MIXES {
        if contrast(text, background) >= READABLE {
            break;
        }
        text = text.map(|channel| {
            if is_dark {
                channel + (255 - channel).div_ceil(8)
            } else {
                channel - channel.div_ceil(8)
            }
        });
    }
    color(text)
}

/// The steps after which every color is white or black.
const MIXES: usize = 64;

/// Returns the black or white that is readable on a color.
pub(crate) fn ink_on(background: Color32) -> Color32 {
    let [r, g, b, _] = background.to_array();
    let ratio = |ink: u8| contrast([r, g, b], [ink; 3]);
    if ratio(0) >= ratio(255) {
        Color32::BLACK
    } else {
        Color32::WHITE
    }
}

/// Returns an opaque color as it appears over another one with this share.
pub(crate) fn mixed(over: Color32, below: Color32, share: f32) -> Color32 {
    below.lerp_to_gamma(over, share)
}

/// Adapts the colors of egui: its weak text and its text on selections have too little contrast.
pub(crate) fn visuals(dark: bool) -> egui::Visuals {
    if dark {
        let mut visuals = egui::Visuals::dark();
        visuals.widgets.noninteractive.fg_stroke.color = Color32::from_gray(190);
        visuals.weak_text_color = Some(Color32::from_gray(160));
        visuals.selection.bg_fill = Color32::from_rgb(16, 52, 74);
        visuals.selection.stroke.color = Color32::from_rgb(214, 236, 255);
        visuals.error_fg_color = readable(visuals.error_fg_color, visuals.panel_fill);
        visuals.hyperlink_color = readable(visuals.hyperlink_color, visuals.panel_fill);
        visuals
    } else {
        let mut visuals = egui::Visuals::light();
        visuals.weak_text_color = Some(Color32::from_gray(85));
        visuals.selection.bg_fill = Color32::from_rgb(186, 224, 250);
        visuals.selection.stroke.color = Color32::from_rgb(0, 50, 90);
        visuals.widgets.noninteractive.fg_stroke.color = Color32::from_gray(50);
        visuals.widgets.inactive.fg_stroke.color = Color32::from_gray(40);
        visuals.error_fg_color = readable(visuals.error_fg_color, visuals.panel_fill);
        visuals.warn_fg_color = readable(visuals.warn_fg_color, visuals.panel_fill);
        visuals
    }
}

/// Returns the color of a box.
pub(crate) fn box_color(state: &ViewerState, boxes: &CurrentBoxes, of: BoxRef) -> Color32 {
    let class = boxes.class_of(of);
    if !state.filter().color_by_verdict || boxes.matches.is_none() {
        return match of {
            BoxRef::GroundTruth(_) if state.filter().color_by_verdict => ANNOTATION,
            _ => color(class_color(class.unwrap_or_default())),
        };
    }
    match of {
        BoxRef::Detection(at) => match boxes.verdict(at) {
            Some(Verdict::Correct { .. }) => CORRECT,
            Some(Verdict::Wrong { .. }) => WRONG,
            _ => ANNOTATION,
        },
        BoxRef::GroundTruth(at) if boxes.is_missed(at) => MISSED,
        BoxRef::GroundTruth(at) if boxes.is_crowd(at) => ANNOTATION,
        BoxRef::GroundTruth(_) => CORRECT,
    }
}

/// Returns the line that a box is drawn with. The annotation of a correct detection is thin: the detection represents
/// it.
pub(crate) fn box_stroke(state: &ViewerState, boxes: &CurrentBoxes, of: BoxRef) -> Stroke {
    let width = if boxes.is_matched_annotation(of) {
        1.0
    } else {
        2.0
    };
    Stroke::new(width, box_color(state, boxes, of))
}

/// Returns the label of a box: class, score and error.
pub(crate) fn box_text(state: &ViewerState, boxes: &CurrentBoxes, of: BoxRef) -> String {
    let filter = state.filter();
    let class = boxes.class_of(of).filter(|_| filter.show_labels);
    let score = boxes.score_of(of).filter(|_| filter.show_scores);
    let name = class.map_or("", |class| state.classes.name(class));
    let label = label_text(name, score);
    let error = match of {
        BoxRef::Detection(at) => match boxes.verdict(at) {
            Some(Verdict::Wrong { error, .. }) => error.short_name(),
            _ => "",
        },
        BoxRef::GroundTruth(at) if boxes.is_missed(at) => "missed",
        BoxRef::GroundTruth(at) if boxes.is_crowd(at) => "crowd",
        BoxRef::GroundTruth(_) => "",
    };
    if filter.show_labels && !error.is_empty() {
        format!("{label} {error}").trim_start().to_owned()
    } else {
        label
    }
}

pub use sedet_data::text::count;

/// Draws the choice of the pane that tables, counts and metrics are of, in a comparison.
pub(crate) fn pane_choice(ui: &mut Ui, state: &mut ViewerState) {
    let names = match state.compare {
        Compare::Off => return,
        Compare::Image(_) => ["first image", "second image"],
        Compare::Network => ["first network", "second network"],
    };
    let before = state.focus;
    ui.horizontal(|ui| {
        for (pane, name) in [Pane::First, Pane::Second].into_iter().zip(names) {
            ui.selectable_value(&mut state.focus, pane, name)
                .on_hover_text("table, counts and keys are about this one");
        }
    });
    if state.focus != before {
        state.selected = None;
    }
}

/// Warns that no detection can be right, because the network has other classes than the dataset.
pub(crate) fn foreign_classes(ui: &mut Ui, state: &ViewerState) {
    if let Some(text) = state.foreign_classes(state.network_in_focus()) {
        ui.colored_label(ui.visuals().warn_fg_color, text);
    }
}

/// Adds a fallback for arrows, Greek, Cyrillic and more, which the fonts of egui lack.
pub(crate) fn add_fonts(context: &egui::Context) {
    let families = [egui::FontFamily::Proportional, egui::FontFamily::Monospace];
    context.add_font(FontInsert::new(
        "DejaVu Sans",
        egui::FontData::from_static(dejavu::sans::regular()),
        families
            .map(|family| InsertFontFamily {
                family,
                priority: FontPriority::Lowest,
            })
            .into(),
    ));
}

/// Draws an explanation in small, gray text.
pub fn hint(ui: &mut Ui, text: impl Into<String>) {
    ui.label(RichText::new(text).weak().size(11.0));
}

/// Draws an empty panel with a line on how to fill it.
pub(crate) fn empty_page(ui: &mut Ui, title: &str, hint: &str) {
    ui.vertical_centered(|ui| {
        ui.add_space(ui.available_height() * 0.3);
        ui.heading(title);
        ui.label(hint);
    });
}

/// Formats a number such as `0.873`, or a dash for `None`.
pub fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}"))
}

/// Returns a height in points that grows with the window: this share of it, but at least `least`.
pub(crate) fn part_of_window(ui: &Ui, least: f32, share: f32) -> f32 {
    (ui.ctx().content_rect().height() * share).max(least)
}

/// Returns a file name for the width that is left: of a long one the end, which tells files apart more often than the
/// beginning does.
pub(crate) fn elided(ui: &Ui, name: &str) -> String {
    let font = egui::TextStyle::Body.resolve(ui.style());
    elided_to(ui, name, &font, ui.available_width())
}

/// Returns a file name for a width in points and a font, as [`elided`] does.
pub(crate) fn elided_to(ui: &Ui, name: &str, font: &egui::FontId, width: f32) -> String {
    ui.fonts_mut(|fonts| end_of(name, width, |glyph| fonts.glyph_width(font, glyph)))
}

/// Returns the end of a name that has this width, after an ellipsis where the name is longer.
fn end_of(name: &str, width: f32, mut width_of: impl FnMut(char) -> f32) -> String {
    let whole: f32 = name.chars().map(&mut width_of).sum();
    if whole <= width {
        return name.to_owned();
    }
    let mut left = width - width_of('…');
    let mut start = name.len();
    for (at, glyph) in name.char_indices().rev() {
        left -= width_of(glyph);
        if left < 0.0 {
            break;
        }
        start = at;
    }
    format!("…{}", &name[start..])
}

/// Draws a name and the field after it, which screen readers know by this name.
pub(crate) fn named_field(
    ui: &mut Ui,
    name: &str,
    field: impl FnOnce(&mut Ui) -> Response,
) -> Response {
    ui.horizontal(|ui| {
        let name = ui.label(name);
        field(ui).labelled_by(name.id)
    })
    .inner
}

/// Returns the description of a number field for screen readers.
pub(crate) fn named_number(name: &str) -> egui::WidgetInfo {
    egui::WidgetInfo::labeled(egui::Role::SpinButton, true, name)
}

/// Returns the description of a text field for screen readers.
pub(crate) fn named_text(name: &str) -> egui::WidgetInfo {
    egui::WidgetInfo::labeled(egui::Role::TextInput, true, name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use egui::Visuals;

    fn ratio(text: Color32, background: Color32) -> f64 {
        let rgb = |color: Color32| [color.r(), color.g(), color.b()];
        contrast(rgb(text), rgb(background))
    }

    /// Draws with the visuals of a theme.
    fn in_theme(dark: bool, draw: impl Fn(&Ui)) {
        let context = egui::Context::default();
        let _ = context.run_ui(egui::RawInput::default(), |ui| {
            *ui.visuals_mut() = visuals(dark);
            draw(ui);
        });
    }

    /// The backgrounds of text without a color of its own.
    fn backgrounds(visuals: &Visuals) -> [Color32; 4] {
        [
            visuals.panel_fill,
            visuals.window_fill,
            visuals.extreme_bg_color,
            visuals.panel_fill.blend(visuals.faint_bg_color),
        ]
    }

    #[test]
    fn of_a_long_file_name_the_end_is_shown() {
        let width_of = |glyph: char| if glyph == 'm' { 2.0 } else { 1.0 };
        let end = |name: &str, width: f32| end_of(name, width, width_of);
        assert_eq!(end("a_000123.jpg", 12.0), "a_000123.jpg");
        assert_eq!(end("aa_000123.jpg", 12.0), "…_000123.jpg");
        assert_eq!(end("größe_mm.png", 8.0), "…m.png");
        assert_eq!(end("größe.png", 7.0), "…ße.png");
        for width in [-3.0, 0.0, 1.0] {
            assert_eq!(end("ab", width), "…");
        }
        assert_eq!(end("", 0.0), "");
    }

    #[test]
    fn all_text_is_readable_in_both_themes() {
        for dark in [true, false] {
            let theme = visuals(dark);
            let mut pairs = Vec::new();
            for background in backgrounds(&theme) {
                let texts = [
                    theme.text_color(),
                    theme.weak_text_color(),
                    theme.strong_text_color(),
                ];
                pairs.extend(texts.map(|text| (text, background)));
            }
            for state in [
                &theme.widgets.inactive,
                &theme.widgets.hovered,
                &theme.widgets.active,
                &theme.widgets.open,
            ] {
                pairs.push((state.fg_stroke.color, state.weak_bg_fill));
                pairs.push((state.fg_stroke.color, state.bg_fill));
            }
            let selection = &theme.selection;
            pairs.push((selection.stroke.color, selection.bg_fill));
            pairs.push((theme.strong_text_color(), selection.bg_fill));
            pairs.push((theme.text_color(), selection.bg_fill));
            for text in [theme.error_fg_color, theme.warn_fg_color] {
                pairs.push((text, theme.panel_fill));
            }
            for (text, background) in pairs {
                let ratio = ratio(text, background);
                assert!(
                    ratio >= READABLE,
                    "dark {dark}: {text:?} on {background:?}: {ratio:.2}"
                );
            }
        }
    }

    #[test]
    fn verdicts_and_class_names_are_readable_in_both_themes() {
        for dark in [true, false] {
            in_theme(dark, |ui| {
                let theme = ui.visuals();
                for verdict in [CORRECT, WRONG, MISSED, ANNOTATION] {
                    let text = verdict_text(ui, verdict);
                    for background in [theme.selection.bg_fill, theme.panel_fill] {
                        let ratio = ratio(text, background);
                        assert!(ratio >= READABLE, "{dark}: {verdict:?}: {ratio:.2}");
                    }
                }
                for class in 0..200 {
                    let ratio = ratio(class_text(ui, class), theme.panel_fill);
                    assert!(ratio >= READABLE, "{dark}: class {class}: {ratio:.2}");
                }
            });
        }
    }

    #[test]
    fn the_ink_of_a_cell_is_readable_on_every_shade() {
        for dark in [true, false] {
            let below = visuals(dark).extreme_bg_color;
            for color in [CORRECT, WRONG] {
                for share in 0..=20u8 {
                    let cell = mixed(color, below, f32::from(share) / 20.0);
                    let ratio = ratio(ink_on(cell), cell);
                    assert!(ratio >= READABLE, "{dark}: {color:?} {share}: {ratio:.2}");
                }
            }
        }
    }
}
