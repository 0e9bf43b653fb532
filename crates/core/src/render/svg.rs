//! An SVG that lies on an image.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use image::RgbImage;

use super::canvas::{Lettering, PixelRect};
use super::palette::Rgb;
use super::save::{RenderError, encode};

/// No side of a JPEG is longer.
const LONGEST_JPEG: u32 = 65_535;
/// What stands in for the program's own font where it is not installed; labels keep their width.
const FONTS: &str = "DejaVu Sans, Verdana, sans-serif";

/// Elements so far.
pub(super) struct Svg {
    text: String,
}

impl Svg {
    /// An image as large as it is, embedded as a JPEG.
    pub fn with_image(image: &RgbImage) -> Result<Self, RenderError> {
        let (width, height) = image.dimensions();
        if width == 0 || height == 0 {
            return Err(RenderError::Nothing("the image has no pixels".into()));
        }
        let (extension, kind) = match width.max(height) <= LONGEST_JPEG {
            true => ("jpg", "jpeg"),
            false => ("png", "png"),
        };
        let mut bytes = Vec::new();
        encode(image, extension, &mut bytes).map_err(|e| RenderError::Plot(e.to_string()))?;
        let bytes = BASE64_STANDARD.encode(bytes);
        // Older programs know the namespace's href only.
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

    fn element(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.text.write_fmt(element);
        self.text.push('\n');
    }

    pub fn fill(&mut self, rect: PixelRect, color: Rgb, opacity: f32) {
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

    /// A frame of this thickness inside the rectangle's edge.
    pub fn frame(&mut self, rect: PixelRect, thickness: i64, color: Rgb, opacity: f32) {
        let (width, height) = (rect.width() - thickness, rect.height() - thickness);
        if width <= thickness || height <= thickness {
            // There is no inside.
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

    /// Rectangles as one shape.
    pub fn rects(&mut self, rects: &[PixelRect], color: Rgb) {
        let mut path = String::new();
        for rect in rects.iter().filter(|rect| rect.area() > 0) {
            let (width, height) = (rect.width(), rect.height());
            path += &format!("M{} {}h{width}v{height}h-{width}z", rect.left, rect.top);
        }
        if !path.is_empty() {
            self.element(format_args!("<path d=\"{path}\" fill=\"{}\"/>", hex(color)));
        }
    }

    /// One line, as [`Lettering::write`].
    pub fn text(
        &mut self,
        letters: &Lettering,
        rect: PixelRect,
        margin: i64,
        text: &str,
        color: Rgb,
    ) {
        self.element(format_args!(
            "<text x=\"{}\" y=\"{:.1}\" textLength=\"{}\" lengthAdjust=\"spacingAndGlyphs\" \
             font-family=\"{FONTS}\" font-weight=\"bold\" font-size=\"{:.2}\" fill=\"{}\">{}</text>",
            rect.left + margin,
            letters.baseline(rect),
            letters.width(text),
            letters.em(),
            hex(color),
            escaped(text)
        ));
    }
}

/// An attribute; nothing where all is opaque.
struct Opacity(&'static str, f32);

impl std::fmt::Display for Opacity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.1 < 1.0 {
            true => write!(f, " {}-opacity=\"{}\"", self.0, self.1),
            false => Ok(()),
        }
    }
}

fn hex([r, g, b]: Rgb) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// Text that XML does not take for anything else; characters that it does not know are left out.
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
        fn any_text_comes_back_out_of_the_xml(text in any::<String>()) {
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
