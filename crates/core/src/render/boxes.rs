//! Detections and annotations on an image.

use std::path::Path;

use image::RgbImage;

use super::canvas::{LabelFont, PixelRect, Surface};
use super::palette::{DARK, LIGHT, class_color, text_color_on};
use super::save::{
    IMAGES_AND_SVG, RenderError, is_image_extension, lower_extension, save_image, save_svg,
    wrong_extension,
};
use super::svg::Svg;
use sedet_data::boxes::BoxXyxy;

/// A box with its label.
#[derive(Debug, Clone, PartialEq)]
pub struct DrawnBox {
    /// Coordinates in pixels of the image.
    pub box_in_image: BoxXyxy,
    /// The class name; empty for none.
    pub label: String,
    /// Contiguous class index, which decides the color.
    pub class_index: usize,
    /// The score after the name. Boxes with higher scores are drawn on top.
    pub score: Option<f32>,
    /// Thin dashed lines, for annotations shown with detections.
    pub dashed: bool,
}

/// Draws boxes and labels on an image. Line width and font size depend on its size.
///
/// Dashed boxes are below solid ones, and low scores below high ones. A label is above its box or at another
/// position that covers no other label, and always inside the image. Boxes are clipped to the image; boxes
/// outside it or with non-finite coordinates are skipped.
pub(crate) fn draw_boxes(image: &mut RgbImage, boxes: &[DrawnBox]) {
    Layout::new(image, boxes).draw(image);
}

/// Returns the image with boxes and labels as an SVG: the image as an embedded JPEG, boxes and labels as vector
/// graphics with the layout of [`draw_boxes`].
///
/// # Errors
/// The image has no pixels.
pub(crate) fn boxes_svg(image: &RgbImage, boxes: &[DrawnBox]) -> Result<String, RenderError> {
    let mut svg = Svg::with_image(image)?;
    Layout::new(image, boxes).draw(&mut svg);
    Ok(svg.finish())
}

/// Saves the image with boxes and labels as SVG, PNG or JPEG, depending on the extension of the path.
///
/// # Errors
/// The extension is unknown, or the file cannot be written.
pub fn save_boxes(image: &RgbImage, boxes: &[DrawnBox], path: &Path) -> Result<(), RenderError> {
    let extension = lower_extension(path);
    if extension == "svg" {
        save_svg(&boxes_svg(image, boxes)?, path)
    } else if is_image_extension(&extension) {
        let mut image = image.clone();
        draw_boxes(&mut image, boxes);
        save_image(&image, path)
    } else {
        Err(wrong_extension(path, IMAGES_AND_SVG))
    }
}

/// The position of every box and label, in drawing order.
struct Layout<'a> {
    style: Style,
    frames: Vec<(&'a DrawnBox, PixelRect)>,
    labels: Vec<Label<'a>>,
}

struct Label<'a> {
    drawn: &'a DrawnBox,
    position: PixelRect,
    text: String,
}

impl<'a> Layout<'a> {
    fn new(image: &RgbImage, boxes: &'a [DrawnBox]) -> Self {
        let style = Style::for_image(image, boxes.len());
        let edge = PixelRect::of_image(image);
        let mut frames: Vec<(&DrawnBox, PixelRect)> = boxes
            .iter()
            .filter_map(|drawn| Some((drawn, pixel_rect(drawn.box_in_image, edge)?)))
            .collect();
        let rank = |drawn: &DrawnBox| (!drawn.dashed, drawn.score.unwrap_or(0.0));
        frames.sort_by(|(a, _), (b, _)| {
            let (a, b) = (rank(a), rank(b));
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
        });
        // The most important labels are placed first and drawn last.
        let mut taken: Vec<PixelRect> = Vec::new();
        let mut labels = Vec::new();
        for &(drawn, rect) in frames.iter().rev() {
            let text = label_text(&drawn.label, drawn.score);
            let max_width = edge.width() - 2 * style.label_margin;
            let text = style.font.fitted(&text, max_width);
            if text.is_empty() {
                continue;
            }
            let position = position_label(&style, &text, rect, edge, &taken);
            taken.push(position);
            labels.push(Label {
                drawn,
                position,
                text,
            });
        }
        labels.reverse();
        Self {
            style,
            frames,
            labels,
        }
    }

    fn draw(&self, surface: &mut impl Surface) {
        for (drawn, rect) in &self.frames {
            draw_frame(surface, &self.style, drawn, *rect);
        }
        for label in &self.labels {
            draw_label(surface, &self.style, label);
        }
    }
}

/// With more boxes than this, labels get smaller.
const UNCROWDED: usize = 12;

/// Sizes in pixels for an image.
struct Style {
    line: i64,
    dashed_line: i64,
    dash: i64,
    label_margin: i64,
    label_height: i64,
    font: LabelFont,
}

impl Style {
    /// Returns the width of the shadow beside a line.
    fn shadow(&self) -> i64 {
        (self.line / 3).max(1)
    }

    fn for_image(image: &RgbImage, boxes: usize) -> Self {
        let diagonal = f64::from(image.width()).hypot(f64::from(image.height()));
        // 640x480 gets lines of 2 pixels and a font of 15 pixels, as in annotation tools.
        let line = (diagonal / 380.0).round().max(1.0) as i64;
        // Many labels would hide the image, so they get smaller, but stay readable.
        let crowd = (UNCROWDED as f64 / boxes.max(1) as f64)
            .sqrt()
            .clamp(0.72, 1.0);
        let font_height = (diagonal * crowd / 52.0).clamp(10.0, 64.0) as f32;
        let font = LabelFont::new(font_height);
        let label_margin = (font_height * 0.3).round() as i64;
        Self {
            line,
            // Thinner than solid lines, but not a single pixel, which is invisible on a photograph.
            dashed_line: if line > 2 { line * 2 / 3 } else { line },
            dash: 4 * line.max(1),
            label_margin,
            label_height: font.line_height() + label_margin / 2,
            font,
        }
    }
}

/// Rounds a box to at least one pixel and clips it to the image. Returns `None` for an invisible box.
fn pixel_rect(box_in_image: BoxXyxy, edge: PixelRect) -> Option<PixelRect> {
    if !box_in_image.is_finite() {
        return None;
    }
    let BoxXyxy { x1, y1, x2, y2 } = box_in_image;
    let (left, top) = (x1.round() as i64, y1.round() as i64);
    let rect = PixelRect {
        left,
        top,
        right: (x2.round() as i64).max(left.saturating_add(1)),
        bottom: (y2.round() as i64).max(top.saturating_add(1)),
    };
    let cut = rect.intersection(edge);
    (x2 >= x1 && y2 >= y1 && cut.area() > 0).then_some(cut)
}

/// The opacity of the dark background of dashes, which makes them visible on any image.
const DASH_BACKGROUND: f32 = 0.55;
/// The opacity of the shadow on both sides of a line, which separates it from a background of the same color.
const SHADOW: f32 = 0.35;

fn draw_frame(surface: &mut impl Surface, style: &Style, drawn: &DrawnBox, rect: PixelRect) {
    let color = class_color(drawn.class_index);
    if drawn.dashed {
        surface.frame(rect, style.dashed_line, DARK, DASH_BACKGROUND);
        surface.dashed_frame(rect, style.dashed_line, style.dash, color);
        return;
    }
    let shadow = style.shadow();
    for rect in [rect.shrunk(-shadow), rect.shrunk(style.line)] {
        surface.frame(rect, shadow, DARK, SHADOW);
    }
    surface.frame(rect, style.line, color, 1.0);
}

/// Returns the text of a label: the name and the score with two digits.
pub fn label_text(name: &str, score: Option<f32>) -> String {
    match score {
        Some(score) if name.is_empty() => format!("{score:.2}"),
        Some(score) => format!("{name} {score:.2}"),
        None => name.to_owned(),
    }
}

/// Returns the position of a label: above the box, inside its top, below it or inside its bottom, at the left
/// or the right: the first that covers no other label, or the one that covers the least.
fn position_label(
    style: &Style,
    text: &str,
    rect: PixelRect,
    edge: PixelRect,
    taken: &[PixelRect],
) -> PixelRect {
    let width = style.font.width(text) + 2 * style.label_margin;
    let height = style.label_height;
    let lefts = [rect.left, rect.right - width];
    let tops = [
        rect.top - height,
        rect.top,
        rect.bottom,
        rect.bottom - height,
    ];
    let candidates = tops.iter().flat_map(|&top| {
        lefts.map(|left| {
            let preferred = PixelRect::with_size(left, top, width, height);
            (preferred, preferred.moved_into(edge))
        })
    });
    candidates
        .min_by_key(|(preferred, position)| {
            let covered: i64 = taken
                .iter()
                .map(|other| other.intersection(*position).area())
                .sum();
            // A label moved vertically would cover the edge of its own box.
            (
                covered,
                (preferred.top - position.top).abs(),
                (preferred.left - position.left).abs() > rect.width(),
            )
        })
        .map_or(rect, |(_, position)| position)
}

fn draw_label(surface: &mut impl Surface, style: &Style, label: &Label<'_>) {
    let position = label.position;
    let color = class_color(label.drawn.class_index);
    let text_color = if label.drawn.dashed {
        // Dark with a stripe of the class color, to differ from the label of a detection.
        let stripe = PixelRect {
            right: position.left + (style.label_margin / 2).max(2),
            ..position
        };
        surface.fill(position, DARK, 0.85);
        surface.fill(stripe, color, 1.0);
        LIGHT
    } else {
        surface.fill(position, color, 1.0);
        text_color_on(color)
    };
    surface.text(
        &style.font,
        position,
        style.label_margin,
        &label.text,
        text_color,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drawn(corners: [f32; 4], dashed: bool) -> DrawnBox {
        let [x1, y1, x2, y2] = corners;
        DrawnBox {
            box_in_image: BoxXyxy::new(x1, y1, x2, y2),
            label: "teddy bear".into(),
            class_index: 3,
            score: (!dashed).then_some(0.934),
            dashed,
        }
    }

    fn gray(width: u32, height: u32) -> RgbImage {
        RgbImage::from_pixel(width, height, image::Rgb([128; 3]))
    }

    #[test]
    fn a_label_has_class_and_score() {
        assert_eq!(label_text("teddy bear", Some(0.934)), "teddy bear 0.93");
        assert_eq!(label_text("teddy bear", None), "teddy bear");
        assert_eq!(label_text("", Some(0.934)), "0.93");
    }

    #[test]
    fn a_solid_box_has_its_class_color_on_the_edge_only() {
        let mut image = gray(640, 480);
        draw_boxes(&mut image, &[drawn([100.0, 200.0, 300.0, 400.0], false)]);
        let color = image::Rgb(class_color(3));
        for (x, y) in [(100, 300), (101, 300), (299, 300), (200, 200), (200, 399)] {
            assert_eq!(*image.get_pixel(x, y), color, "{x},{y}");
        }
        assert_eq!(image.get_pixel(200, 300).0, [128; 3]);
        assert_eq!(image.get_pixel(400, 300).0, [128; 3]);
    }

    #[test]
    fn a_dashed_box_has_gaps() {
        let mut image = gray(640, 480);
        draw_boxes(&mut image, &[drawn([100.0, 200.0, 300.0, 400.0], true)]);
        let color = image::Rgb(class_color(3));
        let colored = (200..400)
            .filter(|&y| *image.get_pixel(100, y) == color)
            .count();
        assert!((60..140).contains(&colored), "{colored} of 200");
    }

    #[test]
    fn lines_and_labels_scale_with_the_image() {
        let sizes: Vec<_> = [(160, 120), (640, 480), (2000, 1500)]
            .map(|(width, height)| Style::for_image(&gray(width, height), 3))
            .iter()
            .map(|style| (style.line, style.label_height))
            .collect();
        assert_eq!(
            sizes.iter().map(|(line, _)| *line).collect::<Vec<_>>(),
            [1, 2, 7]
        );
        assert!(sizes[0].1 < sizes[1].1 && sizes[1].1 < sizes[2].1);
    }

    #[test]
    fn labels_of_neighboring_boxes_do_not_overlap() {
        let image = gray(640, 480);
        let style = Style::for_image(&image, 3);
        let edge = PixelRect::of_image(&image);
        let mut taken = Vec::new();
        for shift in 0..3 {
            let rect = PixelRect::with_size(100 + shift * 5, 100, 200, 150);
            let position = position_label(&style, "teddy bear 0.93", rect, edge, &taken);
            assert!(
                taken
                    .iter()
                    .all(|other: &PixelRect| other.intersection(position).area() == 0)
            );
            taken.push(position);
        }
    }

    /// Returns the number in an attribute.
    fn number(node: roxmltree::Node<'_, '_>, name: &str) -> f64 {
        node.attribute(name).unwrap().parse().unwrap()
    }

    #[test]
    fn an_svg_has_the_image_and_the_layout_of_the_png() {
        let image = gray(640, 480);
        let mut solid = drawn([100.0, 200.0, 300.0, 400.0], false);
        solid.label = "<b> & \"c\u{1}\u{7}'".into();
        let boxes = [solid, drawn([400.0, 50.0, 500.0, 150.0], true)];
        let svg = boxes_svg(&image, &boxes).unwrap();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let root = document.root_element();
        assert_eq!(root.attribute("viewBox"), Some("0 0 640 480"));
        let elements = |name: &'static str| {
            let elements = root.descendants().filter(move |n| n.has_tag_name(name));
            elements.collect::<Vec<_>>()
        };
        let href = ("http://www.w3.org/1999/xlink", "href");
        let embedded = elements("image")[0].attribute(href).unwrap();
        let embedded = embedded.strip_prefix("data:image/jpeg;base64,").unwrap();
        let bytes = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, embedded).unwrap();
        let embedded = image::load_from_memory(&bytes).unwrap().to_rgb8();
        assert_eq!(embedded.dimensions(), (640, 480));
        let texts: Vec<_> = elements("text").iter().filter_map(|n| n.text()).collect();
        assert_eq!(texts, ["teddy bear", "<b> & \"c' 0.93"]);

        // The rectangles are at the pixels of their color.
        let mut pixels = image.clone();
        draw_boxes(&mut pixels, &boxes);
        let [r, g, b] = class_color(3);
        let color = format!("#{r:02x}{g:02x}{b:02x}");
        let strokes = elements("rect").into_iter();
        let strokes = strokes.filter(|n| n.attribute("stroke") == Some(&color));
        let strokes: Vec<_> = strokes.collect();
        assert_eq!(strokes.len(), 1);
        let line = number(strokes[0], "stroke-width");
        assert_eq!(line, 2.0);
        assert_eq!(number(strokes[0], "x") - line / 2.0, 100.0);
        assert_eq!(number(strokes[0], "y") - line / 2.0, 200.0);
        assert_eq!(number(strokes[0], "width") + line, 200.0);
        let mut fills = elements("rect").into_iter();
        let label = fills.rfind(|n| n.attribute("fill") == Some(&color));
        let corner = |n| (number(n, "x") as u32, number(n, "y") as u32);
        let (x, y) = corner(label.unwrap());
        assert_eq!(pixels.get_pixel(x, y).0, class_color(3));
        assert_ne!(pixels.get_pixel(x, y - 3).0, class_color(3));
        // The dashes are one path that begins at the corner.
        let path = elements("path")[0].attribute("d").unwrap();
        assert!(path.starts_with("M400 50h"), "{path}");
    }

    #[test]
    fn boxes_are_saved_in_the_format_of_the_extension() {
        let directory = tempfile::tempdir().unwrap();
        let boxes = [drawn([10.0, 20.0, 60.0, 70.0], false)];
        for (name, start) in [
            ("a.svg", &b"<svg"[..]),
            ("a.PNG", &[0x89, b'P']),
            ("a.jpg", &[0xFF, 0xD8]),
        ] {
            let path = directory.path().join(name);
            save_boxes(&gray(100, 80), &boxes, &path).unwrap();
            assert!(std::fs::read(&path).unwrap().starts_with(start), "{name}");
        }
        let message = save_boxes(&gray(100, 80), &boxes, Path::new("a.pdf"));
        let message = message.unwrap_err().to_string();
        assert!(message.contains(".pdf is not") && message.contains(".svg"));
        assert!(boxes_svg(&RgbImage::new(0, 0), &boxes).is_err());
    }

    #[test]
    fn invisible_boxes_are_skipped() {
        let mut image = gray(100, 80);
        draw_boxes(
            &mut image,
            &[
                drawn([f32::NAN, 0.0, 10.0, 10.0], false),
                drawn([0.0, 0.0, f32::INFINITY, 10.0], false),
                drawn([200.0, 10.0, 300.0, 20.0], false),
                drawn([50.0, 10.0, 40.0, 20.0], true),
            ],
        );
        assert_eq!(image, gray(100, 80));
        draw_boxes(
            &mut RgbImage::new(0, 0),
            &[drawn([0.0, 0.0, 5.0, 5.0], false)],
        );
    }

    proptest! {
        #[test]
        fn a_label_that_fits_is_inside_the_image(
            width in 160u32..900, height in 120u32..700,
            corners in prop::array::uniform4(-300.0f32..1200.0),
        ) {
            let image = gray(width, height);
            let style = Style::for_image(&image, 3);
            let edge = PixelRect::of_image(&image);
            let [x1, y1, x2, y2] = corners;
            let box_in_image = BoxXyxy::new(x1.min(x2), y1.min(y2), x1.max(x2), y1.max(y2));
            if let Some(rect) = pixel_rect(box_in_image, edge) {
                prop_assert!(edge.contains(position_label(&style, "cat 0.93", rect, edge, &[])));
            }
        }

        #[test]
        fn any_boxes_can_be_drawn_on_any_image(
            width in 1u32..60, height in 1u32..60,
            corners in prop::array::uniform4(-1e30f32..1e30), dashed: bool,
        ) {
            let mut image = gray(width, height);
            draw_boxes(&mut image, &[drawn(corners, dashed)]);
            let small = corners.map(|value| value * 1e-28);
            draw_boxes(&mut image, &[drawn(small, dashed)]);
            let svg = boxes_svg(&image, &[drawn(small, dashed)]).unwrap();
            prop_assert!(roxmltree::Document::parse(&svg).is_ok());
            prop_assert!(!svg.contains("width=\"-") && !svg.contains("height=\"-"));
        }
    }
}
