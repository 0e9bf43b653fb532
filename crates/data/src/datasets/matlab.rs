//! Arrays of structures in MATLAB's files of version 5 (MATLAB 5 to 7.2 and scipy's `savemat`), as
//! far as tables of numbers and texts need them; after "MAT-File Format", The MathWorks.
//!
//! A file is a header of 128 bytes and elements of a type, a length and data. Variables may be
//! compressed with zlib. Nothing here recurses, every length is checked against the bytes that are
//! there, and a decompressed variable has a limit, so that damaged and hostile files do no harm.

use std::io::Read as _;

use flate2::read::ZlibDecoder;

/// Limit of a decompressed variable in bytes; ImageNet's table has two million.
const MAX_VARIABLE: u64 = 64 << 20;
const HEADER: usize = 128;

/// Types of elements.
const INT8: u32 = 1;
const UINT8: u32 = 2;
const INT16: u32 = 3;
const UINT16: u32 = 4;
const INT32: u32 = 5;
const UINT32: u32 = 6;
const SINGLE: u32 = 7;
const DOUBLE: u32 = 9;
const INT64: u32 = 12;
const UINT64: u32 = 13;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;
const UTF8: u32 = 16;
const UTF16: u32 = 17;

/// Classes of arrays.
const STRUCT_CLASS: u8 = 2;
const CHAR_CLASS: u8 = 4;
/// Double, single, and whole numbers of 8 to 64 bits.
const NUMBER_CLASSES: std::ops::RangeInclusive<u8> = 6..=15;

/// What is wrong with a file; it does not name the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MatlabError {
    /// No file of version 5.
    #[error("not a MATLAB file of version 5")]
    NotMatlab,
    /// HDF5.
    #[error("a MATLAB file of version 7.3; save it again with `save -v7`")]
    Hdf5,
    /// Cut, or lengths that can't be.
    #[error("damaged or cut MATLAB file")]
    Damaged,
    /// Another file.
    #[error("no array of structures '{0}' in it")]
    NoVariable(String),
    /// Another table.
    #[error("its structures have no field '{0}'")]
    NoField(String),
}

/// A field of a structure.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// The first number of a numeric array.
    Number(f64),
    /// A row of characters.
    Text(String),
    /// Anything else.
    Other,
}

/// The named fields of every structure in the array `variable`, in MATLAB's order (by columns).
///
/// # Errors
/// See [`MatlabError`].
pub fn read_structures<const N: usize>(
    file: &[u8],
    variable: &str,
    fields: [&str; N],
) -> Result<Vec<[Cell; N]>, MatlabError> {
    let header = file.get(..HEADER).ok_or(MatlabError::NotMatlab)?;
    let is_big_endian = match &header[126..] {
        b"IM" => false,
        b"MI" => true,
        _ => return Err(MatlabError::NotMatlab),
    };
    let version = match is_big_endian {
        true => u16::from_be_bytes([header[124], header[125]]),
        false => u16::from_le_bytes([header[124], header[125]]),
    };
    match version {
        0x0100 => {}
        0x0200 => return Err(MatlabError::Hdf5),
        _ => return Err(MatlabError::NotMatlab),
    }
    let mut elements = Elements {
        bytes: &file[HEADER..],
        is_big_endian,
    };
    while !elements.bytes.is_empty() {
        let element = elements.next()?;
        let found = if element.kind == COMPRESSED {
            let mut inflated = Vec::new();
            ZlibDecoder::new(element.data)
                .take(MAX_VARIABLE)
                .read_to_end(&mut inflated)
                .map_err(|_| MatlabError::Damaged)?;
            let mut inside = Elements {
                bytes: &inflated,
                is_big_endian,
            };
            let element = inside.next()?;
            structures_of(element, is_big_endian, variable, fields)?
        } else {
            structures_of(element, is_big_endian, variable, fields)?
        };
        if let Some(found) = found {
            return Ok(found);
        }
    }
    Err(MatlabError::NoVariable(variable.to_owned()))
}

#[derive(Clone, Copy)]
struct Element<'a> {
    kind: u32,
    data: &'a [u8],
}

/// What is left of a run of elements.
struct Elements<'a> {
    bytes: &'a [u8],
    is_big_endian: bool,
}

impl<'a> Elements<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], MatlabError> {
        let (taken, rest) = self
            .bytes
            .split_at_checked(count)
            .ok_or(MatlabError::Damaged)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn word(&mut self) -> Result<u32, MatlabError> {
        let bytes = self.take(4)?;
        Ok(number(bytes, UINT32, self.is_big_endian).unwrap_or(0.0) as u32)
    }

    fn next(&mut self) -> Result<Element<'a>, MatlabError> {
        let first = self.word()?;
        if first >> 16 != 0 {
            // A small element: length and type in one word, up to four bytes of data in the next.
            let data = self.take(4)?;
            let length = (first >> 16) as usize;
            return Ok(Element {
                kind: first & 0xFFFF,
                data: data.get(..length).ok_or(MatlabError::Damaged)?,
            });
        }
        let length = self.word()? as usize;
        let data = self.take(length)?;
        if first != COMPRESSED {
            // Padding to eight bytes, which some writers leave out at the end.
            let padding = length.next_multiple_of(8) - length;
            self.take(padding.min(self.bytes.len()))?;
        }
        Ok(Element { kind: first, data })
    }

    /// The next element, which must be of a kind.
    fn expect(&mut self, kinds: &[u32]) -> Result<&'a [u8], MatlabError> {
        let element = self.next()?;
        match kinds.contains(&element.kind) {
            true => Ok(element.data),
            false => Err(MatlabError::Damaged),
        }
    }
}

/// The first number of a run of numbers.
fn number(bytes: &[u8], kind: u32, is_big_endian: bool) -> Option<f64> {
    macro_rules! first {
        ($t:ty) => {{
            let first = *bytes.first_chunk()?;
            match is_big_endian {
                true => <$t>::from_be_bytes(first) as f64,
                false => <$t>::from_le_bytes(first) as f64,
            }
        }};
    }
    Some(match kind {
        INT8 => first!(i8),
        UINT8 => first!(u8),
        INT16 => first!(i16),
        UINT16 => first!(u16),
        INT32 => first!(i32),
        UINT32 => first!(u32),
        SINGLE => first!(f32),
        DOUBLE => first!(f64),
        INT64 => first!(i64),
        UINT64 => first!(u64),
        _ => return None,
    })
}

/// A row of characters, whatever the width they are stored with.
fn text(element: Element, is_big_endian: bool) -> Option<String> {
    match element.kind {
        UTF8 => Some(String::from_utf8_lossy(element.data).into_owned()),
        INT8 | UINT8 => Some(element.data.iter().map(|byte| char::from(*byte)).collect()),
        UINT16 | UTF16 => {
            let units = element.data.as_chunks::<2>().0.iter();
            let units: Vec<u16> = units
                .map(|unit| match is_big_endian {
                    true => u16::from_be_bytes(*unit),
                    false => u16::from_le_bytes(*unit),
                })
                .collect();
            Some(String::from_utf16_lossy(&units))
        }
        _ => None,
    }
}

/// What stands before an array's content.
struct ArrayHead {
    class: u8,
    /// Number of elements.
    count: usize,
    name: String,
}

fn array_head(parts: &mut Elements) -> Result<ArrayHead, MatlabError> {
    let is_big_endian = parts.is_big_endian;
    let flags = parts.expect(&[UINT32])?;
    let flags = number(flags, UINT32, is_big_endian).ok_or(MatlabError::Damaged)? as u32;
    let extents = parts.expect(&[INT32])?.as_chunks::<4>().0;
    let count = extents
        .iter()
        .try_fold(1usize, |count, extent| {
            let extent = number(extent, INT32, is_big_endian)?;
            (extent >= 0.0).then_some(())?;
            count.checked_mul(extent as usize)
        })
        .ok_or(MatlabError::Damaged)?;
    let name = parts.expect(&[INT8, UINT8])?;
    Ok(ArrayHead {
        class: (flags & 0xFF) as u8,
        count,
        name: String::from_utf8_lossy(name).into_owned(),
    })
}

/// The structures of a variable; none if it is another variable.
fn structures_of<const N: usize>(
    element: Element,
    is_big_endian: bool,
    variable: &str,
    fields: [&str; N],
) -> Result<Option<Vec<[Cell; N]>>, MatlabError> {
    // Other elements than matrices may stand between the variables.
    if element.kind != MATRIX || element.data.is_empty() {
        return Ok(None);
    }
    let mut parts = Elements {
        bytes: element.data,
        is_big_endian,
    };
    let head = array_head(&mut parts)?;
    if head.name != variable || head.class != STRUCT_CLASS {
        return Ok(None);
    }
    let width = parts.expect(&[INT32])?;
    let width = number(width, INT32, is_big_endian).ok_or(MatlabError::Damaged)?;
    let names = parts.expect(&[INT8, UINT8])?;
    if width < 1.0 {
        return Err(MatlabError::Damaged);
    }
    let names: Vec<&[u8]> = names
        .chunks_exact(width as usize)
        .map(|name| name.split(|byte| *byte == 0).next().unwrap_or_default())
        .collect();
    let mut places = [0; N];
    for (place, field) in places.iter_mut().zip(fields) {
        let found = names.iter().position(|name| *name == field.as_bytes());
        *place = found.ok_or_else(|| MatlabError::NoField(field.to_owned()))?;
    }
    // The smallest array needs eight bytes: so many can't be there.
    if head.count > parts.bytes.len() / 8 / names.len().max(1) {
        return Err(MatlabError::Damaged);
    }
    let mut structures = Vec::with_capacity(head.count);
    for _ in 0..head.count {
        let mut structure = [const { Cell::Other }; N];
        for index in 0..names.len() {
            let value = parts.expect(&[MATRIX])?;
            for (cell, place) in structure.iter_mut().zip(places) {
                if place == index {
                    *cell = cell_of(value, is_big_endian)?;
                }
            }
        }
        structures.push(structure);
    }
    Ok(Some(structures))
}

fn cell_of(array: &[u8], is_big_endian: bool) -> Result<Cell, MatlabError> {
    if array.is_empty() {
        return Ok(Cell::Other);
    }
    let mut parts = Elements {
        bytes: array,
        is_big_endian,
    };
    let head = array_head(&mut parts)?;
    let is_text = head.class == CHAR_CLASS;
    if head.count == 0 || !(is_text || NUMBER_CLASSES.contains(&head.class)) {
        return Ok(Cell::Other);
    }
    let value = parts.next()?;
    let cell = match is_text {
        true => text(value, is_big_endian).map(Cell::Text),
        false => number(value.data, value.kind, is_big_endian).map(Cell::Number),
    };
    Ok(cell.unwrap_or(Cell::Other))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes elements in either byte order, for what scipy does not write.
    struct Writer {
        is_big_endian: bool,
    }

    impl Writer {
        fn word(&self, value: u32) -> [u8; 4] {
            match self.is_big_endian {
                true => value.to_be_bytes(),
                false => value.to_le_bytes(),
            }
        }

        fn element(&self, kind: u32, data: &[u8]) -> Vec<u8> {
            let mut out = [self.word(kind), self.word(data.len() as u32)].concat();
            out.extend(data);
            out.resize(out.len().next_multiple_of(8), 0);
            out
        }

        fn small(&self, kind: u32, data: &[u8]) -> Vec<u8> {
            let mut out = self.word((data.len() as u32) << 16 | kind).to_vec();
            out.extend(data);
            out.resize(8, 0);
            out
        }

        fn array(&self, class: u32, extents: [u32; 2], name: &str, content: &[u8]) -> Vec<u8> {
            let mut parts = self.element(UINT32, &[self.word(class), [0; 4]].concat());
            let extents = extents.map(|extent| self.word(extent)).concat();
            parts.extend(self.element(INT32, &extents));
            parts.extend(self.element(INT8, name.as_bytes()));
            parts.extend(content);
            self.element(MATRIX, &parts)
        }

        /// One structure `table` with the fields `ID` (300, in two bytes) and `WNID` (in UTF-16).
        fn file(&self) -> Vec<u8> {
            let unit = |value: u16| match self.is_big_endian {
                true => value.to_be_bytes(),
                false => value.to_le_bytes(),
            };
            let id = self.array(6, [1, 1], "", &self.small(UINT16, &unit(300)));
            let units = "n01".encode_utf16().map(unit).collect::<Vec<_>>().concat();
            let wnid = self.array(4, [1, 3], "", &self.element(UINT16, &units));
            let mut content = self.small(INT32, &self.word(5));
            content.extend(self.element(INT8, b"ID\0\0\0WNID\0"));
            content.extend([id, wnid].concat());
            let mut file = vec![b' '; 124];
            file.extend(unit(0x0100));
            file.extend(match self.is_big_endian {
                true => b"MI",
                false => b"IM",
            });
            file.extend(self.array(6, [1, 1], "other", &self.element(DOUBLE, &[0; 8])));
            file.extend(self.array(2, [1, 1], "table", &content));
            file
        }
    }

    #[test]
    fn both_byte_orders_and_wide_characters_are_read() {
        for is_big_endian in [false, true] {
            let file = Writer { is_big_endian }.file();
            let read = read_structures(&file, "table", ["WNID", "ID"]).unwrap();
            assert_eq!(read, [[Cell::Text("n01".into()), Cell::Number(300.0)]]);
            assert_eq!(
                read_structures(&file, "tables", ["ID"]).unwrap_err(),
                MatlabError::NoVariable("tables".into())
            );
            assert_eq!(
                read_structures(&file, "table", ["words"]).unwrap_err(),
                MatlabError::NoField("words".into())
            );
        }
    }

    #[test]
    fn every_cut_is_an_error() {
        let file = Writer {
            is_big_endian: false,
        }
        .file();
        // Padding at the end may lack.
        for length in 0..file.len() - 8 {
            let cut = read_structures(&file[..length], "table", ["ID", "WNID"]);
            assert!(cut.is_err(), "{length} of {} bytes", file.len());
        }
    }

    #[test]
    fn other_files_are_named() {
        let mut file = vec![0; 200];
        let error = |file: &[u8]| read_structures(file, "table", ["ID"]).unwrap_err();
        assert_eq!(error(&file), MatlabError::NotMatlab);
        file[124..128].copy_from_slice(b"\0\x02IM");
        assert_eq!(error(&file), MatlabError::Hdf5);
    }
}
