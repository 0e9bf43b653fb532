//! The one way a file becomes pixels: format by content, EXIF orientation applied, always RGB.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};

use crate::boxes::ImageSize;

/// Why a file is not a picture.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The file can't be read at all.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// No known image format, or damaged.
    #[error("{}: not a readable image: {reason}", path.display())]
    NotAnImage {
        /// The file.
        path: PathBuf,
        /// What the decoder says.
        reason: String,
    },
    /// A JPEG without its end: decoders fill the rest with grey without complaint.
    #[error("{}: the JPEG is truncated (no end marker); copy the file again", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
    },
}

/// The picture as a person sees it.
///
/// # Errors
/// Each names the file: unreadable, not an image, truncated.
pub fn decode_image(path: &Path) -> Result<RgbImage, DecodeError> {
    let bytes = read(path)?;
    let not_an_image = |e: &dyn std::fmt::Display| DecodeError::NotAnImage {
        path: path.to_path_buf(),
        reason: e.to_string(),
    };
    let reader = reader(&bytes).map_err(|e| not_an_image(&e))?;
    let is_jpeg = reader.format() == Some(ImageFormat::Jpeg);
    let mut decoder = reader.into_decoder().map_err(|e| not_an_image(&e))?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(|e| not_an_image(&e))?;
    if is_jpeg && !has_jpeg_end(&bytes) {
        return Err(DecodeError::Truncated {
            path: path.to_path_buf(),
        });
    }
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
}

/// The size that [`decode_image`] would give, from the header alone.
///
/// # Errors
/// As [`decode_image`], but damage behind the header goes unseen.
pub fn image_size(path: &Path) -> Result<ImageSize, DecodeError> {
    let not_an_image = |e: &dyn std::fmt::Display| DecodeError::NotAnImage {
        path: path.to_path_buf(),
        reason: e.to_string(),
    };
    let reader = ImageReader::open(path)
        .and_then(ImageReader::with_guessed_format)
        .map_err(|source| DecodeError::Read {
            path: path.to_path_buf(),
            source,
        })?;
    let mut decoder = reader.into_decoder().map_err(|e| not_an_image(&e))?;
    let (width, height) = decoder.dimensions();
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let size = ImageSize::new(height as usize, width as usize);
    Ok(match orientation {
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => ImageSize::new(size.width, size.height),
        _ => size,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, DecodeError> {
    fs::read(path).map_err(|source| DecodeError::Read {
        path: path.to_path_buf(),
        source,
    })
}

fn reader(bytes: &[u8]) -> std::io::Result<ImageReader<Cursor<&[u8]>>> {
    ImageReader::new(Cursor::new(bytes)).with_guessed_format()
}

/// An end-of-image marker somewhere near the end; some cameras append a few bytes or a whole
/// second picture after it, so the last kilobytes are searched, not the last two bytes.
fn has_jpeg_end(bytes: &[u8]) -> bool {
    let tail = &bytes[bytes.len().saturating_sub(64 * 1024)..];
    tail.windows(2).any(|pair| pair == [0xFF, 0xD9])
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageEncoder, Rgb};
    use proptest::prelude::*;

    fn sample() -> RgbImage {
        RgbImage::from_fn(60, 40, |x, y| Rgb([(x * 4) as u8, (y * 6) as u8, 90]))
    }

    fn jpeg(exif_orientation: Option<u8>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 95);
        if let Some(o) = exif_orientation {
            // A little-endian TIFF header with one entry: 0x0112, SHORT, 1, o.
            let mut exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
            exif.extend([o, 0, 0, 0, 0, 0, 0, 0]);
            encoder.set_exif_metadata(exif).unwrap();
        }
        encoder.encode_image(&sample()).unwrap();
        bytes
    }

    fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        (dir, path)
    }

    #[test]
    fn all_eight_exif_orientations_are_applied() {
        for orientation in 1..=8u8 {
            let (_dir, path) = file("a.jpg", &jpeg(Some(orientation)));
            let upright = decode_image(&path).unwrap();
            let turned = orientation >= 5;
            let expected = if turned { (40, 60) } else { (60, 40) };
            assert_eq!(upright.dimensions(), expected, "orientation {orientation}");
            let size = image_size(&path).unwrap();
            assert_eq!((size.width as u32, size.height as u32), expected);
            // Where the file's top-left pixel (dark: red 0, green 0) is seen.
            let (w, h) = (expected.0 - 1, expected.1 - 1);
            let corner = [
                (0, 0),
                (w, 0),
                (w, h),
                (0, h),
                (0, 0),
                (w, 0),
                (w, h),
                (0, h),
            ][orientation as usize - 1];
            let pixel = upright.get_pixel(corner.0, corner.1);
            assert!(pixel[0] < 20 && pixel[1] < 20, "{orientation}: {pixel:?}");
        }
    }

    #[test]
    fn a_truncated_jpeg_is_named_as_such() {
        let whole = jpeg(None);
        let (_dir, path) = file("cut.jpg", &whole[..whole.len() * 2 / 3]);
        let message = decode_image(&path).unwrap_err().to_string();
        assert!(message.contains("cut.jpg"), "{message}");
    }

    #[test]
    fn the_content_decides_not_the_extension_and_any_colour_type_becomes_rgb() {
        let mut png = Vec::new();
        image::codecs::png::PngEncoder::new(&mut png)
            .write_image(
                &[0x12, 0x34, 0xFF, 0xFF],
                2,
                1,
                image::ExtendedColorType::L16,
            )
            .unwrap();
        let (_dir, path) = file("grey.jpg", &png);
        let image = decode_image(&path).unwrap();
        assert_eq!(image.get_pixel(1, 0).0, [255; 3]);
    }

    #[test]
    fn a_text_file_and_a_missing_file_are_errors_that_name_them() {
        let (_dir, path) = file("notes.jpg", b"hello");
        assert!(
            decode_image(&path)
                .unwrap_err()
                .to_string()
                .contains("notes.jpg")
        );
        let missing = path.with_file_name("gone.png");
        assert!(
            decode_image(&missing)
                .unwrap_err()
                .to_string()
                .contains("gone.png")
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn damaged_files_never_panic(at in 2usize..600, value in any::<u8>(), cut in 0usize..600) {
            let mut bytes = jpeg(Some(6));
            let last = bytes.len() - 1;
            bytes[at.min(last)] = value;
            bytes.truncate(bytes.len() - cut.min(last));
            let (_dir, path) = file("x.jpg", &bytes);
            let _ = decode_image(&path);
        }
    }
}
