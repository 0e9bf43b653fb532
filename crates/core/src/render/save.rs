//! Saving of images in the format of the file extension.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{ImageEncoder, RgbImage};

use sedet_data::atomic::write_atomically;

/// JPEG quality: colored one-pixel lines survive it.
const JPEG_QUALITY: u8 = 92;

/// The extensions of figures, which can also be vector graphics.
pub(super) const IMAGES_AND_SVG: &str = ".svg, .png, .jpg or .jpeg";

/// An error while an image is drawn or saved.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The file cannot be written.
    #[error("cannot write {}: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the operating system or the encoder.
        reason: io::Error,
    },
    /// The extension is unknown.
    #[error("cannot write {}: {found}; supported: {supported}", path.display())]
    Extension {
        /// The file.
        path: PathBuf,
        /// The description of the extension.
        found: String,
        /// The supported extensions.
        supported: &'static str,
    },
    /// The plot would be empty.
    #[error("nothing to plot: {0}")]
    Nothing(String),
    /// The plotting library failed.
    #[error("cannot draw the plot: {0}")]
    Plot(String),
}

/// Saves an image as PNG or JPEG, depending on the extension of the path. The write is atomic.
///
/// # Errors
/// The extension is unknown, or the file cannot be written.
pub fn save_image(image: &RgbImage, path: &Path) -> Result<(), RenderError> {
    let extension = lower_extension(path);
    if !is_image_extension(&extension) {
        return Err(wrong_extension(path, ".png, .jpg or .jpeg"));
    }
    write(path, |out| encode(image, &extension, out))
}

/// Encodes an image in the format of an extension for which [`is_image_extension`] holds.
pub(super) fn encode(image: &RgbImage, extension: &str, out: &mut dyn Write) -> io::Result<()> {
    let (pixels, width, height) = (image.as_raw(), image.width(), image.height());
    let color = image::ExtendedColorType::Rgb8;
    match extension {
        "png" => PngEncoder::new(out).write_image(pixels, width, height, color),
        _ => JpegEncoder::new_with_quality(out, JPEG_QUALITY)
            .write_image(pixels, width, height, color),
    }
    .map_err(io::Error::other)
}

/// Saves an SVG atomically.
pub(super) fn save_svg(svg: &str, path: &Path) -> Result<(), RenderError> {
    write(path, |out| out.write_all(svg.as_bytes()))
}

fn write(
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), RenderError> {
    write_atomically(path, |out| content(out)).map_err(|reason| RenderError::Write {
        path: path.into(),
        reason,
    })
}

/// Returns whether [`save_image`] supports a lower-case extension.
pub(super) fn is_image_extension(extension: &str) -> bool {
    matches!(extension, "png" | "jpg" | "jpeg")
}

/// Returns the extension in lower case without the dot; empty if there is none.
pub(super) fn lower_extension(path: &Path) -> String {
    path.extension()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase()
}

pub(super) fn wrong_extension(path: &Path, supported: &'static str) -> RenderError {
    let extension = lower_extension(path);
    RenderError::Extension {
        path: path.into(),
        found: if extension.is_empty() {
            "the path has no extension".into()
        } else {
            format!("the format .{extension} is not supported")
        },
        supported,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test_image() -> RgbImage {
        RgbImage::from_fn(20, 10, |x, y| image::Rgb([x as u8 * 10, y as u8 * 20, 77]))
    }

    #[test]
    fn a_png_keeps_every_pixel() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.PNG");
        save_image(&test_image(), &path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let read = image::load_from_memory(&bytes).unwrap();
        assert_eq!(read.to_rgb8(), test_image());
    }

    #[test]
    fn a_jpeg_is_a_jpeg() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["a.jpg", "b.JPEG"] {
            let path = directory.path().join(name);
            save_image(&test_image(), &path).unwrap();
            assert!(std::fs::read(&path).unwrap().starts_with(&[0xFF, 0xD8]));
        }
    }

    #[test]
    fn the_error_of_another_extension_names_the_path_and_the_known_ones() {
        for (name, part) in [("/tmp/a.bmp", ".bmp is not"), ("/tmp/a", "no extension")] {
            let message = save_image(&test_image(), Path::new(name))
                .unwrap_err()
                .to_string();
            assert!(
                message.contains(name) && message.contains(part) && message.contains(".png"),
                "{message}"
            );
        }
    }

    #[test]
    fn the_error_of_a_missing_directory_names_the_path() {
        let message = save_image(&test_image(), Path::new("/nowhere/at/all.png"))
            .unwrap_err()
            .to_string();
        assert!(
            message.starts_with("cannot write /nowhere/at/all.png"),
            "{message}"
        );
    }
}
