//! An SVG drawn over an image.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use image::RgbImage;

use super::canvas::{LabelFont, PixelRect, Surface, dashes};
use super::drawing::DrawnShape;
use super::palette::Rgb;
use super::save::{RenderError, encode};

/// The maximum width and height of a JPEG.
const LONGEST_JPEG: u32 = 65_535;
/// The font family with fallbacks. `textLength` keeps the width of labels with any of them.
const FONTS: &str = "DejaVu Sans, Verdana, sans-serif";

/// An SVG document under construction.
pub(super) struct Svg {
    text: String,
}

impl Svg {
    /// Creates a document of the size of an image, which is embedded as a JPEG.
    pub(crate) fn with_image(image: &RgbImage) -> Result<Self, RenderError> {
        let (width, height) = image.dimensions();
        if width == 0 || height == 0 {
            return Err(RenderError::Nothing("the image has no pixels".into()));
        }
        let (extension, kind) = if width.max(height) <= LONGEST_JPEG {
            ("jpg", "jpeg")
        } else {
            ("png", "png")
        };
        let mut bytes = Vec::new();
        encode(image, extension, &mut bytes).map_err(|e| RenderError::Plot(e.to_string()))?;
        let bytes = BASE64_STANDARD.encode(bytes);
        // SVG 1.1 programs require the attribute of the xlink namespace.
        Ok(Self {
            text: format!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" xmlns:xlink=\"http://www.w3.org/1999/xlink\" \
                 width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
                 <image width=\"{width}\" height=\"{height}\" \
                 xlink:href=\"data:image/{kind};base64,{bytes}\"/>\n"
            ),
        })
    }

    pub fn finish(mut self) -> String {
        self.text += "</svg>\n";
        self.text
    }

    /// Adds a shape.
    pub(crate) fn shape(&mut self, shape: &DrawnShape) {
        match shape {
            DrawnShape::Fill([left, top, width, height], color) => self.element(format_args!(
                "<rect x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" fill=\"{}\"/>",
                hex(*color)
            )),
            DrawnShape::Line([[x1, y1], [x2, y2]], width, color) => self.element(format_args!(
                "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" stroke=\"{}\" \
                 stroke-width=\"{width}\"/>",
                hex(*color)
            )),
            DrawnShape::Text {
                at: [x, y],
                width,
                size,
                color,
                text,
            } => self.element(format_args!(
                "<text x=\"{x}\" y=\"{y}\" textLength=\"{width}\" lengthAdjust=\"spacingAndGlyphs\" \
                 font-family=\"{FONTS}\" font-size=\"{size}\" fill=\"{}\">{}</text>",
                hex(*color),
                escaped(text)
            )),
        }
    }

    fn element(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string never fails.
        let _ = self.text.write_fmt(element);
        self.text.push('\n');
    }
}

impl Surface for Svg {
    fn fill(&mut self, rect: PixelRect, color: Rgb, opacity: f32) {
        let (width, height) = (rect.width(), rect.height());
        if width <= 0 || height <= 0 {
            return;
        }
        self.element(format_args!(
            "<rect x=\"{}\" y=\"{}\" width=\"{width}\" height=\"{height}\" fill=\"{}\"{}/>",
            rect.left,
            rect.top,
            hex(color),
            Opacity("fill", opacity)
        ));
    }

    fn frame(&mut self, rect: PixelRect, thickness: i64, color: Rgb, opacity: f32) {
        let (width, height) = (rect.width() - thickness, rect.height() - thickness);
        if width <= thickness || height <= thickness {
            // The frame has no interior.
            return self.fill(rect, color, opacity);
        }
        let half = thickness as f64 / 2.0;
        self.element(format_args!(
            "<rect x=\"{}\" y=\"{}\" width=\"{width}\" height=\"{height}\" fill=\"none\" \
             stroke=\"{}\" stroke-width=\"{thickness}\"{}/>",
            rect.left as f64 + half,
            rect.top as f64 + half,
            hex(color),
            Opacity("stroke", opacity)
        ));
    }

    /// All dashes are one path.
    fn dashed_frame(&mut self, rect: PixelRect, thickness: i64, dash: i64, color: Rgb) {
        let mut path = String::new();
        for rect in dashes(rect, thickness, dash) {
            let (width, height) = (rect.width(), rect.height());
            if rect.area() > 0 {
                path += &format!("M{} {}h{width}v{height}h-{width}z", rect.left, rect.top);
            }
        }
        if !path.is_empty() {
            self.element(format_args!("<path d=\"{path}\" fill=\"{}\"/>", hex(color)));
        }
    }

    fn text(&mut self, font: &LabelFont, rect: PixelRect, margin: i64, text: &str, color: Rgb) {
        self.element(format_args!(
            "<text x=\"{}\" y=\"{:.1}\" textLength=\"{}\" lengthAdjust=\"spacingAndGlyphs\" \
             font-family=\"{FONTS}\" font-weight=\"bold\" font-size=\"{:.2}\" fill=\"{}\">{}</text>",
            rect.left + margin,
            font.baseline(rect),
            font.width(text),
            font.em(),
            hex(color),
            escaped(text)
        ));
    }
}

/// An opacity attribute, which is omitted if opaque.
struct Opacity(&'static str, f32);

impl std::fmt::Display for Opacity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.1 < 1.0 {
            write!(f, " {}-opacity=\"{}\"", self.0, self.1)?;
        }
        Ok(())
    }
}

fn hex([r, g, b]: Rgb) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// Escapes text for XML; characters that XML does not allow are removed.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '\t' | '\n' | '\r' => escaped.push(' '),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {}
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn escaped_text_is_read_back_from_the_xml(text in any::<String>()) {
            let xml = format!("<a>{}</a>", escaped(&text));
            let document = roxmltree::Document::parse(&xml).unwrap();
            let found = document.root_element().text().unwrap_or_default();
            let known = |c: &char| !c.is_ascii_control() && !['\u{fffe}', '\u{ffff}'].contains(c);
            let kept = found.chars().filter(known).filter(|c| *c != ' ');
            let wanted = text.chars().filter(known).filter(|c| *c != ' ');
            prop_assert!(kept.eq(wanted));
        }
    }
}
