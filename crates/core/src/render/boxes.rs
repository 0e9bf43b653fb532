//! Detections and annotations on an image.

use std::path::Path;

use image::RgbImage;

use super::canvas::{Lettering, PixelRect, dashed_frame, dashes, fill, frame};
use super::palette::{DARK, LIGHT, Rgb, class_color, text_color_on};
use super::save::{
    IMAGES_AND_SVG, RenderError, is_image_extension, lower_extension, save_image, save_svg,
    wrong_extension,
};
use super::svg::Svg;
use sedet_data::boxes::BoxXyxy;

/// One box with its label.
#[derive(Debug, Clone, PartialEq)]
pub struct DrawnBox {
    /// In pixels of the image it is drawn on.
    pub box_in_image: BoxXyxy,
    /// The class name; empty for no label.
    pub label: String,
    /// Contiguous class index: decides the color.
    pub class_index: usize,
    /// Shown behind the name with two digits, and decides which of two boxes lies on top.
    pub score: Option<f32>,
    /// Thin dashes, for annotations beside detections.
    pub dashed: bool,
}

/// Draw boxes and labels onto an image, line width and letters fitting its size.
///
/// Dashed boxes lie below solid ones, low scores below high ones. A label stands above its box, or
/// where there is room without covering another label, and never outside the image. Boxes are cut
/// to the image; those outside it or with coordinates that are not finite are left out.
pub fn draw_boxes(image: &mut RgbImage, boxes: &[DrawnBox]) {
    let arranged = Arranged::on(image, boxes);
    let style = &arranged.style;
    for (drawn, rect) in &arranged.frames {
        draw_frame(image, style, drawn, *rect);
    }
    for label in &arranged.labels {
        draw_label(image, style, label);
    }
}

/// The image with boxes and labels as an SVG: the image inside as a JPEG, on it lines and letters that
/// can be changed, in the places where [`draw_boxes`] has them.
///
/// # Errors
/// An image without pixels.
pub fn boxes_svg(image: &RgbImage, boxes: &[DrawnBox]) -> Result<String, RenderError> {
    let arranged = Arranged::on(image, boxes);
    let style = &arranged.style;
    let mut svg = Svg::with_image(image)?;
    for (drawn, rect) in &arranged.frames {
        frame_to_svg(&mut svg, style, drawn, *rect);
    }
    for label in &arranged.labels {
        label_to_svg(&mut svg, style, label);
    }
    Ok(svg.finish())
}

/// Save the image with boxes and labels, by the path's extension as an SVG, a PNG or a JPEG.
///
/// # Errors
/// Another extension, or the file cannot be written; the path is named.
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

/// What is drawn where, the lowest first.
struct Arranged<'a> {
    style: Style,
    frames: Vec<(&'a DrawnBox, PixelRect)>,
    labels: Vec<Label<'a>>,
}

struct Label<'a> {
    drawn: &'a DrawnBox,
    place: PixelRect,
    text: String,
}

impl<'a> Arranged<'a> {
    fn on(image: &RgbImage, boxes: &'a [DrawnBox]) -> Self {
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
        // The most important labels choose their places first and are drawn last.
        let mut taken: Vec<PixelRect> = Vec::new();
        let mut labels = Vec::new();
        for &(drawn, rect) in frames.iter().rev() {
            let text = style
                .letters
                .fitted(&label_text(drawn), edge.width() - 2 * style.label_margin);
            if text.is_empty() {
                continue;
            }
            let place = place_label(&style, &text, rect, edge, &taken);
            taken.push(place);
            labels.push(Label { drawn, place, text });
        }
        labels.reverse();
        Self {
            style,
            frames,
            labels,
        }
    }
}

/// More boxes than this get smaller letters.
const UNCROWDED: usize = 12;

/// Sizes in pixels that fit an image.
struct Style {
    line: i64,
    dashed_line: i64,
    dash: i64,
    label_margin: i64,
    label_height: i64,
    letters: Lettering,
}

impl Style {
    /// Width of the shade beside a line.
    fn hair(&self) -> i64 {
        (self.line / 3).max(1)
    }

    fn for_image(image: &RgbImage, boxes: usize) -> Self {
        let diagonal = f64::from(image.width()).hypot(f64::from(image.height()));
        // 640x480 gets lines of 2 pixels and letters of 15, as annotation tools do.
        let line = (diagonal / 380.0).round().max(1.0) as i64;
        // Many labels would hide the image: they get smaller, but stay readable.
        let crowd = (UNCROWDED as f64 / boxes.max(1) as f64)
            .sqrt()
            .clamp(0.72, 1.0);
        let letter_height = (diagonal * crowd / 52.0).clamp(10.0, 64.0) as f32;
        let letters = Lettering::new(letter_height);
        let label_margin = (letter_height * 0.3).round() as i64;
        Self {
            line,
            // Thinner where there is room for it: a single pixel is lost on a photograph.
            dashed_line: if line > 2 { line * 2 / 3 } else { line },
            dash: 4 * line.max(1),
            label_margin,
            label_height: letters.line_height() + label_margin / 2,
            letters,
        }
    }
}

/// Whole pixels, at least one each way, inside the image; None for what cannot be seen.
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
    let cut = rect.overlap(edge);
    (x2 >= x1 && y2 >= y1 && cut.area() > 0).then_some(cut)
}

/// Dashes of the class's color in a dark groove of this opacity show on any background.
const GROOVE: f32 = 0.55;
/// A hair of shade on both sides parts a line from a background of its own color.
const HAIR: f32 = 0.35;

fn draw_frame(image: &mut RgbImage, style: &Style, drawn: &DrawnBox, rect: PixelRect) {
    let color = class_color(drawn.class_index);
    if drawn.dashed {
        frame(image, rect, style.dashed_line, DARK, GROOVE);
        dashed_frame(image, rect, style.dashed_line, style.dash, color);
        return;
    }
    let hair = style.hair();
    for rect in [rect.shrunk(-hair), rect.shrunk(style.line)] {
        frame(image, rect, hair, DARK, HAIR);
    }
    frame(image, rect, style.line, color, 1.0);
}

fn frame_to_svg(svg: &mut Svg, style: &Style, drawn: &DrawnBox, rect: PixelRect) {
    let color = class_color(drawn.class_index);
    if drawn.dashed {
        svg.frame(rect, style.dashed_line, DARK, GROOVE);
        svg.rects(&dashes(rect, style.dashed_line, style.dash), color);
        return;
    }
    let hair = style.hair();
    for rect in [rect.shrunk(-hair), rect.shrunk(style.line)] {
        svg.frame(rect, hair, DARK, HAIR);
    }
    svg.frame(rect, style.line, color, 1.0);
}

fn label_text(drawn: &DrawnBox) -> String {
    match drawn.score {
        Some(score) if drawn.label.is_empty() => format!("{score:.2}"),
        Some(score) => format!("{} {score:.2}", drawn.label),
        None => drawn.label.clone(),
    }
}

/// Above the box, inside its top, below it, inside its bottom; left, then right: the first place
/// that covers no other label, or the one that covers least.
fn place_label(
    style: &Style,
    text: &str,
    rect: PixelRect,
    edge: PixelRect,
    taken: &[PixelRect],
) -> PixelRect {
    let width = style.letters.width(text) + 2 * style.label_margin;
    let height = style.label_height;
    let lefts = [rect.left, rect.right - width];
    let tops = [
        rect.top - height,
        rect.top,
        rect.bottom,
        rect.bottom - height,
    ];
    let places = tops.iter().flat_map(|&top| {
        lefts.map(|left| {
            let wanted = PixelRect::with_size(left, top, width, height);
            (wanted, wanted.moved_into(edge))
        })
    });
    places
        .min_by_key(|(wanted, place)| {
            let covered: i64 = taken.iter().map(|other| other.overlap(*place).area()).sum();
            // Away from the wanted height a label would lie across the box's own edge.
            (
                covered,
                (wanted.top - place.top).abs(),
                (wanted.left - place.left).abs() > rect.width(),
            )
        })
        .map_or(rect, |(_, place)| place)
}

/// The backgrounds of a label, lowest first, and the color of its letters.
fn label_colors(
    style: &Style,
    drawn: &DrawnBox,
    place: PixelRect,
) -> (Vec<(PixelRect, Rgb, f32)>, Rgb) {
    let color = class_color(drawn.class_index);
    if !drawn.dashed {
        return (vec![(place, color, 1.0)], text_color_on(color));
    }
    // Dark with a stripe of the class's color: no one takes it for a detection's.
    let stripe = PixelRect {
        right: place.left + (style.label_margin / 2).max(2),
        ..place
    };
    (vec![(place, DARK, 0.85), (stripe, color, 1.0)], LIGHT)
}

fn draw_label(image: &mut RgbImage, style: &Style, label: &Label<'_>) {
    let place = label.place;
    let (backgrounds, text_color) = label_colors(style, label.drawn, place);
    for (rect, color, opacity) in backgrounds {
        fill(image, rect, color, opacity);
    }
    style
        .letters
        .write(image, place, style.label_margin, &label.text, text_color);
}

fn label_to_svg(svg: &mut Svg, style: &Style, label: &Label<'_>) {
    let place = label.place;
    let (backgrounds, text_color) = label_colors(style, label.drawn, place);
    for (rect, color, opacity) in backgrounds {
        svg.fill(rect, color, opacity);
    }
    let text = &label.text;
    svg.text(&style.letters, place, style.label_margin, text, text_color);
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
    fn the_label_names_class_and_score() {
        assert_eq!(label_text(&drawn([0.0; 4], false)), "teddy bear 0.93");
        assert_eq!(label_text(&drawn([0.0; 4], true)), "teddy bear");
        let mut only_score = drawn([0.0; 4], false);
        only_score.label.clear();
        assert_eq!(label_text(&only_score), "0.93");
    }

    #[test]
    fn a_solid_box_has_its_class_color_on_its_edge_and_leaves_the_inside() {
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
    fn lines_and_letters_grow_with_the_image() {
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
    fn labels_of_neighboring_boxes_do_not_cover_each_other() {
        let image = gray(640, 480);
        let style = Style::for_image(&image, 3);
        let edge = PixelRect::of_image(&image);
        let mut taken = Vec::new();
        for shift in 0..3 {
            let rect = PixelRect::with_size(100 + shift * 5, 100, 200, 150);
            let place = place_label(&style, "teddy bear 0.93", rect, edge, &taken);
            assert!(
                taken
                    .iter()
                    .all(|other: &PixelRect| other.overlap(place).area() == 0)
            );
            taken.push(place);
        }
    }

    /// The number in an attribute.
    fn number(node: roxmltree::Node<'_, '_>, name: &str) -> f64 {
        node.attribute(name).unwrap().parse().unwrap()
    }

    #[test]
    fn an_svg_has_the_image_and_its_boxes_and_labels_where_the_png_has_them() {
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

        // Every rectangle is where the pixels have its color.
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
        // The dashes are one path, which begins at the corner.
        let path = elements("path")[0].attribute("d").unwrap();
        assert!(path.starts_with("M400 50h"), "{path}");
    }

    #[test]
    fn boxes_are_saved_by_the_extension() {
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
    fn what_cannot_be_seen_changes_nothing() {
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
        fn a_label_that_fits_lies_inside_the_image(
            width in 160u32..900, height in 120u32..700,
            corners in prop::array::uniform4(-300.0f32..1200.0),
        ) {
            let image = gray(width, height);
            let style = Style::for_image(&image, 3);
            let edge = PixelRect::of_image(&image);
            let [x1, y1, x2, y2] = corners;
            let box_in_image = BoxXyxy::new(x1.min(x2), y1.min(y2), x1.max(x2), y1.max(y2));
            if let Some(rect) = pixel_rect(box_in_image, edge) {
                prop_assert!(edge.contains(place_label(&style, "cat 0.93", rect, edge, &[])));
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
