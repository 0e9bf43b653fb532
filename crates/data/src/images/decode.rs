//! The image decoder.
//!
//! Training, evaluation, prediction and the viewer all call [`decode_image`], so an image is
//! identical in all of them: the format is detected from the content and never from the file's
//! extension, the EXIF orientation is applied, and every color type is converted to 8-bit RGB.

use std::{
    collections::BTreeMap,
    io::Cursor,
    path::{Path, PathBuf},
};

use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, RgbImage,
    metadata::Orientation,
};

use super::exif;
use super::jpeg::{JpegDamage, find_damage, unsupported_kind};
use super::jpeg_pixels::{self, JpegError};
use crate::boxes::ImageSize;
use crate::directory::open_error;
use crate::text::count;

/// File name extensions of images that are decoded, in lower case, the most common ones first.
pub const IMAGE_EXTENSIONS: [&str; 16] = [
    "jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif", "jfif", "jpe", "mpo", "ppm", "pgm",
    "pbm", "pnm", "pam",
];

/// File name extensions of images in formats that are not decoded, in lower case: their decoders would need
/// libraries in C, or they have no fixed meaning as 8-bit RGB.
pub(crate) const UNSUPPORTED_IMAGE_EXTENSIONS: [&str; 16] = [
    "avif", "heic", "heif", "jp2", "j2k", "jpf", "jpx", "jxl", "tga", "ico", "dds", "exr", "hdr",
    "psd", "dng", "svg",
];

/// Returns whether a file has the extension of an image that is decoded, in lower or upper case.
pub fn has_image_extension(path: &Path) -> bool {
    has_extension(path, &IMAGE_EXTENSIONS)
}

/// Returns whether a file has the extension of an image in a format that is not decoded.
pub fn has_unsupported_image_extension(path: &Path) -> bool {
    has_extension(path, &UNSUPPORTED_IMAGE_EXTENSIONS)
}

/// Returns whether a file has a usual extension of a format.
pub(crate) fn has_extension_of(path: &Path, format: ImageFormat) -> bool {
    let others: &[&str] = match format {
        // A file in Multi-Picture Format begins with a JPEG.
        ImageFormat::Jpeg => &["jfif", "jpe", "mpo"],
        _ => &[],
    };
    has_extension(path, format.extensions_str()) || has_extension(path, others)
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| {
            extensions
                .iter()
                .any(|known| known.eq_ignore_ascii_case(extension))
        })
}

/// Describes image files that are not used because their formats are not decoded: `3 images in formats that
/// are not supported (.avif: 2, .jp2: 1)`. Returns `None` if there are none.
pub fn unsupported_images<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Option<String> {
    let mut counts = BTreeMap::<String, usize>::new();
    for path in paths {
        if has_unsupported_image_extension(path) {
            let extension = path.extension().unwrap_or_default().to_string_lossy();
            *counts.entry(extension.to_lowercase()).or_default() += 1;
        }
    }
    let all = counts.values().sum();
    let each: Vec<String> = counts
        .iter()
        .map(|(extension, number)| format!(".{extension}: {number}"))
        .collect();
    (all > 0).then(|| {
        let formats = match counts.len() {
            1 => "a format that is not supported",
            _ => "formats that are not supported",
        };
        format!("{} in {formats} ({})", count(all, "image"), each.join(", "))
    })
}

/// The error of decoding an image; every message begins with the file's path.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The file is missing or can't be read.
    #[error("{}: cannot read the image: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file has no content.
    #[error("{}: the file is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The content is not in a known image format.
    #[error("{}: not an image in a known format (JPEG, PNG, WebP, BMP, TIFF, GIF, PNM)", path.display())]
    NotAnImage {
        /// The file.
        path: PathBuf,
    },
    /// The data ends before the image does, or a part of it cannot be decoded.
    #[error("{}: the JPEG is truncated: it {damage}", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What is missing.
        damage: JpegDamage,
    },
    /// Decoding would take too much memory.
    #[error(
        "{}: an image of {width}x{height} pixels would take {} MiB; the limit is {} MiB",
        path.display(), bytes >> 20, MAX_DECODED_BYTES >> 20
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its width in pixels.
        width: u32,
        /// Its height in pixels.
        height: u32,
        /// Bytes of its pixels as they are decoded, or as RGB if these are more.
        bytes: u64,
    },
    /// A kind of JPEG that is not decoded.
    #[error("{}: a JPEG {kind}, which is not supported", path.display())]
    UnsupportedJpeg {
        /// The file.
        path: PathBuf,
        /// The kind, as words behind `a JPEG`.
        kind: String,
    },
    /// The format is known, but the content is damaged or of an unsupported type.
    #[error("{}: cannot decode the image: {source}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// The error of the decoder.
        source: image::ImageError,
    },
}

/// Reads an image from a file as 8-bit RGB, with its EXIF orientation applied.
///
/// Gray images are repeated over the three channels, 16-bit ones are scaled to 8 bits, an alpha
/// channel is dropped (not blended), CMYK is converted. The first frame of an animation is used.
///
/// # Errors
/// The file can't be read, is in an unknown format, is truncated, or is damaged. A JPEG that ends
/// early is always an error: the decoder alone would return a partly gray image.
pub fn decode_image(path: &Path) -> Result<RgbImage, DecodeError> {
    let bytes = read_file(path)?;
    decode_image_bytes(&bytes, path)
}

/// Memory limit of the decoded pixels, also as 8-bit RGB: 1 GiB, an image of 18,900 pixels squared.
const MAX_DECODED_BYTES: u64 = 1 << 30;

/// Decodes as [`decode_image`], from a file in memory; `path` is used in error messages only.
///
/// # Errors
/// As [`decode_image`].
pub fn decode_image_bytes(bytes: &[u8], path: &Path) -> Result<RgbImage, DecodeError> {
    Ok(inspect_image_bytes(bytes, path)?.image)
}

/// An image and the properties of its file, for dataset checks.
#[derive(Debug, Clone, PartialEq)]
pub struct InspectedImage {
    /// The pixels as returned by [`decode_image`], with the EXIF orientation applied.
    pub image: RgbImage,
    /// The format of the content, independent of the file extension.
    pub format: ImageFormat,
    /// The EXIF orientation: how the stored pixels are rotated and mirrored.
    pub orientation: Orientation,
    /// Size of the stored pixels, before the EXIF orientation is applied.
    pub stored_size: ImageSize,
}

/// Decodes an image as [`decode_image_bytes`] and returns the properties of its file.
///
/// # Errors
/// As [`decode_image`].
pub fn inspect_image_bytes(bytes: &[u8], path: &Path) -> Result<InspectedImage, DecodeError> {
    let broken = |source| DecodeError::Broken {
        path: path.to_owned(),
        source,
    };
    let unsupported = |kind| DecodeError::UnsupportedJpeg {
        path: path.to_owned(),
        kind,
    };
    let (reader, format) = open_reader(bytes, path)?;
    if format == ImageFormat::Jpeg
        && let Some(damage) = find_damage(bytes)
    {
        return Err(DecodeError::Truncated {
            path: path.to_owned(),
            damage,
        });
    }
    let mut decoder = reader.into_decoder().map_err(broken)?;
    // A damaged header, or a hostile one, can declare a size beyond any memory. Gray pixels, even those of
    // one bit, become RGB.
    let (width, height) = decoder.dimensions();
    let rgb_bytes = 3 * u64::from(width) * u64::from(height);
    let decoded_bytes = decoder.total_bytes().max(rgb_bytes);
    if decoded_bytes > MAX_DECODED_BYTES {
        return Err(DecodeError::TooLarge {
            path: path.to_owned(),
            width,
            height,
            bytes: decoded_bytes,
        });
    }
    let orientation = orientation_of(&mut decoder, format).map_err(broken)?;
    let mut image = match format {
        ImageFormat::Jpeg => match jpeg_pixels::decode(bytes) {
            Ok(image) => DynamicImage::from(image),
            Err(JpegError::Unsupported(kind)) => return Err(unsupported(kind)),
            Err(JpegError::Broken(source)) => return Err(broken(source)),
        },
        _ => DynamicImage::from_decoder(decoder).map_err(broken)?,
    };
    let stored_size = ImageSize::new(image.height() as usize, image.width() as usize);
    image.apply_orientation(orientation);
    Ok(InspectedImage {
        image: image.into_rgb8(),
        format,
        orientation,
        stored_size,
    })
}

/// Returns the size of an image with its EXIF orientation applied, without decoding its pixels.
///
/// # Errors
/// The file can't be read, is in an unknown format, or its header is damaged. Damage after the
/// header is not detected.
pub fn image_size(path: &Path) -> Result<ImageSize, DecodeError> {
    Ok(header_sizes(path)?.upright)
}

/// Reads as [`image_size`], from a file in memory; `path` is used in error messages only.
///
/// # Errors
/// As [`image_size`].
pub fn image_size_of_bytes(bytes: &[u8], path: &Path) -> Result<ImageSize, DecodeError> {
    Ok(header_sizes_of_bytes(bytes, path)?.upright)
}

/// The sizes in the header of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeaderSizes {
    /// Of the stored pixels.
    pub stored: ImageSize,
    /// With the EXIF orientation applied.
    pub upright: ImageSize,
    pub orientation: Orientation,
}

impl HeaderSizes {
    /// Returns whether the EXIF orientation exchanges width and height.
    pub(crate) fn are_turned(self) -> bool {
        self.stored != self.upright
    }
}

/// Reads the sizes of an image as [`image_size`].
///
/// # Errors
/// As [`image_size`].
pub(crate) fn header_sizes(path: &Path) -> Result<HeaderSizes, DecodeError> {
    header_sizes_of_bytes(&read_file(path)?, path)
}

fn header_sizes_of_bytes(bytes: &[u8], path: &Path) -> Result<HeaderSizes, DecodeError> {
    let broken = |source| DecodeError::Broken {
        path: path.to_owned(),
        source,
    };
    let (reader, format) = open_reader(bytes, path)?;
    let mut decoder = reader.into_decoder().map_err(broken)?;
    let (width, height) = decoder.dimensions();
    let stored = ImageSize::new(height as usize, width as usize);
    let orientation = orientation_of(&mut decoder, format).map_err(broken)?;
    Ok(HeaderSizes {
        stored,
        upright: exif::size_after(stored, orientation),
        orientation,
    })
}

/// Returns the EXIF orientation of an image.
fn orientation_of(
    decoder: &mut impl ImageDecoder,
    format: ImageFormat,
) -> Result<Orientation, ImageError> {
    if format == ImageFormat::Tiff {
        // A tag of the image itself.
        return decoder.orientation();
    }
    let exif = decoder.exif_metadata()?;
    let found = exif.and_then(|exif| exif::orientation(&exif));
    Ok(found.unwrap_or(Orientation::NoTransforms))
}

fn read_file(path: &Path) -> Result<Vec<u8>, DecodeError> {
    std::fs::read(path).map_err(|source| DecodeError::Io {
        path: path.to_owned(),
        source: open_error(path, source),
    })
}

/// A reader of a file in memory, with the file's format.
type OpenedImage<'a> = (ImageReader<Cursor<&'a [u8]>>, ImageFormat);

fn open_reader<'a>(bytes: &'a [u8], path: &Path) -> Result<OpenedImage<'a>, DecodeError> {
    let reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|source| DecodeError::Io {
            path: path.to_owned(),
            source,
        })?;
    match reader.format() {
        Some(ImageFormat::Jpeg) => match unsupported_kind(bytes) {
            None => Ok((reader, ImageFormat::Jpeg)),
            Some(kind) => Err(DecodeError::UnsupportedJpeg {
                path: path.to_owned(),
                kind,
            }),
        },
        Some(format) if format.reading_enabled() => Ok((reader, format)),
        _ if bytes.is_empty() => Err(DecodeError::Empty {
            path: path.to_owned(),
        }),
        _ => Err(DecodeError::NotAnImage {
            path: path.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ColorType, ExtendedColorType, ImageBuffer, ImageEncoder, Luma, Rgba};
    use proptest::prelude::*;

    fn named(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
        decode_image_bytes(bytes, Path::new("image.bin"))
    }

    /// Returns an image without any symmetry, 40x24, in blocks that survive JPEG compression.
    fn test_image() -> RgbImage {
        RgbImage::from_fn(40, 24, |x, y| match (x < 16, y < 8) {
            (true, true) => image::Rgb([250, 10, 10]),
            (false, true) => image::Rgb([10, 250, 10]),
            (true, false) => image::Rgb([10, 10, 250]),
            (false, false) => image::Rgb([240, 240, 240]),
        })
    }

    fn jpeg(image: &RgbImage) -> Vec<u8> {
        let mut out = Vec::new();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut out, 95)
            .encode_image(image)
            .unwrap();
        out
    }

    fn png(bytes: &[u8], width: u32, height: u32, color: ExtendedColorType) -> Vec<u8> {
        let mut out = Vec::new();
        image::codecs::png::PngEncoder::new(&mut out)
            .write_image(bytes, width, height, color)
            .unwrap();
        out
    }

    /// Inserts an EXIF segment with this orientation after the start-of-image marker.
    fn with_exif_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
        let mut exif = b"Exif\0\0II*\0\x08\0\0\0".to_vec();
        exif.extend([1, 0]); // one entry
        exif.extend([0x12, 0x01, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0]); // 0x0112 SHORT x1
        exif.extend([0; 4]); // no further directory
        let mut out = jpeg[..2].to_vec();
        out.extend([0xFF, 0xE1]);
        out.extend((exif.len() as u16 + 2).to_be_bytes());
        out.extend(exif);
        out.extend(&jpeg[2..]);
        out
    }

    /// Stores the image in such a way that a reader who applies `orientation` sees it upright;
    /// written out from the EXIF standard's definition (where row 0 and column 0 of the storage
    /// are in the scene), not with the functions under test.
    fn stored_for_orientation(upright: &RgbImage, orientation: u8) -> RgbImage {
        let (w, h) = upright.dimensions();
        let (stored_w, stored_h) = if orientation >= 5 { (h, w) } else { (w, h) };
        RgbImage::from_fn(stored_w, stored_h, |column, row| {
            let (x, y) = match orientation {
                1 => (column, row),                 // row 0 top, column 0 left
                2 => (w - 1 - column, row),         // top, right
                3 => (w - 1 - column, h - 1 - row), // bottom, right
                4 => (column, h - 1 - row),         // bottom, left
                5 => (row, column),                 // left, top
                6 => (w - 1 - row, column),         // right, top
                7 => (w - 1 - row, h - 1 - column), // right, bottom
                8 => (row, h - 1 - column),         // left, bottom
                _ => unreachable!(),
            };
            *upright.get_pixel(x, y)
        })
    }

    /// Returns an image whose pixels take most of the bytes of a file.
    fn noise() -> RgbImage {
        RgbImage::from_fn(64, 64, |x, y| {
            image::Rgb([
                (x * 37 % 251) as u8,
                (y * 91 % 241) as u8,
                (x * y % 239) as u8,
            ])
        })
    }

    fn close(a: &RgbImage, b: &RgbImage, levels: u8) -> bool {
        a.dimensions() == b.dimensions()
            && a.as_raw()
                .iter()
                .zip(b.as_raw())
                .all(|(a, b)| a.abs_diff(*b) <= levels)
    }

    #[test]
    fn all_eight_exif_orientations_come_out_upright() {
        let dir = tempfile::tempdir().unwrap();
        for orientation in 1..=8 {
            let bytes = with_exif_orientation(
                &jpeg(&stored_for_orientation(&test_image(), orientation)),
                orientation,
            );
            let decoded = named(&bytes).unwrap();
            assert!(
                close(&decoded, &test_image(), 12),
                "orientation {orientation}"
            );
            let path = dir.path().join(format!("{orientation}.jpg"));
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(image_size(&path).unwrap(), ImageSize::new(24, 40));
        }
    }

    #[test]
    fn a_png_named_jpg_is_read_as_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wrong.jpg");
        let image = test_image();
        std::fs::write(&path, png(&image, 40, 24, ExtendedColorType::Rgb8)).unwrap();
        assert_eq!(decode_image(&path).unwrap(), image);
        assert_eq!(image_size(&path).unwrap(), ImageSize::new(24, 40));
    }

    #[test]
    fn gray_images_fill_three_equal_channels() {
        let gray = png(&[0, 100, 200, 255], 2, 2, ExtendedColorType::L8);
        let rgb = named(&gray).unwrap();
        assert_eq!(
            rgb.as_raw(),
            &[0, 0, 0, 100, 100, 100, 200, 200, 200, 255, 255, 255]
        );
    }

    #[test]
    fn sixteen_bit_images_are_scaled_to_eight_bits() {
        let image = ImageBuffer::<Luma<u16>, _>::from_raw(2, 1, vec![0u16, 257 * 77]).unwrap();
        let mut out = Cursor::new(Vec::new());
        DynamicImage::from(image)
            .write_to(&mut out, ImageFormat::Png)
            .unwrap();
        assert_eq!(
            named(out.get_ref()).unwrap().as_raw(),
            &[0, 0, 0, 77, 77, 77]
        );
    }

    #[test]
    fn an_alpha_channel_is_dropped_without_blending() {
        let image = ImageBuffer::<Rgba<u8>, _>::from_raw(1, 1, vec![10u8, 20, 30, 0]).unwrap();
        let bytes = png(&image, 1, 1, ColorType::Rgba8.into());
        assert_eq!(named(&bytes).unwrap().as_raw(), &[10, 20, 30]);
    }

    /// Changes the marker of the frame header, and the bits per channel in it.
    fn with_frame(jpeg: &[u8], marker: u8, bits: u8) -> Vec<u8> {
        let mut changed = jpeg.to_vec();
        let frame = jpeg.windows(2).position(|pair| pair == [0xFF, 0xC0]);
        let frame = frame.unwrap();
        changed[frame + 1] = marker;
        changed[frame + 4] = bits;
        changed
    }

    #[test]
    fn kinds_of_jpegs_that_are_not_supported_are_named_in_plain_words() {
        let plain = jpeg(&test_image());
        for (marker, bits, kind) in [
            (0xC9, 8, "with arithmetic coding"),
            (0xCA, 8, "with arithmetic coding"),
            (0xC1, 12, "with 12 bits per channel"),
            (0xC3, 8, "with lossless coding"),
            (0xC5, 8, "of several frames (hierarchical)"),
            (0xF7, 8, "in the JPEG-LS format"),
        ] {
            let bytes = with_frame(&plain, marker, bits);
            let expected = format!("image.bin: a JPEG {kind}, which is not supported");
            assert_eq!(named(&bytes).unwrap_err().to_string(), expected);
            let size = image_size_of_bytes(&bytes, Path::new("image.bin"));
            assert_eq!(size.unwrap_err().to_string(), expected);
        }
        // An extended sequential frame of 8 bits is like a baseline one.
        assert!(named(&with_frame(&plain, 0xC1, 8)).is_ok());
    }

    #[test]
    fn a_cmyk_jpeg_without_an_adobe_marker_is_read_as_one_with_it() {
        // As Pillow does.
        let bytes = include_bytes!("../../../../tests/fixtures/cmyk.jpg");
        let marker = bytes.windows(2).position(|pair| pair == [0xFF, 0xEE]);
        let marker = marker.unwrap();
        let length = usize::from(u16::from_be_bytes([bytes[marker + 2], bytes[marker + 3]]));
        let without = [&bytes[..marker], &bytes[marker + 2 + length..]].concat();
        assert_eq!(named(&without).unwrap(), named(bytes).unwrap());
    }

    #[test]
    fn cmyk_jpegs_come_out_as_rgb() {
        // generated by tests/oracle/cmyk.py: one color, which Pillow reads as (204, 102, 26)
        let decoded = named(include_bytes!("../../../../tests/fixtures/cmyk.jpg")).unwrap();
        assert_eq!(decoded.dimensions(), (16, 8));
        let expected = RgbImage::from_pixel(16, 8, image::Rgb([204, 102, 26]));
        assert!(
            close(&decoded, &expected, 3),
            "{:?}",
            decoded.get_pixel(0, 0)
        );
    }

    #[test]
    fn a_jpeg_cut_in_half_is_an_error_that_names_the_file() {
        let whole = jpeg(&noise());
        for kept in [whole.len() / 4, whole.len() / 2, whole.len() - 2] {
            let message = named(&whole[..kept]).unwrap_err().to_string();
            assert!(message.starts_with("image.bin: "), "{message}");
            assert!(message.contains("truncated"), "{message}");
        }
    }

    #[test]
    fn the_end_marker_of_a_thumbnail_does_not_hide_a_truncation() {
        let whole = jpeg(&test_image());
        let thumbnail = [0xFF, 0xE1, 0, 6, 0xFF, 0xD9, 0, 0];
        let mut cut = whole[..2].to_vec();
        cut.extend(thumbnail);
        cut.extend(&whole[2..whole.len() - 8]);
        assert!(matches!(
            named(&cut).unwrap_err(),
            DecodeError::Truncated { .. }
        ));
    }

    #[test]
    fn bytes_behind_the_end_of_a_jpeg_do_no_harm() {
        let mut bytes = jpeg(&test_image());
        bytes.extend([0; 5000]);
        assert!(close(&named(&bytes).unwrap(), &test_image(), 12));
    }

    #[test]
    fn a_truncated_png_is_an_error_that_names_the_file() {
        let whole = png(&test_image(), 40, 24, ExtendedColorType::Rgb8);
        let message = named(&whole[..whole.len() / 2]).unwrap_err().to_string();
        assert!(message.starts_with("image.bin: "), "{message}");
    }

    #[test]
    fn text_is_not_an_image_and_a_missing_file_is_named() {
        assert!(matches!(
            named(b"<html>404</html>").unwrap_err(),
            DecodeError::NotAnImage { .. }
        ));
        let message = named(b"").unwrap_err().to_string();
        assert!(message.ends_with(": the file is empty"), "{message}");
        let message = decode_image(Path::new("no/such/file.jpg"))
            .unwrap_err()
            .to_string();
        assert!(message.contains("no/such/file.jpg"), "{message}");
    }

    #[test]
    fn an_image_that_claims_more_than_a_gibibyte_is_refused() {
        let mut out = Cursor::new(Vec::new());
        DynamicImage::from(test_image())
            .write_to(&mut out, ImageFormat::Bmp)
            .unwrap();
        let mut bytes = out.into_inner();
        // Width and height in the header of a BMP.
        bytes[18..22].copy_from_slice(&30_000u32.to_le_bytes());
        bytes[22..26].copy_from_slice(&30_000u32.to_le_bytes());
        let message = decode_image_bytes(&bytes, Path::new("bomb.bmp"))
            .unwrap_err()
            .to_string();
        assert!(
            message
                == "bomb.bmp: an image of 30000x30000 pixels would take 2574 MiB; the limit is 1024 MiB",
            "{message}"
        );
    }

    #[test]
    fn the_limit_counts_the_bytes_of_rgb_pixels() {
        // As gray pixels, which a PNG of one bit declares, it would be below the limit.
        let (width, height) = (20_000, 20_000);
        let mut bytes = png(&[0; 8], 8, 1, ExtendedColorType::L8);
        // Width, height, bits and color type of the header, and its checksum.
        bytes[16..20].copy_from_slice(&u32::to_be_bytes(width));
        bytes[20..24].copy_from_slice(&u32::to_be_bytes(height));
        bytes[24..26].copy_from_slice(&[1, 0]);
        let mut sum = flate2::Crc::new();
        sum.update(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&sum.sum().to_be_bytes());
        let error = decode_image_bytes(&bytes, Path::new("bits.png")).unwrap_err();
        assert!(
            matches!(
                error,
                DecodeError::TooLarge {
                    bytes: 1_200_000_000,
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn a_jpeg_that_was_cut_and_closed_is_an_error() {
        let whole = jpeg(&noise());
        for kept in [whole.len() / 2, whole.len() - 400] {
            let closed = [&whole[..kept], &[0xFF, 0xD9]].concat();
            let message = named(&closed).unwrap_err().to_string();
            assert!(
                message.starts_with("image.bin: the JPEG is truncated: "),
                "{message}"
            );
        }
    }

    #[test]
    fn an_orientation_that_is_stored_as_a_long_is_applied() {
        let mut bytes = with_exif_orientation(&jpeg(&stored_for_orientation(&test_image(), 6)), 6);
        // The type of the entry: SHORT becomes LONG.
        let tag = bytes
            .windows(4)
            .position(|w| w == [0x12, 0x01, 3, 0])
            .unwrap();
        bytes[tag + 2] = 4;
        assert!(close(&named(&bytes).unwrap(), &test_image(), 12));
        let size = image_size_of_bytes(&bytes, Path::new("image.bin")).unwrap();
        assert_eq!(size, ImageSize::new(24, 40));
    }

    #[test]
    fn portable_anymaps_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image.PPM");
        let image = RgbImage::from_raw(2, 1, vec![1, 2, 3, 4, 5, 6]).unwrap();
        std::fs::write(&path, b"P6\n2 1\n255\n\x01\x02\x03\x04\x05\x06").unwrap();
        assert_eq!(decode_image(&path).unwrap(), image);
        assert!(has_image_extension(&path));
    }

    #[test]
    fn images_of_other_formats_are_counted_by_extension() {
        let paths = ["a.jpg", "b.AVIF", "c.jp2", "d.avif", "e.txt"].map(Path::new);
        assert_eq!(
            unsupported_images(paths).as_deref(),
            Some("3 images in formats that are not supported (.avif: 2, .jp2: 1)")
        );
        assert_eq!(unsupported_images([Path::new("a.jpeg")]), None);
        let known = IMAGE_EXTENSIONS.iter();
        assert!(
            known
                .clone()
                .all(|e| !UNSUPPORTED_IMAGE_EXTENSIONS.contains(e))
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn damaged_images_never_panic(
            which in 0usize..4,
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
            cut in any::<prop::sample::Index>(),
            shorten in any::<bool>(),
        ) {
            let mut bytes = match which {
                0 => jpeg(&test_image()),
                1 => with_exif_orientation(&jpeg(&test_image()), 6),
                2 => png(&test_image(), 40, 24, ExtendedColorType::Rgb8),
                _ => {
                    let mut out = Cursor::new(Vec::new());
                    let format = [ImageFormat::Bmp, ImageFormat::Gif, ImageFormat::Tiff, ImageFormat::WebP]
                        [changes.len() % 4];
                    DynamicImage::from(test_image()).write_to(&mut out, format).unwrap();
                    out.into_inner()
                }
            };
            for (at, value) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            if shorten {
                bytes.truncate(cut.index(bytes.len()));
            }
            let _ = named(&bytes);
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = named(&bytes);
        }
    }
}
