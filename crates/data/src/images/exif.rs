//! The orientation in EXIF data.

use image::metadata::Orientation;

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
}
