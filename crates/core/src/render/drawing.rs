//! Filled rectangles, lines and text over an image, as a vector graphic.

use std::path::Path;

use image::RgbImage;

use super::palette::Rgb;
use super::save::{RenderError, save_svg};
use super::svg::Svg;

/// A shape over an image; positions and sizes are in pixels of the image.
#[derive(Debug, Clone, PartialEq)]
pub enum DrawnShape {
    /// A filled rectangle: left, top, width, height.
    Fill([f32; 4], Rgb),
    /// A line: its ends, its width.
    Line([[f32; 2]; 2], f32, Rgb),
    /// A line of text.
    Text {
        /// The left end of the baseline.
        at: [f32; 2],
        /// The width, which the text is stretched to in another font.
        width: f32,
        /// The size of the font.
        size: f32,
        /// The color.
        color: Rgb,
        /// The text.
        text: String,
    },
}

/// Saves an image with shapes over it as SVG: the image is embedded, the shapes are vector graphics.
///
/// # Errors
/// The image has no pixels, or the file cannot be written.
pub fn save_drawing(
    image: &RgbImage,
    shapes: &[DrawnShape],
    path: &Path,
) -> Result<(), RenderError> {
    let mut svg = Svg::with_image(image)?;
    for shape in shapes {
        svg.shape(shape);
    }
    save_svg(&svg.finish(), path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_vector_graphics_at_their_places() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.svg");
        let image = RgbImage::from_pixel(40, 30, image::Rgb([128; 3]));
        let shapes = [
            DrawnShape::Fill([1.0, 2.0, 3.5, 4.0], [0, 158, 115]),
            DrawnShape::Line([[0.0, 1.0], [9.0, 8.0]], 1.5, [255; 3]),
            DrawnShape::Text {
                at: [5.0, 20.0],
                width: 22.0,
                size: 12.0,
                color: [1, 2, 3],
                text: "<ring> 0.93 Cls".into(),
            },
        ];
        save_drawing(&image, &shapes, &path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let document = roxmltree::Document::parse(&text).unwrap();
        let element = |name: &str| {
            let found = document.descendants().find(|node| node.has_tag_name(name));
            found.unwrap_or_else(|| panic!("{name} in {text}"))
        };
        let rect = element("rect");
        let value = |name| rect.attribute(name);
        assert_eq!([value("x"), value("width")], [Some("1"), Some("3.5")]);
        assert_eq!(value("fill"), Some("#009e73"));
        assert_eq!(element("line").attribute("x2"), Some("9"));
        assert_eq!(element("text").text(), Some("<ring> 0.93 Cls"));
        assert_eq!(element("text").attribute("y"), Some("20"));
    }
}
