//! The orientation in EXIF data.

use image::metadata::Orientation;

use crate::boxes::ImageSize;

/// The EXIF tag of the orientation.
const ORIENTATION: u16 = 0x0112;

/// Returns the orientation in EXIF data, which is a TIFF directory. The value may have any integer type, as
/// in Pillow and OpenCV: the standard asks for a SHORT, and some programs write a LONG.
pub(super) fn orientation(exif: &[u8]) -> Option<Orientation> {
    let is_big = match exif.get(..4)? {
        [b'I', b'I', 42, 0] => false,
        [b'M', b'M', 0, 42] => true,
        _ => return None,
    };
    let u16_at = |at: usize| {
        let bytes = exif.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if is_big {
            u16::from_be_bytes(bytes)
        } else {
            u16::from_le_bytes(bytes)
        })
    };
    let u32_at = |at: usize| {
        let bytes = exif.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if is_big {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        })
    };
    let directory = u32_at(4)? as usize;
    let entries = usize::from(u16_at(directory)?);
    let entry = (0..entries)
        .map(|n| directory + 2 + 12 * n)
        .take_while(|at| at + 12 <= exif.len())
        .find(|at| u16_at(*at) == Some(ORIENTATION))?;
    if u32_at(entry + 4)? != 1 {
        return None;
    }
    let value = match u16_at(entry + 2)? {
        // BYTE and SBYTE; SHORT and SSHORT; LONG and SLONG.
        1 | 6 => u32::from(*exif.get(entry + 8)?),
        3 | 8 => u32::from(u16_at(entry + 8)?),
        4 | 9 => u32_at(entry + 8)?,
        _ => return None,
    };
    Orientation::from_exif(u8::try_from(value).ok()?)
}

/// Returns the size of an image after an orientation was applied, or before.
pub(crate) fn size_after(size: ImageSize, orientation: Orientation) -> ImageSize {
    match orientation {
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => size.transposed(),
        Orientation::NoTransforms
        | Orientation::FlipHorizontal
        | Orientation::FlipVertical
        | Orientation::Rotate180 => size,
    }
}

/// Maps a box `[x, y, width, height]` in the stored pixels to the upright image.
pub(crate) fn upright_box(
    [x, y, w, h]: [f64; 4],
    orientation: Orientation,
    stored: ImageSize,
) -> [f64; 4] {
    let (width, height) = (stored.width as f64, stored.height as f64);
    let (from_right, from_bottom) = (width - x - w, height - y - h);
    match orientation {
        Orientation::NoTransforms => [x, y, w, h],
        Orientation::FlipHorizontal => [from_right, y, w, h],
        Orientation::FlipVertical => [x, from_bottom, w, h],
        Orientation::Rotate180 => [from_right, from_bottom, w, h],
        Orientation::Rotate90 => [from_bottom, x, h, w],
        Orientation::Rotate90FlipH => [y, x, h, w],
        Orientation::Rotate270 => [y, from_right, h, w],
        Orientation::Rotate270FlipH => [from_bottom, from_right, h, w],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns EXIF data with the orientation after another entry.
    fn exif(is_big: bool, kind: u16, value: u32) -> Vec<u8> {
        let short = |v: u16| {
            if is_big {
                v.to_be_bytes()
            } else {
                v.to_le_bytes()
            }
        };
        let long = |v: u32| {
            if is_big {
                v.to_be_bytes()
            } else {
                v.to_le_bytes()
            }
        };
        let mut out = if is_big {
            b"MM".to_vec()
        } else {
            b"II".to_vec()
        };
        out.extend(short(42));
        out.extend(long(8));
        out.extend(short(2));
        for (tag, kind, value) in [(0x010F, 4, 7), (ORIENTATION, kind, value)] {
            out.extend(short(tag));
            out.extend(short(kind));
            out.extend(long(1));
            match kind {
                1 | 6 => out.extend([value as u8, 0, 0, 0]),
                3 | 8 => {
                    out.extend(short(value as u16));
                    out.extend([0, 0]);
                }
                _ => out.extend(long(value)),
            }
        }
        out.extend(long(0));
        out
    }

    #[test]
    fn an_orientation_of_any_integer_type_and_byte_order_is_read() {
        for is_big in [false, true] {
            for kind in [1, 3, 4, 6, 8, 9] {
                for value in 1..=8 {
                    let found = orientation(&exif(is_big, kind, value));
                    assert_eq!(found, Orientation::from_exif(value as u8), "{kind} {value}");
                }
                assert_eq!(orientation(&exif(is_big, kind, 0)), None);
                assert_eq!(orientation(&exif(is_big, kind, 9)), None);
            }
            // A rational number, and a value of which the last byte alone would be an orientation.
            assert_eq!(orientation(&exif(is_big, 5, 6)), None);
            assert_eq!(orientation(&exif(is_big, 4, 0x0106)), None);
        }
    }

    proptest! {
        #[test]
        fn damaged_exif_data_never_panics(
            is_big: bool,
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            kept in 0usize..60,
        ) {
            let mut bytes = exif(is_big, 3, 6);
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            bytes.truncate(kept);
            let _ = orientation(&bytes);
        }
    }

    #[test]
    fn boxes_are_rotated_like_the_pixels() {
        let stored = ImageSize::new(10, 16);
        let [x, y, w, h] = [2u32, 1, 5, 3];
        let image = image::RgbImage::from_fn(16, 10, |column, row| {
            let inside = (x..x + w).contains(&column) && (y..y + h).contains(&row);
            image::Rgb([u8::from(inside) * 255; 3])
        });
        for exif in 1..=8 {
            let orientation = Orientation::from_exif(exif).unwrap();
            let mut upright = image::DynamicImage::ImageRgb8(image.clone());
            upright.apply_orientation(orientation);
            let bright: Vec<_> = upright
                .to_rgb8()
                .enumerate_pixels()
                .filter(|(_, _, pixel)| pixel.0[0] == 255)
                .map(|(x, y, _)| (f64::from(x), f64::from(y)))
                .collect();
            let (left, top) = bright[0];
            let (right, bottom) = bright[bright.len() - 1];
            let expected = [left, top, right + 1.0 - left, bottom + 1.0 - top];
            let found = upright_box([x, y, w, h].map(f64::from), orientation, stored);
            assert_eq!(found, expected, "{exif}");
        }
    }
}
