//! The pixels of a JPEG, equal to those of libjpeg-turbo.
//!
//! The standard leaves the rounding of the inverse DCT, the interpolation of chroma and the conversion of colors
//! to the decoder. Pillow, torchvision and OpenCV use libjpeg-turbo, so published weights were trained on its
//! pixels. The decoder of the crate `image` differs from it by up to five levels.

use std::panic::{AssertUnwindSafe, catch_unwind};

use image::error::{DecodingError, ImageError};
use image::{ImageFormat, RgbImage};
use libjpeg_turbo_rs::{ComponentInfo, DecodeWarning, Decoder, PixelFormat};

/// Decodes a JPEG to RGB, without applying its EXIF orientation.
///
/// Damaged data between two restart markers costs the image these units only, as in libjpeg-turbo. Truncated
/// files have to be found before (`find_damage`).
///
/// # Errors
/// The file is damaged, or of a kind without a fixed meaning as 8-bit RGB: lossless, of more than 8 bits, or
/// with other components than gray, YCbCr, RGB, CMYK or YCCK.
pub(crate) fn decode(bytes: &[u8]) -> Result<RgbImage, JpegError> {
    let mut decoder = Decoder::new(bytes).map_err(broken)?;
    let frame = decoder.header();
    if frame.width == 0 || frame.height == 0 {
        return Err(unsupported("without pixels"));
    }
    if frame.precision != 8 || frame.is_lossless {
        return Err(unsupported("with lossless coding, or not of 8 bits"));
    }
    let is_cmyk = match frame.components.as_slice() {
        [_] | [_, _, _] => false,
        components @ [_, _, _, _] => {
            // The decoder takes this for granted and panics otherwise.
            let factors = |c: &ComponentInfo| [c.horizontal_sampling, c.vertical_sampling];
            let [c, m, y, k] = [0, 1, 2, 3].map(|index| factors(&components[index]));
            let is_multiple = (0..2).all(|side| m[side] > 0 && c[side].is_multiple_of(m[side]));
            if c != k || m != y || !is_multiple {
                return Err(unsupported("in CMYK with unusual sampling factors"));
            }
            true
        }
        others => return Err(unsupported(format!("with {} channels", others.len()))),
    };
    decoder.set_output_format(if is_cmyk {
        PixelFormat::Cmyk
    } else {
        PixelFormat::Rgb
    });
    // Both as in libjpeg-turbo; smoothing only affects progressive images without their last scans.
    decoder.set_lenient(true);
    decoder.set_block_smoothing(true);
    // Files with random changes reached panics in it, for headers that are refused above. There may be others.
    let decoded = catch_unwind(AssertUnwindSafe(|| decoder.decode_image()))
        .map_err(|_| unsupported("with a rare combination of features"))?
        .map_err(broken)?;
    // The decoder replaces the pixels of such an image by gray.
    let is_replaced =
        |warning: &DecodeWarning| matches!(warning, DecodeWarning::UnsupportedRecovered { .. });
    if decoded.warnings.iter().any(is_replaced) {
        return Err(unsupported("with a rare combination of features"));
    }
    let pixels = if is_cmyk {
        decoded.data.chunks_exact(4).flat_map(rgb_of_cmyk).collect()
    } else {
        decoded.data
    };
    // The header limits both sides to 16 bits.
    RgbImage::from_raw(decoded.width as u32, decoded.height as u32, pixels)
        .ok_or_else(|| unsupported("with fewer pixels than its size"))
}

/// Converts inverted CMYK, as JPEGs store it, to RGB with Pillow's rounding.
fn rgb_of_cmyk(cmyk: &[u8]) -> [u8; 3] {
    let white = u32::from(cmyk[3]);
    [cmyk[0], cmyk[1], cmyk[2]].map(|value| {
        // The product divided by 255, rounded.
        let product = u32::from(255 - value) * white + 128;
        (white - ((product + (product >> 8)) >> 8)) as u8
    })
}

/// The reason why a JPEG is not decoded.
#[derive(Debug)]
pub(crate) enum JpegError {
    /// A kind of JPEG that is not decoded, as words behind `a JPEG`.
    Unsupported(String),
    /// The file is damaged.
    Broken(ImageError),
}

fn broken(error: libjpeg_turbo_rs::JpegError) -> JpegError {
    JpegError::Broken(ImageError::Decoding(DecodingError::new(
        ImageFormat::Jpeg.into(),
        error,
    )))
}

fn unsupported(kind: impl Into<String>) -> JpegError {
    JpegError::Unsupported(kind.into())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::decode;
    use crate::images::decode::{decode_image, decode_image_bytes};

    /// The files of `tests/oracle/jpeg_pixels.py`.
    const FIXTURES: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/jpeg_pixels"
    );

    #[test]
    fn every_kind_of_jpeg_has_the_pixels_of_libjpeg_turbo() {
        let mut kinds = 0;
        for entry in std::fs::read_dir(FIXTURES).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "jpg") {
                continue;
            }
            kinds += 1;
            let actual = decode_image(&path).unwrap();
            let expected = decode_image(&path.with_extension("png")).unwrap();
            assert_eq!(actual.dimensions(), expected.dimensions());
            let differences = actual.iter().zip(expected.iter());
            let largest = differences.map(|(a, b)| a.abs_diff(*b)).max();
            assert_eq!(largest, Some(0), "{}", path.display());
        }
        assert_eq!(kinds, 33);
    }

    #[test]
    fn a_jpeg_without_pixels_is_refused() {
        for kind in ["420", "cmyk"] {
            let mut bytes = std::fs::read(format!("{FIXTURES}/{kind}.jpg")).unwrap();
            let frame = bytes.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
            // The height; a later segment may state it, which libjpeg-turbo does not read either.
            bytes[frame + 5..frame + 7].fill(0);
            assert!(decode(&bytes).is_err(), "{kind}");
        }
    }

    #[test]
    fn sampling_factors_that_no_program_writes_are_refused() {
        let path = Path::new("image.jpg");
        for (kind, components) in [("420", 3), ("cmyk", 4)] {
            let bytes = std::fs::read(format!("{FIXTURES}/{kind}.jpg")).unwrap();
            let frame = bytes.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
            for component in 0..components {
                for factors in [0x00, 0x13, 0x31, 0x33, 0x34, 0x43, 0x51] {
                    let mut changed = bytes.clone();
                    changed[frame + 11 + 3 * component] = factors;
                    let message = decode_image_bytes(&changed, path).unwrap_err().to_string();
                    assert!(message.starts_with("image.jpg: "), "{message}");
                }
            }
        }
    }
}
